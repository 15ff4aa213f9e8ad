//! SRCNN: three convolutions on an image that bicubic interpolation has
//! already upscaled.
//!
//! Chao Dong, Chen Change Loy, Kaiming He, Xiaoou Tang, "Image
//! Super-Resolution Using Deep Convolutional Networks", IEEE TPAMI 38(2),
//! 2016, <https://arxiv.org/abs/1501.00092>. Parameter names as in the public
//! ports `yjn870/SRCNN-pytorch` (`conv1`, `conv2`, `conv3`) and
//! `Ling1304/SRCNN-Implementation` (`patch_extraction`, `nonLinear_map`,
//! `reconstruction`).

use crate::chain::{Chain, ChainLayer, Epilogue};
use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Shapes,
    Upsampling,
};
use crate::nn::Conv;
use crate::ops::{Activation, Border, ConvSpec};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

/// Names of the layers in native files.
const LAYERS: [&str; 3] = ["conv1", "conv2", "conv3"];

/// Names of the layers in the files of Ling1304/SRCNN-Implementation.
const LING_LAYERS: [&str; 3] = ["patch_extraction", "nonLinear_map", "reconstruction"];

/// Standard deviation of the last layer's initial weights, small so that
/// training starts near zero (or near the upscaled image, with `residual`).
const LAST_LAYER_STDEV: f64 = 1e-3;

/// Configuration of an SRCNN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Planes in and out.
    pub channels: Channels,
    /// Kernel sizes of the three layers.
    pub kernels: [usize; 3],
    /// Channels after the first and the second layer.
    pub widths: [usize; 2],
    /// Padding of every layer.
    pub border: Border,
    /// Whether the input, the upscaled image, is added to the output.
    pub residual: bool,
}

impl Default for Config {
    /// The 9-5-5 network of the paper on luma, 57,281 weights.
    fn default() -> Self {
        Self {
            channels: Channels::Luma,
            kernels: [9, 5, 5],
            widths: [64, 32],
            border: Border::Zero,
            residual: false,
        }
    }
}

impl Config {
    /// The 9-5-5 network on R, G and B, 69,251 weights.
    pub fn rgb() -> Self {
        Self {
            channels: Channels::Rgb,
            ..Self::default()
        }
    }

    /// Refuses even kernel sizes and empty layers.
    fn check(&self) -> crate::Result<()> {
        let odd = self.kernels.iter().all(|kernel| kernel % 2 == 1);
        if odd && self.widths.iter().all(|&width| width > 0) {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "an SRCNN has kernels of odd sides and layers that are not empty, \
             not kernels {:?} and widths {:?}",
            self.kernels, self.widths
        )))
    }

    /// Shapes of the three weights, (out, in, kernel, kernel) each.
    pub fn weight_shapes(&self) -> [[usize; 4]; 3] {
        let (planes, [first, second]) = (self.channels.count(), self.widths);
        let [a, b, c] = self.kernels;
        [
            [first, planes, a, a],
            [second, first, b, b],
            [planes, second, c, c],
        ]
    }

    /// Initialisation of a layer's weight for training.
    pub(super) fn init(&self, layer: usize) -> Init {
        let [_, inputs, kernel, _] = self.weight_shapes()[layer];
        let stdev = match layer {
            // He et al. 2015, for layers before a ReLU.
            0 | 1 => (2.0 / (inputs * kernel * kernel) as f64).sqrt(),
            _ => LAST_LAYER_STDEV,
        };
        Init::Randn { mean: 0.0, stdev }
    }

    /// Makes the first channels of every layer pass the image on unchanged (it
    /// is never negative, so ReLU keeps it): training then starts from the
    /// upscaled image and tolerates a learning rate several times higher.
    /// `values` are the random initial values of the named parameter. Returns
    /// whether it changed them.
    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        let stem = name.strip_suffix(".weight");
        let Some(layer) = LAYERS.iter().position(|&layer| Some(layer) == stem) else {
            return false;
        };
        let planes = self.channels.count();
        if self.residual || self.widths.iter().any(|&width| width < planes) {
            return false;
        }
        let [_, inputs, kernel, _] = self.weight_shapes()[layer];
        let area = kernel * kernel;
        for (output, values) in values.chunks_exact_mut(inputs * area).enumerate() {
            if output >= planes {
                break;
            }
            values.fill(0.0);
            values[output * area + area / 2] = 1.0;
        }
        true
    }

    fn spec(&self, layer: usize) -> ConvSpec {
        ConvSpec {
            border: self.border,
            activation: match layer {
                2 => Activation::None,
                _ => Activation::Relu,
            },
            ..ConvSpec::default()
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn upsampling(&self, _scale: Scale) -> Upsampling {
        Upsampling::Pre
    }

    fn border_mut(&mut self) -> Option<&mut Border> {
        Some(&mut self.border)
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Srcnn::new(vb, self, scales)?))
    }

    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        Self::identity_init(self, name, values)
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let names = [LAYERS, LING_LAYERS]
        .into_iter()
        .find(|names| shapes.contains_key(&format!("{}.weight", names[0])))?;
    let weight = |layer: usize| {
        let shape = shapes.get(&format!("{}.weight", names[layer]))?;
        <[usize; 4]>::try_from(shape.as_slice()).ok()
    };
    let found = [weight(0)?, weight(1)?, weight(2)?];
    let config = Config {
        channels: Channels::from_count(found[0][1])?,
        kernels: found.map(|shape| shape[2]),
        widths: [found[0][0], found[1][0]],
        ..Config::default()
    };
    if config.weight_shapes() != found || shapes.len() != 2 * LAYERS.len() {
        return None;
    }
    let renames = LAYERS.iter().zip(names).flat_map(|(ours, theirs)| {
        ["weight", "bias"].map(|part| (format!("{theirs}.{part}"), format!("{ours}.{part}")))
    });
    Some(Detected {
        config,
        renames: renames.collect(),
        scales: None,
    })
}

/// An SRCNN with its weights.
#[derive(Debug, Clone)]
pub struct Srcnn {
    config: Config,
    scales: Scales,
    layers: [Conv; 3],
}

impl Srcnn {
    /// Reads (or, in training, creates) the weights `conv1.weight` to `conv3.bias`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape.
    pub fn new(vb: &VarBuilder, config: &Config, scales: Scales) -> Result<Self> {
        config.check()?;
        let shapes = config.weight_shapes();
        let layer = |i: usize| -> candle_core::Result<Conv> {
            let vb = vb.pp(LAYERS[i]);
            Ok(Conv {
                weight: vb.get_with_hints(&shapes[i], "weight", config.init(i))?,
                bias: Some(vb.get_with_hints(shapes[i][0], "bias", Init::Const(0.0))?),
                spec: config.spec(i),
            })
        };
        Ok(Self {
            layers: [layer(0)?, layer(1)?, layer(2)?],
            config: config.clone(),
            scales,
        })
    }

    /// An SRCNN from tensors: weight and bias of each layer.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn from_tensors(
        config: &Config,
        tensors: [(Tensor, Tensor); 3],
        scales: Scales,
    ) -> Result<Self> {
        for ((weight, _), expected) in tensors.iter().zip(config.weight_shapes()) {
            if weight.dims() != expected {
                let found = weight.dims();
                let problem = format!("expected a weight of shape {expected:?}, found {found:?}");
                return Err(candle_core::Error::Msg(problem).into());
            }
        }
        let mut index = 0;
        let layers = tensors.map(|(weight, bias)| {
            let spec = config.spec(index);
            index += 1;
            Conv {
                weight,
                bias: Some(bias),
                spec,
            }
        });
        Ok(Self {
            config: config.clone(),
            scales,
            layers,
        })
    }

    /// The weights by their names in native files.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = LAYERS.iter().zip(&self.layers);
        named
            .flat_map(|(name, layer)| {
                let bias = layer.bias.clone().map(|b| (format!("{name}.bias"), b));
                [Some((format!("{name}.weight"), layer.weight.clone())), bias]
            })
            .flatten()
            .collect()
    }
}

impl Network for Srcnn {
    fn channels(&self) -> Channels {
        self.config.channels
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, _scale: Scale) -> Result<BoxedScaleNetwork> {
        Ok(Box::new(self.clone()))
    }
}

impl ScaleNetwork for Srcnn {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Pre
    }

    fn halo(&self) -> usize {
        self.config.kernels.iter().map(|k| k / 2).sum()
    }

    fn border(&self) -> Border {
        self.config.border
    }

    fn chain(&self) -> candle_core::Result<Option<Chain>> {
        Ok(Some(Chain {
            layers: self.layers.iter().cloned().map(ChainLayer::from).collect(),
            epilogue: Epilogue {
                residual_bicubic: self.config.residual,
                ..Epilogue::default()
            },
            ..Chain::default()
        }))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut y = x.clone();
        for layer in &self.layers {
            y = layer.forward(&y)?;
        }
        if !self.config.residual {
            return Ok(y);
        }
        match self.config.border {
            Border::Valid => {
                let halo = self.halo();
                let (_, _, height, width) = y.dims4()?;
                y + x.narrow(2, halo, height)?.narrow(3, halo, width)?
            }
            _ => y + x,
        }
    }
}
