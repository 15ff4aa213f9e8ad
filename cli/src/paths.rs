//! Names of files and folders.

use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};

/// The last part of a path, for display.
pub(crate) fn file_name(path: &Path) -> String {
    match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => path.display().to_string(),
    }
}

/// Creates a folder and its parents.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|e| anyhow!("cannot create the folder {}: {e}", folder.display()))
}

/// A file in a folder that takes its name when it is whole.
///
/// # Errors
///
/// A folder that cannot be written to.
#[cfg(feature = "video")]
pub(crate) fn partial_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    // Else only the owner could read the file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder)?;
    crate::interrupt::removes(file.path());
    Ok(file)
}

/// The input's name and a suffix, as a weights file in the current folder.
pub(crate) fn default_output(input: &Path, suffix: &str) -> Result<PathBuf> {
    let stem = input.file_stem();
    let stem = stem.ok_or_else(|| {
        anyhow!(
            "cannot derive a file name from {}; name one with --out",
            input.display()
        )
    })?;
    let mut name = stem.to_owned();
    name.push(suffix);
    Ok(PathBuf::from(name).with_added_extension("safetensors"))
}

/// Whether two paths lead to the same file.
pub(crate) fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
