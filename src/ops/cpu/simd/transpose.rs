//! Small matrices in registers.

/// Side of the squares that are transposed.
pub(crate) const SQUARE: usize = 4;

/// The transpose of a square.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn transposed(square: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    use std::arch::x86_64::{
        __m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: every x86-64 has SSE, and a vector has the bits of four floats.
    unsafe {
        let [a, b, c, d] = std::mem::transmute::<[[f32; SQUARE]; SQUARE], [__m128; SQUARE]>(square);
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (upper_ab, upper_cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        let rows = [
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(upper_ab, upper_cd),
            _mm_movehl_ps(upper_cd, upper_ab),
        ];
        std::mem::transmute::<[__m128; SQUARE], [[f32; SQUARE]; SQUARE]>(rows)
    }
}

/// The transpose of a square.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn transposed(square: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_square_is_transposed() {
        let square = std::array::from_fn(|i| std::array::from_fn(|j| (4 * i + j) as f32));
        let expected = std::array::from_fn(|i| std::array::from_fn(|j| (4 * j + i) as f32));
        assert_eq!(super::transposed(square), expected);
    }
}
