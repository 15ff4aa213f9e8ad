//! The ranges of a chain's samples, from what it computes for some pictures.

use super::{Chain, Place};
use crate::frame::{Image, MAX_VALUE};
use crate::tensor_error::Result;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Values that are kept of each boundary.
const KEPT: usize = 1 << 17;

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
    fn of(least: f32, largest: f32) -> Self {
        let (least, largest) = (least.min(0.0), largest.max(0.0));
        let step = (largest - least) / 255.0;
        let step = if step > 0.0 { step } else { 1.0 };
        Self {
            step,
            zero: (-least / step).round() as u8,
        }
    }

    /// The value of the sample for a value.
    fn rounded(&self, value: f32) -> f32 {
        let zero = f32::from(self.zero);
        let sample = ((value / self.step).round() + zero).clamp(0.0, 255.0);
        (sample - zero) * self.step
    }

    /// The range whose samples are nearest to the values, by mean squared error.
    fn nearest_to(values: &[f32]) -> Self {
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

/// What chains compute for some pictures.
#[derive(Debug, Default)]
pub struct Calibration {
    values: BTreeMap<String, Sampled>,
}

/// Some of the values of a boundary, evenly spread.
#[derive(Debug, Default)]
struct Sampled {
    values: Vec<f32>,
    /// Every one of so many is kept.
    every: usize,
    /// Those left out since the last one that was kept.
    skipped: usize,
}

impl Sampled {
    fn add(&mut self, values: &[f32]) {
        self.every = self.every.max(1);
        for &value in values {
            self.skipped += 1;
            if self.skipped < self.every {
                continue;
            }
            self.skipped = 0;
            self.values.push(value);
            if self.values.len() == 2 * KEPT {
                let mut at = 0;
                self.values.retain(|_| {
                    at += 1;
                    at % 2 == 0
                });
                self.every *= 2;
            }
        }
    }
}

impl Calibration {
    /// Adds what a chain computes for the input `x`, (N, C, H, W).
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn observe(&mut self, chain: &Chain, x: &Tensor) -> Result<()> {
        let at = |boundary: usize, y: Tensor| {
            let inner = boundary > 0 && !Place::of(boundary - 1, chain).last;
            if inner {
                let name = chain.layers[boundary - 1].name_at(boundary - 1);
                let values = super::values(&y)?;
                self.values.entry(name).or_default().add(&values);
            }
            Ok(y)
        };
        chain.forward_by(x, |_, link, y| link.conv.forward(y), at)?;
        Ok(())
    }

    /// Adds what a chain computes for an image of 8 bits.
    ///
    /// # Errors
    ///
    /// An image whose channels are not the chain's planes.
    pub fn observe_image(&mut self, chain: &Chain, image: &Image) -> Result<()> {
        let &Image {
            width,
            height,
            channels,
            ..
        } = image;
        let plane = |channel: usize| {
            let samples = image.data.iter().skip(channel).step_by(channels);
            samples.map(|&sample| f32::from(sample) / MAX_VALUE)
        };
        let samples: Vec<f32> = (0..channels).flat_map(plane).collect();
        let shape = (1, channels, height, width);
        self.observe(chain, &Tensor::from_vec(samples, shape, &Device::Cpu)?)
    }

    /// The ranges whose samples are nearest to what was computed.
    pub fn ranges(&self) -> Ranges {
        let ranges = self.values.iter();
        let ranges = ranges.map(|(name, kept)| (name.clone(), Range::nearest_to(&kept.values)));
        Ranges(ranges.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_most_values() {
        let mut values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
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

    #[test]
    fn kept_values_are_spread() {
        let mut sampled = Sampled::default();
        let values: Vec<f32> = (0..5 * KEPT).map(|i| i as f32).collect();
        values.chunks(1000).for_each(|part| sampled.add(part));
        assert!(sampled.values.len() <= 2 * KEPT && sampled.values.len() >= KEPT);
        let middle = sampled.values[sampled.values.len() / 2];
        assert!((middle / (2.5 * KEPT as f32) - 1.0).abs() < 0.01);
    }
}
