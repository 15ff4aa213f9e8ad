//! Pages of memory.

use std::hint::black_box;

/// Samples in the smallest page of the usual systems, 4 KiB.
const PAGE: usize = 4096 / size_of::<f32>();

/// Writes to each page of a buffer and changes nothing: systems provide the pages of
/// zeroed memory on first use.
pub(crate) fn touch(buffer: &mut [f32]) {
    for page in buffer.chunks_mut(PAGE) {
        page[0] = black_box(page[0]);
    }
}
