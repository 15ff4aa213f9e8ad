//! HDSRNet: two branches of sixteen layers, one of them with dynamic
//! convolutions, whose product is upscaled by pixel shuffle.
//!
//! Chunwei Tian et al., "Heterogeneous dynamic super-resolution network",
//! <https://arxiv.org/abs/2402.15704>; `hellloxiaotian/HDSRNet`, class
//! `DDYCNNSR`, with its parameter names. The published code anneals nothing: the
//! temperature of the attention is 40 in training and inference.
//!
//! The attention pools over the whole image: on tiles, each of the five means
//! takes a pass over all tiles.

use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, PartialOutput, Pool, ScaleNetwork,
    Scales, Shapes, Upsampling, complete, mean_of, run_parts, single_scale, upsampling,
};
use crate::nn::{Conv, DynamicConv, DynamicSpec, conv_no_bias, pytorch_uniform};
use crate::ops::{Activation, Border, ConvSpec};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::{VarBuilder, ops::pixel_shuffle};
use serde::{Deserialize, Serialize};

/// The supported scales and their pixel shuffles.
const FACTORS: [(u32, &[usize]); 3] = [(2, &[2]), (3, &[3]), (4, &[2, 2])];

/// Size of every kernel.
const KERNEL: usize = 3;

/// Layers of the lower branch; the second half adds the first half's outputs.
const LAYERS: usize = 16;

/// Blocks of the upper branch: dilated, dynamic, plain.
const BLOCKS: usize = 5;

/// Number of kernels that a dynamic convolution mixes.
const KERNELS: usize = 4;

/// Channel reduction factor inside the attention.
const SQUEEZE: usize = 4;

/// Temperature of the attention's softmax.
const TEMPERATURE: f64 = 40.0;

/// Largest sample value inside the network.
const RANGE: f64 = 255.0;

/// Mean of R, G and B over DIV2K, for samples 0 to 1.
pub(super) const DIV2K_MEAN: [f32; 3] = [0.4488, 0.4371, 0.4040];

/// Configuration of an HDSRNet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers, a multiple of 4.
    pub width: usize,
}

impl Default for Config {
    /// The published configuration: 1,818,496, 2,003,136 and 1,966,208 weights at x2,
    /// x3, x4.
    fn default() -> Self {
        Self { width: 64 }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(HdsrNet::new(vb, self, &scales)?))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| shapes.get(name).map(Vec::as_slice);
    let &[width, 3, KERNEL, KERNEL] = shape("conv1.0.weight")? else {
        return None;
    };
    shape("Block.conv3.0.attention.net.0.weight")?;
    let &[outputs, ..] = shape("upsample.up.body.0.weight")? else {
        return None;
    };
    let steps = 1 + usize::from(shape("upsample.up.body.2.weight").is_some());
    let (factor, _) = FACTORS
        .into_iter()
        .find(|(_, shuffles)| shuffles.len() == steps && outputs == width * shuffles[0].pow(2))?;
    // The mean shift is constant, not a weight.
    let learnt = shapes.keys().filter(|name| !name.contains("_mean."));
    Some(Detected {
        config: Config { width },
        renames: learnt.map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// An HDSRNet with its weights, for one scale.
#[derive(Debug, Clone)]
pub struct HdsrNet {
    scales: Scales,
    factor: usize,
    width: usize,
    /// (1, 3, 1, 1), subtracted from samples 0 to 1.
    mean: Tensor,
    /// The symmetric branch, in order.
    lower: Vec<Conv>,
    /// The first layer of the heterogeneous branch.
    first: Conv,
    blocks: Vec<Block>,
    /// Convolutions, each with the factor of its pixel shuffle.
    upsample: Vec<(Conv, usize)>,
    last: Conv,
}

/// A heterogeneous block.
#[derive(Debug, Clone)]
struct Block {
    dilated: Conv,
    dynamic: DynamicConv,
    plain: Conv,
}

impl Block {
    fn forward(
        &self,
        x: &Tensor,
        dilated: &Tensor,
        attention: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let y = self.dynamic.forward(dilated, attention)?.relu()?;
        self.plain.forward(&y)? + x
    }
}

impl HdsrNet {
    /// Reads (or, in training, creates) the weights for the one scale of `scales`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, a scale other than 2, 3 or 4.
    pub fn new(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Self> {
        let scale = single_scale(scales, "an HDSRNet")?;
        let known = FACTORS.iter().find(|(f, _)| Scale::whole(*f) == scale);
        let Some((factor, shuffles)) = known else {
            return Err(Error::Setting(format!(
                "an HDSRNet upscales by 2, 3 or 4, not by {scale}"
            ))
            .into());
        };
        let (width, planes) = (config.width, Channels::Rgb.count());
        if width == 0 || !width.is_multiple_of(SQUEEZE) {
            return Err(Error::Setting(format!(
                "the width of an HDSRNet is a multiple of {SQUEEZE}, not {width}"
            ))
            .into());
        }
        let relu = ConvSpec {
            activation: Activation::Relu,
            ..ConvSpec::default()
        };
        let conv = |name: String, inputs: usize, spec: ConvSpec| {
            conv_no_bias(&vb.pp(name), (inputs, width), KERNEL, spec)
        };
        let lower = (0..LAYERS).map(|i| {
            let inputs = if i == 0 { planes } else { width };
            // The ReLU after the last convolution is separate.
            let spec = if i + 1 == LAYERS {
                ConvSpec::default()
            } else {
                relu
            };
            conv(format!("conv{}.0", i + 1), inputs, spec)
        });
        let block = |i: usize| -> candle_core::Result<Block> {
            let name = |layer: usize| format!("Block.conv{}.0", 3 * i + layer);
            let dilated = ConvSpec {
                dilation: 2,
                ..relu
            };
            let dynamic = DynamicSpec {
                channels: width,
                kernel: KERNEL,
                kernels: KERNELS,
                squeezed: width / SQUEEZE,
                temperature: TEMPERATURE,
            };
            Ok(Block {
                dilated: conv(name(2), width, dilated)?,
                dynamic: DynamicConv::new(&vb.pp(name(3)), dynamic)?,
                plain: conv(name(4), width, relu)?,
            })
        };
        let upsample = shuffles.iter().enumerate().map(|(i, &shuffle)| {
            let vb = vb.pp(format!("upsample.up.body.{}", 2 * i));
            let outputs = width * shuffle * shuffle;
            let spec = ConvSpec::default();
            let bias = pytorch_uniform(width * KERNEL * KERNEL);
            let conv = Conv {
                bias: Some(vb.get_with_hints(outputs, "bias", bias)?),
                ..conv_no_bias(&vb, (width, outputs), KERNEL, spec)?
            };
            Ok((conv, shuffle))
        });
        let last = vb.pp(format!("conv{}.0", LAYERS + 1));
        Ok(Self {
            scales: Scales::list([scale]),
            factor: *factor as usize,
            width,
            mean: Tensor::new(&DIV2K_MEAN, vb.device())?.reshape((1, planes, 1, 1))?,
            lower: lower.collect::<candle_core::Result<_>>()?,
            first: conv("Block.conv1.0".to_owned(), planes, relu)?,
            blocks: (0..BLOCKS).map(block).collect::<candle_core::Result<_>>()?,
            upsample: upsample.collect::<candle_core::Result<_>>()?,
            last: conv_no_bias(&last, (width, planes), KERNEL, ConvSpec::default())?,
        })
    }

    /// The forward pass, which reports intermediate tensors: `lower`
    /// (the output of that branch's last convolution), `attentionN`, `upper`.
    /// For comparison with other implementations.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn trace(
        &self,
        x: &Tensor,
        mut show: impl FnMut(&str, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Tensor> {
        complete(self.run(x, &mut mean_of, &mut show)?)
    }

    /// The forward pass, up to the first mean that `pool` does not know.
    fn run(
        &self,
        x: &Tensor,
        pool: &mut Pool<'_>,
        mut show: impl FnMut(&str, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Option<Tensor>> {
        let x = (x.broadcast_sub(&self.mean)? * RANGE)?;
        let mut upper = self.first.forward(&x)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let dilated = block.dilated.forward(&upper)?;
            let Some(means) = pool(&dilated)? else {
                return Ok(None);
            };
            let attention = block.dynamic.attention(&means)?;
            show(&format!("attention{}", i + 1), &attention)?;
            upper = block.forward(&upper, &dilated, &attention)?;
        }
        show("upper", &upper)?;
        let mut y = (upper * self.lower(&x, &mut show)?)?;
        for (conv, shuffle) in &self.upsample {
            y = pixel_shuffle(&conv.forward(&y)?, *shuffle)?;
        }
        let y = (self.last.forward(&y)? / RANGE)?;
        y.broadcast_add(&self.mean).map(Some)
    }

    /// The symmetric branch.
    fn lower(
        &self,
        x: &Tensor,
        mut show: impl FnMut(&str, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Tensor> {
        let (down, up) = self.lower.split_at(LAYERS / 2 + 1);
        let mut skips: Vec<Tensor> = Vec::new();
        let mut y = x.clone();
        for conv in down {
            y = conv.forward(&y)?;
            skips.push(y.clone());
        }
        skips.pop();
        for conv in up {
            if let Some(skip) = skips.pop() {
                y = (y + skip)?;
            }
            y = conv.forward(&y)?;
        }
        show("lower", &y)?;
        let y = y.relu()?;
        match skips.pop() {
            Some(first) => y + first,
            None => Ok(y),
        }
    }
}

impl Network for HdsrNet {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "this HDSRNet")?;
        Ok(Box::new(self.clone()))
    }
}

impl ScaleNetwork for HdsrNet {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(self.factor)
    }

    fn halo(&self) -> usize {
        let upper = 1 + BLOCKS * (2 + 1 + 1);
        upper.max(LAYERS) + self.upsample.len() + 1
    }

    fn border(&self) -> Border {
        Border::Zero
    }

    fn macs(&self) -> u64 {
        let block =
            |block: &Block| block.dilated.macs() + block.dynamic.macs() + block.plain.macs();
        let lower: u64 = self.lower.iter().map(Conv::macs).sum();
        let upper: u64 = self.blocks.iter().map(block).sum();
        let (up, area) = upsampling(&self.upsample);
        lower + self.first.macs() + upper + up + area * self.last.macs()
    }

    fn global_pools(&self) -> usize {
        BLOCKS
    }

    fn working_set(&self) -> usize {
        // The lower branch keeps its skip connections. Input and output of a
        // pixel shuffle and the last convolution's padded input have the
        // output's size.
        self.width * (LAYERS / 2 + 5).max(3 * self.factor * self.factor + 2)
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.trace(x, |_, _| Ok(()))
    }

    fn forward_part(&self, x: &Tensor, means: &[Tensor]) -> candle_core::Result<PartialOutput> {
        run_parts(means, |pool| self.run(x, pool, |_, _| Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (scale, count) in [(2, 1_818_496), (3, 2_003_136), (4, 1_966_208)] {
            let map = VarMap::new();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
            HdsrNet::new(
                &vb,
                &Config::default(),
                &Scales::list([Scale::whole(scale)]),
            )
            .unwrap();
            let data = map.data().lock().unwrap();
            let found: usize = data.values().map(|var| var.elem_count()).sum();
            assert_eq!(found, count);
        }
    }

    #[test]
    fn other_scales_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let config = Config::default();
        let build = |scale| HdsrNet::new(&vb, &config, &Scales::list([Scale::whole(scale)]));
        let error = build(8).unwrap_err().to_string();
        assert!(error.contains("2, 3 or 4, not by 8"), "{error}");
        assert!(build(2).unwrap().for_scale(Scale::whole(4)).is_err());
    }
}
