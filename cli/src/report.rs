//! What the commands print, and the results that `sr evaluate` writes.

use crate::args::Protocol;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use srfilter::Scale;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Lines on standard output and, on a terminal, a progress bar below them on
/// standard error.
pub(crate) struct Console {
    bar: ProgressBar,
}

impl Console {
    /// A console for that many steps; a single one gets no bar.
    pub(crate) fn new(steps: usize) -> Self {
        if steps < 2 {
            let bar = ProgressBar::hidden();
            return Self { bar };
        }
        let bar = ProgressBar::new(steps as u64);
        // The template is constant; the default style would serve as well.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        self.bar.suspend(|| writeln!(io::stdout().lock(), "{text}"))
    }

    /// Prints a line to standard error.
    pub(crate) fn warn(&self, text: &str) {
        // A warning that nobody can read stops nothing.
        let _ = self
            .bar
            .suspend(|| writeln!(io::stderr().lock(), "sr: {text}"));
    }

    /// Begins the next step.
    pub(crate) fn step(&self, what: String) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        self.bar.set_message(what);
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The last part of a path, for display.
pub(crate) fn file_name(path: &Path) -> String {
    match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => path.display().to_string(),
    }
}

/// Quality of a model and of bicubic interpolation, against the original.
/// PSNR in dB, infinite where there is no difference (null in JSON).
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

    /// How many dB the model is nearer to the original than bicubic
    /// interpolation; not finite where one of them differs nowhere.
    pub(crate) fn gain(&self) -> f64 {
        self.psnr - self.bicubic_psnr
    }

    fn mean(all: impl ExactSizeIterator<Item = Self>) -> Self {
        let share = 1.0 / all.len() as f64;
        all.fold(Self::default(), |sum, one| Self {
            psnr: sum.psnr + share * one.psnr,
            ssim: sum.ssim + share * one.ssim,
            bicubic_psnr: sum.bicubic_psnr + share * one.bicubic_psnr,
            bicubic_ssim: sum.bicubic_ssim + share * one.bicubic_ssim,
        })
    }
}

/// Quality on one picture.
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
    /// The protocol in a line.
    #[serde(skip)]
    pub(crate) method: &'static str,
    pub(crate) model: String,
    pub(crate) weights: String,
    pub(crate) scale: Scale,
    pub(crate) data: String,
    pub(crate) protocol: Protocol,
    /// Whether the shrunk pictures had 8-bit samples.
    pub(crate) rounded: bool,
    pub(crate) mean: Quality,
    pub(crate) images: Vec<ImageQuality>,
}

impl Report {
    /// Adds a picture's quality; the mean follows.
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
}

/// The results as CSV: a line for each model, scale and picture.
///
/// # Errors
///
/// None that is known of: it is written to memory.
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
        }
    }

    /// The titles.
    pub(crate) fn head(&self) -> String {
        let Self { model, data, image } = *self;
        let top = format!(
            "{:model$}  {:5}  {:data$}  {:image$}  {:^16}  {:^16}",
            "", "", "", "", "model", "bicubic"
        );
        let titles = format!(
            "{:model$}  {:5}  {:data$}  {:image$}  {:>8} {:>7}  {:>8} {:>7}  {:>7}",
            "model", "scale", "data", "image", "PSNR/dB", "SSIM", "PSNR/dB", "SSIM", "gain/dB"
        );
        format!("{}\n{titles}", top.trim_end())
    }

    /// The row of one picture.
    pub(crate) fn image(&self, report: &Report, image: &ImageQuality) -> String {
        self.row(report, &image.name, &image.quality)
    }

    /// The row of a data set.
    pub(crate) fn mean(&self, report: &Report) -> String {
        let name = format!("mean of {}", report.images.len());
        self.row(report, &name, &report.mean)
    }

    fn row(&self, report: &Report, name: &str, quality: &Quality) -> String {
        let Self { model, data, image } = *self;
        let gain = quality.gain();
        let gain = if gain.is_finite() {
            // Adding zero turns a rounded -0 into +0.
            format!("{:+.2}", (gain * 100.0).round() / 100.0 + 0.0)
        } else {
            "-".to_owned()
        };
        format!(
            "{:model$}  {:5}  {:data$}  {name:image$}  {:8.3} {:7.4}  {:8.3} {:7.4}  {gain:>7}",
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
