//! Damage: the samples of a plane that differ from those of the last frame.

use super::resample::Resampler;
use std::ops::Range;

/// Columns of a row: ascending, and a gap between any two.
type Spans = Vec<Range<usize>>;

/// Consecutive samples of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) y: usize,
    pub(crate) x: Range<usize>,
}

/// The damaged samples of a plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Width and height of the plane.
    size: (usize, usize),
    /// The damaged columns of each row; `None`: all samples are damaged.
    rows: Option<Vec<Spans>>,
}

impl Damage {
    /// A plane of which everything is damaged.
    pub(crate) fn all(size: (usize, usize)) -> Self {
        Self { size, rows: None }
    }

    /// A plane without damage.
    pub(crate) fn none(size: (usize, usize)) -> Self {
        Self::of_rows(size.0, vec![Spans::new(); size.1])
    }

    /// The damaged columns of each row of a plane of that width: ascending, and a
    /// gap between any two.
    pub(crate) fn of_rows(width: usize, rows: Vec<Vec<Range<usize>>>) -> Self {
        Self {
            size: (width, rows.len()),
            rows: Some(rows),
        }
    }

    /// Whether everything is damaged.
    pub(crate) fn is_all(&self) -> bool {
        self.rows.is_none()
    }

    /// Whether nothing is damaged.
    pub(crate) fn is_none(&self) -> bool {
        let rows = self.rows.as_ref();
        rows.is_some_and(|rows| rows.iter().all(Vec::is_empty))
    }

    /// The columns of the plane.
    pub(crate) fn width(&self) -> usize {
        self.size.0
    }

    /// The samples of the plane.
    pub(crate) fn area(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// The share of the plane that is damaged, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        let Some(rows) = &self.rows else { return 1.0 };
        let samples: usize = rows.iter().flatten().map(Range::len).sum();
        samples as f64 / self.area().max(1) as f64
    }

    /// The damaged samples, row by row.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let (width, height) = self.size;
        let span = |y, x| Span { y, x };
        match &self.rows {
            None => (0..height).map(|y| span(y, 0..width)).collect(),
            Some(rows) => {
                let rows = rows.iter().enumerate();
                rows.flat_map(|(y, spans)| spans.iter().map(move |x| span(y, x.clone())))
                    .collect()
            }
        }
    }

    /// The damaged samples as ranges of the plane's dense rows, ascending; if all
    /// are damaged, of `chunk` samples each.
    pub(crate) fn ranges(&self, chunk: usize) -> Vec<Range<usize>> {
        let (width, height) = self.size;
        if self.is_all() {
            let samples = width * height;
            let starts = (0..samples).step_by(chunk);
            return starts.map(|i| i..(i + chunk).min(samples)).collect();
        }
        let spans = self.spans().into_iter();
        spans
            .map(|Span { y, x }| y * width + x.start..y * width + x.end)
            .collect()
    }

    /// The columns that are damaged in any of these rows.
    pub(crate) fn columns_within(&self, rows: Range<usize>) -> Spans {
        let Some(all) = &self.rows else {
            return std::iter::once(0..self.size.0).collect();
        };
        let mut columns = Spans::new();
        for spans in &all[rows] {
            spans.iter().for_each(|x| insert(&mut columns, x.clone()));
        }
        columns
    }

    /// Damages a part of a row.
    pub(crate) fn add(&mut self, y: usize, x: Range<usize>) {
        if let Some(rows) = &mut self.rows {
            insert(&mut rows[y], x);
        }
    }

    /// Adds the damage of a plane of the same size.
    pub(crate) fn unite(&mut self, other: &Self) {
        debug_assert_eq!(self.size, other.size);
        let Some(others) = &other.rows else {
            self.rows = None;
            return;
        };
        for (y, spans) in others.iter().enumerate() {
            spans.iter().for_each(|x| self.add(y, x.clone()));
        }
    }

    /// The damage of a plane of another width, whose columns depend on these.
    pub(crate) fn map_columns(
        &self,
        width: usize,
        f: impl Fn(Range<usize>) -> Range<usize>,
    ) -> Self {
        let height = self.size.1;
        let Some(rows) = &self.rows else {
            return Self::all((width, height));
        };
        let mapped = rows.iter().map(|spans| {
            let mut columns = Spans::new();
            spans
                .iter()
                .for_each(|x| insert(&mut columns, f(x.clone())));
            columns
        });
        Self::of_rows(width, mapped.collect())
    }

    /// The damage after resampling.
    pub(crate) fn resampled(&self, resampler: &Resampler) -> Self {
        if self.is_all() {
            return Self::all(resampler.size());
        }
        let (x, y) = resampler.axes();
        let narrow = self.map_columns(x.len(), |columns| x.dependents(&columns));
        let rows = (0..y.len()).map(|row| narrow.columns_within(y.sources(row)));
        Self::of_rows(x.len(), rows.collect())
    }
}

/// Adds a range to spans.
fn insert(spans: &mut Spans, mut new: Range<usize>) {
    if new.is_empty() {
        return;
    }
    let first = spans.partition_point(|span| span.end < new.start);
    let end = first + spans[first..].partition_point(|span| span.start <= new.end);
    if let [low, ..] = &spans[first..end] {
        new.start = new.start.min(low.start);
        new.end = new.end.max(spans[end - 1].end);
    }
    spans.splice(first..end, [new]);
}

/// Parts of `memory`; the ranges ascend and do not overlap.
pub(crate) fn split<T>(
    mut memory: &mut [T],
    ranges: impl Iterator<Item = Range<usize>>,
) -> Vec<&mut [T]> {
    let mut before = 0;
    ranges
        .map(|range| {
            let rest = std::mem::take(&mut memory);
            let (part, rest) = rest[range.start - before..].split_at_mut(range.len());
            (memory, before) = (rest, range.end);
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::resample::{ResampleAxis, SampleGrid};

    #[test]
    fn spans_are_disjoint_and_ascend() {
        let mut spans = Spans::new();
        for range in [6..8, 1..3, 12..14, 3..4, 7..12, 20..20] {
            insert(&mut spans, range);
        }
        assert_eq!(spans, [1..4, 6..14]);
        insert(&mut spans, 0..30);
        assert!(spans.len() == 1 && spans[0] == (0..30), "{spans:?}");
    }

    #[test]
    fn parts_of_memory_are_the_ranges() {
        let mut memory: Vec<usize> = (0..20).collect();
        let ranges = [0..2, 5..6, 6..9, 20..20];
        let parts = split(&mut memory, ranges.iter().cloned());
        let parts: Vec<Vec<usize>> = parts.into_iter().map(|part| part.to_vec()).collect();
        assert_eq!(parts, ranges.map(Vec::from_iter));
    }

    /// Changes one sample after the other: what changes in the result is damaged,
    /// and not much else.
    #[test]
    fn resampled_damage_is_what_changes() {
        let from = (13, 9);
        let shifted = ResampleAxis::new(
            SampleGrid::subsampled(26, 2, true),
            SampleGrid::subsampled(52, 2, true),
        );
        for resampler in [
            Resampler::resize(from, (26, 18)),
            Resampler::resize(from, (19, 14)),
            Resampler::resize(from, (7, 4)),
            Resampler::new(shifted, ResampleAxis::resize(9, 9)),
        ] {
            let samples: Vec<f32> = (0..from.0 * from.1)
                .map(|i| (i * 37 % 101) as f32)
                .collect();
            let before = resampler.apply(&samples);
            for at in 0..samples.len() {
                let mut changed = samples.clone();
                changed[at] += 50.0;
                let mut damage = Damage::none(from);
                damage.add(at / from.0, at % from.0..at % from.0 + 1);
                let damage = damage.resampled(&resampler).ranges(1);
                let after = resampler.apply(&changed);
                let is_damaged = |i: &usize| damage.iter().any(|range| range.contains(i));
                let differs = |i: &usize| before[*i] != after[*i];
                let count = (0..before.len()).filter(differs).count();
                assert!((0..before.len()).filter(differs).all(|i| is_damaged(&i)));
                let damaged: usize = damage.iter().map(Range::len).sum();
                assert!(damaged <= 8 * count + 16, "{damaged} for {count}");
            }
        }
    }
}
