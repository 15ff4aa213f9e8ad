//! `sr quantize`.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Desk, sr};
use srfilter::models::Channels;
use srfilter::weights::{Checkpoint, Model};

#[test]
fn weights_in_integers_are_added_and_measured() {
    let desk = Desk::new();
    let float = desk.weights("float.safetensors", Channels::Luma);
    for name in ["a.png", "b.png", "c.png"] {
        desk.draw(&format!("data/{name}"), (90, 70), 3);
    }
    desk.draw("data/small.png", (5, 5), 3);
    let (data, out) = (desk.path("data"), desk.path("int8.safetensors"));
    let run = sr(["quantize", &float, "--data", &data, "--out", &out]).ok();
    assert!(run.stderr.contains("not used: small.png"), "{}", run.stderr);
    assert!(run.stdout.contains("x2: f32 "), "{}", run.stdout);
    let card = Checkpoint::open(&out).unwrap().card().unwrap().unwrap();
    assert!(card.int8_loss.unwrap().abs() < 1.0, "{:?}", card.int8_loss);
    // The weights in f32 are the same.
    let (before, after) = (
        Checkpoint::open(&float).unwrap(),
        Checkpoint::open(&out).unwrap(),
    );
    let values =
        |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(before.tensors().len(), after.floats().len());
    for (name, tensor) in after.floats() {
        assert_eq!(values(&tensor), values(&before.tensors()[&name]), "{name}");
    }
    assert!(Model::open(&out).unwrap().int8_loss().is_some());
    // Not twice without --force, and never onto the input.
    sr(["quantize", &float, "--data", &data, "--out", &out]).fails(1, &["already exists"]);
    sr([
        "quantize", &float, "--data", &data, "--out", &out, "--force",
    ])
    .ok();
    sr(["quantize", &out, "--data", &data, "--out", &out, "--force"]).fails(1, &["is the input"]);
    desk.draw("measured/d.png", (40, 30), 3);
    let measured = desk.path("measured");
    let evaluated = sr([
        "evaluate",
        "--weights",
        &float,
        "--data",
        &measured,
        "--precision",
        "int8",
        "--scale",
        "2",
    ]);
    evaluated.fails(1, &["no weights in 8-bit integers"]);
}

#[test]
fn what_cannot_be_quantised_is_an_error() {
    let desk = Desk::new();
    let float = desk.weights("float.safetensors", Channels::Luma);
    sr(["quantize", &float, "--data", &desk.path("none")]).fails(1, &["not a folder"]);
    desk.draw("data/small.png", (5, 5), 3);
    let data = desk.path("data");
    sr(["quantize", &float, "--data", &data]).fails(1, &["no image that is large enough"]);
}
