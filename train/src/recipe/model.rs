//! The section `[model]`: the network.

use super::merge::{merge, one_line};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use srfilter::models::{self, Architecture};
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::{Table, Value};

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name of the model, as in `sr models`.
    pub name: String,
    /// Weights to start from: a weights file, or the state of another run
    /// (`checkpoint/state.safetensors`); random weights if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Whether all tensors of `init` must match by name and shape. If not, the
    /// others are initialised at random: for x4 from x2.
    #[serde(default = "yes", skip_serializing_if = "bool::clone")]
    pub strict_init: bool,
    /// Weights files of networks, one for each scale, to which a hypernetwork
    /// is fitted before it is trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fit_from: BTreeMap<Scale, PathBuf>,
    /// Settings of the architecture that differ from the model's defaults.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub config: Table,
}

fn yes() -> bool {
    true
}

/// The default architecture of the model, overridden by `config`.
pub(super) fn architecture(name: &str, config: &Table) -> Result<Architecture> {
    let architecture = (models::find(name)?.architecture)();
    let Some(architecture) = architecture else {
        bail!("{name} has no weights to train");
    };
    let mut table = Table::try_from(&architecture)?;
    let changes = [("config".to_owned(), Value::Table(config.clone()))];
    merge(&mut table, &changes.into_iter().collect());
    table.try_into().map_err(one_line).context("model.config")
}
