//! The packets of a segment, from a file to what decodes them or sends them elsewhere.

use super::plan::{Plan, Segment, is_shown};
use super::player::{Pipeline, make, missing_plugin, start};
use super::source::{Kind, parser, time_at};
use crate::console::warn;
use crate::paths::partial_file;
use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use std::fmt::{Display, Formatter};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait for the first packet of a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where packets come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// A media file.
    File(&'a Path),
    /// The packets of a segment alone, as written by [`cut`].
    Packets(&'a Path),
}

impl Input<'_> {
    /// For errors.
    pub(crate) fn name(&self) -> String {
        let (Self::File(path) | Self::Packets(path)) = self;
        path.display().to_string()
    }
}

/// Why a segment could not be read or decoded: a seek that failed or led to another place, an
/// error of an element.
#[derive(Debug)]
pub(crate) struct DecodeError(String);

impl Display for DecodeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The packets of a segment, on their way through a pipeline.
pub(super) struct Packets {
    segment: Segment,
    /// Of those of the segment that passed, and their number.
    hash: Mutex<(blake3::Hasher, usize)>,
    /// The pad that they come from, blocked until the seek, and whether one waits there.
    blocked: Mutex<Option<(gst::Pad, gst::PadProbeId)>>,
    waits: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
}

/// What happens to a buffer at a [`gate`].
pub(super) enum Passage {
    Open,
    Closed,
    /// Closed for this one and all that follow.
    Ended,
}

/// Lets some of the buffers that leave an element through, and ends the stream after them.
///
/// The end goes into the next element, not out of this one: events that a decoder sends after
/// that would fail, and with them the pipeline.
pub(super) fn gate(
    pad: &gst::Pad,
    passage: impl Fn(&gst::Pad, &gst::BufferRef) -> Passage + Send + Sync + 'static,
) {
    let has_ended = AtomicBool::new(false);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |pad, info| {
        let was_ended = has_ended.load(Ordering::Relaxed);
        let passage = match info.buffer() {
            _ if was_ended => Passage::Ended,
            Some(buffer) => passage(pad, buffer),
            None => Passage::Open,
        };
        match passage {
            Passage::Open => return gst::PadProbeReturn::Ok,
            Passage::Closed => {}
            Passage::Ended => {
                has_ended.store(true, Ordering::Relaxed);
                if !was_ended && let Some(next) = pad.peer() {
                    next.send_event(gst::event::Eos::new());
                }
                info.flow_res = Err(gst::FlowError::Eos);
            }
        }
        // With GStreamer 1.22, `Drop` of the bindings logs a critical warning for each
        // frame (findings/rust-probe-drop.sh).
        gst::PadProbeReturn::Handled
    });
}

impl Packets {
    pub(super) fn new(segment: &Segment) -> Arc<Self> {
        Arc::new(Self {
            segment: segment.clone(),
            hash: Mutex::default(),
            blocked: Mutex::default(),
            waits: AtomicBool::new(false),
            error: Mutex::default(),
        })
    }

    /// Ends the work with an error, at the next [`Self::check`].
    pub(super) fn fail(&self, error: anyhow::Error) {
        let mut first = lock(&self.error);
        first.get_or_insert(error);
    }

    /// An error that happened so far.
    pub(super) fn check(&self, pipeline: &gst::Pipeline) -> Result<()> {
        if let Some(error) = lock(&self.error).take() {
            return Err(error);
        }
        let bus = pipeline.bus().context("the pipeline has no bus")?;
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Error(error) => {
                    let (before, text) =
                        ("put a deinterlace element before srfilter", error.error());
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

    /// Checks, at the end, that these were the packets of the plan.
    pub(super) fn verify(&self) -> Result<()> {
        let (found, packets) = std::mem::take(&mut *lock(&self.hash));
        if found.finalize().to_hex().as_str() == self.segment.hash {
            return Ok(());
        }
        let problem = format!(
            "this is not the file of the plan: {packets} packets from {:.3} s on, expected {} others",
            self.segment.start as f64 / 1e9,
            self.segment.packets
        );
        Err(DecodeError(problem).into())
    }

    /// Hashes the packets of the segment that arrive at a pad.
    fn hash(self: &Arc<Self>, pad: &gst::Pad) {
        let packets = Arc::clone(self);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let segment = &packets.segment;
            if let Some(buffer) = info.buffer().filter(|buffer| is_shown(buffer))
                && let Some(time) = time_at(pad, buffer)
                && segment.has(time)
            {
                match buffer.map_readable() {
                    Ok(bytes) => {
                        let hash = segment.packet_hash(time, blake3::hash(&bytes));
                        let mut all = lock(&packets.hash);
                        all.0.update(hash.as_bytes());
                        all.1 += 1;
                    }
                    Err(error) => packets.fail(error.into()),
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Links the first video stream of an input to an element, and hashes its packets. The
    /// other streams are not linked. With `seeks`, the packets wait for [`Self::start`].
    pub(super) fn link(
        self: &Arc<Self>,
        pipeline: &gst::Pipeline,
        (input, seeks): (Input<'_>, bool),
        element: &gst::Element,
    ) -> Result<()> {
        let target = element.static_pad("sink").context("no pad")?;
        self.hash(&target);
        let file = match input {
            Input::File(file) => file,
            Input::Packets(file) => {
                File::open(file).map_err(|e| anyhow!("cannot read {}: {e}", file.display()))?;
                let (source, reader) = (make("filesrc")?, make("gdpdepay")?);
                source.set_property("location", file);
                pipeline.add_many([&source, &reader])?;
                return Ok(gst::Element::link_many([&source, &reader, element])?);
            }
        };
        let weak = pipeline.downgrade();
        let packets = Arc::clone(self);
        parser(file, pipeline)?.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let is_video = Kind::of(&caps) == Kind::Video;
            if !is_video || target.is_linked() || weak.upgrade().is_none() {
                return;
            }
            if seeks {
                let kinds = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
                let blocked = Arc::clone(&packets);
                let probe = pad.add_probe(kinds, move |_, _| {
                    blocked.waits.store(true, Ordering::Release);
                    gst::PadProbeReturn::Ok
                });
                *lock(&packets.blocked) = probe.map(|probe| (pad.clone(), probe));
            }
            if let Err(error) = pad.link(&target) {
                packets.fail(anyhow!("the video cannot be decoded: {error}"));
            }
        });
        Ok(())
    }

    /// Starts a pipeline, after a seek to the keyframe if there is one.
    pub(super) fn start(
        &self,
        pipeline: &gst::Pipeline,
        seek: Option<u64>,
        sink: &gst_app::AppSink,
    ) -> Result<()> {
        start(pipeline);
        let Some(keyframe) = seek else {
            return Ok(());
        };
        let begin = Instant::now();
        let (pad, probe) = loop {
            self.check(pipeline)?;
            let waits = self.waits.load(Ordering::Acquire);
            match waits.then(|| lock(&self.blocked).take()).flatten() {
                Some(blocked) => break blocked,
                None if sink.is_eos() => bail!("it has no video"),
                None if begin.elapsed() > PATIENCE => {
                    bail!("nothing could be read for {} s", PATIENCE.as_secs())
                }
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

    /// Hands over what arrives at a sink, until the end.
    pub(super) fn drain(
        &self,
        pipeline: &gst::Pipeline,
        sink: &gst_app::AppSink,
        mut take: impl FnMut(&gst::Sample) -> Result<()>,
    ) -> Result<()> {
        loop {
            self.check(pipeline)?;
            if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                take(&sample)?;
            } else if sink.is_eos() {
                return self.check(pipeline);
            }
        }
    }
}

/// Reads a segment from where its decoding begins, or, where that fails, from the beginning of
/// the file.
pub(super) fn from_keyframe<T>(
    (segment, index): (&Segment, usize),
    read: impl Fn(Option<u64>) -> Result<T>,
) -> Result<T> {
    match read(segment.keyframe) {
        // Some containers cannot seek, or not to the place.
        Err(error) if segment.keyframe.is_some() && error.is::<DecodeError>() => {
            warn(&format!(
                "segment {index} is read from the beginning of the file: {error}"
            ));
            read(None)
        }
        read => read,
    }
}

/// Writes the packets that a segment is decoded from to a file, in GStreamer's own format of
/// streams (GDP), which keeps all that elements know of them.
///
/// # Errors
///
/// An input that is not the plan's, or cannot be read; a full disk.
pub(crate) fn cut(plan: &Plan, index: usize, input: &Path, output: &Path) -> Result<()> {
    let segment = plan.segment(index)?;
    let write = |seek: Option<u64>| -> Result<tempfile::NamedTempFile> {
        let packets = Packets::new(segment);
        let pipeline = Pipeline::new();
        let (first, writer) = (make("identity")?, make("gdppay")?);
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .max_buffers(16)
            .build();
        pipeline.0.add_many([&first, &writer, sink.upcast_ref()])?;
        gst::Element::link_many([&first, &writer, sink.upcast_ref()])?;
        let pad = first.static_pad("src").context("no pad")?;
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
            let Some(gst::PadProbeData::Event(event)) = &mut info.data else {
                return gst::PadProbeReturn::Ok;
            };
            match event.type_() {
                // `gdpdepay` (1.22) cannot read events with objects in them
                // (findings/gdp-of-parsebin.sh).
                gst::EventType::StreamStart => *event = gst::event::StreamStart::new("video"),
                gst::EventType::Caps
                | gst::EventType::Segment
                | gst::EventType::Tag
                | gst::EventType::Eos => {}
                _ => return gst::PadProbeReturn::Handled,
            }
            gst::PadProbeReturn::Ok
        });
        let (counted, count) = (Arc::clone(&packets), segment.packets);
        let is_whole = AtomicBool::new(false);
        gate(&pad, move |_, _| {
            match is_whole.swap(lock(&counted.hash).1 >= count, Ordering::Relaxed) {
                false => Passage::Open,
                true => Passage::Ended,
            }
        });
        packets.link(&pipeline.0, (Input::File(input), seek.is_some()), &first)?;
        let failed = |e| anyhow!("cannot write {}: {e}", output.display());
        let parent = output
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let file = partial_file(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        let mut out = BufWriter::new(file.as_file());
        packets.start(&pipeline.0, seek, &sink)?;
        packets.drain(&pipeline.0, &sink, |sample| {
            let buffer = sample.buffer().context("a sample without a buffer")?;
            out.write_all(&buffer.map_readable()?).map_err(failed)
        })?;
        out.flush().map_err(failed)?;
        drop(out);
        packets.verify()?;
        Ok(file)
    };
    let file = from_keyframe((segment, index), write)?;
    file.persist(output)
        .map_err(|e| anyhow!("cannot write {}: {}", output.display(), e.error))?;
    Ok(())
}
