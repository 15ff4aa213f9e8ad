//! Convolution of `f32` planes on the CPU.
//!
//! The layers, from the bottom: vectors of one instruction set, the two inner
//! loops over them, planes with borders, and in `forward`,
//! `input_gradient` and `weight_gradient` the division of the work among
//! the threads of the current rayon pool. None of the results depends on the
//! number of threads.

mod correlate;
mod dispatch;
mod geometry;
mod planes;
mod scratch;
pub(crate) mod simd;
mod tile;
mod weights;

pub(super) use geometry::Geometry;
pub(super) use planes::Planes;
pub(super) use tile::Kernels;
pub(super) use weights::weight_gradient;

use correlate::Correlation;
use rayon::prelude::*;

/// Multiplications, or values moved, below which waking a thread costs more
/// than it saves.
const WORTH_SHARING: usize = 1 << 17;

fn shared_work(amount: usize) -> bool {
    amount >= WORTH_SHARING && rayon::current_num_threads() > 1
}

/// Runs tasks, on several threads if the amount of work in them is worth it.
fn run_tasks(count: usize, amount: usize, task: impl Fn(usize) + Sync + Send) {
    if count > 1 && shared_work(amount) {
        (0..count).into_par_iter().for_each(task);
    } else {
        (0..count).for_each(task);
    }
}

/// The convolution of dense images by dense weights, as a dense result.
pub(super) fn forward(
    kernels: &Kernels,
    geometry: &Geometry,
    images: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let planes = Planes::new(geometry.input_frame(), images, None);
    Correlation {
        planes: &planes,
        batch: geometry.batch,
        outputs: geometry.outputs,
        groups: geometry.groups,
        kernel: geometry.kernel,
        dilation: geometry.dilation,
        grid: geometry.grid(),
        stride: geometry.stride,
        relu: geometry.relu,
        weights,
        bias,
    }
    .run(kernels)
}

/// The gradient of the images, from that of the result in
/// [`Geometry::grad_frame`].
pub(super) fn input_gradient(
    kernels: &Kernels,
    geometry: &Geometry,
    grad: &Planes,
    weights: &[f32],
) -> Vec<f32> {
    let padded = Correlation {
        planes: grad,
        batch: geometry.batch,
        outputs: geometry.inputs,
        groups: geometry.groups,
        kernel: geometry.kernel,
        dilation: geometry.dilation,
        grid: geometry.grad_grid(),
        stride: 1,
        relu: false,
        weights: &correlate::transposed(geometry, weights),
        bias: None,
    }
    .run(kernels);
    if geometry.grad_grid() == geometry.image {
        padded
    } else {
        fold_edges(geometry, &padded)
    }
}

/// Adds the gradients of a replicated border to the pixels it repeats.
fn fold_edges(geometry: &Geometry, padded: &[f32]) -> Vec<f32> {
    let ((height, width), (top, left)) = (geometry.image, geometry.pad());
    let (rows, columns) = geometry.grad_grid();
    let mut folded = vec![0.0; geometry.batch * geometry.inputs * height * width];
    let fold = |(to, from): (&mut [f32], &[f32])| {
        for (y, row) in from.chunks_exact(columns).enumerate() {
            let at = y.saturating_sub(top).min(height - 1) * width;
            for (x, value) in row.iter().enumerate() {
                to[at + x.saturating_sub(left).min(width - 1)] += value;
            }
        }
    };
    folded
        .par_chunks_exact_mut(height * width)
        .zip(padded.par_chunks_exact(rows * columns))
        .for_each(fold);
    folded
}

/// The gradient of the bias: the sums of the gradients of the result.
pub(super) fn bias_gradient(geometry: &Geometry, grad: &Planes) -> Vec<f32> {
    let sum = |channel: usize| {
        let planes = (0..geometry.batch).map(|image| image * geometry.outputs + channel);
        planes.map(|plane| sum(grad.plane(plane))).sum::<f64>() as f32
    };
    (0..geometry.outputs).into_par_iter().map(sum).collect()
}

/// The sum of a plane, in lanes so that it vectorises. A lane adds up a
/// sixteenth of a plane at most before going on in double precision.
fn sum(plane: &[f32]) -> f64 {
    let mut lanes = [0.0f32; planes::LINE];
    for line in plane.chunks_exact(planes::LINE) {
        for (lane, value) in lanes.iter_mut().zip(line) {
            *lane += value;
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}
