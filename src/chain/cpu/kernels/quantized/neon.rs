//! Integers of 64-bit Arm with the dot product.

use super::integers::{Integers, SkipWords};
use super::quad::{QUAD, RequantizeQuad};
use crate::chain::quantized::SKIP_SHIFT;
use std::arch::aarch64::*;
use std::arch::asm;

#[derive(Clone, Copy)]
pub(super) struct Lanes(int32x4_t);

/// From four samples of each of four channels to four words, and back.
const TRANSPOSE: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

impl Integers for Lanes {
    const LANES: usize = 4;
    const VECTORS: usize = 4;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn splat(word: i32) -> Self {
        // SAFETY: enabled.
        Self(unsafe { vdupq_n_s32(word) })
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: enabled, readable.
        Self(unsafe { vld1q_s32(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_samples(from: *const u32) -> Self {
        // SAFETY: enabled, readable.
        Self(unsafe { veorq_s32(vld1q_s32(from.cast()), vdupq_n_s32(0x8080_8080u32 as i32)) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: enabled, writable.
        unsafe { vst1q_s32(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn dot_samples(self, samples: Self, weights: Self) -> Self {
        let mut sum = self.0;
        // The intrinsic is not stable yet.
        // SAFETY: enabled; the instruction reads and writes these registers only.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {samples:v}.16b, {weights:v}.16b",
                sum = inout(vreg) sum,
                samples = in(vreg) samples.0,
                weights = in(vreg) weights.0,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Self(sum)
    }

    #[inline(always)]
    unsafe fn dot_pairs(self, values: Self, weights: Self) -> Self {
        // SAFETY: enabled.
        unsafe {
            let (a, b) = (
                vreinterpretq_s16_s32(values.0),
                vreinterpretq_s16_s32(weights.0),
            );
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            Self(vaddq_s32(self.0, vpaddq_s32(low, vmull_high_s16(a, b))))
        }
    }

    #[inline(always)]
    unsafe fn requantized(
        sums: [Self; QUAD],
        quad: &RequantizeQuad,
        zero: u8,
        skip: Option<SkipWords<Self>>,
    ) -> Self {
        // SAFETY: enabled; both arrays of multipliers are 32 bytes.
        unsafe {
            let none = vdupq_n_s16(0);
            let narrow = |o: usize| vqmovn_s32(vshlq_s32(sums[o].0, vdupq_n_s32(-quad.shift[o])));
            let mut parts = [
                vcombine_s16(narrow(0), narrow(1)),
                vcombine_s16(narrow(2), narrow(3)),
            ];
            for (i, part) in parts.iter_mut().enumerate() {
                let positive = vld1q_s16(quad.positive.as_ptr().add(8 * i));
                let negative = vld1q_s16(quad.negative.as_ptr().add(8 * i));
                let sum = vqaddq_s16(
                    vqrdmulhq_s16(vmaxq_s16(*part, none), positive),
                    vqrdmulhq_s16(vminq_s16(*part, none), negative),
                );
                *part = vqaddq_s16(sum, vdupq_n_s16(i16::from(zero)));
            }
            let transpose = vld1q_u8(TRANSPOSE.as_ptr());
            if let Some(skip) = skip {
                let samples = vqtbl1q_u8(vreinterpretq_u8_s32(skip.words.0), transpose);
                let halves = [vmovl_u8(vget_low_u8(samples)), vmovl_high_u8(samples)];
                for (part, half) in parts.iter_mut().zip(halves) {
                    let value = vreinterpretq_s16_u16(half);
                    let value = vsubq_s16(value, vdupq_n_s16(i16::from(skip.zero)));
                    let value = vshlq_n_s16::<SKIP_SHIFT>(value);
                    let added = vqrdmulhq_s16(value, vdupq_n_s16(skip.multiplier));
                    *part = vqaddq_s16(*part, added);
                }
            }
            let samples = vcombine_u8(vqmovun_s16(parts[0]), vqmovun_s16(parts[1]));
            Self(vreinterpretq_s32_u8(vqtbl1q_u8(samples, transpose)))
        }
    }

    #[inline(always)]
    unsafe fn store_scaled(self, scale: f32, bias: f32, to: *mut f32) {
        // SAFETY: enabled, writable.
        unsafe {
            let scaled = vmulq_f32(vcvtq_f32_s32(self.0), vdupq_n_f32(scale));
            vst1q_f32(to, vaddq_f32(scaled, vdupq_n_f32(bias)));
        }
    }
}
