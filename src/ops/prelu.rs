//! PReLU with gradients: candle's takes several times as long as the
//! convolutions around it.

use super::context::stash_variable_grad;
#[cfg(feature = "cuda")]
use super::cuda::layers::{self as cuda, ChannelArgs, ChannelOp, DeviceSlice};
#[cfg(feature = "cuda")]
use super::per_channel::on_gpu;
use super::per_channel::{channel_sums, is_fast, plane, planes, sums};
use super::storage::{values, with_values};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

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
        let result = planes(batch * channels, area, |index, result| {
            let slope = slope[index % channels % slope.len()];
            for (result, &v) in result.iter_mut().zip(plane(x, index, area)) {
                *result = if v > 0.0 { v } else { slope * v };
            }
        });
        Ok((CpuStorage::F32(result), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        slope: &CudaStorage,
        slope_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let args = ChannelArgs {
            weight: DeviceSlice::of(slope, slope_layout)?,
            ..ChannelArgs::default()
        };
        let values = DeviceSlice::of(x, x_layout)?;
        let shape = x_layout.shape().clone();
        let result = cuda::samples(ChannelOp::Prelu, &x.device, values, &shape, &args)?;
        Ok((result, shape))
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
            let args = ChannelArgs {
                grad: DeviceSlice::of_tensor(&grad)?,
                weight: DeviceSlice::of_tensor(slope)?,
                ..ChannelArgs::default()
            };
            let of_x = cuda::samples_of(ChannelOp::PreluBack, x, &args)?;
            // One slope is that of one channel.
            let x = match slope.elem_count() {
                1 if i32::try_from(x.elem_count()).is_ok() => {
                    x.reshape((1, 1, 1, x.elem_count()))?
                }
                _ => x.clone(),
            };
            let mut sums = cuda::sums(ChannelOp::PreluSums, &x, &args)?.get(0)?;
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
                let of_x = planes(batch * channels, area, |index, result| {
                    let slope = slopes[index % channels % slopes.len()];
                    let pairs = plane(grad, index, area).iter().zip(plane(x, index, area));
                    for (result, (&g, &v)) in result.iter_mut().zip(pairs) {
                        *result = if v > 0.0 { g } else { slope * g };
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
    use super::super::per_channel::testing::{SHAPE, compare, noise, var};
    use super::*;
    use candle_core::DType;

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
        let result = prelu(&zero, &var(&[0.25], 1, DType::F32)).unwrap();
        let gradients = result.backward().unwrap();
        let gradient = gradients.get(&zero).unwrap().flatten_all().unwrap();
        assert_eq!(gradient.to_vec1::<f32>().unwrap(), [0.25]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = var(&noise(24, 0.0, 1.0), (1, 2, 3, 4), DType::F32);
        let three = var(&[1.0; 3], 3, DType::F32);
        assert!(prelu(&x, &three).is_err());
    }
}
