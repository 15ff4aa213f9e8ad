//! The loops, for registers of any width.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

use super::integers::{Integers, SkipWords};
use super::quad::{QUAD, RequantizeQuad};

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
    /// The value of a step in steps of the result, times 2^11.
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
    let vectors = a.pixels.div_ceil(V::LANES);
    let blocks = vectors.div_ceil(V::VECTORS);
    // SAFETY: operands in memory.
    unsafe {
        for (index, weights) in a.weights.chunks_exact(words).enumerate() {
            let target = Target::new(a, index);
            // Even blocks: in short ones the sums wait for each other.
            for block in 0..blocks {
                let (first, end) = (block * vectors / blocks, (block + 1) * vectors / blocks);
                let (pixel, weights) = (first * V::LANES, weights.as_ptr());
                match end - first {
                    1 => self::block::<V, PAIRS, 1>(a, &target, pixel, weights),
                    2 => self::block::<V, PAIRS, 2>(a, &target, pixel, weights),
                    3 => self::block::<V, PAIRS, 3>(a, &target, pixel, weights),
                    _ => self::block::<V, PAIRS, 4>(a, &target, pixel, weights),
                }
            }
        }
    }
}

/// Where the results of four channels go.
struct Target<'a> {
    quad: &'a RequantizeQuad,
    samples: Option<SampleTarget>,
    lines: Option<LineTarget<'a>>,
}

struct SampleTarget {
    zero: u8,
    /// The word of the first pixel, and words from pixel to pixel.
    first: *mut u32,
    step: usize,
    /// The word of the first pixel that is added.
    skip: Option<(*const u32, Skip)>,
}

struct LineTarget<'a> {
    scales: &'a [(f32, f32)],
    first: *mut f32,
    pitch: usize,
}

impl<'a> Target<'a> {
    /// Of the four channels number `index`.
    ///
    /// # Safety
    ///
    /// Operands in memory.
    unsafe fn new(a: &QuantizedConv<'a>, index: usize) -> Self {
        let (mut samples, mut lines) = (None, None);
        match &a.output {
            Output::Samples(to) => {
                let r = to.shuffle;
                let planes = a.quads.len() / (r * r);
                let (phase, plane) = (index / planes, index % planes);
                let skip = |skip: Skip| (skip.row.first.wrapping_add(plane * skip.row.plane), skip);
                samples = Some(SampleTarget {
                    zero: to.zero,
                    first: to.rows[phase / r].wrapping_add(plane * to.plane + phase % r),
                    step: r,
                    skip: to.skip.map(skip),
                });
            }
            Output::Lines(to) => {
                let first = (index * QUAD).min(to.scales.len());
                let end = (first + QUAD).min(to.scales.len());
                lines = Some(LineTarget {
                    scales: &to.scales[first..end],
                    first: to.out.wrapping_add(first * to.pitch),
                    pitch: to.pitch,
                });
            }
        }
        Self {
            quad: &a.quads[index],
            samples,
            lines,
        }
    }

    /// Stores the sums of a register of pixels from `pixel` on, of which `left` are left
    /// in the row.
    ///
    /// # Safety
    ///
    /// Operands in memory, and the instructions of `V` are enabled.
    #[inline(always)]
    unsafe fn store<V: Integers>(&self, sums: [V; QUAD], pixel: usize, left: usize) {
        // SAFETY: operands in memory.
        unsafe {
            if let Some(lines) = &self.lines {
                for (o, (sum, &(scale, bias))) in sums.iter().zip(lines.scales).enumerate() {
                    sum.store_scaled(scale, bias, lines.first.add(o * lines.pitch + pixel));
                }
            }
            let Some(samples) = &self.samples else {
                return;
            };
            let skip = samples.skip.map(|(first, skip)| SkipWords {
                words: V::load(first.add(pixel)),
                zero: skip.zero,
                multiplier: skip.multiplier,
            });
            let words = V::requantized(sums, self.quad, samples.zero, skip);
            if samples.step == 1 && left >= V::LANES {
                return words.store(samples.first.add(pixel));
            }
            let mut some = [0; MAX_LANES];
            words.store(some.as_mut_ptr());
            for (i, &word) in some[..left.min(V::LANES)].iter().enumerate() {
                *samples.first.add((pixel + i) * samples.step) = word;
            }
        }
    }
}

/// `X` registers of pixels from `pixel` on, of four channels.
#[inline(always)]
unsafe fn block<V: Integers, const PAIRS: bool, const X: usize>(
    a: &QuantizedConv<'_>,
    target: &Target<'_>,
    pixel: usize,
    mut weights: *const i32,
) {
    // SAFETY: operands in memory; the weights are as many as the loops take.
    unsafe {
        let quad = target.quad;
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
        // One by one: what a loop indexes would lie in memory all along.
        macro_rules! store {
            ($($x:literal)+) => {$(
                if X > $x {
                    let at = pixel + $x * V::LANES;
                    let sums = [sums[0][$x], sums[1][$x], sums[2][$x], sums[3][$x]];
                    target.store(sums, at, a.pixels - at);
                }
            )+};
        }
        store!(0 1 2 3);
    }
}
