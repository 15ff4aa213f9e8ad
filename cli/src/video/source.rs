//! The packets of a media file, by demultiplexing and parsing alone.

use super::player::{Pipeline, make, missing_plugin, start};
use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Packets that wait at most.
const WAITING: usize = 64;

/// What comes out of a file.
pub(crate) enum Item {
    /// A stream, before its first packet.
    Stream { index: usize, stream: Stream },
    /// A packet of the stream of that index.
    Packet { index: usize, sample: gst::Sample },
}

/// A stream of a file.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) kind: Kind,
    pub(crate) caps: gst::Caps,
    pub(crate) tags: Option<gst::TagList>,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
    Text,
    Other,
}

impl Kind {
    /// By the media type of the packets.
    pub(crate) fn of(caps: &gst::Caps) -> Self {
        let name = caps.structure(0).map_or("", |structure| structure.name());
        match name.split('/').next() {
            Some("video" | "image") => Self::Video,
            Some("audio") => Self::Audio,
            Some("text" | "subtitle" | "subpicture") => Self::Text,
            _ if ["x-ssa", "x-ass", "x-usf", "subtitle"]
                .iter()
                .any(|s| name.contains(s)) =>
            {
                Self::Text
            }
            _ => Self::Other,
        }
    }
}

/// A file that is being read; stops when it is dropped.
pub(crate) struct Source {
    /// For errors.
    name: String,
    pipeline: Pipeline,
    items: Receiver<Item>,
    /// Whether all packets have been handed over.
    ended: bool,
    /// The chapters, once they are known.
    pub(crate) toc: Option<gst::Toc>,
    /// Tags of the file as a whole.
    pub(crate) tags: gst::TagList,
}

impl Drop for Source {
    fn drop(&mut self) {
        // Threads that wait to hand over a packet go on, and fail.
        let (_, closed) = sync_channel(0);
        self.items = closed;
    }
}

/// What a Matroska file begins with.
const MATROSKA: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// `filesrc ! parsebin` for a file.
///
/// # Errors
///
/// A file that cannot be read, a plugin that is not installed.
pub(crate) fn parser(file: &Path, pipeline: &gst::Pipeline) -> Result<gst::Element> {
    let name = file.display();
    let mut first = Vec::new();
    let read = File::open(file).and_then(|file| file.take(4).read_to_end(&mut first));
    read.map_err(|e| anyhow!("cannot read {name}: {e}"))?;
    let (source, parser) = (make("filesrc")?, make("parsebin")?);
    source.set_property("location", file);
    pipeline.add_many([&source, &parser])?;
    source.link(&parser)?;
    if first == MATROSKA {
        parser.connect_pad_added(|_, pad| keep_times(pad));
    }
    Ok(parser)
}

/// Lets the times of packets be those of the file. GStreamer's demultiplexer of Matroska
/// (1.22) counts from the first packet on, until one of another stream comes that is
/// earlier, and from 0 on after that.
fn keep_times(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &mut info.data
            && let gst::EventView::Segment(segment) = event.view()
            && segment.segment().format() == gst::Format::Time
        {
            let times = gst::FormattedSegment::<gst::ClockTime>::new();
            *event = gst::event::Segment::builder(&times)
                .seqnum(event.seqnum())
                .build();
        }
        gst::PadProbeReturn::Ok
    });
}

/// When a packet or frame is shown: its stream time, the position in the file.
pub(crate) fn time(sample: &gst::Sample) -> Option<u64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    stream_time(segment, sample.buffer()?)
}

/// When a buffer that arrives at a pad, or leaves it, is shown.
pub(crate) fn time_at(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<u64> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    stream_time(segment, buffer)
}

/// The stream time of a buffer in nanoseconds.
fn stream_time(
    segment: &gst::FormattedSegment<gst::ClockTime>,
    buffer: &gst::BufferRef,
) -> Option<u64> {
    // Packets of AVI files are not all marked with when they are shown.
    let time = segment.to_stream_time(buffer.pts().or(buffer.dts())?)?;
    Some(time.nseconds())
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// A file that does not exist, a plugin that is not installed.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        if !file.is_file() {
            bail!("cannot find {}: no such file", file.display());
        }
        let pipeline = Pipeline::new();
        let parser = parser(file, &pipeline.0)?;
        let (sender, items) = sync_channel(WAITING);
        let (weak, mut count) = (pipeline.0.downgrade(), 0);
        let next = std::sync::Mutex::new(move || {
            count += 1;
            count - 1
        });
        parser.connect_pad_added(move |_, pad| {
            let index = next.lock().map_or(0, |mut next| next());
            if let Some(pipeline) = weak.upgrade()
                && collect(&pipeline, pad, index, sender.clone()).is_err()
            {
                gst::element_error!(pipeline, gst::CoreError::Pad, ("a stream cannot be read"));
            }
        });
        start(&pipeline.0);
        Ok(Self {
            name: file.display().to_string(),
            pipeline,
            items,
            ended: false,
            toc: None,
            tags: gst::TagList::new(),
        })
    }

    /// The next stream or packet; `None` at the end.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, with what GStreamer lacks.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        let bus = self.pipeline.0.bus().context("the pipeline has no bus")?;
        loop {
            while let Some(message) = bus.pop() {
                self.note(&message)?;
            }
            if self.ended {
                return Ok(self.items.try_recv().ok());
            }
            match self.items.recv_timeout(Duration::from_millis(20)) {
                Ok(item) => return Ok(Some(item)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
    }

    fn note(&mut self, message: &gst::Message) -> Result<()> {
        match message.view() {
            gst::MessageView::Eos(_) => self.ended = true,
            gst::MessageView::Error(error) => bail!("cannot read {}: {}", self.name, error.error()),
            gst::MessageView::Toc(toc) => self.toc = Some(toc.toc().0),
            gst::MessageView::Tag(tag) if tag.tags().scope() == gst::TagScope::Global => {
                self.tags = self.tags.merge(&tag.tags(), gst::TagMergeMode::Keep);
            }
            gst::MessageView::Element(element) => {
                if let Some(what) = element.structure().and_then(missing_plugin) {
                    bail!(
                        "cannot read {}: GStreamer has no {what}: install the plugin",
                        self.name
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Hands over the packets of a pad.
fn collect(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    index: usize,
    sender: SyncSender<Item>,
) -> Result<()> {
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .build();
    let mut is_known = false;
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let closed = |_| gst::FlowError::Eos;
        if !is_known {
            is_known = true;
            let caps = sample.caps_owned().ok_or(gst::FlowError::NotNegotiated)?;
            let tags = sink.static_pad("sink").and_then(|pad| {
                let events = (0..).map_while(|i| pad.sticky_event::<gst::event::Tag>(i));
                let mut tags = events.map(|event| event.tag_owned());
                tags.find(|tags| tags.scope() == gst::TagScope::Stream)
            });
            let kind = Kind::of(&caps);
            let stream = Stream { kind, caps, tags };
            sender
                .send(Item::Stream { index, stream })
                .map_err(closed)?;
        }
        sender
            .send(Item::Packet { index, sample })
            .map_err(closed)?;
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    pipeline.add(&sink)?;
    sink.sync_state_with_parent()?;
    pad.link(&sink.static_pad("sink").context("no pad")?)?;
    Ok(())
}
