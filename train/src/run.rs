//! A whole run: its folder, the loop, what it shows and what it keeps.

use crate::board::{self, Board};
use crate::checkpoint::State;
use crate::data::Dataset;
use crate::degrade::Method;
use crate::log::{Event, Log};
use crate::plot;
use crate::recipe::{Overrides, Recipe};
use crate::rehearsal;
use crate::trainer::{Report, Trainer};
use crate::validate::{Quality, Validator, mean_gain};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use srfilter::atomic_file;
use srfilter::engine::{ComputeDevice, DeviceChoice};
use srfilter::models;
use srfilter::weights::{Card, Checkpoint};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Steps between lines of the log.
const LOG_EVERY: u64 = 20;

/// Skipped files that are named one by one.
const SKIPPED_SHOWN: usize = 10;

/// A network that differs less from bicubic interpolation, in dB at every
/// scale, has most likely died: with a residual it then adds nothing.
const DEAD: f64 = 0.01;

/// What the command was told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A recipe file.
    pub recipe: Option<PathBuf>,
    /// Flags that override it.
    pub overrides: Overrides,
    /// The run's folder; `runs/MODEL` if not given.
    pub out: Option<PathBuf>,
    /// Go on with the run in the folder.
    pub resume: bool,
    /// Replace the run in the folder.
    pub force: bool,
    /// Take a few steps, say what the run would take, and leave the folder alone.
    pub dry_run: bool,
    /// Where to train.
    pub device: DeviceChoice,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are taken.
    Finished,
    /// It was asked to stop, and saved its state.
    Stopped,
}

/// Trains as told, until done or until `stop` is set.
///
/// # Errors
///
/// Settings, pictures or files that cannot be used, or a training that
/// diverges. The state saved last stays.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<Outcome> {
    let (folder, recipe) = open(options)?;
    let place = options.device.resolve()?;
    let state = match options.resume {
        true => Some(State::load(&folder.state())?),
        false => None,
    };
    let channels = recipe.architecture()?.channels();
    let dataset = Arc::new(Dataset::load(&recipe, channels)?);
    report_data(&dataset);
    if let Some(state) = &state {
        state.check_data(&dataset.fingerprint)?;
    }
    let mut trainer = Trainer::on(place.candle_device(), &recipe, &dataset, state)?;
    let (scales, method) = (recipe.validation_scales(), Method::new(&recipe.data)?);
    let validator = Validator::new(&dataset.held_back, scales, &method)?;
    if options.dry_run {
        eprintln!("device: {}", place.name());
        rehearsal::report(&recipe, &mut trainer, &validator)?;
        return Ok(Outcome::Finished);
    }
    if !options.resume {
        // Only now, when nothing else can be wrong: an old run is not lost to a typo.
        folder.clear()?;
    }
    let log = Log::open(&folder.file("log.jsonl"), trainer.steps())?;
    let board = Board::open(&folder.0, trainer.steps())?;
    let bar = progress_bar(&trainer);
    let mut session = Session {
        folder,
        recipe,
        place,
        trainer,
        validator,
        bar,
        quality: last_quality(log.events()),
        log,
        board,
        data: dataset.description.clone(),
    };
    session.begin()?;
    session.train(stop)
}

/// Trains one network for each of some scales, one after the other, in the
/// folders `x2`, `x3` and so on of the run's. With [`Options::resume`] those
/// that are begun go on, and the others begin.
///
/// # Errors
///
/// As [`run`], of the first that fails.
pub fn run_each(options: &Options, scales: &[String], stop: &AtomicBool) -> Result<Outcome> {
    let mut parents = options.clone();
    parents
        .overrides
        .set("train", "scales", scales.first().map(|s| vec![s.clone()]));
    let name = Recipe::resolve(options.recipe.as_deref(), &parents.overrides)?
        .model
        .name;
    let parent = options.out.clone();
    let parent = parent.unwrap_or_else(|| Path::new("runs").join(name));
    for scale in scales {
        // A fraction's stroke cannot be in a folder's name.
        let out = parent.join(format!("x{}", scale.replace('/', "_")));
        let mut one = options.clone();
        one.overrides
            .set("train", "scales", Some(vec![scale.clone()]));
        one.resume = options.resume && Folder(out.clone()).file("recipe.toml").exists();
        one.out = Some(out);
        if run(&one, stop)? == Outcome::Stopped {
            return Ok(Outcome::Stopped);
        }
    }
    Ok(Outcome::Finished)
}

/// Resolves the recipe and the folder.
fn open(options: &Options) -> Result<(Folder, Recipe)> {
    let given = || Recipe::resolve(options.recipe.as_deref(), &options.overrides);
    let folder = |recipe: Option<&Recipe>| {
        let name = recipe.map_or(models::DEFAULT, |recipe| recipe.model.name.as_str());
        Folder(
            options
                .out
                .clone()
                .unwrap_or_else(|| Path::new("runs").join(name)),
        )
    };
    if !options.resume {
        let recipe = given()?;
        let folder = folder(Some(&recipe));
        folder.check_free(options.force || options.dry_run)?;
        return Ok((folder, recipe));
    }
    let folder = match &options.out {
        Some(_) => folder(None),
        None => folder(Some(&given()?)),
    };
    let before = folder.file("recipe.toml");
    ensure!(
        before.exists(),
        "{} holds no run to resume",
        folder.0.display()
    );
    let old = Recipe::resolve(Some(&before), &Overrides::default())?;
    // Without a recipe of their own, flags change the run's.
    let base = options.recipe.as_deref().unwrap_or(&before);
    let recipe = Recipe::resolve(Some(base), &options.overrides)?;
    if let Some(key) = old.difference(&recipe)? {
        bail!(
            "the run in {} was started with another {key}: only its length can change",
            folder.0.display()
        );
    }
    Ok((folder, recipe))
}

fn report_data(dataset: &Dataset) {
    for skipped in dataset.skipped.iter().take(SKIPPED_SHOWN) {
        eprintln!("skipped {skipped}");
    }
    let more = dataset.skipped.len().saturating_sub(SKIPPED_SHOWN);
    if more > 0 {
        eprintln!("skipped {more} more");
    }
    eprintln!(
        "data: {}; {} to train on, {} held back",
        dataset.description,
        dataset.train.len(),
        dataset.held_back.len()
    );
}

/// The folder of a run.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn state(&self) -> PathBuf {
        self.0.join("checkpoint").join("state.safetensors")
    }

    fn check_free(&self, force: bool) -> Result<()> {
        ensure!(
            force || !self.file("recipe.toml").exists(),
            "{} already holds a run: --resume goes on with it, --force replaces it, \
             --out DIR takes another folder",
            self.0.display()
        );
        Ok(())
    }

    /// Makes the folder, empty of what an earlier run left.
    fn clear(&self) -> Result<()> {
        let shown = self.0.display();
        for name in [
            "recipe.toml",
            "log.jsonl",
            "curves.png",
            "best.safetensors",
            "last.safetensors",
        ] {
            remove(&self.file(name))?;
        }
        remove(&self.state())?;
        board::clear(&self.0)?;
        let made = std::fs::create_dir_all(self.0.join("checkpoint"));
        made.with_context(|| format!("cannot make the folder {shown}"))
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
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
struct Session {
    folder: Folder,
    recipe: Recipe,
    place: ComputeDevice,
    trainer: Trainer,
    validator: Validator,
    log: Log,
    board: Board,
    bar: ProgressBar,
    /// Step and result of the last validation.
    quality: Option<(u64, Vec<Quality>)>,
    /// The pictures in words.
    data: String,
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
    fn begin(&mut self) -> Result<()> {
        let step = self.trainer.steps();
        let weights: usize = self
            .trainer
            .tensors()
            .iter()
            .map(|(_, t)| t.elem_count())
            .sum();
        let model = &self.recipe.model.name;
        let out = self.folder.0.display();
        let place = self.place.name();
        eprintln!("training {model} ({weights} weights) on {place} from step {step} into {out}");
        if let Some(lacks) = self.place.missing_cudnn() {
            eprintln!("slower than could be: {lacks}");
        }
        self.record(Event::Start {
            step,
            model: model.clone(),
            recipe_sha256: self.recipe.sha256()?,
            data: self.data.clone(),
        })?;
        if step == 0 {
            // Early, so that a folder that cannot be written is no late surprise.
            self.save()?;
        }
        // The recipe is what makes a folder a run's: there is a state by now,
        // so that a run killed before it is finished can always go on.
        let recipe = self.recipe.to_toml()?;
        let path = self.folder.file("recipe.toml");
        atomic_file::write(&path, recipe.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes a line of the log, for people and for TensorBoard.
    fn record(&mut self, event: Event) -> Result<()> {
        self.board.push(&event)?;
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
                eprintln!("stopped at step {step}; go on with: train --resume --out {out}");
                return Ok(Outcome::Stopped);
            }
            let report = self.trainer.step();
            let report = report.with_context(|| {
                let state = self.folder.state();
                format!("stopped; the last state is kept in {}", state.display())
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
            true => "no better for long",
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

    /// Measures, logs, draws, and keeps the weights if they are the best.
    fn validate(&mut self) -> Result<()> {
        let start = Instant::now();
        let quality = self
            .validator
            .measure(self.trainer.network(), self.trainer.device())?;
        let step = self.trainer.steps();
        // Without pictures to validate on, the last weights count as the best.
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
        // What deceives a discriminator is further from the original by PSNR.
        let adversarial = self.recipe.adversarial.is_some();
        if gain.is_none_or(|gain| self.trainer.note(gain)) || adversarial {
            self.save_weights("best.safetensors")?;
        }
        plot::save(self.log.events(), &self.folder.file("curves.png"))?;
        self.say(&self.summary());
        let warm = step > 2 * self.trainer.warmup();
        if warm && gain.is_some() && quality.iter().all(|q| q.gain().abs() < DEAD) {
            self.say(
                "warning: this is no better than bicubic: try a lower --lr or a longer warmup",
            );
        }
        self.trainer.spend(start.elapsed().as_secs_f64());
        Ok(())
    }

    /// A line above the bar, or on the plain error output.
    fn say(&self, line: &str) {
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
        let scales: Vec<_> = self
            .recipe
            .train
            .scales
            .iter()
            .map(ToString::to_string)
            .collect();
        let deployed = self.trainer.deployed()?;
        let card = Card {
            architecture: deployed.architecture,
            scales: self.trainer.network().scales().clone(),
            training_data: format!(
                "{}; trained at scales {}, {} steps",
                self.data,
                scales.join(", "),
                self.trainer.steps()
            ),
            recipe_sha256: self.recipe.sha256()?,
            quality: self.summary(),
        };
        Checkpoint::save(self.folder.file(name), &deployed.tensors, &card)?;
        Ok(())
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

    /// The last validation in words.
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
