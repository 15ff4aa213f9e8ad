//! Convolution of `f32` planes on the CPU.
//!
//! The layers, from the bottom: vectors of one instruction set, the two inner
//! loops over them, planes with borders, and in `forward`,
//! `input_gradient` and `weight_gradient` the division of the work among
//! the threads of the current rayon pool. None of the results depends on the
//! number of threads.

mod correlate;
mod dispatch;
pub(crate) mod pixels;
mod planes;
mod scratch;
pub(crate) mod simd;
mod threads;
mod tile;
mod weights;
pub(in crate::ops) mod winograd;

pub(super) use planes::{PaddedPlanes, PlaneLayout};
pub(super) use tile::Kernels;
pub(super) use weights::weight_gradient;

use super::spec::ConvGeometry;
use correlate::Correlation;
use rayon::prelude::*;

/// The convolution of dense images by dense weights, as a dense result. The planes of
/// the images may lie in several parts, one after the other.
pub(super) fn forward(
    kernels: &Kernels,
    geometry: &ConvGeometry,
    images: &[&[f32]],
    weights: &[f32],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let planes = PaddedPlanes::new(PlaneLayout::of_images(geometry), images, None);
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
/// [`PlaneLayout::of_gradient`].
pub(super) fn input_gradient(
    kernels: &Kernels,
    geometry: &ConvGeometry,
    grad: &PaddedPlanes,
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
    without_border(geometry, padded)
}

/// The gradient of images from that of images with their border.
fn without_border(geometry: &ConvGeometry, padded: Vec<f32>) -> Vec<f32> {
    if geometry.grad_grid() == geometry.image {
        padded
    } else {
        fold_edges(geometry, &padded)
    }
}

/// Adds the gradients of a replicated border to the pixels it repeats.
fn fold_edges(geometry: &ConvGeometry, padded: &[f32]) -> Vec<f32> {
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
pub(super) fn bias_gradient(geometry: &ConvGeometry, grad: &PaddedPlanes) -> Vec<f32> {
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
