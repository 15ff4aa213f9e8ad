//! EDSR: residual blocks without normalisation at the input's resolution, then pixel
//! shuffles.
//!
//! Bee Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution",
//! CVPR workshops 2017, <https://arxiv.org/abs/1707.02921>, `sanghyun-son/EDSR-PyTorch`,
//! with its parameter names; those of BasicSR (`conv_first`, `body.0.conv1`) are
//! supported too. Both take RGB of 0 to 255 less the mean of DIV2K.

use crate::models::detect::{Detected, kernels};
use crate::models::graph::{Builder, Graph, Op};
use crate::models::hdsrnet::DIV2K_MEAN;
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes, single_scale};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The supported scales and their pixel shuffles.
const FACTORS: [(u32, &[usize]); 4] = [(2, &[2]), (3, &[3]), (4, &[2, 2]), (8, &[2, 2, 2])];

/// Largest sample value inside the network.
const RANGE: f32 = 255.0;

/// Channels of the large EDSR, whose residuals are scaled by [`LARGE_RESIDUAL`]; those of
/// others by 1.
const LARGE: usize = 256;

/// Residual scaling of the large EDSR.
const LARGE_RESIDUAL: f32 = 0.1;

/// Configuration of an EDSR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Number of residual blocks.
    pub blocks: usize,
}

impl Default for Config {
    /// The baseline: 1,367,553 weights at x2.
    fn default() -> Self {
        Self {
            width: 64,
            blocks: 16,
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(build(vb, self, &scales)?))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// The native name of a tensor.
fn native(name: &str, blocks: usize) -> String {
    let (layer, part) = name.rsplit_once('.').unwrap_or((name, ""));
    let layer = match layer {
        "conv_first" => "head.0".to_owned(),
        "conv_after_body" => format!("body.{blocks}"),
        "conv_last" => "tail.1".to_owned(),
        _ => match layer.strip_prefix("upsample.") {
            Some(place) => format!("tail.0.{place}"),
            None => layer
                .replace(".conv1", ".body.0")
                .replace(".conv2", ".body.2"),
        },
    };
    format!("{layer}.{part}")
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let block = |i: &usize| {
        let names = ["body.2", "conv2"].map(|layer| format!("body.{i}.{layer}.weight"));
        names.iter().any(|name| shapes.contains_key(name))
    };
    let blocks = (0..).take_while(block).count();
    // The mean shift is constant, not a weight.
    let learnt = shapes.keys().filter(|name| !name.contains("_mean."));
    let renames: Vec<(String, String)> = learnt
        .map(|name| (name.clone(), native(name, blocks)))
        .collect();
    let shape = |native: &str| {
        let (theirs, _) = renames.iter().find(|(_, ours)| ours == native)?;
        kernels(shapes, theirs)
    };
    let [width, 3, 3, 3] = shape("head.0.weight")? else {
        return None;
    };
    let [3, ..] = shape("tail.1.weight")? else {
        return None;
    };
    let (factor, layers) = FACTORS.into_iter().find(|(_, shuffles)| {
        let outputs = |i: usize| shape(&format!("tail.0.{}.weight", 2 * i)).map(|shape| shape[0]);
        let same = |(i, block): (usize, &usize)| outputs(i) == Some(width * block * block);
        shuffles.iter().enumerate().all(same) && outputs(shuffles.len()).is_none()
    })?;
    // Each with weight and bias.
    let is_all = renames.len() == 2 * (2 * blocks + layers.len() + 3);
    (blocks > 0 && is_all).then(|| Detected {
        config: Config { width, blocks },
        scales: Some(Scales::list([Scale::whole(factor)])),
        renames: renames.clone(),
    })
}

/// The network for the one scale of `scales`.
fn build(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Graph> {
    let scale = single_scale(scales, "an EDSR")?;
    let Some((_, shuffles)) = FACTORS
        .into_iter()
        .find(|(factor, _)| Scale::whole(*factor) == scale)
    else {
        let problem = format!("an EDSR upscales by 2, 3, 4 or 8, not by {scale}");
        return Err(Error::Setting(problem).into());
    };
    let width = config.width;
    let mut b = Builder::new(vb, Channels::Rgb);
    let x = b.input();
    let x = b.times(&x, RANGE)?;
    let x = b.plus(&x, &DIV2K_MEAN.map(|mean| -mean * RANGE))?;
    let head = b.conv(&x, "head.0", width)?;
    let mut x = head.clone();
    for block in 0..config.blocks {
        let y = b.conv(&x, &format!("body.{block}.body.0"), width)?;
        let y = b.map(Op::Relu, &y);
        let mut y = b.conv(&y, &format!("body.{block}.body.2"), width)?;
        if width == LARGE {
            y = b.times(&y, LARGE_RESIDUAL)?;
        }
        x = b.add(&y, &x);
    }
    let y = b.conv(&x, &format!("body.{}", config.blocks), width)?;
    let mut x = b.add(&y, &head);
    for (i, block) in shuffles.iter().enumerate() {
        let y = b.conv(&x, &format!("tail.0.{}", 2 * i), width * block * block)?;
        x = b.shuffle(&y, *block);
    }
    let y = b.conv(&x, "tail.1", Channels::Rgb.count())?;
    let y = b.times(&y, 1.0 / RANGE)?;
    let y = b.plus(&y, &DIV2K_MEAN)?;
    b.finish(&y)
}
