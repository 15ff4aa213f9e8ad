//! Finding image files.

use anyhow::{Result, bail};
use srfilter::image_files;
use std::path::{Path, PathBuf};

/// The extensions of image files, for messages.
pub(crate) fn extensions() -> String {
    image_files::EXTENSIONS.join(", ")
}

/// The image files in a folder and its subfolders, sorted, relative to it; at
/// least one.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = image_files::find(folder)?;
    if found.is_empty() {
        bail!("found no images ({}) in {}", extensions(), folder.display());
    }
    let relative = found.iter().map(|path| path.strip_prefix(folder));
    Ok(relative
        .map(|path| path.map(Path::to_owned))
        .collect::<Result<_, _>>()?)
}
