//! Options of an upscaler.

use super::{DeviceChoice, Precision};

/// Options of the computation. They do not change the output, except for
/// [`UpscaleOptions::tile_overlap`], the precision, and the rounding
/// of means in networks with global pooling.
///
/// ```
/// use srfilter::{DeviceChoice, UpscaleOptions};
///
/// let options = UpscaleOptions::default().with_device(DeviceChoice::Cpu).with_threads(2);
/// assert_eq!(options.threads, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UpscaleOptions {
    /// The device.
    pub device: DeviceChoice,
    /// The networks' precision.
    pub precision: Precision,
    /// CPU threads; 0: one for each core.
    pub threads: usize,
    /// Size of a tile in samples of the network's input; on a GPU, rows of a
    /// band. 0: automatic.
    pub tile_size: usize,
    /// Bytes for the hidden layers of a network with global pooling, which runs
    /// in passes over tiles if it needs more; 0: half of the free memory.
    pub memory_limit: u64,
    /// Overlap in samples of the tiles of a whole-frame network (DRCT), which
    /// are averaged there: an approximation for images that do not fit the
    /// memory. 0: no tiles. Other networks' tiles are always exact.
    pub tile_overlap: usize,
}

impl UpscaleOptions {
    /// These with [`UpscaleOptions::device`].
    pub fn with_device(self, device: DeviceChoice) -> Self {
        Self { device, ..self }
    }

    /// These with [`UpscaleOptions::precision`].
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// These with [`UpscaleOptions::threads`].
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// These with [`UpscaleOptions::tile_size`], in samples.
    pub fn with_tile_size(self, tile_size: usize) -> Self {
        Self { tile_size, ..self }
    }

    /// These with [`UpscaleOptions::memory_limit`], in bytes.
    pub fn with_memory_limit(self, memory_limit: u64) -> Self {
        Self {
            memory_limit,
            ..self
        }
    }

    /// These with [`UpscaleOptions::tile_overlap`], in samples.
    pub fn with_tile_overlap(self, tile_overlap: usize) -> Self {
        Self {
            tile_overlap,
            ..self
        }
    }
}
