//! The legacy format: five pickles (magic number, protocol, system info, the
//! object, the keys of its storages), then the storages.

use super::pickle::{self, Object, Value};
use super::storage::{Result, Storage, Storages};
use std::collections::HashMap;
use std::ops::Range;

/// The pickles of the magic number and of the protocol.
const MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";

/// Byte ranges of the storages in a file.
pub(super) struct LegacyFile<'a> {
    bytes: &'a [u8],
    ranges: HashMap<String, Range<usize>>,
}

/// Reads everything but the storages' values.
pub(super) fn open(bytes: &[u8]) -> Result<(Object, LegacyFile<'_>)> {
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("a pickle not written by torch.save, or a truncated one")?;
    let mut next = || {
        let object = pickle::read(rest)?;
        rest = &rest[object.len()..];
        Ok::<_, String>(object)
    };
    let machine = next()?;
    if matches!(machine.item(machine.root(), "little_endian"), Some(id) if *machine.value(id) == Value::Bool(false))
    {
        return Err("a checkpoint with big-endian values, which are not supported".to_owned());
    }
    let (object, keys) = (next()?, next()?);
    let mut at = bytes.len() - rest.len();
    let mut ranges = HashMap::new();
    for &id in keys.items(keys.root()).unwrap_or_default() {
        let key = keys.text(id).ok_or("a storage's key is not text")?;
        let storage = object
            .storage(key)
            .ok_or_else(|| format!("no tensor refers to storage {key}"))?;
        at = storage_end(bytes, at, storage)?;
        let size = storage.len * storage.dtype.size();
        ranges.insert(key.to_owned(), at - size..at);
    }
    Ok((object, LegacyFile { bytes, ranges }))
}

/// Checks the storage at offset `at`, its length and then its values. Returns
/// its end.
fn storage_end(bytes: &[u8], at: usize, storage: &Storage) -> Result<usize> {
    let Storage { key, dtype, len } = storage;
    let rest = bytes.get(at..).unwrap_or_default();
    let (stated, values) = rest
        .split_first_chunk()
        .ok_or_else(|| format!("the file ends before storage {key}"))?;
    let stated = i64::from_le_bytes(*stated);
    if usize::try_from(stated) != Ok(*len) {
        return Err(format!("storage {key} has {stated} values, expected {len}"));
    }
    let size = len.checked_mul(dtype.size());
    let size = size.filter(|&size| size <= values.len());
    let size = size.ok_or_else(|| format!("the file ends within storage {key}"))?;
    Ok(at + size_of_val(&stated) + size)
}

impl Storages for LegacyFile<'_> {
    fn bytes(&mut self, storage: &Storage) -> Result<&[u8]> {
        let range = self.ranges.get(&storage.key);
        let range = range.filter(|range| range.len() == storage.len * storage.dtype.size());
        let range = range.ok_or_else(|| format!("the file lacks storage {}", storage.key))?;
        Ok(&self.bytes[range.clone()])
    }
}
