//! Registers of `f32` lanes of one instruction set each.
//!
//! Safety: what callers ensure, by the names that the comments here use.
//! - *enabled*: the function is inlined into one whose `target_feature`s are
//!   the vector's instruction set, and runs only where the CPU has it.
//! - *readable*: `LANES` initialised values lie at the address, aligned as
//!   `f32`.
//! - *writable*: the same, and nobody else accesses them meanwhile.

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;
mod transpose;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

pub(crate) use transpose::{SQUARE, transposed};

/// Vectors whose lanes are summed together.
pub(crate) const HORIZONTAL_SUMS: usize = 4;

/// A register of `f32` lanes.
pub(crate) trait Vector: Copy {
    const LANES: usize;

    /// # Safety
    ///
    /// *Enabled* (see the module's documentation).
    unsafe fn splat(value: f32) -> Self;

    /// # Safety
    ///
    /// *Enabled*, and `from` is *readable*.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    ///
    /// *Enabled*, and `to` is *writable*.
    unsafe fn store(self, to: *mut f32);

    /// `self + a * b`, rounded once.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;

    /// `if 0.0 > self { 0.0 } else { self }`, so that NaN stays.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn relu(self) -> Self;

    /// `self + other`.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn add(self, other: Self) -> Self;

    /// `self - other`.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn sub(self, other: Self) -> Self;

    /// `self * other`.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn mul(self, other: Self) -> Self;

    /// The positive part, `if self > 0.0 { self } else { 0.0 }`, and the
    /// negative one, `if 0.0 < self { 0.0 } else { self }`, of each lane. The
    /// negative one of NaN is NaN.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn split_sign(self) -> (Self, Self);

    /// The sum of all lanes: the upper half is added to the lower, until one
    /// is left.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    unsafe fn horizontal_sum(self) -> f32;

    /// [`Vector::horizontal_sum`] of each.
    ///
    /// # Safety
    ///
    /// *Enabled*.
    #[inline(always)]
    unsafe fn horizontal_sums(vectors: [Self; HORIZONTAL_SUMS]) -> [f32; HORIZONTAL_SUMS] {
        // SAFETY: enabled.
        vectors.map(|vector| unsafe { vector.horizontal_sum() })
    }
}

#[cfg(test)]
mod tests {
    use super::Vector;
    use crate::cpu_level::Level;

    const VALUES: [f32; 8] = [
        f32::NAN,
        0.0,
        -0.0,
        1.5,
        -1.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -f32::MIN_POSITIVE,
    ];

    /// The positive and the negative part and the ReLU of each value.
    ///
    /// # Safety
    ///
    /// *Enabled* for `V`.
    #[inline(always)]
    unsafe fn signs<V: Vector>() -> Vec<[f32; 3]> {
        let part = |value: f32| {
            let mut lanes = [[0.0; 16]; 3];
            // SAFETY: enabled; writable, as no vector has more than 16 lanes.
            unsafe {
                let vector = V::splat(value);
                let (positive, negative) = vector.split_sign();
                positive.store(lanes[0].as_mut_ptr());
                negative.store(lanes[1].as_mut_ptr());
                vector.relu().store(lanes[2].as_mut_ptr());
            }
            lanes.map(|lanes| lanes[0])
        };
        VALUES.map(part).to_vec()
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2() -> Vec<[f32; 3]> {
        // SAFETY: enabled, by the attribute.
        unsafe { signs::<super::x86::avx2::Lanes>() }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512() -> Vec<[f32; 3]> {
        // SAFETY: enabled, by the attribute.
        unsafe { signs::<super::x86::avx512::Lanes>() }
    }

    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    unsafe fn neon() -> Vec<[f32; 3]> {
        // SAFETY: enabled, by the attribute.
        unsafe { signs::<super::neon::Lanes>() }
    }

    #[test]
    fn nan_is_in_the_negative_part_and_stays_in_the_relu() {
        for level in Level::available() {
            // SAFETY: enabled, as the level is available.
            let found = unsafe {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2(),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => avx512(),
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => neon(),
                    _ => signs::<super::scalar::Lanes>(),
                }
            };
            assert!(
                found[0][1].is_nan() && found[0][2].is_nan(),
                "{level}: {found:?}"
            );
            for (value, found) in VALUES.iter().zip(&found).skip(1) {
                let positive = if *value > 0.0 { *value } else { 0.0 };
                let negative = if 0.0 < *value { 0.0 } else { *value };
                let relu = if 0.0 > *value { 0.0 } else { *value };
                let expected = [positive, negative, relu].map(f32::to_bits);
                assert_eq!(found.map(f32::to_bits), expected, "{level}: {value}");
            }
        }
    }
}

/// Tells tests which kernels ran.
#[cfg(test)]
pub(crate) mod probe {
    use crate::cpu_level::Level;
    use std::cell::RefCell;

    thread_local! {
        static RAN: RefCell<Vec<Level>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes that a kernel of the level runs on this thread.
    pub(crate) fn ran(level: Level) {
        RAN.with_borrow_mut(|ran| {
            if !ran.contains(&level) {
                ran.push(level);
            }
        });
    }

    /// The levels that ran on this thread since the last call.
    pub(crate) fn take() -> Vec<Level> {
        RAN.take()
    }
}
