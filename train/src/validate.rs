//! Validation: PSNR of the network and of bicubic interpolation on pictures
//! that are never trained on.

use crate::data::Image;
use crate::recipe::Degradation;
use anyhow::Result;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use srfilter::frame::resample::Region;
use srfilter::frame::to_u8;
use srfilter::metrics::{psnr, shave};
use srfilter::models::Network;
use srfilter::ops::Border;

/// Side of the middle part of a picture that is validated on, in pixels:
/// enough to judge by, small enough to be quick.
const SIDE: usize = 192;

/// PSNR of a result without any error, so that means stay finite.
const PERFECT: f64 = 100.0;

/// PSNR at one scale, mean over the pictures, in dB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The scale.
    pub scale: Scale,
    /// Of the network.
    pub psnr: f64,
    /// Of bicubic interpolation.
    pub bicubic: f64,
}

impl Quality {
    /// How much the network is better, in dB.
    pub fn gain(&self) -> f64 {
        self.psnr - self.bicubic
    }
}

/// Mean gain over all scales; `None` if there is none.
pub fn mean_gain(qualities: &[Quality]) -> Option<f64> {
    let sum: f64 = qualities.iter().map(Quality::gain).sum();
    (!qualities.is_empty()).then(|| sum / qualities.len() as f64)
}

/// One picture at one scale.
#[derive(Debug)]
struct Case {
    width: usize,
    height: usize,
    /// Samples of all planes, 0 to 255.
    input: Vec<f32>,
    target: Vec<u8>,
}

/// The pictures to validate on, made small and enlarged once for all.
#[derive(Debug)]
pub struct Validator(Vec<(Scale, Vec<Case>)>);

impl Validator {
    /// Prepares the middle of every picture for every scale.
    pub fn new(images: &[Image], scales: &[Scale], degradation: Degradation) -> Self {
        let middles: Vec<Image> = images.iter().map(|image| image.center(SIDE)).collect();
        let cases = |&scale: &Scale| {
            let case = |image: &Image| Case::new(image, scale, degradation);
            (scale, middles.iter().map(case).collect())
        };
        match images.is_empty() {
            true => Self(Vec::new()),
            false => Self(scales.iter().map(cases).collect()),
        }
    }

    /// PSNR of the network, scale by scale.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn measure(&self, network: &dyn Network) -> Result<Vec<Quality>> {
        let planes = network.channels().count();
        let quality = |(scale, cases): &(Scale, Vec<Case>)| -> Result<Quality> {
            let ready = network.at(*scale)?;
            let inset = match ready.border() {
                Border::Valid => ready.halo(),
                _ => 0,
            };
            let border = (scale.factor().ceil() as usize).max(inset);
            let (mut ours, mut bicubic) = (0.0, 0.0);
            for case in cases {
                let x = case.input.iter().map(|v| v / 255.0).collect();
                let x = Tensor::from_vec(x, (1, planes, case.height, case.width), &Device::Cpu)?;
                let y = ready.forward(&x)?.detach();
                let y: Vec<f32> = y.flatten_all()?.to_vec1()?;
                let y: Vec<u8> = y.iter().map(|v| to_u8(v * 255.0)).collect();
                ours += case.psnr(&y, planes, inset, border);
                let enlarged: Vec<u8> = case.input.iter().map(|&v| to_u8(v)).collect();
                bicubic += case.psnr(&enlarged, planes, 0, border);
            }
            Ok(Quality {
                scale: *scale,
                psnr: ours / cases.len() as f64,
                bicubic: bicubic / cases.len() as f64,
            })
        };
        self.0.iter().map(quality).collect()
    }
}

impl Case {
    fn new(image: &Image, scale: Scale, degradation: Degradation) -> Self {
        let (width, height) = image.plane(0, scale).size;
        let region = Region::all(width, height);
        let planes = || (0..image.planes.len()).map(|i| image.plane(i, scale));
        Self {
            width,
            height,
            input: planes()
                .flat_map(|p| p.degraded(scale, degradation, &region))
                .collect(),
            target: planes()
                .flat_map(|p| p.part(&region.x, &region.y).collect::<Vec<_>>())
                .collect(),
        }
    }

    /// PSNR over all planes without `border` pixels on every side; `output`
    /// lacks `inset` of them already.
    fn psnr(&self, output: &[u8], planes: usize, inset: usize, border: usize) -> f64 {
        let shaved = |samples: &[u8], inset: usize| -> Vec<f64> {
            let width = self.width - 2 * inset;
            let planes = samples.chunks_exact((samples.len() / planes).max(1));
            let shave = |plane: &[u8]| {
                let plane: Vec<f64> = plane.iter().copied().map(f64::from).collect();
                shave(&plane, width, border - inset).0
            };
            planes.flat_map(shave).collect()
        };
        psnr(&shaved(output, inset), &shaved(&self.target, 0)).min(PERFECT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawn;
    use candle_nn::VarBuilder;
    use srfilter::models::{Architecture, Channels, Scales, srcnn};

    /// A network of zeros with a residual is bicubic interpolation itself.
    #[test]
    fn an_empty_residual_gains_nothing() {
        for (border, channels) in [
            (Border::Replicate, Channels::Luma),
            (Border::Valid, Channels::Luma),
            (Border::Zero, Channels::Rgb),
        ] {
            let config = srcnn::Config {
                border,
                channels,
                widths: [2, 2],
                residual: true,
                ..srcnn::Config::default()
            };
            let scale = Scale::whole(3);
            let vb = VarBuilder::zeros(candle_core::DType::F32, &Device::Cpu);
            let network = Architecture::Srcnn(config)
                .build(&vb, Scales::list([scale]))
                .unwrap();
            let image = Image::new("d", &drawn::picture(1, 0), channels, 1.0);
            let validator = Validator::new(&[image], &[scale], Degradation::Matlab);
            let measured = validator.measure(network.as_ref()).unwrap();
            assert!((20.0..40.0).contains(&measured[0].bicubic), "{measured:?}");
            assert!(measured[0].gain().abs() < 1e-3, "{measured:?}");
        }
    }

    #[test]
    fn nothing_held_back_measures_nothing() {
        let validator = Validator::new(&[], &[Scale::whole(2)], Degradation::Matlab);
        assert!(validator.0.is_empty());
        assert_eq!(mean_gain(&[]), None);
    }
}
