//! Updates of parameters by an optimiser, in place.

use super::spec::UpdateRule;
use super::storage::{values, values_mut};
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
use rayon::prelude::*;

/// Parameters are updated in parallel pieces of that many elements.
const PIECE: usize = 1 << 15;

impl UpdateRule {
    /// The gradient of an element, scaled, clipped and with weight decay.
    fn regularized_grad(&self, gradient: f32, parameter: f32) -> f32 {
        (gradient * self.grad_scale).clamp(-self.clip_value, self.clip_value)
            + self.weight_decay * parameter
    }
}

/// A parameter, and what it is updated by: contiguous tensors of f32 on one device.
#[derive(Debug, Clone)]
pub struct ParameterUpdate {
    /// How.
    pub rule: UpdateRule,
    /// Any shape. It changes in place.
    pub parameter: Tensor,
    /// As many elements.
    pub gradient: Tensor,
    /// (2, elements) for Adam, (1, elements) with momentum, which no other
    /// tensor may share. They change in place.
    pub moments: Tensor,
}

impl ParameterUpdate {
    fn check(&self) -> Result<()> {
        let rows = if self.rule.momentum.is_some() { 1 } else { 2 };
        let count = self.parameter.elem_count();
        if self.gradient.elem_count() != count || self.moments.dims() != [rows, count] {
            let (gradient, moments) = (self.gradient.shape(), self.moments.shape());
            bail!("an update of {count} values with gradient {gradient:?} and moments {moments:?}")
        }
        Ok(())
    }
}

/// Moves parameters against their gradients, in place: on a GPU all that share
/// a rule in one launch.
///
/// # Errors
///
/// Tensors that do not fit, are not contiguous, or lie on several devices.
pub fn apply_updates(updates: &[ParameterUpdate]) -> Result<()> {
    updates.iter().try_for_each(ParameterUpdate::check)?;
    #[cfg(feature = "cuda")]
    if let Some(first) = updates.first()
        && let Ok(device) = first.parameter.device().as_cuda_device()
    {
        use super::cuda::layers::{TensorArgs, apply_updates};
        for same_rule in updates.chunk_by(|a, b| a.rule == b.rule) {
            let all = same_rule.iter().map(|update| {
                TensorArgs::update(&update.parameter, &update.gradient, &update.moments)
            });
            let all = all.collect::<Result<Vec<_>>>()?;
            apply_updates(device, &same_rule[0].rule, &all)?;
        }
        return Ok(());
    }
    for update in updates {
        let (parameter, moments) = (&update.parameter, &update.moments);
        moments.inplace_op3(&update.gradient, parameter, &update.rule)?;
        parameter.inplace_op2(moments, &update.rule)?;
    }
    Ok(())
}

/// Changes the moments by gradient and parameter.
impl InplaceOp3 for UpdateRule {
    fn name(&self) -> &'static str {
        "optimiser"
    }

    fn cpu_fwd(
        &self,
        moments: &mut CpuStorage,
        moments_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        parameter: &CpuStorage,
        parameter_layout: &Layout,
    ) -> Result<()> {
        let moments = values_mut(moments, moments_layout)?;
        let gradients = values(gradient, gradient_layout)?.par_chunks(PIECE);
        let inputs = gradients.zip(values(parameter, parameter_layout)?.par_chunks(PIECE));
        let (first, second) = moments.split_at_mut(parameter_layout.shape().elem_count());
        let first = first.par_chunks_mut(PIECE);
        match self.momentum {
            Some(momentum) => first
                .zip(inputs)
                .for_each(|(sums, (gradients, parameters))| {
                    for ((sum, &g), &p) in sums.iter_mut().zip(gradients).zip(parameters) {
                        *sum = momentum * *sum + self.regularized_grad(g, p);
                    }
                }),
            None => first
                .zip(second.par_chunks_mut(PIECE))
                .zip(inputs)
                .for_each(|((first, second), (gradients, parameters))| {
                    let moments = first.iter_mut().zip(second);
                    for (((m, v), &g), &p) in moments.zip(gradients).zip(parameters) {
                        let g = self.regularized_grad(g, p);
                        *m = self.beta1 * *m + self.one_less_beta1 * g;
                        *v = self.beta2 * *v + self.one_less_beta2 * g * g;
                    }
                }),
        }
        Ok(())
    }
}

/// Moves the parameter by its moments.
impl InplaceOp2 for UpdateRule {
    fn name(&self) -> &'static str {
        "optimiser"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        moments: &CpuStorage,
        moments_layout: &Layout,
    ) -> Result<()> {
        let parameters = values_mut(parameter, parameter_layout)?;
        let (first, second) = values(moments, moments_layout)?.split_at(parameters.len());
        let pieces = parameters
            .par_chunks_mut(PIECE)
            .zip(first.par_chunks(PIECE));
        if self.momentum.is_some() {
            pieces.for_each(|(parameters, sums)| {
                for (p, sum) in parameters.iter_mut().zip(sums) {
                    *p -= self.step_size * sum;
                }
            });
            return Ok(());
        }
        let pieces = pieces.zip(second.par_chunks(PIECE));
        pieces.for_each(|((parameters, first), second)| {
            for ((p, m), v) in parameters.iter_mut().zip(first).zip(second) {
                let denominator = v.sqrt() / self.root_correction2 + self.eps;
                *p = self.decoupled_decay * *p - self.step_size * (m / denominator);
            }
        });
        Ok(())
    }
}
