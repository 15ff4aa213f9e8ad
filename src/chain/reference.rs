//! A chain, layer by layer: what the fused engine's results are measured by,
//! and what training differentiates.

use super::{Chain, ChainLayer};
use crate::nn::Bicubic;
use crate::ops::{Border, prelu, tanh};
use candle_core::{Result, Tensor, bail};
use candle_nn::ops::pixel_shuffle;

impl Chain {
    /// How many times as wide and as high as its input the result is.
    pub fn factor(&self) -> usize {
        self.layers.iter().map(|link| link.shuffle).product()
    }

    /// How far beyond a result its input reaches, in samples of the input.
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

    /// As [`Chain::forward`]; `after` sees (and may change) what the
    /// convolution of each link makes, before all that follows it.
    ///
    /// # Errors
    ///
    /// Shapes that do not fit.
    pub fn forward_with(
        &self,
        x: &Tensor,
        mut after: impl FnMut(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let added_after = |boundary: usize, link: usize| {
            let rest = self.layers.iter().skip(link);
            rest.into_iter().any(|link| link.skip == Some(boundary))
        };
        let mut kept: Vec<Option<Tensor>> = vec![None; self.layers.len()];
        let mut y = self.enter(x)?;
        for (i, link) in self.layers.iter().enumerate() {
            if added_after(i, i) {
                kept[i] = Some(y.clone());
            }
            y = after(i, link.conv.forward(&y)?)?;
            if let Some(slope) = &link.slope {
                y = prelu(&y, slope)?;
            }
            if let Some(skip) = link.skip {
                let Some(other) = kept.get(skip).cloned().flatten() else {
                    bail!("link {i} of a chain adds boundary {skip}, which is not before it")
                };
                y = (y + other)?;
                if !added_after(skip, i + 1) {
                    kept[skip] = None;
                }
            }
            if link.shuffle > 1 {
                y = pixel_shuffle(&y, link.shuffle)?;
            }
        }
        self.leave(x, y)
    }

    /// What the first convolution sees.
    fn enter(&self, x: &Tensor) -> Result<Tensor> {
        let x = match self.shift {
            0.0 => x.clone(),
            shift => (x - f64::from(shift))?,
        };
        if self.input.is_empty() {
            return Ok(x);
        }
        let plane = |value: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = self.input.iter().map(value).collect();
            Tensor::from_vec(values, (1, self.input.len(), 1, 1), x.device())
        };
        x.broadcast_mul(&plane(|p| p.0)?)?
            .broadcast_add(&plane(|p| p.1)?)
    }

    /// What becomes of the last link's result.
    fn leave(&self, x: &Tensor, mut y: Tensor) -> Result<Tensor> {
        let factor = self.factor();
        if self.base {
            y = match factor {
                1 => (y + x)?,
                _ => (y + self.enlarged(x, factor)?)?,
            };
        }
        if self.nearest {
            let (_, _, height, width) = x.dims4()?;
            y = (y + repeated(x, (height, width), factor)?)?;
        }
        match self.tanh {
            true => (tanh(&y)? + 1.0)? * 0.5,
            false => Ok(y),
        }
    }

    /// The input, bicubically enlarged.
    fn enlarged(&self, x: &Tensor, factor: usize) -> Result<Tensor> {
        let border = |link: &ChainLayer| link.conv.spec.border;
        if self.layers.iter().any(|link| border(link) == Border::Valid) {
            bail!("a chain that eats its border adds no enlarged input")
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
