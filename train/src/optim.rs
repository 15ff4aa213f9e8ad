//! Adam and AdamW as PyTorch computes them, in place, with moments that can
//! be saved (candle's own hides them).
//!
//! Diederik P. Kingma, Jimmy Ba, "Adam: A Method for Stochastic
//! Optimization", ICLR 2015; Ilya Loshchilov, Frank Hutter, "Decoupled Weight
//! Decay Regularization", ICLR 2019.

use crate::params::Vars;
use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Var};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Parameters are updated in parallel pieces of that many elements.
const PIECE: usize = 1 << 15;

/// What the optimiser is told once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// AdamW: the decay shrinks the parameter instead of adding to its gradient.
    pub decoupled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
        }
    }
}

/// First and second moment of one parameter's gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Steps that it took part in.
    pub steps: u64,
    /// Running mean.
    pub first: Vec<f32>,
    /// Running mean of squares.
    pub second: Vec<f32>,
}

#[derive(Debug)]
struct Slot {
    var: Var,
    lr_factor: f64,
    moments: RefCell<Moments>,
}

/// The optimiser of a set of parameters.
#[derive(Debug)]
pub struct Adam {
    settings: Settings,
    step: u64,
    slots: BTreeMap<String, Slot>,
}

impl Adam {
    /// Optimises `vars`; the learning rate of those whose name begins with a
    /// key of `lr_factors` is multiplied by its value.
    pub fn new(vars: &Vars, settings: Settings, lr_factors: &BTreeMap<String, f64>) -> Self {
        let slot = |(name, var): (&String, &Var)| {
            let factor = lr_factors
                .iter()
                .find(|(prefix, _)| name.starts_with(*prefix));
            let count = var.elem_count();
            let moments = Moments {
                steps: 0,
                first: vec![0.0; count],
                second: vec![0.0; count],
            };
            let slot = Slot {
                var: var.clone(),
                lr_factor: factor.map_or(1.0, |(_, &factor)| factor),
                moments: RefCell::new(moments),
            };
            (name.clone(), slot)
        };
        Self {
            settings,
            step: 0,
            slots: vars.iter().map(slot).collect(),
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments of every parameter.
    pub fn moments(&self) -> impl Iterator<Item = (&str, std::cell::Ref<'_, Moments>)> {
        let slots = self.slots.iter();
        slots.map(|(name, slot)| (name.as_str(), slot.moments.borrow()))
    }

    /// Continues from saved moments.
    ///
    /// # Errors
    ///
    /// Moments that are missing or of another length.
    pub fn restore(&mut self, step: u64, mut saved: BTreeMap<String, Moments>) -> Result<()> {
        for (name, slot) in &self.slots {
            let moments = saved.remove(name);
            let moments = moments.with_context(|| format!("no moments of parameter {name}"))?;
            let count = slot.var.elem_count();
            ensure!(
                moments.first.len() == count && moments.second.len() == count,
                "moments of {name} should have {count} elements"
            );
            slot.moments.replace(moments);
        }
        self.step = step;
        Ok(())
    }

    /// The 2-norm of the gradient over all parameters that the loss depends on.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn gradient_norm(&self, gradients: &GradStore) -> Result<f64> {
        let mut sum = 0.0;
        for slot in self.slots.values() {
            if let Some(gradient) = gradients.get(slot.var.as_tensor()) {
                sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        Ok(sum.sqrt())
    }

    /// Moves every parameter against its gradient, which is first multiplied
    /// by `gradient_factor`. Parameters that the loss does not depend on stay
    /// as they are, moments and all, as in PyTorch.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn step(&mut self, gradients: &GradStore, lr: f64, gradient_factor: f64) -> Result<()> {
        self.step += 1;
        for slot in self.slots.values() {
            let Some(gradient) = gradients.get(slot.var.as_tensor()) else {
                continue;
            };
            let lr = lr * slot.lr_factor;
            let steps = {
                let mut moments = slot.moments.borrow_mut();
                moments.steps += 1;
                moments.steps
            };
            let update = Update {
                factors: Factors::new(&self.settings, steps, lr, gradient_factor),
                moments: &slot.moments,
            };
            slot.var
                .as_tensor()
                .inplace_op2(&gradient.contiguous()?, &update)?;
        }
        Ok(())
    }

    /// A parameter that no loss depended on so far.
    pub fn untouched(&self) -> Option<&str> {
        let mut slots = self.slots.iter();
        let untouched = slots.find(|(_, slot)| slot.moments.borrow().steps == 0);
        untouched.map(|(name, _)| name.as_str())
    }
}

/// The numbers of one step, rounded to f32 where PyTorch does.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    /// Added to the gradient per unit of the parameter.
    decay: f32,
    /// What is left of the parameter before the step (AdamW).
    kept: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    root_correction2: f32,
    eps: f32,
    step_size: f32,
}

impl Factors {
    fn new(settings: &Settings, step: u64, lr: f64, gradient: f64) -> Self {
        let [beta1, beta2] = settings.betas;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let (decay, kept) = match settings.decoupled {
            true => (0.0, 1.0 - lr * settings.weight_decay),
            false => (settings.weight_decay, 1.0),
        };
        Self {
            gradient: gradient as f32,
            decay: decay as f32,
            kept: kept as f32,
            beta1: beta1 as f32,
            one_less_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_less_beta2: (1.0 - beta2) as f32,
            root_correction2: correction(beta2).sqrt() as f32,
            eps: settings.eps as f32,
            step_size: (lr / correction(beta1)) as f32,
        }
    }

    /// One pass over equally long pieces of a parameter, its gradient and its moments.
    fn apply(
        &self,
        parameters: &mut [f32],
        gradients: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let moments = first.iter_mut().zip(second);
        let elements = parameters.iter_mut().zip(gradients).zip(moments);
        for ((p, &g), (m, v)) in elements {
            let g = g * self.gradient + self.decay * *p;
            *m = self.beta1 * *m + self.one_less_beta1 * g;
            *v = self.beta2 * *v + self.one_less_beta2 * g * g;
            let spread = v.sqrt() / self.root_correction2 + self.eps;
            *p = self.kept * *p - self.step_size * (*m / spread);
        }
    }
}

/// The in-place operation on parameter and gradient.
struct Update<'a> {
    factors: Factors,
    moments: &'a RefCell<Moments>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(parameter), CpuStorage::F32(gradient)) = (parameter, gradient) else {
            return Err(candle_core::Error::Msg("adam needs f32".to_owned()));
        };
        let ranges = parameter_layout
            .contiguous_offsets()
            .zip(gradient_layout.contiguous_offsets());
        let Some(((start, end), (gradient_start, gradient_end))) = ranges else {
            return Err(candle_core::Error::Msg(
                "adam needs contiguous tensors".to_owned(),
            ));
        };
        let mut moments = self.moments.borrow_mut();
        let Moments { first, second, .. } = &mut *moments;
        let factors = self.factors;
        parameter[start..end]
            .par_chunks_mut(PIECE)
            .zip(gradient[gradient_start..gradient_end].par_chunks(PIECE))
            .zip(
                first
                    .par_chunks_mut(PIECE)
                    .zip(second.par_chunks_mut(PIECE)),
            )
            .for_each(|((p, g), (m, v))| factors.apply(p, g, m, v));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Parameters after two steps on f(p) = sum(p^2) from PyTorch's definition,
    /// evaluated in f64.
    fn reference(start: f64, settings: &Settings, lr: f64) -> f64 {
        let (mut p, mut m, mut v) = (start, 0.0, 0.0);
        for t in 1..=2 {
            let mut g = 2.0 * p;
            if settings.decoupled {
                p *= 1.0 - lr * settings.weight_decay;
            } else {
                g += settings.weight_decay * p;
            }
            m = settings.betas[0] * m + (1.0 - settings.betas[0]) * g;
            v = settings.betas[1] * v + (1.0 - settings.betas[1]) * g * g;
            let m_hat = m / (1.0 - settings.betas[0].powi(t));
            let v_hat = v / (1.0 - settings.betas[1].powi(t));
            p -= lr * m_hat / (v_hat.sqrt() + settings.eps);
        }
        p
    }

    #[test]
    fn follows_the_definition() {
        for decoupled in [false, true] {
            let settings = Settings {
                weight_decay: 0.1,
                eps: 1e-3,
                decoupled,
                ..Settings::default()
            };
            let start = [0.5f32, -2.0, 1e-4, 3.0];
            let var = Var::new(&start, &Device::Cpu).unwrap();
            let vars: Vars = [("p".to_owned(), var.clone())].into();
            let mut adam = Adam::new(&vars, settings, &BTreeMap::new());
            for _ in 0..2 {
                let loss = var.sqr().unwrap().sum_all().unwrap();
                adam.step(&loss.backward().unwrap(), 0.05, 1.0).unwrap();
            }
            let got = var.to_vec1::<f32>().unwrap();
            for (got, start) in got.iter().zip(start) {
                let expected = reference(f64::from(start), &settings, 0.05);
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-6,
                    "{got} {expected}"
                );
            }
        }
    }

    #[test]
    fn factors_apply_by_prefix() {
        let vars: Vars = ["a.w", "b.w"]
            .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
            .into();
        let mut adam = Adam::new(&vars, Settings::default(), &[("b.".to_owned(), 0.1)].into());
        let loss = (vars["a.w"].as_tensor() + vars["b.w"].as_tensor()).unwrap();
        let gradients = loss.sum_all().unwrap().backward().unwrap();
        assert!((adam.gradient_norm(&gradients).unwrap() - 2f64.sqrt()).abs() < 1e-6);
        adam.step(&gradients, 0.1, 1.0).unwrap();
        let moved = |name: &str| 1.0 - vars[name].to_vec1::<f32>().unwrap()[0];
        assert!((moved("a.w") - 0.1).abs() < 1e-6 && (moved("b.w") - 0.01).abs() < 1e-6);
        assert_eq!(adam.untouched(), None);
    }

    #[test]
    fn parameters_out_of_use_stay_as_they_are() {
        let run = |pauses: usize| {
            let vars: Vars = ["a", "b"]
                .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
                .into();
            let mut adam = Adam::new(&vars, Settings::default(), &BTreeMap::new());
            let mut take = |names: &[&str]| {
                let squares = names.iter().map(|name| vars[*name].sqr().unwrap());
                let loss = squares.reduce(|a, b| (a + b).unwrap()).unwrap();
                let gradients = loss.sum_all().unwrap().backward().unwrap();
                adam.step(&gradients, 0.1, 1.0).unwrap();
            };
            (0..pauses).for_each(|_| take(&["a"]));
            take(&["a", "b"]);
            (0..pauses).for_each(|_| take(&["a"]));
            take(&["a", "b"]);
            let moments: BTreeMap<_, _> = adam
                .moments()
                .map(|(name, m)| (name.to_owned(), m.clone()))
                .collect();
            (vars["b"].to_vec1::<f32>().unwrap(), moments["b"].clone())
        };
        assert_eq!(run(0), run(3));
        assert_eq!(run(3).1.steps, 2);
    }

    #[test]
    fn parameters_that_nothing_depends_on_are_named() {
        let vars: Vars = ["a", "b"]
            .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
            .into();
        let mut adam = Adam::new(&vars, Settings::default(), &BTreeMap::new());
        assert_eq!(adam.untouched(), Some("a"));
        let gradients = vars["a"].sum_all().unwrap().backward().unwrap();
        adam.step(&gradients, 0.1, 1.0).unwrap();
        assert_eq!(adam.untouched(), Some("b"));
    }
}
