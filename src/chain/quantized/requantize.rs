//! From sums of 32 bits to samples of 8, in integers.

use super::range::Range;

/// Bits of the multiplier's fraction.
pub(crate) const FRACTION: u32 = 15;

/// Bits that a skip's samples are shifted by before they are multiplied.
pub(crate) const SKIP_SHIFT: i32 = 4;

/// The multiplier of a skip whose steps are those of the result.
pub(crate) const SKIP_ONE: f64 = (1 << (FRACTION as i32 - SKIP_SHIFT)) as f64;

/// Multipliers are at least this large where the shift allows it: their rounding
/// error is less than 1/8192, and what is multiplied keeps three bits below those of
/// the result.
const LEAST_MULTIPLIER: f64 = 4096.0;

/// Multipliers are at most this large: sums of products stay in 16 bits.
const LARGEST_MULTIPLIER: f64 = 2.0 * LEAST_MULTIPLIER;

/// What makes samples of 8 bits of the sums of one output channel:
///
/// ```text
/// t = saturate16((sum + bias) >> shift)
/// q = clamp8(round(max(t, 0) * positive / 2^15) + round(min(t, 0) * negative / 2^15) + zero)
/// ```
///
/// where `round` rounds halves up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requantize {
    pub(crate) bias: i32,
    pub(crate) shift: i32,
    pub(crate) positive: i16,
    pub(crate) negative: i16,
}

impl Requantize {
    /// Of a channel that there is not.
    pub(crate) const ZERO: Self = Self {
        bias: 0,
        shift: 0,
        positive: 0,
        negative: 0,
    };

    /// For sums in steps of the value `step` that a bias, as a value, is added to;
    /// `correction` is subtracted from them. `None` if the result's steps are so much
    /// smaller than the sums' that no shift is left, or the bias is beyond 2^30 of those.
    pub(crate) fn new(
        step: f64,
        (bias, correction): (f32, i64),
        slope: f32,
        range: &Range,
    ) -> Option<Self> {
        let factor = step / f64::from(range.step);
        let one = f64::from(1u32 << FRACTION);
        let shift = libm::log2(LEAST_MULTIPLIER / (factor * one)).ceil();
        let shift = shift.clamp(0.0, 30.0) as i32;
        let multiplier = factor * one * f64::from(1u32 << shift);
        let rounded = |value: f64| {
            let rounded = value.round();
            (rounded.abs() <= LARGEST_MULTIPLIER).then_some(rounded as i16)
        };
        let bias = (f64::from(bias) / step).round() - correction as f64;
        let half = f64::from((1u32 << shift) >> 1);
        let most = f64::from(1u32 << 30);
        Some(Self {
            bias: ((bias + half).abs() <= most).then_some((bias + half) as i32)?,
            shift,
            positive: rounded(multiplier)?,
            negative: rounded(multiplier * f64::from(slope))?,
        })
    }

    /// The sample for a sum, with `offset`, the sample of 0 and what is added, in
    /// steps: defines what all kernels compute.
    #[inline(always)]
    pub(crate) fn sample(&self, sum: i32, offset: i32) -> u8 {
        let shifted = sum.wrapping_add(self.bias) >> self.shift;
        let t = shifted.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
        let scaled = |t: i32, multiplier: i16| {
            (t * i32::from(multiplier) + (1 << (FRACTION - 1))) >> FRACTION
        };
        let q = scaled(t.max(0), self.positive) + scaled(t.min(0), self.negative) + offset;
        q.clamp(0, 255) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Within the rounding of the multiplier and one step of the result.
        #[test]
        fn samples_are_the_nearest(
            exponent in -18.0..-5.0f64,
            sum in -400_000..400_000i32,
            bias in -1.0..1.0f32,
            slope in 0.25..1.0f32,
            zero in 0..=255u8,
        ) {
            let range = Range { step: 0.01, zero };
            let step = 0.01 * libm::exp2(exponent);
            let requantize = Requantize::new(step, (bias, 0), slope, &range).unwrap();
            let value = f64::from(sum) * step + f64::from(bias);
            let value = if value < 0.0 { value * f64::from(slope) } else { value };
            let exact = (value / 0.01 + f64::from(zero)).clamp(0.0, 255.0);
            let found = f64::from(requantize.sample(sum, i32::from(zero)));
            // Half a step, what the shift cuts off, and the rounding of the multiplier.
            let allowed = 0.5 + 1.0 / 8.0 + 255.0 / (2.0 * LEAST_MULTIPLIER * f64::from(slope));
            prop_assert!((found - exact).abs() < allowed, "{found} {exact}");
        }
    }

    /// The multiplier rounds up to twice the least one.
    #[test]
    fn every_factor_that_a_shift_reaches_is_covered() {
        let range = Range { step: 1.0, zero: 0 };
        let factor = (2.0 * LEAST_MULTIPLIER - 0.25) / 2f64.powi(24);
        let requantize = Requantize::new(factor, (0.0, 0), 0.0, &range).unwrap();
        assert_eq!(
            requantize.sample(200_000, 0),
            (200_000.0 * factor).round() as u8
        );
    }

    #[test]
    fn a_factor_beyond_the_multiplier_is_refused() {
        let range = Range {
            step: 0.01,
            zero: 0,
        };
        assert!(Requantize::new(0.005, (0.0, 0), 0.0, &range).is_none());
        let requantize = Requantize::new(0.002, (0.0, 0), 0.0, &range).unwrap();
        assert_eq!((requantize.shift, requantize.sample(100, 0)), (0, 20));
        assert_eq!(requantize.sample(-100, 0), 0);
        assert_eq!(requantize.sample(i32::MAX, 0), 255);
    }
}
