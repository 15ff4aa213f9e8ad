//! Storages, and tensors as views of them.

use crate::weights::dtype::ValueType;

/// A problem with a file, without the file's name.
pub(super) type Result<T> = std::result::Result<T, String>;

/// An array of values that tensors are views of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) dtype: ValueType,
    /// Number of values.
    pub(super) len: usize,
}

impl Storage {
    /// The bytes of this storage as values of a `torch.dtype`.
    pub(super) fn typed(&self, dtype: &str) -> Result<Self> {
        let value =
            ValueType::of_dtype(dtype).ok_or_else(|| format!("{dtype} is not supported"))?;
        let bytes = self.len.checked_mul(self.dtype.size());
        let len = bytes.filter(|bytes| bytes % value.size() == 0);
        let len = len.ok_or_else(|| format!("storage {} is no array of {dtype}", self.key))?;
        Ok(Self {
            key: self.key.clone(),
            dtype: value,
            len: len / value.size(),
        })
    }
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
