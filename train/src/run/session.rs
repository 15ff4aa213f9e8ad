//! A run in progress: the loop, what it logs and the files it writes.

use super::folder::Folder;
use super::validation::{Quality, Validator, mean_gain};
use crate::log::tensorboard::EventWriter;
use crate::log::{Event, Log, plot};
use crate::recipe::Recipe;
use crate::trainer::{Report, Trainer};
use anyhow::{Context, Result};
use candle_core::Device;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use srfilter::atomic_file;
use srfilter::engine::ComputeDevice;
use srfilter::weights::{Card, Checkpoint};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Steps between lines of the log.
const LOG_EVERY: u64 = 20;

/// A network that differs less from bicubic interpolation, in dB at every
/// scale, has most likely died: its residual is zero.
const DEAD: f64 = 0.01;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done, or validation stopped improving.
    Finished,
    /// It was interrupted, and saved its state.
    Stopped,
}

fn progress_bar(trainer: &Trainer) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(trainer.length(), target);
    let template = "{bar:24} {pos}/{len} steps, {per_sec}, {eta} left{msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_position(trainer.steps());
    bar.reset_eta();
    bar
}

/// A run in progress.
pub(super) struct Session {
    folder: Folder,
    recipe: Recipe,
    device: ComputeDevice,
    trainer: Trainer,
    validator: Validator,
    log: Log,
    tensorboard: EventWriter,
    bar: ProgressBar,
    /// Step and result of the last validation.
    quality: Option<(u64, Vec<Quality>)>,
    /// The description of the images.
    data: String,
    /// PSNR of the initial network in f32, where the recipe trains for 8-bit integers.
    reference: Option<Vec<Quality>>,
}

/// Step and result of the last validation in a log.
fn last_quality(events: &[Event]) -> Option<(u64, Vec<Quality>)> {
    events.iter().rev().find_map(|event| match event {
        Event::Validation { step, quality, .. } => Some((*step, quality.clone())),
        _ => None,
    })
}

/// Losses since the last line of the log.
struct Tally {
    since: Instant,
    losses: Vec<f64>,
}

impl Tally {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            losses: Vec::new(),
        }
    }
}

impl Session {
    /// Opens the logs in the folder.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub(super) fn open(
        folder: Folder,
        recipe: Recipe,
        device: ComputeDevice,
        trainer: Trainer,
        validator: Validator,
        data: &str,
    ) -> Result<Self> {
        let log = Log::open(&folder.file("log.jsonl"), trainer.steps())?;
        let tensorboard = EventWriter::open(&folder.0, trainer.steps())?;
        let bar = progress_bar(&trainer);
        let reference = trainer.initial_network();
        let reference = reference.map(|network| validator.measure(network, &Device::Cpu));
        Ok(Self {
            reference: reference.transpose()?,
            folder,
            recipe,
            device,
            trainer,
            validator,
            bar,
            quality: last_quality(log.events()),
            log,
            tensorboard,
            data: data.to_owned(),
        })
    }

    /// Trains until done or until `stop` is set.
    ///
    /// # Errors
    ///
    /// A training that diverges, a file that cannot be written.
    pub(super) fn run(mut self, stop: &AtomicBool) -> Result<Outcome> {
        self.start()?;
        self.train(stop)
    }

    /// Logs the start and writes the files that make the run resumable.
    fn start(&mut self) -> Result<()> {
        let step = self.trainer.steps();
        let weights: usize = self
            .trainer
            .tensors()
            .iter()
            .map(|(_, t)| t.elem_count())
            .sum();
        let model = &self.recipe.model.name;
        let out = self.folder.0.display();
        let device = self.device.name();
        eprintln!("training {model} ({weights} weights) on {device} from step {step} into {out}");
        if let Some(lacks) = self.device.missing_cudnn() {
            eprintln!("note: training would be faster: {lacks}");
        }
        self.record(Event::Start {
            step,
            model: model.clone(),
            recipe_sha256: self.recipe.sha256()?,
            data: self.data.clone(),
        })?;
        if step == 0 {
            // Early, so that a folder that cannot be written to is an error now.
            self.save()?;
        }
        // A folder with a recipe holds a run. It is written after the state, so
        // that a run can be resumed whenever it was killed.
        let recipe = self.recipe.to_toml()?;
        let path = self.folder.file("recipe.toml");
        atomic_file::write(&path, recipe.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Logs an event, also for TensorBoard.
    fn record(&mut self, event: Event) -> Result<()> {
        self.tensorboard.push(&event)?;
        self.log.push(event)
    }

    fn train(&mut self, stop: &AtomicBool) -> Result<Outcome> {
        let mut tally = Tally::new();
        while !self.trainer.is_done() {
            if stop.load(Ordering::SeqCst) {
                self.save()?;
                self.end("interrupted")?;
                let out = self.folder.0.display();
                let step = self.trainer.steps();
                eprintln!("stopped at step {step}; resume with: train --resume --out {out}");
                return Ok(Outcome::Stopped);
            }
            let report = self.trainer.step();
            let report = report.with_context(|| {
                let state = self.folder.state();
                format!(
                    "training stopped; the last saved state is {}",
                    state.display()
                )
            })?;
            self.note(&report, &mut tally)?;
            let step = self.trainer.steps();
            let train = &self.recipe.train;
            let last = self.trainer.progress() >= 1.0;
            let save = last || step.is_multiple_of(train.checkpoint_every);
            if last || step.is_multiple_of(train.validate_every) {
                self.validate()?;
            }
            if save || self.trainer.is_done() {
                self.save()?;
            }
        }
        self.end(match self.trainer.progress() < 1.0 {
            true => "stopped improving",
            false => "finished",
        })?;
        eprintln!(
            "finished: {}",
            self.folder.file("best.safetensors").display()
        );
        Ok(Outcome::Finished)
    }

    /// Shows and logs a step.
    fn note(&mut self, report: &Report, tally: &mut Tally) -> Result<()> {
        let step = self.trainer.steps();
        tally.losses.push(report.loss);
        self.show(report.loss);
        if !step.is_multiple_of(LOG_EVERY) {
            return Ok(());
        }
        let count = tally.losses.len() as f64;
        self.record(Event::Train {
            step,
            loss: tally.losses.iter().sum::<f64>() / count,
            discriminator_loss: report.discriminator_loss,
            lr: report.lr,
            gradient_norm: report.gradient_norm,
            steps_per_second: count / tally.since.elapsed().as_secs_f64(),
        })?;
        *tally = Tally::new();
        Ok(())
    }

    fn show(&self, loss: f64) {
        let step = self.trainer.steps();
        let epoch = step as f64 / self.trainer.steps_per_epoch() as f64;
        let gain = self
            .quality
            .as_ref()
            .and_then(|(_, quality)| mean_gain(quality));
        let gain = gain
            .map(|gain| format!(", {gain:+.2} dB over bicubic"))
            .unwrap_or_default();
        let expected = step as f64 / self.trainer.progress().max(f64::MIN_POSITIVE);
        self.bar.set_length(
            self.trainer
                .length()
                .unwrap_or(u64::MAX)
                .min(expected as u64),
        );
        self.bar.set_position(step);
        self.bar
            .set_message(format!(", epoch {epoch:.2}, loss {loss:.2e}{gain}"));
    }

    /// Validates, logs, plots, and saves the weights if they are the best.
    fn validate(&mut self) -> Result<()> {
        let start = Instant::now();
        let quality = self
            .validator
            .measure(self.trainer.network(), self.trainer.device())?;
        let step = self.trainer.steps();
        // Without images to validate on, the last weights count as the best.
        let gain = mean_gain(&quality);
        if let Some(gain) = gain {
            self.quality = Some((step, quality.clone()));
            let quality = quality.clone();
            self.record(Event::Validation {
                step,
                quality,
                gain,
            })?;
        }
        // Adversarial training lowers PSNR: there, the last weights are the best.
        let adversarial = self.recipe.adversarial.is_some();
        if gain.is_none_or(|gain| self.trainer.note(gain)) || adversarial {
            self.save_weights("best.safetensors")?;
        }
        plot::save(self.log.events(), &self.folder.file("curves.png"))?;
        self.print(&self.summary());
        let warm = step > 2 * self.trainer.warmup();
        if warm && gain.is_some() && quality.iter().all(|q| q.gain().abs() < DEAD) {
            self.print(
                "warning: no better than bicubic interpolation: try a lower --lr or a longer warmup",
            );
        }
        self.trainer.add_time(start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Prints a line above the progress bar, or on standard error.
    fn print(&self, line: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{line}"),
            false => self.bar.println(line),
        }
    }

    /// Writes the state and the last weights.
    fn save(&self) -> Result<()> {
        self.trainer.state()?.save(&self.folder.state())?;
        self.save_weights("last.safetensors")
    }

    fn save_weights(&self, name: &str) -> Result<()> {
        let network = self.trainer.reparameterized()?;
        let card = Card {
            architecture: network.architecture,
            scales: self.trainer.network().scales().clone(),
            training_data: self.trainer.training_data(),
            recipe_sha256: self.recipe.sha256()?,
            quality: self.summary(),
            int8_loss: self.int8_loss(),
        };
        // In f32 the weights are the initial ones.
        let card = match self.trainer.initial_card() {
            None => card,
            Some(initial) => Card {
                training_data: format!(
                    "{}; in 8-bit integers: {}",
                    initial.training_data, card.training_data
                ),
                quality: format!("{}; in 8-bit integers: {}", initial.quality, card.quality),
                recipe_sha256: initial.recipe_sha256.clone(),
                ..card
            },
        };
        let (path, quantization) = (self.folder.file(name), &network.quantization);
        Checkpoint::save_with(path, &network.tensors, quantization, &card)?;
        Ok(())
    }

    /// What the last validation lost against the initial network in f32, in dB.
    fn int8_loss(&self) -> Option<f64> {
        let (_, quality) = self.quality.as_ref()?;
        Some(mean_gain(self.reference.as_deref()?)? - mean_gain(quality)?)
    }

    fn end(&mut self, reason: &str) -> Result<()> {
        self.bar.finish_and_clear();
        let (step, seconds) = (self.trainer.steps(), self.trainer.seconds());
        let reason = reason.to_owned();
        self.record(Event::End {
            step,
            reason,
            seconds,
        })?;
        plot::save(self.log.events(), &self.folder.file("curves.png"))
    }

    /// The last validation, for messages and model cards.
    fn summary(&self) -> String {
        let Some((step, quality)) = &self.quality else {
            return format!("step {}: not validated", self.trainer.steps());
        };
        let scale = |q: &Quality| format!("x{} {:.2} dB ({:+.2})", q.scale, q.psnr, q.gain());
        let scales: Vec<_> = quality.iter().map(scale).collect();
        format!(
            "step {step}: validation PSNR (over bicubic): {}",
            scales.join(", ")
        )
    }
}
