//! DRCT: groups of Swin transformer blocks with dense connections, at the
//! input's resolution, then pixel shuffles.
//!
//! Chih-Chung Hsu, Chia-Ming Lee, Yi-Shiuan Chou, "DRCT: Saving Image
//! Super-resolution away from Information Bottleneck", CVPR workshops 2024,
//! <https://arxiv.org/abs/2404.00722>; `ming053l/DRCT`, with its parameter names.
//! Real-DRCT is the same network, trained on degraded images.
//!
//! Windows lie on a grid that starts at the image's corner, and every group
//! widens the receptive field by a window: the network runs on whole frames.
//! Images are padded by reflection to multiples of the window's size, as in the
//! published test code.

use crate::models::detect::Detected;
use crate::models::hdsrnet::DIV2K_MEAN;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Shapes,
    Upsampling, single_scale, upsampling,
};

use crate::nn::{
    Conv, LayerNorm, Linear, WindowAttention, WindowSpec, leaky_relu, pytorch_uniform,
};
use crate::ops::{Border, ConvSpec, gelu};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::{VarBuilder, ops::pixel_shuffle};
use serde::{Deserialize, Serialize};

/// The supported scales and their pixel shuffles.
const FACTORS: [(u32, &[usize]); 3] = [(2, &[2]), (3, &[3]), (4, &[2, 2])];

/// Size of the kernels.
const KERNEL: usize = 3;

/// Channels before the pixel shuffles.
const FEATURES: usize = 64;

/// Swin blocks of a group.
const BLOCKS: usize = 5;

/// Largest size of a window: its masks grow with the fourth power.
const MAX_WINDOW: usize = 64;

/// Leaky ReLU slope between the blocks of a group.
const DENSE_SLOPE: f64 = 0.2;

/// Leaky ReLU slope before the pixel shuffles.
const FEATURES_SLOPE: f64 = 0.01;

/// Residual scaling of a group.
const RESIDUAL: f64 = 0.2;

/// Factor of the initial weights that add to the image.
const RESIDUAL_INIT: f32 = 0.1;

/// Configuration of a DRCT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the groups.
    pub width: usize,
    /// Number of groups.
    pub groups: usize,
    /// Heads of a group's first block; the others have the largest number below
    /// it that suits their channels.
    pub heads: usize,
    /// Size of a window.
    pub window: usize,
    /// Channels that each block of a group adds.
    pub growth: usize,
    /// Expansion of the MLPs in a group's first three blocks.
    pub mlp_ratio: usize,
}

impl Default for Config {
    /// DRCT: 13,991,867, 14,176,507 and 14,139,579 weights at x2, x3, x4.
    fn default() -> Self {
        Self {
            width: 180,
            groups: 6,
            heads: 6,
            window: 16,
            growth: 32,
            mlp_ratio: 2,
        }
    }
}

impl Config {
    /// DRCT-L: 27,433,007, 27,617,647 and 27,580,719 weights.
    pub fn large() -> Self {
        Self {
            groups: 12,
            ..Self::default()
        }
    }

    fn check(&self) -> crate::Result<()> {
        let fits = (0..BLOCKS).all(|block| self.plan(block).is_some());
        if fits && (2..=MAX_WINDOW).contains(&self.window) && self.growth > 0 {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "the heads of a DRCT divide its channels, and its windows have sides of 2 to \
             {MAX_WINDOW}: {self:?}"
        )))
    }

    /// Changes the initial values of a parameter so that training starts close to
    /// bilinear upscaling: the first three channels carry R, G and B (before the leaky
    /// ReLU the first six, with their negatives), and the other weights of these layers
    /// add little to them. Returns whether it changed them.
    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        let (planes, area) = (Channels::Rgb.count(), KERNEL * KERNEL);
        let Some((layer, kind)) = name.rsplit_once('.') else {
            return false;
        };
        let shuffled = layer.starts_with("upsample.");
        // Inputs, and the features that carry the image, each by as many outputs as samples of a shuffle.
        let (inputs, carrying) = match layer {
            "conv_first" => (planes, planes),
            "conv_after_body" => (self.width, 0),
            "conv_before_upsample.0" => (self.width, 2 * planes),
            "conv_last" => (FEATURES, planes),
            _ if shuffled => (FEATURES, planes),
            _ => return false,
        };
        if self.width < planes || FEATURES < 2 * planes {
            return false;
        }
        let outputs = match kind {
            "weight" => values.len() / (inputs * area),
            _ => values.len(),
        };
        let factor = match shuffled {
            true => (outputs / FEATURES).isqrt(),
            false => 1,
        };
        let samples = factor * factor;
        if layer == "conv_after_body" {
            values.iter_mut().for_each(|value| *value *= RESIDUAL_INIT);
            return true;
        }
        if kind == "bias" {
            values[..carrying * samples].fill(0.0);
            return true;
        }
        // The features behind the leaky ReLU come with their negatives.
        let signed = layer == "upsample.0";
        let share = if signed {
            1.0 / (1.0 + FEATURES_SLOPE as f32)
        } else {
            1.0
        };
        let filters = values
            .chunks_exact_mut(inputs * area)
            .take(carrying * samples);
        for (output, filter) in filters.enumerate() {
            let (feature, sample) = (output / samples, output % samples);
            let (plane, sign) = (feature % planes, if feature < planes { 1.0 } else { -1.0 });
            filter.iter_mut().for_each(|value| *value *= RESIDUAL_INIT);
            let [down, across] = [sample / factor, sample % factor].map(|i| bilinear(i, factor));
            let mut carry = |from: usize, sign: f32| {
                for (i, tap) in filter[from * area..][..area].iter_mut().enumerate() {
                    *tap = sign * share * down[i / KERNEL] * across[i % KERNEL];
                }
            };
            carry(plane, sign);
            if signed {
                carry(planes + plane, -sign);
            }
        }
        true
    }

    /// Sizes of a group's block; `None` if the heads do not divide the channels.
    fn plan(&self, block: usize) -> Option<BlockPlan> {
        let width = self.width + block * self.growth;
        let rest = width.checked_rem(self.heads)?;
        let heads = self.heads - rest;
        let spec = WindowSpec {
            width,
            heads,
            window: self.window,
            shift: if block % 2 == 1 { self.window / 2 } else { 0 },
        };
        let last = block + 1 == BLOCKS;
        (width > 0 && width.is_multiple_of(heads)).then_some(BlockPlan {
            spec,
            // The last two blocks have narrow MLPs.
            hidden: if block < 3 {
                self.mlp_ratio * width
            } else {
                width
            },
            outputs: if last { self.width } else { self.growth },
        })
    }
}

/// Bilinear weights of the previous, the current and the next sample for sample `i` of
/// the `factor` that take the place of one.
fn bilinear(i: usize, factor: usize) -> [f32; KERNEL] {
    let place = (i as f32 + 0.5) / factor as f32 - 0.5;
    [(-place).max(0.0), 1.0 - place.abs(), place.max(0.0)]
}

/// Sizes of a Swin block and of the 1x1 convolution after it.
struct BlockPlan {
    spec: WindowSpec,
    hidden: usize,
    outputs: usize,
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Drct::new(vb, self, &scales)?))
    }

    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        Self::identity_init(self, name, values)
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| shapes.get(name).map(Vec::as_slice);
    let &[width, 3, KERNEL, KERNEL] = shape("conv_first.weight")? else {
        return None;
    };
    let &[offsets, heads] = shape("layers.0.swin1.attn.relative_position_bias_table")? else {
        return None;
    };
    let group = |i: &usize| shape(&format!("layers.{i}.adjust5.weight")).is_some();
    let config = Config {
        width,
        groups: (0..).take_while(group).count(),
        heads,
        window: offsets.isqrt().div_ceil(2),
        growth: *shape("layers.0.adjust1.weight")?.first()?,
        mlp_ratio: shape("layers.0.swin1.mlp.fc1.weight")?.first()? / width.max(1),
    };
    let &[outputs, ..] = shape("upsample.0.weight")? else {
        return None;
    };
    let steps = 1 + usize::from(shape("upsample.2.weight").is_some());
    let (factor, _) = FACTORS.into_iter().find(|(_, shuffles)| {
        shuffles.len() == steps && outputs == FEATURES * shuffles[0].pow(2)
    })?;
    // Index and mask of the windows are computed from their size.
    let is_weight = |name: &&String| {
        !name.ends_with(".relative_position_index") && !name.ends_with(".attn_mask")
    };
    let weights = shapes.keys().filter(is_weight);
    Some(Detected {
        config,
        renames: weights.map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// A Swin block: window attention, then an MLP.
#[derive(Debug, Clone)]
struct SwinBlock {
    norms: [LayerNorm; 2],
    attention: WindowAttention,
    mlp: [Linear; 2],
}

impl SwinBlock {
    fn new(vb: &VarBuilder, plan: &BlockPlan) -> candle_core::Result<Self> {
        let width = plan.spec.width;
        let mlp = vb.pp("mlp");
        Ok(Self {
            norms: [
                LayerNorm::new(&vb.pp("norm1"), width)?,
                LayerNorm::new(&vb.pp("norm2"), width)?,
            ],
            attention: WindowAttention::new(&vb.pp("attn"), plan.spec)?,
            mlp: [
                Linear::new(&mlp.pp("fc1"), width, plan.hidden)?,
                Linear::new(&mlp.pp("fc2"), plan.hidden, width)?,
            ],
        })
    }

    /// (N, H, W, C) in and out.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let [before_attention, before_mlp] = &self.norms;
        let x = (x + self.attention.forward(&before_attention.forward(x)?)?)?;
        let [widen, narrow] = &self.mlp;
        let hidden = gelu(&widen.forward(&before_mlp.forward(&x)?)?)?;
        x + narrow.forward(&hidden)?
    }
}

/// Five densely connected Swin blocks.
#[derive(Debug, Clone)]
struct Group {
    blocks: Vec<(SwinBlock, Linear)>,
}

impl Group {
    fn new(vb: &VarBuilder, config: &Config) -> Result<Self> {
        let blocks = (0..BLOCKS).filter_map(|i| Some((i + 1, config.plan(i)?)));
        let blocks = blocks.map(|(i, plan)| {
            let adjust = vb.pp(format!("adjust{i}"));
            let width = plan.spec.width;
            Ok((
                SwinBlock::new(&vb.pp(format!("swin{i}")), &plan)?,
                Linear::pointwise(&adjust, width, plan.outputs)?,
            ))
        });
        Ok(Self {
            blocks: blocks.collect::<candle_core::Result<_>>()?,
        })
    }

    /// (N, H, W, C) in and out.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut dense = x.clone();
        for (i, (block, adjust)) in self.blocks.iter().enumerate() {
            let output = adjust.forward(&block.forward(&dense)?)?;
            if i + 1 == self.blocks.len() {
                return (output * RESIDUAL)? + x;
            }
            let last = dense.rank() - 1;
            dense = Tensor::cat(&[&dense, &leaky_relu(&output, DENSE_SLOPE)?], last)?;
        }
        Ok(dense)
    }
}

/// A DRCT with its weights, for one scale.
#[derive(Debug, Clone)]
pub struct Drct {
    config: Config,
    scales: Scales,
    factor: usize,
    /// (1, 3, 1, 1), subtracted from samples 0 to 1.
    mean: Tensor,
    first: Conv,
    /// Before the first group and after the last one.
    norms: [LayerNorm; 2],
    groups: Vec<Group>,
    after_body: Conv,
    before_upsample: Conv,
    /// Convolutions, each with the factor of its pixel shuffle.
    upsample: Vec<(Conv, usize)>,
    last: Conv,
}

impl Drct {
    /// Reads (or, in training, creates) the weights for the one scale of `scales`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, sizes that do not fit
    /// each other, a scale other than 2, 3 or 4.
    pub fn new(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Self> {
        config.check()?;
        let scale = single_scale(scales, "a DRCT")?;
        let known = FACTORS.iter().find(|(f, _)| Scale::whole(*f) == scale);
        let Some((factor, shuffles)) = known else {
            let problem = format!("a DRCT upscales by 2, 3 or 4, not by {scale}");
            return Err(Error::Setting(problem).into());
        };
        let (width, planes) = (config.width, Channels::Rgb.count());
        let conv = |name: &str, channels| conv(&vb.pp(name), channels);
        let upsample = shuffles.iter().enumerate().map(|(i, &shuffle)| {
            let outputs = FEATURES * shuffle * shuffle;
            let conv = conv(&format!("upsample.{}", 2 * i), (FEATURES, outputs))?;
            Ok((conv, shuffle))
        });
        let groups = (0..config.groups).map(|i| Group::new(&vb.pp(format!("layers.{i}")), config));
        Ok(Self {
            mean: Tensor::new(&DIV2K_MEAN, vb.device())?.reshape((1, planes, 1, 1))?,
            first: conv("conv_first", (planes, width))?,
            norms: [
                LayerNorm::new(&vb.pp("patch_embed.norm"), width)?,
                LayerNorm::new(&vb.pp("norm"), width)?,
            ],
            groups: groups.collect::<Result<_>>()?,
            after_body: conv("conv_after_body", (width, width))?,
            before_upsample: conv("conv_before_upsample.0", (width, FEATURES))?,
            upsample: upsample.collect::<candle_core::Result<_>>()?,
            last: conv("conv_last", (FEATURES, planes))?,
            factor: *factor as usize,
            scales: Scales::list([scale]),
            config: config.clone(),
        })
    }

    /// The forward pass, which reports intermediate tensors: `groupN`
    /// (N, H, W, C) and `body`, the output of the body's last convolution. For
    /// comparison with other implementations.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn trace(
        &self,
        x: &Tensor,
        mut show: impl FnMut(&str, &Tensor) -> candle_core::Result<()>,
    ) -> candle_core::Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let x = reflect_pad(x, self.config.window)?.broadcast_sub(&self.mean)?;
        let shallow = self.first.forward(&x)?;
        let [before, after] = &self.norms;
        let mut tokens = before.forward(&shallow.permute((0, 2, 3, 1))?.contiguous()?)?;
        for (i, group) in self.groups.iter().enumerate() {
            tokens = group.forward(&tokens)?;
            show(&format!("group{i}"), &tokens)?;
        }
        let deep = after.forward(&tokens)?.permute((0, 3, 1, 2))?;
        let deep = self.after_body.forward(&deep.contiguous()?)?;
        show("body", &deep)?;
        let y = self.before_upsample.forward(&(deep + shallow)?)?;
        let mut y = leaky_relu(&y, FEATURES_SLOPE)?;
        for (conv, shuffle) in &self.upsample {
            y = pixel_shuffle(&conv.forward(&y)?, *shuffle)?;
        }
        let y = self.last.forward(&y)?.broadcast_add(&self.mean)?;
        y.narrow(2, 0, height * self.factor)?
            .narrow(3, 0, width * self.factor)
    }
}

fn conv(vb: &VarBuilder, (inputs, outputs): (usize, usize)) -> candle_core::Result<Conv> {
    let init = pytorch_uniform(inputs * KERNEL * KERNEL);
    Ok(Conv {
        weight: vb.get_with_hints((outputs, inputs, KERNEL, KERNEL), "weight", init)?,
        bias: Some(vb.get_with_hints(outputs, "bias", init)?),
        spec: ConvSpec::default(),
    })
}

/// Pads (N, C, H, W) by reflection to the right and bottom, to multiples of
/// `window`.
fn reflect_pad(x: &Tensor, window: usize) -> candle_core::Result<Tensor> {
    let mut x = x.clone();
    for dim in [2, 3] {
        let len = x.dim(dim)?;
        let padded = len.next_multiple_of(window);
        if padded > len {
            // The edge itself is not repeated.
            let period = (2 * len).saturating_sub(2).max(1);
            let index = (0..padded).map(|i| (i % period).min(period - i % period) as u32);
            let index = index.map(|i| i.min(len as u32 - 1));
            x = x.index_select(&Tensor::from_iter(index, x.device())?, dim)?;
        }
    }
    Ok(x)
}

impl Network for Drct {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "this DRCT")?;
        Ok(Box::new(self.clone()))
    }
}

impl ScaleNetwork for Drct {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(self.factor)
    }

    fn halo(&self) -> usize {
        // One window for each attention block, and the convolutions.
        BLOCKS * self.config.groups * self.config.window + self.upsample.len() + 4
    }

    fn border(&self) -> Border {
        Border::Zero
    }

    fn macs(&self) -> u64 {
        let block = |(block, adjust): &(SwinBlock, Linear)| {
            let [widen, narrow] = &block.mlp;
            block.attention.macs() + widen.macs() + narrow.macs() + adjust.macs()
        };
        let blocks = self.groups.iter().flat_map(|group| &group.blocks);
        let convs = self.first.macs() + self.after_body.macs() + self.before_upsample.macs();
        let (up, area) = upsampling(&self.upsample);
        convs + blocks.map(block).sum::<u64>() + up + area * self.last.macs()
    }

    fn whole_frame(&self) -> bool {
        true
    }

    fn working_set(&self) -> usize {
        let widest = self.config.width + (BLOCKS - 1) * self.config.growth;
        // The dense features, their norm, queries, keys and values, and their
        // copies in window order; at the end, input and output of a shuffle.
        let body = 10 * widest + 2 * self.config.width;
        body.max(FEATURES * (2 * self.factor * self.factor + 2))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.trace(x, |_, _| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (config, scale, count) in [
            (Config::default(), 2, 13_991_867),
            (Config::default(), 3, 14_176_507),
            (Config::default(), 4, 14_139_579),
            (Config::large(), 4, 27_580_719),
        ] {
            let map = VarMap::new();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
            Drct::new(&vb, &config, &Scales::list([Scale::whole(scale)])).unwrap();
            let data = map.data().lock().unwrap();
            let found: usize = data.values().map(|var| var.elem_count()).sum();
            assert_eq!(found, count);
        }
    }

    #[test]
    fn training_starts_close_to_bilinear_upscaling() {
        for factor in [2, 3, 4] {
            let config = Config {
                width: 16,
                groups: 1,
                heads: 4,
                window: 8,
                growth: 8,
                mlp_ratio: 1,
            };
            let map = VarMap::new();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
            let scales = Scales::list([Scale::whole(factor)]);
            let network = Drct::new(&vb, &config, &scales).unwrap();
            let before = error(&network, factor);
            for (name, var) in map.data().lock().unwrap().iter() {
                let mut values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let changed = config.identity_init(name, &mut values);
                let convolves = name.starts_with("conv") || name.starts_with("upsample");
                assert_eq!(changed, convolves, "{name}");
                let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
                var.set(&values).unwrap();
            }
            let after = error(&network, factor);
            assert!(
                after < 0.1 && after < before / 2.0,
                "x{factor}: {before} {after}"
            );
        }
    }

    /// Mean difference from bilinear upscaling.
    fn error(network: &Drct, factor: u32) -> f32 {
        let x = crate::models::ramps::image();
        let expected = crate::ops::upsample_bilinear2d(&x, factor as usize).unwrap();
        let error = (network.forward(&x).unwrap() - expected).unwrap();
        error
            .abs()
            .unwrap()
            .mean_all()
            .unwrap()
            .to_scalar()
            .unwrap()
    }

    #[test]
    fn other_scales_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let config = Config::default();
        let build = |scale| Drct::new(&vb, &config, &Scales::list([Scale::whole(scale)]));
        let error = build(8).unwrap_err().to_string();
        assert!(error.contains("2, 3 or 4, not by 8"), "{error}");
        assert!(build(2).unwrap().for_scale(Scale::whole(4)).is_err());
    }
}
