//! Detection of architectures in files without metadata.

use super::network::{Scales, Shapes};

/// The network detected in a file without metadata.
#[derive(Debug)]
pub(crate) struct Detected<T> {
    pub(crate) config: T,
    /// The file's name and the native name of every tensor.
    pub(crate) renames: Vec<(String, String)>,
    /// The scales, if the shapes determine them.
    pub(crate) scales: Option<Scales>,
}

impl<T> Detected<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Detected<U> {
        Detected {
            config: f(self.config),
            renames: self.renames,
            scales: self.scales,
        }
    }
}

/// Prefixes that training scripts put before all names of a checkpoint.
const PREFIXES: [&str; 5] = ["module.", "net.", "generator.", "model.", "_orig_mod."];

/// The tensors without the common prefix of training scripts, and that prefix.
pub(super) fn without_prefix(shapes: &Shapes) -> (Shapes, String) {
    let (mut shapes, mut before) = (shapes.clone(), String::new());
    let shared = |shapes: &Shapes| {
        let mut prefixes = PREFIXES.into_iter();
        let all = |prefix: &&str| shapes.keys().all(|name| name.starts_with(prefix));
        prefixes.find(all).filter(|_| !shapes.is_empty())
    };
    while let Some(prefix) = shared(&shapes) {
        let named = shapes.into_iter();
        shapes = named
            .map(|(name, shape)| (name[prefix.len()..].to_owned(), shape))
            .collect();
        before.push_str(prefix);
    }
    (shapes, before)
}
