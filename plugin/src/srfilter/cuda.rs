//! Frames in a GPU's memory: `memory:CUDAMemory`, by GStreamer's libgstcuda,
//! which is found at run time.
//!
//! The pipeline is offered the context of CUDA that the library computes in.
//! Frames of that context go from one kernel to the next; those of another one,
//! where some element brought its own, are mapped into the host's memory.
//!
//! libgstcuda is called by the functions that releases from 1.22 on have alike.
//! From 1.24 on memory comes with a stream, which is waited for.

use glib::translate::{FromGlibPtrFull, ToGlibPtr};
use gst::glib;
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use libloading::os::unix::Library;
use srfilter::engine::{ComputeDevice, DevicePlane, Upscaler};
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::LazyLock;

use super::caps::CUDA;
use super::log::CAT;
use super::video;

/// The library, as every release names it so far.
const LIBRARY: &str = "libgstcuda-1.0.so.0";

/// `GST_MAP_CUDA`: maps to an address of the GPU instead of one of the host.
const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// Formats that the pools of libgstcuda 1.22 make, and later ones, too.
const POOLED: [VideoFormat; 15] = [
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Gbr,
];

/// The functions of libgstcuda. A `GstCudaContext` is a `GstObject`.
struct Functions {
    load_library: unsafe extern "C" fn() -> glib::ffi::gboolean,
    memory_init_once: unsafe extern "C" fn(),
    context_new_wrapped: unsafe extern "C" fn(*mut c_void, c_int) -> *mut gst::ffi::GstObject,
    context_get_handle: unsafe extern "C" fn(*mut gst::ffi::GstObject) -> *mut c_void,
    handle_context_query: unsafe extern "C" fn(
        *mut gst::ffi::GstElement,
        *mut gst::ffi::GstQuery,
        *mut gst::ffi::GstObject,
    ) -> glib::ffi::gboolean,
    new_context: unsafe extern "C" fn(*mut gst::ffi::GstObject) -> *mut gst::ffi::GstContext,
    pool_new: unsafe extern "C" fn(*mut gst::ffi::GstObject) -> *mut gst::ffi::GstBufferPool,
    is_cuda_memory: unsafe extern "C" fn(*mut gst::ffi::GstMemory) -> glib::ffi::gboolean,
    /// From 1.24 on.
    memory_sync: Option<unsafe extern "C" fn(*mut gst::ffi::GstMemory)>,
}

/// How a `GstCudaMemory` begins, in every release so far.
#[repr(C)]
struct CudaMemory {
    memory: gst::ffi::GstMemory,
    context: *mut gst::ffi::GstObject,
}

static FUNCTIONS: LazyLock<Option<Functions>> = LazyLock::new(|| {
    // SAFETY: a library of GStreamer's does nothing unusual on loading.
    let library = unsafe { Library::new(LIBRARY) }.ok()?;
    // SAFETY: these are the functions' types, by the library's headers.
    let functions = unsafe {
        Functions {
            load_library: *library.get(b"gst_cuda_load_library\0").ok()?,
            memory_init_once: *library.get(b"gst_cuda_memory_init_once\0").ok()?,
            context_new_wrapped: *library.get(b"gst_cuda_context_new_wrapped\0").ok()?,
            context_get_handle: *library.get(b"gst_cuda_context_get_handle\0").ok()?,
            handle_context_query: *library.get(b"gst_cuda_handle_context_query\0").ok()?,
            new_context: *library.get(b"gst_context_new_cuda_context\0").ok()?,
            pool_new: *library.get(b"gst_cuda_buffer_pool_new\0").ok()?,
            is_cuda_memory: *library.get(b"gst_is_cuda_memory\0").ok()?,
            memory_sync: library
                .get(b"gst_cuda_memory_sync\0")
                .ok()
                .map(|found| *found),
        }
    };
    // It registers types, which must not go away.
    std::mem::forget(library);
    Some(functions)
});

/// The formats of frames in a GPU's memory; none where libgstcuda is not there.
pub(super) fn formats() -> Vec<VideoFormat> {
    let served = |format: &VideoFormat| POOLED.contains(format);
    match *FUNCTIONS {
        Some(_) => video::formats().filter(served).collect(),
        None => Vec::new(),
    }
}

/// Of memory of the host that the GPU copies from and to; `None` for the CPU.
pub(super) fn allocator(device: &ComputeDevice) -> Option<gst::Allocator> {
    super::host_memory::HostAllocator::of(device)
}

/// Whether caps mean frames in a GPU's memory.
pub(super) fn is_cuda(caps: &gst::CapsRef) -> bool {
    caps.features(0)
        .is_some_and(|features| features.contains(CUDA))
}

/// The library's context of CUDA, as GStreamer knows it.
pub(super) struct CudaContext {
    functions: &'static Functions,
    /// The `GstCudaContext`.
    context: gst::Object,
    /// The `CUcontext`.
    handle: NonNull<c_void>,
}

// SAFETY: the handle is a name that is only compared.
unsafe impl Send for CudaContext {}
// SAFETY: as above; objects of GStreamer may be shared.
unsafe impl Sync for CudaContext {}

impl CudaContext {
    /// Shares the context of a GPU; `None` for the CPU, and where GStreamer
    /// cannot use the GPU.
    pub(super) fn open(device: &ComputeDevice) -> Option<Self> {
        let functions = FUNCTIONS.as_ref()?;
        let (ordinal, handle) = device.context()?;
        let handle = NonNull::new(handle)?;
        // SAFETY: needs nothing.
        if unsafe { (functions.load_library)() } == glib::ffi::GFALSE {
            return None;
        }
        // SAFETY: needs the library loaded, which it is; the context is one
        // that lives as long as the process; what comes back is owned or null.
        let context = unsafe {
            (functions.memory_init_once)();
            let context = (functions.context_new_wrapped)(handle.as_ptr(), ordinal as c_int);
            Option::<gst::Object>::from_glib_full(context)
        }?;
        Some(Self {
            functions,
            context,
            handle,
        })
    }

    /// Whether it is that device's context.
    pub(super) fn serves(&self, device: &ComputeDevice) -> bool {
        device
            .context()
            .is_some_and(|(_, handle)| handle == self.handle.as_ptr())
    }

    /// What elements hand to each other.
    pub(super) fn to_context(&self) -> gst::Context {
        // SAFETY: takes the context it is given, and returns one that is owned.
        unsafe { gst::Context::from_glib_full((self.functions.new_context)(self.context.as_ptr())) }
    }

    /// Answers a query for the context; whether it was one.
    pub(super) fn answer(&self, element: &gst::Element, query: &mut gst::QueryRef) -> bool {
        // SAFETY: element, query and context live during the call.
        let answered = unsafe {
            (self.functions.handle_context_query)(
                element.to_glib_none().0,
                query.as_mut_ptr(),
                self.context.as_ptr(),
            )
        };
        answered != glib::ffi::GFALSE
    }

    /// A pool of so many buffers, at least and at most, and the bytes of one.
    pub(super) fn pool(
        &self,
        caps: &gst::Caps,
        (least, most): (u32, u32),
    ) -> Result<(gst::BufferPool, u32), gst::LoggableError> {
        let problem = |what| gst::loggable_error!(CAT, "The pool of the GPU's memory {what}");
        let info = VideoInfo::from_caps(caps)?;
        // SAFETY: takes the context it is given, and returns a pool that is owned, or null.
        let pool: Option<gst::BufferPool> =
            unsafe { Option::from_glib_full((self.functions.pool_new)(self.context.as_ptr())) };
        let pool = pool.ok_or_else(|| problem("cannot be made"))?;
        let mut config = pool.config();
        config.set_params(Some(caps), info.size() as u32, least, most);
        config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META.as_ref());
        pool.set_config(config)
            .map_err(|_| problem("cannot be configured"))?;
        // Rows are longer there.
        let size = pool
            .config()
            .params()
            .map_or(info.size() as u32, |params| params.1);
        Ok((pool, size))
    }

    /// Whether all of a buffer is memory of this context.
    fn owns(&self, buffer: &gst::BufferRef) -> bool {
        let ours = |memory: &gst::MemoryRef| {
            let memory = memory.as_mut_ptr();
            // SAFETY: memory that is CUDA's begins as `CudaMemory` does, with
            // a context that it holds.
            unsafe {
                (self.functions.is_cuda_memory)(memory) != glib::ffi::GFALSE
                    && (self.functions.context_get_handle)((*memory.cast::<CudaMemory>()).context)
                        == self.handle.as_ptr()
            }
        };
        buffer.n_memory() > 0 && buffer.iter_memories().all(ours)
    }

    /// Enlarges a frame where it is. Returns whether that was done: not for
    /// frames of another context, nor where the upscaler computes elsewhere.
    pub(super) fn process(
        &self,
        upscaler: &mut Upscaler,
        (input, in_info): (&gst::BufferRef, &VideoInfo),
        (output, out_info): (&mut gst::BufferRef, &VideoInfo),
    ) -> srfilter::Result<bool> {
        if !self.owns(input) || !self.owns(output) {
            return Ok(false);
        }
        if let Some(sync) = self.functions.memory_sync {
            for memory in input.iter_memories().chain(output.iter_memories()) {
                // SAFETY: it is CUDA's memory.
                unsafe { sync(memory.as_mut_ptr()) };
            }
        }
        let flags = gst::ffi::GST_MAP_READ | MAP_CUDA;
        // SAFETY: to read, and the buffer is borrowed for as long.
        let Some(input) = (unsafe { Mapped::new(input.as_mut_ptr(), in_info, flags) }) else {
            return Ok(false);
        };
        let flags = gst::ffi::GST_MAP_WRITE | MAP_CUDA;
        // SAFETY: to write, and the buffer is borrowed mutably for as long.
        let Some(output) = (unsafe { Mapped::new(output.as_mut_ptr(), out_info, flags) }) else {
            return Ok(false);
        };
        // SAFETY: these are frames of the caps that the upscaler was made for,
        // mapped to addresses of the context that it computes in.
        unsafe { upscaler.process_device_frame(&input.planes(), &output.planes()) }
    }
}

/// A frame mapped to addresses of the GPU.
struct Mapped<'a> {
    frame: gst_video::ffi::GstVideoFrame,
    buffer: PhantomData<&'a gst::BufferRef>,
}

impl Mapped<'_> {
    /// Maps a frame of those caps; `None` where that fails.
    ///
    /// # Safety
    ///
    /// The buffer lives as long as what is returned, and may be written where
    /// the flags say so.
    unsafe fn new(
        buffer: *mut gst::ffi::GstBuffer,
        info: &VideoInfo,
        flags: gst::ffi::GstMapFlags,
    ) -> Option<Self> {
        let mut frame = MaybeUninit::uninit();
        // SAFETY: the frame is written where the call succeeds; the buffer is
        // there, by the caller's word, and not referenced once more.
        unsafe {
            let mapped = gst_video::ffi::gst_video_frame_map(
                frame.as_mut_ptr(),
                info.to_glib_none().0 as *mut _,
                buffer,
                flags | gst_video::ffi::GST_VIDEO_FRAME_MAP_FLAG_NO_REF as gst::ffi::GstMapFlags,
            );
            (mapped != glib::ffi::GFALSE).then(|| Self {
                frame: frame.assume_init(),
                buffer: PhantomData,
            })
        }
    }

    fn planes(&self) -> Vec<DevicePlane> {
        // SAFETY: formats of the table are described for as long as the process runs.
        let count = unsafe { (*self.frame.info.finfo).n_planes } as usize;
        let planes = self.frame.data.iter().zip(&self.frame.info.stride);
        planes
            .take(count)
            .map(|(&data, &stride)| DevicePlane {
                address: data as u64,
                stride: usize::try_from(stride).unwrap_or(0),
            })
            .collect()
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // SAFETY: it is mapped.
        unsafe { gst_video::ffi::gst_video_frame_unmap(&mut self.frame) };
    }
}
