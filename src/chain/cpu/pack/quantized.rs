//! Chains in 8-bit integers, with their weights in the order of the kernels.

use super::quantized_weights::{MAX_KERNEL, MAX_SHUFFLE, QuantizedWeights};
use super::{ConvAlgorithm, PackedChain, PackedLayer};
use crate::Error;
use crate::background::give_way;
use crate::chain::cpu::kernels::quantized::{QUAD, RequantizeQuad};
use crate::chain::quantized::{
    INPUT_STEPS, Place, Quantization, QuantizedLayer, Requantize, SKIP_ONE,
};
use crate::chain::{Chain, ChainLayer};
use crate::ops::Border;
use crate::ops::winograd::Tables;
use crate::tensor_error::Result;

/// The largest value of an input plane's steps: a signed number of 16 bits, and the
/// largest one that sums in the first layer have room for.
const LARGEST_INPUT: f32 = 32767.0;

/// The largest value of a skip's step in steps of the result.
const LARGEST_SKIP: f64 = 8.0;

/// What a layer reads.
#[derive(Clone, Copy)]
struct Input {
    /// The largest magnitude of a sample.
    largest: i64,
    /// The value of a step.
    step: f64,
    /// The sample of 0.
    zero: u8,
    channels: usize,
    /// Planes of words.
    words: usize,
}

impl PackedChain {
    /// Packs a chain in integers; `None` if the plan does not cover it.
    ///
    /// # Errors
    ///
    /// Layers that are missing in `quantization` or do not fit, tensors that cannot be
    /// read.
    pub fn quantized(chain: &Chain, quantization: &Quantization) -> Result<Option<Self>> {
        let Some(quantized) = quantization.of(chain) else {
            let problem = "the weights in 8-bit integers are not those of this network";
            return Err(Error::Setting(problem.to_owned()).into());
        };
        let (Some(first), Some(last)) = (chain.layers.first(), chain.layers.last()) else {
            return Ok(None);
        };
        let planes = first.conv.weight.dim(1)?;
        let border = first.conv.spec.border;
        let affine = chain.combined_affine(planes);
        let Some(input_affine) = integer_affine(&affine) else {
            return Ok(None);
        };
        if border == Border::Valid {
            return Ok(None);
        }
        let mut inputs = vec![Input {
            largest: LARGEST_INPUT as i64,
            step: 1.0 / f64::from(INPUT_STEPS),
            zero: 0,
            channels: planes,
            words: planes,
        }];
        let mut layers: Vec<PackedLayer> = Vec::new();
        for (i, (link, layer)) in chain.layers.iter().zip(quantized).enumerate() {
            give_way();
            let place = Place::of(i, chain);
            let skips_fit = link.skip.is_none_or(|skip| {
                let between = &layers[skip.min(i)..];
                skip > 0 && skip <= i && between.iter().all(|layer| layer.shuffle == 1)
            });
            let adds_last = link.skip.is_some() && (place.last || link.shuffle > 1);
            if !skips_fit || adds_last || link.conv.spec.border != border {
                return Ok(None);
            }
            let Some(packed) = PackedLayer::of_quantized(link, layer, place, &inputs)? else {
                return Ok(None);
            };
            let channels = layer.shape[0] / (link.shuffle * link.shuffle);
            inputs.push(Input {
                largest: u8::MAX.into(),
                step: layer.range.map_or(1.0, |range| f64::from(range.step)),
                zero: layer.range.map_or(0, |range| range.zero),
                channels,
                words: packed.stored(),
            });
            layers.push(packed);
        }
        let outputs = last.conv.weight.dim(0)? / (last.shuffle * last.shuffle);
        let packed = Self {
            layers,
            planes,
            outputs,
            shuffle: last.shuffle,
            input_affine,
            epilogue: chain.epilogue,
            quantized: true,
        };
        Ok(packed.epilogue_fits(border).then_some(packed))
    }
}

/// Scale and offset from values of 0 to 1 to the steps of the first layer's input;
/// `None` if they leave 16 bits.
fn integer_affine(affine: &[(f32, f32)]) -> Option<Vec<(f32, f32)>> {
    let steps = affine.iter().map(|&(scale, offset)| {
        let offset = offset / scale * INPUT_STEPS;
        let ends = [offset, offset + INPUT_STEPS];
        let fits = ends.iter().all(|end| end.abs() <= LARGEST_INPUT);
        fits.then_some((INPUT_STEPS, offset))
    });
    steps.collect()
}

impl PackedLayer {
    /// A layer of a chain in integers, whose boundaries up to its own are `inputs`.
    fn of_quantized(
        link: &ChainLayer,
        layer: &QuantizedLayer,
        place: Place,
        inputs: &[Input],
    ) -> Result<Option<Self>> {
        let [outputs, depth, kernel, width] = layer.shape;
        let spec = link.conv.spec;
        let plain = spec.stride == 1 && spec.dilation == 1 && spec.groups == 1;
        let Some(&input) = inputs.last() else {
            return Ok(None);
        };
        let square = kernel == width && kernel % 2 == 1;
        let fits = kernel <= MAX_KERNEL && (place.last || link.shuffle <= MAX_SHUFFLE);
        if !plain || !square || !fits || depth != input.channels || !layer.check(place.first) {
            return Ok(None);
        }
        let shuffle = if place.last { 1 } else { link.shuffle };
        let order = QuadOrder::new(outputs, shuffle);
        let slopes = link.slopes()?;
        if slopes.len() != outputs {
            return Ok(None);
        }
        let (sums, magnitudes) = weight_sums(layer);
        // Sums of products stay in 32 bits.
        let most = magnitudes.iter().max().unwrap_or(&0) * input.largest;
        if most > i32::MAX.into() {
            return Ok(None);
        }
        let mut quads = Vec::new();
        for quad in order.quads() {
            // `None`: a channel whose sums could leave 32 bits, or whose steps do not fit.
            let channel = |channel: Option<usize>| -> Option<(Requantize, i32)> {
                let (Some(channel), Some(range)) = (channel, &layer.range) else {
                    return Some((Requantize::ZERO, 0));
                };
                let step = input.step * f64::from(layer.scales[channel]);
                let sum = sums[channel];
                let correction = i64::from(input.zero) * i64::from(sum);
                let bias = (layer.bias[channel], correction);
                let requantize = Requantize::new(step, bias, slopes[channel], range)?;
                let most = magnitudes[channel] * input.largest + i64::from(requantize.bias).abs();
                (most <= i32::MAX.into()).then_some((requantize, sum))
            };
            let zero = layer.range.map_or(0, |range| range.zero);
            let channels: Option<Vec<_>> = quad.into_iter().map(channel).collect();
            let Some(&[a, b, c, d]) = channels.as_deref() else {
                return Ok(None);
            };
            quads.push(RequantizeQuad::new([a, b, c, d], zero));
        }
        let mut scales = Vec::new();
        if place.last {
            if slopes.iter().any(|&slope| slope != 1.0) {
                return Ok(None);
            }
            // The sums are corrected by what the sample of 0 adds to them.
            scales.extend((0..outputs).map(|channel| {
                let step = input.step * f64::from(layer.scales[channel]);
                let added = step * f64::from(input.zero) * f64::from(sums[channel]);
                (step as f32, (f64::from(layer.bias[channel]) - added) as f32)
            }));
            for (quad, channels) in quads.iter_mut().zip(order.quads()) {
                let sum = |channel: Option<usize>| channel.map_or(0, |channel| sums[channel]);
                quad.weight_sums = channels.map(sum);
            }
        }
        let skip = match (link.skip, &layer.range) {
            (Some(skip), Some(range)) => {
                let factor = inputs[skip].step / f64::from(range.step);
                if factor > LARGEST_SKIP || inputs[skip].channels != outputs {
                    return Ok(None);
                }
                Some((inputs[skip].zero, (factor * SKIP_ONE).round() as i16))
            }
            _ => None,
        };
        let weights = QuantizedWeights {
            first: place.first,
            weights: order.pack(layer, &input, place.first),
            scales,
            taps: if place.first {
                kernel.div_ceil(2)
            } else {
                kernel
            },
            tap_step: if place.first { 2 } else { 1 },
            input_zero: input.zero,
            zero: layer.range.map_or(0, |range| range.zero),
            skip,
            quads,
        };
        Ok(Some(Self {
            tables: Tables::default(),
            kernel,
            border: spec.border,
            inputs: input.words,
            outputs: match place.last {
                true => outputs,
                false => weights.quads.len(),
            },
            shuffle,
            skip: link.skip,
            weights: Vec::new(),
            bias: Vec::new(),
            slope: None,
            algorithm: ConvAlgorithm::Quantized(Box::new(weights)),
        }))
    }
}

/// The sums of the weights of each output channel, and of their magnitudes.
fn weight_sums(layer: &QuantizedLayer) -> (Vec<i32>, Vec<i64>) {
    let filter = layer.weights.len() / layer.shape[0].max(1);
    let filters = layer.weights.chunks_exact(filter.max(1));
    let sums = filters.map(|filter| {
        let weights = filter.iter().map(|&w| i64::from(w));
        let magnitudes = weights.clone().map(i64::abs);
        (weights.sum::<i64>() as i32, magnitudes.sum::<i64>())
    });
    sums.unzip()
}

/// The output channels of each word: those of a square's first pixel come first.
struct QuadOrder {
    channels: usize,
    shuffle: usize,
}

impl QuadOrder {
    fn new(channels: usize, shuffle: usize) -> Self {
        Self { channels, shuffle }
    }

    /// The output channels of each word; `None` where there is none.
    fn quads(&self) -> impl Iterator<Item = [Option<usize>; QUAD]> + use<> {
        let area = self.shuffle * self.shuffle;
        let (each, channels) = (self.channels / area, self.channels);
        let words = each.div_ceil(QUAD);
        (0..area * words).map(move |quad| {
            let (phase, first) = (quad / words, quad % words * QUAD);
            std::array::from_fn(|i| {
                let channel = (first + i) * area + phase;
                (first + i < each && channel < channels).then_some(channel)
            })
        })
    }

    /// The weights in the order of the kernels.
    fn pack(&self, layer: &QuantizedLayer, input: &Input, first: bool) -> Vec<i32> {
        let [_, depth, kernel, _] = layer.shape;
        let weight = |channel: Option<usize>, input: usize, y: usize, x: usize| {
            let known = channel.filter(|_| input < depth && x < kernel);
            let at = |channel: usize| ((channel * depth + input) * kernel + y) * kernel + x;
            known.map_or(0, |channel| layer.weights[at(channel)])
        };
        let word = |channel: Option<usize>, y: usize, tap: usize, plane: usize| match first {
            // The taps of a word are neighbours.
            true => {
                let pair = [0, 1].map(|i| weight(channel, plane, y, 2 * tap + i));
                i32::from(pair[0]) & 0xffff | i32::from(pair[1]) << 16
            }
            false => {
                let sample = |i: usize| weight(channel, QUAD * plane + i, y, tap) as i8;
                i32::from_le_bytes(std::array::from_fn(|i| sample(i).cast_unsigned()))
            }
        };
        let taps = if first { kernel.div_ceil(2) } else { kernel };
        let mut out = Vec::new();
        for quad in self.quads() {
            for y in 0..kernel {
                for tap in 0..taps {
                    for plane in 0..input.words {
                        out.extend(quad.map(|channel| word(channel, y, tap, plane)));
                    }
                }
            }
        }
        out
    }
}
