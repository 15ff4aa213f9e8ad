//! Ctrl-C, which waits for a file that is being written.

use anyhow::{Result, anyhow};
use srfilter::atomic_file;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The exit status after Ctrl-C, as shells expect it.
const INTERRUPTED: i32 = 130;

/// Held while a file is written.
static WRITING: Mutex<()> = Mutex::new(());

/// Files that are gone after Ctrl-C.
static PARTIAL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// From now on Ctrl-C removes a file.
#[cfg(feature = "video")]
pub(crate) fn removes(file: &Path) {
    let mut partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
    partial.push(file.to_owned());
}

fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on Ctrl-C and SIGTERM end the process between files, so that no
/// temporary one is left.
pub(crate) fn install() -> Result<()> {
    let handler = || {
        let _whole = writing();
        let partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
        for file in partial.iter() {
            // Most have another name by now.
            let _ = std::fs::remove_file(file);
        }
        std::process::exit(INTERRUPTED);
    };
    ctrlc::set_handler(handler).map_err(|e| anyhow!("cannot handle Ctrl-C: {e}"))
}

/// Writes a file whole or not at all.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let _whole = writing();
    atomic_file::write(path, bytes).map_err(|e| anyhow!("cannot write {}: {e}", path.display()))
}
