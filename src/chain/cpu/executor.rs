//! Chains of convolutions, fused: whole networks run over strips of a frame
//! whose hidden layers stay in the cache.
//!
//! A chain is cut into segments. Inside a segment every region of the frame
//! is one task: rows flow from layer to layer through rings that hold just
//! the rows that the next layer still needs. Between segments the whole
//! frame's channels lie in memory. Most convolutions run by Winograd's minimal
//! filtering, in tiles that are anchored at the frame's origin: a result's
//! bits depend neither on how the frame is divided nor on the threads.

use super::areas::{Area, Areas, CellGrid};
use super::io::{Planes, PlanesOut, Sink, Source};
use super::kernels::quantized::QuantizedKernels;
use super::layout::{BoundaryLayout, MIN_STRIP, RING_BYTES, Region, ring_floats};
use super::pack::{PackedChain, PackedLayer};
use super::task::Task;
use crate::chain::segment::assign_buffers;
use crate::chain::{Chain, ChainOptions, Interrupt};
use crate::ops::cpu::pixels::Kernels;
use crate::pages::{touch, zeroed};
use crate::threads::pool;
use crate::{Error, Result};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that a band has at least.
const MIN_BAND: usize = 36;

/// A packed network for inputs of one size.
#[derive(Debug)]
pub struct ChainExecutor {
    packed: Arc<PackedChain>,
    kernels: &'static Kernels,
    quantized: &'static QuantizedKernels,
    pool: Arc<ThreadPool>,
    size: (usize, usize),
    layouts: Vec<BoundaryLayout>,
    /// The regions of each segment, in order.
    segments: Vec<Vec<Region>>,
    /// Columns and rows that a region of the last segment has at most.
    largest: (usize, usize),
    /// The buffer of each boundary that whole frames are stored at.
    frames: Vec<Option<usize>>,
    buffers: Vec<Vec<f32>>,
    /// The halo rows of segments that overwrite what they read.
    halos: Vec<f32>,
    zeros: Vec<f32>,
    /// What lies beyond each boundary of words, where it is not 0: as long as `zeros`.
    borders: Vec<Vec<f32>>,
    /// The memory of each thread.
    workspaces: Vec<Mutex<Vec<f32>>>,
    interrupt: Interrupt,
}

impl ChainExecutor {
    /// An executor for inputs of `size` (width, height); `None` if the chain
    /// cannot be fused.
    ///
    /// # Errors
    ///
    /// An instruction set or a number of threads that this machine lacks, tensors
    /// that cannot be read.
    pub fn new(
        chain: &Chain,
        size: (usize, usize),
        options: &ChainOptions,
    ) -> Result<Option<Self>> {
        PackedChain::of_chain(chain)?
            .map(|packed| Self::of(Arc::new(packed), size, options))
            .transpose()
    }

    /// An executor for a packed network.
    ///
    /// # Errors
    ///
    /// As [`ChainExecutor::new`].
    pub fn of(
        packed: Arc<PackedChain>,
        size: (usize, usize),
        options: &ChainOptions,
    ) -> Result<Self> {
        Self::with_workspaces(packed, size, options, Vec::new())
    }

    /// An executor that works in the memory of another one, as far as it goes.
    ///
    /// # Errors
    ///
    /// As [`ChainExecutor::new`].
    pub(crate) fn with_workspaces(
        packed: Arc<PackedChain>,
        size: (usize, usize),
        options: &ChainOptions,
        spare: Vec<Vec<f32>>,
    ) -> Result<Self> {
        let level = crate::cpu_level::level().map_err(|e| Error::Setting(e.to_string()))?;
        let pool = pool(options.threads)?;
        let threads = pool.current_num_threads();
        let layouts = BoundaryLayout::of_chain(&packed.layers, size);
        let mut segments = Vec::new();
        let cuts = packed.segments(size.0 * size.1);
        let divisions: Vec<_> = cuts
            .iter()
            .map(|layers| division(&packed, layers, &layouts, options.tile_size, threads))
            .collect();
        let frames = assign_buffers(&skips(&packed.layers), &cuts, |i| {
            let is_bands = divisions[i].0 >= layouts[cuts[i].end].size().0;
            is_bands && !packed.quantized && can_run_in_place(&packed.layers[cuts[i].clone()])
        });
        let mut halo_floats = 0;
        for (layers, &(strip, band)) in cuts.iter().zip(&divisions) {
            let (w, h) = layouts[layers.end].size();
            let in_place =
                frames[layers.start].is_some() && frames[layers.start] == frames[layers.end];
            let mut regions = Vec::new();
            let mut floats = 0;
            for y in (0..h).step_by(band) {
                for x in (0..w).step_by(strip) {
                    let area = (x..(x + strip).min(w), y..(y + band).min(h));
                    let mut region = Region::new(&packed, &layouts, layers, area);
                    if in_place {
                        floats += region.copy_halo(&layouts[layers.start], floats);
                    }
                    regions.push(region);
                }
            }
            halo_floats = halo_floats.max(floats);
            segments.push(regions);
        }
        let mut lengths = Vec::new();
        for (layout, frame) in layouts.iter().zip(&frames) {
            if let &Some(frame) = frame {
                lengths.resize(lengths.len().max(frame + 1), 0);
                lengths[frame] = layout.frame_len().max(lengths[frame]);
            }
        }
        let buffers = lengths.into_iter().map(zeroed).collect();
        let largest = |measure: fn(&Region) -> usize| {
            let regions = segments.iter().flatten();
            regions.map(measure).max().unwrap_or(0)
        };
        let floats = largest(|region| region.workspace);
        let zeros = vec![0.0; largest(|region| region.longest)];
        let fits = |memory: &Vec<f32>| memory.len() >= floats;
        let mut spare = spare.into_iter().filter(fits);
        let workspace = || spare.next().unwrap_or_else(|| zeroed(floats));
        let workspaces = std::iter::repeat_with(workspace).take(threads);
        let workspaces = workspaces.map(Mutex::new).collect();
        Ok(Self {
            kernels: Kernels::of(level).map_err(|e| Error::Setting(e.to_string()))?,
            quantized: QuantizedKernels::of(level).map_err(|e| Error::Setting(e.to_string()))?,
            borders: border_rows(&packed, zeros.len()),
            packed,
            pool,
            size,
            layouts,
            segments,
            largest: divisions.last().copied().unwrap_or((1, 1)),
            frames,
            buffers,
            halos: zeroed(halo_floats),
            zeros,
            workspaces,
            interrupt: Interrupt::default(),
        })
    }

    /// The memory of each thread, for another executor.
    pub(crate) fn into_workspaces(self) -> Vec<Vec<f32>> {
        let workspaces = self.workspaces.into_iter();
        workspaces
            .map(|memory| memory.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }

    /// Makes runs stop at this request, within a few rows: their output is
    /// incomplete then.
    pub(crate) fn set_interrupt(&mut self, interrupt: Interrupt) {
        self.interrupt = interrupt;
    }

    /// Touches the memory of later runs.
    pub(crate) fn warm_up(&mut self) {
        let Self {
            buffers,
            halos,
            workspaces,
            ..
        } = self;
        buffers.iter_mut().for_each(|buffer| touch(buffer));
        touch(halos);
        for workspace in workspaces {
            touch(workspace.get_mut().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Width and height of the result.
    pub fn output_size(&self) -> (usize, usize) {
        let factor = self.packed.factor();
        (self.size.0 * factor, self.size.1 * factor)
    }

    /// Bytes that the executor holds, without the planes of input and result.
    pub fn memory(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Vec::len).sum();
        let len = |workspace: &Mutex<Vec<f32>>| {
            workspace
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len()
        };
        let workspaces: usize = self.workspaces.iter().map(len).sum();
        (buffers + self.halos.len() + workspaces) * size_of::<f32>()
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
    /// Planes of the wrong number or size; a network that adds its bicubically
    /// enlarged input, which planes alone do not define.
    pub fn run(&mut self, input: &[&[f32]], output: &mut [&mut [f32]]) -> Result<()> {
        let (w, h) = self.size;
        let (ow, oh) = self.output_size();
        let fits = input.len() == self.packed.planes && output.len() == self.packed.outputs;
        let filled = input.iter().all(|plane| plane.len() == w * h)
            && output.iter().all(|plane| plane.len() == ow * oh);
        if !fits || !filled || (self.packed.epilogue.residual_bicubic && self.packed.factor() > 1) {
            return Err(Error::Frame(format!(
                "the chain takes {} planes of {w}x{h} samples and returns {} of {ow}x{oh}",
                self.packed.planes, self.packed.outputs
            )));
        }
        let source = Planes {
            planes: input,
            width: w,
        };
        let sink = PlanesOut::new(output, ow);
        self.process(&source, &sink, &Areas::Whole);
        Ok(())
    }

    /// The cells of the result, if each depends on a part of the input alone: the
    /// chain is one segment.
    pub(crate) fn cells(&self) -> Option<CellGrid> {
        if self.segments.len() != 1 {
            return None;
        }
        let (width, height) = self.layouts.last()?.size();
        let side = self.cell();
        let region = |x: usize, y: usize| {
            let area = (x..(x + side).min(width), y..(y + side).min(height));
            let layers = 0..self.packed.layers.len();
            Region::new(&self.packed, &self.layouts, &layers, area).input(self.size)
        };
        Some(CellGrid {
            side: side * self.packed.shuffle,
            size: self.output_size(),
            columns: (0..width).step_by(side).map(|x| region(x, 0).0).collect(),
            rows: (0..height).step_by(side).map(|y| region(0, y).1).collect(),
        })
    }

    /// Side of a cell in samples of the last boundary.
    fn cell(&self) -> usize {
        step(&self.packed.layers)
    }

    /// The regions of areas of a chain that is one segment: disjoint, since the
    /// areas are.
    fn regions_of(&self, areas: &[Area]) -> Vec<Region> {
        let Some((width, height)) = self.layouts.last().map(BoundaryLayout::size) else {
            return Vec::new();
        };
        let (side, layers) = (self.cell(), 0..self.packed.layers.len());
        let limit = (self.largest.0 / side, self.largest.1 / side);
        let parts = Areas::balanced(areas, limit, self.pool.current_num_threads());
        let samples =
            |cells: Range<usize>, end: usize| cells.start * side..(cells.end * side).min(end);
        let regions = parts.into_iter().map(|Area { columns, rows }| {
            let area = (samples(columns, width), samples(rows, height));
            Region::new(&self.packed, &self.layouts, &layers, area)
        });
        regions.collect()
    }

    /// Makes the memory of the threads large enough for some regions.
    fn reserve(&mut self, regions: &[Region]) {
        let floats = regions.iter().map(|region| region.workspace).max();
        let longest = regions.iter().map(|region| region.longest).max();
        let longest = longest.unwrap_or(0).max(self.zeros.len());
        if longest > self.zeros.len() {
            self.zeros.resize(longest, 0.0);
            self.borders = border_rows(&self.packed, longest);
        }
        for workspace in &mut self.workspaces {
            let workspace = workspace.get_mut();
            let workspace = workspace.unwrap_or_else(PoisonError::into_inner);
            let floats = floats.unwrap_or(0).max(workspace.len());
            workspace.resize(floats, 0.0);
        }
    }

    /// Runs the network from `source` to `sink`, for some areas of the result:
    /// parts only if there are [`ChainExecutor::cells`].
    pub(crate) fn process(&mut self, source: &dyn Source, sink: &dyn Sink, areas: &Areas) {
        let parts = match areas {
            Areas::Parts(parts) => vec![self.regions_of(parts)],
            Areas::Whole => Vec::new(),
        };
        parts.iter().for_each(|regions| self.reserve(regions));
        let Self {
            packed,
            kernels,
            pool,
            layouts,
            segments,
            buffers,
            halos,
            zeros,
            borders,
            quantized,
            workspaces,
            interrupt,
            ..
        } = self;
        let frames: Vec<_> = (layouts.iter().zip(&self.frames))
            .map(|(layout, frame)| frame.map(|frame| layout.frame(&mut buffers[frame])))
            .collect();
        let segments = match areas {
            Areas::Parts(_) => &parts,
            Areas::Whole => &*segments,
        };
        pool.install(|| {
            for regions in segments {
                let halos: Vec<_> = (regions.iter())
                    .map(|region| region.save_halo_rows(&frames, halos))
                    .collect();
                let tasks = regions.par_iter().zip(&halos).with_max_len(1);
                tasks.for_each(|(region, &halo)| {
                    let worker = rayon::current_thread_index().unwrap_or(0);
                    let mut workspace = workspaces[worker]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    Task {
                        packed,
                        kernels,
                        layouts,
                        frames: &frames,
                        halo,
                        zeros,
                        borders,
                        quantized,
                        region,
                        source,
                        sink,
                        interrupt,
                    }
                    .run(&mut workspace);
                });
            }
        });
    }
}

/// For each boundary of words a row of what lies beyond it; empty for zeros.
fn border_rows(packed: &PackedChain, len: usize) -> Vec<Vec<f32>> {
    let row = |layer: &PackedLayer| match layer.quantized().map(|weights| weights.input_zero) {
        None | Some(0) => Vec::new(),
        Some(zero) => vec![f32::from_ne_bytes([zero; 4]); len],
    };
    packed.layers.iter().map(row).collect()
}

/// The boundaries that the layers add.
fn skips(layers: &[PackedLayer]) -> Vec<Option<usize>> {
    layers.iter().map(|layer| layer.skip).collect()
}

/// Whether a segment, row by row, reads what it overwrites before it does: the
/// first layer is ahead of the last by the padding of the others.
fn can_run_in_place(layers: &[PackedLayer]) -> bool {
    let later: usize = layers[1..].iter().map(PackedLayer::pad).sum();
    layers.len() > 1 && later >= layers[0].pad() && layers.iter().all(|l| l.shuffle == 1)
}

/// Columns and rows that every layer's tiles end at multiples of.
fn step(layers: &[PackedLayer]) -> usize {
    12 * layers.iter().map(|layer| layer.shuffle).product::<usize>()
}

/// Columns of a strip and rows of a band.
fn division(
    packed: &PackedChain,
    layers: &Range<usize>,
    layouts: &[BoundaryLayout],
    tile: usize,
    threads: usize,
) -> (usize, usize) {
    let chain = &packed.layers[layers.clone()];
    let step = step(chain);
    let round = |value: usize| value.next_multiple_of(step);
    let (width, height) = layouts[layers.end].size();
    if tile > 0 {
        return (round(tile), round(tile));
    }
    let column = ring_floats(packed, layers) * size_of::<f32>();
    let widest = (RING_BYTES / column.max(1)).max(MIN_STRIP);
    // As many strips as fit the cache, then as many for each thread.
    let strips = width.div_ceil(widest);
    let even = strips.next_multiple_of(threads);
    let adds_own = chain.last().and_then(|layer| layer.skip) == Some(layers.start);
    let strips = match strips {
        // Bands of whole rows may be written over the input.
        1 if adds_own => 1,
        _ if width / even >= MIN_STRIP => even,
        _ => strips,
    };
    let bands = threads.div_ceil(strips).min(height.div_ceil(MIN_BAND));
    (round(width.div_ceil(strips)), round(height.div_ceil(bands)))
}

#[cfg(test)]
mod quantized_tests;
#[cfg(test)]
mod tests;
