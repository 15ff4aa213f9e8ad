//! Finds the network's tensors in the saved object.

use super::pickle::{Id, MAX_NAMED, Object, Value};
use super::storage::{Result, View};
use std::collections::HashSet;

/// The keys under which training scripts save a network, in order of
/// preference: an exponential moving average (EMA) of the weights is better.
const WRAPPERS: [&str; 14] = [
    "params_ema",
    "ema_state_dict",
    "state_dict_ema",
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
];

/// Deepest nesting of dictionaries and of modules.
const MAX_DEPTH: usize = 32;

/// Largest number of candidates for the network in a dictionary.
const MAX_CANDIDATES: usize = 1 << 8;

/// Largest number of modules of a network and of their attributes.
const MAX_MODULES: usize = 1 << 18;

/// Longest name of a tensor, in bytes.
const MAX_NAME: usize = 512;

/// Number of names in an error.
const MAX_LISTED: usize = 8;

/// The tensors of a network.
pub(super) struct Found {
    /// The keys from the top-level object to the network.
    pub(super) path: Vec<String>,
    pub(super) views: Vec<(String, View)>,
}

/// Finds the network.
pub(super) fn find(object: &Object) -> Result<Found> {
    let mut path = Vec::new();
    let mut at = object.root();
    for _ in 0..MAX_DEPTH {
        if let Some((name, inner)) = wrapped(object, at) {
            path.push(name.to_owned());
            at = inner;
            continue;
        }
        let views = match module(object, at) {
            true => of_module(object, at)?,
            false => of_dict(object, at)?,
        };
        if views.is_empty() {
            return Err(no_tensors(object, at));
        }
        return Ok(Found { path, views });
    }
    Err("its dictionaries are nested too deeply".to_owned())
}

/// Of a value without tensors: the contents of one of the [`WRAPPERS`], or the
/// only dictionary with tensors.
fn wrapped(object: &Object, at: Id) -> Option<(&str, Id)> {
    if module(object, at) {
        return None;
    }
    let holds = |id: Id| matches!(object.value(id), Value::Dict(_) | Value::Instance(_));
    let known = WRAPPERS.iter().find_map(|&name| {
        let id = object.item(at, name)?;
        holds(id).then_some((name, id))
    });
    if known.is_some() {
        return known;
    }
    let is_tensor = |(_, id)| matches!(object.value(id), Value::Tensor(_));
    if object.named(at).any(is_tensor) {
        return None;
    }
    let mut others = object
        .named(at)
        .take(MAX_CANDIDATES)
        .filter(|&(_, id)| module(object, id) || object.named(id).any(is_tensor));
    let only = others.next()?;
    others.next().is_none().then_some(only)
}

/// Whether a value is a `torch.nn.Module`.
fn module(object: &Object, id: Id) -> bool {
    matches!(object.value(id), Value::Instance(_)) && object.item(id, "_parameters").is_some()
}

fn of_dict(object: &Object, at: Id) -> Result<Vec<(String, View)>> {
    let mut views = Views::default();
    for (name, id) in object.named(at) {
        views.add(name.to_owned(), object.value(id))?;
    }
    Ok(views.list)
}

/// The tensors of a module and of its submodules, named as in a `state_dict`.
fn of_module(object: &Object, at: Id) -> Result<Vec<(String, View)>> {
    let mut views = Views::default();
    let mut todo = vec![(String::new(), at, 0)];
    let mut visited = 0;
    while let Some((prefix, at, depth)) = todo.pop() {
        let part = |name: &str| {
            let id = object.item(at, name).into_iter();
            id.flat_map(|id| object.named(id))
        };
        visited += 1 + object.named(at).count() + part("_modules").count();
        for (name, id) in part("_parameters").chain(part("_buffers")) {
            visited += 1;
            views.add(format!("{prefix}{name}"), object.value(id))?;
        }
        if depth > MAX_DEPTH || visited > MAX_MODULES || prefix.len() > MAX_NAME {
            return Err("its modules are nested too deeply".to_owned());
        }
        let first = todo.len();
        todo.extend(part("_modules").map(|(name, id)| (format!("{prefix}{name}."), id, depth + 1)));
        // The last one is popped first.
        todo[first..].reverse();
    }
    Ok(views.list)
}

/// Tensors with different names.
#[derive(Default)]
struct Views {
    list: Vec<(String, View)>,
    names: HashSet<String>,
}

impl Views {
    fn add(&mut self, name: String, value: &Value) -> Result<()> {
        let Value::Tensor(view) = value else {
            return Ok(());
        };
        if name.len() > MAX_NAME || self.list.len() == MAX_NAMED {
            return Err("it has too many tensors, or their names are too long".to_owned());
        }
        if !self.names.insert(name.clone()) {
            return Err(format!("it has two tensors {name}"));
        }
        self.list.push((name, (**view).clone()));
        Ok(())
    }
}

fn no_tensors(object: &Object, at: Id) -> String {
    let names = object.named(at).map(|(name, _)| name);
    let names: Vec<&str> = names.take(MAX_LISTED).collect();
    let found = match names.is_empty() {
        true => "no named values".to_owned(),
        false => names.join(", "),
    };
    format!(
        "it has no tensors under any known key ({}); it has {found}",
        WRAPPERS.join(", ")
    )
}
