//! Batch normalisation and PReLU with gradients: what candle makes of them
//! takes several times as long as the convolutions around them.

use super::context::stash_variable_grad;
#[cfg(feature = "cuda")]
use super::cuda::layers::{self as cuda, Kind, Values, With};
use super::storage::{values, with_values};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Sums that run side by side over a plane, for wide vectors.
const LANES: usize = 32;

/// Normalises every channel of (N, C, H, W) to mean 0 and variance 1 over the
/// batch, multiplies by `weight` (C) and adds `bias` (C). Also gives means and
/// variances (C), without gradients; `eps` is added to the variances before
/// the division. The results are the same for any number of threads.
///
/// Sergey Ioffe, Christian Szegedy, "Batch Normalization: Accelerating Deep
/// Network Training by Reducing Internal Covariate Shift", ICML 2015.
///
/// # Errors
///
/// Shapes that do not fit.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<(Tensor, [Tensor; 2])> {
    let (batch, channels, height, width) = x.dims4()?;
    if weight.dims() != [channels] || bias.dims() != [channels] || x.elem_count() == 0 {
        let (x, weight, bias) = (x.shape(), weight.shape(), bias.shape());
        bail!("batch_norm of {x:?} by weight {weight:?} and bias {bias:?}")
    }
    if is_fast(&[x, weight, bias]) {
        let area = height * width;
        let moments = with_values(x, |x| Moments::of(x, batch, channels, area))?;
        let seen = [&moments.mean, &moments.variance].map(|values| {
            let values = values.iter().map(|&v| v as f32).collect::<Vec<_>>();
            Tensor::from_vec(values, channels, x.device())
        });
        let [mean, variance] = seen;
        let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
        let made = x.apply_op3(&weight, &bias, Normalise { moments, eps })?;
        return Ok((made, [mean?, variance?]));
    }
    #[cfg(feature = "cuda")]
    if on_gpu(&[x, weight, bias]) {
        let x = x.contiguous()?;
        let moments = cuda::sums(Kind::Moments, &x, &With::default())?;
        let seen = [moments.get(0)?, moments.get(1)?];
        let op = NormaliseOnGpu { moments, eps };
        let made = x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?;
        return Ok((made, seen));
    }
    let mean = x.mean_keepdim((0, 2, 3))?;
    let centered = x.broadcast_sub(&mean)?;
    let variance = centered.sqr()?.mean_keepdim((0, 2, 3))?;
    let plane = |tensor: &Tensor| tensor.reshape((1, channels, 1, 1));
    let made = centered
        .broadcast_div(&(&variance + eps)?.sqrt()?)?
        .broadcast_mul(&plane(weight)?)?
        .broadcast_add(&plane(bias)?)?;
    let seen = |tensor: Tensor| tensor.detach().flatten_all();
    Ok((made, [seen(mean)?, seen(variance)?]))
}

/// PReLU: what is negative is multiplied by `slope`, (1) for all channels of
/// (N, C, H, W) or (C) for each. The gradient at zero is the slope's.
///
/// Kaiming He et al., "Delving Deep into Rectifiers", ICCV 2015.
///
/// # Errors
///
/// Shapes that do not fit.
pub fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let (_, channels, ..) = x.dims4()?;
    let slopes = slope.elem_count();
    if slopes != 1 && slopes != channels {
        bail!("prelu of {:?} by {slopes} slopes", x.shape())
    }
    if is_fast(&[x, slope]) && x.elem_count() > 0 {
        return x.contiguous()?.apply_op2(&slope.contiguous()?, Prelu);
    }
    #[cfg(feature = "cuda")]
    if on_gpu(&[x, slope]) && x.elem_count() > 0 {
        return x.contiguous()?.apply_op2(&slope.contiguous()?, Prelu);
    }
    let slope = slope.reshape((1, slopes, 1, 1))?;
    x.relu()? - x.neg()?.relu()?.broadcast_mul(&slope)?
}

fn is_fast(tensors: &[&Tensor]) -> bool {
    let mut tensors = tensors.iter();
    tensors.all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32)
}

#[cfg(feature = "cuda")]
fn on_gpu(tensors: &[&Tensor]) -> bool {
    let mut tensors = tensors.iter();
    tensors.all(|tensor| tensor.device().is_cuda() && tensor.dtype() == DType::F32)
}

/// The sum of what `f` makes of the samples of planes, and of a second value.
fn sums(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> [f32; 2]) -> [f64; 2] {
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
fn channel_sums(
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
fn plane(samples: &[f32], index: usize, area: usize) -> &[f32] {
    &samples[index * area..][..area]
}

/// Makes each plane of a tensor from its index.
fn planes(count: usize, area: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut made = vec![0f32; count * area];
    let planes = made.par_chunks_exact_mut(area).enumerate();
    planes.for_each(|(index, plane)| f(index, plane));
    made
}

/// Mean and variance of each channel over a batch.
struct Moments {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Moments {
    fn of(x: &[f32], batch: usize, channels: usize, area: usize) -> Self {
        let count = (batch * area) as f64;
        let totals = channel_sums(batch, channels, |_, index| {
            let plane = plane(x, index, area);
            sums(plane, plane, |v, _| [v, 0.0])
        });
        let mean: Vec<f64> = totals.iter().map(|[sum, _]| sum / count).collect();
        let totals = channel_sums(batch, channels, |channel, index| {
            let plane = plane(x, index, area);
            let mean = mean[channel] as f32;
            sums(plane, plane, |v, _| [(v - mean) * (v - mean), 0.0])
        });
        let variance = totals.iter().map(|[sum, _]| sum / count).collect();
        Self { mean, variance }
    }
}

struct Normalise {
    moments: Moments,
    eps: f64,
}

impl Normalise {
    /// One over the standard deviation of a channel.
    fn inverse(&self, channel: usize) -> f64 {
        1.0 / (self.moments.variance[channel] + self.eps).sqrt()
    }
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = x_layout.shape().dims4()?;
        let area = height * width;
        let x = values(x, x_layout)?;
        let weight = values(weight, weight_layout)?;
        let bias = values(bias, bias_layout)?;
        let made = planes(batch * channels, area, |index, made| {
            let channel = index % channels;
            let factor = (f64::from(weight[channel]) * self.inverse(channel)) as f32;
            let (mean, bias) = (self.moments.mean[channel] as f32, bias[channel]);
            for (made, v) in made.iter_mut().zip(plane(x, index, area)) {
                *made = (v - mean) * factor + bias;
            }
        });
        Ok((CpuStorage::F32(made), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (batch, channels, height, width) = x.dims4()?;
        let area = height * width;
        let count = (batch * area) as f64;
        let weights = weight.to_vec1::<f32>()?;
        let (totals, of_x) = with_values(x, |x| {
            with_values(grad, |grad| {
                // Of the gradient, and of it times the normalised samples.
                let totals = channel_sums(batch, channels, |channel, index| {
                    let mean = self.moments.mean[channel] as f32;
                    let [grad, x] = [grad, x].map(|samples| plane(samples, index, area));
                    sums(grad, x, |g, v| [g, g * (v - mean)])
                });
                let of_x = planes(batch * channels, area, |index, made| {
                    let channel = index % channels;
                    let inverse = self.inverse(channel);
                    let [of_bias, of_weight] = totals[channel];
                    let factor = (f64::from(weights[channel]) * inverse) as f32;
                    let mean = self.moments.mean[channel] as f32;
                    let level = (of_bias / count) as f32;
                    let slope = (of_weight * inverse * inverse / count) as f32;
                    let pairs = plane(grad, index, area).iter().zip(plane(x, index, area));
                    for (made, (g, v)) in made.iter_mut().zip(pairs) {
                        *made = factor * (g - level - (v - mean) * slope);
                    }
                });
                (totals, of_x)
            })
        })??;
        let of_weight = (totals.iter().enumerate())
            .map(|(channel, [_, sum])| (sum * self.inverse(channel)) as f32);
        let of_bias = totals.iter().map(|[sum, _]| *sum as f32);
        let of_weight = Tensor::from_iter(of_weight, weight.device())?;
        let of_bias = Tensor::from_iter(of_bias, bias.device())?;
        Ok((
            Some(Tensor::from_vec(of_x, x.shape(), x.device())?),
            stash_variable_grad(weight, Some(of_weight))?,
            stash_variable_grad(bias, Some(of_bias))?,
        ))
    }
}

/// The same on a GPU.
#[cfg(feature = "cuda")]
struct NormaliseOnGpu {
    /// Means and variances (2, C).
    moments: Tensor,
    eps: f64,
}

#[cfg(feature = "cuda")]
impl CustomOp3 for NormaliseOnGpu {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("the batch was on a GPU")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let with = With {
            weight: Values::of(weight, weight_layout)?,
            bias: Values::of(bias, bias_layout)?,
            moments: Values::of_tensor(&self.moments)?,
            eps: self.eps as f32,
            ..With::default()
        };
        let values = Values::of(x, x_layout)?;
        let shape = x_layout.shape().clone();
        let made = cuda::samples(Kind::Normalise, &x.device, values, &shape, &with)?;
        Ok((made, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let mut with = With {
            grad: Values::of_tensor(&grad)?,
            weight: Values::of_tensor(weight)?,
            moments: Values::of_tensor(&self.moments)?,
            eps: self.eps as f32,
            ..With::default()
        };
        let sums = cuda::sums(Kind::NormaliseSums, x, &with)?;
        with.sums = Values::of_tensor(&sums)?;
        let of_x = cuda::samples_of(Kind::NormaliseBack, x, &with)?;
        let [of_bias, of_weight] = [sums.get(0)?, sums.get(1)?];
        let of_weight = stash_variable_grad(weight, Some(of_weight))?;
        Ok((
            Some(of_x),
            of_weight,
            stash_variable_grad(bias, Some(of_bias))?,
        ))
    }
}

struct Prelu;

impl CustomOp2 for Prelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        slope: &CpuStorage,
        slope_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = x_layout.shape().dims4()?;
        let area = height * width;
        let (x, slope) = (values(x, x_layout)?, values(slope, slope_layout)?);
        let made = planes(batch * channels, area, |index, made| {
            let slope = slope[index % channels % slope.len()];
            for (made, &v) in made.iter_mut().zip(plane(x, index, area)) {
                *made = if v > 0.0 { v } else { slope * v };
            }
        });
        Ok((CpuStorage::F32(made), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        slope: &CudaStorage,
        slope_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let with = With {
            weight: Values::of(slope, slope_layout)?,
            ..With::default()
        };
        let values = Values::of(x, x_layout)?;
        let shape = x_layout.shape().clone();
        let made = cuda::samples(Kind::Prelu, &x.device, values, &shape, &with)?;
        Ok((made, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        slope: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let grad = grad.contiguous()?;
            let with = With {
                grad: Values::of_tensor(&grad)?,
                weight: Values::of_tensor(slope)?,
                ..With::default()
            };
            let of_x = cuda::samples_of(Kind::PreluBack, x, &with)?;
            // One slope is that of one channel.
            let x = match slope.elem_count() {
                1 if i32::try_from(x.elem_count()).is_ok() => {
                    x.reshape((1, 1, 1, x.elem_count()))?
                }
                _ => x.clone(),
            };
            let mut sums = cuda::sums(Kind::PreluSums, &x, &with)?.get(0)?;
            if sums.elem_count() != slope.elem_count() {
                sums = sums.sum_all()?;
            }
            let of_slope = stash_variable_grad(slope, Some(sums.reshape(slope.shape())?))?;
            return Ok((Some(of_x), of_slope));
        }
        let (batch, channels, height, width) = x.dims4()?;
        let area = height * width;
        let slopes = slope.flatten_all()?.to_vec1::<f32>()?;
        let (totals, of_x) = with_values(x, |x| {
            with_values(grad, |grad| {
                let totals = channel_sums(batch, channels, |_, index| {
                    let [grad, x] = [grad, x].map(|samples| plane(samples, index, area));
                    sums(grad, x, |g, v| [g * v.min(0.0), 0.0])
                });
                let of_x = planes(batch * channels, area, |index, made| {
                    let slope = slopes[index % channels % slopes.len()];
                    let pairs = plane(grad, index, area).iter().zip(plane(x, index, area));
                    for (made, (&g, &v)) in made.iter_mut().zip(pairs) {
                        *made = if v > 0.0 { g } else { slope * g };
                    }
                });
                (totals, of_x)
            })
        })??;
        let mut of_slope = vec![0f64; slopes.len()];
        for (channel, [sum, _]) in totals.iter().enumerate() {
            of_slope[channel % slopes.len()] += sum;
        }
        let of_slope: Vec<f32> = of_slope.iter().map(|&sum| sum as f32).collect();
        let of_slope = Tensor::from_vec(of_slope, slope.shape(), slope.device())?;
        Ok((
            Some(Tensor::from_vec(of_x, x.shape(), x.device())?),
            stash_variable_grad(slope, Some(of_slope))?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const SHAPE: (usize, usize, usize, usize) = (3, 4, 5, 7);

    fn noise(count: usize, from: f64, to: f64) -> Vec<f64> {
        let values = (0..count).map(|i| ((i * 7919 + 31) % 1009) as f64 / 1009.0);
        values.map(|v| from + (to - from) * v).collect()
    }

    fn var(values: &[f64], shape: impl Into<Shape>, kind: DType) -> Var {
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        Var::from_tensor(&tensor.to_dtype(kind).unwrap()).unwrap()
    }

    /// Result and gradients of a weighted sum of it, in f64 by candle's
    /// operations and in f32 by ours.
    fn compare(vars: impl Fn(DType) -> Vec<Var>, op: impl Fn(&[Var]) -> Result<Tensor>) {
        let [exact, fast] = [DType::F64, DType::F32].map(|kind| {
            let vars = vars(kind);
            let made = op(&vars).unwrap();
            let weights = var(&noise(made.elem_count(), -1.0, 1.0), made.dims(), kind);
            let own = vars[0].sqr().unwrap().sum_all().unwrap();
            let loss = (&made * weights.as_detached_tensor()).unwrap();
            let gradients = (loss.sum_all().unwrap() + own).unwrap().backward().unwrap();
            let gradients = vars.iter().map(|var| gradients.get(var).unwrap().clone());
            gradients.chain([made]).collect::<Vec<_>>()
        });
        for (i, (exact, fast)) in exact.iter().zip(&fast).enumerate() {
            let fast = fast.to_dtype(DType::F64).unwrap();
            let apart = (exact - fast).unwrap().abs().unwrap().max_all().unwrap();
            let apart = apart.to_scalar::<f64>().unwrap();
            assert!(apart < 2e-5, "{i}: {apart}");
        }
    }

    #[test]
    fn batch_norm_and_its_gradients_are_candles() {
        let (n, c, h, w) = SHAPE;
        let vars = |kind| {
            vec![
                var(&noise(n * c * h * w, -2.0, 5.0), SHAPE, kind),
                var(&noise(c, 0.5, 2.0), c, kind),
                var(&noise(c, -1.0, 1.0), c, kind),
            ]
        };
        compare(vars, |vars| {
            batch_norm(&vars[0], &vars[1], &vars[2], 1e-5).map(|(made, _)| made)
        });
        let [exact, fast] = [DType::F64, DType::F32].map(|kind| {
            let vars = vars(kind);
            let (_, seen) = batch_norm(&vars[0], &vars[1], &vars[2], 1e-5).unwrap();
            seen.map(|t| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap())
        });
        for (exact, fast) in exact.iter().flatten().zip(fast.iter().flatten()) {
            assert!((exact - fast).abs() < 1e-5, "{exact} {fast}");
        }
    }

    #[test]
    fn prelu_and_its_gradients_are_candles() {
        let (n, c, h, w) = SHAPE;
        for slopes in [1, c] {
            let vars = |kind| {
                vec![
                    var(&noise(n * c * h * w, -2.0, 2.0), SHAPE, kind),
                    var(&noise(slopes, 0.1, 0.4), slopes, kind),
                ]
            };
            compare(vars, |vars| prelu(&vars[0], &vars[1]));
        }
        let zero = var(&[0.0], (1, 1, 1, 1), DType::F32);
        let made = prelu(&zero, &var(&[0.25], 1, DType::F32)).unwrap();
        let gradients = made.backward().unwrap();
        let gradient = gradients.get(&zero).unwrap().flatten_all().unwrap();
        assert_eq!(gradient.to_vec1::<f32>().unwrap(), [0.25]);
    }

    #[test]
    fn results_are_the_same_for_any_number_of_threads() {
        let shape = (2, 3, 40, 33);
        let x = var(&noise(2 * 3 * 40 * 33, -1.0, 1.0), shape, DType::F32);
        let one = var(&[1.0, 0.5, 2.0], 3, DType::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let (made, _) = batch_norm(&x, &one, &one, 1e-5).unwrap();
                let gradients = made.sqr().unwrap().backward().unwrap();
                let parts = [
                    &made,
                    gradients.get(&x).unwrap(),
                    gradients.get(&one).unwrap(),
                ];
                parts.map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = var(&noise(24, 0.0, 1.0), (1, 2, 3, 4), DType::F32);
        let three = var(&[1.0; 3], 3, DType::F32);
        let two = var(&[1.0; 2], 2, DType::F32);
        assert!(batch_norm(&x, &three, &two, 1e-5).is_err());
        assert!(batch_norm(&x, &two, &three, 1e-5).is_err());
        assert!(prelu(&x, &three).is_err());
    }
}
