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
    /// A name of the library's table.
    pub name: String,
    /// Weights to start from: a weights file, or the state of another run
    /// (`checkpoint/state.safetensors`); drawn at random if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Whether all tensors of `init` must fit. If not, those that do not fit by
    /// name and shape are initialised at random: for x4 from x2.
    #[serde(default = "yes", skip_serializing_if = "bool::clone")]
    pub strict_init: bool,
    /// Weights files of networks, one for each scale, to which a hypernetwork
    /// is fitted before it is trained.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fit_from: BTreeMap<Scale, PathBuf>,
    /// Settings of the architecture that differ from the table's.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub config: Table,
}

fn yes() -> bool {
    true
}

/// The table's architecture of that name, with `config` laid over its settings.
pub(super) fn architecture(name: &str, config: &Table) -> Result<Architecture> {
    let architecture = (models::find(name)?.architecture)();
    let Some(architecture) = architecture else {
        bail!("{name} has no weights: there is nothing to train");
    };
    let mut table = Table::try_from(&architecture)?;
    let changes = [("config".to_owned(), Value::Table(config.clone()))];
    merge(&mut table, &changes.into_iter().collect());
    table.try_into().map_err(one_line).context("model.config")
}
