//! Detection of architectures in files without metadata.

use super::network::{Scales, Shapes};

/// The keys under which training scripts save a network, in a dictionary or
/// before the names of its tensors, in order of preference: an exponential
/// moving average (EMA) of the weights is better.
pub(crate) const NETWORK_KEYS: [&str; 25] = [
    "params_ema",
    "params-ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema_model",
    "net_g_ema",
    "generator_ema",
    "g_ema",
    "ema_params",
    "ema",
    "params",
    "model_state_dict",
    "hnet_state_dict",
    "generator_state_dict",
    "net_g",
    "netG",
    "state_dict",
    "generator",
    "net",
    "network",
    "model",
    "module",
    "_orig_mod",
    "_forward_module",
];

/// Deepest nesting of [`NETWORK_KEYS`] in a name.
const MAX_DEPTH: usize = 8;

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

/// Searches a network among tensors. `selections` are the file's tensors, all of
/// them first, then without those that hardly belong to a network. A network may
/// be all of a selection, or its tensors under one of the [`NETWORK_KEYS`].
pub(super) fn search<T>(
    selections: &[Shapes],
    detect: fn(&Shapes) -> Option<Detected<T>>,
) -> Option<Detected<T>> {
    search_below(selections, detect, 0)
}

fn search_below<T>(
    selections: &[Shapes],
    detect: fn(&Shapes) -> Option<Detected<T>>,
    depth: usize,
) -> Option<Detected<T>> {
    if let Some(found) = selections.iter().find_map(detect) {
        return Some(found);
    }
    if depth == MAX_DEPTH {
        return None;
    }
    NETWORK_KEYS.iter().find_map(|key| {
        let prefix = format!("{key}.");
        let below: Vec<_> = selections.iter().map(|all| under(all, &prefix)).collect();
        if below.iter().all(Shapes::is_empty) {
            return None;
        }
        let mut found = search_below(&below, detect, depth + 1)?;
        for (theirs, _) in &mut found.renames {
            theirs.insert_str(0, &prefix);
        }
        Some(found)
    })
}

/// The shape of a convolution's weights.
pub(super) fn kernels(shapes: &Shapes, name: &str) -> Option<[usize; 4]> {
    <[usize; 4]>::try_from(shapes.get(name)?.as_slice()).ok()
}

/// The factor, at most `most`, of a pixel shuffle from `channels` to `planes`.
pub(super) fn shuffle_factor(channels: usize, planes: usize, most: u32) -> Option<u32> {
    (1..=most).find(|&r| planes * (r * r) as usize == channels)
}

/// The tensors whose names start with a prefix, without it.
pub(crate) fn under(shapes: &Shapes, prefix: &str) -> Shapes {
    let named = shapes.iter().filter_map(|(name, shape)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), shape.clone()))
    });
    named.collect()
}

/// The tensors without the [`NETWORK_KEYS`] that all their names start with.
pub(super) fn without_prefix(shapes: &Shapes) -> Shapes {
    let mut shapes = shapes.clone();
    let shared = |shapes: &Shapes| {
        let mut prefixes = NETWORK_KEYS.iter().map(|key| format!("{key}."));
        let all = |prefix: &String| shapes.keys().all(|name| name.starts_with(prefix));
        prefixes.find(all).filter(|_| !shapes.is_empty())
    };
    while let Some(prefix) = shared(&shapes) {
        shapes = under(&shapes, &prefix);
    }
    shapes
}
