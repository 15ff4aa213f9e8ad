//! Video, by GStreamer.

pub(crate) mod convert;
pub(crate) mod encoder;
mod join;
pub(crate) mod measure;
mod packets;
mod plan;
mod player;
mod segment;
mod source;
