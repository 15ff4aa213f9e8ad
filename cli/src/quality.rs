//! PSNR and SSIM of results.

use serde::Serialize;

/// Quality of a model and of bicubic interpolation, against the original.
/// PSNR in dB, infinite for identical images (null in JSON).
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Quality {
    pub(crate) psnr: f64,
    pub(crate) ssim: f64,
    pub(crate) bicubic_psnr: f64,
    pub(crate) bicubic_ssim: f64,
    /// Of clips.
    #[serde(flatten)]
    pub(crate) temporal: Option<Temporal>,
    /// How different from the original the images look.
    #[serde(flatten)]
    pub(crate) perceptual: Option<Perceptual>,
}

/// Distances from the original by the features of a network; 0 for equal images.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Perceptual {
    pub(crate) distance: f64,
    pub(crate) bicubic_distance: f64,
}

impl Perceptual {
    fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        Self {
            distance: mean(|one| one.distance),
            bicubic_distance: mean(|one| one.bicubic_distance),
        }
    }
}

/// How much the error of a clip changes from frame to frame: the mean of the absolute changes of
/// luma, of 255.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flicker {
    /// Where the original is still; `None` if nothing is.
    pub(crate) still: Option<f64>,
    /// Elsewhere.
    pub(crate) moving: Option<f64>,
}

/// The flicker of a model and of bicubic interpolation.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Temporal {
    pub(crate) still_flicker: Option<f64>,
    pub(crate) moving_flicker: Option<f64>,
    pub(crate) bicubic_still_flicker: Option<f64>,
    pub(crate) bicubic_moving_flicker: Option<f64>,
}

impl Temporal {
    /// The mean over those that have a value.
    fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = all.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Self {
            still_flicker: mean(|one| one.still_flicker),
            moving_flicker: mean(|one| one.moving_flicker),
            bicubic_still_flicker: mean(|one| one.bicubic_still_flicker),
            bicubic_moving_flicker: mean(|one| one.bicubic_moving_flicker),
        }
    }
}

impl Quality {
    /// From PSNR and SSIM of the model's result, and of bicubic interpolation.
    pub(crate) fn new((psnr, ssim): (f64, f64), bicubic: (f64, f64)) -> Self {
        Self {
            psnr,
            ssim,
            bicubic_psnr: bicubic.0,
            bicubic_ssim: bicubic.1,
            temporal: None,
            perceptual: None,
        }
    }

    /// With the flicker of the model and of bicubic interpolation.
    #[cfg_attr(not(feature = "video"), allow(dead_code))]
    pub(crate) fn with_flicker(self, model: Flicker, bicubic: Flicker) -> Self {
        let temporal = Temporal {
            still_flicker: model.still,
            moving_flicker: model.moving,
            bicubic_still_flicker: bicubic.still,
            bicubic_moving_flicker: bicubic.moving,
        };
        Self {
            temporal: Some(temporal),
            ..self
        }
    }

    /// Gain in PSNR over bicubic interpolation, in dB; not finite if one of them
    /// is identical to the original.
    pub(crate) fn gain(&self) -> f64 {
        self.psnr - self.bicubic_psnr
    }

    /// The mean over images.
    pub(crate) fn mean(all: impl ExactSizeIterator<Item = Self> + Clone) -> Self {
        let share = 1.0 / all.len() as f64;
        let temporal: Vec<Temporal> = all.clone().filter_map(|one| one.temporal).collect();
        let perceptual: Vec<Perceptual> = all.clone().filter_map(|one| one.perceptual).collect();
        let first = Self {
            perceptual: (!perceptual.is_empty()).then(|| Perceptual::mean(&perceptual)),
            temporal: (!temporal.is_empty()).then(|| Temporal::mean(&temporal)),
            ..Self::default()
        };
        all.fold(first, |sum, one| Self {
            psnr: sum.psnr + share * one.psnr,
            ssim: sum.ssim + share * one.ssim,
            bicubic_psnr: sum.bicubic_psnr + share * one.bicubic_psnr,
            bicubic_ssim: sum.bicubic_ssim + share * one.bicubic_ssim,
            ..sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_psnr_is_null() {
        let quality = Quality {
            psnr: f64::INFINITY,
            ..Quality::default()
        };
        let json = serde_json::to_value(Quality::mean([quality, Quality::default()].into_iter()));
        assert!(json.unwrap()["psnr"].is_null());
    }
}
