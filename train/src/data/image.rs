//! A training image in memory.

use crate::degrade::raster::{Raster, reflected};
use crate::degrade::{Plane, Shot, cropped};
use srfilter::Scale;
use srfilter::frame::{Image, to_u8};
use srfilter::models::Channels;

/// Largest sample value.
pub(super) const PEAK: f32 = 255.0;

/// One image or clip in memory, as the network's planes.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingImage {
    /// File name without folders.
    pub name: String,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// One plane of luma, or red, green and blue, of every frame.
    pub planes: Vec<Vec<u8>>,
    /// Number of frames: 1 of an image.
    pub frames: usize,
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
            frames: 1,
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
            frames: 1,
            repeat: 1.0,
        }
    }

    /// The planes of a frame.
    fn frame(&self, frame: usize) -> &[Vec<u8>] {
        let count = self.planes.len() / self.frames;
        &self.planes[frame * count..][..count]
    }

    /// The planes of a frame, cropped to a size that the scale divides.
    pub fn cropped_planes(
        &self,
        frame: usize,
        scale: Scale,
    ) -> impl Iterator<Item = Plane<'_>> + Clone {
        let plane = move |data| Plane {
            data,
            stride: self.size.0,
            size: cropped(self.size, scale),
        };
        self.frame(frame)
            .iter()
            .map(|plane| plane.as_slice())
            .map(plane)
    }

    /// A part of a frame, mirrored beyond its edges, and of up to `reach` frames before and
    /// after it; beyond its ends the clip runs backwards.
    pub fn shot(
        &self,
        frame: usize,
        (left, top): (isize, isize),
        size: (usize, usize),
        reach: usize,
    ) -> Shot {
        let reach = if self.frames > 1 { reach as isize } else { 0 };
        let at = |offset: isize| {
            let frame = reflected(frame as isize + offset, self.frames);
            self.window(frame, left, top, size)
        };
        Shot {
            before: (-reach..0).map(at).collect(),
            image: at(0),
            after: (1..=reach).map(at).collect(),
        }
    }

    /// A part of a frame, mirrored beyond its edges.
    pub fn window(&self, frame: usize, left: isize, top: isize, size: (usize, usize)) -> Raster {
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
            planes: self.frame(frame).iter().map(cut).collect(),
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
            frames: self.frames,
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

    #[test]
    fn a_shot_turns_back_at_the_ends_of_its_clip() {
        let clip = TrainingImage {
            name: "clip".to_owned(),
            size: (1, 1),
            planes: (0..3).map(|n| vec![51 * n]).collect(),
            frames: 3,
            repeat: 1.0,
        };
        let values = |frame: usize, reach: usize| -> Vec<f32> {
            let Shot {
                before,
                image,
                after,
            } = clip.shot(frame, (0, 0), (1, 1), reach);
            let frames = before.into_iter().chain([image]).chain(after);
            frames
                .map(|frame| (frame.planes[0][0] * 5.0).round())
                .collect()
        };
        assert_eq!(values(0, 2), [2.0, 1.0, 0.0, 1.0, 2.0]);
        assert_eq!(values(2, 1), [1.0, 2.0, 1.0]);
        assert_eq!(values(1, 0), [1.0]);
    }
}
