//! The property `damage`.
#![allow(clippy::unwrap_used, missing_docs)]

use gst::prelude::*;
use std::sync::Once;

const SIZE: (usize, usize) = (192, 128);

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsrfilter::plugin_register_static().expect("plugin registers");
    });
}

fn element(model: &str, damage: &str) -> gst::Element {
    init();
    gst::ElementFactory::make("srfilter")
        .property("model", model)
        .property("damage", damage)
        .property("device", "cpu")
        .build()
        .unwrap()
}

/// Texture down to the finest, or the same without what is finer than 8 samples, as the
/// coarsest encoders leave it.
fn picture(is_coarse: bool) -> Vec<u8> {
    let mut noise = testing::noise(3);
    let cell = if is_coarse { 8 } else { 1 };
    let across = SIZE.0 / cell;
    let values: Vec<u8> = (0..across * SIZE.1 / cell)
        .map(|_| (120.0 + 60.0 * noise()) as u8)
        .collect();
    (0..SIZE.0 * SIZE.1)
        .map(|i| values[i / SIZE.0 / cell * across + i % SIZE.0 / cell])
        .collect()
}

/// A stream of grey frames through an element.
struct Stream {
    harness: gst_check::Harness,
    bus: gst::Bus,
    time: gst::ClockTime,
}

impl Stream {
    fn new(element: &gst::Element) -> Self {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let mut harness = gst_check::Harness::with_element(element, Some("sink"), Some("src"));
        let caps = gst_video::VideoCapsBuilder::new()
            .format(gst_video::VideoFormat::Gray8)
            .width(SIZE.0 as i32)
            .height(SIZE.1 as i32)
            .framerate(gst::Fraction::new(25, 1))
            .build();
        harness.set_src_caps(caps);
        Self {
            harness,
            bus,
            time: gst::ClockTime::ZERO,
        }
    }

    /// Pushes a frame; the output, and the damage that it was computed for.
    fn push(&mut self, picture: &[u8]) -> (Vec<u8>, f64) {
        let mut buffer = gst::Buffer::from_mut_slice(picture.to_vec());
        buffer.make_mut().set_pts(self.time);
        self.time += gst::ClockTime::from_mseconds(40);
        self.harness.push(buffer).unwrap();
        let output = self.harness.pull().unwrap();
        let bytes = output.map_readable().unwrap().to_vec();
        let element = self.harness.element().unwrap();
        let stats: gst::Structure = element.property("stats");
        (bytes, stats.get("damage").unwrap())
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.bus.iter().filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        });
        warnings.collect()
    }
}

#[test]
fn it_is_estimated_from_the_frames() {
    let (fine, coarse) = (picture(false), picture(true));
    let mut stream = Stream::new(&element("espcn", "auto"));
    let (output, damage) = stream.push(&fine);
    assert!(damage < 0.3, "{damage}");
    // Seven more are taken for what the first one was.
    for _ in 0..7 {
        assert_eq!(stream.push(&coarse).1, damage);
    }
    let passed: Vec<f64> = (0..120).map(|_| stream.push(&coarse).1).collect();
    assert!(passed.is_sorted(), "{passed:?}");
    assert!(passed[119] > 0.7 && passed[8] < 0.7, "{passed:?}");
    // Another stream begins with its own.
    stream
        .harness
        .push_event(gst::event::StreamStart::new("other"));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    stream
        .harness
        .push_event(gst::event::Segment::new(&segment));
    assert_eq!(stream.push(&fine), (output.clone(), damage));
    // The weights are those of the same damage set by hand.
    let mut fixed = Stream::new(&element("espcn", &damage.to_string()));
    assert_eq!(fixed.push(&fine), (output, damage));
    assert!(stream.warnings().is_empty() && fixed.warnings().is_empty());
}

#[test]
fn it_changes_with_the_next_frame() {
    let picture = picture(false);
    let element = element("espcn", "0");
    let mut stream = Stream::new(&element);
    let outputs = ["0", "1", "0.5", "0"].map(|damage| {
        element.set_property("damage", damage);
        let (output, used) = stream.push(&picture);
        assert_eq!(used.to_string(), damage);
        output
    });
    assert_ne!(outputs[0], outputs[1]);
    assert_ne!(outputs[1], outputs[2]);
    assert_eq!(outputs[0], outputs[3]);
    let mut clean = Stream::new(&self::element("espcn", ""));
    assert_eq!(clean.push(&picture).0, outputs[0]);
    let mut encoded = Stream::new(&self::element("espcn-video", "0"));
    assert_eq!(encoded.push(&picture).0, outputs[1]);
}

#[test]
fn a_change_of_model_keeps_it() {
    let picture = picture(false);
    let element = element("espcn-hq", "0.25");
    let mut stream = Stream::new(&element);
    assert_eq!(stream.push(&picture).1, 0.25);
    // A model is loaded while frames go on.
    let mut change = |model: &str| loop {
        element.set_property("model", model);
        let (_, damage) = stream.push(&picture);
        let stats: gst::Structure = element.property("stats");
        if stats.get::<String>("active-model").unwrap() == model {
            return damage;
        }
    };
    assert_eq!(change("espcn"), 0.25);
    element.set_property("scale", gst::Fraction::new(3, 1));
    assert_eq!(change("espcn"), 0.25);
    assert_eq!(change("espcn-fast"), 0.0);
    assert_eq!(
        stream.warnings(),
        [
            "espcn-fast (built-in) has no weights for encoded video at this scale: damage changes nothing"
        ]
    );
}

#[test]
fn other_values_are_refused() {
    let element = element("espcn", "0.5");
    let stream = Stream::new(&element);
    for value in ["much", "2", "-1"] {
        element.set_property("damage", value);
        assert_eq!(element.property::<String>("damage"), "0.5");
        let [warning] = stream.warnings().try_into().unwrap();
        assert!(warning.contains(value), "{warning}");
    }
    element.set_property("damage", "auto");
    assert_eq!(element.property::<String>("damage"), "auto");
    assert!(stream.warnings().is_empty());
    // Before it starts, too.
    let other = self::element("espcn", "much");
    let bus = gst::Bus::new();
    other.set_bus(Some(&bus));
    assert!(other.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        panic!("no error")
    };
    assert!(error.error().to_string().contains("much"));
    other.set_state(gst::State::Null).unwrap();
}

/// `espcn-hq` has weights for encoded video at x2 alone.
#[test]
fn what_has_no_weights_at_the_scale_says_so() {
    let picture = picture(true);
    let element = element("espcn-hq", "auto");
    element.set_property("fallback-models", "");
    let mut stream = Stream::new(&element);
    assert!(stream.push(&picture).1 > 0.0);
    assert!(stream.warnings().is_empty());
    element.set_property("scale", gst::Fraction::new(3, 1));
    assert_eq!(stream.push(&picture).1, 0.0);
    stream.push(&picture);
    let [warning] = stream.warnings().try_into().unwrap();
    assert!(warning.contains("espcn-hq"), "{warning}");
}

/// In flight frames keep their order and number across changes.
#[test]
fn frames_in_flight_are_kept() {
    let picture = picture(false);
    let element = element("espcn", "0");
    element.set_property("async-depth", 2_u32);
    let mut stream = Stream::new(&element);
    for i in 0..12_u64 {
        element.set_property("damage", if i % 3 == 0 { "0.75" } else { "auto" });
        let mut buffer = gst::Buffer::from_mut_slice(picture.clone());
        buffer
            .make_mut()
            .set_pts(gst::ClockTime::from_mseconds(40 * i));
        stream.harness.push(buffer).unwrap();
    }
    stream.harness.push_event(gst::event::Eos::new());
    let times: Vec<u64> = (0..12)
        .map(|_| stream.harness.pull().unwrap().pts().unwrap().mseconds())
        .collect();
    assert_eq!(times, (0..12).map(|i| 40 * i).collect::<Vec<_>>());
}
