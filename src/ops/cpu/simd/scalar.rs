//! The kernels in portable Rust, which define what the others compute.

use super::Vector;

/// Eight lanes, which the compiler is free to turn into whatever there is.
#[derive(Clone, Copy)]
pub(crate) struct Lanes([f32; 8]);

impl Vector for Lanes {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: readable; arrays of `f32` are aligned like `f32`.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: writable, aligned as in `load`.
        unsafe { *to.cast() = self.0 }
    }

    #[inline(always)]
    unsafe fn mul_add(mut self, a: Self, b: Self) -> Self {
        for (i, sum) in self.0.iter_mut().enumerate() {
            *sum = a.0[i].mul_add(b.0[i], *sum);
        }
        self
    }

    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(|value| if 0.0 > value { 0.0 } else { value }))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
    }

    #[inline(always)]
    unsafe fn split_sign(self) -> (Self, Self) {
        (
            Self(self.0.map(|value| if value > 0.0 { value } else { 0.0 })),
            Self(self.0.map(|value| if 0.0 < value { 0.0 } else { value })),
        )
    }

    #[inline(always)]
    unsafe fn horizontal_sum(self) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| self.0[i] + self.0[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}
