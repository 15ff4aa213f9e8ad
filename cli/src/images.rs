//! Finding image files.

use anyhow::{Result, bail};
use srfilter::frame::Image;
use srfilter::image_files::{self, NotTaken};
use std::path::{Path, PathBuf};

/// The extensions of image files, for messages.
pub(crate) fn extensions() -> String {
    image_files::EXTENSIONS.join(", ")
}

/// The image files in a folder and its subfolders, sorted, relative to it, at
/// least one; and the files that are not read.
pub(crate) fn find(folder: &Path) -> Result<(Vec<PathBuf>, Vec<NotTaken>)> {
    let found = image_files::find_all(folder)?;
    if found.images.is_empty() {
        let others: Vec<_> = found.not_taken.iter().map(not_read).collect();
        let others = others.iter().map(|line| format!("\n  {line}"));
        bail!(
            "found no images ({}) in {}{}",
            extensions(),
            folder.display(),
            others.collect::<String>()
        );
    }
    let relative = found.images.iter().map(|path| path.strip_prefix(folder));
    let relative = relative.map(|path| path.map(Path::to_owned));
    Ok((relative.collect::<Result<_, _>>()?, found.not_taken))
}

/// Reads an image to measure: what lies under transparent pixels does not count.
pub(crate) fn open_opaque(path: &Path) -> srfilter::Result<Image> {
    Ok(Image::open(path)?.over_black())
}

/// A line about a file that is not read.
pub(crate) fn not_read(file: &NotTaken) -> String {
    format!("not read: {}: {}", file.path.display(), file.reason)
}
