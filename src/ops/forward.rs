//! Operations without gradients, for networks that only run: on the CPU in `f32` by
//! several threads, elsewhere by candle.

use super::conv::{conv2d, conv2d_of_parts};
use super::per_channel::is_fast;
use super::spec::ConvSpec;
use super::storage::with_all;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Values that a thread computes at once.
const PIECE: usize = 1 << 13;

/// A sum, a difference or a product of each two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairwise {
    Add,
    Sub,
    Mul,
}

/// Combines the values of two tensors, one of which may be a single value that stands
/// for all.
///
/// # Errors
///
/// Shapes that do not fit each other.
pub(crate) fn pairwise(a: &Tensor, b: &Tensor, op: Pairwise) -> Result<Tensor> {
    let single =
        |tensor: &Tensor, other: &Tensor| tensor.elem_count() == 1 && tensor.rank() <= other.rank();
    let fits = a.shape() == b.shape() || single(a, b) || single(b, a);
    if !is_fast(&[a, b]) || !fits {
        return match op {
            Pairwise::Add => a.broadcast_add(b),
            Pairwise::Sub => a.broadcast_sub(b),
            Pairwise::Mul => a.broadcast_mul(b),
        };
    }
    let shape = if a.elem_count() >= b.elem_count() && a.rank() >= b.rank() {
        a.shape()
    } else {
        b.shape()
    };
    let result = with_all(&[a, b], |values| match op {
        Pairwise::Add => combined(values, |a, b| a + b),
        Pairwise::Sub => combined(values, |a, b| a - b),
        Pairwise::Mul => combined(values, |a, b| a * b),
    })?;
    Tensor::from_vec(result, shape, a.device())
}

fn combined(values: &[&[f32]], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let (a, b) = (values[0], values[1]);
    let mut result = vec![0f32; a.len().max(b.len())];
    let pieces = result.par_chunks_mut(PIECE).enumerate();
    pieces.for_each(|(i, result)| {
        let range = i * PIECE..i * PIECE + result.len();
        match (a, b) {
            (&[a], b) if b.len() != 1 => {
                for (result, &b) in result.iter_mut().zip(&b[range]) {
                    *result = f(a, b);
                }
            }
            (a, &[b]) => {
                for (result, &a) in result.iter_mut().zip(&a[range]) {
                    *result = f(a, b);
                }
            }
            (a, b) => {
                for ((result, &a), &b) in result.iter_mut().zip(&a[range.clone()]).zip(&b[range]) {
                    *result = f(a, b);
                }
            }
        }
    });
    result
}

/// Samples of an axis, by their indices.
///
/// # Errors
///
/// An axis or an index that there is none of.
pub(crate) fn select(x: &Tensor, axis: usize, indices: &[u32]) -> Result<Tensor> {
    let dims = x.dims();
    let length = x.dim(axis)?;
    if !is_fast(&[x]) || indices.is_empty() || x.elem_count() == 0 {
        let indices = Tensor::from_slice(indices, indices.len(), x.device())?;
        return x.index_select(&indices, axis);
    }
    if indices.iter().any(|&index| index as usize >= length) {
        bail!("an index beyond {length}")
    }
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let mut shape = dims.to_vec();
    shape[axis] = indices.len();
    let result = with_all(&[x], |values| {
        let mut result = vec![0f32; outer * indices.len() * inner];
        let parts = result.par_chunks_mut(indices.len() * inner);
        let sources = values[0].par_chunks(length * inner);
        parts.zip(sources).for_each(|(result, source)| {
            if inner == 1 {
                for (result, &index) in result.iter_mut().zip(indices) {
                    *result = source[index as usize];
                }
                return;
            }
            for (result, &index) in result.chunks_exact_mut(inner).zip(indices) {
                result.copy_from_slice(&source[index as usize * inner..][..inner]);
            }
        });
        result
    })?;
    Tensor::from_vec(result, shape, x.device())
}

/// [`conv2d`] of images whose channels are those of several, one after the other.
///
/// # Errors
///
/// As [`conv2d`].
pub(crate) fn conv2d_joined(
    parts: &[Tensor],
    weights: &Tensor,
    bias: Option<&Tensor>,
    spec: ConvSpec,
) -> Result<Tensor> {
    let all: Vec<&Tensor> = parts.iter().chain([weights]).chain(bias).collect();
    let is_plain = parts
        .iter()
        .all(|part| part.rank() == 4 && part.dims()[0] == 1);
    match parts {
        [x] => conv2d(x, weights, bias, spec),
        _ if is_fast(&all) && is_plain => with_all(&parts.iter().collect::<Vec<_>>(), |planes| {
            conv2d_of_parts(parts, planes, weights, bias, spec)
        })?,
        _ => conv2d(&Tensor::cat(parts, 1)?, weights, bias, spec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn noise(shape: &[usize], seed: usize) -> Tensor {
        let value = |i: usize| ((i * 7919 + seed * 31) % 1009) as f32 / 1009.0 - 0.5;
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn pairs_are_those_of_candle() {
        let (a, b) = (noise(&[1, 3, 70, 90], 1), noise(&[1, 3, 70, 90], 2));
        let turned = noise(&[1, 3, 90, 70], 3).transpose(2, 3).unwrap();
        let one = noise(&[1, 1], 4);
        let planes = noise(&[3, 1, 1], 5);
        for (a, b) in [
            (&a, &b),
            (&a, &turned),
            (&a, &one),
            (&one, &a),
            (&a, &planes),
            (&one, &one),
        ] {
            for (op, expected) in [
                (Pairwise::Add, a.broadcast_add(b)),
                (Pairwise::Sub, a.broadcast_sub(b)),
                (Pairwise::Mul, a.broadcast_mul(b)),
            ] {
                let (got, expected) = (pairwise(a, b, op).unwrap(), expected.unwrap());
                assert_eq!(got.dims(), expected.dims());
                assert_eq!(bits(&got), bits(&expected), "{op:?}");
            }
        }
    }

    #[test]
    fn selections_are_those_of_candle() {
        let x = noise(&[2, 3, 5, 7], 1);
        let indices = [4u32, 0, 0, 2, 1];
        for axis in [1, 2, 3] {
            let indices: Vec<u32> = indices.iter().map(|i| i % x.dims()[axis] as u32).collect();
            let tensor = Tensor::from_slice(&indices, indices.len(), &Device::Cpu).unwrap();
            let expected = x.index_select(&tensor, axis).unwrap();
            let got = select(&x, axis, &indices).unwrap();
            assert_eq!(got.dims(), expected.dims());
            assert_eq!(bits(&got), bits(&expected));
        }
        assert!(select(&x, 2, &[5]).is_err());
    }

    #[test]
    fn joined_channels_convolve_as_one_image() {
        let parts = [
            noise(&[1, 4, 9, 11], 1),
            noise(&[1, 2, 9, 11], 2),
            noise(&[1, 3, 9, 11], 3),
        ];
        let (weights, bias) = (noise(&[5, 9, 3, 3], 4), noise(&[5], 5));
        let all = Tensor::cat(&parts, 1).unwrap();
        for bias in [None, Some(&bias)] {
            let expected = conv2d(&all, &weights, bias, ConvSpec::default()).unwrap();
            let got = conv2d_joined(&parts, &weights, bias, ConvSpec::default()).unwrap();
            assert_eq!(got.dims(), expected.dims());
            assert_eq!(bits(&got), bits(&expected));
        }
        let short = conv2d_joined(&parts[..2], &weights, None, ConvSpec::default());
        assert!(short.is_err());
    }
}
