//! Blending with bicubic and comparing: the properties `strength`, `compare` and
//! `split-position`.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::init;
use gst::prelude::*;
use gst_controller::prelude::*;
use gst_video::VideoInfo;

const FORMATS: [&str; 7] = ["I420", "NV12", "RGB", "BGRA", "I420_10LE", "GRAY8", "v210"];

fn element(model: &str) -> gst::Element {
    init();
    gst::ElementFactory::make("srfilter")
        .property("model", model)
        .property("device", "cpu")
        .build()
        .unwrap()
}

fn harness(element: &gst::Element, caps: &gst::Caps) -> gst_check::Harness {
    let mut harness = gst_check::Harness::with_element(element, Some("sink"), Some("src"));
    harness.set_src_caps(caps.clone());
    harness
}

fn caps(format: &str, width: i32, height: i32) -> gst::Caps {
    init();
    gst::Caps::builder("video/x-raw")
        .field("format", format)
        .field("width", width)
        .field("height", height)
        .field("framerate", gst::Fraction::new(2, 1))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build()
}

/// A frame of noise, `number` half seconds after the start.
fn frame(caps: &gst::Caps, number: u64) -> gst::Buffer {
    let info = VideoInfo::from_caps(caps).unwrap();
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    let writable = buffer.get_mut().unwrap();
    writable.set_pts(number * gst::ClockTime::from_mseconds(500));
    let mut noise = testing::noise(number);
    let mut map = writable.map_writable().unwrap();
    map.iter_mut()
        .for_each(|byte| *byte = (noise() * 256.0) as u8);
    drop(map);
    buffer
}

fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// The output for a frame.
fn output(model: &str, caps: &gst::Caps, number: u64, properties: &[(&str, &str)]) -> Vec<u8> {
    let element = element(model);
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    bytes(
        &harness(&element, caps)
            .push_and_pull(frame(caps, number))
            .unwrap(),
    )
}

#[test]
fn the_ends_are_exact() {
    for format in FORMATS {
        // Rows of 48 pixels have no padding in any of them.
        let caps = caps(format, 24, 22);
        let network = output("espcn", &caps, 1, &[]);
        let bicubic = output("bicubic", &caps, 1, &[]);
        assert_ne!(network, bicubic, "{format}");
        for (properties, expected) in [
            (&[("strength", "1"), ("compare", "none")][..], &network),
            (&[("compare", "split"), ("split-position", "0")], &network),
            (&[("strength", "0")], &bicubic),
            (&[("compare", "split"), ("split-position", "1")], &bicubic),
        ] {
            let found = output("espcn", &caps, 1, properties);
            assert!(found == *expected, "{format} {properties:?}");
        }
    }
}

#[test]
fn a_split_picture_has_both_halves() {
    let caps = caps("GRAY8", 36, 22);
    let network = output("espcn", &caps, 1, &[]);
    let bicubic = output("bicubic", &caps, 1, &[]);
    let found = output("espcn", &caps, 1, &[("compare", "split")]);
    let sides = output("espcn", &caps, 1, &[("compare", "side-by-side")]);
    for row in 0..44 {
        let [n, b, f, s] = [&network, &bicubic, &found, &sides].map(|p| &p[72 * row..][..72]);
        assert_eq!(
            (&f[..36], &f[36..38], &f[38..]),
            (&b[..36], &[0, 255][..], &n[38..])
        );
        assert_eq!((&s[..36], &s[38..]), (&b[18..54], &n[20..54]));
    }
}

#[test]
fn changes_take_effect_with_the_next_frame_and_nothing_else_changes() {
    let (element, caps) = (element("espcn"), caps("I420", 36, 22));
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut h = harness(&element, &caps);
    for (number, properties) in [
        (0, &[][..]),
        (1, &[("strength", "0.5")]),
        (2, &[("compare", "difference")]),
        (3, &[("compare", "split"), ("split-position", "0.25")]),
        (4, &[("compare", "side-by-side"), ("strength", "0")]),
        (5, &[("compare", "none")]),
        (6, &[("strength", "1")]),
    ] {
        for (name, value) in properties {
            element.set_property_from_str(name, value);
        }
        let found = bytes(&h.push_and_pull(frame(&caps, number)).unwrap());
        // As an element that has had these values from the start.
        let text = |name: &str| {
            let value = element.property_value(name);
            (value.serialize().unwrap()).to_string()
        };
        let values = ["strength", "compare", "split-position"].map(|name| (name, text(name)));
        let all: Vec<_> = values
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert!(
            found == output("espcn", &caps, number, &all),
            "frame {number}: {all:?}"
        );
    }
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.get::<u64>("negotiations").unwrap(), 1);
    let message = bus.pop_filtered(&[gst::MessageType::Element]);
    assert!(message.is_none(), "{message:?}: no model was loaded");
}

#[test]
fn a_controller_moves_strength_and_split() {
    for name in ["strength", "split-position"] {
        let (element, caps) = (element("espcn"), caps("I420", 36, 22));
        element.set_property_from_str("compare", "split");
        let source = gst_controller::InterpolationControlSource::new();
        source.set_mode(gst_controller::InterpolationMode::Linear);
        source.set(gst::ClockTime::ZERO, 1.0);
        source.set(gst::ClockTime::from_seconds(1), 0.0);
        let binding = gst_controller::DirectControlBinding::new(&element, name, &source);
        element.add_control_binding(&binding).unwrap();
        let mut h = harness(&element, &caps);
        for (number, value) in [(0, "1"), (1, "0.5"), (2, "0")] {
            let found = bytes(&h.push_and_pull(frame(&caps, number)).unwrap());
            let values = [("compare", "split"), (name, value)];
            assert!(
                found == output("espcn", &caps, number, &values),
                "{name} {value}"
            );
        }
    }
}

#[test]
fn borders_stay_black() {
    for properties in [
        &[("strength", "0.5")][..],
        &[("compare", "split")],
        &[("compare", "side-by-side")],
        &[("compare", "difference")],
    ] {
        let element = element("espcn");
        for (name, value) in properties {
            element.set_property_from_str(name, value);
        }
        let input = caps("GRAY8", 24, 24);
        let mut h = harness(&element, &input);
        h.set_sink_caps(caps("GRAY8", 96, 48));
        let found = bytes(&h.push_and_pull(frame(&input, 1)).unwrap());
        for row in found.chunks(96) {
            let outside = row[..24].iter().chain(&row[72..]);
            assert!(outside.copied().all(|sample| sample == 0), "{properties:?}");
            assert!(row[24..72].iter().any(|&sample| sample != 0));
        }
    }
}

#[test]
fn frames_that_pass_through_stay_untouched() {
    let (element, caps) = (element("espcn"), caps("RGB", 36, 22));
    element.set_property("scale", gst::Fraction::new(1, 1));
    element.set_property_from_str("compare", "difference");
    let found = harness(&element, &caps)
        .push_and_pull(frame(&caps, 1))
        .unwrap();
    assert_eq!(bytes(&found), bytes(&frame(&caps, 1)));
}
