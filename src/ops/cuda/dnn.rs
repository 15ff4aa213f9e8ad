//! Convolutions by cuDNN, forwards with bias and ReLU in one, and backwards.
//!
//! In `f32` tensors lie as candle has them, (N, C, H, W); in 16-bit types
//! (N, H, W, C), which the tensor cores take, and what candle sees is a view
//! of that: from one convolution to the next nothing is turned around. Sums
//! are of `f32`. cuDNN's names of what it computes by are cached by the sizes.

use super::errors::{cudnn_error, is_unsupported};
use super::layers::{self, ChannelArgs, ChannelOp, DeviceSlice};
use crate::ops::context::stash_variable_grad;
use crate::ops::spec::{Border, ConvGeometry};
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DeviceRepr};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Error, Layout, Result, Shape, Tensor,
    bail,
};
use half::{bf16, f16};
use once_cell::sync::Lazy;
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::ptr::{from_ref, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that an algorithm may ask for, in bytes.
const MOST_WORKSPACE: usize = 1 << 30;

/// Sizes that are kept in mind; streams change theirs seldom.
const MOST_PLANS: usize = 512;

/// Algorithms that cuDNN knows for a direction, at most, some of them twice: by
/// other units of the GPU.
const ALGORITHMS: usize = 16;

/// One for each stream, which they keep: cuDNN wants a handle used by one
/// thread at a time, and threads come and go. They are never destroyed, for at
/// the process's end the driver may be gone before them.
static HANDLES: Lazy<Mutex<HashMap<usize, Handle>>> = Lazy::new(Mutex::default);

/// The convolution by cuDNN; `None` where it is not there or does not do this.
/// Factors of `f32` are rounded to TF32 where that is allowed or gradients are
/// needed.
pub(in crate::ops) fn conv2d(
    geometry: &ConvGeometry,
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    allow_tf32: bool,
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
        exact: !(learns || allow_tf32),
    };
    if kind == DType::F32 {
        let images = images.contiguous()?;
        return unless_refused(images.apply_op3(&weights.contiguous()?, &bias, op));
    }
    if learns {
        // No gradients in 16 bits.
        return Ok(None);
    }
    let turned = |tensor: &Tensor| tensor.permute((0, 2, 3, 1))?.contiguous();
    let made = turned(&images)?.apply_op3_no_bwd(&turned(weights)?, &bias, &op);
    let made = unless_refused(made)?;
    made.map(|made| made.permute((0, 3, 1, 2))).transpose()
}

/// `None` where cuDNN does not do a convolution of that kind.
fn unless_refused(made: Result<Tensor>) -> Result<Option<Tensor>> {
    match made {
        Err(error) if is_unsupported(&error) => Ok(None),
        made => made.map(Some),
    }
}

/// Of images, weights and bias, contiguous: (N, Ci, H, W), (Co, Ci / groups,
/// Kh, Kw) and (Co) in `f32`, (N, H, W, Ci), (Co, Kh, Kw, Ci / groups) and
/// (Co) in 16-bit types.
struct Convolution {
    geometry: ConvGeometry,
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
        let (x, w) = (
            layers::start::<T>(x, x_layout)?,
            layers::start::<T>(w, w_layout)?,
        );
        let b = layers::start::<T>(b, b_layout)?;
        let target = pointer(&made);
        let (alpha, beta) = (1f32, 0f32);
        Handle::with(
            device,
            (geometry, kind, self.exact),
            |handle, plan, workspace| {
                let bytes = match plan.forward.get() {
                    Some(bytes) => bytes,
                    None => {
                        // SAFETY: all descriptors are alive.
                        let bytes = unsafe {
                            result::get_convolution_forward_workspace_size(
                                handle, plan.x, plan.w, plan.conv, plan.y, algorithm,
                            )
                        };
                        let bytes = bytes.map_err(cudnn_error)?;
                        plan.forward.set(Some(bytes));
                        bytes
                    }
                };
                let room = workspace.room(device, bytes)?;
                // SAFETY: the descriptors say how large the tensors are, whose shapes
                // were checked, and they live until the stream has come so far.
                unsafe {
                    result::convolution_bias_activation_forward(
                        handle,
                        from_ref(&alpha).cast(),
                        plan.x,
                        x as *const c_void,
                        plan.w,
                        w as *const c_void,
                        plan.conv,
                        algorithm,
                        room,
                        bytes,
                        from_ref(&beta).cast(),
                        plan.y,
                        target,
                        plan.bias,
                        b as *const c_void,
                        plan.activation,
                        plan.y,
                        target,
                    )
                }
                .map_err(cudnn_error)
            },
        )?;
        Ok((CudaStorage::wrap_cuda_slice(made, device.clone()), shape))
    }

    /// The gradient of the images, (N, Ci, H, W).
    fn of_images(&self, weights: &Tensor, grad: &Tensor) -> Result<Tensor> {
        use sys::cudnnConvolutionBwdDataAlgo_t as Algorithm;
        let geometry = &self.geometry;
        let device = grad.device().as_cuda_device()?;
        let (height, width) = geometry.image;
        let shape = Shape::from((geometry.batch, geometry.inputs, height, width));
        // SAFETY: cuDNN writes all of it.
        let made = unsafe { device.alloc::<f32>(shape.elem_count())? };
        let (w, dy) = (
            DeviceSlice::of_tensor(weights)?,
            DeviceSlice::of_tensor(grad)?,
        );
        let (alpha, beta) = (1f32, 0f32);
        Handle::with(
            device,
            (geometry, DType::F32, self.exact),
            |handle, plan, workspace| {
                let (algorithm, bytes) = match plan.of_images.get() {
                    Some(chosen) => chosen,
                    None => {
                        let mut count = 0;
                        let mut found = [AlgorithmReport::default(); ALGORITHMS];
                        // SAFETY: there is room for that many reports, laid out
                        // as cuDNN's.
                        unsafe {
                            result::get_convolution_backward_data_algorithm(
                                handle,
                                plan.w,
                                plan.y,
                                plan.conv,
                                plan.x,
                                ALGORITHMS as c_int,
                                &raw mut count,
                                found.as_mut_ptr().cast(),
                            )
                        }
                        .map_err(cudnn_error)?;
                        // SAFETY: all descriptors are alive.
                        let bytes = |algorithm| unsafe {
                            result::get_convolution_backward_data_workspace_size(
                                handle, plan.w, plan.y, plan.conv, plan.x, algorithm,
                            )
                        };
                        let found = found.iter().take(count.max(0) as usize);
                        let good = found.filter_map(|report| report.good(&DATA_ALGORITHMS));
                        let last = Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
                        let chosen = modest(good.chain([last]), bytes)
                            .ok_or_else(|| no_way("images", geometry))?;
                        plan.of_images.set(Some(chosen));
                        chosen
                    }
                };
                let room = workspace.room(device, bytes)?;
                // SAFETY: as forwards.
                unsafe {
                    result::convolution_backward_data(
                        handle,
                        from_ref(&alpha).cast(),
                        plan.w,
                        w.pointer(),
                        plan.y,
                        dy.pointer(),
                        plan.conv,
                        algorithm,
                        room,
                        bytes,
                        from_ref(&beta).cast(),
                        plan.x,
                        pointer(&made),
                    )
                }
                .map_err(cudnn_error)
            },
        )?;
        Ok(layers::tensor(
            CudaStorage::wrap_cuda_slice(made, device.clone()),
            shape,
        ))
    }

    /// The gradient of the weights, (Co, Ci / groups, Kh, Kw).
    fn of_weights(&self, images: &Tensor, grad: &Tensor) -> Result<Tensor> {
        use sys::cudnnConvolutionBwdFilterAlgo_t as Algorithm;
        let geometry = &self.geometry;
        let device = grad.device().as_cuda_device()?;
        let (depth, (tall, wide)) = (geometry.inputs / geometry.groups, geometry.kernel);
        let shape = Shape::from((geometry.outputs, depth, tall, wide));
        // SAFETY: cuDNN writes all of it.
        let made = unsafe { device.alloc::<f32>(shape.elem_count())? };
        let (x, dy) = (
            DeviceSlice::of_tensor(images)?,
            DeviceSlice::of_tensor(grad)?,
        );
        let (alpha, beta) = (1f32, 0f32);
        Handle::with(
            device,
            (geometry, DType::F32, self.exact),
            |handle, plan, workspace| {
                let (algorithm, bytes) = match plan.of_weights.get() {
                    Some(chosen) => chosen,
                    None => {
                        let mut count = 0;
                        let mut found = [AlgorithmReport::default(); ALGORITHMS];
                        // SAFETY: there is room for that many reports, laid out
                        // as cuDNN's.
                        unsafe {
                            result::get_convolution_backward_filter_algorithm(
                                handle,
                                plan.x,
                                plan.y,
                                plan.conv,
                                plan.w,
                                ALGORITHMS as c_int,
                                &raw mut count,
                                found.as_mut_ptr().cast(),
                            )
                        }
                        .map_err(cudnn_error)?;
                        // SAFETY: all descriptors are alive.
                        let bytes = |algorithm| unsafe {
                            result::get_convolution_backward_filter_workspace_size(
                                handle, plan.x, plan.y, plan.conv, plan.w, algorithm,
                            )
                        };
                        let found = found.iter().take(count.max(0) as usize);
                        let good = found.filter_map(|report| report.good(&FILTER_ALGORITHMS));
                        let last = Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
                        let chosen = modest(good.chain([last]), bytes)
                            .ok_or_else(|| no_way("weights", geometry))?;
                        plan.of_weights.set(Some(chosen));
                        chosen
                    }
                };
                let room = workspace.room(device, bytes)?;
                // SAFETY: as forwards.
                unsafe {
                    result::convolution_backward_filter(
                        handle,
                        from_ref(&alpha).cast(),
                        plan.x,
                        x.pointer(),
                        plan.y,
                        dy.pointer(),
                        plan.conv,
                        algorithm,
                        room,
                        bytes,
                        from_ref(&beta).cast(),
                        plan.w,
                        pointer(&made),
                    )
                }
                .map_err(cudnn_error)
            },
        )?;
        Ok(layers::tensor(
            CudaStorage::wrap_cuda_slice(made, device.clone()),
            shape,
        ))
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
            let args = ChannelArgs {
                grad: DeviceSlice::of_tensor(&grad)?,
                ..ChannelArgs::default()
            };
            let passed = layers::samples_of(ChannelOp::ReluBack, made, &args)?;
            grad = passed;
        }
        let wanted = |tensor: &Tensor| tensor.track_op();
        let of_bias = || layers::sums(ChannelOp::Sums, &grad, &ChannelArgs::default())?.get(0);
        let of_weights = wanted(weights).then(|| self.of_weights(images, &grad));
        Ok((
            (wanted(images).then(|| self.of_images(weights, &grad))).transpose()?,
            stash_variable_grad(weights, of_weights.transpose()?)?,
            stash_variable_grad(bias, wanted(bias).then(of_bias).transpose()?)?,
        ))
    }
}

/// cuDNN on a stream.
struct Handle {
    raw: sys::cudnnHandle_t,
    #[expect(dead_code, reason = "keeps the stream")]
    stream: Arc<CudaStream>,
    plans: HashMap<(ConvGeometry, DType, bool), Plan>,
    workspace: Workspace,
}

// SAFETY: what cuDNN gave may be used by any thread, one at a time.
unsafe impl Send for Handle {}

/// What the calls work in, one after the other.
#[derive(Default)]
struct Workspace(Option<CudaSlice<u8>>);

impl Workspace {
    /// So many bytes, for the next call.
    fn room(&mut self, device: &CudaDevice, bytes: usize) -> Result<*mut c_void> {
        if self.0.as_ref().is_none_or(|have| have.len() < bytes) {
            // The old one is given back when the calls before are done.
            self.0 = None;
            // SAFETY: cuDNN expects nothing of its contents.
            self.0 = Some(unsafe { device.alloc::<u8>(bytes.max(1))? });
        }
        Ok(self.0.as_ref().map_or(null_mut(), pointer))
    }
}

impl Handle {
    fn new(stream: Arc<CudaStream>) -> Result<Self> {
        let raw = result::create_handle().map_err(cudnn_error)?;
        // SAFETY: the handle was just made, and keeps the stream.
        unsafe { result::set_stream(raw, stream.cu_stream().cast()) }.map_err(cudnn_error)?;
        Ok(Self {
            raw,
            stream,
            plans: HashMap::new(),
            workspace: Workspace::default(),
        })
    }

    /// Lets a GPU's handle be used for a convolution.
    fn with<R>(
        device: &CudaDevice,
        (geometry, kind, exact): (&ConvGeometry, DType, bool),
        work: impl FnOnce(sys::cudnnHandle_t, &Plan, &mut Workspace) -> Result<R>,
    ) -> Result<R> {
        let stream = device.cuda_stream();
        // Of this thread, too.
        stream.context().bind_to_thread().w()?;
        let mut handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match handles.entry(stream.cu_stream() as usize) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Self::new(stream)?),
        };
        if handle.plans.len() >= MOST_PLANS {
            handle.plans.clear();
        }
        let plan = match handle.plans.entry((geometry.clone(), kind, exact)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Plan::new(geometry, kind, exact)?),
        };
        work(handle.raw, plan, &mut handle.workspace)
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
    fn new(geometry: &ConvGeometry, kind: DType, exact: bool) -> Result<Self> {
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
        plan.describe(geometry, kind, exact).map_err(cudnn_error)?;
        Ok(plan)
    }

    fn describe(
        &mut self,
        geometry: &ConvGeometry,
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

/// The algorithms for gradients of images and of weights that this code knows.
const DATA_ALGORITHMS: [sys::cudnnConvolutionBwdDataAlgo_t; 6] = {
    use sys::cudnnConvolutionBwdDataAlgo_t::*;
    [
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
    ]
};
const FILTER_ALGORITHMS: [sys::cudnnConvolutionBwdFilterAlgo_t; 7] = {
    use sys::cudnnConvolutionBwdFilterAlgo_t::*;
    [
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING,
    ]
};

/// What cuDNN says of an algorithm, of either direction, with integers for its
/// enumerations: a later version may have values that Rust's do not.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct AlgorithmReport {
    algorithm: u32,
    status: u32,
    time: f32,
    memory: usize,
    determinism: u32,
    math: u32,
    reserved: [c_int; 3],
}

/// Asserts that a structure of cuDNN's has the layout of [`AlgorithmReport`].
macro_rules! same_layout {
    ($theirs:ty) => {
        const _: () = {
            use std::mem::{align_of, offset_of};
            type Ours = AlgorithmReport;
            assert!(size_of::<Ours>() == size_of::<$theirs>());
            assert!(align_of::<Ours>() == align_of::<$theirs>());
            assert!(offset_of!(Ours, algorithm) == offset_of!($theirs, algo));
            assert!(offset_of!(Ours, status) == offset_of!($theirs, status));
            assert!(offset_of!(Ours, determinism) == offset_of!($theirs, determinism));
        };
    };
}

same_layout!(sys::cudnnConvolutionBwdDataAlgoPerf_t);
same_layout!(sys::cudnnConvolutionBwdFilterAlgoPerf_t);

impl AlgorithmReport {
    /// The algorithm, if it is known, works, and gives the same bits each time.
    fn good<A: Copy + AlgorithmCode>(&self, known: &[A]) -> Option<A> {
        let works = self.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS as u32;
        let repeats = self.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC as u32;
        let mut known = known.iter().copied();
        known.find(|algorithm| works && repeats && algorithm.code() == self.algorithm)
    }
}

/// The number by which cuDNN knows an algorithm.
trait AlgorithmCode {
    fn code(self) -> u32;
}

impl AlgorithmCode for sys::cudnnConvolutionBwdDataAlgo_t {
    fn code(self) -> u32 {
        self as u32
    }
}

impl AlgorithmCode for sys::cudnnConvolutionBwdFilterAlgo_t {
    fn code(self) -> u32 {
        self as u32
    }
}

/// The first of some algorithms that is modest, and the bytes that it takes: of
/// the numbers that the descriptor is of, for those that come along with an
/// algorithm may be for others.
fn modest<A: Copy>(
    algorithms: impl IntoIterator<Item = A>,
    bytes: impl Fn(A) -> std::result::Result<usize, result::CudnnError>,
) -> Option<(A, usize)> {
    let mut taken = algorithms
        .into_iter()
        .filter_map(|algorithm| Some((algorithm, bytes(algorithm).ok()?)));
    taken.find(|&(_, bytes)| bytes <= MOST_WORKSPACE)
}

fn no_way(of: &str, geometry: &ConvGeometry) -> Error {
    Error::Msg(format!(
        "cuDNN has no algorithm for the gradient of the {of} of {geometry:?}"
    ))
}

fn pointer<T>(slice: &CudaSlice<T>) -> *mut c_void {
    layers::address(slice) as *mut c_void
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_of_unknown_numbers_are_passed_over() {
        let report = |algorithm: u32, status: u32| AlgorithmReport {
            algorithm,
            status,
            determinism: sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC as u32,
            ..AlgorithmReport::default()
        };
        assert_eq!(
            report(4, 0).good(&DATA_ALGORITHMS),
            Some(DATA_ALGORITHMS[4])
        );
        assert_eq!(
            report(6, 0).good(&FILTER_ALGORITHMS),
            Some(FILTER_ALGORITHMS[6])
        );
        assert_eq!(report(6, 0).good(&DATA_ALGORITHMS), None);
        assert_eq!(report(1, u32::MAX).good(&DATA_ALGORITHMS), None);
        assert_eq!(
            AlgorithmReport {
                determinism: 77,
                ..report(1, 0)
            }
            .good(&DATA_ALGORITHMS),
            None
        );
    }
}
