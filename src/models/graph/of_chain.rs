//! Chains of convolutions as graphs.

use super::{Builder, Graph, Value};
use crate::Error;
use crate::chain::{Chain, ChainLayer};
use crate::models::Channels;
use crate::models::graph::{Op, PadMode};
use crate::ops::{Activation, Border};
use crate::tensor_error::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

/// Samples on each side that bicubic interpolation reads.
const REACH: usize = 2;

impl Graph {
    /// The graph of a chain on an image that is first enlarged `enlarged` times,
    /// bicubically.
    ///
    /// # Errors
    ///
    /// A chain without padding.
    pub(crate) fn of_chain(chain: &Chain, channels: Channels, enlarged: usize) -> Result<Self> {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let mut b = Builder::new(&vb, channels);
        let input = b.input();
        let input = match enlarged {
            1 => input,
            _ => bicubic(&mut b, &input, enlarged)?,
        };
        let affine = match chain.input_mean == 0.0 && chain.input_affine.is_empty() {
            true => Vec::new(),
            false => chain.combined_affine(channels.count()),
        };
        let mut x = input.clone();
        if affine.iter().any(|&(scale, _)| scale != 1.0) {
            x = b.times_each(&x, &affine.iter().map(|plane| plane.0).collect::<Vec<_>>())?;
        }
        if affine.iter().any(|&(_, offset)| offset != 0.0) {
            x = b.plus(&x, &affine.iter().map(|plane| plane.1).collect::<Vec<_>>())?;
        }
        let mut boundaries = vec![x.clone()];
        for layer in &chain.layers {
            x = follow(&mut b, layer, &x, &boundaries)?;
            boundaries.push(x.clone());
        }
        let factor = chain.factor();
        if chain.epilogue.residual_bicubic {
            let base = match factor {
                1 => input.clone(),
                _ => bicubic(&mut b, &input, factor)?,
            };
            x = b.add(&x, &base);
        }
        if chain.epilogue.residual_nearest {
            let base = match factor {
                1 => input,
                _ => b.repeat(&input, factor)?,
            };
            x = b.add(&x, &base);
        }
        if chain.epilogue.tanh {
            let y = b.map(Op::Tanh, &x);
            let y = b.plus(&y, &[1.0])?;
            x = b.times(&y, 0.5)?;
        }
        b.finish(&x)
    }
}

/// A layer with what follows it.
fn follow(
    b: &mut Builder<'_>,
    layer: &ChainLayer,
    x: &Value,
    boundaries: &[Value],
) -> Result<Value> {
    let spec = layer.conv.spec;
    let (outputs, _, rows, columns) = layer.conv.weight.dims4()?;
    if spec.border == Border::Valid || spec.stride != 1 || rows != columns || rows % 2 == 0 {
        let problem = "a network without padding is no graph on images of any size";
        return Err(Error::Setting(problem.to_owned()).into());
    }
    let half = spec.dilation * (rows / 2);
    let x = match spec.border {
        Border::Replicate if half > 0 => b.padded(x, half, PadMode::Edge),
        _ => x.clone(),
    };
    let pad = if spec.border == Border::Replicate {
        0
    } else {
        half
    };
    let bias = match &layer.conv.bias {
        Some(bias) => bias.clone(),
        None => Tensor::zeros(outputs, DType::F32, &Device::Cpu)?,
    };
    let weight = layer.conv.weight.clone();
    let mut y = b.conv_spec(&x, weight, bias, pad, (spec.dilation, spec.groups))?;
    if spec.activation == Activation::Relu {
        y = b.map(Op::Relu, &y);
    }
    if let Some(slope) = &layer.slope {
        y = b.prelu(&y, slope)?;
    }
    if let Some(skip) = layer.skip {
        let Some(other) = boundaries.get(skip) else {
            let problem = format!("a chain adds boundary {skip}, which is not before it");
            return Err(Error::Setting(problem).into());
        };
        y = b.add(&y, other);
    }
    Ok(match layer.shuffle {
        1 => y,
        block => b.shuffle(&y, block),
    })
}

/// Enlarges as our resampler does: Keys' cubic with a = -0.5, beyond mirrored edges, which
/// `Resize` does not have.
fn bicubic(b: &mut Builder<'_>, x: &Value, factor: usize) -> Result<Value> {
    let x = b.mirrored(x, REACH);
    let y = b.cubic(&x, factor)?;
    Ok(b.cropped(&y, factor * REACH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Epilogue;
    use crate::nn::Conv;
    use crate::ops::ConvSpec;

    fn noise(planes: usize, (height, width): (usize, usize)) -> Tensor {
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 1009.0;
        let values: Vec<f32> = (0..planes * height * width).map(value).collect();
        Tensor::from_vec(values, (1, planes, height, width), &Device::Cpu).unwrap()
    }

    fn largest(a: &Tensor, b: &Tensor) -> f32 {
        let off = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        off.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn a_chain_keeps_its_mean_and_its_border() {
        let conv = |outputs: usize, inputs: usize, border| Conv {
            weight: noise(outputs, (inputs, 9))
                .reshape((outputs, inputs, 3, 3))
                .unwrap(),
            bias: None,
            spec: ConvSpec {
                border,
                dilation: 2,
                ..ConvSpec::default()
            },
        };
        for border in [Border::Zero, Border::Replicate] {
            let chain = Chain {
                layers: vec![
                    ChainLayer::from(conv(4, 1, border)),
                    ChainLayer {
                        skip: Some(1),
                        ..ChainLayer::from(conv(4, 4, border))
                    },
                    ChainLayer::from(conv(1, 4, border)),
                ],
                input_mean: 0.25,
                input_affine: vec![(2.0, 0.125)],
                epilogue: Epilogue {
                    residual_bicubic: true,
                    residual_nearest: true,
                    tanh: true,
                },
            };
            let x = noise(1, (9, 11));
            let graph = Graph::of_chain(&chain, Channels::Luma, 1).unwrap();
            let off = largest(&graph.run(&x).unwrap().0, &chain.forward(&x).unwrap());
            assert!(off < 1e-6, "off by {off}");
        }
    }
}
