//! The kernels of fused chains at every level.

use super::{
    Conv9x9, DotProduct, GROUP, InputTransform, Kernels, Matmul, OutputTransform, WindowTransform,
    WinogradColumns, conv9x9, few_channels, matmul, winograd,
};
use crate::cpu_level::{Level, UnknownLevel};
#[cfg(test)]
use crate::ops::cpu::simd::probe;
use crate::ops::cpu::simd::{self, Vector};

impl Kernels {
    /// The kernels of a level, if this machine can run them.
    pub(crate) fn of(level: Level) -> Result<&'static Self, UnknownLevel> {
        Ok(match level.checked()? {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &neon::KERNELS,
            _ => &scalar::KERNELS,
        })
    }
}

/// The [`Kernels`] of a level: `vectors` hold a group of channels; products take
/// tiles of `pixels` by `groups`, sums along vectors `one` pixels, or `three` of
/// three channels.
macro_rules! kernels {
    ($level:ident, $vector:ty, [$($enable:meta)?],
     [$vectors:literal, $pixels:literal, $groups:literal, $one:literal, $three:literal]) => {
        pub(super) static KERNELS: Kernels = Kernels {
            level: Level::$level,
            matmul,
            input_transform,
            output_transform,
            transform_windows,
            conv9x9,
            dot_product,
            winograd_columns,
        };

        const _: () = assert!(<$vector as Vector>::LANES * $vectors == GROUP);

        kernels! { @functions $level, [$($enable)?],
            matmul(Matmul) = matmul::matmul::<$vector, $vectors, $pixels, $groups>;
            input_transform(InputTransform) = winograd::input_transform::<$vector>;
            output_transform(OutputTransform) = winograd::output_transform::<$vector>;
            transform_windows(WindowTransform) = conv9x9::transform_windows::<$vector>;
            conv9x9(Conv9x9) = conv9x9::conv9x9::<$vector, $vectors>;
            dot_product(DotProduct) = few_channels::dot_product::<$vector, $vectors, $one, $three>;
            winograd_columns(WinogradColumns)
                = few_channels::winograd_columns::<$vector, $vectors, $one, $three>;
        }
    };
    (@functions $level:ident, $enable:tt, $($name:ident($args:ident) = $kernel:expr;)*) => {
        $(kernels! { @function $level, $enable, $name, $args, $kernel })*
    };
    (@function $level:ident, [$($enable:meta)?], $name:ident, $args:ident, $kernel:expr) => {
        /// # Safety
        ///
        /// Operands in memory, the level's instructions among them.
        $(#[$enable])?
        unsafe fn $name(a: &$args<'_>) {
            #[cfg(test)]
            probe::ran(Level::$level);
            // SAFETY: operands in memory.
            unsafe { $kernel(a) }
        }
    };
}

pub(super) mod scalar {
    use super::*;

    kernels!(Plain, simd::scalar::Lanes, [], [2, 4, 1, 4, 1]);
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use super::*;

    kernels!(
        Avx2,
        simd::x86::avx2::Lanes,
        [target_feature(enable = "avx2,fma")],
        [2, 6, 1, 4, 2]
    );
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use super::*;

    kernels!(
        Avx512,
        simd::x86::avx512::Lanes,
        [target_feature(enable = "avx512f")],
        [1, 12, 2, 12, 8]
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use super::*;

    kernels!(
        Neon,
        simd::neon::Lanes,
        [target_feature(enable = "neon")],
        [4, 6, 1, 5, 2]
    );
}
