//! Default settings of each model.

use super::data::{Data, Degradation};
use super::losses::Loss;
use super::merge::merge;
use super::model::{Model, architecture};
use super::schedule::Schedule;
use super::train::{All, OptimizerKind, PerStep, Train};
use anyhow::Result;
use srfilter::Scale;
use srfilter::models::{self, Channels, Scales, Upsampling};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Default steps of a run on images from folders.
const DEFAULT_STEPS: u64 = 20_000;

/// Default minutes of a run on synthetic images.
const DRAWN_MINUTES: f64 = 1.0;

/// Batch size and patch of a run on synthetic images: many small steps, so that
/// a minute shows progress.
const DRAWN_BATCH: (usize, usize) = (4, 32);

/// Number of synthetic images where no folder is named.
const DRAWN_PICTURES: usize = 40;

/// The defaults for the model and data of `settings`, overridden by them.
pub(super) fn with_defaults(settings: &Table) -> Result<Table> {
    let model = settings.get("model");
    let name = model.and_then(|model| model.get("name"));
    let name = name.and_then(Value::as_str).unwrap_or(models::DEFAULT);
    let config = model.and_then(|model| model.get("config"));
    let config = config
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    let dirs = settings.get("data").and_then(|data| data.get("dirs"));
    let drawn = dirs.and_then(Value::as_array).is_none_or(Vec::is_empty);
    let (model, data, train) = default_sections(name, &config, drawn)?;
    let mut recipe = Table::new();
    recipe.insert("model".to_owned(), Value::try_from(model)?);
    recipe.insert("data".to_owned(), Value::try_from(data)?);
    recipe.insert("train".to_owned(), Value::try_from(train)?);
    merge(&mut recipe, settings);
    Ok(recipe)
}

/// The settings of `train --model NAME` without a recipe.
fn default_sections(name: &str, config: &Table, drawn: bool) -> Result<(Model, Data, Train)> {
    let architecture = architecture(name, config)?;
    let luma = architecture.channels() == Channels::Luma;
    let (scales, scales_per_step) = match architecture.scales() {
        None => (vec![Scale::whole(2)], PerStep::Number(1)),
        Some(Scales::List(list)) if luma => (list, PerStep::Number(1)),
        Some(Scales::List(list)) => (list, PerStep::Word(All::All)),
        Some(Scales::Any) => (continuous_scales()?, PerStep::Number(1)),
    };
    let scale_weights = match scales_per_step {
        PerStep::Number(_) if scales.len() > 1 => scales.iter().map(|&s| common(s)).collect(),
        _ => Vec::new(),
    };
    let small = matches!(architecture.upsampling(scales[0]), Upsampling::Post(_));
    let cosine = |lr: f64| Schedule::Cosine { min_lr: lr / 100.0 };
    let constant = |lr: f64| Schedule::Constant { min_lr: lr / 100.0 };
    let (patch, degradation, lr, schedule) = match (luma, small) {
        (true, false) => (48, Degradation::Matlab, 3e-4, cosine(3e-4)),
        (true, true) => (32, Degradation::Matlab, 1e-3, cosine(1e-3)),
        // As the published SRResNet was trained at x4.
        (false, true) => (24, Degradation::Pillow, 1e-4, constant(1e-4)),
        // As the published HyperSRCNN was trained.
        (false, false) => (96, Degradation::Pillow, 1e-4, constant(1e-4)),
    };
    let (batch_size, patch) = if drawn { DRAWN_BATCH } else { (16, patch) };
    let model = Model {
        name: name.to_owned(),
        init: None,
        strict_init: true,
        fit_from: BTreeMap::new(),
        config: Table::new(),
    };
    let data = Data {
        patch,
        degradation,
        sharpen: false,
        video: None,
        colors: None,
        validation: if drawn { 4.0 } else { 10.0 },
        drawn: DRAWN_PICTURES,
        dirs: Vec::new(),
    };
    let train = Train {
        scales,
        scale_weights,
        scales_per_step,
        steps: (!drawn).then_some(DEFAULT_STEPS),
        epochs: None,
        steps_per_epoch: None,
        minutes: drawn.then_some(DRAWN_MINUTES),
        batch_size,
        optimizer: OptimizerKind::Adam,
        momentum: None,
        lr,
        schedule,
        // A hypernetwork changes all weights of a layer together: without a
        // warm-up its ReLUs die, and only the bicubic residual is left.
        warmup: if drawn { 50 } else { 500 },
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.0,
        clip_norm: None,
        clip_value: None,
        whiten: None,
        ema: None,
        early_stop_patience: None,
        loss: Loss::Mse,
        loss_weight: None,
        grid_weight: None,
        shift: None,
        seed: 1,
        validate_scales: Vec::new(),
        validate_every: if drawn { 200 } else { 1000 },
        checkpoint_every: if drawn { 200 } else { 500 },
        lr_factors: BTreeMap::new(),
    };
    Ok((model, data, train))
}

/// Training scales of a network that serves any.
fn continuous_scales() -> Result<Vec<Scale>> {
    let texts = ["3/2", "2", "5/2", "3", "4", "6", "8", "16"];
    Ok(texts
        .map(str::parse)
        .into_iter()
        .collect::<Result<_, _>>()?)
}

/// Weight of a training scale: x2, x3 and x4 are the most used.
fn common(scale: Scale) -> f64 {
    match (scale.num(), scale.den()) {
        (2..=4, 1) => 4.0,
        (8.., 1) => 1.0,
        _ => 2.0,
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::tests::resolve;
    use crate::recipe::{Overrides, Recipe};
    use srfilter::models;

    #[test]
    fn every_model_has_defaults_that_survive_writing() {
        for model in models::MODELS
            .iter()
            .filter(|m| (m.architecture)().is_some())
        {
            let mut flags = Overrides::default();
            flags.set("model", "name", Some(model.name));
            let recipe = Recipe::resolve(None, &flags).unwrap();
            let again = resolve(&recipe.to_toml().unwrap(), &Overrides::default()).unwrap();
            assert_eq!(again, recipe);
            assert_eq!(again.sha256().unwrap(), recipe.sha256().unwrap());
        }
    }
}
