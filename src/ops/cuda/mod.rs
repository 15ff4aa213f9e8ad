//! Kernels of this crate on NVIDIA's GPUs: memory, calls, and graphs of them.
//!
//! A job's calls run in the order of its stream. What the kernels take is laid
//! out in `frames.cu` and `convolve.cu`; the structures here are the same.

#[cfg(feature = "cudnn")]
pub(in crate::ops) mod dnn;
pub(crate) mod layers;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig,
    PushKernelArg, result, sys,
};
use candle_core::{CudaDevice, Device, Result, bail};
use once_cell::sync::Lazy;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The kernels, compiled by build.rs.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Shared memory that a block has without asking for more, in bytes.
const USUAL_SHARED: usize = 48 << 10;

/// Threads of a block of the kernels that take samples one by one.
const BLOCK: (u32, u32) = (32, 8);

/// A GPU that runs this crate's kernels, in the order of a stream of its own:
/// others' work can neither get into a graph that is being made nor hold it up.
#[derive(Clone)]
pub(crate) struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
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

    /// The same GPU with another stream, to work beside this one.
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn beside(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.context().new_stream().w()?,
            ..self.clone()
        })
    }

    /// A kernel by its name, which may ask for `shared` bytes a block.
    fn kernel(&self, name: &str, shared: usize) -> Result<CudaFunction> {
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

    /// Memory for `count` values of T, whose contents nobody knows.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn room<T>(&self, count: usize) -> Result<Memory> {
        let bytes = count.max(1) * size_of::<T>();
        // SAFETY: kernels write what they and others read.
        let slice = unsafe { self.stream.alloc::<u8>(bytes) }.w()?;
        let address = slice.device_ptr(&self.stream).0;
        Ok(Memory { slice, address })
    }

    /// Memory that holds `values`.
    ///
    /// # Errors
    ///
    /// As [`Gpu::room`].
    pub(crate) fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<Memory> {
        let memory = self.room::<T>(values.len())?;
        self.stream.context().bind_to_thread().w()?;
        // SAFETY: the memory has room for the values, and they stay until the
        // copy is done.
        unsafe { result::memcpy_htod_async(memory.address, values, self.stream.cu_stream()) }
            .w()?;
        self.wait()?;
        Ok(memory)
    }

    /// Memory of the host that copies to and from the GPU are fast from.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn pinned(&self, bytes: usize) -> Result<Pinned> {
        Ok(Pinned {
            memory: HostMemory::new(&self.device, bytes)?,
            stream: Arc::clone(&self.stream),
        })
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
    /// [`HostMemory`], until the copy is waited for.
    pub(crate) unsafe fn copy_rows(
        &self,
        from: Rows,
        to: Rows,
        (length, rows): (usize, usize),
    ) -> Result<()> {
        self.stream.context().bind_to_thread().w()?;
        let kind = |rows: Rows| match rows.on_host {
            true => sys::CUmemorytype::CU_MEMORYTYPE_HOST,
            false => sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        };
        let copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: kind(from),
            srcHost: from.address as *const c_void,
            srcDevice: from.address,
            srcArray: std::ptr::null_mut(),
            srcPitch: from.stride,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: kind(to),
            dstHost: to.address as *mut c_void,
            dstDevice: to.address,
            dstArray: std::ptr::null_mut(),
            dstPitch: to.stride,
            WidthInBytes: length,
            Height: rows,
        };
        // SAFETY: the caller's word.
        unsafe { sys::cuMemcpy2DAsync_v2(&raw const copy, self.stream.cu_stream()) }
            .result()
            .w()
    }

    /// Waits until all is done.
    ///
    /// # Errors
    ///
    /// A kernel that failed, a GPU that is gone.
    pub(crate) fn wait(&self) -> Result<()> {
        self.stream.synchronize().w()
    }
}

/// Memory of a GPU, given back when it is dropped.
pub(crate) struct Memory {
    #[expect(dead_code, reason = "holds the memory")]
    slice: CudaSlice<u8>,
    address: u64,
}

impl Memory {
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
    /// Whether they are in [`HostMemory`].
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
}

/// Memory of the host that a GPU copies from and to by itself.
pub struct HostMemory {
    start: *mut u8,
    bytes: usize,
    device: CudaDevice,
}

/// Where such memory begins, and its bytes.
static ON_HOST: Lazy<Mutex<BTreeMap<usize, usize>>> = Lazy::new(Mutex::default);

fn on_host() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    ON_HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostMemory {
    /// So many bytes, all zero.
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

    /// Whether bytes are in such memory.
    pub(crate) fn holds(bytes: &[u8]) -> bool {
        let at = bytes.as_ptr() as usize;
        let memory = on_host();
        let before = memory.range(..=at).next_back();
        before.is_some_and(|(start, length)| at + bytes.len() <= start + length)
    }
}

// SAFETY: it is memory that this value alone owns.
unsafe impl Send for HostMemory {}
// SAFETY: a shared reference only reads it.
unsafe impl Sync for HostMemory {}

impl AsRef<[u8]> for HostMemory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the memory is ours and filled, and no copy to it is under
        // way: those that begin are waited for by whoever began them.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl AsMut<[u8]> for HostMemory {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl std::fmt::Debug for HostMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostMemory")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Drop for HostMemory {
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

/// Such memory, and the stream that it is copied in.
pub(crate) struct Pinned {
    memory: HostMemory,
    stream: Arc<CudaStream>,
}

impl Pinned {
    /// The bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.memory.as_mut()
    }

    /// Copies all of it to the GPU, in the stream's order. The bytes must stay
    /// as they are until [`Gpu::wait`].
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn send(&mut self, to: &Memory) -> Result<()> {
        self.stream.context().bind_to_thread().w()?;
        let (to, stream) = (to.address, self.stream.cu_stream());
        // SAFETY: memory for frames is made as large as their pinned one.
        unsafe { result::memcpy_htod_async(to, self.bytes(), stream) }.w()
    }

    /// Copies as many bytes from the GPU, in the stream's order. They are there
    /// after [`Gpu::wait`].
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn fetch(&mut self, from: &Memory) -> Result<()> {
        self.stream.context().bind_to_thread().w()?;
        let (from, stream) = (from.address, self.stream.cu_stream());
        // SAFETY: as in `send`.
        unsafe { result::memcpy_dtoh_async(self.bytes(), from, stream) }.w()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What still copies. Nothing is to be done if the GPU is gone.
        let _ = self.stream.synchronize();
    }
}

/// Samples of one component: bytes here, dense f32 rows there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) bytes: u64,
    pub(crate) plane: u64,
    pub(crate) stride: i32,
    pub(crate) step: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
}

/// One axis of a resampling.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resample {
    pub(crate) source: u64,
    pub(crate) made: u64,
    pub(crate) starts: u64,
    pub(crate) weights: u64,
    pub(crate) taps: i32,
    pub(crate) source_width: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
}

/// What becomes of planes that belong together.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColorChange {
    YuvToRgb = 0,
    RgbToYuv = 1,
    GrayToRgb = 2,
    RgbToGray = 3,
    LumaOfRgb = 4,
    AddLuma = 5,
}

/// Three planes, one after the other, and another one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Colors {
    pub(crate) planes: u64,
    pub(crate) other: u64,
    pub(crate) samples: u64,
    pub(crate) change: i32,
    pub(crate) weights: [f32; 3],
    pub(crate) luma_base: f32,
    pub(crate) luma_gain: f32,
    pub(crate) chroma_gain: f32,
    pub(crate) rgb_per_luma: f32,
}

/// What the first layer sees.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Enter {
    pub(crate) planes: u64,
    pub(crate) made: u64,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) count: i32,
    pub(crate) edge: i32,
    pub(crate) scale: [f32; MOST_PLANES],
    pub(crate) offset: [f32; MOST_PLANES],
}

/// The most planes that a network takes.
pub(crate) const MOST_PLANES: usize = 4;

/// A convolution and what follows it; `convolve.cu` says what the fields are.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Convolve {
    pub(crate) source: u64,
    pub(crate) made: u64,
    pub(crate) weights: u64,
    pub(crate) bias: u64,
    pub(crate) slope: u64,
    pub(crate) skip: u64,
    pub(crate) base: u64,
    pub(crate) nearest: u64,
    pub(crate) inputs: i32,
    pub(crate) outputs: i32,
    pub(crate) kernel: i32,
    pub(crate) pad: i32,
    pub(crate) around: i32,
    pub(crate) source_width: i32,
    pub(crate) source_height: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) source_row0: i32,
    pub(crate) source_rows: i32,
    pub(crate) made_row0: i32,
    pub(crate) skip_row0: i32,
    pub(crate) row0: i32,
    pub(crate) rows: i32,
    pub(crate) shuffle: i32,
    pub(crate) planes: i32,
    pub(crate) tanh: i32,
    pub(crate) nearest_factor: i32,
    pub(crate) chunk: i32,
    pub(crate) source_plane: i32,
    pub(crate) made_plane: i32,
}

/// Of a convolution that runs on the tensor cores: 16-bit types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The bits of a value.
    pub(crate) fn bits(self, value: f32) -> u16 {
        match self {
            Self::F16 => half::f16::from_f32(value).to_bits(),
            Self::Bf16 => half::bf16::from_f32(value).to_bits(),
        }
    }
}

/// The kernels' tiles (`convolve.cu`): columns, rows.
pub(crate) const HALF_TILE: (usize, usize) = (32, 16);
const PLAIN_TILE: (usize, usize) = (32, 32);

/// Channels that the plain kernel makes at once.
pub(crate) const PLAIN_CHANNELS: usize = 16;

/// Values of a pixel in shared memory, and how far apart pixels are there.
pub(crate) const CHUNK: usize = 16;
const PIXEL: usize = 24;

/// Warps of a block, and pixels of a row that a warp stores at once.
const WARPS: usize = 8;
const WARP_COLUMNS: usize = 16;

/// The widest kernel that the first layer may have, in 16-bit types.
pub(crate) const WIDEST_FIRST: usize = CHUNK;

#[derive(Clone, Copy)]
enum Arguments {
    Bytes(Bytes),
    Resample(Resample),
    Colors(Colors),
    Enter(Enter),
    Convolve(Convolve),
}

// SAFETY: they are what the kernels take, field by field, without pointers to
// the host.
unsafe impl DeviceRepr for Bytes {}
// SAFETY: as above.
unsafe impl DeviceRepr for Resample {}
// SAFETY: as above.
unsafe impl DeviceRepr for Colors {}
// SAFETY: as above.
unsafe impl DeviceRepr for Enter {}
// SAFETY: as above.
unsafe impl DeviceRepr for Convolve {}

/// A kernel and all that it takes.
struct Call {
    kernel: CudaFunction,
    config: LaunchConfig,
    arguments: Arguments,
}

/// Calls in order, and the memory that they work on.
pub(crate) struct Program {
    gpu: Gpu,
    calls: Vec<Call>,
    memory: Vec<Memory>,
    /// Whether all kernels ran once: what loads them must not be in a graph.
    warm: bool,
    graph: Option<Graph>,
}

/// The calls as a graph.
struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, one at a time: who launches it
// has the program for itself.
unsafe impl Send for Graph {}
// SAFETY: as above, a shared reference is of no use.
unsafe impl Sync for Graph {}

impl Program {
    /// Without any calls yet.
    pub(crate) fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            calls: Vec::new(),
            memory: Vec::new(),
            warm: false,
            graph: None,
        }
    }

    /// Keeps memory for as long as the program lives; where it begins.
    pub(crate) fn keep(&mut self, memory: Memory) -> u64 {
        let address = memory.address;
        self.memory.push(memory);
        address
    }

    /// Room for `count` values of T, for as long as the program lives.
    ///
    /// # Errors
    ///
    /// As [`Gpu::room`].
    pub(crate) fn room<T>(&mut self, count: usize) -> Result<u64> {
        let memory = self.gpu.room::<T>(count)?;
        Ok(self.keep(memory))
    }

    /// Bytes of a frame to planes.
    pub(crate) fn read(&mut self, bytes: Bytes) -> Result<()> {
        self.samples(
            "read_bytes",
            bytes.width,
            bytes.height,
            Arguments::Bytes(bytes),
        )
    }

    /// Planes to bytes of a frame.
    pub(crate) fn store(&mut self, bytes: Bytes) -> Result<()> {
        self.samples(
            "store_bytes",
            bytes.width,
            bytes.height,
            Arguments::Bytes(bytes),
        )
    }

    /// Resamples down the columns: rows from rows.
    pub(crate) fn resample_rows(&mut self, axis: Resample) -> Result<()> {
        self.samples(
            "resample_rows",
            axis.width,
            axis.height,
            Arguments::Resample(axis),
        )
    }

    /// Resamples along the rows: columns from columns.
    pub(crate) fn resample_columns(&mut self, axis: Resample) -> Result<()> {
        self.samples(
            "resample_columns",
            axis.width,
            axis.height,
            Arguments::Resample(axis),
        )
    }

    /// Changes colours.
    pub(crate) fn colors(&mut self, colors: Colors) -> Result<()> {
        let blocks = colors.samples.div_ceil(256);
        let config = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (256, 1, 1),
            shared_mem_bytes: 0,
        };
        self.call("change_colors", config, Arguments::Colors(colors))
    }

    /// Planes of 0 to 255 to what the first layer sees.
    pub(crate) fn enter(&mut self, half: Option<Half>, enter: Enter) -> Result<()> {
        let name = match half {
            None => "enter_f32",
            Some(Half::F16) => "enter_f16",
            Some(Half::Bf16) => "enter_bf16",
        };
        let (width, height) = (enter.width + 2 * enter.edge, enter.height + 2 * enter.edge);
        let mut config = per_sample(width, height);
        config.grid_dim.2 = enter.count as u32;
        self.call(name, config, Arguments::Enter(enter))
    }

    /// A convolution in f32.
    ///
    /// # Errors
    ///
    /// A kernel that is too large for the GPU.
    pub(crate) fn convolve_plain(&mut self, mut layer: Convolve) -> Result<()> {
        let kernel = layer.kernel as usize;
        let area = (PLAIN_TILE.0 + kernel - 1) * (PLAIN_TILE.1 + kernel - 1);
        let each = area + kernel * kernel * PLAIN_CHANNELS;
        let shared = |chunk: usize| (chunk * each + 4) * size_of::<f32>();
        // Two blocks side by side, if there is room for them.
        let room = (self.gpu.shared / 2).max(shared(1));
        let fits = (1..=layer.inputs as usize).rev();
        let chunk = fits
            .into_iter()
            .find(|&chunk| chunk <= 8 && shared(chunk) <= room);
        let chunk = chunk.unwrap_or(1);
        if shared(chunk) > self.gpu.shared {
            bail!("a kernel of side {kernel} is too large for this GPU")
        }
        layer.chunk = chunk as i32;
        let grid = tiles(
            &layer,
            PLAIN_TILE,
            (layer.outputs as usize).div_ceil(PLAIN_CHANNELS),
        );
        let config = LaunchConfig {
            grid_dim: grid,
            block_dim: (BLOCK.0, BLOCK.1, 1),
            shared_mem_bytes: shared(chunk) as u32,
        };
        self.call("convolve_f32", config, Arguments::Convolve(layer))
    }

    /// A convolution on the tensor cores, the `first` one of a network or a
    /// later one.
    ///
    /// # Errors
    ///
    /// A kernel that is too large for the GPU.
    pub(crate) fn convolve_half(&mut self, half: Half, first: bool, layer: Convolve) -> Result<()> {
        let (kernel, inputs) = (layer.kernel as usize, layer.inputs as usize);
        let all = (layer.outputs as usize).div_ceil(8);
        let groups = [1, 2, 4]
            .into_iter()
            .find(|&groups| groups >= all)
            .unwrap_or(8);
        let rows = HALF_TILE.1 + kernel - 1;
        let patch = match first {
            true => 2 * inputs * rows * (HALF_TILE.0 + CHUNK) * size_of::<u16>(),
            false => {
                let patches = inputs.div_ceil(CHUNK).min(2);
                patches * rows * (HALF_TILE.0 + kernel - 1) * PIXEL * size_of::<u16>()
            }
        };
        let made = WARPS * WARP_COLUMNS * (groups * 8 + 4) * size_of::<f32>();
        let shared = patch.max(made);
        if shared > self.gpu.shared {
            bail!("a kernel of side {kernel} is too large for this GPU")
        }
        let which = if first { "first" } else { "later" };
        let name = format!("{which}_{}_{groups}", half.name());
        let config = LaunchConfig {
            grid_dim: tiles(&layer, HALF_TILE, all.div_ceil(groups)),
            block_dim: ((WARPS * 32) as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        self.call(&name, config, Arguments::Convolve(layer))
    }

    fn samples(&mut self, name: &str, width: i32, height: i32, arguments: Arguments) -> Result<()> {
        self.call(name, per_sample(width, height), arguments)
    }

    fn call(&mut self, name: &str, config: LaunchConfig, arguments: Arguments) -> Result<()> {
        let kernel = self.gpu.kernel(name, config.shared_mem_bytes as usize)?;
        self.calls.push(Call {
            kernel,
            config,
            arguments,
        });
        Ok(())
    }

    /// Begins all calls, in the stream's order: from the second time on as one
    /// graph.
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn run(&mut self) -> Result<()> {
        if let Some(Graph(graph)) = &self.graph {
            return graph.launch().w();
        }
        let stream = &self.gpu.stream;
        if !self.warm {
            self.calls.iter().try_for_each(|call| call.launch(stream))?;
            self.warm = true;
            return Ok(());
        }
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).w()?;
        let launched = self.calls.iter().try_for_each(|call| call.launch(stream));
        // Ends the capture also where a launch failed.
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).w();
        launched?;
        let Some(graph) = graph? else {
            bail!("the GPU's driver made no graph of the kernels")
        };
        graph.launch().w()?;
        self.graph = Some(Graph(graph));
        Ok(())
    }
}

impl Call {
    fn launch(&self, stream: &Arc<CudaStream>) -> Result<()> {
        let mut launch = stream.launch_builder(&self.kernel);
        match &self.arguments {
            Arguments::Bytes(arguments) => launch.arg(arguments),
            Arguments::Resample(arguments) => launch.arg(arguments),
            Arguments::Colors(arguments) => launch.arg(arguments),
            Arguments::Enter(arguments) => launch.arg(arguments),
            Arguments::Convolve(arguments) => launch.arg(arguments),
        };
        // SAFETY: the kernel takes this structure, whose addresses are of
        // memory that the program, or what made it, keeps.
        unsafe { launch.launch(self.config) }.w()?;
        Ok(())
    }
}

fn per_sample(width: i32, height: i32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (
            (width as u32).div_ceil(BLOCK.0),
            (height as u32).div_ceil(BLOCK.1),
            1,
        ),
        block_dim: (BLOCK.0, BLOCK.1, 1),
        shared_mem_bytes: 0,
    }
}

/// Blocks for the tiles of a layer's rows.
fn tiles(layer: &Convolve, tile: (usize, usize), deep: usize) -> (u32, u32, u32) {
    let count = |length: i32, tile: usize| (length as usize).div_ceil(tile) as u32;
    (
        count(layer.width, tile.0),
        count(layer.rows, tile.1),
        deep as u32,
    )
}
