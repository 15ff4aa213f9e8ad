//! Helpers of several test files.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod numbered;

use std::sync::Once;

/// Longest wait for a pipeline before the test fails.
pub const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// Initialises GStreamer, and registers the element.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsrfilter::plugin_register_static().expect("plugin registers");
    });
}
