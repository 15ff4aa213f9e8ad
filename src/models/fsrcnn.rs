//! FSRCNN: convolutions at the input's resolution, most of them on few
//! channels, and a transposed convolution that upscales.
//!
//! Chao Dong, Chen Change Loy, Xiaoou Tang, "Accelerating the Super-Resolution
//! Convolutional Neural Network", ECCV 2016, <https://arxiv.org/abs/1608.00367>.
//! Parameter names as in the public port `yjn870/FSRCNN-pytorch`: `first_part`
//! extracts features, `mid_part` shrinks, maps and expands them, `last_part`
//! is the transposed convolution.
//!
//! A transposed convolution of stride `r` computes each of the `r * r` phases
//! of the output as a separate convolution at the input's resolution, from
//! every `r`-th tap. It therefore runs as one convolution with `r * r` outputs
//! and a pixel shuffle; with zero padding the borders are the same, too.

use crate::chain::{Chain, ChainLayer};
use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, Scales, Shapes, single_scale,
};
use crate::nn::Conv;
use crate::ops::ConvSpec;
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The supported factors.
const FACTORS: RangeInclusive<u32> = 2..=4;

/// Size of the first kernel.
const FIRST_KERNEL: usize = 5;

/// Size of the mapping kernels.
const KERNEL: usize = 3;

/// Size of the transposed convolution's kernel.
const LAST_KERNEL: usize = 9;

/// Initial slope of a PReLU, as in PyTorch.
const SLOPE: f64 = 0.25;

/// Standard deviation of the transposed convolution's initial weights.
const LAST_STDEV: f64 = 1e-3;

/// Shape of an FSRCNN: d, s and m of the paper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels after the first layer and before the last one.
    pub width: usize,
    /// Channels between the mapping layers.
    pub shrunk: usize,
    /// Number of mapping layers.
    pub depth: usize,
}

impl Default for Config {
    /// FSRCNN(56, 12, 4): 12,809 weights.
    fn default() -> Self {
        Self {
            width: 56,
            shrunk: 12,
            depth: 4,
        }
    }
}

/// Name of a convolution, name of its slopes, kernel side, channels in and out.
type LayerSizes = (String, String, usize, [usize; 2]);

impl Config {
    /// All layers but the last one.
    fn layers(&self) -> Vec<LayerSizes> {
        let Self { width, shrunk, .. } = *self;
        let mut sizes = vec![(1, [width, shrunk])];
        sizes.extend(vec![(KERNEL, [shrunk; 2]); self.depth]);
        sizes.push((1, [shrunk, width]));
        let name = |i: usize| format!("mid_part.{i}");
        let middle = sizes.into_iter().enumerate();
        let middle =
            middle.map(|(i, (side, channels))| (name(2 * i), name(2 * i + 1), side, channels));
        let name = |i: usize| format!("first_part.{i}");
        let first = (name(0), name(1), FIRST_KERNEL, [1, width]);
        [first].into_iter().chain(middle).collect()
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Luma
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Fsrcnn::new(vb, self, &scales)?))
    }

    /// The shapes do not determine the scale.
    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        let shape = |name: &str| shapes.get(name).map(Vec::as_slice);
        let &[width, 1, FIRST_KERNEL, FIRST_KERNEL] = shape("first_part.0.weight")? else {
            return None;
        };
        let &[shrunk, ..] = shape("mid_part.0.weight")? else {
            return None;
        };
        let middle = (0..).take_while(|i| shape(&format!("mid_part.{}.weight", 2 * i)).is_some());
        let config = Self {
            width,
            shrunk,
            depth: middle.count().checked_sub(2)?,
        };
        let fits = |(conv, slope, side, [inputs, outputs]): LayerSizes| {
            shape(&format!("{conv}.weight")) == Some(&[outputs, inputs, side, side])
                && shape(&format!("{conv}.bias")) == Some(&[outputs])
                && shape(&format!("{slope}.weight")) == Some(&[outputs])
        };
        let layers = config.layers();
        let is_all = shapes.len() == 3 * layers.len() + 2;
        let last = shape("last_part.weight") == Some(&[width, 1, LAST_KERNEL, LAST_KERNEL]);
        (is_all && last && layers.into_iter().all(fits)).then(|| Detected {
            config,
            renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
            scales: None,
        })
    }
}

/// An FSRCNN with its weights.
#[derive(Debug, Clone)]
pub struct Fsrcnn {
    scales: Scales,
    layers: Vec<ChainLayer>,
    /// (width, 1, 9, 9): the transposed convolution.
    last_weight: Tensor,
    /// (1).
    last_bias: Tensor,
}

impl Fsrcnn {
    /// Reads (or, in training, creates) the weights for the one scale of
    /// `scales`. With [`Scales::Any`], of files that do not state their scale,
    /// the weights are used for every requested scale.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, a scale other than 2, 3
    /// and 4.
    pub fn new(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Self> {
        if config.width == 0 || config.shrunk == 0 {
            let problem = format!("the layers of an FSRCNN must not be empty: {config:?}");
            return Err(Error::Setting(problem).into());
        }
        let scales = match scales {
            Scales::Any => Scales::list(FACTORS.map(Scale::whole)),
            Scales::List(_) => {
                let scale = single_scale(scales, "an FSRCNN")?;
                factor(scale)?;
                Scales::list([scale])
            }
        };
        let layer = |(conv, slope, side, [inputs, outputs]): LayerSizes| {
            // He et al. 2015, for layers before a PReLU.
            let stdev = (2.0 / (inputs * side * side) as f64).sqrt();
            let init = Init::Randn { mean: 0.0, stdev };
            let shape = (outputs, inputs, side, side);
            let (conv, slope) = (vb.pp(conv), vb.pp(slope));
            Ok(ChainLayer {
                slope: Some(slope.get_with_hints(outputs, "weight", Init::Const(SLOPE))?),
                ..ChainLayer::from(Conv {
                    weight: conv.get_with_hints(shape, "weight", init)?,
                    bias: Some(conv.get_with_hints(outputs, "bias", Init::Const(0.0))?),
                    spec: ConvSpec::default(),
                })
            })
        };
        let layers = config.layers().into_iter().map(layer);
        let last = vb.pp("last_part");
        let init = Init::Randn {
            mean: 0.0,
            stdev: LAST_STDEV,
        };
        let shape = (config.width, 1, LAST_KERNEL, LAST_KERNEL);
        Ok(Self {
            scales,
            layers: layers.collect::<candle_core::Result<_>>()?,
            last_weight: last.get_with_hints(shape, "weight", init)?,
            last_bias: last.get_with_hints(1, "bias", Init::Const(0.0))?,
        })
    }
}

/// The factor of a scale.
fn factor(scale: Scale) -> crate::Result<usize> {
    if scale.den() == 1 && FACTORS.contains(&scale.num()) {
        return Ok(scale.num() as usize);
    }
    let (least, most) = (FACTORS.start(), FACTORS.end());
    Err(Error::Setting(format!(
        "an FSRCNN upscales by integer factors from {least} to {most}, not by {scale}"
    )))
}

/// The convolution that, followed by a pixel shuffle of `factor`, equals the
/// transposed convolution with that stride and the kernel (channels, 1, 9, 9).
/// Gradients flow back into the kernel.
fn subpixel(weight: &Tensor, factor: usize) -> candle_core::Result<Tensor> {
    let channels = weight.dim(0)?;
    let (middle, area) = (LAST_KERNEL / 2, LAST_KERNEL * LAST_KERNEL);
    // Radius of the kernel: how far the last phase of a pixel reaches ahead and
    // the first one back.
    let reach = middle.div_ceil(factor);
    let side = 2 * reach + 1;
    // The transposed kernel's tap, if any, for a phase and the input pixel at
    // offset `at - reach`.
    let tap = |phase: usize, at: usize| {
        let tap = (phase + middle + factor * reach).checked_sub(factor * at)?;
        (tap < LAST_KERNEL).then_some(tap)
    };
    let mut taps = Vec::with_capacity(factor * factor * side * side);
    for phase in 0..factor * factor {
        for at in 0..side * side {
            let row = tap(phase / factor, at / side);
            let column = tap(phase % factor, at % side);
            let both = row.zip(column);
            // Index `area`, after the kernel's taps, holds a zero.
            taps.push(both.map_or(area, |(y, x)| y * LAST_KERNEL + x) as u32);
        }
    }
    let zero = Tensor::zeros((channels, 1), weight.dtype(), weight.device())?;
    let taps = Tensor::new(taps, weight.device())?;
    Tensor::cat(&[&weight.reshape((channels, area))?, &zero], 1)?
        .index_select(&taps, 1)?
        .reshape((channels, factor * factor, side * side))?
        .transpose(0, 1)?
        .reshape((factor * factor, channels, side, side))
}

impl Network for Fsrcnn {
    fn channels(&self) -> Channels {
        Channels::Luma
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        let factor = factor(scale)?;
        let known = matches!(&self.scales, Scales::List(list) if list.contains(&scale));
        if !known {
            self.scales.expect(scale, "this FSRCNN")?;
        }
        let phases = factor * factor;
        let mut layers = self.layers.clone();
        layers.push(ChainLayer {
            shuffle: factor,
            ..ChainLayer::from(Conv {
                weight: subpixel(&self.last_weight, factor)?,
                bias: Some(self.last_bias.broadcast_as(phases)?.contiguous()?),
                spec: ConvSpec::default(),
            })
        });
        Ok(Box::new(Chain {
            layers,
            ..Chain::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use candle_nn::VarMap;

    fn noise(shape: &[usize], seed: usize) -> Tensor {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        let error = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        error.max(0).unwrap().to_scalar().unwrap()
    }

    /// candle's transposed convolution, with the parameters of the published code.
    fn transposed(x: &Tensor, weight: &Tensor, factor: usize) -> Tensor {
        x.conv_transpose2d(weight, LAST_KERNEL / 2, factor - 1, factor, 1)
            .unwrap()
    }

    /// Up to the edges, also for images smaller than the kernel.
    #[test]
    fn the_last_layer_is_the_transposed_convolution() {
        let channels = 3;
        let weight = noise(&[channels, 1, LAST_KERNEL, LAST_KERNEL], 1);
        for factor in FACTORS.map(|factor| factor as usize) {
            for (height, width) in [(7, 11), (1, 2), (3, 1)] {
                let x = noise(&[2, channels, height, width], 2);
                let conv = Conv {
                    weight: subpixel(&weight, factor).unwrap(),
                    bias: None,
                    spec: ConvSpec::default(),
                };
                let y = conv.forward(&x).unwrap();
                let y = candle_nn::ops::pixel_shuffle(&y, factor).unwrap();
                let expected = transposed(&x, &weight, factor);
                assert_eq!(y.dims(), expected.dims());
                assert!(distance(&y, &expected) < 1e-5, "x{factor}");
            }
        }
    }

    #[test]
    fn gradients_of_the_last_layer_reach_its_kernel() {
        let weight = Var::from_tensor(&noise(&[2, 1, LAST_KERNEL, LAST_KERNEL], 1)).unwrap();
        for factor in FACTORS.map(|factor| factor as usize) {
            let square = subpixel(&weight, factor).unwrap().sqr().unwrap();
            let gradients = square.sum_all().unwrap().backward().unwrap();
            let gradient = gradients.get(&weight).unwrap();
            // Each tap belongs to one phase.
            let expected = (weight.as_tensor() * 2.0).unwrap();
            assert!(distance(gradient, &expected) < 1e-6, "x{factor}");
        }
    }

    #[test]
    fn parameter_count_is_the_published_one() {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let scales = Scales::list([Scale::whole(2)]);
        let network = Fsrcnn::new(&vb, &Config::default(), &scales).unwrap();
        let data = map.data().lock().unwrap();
        let count: usize = data.values().map(|var| var.elem_count()).sum();
        assert_eq!(count, 12_809);
        // At the input's resolution: 2 + 4 * 1 + 2.
        assert_eq!(network.for_scale(Scale::whole(2)).unwrap().halo(), 8);
    }

    #[test]
    fn other_scales_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let build = |scales: Scales| Fsrcnn::new(&vb, &Config::default(), &scales);
        for scale in ["5/2", "8"] {
            let error = build(Scales::list([scale.parse().unwrap()])).unwrap_err();
            assert!(error.to_string().contains(&format!("not by {scale}")));
        }
        let x2 = build(Scales::list([Scale::whole(2)])).unwrap();
        assert!(x2.for_scale(Scale::whole(3)).is_err());
        let any = build(Scales::Any).unwrap();
        assert!(any.for_scale(Scale::whole(3)).is_ok());
        assert!(any.for_scale(Scale::whole(8)).is_err());
    }
}
