//! `sr models --live`.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::sr;

#[test]
fn models_that_hold_a_live_stream_are_named() {
    let run = sr([
        "models",
        "--live",
        "64x36@1",
        "--model",
        "espcn,bicubic,fsrcnn",
    ]);
    let text = run.stdout;
    let row = |name: &str| text.lines().find(|line| line.starts_with(name));
    assert!(row("espcn").unwrap().ends_with("yes"), "{text}");
    assert!(row("bicubic").unwrap().ends_with("yes"), "{text}");
    // It has no weights here.
    assert!(row("fsrcnn").is_none(), "{text}");
    assert!(text.contains("64x36 to 128x72 at 1 frames/s"), "{text}");
    let run = sr([
        "models",
        "--live",
        "1280x720@100000",
        "--model",
        "espcn",
        "--json",
    ]);
    let json = run.stdout;
    assert!(json.contains("\"holds\": false"), "{json}");
}

#[test]
fn nonsense_is_refused() {
    for stream in [
        "",
        "640x360",
        "0x360@25",
        "640x360@0",
        "640x360@inf",
        "ax4@3",
    ] {
        let run = sr(["models", "--live", stream]);
        assert_eq!(run.code, Some(2), "{stream}");
        let text = run.stderr;
        assert!(text.contains("1280x720@25"), "{text}");
    }
}
