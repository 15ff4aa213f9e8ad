//! Handles of cuDNN, and the descriptors of convolutions.

use crate::ops::cuda::errors::cudnn_error;
use crate::ops::cuda::layers;
use crate::ops::spec::ConvGeometry;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream};
use candle_core::{CudaDevice, DType, Result};
use once_cell::sync::Lazy;
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

/// What results are multiplied by, and what was there before them.
pub(super) const ONE: f32 = 1.0;
pub(super) const ZERO: f32 = 0.0;

/// Cached plans; the sizes of a stream seldom change.
const MAX_PLANS: usize = 512;

/// One for each stream, which it holds: cuDNN wants a handle used by one thread
/// at a time, and threads come and go. They are never destroyed: at the end of
/// the process the driver may be gone before them.
static HANDLES: Lazy<Mutex<HashMap<usize, Handle>>> = Lazy::new(Mutex::default);

/// cuDNN on a stream.
pub(super) struct Handle {
    raw: sys::cudnnHandle_t,
    #[expect(dead_code, reason = "holds the stream")]
    stream: Arc<CudaStream>,
    plans: HashMap<(ConvGeometry, DType, bool), Plan>,
    workspace: Workspace,
}

// SAFETY: a handle of cuDNN may be used by any thread, one at a time.
unsafe impl Send for Handle {}

/// Device memory that launches work in, one after the other.
#[derive(Default)]
pub(super) struct Workspace(Option<CudaSlice<u8>>);

impl Workspace {
    /// At least that many bytes, for the next launch.
    pub(super) fn reserve(&mut self, device: &CudaDevice, bytes: usize) -> Result<*mut c_void> {
        if self.0.as_ref().is_none_or(|have| have.len() < bytes) {
            // The old one is freed in the order of the stream: after its launches.
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
        // SAFETY: the handle is new, and holds the stream.
        unsafe { result::set_stream(raw, stream.cu_stream().cast()) }.map_err(cudnn_error)?;
        Ok(Self {
            raw,
            stream,
            plans: HashMap::new(),
            workspace: Workspace::default(),
        })
    }

    /// Calls `work` with the handle of the device's stream and the plan of a
    /// convolution.
    pub(super) fn with<R>(
        device: &CudaDevice,
        (geometry, dtype, exact): (&ConvGeometry, DType, bool),
        work: impl FnOnce(sys::cudnnHandle_t, &Plan, &mut Workspace) -> Result<R>,
    ) -> Result<R> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let mut handles = HANDLES.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match handles.entry(stream.cu_stream() as usize) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Self::new(stream)?),
        };
        if handle.plans.len() >= MAX_PLANS {
            handle.plans.clear();
        }
        let plan = match handle.plans.entry((geometry.clone(), dtype, exact)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Plan::new(geometry, dtype, exact)?),
        };
        work(handle.raw, plan, &mut handle.workspace)
    }
}

/// The descriptors of a convolution, and the chosen algorithms.
pub(super) struct Plan {
    pub(super) x: sys::cudnnTensorDescriptor_t,
    pub(super) y: sys::cudnnTensorDescriptor_t,
    pub(super) bias: sys::cudnnTensorDescriptor_t,
    pub(super) w: sys::cudnnFilterDescriptor_t,
    pub(super) conv: sys::cudnnConvolutionDescriptor_t,
    pub(super) activation: sys::cudnnActivationDescriptor_t,
    /// Bytes of the workspace.
    pub(super) forward: Cell<Option<usize>>,
    /// Algorithms and bytes of their workspaces.
    pub(super) of_images: Cell<Option<(sys::cudnnConvolutionBwdDataAlgo_t, usize)>>,
    pub(super) of_weights: Cell<Option<(sys::cudnnConvolutionBwdFilterAlgo_t, usize)>>,
}

impl Plan {
    fn new(geometry: &ConvGeometry, dtype: DType, exact: bool) -> Result<Self> {
        // What was created is destroyed also where the rest fails.
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
        plan.describe(geometry, dtype, exact).map_err(cudnn_error)?;
        Ok(plan)
    }

    fn describe(
        &mut self,
        geometry: &ConvGeometry,
        dtype: DType,
        exact: bool,
    ) -> std::result::Result<(), result::CudnnError> {
        use sys::cudnnDataType_t as Type;
        use sys::cudnnMathType_t as Math;
        use sys::cudnnTensorFormat_t as Format;
        let (format, values, math) = match (dtype, exact) {
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
        // SAFETY: each descriptor is created before it is set.
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
        // SAFETY: the descriptors that were created are ours. Without the GPU
        // there is nothing to release.
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

/// The memory of a slice, for cuDNN.
pub(super) fn pointer<T>(slice: &CudaSlice<T>) -> *mut c_void {
    layers::address(slice) as *mut c_void
}
