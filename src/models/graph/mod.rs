//! A network as a graph of operations, from a file in ONNX.
//!
//! Graphs that are chains of convolutions run in the fused plan; all
//! others operation by operation on tensors, on tiles where the receptive
//! field can be told, else on whole frames.
//!
//! The operations are those of <https://onnx.ai/onnx/operators>, opset 11 to 23, as
//! ONNX Runtime computes them.

mod arrange;
mod builder;
mod chain;
mod config;
mod convolve;
mod eval;
mod lower;
mod of_chain;
mod packed;
mod reach;
mod resize;
mod value;

pub(crate) use builder::{Builder, Form, Value};
pub use config::{
    Config, ConvSettings, Coordinates, Node, Op, PadMode, ResizeMode, ResizeSettings, Rounding,
    Same,
};
use packed::PackedConvs;
use reach::Reach;
pub use value::Integers;
use value::Limit;

use crate::chain::{Chain, ChainLayer};
use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Shapes,
    Upsampling,
};
use crate::ops::{Activation, Border};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// Largest enlargement.
const MAX_FACTOR: usize = 16;

/// Overlap of the parts that a graph of one size is run on, in samples.
const OVERLAP: usize = 16;

/// Side of the parts that a graph which shrinks images is run on, in samples.
const PART: usize = 256;

/// Scale and offset from luma in BT.601 studio range to full range, both 0 to 1.
const FULL_OF_STUDIO: (f32, f32) = (255.0 / 219.0, -16.0 / 219.0);

impl Config {
    fn check(&self) -> Result<()> {
        let sizes = self.size.unwrap_or([1, 1]);
        let positive = self.nodes.iter().all(|node| match &node.op {
            Op::Conv(settings) | Op::ConvTranspose(settings) => {
                let pairs = [settings.strides, settings.dilations, [settings.group; 2]];
                !pairs.as_flattened().contains(&0)
            }
            Op::DepthToSpace { block, .. } | Op::SpaceToDepth { block } => *block > 0,
            _ => true,
        });
        let is_served = (1..=MAX_FACTOR).contains(&self.factor)
            && self.multiple > 0
            && !sizes.contains(&0)
            && positive;
        match is_served {
            true => Ok(()),
            false => Err(Error::Setting(format!(
                "a graph upscales by 1 to {MAX_FACTOR}, not by {}, with sizes, strides and \
                 blocks of at least 1",
                self.factor
            ))
            .into()),
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn upsampling(&self, _scale: Scale) -> Upsampling {
        Upsampling::Post(self.factor)
    }

    fn scales(&self) -> Option<Scales> {
        Some(Scales::list([Scale::whole(self.factor as u32)]))
    }

    fn build(&self, vb: &VarBuilder, _scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Graph::new(vb, self)?))
    }

    /// A graph is not told from the names of its tensors.
    fn detect(_: &Shapes) -> Option<Detected<Self>> {
        None
    }
}

/// A graph with its weights.
#[derive(Debug, Clone)]
pub struct Graph {
    config: Arc<Config>,
    scales: Scales,
    weights: Arc<HashMap<String, Tensor>>,
    chain: Option<Chain>,
    packed: Arc<PackedConvs>,
    /// The receptive field; `None`: the frame.
    reach: Option<Reach>,
    macs: u64,
}

impl Graph {
    /// Reads the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, an enlargement beyond 16.
    pub fn new(vb: &VarBuilder, config: &Config) -> Result<Self> {
        let weights = config.weights.iter().map(|(name, shape)| {
            let tensor = vb.get(shape.as_slice(), name)?;
            Ok((name.clone(), tensor))
        });
        let weights = weights.collect::<candle_core::Result<HashMap<_, _>>>()?;
        Self::of_weights(config.clone(), weights)
    }

    /// With the weights by name.
    fn of_weights(config: Config, mut weights: HashMap<String, Tensor>) -> Result<Self> {
        config.check()?;
        let config = lower::lowered(&config, &mut weights)?;
        let chain = match config.fused {
            true => chain::of(&config, &weights)?,
            false => None,
        };
        Ok(Self {
            chain: match chain {
                Some(chain) if config.full_range => in_studio_range(chain)?,
                chain => chain,
            },
            reach: reach::of(&config, &weights),
            packed: Arc::new(PackedConvs::of(&config, &weights)),
            macs: reach::macs(&config, &weights),
            scales: Scales::list([Scale::whole(config.factor as u32)]),
            weights: Arc::new(weights),
            config: Arc::new(config),
        })
    }

    /// The graph as a chain, if it is one; of luma in BT.601 studio range, as all networks
    /// on luma here.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// The description, and the weights by name.
    pub fn description(&self) -> (&Config, &HashMap<String, Tensor>) {
        (&self.config, &self.weights)
    }

    /// The result of the graph as it is for (N, C, H, W), and the most values that were
    /// held at a time.
    ///
    /// # Errors
    ///
    /// An operation, which the error names, that the tensor does not fit.
    pub fn run(&self, x: &Tensor) -> candle_core::Result<(Tensor, usize)> {
        eval::run(&self.config, (&self.weights, &self.packed), x)
    }

    /// The result for an image of any size.
    fn upscale(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Config {
            factor,
            crop,
            multiple,
            ..
        } = *self.config;
        let (.., height, width) = x.dims4()?;
        if let Some(size) = self.config.size {
            return self.upscale_tiles(x, size);
        }
        let more = |length: usize| {
            let all = length + 2 * crop;
            all.next_multiple_of(multiple) - all
        };
        let pads = [crop, crop, crop + more(height), crop + more(width)];
        let x = edge_padded(x, pads)?;
        let y = match self.parts() {
            Some(parts) => {
                let (.., height, width) = x.dims4()?;
                self.upscale_parts(&x, &parts(height), &parts(width))?
            }
            None => self.run(&x)?.0,
        };
        y.narrow(2, 0, factor * height)?
            .narrow(3, 0, factor * width)
    }

    /// The parts of an axis that a graph which shrinks images is run on; `None` if it may
    /// run on any.
    fn parts(&self) -> Option<impl Fn(usize) -> Vec<Part>> {
        let Reach { radius, alignment } = self.reach.filter(|reach| reach.alignment > 1)?;
        let overlap = radius.next_multiple_of(alignment);
        let side = PART.max(4 * overlap).next_multiple_of(alignment);
        let parts = move |length: usize| {
            let part = |start: usize| {
                let first = start.saturating_sub(overlap);
                Part {
                    start: first,
                    length: (start + side + overlap).min(length) - first,
                    skip: start - first,
                    keep: side.min(length - start),
                }
            };
            (0..length).step_by(side).map(part).collect()
        };
        (self.config.crop == 0).then_some(parts)
    }

    /// The result from overlapping parts of the one size that the graph takes.
    fn upscale_tiles(&self, x: &Tensor, sides: [usize; 2]) -> candle_core::Result<Tensor> {
        let factor = self.config.factor;
        let (.., height, width) = x.dims4()?;
        let overlap = OVERLAP.min(sides[0].min(sides[1]) / 4);
        let inner = sides.map(|side| side - 2 * overlap);
        let counts = [height.div_ceil(inner[0]), width.div_ceil(inner[1])];
        let rest = |axis: usize, length: usize| overlap + counts[axis] * inner[axis] - length;
        let x = edge_padded(x, [overlap, overlap, rest(0, height), rest(1, width)])?;
        let [rows, columns] = [0, 1].map(|axis| {
            let part = |i: usize| Part {
                start: i * inner[axis],
                length: sides[axis],
                skip: overlap,
                keep: inner[axis],
            };
            (0..counts[axis]).map(part).collect::<Vec<_>>()
        });
        self.upscale_parts(&x, &rows, &columns)?
            .narrow(2, 0, factor * height)?
            .narrow(3, 0, factor * width)
    }

    /// The result from overlapping parts.
    fn upscale_parts(
        &self,
        x: &Tensor,
        rows: &[Part],
        columns: &[Part],
    ) -> candle_core::Result<Tensor> {
        let factor = self.config.factor;
        let part = |rows: &Part, columns: &Part| {
            let part = x.narrow(2, rows.start, rows.length)?;
            let part = part.narrow(3, columns.start, columns.length)?;
            self.run(&part)?
                .0
                .narrow(2, factor * rows.skip, factor * rows.keep)?
                .narrow(3, factor * columns.skip, factor * columns.keep)?
                .contiguous()
        };
        let row = |rows: &Part| {
            let parts = columns.iter().map(|columns| part(rows, columns));
            Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 3)
        };
        let rows = rows.iter().map(row);
        Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 2)
    }
}

/// The graphs of a network for several scales.
pub(crate) struct Graphs {
    graphs: Vec<Graph>,
    scales: Scales,
}

impl Graphs {
    pub(crate) fn new(graphs: Vec<Graph>) -> Self {
        let scale = |graph: &Graph| Scale::whole(graph.config.factor as u32);
        Self {
            scales: Scales::list(graphs.iter().map(scale)),
            graphs,
        }
    }
}

impl Network for Graphs {
    fn channels(&self) -> Channels {
        let first = self.graphs.first();
        first.map_or(Channels::Luma, |graph| graph.config.channels)
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        let graph = self.graphs.iter().map(|graph| graph.for_scale(scale));
        let found = graph.into_iter().find(Result::is_ok);
        found.unwrap_or_else(|| {
            let problem = format!("this network upscales by {}, not by {scale}", self.scales);
            Err(Error::Setting(problem).into())
        })
    }
}

/// Samples of an axis that a graph is run on at a time.
struct Part {
    start: usize,
    length: usize,
    /// Samples before those that are kept.
    skip: usize,
    keep: usize,
}

/// An image with its edge repeated above, left, below and right.
fn edge_padded(x: &Tensor, pads: [usize; 4]) -> candle_core::Result<Tensor> {
    let [top, left, bottom, right] = pads.map(|pad| pad as i64);
    let limit = Limit::of_input(x.elem_count());
    arrange::pad(
        x,
        &[top, left, bottom, right],
        &[2, 3],
        PadMode::Edge,
        0.0,
        limit,
    )
}

/// A chain of luma in full range on luma in BT.601 studio range; `None` if its last layer
/// does more than to convolve.
fn in_studio_range(mut chain: Chain) -> candle_core::Result<Option<Chain>> {
    let (scale, offset) = FULL_OF_STUDIO;
    let combined = |&(times, plus): &(f32, f32)| (times * scale, times * offset + plus);
    chain.input_affine = match chain.input_affine.as_slice() {
        [] => vec![FULL_OF_STUDIO],
        affine => affine.iter().map(combined).collect(),
    };
    let added = match chain.epilogue.residual_nearest {
        // What is added is in studio range.
        true => 0.0,
        false => -f64::from(offset / scale),
    };
    let plain = |layer: &&mut ChainLayer| {
        let is_linear = layer.conv.spec.activation == Activation::None;
        is_linear && layer.slope.is_none() && layer.skip.is_none()
    };
    let Some(last) = chain.layers.last_mut().filter(plain) else {
        return Ok(None);
    };
    let conv = &mut last.conv;
    conv.weight = (&conv.weight / f64::from(scale))?;
    let bias = match &conv.bias {
        Some(bias) => (bias / f64::from(scale))?,
        None => Tensor::zeros(conv.weight.dim(0)?, DType::F32, conv.weight.device())?,
    };
    conv.bias = Some((bias + added)?);
    Ok(Some(chain))
}

impl Network for Graph {
    fn channels(&self) -> Channels {
        self.config.channels
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "this graph")?;
        Ok(match &self.chain {
            Some(chain) => Box::new(chain.clone()),
            None => Box::new(self.clone()),
        })
    }
}

impl ScaleNetwork for Graph {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(self.config.factor)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn halo(&self) -> usize {
        self.reach.map_or(0, |reach| reach.radius)
    }

    /// The graph pads by itself.
    fn border(&self) -> Border {
        Border::Zero
    }

    fn whole_frame(&self) -> bool {
        self.config.size.is_some() || self.reach.is_none_or(|reach| reach.alignment > 1)
    }

    fn rounds_by_tile(&self) -> bool {
        !self.packed.is_empty()
    }

    fn working_set(&self) -> usize {
        match self.config.size.is_some() || self.parts().is_some() {
            // What goes in and comes out.
            true => self.config.channels.count() * (2 + 2 * self.config.factor.pow(2)),
            false => self.config.working_set,
        }
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if !self.config.full_range {
            return self.upscale(x);
        }
        let (scale, offset) = FULL_OF_STUDIO;
        let (scale, offset) = (f64::from(scale), f64::from(offset));
        let y = self.upscale(&x.affine(scale, offset)?)?;
        y.affine(1.0 / scale, -offset / scale)
    }
}
