//! A part of a video: decoded, upscaled and encoded.

use super::packets::{Input, Packets, Passage, from_keyframe, gate, lock};
use super::plan::{Plan, Segment, Settings};
use super::player::{Pipeline, connect, make};
use super::source::{time, time_at};
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

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
    (input, folder): (Input<'_>, &Path),
    compute: Compute,
    frames: &Arc<AtomicU64>,
) -> Result<Manifest> {
    let segment = plan.segment(index)?;
    let done = frames.load(Ordering::Relaxed);
    let compute = |seek| {
        frames.store(done, Ordering::Relaxed);
        compute_packets(plan, (segment, seek), (input, folder), compute, frames)
    };
    let found = match input {
        Input::File(_) => from_keyframe((segment, index), compute)?,
        // They begin with the keyframe.
        Input::Packets(_) => compute(None)?,
    };
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
        .property("damage", settings.damage.to_string())
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
    (input, folder): (Input<'_>, &Path),
    compute: Compute,
    frames: &Arc<AtomicU64>,
) -> Result<Encoded> {
    let packets = Packets::new(segment);
    let frames = FrameHash {
        count: Arc::clone(frames),
        hash: Arc::default(),
    };
    let pipeline = Pipeline::new();
    let (decoder, output, sink) = branch(
        (&plan.settings, segment),
        compute,
        (&packets, &frames),
        &pipeline.0,
    )?;
    packets.link(&pipeline.0, (input, seek.is_some()), &decoder)?;
    let file = partial_file(folder);
    let file = file.map_err(|e| anyhow!("cannot write to {}: {e}", folder.display()))?;
    let mut out = BufWriter::new(file.as_file());
    packets.start(&pipeline.0, seek, &sink)?;
    let (mut list, mut caps, mut hasher) = (Vec::new(), None, blake3::Hasher::new());
    packets.drain(&pipeline.0, &sink, |sample| {
        let buffer = sample.buffer().context("a sample without a buffer")?;
        let Some(time) = time(sample) else {
            return Ok(());
        };
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
        Ok(())
    })?;
    out.flush()
        .map_err(|e| anyhow!("cannot write to {}: {e}", folder.display()))?;
    drop(out);
    file.as_file().sync_all()?;
    packets.verify()?;
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
    let raw = lock(&frames.hash).finalize();
    Ok(Encoded {
        file,
        caps: caps.to_string(),
        list,
        raw: raw.to_hex().to_string(),
        hash: hasher.finalize().to_hex().to_string(),
    })
}

/// From a decoder to a sink: the decoder, what comes out, and the sink.
fn branch(
    (settings, segment): (&Settings, &Segment),
    compute: Compute,
    (packets, frames): (&Arc<Packets>, &FrameHash),
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
    let encoder = settings.encoder;
    chain.extend(encoder.elements(settings.quality, &settings.hdr)?);
    chain.extend([capsfilter(&output)?, sink.clone().upcast()]);
    pipeline.add(&decoder)?;
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    connect(&decoder, &before.static_pad("sink").context("no pad")?);
    let selected = segment.clone();
    let pad = selector.static_pad("src").context("no pad")?;
    gate(&pad, move |pad, frame| match time_at(pad, frame) {
        Some(time) if selected.has(time) => Passage::Open,
        Some(time) if selected.end.is_some_and(|end| time >= end) => Passage::Ended,
        _ => Passage::Closed,
    });
    frames.watch(&ahead.static_pad("src").context("no pad")?, packets);
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

/// The hash of the upscaled frames, and their number.
struct FrameHash {
    count: Arc<AtomicU64>,
    hash: Arc<Mutex<blake3::Hasher>>,
}

impl FrameHash {
    /// Hashes the frames that leave a pad; what fails ends the work on the packets.
    fn watch(&self, pad: &gst::Pad, packets: &Arc<Packets>) {
        let (count, hash) = (Arc::clone(&self.count), Arc::clone(&self.hash));
        let packets = Arc::clone(packets);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let hashed = || -> Result<()> {
                let (buffer, caps) = (info.buffer(), pad.current_caps());
                let (buffer, caps) = (buffer.context("no buffer")?, caps.context("no caps")?);
                hash_frame(buffer, &caps, &mut lock(&hash))
            };
            if let Err(error) = hashed() {
                packets.fail(error);
            }
            count.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    }
}

/// Hashes the rows of a frame, without what lies between them.
fn hash_frame(
    buffer: &gst::BufferRef,
    caps: &gst::CapsRef,
    hasher: &mut blake3::Hasher,
) -> Result<()> {
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
        .map_err(|_| anyhow!("a frame cannot be read"))?;
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
