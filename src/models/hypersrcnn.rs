//! HyperSRCNN: a hypernetwork that generates the weights of an SRCNN for the
//! requested scale.
//!
//! After David Kurtenbach, `davidkurtenb/Hyper-Super-Resolution` (2025). Two
//! embeddings of the scale exist:
//!
//! * [`Embedding::Table`], the published one: four learnt rows for x2, x4,
//!   x8 and x16, an RGB target, 17.8 million weights;
//! * [`Embedding::Continuous`], this project's: log2(scale) goes through two
//!   narrow layers, so that every scale above 1 up to 16 has weights, including
//!   fractional ones, and the file stays small.
//!
//! The weights do not depend on the image: they are generated once for a scale
//! and then used as those of any SRCNN.

use crate::models::detect::Detected;
use crate::models::{
    Architecture, ArchitectureConfig, BoxedScaleNetwork, Channels, HyperNetwork, Network,
    Parameters, Scales, Shapes, Upsampling, srcnn,
};
use crate::ops::Border;
use crate::ops::tanh;
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::{D, DType, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The scales of the rows of the published embedding table.
const TABLE_SCALES: [u32; 4] = [2, 4, 8, 16];

/// Middle of log2(scale) over the scales in common use, subtracted to centre
/// the first layer's input.
const LOG2_CENTER: f64 = 1.5;

/// Spread of a head's initial matrix relative to that of the target's weights:
/// all scales start from nearly the same target.
const HEAD_SPREAD: f64 = 0.3;

/// Slope of the tanh steps between fitted scales, in units of the distance
/// between the scales: 90 % of a step lies between them.
const STEEPNESS: f64 = 3.0;

/// Smallest pivot, relative to the first one, of a matrix that can be inverted.
const SINGULAR: f64 = 1e-9;

/// How the scale enters the hypernetwork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Embedding {
    /// A learnt row of this length for each of x2, x4, x8, x16; ReLU between layers.
    Table(usize),
    /// log2(scale); tanh between layers, which interpolates smoothly.
    Continuous,
}

/// Configuration of a HyperSRCNN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How the scale enters.
    pub embedding: Embedding,
    /// Widths of the two hidden layers.
    pub hidden: [usize; 2],
    /// The network whose weights are generated.
    pub target: srcnn::Config,
}

impl Default for Config {
    /// The continuous one on luma.
    fn default() -> Self {
        Self {
            embedding: Embedding::Continuous,
            hidden: [32, 12],
            target: srcnn::Config {
                border: Border::Replicate,
                residual: true,
                ..srcnn::Config::default()
            },
        }
    }
}

impl Config {
    /// The published one on RGB, 17,834,883 weights.
    pub fn seed() -> Self {
        Self {
            embedding: Embedding::Table(32),
            hidden: [128, 256],
            target: srcnn::Config::rgb(),
        }
    }

    /// The supported scales.
    fn scales(&self) -> Scales {
        match self.embedding {
            Embedding::Table(_) => Scales::list(TABLE_SCALES.map(Scale::whole)),
            Embedding::Continuous => Scales::Any,
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        self.target.channels
    }

    fn upsampling(&self, _scale: Scale) -> Upsampling {
        Upsampling::Pre
    }

    fn scales(&self) -> Option<Scales> {
        Some(Self::scales(self))
    }

    fn border_mut(&mut self) -> Option<&mut Border> {
        Some(&mut self.target.border)
    }

    fn build(&self, vb: &VarBuilder, _scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(HyperSrcnn::new(vb, self)?))
    }

    fn generated_architecture(&self) -> Option<Architecture> {
        Some(Architecture::Srcnn(self.target.clone()))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let dims = |name: &str| shapes.get(name).cloned();
    let (hidden1, hidden2) = (dims("hidden1.weight")?, dims("hidden2.weight")?);
    let embedding = match dims("scale_embeddings") {
        Some(table) => Embedding::Table(*table.get(1)?),
        None => Embedding::Continuous,
    };
    let target = [Channels::Rgb, Channels::Luma]
        .into_iter()
        .map(|channels| srcnn::Config {
            channels,
            residual: embedding == Embedding::Continuous,
            ..srcnn::Config::default()
        })
        .find(|target| {
            let [first, ..] = target.weight_shapes();
            dims("weight_generators.conv1_weight.bias")
                == Some(vec![first.iter().product::<usize>()])
        })?;
    let config = Config {
        embedding,
        hidden: [*hidden1.first()?, *hidden2.first()?],
        target,
    };
    let same = shapes.keys().map(|name| (name.clone(), name.clone()));
    Some(Detected {
        config,
        renames: same.collect(),
        scales: None,
    })
}

/// A fully connected layer.
#[derive(Debug, Clone)]
struct Linear {
    /// (out, in).
    weight: Tensor,
    /// (out).
    bias: Tensor,
}

impl Linear {
    fn new(
        vb: &VarBuilder,
        inputs: usize,
        outputs: usize,
        [weight, bias]: [Init; 2],
    ) -> candle_core::Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", weight)?,
            bias: vb.get_with_hints(outputs, "bias", bias)?,
        })
    }

    /// PyTorch's default: uniform within 1 / sqrt(inputs).
    fn default_init(inputs: usize) -> [Init; 2] {
        let bound = 1.0 / (inputs as f64).sqrt();
        [Init::Uniform {
            lo: -bound,
            up: bound,
        }; 2]
    }

    /// One row in, one row out.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let product = self.weight.matmul(&x.unsqueeze(D::Minus1)?)?;
        product.squeeze(D::Minus1)? + &self.bias
    }
}

/// A HyperSRCNN with its weights.
#[derive(Debug, Clone)]
pub struct HyperSrcnn {
    config: Config,
    scales: Scales,
    table: Option<Tensor>,
    hidden: [Linear; 2],
    /// Weight and bias of each layer of the target.
    heads: [[Linear; 2]; 3],
}

impl HyperSrcnn {
    /// Reads (or, in training, creates) the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape.
    pub fn new(vb: &VarBuilder, config: &Config) -> Result<Self> {
        let [first, second] = config.hidden;
        let (table, inputs) = match config.embedding {
            Embedding::Table(width) => {
                let unit = Init::Randn {
                    mean: 0.0,
                    stdev: 1.0,
                };
                let shape = (TABLE_SCALES.len(), width);
                let table = vb.get_with_hints(shape, "scale_embeddings", unit)?;
                (Some(table), width)
            }
            Embedding::Continuous => (None, 1),
        };
        let hidden = |name: &str, inputs: usize, outputs: usize| {
            Linear::new(&vb.pp(name), inputs, outputs, Linear::default_init(inputs))
        };
        let head = |layer: usize| heads(&vb.pp("weight_generators"), config, layer);
        Ok(Self {
            hidden: [
                hidden("hidden1", inputs, first)?,
                hidden("hidden2", first, second)?,
            ],
            heads: [head(0)?, head(1)?, head(2)?],
            table,
            scales: config.scales(),
            config: config.clone(),
        })
    }

    /// The heads' input for a scale.
    fn features(&self, scale: Scale) -> Result<Tensor> {
        let [first, second] = &self.hidden;
        let Some(table) = &self.table else {
            let log2 = (libm::log2(scale.factor()) - LOG2_CENTER) as f32;
            let x = Tensor::new(&[log2], first.weight.device())?;
            let x = tanh(&first.forward(&x)?)?;
            let x = tanh(&second.forward(&x)?)?;
            // Makes the size of a training step independent of the number of features.
            return Ok((x / (self.config.hidden[1] as f64).sqrt())?);
        };
        let row = TABLE_SCALES
            .iter()
            .position(|&s| Scale::whole(s) == scale)
            .ok_or_else(|| {
                Error::Setting(format!(
                    "this HyperSRCNN has weights for scales {}, not for {scale}",
                    self.scales
                ))
            })?;
        let x = table.get(row)?;
        let x = first.forward(&x)?.relu()?;
        Ok(second.forward(&x)?.relu()?)
    }

    /// The network with zeroed heads and, with [`Embedding::Continuous`], hidden
    /// layers that step between these scales: weights for a scale in between
    /// then lie between those of its neighbours.
    fn with_step_features(&self, scales: &[Scale]) -> Result<Self> {
        let zeros = |layer: &Linear| -> candle_core::Result<Linear> {
            Ok(Linear {
                weight: layer.weight.zeros_like()?,
                bias: layer.bias.zeros_like()?,
            })
        };
        let pair =
            |[weight, bias]: &[Linear; 2]| candle_core::Result::Ok([zeros(weight)?, zeros(bias)?]);
        let [first, second, third] = &self.heads;
        let mut network = Self {
            heads: [pair(first)?, pair(second)?, pair(third)?],
            ..self.clone()
        };
        let mut positions: Vec<f64> = (scales.iter()).map(|s| libm::log2(s.factor())).collect();
        positions.sort_by(f64::total_cmp);
        let gaps: Vec<[f64; 2]> = (positions.windows(2))
            .map(|pair| [pair[0], pair[1]])
            .collect();
        if self.table.is_some() || gaps.is_empty() {
            return Ok(network);
        }
        let [width, steps] = self.config.hidden;
        // Units beyond the number of gaps repeat the steps, half as steep each time.
        let step = |unit: usize| {
            let [low, high] = gaps[unit % gaps.len()];
            let slope = STEEPNESS / (high - low) / f64::from(1 << (unit / gaps.len()).min(8));
            (slope, slope * (LOG2_CENTER - (low + high) / 2.0))
        };
        let device = self.hidden[0].weight.device();
        let column = |of: &dyn Fn(usize) -> f64| -> candle_core::Result<Tensor> {
            let values: Vec<f32> = (0..width).map(|unit| of(unit) as f32).collect();
            Tensor::new(values, device)
        };
        let picked: Vec<f32> = (0..steps * width)
            .map(|i| f32::from(u8::from(i / width == i % width)))
            .collect();
        network.hidden = [
            Linear {
                weight: column(&|unit| step(unit).0)?.unsqueeze(1)?,
                bias: column(&|unit| step(unit).1)?,
            },
            Linear {
                weight: Tensor::from_vec(picked, (steps, width), device)?,
                bias: self.hidden[1].bias.zeros_like()?,
            },
        ];
        Ok(network)
    }

    /// The parameters with which the network generates `targets`, weights for
    /// some scales: the heads, changed as little as possible, and the hidden
    /// layers as they are.
    fn fitted(
        &self,
        targets: &[(Scale, &HashMap<String, Tensor>)],
    ) -> Result<Vec<(String, Tensor)>> {
        let features: Vec<Tensor> = (targets.iter())
            .map(|&(scale, _)| self.features(scale))
            .collect::<Result<_>>()?;
        let features = Tensor::stack(&features, 0)?.to_dtype(DType::F64)?;
        // A bias is the weight of a constant feature 1.
        let inverse = inverse(&(features.matmul(&features.t()?)? + 1.0)?)?;
        let heads = (1..).zip(&self.heads).flat_map(|(layer, [weight, bias])| {
            let name = |part| (format!("conv{layer}.{part}"), format!("conv{layer}_{part}"));
            [(name("weight"), weight), (name("bias"), bias)]
        });
        let mut parameters = Vec::new();
        for (name, layer) in ["hidden1", "hidden2"].into_iter().zip(&self.hidden) {
            let Linear { weight, bias } = layer;
            for (part, tensor) in [("weight", weight), ("bias", bias)] {
                // A copy, as the caller writes it to the parameter itself.
                parameters.push((format!("{name}.{part}"), tensor.copy()?));
            }
        }
        for ((name, head), now) in heads {
            let rows = targets.iter().map(|(scale, tensors)| {
                let tensor = tensors.get(&name).ok_or_else(|| {
                    Error::weights(&format!("the weights for x{scale}"), format!("no {name}"))
                })?;
                Ok(tensor.flatten_all()?.to_dtype(DType::F64)?)
            });
            let rows = Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)?;
            let [matrix, bias] = [&now.weight, &now.bias].map(|t| t.to_dtype(DType::F64));
            let (matrix, bias) = (matrix?, bias?);
            let change = (rows - features.matmul(&matrix.t()?)?.broadcast_add(&bias)?)?;
            let shares = inverse.matmul(&change)?;
            let matrix = (matrix + shares.t()?.matmul(&features)?)?;
            let bias = (bias + shares.sum(0)?)?;
            for (part, tensor) in [("weight", matrix), ("bias", bias)] {
                let name = format!("weight_generators.{head}.{part}");
                parameters.push((name, tensor.to_dtype(DType::F32)?));
            }
        }
        Ok(parameters)
    }

    /// Generates the SRCNN for one scale. Gradients flow back into the hypernetwork.
    ///
    /// # Errors
    ///
    /// A scale that the embedding has no row for.
    pub fn generate(&self, scale: Scale) -> Result<srcnn::Srcnn> {
        let features = self.features(scale)?;
        let shapes = self.config.target.weight_shapes();
        let layer = |i: usize| -> candle_core::Result<(Tensor, Tensor)> {
            let [weight, bias] = &self.heads[i];
            Ok((
                weight.forward(&features)?.reshape(&shapes[i])?,
                bias.forward(&features)?,
            ))
        };
        let tensors = [layer(0)?, layer(1)?, layer(2)?];
        srcnn::Srcnn::from_tensors(&self.config.target, tensors, Scales::list([scale]))
    }
}

/// The inverse of a small positive definite matrix, by Gauss-Jordan elimination.
fn inverse(matrix: &Tensor) -> Result<Tensor> {
    let n = matrix.dim(0)?;
    let mut rows = matrix.to_vec2::<f64>()?;
    for (i, row) in rows.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for i in 0..n {
        let pivot = rows[i][i];
        if pivot.abs() < SINGULAR * rows[0][0].abs().max(f64::MIN_POSITIVE) {
            let problem = "the features of the scales are too similar to fit different weights";
            return Err(Error::Setting(problem.to_owned()).into());
        }
        rows[i].iter_mut().for_each(|value| *value /= pivot);
        let pivot_row = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i];
            row.iter_mut()
                .zip(&pivot_row)
                .for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    let values: Vec<f64> = rows.into_iter().flat_map(|row| row[n..].to_vec()).collect();
    Ok(Tensor::from_vec(values, (n, n), matrix.device())?)
}

/// The two heads, weight and bias, of one layer of the target.
fn heads(vb: &VarBuilder, config: &Config, layer: usize) -> candle_core::Result<[Linear; 2]> {
    let shape = config.target.weight_shapes()[layer];
    let inputs = config.hidden[1];
    let (weight_init, bias_init) = match config.embedding {
        Embedding::Table(_) => (Linear::default_init(inputs), Linear::default_init(inputs)),
        Embedding::Continuous => {
            let drawn = config.target.init(layer);
            let narrow = match drawn {
                Init::Randn { mean, stdev } => Init::Randn {
                    mean,
                    stdev: stdev * HEAD_SPREAD,
                },
                other => other,
            };
            ([narrow, drawn], [Init::Const(0.0); 2])
        }
    };
    let name = format!("conv{}", layer + 1);
    let outputs: usize = shape.iter().product();
    Ok([
        Linear::new(
            &vb.pp(format!("{name}_weight")),
            inputs,
            outputs,
            weight_init,
        )?,
        Linear::new(&vb.pp(format!("{name}_bias")), inputs, shape[0], bias_init)?,
    ])
}

impl Network for HyperSrcnn {
    fn channels(&self) -> Channels {
        self.config.target.channels
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        Ok(Box::new(self.generate(scale)?))
    }

    fn as_hypernetwork(&self) -> Option<&dyn HyperNetwork> {
        Some(self)
    }
}

impl HyperNetwork for HyperSrcnn {
    fn generate_weights(&self, scale: Scale) -> Result<Parameters> {
        Ok(self.generate(scale)?.tensors())
    }

    fn fit_generator(
        &self,
        targets: &[(Scale, &HashMap<String, Tensor>)],
        from_scratch: bool,
    ) -> Result<Parameters> {
        let scales: Vec<Scale> = targets.iter().map(|&(scale, _)| scale).collect();
        match from_scratch {
            true => self.with_step_features(&scales)?.fitted(targets),
            false => self.fitted(targets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use candle_nn::VarMap;

    fn network(config: &Config, map: &VarMap) -> HyperSrcnn {
        let vb = VarBuilder::from_varmap(map, DType::F32, &Device::Cpu);
        HyperSrcnn::new(&vb, config).unwrap()
    }

    /// Heads fitted to SRCNNs generate those SRCNNs.
    #[test]
    fn it_can_be_fitted_to_networks() {
        for (config, scales) in [
            (
                Config {
                    hidden: [16, 24],
                    ..Config::seed()
                },
                vec![2, 4, 8, 16],
            ),
            (Config::default(), vec![2, 3]),
        ] {
            let tensors: Vec<HashMap<String, Tensor>> = (scales.iter())
                .map(|_| {
                    let random = network(&config, &VarMap::new())
                        .generate(Scale::whole(2))
                        .unwrap();
                    random.tensors().into_iter().collect()
                })
                .collect();
            let targets = scales.iter().map(|&s| Scale::whole(s)).zip(&tensors);
            let targets: Vec<_> = targets.collect();
            let map = VarMap::new();
            let parameters = network(&config, &map)
                .fit_generator(&targets, true)
                .unwrap();
            assert_eq!(parameters.len(), 16);
            for (name, tensor) in &parameters {
                map.data().lock().unwrap()[name].set(tensor).unwrap();
            }
            let fitted = network(&config, &map);
            for &(scale, tensors) in &targets {
                for (name, got) in fitted.generate_weights(scale).unwrap() {
                    let error = (got - &tensors[&name]).unwrap().abs().unwrap();
                    let error = error.flatten_all().unwrap().max(0).unwrap();
                    assert!(error.to_scalar::<f32>().unwrap() < 1e-4, "{name} x{scale}");
                }
            }
            // Weights for a scale in between lie between those of its neighbours.
            if let Embedding::Continuous = config.embedding {
                for (name, got) in fitted.generate_weights("5/2".parse().unwrap()).unwrap() {
                    let [a, b] = [0, 1].map(|i| &tensors[i][&name]);
                    let low = a.minimum(b).unwrap() - &got;
                    let high = got - a.maximum(b).unwrap();
                    for beyond in [low, high] {
                        let beyond = beyond.unwrap().flatten_all().unwrap().max(0).unwrap();
                        assert!(beyond.to_scalar::<f32>().unwrap() < 1e-4, "{name}");
                    }
                }
            }
            // A second fit changes nothing.
            for (name, refitted) in fitted.fit_generator(&targets, false).unwrap() {
                let error = (refitted - map.data().lock().unwrap()[&name].as_tensor()).unwrap();
                let error = error.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
                assert!(error.to_scalar::<f32>().unwrap() < 1e-3, "{name}");
            }
        }
    }
}
