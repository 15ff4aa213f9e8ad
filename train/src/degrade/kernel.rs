//! The blur kernels of Real-ESRGAN's degradation.

use super::raster::Kernel;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::PI;

/// Sides that kernels have.
const SIDES: std::ops::RangeInclusive<usize> = 3..=10;

/// Share of low-pass filters among the kernels.
const LOW_PASS: f64 = 0.1;

/// From this side on a low-pass may have a lower cutoff.
const LARGE: usize = 13;

/// The shape of a bell over `q`, the squared distance in standard deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bell {
    /// exp(-q / 2).
    Gaussian,
    /// exp(-q^b / 2).
    Generalised(f64),
    /// 1 / (1 + q^b).
    Plateau(f64),
}

impl Bell {
    fn at(self, q: f64) -> f64 {
        match self {
            Self::Gaussian => libm::exp(-0.5 * q),
            Self::Generalised(power) => libm::exp(-0.5 * libm::pow(q, power)),
            Self::Plateau(power) => 1.0 / (1.0 + libm::pow(q, power)),
        }
    }
}

/// A bell with standard deviations along two axes, rotated by an angle.
pub fn bell(side: usize, bell: Bell, sigma: [f64; 2], angle: f64) -> Kernel {
    let (sin, cos) = libm::sincos(angle);
    normalised(side, |x, y| {
        let (u, v) = (cos * x + sin * y, cos * y - sin * x);
        bell.at((u / sigma[0]).powi(2) + (v / sigma[1]).powi(2))
    })
}

/// The ideal low-pass of all directions: passes waves of less than `cutoff`
/// radians a sample.
pub fn low_pass(side: usize, cutoff: f64) -> Kernel {
    normalised(side, |x, y| match libm::hypot(x, y) {
        0.0 => cutoff * cutoff / (4.0 * PI),
        r => cutoff * libm::j1(cutoff * r) / (2.0 * PI * r),
    })
}

fn normalised(side: usize, weight: impl Fn(f64, f64) -> f64) -> Kernel {
    let middle = (side / 2) as f64;
    let at = |i: usize| weight((i % side) as f64 - middle, (i / side) as f64 - middle);
    let sum: f64 = (0..side * side).map(at).sum();
    Kernel {
        side,
        weights: (0..side * side).map(|i| (at(i) / sum) as f32).collect(),
    }
}

/// A random side: 7, 9, ... 21.
fn side(rng: &mut ChaCha8Rng) -> usize {
    2 * rng.random_range(SIDES) + 1
}

/// A random kernel of a blur, with standard deviations below `sigma`.
pub fn random(rng: &mut ChaCha8Rng, sigma: f64) -> Kernel {
    let side = side(rng);
    if rng.random::<f64>() < LOW_PASS {
        let lowest = if side < LARGE { PI / 3.0 } else { PI / 5.0 };
        return low_pass(side, rng.random_range(lowest..PI));
    }
    // Shares of the round and the longish forms of each bell.
    let shares = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03];
    let mut ball = rng.random::<f64>();
    let form = shares.iter().position(|share| {
        ball -= share;
        ball < 0.0
    });
    let form = form.unwrap_or(0);
    let mut sigmas = [0; 2].map(|_| rng.random_range(0.2..sigma));
    let mut angle = rng.random_range(-PI..PI);
    if form % 2 == 0 {
        (sigmas[1], angle) = (sigmas[0], 0.0);
    }
    // Below 1 as often as above.
    let mut power = |low: f64, high: f64| {
        let end = if rng.random::<bool>() { low } else { high };
        1.0 + (end - 1.0) * rng.random::<f64>()
    };
    let shape = match form / 2 {
        0 => Bell::Gaussian,
        1 => Bell::Generalised(power(0.5, 4.0)),
        _ => Bell::Plateau(power(1.0, 2.0)),
    };
    bell(side, shape, sigmas, angle)
}

/// The random low-pass at the end of the chain; none every fifth time.
pub fn last(rng: &mut ChaCha8Rng) -> Option<Kernel> {
    let expected = rng.random::<f64>() < 0.8;
    expected.then(|| {
        let side = side(rng);
        low_pass(side, rng.random_range(PI / 3.0..PI))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Mean square distance from the middle along x, y, and their product.
    fn moments(kernel: &Kernel) -> [f64; 3] {
        let middle = (kernel.side / 2) as f64;
        let weights = kernel.weights.iter().enumerate();
        weights.fold([0.0; 3], |[xx, yy, xy], (i, &w)| {
            let (x, y) = (
                (i % kernel.side) as f64 - middle,
                (i / kernel.side) as f64 - middle,
            );
            let w = f64::from(w);
            [xx + w * x * x, yy + w * y * y, xy + w * x * y]
        })
    }

    #[test]
    fn bells_have_the_spread_that_they_are_told() {
        let [xx, yy, xy] = moments(&bell(21, Bell::Gaussian, [2.0, 1.0], 0.0));
        assert!(
            (xx - 4.0).abs() < 0.02 && (yy - 1.0).abs() < 0.02,
            "{xx} {yy}"
        );
        assert!(xy.abs() < 1e-6);
        // A quarter turn changes the axes, an eighth mixes them.
        let [tx, ty, _] = moments(&bell(21, Bell::Gaussian, [2.0, 1.0], PI / 2.0));
        assert!((tx - yy).abs() < 1e-5 && (ty - xx).abs() < 1e-5);
        let [dx, dy, dxy] = moments(&bell(21, Bell::Gaussian, [2.0, 1.0], PI / 4.0));
        assert!((dx - dy).abs() < 1e-5 && (dxy - 1.5).abs() < 0.02, "{dxy}");
    }

    #[test]
    fn other_bells_are_flatter_or_steeper() {
        let shares = |shape| {
            let kernel = bell(21, shape, [2.0; 2], 0.0);
            let row = &kernel.weights[10 * 21..11 * 21];
            [1, 2, 4].map(|i| row[10 + i] / row[10])
        };
        let [near, at, far] = shares(Bell::Gaussian);
        assert!((at - libm::expf(-0.5)).abs() < 1e-5);
        let [flat, same, steep] = shares(Bell::Generalised(4.0));
        assert!(flat > near && (same - at).abs() < 1e-5 && steep < far);
        let [_, half, _] = shares(Bell::Plateau(2.0));
        assert!((half - 0.5).abs() < 1e-5);
    }

    /// Gain of a low-pass for a wave of `frequency` radians per sample.
    #[test]
    fn a_low_pass_cuts_where_it_is_told() {
        let kernel = low_pass(21, PI / 2.0);
        let left = |frequency: f64| -> f64 {
            let weights = kernel.weights.iter().enumerate();
            weights
                .map(|(i, &w)| f64::from(w) * libm::cos(frequency * ((i % 21) as f64 - 10.0)))
                .sum()
        };
        assert!((left(0.0) - 1.0).abs() < 1e-5);
        assert!((left(PI / 4.0) - 1.0).abs() < 0.12, "{}", left(PI / 4.0));
        assert!(left(0.8 * PI).abs() < 0.12, "{}", left(0.8 * PI));
    }

    #[test]
    fn random_kernels_keep_their_shares() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let kernels: Vec<Kernel> = (0..2000).map(|_| random(&mut rng, 3.0)).collect();
        let share = |of: &dyn Fn(&Kernel) -> bool| {
            kernels.iter().filter(|k| of(k)).count() as f64 / kernels.len() as f64
        };
        for kernel in &kernels {
            let sum: f64 = kernel.weights.iter().map(|&w| f64::from(w)).sum();
            assert!((sum - 1.0).abs() < 1e-4);
            assert!((7..=21).contains(&kernel.side) && kernel.side % 2 == 1);
        }
        for side in (7..=21).step_by(2) {
            let share = share(&|k| k.side == side);
            assert!((share - 0.125).abs() < 0.03, "{side}: {share}");
        }
        // Low-passes have weights below zero; bells that are not round differ
        // along their axes.
        let negative = share(&|k| k.weights.iter().any(|&w| w < -1e-4));
        assert!((negative - 0.1).abs() < 0.03, "{negative}");
        let round = share(&|k| {
            let [xx, yy, xy] = moments(k);
            (xx - yy).abs() < 1e-3 && xy.abs() < 1e-3
        });
        assert!((round - (0.1 + 0.9 * 0.69)).abs() < 0.06, "{round}");
        let none = (0..2000).filter(|_| last(&mut rng).is_none()).count();
        assert!((300..500).contains(&none), "{none}");
    }
}
