//! `sr import`: converts weights files of other projects.

use crate::args::ImportArgs;
use crate::paths::{default_output, file_name, is_same};
use anyhow::{Result, bail};
use srfilter::models::Scales;
use srfilter::weights::{Card, Checkpoint, Model, ParsedCheckpoint, TensorInfo};
use std::io::{self, Write};
use std::path::Path;

/// Lists a file's tensors, or converts it.
pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    let file = Checkpoint::open_with(&args.weights, &args.file.hints())?;
    let mut out = io::stdout().lock();
    let (name, tensors) = (args.weights.display(), file.listing());
    writeln!(out, "{name}: {}, {} tensors", file.format(), tensors.len())?;
    let contents = file.contents(&args.file.hints());
    if args.list {
        let unused = contents.map_or(Vec::new(), |contents| contents.unused);
        return list(tensors, &unused, &mut out);
    }
    let contents = contents?;
    writeln!(out, "found {}", found(&contents)?)?;
    if !contents.unused.is_empty() {
        writeln!(out, "not used: {}", shortened(&contents.unused))?;
    }
    let to = match &args.out {
        Some(path) => path.clone(),
        None => default_output(&args.weights, "")?,
    };
    if !args.force && to.exists() {
        bail!("{} already exists; --force overwrites it", to.display());
    }
    if is_same(&args.weights, &to) {
        bail!(
            "{} is the input; choose another file with --out",
            to.display()
        );
    }
    let card = imported(&args.weights, &contents);
    let mut tensors: Vec<_> = contents.tensors.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    // Checks that the file is complete before anything is written.
    Model::open_with(&args.weights, None, &args.file.hints())?;
    Checkpoint::save_with(&to, &tensors, &contents.quantization, &card)?;
    writeln!(out, "wrote {}", to.display())?;
    Ok(())
}

/// The first names and the number of the others.
fn shortened(names: &[String]) -> String {
    const MAX_LISTED: usize = 4;
    let first = &names[..names.len().min(MAX_LISTED)];
    match names.len() - first.len() {
        0 => first.join(", "),
        rest => format!("{} and {rest} more", first.join(", ")),
    }
}

/// One line per tensor; those that are not part of the network are marked.
fn list(tensors: &[TensorInfo], unused: &[String], out: &mut impl Write) -> Result<()> {
    let width = |column: fn(&TensorInfo) -> usize| tensors.iter().map(column).max().unwrap_or(0);
    let (name, dtype) = (width(|t| t.name.len()), width(|t| t.dtype.len()));
    for tensor in tensors {
        let TensorInfo {
            name: n,
            dtype: d,
            shape,
        } = tensor;
        let mark = match unused.contains(n) {
            true => "  (not used)",
            false => "",
        };
        writeln!(out, "{n:name$}  {d:dtype$}  {shape:?}{mark}")?;
    }
    Ok(())
}

/// A summary of the contents.
fn found(contents: &ParsedCheckpoint) -> Result<String> {
    let ParsedCheckpoint {
        architecture,
        scales,
        tensors,
        ..
    } = contents;
    let config = serde_json::to_value(architecture)?;
    let weights: usize = tensors.values().map(|tensor| tensor.elem_count()).sum();
    let scales = match scales {
        Scales::Any => "any scale (limit it with --trained-scale)".to_owned(),
        list => format!("x{list}"),
    };
    Ok(format!(
        "{} on {}, {scales}, {weights} weights, {}",
        architecture.name(),
        architecture.channels(),
        config["config"]
    ))
}

/// The card of another project's weights.
pub(crate) fn imported(weights: &Path, contents: &ParsedCheckpoint) -> Card {
    Card {
        training_data: format!("unknown: imported from {}", file_name(weights)),
        recipe_sha256: String::new(),
        quality: "not measured".to_owned(),
        int8_loss: contents.int8_loss,
        architecture: contents.architecture.clone(),
        scales: contents.scales.clone(),
    }
}
