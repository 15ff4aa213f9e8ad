//! The ranges of a chain's samples, from what it computes for some pictures.

use super::layers::{Place, values};
use super::range::{Range, Ranges};
use crate::chain::Chain;
use crate::frame::{Image, MAX_VALUE};
use crate::tensor_error::Result;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Values that are kept of each boundary.
const KEPT: usize = 1 << 17;

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
                self.values.entry(name).or_default().add(&values(&y)?);
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
    fn kept_values_are_spread() {
        let mut sampled = Sampled::default();
        let values: Vec<f32> = (0..5 * KEPT).map(|i| i as f32).collect();
        values.chunks(1000).for_each(|part| sampled.add(part));
        assert!(sampled.values.len() <= 2 * KEPT && sampled.values.len() >= KEPT);
        let middle = sampled.values[sampled.values.len() / 2];
        assert!((middle / (2.5 * KEPT as f32) - 1.0).abs() < 0.01);
    }
}
