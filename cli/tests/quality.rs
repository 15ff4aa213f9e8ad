//! The shipped weights against the bars that they were shipped for, measured
//! by `sr evaluate` on Set5.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Desk, sr};
use serde_json::Value;
use std::collections::HashMap;
use testing::shared;

/// How far below `srcnn` the one file of `hypersrcnn` may be, in dB.
const BELOW_SRCNN: &[(&str, f64)] = &[("2", 0.08), ("3", 0.0), ("4", 0.0)];

/// Gain over bicubic on Set5 in dB that each model must have at each scale.
const BARS: &[(&str, &[(&str, f64)])] = &[
    ("srcnn", &[("2", 2.94), ("3", 2.25), ("4", 1.97)]),
    (
        "espcn",
        &[
            ("2", 3.58),
            ("3", 2.9),
            ("4", 2.6),
            ("8", 1.5),
            ("3/2", 3.5),
            ("5/2", 3.2),
            ("7/2", 2.8),
        ],
    ),
    (
        "espcn-fast",
        &[("2", 3.2), ("3", 2.5), ("4", 2.2), ("8", 1.3), ("3/2", 3.3)],
    ),
    (
        "espcn-hq",
        &[("2", 3.7), ("3", 3.1), ("4", 2.7), ("3/2", 3.7)],
    ),
    // Trained on compressed video: these images are not.
    ("espcn-video", &[("2", 2.35), ("3", 2.2), ("4", 2.0)]),
    ("espcn-video-hq", &[("2", 2.3)]),
    ("srresnet", &[("4", 2.95)]),
    ("srcnn-rgb", &[("2", 1.9), ("4", 1.3), ("8", 0.6)]),
    ("hypersrcnn-rgb", &[("2", 1.9), ("4", 1.3), ("8", 0.6)]),
    (
        "hypersrcnn",
        &[
            ("5/4", 3.1),
            ("3/2", 3.15),
            ("7/4", 2.8),
            ("2", 2.93),
            ("5/2", 2.4),
            ("3", 2.26),
            ("7/2", 2.0),
            ("4", 1.97),
            ("8", 0.85),
        ],
    ),
];

#[test]
fn shipped_weights_pass_their_bars() {
    let Some(set5) = shared("test/Set5") else {
        return;
    };
    let desk = Desk::new();
    let json = desk.path("result.json");
    let mut gains = HashMap::new();
    for (model, bars) in BARS {
        let scales: Vec<_> = bars.iter().map(|(scale, _)| *scale).collect();
        let scales = scales.join(",");
        let set5 = set5.to_str().unwrap();
        sr([
            "evaluate", "--model", model, "--scale", &scales, "--data", set5, "--json", &json,
        ])
        .ok();
        let bytes = std::fs::read(&json).unwrap();
        std::fs::remove_file(&json).unwrap();
        let results: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(results.len(), bars.len());
        for (scale, bar) in *bars {
            let result = results.iter().find(|r| r["scale"] == *scale).unwrap();
            let mean = |field: &str| result["mean"][field].as_f64().unwrap();
            let gain = mean("psnr") - mean("bicubic_psnr");
            println!("{model} x{scale}: {gain:+.2} dB");
            gains.insert((*model, *scale), gain);
            assert!(
                gain > *bar,
                "{model} x{scale} gains {gain:.2} dB, not {bar}"
            );
        }
    }
    for (scale, below) in BELOW_SRCNN {
        let [ours, srcnn] = ["hypersrcnn", "srcnn"].map(|model| gains[&(model, *scale)]);
        assert!(
            ours >= srcnn - below,
            "x{scale}: {ours:.3} dB, srcnn {srcnn:.3}"
        );
    }
}
