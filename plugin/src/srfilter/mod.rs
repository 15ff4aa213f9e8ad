//! The element `srfilter`.

use gst::glib;
use gst::prelude::*;

mod allocation;
mod caps;
mod changes;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
mod cuda;
mod deadline;
#[cfg(feature = "cuda")]
mod host_memory;
mod imp;
mod interlaced;
mod log;
mod metas;
mod pipelining;
mod reuse;
mod scan;
mod settings;
mod shape;
mod stats;
mod switching;
mod timing;
mod video;

pub use imp::Element as SrFilter;

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "srfilter",
        gst::Rank::NONE,
        SrFilter::static_type(),
    )
}
