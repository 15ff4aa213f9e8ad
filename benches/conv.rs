//! Speed of convolutions, compared with candle's.

use candle_core::{Device, Result, Tensor, Var};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_main};
use srfilter::cpu_level::Level;
use srfilter::ops::{Activation, ConvSpec, conv2d_at};

/// Size of the kernel, input and output channels.
type Layer = (usize, usize, usize);

const LAYERS: [Layer; 5] = [
    (9, 1, 64),
    (5, 64, 32),
    (5, 32, 1),
    (3, 16, 16),
    (3, 64, 64),
];
const SRCNN: [Layer; 3] = [(9, 1, 64), (5, 64, 32), (5, 32, 1)];
const RELU: ConvSpec = ConvSpec {
    border: srfilter::ops::Border::Zero,
    stride: 1,
    dilation: 1,
    groups: 1,
    activation: Activation::Relu,
};

/// The implementation.
#[derive(Clone, Copy)]
enum Engine {
    Ours(Level),
    Candle,
}

impl Engine {
    fn all() -> Vec<(String, Self)> {
        let ours = Level::available().into_iter();
        let mut all: Vec<_> = ours
            .filter(|&level| level != Level::Plain)
            .map(|level| (level.to_string(), Self::Ours(level)))
            .collect();
        all.push(("candle".to_owned(), Self::Candle));
        all
    }

    fn conv(self, x: &Tensor, (w, b): &(Var, Var)) -> Result<Tensor> {
        match self {
            Self::Ours(level) => conv2d_at(level, x, w, Some(b), RELU),
            Self::Candle => {
                let pad = w.dim(2)? / 2;
                let bias = b.reshape((1, (), 1, 1))?;
                x.conv2d(w, pad, 1, 1, 1)?.broadcast_add(&bias)?.relu()
            }
        }
    }

    /// A forward and a backward pass.
    fn step(self, x: &Tensor, net: &[(Var, Var)]) -> Result<()> {
        let result = net
            .iter()
            .try_fold(x.clone(), |x, layer| self.conv(&x, layer))?;
        result.sqr()?.mean_all()?.backward()?;
        Ok(())
    }
}

fn layer((k, ci, co): Layer) -> Result<(Var, Var)> {
    let weights = Var::randn(0.0f32, 0.05, (co, ci, k, k), &Device::Cpu)?;
    Ok((
        weights,
        Var::zeros(co, candle_core::DType::F32, &Device::Cpu)?,
    ))
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    products: usize,
    run: impl Fn(Engine) -> Result<()>,
) {
    group.throughput(Throughput::Elements(products as u64));
    for (name, engine) in Engine::all() {
        group.bench_function(name, |bencher| bencher.iter(|| run(engine).expect("runs")));
    }
}

fn forward(criterion: &mut Criterion) {
    let (width, height) = (320, 180);
    for (k, ci, co) in LAYERS {
        let mut group = criterion.benchmark_group(format!("{k}x{k} {ci} to {co}"));
        let layer = layer((k, ci, co)).expect("allocates");
        let x =
            Tensor::randn(0.0f32, 1.0, (1, ci, height, width), &Device::Cpu).expect("allocates");
        measure(&mut group, width * height * k * k * ci * co, |engine| {
            engine.conv(&x, &layer).map(drop)
        });
    }
}

fn training(criterion: &mut Criterion) {
    let net: Vec<_> = SRCNN.map(|sizes| layer(sizes).expect("allocates")).into();
    for side in [33, 48] {
        let mut group = criterion.benchmark_group(format!("SRCNN step 16x{side}x{side}"));
        let x = Tensor::randn(0.0f32, 1.0, (16, 1, side, side), &Device::Cpu).expect("allocates");
        let weights: usize = SRCNN.iter().map(|(k, ci, co)| k * k * ci * co).sum();
        // MACs of the forward pass and the gradients of the weights, and of the
        // inputs for all layers but the first.
        let products = 3 * weights - 9 * 9 * 64;
        measure(&mut group, 16 * side * side * products, |engine| {
            engine.step(&x, &net)
        });
    }
}

// The macro makes a public function without a comment.
#[allow(missing_docs)]
mod benches {
    criterion::criterion_group!(benches, super::forward, super::training);
}
use benches::benches;
criterion_main!(benches);
