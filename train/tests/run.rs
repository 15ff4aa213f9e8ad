//! Whole runs, through the library and through the binary.

#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use srfilter::frame::Image;
use srfilter::models::{Channels, Network};
use srfilter::ops::record_convs;
use srfilter::weights::{Checkpoint, LoadOverrides};
use srfilter_train::checkpoint::State;
use srfilter_train::data::Dataset;
use srfilter_train::degrade::Method;
use srfilter_train::recipe::{Overrides, Recipe};
use srfilter_train::run::validation::Validator;
use srfilter_train::run::{Options, Outcome, run, run_each};
use srfilter_train::trainer::Trainer;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A network so small that tests are quick.
fn small(steps: u32) -> Overrides {
    let config = "kernels = [5, 3, 3]\nwidths = [12, 8]\nresidual = true";
    let mut flags = Overrides::default();
    flags
        .set("model", "name", Some("srcnn"))
        .set(
            "model",
            "config",
            Some(toml::from_str::<toml::Table>(config).unwrap()),
        )
        .set("data", "drawn", Some(8))
        .set("data", "validation", Some(2))
        .set("train", "lr", Some(4e-3))
        .set("train", "warmup", Some(5))
        .set("train", "steps", Some(steps));
    flags
}

fn options(out: &Path, overrides: Overrides) -> Options {
    Options {
        overrides,
        out: Some(out.to_owned()),
        ..Options::default()
    }
}

fn start(options: &Options) -> anyhow::Result<Outcome> {
    run(options, &AtomicBool::new(false))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn problem(options: &Options) -> String {
    format!("{:#}", start(options).unwrap_err())
}

fn bits(tensors: &HashMap<String, Tensor>) -> HashMap<String, Vec<u32>> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bits = |t: &Tensor| values(t).into_iter().map(f32::to_bits).collect();
    tensors
        .iter()
        .map(|(name, t)| (name.clone(), bits(t)))
        .collect()
}

/// While other networks train in the same process, too.
#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_for_bit() {
    let mut adam = small(20);
    adam.set("train", "whiten", Some(0.1));
    let mut muon = adam.clone();
    muon.set("train", "optimizer", Some("muon"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut trainer = trainer(&small(1_000_000), None);
                while !over.load(Ordering::Relaxed) {
                    trainer.step().unwrap();
                }
            });
        }
        let result =
            std::panic::catch_unwind(|| [small(20), adam, muon].each_ref().map(check_resuming));
        over.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

fn trainer(flags: &Overrides, state: Option<State>) -> Trainer {
    let recipe = Recipe::resolve(None, flags).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    Trainer::new(&recipe, &dataset, state).unwrap()
}

fn check_resuming(flags: &Overrides) {
    let train = |state: Option<State>, steps: usize| {
        let mut trainer = trainer(flags, state);
        (0..steps).for_each(|_| assert!(trainer.step().unwrap().loss > 0.0));
        trainer.state().unwrap()
    };
    let straight = train(None, 20);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    train(None, 10).save(&path).unwrap();
    let resumed = train(Some(State::load(&path).unwrap()), 10);
    assert_eq!(
        bits(&resumed.generator.parameters),
        bits(&straight.generator.parameters)
    );
    assert_eq!(resumed.generator.moments, straight.generator.moments);
    assert_eq!((resumed.step, straight.step), (20, 20));
}

/// A thread of the pool that waits in the middle of one step may do another trainer's
/// whole step.
#[test]
fn a_step_is_not_recorded_by_another_one() {
    let mut other = trainer(&small(20), None);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    let ((), recorded) = pool.build().unwrap().install(|| {
        rayon::scope(|scope| {
            record_convs(|| {
                scope.spawn(|_| assert!(other.step().unwrap().loss > 0.0));
                assert_eq!(rayon::yield_now(), Some(rayon::Yield::Executed));
            })
        })
    });
    assert_eq!((other.steps(), recorded.len()), (1, 0));
}

/// Also without the residual: the network is initialised as the identity.
#[test]
fn the_loss_falls_in_sixty_steps() {
    check_falling(&small_plain());
}

#[test]
fn the_loss_falls_in_sixty_steps_of_muon() {
    let mut flags = small_plain();
    flags
        .set("train", "optimizer", Some("muon"))
        .set("train", "clip_norm", Some(1.0));
    check_falling(&flags);
}

fn small_plain() -> Overrides {
    let mut flags = small(60);
    let config = "kernels = [5, 3, 3]\nwidths = [12, 8]";
    flags.set(
        "model",
        "config",
        Some(toml::from_str::<toml::Table>(config).unwrap()),
    );
    flags
}

fn check_falling(flags: &Overrides) {
    let recipe = Recipe::resolve(None, flags).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
    assert!(
        mean(&losses[50..]) < 0.6 * mean(&losses[..10]),
        "{losses:?}"
    );
}

#[test]
fn training_on_synthetic_images_beats_bicubic() {
    let dir = tempfile::tempdir().unwrap();
    let mut flags = small(300);
    flags.set("train", "validate_every", Some(100));
    assert_eq!(
        start(&options(dir.path(), flags)).unwrap(),
        Outcome::Finished
    );
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let numbers = |event: &str, key: &str| -> Vec<f64> {
        let matching = events.iter().filter(|e| e["event"] == event);
        matching.map(|e| e[key].as_f64().unwrap()).collect()
    };
    assert_eq!(numbers("train", "loss").len(), 15);
    let gains = numbers("validation", "gain");
    assert_eq!(gains.len(), 3);
    assert!(gains[2] > 0.3, "{gains:?}");

    // TensorBoard's file holds the same lines; its own tests parse it.
    let names = std::fs::read_dir(dir.path()).unwrap();
    let boards = names.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("events.out.tfevents.")
    });
    assert_eq!(boards.count(), 1);

    let curves = Image::open(dir.path().join("curves.png")).unwrap();
    assert!(curves.width > 100 && curves.data.iter().any(|&v| v != curves.data[0]));
    for name in ["best.safetensors", "last.safetensors"] {
        let file = Checkpoint::open(dir.path().join(name)).unwrap();
        let card = file.card().unwrap().unwrap();
        assert!(card.training_data.contains("synthetic"), "{card:?}");
        assert!(card.quality.contains("x2"), "{card:?}");
        assert_eq!(card.recipe_sha256.len(), 64);
        file.network(&LoadOverrides::default()).unwrap();
    }
}

/// A small ESPCN with branches, heads for two scales, one of them a step.
fn small_espcn(steps: u32) -> Overrides {
    let config = "width = 6\ndepth = 2\nreparam = true";
    let mut flags = Overrides::default();
    flags
        .set("model", "name", Some("espcn"))
        .set(
            "model",
            "config",
            Some(toml::from_str::<toml::Table>(config).unwrap()),
        )
        .set("data", "drawn", Some(8))
        .set("data", "patch", Some(16))
        .set("data", "validation", Some(2))
        .set("train", "scales", Some(vec!["2", "4"]))
        .set("train", "validate_scales", Some(vec!["2", "5/2", "4"]))
        .set("train", "lr", Some(4e-3))
        .set("train", "loss", Some("l1"))
        .set("train", "warmup", Some(5))
        .set("train", "validate_every", Some(1000))
        .set("train", "steps", Some(steps));
    flags
}

/// A few steps on one tiny image: the network overfits it.
#[test]
fn a_post_upsampling_network_learns_a_batch() {
    let mut flags = small_espcn(150);
    flags
        .set("data", "drawn", Some(1))
        .set("data", "validation", Some(0))
        .set("train", "scales", Some(vec!["2"]));
    let mut recipe = Recipe::resolve(None, &flags).unwrap();
    recipe.train.validate_scales.clear();
    let mut dataset = Dataset::load(&recipe, Channels::Luma).unwrap();
    // So small that all patches are nearly the same.
    dataset.train[0] = dataset.train[0].center(40);
    let mut trainer = Trainer::new(&recipe, &Arc::new(dataset), None).unwrap();
    let losses: Vec<f64> = (0..150).map(|_| trainer.step().unwrap().loss).collect();
    let (first, last) = (mean(&losses[..10]), mean(&losses[140..]));
    assert!(last < 0.7 * first, "{first} {last} {losses:?}");
}

/// The hypernetwork generates the weights of a small network at three scales, all
/// of them in every step.
#[test]
fn a_hypernetwork_learns_a_batch() {
    let config =
        "hidden = [12, 8]\ntarget = { kernels = [5, 3, 3], widths = [6, 4], residual = true }";
    let mut flags = small(120);
    flags
        .set("model", "name", Some("hypersrcnn"))
        .set(
            "model",
            "config",
            Some(toml::from_str::<toml::Table>(config).unwrap()),
        )
        .set("data", "drawn", Some(1))
        .set("data", "validation", Some(0))
        .set("train", "scales", Some(vec!["3/2", "2", "4"]))
        .set("train", "scales_per_step", Some("all"));
    let recipe = Recipe::resolve(None, &flags).unwrap();
    let mut dataset = Dataset::load(&recipe, Channels::Luma).unwrap();
    dataset.train[0] = dataset.train[0].center(40);
    let mut trainer = Trainer::new(&recipe, &Arc::new(dataset), None).unwrap();
    let losses: Vec<f64> = (0..120).map(|_| trainer.step().unwrap().loss).collect();
    let (first, last) = (mean(&losses[..10]), mean(&losses[110..]));
    assert!(last < 0.8 * first, "{first} {last} {losses:?}");
}

/// The losses of all scales of a step are summed, each by its weight.
#[test]
fn scales_that_share_a_step_share_its_loss() {
    let loss = |scales: &[&str], weights: &[f64]| {
        let mut flags = small(1);
        flags
            .set("model", "name", Some("hypersrcnn"))
            .set("model", "config", Some(toml::Table::new()))
            .set("train", "scales", Some(scales.to_vec()))
            .set("train", "scale_weights", Some(weights.to_vec()))
            .set("train", "scales_per_step", Some("all"));
        let recipe = Recipe::resolve(None, &flags).unwrap();
        let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
        Trainer::new(&recipe, &dataset, None)
            .unwrap()
            .step()
            .unwrap()
            .loss
    };
    // The first scale's patches are the same, as the same random numbers come first.
    let (once, twice) = (loss(&["2"], &[1.0]), loss(&["2"], &[3.0]));
    assert!((twice - 3.0 * once).abs() < 1e-6 * twice, "{once} {twice}");
    let [both, weighted] = [[1.0, 1.0], [1.0, 2.0]].map(|w| loss(&["2", "4"], &w));
    let second = both - once;
    assert!(second > 0.0);
    assert!((weighted - (once + 2.0 * second)).abs() < 1e-6 * weighted);
}

/// A small network on R, G and B that upscales by two.
fn small_rgb(name: &str, config: &str) -> Overrides {
    let mut flags = Overrides::default();
    flags
        .set("model", "name", Some(name))
        .set(
            "model",
            "config",
            Some(toml::from_str::<toml::Table>(config).unwrap()),
        )
        .set("data", "drawn", Some(1))
        .set("data", "patch", Some(8))
        .set("data", "validation", Some(0))
        .set("train", "scales", Some(vec!["2"]))
        .set("train", "lr", Some(4e-3))
        .set("train", "warmup", Some(2))
        .set("train", "steps", Some(60));
    flags
}

const SMALL_SRRESNET: &str = "width = 8\nblocks = 2";

fn rgb_trainer(name: &str, config: &str, state: Option<State>) -> Trainer {
    let recipe = Recipe::resolve(None, &small_rgb(name, config)).unwrap();
    let mut dataset = Dataset::load(&recipe, Channels::Rgb).unwrap();
    dataset.train[0] = dataset.train[0].center(32);
    Trainer::new(&recipe, &Arc::new(dataset), state).unwrap()
}

#[test]
fn networks_on_rgb_learn_a_batch() {
    for (name, config, steps) in [
        ("srresnet", SMALL_SRRESNET, 60),
        ("compact", "width = 8\ndepth = 2", 60),
        ("hdsrnet", "width = 8", 60),
        // Its features at eight times the size are slow.
        ("lapan", "width = 16\nchained = true", 12),
        (
            "drct",
            "width = 12\ngroups = 1\nheads = 4\nwindow = 4\ngrowth = 4",
            60,
        ),
    ] {
        let mut trainer = rgb_trainer(name, config, None);
        let losses: Vec<f64> = (0..steps).map(|_| trainer.step().unwrap().loss).collect();
        let (first, last) = (mean(&losses[..3]), mean(&losses[steps - 3..]));
        assert!(last < 0.8 * first, "{name}: {first} {last} {losses:?}");
    }
}

/// Batch statistics are saved with the parameters, are not optimised, and are
/// folded into the deployed network.
#[test]
fn statistics_of_batches_resume_and_deploy() {
    let mut trainer = rgb_trainer("srresnet", SMALL_SRRESNET, None);
    let statistic = "conv_block2.conv_block.1.running_mean";
    for _ in 0..5 {
        trainer.step().unwrap();
    }
    let state = trainer.state().unwrap();
    assert!(!state.generator.moments.contains_key(statistic));
    let moved = bits(&state.generator.parameters)[statistic].clone();
    assert!(moved.iter().any(|&bits| bits != 0));
    let mut resumed = rgb_trainer("srresnet", SMALL_SRRESNET, Some(state));
    for trainer in [&mut trainer, &mut resumed] {
        for _ in 0..3 {
            trainer.step().unwrap();
        }
    }
    let tensors = |trainer: &Trainer| bits(&trainer.tensors().into_iter().collect());
    assert_eq!(tensors(&trainer), tensors(&resumed));
    assert_ne!(tensors(&trainer)[statistic], moved);
    let network = trainer.reparameterized().unwrap();
    assert!(network.tensors.iter().all(|(name, _)| name != statistic));
}

#[test]
fn the_deployed_network_is_reparameterized_and_measures_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let flags = small_espcn(60);
    start(&options(dir.path(), flags.clone())).unwrap();
    let recipe = Recipe::resolve(None, &flags).unwrap();
    let state = State::load(&dir.path().join("checkpoint/state.safetensors")).unwrap();
    assert!(state.generator.parameters.contains_key("body.0.expand"));
    // Every head has counted its own steps.
    let steps = |name: &str| state.generator.moments[name].steps;
    assert_eq!(steps("heads.2.weight") + steps("heads.4.weight"), 60);
    assert!(steps("heads.2.weight") > 0 && steps("heads.4.weight") > 0);
    assert_eq!(steps("first.weight"), 60);

    let file = Checkpoint::open(dir.path().join("best.safetensors")).unwrap();
    let mut names: Vec<_> = file.tensors().keys().cloned().collect();
    names.sort();
    assert_eq!(names.len(), 2 * (1 + 2 + 2), "{names:?}");
    let card = file.card().unwrap().unwrap();
    assert!(card.quality.contains("x5/2"), "{card:?}");
    let (_, deployed) = file.network(&LoadOverrides::default()).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let trained = Trainer::new(&recipe, &dataset, Some(state)).unwrap();
    let scales = recipe.validation_scales();
    let method = Method::new(&recipe.data).unwrap();
    let validator = Validator::new(&dataset.validation, scales, &method).unwrap();
    let [a, b] =
        [trained.network(), deployed.as_ref()].map(|n| validator.measure(n, &Device::Cpu).unwrap());
    assert_eq!(a.len(), 3);
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a.scale, b.scale);
        assert!((a.psnr - b.psnr).abs() < 1e-3, "{a:?} {b:?}");
    }
}

#[test]
fn heads_out_of_turn_resume_bit_for_bit() {
    let recipe = Recipe::resolve(None, &small_espcn(12)).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let train = |state: Option<State>, steps: usize| {
        let mut trainer = Trainer::new(&recipe, &dataset, state).unwrap();
        (0..steps).for_each(|_| assert!(trainer.step().unwrap().loss > 0.0));
        trainer.state().unwrap()
    };
    let straight = train(None, 12);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    train(None, 5).save(&path).unwrap();
    let resumed = train(Some(State::load(&path).unwrap()), 7);
    assert_eq!(
        bits(&resumed.generator.parameters),
        bits(&straight.generator.parameters)
    );
    assert_eq!(resumed.generator.moments, straight.generator.moments);
}

/// The moving average follows its definition, is written to weights files, and
/// resumes.
#[test]
fn the_average_of_the_weights_is_written() {
    const DECAY: f32 = 0.75;
    let mut flags = small(9);
    flags.set("train", "ema", Some(f64::from(DECAY)));
    let recipe = Recipe::resolve(None, &flags).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    let weights = |tensors: &[(String, Tensor)]| -> Vec<f32> {
        let all = tensors.iter().map(|(_, t)| t.flatten_all().unwrap());
        all.flat_map(|t| t.to_vec1::<f32>().unwrap()).collect()
    };
    let mut by_hand = weights(&trainer.tensors());
    for _ in 0..4 {
        trainer.step().unwrap();
        let now = weights(&trainer.tensors());
        let pairs = by_hand.iter_mut().zip(now);
        pairs.for_each(|(a, w)| *a = DECAY * *a + (1.0 - DECAY) * w);
    }
    let written = weights(&trainer.reparameterized().unwrap().tensors);
    let off = written.iter().zip(&by_hand).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f32::max) < 1e-6);
    assert_ne!(written, weights(&trainer.tensors()));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    trainer.state().unwrap().save(&path).unwrap();
    let state = State::load(&path).unwrap();
    let mut resumed = Trainer::new(&recipe, &dataset, Some(state)).unwrap();
    for trainer in [&mut trainer, &mut resumed] {
        (0..5).for_each(|_| assert!(trainer.step().unwrap().loss > 0.0));
    }
    let [a, b] = [&trainer, &resumed].map(|t| weights(&t.reparameterized().unwrap().tensors));
    assert_eq!(a, b);

    // Another run starts from the average.
    flags.set("model", "init", Some(path.to_str().unwrap()));
    let recipe = Recipe::resolve(None, &flags).unwrap();
    let next = Trainer::new(&recipe, &dataset, None).unwrap();
    assert_eq!(weights(&next.tensors()), written);
}

/// Steps so small that no validation is better than the first.
#[test]
fn a_run_that_stops_improving_ends_early() {
    let dir = tempfile::tempdir().unwrap();
    let mut flags = small(100);
    flags
        .set("train", "optimizer", Some("sgd"))
        .set("train", "lr", Some(1e-30))
        .set("train", "schedule", Some("constant"))
        .set("train", "validate_every", Some(5))
        .set("train", "early_stop_patience", Some(2));
    start(&options(dir.path(), flags)).unwrap();
    let path = dir.path().join("checkpoint/state.safetensors");
    assert_eq!(State::load(&path).unwrap().step, 15);
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    assert!(log.contains("stopped improving"), "{log}");
    let resume = Options {
        resume: true,
        ..options(dir.path(), Overrides::default())
    };
    start(&resume).unwrap();
    assert_eq!(State::load(&path).unwrap().step, 15);
}

#[test]
fn a_scale_starts_from_the_matching_tensors_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let config = "width = 8\ndepth = 2";
    let mut trainer = rgb_trainer("compact", config, None);
    trainer.step().unwrap();
    let weights = dir.path().join("x2.safetensors");
    trainer.state().unwrap().save(&weights).unwrap();
    let mut flags = small_rgb("compact", config);
    flags
        .set("model", "init", Some(weights.to_str().unwrap()))
        .set("train", "scales", Some(vec!["4"]));
    let build = |flags: &Overrides| {
        let recipe = Recipe::resolve(None, flags).unwrap();
        let dataset = Arc::new(Dataset::load(&recipe, Channels::Rgb).unwrap());
        Trainer::new(&recipe, &dataset, None)
    };
    let error = format!("{:#}", build(&flags).unwrap_err());
    assert!(error.contains("body.6.weight"), "{error}");
    flags.set("model", "strict_init", Some(false));
    let x4 = bits(&build(&flags).unwrap().tensors().into_iter().collect());
    let x2 = bits(&trainer.tensors().into_iter().collect());
    assert_eq!(x4["body.4.weight"], x2["body.4.weight"]);
    assert_eq!(x4["body.6.weight"].len(), 4 * x2["body.6.weight"].len());
}

/// SGD with momentum also trains, if slowly.
#[test]
fn gradient_descent_lowers_the_loss() {
    let mut flags = small(60);
    flags
        .set("train", "optimizer", Some("sgd"))
        .set("train", "lr", Some(0.1))
        .set("train", "clip_value", Some(0.5));
    let recipe = Recipe::resolve(None, &flags).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
    assert!(mean(&losses[50..]) < mean(&losses[..10]), "{losses:?}");
}

#[test]
fn a_run_is_neither_overwritten_nor_changed_by_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let again = |resume: bool, overrides: Overrides| Options {
        resume,
        ..options(&out, overrides)
    };
    let error = problem(&again(true, Overrides::default()));
    assert!(error.contains("no run to resume"), "{error}");

    start(&options(&out, small(2))).unwrap();
    let error = problem(&again(false, small(2)));
    assert!(
        error.contains("--resume") && error.contains("--force"),
        "{error}"
    );
    let mut other = Overrides::default();
    other.set("train", "lr", Some(0.5));
    let error = problem(&again(true, other));
    assert!(error.contains("train.lr"), "{error}");

    let mut longer = Overrides::default();
    longer.set("train", "steps", Some(4));
    start(&again(true, longer)).unwrap();
    assert_eq!(
        State::load(&out.join("checkpoint/state.safetensors"))
            .unwrap()
            .step,
        4
    );

    let force = Options {
        force: true,
        ..options(&out, small(1))
    };
    start(&force).unwrap();
    assert_eq!(
        State::load(&out.join("checkpoint/state.safetensors"))
            .unwrap()
            .step,
        1
    );
}

#[test]
fn a_damaged_state_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    start(&options(dir.path(), small(1))).unwrap();
    let path = dir.path().join("checkpoint/state.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let resume = Options {
        resume: true,
        ..options(dir.path(), Overrides::default())
    };
    let error = problem(&resume);
    assert!(error.contains("state.safetensors"), "{error}");
}

/// The network that a hypernetwork generates for a scale is trained further, and a
/// hypernetwork fitted to it.
#[test]
fn a_hypernetwork_generates_networks_and_is_fitted_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = |text: &str| Some(toml::from_str::<toml::Table>(text).unwrap());
    let target = "kernels = [5, 3, 3]\nwidths = [6, 4]\nresidual = true\nborder = \"replicate\"";
    let hyper = format!("hidden = [12, 8]\n[target]\n{target}");
    let mut whole = small(3);
    whole
        .set("model", "name", Some("hypersrcnn"))
        .set("model", "config", config(&hyper))
        .set("train", "scales", Some(vec!["2", "4"]));
    let first = dir.path().join("first");
    start(&options(&first, whole.clone())).unwrap();
    let file = first.join("last.safetensors");
    let single = |scales: &[&str], target: &str| {
        let mut flags = small(3);
        flags
            .set("model", "config", config(target))
            .set("model", "init", Some(file.to_str().unwrap()))
            .set("train", "scales", Some(scales.to_vec()));
        flags
    };
    let mut fit_from = toml::Table::new();
    for scale in ["2", "4"] {
        let out = dir.path().join(scale);
        start(&options(&out, single(&[scale], target))).unwrap();
        let result = out.join("last.safetensors").to_str().unwrap().to_owned();
        fit_from.insert(scale.to_owned(), result.into());
    }
    whole
        .set("model", "init", Some(file.to_str().unwrap()))
        .set("model", "fit_from", Some(fit_from));
    let recipe = Recipe::resolve(None, &whole).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    let first = Checkpoint::open(&file).unwrap();
    let (_, first) = first.network(&LoadOverrides::default()).unwrap();
    let furthest = |a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>| {
        let apart = a.iter().map(|(name, a)| {
            let apart = (a - &b[name]).unwrap().abs().unwrap();
            let apart = apart.flatten_all().unwrap().max(0).unwrap();
            apart.to_scalar::<f32>().unwrap()
        });
        apart.fold(0f32, f32::max)
    };
    for scale in ["2", "4"] {
        let expected = dir.path().join(scale).join("last.safetensors");
        let expected = Checkpoint::open(expected).unwrap();
        let at = |network: &dyn Network| -> HashMap<String, Tensor> {
            let result = network
                .as_hypernetwork()
                .unwrap()
                .generate_weights(scale.parse().unwrap())
                .unwrap();
            result.into_iter().collect()
        };
        assert!(furthest(&at(trainer.network()), expected.tensors()) < 1e-5);
        // The steps in between changed it.
        let apart = furthest(&at(first.as_ref()), expected.tensors());
        assert!(apart > 1e-4 && apart < 0.1, "{apart}");
    }

    let plain = target.replace("true", "false");
    let error = problem(&options(&dir.path().join("plain"), single(&["2"], &plain)));
    assert!(error.contains("last.safetensors generates"), "{error}");
    let mut other = whole.clone();
    let plain = format!("hidden = [12, 8]\n[target]\n{plain}");
    other.set("model", "config", config(&plain));
    let error = problem(&options(&dir.path().join("other"), other));
    assert!(
        error.contains("fit_from: ") && error.contains("residual: true"),
        "{error}"
    );
}

#[test]
fn a_run_starts_from_a_weights_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    start(&options(&first, small(3))).unwrap();
    let weights = first.join("last.safetensors");
    let init = |flags: &mut Overrides| {
        flags.set("model", "init", Some(weights.to_str().unwrap()));
    };
    let mut flags = small(3);
    init(&mut flags);
    let recipe = Recipe::resolve(None, &flags).unwrap();
    let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
    let trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    let file = Checkpoint::open(&weights).unwrap();
    assert_eq!(
        bits(&trainer.tensors().into_iter().collect()),
        bits(file.tensors())
    );

    let mut other = Overrides::default();
    other
        .set("model", "name", Some("srcnn"))
        .set("data", "drawn", Some(4));
    init(&mut other);
    let error = problem(&options(&dir.path().join("second"), other));
    assert!(
        error.contains("last.safetensors") && error.contains("conv1.weight"),
        "{error}"
    );
}

/// A network that learns from its own weights has half the error of one that learns from
/// the images, and none.
#[test]
fn a_larger_network_is_part_of_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    start(&options(&first, small(3))).unwrap();
    let weights = first.join("last.safetensors");
    let flags = |distillation: &str| {
        let mut flags = small(1);
        flags
            .set("model", "init", Some(weights.to_str().unwrap()))
            .set("train", "loss", Some("l1"));
        for (key, value) in toml::from_str::<toml::Table>(distillation).unwrap() {
            flags.set("distillation", &key, Some(value));
        }
        flags
    };
    let table = |path: &Path, share: f64| {
        let path = path.to_str().unwrap();
        format!("weights = {{ 2 = '{path}' }}\nshare = {share:?}")
    };
    let loss = |distillation: &str| {
        let recipe = Recipe::resolve(None, &flags(distillation)).unwrap();
        let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
        let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
        trainer.step().unwrap().loss
    };
    // The card states what it was trained on before, of a resumed run, too.
    let out = dir.path().join("second");
    let mut second = options(&out, flags(&table(&weights, 0.5)));
    start(&second).unwrap();
    second.resume = true;
    second.overrides.set("train", "steps", Some(2));
    start(&second).unwrap();
    let card = Checkpoint::open(out.join("last.safetensors")).unwrap();
    let data = card.card().unwrap().unwrap().training_data;
    let before = "8 synthetic images; trained at scales 2, 3 steps";
    assert_eq!(
        data,
        format!(
            "8 synthetic images; trained at scales 2, 2 steps; initial weights: {before}; \
             distilled from x2: {before}"
        )
    );

    let alone = loss("");
    let [half, none] = [0.5, 1.0].map(|share| loss(&table(&weights, share)));
    assert!((half - alone / 2.0).abs() < 1e-6, "{alone} {half}");
    assert!(none < 1e-6 && alone > 1e-3, "{alone} {none}");

    let rgb = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/compact/x2.safetensors");
    let error = problem(&options(&dir.path().join("rgb"), flags(&table(&rgb, 0.5))));
    assert!(
        error.contains("distillation.weights") && error.contains("Rgb"),
        "{error}"
    );
}

#[test]
fn a_training_that_diverges_leaves_the_last_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut flags = small(400);
    flags
        .set("train", "lr", Some(1e30))
        .set("train", "warmup", Some(0));
    let error = problem(&options(dir.path(), flags));
    assert!(
        error.contains("diverged") && error.contains("--lr"),
        "{error}"
    );
    assert_eq!(
        State::load(&dir.path().join("checkpoint/state.safetensors"))
            .unwrap()
            .step,
        0
    );
}

#[test]
fn valid_borders_train_on_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let valid = "kernels = [5, 3, 3]\nwidths = [4, 4]\nborder = 'valid'";
    let mut flags = small(2);
    flags.set(
        "model",
        "config",
        Some(toml::from_str::<toml::Table>(valid).unwrap()),
    );
    start(&options(&dir.path().join("a"), flags.clone())).unwrap();
    flags.set("data", "patch", Some(8));
    let error = problem(&options(&dir.path().join("b"), flags));
    assert!(error.contains("patch must be above 8"), "{error}");
}

#[test]
fn factors_for_no_parameter_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let factors = |name: &str| {
        let mut flags = small(1);
        let factors = toml::Table::from_iter([(name.to_owned(), 0.1.into())]);
        flags.set("train", "lr_factors", Some(factors));
        options(&dir.path().join(name), flags)
    };
    start(&factors("conv3.")).unwrap();
    let error = problem(&factors("conv4."));
    assert!(
        error.contains("conv4.") && error.contains("conv3.weight"),
        "{error}"
    );
}

/// The binary, interrupted by a signal, saves, says how to resume, and can.
#[cfg(unix)]
#[test]
fn an_interrupted_run_can_resume() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let recipe = dir.path().join("recipe.toml");
    let text = "[model]\nname = 'srcnn'\n\
                config = { kernels = [5, 1, 3], widths = [4, 4], residual = true }\n\
                [data]\ndrawn = 6\n[train]\nsteps = 1000000\n";
    std::fs::write(&recipe, text).unwrap();
    let train = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.arg("--out").arg(&out).stderr(Stdio::piped());
        command
    };
    let mut child = train().arg("--recipe").arg(&recipe).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("validation PSNR") {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "ended before a validation"
        );
    }
    // The shell's own `kill`: a bare machine may have no other.
    let interrupt = format!("kill -INT {}", child.id());
    let shell = Command::new("sh").args(["-c", &interrupt]).status();
    assert!(shell.unwrap().success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.contains("resume with: train --resume"), "{rest}");

    let step = State::load(&out.join("checkpoint/state.safetensors"))
        .unwrap()
        .step;
    assert!(step >= 200);
    let steps = (step + 5).to_string();
    let resumed = train()
        .args(["--resume", "--steps", &steps])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success(), "{errors}");
    assert!(errors.contains(&format!("from step {step}")), "{errors}");
}

/// A dry run reports the needs of a run and writes nothing.
#[test]
fn a_dry_run_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (out, recipe) = (dir.path().join("run"), dir.path().join("recipe.toml"));
    let text = "[model]\nname = 'srcnn'\n\
                config = { kernels = [5, 1, 3], widths = [4, 4], residual = true }\n\
                [data]\ndrawn = 6\n[train]\nsteps = 1000\n";
    std::fs::write(&recipe, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train"));
    command.arg("--dry-run").arg("--recipe").arg(&recipe);
    let output = command.arg("--out").arg(&out).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for words in [
        "srcnn (",
        "steps: 1000 of 1000",
        "time: ",
        "MiB",
        " ms for 4 patches",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!out.exists());
}

/// One command for networks of one scale each; started runs resume.
#[test]
fn each_scale_has_a_run_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let go = |steps: u32, resume: bool| {
        let options = Options {
            resume,
            ..options(dir.path(), small(steps))
        };
        run_each(
            &options,
            &["2".to_owned(), "5/2".to_owned()],
            &AtomicBool::new(false),
        )
    };
    let steps = |folder: &str| {
        let path = dir.path().join(folder).join("checkpoint/state.safetensors");
        State::load(&path).unwrap().step
    };
    go(2, false).unwrap();
    assert_eq!((steps("x2"), steps("x5_2")), (2, 2));
    std::fs::remove_dir_all(dir.path().join("x5_2")).unwrap();
    go(3, true).unwrap();
    assert_eq!((steps("x2"), steps("x5_2")), (3, 3));
    let error = format!("{:#}", go(3, false).unwrap_err());
    assert!(error.contains("already holds a run"), "{error}");
}

#[test]
fn the_binary_says_what_is_wrong_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let out = dir.path().join("run");
    let train = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train"));
        let output = command
            .arg("--out")
            .arg(&out)
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (arguments, expected) in [
        (["--data", empty.to_str().unwrap()], "found no image"),
        (["--data", "/no/such/folder"], "/no/such/folder"),
        (["--model", "srgna"], "srgna"),
        (["--recipe", "/no/such.toml"], "/no/such.toml"),
        (["--scales", "0.5"], "must be above 1"),
        (["--init", "/no/such.safetensors"], "/no/such.safetensors"),
    ] {
        let _ = std::fs::remove_dir_all(&out);
        let error = train(&arguments);
        let last = error.lines().last().unwrap();
        assert!(
            last.starts_with("train: ") && last.contains(expected),
            "{error}"
        );
    }
}

/// Images in a folder, to train on.
fn images(folder: &Path, count: u8) {
    std::fs::create_dir_all(folder).unwrap();
    for n in 0..count {
        let mut image = Image::new(64, 64, 3);
        let samples = image.data.iter_mut().enumerate();
        samples.for_each(|(i, v)| *v = ((i / 7) as u8).wrapping_mul(n + 3));
        image.save(folder.join(format!("{n}.png"))).unwrap();
    }
}

fn on(folder: &Path, steps: u32) -> Overrides {
    let mut flags = small(steps);
    let dirs = toml::Value::try_from([HashMap::from([("path", folder)])]).unwrap();
    flags.set("data", "dirs", Some(dirs));
    flags
}

#[test]
fn a_run_resumes_on_the_same_images_only() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, out) = (dir.path().join("images"), dir.path().join("run"));
    images(&folder, 5);
    start(&options(&out, on(&folder, 2))).unwrap();
    let resumed = Options {
        resume: true,
        ..options(&out, on(&folder, 3))
    };
    start(&resumed).unwrap();
    images(&folder, 6);
    let error = problem(&resumed);
    assert!(error.contains("images have changed"), "{error}");
}

#[test]
fn a_mistake_with_force_costs_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    start(&options(&out, small(2))).unwrap();
    let wrong = Options {
        force: true,
        ..options(&out, on(Path::new("/nowhere"), 2))
    };
    assert!(problem(&wrong).contains("/nowhere"));
    for name in [
        "best.safetensors",
        "checkpoint/state.safetensors",
        "log.jsonl",
    ] {
        assert!(out.join(name).exists(), "{name} is gone");
    }
}

#[test]
fn numbers_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    for (key, value, words) in [
        ("scales", toml::Value::from(vec!["1.333"]), "4/3"),
        ("batch_size", toml::Value::from(i64::MAX), "too large"),
        ("batch_size", toml::Value::from(0), "above 0"),
    ] {
        let mut flags = small(2);
        flags.set("train", key, Some(value));
        let error = problem(&options(&out, flags));
        assert!(error.contains(words), "{key}: {error}");
    }
}

/// Images for training, in a folder of that name.
fn draw_images(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for i in 0..4 {
        let mut image = Image::new(64, 64, 3);
        let values = image.data.iter_mut().enumerate();
        values.for_each(|(k, v)| *v = (k * (i + 3) % 251) as u8);
        image.save(folder.join(format!("{i}.png"))).unwrap();
    }
}

#[test]
fn relative_paths_of_a_resumed_run_count_from_where_it_began() {
    let dir = tempfile::tempdir().unwrap();
    draw_images(&dir.path().join("images"));
    let recipe = "[model]\nname = 'srcnn'\n\
                  config = { kernels = [5, 1, 3], widths = [4, 4], residual = true }\n\
                  [data]\ndirs = [{ path = 'images' }]\npatch = 16\nvalidation = 1\n\
                  [train]\nbatch_size = 2\n";
    std::fs::write(dir.path().join("recipe.toml"), recipe).unwrap();
    let train = |folder: &Path, arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_train"));
        command.current_dir(folder).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    train(
        dir.path(),
        &["--recipe", "recipe.toml", "--steps", "4", "--out", "run"],
    );
    let before = std::fs::read_to_string(dir.path().join("run/recipe.toml")).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let said = train(&elsewhere, &["--resume", "--steps", "6", "--out", "../run"]);
    assert!(said.contains("images (4 images x 1)"), "{said}");
    // The recipe, of which weights files hold the hash, still says what it said.
    let after = std::fs::read_to_string(dir.path().join("run/recipe.toml")).unwrap();
    assert_eq!(after, before.replace("steps = 4", "steps = 6"));
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = |resume| Options {
        resume,
        ..options(dir.path(), small(3))
    };
    start(&options(false)).unwrap();
    let held = srfilter::folder_lock::FolderLock::new(dir.path()).unwrap();
    let recipe = std::fs::read(dir.path().join("recipe.toml")).unwrap();
    let forced = Options {
        force: true,
        ..options(false)
    };
    for refused in [&options(true), &forced] {
        let error = problem(refused);
        assert!(error.contains("another run is writing to"), "{error}");
    }
    assert_eq!(
        std::fs::read(dir.path().join("recipe.toml")).unwrap(),
        recipe
    );
    drop(held);
    start(&options(true)).unwrap();
}

/// Training for 8-bit integers leaves the weights in f32 as they are, and writes those in
/// integers that the network computes with.
#[test]
fn training_for_integers_adds_them_to_the_initial_weights() {
    let dir = tempfile::tempdir().unwrap();
    let espcn = |steps: u32| {
        let mut flags = small(steps);
        let config = toml::from_str::<toml::Table>("width = 4\ndepth = 2").unwrap();
        flags
            .set("model", "name", Some("espcn"))
            .set("model", "config", Some(config))
            .set("train", "scales", Some(vec!["2", "3"]));
        flags
    };
    let (float, int8) = (dir.path().join("float"), dir.path().join("int8"));
    assert_eq!(
        start(&options(&float, espcn(30))).unwrap(),
        Outcome::Finished
    );
    let initial = float.join("last.safetensors");
    let mut flags = espcn(12);
    flags
        .set("model", "init", Some(initial.to_str().unwrap()))
        .set("train", "lr", Some(1e-4))
        .set("quantize", "batches", Some(4));
    assert_eq!(start(&options(&int8, flags)).unwrap(), Outcome::Finished);
    let file = Checkpoint::open(int8.join("last.safetensors")).unwrap();
    assert_eq!(
        bits(&file.floats()),
        bits(Checkpoint::open(&initial).unwrap().tensors())
    );
    let card = file.card().unwrap().unwrap();
    assert!(card.int8_loss.unwrap().abs() < 0.5, "{:?}", card.int8_loss);
    assert!(
        card.quality.contains("; in 8-bit integers: step 12"),
        "{}",
        card.quality
    );
    let contents = file.contents(&LoadOverrides::default()).unwrap();
    let layers: Vec<_> = contents.quantization.layers().keys().cloned().collect();
    assert_eq!(layers, ["body.0", "body.1", "first", "heads.2", "heads.3"]);
    // It starts from weights only, and needs layers as the file has them.
    let mut flags = espcn(12);
    flags.set("quantize", "batches", Some(4));
    let error = problem(&options(&dir.path().join("none"), flags));
    assert!(error.contains("needs the weights to start from"), "{error}");
}
