//! The device that computes.

use crate::{Error, Result};
use candle_core::Device;
use std::fmt;
use std::str::FromStr;

/// The requested device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// A GPU if this build supports it and it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, without fallback.
    Cuda(usize),
}

/// An available device.
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

    /// The device in candle.
    #[doc(hidden)]
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

    /// The GPU's number and its primary context (a `CUcontext`), in which this
    /// library computes. `None` for the CPU.
    #[cfg(feature = "cuda")]
    pub fn context(&self) -> Option<(usize, *mut std::ffi::c_void)> {
        let device = self.device.as_cuda_device().ok()?;
        let stream = device.cuda_stream();
        let context = stream.context();
        Some((context.ordinal(), context.cu_ctx().cast()))
    }

    /// Allocates `bytes` bytes of zeroed pinned host memory; `None` if there is
    /// not enough, and for the CPU. [`Upscaler`](super::Upscaler)s of this GPU
    /// read and write frames in it without a copy by the CPU.
    #[cfg(feature = "cuda")]
    pub fn host_memory(&self, bytes: usize) -> Option<super::PinnedBuffer> {
        let device = self.device.as_cuda_device().ok()?;
        super::PinnedBuffer::new(device, bytes).ok()
    }

    /// Free memory in bytes, if known.
    pub(super) fn free_memory(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Ok(device) = self.device.as_cuda_device() {
            return cuda::free(device).ok();
        }
        super::memory::available()
    }

    /// Why cuDNN is not available on this GPU; it speeds up training and
    /// networks that are not chains of convolutions.
    pub fn missing_cudnn(&self) -> Option<String> {
        if self.is_cpu() {
            return None;
        }
        #[cfg(feature = "cudnn")]
        return srfilter_cuda::cudnn().err().map(|e| e.to_string());
        #[cfg(not(feature = "cudnn"))]
        Some("this build does without cuDNN (feature cudnn)".to_owned())
    }

    /// Why [`DeviceChoice::Auto`] fell back to the CPU.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

impl DeviceChoice {
    /// The device of this choice.
    ///
    /// # Errors
    ///
    /// A requested GPU that cannot be used, with the reason.
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
                    "device {self} was requested, but {why}; or use device=auto or device=cpu"
                ))
            }),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::ComputeDevice;

    /// Without CUDA there is no GPU.
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

    /// The GPUs requested so far.
    static OPENED: Lazy<Mutex<HashMap<usize, Result<ComputeDevice, String>>>> =
        Lazy::new(Mutex::default);

    /// Opens a GPU, once; on failure returns the reason.
    pub(super) fn open(index: usize) -> Result<ComputeDevice, Option<String>> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let place = opened.entry(index).or_insert_with(|| open_once(index));
        place.clone().map_err(Some)
    }

    fn open_once(index: usize) -> Result<ComputeDevice, String> {
        srfilter_cuda::load().map_err(|e| e.to_string())?;
        // A candle error's other lines are a backtrace.
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

    /// Free GPU memory in bytes, including what this process's pool reserves.
    pub(super) fn free(device: &CudaDevice) -> candle_core::Result<u64> {
        use sys::CUmemPool_attribute as A;
        let stream = device.cuda_stream();
        let (free, _) = stream.context().mem_get_info().w()?;
        let handle = result::device::get(stream.context().ordinal() as i32).w()?;
        // SAFETY: the handle is valid: it comes from the driver.
        let pool = unsafe { result::device::get_default_mem_pool(handle) }.w()?;
        let of_pool = |attribute| {
            let mut bytes = 0u64;
            // SAFETY: the call writes these attributes as 64-bit integers.
            unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }
                .w()?;
            candle_core::Result::Ok(bytes)
        };
        let reserved = of_pool(A::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        let used = of_pool(A::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        Ok(free as u64 + reserved.saturating_sub(used))
    }

    /// A device with one stream for all threads: candle's default is a stream
    /// for each thread, which are not ordered.
    fn device(index: usize) -> candle_core::Result<Device> {
        let device = Device::new_cuda_with_stream(index)?;
        let cuda = device.as_cuda_device()?;
        // SAFETY: events order streams that share memory. The streams of `Gpu`
        // share memory only after a synchronisation: an upload is complete
        // before its memory is used, a frame before another stream reads it,
        // and a frame's drop waits for its stream.
        unsafe { cuda.disable_event_tracking() };
        let handle = result::device::get(index as i32).w()?;
        // SAFETY: the handle is valid: it comes from the driver.
        let pool = unsafe { result::device::get_default_mem_pool(handle) }.w()?;
        // The pool keeps freed memory: the next frame needs the same.
        let mut keep = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the call reads this attribute as a 64-bit integer.
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

    /// On machines without a GPU, in builds with and without CUDA.
    #[test]
    fn without_a_gpu_auto_is_the_cpu_and_cuda_an_error() {
        let auto = DeviceChoice::Auto.resolve().unwrap();
        if !auto.is_cpu() {
            eprintln!("skipped: there is a GPU, {}", auto.name());
            return;
        }
        assert_eq!(auto.name(), "cpu");
        assert_eq!(auto.fallback_reason().is_some(), cfg!(feature = "cuda"));
        let error = DeviceChoice::Cuda(0).resolve().unwrap_err().to_string();
        assert!(error.contains("device=cpu"), "{error}");
    }
}
