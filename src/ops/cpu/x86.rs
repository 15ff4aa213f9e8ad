//! The kernels for x86-64.
//!
//! A tile keeps 24 of the 32 registers of AVX-512 (12 of the 16 of AVX2) busy
//! as sums, so that one load of an input vector serves eight (four) products
//! and two multiply-adds can start every cycle in spite of their latency.

/// 256-bit vectors.
pub(super) mod avx2 {
    use crate::ops::cpu::tile::{self, Kernels, Products, Strip, Vector, kernels};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    struct Lanes(__m256);

    impl Vector for Lanes {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX2 and FMA enabled, here and below.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has a vector's worth of values there.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has room for a vector there.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: as in `splat`. The second operand wins where the first
            // is not larger.
            Self(unsafe { _mm256_max_ps(_mm256_setzero_ps(), self.0) })
        }
    }

    kernels!(
        Avx2,
        Lanes,
        [target_feature(enable = "avx2,fma")],
        [(6, 2), (4, 2), (3, 3), (2, 4), (1, 8)]
    );
}

/// 512-bit vectors.
pub(super) mod avx512 {
    use crate::ops::cpu::tile::{self, Kernels, Products, Strip, Vector, kernels};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    struct Lanes(__m512);

    impl Vector for Lanes {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has AVX-512 enabled, here and below.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller has a vector's worth of values there.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller has room for a vector there.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // SAFETY: as in `splat`. The second operand wins where the first
            // is not larger.
            Self(unsafe { _mm512_max_ps(_mm512_setzero_ps(), self.0) })
        }
    }

    kernels!(
        Avx512,
        Lanes,
        [target_feature(enable = "avx512f")],
        [(8, 3), (4, 6), (3, 7), (2, 8), (1, 8)]
    );
}
