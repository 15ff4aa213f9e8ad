//! Chains with their rounding to 8 bits, in f32: what networks are trained with.
//!
//! Values are rounded as the integers would be, and gradients pass the rounding
//! (straight-through estimator: Yoshua Bengio et al., 2013,
//! <https://arxiv.org/abs/1308.3432>), but not the ends of a range.

use super::layers::{Place, scaled_by_planes, values, weight_scales};
use super::range::{Range, Ranges};
use crate::chain::{Chain, ChainLayer};
use crate::nn::Conv;
use candle_core::Tensor;

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
