//! What operations are told to do: plain data, without tensors or devices.

use serde::{Deserialize, Serialize};

/// What lies around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// Zeros; the result has the size of the image.
    #[default]
    Zero,
    /// The edge of the image, repeated; the result has the size of the image.
    Replicate,
    /// Nothing; the result is smaller by the reach of the kernel.
    Valid,
}

/// What is applied to each result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// The larger of the result and zero. The gradient at zero is zero.
    Relu,
}

/// The settings of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvSpec {
    /// What lies around the image.
    pub border: Border,
    /// Distance of neighbouring results, 1 or 2.
    pub stride: usize,
    /// Distance of neighbouring taps of the kernel.
    pub dilation: usize,
    /// Equal parts that input and output channels are divided into, each
    /// output depending on the inputs of its own part only.
    pub groups: usize,
    /// What is applied to each result.
    pub activation: Activation,
}

impl Default for ConvSpec {
    fn default() -> Self {
        Self {
            border: Border::Zero,
            stride: 1,
            dilation: 1,
            groups: 1,
            activation: Activation::None,
        }
    }
}

/// The sizes of a convolution: the kernel fits, nothing is empty, and groups
/// divide the channels, as `conv2d` checks. Pairs are height and width.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ConvGeometry {
    pub(super) batch: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) groups: usize,
    pub(super) image: (usize, usize),
    pub(super) kernel: (usize, usize),
    pub(super) dilation: usize,
    pub(super) stride: usize,
    pub(super) border: Border,
    pub(super) relu: bool,
}

impl ConvGeometry {
    /// Distance of the first and the last tap.
    pub(super) fn reach(&self) -> (usize, usize) {
        let along = |taps| (taps - 1) * self.dilation;
        (along(self.kernel.0), along(self.kernel.1))
    }

    /// Height and width of the border at each side.
    pub(super) fn pad(&self) -> (usize, usize) {
        match self.border {
            Border::Valid => (0, 0),
            Border::Zero | Border::Replicate => (self.reach().0 / 2, self.reach().1 / 2),
        }
    }

    /// Size of the image with its border.
    pub(super) fn padded(&self) -> (usize, usize) {
        let (pad, image) = (self.pad(), self.image);
        (image.0 + 2 * pad.0, image.1 + 2 * pad.1)
    }

    /// Size of the result at stride 1.
    pub(super) fn grid(&self) -> (usize, usize) {
        let (padded, reach) = (self.padded(), self.reach());
        (padded.0 - reach.0, padded.1 - reach.1)
    }

    /// Size of the result.
    pub(super) fn size(&self) -> (usize, usize) {
        let (height, width) = self.grid();
        (height.div_ceil(self.stride), width.div_ceil(self.stride))
    }

    /// Height and width of the zeros at each side of the gradient of the result, from
    /// which a convolution computes that of [`ConvGeometry::grad_grid`].
    pub(super) fn grad_pad(&self) -> (usize, usize) {
        let (reach, pad) = (self.reach(), self.pad());
        match self.border {
            Border::Zero => (reach.0 - pad.0, reach.1 - pad.1),
            Border::Replicate | Border::Valid => reach,
        }
    }

    /// Size of the part of the padded image whose gradient is computed, which
    /// leaves out a border of zeros.
    pub(super) fn grad_grid(&self) -> (usize, usize) {
        match self.border {
            Border::Zero => self.image,
            Border::Replicate | Border::Valid => self.padded(),
        }
    }
}

/// How an optimiser updates each element: as Adam, or as gradient descent with
/// momentum, as PyTorch computes them.
///
/// Diederik P. Kingma, Jimmy Ba, "Adam: A Method for Stochastic
/// Optimization", ICLR 2015.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateRule {
    /// What the gradient is multiplied by first.
    pub grad_scale: f32,
    /// Bound of the scaled gradient's elements, either side of zero.
    pub clip_value: f32,
    /// Added to the gradient per unit of the parameter.
    pub weight_decay: f32,
    /// What the parameter is multiplied by before the step: 1 less the
    /// learning rate times the decay of AdamW.
    pub decoupled_decay: f32,
    /// Decay rate of the running sum of gradients, or `None` for Adam.
    pub momentum: Option<f32>,
    /// Decay rate of Adam's first moment.
    pub beta1: f32,
    /// What that lacks to 1.
    pub one_less_beta1: f32,
    /// Decay rate of Adam's second moment.
    pub beta2: f32,
    /// What that lacks to 1.
    pub one_less_beta2: f32,
    /// Root of what the second moment is divided by.
    pub root_correction2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// The learning rate, over what the first moment is divided by.
    pub step_size: f32,
}
