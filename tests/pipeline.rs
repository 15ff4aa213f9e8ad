//! Pipelines: decoded video, and changes of properties while PLAYING.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::{Color, FrameMut, FrameRef, Matrix, PixelFormat, Range, Siting};
use srfilter::models::{self, Channels};
use srfilter::ops::Border;
use srfilter::weights::{LoadOverrides, Model};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

/// Longest wait for a pipeline before the test fails.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// The message about a change of model.
const CHANGED: &str = "srfilter-model-changed";

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsrfilter::plugin_register_static().expect("plugin registers");
    });
}

fn launch(description: &str) -> gst::Pipeline {
    init();
    let element = gst::parse::launch(description).unwrap();
    element.downcast().unwrap()
}

/// Runs to the end of the stream. Returns the warnings.
fn run(pipeline: &gst::Pipeline) -> Vec<String> {
    pipeline.set_state(gst::State::Playing).unwrap();
    let warnings = wait(pipeline);
    pipeline.set_state(gst::State::Null).unwrap();
    warnings
}

fn wait(pipeline: &gst::Pipeline) -> Vec<String> {
    let bus = pipeline.bus().unwrap();
    let mut warnings = Vec::new();
    loop {
        let message = bus.timed_pop(PATIENCE).expect("the pipeline hangs");
        match message.view() {
            gst::MessageView::Eos(_) => return warnings,
            gst::MessageView::Error(e) => panic!("{} {:?}", e.error(), e.debug()),
            gst::MessageView::Warning(w) => warnings.push(w.error().to_string()),
            _ => {}
        }
    }
}

fn stats(element: &gst::Element) -> gst::Structure {
    element.property("stats")
}

/// (caps, buffer) of every sample that an appsink receives.
type Samples = Arc<Mutex<Vec<(VideoInfo, gst::Buffer)>>>;

fn collect(pipeline: &gst::Pipeline, sink: &str) -> Samples {
    let samples = Samples::default();
    let sink = pipeline.by_name(sink).unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    let collected = Arc::clone(&samples);
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        collected
            .lock()
            .unwrap()
            .push((info, sample.buffer_owned().unwrap()));
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    samples
}

/// The frame spec of the caps, without the plugin's code.
fn frame_spec(info: &VideoInfo) -> FrameSpec {
    use gst_video::{VideoChromaSite, VideoColorMatrix, VideoColorRange};
    let site = info.chroma_site();
    let matrix = match info.colorimetry().matrix() {
        VideoColorMatrix::Bt709 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let range = match info.colorimetry().range() {
        VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
    };
    let siting = Siting {
        left: site.is_empty() || site.contains(VideoChromaSite::H_COSITED),
        top: site.contains(VideoChromaSite::V_COSITED),
    };
    let format = PixelFormat::from_name(&info.format().to_string()).unwrap();
    FrameSpec::new(format, info.width() as usize, info.height() as usize)
        .with_color(Color::new(matrix, range, siting))
}

/// The engine's output for a buffer, as dense rows of every plane.
fn engine(upscaler: &mut Upscaler, info: &VideoInfo, buffer: &gst::Buffer) -> Vec<Vec<u8>> {
    let frame_spec = frame_spec(info);
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let planes: Vec<_> = (0..frame.n_planes())
        .map(|p| {
            let stride = frame.plane_stride()[p as usize] as usize;
            (frame.plane_data(p).unwrap(), stride)
        })
        .collect();
    let input = FrameRef::new(
        frame_spec.format,
        frame_spec.size,
        frame_spec.color,
        &planes,
    )
    .unwrap();
    let (w, h) = upscaler.spec().output;
    let mut out: Vec<(Vec<u8>, usize)> = (0..frame_spec.format.planes())
        .map(|p| {
            let (row, rows) = frame_spec.format.plane_size(p, w, h);
            (vec![0; row * rows], row)
        })
        .collect();
    let planes = out.iter_mut().map(|(d, s)| (d.as_mut_slice(), *s));
    let mut output = FrameMut::new(frame_spec.format, (w, h), frame_spec.color, planes).unwrap();
    upscaler.process(&input, &mut output).unwrap();
    out.into_iter().map(|(d, _)| d).collect()
}

/// An output buffer of a pipeline as dense rows of every plane.
fn dense(info: &VideoInfo, buffer: &gst::Buffer) -> Vec<Vec<u8>> {
    let frame_spec = frame_spec(info);
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    (0..frame.n_planes())
        .map(|p| {
            let (row, rows) =
                frame_spec
                    .format
                    .plane_size(p as usize, frame_spec.size.0, frame_spec.size.1);
            let stride = frame.plane_stride()[p as usize] as usize;
            let data = frame.plane_data(p).unwrap().chunks(stride).take(rows);
            data.flat_map(|line| line[..row].to_vec()).collect()
        })
        .collect()
}

/// A clip to decode: a real one, or a synthetic one.
fn clip(dir: &Path) -> PathBuf {
    if let Some(real) = common::shared("video/carphone_pristine.mp4") {
        return real;
    }
    let path = dir.join("drawn.webm");
    run(&launch(&format!(
        "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=176,height=144,framerate=25/1 \
         ! vp8enc ! webmmux ! filesink location={}",
        path.display()
    )));
    path
}

#[test]
fn the_element_equals_the_engine_on_decoded_video() {
    let dir = tempfile::tempdir().unwrap();
    init();
    let clip = clip(dir.path());
    let srcnn = common::small_file(dir.path(), Channels::Luma, Border::Replicate);
    let espcn = common::espcn_file(dir.path());
    for (weights, scale, format) in [
        (&srcnn, "2", "I420"),
        (&srcnn, "3/2", "NV12"),
        (&srcnn, "3", "BGRx"),
        (&espcn, "2", "NV12"),
        (&espcn, "5/2", "I420"),
        (&espcn, "3", "BGRx"),
    ] {
        let pipeline = launch(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format={format} ! tee name=t \
             t. ! queue ! appsink name=before sync=false \
             t. ! queue ! srfilter name=sr weights={} scale={scale} qos=false ! appsink name=after sync=false",
            clip.display(),
            weights.display()
        ));
        let (before, after) = (collect(&pipeline, "before"), collect(&pipeline, "after"));
        assert_eq!(run(&pipeline), Vec::<String>::new());
        let (before, after) = (before.lock().unwrap(), after.lock().unwrap());
        assert_eq!(before.len(), after.len());
        assert!(before.len() >= 30, "{} frames", before.len());
        let model = Model::open_with(weights, None, &LoadOverrides::default()).unwrap();
        let scale: Scale = scale.parse().unwrap();
        let spec = UpscaleSpec::scaled(frame_spec(&before[0].0), scale);
        let mut upscaler = Upscaler::new(model, spec, &UpscaleOptions::default()).unwrap();
        for ((in_info, input), (out_info, output)) in before.iter().zip(after.iter()) {
            let size = (out_info.width() as usize, out_info.height() as usize);
            assert_eq!(size, spec.output);
            assert_eq!(output.pts(), input.pts());
            assert_eq!(output.duration(), input.duration());
            assert_eq!(out_info.format(), in_info.format());
            assert_eq!(out_info.colorimetry(), in_info.colorimetry());
            let expected = engine(&mut upscaler, in_info, input);
            assert!(
                dense(out_info, output) == expected,
                "{format} at {:?}",
                input.pts()
            );
        }
    }
}

/// Sends one buffer at a time through `appsrc ! BODY ! appsink`.
struct Stepper {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    sr: gst::Element,
    info: VideoInfo,
    count: u64,
}

impl Stepper {
    fn new(size: (u32, u32), body: &str) -> Self {
        let pipeline = launch(&format!(
            "appsrc name=source format=time ! {body} ! appsink name=sink sync=false"
        ));
        let info = VideoInfo::builder(gst_video::VideoFormat::I420, size.0, size.1)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .unwrap();
        let source = pipeline.by_name("source").unwrap();
        let source = source.downcast::<gst_app::AppSrc>().unwrap();
        let caps = info.to_caps().unwrap();
        source.set_caps(Some(&caps));
        // What caps do not state has other defaults in later versions.
        let info = VideoInfo::from_caps(&caps).unwrap();
        let sink = pipeline.by_name("sink").unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self {
            sink: sink.downcast().unwrap(),
            sr: pipeline.by_name("sr").unwrap(),
            pipeline,
            source,
            info,
            count: 0,
        }
    }

    /// Pushes a buffer of noise. Returns it and its output.
    fn step(&mut self) -> (gst::Buffer, VideoInfo, gst::Buffer) {
        let mut buffer = gst::Buffer::with_size(self.info.size()).unwrap();
        let mut next = common::noise(self.count);
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(gst::ClockTime::from_mseconds(40 * self.count));
            let mut map = buffer.map_writable().unwrap();
            map.iter_mut().for_each(|v| *v = (next() * 256.0) as u8);
        }
        self.count += 1;
        self.source.push_buffer(buffer.clone()).unwrap();
        let Some(sample) = self.sink.try_pull_sample(PATIENCE) else {
            let bus = self.pipeline.bus().unwrap();
            panic!(
                "no buffer came out: {:?}",
                bus.pop_filtered(&[gst::MessageType::Error])
            );
        };
        // The sink plays before the elements upstream of it do.
        self.pipeline.state(PATIENCE).0.unwrap();
        let out = sample.buffer_owned().unwrap();
        assert_eq!(out.pts(), buffer.pts(), "a buffer was lost");
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        (buffer, info, out)
    }

    fn set_scale(&self, num: i32, den: i32) {
        self.sr.set_property("scale", gst::Fraction::new(num, den));
    }

    /// Steps, and compares the output with the engine's.
    fn check(&mut self, size: (u32, u32), scale: &str, model: &Arc<Model>) {
        let (input, info, output) = self.step();
        assert_eq!((info.width(), info.height()), size, "at scale {scale}");
        if size == (self.info.width(), self.info.height()) {
            assert!(dense(&info, &output) == dense(&self.info, &input));
            return;
        }
        let spec = UpscaleSpec::scaled(frame_spec(&self.info), scale.parse().unwrap())
            .with_output(size.0 as usize, size.1 as usize);
        let mut upscaler =
            Upscaler::new(Arc::clone(model), spec, &UpscaleOptions::default()).unwrap();
        let expected = engine(&mut upscaler, &self.info, &input);
        assert!(dense(&info, &output) == expected, "at scale {scale}");
        let active: String = stats(&self.sr).get("active-model").unwrap();
        assert_eq!(active, model.name());
    }

    /// Steps until a message with that text is posted, and returns the messages
    /// up to it: models load in the background.
    fn step_until(&mut self, text: &str) -> Vec<String> {
        let (started, mut messages) = (Instant::now(), Vec::new());
        while !messages.iter().any(|m: &String| m.contains(text)) {
            assert!(started.elapsed().as_secs() < 120, "{text}: {messages:?}");
            self.step();
            messages.extend(self.messages());
        }
        messages
    }

    fn messages(&self) -> Vec<String> {
        let bus = self.pipeline.bus().unwrap();
        let texts = bus.iter().filter_map(|message| match message.view() {
            gst::MessageView::Error(e) => Some(format!("error {}", e.error())),
            gst::MessageView::Warning(w) => Some(format!("warning {}", w.error())),
            gst::MessageView::Element(e) => Some(e.structure().unwrap().name().to_string()),
            _ => None,
        });
        texts.collect()
    }

    fn negotiations(&self) -> u64 {
        stats(&self.sr).get("negotiations").unwrap()
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[test]
fn scale_and_model_change_while_playing() {
    let dir = tempfile::tempdir().unwrap();
    let luma = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let rgb = common::small_file(dir.path(), Channels::Rgb, Border::Zero);
    let load = |path: &Path| Model::open_with(path, None, &LoadOverrides::default()).unwrap();
    let (luma_model, rgb_model) = (load(&luma), load(&rgb));
    let bicubic = Model::builtin("bicubic").unwrap();
    let body = format!(
        "queue ! srfilter name=sr weights={} ! tee name=t ! queue ! fakesink sync=false t. ! queue",
        luma.display()
    );
    let mut s = Stepper::new((32, 20), &body);
    s.check((64, 40), "2", &luma_model);
    assert_eq!(s.negotiations(), 1);
    for (n, d, size, scale) in [
        (3, 1, (96, 60), "3"),
        (3, 2, (48, 30), "3/2"),
        (1, 1, (32, 20), "1"),
        (0, 1, (64, 40), "2"),
        (2, 1, (64, 40), "2"),
    ] {
        s.set_scale(n, d);
        for _ in 0..3 {
            s.check(size, scale, &luma_model);
        }
    }
    // 2/1 after 0/1 has the same caps: one negotiation fewer than changes.
    assert_eq!(s.negotiations(), 5);
    s.sr.set_property("weights", rgb.to_str().unwrap());
    assert_eq!(s.step_until(CHANGED), [CHANGED]);
    s.check((64, 40), "2", &rgb_model);
    s.sr.set_property("weights", None::<&str>);
    s.sr.set_property("model", "bicubic");
    assert_eq!(s.step_until(CHANGED), [CHANGED]);
    s.check((64, 40), "2", &bicubic);
    assert_eq!(
        s.negotiations(),
        5,
        "a change of model is no change of caps"
    );
    assert!(s.messages().is_empty());
}

/// The element watches no file: setting the property asks for it as it is now.
#[test]
fn the_same_weights_set_again_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let luma = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let rgb = common::small_file(dir.path(), Channels::Rgb, Border::Zero);
    let load = |path: &Path| Model::open_with(path, None, &LoadOverrides::default()).unwrap();
    let (old, new) = (load(&luma), load(&rgb));
    let body = format!("srfilter name=sr weights={}", luma.display());
    let mut s = Stepper::new((16, 16), &body);
    s.check((32, 32), "2", &old);
    std::fs::rename(&rgb, &luma).unwrap();
    s.check((32, 32), "2", &old);
    s.sr.set_property("weights", luma.to_str().unwrap());
    assert_eq!(s.step_until(CHANGED), [CHANGED]);
    s.check((32, 32), "2", &new);
    assert!(s.messages().is_empty());
}

#[test]
fn a_failed_change_of_model_keeps_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let weights = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let model = Model::open_with(&weights, None, &LoadOverrides::default()).unwrap();
    let body = format!("srfilter name=sr weights={}", weights.display());
    let mut s = Stepper::new((16, 16), &body);
    s.check((32, 32), "2", &model);
    s.sr.set_property("weights", "/nowhere/missing.safetensors");
    s.check((32, 32), "2", &model);
    assert_eq!(s.step_until("missing.safetensors").len(), 1);
    s.check((32, 32), "2", &model);
    s.sr.set_property("model", "no-such-model");
    assert_eq!(s.step_until("no-such-model").len(), 1);
    s.check((32, 32), "2", &model);
    s.check((32, 32), "2", &model);
    assert!(s.messages().is_empty());
    let weights_property: Option<String> = s.sr.property("weights");
    assert_eq!(weights_property.as_deref(), weights.to_str());
    assert_eq!(s.sr.property::<String>("model"), "srcnn");
}

/// `model` and `weights` are set one after the other: a buffer in between, when
/// they do not match, reverts nothing.
#[test]
fn two_properties_may_change_around_a_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let weights = common::small_file(dir.path(), Channels::Rgb, Border::Zero);
    let model = Model::open_with(&weights, None, &LoadOverrides::default()).unwrap();
    let mut s = Stepper::new(
        (16, 16),
        &format!("srfilter name=sr weights={}", weights.display()),
    );
    s.check((32, 32), "2", &model);
    s.sr.set_property("model", "bicubic");
    s.check((32, 32), "2", &model);
    s.sr.set_property("weights", None::<&str>);
    assert_eq!(s.step_until(CHANGED), [CHANGED]);
    s.check((32, 32), "2", &Model::builtin("bicubic").unwrap());
}

/// A named pipe: loading it blocks until the test writes to it, and then fails,
/// as weights are only read from regular files.
#[cfg(unix)]
struct SlowFile(PathBuf);

#[cfg(unix)]
impl SlowFile {
    fn new(path: PathBuf) -> Self {
        let status = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(status.unwrap().success());
        Self(path)
    }

    /// Waits for the reader, and lets its load end.
    fn finish(&self) {
        std::fs::write(&self.0, b"no weights").unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_slow_load_does_not_stall_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let luma = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let model = Model::open_with(&luma, None, &LoadOverrides::default()).unwrap();
    let slow = SlowFile::new(dir.path().join("slow.safetensors"));
    let body = format!("srfilter name=sr weights={}", luma.display());
    let mut s = Stepper::new((16, 16), &body);
    s.check((32, 32), "2", &model);
    s.sr.set_property("weights", slow.0.to_str().unwrap());
    for _ in 0..5 {
        s.check((32, 32), "2", &model);
    }
    // The scale changes during the load.
    s.set_scale(3, 1);
    s.check((48, 48), "3", &model);
    assert!(s.messages().is_empty());
    slow.finish();
    assert_eq!(s.step_until("slow.safetensors").len(), 1);
    s.check((48, 48), "3", &model);
    let weights: Option<String> = s.sr.property("weights");
    assert_eq!(weights.as_deref(), luma.to_str());
}

#[cfg(unix)]
#[test]
fn of_two_quick_changes_the_last_one_prevails() {
    let dir = tempfile::tempdir().unwrap();
    let luma = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let luma_model = Model::open_with(&luma, None, &LoadOverrides::default()).unwrap();
    let slow = SlowFile::new(dir.path().join("slow.safetensors"));
    let body = format!("srfilter name=sr weights={}", luma.display());
    let mut s = Stepper::new((16, 16), &body);
    s.check((32, 32), "2", &luma_model);
    s.sr.set_property("weights", slow.0.to_str().unwrap());
    s.check((32, 32), "2", &luma_model);
    s.sr.set_property("weights", None::<&str>);
    s.sr.set_property("model", "bicubic");
    s.check((32, 32), "2", &luma_model);
    slow.finish();
    // The failure of the first load is not reported, and the second one switches.
    assert_eq!(s.step_until(CHANGED), [CHANGED]);
    let bicubic = Model::builtin("bicubic").unwrap();
    s.check((32, 32), "2", &bicubic);
    s.check((32, 32), "2", &bicubic);
    assert!(s.messages().is_empty());
}

#[cfg(unix)]
#[test]
fn the_pipeline_stops_while_a_model_loads() {
    let dir = tempfile::tempdir().unwrap();
    let luma = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let model = Model::open_with(&luma, None, &LoadOverrides::default()).unwrap();
    let slow = SlowFile::new(dir.path().join("slow.safetensors"));
    let body = format!("srfilter name=sr weights={}", luma.display());
    let mut s = Stepper::new((16, 16), &body);
    s.check((32, 32), "2", &model);
    s.sr.set_property("weights", slow.0.to_str().unwrap());
    s.check((32, 32), "2", &model);
    s.pipeline.set_state(gst::State::Null).unwrap();
    assert!(s.messages().is_empty());
    // It starts again while the old load still runs, whose result is discarded.
    s.sr.set_property("weights", None::<&str>);
    s.sr.set_property("model", "bicubic");
    s.pipeline.set_state(gst::State::Playing).unwrap();
    let bicubic = Model::builtin("bicubic").unwrap();
    s.count = 0;
    s.check((32, 32), "2", &bicubic);
    slow.finish();
    s.check((32, 32), "2", &bicubic);
}

/// Before PLAYING nothing is loaded in the background.
#[test]
fn a_change_in_paused_takes_effect_with_the_next_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let luma = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let mut s = Stepper::new(
        (16, 16),
        &format!("srfilter name=sr weights={}", luma.display()),
    );
    s.step();
    s.pipeline.set_state(gst::State::Paused).unwrap();
    s.sr.set_property("weights", None::<&str>);
    s.sr.set_property("model", "bicubic");
    s.pipeline.set_state(gst::State::Playing).unwrap();
    s.check((32, 32), "2", &Model::builtin("bicubic").unwrap());
    assert_eq!(s.messages(), [CHANGED]);
}

#[test]
fn an_impossible_scale_keeps_the_old_one() {
    let bicubic = Model::builtin("bicubic").unwrap();
    for pinned in ["", " ! video/x-raw,width=4200,height=8"] {
        let mut s = Stepper::new(
            (2100, 4),
            &format!("srfilter name=sr model=bicubic{pinned}"),
        );
        s.check((4200, 8), "2", &bicubic);
        s.set_scale(16, 1);
        s.check((4200, 8), "2", &bicubic);
        let messages = s.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("33600x64"), "{messages:?}");
        assert_eq!(
            s.sr.property::<gst::Fraction>("scale"),
            gst::Fraction::new(2, 1)
        );
    }
}

#[test]
fn a_pinned_size_stays_while_the_scale_changes() {
    let dir = tempfile::tempdir().unwrap();
    let weights = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let model = Model::open_with(&weights, None, &LoadOverrides::default()).unwrap();
    let body = format!(
        "queue ! srfilter name=sr weights={} ! video/x-raw,width=80,height=50 ! queue",
        weights.display()
    );
    let mut s = Stepper::new((32, 20), &body);
    s.check((80, 50), "2", &model);
    for (n, d, scale) in [(3, 1, "3"), (1, 1, "1"), (3, 2, "3/2"), (0, 1, "5/2")] {
        s.set_scale(n, d);
        s.check((80, 50), scale, &model);
    }
    assert_eq!(s.negotiations(), 1);
    assert_eq!(s.messages(), Vec::<String>::new());
}

#[test]
fn a_recording_survives_changes_of_scale() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.webm");
    let weights = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=60 pattern=ball ! video/x-raw,width=64,height=48,framerate=30/1 \
         ! srfilter name=sr weights={} qos=false ! video/x-raw,width=160,height=120 \
         ! vp8enc deadline=1 ! webmmux ! filesink location={}",
        weights.display(),
        file.display()
    ));
    let sr = pipeline.by_name("sr").unwrap();
    let scales = [(2, 1), (3, 1), (3, 2), (1, 1), (0, 1)];
    let element = sr.clone();
    let counter = std::sync::atomic::AtomicUsize::new(0);
    let pad = sr.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let count = counter.fetch_add(1, Ordering::Relaxed);
        let (n, d) = scales[count / 12 % scales.len()];
        element.set_property("scale", gst::Fraction::new(n, d));
        if count % 12 == 6 {
            let model = if count % 24 == 6 { "bicubic" } else { "srcnn" };
            let file = (model == "srcnn").then(|| weights.to_str().unwrap().to_owned());
            element.set_property("weights", file);
            element.set_property("model", model);
        }
        gst::PadProbeReturn::Ok
    });
    assert_eq!(run(&pipeline), Vec::<String>::new());
    assert_eq!(stats(&sr).get::<u64>("dropped").unwrap(), 0);
    let pipeline = launch(&format!(
        "filesrc location={} ! matroskademux ! vp8dec ! appsink name=after sync=false",
        file.display()
    ));
    let after = collect(&pipeline, "after");
    run(&pipeline);
    let after = after.lock().unwrap();
    assert_eq!(after.len(), 60);
    assert!(
        after
            .iter()
            .all(|(info, _)| (info.width(), info.height()) == (160, 120))
    );
}

#[test]
fn dropped_frames_are_counted_and_warned_about_once() {
    init();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("slow.safetensors");
    let config = srfilter::models::srcnn::Config::default();
    let architecture = srfilter::models::Architecture::Srcnn(config);
    common::save(&path, architecture, srfilter::models::Scales::Any, 1);
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=100 ! video/x-raw,width=640,height=480,framerate=100/1 \
         ! srfilter name=sr reuse=off weights={} ! fakesink name=end sync=true qos=true max-lateness=5000000",
        path.display()
    ));
    let sr = pipeline.by_name("sr").unwrap();
    let warnings = run(&pipeline);
    let stats = stats(&sr);
    let count = |field| stats.get::<u64>(field).unwrap();
    assert!(count("dropped") > 0, "{stats}");
    assert_eq!(count("dropped") + count("processed"), 100, "{stats}");
    let about_drops = warnings
        .iter()
        .filter(|w| w.contains("late ones are dropped"));
    assert_eq!(about_drops.count(), 1, "{warnings:?}");
    assert!(stats.get::<f64>("average-ms").unwrap() > 0.0);
}

#[test]
fn four_threads_may_hammer_the_properties() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = [Channels::Luma, Channels::Rgb]
        .map(|channels| common::small_file(dir.path(), channels, Border::Replicate))
        .into();
    let pipeline = launch(&format!(
        "videotestsrc name=source ! video/x-raw,width=48,height=36,framerate=1000/1 ! queue \
         ! srfilter name=sr weights={} qos=false ! queue ! fakesink name=end sync=false",
        files[0].display()
    ));
    let sr = pipeline.by_name("sr").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (stop, mut failed) = (AtomicBool::new(false), false);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (sr, stop, files) = (sr.clone(), &stop, &files);
            scope.spawn(move || {
                let mut next = common::noise(thread);
                let mut pick = |n: usize| (next() * n as f64) as usize;
                while !stop.load(Ordering::Relaxed) {
                    match pick(9) {
                        0 => {
                            let (n, d) = [(2, 1), (3, 1), (3, 2), (1, 1), (0, 1), (7, 3)][pick(6)];
                            sr.set_property("scale", gst::Fraction::new(n, d));
                        }
                        1 => sr.set_property("weights", files[pick(2)].to_str().unwrap()),
                        2 => {
                            let models = [None, Some("srcnn"), Some("srcnn-rgb")];
                            sr.set_property("model", models[pick(3)]);
                        }
                        3 => sr.set_property("strength", pick(3) as f64 / 2.0),
                        4 => {
                            let views = ["none", "split", "side-by-side", "difference"];
                            sr.set_property_from_str("compare", views[pick(4)]);
                            sr.set_property("split-position", pick(5) as f64 / 4.0);
                        }
                        5 => sr.set_property_from_str("reuse", ["auto", "off", "on"][pick(3)]),
                        6 => {
                            let modes = ["auto", "fallback", "drop", "block"];
                            sr.set_property_from_str("on-overload", modes[pick(4)]);
                            sr.set_property("measure", pick(2) == 0);
                        }
                        7 => assert!(stats(&sr).get::<u64>("processed").is_ok()),
                        _ => {
                            let _: Option<String> = sr.property("model");
                            let _: Option<String> = sr.property("weights");
                        }
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
        }
        let started = Instant::now();
        // Without AVX2 a frame takes a second.
        let enough = || stats(&sr).get::<u64>("processed").unwrap() > 20;
        let at_most = |seconds| started.elapsed() < Duration::from_secs(seconds);
        let mut turn = 0;
        while !failed && (at_most(30) || at_most(120) && !enough()) {
            std::thread::sleep(Duration::from_millis(150));
            turn += 1;
            failed |= match turn % 6 {
                2 => (pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO)).is_err(),
                4 => pipeline.set_state(gst::State::Paused).is_err(),
                5 => pipeline.set_state(gst::State::Playing).is_err(),
                _ => false,
            };
        }
        failed |= pipeline.set_state(gst::State::Playing).is_err();
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!failed, "a seek or a change of state failed");
    pipeline.send_event(gst::event::Eos::new());
    // Warnings are expected when a model met another model's file, and from the base class
    // for a buffer that is negotiated while a seek flushes; errors are not.
    for warning in wait(&pipeline) {
        let expected = ["change of model failed", "not negotiated"];
        assert!(expected.iter().any(|e| warning.contains(e)), "{warning}");
    }
    let stats = stats(&sr);
    assert!(stats.get::<u64>("processed").unwrap() > 20, "{stats}");
    assert!(stats.get::<u64>("negotiations").unwrap() > 5, "{stats}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// A scale without weights is reached by the next larger one, a cascade, and
/// resampling; `stats` says how.
#[test]
fn other_scales_are_reached_and_stats_say_how() {
    let dir = tempfile::tempdir().unwrap();
    let weights = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    for (scale, native, resampled) in [
        ("2/1", "2", false),
        ("3/2", "2", true),
        ("5/2", "3", true),
        ("4/1", "2 x 2", false),
        ("5/1", "3 x 2", true),
        ("16/1", "3 x 3 x 2", true),
    ] {
        let pipeline = launch(&format!(
            "videotestsrc num-buffers=1 ! video/x-raw,format=GRAY8,width=10,height=6 \
             ! srfilter name=sr weights={} scale={scale} ! fakesink",
            weights.display()
        ));
        assert_eq!(run(&pipeline), Vec::<String>::new());
        let stats = stats(&pipeline.by_name("sr").unwrap());
        let said: String = stats.get("native-scale").unwrap();
        assert_eq!(said, native, "x{scale}");
        assert_eq!(
            stats.get::<bool>("resampled").unwrap(),
            resampled,
            "x{scale}"
        );
    }
}

/// Every model plays decoded video, or says what it lacks.
#[test]
fn every_model_plays_or_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    init();
    let clip = clip(dir.path());
    for model in models::MODELS {
        let pipeline = launch(&format!(
            "filesrc location={} ! decodebin ! identity eos-after=3 ! videoconvert \
             ! videoscale ! video/x-raw,width=88,height=72 \
             ! srfilter name=sr model={} scale=2 qos=false ! video/x-raw,width=176 ! fakesink",
            clip.display(),
            model.name
        ));
        let bare = (model.architecture)().is_some() && model.built_in.is_empty();
        if !bare {
            assert_eq!(run(&pipeline), Vec::<String>::new(), "{}", model.name);
            let stats = stats(&pipeline.by_name("sr").unwrap());
            assert!(stats.get::<u64>("processed").unwrap() > 0, "{}", model.name);
            continue;
        }
        assert!(
            pipeline.set_state(gst::State::Playing).is_err(),
            "{}",
            model.name
        );
        let bus = pipeline.bus().unwrap();
        let error = bus.iter().find_map(|message| match message.view() {
            gst::MessageView::Error(e) => Some(e.error().to_string()),
            _ => None,
        });
        let error = error.expect("an error message");
        let words = ["no built-in weights", "weights=PATH", model.name];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// The published checkpoint for anime video plays from its path.
#[test]
fn a_published_checkpoint_plays() {
    let weights = "weights/RealESRGAN-animevideov3/realesr-animevideov3.pth";
    let Some(weights) = common::shared(weights) else {
        return;
    };
    let pipeline = launch(&format!(
        "videotestsrc num-buffers=2 pattern=ball ! video/x-raw,format=I420,width=40,height=32 \
         ! srfilter name=sr weights={} scale=4 qos=false ! video/x-raw,width=160,height=128 \
         ! fakesink",
        weights.display()
    ));
    assert_eq!(run(&pipeline), Vec::<String>::new());
    let stats = stats(&pipeline.by_name("sr").unwrap());
    assert_eq!(stats.get::<String>("active-model").unwrap(), "compact");
    assert_eq!(stats.get::<String>("native-scale").unwrap(), "4");
}

/// Stopping and flushing cancel the frame of a slow network.
#[test]
fn a_frame_can_be_cancelled() {
    const BAR: Duration = Duration::from_millis(500);
    let pipeline = launch(
        "videotestsrc num-buffers=4 ! video/x-raw,format=RGB,width=1280,height=720,framerate=1/1 \
         ! srfilter name=sr model=srresnet scale=4 qos=false ! fakesink name=sink sync=false",
    );
    let pad = pipeline.by_name("sr").unwrap().static_pad("sink").unwrap();
    let entered = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&entered);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        seen.store(true, Ordering::SeqCst);
        gst::PadProbeReturn::Ok
    });
    // Until a frame is being computed, and for a while longer.
    let computing = || {
        let start = Instant::now();
        while !entered.swap(false, Ordering::SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(60), "no frame");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    computing();
    let start = Instant::now();
    let seek = gst::SeekFlags::FLUSH;
    pipeline.seek_simple(seek, gst::ClockTime::ZERO).unwrap();
    let flushed = start.elapsed();
    computing();
    let start = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    let stopped = start.elapsed();
    println!("flushed in {flushed:?}, stopped in {stopped:?}");
    assert!(flushed < BAR && stopped < BAR, "{flushed:?}, {stopped:?}");
    // An interrupted frame is no error.
    let bus = pipeline.bus().unwrap();
    assert!(bus.pop_filtered(&[gst::MessageType::Error]).is_none());
    // And the next one is whole.
    let (short, sink) = (
        "videotestsrc num-buffers=1 ! video/x-raw,format=RGB,width=32,height=18 \
         ! srfilter name=sr model=srresnet scale=4 ! appsink name=sink sync=false",
        "sink",
    );
    let again = launch(short);
    let samples = collect(&again, sink);
    run(&again);
    assert_eq!(samples.lock().unwrap().len(), 1);
}
