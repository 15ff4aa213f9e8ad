//! Augmentation: rotations and reflections of patches, and other colours.

use super::image::PEAK;
use crate::degrade::raster::Raster;
use crate::recipe::Colors;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use srfilter::frame::Luma601;
use std::f32::consts::TAU;

/// The most that saturation is raised, as a factor.
const MOST_SATURATED: f32 = 4.0;

/// One of the eight symmetries of the square.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dihedral(pub(super) u8);

impl Dihedral {
    /// Appends a transformed square of `side` x `side` samples.
    pub(super) fn append(self, square: &[f32], side: usize, out: &mut Vec<f32>) {
        let flip = |mirrored: bool, i: usize| if mirrored { side - 1 - i } else { i };
        let [transposed, mirror_x, mirror_y] = [0, 1, 2].map(|bit| self.0 >> bit & 1 == 1);
        for y in 0..side {
            for x in 0..side {
                let (x, y) = (flip(mirror_x, x), flip(mirror_y, y));
                let index = if transposed {
                    x * side + y
                } else {
                    y * side + x
                };
                out.push(square[index]);
            }
        }
    }
}

/// Other colours of a patch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Recolor {
    /// Those of the image, changed.
    Changed {
        /// The planes that red, green and blue are taken from.
        order: [usize; 3],
        /// Factor of the distance to grey.
        saturation: f32,
    },
    /// From one to the other in a direction, over a length in pixels.
    Drawn {
        colors: [[f32; 3]; 2],
        direction: [f32; 2],
        length: f32,
    },
}

impl Recolor {
    /// Draws a change; `None` keeps the colours.
    pub(super) fn draw(colors: &Colors, side: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let mut hit = |share: f64| rng.random::<f64>() < share;
        let (flat, permute, saturate) =
            (hit(colors.flat), hit(colors.permute), hit(colors.saturate));
        if flat {
            return Some(Self::drawn(side as f32, rng));
        }
        let mut order = [0, 1, 2];
        if permute {
            order.swap(0, rng.random_range(0..3));
            order.swap(1, rng.random_range(1..3));
        }
        let saturation = match saturate {
            true => rng.random_range(1.0..MOST_SATURATED),
            false => 1.0,
        };
        (permute || saturate).then_some(Self::Changed { order, saturation })
    }

    /// A flat colour, a gradient or an edge.
    fn drawn(side: f32, rng: &mut ChaCha8Rng) -> Self {
        // A third of all values are 0, a third 1: most colours lie on the faces,
        // edges and corners of the cube, where photographs have few.
        let mut color = || {
            [0; 3].map(|_| match rng.random_range(0..3) {
                0 => 0.0,
                1 => 1.0,
                _ => rng.random::<f32>(),
            })
        };
        let (from, other) = (color(), color());
        let (sin, cos) = libm::sincosf(rng.random_range(0.0..TAU));
        let (to, length) = match rng.random_range(0..3) {
            0 => (from, side),
            1 => (other, side),
            _ => (other, 1.0),
        };
        Self::Drawn {
            colors: [from, to],
            direction: [cos, sin],
            length,
        }
    }

    /// Changes an RGB image.
    pub(super) fn apply(self, image: &mut Raster) {
        match self {
            Self::Changed { order, saturation } => {
                image.planes = order.map(|plane| image.planes[plane].clone()).to_vec();
                let [r, g, b] = &mut image.planes[..] else {
                    return;
                };
                for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                    let luma = Luma601::of([*r, *g, *b].map(|v| f64::from(v * PEAK)));
                    let grey = Luma601::RGB_PER_LUMA * (luma as f32 - 16.0) / PEAK;
                    for value in [r, g, b] {
                        *value = (grey + saturation * (*value - grey)).clamp(0.0, 1.0);
                    }
                }
            }
            Self::Drawn {
                colors: [from, to],
                direction: [cos, sin],
                length,
            } => {
                let (width, height) = image.size;
                let middle = |length: usize| 0.5 * (length as f32 - 1.0);
                for (plane, (from, to)) in image.planes.iter_mut().zip(from.into_iter().zip(to)) {
                    for (i, value) in plane.iter_mut().enumerate() {
                        let x = (i % width) as f32 - middle(width);
                        let y = (i / width) as f32 - middle(height);
                        let share = (0.5 + (x * cos + y * sin) / length).clamp(0.0, 1.0);
                        *value = from + share * (to - from);
                    }
                }
            }
        }
        image.round();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn turns_are_the_eight_of_the_square() {
        let square = [0.0, 1.0, 2.0, 3.0];
        let turned: HashSet<Vec<u32>> = (0..8)
            .map(|i| {
                let mut out = Vec::new();
                Dihedral(i).append(&square, 2, &mut out);
                out.iter().map(|&v| v as u32).collect()
            })
            .collect();
        assert_eq!(turned.len(), 8);
        assert!(turned.contains(&vec![0, 1, 2, 3]) && turned.contains(&vec![2, 0, 3, 1]));
    }
    #[test]
    fn permuted_planes_are_those_of_the_image() {
        let image = Raster {
            size: (1, 1),
            planes: vec![vec![0.2], vec![0.4], vec![0.8]],
        };
        let orders: HashSet<[u32; 3]> = (0..200)
            .map(|seed| {
                let colors = Colors {
                    permute: 1.0,
                    ..Colors::default()
                };
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let mut image = image.clone();
                let change = Recolor::draw(&colors, 1, &mut rng).unwrap();
                change.apply(&mut image);
                [0, 1, 2].map(|i| (image.planes[i][0] * 10.0 + 0.5) as u32)
            })
            .collect();
        assert_eq!(orders.len(), 6);
        assert!(orders.contains(&[8, 2, 4]) && orders.contains(&[2, 4, 8]));
    }

    /// Saturation keeps greys, and luma where nothing is clipped.
    #[test]
    fn saturation_moves_away_from_grey() {
        let mut image = Raster {
            size: (3, 1),
            planes: vec![
                vec![0.4, 0.5, 0.9],
                vec![0.4, 0.6, 0.1],
                vec![0.4, 0.5, 0.1],
            ],
        };
        let saturate = Recolor::Changed {
            order: [0, 1, 2],
            saturation: 2.0,
        };
        saturate.apply(&mut image);
        let pixel = |i: usize| [0, 1, 2].map(|p| (image.planes[p][i] * 255.0 + 0.5) as u8);
        assert_eq!(pixel(0), [102; 3]);
        let [r, g, b] = pixel(1);
        assert!(r == b && g - r > 48 && g - r < 54, "{r} {g} {b}");
        assert_eq!(pixel(2)[0], 255);
    }

    #[test]
    fn drawn_patches_are_flat_graded_and_split() {
        let colors = Colors {
            flat: 1.0,
            ..Colors::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut flat, mut full) = (0, 0);
        for _ in 0..300 {
            let mut image = Raster {
                size: (16, 16),
                planes: vec![vec![0.5; 256]; 3],
            };
            Recolor::draw(&colors, 16, &mut rng)
                .unwrap()
                .apply(&mut image);
            let same = |plane: &Vec<f32>| plane.iter().all(|v| *v == plane[0]);
            flat += usize::from(image.planes.iter().all(same));
            full += usize::from(
                image
                    .planes
                    .iter()
                    .all(|plane| plane[0] == 0.0 || plane[0] == 1.0),
            );
        }
        assert!((80..140).contains(&flat), "{flat}");
        assert!((60..140).contains(&full), "{full}");
    }
}
