//! Compared images for display: in colour, all of one size.

use crate::measure::Compared;
use crate::protocol::Method;
use srfilter::frame::resample::Resampler;
use srfilter::frame::{Color, Image, YuvToRgb};

/// RGB images of one comparison.
pub(crate) struct DisplayImages {
    pub(crate) original: Image,
    /// The low-resolution image.
    pub(crate) low: Image,
    pub(crate) bicubic: Image,
    pub(crate) result: Image,
}

impl Method {
    /// The images of a comparison in colour. If luma alone was compared, chroma is
    /// that of the low-resolution image, upscaled by bicubic interpolation,
    /// as in the element's output.
    pub(crate) fn show(&self, original: &Image, compared: Compared) -> DisplayImages {
        let Compared {
            low,
            degraded,
            bicubic,
            result,
            ..
        } = compared;
        let original = original.to_rgb();
        if low.channels > 1 || is_grey(&original) {
            return DisplayImages {
                original,
                low: low.to_rgb(),
                bicubic: bicubic.to_rgb(),
                result: result.to_rgb(),
            };
        }
        let (size, low_size) = ((original.width, original.height), (low.width, low.height));
        let shrink = Resampler::resize(size, low_size);
        let grow = Resampler::resize(low_size, size);
        let small = match degraded {
            Some(degraded) => chroma(&degraded.to_rgb()),
            None => chroma(&original).map(|plane| self.rounded(shrink.apply(&plane))),
        };
        let large = small.each_ref().map(|plane| grow.apply(plane));
        DisplayImages {
            low: colored(&low, &small),
            bicubic: colored(&bicubic, &large),
            result: colored(&result, &large),
            original,
        }
    }
}

/// Whether red, green and blue are the same everywhere.
fn is_grey(image: &Image) -> bool {
    let mut pixels = image.data.chunks_exact(image.channels);
    pixels.all(|p| p[0] == p[1] && p[1] == p[2])
}

/// The colour differences of an RGB image, BT.601 in studio range.
fn chroma(image: &Image) -> [Vec<f64>; 2] {
    let conversion = YuvToRgb::new(Color::default());
    let yuv = image
        .data
        .chunks_exact(image.channels)
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

/// An image of that size whose pixels are those of `image` nearest to them.
pub(crate) fn nearest(image: &Image, (width, height): (usize, usize)) -> Image {
    let mut out = Image::new(width, height, image.channels);
    let rows = out.data.chunks_exact_mut((width * image.channels).max(1));
    for (y, row) in rows.enumerate() {
        let from = y * image.height / height * image.width;
        for (x, pixel) in row.chunks_exact_mut(image.channels).enumerate() {
            let start = (from + x * image.width / width) * image.channels;
            pixel.copy_from_slice(&image.data[start..start + image.channels]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luma_and_chroma_make_the_colour_again() {
        let mut image = Image::new(16, 16, 3);
        for (i, v) in image.data.iter_mut().enumerate() {
            *v = (40 + i * 5 % 170) as u8;
        }
        let mut luma = Image::new(16, 16, 1);
        for (to, from) in luma.data.iter_mut().zip(image.luma()) {
            *to = (from + 0.5) as u8;
        }
        let again = colored(&luma, &chroma(&image));
        for (a, b) in again.data.iter().zip(&image.data) {
            assert!(a.abs_diff(*b) <= 1, "{b} became {a}");
        }
    }

    #[test]
    fn nearest_repeats_pixels() {
        let mut image = Image::new(2, 2, 1);
        image.data = vec![1, 2, 3, 4];
        let large = nearest(&image, (4, 4));
        let expected = [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4];
        assert_eq!(large.data, expected);
        assert_eq!(nearest(&large, (2, 2)), image);
    }
}
