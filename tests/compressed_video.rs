//! The built-in weights for real streams on compressed video, through the
//! element.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "../examples/compressed_video/measure.rs"]
mod measure;

use measure::{Clip, has_codec, measure};

/// Frames of a clip that are measured.
const FRAMES: usize = 3;

#[test]
fn models_for_streams_are_better_than_bicubic_there() {
    gst::init().unwrap();
    gstsrfilter::plugin_register_static().unwrap();
    let Some(videos) = common::shared("video") else {
        return;
    };
    if !has_codec() {
        println!("skipped: GStreamer has no x264enc or no avdec_h264");
        return;
    }
    for name in [
        "carphone_pristine.mp4",
        "foreman_h264.mp4",
        "foreman_vp9.webm",
        "bikes.mp4",
    ] {
        let clip = Clip::open(&videos.join(name)).unwrap();
        let (width, height) = clip.size();
        for model in ["compact", "espcn-video"] {
            for crf in [20, 26, 32] {
                let got = measure(&clip, crf, &format!("model={model}"), FRAMES).unwrap();
                let gain = got.model.psnr - got.bicubic.psnr;
                let similarity = got.model.ssim - got.bicubic.ssim;
                println!(
                    "{model}: {name} {width}x{height} crf {crf}: {gain:+.2} dB {similarity:+.4}"
                );
                assert!(gain > 0.0 && similarity > 0.0, "{model}: {name} crf {crf}");
            }
        }
    }
}

/// The clip is the reference: uncompressed frames are close to it, and quality
/// falls with compression.
#[test]
fn quality_falls_with_compression() {
    gst::init().unwrap();
    gstsrfilter::plugin_register_static().unwrap();
    if !has_codec() {
        println!("skipped: GStreamer has no x264enc or no avdec_h264");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drawn.mkv");
    let launch = format!(
        "videotestsrc num-buffers=8 pattern=ball ! \
         video/x-raw,format=I420,width=200,height=120,framerate=25/1 ! \
         x264enc pass=quant quantizer=0 ! matroskamux ! filesink location={}",
        path.display()
    );
    let pipeline = gst::parse::launch(&launch).unwrap();
    use gst::prelude::*;
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &end);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);

    let clip = Clip::open(&path).unwrap();
    assert_eq!(clip.size(), (192, 112), "cropped to multiples of 16");
    let at = |crf| measure(&clip, crf, "model=hypersrcnn", 4).unwrap();
    let (good, poor) = (at(10), at(45));
    assert!(
        good.bicubic.psnr > 25.0 && good.model.psnr > good.bicubic.psnr,
        "{good:?}"
    );
    assert!(good.model.psnr > poor.model.psnr + 3.0, "{good:?} {poor:?}");
    assert!(good.model.ssim > poor.model.ssim && good.model.ssim < 1.0);

    let text = dir.path().join("text.mp4");
    std::fs::write(&text, "this is no video").unwrap();
    let error = format!("{:#}", Clip::open(&text).unwrap_err());
    assert!(error.contains("text.mp4"), "{error}");
    let error = format!("{:#}", measure(&clip, 20, "model=nosuch", 1).unwrap_err());
    assert!(error.contains("nosuch"), "{error}");
}
