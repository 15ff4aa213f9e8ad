//! Convolutions with any stride, padding and dilation.

use super::config::{ConvSettings, Same};
use super::value::Limit;
use crate::ops::{Activation, Border, ConvSpec, conv2d, conv2d_joined};
use candle_core::{Result, Tensor, bail};

/// Zeros above, left, below and right.
pub(super) type Pads = [usize; 4];

/// Samples from the first to the last tap of a kernel.
fn reach(kernel: usize, dilation: usize) -> Result<usize> {
    match kernel
        .checked_sub(1)
        .and_then(|taps| taps.checked_mul(dilation))
    {
        Some(reach) => Ok(reach),
        None => bail!("a kernel without taps, or too large"),
    }
}

impl ConvSettings {
    /// The zeros around an image of a size.
    pub(super) fn padding(&self, size: [usize; 2], kernel: [usize; 2]) -> Result<Pads> {
        let Some(same) = self.same else {
            return Ok(self.pads);
        };
        let along = |axis: usize| {
            let stride = self.strides[axis].max(1);
            let needed = (size[axis].div_ceil(stride).max(1) - 1) * stride
                + reach(kernel[axis], self.dilations[axis])?
                + 1;
            let all = needed.saturating_sub(size[axis]);
            let less = all / 2;
            Ok::<_, candle_core::Error>(match same {
                Same::Upper => (less, all - less),
                Same::Lower => (all - less, less),
            })
        };
        let ((top, bottom), (left, right)) = (along(0)?, along(1)?);
        Ok([top, left, bottom, right])
    }

    /// The border that pads alike, for all sizes of images.
    pub(super) fn border(&self, kernel: [usize; 2]) -> Option<Border> {
        let half = |axis: usize| {
            let reach = reach(kernel[axis], self.dilations[axis]).ok()?;
            (reach % 2 == 0 && kernel[axis] % 2 == 1).then_some(reach / 2)
        };
        let pads = match self.same {
            Some(_) if self.strides == [1, 1] => [half(0)?, half(1)?, half(0)?, half(1)?],
            Some(_) => return None,
            None => self.pads,
        };
        match pads {
            [0, 0, 0, 0] => Some(Border::Valid),
            [top, left, bottom, right] => {
                let (rows, columns) = (half(0)?, half(1)?);
                let same = (top, bottom) == (rows, rows) && (left, right) == (columns, columns);
                same.then_some(Border::Zero)
            }
        }
    }
}

/// Convolves (N, Ci, H, W), whose channels may lie in several tensors, by (Co, Ci / groups,
/// Kh, Kw).
pub(super) fn conv(
    parts: &[Tensor],
    weights: &Tensor,
    bias: Option<&Tensor>,
    settings: &ConvSettings,
    limit: Limit,
) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        bail!("no image")
    };
    let (.., height, width) = first.dims4()?;
    let (.., rows, columns) = weights.dims4()?;
    let (kernel, strides) = ([rows, columns], settings.strides);
    let (weights, dilation) = match settings.dilations {
        [a, b] if a == b => (weights.clone(), a),
        dilations => (dilated(weights, dilations, limit)?, 1),
    };
    let weights = weights.contiguous()?;
    let stride = match strides {
        [1, 1] => 1,
        [2, 2] => 2,
        _ => 1,
    };
    let pads = settings.padding([height, width], kernel)?;
    let border = ConvSettings {
        pads,
        same: None,
        ..settings.clone()
    }
    .border(kernel);
    let dense = |x: &Tensor| match border {
        Some(_) if dilation == settings.dilations[0] => x.contiguous(),
        _ => zero_padded(x, pads, limit),
    };
    let parts = parts.iter().map(dense).collect::<Result<Vec<_>>>()?;
    let border = border.filter(|_| dilation == settings.dilations[0]);
    let border = border.unwrap_or(Border::Valid);
    let spec = ConvSpec {
        border,
        stride,
        dilation,
        groups: settings.group,
        activation: Activation::None,
    };
    let (batch, _, rows_in, columns_in) = parts[0].dims4()?;
    limit.check(&[batch, weights.dim(0)?, rows_in, columns_in])?;
    let y = conv2d_joined(&parts, &weights, bias, spec)?;
    match strides {
        [a, b] if a == stride && b == stride => Ok(y),
        [rows, columns] => every(&every(&y, 2, rows)?, 3, columns),
    }
}

/// The transposed convolution of (N, Ci, H, W) by (Ci, Co / groups, Kh, Kw): as a
/// convolution of the image with zeros between its samples.
pub(super) fn transposed(
    x: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    settings: &ConvSettings,
    limit: Limit,
) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (inputs, outputs, rows, columns) = weights.dims4()?;
    let group = settings.group;
    if inputs != channels || group == 0 || inputs % group != 0 || settings.same.is_some() {
        bail!(
            "{channels} channels in {group} groups do not fit weights {:?}",
            weights.dims()
        )
    }
    let flip = |tensor: &Tensor, axis: usize, length: usize| {
        let indices = Tensor::from_iter((0..length as u32).rev(), tensor.device())?;
        tensor.index_select(&indices, axis)
    };
    let kernels = weights
        .reshape((group, inputs / group, outputs, rows, columns))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((group * outputs, inputs / group, rows, columns))?;
    let kernels = dilated(
        &flip(&flip(&kernels, 2, rows)?, 3, columns)?,
        settings.dilations,
        limit,
    )?;
    let [sy, sx] = settings.strides;
    limit.check(&[batch, channels, height * sy, width * sx])?;
    if height == 0 || width == 0 {
        bail!("an image without samples")
    }
    let spread = x
        .reshape((batch * channels, height, 1, width, 1))?
        .pad_with_zeros(2, 0, sy.saturating_sub(1))?
        .pad_with_zeros(4, 0, sx.saturating_sub(1))?
        .reshape((batch, channels, height * sy, width * sx))?
        .narrow(2, 0, (height - 1) * sy + 1)?
        .narrow(3, 0, (width - 1) * sx + 1)?;
    let [top, left, bottom, right] = settings.pads;
    let reaches = [
        reach(rows, settings.dilations[0])?,
        reach(columns, settings.dilations[1])?,
    ];
    let moved = |x: &Tensor, axis: usize, before: usize, after: usize, more: usize| {
        let reach = reaches[axis - 2];
        let start = before.saturating_sub(reach);
        let end = after.saturating_sub(reach + more);
        let length = x.dim(axis)?;
        let Some(kept) = length.checked_sub(start + end).filter(|&kept| kept > 0) else {
            bail!("its padding leaves nothing of {length} samples")
        };
        let mut shape = x.dims().to_vec();
        shape[axis] = kept + 2 * reach + more;
        limit.check(&shape)?;
        x.narrow(axis, start, kept)?.pad_with_zeros(
            axis,
            reach.saturating_sub(before),
            (reach + more).saturating_sub(after),
        )
    };
    let x = moved(&spread, 2, top, bottom, settings.output_padding[0])?;
    let x = moved(&x, 3, left, right, settings.output_padding[1])?;
    let (.., tall, wide) = x.dims4()?;
    limit.check(&[batch, group * outputs, tall, wide])?;
    let spec = ConvSpec {
        border: Border::Valid,
        groups: group,
        ..ConvSpec::default()
    };
    conv2d(&x.contiguous()?, &kernels.contiguous()?, bias, spec)
}

/// Zeros around an image.
fn zero_padded(x: &Tensor, [top, left, bottom, right]: Pads, limit: Limit) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    limit.check(&[batch, channels, height + top + bottom, width + left + right])?;
    let x = x.pad_with_zeros(2, top, bottom)?;
    x.pad_with_zeros(3, left, right)?.contiguous()
}

/// A kernel with zeros between its taps.
fn dilated(weights: &Tensor, [down, across]: [usize; 2], limit: Limit) -> Result<Tensor> {
    if [down, across] == [1, 1] {
        return Ok(weights.clone());
    }
    let (outputs, inputs, rows, columns) = weights.dims4()?;
    let (tall, wide) = (reach(rows, down)? + 1, reach(columns, across)? + 1);
    limit.check(&[outputs, inputs, rows * down, columns * across])?;
    weights
        .reshape((outputs * inputs, rows, 1, columns, 1))?
        .pad_with_zeros(2, 0, down.saturating_sub(1))?
        .pad_with_zeros(4, 0, across.saturating_sub(1))?
        .reshape((outputs, inputs, rows * down, columns * across))?
        .narrow(2, 0, tall)?
        .narrow(3, 0, wide)
}

/// Every `step`th slice of an axis.
pub(super) fn every(x: &Tensor, axis: usize, step: usize) -> Result<Tensor> {
    if step == 1 {
        return Ok(x.clone());
    }
    let indices = (0..x.dim(axis)? as u32).step_by(step.max(1));
    x.index_select(&Tensor::from_iter(indices, x.device())?, axis)
}
