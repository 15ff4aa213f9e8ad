//! The kernels of fused chains at every level.

use super::{
    Conv9x9, DotProduct, GROUP, GradientTransform, GroupKernels, InputTransform, Kernels, Matmul,
    NARROW, OuterProducts, OutputTransform, WindowTransform, WinogradColumns, conv9x9,
    few_channels, matmul, winograd,
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

/// The [`Kernels`] of a level. For groups of channels, and for narrow ones: `vectors` hold
/// a group; products take tiles of `pixels` by `groups`, or of `square` pixels from one group to
/// one (0: as others), sums along vectors `one` pixels, or `three` of three channels, outer
/// products `outer` channels by `groups`.
macro_rules! kernels {
    ($level:ident, [$($enable:meta)?],
     $vector:ty, [$vectors:literal, $pixels:literal, $groups:literal, $square:literal,
     $one:literal, $three:literal, $outer:literal],
     $narrow:ty, [$narrow_vectors:literal, $narrow_pixels:literal, $narrow_square:literal,
     $narrow_one:literal, $narrow_three:literal]) => {
        pub(super) static KERNELS: Kernels = Kernels {
            level: Level::$level,
            groups: GroupKernels {
                matmul,
                input_transform,
                output_transform,
                dot_product,
                winograd_columns,
            },
            narrow: GroupKernels {
                matmul: narrow_matmul,
                input_transform: narrow_input_transform,
                output_transform: narrow_output_transform,
                dot_product: narrow_dot_product,
                winograd_columns: narrow_winograd_columns,
            },
            gradient_transform,
            outer_products,
            transform_windows,
            conv9x9,
        };

        const _: () = assert!(<$vector as Vector>::LANES * $vectors == GROUP);
        const _: () = assert!(<$narrow as Vector>::LANES * $narrow_vectors == NARROW);

        kernels! { @functions $level, [$($enable)?],
            matmul(Matmul) = matmul::matmul::<$vector, $vectors, $pixels, $groups, $square>;
            input_transform(InputTransform) = winograd::input_transform::<$vector>;
            output_transform(OutputTransform) = winograd::output_transform::<$vector>;
            dot_product(DotProduct) = few_channels::dot_product::<$vector, $vectors, $one, $three>;
            winograd_columns(WinogradColumns)
                = few_channels::winograd_columns::<$vector, $vectors, $one, $three>;
            narrow_matmul(Matmul)
                = matmul::matmul::<$narrow, $narrow_vectors, $narrow_pixels, 1, $narrow_square>;
            narrow_input_transform(InputTransform) = winograd::input_transform::<$narrow>;
            narrow_output_transform(OutputTransform) = winograd::output_transform::<$narrow>;
            narrow_dot_product(DotProduct)
                = few_channels::dot_product::<$narrow, $narrow_vectors, $narrow_one, $narrow_three>;
            narrow_winograd_columns(WinogradColumns) = few_channels::winograd_columns::<
                $narrow, $narrow_vectors, $narrow_one, $narrow_three
            >;
            gradient_transform(GradientTransform) = winograd::gradient_transform::<$vector>;
            outer_products(OuterProducts)
                = matmul::outer_products::<$vector, $vectors, $outer, $groups>;
            transform_windows(WindowTransform) = conv9x9::transform_windows::<$vector>;
            conv9x9(Conv9x9) = conv9x9::conv9x9::<$vector, $vectors>;
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
        #[allow(elided_lifetimes_in_paths, reason = "some have none")]
        unsafe fn $name(a: &$args) {
            #[cfg(test)]
            probe::ran(Level::$level);
            // SAFETY: operands in memory.
            unsafe { $kernel(a) }
        }
    };
}

pub(super) mod scalar {
    use super::*;

    kernels!(
        Plain,
        [],
        simd::scalar::Lanes,
        [2, 4, 1, 0, 4, 1, 2],
        simd::scalar::Lanes,
        [1, 8, 0, 4, 1]
    );
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2 {
    use super::*;

    kernels!(
        Avx2,
        [target_feature(enable = "avx2,fma")],
        simd::x86::avx2::Lanes,
        [2, 6, 1, 0, 4, 2, 4],
        simd::x86::avx2::Lanes,
        [1, 12, 0, 8, 4]
    );
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512 {
    use super::*;

    kernels!(
        Avx512,
        [target_feature(enable = "avx512f,avx512vl")],
        simd::x86::avx512::Lanes,
        [1, 12, 2, 8, 12, 8, 8],
        simd::x86::avx2::Lanes,
        [1, 12, 12, 12, 8]
    );
}

#[cfg(target_arch = "aarch64")]
pub(super) mod neon {
    use super::*;

    kernels!(
        Neon,
        [target_feature(enable = "neon")],
        simd::neon::Lanes,
        [4, 6, 1, 0, 5, 2, 4],
        simd::neon::Lanes,
        [2, 10, 0, 8, 4]
    );
}
