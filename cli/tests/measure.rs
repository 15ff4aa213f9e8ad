//! `sr measure`: consistency and flicker on clips.
#![cfg(feature = "video")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Desk, sr};
use std::path::Path;
use std::process::Command;

/// A clip of a moving ball: 40 frames of 192x128 in Matroska, uncompressed.
fn clip(desk: &Desk) -> Option<String> {
    let path = desk.path("ball.mkv");
    let run = Command::new("gst-launch-1.0")
        .args(["-q", "videotestsrc", "pattern=ball", "num-buffers=40", "!"])
        .args([
            "video/x-raw,format=I420,width=192,height=128,framerate=25/1",
            "!",
        ])
        .args(["matroskamux", "!", "filesink", &format!("location={path}")])
        .status();
    match run {
        Ok(status) if status.success() => Some(path),
        _ => {
            println!("skipped: gst-launch-1.0 is not installed (gstreamer1.0-tools)");
            None
        }
    }
}

/// The entries of `--json`.
fn entries(args: &[&str]) -> Vec<serde_json::Value> {
    let run = sr([&["measure", "--json"], args].concat()).ok();
    assert!(!run.stderr.contains("CRITICAL"), "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn models_are_measured_next_to_bicubic() {
    let desk = Desk::new();
    let Some(path) = clip(&desk) else { return };
    let entries = entries(&[&path, "--model", "espcn", "--frames", "12"]);
    let models: Vec<_> = entries
        .iter()
        .map(|e| e["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["bicubic", "espcn"]);
    for entry in &entries {
        assert_eq!(entry["frames"], 12);
        assert_eq!(entry["input"], serde_json::json!([192, 128]));
        assert_eq!(entry["output"], serde_json::json!([384, 256]));
        assert!(entry["consistency_db"].as_f64().unwrap() > 30.0, "{entry}");
        assert!(
            (0.3..0.95).contains(&entry["unchanged_tiles"].as_f64().unwrap()),
            "{entry}"
        );
        assert!(entry["average_ms"].as_f64().unwrap() > 0.0);
    }
    let ratio = entries[0]["motion_ratio"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
    assert_ne!(entries[1]["motion_ratio"].as_f64().unwrap(), ratio);
}

#[test]
fn a_table_has_a_line_for_each_model() {
    let desk = Desk::new();
    let Some(path) = clip(&desk) else { return };
    let table = sr(["measure", &path, "--scale", "3/2", "--model", "espcn-fast"])
        .ok()
        .stdout;
    for word in [
        "192x128 -> 288x192, 40 frames",
        "bicubic",
        "espcn-fast",
        "(the input)",
        " dB",
    ] {
        assert!(table.contains(word), "no '{word}' in\n{table}");
    }
}

#[test]
fn real_material_is_measured() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/video/foreman_vp9.webm");
    if !path.exists() {
        println!("skipped: no {}", path.display());
        return;
    }
    let entries = entries(&[path.to_str().unwrap(), "--model", "espcn", "--frames", "10"]);
    for entry in &entries {
        let number = |field: &str| entry[field].as_f64().unwrap();
        assert!((35.0..70.0).contains(&number("consistency_db")), "{entry}");
        assert!((0.9..1.6).contains(&number("motion_ratio")), "{entry}");
    }
}

#[test]
fn what_cannot_be_played_is_named() {
    let desk = Desk::new();
    sr(["measure", &desk.path("none.mkv")]).fails(1, &["none.mkv", "no such file"]);
    let text = desk.path("text.mkv");
    std::fs::write(&text, "no clip ".repeat(100)).unwrap();
    sr(["measure", &text]).fails(1, &["text.mkv"]);
    let Some(path) = clip(&desk) else { return };
    sr(["measure", &path, "--model", "nonesuch"]).fails(1, &["nonesuch"]);
    sr(["measure", &path, "--scale", "1"]).fails(2, &["above 1"]);
    // A decoder that is not installed.
    let webm = desk.path("vp8.webm");
    let run = Command::new("gst-launch-1.0")
        .args([
            "-q",
            "videotestsrc",
            "num-buffers=5",
            "!",
            "vp8enc",
            "deadline=1",
            "!",
        ])
        .args(["webmmux", "!", "filesink", &format!("location={webm}")])
        .status();
    assert!(run.unwrap().success());
    let output = Command::new(env!("CARGO_BIN_EXE_sr"))
        .args(["measure", &webm])
        .env(
            "GST_PLUGIN_FEATURE_RANK",
            "vp8dec:0,avdec_vp8:0,vavp8dec:0,v4l2vp8dec:0,nvvp8dec:0",
        )
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("has no VP8") && error.contains("install"),
        "{error}"
    );
}
