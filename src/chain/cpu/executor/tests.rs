use super::*;
use crate::chain::{ChainLayer, Epilogue};
use crate::cpu_level::Level;
use crate::nn::Conv;
use crate::ops::{Activation, Border, ConvSpec};
use candle_core::{Device, Tensor};

pub(super) fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

pub(super) fn tensor(seed: u64, shape: &[usize], scale: f32) -> Tensor {
    let count = shape.iter().product();
    let values: Vec<f32> = noise(seed).take(count).map(|v| v * scale).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A layer from `inputs` to `outputs` channels by a kernel of that side.
pub(super) fn link(
    inputs: usize,
    outputs: usize,
    side: usize,
    border: Border,
    activation: Activation,
) -> ChainLayer {
    let seed = (inputs * 1000 + outputs * 10 + side) as u64;
    // Keeps the size of values from layer to layer.
    let scale = (3.0 / (inputs * side * side) as f32).sqrt();
    ChainLayer::from(Conv {
        weight: tensor(seed, &[outputs, inputs, side, side], scale),
        bias: Some(tensor(seed + 1, &[outputs], 0.1)),
        spec: ConvSpec {
            border,
            activation,
            ..ConvSpec::default()
        },
    })
}

/// The output for a synthetic image, and the largest error allowed.
fn run(network: &Chain, size: (usize, usize), options: &ChainOptions) -> Vec<f32> {
    let mut executor = ChainExecutor::new(network, size, options).unwrap().unwrap();
    let planes = executor.packed.planes;
    let input = picture(planes, size);
    let inputs: Vec<&[f32]> = input.chunks_exact(size.0 * size.1).collect();
    let (ow, oh) = executor.output_size();
    let mut output = vec![f32::NAN; executor.packed.outputs * ow * oh];
    for _ in 0..2 {
        // The second run begins with what the first left in the memory.
        output.fill(f32::NAN);
        let mut outputs: Vec<&mut [f32]> = output.chunks_exact_mut(ow * oh).collect();
        executor.run(&inputs, &mut outputs).unwrap();
    }
    output
}

fn picture(planes: usize, (w, h): (usize, usize)) -> Vec<f32> {
    noise(7)
        .take(planes * w * h)
        .map(|v| 0.5 + 0.5 * v)
        .collect()
}

fn reference(network: &Chain, size: (usize, usize)) -> Vec<f32> {
    let planes = network.layers[0].conv.weight.dim(1).unwrap();
    reference_of(network, size, picture(planes, size))
}

fn reference_of(network: &Chain, (w, h): (usize, usize), input: Vec<f32>) -> Vec<f32> {
    let planes = network.layers[0].conv.weight.dim(1).unwrap();
    let mut x = Tensor::from_vec(input, (1, planes, h, w), &Device::Cpu).unwrap();
    if network.layers[0].conv.spec.border == Border::Valid {
        let halo = network
            .layers
            .iter()
            .map(|l| l.conv.weight.dim(2).unwrap() / 2)
            .sum();
        x = x
            .pad_with_same(2, halo, halo)
            .unwrap()
            .pad_with_same(3, halo, halo)
            .unwrap();
    }
    let y = network.forward(&x).unwrap();
    y.flatten_all().unwrap().to_vec1().unwrap()
}

/// Chains of every kind that the family has, and the most error of each.
fn chains() -> Vec<(&'static str, Chain)> {
    use Activation::{None as Linear, Relu};
    use Border::{Replicate, Valid, Zero};
    let srcnn = |planes: usize, middle: usize, border| Chain {
        layers: vec![
            link(planes, 64, 9, border, Relu),
            link(64, 32, middle, border, Relu),
            link(32, planes, 5, border, Linear),
        ],
        ..Chain::default()
    };
    let residual = Chain {
        input_mean: 0.5,
        epilogue: Epilogue {
            residual_bicubic: true,
            ..Epilogue::default()
        },
        ..srcnn(1, 5, Replicate)
    };
    let prelu = |mut link: ChainLayer, slopes: usize| {
        link.slope = Some(tensor(3, &[slopes], 0.3));
        link
    };
    let skip = |mut link: ChainLayer, boundary: usize| {
        link.skip = Some(boundary);
        link
    };
    let shuffle = |mut link: ChainLayer, factor: usize| {
        link.shuffle = factor;
        link
    };
    let same = |inputs, outputs, side| link(inputs, outputs, side, Zero, Linear);
    let tower = Chain {
        layers: vec![
            prelu(same(3, 64, 9), 1),
            prelu(same(64, 64, 3), 1),
            skip(same(64, 64, 3), 1),
            prelu(same(64, 64, 3), 1),
            skip(same(64, 64, 3), 3),
            skip(same(64, 64, 3), 1),
            prelu(shuffle(same(64, 256, 3), 2), 1),
            prelu(shuffle(same(64, 256, 3), 2), 256),
            same(64, 3, 9),
        ],
        input_affine: vec![(4.4, -2.1), (4.5, -2.0), (4.3, -1.8)],
        epilogue: Epilogue {
            tanh: true,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    // Divided into segments: its rings leave the cache.
    let deep = Chain {
        layers: (0..9)
            .map(|i| match i {
                0 => prelu(same(3, 64, 3), 64),
                8 => shuffle(same(64, 12, 3), 2),
                _ => prelu(same(64, 64, 3), 64),
            })
            .collect(),
        ..Chain::default()
    };
    let luma = Chain {
        layers: vec![
            link(1, 32, 5, Replicate, Relu),
            link(32, 1, 3, Replicate, Linear),
        ],
        ..Chain::default()
    };
    let narrow = Chain {
        layers: vec![
            link(1, 16, 5, Zero, Relu),
            link(16, 16, 3, Zero, Relu),
            link(16, 16, 3, Zero, Relu),
            shuffle(link(16, 9, 3, Zero, Linear), 3),
        ],
        ..Chain::default()
    };
    // Half groups of channels, next to whole ones.
    let eight = Chain {
        layers: vec![
            prelu(same(1, 8, 3), 8),
            link(8, 8, 3, Zero, Relu),
            skip(same(8, 8, 3), 1),
            link(8, 6, 5, Zero, Relu),
            link(6, 24, 3, Zero, Relu),
            link(24, 8, 1, Zero, Relu),
            prelu(shuffle(same(8, 28, 3), 2), 28),
            same(7, 2, 3),
        ],
        ..Chain::default()
    };
    let eight_to_luma = |side: usize| Chain {
        layers: vec![
            link(3, 8, 5, Replicate, Relu),
            link(8, 8, 3, Replicate, Relu),
            link(8, 1, side, Replicate, Linear),
        ],
        ..Chain::default()
    };
    let eight_doubling = Chain {
        layers: vec![
            link(1, 8, 3, Zero, Relu),
            link(8, 8, 3, Zero, Relu),
            shuffle(link(8, 4, 1, Zero, Linear), 2),
        ],
        ..Chain::default()
    };
    let doubling = Chain {
        layers: vec![
            link(1, 16, 5, Zero, Relu),
            shuffle(link(16, 4, 3, Zero, Linear), 2),
        ],
        input_mean: 0.5,
        epilogue: Epilogue {
            residual_bicubic: false,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    let compact = Chain {
        layers: vec![
            prelu(same(3, 32, 3), 32),
            prelu(same(32, 32, 3), 32),
            shuffle(same(32, 12, 3), 2),
        ],
        epilogue: Epilogue {
            residual_nearest: true,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    let odd = Chain {
        layers: vec![
            link(3, 20, 7, Replicate, Relu),
            link(20, 12, 3, Replicate, Relu),
            link(12, 40, 5, Replicate, Relu),
            link(40, 16, 5, Replicate, Relu),
            link(16, 16, 5, Replicate, Relu),
            link(16, 5, 1, Replicate, Linear),
        ],
        ..Chain::default()
    };
    let one = Chain {
        layers: vec![link(1, 1, 3, Zero, Linear)],
        ..Chain::default()
    };
    [
        ("half groups", eight),
        ("half groups to luma, 3x3", eight_to_luma(3)),
        ("half groups to luma, 5x5", eight_to_luma(5)),
        ("half groups to luma, 9x9", eight_to_luma(9)),
        ("half groups doubled", eight_doubling),
        ("srcnn 9-5-5 zero", srcnn(1, 5, Zero)),
        ("srcnn 9-5-5 replicate", srcnn(1, 5, Replicate)),
        ("srcnn 9-1-5 valid", srcnn(1, 1, Valid)),
        ("srcnn 9-5-5 valid", srcnn(1, 5, Valid)),
        ("srcnn rgb", srcnn(3, 5, Zero)),
        ("srcnn residual", residual),
        ("tower", tower),
        ("deep", deep),
        ("3x3 to luma", luma),
        ("narrow", narrow),
        ("doubling", doubling),
        ("compact", compact),
        ("odd channels", odd),
        ("one layer", one),
    ]
    .into()
}

const SIZES: [(usize, usize); 4] = [(75, 52), (13, 7), (1, 1), (130, 20)];

#[test]
fn fused_chains_match_the_layers() {
    for (name, network) in chains() {
        for size in SIZES {
            let (output, expected) = (
                run(&network, size, &ChainOptions::default()),
                reference(&network, size),
            );
            assert_eq!(output.len(), expected.len(), "{name} {size:?}");
            let largest = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
            for (i, (output, expected)) in output.iter().zip(&expected).enumerate() {
                let off = (output - expected).abs();
                assert!(
                    off <= 2e-5 * largest,
                    "{name} {size:?}: {output} for {expected} at {i}"
                );
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_division() {
    let size = (131, 87);
    for (name, network) in chains() {
        let whole = run(
            &network,
            size,
            &ChainOptions {
                tile_size: 4096,
                threads: 1,
            },
        );
        for (tile, threads) in [
            (0, 1),
            (0, 2),
            (0, 3),
            (0, 5),
            (12, 2),
            (24, 1),
            (60, 2),
            (96, 4),
        ] {
            let options = ChainOptions {
                tile_size: tile,
                threads,
            };
            let divided = run(&network, size, &options);
            let same = whole
                .iter()
                .zip(&divided)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name}: tiles of {tile}, {threads} threads");
        }
    }
}

#[test]
fn levels_agree_to_the_bit() {
    let size = (50, 41);
    for (name, network) in chains() {
        let at = |level: Level| {
            // A pool that no other test works in.
            let options = ChainOptions {
                threads: 7,
                ..ChainOptions::default()
            };
            let mut executor = ChainExecutor::new(&network, size, &options)
                .unwrap()
                .unwrap();
            let pool = Arc::clone(&executor.pool);
            let ran = || {
                let mut levels = pool
                    .broadcast(|_| crate::ops::cpu::simd::probe::take())
                    .concat();
                levels.dedup();
                levels
            };
            executor.kernels = Kernels::of(level).unwrap();
            let input = picture(executor.packed.planes, size);
            let inputs: Vec<&[f32]> = input.chunks_exact(size.0 * size.1).collect();
            let (ow, oh) = executor.output_size();
            let mut output = vec![0.0; executor.packed.outputs * ow * oh];
            let mut outputs: Vec<&mut [f32]> = output.chunks_exact_mut(ow * oh).collect();
            ran();
            executor.run(&inputs, &mut outputs).unwrap();
            assert_eq!(ran(), [level], "{name}");
            output
        };
        let plain = at(Level::Plain);
        for level in Level::available() {
            let fast = at(level);
            let off = plain.iter().zip(&fast).find(|(a, b)| a != b);
            assert!(off.is_none(), "{name}: {level} differs from plain: {off:?}");
        }
    }
}

/// A NaN of the input stays one wherever it does layer by layer, at every
/// level; the transforms of some kernels spread it over their tiles.
#[test]
fn nan_stays_nan() {
    let size = (21, 17);
    for (name, network) in chains() {
        let planes = network.layers[0].conv.weight.dim(1).unwrap();
        let mut input = picture(planes, size);
        input[size.0 * size.1 / 2] = f32::NAN;
        let expected = reference_of(&network, size, input.clone());
        assert!(expected.iter().any(|v| v.is_nan()), "{name}");
        let at = |level: Level| {
            let mut executor = ChainExecutor::new(&network, size, &ChainOptions::default())
                .unwrap()
                .unwrap();
            executor.kernels = Kernels::of(level).unwrap();
            let inputs: Vec<&[f32]> = input.chunks_exact(size.0 * size.1).collect();
            let (ow, oh) = executor.output_size();
            let mut output = vec![0.0; executor.packed.outputs * ow * oh];
            let mut outputs: Vec<&mut [f32]> = output.chunks_exact_mut(ow * oh).collect();
            executor.run(&inputs, &mut outputs).unwrap();
            output
        };
        let plain = at(Level::Plain);
        let lost = expected
            .iter()
            .zip(&plain)
            .position(|(e, v)| e.is_nan() && !v.is_nan());
        assert_eq!(
            lost,
            None,
            "{name}: NaN became {:?}",
            lost.map(|i| plain[i])
        );
        for level in Level::available() {
            let differs = |(a, b): (&f32, &f32)| a != b && !(a.is_nan() && b.is_nan());
            let off = plain.iter().zip(&at(level)).position(differs);
            assert_eq!(off, None, "{name}: {level} differs from plain");
        }
    }
}

#[test]
fn what_cannot_be_fused_is_refused() {
    let strided = {
        let mut link = link(1, 8, 3, Border::Zero, Activation::None);
        link.conv.spec.stride = 2;
        Chain {
            layers: vec![link],
            ..Chain::default()
        }
    };
    let options = ChainOptions::default();
    assert!(
        ChainExecutor::new(&strided, (8, 8), &options)
            .unwrap()
            .is_none()
    );
    let (_, network) = chains().swap_remove(0);
    let mut executor = ChainExecutor::new(&network, (8, 8), &options)
        .unwrap()
        .unwrap();
    let (short, mut out) = ([0.0; 63], [0.0; 64]);
    let error = executor
        .run(&[&short], &mut [&mut out])
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 planes of 8x8"), "{error}");
}

#[test]
fn memory_is_bounded() {
    for (name, network) in chains() {
        let factor = PackedChain::of_chain(&network).unwrap().unwrap().factor();
        let size = (1280 / factor, 720 / factor);
        let executor = ChainExecutor::new(&network, size, &ChainOptions::default())
            .unwrap()
            .unwrap();
        // What `Upscaler::check` counts beforehand: the most that the tower
        // takes, where its regions are not as wide as the frame.
        let frames = match name {
            "tower" => 3 * 64,
            "deep" => 2 * 64,
            "half groups" => 2 * 8,
            _ => 0,
        };
        let pixels = size.0 * size.1;
        let most = if name == "deep" { 160 } else { 40 };
        let mib = executor.memory() >> 20;
        assert!(mib < most, "{name}: {mib} MiB");
        assert_eq!(
            executor.packed.buffer_floats(pixels),
            frames * pixels,
            "{name}"
        );
    }
}

/// Changes one sample after the other: the cells that the result differs in are
/// those that depend on it, and computed alone they are what a whole run computes.
#[test]
fn cells_depend_on_what_they_read() {
    use crate::frame::damage::Damage;
    let size = (50, 41);
    let samples = (0..size.0)
        .map(|x| (x, 17))
        .chain((0..size.1).map(|y| (22, y)));
    for (name, network) in chains() {
        let options = ChainOptions::default();
        let mut executor = ChainExecutor::new(&network, size, &options)
            .unwrap()
            .unwrap();
        let Some(cells) = executor.cells() else {
            assert!(["tower", "deep", "half groups"].contains(&name));
            continue;
        };
        let planes = executor.packed.planes;
        let mut input = picture(planes, size);
        let before = run(&network, size, &options);
        let (width, area) = (cells.size.0, cells.size.0 * cells.size.1);
        for (x, y) in samples.clone() {
            let at = (planes - 1) * size.0 * size.1 + y * size.0 + x;
            let was = std::mem::replace(&mut input[at], 3e5);
            let inputs: Vec<&[f32]> = input.chunks_exact(size.0 * size.1).collect();
            let mut after = vec![0.0; before.len()];
            let mut outputs: Vec<&mut [f32]> = after.chunks_exact_mut(area).collect();
            executor.run(&inputs, &mut outputs).unwrap();

            let mut damage = Damage::none(size);
            damage.add(y, x..x + 1);
            let mut areas = Areas::none();
            cells.extend(&mut areas, &damage, &Damage::none(cells.size));
            let mut partial = before.clone();
            let mut outputs: Vec<&mut [f32]> = partial.chunks_exact_mut(area).collect();
            let source = Planes {
                planes: &inputs,
                width: size.0,
            };
            let sink = PlanesOut::new(&mut outputs, width);
            executor.process(&source, &sink, &areas);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let same = bits(&partial) == bits(&after);
            assert!(same, "{name}: the sample at {x}, {y} reaches more cells");
            input[at] = was;
        }
    }
}
