//! Text in images.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use anyhow::{Result, anyhow};
use srfilter::frame::Image;

/// Red, green and blue.
pub(crate) type Rgb = [u8; 3];

/// Writes in DejaVu Sans.
pub(crate) struct Pen {
    font: FontRef<'static>,
}

impl Pen {
    /// A pen.
    ///
    /// # Errors
    ///
    /// A font that cannot be read; it is built in.
    pub(crate) fn new() -> Result<Self> {
        let font = FontRef::try_from_slice(dejavu::sans::regular())
            .map_err(|e| anyhow!("the built-in font cannot be read: {e}"))?;
        Ok(Self { font })
    }

    /// Width of a line in pixels, at a height of `size` pixels.
    pub(crate) fn width(&self, text: &str, size: f32) -> f32 {
        self.layout(text, size).1
    }

    /// The text, cut short with an ellipsis where it is wider than `width` pixels.
    pub(crate) fn fitted(&self, text: &str, size: f32, width: f32) -> String {
        if self.width(text, size) <= width {
            return text.to_owned();
        }
        let mut shortened = text.to_owned();
        while shortened.pop().is_some() {
            let cut = format!("{}…", shortened.trim_end());
            if self.width(&cut, size) <= width {
                return cut;
            }
        }
        String::new()
    }

    /// Writes a line of `size` pixels' height into an RGB image, its upper
    /// left corner at (x, y). Parts outside the image are not drawn.
    pub(crate) fn write(
        &self,
        canvas: &mut Image,
        (x, y): (usize, usize),
        text: &str,
        size: f32,
        color: Rgb,
    ) {
        let scale = PxScale::from(size);
        let baseline = y as f32 + self.font.as_scaled(scale).ascent();
        for (letter, left) in self.layout(text, size).0 {
            let position = ab_glyph::point(x as f32 + left, baseline);
            let glyph = self
                .font
                .glyph_id(letter)
                .with_scale_and_position(scale, position);
            let Some(outline) = self.font.outline_glyph(glyph) else {
                continue;
            };
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, cover| {
                let at = (
                    corner.x as i64 + i64::from(dx),
                    corner.y as i64 + i64::from(dy),
                );
                if let (Ok(x), Ok(y)) = (usize::try_from(at.0), usize::try_from(at.1)) {
                    blend(canvas, (x, y), color, cover);
                }
            });
        }
    }

    /// The position of each letter, and the width of the line.
    fn layout(&self, text: &str, size: f32) -> (Vec<(char, f32)>, f32) {
        let font = self.font.as_scaled(PxScale::from(size));
        let (mut x, mut last) = (0.0, None);
        let mut layout = Vec::new();
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            x += last.map_or(0.0, |last| font.kern(last, id));
            layout.push((letter, x));
            x += font.h_advance(id);
            last = Some(id);
        }
        (layout, x)
    }
}

/// Mixes a colour into a pixel.
fn blend(canvas: &mut Image, (x, y): (usize, usize), color: Rgb, cover: f32) {
    if x >= canvas.width || y >= canvas.height {
        return;
    }
    let start = (y * canvas.width + x) * 3;
    for (sample, ink) in canvas.data[start..start + 3].iter_mut().zip(color) {
        let (paper, ink) = (f32::from(*sample), f32::from(ink));
        // `as` saturates.
        *sample = (paper + (ink - paper) * cover.min(1.0) + 0.5) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_within_its_box() {
        let pen = Pen::new().unwrap();
        let mut canvas = Image::new(200, 40, 3);
        pen.write(&mut canvas, (10, 8), "PSNR 29.41 dB", 20.0, [255; 3]);
        let width = pen.width("PSNR 29.41 dB", 20.0);
        let mut inked = 0;
        for (i, pixel) in canvas.data.chunks_exact(3).enumerate() {
            let (x, y) = (i % 200, i / 200);
            if pixel[0] > 0 {
                inked += 1;
                assert!((10..=10 + width as usize).contains(&x) && (8..28).contains(&y));
            }
        }
        assert!(inked > 200, "{inked} pixels of ink");
    }

    #[test]
    fn cuts_what_is_too_wide() {
        let pen = Pen::new().unwrap();
        assert_eq!(pen.fitted("srcnn", 18.0, 500.0), "srcnn");
        let cut = pen.fitted("srcnn (runs/mine/best.safetensors)", 18.0, 120.0);
        assert!(cut.starts_with("srcnn") && cut.ends_with('…'), "{cut}");
        assert!(pen.width(&cut, 18.0) <= 120.0);
    }

    #[test]
    fn ink_outside_the_picture_is_lost() {
        let pen = Pen::new().unwrap();
        let mut canvas = Image::new(8, 8, 3);
        pen.write(&mut canvas, (4, 2), "WWW", 20.0, [255; 3]);
    }
}
