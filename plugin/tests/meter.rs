//! The property `measure`: messages and statistics about each frame.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{PATIENCE, init};
use gst::prelude::*;

/// Plays a pipeline with an element `sr`; returns its messages and its stats.
fn play(description: &str) -> (Vec<gst::Structure>, gst::Structure) {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut messages = Vec::new();
    loop {
        let message = pipeline.bus().unwrap().timed_pop(PATIENCE);
        match message.expect("the pipeline hangs").view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => panic!("{} {:?}", e.error(), e.debug()),
            gst::MessageView::Element(element) => {
                let structure = element.structure().unwrap();
                if structure.name() == "srfilter-measure" {
                    messages.push(structure.to_owned());
                }
            }
            _ => {}
        }
    }
    let stats = pipeline.by_name("sr").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    (messages, stats)
}

fn number(structure: &gst::StructureRef, field: &str) -> Option<f64> {
    structure.get(field).ok()
}

#[test]
fn every_frame_is_measured() {
    // Half of the picture is still, in 8 bit, 10 bit and RGB.
    for format in ["I420", "I420_10LE", "RGB"] {
        let (messages, stats) = play(&format!(
            "videotestsrc pattern=ball num-buffers=6 ! \
             video/x-raw,format={format},width=192,height=128,framerate=25/1 ! \
             srfilter name=sr model=bicubic measure=true ! fakesink"
        ));
        assert_eq!(messages.len(), 6, "{format}");
        for (i, message) in messages.iter().enumerate() {
            let at = message.get::<gst::ClockTime>("timestamp").unwrap();
            assert_eq!(at, 40 * i as u64 * gst::ClockTime::MSECOND);
            assert!(number(message, "ms").unwrap() > 0.0);
            assert!(
                number(message, "consistency-db").unwrap() > 35.0,
                "{message}"
            );
            // Nothing precedes the first one.
            assert_eq!(number(message, "unchanged-tiles").is_some(), i > 0);
            assert_eq!(number(message, "still").is_some(), i > 0);
        }
        let measured: gst::Structure = stats.get("measure").unwrap();
        let ratio = number(&measured, "motion-ratio").unwrap();
        assert!((ratio - 1.0).abs() < 0.01, "{format}: {measured}");
        // A ball of 40 pixels on black.
        let still = number(&measured, "still").unwrap();
        assert!((0.5..0.95).contains(&still), "{measured}");
        assert!(number(&measured, "flicker").unwrap() < 0.01, "{measured}");
        let unchanged = number(&measured, "unchanged-tiles").unwrap();
        assert!((0.3..0.95).contains(&unchanged), "{measured}");
    }
}

#[test]
fn borders_are_not_measured() {
    let consistency = |sink: &str| {
        let (_, stats) = play(&format!(
            "videotestsrc pattern=ball num-buffers=2 ! video/x-raw,format=GRAY8,width=128,height=96 ! \
             srfilter name=sr model=bicubic measure=true ! {sink}"
        ));
        let measured: gst::Structure = stats.get("measure").unwrap();
        number(&measured, "consistency-db").unwrap()
    };
    let whole = consistency("fakesink");
    let bordered = consistency("video/x-raw,width=400,height=192 ! fakesink");
    // Black borders, which are exact, would add 1.9 dB.
    assert!((whole - bordered).abs() < 0.5, "{whole} {bordered}");
}

#[test]
fn nothing_is_measured_unless_asked_for() {
    let source = "videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48";
    let (messages, stats) = play(&format!("{source} ! srfilter name=sr ! fakesink"));
    assert!(messages.is_empty());
    assert!(!stats.has_field("measure"));
    // What passes through is not upscaled.
    let (messages, _) = play(&format!(
        "{source} ! srfilter name=sr scale=1/1 measure=true ! fakesink"
    ));
    assert!(messages.is_empty());
}

#[test]
fn a_stream_that_goes_on_elsewhere_has_no_last_frame() {
    init();
    let element = gst::ElementFactory::make("srfilter")
        .property("model", "bicubic")
        .property("measure", true);
    let element = element.build().unwrap();
    let mut h = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    h.set_src_caps_str("video/x-raw,format=GRAY8,width=64,height=64,framerate=25/1");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut push = |flags| {
        let mut buffer = gst::Buffer::from_slice([9; 64 * 64]);
        buffer.get_mut().unwrap().set_flags(flags);
        h.push_and_pull(buffer).unwrap();
        let message = bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Element]);
        number(message.unwrap().structure().unwrap(), "still")
    };
    assert_eq!(push(gst::BufferFlags::DISCONT), None);
    assert_eq!(push(gst::BufferFlags::empty()), Some(1.0));
    assert_eq!(push(gst::BufferFlags::DISCONT), None);
    element.set_property("measure", false);
    assert!(
        element
            .property::<gst::Structure>("stats")
            .has_field("measure")
    );
}
