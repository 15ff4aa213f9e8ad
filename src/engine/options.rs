//! How an upscaler computes.

use super::{DeviceChoice, Precision};

/// How an upscaler computes. Nothing here changes the result, but for
/// [`UpscaleOptions::tile_overlap`], for the precision of a GPU, and for the rounding of
/// means over the whole image, where a network takes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpscaleOptions {
    /// The device.
    pub device: DeviceChoice,
    /// The numbers that a GPU computes networks with.
    pub precision: Precision,
    /// CPU threads; 0: one for each core.
    pub threads: usize,
    /// Size of a tile in samples that the network sees; on a GPU, rows of a
    /// band. 0: chosen by the engine.
    pub tile_size: usize,
    /// Bytes for what is inside a network that takes means over the whole
    /// image, which runs in passes over tiles where it needs more; 0: half
    /// of what is free.
    pub memory_limit: u64,
    /// Lets a network that sees the whole image (DRCT) see tiles instead,
    /// which overlap by that many samples and are averaged there: an
    /// approximation, for images that do not fit the memory. 0: not so.
    /// Other networks' tiles are exact, and stay so.
    pub tile_overlap: usize,
}
