//! Resampling of planes with gradients. candle's nearest upsampling forgets
//! what other uses of the tensor contributed, and its bilinear upsampling has no
//! gradient.

use candle_core::{Result, Tensor};

/// Applies one linear map to the columns and another to the rows of every
/// plane: (N, C, H, W) in, `columns` (H', H), `rows` (W', W), (N, C, H', W') out.
///
/// # Errors
///
/// Shapes that do not fit.
pub fn separable(x: &Tensor, columns: &Tensor, rows: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (tall, wide) = (columns.dim(0)?, rows.dim(0)?);
    let planes = batch * channels;
    let lines = x.contiguous()?.reshape((planes * height, width))?;
    let across = lines.matmul(&rows.t()?)?.reshape((planes, height, wide))?;
    let turned = across.transpose(1, 2)?.contiguous()?;
    let lines = turned.reshape((planes * wide, height))?;
    let down = lines.matmul(&columns.t()?)?.reshape((planes, wide, tall))?;
    down.transpose(1, 2)?
        .contiguous()?
        .reshape((batch, channels, tall, wide))
}

/// Bilinear enlargement by a whole factor, edges repeated: what PyTorch calls
/// `bilinear` with `align_corners=False`. (N, C, H, W) in, (N, C, rH, rW) out.
///
/// # Errors
///
/// A tensor of another shape.
pub fn upsample_bilinear2d(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (.., height, width) = x.dims4()?;
    let map = |length: usize| {
        let mut weights = vec![0f32; factor * length * length];
        for (i, row) in weights.chunks_exact_mut(length).enumerate() {
            let center = ((i as f32 + 0.5) / factor as f32 - 0.5).max(0.0);
            let low = (center as usize).min(length - 1);
            let share = center - low as f32;
            row[low] += 1.0 - share;
            row[(low + 1).min(length - 1)] += share;
        }
        Tensor::from_vec(weights, (factor * length, length), x.device())
    };
    separable(x, &map(height)?, &map(width)?)
}

/// Enlargement by a whole factor that repeats every sample.
/// (N, C, H, W) in, (N, C, rH, rW) out.
///
/// # Errors
///
/// A tensor of another shape.
pub fn upsample_nearest2d(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    x.reshape((batch * channels, height, 1, width, 1))?
        .broadcast_as((batch * channels, height, factor, width, factor))?
        .contiguous()?
        .reshape((batch, channels, factor * height, factor * width))
}

/// What the tests of operations on planes share.
#[cfg(test)]
pub(super) mod testing {
    use candle_core::{Device, Result, Tensor, Var};

    pub(in crate::ops) fn noise(shape: (usize, usize, usize, usize)) -> Var {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        // All different, so that no square has two largest samples.
        let values = (0..count).map(|i| ((i * 7919 + 31) % 1009) as f32 / 1009.0);
        Var::from_vec(values.collect(), shape, &Device::Cpu).unwrap()
    }

    /// Compares the gradient of a weighted sum of the result of `op` (twice, so
    /// that `x` has several uses) with differences.
    pub(in crate::ops) fn check_gradient(
        shape: (usize, usize, usize, usize),
        op: impl Fn(&Tensor) -> Result<Tensor>,
    ) {
        const STEP: f32 = 1.0 / 8192.0;
        let var = noise(shape);
        let loss = |x: &Tensor| {
            let y = op(x)?;
            let weights = noise(y.dims4()?);
            let own = (x.sqr()?.sum_all()? * 0.3)?;
            (y * weights.as_detached_tensor())?.sum_all()? + own
        };
        let gradients = loss(&var).unwrap().backward().unwrap();
        let gradient = gradients.get(&var).unwrap().flatten_all().unwrap();
        let gradient = gradient.to_vec1::<f32>().unwrap();
        let start = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let at = |i: usize, by: f32| {
            let mut moved = start.clone();
            moved[i] += by;
            let x = Tensor::from_vec(moved, shape, &Device::Cpu).unwrap();
            f64::from(loss(&x).unwrap().to_scalar::<f32>().unwrap())
        };
        for (i, got) in gradient.iter().enumerate() {
            let expected = (at(i, STEP) - at(i, -STEP)) / f64::from(2.0 * STEP);
            assert!(
                (f64::from(*got) - expected).abs() < 0.02,
                "{i}: {got} for {expected}"
            );
        }
    }

    pub(in crate::ops) fn apply(
        op: impl Fn(&Tensor) -> Result<Tensor>,
        width: usize,
        values: &[f32],
    ) -> Vec<f32> {
        let shape = (1, 1, values.len() / width, width);
        let x = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        op(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{apply, check_gradient};
    use super::*;

    #[test]
    fn gradients_equal_differences() {
        check_gradient((1, 2, 3, 4), |x| upsample_bilinear2d(x, 2));
        check_gradient((2, 1, 3, 2), |x| upsample_nearest2d(x, 3));
    }

    #[test]
    fn values_by_hand() {
        let ramp = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let nearest = apply(|x| upsample_nearest2d(x, 2), 2, &[1.0, 2.0]);
        assert_eq!(nearest, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
        let bilinear = apply(|x| upsample_bilinear2d(x, 2), 3, &ramp[..3]);
        assert_eq!(bilinear[..6], [1.0, 1.25, 1.75, 2.25, 2.75, 3.0]);
        assert_eq!(bilinear[6..], bilinear[..6]);
    }
}
