//! The element on playing video: sustained frame rate at each size, a live
//! source in real time, the speed of resampling compared with GStreamer's
//! `videoscale`, that of 10 bits compared with 8, what blending and comparing cost, and
//! what is saved where the picture stays the same.
//!
//! ```sh
//! cargo bench --bench live [-- --seconds 60] [--models espcn,srcnn] [--only ROW]
//! ```
//!
//! Rows: planes, depths, sustained, integers, family, views, overload, change, async, reuse, fallback, held,
//! load, live.
//! A live run that drops a frame, or takes longer than a frame's duration for more than 1 % of the
//! frames, ends with an error.

use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use srfilter::{
    FrameMut, FrameRef, FrameSpec, Model, PixelFormat, Reuse, Scale, UpscaleOptions, UpscaleSpec,
    Upscaler,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Input sizes of the table, each upscaled by 2.
const SIZES: [(u32, u32); 4] = [(320, 180), (640, 360), (960, 540), (1280, 720)];

/// Frames a second of the live source.
const RATE: u32 = 25;

/// Duration of each row of the table.
const ROW: Duration = Duration::from_secs(5);

/// Largest number of frames of a row.
const MAX_FRAMES: u32 = 2000;

/// Allowed lateness at the sink, as of GStreamer's video sinks.
const LATENESS: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    let (mut seconds, mut models, mut only) = (10, "espcn,srcnn".to_owned(), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().context("--seconds N")?.parse()?,
            "--only" => only = Some(args.next().context("--only ROW")?),
            "--spin" => loop {
                std::hint::spin_loop();
            },
            "--models" => models = args.next().context("--models NAME,...")?,
            // Arguments from `cargo bench`.
            _ => {}
        }
    }
    let has = |row: &str| only.as_deref().is_none_or(|only| only == row);
    if has("planes") {
        planes()?;
    }
    if has("depths") {
        ["bicubic", "espcn"].into_iter().try_for_each(depths)?;
    }
    if has("sustained") {
        for model in models.split(',') {
            SIZES.iter().try_for_each(|&size| sustained(model, size))?;
        }
    }
    if has("integers") {
        integers()?;
    }
    if has("family") {
        family()?;
    }
    if has("views") {
        views()?;
    }
    if has("overload") {
        [1.6, 4.0].iter().try_for_each(|&f| overload(f, seconds))?;
    }
    if has("change") {
        change()?;
    }
    if has("async") {
        asynchronous()?;
    }
    if has("reuse") {
        reuse()?;
    }
    if has("fallback") {
        fallback(seconds)?;
    }
    if has("held") {
        ["drop", "block"]
            .iter()
            .try_for_each(|mode| held(mode, seconds))?;
    }
    if has("load") {
        load()?;
    }
    if has("live") {
        live(seconds)?;
    }
    Ok(())
}

/// Upscales grey planes by 2 with `videoscale` and with the element, both with
/// 4-tap kernels.
fn planes() -> Result<()> {
    let gray = |(width, height): (u32, u32)| {
        format!("video/x-raw,format=GRAY8,width={width},height={height},framerate={RATE}/1")
    };
    println!("planes of 8 bits, twofold, median of 300 frames");
    for (width, height) in [(160, 90), (320, 180), (640, 360)] {
        let (from, to) = (gray((width, height)), gray((2 * width, 2 * height)));
        let time = |element: &str| -> Result<Duration> {
            let run = Run::of(&format!(
                "videotestsrc num-buffers=300 pattern=ball ! {from} ! {element} ! {to} ! fakesink name=sink"
            ))?;
            Ok(run.finish()?.quantile(0.5))
        };
        let threads = std::thread::available_parallelism()?;
        let peer = time(&format!(
            "videoscale name=e method=4-tap n-threads={threads}"
        ))?;
        let ours = time("srfilter name=e reuse=off model=bicubic qos=false")?;
        println!(
            "{width}x{height}: videoscale 4-tap {:.3} ms, srfilter bicubic {:.3} ms: {:.2} times as fast",
            milliseconds(peer),
            milliseconds(ours),
            peer.as_secs_f64() / ours.as_secs_f64(),
        );
    }
    Ok(())
}

/// Compares frames of 10 bits with frames of 8: the best of interleaved runs.
fn depths(model: &str) -> Result<()> {
    let formats = ["I420", "I420_10LE", "P010_10LE"];
    let mut best = [Duration::MAX; 3];
    for _ in 0..5 {
        for (format, best) in formats.iter().zip(&mut best) {
            let run = Run::of(&format!(
                "videotestsrc num-buffers=60 pattern=ball \
                 ! video/x-raw,format={format},width=640,height=360,framerate={RATE}/1 \
                 ! srfilter name=e reuse=off model={model} scale=2 qos=false ! fakesink name=sink"
            ))?;
            *best = run.finish()?.quantile(0.5).min(*best);
        }
    }
    let [eight, ten, high] = best.map(milliseconds);
    println!(
        "{model} 640x360, best median of 5 runs: I420 {eight:.2} ms, I420_10LE {ten:.2} ms \
         ({:+.1} %), P010_10LE {high:.2} ms ({:+.1} %)",
        100.0 * (ten / eight - 1.0),
        100.0 * (high / eight - 1.0),
    );
    Ok(())
}

/// Compares 8-bit integers with f32: the best of interleaved runs.
fn integers() -> Result<()> {
    for (model, scale, (width, height), frames) in [
        ("espcn", 2, (640, 360), 60),
        ("espcn", 2, (1280, 720), 30),
        ("espcn-fast", 2, (640, 360), 60),
        ("compact", 2, (320, 180), 10),
        ("srresnet", 4, (160, 90), 10),
    ] {
        let precisions = ["f32", "int8"];
        let mut best = [Duration::MAX; 2];
        for _ in 0..7 {
            for (precision, best) in precisions.iter().zip(&mut best) {
                let run = Run::of(&format!(
                    "videotestsrc num-buffers={frames} pattern=ball \
                     ! video/x-raw,format=I420,width={width},height={height},framerate={RATE}/1 \
                     ! srfilter name=e reuse=off model={model} scale={scale} precision={precision} \
                     qos=false ! fakesink name=sink"
                ))?;
                *best = run.finish()?.quantile(0.5).min(*best);
            }
        }
        let [float, integers] = best.map(milliseconds);
        println!(
            "{model} x{scale} {width}x{height}, I420, best median of 7 runs: f32 {float:.2} ms, \
             int8 {integers:.2} ms ({:.2}x)",
            float / integers,
        );
    }
    Ok(())
}

/// Compares the sizes of `espcn`: the best of interleaved runs.
fn family() -> Result<()> {
    let models = ["espcn", "espcn-fast", "espcn-hq"];
    let all = ["f32", "int8"].map(|precision| models.map(|model| (model, precision)));
    let mut best = [Duration::MAX; 6];
    for _ in 0..7 {
        for ((model, precision), best) in all.as_flattened().iter().zip(&mut best) {
            let run = Run::of(&format!(
                "videotestsrc num-buffers=60 pattern=ball \
                 ! video/x-raw,format=I420,width=640,height=360,framerate={RATE}/1 \
                 ! srfilter name=e reuse=off model={model} scale=2 precision={precision} qos=false \
                 ! fakesink name=sink"
            ))?;
            *best = run.finish()?.quantile(0.5).min(*best);
        }
    }
    let best = best.map(milliseconds);
    for ((model, precision), time) in all.as_flattened().iter().zip(best) {
        println!(
            "{model} x2 640x360, I420, {precision}, best median of 7 runs: {time:.2} ms ({:.2}x espcn in f32)",
            time / best[0],
        );
    }
    Ok(())
}

/// What blending and comparing cost: the best of interleaved runs.
fn views() -> Result<()> {
    let views = [
        "strength=1",
        "strength=0.5",
        "compare=split",
        "compare=split strength=0.5",
        "compare=side-by-side",
        "compare=difference",
    ];
    let mut best = [Duration::MAX; 6];
    for _ in 0..7 {
        for (view, best) in views.iter().zip(&mut best) {
            let run = Run::of(&format!(
                "videotestsrc num-buffers=60 pattern=ball \
                 ! video/x-raw,format=I420,width=640,height=360,framerate={RATE}/1 \
                 ! srfilter name=e model=espcn scale=2 reuse=off qos=false {view} ! fakesink name=sink"
            ))?;
            *best = run.finish()?.quantile(0.5).min(*best);
        }
    }
    println!("espcn 640x360 to 1280x720, I420, best median of 7 runs:");
    for (view, time) in views.iter().zip(best.map(milliseconds)) {
        let more = 100.0 * (time / milliseconds(best[0]) - 1.0);
        println!("{view}: {time:.2} ms ({more:+.1} %)");
    }
    Ok(())
}

/// Sends frames through the element at full speed.
fn sustained(model: &str, (width, height): (u32, u32)) -> Result<()> {
    let run = Run::of(&format!(
        "videotestsrc num-buffers={MAX_FRAMES} pattern=ball ! video/x-raw,format=I420,width={width},\
         height={height},framerate={RATE}/1 ! queue max-size-buffers=4 \
         ! srfilter name=e reuse=off model={model} scale=2 qos=false ! fakesink name=sink"
    ))?;
    let (start, before) = (Instant::now(), run.count());
    run.wait(ROW)?;
    let rate = (run.count() - before) as f64 / start.elapsed().as_secs_f64();
    println!(
        "{model} {width}x{height} to {}x{}, I420: {rate:.1} frames/s sustained, median {:.1} ms",
        2 * width,
        2 * height,
        milliseconds(run.stop()?.quantile(0.5)),
    );
    Ok(())
}

/// Plays a live source of 640x360 in real time.
fn live(seconds: u32) -> Result<()> {
    let frames = seconds * RATE;
    let run = Run::of(&format!(
        "videotestsrc is-live=true num-buffers={frames} pattern=ball \
         ! video/x-raw,format=I420,width=640,height=360,framerate={RATE}/1 \
         ! srfilter name=e reuse=off model=espcn scale=2 \
         ! fakesink name=sink sync=true qos=true max-lateness={}",
        LATENESS.as_nanos()
    ))?;
    let sink = run.element("sink")?;
    run.wait(Duration::from_secs(3600))?;
    let shown: gst::Structure = sink.property("stats");
    let (rendered, dropped): (u64, u64) = (shown.get("rendered")?, shown.get("dropped")?);
    let report: gst::Structure = run.element("e")?.property("stats");
    let times = run.stop()?;
    let [median, most, longest] = [0.5, 0.99, 1.0].map(|part| times.quantile(part));
    println!(
        "espcn 640x360 to 1280x720, live at {RATE} frames/s for {seconds} s: {rendered} of {frames} frames shown, \
         {dropped} dropped; in the element {:.1} ms median, {:.1} ms for 99 %, {:.1} ms at most, of {:.1}",
        milliseconds(median),
        milliseconds(most),
        milliseconds(longest),
        1e3 / f64::from(RATE),
    );
    println!("{report}");
    ensure!(
        dropped == 0 && rendered == u64::from(frames),
        "frames were dropped"
    );
    ensure!(
        most < Duration::from_secs(1) / RATE,
        "frames took longer than they last"
    );
    Ok(())
}

/// A camera and a model that takes `factor` times as long as a frame lasts: how many of the
/// frames that were computed come in time.
fn overload(factor: f64, seconds: u32) -> Result<()> {
    let size = "format=I420,width=640,height=360";
    let alone = Run::of(&format!(
        "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,{size} \
         ! srfilter name=e reuse=off model=espcn scale=2 qos=false ! fakesink sync=false"
    ))?;
    let needed = alone.finish()?.quantile(0.5);
    let rate = (1e3 * factor / needed.as_secs_f64()) as u32;
    let frames = seconds * rate / 1000;
    let run = Run::of(&format!(
        "videotestsrc is-live=true num-buffers={frames} pattern=ball \
         ! video/x-raw,{size},framerate={rate}/1000 \
         ! srfilter name=e model=espcn scale=2 on-overload=drop reuse=off \
         ! fakesink name=sink sync=true qos=true max-lateness={}",
        LATENESS.as_nanos()
    ))?;
    run.wait(Duration::from_secs(3600))?;
    let shown: gst::Structure = run.element("sink")?.property("stats");
    let stats: gst::Structure = run.element("e")?.property("stats");
    run.stop()?;
    let (shown, computed): (u64, u64) = (shown.get("rendered")?, stats.get("processed")?);
    let dropped: u64 = stats.get("dropped")?;
    println!(
        "espcn 640x360 to 1280x720, {factor} times too slow for a camera of {:.1} frames/s: of {frames} frames \
         {dropped} dropped before, {computed} computed, {shown} of these shown ({:.0} %)",
        f64::from(rate) / 1e3,
        100.0 * shown as f64 / computed as f64
    );
    ensure!(
        shown * 5 >= computed * 4,
        "too many frames were computed in vain"
    );
    Ok(())
}

/// The default model, which is some ten times too slow for a camera of 640x360: a faster one
/// takes over.
fn fallback(seconds: u32) -> Result<()> {
    let frames = seconds * RATE;
    let run = Run::of(&format!(
        "videotestsrc is-live=true num-buffers={frames} pattern=ball \
         ! video/x-raw,format=I420,width=640,height=360,framerate={RATE}/1 \
         ! srfilter name=e scale=2 reuse=off ! fakesink name=sink sync=true qos=true max-lateness={}",
        LATENESS.as_nanos()
    ))?;
    run.wait(Duration::from_secs(2))?;
    let late = |run: &Run| -> Result<u64> {
        let stats: gst::Structure = run.element("sink")?.property("stats");
        Ok(stats.get("dropped")?)
    };
    let early = late(&run)?;
    run.wait(Duration::from_secs(3600))?;
    let (all, stats) = (
        late(&run)?,
        run.element("e")?.property::<gst::Structure>("stats"),
    );
    let processed: u64 = stats.get("processed")?;
    let dropped: u64 = stats.get("dropped")?;
    let model: String = stats.get("active-model")?;
    let changes = run.stop()?.changes;
    println!(
        "hypersrcnn 640x360 to 1280x720, live at {RATE} frames/s for {seconds} s, fallback: {processed} of \
         {frames} frames upscaled, {dropped} dropped, {early} late in the first 2 s, {} after; {model} at the end",
        all - early
    );
    changes
        .iter()
        .for_each(|(at, what)| println!("  {:.2} s: {what}", at.as_secs_f64()));
    ensure!(all == early, "frames were late");
    ensure!(processed + dropped == u64::from(frames), "frames were lost");
    Ok(())
}

/// The default model for a camera, with and without dropping frames: the clock is held, and
/// no frame is lost from the counts. The camera drops what is not taken.
fn held(mode: &str, seconds: u32) -> Result<()> {
    let frames = seconds * RATE;
    let run = Run::of(&format!(
        "videotestsrc is-live=true num-buffers={frames} pattern=ball \
         ! video/x-raw,format=I420,width=640,height=360,framerate={RATE}/1 \
         ! queue leaky=downstream max-size-buffers=2 max-size-time=0 max-size-bytes=0 \
         ! srfilter name=e scale=2 reuse=off on-overload={mode} \
         ! fakesink name=sink sync=true qos=true max-lateness=-1"
    ))?;
    let sent = Arc::new(AtomicU64::new(0));
    let arrived = Arc::clone(&sent);
    let pad = run.element("e")?.static_pad("sink").context("a pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        arrived.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    let start = Instant::now();
    run.wait(Duration::from_secs(3600))?;
    let took = start.elapsed();
    let stats: gst::Structure = run.element("e")?.property("stats");
    let shown: gst::Structure = run.element("sink")?.property("stats");
    run.stop()?;
    let (processed, dropped): (u64, u64) = (stats.get("processed")?, stats.get("dropped")?);
    let rendered: u64 = shown.get("rendered")?;
    let arrived = sent.load(Ordering::Relaxed);
    println!(
        "hypersrcnn 640x360 to 1280x720, live at {RATE} frames/s, {mode}: {:.1} s for {seconds} s; of {frames} \
         frames {arrived} arrived, {processed} were upscaled, {dropped} dropped, {rendered} shown",
        took.as_secs_f64()
    );
    ensure!(
        took < Duration::from_secs(u64::from(seconds) + 3),
        "the clock was not held"
    );
    ensure!(processed + dropped == arrived, "frames were lost");
    ensure!(rendered == processed, "upscaled frames were not shown");
    ensure!(mode == "drop" || dropped == 0, "frames were dropped");
    Ok(())
}

/// Other processes take all cores for ten seconds of a live stream.
fn load() -> Result<()> {
    const BEFORE: Duration = Duration::from_secs(5);
    const LOAD: Duration = Duration::from_secs(10);
    // Some 40 % of a frame's duration.
    let (width, height) = (400, 220);
    let frames = 22 * RATE;
    let run = Run::of(&format!(
        "videotestsrc is-live=true num-buffers={frames} pattern=ball \
         ! video/x-raw,format=I420,width={width},height={height},framerate={RATE}/1 \
         ! srfilter name=e model=espcn scale=2 reuse=off ! fakesink name=sink sync=true qos=true max-lateness={}",
        LATENESS.as_nanos()
    ))?;
    run.wait(BEFORE)?;
    let start = run.started.elapsed();
    let program = std::env::current_exe()?;
    let cores = std::thread::available_parallelism()?.get();
    let mut others = Vec::new();
    for _ in 0..2 * cores {
        others.push(std::process::Command::new(&program).arg("--spin").spawn()?);
    }
    run.wait(LOAD)?;
    for other in &mut others {
        other.kill()?;
        other.wait()?;
    }
    let end = run.started.elapsed();
    run.wait(Duration::from_secs(3600))?;
    let shown: gst::Structure = run.element("sink")?.property("stats");
    let (rendered, late): (u64, u64) = (shown.get("rendered")?, shown.get("dropped")?);
    let changes = run.stop()?.changes;
    println!(
        "espcn {width}x{height}, live at {RATE} frames/s, all cores taken from {:.2} s to {:.2} s: \
         {rendered} of {frames} frames shown, {late} late",
        start.as_secs_f64(),
        end.as_secs_f64()
    );
    changes
        .iter()
        .for_each(|(at, what)| println!("  {:.2} s: {what}", at.as_secs_f64()));
    let second = Duration::from_secs(1);
    let down = changes.first().context("no model took over")?.0;
    let up = changes.last().context("no model took over")?.0;
    ensure!(
        down >= start && down - start < second / 2,
        "stepped down late"
    );
    ensure!(up > end && up - end < 5 * second, "stepped up late");
    ensure!(changes.len() == 2, "{} changes", changes.len());
    Ok(())
}

/// Compares the values of `async-depth`: the best of interleaved runs, and the median time
/// from a frame's arrival to its departure in that run.
fn asynchronous() -> Result<()> {
    for (model, (width, height), frames) in [
        ("espcn", (640, 360), 60),
        ("espcn", (320, 180), 240),
        ("bicubic", (640, 360), 400),
        ("compact", (160, 90), 16),
    ] {
        let mut best = [(0.0, Duration::ZERO); 3];
        for _ in 0..5 {
            for (depth, best) in best.iter_mut().enumerate() {
                let run = Run::of(&format!(
                    "videotestsrc num-buffers={frames} pattern=ball \
                     ! video/x-raw,format=I420,width={width},height={height},framerate={RATE}/1 \
                     ! queue max-size-buffers=4 ! srfilter name=e model={model} scale=2 reuse=off qos=false \
                     async-depth={depth} ! queue max-size-buffers=4 ! fakesink"
                ))?;
                let latency = Latency::of(&run.element("e")?)?;
                run.finish()?;
                let found = latency.rate_and_median()?;
                if found.0 > best.0 {
                    *best = found;
                }
            }
        }
        let [none, ..] = best;
        let columns = best.iter().enumerate().map(|(depth, (rate, latency))| {
            format!(
                "{depth}: {rate:.1} frames/s ({:+.1} %), {:.1} ms",
                100.0 * (rate / none.0 - 1.0),
                milliseconds(*latency)
            )
        });
        println!(
            "{model} {width}x{height} x2, async-depth {}",
            columns.collect::<Vec<_>>().join("; ")
        );
    }
    Ok(())
}

/// When frames arrive at an element and leave it, by timestamp.
#[derive(Default)]
struct Latency {
    arrived: Mutex<HashMap<Option<gst::ClockTime>, Instant>>,
    left: Mutex<Vec<(Instant, Duration)>>,
}

impl Latency {
    fn of(element: &gst::Element) -> Result<Arc<Self>> {
        let latency = Arc::<Self>::default();
        for name in ["sink", "src"] {
            let latency = Arc::clone(&latency);
            let pad = element.static_pad(name).context("a pad is missing")?;
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(buffer) = info.buffer() {
                    latency.note(name == "sink", buffer.pts());
                }
                gst::PadProbeReturn::Ok
            });
        }
        Ok(latency)
    }

    fn note(&self, arrives: bool, pts: Option<gst::ClockTime>) {
        let now = Instant::now();
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        if arrives {
            arrived.insert(pts, now);
        } else if let Some(arrived) = arrived.remove(&pts) {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.push((now, now - arrived));
        }
    }

    /// Frames a second and the median of the time in the element, without the first frames.
    fn rate_and_median(&self) -> Result<(f64, Duration)> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = left.get(4..).context("too few frames")?;
        let (first, last) = (rest.first(), rest.last());
        let (first, last) = first.zip(last).context("too few frames")?;
        let mut times: Vec<_> = rest.iter().map(|&(_, time)| time).collect();
        times.sort_unstable();
        let rate = (rest.len() - 1) as f64 / (last.0 - first.0).as_secs_f64();
        Ok((rate, times[times.len() / 2]))
    }
}

/// Frames between the changes of [`change`].
const BETWEEN: usize = 50;

/// Changes the model of a live stream to weights from a file, and compares the longest frame
/// while they are loaded with that of as many frames before.
fn change() -> Result<()> {
    let weights = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/srresnet/x4.safetensors"
    );
    let (mut while_loading, mut before_it) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let run = Run::of(&format!(
            "videotestsrc is-live=true pattern=ball \
             ! video/x-raw,format=I420,width=400,height=220,framerate={RATE}/1 \
             ! srfilter name=e model=espcn scale=2 reuse=off on-overload=drop ! fakesink sync=false"
        ))?;
        let wait_for = |count: usize| {
            while run.count() < count {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait_for(BETWEEN);
        let element = run.element("e")?;
        let bus = run.pipeline.bus().context("a pipeline has a bus")?;
        // The message is posted between the frame's arrival and its computation.
        let (times, switch) = (Arc::clone(&run.times), Arc::new(Mutex::new(None)));
        let switched = Arc::clone(&switch);
        bus.set_sync_handler(move |_, message| {
            let changed = message
                .structure()
                .is_some_and(|s| s.name() == "srfilter-model-changed");
            if changed {
                let times = times.lock().unwrap_or_else(PoisonError::into_inner);
                let entered = times.entered.map(|entered| entered.elapsed());
                *switched.lock().unwrap_or_else(PoisonError::into_inner) = entered;
            }
            gst::BusSyncReply::Pass
        });
        let (start, before) = (Instant::now(), run.count());
        element.set_property("weights", weights);
        element.set_property("model", "srresnet");
        let switched = || *switch.lock().unwrap_or_else(PoisonError::into_inner);
        while switched().is_none() {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "the model does not load"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let loading = start.elapsed();
        let times = run.stop()?;
        let part = |from: usize, to: usize| Times {
            took: times.took[from..to].to_vec(),
            ..Times::default()
        };
        let after = times.took.len();
        let frames = after - before;
        let calm = part(before - frames.min(before), before);
        let median = part(5, before).sorted(0.5);
        let longest = part(before, after).sorted(1.0);
        let times_median = |time: Duration| time.as_secs_f64() / median.as_secs_f64();
        while_loading.push(times_median(longest));
        before_it.push(times_median(calm.sorted(1.0)));
        println!(
            "espcn 400x220 live, srresnet loads in {:.0} ms, {frames} frames: median {:.2} ms, longest while loading \
             {:.2} ms ({:.2} times the median), longest of as many before {:.2} ms ({:.2} times); \
             the switch takes {:.2} ms",
            milliseconds(loading),
            milliseconds(median),
            milliseconds(longest),
            times_median(longest),
            milliseconds(calm.sorted(1.0)),
            times_median(calm.sorted(1.0)),
            milliseconds(switched().unwrap_or_default()),
        );
    }
    for (when, mut longest) in [("while loading", while_loading), ("before", before_it)] {
        longest.sort_by(f64::total_cmp);
        let (least, most) = (longest[0], longest[longest.len() - 1]);
        let middle = longest[longest.len() / 2];
        println!("longest {when}, times the median: {middle:.2}, from {least:.2} to {most:.2}");
    }
    Ok(())
}

/// Size of the clips of [`reuse`].
const CLIP: (usize, usize) = (1280, 720);

/// Side of the tiles of which 90 % stay the same on a shared screen.
const TILE: usize = 64;

/// Luma of a page of text, scrolled by `scroll` rows.
fn page(scroll: usize) -> Vec<u8> {
    let ink = |x: usize, y: usize| {
        let (column, row) = (x / 2, (y + scroll) / 2);
        let hash = (column * 73 + row * 179 + column * row) % 11;
        row % 9 < 6 && column % 5 < 4 && hash < 4
    };
    let (width, height) = CLIP;
    let pixels = (0..width * height).map(|i| ink(i % width, i / width));
    pixels.map(|ink| if ink { 40 } else { 220 }).collect()
}

/// A shared screen: a window that scrolls on a still page, and a pointer that moves.
fn screen(time: usize) -> Vec<u8> {
    let (mut picture, window) = (page(0), page(2 * time));
    let pointer = 700 + time % 8 * 8;
    for y in 0..CLIP.1 {
        let row = y * CLIP.0;
        if (2 * TILE..6 * TILE).contains(&y) {
            let columns = row + 3 * TILE..row + 8 * TILE;
            picture[columns.clone()].copy_from_slice(&window[columns]);
        }
        if (460..480).contains(&y) {
            picture[row + pointer..row + pointer + 12].fill(0);
        }
    }
    picture
}

/// The mean share of the clip's tiles that do not change from a frame to the next.
fn still_tiles(clip: &[Vec<u8>]) -> f64 {
    let (mut still, mut all) = (0, 0);
    for pair in clip.windows(2) {
        for (top, left) in (0..CLIP.1)
            .step_by(TILE)
            .flat_map(|y| (0..CLIP.0).step_by(TILE).map(move |x| (y, x)))
        {
            let mut rows = top..(top + TILE).min(CLIP.1);
            let tile = |y| y * CLIP.0 + left..y * CLIP.0 + (left + TILE).min(CLIP.0);
            still += u32::from(rows.all(|y| pair[0][tile(y)] == pair[1][tile(y)]));
            all += 1;
        }
    }
    f64::from(still) / f64::from(all)
}

/// What reuse saves: `reuse=auto` against `off`, the best time of
/// each frame in interleaved runs.
fn reuse() -> Result<()> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let area = CLIP.0 * CLIP.1;
    let noise = (0..3).map(|_| (0..area).map(|_| noise()).collect());
    let (shared, still) = compare("shared screen", &(0..16).map(screen).collect::<Vec<_>>())?;
    ensure!(still >= 0.9, "{still} of the screen's tiles are still");
    let (picture, _) = compare("still picture", &[page(0), page(0)])?;
    let (changing, _) = compare("noise", &noise.collect::<Vec<_>>())?;
    ensure!(shared >= 4.0 && picture >= 20.0, "reuse saves too little");
    ensure!(
        changing >= 0.99,
        "reuse costs too much where it does not pay"
    );
    Ok(())
}

/// Returns how many times as fast a clip's frames are with reuse, and the share of
/// its tiles that are still.
fn compare(name: &str, clip: &[Vec<u8>]) -> Result<(f64, f64)> {
    /// Frames of a run: a whole number of the periods in which noise is compared.
    const FRAMES: usize = 18;
    let (format, (width, height)) = (PixelFormat::I420, CLIP);
    let input = FrameSpec::new(format, width, height);
    let spec = UpscaleSpec::scaled(input, Scale::whole(2));
    let model = Model::builtin("espcn")?;
    let chroma = vec![128; width * height / 4];
    let mut upscalers = Vec::new();
    for mode in [Reuse::Off, Reuse::Auto] {
        let options = UpscaleOptions::default();
        let mut upscaler = Upscaler::new(Arc::clone(&model), spec, &options)?;
        upscaler.set_reuse(mode);
        let output = vec![0; 6 * width * height];
        upscalers.push((upscaler, output, [Duration::MAX; FRAMES]));
    }
    for _ in 0..8 {
        // Frame by frame, so that other load meets both.
        for (i, luma) in clip.iter().cycle().take(FRAMES).enumerate() {
            for (upscaler, output, best) in &mut upscalers {
                let planes: [(&[u8], usize); 3] =
                    [(luma, width), (&chroma, width / 2), (&chroma, width / 2)];
                let frame = FrameRef::new(format, CLIP, input.color, &planes)?;
                let (luma, chroma) = output.split_at_mut(4 * width * height);
                let (u, v) = chroma.split_at_mut(width * height);
                let planes = [(luma, 2 * width), (u, width), (v, width)];
                let mut output = FrameMut::new(format, spec.output, input.color, planes)?;
                let start = Instant::now();
                upscaler.process(&frame, &mut output)?;
                best[i] = start.elapsed().min(best[i]);
            }
        }
    }
    let [(_, off_output, off), (upscaler, output, auto)] = &upscalers[..] else {
        anyhow::bail!("two upscalers are compared");
    };
    ensure!(output == off_output, "reuse changes the output");
    let frame = |times: &[Duration]| milliseconds(times.iter().sum()) / FRAMES as f64;
    let (times, still) = (frame(off) / frame(auto), still_tiles(clip));
    println!(
        "espcn 1280x720 to 2560x1440, {name}, {:.1} % of 64x64 tiles still: reuse=off {:.2} ms, \
         reuse=auto {:.2} ms, {times:.3} times as fast, {:.0} % of the work of the last frame reused",
        100.0 * still,
        frame(off),
        frame(auto),
        100.0 * upscaler.reused().share
    );
    Ok((times, still))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The time of each frame in the element `e`.
#[derive(Default, Clone)]
struct Times {
    entered: Option<Instant>,
    took: Vec<Duration>,
    /// Changes of the model because of overload, and when they came.
    changes: Vec<(Duration, String)>,
}

impl Times {
    /// The quantile `part` of the times, without the first frames, which include
    /// loading and cold caches.
    fn quantile(&self, part: f64) -> Duration {
        let took = self.took.iter().skip(5).copied().collect();
        Self {
            took,
            ..Self::default()
        }
        .sorted(part)
    }

    /// The quantile of all times.
    fn sorted(&self, part: f64) -> Duration {
        let mut times = self.took.clone();
        times.sort_unstable();
        let at = (times.len().saturating_sub(1) as f64 * part) as usize;
        times.get(at).copied().unwrap_or_default()
    }
}

/// A playing pipeline with an element `e` whose frames are timed.
struct Run {
    pipeline: gst::Pipeline,
    times: Arc<Mutex<Times>>,
    started: Instant,
}

impl Run {
    fn of(description: &str) -> Result<Self> {
        let pipeline = gst::parse::launch(description)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>();
        let run = Self {
            pipeline: pipeline.ok().context("this is no pipeline")?,
            times: Arc::default(),
            started: Instant::now(),
        };
        let element = run.element("e")?;
        for name in ["sink", "src"] {
            let times = Arc::clone(&run.times);
            let pad = element.static_pad(name).context("a pad is missing")?;
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                if name == "sink" {
                    times.entered = Some(Instant::now());
                } else if let Some(entered) = times.entered.take() {
                    times.took.push(entered.elapsed());
                }
                gst::PadProbeReturn::Ok
            });
        }
        run.pipeline.set_state(gst::State::Playing)?;
        Ok(run)
    }

    fn element(&self, name: &str) -> Result<gst::Element> {
        self.pipeline
            .by_name(name)
            .with_context(|| format!("there is no element {name}"))
    }

    fn times(&self) -> Times {
        let times = self.times.lock();
        times.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.times().took.len()
    }

    /// Plays for at most `time`; an error on the bus ends the run.
    fn wait(&self, time: Duration) -> Result<()> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let end = Instant::now() + time;
        let types = [
            gst::MessageType::Error,
            gst::MessageType::Eos,
            gst::MessageType::Latency,
            gst::MessageType::Element,
        ];
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let Some(message) = bus.timed_pop_filtered(gst::ClockTime::try_from(rest)?, &types)
            else {
                return Ok(());
            };
            match message.view() {
                gst::MessageView::Error(error) => anyhow::bail!("{}", error.error()),
                gst::MessageView::Element(element) => {
                    let change = element.structure();
                    if let Some(change) = change.filter(|s| s.has_name("srfilter-overload")) {
                        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                        times
                            .changes
                            .push((self.started.elapsed(), change.to_string()));
                    }
                }
                gst::MessageView::Latency(_) => self.pipeline.recalculate_latency()?,
                _ => return Ok(()),
            }
        }
    }

    fn stop(self) -> Result<Times> {
        let times = self.times();
        self.pipeline.set_state(gst::State::Null)?;
        Ok(times)
    }

    /// Plays to the end.
    fn finish(self) -> Result<Times> {
        self.wait(Duration::from_secs(3600))?;
        self.stop()
    }
}
