//! Frames in GPU memory, `memory:CUDAMemory`, through GStreamer's libgstcuda,
//! which is loaded at run time.
//!
//! The element shares the library's CUDA context with the pipeline. Frames of
//! that context stay on the GPU; frames of another element's context are mapped
//! into host memory.
//!
//! Only functions with the same signature in all releases from 1.22 on are
//! called. From 1.24 on memory has a stream, which is synchronized first.
//!
//! Invariants that the `SAFETY` comments refer to:
//!
//! * **Headers**: the types of [`Functions`] are those of the headers of libgstcuda.
//! * **Layout**: a `GstCudaMemory` starts with the fields of [`CudaMemory`].
//! * **Live context**: `CudaContext::context` owns a reference to a `GstCudaContext`,
//!   which exists only after `gst_cuda_load_library` succeeded.

use glib::translate::{FromGlibPtrFull, IntoGlib, ToGlibPtr};
use gst::glib;
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use libloading::os::unix::Library;
use srfilter::engine::{ComputeDevice, DevicePlane, Upscaler};
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::ptr::NonNull;
use std::sync::LazyLock;

use super::caps::CUDA;
use super::log::CAT;
use super::video;

/// The library's name in all releases so far.
const LIBRARY: &str = "libgstcuda-1.0.so.0";

/// `GST_MAP_CUDA`: maps to a device address instead of a host address.
const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// Formats that the pools of libgstcuda support from 1.22 on.
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

/// The first fields of a `GstCudaMemory`, public since 1.22: `GstMemory mem`,
/// then `GstCudaContext *context`. Its total size is unknown.
#[repr(C)]
struct CudaMemory {
    memory: gst::ffi::GstMemory,
    context: *mut gst::ffi::GstObject,
}

const _: () = {
    assert!(offset_of!(CudaMemory, memory) == 0);
    assert!(offset_of!(CudaMemory, context) == size_of::<gst::ffi::GstMemory>());
};

/// The sizes in C on 64-bit targets: a `GstMiniObject` of 64 bytes, and a
/// `GstMemory` that adds two pointers and four `gsize`.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<gst::ffi::GstMiniObject>() == 64);
    assert!(size_of::<gst::ffi::GstMemory>() == 112);
    assert!(offset_of!(CudaMemory, context) == 112);
};

static FUNCTIONS: LazyLock<Option<Functions>> = LazyLock::new(|| {
    // SAFETY: the constructors of libgstcuda have no preconditions.
    let library = unsafe { Library::new(LIBRARY) }.ok()?;
    // SAFETY: Headers; the library is never unloaded (see below).
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
    // It registers types, so it must stay loaded.
    std::mem::forget(library);
    Some(functions)
});

/// The formats of frames in GPU memory; none without libgstcuda.
pub(super) fn formats() -> Vec<VideoFormat> {
    let served = |format: &VideoFormat| POOLED.contains(format);
    match *FUNCTIONS {
        Some(_) => video::formats().filter(served).collect(),
        None => Vec::new(),
    }
}

/// Allocates pinned host memory; `None` for the CPU.
pub(super) fn allocator(device: &ComputeDevice) -> Option<gst::Allocator> {
    super::host_memory::HostAllocator::of(device)
}

/// Whether frames of these caps are in GPU memory.
pub(super) fn is_cuda(caps: &gst::CapsRef) -> bool {
    caps.features(0)
        .is_some_and(|features| features.contains(CUDA))
}

/// The library's CUDA context as a `GstCudaContext`.
pub(super) struct CudaContext {
    functions: &'static Functions,
    /// The `GstCudaContext`.
    context: gst::Object,
    /// The `CUcontext`.
    handle: NonNull<c_void>,
}

// SAFETY: `handle` is compared and never dereferenced, and a `gst::Object` is Send.
unsafe impl Send for CudaContext {}
// SAFETY: `handle` is compared and never dereferenced, and a `gst::Object` is Sync.
unsafe impl Sync for CudaContext {}

impl CudaContext {
    /// Wraps the context of a GPU; `None` for the CPU, and if GStreamer cannot
    /// use the GPU.
    pub(super) fn open(device: &ComputeDevice) -> Option<Self> {
        let functions = FUNCTIONS.as_ref()?;
        let (ordinal, handle) = device.context()?;
        let handle = NonNull::new(handle)?;
        // SAFETY: Headers; the function has no preconditions.
        if unsafe { (functions.load_library)() } == glib::ffi::GFALSE {
            return None;
        }
        // SAFETY: Headers; CUDA was loaded above, the wrapped primary context lives
        // as long as the process, and the result is an owned reference or null.
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

    /// Whether this is the context of a device.
    pub(super) fn serves(&self, device: &ComputeDevice) -> bool {
        device
            .context()
            .is_some_and(|(_, handle)| handle == self.handle.as_ptr())
    }

    /// The `GstContext` for other elements.
    pub(super) fn to_context(&self) -> gst::Context {
        // SAFETY: Headers and Live context; the result is an owned reference.
        unsafe { gst::Context::from_glib_full((self.functions.new_context)(self.context.as_ptr())) }
    }

    /// Answers a context query; returns whether it was one for this context.
    pub(super) fn answer(&self, element: &gst::Element, query: &mut gst::QueryRef) -> bool {
        // SAFETY: Headers and Live context; element and query are borrowed for the call.
        let answered = unsafe {
            (self.functions.handle_context_query)(
                element.to_glib_none().0,
                query.as_mut_ptr(),
                self.context.as_ptr(),
            )
        };
        answered != glib::ffi::GFALSE
    }

    /// A pool with a minimum and a maximum number of buffers, and the size of a
    /// buffer in bytes.
    pub(super) fn pool(
        &self,
        caps: &gst::Caps,
        (least, most): (u32, u32),
    ) -> Result<(gst::BufferPool, u32), gst::LoggableError> {
        let problem = |what| gst::loggable_error!(CAT, "The pool of GPU memory {what}");
        let info = VideoInfo::from_caps(caps)?;
        // SAFETY: Headers and Live context; the result is an owned reference or null.
        let pool: Option<gst::BufferPool> =
            unsafe { Option::from_glib_full((self.functions.pool_new)(self.context.as_ptr())) };
        let pool = pool.ok_or_else(|| problem("cannot be created"))?;
        let mut config = pool.config();
        config.set_params(Some(caps), info.size() as u32, least, most);
        config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META.as_ref());
        pool.set_config(config)
            .map_err(|_| problem("cannot be configured"))?;
        // The pool pads rows.
        let size = pool
            .config()
            .params()
            .map_or(info.size() as u32, |params| params.1);
        Ok((pool, size))
    }

    /// Whether all memory of a buffer belongs to this context.
    fn owns(&self, buffer: &gst::BufferRef) -> bool {
        let ours = |memory: &gst::MemoryRef| {
            let memory = memory.as_mut_ptr();
            // SAFETY: Headers; the buffer keeps the memory alive.
            if unsafe { (self.functions.is_cuda_memory)(memory) } == glib::ffi::GFALSE {
                return false;
            }
            // SAFETY: Layout; checked above to be CUDA memory.
            let context = unsafe { (*memory.cast::<CudaMemory>()).context };
            // SAFETY: Layout; the memory owns a reference to its context. Its class
            // is checked before it is used as a `GstCudaContext`.
            let is_context = !context.is_null()
                && unsafe {
                    glib::gobject_ffi::g_type_check_instance_is_a(
                        context.cast(),
                        self.context.type_().into_glib(),
                    )
                } != glib::ffi::GFALSE;
            // SAFETY: Headers; `context` was checked to be a `GstCudaContext`.
            is_context
                && unsafe { (self.functions.context_get_handle)(context) } == self.handle.as_ptr()
        };
        buffer.n_memory() > 0 && buffer.iter_memories().all(ours)
    }

    /// Upscales a frame in GPU memory. Returns `false` without effect for frames
    /// of another context, and if the upscaler does not run on the GPU.
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
                // SAFETY: Headers; `owns` found only CUDA memory in both buffers.
                unsafe { sync(memory.as_mut_ptr()) };
            }
        }
        let flags = gst::ffi::GST_MAP_READ | MAP_CUDA;
        // SAFETY: the map is read-only, and `input` outlives it.
        let Some(input) = (unsafe { Mapped::new(input.as_mut_ptr(), in_info, flags) }) else {
            return Ok(false);
        };
        let flags = gst::ffi::GST_MAP_WRITE | MAP_CUDA;
        // SAFETY: the map is writable, and `output` is borrowed mutably and outlives it.
        let Some(output) = (unsafe { Mapped::new(output.as_mut_ptr(), out_info, flags) }) else {
            return Ok(false);
        };
        // SAFETY: both frames have the negotiated caps of the upscaler, and are
        // mapped to addresses of its context.
        unsafe { upscaler.process_device_frame(&input.planes(), &output.planes()) }
    }
}

/// A frame mapped to GPU addresses.
struct Mapped<'a> {
    frame: gst_video::ffi::GstVideoFrame,
    buffer: PhantomData<&'a gst::BufferRef>,
}

impl Mapped<'_> {
    /// Maps a frame of these caps; `None` if that fails.
    ///
    /// # Safety
    ///
    /// The buffer must outlive the result, and must be writable if the flags say
    /// so.
    unsafe fn new(
        buffer: *mut gst::ffi::GstBuffer,
        info: &VideoInfo,
        flags: gst::ffi::GstMapFlags,
    ) -> Option<Self> {
        let mut frame = MaybeUninit::uninit();
        // SAFETY: the buffer is valid by the contract of this function; the frame
        // is initialised if the call succeeds, and holds no reference (`NO_REF`).
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
        // SAFETY: `finfo` of a mapped frame points to a static table of GStreamer.
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
        // SAFETY: `new` mapped the frame, and only `drop` unmaps it.
        unsafe { gst_video::ffi::gst_video_frame_unmap(&mut self.frame) };
    }
}
