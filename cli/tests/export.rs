//! `sr export`.

#![allow(clippy::unwrap_used)] // Tests may fail.

mod common;

use common::sr;
use srfilter::models::Scales;
use srfilter::weights::{Checkpoint, Model};
use srfilter::{Image, Scale};
use std::fs;

#[test]
fn a_graph_upscales_as_its_model_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, model) = (path("in.png"), path("espcn.onnx"));
    let data = (0..40 * 30).map(|i| (i * 67 % 251) as u8).collect();
    let image = Image {
        data,
        ..Image::new(40, 30, 1)
    };
    image.save(&source).unwrap();
    let export = [
        "export", "espcn", "--to", "onnx", "--scale", "3", "--out", &model,
    ];
    sr(export).ok();
    sr(export).fails(1, &["already exists", "--force"]);
    sr([&export[..], &["--force"]].concat()).ok();
    let upscaled = |flag: &str, value: &str| {
        let to = path("out.png");
        sr([
            "upscale",
            &source,
            &to,
            "--force",
            "--scale",
            "3",
            "--precision",
            "f32",
            flag,
            value,
        ])
        .ok();
        Image::open(&to).unwrap()
    };
    let (ours, theirs) = (upscaled("--model", "espcn"), upscaled("--weights", &model));
    let off = ours
        .data
        .iter()
        .zip(&theirs.data)
        .map(|(a, b)| a.abs_diff(*b));
    assert!(off.max() <= Some(1));
}

#[test]
fn a_hypernetwork_is_exported_as_what_it_generates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("srcnn.safetensors");
    let out = path.to_str().unwrap();
    for to in ["safetensors", "pth-keys"] {
        let flags = ["--to", to, "--scale", "5", "--force", "--out", out];
        sr([&["export", "hypersrcnn"][..], &flags].concat()).ok();
        let file = Checkpoint::open(&path).unwrap();
        assert_eq!(file.card().unwrap().is_some(), to == "safetensors");
        assert!(file.tensors().contains_key("conv1.weight"));
    }
    sr([
        "export",
        "hypersrcnn",
        "--to",
        "safetensors",
        "--scale",
        "5",
        "--force",
        "--out",
        out,
    ])
    .ok();
    let model = Model::open(&path).unwrap();
    assert_eq!(*model.scales(), Scales::list([Scale::whole(5)]));
}

#[test]
fn what_cannot_be_exported_is_refused() {
    for (model, scale, problem) in [
        ("espcn", "9", "not for 9"),
        ("hypersrcnn", "3/2", "at whole scales"),
        ("bicubic", "2", "weights for"),
        ("drct", "2", "no built-in weights"),
    ] {
        sr(["export", model, "--to", "onnx", "--scale", scale]).fails(1, &[problem]);
    }
}

#[test]
fn a_file_in_f16_has_half_the_size_and_the_same_card() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["x2.safetensors", "x2-f16.safetensors"].map(|name| folder.path().join(name));
    let [source, out] = [&from, &to].map(|path| path.to_str().unwrap());
    // In f32.
    let settings = ["--to", "safetensors", "--scale", "2", "--out", source];
    sr([&["export", "espcn"], &settings[..]].concat()).ok();
    let export = ["export", "--weights", source, "--to", "f16", "--out", out];
    sr(export).ok();
    sr(export).fails(1, &["already exists", "--force"]);
    sr(["export", "espcn", "--to", "f16"]).fails(1, &["--weights"]);
    sr(["export", "espcn", "--to", "onnx"]).fails(2, &["--scale"]);
    let [before, after] = [&from, &to].map(|path| Checkpoint::open(path).unwrap());
    assert_eq!(before.card().unwrap(), after.card().unwrap());
    assert_eq!(before.metadata(), after.metadata());
    let floats = before.floats();
    assert_eq!(floats.len(), after.floats().len());
    for (name, tensor) in after.floats() {
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (value, rounded) in values(&floats[&name]).into_iter().zip(values(&tensor)) {
            assert!(
                (value - rounded).abs() <= value.abs() / 2048.0 + 1e-7,
                "{name}: {value}, {rounded}"
            );
        }
    }
    let sizes = [&from, &to].map(|path| fs::metadata(path).unwrap().len());
    let integers = before
        .listing()
        .iter()
        .filter(|tensor| tensor.dtype.starts_with('I'));
    let kept: usize = integers
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum();
    let floats = |size: u64| size - kept as u64;
    assert!(floats(sizes[1]) < floats(sizes[0]) * 3 / 4, "{sizes:?}");
}
