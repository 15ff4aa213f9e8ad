//! What the operations on the channels of (N, C, H, W) share: sums over each
//! channel, and new planes, computed in parallel in one order.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

/// Sums that run side by side over a plane, for wide vectors.
const LANES: usize = 32;

/// Whether the kernels here take the tensors: `f32` on the CPU.
pub(super) fn is_fast(tensors: &[&Tensor]) -> bool {
    let mut tensors = tensors.iter();
    tensors.all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

/// Whether those of the GPU take them.
#[cfg(feature = "cuda")]
pub(super) fn on_gpu(tensors: &[&Tensor]) -> bool {
    let mut tensors = tensors.iter();
    tensors.all(|tensor| tensor.device().is_cuda() && tensor.dtype() == DType::F32)
}

/// The sum of what `f` makes of the samples of planes, and of a second value.
pub(super) fn sums(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> [f32; 2]) -> [f64; 2] {
    let mut lanes = [[0f32; LANES]; 2];
    let add = |lanes: &mut [[f32; LANES]; 2], a: &[f32], b: &[f32]| {
        for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
            let [first, second] = f(a, b);
            lanes[0][i] += first;
            lanes[1][i] += second;
        }
    };
    let (whole, rest) = a.as_chunks::<LANES>();
    let (other, other_rest) = b.as_chunks::<LANES>();
    for (a, b) in whole.iter().zip(other) {
        add(&mut lanes, a, b);
    }
    add(&mut lanes, rest, other_rest);
    lanes.map(|lanes| lanes.iter().copied().map(f64::from).sum())
}

/// For each channel, the sums of what `f` makes of each of its planes, in the
/// planes' order.
pub(super) fn channel_sums(
    batch: usize,
    channels: usize,
    f: impl Fn(usize, usize) -> [f64; 2] + Sync,
) -> Vec<[f64; 2]> {
    let channel = |channel: usize| {
        let planes = (0..batch).map(|image| f(channel, image * channels + channel));
        planes.fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d])
    };
    (0..channels).into_par_iter().map(channel).collect()
}

/// One plane of a dense tensor.
pub(super) fn plane(samples: &[f32], index: usize, area: usize) -> &[f32] {
    &samples[index * area..][..area]
}

/// Computes each plane of a tensor from its index.
pub(super) fn planes(count: usize, area: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut result = vec![0f32; count * area];
    let planes = result.par_chunks_exact_mut(area).enumerate();
    planes.for_each(|(index, plane)| f(index, plane));
    result
}

/// What the tests of these operations share.
#[cfg(test)]
pub(super) mod testing {
    use candle_core::{DType, Device, Result, Shape, Tensor, Var};

    pub(in crate::ops) const SHAPE: (usize, usize, usize, usize) = (3, 4, 5, 7);

    pub(in crate::ops) fn noise(count: usize, from: f64, to: f64) -> Vec<f64> {
        let values = (0..count).map(|i| ((i * 7919 + 31) % 1009) as f64 / 1009.0);
        values.map(|v| from + (to - from) * v).collect()
    }

    pub(in crate::ops) fn var(values: &[f64], shape: impl Into<Shape>, kind: DType) -> Var {
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        Var::from_tensor(&tensor.to_dtype(kind).unwrap()).unwrap()
    }

    /// Result and gradients of a weighted sum of it, in f64 by candle's
    /// operations and in f32 by ours.
    pub(in crate::ops) fn compare(
        vars: impl Fn(DType) -> Vec<Var>,
        op: impl Fn(&[Var]) -> Result<Tensor>,
    ) {
        let [exact, fast] = [DType::F64, DType::F32].map(|kind| {
            let vars = vars(kind);
            let result = op(&vars).unwrap();
            let weights = var(&noise(result.elem_count(), -1.0, 1.0), result.dims(), kind);
            let own = vars[0].sqr().unwrap().sum_all().unwrap();
            let loss = (&result * weights.as_detached_tensor()).unwrap();
            let gradients = (loss.sum_all().unwrap() + own).unwrap().backward().unwrap();
            let gradients = vars.iter().map(|var| gradients.get(var).unwrap().clone());
            gradients.chain([result]).collect::<Vec<_>>()
        });
        for (i, (exact, fast)) in exact.iter().zip(&fast).enumerate() {
            let fast = fast.to_dtype(DType::F64).unwrap();
            let apart = (exact - fast).unwrap().abs().unwrap().max_all().unwrap();
            let apart = apart.to_scalar::<f64>().unwrap();
            assert!(apart < 2e-5, "{i}: {apart}");
        }
    }
}
