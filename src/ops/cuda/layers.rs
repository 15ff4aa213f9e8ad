//! Layers in training and the optimiser's updates, on tensors of a GPU.
//!
//! They run in the order of candle's own stream.

use super::device::KERNELS;
use super::launch_args::mirrored;
use crate::ops::spec::UpdateRule;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Layout, Result, Shape, Storage, Tensor, bail};
use std::marker::PhantomData;

/// Threads of a block.
const THREADS: u32 = 256;

/// The same where a channel's samples are summed, the parts that it is done in
/// for all channels at most, and how many samples of a part are worth it.
const SUM_THREADS: u32 = 512;
const MAX_PARTS: usize = 2048;
const PART: usize = 1 << 14;

/// Tensors that one call works on, as in layers.cu, and the parts of each, at
/// most; values of a thread that are worth it.
const TENSORS: usize = 96;
const TENSOR_PARTS: usize = 256;
const VALUES: usize = 8;

/// What `channel_*` of layers.cu compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum ChannelOp {
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
    dst: u64,
    parts: u64,
    op: ChannelOp,
    batch: i32,
    channels: i32,
    area: i32,
    count: i32,
    slopes: i32,
    eps: f32,
}

mirrored!(Channels, 96, x: 0, grad: 8, weight: 16, bias: 24, moments: 32, sums: 40, dst: 48, parts: 56, op: 64, batch: 68, channels: 72, area: 76, count: 80, slopes: 84, eps: 88);

/// The same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct UpdateArgs {
    grad_scale: f32,
    clip_value: f32,
    weight_decay: f32,
    decoupled_decay: f32,
    momentum: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    root_correction2: f32,
    eps: f32,
    step_size: f32,
}

mirrored!(UpdateArgs, 48, grad_scale: 0, clip_value: 4, weight_decay: 8, decoupled_decay: 12, momentum: 16, beta1: 20, one_less_beta1: 24, beta2: 28, one_less_beta2: 32, root_correction2: 36, eps: 40, step_size: 44);

/// One of the tensors of a call: the same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TensorArgs<'a> {
    dst: u64,
    src: u64,
    moments: u64,
    count: i64,
    weight: f32,
    tensors: PhantomData<&'a Tensor>,
}

impl<'a> TensorArgs<'a> {
    /// A tensor that moves towards another, which has this weight.
    ///
    /// *Stream order*: `dst` is written without candle's lock, whose write guard
    /// its interface gives for one tensor at a time. All kernels and copies of a
    /// device run in one stream, so that nobody reads a value half written.
    pub(crate) fn lerp(dst: &'a Tensor, src: &'a Tensor, weight: f32) -> Result<Self> {
        let (dst, src) = (DeviceSlice::of_tensor(dst)?, DeviceSlice::of_tensor(src)?);
        if dst.count != src.count {
            bail!("{} values moved towards {}", dst.count, src.count)
        }
        Ok(Self {
            dst: dst.address,
            src: src.address,
            moments: 0,
            count: dst.count as i64,
            weight,
            tensors: PhantomData,
        })
    }

    /// A parameter, its gradient and their moments.
    pub(crate) fn update(
        parameter: &'a Tensor,
        gradient: &'a Tensor,
        moments: &'a Tensor,
    ) -> Result<Self> {
        Ok(Self {
            moments: DeviceSlice::of_tensor(moments)?.address,
            ..Self::lerp(parameter, gradient, 0.0)?
        })
    }

    /// A tensor that is only read.
    pub(crate) fn read(tensor: &'a Tensor) -> Result<Self> {
        let values = DeviceSlice::of_tensor(tensor)?;
        Ok(Self {
            src: values.address,
            count: values.count as i64,
            ..Self::default()
        })
    }
}

/// The same structure as in layers.cu.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Tensors<'a>([TensorArgs<'a>; TENSORS]);

mirrored!(TensorArgs<'_>, 40, dst: 0, src: 8, moments: 16, count: 24, weight: 32);
mirrored!(Tensors<'_>, 3840, 0: 0);

/// Launches a kernel of this crate with its structures as arguments.
macro_rules! launch {
    ($device:expr, $name:literal, $config:expr, $($argument:expr),+) => {{
        let kernel = $device.get_or_load_custom_func($name, "srfilter", KERNELS)?;
        let mut builder = kernel.builder();
        $(builder.arg($argument);)+
        // SAFETY: the kernel takes these structures, whose addresses are of
        // memory that lives until the launch is enqueued and is freed in stream
        // order; so are writes ordered.
        unsafe { builder.launch($config) }.w()?;
    }};
}

/// Dense f32 values in a GPU's memory, of a tensor or a storage that is
/// borrowed: it cannot be dropped before a kernel that reads it is enqueued, and
/// frees its memory in the stream's order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeviceSlice<'a> {
    address: u64,
    count: usize,
    owner: PhantomData<&'a ()>,
}

impl<'a> DeviceSlice<'a> {
    /// Of a storage of candle's.
    pub(crate) fn of(storage: &'a CudaStorage, layout: &Layout) -> Result<Self> {
        Ok(Self {
            address: start::<f32>(storage, layout)?,
            count: layout.shape().elem_count(),
            owner: PhantomData,
        })
    }

    /// Their address.
    #[cfg(feature = "cudnn")]
    pub(crate) fn pointer(self) -> *const std::ffi::c_void {
        self.address as *const std::ffi::c_void
    }

    /// Of a tensor.
    pub(crate) fn of_tensor(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            // The storage outlives the guard: it lives as long as the tensor.
            Storage::Cuda(storage) => Ok(Self {
                address: start::<f32>(storage, layout)?,
                count: layout.shape().elem_count(),
                owner: PhantomData,
            }),
            _ => bail!("the operation needs all its tensors on the GPU"),
        }
    }
}

/// The operands of a [`ChannelOp`] besides the samples, those that it takes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ChannelArgs<'a> {
    pub(crate) grad: DeviceSlice<'a>,
    pub(crate) weight: DeviceSlice<'a>,
    pub(crate) bias: DeviceSlice<'a>,
    pub(crate) moments: DeviceSlice<'a>,
    pub(crate) sums: DeviceSlice<'a>,
    pub(crate) eps: f32,
}

fn arguments(
    op: ChannelOp,
    x: DeviceSlice<'_>,
    shape: &Shape,
    args: &ChannelArgs<'_>,
) -> Result<Channels> {
    let (batch, channels, height, width) = shape.dims4()?;
    let small = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    // The kernels count a channel's samples in 32 bits.
    small(batch * height * width)?;
    let same = |values: DeviceSlice<'_>, count: usize| values.address == 0 || values.count == count;
    let fits = same(args.grad, x.count)
        && (same(args.weight, channels) || args.weight.count == 1)
        && same(args.bias, channels)
        && same(args.moments, 2 * channels)
        && same(args.sums, 2 * channels);
    if !fits || x.count != shape.elem_count() || x.count == 0 {
        bail!("{op:?} of {shape:?}: tensors that do not fit")
    }
    Ok(Channels {
        x: x.address,
        grad: args.grad.address,
        weight: args.weight.address,
        bias: args.bias.address,
        moments: args.moments.address,
        sums: args.sums.address,
        dst: 0,
        parts: 0,
        op,
        batch: small(batch)?,
        channels: small(channels)?,
        area: small(height * width)?,
        count: 0,
        slopes: small(args.weight.count)?,
        eps: args.eps,
    })
}

/// Two sums for each channel of (N, C, H, W), or mean and variance: (2, C).
pub(crate) fn sums(op: ChannelOp, x: &Tensor, args: &ChannelArgs<'_>) -> Result<Tensor> {
    let device = x.device().as_cuda_device()?;
    let mut call = arguments(op, DeviceSlice::of_tensor(x)?, x.shape(), args)?;
    let channels = call.channels as usize;
    let count = (call.batch as usize * call.area as usize)
        .div_ceil(PART)
        .min(MAX_PARTS.div_ceil(channels));
    let result = alloc_uninit::<f32>(device, 2 * channels)?;
    call.dst = address(&result);
    call.count = count as i32;
    let each = LaunchConfig {
        grid_dim: (count as u32, channels as u32, 1),
        block_dim: (SUM_THREADS, 1, 1),
        shared_mem_bytes: 2 * SUM_THREADS * size_of::<f64>() as u32,
    };
    if count == 1 {
        launch!(device, "channel_parts", each, &call);
    } else {
        let parts = alloc_uninit::<f64>(device, 2 * channels * count)?;
        call.parts = address(&parts);
        launch!(device, "channel_parts", each, &call);
        launch!(device, "channel_sums", linear(channels), &call);
    }
    let result = CudaStorage::wrap_cuda_slice(result, device.clone());
    Ok(tensor(result, (2, channels)))
}

/// Computes samples from samples, in a new storage of the same shape.
pub(crate) fn samples(
    op: ChannelOp,
    device: &CudaDevice,
    x: DeviceSlice<'_>,
    shape: &Shape,
    args: &ChannelArgs<'_>,
) -> Result<CudaStorage> {
    let mut call = arguments(op, x, shape, args)?;
    let result = alloc_uninit::<f32>(device, x.count)?;
    call.dst = address(&result);
    let mut config = linear(call.area as usize);
    let planes = call.batch as usize * call.channels as usize;
    config.grid_dim.1 = planes.min(usize::from(u16::MAX)) as u32;
    launch!(device, "channel_samples", config, &call);
    Ok(CudaStorage::wrap_cuda_slice(result, device.clone()))
}

/// [`samples`] of a tensor.
pub(crate) fn samples_of(op: ChannelOp, x: &Tensor, args: &ChannelArgs<'_>) -> Result<Tensor> {
    let device = x.device().as_cuda_device()?;
    let result = samples(op, device, DeviceSlice::of_tensor(x)?, x.shape(), args)?;
    Ok(tensor(result, x.shape().clone()))
}

/// Updates parameters and their moments in place.
pub(crate) fn apply_updates(
    device: &CudaDevice,
    rule: &UpdateRule,
    all: &[TensorArgs],
) -> Result<()> {
    let args = UpdateArgs {
        grad_scale: rule.grad_scale,
        clip_value: rule.clip_value,
        weight_decay: rule.weight_decay,
        decoupled_decay: rule.decoupled_decay,
        momentum: rule.momentum.unwrap_or(-1.0),
        beta1: rule.beta1,
        one_less_beta1: rule.one_less_beta1,
        beta2: rule.beta2,
        one_less_beta2: rule.one_less_beta2,
        root_correction2: rule.root_correction2,
        eps: rule.eps,
        step_size: rule.step_size,
    };
    for (tensors, config) in launches(all) {
        launch!(device, "apply_updates", config, &tensors, &args);
    }
    Ok(())
}

/// Keeps a share of each tensor and adds another times its weight.
pub(crate) fn lerp_in_place(device: &CudaDevice, keep: f32, all: &[TensorArgs<'_>]) -> Result<()> {
    for (tensors, config) in launches(all) {
        launch!(device, "lerp_in_place", config, &tensors, &keep);
    }
    Ok(())
}

/// The sum of the squares of all tensors' values.
pub(crate) fn squared_norm(device: &CudaDevice, all: &[TensorArgs<'_>]) -> Result<f64> {
    let launches: Vec<_> = launches(all).collect();
    let parts = |config: &LaunchConfig| (config.grid_dim.0 * config.grid_dim.1) as usize;
    let count: usize = launches.iter().map(|(_, config)| parts(config)).sum();
    if count == 0 {
        return Ok(0.0);
    }
    let result = alloc_uninit::<f64>(device, count)?;
    let mut part = address(&result);
    for (tensors, mut config) in launches {
        config.shared_mem_bytes = THREADS * size_of::<f64>() as u32;
        launch!(device, "squared_norm_parts", config, &tensors, &part);
        part += (parts(&config) * size_of::<f64>()) as u64;
    }
    Ok(device.clone_dtoh(&result)?.into_iter().sum())
}

/// Launches of at most [`TENSORS`] tensors each.
fn launches<'a>(all: &[TensorArgs<'a>]) -> impl Iterator<Item = (Tensors<'a>, LaunchConfig)> {
    all.chunks(TENSORS).map(move |some| {
        let mut tensors = Tensors([TensorArgs::default(); TENSORS]);
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

/// Uninitialised device memory for `count` values.
fn alloc_uninit<T: DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the kernels write all of it before anyone reads it.
    unsafe { device.alloc::<T>(count) }
}

/// A tensor of a new storage.
pub(super) fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// Where a storage's contiguous values begin.
pub(super) fn start<T: CudaDType>(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("the operation needs contiguous tensors, not {layout:?}")
    };
    Ok(address(storage.as_cuda_slice::<T>()?) + (start * size_of::<T>()) as u64)
}

pub(super) fn address<T>(slice: &CudaSlice<T>) -> u64 {
    slice.device_ptr(slice.stream()).0
}

/// A thread for each of `count` elements.
fn linear(count: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (count.div_ceil(THREADS as usize) as u32, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}
