//! A whole run: its folder, the loop, what it shows and what it keeps.

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

/// Skipped files that are named one by one.
const SKIPPED_SHOWN: usize = 10;

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

/// Trains as told, until done or until `stop` is set.
///
/// # Errors
///
/// Settings, pictures or files that cannot be used, or a training that
/// diverges. The state saved last stays.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<Outcome> {
    let (folder, recipe) = open(options)?;
    let device = options.device.resolve()?;
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
    let mut trainer = Trainer::on(device.candle_device(), &recipe, &dataset, state)?;
    let (scales, method) = (recipe.validation_scales(), Method::new(&recipe.data)?);
    let validator = Validator::new(&dataset.validation, scales, &method)?;
    if options.dry_run {
        eprintln!("device: {}", device.name());
        dry_run::report(&recipe, &mut trainer, &validator)?;
        return Ok(Outcome::Finished);
    }
    if !options.resume {
        // Only now, when nothing else can be wrong: an old run is not lost to a typo.
        folder.clear()?;
    }
    let data = &dataset.description;
    Session::open(folder, recipe, device, trainer, validator, data)?.run(stop)
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
        dataset.validation.len()
    );
}
