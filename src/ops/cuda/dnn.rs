//! Convolutions by cuDNN, forwards with bias and ReLU in one, and backwards.
//!
//! In `f32` tensors lie as candle has them, (N, C, H, W); in 16-bit types
//! (N, H, W, C), which the tensor cores take, and what candle sees is a view
//! of that: from one convolution to the next nothing is turned around. Sums
//! are of `f32`. cuDNN's names of what it computes by are cached by the sizes.

use super::layers::{self, Kind, Values, With};
use crate::ops::Border;
use crate::ops::conv::rounds;
use crate::ops::cpu::Geometry;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr,
};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Error, Layout, Result, Shape, Storage,
    Tensor, bail,
};
use half::{bf16, f16};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::{from_ref, null_mut};
use std::rc::Rc;
use std::sync::Arc;

/// Memory that an algorithm may ask for, in bytes.
const MOST_WORKSPACE: usize = 1 << 30;

/// Sizes that are kept in mind; streams change theirs seldom.
const MOST_PLANS: usize = 512;

/// Algorithms that cuDNN knows for a direction, at most.
const ALGORITHMS: usize = 8;

thread_local! {
    /// cuDNN wants each of its handles used by one thread at a time.
    static HANDLES: RefCell<HashMap<usize, Rc<Handle>>> = RefCell::default();
}

/// The convolution by cuDNN; `None` where it is not there or does not do this.
pub(in crate::ops) fn conv2d(
    geometry: &Geometry,
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let kind = images.dtype();
    let known = matches!(kind, DType::F32 | DType::F16 | DType::BF16);
    let alike = [Some(weights), bias].into_iter().flatten();
    let alike = alike.into_iter().all(|t| t.dtype() == kind);
    if !images.device().is_cuda() || !known || !alike || srfilter_cuda::cudnn().is_err() {
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
    let (tall, wide) = geometry.size();
    let largest =
        (geometry.inputs * geometry.image.0 * geometry.image.1).max(geometry.outputs * tall * wide);
    if geometry.batch * largest >= i32::MAX as usize {
        return Ok(None);
    }
    let learns = images.track_op() || weights.track_op();
    let bias = match bias {
        Some(bias) => bias.contiguous()?,
        None => Tensor::zeros(geometry.outputs, kind, images.device())?,
    };
    let op = Convolution {
        geometry,
        exact: !(learns || rounds()),
    };
    if kind == DType::F32 {
        let images = images.contiguous()?;
        return images
            .apply_op3(&weights.contiguous()?, &bias, op)
            .map(Some);
    }
    if learns {
        // No gradients in 16 bits.
        return Ok(None);
    }
    let turned = |tensor: &Tensor| tensor.permute((0, 2, 3, 1))?.contiguous();
    let made = turned(&images)?.apply_op3_no_bwd(&turned(weights)?, &bias, &op)?;
    made.permute((0, 3, 1, 2)).map(Some)
}

/// Of images, weights and bias, contiguous: (N, Ci, H, W), (Co, Ci / groups,
/// Kh, Kw) and (Co) in `f32`, (N, H, W, Ci), (Co, Kh, Kw, Ci / groups) and
/// (Co) in 16-bit types.
struct Convolution {
    geometry: Geometry,
    /// Whether `f32` is not to be rounded to TF32 on the way.
    exact: bool,
}

impl Convolution {
    fn run<T: CudaDType + DeviceRepr>(
        &self,
        kind: DType,
        (x, x_layout): (&CudaStorage, &Layout),
        (w, w_layout): (&CudaStorage, &Layout),
        (b, b_layout): (&CudaStorage, &Layout),
    ) -> Result<(CudaStorage, Shape)> {
        let (geometry, device) = (&self.geometry, &x.device);
        let handle = Handle::of(device)?;
        let plan = handle.plan(geometry, kind, self.exact)?;
        let (height, width) = geometry.size();
        let (batch, outputs) = (geometry.batch, geometry.outputs);
        let shape = match kind {
            DType::F32 => Shape::from((batch, outputs, height, width)),
            _ => Shape::from((batch, height, width, outputs)),
        };
        // SAFETY: cuDNN writes all of it.
        let made = unsafe { device.alloc::<T>(shape.elem_count())? };
        let algorithm =
            sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
        let bytes = match plan.forward.get() {
            Some(bytes) => bytes,
            None => {
                // SAFETY: all descriptors are alive.
                let bytes = unsafe {
                    result::get_convolution_forward_workspace_size(
                        handle.raw, plan.x, plan.w, plan.conv, plan.y, algorithm,
                    )
                };
                let bytes = bytes.map_err(Error::wrap)?;
                plan.forward.set(Some(bytes));
                bytes
            }
        };
        let (alpha, beta) = (1f32, 0f32);
        let room = handle.workspace(device, bytes)?;
        let target = address(&made);
        // SAFETY: the descriptors say how large the tensors are, whose shapes
        // were checked, and they live until the stream has come so far.
        unsafe {
            result::convolution_bias_activation_forward(
                handle.raw,
                from_ref(&alpha).cast(),
                plan.x,
                at::<T>(x, x_layout)?,
                plan.w,
                at::<T>(w, w_layout)?,
                plan.conv,
                algorithm,
                room,
                bytes,
                from_ref(&beta).cast(),
                plan.y,
                target,
                plan.bias,
                at::<T>(b, b_layout)?,
                plan.activation,
                plan.y,
                target,
            )
        }
        .map_err(Error::wrap)?;
        Ok((CudaStorage::wrap_cuda_slice(made, device.clone()), shape))
    }

    /// The gradient of the images, (N, Ci, H, W).
    fn of_images(&self, weights: &Tensor, grad: &Tensor) -> Result<Tensor> {
        use sys::cudnnConvolutionBwdDataAlgoPerf_t as Choice;
        let Geometry {
            batch,
            inputs,
            image,
            ..
        } = self.geometry;
        let device = grad.device().as_cuda_device()?;
        let handle = Handle::of(device)?;
        let plan = handle.plan(&self.geometry, DType::F32, self.exact)?;
        let (algorithm, bytes) = match plan.of_images.get() {
            Some(chosen) => chosen,
            None => {
                let mut count = 0;
                // SAFETY: it is plain data, of zeros.
                let mut choices: [Choice; ALGORITHMS] = unsafe { std::mem::zeroed() };
                // SAFETY: there is room for that many.
                unsafe {
                    result::get_convolution_backward_data_algorithm(
                        handle.raw,
                        plan.w,
                        plan.y,
                        plan.conv,
                        plan.x,
                        ALGORITHMS as c_int,
                        &raw mut count,
                        choices.as_mut_ptr(),
                    )
                }
                .map_err(Error::wrap)?;
                let choices = choices.iter().take(count.max(0) as usize);
                let chosen = choices
                    .filter(|c| is_good(c.status, c.determinism, c.memory))
                    .map(|c| (c.algo, c.memory))
                    .next();
                let chosen = chosen.ok_or_else(|| no_way("images", &self.geometry))?;
                plan.of_images.set(Some(chosen));
                chosen
            }
        };
        let shape = (batch, inputs, image.0, image.1);
        // SAFETY: cuDNN writes all of it.
        let made = unsafe { device.alloc::<f32>(batch * inputs * image.0 * image.1)? };
        let (alpha, beta) = (1f32, 0f32);
        let room = handle.workspace(device, bytes)?;
        // SAFETY: as forwards.
        unsafe {
            result::convolution_backward_data(
                handle.raw,
                from_ref(&alpha).cast(),
                plan.w,
                Values::of_tensor(weights)?.pointer(),
                plan.y,
                Values::of_tensor(grad)?.pointer(),
                plan.conv,
                algorithm,
                room,
                bytes,
                from_ref(&beta).cast(),
                plan.x,
                address(&made),
            )
        }
        .map_err(Error::wrap)?;
        Ok(tensor(made, device, shape))
    }

    /// The gradient of the weights, (Co, Ci / groups, Kh, Kw).
    fn of_weights(&self, images: &Tensor, grad: &Tensor) -> Result<Tensor> {
        use sys::cudnnConvolutionBwdFilterAlgoPerf_t as Choice;
        let Geometry {
            inputs,
            outputs,
            groups,
            kernel,
            ..
        } = self.geometry;
        let device = grad.device().as_cuda_device()?;
        let handle = Handle::of(device)?;
        let plan = handle.plan(&self.geometry, DType::F32, self.exact)?;
        let (algorithm, bytes) = match plan.of_weights.get() {
            Some(chosen) => chosen,
            None => {
                let mut count = 0;
                // SAFETY: it is plain data, of zeros.
                let mut choices: [Choice; ALGORITHMS] = unsafe { std::mem::zeroed() };
                // SAFETY: there is room for that many.
                unsafe {
                    result::get_convolution_backward_filter_algorithm(
                        handle.raw,
                        plan.x,
                        plan.y,
                        plan.conv,
                        plan.w,
                        ALGORITHMS as c_int,
                        &raw mut count,
                        choices.as_mut_ptr(),
                    )
                }
                .map_err(Error::wrap)?;
                let choices = choices.iter().take(count.max(0) as usize);
                let chosen = choices
                    .filter(|c| is_good(c.status, c.determinism, c.memory))
                    .map(|c| (c.algo, c.memory))
                    .next();
                let chosen = chosen.ok_or_else(|| no_way("weights", &self.geometry))?;
                plan.of_weights.set(Some(chosen));
                chosen
            }
        };
        let shape = (outputs, inputs / groups, kernel.0, kernel.1);
        let count = outputs * inputs / groups * kernel.0 * kernel.1;
        // SAFETY: cuDNN writes all of it.
        let made = unsafe { device.alloc::<f32>(count)? };
        let (alpha, beta) = (1f32, 0f32);
        let room = handle.workspace(device, bytes)?;
        // SAFETY: as forwards.
        unsafe {
            result::convolution_backward_filter(
                handle.raw,
                from_ref(&alpha).cast(),
                plan.x,
                Values::of_tensor(images)?.pointer(),
                plan.y,
                Values::of_tensor(grad)?.pointer(),
                plan.conv,
                algorithm,
                room,
                bytes,
                from_ref(&beta).cast(),
                plan.w,
                address(&made),
            )
        }
        .map_err(Error::wrap)?;
        Ok(tensor(made, device, shape))
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
        bail!("cuDNN wants its tensors on a GPU")
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
            kind @ DType::F32 => self.run::<f32>(kind, x, w, b),
            kind @ DType::F16 => self.run::<f16>(kind, x, w, b),
            kind @ DType::BF16 => self.run::<bf16>(kind, x, w, b),
            kind => bail!("cuDNN convolves no {kind:?}"),
        }
    }

    fn bwd(
        &self,
        images: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
        made: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut grad = grad.contiguous()?;
        if self.geometry.relu {
            let with = With {
                grad: Values::of_tensor(&grad)?,
                ..With::default()
            };
            let passed = layers::samples_of(Kind::ReluBack, made, &with)?;
            grad = passed;
        }
        let wanted = |tensor: &Tensor| tensor.track_op();
        let of_bias = || layers::sums(Kind::Sums, &grad, &With::default())?.get(0);
        Ok((
            (wanted(images).then(|| self.of_images(weights, &grad))).transpose()?,
            (wanted(weights).then(|| self.of_weights(images, &grad))).transpose()?,
            wanted(bias).then(of_bias).transpose()?,
        ))
    }
}

/// cuDNN on a thread.
struct Handle {
    raw: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    plans: RefCell<HashMap<(Geometry, DType, bool), Rc<Plan>>>,
    /// What the calls work in, one after the other.
    workspace: RefCell<Option<CudaSlice<u8>>>,
}

impl Handle {
    /// The thread's, for a GPU.
    fn of(device: &CudaDevice) -> Result<Rc<Self>> {
        let stream = device.cuda_stream();
        let key = stream.cu_stream() as usize;
        HANDLES.with_borrow_mut(|handles| {
            if let Some(handle) = handles.get(&key) {
                return Ok(Rc::clone(handle));
            }
            stream.context().bind_to_thread().map_err(Error::wrap)?;
            let raw = result::create_handle().map_err(Error::wrap)?;
            let handle = Rc::new(Self {
                raw,
                stream: Arc::clone(&stream),
                plans: RefCell::default(),
                workspace: RefCell::default(),
            });
            // SAFETY: the handle was just made, and keeps the stream.
            unsafe { result::set_stream(raw, stream.cu_stream().cast()) }.map_err(Error::wrap)?;
            handles.insert(key, Rc::clone(&handle));
            Ok(handle)
        })
    }

    fn plan(&self, geometry: &Geometry, kind: DType, exact: bool) -> Result<Rc<Plan>> {
        let mut plans = self.plans.borrow_mut();
        let key = (geometry.clone(), kind, exact);
        if let Some(plan) = plans.get(&key) {
            return Ok(Rc::clone(plan));
        }
        if plans.len() >= MOST_PLANS {
            plans.clear();
        }
        let plan = Rc::new(Plan::new(geometry, kind, exact)?);
        plans.insert(key, Rc::clone(&plan));
        Ok(plan)
    }

    /// Memory to work in, for the next call.
    fn workspace(&self, device: &CudaDevice, bytes: usize) -> Result<*mut c_void> {
        let mut workspace = self.workspace.borrow_mut();
        if workspace.as_ref().is_none_or(|have| have.len() < bytes) {
            // The old one is given back when the calls before are done.
            *workspace = None;
            // SAFETY: cuDNN expects nothing of its contents.
            *workspace = Some(unsafe { device.alloc::<u8>(bytes.max(1))? });
        }
        match &mut *workspace {
            Some(workspace) => Ok(workspace.device_ptr_mut(&self.stream).0 as *mut c_void),
            None => Ok(null_mut()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.plans.borrow_mut().clear();
        // SAFETY: nobody has it any more. If the GPU is gone, so is what it holds.
        let _ = unsafe { result::destroy_handle(self.raw) };
    }
}

/// A convolution as cuDNN knows it, and what it chose.
struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    bias: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    conv: sys::cudnnConvolutionDescriptor_t,
    activation: sys::cudnnActivationDescriptor_t,
    /// Bytes to work in.
    forward: Cell<Option<usize>>,
    of_images: Cell<Option<(sys::cudnnConvolutionBwdDataAlgo_t, usize)>>,
    of_weights: Cell<Option<(sys::cudnnConvolutionBwdFilterAlgo_t, usize)>>,
}

impl Plan {
    fn new(geometry: &Geometry, kind: DType, exact: bool) -> Result<Self> {
        // What is made is destroyed also where the rest fails.
        let mut plan = Self {
            x: null_mut(),
            y: null_mut(),
            bias: null_mut(),
            w: null_mut(),
            conv: null_mut(),
            activation: null_mut(),
            forward: Cell::new(None),
            of_images: Cell::new(None),
            of_weights: Cell::new(None),
        };
        plan.describe(geometry, kind, exact).map_err(Error::wrap)?;
        Ok(plan)
    }

    fn describe(
        &mut self,
        geometry: &Geometry,
        kind: DType,
        exact: bool,
    ) -> std::result::Result<(), result::CudnnError> {
        use sys::cudnnDataType_t as Type;
        use sys::cudnnMathType_t as Math;
        use sys::cudnnTensorFormat_t as Format;
        let (format, values, math) = match (kind, exact) {
            (DType::F16, _) => (
                Format::CUDNN_TENSOR_NHWC,
                Type::CUDNN_DATA_HALF,
                Math::CUDNN_TENSOR_OP_MATH,
            ),
            (DType::BF16, _) => (
                Format::CUDNN_TENSOR_NHWC,
                Type::CUDNN_DATA_BFLOAT16,
                Math::CUDNN_TENSOR_OP_MATH,
            ),
            (_, exact) => (
                Format::CUDNN_TENSOR_NCHW,
                Type::CUDNN_DATA_FLOAT,
                match exact {
                    true => Math::CUDNN_FMA_MATH,
                    false => Math::CUDNN_DEFAULT_MATH,
                },
            ),
        };
        let [batch, inputs, outputs, groups, stride, dilation] = [
            geometry.batch,
            geometry.inputs,
            geometry.outputs,
            geometry.groups,
            geometry.stride,
            geometry.dilation,
        ]
        .map(|n| n as c_int);
        let both = |(height, width): (usize, usize)| [height as c_int, width as c_int];
        let [image, size, kernel, pad] = [
            geometry.image,
            geometry.size(),
            geometry.kernel,
            geometry.pad(),
        ]
        .map(both);
        let depth = inputs / groups;
        let activation = match geometry.relu {
            true => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_RELU,
            false => sys::cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY,
        };
        // SAFETY: each descriptor is made before it is set.
        unsafe {
            self.x = result::create_tensor_descriptor()?;
            let of_x = [batch, inputs, image[0], image[1]];
            result::set_tensor4d_descriptor(self.x, format, values, of_x)?;
            self.y = result::create_tensor_descriptor()?;
            let of_y = [batch, outputs, size[0], size[1]];
            result::set_tensor4d_descriptor(self.y, format, values, of_y)?;
            self.bias = result::create_tensor_descriptor()?;
            result::set_tensor4d_descriptor(self.bias, format, values, [1, outputs, 1, 1])?;
            self.w = result::create_filter_descriptor()?;
            let of_w = [outputs, depth, kernel[0], kernel[1]];
            result::set_filter4d_descriptor(self.w, values, format, of_w)?;
            self.conv = result::create_convolution_descriptor()?;
            result::set_convolution2d_descriptor(
                self.conv,
                pad[0],
                pad[1],
                stride,
                stride,
                dilation,
                dilation,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                Type::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_group_count(self.conv, groups)?;
            result::set_convolution_math_type(self.conv, math)?;
            self.activation = result::create_activation_descriptor()?;
            let nan = sys::cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN;
            result::set_activation_descriptor(self.activation, activation, nan, 0.0)
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: those that were made are ours. If the GPU is gone, so is
        // what they hold.
        unsafe {
            for tensor in [self.x, self.y, self.bias] {
                if !tensor.is_null() {
                    let _ = result::destroy_tensor_descriptor(tensor);
                }
            }
            if !self.w.is_null() {
                let _ = result::destroy_filter_descriptor(self.w);
            }
            if !self.conv.is_null() {
                let _ = result::destroy_convolution_descriptor(self.conv);
            }
            if !self.activation.is_null() {
                let _ = sys::cudnnDestroyActivationDescriptor(self.activation);
            }
        }
    }
}

/// Whether an algorithm works, gives the same bits each time, and is modest.
fn is_good(
    status: sys::cudnnStatus_t,
    determinism: sys::cudnnDeterminism_t,
    memory: usize,
) -> bool {
    status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
        && determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
        && memory <= MOST_WORKSPACE
}

fn no_way(of: &str, geometry: &Geometry) -> Error {
    Error::Msg(format!(
        "cuDNN has no algorithm for the gradient of the {of} of {geometry:?}"
    ))
}

/// Where a storage's values begin.
fn at<T: CudaDType + DeviceRepr>(storage: &CudaStorage, layout: &Layout) -> Result<*const c_void> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("cuDNN wants contiguous tensors, not {layout:?}")
    };
    let slice = storage.as_cuda_slice::<T>()?;
    let address = slice.device_ptr(slice.stream()).0 + (start * size_of::<T>()) as u64;
    Ok(address as *const c_void)
}

fn address<T>(slice: &CudaSlice<T>) -> *mut c_void {
    slice.device_ptr(slice.stream()).0 as *mut c_void
}

fn tensor(values: CudaSlice<f32>, device: &CudaDevice, shape: impl Into<Shape>) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(values, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}
