//! Still pictures: 8-bit samples in memory.

use super::{Color, FrameMut, FrameRef, Luma601, PixelFormat};
use crate::Result;

/// A picture of packed 8-bit samples: grey, RGB or RGBA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Samples a pixel: 1, 3 or 4.
    pub channels: usize,
    /// Rows without padding.
    pub data: Vec<u8>,
}

impl Image {
    /// A black picture.
    pub fn new(width: usize, height: usize, channels: usize) -> Self {
        Self {
            width,
            height,
            channels,
            data: vec![0; width * height * channels],
        }
    }

    /// The part of `width` x `height` pixels at (`x`, `y`), cut at the picture's edge.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        let (x, y) = (x.min(self.width), y.min(self.height));
        let width = width.min(self.width - x);
        let height = height.min(self.height - y);
        let mut data = Vec::with_capacity(width * height * self.channels);
        for row in y..y + height {
            let start = (row * self.width + x) * self.channels;
            data.extend_from_slice(&self.data[start..start + width * self.channels]);
        }
        Self {
            width,
            height,
            channels: self.channels,
            data,
        }
    }

    /// The same picture with three channels; alpha is dropped.
    pub fn to_rgb(&self) -> Self {
        let data = match self.channels {
            1 => self.data.iter().flat_map(|&v| [v; 3]).collect(),
            3 => self.data.clone(),
            _ => self
                .data
                .chunks_exact(self.channels)
                .flat_map(|p| [p[0], p[1], p[2]])
                .collect(),
        };
        Self {
            channels: 3,
            data,
            ..*self
        }
    }

    /// The same picture over black; without alpha, the same picture. What lies under
    /// transparent pixels does not show.
    pub fn over_black(&self) -> Self {
        if self.channels != 4 {
            return self.clone();
        }
        let over = |value: u8, alpha: u8| {
            let product = u16::from(value) * u16::from(alpha);
            ((product + 127) / 255) as u8
        };
        let pixels = self.data.chunks_exact(4);
        let data = pixels.flat_map(|p| [over(p[0], p[3]), over(p[1], p[3]), over(p[2], p[3])]);
        Self {
            channels: 3,
            data: data.collect(),
            ..*self
        }
    }

    /// BT.601 studio luma of every pixel, 16 to 235, unrounded ([`Luma601`]).
    pub fn luma(&self) -> Vec<f64> {
        if self.channels == 1 {
            return self
                .data
                .iter()
                .map(|&v| Luma601::of([f64::from(v); 3]))
                .collect();
        }
        self.data
            .chunks_exact(self.channels)
            .map(|p| Luma601::of([p[0], p[1], p[2]].map(f64::from)))
            .collect()
    }

    /// The frame format of the same samples.
    pub fn format(&self) -> PixelFormat {
        match self.channels {
            1 => PixelFormat::Gray8,
            3 => PixelFormat::Rgb,
            _ => PixelFormat::Rgba,
        }
    }

    /// The picture as a frame to read.
    ///
    /// # Errors
    ///
    /// An empty picture, or `data` too short for the size.
    pub fn frame(&self) -> Result<FrameRef<'_>> {
        FrameRef::new(
            self.format(),
            (self.width, self.height),
            Color::of_format(self.format()),
            &[(&self.data, self.width * self.channels)],
        )
    }

    /// The picture as a frame to write.
    ///
    /// # Errors
    ///
    /// As [`Image::frame`].
    pub fn frame_mut(&mut self) -> Result<FrameMut<'_>> {
        let stride = self.width * self.channels;
        FrameMut::new(
            self.format(),
            (self.width, self.height),
            Color::of_format(self.format()),
            [(self.data.as_mut_slice(), stride)],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_under_transparent_pixels() {
        let mut picture = Image::new(4, 1, 4);
        let pixels = [
            [250, 100, 3, 255],
            [250, 100, 3, 0],
            [250, 100, 3, 128],
            [255, 255, 255, 1],
        ];
        picture.data = pixels.concat();
        let over = picture.over_black();
        assert_eq!(over.channels, 3);
        let expected = [250, 100, 3, 0, 0, 0, 125, 50, 2, 1, 1, 1];
        assert_eq!(over.data, expected);
        assert_eq!(over.over_black(), over);
    }

    #[test]
    fn crops_within_the_edge() {
        let mut picture = Image::new(4, 3, 1);
        picture
            .data
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = i as u8);
        assert_eq!(picture.crop(1, 1, 2, 9).data, [5, 6, 9, 10]);
    }
}
