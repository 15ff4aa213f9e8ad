//! Matrix products over pixels: convolutions whose every result is one sum,
//! and the products of Winograd's transformed tiles.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

use super::epilogue::{BiasActivation, bias_activation};
use super::group::{GROUP, NARROW, base_pointers};
use crate::ops::cpu::simd::Vector;
use std::hint::black_box;

/// Products of pixels and a matrix: a convolution whose every result is one
/// sum, or one point of Winograd's.
pub(crate) struct Matmul<'a> {
    /// Where the inputs of the first pixel lie, in runs.
    pub(crate) runs: &'a [*const f32],
    /// Length of a run.
    pub(crate) len: usize,
    /// Distance of the inputs of neighbouring pixels.
    pub(crate) step: usize,
    /// By run, input, then channel.
    pub(crate) weights: *const f32,
    /// Channels out, whole groups or half a one.
    pub(crate) channels: usize,
    /// Number of pixels.
    pub(crate) pixels: usize,
    /// Results of the first pixel.
    pub(crate) out: *mut f32,
    /// Distance of the results of neighbouring pixels.
    pub(crate) out_step: usize,
    /// What follows each sum; nothing in Winograd's domain.
    pub(crate) activation: Option<BiasActivation>,
    /// Added to the results of the first pixel and on, if not null.
    pub(crate) skip: *const f32,
    /// How many products, and how far apart their operands lie.
    pub(crate) batch: BatchStrides,
}

/// Strides between the matrices of a batch of products, in floats.
#[derive(Clone, Copy)]
pub(crate) struct BatchStrides {
    pub(crate) count: usize,
    pub(crate) input: usize,
    pub(crate) weights: usize,
    pub(crate) out: usize,
}

impl BatchStrides {
    pub(crate) const SINGLE: Self = Self {
        count: 1,
        input: 0,
        weights: 0,
        out: 0,
    };
}

/// Sums of outer products: of the channels of inputs and of those of gradients, over
/// places that both have.
pub(crate) struct OuterProducts {
    /// By place, channel.
    pub(crate) inputs: *const f32,
    /// Whole groups.
    pub(crate) input_channels: usize,
    /// By place, channel.
    pub(crate) gradients: *const f32,
    /// Whole groups.
    pub(crate) gradient_channels: usize,
    /// Number of places.
    pub(crate) count: usize,
    /// By channel of the inputs, of the gradients.
    pub(crate) sums: *mut f32,
    /// Whether to add to the sums.
    pub(crate) add: bool,
}

/// [`OuterProducts`] of `P` channels, which divide a group, and `G` groups at a time; a
/// group is `W` vectors.
///
/// # Safety
///
/// Operands in memory, and the instructions of `V` are enabled.
#[inline(always)]
pub(super) unsafe fn outer_products<V: Vector, const W: usize, const P: usize, const G: usize>(
    a: &OuterProducts,
) {
    const { assert!(GROUP.is_multiple_of(P)) };
    let group = W * V::LANES;
    let mut channel = 0;
    while channel < a.gradient_channels {
        let wide = G == 2 && channel + 2 * group <= a.gradient_channels;
        for input in (0..a.input_channels).step_by(P) {
            // SAFETY: channels stay below their numbers.
            unsafe {
                match wide {
                    true => sum_products::<V, W, P, G>(a, input, channel),
                    false => sum_products::<V, W, P, 1>(a, input, channel),
                }
            }
        }
        channel += if wide { 2 * group } else { group };
    }
}

/// The sums of a block of channels, at (input, gradient).
#[inline(always)]
unsafe fn sum_products<V: Vector, const W: usize, const P: usize, const G: usize>(
    a: &OuterProducts,
    input: usize,
    channel: usize,
) {
    // SAFETY: operands in memory.
    unsafe {
        let group = W * V::LANES;
        let sums_at = a.sums.add(input * a.gradient_channels + channel);
        let mut sums = [[[V::splat(0.0); W]; G]; P];
        if a.add {
            for p in 0..P {
                for g in 0..G {
                    for w in 0..W {
                        let at = p * a.gradient_channels + g * group + w * V::LANES;
                        sums[p][g][w] = V::load(sums_at.add(at));
                    }
                }
            }
        }
        let mut inputs = a.inputs.add(input);
        let mut gradients = a.gradients.add(channel);
        for _ in 0..a.count {
            let mut row = [[V::splat(0.0); W]; G];
            for g in 0..G {
                for w in 0..W {
                    row[g][w] = V::load(gradients.add(g * group + w * V::LANES));
                }
            }
            for p in 0..P {
                let value = V::splat(*inputs.add(p));
                for g in 0..G {
                    for w in 0..W {
                        sums[p][g][w] = sums[p][g][w].mul_add(value, row[g][w]);
                    }
                }
            }
            inputs = inputs.add(a.input_channels);
            gradients = gradients.add(a.gradient_channels);
        }
        for p in 0..P {
            for g in 0..G {
                for w in 0..W {
                    let at = p * a.gradient_channels + g * group + w * V::LANES;
                    sums[p][g][w].store(sums_at.add(at));
                }
            }
        }
    }
}

/// `G` groups of channels of `P` pixels at a time; a group is `W` vectors. From one group to
/// one, `S` pixels, if that is not 0.
///
/// # Safety
///
/// Operands in memory, and the instructions of `V` are enabled.
#[inline(always)]
pub(super) unsafe fn matmul<
    V: Vector,
    const W: usize,
    const P: usize,
    const G: usize,
    const S: usize,
>(
    a: &Matmul<'_>,
) {
    let group = W * V::LANES;
    let square = a.len == group && a.channels == group && a.runs.len() == 1;
    if S > 0 && square && a.pixels >= S && a.activation.is_none() {
        // SAFETY: there are as many inputs as channels, and enough pixels.
        return unsafe { square_matmul::<V, S>(a) };
    }
    // SAFETY: pixels, channels and repeats stay below their numbers.
    unsafe {
        for i in 0..a.batch.count {
            let mut channel = 0;
            while channel < a.channels {
                let wide = G == 2 && channel + 2 * group <= a.channels;
                let mut pixel = 0;
                while pixel < a.pixels {
                    let at = (i, channel, pixel);
                    let left = a.pixels - pixel;
                    pixel += match wide {
                        true if left >= P => pixels::<V, W, P, G>(a, at),
                        true => rest::<V, W, G>(a, at, left),
                        false if left >= P => pixels::<V, W, P, 1>(a, at),
                        false => rest::<V, W, 1>(a, at, left),
                    };
                }
                channel += if wide { 2 * group } else { group };
            }
        }
    }
}

/// One group of channels to one, where a vector holds a group: all weights
/// stay in registers. The last pixels overlap those before, so that there are
/// always as many.
#[inline(always)]
unsafe fn square_matmul<V: Vector, const S: usize>(a: &Matmul<'_>) {
    const { assert!(V::LANES == GROUP || V::LANES == NARROW) };
    // SAFETY: operands in memory.
    unsafe {
        for i in 0..a.batch.count {
            let mut weights = [V::splat(0.0); GROUP];
            for k in 0..V::LANES {
                weights[k] = V::load(a.weights.add(i * a.batch.weights + k * V::LANES));
            }
            let mut pixel = 0;
            while pixel < a.pixels {
                pixel = pixel.min(a.pixels - S);
                let input = a.runs[0].add(i * a.batch.input + pixel * a.step);
                let mut rows = [input; S];
                for p in 0..S {
                    rows[p] = black_box(input.add(p * a.step));
                }
                let mut sums = [V::splat(0.0); S];
                // Too long for the compiler to unroll by itself.
                macro_rules! products {
                    ($($k:literal)+) => {$(
                        for p in 0..S {
                            let value = V::splat(*rows[p].add($k));
                            sums[p] = sums[p].mul_add(value, weights[$k]);
                        }
                    )+};
                }
                products!(0 1 2 3 4 5 6 7);
                if V::LANES == GROUP {
                    products!(8 9 10 11 12 13 14 15);
                }
                let out = a.out.add(i * a.batch.out + pixel * a.out_step);
                for p in 0..S {
                    sums[p].store(out.add(p * a.out_step));
                }
                pixel += S;
            }
        }
    }
}

/// The rest of a row of pixels, after the last block.
#[inline(always)]
unsafe fn rest<V: Vector, const W: usize, const G: usize>(
    a: &Matmul<'_>,
    at: (usize, usize, usize),
    left: usize,
) -> usize {
    // SAFETY: operands in memory.
    unsafe {
        match left {
            1 => pixels::<V, W, 1, G>(a, at),
            2 => pixels::<V, W, 2, G>(a, at),
            3 => pixels::<V, W, 3, G>(a, at),
            4 => pixels::<V, W, 4, G>(a, at),
            5 => pixels::<V, W, 5, G>(a, at),
            6 => pixels::<V, W, 6, G>(a, at),
            7 => pixels::<V, W, 7, G>(a, at),
            8 => pixels::<V, W, 8, G>(a, at),
            9 => pixels::<V, W, 9, G>(a, at),
            10 => pixels::<V, W, 10, G>(a, at),
            _ => pixels::<V, W, 11, G>(a, at),
        }
    }
}

/// The products of a block of pixels and channels, at (batch, channel,
/// pixel); returns `P`.
#[inline(always)]
unsafe fn pixels<V: Vector, const W: usize, const P: usize, const G: usize>(
    a: &Matmul<'_>,
    (i, channel, pixel): (usize, usize, usize),
) -> usize {
    // SAFETY: operands in memory.
    unsafe {
        let group = W * V::LANES;
        let mut sums = [[[V::splat(0.0); W]; G]; P];
        let mut weights = a.weights.add(i * a.batch.weights + channel);
        for &run in a.runs {
            let input = run.add(i * a.batch.input + pixel * a.step);
            let mut bases = base_pointers::<P>(input, a.step);
            for _ in 0..a.len {
                let mut row = [[V::splat(0.0); W]; G];
                for g in 0..G {
                    for w in 0..W {
                        row[g][w] = V::load(weights.add(g * group + w * V::LANES));
                    }
                }
                weights = weights.add(a.channels);
                for p in 0..P {
                    let value = V::splat(*bases[p / 3].add(p % 3 * a.step));
                    for g in 0..G {
                        for w in 0..W {
                            sums[p][g][w] = sums[p][g][w].mul_add(value, row[g][w]);
                        }
                    }
                }
                for three in &mut bases {
                    *three = three.add(1);
                }
            }
        }
        let out = a.out.add(i * a.batch.out + pixel * a.out_step + channel);
        for p in 0..P {
            for g in 0..G {
                for w in 0..W {
                    let at = g * group + w * V::LANES;
                    sums[p][g][w].store(out.add(p * a.out_step + at));
                }
            }
        }
        if let Some(activation) = &a.activation {
            for p in 0..P {
                for g in 0..G {
                    for w in 0..W {
                        let at = g * group + w * V::LANES;
                        let out = out.add(p * a.out_step + at);
                        let mut sum = bias_activation::<V>(V::load(out), activation, channel + at);
                        if !a.skip.is_null() {
                            let pixel = (pixel + p) * a.out_step;
                            sum = sum.add(V::load(a.skip.add(pixel + channel + at)));
                        }
                        sum.store(out);
                    }
                }
            }
        }
        P
    }
}
