//! Resampling by the Keys cubic, a = -0.5.
//!
//! [`Resampler`] computes in f32 or f64 with MATLAB's conventions: the kernel
//! is widened by the factor when shrinking (antialiasing) and the border is
//! mirrored. [`pillow`] reproduces the Pillow library's 8-bit `BICUBIC` bit
//! for bit: borders cut and renormalised, 22-bit weights, rounding in between.

use super::Image;
#[cfg(target_arch = "x86_64")]
use crate::cpu_level::{Level, level};
use std::ops::Range;

/// The longest period of repeating weights that is searched for.
const MAX_PERIOD: usize = 8;

/// Most source samples processed together where weights repeat.
const BLOCK: usize = 128;

/// Fewest source samples of a period for which it is worth while.
const FEWEST: usize = 16;

/// Support of the kernel on either side, in samples.
const SUPPORT: f64 = 2.0;

/// The Keys cubic convolution kernel with a = -0.5.
fn keys(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// Sample positions along one axis of an image, in any unit that both grids of
/// a [`ResampleAxis`] share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleGrid {
    /// Number of samples.
    pub len: usize,
    /// Position of sample 0.
    pub origin: f64,
    /// Distance between samples.
    pub spacing: f64,
}

impl SampleGrid {
    /// `len` evenly spaced samples over a length of 1.
    pub fn unit(len: usize) -> Self {
        let spacing = 1.0 / len as f64;
        Self {
            len,
            origin: 0.5 * spacing,
            spacing,
        }
    }

    /// Samples for every `sub` of `full` pixels over a length of 1: on the
    /// first pixel of each group (`cosited`), or in its middle.
    pub fn subsampled(full: usize, sub: usize, cosited: bool) -> Self {
        let pixel = 1.0 / full as f64;
        let first = if cosited { 1.0 } else { sub as f64 };
        Self {
            len: full.div_ceil(sub),
            origin: 0.5 * pixel * first,
            spacing: pixel * sub as f64,
        }
    }
}

/// The weights that resample one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct ResampleAxis {
    source: usize,
    taps: usize,
    starts: Vec<u32>,
    /// Whether `starts` is sorted.
    ascending: bool,
    weights: Vec<f64>,
    weights_f32: Vec<f32>,
    /// The output samples whose weights repeat, and their period, which
    /// advances by one source sample.
    repeats: Option<(Range<usize>, usize)>,
}

impl ResampleAxis {
    /// The weights from `source` to `target`: antialiased when shrinking,
    /// mirrored at the border.
    pub fn new(source: SampleGrid, target: SampleGrid) -> Self {
        let step = target.spacing / source.spacing;
        let stretch = step.max(1.0);
        let windows: Vec<(usize, Vec<f64>)> = (0..target.len)
            .map(|i| {
                let position = target.origin + i as f64 * target.spacing;
                let center = (position - source.origin) / source.spacing;
                window(snap(center), stretch, source.len)
            })
            .collect();
        let taps = windows.iter().map(|(_, w)| w.len()).max().unwrap_or(1);
        let mut starts = Vec::with_capacity(target.len);
        let mut weights = vec![0.0; target.len * taps];
        for (row, (first, window)) in weights.chunks_exact_mut(taps).zip(windows) {
            // Shift windows at the end back, so that all taps are inside.
            let start = first.min(source.len.saturating_sub(taps));
            row[first - start..][..window.len()].copy_from_slice(&window);
            starts.push(start as u32);
        }
        let repeats = repeats(&starts, &weights, taps);
        if let Some((range, period)) = &repeats {
            // They are equal up to rounding: make them equal to the bit.
            let end = range.start + period;
            for i in end..range.end {
                let like = range.start + (i - range.start) % period;
                weights.copy_within(like * taps..(like + 1) * taps, i * taps);
            }
        }
        Self {
            source: source.len,
            taps,
            repeats,
            ascending: starts.is_sorted(),
            starts,
            weights_f32: weights.iter().map(|&w| w as f32).collect(),
            weights,
        }
    }

    /// From `source` to `target` samples over the same length.
    pub fn resize(source: usize, target: usize) -> Self {
        Self::new(SampleGrid::unit(source), SampleGrid::unit(target))
    }

    /// Number of output samples.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are no output samples.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// First source sample of every output sample, the weights, and the number
    /// of weights (taps) for each.
    #[cfg(feature = "cuda")]
    pub(crate) fn tables(&self) -> (&[u32], &[f32], usize) {
        (&self.starts, &self.weights_f32, self.taps)
    }

    /// The source samples that an output sample depends on.
    pub(crate) fn sources(&self, sample: usize) -> Range<usize> {
        let start = self.starts[sample] as usize;
        start..start + self.taps
    }

    /// The output samples from the first to the last that depend on `sources`.
    pub(crate) fn dependents(&self, sources: &Range<usize>) -> Range<usize> {
        let depends = |&sample: &usize| {
            let read = self.sources(sample);
            read.start < sources.end && sources.start < read.end
        };
        if self.ascending {
            let (start, end) = (sources.start as u32, sources.end as u32);
            let taps = self.taps as u32;
            let first = self.starts.partition_point(|&s| s + taps <= start);
            return first..self.starts.partition_point(|&s| s < end).max(first);
        }
        let first = (0..self.len()).find(depends).unwrap_or(0);
        first
            ..(first..self.len())
                .rfind(depends)
                .map_or(first, |last| last + 1)
    }

    /// The source samples that the output samples in `range` depend on.
    fn footprint(&self, range: &Range<usize>) -> Range<usize> {
        let starts = &self.starts[range.clone()];
        let (first, last) = match starts {
            [first, .., last] if self.ascending => (*first, *last),
            _ => (
                starts.iter().min().copied().unwrap_or(0),
                starts.iter().max().copied().unwrap_or(0),
            ),
        };
        first as usize..last as usize + self.taps
    }
}

/// The longest range around the middle in which weights repeat, and the period.
fn repeats(starts: &[u32], weights: &[f64], taps: usize) -> Option<(Range<usize>, usize)> {
    const ROUNDING: f64 = 1e-8;
    let row = |i: usize| &weights[i * taps..][..taps];
    let equal = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < ROUNDING);
    let middle = starts.len() / 2;
    (1..=MAX_PERIOD).find_map(|period| {
        let same =
            |i: &usize| starts[*i] + 1 == starts[i + period] && equal(row(*i), row(i + period));
        let last = starts.len().checked_sub(period + 1)?;
        let from = (0..=middle.min(last)).rev().take_while(same).last()?;
        let to = (from..=last).take_while(same).last()? + period + 1;
        (to - from >= period * FEWEST).then_some((from..to, period))
    })
}

/// Rounds to 2^-32 of a sample, so that positions on a sample or halfway
/// between two are exact.
fn snap(position: f64) -> f64 {
    const STEPS: f64 = (1u64 << 32) as f64;
    (position * STEPS).round() / STEPS
}

/// Taps on either side of the nearest sample when upscaling.
pub(crate) const PHASE_REACH: usize = 2;

/// The weights that upscale a row by an integer factor: for each of the
/// `factor` phases of a sample, those of the samples from [`PHASE_REACH`]
/// before it to [`PHASE_REACH`] after it.
pub(crate) fn phases(factor: usize) -> impl Iterator<Item = [f64; 2 * PHASE_REACH + 1]> {
    (0..factor).map(move |i| {
        let center = snap((i as f64 + 0.5) / factor as f64 - 0.5);
        let weights = std::array::from_fn(|tap| keys(tap as f64 - PHASE_REACH as f64 - center));
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    })
}

/// First source index and normalised weights of one output sample.
fn window(center: f64, stretch: f64, len: usize) -> (usize, Vec<f64>) {
    let reach = SUPPORT * stretch;
    let low = (center - reach).floor() as i64;
    let high = (center + reach).ceil() as i64;
    let weight = |i: i64| keys((i as f64 - center) / stretch);
    let sum: f64 = (low..=high).map(weight).sum();
    let mut folded: Vec<(usize, f64)> = Vec::new();
    for i in low..=high {
        let w = weight(i) / sum;
        if w == 0.0 {
            continue;
        }
        let i = mirror(i, len);
        match folded.iter_mut().find(|(index, _)| *index == i) {
            Some((_, total)) => *total += w,
            None => folded.push((i, w)),
        }
    }
    let first = folded.iter().map(|f| f.0).min().unwrap_or(0);
    let last = folded.iter().map(|f| f.0).max().unwrap_or(0);
    let mut weights = vec![0.0; last - first + 1];
    for (i, w) in folded {
        weights[i - first] += w;
    }
    (first, weights)
}

/// Index into a row extended by reflection (edge sample repeated).
pub(crate) fn mirror(i: i64, len: usize) -> usize {
    let len = len as i64;
    let i = i.rem_euclid(2 * len);
    (if i < len { i } else { 2 * len - 1 - i }) as usize
}

/// Sums of the samples of each tap times their weights, in the order of the
/// taps.
#[inline(always)]
fn weighted_sums<'a, T: Sample + 'a>(
    weights: &[T],
    samples: impl Fn(usize) -> &'a [T],
    sums: &mut [T],
) {
    let mut first = 0;
    if let [a, b, c, d, ..] = *weights {
        first = 4;
        let (p, q, r, s) = (samples(0), samples(1), samples(2), samples(3));
        let taps = p.iter().zip(q).zip(r).zip(s);
        for (value, (((&p, &q), &r), &s)) in sums.iter_mut().zip(taps) {
            let mut sum = T::default();
            sum += a * p;
            sum += b * q;
            sum += c * r;
            sum += d * s;
            *value = sum;
        }
    } else {
        sums.fill(T::default());
    }
    for (tap, &weight) in weights.iter().enumerate().skip(first) {
        for (sum, &sample) in sums.iter_mut().zip(samples(tap)) {
            *sum += weight * sample;
        }
    }
}

/// A rectangle of an image, in samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Columns.
    pub x: Range<usize>,
    /// Rows.
    pub y: Range<usize>,
}

impl Region {
    /// All of a `width` x `height` image.
    pub fn all(width: usize, height: usize) -> Self {
        Self {
            x: 0..width,
            y: 0..height,
        }
    }
}

/// Sample types that can be resampled.
pub trait Sample:
    Copy + Send + Sync + Default + std::ops::Mul<Output = Self> + std::ops::AddAssign
{
    #[doc(hidden)]
    fn weights(axis: &ResampleAxis) -> &[Self];
}

impl Sample for f32 {
    fn weights(axis: &ResampleAxis) -> &[Self] {
        &axis.weights_f32
    }
}

impl Sample for f64 {
    fn weights(axis: &ResampleAxis) -> &[Self] {
        &axis.weights
    }
}

/// Resamples planes of one size to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Resampler {
    x: ResampleAxis,
    y: ResampleAxis,
}

impl Resampler {
    /// Resamples columns by `x` and rows by `y`.
    pub fn new(x: ResampleAxis, y: ResampleAxis) -> Self {
        Self { x, y }
    }

    /// Resizes an image from one size (width, height) to another.
    pub fn resize(from: (usize, usize), to: (usize, usize)) -> Self {
        Self::new(
            ResampleAxis::resize(from.0, to.0),
            ResampleAxis::resize(from.1, to.1),
        )
    }

    /// The weights of columns and of rows.
    pub(crate) fn axes(&self) -> (&ResampleAxis, &ResampleAxis) {
        (&self.x, &self.y)
    }

    /// Width and height of the output.
    pub fn size(&self) -> (usize, usize) {
        (self.x.len(), self.y.len())
    }

    /// Computes a region of the output from the dense plane `source` into
    /// rows of `out` that are `stride` samples apart. A sample's value does
    /// not depend on the region.
    pub fn region<T: Sample>(&self, source: &[T], region: &Region, out: &mut [T], stride: usize) {
        let columns = self.x.footprint(&region.x);
        let mut line = vec![T::default(); columns.len()];
        for (row, out) in region.y.clone().zip(out.chunks_mut(stride)) {
            self.vertical(source, row, &columns, &mut line);
            self.horizontal(&line, columns.start, region.x.clone(), out);
        }
    }

    /// Computes columns of one row; `line` is scratch space.
    pub(crate) fn row(
        &self,
        source: &[f32],
        row: usize,
        columns: Range<usize>,
        line: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        // The same sums in the same order in wider vectors: Rust neither fuses
        // nor reorders floating-point operations.
        #[cfg(target_arch = "x86_64")]
        match level() {
            Ok(Level::Avx512) => {
                // SAFETY: a chosen level is one that this machine can run.
                return unsafe { self.row_avx512(source, row, columns, line, out) };
            }
            Ok(Level::Avx2) => {
                // SAFETY: a chosen level is one that this machine can run.
                return unsafe { self.row_avx2(source, row, columns, line, out) };
            }
            _ => {}
        }
        self.row_generic(source, row, columns, line, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn row_avx512(
        &self,
        source: &[f32],
        row: usize,
        columns: Range<usize>,
        line: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        self.row_generic(source, row, columns, line, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn row_avx2(
        &self,
        source: &[f32],
        row: usize,
        columns: Range<usize>,
        line: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        self.row_generic(source, row, columns, line, out);
    }

    #[inline(always)]
    fn row_generic(
        &self,
        source: &[f32],
        row: usize,
        columns: Range<usize>,
        line: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let footprint = self.x.footprint(&columns);
        line.resize(footprint.len(), 0.0);
        self.vertical(source, row, &footprint, line);
        self.horizontal(line, footprint.start, columns, out);
    }

    /// The complete output from the dense plane `source`.
    pub fn apply<T: Sample>(&self, source: &[T]) -> Vec<T> {
        let (width, height) = self.size();
        let mut out = vec![T::default(); width * height];
        self.region(source, &Region::all(width, height), &mut out, width);
        out
    }

    #[inline(always)]
    fn vertical<T: Sample>(
        &self,
        source: &[T],
        row: usize,
        columns: &Range<usize>,
        line: &mut [T],
    ) {
        let (width, taps) = (self.x.source, self.y.taps);
        let weights = &T::weights(&self.y)[row * taps..][..taps];
        let samples = |tap: usize| {
            let start = (self.y.starts[row] as usize + tap) * width;
            &source[start + columns.start..start + columns.end]
        };
        weighted_sums(weights, samples, line);
    }

    #[inline(always)]
    fn horizontal<T: Sample>(
        &self,
        line: &[T],
        first: usize,
        columns: Range<usize>,
        out: &mut [T],
    ) {
        let (mut column, out) = (columns.start, &mut out[..columns.len()]);
        if let Some((range, period)) = &self.x.repeats {
            let start = column.max(range.start).min(columns.end);
            let end = range.end.min(columns.end);
            self.one_by_one(line, first, column, &mut out[..start - column]);
            column = start;
            while column + period <= end {
                let sources = ((end - column) / period).min(BLOCK);
                let out = &mut out[column - columns.start..][..period * sources];
                match period {
                    1 => self.phase((line, first), column, out),
                    2 => self.interleaved::<T, 2>((line, first), column, out),
                    3 => self.interleaved::<T, 3>((line, first), column, out),
                    4 => self.interleaved::<T, 4>((line, first), column, out),
                    _ => {
                        let mut sums = [T::default(); BLOCK];
                        for phase in 0..*period {
                            let sums = &mut sums[..sources];
                            self.phase((line, first), column + phase, sums);
                            let targets = out[phase..].iter_mut().step_by(*period);
                            targets.zip(sums).for_each(|(value, sum)| *value = *sum);
                        }
                    }
                }
                column += period * sources;
            }
        }
        self.one_by_one(line, first, column, &mut out[column - columns.start..]);
    }

    /// The output samples from `column` on.
    #[inline(always)]
    fn one_by_one<T: Sample>(&self, line: &[T], first: usize, column: usize, out: &mut [T]) {
        let taps = self.x.taps;
        let starts = &self.x.starts[column..];
        let weights = T::weights(&self.x)[column * taps..].chunks_exact(taps);
        for ((value, &start), weights) in out.iter_mut().zip(starts).zip(weights) {
            let mut sum = T::default();
            for (&weight, &sample) in weights.iter().zip(&line[start as usize - first..]) {
                sum += weight * sample;
            }
            *value = sum;
        }
    }

    /// The output samples of up to [`BLOCK`] source samples, `P` for each.
    #[inline(always)]
    fn interleaved<T: Sample, const P: usize>(
        &self,
        line: (&[T], usize),
        target: usize,
        out: &mut [T],
    ) {
        let (groups, _) = out.as_chunks_mut::<P>();
        let mut sums = [[T::default(); BLOCK]; P];
        for (phase, sums) in sums.iter_mut().enumerate() {
            self.phase(line, target + phase, &mut sums[..groups.len()]);
        }
        for (i, group) in groups.iter_mut().enumerate().take(BLOCK) {
            *group = std::array::from_fn(|phase| sums[phase][i]);
        }
    }

    /// Output samples of equal weights, a period apart, starting at `target`.
    /// Sums in the order of [`Resampler::one_by_one`].
    #[inline(always)]
    fn phase<T: Sample>(&self, (line, first): (&[T], usize), target: usize, sums: &mut [T]) {
        let taps = self.x.taps;
        let source = &line[self.x.starts[target] as usize - first..];
        let weights = &T::weights(&self.x)[target * taps..][..taps];
        let sources = sums.len();
        weighted_sums(weights, |tap| &source[tap..][..sources], sums);
    }
}

/// Resizes as Pillow's `Image.resize(size, BICUBIC)` does, bit for bit.
pub fn pillow(image: &Image, width: usize, height: usize) -> Image {
    let channels = image.channels;
    let narrow = pillow_rows(image, width);
    // The vertical pass is the horizontal one on the transposed image.
    let tall = pillow_rows(&transpose(&narrow), height);
    debug_assert_eq!(tall.channels, channels);
    transpose(&tall)
}

/// Fixed-point bits of Pillow's weights: 32 - 8 for the sample - 2 for overshoot.
const PILLOW_BITS: u32 = 22;

fn pillow_rows(image: &Image, width: usize) -> Image {
    if width == image.width {
        return image.clone();
    }
    let channels = image.channels;
    let windows = pillow_windows(image.width, width);
    let mut out = Image::new(width, image.height, channels);
    let rows = image.data.chunks_exact(image.width * channels);
    for (source, target) in rows.zip(out.data.chunks_exact_mut(width * channels)) {
        for (pixel, (first, weights)) in target.chunks_exact_mut(channels).zip(&windows) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let mut sum = 1i32 << (PILLOW_BITS - 1);
                for (i, &weight) in weights.iter().enumerate() {
                    sum += weight * i32::from(source[(first + i) * channels + channel]);
                }
                *value = (sum >> PILLOW_BITS).clamp(0, 255) as u8;
            }
        }
    }
    out
}

fn pillow_windows(source: usize, target: usize) -> Vec<(usize, Vec<i32>)> {
    let step = source as f64 / target as f64;
    let stretch = step.max(1.0);
    let reach = SUPPORT * stretch;
    (0..target)
        .map(|i| {
            let center = (i as f64 + 0.5) * step;
            let first = ((center - reach + 0.5) as i64).max(0) as usize;
            let last = ((center + reach + 0.5) as usize).min(source);
            let weights: Vec<f64> = (first..last)
                .map(|j| keys((j as f64 - center + 0.5) / stretch))
                .collect();
            let sum: f64 = weights.iter().sum();
            let one = f64::from(1u32 << PILLOW_BITS);
            let fixed = weights.iter().map(|w| (w / sum * one).round() as i32);
            (first, fixed.collect())
        })
        .collect()
}

fn transpose(image: &Image) -> Image {
    let channels = image.channels;
    let mut out = Image::new(image.height, image.width, channels);
    for y in 0..image.height {
        for x in 0..image.width {
            let from = (y * image.width + x) * channels;
            let to = (x * image.height + y) * channels;
            out.data[to..to + channels].copy_from_slice(&image.data[from..from + channels]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Vec<f64> {
        (0..width * height)
            .map(|i| ((i * 37) % 101) as f64)
            .collect()
    }

    #[test]
    fn same_size_is_identity() {
        let source = ramp(7, 5);
        assert_eq!(Resampler::resize((7, 5), (7, 5)).apply(&source), source);
    }

    #[test]
    fn regions_equal_the_full_output() {
        let source: Vec<f32> = ramp(23, 17).iter().map(|&v| v as f32).collect();
        for to in [(46, 34), (35, 26), (11, 8), (1, 1), (23, 300)] {
            let resampler = Resampler::resize((23, 17), to);
            let whole = resampler.apply(&source);
            let (x0, y0) = (to.0 / 3, to.1 / 4);
            let region = Region {
                x: x0..to.0,
                y: y0..to.1,
            };
            let mut part = vec![0.0; (to.0 - x0) * (to.1 - y0)];
            resampler.region(&source, &region, &mut part, to.0 - x0);
            for (row, part) in part.chunks(to.0 - x0).enumerate() {
                assert_eq!(part, &whole[(y0 + row) * to.0 + x0..][..to.0 - x0]);
            }
        }
    }

    /// The fast path for repeating weights equals the general one.
    #[test]
    fn repeating_weights_change_nothing() {
        let source: Vec<f32> = (0..150).map(|i| ((i * 37) % 101) as f32).collect();
        for to in [150, 300, 450, 1200, 75, 225, 375, 299] {
            let fast = Resampler::resize((150, 1), (to, 1));
            let mut slow = fast.clone();
            slow.x.repeats = None;
            let regular = to % 150 == 0;
            assert!(!regular || fast.x.repeats.is_some(), "{to}");
            let whole = slow.apply(&source);
            assert_eq!(fast.apply(&source), whole);
            let (mut line, mut part) = (Vec::new(), vec![0.0; to - 7]);
            fast.row(&source, 0, 7..to, &mut line, &mut part);
            assert_eq!(part, whole[7..]);
        }
    }

    #[test]
    fn tiny_images_keep_their_level() {
        for len in 1..5 {
            for target in [1, 2, 3, 17] {
                let out =
                    Resampler::resize((len, len), (target, target)).apply(&vec![9.0; len * len]);
                assert!(out.iter().all(|v: &f64| (v - 9.0).abs() < 1e-9));
            }
        }
    }

    /// Away from the border a linear ramp stays one for every chroma siting.
    #[test]
    fn siting_keeps_positions() {
        for cosited in [false, true] {
            let source = SampleGrid::subsampled(64, 2, cosited);
            let target = SampleGrid::subsampled(96, 2, cosited);
            let axis = ResampleAxis::new(source, target);
            let at = |grid: SampleGrid, i: usize| grid.origin + i as f64 * grid.spacing;
            let line: Vec<f64> = (0..source.len).map(|i| at(source, i)).collect();
            let resampler = Resampler::new(axis, ResampleAxis::resize(1, 1));
            let out = resampler.apply(&line);
            for (i, value) in out.iter().enumerate().take(42).skip(6) {
                assert!((value - at(target, i)).abs() < 1e-9, "{cosited} {i}");
            }
        }
    }

    #[test]
    fn pillow_keeps_flat_images() {
        let mut image = Image::new(9, 7, 3);
        image.data.fill(201);
        assert!(pillow(&image, 4, 15).data.iter().all(|&v| v == 201));
    }
}
