//! Groups of channels, and pointers to blocks of pixels.

use std::hint::black_box;

/// Channels that are stored together.
pub(crate) const GROUP: usize = 16;

/// The same for pixels of no more channels than that, which fill half of a group.
pub(crate) const NARROW: usize = GROUP / 2;

/// Pointers to every third of `P` pixels: the address of a pixel is one of them
/// and once or twice the stride. Without the black box the compiler adds strides
/// up one after the other.
#[inline(always)]
pub(super) unsafe fn base_pointers<const P: usize>(
    first: *const f32,
    step: usize,
) -> [*const f32; 4] {
    const { assert!(P <= 12) };
    let mut bases = [first; 4];
    for (i, base) in bases.iter_mut().enumerate().take(P.div_ceil(3)) {
        // SAFETY: operands in memory, `P` pixels of them.
        *base = black_box(unsafe { first.add(i * 3 * step) });
    }
    bases
}
