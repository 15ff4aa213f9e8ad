//! Adam, AdamW and gradient descent with momentum as PyTorch computes them, in
//! place, with moments that can be saved (candle's own hides them), and [Muon](muon).
//!
//! Diederik P. Kingma, Jimmy Ba, "Adam: A Method for Stochastic
//! Optimization", ICLR 2015; Ilya Loshchilov, Frank Hutter, "Decoupled Weight
//! Decay Regularization", ICLR 2019.

use crate::optim::input_preconditioner::{InputPreconditioner, LayerStatistics};
use crate::optim::muon;
use crate::params::Vars;
use crate::recipe::OptimizerKind;
use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use srfilter::ops::{ParameterUpdate, RecordedConv, UpdateRule, apply_updates, squared_norm};
use std::collections::BTreeMap;

/// Hyperparameters that stay the same for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The algorithm.
    pub kind: OptimizerKind,
    /// Decay rates of Adam's two moments.
    pub betas: [f64; 2],
    /// Added to the root of Adam's second moment.
    pub eps: f64,
    /// Decay rate of the running sum of gradients (SGD, Muon).
    pub momentum: f64,
    /// Weight decay: AdamW's and Muon's shrinks the parameter, others' adds to its gradient.
    pub weight_decay: f64,
    /// Bound of the absolute value of every element of the gradient.
    pub clip_value: Option<f64>,
    /// Damping of the input preconditioner; `None` for no preconditioner.
    pub whiten: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adam,
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
    /// The algorithm for a parameter.
    fn kind_for(&self, parameter: &Tensor) -> OptimizerKind {
        match self.kind {
            OptimizerKind::Muon if !muon::is_matrix(parameter) => OptimizerKind::AdamW,
            kind => kind,
        }
    }
}

/// How many moments a parameter has.
fn moments(kind: OptimizerKind) -> usize {
    match kind {
        OptimizerKind::Adam | OptimizerKind::AdamW => 2,
        OptimizerKind::Sgd | OptimizerKind::Muon => 1,
    }
}

/// The moments of one parameter's gradient.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Steps in which it had a gradient.
    pub steps: u64,
    /// (2, elements): running means of the elements and of their squares; or
    /// (1, elements): the running sum of SGD or Muon.
    pub values: Tensor,
}

impl PartialEq for Moments {
    fn eq(&self, other: &Self) -> bool {
        let values = |moments: &Self| moments.values.to_vec2::<f32>().ok();
        self.steps == other.steps && values(self).is_some() && values(self) == values(other)
    }
}

#[derive(Debug)]
struct Parameter {
    var: Var,
    kind: OptimizerKind,
    lr_factor: f64,
    moments: Moments,
}

/// The optimiser of a set of parameters.
#[derive(Debug)]
pub struct Optimizer {
    settings: Settings,
    step: u64,
    parameters: BTreeMap<String, Parameter>,
    preconditioner: Option<InputPreconditioner>,
}

impl Optimizer {
    /// Optimises `vars`; the learning rate of those whose name starts with a
    /// key of `lr_factors` is multiplied by its value.
    ///
    /// # Errors
    ///
    /// No memory for the moments.
    pub fn new(
        vars: &Vars,
        settings: Settings,
        lr_factors: &BTreeMap<String, f64>,
    ) -> Result<Self> {
        let parameter = |(name, var): (&String, &Var)| {
            let factor = lr_factors
                .iter()
                .find(|(prefix, _)| name.starts_with(*prefix));
            let kind = settings.kind_for(var);
            let shape = (moments(kind), var.elem_count());
            let parameter = Parameter {
                var: var.clone(),
                kind,
                lr_factor: factor.map_or(1.0, |(_, &factor)| factor),
                moments: Moments {
                    steps: 0,
                    values: Tensor::zeros(shape, DType::F32, var.device())?,
                },
            };
            Ok((name.clone(), parameter))
        };
        Ok(Self {
            settings,
            step: 0,
            preconditioner: settings.whiten.map(InputPreconditioner::new),
            parameters: vars.iter().map(parameter).collect::<Result<_>>()?,
        })
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The moments of every parameter, as they are now, on the CPU.
    ///
    /// # Errors
    ///
    /// A device that is gone.
    pub fn moments(&self) -> Result<BTreeMap<String, Moments>> {
        let copied = |(name, parameter): (&String, &Parameter)| {
            let Moments { steps, values } = &parameter.moments;
            let values = values.to_device(&Device::Cpu)?.copy()?;
            let steps = *steps;
            Ok((name.clone(), Moments { steps, values }))
        };
        self.parameters.iter().map(copied).collect()
    }

    /// Second moments of the layers' inputs; empty without a preconditioner.
    pub fn layers(&self) -> BTreeMap<String, LayerStatistics> {
        let layers = self
            .preconditioner
            .iter()
            .flat_map(InputPreconditioner::layers);
        layers
            .map(|(name, layer)| (name.clone(), layer.clone()))
            .collect()
    }

    /// Whether the next step's convolutions are to be recorded for
    /// [`Optimizer::observe`].
    pub fn observes_next_step(&self) -> bool {
        self.preconditioner.is_some() && InputPreconditioner::observes(self.step)
    }

    /// Updates the preconditioner from the convolutions of the next step.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn observe(&mut self, vars: &Vars, records: &[RecordedConv]) -> Result<()> {
        match &mut self.preconditioner {
            Some(preconditioner) => preconditioner.observe(self.step, vars, records),
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
        layers: BTreeMap<String, LayerStatistics>,
    ) -> Result<()> {
        for (name, parameter) in &mut self.parameters {
            let moments = saved.remove(name);
            let moments = moments.with_context(|| format!("no moments of parameter {name}"))?;
            let (expected, found) = (parameter.moments.values.shape(), moments.values.shape());
            ensure!(
                found == expected,
                "moments of {name} should be {expected:?}, not {found:?}"
            );
            parameter.moments = Moments {
                steps: moments.steps,
                // A copy: steps change it.
                values: moments.values.to_device(parameter.var.device())?.copy()?,
            };
        }
        if let Some(preconditioner) = &mut self.preconditioner {
            let devices = |name: &str| {
                self.parameters
                    .get(name)
                    .map(|parameter| parameter.var.device())
            };
            preconditioner.restore(layers, devices)?;
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
        let parameters = self.parameters.values();
        let gradients = parameters.filter_map(|parameter| gradients.get(parameter.var.as_tensor()));
        Ok(squared_norm(&gradients.collect::<Vec<_>>())?.sqrt())
    }

    /// Updates every parameter by its gradient times `gradient_factor`.
    /// Parameters without a gradient stay unchanged, with their moments, as in
    /// PyTorch.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn step(&mut self, gradients: &GradStore, lr: f64, gradient_factor: f64) -> Result<()> {
        self.step += 1;
        let preconditioner = self.preconditioner.as_ref();
        let white = |name: &str, tensor: &Tensor| {
            preconditioner.map_or(Ok(None), |preconditioner| {
                preconditioner.apply(name, tensor)
            })
        };
        let mut updates = Vec::new();
        // Parameters that are not updated in place: the update of preconditioned ones is
        // preconditioned, too, that of Muon's comes from the moments alone.
        let mut moves = Vec::new();
        for (name, parameter) in &mut self.parameters {
            let Some(gradient) = gradients.get(parameter.var.as_tensor()) else {
                continue;
            };
            let (kind, lr) = (parameter.kind, lr * parameter.lr_factor);
            parameter.moments.steps += 1;
            let rule = rule(
                &self.settings,
                kind,
                parameter.moments.steps,
                lr,
                gradient_factor,
            );
            let whitened = white(name, gradient)?;
            let in_place = whitened.is_none() && kind != OptimizerKind::Muon;
            let update = ParameterUpdate {
                rule,
                parameter: match in_place {
                    true => parameter.var.as_tensor().clone(),
                    false => gradient.zeros_like()?,
                },
                gradient: whitened.unwrap_or_else(|| gradient.clone()).contiguous()?,
                moments: parameter.moments.values.clone(),
            };
            if !in_place {
                let step_size = (kind == OptimizerKind::Muon).then_some(lr);
                moves.push((name, parameter.var.clone(), step_size, update.clone()));
            }
            updates.push(update);
        }
        apply_updates(&updates)?;
        for (name, var, muon_step, update) in moves {
            // What was subtracted from zero.
            let mut step = update.parameter;
            if let Some(lr) = muon_step {
                let gradient = (update.gradient * gradient_factor)?;
                let sum = update.moments.reshape(var.shape())?;
                step = (muon::direction(&gradient, &sum, self.settings.momentum)? * -lr)?;
            }
            let step = white(name, &step)?.unwrap_or(step);
            let kept = f64::from(update.rule.decoupled_decay);
            var.set(&((var.as_tensor() * kept)? + step)?)?;
        }
        Ok(())
    }

    /// A parameter that has had no gradient so far.
    pub fn unused_parameter(&self) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let unused_parameter = parameters.find(|(_, parameter)| parameter.moments.steps == 0);
        unused_parameter.map(|(name, _)| name.as_str())
    }
}

/// The numbers of one step, rounded to f32 where PyTorch does.
fn rule(settings: &Settings, kind: OptimizerKind, step: u64, lr: f64, gradient: f64) -> UpdateRule {
    let [beta1, beta2] = settings.betas;
    let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
    let (weight_decay, decoupled_decay) = match kind {
        OptimizerKind::AdamW | OptimizerKind::Muon => (0.0, 1.0 - lr * settings.weight_decay),
        OptimizerKind::Adam | OptimizerKind::Sgd => (settings.weight_decay, 1.0),
    };
    let (momentum, step_size) = match kind {
        OptimizerKind::Sgd | OptimizerKind::Muon => (Some(settings.momentum as f32), lr),
        OptimizerKind::Adam | OptimizerKind::AdamW => (None, lr / correction(beta1)),
    };
    UpdateRule {
        grad_scale: gradient as f32,
        clip_value: settings
            .clip_value
            .map_or(f32::INFINITY, |most| most as f32),
        weight_decay: weight_decay as f32,
        decoupled_decay: decoupled_decay as f32,
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
            if settings.kind == OptimizerKind::AdamW {
                p *= 1.0 - lr * settings.weight_decay;
            } else {
                g += settings.weight_decay * p;
            }
            if settings.kind == OptimizerKind::Sgd {
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
        use OptimizerKind::{Adam, AdamW, Sgd};
        let clips = [None, Some(1.5)];
        for (kind, clip_value) in [Adam, AdamW, Sgd]
            .into_iter()
            .zip(clips.into_iter().cycle())
        {
            let settings = Settings {
                kind,
                weight_decay: 0.1,
                eps: 1e-3,
                momentum: 0.7,
                clip_value,
                ..Settings::default()
            };
            let start = [0.5f32, -2.0, 1e-4, 3.0];
            let var = Var::new(&start, &Device::Cpu).unwrap();
            let vars: Vars = [("p".to_owned(), var.clone())].into();
            let mut optimizer = Optimizer::new(&vars, settings, &BTreeMap::new()).unwrap();
            for _ in 0..2 {
                let loss = var.sqr().unwrap().sum_all().unwrap();
                optimizer
                    .step(&loss.backward().unwrap(), 0.05, 1.0)
                    .unwrap();
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
            kind: OptimizerKind::Sgd,
            momentum: 0.5,
            clip_value: Some(3.0),
            ..Settings::default()
        };
        let vars: Vars = [("p".to_owned(), var.clone())].into();
        let mut optimizer = Optimizer::new(&vars, settings, &BTreeMap::new()).unwrap();
        for slope in [5.0, 2.0] {
            let loss = (var.as_tensor() * slope).unwrap().sum_all().unwrap();
            optimizer.step(&loss.backward().unwrap(), 0.1, 1.0).unwrap();
        }
        // 1 - 0.1 * 3 - 0.1 * (0.5 * 3 + 2)
        let left = var.to_vec1::<f32>().unwrap()[0];
        assert!((left - 0.35).abs() < 1e-6, "{left}");
        assert_eq!(optimizer.moments().unwrap()["p"].values.dims(), [1, 1]);
    }

    /// A loss whose curvature differs by 10,000 between two directions: Muon moves along
    /// the flat one, too, and a vector moves by AdamW.
    #[test]
    fn muon_moves_along_small_gradients_too() {
        let curvature = Tensor::new(&[[1f32, 0.0, 0.0], [0.0, 1e-4, 0.0]], &Device::Cpu).unwrap();
        let start = [[1f32, 0.0, 0.0], [0.0, 1.0, 0.0]];
        let vars: Vars = [
            (
                "kernels".to_owned(),
                Var::new(&start, &Device::Cpu).unwrap(),
            ),
            ("bias".to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()),
        ]
        .into();
        let settings = Settings {
            kind: OptimizerKind::Muon,
            ..Settings::default()
        };
        let mut optimizer = Optimizer::new(&vars, settings, &BTreeMap::new()).unwrap();
        for _ in 0..2 {
            let kernels = (vars["kernels"].sqr().unwrap() * &curvature).unwrap();
            let bias = vars["bias"].sqr().unwrap().sum_all().unwrap();
            let loss = (kernels.sum_all().unwrap() + bias).unwrap();
            optimizer.step(&loss.backward().unwrap(), 0.1, 1.0).unwrap();
        }
        // Each step is 0.1 * 0.2 * sqrt(3), times singular values near 1; of values of 1e-4 of
        // the largest the iteration leaves less.
        let moved = vars["kernels"].to_vec2::<f32>().unwrap();
        let steps = |left: f32| (1.0 - left) / (2.0 * 0.02 * 3f32.sqrt());
        assert!((0.65..1.25).contains(&steps(moved[0][0])), "{moved:?}");
        assert!((0.03..0.1).contains(&steps(moved[1][1])), "{moved:?}");
        assert!((vars["bias"].to_vec1::<f32>().unwrap()[0] - 0.8).abs() < 1e-3);
        let moments = optimizer.moments().unwrap();
        assert_eq!(moments["kernels"].values.dims(), [1, 6]);
        assert_eq!(moments["bias"].values.dims(), [2, 1]);
    }

    #[test]
    fn factors_apply_by_prefix() {
        let vars: Vars = ["a.w", "b.w"]
            .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
            .into();
        let mut optimizer =
            Optimizer::new(&vars, Settings::default(), &[("b.".to_owned(), 0.1)].into()).unwrap();
        let loss = (vars["a.w"].as_tensor() + vars["b.w"].as_tensor()).unwrap();
        let gradients = loss.sum_all().unwrap().backward().unwrap();
        assert!((optimizer.gradient_norm(&gradients).unwrap() - 2f64.sqrt()).abs() < 1e-6);
        optimizer.step(&gradients, 0.1, 1.0).unwrap();
        let moved = |name: &str| 1.0 - vars[name].to_vec1::<f32>().unwrap()[0];
        assert!((moved("a.w") - 0.1).abs() < 1e-6 && (moved("b.w") - 0.01).abs() < 1e-6);
        assert_eq!(optimizer.unused_parameter(), None);
    }

    #[test]
    fn parameters_out_of_use_stay_as_they_are() {
        let run = |pauses: usize| {
            let vars: Vars = ["a", "b"]
                .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
                .into();
            let mut optimizer =
                Optimizer::new(&vars, Settings::default(), &BTreeMap::new()).unwrap();
            let mut take = |names: &[&str]| {
                let squares = names.iter().map(|name| vars[*name].sqr().unwrap());
                let loss = squares.reduce(|a, b| (a + b).unwrap()).unwrap();
                let gradients = loss.sum_all().unwrap().backward().unwrap();
                optimizer.step(&gradients, 0.1, 1.0).unwrap();
            };
            (0..pauses).for_each(|_| take(&["a"]));
            take(&["a", "b"]);
            (0..pauses).for_each(|_| take(&["a"]));
            take(&["a", "b"]);
            let moments = &optimizer.moments().unwrap()["b"];
            (
                vars["b"].to_vec1::<f32>().unwrap(),
                moments.values.to_vec2::<f32>().unwrap(),
                moments.steps,
            )
        };
        assert_eq!(run(0), run(3));
        assert_eq!(run(3).2, 2);
    }

    #[test]
    fn parameters_that_nothing_depends_on_are_named() {
        let vars: Vars = ["a", "b"]
            .map(|name| (name.to_owned(), Var::new(&[1f32], &Device::Cpu).unwrap()))
            .into();
        let mut optimizer = Optimizer::new(&vars, Settings::default(), &BTreeMap::new()).unwrap();
        assert_eq!(optimizer.unused_parameter(), Some("a"));
        let gradients = vars["a"].sum_all().unwrap().backward().unwrap();
        optimizer.step(&gradients, 0.1, 1.0).unwrap();
        assert_eq!(optimizer.unused_parameter(), Some("b"));
    }
}
