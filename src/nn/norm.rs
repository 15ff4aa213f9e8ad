//! Batch normalisation.

use super::Conv;
use crate::ops;
use candle_core::{Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

/// Added to variances, as PyTorch does.
const EPS: f64 = 1e-5;

/// Weight of a batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Names of the running statistics.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

/// Normalises every channel of (N, C, H, W): in training by mean and variance
/// of the batch, in inference by the running statistics of training.
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
    /// A tensor that is missing or has the wrong shape.
    pub fn new(vb: &VarBuilder, channels: usize) -> Result<Self> {
        let get = |name, first| vb.get_with_hints(channels, name, Init::Const(first));
        let [mean, variance] = STATISTICS;
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running: [get(mean, 0.0)?, get(variance, 1.0)?],
        })
    }

    /// Whether the named tensor is a running statistic, which the optimiser
    /// does not update.
    pub fn is_statistic(name: &str) -> bool {
        let last = name.rsplit('.').next();
        last.is_some_and(|last| STATISTICS.contains(&last))
    }

    /// The forward pass in training. Updates the running statistics if they
    /// are variables.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn train(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, height, width) = x.dims4()?;
        let count = batch * height * width;
        let (output, [mean, variance]) = ops::batch_norm(x, &self.weight, &self.bias, EPS)?;
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        let batch = [(mean, MOMENTUM), (variance, MOMENTUM * unbiased)];
        let mut updates = Vec::new();
        for (running, (statistic, weight)) in self.running.iter().zip(batch) {
            if running.is_variable() {
                updates.push((Var::from_tensor(running)?, statistic, weight));
            }
        }
        ops::lerp_in_place(1.0 - MOMENTUM, &updates)?;
        Ok(output)
    }

    /// `conv` with this layer folded into it, as in inference.
    ///
    /// # Errors
    ///
    /// Shapes that do not match.
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
