//! Pinned host memory for neighbouring elements: a GPU copies frames in it
//! directly, without the CPU.

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use srfilter::engine::ComputeDevice;

glib::wrapper! {
    /// Allocates pinned memory, and pageable memory if there is none left.
    pub struct HostAllocator(ObjectSubclass<imp::HostAllocator>)
        @extends gst::Allocator, gst::Object;
}

impl HostAllocator {
    /// The allocator of a GPU; `None` for the CPU.
    pub(super) fn of(device: &ComputeDevice) -> Option<gst::Allocator> {
        if device.is_cpu() {
            return None;
        }
        let allocator: Self = glib::Object::new();
        // Cannot fail: set only here.
        let _ = allocator.imp().device.set(device.clone());
        Some(allocator.upcast())
    }
}

mod imp {
    use super::ComputeDevice;
    use gst::glib;
    use gst::glib::translate::IntoGlibPtr;
    use gst::subclass::prelude::*;
    use std::sync::OnceLock;

    #[derive(Debug, Default)]
    pub struct HostAllocator {
        pub(super) device: OnceLock<ComputeDevice>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for HostAllocator {
        const NAME: &'static str = "GstSrFilterHostAllocator";
        type Type = super::HostAllocator;
        type ParentType = gst::Allocator;
    }

    impl ObjectImpl for HostAllocator {}
    impl GstObjectImpl for HostAllocator {}

    // SAFETY: the memory from `alloc` refers to the allocator that frees it.
    unsafe impl AllocatorImpl for HostAllocator {
        unsafe fn alloc(
            &self,
            size: usize,
            params: &gst::AllocationParams,
        ) -> *mut gst::ffi::GstMemory {
            let (before, align) = (params.prefix(), params.align());
            let all = [before, params.padding(), align]
                .into_iter()
                .try_fold(size, usize::checked_add);
            let memory = match (all, self.device.get()) {
                (Some(all), Some(device)) => device.host_memory(all),
                _ => None,
            };
            match memory {
                Some(memory) => {
                    // The alignment is one less than a power of two.
                    let first = memory.as_ref().as_ptr() as usize + before;
                    let offset = before + (first.wrapping_neg() & align);
                    let memory = gst::Memory::from_mut_slice(memory).into_glib_ptr();
                    // SAFETY: the memory is newly allocated with this size.
                    unsafe {
                        gst::ffi::gst_memory_resize(memory, offset as isize, size);
                        // Prefix and padding are zeroed.
                        (*memory).mini_object.flags |= params.flags().bits();
                    }
                    memory
                }
                // SAFETY: the default allocator, and parameters that live for
                // the call, which does not change them.
                None => unsafe {
                    let params = std::ptr::from_ref(params).cast_mut().cast();
                    gst::ffi::gst_allocator_alloc(std::ptr::null_mut(), size, params)
                },
            }
        }
    }
}
