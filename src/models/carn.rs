//! CARN and CARN-M: cascades of residual blocks, x2, x3 and x4 in one file.
//!
//! Namhyuk Ahn, Byungkon Kang, Kyung-Ah Sohn, "Fast, Accurate, and Lightweight
//! Super-Resolution with Cascading Residual Network", ECCV 2018,
//! <https://arxiv.org/abs/1803.08664>, `nmhkahn/CARN-pytorch`, with its parameter names.

use crate::models::detect::{Detected, kernels};
use crate::models::graph::{Builder, Form, Graph, Graphs, Op, Value};
use crate::models::hdsrnet::DIV2K_MEAN;
use crate::models::{ArchitectureConfig, Channels, Network, Scales, Shapes};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

/// The supported scales and their pixel shuffles.
const FACTORS: [(u32, &[usize]); 3] = [(2, &[2]), (3, &[3]), (4, &[2, 2])];

/// Blocks of a cascade.
const BLOCKS: usize = 3;

/// Configuration of a CARN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Groups of the channels in the upscaling layers and, of CARN-M, in the blocks.
    pub group: usize,
    /// CARN-M: the residual block of a cascade is one, applied three times, and ends in
    /// a convolution of 1x1.
    pub mobile: bool,
    /// Whether the upscaling layers are those of several scales.
    pub multi_scale: bool,
}

impl Default for Config {
    /// CARN-M: 414,787 weights for all scales.
    fn default() -> Self {
        Self {
            width: 64,
            group: 4,
            mobile: true,
            multi_scale: true,
        }
    }
}

impl Config {
    /// The name of the upscaling layers for a factor.
    fn upscaling(&self, factor: u32) -> String {
        match self.multi_scale {
            true => format!("upsample.up{factor}"),
            false => "upsample.up".to_owned(),
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        let Scales::List(list) = &scales else {
            return Err(Error::Setting("a CARN upscales by 2, 3 or 4".to_owned()).into());
        };
        let graphs = list.iter().map(|&scale| build(vb, self, scale));
        Ok(Box::new(Graphs::new(graphs.collect::<Result<_>>()?)))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| kernels(shapes, name);
    let [width, 3, 3, 3] = shape("entry.weight")? else {
        return None;
    };
    shape("b3.c3.body.0.weight").and(shape("exit.weight"))?;
    let mut config = Config {
        width,
        group: 1,
        mobile: shape("b1.b2.body.0.weight").is_none(),
        multi_scale: shape("upsample.up.body.0.weight").is_none(),
    };
    let upscales = |(factor, shuffles): &(u32, &[usize])| {
        let name = config.upscaling(*factor);
        let layer = |i: usize| shape(&format!("{name}.body.{}.weight", 3 * i));
        let outputs = |i: usize| layer(i).map(|shape| shape[0]);
        let same = |(i, block): (usize, &usize)| outputs(i) == Some(width * block * block);
        shuffles.iter().enumerate().all(same) && outputs(shuffles.len()).is_none()
    };
    let factors: Vec<u32> = FACTORS
        .iter()
        .filter(|row| upscales(row))
        .map(|row| row.0)
        .collect();
    let first = factors.first()?;
    let [_, inputs, ..] = shape(&format!("{}.body.0.weight", config.upscaling(*first)))?;
    config.group = width.checked_div(inputs)?;
    // The mean shift is constant, not a weight.
    let learnt = shapes.keys().filter(|name| !name.contains("_mean."));
    Some(Detected {
        config,
        renames: learnt.map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list(factors.into_iter().map(Scale::whole))),
    })
}

fn build(vb: &VarBuilder, config: &Config, scale: Scale) -> Result<Graph> {
    let row = FACTORS
        .into_iter()
        .find(|(factor, _)| Scale::whole(*factor) == scale);
    let Some((factor, shuffles)) = row.filter(|_| config.group > 0) else {
        let problem = format!(
            "a CARN upscales by 2, 3 or 4 with groups, not by {scale} with {}",
            config.group
        );
        return Err(Error::Setting(problem).into());
    };
    let mut b = Builder::new(vb, Channels::Rgb);
    let x = b.input();
    let x = b.plus(&x, &DIV2K_MEAN.map(|mean| -mean))?;
    let x = b.conv(&x, "entry", config.width)?;
    let block = |b: &mut Builder, x: &Value, i: usize| {
        let name = format!("b{i}");
        let residual = |b: &mut Builder, x: &Value, i: usize| {
            let number = if config.mobile { 1 } else { i };
            residual(b, config, x, &format!("{name}.b{number}"))
        };
        cascade(b, config, x, &format!("{name}."), &residual)
    };
    let mut x = cascade(&mut b, config, &x, "", &block)?;
    let upscaling = config.upscaling(factor);
    for (i, block) in shuffles.iter().enumerate() {
        let outputs = config.width * block * block;
        let form = Form {
            group: config.group,
            ..Form::default()
        };
        let y = b.conv_of(&x, &format!("{upscaling}.body.{}", 3 * i), outputs, form)?;
        let y = b.map(Op::Relu, &y);
        x = b.shuffle(&y, *block);
    }
    let y = b.conv(&x, "exit", Channels::Rgb.count())?;
    let y = b.plus(&y, &DIV2K_MEAN)?;
    b.finish(&y)
}

type Block<'a> = &'a dyn Fn(&mut Builder, &Value, usize) -> Result<Value>;

/// Three blocks, each on what the outputs of all before are fused to.
fn cascade(
    b: &mut Builder,
    config: &Config,
    x: &Value,
    name: &str,
    block: Block<'_>,
) -> Result<Value> {
    let (mut all, mut x) = (x.clone(), x.clone());
    for i in 1..=BLOCKS {
        let y = block(b, &x, i)?;
        all = b.concat(&[&all, &y]);
        let form = Form::sized(1);
        let y = b.conv_of(&all, &format!("{name}c{i}.body.0"), config.width, form)?;
        x = b.map(Op::Relu, &y);
    }
    Ok(x)
}

fn residual(b: &mut Builder, config: &Config, x: &Value, name: &str) -> Result<Value> {
    let form = Form {
        group: if config.mobile { config.group } else { 1 },
        ..Form::default()
    };
    let y = b.conv_of(x, &format!("{name}.body.0"), config.width, form)?;
    let y = b.map(Op::Relu, &y);
    let mut y = b.conv_of(&y, &format!("{name}.body.2"), config.width, form)?;
    if config.mobile {
        let form = Form::sized(1);
        y = b.map(Op::Relu, &y);
        y = b.conv_of(&y, &format!("{name}.body.4"), config.width, form)?;
    }
    let y = b.add(&y, x);
    Ok(b.map(Op::Relu, &y))
}
