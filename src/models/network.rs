//! What a network is to the rest of the crate.

use super::hypernetwork::HyperNetwork;
use crate::chain::Chain;
use crate::nn::Conv;
use crate::ops::Border;
use crate::{Error, Result, Scale};
use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Names and shapes of the tensors of a file.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// A network that is ready for one scale.
pub type BoxedScaleNetwork = Box<dyn ScaleNetwork>;

/// The planes that a network takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Y; chroma is resampled.
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

    pub(super) const fn from_count(count: usize) -> Option<Self> {
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

    /// The network as one that generates other networks' weights; `None` for
    /// all but hypernetworks.
    fn as_hypernetwork(&self) -> Option<&dyn HyperNetwork> {
        None
    }

    /// The weights by name for a weights file, where layers of the network in
    /// training are folded there; `None` where it is the same. The architecture
    /// that they are for: [`Architecture::reparameterized`](super::Architecture::reparameterized).
    ///
    /// # Errors
    ///
    /// A computation that fails.
    fn reparameterized(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        Ok(None)
    }
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
pub(super) type Pool<'a> = dyn FnMut(&Tensor) -> candle_core::Result<Option<Tensor>> + 'a;

/// The means of what is there: the picture is.
pub(super) fn mean_of(x: &Tensor) -> candle_core::Result<Option<Tensor>> {
    x.flatten_from(2)?.mean(D::Minus1).map(Some)
}

/// Runs a network as far as the means are known.
pub(super) fn run_parts(
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
pub(super) fn whole(made: Option<Tensor>) -> candle_core::Result<Tensor> {
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
    pub(super) fn expect(&self, scale: Scale, what: &str) -> Result<()> {
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
pub(super) fn upsampling(layers: &[(Conv, usize)]) -> (u64, u64) {
    let step = |(macs, area): (u64, u64), (conv, shuffle): &(Conv, usize)| {
        let more = (shuffle * shuffle) as u64;
        (macs + area * conv.macs(), area * more)
    };
    layers.iter().fold((0, 1), step)
}

/// The one scale of a network that has weights for no other.
pub(super) fn single_scale(scales: &Scales, what: &str) -> Result<Scale> {
    match scales {
        Scales::List(list) if list.len() == 1 => Ok(list[0]),
        _ => Err(Error::Setting(format!(
            "{what} is made for one scale, not for {scales}"
        ))),
    }
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
}
