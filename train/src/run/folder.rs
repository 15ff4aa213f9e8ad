//! The folder of a run.

use crate::log::tensorboard;
use anyhow::{Context, Result, ensure};
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

    /// Creates the folder, without the files of an earlier run.
    pub(super) fn clear(&self) -> Result<()> {
        let shown = self.0.display();
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
        let created = std::fs::create_dir_all(self.0.join("checkpoint"));
        created.with_context(|| format!("cannot create the folder {shown}"))
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
