//! Synthetic training images: smooth backgrounds, discs, boxes,
//! lines, strokes like writing, and textures, with soft edges one pixel wide.
//! They replace photographs where a run has no data.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use srfilter::frame::Image;
use std::f32::consts::{PI, TAU};

/// Side of an image in pixels.
pub const SIDE: usize = 256;

/// Shapes drawn over the background of an image.
const SHAPES: usize = 40;

/// Contrast of the faintest texture line relative to the strongest.
const TEXTURE_CONTRAST: std::ops::Range<f32> = 0.2..1.0;

type Color = [f32; 3];
type Point = [f32; 2];

/// Image number `index` of the series of `seed`.
pub fn image(seed: u32, index: usize) -> Image {
    let stream = crate::fnv(format!("drawn {index}"));
    let mut artist = Artist {
        rng: ChaCha8Rng::seed_from_u64(u64::from(seed) ^ stream),
        canvas: vec![[0.0; 3]; SIDE * SIDE],
    };
    artist.ground();
    for _ in 0..SHAPES {
        match artist.rng.random_range(0..6) {
            0 => artist.disc(),
            1 => artist.block(),
            2 => artist.line(),
            3 => artist.writing(),
            4 => artist.texture(),
            _ => artist.ring(),
        }
    }
    let mut image = Image::new(SIDE, SIDE, 3);
    let samples = artist.canvas.iter().flatten();
    for (target, value) in image.data.iter_mut().zip(samples) {
        *target = (value * 255.0 + 0.5) as u8;
    }
    image
}

struct Artist {
    rng: ChaCha8Rng,
    canvas: Vec<Color>,
}

impl Artist {
    fn color(&mut self) -> Color {
        let grey = self.rng.random::<f32>();
        let tint = self.rng.random::<f32>();
        [0; 3].map(|_| grey + tint * (self.rng.random::<f32>() - grey))
    }

    fn point(&mut self) -> Point {
        [0; 2].map(|_| self.rng.random_range(0.0..SIDE as f32))
    }

    /// A gradient with slow waves on it.
    fn ground(&mut self) {
        let (from, to) = (self.color(), self.color());
        let angle = self.rng.random_range(0.0..TAU);
        let (sin, cos) = libm::sincosf(angle);
        let waves = [0; 3].map(|_| [0; 3].map(|_| self.rng.random_range(-0.03..0.03f32)));
        for (i, pixel) in self.canvas.iter_mut().enumerate() {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            let along = (x * cos + y * sin) / SIDE as f32;
            let wave: f32 = waves
                .iter()
                .map(|[a, b, c]| libm::sinf(a * x + b * y + 99.0 * c))
                .sum();
            let share = (0.5 + 0.4 * along + 0.05 * wave).clamp(0.0, 1.0);
            *pixel = mix(from, to, share);
        }
    }

    /// Fills where `distance` (in pixels, negative inside) allows, within the
    /// square of `reach` around `center`.
    fn fill(
        &mut self,
        center: Point,
        reach: f32,
        paint: impl Fn(Point) -> Color,
        distance: impl Fn(Point) -> f32,
    ) {
        let side = |middle: f32| {
            let low = (middle - reach - 1.0).max(0.0) as usize;
            low..((middle + reach + 2.0).max(0.0) as usize).min(SIDE)
        };
        for y in side(center[1]) {
            for x in side(center[0]) {
                let at = [x as f32 + 0.5, y as f32 + 0.5];
                // The share of a pixel that a straight edge at that distance covers.
                let cover = (0.5 - distance(at)).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let pixel = &mut self.canvas[y * SIDE + x];
                    *pixel = mix(*pixel, paint(at), cover);
                }
            }
        }
    }

    fn disc(&mut self) {
        let (center, radius, color) =
            (self.point(), self.rng.random_range(2.0..30.0), self.color());
        self.fill(center, radius, |_| color, |p| length(p, center) - radius);
    }

    fn ring(&mut self) {
        let (center, color) = (self.point(), self.color());
        let radius = self.rng.random_range(4.0..40.0f32);
        let half = self.rng.random_range(0.4..3.0f32);
        let distance = |p| (length(p, center) - radius).abs() - half;
        self.fill(center, radius + half, |_| color, distance);
    }

    /// A turned rectangle in two colours.
    fn block(&mut self) {
        let (center, colors) = (self.point(), [self.color(), self.color()]);
        let half = [0; 2].map(|_| self.rng.random_range(2.0..35.0f32));
        let angle = self.rng.random_range(0.0..PI);
        let paint = |p: Point| {
            mix(
                colors[0],
                colors[1],
                ((p[1] - center[1]) / 70.0 + 0.5).clamp(0.0, 1.0),
            )
        };
        let distance = |p| {
            let [u, v] = turned(p, center, angle);
            (u.abs() - half[0]).max(v.abs() - half[1])
        };
        self.fill(center, libm::hypotf(half[0], half[1]), paint, distance);
    }

    fn line(&mut self) {
        let (from, to, color) = (self.point(), self.point(), self.color());
        let half = self.rng.random_range(0.3..2.5);
        self.stroke(from, to, half, color);
    }

    fn stroke(&mut self, from: Point, to: Point, half: f32, color: Color) {
        let center = [(from[0] + to[0]) / 2.0, (from[1] + to[1]) / 2.0];
        let reach = length(from, to) / 2.0 + half;
        self.fill(center, reach, |_| color, |p| to_segment(p, from, to) - half);
    }

    /// Rows of short strokes in one colour, spaced like letters.
    fn writing(&mut self) {
        let ([left, top], color) = (self.point(), self.color());
        let height = self.rng.random_range(5.0..14.0f32);
        let half = height * self.rng.random_range(0.05..0.1);
        let (rows, letters) = (self.rng.random_range(1..4), self.rng.random_range(3..14));
        for row in 0..rows {
            for letter in 0..letters {
                let corner = [
                    left + letter as f32 * height * 0.7,
                    top + row as f32 * height * 1.5,
                ];
                for _ in 0..self.rng.random_range(1..4) {
                    let [from, to] = [0; 2].map(|_| {
                        let across = f32::from(self.rng.random_range(0..3u8)) / 2.0;
                        let down = f32::from(self.rng.random_range(0..3u8)) / 2.0;
                        [corner[0] + across * height * 0.5, corner[1] + down * height]
                    });
                    self.stroke(from, to, half, color);
                }
            }
        }
    }

    /// A disc of stripes or of a woven pattern.
    fn texture(&mut self) {
        let (center, colors) = (self.point(), [self.color(), self.color()]);
        let radius = self.rng.random_range(12.0..45.0);
        let angle = self.rng.random_range(0.0..PI);
        let turns = [0; 2].map(|_| TAU / self.rng.random_range(3.0..16.0f32));
        let contrast = self.rng.random_range(TEXTURE_CONTRAST);
        let woven = self.rng.random::<bool>();
        let paint = |p: Point| {
            let [u, v] = turned(p, center, angle);
            let second = if woven { libm::sinf(v * turns[1]) } else { 1.0 };
            mix(
                colors[0],
                colors[1],
                0.5 + 0.5 * contrast * libm::sinf(u * turns[0]) * second,
            )
        };
        self.fill(center, radius, paint, |p| length(p, center) - radius);
    }
}

fn mix(a: Color, b: Color, share: f32) -> Color {
    [0, 1, 2].map(|i| a[i] + share * (b[i] - a[i]))
}

fn length(a: Point, b: Point) -> f32 {
    libm::hypotf(a[0] - b[0], a[1] - b[1])
}

fn turned(p: Point, center: Point, angle: f32) -> Point {
    let (x, y) = (p[0] - center[0], p[1] - center[1]);
    let (sin, cos) = libm::sincosf(angle);
    [cos * x + sin * y, cos * y - sin * x]
}

/// Distance to the straight line between two points.
fn to_segment(p: Point, from: Point, to: Point) -> f32 {
    let along = [to[0] - from[0], to[1] - from[1]];
    let square = along[0] * along[0] + along[1] * along[1];
    let dot = (p[0] - from[0]) * along[0] + (p[1] - from[1]) * along[1];
    let share = if square > 0.0 {
        (dot / square).clamp(0.0, 1.0)
    } else {
        0.0
    };
    length(p, [from[0] + share * along[0], from[1] + share * along[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides() {
        let first = image(1, 0);
        assert_eq!(first, image(1, 0));
        assert_ne!(first, image(1, 1));
        assert_ne!(first, image(2, 0));
        assert_eq!((first.width, first.height, first.channels), (SIDE, SIDE, 3));
    }

    /// Edges and flat parts: neighbours mostly close, some far apart.
    #[test]
    fn pictures_have_detail() {
        for index in 0..4 {
            let luma = image(7, index).luma();
            let steps: Vec<f64> = luma.windows(2).map(|w| (w[0] - w[1]).abs()).collect();
            let share = |limit: f64| {
                steps.iter().filter(|&&s| s > limit).count() as f64 / steps.len() as f64
            };
            assert!(
                share(20.0) > 0.01 && share(5.0) < 0.6,
                "{} {}",
                share(20.0),
                share(5.0)
            );
        }
    }
}
