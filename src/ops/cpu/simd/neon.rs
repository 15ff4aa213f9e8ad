//! The kernels for 64-bit Arm, with the tile of AVX-512: there are as many
//! registers.

use super::Vector;
use std::arch::aarch64::*;

#[derive(Clone, Copy)]
pub(crate) struct Lanes(float32x4_t);

impl Vector for Lanes {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: enabled.
        Self(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: enabled, readable.
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: enabled, writable.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: enabled.
        Self(unsafe { vfmaq_f32(self.0, a.0, b.0) })
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: enabled. Unlike the maximum, this keeps the sign of
        // a zero as the other levels do.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            Self(vbslq_f32(vcgtq_f32(zero, self.0), zero, self.0))
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: enabled.
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: enabled.
        Self(unsafe { vsubq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: enabled.
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn split_sign(self) -> (Self, Self) {
        // SAFETY: enabled.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            (Self(vmaxq_f32(self.0, zero)), Self(vminq_f32(self.0, zero)))
        }
    }

    #[inline(always)]
    unsafe fn horizontal_sum(self) -> f32 {
        // SAFETY: enabled.
        unsafe {
            let two = vadd_f32(vget_low_f32(self.0), vget_high_f32(self.0));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
}
