//! Helpers of several test files.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod playing;
pub mod reference;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use srfilter::Scale;
use srfilter::models::{Architecture, Channels, Scales, espcn, srcnn};
use srfilter::ops::Border;
use srfilter::weights::{Card, Checkpoint};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[allow(unused_imports)] // As above: not every test uses both.
pub use testing::{noise, shared};

/// A small SRCNN, whose output with noise weights still resembles the input.
pub fn small_srcnn(channels: Channels, border: Border) -> srcnn::Config {
    srcnn::Config {
        channels,
        kernels: [5, 1, 3],
        widths: [6, 4],
        border,
        residual: true,
    }
}

/// Noise weights for an architecture, scaled by the fan-in.
pub fn noise_weights(architecture: &Architecture, seed: u64) -> Vec<(String, Tensor)> {
    noise_weights_for(architecture, Scales::Any, seed)
}

/// Noise weights for some scales of an architecture.
pub fn noise_weights_for(
    architecture: &Architecture,
    scales: Scales,
    seed: u64,
) -> Vec<(String, Tensor)> {
    let spread = match architecture {
        Architecture::Srcnn(_) | Architecture::HyperSrcnn(_) => 0.8,
        // Deep networks: with less, each layer would attenuate the image.
        _ => 3.0,
    };
    let source = NoiseSource(Arc::new(Mutex::new(Noise {
        next: Box::new(noise(seed)),
        spread,
        tensors: Vec::new(),
    })));
    let vb = VarBuilder::from_backend(Box::new(source.clone()), DType::F32, Device::Cpu);
    architecture.build(&vb, scales).unwrap();
    std::mem::take(&mut source.0.lock().unwrap().tensors)
}

/// Creates the requested tensors from noise, and records them.
#[derive(Clone)]
struct NoiseSource(Arc<Mutex<Noise>>);

struct Noise {
    next: Box<dyn FnMut() -> f64 + Send>,
    spread: f64,
    tensors: Vec<(String, Tensor)>,
}

impl SimpleBackend for NoiseSource {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        _: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let Noise {
            next,
            spread,
            tensors,
        } = &mut *self.0.lock().unwrap();
        let count = shape.elem_count();
        let (fan_in, spread) = match shape.rank() {
            1 => (1, 0.8),
            _ => ((count / shape.dims()[0]).max(1), *spread),
        };
        // Variances are positive: the root of a negative one is NaN.
        let is_variance = name.ends_with("running_var");
        let value = |value: f64| if is_variance { value.abs() } else { value };
        let values: Vec<f32> = (0..count)
            .map(|_| value((next() - 0.5) * spread / (fan_in as f64).sqrt()) as f32)
            .collect();
        let tensor = Tensor::from_vec(values, shape, device)?;
        tensors.push((name.to_owned(), tensor.clone()));
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        panic!("{name} has no shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Writes a native weights file with noise.
pub fn save(path: &Path, architecture: Architecture, scales: Scales, seed: u64) {
    let tensors = noise_weights_for(&architecture, scales.clone(), seed);
    let card = Card {
        architecture,
        scales,
        training_data: "none: noise".to_owned(),
        recipe_sha256: String::new(),
        quality: "none".to_owned(),
        int8_loss: None,
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

/// An ESPCN in a file, for x2 and x3.
pub fn espcn_file(dir: &Path) -> PathBuf {
    let path = dir.join("espcn.safetensors");
    let config = espcn::Config {
        width: 6,
        ..espcn::Config::fast()
    };
    let scales = Scales::list([2, 3].map(Scale::whole));
    save(&path, Architecture::Espcn(config), scales, 3);
    path
}

/// A network with noise weights.
pub fn build(architecture: &Architecture, seed: u64) -> Box<dyn srfilter::models::Network> {
    let tensors = noise_weights(architecture, seed).into_iter().collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    architecture.build(&vb, Scales::Any).unwrap()
}
