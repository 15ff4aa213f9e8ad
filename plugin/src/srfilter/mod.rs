//! The element `srfilter`.

use gst::glib;
use gst::prelude::*;

mod caps;
mod imp;
mod metas;
mod video;

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
