//! Integers of x86-64.

/// Vectors of a width: with VNNI's products where `dot` is one, else by pairs in 16
/// bits.
macro_rules! integers {
    (
        $register:ty, $lanes:literal, $vectors:literal,
        [$set1:ident, $load:ident, $store:ident, $store_ps:ident],
        [$add32:ident, $sra:ident, $packs32:ident, $packus16:ident, $mulhrs:ident],
        [$max16:ident, $min16:ident, $add16:ident, $sub16:ident, $set16:ident, $slli16:ident],
        [$broadcast:ident, $shuffle8:ident, $unpacklo:ident, $unpackhi:ident, $zero:ident],
        [$to_ps:ident, $set1_ps:ident, $mul_ps:ident, $add_ps:ident],
        |$sum:ident, $a:ident, $b:ident| $samples:expr, $pairs:expr
    ) => {
        use crate::chain::cpu::kernels::quantized::integers::{Integers, SkipWords};
        use crate::chain::cpu::kernels::quantized::quad::{QUAD, RequantizeQuad};
        use crate::chain::quantized::SKIP_SHIFT;
        use std::arch::x86_64::*;

        #[derive(Clone, Copy)]
        pub(in super::super) struct Lanes($register);

        /// From four samples of each of four channels to four words, and back.
        const TRANSPOSE: [i8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

        /// The 128 bits at an address in each lane of 128.
        ///
        /// # Safety
        ///
        /// Enabled, and 16 bytes are readable.
        #[inline(always)]
        unsafe fn lane<T>(from: *const T) -> $register {
            // SAFETY: enabled, readable.
            unsafe { $broadcast(_mm_loadu_si128(from.cast())) }
        }

        impl Integers for Lanes {
            const LANES: usize = $lanes;
            const VECTORS: usize = $vectors;

            #[inline(always)]
            unsafe fn splat(word: i32) -> Self {
                // SAFETY: enabled.
                Self(unsafe { $set1(word) })
            }

            #[inline(always)]
            unsafe fn load(from: *const u32) -> Self {
                // SAFETY: enabled, readable.
                Self(unsafe { $load(from.cast()) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u32) {
                // SAFETY: enabled, writable.
                unsafe { $store(to.cast(), self.0) }
            }

            #[inline(always)]
            unsafe fn dot_samples(self, samples: Self, weights: Self) -> Self {
                let ($sum, $a, $b) = (self.0, samples.0, weights.0);
                // SAFETY: enabled.
                Self(unsafe { $samples })
            }

            #[inline(always)]
            unsafe fn dot_pairs(self, values: Self, weights: Self) -> Self {
                let ($sum, $a, $b) = (self.0, values.0, weights.0);
                // SAFETY: enabled.
                Self(unsafe { $pairs })
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
                    let none = $zero();
                    let shifted = |o: usize| $sra(sums[o].0, _mm_cvtsi32_si128(quad.shift[o]));
                    let mut parts = [
                        $packs32(shifted(0), shifted(1)),
                        $packs32(shifted(2), shifted(3)),
                    ];
                    for (i, part) in parts.iter_mut().enumerate() {
                        let positive = lane(quad.positive.as_ptr().add(8 * i));
                        // Negative results end as 0.
                        if quad.is_relu && skip.is_none() {
                            *part = $mulhrs(*part, positive);
                            continue;
                        }
                        let negative = lane(quad.negative.as_ptr().add(8 * i));
                        *part = $add16(
                            $mulhrs($max16(*part, none), positive),
                            $mulhrs($min16(*part, none), negative),
                        );
                        *part = $add16(*part, $set16(i16::from(zero)));
                    }
                    let transpose = lane(TRANSPOSE.as_ptr());
                    if let Some(skip) = skip {
                        let samples = $shuffle8(skip.words.0, transpose);
                        let halves = [$unpacklo(samples, none), $unpackhi(samples, none)];
                        for (part, half) in parts.iter_mut().zip(halves) {
                            let value = $sub16(half, $set16(i16::from(skip.zero)));
                            let value = $slli16::<{ SKIP_SHIFT as _ }>(value);
                            *part = $add16(*part, $mulhrs(value, $set16(skip.multiplier)));
                        }
                    }
                    Self($shuffle8($packus16(parts[0], parts[1]), transpose))
                }
            }

            #[inline(always)]
            unsafe fn store_scaled(self, scale: f32, bias: f32, to: *mut f32) {
                // SAFETY: enabled, writable.
                unsafe {
                    let scaled = $mul_ps($to_ps(self.0), $set1_ps(scale));
                    $store_ps(to, $add_ps(scaled, $set1_ps(bias)));
                }
            }
        }
    };
}

macro_rules! integers_256 {
    ($vectors:literal, |$sum:ident, $a:ident, $b:ident| $samples:expr, $pairs:expr) => {
        integers!(
            __m256i,
            8,
            $vectors,
            [
                _mm256_set1_epi32,
                _mm256_loadu_si256,
                _mm256_storeu_si256,
                _mm256_storeu_ps
            ],
            [
                _mm256_add_epi32,
                _mm256_sra_epi32,
                _mm256_packs_epi32,
                _mm256_packus_epi16,
                _mm256_mulhrs_epi16
            ],
            [
                _mm256_max_epi16,
                _mm256_min_epi16,
                _mm256_adds_epi16,
                _mm256_sub_epi16,
                _mm256_set1_epi16,
                _mm256_slli_epi16
            ],
            [
                _mm256_broadcastsi128_si256,
                _mm256_shuffle_epi8,
                _mm256_unpacklo_epi8,
                _mm256_unpackhi_epi8,
                _mm256_setzero_si256
            ],
            [
                _mm256_cvtepi32_ps,
                _mm256_set1_ps,
                _mm256_mul_ps,
                _mm256_add_ps
            ],
            |$sum, $a, $b| $samples,
            $pairs
        );
    };
}

/// 256-bit vectors.
pub(super) mod avx2 {
    integers_256!(
        2,
        |sum, a, b| {
            let pairs = _mm256_maddubs_epi16(a, b);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        },
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    );
}

/// 256-bit vectors with AVX-VNNI.
pub(super) mod avx_vnni {
    integers_256!(
        3,
        |sum, a, b| _mm256_dpbusd_avx_epi32(sum, a, b),
        _mm256_dpwssd_avx_epi32(sum, a, b)
    );
}

/// 512-bit vectors with AVX-512 VNNI.
pub(super) mod avx512_vnni {
    integers!(
        __m512i,
        16,
        4,
        [
            _mm512_set1_epi32,
            _mm512_loadu_si512,
            _mm512_storeu_si512,
            _mm512_storeu_ps
        ],
        [
            _mm512_add_epi32,
            _mm512_sra_epi32,
            _mm512_packs_epi32,
            _mm512_packus_epi16,
            _mm512_mulhrs_epi16
        ],
        [
            _mm512_max_epi16,
            _mm512_min_epi16,
            _mm512_adds_epi16,
            _mm512_sub_epi16,
            _mm512_set1_epi16,
            _mm512_slli_epi16
        ],
        [
            _mm512_broadcast_i32x4,
            _mm512_shuffle_epi8,
            _mm512_unpacklo_epi8,
            _mm512_unpackhi_epi8,
            _mm512_setzero_si512
        ],
        [
            _mm512_cvtepi32_ps,
            _mm512_set1_ps,
            _mm512_mul_ps,
            _mm512_add_ps
        ],
        |sum, a, b| _mm512_dpbusd_epi32(sum, a, b),
        _mm512_dpwssd_epi32(sum, a, b)
    );
}
