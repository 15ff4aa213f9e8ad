//! Input and output files.

use crate::images;
use crate::paths::file_name;
use anyhow::{Result, anyhow, bail};
use srfilter::image_files::{self, NotTaken};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An image to read and the file to write.
pub(crate) struct Task {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
}

/// The task for one image, which is written to `output`, or into it if it is a
/// folder.
///
/// # Errors
///
/// An image that does not exist, or a name that cannot be written to.
pub(crate) fn file_task(input: &Path, output: &Path) -> Result<Task> {
    if !input.exists() {
        bail!("cannot find {}: no such file or folder", input.display());
    }
    let into_folder = output.is_dir() || output.as_os_str().to_string_lossy().ends_with('/');
    let to = if into_folder {
        output.join(Path::new(&file_name(input)).with_extension("png"))
    } else if output.extension().is_none() {
        output.with_extension("png")
    } else {
        output.to_owned()
    };
    if !image_files::is_image(&to) {
        let known = images::extensions();
        bail!(
            "cannot derive an image format from the name {}: use one of the extensions {known}",
            to.display()
        );
    }
    if resolve(&to)? == resolve(input)? {
        bail!(
            "{} is both input and output; choose another output file",
            input.display()
        );
    }
    let from = input.to_owned();
    Ok(Task { from, to })
}

/// The tasks for all images of a folder, which are written as PNG files, and the
/// files that are not read.
///
/// # Errors
///
/// An output folder inside the input folder, or images that would share a name.
pub(crate) fn folder_tasks(input: &Path, output: &Path) -> Result<(Vec<Task>, Vec<NotTaken>)> {
    if output.is_file() {
        let (input, output) = (input.display(), output.display());
        bail!("{output} is a file, but {input} is a folder; choose an output folder");
    }
    if resolve(output)?.starts_with(resolve(input)?) {
        let (input, output) = (input.display(), output.display());
        bail!(
            "the output folder {output} must not be inside the input folder {input}; \
             choose another output folder"
        );
    }
    let mut tasks: Vec<Task> = Vec::new();
    let mut outputs = HashMap::new();
    let (names, not_taken) = images::find(input)?;
    for name in names {
        let from = input.join(&name);
        let to = output.join(name.with_extension("png"));
        if let Some(other) = outputs.insert(to.clone(), from.clone()) {
            let (other, from, to) = (other.display(), from.display(), to.display());
            bail!("{other} and {from} would both be written to {to}; rename one of them");
        }
        tasks.push(Task { from, to });
    }
    Ok((tasks, not_taken))
}

/// Ensures that no file is overwritten.
///
/// # Errors
///
/// A file that exists.
pub(crate) fn refuse_existing(tasks: &[Task]) -> Result<()> {
    let existing: Vec<_> = tasks.iter().filter(|task| task.to.exists()).collect();
    let Some(first) = existing.first() else {
        return Ok(());
    };
    let others = match existing.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let name = first.to.display();
    bail!("{name}{others} already exists; --force overwrites it");
}

/// The canonical path of a file that may not exist yet, to detect two names of
/// one file.
fn resolve(path: &Path) -> Result<PathBuf> {
    let bad = |e| anyhow!("cannot resolve the path {}: {e}", path.display());
    let absolute = std::path::absolute(path).map_err(bad)?;
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            // Joining an empty rest would add a slash.
            let whole = rest.as_os_str().is_empty();
            return Ok(if whole { real } else { real.join(rest) });
        }
    }
    Ok(absolute)
}
