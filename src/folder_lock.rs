//! Folders that one run at a time may write to.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Holds a folder for this run until it is dropped, or the process ends in any way.
#[derive(Debug)]
#[must_use = "the folder is free again when this is dropped"]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks a folder that exists. File systems without locks lock nothing.
    ///
    /// # Errors
    ///
    /// A folder that another run holds ([`ErrorKind::WouldBlock`]) or that cannot be
    /// opened.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = open(folder)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorKind::WouldBlock,
                format!(
                    "another run is writing to {}: wait until it has ended, or choose another \
                     folder",
                    folder.display()
                ),
            )),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file }),
        }
    }
}

/// What is locked: the folder itself where that can be.
#[cfg(unix)]
fn open(folder: &Path) -> Result<File> {
    File::open(folder)
}

#[cfg(not(unix))]
fn open(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = FolderLock::new(dir.path()).unwrap();
        let error = FolderLock::new(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains("another run"), "{error}");
        drop(held);
        let _held = FolderLock::new(dir.path()).unwrap();
        assert!(FolderLock::new(&dir.path().join("missing")).is_err());
    }
}
