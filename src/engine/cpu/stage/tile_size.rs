//! Sizes and positions of tiles.

use crate::engine::tiling::{SMALLEST, TilingOptions};
use crate::models::BoxedScaleNetwork;

/// First samples of tiles that overlap by at least `overlap`; the last one ends
/// at the image's edge.
pub(super) fn starts(len: usize, tile: usize, overlap: usize) -> Vec<usize> {
    let step = tile.saturating_sub(overlap).max(1);
    let last = len.saturating_sub(tile);
    (0..last).step_by(step).chain([last]).collect()
}

/// The number of tiles in a batch that fits `memory` bytes, and the 32-bit
/// element counts of candle's kernels.
pub(super) fn batch(
    network: &BoxedScaleNetwork,
    (width, height): (usize, usize),
    memory: u64,
) -> usize {
    let values = (network.working_set().max(1) * width * height) as u64;
    let limit = (memory / size_of::<f32>() as u64).min(u32::MAX.into());
    usize::try_from(limit / values).unwrap_or(usize::MAX).max(1)
}

/// Width and height of a tile of a network with global pooling: the whole image
/// if it fits the memory, since every mean takes a pass over all tiles.
pub(super) fn pooled_tile(
    network: &BoxedScaleNetwork,
    size: (usize, usize),
    tiling: &TilingOptions,
) -> (usize, usize) {
    let halo = 2 * network.halo();
    let bytes = network.working_set().max(1) * size_of::<f32>();
    let fits = usize::try_from(tiling.memory).unwrap_or(usize::MAX) / bytes;
    if tiling.tile_size == 0 && size.0 * size.1 <= fits {
        return size;
    }
    let limit = match tiling.tile_size {
        0 => usize::MAX,
        side => side,
    };
    let within =
        |side: usize, len: usize| side.saturating_sub(halo).max(SMALLEST).min(limit).min(len);
    let columns = within(fits.isqrt(), size.0);
    (columns, within(fits / (columns + halo), size.1))
}
