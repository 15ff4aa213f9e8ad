//! Finds the network's tensors in the saved object.

use super::pickle::{Id, MAX_NAMED, Object, Value};
use super::storage::{Result, View};
use crate::models::NETWORK_KEYS;
use std::collections::HashSet;

/// Deepest nesting of dictionaries and of modules.
const MAX_DEPTH: usize = 32;

/// Levels of dictionaries below a key of a network that are searched for tensors.
const MAX_LEVELS: usize = 2;

/// Values of each of them that are searched.
const MAX_SEARCHED: usize = 1 << 6;

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
    /// The other networks of the file, which were not selected.
    pub(super) others: Vec<String>,
    pub(super) views: Vec<(String, View)>,
}

/// Finds the network; `key` is preferred to all others.
pub(super) fn find(object: &Object, key: Option<&str>) -> Result<Found> {
    let (mut path, mut others) = (Vec::new(), Vec::new());
    let mut at = object.root();
    for _ in 0..MAX_DEPTH {
        if let Some(Wrapped { name, id, rest }) = wrapped(object, at, key) {
            path.push(name.to_owned());
            others = rest;
            at = id;
            continue;
        }
        let views = match module(object, at) {
            true => of_module(object, at, members)?,
            false => of_dict(object, at)?,
        };
        if views.is_empty() {
            return Err(no_tensors(object, at));
        }
        return Ok(Found {
            path,
            others,
            views,
        });
    }
    Err("its dictionaries are nested too deeply".to_owned())
}

/// The tensors of a TorchScript module.
pub(super) fn of_script(object: &Object) -> Result<Found> {
    let views = of_module(object, object.root(), attributes)?;
    if views.is_empty() {
        let problem = "its weights are constants of its code (a frozen module), which is not \
                       run; save the state_dict() of the module before it was frozen";
        return Err(problem.to_owned());
    }
    Ok(Found {
        path: Vec::new(),
        others: Vec::new(),
        views,
    })
}

/// A network in a dictionary.
struct Wrapped<'a> {
    name: &'a str,
    id: Id,
    /// The keys of other networks.
    rest: Vec<String>,
}

/// Of a value without tensors: the contents of `key` or of one of the
/// [`NETWORK_KEYS`], or the only dictionary with tensors.
fn wrapped<'a>(object: &'a Object, at: Id, key: Option<&'a str>) -> Option<Wrapped<'a>> {
    if module(object, at) {
        return None;
    }
    let names = key.into_iter().chain(NETWORK_KEYS);
    let mut known = names.filter_map(|name| {
        let id = object.item(at, name)?;
        has_tensors(object, id, MAX_LEVELS).then_some((name, id))
    });
    if let Some((name, id)) = known.next() {
        let rest = known.filter(|&(other, _)| other != name);
        return Some(Wrapped {
            name,
            id,
            rest: rest.map(|(name, _)| name.to_owned()).collect(),
        });
    }
    let is_tensor = |(_, id)| matches!(object.value(id), Value::Tensor(_));
    if object.named(at).any(is_tensor) {
        return None;
    }
    let mut others = object
        .named(at)
        .take(MAX_CANDIDATES)
        .filter(|&(_, id)| has_tensors(object, id, 1));
    let (name, id) = others.next()?;
    let rest = Vec::new();
    others
        .next()
        .is_none()
        .then_some(Wrapped { name, id, rest })
}

/// Whether a value is a module, or has tensors down to some levels of nested
/// dictionaries.
fn has_tensors(object: &Object, id: Id, levels: usize) -> bool {
    let has = |(_, id)| match object.value(id) {
        Value::Tensor(_) => true,
        Value::Dict(_) | Value::Instance(_) => levels > 1 && has_tensors(object, id, levels - 1),
        _ => false,
    };
    module(object, id) || object.named(id).take(MAX_SEARCHED).any(has)
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

/// Names and values of a module's tensors, and of its submodules.
type Members<'a> = [Vec<(&'a str, Id)>; 2];

/// The members of a pickled `torch.nn.Module`.
fn members(object: &Object, at: Id) -> Members<'_> {
    let part = |name: &str| {
        let id = object.item(at, name).into_iter();
        id.flat_map(|id| object.named(id))
    };
    let tensors = part("_parameters").chain(part("_buffers"));
    [tensors.collect(), part("_modules").collect()]
}

/// The members of a TorchScript module: its attributes.
fn attributes(object: &Object, at: Id) -> Members<'_> {
    let of = |is_of_kind: fn(&Value) -> bool| {
        let all = object.named(at);
        all.filter(|&(_, id)| is_of_kind(object.value(id)))
            .collect()
    };
    [
        of(|value| matches!(value, Value::Tensor(_))),
        of(|value| matches!(value, Value::Instance(_))),
    ]
}

/// The tensors of a module and of its submodules, named as in a `state_dict`.
fn of_module(
    object: &Object,
    at: Id,
    members: for<'a> fn(&'a Object, Id) -> Members<'a>,
) -> Result<Vec<(String, View)>> {
    let mut views = Views::default();
    let mut todo = vec![(String::new(), at, 0)];
    let mut visited = 0;
    while let Some((prefix, at, depth)) = todo.pop() {
        let [tensors, modules] = members(object, at);
        visited += 1 + object.named(at).count() + tensors.len() + modules.len();
        for (name, id) in tensors {
            views.add(format!("{prefix}{name}"), object.value(id))?;
        }
        if depth > MAX_DEPTH || visited > MAX_MODULES || prefix.len() > MAX_NAME {
            return Err("its modules are nested too deeply".to_owned());
        }
        // The last one is popped first.
        let inner = modules.into_iter().rev();
        todo.extend(inner.map(|(name, id)| (format!("{prefix}{name}."), id, depth + 1)));
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
        NETWORK_KEYS.join(", ")
    )
}
