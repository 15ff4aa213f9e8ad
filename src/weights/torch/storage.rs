//! What a file says of its tensors, and where their values lie.

use super::kind::Kind;

/// What goes wrong while reading, without the file's name.
pub(super) type Result<T> = std::result::Result<T, String>;

/// Some values that tensors are parts of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) kind: Kind,
    /// Number of values.
    pub(super) len: usize,
}

/// A tensor as a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) storage: Storage,
    /// The first value.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Where the values are.
pub(super) trait Storages {
    /// The bytes of a storage, as many as it has.
    fn bytes(&mut self, storage: &Storage) -> Result<&[u8]>;
}
