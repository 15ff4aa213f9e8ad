//! Integers in portable Rust, which define what the others compute.

use super::integers::{Integers, SkipWords};
use super::quad::{QUAD, RequantizeQuad};
use crate::chain::quantized::{FRACTION, Requantize, SKIP_SHIFT};

const LANES: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Lanes([i32; LANES]);

impl Integers for Lanes {
    const LANES: usize = LANES;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(word: i32) -> Self {
        Self([word; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: readable; arrays are aligned like their elements.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: writable, aligned as in `load`.
        unsafe { *to.cast() = self.0 }
    }

    #[inline(always)]
    unsafe fn dot_samples(mut self, samples: Self, weights: Self) -> Self {
        for (i, sum) in self.0.iter_mut().enumerate() {
            let (samples, weights) = (samples.0[i].to_le_bytes(), weights.0[i].to_le_bytes());
            for (sample, weight) in samples.into_iter().zip(weights) {
                *sum += i32::from(sample) * i32::from(weight.cast_signed());
            }
        }
        self
    }

    #[inline(always)]
    unsafe fn dot_pairs(mut self, values: Self, weights: Self) -> Self {
        for (i, sum) in self.0.iter_mut().enumerate() {
            let (a, b) = (values.0[i], weights.0[i]);
            *sum += i32::from(a as i16) * i32::from(b as i16) + (a >> 16) * (b >> 16);
        }
        self
    }

    #[inline(always)]
    unsafe fn requantized(
        sums: [Self; QUAD],
        quad: &RequantizeQuad,
        zero: u8,
        skip: Option<SkipWords<Self>>,
    ) -> Self {
        let mut words = [0; LANES];
        for (lane, word) in words.iter_mut().enumerate() {
            let mut samples = [0; QUAD];
            for (channel, sample) in samples.iter_mut().enumerate() {
                let requantize = Requantize {
                    bias: 0,
                    shift: quad.shift[channel],
                    positive: quad.positive[4 * channel],
                    negative: quad.negative[4 * channel],
                };
                let added = skip.map_or(0, |skip| {
                    let sample = skip.words.0[lane].to_le_bytes()[channel];
                    let difference = i32::from(sample) - i32::from(skip.zero);
                    let product = (difference << SKIP_SHIFT) * i32::from(skip.multiplier);
                    (product + (1 << (FRACTION - 1))) >> FRACTION
                });
                let offset = added + i32::from(zero);
                *sample = requantize.sample(sums[channel].0[lane], offset);
            }
            *word = i32::from_le_bytes(samples);
        }
        Self(words)
    }

    #[inline(always)]
    unsafe fn store_scaled(self, scale: f32, bias: f32, to: *mut f32) {
        let values = self.0.map(|sum| sum as f32 * scale + bias);
        // SAFETY: writable, aligned as in `load`.
        unsafe { *to.cast() = values }
    }
}
