//! Blends the upscaled picture in the output frame with the bicubic one, or compares
//! them, row by row.

use super::program::Program;
use super::samples::{Plane, Workspace};
use crate::engine::frame_plan::FramePlan;
use crate::engine::options::UpscaleOptions;
use crate::engine::spec::UpscaleSpec;
use crate::engine::view::{Columns, Compare, ViewLayout};
use crate::frame::{Component, Family, FrameMut, FrameRef, PixelFormat, Quantization};
use crate::models::Channels;
use crate::tensor_error::Result;
use crate::threads::pool;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The value of no difference.
const MID_GRAY: f32 = 128.0;

/// Samples that are worth a thread.
const CHUNK: usize = 1 << 14;

/// Mixes frames of one upscale with their bicubic pictures.
pub(in crate::engine) struct Mixer {
    pool: Arc<rayon::ThreadPool>,
    /// Writes the bicubic picture.
    bicubic: Program,
    /// Resamples the components that the networks compute.
    components: Program,
}

impl Mixer {
    /// For networks on these channels.
    ///
    /// # Errors
    ///
    /// Threads cannot be started.
    pub(in crate::engine) fn new(
        spec: &UpscaleSpec,
        channels: Channels,
        options: &UpscaleOptions,
    ) -> Result<Self> {
        let program = |plan| Program::new(plan, spec.input.color, super::output(spec), false);
        Ok(Self {
            pool: pool(options.threads)?,
            bicubic: program(FramePlan::of_frames(spec, channels, &[])),
            components: program(FramePlan::of_compared(spec, channels)),
        })
    }

    /// Writes the bicubic picture.
    ///
    /// # Errors
    ///
    /// None but internal ones.
    pub(in crate::engine) fn resample(
        &mut self,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
    ) -> Result<()> {
        let bicubic = &mut self.bicubic;
        self.pool
            .install(|| bicubic.run(&mut [], Some((input, output))))
    }

    /// Turns the upscaled picture in `output` into the view.
    ///
    /// # Errors
    ///
    /// None but internal ones.
    pub(in crate::engine) fn mix(
        &mut self,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
        layout: &ViewLayout,
    ) -> Result<()> {
        if !layout.differs() && layout.columns == Columns::Whole {
            return Ok(());
        }
        let components = &mut self.components;
        self.pool.install(|| {
            let planes = match layout.differs() {
                true => components.sources(input, output)?,
                false => Vec::new(),
            };
            mix(output, &planes, layout);
            Ok(())
        })
    }
}

/// Mixes with the bicubic values of components; those without a plane are equal in both
/// pictures.
fn mix(output: &mut FrameMut<'_>, planes: &[Option<Plane<'_>>], layout: &ViewLayout) {
    let (format, size, range) = (output.format(), output.size(), output.color().range);
    for plane in 0..format.planes() {
        let parts: Vec<_> = (0..format.components().len())
            .filter(|&index| format.components()[index].plane == plane)
            .map(|index| {
                let bicubic = planes.get(index).and_then(Option::as_ref);
                Part::new((format, index), (size.0, range), bicubic, layout)
            })
            .filter(|part| !part.columns.is_empty())
            .collect();
        if parts.is_empty() {
            continue;
        }
        let (row_bytes, rows) = format.plane_size(plane, size.0, size.1);
        let samples: usize = parts.iter().map(|part| part.columns.len()).sum();
        let (data, stride) = output.plane_mut(plane);
        data.par_chunks_mut(stride)
            .take(rows)
            .enumerate()
            .with_min_len(CHUNK.div_ceil(samples))
            .for_each_init(Scratch::default, |scratch, (y, row)| {
                mix_row(&parts, y, &row[..row_bytes], scratch);
                if format.is_bit_packed() {
                    row[..row_bytes].fill(0);
                }
                for (part, values) in parts.iter().zip(&scratch.values) {
                    part.write(values, &mut row[..row_bytes]);
                }
            });
    }
}

/// Scratch rows.
#[derive(Default)]
struct Scratch {
    workspace: Workspace,
    /// A copy of the row.
    copy: Vec<f32>,
    /// The values of each part.
    values: Vec<Vec<f32>>,
}

fn mix_row(parts: &[Part<'_>], y: usize, row: &[u8], scratch: &mut Scratch) {
    scratch.values.resize_with(parts.len(), Vec::new);
    for (part, values) in parts.iter().zip(&mut scratch.values) {
        part.read(row, values);
        part.mix(y, values, &mut scratch.copy, &mut scratch.workspace);
    }
}

/// What a component measures.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Luma, red, green or blue.
    Light,
    Chroma,
    Alpha,
}

impl Kind {
    fn of(format: PixelFormat, index: usize) -> Self {
        match format.family() {
            _ if format.has_alpha() && index + 1 == format.components().len() => Self::Alpha,
            Family::Yuv if index > 0 => Self::Chroma,
            _ => Self::Light,
        }
    }
}

/// A component of a mix.
struct Part<'a> {
    component: &'static Component,
    quantization: Quantization,
    kind: Kind,
    bicubic: Option<&'a Plane<'a>>,
    strength: f32,
    layout: Columns,
    /// Samples of a row.
    width: usize,
    /// The samples of a row that the view may change.
    columns: Range<usize>,
    /// Whether the view needs nothing of their samples.
    overwrites: bool,
    /// Values of the line.
    dark: f32,
    bright: f32,
}

impl<'a> Part<'a> {
    fn new(
        (format, index): (PixelFormat, usize),
        (width, range): (usize, crate::frame::Range),
        bicubic: Option<&'a Plane<'a>>,
        view: &ViewLayout,
    ) -> Self {
        let (component, kind) = (&format.components()[index], Kind::of(format, index));
        let width = width.div_ceil(component.sub_x);
        let layout = view.columns.of_component(component.sub_x);
        let blends = bicubic.is_some() && view.strength < 1.0;
        let columns = match &layout {
            // Samples that share words are written together.
            _ if format.is_bit_packed() => 0..width,
            Columns::Whole | Columns::Split { .. } if blends => 0..width,
            Columns::Whole => 0..0,
            Columns::Split { line } if bicubic.is_some() => 0..line.end,
            Columns::Split { line } => line.clone(),
            Columns::Difference if kind == Kind::Alpha => 0..0,
            Columns::SideBySide { .. } | Columns::Difference => 0..width,
        };
        let overwrites =
            matches!(&layout, Columns::Split { line } if !blends && columns.end <= line.end);
        Self {
            overwrites,
            quantization: component.quantization(range),
            strength: view.strength,
            dark: component.black(range),
            bright: component.white(range),
            component,
            kind,
            bicubic,
            layout,
            width,
            columns,
        }
    }

    /// Reads the columns of a row.
    fn read(&self, row: &[u8], values: &mut Vec<f32>) {
        values.resize(self.columns.len(), 0.0);
        if self.overwrites {
            return;
        }
        let row = &row[self.columns.start * self.component.step..];
        self.component.read_row(&self.quantization, row, 0, values);
    }

    /// Writes the columns of a row.
    fn write(&self, values: &[f32], row: &mut [u8]) {
        let row = &mut row[self.columns.start * self.component.step..];
        self.component.write_row(&self.quantization, values, row);
    }

    /// Mixes the columns of a row.
    fn mix(&self, y: usize, values: &mut [f32], copy: &mut Vec<f32>, workspace: &mut Workspace) {
        match &self.layout {
            Columns::Whole => self.split(0, y, values, workspace),
            Columns::Split { line } => {
                self.split(line.start, y, values, workspace);
                self.draw(line, values);
            }
            Columns::SideBySide { line, first } => {
                copy.clear();
                copy.extend_from_slice(values);
                self.repeat(
                    (line.start, *first),
                    y,
                    (copy.as_slice(), values),
                    workspace,
                );
                self.draw(line, values);
            }
            Columns::Difference => self.subtract(y, values, workspace),
        }
    }

    /// The bicubic picture left of a column, the blend from there on.
    fn split(&self, column: usize, y: usize, values: &mut [f32], workspace: &mut Workspace) {
        let end = if self.strength < 1.0 {
            self.width
        } else {
            column
        };
        if let (Some(plane), true) = (self.bicubic, end > 0) {
            let bicubic = plane.part(y, 0..end, workspace);
            values[..column].copy_from_slice(&bicubic[..column]);
            self.blend(&mut values[column..end], &bicubic[column..]);
        }
    }

    /// The columns from `first` on, twice: bicubic, and from the column `left` on blended.
    fn repeat(
        &self,
        (left, first): (usize, usize),
        y: usize,
        (upscaled, values): (&[f32], &mut [f32]),
        workspace: &mut Workspace,
    ) {
        let (bicubic_half, half) = values.split_at_mut(left);
        let longest = bicubic_half.len().max(half.len());
        half.copy_from_slice(&upscaled[first..][..half.len()]);
        let bicubic = match self.bicubic {
            Some(plane) => plane.part(y, first..first + longest, workspace),
            None => &upscaled[first..],
        };
        bicubic_half.copy_from_slice(&bicubic[..left]);
        if self.bicubic.is_some() && self.strength < 1.0 {
            self.blend(half, bicubic);
        }
    }

    /// Blends with bicubic values.
    fn blend(&self, values: &mut [f32], bicubic: &[f32]) {
        let (low, high) = (self.quantization.offset, self.quantization.limit());
        for (value, &bicubic) in values.iter_mut().zip(bicubic) {
            // The cubic kernel overshoots.
            let bicubic = bicubic.max(low).min(high);
            *value = bicubic + self.strength * (*value - bicubic);
        }
    }

    /// The difference from the bicubic picture.
    fn subtract(&self, y: usize, values: &mut [f32], workspace: &mut Workspace) {
        match (self.kind, self.bicubic) {
            (Kind::Alpha, _) => {}
            (Kind::Light, Some(plane)) => {
                let gain = Compare::GAIN * self.strength;
                let bicubic = plane.part(y, 0..self.width, workspace);
                for (value, &bicubic) in values.iter_mut().zip(bicubic) {
                    // Rounded as the other picture, so that equal ones differ nowhere.
                    let bicubic = self.quantization.rounded(bicubic);
                    *value = MID_GRAY + gain * (*value - bicubic);
                }
            }
            _ => values.fill(MID_GRAY),
        }
    }

    /// Draws a line, half of it dark and half bright, in the columns that were read.
    fn draw(&self, line: &Range<usize>, values: &mut [f32]) {
        let line = line.start - self.columns.start..line.end - self.columns.start;
        let (dark, bright) = values[line.clone()].split_at_mut(line.len() / 2);
        dark.fill(self.dark);
        bright.fill(self.bright);
    }
}
