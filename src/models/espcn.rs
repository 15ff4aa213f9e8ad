//! ESPCN, deep and narrow: convolutions at the input's resolution and a pixel
//! shuffle, added to the bicubically upscaled image.
//!
//! Wenzhe Shi et al., "Real-Time Single Image and Video Super-Resolution Using
//! an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016,
//! <https://arxiv.org/abs/1609.05158>. This one has more and narrower layers,
//! ReLU, one trunk for all scales, and a last layer (head) for each of x2 to
//! x8. Fractional scales run at the next integer scale, followed by a downscale.
//!
//! In training the 3x3 layers start as the identity plus small random weights: Sergey Zagoruyko,
//! Nikos Komodakis, "DiracNets: Training Very Deep Neural Networks Without Skip-Connections",
//! 2017, <https://arxiv.org/abs/1706.00388>.
//!
//! With [`Config::reparam`] the 3x3 layers are trained as sums of several
//! branches, after Xindong Zhang, Hui Zeng, Lei Zhang, "Edge-oriented
//! Convolution Block for Real-time Super Resolution on Mobile Devices", ACM
//! Multimedia 2021. The branches are merged as kernels in every forward pass:
//! a training step costs hardly more, and zero padding stays exact.
//! [`Network::reparameterized`] is the merged network.

use crate::chain::{Chain, ChainLayer, Epilogue};
use crate::models::detect::Detected;
use crate::models::{
    ArchitectureConfig, BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Shapes,
    Upsampling,
};
use crate::nn::{Bicubic, Conv, pytorch_uniform};
use crate::ops::{Activation, Border, ConvSpec};
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder, ops::pixel_shuffle};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The factors that a head can have.
const FACTORS: RangeInclusive<u32> = 2..=8;

/// Size of the first kernel.
const FIRST_KERNEL: usize = 5;

/// Size of all other kernels.
const KERNEL: usize = 3;

/// The middle of the samples' range, subtracted before the first layer, so that
/// zero padding is grey.
const MIDDLE: f64 = 0.5;

/// Standard deviation of a head's initial weights, small so that training
/// starts near the bicubic image.
const HEAD_STDEV: f64 = 1e-3;

/// Factor of the random weights of 3x3 layers, which add to the identity.
const RANDOM_SHARE: f32 = 0.3;

/// Channels inside an expanding branch for each channel of the layer.
const EXPANSION: usize = 2;

/// The kernels of the edge branches: Sobel in both directions, Laplacian.
const EDGES: [[f32; KERNEL * KERNEL]; 3] = [
    [1.0, 0.0, -1.0, 2.0, 0.0, -2.0, 1.0, 0.0, -1.0],
    [1.0, 2.0, 1.0, 0.0, 0.0, 0.0, -1.0, -2.0, -1.0],
    [0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0],
];

/// Standard deviation of an edge branch's initial factors.
const EDGE_STDEV: f64 = 1e-3;

/// Configuration of an ESPCN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Channels between the layers.
    pub width: usize,
    /// Number of 3x3 layers between the first one and the head.
    pub depth: usize,
    /// Whether the 3x3 layers consist of branches, as in training.
    pub reparam: bool,
}

impl Default for Config {
    /// 16 channels, six 3x3 layers: 14,336 weights and 145 `r * r` a head.
    fn default() -> Self {
        Self {
            width: 16,
            depth: 6,
            reparam: false,
        }
    }
}

impl Config {
    /// The small one: three 3x3 layers, 7,376 weights and 145 `r * r` a head.
    pub fn fast() -> Self {
        Self {
            depth: 3,
            ..Self::default()
        }
    }

    /// The large one: 32 channels, five 3x3 layers, 47,072 weights and 289 `r * r` a head.
    pub fn hq() -> Self {
        Self {
            width: 32,
            depth: 5,
            ..Self::default()
        }
    }

    /// The scales that heads can have.
    fn scales() -> Scales {
        Scales::list(FACTORS.map(Scale::whole))
    }
}

impl ArchitectureConfig for Config {
    fn reparameterized(&self) -> Self {
        Self {
            reparam: false,
            ..self.clone()
        }
    }

    fn channels(&self) -> Channels {
        Channels::Luma
    }

    fn scales(&self) -> Option<Scales> {
        Some(Self::scales())
    }

    /// 3x3 layers start as the identity plus a share of their random weights, so that the first
    /// layer's features reach the head from the start.
    fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        let body = name.starts_with("body.") && name.ends_with(".weight");
        // Branches have the identity as one of theirs.
        if !body || self.reparam {
            return false;
        }
        let area = KERNEL * KERNEL;
        for (output, kernels) in values.chunks_exact_mut(self.width * area).enumerate() {
            kernels.iter_mut().for_each(|value| *value *= RANDOM_SHARE);
            kernels[output * area + area / 2] += 1.0;
        }
        true
    }

    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(Box::new(Espcn::new(vb, self, &scales)?))
    }

    fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        detect(shapes)
    }
}

/// Infers the configuration from tensor names and shapes.
fn detect(shapes: &Shapes) -> Option<Detected<Config>> {
    let shape = |name: &str| shapes.get(name).map(Vec::as_slice);
    let &[width, 1, FIRST_KERNEL, FIRST_KERNEL] = shape("first.weight")? else {
        return None;
    };
    let layer = |i: &usize| shape(&format!("body.{i}.weight")).is_some();
    let head = |factor: &u32| shape(&format!("{}.weight", head_name(*factor))).is_some();
    let factors: Vec<u32> = FACTORS.filter(head).collect();
    let config = Config {
        width,
        depth: (0..).take_while(layer).count(),
        reparam: shape("body.0.expand").is_some(),
    };
    (!factors.is_empty()).then(|| Detected {
        config,
        renames: shapes.keys().map(|k| (k.clone(), k.clone())).collect(),
        scales: Some(Scales::list(factors.into_iter().map(Scale::whole))),
    })
}

/// The factor of the head for a scale, if it can have one.
fn factor(scale: Scale) -> Option<u32> {
    (scale.den() == 1 && FACTORS.contains(&scale.num())).then_some(scale.num())
}

/// Prefix of a head's parameter names.
fn head_name(factor: u32) -> String {
    format!("heads.{factor}")
}

/// The branches of a 3x3 layer, merged into its kernel (C, C, 3, 3).
#[derive(Debug, Clone)]
struct Branches {
    /// (2 C, C): the 1x1 convolution of the expanding branch.
    expand: Tensor,
    /// (C, 2 C, 3, 3): the convolution after it.
    reduce: Tensor,
    /// (3, C, C): the 1x1 convolutions before the edge kernels.
    mix: Tensor,
    /// (3, C): the scale of the edge kernels.
    strength: Tensor,
    /// (3, 9): the edge kernels.
    edges: Tensor,
    /// (C, C, 3, 3): the identity kernel.
    identity: Tensor,
}

impl Branches {
    fn new(vb: &VarBuilder, width: usize) -> candle_core::Result<Self> {
        let inner = EXPANSION * width;
        let stdev = EDGE_STDEV;
        let strength = Init::Randn { mean: 0.0, stdev };
        let area = KERNEL * KERNEL;
        let identity: Vec<f32> = (0..width * width * area)
            .map(|i| {
                let (pair, tap) = (i / area, i % area);
                let same = pair / width == pair % width;
                if same && tap == area / 2 { 1.0 } else { 0.0 }
            })
            .collect();
        let square = (width, width, KERNEL, KERNEL);
        Ok(Self {
            expand: vb.get_with_hints((inner, width), "expand", pytorch_uniform(width))?,
            reduce: vb.get_with_hints(
                (width, inner, KERNEL, KERNEL),
                "reduce",
                pytorch_uniform(inner * area),
            )?,
            mix: vb.get_with_hints((EDGES.len(), width, width), "mix", pytorch_uniform(width))?,
            strength: vb.get_with_hints((EDGES.len(), width), "strength", strength)?,
            edges: Tensor::new(&EDGES, vb.device())?,
            identity: Tensor::from_vec(identity, square, vb.device())?,
        })
    }

    /// `kernel` with all branches merged into it.
    fn merged(&self, kernel: &Tensor) -> candle_core::Result<Tensor> {
        let (outputs, inner, height, width) = self.reduce.dims4()?;
        // (O, taps, 2 C) x (2 C, I): the 1x1 convolution merged into the 3x3 one.
        let expanded = self
            .reduce
            .reshape((outputs, inner, height * width))?
            .transpose(1, 2)?
            .reshape((outputs * height * width, inner))?
            .matmul(&self.expand)?
            .reshape((outputs, height * width, outputs))?
            .transpose(1, 2)?
            .reshape(kernel.shape())?;
        // (O I, edges) x (edges, taps).
        let edges = self
            .mix
            .broadcast_mul(&self.strength.unsqueeze(D::Minus1)?)?
            .flatten_from(1)?
            .t()?
            .matmul(&self.edges)?
            .reshape(kernel.shape())?;
        (kernel + &self.identity)? + (expanded + edges)?
    }
}

/// A 3x3 layer of the trunk.
#[derive(Debug, Clone)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
    branches: Option<Branches>,
}

impl Layer {
    fn new(vb: &VarBuilder, config: &Config) -> candle_core::Result<Self> {
        let width = config.width;
        let inputs = width * KERNEL * KERNEL;
        let init = match config.reparam {
            // The identity branch already passes the input on.
            true => pytorch_uniform(inputs),
            false => he(inputs),
        };
        let branches = config.reparam.then(|| Branches::new(vb, width));
        Ok(Self {
            weight: vb.get_with_hints((width, width, KERNEL, KERNEL), "weight", init)?,
            bias: vb.get_with_hints(width, "bias", Init::Const(0.0))?,
            branches: branches.transpose()?,
        })
    }

    /// The layer as one convolution.
    fn merged(&self) -> candle_core::Result<Conv> {
        let weight = match &self.branches {
            Some(branches) => branches.merged(&self.weight)?,
            None => self.weight.clone(),
        };
        Ok(conv(weight, self.bias.clone(), Activation::Relu))
    }
}

/// He et al. 2015, for layers before a ReLU.
fn he(inputs: usize) -> Init {
    let stdev = (2.0 / inputs as f64).sqrt();
    Init::Randn { mean: 0.0, stdev }
}

fn conv(weight: Tensor, bias: Tensor, activation: Activation) -> Conv {
    let spec = ConvSpec {
        border: Border::Zero,
        activation,
        ..ConvSpec::default()
    };
    Conv {
        weight,
        bias: Some(bias),
        spec,
    }
}

/// An ESPCN with its weights.
#[derive(Debug, Clone)]
pub struct Espcn {
    config: Config,
    scales: Scales,
    first: Conv,
    body: Vec<Layer>,
    /// The last layers with their factors.
    heads: Vec<(u32, Conv, Bicubic)>,
}

impl Espcn {
    /// Reads (or, in training, creates) the weights: `first`, `body.0` and so
    /// on, and `heads.R` for every scale R of `scales`; with [`Scales::Any`],
    /// for all heads in `vb`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape, a scale without a head.
    pub fn new(vb: &VarBuilder, config: &Config, scales: &Scales) -> Result<Self> {
        let width = config.width;
        if width == 0 {
            return Err(Error::Setting("an ESPCN of width 0 is empty".to_owned()).into());
        }
        let factors = factors(vb, scales)?;
        let taps = FIRST_KERNEL * FIRST_KERNEL;
        let first = conv(
            vb.get_with_hints(
                (width, 1, FIRST_KERNEL, FIRST_KERNEL),
                "first.weight",
                he(taps),
            )?,
            vb.get_with_hints(width, "first.bias", Init::Const(0.0))?,
            Activation::Relu,
        );
        let body = (0..config.depth).map(|i| Layer::new(&vb.pp(format!("body.{i}")), config));
        let body = body.collect::<candle_core::Result<_>>()?;
        let heads = factors.iter().map(|&factor| {
            let vb = vb.pp(head_name(factor));
            let outputs = (factor * factor) as usize;
            let init = Init::Randn {
                mean: 0.0,
                stdev: HEAD_STDEV,
            };
            let weight = vb.get_with_hints((outputs, width, KERNEL, KERNEL), "weight", init)?;
            let bias = vb.get_with_hints(outputs, "bias", Init::Const(0.0))?;
            let base = Bicubic::new(factor as usize, vb.device())?;
            Ok((factor, conv(weight, bias, Activation::None), base))
        });
        Ok(Self {
            heads: heads.collect::<candle_core::Result<_>>()?,
            scales: Scales::list(factors.into_iter().map(Scale::whole)),
            config: config.clone(),
            first,
            body,
        })
    }

    /// The 3x3 layers as single convolutions.
    fn merged_body(&self) -> candle_core::Result<Vec<Conv>> {
        self.body.iter().map(Layer::merged).collect()
    }
}

/// The factors of the heads for some scales.
fn factors(vb: &VarBuilder, scales: &Scales) -> Result<Vec<u32>> {
    let Scales::List(list) = scales else {
        let has = |&f: &u32| vb.contains_tensor(&format!("{}.weight", head_name(f)));
        return Ok(FACTORS.filter(has).collect());
    };
    let to_factor = |&scale: &Scale| {
        factor(scale).ok_or_else(|| {
            let (least, most) = (FACTORS.start(), FACTORS.end());
            Error::Setting(format!(
                "an ESPCN has heads for integer scales from {least} to {most}, not for {scale}"
            ))
        })
    };
    Ok(list.iter().map(to_factor).collect::<crate::Result<_>>()?)
}

impl Network for Espcn {
    fn channels(&self) -> Channels {
        Channels::Luma
    }

    fn scales(&self) -> &Scales {
        &self.scales
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        let factor = factor(scale);
        let head = self.heads.iter().find(|(f, ..)| Some(*f) == factor);
        let (factor, head, base) = head.ok_or_else(|| {
            let scales = &self.scales;
            Error::Setting(format!(
                "this ESPCN has heads for {scales}, not for {scale}"
            ))
        })?;
        Ok(Box::new(ScaledEspcn {
            factor: *factor as usize,
            first: self.first.clone(),
            body: self.merged_body()?,
            head: head.clone(),
            base: base.clone(),
        }))
    }

    fn reparameterized(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        if !self.config.reparam {
            return Ok(None);
        }
        let named = |name: String, conv: &Conv| {
            let bias = conv.bias.clone().map(|bias| (format!("{name}.bias"), bias));
            [Some((format!("{name}.weight"), conv.weight.clone())), bias]
        };
        let mut tensors = Vec::new();
        tensors.extend(named("first".to_owned(), &self.first));
        for (i, layer) in self.merged_body()?.iter().enumerate() {
            tensors.extend(named(format!("body.{i}"), layer));
        }
        for (factor, head, _) in &self.heads {
            tensors.extend(named(head_name(*factor), head));
        }
        Ok(Some(tensors.into_iter().flatten().collect()))
    }
}

/// An ESPCN for one scale.
#[derive(Debug)]
struct ScaledEspcn {
    factor: usize,
    first: Conv,
    body: Vec<Conv>,
    head: Conv,
    base: Bicubic,
}

impl ScaleNetwork for ScaledEspcn {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(self.factor)
    }

    fn halo(&self) -> usize {
        FIRST_KERNEL / 2 + (self.body.len() + 1) * (KERNEL / 2)
    }

    fn border(&self) -> Border {
        Border::Zero
    }

    fn chain(&self) -> candle_core::Result<Option<Chain>> {
        let named = |name: String, conv: &Conv| ChainLayer {
            name,
            ..ChainLayer::from(conv.clone())
        };
        let mut layers = vec![named("first".to_owned(), &self.first)];
        let body = self.body.iter().enumerate();
        layers.extend(body.map(|(i, conv)| named(format!("body.{i}"), conv)));
        layers.push(ChainLayer {
            name: head_name(self.factor as u32),
            shuffle: self.factor,
            ..ChainLayer::from(self.head.clone())
        });
        Ok(Some(Chain {
            layers,
            input_mean: MIDDLE as f32,
            epilogue: Epilogue {
                residual_bicubic: true,
                ..Epilogue::default()
            },
            ..Chain::default()
        }))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.first.forward(&(x - MIDDLE)?)?;
        let y = Conv::forward_all(&self.body, &y)?;
        let y = (self.head.forward(&y)? + self.base.forward(x)?)?;
        pixel_shuffle(&y, self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;
    use std::collections::HashMap;

    fn noise(shape: &[usize], spread: f32, seed: usize) -> Tensor {
        let count: usize = shape.iter().product();
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        let values: Vec<f32> = (0..count).map(|i| spread * value(i)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar().unwrap()
    }

    const WIDTH: usize = 5;

    fn reparam() -> Config {
        Config {
            width: WIDTH,
            depth: 3,
            reparam: true,
        }
    }

    /// All tensors of [`reparam`] as noise, large enough that every branch counts.
    fn tensors(scales: &Scales) -> HashMap<String, Tensor> {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        Espcn::new(&vb, &reparam(), scales).unwrap();
        let data = map.data().lock().unwrap();
        let mut names: Vec<_> = data.keys().cloned().collect();
        names.sort();
        let tensor = |(i, name): (usize, &String)| {
            let shape = data[name].dims();
            let fan_in = data[name].elem_count() / shape[0];
            let spread = 2.0 / (fan_in as f32).sqrt();
            (name.clone(), noise(shape, spread, i))
        };
        names.iter().enumerate().map(tensor).collect()
    }

    fn network(tensors: HashMap<String, Tensor>, config: &Config, scales: &Scales) -> Espcn {
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Espcn::new(&vb, config, scales).unwrap()
    }

    /// A layer with each branch computed as separate convolutions.
    fn branch_by_branch(x: &Tensor, layer: &Layer) -> Tensor {
        let branches = layer.branches.as_ref().unwrap();
        let plain = |weight: &Tensor| {
            let weight = weight.contiguous().unwrap();
            let zeros = Tensor::zeros(weight.dim(0).unwrap(), DType::F32, &Device::Cpu);
            conv(weight, zeros.unwrap(), Activation::None)
        };
        let inner = EXPANSION * WIDTH;
        let expand = branches.expand.reshape((inner, WIDTH, 1, 1)).unwrap();
        let wide = plain(&expand).forward(x).unwrap();
        let mut sum = (x + plain(&branches.reduce).forward(&wide).unwrap()).unwrap();
        sum = (sum + plain(&layer.weight).forward(x).unwrap()).unwrap();
        for (edge, kernel) in EDGES.iter().enumerate() {
            let mix = branches.mix.get(edge).unwrap();
            let mix = mix.reshape((WIDTH, WIDTH, 1, 1)).unwrap();
            let mixed = plain(&mix).forward(x).unwrap();
            let strength = branches.strength.get(edge).unwrap();
            let kernel = Tensor::from_slice(kernel, (1, 1, KERNEL, KERNEL), &Device::Cpu);
            let kernels = kernel
                .unwrap()
                .broadcast_mul(&strength.reshape((WIDTH, 1, 1, 1)).unwrap())
                .unwrap();
            let mut depthwise = plain(&kernels);
            depthwise.spec.groups = WIDTH;
            sum = (sum + depthwise.forward(&mixed).unwrap()).unwrap();
        }
        let bias = layer.bias.reshape((1, WIDTH, 1, 1)).unwrap();
        sum.broadcast_add(&bias).unwrap().relu().unwrap()
    }

    #[test]
    fn merged_branches_equal_separate_ones() {
        let scales = Scales::list([Scale::whole(2)]);
        let network = network(tensors(&scales), &reparam(), &scales);
        let x = noise(&[2, WIDTH, 9, 7], 2.0, 5);
        for layer in &network.body {
            let expected = branch_by_branch(&x, layer);
            let got = layer.merged().unwrap().forward(&x).unwrap();
            assert!(difference(&got, &expected) < 1e-5);
            let alone = conv(layer.weight.clone(), layer.bias.clone(), Activation::Relu);
            assert!(difference(&alone.forward(&x).unwrap(), &expected) > 0.1);
        }
    }

    #[test]
    fn the_reparameterized_network_equals_the_trained_one() {
        let scales = Scales::list([2, 5].map(Scale::whole));
        let trained = network(tensors(&scales), &reparam(), &scales);
        let deployed = trained.reparameterized().unwrap().unwrap();
        let config = &reparam().reparameterized();
        assert!(!config.reparam);
        let names: Vec<_> = deployed.iter().map(|t| t.0.as_str()).collect();
        assert_eq!(names.len(), 2 * (1 + 3 + 2), "{names:?}");
        let plain = network(deployed.into_iter().collect(), config, &Scales::Any);
        assert_eq!(plain.scales(), &scales);
        assert!(plain.reparameterized().unwrap().is_none());
        let x = (noise(&[1, 1, 11, 8], 1.0, 3) + 0.5).unwrap();
        for scale in [2, 5].map(Scale::whole) {
            let of = |network: &Espcn| network.for_scale(scale).unwrap().forward(&x).unwrap();
            let (a, b) = (of(&trained), of(&plain));
            let side = scale.num() as usize;
            assert_eq!(a.dims(), [1, 1, 11 * side, 8 * side]);
            assert!(difference(&a, &b) < 1e-6);
        }
    }

    #[test]
    fn the_halo_is_the_receptive_field() {
        for (config, halo) in [
            (Config::default(), 9),
            (Config::fast(), 6),
            (Config::hq(), 8),
        ] {
            let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
            let network = Espcn::new(&vb, &config, &Config::scales()).unwrap();
            assert_eq!(network.for_scale(Scale::whole(3)).unwrap().halo(), halo);
        }
    }

    #[test]
    fn scales_without_a_head_are_named() {
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let config = Config::fast();
        let scale: Scale = "5/2".parse().unwrap();
        let error = Espcn::new(&vb, &config, &Scales::list([scale])).unwrap_err();
        assert!(error.to_string().contains("5/2"), "{error}");
        let network = Espcn::new(&vb, &config, &Scales::list([Scale::whole(2)])).unwrap();
        let error = network
            .for_scale(Scale::whole(3))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("heads for 2, not for 3"), "{error}");
        let empty = Config { width: 0, ..config };
        assert!(Espcn::new(&vb, &empty, &Scales::Any).is_err());
    }

    #[test]
    fn training_starts_with_layers_near_the_identity() {
        let config = Config {
            width: 4,
            depth: 2,
            reparam: false,
        };
        let random = vec![0.1f32; 4 * 4 * 9];
        let mut values = random.clone();
        assert!(config.identity_init("body.1.weight", &mut values));
        for (i, value) in values.iter().enumerate() {
            let (output, input, tap) = (i / 36, i / 9 % 4, i % 9);
            let identity = if output == input && tap == 4 {
                1.0
            } else {
                0.0
            };
            assert!((value - identity - 0.03).abs() < 1e-6, "{i}: {value}");
        }
        for name in ["first.weight", "body.1.bias", "heads.2.weight"] {
            assert!(!config.identity_init(name, &mut values));
        }
        let branches = Config {
            reparam: true,
            ..config
        };
        assert!(!branches.identity_init("body.1.weight", &mut values));
    }
}
