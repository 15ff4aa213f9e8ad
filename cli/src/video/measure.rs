//! `sr measure`: what models are worth on a clip, without an original.

use super::player::Player;
use crate::args::MeasureArgs;
use crate::candidates::{Candidate, named, open_files};
use crate::console::{Console, columns};
use anyhow::{Context, Result, anyhow, bail};
use gst::glib;
use gst::prelude::*;
use serde::Serialize;
use srfilter::Scale;
use srfilter::models;
use srfilter::weights::{LoadOverrides, Model};
use std::io::{self, Write};

/// The model that others are compared with.
const REFERENCE: &str = "bicubic";

/// What the element measured of a model on a clip, as `--json` prints it.
#[derive(Serialize)]
struct Entry {
    #[serde(skip)]
    label: String,
    model: String,
    weights: String,
    scale: Scale,
    device: String,
    input: (i32, i32),
    output: (i32, i32),
    frames: u64,
    /// `None`: infinite.
    consistency_db: Option<f64>,
    flicker: Option<f64>,
    input_flicker: Option<f64>,
    motion_ratio: Option<f64>,
    still: Option<f64>,
    unchanged_tiles: Option<f64>,
    average_ms: f64,
}

/// Measures the models of the command line on a clip.
pub(crate) fn run(args: &MeasureArgs) -> Result<()> {
    if !args.clip.is_file() {
        bail!("cannot find {}: no such file", args.clip.display());
    }
    gst::init()?;
    let candidates = candidates(args)?;
    let console = Console::new(candidates.len());
    let mut entries = Vec::new();
    for candidate in &candidates {
        console.step(candidate.label.clone());
        let entry = measure(args, candidate);
        let name = args.clip.display();
        entries.push(entry.map_err(|e| anyhow!("{name}: {}: {e}", candidate.label))?);
    }
    drop(console);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)?;
        return Ok(());
    }
    print(args, &entries, &mut out)
}

/// Bicubic interpolation, and the models that are asked for.
fn candidates(args: &MeasureArgs) -> Result<Vec<Candidate>> {
    let mut models = vec![Model::builtin(REFERENCE)?];
    let default = [models::DEFAULT.to_owned()];
    let names = match args.model.is_empty() && args.weights.is_empty() {
        true => default.as_slice(),
        false => args.model.as_slice(),
    };
    for name in names {
        models.push(Model::load(Some(name), None, &LoadOverrides::default())?);
    }
    models.extend(open_files(&args.weights, &LoadOverrides::default())?);
    Ok(named(models))
}

/// Plays the clip through the element.
fn measure(args: &MeasureArgs, candidate: &Candidate) -> Result<Entry> {
    let scale = gst::Fraction::new(args.scale.num() as i32, args.scale.den() as i32);
    let element = glib::Object::builder::<gstsrfilter::SrFilter>()
        .property("measure", true)
        // Every frame is measured.
        .property("qos", false)
        .property("scale", scale)
        .property("device", args.device.device.to_string())
        .property("precision", args.device.precision.to_string())
        .property("threads", u32::from(args.device.threads))
        .build()
        .upcast::<gst::Element>();
    let model = &candidate.model;
    // The origin of other weights than the built-in ones is their file.
    match args
        .weights
        .iter()
        .find(|file| file.to_str() == Some(model.origin()))
    {
        Some(file) => element.set_property("weights", file.to_str()),
        None => element.set_property("model", model.name()),
    }
    let player = Player::new(&args.clip, &element, args.frames)?;
    player.play()?;
    let stats: gst::Structure = element.property("stats");
    let measured = stats.get::<gst::Structure>("measure");
    let measured = measured
        .map_err(|_| anyhow!("no frame was upscaled: it has none, or their size stays the same"))?;
    let number = |name| measured.get::<f64>(name).ok().filter(|v| v.is_finite());
    let size = |pad| Player::size(&element, pad).context("the clip has no size");
    Ok(Entry {
        label: candidate.label.clone(),
        model: model.name().to_owned(),
        weights: model.origin().to_owned(),
        scale: args.scale,
        device: stats.get("device")?,
        input: size("sink")?,
        output: size("src")?,
        frames: stats.get("processed")?,
        consistency_db: number("consistency-db"),
        flicker: number("flicker"),
        input_flicker: number("input-flicker"),
        motion_ratio: number("motion-ratio"),
        still: number("still"),
        unchanged_tiles: number("unchanged-tiles"),
        average_ms: stats.get("average-ms")?,
    })
}

/// Prints the table.
fn print(args: &MeasureArgs, entries: &[Entry], out: &mut impl Write) -> Result<()> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let ((width, height), (wide, high)) = (first.input, first.output);
    let percent = |share: Option<f64>| {
        share.map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share))
    };
    writeln!(
        out,
        "{} {width}x{height} -> {wide}x{high}, {} frames on {}; still places {}, unchanged tiles {}\n",
        args.clip.display(),
        first.frames,
        first.device,
        percent(first.still),
        percent(first.unchanged_tiles),
    )?;
    let number = |value: Option<f64>, digits: usize, none: &str| {
        value.map_or(none.to_owned(), |value| format!("{value:.digits$}"))
    };
    let titles = ["model", "consistency", "flicker", "motion", "ms"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        vec![
            entry.label.clone(),
            format!("{} dB", number(entry.consistency_db, 2, "inf")),
            number(entry.flicker, 3, "-"),
            number(entry.motion_ratio, 3, "-"),
            format!("{:.1}", entry.average_ms),
        ]
    }));
    rows.push(vec![
        "(the input)".to_owned(),
        String::new(),
        number(first.input_flicker, 3, "-"),
        number(first.motion_ratio.map(|_| 1.0), 3, "-"),
        String::new(),
    ]);
    columns(&rows, out)?;
    writeln!(
        out,
        "\nconsistency: the result reduced again, against the input (PSNR of luma)\n\
         flicker: mean change from frame to frame where the input is still, of 255\n\
         motion: change from frame to frame elsewhere, divided by the enlarged input's\n\
         ms: per frame, without the measuring"
    )?;
    Ok(())
}
