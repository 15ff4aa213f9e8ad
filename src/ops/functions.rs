//! Functions of each element, and the softmax, with gradients. candle computes
//! these on a CPU by the C library, whose versions round differently: training
//! runs would not repeat from one system to the next. Here the CPU computes by
//! the `libm` crate, or by fixed sums and products, so that the bits are the same on
//! every system.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// Elements that a thread computes at once.
const PIECE: usize = 1 << 12;

/// The hyperbolic tangent of each element.
///
/// # Errors
///
/// A computation that fails.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Tanh)
}

/// e to the power of each element.
///
/// # Errors
///
/// A computation that fails.
pub fn exp(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Exp)
}

/// The natural logarithm of each element.
///
/// # Errors
///
/// A computation that fails.
pub fn log(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Log)
}

/// 1 / (1 + e^-x) of each element.
///
/// # Errors
///
/// A computation that fails.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Sigmoid)
}

/// x Φ(x) of each element, by the error function: PyTorch's GELU.
///
/// Dan Hendrycks, Kevin Gimpel, "Gaussian Error Linear Units (GELUs)", 2016,
/// <https://arxiv.org/abs/1606.08415>.
///
/// # Errors
///
/// A computation that fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply(x, Function::Gelu)
}

/// The softmax over the last dimension.
///
/// # Errors
///
/// A computation that fails.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if is_computed_here(x) {
        x.contiguous()?.apply_op1(Softmax)
    } else if x.track_op() {
        // candle's fast one has no gradient, and does not say so.
        #[expect(clippy::disallowed_methods, reason = "neither f32 nor f64 on a CPU")]
        candle_nn::ops::softmax(x, D::Minus1)
    } else {
        #[expect(clippy::disallowed_methods, reason = "neither f32 nor f64 on a CPU")]
        candle_nn::ops::softmax_last_dim(&x.contiguous()?)
    }
}

/// Whether the functions here compute a tensor; else candle does.
fn is_computed_here(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

#[derive(Debug, Clone, Copy)]
enum Function {
    Tanh,
    Exp,
    Log,
    Sigmoid,
    Gelu,
}

fn apply(x: &Tensor, function: Function) -> Result<Tensor> {
    if is_computed_here(x) {
        return x.contiguous()?.apply_op1(function);
    }
    #[expect(clippy::disallowed_methods, reason = "neither f32 nor f64 on a CPU")]
    match function {
        Function::Tanh => x.tanh(),
        Function::Exp => x.exp(),
        Function::Log => x.log(),
        Function::Sigmoid => candle_nn::ops::sigmoid(x),
        Function::Gelu => x.gelu_erf(),
    }
}

impl Function {
    fn of_f32(self, x: f32) -> f32 {
        match self {
            Self::Tanh => libm::tanhf(x),
            Self::Exp => exp_f32(x),
            Self::Log => libm::logf(x),
            Self::Sigmoid => 1.0 / (1.0 + exp_f32(-x)),
            Self::Gelu => (libm::erff(x * FRAC_1_SQRT_2) + 1.0) * 0.5 * x,
        }
    }

    fn of_f64(self, x: f64) -> f64 {
        match self {
            Self::Tanh => libm::tanh(x),
            Self::Exp => libm::exp(x),
            Self::Log => libm::log(x),
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::Gelu => (libm::erf(x * std::f64::consts::FRAC_1_SQRT_2) + 1.0) * 0.5 * x,
        }
    }
}

impl CustomOp1 for Function {
    fn name(&self) -> &'static str {
        match self {
            Self::Tanh => "tanh",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Sigmoid => "sigmoid",
            Self::Gelu => "gelu",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let result = match x {
            CpuStorage::F32(x) => {
                let x = contiguous(x, layout)?;
                CpuStorage::F32(match self {
                    // Loops of their own, which are vectorised.
                    Self::Exp => mapped(x, exp_f32),
                    Self::Sigmoid => mapped(x, |x| 1.0 / (1.0 + exp_f32(-x))),
                    _ => mapped(x, |x| self.of_f32(x)),
                })
            }
            CpuStorage::F64(x) => {
                CpuStorage::F64(mapped(contiguous(x, layout)?, |x| self.of_f64(x)))
            }
            _ => bail!("{} of a tensor that is neither f32 nor f64", self.name()),
        };
        Ok((result, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (x, y) = (x.detach(), y.detach());
        let of_x = match self {
            Self::Tanh => (grad * (1.0 - y.sqr()?)?)?,
            Self::Exp => (grad * y)?,
            Self::Log => (grad / x)?,
            Self::Sigmoid => (grad * (&y * (1.0 - &y)?)?)?,
            // d/dx x Φ(x) = Φ(x) + x φ(x).
            Self::Gelu => {
                let cumulative = (((&x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?;
                let density = (exp(&(x.sqr()? * -0.5)?)? * INV_SQRT_TAU)?;
                (grad * (cumulative + (x * density)?)?)?
            }
        };
        Ok(Some(of_x))
    }
}

/// 1 / sqrt(2 π).
const INV_SQRT_TAU: f64 = 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

fn contiguous<'a, T>(values: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the operation needs contiguous tensors, not {layout:?}"),
    }
}

fn mapped<T: Copy + Default + Send + Sync>(values: &[T], f: impl Fn(T) -> T + Sync) -> Vec<T> {
    let mut result = vec![T::default(); values.len()];
    let pieces = result.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE));
    pieces.for_each(|(result, values)| {
        for (result, &value) in result.iter_mut().zip(values) {
            *result = f(value);
        }
    });
    result
}

/// e to the power of `x` within two units of the last place, without branches, so that
/// loops of it are vectorised. Below -87.3 it is 0, beyond 88.7 infinite.
///
/// As in Cephes (Stephen Moshier): powers of two, and a polynomial between -ln 2 / 2 and
/// ln 2 / 2, whose coefficients are those of Taylor's series there, but for the last.
fn exp_f32(x: f32) -> f32 {
    // Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that the first one times a whole number is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.7;
    let within = x.clamp(LOWEST, HIGHEST);
    let rounded = within * LOG2_E + ROUND;
    let power = rounded - ROUND;
    let rest = (within - power * LN_2[0]) - power * LN_2[1];
    let mut sum = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        0.166_666_65,
        0.5,
    ] {
        sum = sum * rest + coefficient;
    }
    let sum = sum * rest * rest + rest + 1.0;
    // The last bits are the whole number. In two factors: 2^128 has no f32.
    let whole = rounded
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .cast_signed();
    let half = whole >> 1;
    let scale = |power: i32| f32::from_bits(power.wrapping_add(127).cast_unsigned() << 23);
    let value = sum * scale(half) * scale(whole.wrapping_sub(half));
    let value = if x > HIGHEST { f32::INFINITY } else { value };
    if x < LOWEST { 0.0 } else { value }
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let row = layout.dims().last().copied().unwrap_or(1);
        let result = match x {
            CpuStorage::F32(x) => CpuStorage::F32(rows(contiguous(x, layout)?, row, softmax_f32)),
            CpuStorage::F64(x) => CpuStorage::F64(rows(contiguous(x, layout)?, row, softmax_f64)),
            _ => bail!("softmax of a tensor that is neither f32 nor f64"),
        };
        Ok((result, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let y = y.detach();
        let mean = (grad * &y)?.sum_keepdim(D::Minus1)?;
        Ok(Some((y * grad.broadcast_sub(&mean)?)?))
    }
}

/// Computes each row of `length` values from that of the input.
fn rows<T: Copy + Default + Send + Sync>(
    x: &[T],
    length: usize,
    f: impl Fn(&[T], &mut [T]) + Sync,
) -> Vec<T> {
    let mut y = vec![T::default(); x.len()];
    if length > 0 {
        let rows = y
            .par_chunks_exact_mut(length)
            .zip(x.par_chunks_exact(length));
        rows.with_min_len(PIECE.div_ceil(length))
            .for_each(|(y, x)| f(x, y));
    }
    y
}

fn softmax_f32(x: &[f32], y: &mut [f32]) {
    const LANES: usize = 16;
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (y, x) in y.iter_mut().zip(x) {
        *y = exp_of_negative(x - largest);
    }
    let mut sums = [0f32; LANES];
    for piece in y.chunks(LANES) {
        for (sum, y) in sums.iter_mut().zip(piece) {
            *sum += y;
        }
    }
    let sum: f32 = sums.iter().sum();
    y.iter_mut().for_each(|y| *y /= sum);
}

fn softmax_f64(x: &[f64], y: &mut [f64]) {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for (y, x) in y.iter_mut().zip(x) {
        *y = libm::exp(x - largest);
    }
    let sum: f64 = y.iter().sum();
    y.iter_mut().for_each(|y| *y /= sum);
}

/// e to the power of what is not positive, to an ulp: without a branch, so
/// that loops over it become vectors. A softmax takes most of a transformer's
/// time by anything slower. What is below e^-87, the smallest normal numbers,
/// is e^-87.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which is then in the lowest bits.
    const ROUNDING: f32 = 1.5 * (1 << 23) as f32;
    /// The first bits of ln 2, so that their multiples are exact, and the rest.
    const HIGH: f32 = 355.0 / 512.0;
    const LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;
    // Unlike the maximum, this keeps NaN.
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * LOG2_E + ROUNDING;
    let power = rounded - ROUNDING;
    // |rest| is half of ln 2 at most, where 8 terms of the series are enough.
    let rest = (x - power * HIGH) - power * LOW;
    let mut series = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        series = series * rest + factor;
    }
    let value = series * (rest * rest) + rest + 1.0;
    let two_to_power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1f32.to_bits()));
    value * two_to_power
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn list(tensor: &Tensor) -> Vec<f64> {
        let tensor = tensor.to_dtype(DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Result and gradient of a weighted sum, in `f64` by candle's operations
    /// and in both types by ours.
    fn compare(
        values: &[f64],
        ours: fn(&Tensor) -> Result<Tensor>,
        candles: impl Fn(&Tensor) -> Result<Tensor>,
    ) {
        let run = |dtype: DType, op: &dyn Fn(&Tensor) -> Result<Tensor>| {
            let x = Tensor::from_slice(values, (values.len() / 4, 4), &Device::Cpu).unwrap();
            let x = Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap();
            let weights = Tensor::new(&[1f64, -2.0, 0.5, 3.0], &Device::Cpu).unwrap();
            // Not contiguous.
            let y = op(&x.t().unwrap().contiguous().unwrap().t().unwrap()).unwrap();
            let loss = y.broadcast_mul(&weights.to_dtype(dtype).unwrap()).unwrap();
            let gradients = loss.sum_all().unwrap().backward().unwrap();
            [list(&y), list(gradients.get(&x).unwrap())]
        };
        let expected = run(DType::F64, &candles);
        for (dtype, within) in [(DType::F32, 3e-7), (DType::F64, 1e-6)] {
            let found = run(dtype, &ours);
            let pairs = found.iter().flatten().zip(expected.iter().flatten());
            for (found, expected) in pairs {
                let off = (found - expected).abs();
                assert!(
                    off <= within * expected.abs().max(1.0),
                    "{dtype:?}: {found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn exponentials_are_close_to_those_of_libm() {
        let mut worst = 0f64;
        for i in -90_000..90_000 {
            let x = i as f32 / 1000.0 + 1e-5;
            let (got, expected) = (f64::from(exp_f32(x)), libm::exp(f64::from(x)));
            if (-87.2..88.6).contains(&x) {
                worst = worst.max((got / expected - 1.0).abs());
            }
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "off by {worst}");
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-1e9), 0.0);
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
        // However many are computed at a time.
        let xs: Vec<f32> = (0..70).map(|i| i as f32 * 0.37 - 12.0).collect();
        let all = mapped(&xs, exp_f32);
        for (x, y) in xs.iter().zip(all) {
            assert_eq!(exp_f32(*x).to_bits(), y.to_bits());
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is compared with")]
    fn values_and_gradients_are_candles() {
        let all = [
            -9.0, -2.5, -1.0, -0.3, 0.0, 1e-3, 0.7, 1.0, 2.0, 3.5, 8.0, 0.5,
        ];
        compare(&all, tanh, |x| x.tanh());
        compare(&all, exp, |x| x.exp());
        compare(&all, sigmoid, candle_nn::ops::sigmoid);
        compare(&all, softmax, |x| candle_nn::ops::softmax(x, D::Minus1));
        compare(&all.map(|x: f64| x.abs() + 0.1), log, |x| x.log());
        // candle's gradient has the density to six digits.
        compare(&all, gelu, |x| x.gelu_erf());
    }

    #[test]
    fn the_exponential_of_a_softmax_is_right_to_an_ulp() {
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let exact = libm::exp(f64::from(x));
            let found = exp_of_negative(x);
            let ulp = f64::from(f32::from_bits(found.to_bits() + 1) - found);
            let off = (f64::from(found) - exact).abs();
            assert!(off <= 1.01 * ulp, "e^{x}: {found} for {exact}");
        }
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), exp_of_negative(-87.0));
        assert!(exp_of_negative(f32::NAN).is_nan());
    }
}
