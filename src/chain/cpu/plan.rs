//! Chains of convolutions, fused: whole networks run over strips of a frame
//! whose hidden layers stay in the cache.
//!
//! A chain is cut into segments. Inside a segment every region of the frame
//! is one task: rows flow from layer to layer through rings that hold just
//! the rows that the next layer still needs. Between segments the whole
//! frame's channels lie in memory. Most convolutions run by Winograd's minimal
//! filtering, in tiles that are anchored at the frame's origin: a result's
//! bits depend neither on how the frame is divided nor on the threads.

use super::io::{Planes, PlanesOut, Sink, Source};
use super::kernels::Loops;
use super::pack::{Layer, PackedChain};
use super::task::{self, Beside, Memory, Region, Rows, Shape, Task};
use crate::chain::segment::{assign_buffers, split_segments};
use crate::chain::{Chain, ChainOptions};
use crate::threads::pool;
use crate::{Error, Result};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of rings that a task may have: what the second-level cache holds
/// beside weights and points.
const RINGS: usize = 3 << 19;

/// Columns that a strip has at least; narrower ones mostly compute what lies beyond their sides.
const NARROWEST: usize = 64;

/// Rows that a band has at least.
const SHORTEST: usize = 36;

/// A packed network for frames of one size.
#[derive(Debug)]
pub struct ChainExecutor {
    packed: Arc<PackedChain>,
    loops: &'static Loops,
    pool: Arc<ThreadPool>,
    size: (usize, usize),
    shapes: Vec<Shape>,
    /// The regions of each segment, in order.
    segments: Vec<Vec<Region>>,
    /// The frames that boundaries are kept in, where they are.
    frames: Vec<Option<usize>>,
    buffers: Vec<Vec<f32>>,
    /// Rows beside the regions of segments that write over what they read.
    beside: Vec<f32>,
    zeros: Vec<f32>,
    memories: Vec<Mutex<Memory>>,
    /// The rows of the boundaries that are kept, while a frame is computed.
    rows: Vec<Option<Rows>>,
}

impl ChainExecutor {
    /// A plan for inputs of `size` (width, height); `None` if the network is
    /// no chain that can be fused.
    ///
    /// # Errors
    ///
    /// A level or a number of threads that cannot be had, tensors that cannot be read.
    pub fn new(
        chain: &Chain,
        size: (usize, usize),
        options: &ChainOptions,
    ) -> Result<Option<Self>> {
        PackedChain::of_chain(chain)?
            .map(|packed| Self::of(Arc::new(packed), size, options))
            .transpose()
    }

    /// A plan for a packed network.
    ///
    /// # Errors
    ///
    /// As [`ChainExecutor::new`].
    pub fn of(
        packed: Arc<PackedChain>,
        size: (usize, usize),
        options: &ChainOptions,
    ) -> Result<Self> {
        let level = crate::cpu_level::level().map_err(|e| Error::Setting(e.to_string()))?;
        let pool = pool(options.threads)?;
        let threads = pool.current_num_threads();
        let shapes = task::shapes(&packed.layers, size);
        let mut segments = Vec::new();
        let cuts = split_segments(&skips(&packed.layers));
        let divisions: Vec<_> = cuts
            .iter()
            .map(|layers| division(&packed, layers, &shapes, options.tile_size, threads))
            .collect();
        let frames = assign_buffers(&skips(&packed.layers), &cuts, |i| {
            let bands = divisions[i].0 >= shapes[cuts[i].end].size().0;
            bands && reads_ahead(&packed.layers[cuts[i].clone()])
        });
        let mut beside = 0;
        for (layers, &(strip, band)) in cuts.iter().zip(&divisions) {
            let (w, h) = shapes[layers.end].size();
            let over = frames[layers.start].is_some() && frames[layers.start] == frames[layers.end];
            let mut regions = Vec::new();
            let mut kept = 0;
            for y in (0..h).step_by(band) {
                for x in (0..w).step_by(strip) {
                    let area = (x..(x + strip).min(w), y..(y + band).min(h));
                    let mut region = Region::new(&packed, &shapes, layers, area);
                    if over {
                        kept += region.keep_beside(&shapes[layers.start], kept);
                    }
                    regions.push(region);
                }
            }
            beside = beside.max(kept);
            segments.push(regions);
        }
        let mut buffers: Vec<Vec<f32>> = Vec::new();
        for (shape, frame) in shapes.iter().zip(&frames) {
            if let &Some(frame) = frame {
                buffers.resize_with(buffers.len().max(frame + 1), Vec::new);
                let len = shape.frame_len().max(buffers[frame].len());
                buffers[frame].resize(len, 0.0);
            }
        }
        let largest = |measure: fn(&Region) -> usize| {
            let regions = segments.iter().flatten();
            regions.map(measure).max().unwrap_or(0)
        };
        let floats = largest(|region| region.floats);
        let zeros = vec![0.0; largest(|region| region.longest)];
        let memories = (0..threads)
            .map(|_| Mutex::new(Memory::new(floats)))
            .collect();
        Ok(Self {
            loops: Loops::of(level).map_err(|e| Error::Setting(e.to_string()))?,
            packed,
            pool,
            size,
            shapes,
            segments,
            frames,
            buffers,
            beside: vec![0.0; beside],
            zeros,
            memories,
            rows: Vec::new(),
        })
    }

    /// Width and height of the result.
    pub fn output_size(&self) -> (usize, usize) {
        let factor = self.packed.factor();
        (self.size.0 * factor, self.size.1 * factor)
    }

    /// Bytes that the plan holds beside the frames.
    pub fn memory(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Vec::len).sum();
        let each = |memory: &Mutex<Memory>| {
            let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.floats()
        };
        let memories: usize = self.memories.iter().map(each).sum();
        (buffers + self.beside.len() + memories) * size_of::<f32>()
    }

    /// The number of regions that a frame is computed in.
    pub fn regions(&self) -> usize {
        self.segments.last().map_or(0, Vec::len)
    }

    /// Computes the planes of a result from those of an input, dense rows of
    /// values 0 to 1. The result is not clamped.
    ///
    /// # Errors
    ///
    /// Planes of the wrong number or size; a network that adds its enlarged
    /// input, which these planes do not tell how to enlarge.
    pub fn run(&mut self, input: &[&[f32]], output: &mut [&mut [f32]]) -> Result<()> {
        let (w, h) = self.size;
        let (ow, oh) = self.output_size();
        let fits = input.len() == self.packed.planes && output.len() == self.packed.outputs;
        let filled = input.iter().all(|plane| plane.len() == w * h)
            && output.iter().all(|plane| plane.len() == ow * oh);
        if !fits || !filled || (self.packed.base && self.packed.factor() > 1) {
            return Err(Error::Frame(format!(
                "the plan takes {} planes of {w}x{h} samples and makes {} of {ow}x{oh}",
                self.packed.planes, self.packed.outputs
            )));
        }
        let source = Planes {
            planes: input,
            width: w,
        };
        let sink = PlanesOut::new(output, ow);
        self.process(&source, &sink);
        Ok(())
    }

    /// Runs the network from `source` to `sink`.
    pub(crate) fn process(&mut self, source: &dyn Source, sink: &dyn Sink) {
        let mut frames = std::mem::take(&mut self.rows);
        frames.clear();
        for (shape, frame) in self.shapes.iter().zip(&self.frames) {
            let buffer = frame.and_then(|frame| self.buffers.get_mut(frame));
            frames.push(buffer.map(|buffer| shape.frame(buffer.as_mut_ptr())));
        }
        let beside = Beside(self.beside.as_mut_ptr());
        let this = &*self;
        self.pool.install(|| {
            for regions in &this.segments {
                for region in regions {
                    region.save_beside(&frames, beside);
                }
                regions.par_iter().for_each(|region| {
                    let worker = rayon::current_thread_index().unwrap_or(0);
                    let mut memory = this.memories[worker]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    Task {
                        packed: &this.packed,
                        loops: this.loops,
                        shapes: &this.shapes,
                        frames: &frames,
                        beside,
                        zeros: &this.zeros,
                        region,
                        source,
                        sink,
                    }
                    .run(&mut memory);
                });
            }
        });
        self.rows = frames;
    }
}

/// The boundaries that the layers add.
fn skips(layers: &[Layer]) -> Vec<Option<usize>> {
    layers.iter().map(|layer| layer.skip).collect()
}

/// Whether a segment, row by row, reads what it is about to write over before
/// it does: the first layer is ahead of the last by what the others reach.
fn reads_ahead(layers: &[Layer]) -> bool {
    let later: usize = layers[1..].iter().map(Layer::pad).sum();
    layers.len() > 1 && later >= layers[0].pad() && layers.iter().all(|l| l.shuffle == 1)
}

/// Columns of a strip and rows of a band.
fn division(
    packed: &PackedChain,
    layers: &Range<usize>,
    shapes: &[Shape],
    tile: usize,
    threads: usize,
) -> (usize, usize) {
    let chain = &packed.layers[layers.clone()];
    // Every layer's tiles end at the end of such a step.
    let step: usize = 12 * chain.iter().map(|layer| layer.shuffle).product::<usize>();
    let round = |value: usize| value.next_multiple_of(step);
    let (width, height) = shapes[layers.end].size();
    if tile > 0 {
        return (round(tile), round(tile));
    }
    let column = task::ring_floats(packed, layers) * size_of::<f32>();
    let widest = (RINGS / column.max(1)).max(NARROWEST);
    // As many strips as fit the cache, then as many for each thread.
    let strips = width.div_ceil(widest);
    let even = strips.next_multiple_of(threads);
    let adds_own = chain.last().and_then(|layer| layer.skip) == Some(layers.start);
    let strips = match strips {
        // Bands of whole rows may be written over the input.
        1 if adds_own => 1,
        _ if width / even >= NARROWEST => even,
        _ => strips,
    };
    let bands = threads.div_ceil(strips).min(height.div_ceil(SHORTEST));
    (round(width.div_ceil(strips)), round(height.div_ceil(bands)))
}

#[cfg(test)]
mod tests;
