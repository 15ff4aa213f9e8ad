//! Convolution of candle tensors.

use super::context::{self, stash_variable_grad};
use super::cpu::winograd::{Filtering, Gradients, Operands, variant_for};
use super::cpu::{self, Kernels, PaddedPlanes, PlaneLayout, pixels};
use super::spec::{Activation, Border, ConvGeometry, ConvSpec};
use super::storage::{values, with_all, with_values};
use crate::cpu_level::{self, Level};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

/// Convolves images `(N, Ci, H, W)` by weights `(Co, Ci / groups, Kh, Kw)`,
/// without turning the kernel around, adds a bias `(Co)`, and applies the
/// activation.
///
/// The image is extended by `dilation * (k - 1) / 2` at each side unless the
/// border is [`Border::Valid`], and every `stride`th result from the first one
/// on is kept. There are gradients for images, weights and bias.
///
/// On the CPU and in `f32` the results and the gradients are the same bit for
/// bit on any level of the CPU and for any number of threads, and, where no
/// gradients are required, the results in any place of an image. Where they are,
/// 3x3 and 5x5 kernels between multiples of 16 channels run by Winograd's
/// minimal filtering (Lavin, Gray, CVPR 2016): results within 1e-5 of the
/// largest one. Elsewhere this is candle's own convolution, or on a GPU cuDNN's where that was built
/// in and is there: by sums in `f32`, of factors rounded to TF32 where
/// gradients are wanted of `f32` tensors, as PyTorch has it.
///
/// # Errors
///
/// If the shapes do not fit each other, if the kernel is larger than the image
/// or has an even size where the border needs a middle, or if
/// [`cpu_level::level`] fails.
pub fn conv2d(
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    spec: ConvSpec,
) -> Result<Tensor> {
    let geometry = geometry(images.shape(), weights, bias, spec)?;
    context::record_conv(images, weights, spec);
    let mut tensors = [Some(images), Some(weights), bias].into_iter().flatten();
    if tensors.all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32) {
        let level = cpu_level::level().map_err(candle_core::Error::wrap)?;
        fast(level, geometry, images, weights, bias)
    } else {
        #[cfg(feature = "cudnn")]
        if let Some(made) =
            super::cuda::cudnn::conv2d(&geometry, images, weights, bias, context::allow_tf32())?
        {
            return Ok(made);
        }
        general(&geometry, images, weights, bias)
    }
}

/// [`conv2d`] of `f32` tensors on the CPU at a given level, for measuring and
/// comparing.
///
/// # Errors
///
/// As [`conv2d`], and if this machine does not have the level.
pub fn conv2d_at(
    level: Level,
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    spec: ConvSpec,
) -> Result<Tensor> {
    let geometry = geometry(images.shape(), weights, bias, spec)?;
    fast(level, geometry, images, weights, bias)
}

/// [`conv2d`] of one image whose channels are those of several, with the values of
/// each, on the CPU in `f32` and without gradients.
///
/// # Errors
///
/// As [`conv2d`].
pub(super) fn conv2d_of_parts(
    parts: &[Tensor],
    planes: &[&[f32]],
    weights: &Tensor,
    bias: Option<&Tensor>,
    spec: ConvSpec,
) -> Result<Tensor> {
    let mut shape = parts
        .first()
        .map_or(Vec::new(), |part| part.dims().to_vec());
    for part in parts.iter().skip(1) {
        if part.dims()[..1] != shape[..1] || part.dims()[2..] != shape[2..] {
            bail!(
                "images {shape:?} and {:?} do not lie over each other",
                part.dims()
            )
        }
        shape[1] += part.dims()[1];
    }
    let geometry = geometry(&Shape::from(shape), weights, bias, spec)?;
    let level = cpu_level::level().map_err(candle_core::Error::wrap)?;
    let kernels = Kernels::of(level).map_err(candle_core::Error::wrap)?;
    let result = with_values(weights, |weights| match bias {
        Some(bias) => with_values(bias, |bias| {
            cpu::forward(kernels, &geometry, planes, weights, Some(bias))
        }),
        None => Ok(cpu::forward(kernels, &geometry, planes, weights, None)),
    })??;
    let (height, width) = geometry.size();
    Tensor::from_vec(
        result,
        (geometry.batch, geometry.outputs, height, width),
        weights.device(),
    )
}

/// Checks the shapes.
pub(super) fn geometry(
    x: &Shape,
    weights: &Tensor,
    bias: Option<&Tensor>,
    spec: ConvSpec,
) -> Result<ConvGeometry> {
    let w = weights.shape();
    let (&[batch, inputs, height, width], &[outputs, depth, kh, kw]) = (x.dims(), w.dims()) else {
        bail!("conv2d wants images (N, Ci, H, W) and weights (Co, Ci, Kh, Kw), not {x:?} and {w:?}")
    };
    let ConvSpec {
        border,
        stride,
        dilation,
        groups,
        activation,
    } = spec;
    if !(1..=2).contains(&stride) || dilation == 0 || groups == 0 {
        bail!("conv2d wants a stride of 1 or 2, a dilation and groups, not {spec:?}")
    }
    if x.elem_count() == 0 || w.elem_count() == 0 {
        bail!("conv2d of nothing: images {x:?}, weights {w:?}")
    }
    if depth.checked_mul(groups) != Some(inputs) || !outputs.is_multiple_of(groups) {
        bail!("conv2d of images {x:?} in {groups} groups does not fit weights {w:?}")
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        let bias = bias.shape();
        bail!("conv2d with weights {w:?} wants a bias [{outputs}], not {bias:?}")
    }
    if border != Border::Valid && (kh % 2 == 0 || kw % 2 == 0) {
        bail!("conv2d of images {x:?}: the even size of weights {w:?} needs the border `valid`")
    }
    let geometry = ConvGeometry {
        batch,
        inputs,
        outputs,
        groups,
        image: (height, width),
        kernel: (kh, kw),
        dilation,
        stride,
        border,
        relu: activation == Activation::Relu,
    };
    let (padded, reach) = (geometry.padded(), geometry.reach());
    if padded.0 <= reach.0 || padded.1 <= reach.1 {
        bail!("conv2d of images {x:?}: weights {w:?} at dilation {dilation} reach beyond them")
    }
    Ok(geometry)
}

fn fast(
    level: Level,
    geometry: ConvGeometry,
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let kernels = Kernels::of(level).map_err(candle_core::Error::wrap)?;
    let mut tensors = [Some(images), Some(weights), bias].into_iter().flatten();
    let winograd = match variant_for(&geometry) {
        Some(variant) if tensors.any(Tensor::track_op) => Some(Filtering {
            kernels: pixels::Kernels::of(level).map_err(candle_core::Error::wrap)?,
            variant,
        }),
        _ => None,
    };
    let op = Conv {
        kernels,
        winograd,
        geometry,
    };
    let (images, weights) = (images.contiguous()?, weights.contiguous()?);
    match bias {
        Some(bias) => images.apply_op3(&weights, &bias.contiguous()?, op),
        None => images.apply_op2(&weights, op),
    }
}

/// The convolution by candle's own operations.
fn general(
    geometry: &ConvGeometry,
    images: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (top, left) = geometry.pad();
    let images = match geometry.border {
        Border::Valid => images.clone(),
        Border::Zero => images
            .pad_with_zeros(2, top, top)?
            .pad_with_zeros(3, left, left)?,
        Border::Replicate => images
            .pad_with_same(2, top, top)?
            .pad_with_same(3, left, left)?,
    };
    let ConvGeometry {
        stride,
        dilation,
        groups,
        ..
    } = *geometry;
    let convolved = |images: &Tensor| images.conv2d(weights, 0, stride, dilation, groups);
    let mut result = match bands(geometry) {
        Some(rows) if !images.device().is_cpu() => banded(geometry, &images, rows, convolved)?,
        _ => convolved(&images)?,
    };
    if let Some(bias) = bias {
        result = result.broadcast_add(&bias.reshape((1, geometry.outputs, 1, 1))?)?;
    }
    if geometry.relu {
        result = result.relu()?;
    }
    Ok(result)
}

/// Rows of the result that candle convolves at once on a GPU, if not all: its
/// kernels count the windows' elements in 32 bits, and forget those beyond.
fn bands(geometry: &ConvGeometry) -> Option<usize> {
    const MOST: usize = 1 << 30;
    let (height, width) = geometry.size();
    let taps = geometry.kernel.0 * geometry.kernel.1;
    let row = geometry.batch * width * geometry.inputs / geometry.groups * taps;
    let rows = (MOST / row).max(1);
    (rows < height).then_some(rows)
}

/// The convolution of images, which have their border, by so many rows of the
/// result at once.
fn banded(
    geometry: &ConvGeometry,
    images: &Tensor,
    rows: usize,
    convolved: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (height, reach) = (geometry.size().0, geometry.reach().0);
    let band = |row: usize| {
        let last = (row + rows).min(height) - 1;
        let seen = (last - row) * geometry.stride + reach + 1;
        convolved(&images.narrow(2, row * geometry.stride, seen)?)
    };
    let made = (0..height).step_by(rows).map(band);
    Tensor::cat(&made.collect::<Result<Vec<_>>>()?, 2)
}

/// The convolution as an operation of candle's.
struct Conv {
    kernels: &'static Kernels,
    /// How it runs by Winograd's filtering, if it does.
    winograd: Option<Filtering>,
    geometry: ConvGeometry,
}

impl Conv {
    fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> (CpuStorage, Shape) {
        let (height, width) = self.geometry.size();
        let shape = (self.geometry.batch, self.geometry.outputs, height, width);
        let result = match self.winograd {
            Some(ref filtering) => filtering.forward(&self.geometry, x, w, b),
            None => cpu::forward(self.kernels, &self.geometry, &[x], w, b),
        };
        (CpuStorage::F32(result), shape.into())
    }

    /// The gradients of images, weights and bias, where they are wanted.
    fn gradients(
        &self,
        images: &Tensor,
        weights: &Tensor,
        bias: Option<&Tensor>,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let Self {
            kernels, geometry, ..
        } = self;
        let wanted = |tensor: &&Tensor| tensor.track_op();
        if let Some(filtering) = &self.winograd {
            return filtered_gradients(filtering, geometry, [images, weights, result, grad], bias);
        }
        let grad = with_values(grad, |grad| {
            if geometry.relu {
                with_values(result, |result| {
                    PaddedPlanes::new(PlaneLayout::of_gradient(geometry), &[grad], Some(result))
                })
            } else {
                Ok(PaddedPlanes::new(
                    PlaneLayout::of_gradient(geometry),
                    &[grad],
                    None,
                ))
            }
        })??;
        let of_bias = match bias.filter(wanted) {
            Some(bias) => {
                let sums = cpu::bias_gradient(geometry, &grad);
                Some(Tensor::from_vec(sums, bias.shape(), bias.device())?)
            }
            None => None,
        };
        let of_weights = match Some(weights).filter(wanted) {
            Some(weights) => {
                let planes = with_values(images, |images| {
                    PaddedPlanes::new(PlaneLayout::of_images(geometry), &[images], None)
                })?;
                let sums = cpu::weight_gradient(kernels, geometry, &planes, &grad);
                Some(Tensor::from_vec(sums, weights.shape(), weights.device())?)
            }
            None => None,
        };
        let of_images = match Some(images).filter(wanted) {
            Some(images) => {
                let values = with_values(weights, |weights| {
                    cpu::input_gradient(kernels, geometry, &grad, weights)
                })?;
                Some(Tensor::from_vec(values, images.shape(), images.device())?)
            }
            None => None,
        };
        Ok([of_images, of_weights, of_bias])
    }
}

/// The gradients of images, weights and bias by Winograd's filtering, where they are
/// required.
fn filtered_gradients(
    filtering: &Filtering,
    geometry: &ConvGeometry,
    tensors: [&Tensor; 4],
    bias: Option<&Tensor>,
) -> Result<[Option<Tensor>; 3]> {
    let [images, weights, ..] = tensors;
    let required = Gradients {
        images: images.track_op(),
        weights: weights.track_op(),
        bias: bias.is_some_and(Tensor::track_op),
    };
    let found = with_all(&tensors, |values| {
        let [images, weights, result, grad] = std::array::from_fn(|i| values[i]);
        let operands = Operands {
            images,
            weights,
            result,
            grad,
        };
        filtering.gradients(geometry, &operands, &required)
    })?;
    let tensor = |values: Option<Vec<f32>>, like: Option<&Tensor>| {
        let tensor =
            |(values, like): (_, &Tensor)| Tensor::from_vec(values, like.shape(), like.device());
        values.zip(like).map(tensor).transpose()
    };
    Ok([
        tensor(found.images, Some(images))?,
        tensor(found.weights, Some(weights))?,
        tensor(found.bias, bias)?,
    ])
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(values(x, x_layout)?, values(w, w_layout)?, None))
    }

    fn bwd(
        &self,
        images: &Tensor,
        weights: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [of_images, of_weights, _] = self.gradients(images, weights, None, result, grad)?;
        Ok((of_images, stash_variable_grad(weights, of_weights)?))
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "conv2d-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = values(b, b_layout)?;
        Ok(self.forward(values(x, x_layout)?, values(w, w_layout)?, Some(bias)))
    }

    fn bwd(
        &self,
        images: &Tensor,
        weights: &Tensor,
        bias: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradients = self.gradients(images, weights, Some(bias), result, grad)?;
        let [of_images, of_weights, of_bias] = gradients;
        Ok((
            of_images,
            stash_variable_grad(weights, of_weights)?,
            stash_variable_grad(bias, of_bias)?,
        ))
    }
}

#[cfg(test)]
mod tests;
