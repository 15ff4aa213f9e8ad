//! The workloads: networks, images and weights.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use serde::Serialize;
use std::collections::HashMap;

/// The name of srfilter's engine in all tables.
pub(crate) const SRFILTER: &str = "srfilter";
/// The same in 8-bit integers.
pub(crate) const SRFILTER_INT8: &str = "srfilter.int8";
/// candle's convolution.
pub(crate) const CANDLE: &str = "candle";
/// The GStreamer element.
pub(crate) const ELEMENT: &str = "element";
/// The same in 8-bit integers.
pub(crate) const ELEMENT_INT8: &str = "element.int8";

/// Scale of the workloads on frames.
pub(crate) const SCALE: u32 = 2;

/// The kind of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Inference on an image.
    Network,
    /// A step of training on a batch: forward and backward pass, and Adam; outputs the
    /// gradients.
    Training,
    /// I420 frames through the built-in model of this name.
    Frames(&'static str),
}

/// A step of a network. Convolutions keep the size of the image, with zero
/// padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Layer {
    /// Weights (outputs, inputs, kernel, kernel), and a bias.
    Conv {
        kernel: usize,
        inputs: usize,
        outputs: usize,
    },
    /// A transposed convolution that upscales by `stride`: weights (inputs,
    /// outputs, kernel, kernel), and a bias.
    Deconv {
        kernel: usize,
        inputs: usize,
        outputs: usize,
        stride: usize,
    },
    /// ReLU.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// PReLU with one slope for all channels or one for each.
    Prelu { slopes: usize },
    /// PyTorch's PixelShuffle.
    Shuffle { factor: usize },
    /// Pushes the image on a stack.
    Push,
    /// Pops an image from the stack and adds it.
    Add,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Work {
    /// The name.
    pub(crate) name: &'static str,
    /// The kind.
    pub(crate) kind: Kind,
    /// The worker's engines for it, srfilter's first.
    pub(crate) engines: Vec<&'static str>,
    /// Whether ONNX Runtime, OpenVINO and ncnn run it, too; PyTorch runs all training.
    pub(crate) peers: bool,
    /// (N, C, H, W) of the input.
    pub(crate) input: [usize; 4],
    /// (N, C, H, W) of the network's output.
    pub(crate) output: [usize; 4],
    /// The network.
    pub(crate) layers: Vec<Layer>,
    /// 10^9 MACs of direct convolution.
    pub(crate) gmac: f64,
}

/// Weights by layer and part: `0.weight`, `0.bias`, `1.slope`.
pub(crate) type Weights = HashMap<String, Tensor>;

impl Work {
    /// Inference of a network, for all engines.
    fn network(
        name: &'static str,
        engines: &[&'static str],
        size: [usize; 3],
        layers: Vec<Layer>,
    ) -> Self {
        let [channels, width, height] = size;
        Self::new(
            name,
            Kind::Network,
            engines,
            [1, channels, height, width],
            layers,
        )
    }

    /// A step of training on patches (N, C, H, W).
    fn training(name: &'static str, patches: [usize; 4], layers: Vec<Layer>) -> Self {
        Self::new(name, Kind::Training, &[SRFILTER, CANDLE], patches, layers)
    }

    fn new(
        name: &'static str,
        kind: Kind,
        engines: &[&'static str],
        input: [usize; 4],
        layers: Vec<Layer>,
    ) -> Self {
        let (output, products) = follow(kind, input, &layers);
        Self {
            name,
            kind,
            engines: engines.to_vec(),
            peers: kind == Kind::Network,
            input,
            output,
            gmac: products as f64 / 1e9,
            layers,
        }
    }

    /// All workloads.
    pub(crate) fn all() -> Vec<Self> {
        let (ours, peers) = ([SRFILTER, CANDLE, SRFILTER_INT8], [CANDLE]);
        let frames = [ELEMENT, SRFILTER];
        let live_frames = [ELEMENT, SRFILTER, ELEMENT_INT8, SRFILTER_INT8];
        let luma = |kernels| srcnn(1, kernels);
        vec![
            Self::network("srcnn-955-360p", &ours, [1, 640, 360], luma([9, 5, 5])),
            Self::network("srcnn-955-720p", &ours, [1, 1280, 720], luma([9, 5, 5])),
            Self::network("srcnn-915-360p", &ours, [1, 640, 360], luma([9, 1, 5])),
            Self::network("srcnn-915-720p", &ours, [1, 1280, 720], luma([9, 1, 5])),
            Self::network("srcnn-rgb-360p", &ours, [3, 640, 360], srcnn(3, [9, 5, 5])),
            Self::network("srresnet-x4-360p", &ours, [3, 160, 90], srresnet()),
            Self::network("live-network-360p-720p", &ours, [1, 640, 360], live(2)),
            Self::network("espcn-360p-720p", &peers, [1, 640, 360], espcn(2)),
            Self::network("fsrcnn-360p-720p", &peers, [1, 640, 360], fsrcnn(2)),
            Self::training("train-srcnn", [16, 1, 33, 33], luma([9, 5, 5])),
            Self::training("train-espcn", [16, 1, 32, 32], live(2)),
            Self::training("train-srresnet-x4", [8, 3, 24, 24], srresnet()),
            Self::new(
                "element-360p-720p",
                Kind::Frames("srcnn"),
                &frames,
                [1, 1, 360, 640],
                luma([9, 5, 5]),
            ),
            Self::new(
                "live-180p-360p",
                Kind::Frames("espcn"),
                &live_frames,
                [1, 1, 180, 320],
                live(2),
            ),
            Self::new(
                "live-360p-720p",
                Kind::Frames("espcn"),
                &live_frames,
                [1, 1, 360, 640],
                live(2),
            ),
        ]
    }

    /// The workload by its name.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let found = Self::all().into_iter().find(|work| work.name == name);
        found.with_context(|| format!("there is no work {name}"))
    }

    /// The input.
    pub(crate) fn image(&self) -> Vec<f32> {
        synthetic(self.input)
    }

    /// What the network is trained to return.
    pub(crate) fn target(&self) -> Vec<f32> {
        synthetic(self.output)
    }

    /// Reproducible random weights that preserve the variance of values from
    /// layer to layer.
    pub(crate) fn random_weights(&self) -> Result<Weights> {
        let mut random = Random(2);
        let mut weights = Weights::new();
        for (i, &layer) in self.layers.iter().enumerate() {
            let (shape, outputs, fan_in) = match layer {
                Layer::Conv {
                    kernel,
                    inputs,
                    outputs,
                } => (
                    [outputs, inputs, kernel, kernel],
                    outputs,
                    inputs * kernel * kernel,
                ),
                Layer::Deconv {
                    kernel,
                    inputs,
                    outputs,
                    stride,
                } => {
                    let fan_in = inputs * kernel * kernel / (stride * stride);
                    ([inputs, outputs, kernel, kernel], outputs, fan_in)
                }
                Layer::Prelu { slopes } => {
                    let values = (0..slopes).map(|_| 0.25 + 0.05 * random.normal()).collect();
                    weights.insert(format!("{i}.slope"), tensor(values, &[slopes])?);
                    continue;
                }
                _ => continue,
            };
            // Sixteen residual branches must not outgrow the trunk.
            let gain = match self.layers.get(i + 1) {
                Some(Layer::Add) => 0.3,
                _ => 1.0,
            };
            let spread = gain * (2.0 / fan_in as f32).sqrt();
            let count = shape.iter().product();
            let values = (0..count).map(|_| spread * random.normal()).collect();
            weights.insert(format!("{i}.weight"), tensor(values, &shape)?);
            let values = (0..outputs).map(|_| 0.05 * random.normal()).collect();
            weights.insert(format!("{i}.bias"), tensor(values, &[outputs])?);
        }
        Ok(weights)
    }

    /// The last layer with weights.
    pub(crate) fn last(&self) -> Option<usize> {
        let has_weights = |l: &Layer| matches!(l, Layer::Conv { .. } | Layer::Deconv { .. });
        self.layers.iter().rposition(has_weights)
    }
}

/// The output's shape, and the number of MACs.
fn follow(kind: Kind, input: [usize; 4], layers: &[Layer]) -> ([usize; 4], usize) {
    let [images, mut channels, mut height, mut width] = input;
    let upscales = |layer: &Layer| matches!(layer, Layer::Shuffle { .. });
    if matches!(kind, Kind::Frames(_)) && !layers.iter().any(upscales) {
        // The network's input is the upscaled frame.
        let factor = SCALE as usize;
        (height, width) = (factor * height, factor * width);
    }
    let (mut sum, mut first) = (0, 0);
    for &layer in layers {
        let (upscaled, products) = match layer {
            Layer::Conv {
                kernel,
                inputs,
                outputs,
            } => {
                channels = outputs;
                (1, kernel * kernel * inputs * outputs)
            }
            Layer::Deconv {
                kernel,
                inputs,
                outputs,
                stride,
            } => {
                channels = outputs;
                (stride, kernel * kernel * inputs * outputs)
            }
            Layer::Shuffle { factor } => {
                channels /= factor * factor;
                (factor, 0)
            }
            _ => (1, 0),
        };
        let products = products * images * height * width;
        if sum == 0 {
            first = products;
        }
        sum += products;
        (height, width) = (upscaled * height, upscaled * width);
    }
    let products = match kind {
        // The forward pass and the gradients of the weights, and of the inputs
        // for all layers but the first.
        Kind::Training => 3 * sum - first,
        Kind::Network | Kind::Frames(_) => sum,
    };
    ([images, channels, height, width], products)
}

/// A synthetic image of edges, gradients and grain, different in every plane; values 0
/// to 1.
fn synthetic([images, channels, height, width]: [usize; 4]) -> Vec<f32> {
    let mut random = Random(1);
    let mut values = Vec::with_capacity(images * channels * height * width);
    for plane in 0..images * channels {
        let shift = plane as f32 * 0.7;
        for y in 0..height {
            for x in 0..width {
                let (x, y) = (x as f32, y as f32);
                let rings = libm::sinf((x * x + y * y) / 4000.0 + shift);
                let waves = libm::sinf(x / 23.0 + shift) * libm::cosf(y / 17.0);
                let tiles = f32::from((x / 32.0 + shift) as i32 % 2 == (y / 32.0) as i32 % 2);
                let grain = random.normal() * 0.02;
                let value = 0.45 + 0.15 * rings + 0.15 * waves + 0.2 * (tiles - 0.5) + grain;
                values.push(value.clamp(0.0, 1.0));
            }
        }
    }
    values
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

const fn conv(kernel: usize, inputs: usize, outputs: usize) -> Layer {
    Layer::Conv {
        kernel,
        inputs,
        outputs,
    }
}

/// SRCNN (Dong et al., TPAMI 2016).
fn srcnn(planes: usize, [a, b, c]: [usize; 3]) -> Vec<Layer> {
    vec![
        conv(a, planes, 64),
        Layer::Relu,
        conv(b, 64, 32),
        Layer::Relu,
        conv(c, 32, planes),
    ]
}

/// SRResNet x4 (Ledig et al., 2017), its BatchNorms folded into the convolutions.
fn srresnet() -> Vec<Layer> {
    let prelu = Layer::Prelu { slopes: 1 };
    let mut layers = vec![conv(9, 3, 64), prelu, Layer::Push];
    for _ in 0..16 {
        layers.extend([
            Layer::Push,
            conv(3, 64, 64),
            prelu,
            conv(3, 64, 64),
            Layer::Add,
        ]);
    }
    layers.extend([conv(3, 64, 64), Layer::Add]);
    for _ in 0..2 {
        layers.extend([conv(3, 64, 256), Layer::Shuffle { factor: 2 }, prelu]);
    }
    layers.extend([conv(9, 64, 3), Layer::Tanh]);
    layers
}

/// ESPCN (Shi et al., 2016).
fn espcn(factor: usize) -> Vec<Layer> {
    vec![
        conv(5, 1, 64),
        Layer::Tanh,
        conv(3, 64, 32),
        Layer::Tanh,
        conv(3, 32, factor * factor),
        Layer::Shuffle { factor },
    ]
}

/// srfilter's `espcn`: 16 channels, eight layers.
fn live(factor: usize) -> Vec<Layer> {
    let mut layers = vec![conv(5, 1, 16), Layer::Relu];
    for _ in 0..6 {
        layers.extend([conv(3, 16, 16), Layer::Relu]);
    }
    layers.extend([conv(3, 16, factor * factor), Layer::Shuffle { factor }]);
    layers
}

/// FSRCNN 56-12-4 (Dong et al., 2016).
fn fsrcnn(stride: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (kernel, inputs, outputs) in [(5, 1, 56), (1, 56, 12)]
        .into_iter()
        .chain([(3, 12, 12); 4])
        .chain([(1, 12, 56)])
    {
        layers.extend([
            conv(kernel, inputs, outputs),
            Layer::Prelu { slopes: outputs },
        ]);
    }
    layers.push(Layer::Deconv {
        kernel: 9,
        inputs: 56,
        outputs: 1,
        stride,
    });
    layers
}

/// Reproducible pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    /// Uniform from 0 to 1.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Approximately normal, mean 0, variance 1.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| self.uniform()).sum();
        sum - 6.0
    }
}
