//! Atomic replacement of files.

use std::io::{Result, Write};
use std::path::Path;

/// Writes `bytes` to `path` atomically: at any time the file holds either its
/// former contents or all of `bytes`.
///
/// The bytes go to a temporary file of a unique name in the same folder, reach
/// the disk, and then take the file's name. A symbolic link stays and its target is
/// replaced; what is no file (a pipe, `/dev/stdout`) is written to.
///
/// # Errors
///
/// A folder that does not exist or cannot be written to, a full disk. The
/// former file then stays, and no temporary file does.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let kind = std::fs::metadata(path);
    if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_dir()) {
        return std::fs::write(path, bytes);
    }
    let target = path.is_symlink().then(|| path.canonicalize());
    let target = target.and_then(Result::ok);
    let path = target.as_deref().unwrap_or(path);
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    // Else only the owner could read the file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_of_one_stem_do_not_collide() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = |letter: u8| vec![letter; 1 << 16];
        let files = [("x2.safetensors", b'a'), ("x2.toml", b'b'), ("x2", b'c')];
        std::thread::scope(|scope| {
            for (name, letter) in files {
                let path = dir.path().join(name);
                scope.spawn(move || (0..50).for_each(|_| write(&path, &bytes(letter)).unwrap()));
            }
        });
        for (name, letter) in files {
            assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), bytes(letter));
        }
        assert_eq!(names(dir.path()), ["x2", "x2.safetensors", "x2.toml"]);
    }

    /// A folder of that name cannot be replaced by a file.
    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("old"), b"old").unwrap();
        write(&path, b"new").unwrap_err();
        assert_eq!(std::fs::read(path.join("old")).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["weights"]);
        write(&dir.path().join("missing/file"), b"new").unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_stay_what_they_are() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, b"old").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        let null = dir.path().join("null");
        symlink("/dev/null", &null).unwrap();
        write(&null, b"lost").unwrap();
        assert!(std::fs::metadata("/dev/null").is_ok_and(|kind| !kind.is_file()));
        assert_eq!(names(dir.path()), ["file", "link", "null"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_without_permission_keeps_its_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"old").unwrap();
        // As of a file that is created as usual: others may read it.
        let usual = dir.path().join("usual");
        std::fs::write(&usual, b"").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
        let allow = |mode| std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode));
        allow(0o555).unwrap();
        let result = write(&path, b"new");
        allow(0o755).unwrap();
        // root may write anywhere.
        let expected: &[u8] = if result.is_err() { b"old" } else { b"new" };
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
