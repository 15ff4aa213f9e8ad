//! Muon: moves a matrix by the orthogonal one nearest to its momentum, so that every
//! direction is learnt at the same rate, those of small gradients, too.
//!
//! Kernels count as matrices with a row for each output channel. Keller Jordan et
//! al., "Muon: An optimizer for hidden layers in neural networks", 2024,
//! <https://kellerjordan.github.io/posts/muon>, with its Nesterov momentum and
//! Newton-Schulz iteration. The root mean square of an update's elements is 0.2 times
//! the learning rate, about that of Adam's, so that both take the same learning rates:
//! Jingyuan Liu et al., "Muon is Scalable for LLM Training", 2025,
//! <https://arxiv.org/abs/2502.16982>.

use candle_core::{Result, Tensor};

/// Coefficients of the iteration, which bring singular values from 0.01 to 1 to about 1,
/// and the number of iterations.
const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.775, 2.0315);
const ITERATIONS: usize = 5;

/// Root mean square of the update's elements in units of the learning rate.
const UPDATE_SIZE: f64 = 0.2;

/// Keeps gradients of zero from being divided by zero.
const EPS: f64 = 1e-7;

/// Whether a parameter has rows and columns; the others are left to AdamW.
pub(super) fn is_matrix(parameter: &Tensor) -> bool {
    match parameter.dims() {
        [rows, columns @ ..] => *rows > 1 && columns.iter().product::<usize>() > 1,
        [] => false,
    }
}

/// The direction of a step by the gradient and the sum of gradients, which already
/// includes it: for a learning rate of 1.
pub(super) fn direction(gradient: &Tensor, sum: &Tensor, momentum: f64) -> Result<Tensor> {
    let ahead = (gradient + (sum * momentum)?)?;
    let (rows, columns) = ahead.flatten_from(1)?.dims2()?;
    let size = UPDATE_SIZE * (rows.max(columns) as f64).sqrt();
    orthogonal(&ahead)? * size
}

/// The matrix with all singular values near 1 (0.7 to 1.2) and the singular vectors of `x`;
/// values below 1 % of `x`'s norm stay small.
fn orthogonal(x: &Tensor) -> Result<Tensor> {
    let (a, b, c) = COEFFICIENTS;
    let rows = x.flatten_from(1)?;
    let tall = rows.dim(0)? > rows.dim(1)?;
    let wide = |matrix: Tensor| {
        if tall {
            matrix.t()?.contiguous()
        } else {
            Ok(matrix)
        }
    };
    let norm = (rows.sqr()?.sum_all()?.sqrt()? + EPS)?;
    let mut y = wide(rows.broadcast_div(&norm)?)?;
    for _ in 0..ITERATIONS {
        let square = y.matmul(&y.t()?)?;
        let odd = ((&square * b)? + (square.matmul(&square)? * c)?)?;
        y = ((&y * a)? + odd.matmul(&y)?)?;
    }
    wide(y)?.reshape(x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// A matrix of given singular values: rotations of a diagonal.
    fn with_values(values: [f32; 2], columns: usize) -> Tensor {
        let (sin, cos) = (0.6f32, 0.8f32);
        let turn = Tensor::new(&[[cos, -sin], [sin, cos]], &Device::Cpu).unwrap();
        let [p, q] = values;
        let scaled = Tensor::new(&[[p, 0.0], [0.0, q]], &Device::Cpu).unwrap();
        let mut basis = vec![0f32; 2 * columns];
        // Two orthogonal rows of norm 1.
        let side = 1.0 / (columns as f32).sqrt();
        for i in 0..columns {
            basis[i] = side;
            basis[columns + i] = if i % 2 == 0 { side } else { -side };
        }
        let basis = Tensor::from_vec(basis, (2, columns), &Device::Cpu).unwrap();
        turn.matmul(&scaled).unwrap().matmul(&basis).unwrap()
    }

    fn gram(x: &Tensor) -> Vec<Vec<f32>> {
        let rows = x.flatten_from(1).unwrap();
        let gram = rows.matmul(&rows.t().unwrap()).unwrap();
        gram.to_vec2().unwrap()
    }

    #[test]
    fn singular_values_become_alike() {
        for values in [[1.0, 1.0], [5.0, 0.5], [2e-3, 1e-4]] {
            let x = with_values(values, 6);
            for x in [x.clone(), x.reshape((2, 3, 2)).unwrap(), x.t().unwrap()] {
                let y = orthogonal(&x).unwrap();
                assert_eq!(y.dims(), x.dims());
                let y = if x.dim(0).unwrap() > 2 {
                    y.t().unwrap()
                } else {
                    y
                };
                let gram = gram(&y);
                for (i, row) in gram.iter().enumerate() {
                    for (j, value) in row.iter().enumerate() {
                        let range = if i == j { 0.49..1.45 } else { -0.4..0.4 };
                        assert!(range.contains(value), "{values:?}: {gram:?}");
                    }
                }
            }
        }
        let zero = Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            orthogonal(&zero).unwrap().to_vec2::<f32>().unwrap()[2],
            [0.0, 0.0]
        );
    }

    #[test]
    fn directions_do_not_depend_on_the_size_of_gradients() {
        let gradient = with_values([5.0, 0.5], 8);
        let by = |factor: f64| {
            let gradient = (&gradient * factor).unwrap();
            direction(&gradient, &gradient, 0.9).unwrap()
        };
        let (one, large) = (by(1.0), by(1000.0));
        let apart = (&one - &large).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 1e-3);
        let mean = one.sqr().unwrap().mean_all().unwrap();
        let size = f64::from(mean.to_scalar::<f32>().unwrap()).sqrt();
        assert!((0.7..1.2).contains(&(size / UPDATE_SIZE)), "{size}");
    }

    /// A row without a gradient moves by the momentum.
    #[test]
    fn momentum_counts() {
        let matrix = |rows: &[[f32; 2]; 2]| Tensor::new(rows, &Device::Cpu).unwrap();
        let gradient = matrix(&[[1.0, 0.0], [0.0, 0.0]]);
        let sum = matrix(&[[1.0, 0.0], [0.0, 1.0]]);
        let second_row = |momentum: f64| {
            let step = direction(&gradient, &sum, momentum).unwrap();
            step.to_vec2::<f32>().unwrap()[1][1]
        };
        assert_eq!(second_row(0.0), 0.0);
        // 0.2 * sqrt(2), times a singular value near 1.
        assert!((0.19..0.35).contains(&second_row(0.9)));
    }

    #[test]
    fn vectors_are_no_matrices() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        for shape in [&[][..], &[8], &[1, 8], &[8, 1, 1]] {
            assert!(!is_matrix(&zeros(shape)), "{shape:?}");
        }
        for shape in [&[2, 2][..], &[8, 1, 3, 3]] {
            assert!(is_matrix(&zeros(shape)), "{shape:?}");
        }
    }
}
