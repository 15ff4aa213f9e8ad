//! There are no import cycles between the files of the workspace, and what the
//! library re-exports at its root shows no candle type.
//!
//! An import is a `use` or a path in code to an item of another file, resolved
//! by names: re-exports are followed to the file that defines the item.
//! `mod child;`, re-exports that the file does not use itself, and the code of
//! tests do not count.

#![allow(clippy::unwrap_used, missing_docs)]

mod facade;
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
             fn f() { crate::low::Low; } fn g() -> impl Sized + use<> {}",
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

#[test]
fn the_facade_shows_no_candle() {
    let mut sources = Vec::new();
    collect("src", &mut sources);
    let lib = sources.iter().find(|(file, _)| file == "src/lib.rs");
    let facade = facade::exports(&lib.unwrap().1);
    for name in [
        "Upscaler",
        "Model",
        "Error",
        "ComputeDevice",
        "PinnedBuffer",
    ] {
        assert!(facade.contains(name), "{name} is not in {facade:?}");
    }
    let leaks = |(file, text): &(String, String)| {
        let leaks = facade::leaks(text, &facade).into_iter();
        leaks
            .map(|leak| format!("{file}: {leak}"))
            .collect::<Vec<_>>()
    };
    let leaks: Vec<String> = sources.iter().flat_map(leaks).collect();
    assert!(
        leaks.is_empty(),
        "make these private, or #[doc(hidden)] where training needs them: {leaks:#?}"
    );
}

#[test]
fn finds_candle_in_signatures() {
    let lib = "#[doc(inline)] pub use a::{Up, Kind}; pub use b::Down;
               #[doc(hidden)] pub use c::Inner; use d::Private;";
    let facade = facade::exports(lib);
    assert_eq!(facade.iter().collect::<Vec<_>>(), ["Down", "Kind", "Up"]);
    let file = "use candle_core::{Device, Tensor as T};
        pub struct Up { device: Device, pub field: T, pub plain: u8 }
        pub enum Kind { A(Device) }
        pub struct Inner { pub device: Device }
        impl Up {
            pub fn shown(&self) -> &Device { &self.device }
            #[doc(hidden)] #[must_use]
            pub fn hidden(&self) -> &Device { &self.device }
            pub(crate) fn own(&self) -> &Device { &self.device }
            pub fn fine(&self) -> u8 { Device::Cpu; 1 }
        }
        impl Drop for Up { fn drop(&mut self) { Device::Cpu; } }
        impl From<candle_core::Error> for Down {}
        #[doc(hidden)] impl From<T> for Down {}
        impl Inner { pub fn device(&self) -> Device { Device::Cpu } }";
    assert_eq!(
        facade::leaks(file, &facade),
        [
            "pub field : T ,",
            "pub enum Kind { A ( Device ) }",
            "pub fn shown ( self ) Device",
            "impl From candle_core :: Error for Down",
        ]
    );
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
