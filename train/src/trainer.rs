//! One step after the other: batch, forward, loss, backward, optimiser.

use crate::checkpoint::{Player, State};
use crate::data::{Dataset, Feeder, Part, Plan, steps_per_epoch};
use crate::gan::Adversary;
use crate::loss::features::PerceptualLoss;
use crate::optim::ema::Average;
use crate::optim::schedule::{Course, Position, rate};
use crate::optim::{Descent, Settings};
use crate::params::{Store, Vars, tensors};
use crate::recipe::{Model, Recipe};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::models::{Architecture, Network, Reparameterized, Scales};
use srfilter::nn::BatchNorm;
use srfilter::ops::{Border, backward, record_convs};
use srfilter::weights::{Checkpoint, LoadOverrides};
use std::collections::{HashMap, HashSet};
use std::mem::discriminant;
use std::path::{Path, PathBuf};
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
    /// The discriminator's loss, where there is one.
    pub discriminator_loss: Option<f64>,
}

/// What the network made of one part of a batch.
struct Made {
    output: Tensor,
    target: Tensor,
    /// What a discriminator compares with.
    real: Tensor,
    /// Factor of the loss.
    weight: f64,
}

/// A network in training.
pub struct Trainer {
    recipe: Recipe,
    architecture: Architecture,
    network: Box<dyn Network>,
    vars: Vars,
    device: Device,
    average: Option<Average>,
    descent: Descent,
    perceptual: Option<PerceptualLoss>,
    adversary: Option<Adversary>,
    feeder: Feeder,
    /// Scales that no step was taken at in this sitting.
    untried: HashSet<Scale>,
    steps_per_epoch: u64,
    seconds: f64,
    course: Course,
    /// Whether steps may look at what the layers see, for whitening.
    looks: bool,
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
    /// Prepares a run on the CPU, or the rest of one that `state` was saved from.
    ///
    /// # Errors
    ///
    /// As [`Trainer::on`].
    pub fn new(recipe: &Recipe, dataset: &Arc<Dataset>, state: Option<State>) -> Result<Self> {
        Self::on(&Device::Cpu, recipe, dataset, state)
    }

    /// Prepares a run on a device, or the rest of one that `state` was saved from.
    ///
    /// # Errors
    ///
    /// Weights or a state that do not fit the recipe, a patch that is too
    /// small for the network.
    pub fn on(
        device: &Device,
        recipe: &Recipe,
        dataset: &Arc<Dataset>,
        state: Option<State>,
    ) -> Result<Self> {
        let architecture = recipe.architecture()?;
        let (store, origin) = match (&state, &recipe.model.init) {
            (Some(state), _) => {
                let origin = "the saved state".to_owned();
                let store = Store::given(&origin, state.generator.parameters.clone());
                (store, origin)
            }
            (None, Some(path)) => given(path, recipe, &architecture)?,
            (None, None) => (Store::drawn(recipe.train.seed), "new weights".to_owned()),
        };
        let store = store.on(device);
        let scales = Scales::list(recipe.train.scales.iter().copied());
        let network = architecture
            .build(&store.builder(), scales.clone())
            .with_context(|| format!("cannot begin with {origin} as {architecture:?}"))?;
        let vars = store.vars()?;
        if state.is_none() && recipe.model.init.is_none() {
            open_path(&architecture, &vars)?;
        }
        if state.is_none() && !recipe.model.fit_from.is_empty() {
            make(&architecture, &scales, &recipe.model, &vars)?;
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
        let mut descent = Descent::new(&learnt, settings(recipe), &recipe.train.lr_factors)?;
        let (mut seconds, mut course) = (0.0, Course::default());
        let (mut averaged, mut judging) = (None, None);
        if let Some(state) = state {
            (seconds, course) = (state.seconds, state.course);
            averaged = Some(state.average);
            judging = Some((state.step, state.discriminator));
            descent
                .restore(state.step, state.generator.moments, state.generator.layers)
                .context("the saved state does not fit")?;
        }
        let average = recipe.train.ema.map(|decay| {
            let tensors = averaged.unwrap_or_else(|| tensors(&vars).collect());
            Average::new(decay, tensors, &architecture, scales, device)
        });
        let perceptual = recipe.perceptual.as_ref();
        let perceptual = perceptual.map(|perceptual| PerceptualLoss::new(perceptual, device));
        let per_epoch = recipe.train.steps_per_epoch;
        let all = steps_per_epoch(&dataset.train, recipe)?;
        Ok(Self {
            feeder: Feeder::start(Plan::new(recipe)?, Arc::clone(dataset), descent.steps()),
            untried: recipe.train.scales.iter().copied().collect(),
            steps_per_epoch: per_epoch.unwrap_or(all),
            recipe: recipe.clone(),
            average: average.transpose()?,
            perceptual: perceptual.transpose()?,
            adversary: Adversary::new(recipe, settings(recipe), judging, device)?,
            architecture,
            network,
            vars,
            device: device.clone(),
            descent,
            seconds,
            course,
            looks: true,
            data: dataset.fingerprint.clone(),
        })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.descent.steps()
    }

    /// Seconds of training, all sittings together.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Takes steps without looking at what the layers see from now on: for
    /// measuring, since most steps of a run do not.
    pub fn look_no_more(&mut self) {
        self.looks = false;
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

    /// Whether there is nothing more to do: all steps are taken, or the last
    /// validations brought no improvement.
    pub fn is_done(&self) -> bool {
        self.progress() >= 1.0 || self.course.is_over(&self.recipe.train)
    }

    /// Takes note of a validation's gain, in dB. Returns whether it is the
    /// best so far.
    pub fn note(&mut self, gain: f64) -> bool {
        self.course.note(gain, &self.recipe.train)
    }

    /// The network to validate and to deploy: that of the average weights
    /// where the recipe keeps them.
    pub fn network(&self) -> &dyn Network {
        match &self.average {
            Some(average) => average.network(),
            None => self.network.as_ref(),
        }
    }

    /// The network that weights files get.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn deployed(&self) -> Result<Reparameterized> {
        let vars = self.average.as_ref().map_or(&self.vars, Average::vars);
        let same = || Reparameterized {
            architecture: self.architecture.clone(),
            tensors: tensors(vars).collect(),
        };
        Ok(self.network().reparameterized()?.unwrap_or_else(same))
    }

    /// The parameters by name.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        tensors(&self.vars).collect()
    }

    /// All that a later [`Trainer::new`] needs to go on.
    ///
    /// # Errors
    ///
    /// A device that is gone.
    pub fn state(&self) -> Result<State> {
        let average = self.average.iter().flat_map(|a| tensors(a.vars()));
        let discriminator = self.adversary.as_ref().map(Adversary::state).transpose()?;
        Ok(State {
            step: self.steps(),
            seconds: self.seconds,
            course: self.course,
            data: self.data.clone(),
            generator: Player {
                parameters: tensors(&self.vars).collect(),
                moments: self.descent.moments()?,
                layers: self.descent.layers(),
            },
            discriminator: discriminator.unwrap_or_default(),
            average: average.collect(),
        })
    }

    /// Takes one step: the network's, then the discriminator's if there is one,
    /// on the same pictures.
    ///
    /// # Errors
    ///
    /// A loss or gradient that is not finite; the parameters of the network
    /// that it belongs to are then those of the step before.
    pub fn step(&mut self) -> Result<Report> {
        let start = Instant::now();
        let parts = self.feeder.next()?;
        let made = match self.looks && self.descent.wants_to_look() {
            true => {
                let (made, records) = record_convs(|| self.make(&parts));
                self.descent.look(&self.vars, &records)?;
                made?
            }
            false => self.make(&parts)?,
        };
        let loss = self.loss(&made)?;
        let gradients = backward(&loss)?;
        // A GPU is waited for here, with all of its work in line.
        let gradient_norm = self.descent.gradient_norm(&gradients)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        ensure!(
            value.is_finite() && gradient_norm.is_finite(),
            "step {}: loss {value}, gradient norm {gradient_norm}: the training diverged; \
             try a lower --lr or a --clip-norm",
            self.steps() + 1
        );
        let (lr, clip_norm) = (self.lr(), self.recipe.train.clip_norm);
        let clip = |norm: f64| clip_norm.map_or(1.0, |most| (most / (norm + CLIP_EPS)).min(1.0));
        self.descent.step(&gradients, lr, clip(gradient_norm))?;
        let discriminator_loss = match &mut self.adversary {
            Some(adversary) => Some(judge(adversary, &made, lr, clip)?),
            None => None,
        };
        if let Some(average) = &self.average {
            average.follow(&self.vars)?;
        }
        self.check_reach(&parts)?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(Report {
            loss: value,
            lr,
            gradient_norm,
            discriminator_loss,
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
        match self.descent.untouched() {
            Some(name) if self.untried.is_empty() => {
                bail!("the loss depends on parameter {name} at no scale")
            }
            _ => Ok(()),
        }
    }

    /// What the network makes of a batch.
    fn make(&self, parts: &[Part]) -> Result<Vec<Made>> {
        let (patch, batch) = (self.recipe.data.patch, self.recipe.train.batch_size);
        let planes = self.network.channels().count();
        let tensor = |samples: &[f32], side: usize| {
            Tensor::from_slice(samples, (batch, planes, side, side), &self.device)
        };
        let make = |part: &Part| -> Result<Made> {
            let network = self.network.training_network(part.scale)?;
            let output = network.forward(&tensor(&part.input, patch)?)?;
            let (side, middle) = (patch * network.upsampling().factor(), output.dim(3)?);
            let target = center(&tensor(&part.target, side)?, middle)?;
            let real = match part.real.is_empty() {
                true => target.clone(),
                false => center(&tensor(&part.real, side)?, middle)?,
            };
            Ok(Made {
                output,
                target,
                real,
                weight: part.weight,
            })
        };
        parts.iter().map(make).collect()
    }

    /// Sum of the losses of all parts.
    fn loss(&self, made: &[Made]) -> Result<Tensor> {
        let pixels = self.recipe.train.loss_weight.unwrap_or(1.0);
        let mut losses = Vec::new();
        for Made {
            output,
            target,
            weight,
            ..
        } in made
        {
            if pixels > 0.0 {
                let loss = self.recipe.train.loss.of(output, target)?;
                losses.push((loss * (pixels * weight))?);
            }
            if let Some(perceptual) = &self.perceptual {
                losses.push((perceptual.of(output, target)? * *weight)?);
            }
            if let Some(adversary) = &self.adversary {
                losses.push((adversary.against(output)? * *weight)?);
            }
        }
        sum(losses)
    }

    /// The learning rate of the next step.
    fn lr(&self) -> f64 {
        let at = Position {
            step: self.steps(),
            progress: self.progress(),
            warmup: self.warmup(),
            drops: self.course.drops,
        };
        rate(&self.recipe.train, at)
    }
}

/// Sum of some losses.
fn sum(losses: Vec<Tensor>) -> Result<Tensor> {
    let mut losses = losses.into_iter();
    let first = losses.next().context("a step without any loss")?;
    Ok(losses.try_fold(first, |sum, loss| sum + loss)?)
}

/// The discriminator's step. Returns its loss.
fn judge(
    adversary: &mut Adversary,
    made: &[Made],
    lr: f64,
    clip: impl Fn(f64) -> f64,
) -> Result<f64> {
    let loss = |made: &Made| -> Result<Tensor> {
        Ok((adversary.loss(&made.real, &made.output)? * made.weight)?)
    };
    let loss = sum(made.iter().map(loss).collect::<Result<_>>()?)?;
    adversary.step(&loss, lr, clip)
}

/// The weights that a recipe begins with, and what to call them: a file's, or
/// those that the file's hypernetwork makes.
fn given(path: &Path, recipe: &Recipe, wanted: &Architecture) -> Result<(Store, String)> {
    let file = Checkpoint::open(path)?;
    let found = file.card()?.map(|card| card.architecture);
    let made = found
        .as_ref()
        .and_then(Architecture::generated_architecture);
    let tensors: HashMap<String, Tensor> = match made {
        _ if State::is_state(&file) => State::load(path)?.weights(),
        Some(made) if discriminant(&made) == discriminant(wanted) => {
            let origin = file.origin();
            ensure!(made == *wanted, "{origin} makes {made:?}, not {wanted:?}");
            let scale = recipe.train.scales.first().context("no scale")?;
            let (_, network) = file.network(&LoadOverrides::default())?;
            let hypernetwork = network.as_hypernetwork().context("no hypernetwork")?;
            hypernetwork.generate_weights(*scale)?.into_iter().collect()
        }
        _ => file.tensors().clone(),
    };
    let origin = format!(
        "weights{}",
        found
            .map(|found| format!(" of {found:?}"))
            .unwrap_or_default()
    );
    let store = match recipe.model.strict_init {
        true => Store::given(file.origin(), tensors),
        false => Store::partly_given(file.origin(), tensors, recipe.train.seed),
    };
    Ok((store, origin))
}

fn settings(recipe: &Recipe) -> Settings {
    let train = &recipe.train;
    Settings {
        rule: train.optimizer,
        betas: train.betas,
        eps: train.eps,
        momentum: train.momentum(),
        weight_decay: train.weight_decay,
        clip_value: train.clip_value,
        whiten: train.whiten,
    }
}

/// Lets the picture through the network that was just drawn.
fn open_path(architecture: &Architecture, vars: &Vars) -> Result<()> {
    for (name, var) in vars {
        let mut values = var.flatten_all()?.to_vec1::<f32>()?;
        if architecture.identity_init(name, &mut values) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
    }
    Ok(())
}

/// Lets a hypernetwork begin by making the networks of some files.
fn make(architecture: &Architecture, scales: &Scales, model: &Model, vars: &Vars) -> Result<()> {
    // On the CPU, where the files are.
    let store = Store::given("the new weights", tensors(vars).collect());
    let network = architecture.build(&store.builder(), scales.clone())?;
    let hypernetwork = network
        .as_hypernetwork()
        .context("fit_from: only a hypernetwork generates other networks")?;
    let kind = architecture.generated_architecture();
    let open = |(&scale, path): (&Scale, &PathBuf)| {
        let file = Checkpoint::open(path)?;
        if let (Some(card), Some(kind)) = (file.card()?, &kind) {
            let (origin, found) = (file.origin(), card.architecture);
            ensure!(
                found == *kind,
                "fit_from: {origin} holds {found:?}, and {kind:?} is generated"
            );
        }
        Ok((scale, file))
    };
    let files = model
        .fit_from
        .iter()
        .map(open)
        .collect::<Result<Vec<_>>>()?;
    let wanted: Vec<_> = files
        .iter()
        .map(|(scale, file)| (*scale, file.tensors()))
        .collect();
    for (name, tensor) in hypernetwork.fit_generator(&wanted, model.init.is_none())? {
        let var = vars
            .get(&name)
            .with_context(|| format!("fit_from: no parameter {name}"))?;
        let same = var.shape() == tensor.shape();
        ensure!(
            same,
            "fit_from: {name} is {:?}, not {:?}",
            var.shape(),
            tensor.shape()
        );
        var.set(&tensor.to_device(var.device())?)?;
    }
    Ok(())
}

/// Networks without padding must leave something of a patch.
fn check_patch(recipe: &Recipe, network: &dyn Network) -> Result<()> {
    for &scale in &recipe.train.scales {
        let ready = network.for_scale(scale)?;
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
