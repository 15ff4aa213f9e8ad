//! Winograd's minimal filtering for square kernels: which points, and the
//! transforms of the weights.
//!
//! F(m x m, r x r) computes m x m results of an r x r kernel from n x n
//! inputs, n = m + r - 1, by n x n products: the input and the kernel are
//! evaluated as polynomials at n - 1 points (0 and pairs of opposite ones)
//! and at infinity, multiplied point by point, and interpolated. Andrew
//! Lavin, Scott Gray, "Fast Algorithms for Convolutional Neural Networks",
//! CVPR 2016, <https://arxiv.org/abs/1509.09308>.

use crate::background::give_way;
use rayon::prelude::*;

/// The most pairs of points that a variant has.
pub(crate) const MAX_PAIRS: usize = 4;

/// The most results along one axis of a tile.
pub(crate) const MAX_OUTPUTS: usize = 6;

/// The most inputs along one axis of a tile.
pub(crate) const MAX_POINTS: usize = 2 * MAX_PAIRS + 2;

/// A minimal filtering algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Variant {
    /// F(4x4, 3x3): 36 products for 144. The most exact of 3x3, for training.
    F4x3,
    /// F(6x6, 3x3): 64 products for 324.
    F6x3,
    /// F(4x4, 5x5): 64 products for 400.
    F4x5,
    /// F(6x6, 5x5): 100 products for 900.
    F6x5,
}

impl Variant {
    /// Results along one axis of a tile.
    pub(crate) const fn outputs(self) -> usize {
        match self {
            Self::F4x3 | Self::F4x5 => 4,
            Self::F6x3 | Self::F6x5 => 6,
        }
    }

    /// Side of the kernel.
    pub(crate) const fn kernel(self) -> usize {
        match self {
            Self::F4x3 | Self::F6x3 => 3,
            Self::F4x5 | Self::F6x5 => 5,
        }
    }

    /// Inputs along one axis of a tile, and points.
    pub(crate) const fn points(self) -> usize {
        self.outputs() + self.kernel() - 1
    }

    /// The positive points. Those of F(4x4, 3x3) and F(6x6, 5x5) were searched for the
    /// least error; the others are the usual ones, which no other set of small fractions
    /// beats.
    fn positive(self) -> &'static [f64] {
        match self {
            Self::F4x3 => &[0.625, 1.375],
            Self::F6x3 | Self::F4x5 => &[1.0, 2.0, 0.5],
            Self::F6x5 => &[0.375, 0.75, 1.25, 2.5],
        }
    }

    /// All points but infinity: 0, then pairs, the positive one first.
    fn finite(self) -> Vec<f64> {
        let pairs = self.positive().iter().flat_map(|&p| [p, -p]);
        std::iter::once(0.0).chain(pairs).collect()
    }

    /// The matrix that evaluates a kernel, one row a point, each divided by
    /// what the interpolation needs.
    pub(super) fn kernel_matrix(self) -> Vec<Vec<f64>> {
        let (points, taps) = (self.finite(), self.kernel());
        let mut rows: Vec<Vec<f64>> = points
            .iter()
            .enumerate()
            .map(|(j, &a)| {
                let others = points.iter().enumerate().filter(|(l, _)| *l != j);
                let scale: f64 = others.map(|(_, p)| a - p).product();
                (0..taps).map(|k| a.powi(k as i32) / scale).collect()
            })
            .collect();
        let mut infinity = vec![0.0; taps];
        infinity[taps - 1] = 1.0;
        rows.push(infinity);
        rows
    }

    /// Evaluates the kernels from `inputs` to `outputs` channels, in double
    /// precision. `weights(input, row, column, values)` fills in one value for
    /// each output channel; the result is by point (row, column), input
    /// channel, output channel.
    pub(crate) fn transform_weights(
        self,
        inputs: usize,
        outputs: usize,
        weights: impl Fn(usize, usize, usize, &mut [f64]) + Sync,
    ) -> Vec<f32> {
        let (n, r) = (self.points(), self.kernel());
        let matrix = self.kernel_matrix();
        let transform = |input: usize| -> Vec<f64> {
            give_way();
            let mut tap = vec![0.0; outputs];
            // Rows of the kernels evaluated along x: (row, point, output channel).
            let mut rows = vec![0.0; r * n * outputs];
            for (y, row) in rows.chunks_exact_mut(n * outputs).enumerate() {
                for x in 0..r {
                    tap.fill(0.0);
                    weights(input, y, x, &mut tap);
                    for (sums, factors) in row.chunks_exact_mut(outputs).zip(&matrix) {
                        add_scaled(sums, factors[x], &tap);
                    }
                }
            }
            let mut points = vec![0.0; n * n * outputs];
            for (point, factors) in points.chunks_exact_mut(n * outputs).zip(&matrix) {
                for (row, &factor) in rows.chunks_exact(n * outputs).zip(factors) {
                    add_scaled(point, factor, row);
                }
            }
            points
        };
        let transformed: Vec<_> = (0..inputs).into_par_iter().map(transform).collect();
        let mut out = Vec::with_capacity(n * n * inputs * outputs);
        for point in 0..n * n {
            give_way();
            for input in &transformed {
                let values = &input[point * outputs..][..outputs];
                out.extend(values.iter().map(|&value| value as f32));
            }
        }
        out
    }

    /// Evaluates one column of a kernel, the value of `tap(row)` in each, at
    /// the points.
    pub(crate) fn transform_column(self, tap: impl Fn(usize) -> f64) -> Vec<f32> {
        let rows = self.kernel_matrix();
        let point = |row: &Vec<f64>| row.iter().enumerate().map(|(y, f)| f * tap(y)).sum();
        rows.iter()
            .map(point)
            .map(|value: f64| value as f32)
            .collect()
    }

    /// What the transforms of inputs and results multiply by.
    pub(crate) fn tables(self) -> Tables {
        let positive = self.positive();
        let square = |p: &f64| p * p;
        let mut tables = Tables::default();
        let whole = product(positive.iter().map(square));
        fill(&mut tables.whole, &whole);
        for (i, &point) in positive.iter().enumerate() {
            let others = positive.iter().enumerate().filter(|(j, _)| *j != i);
            fill(
                &mut tables.pair[i],
                &product(others.map(|(_, p)| square(p))),
            );
            tables.point[i] = point as f32;
            for (power, row) in tables.power.iter_mut().enumerate() {
                row[i] = point.powi(power as i32) as f32;
            }
        }
        tables
    }
}

/// Factors of the one-dimensional transforms. Unused places are zero.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tables {
    /// The positive point of each pair.
    pub(crate) point: [f32; MAX_PAIRS],
    /// Coefficients, lowest first and without the leading 1, of the product
    /// of (t - q) over the squares q of all points.
    pub(crate) whole: [f32; MAX_PAIRS],
    /// The same over the squares of the other pairs.
    pub(crate) pair: [[f32; MAX_PAIRS]; MAX_PAIRS],
    /// Powers of the points.
    pub(crate) power: [[f32; MAX_PAIRS]; MAX_OUTPUTS],
}

fn add_scaled(sums: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// Coefficients, lowest first, of the product of (t - root).
fn product(roots: impl Iterator<Item = f64>) -> Vec<f64> {
    roots.fold(vec![1.0], |polynomial, root| {
        let mut next = vec![0.0; polynomial.len() + 1];
        for (power, coefficient) in polynomial.iter().enumerate() {
            next[power + 1] += coefficient;
            next[power] -= root * coefficient;
        }
        next
    })
}

fn fill(target: &mut [f32; MAX_PAIRS], polynomial: &[f64]) {
    let lower = &polynomial[..polynomial.len() - 1];
    for (target, &coefficient) in target.iter_mut().zip(lower) {
        *target = coefficient as f32;
    }
}
