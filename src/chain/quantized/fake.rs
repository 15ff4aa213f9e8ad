//! Chains with their rounding to 8 bits, in f32: what networks are trained with.
//!
//! Values are rounded as the integers would be, and gradients pass the rounding
//! (straight-through estimator: Yoshua Bengio et al., 2013,
//! <https://arxiv.org/abs/1308.3432>), but not the ends of a range.

use super::layers::{Place, Quantization, scaled_by_planes, values, weight_scales};
use super::range::{Range, Ranges};
use crate::chain::{Chain, ChainLayer};
use crate::models::{BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Upsampling};
use crate::nn::Conv;
use crate::ops::Border;
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use std::sync::Arc;

/// `y`, of which the values are `rounded` and the gradients those of `y`.
fn straight_through(y: &Tensor, rounded: &Tensor) -> candle_core::Result<Tensor> {
    y + (rounded - y)?.detach()
}

/// Values rounded to samples of 8 bits.
fn rounded_samples(y: &Tensor, range: Range) -> candle_core::Result<Tensor> {
    let (step, zero) = (f64::from(range.step), f64::from(range.zero));
    let scaled = y.affine(1.0 / step, zero)?.clamp(0f32, 255f32)?;
    let rounded = straight_through(&scaled, &scaled.round()?)?;
    rounded.affine(step, -zero * step)
}

/// A convolution with rounded weights.
fn rounded_weights(conv: &Conv, first: bool, planes: &[(f32, f32)]) -> candle_core::Result<Conv> {
    let (outputs, inputs, height, width) = conv.weight.dims4()?;
    let shape = [outputs, inputs, height, width];
    let mut weights = values(&conv.weight)?;
    if first {
        scaled_by_planes(&mut weights, height * width, planes);
    }
    let mut scales = Vec::new();
    for scale in weight_scales(&weights, shape, first) {
        let of_plane = |input: usize| match first {
            true => scale / planes[input].0,
            false => scale,
        };
        scales.extend((0..inputs).map(of_plane));
    }
    let scales = Tensor::from_vec(scales, (outputs, inputs, 1, 1), conv.weight.device())?;
    let rounded = conv.weight.broadcast_div(&scales)?.round()?;
    let rounded = rounded.broadcast_mul(&scales)?;
    Ok(Conv {
        weight: straight_through(&conv.weight, &rounded)?,
        ..conv.clone()
    })
}

impl Chain {
    /// As [`Chain::forward`], with weights and samples rounded as the chain in
    /// integers has them. Differentiable.
    ///
    /// # Errors
    ///
    /// A layer without a range, shapes that do not fit.
    pub fn forward_rounded(&self, x: &Tensor, ranges: &Ranges) -> candle_core::Result<Tensor> {
        let planes = self.combined_affine(x.dim(1)?);
        let convolve = |i: usize, link: &ChainLayer, y: &Tensor| {
            let first = Place::of(i, self).first;
            rounded_weights(&link.conv, first, &planes)?.forward(y)
        };
        self.forward_by(x, convolve, |boundary, y| {
            let Some(i) = boundary.checked_sub(1) else {
                return Ok(y);
            };
            let name = self.layers[i].name_at(i);
            match (Place::of(i, self).last, ranges.get(&name)) {
                (true, _) => Ok(y),
                (false, Some(range)) => rounded_samples(&y, range),
                (false, None) => candle_core::bail!("layer {name} has not been calibrated"),
            }
        })
    }
}

/// A network with the rounding of its chains to 8 bits, in f32: for training, and
/// for measuring what a training has reached.
pub struct QuantizedNetwork {
    network: Box<dyn Network>,
    ranges: Arc<Ranges>,
}

impl std::fmt::Debug for QuantizedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedNetwork")
            .field("ranges", &self.ranges)
            .finish_non_exhaustive()
    }
}

impl QuantizedNetwork {
    /// A network whose samples have these ranges.
    pub fn new(network: Box<dyn Network>, ranges: Arc<Ranges>) -> Self {
        Self { network, ranges }
    }

    fn chain(&self, scale: Scale) -> Result<Chain> {
        chain_of(self.network.as_ref(), scale)
    }
}

impl Network for QuantizedNetwork {
    fn channels(&self) -> Channels {
        self.network.channels()
    }

    fn scales(&self) -> &Scales {
        self.network.scales()
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        Ok(Box::new(RoundedChain {
            chain: self.chain(scale)?,
            ranges: Arc::clone(&self.ranges),
        }))
    }

    fn reparameterized(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        self.network.reparameterized()
    }

    fn quantization(&self) -> Result<Option<Quantization>> {
        let Scales::List(scales) = self.scales() else {
            return Ok(None);
        };
        let chains = scales.iter().map(|&scale| self.chain(scale));
        let chains = chains.collect::<Result<Vec<_>>>()?;
        Quantization::of_chains(&chains, &self.ranges).map(Some)
    }
}

/// The chain of a network for one of its scales.
///
/// # Errors
///
/// A network that is no chain of convolutions.
pub fn chain_of(network: &dyn Network, scale: Scale) -> Result<Chain> {
    let chain = network.for_scale(scale)?.chain()?;
    let problem = "only networks that are chains of convolutions run in 8-bit integers";
    Ok(chain.ok_or_else(|| Error::Setting(problem.to_owned()))?)
}

/// A chain that runs by [`Chain::forward_rounded`].
struct RoundedChain {
    chain: Chain,
    ranges: Arc<Ranges>,
}

impl ScaleNetwork for RoundedChain {
    fn upsampling(&self) -> Upsampling {
        self.chain.upsampling()
    }

    fn halo(&self) -> usize {
        self.chain.halo()
    }

    fn border(&self) -> Border {
        self.chain.border()
    }

    fn macs(&self) -> u64 {
        self.chain.macs()
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.chain.forward_rounded(x, &self.ranges)
    }
}
