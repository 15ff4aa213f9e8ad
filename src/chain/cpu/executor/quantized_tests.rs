//! Chains in integers, against the same sums one by one.

use super::tests::{noise, tensor};
use super::*;
use crate::chain::cpu::kernels::quantized::QuantizedKernels;
use crate::chain::quantized::{
    Calibration, INPUT_STEPS, Place, Quantization, QuantizedLayer, Requantize, SKIP_ONE, SKIP_SHIFT,
};
use crate::chain::{ChainLayer, Epilogue};
use crate::ops::{Activation, Border};
use candle_core::{Device, Tensor};

/// A layer from some channels to others by a kernel of that side.
fn link((inputs, outputs): (usize, usize), side: usize, border: Border, relu: bool) -> ChainLayer {
    let activation = match relu {
        true => Activation::Relu,
        false => Activation::None,
    };
    super::tests::link(inputs, outputs, side, border, activation)
}

fn chains() -> Vec<(&'static str, Chain)> {
    use Border::{Replicate, Zero};
    let prelu = |mut link: ChainLayer, slopes: usize| {
        link.slope = Some(tensor(3, &[slopes], 0.3));
        link
    };
    let espcn = |factor: usize, border: Border| Chain {
        layers: vec![
            link((1, 16), 5, border, true),
            link((16, 16), 3, border, true),
            link((16, 16), 3, border, true),
            ChainLayer {
                shuffle: factor,
                ..link((16, factor * factor), 3, border, false)
            },
        ],
        input_mean: 0.5,
        ..Chain::default()
    };
    let compact = Chain {
        layers: vec![
            prelu(link((3, 20), 3, Zero, false), 20),
            prelu(link((20, 20), 3, Zero, false), 20),
            ChainLayer {
                shuffle: 2,
                ..link((20, 12), 3, Zero, false)
            },
        ],
        epilogue: Epilogue {
            residual_nearest: true,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    let tower = Chain {
        layers: vec![
            prelu(link((3, 32), 9, Zero, false), 1),
            prelu(link((32, 32), 3, Zero, false), 1),
            ChainLayer {
                skip: Some(1),
                ..link((32, 32), 3, Zero, false)
            },
            ChainLayer {
                skip: Some(1),
                ..link((32, 32), 3, Zero, false)
            },
            prelu(
                ChainLayer {
                    shuffle: 2,
                    ..link((32, 128), 3, Zero, false)
                },
                1,
            ),
            link((32, 3), 9, Zero, false),
        ],
        input_affine: vec![(4.4, -2.1), (4.5, -2.0), (4.3, -1.8)],
        epilogue: Epilogue {
            tanh: true,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    let srcnn = Chain {
        layers: vec![
            link((1, 16), 9, Replicate, true),
            link((16, 8), 1, Replicate, true),
            link((8, 1), 5, Replicate, false),
        ],
        epilogue: Epilogue {
            residual_bicubic: true,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    vec![
        ("srcnn", srcnn),
        ("espcn x2", espcn(2, Zero)),
        ("espcn x3", espcn(3, Zero)),
        ("espcn x4, replicated border", espcn(4, Replicate)),
        ("compact", compact),
        ("tower with skips and a shuffle inside", tower),
    ]
}

fn picture(planes: usize, (w, h): (usize, usize)) -> Vec<f32> {
    let levels = noise(7).take(planes * w * h);
    levels
        .map(|v| (127.5 + 127.5 * v).round() / 255.0)
        .collect()
}

fn calibrated(chain: &Chain) -> Quantization {
    let planes = chain.layers[0].conv.weight.dim(1).unwrap();
    let x = Tensor::from_vec(picture(planes, (40, 30)), (1, planes, 30, 40), &Device::Cpu);
    let mut calibration = Calibration::default();
    calibration.observe(chain, &x.unwrap()).unwrap();
    Quantization::of_chains([chain], &calibration.ranges()).unwrap()
}

/// Whole numbers of channels of one size, and what lies beyond their edges.
struct Grid {
    size: (usize, usize),
    channels: Vec<Vec<i64>>,
    beyond: Option<i64>,
}

impl Grid {
    fn at(&self, channel: usize, x: isize, y: isize) -> i64 {
        let (w, h) = (self.size.0 as isize, self.size.1 as isize);
        let inside = (0..w).contains(&x) && (0..h).contains(&y);
        let (cx, cy) = (x.clamp(0, w - 1), y.clamp(0, h - 1));
        let value = self.channels[channel][(cy * w + cx) as usize];
        self.beyond.filter(|_| !inside).unwrap_or(value)
    }
}

/// The sum of a channel of a layer at a pixel.
fn sum(layer: &QuantizedLayer, input: &Grid, channel: usize, (x, y): (usize, usize)) -> i64 {
    let [_, depth, side, _] = layer.shape;
    let pad = (side / 2) as isize;
    let mut sum = 0;
    for i in 0..depth {
        for ky in 0..side {
            for kx in 0..side {
                let weight = layer.weights[((channel * depth + i) * side + ky) * side + kx];
                let (x, y) = (
                    x as isize + kx as isize - pad,
                    y as isize + ky as isize - pad,
                );
                sum += i64::from(weight) * input.at(i, x, y);
            }
        }
    }
    sum
}

/// Channels of squares of the side `r` as larger channels.
fn shuffled<T: Copy + Default>(
    channels: &[Vec<T>],
    (w, h): (usize, usize),
    r: usize,
) -> Vec<Vec<T>> {
    let mut out = vec![vec![T::default(); w * h * r * r]; channels.len() / (r * r)];
    for (c, channel) in channels.iter().enumerate() {
        let (dy, dx) = (c % (r * r) / r, c % r);
        for (i, &value) in channel.iter().enumerate() {
            out[c / (r * r)][(i / w * r + dy) * w * r + i % w * r + dx] = value;
        }
    }
    out
}

/// The chain, one sum after the other, without its epilogue.
fn reference(chain: &Chain, quantization: &Quantization, size: (usize, usize)) -> Vec<Vec<f32>> {
    let planes = chain.layers[0].conv.weight.dim(1).unwrap();
    let affine = chain.combined_affine(planes);
    let input = picture(planes, size);
    let steps = input.chunks_exact(size.0 * size.1).zip(&affine);
    let steps = steps.map(|(plane, (scale, offset))| {
        let steps = |&v: &f32| (v * INPUT_STEPS + offset / scale * INPUT_STEPS + 0.5).floor();
        plane.iter().map(|v| steps(v) as i64).collect()
    });
    let beyond = |zero: i64| (chain.border_of_first() == Border::Zero).then_some(zero);
    let mut grids = vec![(
        Grid {
            size,
            channels: steps.collect(),
            beyond: beyond(0),
        },
        1.0 / f64::from(INPUT_STEPS),
        0,
    )];
    for (i, link) in chain.layers.iter().enumerate() {
        let layer = &quantization.layers()[&link.name_at(i)];
        let (input, step, zero) = grids.last().unwrap();
        let (w, h) = input.size;
        let pixels = || (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        let filter = layer.weights.len() / layer.shape[0];
        let total = |channel: usize| -> i64 {
            let weights = &layer.weights[channel * filter..][..filter];
            weights.iter().map(|&w| i64::from(w)).sum()
        };
        let slopes = link.slopes().unwrap();
        let channels = 0..layer.shape[0];
        let Some(range) = layer.range else {
            assert!(Place::of(i, chain).last);
            let lines = channels.map(|channel| {
                let step = step * f64::from(layer.scales[channel]);
                let added = step * f64::from(*zero as i32) * total(channel) as f64;
                let bias = (f64::from(layer.bias[channel]) - added) as f32;
                let value = |at| sum(layer, input, channel, at) as i32 as f32 * step as f32 + bias;
                pixels().map(value).collect()
            });
            return shuffled(&lines.collect::<Vec<_>>(), (w, h), link.shuffle);
        };
        let samples = channels.map(|channel| -> Vec<i64> {
            let step = step * f64::from(layer.scales[channel]);
            let correction = *zero * total(channel);
            let bias = (layer.bias[channel], correction);
            let requantize = Requantize::new(step, bias, slopes[channel], &range).unwrap();
            let sample = |(x, y): (usize, usize)| {
                let added = link.skip.map_or(0, |skip| {
                    let (grid, step, zero) = &grids[skip];
                    let factor = (step / f64::from(range.step) * SKIP_ONE).round() as i64;
                    let value = grid.at(channel, x as isize, y as isize) - zero;
                    (((value << SKIP_SHIFT) * factor + (1 << 14)) >> 15) as i32
                });
                let sum = sum(layer, input, channel, (x, y)) as i32;
                i64::from(requantize.sample(sum, added + i32::from(range.zero)))
            };
            pixels().map(sample).collect()
        });
        let samples = shuffled(&samples.collect::<Vec<_>>(), (w, h), link.shuffle);
        let grid = Grid {
            size: (w * link.shuffle, h * link.shuffle),
            channels: samples,
            beyond: beyond(i64::from(range.zero)),
        };
        grids.push((grid, f64::from(range.step), i64::from(range.zero)));
    }
    unreachable!("a chain has a last layer")
}

impl Chain {
    fn border_of_first(&self) -> Border {
        self.layers[0].conv.spec.border
    }
}

fn run(
    packed: &Arc<PackedChain>,
    kernels: &'static QuantizedKernels,
    size: (usize, usize),
    (tile_size, threads): (usize, usize),
) -> Vec<Vec<f32>> {
    let options = ChainOptions { tile_size, threads };
    let mut executor = ChainExecutor::of(Arc::clone(packed), size, &options).unwrap();
    executor.quantized = kernels;
    let input = picture(packed.planes, size);
    let inputs: Vec<&[f32]> = input.chunks_exact(size.0 * size.1).collect();
    let (w, h) = executor.output_size();
    let mut output = vec![vec![f32::NAN; w * h]; packed.outputs];
    for _ in 0..2 {
        // The second run begins with what the first left in the memory.
        let mut outputs: Vec<&mut [f32]> = output.iter_mut().map(Vec::as_mut_slice).collect();
        executor.run(&inputs, &mut outputs).unwrap();
    }
    output
}

/// Whatever the kernels, the tiles and the threads: the bits are those of sums that
/// are computed one by one.
#[test]
fn chains_in_integers_are_exact() {
    for (name, mut chain) in chains() {
        chain.epilogue = Epilogue::default();
        let quantization = calibrated(&chain);
        let packed = PackedChain::quantized(&chain, &quantization).unwrap();
        let packed = Arc::new(packed.expect(name));
        for size in [(1, 1), (5, 3), (37, 29), (101, 40)] {
            let expected = reference(&chain, &quantization, size);
            for (level, kernels) in QuantizedKernels::available() {
                for division in [(0, 1), (0, 3), (24, 2)] {
                    let found = run(&packed, kernels, size, division);
                    let (found, expected) = (found.concat(), expected.concat());
                    let same = found.iter().zip(&expected);
                    let differ = same.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                    assert!(
                        differ == 0 && found.len() == expected.len(),
                        "{name}: {differ} samples of {size:?} differ by {} ({level}), {division:?}",
                        kernels.name
                    );
                }
            }
        }
    }
}

/// Rounding to 8 bits changes the result of a chain in f32 by a few steps at most, and
/// training sees the same numbers.
#[test]
fn chains_in_integers_are_close_to_those_in_f32() {
    let size = (48, 36);
    for (name, chain) in chains() {
        let planes = chain.layers[0].conv.weight.dim(1).unwrap();
        let x = picture(planes, size);
        let x = Tensor::from_vec(x, (1, planes, size.1, size.0), &Device::Cpu).unwrap();
        let mut calibration = Calibration::default();
        calibration.observe(&chain, &x).unwrap();
        let ranges = calibration.ranges();
        let quantization = Quantization::of_chains([&chain], &ranges).unwrap();
        let packed = PackedChain::quantized(&chain, &quantization)
            .unwrap()
            .unwrap();
        let kernels = QuantizedKernels::available().pop().unwrap().1;
        let found = run(&Arc::new(packed), kernels, size, (0, 2)).concat();
        let values = |y: Tensor| y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let exact = values(chain.forward(&x).unwrap());
        let rounded = values(chain.forward_rounded(&x, &ranges).unwrap());
        let rms = |a: &[f32], b: &[f32]| {
            let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
            (squares.sum::<f64>() / a.len() as f64).sqrt()
        };
        let spread = rms(&exact, &vec![0.0; exact.len()]);
        let loss = rms(&found, &exact);
        assert!(loss < 0.05 * spread, "{name}: {loss} of {spread}");
        // Each of the two rounds a few samples the other way.
        let trained = rms(&rounded, &exact);
        assert!(
            (0.8..1.2).contains(&(loss / trained)),
            "{name}: {loss}, in training {trained}"
        );
    }
}

/// What the plan does not cover is refused, and weights of another network are an error.
#[test]
fn other_chains_are_refused() {
    let (_, chain) = chains().swap_remove(1);
    let quantization = calibrated(&chain);
    let (_, other) = chains().swap_remove(4);
    let error = PackedChain::quantized(&other, &quantization).unwrap_err();
    assert!(
        error.to_string().contains("not those of this network"),
        "{error}"
    );
    let mut valid = chain;
    for link in &mut valid.layers {
        link.conv.spec.border = Border::Valid;
    }
    assert!(
        PackedChain::quantized(&valid, &quantization)
            .unwrap()
            .is_none()
    );

    let (_, chain) = chains().swap_remove(1);
    let mut large = chain;
    large.layers[1] = link((16, 16), 11, Border::Zero, true);
    let quantization = calibrated(&large);
    assert!(
        PackedChain::quantized(&large, &quantization)
            .unwrap()
            .is_none()
    );
}

/// Biases that would carry the sums of a first layer beyond 32 bits are refused.
#[test]
fn sums_beyond_32_bits_are_refused() {
    let (_, mut chain) = chains().swap_remove(1);
    let x = Tensor::from_vec(picture(1, (40, 30)), (1, 1, 30, 40), &Device::Cpu);
    let mut calibration = Calibration::default();
    calibration.observe(&chain, &x.unwrap()).unwrap();
    let fits = |chain: &Chain| {
        let quantization = Quantization::of_chains([chain], &calibration.ranges()).unwrap();
        PackedChain::quantized(chain, &quantization)
            .unwrap()
            .is_some()
    };
    assert!(fits(&chain));
    let bias = chain.layers[0].conv.bias.as_mut().unwrap();
    *bias = bias.affine(0.0, 1e4).unwrap();
    assert!(!fits(&chain));
}
