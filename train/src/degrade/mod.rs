//! How low-resolution images are computed from the originals.
//!
//! Bicubic interpolation ([`bicubic`]) is computed for the samples of a patch
//! alone. The others degrade windows: a patch with so much context that edge
//! effects do not reach it.

pub mod bicubic;
pub mod chain;
pub mod kernel;
pub mod raster;
mod shot;
pub mod video;

pub use bicubic::{Bicubic, Plane, cropped};
pub use raster::bicubically;
pub use shot::Shot;

use crate::recipe::{Data, Degradation};
use anyhow::Result;
use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use raster::{Raster, Resize};
use rayon::prelude::*;

/// A degradation of windows.
#[derive(Debug, Clone)]
pub enum Windowed {
    /// [`chain::opencv`].
    Opencv,
    /// [`chain::second_order`], of sharpened images if so.
    SecondOrder(bool),
    /// [`video`].
    Video(video::Codecs),
}

/// The degradation of a recipe.
#[derive(Debug, Clone)]
pub enum Method {
    /// Of single patches.
    Bicubic(Bicubic),
    /// Of windows around patches.
    Windowed(Windowed),
}

impl Method {
    /// The method of a recipe.
    ///
    /// # Errors
    ///
    /// Video encoders that are not there.
    pub fn new(data: &Data) -> Result<Self> {
        Ok(match data.degradation {
            Degradation::Matlab => Self::Bicubic(Bicubic::Matlab),
            Degradation::Pillow => Self::Bicubic(Bicubic::Pillow),
            Degradation::Opencv => Self::Windowed(Windowed::Opencv),
            Degradation::RealEsrgan => Self::Windowed(Windowed::SecondOrder(data.sharpen)),
            Degradation::Video => {
                let settings = data.video.clone().unwrap_or_default();
                Self::Windowed(Windowed::Video(video::Codecs::new(&settings)?))
            }
        })
    }

    /// The parts of the machine that the result depends on, such as codecs; the
    /// same text stands for the same images.
    pub fn description(&self) -> String {
        match self {
            Self::Windowed(Windowed::Video(codecs)) => codecs.description(),
            _ => String::new(),
        }
    }
}

impl Windowed {
    /// Degrades images to `sizes`, (width, height) each. The result depends on
    /// the random numbers, not on the number of threads.
    ///
    /// # Errors
    ///
    /// A codec that fails.
    pub fn downscaled(
        &self,
        shots: &[Shot],
        sizes: &[(usize, usize)],
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Raster>> {
        let pairs: Vec<_> = shots.iter().zip(sizes).collect();
        match self {
            Self::Opencv => {
                let downscaled = pairs.into_par_iter();
                Ok(downscaled
                    .map(|(shot, &size)| chain::opencv(&shot.image, size))
                    .collect())
            }
            Self::SecondOrder(_) => {
                let seeds: Vec<u64> = pairs.iter().map(|_| rng.next_u64()).collect();
                let shrink = |((shot, size), seed): ((&Shot, &(usize, usize)), u64)| {
                    chain::second_order_by_seed(&shot.image, *size, seed)
                };
                pairs.into_par_iter().zip(seeds).map(shrink).collect()
            }
            Self::Video(codecs) => codecs.downscaled(&pairs, rng),
        }
    }

    /// How many frames before and after an image the result may depend on.
    pub fn reach(&self) -> usize {
        match self {
            Self::Opencv | Self::SecondOrder(_) => 0,
            Self::Video(codecs) => codecs.reach(),
        }
    }

    /// The training target, where it is not the original.
    pub fn target(&self, large: &Raster) -> Option<Raster> {
        matches!(self, Self::SecondOrder(true)).then(|| large.sharpened())
    }

    /// The low-resolution image upscaled again, the input of pre-upsampling
    /// networks: as in inference or, for `opencv`, as in the reference code.
    pub fn upscaled(&self, small: &Raster, size: (usize, usize)) -> Raster {
        if let Self::Opencv = self {
            let mut large = small.resized(size, Resize::Bicubic);
            large.round();
            return large;
        }
        bicubically(small, size)
    }
}
