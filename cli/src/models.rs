//! `sr models`: the table of models, their costs and their speed.

use crate::args::{Live, ModelsArgs, refuse};
use crate::console::columns;
use anyhow::{Result, anyhow};
use serde::Serialize;
use srfilter::Scale;
use srfilter::engine::{
    FrameSpec, LIVE_SHARE, UpscaleOptions, UpscaleSpec, Upscaler, estimate_time,
};
use srfilter::frame::{Image, PixelFormat};
use srfilter::models::{self, Architecture, Channels, MODELS, ModelInfo, Scales};
use srfilter::weights::Model;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The scales that costs are shown for.
const COSTED: [u32; 4] = [2, 3, 4, 8];

/// The scale that networks are timed at, if they have it.
const TIMED: Scale = Scale::whole(4);

/// How long a network is run repeatedly for its best time.
const TIMING: Duration = Duration::from_secs(1);

/// One model, as `--json` prints it.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    /// `None`: takes images of any kind.
    channels: Option<Channels>,
    /// `None`: depends on the weights file.
    scales: Option<Scales>,
    /// Whether it runs without a weights file.
    built_in: bool,
    /// Weights of the network for the first of `costs`.
    params: usize,
    /// Multiply-accumulates per output pixel.
    mac_per_output_pixel: f64,
    costs: Vec<Costs>,
    /// Of `--time`: by the side of the result in pixels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    times: BTreeMap<usize, Timed>,
    summary: &'static str,
}

/// Costs of the network for one scale.
#[derive(Serialize)]
struct Costs {
    scale: Scale,
    params: usize,
    mac_per_output_pixel: f64,
}

/// Time of a network.
#[derive(Serialize)]
struct Timed {
    scale: Scale,
    ms: f64,
}

impl Entry {
    fn new(model: &'static ModelInfo) -> Result<Self> {
        let architecture = (model.architecture)();
        let built_in = architecture.is_none() || !model.built_in.is_empty();
        let scales = match &architecture {
            None => Some(Scales::Any),
            Some(_) if built_in => Some(Model::builtin(model.name)?.scales().clone()),
            Some(architecture) => architecture.scales(),
        };
        let costs = architecture.as_ref().map_or(Vec::new(), costs);
        let first = costs.first();
        Ok(Self {
            name: model.name,
            channels: architecture.map(|a| a.channels()),
            scales,
            built_in,
            params: first.map_or(0, |cost| cost.params),
            mac_per_output_pixel: first.map_or(0.0, |cost| cost.mac_per_output_pixel),
            costs,
            times: BTreeMap::new(),
            summary: model.summary,
        })
    }

    fn cells(&self) -> Vec<String> {
        let or_any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
        let scales = self.scales.as_ref().map(Scales::to_string);
        vec![
            self.name.to_owned(),
            or_any(self.channels.map(|c| c.to_string())),
            scales.unwrap_or_else(|| "the file's".to_owned()),
            if self.built_in { "built in" } else { "a file" }.to_owned(),
        ]
    }

    /// Measures the time for an output of at most `side` x `side` pixels.
    fn time(&mut self, side: usize, options: &UpscaleOptions) -> Result<()> {
        if self.channels.is_none() {
            return Ok(());
        }
        let scale = self.costs.iter().find(|cost| cost.scale == TIMED);
        let Some(scale) = scale.or(self.costs.first()).map(|cost| cost.scale) else {
            return Ok(());
        };
        let model = match self.built_in {
            true => Model::builtin(self.name)?,
            // The time does not depend on the weights.
            false => Model::with_random_weights(self.name, scale)?,
        };
        let ms = best_time(&model, scale, side, options)
            .map_err(|e| anyhow!("{} at {side}x{side}: {e}", self.name))?;
        self.times.insert(side, Timed { scale, ms });
        Ok(())
    }
}

/// The costs at each scale that the architecture supports.
fn costs(architecture: &Architecture) -> Vec<Costs> {
    let cost = |scale| {
        let cost = architecture.cost(scale).ok()?;
        Some(Costs {
            scale,
            params: cost.weights,
            mac_per_output_pixel: cost.macs,
        })
    };
    COSTED
        .into_iter()
        .map(Scale::whole)
        .filter_map(cost)
        .collect()
}

/// The shortest of some runs, in ms.
fn best_time(
    model: &Arc<Model>,
    scale: Scale,
    side: usize,
    options: &UpscaleOptions,
) -> Result<f64> {
    let small = (side as f64 / scale.factor()).max(1.0) as usize;
    let mut input = Image::new(small, small, model.channels().count());
    for (i, sample) in input.data.iter_mut().enumerate() {
        *sample = (i * 67 % 256) as u8;
    }
    let shape = FrameSpec::new(input.format(), small, small);
    let job = UpscaleSpec::scaled(shape, scale);
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    let mut output = Image::new(job.output.0, job.output.1, input.channels);
    let mut run = || -> Result<Duration> {
        let start = Instant::now();
        upscaler.process(&input.frame()?, &mut output.frame_mut()?)?;
        Ok(start.elapsed())
    };
    // The first run allocates and prepares weights; little of a long run.
    let start = Instant::now();
    let mut best = run()?;
    while start.elapsed() < TIMING {
        best = best.min(run()?);
    }
    Ok(best.as_secs_f64() * 1e3)
}

/// Prints the table.
pub(crate) fn run(args: &ModelsArgs) -> Result<()> {
    if args.time.contains(&0) {
        refuse("models", "--time needs sides of at least 1 pixel");
    }
    for name in &args.model {
        models::find(name)?;
    }
    let selected =
        |model: &&ModelInfo| args.model.is_empty() || args.model.iter().any(|n| n == model.name);
    let rows = MODELS.iter().filter(selected);
    if let Some(stream) = args.live {
        return print_live(rows, stream, args);
    }
    let mut entries: Vec<Entry> = rows.map(Entry::new).collect::<Result<_>>()?;
    let options = args.compute.options();
    let device = options.device.resolve()?;
    for entry in &mut entries {
        for &side in &args.time {
            entry.time(side, &options)?;
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&entries)?;
        writeln!(out, "{json}")?;
        return Ok(());
    }
    if !args.time.is_empty() {
        columns(&times(&entries, &args.time), &mut out)?;
        writeln!(
            out,
            "\nFastest run within one second, on {}.",
            device.name()
        )?;
        return Ok(());
    }
    if args.costs {
        return Ok(columns(&cost_rows(&entries), &mut out)?);
    }
    let mut table = vec![titles(&[
        "model", "channels", "scales", "weights", "summary",
    ])];
    table.extend(entries.iter().map(|entry| {
        let mut cells = entry.cells();
        cells.push(entry.summary.to_owned());
        cells
    }));
    columns(&table, &mut out)?;
    if entries.iter().any(|entry| !entry.built_in) {
        writeln!(
            out,
            "\nModels with weights from 'a file' need --weights FILE; \
             'cargo run --release --bin train' creates one."
        )?;
    }
    Ok(())
}

/// Prints which models hold a live stream.
fn print_live(
    models: impl Iterator<Item = &'static ModelInfo>,
    stream: Live,
    args: &ModelsArgs,
) -> Result<()> {
    let options = args.compute.options();
    let device = options.device.resolve()?;
    let frame = FrameSpec::new(PixelFormat::I420, stream.width, stream.height);
    let spec = UpscaleSpec::scaled(frame, args.scale);
    let available = Duration::from_secs_f64(1.0 / stream.rate);
    let mut entries = Vec::new();
    for info in models {
        let built_in = (info.architecture)().is_none() || !info.built_in.is_empty();
        if !built_in {
            continue;
        }
        let model = Model::builtin(info.name)?;
        let time = estimate_time(&model, &spec, &options, 20 * available)?;
        entries.push(LiveEntry {
            name: info.name,
            ms: time.as_secs_f64() * 1e3,
            frames_per_second: 1.0 / time.as_secs_f64(),
            holds: time.as_secs_f64() <= LIVE_SHARE * available.as_secs_f64(),
        });
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)?;
        return Ok(());
    }
    let mut table = vec![titles(&["model", "ms a frame", "frames/s", "live"])];
    table.extend(entries.iter().map(|entry| {
        vec![
            entry.name.to_owned(),
            format!("{:.1}", entry.ms),
            format!("{:.1}", entry.frames_per_second),
            if entry.holds { "yes" } else { "no" }.to_owned(),
        ]
    }));
    columns(&table, &mut out)?;
    let (width, height) = spec.output;
    writeln!(
        out,
        "\n{}x{} to {width}x{height} at {} frames/s, {:.1} ms each, on {}: estimated from parts of a frame.",
        stream.width,
        stream.height,
        stream.rate,
        available.as_secs_f64() * 1e3,
        device.name()
    )?;
    Ok(())
}

/// A model's speed, as `--live --json` prints it.
#[derive(Serialize)]
struct LiveEntry {
    name: &'static str,
    ms: f64,
    frames_per_second: f64,
    holds: bool,
}

fn titles(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|&title| title.to_owned()).collect()
}

/// A line for each model and scale.
fn cost_rows(entries: &[Entry]) -> Vec<Vec<String>> {
    let mut rows = vec![titles(&[
        "model",
        "channels",
        "scale",
        "weights",
        "MAC per output pixel",
    ])];
    for entry in entries {
        for cost in &entry.costs {
            let channels = entry.channels.map(|c| c.to_string());
            rows.push(vec![
                entry.name.to_owned(),
                channels.unwrap_or_default(),
                format!("x{}", cost.scale),
                cost.params.to_string(),
                format!("{:.0}", cost.mac_per_output_pixel),
            ]);
        }
    }
    rows
}

/// A line for each model, a column for each size.
fn times(entries: &[Entry], sides: &[usize]) -> Vec<Vec<String>> {
    let mut rows = vec![titles(&["model", "scale"])];
    rows[0].extend(sides.iter().map(|side| format!("{side}x{side}")));
    for entry in entries {
        let scale = entry.times.values().next().map(|timed| timed.scale);
        let Some(scale) = scale else { continue };
        let mut row = vec![entry.name.to_owned(), format!("x{scale}")];
        row.extend(sides.iter().map(|side| {
            let timed = entry.times.get(side);
            timed.map_or(String::new(), |timed| format!("{:.2} ms", timed.ms))
        }));
        rows.push(row);
    }
    rows
}
