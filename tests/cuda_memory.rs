//! Frames that stay in a GPU's memory from one element to the next, with
//! GStreamer's own elements around ours, on an emulated GPU.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "cuda")]

use gst::prelude::*;
use testing::emulated;

#[test]
fn frames_stay_on_the_gpu() {
    emulated::run("frames_child", &[]);
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

/// Whether GStreamer has what uploads to a GPU.
fn is_there() -> bool {
    gst::init().unwrap();
    // A bundle brings it as a plugin.
    if gst::ElementFactory::find("srfilter").is_none() {
        gstsrfilter::plugin_register_static().unwrap();
    }
    if gst::Registry::get().find_plugin("nvcodec").is_none() {
        println!("skipped: GStreamer has no nvcodec (gst-plugins-bad)");
        return false;
    }
    // What finds no driver that it likes has no elements.
    let there = gst::ElementFactory::find("cudaupload").is_some();
    assert!(there, "nvcodec refuses the GPU");
    there
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

    /// The samples that come out, and what the element says about itself then.
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

/// The bytes of every sample of a frame, without what pads its rows.
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

/// The same bytes as through the host's memory, launched and as a graph.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn frames_child() {
    if !is_there() {
        return;
    }
    for (format, settings) in [
        // At odd heights planes of three overlap in libgstcuda 1.22 itself.
        ("YV12", "model=bicubic scale=2"),
        ("NV12", "model=bicubic scale=3/2"),
        ("NV12", "model=espcn"),
        ("I420", "model=srcnn"),
        ("Y444", "model=espcn scale=3"),
        ("RGBA", "model=espcn"),
    ] {
        let made = |before: &str, after: &str| {
            let playing = Playing::launch(&format!(
                "{} ! {before} srfilter name=sr device=cuda:0 qos=false {settings} ! {after} \
                 appsink name=sink sync=false",
                source(format)
            ));
            playing.start();
            let made: Vec<_> = playing.samples(FRAMES).iter().map(bytes).collect();
            (made, playing.stats("memory"), playing.stats("device"))
        };
        let cuda = "video/x-raw(memory:CUDAMemory)";
        let (there, memory, device) = made("cudaupload !", &format!("{cuda} ! cudadownload !"));
        assert_eq!(memory, "CUDAMemory", "{format}");
        assert!(device.starts_with("cuda:0"), "{device}");
        let (here, memory, _) = made("", "");
        assert_eq!(memory, "system");
        assert_ne!(there[0], there[FRAMES - 1]);
        for (frame, (there, here)) in there.iter().zip(&here).enumerate() {
            assert_eq!(there.len(), here.len());
            let first = there.iter().zip(here).position(|(a, b)| a != b);
            let of = there.len();
            assert_eq!(
                first, None,
                "{format} {settings}: frame {frame} of {of} bytes"
            );
        }
    }
}

/// An element that made its context before ours could be offered.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn foreign_child() {
    if !is_there() {
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
    let made: Vec<_> = upscale.samples(FRAMES).iter().map(bytes).collect();
    assert_eq!(upscale.stats("memory"), "system");

    let plain = Playing::launch(&format!(
        "{} ! srfilter name=sr device=cuda:0 qos=false model=espcn ! \
         appsink name=sink sync=false",
        source("NV12")
    ));
    plain.start();
    let wanted: Vec<_> = plain.samples(FRAMES).iter().map(bytes).collect();
    assert!(made == wanted);
}

/// The CPU takes over, with frames still in the GPU's memory.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn lost_child() {
    if !is_there() {
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
#[ignore = "run by another test, in a process of its own"]
fn cpu_child() {
    if !is_there() {
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
    // The device may change until it starts.
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
