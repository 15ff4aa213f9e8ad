//! What is fuzzed. `tests/fuzz.rs` runs the same over the corpora.

use srfilter::weights::{Checkpoint, LoadOverrides};

/// What torch's older files begin with.
const MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

/// A safetensors file, its metadata, and the network that they promise.
pub(crate) fn safetensors(bytes: &[u8]) {
    if !bytes.starts_with(b"PK") && !bytes.starts_with(b"\x80") {
        read(bytes);
    }
}

/// A checkpoint of PyTorch: a zip archive, or what follows the magic number.
pub(crate) fn torch(bytes: &[u8]) {
    if bytes.starts_with(b"PK") || bytes.starts_with(MAGIC) {
        read(bytes);
    } else {
        read(&[MAGIC, bytes].concat());
    }
}

/// A graph in ONNX, and a trial run of it.
pub(crate) fn onnx(bytes: &[u8]) {
    graph(bytes);
}

/// A network of ncnn: a `.param`, a zero and its `.bin`.
pub(crate) fn ncnn(bytes: &[u8]) {
    graph(bytes);
}

fn graph(bytes: &[u8]) {
    if let Ok(file) = Checkpoint::from_bytes("fuzz", bytes) {
        let _ = file.network(&LoadOverrides::default());
    }
}

fn read(bytes: &[u8]) {
    if let Ok(file) = Checkpoint::from_bytes("fuzz", bytes) {
        assert_eq!(file.listing().len(), file.tensors().len());
        let _ = file.card();
        let _ = file.network(&LoadOverrides::default());
    }
}
