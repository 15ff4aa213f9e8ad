//! A network as a graph of operations, from a file in ONNX.
//!
//! Graphs that are chains of convolutions run in the fused plan; all
//! others operation by operation on tensors, on tiles where the receptive
//! field can be told, else on whole frames.
//!
//! The operations are those of <https://onnx.ai/onnx/operators>, opset 11 to 23, as
//! ONNX Runtime computes them.

mod arrange;
mod chain;
mod config;
mod convolve;
mod eval;
mod reach;
mod resize;
mod value;

pub use config::{
    Config, ConvSettings, Coordinates, Node, Op, PadMode, ResizeMode, ResizeSettings, Rounding,
    Same,
};
use reach::Reach;
pub use value::Integers;
use value::Limit;

use crate::chain::Chain;
use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Shapes,
    Upsampling,
};
use crate::ops::Border;
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::VarBuilder;
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
        let is_whole = config.multiple > 0 && config.size.is_none_or(|size| !size.contains(&0));
        if !(1..=MAX_FACTOR).contains(&config.factor) || !is_whole {
            return Err(Error::Setting(format!(
                "a graph upscales images of some size by 1 to {MAX_FACTOR}, not by {}",
                config.factor
            ))
            .into());
        }
        let weights = config.weights.iter().map(|(name, shape)| {
            let tensor = vb.get(shape.as_slice(), name)?;
            Ok((name.clone(), tensor))
        });
        let weights: HashMap<String, Tensor> = weights.collect::<candle_core::Result<_>>()?;
        Ok(Self {
            chain: match config.fused {
                true => chain::of(config, &weights)?,
                false => None,
            },
            reach: reach::of(config, &weights),
            macs: reach::macs(config, &weights),
            scales: Scales::list([Scale::whole(config.factor as u32)]),
            weights: Arc::new(weights),
            config: Arc::new(config.clone()),
        })
    }

    /// The graph as a chain, if it is one.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// The result of the graph as it is for (N, C, H, W), and the most values that were
    /// held at a time.
    ///
    /// # Errors
    ///
    /// An operation, which the error names, that the tensor does not fit.
    pub fn run(&self, x: &Tensor) -> candle_core::Result<(Tensor, usize)> {
        eval::run(&self.config, &self.weights, x)
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
            Some((side, overlap)) => self.upscale_parts(&x, side, overlap)?,
            None => self.run(&x)?.0,
        };
        y.narrow(2, 0, factor * height)?
            .narrow(3, 0, factor * width)
    }

    /// Side and overlap of the parts that a graph which shrinks images is run on:
    /// multiples of [`Config::multiple`].
    fn parts(&self) -> Option<(usize, usize)> {
        let reach = self.reach.filter(|reach| reach.aligned)?;
        let multiple = self.config.multiple;
        let overlap = reach.radius.next_multiple_of(multiple);
        let side = PART.max(4 * overlap).next_multiple_of(multiple);
        (self.config.size.is_none() && self.config.crop == 0).then_some((side, overlap))
    }

    /// The result from overlapping parts, the same as that from all at once.
    fn upscale_parts(
        &self,
        x: &Tensor,
        side: usize,
        overlap: usize,
    ) -> candle_core::Result<Tensor> {
        let factor = self.config.factor;
        let (.., height, width) = x.dims4()?;
        // Start and length of a part, and of what of it is kept.
        let ranges = |length: usize| {
            (0..length).step_by(side).map(move |start| {
                let first = start.saturating_sub(overlap);
                let end = (start + side + overlap).min(length);
                (first, end - first, start - first, side.min(length - start))
            })
        };
        let part = |(top, rows, y, tall): (usize, usize, usize, usize),
                    (left, columns, x_, wide): (usize, usize, usize, usize)| {
            let part = x.narrow(2, top, rows)?.narrow(3, left, columns)?;
            let result = self.run(&part)?.0;
            result
                .narrow(2, factor * y, factor * tall)?
                .narrow(3, factor * x_, factor * wide)?
                .contiguous()
        };
        let row = |rows| {
            let parts = ranges(width).map(|columns| part(rows, columns));
            Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 3)
        };
        let rows = ranges(height).map(row);
        Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 2)
    }

    /// The result from overlapping parts of the one size that the graph takes.
    fn upscale_tiles(
        &self,
        x: &Tensor,
        [rows, columns]: [usize; 2],
    ) -> candle_core::Result<Tensor> {
        let factor = self.config.factor;
        let (.., height, width) = x.dims4()?;
        let overlap = OVERLAP.min(rows.min(columns) / 4);
        let inner = [rows, columns].map(|side| side - 2 * overlap);
        let count = [height.div_ceil(inner[0]), width.div_ceil(inner[1])];
        let rest = |axis: usize, length: usize| overlap + count[axis] * inner[axis] - length;
        let pads = [overlap, overlap, rest(0, height), rest(1, width)];
        let x = edge_padded(x, pads)?;
        let part = |i: usize, j: usize| {
            let part = x.narrow(2, i * inner[0], rows)?;
            let y = self.run(&part.narrow(3, j * inner[1], columns)?)?.0;
            let y = y.narrow(2, factor * overlap, factor * inner[0])?;
            y.narrow(3, factor * overlap, factor * inner[1])
        };
        let row = |i: usize| {
            let parts = (0..count[1]).map(|j| part(i, j));
            Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 3)
        };
        let rows = (0..count[0])
            .map(row)
            .collect::<candle_core::Result<Vec<_>>>()?;
        let y = Tensor::cat(&rows, 2)?;
        y.narrow(2, 0, factor * height)?
            .narrow(3, 0, factor * width)
    }
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

/// A chain of luma in full range on luma in BT.601 studio range.
fn in_studio_range(mut chain: Chain) -> candle_core::Result<Chain> {
    let (scale, offset) = FULL_OF_STUDIO;
    chain.input_affine = vec![(scale, offset)];
    if let Some(last) = chain.layers.last_mut() {
        let conv = &mut last.conv;
        conv.weight = (&conv.weight / f64::from(scale))?;
        let added = match chain.epilogue.residual_nearest {
            // What is added is in studio range.
            true => 0.0,
            false => -f64::from(offset / scale),
        };
        let bias = match &conv.bias {
            Some(bias) => (bias / f64::from(scale))?,
            None => conv
                .weight
                .zeros_like()?
                .flatten_from(1)?
                .narrow(1, 0, 1)?
                .squeeze(1)?,
        };
        conv.bias = Some((bias + added)?);
    }
    Ok(chain)
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
            Some(chain) if self.config.full_range => Box::new(in_studio_range(chain.clone())?),
            Some(chain) => Box::new(chain.clone()),
            None => Box::new(self.clone()),
        })
    }
}

impl ScaleNetwork for Graph {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(self.config.factor)
    }

    fn halo(&self) -> usize {
        self.reach.map_or(0, |reach| reach.radius)
    }

    /// The graph pads by itself.
    fn border(&self) -> Border {
        Border::Zero
    }

    fn whole_frame(&self) -> bool {
        self.config.size.is_some() || self.reach.is_none_or(|reach| reach.aligned)
    }

    fn working_set(&self) -> usize {
        match self.parts() {
            // What goes in and comes out.
            Some(_) => self.config.channels.count() * (2 + 2 * self.config.factor.pow(2)),
            None => self.config.working_set,
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
