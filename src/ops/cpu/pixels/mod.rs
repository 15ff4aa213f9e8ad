//! Inner loops over pixels whose channels lie together (NHWC), of fused chains
//! and of training: channels come in groups of [`GROUP`], so that vectors of any width
//! run over channels and every transform is lane by lane.
//!
//! The bits of a result depend on the inputs of its own tile and on nothing
//! else: sums run in a fixed order, and lanes are added up by the same tree at
//! every level.

mod conv9x9;
mod dispatch;
mod epilogue;
mod few_channels;
mod group;
mod matmul;
mod winograd;

pub(crate) use conv9x9::{Conv9x9, WindowTransform};
pub(crate) use epilogue::BiasActivation;
pub(crate) use few_channels::{DotProduct, MAX_DOT_CHANNELS, WinogradColumns};
pub(crate) use group::{GROUP, NARROW};
pub(crate) use matmul::{BatchStrides, Matmul, OuterProducts};
pub(crate) use winograd::{GradientTransform, InputTransform, OutputTransform};

use crate::cpu_level::Level;

/// The kernels at one level.
///
/// # Safety
///
/// *Operands in memory*, for all kernels: the level is available, and each
/// pointer is good for all floats that its struct describes, with whole vectors
/// at the ends of rows: [`GROUP`] floats.
pub(crate) struct Kernels {
    pub(crate) level: Level,
    groups: GroupKernels,
    narrow: GroupKernels,
    pub(crate) gradient_transform: unsafe fn(&GradientTransform<'_>),
    pub(crate) outer_products: unsafe fn(&OuterProducts),
    pub(crate) transform_windows: unsafe fn(&WindowTransform<'_>),
    pub(crate) conv9x9: unsafe fn(&Conv9x9<'_>),
}

/// Those that run over groups of channels, of [`GROUP`] or of [`NARROW`].
pub(crate) struct GroupKernels {
    pub(crate) matmul: unsafe fn(&Matmul<'_>),
    pub(crate) input_transform: unsafe fn(&InputTransform<'_>),
    pub(crate) output_transform: unsafe fn(&OutputTransform<'_>),
    pub(crate) dot_product: unsafe fn(&DotProduct<'_>),
    pub(crate) winograd_columns: unsafe fn(&WinogradColumns<'_>),
}

impl Kernels {
    /// Those for pixels of so many channels, as stored.
    pub(crate) fn for_channels(&self, channels: usize) -> &GroupKernels {
        match channels.is_multiple_of(GROUP) {
            true => &self.groups,
            false => &self.narrow,
        }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kernels").field(&self.level).finish()
    }
}
