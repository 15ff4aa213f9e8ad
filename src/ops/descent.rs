//! Steps of an optimiser, in place.

use super::spec::UpdateRule;
use super::storage::{values, values_mut};
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
use rayon::prelude::*;

/// Parameters are updated in parallel pieces of that many elements.
const PIECE: usize = 1 << 15;

impl UpdateRule {
    /// The gradient of an element as it is used.
    fn used(&self, gradient: f32, parameter: f32) -> f32 {
        (gradient * self.grad_scale).clamp(-self.clip_value, self.clip_value)
            + self.weight_decay * parameter
    }
}

/// What a step moves, and by what: contiguous tensors of f32 on one device.
#[derive(Debug, Clone)]
pub struct Step {
    /// How far.
    pub rule: UpdateRule,
    /// Any shape. It changes in place.
    pub parameter: Tensor,
    /// As many elements.
    pub gradient: Tensor,
    /// (2, elements) for Adam, (1, elements) with momentum, which no other
    /// tensor may share. They change in place.
    pub moments: Tensor,
}

impl Step {
    fn check(&self) -> Result<()> {
        let rows = if self.rule.momentum.is_some() { 1 } else { 2 };
        let count = self.parameter.elem_count();
        if self.gradient.elem_count() != count || self.moments.dims() != [rows, count] {
            let (gradient, moments) = (self.gradient.shape(), self.moments.shape());
            bail!("a step of {count} values with gradient {gradient:?} and moments {moments:?}")
        }
        Ok(())
    }
}

/// Takes steps: moves parameters against their gradients, in place. On a GPU
/// those by one rule are taken at once.
///
/// # Errors
///
/// Tensors that do not fit, are not contiguous, or lie on several devices.
pub fn descend(steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(Step::check)?;
    #[cfg(feature = "cuda")]
    if let Some(first) = steps.first()
        && let Ok(device) = first.parameter.device().as_cuda_device()
    {
        use super::cuda::layers::{Each, descend};
        for alike in steps.chunk_by(|a, b| a.rule == b.rule) {
            let each = |step: &Step| Each::learning(&step.parameter, &step.gradient, &step.moments);
            let all = alike.iter().map(each).collect::<Result<Vec<_>>>()?;
            descend(device, &alike[0].rule, &all)?;
        }
        return Ok(());
    }
    for step in steps {
        let (parameter, moments) = (&step.parameter, &step.moments);
        moments.inplace_op3(&step.gradient, parameter, &step.rule)?;
        parameter.inplace_op2(moments, &step.rule)?;
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
        let given = gradients.zip(values(parameter, parameter_layout)?.par_chunks(PIECE));
        let (first, second) = moments.split_at_mut(parameter_layout.shape().elem_count());
        let first = first.par_chunks_mut(PIECE);
        match self.momentum {
            Some(momentum) => first
                .zip(given)
                .for_each(|(sums, (gradients, parameters))| {
                    for ((sum, &g), &p) in sums.iter_mut().zip(gradients).zip(parameters) {
                        *sum = momentum * *sum + self.used(g, p);
                    }
                }),
            None => first.zip(second.par_chunks_mut(PIECE)).zip(given).for_each(
                |((first, second), (gradients, parameters))| {
                    let moments = first.iter_mut().zip(second);
                    for (((m, v), &g), &p) in moments.zip(gradients).zip(parameters) {
                        let g = self.used(g, p);
                        *m = self.beta1 * *m + self.one_less_beta1 * g;
                        *v = self.beta2 * *v + self.one_less_beta2 * g * g;
                    }
                },
            ),
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
                let spread = v.sqrt() / self.root_correction2 + self.eps;
                *p = self.decoupled_decay * *p - self.step_size * (m / spread);
            }
        });
        Ok(())
    }
}
