//! Quality measures as the super-resolution literature defines them.
//!
//! All take planes of equal size in row order, values 0 to 255, in f64; those of
//! [`video`] need no original to compare with.

pub mod video;

/// Largest sample value.
const PEAK: f64 = 255.0;

/// Constants that keep SSIM finite where an image is flat (Wang et al. 2004).
const C1: f64 = (0.01 * PEAK) * (0.01 * PEAK);
const C2: f64 = (0.03 * PEAK) * (0.03 * PEAK);

/// Peak signal-to-noise ratio in dB over all samples; infinite for equal planes.
pub fn psnr(a: &[f64], b: &[f64]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    psnr_of_error(error, a.len().min(b.len()))
}

/// PSNR in dB of the sum of the squared errors of that many samples.
fn psnr_of_error(error: f64, samples: usize) -> f64 {
    10.0 * libm::log10(PEAK * PEAK * samples as f64 / error)
}

/// Mean structural similarity of two planes of `width` samples a row: 11 x 11
/// Gaussian window of sigma 1.5, windows fully inside the image (Wang et al.,
/// "Image Quality Assessment", IEEE TIP 13(4), 2004). `None` below 11 x 11.
pub fn ssim(a: &[f64], b: &[f64], width: usize) -> Option<f64> {
    const SIDE: usize = 11;
    const SIGMA: f64 = 1.5;
    let mut window = [0.0; SIDE];
    for (i, w) in window.iter_mut().enumerate() {
        let x = i as f64 - (SIDE / 2) as f64;
        *w = libm::exp(-x * x / (2.0 * SIGMA * SIGMA));
    }
    let sum: f64 = window.iter().sum();
    let window = window.map(|w| w / sum);
    mean_ssim(a, b, width, &window, 1.0)
}

/// As [`ssim`], with both planes padded by reflection (edge sample not
/// repeated), so that the mean is over every sample, as in torchmetrics since
/// version 1.5. `None` below 11 x 11.
pub fn ssim_reflect(a: &[f64], b: &[f64], width: usize) -> Option<f64> {
    const REACH: usize = 5;
    let height = a.len().checked_div(width)?;
    if width <= 2 * REACH || height <= 2 * REACH || a.len() != b.len() {
        return None;
    }
    let reflect = |i: usize, len: usize| {
        let i = i.abs_diff(REACH);
        i.min(2 * (len - 1) - i.min(2 * (len - 1)))
    };
    let extend = |plane: &[f64]| -> Vec<f64> {
        let rows = (0..height + 2 * REACH).map(|y| reflect(y, height) * width);
        rows.flat_map(|row| (0..width + 2 * REACH).map(move |x| row + reflect(x, width)))
            .map(|i| plane[i])
            .collect()
    };
    ssim(&extend(a), &extend(b), width + 2 * REACH)
}

/// As [`ssim`] with scikit-image's defaults: a uniform 7 x 7 window and
/// unbiased variances. `None` below 7 x 7.
pub fn ssim_uniform(a: &[f64], b: &[f64], width: usize) -> Option<f64> {
    const SIDE: usize = 7;
    let count = (SIDE * SIDE) as f64;
    let window = [1.0 / SIDE as f64; SIDE];
    mean_ssim(a, b, width, &window, count / (count - 1.0))
}

/// Mean SSIM with a separable window; `unbias` multiplies the variances.
fn mean_ssim(a: &[f64], b: &[f64], width: usize, window: &[f64], unbias: f64) -> Option<f64> {
    let height = a.len().checked_div(width)?;
    if width < window.len() || height < window.len() || a.len() != b.len() {
        return None;
    }
    let product = |f: fn(f64, f64) -> f64| -> Vec<f64> {
        let products: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
        filter(&products, width, window)
    };
    let mean_a = product(|a, _| a);
    let mean_b = product(|_, b| b);
    let square_a = product(|a, _| a * a);
    let square_b = product(|_, b| b * b);
    let cross = product(|a, b| a * b);
    let values = (0..mean_a.len()).map(|i| {
        let (ma, mb) = (mean_a[i], mean_b[i]);
        let variance_a = unbias * (square_a[i] - ma * ma);
        let variance_b = unbias * (square_b[i] - mb * mb);
        let covariance = unbias * (cross[i] - ma * mb);
        ((2.0 * ma * mb + C1) * (2.0 * covariance + C2))
            / ((ma * ma + mb * mb + C1) * (variance_a + variance_b + C2))
    });
    Some(values.sum::<f64>() / mean_a.len() as f64)
}

/// Separable filter over all windows fully inside the plane.
fn filter(plane: &[f64], width: usize, window: &[f64]) -> Vec<f64> {
    let inner = width + 1 - window.len();
    let rows: Vec<f64> = plane
        .chunks_exact(width)
        .flat_map(|row| row.windows(window.len()))
        .map(|samples| samples.iter().zip(window).map(|(s, w)| s * w).sum())
        .collect();
    let height = rows.len() / inner + 1 - window.len();
    let mut out = vec![0.0; inner * height];
    for (y, out) in out.chunks_exact_mut(inner).enumerate() {
        for (tap, weight) in window.iter().enumerate() {
            let row = &rows[(y + tap) * inner..][..inner];
            out.iter_mut().zip(row).for_each(|(o, s)| *o += s * weight);
        }
    }
    out
}

/// A plane without `border` samples on every side, and its new width.
pub fn shave(plane: &[f64], width: usize, border: usize) -> (Vec<f64>, usize) {
    let height = plane.len().checked_div(width).unwrap_or(0);
    let inner = width.saturating_sub(2 * border);
    let rows = height.saturating_sub(2 * border);
    let rows = plane.chunks_exact(width.max(1)).skip(border).take(rows);
    let samples = rows.flat_map(|row| row.iter().skip(border).take(inner));
    (samples.copied().collect(), inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_of_a_known_error() {
        let (a, b) = (vec![100.0; 64], vec![101.0; 64]);
        assert!((psnr(&a, &b) - 48.1308).abs() < 1e-4);
        assert_eq!(psnr(&a, &a), f64::INFINITY);
    }

    #[test]
    fn ssim_of_equal_and_of_flat_planes() {
        let ramp: Vec<f64> = (0..15 * 14).map(|i| f64::from(i % 200)).collect();
        for ssim in [ssim, ssim_uniform] {
            assert!((ssim(&ramp, &ramp, 15).unwrap() - 1.0).abs() < 1e-12);
            assert!(ssim(&ramp, &vec![0.0; 210], 15).unwrap() < 0.5);
            assert!(ssim(&[0.0; 30], &[0.0; 30], 5).is_none());
        }
    }

    #[test]
    fn shaves_every_side() {
        let plane: Vec<f64> = (0..20).map(f64::from).collect();
        assert_eq!(
            shave(&plane, 5, 1),
            (vec![6.0, 7.0, 8.0, 11.0, 12.0, 13.0], 3)
        );
        assert_eq!(shave(&plane, 5, 3), (vec![], 0));
    }
}
