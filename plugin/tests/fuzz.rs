//! The corpora of the fuzz targets for the element, replayed.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../fuzz/element/mod.rs"]
mod element;

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        element::run(target, &std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{name} has a corpus of {count}");
}

#[test]
fn caps_are_negotiated_or_refused() {
    replay("caps", element::caps::target);
}

#[test]
fn properties_take_any_text() {
    replay("properties", element::properties::target);
}
