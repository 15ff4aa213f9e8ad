//! The layers of chains in integers.
//!
//! Boundaries lie in memory as planes of words ([`kernels::quantized`]): the rows of
//! a [`RowBuffer`] are those of all planes of a row, one after the other.
//!
//! [`kernels::quantized`]: crate::chain::cpu::kernels::quantized
//! [`RowBuffer`]: crate::chain::cpu::layout::RowBuffer

use super::Execution;
use crate::chain::cpu::kernels::quantized::{
    InputRow, Lines, Output, QUAD, QuantizedConv, Samples, Skip,
};
use crate::chain::cpu::pack::{MAX_KERNEL, MAX_SHUFFLE, QuantizedWeights};
use crate::ops::Border;
use crate::ops::cpu::pixels::GROUP;
use std::ops::Range;

/// The steps of a value of 0 to 1, rounded; halves up.
#[expect(clippy::manual_clamp, reason = "clamp passes NaN on")]
#[inline(always)]
fn steps_of(value: f32, scale: f32, offset: f32) -> i16 {
    // Positive numbers are rounded by truncation.
    const ABOVE: f32 = 32768.0;
    let steps = (value * scale + offset).max(-32767.0).min(32767.0) + (ABOVE + 0.5);
    // SAFETY: 1.5 to 65535.5, as `max` leaves no NaN. A conversion that saturates
    // is not vectorised.
    let steps: i32 = unsafe { steps.to_int_unchecked() };
    (steps - ABOVE as i32) as i16
}

/// The words of an input plane: neighbouring values, two in each word.
fn pair_up(words: &mut [u32]) {
    for i in 1..words.len() {
        words[i - 1] |= words[i] << 16;
    }
}

impl Execution<'_> {
    /// The word that lies beyond the edges of a boundary.
    fn border_word(&self, boundary: usize) -> u32 {
        let layers = &self.task.packed.layers;
        let next = layers.get(self.task.region.layers.start + boundary);
        let zero = next
            .and_then(|layer| layer.quantized())
            .map_or(0, |weights| weights.input_zero);
        u32::from_le_bytes([zero; QUAD])
    }

    /// Reads a row of the input as words of an input plane.
    pub(super) fn read_words(&mut self, row: isize, y: usize, inside: Range<isize>) {
        let (packed, source) = (self.task.packed, self.task.source);
        let x = inside.start as usize..inside.end as usize;
        for (plane, &(scale, offset)) in packed.input_affine.iter().enumerate() {
            let line = &mut self.scratch.lines[..x.len()];
            source.row(plane, y, x.clone(), line);
            let first = row * packed.planes as isize + plane as isize;
            let words = self.rows[0].pixels(first, inside.clone()).cast::<u32>();
            // SAFETY: pixels in memory; only this task has this ring.
            let words = unsafe { std::slice::from_raw_parts_mut(words, x.len()) };
            for (word, &value) in words.iter_mut().zip(line.iter()) {
                *word = u32::from(steps_of(value, scale, offset).cast_unsigned());
            }
        }
        self.fill_sides_of_words(0, row);
        for plane in 0..packed.planes {
            let first = row * packed.planes as isize + plane as isize;
            let columns = self.rows[0].columns();
            let len = (columns.end - columns.start) as usize;
            let words = self.rows[0].pixels(first, columns).cast::<u32>();
            // SAFETY: pixels in memory; only this task has this ring.
            pair_up(unsafe { std::slice::from_raw_parts_mut(words, len) });
        }
    }

    /// As `fill_sides`, for planes of words.
    pub(super) fn fill_sides_of_words(&self, boundary: usize, row: isize) {
        if !self.computes(boundary, row) {
            return;
        }
        let (layout, rows) = (self.layout(boundary), &self.rows[boundary]);
        for (columns, edge) in self.sides(boundary) {
            let first = row * layout.stored as isize;
            for plane in first..first + layout.stored as isize {
                let len = (columns.end - columns.start) as usize;
                let to = rows.pixels(plane, columns.clone()).cast::<u32>();
                // SAFETY: pixels in memory; only this task has this ring, or these
                // columns of a frame.
                let to = unsafe { std::slice::from_raw_parts_mut(to, len) };
                to.fill(match layout.border {
                    // SAFETY: pixels in memory.
                    Border::Replicate => unsafe {
                        *rows.pixels(plane, edge..edge + 1).cast::<u32>()
                    },
                    _ => self.border_word(boundary),
                });
            }
        }
    }

    /// The rows that a layer reads for a row of its result, pixels in memory.
    fn word_rows(
        &self,
        boundary: usize,
        row: isize,
        columns: &Range<isize>,
    ) -> [InputRow; MAX_KERNEL] {
        let (layer, layout) = (self.layer(boundary), self.layout(boundary - 1));
        let rows = &self.rows[boundary - 1];
        let pad = layer.pad() as isize;
        let read = columns.start - pad..columns.end + pad;
        let mut inputs = [InputRow {
            first: std::ptr::null(),
            plane: 0,
        }; MAX_KERNEL];
        for (i, input) in inputs[..layer.kernel].iter_mut().enumerate() {
            let y = row - pad + i as isize;
            let within = y.clamp(layout.y.start, layout.y.end - 1);
            *input = match layout.border {
                Border::Replicate => rows.input_row(within, layout.stored, read.clone()),
                _ if within == y => rows.input_row(y, layout.stored, read.clone()),
                _ => {
                    let line = self
                        .task
                        .border_row(self.task.region.layers.start + boundary - 1);
                    let len = (read.end - read.start) as usize;
                    InputRow {
                        first: line[..len + GROUP].as_ptr().cast(),
                        plane: 0,
                    }
                }
            };
        }
        inputs
    }

    /// A row of a layer in integers.
    pub(super) fn quantized(&mut self, boundary: usize, weights: &QuantizedWeights, row: isize) {
        let layer = self.layer(boundary);
        let is_last = layer.algorithm.writes_lines();
        let r = layer.shuffle;
        // All rows of the squares are in the region, or none is.
        if !self.computes(boundary, row * r as isize) {
            return;
        }
        let columns = self.extent(boundary).tiles.clone();
        let inputs = self.word_rows(boundary, row, &columns);
        let pixels = (columns.end - columns.start) as usize;
        let mut out = [std::ptr::null_mut(); MAX_SHUFFLE];
        let target = &self.rows[boundary];
        let stored = layer.stored();
        let output = match is_last {
            true => Output::Lines(Lines {
                scales: &weights.scales,
                pitch: pixels.next_multiple_of(GROUP),
                out: self.scratch.lines.as_mut_ptr(),
            }),
            false => {
                let scaled = columns.start * r as isize..columns.end * r as isize;
                for (dy, out) in out[..r].iter_mut().enumerate() {
                    let first = (row * r as isize + dy as isize) * stored as isize;
                    *out = target.pixels(first, scaled.clone()).cast();
                }
                let skip = layer
                    .skip
                    .zip(weights.skip)
                    .and_then(|(skip, (zero, multiplier))| {
                        let frame = self.task.frames[skip]?;
                        Some(Skip {
                            row: frame.input_row(row, stored, columns.clone()),
                            zero,
                            multiplier,
                        })
                    });
                Output::Samples(Samples {
                    zero: weights.zero,
                    rows: &out[..r],
                    plane: target.pitch(),
                    shuffle: r,
                    skip,
                })
            }
        };
        let conv = QuantizedConv {
            rows: &inputs[..layer.kernel],
            planes: layer.inputs,
            taps: weights.taps,
            tap_step: weights.tap_step,
            weights: &weights.weights,
            quads: &weights.quads,
            pixels,
            output,
        };
        let kernels = self.task.quantized;
        // SAFETY: operands in memory.
        unsafe {
            match weights.first {
                true => (kernels.pairs)(&conv),
                false => (kernels.samples)(&conv),
            }
        }
    }
}
