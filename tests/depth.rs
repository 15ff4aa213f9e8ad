//! Video of more than 8 bit: samples as GStreamer has them, and their depth from end to
//! end through the element and an encoder.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::reference::{Grid, resample};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoFormatInfo, VideoInfo, VideoPackFlags};
use srfilter::frame::{Color, Family, FrameRef, PixelFormat, Siting};
use std::sync::Once;

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsrfilter::plugin_register_static().expect("plugin registers");
    });
}

/// The element's formats.
fn formats() -> Vec<VideoFormat> {
    init();
    let factory = gst::ElementFactory::find("srfilter").unwrap();
    let template = factory.static_pad_templates().into_iter().next().unwrap();
    let caps = template.caps();
    let list = caps
        .structure(0)
        .unwrap()
        .get::<gst::List>("format")
        .unwrap();
    let names = list.iter().map(|name| name.get::<String>().unwrap());
    names
        .map(|name: String| VideoFormat::from_string(&name))
        .collect()
}

#[test]
fn every_format_that_gstreamer_has_is_in_the_caps() {
    let known = formats();
    // In every version from 1.22 on.
    for name in [
        "I420_10LE",
        "I422_10LE",
        "Y444_10LE",
        "I420_12LE",
        "I422_12LE",
        "Y444_12LE",
        "P010_10LE",
        "P012_LE",
        "P016_LE",
        "NV12_10LE32",
        "NV12_10LE40",
        "GRAY16_LE",
        "GBR",
        "GBR_10LE",
        "GBR_12LE",
        "GBRA",
        "RGBA64_LE",
        "ARGB64_LE",
        "RGB10A2_LE",
        "BGR10A2_LE",
        "v210",
        "A420",
        "A420_10LE",
        "AYUV",
        "YUY2",
        "UYVY",
        "Y41B",
        "NV16",
        "NV24",
        "VUYA",
    ] {
        assert!(known.contains(&VideoFormat::from_string(name)), "{name}");
    }
    for format in PixelFormat::ALL {
        let in_gstreamer = VideoFormat::from_string(format.name());
        assert!(in_gstreamer == VideoFormat::Unknown || known.contains(&in_gstreamer));
    }
}

/// Samples of every format against GStreamer's own conversion to 8 or 16 bits.
#[test]
fn samples_are_read_as_gstreamer_reads_them() {
    const WIDTH: usize = 36;
    const HEIGHT: usize = 6;
    for format in formats() {
        let info = VideoInfo::builder(format, WIDTH as u32, HEIGHT as u32)
            .build()
            .unwrap();
        let mut next = common::noise(5);
        // The bindings ask for planes as high as luma's.
        let bytes: Vec<u8> = (0..2 * info.size())
            .map(|_| (next() * 256.0) as u8)
            .collect();
        let planes: Vec<(&[u8], usize)> = (0..info.n_planes() as usize)
            .map(|plane| {
                (
                    &bytes[info.offset()[plane]..],
                    info.stride()[plane] as usize,
                )
            })
            .collect();
        let ours = PixelFormat::from_name(format.to_str()).unwrap();
        let color = Color::default();
        let frame = FrameRef::new(ours, (WIDTH, HEIGHT), color, &planes).unwrap();

        let about = VideoFormatInfo::from_format(format);
        let unpacked = VideoFormatInfo::from_format(about.unpack_format());
        let bits = unpacked.depth()[0];
        let (data, strides): (Vec<_>, Vec<_>) = planes
            .iter()
            .map(|&(data, stride)| (data, stride as i32))
            .unzip();
        for (index, component) in ours.components().iter().enumerate() {
            let mut values = Vec::new();
            frame.read(component, &mut values);
            let width = component.size(WIDTH, HEIGHT).0;
            for y in 0..HEIGHT {
                let mut line = vec![0_u8; WIDTH * 4 * bits as usize / 8];
                let flags = VideoPackFlags::empty();
                about.unpack(flags, &mut line, &data, &strides, 0, y as i32, WIDTH as i32);
                for x in (0..WIDTH).step_by(component.sub_x) {
                    // Alpha, then Y, U, V or R, G, B.
                    let is_alpha = ours.has_alpha() && index + 1 == ours.components().len();
                    let at = 4 * x + if is_alpha { 0 } else { index + 1 };
                    let theirs = match bits {
                        8 => u32::from(line[at]),
                        _ => u32::from(u16::from_ne_bytes([line[2 * at], line[2 * at + 1]])),
                    };
                    let depth = component.depth;
                    // Limited range for luma and chroma, else 255 is the largest.
                    let steps = match ours.family() {
                        _ if is_alpha => f64::from((1 << depth) - 1) / 255.0,
                        Family::Rgb => f64::from((1 << depth) - 1) / 255.0,
                        _ => f64::from(1 << depth) / 256.0,
                    };
                    let value = values[y / component.sub_y * width + x / component.sub_x];
                    let sample = (f64::from(value) * steps).round() as u32;
                    assert_eq!(
                        sample,
                        theirs >> (bits - depth),
                        "{format:?} component {index} at {x}, {y}"
                    );
                }
            }
        }
    }
}

/// A frame of I420_10LE: planes of samples.
struct Frame {
    size: (usize, usize),
    planes: [Vec<u16>; 3],
}

impl Frame {
    fn new(size: (usize, usize), sample: impl Fn(usize, usize, usize) -> u16) -> Self {
        let plane = |plane: usize| {
            let by = if plane == 0 { 1 } else { 2 };
            let (width, height) = (size.0.div_ceil(by), size.1.div_ceil(by));
            let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            places.map(|(x, y)| sample(plane, x, y)).collect()
        };
        Self {
            size,
            planes: [0, 1, 2].map(plane),
        }
    }

    fn info(&self, format: VideoFormat) -> VideoInfo {
        let (width, height) = self.size;
        VideoInfo::builder(format, width as u32, height as u32)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .unwrap()
    }

    fn buffer(&self) -> gst::Buffer {
        let info = self.info(VideoFormat::I42010le);
        let mut bytes = vec![0_u8; info.size()];
        for (plane, samples) in self.planes.iter().enumerate() {
            let width = self.size.0.div_ceil(if plane == 0 { 1 } else { 2 });
            let rows = samples
                .chunks(width)
                .zip(bytes[info.offset()[plane]..].chunks_mut(info.stride()[plane] as usize));
            for (row, target) in rows {
                for (sample, word) in row.iter().zip(target.chunks_mut(2)) {
                    word.copy_from_slice(&sample.to_le_bytes());
                }
            }
        }
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        buffer
            .make_mut()
            .set_duration(gst::ClockTime::from_mseconds(40));
        buffer
    }

    /// The frame twice as large by Keys' cubic interpolation, in f64.
    fn doubled(&self) -> [Vec<f64>; 3] {
        let to = (2 * self.size.0, 2 * self.size.1);
        let siting = Siting {
            left: true,
            top: false,
        };
        [0, 1, 2].map(|plane| {
            let by = if plane == 0 { 1 } else { 2 };
            let grid = Grid {
                w: self.size.0.div_ceil(by),
                h: self.size.1.div_ceil(by),
                v: self.planes[plane].iter().map(|&v| f64::from(v)).collect(),
            };
            let doubled = resample(&grid, self.size, to, [(by, by); 2], siting);
            doubled.v.iter().map(|v| v.clamp(0.0, 1023.0)).collect()
        })
    }
}

/// The planes that come out of a pipeline, in samples of 10 bits, and its caps.
fn through(frame: &Frame, caps: &gst::Caps, description: &str) -> ([Vec<f64>; 3], gst::Caps) {
    init();
    let mut harness = gst_check::Harness::new_empty();
    harness.add_parse(description);
    harness.set_src_caps(caps.clone());
    harness.push(frame.buffer()).unwrap();
    harness.push_event(gst::event::Eos::new());
    let buffer = harness.pull().unwrap();
    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
    let info = VideoInfo::from_caps(&caps).unwrap();
    let map = buffer.map_readable().unwrap();
    let word = if info.comp_depth(0) > 8 { 2 } else { 1 };
    let planes = [0, 1, 2].map(|plane| {
        let by = if plane == 0 { 1 } else { 2 };
        let width = (info.width() as usize).div_ceil(by);
        let rows = map[info.offset()[plane]..].chunks(info.stride()[plane] as usize);
        let rows = rows.take((info.height() as usize).div_ceil(by));
        let samples = rows.flat_map(|row| {
            row[..width * word]
                .chunks(word)
                .map(|sample| match sample {
                    [low, high] => f64::from(u16::from_le_bytes([*low, *high])),
                    _ => 4.0 * f64::from(sample[0]),
                })
                .collect::<Vec<_>>()
        });
        samples.collect()
    });
    (planes, caps)
}

/// Mean absolute distance to the rounded reference, and mean signed error against the
/// reference itself, in steps of 10 bits.
fn errors(found: &[Vec<f64>; 3], reference: &[Vec<f64>; 3]) -> (f64, f64) {
    let pairs = || found.iter().flatten().zip(reference.iter().flatten());
    let count = pairs().count() as f64;
    let distance = |(found, exact): (&f64, &f64)| (found - (exact + 0.5).floor()).abs();
    let distance = pairs().map(distance).sum::<f64>() / count;
    let bias = pairs().map(|(found, exact)| found - exact).sum::<f64>() / count;
    (distance, bias)
}

/// A lossless encoder and decoder for 10 bits.
const CODEC: &str = "avenc_ffv1 ! avdec_ffv1";

fn check(name: &str, frame: &Frame) {
    init();
    let mut caps = frame.info(VideoFormat::I42010le).to_caps().unwrap();
    caps.make_mut().set("chroma-site", "mpeg2");
    let sr = "srfilter model=bicubic scale=2";
    let reference = frame.doubled();
    let deep = errors(
        &through(frame, &caps, &format!("{sr} ! {CODEC}")).0,
        &reference,
    );
    let cut = format!("videoconvert ! video/x-raw,format=I420 ! {sr} ! {CODEC}");
    let cut = errors(&through(frame, &caps, &cut).0, &reference);
    println!(
        "{name}, in steps of 10 bits: at 10 bits off by {:.4} on average, biased by {:+.4}; \
         by videoconvert at 8 bits off by {:.2}, biased by {:+.2}",
        deep.0, deep.1, cut.0, cut.1
    );
    assert!(deep.0 < 0.05 && deep.1.abs() < 0.05, "{name}: {deep:?}");
    assert!(cut.0 > 0.5, "{name}: {cut:?}");
}

#[test]
fn a_ramp_keeps_10_bits() {
    // From black to white in 877 steps, along a diagonal.
    let frame = Frame::new((330, 90), |plane, x, y| match plane {
        0 => 64 + ((x * 7 + y * 3) * 876 / 2573) as u16,
        1 => 64 + (x * 5 % 897) as u16,
        _ => 960 - (y * 19 % 897) as u16,
    });
    check("ramp", &frame);
}

/// Sums of four samples of 8 bits of a real clip, which have 10.
#[test]
fn a_clip_keeps_10_bits() {
    let Some(clip) = common::shared("video/carphone_pristine.mp4") else {
        eprintln!("skipped: no ../shared/data");
        return;
    };
    init();
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 \
         ! appsink name=sink sync=false",
        clip.display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline
        .by_name("sink")
        .unwrap()
        .downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sample = sink.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let size = (info.width() as usize / 2, info.height() as usize / 2);
    let frame = Frame::new(size, |plane, x, y| {
        let (offset, stride) = (info.offset()[plane], info.stride()[plane] as usize);
        let at = |x: usize, y: usize| u16::from(map[offset + y * stride + x]);
        at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1)
    });
    check("clip", &frame);
}

#[test]
fn hdr_is_passed_on() {
    let frame = Frame::new((32, 18), |_, x, y| 64 + (x * 20 + y) as u16);
    let mut caps = frame.info(VideoFormat::I42010le).to_caps().unwrap();
    let fields = [
        ("colorimetry", "bt2100-pq"),
        ("chroma-site", "h-cosited:v-cosited"),
        (
            "mastering-display-info",
            "34000:16000:13250:34500:7500:3000:15635:16450:10000000:50",
        ),
        ("content-light-level", "1000:400"),
    ];
    for (field, value) in fields {
        caps.make_mut().set(field, value);
    }
    for model in ["bicubic", "espcn", "compact"] {
        let (_, out) = through(&frame, &caps, &format!("srfilter model={model} scale=2"));
        let structure = out.structure(0).unwrap();
        for (field, value) in fields {
            assert_eq!(
                structure.get::<String>(field).as_deref(),
                Ok(value),
                "{model}"
            );
        }
        assert_eq!(
            structure.get::<String>("format").as_deref(),
            Ok("I420_10LE")
        );
    }
}
