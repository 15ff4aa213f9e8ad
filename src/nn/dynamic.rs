//! Dynamic convolution.

use super::pytorch_uniform;
use crate::ops::{ConvSpec, conv2d, softmax};
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// Sizes of a [`DynamicConv`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DynamicSpec {
    /// Channels in and out.
    pub channels: usize,
    /// Size of the kernels.
    pub kernel: usize,
    /// Number of kernels in the mixture.
    pub kernels: usize,
    /// Channels inside the attention.
    pub squeezed: usize,
    /// Temperature of the attention's softmax.
    pub temperature: f64,
}

/// A convolution whose kernel is a mixture of several, weighted for each image
/// of the batch by its channel means (global average pooling).
///
/// Yinpeng Chen et al., "Dynamic Convolution: Attention over Convolution
/// Kernels", CVPR 2020, <https://arxiv.org/abs/1912.03458>.
#[derive(Debug, Clone)]
pub struct DynamicConv {
    spec: DynamicSpec,
    /// (kernels, out, in, size, size).
    weight: Tensor,
    /// (kernels, out).
    bias: Tensor,
    /// (squeezed, in).
    squeeze: Tensor,
    /// (kernels, squeezed).
    expand: Tensor,
}

impl DynamicConv {
    /// Reads (or, in training, creates) `weight`, `bias`,
    /// `attention.net.0.weight` and `attention.net.2.weight`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape.
    pub fn new(vb: &VarBuilder, spec: DynamicSpec) -> Result<Self> {
        let DynamicSpec {
            channels,
            kernel,
            kernels,
            squeezed,
            ..
        } = spec;
        // He uniform for the kernels, He normal (fan-out) for the attention.
        let fan_in = (channels * kernel * kernel) as f64;
        let up = (6.0 / fan_in).sqrt();
        let normal = |stdev| Init::Randn { mean: 0.0, stdev };
        let attention = |name: &str, outputs: usize, inputs: usize| {
            let init = normal((2.0 / outputs as f64).sqrt());
            let name = format!("attention.net.{name}.weight");
            let tensor = vb.get_with_hints((outputs, inputs, 1, 1), &name, init)?;
            tensor.reshape((outputs, inputs))
        };
        let shape = (kernels, channels, channels, kernel, kernel);
        Ok(Self {
            weight: vb.get_with_hints(shape, "weight", Init::Uniform { lo: -up, up })?,
            bias: vb.get_with_hints((kernels, channels), "bias", normal(1.0))?,
            squeeze: attention("0", squeezed, channels)?,
            expand: attention("2", kernels, squeezed)?,
            spec,
        })
    }

    /// The weight of each kernel, (N, kernels), from the image's channel means,
    /// (N, C).
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn attention(&self, means: &Tensor) -> Result<Tensor> {
        let squeezed = means.matmul(&self.squeeze.t()?)?.relu()?;
        let logits = squeezed.matmul(&self.expand.t()?)?;
        softmax(&(logits / self.spec.temperature)?)
    }

    /// MACs for each sample of a plane.
    pub fn macs(&self) -> u64 {
        (self.weight.elem_count() / self.spec.kernels) as u64
    }

    /// (N, C, H, W) in and out, with the weights from
    /// [`DynamicConv::attention`].
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn forward(&self, x: &Tensor, attention: &Tensor) -> Result<Tensor> {
        let (batch, ..) = x.dims4()?;
        let DynamicSpec {
            channels, kernel, ..
        } = self.spec;
        let weights = attention.matmul(&self.weight.flatten_from(1)?)?;
        let biases = attention.matmul(&self.bias)?;
        let sample = |n: usize| {
            let weight = weights
                .get(n)?
                .reshape((channels, channels, kernel, kernel))?;
            let bias = biases.get(n)?;
            conv2d(
                &x.narrow(0, n, 1)?,
                &weight,
                Some(&bias),
                ConvSpec::default(),
            )
        };
        Tensor::cat(&(0..batch).map(sample).collect::<Result<Vec<_>>>()?, 0)
    }
}

/// A convolution without bias, initialised as PyTorch does.
pub(crate) fn conv_no_bias(
    vb: &VarBuilder,
    (inputs, outputs): (usize, usize),
    kernel: usize,
    spec: ConvSpec,
) -> Result<super::Conv> {
    let init = pytorch_uniform(inputs * kernel * kernel);
    Ok(super::Conv {
        weight: vb.get_with_hints((outputs, inputs, kernel, kernel), "weight", init)?,
        bias: None,
        spec,
    })
}
