//! Tables of settings, and how one overrides another.

use anyhow::{Context, Result, bail};
use std::path::Path;
use toml::{Table, Value};

/// Keys of the run's length; a later source replaces all of them.
const LENGTHS: [&str; 3] = ["steps", "epochs", "minutes"];

/// Earlier names of keys, which remain valid: section, earlier name, name.
const EARLIER_NAMES: [(&str, &str, &str); 4] = [
    ("model", "makes", "fit_from"),
    ("train", "lr_drop", "lr_gamma"),
    ("train", "lr_drop_at", "milestones"),
    ("train", "stop_after", "early_stop_patience"),
];

/// Settings from the flags of the command.
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

/// Overrides `base` with `over`, table by table. Settings that belong together
/// are replaced together: those of the length, and those of the scales.
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

/// The error in one line: TOML's name the section in a line of its own.
pub(super) fn one_line(error: toml::de::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "{}",
        error
            .to_string()
            .trim()
            .replace("\nin ", ", in ")
            .replace('\n', " ")
    )
}

/// Renames keys from their earlier names to the present ones.
///
/// # Errors
///
/// A key that is stated under both names.
pub(super) fn rename_keys(recipe: &mut Table) -> Result<()> {
    for (section, earlier, name) in EARLIER_NAMES {
        rename_key(recipe, section, [earlier, name], Ok)?;
    }
    rename_key(recipe, "model", ["init_partly", "strict_init"], |value| {
        let partly = value.as_bool();
        let partly =
            partly.with_context(|| format!("init_partly is true or false, not {value}"))?;
        Ok((!partly).into())
    })
}

fn rename_key(
    recipe: &mut Table,
    section: &str,
    [earlier, name]: [&str; 2],
    convert: impl Fn(Value) -> Result<Value>,
) -> Result<()> {
    let Some(table) = recipe.get_mut(section).and_then(Value::as_table_mut) else {
        return Ok(());
    };
    let Some(value) = table.remove(earlier) else {
        return Ok(());
    };
    if table.insert(name.to_owned(), convert(value)?).is_some() {
        bail!("{section}.{name} is stated twice: leave out {earlier}, its earlier name");
    }
    Ok(())
}

/// The text of a recipe with the earlier names of its keys, of which the hash is
/// computed: the hashes in existing weights files stay valid.
pub(super) fn with_earlier_names(text: &str) -> String {
    let line = |line: &str| {
        if line == "strict_init = false" {
            return "init_partly = true\n".to_owned();
        }
        let earlier = EARLIER_NAMES.iter().find_map(|(section, earlier, name)| {
            if line == format!("[{section}.{name}]") {
                return Some(format!("[{section}.{earlier}]\n"));
            }
            let value = line.strip_prefix(name)?.strip_prefix(" = ")?;
            Some(format!("{earlier} = {value}\n"))
        });
        earlier.unwrap_or_else(|| format!("{line}\n"))
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use crate::recipe::tests::resolve;
    use crate::recipe::{Overrides, Recipe, Schedule};
    use sha2::{Digest, Sha256};

    const EARLIER: &str = "[model]\ninit_partly = true\n[model.makes]\n2 = 'a'\n[train]\n\
        schedule = 'milestones'\nlr_drop = 0.5\nlr_drop_at = [5, 9]\nstop_after = 3";
    const PRESENT: &str = "[model]\nstrict_init = false\n[model.fit_from]\n2 = 'a'\n[train]\n\
        schedule = 'milestones'\nlr_gamma = 0.5\nmilestones = [5, 9]\nearly_stop_patience = 3";

    fn recipe(text: &str) -> Recipe {
        resolve(text, &Overrides::default()).unwrap()
    }

    #[test]
    fn earlier_names_of_keys_say_the_same() {
        let recipe = recipe(PRESENT);
        assert_eq!(self::recipe(EARLIER), recipe);
        assert!(!recipe.model.strict_init && recipe.model.fit_from.len() == 1);
        let schedule = Schedule::Milestones {
            min_lr: recipe.train.schedule.min_lr(),
            lr_gamma: Some(0.5),
            milestones: vec![5, 9],
        };
        assert_eq!(recipe.train.schedule, schedule);
        let strict = self::recipe("[model]\ninit_partly = false");
        assert_eq!(strict, self::recipe(""));
        assert!(strict.model.strict_init);
    }

    #[test]
    fn a_flag_overrides_a_key_by_its_earlier_name() {
        let mut flags = Overrides::default();
        flags
            .set("train", "lr_gamma", Some(0.25))
            .set("model", "init_partly", Some(false));
        let recipe = resolve(EARLIER, &flags).unwrap();
        assert_eq!(recipe.train.schedule.gamma(), Some(0.25));
        assert!(recipe.model.strict_init);
    }

    #[test]
    fn both_names_of_a_key_are_refused() {
        for (text, expected) in [
            (
                "[train]\nlr_drop = 0.5\nlr_gamma = 0.5",
                "train.lr_gamma is stated twice",
            ),
            (
                "[model]\ninit_partly = true\nstrict_init = false",
                "leave out init_partly",
            ),
            ("[model]\ninit_partly = 1", "true or false, not 1"),
        ] {
            let error = format!("{:#}", resolve(text, &Overrides::default()).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_hash_is_that_of_the_earlier_names() {
        let recipe = recipe(PRESENT);
        let text = recipe.to_toml().unwrap();
        let earlier = [
            ("strict_init = false", "init_partly = true"),
            ("[model.fit_from]", "[model.makes]"),
            ("lr_gamma = 0.5", "lr_drop = 0.5"),
            ("\nmilestones = [5, 9]", "\nlr_drop_at = [5, 9]"),
            ("early_stop_patience = 3", "stop_after = 3"),
        ];
        let earlier = earlier.iter().fold(text, |text, (name, earlier)| {
            assert!(text.contains(name), "{text}");
            text.replace(name, earlier)
        });
        let hash = format!("{:x}", Sha256::digest(earlier));
        assert_eq!(recipe.sha256().unwrap(), hash);
    }
}
