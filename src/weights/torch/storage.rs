//! Storages, and tensors as views of them.

use super::dtype::StorageDtype;

/// A problem with a file, without the file's name.
pub(super) type Result<T> = std::result::Result<T, String>;

/// An array of values that tensors are views of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) dtype: StorageDtype,
    /// Number of values.
    pub(super) len: usize,
}

/// A tensor: a strided view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) storage: Storage,
    /// Index of the first value.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Access to the values of storages.
pub(super) trait Storages {
    /// All bytes of a storage.
    fn bytes(&mut self, storage: &Storage) -> Result<&[u8]>;
}
