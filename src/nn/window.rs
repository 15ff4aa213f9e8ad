//! Layers of window transformers, on (N, H, W, C).

use super::pytorch_uniform;
use crate::ops::softmax;
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder, ops};

/// Added to variances, as PyTorch does.
const EPS: f32 = 1e-5;

/// Standard deviation of the first weights of linear layers and of the table.
const STDEV: f64 = 0.02;

/// What is added to the logit of a pair that must not see each other.
const APART: f32 = -100.0;

/// Bytes for the logits of windows that are computed together, unless those of
/// one take more. Whatever the frame, attention holds a few times as much.
const LOGITS: usize = 32 << 20;

/// Negative values times `slope`.
///
/// # Errors
///
/// A computation that fails.
pub(crate) fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    x.relu()? - (x.neg()?.relu()? * slope)?
}

/// Normalises the channels of every pixel.
///
/// Jimmy Lei Ba, Jamie Ryan Kiros, Geoffrey E. Hinton, "Layer Normalization",
/// 2016, <https://arxiv.org/abs/1607.06450>.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Reads (or, in training, creates) `weight` and `bias`, (C) each.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(vb: &VarBuilder, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
        })
    }

    /// (..., C) in and out.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        // candle's fast one has no gradient, and does not say so.
        if x.track_op() || self.weight.track_op() {
            ops::layer_norm_slow(&x, &self.weight, &self.bias, EPS)
        } else {
            ops::layer_norm(&x, &self.weight, &self.bias, EPS)
        }
    }
}

/// A fully connected layer of every pixel's channels.
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in).
    weight: Tensor,
    /// (out).
    bias: Tensor,
}

impl Linear {
    /// Reads (or, in training, creates) `weight` (out, in) and `bias` (out).
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(vb: &VarBuilder, inputs: usize, outputs: usize) -> Result<Self> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: STDEV,
        };
        Ok(Self {
            weight: vb.get_with_hints((outputs, inputs), "weight", init)?,
            bias: vb.get_with_hints(outputs, "bias", Init::Const(0.0))?,
        })
    }

    /// As [`Linear::new`] from a 1x1 convolution, (out, in, 1, 1).
    ///
    /// # Errors
    ///
    /// As [`Linear::new`].
    pub fn pointwise(vb: &VarBuilder, inputs: usize, outputs: usize) -> Result<Self> {
        let init = pytorch_uniform(inputs);
        let weight = vb.get_with_hints((outputs, inputs, 1, 1), "weight", init)?;
        Ok(Self {
            weight: weight.reshape((outputs, inputs))?,
            bias: vb.get_with_hints(outputs, "bias", init)?,
        })
    }

    /// Multiplications for each pixel.
    pub fn macs(&self) -> u64 {
        self.weight.elem_count() as u64
    }

    /// (..., in) in, (..., out) out.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        x.reshape(((), inputs))?
            .matmul(&self.weight.t()?)?
            .broadcast_add(&self.bias)?
            .reshape(shape)
    }
}

/// Sizes of a [`WindowAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// Channels in and out.
    pub width: usize,
    /// Heads, which divide the channels.
    pub heads: usize,
    /// Side of a window in pixels.
    pub window: usize,
    /// How far right and down the windows are shifted, in pixels.
    pub shift: usize,
}

/// Self-attention within windows that do not overlap, with a learnt bias for
/// every offset of two pixels. Shifted windows wrap around the edges, where
/// pixels from opposite sides do not see each other.
///
/// Ze Liu et al., "Swin Transformer: Hierarchical Vision Transformer using
/// Shifted Windows", ICCV 2021, <https://arxiv.org/abs/2103.14030>.
#[derive(Debug, Clone)]
pub struct WindowAttention {
    spec: WindowSpec,
    qkv: Linear,
    proj: Linear,
    /// (offsets, heads).
    table: Tensor,
    /// (pixels * pixels) of a window: the row of the table for query and key.
    offsets: Tensor,
    /// (4, pixels, pixels): what is added to the logits inside the picture, in
    /// the last column of windows, in the last row, in both.
    masks: Tensor,
    /// Windows that are computed together.
    together: usize,
}

impl WindowAttention {
    /// Reads (or, in training, creates) `qkv`, `proj` and
    /// `relative_position_bias_table`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(vb: &VarBuilder, spec: WindowSpec) -> Result<Self> {
        let WindowSpec {
            width,
            heads,
            window,
            shift,
        } = spec;
        let (side, pixels) = (2 * window - 1, window * window);
        let init = Init::Randn {
            mean: 0.0,
            stdev: STDEV,
        };
        let pairs = || (0..pixels * pixels).map(|i| (i / pixels, i % pixels));
        let offsets = pairs().map(|(query, key)| {
            let offset = |query: usize, key: usize| query + window - 1 - key;
            let (dy, dx) = (
                offset(query / window, key / window),
                offset(query % window, key % window),
            );
            (dy * side + dx) as u32
        });
        // Whether two pixels of a window come from opposite sides.
        let wraps = |a: usize, b: usize| (a >= window - shift) != (b >= window - shift);
        let masks = (0..4).flat_map(|kind| {
            pairs().map(move |(query, key)| {
                let apart = (kind & 1 > 0 && wraps(query % window, key % window))
                    || (kind & 2 > 0 && wraps(query / window, key / window));
                if apart { APART } else { 0.0 }
            })
        });
        let (offsets, masks): (Vec<_>, Vec<_>) = (offsets.collect(), masks.collect());
        Ok(Self {
            qkv: Linear::new(&vb.pp("qkv"), width, 3 * width)?,
            proj: Linear::new(&vb.pp("proj"), width, width)?,
            table: vb.get_with_hints((side * side, heads), "relative_position_bias_table", init)?,
            offsets: Tensor::from_vec(offsets, pixels * pixels, vb.device())?,
            masks: Tensor::from_vec(masks, (4, pixels, pixels), vb.device())?,
            together: (LOGITS / (heads * pixels * pixels * size_of::<f32>())).max(1),
            spec,
        })
    }

    /// Multiplications for each pixel: each looks at all of its window twice,
    /// for the logits and by them.
    pub fn macs(&self) -> u64 {
        let pairs = 2 * self.spec.width * self.spec.window * self.spec.window;
        self.qkv.macs() + self.proj.macs() + pairs as u64
    }

    /// (N, H, W, C) in and out; H and W are multiples of the window's side.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let WindowSpec { window, shift, .. } = self.spec;
        let (batch, height, width, channels) = x.dims4()?;
        let (rows, columns) = (height / window, width / window);
        let x = rolled(x, shift as i32)?;
        let windows = x
            .reshape((batch * rows, window, columns, window * channels))?
            .transpose(1, 2)?
            .reshape((batch * rows * columns, window * window, channels))?;
        let bias = self.bias()?;
        let count = batch * rows * columns;
        let made = (0..count).step_by(self.together).map(|first| {
            let some = self.together.min(count - first);
            let kinds = (first..first + some).map(|i| {
                let (row, column) = (i / columns % rows, i % columns);
                u32::from(column + 1 == columns) + 2 * u32::from(row + 1 == rows)
            });
            let kinds = (shift > 0).then(|| Tensor::from_iter(kinds, x.device()));
            let mask = match kinds.transpose()? {
                Some(kinds) => Some(self.masks.index_select(&kinds, 0)?),
                None => None,
            };
            self.attend(&windows.narrow(0, first, some)?, &bias, mask)
        });
        let made = Tensor::cat(&made.collect::<Result<Vec<_>>>()?, 0)?;
        let made = made
            .reshape((batch * rows, columns, window, window * channels))?
            .transpose(1, 2)?
            .reshape((batch, height, width, channels))?;
        rolled(&made, -(shift as i32))
    }

    /// (heads, pixels, pixels): what is added to the logits.
    fn bias(&self) -> Result<Tensor> {
        let pixels = self.spec.window * self.spec.window;
        self.table
            .index_select(&self.offsets, 0)?
            .reshape((pixels, pixels, self.spec.heads))?
            .permute((2, 0, 1))?
            .contiguous()
    }

    /// Some windows, (N, pixels, C) in and out.
    fn attend(&self, x: &Tensor, bias: &Tensor, mask: Option<Tensor>) -> Result<Tensor> {
        let WindowSpec { width, heads, .. } = self.spec;
        let (count, pixels, _) = x.dims3()?;
        let depth = width / heads;
        let parts = self
            .qkv
            .forward(x)?
            .reshape((count, pixels, 3, heads, depth))?
            .permute((2, 0, 3, 1, 4))?;
        let part = |i: usize| parts.get(i)?.contiguous();
        let query = (part(0)? / (depth as f64).sqrt())?;
        let logits = query
            .matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?
            .broadcast_add(bias)?;
        let logits = match mask {
            Some(mask) => logits.broadcast_add(&mask.unsqueeze(1)?)?,
            None => logits,
        };
        let made = softmax(&logits)?.matmul(&part(2)?)?.transpose(1, 2)?;
        self.proj.forward(&made.reshape((count, pixels, width))?)
    }
}

/// Rolls rows and columns of (N, H, W, C) up and to the left.
fn rolled(x: &Tensor, by: i32) -> Result<Tensor> {
    match by {
        0 => x.contiguous(),
        _ => x.roll(-by, 1)?.roll(-by, 2)?.contiguous(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    /// However many windows are computed together, each is as if alone.
    #[test]
    fn windows_do_not_see_each_other() {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        for shift in [0, 2] {
            let spec = WindowSpec {
                width: 6,
                heads: 3,
                window: 4,
                shift,
            };
            let mut attention = WindowAttention::new(&vb, spec).unwrap();
            let x = Tensor::randn(0f32, 1.0, (1, 12, 8, 6), &Device::Cpu).unwrap();
            let mut made = |together| {
                attention.together = together;
                let made = attention.forward(&x).unwrap();
                made.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let all = made(6);
            for together in [1, 4, 100] {
                let off = made(together)
                    .into_iter()
                    .zip(&all)
                    .map(|(a, b)| (a - b).abs());
                let off = off.fold(0.0, f32::max);
                assert!(off < 1e-5, "{together} together, shift {shift}: {off}");
            }
        }
    }

    #[test]
    fn the_logits_that_are_there_at_once_fit_their_budget() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        for (window, together) in [(16, 21), (8, 341), (64, 1)] {
            let spec = WindowSpec {
                width: 180,
                heads: 6,
                window,
                shift: 0,
            };
            let attention = WindowAttention::new(&vb, spec).unwrap();
            assert_eq!(attention.together, together);
        }
    }
}
