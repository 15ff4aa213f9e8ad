//! The two inner loops, written once for vectors of any width.
//!
//! Every result of [`Strip`] starts at its bias and takes one fused
//! multiply-add per tap, input channel by input channel and row by row of the
//! kernel. Its bits therefore depend on its own inputs alone: not on the
//! vector width, the place in the image, the way the work is divided, or the
//! number of threads.
//!
//! [`Products`] sums along the vectors, in [`PARTIAL_SUMS`] partial sums at
//! every level: value `i` of a stretch goes to sum `i % PARTIAL_SUMS`, by one
//! fused multiply-add. A level whose vectors are shorter passes over the
//! stretch several times, each time for a part of the sums, so that its bits
//! are those of the longest vectors.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over the tile unroll into registers and read alike"
)]

use super::planes::{LINE, SLACK};
use super::simd::Vector;

/// Partial sums of a gradient of a weight: the lanes of the longest vector.
pub(super) const PARTIAL_SUMS: usize = LINE;

/// A convolution along a line: a few output channels of a stretch of a plane.
pub(super) struct Strip<'a> {
    /// From where the stretch begins in the plane of the first input channel.
    pub(super) input: &'a [f32],
    /// Distance of the planes of neighbouring input channels.
    pub(super) stride: usize,
    pub(super) channels: usize,
    /// Where each tap reads, relative to its result.
    pub(super) taps: &'a [usize],
    /// By input channel, then tap, then output channel.
    pub(super) weights: &'a [f32],
    /// One for each output channel.
    pub(super) bias: &'a [f32],
    pub(super) relu: bool,
    /// One row for each output channel, a whole number of tiles long.
    pub(super) out: &'a mut [f32],
}

/// Sums of products along a line: a few output channels against a few taps.
pub(super) struct Products<'a> {
    /// From where the stretch begins in the plane of the first output channel.
    pub(super) grad: &'a [f32],
    /// Distance of the planes of neighbouring output channels.
    pub(super) stride: usize,
    pub(super) outputs: usize,
    /// From where the stretch begins in the plane of the first input channel.
    pub(super) input: &'a [f32],
    /// Where each tap reads, as many as the tile has vectors.
    pub(super) taps: &'a [usize],
    /// Length of the stretch, a multiple of [`PARTIAL_SUMS`].
    pub(super) len: usize,
    /// [`PARTIAL_SUMS`] by output channel, then tap; added to.
    pub(super) sums: &'a mut [f32],
}

/// The inner loops at one level.
pub(in crate::ops) struct Kernels {
    pub(super) lanes: usize,
    /// Pairs of output channels in a tile and vectors to each, the largest
    /// first and down to a single channel.
    pub(super) tiles: &'static [(usize, usize)],
    /// May be called where the level is available, with a checked strip.
    pub(super) strip: unsafe fn(&mut Strip<'_>),
    /// May be called where the level is available, with checked products.
    pub(super) products: unsafe fn(&mut Products<'_>),
}

impl Kernels {
    /// How many of the remaining output channels the next tile takes.
    pub(super) fn outputs(&self, remaining: usize) -> usize {
        let fits = self.tiles.iter().find(|tile| tile.0 <= remaining);
        fits.map_or(1, |tile| tile.0)
    }

    /// Vectors to each output channel of a tile.
    pub(super) fn vectors(&self, outputs: usize) -> usize {
        let tile = self.tiles.iter().find(|tile| tile.0 == outputs);
        tile.map_or(1, |tile| tile.1)
    }

    /// Results to each output channel of a tile.
    pub(super) fn tile(&self, outputs: usize) -> usize {
        self.vectors(outputs) * self.lanes
    }

    pub(super) fn run_strip(&self, mut strip: Strip<'_>) {
        let outputs = strip.bias.len();
        let row = strip.out.len() / outputs;
        let reach = strip.taps.iter().max().copied().unwrap_or(0);
        assert!(self.tiles.iter().any(|tile| tile.0 == outputs));
        assert!(strip.channels > 0 && row.is_multiple_of(self.tile(outputs)));
        assert_eq!(strip.out.len(), row * outputs);
        assert_eq!(
            strip.weights.len(),
            strip.channels * strip.taps.len() * outputs
        );
        assert!(strip.input.len() >= (strip.channels - 1) * strip.stride + reach + row);
        // SAFETY: `Kernels::of` gives out kernels of available levels only,
        // and all that the strip reads and writes was just found to be there.
        unsafe { (self.strip)(&mut strip) }
    }

    pub(super) fn run_products(&self, mut products: Products<'_>) {
        let Products { outputs, len, .. } = products;
        let reach = products.taps.iter().max().copied().unwrap_or(0);
        assert!(self.tiles.contains(&(outputs, products.taps.len())));
        assert!(len.is_multiple_of(PARTIAL_SUMS));
        assert!(products.grad.len() >= (outputs - 1) * products.stride + len);
        assert!(products.input.len() >= reach + len);
        assert_eq!(
            products.sums.len(),
            outputs * products.taps.len() * PARTIAL_SUMS
        );
        // SAFETY: `Kernels::of` gives out kernels of available levels only,
        // and all that the products read and write was just found to be there.
        unsafe { (self.products)(&mut products) }
    }
}

/// Taps that are worked through before the next tile: their weights, 8 output
/// channels wide, fill a quarter of the nearest cache, and storing the sums in
/// between takes a hundredth of the time.
const TAPS_PER_PASS: usize = 384;

/// Computes a strip in tiles of `C` output channels by `N` vectors.
///
/// # Safety
///
/// The instruction set of `V` is enabled, and the strip is checked for `C`
/// output channels and this tile.
#[inline(always)]
pub(super) unsafe fn strip<V: Vector, const C: usize, const N: usize>(strip: &mut Strip<'_>) {
    let row = strip.out.len() / C;
    let pass = (TAPS_PER_PASS / strip.taps.len()).max(1);
    for first in (0..strip.channels).step_by(pass) {
        let last = (first + pass).min(strip.channels);
        for at in (0..row).step_by(N * V::LANES) {
            // SAFETY: `at` stays a tile away from the end of the row, and the
            // channels below the number of channels.
            unsafe { tile::<V, C, N>(strip, row, at, first..last) }
        }
    }
}

/// Adds a range of input channels to one tile.
///
/// # Safety
///
/// As for [`strip`], with a tile and channels within the strip.
#[inline(always)]
unsafe fn tile<V: Vector, const C: usize, const N: usize>(
    strip: &mut Strip<'_>,
    row: usize,
    at: usize,
    channels: std::ops::Range<usize>,
) {
    // SAFETY: as the caller promises, there are `C` rows with a tile at `at`,
    // `C` biases, `C` weights to each tap of each channel, and input as far as
    // the last tap of the last channel reaches.
    unsafe {
        let out = strip.out.as_mut_ptr().add(at);
        let mut weights = strip.weights.as_ptr();
        weights = weights.add(channels.start * strip.taps.len() * C);
        let mut sums = [[V::splat(0.0); N]; C];
        for c in 0..C {
            for n in 0..N {
                sums[c][n] = if channels.start == 0 {
                    V::splat(*strip.bias.get_unchecked(c))
                } else {
                    V::load(out.add(c * row + n * V::LANES))
                };
            }
        }
        for channel in channels.clone() {
            let plane = strip.input.as_ptr().add(channel * strip.stride + at);
            for &tap in strip.taps {
                let mut values = [V::splat(0.0); N];
                for n in 0..N {
                    values[n] = V::load(plane.add(tap).add(n * V::LANES));
                }
                for c in 0..C {
                    let weight = V::splat(*weights.add(c));
                    for n in 0..N {
                        sums[c][n] = sums[c][n].mul_add(weight, values[n]);
                    }
                }
                weights = weights.add(C);
            }
        }
        let relu = strip.relu && channels.end == strip.channels;
        for c in 0..C {
            for n in 0..N {
                let sum = if relu { sums[c][n].relu() } else { sums[c][n] };
                sum.store(out.add(c * row + n * V::LANES));
            }
        }
    }
}

/// Adds the products of `C` output channels and `N` taps to their sums.
///
/// # Safety
///
/// The instruction set of `V` is enabled, and the products are checked for `C`
/// output channels and `N` taps.
#[inline(always)]
pub(super) unsafe fn products<V: Vector, const C: usize, const N: usize>(
    products: &mut Products<'_>,
) {
    const { assert!(PARTIAL_SUMS.is_multiple_of(V::LANES)) };
    for first in (0..PARTIAL_SUMS).step_by(V::LANES) {
        // SAFETY: the caller's promise, and a vector of the partial sums
        // begins at `first`.
        unsafe { partial_products::<V, C, N>(products, first) }
    }
}

/// [`products`] for the vector of partial sums that begins at `first`.
///
/// # Safety
///
/// As for [`products`], with `first + V::LANES <= PARTIAL_SUMS`.
#[inline(always)]
unsafe fn partial_products<V: Vector, const C: usize, const N: usize>(
    products: &mut Products<'_>,
    first: usize,
) {
    // SAFETY: as the caller promises, there are `N` taps, `C * N` times
    // `PARTIAL_SUMS` sums, and `len` values, a multiple of `PARTIAL_SUMS`, of
    // each output channel and behind each tap.
    unsafe {
        let totals = products.sums.as_mut_ptr().add(first);
        let mut inputs = [products.input.as_ptr(); N];
        for n in 0..N {
            inputs[n] = inputs[n].add(*products.taps.get_unchecked(n));
        }
        let mut grads = [products.grad.as_ptr(); C];
        for c in 0..C {
            grads[c] = grads[c].add(c * products.stride);
        }
        let mut sums = [[V::splat(0.0); N]; C];
        for c in 0..C {
            for n in 0..N {
                sums[c][n] = V::load(totals.add((c * N + n) * PARTIAL_SUMS));
            }
        }
        for at in (first..products.len).step_by(PARTIAL_SUMS) {
            let mut values = [V::splat(0.0); N];
            for n in 0..N {
                values[n] = V::load(inputs[n].add(at));
            }
            for c in 0..C {
                let grad = V::load(grads[c].add(at));
                for n in 0..N {
                    sums[c][n] = sums[c][n].mul_add(grad, values[n]);
                }
            }
        }
        for c in 0..C {
            for n in 0..N {
                sums[c][n].store(totals.add((c * N + n) * PARTIAL_SUMS));
            }
        }
    }
}

/// The longest tile that a level may have.
pub(super) const LONGEST: usize = SLACK;
