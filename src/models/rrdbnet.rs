//! RRDBNet: residual-in-residual dense blocks at the input's resolution (or half or a
//! quarter of it), then nearest-neighbour upscaling with convolutions.
//!
//! Xintao Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial
//! Networks", ECCV workshops 2018, <https://arxiv.org/abs/1809.00219>, and Real-ESRGAN,
//! <https://arxiv.org/abs/2107.10833>, `xinntao/Real-ESRGAN`, with its parameter names;
//! those of the first ESRGAN (`model.1.sub.0.RDB1.conv1.0`), of BSRGAN
//! (`RRDB_trunk.0.RDB1.conv1`) and ESRGAN+ (`conv1x1`) are supported too. Networks for
//! scales below 4 may unshuffle the input first.

use crate::models::detect::{Detected, kernels};
use crate::models::graph::{Builder, Form, Graph, Value};
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes, single_scale};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The largest factor of the upscaling.
const MAX_FACTOR: usize = 8;

/// Slope of all leaky ReLUs.
const SLOPE: f32 = 0.2;

/// Residual scaling, of dense blocks and of groups of three.
const RESIDUAL: f32 = 0.2;

/// Configuration of an RRDBNet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the blocks.
    pub width: usize,
    /// Number of groups of three dense blocks.
    pub blocks: usize,
    /// Channels that each layer of a dense block adds.
    pub growth: usize,
    /// Factor of the pixel unshuffling of the input: 1, 2 or 4.
    pub unshuffle: usize,
    /// Whether dense blocks have the shortcuts of ESRGAN+.
    pub plus: bool,
    /// The planes in and out.
    pub channels: Channels,
}

impl Default for Config {
    /// That of ESRGAN and Real-ESRGAN x4plus: 16,697,987 weights.
    fn default() -> Self {
        Self {
            width: 64,
            blocks: 23,
            growth: 32,
            unshuffle: 1,
            plus: false,
            channels: Channels::Rgb,
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(build(vb, self, &scales)?))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// The native name of a tensor; `layers` is the number of upscaling layers, `blocks` that
/// of the groups.
fn native(name: &str, blocks: usize, layers: usize) -> Option<String> {
    let (layer, part) = name.rsplit_once('.')?;
    let dense = |rest: &str| {
        let (block, rest) = rest.split_once(".RDB")?;
        let rest = rest.strip_suffix(".0").unwrap_or(rest);
        Some(format!("body.{block}.rdb{rest}"))
    };
    let first_names = |place: &str| {
        if let Some(rest) = place.strip_prefix("1.sub.") {
            let body = || (rest == blocks.to_string()).then(|| "conv_body".to_owned());
            return dense(rest).or_else(body);
        }
        let place: usize = place.parse().ok()?;
        let after = place.checked_sub(3 * layers);
        Some(match (place, after) {
            (0, _) => "conv_first".to_owned(),
            (_, Some(2)) => "conv_hr".to_owned(),
            (_, Some(4)) => "conv_last".to_owned(),
            _ if place.is_multiple_of(3) => format!("conv_up{}", place / 3),
            _ => return None,
        })
    };
    let layer = match layer {
        "trunk_conv" => "conv_body".to_owned(),
        "HRconv" => "conv_hr".to_owned(),
        _ => {
            if let Some(place) = layer.strip_prefix("model.") {
                first_names(place)?
            } else if let Some(rest) = layer.strip_prefix("RRDB_trunk.") {
                dense(rest)?
            } else if let Some(number) = layer.strip_prefix("upconv") {
                format!("conv_up{number}")
            } else {
                layer.to_owned()
            }
        }
    };
    Some(format!("{layer}.{part}"))
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let count = |name: &dyn Fn(usize) -> [String; 3], first: usize| {
        let there = |i: &usize| name(*i).iter().any(|name| shapes.contains_key(name));
        (first..).take_while(there).count()
    };
    let blocks = count(
        &|i| {
            [
                format!("body.{i}.rdb1.conv1.weight"),
                format!("RRDB_trunk.{i}.RDB1.conv1.weight"),
                format!("model.1.sub.{i}.RDB1.conv1.0.weight"),
            ]
        },
        0,
    );
    // Of the first names, two layers follow: at 2 and 4 after those that upscale.
    let layers = count(
        &|i| {
            [
                format!("conv_up{i}.weight"),
                format!("upconv{i}.weight"),
                format!("model.{}.weight", 3 * i),
            ]
        },
        1,
    );
    let renames: Vec<(String, String)> = (shapes.keys())
        .filter_map(|name| Some((name.clone(), native(name, blocks, layers)?)))
        .collect();
    let shape = |native: &str| {
        let (theirs, _) = renames.iter().find(|(_, ours)| ours == native)?;
        kernels(shapes, theirs)
    };
    let [width, planes, ..] = shape("conv_first.weight")?;
    let [outputs, ..] = shape("conv_last.weight")?;
    let [growth, ..] = shape("body.0.rdb1.conv1.weight")?;
    shape("conv_hr.weight").and(shape("conv_body.weight"))?;
    let channels = Channels::from_count(outputs)?;
    let unshuffle = [1, 2, 4].into_iter().find(|r| outputs * r * r == planes)?;
    let factor = 1usize.checked_shl(layers as u32)?;
    (factor >= unshuffle && factor / unshuffle <= MAX_FACTOR).then(|| Detected {
        config: Config {
            width,
            blocks,
            growth,
            unshuffle,
            plus: renames.iter().any(|(_, ours)| ours.contains(".conv1x1.")),
            channels,
        },
        scales: Some(Scales::list([Scale::whole((factor / unshuffle) as u32)])),
        renames: renames.clone(),
    })
}

/// The network for the one scale of `scales`.
fn build(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Graph> {
    let scale = single_scale(scales, "an RRDBNet")?;
    let factor = scale.num() as usize * config.unshuffle;
    let served = scale.den() == 1
        && factor.is_power_of_two()
        && scale.num() as usize <= MAX_FACTOR
        && matches!(config.unshuffle, 1 | 2 | 4);
    if !served {
        return Err(Error::Setting(format!(
            "an RRDBNet upscales by 1, 2, 4 or {MAX_FACTOR} and unshuffles by 1, 2 or 4, not \
             by {scale} and {}",
            config.unshuffle
        ))
        .into());
    }
    let mut b = Builder::new(vb, config.channels);
    let input = b.input();
    let first = match config.unshuffle {
        1 => b.conv(&input, "conv_first", config.width)?,
        r => unshuffled(&mut b, vb, config, &input, r)?,
    };
    let mut x = first.clone();
    for block in 0..config.blocks {
        let start = x.clone();
        for dense in 1..=3 {
            x = dense_block(&mut b, config, &format!("body.{block}.rdb{dense}"), &x)?;
        }
        let scaled = b.times(&x, RESIDUAL)?;
        x = b.add(&scaled, &start);
    }
    let body = b.conv(&x, "conv_body", config.width)?;
    let mut x = b.add(&first, &body);
    for layer in 1..=factor.trailing_zeros() {
        let larger = b.repeat(&x, 2)?;
        let y = b.conv(&larger, &format!("conv_up{layer}"), config.width)?;
        x = b.leaky(&y, SLOPE);
    }
    let y = b.conv(&x, "conv_hr", config.width)?;
    let y = b.leaky(&y, SLOPE);
    let y = b.conv(&y, "conv_last", config.channels.count())?;
    b.finish(&y)
}

/// The first layer after PyTorch's `PixelUnshuffle`.
fn unshuffled(
    b: &mut Builder,
    vb: &VarBuilder,
    config: &Config,
    input: &Value,
    factor: usize,
) -> Result<Value> {
    let (planes, area) = (config.channels.count(), factor * factor);
    let vb = vb.pp("conv_first");
    let weight: Tensor = vb.get((config.width, planes * area, 3, 3), "weight")?;
    // From planes of blocks to blocks of planes.
    let weight = weight
        .reshape((config.width, planes, area, 9))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((config.width, planes * area, 3, 3))?;
    let blocks = b.unshuffle(input, factor);
    b.conv_with(&blocks, weight, vb.get(config.width, "bias")?)
}

fn dense_block(b: &mut Builder, config: &Config, name: &str, x: &Value) -> Result<Value> {
    let mut features = vec![x.clone()];
    for layer in 1..=4 {
        let all = b.concat(&features.iter().collect::<Vec<_>>());
        let y = b.conv(&all, &format!("{name}.conv{layer}"), config.growth)?;
        let mut y = b.leaky(&y, SLOPE);
        if config.plus && layer == 2 {
            let form = Form {
                kernel: 1,
                bias: false,
                ..Form::default()
            };
            let shortcut = b.conv_of(x, &format!("{name}.conv1x1"), config.growth, form)?;
            y = b.add(&y, &shortcut);
        }
        if config.plus && layer == 4 {
            y = b.add(&y, &features[2]);
        }
        features.push(y);
    }
    let all = b.concat(&features.iter().collect::<Vec<_>>());
    let y = b.conv(&all, &format!("{name}.conv5"), config.width)?;
    let scaled = b.times(&y, RESIDUAL)?;
    Ok(b.add(&scaled, x))
}
