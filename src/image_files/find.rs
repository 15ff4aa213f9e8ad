//! The image files of a folder.

use super::formats::{is_image, why_not_taken};
use crate::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// What a folder and its subfolders hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The image files, sorted.
    pub images: Vec<PathBuf>,
    /// All other files, sorted, each with the reason.
    pub not_taken: Vec<NotTaken>,
}

/// A file that is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct NotTaken {
    /// The file.
    pub path: PathBuf,
    /// Why, and the remedy if there is one.
    pub reason: String,
    /// Whether it is an image nonetheless.
    pub is_image: bool,
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
    Ok(find_all(folder)?.images)
}

/// As [`find`], with the files that are skipped.
///
/// # Errors
///
/// As [`find`].
pub fn find_all(folder: &Path) -> Result<Found> {
    let mut found = Found::default();
    for entry in WalkDir::new(folder).follow_links(true) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if entry.file_type().is_file() && is_image(entry.path()) => {
                found.images.push(entry.into_path());
            }
            Ok(entry) => {
                let (reason, is_image) = if entry.file_type().is_file() {
                    why_not_taken(entry.path())
                } else {
                    ("not a file".to_owned(), false)
                };
                found.not_taken.push(NotTaken {
                    path: entry.into_path(),
                    reason,
                    is_image,
                });
            }
            Err(error) if is_dangling_link(&error) => found.not_taken.push(NotTaken {
                path: error.path().unwrap_or(folder).to_owned(),
                reason: "a symbolic link that leads nowhere".to_owned(),
                is_image: error.path().is_some_and(is_image),
            }),
            Err(error) => return Err(unreadable(folder, error)),
        }
    }
    found.images.sort();
    found.not_taken.sort();
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
        None => match error.io_error() {
            // Without the name, which this error repeats.
            Some(source) => io::Error::from(source.kind()),
            None => error.into(),
        },
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
    fn names_what_is_not_taken_and_why() {
        let dir = folder(&["a.jfif", "b.TIF", "c.gif", "d.AVIF", "notes.txt", "png"]);
        let found = find_all(dir.path()).unwrap();
        assert_eq!(found.images.len(), 3);
        let others = found.not_taken.iter().map(|other| {
            let name = other.path.file_name().unwrap().to_str().unwrap();
            (name, other.is_image)
        });
        let others: Vec<_> = others.collect();
        assert_eq!(
            others,
            [("d.AVIF", true), ("notes.txt", false), ("png", false)]
        );
        let reasons: Vec<_> = found.not_taken.iter().map(|other| &other.reason).collect();
        assert_eq!(
            *reasons[0],
            "AVIF is not read: convert the file to PNG first"
        );
        assert!(
            reasons[1].contains("its extension is none of png, jpg"),
            "{}",
            reasons[1]
        );
    }

    #[test]
    fn names_a_folder_that_is_missing() {
        let error = find(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert_eq!(error, "cannot read /nowhere/at/all: entity not found");
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
