//! Pipelining: frames are pushed one later. The tests run on an emulated GPU
//! (`tests/cuda`), which computes only when it is waited for, each in a child
//! process.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "cuda")]

mod common;

use common::numbered::{BYTES, SIZE, caps, element, frame, harness, out, stats};
use gst::prelude::*;
use testing::emulated;

testing::emulated! {
    frames_are_pushed_one_later_in_order [emulated::LAZY] => order_child;
    no_event_overtakes_frames [emulated::LAZY] => events_child;
    properties_change_between_frames [emulated::LAZY] => changes_child;
    a_flush_drops_frames_in_flight [emulated::LAZY] => flush_child;
    discontinuities_are_marked [emulated::LAZY] => gaps_child;
    the_latency_is_reported [emulated::LAZY] => live_child;
    a_lost_gpu_loses_no_frame [emulated::LAZY, ("SRFILTER_EMULATED_LOST", "30")] => lost_child;
    little_memory_loses_no_frame [("SRFILTER_EMULATED_MEMORY", "1200000")] => lost_child;
}

#[test]
#[ignore = "run by another test, in a child process"]
fn order_child() {
    for model in ["bicubic", "srcnn"] {
        let mut h = harness(&format!("device=cuda pipelined=true model={model}"));
        for number in 1..=6 {
            h.push(frame(SIZE, number)).unwrap();
            let expected: &[(u64, usize)] = match number {
                1 => &[],
                _ => &[(number - 1, BYTES)],
            };
            assert_eq!(out(&mut h), expected, "{model}");
        }
        h.push_event(gst::event::Eos::new());
        assert_eq!(out(&mut h), [(6, BYTES)]);
        let stats = stats(&h);
        assert_eq!(stats.get::<u64>("processed").unwrap(), 6);
        assert!(stats.get::<bool>("pipelined").unwrap());
    }
}

/// Serialized events and queries find no frame in flight.
#[test]
#[ignore = "run by another test, in a child process"]
fn events_child() {
    let mut h = harness("device=cuda pipelined=true model=bicubic");
    let mut allocation = gst::query::Allocation::new(Some(&caps(SIZE)), true);
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    assert!(sink.query(&mut allocation));
    let (_, _, min_buffers, _) = allocation.allocation_pools().next().unwrap();
    assert_eq!(min_buffers, 2);
    h.push(frame(SIZE, 1)).unwrap();
    let gap = gst::event::Gap::builder(gst::ClockTime::from_mseconds(80));
    h.push_event(gap.build());
    assert_eq!(out(&mut h), [(1, BYTES)]);
    h.push(frame(SIZE, 3)).unwrap();
    let mut drain = gst::query::Drain::new();
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    sink.query(&mut drain);
    assert_eq!(out(&mut h), [(3, BYTES)]);
    // An unknown frame rate has no frame duration.
    let unknown = caps(SIZE);
    let mut unknown = unknown.copy();
    unknown
        .make_mut()
        .set("framerate", gst::Fraction::new(0, 1));
    h.set_src_caps(unknown);
    let src = h.element().unwrap().static_pad("src").unwrap();
    src.query(&mut gst::query::Latency::new());
    // Another input size.
    h.push(frame(SIZE, 4)).unwrap();
    h.push_event(gst::event::Caps::new(&caps((20, 12))));
    assert_eq!(out(&mut h), [(4, BYTES)]);
    h.push(frame((20, 12), 5)).unwrap();
    h.push(frame((20, 12), 6)).unwrap();
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), [(5, BYTES / 4), (6, BYTES / 4)]);
}

#[test]
#[ignore = "run by another test, in a child process"]
fn changes_child() {
    let mut h = harness("device=cuda pipelined=true model=bicubic");
    let element = h.element().unwrap();
    h.push(frame(SIZE, 1)).unwrap();
    element.set_property("model", "espcn");
    h.push(frame(SIZE, 2)).unwrap();
    assert_eq!(out(&mut h), [(1, BYTES)]);
    element.set_property("scale", gst::Fraction::new(3, 1));
    h.push(frame(SIZE, 3)).unwrap();
    assert_eq!(out(&mut h), [(2, BYTES)]);
    // The input's size: passed through immediately.
    element.set_property("scale", gst::Fraction::new(1, 1));
    h.push(frame(SIZE, 4)).unwrap();
    assert_eq!(out(&mut h), [(3, BYTES / 4 * 9), (4, BYTES / 4)]);
    element.set_property("scale", gst::Fraction::new(2, 1));
    h.push(frame(SIZE, 5)).unwrap();
    h.push(frame(SIZE, 6)).unwrap();
    assert_eq!(out(&mut h), [(5, BYTES)]);
    // A failed change keeps the model, and loses no frame.
    element.set_property("model", "drct");
    h.push(frame(SIZE, 7)).unwrap();
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), [(6, BYTES), (7, BYTES)]);
}

#[test]
#[ignore = "run by another test, in a child process"]
fn flush_child() {
    let mut h = harness("device=cuda pipelined=true model=srcnn");
    for number in 1..=3 {
        h.push(frame(SIZE, number)).unwrap();
    }
    assert_eq!(out(&mut h), [(1, BYTES), (2, BYTES)]);
    h.push_event(gst::event::FlushStart::new());
    h.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    h.push_event(gst::event::Segment::new(&segment));
    assert_eq!(out(&mut h), []);
    for number in 7..=9 {
        h.push(frame(SIZE, number)).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), [(7, BYTES), (8, BYTES), (9, BYTES)]);
    // It stops with a frame in flight.
    h.push_event(gst::event::FlushStart::new());
    h.push_event(gst::event::FlushStop::new(true));
    h.push_event(gst::event::Segment::new(&segment));
    h.push(frame(SIZE, 10)).unwrap();
    drop(h);
}

/// The frame after dropped or lost ones is marked as a discontinuity, not the
/// frame in flight before them.
#[test]
#[ignore = "run by another test, in a child process"]
fn gaps_child() {
    let marked = |h: &mut gst_check::Harness| -> Vec<(u64, bool)> {
        let buffers = std::iter::from_fn(|| h.try_pull());
        let number = |buffer: &gst::Buffer| buffer.pts().unwrap().mseconds() / 40;
        buffers
            .map(|b| (number(&b), b.flags().contains(gst::BufferFlags::DISCONT)))
            .collect()
    };
    let mut h = harness("device=cuda pipelined=true model=bicubic");
    h.push(frame(SIZE, 1)).unwrap();
    h.push(frame(SIZE, 2)).unwrap();
    assert_eq!(marked(&mut h), [(1, false)]);
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 2.0, 50_000_000)
        .timestamp(gst::ClockTime::from_mseconds(120));
    let src = h.element().unwrap().static_pad("src").unwrap();
    src.send_event(late.build());
    h.push(frame(SIZE, 3)).unwrap();
    assert_eq!(marked(&mut h), [(2, false)]);
    h.push(frame(SIZE, 8)).unwrap();
    h.push(frame(SIZE, 9)).unwrap();
    assert_eq!(marked(&mut h), [(8, true)]);
    let mut next = frame(SIZE, 11);
    next.make_mut().set_flags(gst::BufferFlags::DISCONT);
    h.push(next).unwrap();
    assert_eq!(marked(&mut h), [(9, false)]);
    h.push_event(gst::event::Eos::new());
    assert_eq!(marked(&mut h), [(11, true)]);
    assert_eq!(stats(&h).get::<u64>("dropped").unwrap(), 1);
}

#[test]
#[ignore = "run by another test, in a child process"]
fn live_child() {
    element("");
    for (live, pipelined) in [(true, true), (true, false), (false, true)] {
        let text = format!(
            "videotestsrc is-live={live} num-buffers=4 ! video/x-raw,format=GRAY8,width=40,\
             height=24,framerate=25/1 ! srfilter name=sr device=cuda model=bicubic \
             pipelined={pipelined} ! fakesink name=sink sync=false"
        );
        let pipeline: gst::Pipeline = gst::parse::launch(&text).unwrap().downcast().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
        assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
        let element = pipeline.by_name("sr").unwrap();
        let stats: gst::Structure = element.property("stats");
        assert_eq!(stats.get::<u64>("processed").unwrap(), 4);
        assert_eq!(
            stats.get::<bool>("pipelined").unwrap(),
            pipelined,
            "{live} {pipelined}"
        );
        let mut query = gst::query::Latency::new();
        assert!(element.static_pad("src").unwrap().query(&mut query));
        let mut before = gst::query::Latency::new();
        assert!(element.static_pad("sink").unwrap().peer_query(&mut before));
        let added = query.result().1 - before.result().1;
        assert_eq!(added.mseconds(), if pipelined { 40 } else { 0 });
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// A GPU that fails with frames in flight, or has no memory for two of them.
#[test]
#[ignore = "run by another test, in a child process"]
fn lost_child() {
    let lost = std::env::var_os("SRFILTER_EMULATED_LOST").is_some();
    let mut h = harness("pipelined=true model=srcnn");
    for number in 1..=8 {
        h.push(frame(SIZE, number)).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    let numbers: Vec<_> = (1..=8).map(|number| (number, BYTES)).collect();
    assert_eq!(out(&mut h), numbers);
    assert!(!stats(&h).get::<bool>("pipelined").unwrap());
    let device = stats(&h).get::<String>("device").unwrap();
    assert_eq!(device == "cpu", lost, "{device}");
}
