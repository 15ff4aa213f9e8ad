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
}

impl Quality {
    /// From PSNR and SSIM of the model's result, and of bicubic interpolation.
    pub(crate) fn new((psnr, ssim): (f64, f64), bicubic: (f64, f64)) -> Self {
        Self {
            psnr,
            ssim,
            bicubic_psnr: bicubic.0,
            bicubic_ssim: bicubic.1,
        }
    }

    /// Gain in PSNR over bicubic interpolation, in dB; not finite if one of them
    /// is identical to the original.
    pub(crate) fn gain(&self) -> f64 {
        self.psnr - self.bicubic_psnr
    }

    /// The mean over images.
    pub(crate) fn mean(all: impl ExactSizeIterator<Item = Self>) -> Self {
        let share = 1.0 / all.len() as f64;
        all.fold(Self::default(), |sum, one| Self {
            psnr: sum.psnr + share * one.psnr,
            ssim: sum.ssim + share * one.ssim,
            bicubic_psnr: sum.bicubic_psnr + share * one.bicubic_psnr,
            bicubic_ssim: sum.bicubic_ssim + share * one.bicubic_ssim,
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
