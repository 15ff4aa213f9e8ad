//! How low-resolution images are computed from the originals.
//!
//! Bicubic interpolation ([`bicubic`]) is computed for just the samples that
//! a patch needs. All else goes by windows: a patch's surroundings, large
//! enough that what is done at their edges does not reach it.

pub mod bicubic;
pub mod chain;
pub mod kernel;
pub mod raster;
pub mod video;

pub use bicubic::{Bicubic, Plane, cropped};
pub use raster::bicubically;

use crate::recipe::{Data, Degradation};
use anyhow::Result;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use raster::{Raster, Resize};
use rayon::prelude::*;

/// A degradation of windows.
#[derive(Debug, Clone)]
pub enum Windowed {
    /// [`chain::opencv`].
    Opencv,
    /// [`chain::second_order`], of sharpened pictures if so.
    SecondOrder(bool),
    /// [`video`].
    Video(video::Codecs),
}

/// How a recipe has small pictures made.
#[derive(Debug, Clone)]
pub enum Method {
    /// Sample by sample.
    Bicubic(Bicubic),
    /// Window by window.
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

    /// What of the machine decides what it makes, in words: the same words
    /// make the same pictures.
    pub fn description(&self) -> String {
        match self {
            Self::Windowed(Windowed::Video(codecs)) => codecs.description(),
            _ => String::new(),
        }
    }
}

impl Windowed {
    /// Makes small pictures of large ones: sizes `(width, height)` of what is
    /// made of each. The same random numbers make the same pictures, however
    /// many threads there are.
    ///
    /// # Errors
    ///
    /// A codec that fails.
    pub fn shrunk(
        &self,
        large: &[Raster],
        sizes: &[(usize, usize)],
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Raster>> {
        let pairs: Vec<_> = large.iter().zip(sizes).collect();
        match self {
            Self::Opencv => {
                let shrunk = pairs.into_par_iter();
                Ok(shrunk
                    .map(|(large, &size)| chain::opencv(large, size))
                    .collect())
            }
            Self::SecondOrder(_) => {
                let seeds: Vec<u64> = pairs.iter().map(|_| rng.next_u64()).collect();
                let shrink = |((large, size), seed): ((&Raster, &(usize, usize)), u64)| {
                    chain::second_order(large, *size, &mut ChaCha8Rng::seed_from_u64(seed))
                };
                pairs.into_par_iter().zip(seeds).map(shrink).collect()
            }
            Self::Video(codecs) => codecs.shrunk(&pairs, rng),
        }
    }

    /// What is to be made of the small picture, where it is not the large one.
    pub fn target(&self, large: &Raster) -> Option<Raster> {
        matches!(self, Self::SecondOrder(true)).then(|| large.sharpened())
    }

    /// The small picture enlarged again, as a network at the output's
    /// resolution sees it: as inference does or, for the seed's, as the seed did.
    pub fn enlarged(&self, small: &Raster, size: (usize, usize)) -> Raster {
        if let Self::Opencv = self {
            let mut large = small.resized(size, Resize::Bicubic);
            large.round();
            return large;
        }
        bicubically(small, size)
    }
}
