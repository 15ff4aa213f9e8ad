//! A GPU and the stream that its calls run in.

use super::memory::{DeviceBuffer, PinnedStaging, Rows};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, DeviceRepr, result, sys,
};
use candle_core::{CudaDevice, Device, Result};
use std::sync::Arc;

/// The kernels, compiled by build.rs.
pub(super) const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Shared memory that a block has without asking for more, in bytes.
const USUAL_SHARED: usize = 48 << 10;

/// A GPU that runs this crate's kernels, in the order of a stream of its own:
/// others' work can neither get into a graph that is being made nor hold it up.
#[derive(Clone)]
pub(crate) struct Gpu {
    device: CudaDevice,
    pub(super) stream: Arc<CudaStream>,
    /// Shared memory that a block may have, in bytes.
    pub(crate) shared: usize,
    /// Multiprocessors.
    pub(crate) units: usize,
}

impl Gpu {
    /// The GPU of candle's name.
    ///
    /// # Errors
    ///
    /// A device that is no GPU, or does not answer.
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let stream = device.cuda_stream().context().new_stream().w()?;
        let attribute = |which| stream.context().attribute(which).w();
        use sys::CUdevice_attribute as A;
        let shared =
            attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?.max(0) as usize;
        let units = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.max(1) as usize;
        Ok(Self {
            stream,
            device,
            shared: shared.max(USUAL_SHARED),
            units,
        })
    }

    /// The same GPU with another stream, whose work overlaps with that of this
    /// one.
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn with_new_stream(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.context().new_stream().w()?,
            ..self.clone()
        })
    }

    /// A kernel by its name, which may ask for `shared` bytes a block.
    pub(super) fn kernel(&self, name: &str, shared: usize) -> Result<CudaFunction> {
        let kernel = self
            .device
            .get_or_load_custom_func(name, "srfilter", KERNELS)?
            .into_cuda_function();
        if shared > USUAL_SHARED {
            let most =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // Not `shared`: a kernel has one limit, which all who call it share.
            kernel.set_attribute(most, self.shared as i32).w()?;
        }
        Ok(kernel)
    }

    /// Uninitialised device memory for `count` values of T.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn alloc_uninit<T>(&self, count: usize) -> Result<DeviceBuffer> {
        let bytes = count.max(1) * size_of::<T>();
        // SAFETY: kernels write what they and others read.
        let slice = unsafe { self.stream.alloc::<u8>(bytes) }.w()?;
        Ok(DeviceBuffer::new(slice, &self.stream))
    }

    /// Memory that holds `values`.
    ///
    /// # Errors
    ///
    /// As [`Gpu::alloc_uninit`].
    pub(crate) fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<DeviceBuffer> {
        let memory = self.alloc_uninit::<T>(values.len())?;
        self.stream.context().bind_to_thread().w()?;
        // SAFETY: the memory has room for the values, and they stay until the
        // copy is done.
        unsafe { result::memcpy_htod_async(memory.address(), values, self.stream.cu_stream()) }
            .w()?;
        self.synchronize()?;
        Ok(memory)
    }

    /// Memory of the host that copies to and from the GPU are fast from.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn pinned(&self, bytes: usize) -> Result<PinnedStaging> {
        PinnedStaging::new(&self.device, Arc::clone(&self.stream), bytes)
    }

    /// Copies rows of `length` bytes from one place to another, in the stream's
    /// order.
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    ///
    /// # Safety
    ///
    /// Both places have that many rows, in memory of this GPU's context or in
    /// [`PinnedBuffer`], until the copy is waited for.
    pub(crate) unsafe fn copy_rows(
        &self,
        from: Rows,
        to: Rows,
        (length, rows): (usize, usize),
    ) -> Result<()> {
        self.stream.context().bind_to_thread().w()?;
        let copy = Rows::copy(from, to, (length, rows));
        // SAFETY: the caller has the rows in both places until the copy is
        // waited for.
        unsafe { sys::cuMemcpy2DAsync_v2(&raw const copy, self.stream.cu_stream()) }
            .result()
            .w()
    }

    /// Waits for all work in the stream.
    ///
    /// # Errors
    ///
    /// A kernel that failed, a GPU that is gone.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().w()
    }
}
