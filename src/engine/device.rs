//! Where the computation runs.

use crate::{Error, Result};
use candle_core::Device;
use std::fmt;
use std::str::FromStr;

/// The device that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if this build has support for one and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// That GPU and no other device.
    Cuda(usize),
}

/// A device that works.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    device: Device,
    name: String,
    why: Option<String>,
}

impl ComputeDevice {
    pub(super) fn cpu(why: Option<String>) -> Self {
        Self {
            device: Device::Cpu,
            name: "cpu".to_owned(),
            why,
        }
    }

    /// candle's name for it.
    pub fn candle_device(&self) -> &Device {
        &self.device
    }

    /// Whether it is the CPU.
    pub fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// `cpu`, or `cuda:N` and the GPU's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The GPU's number, and the context of CUDA (a `CUcontext`) that this
    /// library computes in: the primary one. `None` for the CPU.
    #[cfg(feature = "cuda")]
    pub fn context(&self) -> Option<(usize, *mut std::ffi::c_void)> {
        let device = self.device.as_cuda_device().ok()?;
        let stream = device.cuda_stream();
        let context = stream.context();
        Some((context.ordinal(), context.cu_ctx().cast()))
    }

    /// So many bytes of the host's memory that the GPU copies from and to by
    /// itself, all zero; `None` where there are none left, and for the CPU.
    /// [`Upscaler`](super::Upscaler)s of this GPU take and make frames in it
    /// without a copy by the CPU.
    #[cfg(feature = "cuda")]
    pub fn host_memory(&self, bytes: usize) -> Option<super::PinnedBuffer> {
        let device = self.device.as_cuda_device().ok()?;
        super::PinnedBuffer::new(device, bytes).ok()
    }

    /// Bytes that its memory can still give, where it says so.
    pub(super) fn free_memory(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Ok(device) = self.device.as_cuda_device() {
            return cuda::free(device).ok();
        }
        available()
    }

    /// What would make a GPU faster at training, and at networks that are no
    /// chains of convolutions, and is not there, in words.
    pub fn missing_cudnn(&self) -> Option<String> {
        if self.is_cpu() {
            return None;
        }
        #[cfg(feature = "cudnn")]
        return srfilter_cuda::cudnn().err().map(|e| e.to_string());
        #[cfg(not(feature = "cudnn"))]
        Some("this build does without cuDNN (feature cudnn)".to_owned())
    }

    /// Why it is the CPU although a GPU would have been welcome, in words.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

/// Bytes that the system can still give, where it says so (Linux).
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

impl DeviceChoice {
    /// The device that serves this choice.
    ///
    /// # Errors
    ///
    /// A GPU that was asked for and cannot be used, with the reason.
    pub fn resolve(self) -> Result<ComputeDevice> {
        match self {
            Self::Cpu => Ok(ComputeDevice::cpu(None)),
            Self::Auto => match cuda::open(0) {
                Ok(place) => Ok(place),
                Err(why) => Ok(ComputeDevice::cpu(why)),
            },
            Self::Cuda(index) => cuda::open(index).map_err(|why| {
                let why = why.unwrap_or_else(|| {
                    "this build of srfilter has no CUDA support (feature cuda)".to_owned()
                });
                Error::Setting(format!(
                    "device {self} was asked for, but {why}; or use device=auto or device=cpu"
                ))
            }),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::ComputeDevice;

    /// There is nothing to open.
    pub(super) fn open(_: usize) -> Result<ComputeDevice, Option<String>> {
        Err(None)
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::ComputeDevice;
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    use candle_core::{CudaDevice, Device};
    use once_cell::sync::Lazy;
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    /// The GPUs that were asked for so far.
    static OPENED: Lazy<Mutex<HashMap<usize, Result<ComputeDevice, String>>>> =
        Lazy::new(Mutex::default);

    /// Opens a GPU, once; the reason in words where it cannot be used.
    pub(super) fn open(index: usize) -> Result<ComputeDevice, Option<String>> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let place = opened.entry(index).or_insert_with(|| open_once(index));
        place.clone().map_err(Some)
    }

    fn open_once(index: usize) -> Result<ComputeDevice, String> {
        srfilter_cuda::load().map_err(|e| e.to_string())?;
        // What is below a candle error's first line is where it came from.
        let words = |e: candle_core::Error| {
            let text = e.to_string();
            text.lines().next().unwrap_or_default().to_owned()
        };
        let count = result::init().and_then(|()| result::device::get_count());
        let count = count.w().map_err(words)?;
        if index >= usize::try_from(count).unwrap_or(0) {
            return Err(format!("there is no GPU {index}: the driver knows {count}"));
        }
        let device = device(index).map_err(words)?;
        let name = result::device::get(index as i32).and_then(result::device::get_name);
        let name = name.w().map_err(words)?;
        Ok(ComputeDevice {
            device,
            name: format!("cuda:{index} ({name})"),
            why: None,
        })
    }

    /// Bytes that the driver can still give, and those that this process keeps
    /// for its next frames.
    pub(super) fn free(device: &CudaDevice) -> candle_core::Result<u64> {
        use sys::CUmemPool_attribute as A;
        let stream = device.cuda_stream();
        let (free, _) = stream.context().mem_get_info().w()?;
        let handle = result::device::get(stream.context().ordinal() as i32).w()?;
        // SAFETY: the handle is the driver's own.
        let pool = unsafe { result::device::get_default_mem_pool(handle) }.w()?;
        let of_pool = |attribute| {
            let mut bytes = 0u64;
            // SAFETY: these attributes are 64-bit numbers, which the call writes.
            unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }
                .w()?;
            candle_core::Result::Ok(bytes)
        };
        let kept = of_pool(A::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        let used = of_pool(A::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        Ok(free as u64 + kept.saturating_sub(used))
    }

    /// A device with one stream for all threads: candle's usual one has a
    /// stream for each, and nothing keeps those in order.
    fn device(index: usize) -> candle_core::Result<Device> {
        let device = Device::new_cuda_with_stream(index)?;
        let cuda = device.as_cuda_device()?;
        // SAFETY: events would order what several streams do with the same
        // memory. The streams of `Gpu` share none without waiting: an upload is
        // waited for before its memory is handed out, a frame before another
        // stream reads it, and frames wait for their stream when dropped.
        unsafe { cuda.disable_event_tracking() };
        let handle = result::device::get(index as i32).w()?;
        // SAFETY: the handle is the driver's own.
        let pool = unsafe { result::device::get_default_mem_pool(handle) }.w()?;
        // Memory that is free stays with the process: frames all need the same.
        let mut keep = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: this attribute is a 64-bit number, which the call reads.
        unsafe { sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast()) }
            .result()
            .w()?;
        Ok(device)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let index = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => index(text).map(Self::Cuda).ok_or_else(|| {
                let problem = format!("there is no device '{text}': use auto, cpu, cuda or cuda:N");
                Error::Setting(problem)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{error}");
        }
        assert_eq!(DeviceChoice::Cpu.resolve().unwrap().name(), "cpu");
    }

    /// Whether this build can use GPUs or not, on a machine without one.
    #[test]
    fn without_a_gpu_auto_is_the_cpu_and_cuda_an_error() {
        let auto = DeviceChoice::Auto.resolve().unwrap();
        if !auto.candle_device().is_cpu() {
            eprintln!("skipped: there is a GPU, {}", auto.name());
            return;
        }
        assert_eq!(auto.name(), "cpu");
        assert_eq!(auto.fallback_reason().is_some(), cfg!(feature = "cuda"));
        let error = DeviceChoice::Cuda(0).resolve().unwrap_err().to_string();
        assert!(error.contains("device=cpu"), "{error}");
    }
}
