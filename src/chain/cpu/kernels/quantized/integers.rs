//! Registers of 32-bit sums.

use super::quad::{QUAD, RequantizeQuad};

/// What is added to the samples of a layer before they are rounded.
#[derive(Clone, Copy)]
pub(super) struct SkipWords<V> {
    /// The words of the boundary that is added.
    pub(super) words: V,
    /// The sample of 0.
    pub(super) zero: u8,
    /// The value of a step in steps of the result, times 2^11.
    pub(super) multiplier: i16,
}

/// A register of 32-bit lanes: sums, or words.
///
/// # Safety
///
/// Of all functions, as in [`crate::ops::cpu::simd`]: *enabled*, *readable* and
/// *writable*, for words instead of floats.
pub(super) trait Integers: Copy {
    const LANES: usize;

    /// Registers of pixels at a time, at most 4: the sums of four channels stay in
    /// registers.
    const VECTORS: usize;

    /// Whether [`Integers::load_samples`] subtracts 128 from each sample, as the
    /// products are of signed numbers.
    const SIGNED: bool = false;

    unsafe fn splat(word: i32) -> Self;

    unsafe fn load(from: *const u32) -> Self;

    /// Words of samples for [`Integers::dot_samples`].
    #[inline(always)]
    unsafe fn load_samples(from: *const u32) -> Self {
        // SAFETY: enabled, readable.
        unsafe { Self::load(from) }
    }

    unsafe fn store(self, to: *mut u32);

    /// Adds the four products of samples and signed bytes. No sum of two products of
    /// neighbours leaves 16 bits.
    unsafe fn dot_samples(self, samples: Self, weights: Self) -> Self;

    /// Adds the two products of signed 16-bit numbers.
    unsafe fn dot_pairs(self, values: Self, weights: Self) -> Self;

    /// The words of samples of four sums, without their bias: see
    /// [`Requantize`](crate::chain::quantized::Requantize). `zero` is the sample of 0.
    unsafe fn requantized(
        sums: [Self; QUAD],
        quad: &RequantizeQuad,
        zero: u8,
        skip: Option<SkipWords<Self>>,
    ) -> Self;

    /// Stores `sum * scale + bias`, each operation rounded.
    unsafe fn store_scaled(self, scale: f32, bias: f32, to: *mut f32);
}
