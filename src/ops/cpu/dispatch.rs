//! The planar kernels of every level. A tile keeps 24 of the 32 registers of
//! AVX-512 and NEON (12 of the 16 of AVX2) busy as sums, so that one load of an
//! input vector serves eight (four) products and two multiply-adds can start
//! every cycle in spite of their latency.

use super::simd::{self, Vector};
use super::tile::{self, Kernels, Products, Strip};
use crate::cpu_level::{Level, UnknownLevel};

impl Kernels {
    /// The kernels of a level, if this machine can run them.
    pub(in crate::ops) fn of(level: Level) -> Result<&'static Self, UnknownLevel> {
        let kernels = match level.checked()? {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &neon::KERNELS,
            _ => &scalar::KERNELS,
        };
        Ok(kernels)
    }
}

/// Makes the `KERNELS` of a level, with tiles of so many output channels by
/// so many vectors.
macro_rules! kernels {
    ($level:ident, $vector:ty, [$($enable:meta)?], [$(($outputs:literal, $vectors:literal)),+]) => {
        pub(in crate::ops::cpu) static KERNELS: Kernels = Kernels {
            lanes: <$vector as Vector>::LANES,
            tiles: &[$(($outputs, $vectors)),+],
            strip,
            products,
        };

        $(const _: () = assert!($vectors * <$vector as Vector>::LANES <= tile::LONGEST);)+

        /// # Safety
        ///
        /// The level is available and the strip is checked.
        $(#[$enable])?
        unsafe fn strip(strip: &mut Strip<'_>) {
            #[cfg(test)]
            simd::probe::ran(crate::cpu_level::Level::$level);
            match strip.bias.len() {
                // SAFETY: the instructions are enabled here, and the rest is
                // the caller's promise.
                $($outputs => unsafe { tile::strip::<$vector, $outputs, $vectors>(strip) },)+
                _ => {}
            }
        }

        /// # Safety
        ///
        /// The level is available and the products are checked.
        $(#[$enable])?
        unsafe fn products(products: &mut Products<'_>) {
            #[cfg(test)]
            simd::probe::ran(crate::cpu_level::Level::$level);
            match products.outputs {
                // SAFETY: the instructions are enabled here, and the rest is
                // the caller's promise.
                $($outputs => unsafe { tile::products::<$vector, $outputs, $vectors>(products) },)+
                _ => {}
            }
        }
    };
}

pub(super) mod scalar {
    use super::*;

    kernels!(Plain, simd::scalar::Lanes, [], [(4, 1), (2, 2), (1, 2)]);
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use super::*;

    kernels!(
        Avx2,
        simd::x86::avx2::Lanes,
        [target_feature(enable = "avx2,fma")],
        [(6, 2), (4, 2), (3, 3), (2, 4), (1, 8)]
    );
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use super::*;

    kernels!(
        Avx512,
        simd::x86::avx512::Lanes,
        [target_feature(enable = "avx512f")],
        [(8, 3), (4, 6), (3, 7), (2, 8), (1, 8)]
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use super::*;

    kernels!(
        Neon,
        simd::neon::Lanes,
        [target_feature(enable = "neon")],
        [(8, 3), (4, 6), (3, 7), (2, 8), (1, 8)]
    );
}
