//! Pages of memory.

use crate::background::{give_way, is_in_background};
use std::hint::black_box;

/// Samples in the smallest page of the usual systems, 4 KiB.
const PAGE: usize = 4096 / size_of::<f32>();

/// Pages between pauses of background work.
const PAGES: usize = 256;

/// Zeroed samples: written here if the calling thread works in the background, with
/// pauses, and else on first use, where the allocator has fresh pages.
pub(crate) fn zeroed(len: usize) -> Vec<f32> {
    if !is_in_background() {
        return vec![0.0; len];
    }
    let mut buffer = Vec::with_capacity(len);
    while buffer.len() < len {
        give_way();
        buffer.resize(len.min(buffer.len() + PAGES * PAGE), 0.0);
    }
    buffer
}

/// Writes to each page of a buffer and changes nothing: systems provide the pages of
/// zeroed memory on first use.
pub(crate) fn touch(buffer: &mut [f32]) {
    for pages in buffer.chunks_mut(PAGES * PAGE) {
        give_way();
        for page in pages.chunks_mut(PAGE) {
            page[0] = black_box(page[0]);
        }
    }
}
