//! Frames in pinned memory from the element's allocator, which a GPU copies
//! directly. The tests run on an emulated GPU (`tests/cuda`), each in a child
//! process.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "cuda")]

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use testing::emulated;

testing::emulated! {
    the_same_frames_come_out [emulated::LAZY] => frames_child;
    a_lost_gpu_leaves_the_memory [emulated::LAZY, ("SRFILTER_EMULATED_LOST", "40")] => frames_child;
    others_keep_their_allocators [] => others_child;
}

const FRAMES: u8 = 3;

/// The CPU copies neither input nor output.
#[test]
fn the_gpu_copies_directly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls");
    for (pipelined, staged) in [("false", 0), ("true", 2)] {
        let settings = [
            ("SRFILTER_EMULATED_CALLS", path.to_str().unwrap()),
            ("SRFILTER_TEST_PIPELINED", pipelined),
            emulated::LAZY,
        ];
        emulated::run("copies_child", &settings);
        let calls = std::fs::read_to_string(&path).unwrap();
        let count = |name: &str| -> u32 {
            let mut lines = calls.lines().filter_map(|line| line.rsplit_once(' '));
            let of_name = lines.find(|(call, _)| *call == name);
            of_name.map_or(0, |(_, count)| count.parse().unwrap())
        };
        // Two planes each way; the first frames in flight do not know their
        // output buffer yet and go through staging memory.
        let frames = u32::from(FRAMES);
        assert_eq!(count("cuMemcpy2DAsync_v2"), 4 * frames - 2 * staged);
        assert_eq!(count("cuMemcpyDtoHAsync_v2"), staged);
    }
}

/// Padded rows, and an odd height.
fn info() -> VideoInfo {
    let info = VideoInfo::builder(VideoFormat::Nv12, 50, 27);
    info.fps(gst::Fraction::new(25, 1)).build().unwrap()
}

fn harness(properties: &str) -> gst_check::Harness {
    gst::init().unwrap();
    gstsrfilter::plugin_register_static().expect("plugin registers");
    let element = gst::parse::launch(&format!("srfilter {properties}")).unwrap();
    let mut h = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    h.set_src_caps(info().to_caps().unwrap());
    h
}

/// The allocator that the element proposes to upstream.
fn proposed_allocator(h: &gst_check::Harness) -> Option<gst::Allocator> {
    let mut query = gst::query::Allocation::new(Some(&info().to_caps().unwrap()), true);
    let sink = h.element().unwrap().static_pad("sink").unwrap();
    assert!(sink.query(&mut query));
    query
        .allocation_params()
        .next()
        .and_then(|(allocator, _)| allocator)
}

fn frame(allocator: Option<&gst::Allocator>, number: u8) -> gst::Buffer {
    let params = gst::AllocationParams::new(gst::MemoryFlags::empty(), 127, 16, 5);
    let size = info().size();
    let mut buffer = match allocator {
        Some(allocator) => {
            let memory = allocator.alloc(size, Some(&params)).unwrap();
            let start = memory.map_readable().unwrap().as_ptr() as usize;
            assert!((memory.size(), start % 128) == (size, 0) && memory.offset() >= 16);
            let mut buffer = gst::Buffer::new();
            buffer.make_mut().append_memory(memory);
            buffer
        }
        None => gst::Buffer::with_size(size).unwrap(),
    };
    let writable = buffer.make_mut();
    let mut bytes = writable.map_writable().unwrap();
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = ((i * 37 + usize::from(number) * 11) % 200) as u8 + 20;
    }
    drop(bytes);
    writable.set_pts(gst::ClockTime::from_mseconds(40 * u64::from(number)));
    buffer
}

/// The output for frames in pinned or in system memory, and the device of the
/// last one.
fn run(properties: &str, pinned_input: bool) -> (Vec<Vec<u8>>, String) {
    let mut h = harness(properties);
    let allocator = proposed_allocator(&h).filter(|_| pinned_input);
    assert_eq!(allocator.is_some(), pinned_input);
    for number in 0..FRAMES {
        h.push(frame(allocator.as_ref(), number)).unwrap();
    }
    h.push_event(gst::event::Eos::new());
    let out = std::iter::from_fn(|| h.try_pull());
    let out = out.map(|buffer| buffer.map_readable().unwrap().to_vec());
    let out = out.collect();
    let stats: gst::Structure = h.element().unwrap().property("stats");
    (out, stats.get("device").unwrap())
}

#[test]
#[ignore = "run by another test, in a child process"]
fn frames_child() {
    let lost = std::env::var_os("SRFILTER_EMULATED_LOST").is_some();
    let device = match lost {
        true => "auto precision=f32",
        false => "cuda",
    };
    let (cpu, _) = run(
        "device=cpu precision=f32 model=espcn reuse=off on-overload=drop",
        false,
    );
    assert_eq!(cpu.len(), usize::from(FRAMES));
    for pipelined in [false, true] {
        let properties =
            format!("device={device} pipelined={pipelined} model=espcn reuse=off on-overload=drop");
        for pinned_input in [true, false] {
            if lost && !pinned_input {
                continue;
            }
            let (frames, device) = run(&properties, pinned_input);
            assert_eq!(device == "cpu", lost, "{device}");
            assert_eq!(frames.len(), cpu.len());
            for (frame, cpu) in frames.iter().zip(&cpu) {
                let pairs = frame.iter().zip(cpu);
                let errors = pairs.filter(|(a, b)| a.abs_diff(**b) > 1).count();
                assert!(frame.len() == cpu.len() && errors * 1000 <= cpu.len());
            }
        }
        if lost {
            break;
        }
    }
}

#[test]
#[ignore = "run by another test, in a child process"]
fn copies_child() {
    let pipelined = std::env::var("SRFILTER_TEST_PIPELINED").unwrap();
    let properties =
        format!("device=cuda model=espcn reuse=off on-overload=drop pipelined={pipelined}");
    assert_eq!(run(&properties, true).0.len(), usize::from(FRAMES));
}

/// The allocator of an output frame if downstream answers the allocation query
/// with `answer`.
fn output_allocator(answer: fn(&mut gst::query::Allocation)) -> Option<gst::Allocator> {
    let mut h = harness("device=cuda model=bicubic");
    let src = h.element().unwrap().static_pad("src").unwrap();
    src.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
        match info.query_mut().map(gst::QueryRef::view_mut) {
            Some(gst::QueryViewMut::Allocation(query)) => answer(query),
            _ => return gst::PadProbeReturn::Ok,
        }
        gst::PadProbeReturn::Handled
    });
    src.mark_reconfigure();
    h.push(frame(None, 1)).unwrap();
    h.pull().unwrap().peek_memory(0).allocator().cloned()
}

/// Downstream's allocator is used if it proposes one, a plain video pool gets
/// the element's, and the CPU proposes none.
#[test]
#[ignore = "run by another test, in a child process"]
fn others_child() {
    assert!(proposed_allocator(&harness("device=cpu")).is_none());
    let usual = || gst::Allocator::find(Some("SystemMemory")).unwrap();
    let pinned = output_allocator(|_| {});
    let proposed = output_allocator(|query| {
        let allocator = gst::Allocator::find(Some("SystemMemory"));
        query.add_allocation_param(allocator.as_ref(), gst::AllocationParams::default());
    });
    let pooled = output_allocator(|query| {
        let info = VideoInfo::from_caps(&query.get_owned().0.unwrap()).unwrap();
        let pool = gst_video::VideoBufferPool::new();
        query.add_allocation_pool(Some(&pool), info.size() as u32, 0, 0);
    });
    assert!(proposed == Some(usual()) && pinned != proposed && pooled == pinned);
}
