//! The zip format: `NAME/data.pkl`, and `NAME/data/KEY` for each storage.

use super::pickle::{self, Object};
use super::storage::{Result, Storage, Storages};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use zip::ZipArchive;

/// Largest ratio of unpacked to packed size: weights hardly compress, zip bombs
/// do.
const EXPANSION: u64 = 16;

/// Unpacked bytes allowed for any file.
const SMALL: u64 = 64 << 20;

/// The pickle of the object.
const OBJECT: &str = "data.pkl";

/// An archive.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Common prefix of its entries' names.
    folder: String,
    /// Bytes that may still be unpacked.
    left: u64,
    read: HashMap<String, Vec<u8>>,
}

impl<'a> Archive<'a> {
    /// Reads the archive's directory.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| format!("a corrupt or truncated zip archive ({e})"))?;
        let names = zip.file_names().filter_map(|name| name.ok());
        let folders = names.filter_map(|name| Some(name.strip_suffix(OBJECT)?.to_owned()));
        let folder = folders
            .filter(|folder| folder.is_empty() || folder.ends_with('/'))
            .min_by_key(String::len)
            .ok_or("a zip archive without data.pkl, not a PyTorch checkpoint")?;
        let mut archive = Self {
            zip,
            folder,
            left: (EXPANSION * bytes.len() as u64).max(SMALL),
            read: HashMap::new(),
        };
        let order = archive.entry("byteorder", None);
        if order.is_ok_and(|order| order.as_slice() != b"little") {
            return Err("a checkpoint with big-endian values, which are not supported".to_owned());
        }
        Ok(archive)
    }

    /// Whether it is a TorchScript archive, which holds a module's code, too.
    pub(super) fn is_script(&self) -> bool {
        let constants = format!("{}constants.pkl", self.folder);
        self.zip.index_for_name(&constants).is_some()
    }

    /// The saved object.
    pub(super) fn object(&mut self) -> Result<Object> {
        pickle::read(&self.entry(OBJECT, None)?)
    }

    /// The contents of an entry, of `size` bytes if known.
    fn entry(&mut self, name: &str, size: Option<u64>) -> Result<Vec<u8>> {
        let path = format!("{}{name}", self.folder);
        let bad = |e: &dyn std::fmt::Display| format!("{path} of the archive cannot be read: {e}");
        let entry = self.zip.by_name(&path).map_err(|e| bad(&e))?;
        if let Some(size) = size.filter(|&size| size != entry.size()) {
            return Err(bad(&format!(
                "expected {size} bytes, found {}",
                entry.size()
            )));
        }
        if entry.size() > self.left {
            let problem = "the archive would unpack to too many bytes (a zip bomb?)";
            return Err(bad(&problem));
        }
        self.left -= entry.size();
        // The stated size may be wrong: limit the bytes read.
        let (mut bytes, stated) = (Vec::new(), entry.size());
        let limited = entry.take(stated + 1).read_to_end(&mut bytes);
        limited.map_err(|e| bad(&e))?;
        if bytes.len() as u64 != stated {
            return Err(bad(&format!("it is not of the stated {stated} bytes")));
        }
        Ok(bytes)
    }
}

impl Storages for Archive<'_> {
    fn bytes(&mut self, storage: &Storage) -> Result<&[u8]> {
        let size = storage.len.checked_mul(storage.dtype.size());
        let size = size.ok_or("its storage is too large")?;
        if self.read.get(&storage.key).is_none_or(|b| b.len() != size) {
            let bytes = self.entry(&format!("data/{}", storage.key), Some(size as u64))?;
            self.read.insert(storage.key.clone(), bytes);
        }
        Ok(&self.read[&storage.key])
    }
}
