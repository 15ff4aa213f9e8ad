//! Gradients that candle lacks or gets wrong, against finite differences. Those
//! of pooling and resampling are tested in the library.

#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use srfilter::nn::LayerNorm;
use srfilter_train::gan::unet;
use srfilter_train::params::{ParamStore, Vars};

/// Small, so that few leaky ReLUs change sides within it.
const STEP: f32 = 1.0 / 4096.0;

fn noise(count: usize) -> Vec<f32> {
    let noise = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.5;
    (0..count).map(noise).collect()
}

/// Compares gradients of some elements of every variable with finite differences.
fn check(vars: &Vars, within: f64, loss: impl Fn() -> Tensor) {
    let gradients = loss().backward().unwrap();
    let value = || f64::from(loss().to_scalar::<f32>().unwrap());
    for (name, var) in vars {
        let gradient = gradients.get(var).unwrap().flatten_all().unwrap();
        let gradient = gradient.to_vec1::<f32>().unwrap();
        let start = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let set = |i: usize, by: f32| {
            let mut moved = start.clone();
            moved[i] += by;
            let moved = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
            var.set(&moved).unwrap();
            value()
        };
        for i in (0..start.len()).step_by(start.len().div_ceil(8)) {
            let expected = (set(i, STEP) - set(i, -STEP)) / f64::from(2.0 * STEP);
            set(i, 0.0);
            let got = f64::from(gradient[i]);
            let off = (got - expected).abs();
            assert!(
                off < within * (1.0 + expected.abs()),
                "{name}[{i}]: {got} for {expected}"
            );
        }
    }
}

#[test]
fn layer_norms_have_gradients() {
    let store = ParamStore::random(1);
    let norm = LayerNorm::new(&store.builder(), 6).unwrap();
    let mut vars = store.vars().unwrap();
    let x = Tensor::from_vec(noise(48), (2, 4, 6), &Device::Cpu).unwrap();
    let x = Var::from_tensor(&(x * 2.0).unwrap()).unwrap();
    vars.insert("x".to_owned(), x.clone());
    assert_eq!(vars.len(), 3);
    let weights = Tensor::from_vec(noise(48), (2, 4, 6), &Device::Cpu).unwrap();
    check(&vars, 5e-3, || {
        let result = norm.forward(&x).unwrap();
        (result * &weights).unwrap().sum_all().unwrap()
    });
}

/// With constant vectors, as in inference, the norm depends on the weights, and so
/// does its gradient.
#[test]
fn spectral_norms_have_gradients() {
    let store = ParamStore::random(1);
    let config = unet::Config { width: 2 };
    let network = unet::Discriminator::new(&store.builder(), &config).unwrap();
    let x = Tensor::from_vec(noise(3 * 64), (1, 3, 8, 8), &Device::Cpu).unwrap();
    // Unit vectors near the right ones.
    (0..20).for_each(|_| drop(network.forward(&x, true).unwrap()));
    let mut vars = store.vars().unwrap();
    vars.retain(|name, _| !unet::is_vector(name));
    let weights = Tensor::from_vec(noise(64), (1, 1, 8, 8), &Device::Cpu).unwrap();
    check(&vars, 0.02, || {
        let result = network.forward(&x, false).unwrap();
        (result * &weights).unwrap().sum_all().unwrap()
    });
}
