//! A training image in memory.

use crate::degrade::raster::{Raster, reflected};
use crate::degrade::{Plane, cropped};
use srfilter::Scale;
use srfilter::frame::{Image, to_u8};
use srfilter::models::Channels;

/// Largest sample value.
pub(super) const PEAK: f32 = 255.0;

/// One image in memory, as the network's planes.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingImage {
    /// File name without folders.
    pub name: String,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// One plane of luma, or red, green and blue.
    pub planes: Vec<Vec<u8>>,
    /// Weight in sampling, relative to its area.
    pub repeat: f64,
}

impl TrainingImage {
    /// The planes of an image that a network takes as input; of one with alpha, over
    /// black.
    pub fn new(name: &str, image: &Image, channels: Channels, repeat: f64) -> Self {
        let image = image.over_black();
        let planes = match channels {
            // Luma is 16 to 235: adding a half rounds it.
            Channels::Luma => vec![image.luma().iter().map(|y| (y + 0.5) as u8).collect()],
            Channels::Rgb => {
                let rgb = image.to_rgb();
                let plane = |i: usize| rgb.data.iter().skip(i).step_by(3).copied().collect();
                (0..3).map(plane).collect()
            }
        };
        Self {
            name: name.to_owned(),
            size: (image.width, image.height),
            planes,
            repeat,
        }
    }

    /// The samples of a raster.
    pub(super) fn of_raster(raster: &Raster) -> Self {
        let bytes = |plane: &Vec<f32>| plane.iter().map(|&v| to_u8(v * PEAK)).collect();
        Self {
            name: String::new(),
            size: raster.size,
            planes: raster.planes.iter().map(bytes).collect(),
            repeat: 1.0,
        }
    }

    /// A plane, cropped to a size that the scale divides.
    pub fn plane(&self, index: usize, scale: Scale) -> Plane<'_> {
        Plane {
            data: &self.planes[index],
            stride: self.size.0,
            size: cropped(self.size, scale),
        }
    }

    /// A part of the image, mirrored beyond its edges.
    pub fn window(&self, left: isize, top: isize, size: (usize, usize)) -> Raster {
        let (width, height) = self.size;
        let columns: Vec<usize> = (0..size.0 as isize)
            .map(|x| reflected(left + x, width))
            .collect();
        let rows = || (0..size.1 as isize).map(|y| reflected(top + y, height) * width);
        let cut = |plane: &Vec<u8>| {
            let row = |row: usize| {
                columns
                    .iter()
                    .map(move |x| f32::from(plane[row + x]) / PEAK)
            };
            rows().flat_map(row).collect()
        };
        Raster {
            size,
            planes: self.planes.iter().map(cut).collect(),
        }
    }

    /// The centre of the image, at most `side` pixels wide and high.
    pub fn center(&self, side: usize) -> Self {
        let start = |length: usize| length.saturating_sub(side) / 2;
        let (x, y) = (start(self.size.0), start(self.size.1));
        let size = (self.size.0.min(side), self.size.1.min(side));
        let cut = |plane: &Vec<u8>| {
            let rows = plane.chunks_exact(self.size.0).skip(y).take(size.1);
            rows.flat_map(|row| row[x..x + size.0].iter().copied())
                .collect()
        };
        Self {
            name: self.name.clone(),
            size,
            planes: self.planes.iter().map(cut).collect(),
            repeat: self.repeat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sprites come with any colour there.
    #[test]
    fn what_lies_under_transparent_pixels_is_not_learnt() {
        let mut sprite = Image::new(2, 1, 4);
        sprite.data = vec![9, 90, 200, 255, 0, 0, 0, 0];
        let mut other = sprite.clone();
        other.data[4..7].fill(255);
        for channels in [Channels::Rgb, Channels::Luma] {
            let [a, b] =
                [&sprite, &other].map(|image| TrainingImage::new("s", image, channels, 1.0));
            assert_eq!(a, b);
        }
    }

    #[test]
    fn grey_files_fill_three_planes() {
        let mut image = Image::new(2, 1, 1);
        image.data = vec![0, 255];
        let rgb = TrainingImage::new("g", &image, Channels::Rgb, 1.0);
        assert_eq!(rgb.planes, vec![vec![0, 255]; 3]);
        let luma = TrainingImage::new("g", &image, Channels::Luma, 1.0);
        assert_eq!(luma.planes, vec![vec![16, 235]]);
    }
}
