//! The results of `sr evaluate` as one web page that needs nothing else.

pub(crate) mod gallery;
mod plot;
mod tables;

use crate::report::Report;
use anyhow::Result;
use gallery::Gallery;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use srfilter::Scale;

/// Lets the page load nothing but what is in it.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The reports of one data set: what a section of the page shows.
struct Section<'a> {
    reports: Vec<&'a Report>,
}

impl<'a> Section<'a> {
    /// The sections of a run, in the order of its data sets.
    fn all(reports: &'a [Report]) -> Vec<Self> {
        let data = distinct(reports.iter().map(|report| report.data.as_str()));
        let section = |data| Self {
            reports: reports.iter().filter(|r| r.data == data).collect(),
        };
        data.into_iter().map(section).collect()
    }

    fn scales(&self) -> Vec<Scale> {
        distinct(self.reports.iter().map(|report| report.scale))
    }

    fn labels(&self) -> Vec<&'a str> {
        distinct(self.reports.iter().map(|report| report.label.as_str()))
    }

    /// The models at one scale.
    fn at(&self, scale: Scale) -> impl Iterator<Item = &'a Report> + '_ {
        let reports = self.reports.iter().copied();
        reports.filter(move |report| report.scale == scale)
    }

    fn report(&self, label: &str, scale: Scale) -> Option<&'a Report> {
        self.at(scale).find(|report| report.label == label)
    }
}

/// The values without repetitions, in the order of their first appearance.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// The page.
///
/// # Errors
///
/// A picture that cannot be encoded.
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
                    h1 { "Super-resolution, measured" }
                    (measured(reports, &sections))
                }
                main {
                    @for (section, viewers) in sections.iter().zip(&viewers.of_sections) {
                        (part(section, viewers))
                    }
                }
                footer {
                    @if viewers.left_out > 0 {
                        p { (viewers.left_out) " more comparisons were left out to keep this page small." }
                    }
                    p {
                        "PSNR in dB and SSIM are means over the pictures of a set; the best of a column is "
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

/// What was measured, how, when and with what.
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
                        li { b { (report.set) } ", " (report.images.len()) " pictures in " code { (report.data) } }
                    }
                }
            } }
            dt { "Method" }
            dd { (method) }
            dt { "Made by" }
            dd { "sr " (env!("CARGO_PKG_VERSION")) ", " (now.strftime("%Y-%m-%d %H:%M UTC").to_string()) }
            dt { "Command" }
            dd { code { (command_line(std::env::args())) } }
        }
    }
}

/// The command that made the page, as a shell takes it.
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
            h3 { "Picture by picture" }
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
