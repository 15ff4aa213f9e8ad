//! Layers in training and the optimiser's step, on tensors of a GPU.
//!
//! They run in the order of candle's own stream.

use super::KERNELS;
use crate::ops::descent::Rule;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};

/// Threads of a block.
const THREADS: u32 = 256;

/// Parts that a channel's samples are summed in at most, and how many samples
/// of one are worth it.
const MOST_PARTS: usize = 32;
const PART: usize = 4096;

/// `channel_*` of layers.cu: what becomes of the samples of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Kind {
    Moments = 0,
    NormaliseSums = 1,
    PreluSums = 2,
    Normalise = 3,
    NormaliseBack = 4,
    Prelu = 5,
    PreluBack = 6,
    #[cfg(feature = "cudnn")]
    Sums = 7,
    #[cfg(feature = "cudnn")]
    ReluBack = 8,
}

/// The same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Channels {
    x: u64,
    grad: u64,
    weight: u64,
    bias: u64,
    moments: u64,
    sums: u64,
    made: u64,
    parts: u64,
    kind: Kind,
    batch: i32,
    channels: i32,
    area: i32,
    count: i32,
    slopes: i32,
    eps: f32,
}

// SAFETY: it is what the kernels take, field by field.
unsafe impl DeviceRepr for Channels {}

/// The same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Descend {
    parameter: u64,
    grad: u64,
    moments: u64,
    count: i64,
    gradient: f32,
    most: f32,
    decay: f32,
    kept: f32,
    momentum: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    root_correction2: f32,
    eps: f32,
    step_size: f32,
}

// SAFETY: as above.
unsafe impl DeviceRepr for Descend {}

/// Dense f32 values in a GPU's memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Values {
    address: u64,
    count: usize,
}

impl Values {
    /// Of a storage of candle's.
    pub(crate) fn of(storage: &CudaStorage, layout: &Layout) -> Result<Self> {
        Ok(Self {
            address: start::<f32>(storage, layout)?,
            count: layout.shape().elem_count(),
        })
    }

    /// Where they begin.
    #[cfg(feature = "cudnn")]
    pub(crate) fn pointer(self) -> *const std::ffi::c_void {
        self.address as *const std::ffi::c_void
    }

    /// Of a tensor, for as long as it lives.
    pub(crate) fn of_tensor(tensor: &Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Self::of(storage, layout),
            _ => bail!("the operation wants all its tensors on the GPU"),
        }
    }
}

/// What the samples of channels are worked on with; those that a kind takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct With {
    pub(crate) grad: Values,
    pub(crate) weight: Values,
    pub(crate) bias: Values,
    pub(crate) moments: Values,
    pub(crate) sums: Values,
    pub(crate) eps: f32,
}

fn arguments(kind: Kind, x: Values, shape: &Shape, with: &With) -> Result<Channels> {
    let (batch, channels, height, width) = shape.dims4()?;
    let small = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    // The kernels count a channel's samples in 32 bits.
    small(batch * height * width)?;
    let same = |values: Values, count: usize| values.address == 0 || values.count == count;
    let fits = same(with.grad, x.count)
        && (same(with.weight, channels) || with.weight.count == 1)
        && same(with.bias, channels)
        && same(with.moments, 2 * channels)
        && same(with.sums, 2 * channels);
    if !fits || x.count != shape.elem_count() || x.count == 0 {
        bail!("{kind:?} of {shape:?}: tensors that do not fit")
    }
    Ok(Channels {
        x: x.address,
        grad: with.grad.address,
        weight: with.weight.address,
        bias: with.bias.address,
        moments: with.moments.address,
        sums: with.sums.address,
        made: 0,
        parts: 0,
        kind,
        batch: small(batch)?,
        channels: small(channels)?,
        area: small(height * width)?,
        count: 0,
        slopes: small(with.weight.count)?,
        eps: with.eps,
    })
}

/// Two sums for each channel of (N, C, H, W), or mean and variance: (2, C).
pub(crate) fn sums(kind: Kind, x: &Tensor, with: &With) -> Result<Tensor> {
    let device = x.device().as_cuda_device()?;
    let mut call = arguments(kind, Values::of_tensor(x)?, x.shape(), with)?;
    let channels = call.channels as usize;
    let count = (call.batch as usize * call.area as usize)
        .div_ceil(PART)
        .min(MOST_PARTS);
    let parts = room::<f64>(device, 2 * channels * count)?;
    let made = room::<f32>(device, 2 * channels)?;
    call.parts = address(&parts);
    call.made = address(&made);
    call.count = count as i32;
    let each = LaunchConfig {
        grid_dim: (count as u32, channels as u32, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 2 * THREADS * size_of::<f64>() as u32,
    };
    launch(device, "channel_parts", each, &call)?;
    launch(device, "channel_sums", in_a_row(channels), &call)?;
    let made = CudaStorage::wrap_cuda_slice(made, device.clone());
    Ok(tensor(made, (2, channels)))
}

/// Makes samples of samples, in a new storage of the same shape.
pub(crate) fn samples(
    kind: Kind,
    device: &CudaDevice,
    x: Values,
    shape: &Shape,
    with: &With,
) -> Result<CudaStorage> {
    let mut call = arguments(kind, x, shape, with)?;
    let made = room::<f32>(device, x.count)?;
    call.made = address(&made);
    let mut config = in_a_row(call.area as usize);
    let planes = call.batch as usize * call.channels as usize;
    config.grid_dim.1 = planes.min(usize::from(u16::MAX)) as u32;
    launch(device, "channel_samples", config, &call)?;
    Ok(CudaStorage::wrap_cuda_slice(made, device.clone()))
}

/// The same of a tensor.
pub(crate) fn samples_of(kind: Kind, x: &Tensor, with: &With) -> Result<Tensor> {
    let device = x.device().as_cuda_device()?;
    let made = samples(kind, device, Values::of_tensor(x)?, x.shape(), with)?;
    Ok(tensor(made, x.shape().clone()))
}

/// A step of the optimiser: changes the parameter and its moments.
pub(crate) fn descend(
    device: &CudaDevice,
    rule: &Rule,
    parameter: Values,
    grad: Values,
    moments: Values,
) -> Result<()> {
    let rows = if rule.momentum.is_some() { 1 } else { 2 };
    if grad.count != parameter.count || moments.count != rows * parameter.count {
        bail!(
            "a step of {} values with {} of a gradient and {} moments",
            parameter.count,
            grad.count,
            moments.count
        )
    }
    let call = Descend {
        parameter: parameter.address,
        grad: grad.address,
        moments: moments.address,
        count: parameter.count as i64,
        gradient: rule.gradient,
        most: rule.most,
        decay: rule.decay,
        kept: rule.kept,
        momentum: rule.momentum.unwrap_or(-1.0),
        beta1: rule.beta1,
        one_less_beta1: rule.one_less_beta1,
        beta2: rule.beta2,
        one_less_beta2: rule.one_less_beta2,
        root_correction2: rule.root_correction2,
        eps: rule.eps,
        step_size: rule.step_size,
    };
    launch(device, "descend", in_a_row(parameter.count), &call)
}

/// Memory whose contents nobody knows.
fn room<T: DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the kernels write all of it before anyone reads it.
    unsafe { device.alloc::<T>(count) }
}

/// A tensor of its own.
pub(super) fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// Where a storage's contiguous values begin.
pub(super) fn start<T: CudaDType>(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("the operation wants contiguous tensors, not {layout:?}")
    };
    Ok(address(storage.as_cuda_slice::<T>()?) + (start * size_of::<T>()) as u64)
}

pub(super) fn address<T>(slice: &CudaSlice<T>) -> u64 {
    slice.device_ptr(slice.stream()).0
}

/// One thread for each of so many.
fn in_a_row(count: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (count.div_ceil(THREADS as usize) as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

fn launch<A: DeviceRepr>(
    device: &CudaDevice,
    name: &str,
    config: LaunchConfig,
    arguments: &A,
) -> Result<()> {
    let kernel = device.get_or_load_custom_func(name, "srfilter", KERNELS)?;
    let mut builder = kernel.builder();
    builder.arg(arguments);
    // SAFETY: the kernel takes this structure, whose addresses are of memory
    // that lives until the call is in the stream, which frees it in order.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}
