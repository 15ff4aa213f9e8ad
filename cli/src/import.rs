//! `sr import`: converts weights files of other projects.

use crate::args::ImportArgs;
use crate::paths::{default_output, file_name, is_same};
use anyhow::{Result, bail};
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler, estimate_time};
use srfilter::frame::{Image, PixelFormat};
use srfilter::models::graph::Config;
use srfilter::models::{Architecture, Channels, Scales};
use srfilter::weights::{Card, Checkpoint, Model, ParsedCheckpoint, TensorInfo};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Lists a file's tensors, or converts it.
pub(crate) fn run(args: &ImportArgs) -> Result<()> {
    let file = Checkpoint::open_with(&args.weights, &args.file.hints())?;
    let mut out = io::stdout().lock();
    let (name, tensors) = (args.weights.display(), file.listing());
    writeln!(out, "{name}: {}, {} tensors", file.format(), tensors.len())?;
    let contents = file.contents(&args.file.hints());
    if args.list {
        let unused = contents.as_ref().map(|contents| contents.unused.as_slice());
        list(tensors, unused.unwrap_or_default(), &mut out)?;
        return match contents {
            Ok(contents) => describe(args, &contents, &mut out),
            Err(error) => Ok(writeln!(out, "\nno network: {error}")?),
        };
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

/// What a file holds, and what it costs here.
fn describe(args: &ImportArgs, contents: &ParsedCheckpoint, out: &mut impl Write) -> Result<()> {
    const SIZE: (usize, usize) = (1280, 720);
    const MOST: Duration = Duration::from_secs(20);
    // Of the image that tells whether values have the range that they are meant to have.
    const SIDE: usize = 64;
    const GREY: u8 = 128;
    writeln!(out, "\nfound {}", found(contents)?)?;
    let model = Model::open_with(&args.weights, None, &args.file.hints())?;
    let scale = match model.scales() {
        Scales::List(scales) => scales.first().copied(),
        Scales::Any => Some(Scale::whole(2)),
    };
    let Some(scale) = scale else {
        return Ok(());
    };
    let network = model.for_scale(scale)?;
    let area = network.upsampling().factor().pow(2);
    let runs = match (model.packed(scale)?.is_some(), network.whole_frame()) {
        (true, _) => "as a fused chain of convolutions".to_owned(),
        (false, true) => "operation by operation, on whole frames".to_owned(),
        (false, false) => format!(
            "operation by operation, on tiles with {} more pixels on each side",
            network.halo()
        ),
    };
    let macs = network.macs() as f64 / area as f64;
    writeln!(out, "x{scale} runs {runs}; {macs:.0} MAC per output pixel")?;
    let spec = UpscaleSpec::scaled(FrameSpec::new(PixelFormat::I420, SIZE.0, SIZE.1), scale);
    let time = estimate_time(&model, &spec, &UpscaleOptions::default(), MOST)?.as_secs_f64();
    let ((width, height), (wide, tall)) = (SIZE, spec.output);
    writeln!(
        out,
        "{width}x{height} to {wide}x{tall}: about {:.1} ms a frame here, {:.3} frames/s",
        time * 1e3,
        1.0 / time
    )?;
    let grey = Image {
        data: vec![GREY; 3 * SIDE * SIDE],
        ..Image::new(SIDE, SIDE, 3)
    };
    let spec = FrameSpec::rgb8(SIDE, SIDE);
    let mut upscaler = Upscaler::builder(model).scale(scale).build(spec)?;
    let size = upscaler.spec().output;
    let mut output = Image::new(size.0, size.1, 3);
    upscaler.upscale(&grey, &mut output)?;
    let middle = 3 * (size.1 / 2 * size.0 + size.0 / 2);
    writeln!(
        out,
        "a flat grey of {GREY} becomes {:?}",
        &output.data[middle..middle + 3]
    )?;
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
    let config = match architecture {
        Architecture::Graph(config) => graph(config),
        other => serde_json::to_value(other)?["config"].to_string(),
    };
    let weights: usize = tensors.values().map(|tensor| tensor.elem_count()).sum();
    let scales = match scales {
        Scales::Any => "any scale (limit it with --trained-scale)".to_owned(),
        list => format!("x{list}"),
    };
    Ok(format!(
        "{} on {}, {scales}, {weights} weights, {}",
        architecture.name(),
        architecture.channels(),
        config
    ))
}

/// A summary of a graph.
fn graph(config: &Config) -> String {
    let range = match (config.channels, config.full_range) {
        (Channels::Luma, true) => ", luma in full range",
        (Channels::Luma, false) => ", luma in limited range",
        (Channels::Rgb, _) => "",
    };
    let sizes = match (config.size, config.multiple) {
        (Some([height, width]), _) => format!(", for {width}x{height} alone (in tiles of it)"),
        (None, 1) => String::new(),
        (None, multiple) => format!(", for multiples of {multiple} (padded to them)"),
    };
    format!("{} operations{range}{sizes}", config.nodes.len())
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
