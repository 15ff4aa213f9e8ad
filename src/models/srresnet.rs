//! SRResNet: residual blocks at the input's resolution, then pixel shuffles
//! by two. As the generator of a GAN the same network is SRGAN.
//!
//! Christian Ledig et al., "Photo-Realistic Single Image Super-Resolution
//! Using a Generative Adversarial Network", CVPR 2017,
//! <https://arxiv.org/abs/1609.04802>. Parameter names as in
//! `sgrvinod/a-PyTorch-Tutorial-to-Super-Resolution`; those of
//! `vuniem131104/Super-Resolution-With-Pytorch`, whose third convolution is
//! 9x9 instead of 3x3, are supported too. Both take RGB normalised by the mean
//! and standard deviation of ImageNet and end in tanh.
//!
//! Batch normalisation is trained ([`Config::norm`]) and folded into the
//! convolutions of the network that runs: [`Network::reparameterized`].

use crate::chain::{Chain, ChainLayer, Epilogue};
use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Shapes,
    Upsampling, single_scale,
};
use crate::nn::{BatchNorm, Conv, pytorch_uniform};
use crate::ops::{Border, ConvSpec};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

/// The supported scales and their pixel shuffles by two.
const FACTORS: [(u32, usize); 3] = [(2, 1), (4, 2), (8, 3)];

/// Size of the first and the last kernel.
const OUTER_KERNEL: usize = 9;

/// Size of all other kernels but the third convolution's.
const KERNEL: usize = 3;

/// Initial slope of a PReLU, as in PyTorch.
const SLOPE: f64 = 0.25;

/// Mean and standard deviation of R, G and B over ImageNet.
const IMAGENET: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Factor of the initial weights that add to the image.
const RESIDUAL_INIT: f32 = 0.1;

/// Gain with which `tanh` comes closest to the identity from -1 to 1.
const TANH_GAIN: f32 = 1.25;

/// Bilinear weights of the previous, the current and the next sample, for the
/// first and the second half of a sample.
const HALVES: [[f32; KERNEL]; 2] = [[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]];

/// Configuration of an SRResNet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Number of residual blocks.
    pub blocks: usize,
    /// Size of the third convolution's kernel, the one after the blocks.
    pub third_kernel: usize,
    /// Whether there is batch normalisation, as in training.
    pub norm: bool,
    /// The border of all convolutions.
    pub border: Border,
}

impl Default for Config {
    /// The paper's: 1,401,749, 1,549,462 and 1,697,175 weights at x2, x4, x8.
    fn default() -> Self {
        Self {
            width: 64,
            blocks: 16,
            third_kernel: 3,
            norm: true,
            border: Border::Zero,
        }
    }
}

impl Config {
    fn check(&self) -> crate::Result<()> {
        if self.width > 0 && self.third_kernel % 2 == 1 {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "an SRResNet has layers that are not empty and kernels of odd sides, \
             not width {} and third_kernel {}",
            self.width, self.third_kernel
        )))
    }

    /// Changes the initial values of a parameter so that training starts close
    /// to bilinear upscaling: the first six channels carry R, G, B and their
    /// negatives (the difference of their PReLUs is a multiple of the value),
    /// and all other weights add little. Returns whether it changed them.
    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        let (width, planes) = (self.width, Channels::Rgb.count());
        if width < 2 * planes {
            return false;
        }
        // A value as a share of the difference of the two channels that carry it.
        let share = 1.0 / (1.0 + SLOPE as f32);
        let block_end = match self.norm {
            true => "1.weight",
            false => "0.weight",
        };
        let after_blocks = name == format!("conv_block2.conv_block.{block_end}");
        if after_blocks || name.ends_with(&format!(".conv_block2.conv_block.{block_end}")) {
            values.iter_mut().for_each(|value| *value *= RESIDUAL_INIT);
            return true;
        }
        let kernel = match name {
            "conv_block1.conv_block.0.weight" | "conv_block3.conv_block.0.weight" => OUTER_KERNEL,
            _ => KERNEL,
        };
        let (area, middle) = (kernel * kernel, kernel * kernel / 2);
        let signed = [(0, 1.0), (planes, -1.0)];
        match name {
            "conv_block1.conv_block.0.weight" => {
                for (plane, (from, sign)) in (0..planes).flat_map(|p| signed.map(|s| (p, s))) {
                    let filter = &mut values[(from + plane) * planes * area..][..planes * area];
                    filter.fill(0.0);
                    filter[plane * area + middle] = sign;
                }
            }
            "conv_block1.conv_block.0.bias" => values[..2 * planes].fill(0.0),
            "conv_block3.conv_block.0.weight" => {
                values.iter_mut().for_each(|value| *value *= RESIDUAL_INIT);
                for (plane, (_, spread)) in IMAGENET.into_iter().enumerate() {
                    let filter = &mut values[plane * width * area..][..width * area];
                    for (from, sign) in signed {
                        filter[(from + plane) * area + middle] =
                            sign * share * 2.0 * spread * TANH_GAIN;
                    }
                }
            }
            "conv_block3.conv_block.0.bias" => {
                for (value, (mean, _)) in values.iter_mut().zip(IMAGENET) {
                    *value = TANH_GAIN * (2.0 * mean - 1.0);
                }
            }
            _ if name.starts_with("subpixel_convolutional_blocks.") => {
                let passing = 4 * 2 * planes;
                if name.ends_with(".conv.bias") {
                    values[..passing].fill(0.0);
                } else if name.ends_with(".conv.weight") {
                    let filters = values.chunks_exact_mut(width * area).take(passing);
                    for (output, filter) in filters.enumerate() {
                        filter.fill(0.0);
                        let (channel, half) = (output / 4, [output / 2 % 2, output % 2]);
                        let own_sign = signed[channel / planes].1;
                        for (from, sign) in signed {
                            let taps = &mut filter[(from + channel % planes) * area..][..area];
                            for (at, tap) in taps.iter_mut().enumerate() {
                                let (y, x) = (HALVES[half[0]][at / 3], HALVES[half[1]][at % 3]);
                                *tap = own_sign * sign * share * y * x;
                            }
                        }
                    }
                } else {
                    return false;
                }
            }
            _ => return false,
        }
        true
    }

    /// The layers for a number of pixel shuffles, in order.
    fn plans(&self, shuffles: usize) -> Vec<Plan> {
        let width = self.width;
        let same = |conv: String, norm: Option<String>| Plan {
            norm: norm.filter(|_| self.norm),
            ..Plan::new(conv, (width, width), KERNEL)
        };
        let mut plans = vec![Plan {
            slope: Some("conv_block1.conv_block.1".to_owned()),
            ..Plan::new(
                "conv_block1.conv_block.0".to_owned(),
                (Channels::Rgb.count(), width),
                OUTER_KERNEL,
            )
        }];
        for i in 0..self.blocks {
            let [first, second] =
                [1, 2].map(|half| format!("residual_blocks.{i}.conv_block{half}.conv_block"));
            plans.push(Plan {
                slope: Some(format!("{first}.2")),
                ..same(format!("{first}.0"), Some(format!("{first}.1")))
            });
            plans.push(Plan {
                // The block's input.
                skip: Some(plans.len() - 1),
                ..same(format!("{second}.0"), Some(format!("{second}.1")))
            });
        }
        plans.push(Plan {
            kernel: self.third_kernel,
            skip: Some(1),
            ..same(
                "conv_block2.conv_block.0".to_owned(),
                Some("conv_block2.conv_block.1".to_owned()),
            )
        });
        plans.extend((0..shuffles).map(|i| {
            let name = format!("subpixel_convolutional_blocks.{i}");
            Plan {
                slope: Some(format!("{name}.prelu")),
                shuffle: 2,
                ..Plan::new(format!("{name}.conv"), (width, 4 * width), KERNEL)
            }
        }));
        plans.push(Plan::new(
            "conv_block3.conv_block.0".to_owned(),
            (width, Channels::Rgb.count()),
            OUTER_KERNEL,
        ));
        plans
    }
}

/// A convolution and the layers after it: tensor names and sizes.
struct Plan {
    conv: String,
    norm: Option<String>,
    slope: Option<String>,
    /// Channels in and out.
    channels: (usize, usize),
    kernel: usize,
    skip: Option<usize>,
    shuffle: usize,
}

impl Plan {
    /// The convolution alone.
    fn new(conv: String, channels: (usize, usize), kernel: usize) -> Self {
        Self {
            conv,
            norm: None,
            slope: None,
            channels,
            kernel,
            skip: None,
            shuffle: 1,
        }
    }

    fn link(&self, vb: &VarBuilder, border: Border) -> candle_core::Result<ChainLayer> {
        let (inputs, outputs) = self.channels;
        let init = pytorch_uniform(inputs * self.kernel * self.kernel);
        let shape = (outputs, inputs, self.kernel, self.kernel);
        let slope = |name: &String| {
            let vb = vb.pp(name);
            vb.get_with_hints(1, "weight", Init::Const(SLOPE))
        };
        let conv = vb.pp(&self.conv);
        Ok(ChainLayer {
            name: String::new(),
            conv: Conv {
                weight: conv.get_with_hints(shape, "weight", init)?,
                bias: Some(conv.get_with_hints(outputs, "bias", init)?),
                spec: ConvSpec {
                    border,
                    ..ConvSpec::default()
                },
            },
            slope: self.slope.as_ref().map(slope).transpose()?,
            skip: self.skip,
            shuffle: self.shuffle,
        })
    }
}

impl ArchitectureConfig for Config {
    fn reparameterized(&self) -> Self {
        Self {
            norm: false,
            ..self.clone()
        }
    }

    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn border_mut(&mut self) -> Option<&mut Border> {
        Some(&mut self.border)
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(SrResNet::new(vb, self, &scales)?))
    }

    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        Self::identity_init(self, name, values)
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let renames: Vec<(String, String)> = shapes
        .keys()
        .filter(|name| !name.ends_with(".num_batches_tracked"))
        .map(|name| Some((name.clone(), native_name(name)?)))
        .collect::<Option<_>>()?;
    let shape = |ours: &str| {
        let (theirs, _) = renames.iter().find(|(_, name)| name == ours)?;
        <[usize; 4]>::try_from(shapes.get(theirs)?.as_slice()).ok()
    };
    let count =
        |name: fn(usize) -> String| (0..).take_while(|&i| shape(&name(i)).is_some()).count();
    let [width, planes, ..] = shape("conv_block1.conv_block.0.weight")?;
    let shuffles = count(|i| format!("subpixel_convolutional_blocks.{i}.conv.weight"));
    let config = Config {
        width,
        blocks: count(|i| format!("residual_blocks.{i}.conv_block2.conv_block.0.weight")),
        third_kernel: shape("conv_block2.conv_block.0.weight")?[3],
        norm: renames
            .iter()
            .any(|(_, name)| name == "conv_block2.conv_block.1.weight"),
        border: Border::Zero,
    };
    let (factor, _) = FACTORS.into_iter().find(|(_, n)| *n == shuffles)?;
    (planes == Channels::Rgb.count()).then(|| Detected {
        config,
        renames,
        scales: Some(Scales::list([Scale::whole(factor)])),
    })
}

/// The native name of a tensor of either project; `None` for any other.
fn native_name(name: &str) -> Option<String> {
    const NATIVE: [&str; 5] = [
        "conv_block1.",
        "residual_blocks.",
        "conv_block2.",
        "subpixel_convolutional_blocks.",
        "conv_block3.",
    ];
    const BLOCKS: [(&str, &str); 3] = [
        ("first_block.", "conv_block1.conv_block."),
        ("third_block.", "conv_block2.conv_block."),
        ("last_block.", "conv_block3.conv_block."),
    ];
    if NATIVE.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(name.to_owned());
    }
    let renamed = |(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?));
    if let Some(name) = BLOCKS.into_iter().find_map(renamed) {
        return Some(name);
    }
    if let Some(rest) = name.strip_prefix("all_residual_blocks.") {
        let (block, rest) = rest.split_once(".residual.")?;
        let (layer, part) = rest.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        // Convolution, norm and slope of the first half come before the second's.
        let (half, layer) = (1 + layer / 3, layer % 3);
        return Some(format!(
            "residual_blocks.{block}.conv_block{half}.conv_block.{layer}.{part}"
        ));
    }
    let (block, rest) = name
        .strip_prefix("all_subpixel_blocks.")?
        .split_once(".subpixel.")?;
    let (layer, part) = rest.split_once('.')?;
    let layer = match layer {
        "0" => "conv",
        "2" => "prelu",
        _ => return None,
    };
    Some(format!(
        "subpixel_convolutional_blocks.{block}.{layer}.{part}"
    ))
}

/// An SRResNet with its weights, for one scale.
#[derive(Debug, Clone)]
pub struct SrResNet {
    config: Config,
    scales: Scales,
    chain: Chain,
    /// Batch normalisation of the output of each layer's convolution.
    norms: Vec<Option<BatchNorm>>,
}

impl SrResNet {
    /// Reads (or, in training, creates) the weights for the one scale of `scales`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, a scale other than 2, 4 or 8.
    pub fn new(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Self> {
        config.check()?;
        let scale = single_scale(scales, "an SRResNet")?;
        let known = FACTORS.iter().find(|(f, _)| Scale::whole(*f) == scale);
        let &(_, shuffles) = known.ok_or_else(|| {
            Error::Setting(format!("an SRResNet upscales by 2, 4 or 8, not by {scale}"))
        })?;
        let plans = config.plans(shuffles);
        let links = plans.iter().map(|plan| plan.link(vb, config.border));
        let norms = plans.iter().map(|plan| {
            let norm = plan.norm.as_ref();
            norm.map(|name| BatchNorm::new(&vb.pp(name), plan.channels.1))
                .transpose()
        });
        let affine = IMAGENET.map(|(mean, spread)| (1.0 / spread, -mean / spread));
        Ok(Self {
            chain: Chain {
                layers: links.collect::<candle_core::Result<_>>()?,
                input_affine: affine.to_vec(),
                epilogue: Epilogue {
                    tanh: true,
                    ..Epilogue::default()
                },
                ..Chain::default()
            },
            norms: norms.collect::<candle_core::Result<_>>()?,
            scales: Scales::list([scale]),
            config: config.clone(),
        })
    }

    /// The network without batch normalisation.
    fn folded(&self) -> candle_core::Result<Chain> {
        let links = self.chain.layers.iter().zip(&self.norms);
        let links = links.map(|(link, norm)| {
            Ok(ChainLayer {
                conv: match norm {
                    Some(norm) => norm.folded(&link.conv)?,
                    None => link.conv.clone(),
                },
                ..link.clone()
            })
        });
        Ok(Chain {
            layers: links.collect::<candle_core::Result<_>>()?,
            ..self.chain.clone()
        })
    }
}

impl Network for SrResNet {
    fn channels(&self) -> Channels {
        Channels::Rgb
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "this SRResNet")?;
        Ok(Box::new(self.folded()?))
    }

    fn training_network(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.scales.expect(scale, "this SRResNet")?;
        Ok(Box::new(Training(self.clone())))
    }

    fn reparameterized(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        if !self.config.norm {
            return Ok(None);
        }
        let config = self.config.reparameterized();
        let chain = self.folded()?;
        let shuffles = chain.layers.iter().filter(|link| link.shuffle > 1).count();
        let mut tensors = Vec::new();
        for (plan, link) in config.plans(shuffles).into_iter().zip(chain.layers) {
            tensors.push((format!("{}.weight", plan.conv), link.conv.weight));
            let bias = link.conv.bias;
            tensors.extend(bias.map(|bias| (format!("{}.bias", plan.conv), bias)));
            let slope = plan.slope.zip(link.slope);
            tensors.extend(slope.map(|(name, slope)| (format!("{name}.weight"), slope)));
        }
        Ok(Some(tensors))
    }
}

/// The network in training, with normalisation by the batch's statistics.
#[derive(Debug)]
struct Training(SrResNet);

impl ScaleNetwork for Training {
    fn upsampling(&self) -> Upsampling {
        self.0.chain.upsampling()
    }

    fn halo(&self) -> usize {
        self.0.chain.halo()
    }

    fn border(&self) -> Border {
        self.0.config.border
    }

    fn macs(&self) -> u64 {
        self.0.chain.macs()
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Self(SrResNet { chain, norms, .. }) = self;
        chain.forward_with(x, |link, y| match norms.get(link) {
            Some(Some(norm)) => norm.train(&y),
            _ => Ok(y),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    fn noise(shape: &[usize], seed: usize) -> Tensor {
        let count: usize = shape.iter().product();
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// With identity initialisation the network is close to bilinear upscaling
    /// away from the borders.
    #[test]
    fn training_starts_near_bilinear_upscaling() {
        for (norm, scale) in [(false, 2), (false, 4), (true, 2)] {
            let config = Config {
                width: 16,
                blocks: 2,
                norm,
                ..Config::default()
            };
            let map = VarMap::new();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
            let scales = Scales::list([Scale::whole(scale)]);
            let network = SrResNet::new(&vb, &config, &scales).unwrap();
            let mut opened = 0;
            for (name, var) in map.data().lock().unwrap().iter() {
                let mut values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                if config.identity_init(name, &mut values) {
                    let values = Tensor::from_vec(values, var.shape(), &Device::Cpu);
                    var.set(&values.unwrap()).unwrap();
                    opened += 1;
                }
            }
            assert!(opened >= 8);
            let x = crate::models::ramps::image();
            let output = network.training_network(Scale::whole(scale)).unwrap();
            let output = output.forward(&x).unwrap();
            let expected = crate::ops::upsample_bilinear2d(&x, scale as usize).unwrap();
            let error = (output - expected).unwrap().abs().unwrap();
            let (edge, inner) = (8 * scale as usize, 8 * scale as usize);
            let error = error.narrow(2, edge, inner).unwrap();
            let error = error.narrow(3, edge, inner).unwrap().max_all().unwrap();
            let error = error.to_scalar::<f32>().unwrap();
            assert!(error < 0.12, "norm {norm}, x{scale}: {error}");
        }
    }

    /// A small network with random tensors, and those tensors.
    fn small(scale: u32) -> (SrResNet, VarMap) {
        let config = Config {
            width: 6,
            blocks: 2,
            ..Config::default()
        };
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let scales = Scales::list([Scale::whole(scale)]);
        let network = SrResNet::new(&vb, &config, &scales).unwrap();
        let mut names: Vec<_> = map.data().lock().unwrap().keys().cloned().collect();
        names.sort();
        for (i, name) in names.iter().enumerate() {
            let data = map.data().lock().unwrap();
            let shape = data[name].dims();
            let noise = noise(shape, i);
            // Small weights, so that tanh does not saturate.
            let fan_in: usize = shape[1..].iter().product();
            let noise = match name.ends_with("running_var") {
                true => noise + 0.5,
                false => (noise - 0.45).unwrap() * (1.5 / (fan_in as f64).sqrt()),
            };
            data[name].set(&noise.unwrap()).unwrap();
        }
        (network, map)
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn folded_equals_unfolded() {
        let (network, map) = small(2);
        let x = noise(&[2, 3, 9, 7], 50);
        let data = map.data().lock().unwrap();
        let plans = network.config.plans(1);
        let unfolded = network.chain.forward_with(&x, |i, y| {
            let Some(name) = &plans[i].norm else {
                return Ok(y);
            };
            let of = |part: &str| {
                data[&format!("{name}.{part}")]
                    .reshape((1, (), 1, 1))
                    .unwrap()
            };
            let spread = (of("running_var") + 1e-5)?.sqrt()?;
            y.broadcast_sub(&of("running_mean"))?
                .broadcast_div(&spread)?
                .broadcast_mul(&of("weight"))?
                .broadcast_add(&of("bias"))
        });
        let folded = network.for_scale(Scale::whole(2)).unwrap();
        let got = folded.forward(&x).unwrap();
        assert_eq!(got.dims(), [2, 3, 18, 14]);
        assert!(difference(&got, &unfolded.unwrap()) < 1e-5);
        let mut values = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.sort_by(f32::total_cmp);
        assert!(values[values.len() / 5] + 0.02 < values[values.len() / 5 * 4]);
    }

    #[test]
    fn the_reparameterized_network_equals_the_trained_one() {
        let (network, _) = small(4);
        let deployed = network.reparameterized().unwrap().unwrap();
        let config = &network.config.reparameterized();
        let vb = VarBuilder::from_tensors(deployed.into_iter().collect(), DType::F32, &Device::Cpu);
        let plain = SrResNet::new(&vb, config, network.scales()).unwrap();
        assert!(!config.norm && plain.reparameterized().unwrap().is_none());
        let x = noise(&[1, 3, 6, 5], 9);
        let of = |network: &SrResNet| {
            network
                .for_scale(Scale::whole(4))
                .unwrap()
                .forward(&x)
                .unwrap()
        };
        assert_eq!(difference(&of(&network), &of(&plain)), 0.0);
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (scale, third_kernel, count) in [
            (2, 3, 1_401_749),
            (4, 3, 1_549_462),
            (8, 3, 1_697_175),
            (4, 9, 1_844_374),
        ] {
            let config = Config {
                third_kernel,
                ..Config::default()
            };
            let map = VarMap::new();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
            SrResNet::new(&vb, &config, &Scales::list([Scale::whole(scale)])).unwrap();
            let data = map.data().lock().unwrap();
            let learnt = data
                .iter()
                .filter(|(name, _)| !BatchNorm::is_statistic(name));
            assert_eq!(
                learnt.map(|(_, var)| var.elem_count()).sum::<usize>(),
                count
            );
        }
    }

    #[test]
    fn other_scales_are_refused() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let build = |scales| SrResNet::new(&vb, &Config::default(), &scales);
        let error = build(Scales::list([Scale::whole(3)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("2, 4 or 8, not by 3"), "{error}");
        assert!(build(Scales::Any).is_err());
        let x2 = build(Scales::list([Scale::whole(2)])).unwrap();
        assert!(
            x2.for_scale(Scale::whole(4)).is_err() && x2.training_network(Scale::whole(4)).is_err()
        );
        // 4 of the first, 33 in the residual part, 1 before and 2 after the shuffle.
        assert_eq!(x2.for_scale(Scale::whole(2)).unwrap().halo(), 40);
    }
}
