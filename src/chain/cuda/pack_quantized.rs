//! Layers in 8-bit integers with their weights in the order of the GPU's kernels.

use super::pack::Layer;
use crate::chain::cpu::kernels::quantized::QUAD;
use crate::chain::cpu::{PackedLayer, QuantizedWeights};
use crate::ops::cuda::{Gpu, INTEGER_CHANNELS, Integers};
use crate::tensor_error::Result;

/// A layer on the GPU, whose channels become squares of side `shuffle`; `None` if it
/// is not in integers.
///
/// # Errors
///
/// No memory left.
pub(super) fn pack_quantized(
    gpu: &Gpu,
    layer: &PackedLayer,
    shuffle: usize,
) -> Result<Option<Layer>> {
    let Some(quantized) = layer.quantized() else {
        return Ok(None);
    };
    let quads = quantized.quads.len();
    let (skip_zero, skip_multiplier) = quantized.skip.unwrap_or_default();
    let is_last = !quantized.scales.is_empty();
    let bias = match is_last {
        true => gpu.upload(&scales(quantized))?,
        false => gpu.upload(&requantization(quantized))?,
    };
    Ok(Some(Layer {
        weights: gpu.upload(&in_order(layer, quantized))?,
        bias,
        slope: None,
        kernel: layer.kernel,
        inputs: layer.inputs,
        outputs: if is_last {
            quantized.scales.len()
        } else {
            quads * QUAD
        },
        stored: quads / (layer.shuffle * layer.shuffle),
        shuffle,
        skip: layer.skip,
        integers: Integers {
            border: i32::from_le_bytes([quantized.input_zero; QUAD]),
            zero: quantized.zero.into(),
            skip_zero: skip_zero.into(),
            skip_multiplier: skip_multiplier.into(),
        },
    }))
}

/// The value of a step and the bias of each channel of the last layer.
fn scales(quantized: &QuantizedWeights) -> Vec<f32> {
    let scales = quantized.scales.iter();
    scales.flat_map(|&(step, bias)| [step, bias]).collect()
}

/// Bias, shift and multipliers of each channel.
fn requantization(quantized: &QuantizedWeights) -> Vec<i32> {
    let channels = quantized.quads.iter().flat_map(|quad| {
        (0..QUAD).flat_map(|channel| {
            let multipliers = [quad.positive, quad.negative];
            let [positive, negative] = multipliers.map(|all| i32::from(all[QUAD * channel]));
            [quad.bias[channel], quad.shift[channel], positive, negative]
        })
    });
    channels.collect()
}

/// The weights by group of [`INTEGER_CHANNELS`], plane of words, tap, channel.
fn in_order(layer: &PackedLayer, quantized: &QuantizedWeights) -> Vec<i32> {
    let (kernel, planes, taps) = (layer.kernel, layer.inputs, quantized.taps);
    let groups = (quantized.quads.len() * QUAD).div_ceil(INTEGER_CHANNELS);
    let mut out = vec![0; groups * planes * kernel * kernel * INTEGER_CHANNELS];
    for channel in 0..quantized.quads.len() * QUAD {
        for plane in 0..planes {
            for (y, x) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                let at = |tap: usize| {
                    let row = channel / QUAD * kernel + y;
                    ((row * taps + tap) * planes + plane) * QUAD + channel % QUAD
                };
                let weight = match quantized.first {
                    // Words of two neighbours.
                    true => {
                        let pair = quantized.weights[at(x / 2)];
                        if x % 2 == 0 {
                            i32::from(pair as i16)
                        } else {
                            pair >> 16
                        }
                    }
                    false => quantized.weights[at(x)],
                };
                let group = channel / INTEGER_CHANNELS * planes + plane;
                let tap = group * kernel * kernel + y * kernel + x;
                out[tap * INTEGER_CHANNELS + channel % INTEGER_CHANNELS] = weight;
            }
        }
    }
    out
}
