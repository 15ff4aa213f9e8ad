//! Convolutions one after the other as one operation with gradients.

use super::context::is_recording;
use super::conv::{conv2d, geometry};
use super::cpu::pixels::Kernels;
use super::cpu::winograd::{Filtering, Gradients, Operands, variant_for};
use super::spec::{ConvGeometry, ConvSpec};
use super::storage::{values, with_all};
use crate::cpu_level;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A convolution of a chain, as [`conv2d`] takes it.
#[derive(Debug, Clone, Copy)]
pub struct ChainedConv<'a> {
    /// (Co, Ci / groups, Kh, Kw).
    pub weights: &'a Tensor,
    /// (Co).
    pub bias: Option<&'a Tensor>,
    /// Its settings.
    pub spec: ConvSpec,
}

/// Convolves images by one convolution after the other, as [`conv2d`] does.
///
/// Where all of them have gradients and run by Winograd's filtering they are one
/// operation to candle, which would add the gradient of each result to zeros first:
/// the bits are the same.
///
/// # Errors
///
/// As [`conv2d`].
pub fn conv2d_chain(images: &Tensor, convs: &[ChainedConv<'_>]) -> Result<Tensor> {
    match Chain::new(images, convs)? {
        Some(chain) => {
            let parameters = convs
                .iter()
                .flat_map(|conv| [Some(conv.weights), conv.bias]);
            let parameters = parameters.flatten().map(Tensor::flatten_all);
            let parameters = Tensor::cat(&parameters.collect::<Result<Vec<_>>>()?, 0)?;
            images.contiguous()?.apply_op2(&parameters, chain)
        }
        None => convs.iter().try_fold(images.clone(), |images, conv| {
            conv2d(&images, conv.weights, conv.bias, conv.spec)
        }),
    }
}

/// The operation: of images, and of all weights and biases in one row.
struct Chain {
    convs: Vec<FilteredConv>,
    /// What all but the last one computed, for the gradients.
    results: Mutex<Vec<Vec<f32>>>,
}

/// A convolution, and where its parameters lie.
struct FilteredConv {
    filtering: Filtering,
    geometry: ConvGeometry,
    weights: Range<usize>,
    bias: Range<usize>,
}

impl Chain {
    /// `None` where the convolutions run one by one.
    fn new(images: &Tensor, convs: &[ChainedConv<'_>]) -> Result<Option<Self>> {
        let fast = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32;
        if convs.len() < 2 || is_recording() || !fast(images) {
            return Ok(None);
        }
        let level = cpu_level::level().map_err(candle_core::Error::wrap)?;
        let kernels = Kernels::of(level).map_err(candle_core::Error::wrap)?;
        let (mut shape, mut end) = (images.shape().clone(), 0);
        let mut filtered = Vec::with_capacity(convs.len());
        for conv in convs {
            let ChainedConv {
                weights,
                bias,
                spec,
            } = *conv;
            let geometry = geometry(&shape, weights, bias, spec)?;
            let variant = variant_for(&geometry);
            let tracked = weights.track_op() && bias.is_none_or(Tensor::track_op);
            let (Some(variant), true) =
                (variant, tracked && fast(weights) && bias.is_none_or(fast))
            else {
                return Ok(None);
            };
            let (height, width) = geometry.size();
            shape = (geometry.batch, geometry.outputs, height, width).into();
            let mut next = |count: usize| {
                let start = end;
                end += count;
                start..end
            };
            filtered.push(FilteredConv {
                filtering: Filtering { kernels, variant },
                weights: next(weights.elem_count()),
                bias: next(bias.map_or(0, Tensor::elem_count)),
                geometry,
            });
        }
        Ok(Some(Self {
            convs: filtered,
            results: Mutex::default(),
        }))
    }
}

impl CustomOp2 for Chain {
    fn name(&self) -> &'static str {
        "conv2d-chain"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        images_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let images = values(images, images_layout)?;
        let parameters = values(parameters, parameters_layout)?;
        let mut results: Vec<Vec<f32>> = Vec::with_capacity(self.convs.len());
        for conv in &self.convs {
            let images = results.last().map_or(images, Vec::as_slice);
            let bias = (!conv.bias.is_empty()).then(|| &parameters[conv.bias.clone()]);
            let weights = &parameters[conv.weights.clone()];
            let filtering = &conv.filtering;
            results.push(filtering.forward(&conv.geometry, images, weights, bias));
        }
        let (Some(last), Some(conv)) = (results.pop(), self.convs.last()) else {
            bail!("a chain of no convolutions")
        };
        *self.results.lock().unwrap_or_else(PoisonError::into_inner) = results;
        let (height, width) = conv.geometry.size();
        let shape = (conv.geometry.batch, conv.geometry.outputs, height, width);
        Ok((CpuStorage::F32(last), shape.into()))
    }

    fn bwd(
        &self,
        images: &Tensor,
        parameters: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = [images, parameters, result, grad];
        let mut of_parameters = vec![0.0; parameters.elem_count()];
        let of_images = with_all(&tensors, |all| {
            let [images, parameters, result, grad] = std::array::from_fn(|i| all[i]);
            // The gradient of what a convolution computed, from the last one on.
            let mut of_result: Option<Vec<f32>> = None;
            for (i, conv) in self.convs.iter().enumerate().rev() {
                let required = Gradients {
                    images: i > 0 || tensors[0].track_op(),
                    weights: true,
                    bias: !conv.bias.is_empty(),
                };
                let before = i.checked_sub(1).and_then(|before| results.get(before));
                let operands = Operands {
                    images: before.map_or(images, Vec::as_slice),
                    weights: &parameters[conv.weights.clone()],
                    result: results.get(i).map_or(result, Vec::as_slice),
                    grad: of_result.as_deref().unwrap_or(grad),
                };
                let found = conv
                    .filtering
                    .gradients(&conv.geometry, &operands, &required);
                for (place, values) in [(&conv.weights, found.weights), (&conv.bias, found.bias)] {
                    if let Some(values) = values {
                        of_parameters[place.clone()].copy_from_slice(&values);
                    }
                }
                of_result = found.images;
            }
            of_result
        })?;
        let like =
            |values, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device());
        let of_images = of_images.map(|values| like(values, images)).transpose()?;
        Ok((of_images, Some(like(of_parameters, parameters)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Activation, Border, backward};
    use candle_core::{Device, Var};

    fn noise(shape: &[usize], seed: usize) -> Tensor {
        let count: usize = shape.iter().product();
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Result and gradients are those of the convolutions one by one, bit for bit.
    #[test]
    fn a_chain_is_its_convolutions() {
        let spec = |activation| ConvSpec {
            border: Border::Zero,
            activation,
            ..ConvSpec::default()
        };
        let var = |shape: &[usize], seed| Var::from_tensor(&noise(shape, seed)).unwrap();
        let x = var(&[2, 16, 11, 9], 1);
        let weights = [
            var(&[32, 16, 3, 3], 2),
            var(&[16, 32, 5, 5], 3),
            var(&[16, 16, 3, 3], 4),
        ];
        let biases = [var(&[32], 5), var(&[16], 6)];
        let activations = [Activation::Relu, Activation::Relu, Activation::None];
        let convs: Vec<ChainedConv<'_>> = (weights.iter().zip(activations).enumerate())
            .map(|(i, (weights, activation))| ChainedConv {
                weights,
                bias: biases.get(i).map(|bias| bias.as_tensor()),
                spec: spec(activation),
            })
            .collect();
        assert!(Chain::new(&x, &convs).unwrap().is_some());
        let chained = conv2d_chain(&x, &convs).unwrap();
        let one_by_one = convs.iter().fold(x.as_tensor().clone(), |images, conv| {
            conv2d(&images, conv.weights, conv.bias, conv.spec).unwrap()
        });
        let bits =
            |tensor: &Tensor| -> Vec<f32> { tensor.flatten_all().unwrap().to_vec1().unwrap() };
        assert_eq!(bits(&chained), bits(&one_by_one));
        let factors = noise(chained.dims(), 7);
        let [a, b] = [&chained, &one_by_one].map(|result| {
            let loss = (result * &factors).unwrap().sum_all().unwrap();
            [loss.backward().unwrap(), backward(&loss).unwrap()]
        });
        for var in weights.iter().chain(&biases).chain([&x]) {
            let expected = bits(b[0].get(var).unwrap());
            assert!(expected.iter().any(|v| v.abs() > 1e-3));
            for gradients in &a {
                assert_eq!(bits(gradients.get(var).unwrap()), expected);
            }
        }
    }

    /// Without gradients, with other convolutions among them, or where convolutions are
    /// recorded, each runs by itself.
    #[test]
    fn other_chains_run_one_by_one() {
        let x = noise(&[1, 16, 8, 8], 1);
        let narrow = Var::from_tensor(&noise(&[4, 16, 3, 3], 2)).unwrap();
        let wide = Var::from_tensor(&noise(&[16, 16, 3, 3], 3)).unwrap();
        let conv = |weights| ChainedConv {
            weights,
            bias: None,
            spec: ConvSpec::default(),
        };
        let is_one = |convs: &[ChainedConv<'_>]| Chain::new(&x, convs).unwrap().is_some();
        assert!(is_one(&[conv(&wide), conv(&wide)]));
        assert!(!is_one(&[conv(&wide)]));
        assert!(!is_one(&[conv(&wide), conv(&narrow)]));
        let constant = wide.detach();
        assert!(!is_one(&[conv(&wide), conv(&constant)]));
        let (_, recorded) = crate::ops::record_convs(|| {
            conv2d_chain(&x, &[conv(&wide), conv(&wide)]).unwrap();
        });
        assert_eq!(recorded.len(), 2);
        assert!(conv2d_chain(&x, &[conv(&narrow), conv(&narrow)]).is_err());
    }
}
