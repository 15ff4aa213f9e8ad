//! Commands on video, by GStreamer.

pub(crate) mod measure;
mod player;
