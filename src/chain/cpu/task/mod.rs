//! One region of a frame on its way through the layers of a segment.
//!
//! The kernels' *operands in memory*: [`RowBuffer::pixels`] has checked the
//! pixels that a call reads and writes (*pixels in memory*), slices of
//! [`Scratch`] are cut to what it works in, and `PackedLayer` holds as many
//! weights as its shape says.

mod quantized;

use crate::chain::Interrupt;
use crate::chain::cpu::epilogue::OutputRow;
use crate::chain::cpu::io::{Sink, Source};
use crate::chain::cpu::kernels::quantized::QuantizedKernels;
use crate::chain::cpu::layout::{
    BoundaryExtent, BoundaryLayout, Region, RowBuffer, Scratch, WINDOW_ROWS, product_pitch,
    tiles_at_once, transformed_tile, window_pitch,
};
use crate::chain::cpu::pack::{ConvAlgorithm, PackedChain, PackedLayer};
use crate::ops::Border;
use crate::ops::cpu::pixels::{
    BatchStrides, BiasActivation, Conv9x9, DotProduct, GROUP, InputTransform, Kernels,
    MAX_DOT_CHANNELS, Matmul, OutputTransform, WindowTransform, WinogradColumns,
};
use crate::ops::winograd::Variant;
use std::ops::Range;

/// The most rows of the result of a group of tiles, shuffled.
const MAX_OUTPUT_ROWS: usize = 4 * 6;

/// The most rows that a group of rows reads: three kernels of F(6x6, 3x3),
/// one below the other.
const MAX_INPUT_ROWS: usize = 2 * 3 + 8;

/// A region's run.
pub(in crate::chain::cpu) struct Task<'a> {
    pub(in crate::chain::cpu) packed: &'a PackedChain,
    pub(in crate::chain::cpu) kernels: &'static Kernels,
    pub(in crate::chain::cpu) quantized: &'static QuantizedKernels,
    pub(in crate::chain::cpu) layouts: &'a [BoundaryLayout],
    pub(in crate::chain::cpu) frames: &'a [Option<RowBuffer>],
    /// The rows of the input above and below the region, where they are copied.
    pub(in crate::chain::cpu) halo: Option<RowBuffer>,
    /// A row of zeros, as long as the longest.
    pub(in crate::chain::cpu) zeros: &'a [f32],
    /// As long a row of what lies beyond each boundary of words; empty for zeros.
    pub(in crate::chain::cpu) borders: &'a [Vec<f32>],
    pub(in crate::chain::cpu) region: &'a Region,
    /// Ends the run early.
    pub(in crate::chain::cpu) interrupt: &'a Interrupt,
    pub(in crate::chain::cpu) source: &'a dyn Source,
    pub(in crate::chain::cpu) sink: &'a dyn Sink,
}

impl<'a> Task<'a> {
    /// A row of what lies beyond a boundary of words.
    fn border_row(&self, boundary: usize) -> &'a [f32] {
        match self.borders.get(boundary) {
            Some(row) if !row.is_empty() => row,
            _ => self.zeros,
        }
    }

    /// Computes the region's rows, from the first to the last.
    pub(in crate::chain::cpu) fn run(&self, workspace: &mut [f32]) {
        let Region {
            layers, extents, ..
        } = self.region;
        let (rows, scratch) = self.region.carve(workspace, self.layouts, self.frames);
        let mut execution = Execution {
            task: self,
            rows,
            scratch,
            next: extents.iter().map(|extent| extent.start).collect(),
            next_window: isize::MIN,
        };
        let end = extents.last().map_or(0, |extent| extent.y.end);
        execution.compute(layers.len(), end);
    }
}

/// The state of a task.
struct Execution<'a> {
    task: &'a Task<'a>,
    rows: Vec<RowBuffer>,
    scratch: Scratch<'a>,
    /// The next group of rows of each boundary.
    next: Vec<isize>,
    next_window: isize,
}

/// Tiles of a row that go through a layer together.
#[derive(Clone, Copy)]
struct TileBlock {
    /// The first row and column of the layer's result, before any shuffling.
    row: isize,
    column: isize,
    tiles: usize,
}

/// Rows to write, and their columns counted from a block's first.
struct Targets {
    /// Null where a row is not computed.
    rows: [*mut f32; MAX_OUTPUT_ROWS],
    columns: Range<usize>,
}

impl<'a> Execution<'a> {
    fn extent(&self, boundary: usize) -> &'a BoundaryExtent {
        &self.task.region.extents[boundary]
    }

    fn layout(&self, boundary: usize) -> &'a BoundaryLayout {
        &self.task.layouts[self.task.region.layers.start + boundary]
    }

    /// The layer before a boundary.
    fn layer(&self, boundary: usize) -> &'a PackedLayer {
        &self.task.packed.layers[self.task.region.layers.start + boundary - 1]
    }

    /// The frame that a layer adds.
    fn skip(&self, layer: &PackedLayer) -> Option<RowBuffer> {
        layer.skip.and_then(|skip| self.task.frames[skip])
    }

    /// Computes the rows of a boundary up to `until`, group by group.
    fn compute(&mut self, boundary: usize, until: isize) {
        if boundary == 0 {
            self.read(until);
            return;
        }
        let layer = self.layer(boundary);
        let (step, pad) = (layer.step() as isize, layer.pad() as isize);
        let shuffle = layer.shuffle as isize;
        let last = boundary == self.task.region.layers.len();
        while self.next[boundary] * shuffle < until {
            // Between two groups of the result: the rings are consistent there.
            if last && self.task.interrupt.is_requested() {
                return;
            }
            let group = self.next[boundary];
            let needed = (group + step + pad).min(self.layout(boundary - 1).y.end);
            self.compute(boundary - 1, needed);
            match layer.algorithm {
                ConvAlgorithm::Quantized(ref weights) => self.quantized(boundary, weights, group),
                ConvAlgorithm::Winograd(variant) => self.winograd(boundary, variant, group),
                ConvAlgorithm::Split9x9 => self.split9x9(boundary, group),
                ConvAlgorithm::Direct => self.direct(boundary, group),
                ConvAlgorithm::DotProduct => self.dot_product(boundary, group),
                ConvAlgorithm::WinogradColumns(variant) => {
                    self.winograd_columns(boundary, variant, group);
                }
            }
            for row in group * shuffle..(group + step) * shuffle {
                self.fill_sides(boundary, row);
            }
            if self.task.region.last && last {
                for row in group..group + step {
                    self.emit(boundary, row);
                }
            }
            self.next[boundary] = group + step;
        }
    }

    /// Reads the rows of the input, if this segment begins there.
    fn read(&mut self, until: isize) {
        if self.task.region.layers.start > 0 {
            return;
        }
        let (planes, source) = (self.task.packed.planes, self.task.source);
        let (layout, extent) = (self.layout(0), self.extent(0));
        let beyond = -layout.x.start;
        let inner = |range: &Range<isize>, end: isize| {
            range.start.clamp(0, end - 1)..range.end.clamp(1, end)
        };
        let (width, height) = (layout.x.end - beyond, layout.y.end - beyond);
        let inside = inner(&extent.x, width);
        let x = inside.start as usize..inside.end as usize;
        while self.next[0] < until {
            let row = self.next[0];
            let y = row.clamp(0, height - 1) as usize;
            if self.task.packed.quantized {
                self.read_words(row, y, inside.clone());
                self.next[0] += 1;
                continue;
            }
            let pixels = self.rows[0].pixels(row, inside.clone());
            // SAFETY: pixels in memory; only this task has this ring.
            let pixels = unsafe { std::slice::from_raw_parts_mut(pixels, x.len() * planes) };
            let affine = &self.task.packed.input_affine;
            for (i, affine) in affine.chunks(GROUP).enumerate() {
                let Ok(affine) = <&[_; GROUP]>::try_from(affine) else {
                    break;
                };
                let lines = &mut self.scratch.lines[..GROUP * x.len()];
                for (plane, line) in (i * GROUP..).zip(lines.chunks_exact_mut(x.len())) {
                    source.row(plane, y, x.clone(), line);
                }
                bring_together(lines, affine, &mut pixels[i * GROUP..], planes);
            }
            let single = affine.len() / GROUP * GROUP;
            for (plane, &(scale, offset)) in affine.iter().enumerate().skip(single) {
                if planes == 1 {
                    source.row(plane, y, x.clone(), pixels);
                    pixels
                        .iter_mut()
                        .for_each(|value| *value = *value * scale + offset);
                    continue;
                }
                let line = &mut self.scratch.lines[..x.len()];
                source.row(plane, y, x.clone(), line);
                for (pixel, &value) in pixels.chunks_exact_mut(planes).zip(line.iter()) {
                    pixel[plane] = value * scale + offset;
                }
            }
            // Beyond the frame, but inside what a valid network computes.
            self.repeat(0, row, extent.x.start..inside.start, inside.start);
            self.repeat(0, row, inside.end..extent.x.end, inside.end - 1);
            self.fill_sides(0, row);
            self.next[0] += 1;
        }
    }

    /// Copies the pixel at `from` to some columns of a row.
    fn repeat(&self, boundary: usize, row: isize, columns: Range<isize>, from: isize) {
        let rows = &self.rows[boundary];
        let from = rows.pixels(row, from..from + 1);
        for column in columns {
            let to = rows.pixels(row, column..column + 1);
            // SAFETY: pixels in memory, two different ones.
            unsafe { std::ptr::copy_nonoverlapping(from, to, rows.stored()) }
        }
    }

    /// Writes what lies beyond the sides of a row, where the region reaches them.
    fn fill_sides(&self, boundary: usize, row: isize) {
        if self.task.packed.quantized {
            let layer = self.layer(boundary);
            if !layer.algorithm.writes_lines() {
                self.fill_sides_of_words(boundary, row);
            }
            return;
        }
        let (layout, rows) = (self.layout(boundary), &self.rows[boundary]);
        if !self.computes(boundary, row) {
            return;
        }
        for (columns, edge) in self.sides(boundary) {
            if layout.border == Border::Replicate {
                self.repeat(boundary, row, columns, edge);
                continue;
            }
            let count = (columns.end - columns.start) as usize * rows.stored();
            // SAFETY: pixels in memory.
            unsafe { rows.pixels(row, columns).write_bytes(0, count) }
        }
    }

    /// The columns beyond the sides that the region reaches, each with that at the edge.
    fn sides(&self, boundary: usize) -> impl Iterator<Item = (Range<isize>, isize)> + use<> {
        let (layout, extent) = (self.layout(boundary), self.extent(boundary));
        let memory = self.rows[boundary].columns();
        let left = memory.start..layout.x.start.min(extent.x.start);
        let right = layout.x.end.max(extent.x.end)..memory.end;
        let sides = [
            (left, extent.x.start <= layout.x.start, layout.x.start),
            (right, extent.x.end >= layout.x.end, layout.x.end - 1),
        ];
        let reached = |(columns, at_side, edge): (Range<isize>, bool, isize)| {
            (at_side && !columns.is_empty()).then_some((columns, edge))
        };
        sides.into_iter().filter_map(reached)
    }

    /// Whether a row is computed: it lies in the frame and, where other regions
    /// compute the rest of it, in this one.
    fn computes(&self, boundary: usize, row: isize) -> bool {
        let whole_frame = boundary == self.task.region.layers.len();
        match whole_frame {
            true => self.extent(boundary).y.contains(&row),
            false => self.layout(boundary).y.contains(&row),
        }
    }

    /// The first `count` rows that a layer reads from `row` on, pixels in memory.
    fn inputs(&self, boundary: usize, row: isize, columns: Range<isize>, count: usize) -> Inputs {
        let (layout, rows) = (self.layout(boundary - 1), &self.rows[boundary - 1]);
        let mut inputs = [std::ptr::null(); MAX_INPUT_ROWS];
        let halo = self.task.halo.filter(|_| boundary == 1);
        let own = self.task.region.own_rows();
        let first = self.extent(0).y.start;
        let pixels = |y: isize| {
            let columns = columns.clone();
            match &halo {
                Some(halo) if y < own.start => halo.pixels(y - first, columns),
                Some(halo) if y >= own.end => {
                    halo.pixels(y - first - (own.end - own.start), columns)
                }
                _ => rows.pixels(y, columns),
            }
        };
        let floats = (columns.end - columns.start) as usize * rows.stored();
        let zeros = &self.task.zeros[..floats];
        for (i, input) in inputs[..count].iter_mut().enumerate() {
            let y = row + i as isize;
            *input = match layout.border {
                _ if layout.y.contains(&y) => pixels(y).cast_const(),
                Border::Replicate => pixels(y.clamp(layout.y.start, layout.y.end - 1)).cast_const(),
                _ => zeros.as_ptr(),
            };
        }
        inputs
    }

    /// What follows a layer's sums, from a channel on.
    fn activation(layer: &PackedLayer, channel: usize) -> BiasActivation {
        let from = |values: &Vec<f32>| values[channel..].as_ptr();
        BiasActivation {
            bias: from(&layer.bias),
            slope: layer.slope.as_ref().map_or(std::ptr::null(), from),
        }
    }

    /// The blocks of a row of tiles.
    fn blocks(&self, boundary: usize, row: isize) -> impl Iterator<Item = TileBlock> + use<> {
        let (layer, columns) = (self.layer(boundary), self.extent(boundary).tiles.clone());
        let step = layer.step();
        let tiles = (columns.end - columns.start) as usize / step;
        let blocks = tiles.div_ceil(tiles_at_once(layer));
        (0..blocks).map(move |block| {
            let (first, end) = (block * tiles / blocks, (block + 1) * tiles / blocks);
            TileBlock {
                row,
                column: columns.start + (first * step) as isize,
                tiles: end - first,
            }
        })
    }

    /// A row of tiles, block by block.
    fn winograd(&mut self, boundary: usize, variant: Variant, group: isize) {
        let (layer, kernels) = (self.layer(boundary), self.task.kernels);
        let input = kernels.for_channels(layer.inputs);
        let output = kernels.for_channels(layer.outputs);
        let (n, m, pad) = (variant.points(), variant.outputs(), layer.pad() as isize);
        let (tile, pitch) = (transformed_tile(layer, variant), product_pitch(layer));
        for block in self.blocks(boundary, group) {
            let first = block.column - pad;
            let read = first..first + ((block.tiles - 1) * m + n) as isize;
            let inputs = self.inputs(boundary, group - pad, read, n);
            let transformed = self.scratch.transformed[..block.tiles * tile].as_mut_ptr();
            let products = self.scratch.products[..n * n * pitch].as_mut_ptr();
            // SAFETY: operands in memory.
            unsafe {
                (input.input_transform)(&InputTransform {
                    variant,
                    tables: &layer.tables,
                    rows: &inputs[..n],
                    channels: layer.inputs,
                    tiles: block.tiles,
                    out: transformed,
                    out_tile: tile,
                    out_point: layer.inputs,
                });
                (output.matmul)(&Matmul {
                    runs: &[transformed.cast_const()],
                    len: layer.inputs,
                    step: tile,
                    weights: layer.weights.as_ptr(),
                    channels: layer.outputs,
                    pixels: block.tiles,
                    out: products,
                    out_step: layer.outputs,
                    activation: None,
                    skip: std::ptr::null(),
                    batch: BatchStrides {
                        count: n * n,
                        input: layer.inputs,
                        weights: layer.inputs * layer.outputs,
                        out: pitch,
                    },
                });
            }
            self.transform_output(boundary, variant, block);
        }
    }

    /// Where a block of tiles is written, pixels in memory.
    fn targets(&self, boundary: usize, block: TileBlock) -> Targets {
        let (layer, rows) = (self.layer(boundary), &self.rows[boundary]);
        let x = &self.extent(boundary).x;
        let shuffle = layer.shuffle as isize;
        let relative = |column: isize| {
            let column = column / shuffle - block.column;
            column.clamp(0, (block.tiles * layer.step()) as isize)
        };
        let columns = relative(x.start)..relative(x.end);
        let mut targets = Targets {
            rows: [std::ptr::null_mut(); MAX_OUTPUT_ROWS],
            columns: columns.start as usize..columns.end as usize,
        };
        if columns.is_empty() {
            return targets;
        }
        let first = (block.column + columns.start) * shuffle;
        let end = (block.column + columns.end) * shuffle;
        // From the block's first column, which may be no pixel to write.
        let skipped = (columns.start * shuffle) as usize * rows.stored();
        let count = layer.step() * layer.shuffle;
        for (i, target) in targets.rows[..count].iter_mut().enumerate() {
            let row = block.row * shuffle + i as isize;
            if self.computes(boundary, row) {
                *target = rows.pixels(row, first..end).wrapping_sub(skipped);
            }
        }
        targets
    }

    /// From the products of a block of tiles to rows of the boundary.
    fn transform_output(&mut self, boundary: usize, variant: Variant, block: TileBlock) {
        let layer = self.layer(boundary);
        let (n, m, shuffle) = (variant.points(), variant.outputs(), layer.shuffle);
        let pitch = product_pitch(layer);
        let targets = self.targets(boundary, block);
        let Range { start, end } = targets.columns;
        if start == end {
            return;
        }
        let mut skips = [std::ptr::null(); 6];
        let skip = self.skip(layer);
        if let Some(frame) = &skip {
            let columns = block.column + start as isize..block.column + end as isize;
            for (i, skip) in skips[..m].iter_mut().enumerate() {
                let pixels = frame.pixels(block.row + i as isize, columns.clone());
                *skip = pixels.wrapping_sub(start * frame.stored()).cast_const();
            }
        }
        // SAFETY: operands in memory.
        unsafe {
            (self
                .task
                .kernels
                .for_channels(layer.stored())
                .output_transform)(&OutputTransform {
                variant,
                tables: &layer.tables,
                products: self.scratch.products[..n * n * pitch].as_ptr(),
                pitch,
                channels: layer.outputs,
                tiles: block.tiles,
                activation: Self::activation(layer, 0),
                skip: &skips[..if skip.is_some() { m } else { 0 }],
                shuffle,
                rows: &targets.rows[..m * shuffle],
                columns: targets.columns,
            });
        }
    }

    /// A row of tiles of a 9 x 9 kernel on planes.
    fn split9x9(&mut self, boundary: usize, group: isize) {
        let variant = Variant::F6x3;
        let (layer, kernels) = (self.layer(boundary), self.task.kernels);
        let (n, m, planes) = (variant.points(), variant.outputs(), layer.inputs);
        let columns = self.extent(boundary).tiles.clone();
        let tiles = (columns.end - columns.start) as usize / m;
        let pitch = window_pitch(tiles, planes);
        let first = group / 3;
        self.transform_windows(boundary, first, (columns.clone(), tiles, pitch));
        for block in self.blocks(boundary, group) {
            let skipped = (block.column - columns.start) as usize / 3 * planes;
            let runs =
                [0, 1, 2].map(|i| self.window_row(first + i, n * n * pitch)[skipped..].as_ptr());
            if planes == 1 {
                self.conv9x9(boundary, block, runs, pitch);
                continue;
            }
            let products = self.scratch.products[..n * n * product_pitch(layer)].as_mut_ptr();
            // SAFETY: operands in memory; the rows of windows have `pitch` floats
            // for each point.
            unsafe {
                (kernels.for_channels(layer.outputs).matmul)(&Matmul {
                    runs: &runs,
                    len: 3 * planes,
                    step: 2 * planes,
                    weights: layer.weights.as_ptr(),
                    channels: layer.outputs,
                    pixels: block.tiles,
                    out: products,
                    out_step: layer.outputs,
                    activation: None,
                    skip: std::ptr::null(),
                    batch: BatchStrides {
                        count: n * n,
                        input: pitch,
                        weights: 9 * planes * layer.outputs,
                        out: product_pitch(layer),
                    },
                });
            }
            self.transform_output(boundary, variant, block);
        }
    }

    /// A row of transformed windows, in its slot of the ring.
    fn window_row(&self, row: isize, floats: usize) -> &[f32] {
        &self.scratch.windows[window_slot(row, floats)]
    }

    /// Transforms the windows of a row of tiles that the ring does not hold
    /// yet. Rows of windows are three rows apart; a row of tiles takes three.
    fn transform_windows(
        &mut self,
        boundary: usize,
        first: isize,
        (columns, tiles, pitch): (Range<isize>, usize, usize),
    ) {
        let (layer, n) = (self.layer(boundary), Variant::F6x3.points());
        let (planes, pad) = (layer.inputs, layer.pad() as isize);
        let windows = 2 * tiles + 1;
        let known = self.next_window;
        for row in first.max(known)..first + 3 {
            let start = columns.start - pad;
            let read = start..start + (3 * (windows - 1) + n) as isize;
            let inputs = self.inputs(boundary, 3 * row - pad, read, n);
            let slot = window_slot(row, n * n * pitch);
            let is_next = row > first.max(known) || row == known;
            // SAFETY: operands in memory.
            unsafe {
                (self.task.kernels.transform_windows)(&WindowTransform {
                    tables: &layer.tables,
                    rows: &inputs[..n],
                    planes,
                    windows,
                    phases: self.scratch.phases[..2 * 3 * n * pitch].as_mut_ptr(),
                    phase_pitch: pitch,
                    slot: (3 * row).rem_euclid(n as isize) as usize,
                    new_rows: if is_next { 3 } else { n },
                    out: self.scratch.windows[slot].as_mut_ptr(),
                    pitch,
                });
            }
        }
        self.next_window = first + 3;
    }

    /// A block of tiles of luma, one group of channels after the other.
    fn conv9x9(&mut self, boundary: usize, block: TileBlock, runs: [*const f32; 3], pitch: usize) {
        let layer = self.layer(boundary);
        let targets = self.targets(boundary, block);
        if targets.columns.is_empty() {
            return;
        }
        for (channel, weights) in (0..layer.outputs).step_by(GROUP).zip(layer.groups()) {
            let mut rows = targets.rows;
            for row in rows.iter_mut().filter(|row| !row.is_null()) {
                *row = row.wrapping_add(channel);
            }
            let scratch = &mut self.scratch.products[..block.tiles * Conv9x9::SCRATCH];
            // SAFETY: operands in memory.
            unsafe {
                (self.task.kernels.conv9x9)(&Conv9x9 {
                    tables: &layer.tables,
                    runs,
                    pitch,
                    weights: weights.as_ptr(),
                    tiles: block.tiles,
                    scratch: scratch.as_mut_ptr(),
                    activation: Self::activation(layer, channel),
                    rows: &rows[..layer.step()],
                    pixel: layer.stored(),
                    columns: targets.columns.clone(),
                });
            }
        }
    }

    /// The rows that a layer without tiles reads for a row, or some, of its
    /// region.
    fn window(&self, boundary: usize, row: isize, count: usize) -> Inputs {
        let (pad, x) = (
            self.layer(boundary).pad() as isize,
            &self.extent(boundary).x,
        );
        self.inputs(boundary, row - pad, x.start - pad..x.end + pad, count)
    }

    /// A row, every result one sum.
    fn direct(&mut self, boundary: usize, row: isize) {
        if !self.computes(boundary, row) {
            return;
        }
        let (layer, x) = (self.layer(boundary), &self.extent(boundary).x);
        let inputs = self.window(boundary, row, layer.kernel);
        let skip = self.skip(layer);
        // SAFETY: operands in memory.
        unsafe {
            (self.task.kernels.for_channels(layer.outputs).matmul)(&Matmul {
                runs: &inputs[..layer.kernel],
                len: layer.kernel * layer.inputs,
                step: layer.inputs,
                weights: layer.weights.as_ptr(),
                channels: layer.outputs,
                pixels: (x.end - x.start) as usize,
                out: self.rows[boundary].pixels(row, x.clone()),
                out_step: layer.outputs,
                activation: Some(Self::activation(layer, 0)),
                skip: skip.map_or(std::ptr::null(), |frame| {
                    frame.pixels(row, x.clone()).cast_const()
                }),
                batch: BatchStrides::SINGLE,
            });
        }
    }

    /// A row of the result, summed along the vectors into dense lines.
    fn dot_product(&mut self, boundary: usize, row: isize) {
        if !self.computes(boundary, row) {
            return;
        }
        let (layer, x) = (self.layer(boundary), &self.extent(boundary).x);
        let inputs = self.window(boundary, row, layer.kernel);
        let pixels = (x.end - x.start) as usize;
        let mut out = [std::ptr::null_mut(); MAX_DOT_CHANNELS];
        let lines = self
            .scratch
            .lines
            .chunks_exact_mut(pixels.next_multiple_of(GROUP));
        for (out, line) in out[..layer.outputs].iter_mut().zip(lines) {
            *out = line.as_mut_ptr();
        }
        // SAFETY: operands in memory; a line for each channel.
        unsafe {
            (self.task.kernels.for_channels(layer.inputs).dot_product)(&DotProduct {
                rows: &inputs[..layer.kernel],
                len: layer.kernel * layer.inputs,
                step: layer.inputs,
                weights: layer.weights.as_ptr(),
                bias: &layer.bias,
                pixels,
                out: &out[..layer.outputs],
            });
        }
    }

    /// Rows of the result, summed along the vectors into dense lines.
    fn winograd_columns(&mut self, boundary: usize, variant: Variant, group: isize) {
        let (layer, x) = (self.layer(boundary), &self.extent(boundary).x);
        let kernels = layer.kernels(variant);
        let count = (kernels - 1) * variant.kernel() + variant.points();
        let inputs = self.window(boundary, group, count);
        let pixels = (x.end - x.start) as usize;
        let (len, pitch) = (layer.kernel * layer.inputs, pixels.next_multiple_of(GROUP));
        let transformed = WinogradColumns::transformed_floats(variant, kernels, len, layer.inputs);
        let products = WinogradColumns::product_floats(variant, layer.outputs);
        let lines = variant.outputs() * layer.outputs * pitch;
        // SAFETY: operands in memory.
        unsafe {
            (self
                .task
                .kernels
                .for_channels(layer.inputs)
                .winograd_columns)(&WinogradColumns {
                variant,
                tables: &layer.tables,
                rows: &inputs[..count],
                kernels,
                len,
                step: layer.inputs,
                weights: layer.weights.as_ptr(),
                bias: &layer.bias,
                pixels,
                transformed: self.scratch.transformed[..transformed].as_mut_ptr(),
                products: self.scratch.products[..products].as_mut_ptr(),
                out: self.scratch.lines[..lines].as_mut_ptr(),
                pitch,
            });
        }
    }

    /// Hands a row of the result to the sink, after the chain's epilogue.
    fn emit(&mut self, boundary: usize, row: isize) {
        if !self.computes(boundary, row) {
            return;
        }
        let (layer, packed) = (self.layer(boundary), self.task.packed);
        let x = self.extent(boundary).x.clone();
        let (pixels, r) = ((x.end - x.start) as usize, packed.shuffle);
        // Dense lines of the channels, or pixels of all channels.
        let is_dense = layer.algorithm.writes_lines();
        let pitch = pixels.next_multiple_of(GROUP);
        let first_line = match is_dense {
            true => row.rem_euclid(layer.step() as isize) as usize * layer.outputs * pitch,
            false => 0,
        };
        let stored: &[f32] = match is_dense {
            true => &[],
            false => {
                let start = self.rows[boundary].pixels(row, x.clone());
                // SAFETY: pixels in memory, of a ring that only this task has.
                unsafe { std::slice::from_raw_parts(start, pixels * layer.outputs) }
            }
        };
        // The pixels of the input, where the ring still holds them.
        let input = packed.residual_at_hand().then(|| {
            let start = self.rows[0].pixels(row, x.clone());
            // SAFETY: pixels in memory, of a ring that only this task has.
            unsafe { std::slice::from_raw_parts(start, pixels * packed.planes) }
        });
        let Scratch {
            lines,
            output,
            nearest,
            ..
        } = &mut self.scratch;
        let lines = &mut lines[first_line..];
        // Channels that are no planes of a square, a group at a time.
        let grouped = match !is_dense && r == 1 {
            true => packed.outputs / GROUP * GROUP,
            false => 0,
        };
        for first in (0..grouped).step_by(GROUP) {
            let lines = &mut lines[..GROUP * pixels];
            divide(&stored[first..], layer.outputs, lines);
            for (plane, line) in (first..).zip(lines.chunks_exact_mut(pixels)) {
                let out = OutputRow {
                    plane,
                    y: row as usize,
                    x: x.start as usize,
                };
                packed.apply_epilogue(&out, line, (self.task.source, input), nearest);
                // SAFETY: disjoint stores, as below.
                unsafe { self.task.sink.store(plane, out.y, out.x, line) };
            }
        }
        for plane in grouped..packed.outputs {
            for dy in 0..r {
                let line = if is_dense && r == 1 {
                    &mut lines[plane * pitch..][..pixels]
                } else {
                    let line = &mut output[..pixels * r];
                    let of_row = (plane * r + dy) * r * pitch;
                    match r {
                        2 if is_dense => interleave::<2>(&lines[of_row..], pitch, line),
                        3 if is_dense => interleave::<3>(&lines[of_row..], pitch, line),
                        4 if is_dense => interleave::<4>(&lines[of_row..], pitch, line),
                        _ => {
                            for dx in 0..r {
                                let channel = (plane * r + dy) * r + dx;
                                for (x, value) in line[dx..].iter_mut().step_by(r).enumerate() {
                                    *value = match is_dense {
                                        true => lines[channel * pitch + x],
                                        false => stored[x * layer.outputs + channel],
                                    };
                                }
                            }
                        }
                    }
                    line
                };
                let out = OutputRow {
                    plane,
                    y: row as usize * r + dy,
                    x: x.start as usize * r,
                };
                packed.apply_epilogue(&out, line, (self.task.source, input), nearest);
                // SAFETY: disjoint stores: regions are disjoint, and a task
                // stores a row of its region once.
                unsafe { self.task.sink.store(plane, out.y, out.x, line) };
            }
        }
    }
}

/// The samples of a group of lines, each scaled and moved, as pixels of `step` values.
fn bring_together(lines: &[f32], affine: &[(f32, f32); GROUP], pixels: &mut [f32], step: usize) {
    let count = lines.len() / GROUP;
    let lines: [&[f32]; GROUP] = std::array::from_fn(|i| &lines[i * count..][..count]);
    for (x, pixel) in pixels.chunks_mut(step).take(count).enumerate() {
        if let Some(pixel) = pixel.first_chunk_mut::<GROUP>() {
            *pixel = std::array::from_fn(|i| lines[i][x] * affine[i].0 + affine[i].1);
        }
    }
}

/// The first group of values of pixels of `step` values, as lines.
fn divide(pixels: &[f32], step: usize, lines: &mut [f32]) {
    let count = lines.len() / GROUP;
    for (i, line) in lines.chunks_exact_mut(count).enumerate() {
        for (value, pixel) in line.iter_mut().zip(pixels.chunks(step)) {
            *value = pixel[i];
        }
    }
}

/// The samples of `R` lines, `pitch` apart, one by one.
fn interleave<const R: usize>(lines: &[f32], pitch: usize, out: &mut [f32]) {
    let (pixels, _) = out.as_chunks_mut::<R>();
    let count = pixels.len();
    let lines: [&[f32]; R] = std::array::from_fn(|i| &lines[i * pitch..][..count]);
    for (i, pixel) in pixels.iter_mut().enumerate() {
        *pixel = std::array::from_fn(|line| lines[line][i]);
    }
}

/// Where a row of transformed windows lies in the ring.
fn window_slot(row: isize, floats: usize) -> Range<usize> {
    let slot = row.rem_euclid(WINDOW_ROWS as isize) as usize;
    slot * floats..(slot + 1) * floats
}

/// The rows that a group of rows reads.
type Inputs = [*const f32; MAX_INPUT_ROWS];
