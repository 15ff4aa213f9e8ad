//! The gradient of the weights.

use super::correlate::{Block, Sink, blocks, taps};
use super::planes::{LINE, PaddedPlanes};
use super::scratch::Scratch;
use super::threads::run_tasks;
use super::tile::{Kernels, PARTIAL_SUMS, Products};
use crate::ops::spec::ConvGeometry;
use std::ops::Range;

/// Length of the stretches that planes are worked through in: eight gradient planes of
/// it fill two thirds of a nearest cache of 32 KiB, and stay there for all taps of a
/// task. Levels with short vectors pass over them several times.
const STRETCH: usize = 704;

/// Taps in a task, for which the gradient is fetched from farther away once.
const TAPS_PER_TASK: usize = 24;

/// The gradient of the weights, from the images in
/// [`PlaneLayout::of_images`](super::PlaneLayout::of_images) and the gradient of the result in
/// [`PlaneLayout::of_gradient`](super::PlaneLayout::of_gradient).
///
/// Each weight is summed up by one thread, image by image and stretch by
/// stretch, in as many partial sums at every level, so that its bits depend
/// neither on the number of threads nor on the level.
pub(in crate::ops) fn weight_gradient(
    kernels: &Kernels,
    geometry: &ConvGeometry,
    images: &PaddedPlanes,
    grad: &PaddedPlanes,
) -> Vec<f32> {
    let offsets = offsets(geometry, images);
    let blocks = blocks(kernels, geometry.inputs, geometry.outputs, geometry.groups);
    let tasks = tasks(kernels, &blocks, offsets.len());
    let count = geometry.outputs * offsets.len();
    let mut out = Vec::with_capacity(count);
    let sink = Sink::new(&mut out.spare_capacity_mut()[..count]);
    let (height, width) = geometry.grid();
    let amount = geometry.batch * height * width * geometry.outputs * offsets.len();
    run_tasks(tasks.len(), amount, |task| {
        let (block, range) = &tasks[task];
        let job = Job {
            kernels,
            geometry,
            images,
            grad,
            block,
            taps: &offsets[range.clone()],
        };
        let sums = job.run();
        for (i, sums) in sums.chunks_exact(range.len()).enumerate() {
            let at = (block.output + i) * offsets.len() + range.start;
            // SAFETY: *disjoint*: each weight is in one task, since blocks and
            // ranges of taps do not overlap.
            unsafe { sink.put(at, sums, 1) }
        }
    });
    // SAFETY: the tasks cover all taps of all output channels.
    unsafe { out.set_len(count) };
    out
}

/// Where the weights of an output channel read, relative to the plane of the
/// first input channel of their group.
fn offsets(geometry: &ConvGeometry, images: &PaddedPlanes) -> Vec<usize> {
    let layout = images.layout();
    let taps = taps(layout.pitch(), geometry.kernel, geometry.dilation);
    let channels = 0..geometry.inputs / geometry.groups;
    channels
        .flat_map(|channel| taps.iter().map(move |tap| channel * layout.stride() + tap))
        .collect()
}

fn tasks<'a>(
    kernels: &Kernels,
    blocks: &'a [Block],
    taps: usize,
) -> Vec<(&'a Block, Range<usize>)> {
    let ranges = |block: &'a Block| {
        let width = kernels.vectors(block.outputs);
        let step = TAPS_PER_TASK / width * width;
        let starts = (0..taps).step_by(step);
        starts.map(move |start| (block, start..taps.min(start + step)))
    };
    blocks.iter().flat_map(ranges).collect()
}

/// The weights of a block of output channels at a few taps.
struct Job<'a> {
    kernels: &'a Kernels,
    geometry: &'a ConvGeometry,
    images: &'a PaddedPlanes,
    grad: &'a PaddedPlanes,
    block: &'a Block,
    taps: &'a [usize],
}

impl Job<'_> {
    /// The gradients by output channel, then tap.
    fn run(&self) -> Vec<f32> {
        let groups = self.groups();
        let weights = self.kernels.vectors(self.block.outputs) * self.block.outputs;
        let tile = weights * PARTIAL_SUMS;
        let mut sums = Scratch::take(groups.len() * tile);
        sums.fill(0.0);
        for image in 0..self.geometry.batch {
            for range in self.stretches() {
                for (taps, sums) in groups.iter().zip(sums.chunks_exact_mut(tile)) {
                    self.add(image, range.clone(), taps, sums);
                }
            }
        }
        self.reduce(&sums)
    }

    /// The taps in groups of the width of a tile; the last one repeats its
    /// last tap to fill it.
    fn groups(&self) -> Vec<Vec<usize>> {
        let width = self.kernels.vectors(self.block.outputs);
        let group = |taps: &[usize]| {
            let mut group = taps.to_vec();
            group.resize(width, taps[taps.len() - 1]);
            group
        };
        self.taps.chunks(width).map(group).collect()
    }

    /// Stretches of the line that the results lie on, whole cache lines long;
    /// there are zeros enough behind each plane.
    fn stretches(&self) -> impl Iterator<Item = Range<usize>> {
        let (height, width) = self.geometry.grid();
        let total = (height - 1) * self.images.layout().pitch() + width;
        let total = total.next_multiple_of(LINE);
        let step = total
            .div_ceil(total.div_ceil(STRETCH))
            .next_multiple_of(LINE);
        let starts = (0..total).step_by(step);
        starts.map(move |start| start..total.min(start + step))
    }

    fn add(&self, image: usize, range: Range<usize>, taps: &[usize], sums: &mut [f32]) {
        let Block {
            output,
            outputs,
            input,
        } = *self.block;
        let origin = self.grad.layout().origin();
        let grad = self.grad.from(image * self.geometry.outputs + output);
        let images = self.images.from(image * self.geometry.inputs + input);
        self.kernels.run_products(Products {
            grad: &grad[origin + range.start..],
            stride: self.grad.layout().stride(),
            outputs,
            input: &images[range.start..],
            taps,
            len: range.len(),
            sums,
        });
    }

    /// Adds up the partial sums of each weight, one after the other.
    fn reduce(&self, sums: &[f32]) -> Vec<f32> {
        let outputs = self.block.outputs;
        let width = self.kernels.vectors(outputs);
        let mut reduced = Vec::with_capacity(outputs * self.taps.len());
        for output in 0..outputs {
            for tap in 0..self.taps.len() {
                let weight = (tap / width * outputs + output) * width + tap % width;
                reduced.push(sums[weight * PARTIAL_SUMS..][..PARTIAL_SUMS].iter().sum());
            }
        }
        reduced
    }
}
