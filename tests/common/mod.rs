//! What several test files need.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use srfilter::Scale;
use srfilter::models::{Architecture, Channels, Scales, hypersrcnn, srcnn};
use srfilter::ops::Border;
use srfilter::weights::{Card, Checkpoint};
use std::path::{Path, PathBuf};

/// The folder with images, clips and published weights, where there is one.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// Numbers in [0, 1) that look random and never change (SplitMix64).
pub fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66D;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A small SRCNN whose weights are noise that keeps pictures recognisable.
pub fn small_srcnn(channels: Channels, border: Border) -> srcnn::Config {
    srcnn::Config {
        channels,
        kernels: [5, 1, 3],
        widths: [6, 4],
        border,
        residual: true,
    }
}

/// Weights for an architecture: noise of a size that suits its fan-in.
pub fn noise_weights(architecture: &Architecture, seed: u64) -> Vec<(String, Tensor)> {
    let shapes = match architecture {
        Architecture::Srcnn(config) => srcnn_shapes(config),
        Architecture::HyperSrcnn(config) => hyper_shapes(config),
    };
    let mut next = noise(seed);
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let fan_in = (count / shape[0]).max(1) as f64;
            let values: Vec<f32> = (0..count)
                .map(|_| ((next() - 0.5) * 0.8 / fan_in.sqrt()) as f32)
                .collect();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            (name, tensor)
        })
        .collect()
}

fn srcnn_shapes(config: &srcnn::Config) -> Vec<(String, Vec<usize>)> {
    let shapes = config.weight_shapes();
    (0..3)
        .flat_map(|i| {
            let name = format!("conv{}", i + 1);
            [
                (format!("{name}.weight"), shapes[i].to_vec()),
                (format!("{name}.bias"), vec![shapes[i][0]]),
            ]
        })
        .collect()
}

fn hyper_shapes(config: &hypersrcnn::Config) -> Vec<(String, Vec<usize>)> {
    let [first, second] = config.hidden;
    let mut shapes = vec![
        ("hidden1.weight".to_owned(), vec![first, 1]),
        ("hidden1.bias".to_owned(), vec![first]),
        ("hidden2.weight".to_owned(), vec![second, first]),
        ("hidden2.bias".to_owned(), vec![second]),
    ];
    for (name, shape) in srcnn_shapes(&config.target) {
        let head = format!("weight_generators.{}", name.replace('.', "_"));
        let count = shape.iter().product();
        shapes.push((format!("{head}.weight"), vec![count, second]));
        shapes.push((format!("{head}.bias"), vec![count]));
    }
    shapes
}

/// Writes a weights file of ours.
pub fn save(path: &Path, architecture: Architecture, scales: Scales, seed: u64) {
    let tensors = noise_weights(&architecture, seed);
    let card = Card {
        architecture,
        scales,
        training_data: "none: noise".to_owned(),
        recipe_sha256: String::new(),
        quality: "none".to_owned(),
    };
    Checkpoint::save(path, &tensors, &card).unwrap();
}

/// A small SRCNN in a file, for x2 and x3.
pub fn small_file(dir: &Path, channels: Channels, border: Border) -> PathBuf {
    let path = dir.join(format!("{channels}-{border:?}.safetensors"));
    let config = small_srcnn(channels, border);
    let scales = Scales::list([2, 3].map(Scale::whole));
    save(&path, Architecture::Srcnn(config), scales, 7);
    path
}

/// The network of a file's tensors, for tests that look inside.
pub fn build(architecture: &Architecture, seed: u64) -> Box<dyn srfilter::models::Network> {
    let tensors = noise_weights(architecture, seed).into_iter().collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    architecture.build(&vb, Scales::Any).unwrap()
}
