//! Adversarial training: the order of updates, and resuming.

#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use srfilter::Scale;
use srfilter::models::Channels;
use srfilter_train::checkpoint::{NetworkState, State};
use srfilter_train::data::{BatchSampler, Dataset};
use srfilter_train::gan::{Adversary, unet};
use srfilter_train::loss::features::Features;
use srfilter_train::optim::Settings;
use srfilter_train::recipe::{Overrides, Recipe};
use srfilter_train::trainer::Trainer;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

const SRGAN: &str = "name = 'srgan'\nwidth = 4\nhidden = 8";
const UNET: &str = "name = 'unet'\nwidth = 4";

fn table(text: &str) -> toml::Table {
    toml::from_str(text).unwrap()
}

/// A small SRResNet at x2 with a discriminator.
fn flags(discriminator: &str) -> Overrides {
    let mut flags = Overrides::default();
    flags
        .set("model", "name", Some("srgan"))
        .set("model", "config", Some(table("width = 8\nblocks = 2")))
        .set("data", "drawn", Some(1))
        .set("data", "patch", Some(8))
        .set("data", "validation", Some(0))
        .set("train", "scales", Some(vec!["2"]))
        .set("train", "lr", Some(2e-3))
        .set("train", "warmup", Some(0))
        .set("train", "steps", Some(100))
        .set("adversarial", "weight", Some(0.01))
        .set("adversarial", "discriminator", Some(table(discriminator)));
    flags
}

fn begin(flags: &Overrides) -> (Recipe, Arc<Dataset>) {
    let recipe = Recipe::resolve(None, flags).unwrap();
    let mut dataset = Dataset::load(&recipe, Channels::Rgb).unwrap();
    dataset.train[0] = dataset.train[0].center(32);
    (recipe, Arc::new(dataset))
}

type Bits = BTreeMap<String, Vec<u32>>;

fn bits(tensors: &HashMap<String, Tensor>) -> Bits {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bits = |t: &Tensor| values(t).into_iter().map(f32::to_bits).collect();
    let named = tensors.iter();
    named.map(|(name, t)| (name.clone(), bits(t))).collect()
}

/// The trained parameters: no statistics, no vectors.
fn learnt(player: &NetworkState) -> Bits {
    let mut bits = bits(&player.parameters);
    bits.retain(|name, _| player.moments.contains_key(name));
    bits
}

#[test]
fn both_networks_resume_bit_for_bit() {
    for (discriminator, moved) in [
        (SRGAN, "conv_blocks.7.conv_block.1.running_mean"),
        (UNET, "conv8.weight_u"),
    ] {
        let mut flags = flags(discriminator);
        flags.set("train", "ema", Some(0.9));
        let (recipe, dataset) = begin(&flags);
        let train = |state: Option<State>, steps: usize| {
            let mut trainer = Trainer::new(&recipe, &dataset, state).unwrap();
            (0..steps).for_each(|_| assert!(trainer.step().unwrap().loss > 0.0));
            // A copy: the state shares the parameters' storage.
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.safetensors");
            trainer.state().unwrap().save(&path).unwrap();
            State::load(&path).unwrap()
        };
        let (before, straight) = (train(None, 4), train(None, 9));
        let resumed = train(Some(before.clone()), 5);
        for (a, b) in [
            (&resumed.generator, &straight.generator),
            (&resumed.discriminator, &straight.discriminator),
        ] {
            assert!(!a.parameters.is_empty());
            assert_eq!(bits(&a.parameters), bits(&b.parameters));
            assert_eq!(a.moments, b.moments);
        }
        assert_eq!(bits(&resumed.ema), bits(&straight.ema));
        let of = |state: &State| bits(&state.discriminator.parameters)[moved].clone();
        assert_ne!(of(&before), of(&straight), "{moved}");
        assert!(!straight.discriminator.moments.contains_key(moved));
    }
}

#[test]
fn the_generators_gradients_leave_the_discriminator_alone() {
    for discriminator in [SRGAN, UNET] {
        let (recipe, _) = begin(&flags(discriminator));
        let settings = Settings::default();
        let mut adversary = Adversary::new(&recipe, settings, None, &Device::Cpu)
            .unwrap()
            .unwrap();
        let image = |value: f32| {
            let noise = (0..2 * 3 * 16 * 16).map(|i| value + (i * 37 % 101) as f32 / 400.0);
            let tensor = Tensor::from_iter(noise, &Device::Cpu).unwrap();
            Var::from_tensor(&tensor.reshape((2, 3, 16, 16)).unwrap()).unwrap()
        };
        let (fake, real) = (image(0.1), image(0.6));
        let before = learnt(&adversary.state().unwrap());

        // The generator's loss: its gradient reaches the image, and nothing changes.
        let gradients = adversary.generator_loss(&fake).unwrap().backward().unwrap();
        let slope = gradients.get(&fake).unwrap().abs().unwrap();
        assert!(slope.sum_all().unwrap().to_scalar::<f32>().unwrap() > 0.0);
        assert_eq!(learnt(&adversary.state().unwrap()), before);

        // The discriminator's loss: it stops at the images, and every weight changes.
        let loss = adversary.discriminator_loss(&real, &fake).unwrap();
        let gradients = loss.backward().unwrap();
        assert!(gradients.get(&fake).is_none() && gradients.get(&real).is_none());
        adversary.step(&loss, 1e-3, |_| 1.0).unwrap();
        let after = learnt(&adversary.state().unwrap());
        assert!(after.iter().all(|(name, bits)| before[name] != *bits));
        assert!(after.keys().all(|name| !unet::is_vector(name)));
    }
}

/// The generator is updated first, and the discriminator on its output before that.
#[test]
fn the_discriminator_trains_on_the_images_of_the_same_step() {
    for discriminator in [SRGAN, UNET] {
        let (recipe, dataset) = begin(&flags(discriminator));
        let batch = BatchSampler::new(&recipe)
            .unwrap()
            .batch(&dataset.train, 0)
            .unwrap();
        let batch_size = recipe.train.batch_size;
        let tensor = |samples: &[f32], side: usize| {
            Tensor::from_slice(samples, (batch_size, 3, side, side), &Device::Cpu).unwrap()
        };
        let judged = |trainer: &Trainer| {
            let network = trainer.network().training_network(Scale::whole(2)).unwrap();
            let fake = network.forward(&tensor(&batch[0].input, 8)).unwrap();
            let settings = Settings::default();
            let adversary = Adversary::new(&recipe, settings, None, &Device::Cpu)
                .unwrap()
                .unwrap();
            // The vectors of its norms have been updated once by then.
            adversary.generator_loss(&fake).unwrap();
            let loss = adversary
                .discriminator_loss(&tensor(&batch[0].target, 16), &fake)
                .unwrap();
            f64::from(loss.to_scalar::<f32>().unwrap())
        };
        let fresh = Trainer::new(&recipe, &dataset, None).unwrap();
        let expected = judged(&fresh);
        let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
        let report = trainer.step().unwrap();
        assert_eq!(report.discriminator_loss, Some(expected));
        assert_ne!(judged(&trainer), expected);
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The generator overfits one tiny image.
#[test]
fn the_generator_learns_a_batch() {
    for discriminator in [SRGAN, UNET] {
        let (recipe, dataset) = begin(&flags(discriminator));
        let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
        let losses: Vec<f64> = (0..50).map(|_| trainer.step().unwrap().loss).collect();
        assert!(mean(&losses[45..]) < 0.7 * mean(&losses[..3]), "{losses:?}");
    }
}

/// The discriminator learns to tell, with a generator that hardly changes.
#[test]
fn the_discriminator_learns_a_batch() {
    for discriminator in [SRGAN, UNET] {
        let mut flags = flags(discriminator);
        flags
            // Too narrow for the image: its output is easily told.
            .set("model", "config", Some(table("width = 4\nblocks = 2")))
            .set("train", "lr", Some(1e-7))
            .set("train", "schedule", Some("constant"))
            .set("adversarial", "lr", Some(2e-3));
        let (recipe, dataset) = begin(&flags);
        let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
        let losses: Vec<f64> = (0..100)
            .map(|_| trainer.step().unwrap().discriminator_loss.unwrap())
            .collect();
        // Guessing costs 2 ln 2 = 1.386.
        assert!(mean(&losses[95..]) < 0.7, "{discriminator}: {losses:?}");
    }
}

/// A VGG so small that tests are quick, with a pooling in between.
fn small_vgg(path: &Path) {
    let layer = |(number, inputs, outputs): (usize, usize, usize)| {
        let count = inputs * outputs * 9;
        let noise = (0..count).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.6);
        let weight = Tensor::from_iter(noise, &Device::Cpu).unwrap();
        let weight = weight.reshape((outputs, inputs, 3, 3)).unwrap();
        let bias = Tensor::full(0.1f32, outputs, &Device::Cpu).unwrap();
        [("weight", weight), ("bias", bias)]
            .map(|(part, t)| (format!("features.{number}.{part}"), t))
    };
    let layers = [(0, 3, 4), (2, 4, 4), (5, 4, 6)].map(layer);
    let tensors: HashMap<String, Tensor> = layers.into_iter().flatten().collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[test]
fn features_alone_teach_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("vgg.safetensors");
    small_vgg(&weights);
    let mut flags = flags(UNET);
    flags
        .set("train", "loss_weight", Some(0))
        .set("perceptual", "weights", Some(weights.to_str().unwrap()))
        .set("perceptual", "distance", Some("l1"))
        .set(
            "perceptual",
            "layers",
            Some(table("conv1_1 = 0.5\nrelu2_1 = 1.0")),
        );
    let (recipe, dataset) = begin(&flags);
    let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    let losses: Vec<f64> = (0..50).map(|_| trainer.step().unwrap().loss).collect();
    assert!(mean(&losses[45..]) < 0.8 * mean(&losses[..3]), "{losses:?}");

    flags.set("perceptual", "layers", Some(table("relu5_4 = 1.0")));
    let (recipe, dataset) = begin(&flags);
    let error = format!("{:#}", Trainer::new(&recipe, &dataset, None).unwrap_err());
    let expected = "there is no layer relu5_4; known layers: conv1_1, relu1_1, conv1_2, relu1_2, pool1, \
                    conv2_1, relu2_1";
    assert!(
        error.contains(expected) && error.contains("vgg.safetensors"),
        "{error}"
    );
}

/// `grid_weight` and `shift` of a recipe reach the losses of both networks.
#[test]
fn grids_and_shifts_count() {
    let step = |key: Option<&str>, value: u32| {
        let mut flags = flags(UNET);
        if let Some(key) = key {
            flags.set("train", key, Some(value));
        }
        let (recipe, dataset) = begin(&flags);
        Trainer::new(&recipe, &dataset, None).unwrap().step()
    };
    let plain = step(None, 0).unwrap();
    assert!(step(Some("grid_weight"), 1000).unwrap().loss > plain.loss);
    let shifted = step(Some("shift"), 8).unwrap();
    assert_ne!(shifted.loss, plain.loss);
    assert_ne!(shifted.discriminator_loss, plain.discriminator_loss);
    let error = step(Some("shift"), 16).unwrap_err().to_string();
    assert!(
        error.contains("shift: 16 samples less than 16x16"),
        "{error}"
    );
}

/// SRGAN starts from the state of an SRResNet run, with its batch statistics.
#[test]
fn a_generator_starts_from_the_state_of_another_run() {
    let mut first = flags(SRGAN);
    first.set("model", "name", Some("srresnet"));
    let mut recipe = Recipe::resolve(None, &first).unwrap();
    recipe.adversarial = None;
    let (_, dataset) = begin(&first);
    let mut trainer = Trainer::new(&recipe, &dataset, None).unwrap();
    trainer.step().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    trainer.state().unwrap().save(&path).unwrap();
    let mut second = flags(SRGAN);
    second.set("model", "init", Some(path.to_str().unwrap()));
    let (recipe, dataset) = begin(&second);
    let begun = Trainer::new(&recipe, &dataset, None).unwrap();
    let [a, b] = [&trainer, &begun].map(|t| bits(&t.state().unwrap().generator.parameters));
    assert_eq!(a, b);
    assert!(
        begun
            .state()
            .unwrap()
            .discriminator
            .parameters
            .contains_key("fc2.weight")
    );
}

/// SqueezeNet's layers have the published sizes, and its features tell a
/// image from a flat one.
#[test]
fn squeezenet_gives_features() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/weights/SqueezeNet/squeezenet_v1.0_deepcompressed.safetensors");
    if !path.exists() {
        println!("skipped: {} does not exist", path.display());
        return;
    }
    let network = Features::open(&path, &Device::Cpu).unwrap();
    let noise = (0..3 * 64 * 64).map(|i| (i * 37 % 101) as f32 / 100.0);
    let image = Tensor::from_iter(noise, &Device::Cpu).unwrap();
    let image = image.reshape((1, 3, 64, 64)).unwrap();
    let flat = image.zeros_like().unwrap();
    let fake = |x: &Tensor| {
        let x = network.prepare(x).unwrap();
        network.forward(&x, ["conv1", "fire3", "fire9"]).unwrap()
    };
    let (ours, others) = (fake(&image), fake(&flat));
    for (name, shape) in [
        // 64 samples: 29 by 7x7 at every other one, then halved, rounded up.
        ("conv1", [1, 96, 29, 29]),
        ("fire3", [1, 128, 14, 14]),
        ("fire9", [1, 512, 3, 3]),
    ] {
        assert_eq!(ours[name].dims(), shape);
        let off = (&ours[name] - &others[name]).unwrap().abs().unwrap();
        assert!(off.mean_all().unwrap().to_scalar::<f32>().unwrap() > 0.0);
    }
}
