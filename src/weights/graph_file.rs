//! What files of graphs have in common.
//!
//! Channels and scale are told by a trial run on small images: the graph is not
//! believed.

use super::chroma;
use crate::models::Channels;
use crate::models::graph::{Config, Graph, Integers, Node};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use std::collections::{BTreeMap, HashMap};

/// Multiples that the sizes of images are tried at, in this order.
const MULTIPLES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Sides of the smallest images that are tried: graphs without padding take no small ones.
const TRIALS: [usize; 2] = [24, 96];

/// Most samples of an image of a trial run.
const MOST_SAMPLES: usize = 1 << 22;

/// Weights: name, type in the file, values.
pub(super) type Tensors = Vec<(String, &'static str, Tensor)>;

/// A graph with its weights.
pub(super) struct Contents {
    pub(super) format: String,
    pub(super) config: Config,
    pub(super) tensors: Tensors,
}

/// The description of a graph that has not been run yet.
pub(super) fn untried(
    channels: Channels,
    [input, output]: [&str; 2],
    nodes: Vec<Node>,
    tensors: &Tensors,
    integers: BTreeMap<String, Integers>,
) -> Config {
    let shape = |(name, _, tensor): &(String, _, Tensor)| (name.clone(), tensor.dims().to_vec());
    Config {
        channels,
        factor: 1,
        multiple: 1,
        crop: 0,
        size: None,
        fused: false,
        full_range: false,
        working_set: 0,
        input: input.to_owned(),
        output: output.to_owned(),
        nodes,
        weights: tensors.iter().map(shape).collect(),
        integers,
    }
}

/// What a trial run tells of a graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// As many planes come out as go in.
    Image,
    /// Two planes come out of three.
    Chroma,
}

/// Runs the graph on small images: its factor, the sizes that it takes, the values that
/// it holds, and whether it is a chain. A network of chroma becomes one of RGB.
pub(super) fn try_out(
    config: &mut Config,
    tensors: &mut Tensors,
    declared: Option<[usize; 2]>,
) -> Result<Trial, String> {
    let trial = try_planes(config, tensors, declared)?;
    if trial == Trial::Chroma {
        chroma::on_rgb(config, tensors).map_err(|e| e.to_string())?;
        try_planes(config, tensors, declared)?;
    }
    Ok(trial)
}

/// As [`try_out`]; of a network of chroma, no more than that it is one.
fn try_planes(
    config: &mut Config,
    tensors: &Tensors,
    declared: Option<[usize; 2]>,
) -> Result<Trial, String> {
    let map: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(name, _, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let vb = VarBuilder::from_tensors(map, DType::F32, &Device::Cpu);
    let line =
        |e: &dyn std::fmt::Display| e.to_string().lines().next().unwrap_or_default().to_owned();
    let graph_of = |config: &Config| Graph::new(&vb, config).map_err(|e| line(&e));
    let planes = config.channels.count();
    let run = |graph: &Graph,
               [height, width]: [usize; 2]|
     -> Result<(Trial, [usize; 2], usize), String> {
        crate::background::give_way();
        let y = noise(planes, [height, width]).and_then(|x| graph.run(&x));
        let (y, held) = y.map_err(|e| line(&e))?;
        let held = held.div_ceil(height * width);
        let (trial, rows, columns) = match *y.dims() {
            [1, out, rows, columns] if out == planes => (Trial::Image, rows, columns),
            [1, 2, rows, columns] if planes == 3 => {
                if [rows, columns] != [height, width] {
                    return Err(format!(
                        "2 planes of {columns}x{rows} come out of 3 of {width}x{height}; served \
                         are networks of chroma that do not resize"
                    ));
                }
                (Trial::Chroma, rows, columns)
            }
            [1, out, ..] => {
                return Err(format!(
                    "{out} planes come out of {planes}; served are as many as go in, and 2 of 3 \
                     (chroma)"
                ));
            }
            ref other => return Err(format!("its output has the shape {other:?}")),
        };
        Ok((trial, [rows, columns], held))
    };
    let graph = graph_of(config)?;
    let mut problem = None;
    let sizes = TRIALS
        .iter()
        .flat_map(|side| MULTIPLES.map(|multiple| (*side, multiple)));
    for (side, multiple) in sizes {
        // Odd multiples, of two lengths.
        let odd = side.div_ceil(multiple) | 1;
        let [height, width] = [odd * multiple, (odd + 2) * multiple];
        match run(&graph, [height, width]) {
            Ok((Trial::Chroma, ..)) => return Ok(Trial::Chroma),
            Ok((Trial::Image, out, held)) => {
                let Some((factor, crop)) = enlargement([height, width], out) else {
                    problem = problem.or(Some(format!(
                        "{width}x{height} becomes {}x{}; served are whole factors",
                        out[1], out[0]
                    )));
                    continue;
                };
                config.factor = factor;
                config.crop = crop;
                config.multiple = multiple;
                config.working_set = held;
                config.fused = is_chain(config, &graph_of)?;
                return Ok(Trial::Image);
            }
            Err(e) => problem = problem.or(Some(e)),
        }
    }
    let Some([height, width]) = declared.filter(|[h, w]| {
        h.checked_mul(*w)
            .is_some_and(|samples| samples <= MOST_SAMPLES)
    }) else {
        return Err(problem.unwrap_or_default());
    };
    let (trial, out, held) = run(&graph, [height, width])?;
    let factor = out[0] / height;
    if factor == 0 || out != [factor * height, factor * width] {
        return Err(format!(
            "{width}x{height} becomes {}x{}; served are whole factors",
            out[1], out[0]
        ));
    }
    config.factor = factor;
    config.size = Some([height, width]);
    config.working_set = held;
    Ok(trial)
}

/// The factor, and the samples of the input that are lost on each side; `None` if it is
/// no whole one.
fn enlargement([height, width]: [usize; 2], [tall, wide]: [usize; 2]) -> Option<(usize, usize)> {
    let factor = wide.checked_sub(tall)? / (width - height);
    let lost = (factor * height).checked_sub(tall)?;
    let fits = factor > 0 && factor * width - lost == wide && lost % (2 * factor) == 0;
    fits.then(|| (factor, lost / (2 * factor)))
}

/// Whether the graph is a chain that computes the same.
fn is_chain(
    config: &Config,
    graph: &dyn Fn(&Config) -> Result<Graph, String>,
) -> Result<bool, String> {
    const EQUAL: f32 = 1e-4;
    // In the range that both are in then.
    let fused = graph(&Config {
        fused: true,
        full_range: false,
        ..config.clone()
    })?;
    let largest = || -> candle_core::Result<Option<f32>> {
        let Some(chain) = fused.chain() else {
            return Ok(None);
        };
        let x = noise(config.channels.count(), [TRIALS[0] + 1, TRIALS[0] + 4])?;
        let (ours, (theirs, _)) = (chain.forward(&x)?, fused.run(&x)?);
        // The chain leaves the last clamping to the frame.
        let ours = if theirs.dims() == ours.dims() {
            ours
        } else {
            return Ok(None);
        };
        let range = |y: Tensor| y.clamp(0f32, 1f32);
        let off = (range(ours)? - range(theirs)?)?.abs()?;
        off.flatten_all()?.max(0)?.to_scalar::<f32>().map(Some)
    };
    Ok(matches!(largest(), Ok(Some(off)) if off < EQUAL))
}

/// An image of noise.
fn noise(planes: usize, [height, width]: [usize; 2]) -> candle_core::Result<Tensor> {
    let value = |i: usize| ((i * 7919 + 31) % 1009) as f32 / 1009.0;
    let values: Vec<f32> = (0..planes * height * width).map(value).collect();
    Tensor::from_vec(values, (1, planes, height, width), &Device::Cpu)
}
