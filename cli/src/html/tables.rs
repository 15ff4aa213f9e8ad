//! The numbers as tables.

use super::section::Section;
use crate::quality::Quality;
use crate::report::{Report, pair as flicker_pair};
use maud::{Markup, html};
use srfilter::Scale;
use srfilter::models::BICUBIC;

/// PSNR and SSIM of a row.
type Pair = (f64, f64);

/// A row of means: PSNR, SSIM and gain at each scale.
struct Row<'a> {
    label: &'a str,
    cells: Vec<(Pair, Option<f64>)>,
}

/// Means of all models at all scales, always with bicubic interpolation.
pub(super) fn means(section: &Section) -> Markup {
    let scales = section.scales();
    let rows = rows(section, &scales);
    let best = |column: usize, of: fn(&Pair) -> f64| {
        let values = rows.iter().filter_map(|row| row.cells.get(column));
        values.map(|(pair, _)| of(pair)).fold(f64::MIN, f64::max)
    };
    html! {
        div.scroll { table {
            thead {
                tr {
                    th rowspan="2" scope="col" { "model" }
                    @for scale in &scales { th.group colspan="3" scope="colgroup" { "x" (scale) } }
                }
                tr {
                    @for _ in &scales {
                        th.group scope="col" { "PSNR" }
                        th scope="col" { "SSIM" }
                        th scope="col" { "gain" }
                    }
                }
            }
            tbody {
                @for row in &rows {
                    tr {
                        th scope="row" { (row.label) }
                        @for (column, (pair, gain)) in row.cells.iter().enumerate() {
                            td.group { (marked(decibel(pair.0), pair.0 == best(column, |p| p.0))) }
                            td { (marked(format!("{:.4}", pair.1), pair.1 == best(column, |p| p.1))) }
                            td { (gain.map(signed).unwrap_or_default()) }
                        }
                    }
                }
            }
        } }
    }
}

fn rows<'a>(section: &Section<'a>, scales: &[Scale]) -> Vec<Row<'a>> {
    let labels = section.labels();
    let mut rows = Vec::new();
    if !labels.contains(&BICUBIC) {
        let first = scales.iter().filter_map(|&scale| section.at(scale).next());
        rows.push(Row {
            label: BICUBIC,
            cells: first.map(|r| (bicubic(&r.mean), None)).collect(),
        });
    }
    for label in labels {
        let reports = scales
            .iter()
            .filter_map(|&scale| section.report(label, scale));
        let cell = |r: &Report| match label {
            BICUBIC => (pair(&r.mean), None),
            _ => (pair(&r.mean), Some(r.mean.gain())),
        };
        rows.push(Row {
            label,
            cells: reports.map(cell).collect(),
        });
    }
    rows
}

fn pair(quality: &Quality) -> Pair {
    (quality.psnr, quality.ssim)
}

fn bicubic(quality: &Quality) -> Pair {
    (quality.bicubic_psnr, quality.bicubic_ssim)
}

/// Means of the flicker of clips, if the section is one.
pub(super) fn flicker(section: &Section) -> Markup {
    let scales = section.scales();
    let of = |label: &str, scale| section.report(label, scale)?.mean.temporal;
    let is_clip = section.reports.iter().any(|r| r.mean.temporal.is_some());
    html! {
        @if is_clip {
            h3 { "Flicker" }
            p {
                "The mean change of the error of luma from frame to frame, of 255, where the clip is "
                "still and where it moves; bicubic interpolation's in brackets."
            }
            div.scroll { table {
                thead {
                    tr {
                        th rowspan="2" scope="col" { "model" }
                        @for scale in &scales { th.group colspan="2" scope="colgroup" { "x" (scale) } }
                    }
                    tr {
                        @for _ in &scales {
                            th.group scope="col" { "still" }
                            th scope="col" { "moving" }
                        }
                    }
                }
                tbody {
                    @for label in section.labels() {
                        tr {
                            th scope="row" { (label) }
                            @for &scale in &scales {
                                @let t = of(label, scale).unwrap_or_default();
                                td.group { (flicker_pair(t.still_flicker, t.bicubic_still_flicker)) }
                                td { (flicker_pair(t.moving_flicker, t.bicubic_moving_flicker)) }
                            }
                        }
                    }
                }
            } }
        }
    }
}

/// Means of perceptual distances, if they were measured.
pub(super) fn distances(section: &Section) -> Markup {
    let scales = section.scales();
    let of = |label: &str, scale| section.report(label, scale)?.mean.perceptual;
    let measured = section.reports.iter().any(|r| r.mean.perceptual.is_some());
    html! {
        @if measured {
            h3 { "Perceptual distance" }
            p {
                "From the original, by the features of a network, as LPIPS without its learned weights; "
                "bicubic interpolation's in brackets. Less is better."
            }
            div.scroll { table {
                thead {
                    tr {
                        th scope="col" { "model" }
                        @for scale in &scales { th.group scope="col" { "x" (scale) } }
                    }
                }
                tbody {
                    @for label in section.labels() {
                        tr {
                            th scope="row" { (label) }
                            @for &scale in &scales {
                                @let shown = of(label, scale)
                                    .map(|p| format!("{:.3} ({:.3})", p.distance, p.bicubic_distance));
                                td.group { (shown.unwrap_or_default()) }
                            }
                        }
                    }
                }
            } }
        }
    }
}

/// All images, collapsed.
pub(super) fn images(section: &Section) -> Markup {
    html! {
        @for scale in section.scales() {
            @let reports: Vec<&Report> = section.at(scale).collect();
            details {
                summary { "All numbers at x" (scale) }
                div.scroll { table {
                    thead {
                        tr {
                            th rowspan="2" scope="col" { "image" }
                            th.group colspan="2" scope="colgroup" { (BICUBIC) }
                            @for report in networks(&reports) {
                                th.group colspan="2" scope="colgroup" { (report.label) }
                            }
                        }
                        tr {
                            th.group scope="col" { "PSNR" }
                            th scope="col" { "SSIM" }
                            @for _ in networks(&reports) {
                                th.group scope="col" { "PSNR" }
                                th scope="col" { "SSIM" }
                            }
                        }
                    }
                    tbody {
                        @for (i, image) in reports.iter().take(1).flat_map(|r| &r.images).enumerate() {
                            tr {
                                th scope="row" { (image.name) }
                                (cells(bicubic(&image.quality)))
                                @for report in networks(&reports) {
                                    (report.images.get(i).map(|i| cells(pair(&i.quality))).unwrap_or_default())
                                }
                            }
                        }
                    }
                } }
            }
        }
    }
}

/// All but bicubic interpolation.
fn networks<'a>(reports: &'a [&Report]) -> impl Iterator<Item = &'a Report> {
    reports.iter().copied().filter(|r| r.label != BICUBIC)
}

fn cells((psnr, ssim): Pair) -> Markup {
    html! {
        td.group { (decibel(psnr)) }
        td { (format!("{ssim:.4}")) }
    }
}

fn marked(text: String, best: bool) -> Markup {
    html! {
        @if best { strong.best { (text) } } @else { (text) }
    }
}

/// A PSNR as the page shows it.
pub(super) fn decibel(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:.2}"),
        false => "∞".to_owned(),
    }
}

/// A gain as the page shows it; nothing where there is none.
pub(super) fn signed(value: f64) -> String {
    match value.is_finite() {
        // Adding zero turns a rounded -0 into +0.
        true => format!("{:+.2}", (value * 100.0).round() / 100.0 + 0.0),
        false => "–".to_owned(),
    }
}
