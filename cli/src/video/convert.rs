//! `sr video`: plans, computes and joins.

use super::encoder::{Encoder, Hdr};
use super::join::{self, Container};
use super::packets::{self, Input};
use super::plan::{Division, Plan, Settings};
use super::segment::{self, Compute, Manifest};
use super::source::{Item, Kind, Source};
use crate::args::{
    CheckArgs, CutArgs, JoinArgs, PlanArgs, SegmentArgs, VideoArgs, VideoCommand, VideoSettings,
};
use crate::console::warn;
use crate::paths::{create_folder, is_same};
use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use srfilter::engine::Precision;
use srfilter::folder_lock::FolderLock;
use srfilter::weights::{LoadOverrides, Model};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seconds of a segment by default: what is lost at most when the work is interrupted.
const SECONDS: f64 = 20.0;

/// The default model.
const MODEL: &str = "espcn-video";

/// The one with `--damage`.
const ADAPTING: &str = "espcn";

/// Seconds that `--dry-run` computes.
const TRIAL: f64 = 2.0;

/// Runs the command.
pub(crate) fn run(args: &VideoArgs) -> Result<()> {
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    match &args.command {
        Some(VideoCommand::Plan(args)) => print_plan(args),
        Some(VideoCommand::Cut(args)) => cut(args),
        Some(VideoCommand::Segment(args)) => compute(args),
        Some(VideoCommand::Check(args)) => check(args),
        Some(VideoCommand::Join(args)) => join(args),
        None => convert(args),
    }
}

/// What is known of a file's video before it is decoded.
struct Probe {
    bits: u32,
    /// Whether it is to be turned.
    is_turned: bool,
    hdr: Hdr,
}

impl Probe {
    fn of(input: &Path) -> Result<Self> {
        let mut source = Source::open(input)?;
        while let Some(item) = source.next()? {
            if let Item::Stream { stream, .. } = item
                && stream.kind == Kind::Video
            {
                let caps = stream.caps.structure(0);
                let depth = caps.and_then(|s| s.get::<u32>("bit-depth-luma").ok());
                let tags = stream.tags.as_ref();
                let turn = tags.and_then(|tags| tags.get::<gst::tags::ImageOrientation>());
                return Ok(Self {
                    bits: depth.unwrap_or(8),
                    is_turned: turn.is_some_and(|turn| turn.get() != "rotate-0"),
                    hdr: Hdr::of(&stream.caps),
                });
            }
        }
        bail!("{} has no video", input.display())
    }
}

/// The settings of the command line for a file.
fn settings(args: &VideoSettings, input: &Path) -> Result<Settings> {
    let default = if args.damage.is_given() {
        ADAPTING
    } else {
        MODEL
    };
    let default = args.weights.is_none().then_some(default);
    let model = Model::load(
        args.model.as_deref().or(default),
        args.weights.as_deref(),
        &LoadOverrides::default(),
    )?;
    args.damage.check(&model, args.scale)?;
    // The same numbers on every machine.
    let precision = match args.device.precision {
        Precision::Auto => match model.int8_loss() {
            Some(loss) if loss <= Precision::AUTO_LOSS => Precision::Int8,
            _ => Precision::F32,
        },
        precision => precision,
    };
    let probe = Probe::of(input)?;
    let bits = match args.bit_depth {
        Some(bits) => bits,
        None if args.encoder == Encoder::Prores => 10,
        // What has more is encoded in 10 where the encoder can.
        None if probe.bits > 8 && args.encoder.check(10, None).is_ok() => 10,
        None => 8,
    };
    args.encoder.check(bits, args.quality)?;
    if let Some((width, height)) = args.size
        && (width % 2 > 0 || height % 2 > 0)
    {
        bail!("the width and height of --size must be even: encoders halve the chroma");
    }
    if args
        .weights
        .as_ref()
        .is_some_and(|file| file.to_str().is_none())
    {
        bail!("the name of the weights file must be UTF-8");
    }
    let weights = args
        .weights
        .as_ref()
        .map(|file| file.canonicalize())
        .transpose()?;
    let hash = |file: &PathBuf| -> Result<String> {
        Ok(blake3::hash(&std::fs::read(file)?).to_hex().to_string())
    };
    Ok(Settings {
        model: model.name().to_owned(),
        weights_hash: weights.as_ref().map(hash).transpose()?,
        weights,
        scale: args.scale,
        size: args.size,
        precision,
        encoder: args.encoder,
        quality: args.quality.or(args.encoder.default_quality()),
        bits,
        deinterlace: args.deinterlace,
        turn: probe.is_turned,
        hdr: probe.hdr,
        damage: args.damage.source(),
    })
}

/// Seconds as nanoseconds.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

fn plan(args: &VideoSettings, input: &Path, division: Division) -> Result<Plan> {
    if !input.is_file() {
        bail!("cannot find {}: no such file", input.display());
    }
    let part = (args.start.map(nanoseconds), args.end.map(nanoseconds));
    if let (Some(start), Some(end)) = part
        && start >= end
    {
        bail!("--end must be after --start");
    }
    Plan::new(input, settings(args, input)?, part, division)
}

fn print_plan(args: &PlanArgs) -> Result<()> {
    let division = match args.segments {
        Some(count) => Division::Segments(usize::from(count)),
        None => Division::Seconds(args.seconds.unwrap_or(SECONDS)),
    };
    if let Some(output) = &args.output {
        let container = Container::of(output, args.settings.encoder)?;
        let encoder = args.settings.encoder;
        check_streams(&args.input, (output, &container, encoder), args.drop)?;
    }
    let plan = plan(&args.settings, &args.input, division)?;
    let mut out = io::stdout().lock();
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?)
}

/// Checks, before hours of work, that the output holds the streams of the input.
fn check_streams(
    input: &Path,
    (output, container, encoder): (&Path, &Container, Encoder),
    drop: bool,
) -> Result<()> {
    let lost = match drop {
        true => Vec::new(),
        false => join::Others::read(input)?.lost(container, encoder)?,
    };
    match lost.is_empty() {
        true => Ok(()),
        false => bail!("{}", join::cannot_hold(output, &lost)),
    }
}

/// Checks that the weights of a plan are those of this machine.
fn check_weights(plan: &Plan) -> Result<()> {
    let (Some(file), Some(expected)) = (&plan.settings.weights, &plan.settings.weights_hash) else {
        return Ok(());
    };
    let bytes = std::fs::read(file).map_err(|e| anyhow!("cannot read {}: {e}", file.display()))?;
    match blake3::hash(&bytes).to_hex().as_str() == expected {
        true => Ok(()),
        false => bail!("{} is not the weights file of the plan", file.display()),
    }
}

fn cut(args: &CutArgs) -> Result<()> {
    let plan = Plan::read(&args.plan)?;
    let input = args.input.as_ref().unwrap_or(&plan.input);
    if is_same(input, &args.out) {
        bail!("{} is the input", args.out.display());
    }
    packets::cut(&plan, args.index, input, &args.out)
}

fn check(args: &CheckArgs) -> Result<()> {
    let plan = Plan::read(&args.plan)?;
    let indices = match args.index {
        Some(index) => {
            plan.segment(index)?;
            index..index + 1
        }
        None => 0..plan.segments.len(),
    };
    let mut found = indices.filter_map(|index| Manifest::find(&plan, index, &args.dir));
    found.try_for_each(|found| report(&found, true))
}

fn compute(args: &SegmentArgs) -> Result<()> {
    let mut plan = Plan::read(&args.plan)?;
    if args.weights.is_some() {
        if plan.settings.weights.is_none() {
            bail!("the plan takes built-in weights");
        }
        plan.settings.weights.clone_from(&args.weights);
    }
    check_weights(&plan)?;
    plan.segment(args.index)?;
    create_folder(&args.out)?;
    let input = match &args.packets {
        Some(packets) => Input::Packets(packets),
        None => Input::File(args.input.as_ref().unwrap_or(&plan.input)),
    };
    if let Some(found) = Manifest::find(&plan, args.index, &args.out) {
        return report(&found, true);
    }
    let compute = Compute {
        device: args.device,
        threads: args.threads,
    };
    let frames = Arc::default();
    let found = segment::run(&plan, args.index, (input, &args.out), compute, &frames);
    report(&found.map_err(|e| anyhow!("{}: {e}", input.name()))?, false)
}

/// Prints what a segment became, in a line of JSON.
fn report(found: &Manifest, was_there: bool) -> Result<()> {
    let bytes: usize = found.packets.iter().map(|packet| packet.bytes).sum();
    let line = json!({
        "event": "segment", "index": found.index, "frames": found.packets.len(), "bytes": bytes,
        "frames_hash": found.frames_hash, "kept": was_there,
    });
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

fn join(args: &JoinArgs) -> Result<()> {
    let plan = Plan::read(&args.plan)?;
    let input = args.input.as_ref().unwrap_or(&plan.input);
    check_output(input, &args.output, args.force)?;
    join::run(&plan, (input, &args.dir), &args.output, args.drop)
}

fn check_output(input: &Path, output: &Path, force: bool) -> Result<()> {
    let name = output.display();
    if is_same(input, output) {
        bail!("{name} is the input");
    }
    if output.is_dir() {
        bail!("{name} is a folder");
    }
    if output.exists() && !force {
        bail!("{name} exists; overwrite it with --force");
    }
    Ok(())
}

/// The folder of the segments of a file that is being written.
fn parts_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".parts");
    PathBuf::from(name)
}

fn convert(args: &VideoArgs) -> Result<()> {
    let (input, output) = (args.input.as_ref(), args.output.as_ref());
    let (input, output) = (input.context("no input")?, output.context("no output")?);
    check_output(input, output, args.force)?;
    let container = Container::of(output, args.settings.encoder)?;
    let seconds = args.seconds.unwrap_or(SECONDS);
    let plan = plan(&args.settings, input, Division::Seconds(seconds))?;
    check_streams(
        input,
        (output, &container, args.settings.encoder),
        args.drop,
    )?;
    let compute = Compute {
        device: args.settings.device.device,
        threads: args.settings.device.threads,
    };
    if args.dry_run {
        return estimate(&plan, input, compute);
    }
    let parts = parts_of(output);
    create_folder(&parts)?;
    let _lock = FolderLock::new(&parts)?;
    let mut log = Log::new(args.json, plan.frames());
    let mut found = Vec::new();
    let kept = (0..plan.segments.len()).filter_map(|i| Manifest::find(&plan, i, &parts));
    for manifest in kept {
        log.add(&manifest, true)?;
        found.push(manifest.index);
    }
    let source = Input::File(input);
    for index in (0..plan.segments.len()).filter(|index| !found.contains(index)) {
        let (frames, before) = (Arc::clone(&log.frames), log.frames.load(Ordering::Relaxed));
        let done = std::thread::scope(|scope| {
            let work =
                scope.spawn(|| segment::run(&plan, index, (source, &parts), compute, &frames));
            while !work.is_finished() {
                log.tick();
                std::thread::sleep(Duration::from_millis(20));
            }
            work.join()
                .map_err(|_| anyhow!("segment {index} was not computed"))
        });
        let manifest = done?.map_err(|e| {
            // If nothing is in it.
            let _ = std::fs::remove_dir(&parts);
            anyhow!("{}: {e}", input.display())
        })?;
        log.frames.store(before, Ordering::Relaxed);
        log.add(&manifest, false)?;
    }
    join::run(&plan, (input, &parts), output, args.drop)?;
    // The result is there.
    if let Err(error) = remove_parts(&parts) {
        warn(&format!("cannot remove {}: {error}", parts.display()));
    }
    log.finish(output)
}

/// Removes segments, and the folder if nothing else is in it.
fn remove_parts(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_segment =
            name.starts_with("segment-") && (name.ends_with(".packets") || name.ends_with(".json"));
        // What a killed run left.
        let is_partial = name.starts_with('.') && name.ends_with(".partial");
        if is_segment || is_partial {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}

/// Prints the time and size to expect, from the first seconds of a part in the middle.
fn estimate(plan: &Plan, input: &Path, compute: Compute) -> Result<()> {
    let middle = &plan.segments[plan.segments.len() / 2];
    let end = middle.start + nanoseconds(TRIAL);
    let division = Division::Segments(1);
    let part = (
        Some(middle.start),
        Some(middle.end.map_or(end, |e| e.min(end))),
    );
    let trial = Plan::new(input, plan.settings.clone(), part, division)?;
    let folder = tempfile::tempdir()?;
    let start = Instant::now();
    let frames = Arc::default();
    let found = segment::run(
        &trial,
        0,
        (Input::File(input), folder.path()),
        compute,
        &frames,
    )?;
    let count = found.packets.len().max(1) as f64;
    let ratio = plan.frames() as f64 / count;
    let bytes: usize = found.packets.iter().map(|packet| packet.bytes).sum();
    let time = start.elapsed().mul_f64(ratio);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} frames in {} segments by {} in {}: about {}, and {:.1} MB of video",
        plan.frames(),
        plan.segments.len(),
        plan.settings.model,
        plan.settings.precision,
        indicatif::HumanDuration(time),
        bytes as f64 * ratio / 1e6,
    )?;
    Ok(())
}

/// What is told while the work goes on.
struct Log {
    json: bool,
    bar: ProgressBar,
    /// Frames that are done.
    frames: Arc<AtomicU64>,
    total: usize,
    bytes: usize,
    start: Instant,
    computed: usize,
}

impl Log {
    fn new(json: bool, total: usize) -> Self {
        let bar = match json {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(total as u64),
        };
        let template = "{bar:30} {pos}/{len} frames  {per_sec}  {eta} left  {msg}";
        // The template is constant; the default style would serve as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            json,
            bar,
            frames: Arc::default(),
            total,
            bytes: 0,
            start: Instant::now(),
            computed: 0,
        }
    }

    fn tick(&self) {
        self.bar.set_position(self.frames.load(Ordering::Relaxed));
    }

    /// A segment is done.
    fn add(&mut self, found: &Manifest, was_there: bool) -> Result<()> {
        let frames = found.packets.len();
        self.frames.fetch_add(frames as u64, Ordering::Relaxed);
        self.bytes += found
            .packets
            .iter()
            .map(|packet| packet.bytes)
            .sum::<usize>();
        self.tick();
        if was_there {
            self.bar.reset_eta();
        } else {
            self.computed += frames;
        }
        let share = self.frames.load(Ordering::Relaxed) as f64 / self.total.max(1) as f64;
        let expected = self.bytes as f64 / share.max(1e-9) / 1e6;
        self.bar.set_message(format!("{expected:.1} MB"));
        if self.json {
            report(found, was_there)?;
        }
        Ok(())
    }

    fn finish(&self, output: &Path) -> Result<()> {
        self.bar.finish_and_clear();
        let seconds = self.start.elapsed().as_secs_f64();
        let (frames, rate) = (
            self.frames.load(Ordering::Relaxed),
            self.computed as f64 / seconds,
        );
        let bytes = std::fs::metadata(output)?.len();
        let mut out = io::stdout().lock();
        if self.json {
            let line = json!({
                "event": "done", "output": output, "frames": frames, "bytes": bytes,
                "seconds": seconds, "frames_per_second": rate,
            });
            return Ok(writeln!(out, "{line}")?);
        }
        writeln!(
            out,
            "{}: {frames} frames, {:.1} MB; {} of them in {seconds:.1} s, {rate:.1} frames/s",
            output.display(),
            bytes as f64 / 1e6,
            self.computed,
        )?;
        Ok(())
    }
}
