//! SPAN and SPANPlus: blocks of three convolutions whose output is weighted by an odd
//! function of itself, and a pixel shuffle.
//!
//! Cheng Wan et al., "Swift Parameter-free Attention Network for Efficient
//! Super-Resolution", CVPR workshops 2024, <https://arxiv.org/abs/2311.12770>,
//! `hongyuanyu/SPAN`, with its parameter names, and SPANPlus, `umzi2/SPANPlus`.
//!
//! A convolution is trained as two branches, of three convolutions (`conv.0` to
//! `conv.2`) and of one (`sk`), which are merged here.

use crate::models::detect::{Detected, kernels, shuffle_factor};
use crate::models::graph::{Builder, Form, Graph, Op, Value};
use crate::models::hdsrnet::DIV2K_MEAN;
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes, single_scale};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The largest factor: the last layer's channels grow by its square.
const MAX_FACTOR: u32 = 8;

/// Channels inside a convolution in training, for each of its own.
const GAIN: usize = 2;

/// Largest sample value inside a normalised SPAN.
const RANGE: f32 = 255.0;

/// Blocks of a SPAN.
const BLOCKS: usize = 6;

/// Configuration of a SPAN or a SPANPlus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Of SPANPlus, the number of blocks between the first and the last one of each
    /// group; `None`: SPAN.
    pub groups: Option<Vec<usize>>,
    /// Whether a SPAN takes the mean of DIV2K from its input.
    pub norm: bool,
    /// Whether the file has only the merged convolutions (`eval_conv`).
    pub merged: bool,
    /// The planes in and out.
    pub channels: Channels,
}

impl Default for Config {
    /// The published SPAN with 48 channels.
    fn default() -> Self {
        Self {
            width: 48,
            groups: None,
            norm: true,
            merged: false,
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

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| kernels(shapes, name);
    let (first, groups) = match shape("block_1.c1_r.eval_conv.weight") {
        Some(_) => ("conv_1", None),
        None => {
            let count = |name: &dyn Fn(usize) -> String, from: usize| {
                let there = |i: &usize| shapes.contains_key(&name(*i));
                (from..).take_while(there).count()
            };
            let groups = count(&|i| format!("feats.{i}.block_1.c1_r.eval_conv.weight"), 1);
            let blocks = |group: usize| {
                let name = |i| format!("feats.{group}.block_n.{i}.c1_r.eval_conv.weight");
                count(&name, 0)
            };
            shape("feats.1.block_end.c1_r.eval_conv.weight")?;
            ("feats.0", Some((1..=groups).map(blocks).collect()))
        }
    };
    let [width, planes, ..] = shape(&format!("{first}.eval_conv.weight"))?;
    let [outputs, ..] = shape("upsampler.0.weight")?;
    let factor = shuffle_factor(outputs, planes, MAX_FACTOR)?;
    Some(Detected {
        config: Config {
            width,
            norm: groups.is_none() && !shapes.contains_key("no_norm") && planes == 3,
            groups,
            merged: !shapes.contains_key(&format!("{first}.sk.weight")),
            channels: Channels::from_count(planes)?,
        },
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// The network for the one scale of `scales`.
fn build(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Graph> {
    let scale = single_scale(scales, "a SPAN")?;
    if scale.den() != 1 || !(1..=MAX_FACTOR).contains(&scale.num()) {
        let problem = format!("a SPAN upscales by 1 to {MAX_FACTOR}, not by {scale}");
        return Err(Error::Setting(problem).into());
    }
    let mut net = Span {
        b: Builder::new(vb, config.channels),
        vb,
        config,
    };
    let mut x = net.b.input();
    if config.norm {
        x = net.b.plus(&x, &DIV2K_MEAN.map(|mean| -mean))?;
        x = net.b.times(&x, RANGE)?;
    }
    let features = match &config.groups {
        None => net.span(&x)?,
        Some(groups) => net.span_plus(&x, groups)?,
    };
    let factor = scale.num() as usize;
    let outputs = config.channels.count() * factor * factor;
    let y = net.b.conv(&features, "upsampler.0", outputs)?;
    let y = match factor {
        1 => y,
        _ => net.b.shuffle(&y, factor),
    };
    net.b.finish(&y)
}

struct Span<'a> {
    b: Builder<'a>,
    vb: &'a VarBuilder<'a>,
    config: &'a Config,
}

impl Span<'_> {
    fn span(&mut self, x: &Value) -> Result<Value> {
        let first = self.conv(x, "conv_1", self.config.channels.count())?;
        let (mut x, mut inner) = (first.clone(), first.clone());
        let mut after_first = None;
        for block in 1..=BLOCKS {
            (x, inner) = self.block(&x, &format!("block_{block}"), Op::Sigmoid)?;
            after_first.get_or_insert_with(|| x.clone());
        }
        let last = self.conv(&x, "conv_2", self.config.width)?;
        let second = after_first.unwrap_or(x);
        self.joined("conv_cat", [&first, &last, &second, &inner])
    }

    fn span_plus(&mut self, x: &Value, groups: &[usize]) -> Result<Value> {
        let mut x = self.conv(x, "feats.0", self.config.channels.count())?;
        for (i, blocks) in groups.iter().enumerate() {
            let name = format!("feats.{}", i + 1);
            let (first, _) = self.block(&x, &format!("{name}.block_1"), Op::Mish)?;
            let mut y = first.clone();
            for block in 0..*blocks {
                (y, _) = self.block(&y, &format!("{name}.block_n.{block}"), Op::Mish)?;
            }
            let (end, inner) = self.block(&y, &format!("{name}.block_end"), Op::Mish)?;
            let last = self.conv(&end, &format!("{name}.conv_2"), self.config.width)?;
            x = self.joined(&format!("{name}.conv_cat"), [&x, &last, &first, &inner])?;
        }
        Ok(x)
    }

    fn joined(&mut self, name: &str, values: [&Value; 4]) -> Result<Value> {
        let all = self.b.concat(&values);
        let form = Form::sized(1);
        self.b.conv_of(&all, name, self.config.width, form)
    }

    /// A block's output and that of its first convolution, after the activation: the
    /// published code activates in place what it hands on. `activation` is Mish, or the
    /// sigmoid of SiLU.
    fn block(&mut self, x: &Value, name: &str, activation: Op) -> Result<(Value, Value)> {
        let width = self.config.width;
        let active = |b: &mut Builder, x: &Value| {
            let y = b.map(activation.clone(), x);
            match activation {
                Op::Sigmoid => b.pair(Op::Mul, x, &y),
                _ => y,
            }
        };
        let y = self.conv(x, &format!("{name}.c1_r"), width)?;
        let inner = active(&mut self.b, &y);
        let y = self.conv(&inner, &format!("{name}.c2_r"), width)?;
        let y = active(&mut self.b, &y);
        let y = self.conv(&y, &format!("{name}.c3_r"), width)?;
        let attention = self.b.map(Op::Sigmoid, &y);
        let attention = self.b.plus(&attention, &[-0.5])?;
        let y = self.b.add(&y, x);
        Ok((self.b.pair(Op::Mul, &y, &attention), inner))
    }

    /// A convolution from `inputs` channels.
    fn conv(&mut self, x: &Value, name: &str, inputs: usize) -> Result<Value> {
        let width = self.config.width;
        if self.config.merged {
            return self.b.conv(x, &format!("{name}.eval_conv"), width);
        }
        let (weight, bias) = merged(&self.vb.pp(name), inputs, width)?;
        self.b.conv_with(x, weight, bias)
    }
}

/// The one convolution that both branches are.
fn merged(vb: &VarBuilder, inputs: usize, outputs: usize) -> Result<(Tensor, Tensor)> {
    let of = |name: &str, outputs: usize, inputs: usize, kernel: usize| {
        let vb = vb.pp(name);
        let weight = vb.get((outputs, inputs, kernel, kernel), "weight")?;
        // Taps first, then matrices of outputs and inputs.
        let weight = weight.permute((2, 3, 0, 1))?.contiguous()?;
        let weight = weight.reshape((kernel * kernel, outputs, inputs))?;
        let bias = vb.get(outputs, "bias")?.reshape((outputs, 1))?;
        Ok::<_, candle_core::Error>((weight, bias))
    };
    let (wide_in, wide_out) = (GAIN * inputs, GAIN * outputs);
    let (first, first_bias) = of("conv.0", wide_in, inputs, 1)?;
    let (second, second_bias) = of("conv.1", wide_out, wide_in, 3)?;
    let (third, third_bias) = of("conv.2", outputs, wide_out, 1)?;
    let (skip, skip_bias) = of("sk", outputs, inputs, 1)?;
    let taps = third.broadcast_matmul(&second)?.broadcast_matmul(&first)?;
    let centre = skip.pad_with_zeros(0, 4, 4)?;
    let weight = (taps + centre)?
        .reshape((3, 3, outputs, inputs))?
        .permute((2, 3, 0, 1))?
        .contiguous()?;
    let bias = (second.sum(0)?.matmul(&first_bias)? + second_bias)?;
    let bias = ((third.squeeze(0)?.matmul(&bias)? + third_bias)? + skip_bias)?;
    Ok((weight, bias.flatten_all()?))
}
