//! Tables of settings, and how one is laid over another.

use anyhow::{Context, Result};
use std::path::Path;
use toml::{Table, Value};

/// Keys that state the run's length; a later source replaces all of them.
const LENGTHS: [&str; 3] = ["steps", "epochs", "minutes"];

/// What flags of the command change in a recipe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(pub(super) Table);

impl Overrides {
    /// Sets `key` of the section `[section]`, if there is a value.
    pub fn set(&mut self, section: &str, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            let entry = self.0.entry(section).or_insert_with(|| Table::new().into());
            if let Value::Table(table) = entry {
                table.insert(key.to_owned(), value.into());
            }
        }
        self
    }
}

pub(super) fn read_table(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the recipe {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Lays `over` over `base`, table by table. Settings that belong together go
/// together: the ways to state the length, and what is stated of each scale.
pub(super) fn merge(base: &mut Table, over: &Table) {
    if LENGTHS.iter().any(|key| over.contains_key(*key)) {
        LENGTHS.iter().for_each(|key| drop(base.remove(*key)));
    }
    if over.contains_key("scales") {
        base.remove("scale_weights");
        base.remove("validate_scales");
    }
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// TOML errors end with a line break.
pub(super) fn one_line(error: toml::de::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.to_string().trim().replace('\n', " "))
}
