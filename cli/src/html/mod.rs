//! The results of `sr evaluate` as one self-contained web page.

pub(crate) mod gallery;
mod plot;
mod section;
mod tables;

use crate::console::images;
use crate::report::Report;
use anyhow::Result;
use gallery::Gallery;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use section::{Section, distinct};
use srfilter::Scale;

/// The page loads no other resources.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page.
///
/// # Errors
///
/// An image that cannot be encoded.
pub(crate) fn page(reports: &[Report], gallery: &Gallery) -> Result<String> {
    let sections = Section::all(reports);
    let viewers = gallery.viewers(&sections)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "sr evaluate: " (titles(&sections).join(", ")) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header {
                    h1 { "Super-resolution evaluation" }
                    (measured(reports, &sections))
                }
                main {
                    @for (section, viewers) in sections.iter().zip(&viewers.of_sections) {
                        (part(section, viewers))
                    }
                }
                footer {
                    @if viewers.left_out > 0 {
                        p { (viewers.left_out) " more comparisons were omitted to limit the size of this page." }
                    }
                    p {
                        "PSNR in dB and SSIM are means over the images of a set; the best of a column is "
                        strong.best { "marked" } ". Gain is the PSNR above that of bicubic interpolation."
                    }
                }
                script { (PreEscaped(include_str!("script.js"))) }
            }
        }
    };
    Ok(page.into_string())
}

fn titles<'a>(sections: &[Section<'a>]) -> Vec<&'a str> {
    let first = |section: &Section<'a>| section.reports.first().map(|r| r.set.as_str());
    sections.iter().filter_map(first).collect()
}

/// Models, data, method, date and command.
fn measured(reports: &[Report], sections: &[Section]) -> Markup {
    let models = distinct(
        reports
            .iter()
            .map(|r| (r.label.as_str(), r.weights.as_str())),
    );
    let method = reports.first().map_or("", |report| report.method);
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    html! {
        dl {
            dt { "Models" }
            dd { ul {
                @for (label, weights) in models {
                    li { b { (label) } ", weights: " (weights) }
                }
            } }
            dt { "Data" }
            dd { ul {
                @for section in sections {
                    @if let Some(report) = section.reports.first() {
                        li { b { (report.set) } ", " (images(report.images.len())) " in " code { (report.data) } }
                    }
                }
            } }
            dt { "Method" }
            dd { (method) }
            dt { "Created by" }
            dd { "sr " (env!("CARGO_PKG_VERSION")) ", " (now.strftime("%Y-%m-%d %H:%M UTC").to_string()) }
            dt { "Command" }
            dd { code { (command_line(std::env::args())) } }
        }
    }
}

/// The command line, quoted for a shell.
fn command_line(args: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+".contains(c);
    let quoted = args
        .skip(1)
        .map(|arg| match !arg.is_empty() && arg.chars().all(plain) {
            true => arg,
            false => format!("'{}'", arg.replace('\'', r"'\''")),
        });
    let all: Vec<String> = std::iter::once("sr".to_owned()).chain(quoted).collect();
    all.join(" ")
}

/// The section of one data set.
fn part(section: &Section, viewers: &[(Scale, Vec<Markup>)]) -> Markup {
    let set = titles(std::slice::from_ref(section)).concat();
    html! {
        section {
            h2 { (set) }
            (tables::means(section))
            (tables::flicker(section))
            (tables::distances(section))
            h3 { "Image by image" }
            div.plots {
                @for scale in section.scales() { (plot::gains(section, scale)) }
            }
            (tables::images(section))
            @for (scale, figures) in viewers {
                h3 { "Before and after, x" (scale) }
                div.viewers {
                    @for figure in figures { (figure) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_can_be_pasted() {
        let args = ["/bin/sr", "evaluate", "--data", "my set", "it's"].map(str::to_owned);
        let line = command_line(args.into_iter());
        assert_eq!(line, r"sr evaluate --data 'my set' 'it'\''s'");
    }
}
