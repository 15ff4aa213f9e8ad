//! The kernels of fused chains at every level.

use super::Loops;
use crate::cpu_level::{Level, UnknownLevel};
use crate::ops::cpu::simd::{self, Vector};

impl Loops {
    /// The loops of a level, if this machine can run them.
    pub(crate) fn of(level: Level) -> Result<&'static Self, UnknownLevel> {
        Ok(match level.checked()? {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::LOOPS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::LOOPS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &neon::LOOPS,
            _ => &scalar::LOOPS,
        })
    }
}

/// Makes the `LOOPS` of a level: `vectors` to a group of channels, tiles of
/// `pixels` by `groups` in products, `one` pixels in sums along vectors, or
/// `three` of three channels.
macro_rules! loops {
    ($level:ident, $vector:ty, [$($enable:meta)?],
     [$vectors:literal, $pixels:literal, $groups:literal, $one:literal, $three:literal]) => {
        pub(in crate::chain::cpu) static LOOPS: crate::chain::cpu::kernels::Loops =
            crate::chain::cpu::kernels::Loops {
                level: crate::cpu_level::Level::$level,
                matmul,
                to_points,
                from_points,
                windows,
                nines,
                dots,
                columns,
            };

        const _: () = assert!(<$vector as Vector>::LANES * $vectors == crate::chain::cpu::kernels::GROUP);

        /// # Safety
        ///
        /// The level is available, and the pointers are good: so for all below.
        $(#[$enable])?
        unsafe fn matmul(a: &crate::chain::cpu::kernels::Matmul<'_>) {
            #[cfg(test)]
            crate::ops::cpu::simd::probe::ran(crate::cpu_level::Level::$level);
            // SAFETY: the caller's promise, here and below.
            unsafe { crate::chain::cpu::kernels::matmul::<$vector, $vectors, $pixels, $groups>(a) }
        }

        /// # Safety
        ///
        /// As above.
        $(#[$enable])?
        unsafe fn to_points(a: &crate::chain::cpu::kernels::ToPoints<'_>) {
            // SAFETY: as above.
            unsafe { crate::chain::cpu::kernels::to_points::<$vector>(a) }
        }

        /// # Safety
        ///
        /// As above.
        $(#[$enable])?
        unsafe fn from_points(a: &crate::chain::cpu::kernels::FromPoints<'_>) {
            // SAFETY: as above.
            unsafe { crate::chain::cpu::kernels::from_points::<$vector>(a) }
        }

        /// # Safety
        ///
        /// As above.
        $(#[$enable])?
        unsafe fn windows(a: &crate::chain::cpu::kernels::Windows<'_>) {
            // SAFETY: as above.
            unsafe { crate::chain::cpu::kernels::windows::<$vector>(a) }
        }

        /// # Safety
        ///
        /// As above.
        $(#[$enable])?
        unsafe fn nines(a: &crate::chain::cpu::kernels::Nines<'_>) {
            #[cfg(test)]
            crate::ops::cpu::simd::probe::ran(crate::cpu_level::Level::$level);
            // SAFETY: as above.
            unsafe { crate::chain::cpu::kernels::nines::<$vector, $vectors>(a) }
        }

        /// # Safety
        ///
        /// As above.
        $(#[$enable])?
        unsafe fn dots(a: &crate::chain::cpu::kernels::Dots<'_>) {
            // SAFETY: as above.
            unsafe { crate::chain::cpu::kernels::dots::<$vector, $vectors, $one, $three>(a) }
        }

        /// # Safety
        ///
        /// As above.
        $(#[$enable])?
        unsafe fn columns(a: &crate::chain::cpu::kernels::Columns<'_>) {
            // SAFETY: as above.
            unsafe { crate::chain::cpu::kernels::columns::<$vector, $vectors, $one, $three>(a) }
        }
    };
}

pub(super) mod scalar {
    use super::*;

    loops!(Plain, simd::scalar::Lanes, [], [2, 4, 1, 4, 1]);
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use super::*;

    loops!(
        Avx2,
        simd::x86::avx2::Lanes,
        [target_feature(enable = "avx2,fma")],
        [2, 6, 1, 4, 2]
    );
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use super::*;

    loops!(
        Avx512,
        simd::x86::avx512::Lanes,
        [target_feature(enable = "avx512f")],
        [1, 12, 2, 12, 8]
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use super::*;

    loops!(
        Neon,
        simd::neon::Lanes,
        [target_feature(enable = "neon")],
        [4, 6, 1, 5, 2]
    );
}
