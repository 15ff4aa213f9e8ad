//! Perceptual loss: the distance of two images in the feature space of a
//! classification network.
//!
//! Justin Johnson, Alexandre Alahi, Li Fei-Fei, "Perceptual Losses for
//! Real-Time Style Transfer and Super-Resolution", ECCV 2016.

use crate::loss::imagenet::{normalised, scaled};
use crate::recipe::{Distance, Perceptual};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use srfilter::nn::Conv;
use srfilter::ops::{Activation, Border, ConvSpec, max_pool2d};
use srfilter::weights::Checkpoint;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Means of B, G and R (0 to 255) that SqueezeNet was trained with.
const CAFFE_MEAN: [f32; 3] = [104.0, 117.0, 123.0];

/// The layers of LPIPS: of VGG, and of SqueezeNet.
const LPIPS_VGG: &[&str] = &["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"];
const LPIPS_SQUEEZENET: &[&str] = &[
    "conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9",
];

/// Added to norms, as LPIPS does.
const LPIPS_EPS: f64 = 1e-10;

/// One step of a feature network.
#[derive(Debug, Clone)]
enum Layer {
    Conv(Conv),
    Relu,
    /// Kernel, stride, and whether a last, smaller square counts.
    Pool(usize, usize, bool),
    /// SqueezeNet's: a 1x1 convolution, then a 1x1 and a 3x3 one side by side.
    Fire([Conv; 3]),
}

impl Layer {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Relu => x.relu(),
            Self::Pool(kernel, stride, ceil) => max_pool2d(x, *kernel, *stride, *ceil),
            Self::Fire([squeeze, one, three]) => {
                let x = squeeze.forward(x)?;
                Tensor::cat(&[one.forward(&x)?, three.forward(&x)?], 1)
            }
        }
    }
}

/// The input range of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Normalised by ImageNet's mean and spread.
    Normalised,
    /// B, G, R from 0 to 255, minus the mean.
    Caffe,
}

/// A network for features: a VGG of any depth and width (tensors named as
/// torchvision's) or a SqueezeNet 1.0 (named as its authors').
///
/// Karen Simonyan, Andrew Zisserman, "Very Deep Convolutional Networks for
/// Large-Scale Image Recognition", ICLR 2015; Forrest N. Iandola et al.,
/// "SqueezeNet", 2016.
#[derive(Debug, Clone)]
pub struct Features {
    input: Input,
    /// The layers and the names of their outputs.
    layers: Vec<(String, Layer)>,
}

impl Features {
    /// Reads a file onto a device.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or holds another network.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let file = Checkpoint::open(path)?;
        let tensors = file.tensors().iter();
        let there = tensors.map(|(name, tensor)| Ok((name.clone(), tensor.to_device(device)?)));
        Self::new(&there.collect::<Result<_>>()?).with_context(|| format!("{}", path.display()))
    }

    /// The network of some tensors.
    ///
    /// # Errors
    ///
    /// Tensors of another network.
    pub fn new(tensors: &HashMap<String, Tensor>) -> Result<Self> {
        if tensors.contains_key("features.0.weight") {
            vgg(tensors)
        } else if tensors.contains_key("fire2/conv1x1_1.weight") {
            squeezenet(tensors)
        } else {
            bail!(
                "not a known feature network: expected the tensors of a VGG (features.0.weight) or \
                 of SqueezeNet 1.0 (fire2/conv1x1_1.weight)"
            )
        }
    }

    /// The input of the network for an image (N, 3, H, W), 0 to 1.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    pub fn prepare(&self, image: &Tensor) -> candle_core::Result<Tensor> {
        match self.input {
            Input::Normalised => normalised(image),
            Input::Caffe => {
                let bgr: Vec<_> = (0..3).rev().map(|i| image.narrow(1, i, 1)).collect();
                let bgr = bgr.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
                let bgr = (Tensor::cat(&bgr, 1)? * 255.0)?;
                scaled(&bgr, &[1.0; 3], &CAFFE_MEAN)
            }
        }
    }

    /// The outputs of the named layers for a prepared image.
    ///
    /// # Errors
    ///
    /// An unknown layer, an image that is too small.
    pub fn forward<'a>(
        &self,
        x: &Tensor,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut left: Vec<&str> = names.into_iter().collect();
        self.check(left.iter().copied())?;
        let (mut result, mut x) = (BTreeMap::new(), x.clone());
        for (name, layer) in &self.layers {
            if left.is_empty() {
                break;
            }
            x = layer.forward(&x)?;
            if left.contains(&name.as_str()) {
                left.retain(|expected| expected != name);
                result.insert(name.clone(), x.clone());
            }
        }
        Ok(result)
    }

    /// The perceptual distances of images (1, 3, H, W), 0 to 1, from a reference: those of LPIPS
    /// without its learned weights. Features are normalised over the channels; their squared
    /// differences are averaged over the image and summed over channels and layers. 0 for equal
    /// images.
    ///
    /// Richard Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
    /// Metric", CVPR 2018.
    ///
    /// # Errors
    ///
    /// Tensors of other shapes, a VGG of too few layers, an image that is too small.
    pub fn distances<'a>(
        &self,
        images: impl IntoIterator<Item = &'a Tensor>,
        reference: &Tensor,
    ) -> Result<Vec<f64>> {
        let layers = match self.input {
            Input::Normalised => LPIPS_VGG,
            Input::Caffe => LPIPS_SQUEEZENET,
        };
        let normalised = |image: &Tensor| -> Result<Vec<Tensor>> {
            let features = self.forward(&self.prepare(image)?, layers.iter().copied())?;
            let unit = |x: &Tensor| {
                let norm = (x.sqr()?.sum_keepdim(1)?.sqrt()? + LPIPS_EPS)?;
                Ok(x.broadcast_div(&norm)?)
            };
            features.values().map(unit).collect()
        };
        let reference = normalised(reference)?;
        let distance = |image| {
            let layers = normalised(image)?;
            let distances = layers.iter().zip(&reference).map(|(a, b)| {
                let squares = (a - b)?.sqr()?.sum(1)?;
                Ok(f64::from(squares.mean_all()?.to_scalar::<f32>()?))
            });
            distances.sum()
        };
        images.into_iter().map(distance).collect()
    }

    /// Ensures that these layers exist.
    fn check<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for expected in names {
            let known = || self.layers.iter().map(|(name, _)| name.as_str());
            ensure!(
                known().any(|name| name == expected),
                "there is no layer {expected}; known layers: {}",
                known().collect::<Vec<_>>().join(", ")
            );
        }
        Ok(())
    }
}

/// The convolution `name`, of that shape of kernel.
fn conv(tensors: &HashMap<String, Tensor>, name: &str, spec: ConvSpec) -> Result<Conv> {
    let part = |part: &str| {
        let name = format!("{name}.{part}");
        let tensor = tensors.get(&name).cloned();
        tensor.with_context(|| format!("missing tensor {name}"))
    };
    let (weight, bias) = (part("weight")?, part("bias")?);
    ensure!(
        weight.rank() == 4 && bias.dims() == [weight.dim(0)?],
        "{name} is not a convolution: only VGGs without batch normalisation are supported"
    );
    let bias = Some(bias);
    Ok(Conv { weight, bias, spec })
}

/// Convolution i of block b is `conv{b}_{i}`, its ReLU `relu{b}_{i}`. The
/// numbers of torchvision's layers tell where a block ends: convolution and
/// ReLU take two, a pooling one more.
fn vgg(tensors: &HashMap<String, Tensor>) -> Result<Features> {
    let number = |name: &String| {
        let middle = name.strip_prefix("features.")?;
        middle.strip_suffix(".weight")?.parse::<usize>().ok()
    };
    let mut numbers: Vec<usize> = tensors.keys().filter_map(number).collect();
    numbers.sort_unstable();
    let (mut layers, mut block, mut place) = (Vec::new(), 1, 1);
    for (i, number) in numbers.iter().enumerate() {
        if let Some(before) = i.checked_sub(1).map(|i| numbers[i]) {
            match number - before {
                2 => place += 1,
                3 => {
                    layers.push((format!("pool{block}"), Layer::Pool(2, 2, false)));
                    (block, place) = (block + 1, 1);
                }
                _ => bail!("layers {before} and {number} do not belong to a VGG"),
            }
        }
        let conv = conv(tensors, &format!("features.{number}"), ConvSpec::default())?;
        layers.push((format!("conv{block}_{place}"), Layer::Conv(conv)));
        layers.push((format!("relu{block}_{place}"), Layer::Relu));
    }
    Ok(Features {
        input: Input::Normalised,
        layers,
    })
}

fn squeezenet(tensors: &HashMap<String, Tensor>) -> Result<Features> {
    let relu = ConvSpec {
        activation: Activation::Relu,
        ..ConvSpec::default()
    };
    let first = ConvSpec {
        border: Border::Valid,
        stride: 2,
        ..relu
    };
    let pool = |name: &str| (name.to_owned(), Layer::Pool(3, 2, true));
    let mut layers = vec![
        (
            "conv1".to_owned(),
            Layer::Conv(conv(tensors, "conv1", first)?),
        ),
        pool("pool1"),
    ];
    for number in 2..=9 {
        let part = |part: &str| conv(tensors, &format!("fire{number}/{part}"), relu);
        let fire = [part("conv1x1_1")?, part("conv1x1_2")?, part("conv3x3_2")?];
        layers.push((format!("fire{number}"), Layer::Fire(fire)));
        if [4, 8].contains(&number) {
            layers.push(pool(&format!("pool{number}")));
        }
    }
    Ok(Features {
        input: Input::Caffe,
        layers,
    })
}

/// The loss: how far the features of two images are apart.
#[derive(Debug, Clone)]
pub struct PerceptualLoss {
    features: Features,
    settings: Perceptual,
}

impl PerceptualLoss {
    /// Reads the network that a recipe names, onto a device.
    ///
    /// # Errors
    ///
    /// A file that cannot be used, an unknown layer.
    pub fn new(settings: &Perceptual, device: &Device) -> Result<Self> {
        let features = Features::open(&settings.weights, device)?;
        let names = settings.layers.keys().map(String::as_str);
        features.check(names).with_context(|| {
            let path = settings.weights.display();
            format!("perceptual.layers: {path}")
        })?;
        Ok(Self {
            features,
            settings: settings.clone(),
        })
    }

    /// The loss of images (N, 3, H, W), 0 to 1, against others, a scalar.
    ///
    /// # Errors
    ///
    /// Tensors of other shapes.
    pub fn of(&self, output: &Tensor, target: &Tensor) -> Result<Tensor> {
        let names = || self.settings.layers.keys().map(String::as_str);
        let result = |image: &Tensor| -> Result<_> {
            self.features
                .forward(&self.features.prepare(image)?, names())
        };
        let (ours, theirs) = (result(output)?, result(&target.detach())?);
        let mut sum: Option<Tensor> = None;
        for (name, factor) in &self.settings.layers {
            let difference = (&ours[name] - &theirs[name])?;
            let distance = match self.settings.distance {
                Distance::L1 => difference.abs()?.mean_all()?,
                Distance::Mse => difference.sqr()?.mean_all()?,
            };
            let part = (distance * (factor * self.settings.weight))?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        sum.context("perceptual.layers is empty")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A VGG of 16 layers of four channels.
    fn small_vgg() -> Features {
        let numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
        let tensors = numbers.into_iter().enumerate().flat_map(|(i, number)| {
            let inputs = if i == 0 { 3 } else { 4 };
            let samples =
                (0..4 * inputs * 9).map(|j| ((j * 7919 + i * 31) % 101) as f32 / 101.0 - 0.4);
            let weight = Tensor::from_iter(samples, &Device::Cpu).unwrap();
            let weight = weight.reshape((4, inputs, 3, 3)).unwrap();
            let bias = Tensor::new(&[0.1f32, -0.1, 0.2, 0.05], &Device::Cpu).unwrap();
            let name = |part| format!("features.{number}.{part}");
            [(name("weight"), weight), (name("bias"), bias)]
        });
        Features::new(&tensors.collect()).unwrap()
    }

    #[test]
    fn distance_grows_with_the_difference() {
        let features = small_vgg();
        let image = |noise: f32| {
            let samples = (0..3 * 32 * 32).map(|i| {
                let texture = (i % 17) as f32 / 20.0;
                texture + noise * ((i * 7919 % 101) as f32 / 101.0 - 0.5)
            });
            let image = Tensor::from_iter(samples, &Device::Cpu).unwrap();
            image.reshape((1, 3, 32, 32)).unwrap()
        };
        let clean = image(0.0);
        let images = [0.0, 0.1, 0.3].map(image);
        let distances = features.distances(&images, &clean).unwrap();
        let [none, little, much] = distances[..] else {
            panic!("{distances:?}");
        };
        assert_eq!(none, 0.0);
        assert!(little > 1e-4 && much > 1.5 * little, "{little} {much}");
        let swapped = features.distances([&clean], &images[2]).unwrap();
        assert!((swapped[0] - much).abs() < 1e-6);
        // Unit vectors without negative values differ by at most 2, squared, in every layer.
        assert!(much <= 2.0 * LPIPS_VGG.len() as f64);
    }
}
