//! Box plots, drawn as SVG.

use super::section::Section;
use super::tables::signed;
use crate::report::Report;
use maud::{Markup, html};
use srfilter::Scale;
use srfilter::models::BICUBIC;
use std::ops::Range;

/// Width of the drawing in its own units, about pixels on a screen.
const WIDTH: f64 = 350.0;

/// Margin on both sides.
const MARGIN: f64 = 16.0;

/// Height of a model's row: its name above its box.
const ROW: f64 = 50.0;

/// Height of the axis below the rows.
const AXIS: f64 = 30.0;

/// Box plots of the gain over bicubic interpolation, a row for each network.
pub(super) fn gains(section: &Section, scale: Scale) -> Markup {
    let reports: Vec<&Report> = section.at(scale).filter(|r| r.label != BICUBIC).collect();
    let gains: Vec<Vec<(f64, &str)>> = reports.iter().map(|r| sorted_gains(r)).collect();
    let axis = Axis::new(gains.iter().flatten().map(|(gain, _)| *gain));
    let height = ROW * reports.len() as f64 + AXIS;
    let bottom = height - AXIS;
    html! {
        @if !reports.is_empty() {
            figure.plot {
                figcaption { "Gain over bicubic at x" (scale) " in dB" }
                svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(format!("box plots at x{scale}")) {
                    @for tick in axis.ticks() {
                        @let x = axis.position(tick);
                        @let zero = if tick == 0.0 { "zero" } else { "grid" };
                        line class=(zero) x1=(x) x2=(x) y1="0" y2=(bottom) {}
                        text.tick x=(x) y=(bottom + 20.0) { (axis.name(tick)) }
                    }
                    @for (i, (report, gains)) in reports.iter().zip(&gains).enumerate() {
                        (row(&report.label, gains, &axis, ROW * i as f64))
                    }
                }
            }
        }
    }
}

/// The gains of a report's images and their names, ascending; images
/// where a PSNR is infinite have none.
fn sorted_gains(report: &Report) -> Vec<(f64, &str)> {
    let gains = report
        .images
        .iter()
        .map(|i| (i.quality.gain(), i.name.as_str()));
    let mut gains: Vec<_> = gains.filter(|(gain, _)| gain.is_finite()).collect();
    gains.sort_by(|a, b| a.0.total_cmp(&b.0));
    gains
}

/// A name, a box and a dot for each image.
fn row(label: &str, gains: &[(f64, &str)], axis: &Axis, top: f64) -> Markup {
    let values: Vec<f64> = gains.iter().map(|(gain, _)| *gain).collect();
    let (middle, half) = (top + 33.0, 9.0);
    html! {
        text.label x=(MARGIN + 5.0) y=(top + 16.0) { (label) }
        @if let Some(spread) = Spread::of(&values) {
            @let [low, q1, median, q3, high] = spread.all().map(|v| axis.position(v));
            line.whisker x1=(low) x2=(q1) y1=(middle) y2=(middle) {}
            line.whisker x1=(q3) x2=(high) y1=(middle) y2=(middle) {}
            rect.box x=(q1) y=(middle - half) width=(round(q3 - q1)) height=(2.0 * half) rx="2" {}
            line.median x1=(median) x2=(median) y1=(middle - half) y2=(middle + half) {}
            @for (gain, name) in gains {
                circle cx=(axis.position(*gain)) cy=(middle) r="3" {
                    title { (name) ": " (signed(*gain)) " dB" }
                }
            }
        } @else {
            text.none x=(MARGIN + 5.0) y=(middle) { "no image has a finite gain" }
        }
    }
}

/// The five numbers of a box plot.
struct Spread {
    low: f64,
    q1: f64,
    median: f64,
    q3: f64,
    high: f64,
}

impl Spread {
    /// Of ascending values. Whiskers end at the last value within 1.5 times
    /// the box's length from the box (Tukey).
    fn of(values: &[f64]) -> Option<Self> {
        let (q1, q3) = (quantile(values, 0.25)?, quantile(values, 0.75)?);
        let reach = 1.5 * (q3 - q1);
        let low = values.iter().find(|&&v| v >= q1 - reach);
        let high = values.iter().rfind(|&&v| v <= q3 + reach);
        Some(Self {
            low: low.copied().unwrap_or(q1).min(q1),
            q1,
            median: quantile(values, 0.5)?,
            q3,
            high: high.copied().unwrap_or(q3).max(q3),
        })
    }

    fn all(&self) -> [f64; 5] {
        [self.low, self.q1, self.median, self.q3, self.high]
    }
}

/// Quantile of ascending values, interpolated.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let position = share * values.len().checked_sub(1)? as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    let part = position - position.floor();
    Some(values[below] * (1.0 - part) + values[above] * part)
}

/// From dB to the drawing's units.
struct Axis {
    range: Range<f64>,
    step: f64,
}

impl Axis {
    /// An axis for these values and zero, from tick to tick.
    fn new(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((0.0, 0.0), |(low, high): (f64, f64), v| {
            (low.min(v), high.max(v))
        });
        let step = nice((high - low).max(0.01) / 5.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        Self {
            range: first * step..last.max(first + 1.0) * step,
            step,
        }
    }

    fn position(&self, value: f64) -> f64 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        round(MARGIN + share * (WIDTH - 2.0 * MARGIN))
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let first = (self.range.start / self.step).round() as i64;
        let last = (self.range.end / self.step).round() as i64;
        (first..=last).map(|i| i as f64 * self.step)
    }

    /// A tick's number with the digits that its step needs.
    fn name(&self, tick: f64) -> String {
        let digits = (-libm::log10(self.step).floor()).max(0.0) as usize;
        match tick == 0.0 {
            true => "0".to_owned(),
            false => format!("{tick:+.digits$}"),
        }
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `least`.
fn nice(least: f64) -> f64 {
    let power = libm::exp10(libm::log10(least).floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let found = steps.into_iter().find(|&step| step >= least * (1.0 - 1e-9));
    found.unwrap_or(10.0 * power)
}

/// Two digits are finer than any screen.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_known_values() {
        let values = [0.0, 10.0, 11.0, 12.0, 13.0, 14.0, 30.0];
        let spread = Spread::of(&values).unwrap();
        assert_eq!(spread.all(), [10.0, 10.5, 12.0, 13.5, 14.0]);
        assert_eq!(Spread::of(&[3.0]).unwrap().all(), [3.0; 5]);
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn axis_holds_its_values_and_zero() {
        let axis = Axis::new([0.7, 2.31].into_iter());
        assert_eq!(
            axis.ticks().collect::<Vec<_>>(),
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
        );
        assert_eq!(axis.position(0.0), MARGIN);
        assert_eq!(axis.position(2.5), WIDTH - MARGIN);
        assert_eq!(axis.name(1.5), "+1.5");
        let axis = Axis::new([-0.03].into_iter());
        assert_eq!(axis.name(-0.03), "-0.03");
        assert_eq!(Axis::new(std::iter::empty()).position(0.0), MARGIN);
    }
}
