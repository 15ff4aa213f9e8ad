//! How planes are divided into tiles.

use super::{ComputeDevice, Precision, UpscaleOptions, memory};
use crate::{Error, Result};
use candle_core::Device;

/// Side of a tile in samples, unless asked for: hidden layers of 64 channels
/// then take about 20 MiB a thread, and the halo costs an eighth.
pub(super) const TILE: usize = 256;

/// How planes may be divided.
#[derive(Debug, Clone)]
pub(super) struct TilingOptions {
    /// Where the network's weights are. To a GPU go tiles as large as they may be,
    /// and as many at once as its memory holds.
    pub(super) device: Device,
    /// Side of a tile in samples at most; 0: chosen here.
    pub(super) tile: usize,
    /// Threads to keep busy.
    pub(super) threads: usize,
    /// Bytes for what is inside a network that takes means over the picture, or
    /// sees it in tiles that overlap, on a GPU.
    pub(super) memory: u64,
    /// Samples that tiles of a network that sees the whole picture overlap by,
    /// to be overlapped_tile there; 0: it does see the whole picture.
    pub(super) overlap: usize,
    /// Whether a GPU may round the factors of products to TF32.
    pub(super) allow_tf32: bool,
}

impl TilingOptions {
    /// Side of the tiles of a network that sees the whole picture; `None`
    /// where it does.
    pub(super) fn overlapped_tile(&self) -> Option<usize> {
        let tile = if self.tile == 0 { TILE } else { self.tile };
        (self.overlap > 0).then_some(tile)
    }
}

impl TilingOptions {
    /// What the options ask for, on a device.
    ///
    /// # Errors
    ///
    /// Tiles that overlap by their size or more.
    pub(super) fn new(
        options: &UpscaleOptions,
        threads: usize,
        device: &ComputeDevice,
    ) -> Result<Self> {
        let tiling = Self {
            device: device.candle_device().clone(),
            tile: options.tile_size,
            threads,
            memory: match options.memory_limit {
                0 => memory::half(device),
                bytes => bytes,
            },
            overlap: options.tile_overlap,
            allow_tf32: options.precision != Precision::F32,
        };
        match tiling.overlapped_tile() {
            Some(tile) if tile <= options.tile_overlap => Err(Error::Setting(format!(
                "tiles of {tile} samples cannot overlap by {}: use larger tiles or a smaller \
                 overlap",
                options.tile_overlap
            ))),
            _ => Ok(tiling),
        }
    }
}
