//! What a video becomes, and how the work is divided: from the packets alone.

use super::encoder::{Encoder, Hdr};
use super::source::{Item, Kind, Source, time};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use srfilter::engine::Precision;
use srfilter::models::DamageSource;
use std::path::{Path, PathBuf};

/// The version of plans and manifests.
const FORMAT: u32 = 1;

/// How frames are upscaled and encoded: all that their bytes depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) model: String,
    pub(crate) weights: Option<PathBuf>,
    /// BLAKE3 of the weights file.
    pub(crate) weights_hash: Option<String>,
    pub(crate) scale: Scale,
    /// Width and height, instead of the scale.
    pub(crate) size: Option<(u32, u32)>,
    #[serde(with = "as_text")]
    pub(crate) precision: Precision,
    pub(crate) encoder: Encoder,
    pub(crate) quality: Option<u32>,
    /// Bits of a sample.
    pub(crate) bits: u32,
    pub(crate) deinterlace: bool,
    /// Whether frames are turned as the file says.
    pub(crate) turn: bool,
    #[serde(default, skip_serializing_if = "Hdr::is_empty")]
    pub(crate) hdr: Hdr,
    /// Estimated in each segment alone, if so.
    #[serde(default, with = "as_text", skip_serializing_if = "is_default")]
    pub(crate) damage: DamageSource,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Values that are written as on the command line.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<S: Serializer>(v: &impl Display, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(v)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
        d: D,
    ) -> Result<T, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A part of the video that is computed alone: the frames that are shown from `start`
/// until `end`, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    /// `None`: to the end of the file.
    pub(crate) end: Option<u64>,
    /// When the picture is shown that decoding begins with; `None`: with the file.
    pub(crate) keyframe: Option<u64>,
    /// Packets that are shown then.
    pub(crate) packets: usize,
    /// BLAKE3 of these packets, in the order of the file.
    pub(crate) hash: String,
}

impl Segment {
    /// The hash of a packet: when it is shown, and its bytes. Those of the keyframe are left
    /// out: parsers put parameters before it where they begin with it.
    pub(crate) fn packet_hash(&self, time: u64, bytes: blake3::Hash) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&time.to_le_bytes());
        if self.keyframe != Some(time) {
            hasher.update(bytes.as_bytes());
        }
        hasher.finalize()
    }

    /// Whether a frame is one of it.
    pub(crate) fn has(&self, time: u64) -> bool {
        time >= self.start && self.end.is_none_or(|end| time < end)
    }
}

/// How a video is upscaled in segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    format: u32,
    /// The version of srfilter that planned it.
    pub(crate) version: String,
    pub(crate) input: PathBuf,
    pub(crate) settings: Settings,
    /// The part of the video, in nanoseconds.
    pub(crate) start: Option<u64>,
    pub(crate) end: Option<u64>,
    pub(crate) segments: Vec<Segment>,
}

/// How a video is divided.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Division {
    Segments(usize),
    Seconds(f64),
}

/// A packet of the video.
struct Packet {
    time: u64,
    is_key: bool,
    /// Whether the file says when it is shown, not only when it is decoded.
    has_time: bool,
    /// Of its bytes.
    hash: blake3::Hash,
}

/// Whether a packet is shown.
pub(crate) fn is_shown(buffer: &gst::BufferRef) -> bool {
    !buffer.flags().contains(gst::BufferFlags::DECODE_ONLY)
}

impl Plan {
    /// Plans the work on a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or has no video.
    pub(crate) fn new(
        input: &Path,
        settings: Settings,
        (start, end): (Option<u64>, Option<u64>),
        division: Division,
    ) -> Result<Self> {
        let name = input.display();
        let packets = packets(input)?;
        let segments = segments(&packets, (start, end), division);
        if segments.is_empty() {
            bail!("{name} has no video there");
        }
        Ok(Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            input: input.canonicalize()?,
            settings,
            start,
            end,
            segments,
        })
    }

    /// Reads a plan.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is no plan of this version.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let name = file.display();
        let text = std::fs::read(file).with_context(|| format!("cannot read {name}"));
        let text = text.map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let plan: Self = match serde_json::from_slice(&text) {
            Ok(plan) => plan,
            Err(error) => bail!("{name} is no plan of 'sr video plan': {error}"),
        };
        if plan.format != FORMAT || plan.version != env!("CARGO_PKG_VERSION") {
            bail!(
                "{name} is of srfilter {}, this is {}",
                plan.version,
                env!("CARGO_PKG_VERSION")
            );
        }
        if plan.segments.is_empty() {
            bail!("{name} has no segments");
        }
        let settings = &plan.settings;
        settings.encoder.check(settings.bits, settings.quality)?;
        Ok(plan)
    }

    /// The number of frames to expect.
    pub(crate) fn frames(&self) -> usize {
        self.segments.iter().map(|segment| segment.packets).sum()
    }

    /// What the results of a segment depend on, as a hash.
    ///
    /// # Errors
    ///
    /// Settings that cannot be written as JSON.
    pub(crate) fn segment_id(&self, index: usize) -> Result<String> {
        // The weights file by its hash, wherever it lies.
        let settings = Settings {
            weights: None,
            ..self.settings.clone()
        };
        let all = serde_json::to_vec(&(&self.version, settings, self.segment(index)?))?;
        Ok(blake3::hash(&all).to_hex().to_string())
    }

    /// A segment by its number.
    ///
    /// # Errors
    ///
    /// A number that there is not.
    pub(crate) fn segment(&self, index: usize) -> Result<&Segment> {
        let count = self.segments.len();
        let segment = self.segments.get(index);
        segment.with_context(|| format!("there is no segment {index}: they are 0 to {}", count - 1))
    }
}

/// All packets of the first video stream that are shown.
fn packets(input: &Path) -> Result<Vec<Packet>> {
    let mut source = Source::open(input)?;
    let (mut video, mut packets) = (None, Vec::new());
    while let Some(item) = source.next()? {
        match item {
            Item::Stream { index, stream } if stream.kind == Kind::Video => {
                video.get_or_insert(index);
            }
            Item::Packet { index, sample } if video == Some(index) => {
                let Some(buffer) = sample.buffer().filter(|buffer| is_shown(buffer)) else {
                    continue;
                };
                // What an edit list leaves out has no time.
                let Some(time) = time(&sample) else { continue };
                packets.push(Packet {
                    time,
                    has_time: buffer.pts().is_some(),
                    is_key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                    hash: blake3::hash(&buffer.map_readable()?),
                });
            }
            _ => {}
        }
    }
    if video.is_none() {
        bail!("{} has no video", input.display());
    }
    Ok(packets)
}

/// Whether pictures that come after a keyframe are shown before it.
fn is_open(packets: &[Packet], key: u64) -> bool {
    let after = packets
        .iter()
        .skip_while(|packet| !packet.is_key || packet.time != key);
    let mut group = after.skip(1).take_while(|packet| !packet.is_key);
    group.any(|packet| packet.time < key)
}

/// Divides packets at keyframes.
fn segments(
    packets: &[Packet],
    (start, end): (Option<u64>, Option<u64>),
    division: Division,
) -> Vec<Segment> {
    let within = |time: u64| time >= start.unwrap_or(0) && end.is_none_or(|end| time < end);
    let times = packets
        .iter()
        .map(|packet| packet.time)
        .filter(|&time| within(time));
    let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
        return Vec::new();
    };
    let keys = packets.iter().filter(|packet| packet.is_key);
    let mut keys: Vec<u64> = keys.map(|packet| packet.time).collect();
    keys.sort_unstable();
    let step = match division {
        Division::Segments(count) => (last - first) / count.max(1) as u64,
        Division::Seconds(seconds) => (seconds * 1e9) as u64,
    };
    // Decoders guess the times of reordered pictures of AVI files, differently from other
    // beginnings: these are not divided.
    let is_exact = packets.iter().all(|packet| packet.has_time);
    let step = if is_exact { step.max(1) } else { u64::MAX >> 1 };
    // The first keyframe from each step on.
    let (mut starts, mut next) = (vec![start.unwrap_or(0)], first + step);
    for &key in keys.iter().filter(|&&key| within(key)) {
        if key >= next {
            starts.push(key);
            next += ((key - next) / step + 1) * step;
        }
    }
    let ends = starts.iter().skip(1).map(|&end| Some(end)).chain([end]);
    let segment = |(&start, end): (&u64, Option<u64>)| {
        // The first one is where the file begins.
        let before = keys.iter().skip(1).filter(|&&key| key <= start);
        let mut before = before.copied().rev();
        let keyframe = match before.next() {
            // Decoders that begin with such a group may lose pictures of it (libavcodec 7.1).
            Some(key) if is_open(packets, key) => before.next(),
            keyframe => keyframe,
        };
        let part = Segment {
            start,
            end,
            keyframe,
            packets: 0,
            hash: String::new(),
        };
        let (mut hasher, mut count) = (blake3::Hasher::new(), 0);
        for packet in packets.iter().filter(|packet| part.has(packet.time)) {
            hasher.update(part.packet_hash(packet.time, packet.hash).as_bytes());
            count += 1;
        }
        Segment {
            packets: count,
            hash: hasher.finalize().to_hex().to_string(),
            ..part
        }
    };
    starts.iter().zip(ends).map(segment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(times: &[(u64, bool)]) -> Vec<Packet> {
        let packets = times.iter().map(|&(time, is_key)| Packet {
            time,
            is_key,
            has_time: true,
            hash: blake3::hash(&time.to_le_bytes()),
        });
        packets.collect()
    }

    /// Decoding order with an open GOP: pictures after a keyframe that are shown before.
    #[test]
    fn segments_hold_what_is_shown_in_them() {
        let packets = packets(&[
            (0, true),
            (30, false),
            (10, false),
            (20, false),
            (60, true),
            (40, false),
            (50, false),
            (90, false),
            (70, false),
            (80, false),
            (120, true),
            (100, false),
            (110, false),
        ]);
        let found = segments(&packets, (None, None), Division::Seconds(60e-9));
        let parts = |found: &[Segment]| -> Vec<_> {
            let parts = found
                .iter()
                .map(|s| (s.start, s.end, s.keyframe, s.packets));
            parts.collect()
        };
        // The groups are open: decoding begins a keyframe earlier, which for the second
        // segment is where the file begins.
        let expected = [
            (0, Some(60), None, 6),
            (60, Some(120), None, 6),
            (120, None, Some(60), 1),
        ];
        assert_eq!(parts(&found), expected);
        assert_ne!(found[0].hash, found[1].hash);
        let found = segments(&packets, (Some(65), Some(85)), Division::Segments(1));
        assert_eq!(parts(&found), [(65, Some(85), None, 2)]);
        assert!(segments(&packets, (Some(130), None), Division::Segments(1)).is_empty());
    }

    #[test]
    fn guessed_times_are_not_divided() {
        let mut packets = packets(&[(0, true), (10, false), (20, true), (30, false)]);
        assert_eq!(
            segments(&packets, (None, None), Division::Segments(2)).len(),
            2
        );
        packets[1].has_time = false;
        let found = segments(&packets, (None, None), Division::Segments(2));
        assert_eq!((found.len(), found[0].packets), (1, 4));
    }

    #[test]
    fn segments_are_as_long_as_asked_for() {
        let times: Vec<_> = (0..100).map(|i| (i * 1_000_000_000, i % 4 == 0)).collect();
        let packets = packets(&times);
        for (seconds, count) in [(8.0, 13), (10.0, 10), (1000.0, 1), (0.5, 25)] {
            let found = segments(&packets, (None, None), Division::Seconds(seconds));
            let all: usize = found.iter().map(|segment| segment.packets).sum();
            assert_eq!((found.len(), all), (count, 100), "{seconds}");
        }
        assert_eq!(
            segments(&packets, (None, None), Division::Segments(5)).len(),
            5
        );
    }
}
