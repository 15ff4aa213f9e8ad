//! Segments, and the other streams of the input, as one file.

use super::encoder::{Encoder, Hdr};
use super::matroska::Corrections;
use super::plan::Plan;
use super::player::{Pipeline, make, start};
use super::segment::{EncodedPacket, Manifest, files};
use super::source::{Item, Kind, Source, Stream, parser, time, time_at};
use crate::paths::partial_file;
use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of a stream that wait for others at most.
const WAITING: u32 = 256 << 20;

/// The kinds of files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container {
    muxer: &'static str,
    extensions: &'static [&'static str],
    /// Whether the muxer writes HDR metadata; that of MP4 (GStreamer 1.22, and the source of
    /// 1.29.2) does not.
    holds_hdr: bool,
    /// The package of Debian and Ubuntu.
    package: &'static str,
}

const CONTAINERS: [Container; 4] = [
    Container {
        muxer: "matroskamux",
        extensions: &["mkv"],
        holds_hdr: true,
        package: "gstreamer1.0-plugins-good",
    },
    Container {
        muxer: "webmmux",
        extensions: &["webm"],
        holds_hdr: true,
        package: "gstreamer1.0-plugins-good",
    },
    Container {
        muxer: "mp4mux",
        extensions: &["mp4", "m4v"],
        holds_hdr: false,
        package: "gstreamer1.0-plugins-good",
    },
    Container {
        muxer: "qtmux",
        extensions: &["mov"],
        holds_hdr: false,
        package: "gstreamer1.0-plugins-good",
    },
];

impl Container {
    /// By the extension of a file's name, which takes what the encoder makes.
    ///
    /// # Errors
    ///
    /// An unknown extension, a plugin that is not installed, a container that does not take
    /// the codec.
    pub(crate) fn of(file: &Path, encoder: Encoder) -> Result<Self> {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let extension = extension.unwrap_or_default().to_lowercase();
        let known = CONTAINERS
            .into_iter()
            .find(|c| c.extensions.contains(&extension.as_str()));
        let Some(container) = known else {
            bail!(
                "{}: the extension is none of mkv, webm, mp4, m4v, mov",
                file.display()
            );
        };
        if gst::ElementFactory::find(container.muxer).is_none() {
            bail!(
                "GStreamer has no {} ({} on Debian and Ubuntu)",
                container.muxer,
                container.package
            );
        }
        if !container.takes("video_%u", &encoder.output()?)? {
            bail!(
                "{extension} files hold no {} video: use mkv",
                encoder.name()
            );
        }
        Ok(container)
    }

    /// Whether the container holds such a stream.
    fn takes(&self, pad: &str, caps: &gst::Caps) -> Result<bool> {
        let factory = gst::ElementFactory::find(self.muxer).context("the muxer is gone")?;
        let mut templates = factory.static_pad_templates().into_iter();
        let takes = |template: gst::StaticPadTemplate| {
            template.name_template() == pad && template.caps().can_intersect(caps)
        };
        Ok(templates.any(takes))
    }
}

/// The streams of a file but the video that is upscaled.
pub(crate) struct Others {
    /// Of each stream, by its index in the file.
    streams: Vec<(usize, Stream)>,
    /// The packets of subtitles.
    texts: Vec<(usize, gst::Sample)>,
    /// The video that is upscaled.
    video: Option<Stream>,
    toc: Option<gst::Toc>,
    tags: gst::TagList,
}

impl Others {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub(crate) fn read(input: &Path) -> Result<Self> {
        let mut source = Source::open(input)?;
        let (mut streams, mut texts, mut video) = (Vec::<(usize, Stream)>::new(), Vec::new(), None);
        let mut is_first = true;
        while let Some(item) = source.next()? {
            match item {
                Item::Stream { stream, .. } if stream.kind == Kind::Video && is_first => {
                    is_first = false;
                    video = Some(stream);
                }
                Item::Stream { index, stream } => streams.push((index, stream)),
                Item::Packet { index, sample } => {
                    let is_text =
                        |(i, stream): &(usize, Stream)| *i == index && stream.kind == Kind::Text;
                    if streams.iter().any(is_text) {
                        texts.push((index, sample));
                    }
                }
            }
        }
        streams.sort_by_key(|(index, _)| *index);
        Ok(Self {
            streams,
            texts,
            video,
            toc: source.toc.clone(),
            tags: source.tags.clone(),
        })
    }

    /// What a Matroska file with a video of those caps is to hold.
    fn corrections(&self, caps: &gst::CapsRef) -> Corrections {
        let mut corrections = Corrections::default();
        corrections.set_luminances(caps);
        corrections.add_texts(&self.tags);
        let streams = self.streams.iter().map(|(_, stream)| stream);
        let tags = streams.chain(&self.video).filter_map(|s| s.tags.as_ref());
        tags.for_each(|tags| corrections.add_texts(tags));
        corrections
    }

    /// What a container does not hold, in words.
    ///
    /// # Errors
    ///
    /// A plugin that is not installed.
    pub(crate) fn lost(&self, container: &Container, encoder: Encoder) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for (index, stream) in &self.streams {
            if pad_for(container, stream)?.is_none() {
                let name = stream.caps.structure(0).map_or("?", |s| s.name());
                lost.push(match stream.kind {
                    Kind::Video => format!("stream {index} (another video)"),
                    _ => format!("stream {index} ({name})"),
                });
            }
        }
        if self.toc.is_some() && container.muxer != "matroskamux" {
            lost.push("the chapters".to_owned());
        }
        let video = self.video.as_ref();
        let is_hdr = video.is_some_and(|video| !Hdr::of(&video.caps).is_empty());
        if is_hdr && !container.holds_hdr && !encoder.writes_hdr() {
            lost.push(format!("the HDR metadata of {} video", encoder.name()));
        }
        Ok(lost)
    }
}

/// The error for what is lost.
pub(crate) fn cannot_hold(output: &Path, lost: &[String]) -> String {
    let is_mkv = output
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("mkv"));
    let remedy = if is_mkv {
        "leave it out by --drop"
    } else {
        "use mkv, or --drop"
    };
    format!(
        "{} cannot hold {}: {remedy}",
        output.display(),
        lost.join(", ")
    )
}

/// The kind of pad that takes a stream, and the caps that it is given.
fn pad_for(container: &Container, stream: &Stream) -> Result<Option<(&'static str, gst::Caps)>> {
    let pad = match stream.kind {
        Kind::Audio => "audio_%u",
        Kind::Text => "subtitle_%u",
        Kind::Video => "video_%u",
        Kind::Other => return Ok(None),
    };
    let mut caps = stream.caps.clone();
    // Matroska's texts, marked up as they may be, go back as they came.
    if caps.structure(0).is_some_and(|s| s.name() == "text/x-raw") {
        caps.make_mut().set("format", "utf8");
    }
    // Of transport streams: containers take it without its headers.
    if is_adts(&stream.caps) {
        caps.make_mut().set("stream-format", "raw");
    }
    let fits = stream.kind != Kind::Video && container.takes(pad, &caps)?;
    Ok(fits.then_some((pad, caps)))
}

/// Whether it is AAC whose packets have headers.
fn is_adts(caps: &gst::Caps) -> bool {
    let format = caps
        .structure(0)
        .and_then(|s| s.get::<String>("stream-format").ok());
    format.is_some_and(|format| format == "adts")
}

/// When packets are decoded: in nanoseconds, before each is shown, ascending; negative
/// before the first picture.
fn decoding_times(packets: &[EncodedPacket]) -> Vec<i64> {
    let mut shown: Vec<i64> = packets.iter().map(|packet| packet.time as i64).collect();
    let times = shown.clone();
    shown.sort_unstable();
    // By so many packets decoding is ahead.
    let fits = |delay: &usize| {
        let pairs = times.iter().skip(*delay).zip(&shown);
        pairs.into_iter().all(|(time, decoded)| decoded <= time)
    };
    let delay = (0..times.len()).find(fits).unwrap_or(0);
    let step = shown.get(1).map_or(1, |second| (second - shown[0]).max(1));
    let before = (1..=delay as i64)
        .rev()
        .map(|i| shown.first().unwrap_or(&0) - i * step);
    before
        .chain(shown.iter().copied())
        .take(times.len())
        .collect()
}

/// Units a second that times in nanoseconds, rounded, are whole numbers of.
fn timescale(times: &[u64]) -> u32 {
    const SCALES: [u32; 10] = [
        1_000, 12_800, 15_360, 24_000, 25_000, 30_000, 50_000, 60_000, 90_000, 1_000_000,
    ];
    let fits = |scale: &u32| {
        let scale = f64::from(*scale);
        times.iter().all(|&time| {
            let units = time as f64 * scale / 1e9;
            // Times are cut off to nanoseconds.
            (units - units.round()).abs() <= 2e-9 * scale
        })
    };
    SCALES.into_iter().find(fits).unwrap_or(1_000_000)
}

/// Joins the segments in a folder with the other streams of the input to a file, which is
/// there when it is whole. Without `drop`, what the container does not hold is an error.
///
/// # Errors
///
/// Segments that are missing or do not fit each other, a full disk.
pub(crate) fn run(
    plan: &Plan,
    (input, folder): (&Path, &Path),
    output: &Path,
    drop: bool,
) -> Result<()> {
    let container = Container::of(output, plan.settings.encoder)?;
    let others = Others::read(input)?;
    let lost = others.lost(&container, plan.settings.encoder)?;
    if !lost.is_empty() && !drop {
        bail!("{}", cannot_hold(output, &lost));
    }
    let mut segments = Vec::new();
    for index in 0..plan.segments.len() {
        let found = Manifest::find(plan, index, folder);
        segments.push(found.with_context(|| {
            format!(
                "segment {index} is missing in {}, or damaged",
                folder.display()
            )
        })?);
    }
    let caps = &segments.first().context("the plan has no segments")?.caps;
    if let Some(other) = segments.iter().find(|segment| segment.caps != *caps) {
        bail!(
            "segment {} does not fit the first one: its size or format differs",
            other.index
        );
    }
    let parent = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let file = partial_file(parent.unwrap_or(Path::new(".")));
    let file = file.map_err(|e| anyhow!("cannot write {}: {e}", output.display()))?;
    let job = Joining {
        plan,
        input,
        folder,
        container,
        others: &others,
        segments: &segments,
    };
    let written = job.write(file.path());
    written
        .and_then(|()| match container.muxer {
            "matroskamux" | "webmmux" => {
                let caps: gst::Caps = caps.parse()?;
                others.corrections(&caps).apply(file.path())
            }
            _ => Ok(()),
        })
        .map_err(|e| anyhow!("cannot write {}: {e}", output.display()))?;
    file.as_file().sync_all()?;
    file.persist(output)
        .map_err(|e| anyhow!("cannot write {}: {}", output.display(), e.error))?;
    Ok(())
}

/// What is joined.
struct Joining<'a> {
    plan: &'a Plan,
    input: &'a Path,
    folder: &'a Path,
    container: Container,
    others: &'a Others,
    segments: &'a [Manifest],
}

impl Joining<'_> {
    /// The time of a file in the part that is taken.
    fn shifted(&self, time: u64) -> Option<u64> {
        let inside = self.plan.end.is_none_or(|end| time < end);
        time.checked_sub(self.plan.start.unwrap_or(0))
            .filter(|_| inside)
    }

    /// The chapters of the part that is taken.
    fn shifted_toc(&self, toc: &gst::Toc) -> gst::Toc {
        let mut shifted = gst::Toc::new(toc.scope());
        let (start, end) = (self.plan.start.unwrap_or(0), self.plan.end);
        for entry in toc.entries() {
            if let Some(entry) = shifted_entry(&entry, start, end.unwrap_or(u64::MAX)) {
                shifted.make_mut().append_entry(entry);
            }
        }
        shifted
    }

    fn write(&self, file: &Path) -> Result<()> {
        let pipeline = Pipeline::new();
        let (muxer, sink) = (make(self.container.muxer)?, make("filesink")?);
        sink.set_property("location", file);
        sink.set_property("sync", false);
        pipeline.0.add_many([&muxer, &sink])?;
        muxer.link(&sink)?;
        self.fix_identity(&muxer)?;
        if let Some(setter) = muxer.dynamic_cast_ref::<gst::TocSetter>()
            && let Some(toc) = &self.others.toc
        {
            setter.set_toc(Some(&self.shifted_toc(toc)));
        }
        if let Some(setter) = muxer.dynamic_cast_ref::<gst::TagSetter>() {
            setter.merge_tags(&self.others.tags, gst::TagMergeMode::Replace);
        }
        let caps = &self.segments.first().context("no segments")?.caps;
        let mut caps: gst::Caps = caps.parse()?;
        // Muxers (of GStreamer 1.22) and encoders spell it in two ways.
        if let Some(structure) = caps.make_mut().structure_mut(0)
            && structure.name() == "video/x-ffv"
        {
            structure.set("ffversion", 1);
        }
        let video = self.feed(&pipeline.0, &muxer, "video_%u", &caps)?;
        self.set_timescale(&muxer);
        let input = self.others.video.as_ref();
        if let Some(tags) = input.and_then(|input| input.tags.as_ref()) {
            let tags = without_codec(tags);
            video.send_event(gst::event::Tag::new(tags));
        }
        let (mut texts, mut sound) = (Vec::new(), Vec::new());
        for (index, stream) in &self.others.streams {
            let Some((pad, caps)) = pad_for(&self.container, stream)? else {
                continue;
            };
            if stream.kind == Kind::Audio {
                sound.push((*index, self.queue(&pipeline.0, &muxer, (pad, stream))?));
                continue;
            }
            let feed = self.feed(&pipeline.0, &muxer, pad, &caps)?;
            if let Some(tags) = &stream.tags {
                feed.send_event(gst::event::Tag::new(tags.clone()));
            }
            texts.push((*index, feed));
        }
        if !sound.is_empty() {
            self.link_audio(&pipeline.0, sound)?;
        }
        start(&pipeline.0);
        let (folder, segments) = (self.folder.to_owned(), self.segments.to_vec());
        let shift = self.plan.start.unwrap_or(0);
        std::thread::scope(|scope| {
            let video = scope.spawn(move || {
                let fed = feed_video(&video, &folder, &segments, shift);
                // After a failure, too: else the others wait for more.
                let _ = video.end_of_stream();
                fed
            });
            for (index, feed) in &texts {
                let packets = self.others.texts.iter().filter(|(of, _)| of == index);
                for (_, sample) in packets {
                    let time = time(sample).and_then(|time| self.shifted(time));
                    let (Some(buffer), Some(time)) = (sample.buffer(), time) else {
                        continue;
                    };
                    let mut buffer = buffer.copy();
                    let copy = buffer.make_mut();
                    copy.set_pts(gst::ClockTime::from_nseconds(time));
                    copy.set_dts(gst::ClockTime::NONE);
                    let _ = feed.push_buffer(buffer);
                }
                let _ = feed.end_of_stream();
            }
            let ended = wait(&pipeline.0);
            if ended.is_err() {
                // The thread that feeds the video ends with the pipeline.
                let _ = pipeline.0.set_state(gst::State::Null);
            }
            let fed = video
                .join()
                .map_err(|_| anyhow!("the video was not read"))?;
            ended.and(fed)
        })
    }

    /// Lets the same work give the same Matroska file: its random numbers come from the
    /// segments, and its date is the input's.
    fn fix_identity(&self, muxer: &gst::Element) -> Result<()> {
        if !muxer.has_property("creation-time") {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        for segment in self.segments {
            hasher.update(segment.id.as_bytes());
        }
        let seed = u32::from_le_bytes(
            *hasher
                .finalize()
                .as_bytes()
                .first_chunk()
                .unwrap_or(&[0; 4]),
        );
        gst::glib::random_set_seed(seed);
        let changed = std::fs::metadata(self.input)?.modified()?;
        let seconds = changed
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let date = gst::glib::DateTime::from_unix_utc(i64::try_from(seconds)?)?;
        muxer.set_property("creation-time", date);
        Ok(())
    }

    /// Sets the units of time in MP4 and MOV files to some that all frames are whole numbers
    /// of, where there are such.
    fn set_timescale(&self, muxer: &gst::Element) {
        let video = muxer
            .sink_pads()
            .into_iter()
            .find(|pad| pad.name().starts_with("video"));
        let Some(video) = video.filter(|pad| pad.has_property("trak-timescale")) else {
            return;
        };
        let shift = self.plan.start.unwrap_or(0);
        let packets = self.segments.iter().flat_map(|segment| &segment.packets);
        let times: Vec<u64> = packets.map(|packet| packet.time - shift).collect();
        let scale = timescale(&times);
        video.set_property("trak-timescale", scale);
        if muxer.has_property("movie-timescale") {
            muxer.set_property("movie-timescale", scale);
        }
    }

    /// A source of packets for a pad of the muxer.
    fn feed(
        &self,
        pipeline: &gst::Pipeline,
        muxer: &gst::Element,
        pad: &str,
        caps: &gst::Caps,
    ) -> Result<gst_app::AppSrc> {
        let source = gst_app::AppSrc::builder()
            .caps(caps)
            .format(gst::Format::Time)
            .handle_segment_change(true)
            .block(pad == "video_%u")
            .max_bytes(if pad == "video_%u" { 8 << 20 } else { 0 })
            .build();
        pipeline.add(&source)?;
        let pad = muxer
            .request_pad_simple(pad)
            .context("the muxer has no pad")?;
        source.static_pad("src").context("no pad")?.link(&pad)?;
        Ok(source)
    }

    /// A queue for sound to a pad of the muxer, of the part that is taken.
    fn queue(
        &self,
        pipeline: &gst::Pipeline,
        muxer: &gst::Element,
        (pad, stream): (&str, &Stream),
    ) -> Result<gst::Pad> {
        let queue = make("queue")?;
        queue.set_property("max-size-bytes", WAITING);
        queue.set_property("max-size-buffers", 0u32);
        queue.set_property("max-size-time", 0u64);
        pipeline.add(&queue)?;
        let target = muxer
            .request_pad_simple(pad)
            .context("the muxer has no pad")?;
        let (sink, source) = (queue.static_pad("sink"), queue.static_pad("src"));
        let (sink, source) = sink.zip(source).context("no pad")?;
        if is_adts(&stream.caps) {
            let parser = make("aacparse")?;
            pipeline.add(&parser)?;
            queue.link(&parser)?;
            parser.static_pad("src").context("no pad")?.link(&target)?;
        } else {
            source.link(&target)?;
        }
        // The muxer has the chapters already, of the part that is taken.
        sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
            let is_toc = info
                .event()
                .is_some_and(|event| event.type_() == gst::EventType::Toc);
            match is_toc {
                true => gst::PadProbeReturn::Handled,
                false => gst::PadProbeReturn::Ok,
            }
        });
        let (start, end) = (self.plan.start.unwrap_or(0), self.plan.end);
        if start > 0 || end.is_some() {
            source.set_offset(-(start as i64));
            sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                let time = info.buffer().and_then(|buffer| time_at(pad, buffer));
                let inside = |time| time >= start && end.is_none_or(|end| time < end);
                match time.is_some_and(inside) {
                    true => gst::PadProbeReturn::Ok,
                    // As in `Player`.
                    false => gst::PadProbeReturn::Handled,
                }
            });
        }
        Ok(sink)
    }

    /// Links the sound of the input, streams by their index, as it is.
    fn link_audio(&self, pipeline: &gst::Pipeline, sound: Vec<(usize, gst::Pad)>) -> Result<()> {
        let parser = parser(self.input, pipeline)?;
        let count = AtomicUsize::new(0);
        let weak = pipeline.downgrade();
        parser.connect_pad_added(move |_, pad| {
            let index = count.fetch_add(1, Ordering::Relaxed);
            let target = sound.iter().find(|(of, _)| *of == index);
            let ignored = || -> Option<gst::Pad> {
                let (pipeline, sink) = (weak.upgrade()?, make("fakesink").ok()?);
                sink.set_property("async", false);
                sink.set_property("sync", false);
                pipeline.add(&sink).ok()?;
                sink.sync_state_with_parent().ok()?;
                sink.static_pad("sink")
            };
            let target = target.map(|(_, pad)| pad.clone()).or_else(ignored);
            // An error of the stream follows.
            let _ = target.map(|target| pad.link(&target));
        });
        Ok(())
    }
}

/// A chapter of the part from `start` to `end`, and those in it.
fn shifted_entry(entry: &gst::TocEntry, start: u64, end: u64) -> Option<gst::TocEntry> {
    let mut shifted = gst::TocEntry::new(entry.entry_type(), entry.uid());
    let new = shifted.make_mut();
    if let Some((from, to)) = entry.start_stop_times() {
        let clipped = (from.max(0) as u64).max(start)..(to.max(0) as u64).min(end);
        if clipped.is_empty() && to > from {
            return None;
        }
        let times = (
            clipped.start.saturating_sub(start),
            clipped.end.saturating_sub(start),
        );
        new.set_start_stop_times(times.0 as i64, times.1 as i64);
    }
    if let Some(tags) = entry.tags() {
        new.set_tags(tags);
    }
    for inner in entry.sub_entries() {
        if let Some(inner) = shifted_entry(&inner, start, end) {
            new.append_sub_entry(inner);
        }
    }
    Some(shifted)
}

/// Tags without what is true of the former encoding only.
fn without_codec(tags: &gst::TagList) -> gst::TagList {
    let mut tags = tags.clone();
    let kept = tags.make_mut();
    kept.remove::<gst::tags::VideoCodec>();
    kept.remove::<gst::tags::Codec>();
    kept.remove::<gst::tags::Bitrate>();
    kept.remove::<gst::tags::NominalBitrate>();
    kept.remove::<gst::tags::MaximumBitrate>();
    kept.remove::<gst::tags::MinimumBitrate>();
    kept.remove::<gst::tags::Encoder>();
    kept.remove::<gst::tags::EncoderVersion>();
    kept.remove::<gst::tags::ContainerFormat>();
    // Frames have been turned.
    kept.remove::<gst::tags::ImageOrientation>();
    tags
}

/// Hands over the packets of all segments.
fn feed_video(
    source: &gst_app::AppSrc,
    folder: &Path,
    segments: &[Manifest],
    shift: u64,
) -> Result<()> {
    let packets: Vec<EncodedPacket> = segments.iter().flat_map(|s| s.packets.clone()).collect();
    let times = decoding_times(&packets);
    // Before it, some packets are decoded.
    let ahead = times
        .first()
        .map_or(0, |first| (shift as i64 - first).max(0) as u64);
    let base = gst::ClockTime::from_nseconds(ahead);
    let mut running = gst::FormattedSegment::<gst::ClockTime>::new();
    running.set_start(base);
    let mut times = times.into_iter();
    for segment in segments {
        let (path, _) = files(folder, segment.index);
        let mut file =
            File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for packet in &segment.packets {
            let mut bytes = vec![0; packet.bytes];
            file.read_exact(&mut bytes)?;
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            let decoded = times.next().unwrap_or(packet.time as i64);
            let filled = buffer.make_mut();
            filled.set_pts(base + gst::ClockTime::from_nseconds(packet.time - shift));
            let decoded = decoded - shift as i64 + ahead as i64;
            filled.set_dts(gst::ClockTime::from_nseconds(decoded.max(0) as u64));
            filled.set_duration(packet.duration.map(gst::ClockTime::from_nseconds));
            if !packet.is_key {
                filled.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
            let sample = gst::Sample::builder()
                .buffer(&buffer)
                .segment(&running)
                .build();
            // The pipeline has an error to report, or ends.
            if source.push_sample(&sample).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Waits for the end.
fn wait(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => bail!("{}", error.error()),
            _ => {}
        }
    }
    bail!("the pipeline ended without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(times: &[u64]) -> Vec<EncodedPacket> {
        let packet = |&time: &u64| EncodedPacket {
            time,
            duration: None,
            bytes: 0,
            is_key: false,
        };
        times.iter().map(packet).collect()
    }

    #[test]
    fn chapters_are_those_of_the_part() {
        gst::init().unwrap();
        let chapter = |uid: &str, from: i64, to: i64| {
            let mut entry = gst::TocEntry::new(gst::TocEntryType::Chapter, uid);
            entry.make_mut().set_start_stop_times(from, to);
            entry
        };
        let shifted = |from, to| {
            let entry = shifted_entry(&chapter("a", from, to), 10, 30)?;
            entry.start_stop_times()
        };
        assert_eq!(shifted(0, 20), Some((0, 10)));
        assert_eq!(shifted(20, 40), Some((10, 20)));
        assert_eq!(shifted(0, 10), None);
        assert_eq!(shifted(30, 50), None);
    }

    #[test]
    fn times_are_whole_numbers_of_units() {
        let thirds: Vec<u64> = (0..50).map(|i| i * 1_001_000_000_000 / 30_000).collect();
        for (times, scale) in [
            (vec![7_000_000, 47_000_000], 1_000),
            (thirds, 30_000),
            (
                (0..50).map(|i| i * 1_000_000_000 / 90_000).collect(),
                90_000,
            ),
            (vec![1, 333], 1_000_000),
        ] {
            assert_eq!(timescale(&times), scale);
        }
    }

    #[test]
    fn packets_are_decoded_before_they_are_shown() {
        for (shown, expected) in [
            (vec![0, 10, 25], vec![0, 10, 25]),
            (vec![0, 30, 10, 20, 40], vec![-10, 0, 10, 20, 30]),
            (vec![5, 45, 25, 15, 35], vec![-15, -5, 5, 15, 25]),
            (vec![7], vec![7]),
        ] {
            let packets = packets(&shown);
            let times = decoding_times(&packets);
            assert_eq!(times, expected);
            assert!(times.is_sorted());
            assert!(times.iter().zip(&packets).all(|(d, p)| *d <= p.time as i64));
        }
    }
}
