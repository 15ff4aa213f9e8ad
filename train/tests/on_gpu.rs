//! Training on a GPU, against the CPU. Where there is no GPU, its kernels run
//! on the CPU (`tests/cuda`), and each test in a child process.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "cuda")]

use candle_core::{Device, Tensor};
use srfilter::engine::DeviceChoice;
use srfilter::weights::{Checkpoint, LoadOverrides};
use srfilter_train::checkpoint::State;
use srfilter_train::data::Dataset;
use srfilter_train::recipe::{Overrides, Recipe};
use srfilter_train::run::{Options, Outcome, run};
use srfilter_train::trainer::Trainer;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use testing::emulated;

testing::emulated! {
    every_network_learns_the_same [] => networks_child;
    every_network_learns_the_same_without_cudnn [emulated::NO_CUDNN] => networks_child;
    adversaries_learn_the_same [] => adversaries_child;
    runs_stop_and_go_on [] => runs_child;
}

fn gpu() -> Device {
    let device = DeviceChoice::Cuda(0).resolve().unwrap();
    device.candle_device().clone()
}

fn table(text: &str) -> toml::Table {
    toml::from_str(text).unwrap()
}

/// A small network on a synthetic image.
fn flags(name: &str, config: &str) -> Overrides {
    let mut flags = Overrides::default();
    flags
        .set("model", "name", Some(name))
        .set("model", "config", Some(table(config)))
        .set("data", "drawn", Some(1))
        .set("data", "patch", Some(8))
        .set("data", "validation", Some(0))
        .set("train", "batch_size", Some(2))
        .set("train", "scales", Some(vec!["2"]))
        .set("train", "lr", Some(1e-3))
        .set("train", "warmup", Some(0))
        .set("train", "steps", Some(100));
    flags
}

fn begin(flags: &Overrides) -> (Recipe, Arc<Dataset>) {
    let recipe = Recipe::resolve(None, flags).unwrap();
    let channels = recipe.architecture().unwrap().channels();
    let mut dataset = Dataset::load(&recipe, channels).unwrap();
    dataset.train[0] = dataset.train[0].center(32);
    (recipe, Arc::new(dataset))
}

/// The results of some steps: the metrics, and the weights for a weights file.
fn trained(
    device: &Device,
    (recipe, dataset): &(Recipe, Arc<Dataset>),
) -> (Vec<f64>, BTreeMap<String, Vec<f32>>) {
    let mut trainer = Trainer::on(device, recipe, dataset, None).unwrap();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let report = trainer.step().unwrap();
        numbers.extend([report.loss, report.gradient_norm]);
        numbers.extend(report.discriminator_loss);
    }
    let network = trainer.reparameterized().unwrap().tensors;
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let tensors = network.iter().map(|(n, t)| (n.clone(), values(t)));
    (numbers, tensors.collect())
}

/// Asserts that the first steps equal those on the CPU.
fn check(name: &str, flags: &Overrides) {
    assert!(std::env::var_os(emulated::CHILD).is_some());
    let begun = begin(flags);
    let (expected, tensors) = trained(&Device::Cpu, &begun);
    let (numbers, result) = trained(&gpu(), &begun);
    println!("{name}: {expected:?} {numbers:?}");
    for (expected, number) in expected.iter().zip(&numbers) {
        let apart = (expected - number).abs() / (1e-3 + expected.abs());
        assert!(apart < 5e-3, "{name}: {expected} {number}");
    }
    assert_eq!(numbers.len(), expected.len());
    assert!(tensors.keys().eq(result.keys()), "{name}");
    for (tensor, expected) in &tensors {
        // Adam's first steps have the same length for a gradient of rounding errors
        // as for any other: some elements may have the opposite sign.
        let apart: Vec<f32> = (expected.iter().zip(&result[tensor]))
            .map(|(a, b)| (a - b).abs())
            .collect();
        let mean = apart.iter().sum::<f32>() / apart.len() as f32;
        assert!(mean < 5e-4, "{name}: {tensor} is {mean} apart on average");
    }
}

#[test]
#[ignore = "run by another test, in a child process"]
fn networks_child() {
    for (name, config) in [
        ("srcnn", "kernels = [5, 3, 3]\nwidths = [12, 8]"),
        ("hypersrcnn", "hidden = [4, 8]"),
        ("espcn", "width = 8\ndepth = 2\nreparam = true"),
        ("srresnet", "width = 8\nblocks = 2"),
        ("compact", "width = 8\ndepth = 2"),
        ("hdsrnet", "width = 8"),
        ("lapan", "width = 16"),
        (
            "drct",
            "width = 12\ngroups = 1\nheads = 4\nwindow = 4\ngrowth = 4",
        ),
    ] {
        let mut flags = flags(name, config);
        flags.set("train", "ema", Some(0.5));
        check(name, &flags);
        if name == "srcnn" {
            let mut whitened = flags.clone();
            whitened.set("train", "whiten", Some(0.3));
            check("srcnn, whitened", &whitened);
            flags
                .set("train", "loss", Some("dssim"))
                .set("train", "clip_norm", Some(0.1))
                .set("train", "optimizer", Some("sgd"));
            check("srcnn, by gradient descent", &flags);
        }
    }
}

#[test]
#[ignore = "run by another test, in a child process"]
fn adversaries_child() {
    for discriminator in [
        "name = 'srgan'\nwidth = 4\nhidden = 8",
        "name = 'unet'\nwidth = 4",
    ] {
        let mut flags = flags("srgan", "width = 8\nblocks = 2");
        flags.set("adversarial", "weight", Some(0.01)).set(
            "adversarial",
            "discriminator",
            Some(table(discriminator)),
        );
        check(discriminator, &flags);
    }
}

/// With small batches, driver calls dominate the time of a step. An SRResNet with
/// 10 convolutions.
#[test]
fn steps_ask_little_of_the_driver() {
    let asked = |steps: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls");
        let settings = [
            ("SRFILTER_EMULATED_CALLS", path.to_str().unwrap()),
            (STEPS, steps),
        ];
        emulated::run("steps_child", &settings);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines
            .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
            .collect::<BTreeMap<String, u64>>()
    };
    let (few, more) = (asked("1"), asked("3"));
    let a_step = |kind: fn(&str) -> bool| {
        let all = |calls: &BTreeMap<String, u64>| -> u64 {
            let of_kind = calls.iter().filter(|(name, _)| kind(name));
            of_kind.map(|(_, count)| count).sum()
        };
        (all(&more) - all(&few)) / 2
    };
    let kernels = a_step(|name| name.starts_with("kernel "));
    let allocations = a_step(|name| name == "cuMemAllocAsync");
    let waits = a_step(|name| name == "cuMemcpyDtoHAsync_v2");
    println!("{kernels} kernels, {allocations} allocations, {waits} copies to the host");
    assert!(kernels <= 135 && allocations <= 205 && waits <= 2);
}

const STEPS: &str = "SRFILTER_TEST_STEPS";

#[test]
#[ignore = "run by another test, in a child process"]
fn steps_child() {
    let steps = std::env::var(STEPS).map_or(1, |steps| steps.parse().unwrap());
    let (recipe, dataset) = begin(&flags("srresnet", "width = 8\nblocks = 3"));
    let mut trainer = Trainer::on(&gpu(), &recipe, &dataset, None).unwrap();
    for _ in 0..steps {
        trainer.step().unwrap();
    }
}

/// A stopped run resumes on the GPU bit for bit, and also on the CPU.
#[test]
#[ignore = "run by another test, in a child process"]
fn runs_child() {
    let dir = tempfile::tempdir().unwrap();
    let train = |out: &str, steps: u32, resume, device| {
        let mut flags = flags("srcnn", "kernels = [3, 3, 3]\nwidths = [4, 4]");
        flags
            .set("data", "drawn", Some(3))
            .set("data", "validation", Some(1))
            .set("train", "whiten", Some(0.3))
            .set("train", "schedule", Some("constant"))
            .set("train", "validate_every", Some(2))
            .set("train", "steps", Some(steps));
        let options = Options {
            overrides: flags,
            out: Some(dir.path().join(out)),
            resume,
            device,
            ..Options::default()
        };
        assert_eq!(
            run(&options, &AtomicBool::new(false)).unwrap(),
            Outcome::Finished
        );
        let state = dir.path().join(out).join("checkpoint/state.safetensors");
        State::load(&state).unwrap().generator
    };
    let on = DeviceChoice::Cuda(0);
    let straight = train("straight", 6, false, on);
    train("parts", 4, false, on);
    let resumed = train("parts", 6, true, on);
    let values = |tensors: &HashMap<String, Tensor>| {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let named = tensors.iter().map(|(n, t)| (n.clone(), values(t)));
        named.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(values(&resumed.parameters), values(&straight.parameters));
    assert_eq!(resumed.moments, straight.moments);
    let moved = train("parts", 8, true, DeviceChoice::Cpu);
    assert_ne!(values(&moved.parameters), values(&resumed.parameters));
    let file = Checkpoint::open(dir.path().join("parts/best.safetensors")).unwrap();
    let (_, network) = file.network(&LoadOverrides::default()).unwrap();
    network.for_scale("2".parse().unwrap()).unwrap();
}
