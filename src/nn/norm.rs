//! Batch normalisation.

use super::Conv;
use crate::ops;
use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

/// Added to variances, as PyTorch does.
const EPS: f64 = 1e-5;

/// How much of a batch enters the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Names of the running statistics.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

/// Normalises every channel of (N, C, H, W): in training by mean and variance
/// of the batch, in use by those of the batches that were seen in training.
///
/// Sergey Ioffe, Christian Szegedy, "Batch Normalization: Accelerating Deep
/// Network Training by Reducing Internal Covariate Shift", ICML 2015.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running: [Tensor; 2],
}

impl BatchNorm {
    /// Reads (or, in training, creates) `weight`, `bias`, `running_mean` and
    /// `running_var`, (C) each.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(vb: &VarBuilder, channels: usize) -> Result<Self> {
        let get = |name, first| vb.get_with_hints(channels, name, Init::Const(first));
        let [mean, variance] = STATISTICS;
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running: [get(mean, 0.0)?, get(variance, 1.0)?],
        })
    }

    /// Whether a tensor of that name is a running statistic, which no
    /// optimiser changes.
    pub fn is_statistic(name: &str) -> bool {
        let last = name.rsplit('.').next();
        last.is_some_and(|last| STATISTICS.contains(&last))
    }

    /// The layer in training. Moves the running statistics, where they are
    /// variables.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn train(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, height, width) = x.dims4()?;
        let count = batch * height * width;
        let (made, [mean, variance]) = ops::batch_norm(x, &self.weight, &self.bias, EPS)?;
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        let seen = [(mean, MOMENTUM), (variance, MOMENTUM * unbiased)];
        let mut moves = Vec::new();
        for (running, (seen, taken)) in self.running.iter().zip(seen) {
            if running.is_variable() {
                moves.push((Var::from_tensor(running)?, seen, taken));
            }
        }
        ops::lerp_in_place(1.0 - MOMENTUM, &moves)?;
        Ok(made)
    }

    /// The convolution that does what `conv` and then this layer do in use.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn folded(&self, conv: &Conv) -> Result<Conv> {
        let [mean, variance] = &self.running;
        let factor = (&self.weight / (variance + EPS)?.sqrt()?)?;
        let middle = match &conv.bias {
            Some(bias) => (bias - mean)?,
            None => mean.neg()?,
        };
        let plane = factor.reshape((factor.elem_count(), 1, 1, 1))?;
        Ok(Conv {
            weight: conv.weight.broadcast_mul(&plane)?,
            bias: Some(((middle * factor)? + &self.bias)?),
            spec: conv.spec,
        })
    }
}
