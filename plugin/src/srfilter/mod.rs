//! The element `srfilter`.

use gst::glib;
use gst::prelude::*;
use std::sync::LazyLock;

mod caps;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
mod cuda;
#[cfg(feature = "cuda")]
mod host_memory;
mod imp;
mod metas;
mod video;

/// Where all of it logs.
static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "srfilter",
        gst::DebugColorFlags::empty(),
        Some("Neural super-resolution"),
    )
});

glib::wrapper! {
    /// The element; see `gst-inspect-1.0 srfilter`.
    pub struct SrFilter(ObjectSubclass<imp::SrFilter>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "srfilter",
        gst::Rank::NONE,
        SrFilter::static_type(),
    )
}
