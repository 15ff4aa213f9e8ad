//! Published files, measured by `sr evaluate`.

#![allow(clippy::unwrap_used)] // Tests may fail.

mod common;

use common::sr;
use serde_json::Value;
use testing::shared;

/// A file, its network, and PSNR by scale.
type File = (&'static str, &'static str, &'static [(&'static str, f64)]);

/// Files with their network, and the PSNR of luma on Set5 in dB that they have in other
/// implementations, under protocol y, by scale.
///
/// Those of `yjn870/FSRCNN-pytorch` are of another training than the paper's (37.00,
/// 33.16, 30.71): see `models/fsrcnn/CARD.md`.
const FILES: [File; 9] = [
    ("FSRCNN/fsrcnn_x2.safetensors", "fsrcnn", &[("2", 37.05)]),
    ("FSRCNN/fsrcnn_x2.pth", "fsrcnn", &[("2", 37.05)]),
    ("FSRCNN/fsrcnn_x3.safetensors", "fsrcnn", &[("3", 32.56)]),
    ("FSRCNN/fsrcnn_x3.pth", "fsrcnn", &[("3", 32.56)]),
    ("FSRCNN/fsrcnn_x4.safetensors", "fsrcnn", &[("4", 30.49)]),
    ("FSRCNN/fsrcnn_x4.pth", "fsrcnn", &[("4", 30.49)]),
    (
        "CARN-M/carn_m.safetensors",
        "carn",
        &[("2", 37.69), ("3", 34.07), ("4", 31.88)],
    ),
    ("CARN-M/carn_m.pth", "carn", &[("2", 37.69)]),
    ("LapSRN/lapsrn_x4.safetensors", "lapsrn", &[("4", 31.60)]),
];

/// Half a unit of the last digit, and as much for other roundings.
const TOLERANCE: f64 = 0.01;

#[test]
fn published_files_measure_as_elsewhere() {
    let (Some(folder), Some(set5)) = (shared("weights"), shared("test/Set5")) else {
        return;
    };
    for (name, model, scales) in FILES {
        let file = folder.join(name);
        for (scale, expected) in scales {
            let (file, set5) = (file.to_str().unwrap(), set5.to_str().unwrap());
            let run = sr([
                "evaluate",
                "--weights",
                file,
                "--scale",
                scale,
                "--data",
                set5,
                "--json",
                "-",
            ]);
            let reports: Value = serde_json::from_str(&run.ok().stdout).unwrap();
            assert_eq!(reports[0]["model"], model, "{file} is recognised");
            let psnr = reports[0]["mean"]["psnr"].as_f64().unwrap();
            println!("{name} x{scale}: {psnr:.3} dB");
            assert!(
                (psnr - expected).abs() <= TOLERANCE,
                "{file} x{scale}: {psnr:.3} dB, not {expected}"
            );
        }
    }
}
