//! `sr export`: networks for other programs.

use crate::args::{ExportArgs, ExportFormat};
use crate::interrupt::write_file;
use crate::paths::{default_output, is_same};
use anyhow::{Result, bail};
use srfilter::Scale;
use srfilter::weights::{Card, Checkpoint, Model};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes the network of a model for one scale, or all of a file in f16.
pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let to = match args.to {
        ExportFormat::F16 => in_f16(args)?,
        _ => one_scale(args)?,
    };
    writeln!(io::stdout(), "wrote {}", to.display())?;
    Ok(())
}

fn in_f16(args: &ExportArgs) -> Result<PathBuf> {
    let Some(from) = &args.weights else {
        bail!("--to f16 rewrites a weights file: name it with --weights");
    };
    let to = match &args.out {
        Some(path) => path.clone(),
        None => default_output(from, "-f16")?,
    };
    check_output(args, &to)?;
    Checkpoint::open_with(from, &args.file.hints())?.save_in_f16(&to)?;
    Ok(to)
}

fn one_scale(args: &ExportArgs) -> Result<PathBuf> {
    let (name, hints) = (args.model.as_deref(), args.file.hints());
    let model = Model::load(name, args.weights.as_deref(), &hints)?;
    let Some(scale) = args.scale else {
        bail!("--scale is missing");
    };
    let extension = match args.to {
        ExportFormat::Onnx => "onnx",
        _ => "safetensors",
    };
    let file = format!(
        "{}-x{}.{extension}",
        model.name(),
        scale.to_string().replace('/', "_")
    );
    let to = args.out.clone().unwrap_or_else(|| PathBuf::from(file));
    check_output(args, &to)?;
    if args.to == ExportFormat::Onnx {
        write_file(&to, &model.to_onnx(scale)?)?;
    } else {
        save(args.to, &model, scale, &to)?;
    }
    Ok(to)
}

fn check_output(args: &ExportArgs, to: &Path) -> Result<()> {
    if args.weights.as_ref().is_some_and(|from| is_same(from, to)) {
        bail!(
            "{} is the input; choose another file with --out",
            to.display()
        );
    }
    if !args.force && to.exists() {
        bail!("{} already exists; --force overwrites it", to.display());
    }
    Ok(())
}

/// Writes tensors, with a card if the file is for srfilter.
fn save(format: ExportFormat, model: &Model, scale: Scale, to: &Path) -> Result<()> {
    let contents = model.weights_for(scale)?;
    let mut tensors: Vec<_> = contents.tensors.clone().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    if format == ExportFormat::PthKeys {
        return Ok(Checkpoint::save_plain(to, &tensors)?);
    }
    let card = Card {
        training_data: format!("exported from {} ({})", model.name(), model.origin()),
        recipe_sha256: String::new(),
        quality: "not measured".to_owned(),
        int8_loss: contents.int8_loss,
        architecture: contents.architecture.clone(),
        scales: contents.scales.clone(),
    };
    Ok(Checkpoint::save_with(
        to,
        &tensors,
        &contents.quantization,
        &card,
    )?)
}
