//! The zip form: `NAME/data.pkl`, and `NAME/data/KEY` for each storage.

use super::pickle::{self, Object};
use super::storage::{Result, Storage, Storages};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use zip::ZipArchive;

/// How many bytes may come out of a file for each byte of it: weights hardly
/// compress, bombs do.
const EXPANSION: u64 = 16;

/// Bytes that may come out of any file.
const SMALL: u64 = 64 << 20;

/// The description of the object.
const OBJECT: &str = "data.pkl";

/// An archive.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// What the names of its entries begin with.
    folder: String,
    /// Bytes that may still come out.
    left: u64,
    read: HashMap<String, Vec<u8>>,
}

impl<'a> Archive<'a> {
    /// Reads the archive's directory.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| format!("a zip archive that is broken or cut off ({e})"))?;
        let names = zip.file_names().filter_map(|name| name.ok());
        let folders = names.filter_map(|name| Some(name.strip_suffix(OBJECT)?.to_owned()));
        let folder = folders
            .filter(|folder| folder.is_empty() || folder.ends_with('/'))
            .min_by_key(String::len)
            .ok_or("a zip archive without data.pkl, which is no checkpoint of PyTorch")?;
        let mut archive = Self {
            zip,
            folder,
            left: (EXPANSION * bytes.len() as u64).max(SMALL),
            read: HashMap::new(),
        };
        let order = archive.entry("byteorder", None);
        if order.is_ok_and(|order| order.as_slice() != b"little") {
            return Err("a checkpoint with big-endian values, which are not read".to_owned());
        }
        Ok(archive)
    }

    /// What was saved.
    pub(super) fn object(&mut self) -> Result<Object> {
        pickle::read(&self.entry(OBJECT, None)?)
    }

    /// An entry, of `size` bytes where that is known.
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
            let problem = "the archive would become absurdly large (a zip bomb?)";
            return Err(bad(&problem));
        }
        self.left -= entry.size();
        // The size that is stated may be a lie: count what comes.
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
        let size = storage.len.checked_mul(storage.kind.size());
        let size = size.ok_or("its storage is absurdly large")?;
        if self.read.get(&storage.key).is_none_or(|b| b.len() != size) {
            let bytes = self.entry(&format!("data/{}", storage.key), Some(size as u64))?;
            self.read.insert(storage.key.clone(), bytes);
        }
        Ok(&self.read[&storage.key])
    }
}
