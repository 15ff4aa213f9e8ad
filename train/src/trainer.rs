//! One step after the other: batch, forward, loss, backward, Adam.

use crate::checkpoint::State;
use crate::data::{Dataset, Feeder, Part, Plan, steps_per_epoch};
use crate::optim::{Adam, Settings};
use crate::params::{Store, Vars};
use crate::recipe::{Optimizer, Recipe, Schedule};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::models::{Architecture, Deployed, Network};
use srfilter::nn::BatchNorm;
use srfilter::ops::Border;
use srfilter::weights::Checkpoint;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// Guards the gradient's factor against division by zero, as PyTorch does.
const CLIP_EPS: f64 = 1e-6;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Sum of the scales' losses.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// A network in training.
pub struct Trainer {
    recipe: Recipe,
    architecture: Architecture,
    network: Box<dyn Network>,
    vars: Vars,
    adam: Adam,
    feeder: Feeder,
    /// Scales that no step was taken at in this sitting.
    untried: HashSet<Scale>,
    steps_per_epoch: u64,
    seconds: f64,
    /// Best mean gain in validation so far, in dB.
    pub best: Option<f64>,
    /// What is trained on.
    data: String,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("recipe", &self.recipe)
            .field("steps", &self.steps())
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Prepares a run, or the rest of one that `state` was saved from.
    ///
    /// # Errors
    ///
    /// Weights or a state that do not fit the recipe, a patch that is too
    /// small for the network.
    pub fn new(recipe: &Recipe, dataset: &Arc<Dataset>, state: Option<State>) -> Result<Self> {
        let architecture = recipe.architecture()?;
        let (store, origin) = match (&state, &recipe.model.init) {
            (Some(state), _) => {
                let origin = "the saved state".to_owned();
                let store = Store::given(&origin, state.parameters.clone());
                (store, origin)
            }
            (None, Some(path)) => {
                let file = Checkpoint::open(path)?;
                let of = file
                    .card()?
                    .map(|card| format!(" of {:?}", card.architecture));
                let origin = format!("weights{}", of.unwrap_or_default());
                let store = Store::given(file.origin(), file.tensors().clone());
                (store, origin)
            }
            (None, None) => (Store::drawn(recipe.train.seed), "new weights".to_owned()),
        };
        let scales = srfilter::models::Scales::list(recipe.train.scales.iter().copied());
        let network = architecture
            .build(&store.builder(), scales)
            .with_context(|| format!("cannot begin with {origin} as {architecture:?}"))?;
        let vars = store.vars()?;
        if state.is_none() && recipe.model.init.is_none() {
            open_path(&architecture, &vars)?;
        }
        check_patch(recipe, network.as_ref())?;
        for prefix in recipe.train.lr_factors.keys() {
            ensure!(
                vars.keys().any(|name| name.starts_with(prefix)),
                "lr_factors: no parameter begins with {prefix}; there are {}",
                vars.keys().cloned().collect::<Vec<_>>().join(", ")
            );
        }
        let mut learnt = vars.clone();
        learnt.retain(|name, _| !BatchNorm::is_statistic(name));
        let mut adam = Adam::new(&learnt, settings(recipe), &recipe.train.lr_factors);
        let (mut seconds, mut best) = (0.0, None);
        if let Some(state) = state {
            (seconds, best) = (state.seconds, state.best);
            adam.restore(state.step, state.moments)
                .context("the saved state does not fit")?;
        }
        let per_epoch = recipe.train.steps_per_epoch;
        let all = steps_per_epoch(&dataset.train, recipe)?;
        Ok(Self {
            feeder: Feeder::start(Plan::new(recipe)?, Arc::clone(dataset), adam.steps()),
            untried: recipe.train.scales.iter().copied().collect(),
            steps_per_epoch: per_epoch.unwrap_or(all),
            recipe: recipe.clone(),
            architecture,
            network,
            vars,
            adam,
            seconds,
            best,
            data: dataset.fingerprint.clone(),
        })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.adam.steps()
    }

    /// Seconds of training, all sittings together.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Adds time that was spent beside the steps, in seconds.
    pub fn spend(&mut self, seconds: f64) {
        self.seconds += seconds;
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Steps of the whole run; `None` where only the clock ends it.
    pub fn length(&self) -> Option<u64> {
        let train = &self.recipe.train;
        let epochs = train.epochs.map(|n| n.saturating_mul(self.steps_per_epoch));
        train.steps.or(epochs)
    }

    /// Steps in which the learning rate rises: the recipe's, or a tenth of a
    /// run that is too short for them.
    pub fn warmup(&self) -> u64 {
        let tenth = self.length().map_or(u64::MAX, |length| length / 10);
        self.recipe.train.warmup.min(tenth)
    }

    /// How much of the run is done, 0 to 1.
    pub fn progress(&self) -> f64 {
        let steps = self
            .length()
            .map_or(0.0, |n| self.steps() as f64 / n as f64);
        let time = self
            .recipe
            .train
            .minutes
            .map_or(0.0, |m| self.seconds / (60.0 * m));
        steps.max(time).min(1.0)
    }

    /// The network.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// The network that weights files get.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn deployed(&self) -> Result<Deployed> {
        let same = || Deployed {
            architecture: self.architecture.clone(),
            tensors: self.tensors(),
        };
        Ok(self.network.deployed()?.unwrap_or_else(same))
    }

    /// The parameters by name.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = self.vars.iter();
        named
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
            .collect()
    }

    /// All that a later [`Trainer::new`] needs to go on.
    pub fn state(&self) -> State {
        let moments = self.adam.moments();
        State {
            step: self.steps(),
            seconds: self.seconds,
            best: self.best,
            data: self.data.clone(),
            parameters: self.tensors().into_iter().collect(),
            moments: moments
                .map(|(name, m)| (name.to_owned(), m.clone()))
                .collect(),
        }
    }

    /// Takes one step.
    ///
    /// # Errors
    ///
    /// A loss or gradient that is not finite; the parameters are then those
    /// of the step before.
    pub fn step(&mut self) -> Result<Report> {
        let start = Instant::now();
        let parts = self.feeder.next()?;
        let loss = self.loss(&parts)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        let gradients = loss.backward()?;
        let gradient_norm = self.adam.gradient_norm(&gradients)?;
        ensure!(
            value.is_finite() && gradient_norm.is_finite(),
            "step {}: loss {value}, gradient norm {gradient_norm}: the training diverged; \
             try a lower --lr or a --clip-norm",
            self.steps() + 1
        );
        let factor = match self.recipe.train.clip_norm {
            Some(limit) => (limit / (gradient_norm + CLIP_EPS)).min(1.0),
            None => 1.0,
        };
        let lr = self.lr();
        self.adam.step(&gradients, lr, factor)?;
        self.check_reach(&parts)?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(Report {
            loss: value,
            lr,
            gradient_norm,
        })
    }

    /// Once all scales had their turn, every parameter has to have had one.
    fn check_reach(&mut self, parts: &[Part]) -> Result<()> {
        if self.untried.is_empty() {
            return Ok(());
        }
        for part in parts {
            self.untried.remove(&part.scale);
        }
        match self.adam.untouched() {
            Some(name) if self.untried.is_empty() => {
                bail!("the loss depends on parameter {name} at no scale")
            }
            _ => Ok(()),
        }
    }

    /// Sum of the losses of all parts.
    fn loss(&self, parts: &[Part]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for part in parts {
            let network = self.network.in_training(part.scale)?;
            let patch = self.recipe.data.patch;
            let planes = self.network.channels().count();
            let tensor = |samples: &[f32], side: usize| {
                let shape = (self.recipe.train.batch_size, planes, side, side);
                Tensor::from_slice(samples, shape, &Device::Cpu)
            };
            let output = network.forward(&tensor(&part.input, patch)?)?;
            let target = tensor(&part.target, patch * network.works_at().factor())?;
            let target = center(&target, output.dim(3)?)?;
            let loss = (self.recipe.train.loss.of(&output, &target)? * part.weight)?;
            sum = Some(match sum {
                Some(sum) => (sum + loss)?,
                None => loss,
            });
        }
        sum.context("a step without any scale")
    }

    /// The learning rate of the next step.
    fn lr(&self) -> f64 {
        let train = &self.recipe.train;
        let (step, progress, warmup) = (self.steps(), self.progress(), self.warmup());
        if step < warmup {
            return train.lr * (step + 1) as f64 / (warmup + 1) as f64;
        }
        match train.schedule {
            Schedule::Constant => train.lr,
            Schedule::Cosine => {
                let share = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                train.min_lr + (train.lr - train.min_lr) * share
            }
        }
    }
}

fn settings(recipe: &Recipe) -> Settings {
    let train = &recipe.train;
    Settings {
        betas: train.betas,
        eps: train.eps,
        weight_decay: train.weight_decay,
        decoupled: train.optimizer == Optimizer::AdamW,
    }
}

/// Lets the picture through the network that was just drawn.
fn open_path(architecture: &Architecture, vars: &Vars) -> Result<()> {
    for (name, var) in vars {
        let mut values = var.flatten_all()?.to_vec1::<f32>()?;
        if architecture.open_path(name, &mut values) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
    }
    Ok(())
}

/// Networks without padding must leave something of a patch.
fn check_patch(recipe: &Recipe, network: &dyn Network) -> Result<()> {
    for &scale in &recipe.train.scales {
        let ready = network.at(scale)?;
        let lost = 2 * ready.halo();
        ensure!(
            ready.border() != Border::Valid || recipe.data.patch > lost,
            "patch must be above {lost} pixels: the network takes that much off",
        );
    }
    Ok(())
}

/// The middle of a square that is `side` wide.
fn center(target: &Tensor, side: usize) -> Result<Tensor> {
    let start = (target.dim(3)? - side) / 2;
    Ok(target.narrow(2, start, side)?.narrow(3, start, side)?)
}
