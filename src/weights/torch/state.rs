//! Finds the network's tensors among all that was saved.

use super::pickle::{Id, MAX_NAMED, Object, Value};
use super::storage::{Result, View};
use std::collections::HashSet;

/// The names that training scripts save a network under, best first: what an
/// exponential mean made of the weights is the better network.
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

/// How deep networks are looked for, and modules within modules.
const MAX_DEPTH: usize = 32;

/// Things beside each other that may be the network, at most.
const MAX_CHOICE: usize = 1 << 8;

/// Modules of a network, and all that they name, at most.
const MAX_MODULES: usize = 1 << 18;

/// Bytes of a tensor's name at most.
const MAX_NAME: usize = 512;

/// Names that an error lists.
const SHOWN: usize = 8;

/// The tensors of a network.
pub(super) struct Found {
    /// The names that led there.
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
            return Err(nothing(object, at));
        }
        return Ok(Found { path, views });
    }
    Err("its dictionaries are nested absurdly deep".to_owned())
}

/// What lies in one of the [`WRAPPERS`], or in the one dictionary there is
/// that has tensors, where the value itself has none.
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
        .take(MAX_CHOICE)
        .filter(|&(_, id)| module(object, id) || object.named(id).any(is_tensor));
    let only = others.next()?;
    others.next().is_none().then_some(only)
}

/// Whether a value is a whole `torch.nn.Module`.
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

/// The tensors of a module and of those within it, as `state_dict` names them.
fn of_module(object: &Object, at: Id) -> Result<Vec<(String, View)>> {
    let mut views = Views::default();
    let mut todo = vec![(String::new(), at, 0)];
    let mut seen = 0;
    while let Some((prefix, at, depth)) = todo.pop() {
        let part = |name: &str| {
            let id = object.item(at, name).into_iter();
            id.flat_map(|id| object.named(id))
        };
        seen += 1 + object.named(at).count() + part("_modules").count();
        for (name, id) in part("_parameters").chain(part("_buffers")) {
            seen += 1;
            views.add(format!("{prefix}{name}"), object.value(id))?;
        }
        if depth > MAX_DEPTH || seen > MAX_MODULES || prefix.len() > MAX_NAME {
            return Err("its modules are nested absurdly deep".to_owned());
        }
        let first = todo.len();
        todo.extend(part("_modules").map(|(name, id)| (format!("{prefix}{name}."), id, depth + 1)));
        // The last comes off first.
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
            return Err("its tensors are absurdly many, or their names absurdly long".to_owned());
        }
        if !self.names.insert(name.clone()) {
            return Err(format!("it has two tensors {name}"));
        }
        self.list.push((name, (**view).clone()));
        Ok(())
    }
}

fn nothing(object: &Object, at: Id) -> String {
    let names: Vec<&str> = object.named(at).map(|(name, _)| name).take(SHOWN).collect();
    let found = match names.is_empty() {
        true => "nothing that has names".to_owned(),
        false => names.join(", "),
    };
    format!(
        "it has no tensors where they are looked for ({}); it has {found}",
        WRAPPERS.join(", ")
    )
}
