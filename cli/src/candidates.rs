//! The models that a command compares, and their labels.

use anyhow::Result;
use srfilter::weights::{LoadOverrides, Model};
use std::path::PathBuf;
use std::sync::Arc;

/// A model with a unique label.
pub(crate) struct Candidate {
    pub(crate) label: String,
    pub(crate) model: Arc<Model>,
}

impl Candidate {
    /// The label as a part of file names.
    pub(crate) fn file_label(&self) -> String {
        self.label.replace(['/', '\\'], "-")
    }
}

/// The models of these weights files.
///
/// # Errors
///
/// A file that holds no network.
pub(crate) fn open_files(files: &[PathBuf], hints: &LoadOverrides) -> Result<Vec<Arc<Model>>> {
    let open = |file| Ok(Model::open_with(file, None, hints)?);
    files.iter().map(open).collect()
}

/// Removes duplicates and labels each model by its name, with its file if two
/// models share a name.
pub(crate) fn named(models: impl IntoIterator<Item = Arc<Model>>) -> Vec<Candidate> {
    let mut distinct: Vec<Arc<Model>> = Vec::new();
    for model in models {
        let same =
            |other: &Arc<Model>| other.name() == model.name() && other.origin() == model.origin();
        if !distinct.iter().any(same) {
            distinct.push(model);
        }
    }
    let label = |model: &Arc<Model>| {
        let (name, origin) = (model.name(), model.origin());
        let others = distinct.iter().filter(|other| other.name() == name);
        let others: Vec<&str> = others
            .map(|other| other.origin())
            .filter(|&other| other != origin)
            .collect();
        match others.as_slice() {
            [] => name.to_owned(),
            others => format!("{name} ({})", tail(origin, others)),
        }
    };
    let candidate = |model| Candidate {
        label: label(model),
        model: Arc::clone(model),
    };
    distinct.iter().map(candidate).collect()
}

/// The shortest tail of a path that differs from the other paths.
fn tail<'a>(path: &'a str, others: &[&str]) -> &'a str {
    let cuts = path
        .rmatch_indices('/')
        .map(|(slash, _)| &path[slash + 1..]);
    let mut tails = cuts.chain(std::iter::once(path));
    let unique = |tail: &&str| !others.iter().any(|other| other.ends_with(tail));
    tails.find(unique).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_short_and_unique() {
        assert_eq!(tail("runs/a/best.st", &["built-in"]), "best.st");
        assert_eq!(tail("runs/a/best.st", &["runs/b/best.st"]), "a/best.st");
        assert_eq!(tail("best.st", &["runs/best.st"]), "best.st");
        assert_eq!(tail("built-in", &["runs/best.st"]), "built-in");
    }
}
