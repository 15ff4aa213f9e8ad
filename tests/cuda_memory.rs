//! Frames in GPU memory from one element to the next, between GStreamer's CUDA
//! elements, on an emulated GPU.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "cuda")]

use gst::prelude::*;
use testing::emulated;

#[test]
fn frames_stay_on_the_gpu() {
    emulated::run("frames_child", &[]);
}

#[test]
fn equal_frames_are_computed_once() {
    emulated::run("equal_child", &[]);
}

#[test]
fn frames_of_another_context_are_served() {
    emulated::run("foreign_child", &[]);
}

#[test]
fn a_gpu_that_is_lost_hands_over() {
    emulated::run("lost_child", &[("SRFILTER_EMULATED_LOST", "40")]);
}

#[test]
fn without_a_gpu_nothing_is_offered() {
    emulated::run("cpu_child", &[]);
}

/// Whether GStreamer has CUDA elements.
fn has_cuda_elements() -> bool {
    gst::init().unwrap();
    // A bundle has it as an installed plugin.
    if gst::ElementFactory::find("srfilter").is_none() {
        gstsrfilter::plugin_register_static().unwrap();
    }
    if gst::Registry::get().find_plugin("nvcodec").is_none() {
        println!("skipped: GStreamer has no nvcodec (gst-plugins-bad)");
        return false;
    }
    // nvcodec has no elements without a suitable driver.
    let has_upload = gst::ElementFactory::find("cudaupload").is_some();
    assert!(has_upload, "nvcodec refuses the GPU");
    has_upload
}

struct Playing(gst::Pipeline);

impl Drop for Playing {
    fn drop(&mut self) {
        self.0.set_state(gst::State::Null).unwrap();
    }
}

impl Playing {
    fn launch(text: &str) -> Self {
        let pipeline = gst::parse::launch(text).unwrap();
        Self(pipeline.downcast().unwrap())
    }

    fn start(&self) {
        self.0.set_state(gst::State::Playing).unwrap();
    }

    /// The output samples.
    fn samples(&self, count: usize) -> Vec<gst::Sample> {
        let sink: gst_app::AppSink = self.0.by_name("sink").unwrap().downcast().unwrap();
        let pull = |_| match sink.try_pull_sample(gst::ClockTime::from_seconds(60)) {
            Some(sample) => sample,
            None => {
                let bus = self.0.bus().unwrap();
                panic!("{:?}", bus.pop_filtered(&[gst::MessageType::Error]));
            }
        };
        (0..count).map(pull).collect()
    }

    fn stats(&self, field: &str) -> String {
        let element = self.0.by_name("sr").unwrap();
        let stats: gst::Structure = element.property("stats");
        stats.get(field).unwrap()
    }
}

/// The bytes of a frame without row padding.
fn bytes(sample: &gst::Sample) -> Vec<u8> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info);
    let frame = frame.unwrap();
    let format = srfilter::frame::PixelFormat::from_name(info.format().to_str()).unwrap();
    use gst_video::prelude::*;
    let mut all = Vec::new();
    for plane in 0..format.planes() {
        let size = (info.width() as usize, info.height() as usize);
        let (row, rows) = format.plane_size(plane, size.0, size.1);
        let stride = frame.plane_stride()[plane] as usize;
        let data = frame.plane_data(plane as u32).unwrap();
        all.extend(data.chunks(stride).take(rows).flat_map(|line| &line[..row]));
    }
    all
}

const FRAMES: usize = 4;

fn source(format: &str) -> String {
    format!(
        "videotestsrc num-buffers={FRAMES} pattern=ball ! \
         video/x-raw,format={format},width=38,height=26"
    )
}

/// The same bytes as through host memory, with launches and with a graph.
#[test]
#[ignore = "run by another test, in a child process"]
fn frames_child() {
    if !has_cuda_elements() {
        return;
    }
    for (format, settings) in [
        // At odd heights libgstcuda 1.22 overlaps the planes of 3-plane formats.
        ("YV12", "model=bicubic scale=2"),
        ("NV12", "model=bicubic scale=3/2"),
        ("NV12", "model=espcn"),
        ("I420", "model=srcnn"),
        ("Y444", "model=espcn scale=3"),
        ("RGBA", "model=espcn"),
    ] {
        let run = |before: &str, after: &str| {
            let playing = Playing::launch(&format!(
                "{} ! {before} srfilter name=sr device=cuda:0 qos=false {settings} ! {after} \
                 appsink name=sink sync=false",
                source(format)
            ));
            playing.start();
            let frames: Vec<_> = playing.samples(FRAMES).iter().map(bytes).collect();
            (frames, playing.stats("memory"), playing.stats("device"))
        };
        let cuda = "video/x-raw(memory:CUDAMemory)";
        let (on_gpu, memory, device) = run("cudaupload !", &format!("{cuda} ! cudadownload !"));
        assert_eq!(memory, "CUDAMemory", "{format}");
        assert!(device.starts_with("cuda:0"), "{device}");
        let (on_host, memory, _) = run("", "");
        assert_eq!(memory, "system");
        assert_ne!(on_gpu[0], on_gpu[FRAMES - 1]);
        for (frame, (on_gpu, on_host)) in on_gpu.iter().zip(&on_host).enumerate() {
            assert_eq!(on_gpu.len(), on_host.len());
            let first = on_gpu.iter().zip(on_host).position(|(a, b)| a != b);
            let of = on_gpu.len();
            assert_eq!(
                first, None,
                "{format} {settings}: frame {frame} of {of} bytes"
            );
        }
    }
}

/// Frames of which some are the last one again, and some differ in one byte.
#[test]
#[ignore = "run by another test, in a child process"]
fn equal_child() {
    if !has_cuda_elements() {
        return;
    }
    const SIZE: (usize, usize) = (38, 26);
    let first: Vec<u8> = (0..SIZE.0 * SIZE.1 * 3 / 2)
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    let changed = |byte: usize| {
        let mut frame = first.clone();
        frame[byte] ^= 64;
        frame
    };
    let (top, last) = (changed(0), changed(first.len() - 1));
    let frames = [
        &first, &first, &first, &last, &last, &first, &top, &first, &first,
    ];
    let run = |before: &str, reuse: &str, after: &str| {
        let playing = Playing::launch(&format!(
            "appsrc name=src format=time caps=video/x-raw,format=NV12,width={},height={},framerate=25/1 ! \
             {before} srfilter name=sr device=cuda:0 qos=false model=espcn reuse={reuse} ! {after} \
             appsink name=sink sync=false",
            SIZE.0, SIZE.1
        ));
        playing.start();
        let src = playing.0.by_name("src").unwrap();
        for (index, frame) in frames.iter().enumerate() {
            // The rows of GStreamer's frames are padded to words.
            let padded = frame
                .chunks(SIZE.0)
                .flat_map(|row| row.iter().copied().chain([0; 2]));
            let mut buffer = gst::Buffer::from_slice(padded.collect::<Vec<u8>>());
            let time = index as u64 * 40 * gst::ClockTime::MSECOND;
            buffer.get_mut().unwrap().set_pts(time);
            src.downcast_ref::<gst_app::AppSrc>()
                .unwrap()
                .push_buffer(buffer)
                .unwrap();
        }
        let samples = playing.samples(frames.len());
        let stats: gst::Structure = playing.0.by_name("sr").unwrap().property("stats");
        let outputs: Vec<_> = samples.iter().map(bytes).collect();
        (
            outputs,
            stats.get::<u64>("reused-frames").unwrap(),
            playing.stats("memory"),
        )
    };
    let (plain, reused, memory) = run("", "off", "");
    assert_eq!((reused, memory.as_str()), (0, "system"));
    assert!(plain[0] != plain[3] && plain[0] != plain[6]);
    let cuda = "video/x-raw(memory:CUDAMemory) ! cudadownload !";
    for (before, after, expected) in [("cudaupload !", cuda, "CUDAMemory"), ("", "", "system")] {
        let (outputs, reused, memory) = run(before, "on", after);
        assert_eq!((reused, memory.as_str()), (4, expected));
        assert!(outputs == plain, "{memory}");
        let (outputs, _, _) = run(before, "auto", after);
        assert!(outputs == plain, "{memory}, auto");
    }
}

/// An element that created its context before ours was shared.
#[test]
#[ignore = "run by another test, in a child process"]
fn foreign_child() {
    if !has_cuda_elements() {
        return;
    }
    let other = Playing::launch(&format!(
        "{} ! cudaupload ! video/x-raw(memory:CUDAMemory) ! appsink name=sink sync=false",
        source("NV12")
    ));
    other.start();
    let samples = other.samples(FRAMES);
    let features = samples[0].caps().unwrap().features(0).unwrap();
    assert!(features.contains("memory:CUDAMemory"));
    let upscale = Playing::launch(
        "appsrc name=source format=time ! srfilter name=sr device=cuda:0 qos=false model=espcn ! \
         cudadownload ! appsink name=sink sync=false",
    );
    let source_element: gst_app::AppSrc = upscale.0.by_name("source").unwrap().downcast().unwrap();
    source_element.set_caps(samples[0].caps_owned().as_ref());
    upscale.start();
    for sample in &samples {
        source_element
            .push_buffer(sample.buffer_owned().unwrap())
            .unwrap();
    }
    let output: Vec<_> = upscale.samples(FRAMES).iter().map(bytes).collect();
    assert_eq!(upscale.stats("memory"), "system");

    let plain = Playing::launch(&format!(
        "{} ! srfilter name=sr device=cuda:0 qos=false model=espcn ! \
         appsink name=sink sync=false",
        source("NV12")
    ));
    plain.start();
    let expected: Vec<_> = plain.samples(FRAMES).iter().map(bytes).collect();
    assert!(output == expected);
}

/// The CPU takes over while frames are still in GPU memory.
#[test]
#[ignore = "run by another test, in a child process"]
fn lost_child() {
    if !has_cuda_elements() {
        return;
    }
    let playing = Playing::launch(&format!(
        "{} ! cudaupload ! srfilter name=sr qos=false model=espcn ! cudadownload ! \
         appsink name=sink sync=false",
        source("NV12")
    ));
    playing.start();
    playing.samples(FRAMES);
    assert_eq!(playing.stats("device"), "cpu");
    let bus = playing.0.bus().unwrap();
    let warning = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
    let gst::MessageView::Warning(warning) = warning.view() else {
        panic!("{warning:?}");
    };
    let warning = warning.error().to_string();
    assert!(warning.contains("The CPU takes over"), "{warning}");
}

#[test]
#[ignore = "run by another test, in a child process"]
fn cpu_child() {
    if !has_cuda_elements() {
        return;
    }
    let offers = |playing: &Playing, pad: &str| {
        let element = playing.0.by_name("sr").unwrap();
        let caps = element.static_pad(pad).unwrap().query_caps(None);
        caps.to_string().contains("memory:CUDAMemory")
    };
    for (device, offered) in [("cpu", false), ("auto", true)] {
        let playing = Playing::launch(&format!("srfilter name=sr device={device} ! fakesink"));
        playing.0.set_state(gst::State::Ready).unwrap();
        for pad in ["sink", "src"] {
            assert_eq!(offers(&playing, pad), offered, "{device} {pad}");
        }
    }
    // The device may change until the element starts.
    let playing = Playing::launch("videotestsrc ! srfilter name=sr ! fakesink");
    playing.0.set_state(gst::State::Ready).unwrap();
    assert!(offers(&playing, "sink"));
    playing
        .0
        .by_name("sr")
        .unwrap()
        .set_property("device", "cpu");
    playing.0.set_state(gst::State::Paused).unwrap();
    playing.0.state(gst::ClockTime::from_seconds(60)).0.unwrap();
    assert_eq!(playing.stats("device"), "cpu");
    assert!(!offers(&playing, "sink"));
}
