//! `async-depth` on the CPU: frames are pushed later, and nothing overtakes them.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::numbered::{self, BYTES, SIZE, caps, frame, out, stats, time};
use gst::prelude::*;

fn element(properties: &str) -> gst::Element {
    numbered::element(&format!("device=cpu {properties}"))
}

fn harness(properties: &str) -> gst_check::Harness {
    numbered::harness(&format!("device=cpu {properties}"))
}

fn numbers(range: impl Iterator<Item = u64>) -> Vec<(u64, usize)> {
    range.map(|number| (number, BYTES)).collect()
}

#[test]
fn frames_are_pushed_later_in_order() {
    for (model, depth) in [("bicubic", 1), ("espcn", 1), ("espcn", 2), ("srcnn", 5)] {
        let mut h = harness(&format!("async-depth={depth} model={model}"));
        for number in 1..=9 {
            h.push(frame(SIZE, number)).unwrap();
            let expected = numbers((number > depth).then(|| number - depth).into_iter());
            assert_eq!(out(&mut h), expected, "{model} {depth}");
        }
        h.push_event(gst::event::Eos::new());
        assert_eq!(out(&mut h), numbers(10 - depth..=9), "{model} {depth}");
        assert_eq!(stats(&h).get::<u64>("processed").unwrap(), 9);
        assert_eq!(
            u64::from(stats(&h).get::<u32>("async-depth").unwrap()),
            depth
        );
        assert!(stats(&h).get::<f64>("average-ms").unwrap() > 0.0);
    }
}

/// Every sample equals that of a frame that is computed alone.
#[test]
fn frames_that_overlap_are_the_same() {
    let stream = |depth: u32| {
        let mut h = harness(&format!("async-depth={depth} model=espcn"));
        let mut noise = testing::noise(5);
        let mut results = Vec::new();
        for number in 0..12 {
            let mut input = frame(SIZE, number);
            let mut map = input.make_mut().map_writable().unwrap();
            map.iter_mut().for_each(|v| *v = (256.0 * noise()) as u8);
            drop(map);
            h.push(input).unwrap();
        }
        h.push_event(gst::event::Eos::new());
        while let Some(buffer) = h.try_pull() {
            results.push(buffer.map_readable().unwrap().to_vec());
        }
        results
    };
    let alone = stream(0);
    assert_eq!(alone.len(), 12);
    for depth in [1, 3] {
        assert_eq!(stream(depth), alone);
    }
}

/// Serialized events and queries find no frame in flight.
#[test]
fn no_event_overtakes_frames() {
    let mut h = harness("async-depth=2 model=bicubic");
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    let mut allocation = gst::query::Allocation::new(Some(&caps(SIZE)), true);
    assert!(sink.query(&mut allocation));
    let (_, _, min_buffers, _) = allocation.allocation_pools().next().unwrap();
    assert_eq!(min_buffers, 3);
    h.push(frame(SIZE, 1)).unwrap();
    h.push(frame(SIZE, 2)).unwrap();
    h.push_event(gst::event::Gap::builder(time(3)).build());
    assert_eq!(out(&mut h), numbers(1..=2));
    h.push(frame(SIZE, 4)).unwrap();
    sink.query(&mut gst::query::Drain::new());
    assert_eq!(out(&mut h), numbers(4..=4));
    // Another input size.
    h.push(frame(SIZE, 5)).unwrap();
    h.push_event(gst::event::Caps::new(&caps((20, 12))));
    assert_eq!(out(&mut h), numbers(5..=5));
    for number in 6..=8 {
        h.push(frame((20, 12), number)).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), [6, 7, 8].map(|number| (number, BYTES / 4)));
}

#[test]
fn properties_change_between_frames() {
    let mut h = harness("async-depth=2 model=bicubic");
    let element = h.element().unwrap();
    h.push(frame(SIZE, 1)).unwrap();
    h.push(frame(SIZE, 2)).unwrap();
    element.set_property("scale", gst::Fraction::new(3, 1));
    h.push(frame(SIZE, 3)).unwrap();
    assert_eq!(out(&mut h), numbers(1..=2));
    // The input's size: passed through immediately.
    element.set_property("scale", gst::Fraction::new(1, 1));
    h.push(frame(SIZE, 4)).unwrap();
    assert_eq!(out(&mut h), [(3, BYTES / 4 * 9), (4, BYTES / 4)]);
    element.set_property("scale", gst::Fraction::new(2, 1));
    // The model changes between two frames, when it is loaded.
    element.set_property("model", "espcn");
    let active = || {
        let stats: gst::Structure = element.property("stats");
        stats.get::<String>("active-model").unwrap()
    };
    let mut last = 4;
    while active() != "espcn" {
        assert!(last < 2000, "never");
        last += 1;
        let mut next = frame(SIZE, last % 10);
        next.make_mut().set_pts(time(last));
        h.push(next).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    h.push_event(gst::event::Eos::new());
    let pushed: Vec<_> = std::iter::from_fn(|| h.try_pull())
        .map(|buffer| (buffer.pts().unwrap(), buffer.size()))
        .collect();
    let expected: Vec<_> = (5..=last).map(|number| (time(number), BYTES)).collect();
    assert_eq!(pushed, expected);
}

#[test]
fn a_flush_drops_frames_in_flight() {
    let mut h = harness("async-depth=2 model=srcnn");
    for number in 1..=3 {
        h.push(frame(SIZE, number)).unwrap();
    }
    assert_eq!(out(&mut h), numbers(1..=1));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    let flush = |h: &mut gst_check::Harness| {
        h.push_event(gst::event::FlushStart::new());
        h.push_event(gst::event::FlushStop::new(true));
        h.push_event(gst::event::Segment::new(&segment));
    };
    flush(&mut h);
    assert_eq!(out(&mut h), []);
    for number in 7..=9 {
        h.push(frame(SIZE, number)).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), numbers(7..=9));
    // It stops with frames in flight.
    flush(&mut h);
    h.push(frame(SIZE, 10)).unwrap();
    h.push(frame(SIZE, 11)).unwrap();
    drop(h);
}

/// A buffer that is too short for a frame.
#[test]
fn an_error_comes_at_its_frame() {
    let mut h = harness("async-depth=2 model=bicubic");
    let bus = gst::Bus::new();
    h.element().unwrap().set_bus(Some(&bus));
    let mut short = gst::Buffer::with_size(10).unwrap();
    short.make_mut().set_pts(time(3));
    short.make_mut().set_duration(time(1));
    h.push(frame(SIZE, 1)).unwrap();
    h.push(frame(SIZE, 2)).unwrap();
    h.push(short).unwrap();
    h.push(frame(SIZE, 4)).unwrap();
    assert_eq!(h.push(frame(SIZE, 5)), Err(gst::FlowError::Error));
    assert_eq!(out(&mut h), numbers(1..=2));
    let errors: Vec<_> = bus
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("cannot be mapped"), "{errors:?}");
}

#[test]
fn the_latency_is_reported() {
    element("");
    for (live, depth) in [(true, 0), (true, 1), (true, 3), (false, 2)] {
        let text = format!(
            "videotestsrc is-live={live} num-buffers=6 ! video/x-raw,format=GRAY8,width=40,\
             height=24,framerate=25/1 ! srfilter name=sr device=cpu model=bicubic \
             async-depth={depth} ! fakesink name=sink sync=false"
        );
        let pipeline: gst::Pipeline = gst::parse::launch(&text).unwrap().downcast().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
        assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
        let element = pipeline.by_name("sr").unwrap();
        let stats: gst::Structure = element.property("stats");
        assert_eq!(stats.get::<u64>("processed").unwrap(), 6);
        let mut query = gst::query::Latency::new();
        assert!(element.static_pad("src").unwrap().query(&mut query));
        let mut before = gst::query::Latency::new();
        assert!(element.static_pad("sink").unwrap().peer_query(&mut before));
        let added = query.result().1 - before.result().1;
        assert_eq!(added.mseconds(), 40 * depth);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn the_old_names_mean_a_depth_of_one() {
    let element = element("pipelined=true");
    assert_eq!(element.property::<u32>("async-depth"), 1);
    assert!(element.property::<bool>("overlap"));
    element.set_property("overlap", false);
    assert_eq!(element.property::<u32>("async-depth"), 0);
    element.set_property("async-depth", 3u32);
    assert!(element.property::<bool>("pipelined"));
}
