//! ArtCNN: residual blocks of three convolutions at the input's resolution, and a pixel
//! shuffle.
//!
//! João Chrisóstomo, `Artoriuz/ArtCNN`, in the form for PyTorch of `umzi2/ArtCNN-PyTorch`
//! (the R networks), with its parameter names. The published C networks are graphs in ONNX.

use crate::models::detect::{Detected, kernels, shuffle_factor};
use crate::models::graph::{Builder, Form, Graph, Op};
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes, single_scale};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The largest factor: the last layer's channels grow by its square.
const MAX_FACTOR: u32 = 8;

/// Configuration of an ArtCNN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Number of residual blocks.
    pub blocks: usize,
    /// Size of the kernels.
    pub kernel: usize,
    /// The planes in and out.
    pub channels: Channels,
}

impl Default for Config {
    /// R8F64.
    fn default() -> Self {
        Self {
            width: 64,
            blocks: 8,
            kernel: 3,
            channels: Channels::Luma,
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
    let [width, planes, kernel, _] = shape("conv0.weight")?;
    let [outputs, ..] = shape("depth_to_space.upscale.0.weight")?;
    let block = |i: &usize| shape(&format!("res_block.{i}.conv.0.0.weight")).is_some();
    let blocks = (0..).take_while(block).count();
    shape(&format!("res_block.{blocks}.weight"))?;
    let factor = shuffle_factor(outputs, planes, MAX_FACTOR)?;
    Some(Detected {
        config: Config {
            width,
            blocks,
            kernel,
            channels: Channels::from_count(planes)?,
        },
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// The network for the one scale of `scales`.
fn build(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Graph> {
    let scale = single_scale(scales, "an ArtCNN")?;
    let known = scale.den() == 1 && (1..=MAX_FACTOR).contains(&scale.num());
    if !known || config.kernel.is_multiple_of(2) {
        return Err(Error::Setting(format!(
            "an ArtCNN upscales by 1 to {MAX_FACTOR} with kernels of odd sides, not by {scale} \
             with {}",
            config.kernel
        ))
        .into());
    }
    let form = Form::sized(config.kernel);
    let (width, factor) = (config.width, scale.num() as usize);
    let mut b = Builder::new(vb, config.channels);
    let input = b.input();
    let first = b.conv_of(&input, "conv0", width, form)?;
    let mut x = first.clone();
    for block in 0..config.blocks {
        let name = format!("res_block.{block}.conv");
        let y = b.conv_of(&x, &format!("{name}.0.0"), width, form)?;
        let y = b.map(Op::Relu, &y);
        let y = b.conv_of(&y, &format!("{name}.1.0"), width, form)?;
        let y = b.map(Op::Relu, &y);
        let y = b.conv_of(&y, &format!("{name}.2"), width, form)?;
        x = b.add(&y, &x);
    }
    let y = b.conv_of(&x, &format!("res_block.{}", config.blocks), width, form)?;
    let x = b.add(&y, &first);
    let outputs = config.channels.count() * factor * factor;
    let y = b.conv_of(&x, "depth_to_space.upscale.0", outputs, form)?;
    let y = match factor {
        1 => y,
        _ => b.shuffle(&y, factor),
    };
    b.finish(&y)
}
