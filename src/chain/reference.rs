//! A chain, layer by layer: the reference for the fused executors, and what
//! training differentiates.

use super::{Chain, ChainLayer};
use crate::nn::Bicubic;
use crate::ops::{Border, prelu, tanh};
use candle_core::{Result, Tensor, bail};
use candle_nn::ops::pixel_shuffle;

impl Chain {
    /// Width of the result in widths of the input.
    pub fn factor(&self) -> usize {
        self.layers.iter().map(|link| link.shuffle).product()
    }

    /// Samples of the input beyond an area that its result depends on.
    pub fn halo(&self) -> usize {
        let back = |reach: usize, link: &ChainLayer| {
            let side = link.conv.weight.dims().last().copied().unwrap_or(1);
            reach.div_ceil(link.shuffle) + link.conv.spec.dilation * (side / 2)
        };
        self.layers.iter().rev().fold(0, back)
    }

    /// Multiplications for each sample of a plane of the input.
    pub fn macs(&self) -> u64 {
        let mut area = 1;
        let macs = self.layers.iter().map(|link| {
            let macs = area * link.conv.macs();
            area *= (link.shuffle * link.shuffle) as u64;
            macs
        });
        macs.sum()
    }

    /// (N, C, H, W) in, the result, [`Chain::factor`] times as large, out.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, |_, y| Ok(y))
    }

    /// As [`Chain::forward`]; `after` gets, and may change, the output of each
    /// convolution before what follows it.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn forward_with(
        &self,
        x: &Tensor,
        mut after: impl FnMut(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.forward_by(
            x,
            |i, link, y| after(i, link.conv.forward(y)?),
            |_, y| Ok(y),
        )
    }

    /// As [`Chain::forward`]; `convolve` computes the convolutions, and `at` gets,
    /// and may change, the value at each boundary before any shuffling.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub(super) fn forward_by(
        &self,
        x: &Tensor,
        mut convolve: impl FnMut(usize, &ChainLayer, &Tensor) -> Result<Tensor>,
        mut at: impl FnMut(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let added_after = |boundary: usize, link: usize| {
            let rest = self.layers.iter().skip(link);
            rest.into_iter().any(|link| link.skip == Some(boundary))
        };
        let mut skips: Vec<Option<Tensor>> = vec![None; self.layers.len()];
        let mut y = at(0, self.preprocess(x)?)?;
        for (i, link) in self.layers.iter().enumerate() {
            if added_after(i, i) {
                skips[i] = Some(y.clone());
            }
            y = convolve(i, link, &y)?;
            if let Some(slope) = &link.slope {
                y = prelu(&y, slope)?;
            }
            if let Some(skip) = link.skip {
                let Some(other) = skips.get(skip).cloned().flatten() else {
                    bail!("link {i} of a chain adds boundary {skip}, which is not before it")
                };
                y = (y + other)?;
                if !added_after(skip, i + 1) {
                    skips[skip] = None;
                }
            }
            y = at(i + 1, y)?;
            if link.shuffle > 1 {
                y = pixel_shuffle(&y, link.shuffle)?;
            }
        }
        self.postprocess(x, y)
    }

    /// The input of the first convolution.
    fn preprocess(&self, x: &Tensor) -> Result<Tensor> {
        let x = match self.input_mean {
            0.0 => x.clone(),
            mean => (x - f64::from(mean))?,
        };
        if self.input_affine.is_empty() {
            return Ok(x);
        }
        let plane = |value: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = self.input_affine.iter().map(value).collect();
            Tensor::from_vec(values, (1, self.input_affine.len(), 1, 1), x.device())
        };
        x.broadcast_mul(&plane(|p| p.0)?)?
            .broadcast_add(&plane(|p| p.1)?)
    }

    /// The [`Epilogue`](super::Epilogue).
    fn postprocess(&self, x: &Tensor, mut y: Tensor) -> Result<Tensor> {
        let factor = self.factor();
        if self.epilogue.residual_bicubic {
            y = match factor {
                1 => (y + x)?,
                _ => (y + self.enlarged(x, factor)?)?,
            };
        }
        if self.epilogue.residual_nearest {
            let (_, _, height, width) = x.dims4()?;
            y = (y + repeated(x, (height, width), factor)?)?;
        }
        match self.epilogue.tanh {
            true => (tanh(&y)? + 1.0)? * 0.5,
            false => Ok(y),
        }
    }

    /// The input, bicubically enlarged.
    fn enlarged(&self, x: &Tensor, factor: usize) -> Result<Tensor> {
        let border = |link: &ChainLayer| link.conv.spec.border;
        if self.layers.iter().any(|link| border(link) == Border::Valid) {
            bail!("a chain without padding cannot add its enlarged input")
        }
        let (batch, planes, height, width) = x.dims4()?;
        let x = x.reshape((batch * planes, 1, height, width))?;
        let y = Bicubic::new(factor, x.device())?.forward(&x)?;
        pixel_shuffle(&y, factor)?.reshape((batch, planes, height * factor, width * factor))
    }
}

/// Every sample as a square of `factor` x `factor`.
fn repeated(x: &Tensor, (height, width): (usize, usize), factor: usize) -> Result<Tensor> {
    let (batch, planes, ..) = x.dims4()?;
    x.reshape((batch, planes, height, 1, width, 1))?
        .broadcast_as((batch, planes, height, factor, width, factor))?
        .reshape((batch, planes, height * factor, width * factor))
}
