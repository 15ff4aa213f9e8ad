//! SRVGGNetCompact: convolutions at the input's resolution and a pixel shuffle,
//! added to the input upscaled by nearest neighbour. At scale 1 it restores:
//! it denoises, deblocks or sharpens, as trained.
//!
//! Xintao Wang et al., Real-ESRGAN, `xinntao/Real-ESRGAN`, where
//! `realesr-animevideov3` has this architecture (BSD-3-Clause). Parameter names
//! as there: `body.0`, `body.2` and so on are the convolutions, `body.1`,
//! `body.3` the PReLU slopes between them.

use crate::chain::{Chain, ChainLayer, Epilogue};
use crate::models::detect::{Detected, kernels, shuffle_factor};
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, Scales, Shapes, single_scale,
};
use crate::nn::Conv;
use crate::ops::{Border, ConvSpec};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

/// Size of every kernel.
const KERNEL: usize = 3;

/// The largest factor: the last layer's channels grow by its square.
const MAX_FACTOR: u32 = 8;

/// Initial slope of a PReLU, as in PyTorch.
const SLOPE: f64 = 0.25;

/// Standard deviation of the last layer's initial weights, small so that
/// training starts near the nearest-neighbour upscaling.
const LAST_LAYER_STDEV: f64 = 1e-3;

/// Configuration of an SRVGGNetCompact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Number of convolutions between the first and the last one.
    pub depth: usize,
    /// The planes in and out.
    #[serde(skip_serializing_if = "is_rgb")]
    pub channels: Channels,
}

/// The default is not written, so that older versions read the file.
fn is_rgb(channels: &Channels) -> bool {
    *channels == Channels::Rgb
}

impl Default for Config {
    /// That of `realesr-animevideov3`: 600,652 weights at x2, 621,424 at x4.
    fn default() -> Self {
        Self {
            width: 64,
            depth: 16,
            channels: Channels::Rgb,
        }
    }
}

impl ArchitectureConfig for Config {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Compact::new(vb, self, &scales)?))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |i: usize| kernels(shapes, &format!("body.{i}.weight"));
    let convs = (0..).take_while(|i| shape(2 * i).is_some()).count();
    let [width, planes, ..] = shape(0)?;
    let [outputs, inputs, ..] = shape(2 * convs.checked_sub(1)?)?;
    // Weight and bias of each convolution, and the slopes in between.
    let is_all = shapes.len() == 3 * convs - 1;
    let factor = shuffle_factor(outputs, planes, MAX_FACTOR)?;
    let channels = Channels::from_count(planes)?;
    let fits = inputs == width && convs >= 2 && is_all;
    fits.then(|| Detected {
        config: Config {
            width,
            depth: convs - 2,
            channels,
        },
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// An SRVGGNetCompact with its weights, for one scale.
#[derive(Debug, Clone)]
pub struct Compact {
    channels: Channels,
    scales: Scales,
    chain: Chain,
}

impl Compact {
    /// Reads (or, in training, creates) the weights for the one scale of `scales`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, a scale that is not an
    /// integer from 1 to 8.
    pub fn new(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Self> {
        let scale = single_scale(scales, "an SRVGGNetCompact")?;
        let known = scale.den() == 1 && (1..=MAX_FACTOR).contains(&scale.num());
        if !known || config.width == 0 {
            return Err(Error::Setting(format!(
                "an SRVGGNetCompact upscales by 1 to {MAX_FACTOR} with layers that are not \
                 empty, not by {scale} with width {}",
                config.width
            ))
            .into());
        }
        let (factor, planes) = (scale.num() as usize, config.channels.count());
        let last = config.depth + 1;
        let link = |i: usize| -> candle_core::Result<ChainLayer> {
            let inputs = if i == 0 { planes } else { config.width };
            if i == last {
                let outputs = planes * factor * factor;
                return Ok(ChainLayer {
                    shuffle: factor,
                    ..conv(
                        &vb.pp(format!("body.{}", 2 * i)),
                        inputs,
                        outputs,
                        LAST_LAYER_STDEV,
                    )?
                });
            }
            // He et al. 2015, for layers before a ReLU.
            let stdev = (2.0 / (inputs * KERNEL * KERNEL) as f64).sqrt();
            let slope = vb.pp(format!("body.{}", 2 * i + 1));
            Ok(ChainLayer {
                slope: Some(slope.get_with_hints(config.width, "weight", Init::Const(SLOPE))?),
                ..conv(
                    &vb.pp(format!("body.{}", 2 * i)),
                    inputs,
                    config.width,
                    stdev,
                )?
            })
        };
        Ok(Self {
            channels: config.channels,
            scales: Scales::list([scale]),
            chain: Chain {
                layers: (0..=last).map(link).collect::<candle_core::Result<_>>()?,
                epilogue: Epilogue {
                    residual_nearest: true,
                    ..Epilogue::default()
                },
                ..Chain::default()
            },
        })
    }
}

fn conv(
    vb: &VarBuilder,
    inputs: usize,
    outputs: usize,
    stdev: f64,
) -> candle_core::Result<ChainLayer> {
    let weight: Tensor = vb.get_with_hints(
        (outputs, inputs, KERNEL, KERNEL),
        "weight",
        Init::Randn { mean: 0.0, stdev },
    )?;
    Ok(ChainLayer::from(Conv {
        weight,
        bias: Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?),
        spec: ConvSpec {
            border: Border::Zero,
            ..ConvSpec::default()
        },
    }))
}

impl Network for Compact {
    fn channels(&self) -> Channels {
        self.channels
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "this SRVGGNetCompact")?;
        Ok(Box::new(self.chain.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    fn network(config: &Config, scale: u32) -> (Compact, VarMap) {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let scales = Scales::list([Scale::whole(scale)]);
        (Compact::new(&vb, config, &scales).unwrap(), map)
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f64::from).collect()
    }

    /// The network as plain loops: planes of `size` (width, height) in and out.
    fn plain(
        map: &VarMap,
        depth: usize,
        factor: usize,
        (width, height): (usize, usize),
        input: &[f64],
    ) -> Vec<f64> {
        let data = map.data().lock().unwrap();
        let area = width * height;
        let mut x: Vec<Vec<f64>> = input.chunks(area).map(<[f64]>::to_vec).collect();
        for layer in 0..depth + 2 {
            let of = |i: usize, part: &str| values(&data[&format!("body.{i}.{part}")]);
            let (weight, bias) = (of(2 * layer, "weight"), of(2 * layer, "bias"));
            let slope = (layer <= depth).then(|| of(2 * layer + 1, "weight"));
            let mut output = Vec::new();
            for (c, &bias) in bias.iter().enumerate() {
                let mut plane = vec![bias; area];
                for (at, sum) in plane.iter_mut().enumerate() {
                    for (i, source) in x.iter().enumerate() {
                        for tap in 0..9 {
                            let (v, u) = (at / width + tap / 3, at % width + tap % 3);
                            let inside = (1..=height).contains(&v) && (1..=width).contains(&u);
                            if inside {
                                let w = weight[(c * x.len() + i) * 9 + tap];
                                *sum += w * source[(v - 1) * width + u - 1];
                            }
                        }
                    }
                    if let Some(slope) = slope.as_ref().filter(|_| *sum < 0.0) {
                        *sum *= slope[c];
                    }
                }
                output.push(plane);
            }
            x = output;
        }
        let wide = factor * width;
        let sample = |at: usize| {
            let (plane, v, u) = (
                at / (area * factor * factor),
                at / wide % (factor * height),
                at % wide,
            );
            let channel = (plane * factor + v % factor) * factor + u % factor;
            let from = v / factor * width + u / factor;
            x[channel][from] + input[plane * area + from]
        };
        let planes = input.len() / area;
        (0..planes * area * factor * factor).map(sample).collect()
    }

    #[test]
    fn equals_plain_loops() {
        for (factor, size, channels) in [
            (1, (6, 4), Channels::Rgb),
            (1, (9, 3), Channels::Luma),
            (2, (7, 5), Channels::Rgb),
            (2, (7, 5), Channels::Luma),
            (3, (4, 9), Channels::Rgb),
            (4, (1, 3), Channels::Rgb),
        ] {
            let config = Config {
                width: 5,
                depth: 2,
                channels,
            };
            let planes = channels.count();
            let (network, map) = network(&config, factor);
            for (i, var) in map.data().lock().unwrap().values().enumerate() {
                let count = var.elem_count();
                let noise = |k: usize| ((k * 7919 + i * 104_729) % 1009) as f32 / 1009.0 - 0.5;
                let noise: Vec<f32> = (0..count).map(noise).collect();
                let tensor = Tensor::from_vec(noise, var.shape(), &Device::Cpu).unwrap();
                var.set(&tensor).unwrap();
            }
            let input: Vec<f32> = (0..planes * size.0 * size.1)
                .map(|i| (i * 67 % 256) as f32 / 255.0)
                .collect();
            let x = Tensor::from_slice(&input, (1, planes, size.1, size.0), &Device::Cpu).unwrap();
            let ready = network.for_scale(Scale::whole(factor)).unwrap();
            let got = values(&ready.forward(&x).unwrap());
            let input: Vec<f64> = input.into_iter().map(f64::from).collect();
            let expected = plain(&map, config.depth, factor as usize, size, &input);
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 2e-5, "{got} for {expected}");
            }
        }
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (scale, count) in [(2, 600_652), (4, 621_424)] {
            let (_, map) = network(&Config::default(), scale);
            let data = map.data().lock().unwrap();
            let found: usize = data.values().map(|var| var.elem_count()).sum();
            assert_eq!(found, count);
        }
    }

    #[test]
    fn other_scales_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let build = |text: &str| {
            let scales = Scales::list([text.parse().unwrap()]);
            Compact::new(&vb, &Config::default(), &scales)
        };
        let error = build("5/2").unwrap_err().to_string();
        assert!(error.contains("not by 5/2"), "{error}");
        let x2 = build("2").unwrap();
        assert!(x2.for_scale(Scale::whole(4)).is_err());
        assert_eq!(x2.for_scale(Scale::whole(2)).unwrap().halo(), 18);
    }
}
