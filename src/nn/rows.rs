//! Operations on the last dimension of dense `f32` tensors on the CPU, with
//! gradients. Composed of candle's, each writes several tensors of its
//! input's size, and in training adds as many gradients to zeros.
//!
//! Results are the same for any number of threads.

use crate::ops::with_all;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Values that a thread computes at once.
const PIECE: usize = 1 << 14;

/// Sums that run at the same time over a row, for vectors.
const LANES: usize = 16;

/// Whether the operations here take a tensor.
pub(super) fn is_fast(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// x Wᵀ + b of the rows of `x` (rows, in), with `weight` (out, in) and `bias` (out).
///
/// # Errors
///
/// Shapes that do not fit.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?
        .apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
}

/// Normalises each row of (..., C), multiplies by `weight` (C) and adds `bias` (C).
///
/// # Errors
///
/// Shapes that do not fit.
pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op3(
        &weight.contiguous()?,
        &bias.contiguous()?,
        LayerNorm { eps },
    )
}

/// Multiplies negative values by `slope`.
///
/// # Errors
///
/// A computation that fails.
pub(super) fn leaky_relu(x: &Tensor, slope: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op1(LeakyRelu { slope })
}

/// Cuts (N, H, W, C) into the windows (N H W / window², window², C), after moving the image
/// up and to the left by `shift` pixels, around the edges.
///
/// # Errors
///
/// A shape whose sides are no multiples of the window's.
pub(super) fn windows(x: &Tensor, window: usize, shift: usize) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    check_size(height, width, window)?;
    let map = WindowMap {
        size: (height, width),
        channels,
        window,
        shift,
    };
    let shape = (
        batch * height * width / (window * window),
        window * window,
        channels,
    );
    x.contiguous()?.apply_op1(Windows {
        map,
        shape: shape.into(),
    })
}

/// The reverse of [`windows`], to the shape (N, H, W, C).
///
/// # Errors
///
/// A tensor of another shape.
pub(super) fn image_of_windows(
    x: &Tensor,
    (batch, height, width): (usize, usize, usize),
    window: usize,
    shift: usize,
) -> Result<Tensor> {
    let (count, pixels, channels) = x.dims3()?;
    check_size(height, width, window)?;
    if count * pixels != batch * height * width || pixels != window * window {
        bail!("{count} windows of {pixels} pixels do not fill {batch} images of {width}x{height}")
    }
    let map = WindowMap {
        size: (height, width),
        channels,
        window,
        shift,
    };
    let shape = (batch, height, width, channels).into();
    x.contiguous()?.apply_op1(ImageOfWindows { map, shape })
}

fn check_size(height: usize, width: usize, window: usize) -> Result<()> {
    match height.is_multiple_of(window) && width.is_multiple_of(window) {
        true => Ok(()),
        false => bail!("{width}x{height} pixels do not consist of windows of {window}x{window}"),
    }
}

/// The values of a dense tensor.
fn dense<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the operation takes contiguous tensors, not {layout:?}"),
    }
}

/// Length of the rows, and values in the rows that a thread computes at once.
fn pieces(layout: &Layout) -> (usize, usize) {
    let row = layout.dims().last().copied().unwrap_or(1).max(1);
    (row, PIECE.div_ceil(row) * row)
}

/// What `f` adds up over the rows of a piece, `width` sums, added up over the pieces in their order.
fn sum_pieces(count: usize, width: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let sums: Vec<Vec<f32>> = (0..count)
        .into_par_iter()
        .map(|piece| {
            let mut sums = vec![0.0; width];
            f(piece, &mut sums);
            sums
        })
        .collect();
    let mut totals = vec![0f64; width];
    for sums in sums {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += f64::from(sum);
        }
    }
    totals.into_iter().map(|total| total as f32).collect()
}

/// The sum of `f` of each pair.
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a, b);
        }
    }
    lanes.iter().sum()
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (outputs, _) = weight_layout.shape().dims2()?;
        if weight_layout.dims() != [outputs, inputs] || bias_layout.dims() != [outputs] {
            bail!("a linear layer from {inputs} to {outputs} by {weight_layout:?}, {bias_layout:?}")
        }
        let bias = dense(bias, bias_layout)?;
        let transposed = weight_layout.transpose(0, 1)?;
        let sizes = (1, rows, outputs, inputs);
        let mut result = x.matmul(weight, sizes, x_layout, &transposed)?;
        let CpuStorage::F32(values) = &mut result else {
            bail!("a linear layer of another type than f32")
        };
        let piece = PIECE.div_ceil(outputs) * outputs;
        values.par_chunks_mut(piece).for_each(|piece| {
            for row in piece.chunks_exact_mut(outputs) {
                for (value, bias) in row.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        });
        Ok((result, (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let of_x = match x.track_op() {
            true => Some(grad.matmul(&weight.detach())?),
            false => None,
        };
        let of_weight = grad.t()?.matmul(&x.detach())?;
        let (row, piece) = pieces(grad.layout());
        let of_bias = with_all(&[&grad], |values| {
            let pieces: Vec<_> = values[0].chunks(piece).collect();
            sum_pieces(pieces.len(), row, |i, sums| {
                for values in pieces[i].chunks_exact(row) {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
            })
        })?;
        let of_bias = Tensor::from_vec(of_bias, row, grad.device())?;
        Ok((of_x, Some(of_weight), Some(of_bias)))
    }
}

struct LayerNorm {
    eps: f32,
}

impl LayerNorm {
    /// The mean of a row, and 1 over its standard deviation.
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let count = row.len() as f32;
        let mean = sum(row, row, |v, _| v) / count;
        let variance = sum(row, row, |v, _| (v - mean) * (v - mean)) / count;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (row, piece) = pieces(x_layout);
        if weight_layout.dims() != [row] || bias_layout.dims() != [row] {
            bail!("a layer norm of {x_layout:?} by {weight_layout:?}, {bias_layout:?}")
        }
        let weight = dense(weight, weight_layout)?;
        let bias = dense(bias, bias_layout)?;
        let x = dense(x, x_layout)?;
        let mut result = vec![0f32; x.len()];
        let pieces = result.par_chunks_mut(piece).zip(x.par_chunks(piece));
        pieces.for_each(|(result, x)| {
            for (result, x) in result.chunks_exact_mut(row).zip(x.chunks_exact(row)) {
                let (mean, inverse) = self.moments(x);
                let parameters = weight.iter().zip(bias);
                for ((result, x), (weight, bias)) in result.iter_mut().zip(x).zip(parameters) {
                    *result = (x - mean) * inverse * weight + bias;
                }
            }
        });
        Ok((CpuStorage::F32(result), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (row, piece) = pieces(x.layout());
        let mut of_x = vec![0f32; x.elem_count()];
        let totals = with_all(&[x, weight, grad], |all| {
            let [x, weight, grad] = std::array::from_fn(|i| all[i]);
            let pieces = of_x.par_chunks_mut(piece).zip(x.par_chunks(piece));
            let pieces = pieces.zip(grad.par_chunks(piece));
            pieces.for_each(|((of_x, x), grad)| {
                let mut of_normalised = vec![0f32; row];
                let rows = of_x.chunks_exact_mut(row).zip(x.chunks_exact(row));
                for ((of_x, x), grad) in rows.zip(grad.chunks_exact(row)) {
                    let (mean, inverse) = self.moments(x);
                    for ((of, grad), weight) in of_normalised.iter_mut().zip(grad).zip(weight) {
                        *of = grad * weight;
                    }
                    let level = sum(&of_normalised, x, |g, _| g) / row as f32;
                    let slope = sum(&of_normalised, x, |g, x| g * (x - mean));
                    let slope = slope * inverse * inverse / row as f32;
                    for ((of_x, of), x) in of_x.iter_mut().zip(&of_normalised).zip(x) {
                        *of_x = inverse * (of - level - (x - mean) * slope);
                    }
                }
            });
            // Of the weight, then of the bias.
            sum_pieces(x.len().div_ceil(piece), 2 * row, |i, sums| {
                let of_piece = |values: &'_ [f32]| i * piece..values.len().min((i + 1) * piece);
                let (of_weight, of_bias) = sums.split_at_mut(row);
                let rows = x[of_piece(x)].chunks_exact(row);
                for (x, grad) in rows.zip(grad[of_piece(grad)].chunks_exact(row)) {
                    let (mean, inverse) = self.moments(x);
                    let sums = of_weight.iter_mut().zip(of_bias.iter_mut());
                    for (((of_weight, of_bias), x), grad) in sums.zip(x).zip(grad) {
                        *of_weight += grad * (x - mean) * inverse;
                        *of_bias += grad;
                    }
                }
            })
        })?;
        let of_x = Tensor::from_vec(of_x, x.shape(), x.device())?;
        let parameter = |values: &[f32]| Tensor::from_slice(values, row, x.device());
        Ok((
            Some(of_x),
            Some(parameter(&totals[..row])?),
            Some(parameter(&totals[row..])?),
        ))
    }
}

struct LeakyRelu {
    slope: f32,
}

impl LeakyRelu {
    /// `f` of each pair, in parallel.
    fn map(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
        let mut result = vec![0f32; a.len()];
        let pieces = result.par_chunks_mut(PIECE).zip(a.par_chunks(PIECE));
        pieces
            .zip(b.par_chunks(PIECE))
            .for_each(|((result, a), b)| {
                for ((result, &a), &b) in result.iter_mut().zip(a).zip(b) {
                    *result = f(a, b);
                }
            });
        result
    }
}

impl CustomOp1 for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = dense(x, layout)?;
        let result = Self::map(x, x, |x, _| if x > 0.0 { x } else { x * self.slope });
        Ok((CpuStorage::F32(result), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let of_x = with_all(&[x, grad], |all| {
            Self::map(
                all[0],
                all[1],
                |x, g| if x > 0.0 { g } else { g * self.slope },
            )
        })?;
        Tensor::from_vec(of_x, x.shape(), x.device()).map(Some)
    }
}

/// Where the pixels of images lie in windows.
#[derive(Debug, Clone, Copy)]
struct WindowMap {
    /// Rows and columns of an image.
    size: (usize, usize),
    channels: usize,
    window: usize,
    shift: usize,
}

impl WindowMap {
    /// The row of the images, counted over all, that is shifted to `row`.
    fn source_row(&self, row: usize) -> usize {
        let (image, y) = (row / self.size.0, row % self.size.0);
        image * self.size.0 + (y + self.shift) % self.size.0
    }

    /// The row that a row of the images is shifted to.
    fn shifted_row(&self, row: usize) -> usize {
        let height = self.size.0;
        let (image, y) = (row / height, row % height);
        image * height + (y + height - self.shift % height) % height
    }

    /// Calls `f` with each run of pixels of a shifted row that stay together: the index of
    /// the first one in the windows and in the images, and their number.
    fn runs(&self, row: usize, mut f: impl FnMut(usize, usize, usize)) {
        let (width, window) = (self.size.1, self.window);
        for column in 0..width / window {
            let to = (row / window * (width / window) + column) * window * window
                + row % window * window;
            let from = (column * window + self.shift) % width;
            let until = (width - from).min(window);
            let start = self.source_row(row) * width;
            f(to, start + from, until);
            if until < window {
                f(to + until, start, window - until);
            }
        }
    }

    /// The values of windows from those of images, or the reverse.
    fn copied(&self, values: &[f32], to_windows: bool) -> Vec<f32> {
        let mut result = vec![0f32; values.len()];
        let (channels, row) = (self.channels, self.size.1 * self.channels);
        let band = row * self.window;
        if to_windows {
            // A row of windows for each task.
            let bands = result.par_chunks_exact_mut(band.max(1)).enumerate();
            bands.for_each(|(i, result)| {
                for row in i * self.window..(i + 1) * self.window {
                    self.runs(row, |to, from, count| {
                        let to = to * channels - i * band;
                        result[to..][..count * channels]
                            .copy_from_slice(&values[from * channels..][..count * channels]);
                    });
                }
            });
        } else {
            let rows = result.par_chunks_exact_mut(row.max(1)).enumerate();
            rows.for_each(|(i, result)| {
                self.runs(self.shifted_row(i), |from, to, count| {
                    let to = to * channels - i * row;
                    result[to..][..count * channels]
                        .copy_from_slice(&values[from * channels..][..count * channels]);
                });
            });
        }
        result
    }
}

struct Windows {
    map: WindowMap,
    shape: Shape,
}

impl CustomOp1 for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let result = self.map.copied(dense(x, layout)?, true);
        Ok((CpuStorage::F32(result), self.shape.clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let of_x = with_all(&[grad], |all| self.map.copied(all[0], false))?;
        Tensor::from_vec(of_x, x.shape(), x.device()).map(Some)
    }
}

struct ImageOfWindows {
    map: WindowMap,
    shape: Shape,
}

impl CustomOp1 for ImageOfWindows {
    fn name(&self) -> &'static str {
        "image-of-windows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let result = self.map.copied(dense(x, layout)?, false);
        Ok((CpuStorage::F32(result), self.shape.clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let of_x = with_all(&[grad], |all| self.map.copied(all[0], true))?;
        Tensor::from_vec(of_x, x.shape(), x.device()).map(Some)
    }
}
