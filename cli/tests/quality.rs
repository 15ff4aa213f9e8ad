//! The shipped weights against the bars that they were shipped for, measured
//! by `sr evaluate` on Set5.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::sr;
use std::path::Path;

/// Gain over bicubic on Set5 in dB that each model must have at each scale.
const BARS: &[(&str, &[(&str, f64)])] = &[
    ("srcnn", &[("2", 1.5), ("3", 1.1), ("4", 1.0)]),
    (
        "hypersrcnn",
        &[
            ("2", 1.5),
            ("3", 1.1),
            ("4", 1.0),
            ("8", 0.3),
            ("3/2", 0.0),
            ("5/2", 0.0),
        ],
    ),
];

#[test]
fn shipped_weights_pass_their_bars() {
    let set5 = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/test/Set5");
    if !set5.exists() {
        println!("skipped: {} is not there", set5.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (model, bars) in BARS {
        let json = dir.path().join("result.json");
        let scales: Vec<_> = bars.iter().map(|(scale, _)| *scale).collect();
        let args = ["evaluate", "--model", model, "--scale", &scales.join(","), "--data"];
        let files = [set5.as_os_str(), "--json".as_ref(), json.as_os_str()];
        sr(args.iter().map(AsRef::as_ref).chain(files)).ok();
        let results: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        let results = results.as_array().unwrap();
        assert_eq!(results.len(), bars.len());
        for (scale, bar) in *bars {
            let result = results.iter().find(|r| r["scale"] == *scale).unwrap();
            let mean = |field: &str| result["mean"][field].as_f64().unwrap();
            let gain = mean("psnr") - mean("bicubic_psnr");
            println!("{model} x{scale}: {gain:+.2} dB");
            assert!(gain > *bar, "{model} x{scale} gains {gain:.2} dB, not {bar}");
            std::fs::remove_file(&json).ok();
        }
    }
}
