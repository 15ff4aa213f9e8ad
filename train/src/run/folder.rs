//! The folder of a run.

use crate::log::tensorboard;
use anyhow::{Context, Result, ensure};
use srfilter::atomic_file;
use srfilter::folder_lock::FolderLock;
use std::path::{Path, PathBuf};

/// The folder of a run.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("checkpoint").join("state.safetensors")
    }

    pub(super) fn check_free(&self, force: bool) -> Result<()> {
        ensure!(
            force || !self.file("recipe.toml").exists(),
            "{} already holds a run: --resume continues it, --force replaces it, and \
             --out DIR chooses another folder",
            self.0.display()
        );
        Ok(())
    }

    /// Creates the folder, if need be, and holds it for this run.
    pub(super) fn lock(&self) -> Result<FolderLock> {
        let created = std::fs::create_dir_all(self.0.join("checkpoint"));
        created.with_context(|| format!("cannot create the folder {}", self.0.display()))?;
        Ok(FolderLock::new(&self.0)?)
    }

    /// Where the run began, from where the relative paths of its recipe count; the
    /// current folder for runs of older versions, which do not say it.
    pub(super) fn started_in(&self) -> PathBuf {
        let text = std::fs::read_to_string(self.start());
        text.map_or_else(|_| PathBuf::new(), PathBuf::from)
    }

    fn start(&self) -> PathBuf {
        self.0.join("checkpoint").join("started-in")
    }

    /// Removes the files of an earlier run, and notes where this one begins.
    pub(super) fn clear(&self) -> Result<()> {
        for name in [
            "recipe.toml",
            "log.jsonl",
            "curves.png",
            "best.safetensors",
            "last.safetensors",
        ] {
            remove(&self.file(name))?;
        }
        remove(&self.state())?;
        tensorboard::clear(&self.0)?;
        let current = std::env::current_dir().context("cannot tell the current folder")?;
        // A path that is no text cannot be noted: resume from there.
        let current = current.to_str().unwrap_or_default();
        let path = self.start();
        atomic_file::write(&path, current.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
