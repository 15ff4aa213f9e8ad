//! Compared pictures as people look at them: in colour, all of one size.

use crate::measure::Compared;
use crate::protocol::Method;
use srfilter::frame::resample::Resampler;
use srfilter::frame::{Color, Image, YuvToRgb};

/// RGB pictures of one comparison.
pub(crate) struct Shown {
    pub(crate) original: Image,
    /// The shrunk picture in its own size.
    pub(crate) low: Image,
    pub(crate) bicubic: Image,
    pub(crate) result: Image,
}

impl Method {
    /// The pictures of a comparison in colour. Where luma alone was compared,
    /// chroma is that of the original, shrunk and enlarged by bicubic
    /// interpolation: what a viewer of the model's result would see.
    pub(crate) fn show(&self, original: &Image, compared: Compared) -> Shown {
        let Compared {
            low,
            bicubic,
            result,
            ..
        } = compared;
        let original = original.to_rgb();
        if low.channels > 1 || is_grey(&original) {
            return Shown {
                original,
                low: low.to_rgb(),
                bicubic: bicubic.to_rgb(),
                result: result.to_rgb(),
            };
        }
        let (size, low_size) = ((original.width, original.height), (low.width, low.height));
        let shrink = Resampler::resize(size, low_size);
        let grow = Resampler::resize(low_size, size);
        let small = chroma(&original).map(|plane| self.rounded(shrink.apply(&plane)));
        let large = small.each_ref().map(|plane| grow.apply(plane));
        Shown {
            low: colored(&low, &small),
            bicubic: colored(&bicubic, &large),
            result: colored(&result, &large),
            original,
        }
    }
}

/// Whether red, green and blue are the same everywhere.
fn is_grey(picture: &Image) -> bool {
    let mut pixels = picture.data.chunks_exact(picture.channels);
    pixels.all(|p| p[0] == p[1] && p[1] == p[2])
}

/// The colour differences of an RGB picture, BT.601 in studio range.
fn chroma(picture: &Image) -> [Vec<f64>; 2] {
    let conversion = YuvToRgb::new(Color::default());
    let yuv = picture
        .data
        .chunks_exact(picture.channels)
        .map(|p| conversion.yuv([p[0], p[1], p[2]].map(f32::from)));
    yuv.map(|[_, u, v]| (f64::from(u), f64::from(v)))
        .unzip()
        .into()
}

/// RGB of a plane of luma and planes of colour differences.
fn colored(luma: &Image, [u, v]: &[Vec<f64>; 2]) -> Image {
    let conversion = YuvToRgb::new(Color::default());
    let mut out = Image::new(luma.width, luma.height, 3);
    let samples = luma.data.iter().zip(u).zip(v);
    for (pixel, ((&y, &u), &v)) in out.data.chunks_exact_mut(3).zip(samples) {
        let rgb = conversion.rgb([f32::from(y), u as f32, v as f32]);
        // `as` saturates.
        pixel.copy_from_slice(&rgb.map(|v| (v + 0.5) as u8));
    }
    out
}

/// A picture of that size whose pixels are those of `picture` nearest to them.
pub(crate) fn nearest(picture: &Image, (width, height): (usize, usize)) -> Image {
    let mut out = Image::new(width, height, picture.channels);
    let rows = out.data.chunks_exact_mut((width * picture.channels).max(1));
    for (y, row) in rows.enumerate() {
        let from = y * picture.height / height * picture.width;
        for (x, pixel) in row.chunks_exact_mut(picture.channels).enumerate() {
            let start = (from + x * picture.width / width) * picture.channels;
            pixel.copy_from_slice(&picture.data[start..start + picture.channels]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luma_and_chroma_make_the_colour_again() {
        let mut picture = Image::new(16, 16, 3);
        for (i, v) in picture.data.iter_mut().enumerate() {
            *v = (40 + i * 5 % 170) as u8;
        }
        let mut luma = Image::new(16, 16, 1);
        for (to, from) in luma.data.iter_mut().zip(picture.luma()) {
            *to = (from + 0.5) as u8;
        }
        let again = colored(&luma, &chroma(&picture));
        for (a, b) in again.data.iter().zip(&picture.data) {
            assert!(a.abs_diff(*b) <= 1, "{b} became {a}");
        }
    }

    #[test]
    fn nearest_repeats_pixels() {
        let mut picture = Image::new(2, 2, 1);
        picture.data = vec![1, 2, 3, 4];
        let large = nearest(&picture, (4, 4));
        let expected = [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4];
        assert_eq!(large.data, expected);
        assert_eq!(nearest(&large, (2, 2)), picture);
    }
}
