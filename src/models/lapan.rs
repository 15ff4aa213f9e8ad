//! The 12-block multi-resolution network: features at eight, four and two
//! times the input's resolution, residual blocks that upscale and downscale,
//! and channel attention. Its scale is 2.
//!
//! Gianpiero Tulipani, `GianpieroTulipani/image_super_resolution`, class
//! `LaplacianPyramidAttentionNetwork`, with its parameter names. In the published
//! code all blocks of a stage have the same input, and so the same output; its
//! text feeds each the residual of the one before ([`Config::chained`]).
//!
//! The attention pools over the whole image: on tiles, each of the means takes
//! a pass over all tiles.

use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, PartialOutput, Pool, ScaleNetwork,
    Scales, Shapes, Upsampling, complete, mean_of, run_parts,
};
use crate::nn::{Conv, pytorch_uniform};
use crate::ops::{self, Activation, Border, ConvSpec, sigmoid};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The upscaling factor.
const FACTOR: usize = 2;

/// Size of all kernels that do not upscale.
const KERNEL: usize = 3;

/// Channels of the first layer for each channel of the others.
const EXPANSION: usize = 4;

/// Channel reduction factor inside the attention.
const SQUEEZE: usize = 16;

/// Applications of a block's convolution.
const REPEATS: usize = 3;

/// Bilinear interpolation by a factor of 2, as a transposed convolution.
const UP_2X: [f32; 4] = [0.25, 0.75, 0.75, 0.25];

/// Factor of the random initial weights that add to the image.
const RESIDUAL_INIT: f32 = 0.1;

/// The stages: factor of their features, number of blocks.
const STAGES: [(usize, usize); 3] = [(8, 2), (4, 4), (2, 6)];

/// Configuration of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels of the features, a multiple of 16.
    pub width: usize,
    /// Whether each block of a stage takes the residual of the one before as
    /// input, instead of the stage's input.
    pub chained: bool,
}

impl Default for Config {
    /// The published one, 7,956,379 weights.
    fn default() -> Self {
        Self {
            width: 128,
            chained: false,
        }
    }
}

impl Config {
    /// The supported scales.
    fn scales() -> Scales {
        Scales::list([Scale::whole(FACTOR as u32)])
    }

    /// Sets the random initial values of a parameter so that training starts close
    /// to bilinear upscaling: the first three channels carry R, G and B past all
    /// blocks, and the other channels add little to them. Returns whether it
    /// changed them.
    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        let planes = Channels::Rgb.count();
        if let Some(layer) = name.strip_suffix(".bias") {
            let layer = layer.rsplit('.').next().unwrap_or(layer);
            // The attention has no channels that carry the image.
            if !layer.starts_with("fc") {
                values[..planes].fill(0.0);
            }
            return !layer.starts_with("fc");
        }
        let Some(layer) = name.strip_suffix(".weight") else {
            return false;
        };
        let area = KERNEL * KERNEL;
        let last = layer.rsplit('.').next().unwrap_or(layer);
        match last {
            // The layers that carry the image: one value of each plane's own channel.
            "conv1" | "conv2" | "conv3" | "reconstruction_layer" => {
                let inputs = match last {
                    "conv1" => planes,
                    "conv2" => EXPANSION * self.width,
                    _ => self.width,
                };
                for (plane, filter) in values.chunks_exact_mut(inputs * area).enumerate() {
                    if plane < planes {
                        filter.iter_mut().for_each(|value| *value *= RESIDUAL_INIT);
                        filter[..planes * area].fill(0.0);
                        filter[plane * area + area / 2] = 1.0;
                    }
                }
            }
            "upsample_2x" => {
                for (i, kernel) in values.chunks_exact_mut(UP_2X.len().pow(2)).enumerate() {
                    let (from, to) = (i / self.width, i % self.width);
                    for (j, value) in kernel.iter_mut().enumerate() {
                        let (row, column) = (j / UP_2X.len(), j % UP_2X.len());
                        match to < planes {
                            true if from == to => *value = UP_2X[row] * UP_2X[column],
                            true if from < planes => *value = 0.0,
                            true => *value *= RESIDUAL_INIT,
                            false => {}
                        }
                    }
                }
            }
            // The others add to the image.
            "upsample_8x" => {
                let kernel = values.len() / self.width.pow(2);
                for (i, kernel) in values.chunks_exact_mut(kernel).enumerate() {
                    if i % self.width < planes {
                        kernel.iter_mut().for_each(|value| *value *= RESIDUAL_INIT);
                    }
                }
            }
            "upsample" | "fc1" | "fc2" => return false,
            _ => {
                let filter = values.len() / self.width;
                for value in &mut values[..planes * filter] {
                    *value *= RESIDUAL_INIT;
                }
            }
        }
        true
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn upsampling(&self, _scale: Scale) -> Upsampling {
        Upsampling::Post(FACTOR)
    }

    fn scales(&self) -> Option<Scales> {
        Some(Self::scales())
    }

    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        Self::identity_init(self, name, values)
    }

    fn build(&self, vb: &VarBuilder, _scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Lapan::new(vb, self)?))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let width = *shapes.get("conv2.weight")?.first()?;
    let expected = [EXPANSION * width, Channels::Rgb.count(), KERNEL, KERNEL];
    let named = STAGES.iter().all(|(factor, _)| {
        shapes.contains_key(&format!(
            "residual_block_{factor}x.squeeze_excitation.fc1.weight"
        ))
    });
    (named && shapes.get("conv1.weight")?.as_slice() == expected).then(|| Detected {
        config: Config {
            width,
            chained: false,
        },
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Config::scales()),
    })
}

/// A convolution of any stride.
#[derive(Debug, Clone)]
struct Down {
    conv: Conv,
    stride: usize,
}

impl Down {
    fn new(vb: &VarBuilder, width: usize, stride: usize) -> candle_core::Result<Self> {
        let conv = conv(vb, (width, width), KERNEL, Activation::None)?;
        Ok(Self { conv, stride })
    }

    /// A convolution of size 1 of the nine samples that the kernel meets around each
    /// `stride`th one, of an image whose sides are multiples of `stride`.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let rows = taps(x, 2, self.stride)?;
        let mut met = Vec::with_capacity(KERNEL * KERNEL);
        for row in rows {
            met.extend(taps(&row, 3, self.stride)?);
        }
        let weight = &self.conv.weight;
        let (outputs, inputs, ..) = weight.dims4()?;
        // (out, in, row, column) as (out, (row, column, in)).
        let weight = weight.permute((0, 2, 3, 1))?.contiguous()?;
        let weight = weight.reshape((outputs, KERNEL * KERNEL * inputs, 1, 1))?;
        let bias = self.conv.bias.as_ref();
        ops::conv2d(&Tensor::cat(&met, 1)?, &weight, bias, self.conv.spec)
    }
}

/// Along a dimension whose length is a multiple of `stride`, the samples before every
/// `stride`th one, those themselves and those after them; zeros outside.
fn taps(x: &Tensor, dim: usize, stride: usize) -> candle_core::Result<[Tensor; KERNEL]> {
    let mut split = x.dims().to_vec();
    split[dim] /= stride;
    split.insert(dim + 1, stride);
    let x = x.contiguous()?.reshape(split)?;
    let phase = |phase: usize| x.narrow(dim + 1, phase, 1)?.squeeze(dim + 1)?.contiguous();
    Ok([later(&phase(stride - 1)?, dim)?, phase(0)?, phase(1)?])
}

/// Samples moved on by one along a dimension, after a zero.
fn later(x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
    let kept = x.dim(dim)? - 1;
    x.narrow(dim, 0, kept)?.pad_with_zeros(dim, 1, 0)
}

/// Samples moved back by one along a dimension, before a zero.
fn earlier(x: &Tensor, dim: usize) -> candle_core::Result<Tensor> {
    let kept = x.dim(dim)? - 1;
    x.narrow(dim, 1, kept)?.pad_with_zeros(dim, 0, 1)
}

fn conv(
    vb: &VarBuilder,
    (inputs, outputs): (usize, usize),
    kernel: usize,
    activation: Activation,
) -> candle_core::Result<Conv> {
    let init = pytorch_uniform(inputs * kernel * kernel);
    Ok(Conv {
        weight: vb.get_with_hints((outputs, inputs, kernel, kernel), "weight", init)?,
        bias: Some(vb.get_with_hints(outputs, "bias", init)?),
        spec: ConvSpec {
            activation,
            ..ConvSpec::default()
        },
    })
}

/// A transposed convolution that upscales by a factor: kernels larger than it by two, so
/// that those of neighbours overlap by two samples.
#[derive(Debug, Clone)]
struct Up {
    /// (in, out, kernel, kernel).
    weight: Tensor,
    /// (out).
    bias: Tensor,
    factor: usize,
}

impl Up {
    fn new(vb: &VarBuilder, width: usize, factor: usize) -> candle_core::Result<Self> {
        let kernel = factor + 2;
        let init = pytorch_uniform(width * kernel * kernel);
        Ok(Self {
            weight: vb.get_with_hints((width, width, kernel, kernel), "weight", init)?,
            bias: vb.get_with_hints(width, "bias", init)?,
            factor,
        })
    }

    /// MACs for each sample of the input.
    fn macs(&self) -> u64 {
        self.weight.elem_count() as u64
    }

    /// A convolution of size 1, whose outputs are the samples of the kernels, and their
    /// sum where they overlap.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (inputs, outputs, kernel, _) = self.weight.dims4()?;
        let weight = self.weight.permute((1, 2, 3, 0))?.contiguous()?;
        let weight = weight.reshape((outputs * kernel * kernel, inputs, 1, 1))?;
        let (batch, _, height, width) = x.dims4()?;
        let y = ops::conv2d(x, &weight, None, ConvSpec::default())?;
        // (batch * out, kernel row, kernel column, height, width).
        let y = y.reshape((batch * outputs, kernel, kernel, height, width))?;
        let y = overlapped(&y, 1, 3)?;
        let y = overlapped(&y, 2, 4)?;
        let y = y.permute((0, 3, 1, 4, 2))?.contiguous()?;
        let size = (height * self.factor, width * self.factor);
        let y = y.reshape((batch, outputs, size.0, size.1))?;
        y.broadcast_add(&self.bias.reshape((1, outputs, 1, 1))?)
    }
}

/// Adds the first and the last sample of the kernels, along the dimension `kernel`, to those
/// of the neighbours along the dimension `place`, which they cover.
fn overlapped(y: &Tensor, kernel: usize, place: usize) -> candle_core::Result<Tensor> {
    let size = y.dim(kernel)?;
    let part = |first: usize, count: usize| y.narrow(kernel, first, count)?.contiguous();
    let first = (part(1, 1)? + later(&part(size - 1, 1)?, place)?)?;
    let last = (part(size - 2, 1)? + earlier(&part(0, 1)?, place)?)?;
    if size == 4 {
        return Tensor::cat(&[first, last], kernel);
    }
    Tensor::cat(&[first, part(2, size - 4)?, last], kernel)
}

/// Upscales features and refines the residual of the upscaling.
#[derive(Debug, Clone)]
struct Block {
    up: Up,
    down: Down,
    conv: Conv,
    attention: [Conv; 2],
}

impl Block {
    fn new(vb: &VarBuilder, width: usize, factor: usize) -> candle_core::Result<Self> {
        let attention = vb.pp("squeeze_excitation");
        let squeezed = width / SQUEEZE;
        let (relu, none) = (Activation::Relu, Activation::None);
        Ok(Self {
            up: Up::new(&vb.pp("upsample"), width, factor)?,
            down: Down::new(&vb.pp("downsample"), width, factor)?,
            conv: conv(&vb.pp("conv"), (width, width), KERNEL, relu)?,
            attention: [
                conv(&attention.pp("fc1"), (width, squeezed), 1, relu)?,
                conv(&attention.pp("fc2"), (squeezed, width), 1, none)?,
            ],
        })
    }

    /// The upscaled features and the residual; `None` if `pool` does not know
    /// the mean.
    fn forward(
        &self,
        x: &Tensor,
        pool: &mut Pool<'_>,
    ) -> candle_core::Result<Option<(Tensor, Tensor)>> {
        let up = self.up.forward(x)?;
        let residual = (x - self.down.forward(&up)?)?;
        let mut y = residual.clone();
        for _ in 0..REPEATS {
            y = self.conv.forward(&y)?;
        }
        let [squeeze, expand] = &self.attention;
        let Some(means) = pool(&y)? else {
            return Ok(None);
        };
        let means = means.unsqueeze(2)?.unsqueeze(3)?;
        let gains = sigmoid(&expand.forward(&squeeze.forward(&means)?)?)?;
        Ok(Some((up, (residual + y.broadcast_mul(&gains)?)?)))
    }
}

/// The blocks of one resolution, and the convolution that joins their outputs.
#[derive(Debug, Clone)]
struct Stage {
    factor: usize,
    blocks: usize,
    block: Block,
    compression: Conv,
}

impl Stage {
    fn new(
        vb: &VarBuilder,
        width: usize,
        (factor, blocks): (usize, usize),
    ) -> candle_core::Result<Self> {
        let compression = vb.pp(format!("channels_compression_{factor}x"));
        Ok(Self {
            factor,
            blocks,
            block: Block::new(&vb.pp(format!("residual_block_{factor}x")), width, factor)?,
            compression: conv(
                &compression,
                (blocks * width, width),
                KERNEL,
                Activation::None,
            )?,
        })
    }

    /// The joined features before their ReLU, and the residual; `None` if `pool`
    /// does not know a mean.
    fn forward(
        &self,
        x: &Tensor,
        chained: bool,
        pool: &mut Pool<'_>,
    ) -> candle_core::Result<Option<(Tensor, Tensor)>> {
        let weight = &self.compression.weight;
        let (outputs, inputs, ..) = weight.dims4()?;
        let part = inputs / self.blocks;
        if !chained {
            // All blocks have the same output: sum the kernels that join them.
            let shape = (outputs, self.blocks, part, KERNEL, KERNEL);
            let joined = Conv {
                weight: weight.reshape(shape)?.sum(1)?,
                ..self.compression.clone()
            };
            let Some((up, residual)) = self.block.forward(x, pool)? else {
                return Ok(None);
            };
            return Ok(Some((joined.forward(&up)?, residual)));
        }
        let (mut sum, mut residual): (Option<Tensor>, _) = (None, x.clone());
        for i in 0..self.blocks {
            let Some((up, next)) = self.block.forward(&residual, pool)? else {
                return Ok(None);
            };
            residual = next;
            let part = Conv {
                weight: weight.narrow(1, i * part, part)?,
                bias: self.compression.bias.clone().filter(|_| i == 0),
                spec: self.compression.spec,
            };
            let term = part.forward(&up)?;
            sum = Some(match sum {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        let sum =
            sum.ok_or_else(|| candle_core::Error::Msg("a stage without blocks".to_owned()))?;
        Ok(Some((sum, residual)))
    }
}

/// The network with its weights.
#[derive(Debug, Clone)]
pub struct Lapan {
    config: Config,
    scales: Scales,
    extractor: [Conv; 3],
    up: [Up; 2],
    down: Down,
    stages: Vec<Stage>,
    reconstruction: Conv,
}

impl Lapan {
    /// Reads (or, in training, creates) the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, a width that is not a
    /// multiple of 16.
    pub fn new(vb: &VarBuilder, config: &Config) -> Result<Self> {
        let width = config.width;
        if width == 0 || !width.is_multiple_of(SQUEEZE) {
            return Err(Error::Setting(format!(
                "the width of the 12-block network is a multiple of {SQUEEZE}, not {width}"
            ))
            .into());
        }
        let (planes, wide) = (Channels::Rgb.count(), EXPANSION * width);
        let relu = |name: &str, channels| conv(&vb.pp(name), channels, KERNEL, Activation::Relu);
        let stages = STAGES.iter().map(|&stage| Stage::new(vb, width, stage));
        Ok(Self {
            extractor: [
                relu("conv1", (planes, wide))?,
                relu("conv2", (wide, width))?,
                relu("conv3", (width, width))?,
            ],
            up: [
                Up::new(&vb.pp("upsample_8x"), width, 8)?,
                Up::new(&vb.pp("upsample_2x"), width, FACTOR)?,
            ],
            down: Down::new(&vb.pp("downsample_2x"), width, 2)?,
            stages: stages.collect::<candle_core::Result<_>>()?,
            reconstruction: conv(
                &vb.pp("reconstruction_layer"),
                (width, planes),
                KERNEL,
                Activation::None,
            )?,
            scales: Config::scales(),
            config: config.clone(),
        })
    }

    /// The forward pass, which reports intermediate tensors: `up_8x`, and
    /// `compressed_Nx` before its ReLU. For comparison with other
    /// implementations.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn trace(
        &self,
        x: &Tensor,
        show: impl FnMut(&str, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Tensor> {
        complete(self.run(x, &mut mean_of, show)?)
    }

    /// The forward pass, up to the first mean that `pool` does not know.
    fn run(
        &self,
        x: &Tensor,
        pool: &mut Pool<'_>,
        mut show: impl FnMut(&str, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Option<Tensor>> {
        let [first, second, third] = &self.extractor;
        let [up_8x, up_2x] = &self.up;
        let mut residual = third.forward(&second.forward(&first.forward(x)?)?)?;
        let mut sum = up_8x.forward(&residual)?;
        show("up_8x", &sum)?;
        for (i, stage) in self.stages.iter().enumerate() {
            if i > 0 {
                sum = self.down.forward(&sum)?;
            }
            let Some((joined, next)) = stage.forward(&residual, self.config.chained, pool)? else {
                return Ok(None);
            };
            show(&format!("compressed_{}x", stage.factor), &joined)?;
            sum = (joined.relu()? + sum)?;
            residual = next;
        }
        let y = (sum + up_2x.forward(&residual)?)?;
        let y = third.forward(&y)?;
        self.reconstruction.forward(&y).map(Some)
    }

    /// Number of distinct blocks of a stage.
    fn distinct(&self, blocks: usize) -> usize {
        if self.config.chained { blocks } else { 1 }
    }
}

impl Network for Lapan {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "the 12-block network")?;
        Ok(Box::new(self.clone()))
    }
}

impl ScaleNetwork for Lapan {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(FACTOR)
    }

    fn halo(&self) -> usize {
        // The feature extractor, the blocks in sequence, the last layers.
        3 + self.global_pools() * (2 + REPEATS) + 2
    }

    fn border(&self) -> Border {
        Border::Zero
    }

    fn macs(&self) -> u64 {
        let square = |factor: usize| (factor * factor) as u64;
        let stage = |stage: &Stage| {
            let Block { up, down, conv, .. } = &stage.block;
            let block = up.macs() + down.conv.macs() + REPEATS as u64 * conv.macs();
            let distinct = self.distinct(stage.blocks);
            let joined = stage.compression.macs() * distinct as u64 / stage.blocks as u64;
            distinct as u64 * block + square(stage.factor) * joined
        };
        let extractor: u64 = self.extractor.iter().map(Conv::macs).sum();
        let stages: u64 = self.stages.iter().map(stage).sum();
        let up: u64 = self.up.iter().map(Up::macs).sum();
        let smaller = self.stages.iter().skip(1).map(|stage| square(stage.factor));
        let down = smaller.sum::<u64>() * self.down.conv.macs();
        let last = self.extractor[2].macs() + self.reconstruction.macs();
        extractor + stages + up + down + square(FACTOR) * last
    }

    fn global_pools(&self) -> usize {
        STAGES
            .iter()
            .map(|&(_, blocks)| self.distinct(blocks))
            .sum()
    }

    fn working_set(&self) -> usize {
        // Features at eight times the size: the sum, upscaled and padded
        // features, joined features; for chained blocks also their partial sum.
        let maps = if self.config.chained { 5 } else { 4 };
        let [(largest, _), ..] = STAGES;
        maps * self.config.width * largest * largest
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
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let network = Lapan::new(&vb, &Config::default()).unwrap();
        assert!(network.for_scale(Scale::whole(3)).is_err());
        let data = map.data().lock().unwrap();
        let found: usize = data.values().map(|var| var.elem_count()).sum();
        assert_eq!(found, 7_956_379);
    }

    #[test]
    fn widths_that_attention_cannot_divide_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let config = Config {
            width: 20,
            ..Config::default()
        };
        let error = Lapan::new(&vb, &config).unwrap_err().to_string();
        assert!(error.contains("multiple of 16, not 20"), "{error}");
    }

    /// candle's operations with the parameters of the published code.
    #[test]
    fn layers_are_those_of_the_published_code() {
        let (map, width) = (VarMap::new(), SQUEEZE);
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let off = |a: &Tensor, b: &Tensor| {
            assert_eq!(a.dims(), b.dims());
            let off = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
            off.max(0).unwrap().to_scalar::<f32>().unwrap()
        };
        let bias = |bias: &Tensor| bias.reshape((1, width, 1, 1)).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, width, 5, 3), &Device::Cpu).unwrap();
        for factor in [2, 4, 8] {
            let up = Up::new(&vb.pp(format!("up{factor}")), width, factor).unwrap();
            let expected = x.conv_transpose2d(&up.weight, 1, 0, factor, 1).unwrap();
            let expected = expected.broadcast_add(&bias(&up.bias)).unwrap();
            let large = up.forward(&x).unwrap();
            assert!(off(&large, &expected) < 1e-5, "{factor}");

            let down = Down::new(&vb.pp(format!("down{factor}")), width, factor).unwrap();
            let weight = &down.conv.weight;
            let expected = large.conv2d(weight, KERNEL / 2, factor, 1, 1).unwrap();
            let expected = expected.broadcast_add(&bias(down.conv.bias.as_ref().unwrap()));
            let small = down.forward(&large).unwrap();
            assert!(off(&small, &expected.unwrap()) < 1e-5, "{factor}");
        }
    }

    #[test]
    fn training_starts_close_to_bilinear_upscaling() {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let config = Config {
            width: 32,
            chained: true,
        };
        let network = Lapan::new(&vb, &config).unwrap();
        for (name, var) in map.data().lock().unwrap().iter() {
            let mut values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let changed = config.identity_init(name, &mut values);
            assert_eq!(
                changed,
                !name.contains("fc") && !name.ends_with("upsample.weight")
            );
            let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
            var.set(&values).unwrap();
        }
        let x = crate::models::ramps::image();
        let expected = ops::upsample_bilinear2d(&x, FACTOR).unwrap();
        let error = (network.forward(&x).unwrap() - expected)
            .unwrap()
            .abs()
            .unwrap();
        let error = error.narrow(2, 16, 16).unwrap().narrow(3, 16, 16).unwrap();
        let error = error.mean_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 0.1, "{error}");
    }

    /// The first block of a stage has the same input either way, the others do not.
    #[test]
    fn chained_blocks_take_the_residual() {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let width = SQUEEZE;
        let stage = |blocks| Stage::new(&vb.pp(format!("s{blocks}")), width, (2, blocks)).unwrap();
        let x = Tensor::randn(0f32, 1.0, (1, width, 5, 4), &Device::Cpu).unwrap();
        for (blocks, same) in [(1, true), (2, false)] {
            let stage = stage(blocks);
            let [as_coded, chained] = [false, true].map(|chained| {
                let (joined, _) = stage.forward(&x, chained, &mut mean_of).unwrap().unwrap();
                joined.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            });
            let off = as_coded.iter().zip(&chained).map(|(a, b)| (a - b).abs());
            assert_eq!(off.fold(0.0, f32::max) < 1e-5, same);
        }
    }
}
