//! Layers in integers, and how they follow from those in f32.

use super::range::{Range, Ranges};
use crate::chain::{Chain, ChainLayer};
use crate::tensor_error::Result;
use crate::{Error, ops::Activation};
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;

/// Steps of the first layer's input in the range of a sample, 0 to 1: every
/// sample of 8 bits is a whole number of them, and so is the middle.
pub(crate) const INPUT_STEPS: f32 = 32640.0;

/// The largest weight of the first layer.
const FIRST_LIMIT: f32 = 2047.0;

/// The largest sum of the magnitudes of an output channel's weights in the first
/// layer: times the largest input, three quarters of 2^31. The rest is for the bias.
const FIRST_SUM: f32 = 49_000.0;

/// The largest weight of other layers.
const LIMIT: f32 = 127.0;

/// The largest sum of the magnitudes of two weights whose products with samples
/// are added in 16 bits: times the largest sample, less than 2^15.
const PAIR_LIMIT: i32 = 128;

/// A convolution in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedLayer {
    /// (out, in, kernel height, kernel width).
    pub shape: [usize; 4],
    /// The weights, in steps of their output channel.
    pub weights: Vec<i16>,
    /// The value of a step of each output channel's weights.
    pub scales: Vec<f32>,
    /// The bias of each output channel, as a value.
    pub bias: Vec<f32>,
    /// The samples of the result; of the last layer, which has none, `None`.
    pub range: Option<Range>,
}

/// The layers of one or more chains in integers, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quantization {
    pub(super) layers: BTreeMap<String, QuantizedLayer>,
}

/// The values of a tensor.
pub(super) fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()
}

impl ChainLayer {
    /// Its name, or its place in the chain.
    pub(crate) fn name_at(&self, place: usize) -> String {
        match self.name.as_str() {
            "" => format!("layers.{place}"),
            name => name.to_owned(),
        }
    }

    /// What negative results of each channel are multiplied by.
    pub(crate) fn slopes(&self) -> candle_core::Result<Vec<f32>> {
        let channels = self.conv.weight.dim(0)?;
        let relu = self.conv.spec.activation == Activation::Relu;
        let slopes = match &self.slope {
            Some(slope) => values(slope)?,
            None => vec![if relu { 0.0 } else { 1.0 }],
        };
        Ok(match slopes.as_slice() {
            &[one] => vec![one; channels],
            _ => slopes,
        })
    }
}

/// Whether a layer is the first or the last one of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) first: bool,
    pub(crate) last: bool,
}

impl Place {
    pub(crate) fn of(i: usize, chain: &Chain) -> Self {
        Self {
            first: i == 0,
            last: i + 1 == chain.layers.len(),
        }
    }
}

/// The weights of the first layer for input planes without their scale
/// ([`Chain::combined_affine`]): the products are the same.
pub(crate) fn scaled_by_planes(weights: &mut [f32], taps: usize, planes: &[(f32, f32)]) {
    let filters = weights.chunks_exact_mut(taps * planes.len());
    filters.for_each(|filter| {
        for (taps, &(scale, _)) in filter.chunks_exact_mut(taps).zip(planes) {
            taps.iter_mut().for_each(|weight| *weight *= scale);
        }
    });
}

/// The sums of the weights of neighbouring input channels, tap by tap, of a filter
/// (in, taps).
fn pair_sums<T: Copy + std::iter::Sum<T>>(filter: &[T], taps: usize) -> impl Iterator<Item = T> {
    let pairs = filter.chunks(2 * taps);
    pairs.flat_map(move |two| {
        (0..taps).map(move |tap| two.iter().skip(tap).step_by(taps).copied().sum())
    })
}

/// The value of a step of the weights of each output channel, (out, in, taps).
pub(crate) fn weight_scales(weights: &[f32], shape: [usize; 4], first: bool) -> Vec<f32> {
    let [_, inputs, height, width] = shape;
    let taps = height * width;
    let filters = weights.chunks_exact(inputs * taps);
    let scale = |filter: &[f32]| {
        let largest = filter.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
        let scale = match first {
            true => {
                let sum: f32 = filter.iter().map(|w| w.abs()).sum();
                (largest / FIRST_LIMIT).max(sum / FIRST_SUM)
            }
            false => {
                let magnitudes: Vec<f32> = filter.iter().map(|w| w.abs()).collect();
                let pairs = pair_sums(&magnitudes, taps).fold(0.0, f32::max);
                // Each of the two may be rounded up by a half.
                (largest / LIMIT).max(pairs / (PAIR_LIMIT - 1) as f32)
            }
        };
        if scale > 0.0 { scale } else { 1.0 }
    };
    filters.map(scale).collect()
}

impl Quantization {
    /// The layers of chains in integers, with the samples of `ranges`. Layers of one
    /// name are one.
    ///
    /// # Errors
    ///
    /// A layer without a range, tensors that cannot be read.
    pub fn of_chains<'a>(
        chains: impl IntoIterator<Item = &'a Chain>,
        ranges: &Ranges,
    ) -> Result<Self> {
        let mut layers = BTreeMap::new();
        for chain in chains {
            for (i, link) in chain.layers.iter().enumerate() {
                let (name, place) = (link.name_at(i), Place::of(i, chain));
                if layers.contains_key(&name) {
                    continue;
                }
                let range = match place.last {
                    true => None,
                    false => Some(ranges.get(&name).ok_or_else(|| {
                        Error::Setting(format!("layer {name} has not been calibrated"))
                    })?),
                };
                let planes = chain.combined_affine(link.conv.weight.dim(1)?);
                let layer = QuantizedLayer::new(link, place, &planes, range)?;
                layers.insert(name, layer);
            }
        }
        Ok(Self { layers })
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layers by name.
    pub fn layers(&self) -> &BTreeMap<String, QuantizedLayer> {
        &self.layers
    }

    /// The layers of a chain, in order; `None` if one is missing or has another shape.
    pub(crate) fn of<'a>(&'a self, chain: &Chain) -> Option<Vec<&'a QuantizedLayer>> {
        let layer = |(i, link): (usize, &ChainLayer)| {
            let layer = self.layers.get(&link.name_at(i))?;
            let same = link.conv.weight.dims() == layer.shape;
            let ends = layer.range.is_none() == Place::of(i, chain).last;
            (same && ends).then_some(layer)
        };
        chain.layers.iter().enumerate().map(layer).collect()
    }
}

impl QuantizedLayer {
    /// A layer with the planes of its input, of the first one, and the range of its
    /// result.
    fn new(
        link: &ChainLayer,
        place: Place,
        planes: &[(f32, f32)],
        range: Option<Range>,
    ) -> Result<Self> {
        let (outputs, inputs, height, width) = link.conv.weight.dims4()?;
        let shape = [outputs, inputs, height, width];
        let mut weights = values(&link.conv.weight)?;
        if place.first {
            scaled_by_planes(&mut weights, height * width, planes);
        }
        let scales = weight_scales(&weights, shape, place.first);
        let filter = inputs * height * width;
        let weights = weights.chunks_exact(filter).zip(&scales);
        let rounded =
            weights.flat_map(|(filter, scale)| filter.iter().map(move |w| (w / scale).round()));
        Ok(Self {
            shape,
            weights: rounded.map(|weight| weight as i16).collect(),
            scales,
            bias: match &link.conv.bias {
                Some(bias) => values(bias)?,
                None => vec![0.0; outputs],
            },
            range,
        })
    }

    /// Whether the weights, and the sums of neighbouring products, stay in the widths that
    /// the kernels give them.
    pub(crate) fn check(&self, first: bool) -> bool {
        let [_, inputs, height, width] = self.shape;
        let taps = height * width;
        self.weights.chunks_exact(inputs * taps).all(|filter| {
            let magnitudes: Vec<i32> = filter.iter().map(|&w| i32::from(w).abs()).collect();
            let largest = magnitudes.iter().copied().max().unwrap_or(0);
            match first {
                true => largest <= FIRST_LIMIT as i32,
                false => {
                    let mut pairs = pair_sums(&magnitudes, taps);
                    largest <= LIMIT as i32 && pairs.all(|sum| sum <= PAIR_LIMIT)
                }
            }
        })
    }
}
