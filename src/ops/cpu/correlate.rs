//! Convolutions of planes, divided into strips.

use super::planes::PaddedPlanes;
use super::scratch::Scratch;
use super::threads::run_tasks;
use super::tile::{Kernels, Strip};
use crate::ops::spec::ConvGeometry;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Results of one output channel in a strip, at most and at least. A strip of
/// eight channels then fills the nearest cache or less.
const STRIP: (usize, usize) = (1536, 480);

/// Input values that a strip may read: half of a 1 MiB cache, so that they
/// are still there for the next output channels.
const STRIP_INPUT: usize = 128 << 10;

/// Strips are cut at multiples of this, which the tiles of most levels divide.
const STRIP_UNIT: usize = 96;

/// A convolution of planes by dense weights.
pub(super) struct Correlation<'a> {
    pub(super) planes: &'a PaddedPlanes,
    pub(super) batch: usize,
    pub(super) outputs: usize,
    pub(super) groups: usize,
    pub(super) kernel: (usize, usize),
    pub(super) dilation: usize,
    /// Size of the result at stride 1.
    pub(super) grid: (usize, usize),
    pub(super) stride: usize,
    pub(super) relu: bool,
    pub(super) weights: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
}

/// Output channels that are computed together.
pub(super) struct Block {
    /// The first of them.
    pub(super) output: usize,
    pub(super) outputs: usize,
    /// The first input channel of their group.
    pub(super) input: usize,
}

/// Divides the output channels into blocks that fit the tiles.
pub(super) fn blocks(
    kernels: &Kernels,
    inputs: usize,
    outputs: usize,
    groups: usize,
) -> Vec<Block> {
    let in_group = outputs / groups;
    let mut blocks = Vec::new();
    for group in 0..groups {
        let mut done = 0;
        while done < in_group {
            let count = kernels.outputs(in_group - done);
            blocks.push(Block {
                output: group * in_group + done,
                outputs: count,
                input: group * (inputs / groups),
            });
            done += count;
        }
    }
    blocks
}

impl Correlation<'_> {
    /// Computes the result, dense.
    pub(super) fn run(&self, kernels: &Kernels) -> Vec<f32> {
        let inputs = self.planes.count() / self.batch;
        let blocks = blocks(kernels, inputs, self.outputs, self.groups);
        let depth = inputs / self.groups * self.kernel.0 * self.kernel.1;
        let packed = self.pack(&blocks, depth);
        let taps = self.taps();
        let ranges = self.ranges(inputs / self.groups);

        let (height, width) = self.size();
        let count = self.batch * self.outputs * height * width;
        let mut out = Vec::with_capacity(count);
        let sink = Sink::new(&mut out.spare_capacity_mut()[..count]);
        let results = self.batch * self.outputs * self.grid.0 * self.grid.1;
        let tasks = self.batch * ranges.len() * blocks.len();
        run_tasks(tasks, results * depth, |task| {
            let block = &blocks[task % blocks.len()];
            let (start, len) = ranges[task / blocks.len() % ranges.len()];
            let image = task / blocks.len() / ranges.len();

            let row = len.next_multiple_of(kernels.tile(block.outputs));
            let mut strip = Scratch::take(row * block.outputs);
            let weights = block.output * depth..(block.output + block.outputs) * depth;
            kernels.run_strip(Strip {
                input: &self.planes.from(image * inputs + block.input)[start..],
                stride: self.planes.layout().stride(),
                channels: inputs / self.groups,
                taps: &taps,
                weights: &packed[weights],
                bias: match self.bias {
                    Some(bias) => &bias[block.output..block.output + block.outputs],
                    None => &[0.0; 8][..block.outputs],
                },
                relu: self.relu,
                out: &mut strip,
            });
            for (channel, values) in strip.chunks_exact(row).enumerate() {
                let plane = image * self.outputs + block.output + channel;
                // SAFETY: *disjoint*: no two tasks have the same image, output
                // channel and range, and ranges do not overlap.
                unsafe { self.put(&sink, plane, start, &values[..len]) }
            }
        });
        // SAFETY: the strips cover every output channel of every image, and
        // the ranges every result that the stride keeps.
        unsafe { out.set_len(count) };
        out
    }

    /// Size of the result.
    fn size(&self) -> (usize, usize) {
        let (height, width) = self.grid;
        (height.div_ceil(self.stride), width.div_ceil(self.stride))
    }

    /// Where the taps read, relative to their result.
    fn taps(&self) -> Vec<usize> {
        taps(self.planes.layout().pitch(), self.kernel, self.dilation)
    }

    /// Weights by block, input channel, tap and output channel.
    fn pack(&self, blocks: &[Block], depth: usize) -> Vec<f32> {
        let mut packed = Vec::with_capacity(self.weights.len());
        for block in blocks {
            let rows = &self.weights[block.output * depth..];
            for at in 0..depth {
                packed.extend((0..block.outputs).map(|row| rows[row * depth + at]));
            }
        }
        packed
    }

    /// Starts and lengths of the strips, along the line of a plane.
    fn ranges(&self, channels: usize) -> Vec<(usize, usize)> {
        let (height, width) = self.grid;
        let pitch = self.planes.layout().pitch();
        if self.stride > 1 {
            let rows = (0..height).step_by(self.stride);
            return rows.map(|y| (y * pitch, width)).collect();
        }
        let total = (height - 1) * pitch + width;
        let longest = STRIP_INPUT / (channels * self.kernel.0);
        let count = total.div_ceil(longest.clamp(STRIP.1, STRIP.0));
        let len = total.div_ceil(count).next_multiple_of(STRIP_UNIT);
        let starts = (0..total).step_by(len);
        starts
            .map(|start| (start, len.min(total - start)))
            .collect()
    }

    /// Writes the values of a range of the line to their places in a plane,
    /// leaving out those between rows and those that the stride skips.
    ///
    /// # Safety
    ///
    /// *Disjoint* (see [`Sink`]): nobody else writes the same range of the same
    /// plane.
    unsafe fn put(&self, sink: &Sink<'_>, plane: usize, start: usize, values: &[f32]) {
        let (pitch, end) = (self.planes.layout().pitch(), start + values.len());
        let (height, width) = self.size();
        for y in start / pitch..end.div_ceil(pitch) {
            let row = y * pitch;
            let (from, to) = (row.max(start), end.min(row + self.grid.1));
            if from >= to || !y.is_multiple_of(self.stride) {
                continue;
            }
            let at = (plane * height + y / self.stride) * width + (from - row) / self.stride;
            // SAFETY: *disjoint*, as the ranges are; with a stride, those are rows.
            unsafe { sink.put(at, &values[from - start..to - start], self.stride) }
        }
    }
}

/// Where the taps of a kernel read in a plane of this pitch.
pub(super) fn taps(pitch: usize, kernel: (usize, usize), dilation: usize) -> Vec<usize> {
    let rows = (0..kernel.0).map(|y| y * dilation * pitch);
    rows.flat_map(|row| (0..kernel.1).map(move |x| row + x * dilation))
        .collect()
}

/// The weights that take gradients back: input and output channels of each
/// group change places, and the kernel is turned around.
pub(super) fn transposed(geometry: &ConvGeometry, weights: &[f32]) -> Vec<f32> {
    let taps = geometry.kernel.0 * geometry.kernel.1;
    let inputs = geometry.inputs / geometry.groups;
    let outputs = geometry.outputs / geometry.groups;
    let mut transposed = Vec::with_capacity(weights.len());
    for group in weights.chunks_exact(outputs * inputs * taps) {
        for input in 0..inputs {
            for output in 0..outputs {
                let at = (output * inputs + input) * taps;
                transposed.extend(group[at..at + taps].iter().rev());
            }
        }
    }
    transposed
}

/// Memory that several threads fill, each its own part.
///
/// Safety: the parts are *disjoint*: while the sink lives, no place is written
/// by two calls of [`put`](Self::put) that may run at once.
pub(super) struct Sink<'a> {
    start: *mut MaybeUninit<f32>,
    len: usize,
    memory: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: a sink stands for an exclusive reference to its memory, which may be
// sent to another thread.
unsafe impl Send for Sink<'_> {}

// SAFETY: a shared sink only lets `put` write, whose callers keep their parts
// *disjoint*.
unsafe impl Sync for Sink<'_> {}

impl<'a> Sink<'a> {
    pub(super) fn new(memory: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            start: memory.as_mut_ptr(),
            len: memory.len(),
            memory: PhantomData,
        }
    }

    /// Writes every `step`th value, densely, from the place `at` on.
    ///
    /// # Safety
    ///
    /// *Disjoint*.
    ///
    /// # Panics
    ///
    /// If the values reach beyond the memory.
    pub(super) unsafe fn put(&self, at: usize, values: &[f32], step: usize) {
        let count = values.len().div_ceil(step);
        assert!(at <= self.len && count <= self.len - at);
        // SAFETY: the places exist, as just checked, the sink borrows them for
        // as long as it lives, and they are *disjoint* from others'.
        let places = unsafe { std::slice::from_raw_parts_mut(self.start.add(at), count) };
        if step == 1 {
            for (place, &value) in places.iter_mut().zip(values) {
                place.write(value);
            }
            return;
        }
        for (place, &value) in places.iter_mut().zip(values.iter().step_by(step)) {
            place.write(value);
        }
    }
}
