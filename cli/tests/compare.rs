//! `sr compare` from the command line.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

mod common;

use common::{Desk, sr};
use srfilter::frame::Image;
use srfilter::models::Channels;
use std::process::Command;

/// The layout of a sheet of small images: see `sheet.rs`.
const GAP: usize = 16;
const COLUMN: usize = 256;
const TOP: usize = 53;
const CAPTION: usize = 58;

/// The whole images of a sheet, of that size.
fn panels(sheet: &Image, (width, height): (usize, usize)) -> Vec<Image> {
    assert_eq!((sheet.width - GAP) % (COLUMN + GAP), 0);
    let count = (sheet.width - GAP) / (COLUMN + GAP);
    let left = |i: usize| GAP + i * (COLUMN + GAP);
    (0..count)
        .map(|i| sheet.crop(left(i), TOP, width, height))
        .collect()
}

/// How many values an image has.
fn values(picture: &Image) -> usize {
    let mut seen = picture.data.clone();
    seen.sort_unstable();
    seen.dedup();
    seen.len()
}

#[test]
fn a_sheet_has_a_panel_for_each_model() {
    let desk = Desk::new();
    let weights = desk.weights("w.safetensors", Channels::Luma);
    let input = desk.draw("in.png", (200, 120), 3);
    let output = desk.path("new/sheet.png");
    let args = [
        "compare",
        &input,
        "-s",
        "2",
        "-w",
        &weights,
        "-o",
        &output,
        "--crop",
        "10,20,64,48",
    ];
    let run = sr(args).ok();
    for word in [
        "sheet.png",
        "bicubic ",
        "hypersrcnn ",
        "w.safetensors) ",
        " dB",
    ] {
        assert!(run.stdout.contains(word), "no {word} in {}", run.stdout);
    }
    let sheet = desk.open("new/sheet.png");
    // Original, low resolution, bicubic, srcnn, hypersrcnn, and the file.
    assert_eq!(sheet.width, GAP + 6 * (COLUMN + GAP));
    assert_eq!(sheet.height, TOP + 120 + CAPTION + 48 * 4 + CAPTION);
    let panels = panels(&sheet, (200, 120));
    for (i, panel) in panels.iter().enumerate() {
        assert!(values(panel) > 50, "panel {i} is empty");
        assert!(!panels[..i].contains(panel), "panel {i} is there twice");
    }
    // Under each panel there is something to read.
    for i in 0..6 {
        for top in [TOP + 120, TOP + 120 + CAPTION + 192] {
            let caption = sheet.crop(GAP + i * (COLUMN + GAP), top, COLUMN, CAPTION);
            assert!(values(&caption) > 20, "no caption {i} at {top}");
        }
    }
    // The zoomed original, each pixel 4x4.
    let zoomed = sheet.crop(GAP, TOP + 120 + CAPTION, 256, 192);
    let part = desk.open("in.png").crop(10, 20, 64, 48);
    for (x, y) in [(0, 0), (63, 47), (31, 7)] {
        let pixel = part.crop(x, y, 1, 1);
        for inside in [0, 3] {
            let shown = zoomed.crop(4 * x + inside, 4 * y + inside, 1, 1);
            assert_eq!(shown, pixel, "{x},{y}");
        }
    }
    // The frame around the part, on the whole image.
    let frame = panels[0].crop(10, 20, 64, 48);
    assert_eq!(frame.data[..3], frame.data[frame.data.len() - 3..]);
    assert_ne!(frame.crop(0, 0, 1, 1), part.crop(0, 0, 1, 1));
}

#[test]
fn images_keep_their_colour_and_grey_stays_grey() {
    let desk = Desk::new();
    for (channels, colorful) in [(3, true), (1, false)] {
        let input = desk.draw("in.png", (96, 64), channels);
        let output = desk.path("out.png");
        sr([
            "compare", &input, "-s", "2", "-o", &output, "-f", "--crop", "0,0,8,8",
        ])
        .ok();
        for (i, panel) in panels(&desk.open("out.png"), (96, 64)).iter().enumerate() {
            // Below the frame around the part.
            let lower = panel.crop(0, 16, 96, 48);
            let colored = |p: &[u8]| p[0].abs_diff(p[1]) > 20 || p[1].abs_diff(p[2]) > 20;
            let found = lower.data.chunks_exact(3).any(colored);
            assert_eq!(found, colorful, "panel {i} of {channels} channels");
        }
    }
}

#[test]
fn measures_what_evaluate_measures() {
    let desk = Desk::new();
    let input = desk.draw("set/in.png", (65, 50), 3);
    let (output, set) = (desk.path("out.png"), desk.path("set"));
    for protocol in ["y", "rgb"] {
        let common = ["-s", "2", "--protocol", protocol];
        let args = ["compare", &input, "-o", &output, "--force"];
        let compared = sr(args.iter().chain(&common)).ok().stdout;
        let args = [
            "evaluate",
            "-m",
            "bicubic,srcnn,hypersrcnn",
            "--data",
            &set,
            "--json",
            "-",
        ];
        let evaluated = sr(args.iter().chain(&common)).ok().stdout;
        let reports: serde_json::Value = serde_json::from_str(&evaluated).unwrap();
        let words: Vec<_> = reports
            .as_array()
            .unwrap()
            .iter()
            .map(|r| {
                let model = r["model"].as_str().unwrap();
                format!("{model} {:.2} dB", r["mean"]["psnr"].as_f64().unwrap())
            })
            .collect();
        let line = words.join(", ");
        assert!(compared.contains(&line), "no {line} in {compared}");
    }
}

#[test]
fn models_without_weights_at_the_scale_are_left_out() {
    let desk = Desk::new();
    let input = desk.draw("in.png", (60, 60), 3);
    let output = desk.path("out.png");
    let run = |scale: &str| {
        let run = sr(["compare", &input, "-s", scale, "-o", &output, "-f"]).ok();
        run.stdout.contains(" srcnn ")
    };
    assert!(run("2"));
    assert!(!run("3/2"));
    // Unless named: then it runs as anywhere, here x2 and down again.
    let args = [
        "compare",
        &input,
        "-s",
        "3/2",
        "-m",
        "srcnn,bicubic",
        "-o",
        &output,
        "-f",
    ];
    let printed = sr(args).ok().stdout;
    assert!(printed.contains(" srcnn "), "{printed}");
    assert_eq!(printed.matches("bicubic").count(), 1, "{printed}");
}

#[test]
fn one_failure_in_a_folder_does_not_stop_the_rest() {
    let desk = Desk::new();
    desk.draw("set/a.png", (48, 40), 3);
    desk.draw("set/below/c.jpg", (40, 48), 3);
    desk.draw("set/tiny.png", (9, 9), 3);
    std::fs::write(desk.path("set/broken.png"), b"\x89PNG\r\n\x1a\nxx").unwrap();
    let (set, out) = (desk.path("set"), desk.path("out"));
    sr(["compare", &set, "-s", "2", "-o", &out]).fails(
        1,
        &[
            "broken.png",
            "tiny.png",
            "9x9",
            "2 of 4 images were skipped",
        ],
    );
    assert!(desk.exists("out/a.png") && desk.exists("out/below/c.png"));
    assert!(!desk.exists("out/broken.png") && !desk.exists("out/tiny.png"));
    // Without --force no file is overwritten, and none is written.
    std::fs::remove_file(desk.path("out/a.png")).unwrap();
    sr(["compare", &set, "-s", "2", "-o", &out]).fails(1, &["c.png", "exists", "--force"]);
    assert!(!desk.exists("out/a.png"));
}

#[test]
fn names_its_sheet_after_image_and_scale() {
    let desk = Desk::new();
    desk.draw("in.v2.png", (48, 40), 3);
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_sr"))
            .current_dir(desk.path(""))
            .args(["compare", "in.v2.png", "-s", "3/2"])
            .output()
            .unwrap()
    };
    assert!(run().status.success());
    assert!(desk.exists("in.v2-compare-x3-2.png"));
    let again = run();
    assert_eq!(again.status.code(), Some(1));
    let message = String::from_utf8(again.stderr).unwrap();
    assert!(message.contains("already exists"), "{message}");
}

#[test]
fn refuses_what_cannot_be_compared() {
    let desk = Desk::new();
    let input = desk.draw("in.png", (48, 40), 3);
    let output = desk.path("out.png");
    let compare = |input: &str, rest: &[&str]| {
        let args = ["compare", input, "-o", &output];
        sr(args.iter().chain(rest))
    };
    compare(&desk.path("none.png"), &["-s", "2"]).fails(1, &["none.png", "no such file"]);
    compare(&input, &["-s", "16"]).fails(1, &["in.png", "48x40", "scale 16"]);
    compare(&input, &["-s", "2", "-m", "srgna"]).fails(1, &["srgna"]);
    compare(&input, &["-s", "2", "-m", "hdsrnet"]).fails(1, &["hdsrnet", "weights"]);
    compare(&input, &["-s", "2", "--crop", "40,0,9,9"]).fails(1, &["40,0,9,9", "48x40"]);
    compare(&input, &["-s", "2", "--crop", "1,2,3"]).fails(2, &["X,Y,W,H"]);
    compare(&input, &["-s", "2", "--crop", "1,2,0,4"]).fails(2, &["above 0"]);
    compare(&input, &["-s", "2", "--border", "zero"]).fails(2, &["--weights"]);
    let jpeg = desk.path("out.jpg");
    sr(["compare", &input, "-s", "2", "-o", &jpeg]).fails(1, &["out.jpg", ".png"]);
    let args = ["compare", &input, "-s", "2", "-o", &input, "--force"];
    sr(args).fails(1, &["both input and output"]);
    assert!(!desk.exists("out.png"));
}
