//! Combing: the two fields of an interlaced frame show different moments.

use super::{Family, FrameRef};

/// Smallest step between a line and both of its neighbours, of 255 (`cthresh`).
const STEP: f32 = 9.0;

/// Side of a block (`blockx`, `blocky`) and the number of combed pixels above which it
/// is combed (`MI`).
const BLOCK: usize = 16;
const COMBED: u32 = 80;

impl FrameRef<'_> {
    /// Whether moving objects have comb-shaped edges, as where fields of different
    /// moments are woven into one frame. Measured on luma, or G of RGB.
    ///
    /// The measure is that of the field matcher TFM with its defaults (TIVTC,
    /// <https://github.com/pinterf/TIVTC>). Two fields of a still scene make the same
    /// frame as a progressive camera, and are not combed.
    pub fn is_combed(&self) -> bool {
        let components = self.format().components();
        let component = match self.format().family() {
            Family::Rgb => &components[1],
            _ => &components[0],
        };
        let (width, height) = self.size();
        let mut luma = Vec::new();
        self.read(component, &mut luma);
        // Blocks overlap by half: each is four cells.
        let cell = BLOCK / 2;
        let (across, down) = (width.div_ceil(cell), height.div_ceil(cell));
        let mut cells = vec![0_u32; across * down];
        for y in 2..height.saturating_sub(2) {
            let row = |y: usize| &luma[y * width..(y + 1) * width];
            let rows = [row(y - 2), row(y - 1), row(y), row(y + 1), row(y + 2)];
            for x in 0..width {
                let combed = is_tooth(rows.map(|row| row[x]));
                cells[y / cell * across + x / cell] += u32::from(combed);
            }
        }
        (0..down.saturating_sub(1)).any(|y| {
            let (upper, lower) = (y * across, (y + 1) * across);
            (0..across.saturating_sub(1)).any(|x| {
                let block = [upper + x, upper + x + 1, lower + x, lower + x + 1];
                block.iter().map(|&i| cells[i]).sum::<u32>() > COMBED
            })
        })
    }
}

/// Whether the middle one of five pixels in a column sticks out between its neighbours.
fn is_tooth([a, b, c, d, e]: [f32; 5]) -> bool {
    let between = (c - b > STEP && c - d > STEP) || (b - c > STEP && d - c > STEP);
    between && (a + 4.0 * c + e - 3.0 * (b + d)).abs() > 6.0 * STEP
}

#[cfg(test)]
mod tests {
    use crate::frame::{Color, FrameRef, PixelFormat};

    /// A frame with a bright disc whose two fields are `shift` pixels apart.
    fn disc(shift: f64) -> bool {
        let (width, height) = (160, 120);
        let level = |x: f64, y: f64| {
            let distance = libm::hypot(x - 80.0, y - 60.0);
            (40.0 + 160.0 * (30.0 - distance + 0.5).clamp(0.0, 1.0)) as u8
        };
        let data: Vec<u8> = (0..width * height)
            .map(|i| {
                let (x, y) = ((i % width) as f64, i / width);
                level(x + shift * (y % 2) as f64, y as f64)
            })
            .collect();
        let format = PixelFormat::Gray8;
        let frame = FrameRef::new(format, (width, height), Color::default(), &[(&data, width)]);
        frame.unwrap().is_combed()
    }

    #[test]
    fn fields_of_two_moments_are_told_from_one() {
        assert!(!disc(0.0));
        for shift in [6.0, -8.0, 20.0] {
            assert!(disc(shift), "{shift}");
        }
    }

    #[test]
    fn small_frames_are_not_combed() {
        let data = [0, 255, 0, 255];
        let frame = FrameRef::new(PixelFormat::Gray8, (1, 4), Color::default(), &[(&data, 1)]);
        assert!(!frame.unwrap().is_combed());
    }
}
