//! Division of planes into tiles.

use super::{ComputeDevice, UpscaleOptions};
use crate::chain::Precision;
use crate::models::ScaleNetwork;
use crate::{Error, Result};
use candle_core::Device;

/// Default size of a tile in samples: hidden layers of 64 channels then take
/// about 20 MiB a thread, and the halo costs an eighth.
pub(super) const TILE: usize = 256;

/// Size of the smallest tile of a network with global pooling.
pub(super) const SMALLEST: usize = 16;

/// Bytes for tiles if a device's free memory is unknown.
const UNKNOWN_MEMORY: u64 = 2 << 30;

/// Width and height of the smallest tile, with its halo, of a network with
/// global pooling.
pub(super) fn smallest_pooled_tile(
    network: &dyn ScaleNetwork,
    (width, height): (usize, usize),
) -> (usize, usize) {
    let side = SMALLEST + 2 * network.halo();
    (width.min(side), height.min(side))
}

/// Options of the division.
#[derive(Debug, Clone)]
pub(super) struct TilingOptions {
    /// The device of the network's weights. A GPU gets tiles and batches as
    /// large as fit its memory.
    pub(super) device: Device,
    /// Largest width and height of a tile in samples; 0: automatic.
    pub(super) tile_size: usize,
    /// Threads to keep busy.
    pub(super) threads: usize,
    /// Bytes for the hidden layers of a network with global pooling or, on a
    /// GPU, in overlapping tiles.
    pub(super) memory: u64,
    /// Overlap in samples of the tiles of a whole-frame network; 0: it runs on
    /// whole frames.
    pub(super) tile_overlap: usize,
    /// Whether a GPU may compute in TF32.
    pub(super) allow_tf32: bool,
}

impl TilingOptions {
    /// Size of the tiles of a whole-frame network; `None` if it runs on whole
    /// frames.
    pub(super) fn overlapped_tile(&self) -> Option<usize> {
        let tile = match self.tile_size {
            0 => TILE,
            side => side,
        };
        (self.tile_overlap > 0).then_some(tile)
    }

    /// The tiling according to the options, on a device.
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
            tile_size: options.tile_size,
            threads,
            memory: match options.memory_limit {
                0 => device.free_memory().unwrap_or(UNKNOWN_MEMORY) / 2,
                bytes => bytes,
            },
            tile_overlap: options.tile_overlap,
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
