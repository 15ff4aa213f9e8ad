//! GStreamer plugin `srfilter`: the element of the same name upscales video
//! with the networks of the `srfilter` library.
//!
//! Rust applications may link this crate and call [`plugin_register_static`]
//! instead of installing `libgstsrfilter.so`.
//!
//! ```sh
//! gst-launch-1.0 videotestsrc ! srfilter model=hypersrcnn scale=2 ! videoconvert ! autovideosink
//! ```

// The macro below defines functions without documentation.
#![allow(missing_docs)]

use gst::glib;

mod srfilter;

pub use crate::srfilter::SrFilter;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    crate::srfilter::register(plugin)
}

gst::plugin_define!(
    srfilter,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
