//! Bicubic downscaling and, for pre-upsampling networks, upscaling again: with
//! MATLAB's kernel exactly as in inference, with Pillow's as the reference
//! implementations of the RGB models.
//!
//! Only the requested region is computed, from a context as wide as the kernels
//! reach, so that the result is that of the whole image.

use srfilter::Scale;
use srfilter::frame::Image;
use srfilter::frame::resample::{Region, ResampleAxis, Resampler, SampleGrid, pillow};
use std::ops::Range;

/// Low-resolution samples that upscaling reads beyond a region: the
/// cubic reaches 2, one more for rounding of the position.
const ENLARGING_REACH: usize = 3;

/// The same for downscaling, in low-resolution samples.
const SHRINKING_REACH: usize = 3;

/// The bicubic degradations, which need no context beyond the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bicubic {
    /// MATLAB's `imresize`; the small image is rounded to 8 bit.
    Matlab,
    /// Pillow's `BICUBIC`, 8 bit throughout.
    Pillow,
}

/// One plane of an image.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// Rows of `stride` samples.
    pub data: &'a [u8],
    /// Distance between rows.
    pub stride: usize,
    /// Width and height that are used: multiples of the scale's numerator.
    pub size: (usize, usize),
}

/// The largest size at or below `size` that a scale divides evenly.
pub fn cropped(size: (usize, usize), scale: Scale) -> (usize, usize) {
    let whole = |length: usize| length - length % scale.num() as usize;
    (whole(size.0), whole(size.1))
}

impl Plane<'_> {
    /// The region, downscaled by `scale` and upscaled again: rows of samples
    /// from 0 to 255, rounded and clamped only with Pillow.
    pub fn degraded(&self, scale: Scale, kind: Bicubic, region: &Region) -> Vec<f32> {
        let [x, y] = self.axes(scale);
        let (x, y) = (x.under(&region.x), y.under(&region.y));
        match kind {
            Bicubic::Matlab => {
                let small: Vec<f32> = self.matlab(&x, &y).into_iter().map(f32::from).collect();
                Resampler::new(x.enlarge(&region.x), y.enlarge(&region.y)).apply(&small)
            }
            Bicubic::Pillow => {
                let small = self.pillow(&x, &y);
                let again = pillow(&small, x.upscaled(), y.upscaled());
                let (left, top) = (region.x.start - x.offset(), region.y.start - y.offset());
                let part = again.crop(left, top, region.x.len(), region.y.len());
                part.data.iter().map(|&v| f32::from(v)).collect()
            }
        }
    }

    /// A region of the image downscaled by `scale`, in low-resolution samples:
    /// rows of 8-bit samples.
    pub fn downscaled(&self, scale: Scale, kind: Bicubic, region: &Region) -> Vec<u8> {
        let [x, y] = self.axes(scale);
        let (x, y) = (x.of(region.x.clone()), y.of(region.y.clone()));
        match kind {
            Bicubic::Matlab => self.matlab(&x, &y),
            Bicubic::Pillow => self.pillow(&x, &y).data,
        }
    }

    /// Width and height after downscaling.
    pub fn downscaled_size(&self, scale: Scale) -> (usize, usize) {
        let [x, y] = self.axes(scale);
        (x.full(), y.full())
    }

    fn axes(&self, scale: Scale) -> [Line; 2] {
        let line = |length| Line {
            num: scale.num() as usize,
            den: scale.den() as usize,
            length,
        };
        [line(self.size.0), line(self.size.1)]
    }

    /// The low-resolution samples, rounded to 8 bit as MATLAB rounds.
    fn matlab(&self, x: &Spans, y: &Spans) -> Vec<u8> {
        let large: Vec<f64> = self.part(&x.large, &y.large).map(f64::from).collect();
        let small = Resampler::new(x.shrink(), y.shrink()).apply(&large);
        // `as` saturates; halves round up.
        small.iter().map(|v| (v + 0.5) as u8).collect()
    }

    /// The low-resolution samples, by Pillow's arithmetic.
    fn pillow(&self, x: &Spans, y: &Spans) -> Image {
        let mut large = Image::new(x.large.len(), y.large.len(), 1);
        large.data = self.part(&x.large, &y.large).collect();
        let wide = pillow(&large, x.wide.len(), y.wide.len());
        wide.crop(
            x.small.start - x.wide.start,
            y.small.start - y.wide.start,
            x.small.len(),
            y.small.len(),
        )
    }

    /// The samples of some columns and rows.
    pub fn part(&self, x: &Range<usize>, y: &Range<usize>) -> impl Iterator<Item = u8> {
        let rows = y.clone().map(|row| &self.data[row * self.stride..]);
        rows.flat_map(|row| row[x.clone()].iter().copied())
    }
}

/// One axis of a scale: `num` high-resolution samples for `den` low-resolution
/// ones.
#[derive(Clone, Copy)]
struct Line {
    num: usize,
    den: usize,
    /// Length in high-resolution samples.
    length: usize,
}

impl Line {
    /// Length in low-resolution samples.
    fn full(self) -> usize {
        self.length / self.num * self.den
    }

    /// The range extended by `reach` on both sides, then to multiples of `den`
    /// low-resolution samples, which fall on whole high-resolution samples.
    fn around(self, range: &Range<usize>, reach: usize) -> Range<usize> {
        let start = range.start.saturating_sub(reach) / self.den * self.den;
        start..((range.end + reach).div_ceil(self.den) * self.den).min(self.full())
    }

    /// The low-resolution samples that a high-resolution `region` is upscaled from.
    fn under(self, region: &Range<usize>) -> Spans {
        let (num, den) = (self.num, self.den);
        let touched = region.start * den / num..(region.end * den).div_ceil(num);
        self.of(self.around(&touched, ENLARGING_REACH))
    }

    /// The sources of some low-resolution samples.
    fn of(self, small: Range<usize>) -> Spans {
        let wide = self.around(&small, SHRINKING_REACH);
        Spans {
            large: wide.start / self.den * self.num..wide.end / self.den * self.num,
            line: self,
            small,
            wide,
        }
    }
}

/// Low-resolution samples of one axis and their sources.
struct Spans {
    line: Line,
    /// The low-resolution samples.
    small: Range<usize>,
    /// The same, extended to whole high-resolution samples.
    wide: Range<usize>,
    /// The high-resolution samples of `wide`.
    large: Range<usize>,
}

impl Spans {
    /// Weights from `large` to `small`.
    fn shrink(&self) -> ResampleAxis {
        ResampleAxis::new(
            grid(&self.large, self.line.length),
            grid(&self.small, self.line.full()),
        )
    }

    /// Weights from `small` to a high-resolution region.
    fn enlarge(&self, region: &Range<usize>) -> ResampleAxis {
        ResampleAxis::new(
            grid(&self.small, self.line.full()),
            grid(region, self.line.length),
        )
    }

    /// Length of `small` when upscaled.
    fn upscaled(&self) -> usize {
        self.small.len() / self.line.den * self.line.num
    }

    /// First sample of `small` when upscaled.
    fn offset(&self) -> usize {
        self.small.start / self.line.den * self.line.num
    }
}

/// Some of `full` samples that divide a length of 1 evenly.
fn grid(range: &Range<usize>, full: usize) -> SampleGrid {
    let unit = SampleGrid::unit(full);
    SampleGrid {
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

    fn check(kind: Bicubic, whole: impl Fn(&[u8], usize, usize, Scale) -> Vec<f32>) {
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
                let got = plane.degraded(scale, kind, &region);
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
    fn small_regions_equal_the_whole_small_picture() {
        let data = noise(167 * 143);
        for scale in SCALES.map(|s| s.parse::<Scale>().unwrap()) {
            for kind in [Bicubic::Matlab, Bicubic::Pillow] {
                let plane = Plane {
                    data: &data,
                    stride: 167,
                    size: cropped((167, 143), scale),
                };
                let (width, height) = plane.downscaled_size(scale);
                assert_eq!((width, height), small(plane.size.0, plane.size.1, scale));
                let whole = Region::all(width, height);
                let whole = plane.downscaled(scale, kind, &whole);
                // Both start from the same low-resolution samples.
                let all = Region::all(plane.size.0, plane.size.1);
                let upscaled = match kind {
                    Bicubic::Matlab => {
                        let small: Vec<f32> = whole.iter().map(|&v| f32::from(v)).collect();
                        Resampler::resize((width, height), plane.size).apply(&small)
                    }
                    Bicubic::Pillow => {
                        let mut image = Image::new(width, height, 1);
                        image.data = whole.clone();
                        let again = pillow(&image, plane.size.0, plane.size.1);
                        again.data.iter().map(|&v| f32::from(v)).collect()
                    }
                };
                assert_eq!(plane.degraded(scale, kind, &all), upscaled, "{scale}");
                for (x, y) in [(0, 0), (width - 7, height - 5), (1, 2)] {
                    let region = Region {
                        x: x..x + 7,
                        y: y..y + 5,
                    };
                    let got = plane.downscaled(scale, kind, &region);
                    for (row, got) in region.y.clone().zip(got.chunks(7)) {
                        let expected = &whole[row * width..][region.x.clone()];
                        assert_eq!(got, expected, "{scale} {region:?} row {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn matlab_regions_equal_the_whole_picture() {
        check(Bicubic::Matlab, |large, width, height, scale| {
            let to = small(width, height, scale);
            let large: Vec<f64> = large.iter().copied().map(f64::from).collect();
            let downscaled = Resampler::resize((width, height), to).apply(&large);
            let downscaled: Vec<f32> = downscaled
                .iter()
                .map(|v| f32::from((v + 0.5) as u8))
                .collect();
            Resampler::resize(to, (width, height)).apply(&downscaled)
        });
    }

    #[test]
    fn pillow_regions_equal_the_whole_picture() {
        check(Bicubic::Pillow, |large, width, height, scale| {
            let to = small(width, height, scale);
            let mut image = Image::new(width, height, 1);
            image.data = large.to_vec();
            let again = pillow(&pillow(&image, to.0, to.1), width, height);
            again.data.iter().map(|&v| f32::from(v)).collect()
        });
    }
}
