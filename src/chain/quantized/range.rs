//! Ranges of samples.

use std::collections::BTreeMap;

/// Largest values that are tried, in 64ths of the largest one that was seen.
const TRIED: std::ops::RangeInclusive<usize> = 16..=64;

/// The values of samples of 8 bits: `step * (q - zero)` for the sample `q`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The value of a step.
    pub step: f32,
    /// The sample of the value 0.
    pub zero: u8,
}

impl Range {
    /// The range from the least to the largest value, 0 among them.
    pub(super) fn of(least: f32, largest: f32) -> Self {
        let (least, largest) = (least.min(0.0), largest.max(0.0));
        let step = (largest - least) / 255.0;
        let step = if step > 0.0 { step } else { 1.0 };
        Self {
            step,
            zero: (-least / step).round() as u8,
        }
    }

    /// The value of the sample for a value.
    pub(super) fn rounded(&self, value: f32) -> f32 {
        let zero = f32::from(self.zero);
        let sample = ((value / self.step).round() + zero).clamp(0.0, 255.0);
        (sample - zero) * self.step
    }

    /// The range whose samples are nearest to the values, by mean squared error.
    pub(super) fn nearest_to(values: &[f32]) -> Self {
        let least = values.iter().copied().fold(0.0, f32::min);
        let largest = values.iter().copied().fold(0.0, f32::max);
        let tried = TRIED.map(|part| {
            let part = part as f32 / *TRIED.end() as f32;
            let range = Self::of(least * part, largest * part);
            let error = |&value: &f32| f64::from(value - range.rounded(value)).powi(2);
            (values.iter().map(error).sum::<f64>(), range)
        });
        let best = tried.min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(Self::of(least, largest), |(_, range)| range)
    }
}

/// The ranges of the layers' results, by the layers' names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges(pub(super) BTreeMap<String, Range>);

impl Ranges {
    /// The range of a layer's result.
    pub fn get(&self, layer: &str) -> Option<Range> {
        self.0.get(layer).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_most_values() {
        let mut values: Vec<f32> = (0..400_000).map(|i| i as f32 / 400_000.0).collect();
        let range = Range::nearest_to(&values);
        assert_eq!(range.zero, 0);
        assert!((range.step * 255.0 - 1.0).abs() < 0.02, "{range:?}");
        // One large value is clipped: steps for all others would be too large.
        values.push(1.5);
        let range = Range::nearest_to(&values);
        assert!(range.step * 255.0 < 1.2, "{range:?}");
        let signed: Vec<f32> = values.iter().map(|v| v - 0.25).collect();
        let range = Range::nearest_to(&signed);
        assert!((f32::from(range.zero) * range.step - 0.25).abs() < 0.03);
        assert_eq!(Range::nearest_to(&[0.0, 0.0]), Range { step: 1.0, zero: 0 });
    }
}
