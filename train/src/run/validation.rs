//! Validation: PSNR of the network and of bicubic interpolation on images that
//! are not trained on.

use crate::data::TrainingImage;
use crate::degrade::raster::Raster;
use crate::degrade::{Bicubic, Method, Plane, Shot, Windowed, cropped};
use crate::fnv;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use srfilter::frame::resample::{Region, Resampler};
use srfilter::frame::to_u8;
use srfilter::metrics::{psnr, shave};
use srfilter::models::{Network, ScaleNetwork, Upsampling};
use srfilter::ops::Border;

/// Side of the central crop that is validated, in pixels: large enough to be
/// representative, small enough to be fast.
const SIDE: usize = 192;

/// Largest sample value.
const PEAK: f32 = 255.0;

/// PSNR of a result without error, so that means stay finite.
const PERFECT: f64 = 100.0;

/// PSNR at one scale, mean over the images, in dB.
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
    /// Gain over bicubic interpolation, in dB.
    pub fn gain(&self) -> f64 {
        self.psnr - self.bicubic
    }
}

/// Mean gain over all scales; `None` if there is none.
pub fn mean_gain(qualities: &[Quality]) -> Option<f64> {
    let sum: f64 = qualities.iter().map(Quality::gain).sum();
    (!qualities.is_empty()).then(|| sum / qualities.len() as f64)
}

/// One image at one scale: planes of samples from 0 to 255.
#[derive(Debug)]
struct Case {
    /// The low-resolution image.
    small: Planes<f32>,
    /// The low-resolution image upscaled by bicubic interpolation.
    upscaled: Planes<f32>,
    /// The original.
    target: Planes<u8>,
}

/// Planes of one size.
#[derive(Debug)]
struct Planes<T> {
    size: (usize, usize),
    /// Dense rows, plane after plane.
    samples: Vec<T>,
}

/// The validation images, degraded and upscaled once.
#[derive(Debug)]
pub struct Validator(Vec<(Scale, Vec<Case>)>);

impl Validator {
    /// Prepares the centre of every image for every scale. Random
    /// degradations are the same in every run.
    ///
    /// # Errors
    ///
    /// A degradation that fails.
    pub fn new(images: &[TrainingImage], scales: &[Scale], method: &Method) -> Result<Self> {
        if images.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let middles: Vec<TrainingImage> = images.iter().map(|image| image.center(SIDE)).collect();
        let cases = |&scale: &Scale| {
            let cases = match method {
                Method::Bicubic(kind) => {
                    let case = |image: &TrainingImage| Case::new(image, scale, *kind);
                    middles.iter().map(case).collect()
                }
                Method::Windowed(how) => windowed(&middles, scale, how)?,
            };
            Ok((scale, cases))
        };
        Ok(Self(scales.iter().map(cases).collect::<Result<_>>()?))
    }

    /// PSNR of the network on `device`, scale by scale. Where the network has no
    /// weights for a scale, it runs at the nearest one and the result is
    /// resampled, as in inference.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn measure(&self, network: &dyn Network, device: &Device) -> Result<Vec<Quality>> {
        let planes = network.channels().count();
        let quality = |(scale, cases): &(Scale, Vec<Case>)| -> Result<Quality> {
            let native = network.scales().nearest(*scale).unwrap_or(*scale);
            let ready = network.for_scale(native)?;
            let border = scale.factor().ceil() as usize;
            let (mut ours, mut bicubic) = (0.0, 0.0);
            for case in cases {
                let result = case.result(ready.as_ref(), planes, device)?;
                ours += case.psnr(&result, planes, border);
                bicubic += case.psnr(&rounded(&case.upscaled.samples), planes, border);
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

/// The images at one scale, degraded in windows of their whole size.
fn windowed(images: &[TrainingImage], scale: Scale, how: &Windowed) -> Result<Vec<Case>> {
    let mut rng = ChaCha8Rng::seed_from_u64(fnv(format!("validation x{scale}")));
    let shots: Vec<Shot> = images
        .iter()
        .map(|image| {
            let size = cropped(image.size, scale);
            let shot = image.shot(image.frames / 2, (0, 0), size, how.reach());
            let target = how.target(&shot.image);
            Shot {
                image: target.unwrap_or(shot.image),
                ..shot
            }
        })
        .collect();
    let small = |length: usize| length / scale.num() as usize * scale.den() as usize;
    let sizes: Vec<_> = shots
        .iter()
        .map(|shot| (small(shot.image.size.0), small(shot.image.size.1)))
        .collect();
    // One by one: images that are degraded together share what is drawn for all.
    let downscaled = shots.iter().zip(&sizes).map(|(shot, size)| {
        let degraded = how.downscaled(std::slice::from_ref(shot), &[*size], &mut rng);
        degraded?.pop().context("a degradation without a result")
    });
    let downscaled = downscaled.collect::<Result<Vec<_>>>()?;
    let large = shots.iter().map(|shot| &shot.image);
    let case = |(large, small): (&Raster, &Raster)| Case {
        small: Planes::of(small),
        upscaled: Planes::of(&how.upscaled(small, large.size)),
        target: Planes {
            size: large.size,
            samples: rounded(&Planes::of(large).samples),
        },
    };
    Ok(large.zip(&downscaled).map(case).collect())
}

impl Planes<f32> {
    fn of(raster: &Raster) -> Self {
        let samples = raster.planes.iter().flatten();
        Self {
            size: raster.size,
            samples: samples.map(|v| v * PEAK).collect(),
        }
    }
}

fn rounded(samples: &[f32]) -> Vec<u8> {
    samples.iter().map(|&v| to_u8(v)).collect()
}

impl Case {
    fn new(image: &TrainingImage, scale: Scale, kind: Bicubic) -> Self {
        let planes = || image.cropped_planes(image.frames / 2, scale);
        let sizes = |first: Plane<'_>| (first.size, first.downscaled_size(scale));
        let (size, small_size) = planes().next().map(sizes).unwrap_or_default();
        let all = |(width, height)| Region::all(width, height);
        let small = planes().flat_map(|p| p.downscaled(scale, kind, &all(small_size)));
        let upscaled = planes().flat_map(|p| p.degraded(scale, kind, &all(size)));
        let target = planes().flat_map(|p| p.part(&(0..size.0), &(0..size.1)).collect::<Vec<_>>());
        Self {
            small: Planes {
                size: small_size,
                samples: small.map(f32::from).collect(),
            },
            upscaled: Planes {
                size,
                samples: upscaled.collect(),
            },
            target: Planes {
                size,
                samples: target.collect(),
            },
        }
    }

    /// The output of a network, at the target's size.
    fn result(
        &self,
        network: &dyn ScaleNetwork,
        planes: usize,
        device: &Device,
    ) -> Result<Vec<u8>> {
        let input = match network.upsampling() {
            Upsampling::Pre => &self.upscaled,
            Upsampling::Post(_) => &self.small,
        };
        let (width, height) = input.size;
        let x = input.samples.iter().map(|v| v / PEAK).collect();
        let mut x = Tensor::from_vec(x, (1, planes, height, width), device)?;
        if network.border() == Border::Valid {
            // Unpadded convolutions crop the halo: repeat the edge, as the engine does.
            let halo = network.halo();
            x = x
                .pad_with_same(2, halo, halo)?
                .pad_with_same(3, halo, halo)?;
        }
        let y = network.forward(&x)?.detach();
        let y: Vec<f32> = y.flatten_all()?.to_vec1()?;
        let y: Vec<f32> = y.iter().map(|v| (v * PEAK).clamp(0.0, PEAK)).collect();
        let factor = network.upsampling().factor();
        let size = (factor * width, factor * height);
        if size == self.target.size {
            return Ok(rounded(&y));
        }
        let finish = Resampler::resize(size, self.target.size);
        let planes = y.chunks_exact(size.0 * size.1);
        let finished: Vec<f32> = planes.flat_map(|plane| finish.apply(plane)).collect();
        Ok(rounded(&finished))
    }

    /// PSNR over all planes without `border` pixels on every side.
    fn psnr(&self, output: &[u8], planes: usize, border: usize) -> f64 {
        let (width, height) = self.target.size;
        let shaved = |samples: &[u8]| -> Vec<f64> {
            let planes = samples.chunks_exact(width * height).take(planes);
            let shave = |plane: &[u8]| {
                let plane: Vec<f64> = plane.iter().copied().map(f64::from).collect();
                shave(&plane, width, border).0
            };
            planes.flat_map(shave).collect()
        };
        psnr(&shaved(output), &shaved(&self.target.samples)).min(PERFECT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use candle_nn::VarBuilder;
    use srfilter::models::{Architecture, Channels, Scales, espcn, srcnn};

    const MATLAB: Method = Method::Bicubic(Bicubic::Matlab);

    /// Of equal images each has a codec and a strength of its own.
    #[cfg(feature = "video")]
    #[test]
    fn images_are_degraded_one_by_one() {
        use crate::degrade::video::Codecs;
        let settings = crate::recipe::Video {
            strength: [0.0, 1.0],
            motion: 0.0,
            ..Default::default()
        };
        let Ok(codecs) = Codecs::new(&settings) else {
            println!("skipped: there is no encoder");
            return;
        };
        let image = synthetic::image(1, 0);
        let image = TrainingImage::new("d", &image, Channels::Luma, 1.0).center(64);
        let how = Windowed::Video(codecs);
        let cases = windowed(&vec![image.clone(); 8], Scale::whole(2), &how).unwrap();
        let plain = Case::new(&image, Scale::whole(2), Bicubic::Matlab).small;
        let losses = cases.iter().map(|case| -> f32 {
            assert_eq!(case.target.samples, cases[0].target.samples);
            let pairs = case.small.samples.iter().zip(&plain.samples);
            pairs.map(|(a, b)| (a - b).abs()).sum()
        });
        let losses: Vec<f32> = losses.collect();
        let [least, most] = [f32::min, f32::max].map(|of| losses.iter().copied().reduce(of));
        // At one strength they differ by their places in the clip alone.
        assert!(most > least.map(|least| 2.0 * least), "{losses:?}");
    }

    /// A network of zeros with a global residual is bicubic interpolation.
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
            let image = TrainingImage::new("d", &synthetic::image(1, 0), channels, 1.0);
            let validator = Validator::new(&[image], &[scale], &MATLAB).unwrap();
            let measured = validator.measure(network.as_ref(), &Device::Cpu).unwrap();
            assert!((20.0..40.0).contains(&measured[0].bicubic), "{measured:?}");
            assert!(measured[0].gain().abs() < 1e-3, "{measured:?}");
        }
    }

    /// The same for a post-upsampling network; fractions use the next whole scale.
    #[test]
    fn an_empty_network_at_the_inputs_resolution_gains_nothing() {
        let vb = VarBuilder::zeros(candle_core::DType::F32, &Device::Cpu);
        let whole = Scales::list([2, 3].map(Scale::whole));
        let architecture = Architecture::Espcn(espcn::Config::default());
        let network = architecture.build(&vb, whole).unwrap();
        let image = TrainingImage::new("d", &synthetic::image(1, 0), Channels::Luma, 1.0);
        for (scale, off) in [("2", 1e-3), ("3", 1e-3), ("3/2", 0.7), ("5/2", 0.7)] {
            let scale = scale.parse().unwrap();
            let images = std::slice::from_ref(&image);
            let validator = Validator::new(images, &[scale], &MATLAB).unwrap();
            let measured = validator.measure(network.as_ref(), &Device::Cpu).unwrap();
            assert!((20.0..40.0).contains(&measured[0].bicubic), "{measured:?}");
            assert!(measured[0].gain().abs() < off, "{measured:?}");
        }
    }

    #[test]
    fn nothing_held_back_measures_nothing() {
        let validator = Validator::new(&[], &[Scale::whole(2)], &MATLAB).unwrap();
        assert!(validator.0.is_empty());
        assert_eq!(mean_gain(&[]), None);
    }
}
