//! Layers of a `.param` and their settings.

use crate::models::graph::{
    ConvSettings, Coordinates, Op, PadMode, ResizeMode, ResizeSettings, Rounding, Same,
};
use std::collections::HashMap;

/// Settings that are lists have this number less their own.
const LIST: i64 = -23300;

/// A layer.
pub(super) struct Layer<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    settings: HashMap<i64, &'a str>,
}

impl<'a> Layer<'a> {
    /// A line: type, name, numbers of operands and results, their names, settings.
    pub(super) fn parse(line: &'a str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bad = || format!("expected a layer, found \"{}\"", line.trim());
        let (&[kind, name, inputs, outputs], rest) = words.split_first_chunk().ok_or_else(bad)?;
        let count = |word: &str| word.parse::<usize>().ok();
        let (inputs, outputs) = count(inputs).zip(count(outputs)).ok_or_else(bad)?;
        let (inputs, rest) = rest.split_at_checked(inputs).ok_or_else(bad)?;
        let (outputs, rest) = rest.split_at_checked(outputs).ok_or_else(bad)?;
        let setting = |word: &&'a str| {
            let (key, value) = word.split_once('=')?;
            Some((key.parse().ok()?, value))
        };
        Ok(Self {
            kind,
            name,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            settings: rest
                .iter()
                .map(setting)
                .collect::<Option<_>>()
                .ok_or_else(bad)?,
        })
    }

    fn setting<T: std::str::FromStr>(&self, key: i64) -> Result<Option<T>, String> {
        let Some(text) = self.settings.get(&key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("setting {key} is {text}")),
        }
    }

    fn list<T: std::str::FromStr>(&self, key: i64) -> Result<Vec<T>, String> {
        let Some(text) = self.settings.get(&(LIST - key)) else {
            return Ok(Vec::new());
        };
        let bad = || format!("setting {key} is {text}");
        let mut words = text.split(',');
        let count: usize = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(bad)?;
        let values: Option<Vec<T>> = words.map(|word| word.parse().ok()).collect();
        values
            .filter(|values| values.len() == count)
            .ok_or_else(bad)
    }

    pub(super) fn integer(&self, key: i64) -> Result<Option<i64>, String> {
        self.setting(key)
    }

    pub(super) fn integers(&self, key: i64) -> Result<Vec<i64>, String> {
        self.list(key)
    }

    pub(super) fn float(&self, key: i64) -> Result<Option<f32>, String> {
        let value: Option<f32> = self.setting(key)?;
        match value.filter(|value| !value.is_finite()) {
            Some(value) => Err(format!("setting {key} is {value}")),
            None => Ok(value),
        }
    }

    pub(super) fn floats(&self, key: i64) -> Result<Vec<f32>, String> {
        self.list(key)
    }

    /// A number of weights.
    pub(super) fn size(&self, key: i64) -> Result<Option<usize>, String> {
        self.setting(key)
    }

    /// A size of a layer, far from what overflows.
    pub(super) fn number(&self, key: i64) -> Result<Option<usize>, String> {
        const MOST: usize = 1 << 20;
        let number: Option<usize> = self.setting(key)?;
        match number.filter(|&number| number > MOST) {
            Some(number) => Err(format!("setting {key} is {number}")),
            None => Ok(number),
        }
    }

    /// Whether its result is activated at once.
    pub(super) fn has_activation(&self) -> Result<bool, String> {
        let can = matches!(
            self.kind,
            "Convolution"
                | "ConvolutionDepthWise"
                | "Deconvolution"
                | "DeconvolutionDepthWise"
                | "InnerProduct"
        );
        Ok(can && self.integer(9)?.unwrap_or(0) != 0)
    }

    /// Of columns, and of rows if they are others.
    fn pair(&self, columns: i64, rows: i64, default: usize) -> Result<[usize; 2], String> {
        let across = self.number(columns)?.unwrap_or(default);
        Ok([self.number(rows)?.unwrap_or(across), across])
    }

    /// The settings of a convolution, and the sides of its kernels.
    pub(super) fn conv(&self) -> Result<(ConvSettings, [usize; 2]), String> {
        let same = match self.integer(4)?.unwrap_or(0) {
            -233 => Some(Same::Upper),
            -234 => Some(Same::Lower),
            _ => None,
        };
        if same.is_none() && self.float(18)?.unwrap_or(0.0) != 0.0 {
            return Err("a border other than zeros".to_owned());
        }
        let pads = match same {
            Some(_) => [0; 4],
            None => self.pads()?,
        };
        self.with_pads(pads, same, [0, 0])
    }

    /// The settings of a transposed convolution, and the sides of its kernels.
    pub(super) fn transposed(&self) -> Result<(ConvSettings, [usize; 2]), String> {
        for key in [20, 21] {
            if self.number(key)?.unwrap_or(0) != 0 {
                return Err("a size of its own".to_owned());
            }
        }
        let more = [self.number(19)?.unwrap_or(0), self.number(18)?.unwrap_or(0)];
        self.with_pads(self.pads()?, None, more)
    }

    /// Above, left, below and right.
    fn pads(&self) -> Result<[usize; 4], String> {
        let left = self.number(4)?.unwrap_or(0);
        let top = self.number(14)?.unwrap_or(left);
        let right = self.number(15)?.unwrap_or(left);
        Ok([top, left, self.number(16)?.unwrap_or(top), right])
    }

    fn with_pads(
        &self,
        pads: [usize; 4],
        same: Option<Same>,
        output_padding: [usize; 2],
    ) -> Result<(ConvSettings, [usize; 2]), String> {
        let kernel = self.pair(1, 11, 0)?;
        let group = match self.kind.ends_with("DepthWise") {
            true => self.number(7)?.unwrap_or(1),
            false => 1,
        };
        let settings = ConvSettings {
            dilations: self.pair(2, 12, 1)?,
            strides: self.pair(3, 13, 1)?,
            pads,
            same,
            group,
            output_padding,
        };
        let sides = [kernel, settings.dilations, settings.strides, [group; 2]];
        match sides.as_flattened().contains(&0) {
            true => Err("kernels, strides, dilations or groups of 0".to_owned()),
            false => Ok((settings, kernel)),
        }
    }

    /// A resampling, and its factors for rows and columns.
    pub(super) fn interp(&self, inputs: usize) -> Result<(ResizeSettings, [f32; 2]), String> {
        let fixed = [3, 4, 5].map(|key| self.integer(key).map(|n| n.unwrap_or(0) != 0));
        for fixed in fixed {
            if fixed? || inputs != 1 {
                return Err("a size of its own; served are factors".to_owned());
            }
        }
        let aligned = self.integer(6)?.unwrap_or(0) != 0;
        let coordinates = match aligned {
            true => Coordinates::AlignCorners,
            false => Coordinates::HalfPixel,
        };
        let (mode, coordinates) = match self.integer(0)?.unwrap_or(0) {
            1 => (
                ResizeMode::Nearest(Rounding::Floor),
                Coordinates::Asymmetric,
            ),
            2 => (ResizeMode::Linear, coordinates),
            3 => (ResizeMode::Cubic, coordinates),
            other => return Err(format!("resize_type {other}")),
        };
        let settings = ResizeSettings {
            mode,
            coordinates,
            antialias: false,
            cubic: -0.75,
            exclude_outside: false,
            extrapolation: 0.0,
            axes: None,
        };
        let factors = [self.float(1)?.unwrap_or(1.0), self.float(2)?.unwrap_or(1.0)];
        Ok((settings, factors))
    }

    /// What lies around a padded value.
    pub(super) fn pad_mode(&self) -> Result<PadMode, String> {
        let channels = [7, 8].map(|key| self.integer(key).map(|n| n.unwrap_or(0) != 0));
        for padded in channels {
            if padded? {
                return Err("more channels".to_owned());
            }
        }
        match self.integer(4)?.unwrap_or(0) {
            0 => Ok(PadMode::Constant),
            1 => Ok(PadMode::Edge),
            2 => Ok(PadMode::Reflect),
            other => Err(format!("type {other}")),
        }
    }

    /// An operation without weights, on each sample or of the whole frame.
    pub(super) fn of_samples(&self) -> Result<Op, String> {
        Ok(match self.kind {
            "AbsVal" => Op::Abs,
            "ELU" => Op::Elu {
                alpha: self.float(0)?.unwrap_or(0.1),
            },
            "GELU" => Op::Gelu {
                tanh: self.integer(0)?.unwrap_or(0) != 0,
            },
            "HardSigmoid" => Op::HardSigmoid {
                alpha: self.float(0)?.unwrap_or(0.2),
                beta: self.float(1)?.unwrap_or(0.5),
            },
            "Mish" => Op::Mish,
            "Pooling" => {
                let mean = self.integer(0)?.unwrap_or(0) == 1;
                if !mean || self.integer(4)?.unwrap_or(0) == 0 {
                    return Err("served is the mean over the frame".to_owned());
                }
                Op::GlobalAveragePool
            }
            "ReLU" => match self.float(0)?.unwrap_or(0.0) {
                0.0 => Op::Relu,
                alpha => Op::LeakyRelu { alpha },
            },
            "Reorg" if self.integer(1)?.unwrap_or(0) == 1 => Op::SpaceToDepth {
                block: self.number(0)?.unwrap_or(1),
            },
            "Sigmoid" => Op::Sigmoid,
            "TanH" => Op::Tanh,
            _ => return Err("a layer that is not served".to_owned()),
        })
    }
}
