//! The weights that a run starts from, and what they were trained on.

use crate::checkpoint::State;
use crate::params::ParamStore;
use crate::recipe::Recipe;
use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use srfilter::models::Architecture;
use srfilter::weights::{Checkpoint, LoadOverrides};
use std::collections::HashMap;
use std::mem::discriminant;
use std::path::Path;

/// The initial weights of a recipe and their name for errors: a file's, or those
/// that the file's hypernetwork generates.
pub(crate) fn initial_weights(
    path: &Path,
    recipe: &Recipe,
    expected: &Architecture,
) -> Result<(ParamStore, String)> {
    let file = Checkpoint::open(path)?;
    let found = file.card()?.map(|card| card.architecture);
    let generated = found
        .as_ref()
        .and_then(Architecture::generated_architecture);
    let tensors: HashMap<String, Tensor> = match generated {
        _ if State::is_state(&file) => State::load(path)?.weights(),
        Some(generated) if discriminant(&generated) == discriminant(expected) => {
            let origin = file.origin();
            ensure!(
                generated == *expected,
                "{origin} generates {generated:?}, but this run trains {expected:?}"
            );
            let scale = recipe.train.scales.first().context("no scale")?;
            let (_, network) = file.network(&LoadOverrides::default())?;
            let hypernetwork = network.as_hypernetwork().context("no hypernetwork")?;
            hypernetwork.generate_weights(*scale)?.into_iter().collect()
        }
        _ => file.floats(),
    };
    let origin = format!(
        "weights{}",
        found
            .map(|found| format!(" of {found:?}"))
            .unwrap_or_default()
    );
    let store = match recipe.model.strict_init {
        true => ParamStore::from_tensors(file.origin(), tensors),
        false => ParamStore::partly_from_tensors(file.origin(), tensors, recipe.train.seed),
    };
    Ok((store, origin))
}

/// What the files were trained on whose weights or outputs a run learns from, for its
/// model card; empty if there are none. (A run for 8-bit integers has its initial
/// weights' card.)
pub(crate) fn initial_data(recipe: &Recipe) -> Result<String> {
    let model = &recipe.model;
    let init = model.init.iter().filter(|_| recipe.quantize.is_none());
    let init = init.map(|path| ("initial weights".to_owned(), path));
    let fitted = model.fit_from.iter();
    let fitted = fitted.map(|(scale, path)| (format!("fitted to x{scale}"), path));
    let larger = recipe.distillation.iter().flat_map(|d| &d.weights);
    let larger = larger.map(|(scale, path)| (format!("distilled from x{scale}"), path));
    let texts = init.chain(fitted).chain(larger).map(|(role, path)| {
        let file = Checkpoint::open(path)?;
        let known = match State::is_state(&file) {
            true => Some(State::load(path)?.training_data),
            false => file.card()?.map(|card| card.training_data),
        };
        let known = known.filter(|text| !text.is_empty());
        Ok(match known {
            Some(text) => format!("{role}: {text}"),
            None => format!("{role}: {}", file.origin()),
        })
    });
    Ok(texts.collect::<Result<Vec<_>>>()?.join("; "))
}
