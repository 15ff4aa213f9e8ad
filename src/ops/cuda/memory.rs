//! Memory of a GPU, and memory of the host that it copies from and to.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result, sys};
use candle_core::{CudaDevice, Result, bail};
use once_cell::sync::Lazy;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory of a GPU, freed when dropped.
pub(crate) struct DeviceBuffer {
    slice: CudaSlice<u8>,
    address: u64,
}

impl DeviceBuffer {
    pub(super) fn new(slice: CudaSlice<u8>, stream: &CudaStream) -> Self {
        let address = slice.device_ptr(stream).0;
        Self { slice, address }
    }

    /// Where it begins, for kernels. Valid for as long as the memory lives.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

/// Rows of bytes in memory of a GPU or of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Where the first one begins.
    address: u64,
    /// Bytes from one to the next.
    stride: usize,
    /// Whether they are in [`PinnedBuffer`].
    on_host: bool,
}

impl Rows {
    pub(crate) fn on_gpu(address: u64, stride: usize) -> Self {
        Self {
            address,
            stride,
            on_host: false,
        }
    }

    pub(crate) fn on_host(start: *const u8, stride: usize) -> Self {
        Self {
            address: start as u64,
            stride,
            on_host: true,
        }
    }

    fn memory_type(self) -> sys::CUmemorytype {
        match self.on_host {
            true => sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            false => sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        }
    }

    /// The driver's description of a copy of rows of `length` bytes.
    pub(super) fn copy(from: Self, to: Self, (length, rows): (usize, usize)) -> sys::CUDA_MEMCPY2D {
        sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: from.memory_type(),
            srcHost: from.address as *const c_void,
            srcDevice: from.address,
            srcArray: std::ptr::null_mut(),
            srcPitch: from.stride,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: to.memory_type(),
            dstHost: to.address as *mut c_void,
            dstDevice: to.address,
            dstArray: std::ptr::null_mut(),
            dstPitch: to.stride,
            WidthInBytes: length,
            Height: rows,
        }
    }
}

/// Pinned memory of the host, which a GPU copies from and to by itself.
pub struct PinnedBuffer {
    start: *mut u8,
    bytes: usize,
    device: CudaDevice,
}

/// Where such memory begins, and its bytes.
static ON_HOST: Lazy<Mutex<BTreeMap<usize, usize>>> = Lazy::new(Mutex::default);

fn on_host() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    ON_HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PinnedBuffer {
    /// `bytes` zeros.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn new(device: &CudaDevice, bytes: usize) -> Result<Self> {
        // SAFETY: the memory is made zero before anyone sees it.
        let start = within(device, || unsafe { result::malloc_host(bytes.max(1), 0) })?;
        let start = start.w()?.cast::<u8>();
        // SAFETY: it has that many bytes.
        unsafe { start.write_bytes(0, bytes) };
        on_host().insert(start as usize, bytes);
        Ok(Self {
            start,
            bytes,
            device: device.clone(),
        })
    }

    /// Whether bytes are in pinned memory.
    pub(crate) fn contains(bytes: &[u8]) -> bool {
        let at = bytes.as_ptr() as usize;
        let memory = on_host();
        let before = memory.range(..=at).next_back();
        before.is_some_and(|(start, length)| at + bytes.len() <= start + length)
    }
}

// SAFETY: it is memory that this value alone owns.
unsafe impl Send for PinnedBuffer {}
// SAFETY: a shared reference only reads it.
unsafe impl Sync for PinnedBuffer {}

impl AsRef<[u8]> for PinnedBuffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: *idle memory*: it is ours and filled, and no copy to it is
        // under way: who begins one waits for it.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl AsMut<[u8]> for PinnedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: idle memory, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl std::fmt::Debug for PinnedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinnedBuffer")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        on_host().remove(&(self.start as usize));
        // Nothing is to be done if the GPU is gone: the process keeps the memory then.
        // SAFETY: it came from `malloc_host` and nobody uses it any more.
        let _ = within(&self.device, || unsafe {
            result::free_host(self.start.cast())
        });
    }
}

/// Calls the driver in a GPU's context, and leaves the thread the one that it
/// had: it may be somebody else's.
fn within<T>(device: &CudaDevice, call: impl FnOnce() -> T) -> Result<T> {
    let stream = device.cuda_stream();
    // SAFETY: the context is the device's, which lives.
    unsafe { sys::cuCtxPushCurrent_v2(stream.context().cu_ctx()) }
        .result()
        .w()?;
    let result = call();
    let mut ours = std::ptr::null_mut();
    // SAFETY: takes back what was pushed.
    unsafe { sys::cuCtxPopCurrent_v2(&raw mut ours) }
        .result()
        .w()?;
    Ok(result)
}

/// A pinned buffer, and the stream that it is copied in. While a copy may be under
/// way, nobody can reach its bytes: [`bytes`](Self::bytes) waits for it.
pub(crate) struct PinnedStaging {
    memory: PinnedBuffer,
    stream: Arc<CudaStream>,
    /// Whether a copy was enqueued that `bytes` has not waited for.
    copies: bool,
}

impl PinnedStaging {
    pub(super) fn new(device: &CudaDevice, stream: Arc<CudaStream>, bytes: usize) -> Result<Self> {
        Ok(Self {
            memory: PinnedBuffer::new(device, bytes)?,
            stream,
            copies: false,
        })
    }

    /// The bytes, when all copies from and to them are done.
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn bytes(&mut self) -> Result<&mut [u8]> {
        if self.copies {
            self.stream.synchronize().w()?;
            self.copies = false;
        }
        Ok(self.memory.as_mut())
    }

    /// Copies all of it to the GPU, in the stream's order.
    ///
    /// # Errors
    ///
    /// Too little memory there, a GPU that is gone.
    pub(crate) fn send(&mut self, to: &DeviceBuffer) -> Result<()> {
        self.check(to)?;
        self.stream.context().bind_to_thread().w()?;
        self.copies = true;
        let (to, stream) = (to.address, self.stream.cu_stream());
        // SAFETY: the device memory is large enough, as just checked, and the
        // bytes stay as they are until the copy is done: `bytes` and `drop` wait.
        unsafe { result::memcpy_htod_async(to, self.memory.as_ref(), stream) }.w()
    }

    /// Copies as many bytes from the GPU, in the stream's order.
    ///
    /// # Errors
    ///
    /// Too little memory there, a GPU that is gone.
    pub(crate) fn fetch(&mut self, from: &DeviceBuffer) -> Result<()> {
        self.check(from)?;
        self.stream.context().bind_to_thread().w()?;
        self.copies = true;
        let (from, stream) = (from.address, self.stream.cu_stream());
        // SAFETY: the device memory is large enough, and nobody reads or frees the
        // bytes before the copy is done: `bytes` and `drop` wait.
        unsafe { result::memcpy_dtoh_async(self.memory.as_mut(), from, stream) }.w()
    }

    /// Checks that memory of the GPU has as many bytes.
    fn check(&self, there: &DeviceBuffer) -> Result<()> {
        let (bytes, len) = (self.memory.bytes, there.slice.len());
        if bytes > len {
            bail!("a copy of {bytes} bytes from or to {len} bytes of the GPU's memory")
        }
        Ok(())
    }
}

impl Drop for PinnedStaging {
    fn drop(&mut self) {
        // What still copies. Nothing is to be done if the GPU is gone.
        let _ = self.stream.synchronize();
    }
}
