//! Pooling of planes with gradients: candle's own max pooling divides the
//! gradient by the number of samples in a window.

use super::resize::separable;
use super::storage::{values, with_values};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

/// Means of an even division of every plane into `size` (height, width) parts,
/// which overlap where the plane does not divide: adaptive average pooling.
///
/// # Errors
///
/// A tensor of another shape.
pub fn adaptive_average2d(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (.., height, width) = x.dims4()?;
    if (height, width) == size {
        return Ok(x.clone());
    }
    let map = |length: usize, parts: usize| {
        let mut weights = vec![0f32; parts * length];
        for (i, row) in weights.chunks_exact_mut(length).enumerate() {
            let part = i * length / parts..((i + 1) * length).div_ceil(parts);
            let share = 1.0 / part.len() as f32;
            row[part].fill(share);
        }
        Tensor::from_vec(weights, (parts, length), x.device())
    };
    separable(x, &map(height, size.0)?, &map(width, size.1)?)
}

/// The largest sample of every square of side `kernel`, one each `stride`
/// samples: (N, C, H, W) in. Where `ceil` is set, a last square that reaches
/// beyond the edge counts too. The gradient goes to the first of the largest
/// samples, or elsewhere than on the CPU in `f32` to all of them alike.
///
/// # Errors
///
/// A tensor of another shape, or one smaller than the square.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, ceil: bool) -> Result<Tensor> {
    let (.., height, width) = x.dims4()?;
    if kernel == 0 || stride == 0 || height.min(width) < kernel {
        bail!(
            "max_pool2d of {:?}: squares of {kernel}, one each {stride}",
            x.shape()
        )
    }
    let pool = MaxPool {
        kernel,
        stride,
        ceil,
    };
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op1(pool);
    }
    pool.general(x)
}

struct MaxPool {
    kernel: usize,
    stride: usize,
    ceil: bool,
}

impl MaxPool {
    /// How many squares there are along `length` samples.
    fn count(&self, length: usize) -> usize {
        let rest = length - self.kernel;
        match self.ceil {
            true => rest.div_ceil(self.stride) + 1,
            false => rest / self.stride + 1,
        }
    }

    /// The pooling by candle's operations: the largest of what lies at each
    /// place of all squares.
    fn general(&self, x: &Tensor) -> Result<Tensor> {
        let line = |length: usize, place: usize| {
            // Beyond the edge the last sample counts once more.
            let at = |i: usize| (self.stride * i + place).min(length - 1) as u32;
            Tensor::from_iter((0..self.count(length)).map(at), x.device())
        };
        let (.., height, width) = x.dims4()?;
        let x = x.contiguous()?;
        let mut largest: Option<Tensor> = None;
        for row in 0..self.kernel {
            let rows = x.index_select(&line(height, row)?, 2)?;
            for column in 0..self.kernel {
                let there = rows.index_select(&line(width, column)?, 3)?;
                largest = Some(match largest {
                    Some(largest) => largest.maximum(&there)?,
                    None => there,
                });
            }
        }
        largest.ok_or_else(|| candle_core::Error::Msg("max_pool2d with an empty kernel".to_owned()))
    }

    /// Index of the largest sample of every square of a plane.
    fn largest<'a>(
        &'a self,
        plane: &'a [f32],
        (height, width): (usize, usize),
    ) -> impl Iterator<Item = usize> + 'a {
        let (rows, columns) = (self.count(height), self.count(width));
        let reach = move |i: usize, length: usize| {
            self.stride * i..(self.stride * i + self.kernel).min(length)
        };
        (0..rows * columns).map(move |i| {
            let (ys, xs) = (reach(i / columns, height), reach(i % columns, width));
            let mut best = ys.start * width + xs.start;
            for y in ys {
                for at in y * width + xs.start..y * width + xs.end {
                    if plane[at] > plane[best] {
                        best = at;
                    }
                }
            }
            best
        })
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let planes = values(x, layout)?.chunks_exact(height * width);
        let largest = planes.flat_map(|plane| {
            let largest = self.largest(plane, (height, width));
            largest.map(|at| plane[at])
        });
        let shape = (batch, channels, self.count(height), self.count(width));
        Ok((CpuStorage::F32(largest.collect()), shape.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (.., height, width) = x.dims4()?;
        let pooled = self.count(height) * self.count(width);
        let mut gradient = vec![0f32; x.elem_count()];
        with_values(x, |x| {
            with_values(grad, |grad| {
                let planes = x
                    .chunks_exact(height * width)
                    .zip(grad.chunks_exact(pooled));
                let targets = gradient.chunks_exact_mut(height * width);
                for ((plane, grad), target) in planes.zip(targets) {
                    for (at, grad) in self.largest(plane, (height, width)).zip(grad) {
                        target[at] += grad;
                    }
                }
            })
        })??;
        Tensor::from_vec(gradient, x.shape(), x.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::resize::testing::{apply, check_gradient, noise};
    use super::*;

    #[test]
    fn gradients_equal_differences() {
        check_gradient((1, 2, 6, 4), |x| max_pool2d(x, 2, 2, false));
        check_gradient((2, 1, 6, 7), |x| max_pool2d(x, 3, 2, true));
        for (kernel, stride, ceil) in [(2, 2, false), (3, 2, true)] {
            let pool = MaxPool {
                kernel,
                stride,
                ceil,
            };
            check_gradient((2, 1, 6, 7), |x| pool.general(x));
        }
        check_gradient((1, 1, 7, 5), |x| adaptive_average2d(x, (3, 2)));
    }

    #[test]
    fn values_by_hand() {
        let ramp = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(apply(|x| max_pool2d(x, 2, 2, false), 3, &ramp), [5.0]);
        assert_eq!(apply(|x| max_pool2d(x, 2, 2, true), 3, &ramp), [5.0, 6.0]);
        for ceil in [false, true] {
            let pool = MaxPool {
                kernel: 2,
                stride: 2,
                ceil,
            };
            let general = apply(|x| pool.general(x), 3, &ramp);
            assert_eq!(general, apply(|x| max_pool2d(x, 2, 2, ceil), 3, &ramp));
        }
        // Parts 0..2 and 1..3 of three columns, each row to itself.
        let means = apply(|x| adaptive_average2d(x, (2, 2)), 3, &ramp);
        assert_eq!(means, [1.5, 2.5, 4.5, 5.5]);
    }

    #[test]
    fn squares_that_do_not_fit_are_refused() {
        assert!(max_pool2d(&noise((1, 1, 1, 8)), 2, 2, false).is_err());
    }
}
