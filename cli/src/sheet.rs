//! The sheet of `sr compare`: images side by side, whole and zoomed.

use crate::detail::Area;
use crate::show::nearest;
use crate::text::{Pen, Rgb};
use anyhow::Result;
use srfilter::frame::Image;
use srfilter::frame::resample::pillow;

/// Narrowest and widest column, in pixels.
const COLUMN: (usize, usize) = (256, 400);

/// Maximum height of a panel, in halves of its width.
const TALLEST: usize = 3;

/// Side of a zoomed pixel, in pixels of the sheet.
const ZOOM: usize = 4;

/// Space at the sheet's edges and between columns, in pixels.
const GAP: usize = 16;

/// Height of the title, of names and of numbers, in pixels.
const TITLE: f32 = 21.0;
const NAME: f32 = 19.0;
const NUMBERS: f32 = 16.0;

/// Height of a caption with the space around it, in pixels.
const CAPTION: usize = 58;

const PAPER: Rgb = [255; 3];
const INK: Rgb = [28, 32, 36];
const FAINT: Rgb = [90, 98, 106];
const MARK: Rgb = [255, 64, 32];

/// A column of the sheet.
pub(crate) struct Panel {
    pub(crate) name: String,
    /// RGB, as large as those of all panels.
    pub(crate) image: Image,
    /// Captions of the whole image and of the zoomed area.
    pub(crate) captions: [String; 2],
}

/// An image and its results.
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
    /// The area that is zoomed.
    pub(crate) area: Area,
}

/// Width and height of the area to zoom, for an image of this width.
pub(crate) fn zoomed_part(width: usize) -> (usize, usize) {
    let side = column(width) / ZOOM;
    (side, side)
}

fn column(width: usize) -> usize {
    width.clamp(COLUMN.0, COLUMN.1)
}

impl Sheet {
    /// Draws the sheet, in RGB.
    ///
    /// # Errors
    ///
    /// A font that cannot be read; it is built in.
    pub(crate) fn draw(&self) -> Result<Image> {
        let pen = Pen::new()?;
        let column = column(self.panels.first().map_or(0, |p| p.image.width));
        let limit = (column, column * TALLEST / 2);
        let rows: Vec<[Image; 2]> = self
            .panels
            .iter()
            .map(|panel| {
                let whole = self.marked(shrink(&panel.image, limit), panel.image.width);
                [whole, zoom(&self.area.of(&panel.image), limit)]
            })
            .collect();
        let height = |row: usize| rows.iter().map(|pair| pair[row].height).max().unwrap_or(0);
        let top = GAP + TITLE as usize + GAP;
        let tops = [top, top + height(0) + CAPTION];
        let width = GAP + rows.len() * (column + GAP);
        let mut sheet = Image::new(width, tops[1] + height(1) + CAPTION, 3);
        fill(&mut sheet, PAPER);
        let title = pen.fitted(&self.title, TITLE, (width - 2 * GAP) as f32);
        pen.write(&mut sheet, (GAP, GAP), &title, TITLE, INK);
        for (i, (panel, pair)) in self.panels.iter().zip(&rows).enumerate() {
            let left = GAP + i * (column + GAP);
            for (row, image) in pair.iter().enumerate() {
                paste(&mut sheet, image, (left, tops[row]));
                let under = tops[row] + height(row) + 6;
                let line = |text: &str, size| pen.fitted(text, size, column as f32);
                let name = line(&panel.name, NAME);
                pen.write(&mut sheet, (left, under), &name, NAME, INK);
                let numbers = line(&panel.captions[row], NUMBERS);
                let under = under + NAME as usize + 3;
                pen.write(&mut sheet, (left, under), &numbers, NUMBERS, FAINT);
            }
        }
        Ok(sheet)
    }

    /// The whole image, shown from `width` pixels, with a frame around the part.
    fn marked(&self, mut whole: Image, width: usize) -> Image {
        let shown = |length: usize| length * whole.width / width;
        let Area { x, y, .. } = self.area;
        let (left, top) = (shown(x), shown(y));
        let right = shown(x + self.area.width).min(whole.width).max(left + 1) - 1;
        let bottom = shown(y + self.area.height).min(whole.height).max(top + 1) - 1;
        for (inset, color) in [(0, MARK), (1, MARK), (2, PAPER)] {
            let (l, t) = (left + inset, top + inset);
            let (r, b) = (right.saturating_sub(inset), bottom.saturating_sub(inset));
            for x in l..=r {
                set(&mut whole, (x, t), color);
                set(&mut whole, (x, b), color);
            }
            for y in t..=b {
                set(&mut whole, (l, y), color);
                set(&mut whole, (r, y), color);
            }
        }
        whole
    }
}

/// The image, downscaled if it is too large.
fn shrink(image: &Image, (width, height): (usize, usize)) -> Image {
    if image.width <= width && image.height <= height {
        return image.clone();
    }
    let narrow = image.width * height > image.height * width;
    let (w, h) = match narrow {
        true => (width, (image.height * width / image.width).max(1)),
        false => ((image.width * height / image.height).max(1), height),
    };
    pillow(image, w, h)
}

/// The image, its pixels repeated as often as the limit allows.
fn zoom(image: &Image, limit: (usize, usize)) -> Image {
    let times = (limit.0 / image.width).min(limit.1 / image.height);
    match times {
        0 => shrink(image, limit),
        _ => nearest(image, (image.width * times, image.height * times)),
    }
}

fn fill(image: &mut Image, color: Rgb) {
    let pixels = image.data.chunks_exact_mut(3);
    pixels.for_each(|pixel| pixel.copy_from_slice(&color));
}

fn set(image: &mut Image, (x, y): (usize, usize), color: Rgb) {
    if x < image.width && y < image.height {
        let start = (y * image.width + x) * 3;
        image.data[start..start + 3].copy_from_slice(&color);
    }
}

/// Copies an RGB image into another, where it has to fit.
fn paste(sheet: &mut Image, image: &Image, (left, top): (usize, usize)) {
    for (y, row) in image.data.chunks_exact(image.width * 3).enumerate() {
        let start = ((top + y) * sheet.width + left) * 3;
        sheet.data[start..start + row.len()].copy_from_slice(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sheet of two panels, grey ones of that size.
    fn sheet(width: usize, height: usize, area: Area) -> Image {
        let panel = |value| {
            let mut image = Image::new(width, height, 3);
            fill(&mut image, [value; 3]);
            Panel {
                name: format!("grey {value}"),
                image,
                captions: ["whole".to_owned(), "part".to_owned()],
            }
        };
        let sheet = Sheet {
            title: "a title that is far too long for a sheet of two columns, is it not?".to_owned(),
            panels: vec![panel(50), panel(150)],
            area,
        };
        sheet.draw().unwrap()
    }

    /// How often a colour is in the image.
    fn count(image: &Image, color: Rgb) -> usize {
        let pixels = image.data.chunks_exact(3);
        pixels.filter(|pixel| *pixel == color).count()
    }

    #[test]
    fn panels_stand_side_by_side_and_the_part_is_marked() {
        let area = Area {
            x: 10,
            y: 20,
            width: 64,
            height: 64,
        };
        let sheet = sheet(300, 200, area);
        let (rows, zoomed) = (200 + 256, 4 * 64);
        assert_eq!(sheet.width, 16 + 2 * (300 + 16));
        assert_eq!(sheet.height, 53 + rows + 2 * CAPTION);
        for value in [50, 150] {
            let grey = count(&sheet, [value; 3]);
            let whole = 300 * 200 - 3 * 4 * 64;
            assert!(grey >= whole + zoomed * zoomed, "{value}: {grey}");
        }
        let mark = 2 * (4 * 63 + 4 * 61);
        assert_eq!(count(&sheet, MARK), mark);
    }

    #[test]
    fn any_size_and_part_can_be_drawn() {
        for (width, height) in [(12, 900), (2000, 30), (1000, 1000)] {
            for (x, y, w, h) in [
                (0, 0, 1, 1),
                (0, 0, width, height),
                (width - 1, height - 1, 1, 1),
            ] {
                let (width_of, height_of) = (w, h);
                let area = Area {
                    x,
                    y,
                    width: width_of,
                    height: height_of,
                };
                let sheet = sheet(width, height, area);
                assert!(count(&sheet, [150; 3]) > 0);
                assert!(sheet.width <= 16 + 2 * (400 + 16));
            }
        }
    }
}
