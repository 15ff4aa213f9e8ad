//! The results that `sr evaluate` writes.

use crate::protocol::{Degradation, Protocol};
use crate::quality::Quality;
use anyhow::Result;
use serde::Serialize;
use srfilter::Scale;

/// Quality on one image.
#[derive(Debug, Serialize)]
pub(crate) struct ImageQuality {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) quality: Quality,
}

/// Quality of a model at one scale on one data set.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The model's name, with its file where several have that name.
    #[serde(skip)]
    pub(crate) label: String,
    /// The data folder's name.
    #[serde(skip)]
    pub(crate) set: String,
    /// The protocol, as a line.
    #[serde(skip)]
    pub(crate) method: &'static str,
    pub(crate) model: String,
    pub(crate) weights: String,
    pub(crate) scale: Scale,
    pub(crate) data: String,
    pub(crate) protocol: Protocol,
    /// Whether the low-resolution images were rounded to 8 bits.
    pub(crate) rounded: bool,
    pub(crate) degradation: Degradation,
    pub(crate) mean: Quality,
    pub(crate) images: Vec<ImageQuality>,
}

impl Report {
    /// Adds an image's quality; the mean follows.
    pub(crate) fn add(&mut self, image: ImageQuality) {
        self.images.push(image);
        self.mean = Quality::mean(self.images.iter().map(|image| image.quality));
    }
}

/// A line of the CSV file.
#[derive(Serialize)]
struct Row<'a> {
    data: &'a str,
    image: &'a str,
    model: &'a str,
    weights: &'a str,
    scale: String,
    protocol: Protocol,
    rounded: bool,
    psnr: f64,
    ssim: f64,
    bicubic_psnr: f64,
    bicubic_ssim: f64,
    degradation: Degradation,
    distance: Option<f64>,
    bicubic_distance: Option<f64>,
}

/// The results as CSV: a line for each model, scale and image.
///
/// # Errors
///
/// None in practice: it is written to memory.
pub(crate) fn csv(reports: &[Report]) -> Result<String> {
    let mut out = csv::Writer::from_writer(Vec::new());
    for report in reports {
        for ImageQuality { name, quality } in &report.images {
            out.serialize(Row {
                data: &report.data,
                image: name,
                model: &report.model,
                weights: &report.weights,
                scale: report.scale.to_string(),
                protocol: report.protocol,
                rounded: report.rounded,
                psnr: quality.psnr,
                ssim: quality.ssim,
                bicubic_psnr: quality.bicubic_psnr,
                bicubic_ssim: quality.bicubic_ssim,
                degradation: report.degradation,
                distance: quality.perceptual.map(|p| p.distance),
                bicubic_distance: quality.perceptual.map(|p| p.bicubic_distance),
            })?;
        }
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}

/// Lays out the rows of `sr evaluate`.
pub(crate) struct Table {
    model: usize,
    data: usize,
    image: usize,
    /// Whether there are columns for the flicker of clips.
    flicker: bool,
    /// Whether there is a column for perceptual distances.
    distance: bool,
}

impl Table {
    /// A table wide enough for these names.
    pub(crate) fn new<'a>(
        models: impl Iterator<Item = &'a str>,
        data: impl Iterator<Item = &'a str>,
        images: impl Iterator<Item = &'a str>,
    ) -> Self {
        fn widest<'a>(title: &str, names: impl Iterator<Item = &'a str>) -> usize {
            let widths = names.map(|name| name.chars().count());
            widths.fold(title.len(), usize::max)
        }
        Self {
            model: widest("model", models),
            data: widest("data", data),
            image: widest("mean of 000", images),
            flicker: false,
            distance: false,
        }
    }

    /// With perceptual distances, if so.
    pub(crate) fn with_distance(self, distance: bool) -> Self {
        Self { distance, ..self }
    }

    /// With the flicker of clips, where they are still and where they move.
    #[cfg_attr(not(feature = "video"), allow(dead_code))]
    pub(crate) fn with_flicker(self) -> Self {
        Self {
            flicker: true,
            ..self
        }
    }

    /// The titles.
    pub(crate) fn head(&self) -> String {
        let Self {
            model, data, image, ..
        } = *self;
        let more = |of_clips, of_images| match (self.flicker, self.distance) {
            (true, _) => of_clips,
            (_, true) => of_images,
            _ => "",
        };
        let top = format!(
            "{:model$}  {:5}  {:data$}  {:image$}  {:^16}  {:^16}  {:7}{}",
            "",
            "",
            "",
            "",
            "model",
            "bicubic",
            "",
            more("  flicker (bicubic's), of 255", "  distance (bicubic's)")
        );
        let titles = format!(
            "{:model$}  {:5}  {:data$}  {:image$}  {:>8} {:>7}  {:>8} {:>7}  {:>7}{}",
            "model",
            "scale",
            "data",
            "image",
            "PSNR/dB",
            "SSIM",
            "PSNR/dB",
            "SSIM",
            "gain/dB",
            more("  still        moving", "")
        );
        format!("{}\n{titles}", top.trim_end())
    }

    /// The row of one image.
    pub(crate) fn image(&self, report: &Report, image: &ImageQuality) -> String {
        self.row(report, &image.name, &image.quality)
    }

    /// The row of a data set.
    pub(crate) fn mean(&self, report: &Report) -> String {
        let name = format!("mean of {}", report.images.len());
        self.row(report, &name, &report.mean)
    }

    fn row(&self, report: &Report, name: &str, quality: &Quality) -> String {
        let Self {
            model, data, image, ..
        } = *self;
        let gain = quality.gain();
        let gain = if gain.is_finite() {
            // Adding zero turns a rounded -0 into +0.
            format!("{:+.2}", (gain * 100.0).round() / 100.0 + 0.0)
        } else {
            "-".to_owned()
        };
        let more = match (quality.temporal, quality.perceptual) {
            (Some(t), _) if self.flicker => format!(
                "  {:11}  {}",
                pair(t.still_flicker, t.bicubic_still_flicker),
                pair(t.moving_flicker, t.bicubic_moving_flicker)
            ),
            (_, Some(p)) if self.distance => {
                format!("  {:.3} ({:.3})", p.distance, p.bicubic_distance)
            }
            _ => String::new(),
        };
        format!(
            "{:model$}  {:5}  {:data$}  {name:image$}  {:8.3} {:7.4}  {:8.3} {:7.4}  {gain:>7}{more}",
            report.label,
            report.scale.to_string(),
            report.set,
            quality.psnr,
            quality.ssim,
            quality.bicubic_psnr,
            quality.bicubic_ssim,
        )
    }
}

/// The flicker of a model, and of bicubic interpolation in brackets.
pub(crate) fn pair(model: Option<f64>, bicubic: Option<f64>) -> String {
    match (model, bicubic) {
        (Some(model), Some(bicubic)) => format!("{model:.2} ({bicubic:.2})"),
        _ => "-".to_owned(),
    }
}
