//! The networks, and the table of their names and facts.
//!
//! A network is one file here and one row in [`MODELS`].

pub mod compact;
pub mod drct;
pub mod espcn;
pub mod hdsrnet;
pub mod hypersrcnn;
pub mod lapan;
mod shapes;
pub mod srcnn;
pub mod srresnet;

pub use shapes::Cost;
pub(crate) use shapes::nearest;

use crate::chain::Chain;
use crate::nn::Conv;
use crate::ops::Border;
use crate::{Error, Result, Scale};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;

/// Names and shapes of the tensors of a file.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// A network that is ready for one scale.
pub type BoxedScaleNetwork = Box<dyn ScaleNetwork>;

/// The planes that a network takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Y alone; chroma is resampled beside the network.
    #[default]
    Luma,
    /// Red, green and blue.
    Rgb,
}

impl Channels {
    /// Number of planes.
    pub const fn count(self) -> usize {
        match self {
            Self::Luma => 1,
            Self::Rgb => 3,
        }
    }

    const fn from_count(count: usize) -> Option<Self> {
        match count {
            1 => Some(Self::Luma),
            3 => Some(Self::Rgb),
            _ => None,
        }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Luma => "luma",
            Self::Rgb => "rgb",
        })
    }
}

/// The scales that a network has weights for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scales {
    /// Every scale above 1 up to [`Scale::MAX`].
    Any,
    /// Some scales, ascending.
    List(Vec<Scale>),
}

impl Scales {
    /// A list of scales, sorted.
    pub fn list(scales: impl IntoIterator<Item = Scale>) -> Self {
        let mut scales: Vec<_> = scales.into_iter().collect();
        scales.sort();
        scales.dedup();
        Self::List(scales)
    }

    /// The smallest scale at or above `wish`, else the largest there is.
    pub fn nearest(&self, wish: Scale) -> Option<Scale> {
        match self {
            Self::Any => Some(wish.min(Scale::MAX)),
            Self::List(scales) => {
                let above = scales.iter().find(|&&scale| scale >= wish);
                above.or(scales.last()).copied()
            }
        }
    }
}

impl fmt::Display for Scales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => write!(f, "any up to {}", Scale::MAX),
            Self::List(scales) => {
                let names: Vec<_> = scales.iter().map(Scale::to_string).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// The resolution that a network works at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upsampling {
    /// The output's: it improves a picture that bicubic interpolation enlarged.
    Pre,
    /// The input's: its result is that many times as wide and as high.
    Post(usize),
}

impl Upsampling {
    /// How many times as wide and as high as its input a network's result is.
    pub const fn factor(self) -> usize {
        match self {
            Self::Pre => 1,
            Self::Post(factor) => factor,
        }
    }
}

/// A network of any number of scales. One definition serves inference and training.
pub trait Network: Send + Sync {
    /// The planes in and out.
    fn channels(&self) -> Channels;

    /// The scales that it has weights for.
    fn scales(&self) -> &Scales;

    /// The network for one of those scales.
    ///
    /// # Errors
    ///
    /// A scale that it has no weights for.
    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork>;

    /// The network for one of those scales as it is trained: with layers that
    /// look at the whole batch, where there are any.
    ///
    /// # Errors
    ///
    /// As [`Network::for_scale`].
    fn training_network(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.for_scale(scale)
    }

    /// The parameters, by name, with which a hypernetwork makes given weights
    /// for some scales: `anew`, or changed from what they are as little as that
    /// takes. `None` for networks that make none.
    ///
    /// # Errors
    ///
    /// Weights that do not fit, a scale that is not the network's.
    fn fit_generator(
        &self,
        _wanted: &[(Scale, &HashMap<String, Tensor>)],
        _anew: bool,
    ) -> Result<Parameters> {
        Ok(None)
    }

    /// The weights, by name, that a hypernetwork makes for one of those scales;
    /// `None` for networks that make none.
    ///
    /// # Errors
    ///
    /// As [`Network::for_scale`].
    fn generate_weights(&self, _scale: Scale) -> Result<Parameters> {
        Ok(None)
    }

    /// The network to put into a weights file, where that is not the one in
    /// training; `None` where they are the same.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    fn reparameterized(&self) -> Result<Option<Reparameterized>> {
        Ok(None)
    }
}

/// Parameters by name, for networks that can be given them.
pub type Parameters = Option<Vec<(String, Tensor)>>;

/// What a network in training comes down to when its training is over.
#[derive(Debug, Clone)]
pub struct Reparameterized {
    /// Architecture and configuration.
    pub architecture: Architecture,
    /// The weights by name.
    pub tensors: Vec<(String, Tensor)>,
}

/// A network for one scale.
pub trait ScaleNetwork: Send + Sync {
    /// The resolution of its input.
    fn upsampling(&self) -> Upsampling;

    /// How far beyond an output sample its input reaches, in input samples.
    fn halo(&self) -> usize;

    /// What it takes to lie beyond the edge. With [`Border::Valid`] the result
    /// lacks what [`ScaleNetwork::halo`] samples of the input on each side
    /// would make.
    fn border(&self) -> Border;

    /// Whether it must see the whole picture at once, because a part of it
    /// looks at all samples.
    fn whole_frame(&self) -> bool {
        false
    }

    /// How many means over the whole picture it takes, each of what it made
    /// with those before. It runs on parts of a picture all the same:
    /// [`ScaleNetwork::forward_part`].
    fn global_pools(&self) -> usize {
        0
    }

    /// How many values it holds at once for each sample of a plane of its
    /// input, at most: what a network that sees the whole picture, or takes
    /// means over it, needs.
    fn working_set(&self) -> usize {
        0
    }

    /// Multiplications, each with an addition, for each sample of a plane of
    /// its input; without those that it needs once a picture.
    fn macs(&self) -> u64 {
        let chain = self.chain().ok().flatten();
        chain.map_or(0, |chain| chain.macs())
    }

    /// The network as a chain of convolutions, if it is one.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    fn chain(&self) -> candle_core::Result<Option<Chain>> {
        Ok(None)
    }

    /// (N, C, H, W) in, sample values 0 to 1; not clamped. The result is
    /// [`Upsampling::factor`] times as wide and as high.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor>;

    /// As [`ScaleNetwork::forward`] on a part of a picture, given the first
    /// few of its means, (N, C) each: what to take the next one of, or, where
    /// there is none, the result.
    ///
    /// # Errors
    ///
    /// A tensor of another shape.
    fn forward_part(&self, x: &Tensor, _means: &[Tensor]) -> candle_core::Result<PartialOutput> {
        self.forward(x).map(PartialOutput::Complete)
    }
}

/// What a network makes of a part of a picture.
#[derive(Debug)]
pub enum PartialOutput {
    /// (N, C, H, W), of which the next mean is to be taken; as many times as
    /// wide and as high as the input as H and W are.
    NeedsMean(Tensor),
    /// The result.
    Complete(Tensor),
}

/// The mean of each channel of (N, C, H, W), as (N, C); `None` where it is not
/// known, which ends the computation.
type Pool<'a> = dyn FnMut(&Tensor) -> candle_core::Result<Option<Tensor>> + 'a;

/// The means of what is there: the picture is.
fn mean_of(x: &Tensor) -> candle_core::Result<Option<Tensor>> {
    x.flatten_from(2)?.mean(D::Minus1).map(Some)
}

/// Runs a network as far as the means are known.
fn run_parts(
    means: &[Tensor],
    run: impl FnOnce(&mut Pool<'_>) -> candle_core::Result<Option<Tensor>>,
) -> candle_core::Result<PartialOutput> {
    let (mut means, mut asked) = (means.iter(), None);
    let made = run(&mut |x| {
        let mean = means.next().cloned();
        if mean.is_none() {
            asked = Some(x.clone());
        }
        Ok(mean)
    })?;
    match (made, asked) {
        (Some(made), _) => Ok(PartialOutput::Complete(made)),
        (None, Some(asked)) => Ok(PartialOutput::NeedsMean(asked)),
        (None, None) => candle_core::bail!("a network ended before its result"),
    }
}

/// A network that took every mean that it asked for must have ended.
fn whole(made: Option<Tensor>) -> candle_core::Result<Tensor> {
    made.ok_or_else(|| candle_core::Error::Msg("a network ended before its result".to_owned()))
}

impl ScaleNetwork for Chain {
    fn upsampling(&self) -> Upsampling {
        Upsampling::Post(self.factor())
    }

    fn halo(&self) -> usize {
        Self::halo(self)
    }

    fn border(&self) -> Border {
        let first = self.layers.first();
        first.map_or(Border::Zero, |link| link.conv.spec.border)
    }

    fn macs(&self) -> u64 {
        Self::macs(self)
    }

    fn chain(&self) -> candle_core::Result<Option<Chain>> {
        Ok(Some(self.clone()))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Self::forward(self, x)
    }
}

impl Scales {
    /// Whether `scale` is the one that a network has weights for.
    fn expect(&self, scale: Scale, what: &str) -> Result<()> {
        if *self == Self::list([scale]) {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "{what} enlarges by {self}, not by {scale}"
        )))
    }
}

/// Multiplications of convolutions with pixel shuffles after them, and how
/// many samples of a result they make of one.
fn upsampling(layers: &[(Conv, usize)]) -> (u64, u64) {
    let step = |(macs, area): (u64, u64), (conv, shuffle): &(Conv, usize)| {
        let more = (shuffle * shuffle) as u64;
        (macs + area * conv.macs(), area * more)
    };
    layers.iter().fold((0, 1), step)
}

/// The one scale of a network that has weights for no other.
fn single_scale(scales: &Scales, what: &str) -> Result<Scale> {
    match scales {
        Scales::List(list) if list.len() == 1 => Ok(list[0]),
        _ => Err(Error::Setting(format!(
            "{what} is made for one scale, not for {scales}"
        ))),
    }
}

/// A network's architecture and configuration: all but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", content = "config", rename_all = "lowercase")]
pub enum Architecture {
    /// [`srcnn`].
    Srcnn(srcnn::Config),
    /// [`hypersrcnn`].
    HyperSrcnn(hypersrcnn::Config),
    /// [`espcn`].
    Espcn(espcn::Config),
    /// [`srresnet`].
    SrResNet(srresnet::Config),
    /// [`compact`].
    Compact(compact::Config),
    /// [`hdsrnet`].
    HdsrNet(hdsrnet::Config),
    /// [`lapan`].
    Lapan(lapan::Config),
    /// [`drct`].
    Drct(drct::Config),
}

/// What a file without metadata was found to hold.
#[derive(Debug)]
pub(crate) struct Detected<T> {
    pub(crate) config: T,
    /// The file's name and ours for every tensor.
    pub(crate) renames: Vec<(String, String)>,
    /// The scales, where the shapes tell them.
    pub(crate) scales: Option<Scales>,
}

impl<T> Detected<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Detected<U> {
        Detected {
            config: f(self.config),
            renames: self.renames,
            scales: self.scales,
        }
    }
}

/// What training scripts leave before all names of a checkpoint.
const PREFIXES: [&str; 5] = ["module.", "net.", "generator.", "model.", "_orig_mod."];

/// The tensors without what training scripts left before all names, and that.
fn without_prefix(shapes: &Shapes) -> (Shapes, String) {
    let (mut shapes, mut before) = (shapes.clone(), String::new());
    let shared = |shapes: &Shapes| {
        let mut prefixes = PREFIXES.into_iter();
        let all = |prefix: &&str| shapes.keys().all(|name| name.starts_with(prefix));
        prefixes.find(all).filter(|_| !shapes.is_empty())
    };
    while let Some(prefix) = shared(&shapes) {
        let named = shapes.into_iter();
        shapes = named
            .map(|(name, shape)| (name[prefix.len()..].to_owned(), shape))
            .collect();
        before.push_str(prefix);
    }
    (shapes, before)
}

impl Architecture {
    /// What a hypernetwork makes; `None` for all others.
    pub fn generated_architecture(&self) -> Option<Self> {
        match self {
            Self::HyperSrcnn(config) => Some(Self::Srcnn(config.target.clone())),
            _ => None,
        }
    }

    /// The names of those that [`Architecture::detect`] finds.
    pub(crate) const DETECTED: [&str; 8] = [
        "srcnn",
        "hypersrcnn",
        "espcn",
        "srresnet",
        "compact",
        "hdsrnet",
        "lapan",
        "drct",
    ];

    /// The architecture's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Srcnn(_) => "srcnn",
            Self::HyperSrcnn(_) => "hypersrcnn",
            Self::Espcn(_) => "espcn",
            Self::SrResNet(_) => "srresnet",
            Self::Compact(_) => "compact",
            Self::HdsrNet(_) => "hdsrnet",
            Self::Lapan(_) => "lapan",
            Self::Drct(_) => "drct",
        }
    }

    /// The planes in and out.
    pub const fn channels(&self) -> Channels {
        match self {
            Self::Srcnn(config) => config.channels,
            Self::HyperSrcnn(config) => config.target.channels,
            Self::Espcn(_) => Channels::Luma,
            Self::SrResNet(_)
            | Self::Compact(_)
            | Self::HdsrNet(_)
            | Self::Lapan(_)
            | Self::Drct(_) => Channels::Rgb,
        }
    }

    /// The resolution that the network for a scale works at.
    pub fn upsampling(&self, scale: Scale) -> Upsampling {
        match self {
            Self::Srcnn(_) | Self::HyperSrcnn(_) => Upsampling::Pre,
            Self::Espcn(config) => config.upsampling(scale),
            Self::Lapan(_) => Upsampling::Post(lapan::FACTOR),
            Self::SrResNet(_) | Self::Compact(_) | Self::HdsrNet(_) | Self::Drct(_) => {
                Upsampling::Post(scale.factor().ceil() as usize)
            }
        }
    }

    /// The scales, where the architecture says them; `None` where they depend
    /// on what the weights were trained for.
    pub fn scales(&self) -> Option<Scales> {
        match self {
            Self::Srcnn(_)
            | Self::SrResNet(_)
            | Self::Compact(_)
            | Self::HdsrNet(_)
            | Self::Drct(_) => None,
            Self::HyperSrcnn(config) => Some(config.scales()),
            Self::Espcn(config) => Some(config.scales()),
            Self::Lapan(_) => Some(lapan::Config::scales()),
        }
    }

    /// The border of every convolution, where it can be chosen.
    pub const fn border_mut(&mut self) -> Option<&mut Border> {
        match self {
            Self::Srcnn(config) => Some(&mut config.border),
            Self::HyperSrcnn(config) => Some(&mut config.target.border),
            _ => None,
        }
    }

    /// Reads the weights from `vb` (or creates them, in training). `scales`
    /// are those of the file, for networks whose weights do not tell.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(match self {
            Self::Srcnn(config) => Box::new(srcnn::Srcnn::new(vb, config, scales)?),
            Self::HyperSrcnn(config) => Box::new(hypersrcnn::HyperSrcnn::new(vb, config)?),
            Self::Espcn(config) => Box::new(espcn::Espcn::new(vb, config, &scales)?),
            Self::Drct(config) => Box::new(drct::Drct::new(vb, config, &scales)?),
            Self::Lapan(config) => Box::new(lapan::Lapan::new(vb, config)?),
            Self::HdsrNet(config) => Box::new(hdsrnet::HdsrNet::new(vb, config, &scales)?),
            Self::Compact(config) => Box::new(compact::Compact::new(vb, config, &scales)?),
            Self::SrResNet(config) => Box::new(srresnet::SrResNet::new(vb, config, &scales)?),
        })
    }

    /// Changes the freshly drawn values of a parameter so that the network
    /// begins by passing its input on, where it does not add it anyway.
    /// Returns whether it did.
    pub fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        match self {
            Self::Srcnn(config) => config.identity_init(name, values),
            Self::SrResNet(config) => config.identity_init(name, values),
            _ => false,
        }
    }

    /// Finds the architecture from names and shapes of tensors.
    pub(crate) fn detect(shapes: &Shapes) -> Option<Detected<Self>> {
        let (shapes, prefix) = without_prefix(shapes);
        let mut found = Self::detect_bare(&shapes)?;
        for (theirs, _) in &mut found.renames {
            theirs.insert_str(0, &prefix);
        }
        Some(found)
    }

    fn detect_bare(shapes: &Shapes) -> Option<Detected<Self>> {
        let srcnn = || srcnn::detect(shapes).map(|d| d.map(Self::Srcnn));
        let hyper = || hypersrcnn::detect(shapes).map(|d| d.map(Self::HyperSrcnn));
        let espcn = || espcn::detect(shapes).map(|d| d.map(Self::Espcn));
        let srresnet = || srresnet::detect(shapes).map(|d| d.map(Self::SrResNet));
        let compact = || compact::detect(shapes).map(|d| d.map(Self::Compact));
        let hdsrnet = || hdsrnet::detect(shapes).map(|d| d.map(Self::HdsrNet));
        let lapan = || lapan::detect(shapes).map(|d| d.map(Self::Lapan));
        let drct = || drct::detect(shapes).map(|d| d.map(Self::Drct));
        srcnn()
            .or_else(hyper)
            .or_else(espcn)
            .or_else(srresnet)
            .or_else(compact)
            .or_else(hdsrnet)
            .or_else(lapan)
            .or_else(drct)
    }
}

/// A row of the table: a model that can be asked for by name.
#[derive(Debug)]
pub struct ModelInfo {
    /// The name.
    pub name: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// What `train --model NAME` trains; `None` where there is nothing to train.
    pub architecture: fn() -> Option<Architecture>,
    /// The weights that ship, as safetensors files.
    pub built_in: &'static [(&'static str, &'static [u8])],
}

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../models/", $path)).as_slice())),+]
    };
}

/// Every model.
pub static MODELS: &[ModelInfo] = &[
    ModelInfo {
        name: "hypersrcnn",
        summary: "HyperSRCNN on luma: one file whose SRCNN weights are made for any scale",
        architecture: || Some(Architecture::HyperSrcnn(hypersrcnn::Config::default())),
        built_in: files!("hypersrcnn/weights.safetensors"),
    },
    ModelInfo {
        name: "hypersrcnn-rgb",
        summary: "HyperSRCNN on RGB: x2, x4, x8 and x16 in one file",
        architecture: || Some(Architecture::HyperSrcnn(hypersrcnn::Config::seed())),
        built_in: files!("hypersrcnn-rgb/weights.safetensors"),
    },
    ModelInfo {
        name: "srcnn",
        summary: "SRCNN 9-5-5 on luma, one set of weights a scale",
        architecture: || {
            Some(Architecture::Srcnn(srcnn::Config {
                border: Border::Replicate,
                ..srcnn::Config::default()
            }))
        },
        built_in: files!(
            "srcnn/x2.safetensors",
            "srcnn/x3.safetensors",
            "srcnn/x4.safetensors",
        ),
    },
    ModelInfo {
        name: "srcnn-rgb",
        summary: "SRCNN 9-5-5 on RGB, one set of weights a scale",
        architecture: || Some(Architecture::Srcnn(srcnn::Config::rgb())),
        built_in: files!(
            "srcnn-rgb/x2.safetensors",
            "srcnn-rgb/x4.safetensors",
            "srcnn-rgb/x8.safetensors",
            "srcnn-rgb/x16.safetensors"
        ),
    },
    ModelInfo {
        name: "espcn",
        summary: "ESPCN on luma, at the input's resolution: x2 to x8, one file",
        architecture: || Some(Architecture::Espcn(espcn::Config::default())),
        built_in: files!("espcn/weights.safetensors"),
    },
    ModelInfo {
        name: "espcn-fast",
        summary: "ESPCN on luma with 5 instead of 8 layers: half the work",
        architecture: || Some(Architecture::Espcn(espcn::Config::fast())),
        built_in: files!("espcn-fast/weights.safetensors"),
    },
    ModelInfo {
        name: "espcn-video",
        summary: "ESPCN on luma for real streams: trained on what video encoders leave",
        architecture: || Some(Architecture::Espcn(espcn::Config::default())),
        built_in: files!("espcn-video/weights.safetensors"),
    },
    ModelInfo {
        name: "srresnet",
        summary: "SRResNet on RGB, 16 residual blocks: x2, x4 or x8",
        architecture: || Some(Architecture::SrResNet(srresnet::Config::default())),
        built_in: files!("srresnet/x4.safetensors"),
    },
    ModelInfo {
        name: "srgan",
        summary: "SRGAN on RGB: the network of srresnet, for weights that a GAN trained",
        architecture: || Some(Architecture::SrResNet(srresnet::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "compact",
        summary: "SRVGGNetCompact on RGB, the form of realesr-animevideov3: one scale of x2 to x8",
        architecture: || Some(Architecture::Compact(compact::Config::default())),
        built_in: files!("compact/x2.safetensors"),
    },
    ModelInfo {
        name: "hdsrnet",
        summary: "HDSRNet on RGB: x2, x3 or x4",
        architecture: || Some(Architecture::HdsrNet(hdsrnet::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "lapan",
        summary: "The 12-block network on RGB: x2",
        architecture: || Some(Architecture::Lapan(lapan::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "drct",
        summary: "DRCT on RGB, on whole frames: x2, x3 or x4",
        architecture: || Some(Architecture::Drct(drct::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "drct-l",
        summary: "DRCT-L on RGB, on whole frames: 12 instead of 6 groups",
        architecture: || Some(Architecture::Drct(drct::Config::large())),
        built_in: &[],
    },
    ModelInfo {
        name: "realdrct-mse",
        summary: "Real-DRCT on RGB: the network of drct, for weights that undo degradations",
        architecture: || Some(Architecture::Drct(drct::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "realdrct-gan",
        summary: "Real-DRCT on RGB: the same, for weights that a GAN trained",
        architecture: || Some(Architecture::Drct(drct::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: BICUBIC,
        summary: "No network: bicubic interpolation, for comparison",
        architecture: || None,
        built_in: &[],
    },
];

/// The model without a network.
pub const BICUBIC: &str = "bicubic";

/// The model that is used when none is asked for.
pub const DEFAULT: &str = "hypersrcnn";

/// The table's names, separated by commas.
pub fn names() -> String {
    let names: Vec<_> = MODELS.iter().map(|model| model.name).collect();
    names.join(", ")
}

/// The row of that name.
///
/// # Errors
///
/// A name that is not in the table.
pub fn find(name: &str) -> Result<&'static ModelInfo> {
    MODELS
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            known: names(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_scale_is_at_or_above_the_wish() {
        let scales = Scales::list([4, 2, 3].map(Scale::whole));
        let nearest = |text: &str| scales.nearest(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(nearest("2"), "2");
        assert_eq!(nearest("3/2"), "2");
        assert_eq!(nearest("5/2"), "3");
        assert_eq!(nearest("8"), "4");
        assert_eq!(Scales::Any.nearest(Scale::whole(7)), Some(Scale::whole(7)));
    }

    #[test]
    fn names_are_unique_and_the_default_exists() {
        let mut seen = std::collections::HashSet::new();
        assert!(MODELS.iter().all(|model| seen.insert(model.name)));
        assert!(find(DEFAULT).is_ok() && find(BICUBIC).is_ok());
        let error = find("srgna").unwrap_err().to_string();
        assert!(
            error.contains("srgna") && error.contains("hypersrcnn"),
            "{error}"
        );
    }
}
