//! The imports of files from each other.

use crate::tokens::{is_name, tokens};
use std::collections::{BTreeMap, BTreeSet};

/// A path in a module, and the module's full path.
struct Import {
    module: Vec<String>,
    path: Vec<String>,
}

/// Modules, names and imports of all files.
#[derive(Default)]
pub(crate) struct Workspace {
    /// The file of each module.
    modules: BTreeMap<Vec<String>, String>,
    /// The paths that a name is imported from, by module and name.
    names: BTreeMap<(Vec<String>, String), Vec<Vec<String>>>,
    /// By file.
    imports: BTreeMap<String, Vec<Import>>,
}

impl Workspace {
    pub(crate) fn new(sources: &[(String, String)], crates: &[(&str, &str)]) -> Self {
        let mut workspace = Self::default();
        for (file, text) in sources {
            let of = |(folder, _): &&(&str, &str)| file.starts_with(&format!("{folder}/"));
            let (folder, name) = crates.iter().find(of).unwrap();
            let parts = file[folder.len() + 1..].trim_end_matches(".rs").split('/');
            let parts = parts.filter(|part| !["lib", "main", "mod"].contains(part));
            let module: Vec<String> = [*name]
                .into_iter()
                .chain(parts)
                .map(str::to_owned)
                .collect();
            workspace.read(file, module, &tokens(text));
        }
        workspace
    }

    /// Adds the modules, names and imports of a file.
    fn read(&mut self, file: &str, module: Vec<String>, tokens: &[String]) {
        let (mut module, mut ends, mut depth, mut i) = (module, Vec::new(), 0, 0);
        self.modules
            .entry(module.clone())
            .or_insert(file.to_owned());
        while i < tokens.len() {
            let is = |at: usize, token: &str| tokens.get(at).is_some_and(|t| t == token);
            if is(i, "mod") && is(i + 2, "{") {
                module.push(tokens[i + 1].clone());
                self.modules.insert(module.clone(), file.to_owned());
                ends.push(depth);
                i += 1;
            } else if is(i, "{") {
                depth += 1;
            } else if is(i, "}") {
                depth -= 1;
                if ends.last() == Some(&depth) {
                    ends.pop();
                    module.pop();
                }
            } else if is(i, "use") {
                let public = i > 0 && (is(i - 1, "pub") || is(i - 1, ")"));
                i += 1;
                let mut leaves = Vec::new();
                use_tree(tokens, &mut i, &[], &mut leaves);
                for (path, name) in leaves {
                    let used = tokens.iter().filter(|token| **token == name).count() > 1;
                    if !public || used {
                        self.import(file, &module, path.clone());
                    }
                    if name != "*" {
                        let names = self.names.entry((module.clone(), name));
                        names.or_default().push(path);
                    }
                }
            } else if is_name(&tokens[i]) && is(i + 1, "::") {
                let mut path = vec![tokens[i].clone()];
                while is(i + 1, "::") && tokens.get(i + 2).is_some_and(|t| is_name(t)) {
                    path.push(tokens[i + 2].clone());
                    i += 2;
                }
                self.import(file, &module, path);
            }
            i += 1;
        }
    }

    fn import(&mut self, file: &str, module: &[String], path: Vec<String>) {
        let module = module.to_vec();
        let imports = self.imports.entry(file.to_owned()).or_default();
        imports.push(Import { module, path });
    }

    /// Adds the files that define the items of a path; a module alone has none,
    /// except in a glob import.
    fn resolve(&self, module: &[String], path: &[String], depth: u8, files: &mut BTreeSet<String>) {
        let (Some(first), true) = (path.first(), depth < 16) else {
            return;
        };
        let child = [module, std::slice::from_ref(first)].concat();
        let (parent, rest) = (&module[..module.len().max(1) - 1], &path[1..]);
        match first.as_str() {
            "crate" => self.find(&module[..1], rest, depth, files),
            "self" => self.find(module, rest, depth, files),
            "super" if rest.first().is_some_and(|next| next == "super") => {
                self.resolve(parent, rest, depth, files);
            }
            "super" => self.find(parent, rest, depth, files),
            _ if self.modules.contains_key(&child) => self.find(&child, rest, depth, files),
            _ if self.names.contains_key(&(module.to_vec(), first.clone())) => {
                self.find(module, path, depth, files);
            }
            _ => self.find(&path[..1], rest, depth, files),
        }
    }

    /// [`Self::resolve`] of a path relative to a module.
    fn find(&self, module: &[String], path: &[String], depth: u8, files: &mut BTreeSet<String>) {
        let (Some(file), Some(first)) = (self.modules.get(module), path.first()) else {
            return;
        };
        let child = [module, std::slice::from_ref(first)].concat();
        if self.modules.contains_key(&child) {
            self.find(&child, &path[1..], depth, files);
        } else if let Some(targets) = self.names.get(&(module.to_vec(), first.clone())) {
            for target in targets {
                let path = [target, &path[1..]].concat();
                self.resolve(module, &path, depth + 1, files);
            }
        } else {
            files.insert(file.clone());
        }
    }

    /// The other files that a file imports from.
    pub(crate) fn imports(&self, file: &str) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for Import { module, path } in self.imports.get(file).into_iter().flatten() {
            self.resolve(module, path, 0, &mut files);
        }
        files.remove(file);
        files
    }

    /// The files of each circle, sorted.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let files = self.imports.keys();
        let imports: BTreeMap<_, _> = files.map(|file| (file, self.imports(file))).collect();
        let mut reached: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for (file, direct) in &imports {
            let (mut all, mut next) = (BTreeSet::new(), Vec::from_iter(direct));
            while let Some(file) = next.pop() {
                if all.insert(file) {
                    next.extend(imports.get(file).into_iter().flatten());
                }
            }
            reached.insert(file, all);
        }
        let circle = |(file, all): (&&String, &BTreeSet<&String>)| {
            let back = |other: &&&String| reached.get(*other).is_some_and(|r| r.contains(file));
            all.iter().filter(back).map(|f| (*f).clone()).collect()
        };
        let circles: BTreeSet<Vec<String>> = reached.iter().map(circle).collect();
        circles.into_iter().filter(|c| !c.is_empty()).collect()
    }
}

/// The paths of a `use` from token `i` on, each with the name that it gets.
fn use_tree(
    tokens: &[String],
    i: &mut usize,
    base: &[String],
    leaves: &mut Vec<(Vec<String>, String)>,
) {
    let mut path = base.to_vec();
    loop {
        match tokens[*i].as_str() {
            "::" => {}
            "{" => {
                while tokens[*i] != "}" {
                    *i += 1;
                    if tokens[*i] != "}" {
                        use_tree(tokens, i, &path, leaves);
                    }
                }
                *i += 1;
                return;
            }
            "as" => {
                *i += 2;
                return leaves.push((path, tokens[*i - 1].clone()));
            }
            "self" if !base.is_empty() => {}
            "," | ";" | "}" => return leaves.push((path.clone(), path[path.len() - 1].clone())),
            name => path.push(name.to_owned()),
        }
        *i += 1;
    }
}
