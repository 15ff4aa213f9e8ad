//! LapSRN: a pyramid that doubles the size level by level, with an image path and a path
//! of features for what is added to it.
//!
//! Wei-Sheng Lai et al., "Deep Laplacian Pyramid Networks for Fast and Accurate
//! Super-Resolution", CVPR 2017, <https://arxiv.org/abs/1704.03915>;
//! `twtygqyy/pytorch-LapSRN`, with its parameter names. All levels are trained, so a
//! network for x4 is one for x2 as well.

use crate::models::detect::{Detected, kernels};
use crate::models::graph::{Builder, Form, Graph, Graphs};
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// Most levels.
const MAX_LEVELS: usize = 3;

/// Slope of all leaky ReLUs.
const SLOPE: f32 = 0.2;

/// Configuration of a LapSRN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Convolutions of a level.
    pub depth: usize,
    /// Levels, each of which doubles the size.
    pub levels: usize,
}

impl Default for Config {
    /// The published one for x4.
    fn default() -> Self {
        Self {
            width: 64,
            depth: 10,
            levels: 2,
        }
    }
}

impl Config {
    fn scales(&self) -> Scales {
        let levels = 1..=self.levels.min(MAX_LEVELS);
        Scales::list(levels.map(|level| Scale::whole(1 << level)))
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Luma
    }

    fn scales(&self) -> Option<Scales> {
        Some(Self::scales(self))
    }

    fn build(&self, vb: &VarBuilder, _scales: Scales) -> Result<Box<dyn Network>> {
        if !(1..=MAX_LEVELS).contains(&self.levels) {
            let problem = format!("a LapSRN has 1 to {MAX_LEVELS} levels, not {}", self.levels);
            return Err(Error::Setting(problem).into());
        }
        let graphs = (1..=self.levels).map(|levels| build(vb, self, levels));
        Ok(Box::new(Graphs::new(graphs.collect::<Result<_>>()?)))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| kernels(shapes, name);
    let [width, 1, 3, 3] = shape("conv_input.weight")? else {
        return None;
    };
    let level = |i: &usize| shape(&format!("convt_F{i}.0.cov_block.0.weight")).is_some();
    let levels = (1..).take_while(level).count();
    let layer = |i: &usize| {
        let shape = shape(&format!("convt_F1.0.cov_block.{}.weight", 2 * i));
        shape.is_some_and(|[_, _, side, _]| side == 3)
    };
    let config = Config {
        width,
        depth: (0..).take_while(layer).count(),
        levels,
    };
    shape("convt_R1.weight").and(shape("convt_I1.weight"))?;
    (1..=MAX_LEVELS).contains(&levels).then(|| Detected {
        scales: Some(config.scales()),
        config,
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
    })
}

/// The network of the first levels.
fn build(vb: &VarBuilder, config: &Config, levels: usize) -> Result<Graph> {
    let form = Form {
        bias: false,
        ..Form::default()
    };
    let mut b = Builder::new(vb, Channels::Luma);
    let mut image = b.input();
    let x = b.conv_of(&image, "conv_input", config.width, form)?;
    let mut x = b.leaky(&x, SLOPE);
    for level in 1..=levels {
        let features = format!("convt_F{level}.0.cov_block");
        for layer in 0..config.depth {
            let y = b.conv_of(&x, &format!("{features}.{}", 2 * layer), config.width, form)?;
            x = b.leaky(&y, SLOPE);
        }
        let y = b.doubled(
            &x,
            &format!("{features}.{}", 2 * config.depth),
            config.width,
        )?;
        x = b.leaky(&y, SLOPE);
        let larger = b.doubled(&image, &format!("convt_I{level}"), 1)?;
        let residual = b.conv_of(&x, &format!("convt_R{level}"), 1, form)?;
        image = b.add(&larger, &residual);
    }
    b.finish(&image)
}
