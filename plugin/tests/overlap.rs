//! Frames that go out one later, on a GPU. Where there is none, its kernels run
//! on the CPU (`tests/cuda`), and only when they are waited for; each test runs
//! in a process of its own.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "cuda")]

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use testing::emulated;

testing::emulated! {
    frames_go_out_one_later_in_order [emulated::LAZY] => order_child;
    nothing_overtakes_them [emulated::LAZY] => events_child;
    properties_change_between_frames [emulated::LAZY] => changes_child;
    a_flush_forgets_them [emulated::LAZY] => flush_child;
    gaps_are_marked_behind_them [emulated::LAZY] => gaps_child;
    pipelines_hear_of_the_delay [emulated::LAZY] => live_child;
    a_lost_gpu_loses_no_frame [emulated::LAZY, ("SRFILTER_EMULATED_LOST", "30")] => lost_child;
    little_memory_loses_no_frame [("SRFILTER_EMULATED_MEMORY", "1200000")] => lost_child;
    the_cpu_makes_them_one_by_one [] => cpu_child;
}

const SIZE: (u32, u32) = (40, 24);

fn element(properties: &str) -> gst::Element {
    gst::init().unwrap();
    gstsrfilter::plugin_register_static().expect("plugin registers");
    let text = format!("srfilter {properties}");
    gst::parse::launch(&text).unwrap()
}

fn harness(properties: &str) -> gst_check::Harness {
    let mut h = gst_check::Harness::with_element(&element(properties), Some("sink"), Some("src"));
    h.set_src_caps(caps(SIZE));
    h
}

fn caps((width, height): (u32, u32)) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(VideoFormat::Gray8)
        .width(width as i32)
        .height(height as i32)
        .framerate(gst::Fraction::new(25, 1))
        .build()
}

/// A frame of one value, by which it is known again.
fn frame((width, height): (u32, u32), number: u8) -> gst::Buffer {
    let info = VideoInfo::builder(VideoFormat::Gray8, width, height);
    let mut buffer = gst::Buffer::with_size(info.build().unwrap().size()).unwrap();
    let made = buffer.make_mut();
    made.map_writable().unwrap().fill(20 * number);
    made.set_pts(gst::ClockTime::from_mseconds(40 * u64::from(number)));
    made.set_duration(gst::ClockTime::from_mseconds(40));
    buffer
}

/// The numbers of the frames that came out, and how long they are.
fn out(h: &mut gst_check::Harness) -> Vec<(u64, usize)> {
    let made = std::iter::from_fn(|| h.try_pull());
    made.map(|buffer| {
        let number = buffer.pts().unwrap().mseconds() / 40;
        let middle = buffer.map_readable().unwrap()[buffer.size() / 2];
        let apart = u64::from(middle).abs_diff(20 * number);
        assert!(apart <= 2, "frame {number} holds {middle}");
        (number, buffer.size())
    })
    .collect()
}

fn stats(h: &gst_check::Harness) -> gst::Structure {
    h.element().unwrap().property("stats")
}

const BYTES: usize = 4 * 40 * 24;

#[test]
#[ignore = "run by another test, in a process of its own"]
fn order_child() {
    for model in ["bicubic", "srcnn"] {
        let mut h = harness(&format!("device=cuda pipelined=true model={model}"));
        for number in 1..=6 {
            h.push(frame(SIZE, number)).unwrap();
            let expected: &[(u64, usize)] = match number {
                1 => &[],
                _ => &[(u64::from(number) - 1, BYTES)],
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

/// Events and queries that are in order with frames find none at work.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn events_child() {
    let mut h = harness("device=cuda pipelined=true model=bicubic");
    let mut allocation = gst::query::Allocation::new(Some(&caps(SIZE)), true);
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    assert!(sink.query(&mut allocation));
    let (_, _, least, _) = allocation.allocation_pools().next().unwrap();
    assert_eq!(least, 2);
    h.push(frame(SIZE, 1)).unwrap();
    let gap = gst::event::Gap::builder(gst::ClockTime::from_mseconds(80));
    h.push_event(gap.build());
    assert_eq!(out(&mut h), [(1, BYTES)]);
    h.push(frame(SIZE, 3)).unwrap();
    let mut drain = gst::query::Drain::new();
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    sink.query(&mut drain);
    assert_eq!(out(&mut h), [(3, BYTES)]);
    // A rate that nobody knows has no time of a frame.
    let unknown = caps(SIZE);
    let mut unknown = unknown.copy();
    unknown
        .make_mut()
        .set("framerate", gst::Fraction::new(0, 1));
    h.set_src_caps(unknown);
    let src = h.element().unwrap().static_pad("src").unwrap();
    src.query(&mut gst::query::Latency::new());
    // Another size coming in.
    h.push(frame(SIZE, 4)).unwrap();
    h.push_event(gst::event::Caps::new(&caps((20, 12))));
    assert_eq!(out(&mut h), [(4, BYTES)]);
    h.push(frame((20, 12), 5)).unwrap();
    h.push(frame((20, 12), 6)).unwrap();
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), [(5, BYTES / 4), (6, BYTES / 4)]);
}

#[test]
#[ignore = "run by another test, in a process of its own"]
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
    // The same size as what comes in: passed through at once.
    element.set_property("scale", gst::Fraction::new(1, 1));
    h.push(frame(SIZE, 4)).unwrap();
    assert_eq!(out(&mut h), [(3, BYTES / 4 * 9), (4, BYTES / 4)]);
    element.set_property("scale", gst::Fraction::new(2, 1));
    h.push(frame(SIZE, 5)).unwrap();
    h.push(frame(SIZE, 6)).unwrap();
    assert_eq!(out(&mut h), [(5, BYTES)]);
    // A change that fails keeps what runs, and loses nothing.
    element.set_property("model", "drct");
    h.push(frame(SIZE, 7)).unwrap();
    h.push_event(gst::event::Eos::new());
    assert_eq!(out(&mut h), [(6, BYTES), (7, BYTES)]);
}

#[test]
#[ignore = "run by another test, in a process of its own"]
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
    // One that stops with a frame at work, and starts again.
    h.push_event(gst::event::FlushStart::new());
    h.push_event(gst::event::FlushStop::new(true));
    h.push_event(gst::event::Segment::new(&segment));
    h.push(frame(SIZE, 10)).unwrap();
    drop(h);
}

/// What comes after frames that were late, or lost upstream, says so, and not
/// the frame at work before them.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn gaps_child() {
    let marked = |h: &mut gst_check::Harness| -> Vec<(u64, bool)> {
        let made = std::iter::from_fn(|| h.try_pull());
        let number = |buffer: &gst::Buffer| buffer.pts().unwrap().mseconds() / 40;
        made.map(|b| (number(&b), b.flags().contains(gst::BufferFlags::DISCONT)))
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
#[ignore = "run by another test, in a process of its own"]
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

/// A GPU that fails while frames are at work, or has no memory for two of them.
#[test]
#[ignore = "run by another test, in a process of its own"]
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

#[test]
#[ignore = "run by another test, in a process of its own"]
fn cpu_child() {
    let mut h = harness("device=cpu pipelined=true model=espcn");
    h.push(frame(SIZE, 1)).unwrap();
    assert_eq!(out(&mut h), [(1, BYTES)]);
    assert!(!stats(&h).get::<bool>("pipelined").unwrap());
}
