//! Layers of window transformers, on (N, H, W, C) tensors.

use super::{pytorch_uniform, rows};
use crate::ops::softmax;
use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder, ops};

/// Added to variances, as PyTorch does.
const EPS: f32 = 1e-5;

/// Standard deviation of the initial weights of linear layers and of the table.
const STDEV: f64 = 0.02;

/// Added to the logit of a masked pair.
const MASKED: f32 = -100.0;

/// Bytes for the logits of a batch of windows, at least one window. Attention
/// needs a few times as much, whatever the frame's size.
const LOGITS: usize = 32 << 20;

/// Leaky ReLU: multiplies negative values by `slope`.
///
/// # Errors
///
/// A computation that fails.
pub(crate) fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    if rows::is_fast(x) {
        return rows::leaky_relu(x, slope as f32);
    }
    x.relu()? - (x.neg()?.relu()? * slope)?
}

/// Adds a tensor to each of those along the first dimension, or to each row of (..., C), as
/// `broadcast_add` does. Its gradient is a matrix product; candle's sum over rows is slow.
fn add_to_each(x: &Tensor, tensor: &Tensor) -> Result<Tensor> {
    match tensor.track_op() {
        true => x + repeated(tensor, x)?,
        false => x.broadcast_add(tensor),
    }
}

/// A tensor repeated to the shape of `x`, whose last dimensions it has.
fn repeated(tensor: &Tensor, x: &Tensor) -> Result<Tensor> {
    let length = tensor.elem_count();
    let ones = Tensor::ones((x.elem_count() / length, 1), x.dtype(), x.device())?;
    let rows = ones.matmul(&tensor.reshape((1, length))?)?;
    rows.reshape(x.shape())
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
    /// A tensor that is missing or has the wrong shape.
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
    /// A tensor of the wrong shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if rows::is_fast(x) {
            return rows::layer_norm(x, &self.weight, &self.bias, EPS);
        }
        let x = x.contiguous()?;
        // candle's fast layer norm has no gradient and reports no error.
        if x.track_op() || self.weight.track_op() {
            let channels = self.weight.elem_count() as f64;
            let mean = (x.sum_keepdim(D::Minus1)? / channels)?;
            let x = x.broadcast_sub(&mean)?;
            let variance = (x.sqr()?.sum_keepdim(D::Minus1)? / channels)?;
            let x = x.broadcast_div(&(variance + f64::from(EPS))?.sqrt()?)?;
            add_to_each(&(&x * repeated(&self.weight, &x)?)?, &self.bias)
        } else {
            ops::layer_norm(&x, &self.weight, &self.bias, EPS)
        }
    }
}

/// A fully connected layer on the channels of every pixel.
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
    /// A tensor that is missing or has the wrong shape.
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

    /// MACs for each pixel.
    pub fn macs(&self) -> u64 {
        self.weight.elem_count() as u64
    }

    /// (..., in) in, (..., out) out.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut shape = x.dims().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        let x = x.reshape(((), inputs))?;
        if rows::is_fast(&x) {
            return rows::linear(&x, &self.weight, &self.bias)?.reshape(shape);
        }
        add_to_each(&x.matmul(&self.weight.t()?)?, &self.bias)?.reshape(shape)
    }
}

/// Sizes of a [`WindowAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// Channels in and out.
    pub width: usize,
    /// Number of heads, a divisor of `width`.
    pub heads: usize,
    /// Size of a window in pixels.
    pub window: usize,
    /// Shift of the windows to the right and down, in pixels.
    pub shift: usize,
}

/// Self-attention within non-overlapping windows, with a learnt relative
/// position bias. Shifted windows wrap around the edges, where attention
/// between pixels from opposite sides is masked.
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
    /// (4, pixels, pixels): the masks added to the logits inside the image, in
    /// the last column of windows, in the last row, in both.
    masks: Tensor,
    /// Windows in a batch.
    batch: usize,
}

impl WindowAttention {
    /// Reads (or, in training, creates) `qkv`, `proj` and
    /// `relative_position_bias_table`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape.
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
                let masked = (kind & 1 > 0 && wraps(query % window, key % window))
                    || (kind & 2 > 0 && wraps(query / window, key / window));
                if masked { MASKED } else { 0.0 }
            })
        });
        let (offsets, masks): (Vec<_>, Vec<_>) = (offsets.collect(), masks.collect());
        Ok(Self {
            qkv: Linear::new(&vb.pp("qkv"), width, 3 * width)?,
            proj: Linear::new(&vb.pp("proj"), width, width)?,
            table: vb.get_with_hints((side * side, heads), "relative_position_bias_table", init)?,
            offsets: Tensor::from_vec(offsets, pixels * pixels, vb.device())?,
            masks: Tensor::from_vec(masks, (4, pixels, pixels), vb.device())?,
            batch: (LOGITS / (heads * pixels * pixels * size_of::<f32>())).max(1),
            spec,
        })
    }

    /// MACs for each pixel: each attends to its window twice, for the logits
    /// and for their weighted sum.
    pub fn macs(&self) -> u64 {
        let pairs = 2 * self.spec.width * self.spec.window * self.spec.window;
        self.qkv.macs() + self.proj.macs() + pairs as u64
    }

    /// (N, H, W, C) in and out; H and W are multiples of the window's size.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let WindowSpec { window, shift, .. } = self.spec;
        let (batch, height, width, channels) = x.dims4()?;
        let (bands, columns) = (height / window, width / window);
        let windows = match rows::is_fast(x) {
            true => rows::windows(x, window, shift)?,
            false => rolled(x, shift as i32)?
                .reshape((batch * bands, window, columns, window * channels))?
                .transpose(1, 2)?
                .reshape((batch * bands * columns, window * window, channels))?,
        };
        let bias = self.bias()?;
        let count = batch * bands * columns;
        let outputs = (0..count).step_by(self.batch).map(|first| {
            let len = self.batch.min(count - first);
            let kinds = (first..first + len).map(|i| {
                let (row, column) = (i / columns % bands, i % columns);
                u32::from(column + 1 == columns) + 2 * u32::from(row + 1 == bands)
            });
            let kinds = (shift > 0).then(|| Tensor::from_iter(kinds, x.device()));
            let mask = match kinds.transpose()? {
                Some(kinds) => Some(self.masks.index_select(&kinds, 0)?),
                None => None,
            };
            self.attend(&windows.narrow(0, first, len)?, &bias, mask)
        });
        let output = Tensor::cat(&outputs.collect::<Result<Vec<_>>>()?, 0)?;
        if rows::is_fast(&output) {
            return rows::image_of_windows(&output, (batch, height, width), window, shift);
        }
        let output = output
            .reshape((batch * bands, columns, window, window * channels))?
            .transpose(1, 2)?
            .reshape((batch, height, width, channels))?;
        rolled(&output, -(shift as i32))
    }

    /// (heads, pixels, pixels): the relative position bias of the logits.
    fn bias(&self) -> Result<Tensor> {
        let pixels = self.spec.window * self.spec.window;
        self.table
            .index_select(&self.offsets, 0)?
            .reshape((pixels, pixels, self.spec.heads))?
            .permute((2, 0, 1))?
            .contiguous()
    }

    /// Attention within a batch of windows, (N, pixels, C) in and out.
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
        let logits = query.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?;
        let logits = add_to_each(&logits, bias)?;
        let logits = match mask {
            Some(mask) => logits.broadcast_add(&mask.unsqueeze(1)?)?,
            None => logits,
        };
        let output = softmax(&logits)?.matmul(&part(2)?)?.transpose(1, 2)?;
        self.proj.forward(&output.reshape((count, pixels, width))?)
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
    use candle_core::{DType, Device, Var};
    use candle_nn::VarMap;

    /// Result and gradients of variables from -1 to 1, in f64 by candle's operations and in
    /// f32 by those of one pass, with one thread and with three: the same bits.
    fn compare(shapes: &[&[usize]], op: impl Fn(&[Var]) -> Result<Tensor> + Sync) {
        let run = |kind: DType, threads: usize| -> Vec<Tensor> {
            let noise = |seed: usize, shape: &[usize]| {
                let count = shape.iter().product::<usize>();
                let values =
                    (0..count).map(|i| ((i * 7919 + seed * 31) % 1009) as f64 / 504.5 - 1.0);
                let values = Tensor::from_iter(values, &Device::Cpu).unwrap();
                values.reshape(shape).unwrap().to_dtype(kind).unwrap()
            };
            let var = |(i, shape): (usize, &&[usize])| Var::from_tensor(&noise(i, shape)).unwrap();
            let vars: Vec<_> = shapes.iter().enumerate().map(var).collect();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let result = op(&vars).unwrap();
                let loss = (&result * noise(99, result.dims()))
                    .unwrap()
                    .sum_all()
                    .unwrap();
                let gradients = loss.backward().unwrap();
                let gradients = vars.iter().map(|var| gradients.get(var).unwrap().clone());
                gradients.chain([result]).collect()
            })
        };
        let values = |t: &Tensor| {
            let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
            t.to_vec1::<f64>().unwrap()
        };
        let [exact, one, three] = [(DType::F64, 1), (DType::F32, 1), (DType::F32, 3)]
            .map(|(kind, threads)| run(kind, threads).iter().map(values).collect::<Vec<_>>());
        assert_eq!(one, three);
        for (i, (exact, fast)) in exact.iter().zip(&one).enumerate() {
            assert_eq!(exact.len(), fast.len());
            for (a, b) in exact.iter().zip(fast) {
                assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{i}: {a} {b}");
            }
        }
    }

    #[test]
    fn layers_and_their_gradients_are_those_of_candle() {
        compare(&[&[3, 700, 19], &[19], &[19]], |vars| {
            let [weight, bias] = [1, 2].map(|i| vars[i].as_tensor().clone());
            LayerNorm { weight, bias }.forward(&vars[0])
        });
        compare(&[&[2, 900, 18], &[21, 18], &[21]], |vars| {
            let [weight, bias] = [1, 2].map(|i| vars[i].as_tensor().clone());
            Linear { weight, bias }.forward(&vars[0])
        });
        compare(&[&[2, 100, 101]], |vars| leaky_relu(&vars[0], 0.2));
        for shift in [0, 1, 3] {
            let spec = WindowSpec {
                width: 6,
                heads: 3,
                window: 4,
                shift,
            };
            let shapes: [&[usize]; 6] = [&[2, 12, 8, 6], &[18, 6], &[18], &[6, 6], &[6], &[49, 3]];
            compare(&shapes, |vars| {
                let names = ["qkv.weight", "qkv.bias", "proj.weight", "proj.bias"];
                let names = names.iter().chain(&["relative_position_bias_table"]);
                let tensors = names
                    .zip(&vars[1..])
                    .map(|(name, var)| ((*name).to_owned(), var.as_tensor().clone()));
                let vb = VarBuilder::from_tensors(tensors.collect(), vars[0].dtype(), &Device::Cpu);
                let mut attention = WindowAttention::new(&vb, spec)?;
                attention.masks = attention.masks.to_dtype(vars[0].dtype())?;
                attention.forward(&vars[0])
            });
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert!(rows::linear(&zeros(&[4, 3]), &zeros(&[5, 2]), &zeros(&[5])).is_err());
        assert!(rows::linear(&zeros(&[4, 3]), &zeros(&[5, 3]), &zeros(&[4])).is_err());
        assert!(rows::layer_norm(&zeros(&[4, 3]), &zeros(&[4]), &zeros(&[3]), EPS).is_err());
        assert!(rows::windows(&zeros(&[1, 6, 8, 3]), 4, 0).is_err());
        assert!(rows::image_of_windows(&zeros(&[3, 16, 3]), (1, 8, 8), 4, 0).is_err());
    }

    /// The result does not depend on the number of windows in a batch.
    #[test]
    fn windows_are_independent_of_their_batch() {
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
            let mut output = |batch| {
                attention.batch = batch;
                let output = attention.forward(&x).unwrap();
                output.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let expected = output(6);
            for batch in [1, 4, 100] {
                let errors = output(batch)
                    .into_iter()
                    .zip(&expected)
                    .map(|(a, b)| (a - b).abs());
                let error = errors.fold(0.0, f32::max);
                assert!(error < 1e-5, "batch {batch}, shift {shift}: {error}");
            }
        }
    }

    #[test]
    fn the_logits_of_a_batch_fit_their_budget() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        for (window, batch) in [(16, 21), (8, 341), (64, 1)] {
            let spec = WindowSpec {
                width: 180,
                heads: 6,
                window,
                shift: 0,
            };
            let attention = WindowAttention::new(&vb, spec).unwrap();
            assert_eq!(attention.batch, batch);
        }
    }
}
