//! A training step: batch, forward, loss, backward, optimiser.

use crate::checkpoint::{NetworkState, State};
use crate::data::{BatchLoader, BatchSampler, Dataset, ScaleBatch, steps_per_epoch};
use crate::gan::Adversary;
use crate::initial::{initial_data, initial_weights};
use crate::loss::features::PerceptualLoss;
use crate::loss::{Shift, grid};
use crate::optim::ema::Ema;
use crate::optim::schedule::{Progress, ValidationHistory, rate};
use crate::optim::{Optimizer, Settings};
use crate::params::{ParamStore, Vars, tensors};
use crate::quantize::Quantizer;
use crate::recipe::{Model, Recipe};
use crate::teacher::Teacher;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::chain::quantized::Quantization;
use srfilter::models::{Architecture, Network, Scales};
use srfilter::nn::BatchNorm;
use srfilter::ops::{Border, backward, record_convs, with_default_context};
use srfilter::weights::{Card, Checkpoint};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Added to the norm that clipping divides by, as in PyTorch.
const CLIP_EPS: f64 = 1e-6;

/// The metrics of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Loss, summed over the scales.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The discriminator's loss, where there is one.
    pub discriminator_loss: Option<f64>,
}

/// Output and target of a batch at one scale.
struct ForwardOutput {
    output: Tensor,
    target: Tensor,
    /// The real images for the discriminator.
    real: Tensor,
    /// The factor that the network upscales by.
    factor: usize,
    /// Factor of the loss.
    weight: f64,
}

/// What a network in training comes down to when its training is over.
#[derive(Debug, Clone)]
pub struct Reparameterized {
    /// Architecture and configuration.
    pub architecture: Architecture,
    /// The weights by name.
    pub tensors: Vec<(String, Tensor)>,
    /// The layers in 8-bit integers, where the recipe trains those; the weights are
    /// then the initial ones.
    pub quantization: Quantization,
}

/// A network in training.
pub struct Trainer {
    recipe: Recipe,
    architecture: Architecture,
    network: Box<dyn Network>,
    quantizer: Option<Quantizer>,
    vars: Vars,
    device: Device,
    ema: Option<Ema>,
    optimizer: Optimizer,
    perceptual: Option<PerceptualLoss>,
    adversary: Option<Adversary>,
    teacher: Option<Teacher>,
    loader: BatchLoader,
    /// Scales not yet trained in this session.
    untrained_scales: HashSet<Scale>,
    steps_per_epoch: u64,
    seconds: f64,
    history: ValidationHistory,
    /// Whether steps update the input preconditioner.
    observing: bool,
    /// The fingerprint of the training images.
    data: String,
    /// The training images, for model cards.
    description: String,
    /// What was trained on before this run.
    initial_data: String,
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
    /// Prepares a run on the CPU, new or resumed from `state`.
    ///
    /// # Errors
    ///
    /// As [`Trainer::on`].
    pub fn new(recipe: &Recipe, dataset: &Arc<Dataset>, state: Option<State>) -> Result<Self> {
        Self::on(&Device::Cpu, recipe, dataset, state)
    }

    /// Prepares a run on a device, new or resumed from `state`.
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
                let store = ParamStore::from_tensors(&origin, state.generator.parameters.clone());
                (store, origin)
            }
            (None, Some(path)) => initial_weights(path, recipe, &architecture)?,
            (None, None) => (
                ParamStore::random(recipe.train.seed),
                "new weights".to_owned(),
            ),
        };
        let store = store.on(device);
        let scales = Scales::list(recipe.train.scales.iter().copied());
        let network = architecture
            .build(&store.builder(), scales.clone())
            .with_context(|| format!("cannot start from {origin} as {}", architecture.name()))?;
        let quantize = recipe.quantize.as_ref();
        let quantizer = quantize
            .map(|quantize| Quantizer::new(recipe, quantize.batches, &architecture, dataset))
            .transpose()?;
        let quantized = |network: Box<dyn Network>| match &quantizer {
            Some(quantizer) => quantizer.quantized(network),
            None => network,
        };
        let network = quantized(network);
        let vars = store.vars()?;
        if state.is_none() && recipe.model.init.is_none() {
            apply_identity_init(&architecture, &vars)?;
        }
        if state.is_none() && !recipe.model.fit_from.is_empty() {
            fit_hypernetwork(&architecture, &scales, &recipe.model, &vars)?;
        }
        check_patch(recipe, network.as_ref())?;
        for prefix in recipe.train.lr_factors.keys() {
            ensure!(
                vars.keys().any(|name| name.starts_with(prefix)),
                "lr_factors: no parameter name starts with {prefix}; known parameters: {}",
                vars.keys().cloned().collect::<Vec<_>>().join(", ")
            );
        }
        let mut learnt = vars.clone();
        learnt.retain(|name, _| !BatchNorm::is_statistic(name));
        let mut optimizer = Optimizer::new(&learnt, settings(recipe), &recipe.train.lr_factors)?;
        let initial_data = match &state {
            Some(state) => state.initial_data.clone(),
            None => initial_data(recipe)?,
        };
        let (mut seconds, mut history) = (0.0, ValidationHistory::default());
        let (mut saved_ema, mut discriminator_state) = (None, None);
        if let Some(state) = state {
            (seconds, history) = (state.seconds, state.history);
            saved_ema = Some(state.ema);
            discriminator_state = Some((state.step, state.discriminator));
            optimizer
                .restore(state.step, state.generator.moments, state.generator.layers)
                .context("the saved state does not fit")?;
        }
        let ema = recipe.train.ema.map(|decay| {
            let tensors = saved_ema.unwrap_or_else(|| tensors(&vars).collect());
            Ema::new(decay, tensors, device, |vb| {
                Ok(quantized(architecture.build(vb, scales)?))
            })
        });
        let perceptual = recipe.perceptual.as_ref();
        let perceptual = perceptual.map(|perceptual| PerceptualLoss::new(perceptual, device));
        let distillation = recipe.distillation.as_ref();
        let teacher = distillation.map(|settings| Teacher::new(settings, &*network, device));
        let per_epoch = recipe.train.steps_per_epoch;
        let all = steps_per_epoch(&dataset.train, recipe)?;
        Ok(Self {
            loader: BatchLoader::start(
                BatchSampler::new(recipe)?,
                Arc::clone(dataset),
                optimizer.steps(),
            ),
            untrained_scales: recipe.train.scales.iter().copied().collect(),
            steps_per_epoch: per_epoch.unwrap_or(all),
            recipe: recipe.clone(),
            ema: ema.transpose()?,
            perceptual: perceptual.transpose()?,
            teacher: teacher.transpose()?,
            adversary: Adversary::new(recipe, settings(recipe), discriminator_state, device)?,
            architecture,
            network,
            quantizer,
            vars,
            device: device.clone(),
            optimizer,
            seconds,
            history,
            observing: true,
            data: dataset.fingerprint.clone(),
            description: dataset.description.clone(),
            initial_data,
        })
    }

    /// The device of the network.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// Seconds of training, all sessions together.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Stops updating the input preconditioner: for timing, as most steps of a
    /// run do not update it.
    pub fn stop_observing(&mut self) {
        self.observing = false;
    }

    /// Adds time that was spent outside of steps, in seconds.
    pub fn add_time(&mut self, seconds: f64) {
        self.seconds += seconds;
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// Steps of the whole run; `None` if only `minutes` limits it.
    pub fn length(&self) -> Option<u64> {
        let train = &self.recipe.train;
        let epochs = train.epochs.map(|n| n.saturating_mul(self.steps_per_epoch));
        train.steps.or(epochs)
    }

    /// Steps of the warm-up: the recipe's, at most a tenth of the run.
    pub fn warmup(&self) -> u64 {
        let tenth = self.length().map_or(u64::MAX, |length| length / 10);
        self.recipe.train.warmup.min(tenth)
    }

    /// Fraction of the run that is done, 0 to 1.
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

    /// Whether the run has ended: all steps are done, or validation stopped
    /// improving.
    pub fn is_done(&self) -> bool {
        self.progress() >= 1.0 || self.history.is_over(&self.recipe.train)
    }

    /// Records a validation's gain, in dB. Returns whether it is the best so far.
    pub fn note(&mut self, gain: f64) -> bool {
        self.history.note(gain, &self.recipe.train)
    }

    /// The network to validate and deploy: with the moving average of the weights
    /// where the recipe has one.
    pub fn network(&self) -> &dyn Network {
        match &self.ema {
            Some(ema) => ema.network(),
            None => self.network.as_ref(),
        }
    }

    /// Architecture and weights for weights files.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn reparameterized(&self) -> Result<Reparameterized> {
        let vars = self.ema.as_ref().map_or(&self.vars, Ema::vars);
        let trained = || -> Result<_> {
            let tensors = self.network().reparameterized()?;
            Ok(tensors.unwrap_or_else(|| crate::params::tensors(vars).collect()))
        };
        Ok(Reparameterized {
            architecture: self.architecture.reparameterized(),
            tensors: match &self.quantizer {
                Some(quantizer) => quantizer.initial_tensors().to_vec(),
                None => trained()?,
            },
            quantization: self.network().quantization()?.unwrap_or_default(),
        })
    }

    /// The initial network in f32, on the CPU, where the recipe trains for 8-bit
    /// integers.
    pub fn initial_network(&self) -> Option<&dyn Network> {
        Some(self.quantizer.as_ref()?.initial_network())
    }

    /// The card of the initial weights, where the recipe trains for 8-bit integers.
    pub fn initial_card(&self) -> Option<&Card> {
        self.quantizer.as_ref()?.initial_card()
    }

    /// The parameters by name.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        tensors(&self.vars).collect()
    }

    /// What the weights have been trained on so far, for model cards: the images of this
    /// run, then those of the weights it started from or learns from.
    pub fn training_data(&self) -> String {
        let scales = self.recipe.train.scales.iter().map(ToString::to_string);
        let scales = scales.collect::<Vec<_>>().join(", ");
        let (images, steps) = (&self.description, self.steps());
        let data = format!("{images}; trained at scales {scales}, {steps} steps");
        match self.initial_data.as_str() {
            "" => data,
            initial => format!("{data}; {initial}"),
        }
    }

    /// The state for a later [`Trainer::new`].
    ///
    /// # Errors
    ///
    /// A device that is gone.
    pub fn state(&self) -> Result<State> {
        let ema = self.ema.iter().flat_map(|a| tensors(a.vars()));
        let discriminator = self.adversary.as_ref().map(Adversary::state).transpose()?;
        Ok(State {
            step: self.steps(),
            seconds: self.seconds,
            history: self.history,
            data: self.data.clone(),
            training_data: self.training_data(),
            initial_data: self.initial_data.clone(),
            generator: NetworkState {
                parameters: tensors(&self.vars).collect(),
                moments: self.optimizer.moments()?,
                layers: self.optimizer.layers(),
            },
            discriminator: discriminator.unwrap_or_default(),
            ema: ema.collect(),
        })
    }

    /// Updates the network, then the discriminator if there is one, on the same
    /// batch.
    ///
    /// # Errors
    ///
    /// A loss or gradient that is not finite; the parameters of that network are
    /// then unchanged.
    pub fn step(&mut self) -> Result<Report> {
        let start = Instant::now();
        let batches = self.loader.next()?;
        let report = match self.device.is_cpu() {
            // On a thread of the pool: from another one, each operation that is divided
            // among its threads would wake them and sleep. The loader, which needs the
            // pool, too, has been waited for outside. That thread may be in the middle of
            // another trainer's step.
            true => rayon::scope(|_| with_default_context(|| self.step_on(&batches)))?,
            false => self.step_on(&batches)?,
        };
        self.check_used(&batches)?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(report)
    }

    fn step_on(&mut self, batches: &[ScaleBatch]) -> Result<Report> {
        let outputs = match self.observing && self.optimizer.observes_next_step() {
            true => {
                let (outputs, records) = record_convs(|| self.forward(batches));
                self.optimizer.observe(&self.vars, &records)?;
                outputs?
            }
            false => self.forward(batches)?,
        };
        let loss = self.loss(&outputs)?;
        let gradients = backward(&loss)?;
        // This synchronises with a GPU once all of its work is queued.
        let gradient_norm = self.optimizer.gradient_norm(&gradients)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        ensure!(
            value.is_finite() && gradient_norm.is_finite(),
            "step {}: loss {value}, gradient norm {gradient_norm}: the training diverged; \
             try a lower --lr or a --clip-norm",
            self.steps() + 1
        );
        let (lr, clip_norm) = (self.lr(), self.recipe.train.clip_norm);
        let clip = |norm: f64| clip_norm.map_or(1.0, |most| (most / (norm + CLIP_EPS)).min(1.0));
        self.optimizer.step(&gradients, lr, clip(gradient_norm))?;
        let shift = self.shift();
        let discriminator_loss = match &mut self.adversary {
            Some(adversary) => Some(step_discriminator(adversary, &outputs, shift, (lr, clip))?),
            None => None,
        };
        if let Some(ema) = &self.ema {
            ema.update(&self.vars)?;
        }
        Ok(Report {
            loss: value,
            lr,
            gradient_norm,
            discriminator_loss,
        })
    }

    /// Ensures that every parameter had a gradient once all scales were trained.
    fn check_used(&mut self, batches: &[ScaleBatch]) -> Result<()> {
        if self.untrained_scales.is_empty() {
            return Ok(());
        }
        for batch in batches {
            self.untrained_scales.remove(&batch.scale);
        }
        match self.optimizer.unused_parameter() {
            Some(name) if self.untrained_scales.is_empty() => {
                bail!("parameter {name} has no gradient at any scale")
            }
            _ => Ok(()),
        }
    }

    /// The outputs and targets of a batch, scale by scale.
    fn forward(&self, batches: &[ScaleBatch]) -> Result<Vec<ForwardOutput>> {
        let (patch, size) = (self.recipe.data.patch, self.recipe.train.batch_size);
        let planes = self.network.channels().count();
        let tensor = |samples: &[f32], side: usize| {
            Tensor::from_slice(samples, (size, planes, side, side), &self.device)
        };
        let make = |batch: &ScaleBatch| -> Result<ForwardOutput> {
            let network = self.network.training_network(batch.scale)?;
            let input = tensor(&batch.input, patch)?;
            let output = network.forward(&input)?;
            let factor = network.upsampling().factor();
            let (side, middle) = (patch * factor, output.dim(3)?);
            let target = center(&tensor(&batch.target, side)?, middle)?;
            let real = match batch.real.is_empty() {
                true => target.clone(),
                false => center(&tensor(&batch.real, side)?, middle)?,
            };
            let teacher = self.teacher.as_ref();
            let larger = teacher.map(|teacher| teacher.output(batch.scale, &input));
            let target = match larger.transpose()?.flatten() {
                Some((larger, share)) => {
                    (target * (1.0 - share))?.add(&(center(&larger, middle)? * share)?)?
                }
                None => target,
            };
            Ok(ForwardOutput {
                output,
                target,
                real,
                factor,
                weight: batch.weight,
            })
        };
        batches.iter().map(make).collect()
    }

    /// Sum of the losses of all scales.
    fn loss(&self, outputs: &[ForwardOutput]) -> Result<Tensor> {
        let pixels = self.recipe.train.loss_weight.unwrap_or(1.0);
        let mut losses = Vec::new();
        for ForwardOutput {
            output,
            target,
            factor,
            weight,
            ..
        } in outputs
        {
            if pixels > 0.0 {
                let loss = self.recipe.train.loss.of(output, target)?;
                losses.push((loss * (pixels * weight))?);
            }
            if let Some(grids) = self.recipe.train.grid_weight {
                losses.push((grid(output, target, *factor)? * (grids * weight))?);
            }
            if let Some(perceptual) = &self.perceptual {
                let [output, target] = self.shift().of([output, target])?;
                losses.push((perceptual.of(&output, &target)? * *weight)?);
            }
            if let Some(adversary) = &self.adversary {
                let [output] = self.shift().of([output])?;
                losses.push((adversary.generator_loss(&output)? * *weight)?);
            }
        }
        sum(losses)
    }

    /// The part of the images that added losses see in this step.
    fn shift(&self) -> Shift {
        let train = &self.recipe.train;
        Shift {
            samples: train.shift.unwrap_or(0),
            seed: train.seed,
            step: self.steps(),
        }
    }

    /// The learning rate of the next step.
    fn lr(&self) -> f64 {
        let at = Progress {
            step: self.steps(),
            fraction: self.progress(),
            warmup: self.warmup(),
            drops: self.history.drops,
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

/// Updates the discriminator. Returns its loss.
fn step_discriminator(
    adversary: &mut Adversary,
    outputs: &[ForwardOutput],
    shift: Shift,
    (lr, clip): (f64, impl Fn(f64) -> f64),
) -> Result<f64> {
    let loss = |outputs: &ForwardOutput| -> Result<Tensor> {
        let images = [&outputs.real, &outputs.output];
        let [real, fake] = shift.of(images)?;
        Ok((adversary.discriminator_loss(&real, &fake)? * outputs.weight)?)
    };
    let loss = sum(outputs.iter().map(loss).collect::<Result<_>>()?)?;
    adversary.step(&loss, lr, clip)
}

fn settings(recipe: &Recipe) -> Settings {
    let train = &recipe.train;
    Settings {
        kind: train.optimizer,
        betas: train.betas,
        eps: train.eps,
        momentum: train.momentum(),
        weight_decay: train.weight_decay,
        clip_value: train.clip_value,
        whiten: train.whiten,
    }
}

/// Applies the identity initialisation of the architecture to random weights.
fn apply_identity_init(architecture: &Architecture, vars: &Vars) -> Result<()> {
    for (name, var) in vars {
        let mut values = var.flatten_all()?.to_vec1::<f32>()?;
        if architecture.identity_init(name, &mut values) {
            var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        }
    }
    Ok(())
}

/// Fits a hypernetwork to the networks of `fit_from`.
fn fit_hypernetwork(
    architecture: &Architecture,
    scales: &Scales,
    model: &Model,
    vars: &Vars,
) -> Result<()> {
    // On the CPU, as the files are.
    let store = ParamStore::from_tensors("the new weights", tensors(vars).collect());
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
    let expected: Vec<_> = files
        .iter()
        .map(|(scale, file)| (*scale, file.tensors()))
        .collect();
    for (name, tensor) in hypernetwork.fit_generator(&expected, model.init.is_none())? {
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

/// Ensures that unpadded convolutions leave output of a patch.
fn check_patch(recipe: &Recipe, network: &dyn Network) -> Result<()> {
    for &scale in &recipe.train.scales {
        let ready = network.for_scale(scale)?;
        let lost = 2 * ready.halo();
        ensure!(
            ready.border() != Border::Valid || recipe.data.patch > lost,
            "patch must be above {lost} pixels, which the unpadded convolutions crop",
        );
    }
    Ok(())
}

/// The central `side` x `side` samples.
fn center(target: &Tensor, side: usize) -> Result<Tensor> {
    let start = (target.dim(3)? - side) / 2;
    Ok(target.narrow(2, start, side)?.narrow(3, start, side)?)
}
