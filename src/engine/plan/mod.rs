//! Chains of convolutions, fused: whole networks run over strips of a frame
//! whose hidden layers stay in the cache.
//!
//! A chain is cut into segments. Inside a segment every region of the frame
//! is one task: rows flow from layer to layer through rings that hold just
//! the rows that the next layer still needs. Between segments the whole
//! frame's channels lie in memory. Most convolutions run by Winograd's minimal
//! filtering, in tiles that are anchored at the frame's origin: a result's
//! bits depend neither on how the frame is divided nor on the threads.

mod task;

use super::Options;
use super::stage::PEAK;
use super::upscaler::pool;
use crate::frame::{Component, FrameMut, to_u8};
use crate::models::ScaledNetwork;
use crate::nn::{Layer, Packed};
use crate::ops::cpu::nhwc::Loops;
use crate::{Error, Result};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use task::{Beside, Memory, Region, Rows, Shape, Task};

/// Pixels that the products take at once, two groups of channels each.
const BLOCK: usize = 12;

/// Bytes of rings that a task may have: what the second-level cache holds
/// beside weights and points.
const RINGS: usize = 3 << 19;

/// Columns that a strip has at least; narrower ones mostly compute what lies beyond their sides.
const NARROWEST: usize = 64;

/// Rows that a band has at least.
const SHORTEST: usize = 36;

/// Where the planes of a plan come from. Samples are in the network's units:
/// 0 to 1.
pub(super) trait Source: Sync {
    /// Samples of a row of an input plane.
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]);

    /// Adds the enlarged input to a row of a result's plane, for networks that
    /// enlarge.
    fn add_base(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]);
}

/// Where the planes of a plan go.
pub(super) trait Sink: Sync {
    /// Takes a part of a row of a result's plane, from column `x` on. Every
    /// sample is handed over exactly once.
    fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]);
}

/// A packed network for frames of one size.
#[derive(Debug)]
pub struct Plan {
    packed: Arc<Packed>,
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

impl Plan {
    /// A plan for inputs of `size` (width, height); `None` if the network is
    /// no chain that can be fused.
    ///
    /// # Errors
    ///
    /// A level or a number of threads that cannot be had, tensors that cannot be read.
    pub fn new(
        network: &dyn ScaledNetwork,
        size: (usize, usize),
        options: &Options,
    ) -> Result<Option<Self>> {
        let packed = match network.chain()? {
            Some(chain) => Packed::of_chain(&chain)?,
            None => None,
        };
        packed
            .map(|packed| Self::of(Arc::new(packed), size, options))
            .transpose()
    }

    /// A plan for a packed network.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn of(packed: Arc<Packed>, size: (usize, usize), options: &Options) -> Result<Self> {
        let level = crate::ops::cpu::level().map_err(|e| Error::Setting(e.to_string()))?;
        let pool = pool(options.threads)?;
        let threads = pool.current_num_threads();
        let shapes = task::shapes(&packed.layers, size);
        let mut segments = Vec::new();
        let cuts = cut(&skips(&packed.layers));
        let divisions: Vec<_> = cuts
            .iter()
            .map(|layers| division(&packed, layers, &shapes, options.tile, threads))
            .collect();
        let frames = place(&skips(&packed.layers), &cuts, |i| {
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
    pub(super) fn process(&mut self, source: &dyn Source, sink: &dyn Sink) {
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

/// What each layer adds.
fn skips(layers: &[Layer]) -> Vec<Option<usize>> {
    layers.iter().map(|layer| layer.skip).collect()
}

/// Divides a chain into segments: at the ends of what is added later, and not
/// at all where nothing is. `skips` are the boundaries that the layers add.
pub(super) fn cut(skips: &[Option<usize>]) -> Vec<Range<usize>> {
    let mut cuts = vec![0, skips.len()];
    for (i, skip) in skips.iter().enumerate() {
        if let &Some(skip) = skip {
            cuts.extend([skip, i + 1]);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Assigns frames to the boundaries between segments; a frame is free again
/// after the last segment that reads it. What is added at the end of a segment
/// may be written over: read for the last time, sample by sample, or being the
/// input of a segment that `writes_over` its own.
pub(super) fn place(
    skips: &[Option<usize>],
    segments: &[Range<usize>],
    writes_over: impl Fn(usize) -> bool,
) -> Vec<Option<usize>> {
    let mut frames: Vec<Option<usize>> = vec![None; skips.len() + 1];
    let last_use = |boundary: usize| {
        let reads = |segment: &Range<usize>| {
            let mut skips = skips[segment.clone()].iter().flatten();
            segment.start == boundary || skips.any(|&skip| skip == boundary)
        };
        segments.iter().rposition(reads)
    };
    let inner = segments.len().saturating_sub(1);
    for (i, segment) in segments[..inner].iter().enumerate() {
        let over = skips[segment.end - 1]
            .filter(|&skip| last_use(skip) == Some(i) && (skip != segment.start || writes_over(i)));
        let taken: Vec<usize> = (0..=skips.len())
            .filter(|&boundary| last_use(boundary).is_some_and(|last| last >= i))
            .filter_map(|boundary| frames[boundary])
            .collect();
        let free = (0..).find(|frame| !taken.contains(frame));
        frames[segment.end] = over.and_then(|over| frames[over]).or(free);
    }
    frames
}

/// Whether a segment, row by row, reads what it is about to write over before
/// it does: the first layer is ahead of the last by what the others reach.
fn reads_ahead(layers: &[Layer]) -> bool {
    let later: usize = layers[1..].iter().map(Layer::pad).sum();
    layers.len() > 1 && later >= layers[0].pad() && layers.iter().all(|l| l.shuffle == 1)
}

/// Values that the whole frames between segments hold for each sample that
/// the network sees.
pub(super) fn held(packed: &Packed) -> usize {
    let skips = skips(&packed.layers);
    let frames = place(&skips, &cut(&skips), |_| false);
    let (mut factor, mut largest) = (1, Vec::new());
    for (layer, frame) in packed.layers.iter().zip(&frames[1..]) {
        factor *= layer.shuffle;
        if let &Some(frame) = frame {
            largest.resize(largest.len().max(frame + 1), 0);
            largest[frame] = largest[frame].max(layer.stored() * factor * factor);
        }
    }
    largest.iter().sum()
}

/// Columns of a strip and rows of a band.
fn division(
    packed: &Packed,
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

/// Planes as a source.
struct Planes<'a> {
    planes: &'a [&'a [f32]],
    width: usize,
}

impl Planes<'_> {
    fn part(&self, plane: usize, y: usize, x: Range<usize>) -> &[f32] {
        &self.planes[plane][y * self.width..][x]
    }
}

impl Source for Planes<'_> {
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(self.part(plane, y, x));
    }

    fn add_base(&self, _: usize, _: usize, _: Range<usize>, _: &mut [f32]) {
        debug_assert!(false, "checked by `Plan::run`");
    }
}

/// Dense planes as a sink.
pub(super) struct PlanesOut<'a> {
    planes: Vec<(*mut f32, usize)>,
    width: usize,
    /// What values are multiplied by, and then clamped to from zero.
    peak: Option<f32>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a sample is stored once, by one thread, and the planes are borrowed
// for as long as the sink lives.
unsafe impl Sync for PlanesOut<'_> {}

impl<'a> PlanesOut<'a> {
    /// Takes values as they are. Planes of that width.
    fn new(planes: &'a mut [&mut [f32]], width: usize) -> Self {
        let planes = planes.iter_mut();
        Self {
            planes: planes.map(|p| (p.as_mut_ptr(), p.len())).collect(),
            width,
            peak: None,
            borrowed: PhantomData,
        }
    }

    /// Takes values of 0 to 1 as 0 to 255, clamped.
    pub(super) fn clamped(planes: &'a mut [&mut [f32]], width: usize) -> Self {
        Self {
            peak: Some(PEAK),
            ..Self::new(planes, width)
        }
    }
}

impl Sink for PlanesOut<'_> {
    fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]) {
        let (start, len) = self.planes[plane];
        let at = y * self.width + x;
        assert!(x + samples.len() <= self.width && at + samples.len() <= len);
        // SAFETY: the range was checked, and no other thread has this part.
        let target = unsafe { std::slice::from_raw_parts_mut(start.add(at), samples.len()) };
        let Some(peak) = self.peak else {
            return target.copy_from_slice(samples);
        };
        for (target, sample) in target.iter_mut().zip(samples) {
            *target = (sample * peak).clamp(0.0, peak);
        }
    }
}

/// A component of a frame as a sink: values of 0 to 1 are rounded to 0 to 255.
pub(super) struct SamplesOut<'a> {
    data: *mut u8,
    len: usize,
    stride: usize,
    step: usize,
    borrowed: PhantomData<&'a mut [u8]>,
}

// SAFETY: as for `PlanesOut`.
unsafe impl Sync for SamplesOut<'_> {}

impl<'a> SamplesOut<'a> {
    /// The component of a frame, which is not subsampled.
    pub(super) fn new(frame: &'a mut FrameMut<'_>, component: &Component) -> Self {
        let (data, stride) = frame.plane_mut(component.plane);
        let data = &mut data[component.offset..];
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            stride,
            step: component.step,
            borrowed: PhantomData,
        }
    }
}

impl Sink for SamplesOut<'_> {
    fn store(&self, _: usize, y: usize, x: usize, samples: &[f32]) {
        let first = y * self.stride + x * self.step;
        let count = samples.len().saturating_sub(1) * self.step + 1;
        assert!(x * self.step + count <= self.stride && first + count <= self.len);
        // SAFETY: the range was checked. Of the bytes in it no other thread has
        // those that are written below, and no byte is read.
        unsafe {
            let target = self.data.add(first);
            for (i, sample) in samples.iter().enumerate() {
                *target.add(i * self.step) = to_u8((sample * PEAK).clamp(0.0, PEAK));
            }
        }
    }
}

#[cfg(test)]
mod tests;
