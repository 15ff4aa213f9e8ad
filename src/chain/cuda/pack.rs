//! Layers with their weights in the order of the GPU's kernels.

use crate::chain::ChainLayer;
use crate::ops::Activation;
use crate::ops::cuda::{CHUNK, DeviceBuffer, Gpu, Half, Integers, PLAIN_CHANNELS};
use crate::tensor_error::Result;
use candle_core::{DType, Tensor};

/// Channels that the tensor cores compute at once.
const GROUP: usize = 8;

/// A layer of a network on the GPU.
pub(super) struct Layer {
    pub(super) weights: DeviceBuffer,
    /// What follows the sums of each channel.
    pub(super) bias: DeviceBuffer,
    /// None where values stay as they are.
    pub(super) slope: Option<DeviceBuffer>,
    pub(super) kernel: usize,
    /// Values of a pixel that comes in, as stored: channels, or words of four.
    pub(super) inputs: usize,
    /// Channels of the convolution.
    pub(super) outputs: usize,
    /// Values of a pixel that goes out, as stored.
    pub(super) stored: usize,
    pub(super) shuffle: usize,
    pub(super) skip: Option<usize>,
    pub(super) integers: Integers,
}

impl Layer {
    pub(super) fn pad(&self) -> usize {
        self.kernel / 2
    }
}

/// Planes that each plane of the input becomes: in bfloat16 its value and the
/// rounding error.
pub(super) fn copies(half: Option<Half>) -> usize {
    match half {
        Some(Half::Bf16) => 2,
        _ => 1,
    }
}

/// A layer on the GPU, its weights in the order of the kernels.
///
/// # Errors
///
/// Weights that cannot be read, no memory left.
pub(super) fn pack_layer(
    gpu: &Gpu,
    link: &ChainLayer,
    inputs: usize,
    (first, last): (bool, bool),
    half: Option<Half>,
) -> Result<Layer> {
    let values = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    };
    let (channels, depth, kernel, _) = link.conv.weight.dims4()?;
    let area = link.shuffle * link.shuffle;
    // Channels lie in multiples of what the next layer takes at once, all of a
    // square's first pixel first; the last layer's stay as they are.
    let each = match (last, half) {
        (false, Some(_)) => (channels / area).next_multiple_of(CHUNK),
        _ => channels / area,
    };
    let outputs = if last { channels } else { each * area };
    let position_of = |channel: usize| match last {
        true => channel,
        false => channel % area * each + channel / area,
    };
    let weights = values(&link.conv.weight)?;
    let taps = kernel * kernel;
    let groups = outputs.div_ceil(GROUP);
    let steps = match first {
        true => inputs * kernel,
        false => inputs.div_ceil(CHUNK) * taps,
    };
    let count = match half {
        Some(_) => steps * groups * GROUP * CHUNK,
        None => outputs.next_multiple_of(PLAIN_CHANNELS) * inputs * taps,
    };
    let mut packed = vec![0f32; count];
    let copies = if first { copies(half) } else { 1 };
    let all = (0..copies).flat_map(|copy| weights.iter().enumerate().map(move |w| (copy, w)));
    for (copy, (at, &weight)) in all {
        let (channel, tap) = (position_of(at / taps / depth), at % taps);
        let input = copy * depth + at / taps % depth;
        let position = match half {
            None => {
                let group = channel / PLAIN_CHANNELS * inputs + input;
                (group * taps + tap) * PLAIN_CHANNELS + channel % PLAIN_CHANNELS
            }
            Some(_) => {
                let (step, product) = match first {
                    true => (input * kernel + tap / kernel, tap % kernel),
                    false => (input / CHUNK * taps + tap, input % CHUNK),
                };
                // Where the tensor cores take them: the lane of the channel
                // and of two products, its first or second pair.
                let lane = channel % GROUP * 4 + product % 8 / 2;
                let within = product / 8 * 2 + product % 2;
                ((step * groups + channel / GROUP) * 32 + lane) * 4 + within
            }
        };
        packed[position] = weight;
    }
    let in_order = |values: &[f32], rest: f32| {
        let mut out = vec![rest; outputs.next_multiple_of(PLAIN_CHANNELS)];
        for (channel, &value) in values.iter().enumerate() {
            out[position_of(channel)] = value;
        }
        out
    };
    let bias = match &link.conv.bias {
        Some(bias) => values(bias)?,
        None => vec![0.0; channels],
    };
    let relu = link.conv.spec.activation == Activation::Relu;
    let slope = match (&link.slope, relu) {
        (Some(slope), _) => Some(values(slope)?),
        (None, true) => Some(vec![0.0]),
        (None, false) => None,
    };
    let slope = slope.map(|slope| match slope.as_slice() {
        &[one] => in_order(&vec![one; channels], 1.0),
        each => in_order(each, 1.0),
    });
    let slope = slope.map(|slope| gpu.upload(&slope)).transpose()?;
    let weights = match half {
        None => gpu.upload(&packed)?,
        Some(half) => {
            let bits: Vec<u16> = packed.iter().map(|&value| half.bits(value)).collect();
            gpu.upload(&bits)?
        }
    };
    Ok(Layer {
        weights,
        bias: gpu.upload(&in_order(&bias, 0.0))?,
        slope,
        kernel,
        inputs,
        outputs,
        stored: outputs / area,
        shuffle: link.shuffle,
        skip: link.skip,
        integers: Integers::default(),
    })
}
