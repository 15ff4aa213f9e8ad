//! The losses: that of `[train]`, and the sections `[perceptual]`,
//! `[adversarial]` and `[distillation]`.

use super::data::once;
use crate::gan::{srgan, unet};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The loss, a mean over all samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Loss {
    /// Squared error.
    Mse,
    /// Absolute error.
    L1,
    /// Smoothed absolute error.
    Charbonnier,
    /// Structural dissimilarity, (1 - SSIM) / 2.
    Dssim,
    /// Negated PSNR of the batch: the logarithm of the squared error, so that
    /// difficult scales do not dominate.
    Psnr,
}

/// A perceptual loss, added to the loss: the distance of image features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perceptual {
    /// Weights of a VGG (torchvision's names) or a SqueezeNet 1.0.
    pub weights: PathBuf,
    /// Layers and the factors of their distances: `conv5_4` before, `relu5_4`
    /// after the ReLU; SqueezeNet's are `conv1`, `fire2` to `fire9`.
    pub layers: BTreeMap<String, f64>,
    /// How features are compared.
    #[serde(default)]
    pub distance: Distance,
    /// Factor of the whole.
    #[serde(default = "once")]
    pub weight: f64,
}

/// How features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Mean absolute difference.
    L1,
    /// Mean squared difference.
    #[default]
    Mse,
}

/// An adversarial loss, added to the loss. Every step of the generator is
/// followed by one of the discriminator, on the same batch; the best weights
/// are then the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {
    /// The discriminator.
    pub discriminator: DiscriminatorConfig,
    /// Factor of the loss.
    pub weight: f64,
    /// The discriminator's highest learning rate, on the network's schedule;
    /// `train.lr` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
}

/// A discriminator: its name and what differs from the published one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum DiscriminatorConfig {
    /// SRGAN's: a logit an image.
    Srgan(srgan::Config),
    /// Real-ESRGAN's, a U-Net with spectral normalisation: a logit a pixel.
    Unet(unet::Config),
}

/// Knowledge distillation: the target is the image's high resolution mixed with the
/// output of a larger network.
///
/// Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural
/// Network", 2015, <https://arxiv.org/abs/1503.02531>.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// Weights files of the larger networks, one for each scale. At other scales the
    /// target is the image's alone.
    pub weights: BTreeMap<Scale, PathBuf>,
    /// Share of the larger network's output in the target, up to 1.
    #[serde(default = "half")]
    pub share: f64,
}

fn half() -> f64 {
    0.5
}
