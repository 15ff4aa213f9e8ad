//! Quantised layers as tensors of a weights file.

use super::layers::{Quantization, QuantizedLayer, values};
use super::range::Range;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use safetensors::Dtype;
use safetensors::tensor::View;
use std::borrow::Cow;
use std::collections::HashMap;

/// What the names of the tensors begin with.
const PREFIX: &str = "int8.";

/// A tensor of a file.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for StoredTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl StoredTensor {
    fn floats(values: &[f32]) -> Self {
        Self {
            dtype: Dtype::F32,
            shape: vec![values.len()],
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// Whole numbers, in as few bytes as they fit.
    fn integers(values: &[i16], shape: &[usize]) -> Self {
        let narrow: Option<Vec<i8>> = values.iter().map(|&v| i8::try_from(v).ok()).collect();
        let (dtype, bytes) = match narrow {
            Some(narrow) => (
                Dtype::I8,
                narrow.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
            None => (
                Dtype::I16,
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
        };
        Self {
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// A tensor of f32 or f16.
    ///
    /// # Errors
    ///
    /// A device that is gone.
    pub(crate) fn of(tensor: &Tensor) -> candle_core::Result<Self> {
        let shape = tensor.dims().to_vec();
        if tensor.dtype() == DType::F16 {
            let values = tensor.flatten_all()?.to_vec1::<half::f16>()?;
            return Ok(Self {
                dtype: Dtype::F16,
                shape,
                bytes: values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            });
        }
        Ok(Self {
            shape,
            ..Self::floats(&values(tensor)?)
        })
    }
}

/// Whether a tensor belongs to a quantisation.
pub(crate) fn is_quantized(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Quantization {
    /// The tensors by name: of each layer `weight`, `scale`, `bias` and, of all but
    /// the last, `range` (step, zero).
    pub(crate) fn to_tensors(&self) -> Vec<(String, StoredTensor)> {
        let layers = self.layers.iter().flat_map(|(name, layer)| {
            let range = layer.range.map(|range| {
                let range = StoredTensor::floats(&[range.step, f32::from(range.zero)]);
                (format!("{PREFIX}{name}.range"), range)
            });
            let weight = StoredTensor::integers(&layer.weights, &layer.shape);
            [
                (format!("{PREFIX}{name}.weight"), weight),
                (
                    format!("{PREFIX}{name}.scale"),
                    StoredTensor::floats(&layer.scales),
                ),
                (
                    format!("{PREFIX}{name}.bias"),
                    StoredTensor::floats(&layer.bias),
                ),
            ]
            .into_iter()
            .chain(range)
        });
        layers.collect()
    }

    /// The layers in the tensors of a file, which `origin` names in errors.
    ///
    /// # Errors
    ///
    /// Tensors that are missing, of the wrong shape, or have values that no layer has.
    pub(crate) fn from_tensors(origin: &str, tensors: &HashMap<String, Tensor>) -> Result<Self> {
        let mut quantization = Self::default();
        for name in tensors.keys() {
            let layer = name
                .strip_prefix(PREFIX)
                .and_then(|name| name.strip_suffix(".weight"));
            if let Some(layer) = layer {
                let found = read_layer(origin, tensors, layer)?;
                quantization.layers.insert(layer.to_owned(), found);
            }
        }
        Ok(quantization)
    }
}

fn read_layer(
    origin: &str,
    tensors: &HashMap<String, Tensor>,
    layer: &str,
) -> Result<QuantizedLayer> {
    let problem = |part: &str, what: &str| {
        Error::weights(origin, format!("tensor {PREFIX}{layer}.{part} {what}"))
    };
    let get = |part: &str| tensors.get(&format!("{PREFIX}{layer}.{part}"));
    let floats = |part: &str, len: usize| -> Result<Vec<f32>> {
        let tensor = get(part).ok_or_else(|| problem(part, "is missing"))?;
        let found = values(tensor).map_err(Error::compute)?;
        match found.len() == len {
            true => Ok(found),
            false => Err(problem(
                part,
                &format!("has {} values, expected {len}", found.len()),
            )),
        }
    };
    let weight = get("weight").ok_or_else(|| problem("weight", "is missing"))?;
    let shape = weight
        .dims4()
        .map_err(|_| problem("weight", "has no four dimensions"))?;
    let shape = <[usize; 4]>::from(shape);
    let count = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let weights = floats("weight", count.unwrap_or(usize::MAX))?;
    let is_integer = |w: &f32| w.fract() == 0.0 && w.abs() <= f32::from(i16::MAX);
    if !weights.iter().all(is_integer) {
        return Err(problem(
            "weight",
            "holds values that are no 16-bit integers",
        ));
    }
    let scales = floats("scale", shape[0])?;
    if !scales.iter().all(|&scale| scale > 0.0) {
        return Err(problem("scale", "holds values that are not positive"));
    }
    let range = match get("range") {
        None => None,
        Some(_) => match floats("range", 2)?.as_slice() {
            &[step, zero] if step > 0.0 && zero.fract() == 0.0 && (0.0..=255.0).contains(&zero) => {
                Some(Range {
                    step,
                    zero: zero as u8,
                })
            }
            _ => return Err(problem("range", "holds no step and zero point")),
        },
    };
    Ok(QuantizedLayer {
        shape,
        weights: weights.iter().map(|&w| w as i16).collect(),
        scales,
        bias: floats("bias", shape[0])?,
        range,
    })
}
