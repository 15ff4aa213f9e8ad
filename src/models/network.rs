//! The traits of networks.

use super::hypernetwork::HyperNetwork;
use crate::chain::Chain;
use crate::chain::quantized::Quantization;
use crate::nn::Conv;
use crate::ops::Border;
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

/// Tensor shapes by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// A network that is ready for one scale.
pub type BoxedScaleNetwork = Box<dyn ScaleNetwork>;

/// The planes of a network's input and output.
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
    /// These scales, ascending.
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

    /// The smallest scale at or above `target`, else the largest one.
    pub fn nearest(&self, target: Scale) -> Option<Scale> {
        match self {
            Self::Any => Some(target.min(Scale::MAX)),
            Self::List(scales) => {
                let above = scales.iter().find(|&&scale| scale >= target);
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
    /// Pre-upsampling: its input is bicubically upscaled to the output's size.
    Pre,
    /// Post-upsampling: its output is larger than its input by this factor.
    Post(usize),
}

impl Upsampling {
    /// Factor from the size of the network's input to that of its output.
    pub const fn factor(self) -> usize {
        match self {
            Self::Pre => 1,
            Self::Post(factor) => factor,
        }
    }
}

/// A network for one or more scales, defined once for inference and training.
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

    /// The network for one of its scales as it is trained: with batch
    /// normalisation, if it has any.
    ///
    /// # Errors
    ///
    /// As [`Network::for_scale`].
    fn training_network(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        self.for_scale(scale)
    }

    /// The network as a hypernetwork, if it is one.
    fn as_hypernetwork(&self) -> Option<&dyn HyperNetwork> {
        None
    }

    /// The weights by name for a weights file, with training-only layers
    /// folded; `None` if there are none. They are for
    /// [`Architecture::reparameterized`](super::Architecture::reparameterized).
    ///
    /// # Errors
    ///
    /// A computation that fails.
    fn reparameterized(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        Ok(None)
    }

    /// The layers in 8-bit integers, if the network is trained for them.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    fn quantization(&self) -> Result<Option<Quantization>> {
        Ok(None)
    }
}

/// A network for one scale.
pub trait ScaleNetwork: Send + Sync {
    /// The resolution that it works at.
    fn upsampling(&self) -> Upsampling;

    /// The network itself, if its type tells more than this trait does: of a graph, its
    /// operations.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Radius of the receptive field, in input samples.
    fn halo(&self) -> usize;

    /// The padding at the edges. With [`Border::Valid`] the output is smaller
    /// by [`ScaleNetwork::halo`] input samples on each side.
    fn border(&self) -> Border;

    /// Whether it needs the whole image at once and cannot run on tiles.
    fn whole_frame(&self) -> bool {
        false
    }

    /// Whether the last bits of a result depend on the tile that it lies in. The tiles
    /// are then the same for any number of threads.
    fn rounds_by_tile(&self) -> bool {
        false
    }

    /// Number of global average poolings, each of which depends on those
    /// before. The network runs on tiles nevertheless:
    /// [`ScaleNetwork::forward_part`].
    fn global_pools(&self) -> usize {
        0
    }

    /// Peak number of values in memory for each input sample of a plane, for
    /// networks that need the whole image or pool over it.
    fn working_set(&self) -> usize {
        0
    }

    /// Multiply-accumulate operations (MACs) for each input sample of a plane,
    /// without those needed once for an image.
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

    /// (N, C, H, W) in, sample values 0 to 1; not clamped. The output is
    /// [`Upsampling::factor`] times as wide and as high.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor>;

    /// As [`ScaleNetwork::forward`] on a part of an image, with the first
    /// `means` of the whole image, (N, C) each: the tensor to pool next, or the
    /// output if all means are known.
    ///
    /// # Errors
    ///
    /// A tensor of the wrong shape.
    fn forward_part(&self, x: &Tensor, _means: &[Tensor]) -> candle_core::Result<PartialOutput> {
        self.forward(x).map(PartialOutput::Complete)
    }
}

/// Output of a network for a part of an image.
#[derive(Debug)]
pub enum PartialOutput {
    /// The tensor whose mean over the whole image is needed next, (N, C, H, W);
    /// H and W are multiples of the input's.
    NeedsMean(Tensor),
    /// The output.
    Complete(Tensor),
}

/// Global average pooling, (N, C, H, W) to (N, C); `None` if the mean is not
/// known yet, which ends the computation.
pub(super) type Pool<'a> = dyn FnMut(&Tensor) -> candle_core::Result<Option<Tensor>> + 'a;

/// The channel means of a whole image.
pub(super) fn mean_of(x: &Tensor) -> candle_core::Result<Option<Tensor>> {
    x.flatten_from(2)?.mean(D::Minus1).map(Some)
}

/// Runs a network up to the first mean that is not known.
pub(super) fn run_parts(
    means: &[Tensor],
    run: impl FnOnce(&mut Pool<'_>) -> candle_core::Result<Option<Tensor>>,
) -> candle_core::Result<PartialOutput> {
    let (mut means, mut pending) = (means.iter(), None);
    let output = run(&mut |x| {
        let mean = means.next().cloned();
        if mean.is_none() {
            pending = Some(x.clone());
        }
        Ok(mean)
    })?;
    match (output, pending) {
        (Some(output), _) => Ok(PartialOutput::Complete(output)),
        (None, Some(pending)) => Ok(PartialOutput::NeedsMean(pending)),
        (None, None) => candle_core::bail!("a network ended without output"),
    }
}

/// The output of a network that ran with all means.
pub(super) fn complete(output: Option<Tensor>) -> candle_core::Result<Tensor> {
    output.ok_or_else(|| candle_core::Error::Msg("a network ended without output".to_owned()))
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
    /// Checks that `scale` is the only scale of the list.
    pub(super) fn expect(&self, scale: Scale, what: &str) -> Result<()> {
        if *self == Self::list([scale]) {
            return Ok(());
        }
        let problem = format!("{what} upscales by {self}, not by {scale}");
        Err(Error::Setting(problem).into())
    }
}

/// MACs of convolutions with pixel shuffles after them, and the number of
/// output samples, both for each input sample.
pub(super) fn upsampling(layers: &[(Conv, usize)]) -> (u64, u64) {
    let step = |(macs, area): (u64, u64), (conv, shuffle): &(Conv, usize)| {
        let factor = (shuffle * shuffle) as u64;
        (macs + area * conv.macs(), area * factor)
    };
    layers.iter().fold((0, 1), step)
}

/// The scale of a network for a single scale.
pub(super) fn single_scale(scales: &Scales, what: &str) -> Result<Scale> {
    match scales {
        Scales::List(list) if list.len() == 1 => Ok(list[0]),
        _ => {
            let problem = format!("{what} has a single scale, not {scales}");
            Err(Error::Setting(problem).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_scale_is_at_or_above_the_target() {
        let scales = Scales::list([4, 2, 3].map(Scale::whole));
        let nearest = |text: &str| scales.nearest(text.parse().unwrap()).unwrap().to_string();
        assert_eq!(nearest("2"), "2");
        assert_eq!(nearest("3/2"), "2");
        assert_eq!(nearest("5/2"), "3");
        assert_eq!(nearest("8"), "4");
        assert_eq!(Scales::Any.nearest(Scale::whole(7)), Some(Scale::whole(7)));
    }
}
