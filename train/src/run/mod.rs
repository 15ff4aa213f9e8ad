//! A training run: its folder, its loop, its log and its files.

pub mod dry_run;
mod folder;
mod session;
pub mod validation;

pub use session::Outcome;

use crate::checkpoint::State;
use crate::data::Dataset;
use crate::degrade::Method;
use crate::recipe::{Overrides, Recipe};
use crate::trainer::Trainer;
use anyhow::{Result, bail, ensure};
use folder::Folder;
use session::Session;
use srfilter::engine::DeviceChoice;
use srfilter::models;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use validation::Validator;

/// Skipped files that are listed one by one.
const SKIPPED_SHOWN: usize = 10;

/// The options of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A recipe file.
    pub recipe: Option<PathBuf>,
    /// Flags that override it.
    pub overrides: Overrides,
    /// The run's folder; `runs/MODEL` if absent.
    pub out: Option<PathBuf>,
    /// Resume the run in the folder.
    pub resume: bool,
    /// Replace the run in the folder.
    pub force: bool,
    /// Run a few steps, report the time and memory of the run, and write nothing.
    pub dry_run: bool,
    /// Where to train.
    pub device: DeviceChoice,
}

/// Trains until done or until `stop` is set.
///
/// # Errors
///
/// Settings, images or files that cannot be used, or a training that
/// diverges. The last saved state remains.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<Outcome> {
    let (folder, recipe) = open(options)?;
    let mut lock = match options.resume && !options.dry_run {
        true => Some(folder.lock()?),
        false => None,
    };
    let located = match options.resume {
        true => recipe.located_in(&folder.started_in()),
        false => recipe.clone(),
    };
    let device = options.device.resolve()?;
    let state = match options.resume {
        true => Some(State::load(&folder.state())?),
        false => None,
    };
    let channels = recipe.architecture()?.channels();
    let dataset = Arc::new(Dataset::load(&located, channels)?);
    report_data(&dataset);
    if let Some(state) = &state {
        state.check_data(&dataset.fingerprint)?;
    }
    let mut trainer = Trainer::on(device.candle_device(), &located, &dataset, state)?;
    let (scales, method) = (recipe.validation_scales(), Method::new(&recipe.data)?);
    let validator = Validator::new(&dataset.validation, scales, &method)?;
    if options.dry_run {
        eprintln!("device: {}", device.name());
        dry_run::report(&recipe, &mut trainer, &validator)?;
        return Ok(Outcome::Finished);
    }
    if !options.resume {
        lock = Some(folder.lock()?);
        // Another run may have started here in the meantime.
        folder.check_free(options.force)?;
        // Last, so that no typo in the settings deletes an old run.
        folder.clear()?;
    }
    let data = &dataset.description;
    let outcome = Session::open(folder, recipe, device, trainer, validator, data)?.run(stop);
    drop(lock);
    outcome
}

/// Trains one network for each of some scales, one after the other, in the
/// folders `x2`, `x3` and so on of the run's. With [`Options::resume`], started
/// runs resume and the others start.
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
        // The slash of a fraction is not valid in a folder's name.
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
    let resolve = || Recipe::resolve(options.recipe.as_deref(), &options.overrides);
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
        let recipe = resolve()?;
        let folder = folder(Some(&recipe));
        folder.check_free(options.force || options.dry_run)?;
        return Ok((folder, recipe));
    }
    let folder = match &options.out {
        Some(_) => folder(None),
        None => folder(Some(&resolve()?)),
    };
    let before = folder.file("recipe.toml");
    ensure!(
        before.exists(),
        "no run to resume in {}: check --out, or start one without --resume",
        folder.0.display()
    );
    let old = Recipe::resolve(Some(&before), &Overrides::default())?;
    // Without --recipe, flags override the recipe of the run.
    let base = options.recipe.as_deref().unwrap_or(&before);
    let recipe = Recipe::resolve(Some(base), &options.overrides)?;
    if let Some(key) = old.difference(&recipe)? {
        bail!(
            "the run in {} was started with another {key}: only its length may change on --resume",
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
        "data: {}; {} for training, {} for validation",
        dataset.description,
        dataset.train.len(),
        dataset.validation.len()
    );
}
