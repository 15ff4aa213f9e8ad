//! The receptive field of a graph, and its cost.

use super::config::{Config, ConvSettings, Coordinates, Node, Op, ResizeMode};
use super::convolve::Pads;
use candle_core::{DType, Tensor};
use std::collections::HashMap;

/// How a value of the graph lies over the input.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Its samples for one of the input.
    scale: f64,
    /// Samples of the input beyond its place that it depends on.
    reach: f64,
}

/// The receptive field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Its radius in samples of the input.
    pub(super) radius: usize,
    /// What parts of a frame start at multiples of, in samples; more than 1 if the graph
    /// shrinks images in between.
    pub(super) alignment: usize,
}

/// The receptive field; `None` if an operation sees the whole frame.
pub(super) fn of(config: &Config, weights: &HashMap<String, Tensor>) -> Option<Reach> {
    let extents = extents(config, weights)?;
    let output = extents.get(config.output.as_str())?;
    let smallest = extents
        .values()
        .fold(1.0, |scale: f64, x| scale.min(x.scale));
    let coarsest = libm::ceil(1.0 / smallest) as usize;
    (output.scale == config.factor as f64).then_some(Reach {
        radius: libm::ceil(output.reach) as usize,
        alignment: config.multiple.next_multiple_of(coarsest),
    })
}

/// Multiplications of the convolutions for each sample of a plane of the input.
pub(super) fn macs(config: &Config, weights: &HashMap<String, Tensor>) -> u64 {
    let mut scales: HashMap<&str, f64> = HashMap::from([(config.input.as_str(), 1.0)]);
    let mut macs = 0.0;
    for node in &config.nodes {
        let known = node
            .inputs
            .iter()
            .find_map(|name| scales.get(name.as_str()));
        let scale = known.copied().unwrap_or(1.0);
        let elements = node.inputs.get(1).and_then(|name| weights.get(name));
        let elements = elements.map_or(0, Tensor::elem_count) as f64;
        let stride = |settings: &ConvSettings| settings.strides[0].max(1) as f64;
        let after = match &node.op {
            Op::Conv(settings) => {
                macs += elements * (scale / stride(settings)).powi(2);
                scale / stride(settings)
            }
            Op::ConvTranspose(settings) => {
                macs += elements * scale * scale;
                scale * stride(settings)
            }
            Op::DepthToSpace { block, .. } => scale * *block as f64,
            Op::SpaceToDepth { block } => scale / *block as f64,
            Op::Resize(_) => scale * enlargement(node, weights).unwrap_or(1.0),
            _ => scale,
        };
        if known.is_some() {
            scales.extend(node.outputs.iter().map(|name| (name.as_str(), after)));
        }
    }
    macs as u64
}

fn extents<'a>(
    config: &'a Config,
    weights: &HashMap<String, Tensor>,
) -> Option<HashMap<&'a str, Extent>> {
    let input = Extent {
        scale: 1.0,
        reach: 0.0,
    };
    let mut extents = HashMap::from([(config.input.as_str(), input)]);
    for node in &config.nodes {
        let operands: Vec<Extent> = (node.inputs.iter())
            .filter_map(|name| extents.get(name.as_str()).copied())
            .collect();
        let Some(&first) = operands.first() else {
            // Of constants alone.
            continue;
        };
        let reach = operands.iter().fold(0.0, |most: f64, x| most.max(x.reach));
        if operands.iter().any(|x| x.scale != first.scale) {
            return None;
        }
        let before = Extent { reach, ..first };
        let after = after(node, before, config, weights)?;
        extents.extend(node.outputs.iter().map(|name| (name.as_str(), after)));
    }
    Some(extents)
}

/// The extent of a node's results.
fn after(
    node: &Node,
    x: Extent,
    config: &Config,
    weights: &HashMap<String, Tensor>,
) -> Option<Extent> {
    let further = |samples: f64| Extent {
        reach: x.reach + samples / x.scale,
        ..x
    };
    let kernel = || weights.get(node.inputs.get(1)?)?.dims4().ok();
    let ints = |i: usize| -> Option<Vec<i64>> {
        let integers = config.integers.get(node.inputs.get(i)?)?;
        super::value::integers(&integers.tensor().ok()?).ok()
    };
    Some(match &node.op {
        Op::Abs
        | Op::Add
        | Op::BatchNormalization { .. }
        | Op::Clip
        | Op::Div
        | Op::Elu { .. }
        | Op::Erf
        | Op::Exp
        | Op::Gelu { .. }
        | Op::HardSigmoid { .. }
        | Op::HardSwish
        | Op::Identity
        | Op::LeakyRelu { .. }
        | Op::Max
        | Op::Min
        | Op::Mish
        | Op::Mul
        | Op::Neg
        | Op::PRelu
        | Op::Pow
        | Op::Relu
        | Op::Sigmoid
        | Op::Softplus
        | Op::Sqrt
        | Op::Sub
        | Op::Tanh
        | Op::Cast { integers: false }
        | Op::Concat { axis: 1 }
        | Op::Split { axis: 1, .. }
        | Op::Softmax {
            axis: 1,
            flatten: false,
        } => x,
        Op::ReduceMean {
            axes, keep: true, ..
        } => {
            let axes = axes.clone().or_else(|| ints(1))?;
            (axes == [1]).then_some(x)?
        }
        Op::Slice => (ints(3)? == [1]).then_some(x)?,
        Op::Conv(settings) => {
            let (_, _, rows, columns) = kernel()?;
            let [down, across] = settings.strides;
            let more = further(beyond(settings, [rows, columns]) + (down - 1) as f64);
            (down == across).then_some(Extent {
                scale: x.scale / down as f64,
                ..more
            })?
        }
        Op::SpaceToDepth { block } => Extent {
            scale: x.scale / (*block).max(1) as f64,
            ..further(*block as f64)
        },
        Op::ConvTranspose(settings) => {
            let (_, _, rows, columns) = kernel()?;
            let [down, across] = settings.strides;
            let span =
                (rows.max(columns) * settings.dilations[0].max(settings.dilations[1])) as f64;
            let more = further(libm::ceil(span / down.max(1) as f64) + 1.0);
            (down == across).then_some(Extent {
                scale: x.scale * down as f64,
                ..more
            })?
        }
        Op::DepthToSpace { block, .. } => Extent {
            scale: x.scale * *block as f64,
            ..x
        },
        Op::Pad { .. } => {
            let pads = ints(1)?;
            let most = pads.iter().map(|pad| pad.unsigned_abs()).max().unwrap_or(0);
            further(most as f64)
        }
        Op::Resize(settings) => {
            let scale = enlargement(node, weights)?;
            let follows = !matches!(
                settings.coordinates,
                Coordinates::AlignCorners | Coordinates::TfCropAndResize
            );
            let support = match settings.mode {
                ResizeMode::Nearest(_) => 1.0,
                ResizeMode::Linear => 2.0,
                ResizeMode::Cubic => 3.0,
            };
            // Of a smaller result the samples lie further apart.
            let wide = if settings.antialias { 1.0 / scale } else { 1.0 };
            let more = further(support * wide.max(1.0));
            let after = x.scale * scale;
            let whole = |scale: f64| scale >= 1.0 && scale == libm::floor(scale);
            (follows && (whole(scale) || whole(1.0 / scale) && whole(after))).then_some(Extent {
                scale: after,
                ..more
            })?
        }
        _ => return None,
    })
}

/// Samples beyond its place that a convolution depends on.
fn beyond(settings: &ConvSettings, [rows, columns]: [usize; 2]) -> f64 {
    let [down, across] = settings.dilations;
    let spans = [
        rows.saturating_sub(1) * down,
        columns.saturating_sub(1) * across,
    ];
    let [top, left, bottom, right]: Pads = settings.pads;
    let most = spans[0].max(spans[1]);
    match spans.map(|span| span / 2) == [top, left] && [top, left] == [bottom, right] {
        true => most.div_ceil(2) as f64,
        false => most as f64,
    }
}

/// The constant factor of a resampling of rows and columns.
fn enlargement(node: &Node, weights: &HashMap<String, Tensor>) -> Option<f64> {
    let scales = weights.get(node.inputs.get(2)?)?;
    let scales = scales.to_dtype(DType::F32).ok()?.flatten_all().ok()?;
    match scales.to_vec1::<f32>().ok()?.as_slice() {
        [1.0, 1.0, rows, columns] | [rows, columns] if rows == columns => Some(f64::from(*rows)),
        _ => None,
    }
}
