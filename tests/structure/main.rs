//! There are no import cycles between the files of the workspace.
//!
//! An import is a `use` or a path in code to an item of another file, resolved
//! by names: re-exports are followed to the file that defines the item.
//! `mod child;`, re-exports that the file does not use itself, and the code of
//! tests do not count.

#![allow(clippy::unwrap_used, missing_docs)]

mod imports;
mod tokens;

use imports::Workspace;
use std::path::Path;

/// The source folders of the workspace and the names of their crates.
const CRATES: [(&str, &str); 5] = [
    ("src", "srfilter"),
    ("plugin/src", "gstsrfilter"),
    ("train/src", "srfilter_train"),
    ("cli/src", "sr"),
    ("cuda/src", "srfilter_cuda"),
];

#[test]
fn files_import_one_way() {
    let mut sources = Vec::new();
    for (folder, _) in CRATES {
        collect(folder, &mut sources);
    }
    assert!(sources.len() > 100, "only {} files", sources.len());
    let circles = Workspace::new(&sources, &CRATES).circles();
    assert!(
        circles.is_empty(),
        "files that import each other; move what they share to a file that imports neither: \
         {circles:#?}"
    );
}

#[test]
fn finds_circles_through_reexports() {
    let sources = [
        ("a/lib.rs", "mod low; mod room; pub use room::Shared;"),
        ("a/low.rs", "pub struct Low; use crate::Shared;"),
        ("a/room/mod.rs", "mod deep; mod leaf; pub use deep::Shared;"),
        (
            "a/room/deep.rs",
            "use super::leaf; // use super::Nothing;\npub struct Shared(leaf::Leaf);
             fn f() { crate::low::Low; }",
        ),
        (
            "a/room/leaf.rs",
            "pub struct Leaf; const C: char = '\"'; const S: &str = \"crate::low::Low\";
             #[cfg(test)] mod tests { use crate::low::Low; }",
        ),
        ("b/main.rs", "mod x; mod y; use x::X as Z; type T = Z;"),
        (
            "b/x.rs",
            "use first::{Shared, low::{self, Low}}; pub struct X;",
        ),
        (
            "b/y.rs",
            "mod inner { use super::Y; } struct Y; use super::T;",
        ),
    ];
    let sources = sources.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let workspace = Workspace::new(&sources, &[("a", "first"), ("b", "second")]);
    assert_eq!(workspace.circles(), [["a/low.rs", "a/room/deep.rs"]]);
    let imports = |file| workspace.imports(file).into_iter().collect::<Vec<_>>();
    assert_eq!(imports("a/room/deep.rs"), ["a/low.rs", "a/room/leaf.rs"]);
    assert_eq!(imports("b/main.rs"), ["b/x.rs"]);
    assert_eq!(imports("b/x.rs"), ["a/low.rs", "a/room/deep.rs"]);
    assert_eq!(imports("b/y.rs"), ["b/main.rs"]);
}

/// Names and contents of the files of a folder, without those of tests.
fn collect(folder: &str, sources: &mut Vec<(String, String)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() && name != "tests" {
            collect(&path, sources);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = std::fs::read_to_string(root.join(&path)).unwrap();
            sources.push((path, text));
        }
    }
}
