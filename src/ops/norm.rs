//! Batch normalisation with gradients: candle's takes several times as long as
//! the convolutions around it.

use super::context::stash_variable_grad;
#[cfg(feature = "cuda")]
use super::cuda::layers::{self as cuda, ChannelArgs, ChannelOp, DeviceSlice};
#[cfg(feature = "cuda")]
use super::per_channel::on_gpu;
use super::per_channel::{channel_sums, is_fast, plane, planes, sums};
use super::storage::{values, with_values};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

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
        let batch_moments = [&moments.mean, &moments.variance].map(|values| {
            let values = values.iter().map(|&v| v as f32).collect::<Vec<_>>();
            Tensor::from_vec(values, channels, x.device())
        });
        let [mean, variance] = batch_moments;
        let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
        let result = x.apply_op3(&weight, &bias, Normalise { moments, eps })?;
        return Ok((result, [mean?, variance?]));
    }
    #[cfg(feature = "cuda")]
    if on_gpu(&[x, weight, bias]) {
        let x = x.contiguous()?;
        let moments = cuda::sums(ChannelOp::Moments, &x, &ChannelArgs::default())?;
        let batch_moments = [moments.get(0)?, moments.get(1)?];
        let op = NormaliseOnGpu { moments, eps };
        let result = x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?;
        return Ok((result, batch_moments));
    }
    let mean = x.mean_keepdim((0, 2, 3))?;
    let centered = x.broadcast_sub(&mean)?;
    let variance = centered.sqr()?.mean_keepdim((0, 2, 3))?;
    let plane = |tensor: &Tensor| tensor.reshape((1, channels, 1, 1));
    let result = centered
        .broadcast_div(&(&variance + eps)?.sqrt()?)?
        .broadcast_mul(&plane(weight)?)?
        .broadcast_add(&plane(bias)?)?;
    let detached = |tensor: Tensor| tensor.detach().flatten_all();
    Ok((result, [detached(mean)?, detached(variance)?]))
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
        let result = planes(batch * channels, area, |index, result| {
            let channel = index % channels;
            let factor = (f64::from(weight[channel]) * self.inverse(channel)) as f32;
            let (mean, bias) = (self.moments.mean[channel] as f32, bias[channel]);
            for (result, v) in result.iter_mut().zip(plane(x, index, area)) {
                *result = (v - mean) * factor + bias;
            }
        });
        Ok((CpuStorage::F32(result), x_layout.shape().clone()))
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
                let of_x = planes(batch * channels, area, |index, result| {
                    let channel = index % channels;
                    let inverse = self.inverse(channel);
                    let [of_bias, of_weight] = totals[channel];
                    let factor = (f64::from(weights[channel]) * inverse) as f32;
                    let mean = self.moments.mean[channel] as f32;
                    let level = (of_bias / count) as f32;
                    let slope = (of_weight * inverse * inverse / count) as f32;
                    let pairs = plane(grad, index, area).iter().zip(plane(x, index, area));
                    for (result, (g, v)) in result.iter_mut().zip(pairs) {
                        *result = factor * (g - level - (v - mean) * slope);
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
        let args = ChannelArgs {
            weight: DeviceSlice::of(weight, weight_layout)?,
            bias: DeviceSlice::of(bias, bias_layout)?,
            moments: DeviceSlice::of_tensor(&self.moments)?,
            eps: self.eps as f32,
            ..ChannelArgs::default()
        };
        let values = DeviceSlice::of(x, x_layout)?;
        let shape = x_layout.shape().clone();
        let result = cuda::samples(ChannelOp::Normalise, &x.device, values, &shape, &args)?;
        Ok((result, shape))
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
        let mut args = ChannelArgs {
            grad: DeviceSlice::of_tensor(&grad)?,
            weight: DeviceSlice::of_tensor(weight)?,
            moments: DeviceSlice::of_tensor(&self.moments)?,
            eps: self.eps as f32,
            ..ChannelArgs::default()
        };
        let sums = cuda::sums(ChannelOp::NormaliseSums, x, &args)?;
        args.sums = DeviceSlice::of_tensor(&sums)?;
        let of_x = cuda::samples_of(ChannelOp::NormaliseBack, x, &args)?;
        let [of_bias, of_weight] = [sums.get(0)?, sums.get(1)?];
        let of_weight = stash_variable_grad(weight, Some(of_weight))?;
        Ok((
            Some(of_x),
            of_weight,
            stash_variable_grad(bias, Some(of_bias))?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::per_channel::testing::{SHAPE, compare, noise, var};
    use super::*;
    use candle_core::DType;

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
            batch_norm(&vars[0], &vars[1], &vars[2], 1e-5).map(|(result, _)| result)
        });
        let [exact, fast] = [DType::F64, DType::F32].map(|kind| {
            let vars = vars(kind);
            let (_, moments) = batch_norm(&vars[0], &vars[1], &vars[2], 1e-5).unwrap();
            moments.map(|t| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap())
        });
        for (exact, fast) in exact.iter().flatten().zip(fast.iter().flatten()) {
            assert!((exact - fast).abs() < 1e-5, "{exact} {fast}");
        }
    }

    #[test]
    fn results_are_the_same_for_any_number_of_threads() {
        let shape = (2, 3, 40, 33);
        let x = var(&noise(2 * 3 * 40 * 33, -1.0, 1.0), shape, DType::F32);
        let one = var(&[1.0, 0.5, 2.0], 3, DType::F32);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let (result, _) = batch_norm(&x, &one, &one, 1e-5).unwrap();
                let gradients = result.sqr().unwrap().backward().unwrap();
                let parts = [
                    &result,
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
    }
}
