//! Training steps against PyTorch's: the vectors of `train_srcnn_y` and the
//! like in the folder of reference vectors (`SRFILTER_GOLDEN`, else
//! `../shared/golden` beside the repository).

#![allow(clippy::unwrap_used)]

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::models::{Architecture, Network, Scales, drct, hdsrnet, hypersrcnn, srcnn, srresnet};
use srfilter::nn::BatchNorm;
use srfilter::weights::Checkpoint;
use srfilter_train::optim::{Descent, Settings};
use srfilter_train::params::{Store, Vars};
use srfilter_train::recipe::Loss;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Increment of the reference's random numbers, and its seed's factor.
const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// At most that many elements of a parameter are stored.
const STORED: usize = 64;

/// The folder, or `None` where it is not expected to exist.
fn folder() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("SRFILTER_GOLDEN") {
        // Tests run in their package's folder: relative to the repository, as elsewhere.
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(given);
        assert!(
            given.is_dir(),
            "SRFILTER_GOLDEN={} is no folder",
            given.display()
        );
        return Some(given);
    }
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden");
    if usual.is_dir() {
        return Some(usual);
    }
    println!("skipped: {} does not exist", usual.display());
    None
}

/// The seed of the vectors in a file, from its metadata.
fn seed(folder: &Path, model: &str) -> u64 {
    let file = Checkpoint::open(folder.join(format!("{model}.safetensors"))).unwrap();
    file.metadata()["seed"].parse().unwrap()
}

/// The stream of numbers of a name: elements in 0 to 1 (README, section 2).
fn uniform(name: &str, seed: u64) -> impl Iterator<Item = f64> {
    let mut state = srfilter_train::fnv(name) ^ seed.wrapping_mul(GOLDEN_RATIO);
    std::iter::repeat_with(move || {
        state = state.wrapping_add(GOLDEN_RATIO);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1u32 << 24)
    })
}

fn tensor(name: &str, shape: &[usize], offset: f64, amplitude: f64, seed: u64) -> Tensor {
    let values = uniform(name, seed).map(|u| (offset + amplitude * (2.0 * u - 1.0)) as f32);
    let values: Vec<f32> = values.take(shape.iter().product()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn input(name: &str, shape: &[usize], seed: u64) -> Tensor {
    tensor(name, shape, 0.5, 0.5, seed)
}

/// Every parameter of `<model>.params.txt`, checked against its sum.
fn parameters(folder: &Path, model: &str, seed: u64) -> HashMap<String, Tensor> {
    let text = std::fs::read_to_string(folder.join(format!("{model}.params.txt"))).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        // What the networks know by themselves.
        .filter(|line| !line.contains(" coded "));
    let parameter = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let shape: Vec<usize> = fields[1].split('x').map(|n| n.parse().unwrap()).collect();
        let [offset, amplitude, sum] = [3, 4, 5].map(|i| fields[i].parse::<f64>().unwrap());
        let tensor = tensor(fields[0], &shape, offset, amplitude, seed);
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        let got: f64 = values.iter().copied().map(f64::from).sum();
        assert!(
            (got - sum).abs() <= 1e-6 * (1.0 + sum.abs()),
            "{line}: sum {got}"
        );
        (fields[0].to_owned(), tensor)
    };
    lines.map(parameter).collect()
}

/// The vectors of a file and how many were compared.
struct Reference {
    model: &'static str,
    tensors: HashMap<String, Tensor>,
    tolerances: HashMap<String, f64>,
    checked: usize,
}

impl Reference {
    fn open(folder: &Path, model: &'static str) -> Self {
        let path = folder.join(format!("{model}.safetensors"));
        let tolerances = std::fs::read_to_string(folder.join("tolerances.txt")).unwrap();
        let lines = tolerances
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>());
        let ours = lines.filter(|fields| fields.first() == Some(&model));
        Self {
            model,
            tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap(),
            tolerances: ours
                .map(|f| (f[1].to_owned(), f[4].parse().unwrap()))
                .collect(),
            checked: 0,
        }
    }

    fn check(&mut self, name: &str, got: &[f32]) {
        let stored: Vec<f32> = self.tensors[name].to_vec1().unwrap();
        assert_eq!(stored.len(), got.len(), "{name}");
        let atol = self.tolerances[name];
        for (i, (got, stored)) in got.iter().zip(stored).enumerate() {
            let difference = f64::from(got - stored).abs();
            assert!(
                difference <= atol,
                "{name}[{i}]: {got} for {stored}, allowed {atol}"
            );
        }
        self.checked += 1;
    }

    /// Checks every stored tensor whose name is `prefix` and a parameter's.
    fn check_all(&mut self, prefix: &str, value: impl Fn(&str) -> Tensor) {
        let names: Vec<String> = self.tensors.keys().cloned().collect();
        for name in names {
            if let Some(parameter) = name.strip_prefix(prefix) {
                self.check(&name, &some_of(&value(parameter)));
            }
        }
    }

    fn finish(self) {
        assert_eq!(
            self.checked,
            self.tensors.len(),
            "tensors that nothing was compared with"
        );
        println!("{}: {} tensors checked", self.model, self.checked);
    }
}

/// The stored elements of a parameter: every k-th, at most 64.
fn some_of(tensor: &Tensor) -> Vec<f32> {
    let all: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    let every = (all.len() / STORED).max(1);
    all.into_iter().step_by(every).take(STORED).collect()
}

/// How the steps of a file are taken.
struct Steps {
    lr: f64,
    settings: Settings,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            lr: 1e-4,
            settings: Settings::default(),
        }
    }
}

/// Takes the steps of a file and compares losses, first gradients and results.
fn train(mut reference: Reference, vars: &Vars, loss: impl Fn() -> Tensor) {
    train_by(&Steps::default(), &mut reference, vars, loss);
    reference.finish();
}

fn train_by(how: &Steps, reference: &mut Reference, vars: &Vars, loss: impl Fn() -> Tensor) {
    let mut learnt = vars.clone();
    learnt.retain(|name, _| !BatchNorm::is_statistic(name));
    let mut descent = Descent::new(&learnt, how.settings, &BTreeMap::new());
    let steps = reference.tensors["losses"].elem_count() - 1;
    let mut losses = Vec::new();
    for step in 0..steps {
        let value = loss();
        losses.push(value.to_scalar::<f32>().unwrap());
        let gradients: GradStore = value.backward().unwrap();
        if step == 0 {
            reference.check_all("grad0.", |name| gradients.get(&vars[name]).unwrap().clone());
        }
        descent.step(&gradients, how.lr, 1.0).unwrap();
    }
    losses.push(loss().to_scalar::<f32>().unwrap());
    reference.check("losses", &losses);
    reference.check_all("after.", |name| vars[name].as_tensor().clone());
}

fn build(
    folder: &Path,
    model: &str,
    architecture: &Architecture,
    scales: Scales,
    seed: u64,
) -> (Box<dyn Network>, Vars) {
    let store = Store::given(model, parameters(folder, model, seed));
    let network = architecture.build(&store.builder(), scales).unwrap();
    (network, store.vars().unwrap())
}

#[test]
fn golden_train_srcnn_y() {
    let Some(folder) = folder() else { return };
    let seed = seed(&folder, "train_srcnn_y");
    let architecture = Architecture::Srcnn(srcnn::Config::default());
    let (network, vars) = build(&folder, "srcnn_y", &architecture, Scales::Any, seed);
    let [x, target] = ["input", "target"].map(|name| input(name, &[4, 1, 33, 33], seed));
    let network = network.at(Scale::whole(2)).unwrap();
    let loss = || {
        Loss::Mse
            .of(&network.forward(&x).unwrap(), &target)
            .unwrap()
    };
    train(Reference::open(&folder, "train_srcnn_y"), &vars, loss);
}

#[test]
fn golden_train_hypersrcnn() {
    let Some(folder) = folder() else { return };
    let seed = seed(&folder, "train_hypersrcnn");
    let architecture = Architecture::HyperSrcnn(hypersrcnn::Config::seed());
    let (network, vars) = build(&folder, "hypersrcnn", &architecture, Scales::Any, seed);
    let loss = || {
        let losses = [2, 4, 8, 16].map(|scale| {
            let data = |name: &str| input(&format!("{name}_x{scale}"), &[2, 3, 16, 16], seed);
            let network = network.at(Scale::whole(scale)).unwrap();
            let output = network.forward(&data("input")).unwrap();
            Loss::Mse.of(&output, &data("target")).unwrap()
        });
        losses.into_iter().reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    train(Reference::open(&folder, "train_hypersrcnn"), &vars, loss);
}

/// Mean and standard deviation of R, G and B by which SRResNets normalise.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

#[test]
fn golden_train_srresnet_x4() {
    let Some(folder) = folder() else { return };
    let seed = seed(&folder, "train_srresnet_x4");
    let architecture = Architecture::SrResNet(srresnet::Config::default());
    let scale = Scale::whole(4);
    let scales = Scales::list([scale]);
    let (network, vars) = build(&folder, "srresnet_x4", &architecture, scales, seed);
    let [mean, spread] = IMAGENET.map(|values| {
        let plane = Tensor::new(&values, &Device::Cpu).unwrap();
        plane.reshape((1, 3, 1, 1)).unwrap()
    });
    // The vectors are of normalised pictures in, and of results from -1 to 1.
    let x = input("input", &[2, 3, 8, 8], seed);
    let x = x.broadcast_mul(&spread).unwrap();
    let x = x.broadcast_add(&mean).unwrap();
    let target = tensor("target", &[2, 3, 32, 32], 0.0, 1.0, seed);
    let network = network.in_training(scale).unwrap();
    let loss = || {
        let y = ((network.forward(&x).unwrap() * 2.0).unwrap() - 1.0).unwrap();
        Loss::Mse.of(&y, &target).unwrap()
    };
    train(Reference::open(&folder, "train_srresnet_x4"), &vars, loss);
}

#[test]
fn golden_train_hdsrnet_x2() {
    let Some(folder) = folder() else { return };
    let seed = seed(&folder, "train_hdsrnet_x2");
    let architecture = Architecture::HdsrNet(hdsrnet::Config::default());
    let scale = Scale::whole(2);
    let scales = Scales::list([scale]);
    // What is frozen is no part of ours, and was left out with what is coded.
    let (network, vars) = build(&folder, "hdsrnet_x2", &architecture, scales, seed);
    let x = input("input", &[2, 3, 12, 12], seed);
    let target = tensor("target", &[2, 3, 24, 24], 127.5, 127.5, seed);
    let network = network.in_training(scale).unwrap();
    let loss = || {
        let y = (network.forward(&x).unwrap() * 255.0).unwrap();
        Loss::L1.of(&y, &target).unwrap()
    };
    let how = Steps {
        lr: 1e-4,
        settings: Settings {
            clip_value: Some(10.0),
            ..Settings::default()
        },
    };
    let mut reference = Reference::open(&folder, "train_hdsrnet_x2");
    train_by(&how, &mut reference, &vars, loss);
    reference.finish();
}

#[test]
fn golden_train_drct_small_x2() {
    let Some(folder) = folder() else { return };
    let seed = seed(&folder, "train_drct_small_x2");
    let architecture = Architecture::Drct(drct::Config {
        width: 36,
        groups: 2,
        heads: 6,
        window: 8,
        growth: 8,
        mlp_ratio: 2,
    });
    let scale = Scale::whole(2);
    let scales = Scales::list([scale]);
    let (network, vars) = build(&folder, "drct_small_x2", &architecture, scales, seed);
    let x = input("input", &[2, 3, 16, 16], seed);
    let target = input("target", &[2, 3, 32, 32], seed);
    let network = network.in_training(scale).unwrap();
    let loss = || Loss::L1.of(&network.forward(&x).unwrap(), &target).unwrap();
    let how = Steps {
        lr: 2e-4,
        settings: Settings {
            betas: [0.9, 0.99],
            ..Settings::default()
        },
    };
    let mut reference = Reference::open(&folder, "train_drct_small_x2");
    train_by(&how, &mut reference, &vars, loss);
    reference.finish();
}
