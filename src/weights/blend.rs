//! Weights between those of two networks of one architecture: deep network interpolation
//! (Xintao Wang et al., CVPR 2019, <https://arxiv.org/abs/1811.10515>).

use super::ParsedCheckpoint;
use crate::chain::quantized::{Quantization, QuantizedLayer, Range};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// The kernels add two products in 16 bits, so that two weights have a sum of at most 128.
/// In steps larger by this, weights between such stay so when they are rounded.
const ROUNDING: f32 = 128.0 / 127.0;

impl ParsedCheckpoint {
    /// The weights between these and those of another network: `share` of the other's, in
    /// 8-bit integers, too, where both have such.
    ///
    /// # Errors
    ///
    /// Tensors that differ in names or shapes.
    pub(super) fn blended(&self, other: &Self, share: f32) -> Result<Self> {
        let tensors = self.tensors.iter().map(|(name, own)| {
            let missing = || Error::Setting(format!("no tensor {name} to blend with"));
            let other = other.tensors.get(name).ok_or_else(missing)?;
            let blended = tensor(own, other, f64::from(share)).map_err(Error::compute)?;
            Ok((name.clone(), blended))
        });
        let quantization = quantization(&self.quantization, &other.quantization, share)?;
        Ok(Self {
            tensors: tensors.collect::<Result<_>>()?,
            int8_loss: self.int8_loss.zip(other.int8_loss).map(|(a, b)| a.max(b)),
            quantization: Arc::new(quantization),
            ..self.clone()
        })
    }
}

fn tensor(own: &Tensor, other: &Tensor, share: f64) -> candle_core::Result<Tensor> {
    let (own, other) = (own.to_dtype(DType::F32)?, other.to_dtype(DType::F32)?);
    let way = (other - &own)?;
    own + (way * share)?
}

/// The layers between those of two networks; none if one of them has none.
fn quantization(own: &Quantization, other: &Quantization, share: f32) -> Result<Quantization> {
    let mut tensors = HashMap::new();
    for (name, layer) in own.layers() {
        let Some(other) = other.layers().get(name) else {
            return Ok(Quantization::default());
        };
        let blended = layer_tensors(layer, other, share).map_err(Error::compute)?;
        let named = blended.into_iter();
        tensors.extend(named.map(|(part, tensor)| (format!("int8.{name}.{part}"), tensor)));
    }
    Quantization::from_tensors("weights between two", &tensors)
}

/// A layer between two, as the tensors of a file.
fn layer_tensors(
    own: &QuantizedLayer,
    other: &QuantizedLayer,
    share: f32,
) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
    let mix = |(a, b): (&f32, &f32)| a + share * (b - a);
    let values = |layer: &QuantizedLayer| -> Vec<f32> {
        let [_, inputs, height, width] = layer.shape;
        let filters = layer.weights.chunks(inputs * height * width);
        let filters = filters.zip(&layer.scales);
        filters
            .flat_map(|(filter, scale)| filter.iter().map(move |&w| f32::from(w) * scale))
            .collect()
    };
    let steps = own.scales.iter().zip(&other.scales);
    let scales: Vec<f32> = steps.map(mix).map(|scale| scale * ROUNDING).collect();
    let (ours, others) = (values(own), values(other));
    let weights: Vec<f32> = ours.iter().zip(&others).map(mix).collect();
    let filter = weights.len() / scales.len().max(1);
    let filters = weights.chunks(filter.max(1)).zip(&scales);
    let rounded: Vec<f32> = filters
        .flat_map(|(filter, scale)| filter.iter().map(move |w| (w / scale).round()))
        .collect();
    let bias: Vec<f32> = own.bias.iter().zip(&other.bias).map(mix).collect();
    let mut tensors = vec![
        (
            "weight",
            Tensor::from_vec(rounded, &own.shape, &Device::Cpu)?,
        ),
        ("scale", Tensor::new(scales, &Device::Cpu)?),
        ("bias", Tensor::new(bias, &Device::Cpu)?),
    ];
    if let (Some(own), Some(other)) = (own.range, other.range) {
        let [least, largest] = [0, 1].map(|end| mix((&ends(own)[end], &ends(other)[end])));
        let step = (largest - least) / 255.0;
        let range = vec![step, (-least / step).round()];
        tensors.push(("range", Tensor::new(range, &Device::Cpu)?));
    }
    Ok(tensors)
}

/// The least and the largest value of a range.
fn ends(range: Range) -> [f32; 2] {
    let zero = f32::from(range.zero);
    [-zero * range.step, (255.0 - zero) * range.step]
}
