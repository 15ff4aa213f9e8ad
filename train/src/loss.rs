//! Losses: means over all samples of a batch.

use crate::recipe::Loss;
use candle_core::{Result, Tensor};

/// Where the Charbonnier loss turns from square to straight (Lai et al., CVPR 2017).
const CHARBONNIER_EPS: f64 = 1e-3;

impl Loss {
    /// The loss of `output` against `target`, a scalar.
    ///
    /// # Errors
    ///
    /// Tensors of different shapes.
    pub fn of(self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        let difference = (output - target)?;
        match self {
            Self::Mse => difference.sqr()?.mean_all(),
            Self::L1 => difference.abs()?.mean_all(),
            Self::Charbonnier => {
                let square = CHARBONNIER_EPS * CHARBONNIER_EPS;
                (difference.sqr()? + square)?.sqrt()?.mean_all()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn known_values() {
        let output = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let target = Tensor::new(&[4f32, 2.0], &Device::Cpu).unwrap();
        let value = |loss: Loss| {
            loss.of(&output, &target)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert_eq!((value(Loss::Mse), value(Loss::L1)), (4.5, 1.5));
        assert!((value(Loss::Charbonnier) - 1.5005).abs() < 1e-5);
    }
}
