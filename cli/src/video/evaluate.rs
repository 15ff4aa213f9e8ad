//! `sr evaluate --video`: models on clips that were downscaled and encoded.

use super::clip::{Clip, has_codec};
use crate::args::EvaluateArgs;
use crate::candidates::Candidate;
use crate::console::Console;
use crate::html::gallery::{Gallery, GalleryKey};
use crate::paths::file_name;
use crate::protocol::{Degradation, Protocol};
use crate::quality::{Flicker, Quality};
use crate::report::{ImageQuality, Report, Table};
use crate::show::DisplayImages;
use anyhow::{Context, Result, anyhow, bail};
use srfilter::Scale;
use std::path::{Path, PathBuf};

/// One line for tables and pages.
const METHOD: &str = "luma of clips that were downscaled (bicubic, antialiased), encoded by x264 at a constant rate \
                      factor and decoded";

/// A clip at one scale and rate factor.
struct Case {
    /// The clip's frames that are compared, and those after them.
    expected: Clip,
    /// The same, downscaled and through the encoder.
    decoded: Clip,
    /// Of the two above: those that are compared.
    chosen: Vec<usize>,
    /// Those of them that the next frame of the clip follows.
    pairs: Vec<usize>,
    scale: usize,
}

/// What came out of a model.
struct Measured {
    frames: Clip,
    quality: (f64, f64),
    flicker: Flicker,
}

impl Case {
    fn new(clip: &Clip, scale: usize, crf: u32, frames: usize) -> Result<Self> {
        let clip = clip.for_scale(scale)?;
        let decoded = clip.small(scale).encoded(crf)?;
        let (mut all, mut chosen, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        for frame in evenly_spaced(clip.len(), frames) {
            chosen.push(all.len());
            all.push(frame);
            if frame + 1 < clip.len() {
                pairs.push(all.len() - 1);
                all.push(frame + 1);
            }
        }
        Ok(Self {
            expected: clip.only(&all),
            decoded: decoded.only(&all),
            chosen,
            pairs,
            scale,
        })
    }

    /// Upscales by the element with these properties, and compares.
    fn measure(&self, properties: &str) -> Result<Measured> {
        let scale = self.scale;
        let frames = self
            .decoded
            .through(&format!("srfilter qos=false scale={scale} {properties}"))?;
        let chosen = (self.chosen.as_slice(), scale);
        Ok(Measured {
            quality: self.expected.quality(&frames, chosen)?,
            flicker: self.expected.flicker(&frames, &self.pairs, scale)?,
            frames,
        })
    }
}

/// `count` of `all` frames, or all of them, in the middles of equal parts.
fn evenly_spaced(all: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(all);
    (0..count).map(move |i| (2 * i + 1) * all / (2 * count))
}

/// The element's properties for a model of the command line.
fn properties(args: &EvaluateArgs, candidate: &Candidate) -> Result<String> {
    let model = &candidate.model;
    let device = args.compute.device();
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let file = |file: &&PathBuf| file.to_str() == Some(model.origin());
    let which = match args.weights.iter().find(file) {
        Some(file) => {
            let name = file.to_str().context("the name of the file is not UTF-8")?;
            format!("weights={}", quoted(name))
        }
        None => format!("model={}", model.name()),
    };
    Ok(format!(
        "{which} damage={} device={} precision={} threads={}",
        args.damage.source(),
        device.device,
        device.precision,
        device.threads
    ))
}

/// Measures the models on the clips of the command line; with `print`, tells the results.
pub(crate) fn run(
    args: &EvaluateArgs,
    candidates: &[Candidate],
    mut gallery: Option<&mut Gallery>,
    print: bool,
) -> Result<Vec<Report>> {
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    if !has_codec() {
        bail!(
            "GStreamer has no x264enc or avdec_h264: install gst-plugins-ugly and gst-libav \
             (gstreamer1.0-plugins-ugly and gstreamer1.0-libav on Debian and Ubuntu)"
        );
    }
    let scales = (args.scale.iter())
        .map(|&scale| whole(scale))
        .collect::<Result<Vec<_>>>()?;
    if let Some(clip) = args.video.iter().find(|clip| !clip.is_file()) {
        bail!("cannot find {}: no such file", clip.display());
    }
    let names: Vec<String> = args.video.iter().map(|path| file_name(path)).collect();
    let rows: Vec<String> = args.crf.iter().map(|crf| format!("crf {crf}")).collect();
    let table = Table::new(
        candidates.iter().map(|candidate| candidate.label.as_str()),
        names.iter().map(String::as_str),
        rows.iter().map(String::as_str),
    )
    .with_flicker();
    let console = Console::new(args.video.len() * scales.len() * rows.len());
    if print {
        for Candidate { model, .. } in candidates {
            console.line(&format!("{}: {}", model.name(), model.origin()))?;
        }
        console.line(&format!("{METHOD}\n\n{}", table.head()))?;
    }
    let mut reports = Vec::new();
    for (path, set) in args.video.iter().zip(&names) {
        let named = |error: anyhow::Error| anyhow!("{}: {error:#}", path.display());
        let clip = Clip::open(path).map_err(named)?;
        for &(scale, factor) in &scales {
            let mut found: Vec<Report> = candidates
                .iter()
                .map(|candidate| report(candidate, (path, set), scale))
                .collect();
            for (&crf, row) in args.crf.iter().zip(&rows) {
                console.step(format!("{set} x{factor} {row}"));
                let case = Case::new(&clip, factor, crf, args.frames as usize).map_err(named)?;
                let bicubic = case.measure("model=bicubic").map_err(named)?;
                for (candidate, report) in candidates.iter().zip(&mut found) {
                    let properties = properties(args, candidate)?;
                    let got = case
                        .measure(&properties)
                        .map_err(|e| named(e.context(candidate.label.clone())))?;
                    report.add(ImageQuality {
                        name: row.clone(),
                        quality: Quality::new(got.quality, bicubic.quality)
                            .with_flicker(got.flicker, bicubic.flicker),
                    });
                    if let (true, true, Some(image)) = (print, args.verbose, report.images.last()) {
                        console.line(&table.image(report, image))?;
                    }
                    if let Some(gallery) = gallery.as_mut() {
                        let key = GalleryKey {
                            data: report.data.clone(),
                            scale,
                            image: row.clone(),
                        };
                        gallery.add(key, &candidate.label, &case.show(&got, &bicubic));
                    }
                }
            }
            for report in found {
                if print {
                    console.line(&table.mean(&report))?;
                }
                reports.push(report);
            }
        }
    }
    drop(console);
    if print {
        print_means(&reports, candidates, &scales);
    }
    Ok(reports)
}

impl Case {
    /// The first frame that is compared.
    fn show(&self, got: &Measured, bicubic: &Measured) -> DisplayImages {
        let original = self.expected.image(0);
        DisplayImages {
            low: self.decoded.image(0),
            bicubic: bicubic.frames.image(0),
            result: got.frames.image(0),
            original,
        }
    }
}

/// A scale as a whole number.
fn whole(scale: Scale) -> Result<(Scale, usize)> {
    match scale.den() {
        1 => Ok((scale, scale.num() as usize)),
        _ => bail!("--video is for scales that are whole numbers, not {scale}"),
    }
}

fn report(candidate: &Candidate, (path, set): (&Path, &str), scale: Scale) -> Report {
    Report {
        label: candidate.label.clone(),
        set: set.to_owned(),
        method: METHOD,
        model: candidate.model.name().to_owned(),
        weights: candidate.model.origin().to_owned(),
        scale,
        data: path.display().to_string(),
        protocol: Protocol::Y,
        rounded: true,
        degradation: Degradation::Bicubic,
        mean: Quality::default(),
        images: Vec::new(),
    }
}

/// Prints the gain of each model at each scale over all clips.
fn print_means(reports: &[Report], candidates: &[Candidate], scales: &[(Scale, usize)]) {
    println!();
    for candidate in candidates {
        for (scale, _) in scales {
            let of = reports
                .iter()
                .filter(|report| report.label == candidate.label && report.scale == *scale);
            let all: Vec<Quality> = of
                .flat_map(|report| report.images.iter().map(|image| image.quality))
                .collect();
            let better = all
                .iter()
                .filter(|quality| quality.gain() > 0.0 && quality.ssim > quality.bicubic_ssim);
            let better = better.count();
            let mean = Quality::mean(all.iter().copied());
            println!(
                "{} x{scale}: {:+.2} dB, SSIM {:+.4}; better than bicubic in {better} of {}",
                candidate.label,
                mean.gain(),
                mean.ssim - mean.bicubic_ssim,
                all.len()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_evenly_spaced() {
        assert_eq!(evenly_spaced(100, 4).collect::<Vec<_>>(), [12, 37, 62, 87]);
        assert_eq!(evenly_spaced(3, 12).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(evenly_spaced(1, 1).collect::<Vec<_>>(), [0]);
    }
}
