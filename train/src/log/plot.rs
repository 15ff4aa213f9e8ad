//! The curves of a run as an image.

use crate::log::Event;
use anyhow::{Context, Result, anyhow};
use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use srfilter::Scale;
use srfilter::atomic_file;
use srfilter::frame::Image;
use std::ops::Range;
use std::path::Path;

/// Width and height of the image in pixels.
const SIZE: (u32, u32) = (1000, 1200);

/// The smoothed loss remembers that share of the run.
const SMOOTHING: f64 = 0.1;

const FONT: &str = "sans-serif";

type Panel<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// A line to draw.
struct Curve {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Draws loss, PSNR and gain over the steps of `events` into a PNG file.
///
/// # Errors
///
/// A file that cannot be written.
pub fn save(events: &[Event], path: &Path) -> Result<()> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| anyhow!("the built-in font cannot be read"))?;
    let mut picture = Image::new(SIZE.0 as usize, SIZE.1 as usize, 3);
    draw(events, &mut picture.data).map_err(|e| anyhow!("cannot draw the curves: {e}"))?;
    let mut bytes = Vec::new();
    let color = image::ExtendedColorType::Rgb8;
    PngEncoder::new(&mut bytes).write_image(&picture.data, SIZE.0, SIZE.1, color)?;
    atomic_file::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn draw(events: &[Event], pixels: &mut [u8]) -> Result<(), Box<dyn std::error::Error>> {
    let root = BitMapBackend::with_buffer(pixels, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((3, 1));
    let steps = 0.0..events.iter().map(Event::step).max().unwrap_or(0).max(1) as f64;
    let [smooth, loss] = losses(events);
    let of = |choose: fn(&crate::run::validation::Quality) -> f64| quality(events, choose);
    let (psnr, bicubic) = (of(|q| q.psnr), of(|q| q.bicubic));
    panel(
        &panels[0],
        "log10 of the loss (thick: smoothed)",
        &steps,
        &smooth,
        &loss,
    )?;
    panel(
        &panels[1],
        "PSNR in dB (thin: bicubic)",
        &steps,
        &psnr,
        &bicubic,
    )?;
    panel(
        &panels[2],
        "gain over bicubic in dB",
        &steps,
        &of(|q| q.gain()),
        &[],
    )?;
    root.present()?;
    Ok(())
}

/// The loss as it was, and smoothed: one batch is harder than another.
fn losses(events: &[Event]) -> [[Curve; 1]; 2] {
    let point = |event: &Event| match event {
        Event::Train { step, loss, .. } if *loss > 0.0 => Some((*step as f64, *loss)),
        _ => None,
    };
    let points: Vec<_> = events.iter().filter_map(point).collect();
    let keep = 1.0 - 1.0 / (points.len() as f64 * SMOOTHING).max(1.0);
    let mut mean = points.first().map_or(0.0, |p| p.1);
    let smooth = points.iter().map(|&(step, loss)| {
        mean = keep * mean + (1.0 - keep) * loss;
        (step, mean)
    });
    [smooth.collect(), points.clone()].map(|points: Vec<_>| {
        [Curve {
            name: "training".to_owned(),
            color: color(0),
            points: points
                .into_iter()
                .map(|(step, loss)| (step, libm::log10(loss)))
                .collect(),
        }]
    })
}

/// One curve a scale.
fn quality(events: &[Event], choose: fn(&crate::run::validation::Quality) -> f64) -> Vec<Curve> {
    let mut curves: Vec<(Scale, Curve)> = Vec::new();
    for event in events {
        let Event::Validation { step, quality, .. } = event else {
            continue;
        };
        for measured in quality {
            let point = (*step as f64, choose(measured));
            match curves
                .iter_mut()
                .find(|(scale, _)| *scale == measured.scale)
            {
                Some((_, curve)) => curve.points.push(point),
                None => {
                    let curve = Curve {
                        name: format!("x{}", measured.scale),
                        color: color(curves.len()),
                        points: vec![point],
                    };
                    curves.push((measured.scale, curve));
                }
            }
        }
    }
    curves.into_iter().map(|(_, curve)| curve).collect()
}

fn color(index: usize) -> RGBColor {
    let (r, g, b) = Palette99::pick(index).rgb();
    RGBColor(r, g, b)
}

fn panel(
    area: &Panel,
    title: &str,
    steps: &Range<f64>,
    curves: &[Curve],
    thin: &[Curve],
) -> Result<(), Box<dyn std::error::Error>> {
    let values = curves.iter().chain(thin).flat_map(|curve| &curve.points);
    let mut chart = ChartBuilder::on(area)
        .margin(15)
        .caption(title, (FONT, 22))
        .x_label_area_size(40)
        .y_label_area_size(65)
        .build_cartesian_2d(steps.clone(), span(values.map(|(_, y)| *y)))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("step")
        .label_style((FONT, 16))
        .draw()?;
    for curve in thin {
        chart.draw_series(LineSeries::new(
            curve.points.iter().copied(),
            curve.color.mix(0.5),
        ))?;
    }
    for curve in curves {
        let style = curve.color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), style))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        // A single point has no line.
        let last = curve
            .points
            .last()
            .map(|&point| Circle::new(point, 3, style.filled()));
        chart.draw_series(last)?;
    }
    // Gains rise from the left: the upper left is free, which elsewhere it is not.
    if curves.len() > 1 && thin.is_empty() {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 15))
            .draw()?;
    }
    Ok(())
}

/// The values' range with a little room, never empty.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let finite = values.filter(|v| v.is_finite());
    let bounds = finite.fold(None, |bounds: Option<(f64, f64)>, v| {
        let (low, high) = bounds.unwrap_or((v, v));
        Some((low.min(v), high.max(v)))
    });
    let (low, high) = bounds.unwrap_or((0.0, 1.0));
    let room = (0.05 * (high - low)).max(1e-3);
    low - room..high + room
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::validation::Quality;

    #[test]
    fn draws_any_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("curves.png");
        let train = |step: u64| Event::Train {
            step,
            loss: 1.0 / step as f64,
            discriminator_loss: None,
            lr: 1e-3,
            gradient_norm: 1.0,
            steps_per_second: 1.0,
        };
        let validation = |step: u64| Event::Validation {
            step,
            quality: vec![Quality {
                scale: Scale::whole(2),
                psnr: 30.0 + step as f64 / 100.0,
                bicubic: 30.0,
            }],
            gain: 0.0,
        };
        let all: Vec<Event> = (1..40).flat_map(|s| [train(s), validation(s)]).collect();
        for events in [&all[..0], &all[..1], &all[1..2], &all[..]] {
            save(events, &path).unwrap();
            let picture = Image::open(&path).unwrap();
            assert_eq!((picture.width, picture.height), (1000, 1200));
            assert!(picture.data.iter().any(|&v| v < 50), "no ink");
        }
    }
}
