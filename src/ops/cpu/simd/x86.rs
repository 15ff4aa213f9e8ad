//! The kernels for x86-64.
//!
//! A tile keeps 24 of the 32 registers of AVX-512 (12 of the 16 of AVX2) busy
//! as sums, so that one load of an input vector serves eight (four) products
//! and two multiply-adds can start every cycle in spite of their latency.

/// 256-bit vectors.
pub(crate) mod avx2 {
    use crate::ops::cpu::simd::{HORIZONTAL_SUMS, Vector};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes(__m256);

    impl Vector for Lanes {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: enabled, readable.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: enabled, writable.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: enabled. The second operand is the result where the
            // first is not larger, or one is NaN.
            Self(unsafe { _mm256_max_ps(_mm256_setzero_ps(), self.0) })
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn split_sign(self) -> (Self, Self) {
            // SAFETY: enabled. As in `relu`, the second operand is the result
            // where one is NaN: 0 in the maximum, NaN in the minimum.
            unsafe {
                let zero = _mm256_setzero_ps();
                (
                    Self(_mm256_max_ps(self.0, zero)),
                    Self(_mm256_min_ps(zero, self.0)),
                )
            }
        }

        #[inline(always)]
        unsafe fn horizontal_sum(self) -> f32 {
            // SAFETY: enabled.
            unsafe {
                let four = _mm_add_ps(
                    _mm256_castps256_ps128(self.0),
                    _mm256_extractf128_ps::<1>(self.0),
                );
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        unsafe fn horizontal_sums([a, b, c, d]: [Self; HORIZONTAL_SUMS]) -> [f32; HORIZONTAL_SUMS] {
            // SAFETY: enabled.
            unsafe {
                let four = |a, b| {
                    let lower = _mm256_permute2f128_ps::<0x20>(a, b);
                    _mm256_add_ps(lower, _mm256_permute2f128_ps::<0x31>(a, b))
                };
                let (ac, bd) = (four(a.0, c.0), four(b.0, d.0));
                let lower = _mm256_shuffle_ps::<0x44>(ac, bd);
                let two = _mm256_add_ps(lower, _mm256_shuffle_ps::<0xEE>(ac, bd));
                let one = _mm256_add_ps(two, _mm256_movehdup_ps(two));
                let (ab, cd) = (_mm256_castps256_ps128(one), _mm256_extractf128_ps::<1>(one));
                let mut out = [0.0; HORIZONTAL_SUMS];
                _mm_storeu_ps(out.as_mut_ptr(), _mm_shuffle_ps::<0x88>(ab, cd));
                out
            }
        }
    }
}

/// 512-bit vectors.
pub(crate) mod avx512 {
    use crate::ops::cpu::simd::{HORIZONTAL_SUMS, Vector};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes(__m512);

    impl Vector for Lanes {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: enabled, readable.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: enabled, writable.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: enabled. The second operand is the result where the
            // first is not larger, or one is NaN.
            Self(unsafe { _mm512_max_ps(_mm512_setzero_ps(), self.0) })
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: enabled.
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn split_sign(self) -> (Self, Self) {
            // SAFETY: enabled. As in `relu`, the second operand is the result
            // where one is NaN: 0 in the maximum, NaN in the minimum.
            unsafe {
                let zero = _mm512_setzero_ps();
                (
                    Self(_mm512_max_ps(self.0, zero)),
                    Self(_mm512_min_ps(zero, self.0)),
                )
            }
        }

        #[inline(always)]
        unsafe fn horizontal_sum(self) -> f32 {
            // SAFETY: enabled.
            unsafe {
                let upper = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b1110>(self.0, self.0));
                let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), upper);
                let four = _mm_add_ps(
                    _mm256_castps256_ps128(eight),
                    _mm256_extractf128_ps::<1>(eight),
                );
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        unsafe fn horizontal_sums([a, b, c, d]: [Self; HORIZONTAL_SUMS]) -> [f32; HORIZONTAL_SUMS] {
            // SAFETY: enabled.
            unsafe {
                let halves = |a, b| {
                    let lower = _mm512_shuffle_f32x4::<0x44>(a, b);
                    _mm512_add_ps(lower, _mm512_shuffle_f32x4::<0xEE>(a, b))
                };
                let (ab, cd) = (halves(a.0, b.0), halves(c.0, d.0));
                let lower = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                let four = _mm512_add_ps(lower, _mm512_shuffle_f32x4::<0xDD>(ab, cd));
                let two = _mm512_add_ps(four, _mm512_permute_ps::<0b1110>(four));
                let one = _mm512_add_ps(two, _mm512_movehdup_ps(two));
                let firsts = _mm512_maskz_compress_ps(0x1111, one);
                let mut out = [0.0; HORIZONTAL_SUMS];
                _mm_storeu_ps(out.as_mut_ptr(), _mm512_castps512_ps128(firsts));
                out
            }
        }
    }
}
