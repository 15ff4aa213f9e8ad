//! Reading, writing, resampling and converting samples.

use crate::frame::resample::Resampler;
use crate::frame::{Component, FrameMut, FrameRef, Luma601, MAX_VALUE};
use rayon::prelude::*;
use std::ops::Range;

/// Samples that a thread converts at a time.
const CHUNK: usize = 1 << 13;

/// Rows that a thread processes at a time.
fn rows_per_band(height: usize) -> usize {
    height.div_ceil(rayon::current_num_threads()).max(1)
}

/// Reads a component into dense rows of values in units of 8 bit.
pub(super) fn read(input: &FrameRef<'_>, component: &Component, out: &mut [f32]) {
    let (width, height) = input.size();
    let (width, height) = component.size(width, height);
    let rows = rows_per_band(height);
    let bands = out.par_chunks_mut(rows * width).enumerate();
    bands.for_each(|(band, out)| input.read_rows(component, band * rows, out));
}

/// Resamples a plane.
pub(super) fn resample(resampler: &Resampler, source: &[f32], out: &mut [f32]) {
    let (width, height) = resampler.size();
    let rows = rows_per_band(height);
    let bands = out.par_chunks_mut(rows * width).enumerate();
    bands.for_each(|(band, out)| {
        let mut line = Vec::new();
        for (i, out) in out.chunks_mut(width).enumerate() {
            resampler.row(source, band * rows + i, 0..width, &mut line, out);
        }
    });
}

/// Applies `f` to each sample of three consecutive planes, in place.
pub(super) fn map_triples(planes: &mut [f32], f: impl Fn([f32; 3]) -> [f32; 3] + Sync) {
    let samples = planes.len() / 3;
    let (a, rest) = planes.split_at_mut(samples);
    let (b, c) = rest.split_at_mut(samples);
    let chunks = (a.par_chunks_mut(CHUNK))
        .zip(b.par_chunks_mut(CHUNK))
        .zip(c.par_chunks_mut(CHUNK));
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

/// BT.601 studio luma of R, G and B planes.
pub(super) fn luma_of_rgb(rgb: &[f32], luma: &mut [f32]) {
    let samples = luma.len();
    let (r, rest) = rgb.split_at(samples);
    let (g, b) = rest.split_at(samples);
    let chunks = (luma.par_chunks_mut(CHUNK))
        .zip(r.par_chunks(CHUNK))
        .zip(g.par_chunks(CHUNK))
        .zip(b.par_chunks(CHUNK));
    chunks.for_each(|(((luma, r), g), b)| {
        for (((luma, &r), &g), &b) in luma.iter_mut().zip(r).zip(g).zip(b) {
            *luma = luma_of([r, g, b]);
        }
    });
}

/// Adds to R, G and B the difference of `luma` and their luma.
pub(super) fn merge_luma(rgb: &mut [f32], luma: &[f32]) {
    let samples = luma.len();
    let (r, rest) = rgb.split_at_mut(samples);
    let (g, b) = rest.split_at_mut(samples);
    let chunks = (luma.par_chunks(CHUNK))
        .zip(r.par_chunks_mut(CHUNK))
        .zip(g.par_chunks_mut(CHUNK))
        .zip(b.par_chunks_mut(CHUNK));
    chunks.for_each(|(((luma, r), g), b)| {
        for (((&luma, r), g), b) in luma.iter().zip(r).zip(g).zip(b) {
            let change = (luma - luma_of([*r, *g, *b])) * Luma601::RGB_PER_LUMA;
            *r += change;
            *g += change;
            *b += change;
        }
    });
}

/// Premultiplies a plane by alpha, about the value of black.
pub(super) fn premultiply(plane: &mut [f32], alpha: &[f32], zero: f32) {
    with_alpha(plane, alpha, |value, alpha| {
        (value - zero) * (alpha / MAX_VALUE) + zero
    });
}

/// The inverse of [`premultiply`]; `zero` where alpha rounds to 0.
pub(super) fn unpremultiply(plane: &mut [f32], alpha: &[f32], zero: f32) {
    with_alpha(plane, alpha, |value, alpha| match alpha >= 0.5 {
        true => (value - zero) / (alpha.min(MAX_VALUE) / MAX_VALUE) + zero,
        false => zero,
    });
}

fn with_alpha(plane: &mut [f32], alpha: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    let chunks = plane.par_chunks_mut(CHUNK).zip(alpha.par_chunks(CHUNK));
    chunks.for_each(|(plane, alpha)| {
        for (value, &alpha) in plane.iter_mut().zip(alpha) {
            *value = f(*value, alpha);
        }
    });
}

/// The source plane of a frame's component.
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [f32],
    /// From the plane to the component; `None` if they have the same grid.
    pub(super) resampler: Option<&'a Resampler>,
}

/// Rounds planes to the samples of a frame's components; skips components
/// without a plane.
pub(super) fn write(output: &mut FrameMut<'_>, planes: &[Option<Plane<'_>>]) {
    let format = output.format();
    let (width, height) = output.size();
    let range = output.color().range;
    for plane in 0..format.planes() {
        let (row_bytes, rows) = format.plane_size(plane, width, height);
        let components: Vec<_> = (format.components().iter().zip(planes))
            .filter(|(component, _)| component.plane == plane)
            .filter_map(|(component, source)| Some((component, source.as_ref()?)))
            .map(|(component, source)| (component, component.quantization(range), source))
            .collect();
        if components.is_empty() && format.padding().is_none() {
            continue;
        }
        let (data, stride) = output.plane_mut(plane);
        data.par_chunks_mut(stride)
            .take(rows)
            .enumerate()
            .for_each_init(Workspace::default, |workspace, (y, row)| {
                let row = &mut row[..row_bytes];
                if let Some(padding) = format.padding() {
                    padding.fill_row(row);
                }
                match format.is_bit_packed() {
                    true => row.fill(0),
                    false => (format.components().iter())
                        .filter(|component| component.plane == plane)
                        .for_each(|c| c.clear_unused(width.div_ceil(c.sub_x), row)),
                }
                for (component, quantization, source) in &components {
                    let samples = width.div_ceil(component.sub_x);
                    let values = source.columns(samples, y, 0..samples, workspace);
                    component.write_row(quantization, values, row);
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
    /// The values of columns of a row of the component, which has `samples`. They do not
    /// depend on the columns.
    pub(super) fn columns<'a>(
        &'a self,
        samples: usize,
        y: usize,
        columns: Range<usize>,
        workspace: &'a mut Workspace,
    ) -> &'a [f32] {
        let Some(resampler) = self.resampler else {
            return &self.samples[y * samples..][columns];
        };
        let Workspace { line, row } = workspace;
        row.resize(columns.len(), 0.0);
        resampler.row(self.samples, y, columns, line, row);
        row
    }
}
