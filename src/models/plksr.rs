//! PLKSR and RealPLKSR: blocks with a large kernel on some of the channels.
//!
//! Dongheon Lee, Seokju Yun, Youngmin Ro, "Partial Large Kernel CNNs for Efficient
//! Super-Resolution", 2024, <https://arxiv.org/abs/2404.11848>, `dslisleedh/PLKSR`, and
//! RealPLKSR of neosr, with their parameter names.
//!
//! RealPLKSR without layer normalisation normalises over the frame and runs on whole
//! ones. Not supported are kernels in parts and DySample.

use crate::models::detect::{Detected, kernels, shuffle_factor};
use crate::models::graph::{Builder, Form, Graph, Op, Value};
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes, single_scale};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The largest factor: the last layer's channels grow by its square.
const MAX_FACTOR: u32 = 8;

/// Groups of a normalisation over the frame.
const NORM_GROUPS: usize = 4;

/// Added to the variance of a layer normalisation.
const EPSILON: f32 = 1e-6;

/// Configuration of a PLKSR or a RealPLKSR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Size of the large kernels.
    pub kernel: usize,
    /// Channels that they convolve.
    pub partial: usize,
    /// Sizes of the two kernels before them.
    pub mixer: [usize; 2],
    /// Whether there is attention to each sample.
    pub attention: bool,
    /// The kind of normalisation, which tells PLKSR from RealPLKSR.
    pub norm: Norm,
}

/// The normalisation in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// PLKSR, which has none.
    None,
    /// RealPLKSR: of four groups of channels, over the frame, at a block's end.
    Group,
    /// RealPLKSR: of the channels of each sample, at a block's start.
    Layer,
}

impl Default for Config {
    /// That of RealPLKSR.
    fn default() -> Self {
        Self {
            width: 64,
            blocks: 28,
            kernel: 17,
            partial: 16,
            mixer: [3, 3],
            attention: true,
            norm: Norm::Group,
        }
    }
}

impl Config {
    /// The name of the mixer's layers; the first one is misspelt in published files.
    fn mixer_name(&self) -> &'static str {
        match self.norm {
            Norm::None => "channe_mixer",
            _ => "channel_mixer",
        }
    }

    /// The place of the last layer: in RealPLKSR there is a dropout before it.
    fn last(&self) -> usize {
        self.blocks + 1 + usize::from(self.norm != Norm::None)
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

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| kernels(shapes, name);
    let has = |name: &str| shapes.contains_key(name);
    let [width, 3, ..] = shape("feats.0.weight")? else {
        return None;
    };
    let [partial, _, kernel, _] = shape("feats.1.lk.conv.weight")?;
    let norm = match (has("feats.1.layer_norm.weight"), has("feats.1.norm.weight")) {
        (true, _) => Norm::Layer,
        (_, true) => Norm::Group,
        _ => Norm::None,
    };
    let there = |i: &usize| has(&format!("feats.{i}.lk.conv.weight"));
    let config = Config {
        width,
        blocks: (1..).take_while(there).count(),
        kernel,
        partial,
        mixer: [0, 0],
        attention: has("feats.1.attn.f.0.weight"),
        norm,
    };
    let mixer = |layer: usize| {
        let [_, _, side, _] = shape(&format!("feats.1.{}.{layer}.weight", config.mixer_name()))?;
        Some(side)
    };
    let mixer = [mixer(0)?, mixer(2)?];
    let [outputs, ..] = shape(&format!("feats.{}.weight", config.last()))?;
    let factor = shuffle_factor(outputs, 3, MAX_FACTOR)?;
    let samples = shapes.keys().any(|name| name.starts_with("to_img."));
    (!samples).then(|| Detected {
        config: Config { mixer, ..config },
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// The network for the one scale of `scales`.
fn build(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Graph> {
    let scale = single_scale(scales, "a PLKSR")?;
    let known = scale.den() == 1 && (1..=MAX_FACTOR).contains(&scale.num());
    let odd = [config.kernel, config.mixer[0], config.mixer[1]];
    if !known || odd.iter().any(|side| side.is_multiple_of(2)) || config.partial > config.width {
        return Err(Error::Setting(format!(
            "a PLKSR upscales by 1 to {MAX_FACTOR} with kernels of odd sides on some of its \
             channels, not by {scale} with {config:?}"
        ))
        .into());
    }
    let factor = scale.num() as usize;
    let mut b = Builder::new(vb, Channels::Rgb);
    let input = b.input();
    let mut x = b.conv(&input, "feats.0", config.width)?;
    for block in 1..=config.blocks {
        x = plk_block(&mut b, config, &format!("feats.{block}"), &x)?;
    }
    let last = format!("feats.{}", config.last());
    let y = b.conv(&x, &last, 3 * factor * factor)?;
    let y = match factor {
        1 => b.add(&y, &input),
        _ => {
            let y = b.shuffle(&y, factor);
            let repeated = b.repeat(&input, factor)?;
            b.add(&y, &repeated)
        }
    };
    b.finish(&y)
}

fn plk_block(b: &mut Builder, config: &Config, name: &str, start: &Value) -> Result<Value> {
    let width = config.width;
    let mut x = start.clone();
    if config.norm == Norm::Layer {
        x = b.channel_norm(&x, &format!("{name}.layer_norm"), EPSILON)?;
    }
    let mixer = format!("{name}.{}", config.mixer_name());
    let x = b.conv_of(
        &x,
        &format!("{mixer}.0"),
        2 * width,
        Form::sized(config.mixer[0]),
    )?;
    let activation = match config.norm {
        Norm::None => Op::Gelu { tanh: false },
        _ => Op::Mish,
    };
    let x = b.map(activation, &x);
    let x = b.conv_of(
        &x,
        &format!("{mixer}.2"),
        width,
        Form::sized(config.mixer[1]),
    )?;
    let large = format!("{name}.lk.conv");
    let mut x = match width - config.partial {
        0 => b.conv_of(&x, &large, width, Form::sized(config.kernel))?,
        _ => {
            let [some, others] = b.split(&x, config.partial);
            let some = b.conv_of(&some, &large, config.partial, Form::sized(config.kernel))?;
            b.concat(&[&some, &others])
        }
    };
    if config.attention {
        let weights = b.conv(&x, &format!("{name}.attn.f.0"), width)?;
        let weights = b.map(Op::Sigmoid, &weights);
        x = b.pair(Op::Mul, &x, &weights);
    }
    let mut x = b.conv_of(&x, &format!("{name}.refine"), width, Form::sized(1))?;
    if config.norm == Norm::Group {
        x = b.group_norm(&x, &format!("{name}.norm"), NORM_GROUPS)?;
    }
    Ok(b.add(&x, start))
}
