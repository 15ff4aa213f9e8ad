//! Images as planes of floating-point samples, with the filters and the
//! resizing of degradations.

use srfilter::frame::resample::Resampler;
use srfilter::frame::to_u8;

/// Largest 8-bit value.
const PEAK: f32 = 255.0;

/// OpenCV's and PyTorch's cubic.
const CUBIC: f64 = -0.75;

/// One plane of luma, or red, green and blue: samples from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Raster {
    /// Width and height.
    pub size: (usize, usize),
    /// Dense rows, plane by plane.
    pub planes: Vec<Vec<f32>>,
}

/// How an image is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The mean of the samples that a new one covers.
    Area,
    /// Of the two nearest samples in either direction.
    Bilinear,
    /// Of the four nearest.
    Bicubic,
}

/// A square of weights with a middle.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Its side, odd.
    pub side: usize,
    /// Dense rows.
    pub weights: Vec<f32>,
}

/// The sample that stands for `i` beyond an edge: mirrored at the last one,
/// which is not repeated.
pub fn reflected(i: isize, length: usize) -> usize {
    let last = length as isize - 1;
    let period = (2 * last).max(1);
    let i = i.rem_euclid(period);
    i.min(period - i).min(last) as usize
}

impl Raster {
    /// Changes every sample.
    pub fn map(&mut self, change: impl Fn(f32) -> f32) {
        let samples = self.planes.iter_mut().flatten();
        samples.for_each(|v| *v = change(*v));
    }

    /// Rounds to 8 bit.
    pub fn round(&mut self) {
        self.map(|v| f32::from(to_u8(v * PEAK)) / PEAK);
    }

    /// Clamps samples to 0..=1.
    pub fn clamp(&mut self) {
        self.map(|v| v.clamp(0.0, 1.0));
    }

    /// A part of the image.
    pub fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let cut = |plane: &Vec<f32>| {
            let rows = plane.chunks_exact(self.size.0).skip(top).take(height);
            rows.flat_map(|row| row[left..left + width].iter().copied())
                .collect()
        };
        Self {
            size: (width, height),
            planes: self.planes.iter().map(cut).collect(),
        }
    }

    /// The image moved by whole samples, mirrored where it had none.
    pub fn moved(&self, right: isize, down: isize) -> Self {
        let (width, height) = self.size;
        let cut = |plane: &Vec<f32>| {
            let row = |y: usize| reflected(y as isize - down, height) * width;
            let at = |x: usize| reflected(x as isize - right, width);
            let rows = (0..height).map(row);
            rows.flat_map(|row| (0..width).map(move |x| plane[row + at(x)]))
                .collect()
        };
        Self {
            size: self.size,
            planes: self.planes.iter().map(cut).collect(),
        }
    }

    /// The image under a kernel, mirrored beyond its edges.
    pub fn filtered(&self, kernel: &Kernel) -> Self {
        let side = kernel.side;
        let taps = kernel.weights.iter().enumerate();
        let taps: Vec<_> = taps
            .filter(|(_, weight)| **weight != 0.0)
            .map(|(i, &weight)| (i % side, i / side, weight))
            .collect();
        self.convolved(side / 2, &taps)
    }

    /// The image under a row of weights and then under a column of them.
    pub fn blurred(&self, row: &[f32]) -> Self {
        let reach = row.len() / 2;
        let taps = |at: fn(usize, usize) -> (usize, usize)| -> Vec<_> {
            let taps = row.iter().enumerate();
            taps.map(|(i, &weight)| {
                let (x, y) = at(i, reach);
                (x, y, weight)
            })
            .collect()
        };
        self.convolved(reach, &taps(|i, middle| (i, middle)))
            .convolved(reach, &taps(|i, middle| (middle, i)))
    }

    /// Sums of samples: each tap is a column, a row (from `reach` left of and
    /// above the sample) and a weight.
    fn convolved(&self, reach: usize, taps: &[(usize, usize, f32)]) -> Self {
        let (width, height) = self.size;
        let wide = width + 2 * reach;
        let convolve = |plane: &Vec<f32>| {
            let near = |i: usize, length| reflected(i as isize - reach as isize, length);
            let rows = (0..height + 2 * reach).map(|y| near(y, height) * width);
            let padded: Vec<f32> = rows
                .flat_map(|row| (0..wide).map(move |x| plane[row + near(x, width)]))
                .collect();
            let mut result = vec![0f32; width * height];
            for (y, row) in result.chunks_exact_mut(width).enumerate() {
                for &(dx, dy, weight) in taps {
                    let source = &padded[(y + dy) * wide + dx..][..width];
                    let pairs = row.iter_mut().zip(source);
                    pairs.for_each(|(sum, v)| *sum += weight * v);
                }
            }
            result
        };
        Self {
            size: self.size,
            planes: self.planes.iter().map(convolve).collect(),
        }
    }

    /// The image at another size, edges repeated. Shrinking by
    /// [`Resize::Bilinear`] or [`Resize::Bicubic`] leaves samples out, as
    /// OpenCV and PyTorch do.
    pub fn resized(&self, size: (usize, usize), how: Resize) -> Self {
        let (across, down) = (how.axis(self.size.0, size.0), how.axis(self.size.1, size.1));
        let resize = |plane: &Vec<f32>| {
            let rows = plane.chunks_exact(self.size.0);
            let wide: Vec<f32> = rows
                .flat_map(|row| {
                    let sum =
                        |taps: &Vec<(usize, f32)>| taps.iter().map(|(i, w)| w * row[*i]).sum();
                    across.iter().map(sum).collect::<Vec<f32>>()
                })
                .collect();
            let mut result = vec![0f32; size.0 * size.1];
            for (row, taps) in result.chunks_exact_mut(size.0).zip(&down) {
                for (i, weight) in taps {
                    let source = &wide[i * size.0..][..size.0];
                    let pairs = row.iter_mut().zip(source);
                    pairs.for_each(|(sum, v)| *sum += weight * v);
                }
            }
            result
        };
        Self {
            size,
            planes: self.planes.iter().map(resize).collect(),
        }
    }

    /// The image sharpened as Real-ESRGAN sharpens its targets: by half of
    /// what a wide blur takes away, where that is more than ten 8-bit steps.
    pub fn sharpened(&self) -> Self {
        const AMOUNT: f32 = 0.5;
        const THRESHOLD: f32 = 10.0 / PEAK;
        let window = gaussian(SHARPENING_SIDE, SHARPENING_SIGMA);
        let soft = self.blurred(&window);
        let mut mask = self.clone();
        for (mask, soft) in each(&mut mask, &soft) {
            *mask = f32::from(u8::from((*mask - soft).abs() > THRESHOLD));
        }
        let mask = mask.blurred(&window);
        let mut result = self.clone();
        let softs = soft.planes.iter().flatten();
        for ((v, mask), soft) in each(&mut result, &mask).zip(softs) {
            let sharp = (*v + AMOUNT * (*v - soft)).clamp(0.0, 1.0);
            *v = mask * sharp + (1.0 - mask) * *v;
        }
        result
    }
}

/// Side of the blur that sharpening goes by, and OpenCV's standard deviation
/// for that side.
const SHARPENING_SIDE: usize = 51;
const SHARPENING_SIGMA: f64 = 0.3 * ((SHARPENING_SIDE as f64 - 1.0) * 0.5 - 1.0) + 0.8;

/// Root of the mean square by which two images differ.
#[cfg(test)]
pub(crate) fn distance(a: &Raster, b: &Raster) -> f32 {
    let mut a = a.clone();
    let squares = each(&mut a, b).map(|(a, b)| (*a - b).powi(2));
    let (sum, count) = squares.fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
    f32::sqrt(sum / count)
}

/// The samples of two images, side by side.
fn each<'a>(a: &'a mut Raster, b: &'a Raster) -> impl Iterator<Item = (&'a mut f32, &'a f32)> {
    a.planes.iter_mut().flatten().zip(b.planes.iter().flatten())
}

/// A normalised Gaussian of `side` weights.
pub fn gaussian(side: usize, sigma: f64) -> Vec<f32> {
    let weight = |i: usize| {
        let distance = i as f64 - (side / 2) as f64;
        libm::exp(-0.5 * (distance / sigma).powi(2))
    };
    let sum: f64 = (0..side).map(weight).sum();
    (0..side).map(|i| (weight(i) / sum) as f32).collect()
}

impl Resize {
    /// Source samples and weights of each new sample.
    fn axis(self, from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
        (0..to).map(|i| self.taps(i, from, to)).collect()
    }

    fn taps(self, i: usize, from: usize, to: usize) -> Vec<(usize, f32)> {
        let center = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let low = center.floor();
        let share = center - low;
        let at = |offset: isize| (low as isize + offset).clamp(0, from as isize - 1) as usize;
        match self {
            Self::Area => {
                let part = i * from / to..((i + 1) * from).div_ceil(to);
                let share = 1.0 / part.len() as f32;
                part.map(|at| (at, share)).collect()
            }
            Self::Bilinear => vec![(at(0), 1.0 - share as f32), (at(1), share as f32)],
            Self::Bicubic => (-1..=2)
                .map(|offset| (at(offset), cubic(offset as f64 - share) as f32))
                .collect(),
        }
    }
}

fn cubic(distance: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC
    } else {
        0.0
    }
}

/// MATLAB's bicubic interpolation to another size, not rounded.
pub fn bicubically(image: &Raster, size: (usize, usize)) -> Raster {
    let resampler = Resampler::resize(image.size, size);
    Raster {
        size,
        planes: image
            .planes
            .iter()
            .map(|plane| resampler.apply(plane))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Raster {
        let samples = (0..width * height).map(|i| i as f32 / (width * height) as f32);
        Raster {
            size: (width, height),
            planes: vec![samples.collect()],
        }
    }

    #[test]
    fn edges_are_mirrored() {
        let mirrored: Vec<_> = (-4..8).map(|i| reflected(i, 4)).collect();
        assert_eq!(mirrored, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!(reflected(-3, 1), 0);
        let moved = ramp(4, 1).moved(1, 0);
        assert_eq!(moved.planes[0], [0.25, 0.0, 0.25, 0.5]);
    }

    #[test]
    fn filters_by_hand() {
        let image = ramp(3, 1);
        let kernel = Kernel {
            side: 3,
            weights: vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        };
        // The samples on the right, mirrored at the edge.
        let [a, b, c] = [0.0, 1.0 / 3.0, 2.0 / 3.0];
        assert_eq!(image.filtered(&kernel).planes[0], [b, c, b]);
        let blurred = image.blurred(&[0.25, 0.5, 0.25]).planes[0].clone();
        for (got, by_hand) in blurred
            .iter()
            .zip([0.5 * a + 0.5 * b, b, 0.5 * c + 0.5 * b])
        {
            assert!((got - by_hand).abs() < 1e-6, "{blurred:?}");
        }
    }

    #[test]
    fn resizes_by_hand() {
        let image = Raster {
            size: (4, 1),
            planes: vec![vec![0.0, 0.2, 0.4, 1.0]],
        };
        let result = |width, how| image.resized((width, 1), how).planes[0].clone();
        let close = |got: Vec<f32>, by_hand: &[f32]| {
            assert_eq!(got.len(), by_hand.len());
            let near = got.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near, "{got:?} for {by_hand:?}");
        };
        close(result(2, Resize::Area), &[0.1, 0.7]);
        close(result(2, Resize::Bilinear), &[0.1, 0.7]);
        // At half: weights -0.09375, 0.59375, 0.59375, -0.09375.
        close(
            result(2, Resize::Bicubic),
            &[0.59375 * 0.2 - 0.09375 * 0.4, 0.59375 * 1.4 - 0.09375 * 1.2],
        );
        close(
            result(8, Resize::Bilinear)[..3].to_vec(),
            &[0.0, 0.05, 0.15],
        );
        for how in [Resize::Area, Resize::Bilinear, Resize::Bicubic] {
            close(result(4, how), &image.planes[0]);
            let flat = Raster {
                size: (7, 5),
                planes: vec![vec![0.5; 35]],
            };
            let other = flat.resized((10, 3), how);
            assert!(other.planes[0].iter().all(|v| (v - 0.5).abs() < 1e-6));
        }
    }

    /// Flat parts and faint steps stay; a strong edge overshoots.
    #[test]
    fn sharpening_minds_strong_edges_only() {
        let edge = |step: f32| {
            let row = (0..128).map(|x| if x < 64 { 0.4 } else { 0.4 + step });
            let row: Vec<f32> = row.collect();
            Raster {
                size: (128, 60),
                planes: vec![row.repeat(60)],
            }
        };
        let faint = edge(0.03);
        let sharp = faint.sharpened();
        let off = sharp.planes[0].iter().zip(&faint.planes[0]);
        assert!(off.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-5);
        let strong = edge(0.3).sharpened();
        let (left, right) = (strong.planes[0][63], strong.planes[0][64]);
        assert!(left < 0.37 && right > 0.73, "{left} {right}");
        assert!((strong.planes[0][0] - 0.4).abs() < 1e-3);
    }
}
