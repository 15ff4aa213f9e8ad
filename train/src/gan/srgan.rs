//! SRGAN's discriminator: strided convolutions, then one logit an image.
//!
//! Christian Ledig et al., "Photo-Realistic Single Image Super-Resolution
//! Using a Generative Adversarial Network", CVPR 2017. Key names as in
//! `sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution` or, with a first kernel
//! of 9x9, as in `vuniem131104/Super-Resolution-With-Pytorch`.

use super::discriminator::{self, SLOPE, leaky_relu};
use crate::loss::imagenet::normalised;
use anyhow::{Result, ensure};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use candle_nn::ops;
use serde::{Deserialize, Serialize};
use srfilter::nn::{BatchNorm, Conv, pytorch_uniform};
use srfilter::ops::{ConvSpec, adaptive_average2d};

/// Side of every kernel but the first.
const KERNEL: usize = 3;

/// Width of each convolution, in units of the first one's, and its stride.
const LAYERS: [(usize, usize); 8] = [
    (1, 1),
    (1, 2),
    (2, 1),
    (2, 2),
    (4, 1),
    (4, 2),
    (8, 1),
    (8, 2),
];

/// Side of the input of the fully connected layers: no pooling for 96x96 images.
const POOLED: usize = 6;

/// Shape of the discriminator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Side of the first kernel: 3 as in the paper, 9 as in one of the implementations.
    pub first_kernel: usize,
    /// Channels of the first convolution.
    pub width: usize,
    /// Width of the first fully connected layer.
    pub hidden: usize,
}

impl Default for Config {
    /// The paper's: 23,565,505 weights.
    fn default() -> Self {
        Self {
            first_kernel: 3,
            width: 64,
            hidden: 1024,
        }
    }
}

/// A fully connected layer.
#[derive(Debug, Clone)]
struct Linear {
    /// (out, in).
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(vb: &VarBuilder, inputs: usize, outputs: usize) -> candle_core::Result<Self> {
        let init = pytorch_uniform(inputs);
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", init)?,
            bias: vb.get_with_hints(outputs, "bias", init)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

/// The discriminator with its weights.
#[derive(Debug, Clone)]
pub struct Discriminator {
    layers: Vec<(Conv, Option<BatchNorm>)>,
    dense: [Linear; 2],
}

impl Discriminator {
    /// Reads (or, in training, creates) the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(vb: &VarBuilder, config: &Config) -> Result<Self> {
        let Config {
            first_kernel,
            width,
            hidden,
        } = *config;
        ensure!(
            first_kernel % 2 == 1 && width > 0 && hidden > 0,
            "a discriminator has layers that are not empty and a first kernel of odd side, not \
             first_kernel {first_kernel}, width {width}, hidden {hidden}"
        );
        let seed = first_kernel != KERNEL;
        let place = |i: usize| match (seed, i) {
            (false, _) => vb.pp(format!("conv_blocks.{i}.conv_block")),
            (true, 0) => vb.pp("first_block"),
            (true, _) => vb.pp(format!("second_block.{}.conv", i - 1)),
        };
        let layer = |(i, &(units, stride)): (usize, &(usize, usize))| {
            let inputs = if i == 0 { 3 } else { LAYERS[i - 1].0 * width };
            let kernel = if i == 0 { first_kernel } else { KERNEL };
            let (outputs, init) = (units * width, pytorch_uniform(inputs * kernel * kernel));
            let (conv, shape) = (place(i).pp("0"), (outputs, inputs, kernel, kernel));
            let norm = (i > 0).then(|| BatchNorm::new(&place(i).pp("1"), outputs));
            let conv = Conv {
                weight: conv.get_with_hints(shape, "weight", init)?,
                bias: Some(conv.get_with_hints(outputs, "bias", init)?),
                spec: ConvSpec {
                    stride,
                    ..ConvSpec::default()
                },
            };
            Ok((conv, norm.transpose()?))
        };
        let layers = LAYERS.iter().enumerate().map(layer);
        let [first, second] = match seed {
            false => ["fc1", "fc2"],
            true => ["third_block.1", "third_block.3"],
        };
        let pooled = LAYERS[LAYERS.len() - 1].0 * width * POOLED * POOLED;
        Ok(Self {
            layers: layers.collect::<candle_core::Result<_>>()?,
            dense: [
                Linear::new(&vb.pp(first), pooled, hidden)?,
                Linear::new(&vb.pp(second), hidden, 1)?,
            ],
        })
    }

    /// Output of the convolutions for normalised images.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn features(&self, x: &Tensor, training: bool) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for (conv, norm) in &self.layers {
            x = match norm {
                Some(norm) if training => norm.train(&conv.forward(&x)?)?,
                Some(norm) => norm.folded(conv)?.forward(&x)?,
                None => conv.forward(&x)?,
            };
            x = leaky_relu(&x)?;
        }
        Ok(x)
    }

    /// A logit for each image (N, 3, H, W), normalised: (N, 1).
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn forward(&self, x: &Tensor, training: bool) -> candle_core::Result<Tensor> {
        let pooled = adaptive_average2d(&self.features(x, training)?, (POOLED, POOLED))?;
        let [first, second] = &self.dense;
        let hidden = ops::leaky_relu(&first.forward(&pooled.flatten_from(1)?)?, SLOPE)?;
        second.forward(&hidden)
    }
}

impl discriminator::Discriminator for Discriminator {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.forward(&normalised(images)?, true)
    }
}
