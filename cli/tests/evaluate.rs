//! `sr evaluate` from the command line, and reference numbers.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

mod common;

use common::{Desk, sr};
use serde_json::Value;
use srfilter::models::Channels;
use std::path::Path;
use testing::shared;

/// Runs `sr evaluate` and parses its report.
fn evaluate(args: &[&str]) -> Vec<Value> {
    let all = ["evaluate", "--json", "-"].iter().chain(args);
    let run = sr(all).ok();
    serde_json::from_str(&run.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Two images in a folder named `set`.
fn small_set(desk: &Desk) -> String {
    desk.draw("set/a.png", (37, 41), 3);
    desk.draw("set/below/b.png", (40, 34), 1);
    desk.path("set")
}

#[test]
fn reports_every_model_scale_and_data_set() {
    let desk = Desk::new();
    let set = small_set(&desk);
    desk.draw("other/c.png", (30, 30), 3);
    let other = desk.path("other");
    let args = [
        "--model", "bicubic", "--scale", "2,3/2", "--data", &set, "--data", &other,
    ];
    let reports = evaluate(&args);
    let shown: Vec<_> = reports
        .iter()
        .map(|r| (r["scale"].as_str().unwrap(), r["data"].as_str().unwrap()))
        .collect();
    let (set, other) = (set.as_str(), other.as_str());
    assert_eq!(
        shown,
        [("2", set), ("2", other), ("3/2", set), ("3/2", other)]
    );
    let first = &reports[0];
    assert_eq!(first["model"], "bicubic");
    assert_eq!(first["weights"], "built-in");
    assert_eq!(first["protocol"], "y");
    assert_eq!(first["rounded"], true);
    let images = first["images"].as_array().unwrap();
    assert_eq!(images[0]["name"], "a.png");
    assert_eq!(images[1]["name"], "below/b.png");
    for key in ["psnr", "ssim", "bicubic_psnr", "bicubic_ssim"] {
        let mean = (number(&images[0][key]) + number(&images[1][key])) / 2.0;
        assert!((number(&first["mean"][key]) - mean).abs() < 1e-9, "{key}");
    }
    let mean = &first["mean"];
    assert!((number(&mean["psnr"]) - number(&mean["bicubic_psnr"])).abs() < 0.01);
}

#[test]
fn measures_luma_and_rgb_networks_by_both_protocols() {
    let desk = Desk::new();
    let set = small_set(&desk);
    for channels in [Channels::Luma, Channels::Rgb] {
        let weights = desk.weights("w.safetensors", channels);
        for protocol in ["y", "rgb"] {
            let reports = evaluate(&[
                "--weights",
                &weights,
                "--scale",
                "2",
                "--data",
                &set,
                "--protocol",
                protocol,
            ]);
            let mean = &reports[0]["mean"];
            assert_eq!(reports[0]["weights"], weights.as_str());
            for key in ["psnr", "bicubic_psnr"] {
                let psnr = number(&mean[key]);
                assert!(
                    (15.0..80.0).contains(&psnr),
                    "{channels} {protocol} {key}: {psnr}"
                );
            }
            assert!(mean["psnr"] != mean["bicubic_psnr"]);
        }
    }
}

/// Post-upsampling networks get the low-resolution image.
#[test]
fn measures_post_upsampling_networks() {
    let desk = Desk::new();
    let set = small_set(&desk);
    let weights = desk.empty_espcn("espcn.safetensors");
    let reports = evaluate(&["--weights", &weights, "--scale", "2,3,5/2", "--data", &set]);
    let gain = |report: &Value| {
        let mean = &report["mean"];
        number(&mean["psnr"]) - number(&mean["bicubic_psnr"])
    };
    assert_eq!(reports[0]["model"], "espcn");
    for report in &reports[..2] {
        assert!(gain(report).abs() < 0.01, "{report}");
    }
    // Through x3 and down again, which is nearly the same.
    assert!(gain(&reports[2]).abs() < 1.0, "{}", reports[2]);
    assert!(gain(&reports[2]) != 0.0, "{}", reports[2]);
}

/// Second-order degradation: the same in every run and under every name, other for every image.
/// By both protocols: damage 1 is the model for encoded video, 1/2 neither.
#[test]
fn measures_at_a_damage() {
    let desk = Desk::new();
    let set = small_set(&desk);
    for protocol in ["y", "rgb"] {
        let psnr = |options: &[&str]| {
            let args = ["--scale", "2", "--data", &set, "--protocol", protocol];
            let reports = evaluate(&[&args, options].concat());
            number(&reports[0]["mean"]["psnr"])
        };
        let clean = psnr(&["--model", "espcn"]);
        let encoded = psnr(&["--model", "espcn-video"]);
        assert_eq!(psnr(&["--model", "espcn", "--damage", "0"]), clean);
        assert_eq!(psnr(&["--model", "espcn", "--damage", "1"]), encoded);
        let half = psnr(&["--model", "espcn", "--damage", "0.5"]);
        assert!(half != clean && half != encoded);
        psnr(&["--model", "espcn", "--damage", "auto"]);
    }
}

#[test]
fn degrades_as_for_real_esrgan() {
    let desk = Desk::new();
    let set = small_set(&desk);
    std::fs::copy(desk.path("set/a.png"), desk.path("set/copy.png")).unwrap();
    let weights = desk.weights("w.safetensors", Channels::Rgb);
    for protocol in ["y", "rgb"] {
        let args = [
            "-w",
            &weights,
            "-s",
            "2",
            "--data",
            &set,
            "--protocol",
            protocol,
        ];
        let degraded = [args.as_slice(), &["--degradation", "realesrgan"]].concat();
        let (clean, first) = (evaluate(&args), evaluate(&degraded));
        assert_eq!(first, evaluate(&degraded));
        assert_eq!(clean[0]["degradation"], "bicubic");
        assert_eq!(first[0]["degradation"], "realesrgan");
        let psnr = |image: usize, of: &str| number(&first[0]["images"][image][of]);
        assert!(psnr(0, "bicubic_psnr") < number(&clean[0]["images"][0]["bicubic_psnr"]));
        // a.png, below/b.png, copy.png.
        for of in ["psnr", "bicubic_psnr"] {
            assert_eq!(psnr(0, of), psnr(2, of));
            assert!(psnr(0, of) != psnr(1, of));
        }
    }
    let saved = desk.path("saved");
    let args = ["-w", &weights, "-s", "2", "--data", &set, "--save", &saved];
    evaluate(&[args.as_slice(), &["--degradation", "realesrgan"]].concat());
    let low = desk.open("saved/srcnn-rgb/x2/set/a.lr.png");
    assert_eq!((low.width, low.height, low.channels), (18, 20, 3));
}

/// The distance of LPIPS without learned weights, here by a small VGG.
#[test]
fn measures_how_different_images_look() {
    let desk = Desk::new();
    let set = small_set(&desk);
    let (weights, features) = (
        desk.weights("w.safetensors", Channels::Rgb),
        desk.vgg("vgg"),
    );
    let json = desk.path("out.json");
    let args = [
        "-w",
        &weights,
        "-s",
        "2",
        "--data",
        &set,
        "--features",
        &features,
    ];
    let run = sr(["evaluate", "--json", &json].iter().chain(&args)).ok();
    let reports: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let mean = &reports[0]["mean"];
    let [ours, bicubic] = ["distance", "bicubic_distance"].map(|key| number(&mean[key]));
    assert!(ours > 0.0 && bicubic > 0.0 && ours != bicubic, "{mean}");
    assert!(run.stdout.contains("distance (bicubic's)"));
    assert!(
        run.stdout.contains(&format!("{ours:.3} ({bicubic:.3})")),
        "{}",
        run.stdout
    );
    desk.draw("small/a.png", (30, 40), 3);
    let small = desk.path("small");
    let small = ["-m", "bicubic", "-s", "2", "--data", &small];
    evaluate(&small);
    let small = sr(["evaluate"].iter().chain(&small).chain(&args[6..]));
    small.fails(1, &["a.png", "30x40", "at least 32"]);
    let without = evaluate(&args[..6]);
    assert!(without[0]["mean"]["distance"].is_null());
    let not_one = sr(["evaluate"]
        .iter()
        .chain(&args[..7])
        .chain(&[weights.as_str()]));
    not_one.fails(1, &["w.safetensors", "not a known feature network"]);
}

#[test]
fn no_difference_is_null() {
    let desk = Desk::new();
    let flat = srfilter::frame::Image::new(40, 40, 1);
    std::fs::create_dir(desk.path("set")).unwrap();
    flat.save(desk.path("set/black.png")).unwrap();
    let set = desk.path("set");
    let args = ["--model", "bicubic", "--scale", "2", "--data", &set];
    let report = &evaluate(&args)[0];
    assert!(report["mean"]["psnr"].is_null());
    assert_eq!(number(&report["mean"]["ssim"]), 1.0);
    let table = sr(["evaluate"].iter().chain(&args)).ok().stdout;
    assert!(table.contains("inf"), "{table}");
}

#[test]
fn prints_a_table_and_writes_json_and_images() {
    let desk = Desk::new();
    let set = small_set(&desk);
    let weights = desk.weights("w.safetensors", Channels::Luma);
    let (json, save) = (desk.path("new/report.json"), desk.path("saved"));
    let run = sr([
        "evaluate",
        "-w",
        &weights,
        "-s",
        "3/2",
        "--data",
        &set,
        "--json",
        &json,
        "--save",
        &save,
        "--verbose",
    ])
    .ok();
    for word in [
        "gain/dB",
        "a.png",
        "below/b.png",
        "mean of 2",
        "w.safetensors",
    ] {
        assert!(run.stdout.contains(word), "no {word} in {}", run.stdout);
    }
    let reports: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(reports[0]["images"].as_array().unwrap().len(), 2);
    let size = |name: &str| {
        let picture = desk.open(&format!("saved/srcnn/x3-2/set/{name}"));
        (picture.width, picture.height)
    };
    assert_eq!(size("a.lr.png"), (24, 26));
    assert_eq!(size("a.bicubic.png"), (36, 39));
    assert_eq!(size("below/b.sr.png"), (39, 33));
}

#[test]
fn refuses_what_cannot_be_measured() {
    let desk = Desk::new();
    let set = small_set(&desk);
    let bicubic = |rest: &[&str]| sr(["evaluate", "-m", "bicubic"].iter().chain(rest));
    bicubic(&["-s", "2", "--data", &desk.path("none")]).fails(1, &["none", "does not exist"]);
    bicubic(&["-s", "2", "--data", &desk.path("set/a.png")]).fails(1, &["not a folder"]);
    bicubic(&["-s", "16", "--data", &set]).fails(1, &["a.png", "37x41", "48"]);
    std::fs::create_dir(desk.path("empty")).unwrap();
    bicubic(&["-s", "2", "--data", &desk.path("empty")]).fails(1, &["no images"]);
    sr(["evaluate", "-m", "bicubic,srgna", "-s", "2", "--data", &set]).fails(1, &["srgna"]);
    std::fs::write(desk.path("set/broken.png"), b"\x89PNG\r\n\x1a\nxx").unwrap();
    bicubic(&["-s", "2", "--data", &set]).fails(1, &["broken.png"]);
}

#[test]
fn refuses_flags_that_do_not_go_together() {
    let desk = Desk::new();
    let set = small_set(&desk);
    let weights = desk.weights("w.safetensors", Channels::Luma);
    let evaluate = |rest: &[&str]| sr(["evaluate", "-s", "2", "--data", &set].iter().chain(rest));
    evaluate(&["-w", &weights, "-m", "srcnn,bicubic"]).fails(2, &["--weights", "--model"]);
    evaluate(&["-w", &weights, "-w", &weights, "-m", "srcnn"])
        .fails(2, &["a single --weights file"]);
    evaluate(&["--no-round", "--protocol", "rgb", "-m", "bicubic"]).fails(2, &["--no-round"]);
    evaluate(&["--no-round", "--degradation", "realesrgan", "-m", "bicubic"])
        .fails(2, &["--no-round", "--degradation"]);
    evaluate(&["--save", &desk.path("s"), "--data", &set, "-m", "bicubic"]).fails(1, &["set"]);
}

/// The project's numbers for bicubic interpolation, to 0.005 dB.
#[test]
fn evaluate_bicubic_check_values() {
    let Some(data) = shared("") else { return };
    let set5 = data.join("test/Set5");
    let set5 = set5.to_str().unwrap();
    let args = ["--model", "bicubic", "--scale", "2,3,4", "--data", set5];
    let not_rounded = [&args[..], &["--no-round"]].concat();
    for (args, expected) in [
        (&args[..], [33.652, 30.388, 28.418]),
        (&not_rounded, [33.661, 30.392, 28.421]),
    ] {
        for (report, expected) in evaluate(args).iter().zip(expected) {
            for key in ["psnr", "bicubic_psnr"] {
                let psnr = number(&report["mean"][key]);
                let scale = &report["scale"];
                assert!((psnr - expected).abs() < 0.005, "x{scale} {key}: {psnr}");
            }
        }
    }
}

/// The same with RGB downscaled and luma of the result measured, as for RGB networks.
#[test]
fn evaluate_bicubic_check_values_of_rgb() {
    let Some(data) = shared("") else { return };
    let desk = Desk::new();
    let weights = desk.weights("w.safetensors", Channels::Rgb);
    let set5 = data.join("test/Set5");
    let args = [
        "-w",
        &weights,
        "--scale",
        "2,3,4",
        "--data",
        set5.to_str().unwrap(),
    ];
    for (report, expected) in evaluate(&args).iter().zip([33.682, 30.405, 28.431]) {
        let psnr = number(&report["mean"]["bicubic_psnr"]);
        assert!(
            (psnr - expected).abs() < 0.005,
            "x{}: {psnr}",
            report["scale"]
        );
    }
}

/// The published SRCNN, whose code does not round the downscaled image, to 0.02 dB.
#[test]
fn evaluate_official_srcnn() {
    let Some(data) = shared("") else { return };
    let set5 = data.join("test/Set5");
    for (scale, expected) in [("2", 36.34), ("3", 32.39), ("4", 30.08)] {
        let name = format!("weights/SRCNN/official_SRCNN_x{scale}_915.safetensors");
        let weights = data.join(name);
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (weights, set5) = (path(&weights), path(&set5));
        let args = ["-w", &weights, "-s", scale, "--data", &set5, "--no-round"];
        let psnr = number(&evaluate(&args)[0]["mean"]["psnr"]);
        assert!((psnr - expected).abs() < 0.02, "x{scale}: {psnr}");
    }
}

#[test]
fn an_image_that_is_cut_short_is_refused_before_anything_is_measured() {
    let desk = Desk::new();
    let set = small_set(&desk);
    let last = desk.path("set/z.png");
    desk.draw("set/z.png", (64, 64), 3);
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() - 40]).unwrap();
    let args = [
        "evaluate", "--model", "bicubic", "--scale", "2", "--data", &set,
    ];
    let run = sr(args).fails(1, &["z.png"]);
    assert!(!run.stdout.contains("mean of"), "{}", run.stdout);
}
