//! A part of a video: decoded, upscaled and encoded.

use super::plan::{Plan, Segment, Settings, is_shown};
use super::player::{Pipeline, connect, make, missing_plugin};
use super::source::{Kind, parser, time, time_at};
use crate::console::warn;
use crate::paths::partial_file;
use anyhow::{Context, Result, anyhow, bail};
use gst::glib;
use gst::prelude::*;
use gst_video::prelude::*;
use serde::{Deserialize, Serialize};
use srfilter::atomic_file;
use srfilter::engine::DeviceChoice;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait for the first packet of a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Frames that wait at most for the next step.
const FRAMES_AHEAD: u32 = 3;

/// A packet of an encoded segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EncodedPacket {
    /// When it is shown, in nanoseconds of the input.
    pub(crate) time: u64,
    pub(crate) duration: Option<u64>,
    pub(crate) bytes: usize,
    pub(crate) is_key: bool,
}

/// What a segment became, next to the file of its packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`Plan::segment_id`].
    pub(crate) id: String,
    pub(crate) index: usize,
    /// Of the encoded packets.
    pub(crate) caps: String,
    /// BLAKE3 of the upscaled frames, before they were encoded.
    pub(crate) frames_hash: String,
    /// BLAKE3 of the file of the packets.
    pub(crate) hash: String,
    pub(crate) packets: Vec<EncodedPacket>,
}

/// The files of a segment in a folder: packets and manifest.
pub(crate) fn files(folder: &Path, index: usize) -> (PathBuf, PathBuf) {
    let name = |end: &str| folder.join(format!("segment-{index:05}.{end}"));
    (name("packets"), name("json"))
}

impl Manifest {
    /// The manifest of a finished segment of a plan; `None` if it is not there, or is
    /// damaged, or of other settings or another input.
    pub(crate) fn find(plan: &Plan, index: usize, folder: &Path) -> Option<Self> {
        let (packets, manifest) = files(folder, index);
        let manifest: Self = serde_json::from_slice(&std::fs::read(manifest).ok()?).ok()?;
        let segment = plan.segment(index).ok()?;
        let length = std::fs::metadata(&packets).ok()?.len();
        let bytes = manifest.packets.iter().try_fold(0u64, |sum, packet| {
            segment.has(packet.time).then_some(())?;
            sum.checked_add(packet.bytes as u64)
        });
        let is_same = manifest.id == plan.segment_id(index).ok()?
            && manifest.index == index
            && bytes == Some(length);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(packets).ok()?).ok()?;
        (is_same && hasher.finalize().to_hex().as_str() == manifest.hash).then_some(manifest)
    }
}

/// What a segment is computed with on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute {
    pub(crate) device: DeviceChoice,
    pub(crate) threads: u16,
}

/// What the threads of a pipeline share.
struct Shared {
    /// Frames that were upscaled.
    frames: Arc<AtomicU64>,
    raw: Mutex<blake3::Hasher>,
    input: Mutex<(blake3::Hasher, usize)>,
    is_done: AtomicBool,
    /// The pad of the packets, blocked until the seek, and whether a packet waits there.
    blocked: Mutex<Option<(gst::Pad, gst::PadProbeId)>>,
    waits: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

impl Shared {
    fn fail(&self, error: anyhow::Error) {
        let mut first = lock(&self.error);
        first.get_or_insert(error);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes a segment into a folder: first its packets, then its manifest. `frames` counts
/// the frames that are done.
///
/// # Errors
///
/// An input that is not the plan's, or cannot be decoded; a plugin that is not installed; a
/// full disk.
pub(crate) fn run(
    plan: &Plan,
    index: usize,
    (input, folder): (&Path, &Path),
    compute: Compute,
    frames: &Arc<AtomicU64>,
) -> Result<Manifest> {
    let segment = plan.segment(index)?;
    let done = frames.load(Ordering::Relaxed);
    let compute = |seek| compute_packets(plan, (segment, seek), (input, folder), compute, frames);
    let mut found = compute(segment.keyframe);
    // Some containers cannot seek, or not to the place.
    if let Err(error) = &found
        && segment.keyframe.is_some()
        && error.is::<DecodeError>()
    {
        warn(&format!(
            "segment {index} is decoded from the beginning of the file: {error}"
        ));
        frames.store(done, Ordering::Relaxed);
        found = compute(None);
    }
    let found = found?;
    let (packets, manifest) = files(folder, index);
    let Encoded {
        file,
        caps,
        list,
        raw,
        hash,
    } = found;
    file.persist(&packets)
        .map_err(|e| anyhow!("cannot write {}: {}", packets.display(), e.error))?;
    let result = Manifest {
        id: plan.segment_id(index)?,
        index,
        caps,
        frames_hash: raw,
        hash,
        packets: list,
    };
    let text = serde_json::to_vec(&result)?;
    atomic_file::write(&manifest, &text)
        .map_err(|e| anyhow!("cannot write {}: {e}", manifest.display()))?;
    Ok(result)
}

/// Why a segment could not be decoded: a seek that failed or led to another place, an error of
/// an element.
#[derive(Debug)]
struct DecodeError(String);

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

/// The packets of a segment, in a file that has no name yet.
struct Encoded {
    file: tempfile::NamedTempFile,
    caps: String,
    list: Vec<EncodedPacket>,
    raw: String,
    hash: String,
}

/// The element of the settings.
fn filter(settings: &Settings, compute: Compute) -> gst::Element {
    let (num, den) = (settings.scale.num() as i32, settings.scale.den() as i32);
    let element = glib::Object::builder::<gstsrfilter::SrFilter>()
        .property("qos", false)
        .property("scale", gst::Fraction::new(num, den))
        .property("device", compute.device.to_string())
        .property("precision", settings.precision.to_string())
        .property("threads", u32::from(compute.threads))
        .build();
    let element = element.upcast::<gst::Element>();
    match &settings.weights {
        Some(file) => element.set_property("weights", file.to_str()),
        None => element.set_property("model", &settings.model),
    }
    element
}

/// The packets of a segment, from where the file is decoded to begin with it.
fn compute_packets(
    plan: &Plan,
    (segment, seek): (&Segment, Option<u64>),
    (input, folder): (&Path, &Path),
    compute: Compute,
    frames: &Arc<AtomicU64>,
) -> Result<Encoded> {
    let shared = Arc::new(Shared {
        frames: Arc::clone(frames),
        raw: Mutex::default(),
        input: Mutex::default(),
        is_done: AtomicBool::new(false),
        blocked: Mutex::default(),
        waits: AtomicBool::new(false),
        error: Mutex::default(),
    });
    let pipeline = Pipeline::new();
    let parser = parser(input, &pipeline.0)?;
    let (decoder, output, sink) = branch(&plan.settings, segment, compute, &shared, &pipeline.0)?;
    link_video(
        &parser,
        decoder,
        (segment, seek.is_some()),
        &shared,
        &pipeline.0,
    )?;
    let file = partial_file(folder);
    let file = file.map_err(|e| anyhow!("cannot write to {}: {e}", folder.display()))?;
    let mut out = BufWriter::new(file.as_file());
    start(&pipeline.0, seek, &sink, &shared)?;
    let (mut list, mut caps, mut hasher) = (Vec::new(), None, blake3::Hasher::new());
    loop {
        check(&pipeline.0, &shared)?;
        let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) else {
            if sink.is_eos() {
                break;
            }
            continue;
        };
        let buffer = sample.buffer().context("a sample without a buffer")?;
        let Some(time) = time(&sample) else { continue };
        let bytes = buffer.map_readable()?;
        hasher.update(&bytes);
        let written = out.write_all(&bytes);
        written.map_err(|e| anyhow!("cannot write to {}: {e}", folder.display()))?;
        let found = sample.caps_owned();
        if caps.is_some() && caps != found {
            bail!(
                "the size or format of its frames changes at {:.3} s: take the parts one by one, by \
                 --start and --end",
                time as f64 / 1e9
            );
        }
        caps = found;
        list.push(EncodedPacket {
            time,
            duration: buffer.duration().map(gst::ClockTime::nseconds),
            bytes: bytes.len(),
            is_key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        });
    }
    check(&pipeline.0, &shared)?;
    out.flush()
        .map_err(|e| anyhow!("cannot write to {}: {e}", folder.display()))?;
    drop(out);
    file.as_file().sync_all()?;
    let (found, packets) = std::mem::take(&mut *lock(&shared.input));
    if found.finalize().to_hex().as_str() != segment.hash {
        let problem = format!(
            "{} is not the file of the plan: {packets} packets from {:.3} s on, expected {} others",
            input.display(),
            segment.start as f64 / 1e9,
            segment.packets
        );
        return Err(DecodeError(problem).into());
    }
    if list.len() != segment.packets {
        warn(&format!(
            "{} frames from {:.3} s on, of {} packets",
            list.len(),
            segment.start as f64 / 1e9,
            segment.packets
        ));
    }
    let caps = caps.filter(|caps| caps.can_intersect(&output));
    let caps = caps.context("no frame could be decoded")?;
    let raw = lock(&shared.raw).finalize();
    Ok(Encoded {
        file,
        caps: caps.to_string(),
        list,
        raw: raw.to_hex().to_string(),
        hash: hasher.finalize().to_hex().to_string(),
    })
}

/// An error that happened so far.
fn check(pipeline: &gst::Pipeline, shared: &Shared) -> Result<()> {
    if let Some(error) = lock(&shared.error).take() {
        return Err(error);
    }
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Error(error) => {
                let (before, text) = ("put a deinterlace element before srfilter", error.error());
                let problem = text.to_string().replace(before, "add --deinterlace");
                return Err(DecodeError(problem).into());
            }
            gst::MessageView::Element(element) => {
                if let Some(what) = element.structure().and_then(missing_plugin) {
                    bail!("GStreamer has no {what}: install the plugin");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// From a decoder to a sink: the decoder, what comes out, and the sink.
fn branch(
    settings: &Settings,
    segment: &Segment,
    compute: Compute,
    shared: &Arc<Shared>,
    pipeline: &gst::Pipeline,
) -> Result<(gst::Element, gst::Caps, gst_app::AppSink)> {
    let (decoder, before, after) = (
        make("decodebin")?,
        make("videoconvert")?,
        make("videoconvert")?,
    );
    let filter = filter(settings, compute);
    let capsfilter = |caps: &gst::Caps| -> Result<gst::Element> {
        let element = make("capsfilter")?;
        element.set_property("caps", caps);
        Ok(element)
    };
    let raw = settings.encoder.input(settings.bits)?;
    let output = settings.encoder.output()?;
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .max_buffers(16)
        .build();
    let mut chain = vec![before.clone()];
    if settings.deinterlace {
        let deinterlace = make("deinterlace")?;
        // As many frames as before.
        deinterlace.set_property_from_str("fields", "top");
        chain.push(deinterlace);
    }
    let selector = chain.last().cloned().context("no element")?;
    if settings.turn {
        let flip = make("videoflip")?;
        flip.set_property_from_str("video-direction", "auto");
        chain.push(flip);
    }
    chain.extend([queue()?, filter.clone()]);
    if let Some((width, height)) = settings.size {
        let size = gst::Caps::builder("video/x-raw")
            .field("width", width as i32)
            .field("height", height as i32);
        chain.push(capsfilter(&size.build())?);
    }
    let ahead = queue()?;
    chain.extend([ahead.clone(), after, capsfilter(&raw)?]);
    chain.extend(settings.encoder.elements(settings.quality)?);
    chain.extend([capsfilter(&output)?, sink.clone().upcast()]);
    pipeline.add(&decoder)?;
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    connect(&decoder, &before.static_pad("sink").context("no pad")?);
    select(&selector, segment, shared)?;
    hash_frames(&ahead, shared)?;
    Ok((decoder, output, sink))
}

/// A thread of its own for what follows: decoding, upscaling and encoding overlap.
fn queue() -> Result<gst::Element> {
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", FRAMES_AHEAD);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    Ok(queue)
}

/// Lets the frames of a segment through, and ends the stream after them.
///
/// The end goes into the next element, not out of this one: events that a decoder sends after
/// that would fail, and with them the pipeline.
fn select(element: &gst::Element, segment: &Segment, shared: &Arc<Shared>) -> Result<()> {
    let pad = element.static_pad("src").context("no pad")?;
    let (segment, shared) = (segment.clone(), Arc::clone(shared));
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |pad, info| {
        let is_done = shared.is_done.load(Ordering::Relaxed);
        let Some(buffer) = info.buffer() else {
            return match is_done {
                true => gst::PadProbeReturn::Handled,
                false => gst::PadProbeReturn::Ok,
            };
        };
        let time = time_at(pad, buffer);
        if !is_done && time.is_some_and(|time| segment.has(time)) {
            return gst::PadProbeReturn::Ok;
        }
        let is_after = |time| segment.end.is_some_and(|end| time >= end);
        if is_done || time.is_some_and(is_after) {
            if !shared.is_done.swap(true, Ordering::Relaxed)
                && let Some(next) = pad.peer()
            {
                next.send_event(gst::event::Eos::new());
            }
            info.flow_res = Err(gst::FlowError::Eos);
        }
        // With GStreamer 1.22, `Drop` of the bindings logs a critical warning for each
        // frame (findings/rust-probe-drop.sh).
        gst::PadProbeReturn::Handled
    });
    Ok(())
}

/// Hashes the frames that leave an element.
fn hash_frames(element: &gst::Element, shared: &Arc<Shared>) -> Result<()> {
    let pad = element.static_pad("src").context("no pad")?;
    let shared = Arc::clone(shared);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let hashed = || -> Result<()> {
            let (buffer, caps) = (info.buffer(), pad.current_caps());
            let (buffer, caps) = (buffer.context("no buffer")?, caps.context("no caps")?);
            let info = gst_video::VideoInfo::from_caps(&caps)?;
            let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
                .map_err(|_| anyhow!("a frame cannot be read"))?;
            let mut hasher = lock(&shared.raw);
            for plane in 0..frame.n_planes() {
                let (stride, rows) = (
                    frame.plane_stride()[plane as usize],
                    frame.plane_height(plane),
                );
                let row = plane_row(&info, plane);
                let data = frame.plane_data(plane)?;
                let lines = data.chunks(usize::try_from(stride)?).take(rows as usize);
                lines.for_each(|line| {
                    hasher.update(&line[..row.min(line.len())]);
                });
            }
            Ok(())
        };
        if let Err(error) = hashed() {
            shared.fail(error);
        }
        shared.frames.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Bytes of a row of a plane.
fn plane_row(info: &gst_video::VideoInfo, plane: u32) -> usize {
    let components = (0..info.n_components()).filter(|&c| info.comp_plane(c as u8) == plane);
    let ends = components.map(|c| {
        let width = info.comp_width(c as u8) as usize;
        width * info.comp_pstride(c as u8).max(1) as usize
    });
    ends.max().unwrap_or(0)
}

/// Hashes the packets of a segment that arrive at a pad.
fn hash_packets(pad: &gst::Pad, segment: &Segment, shared: &Arc<Shared>) {
    let (segment, shared) = (segment.clone(), Arc::clone(shared));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer().filter(|buffer| is_shown(buffer))
            && let Some(time) = time_at(pad, buffer)
            && segment.has(time)
        {
            match buffer.map_readable() {
                Ok(bytes) => {
                    let hash = segment.packet_hash(time, blake3::hash(&bytes));
                    let mut input = lock(&shared.input);
                    input.0.update(hash.as_bytes());
                    input.1 += 1;
                }
                Err(error) => shared.fail(error.into()),
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Links the first video stream of a parser, whose packets are hashed; the others are not
/// linked.
fn link_video(
    parser: &gst::Element,
    decoder: gst::Element,
    (segment, seeks): (&Segment, bool),
    shared: &Arc<Shared>,
    pipeline: &gst::Pipeline,
) -> Result<()> {
    let input = decoder.static_pad("sink").context("no pad")?;
    hash_packets(&input, segment, shared);
    let weak = pipeline.downgrade();
    let shared = Arc::clone(shared);
    parser.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_video = Kind::of(&caps) == Kind::Video;
        if !is_video || input.is_linked() || weak.upgrade().is_none() {
            return;
        }
        if seeks {
            let kinds = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
            let probed = Arc::clone(&shared);
            let probe = pad.add_probe(kinds, move |_, _| {
                probed.waits.store(true, Ordering::Release);
                gst::PadProbeReturn::Ok
            });
            *lock(&shared.blocked) = probe.map(|probe| (pad.clone(), probe));
        }
        if let Err(error) = pad.link(&input) {
            shared.fail(anyhow!("the video cannot be decoded: {error}"));
        }
    });
    Ok(())
}

/// Starts a pipeline where a segment's decoding begins.
fn start(
    pipeline: &gst::Pipeline,
    seek: Option<u64>,
    sink: &gst_app::AppSink,
    shared: &Shared,
) -> Result<()> {
    // Fails with a message on the bus.
    let _ = pipeline.set_state(gst::State::Playing);
    let Some(keyframe) = seek else {
        return Ok(());
    };
    let start = Instant::now();
    let (pad, probe) = loop {
        check(pipeline, shared)?;
        let waits = shared.waits.load(Ordering::Acquire);
        match waits.then(|| lock(&shared.blocked).take()).flatten() {
            Some(blocked) => break blocked,
            None if sink.is_eos() || start.elapsed() > PATIENCE => bail!("it has no video"),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE;
    let seek = gst::event::Seek::new(
        1.0,
        flags,
        gst::SeekType::Set,
        gst::ClockTime::from_nseconds(keyframe),
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    let seeks = pad.send_event(seek);
    pad.remove_probe(probe);
    match seeks {
        true => Ok(()),
        false => {
            let problem = format!("it cannot be read from {:.3} s on", keyframe as f64 / 1e9);
            Err(DecodeError(problem).into())
        }
    }
}
