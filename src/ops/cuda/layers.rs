//! Layers in training and the optimiser's step, on tensors of a GPU.
//!
//! They run in the order of candle's own stream.

use super::KERNELS;
use crate::ops::spec::UpdateRule;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};

/// Threads of a block.
const THREADS: u32 = 256;

/// The same where a channel's samples are summed, the parts that it is done in
/// for all channels at most, and how many samples of a part are worth it.
const SUM_THREADS: u32 = 512;
const MOST_PARTS: usize = 2048;
const PART: usize = 1 << 14;

/// Tensors that one call works on, as in layers.cu, and the parts of each, at
/// most; values of a thread that are worth it.
const TENSORS: usize = 96;
const TENSOR_PARTS: usize = 256;
const VALUES: usize = 8;

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

/// One of the tensors of a call: the same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Each {
    changed: u64,
    other: u64,
    moments: u64,
    count: i64,
    taken: f32,
}

impl Each {
    /// A tensor that is moved towards another, of which it takes a share.
    pub(crate) fn blended(changed: &Tensor, other: &Tensor, taken: f32) -> Result<Self> {
        let (changed, other) = (Values::of_tensor(changed)?, Values::of_tensor(other)?);
        if changed.count != other.count {
            bail!("{} values moved towards {}", changed.count, other.count)
        }
        Ok(Self {
            changed: changed.address,
            other: other.address,
            moments: 0,
            count: changed.count as i64,
            taken,
        })
    }

    /// A parameter, its gradient and their moments.
    pub(crate) fn learning(changed: &Tensor, gradient: &Tensor, moments: &Tensor) -> Result<Self> {
        Ok(Self {
            moments: Values::of_tensor(moments)?.address,
            ..Self::blended(changed, gradient, 0.0)?
        })
    }

    /// A tensor that is only read.
    pub(crate) fn read(tensor: &Tensor) -> Result<Self> {
        let values = Values::of_tensor(tensor)?;
        Ok(Self {
            other: values.address,
            count: values.count as i64,
            ..Self::default()
        })
    }
}

/// The same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Tensors([Each; TENSORS]);

// SAFETY: as above.
unsafe impl DeviceRepr for Tensors {}

/// Calls a kernel of ours with its structures as arguments.
macro_rules! launch {
    ($device:expr, $name:literal, $config:expr, $($argument:expr),+) => {{
        let kernel = $device.get_or_load_custom_func($name, "srfilter", KERNELS)?;
        let mut builder = kernel.builder();
        $(builder.arg($argument);)+
        // SAFETY: the kernel takes these structures, whose addresses are of
        // memory that lives until the call is in the stream, which frees it in
        // order.
        unsafe { builder.launch($config) }.w()?;
    }};
}

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
        .min(MOST_PARTS.div_ceil(channels));
    let made = room::<f32>(device, 2 * channels)?;
    call.made = address(&made);
    call.count = count as i32;
    let each = LaunchConfig {
        grid_dim: (count as u32, channels as u32, 1),
        block_dim: (SUM_THREADS, 1, 1),
        shared_mem_bytes: 2 * SUM_THREADS * size_of::<f64>() as u32,
    };
    if count == 1 {
        launch!(device, "channel_parts", each, &call);
    } else {
        let parts = room::<f64>(device, 2 * channels * count)?;
        call.parts = address(&parts);
        launch!(device, "channel_parts", each, &call);
        launch!(device, "channel_sums", in_a_row(channels), &call);
    }
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
    launch!(device, "channel_samples", config, &call);
    Ok(CudaStorage::wrap_cuda_slice(made, device.clone()))
}

/// The same of a tensor.
pub(crate) fn samples_of(kind: Kind, x: &Tensor, with: &With) -> Result<Tensor> {
    let device = x.device().as_cuda_device()?;
    let made = samples(kind, device, Values::of_tensor(x)?, x.shape(), with)?;
    Ok(tensor(made, x.shape().clone()))
}

/// A step of the optimiser for some parameters: changes them and their moments.
pub(crate) fn descend(device: &CudaDevice, rule: &UpdateRule, all: &[Each]) -> Result<()> {
    let step = Descend {
        gradient: rule.grad_scale,
        most: rule.clip_value,
        decay: rule.weight_decay,
        kept: rule.decoupled_decay,
        momentum: rule.momentum.unwrap_or(-1.0),
        beta1: rule.beta1,
        one_less_beta1: rule.one_less_beta1,
        beta2: rule.beta2,
        one_less_beta2: rule.one_less_beta2,
        root_correction2: rule.root_correction2,
        eps: rule.eps,
        step_size: rule.step_size,
    };
    for (tensors, config) in calls(all) {
        launch!(device, "descend", config, &tensors, &step);
    }
    Ok(())
}

/// Keeps a share of each tensor and adds one of another.
pub(crate) fn blend(device: &CudaDevice, kept: f32, all: &[Each]) -> Result<()> {
    for (tensors, config) in calls(all) {
        launch!(device, "blend", config, &tensors, &kept);
    }
    Ok(())
}

/// The sum of the squares of all tensors' values.
pub(crate) fn square_sum(device: &CudaDevice, all: &[Each]) -> Result<f64> {
    let calls: Vec<_> = calls(all).collect();
    let parts = |config: &LaunchConfig| (config.grid_dim.0 * config.grid_dim.1) as usize;
    let count: usize = calls.iter().map(|(_, config)| parts(config)).sum();
    if count == 0 {
        return Ok(0.0);
    }
    let made = room::<f64>(device, count)?;
    let mut part = address(&made);
    for (tensors, mut config) in calls {
        config.shared_mem_bytes = THREADS * size_of::<f64>() as u32;
        launch!(device, "square_parts", config, &tensors, &part);
        part += (parts(&config) * size_of::<f64>()) as u64;
    }
    Ok(device.clone_dtoh(&made)?.into_iter().sum())
}

/// Calls with as many tensors each as there is room for.
fn calls(all: &[Each]) -> impl Iterator<Item = (Tensors, LaunchConfig)> {
    all.chunks(TENSORS).map(move |some| {
        let mut tensors = Tensors([Each::default(); TENSORS]);
        tensors.0[..some.len()].copy_from_slice(some);
        let most = some.iter().map(|each| each.count).max().unwrap_or(0);
        let parts = (most as usize).div_ceil(THREADS as usize * VALUES);
        let config = LaunchConfig {
            grid_dim: (parts.clamp(1, TENSOR_PARTS) as u32, some.len() as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        (tensors, config)
    })
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
