//! What a network sees in training: the picture made small and enlarged
//! again: with [`Degradation::Matlab`] exactly as inference enlarges the small
//! one, with [`Degradation::Pillow`] as the seeds of the RGB models did.
//!
//! Only the asked-for region is computed. Its surroundings are taken along as
//! far as the kernels reach, so that the result is that of the whole picture.

use crate::recipe::Degradation;
use srfilter::Scale;
use srfilter::frame::Picture;
use srfilter::frame::resample::{Axis, Grid, Region, Resampler, pillow};
use std::ops::Range;

/// Samples of the small picture that enlarging looks at beyond a region: the
/// cubic reaches 2, one more for rounding of the position.
const ENLARGING_REACH: usize = 3;

/// The same for making small, in samples of the small picture.
const SHRINKING_REACH: usize = 3;

/// One plane of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// Rows of `stride` samples.
    pub data: &'a [u8],
    /// Distance between rows.
    pub stride: usize,
    /// Width and height that count: whole multiples of the scale's numerator.
    pub size: (usize, usize),
}

/// The largest size at or below `size` that a scale divides evenly.
pub fn cropped(size: (usize, usize), scale: Scale) -> (usize, usize) {
    let whole = |length: usize| length - length % scale.num() as usize;
    (whole(size.0), whole(size.1))
}

impl Plane<'_> {
    /// The region, made small by `scale` and enlarged again: rows of samples
    /// on the scale 0 to 255, neither rounded nor clamped unless the degradation does.
    pub fn degraded(&self, scale: Scale, degradation: Degradation, region: &Region) -> Vec<f32> {
        let x = Spans::new(scale, self.size.0, &region.x);
        let y = Spans::new(scale, self.size.1, &region.y);
        match degradation {
            Degradation::Matlab => self.matlab(&x, &y),
            Degradation::Pillow => self.pillow(&x, &y),
        }
    }

    fn matlab(&self, x: &Spans, y: &Spans) -> Vec<f32> {
        let large: Vec<f64> = self.part(&x.large, &y.large).map(f64::from).collect();
        let shrink = Resampler::new(x.shrink(), y.shrink());
        let small = shrink.apply(&large);
        // `as` saturates; halves round up, as MATLAB rounds.
        let small: Vec<f32> = small.iter().map(|v| f32::from((v + 0.5) as u8)).collect();
        Resampler::new(x.enlarge(), y.enlarge()).apply(&small)
    }

    fn pillow(&self, x: &Spans, y: &Spans) -> Vec<f32> {
        let mut large = Picture::new(x.large.len(), y.large.len(), 1);
        large.data = self.part(&x.large, &y.large).collect();
        let wide = pillow(&large, x.wide.len(), y.wide.len());
        let small = wide.crop(
            x.small.start - x.wide.start,
            y.small.start - y.wide.start,
            x.small.len(),
            y.small.len(),
        );
        let again = pillow(&small, x.enlarged(), y.enlarged());
        let (left, top) = (x.offset(), y.offset());
        let region = again.crop(left, top, x.region.len(), y.region.len());
        region.data.iter().map(|&v| f32::from(v)).collect()
    }

    /// The samples of some columns and rows.
    pub fn part(&self, x: &Range<usize>, y: &Range<usize>) -> impl Iterator<Item = u8> {
        let rows = y.clone().map(|row| &self.data[row * self.stride..]);
        rows.flat_map(|row| row[x.clone()].iter().copied())
    }
}

/// The samples of one axis that a region is made of.
struct Spans {
    num: usize,
    den: usize,
    /// Length of the whole axis, in large samples.
    length: usize,
    /// What is asked for, in large samples.
    region: Range<usize>,
    /// The small samples that it is enlarged from.
    small: Range<usize>,
    /// Those and more, so many that what they lie on begins and ends evenly.
    wide: Range<usize>,
    /// The large samples under `wide`.
    large: Range<usize>,
}

impl Spans {
    fn new(scale: Scale, length: usize, region: &Range<usize>) -> Self {
        let (num, den) = (scale.num() as usize, scale.den() as usize);
        let full = length / num * den;
        // Whole multiples of `den` small samples lie on whole large samples.
        let around = |range: Range<usize>, reach: usize| {
            let start = range.start.saturating_sub(reach) / den * den;
            start..((range.end + reach).div_ceil(den) * den).min(full)
        };
        let touched = region.start * den / num..(region.end * den).div_ceil(num);
        let small = around(touched, ENLARGING_REACH);
        let wide = around(small.clone(), SHRINKING_REACH);
        Self {
            num,
            den,
            length,
            region: region.clone(),
            large: wide.start / den * num..wide.end / den * num,
            small,
            wide,
        }
    }

    /// Weights that make `small` of `large`.
    fn shrink(&self) -> Axis {
        Axis::new(
            grid(&self.large, self.length),
            grid(&self.small, self.full()),
        )
    }

    /// Weights that make `region` of `small`.
    fn enlarge(&self) -> Axis {
        Axis::new(
            grid(&self.small, self.full()),
            grid(&self.region, self.length),
        )
    }

    /// Length of the whole axis, in small samples.
    fn full(&self) -> usize {
        self.length / self.num * self.den
    }

    /// Length of `small` when enlarged.
    fn enlarged(&self) -> usize {
        self.small.len() / self.den * self.num
    }

    /// Where `region` begins in `small` when enlarged.
    fn offset(&self) -> usize {
        self.region.start - self.small.start / self.den * self.num
    }
}

/// Some of `full` samples that divide a length of 1 evenly.
fn grid(range: &Range<usize>, full: usize) -> Grid {
    let unit = Grid::unit(full);
    Grid {
        len: range.len(),
        origin: unit.origin + range.start as f64 * unit.spacing,
        ..unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALES: [&str; 6] = ["3/2", "2", "5/2", "3", "4", "16"];

    fn noise(count: usize) -> Vec<u8> {
        (0..count as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect()
    }

    fn regions(width: usize, height: usize) -> [Region; 4] {
        let at = |x: usize, y: usize| Region {
            x: x..x + 32,
            y: y..y + 32,
        };
        [
            at(0, 0),
            at(width - 32, height - 32),
            at(51, 37),
            Region::all(width, height),
        ]
    }

    fn check(degradation: Degradation, whole: impl Fn(&[u8], usize, usize, Scale) -> Vec<f32>) {
        let data = noise(167 * 143);
        for scale in SCALES.map(|s| s.parse::<Scale>().unwrap()) {
            let size = cropped((167, 143), scale);
            let plane = Plane {
                data: &data,
                stride: 167,
                size,
            };
            let large: Vec<u8> = plane.part(&(0..size.0), &(0..size.1)).collect();
            let expected = whole(&large, size.0, size.1, scale);
            for region in regions(size.0, size.1) {
                let got = plane.degraded(scale, degradation, &region);
                for (row, got) in region.y.clone().zip(got.chunks(region.x.len())) {
                    let expected = &expected[row * size.0..][region.x.clone()];
                    assert_eq!(got, expected, "{scale} {region:?} row {row}");
                }
            }
        }
    }

    fn small(width: usize, height: usize, scale: Scale) -> (usize, usize) {
        let (num, den) = (scale.num() as usize, scale.den() as usize);
        (width / num * den, height / num * den)
    }

    #[test]
    fn matlab_regions_equal_the_whole_picture() {
        check(Degradation::Matlab, |large, width, height, scale| {
            let to = small(width, height, scale);
            let large: Vec<f64> = large.iter().copied().map(f64::from).collect();
            let shrunk = Resampler::resize((width, height), to).apply(&large);
            let shrunk: Vec<f32> = shrunk.iter().map(|v| f32::from((v + 0.5) as u8)).collect();
            Resampler::resize(to, (width, height)).apply(&shrunk)
        });
    }

    #[test]
    fn pillow_regions_equal_the_whole_picture() {
        check(Degradation::Pillow, |large, width, height, scale| {
            let to = small(width, height, scale);
            let mut picture = Picture::new(width, height, 1);
            picture.data = large.to_vec();
            let again = pillow(&pillow(&picture, to.0, to.1), width, height);
            again.data.iter().map(|&v| f32::from(v)).collect()
        });
    }
}
