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
            "{} already holds a run: --resume goes on with it, --force replaces it, \
             --out DIR takes another folder",
            self.0.display()
        );
        Ok(())
    }

    /// Makes the folder, empty of what an earlier run left.
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
        let made = std::fs::create_dir_all(self.0.join("checkpoint"));
        made.with_context(|| format!("cannot make the folder {shown}"))
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
