//! `sr export`: networks for other programs.

use crate::args::{ExportArgs, ExportFormat};
use crate::interrupt::write_file;
use crate::paths::is_same;
use anyhow::{Result, bail};
use srfilter::weights::{Card, Checkpoint, Model};
use std::io::{self, Write};
use std::path::PathBuf;

/// Writes the network of a model for one scale.
pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let (name, hints) = (args.model.as_deref(), args.file.hints());
    let model = Model::load(name, args.weights.as_deref(), &hints)?;
    let extension = match args.to {
        ExportFormat::Onnx => "onnx",
        ExportFormat::Safetensors | ExportFormat::PthKeys => "safetensors",
    };
    let scale = args.scale.to_string().replace('/', "_");
    let to = args.out.clone();
    let to = to.unwrap_or_else(|| PathBuf::from(format!("{}-x{scale}.{extension}", model.name())));
    if args.weights.as_ref().is_some_and(|from| is_same(from, &to)) {
        bail!(
            "{} is the input; choose another file with --out",
            to.display()
        );
    }
    if !args.force && to.exists() {
        bail!("{} already exists; --force overwrites it", to.display());
    }
    if args.to == ExportFormat::Onnx {
        let bytes = model.to_onnx(args.scale)?;
        write_file(&to, &bytes)?;
    } else {
        save(args, &model, &to)?;
    }
    writeln!(io::stdout(), "wrote {}", to.display())?;
    Ok(())
}

/// Writes tensors, with a card if the file is for srfilter.
fn save(args: &ExportArgs, model: &Model, to: &std::path::Path) -> Result<()> {
    let contents = model.weights_for(args.scale)?;
    let mut tensors: Vec<_> = contents.tensors.clone().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    if args.to == ExportFormat::PthKeys {
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
