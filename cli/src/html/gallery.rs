//! Details of images before and after, with a slider.

use super::section::{Section, distinct};
use super::tables::{decibel, signed};
use crate::detail::{Area, busiest};
use crate::report::{ImageQuality, Report};
use crate::show::{DisplayImages, nearest};
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use maud::{Markup, html};
use srfilter::Scale;
use srfilter::frame::Image;
use srfilter::models::BICUBIC;
use std::collections::HashMap;

/// Sides of the details, in pixels of the original.
const SIDES: (usize, usize) = (128, 96);

/// Maximum size of all images of a page, in bytes of base64.
const BUDGET: usize = 8 << 20;

/// The data set, scale and image of a detail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GalleryKey {
    /// The data set's folder.
    pub(crate) data: String,
    pub(crate) scale: Scale,
    /// The image's name.
    pub(crate) image: String,
}

/// The same detail of the original and of the results.
struct Detail {
    area: Area,
    /// The detail by label, the original and references first.
    parts: Vec<(String, Image)>,
}

/// A detail of every image.
#[derive(Default)]
pub(crate) struct Gallery {
    details: HashMap<GalleryKey, Detail>,
}

/// The figures of the page.
pub(super) struct Viewers {
    /// For each section and each scale.
    pub(super) of_sections: Vec<Vec<(Scale, Vec<Markup>)>>,
    /// Number of figures beyond the size limit.
    pub(super) left_out: usize,
}

/// An image to show, and why.
struct Choice<'a> {
    image: &'a ImageQuality,
    /// The model whose gain decided.
    model: &'a str,
    why: &'static str,
}

impl Gallery {
    /// Adds a detail of a result. The first model of an image decides on its
    /// area: where it differs most from bicubic interpolation.
    pub(crate) fn add(&mut self, key: GalleryKey, label: &str, shown: &DisplayImages) {
        let detail = self.details.entry(key).or_insert_with(|| {
            let size = (shown.original.width, shown.original.height);
            let area = busiest(&shown.result, &shown.bicubic, SIDES);
            let part = |name: &str, image| (name.to_owned(), area.of(image));
            Detail {
                area,
                parts: vec![
                    part("original", &shown.original),
                    part("low resolution", &nearest(&shown.low, size)),
                    part(BICUBIC, &shown.bicubic),
                ],
            }
        });
        let part = detail.area.of(&shown.result);
        detail.parts.push((label.to_owned(), part));
    }

    /// The images with the largest, smallest and median gain of every section and
    /// scale, within the size limit.
    pub(super) fn viewers(&self, sections: &[Section]) -> Result<Viewers> {
        let mut viewers = Viewers {
            of_sections: Vec::new(),
            left_out: 0,
        };
        let mut selected = Vec::new();
        for (s, section) in sections.iter().enumerate() {
            let scales = section.scales();
            for (at, &scale) in scales.iter().enumerate() {
                let report = section.at(scale).find(|r| r.label != BICUBIC);
                let choices = report.map(choose).unwrap_or_default();
                let numbered = choices.into_iter().enumerate();
                selected.extend(numbered.map(|(rank, choice)| (rank, s, at, choice)));
            }
            let empty = |scale| (scale, Vec::new());
            viewers
                .of_sections
                .push(scales.into_iter().map(empty).collect());
        }
        // The first choice of every section and scale comes before any second one.
        selected.sort_by_key(|&(rank, ..)| rank);
        let mut room = BUDGET;
        for (_, s, at, choice) in selected {
            let (scale, figures) = &mut viewers.of_sections[s][at];
            let Some(figure) = self.figure(&sections[s], *scale, &choice)? else {
                continue;
            };
            match room.checked_sub(figure.0.len()) {
                Some(left) => {
                    room = left;
                    figures.push(figure);
                }
                None => viewers.left_out += 1,
            }
        }
        for scales in &mut viewers.of_sections {
            scales.retain(|(_, figures)| !figures.is_empty());
        }
        Ok(viewers)
    }

    /// One image with its slider.
    fn figure(&self, section: &Section, scale: Scale, choice: &Choice) -> Result<Option<Markup>> {
        let Choice { image, model, why } = choice;
        let data = section.reports.first().map(|r| r.data.clone());
        let key = GalleryKey {
            data: data.unwrap_or_default(),
            scale,
            image: image.name.clone(),
        };
        let Some(detail) = self.details.get(&key) else {
            return Ok(None);
        };
        let parts: Vec<(&str, String)> = detail
            .parts
            .iter()
            .map(|(name, part)| Ok((name.as_str(), data_uri(part)?)))
            .collect::<Result<_>>()?;
        let area = &detail.area;
        // The last model is initially on the right: the newest, as people list them.
        let right = parts.last().map_or(BICUBIC, |(name, _)| *name);
        let class = |name: &str| match name {
            BICUBIC => "left",
            name if name == right => "right",
            _ => "",
        };
        let shape = format!("aspect-ratio:{}/{}", area.width, area.height);
        Ok(Some(html! {
            figure.viewer {
                div.stage style=(shape) {
                    @for (name, uri) in &parts {
                        img class=(class(name)) data-name=(name) alt=(format!("{}: {name}", image.name))
                            width=(area.width) height=(area.height) src=(uri);
                    }
                    div.handle {}
                    input type="range" min="0" max="100" step="0.5" value="50"
                        aria-label=(format!("where {} changes from left to right", image.name));
                }
                div.sides {
                    @for (side, chosen) in [("left", BICUBIC), ("right", right)] {
                        select data-side=(side) aria-label=(format!("on the {side}")) {
                            @for (name, _) in &parts {
                                option value=(name) selected[*name == chosen] { (self.title(section, scale, image, name)) }
                            }
                        }
                    }
                }
                figcaption {
                    b { (image.name) } ", " (why) " of " (model) ": " (signed(image.quality.gain())) " dB; "
                    (area.width) "x" (area.height) " pixels at " (area.x) ", " (area.y)
                }
            }
        }))
    }

    /// A part's name, and the whole image's PSNR.
    fn title(&self, section: &Section, scale: Scale, image: &ImageQuality, name: &str) -> String {
        let psnr = match name {
            BICUBIC => Some(image.quality.bicubic_psnr),
            _ => section.report(name, scale).and_then(|report| {
                let found = report.images.iter().find(|i| i.name == image.name);
                found.map(|found| found.quality.psnr)
            }),
        };
        match psnr {
            Some(psnr) => format!("{name} {} dB", decibel(psnr)),
            None => name.to_owned(),
        }
    }
}

/// The images with the most, the least and the median gain.
fn choose(report: &Report) -> Vec<Choice<'_>> {
    let images = report.images.iter();
    let mut images: Vec<_> = images.filter(|i| i.quality.gain().is_finite()).collect();
    images.sort_by(|a, b| a.quality.gain().total_cmp(&b.quality.gain()));
    let Some(last) = images.len().checked_sub(1) else {
        return Vec::new();
    };
    let why = |i: usize| match i {
        _ if last == 0 => "gain",
        i if i == last => "most gain",
        0 => "least gain",
        _ => "median gain",
    };
    let places = distinct([last, 0, last / 2].into_iter());
    let choice = |i: usize| Choice {
        image: images[i],
        model: &report.label,
        why: why(i),
    };
    places.into_iter().map(choice).collect()
}

/// An image as a part of a page.
fn data_uri(image: &Image) -> Result<String> {
    let mut png = Vec::new();
    let color = match image.channels {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(
            &image.data,
            u32::try_from(image.width)?,
            u32::try_from(image.height)?,
            color,
        )?;
    Ok(format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(png)
    ))
}
