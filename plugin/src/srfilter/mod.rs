//! The element `srfilter`.

use gst::glib;
use gst::prelude::*;

mod ahead;
mod allocation;
mod background;
mod caps;
mod changes;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
mod cuda;
mod damage;
mod damage_tracker;
mod deadline;
mod governor;
#[cfg(feature = "cuda")]
mod host_memory;
mod imp;
mod interlaced;
mod ladder;
mod limits;
mod log;
mod metas;
mod meter;
mod overload;
mod pipelining;
mod preparing;
mod presets;
mod processor_load;
mod reuse;
mod scan;
mod settings;
mod shape;
mod stats;
mod switching;
mod timing;
mod video;
mod view;

pub use imp::Element as SrFilter;

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "srfilter",
        gst::Rank::NONE,
        SrFilter::static_type(),
    )
}
