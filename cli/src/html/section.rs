//! A section of the page.

use crate::report::Report;
use srfilter::Scale;

/// The reports of one data set, which a section of the page shows.
pub(super) struct Section<'a> {
    pub(super) reports: Vec<&'a Report>,
}

impl<'a> Section<'a> {
    /// The sections of a run, in the order of its data sets.
    pub(super) fn all(reports: &'a [Report]) -> Vec<Self> {
        let data = distinct(reports.iter().map(|report| report.data.as_str()));
        let section = |data| Self {
            reports: reports.iter().filter(|r| r.data == data).collect(),
        };
        data.into_iter().map(section).collect()
    }

    pub(super) fn scales(&self) -> Vec<Scale> {
        distinct(self.reports.iter().map(|report| report.scale))
    }

    pub(super) fn labels(&self) -> Vec<&'a str> {
        distinct(self.reports.iter().map(|report| report.label.as_str()))
    }

    /// The models at one scale.
    pub(super) fn at(&self, scale: Scale) -> impl Iterator<Item = &'a Report> + '_ {
        let reports = self.reports.iter().copied();
        reports.filter(move |report| report.scale == scale)
    }

    pub(super) fn report(&self, label: &str, scale: Scale) -> Option<&'a Report> {
        self.at(scale).find(|report| report.label == label)
    }
}

/// The values without repetitions, in the order of their first appearance.
pub(super) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct_values = Vec::new();
    for value in values {
        if !distinct_values.contains(&value) {
            distinct_values.push(value);
        }
    }
    distinct_values
}
