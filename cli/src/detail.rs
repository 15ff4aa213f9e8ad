//! Finds the area of an image where two versions differ most.

use srfilter::frame::Image;

/// An area of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Area {
    /// Crops an image to the area.
    pub(crate) fn of(&self, image: &Image) -> Image {
        image.crop(self.x, self.y, self.width, self.height)
    }
}

/// The area of (width, height) pixels, or as much of it as there is, where two
/// images of one size and kind differ most: by the sum of squared differences.
pub(crate) fn busiest(a: &Image, b: &Image, (width, height): (usize, usize)) -> Area {
    let (width, height) = (width.min(a.width), height.min(a.height));
    let sums = summed_differences(a, b);
    let row = a.width + 1;
    let inside = |x: usize, y: usize| {
        let (top, bottom) = (y * row, (y + height) * row);
        sums[bottom + x + width] + sums[top + x] - sums[bottom + x] - sums[top + x + width]
    };
    let mut best = (0, 0, 0);
    for y in 0..=a.height - height {
        for x in 0..=a.width - width {
            let sum = inside(x, y);
            if sum > best.0 {
                best = (sum, x, y);
            }
        }
    }
    // Identical images: the centre.
    let (x, y) = match best.0 {
        0 => ((a.width - width) / 2, (a.height - height) / 2),
        _ => (best.1, best.2),
    };
    Area {
        x,
        y,
        width,
        height,
    }
}

/// For every corner between pixels, the sum of squared differences of all
/// samples above and left of it, in rows of `width + 1`.
fn summed_differences(a: &Image, b: &Image) -> Vec<u64> {
    let row = a.width + 1;
    let mut sums = vec![0; row * (a.height + 1)];
    for y in 0..a.height {
        let mut left = 0;
        for x in 0..a.width {
            let start = (y * a.width + x) * a.channels;
            let samples = a.data[start..start + a.channels].iter();
            let others = &b.data[start..start + a.channels];
            left += samples
                .zip(others)
                .map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2))
                .sum::<u64>();
            sums[(y + 1) * row + x + 1] = sums[y * row + x + 1] + left;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_spot_that_differs() {
        let a = Image::new(40, 30, 3);
        let mut b = a.clone();
        for (x, y) in [(25, 20), (28, 23), (2, 2)] {
            b.data[(y * 40 + x) * 3 + 1] = 200;
        }
        let area = busiest(&a, &b, (4, 4));
        let expected = Area {
            x: 25,
            y: 20,
            width: 4,
            height: 4,
        };
        assert_eq!(area, expected);
        assert_eq!(area.of(&b).data.iter().filter(|&&v| v > 0).count(), 2);
    }

    #[test]
    fn is_as_large_as_the_picture_allows() {
        let a = Image::new(10, 8, 1);
        let area = busiest(&a, &a, (64, 4));
        assert_eq!((area.x, area.y, area.width, area.height), (0, 2, 10, 4));
    }
}
