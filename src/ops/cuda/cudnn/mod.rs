//! Convolutions by cuDNN: forward with bias and ReLU in one launch, and backward.
//!
//! Tensors of `f32` have candle's layout, (N, C, H, W); those of 16-bit types
//! have the tensor cores', (N, H, W, C), of which candle gets a view: nothing is
//! transposed between two convolutions. Sums are `f32`. Descriptors and chosen
//! algorithms are cached by geometry.

mod gradient;
mod handle;
mod report;

use super::errors::{cudnn_error, is_unsupported};
use super::layers::{self, ChannelArgs, ChannelOp, DeviceSlice};
use crate::ops::context::stash_variable_grad;
use crate::ops::spec::{Border, ConvGeometry};
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use gradient::{ImageGradient, WeightGradient, gradient};
use half::{bf16, f16};
use handle::{Handle, ONE, ZERO, pointer};
use std::ffi::c_void;
use std::ptr::from_ref;

const FORWARD: sys::cudnnConvolutionFwdAlgo_t =
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;

/// The convolution by cuDNN; `None` where cuDNN is missing or does not support
/// it. Factors of `f32` are rounded to TF32 where that is allowed or gradients
/// are needed.
pub(in crate::ops) fn conv2d(
    geometry: &ConvGeometry,
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    allow_tf32: bool,
) -> Result<Option<Tensor>> {
    let dtype = images.dtype();
    let is_supported = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let mut others = [Some(weights), bias].into_iter().flatten();
    let same = others.all(|t| t.dtype() == dtype);
    if !images.device().is_cuda() || !is_supported || !same || srfilter_cuda::cudnn().is_err() {
        return Ok(None);
    }
    let mut geometry = geometry.clone();
    let mut images = images.clone();
    if geometry.border == Border::Replicate {
        let (top, left) = geometry.pad();
        images = images
            .pad_with_same(2, top, top)?
            .pad_with_same(3, left, left)?;
        geometry.image = geometry.padded();
        geometry.border = Border::Valid;
    }
    let (height, width) = geometry.size();
    let largest = (geometry.inputs * geometry.image.0 * geometry.image.1)
        .max(geometry.outputs * height * width);
    if geometry.batch * largest >= i32::MAX as usize {
        return Ok(None);
    }
    let needs_grad = images.track_op() || weights.track_op();
    let bias = match bias {
        Some(bias) => bias.contiguous()?,
        None => Tensor::zeros(geometry.outputs, dtype, images.device())?,
    };
    let op = Convolution {
        geometry,
        exact: !(needs_grad || allow_tf32),
    };
    if dtype == DType::F32 {
        let images = images.contiguous()?;
        return unless_unsupported(images.apply_op3(&weights.contiguous()?, &bias, op));
    }
    if needs_grad {
        // No gradients in 16 bits.
        return Ok(None);
    }
    let nhwc = |tensor: &Tensor| tensor.permute((0, 2, 3, 1))?.contiguous();
    let output = nhwc(&images)?.apply_op3_no_bwd(&nhwc(weights)?, &bias, &op);
    let output = unless_unsupported(output)?;
    output.map(|y| y.permute((0, 3, 1, 2))).transpose()
}

/// `None` where cuDNN does not support the convolution.
fn unless_unsupported(output: Result<Tensor>) -> Result<Option<Tensor>> {
    match output {
        Err(error) if is_unsupported(&error) => Ok(None),
        output => output.map(Some),
    }
}

/// The operation on contiguous images, weights and bias: (N, Ci, H, W),
/// (Co, Ci / groups, Kh, Kw) and (Co) in `f32`, (N, H, W, Ci),
/// (Co, Kh, Kw, Ci / groups) and (Co) in 16-bit types.
struct Convolution {
    geometry: ConvGeometry,
    /// Whether `f32` must not be rounded to TF32.
    exact: bool,
}

impl Convolution {
    fn run<T: CudaDType + DeviceRepr>(
        &self,
        dtype: DType,
        (x, x_layout): (&CudaStorage, &Layout),
        (w, w_layout): (&CudaStorage, &Layout),
        (b, b_layout): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let (geometry, device) = (&self.geometry, &x.device);
        let (height, width) = geometry.size();
        let (batch, outputs) = (geometry.batch, geometry.outputs);
        let shape = match dtype {
            DType::F32 => Shape::from((batch, outputs, height, width)),
            _ => Shape::from((batch, height, width, outputs)),
        };
        // SAFETY: cuDNN writes all of it.
        let output = unsafe { device.alloc::<T>(shape.elem_count())? };
        let x = layers::start::<T>(x, x_layout)? as *const c_void;
        let w = layers::start::<T>(w, w_layout)? as *const c_void;
        let b = layers::start::<T>(b, b_layout)? as *const c_void;
        Handle::with(
            device,
            (geometry, dtype, self.exact),
            |handle, plan, workspace| {
                let bytes = match plan.forward.get() {
                    Some(bytes) => bytes,
                    None => {
                        // SAFETY: all descriptors are alive.
                        let bytes = unsafe {
                            result::get_convolution_forward_workspace_size(
                                handle, plan.x, plan.w, plan.conv, plan.y, FORWARD,
                            )
                        };
                        let bytes = bytes.map_err(cudnn_error)?;
                        plan.forward.set(Some(bytes));
                        bytes
                    }
                };
                let memory = workspace.reserve(device, bytes)?;
                let y = pointer(&output);
                // SAFETY: *described tensors*: the descriptors say how large the
                // tensors are, whose shapes were checked, and they live until the
                // stream has reached this call.
                unsafe {
                    result::convolution_bias_activation_forward(
                        handle,
                        from_ref(&ONE).cast(),
                        plan.x,
                        x,
                        plan.w,
                        w,
                        plan.conv,
                        FORWARD,
                        memory,
                        bytes,
                        from_ref(&ZERO).cast(),
                        plan.y,
                        y,
                        plan.bias,
                        b,
                        plan.activation,
                        plan.y,
                        y,
                    )
                }
                .map_err(cudnn_error)
            },
        )?;
        Ok((CudaStorage::wrap_cuda_slice(output, device.clone()), shape))
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d-cudnn"
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
        bail!("cuDNN computes on a GPU only")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let (x, w, b) = ((x, x_layout), (w, w_layout), (b, b_layout));
        match x.0.dtype() {
            dtype @ DType::F32 => self.run::<f32>(dtype, x, w, b),
            dtype @ DType::F16 => self.run::<f16>(dtype, x, w, b),
            dtype @ DType::BF16 => self.run::<bf16>(dtype, x, w, b),
            dtype => bail!("cuDNN does not convolve {dtype:?}"),
        }
    }

    fn bwd(
        &self,
        images: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut grad = grad.contiguous()?;
        if self.geometry.relu {
            let args = ChannelArgs {
                grad: DeviceSlice::of_tensor(&grad)?,
                ..ChannelArgs::default()
            };
            let masked = layers::samples_of(ChannelOp::ReluBack, output, &args)?;
            grad = masked;
        }
        let geometry = &self.geometry;
        let [n, ci, co] = [geometry.batch, geometry.inputs, geometry.outputs];
        let ((h, w), (kh, kw)) = (geometry.image, geometry.kernel);
        let of_images = images.track_op().then(|| {
            let shape = Shape::from((n, ci, h, w));
            gradient::<ImageGradient>((geometry, self.exact), weights, &grad, shape)
        });
        let of_weights = weights.track_op().then(|| {
            let shape = Shape::from((co, ci / geometry.groups, kh, kw));
            gradient::<WeightGradient>((geometry, self.exact), images, &grad, shape)
        });
        let of_bias = (bias.track_op())
            .then(|| layers::sums(ChannelOp::Sums, &grad, &ChannelArgs::default())?.get(0));
        Ok((
            of_images.transpose()?,
            stash_variable_grad(weights, of_weights.transpose()?)?,
            stash_variable_grad(bias, of_bias.transpose()?)?,
        ))
    }
}
