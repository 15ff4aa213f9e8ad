//! `sr import`: files of other projects are converted or listed.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{Desk, sr};
use srfilter::weights::Checkpoint;
use std::collections::HashMap;
use testing::shared;

/// A safetensors file without metadata.
fn foreign(desk: &Desk, name: &str, tensors: &[(&str, &[usize])]) -> String {
    let path = desk.path(name);
    let tensors: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(name, shape)| {
            let tensor = Tensor::ones(*shape, DType::F32, &Device::Cpu).unwrap();
            ((*name).to_owned(), tensor)
        })
        .collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

/// The tensors of an SRCNN, as two projects name them.
const SRCNN: [(&str, &[usize]); 6] = [
    ("patch_extraction.weight", &[8, 1, 9, 9]),
    ("patch_extraction.bias", &[8]),
    ("nonLinear_map.weight", &[4, 8, 1, 1]),
    ("nonLinear_map.bias", &[4]),
    ("reconstruction.weight", &[1, 4, 5, 5]),
    ("reconstruction.bias", &[1]),
];

#[test]
fn the_result_describes_itself() {
    let desk = Desk::new();
    let theirs = foreign(&desk, "theirs.safetensors", &SRCNN);
    let ours = desk.path("ours.safetensors");
    let flags = [
        "--out",
        &ours,
        "--trained-scale",
        "3",
        "--border",
        "replicate",
    ];
    let run = sr(["import", &theirs].into_iter().chain(flags)).ok();
    assert!(
        run.stdout.contains("found srcnn on luma, x3, "),
        "{}",
        run.stdout
    );
    let file = Checkpoint::open(&ours).unwrap();
    let card = file.card().unwrap().unwrap();
    assert_eq!(card.scales.to_string(), "3");
    assert!(card.training_data.contains("theirs.safetensors"));
    assert_eq!(file.tensors()["conv2.weight"].dims(), [4, 8, 1, 1]);
    let picture = desk.draw("in.png", (12, 10), 1);
    let large = desk.path("large.png");
    sr([
        "upscale",
        &picture,
        &large,
        "--weights",
        &ours,
        "--scale",
        "3",
    ])
    .ok();
    // Not twice without --force, and never onto the input.
    sr(["import", &theirs, "--out", &ours]).fails(1, &["already exists", "--force"]);
    sr(["import", &theirs, "--out", &ours, "--force"]).ok();
    sr(["import", &theirs, "--out", &theirs, "--force"]).fails(1, &["is the input"]);
}

#[test]
fn an_unknown_file_is_refused_with_the_nearest_match_and_listed() {
    let desk = Desk::new();
    let mut tensors = SRCNN.to_vec();
    tensors[1] = ("patch_extraction.bins", &[8]);
    let renamed = foreign(&desk, "renamed.safetensors", &tensors);
    sr(["import", &renamed]).fails(1, &["renamed.safetensors", "srcnn", "conv1.bias"]);
    let hdsr = foreign(
        &desk,
        "hdsr.safetensors",
        &[
            ("conv1.0.weight", &[64, 3, 3, 3]),
            ("conv2.0.weight", &[64, 64, 5, 5]),
            ("odd", &[7]),
        ],
    );
    let run = sr(["import", &hdsr]);
    let words = [
        "Nearest: hdsrnet x2",
        "lacks Block.conv1.0.weight [64, 3, 3, 3]",
        " more; ",
        "conv2.0.weight [64, 64, 5, 5] for [64, 64, 3, 3]",
        "also has odd [7]",
    ];
    run.fails(1, &words);
    let listed = sr(["import", &hdsr, "--list"]).ok().stdout;
    assert!(listed.contains("safetensors, 3 tensors"), "{listed}");
    assert!(listed.contains("odd             F32  [7]"), "{listed}");
}

/// Of several networks the averaged one is converted, another one by its name;
/// what is not part of it is listed as such.
#[test]
fn one_of_several_networks_is_converted() {
    let desk = Desk::new();
    let mut tensors: Vec<(String, &[usize])> = Vec::new();
    for prefix in ["params", "params_ema"] {
        tensors.extend(SRCNN.map(|(name, shape)| (format!("{prefix}.{name}"), shape)));
    }
    tensors.push(("params_ema.step".to_owned(), &[]));
    let named: Vec<_> = tensors
        .iter()
        .map(|(name, shape)| (name.as_str(), *shape))
        .collect();
    let theirs = foreign(&desk, "theirs.safetensors", &named);
    let ours = desk.path("ours.safetensors");
    let said = sr(["import", &theirs, "--out", &ours]).ok().stdout;
    let unused = "not used: params.nonLinear_map.bias, ";
    assert!(
        said.contains(unused) && said.contains(" and 3 more"),
        "{said}"
    );
    let run = sr([
        "import", &theirs, "--out", &ours, "--force", "--key", "params",
    ]);
    let said = run.ok().stdout;
    assert!(
        said.contains("not used: params_ema.nonLinear_map.bias, "),
        "{said}"
    );
    sr(["import", &theirs, "--key", "net_d"]).fails(1, &["net_d", "params, params_ema"]);
    let listed = sr(["import", &theirs, "--list"]).ok().stdout;
    let marked = |name: &str| {
        let line = listed.lines().find(|line| line.starts_with(name)).unwrap();
        line.ends_with("(not used)")
    };
    assert!(
        marked("params_ema.step ") && marked("params.nonLinear_map.bias "),
        "{listed}"
    );
    assert!(!marked("params_ema.nonLinear_map.bias "), "{listed}");
}

/// The small files of faults that were reported, where there are any.
#[test]
fn reported_files_are_converted() {
    let Some(reports) = testing::shared("../reports") else {
        return;
    };
    let desk = Desk::new();
    for (name, said) in [
        ("ckpt_plain.pth", "torch zip archive, 11 tensors"),
        ("ckpt_model_and_ema.pth", "'ema' rather than 'model'"),
        ("ckpt_lightning_gan.pth", "not used: net_d.conv0.weight"),
        ("ckpt_net_g.safetensors", "found compact on rgb, x2"),
        (
            "ckpt_params_ema_flat.safetensors",
            "found compact on rgb, x2",
        ),
    ] {
        let ours = desk.path(&format!("{name}.safetensors"));
        let theirs = reports.join(name);
        let run = sr(["import", theirs.to_str().unwrap(), "--out", &ours]);
        let stdout = run.ok().stdout;
        assert!(stdout.contains(said), "{stdout}");
        let expected = Checkpoint::open(reports.join("ckpt_plain.safetensors")).unwrap();
        let found = Checkpoint::open(&ours).unwrap();
        for (name, tensor) in expected.tensors() {
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&found.tensors()[name]), values(tensor), "{name}");
        }
    }
}

/// A network that restores images at their size.
#[test]
fn a_network_for_scale_1_runs_there() {
    let desk = Desk::new();
    let theirs = foreign(
        &desk,
        "theirs.safetensors",
        &[
            ("body.0.weight", &[4, 3, 3, 3]),
            ("body.0.bias", &[4]),
            ("body.1.weight", &[4]),
            ("body.2.weight", &[3, 4, 3, 3]),
            ("body.2.bias", &[3]),
        ],
    );
    let ours = desk.path("ours.safetensors");
    let said = sr(["import", &theirs, "--out", &ours]).ok().stdout;
    assert!(said.contains("found compact on rgb, x1, "), "{said}");
    let picture = desk.draw("in.png", (12, 10), 1);
    let restored = desk.path("out.png");
    let flags = ["--weights", &ours, "--scale", "1"];
    let run = sr(["upscale", &picture, &restored].into_iter().chain(flags));
    assert!(run.ok().stdout.contains("network x1"));
    let other = desk.path("other.png");
    let run = sr(["upscale", &picture, &other, "--scale", "1"]);
    run.fails(1, &["hypersrcnn has no network for scale 1"]);
    // Weights of one add so much that all is white.
    let image = srfilter::frame::Image::open(&restored).unwrap();
    assert_eq!((image.width, image.height), (12, 10));
    assert!(image.data.iter().all(|&v| v == 255));
}

/// Every published file there is is listed, known or not.
#[test]
fn published_files_are_listed() {
    let Some(weights) = shared("weights") else {
        return;
    };
    for (name, words) in [
        (
            "FSRCNN/fsrcnn_x2.pth",
            ["legacy torch pickle", "last_part.weight"],
        ),
        ("CARN-M/carn_m.pth", ["legacy torch pickle", "entry.weight"]),
        (
            "SRCNN/chxy95_SRCNN_x3_915.pkl",
            ["legacy torch pickle", "conv1.weight"],
        ),
        (
            "SRCNN/seed_SRCNN_model_x2_955.pth",
            ["torch zip archive", "nonLinear_map.bias"],
        ),
        (
            "RealESRGAN-animevideov3/realesr-animevideov3.pth",
            ["torch zip archive, 'params', 53 tensors", "body.34.weight"],
        ),
        (
            "LapSRN/lapsrn_x4.safetensors",
            ["safetensors", "convt_R1.weight"],
        ),
    ] {
        let path = weights.join(name);
        let listed = sr(["import", path.to_str().unwrap(), "--list"]).ok().stdout;
        for word in words {
            assert!(listed.contains(word), "no {word} in {listed}");
        }
    }
}

/// A graph is told, converted, and computes the same from either file.
#[test]
fn graphs_in_onnx_are_told_and_converted() {
    let desk = Desk::new();
    let graph = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/onnx/compact-x2.onnx");
    let listed = sr(["import", "--list", graph]).ok().stdout;
    for words in [
        "ONNX, opset 17",
        "[16, 3, 3, 3]",
        "found graph on rgb, x2",
        "as a fused chain of convolutions",
        "1280x720 to 2560x1440: about",
    ] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    let ours = desk.path("ours.safetensors");
    sr(["import", graph, "--out", &ours]).ok();
    let picture = desk.draw("in.png", (20, 14), 3);
    let results = [graph, &ours].map(|weights| {
        let large = desk.path("large.png");
        sr(["upscale", &picture, &large, "--weights", weights, "--force"]).ok();
        std::fs::read(&large).unwrap()
    });
    assert_eq!(results[0], results[1]);
    // Range changes what is computed, and stays with the converted file.
    let graph = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/onnx/artcnn.onnx");
    let full = desk.path("full.safetensors");
    sr(["import", graph, "--range", "full", "--out", &full]).ok();
    let listed = sr(["import", "--list", &full]).ok().stdout;
    assert!(listed.contains("luma in full range"), "{listed}");
    sr(["import", "--list", &picture]).fails(1, &["in.png", "a PNG image"]);
}
