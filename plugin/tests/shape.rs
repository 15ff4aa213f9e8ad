//! The shape of the picture and the colours of the caps, where downstream fixes them.
#![allow(clippy::unwrap_used, missing_docs)]

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use std::sync::Once;

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsrfilter::plugin_register_static().expect("plugin registers");
    });
}

/// An element with a bus.
fn element(scale: (i32, i32)) -> (gst::Element, gst::Bus) {
    init();
    let element = gst::ElementFactory::make("srfilter")
        .property("model", "bicubic")
        .property("scale", gst::Fraction::new(scale.0, scale.1))
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    (element, bus)
}

fn harness(element: &gst::Element) -> gst_check::Harness {
    gst_check::Harness::with_element(element, Some("sink"), Some("src"))
}

fn caps(format: &str, width: i32, height: i32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", width)
        .field("height", height)
        .field("framerate", gst::Fraction::new(25, 1))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build()
}

/// A frame of which every sample is `value`.
fn frame(caps: &gst::Caps, value: u8) -> gst::Buffer {
    let info = VideoInfo::from_caps(caps).unwrap();
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    buffer.make_mut().map_writable().unwrap().fill(value);
    buffer
}

/// The error or warning on the bus.
fn complaint(bus: &gst::Bus) -> Option<String> {
    let kinds = [gst::MessageType::Error, gst::MessageType::Warning];
    match bus.pop_filtered(&kinds)?.view() {
        gst::MessageView::Error(error) => Some(error.error().to_string()),
        gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
        _ => None,
    }
}

#[test]
fn a_pinned_size_of_another_shape_gets_borders() {
    for (add_borders, left, right) in [(true, 184, 184 + 270), (false, 0, 640)] {
        let (element, _bus) = element((2, 1));
        element.set_property("add-borders", add_borders);
        let mut h = harness(&element);
        h.set_sink_caps(caps("I420", 640, 360));
        h.set_src_caps(caps("I420", 120, 160));
        let mut input = frame(&caps("I420", 120, 160), 200);
        gst_video::VideoRegionOfInterestMeta::add(input.make_mut(), "face", (30, 40, 60, 80));
        let output = h.push_and_pull(input).unwrap();
        let map = output.map_readable().unwrap();
        let info = VideoInfo::from_caps(&caps("I420", 640, 360)).unwrap();
        for plane in 0..3 {
            let by = if plane == 0 { 1 } else { 2 };
            let black = if plane == 0 { 16 } else { 128 };
            let rows = map[info.offset()[plane]..].chunks(info.stride()[plane] as usize);
            for row in rows.take(360 / by) {
                for (x, &sample) in row[..640 / by].iter().enumerate() {
                    let inside = (left..right).contains(&(x * by));
                    let expected = if inside { 200 } else { black };
                    assert_eq!(sample, expected, "plane {plane} column {x}");
                }
            }
        }
        drop(map);
        let region = output
            .meta::<gst_video::VideoRegionOfInterestMeta>()
            .unwrap();
        let (x, y, width, height) = region.rect();
        let across = |x: u32| left as u32 + x * (right - left) as u32 / 120;
        assert!(
            x.abs_diff(across(30)) <= 1 && y.abs_diff(90) <= 1,
            "{x} {y}"
        );
        assert!(width.abs_diff(across(60) - across(0)) <= 1 && height.abs_diff(180) <= 1);
    }
}

#[test]
fn borders_are_black_at_any_depth_and_range() {
    for (format, color, black) in [
        ("I420_10LE", "bt709", [64_u16, 512, 512]),
        ("I420_10LE", "1:3:5:1", [0, 512, 512]),
        ("P010_10LE", "bt709", [64 << 6, 512 << 6, 512 << 6]),
    ] {
        let (element, _bus) = element((2, 1));
        let mut h = harness(&element);
        let with_color = |width, height| {
            let mut caps = caps(format, width, height);
            caps.make_mut().set("colorimetry", color);
            caps
        };
        h.set_sink_caps(with_color(64, 64));
        h.set_src_caps(with_color(32, 16));
        let output = h.push_and_pull(frame(&with_color(32, 16), 0x02)).unwrap();
        let map = output.map_readable().unwrap();
        let info = VideoInfo::from_caps(&with_color(64, 64)).unwrap();
        for plane in 0..info.n_planes() as usize {
            let words = map[info.offset()[plane]..][..4].chunks(2);
            let words: Vec<u16> = words.map(|w| u16::from_le_bytes([w[0], w[1]])).collect();
            assert_eq!(words[0], black[plane], "{format} {color} plane {plane}");
            let middle = info.stride()[plane] as usize * if plane == 0 { 32 } else { 16 };
            let inside = &map[info.offset()[plane] + middle..][..2];
            assert_ne!(u16::from_le_bytes([inside[0], inside[1]]), black[plane]);
        }
    }
}

#[test]
fn pictures_of_one_size_and_two_shapes_are_not_stretched() {
    let (element, _bus) = element((2, 1));
    let mut h = harness(&element);
    h.set_sink_caps(caps("GRAY8", 64, 64));
    let mut wide = caps("GRAY8", 64, 64);
    wide.make_mut()
        .set("pixel-aspect-ratio", gst::Fraction::new(2, 1));
    h.set_src_caps(wide.clone());
    let output = h.push_and_pull(frame(&wide, 90)).unwrap();
    let map = output.map_readable().unwrap();
    let rows: Vec<u8> = map.chunks(64).map(|row| row[30]).collect();
    assert!(
        rows[..16].iter().chain(&rows[48..]).all(|&v| v == 0),
        "{rows:?}"
    );
    assert!(rows[16..48].iter().all(|&v| v == 90), "{rows:?}");
}

#[test]
fn other_colours_downstream_are_refused() {
    for (field, value) in [("colorimetry", "bt709"), ("chroma-site", "cosited")] {
        let (element, bus) = element((2, 1));
        let mut h = harness(&element);
        let mut pinned = caps("I420", 128, 72);
        pinned.make_mut().set(field, value);
        h.set_sink_caps(pinned);
        // BT.601 by its size.
        let mut stated = caps("I420", 64, 36);
        stated.make_mut().set("chroma-site", "mpeg2");
        let input = if field == "colorimetry" {
            caps("I420", 64, 36)
        } else {
            stated
        };
        h.set_src_caps(input.clone());
        assert!(h.push(frame(&input, 90)).is_err(), "{field}");
        if field == "colorimetry" {
            let complaint = complaint(&bus).unwrap();
            assert!(
                complaint.contains("bt709") && complaint.contains("bt601"),
                "{complaint}"
            );
            assert!(complaint.contains("videoconvert"), "{complaint}");
        }
    }
    // The same ones are met.
    let (element, bus) = element((2, 1));
    let mut h = harness(&element);
    let mut pinned = caps("I420", 128, 72);
    pinned.make_mut().set("colorimetry", "bt601");
    h.set_sink_caps(pinned);
    h.set_src_caps(caps("I420", 64, 36));
    h.push_and_pull(frame(&caps("I420", 64, 36), 90)).unwrap();
    assert_eq!(complaint(&bus), None);
}

#[test]
fn a_factor_beyond_the_largest_side_is_reported() {
    let (element, bus) = element((16, 1));
    let mut h = harness(&element);
    h.set_src_caps(caps("GRAY8", 2304, 8));
    let output = h.push_and_pull(frame(&caps("GRAY8", 2304, 8), 90)).unwrap();
    let complaint = complaint(&bus).unwrap();
    for figure in ["2304x8", "36864x128", "32768", "32768x114"] {
        assert!(complaint.contains(figure), "{figure}: {complaint}");
    }
    assert_eq!(output.size(), 32768 * 114);
}

#[test]
fn fractions_keep_even_sides_even() {
    for (even, format, expected) in [
        ("auto", VideoFormat::I420, (76, 58)),
        ("auto", VideoFormat::Gray8, (75, 57)),
        ("on", VideoFormat::Gray8, (76, 58)),
        ("off", VideoFormat::I420, (75, 57)),
    ] {
        let (element, _bus) = element((3, 2));
        element.set_property_from_str("even-size", even);
        let mut h = harness(&element);
        let input = caps(format.to_str(), 50, 38);
        h.set_src_caps(input.clone());
        h.push_and_pull(frame(&input, 90)).unwrap();
        let caps = element.static_pad("src").unwrap().current_caps().unwrap();
        let info = VideoInfo::from_caps(&caps).unwrap();
        assert_eq!((info.width(), info.height()), expected, "{even} {format:?}");
    }
}
