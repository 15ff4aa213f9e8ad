//! Training has the same bits at every level of the CPU and for any number of
//! threads: losses, gradients and parameters of every network, of the
//! discriminators, and under every loss.

#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::cpu_level::{LEVEL_VARIABLE, Level};
use srfilter::models::{
    Architecture, Scales, compact, drct, espcn, hdsrnet, hypersrcnn, lapan, srcnn, srresnet,
};
use srfilter::nn::BatchNorm;
use srfilter::ops::backward;
use srfilter_train::gan::{cross_entropy, srgan, unet};
use srfilter_train::optim::{Optimizer, Settings};
use srfilter_train::params::{ParamStore, Vars};
use srfilter_train::recipe::{Loss, OptimizerKind};
use std::collections::BTreeMap;
use std::process::Command;

/// Set in the child processes.
const CHILD: &str = "SRFILTER_TRAINING_STEPS";

/// Prefix of each line that a child prints.
const MARK: &str = "bits:";

/// Images (N, channels, side, side) of numbers from 0 to 1.
fn noise(seed: usize, channels: usize, side: usize) -> Tensor {
    let shape = (2, channels, side, side);
    let values = (0..2 * channels * side * side)
        .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0);
    Tensor::from_iter(values, &Device::Cpu)
        .unwrap()
        .reshape(shape)
        .unwrap()
}

/// A hash of the bits of all elements (FNV-1a).
fn hash<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> u64 {
    let values = tensors.into_iter().flat_map(|tensor| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits)
    });
    values.fold(0xcbf2_9ce4_8422_2325, |hash, bits| {
        (hash ^ u64::from(bits)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Runs two steps and prints the bits of losses, gradients and parameters.
fn train(name: &str, vars: &Vars, kind: OptimizerKind, loss: impl Fn() -> Tensor) {
    let mut learnt = vars.clone();
    learnt.retain(|name, _| !BatchNorm::is_statistic(name) && !unet::is_vector(name));
    let settings = Settings {
        kind,
        weight_decay: 0.01,
        ..Settings::default()
    };
    let mut optimizer = Optimizer::new(&learnt, settings, &BTreeMap::new()).unwrap();
    for step in 0..2 {
        let loss = loss();
        let gradients = backward(&loss).unwrap();
        let gradient = |var| gradients.get(var).cloned();
        let gradient: Vec<_> = learnt.values().filter_map(|var| gradient(var)).collect();
        assert!(!gradient.is_empty(), "{name} has no gradients");
        println!(
            "{MARK} {name} step {step}: loss {:08x} gradients {:016x}",
            hash([&loss]),
            hash(&gradient),
        );
        optimizer.step(&gradients, 1e-3, 1.0).unwrap();
    }
    let parameters = vars.values().map(|var| var.as_tensor());
    println!("{MARK} {name} parameters {:016x}", hash(parameters));
}

/// Every architecture, as small as tests allow.
fn architectures() -> Vec<Architecture> {
    let drct = drct::Config {
        width: 36,
        groups: 1,
        heads: 6,
        window: 8,
        growth: 8,
        mlp_ratio: 2,
    };
    vec![
        Architecture::Srcnn(srcnn::Config::default()),
        Architecture::HyperSrcnn(hypersrcnn::Config::default()),
        Architecture::HyperSrcnn(hypersrcnn::Config::seed()),
        Architecture::Espcn(espcn::Config::default()),
        Architecture::Espcn(espcn::Config {
            reparam: true,
            ..espcn::Config::fast()
        }),
        Architecture::SrResNet(srresnet::Config {
            blocks: 2,
            ..srresnet::Config::default()
        }),
        Architecture::Compact(compact::Config {
            depth: 3,
            ..compact::Config::default()
        }),
        Architecture::HdsrNet(hdsrnet::Config { width: 16 }),
        Architecture::Lapan(lapan::Config {
            width: 16,
            ..lapan::Config::default()
        }),
        Architecture::Drct(drct),
    ]
}

fn train_networks() {
    use Loss::{Charbonnier, Dssim, L1, Mse, Psnr};
    let losses = [Mse, L1, Charbonnier, Dssim, Psnr];
    let rules = [
        OptimizerKind::Adam,
        OptimizerKind::AdamW,
        OptimizerKind::Sgd,
        OptimizerKind::Muon,
    ];
    let scale = Scale::whole(2);
    for (i, architecture) in architectures().into_iter().enumerate() {
        let scales = architecture.scales().unwrap_or(Scales::list([scale]));
        let store = ParamStore::random(i as u32 + 1);
        let network = architecture.build(&store.builder(), scales).unwrap();
        let vars = store.vars().unwrap();
        let network = network.training_network(scale).unwrap();
        let channels = architecture.channels().count();
        let x = noise(1, channels, 16);
        let size = network.forward(&x).unwrap().dim(3).unwrap();
        let target = noise(2, channels, size);
        let loss = losses[i % losses.len()];
        let name = format!("{i} {}", architecture.name());
        train(&name, &vars, rules[i % rules.len()], || {
            loss.of(&network.forward(&x).unwrap(), &target).unwrap()
        });
    }
}

fn train_discriminators() {
    let config = srgan::Config {
        width: 8,
        hidden: 16,
        ..srgan::Config::default()
    };
    let (store, x) = (ParamStore::random(1), noise(3, 3, 96));
    let network = srgan::Discriminator::new(&store.builder(), &config).unwrap();
    train("srgan", &store.vars().unwrap(), OptimizerKind::Adam, || {
        cross_entropy(&network.forward(&x, true).unwrap(), true).unwrap()
    });
    let (store, x) = (ParamStore::random(2), noise(4, 3, 32));
    let config = unet::Config { width: 8 };
    let network = unet::Discriminator::new(&store.builder(), &config).unwrap();
    train("unet", &store.vars().unwrap(), OptimizerKind::Adam, || {
        cross_entropy(&network.forward(&x, true).unwrap(), false).unwrap()
    });
}

/// The output of a process at this level with this number of threads.
fn bits(level: Level, threads: usize) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "training_has_the_same_bits_everywhere"])
        .arg("--nocapture")
        .env(CHILD, "1")
        .env(LEVEL_VARIABLE, level.name())
        .env("RAYON_NUM_THREADS", threads.to_string())
        .output()
        .unwrap();
    let [printed, errors] = [&output.stdout, &output.stderr].map(|t| String::from_utf8_lossy(t));
    assert!(output.status.success(), "{level}: {errors}");
    let lines = printed.lines().filter(|line| line.contains(MARK));
    lines.map(str::to_owned).collect()
}

#[test]
fn training_has_the_same_bits_everywhere() {
    if std::env::var_os(CHILD).is_some() {
        train_networks();
        train_discriminators();
        return;
    }
    let first = bits(Level::Plain, 1);
    assert_eq!(first.len(), 3 * (architectures().len() + 2), "{first:#?}");
    for level in Level::available() {
        for threads in [1, 2] {
            if (level, threads) == (Level::Plain, 1) {
                continue;
            }
            let others = bits(level, threads);
            for (first, other) in first.iter().zip(&others) {
                assert_eq!(other, first, "{level}, {threads} threads");
            }
            assert_eq!(others.len(), first.len());
        }
    }
}
