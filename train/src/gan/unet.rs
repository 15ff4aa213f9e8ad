//! Real-ESRGAN's discriminator, which Real-DRCT uses, too: a U-Net with
//! spectral normalisation and a logit for every pixel.
//!
//! Xintao Wang et al., "Real-ESRGAN: Training Real-World Blind
//! Super-Resolution with Pure Synthetic Data", ICCV 2021 workshops; Takeru
//! Miyato et al., "Spectral Normalization for Generative Adversarial
//! Networks", ICLR 2018. Key names as in `XPixelGroup/BasicSR`.

use super::discriminator::{self, leaky_relu};
use anyhow::{Result, ensure};
use candle_core::{Tensor, Var};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};
use srfilter::nn::{Conv, pytorch_uniform};
use srfilter::ops::{Border, ConvSpec, conv2d, upsample_bilinear2d};

/// Guards a vector's length against division by zero, as PyTorch does.
const EPS: f64 = 1e-12;

/// Names of the vectors of a spectral normalisation.
const VECTORS: [&str; 2] = ["weight_u", "weight_v"];

/// Images must have sides that are multiples of it.
const MULTIPLE: usize = 8;

/// Whether a tensor of that name is a vector of a spectral normalisation,
/// which no optimiser changes.
pub fn is_vector(name: &str) -> bool {
    let last = name.rsplit('.').next();
    last.is_some_and(|last| VECTORS.contains(&last))
}

/// Shape of the discriminator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels of the first convolution.
    pub width: usize,
}

impl Default for Config {
    /// The published one's.
    fn default() -> Self {
        Self { width: 64 }
    }
}

/// A convolution without bias whose weights are divided by their largest
/// singular value, which one step of power iteration a use follows.
#[derive(Debug, Clone)]
struct Spectral {
    /// (out, in, side, side).
    weight: Tensor,
    /// (out), (in * side * side).
    vectors: [Tensor; 2],
    halves: bool,
}

impl Spectral {
    /// 4x4 kernels that halve the image, or 3x3 kernels.
    fn new(
        vb: &VarBuilder,
        inputs: usize,
        outputs: usize,
        halves: bool,
    ) -> candle_core::Result<Self> {
        let side = if halves { 4 } else { 3 };
        let inner = inputs * side * side;
        let shape = (outputs, inputs, side, side);
        let random = Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        };
        let [u, v] = VECTORS;
        Ok(Self {
            weight: vb.get_with_hints(shape, "weight_orig", pytorch_uniform(inner))?,
            vectors: [
                vb.get_with_hints(outputs, u, random)?,
                vb.get_with_hints(inner, v, random)?,
            ],
            halves,
        })
    }

    /// The weights divided by their norm. In training the vectors are updated.
    fn normalised(&self, training: bool) -> candle_core::Result<Tensor> {
        let matrix = self.weight.flatten_from(1)?;
        // Copies: the graph of an earlier use may still need the old ones.
        let [u, v] = match training {
            true => self.iterated(&matrix.detach())?,
            false => [self.vectors[0].detach(), self.vectors[1].detach()],
        };
        let (u, v) = (u.reshape((1, ()))?, v.reshape(((), 1))?);
        let norm = u.matmul(&matrix.matmul(&v)?)?;
        self.weight.broadcast_div(&norm.reshape((1, 1, 1, 1))?)
    }

    fn iterated(&self, matrix: &Tensor) -> candle_core::Result<[Tensor; 2]> {
        let unit = |x: Tensor| -> candle_core::Result<Tensor> {
            let length = f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
            (x / length.max(EPS))?.flatten_all()
        };
        let u = self.vectors[0].detach().reshape((1, ()))?;
        let v = unit(u.matmul(matrix)?)?;
        let u = unit(matrix.matmul(&v.reshape(((), 1))?)?)?;
        for (stored, new) in self.vectors.iter().zip([&u, &v]) {
            if stored.is_variable() {
                Var::from_tensor(stored)?.set(new)?;
            }
        }
        Ok([u, v])
    }

    fn forward(&self, x: &Tensor, training: bool) -> candle_core::Result<Tensor> {
        let weight = self.normalised(training)?;
        let output = match self.halves {
            true => {
                let x = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
                let spec = ConvSpec {
                    border: Border::Valid,
                    stride: 2,
                    ..ConvSpec::default()
                };
                conv2d(&x, &weight, None, spec)?
            }
            false => conv2d(x, &weight, None, ConvSpec::default())?,
        };
        leaky_relu(&output)
    }
}

/// The discriminator with its weights.
#[derive(Debug, Clone)]
pub struct Discriminator {
    first: Conv,
    down: [Spectral; 3],
    up: [Spectral; 3],
    end: [Spectral; 2],
    last: Conv,
}

impl Discriminator {
    /// Reads (or, in training, creates) the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(vb: &VarBuilder, config: &Config) -> Result<Self> {
        let width = config.width;
        ensure!(
            width > 0,
            "a discriminator has layers that are not empty: width is 0"
        );
        let plain = |name: &str, inputs: usize, outputs: usize| -> candle_core::Result<Conv> {
            let (vb, init) = (vb.pp(name), pytorch_uniform(inputs * 9));
            Ok(Conv {
                weight: vb.get_with_hints((outputs, inputs, 3, 3), "weight", init)?,
                bias: Some(vb.get_with_hints(outputs, "bias", init)?),
                spec: ConvSpec::default(),
            })
        };
        let spectral = |name: &str, inputs: usize, outputs: usize, halves| {
            Spectral::new(&vb.pp(name), inputs * width, outputs * width, halves)
        };
        Ok(Self {
            first: plain("conv0", 3, width)?,
            down: [
                spectral("conv1", 1, 2, true)?,
                spectral("conv2", 2, 4, true)?,
                spectral("conv3", 4, 8, true)?,
            ],
            up: [
                spectral("conv4", 8, 4, false)?,
                spectral("conv5", 4, 2, false)?,
                spectral("conv6", 2, 1, false)?,
            ],
            end: [
                spectral("conv7", 1, 1, false)?,
                spectral("conv8", 1, 1, false)?,
            ],
            last: plain("conv9", width, 1)?,
        })
    }

    /// A logit for every pixel: (N, 3, H, W) in, (N, 1, H, W) out.
    ///
    /// # Errors
    ///
    /// A tensor of another shape, sides that are no multiples of 8.
    pub fn forward(&self, x: &Tensor, training: bool) -> candle_core::Result<Tensor> {
        let (.., height, width) = x.dims4()?;
        if height % MULTIPLE + width % MULTIPLE > 0 {
            candle_core::bail!(
                "the U-Net discriminator takes sides that are multiples of {MULTIPLE}, not \
                 {width}x{height}"
            )
        }
        let mut levels = vec![leaky_relu(&self.first.forward(x)?)?];
        for conv in &self.down {
            let output = conv.forward(&levels[levels.len() - 1], training)?;
            levels.push(output);
        }
        let mut x = levels[self.down.len()].clone();
        for (conv, level) in self.up.iter().zip(levels.iter().rev().skip(1)) {
            x = (conv.forward(&upsample_bilinear2d(&x, 2)?, training)? + level)?;
        }
        for conv in &self.end {
            x = conv.forward(&x, training)?;
        }
        self.last.forward(&x)
    }
}

impl discriminator::Discriminator for Discriminator {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.forward(images, true)
    }
}
