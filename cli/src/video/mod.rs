//! Video, by GStreamer.

mod clip;
pub(crate) mod convert;
pub(crate) mod encoder;
pub(crate) mod evaluate;
mod join;
mod matroska;
pub(crate) mod measure;
mod packets;
mod plan;
mod player;
mod segment;
mod source;
