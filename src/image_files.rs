//! Image files in folders.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Extensions of the files that are read and written, in lower case.
pub const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// Whether the extension is that of an image, in upper or lower case.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// The image files in a folder and all its subfolders, sorted.
///
/// Symbolic links to files and folders are followed; those that lead nowhere
/// are ignored.
///
/// # Errors
///
/// A folder that cannot be read, a link to a parent folder.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true) {
        match entry {
            Ok(entry) if entry.file_type().is_file() && is_image(entry.path()) => {
                found.push(entry.into_path());
            }
            Ok(_) => {}
            Err(error) if is_dangling_link(&error) => {}
            Err(error) => return Err(unreadable(folder, error)),
        }
    }
    found.sort();
    Ok(found)
}

fn is_dangling_link(error: &walkdir::Error) -> bool {
    let missing = error.io_error().map(io::Error::kind) == Some(io::ErrorKind::NotFound);
    missing && error.path().is_some_and(Path::is_symlink)
}

fn unreadable(folder: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(folder).to_owned();
    let source = match error.loop_ancestor() {
        Some(ancestor) => io::Error::other(format!(
            "this symbolic link points to its parent folder {}: remove the link",
            ancestor.display()
        )),
        None => error.into(),
    };
    Error::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files of these names.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        dir
    }

    fn found(dir: &tempfile::TempDir) -> Vec<String> {
        let found = find(dir.path()).unwrap();
        let names = found
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap());
        names
            .map(|name| name.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn finds_images_in_order_whatever_the_case() {
        let dir = folder(&["z.PNG", "b/deep/x.JpEg", "a.webp", "notes.txt", "png"]);
        assert_eq!(found(&dir), ["a.webp", "b/deep/x.JpEg", "z.PNG"]);
    }

    #[test]
    fn names_a_folder_that_is_missing() {
        let error = find(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/at/all"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_and_refuses_loops() {
        use std::os::unix::fs::symlink;
        let dir = folder(&["set/a.png", "one.png"]);
        let elsewhere = folder(&["deep/far.png"]);
        let link = |target: &Path, name: &str| symlink(target, dir.path().join(name)).unwrap();
        link(&dir.path().join("one.png"), "two.png");
        link(elsewhere.path(), "linked");
        link(Path::new("nothing.png"), "dangling.png");
        let expected = ["linked/deep/far.png", "one.png", "set/a.png", "two.png"];
        assert_eq!(found(&dir), expected);

        link(dir.path(), "set/back");
        let error = find(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("set/back") && error.contains("remove the link"),
            "{error}"
        );
    }
}
