//! Convolutions to a few channels, summed along the vectors.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

use super::group::{GROUP, base_pointers};
use super::winograd::{evaluate, interpolate};
use crate::ops::cpu::simd::{HORIZONTAL_SUMS, Vector};
use crate::ops::winograd::{MAX_POINTS, Tables, Variant};

/// The most channels that are summed along the vectors.
pub(crate) const MAX_DOT_CHANNELS: usize = 4;

/// The most kernels that a large one is cut into from top to bottom.
pub(crate) const MAX_KERNELS: usize = 3;

/// A convolution to a few channels, summed along the vectors.
pub(crate) struct DotProduct<'a> {
    /// The rows of the kernel's window of the first pixel.
    pub(crate) rows: &'a [*const f32],
    /// Samples of a row of the window: multiples of a pixel.
    pub(crate) len: usize,
    /// Distance of neighbouring pixels: whole groups or half a one.
    pub(crate) step: usize,
    /// By channel, row, sample.
    pub(crate) weights: *const f32,
    /// One for each channel.
    pub(crate) bias: &'a [f32],
    pub(crate) pixels: usize,
    /// One dense row for each channel.
    pub(crate) out: &'a [*mut f32],
}

/// Rows of a convolution to a few channels: Winograd's transform down the
/// columns, products summed along the vectors.
pub(crate) struct WinogradColumns<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// The rows of the kernels' windows of the first pixel: those of the first
    /// kernel, and as many more for each further one as a kernel is high.
    pub(crate) rows: &'a [*const f32],
    /// Kernels, one below the other.
    pub(crate) kernels: usize,
    /// Samples of a row of the window: multiples of a pixel.
    pub(crate) len: usize,
    /// Distance of neighbouring pixels: whole groups or half a one.
    pub(crate) step: usize,
    /// By point, channel, kernel, sample.
    pub(crate) weights: *const f32,
    /// One for each channel.
    pub(crate) bias: &'a [f32],
    pub(crate) pixels: usize,
    /// Scratch of [`WinogradColumns::transformed_floats`] floats.
    pub(crate) transformed: *mut f32,
    /// Scratch of [`WinogradColumns::product_floats`] floats.
    pub(crate) products: *mut f32,
    /// By row, channel: one dense row, whole groups.
    pub(crate) out: *mut f32,
    /// Distance of these rows: whole groups.
    pub(crate) pitch: usize,
}

impl WinogradColumns<'_> {
    /// Pixels that are summed together: their transformed rows stay in the cache.
    const BLOCK: usize = 3 * GROUP;

    /// Floats of the transformed rows of a block of pixels, each of `step` samples.
    pub(crate) fn transformed_floats(
        variant: Variant,
        kernels: usize,
        len: usize,
        step: usize,
    ) -> usize {
        kernels * variant.points() * Self::row(len, step)
    }

    /// Floats of the sums of a block.
    pub(crate) fn product_floats(variant: Variant, channels: usize) -> usize {
        channels * variant.points() * Self::BLOCK
    }

    /// Floats of a transformed row of a block.
    fn row(len: usize, step: usize) -> usize {
        (Self::BLOCK - 1) * step + len
    }
}

/// [`DotProduct`] at a level: `ONE` pixels at a time for one channel, or `THREE` for
/// three.
#[inline(always)]
pub(super) unsafe fn dot_product<
    V: Vector,
    const W: usize,
    const ONE: usize,
    const THREE: usize,
>(
    a: &DotProduct<'_>,
) {
    // SAFETY: operands in memory.
    unsafe {
        let mut channel = 0;
        while channel < a.bias.len() {
            let three = a.bias.len() - channel >= 3;
            let mut pixel = 0;
            while pixel < a.pixels {
                let left = a.pixels - pixel;
                pixel += match three {
                    true if left >= THREE => dot_block::<V, W, THREE, 3>(a, channel, pixel),
                    true => dot_block::<V, W, 1, 3>(a, channel, pixel),
                    false if left >= ONE => dot_block::<V, W, ONE, 1>(a, channel, pixel),
                    false => dot_block::<V, W, 1, 1>(a, channel, pixel),
                };
            }
            channel += if three { 3 } else { 1 };
        }
    }
}

/// `P` pixels of `C` channels; returns `P`.
#[inline(always)]
unsafe fn dot_block<V: Vector, const W: usize, const P: usize, const C: usize>(
    a: &DotProduct<'_>,
    channel: usize,
    pixel: usize,
) -> usize {
    // SAFETY: operands in memory.
    unsafe {
        let mut sums = [[[V::splat(0.0); W]; C]; P];
        let window = a.rows.len() * a.len;
        let mut weights = a.weights.add(channel * window);
        for &row in a.rows {
            let bases = base_pointers::<P>(row.add(pixel * a.step), a.step);
            for at in (0..a.len).step_by(W * V::LANES) {
                for w in 0..W {
                    let at = at + w * V::LANES;
                    let mut factors = [V::splat(0.0); C];
                    for c in 0..C {
                        factors[c] = V::load(weights.add(c * window + at));
                    }
                    for p in 0..P {
                        let value = V::load(bases[p / 3].add(p % 3 * a.step + at));
                        for c in 0..C {
                            sums[p][c][w] = sums[p][c][w].mul_add(factors[c], value);
                        }
                    }
                }
            }
            weights = weights.add(a.len);
        }
        for c in 0..C {
            let bias = *a.bias.get_unchecked(channel + c);
            let out = (*a.out.get_unchecked(channel + c)).add(pixel);
            for p in (0..P).step_by(HORIZONTAL_SUMS) {
                let mut vectors = [V::splat(0.0); HORIZONTAL_SUMS];
                for i in 0..HORIZONTAL_SUMS.min(P - p) {
                    let mut parts = sums[p + i][c];
                    let mut count = W;
                    while count > 1 {
                        count /= 2;
                        for w in 0..count {
                            parts[w] = parts[w].add(parts[w + count]);
                        }
                    }
                    vectors[i] = parts[0];
                }
                if P - p >= HORIZONTAL_SUMS {
                    let totals = V::horizontal_sums(vectors);
                    for i in 0..HORIZONTAL_SUMS {
                        *out.add(p + i) = totals[i] + bias;
                    }
                } else {
                    for i in 0..P - p {
                        *out.add(p + i) = vectors[i].horizontal_sum() + bias;
                    }
                }
            }
        }
        P
    }
}

/// [`WinogradColumns`] at a level, as [`dot_product`].
#[inline(always)]
pub(super) unsafe fn winograd_columns<
    V: Vector,
    const W: usize,
    const ONE: usize,
    const THREE: usize,
>(
    a: &WinogradColumns<'_>,
) {
    // SAFETY: operands in memory.
    unsafe {
        match a.variant {
            Variant::F4x3 => column_blocks::<V, W, ONE, THREE, 2, 4>(a),
            Variant::F6x3 => column_blocks::<V, W, ONE, THREE, 3, 6>(a),
            Variant::F4x5 => column_blocks::<V, W, ONE, THREE, 3, 4>(a),
            Variant::F6x5 => column_blocks::<V, W, ONE, THREE, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn column_blocks<
    V: Vector,
    const W: usize,
    const ONE: usize,
    const THREE: usize,
    const PAIRS: usize,
    const M: usize,
>(
    a: &WinogradColumns<'_>,
) {
    let n = 2 * PAIRS + 2;
    let channels = a.bias.len();
    let row = WinogradColumns::row(a.len, a.step);
    let no_bias = [0.0; MAX_DOT_CHANNELS];
    // SAFETY: rows reach to the last sample of the last pixel's window, and
    // the scratch holds a block.
    unsafe {
        for first in (0..a.pixels).step_by(WinogradColumns::BLOCK) {
            let pixels = (a.pixels - first).min(WinogradColumns::BLOCK);
            for kernel in 0..a.kernels {
                let rows: &[*const f32] = &a.rows[kernel * a.variant.kernel()..][..n];
                let transformed = a.transformed.add(kernel * n * row);
                for at in (0..(pixels - 1) * a.step + a.len).step_by(V::LANES) {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for y in 0..n {
                        x[y] = V::load(rows.get_unchecked(y).add(first * a.step + at));
                    }
                    evaluate::<V, PAIRS>(a.tables, &x, |y, value| {
                        value.store(transformed.add(y * row + at));
                    });
                }
            }
            for point in 0..n {
                let mut rows = [std::ptr::null(); MAX_KERNELS];
                for kernel in 0..a.kernels {
                    rows[kernel] = a.transformed.add((kernel * n + point) * row).cast_const();
                }
                let mut out = [std::ptr::null_mut(); MAX_DOT_CHANNELS];
                for channel in 0..channels {
                    let line = channel * n + point;
                    out[channel] = a.products.add(line * WinogradColumns::BLOCK);
                }
                dot_product::<V, W, ONE, THREE>(&DotProduct {
                    rows: &rows[..a.kernels],
                    len: a.len,
                    step: a.step,
                    weights: a.weights.add(point * channels * a.kernels * a.len),
                    bias: &no_bias[..channels],
                    pixels,
                    out: &out[..channels],
                });
            }
            for channel in 0..channels {
                let bias = V::splat(a.bias[channel]);
                let products = a.products.add(channel * n * WinogradColumns::BLOCK);
                for at in (0..pixels).step_by(V::LANES) {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for point in 0..n {
                        x[point] = V::load(products.add(point * WinogradColumns::BLOCK + at));
                    }
                    let out = a.out.add(channel * a.pitch + first + at);
                    interpolate::<V, PAIRS, M>(a.tables, &x, |y, value| {
                        value.add(bias).store(out.add(y * channels * a.pitch));
                    });
                }
            }
        }
    }
}
