//! The loops, for registers of any width.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

use super::integers::{Integers, SkipWords};
use super::{QUAD, RequantizeQuad};

/// A row that a kernel reads: planes of words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputRow {
    /// The word of the first pixel's first tap, in the first plane.
    pub(crate) first: *const u32,
    /// Words from plane to plane.
    pub(crate) plane: usize,
}

/// A row of a convolution in integers.
pub(crate) struct QuantizedConv<'a> {
    /// The rows of the kernel.
    pub(crate) rows: &'a [InputRow],
    /// Planes of words.
    pub(crate) planes: usize,
    /// Words that are read from each row of a plane for a pixel.
    pub(crate) taps: usize,
    /// Pixels from tap to tap: words of an input plane hold two of them.
    pub(crate) tap_step: usize,
    /// By four output channels, then row, tap, plane, channel.
    pub(crate) weights: &'a [i32],
    /// For each four output channels.
    pub(crate) quads: &'a [RequantizeQuad],
    pub(crate) pixels: usize,
    pub(crate) output: Output<'a>,
}

/// Where the results go, and as what.
pub(crate) enum Output<'a> {
    Samples(Samples<'a>),
    Lines(Lines<'a>),
}

/// Results as samples, in planes of words.
pub(crate) struct Samples<'a> {
    /// The sample of 0.
    pub(crate) zero: u8,
    /// The first word of each row of a square of the shuffle.
    pub(crate) rows: &'a [*mut u32],
    /// Words from plane to plane.
    pub(crate) plane: usize,
    /// Side of the pixel shuffle; the channels of a square's first pixel come first.
    pub(crate) shuffle: usize,
    pub(crate) skip: Option<Skip>,
}

/// A row of samples that is added.
#[derive(Clone, Copy)]
pub(crate) struct Skip {
    pub(crate) row: InputRow,
    /// The sample of 0.
    pub(crate) zero: u8,
    /// The value of a step in steps of the result, times 2^8.
    pub(crate) multiplier: i16,
}

/// Results as f32, in dense lines by channel.
pub(crate) struct Lines<'a> {
    /// The value of a sum's step, and the bias, of each channel.
    pub(crate) scales: &'a [(f32, f32)],
    pub(crate) out: *mut f32,
    /// Floats from line to line: whole vectors.
    pub(crate) pitch: usize,
}

/// Registers of pixels at a time.
const VECTORS: usize = 4;

/// The largest number of lanes.
const MAX_LANES: usize = 16;

/// A convolution of samples, or of `PAIRS` of 16-bit values.
///
/// # Safety
///
/// Operands in memory, and the instructions of `V` are enabled.
#[inline(always)]
pub(super) unsafe fn conv<V: Integers, const PAIRS: bool>(a: &QuantizedConv<'_>) {
    let words = a.rows.len() * a.taps * a.planes * QUAD;
    // SAFETY: operands in memory.
    unsafe {
        for (index, weights) in a.weights.chunks_exact(words).enumerate() {
            let mut pixel = 0;
            while pixel < a.pixels {
                let at = (index, pixel);
                let weights = weights.as_ptr();
                pixel += match (a.pixels - pixel).div_ceil(V::LANES) {
                    1 => block::<V, PAIRS, 1>(a, at, weights),
                    2 => block::<V, PAIRS, 2>(a, at, weights),
                    3 => block::<V, PAIRS, 3>(a, at, weights),
                    _ => block::<V, PAIRS, VECTORS>(a, at, weights),
                };
            }
        }
    }
}

/// Four channels, number `index` of them, of `X` registers of pixels from `pixel` on.
/// Returns the number of pixels.
#[inline(always)]
unsafe fn block<V: Integers, const PAIRS: bool, const X: usize>(
    a: &QuantizedConv<'_>,
    (index, pixel): (usize, usize),
    mut weights: *const i32,
) -> usize {
    // SAFETY: operands in memory; the weights are as many as the loops take.
    unsafe {
        let quad = &a.quads[index];
        let mut sums = [[V::splat(0); X]; QUAD];
        for o in 0..QUAD {
            let mut bias = quad.bias[o];
            if V::SIGNED && !PAIRS {
                bias = bias.wrapping_add(128 * quad.weight_sums[o]);
            }
            sums[o] = [V::splat(bias); X];
        }
        for row in a.rows {
            for tap in 0..a.taps {
                let mut input = row.first.add(pixel + tap * a.tap_step);
                for _ in 0..a.planes {
                    let mut words = [V::splat(0); X];
                    for x in 0..X {
                        let from = input.add(x * V::LANES);
                        words[x] = match PAIRS {
                            true => V::load(from),
                            false => V::load_samples(from),
                        };
                    }
                    for o in 0..QUAD {
                        let weight = V::splat(*weights.add(o));
                        for x in 0..X {
                            sums[o][x] = match PAIRS {
                                true => sums[o][x].dot_pairs(words[x], weight),
                                false => sums[o][x].dot_samples(words[x], weight),
                            };
                        }
                    }
                    weights = weights.add(QUAD);
                    input = input.wrapping_add(row.plane);
                }
            }
        }
        let count = (X * V::LANES).min(a.pixels - pixel);
        match &a.output {
            Output::Samples(samples) => {
                for x in 0..X {
                    let sums = [sums[0][x], sums[1][x], sums[2][x], sums[3][x]];
                    let at = pixel + x * V::LANES;
                    let left = a.pixels - at;
                    store_samples::<V>(samples, quad, (index, at, left), sums, a.quads.len());
                }
            }
            Output::Lines(lines) => {
                for o in 0..QUAD {
                    let channel = index * QUAD + o;
                    let Some(&(scale, bias)) = lines.scales.get(channel) else {
                        break;
                    };
                    for x in 0..X {
                        let at = channel * lines.pitch + pixel + x * V::LANES;
                        sums[o][x].store_scaled(scale, bias, lines.out.add(at));
                    }
                }
            }
        }
        count
    }
}

/// Rounds sums to samples and stores as many of them as are left in the row.
#[inline(always)]
unsafe fn store_samples<V: Integers>(
    samples: &Samples<'_>,
    quad: &RequantizeQuad,
    (index, pixel, left): (usize, usize, usize),
    sums: [V; QUAD],
    quads: usize,
) {
    let r = samples.shuffle;
    let planes = quads / (r * r);
    let (phase, plane) = (index / planes, index % planes);
    // SAFETY: operands in memory.
    unsafe {
        let skip = samples.skip.map(|skip| SkipWords {
            words: V::load(skip.row.first.add(plane * skip.row.plane + pixel)),
            zero: skip.zero,
            multiplier: skip.multiplier,
        });
        let words = V::requantized(sums, quad, samples.zero, skip);
        let row = samples.rows[phase / r].add(plane * samples.plane + phase % r);
        if r == 1 && left >= V::LANES {
            return words.store(row.add(pixel));
        }
        let mut some = [0; MAX_LANES];
        words.store(some.as_mut_ptr());
        for (i, &word) in some[..left.min(V::LANES)].iter().enumerate() {
            *row.add((pixel + i) * r) = word;
        }
    }
}
