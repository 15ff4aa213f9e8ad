//! Adam, AdamW and gradient descent with momentum as PyTorch computes them, in
//! place, with moments that can be saved (candle's own hides them).
//!
//! Diederik P. Kingma, Jimmy Ba, "Adam: A Method for Stochastic
//! Optimization", ICLR 2015; Ilya Loshchilov, Frank Hutter, "Decoupled Weight
//! Decay Regularization", ICLR 2019.

use crate::params::Vars;
use crate::recipe::Optimizer;
use crate::whiten::{Layer, Whitening};
use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;
use srfilter::ops::Recorded;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Parameters are updated in parallel pieces of that many elements.
const PIECE: usize = 1 << 15;

/// What the optimiser is told once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What is done with the gradient.
    pub rule: Optimizer,
    /// Decay rates of Adam's two moments.
    pub betas: [f64; 2],
    /// Added to the root of Adam's second moment.
    pub eps: f64,
    /// Decay rate of the running sum of gradients (SGD).
    pub momentum: f64,
    /// Weight decay: AdamW's shrinks the parameter, others' adds to its gradient.
    pub weight_decay: f64,
    /// Bound of every element of the gradient, either side of zero.
    pub clip_value: Option<f64>,
    /// Damping of the kernels' whitening; `None` for none.
    pub whiten: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rule: Optimizer::Adam,
            betas: [0.9, 0.999],
            eps: 1e-8,
            momentum: 0.9,
            weight_decay: 0.0,
            clip_value: None,
            whiten: None,
        }
    }
}

impl Settings {
    /// The moments of a parameter of `count` elements before its first step.
    fn moments(&self, count: usize) -> Moments {
        let second = match self.rule {
            Optimizer::Adam | Optimizer::AdamW => count,
            Optimizer::Sgd => 0,
        };
        Moments {
            steps: 0,
            first: vec![0.0; count],
            second: vec![0.0; second],
        }
    }
}

/// First and second moment of one parameter's gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Steps that it took part in.
    pub steps: u64,
    /// Running mean, or SGD's running sum.
    pub first: Vec<f32>,
    /// Running mean of squares; empty for SGD.
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
pub struct Descent {
    settings: Settings,
    step: u64,
    slots: BTreeMap<String, Slot>,
    whitening: Option<Whitening>,
}

impl Descent {
    /// Optimises `vars`; the learning rate of those whose name begins with a
    /// key of `lr_factors` is multiplied by its value.
    pub fn new(vars: &Vars, settings: Settings, lr_factors: &BTreeMap<String, f64>) -> Self {
        let slot = |(name, var): (&String, &Var)| {
            let factor = lr_factors
                .iter()
                .find(|(prefix, _)| name.starts_with(*prefix));
            let moments = settings.moments(var.elem_count());
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
            whitening: settings.whiten.map(Whitening::new),
            slots: vars.iter().map(slot).collect(),
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments of every parameter.
    pub fn moments(&self) -> BTreeMap<String, Moments> {
        let slots = self.slots.iter();
        slots
            .map(|(name, slot)| (name.clone(), slot.moments.borrow().clone()))
            .collect()
    }

    /// What is known of the layers' inputs; nothing where they are not whitened.
    pub fn layers(&self) -> BTreeMap<String, Layer> {
        let layers = self.whitening.iter().flat_map(Whitening::layers);
        layers
            .map(|(name, layer)| (name.clone(), layer.clone()))
            .collect()
    }

    /// Whether the next step's convolutions are wanted ([`Descent::look`]).
    pub fn wants_to_look(&self) -> bool {
        self.whitening.is_some() && Whitening::looks_at(self.step)
    }

    /// Learns what the layers' inputs are like from the next step's convolutions.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn look(&mut self, vars: &Vars, records: &[Recorded]) -> Result<()> {
        match &mut self.whitening {
            Some(whitening) => whitening.look(self.step, vars, records),
            None => Ok(()),
        }
    }

    /// Continues from saved moments and layers.
    ///
    /// # Errors
    ///
    /// Moments that are missing or of another length.
    pub fn restore(
        &mut self,
        step: u64,
        mut saved: BTreeMap<String, Moments>,
        layers: BTreeMap<String, Layer>,
    ) -> Result<()> {
        for (name, slot) in &self.slots {
            let moments = saved.remove(name);
            let moments = moments.with_context(|| format!("no moments of parameter {name}"))?;
            let expected = self.settings.moments(slot.var.elem_count());
            let lengths = |m: &Moments| [m.first.len(), m.second.len()];
            ensure!(
                lengths(&moments) == lengths(&expected),
                "moments of {name} should have {:?} elements",
                lengths(&expected)
            );
            slot.moments.replace(moments);
        }
        if let Some(whitening) = &mut self.whitening {
            whitening.restore(layers);
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
        for (name, slot) in &self.slots {
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
            let white = |tensor: &Tensor| match &self.whitening {
                Some(whitening) => whitening.apply(name, tensor),
                None => Ok(None),
            };
            let Some(gradient) = white(gradient)? else {
                let gradient = gradient.contiguous()?;
                slot.var.as_tensor().inplace_op2(&gradient, &update)?;
                continue;
            };
            let moved = gradient.zeros_like()?;
            moved.inplace_op2(&gradient.contiguous()?, &update)?;
            if let Some(moved) = white(&moved)? {
                let kept = f64::from(update.factors.kept);
                slot.var.set(&((slot.var.as_tensor() * kept)? + moved)?)?;
            }
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
    /// Bound of the gradient's elements.
    most: f32,
    /// Added to the gradient per unit of the parameter.
    decay: f32,
    /// What is left of the parameter before the step (AdamW).
    kept: f32,
    /// SGD's momentum, or `None` for Adam.
    momentum: Option<f32>,
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
        let (decay, kept) = match settings.rule {
            Optimizer::AdamW => (0.0, 1.0 - lr * settings.weight_decay),
            Optimizer::Adam | Optimizer::Sgd => (settings.weight_decay, 1.0),
        };
        let (momentum, step_size) = match settings.rule {
            Optimizer::Sgd => (Some(settings.momentum as f32), lr),
            Optimizer::Adam | Optimizer::AdamW => (None, lr / correction(beta1)),
        };
        Self {
            gradient: gradient as f32,
            most: settings
                .clip_value
                .map_or(f32::INFINITY, |most| most as f32),
            decay: decay as f32,
            kept: kept as f32,
            momentum,
            beta1: beta1 as f32,
            one_less_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_less_beta2: (1.0 - beta2) as f32,
            root_correction2: correction(beta2).sqrt() as f32,
            eps: settings.eps as f32,
            step_size: step_size as f32,
        }
    }

    /// The gradient of an element as it is used.
    fn gradient(&self, gradient: f32, parameter: f32) -> f32 {
        (gradient * self.gradient).clamp(-self.most, self.most) + self.decay * parameter
    }

    /// One pass of Adam over equally long pieces of a parameter, its gradient
    /// and its moments.
    fn adam(
        &self,
        parameters: &mut [f32],
        gradients: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let moments = first.iter_mut().zip(second);
        let elements = parameters.iter_mut().zip(gradients).zip(moments);
        for ((p, &g), (m, v)) in elements {
            let g = self.gradient(g, *p);
            *m = self.beta1 * *m + self.one_less_beta1 * g;
            *v = self.beta2 * *v + self.one_less_beta2 * g * g;
            let spread = v.sqrt() / self.root_correction2 + self.eps;
            *p = self.kept * *p - self.step_size * (*m / spread);
        }
    }

    /// The same of gradient descent with momentum.
    fn sgd(&self, momentum: f32, parameters: &mut [f32], gradients: &[f32], sums: &mut [f32]) {
        for ((p, &g), sum) in parameters.iter_mut().zip(gradients).zip(sums) {
            *sum = momentum * *sum + self.gradient(g, *p);
            *p -= self.step_size * *sum;
        }
    }

    /// A step of a whole parameter.
    fn apply(&self, parameters: &mut [f32], gradients: &[f32], moments: &mut Moments) {
        let pieces = parameters
            .par_chunks_mut(PIECE)
            .zip(gradients.par_chunks(PIECE))
            .zip(moments.first.par_chunks_mut(PIECE));
        match self.momentum {
            Some(momentum) => pieces.for_each(|((p, g), m)| self.sgd(momentum, p, g, m)),
            None => pieces
                .zip(moments.second.par_chunks_mut(PIECE))
                .for_each(|(((p, g), m), v)| self.adam(p, g, m, v)),
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
        "optimiser"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(parameter), CpuStorage::F32(gradient)) = (parameter, gradient) else {
            return Err(candle_core::Error::Msg(
                "the optimiser needs f32".to_owned(),
            ));
        };
        let ranges = parameter_layout
            .contiguous_offsets()
            .zip(gradient_layout.contiguous_offsets());
        let Some(((start, end), (gradient_start, gradient_end))) = ranges else {
            return Err(candle_core::Error::Msg(
                "the optimiser needs contiguous tensors".to_owned(),
            ));
        };
        self.factors.apply(
            &mut parameter[start..end],
            &gradient[gradient_start..gradient_end],
            &mut self.moments.borrow_mut(),
        );
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
            let most = settings.clip_value.unwrap_or(f64::INFINITY);
            let mut g = (2.0 * p).clamp(-most, most);
            if settings.rule == Optimizer::AdamW {
                p *= 1.0 - lr * settings.weight_decay;
            } else {
                g += settings.weight_decay * p;
            }
            if settings.rule == Optimizer::Sgd {
                m = settings.momentum * m + g;
                p -= lr * m;
                continue;
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
        use Optimizer::{Adam, AdamW, Sgd};
        let clips = [None, Some(1.5)];
        for (rule, clip_value) in [Adam, AdamW, Sgd]
            .into_iter()
            .zip(clips.into_iter().cycle())
        {
            let settings = Settings {
                rule,
                weight_decay: 0.1,
                eps: 1e-3,
                momentum: 0.7,
                clip_value,
                ..Settings::default()
            };
            let start = [0.5f32, -2.0, 1e-4, 3.0];
            let var = Var::new(&start, &Device::Cpu).unwrap();
            let vars: Vars = [("p".to_owned(), var.clone())].into();
            let mut descent = Descent::new(&vars, settings, &BTreeMap::new());
            for _ in 0..2 {
                let loss = var.sqr().unwrap().sum_all().unwrap();
                descent.step(&loss.backward().unwrap(), 0.05, 1.0).unwrap();
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

    /// Two steps of SGD by hand: gradients 3 (of 5, clipped) and 2, momentum 0.5.
    #[test]
    fn gradient_descent_by_hand() {
        let var = Var::new(&[1f32], &Device::Cpu).unwrap();
        let settings = Settings {
            rule: Optimizer::Sgd,
            momentum: 0.5,
            clip_value: Some(3.0),
            ..Settings::default()
        };
        let vars: Vars = [("p".to_owned(), var.clone())].into();
        let mut descent = Descent::new(&vars, settings, &BTreeMap::new());
        for slope in [5.0, 2.0] {
            let loss = (var.as_tensor() * slope).unwrap().sum_all().unwrap();
            descent.step(&loss.backward().unwrap(), 0.1, 1.0).unwrap();
        }
        // 1 - 0.1 * 3 - 0.1 * (0.5 * 3 + 2)
        let left = var.to_vec1::<f32>().unwrap()[0];
        assert!((left - 0.35).abs() < 1e-6, "{left}");
        assert!(descent.moments()["p"].second.is_empty());
    }

    #[test]
    fn factors_apply_by_prefix() {
        let vars: Vars = ["a.w", "b.w"]
            .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
            .into();
        let mut descent =
            Descent::new(&vars, Settings::default(), &[("b.".to_owned(), 0.1)].into());
        let loss = (vars["a.w"].as_tensor() + vars["b.w"].as_tensor()).unwrap();
        let gradients = loss.sum_all().unwrap().backward().unwrap();
        assert!((descent.gradient_norm(&gradients).unwrap() - 2f64.sqrt()).abs() < 1e-6);
        descent.step(&gradients, 0.1, 1.0).unwrap();
        let moved = |name: &str| 1.0 - vars[name].to_vec1::<f32>().unwrap()[0];
        assert!((moved("a.w") - 0.1).abs() < 1e-6 && (moved("b.w") - 0.01).abs() < 1e-6);
        assert_eq!(descent.untouched(), None);
    }

    #[test]
    fn parameters_out_of_use_stay_as_they_are() {
        let run = |pauses: usize| {
            let vars: Vars = ["a", "b"]
                .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
                .into();
            let mut descent = Descent::new(&vars, Settings::default(), &BTreeMap::new());
            let mut take = |names: &[&str]| {
                let squares = names.iter().map(|name| vars[*name].sqr().unwrap());
                let loss = squares.reduce(|a, b| (a + b).unwrap()).unwrap();
                let gradients = loss.sum_all().unwrap().backward().unwrap();
                descent.step(&gradients, 0.1, 1.0).unwrap();
            };
            (0..pauses).for_each(|_| take(&["a"]));
            take(&["a", "b"]);
            (0..pauses).for_each(|_| take(&["a"]));
            take(&["a", "b"]);
            (
                vars["b"].to_vec1::<f32>().unwrap(),
                descent.moments()["b"].clone(),
            )
        };
        assert_eq!(run(0), run(3));
        assert_eq!(run(3).1.steps, 2);
    }

    #[test]
    fn parameters_that_nothing_depends_on_are_named() {
        let vars: Vars = ["a", "b"]
            .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
            .into();
        let mut descent = Descent::new(&vars, Settings::default(), &BTreeMap::new());
        assert_eq!(descent.untouched(), Some("a"));
        let gradients = vars["a"].sum_all().unwrap().backward().unwrap();
        descent.step(&gradients, 0.1, 1.0).unwrap();
        assert_eq!(descent.untouched(), Some("b"));
    }
}
