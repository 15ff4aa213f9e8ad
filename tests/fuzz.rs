//! The corpora of the fuzz targets, replayed.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        target(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{name} has a corpus of {count}");
}

#[test]
fn safetensors_files_are_read_or_refused() {
    replay("safetensors", targets::safetensors);
}

#[test]
fn onnx_files_are_read_or_refused() {
    replay("onnx", targets::onnx);
}

#[test]
fn ncnn_files_are_read_or_refused() {
    replay("ncnn", targets::ncnn);
}

#[test]
fn torch_files_are_read_or_refused() {
    replay("torch", targets::torch);
}
