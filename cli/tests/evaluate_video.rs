//! `sr evaluate --video`.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "video")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn evaluate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr"));
    command
        .args(["evaluate", "--scale", "2"])
        .args(args)
        .output()
        .unwrap()
}

/// The reports, one for each clip and model.
fn reports(args: &[&str]) -> Vec<Value> {
    let output = evaluate(&[args, &["--json", "-"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(args: &[&str]) -> String {
    let output = evaluate(args);
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Whether H.264 can be encoded and decoded on this machine.
fn has_codec() -> bool {
    gst::init().unwrap();
    let has = |element| gst::ElementFactory::find(element).is_some();
    let has = has("x264enc") && has("avdec_h264");
    if !has {
        println!("skipped: GStreamer has no x264enc or no avdec_h264");
    }
    has
}

/// A clip whose picture, but for a ball, stands still.
fn draw(dir: &Path) -> PathBuf {
    use gst::prelude::*;
    let path = dir.join("drawn.mkv");
    let launch = format!(
        "videotestsrc num-buffers=8 pattern=ball ! \
         video/x-raw,format=I420,width=200,height=120,framerate=25/1 ! \
         x264enc pass=quant quantizer=0 ! matroskamux ! filesink location={}",
        path.display()
    );
    let pipeline = gst::parse::launch(&launch).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &end);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
    path
}

/// The clip is the reference: frames that were hardly compressed are close to it, and quality
/// falls with compression.
#[test]
fn quality_falls_with_compression() {
    if !has_codec() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = draw(dir.path());
    let clip = path.to_str().unwrap();
    let found = reports(&["--model", "hypersrcnn", "--video", clip, "--crf", "10,45"]);
    let images = found[0]["images"].as_array().unwrap();
    let value = |image: usize, name: &str| images[image][name].as_f64().unwrap();
    assert_eq!((found.len(), images.len()), (1, 2));
    assert_eq!(images[1]["name"], "crf 45");
    assert!(value(0, "bicubic_psnr") > 25.0, "{found:?}");
    assert!(value(0, "psnr") > value(0, "bicubic_psnr"), "{found:?}");
    assert!(value(0, "psnr") > value(1, "psnr") + 3.0, "{found:?}");
    assert!(
        value(0, "ssim") > value(1, "ssim") && value(0, "ssim") < 1.0,
        "{found:?}"
    );
    // The ball is worse than what stands still.
    for name in ["", "bicubic_"] {
        let [still, moving] =
            ["still", "moving"].map(|place| value(0, &format!("{name}{place}_flicker")));
        assert!(
            still > 0.0 && still < 1.0 && moving > 2.0 * still,
            "{found:?}"
        );
    }

    let page = dir.path().join("page.html");
    let output = evaluate(&[
        "--model",
        "espcn,bicubic",
        "--video",
        clip,
        "--crf",
        "30",
        "--html",
        page.to_str().unwrap(),
    ]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(table.contains("espcn x2: +"), "{table}");
    assert!(table.contains("bicubic x2: +0.00 dB"), "{table}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Flicker") && page.contains("data:image/png"));
}

#[test]
fn bad_input_is_named() {
    if !has_codec() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = draw(dir.path());
    let clip = path.to_str().unwrap();
    let text = dir.path().join("text.mp4");
    std::fs::write(&text, "this is no video").unwrap();
    for (args, expected) in [
        (vec!["--video", text.to_str().unwrap()], "text.mp4"),
        (vec!["--video", "none.mp4"], "no such file"),
        (
            vec!["--video", clip, "--scale", "3/2"],
            "scales that are whole numbers",
        ),
        (vec!["--video", clip, "--scale", "16"], "is too small"),
        (vec!["--video", clip, "--model", "nosuch"], "nosuch"),
        (vec!["--video", clip, "--crf", "60"], "60"),
        (vec!["--video", clip, "--data", "."], "cannot be used with"),
        (vec!["--crf", "20", "--data", "."], "cannot be used with"),
        (vec![], "--data"),
    ] {
        let problem = error(&args);
        assert!(problem.contains(expected), "{args:?}: {problem}");
    }
}

/// The weights for streams on clips of others.
#[test]
fn models_for_streams_are_better_than_bicubic_there() {
    let Some(videos) = testing::shared("video") else {
        return;
    };
    if !has_codec() {
        return;
    }
    let clips: Vec<String> = [
        "carphone_pristine.mp4",
        "foreman_h264.mp4",
        "foreman_vp9.webm",
        "bikes.mp4",
    ]
    .iter()
    .map(|name| videos.join(name).to_str().unwrap().to_owned())
    .collect();
    let mut args = vec!["--model", "compact,espcn-video", "--frames", "3", "--video"];
    args.extend(clips.iter().map(String::as_str));
    let found = reports(&args);
    assert_eq!(found.len(), 8);
    for report in &found {
        for image in report["images"].as_array().unwrap() {
            let value = |name: &str| image[name].as_f64().unwrap();
            assert!(
                value("psnr") > value("bicubic_psnr") && value("ssim") > value("bicubic_ssim"),
                "{} {}: {image}",
                report["model"],
                report["data"]
            );
        }
    }
}
