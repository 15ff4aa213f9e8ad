//! The published files of FSRCNN, measured by `sr evaluate`.

#![allow(clippy::unwrap_used)] // Tests may fail.

mod common;

use common::sr;
use serde_json::Value;
use testing::shared;

/// PSNR of luma on Set5 in dB that the files of `yjn870/FSRCNN-pytorch` have
/// in another implementation, under protocol y. The paper's network has
/// 37.00, 33.16 and 30.71: these files are of another training, see
/// `models/fsrcnn/CARD.md`.
const SET5: [(&str, f64); 3] = [("2", 37.05), ("3", 32.56), ("4", 30.49)];

/// Half a unit of the last digit, and as much for other roundings.
const TOLERANCE: f64 = 0.01;

#[test]
fn published_files_measure_as_elsewhere() {
    let (Some(folder), Some(set5)) = (shared("weights/FSRCNN"), shared("test/Set5")) else {
        return;
    };
    for (scale, expected) in SET5 {
        for extension in ["safetensors", "pth"] {
            let file = folder.join(format!("fsrcnn_x{scale}.{extension}"));
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
            assert_eq!(reports[0]["model"], "fsrcnn", "{file} is recognised");
            let psnr = reports[0]["mean"]["psnr"].as_f64().unwrap();
            println!("x{scale} {extension}: {psnr:.3} dB");
            assert!(
                (psnr - expected).abs() <= TOLERANCE,
                "{file}: {psnr:.3} dB, not {expected}"
            );
        }
    }
}
