//! Reading, writing, resampling and converting samples.

use crate::frame::damage::{Damage, Span, split};
use crate::frame::resample::Resampler;
use crate::frame::{Component, FrameMut, FrameRef, Luma601, MAX_VALUE};
use rayon::prelude::*;
use std::ops::Range;

/// Samples that a thread converts at a time.
const CHUNK: usize = 1 << 13;

/// The parts of a plane that are damaged.
fn parts<'a>(plane: &'a mut [f32], ranges: &[Range<usize>]) -> Vec<&'a mut [f32]> {
    split(plane, ranges.iter().cloned())
}

/// The damaged spans of a plane, with their samples.
fn rows<'a>(plane: &'a mut [f32], damage: &Damage) -> Vec<(Span, &'a mut [f32])> {
    let (spans, width) = (damage.spans(), damage.width());
    let ranges = spans
        .iter()
        .map(|Span { y, x }| y * width + x.start..y * width + x.end);
    let samples = split(plane, ranges);
    spans.into_iter().zip(samples).collect()
}

/// Reads the damaged samples of a component: values in units of 8 bit.
pub(super) fn read(input: &FrameRef<'_>, component: &Component, out: &mut [f32], damage: &Damage) {
    let rows = rows(out, damage).into_par_iter();
    rows.for_each(|(Span { y, x }, out)| input.read_samples(component, y, x.start, out));
}

/// Resamples the damaged samples of a plane.
pub(super) fn resample(resampler: &Resampler, source: &[f32], out: &mut [f32], damage: &Damage) {
    let rows = rows(out, damage).into_par_iter();
    rows.for_each_init(Vec::new, |line, (Span { y, x }, out)| {
        resampler.row(source, y, x, line, out);
    });
}

/// Applies `f` to the damaged samples of three consecutive planes, in place.
pub(super) fn map_triples(
    planes: &mut [f32],
    damage: &Damage,
    f: impl Fn([f32; 3]) -> [f32; 3] + Sync,
) {
    let samples = planes.len() / 3;
    let (a, rest) = planes.split_at_mut(samples);
    let (b, c) = rest.split_at_mut(samples);
    let ranges = damage.ranges(CHUNK);
    let [a, b, c] = [a, b, c].map(|plane| parts(plane, &ranges));
    let chunks = a.into_par_iter().zip(b).zip(c);
    chunks.for_each(|((a, b), c)| {
        for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
            [*a, *b, *c] = f([*a, *b, *c]);
        }
    });
}

#[inline]
fn luma_of(rgb: [f32; 3]) -> f32 {
    Luma601::of(rgb.map(f64::from)) as f32
}

/// BT.601 studio luma of the damaged samples of R, G and B planes.
pub(super) fn luma_of_rgb(rgb: &[f32], luma: &mut [f32], damage: &Damage) {
    let samples = luma.len();
    let (r, rest) = rgb.split_at(samples);
    let (g, b) = rest.split_at(samples);
    let ranges = damage.ranges(CHUNK);
    let chunks = parts(luma, &ranges).into_par_iter().zip(&ranges);
    chunks.for_each(|(luma, range)| {
        let [r, g, b] = [r, g, b].map(|plane| &plane[range.clone()]);
        for (((luma, &r), &g), &b) in luma.iter_mut().zip(r).zip(g).zip(b) {
            *luma = luma_of([r, g, b]);
        }
    });
}

/// Adds to the damaged samples of R, G and B the difference of `luma` and their
/// luma.
pub(super) fn merge_luma(rgb: &mut [f32], luma: &[f32], damage: &Damage) {
    let samples = luma.len();
    let (r, rest) = rgb.split_at_mut(samples);
    let (g, b) = rest.split_at_mut(samples);
    let ranges = damage.ranges(CHUNK);
    let [r, g, b] = [r, g, b].map(|plane| parts(plane, &ranges));
    let chunks = r.into_par_iter().zip(g).zip(b).zip(&ranges);
    chunks.for_each(|(((r, g), b), range)| {
        for (((&luma, r), g), b) in luma[range.clone()].iter().zip(r).zip(g).zip(b) {
            let change = (luma - luma_of([*r, *g, *b])) * Luma601::RGB_PER_LUMA;
            *r += change;
            *g += change;
            *b += change;
        }
    });
}

/// Premultiplies the damaged samples of a plane by alpha, about the value of black.
pub(super) fn premultiply(plane: &mut [f32], alpha: &[f32], zero: f32, damage: &Damage) {
    with_alpha(plane, alpha, damage, |value, alpha| {
        (value - zero) * (alpha / MAX_VALUE) + zero
    });
}

/// The inverse of [`premultiply`]; `zero` where alpha rounds to 0.
pub(super) fn unpremultiply(plane: &mut [f32], alpha: &[f32], zero: f32, damage: &Damage) {
    with_alpha(plane, alpha, damage, |value, alpha| match alpha >= 0.5 {
        true => (value - zero) / (alpha.min(MAX_VALUE) / MAX_VALUE) + zero,
        false => zero,
    });
}

fn with_alpha(
    plane: &mut [f32],
    alpha: &[f32],
    damage: &Damage,
    f: impl Fn(f32, f32) -> f32 + Sync,
) {
    let ranges = damage.ranges(CHUNK);
    let chunks = parts(plane, &ranges).into_par_iter().zip(&ranges);
    chunks.for_each(|(plane, range)| {
        for (value, &alpha) in plane.iter_mut().zip(&alpha[range.clone()]) {
            *value = f(*value, alpha);
        }
    });
}

/// The source plane of a frame's component.
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [f32],
    /// Samples of a row of the plane.
    pub(super) width: usize,
    /// From the plane to the component; `None` if they have the same grid.
    pub(super) resampler: Option<&'a Resampler>,
}

/// Rounds planes to the samples of a frame's components where the frame's planes
/// are damaged; skips components without a plane.
pub(super) fn write(output: &mut FrameMut<'_>, planes: &[Option<Plane<'_>>], damage: &[Damage]) {
    let format = output.format();
    let range = output.color().range;
    for (plane, damage) in damage.iter().enumerate() {
        let components: Vec<_> = (format.components().iter().zip(planes))
            .filter(|(component, _)| component.plane == plane)
            .filter_map(|(component, source)| Some((component, source.as_ref()?)))
            .map(|(component, source)| (component, component.quantization(range), source))
            .collect();
        if components.is_empty() && format.padding().is_none() {
            continue;
        }
        let (data, stride) = output.plane_mut(plane);
        let spans = damage.spans();
        let bytes = |x: usize| format.plane_size(plane, x, 1).0;
        let parts = spans.iter().map(|Span { y, x }| {
            let row = y * stride;
            row + bytes(x.start)..row + bytes(x.end)
        });
        let parts = split(data, parts);
        let spans = spans.par_iter().zip(parts);
        spans.for_each_init(Workspace::default, |workspace, (Span { y, x }, part)| {
            if let Some(padding) = format.padding() {
                padding.fill_row(part);
            }
            match format.is_bit_packed() {
                true => part.fill(0),
                false => (format.components().iter())
                    .filter(|component| component.plane == plane)
                    .for_each(|c| c.clear_unused(x.len().div_ceil(c.sub_x), part)),
            }
            for (component, quantization, source) in &components {
                let samples = x.start / component.sub_x..x.end.div_ceil(component.sub_x);
                let values = source.part(*y, samples, workspace);
                component.write_row(quantization, values, part);
            }
        });
    }
}

/// Scratch rows for resampling on write.
#[derive(Default)]
pub(super) struct Workspace {
    line: Vec<f32>,
    row: Vec<f32>,
}

impl Plane<'_> {
    /// The values of a part of a row of the component. They do not depend on the part.
    pub(super) fn part<'a>(
        &'a self,
        y: usize,
        x: Range<usize>,
        workspace: &'a mut Workspace,
    ) -> &'a [f32] {
        let Some(resampler) = self.resampler else {
            return &self.samples[y * self.width..][x];
        };
        let Workspace { line, row } = workspace;
        row.resize(x.len(), 0.0);
        resampler.row(self.samples, y, x, line, row);
        row
    }
}
