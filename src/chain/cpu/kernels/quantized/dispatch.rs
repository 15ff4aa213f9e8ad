//! The kernels in integers at every level.

use super::conv::{QuantizedConv, conv};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::plain;
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::cpu_level::{Level, UnknownLevel};

/// The kernels at one level.
///
/// # Safety
///
/// *Operands in memory*, for all kernels: the level is available, and each
/// pointer is good for all words that its struct describes, with a whole vector to
/// read, and of lines to write, at the ends of rows.
pub(crate) struct QuantizedKernels {
    /// The instruction set.
    pub(crate) name: &'static str,
    /// Samples and signed bytes.
    pub(crate) samples: unsafe fn(&QuantizedConv<'_>),
    /// Pairs of 16-bit numbers.
    pub(crate) pairs: unsafe fn(&QuantizedConv<'_>),
}

impl std::fmt::Debug for QuantizedKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("QuantizedKernels").field(&self.name).finish()
    }
}

impl QuantizedKernels {
    /// The fastest kernels of a level, if this machine can run them.
    pub(crate) fn of(level: Level) -> Result<&'static Self, UnknownLevel> {
        let level = level.checked()?;
        let mut known = Self::available().into_iter().rev();
        Ok(known
            .find(|(needed, _)| {
                *needed == level || level == Level::Avx512 && *needed == Level::Avx2
            })
            .map_or(&PLAIN, |(_, kernels)| kernels))
    }

    /// All kernels that this machine can run, each with the level that it belongs to,
    /// the slowest first.
    pub(crate) fn available() -> Vec<(Level, &'static Self)> {
        let mut all = vec![(Level::Plain, &PLAIN)];
        #[cfg(target_arch = "x86_64")]
        {
            if Level::Avx2.is_available() {
                all.push((Level::Avx2, &AVX2));
                if is_x86_feature_detected!("avxvnni") {
                    all.push((Level::Avx2, &AVX_VNNI));
                }
            }
            let vnni =
                is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
            if Level::Avx512.is_available() && vnni {
                all.push((Level::Avx512, &AVX512_VNNI));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if Level::Neon.is_available() && std::arch::is_aarch64_feature_detected!("dotprod") {
            all.push((Level::Neon, &NEON));
        }
        all
    }
}

macro_rules! kernels {
    ($kernels:ident, $name:literal, $module:ident, $lanes:ty, [$($enable:meta)?]) => {
        static $kernels: QuantizedKernels = QuantizedKernels {
            name: $name,
            samples: $module::samples,
            pairs: $module::pairs,
        };

        mod $module {
            use super::*;

            /// # Safety
            ///
            /// Operands in memory.
            $(#[$enable])?
            pub(super) unsafe fn samples(a: &QuantizedConv<'_>) {
                // SAFETY: operands in memory.
                unsafe { conv::<$lanes, false>(a) }
            }

            /// # Safety
            ///
            /// Operands in memory.
            $(#[$enable])?
            pub(super) unsafe fn pairs(a: &QuantizedConv<'_>) {
                // SAFETY: operands in memory.
                unsafe { conv::<$lanes, true>(a) }
            }
        }
    };
}

kernels!(PLAIN, "plain", plain_kernels, plain::Lanes, []);

#[cfg(target_arch = "x86_64")]
kernels!(
    AVX2,
    "avx2",
    avx2_kernels,
    x86::avx2::Lanes,
    [target_feature(enable = "avx2")]
);

#[cfg(target_arch = "x86_64")]
kernels!(
    AVX_VNNI,
    "avxvnni",
    avx_vnni_kernels,
    x86::avx_vnni::Lanes,
    [target_feature(enable = "avx2,avxvnni")]
);

#[cfg(target_arch = "x86_64")]
kernels!(
    AVX512_VNNI,
    "avx512vnni",
    avx512_vnni_kernels,
    x86::avx512_vnni::Lanes,
    [target_feature(enable = "avx512f,avx512bw,avx512vnni")]
);

#[cfg(target_arch = "aarch64")]
kernels!(
    NEON,
    "neon",
    neon_kernels,
    neon::Lanes,
    [target_feature(enable = "neon,dotprod")]
);
