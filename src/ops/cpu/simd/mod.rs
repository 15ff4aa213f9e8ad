//! Registers of `f32` lanes of one instruction set each.

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

/// Vectors whose lanes are summed together.
pub(crate) const HORIZONTAL_SUMS: usize = 4;

/// A register of `f32` lanes.
pub(crate) trait Vector: Copy {
    const LANES: usize;

    /// # Safety
    ///
    /// As all functions here: the instruction set of the vector is enabled.
    unsafe fn splat(value: f32) -> Self;

    /// # Safety
    ///
    /// `LANES` values can be read from `from`.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    ///
    /// `LANES` values can be written to `to`.
    unsafe fn store(self, to: *mut f32);

    /// `self + a * b`, rounded once.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;

    /// `if 0.0 > self { 0.0 } else { self }`, so that NaN stays.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn relu(self) -> Self;

    /// `self + other`.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn add(self, other: Self) -> Self;

    /// `self - other`.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn sub(self, other: Self) -> Self;

    /// `self * other`.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn mul(self, other: Self) -> Self;

    /// The larger and the smaller of each lane and zero.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn split_sign(self) -> (Self, Self);

    /// The sum of all lanes: the upper half is added to the lower, until one
    /// is left.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn horizontal_sum(self) -> f32;

    /// [`Vector::horizontal_sum`] of each.
    ///
    /// # Safety
    ///
    /// As above.
    #[inline(always)]
    unsafe fn horizontal_sums(vectors: [Self; HORIZONTAL_SUMS]) -> [f32; HORIZONTAL_SUMS] {
        // SAFETY: as above.
        vectors.map(|vector| unsafe { vector.horizontal_sum() })
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
