//! Finding picture files.

use anyhow::{Result, anyhow, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Extensions of the files that are read and written.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// The extensions, for messages.
pub(crate) fn extensions() -> String {
    EXTENSIONS.join(", ")
}

/// Whether a file's name is that of a picture.
pub(crate) fn is_picture(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// The pictures in a folder and the folders below, sorted, relative to it.
///
/// Links to files count, links to folders are not followed: they may form a ring.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut below = vec![PathBuf::new()];
    while let Some(relative) = below.pop() {
        let place = folder.join(&relative);
        let unreadable = |e| anyhow!("cannot read folder {}: {e}", place.display());
        for entry in std::fs::read_dir(&place).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = relative.join(entry.file_name());
            if entry.file_type().map_err(unreadable)?.is_dir() {
                below.push(name);
            } else if is_picture(&name) && entry.path().is_file() {
                found.push(name);
            }
        }
    }
    if found.is_empty() {
        bail!(
            "there are no pictures ({}) in {}",
            extensions(),
            folder.display()
        );
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_pictures_in_order_whatever_the_case() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/deep")).unwrap();
        for name in ["z.PNG", "b/deep/x.JpEg", "a.webp", "notes.txt", "png"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let found = find(dir.path()).unwrap();
        assert_eq!(
            found,
            ["a.webp", "b/deep/x.JpEg", "z.PNG"].map(PathBuf::from)
        );
    }
}
