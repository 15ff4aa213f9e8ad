//! Writes PyTorch checkpoints and malicious pickles.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A storage: its class, key, little-endian values and their number.
pub struct Stored {
    pub class: &'static str,
    pub key: String,
    pub bytes: Vec<u8>,
    pub len: usize,
}

impl Stored {
    /// A storage of f32.
    pub fn floats(key: &str, values: &[f32]) -> Self {
        Self {
            class: "FloatStorage",
            key: key.to_owned(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            len: values.len(),
        }
    }
}

/// A tensor, a view of a storage.
pub struct Part<'a> {
    pub name: &'a str,
    pub storage: usize,
    pub offset: usize,
    pub shape: &'a [usize],
    pub strides: &'a [usize],
}

/// The zip format or the legacy format.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Zip,
    Legacy,
}

/// Builds a pickle of protocol 2.
#[derive(Default, Clone)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).unwrap();
        self.op(b"X").op(&len.to_le_bytes()).op(text.as_bytes())
    }

    pub fn int(self, value: usize) -> Self {
        match i32::try_from(value) {
            Ok(value) => self.op(b"J").op(&value.to_le_bytes()),
            Err(_) => {
                // LONG1.
                let bytes = (value as u64).to_le_bytes();
                self.op(&[0x8a, 9]).op(&bytes).op(&[0])
            }
        }
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn sizes(mut self, sizes: &[usize]) -> Self {
        self = self.op(b"(");
        for &size in sizes {
            self = self.int(size);
        }
        self.op(b"t")
    }

    /// A tensor.
    pub fn tensor(self, form: Form, stored: &Stored, part: &Part<'_>) -> Self {
        let tail: &[u8] = match form {
            Form::Zip => b"tQ",
            Form::Legacy => b"NtQ",
        };
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .global("torch", stored.class)
            .text(&stored.key)
            .text("cpu")
            .int(stored.len)
            .op(tail)
            .int(part.offset)
            .sizes(part.shape)
            .sizes(part.strides)
            .op(b"\x89")
            .global("collections", "OrderedDict")
            .op(b")RtR")
    }

    /// A tensor of bytes with a type that has no storage class.
    pub fn untyped(self, stored: &Stored, shape: &[usize], dtype: &str) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v3")
            .op(b"((")
            .text("storage")
            .global("torch.storage", stored.class)
            .text(&stored.key)
            .text("cpu")
            .int(stored.len)
            .op(b"tQ")
            .int(0)
            .sizes(shape)
            .sizes(&[1])
            .op(b"\x89")
            .global("collections", "OrderedDict")
            .op(b")R")
            .global("torch", dtype)
            .op(b"tR")
    }

    /// An ordered dictionary of tensors.
    pub fn state(mut self, form: Form, stored: &[Stored], parts: &[Part<'_>]) -> Self {
        self = self.global("collections", "OrderedDict").op(b")R(");
        for part in parts {
            self = self
                .text(part.name)
                .tensor(form, &stored[part.storage], part);
        }
        self.op(b"u")
    }

    /// The finished pickle.
    pub fn done(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// An archive of a pickle and storages.
pub fn zipped(pickle: &[u8], stored: &[Stored], method: CompressionMethod) -> Vec<u8> {
    zipped_with(pickle, stored, &[], method)
}

/// An archive with more entries.
pub fn zipped_with(
    pickle: &[u8],
    stored: &[Stored],
    more: &[(&str, &[u8])],
    method: CompressionMethod,
) -> Vec<u8> {
    let options = SimpleFileOptions::default().compression_method(method);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    for storage in stored {
        add(&format!("data/{}", storage.key), &storage.bytes);
    }
    for (name, bytes) in more {
        add(name, bytes);
    }
    add("version", b"3\n");
    zip.finish().unwrap().into_inner()
}

/// A file in the legacy format.
pub fn legacy(pickle: &[u8], stored: &[Stored]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    let machine = Pickle::new().op(b"}(").text("little_endian").op(b"\x88u");
    file.extend(machine.done());
    file.extend_from_slice(pickle);
    let mut keys = Pickle::new().op(b"](");
    for storage in stored {
        keys = keys.text(&storage.key);
    }
    file.extend(keys.op(b"e").done());
    for storage in stored {
        file.extend((storage.len as u64).to_le_bytes());
        file.extend_from_slice(&storage.bytes);
    }
    file
}

/// A file in one of the formats.
pub fn file(form: Form, pickle: &[u8], stored: &[Stored]) -> Vec<u8> {
    match form {
        Form::Zip => zipped(pickle, stored, CompressionMethod::Deflated),
        Form::Legacy => legacy(pickle, stored),
    }
}
