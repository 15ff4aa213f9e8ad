//! One region of a frame on its way through the layers of a segment.

use super::io::{Sink, Source};
use super::kernels::{
    Columns, Dots, FEW, Finish, FromPoints, GROUP, Loops, Matmul, Nines, Repeat, ToPoints, Windows,
};
use super::pack::{Layer, Method, PackedChain};
use crate::chain::winograd::Variant;
use crate::ops::Border;
use std::ops::Range;

/// Pixels that the products take at once, two groups of channels each.
const BLOCK: usize = 12;

/// Columns that rows of whole frames have beyond both sides: what a kernel
/// and the last tile reach.
const MARGIN: isize = 16;

/// Rows of windows that are kept: a row of tiles takes three.
const WINDOW_ROWS: isize = 4;

/// Floats between the points of tiles, against conflicts in the cache.
const SPREAD: usize = GROUP;

/// Where a boundary between layers lies: its samples, columns and rows, and
/// what stands beyond them.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Columns, then rows, that the network computes. They begin before 0
    /// where its border is valid.
    x: Range<isize>,
    y: Range<isize>,
    /// Values of a pixel.
    stored: usize,
    /// What the next layer sees beyond.
    border: Border,
}

impl Shape {
    /// Width and height without what lies before 0.
    pub(super) fn size(&self) -> (usize, usize) {
        let inner = |range: &Range<isize>| (range.end + range.start).max(0) as usize;
        (inner(&self.x), inner(&self.y))
    }

    fn pitch(&self) -> usize {
        (self.x.end - self.x.start + 2 * MARGIN) as usize * self.stored
    }

    /// Floats of the whole frame, with room to align it.
    pub(super) fn frame_len(&self) -> usize {
        self.pitch() * (self.y.end - self.y.start) as usize + GROUP
    }

    /// The rows of the whole frame from `start` on.
    pub(super) fn frame(&self, start: *mut f32) -> Rows {
        Rows {
            data: align(start),
            pitch: self.pitch(),
            slots: self.y.end - self.y.start,
            first: self.x.start - MARGIN,
            end: self.x.end + MARGIN,
            stored: self.stored,
        }
    }
}

/// The shapes of a chain's boundaries for an input of that size.
pub(super) fn shapes(layers: &[Layer], (width, height): (usize, usize)) -> Vec<Shape> {
    let valid = layers.first().is_some_and(|l| l.border == Border::Valid);
    let mut beyond = match valid {
        true => layers.iter().map(|l| l.pad() as isize).sum(),
        false => 0,
    };
    let (mut w, mut h) = (width as isize, height as isize);
    let mut shapes = Vec::new();
    for i in 0..=layers.len() {
        let stored = match i.checked_sub(1) {
            Some(before) => layers[before].stored(),
            None => layers[0].inputs,
        };
        shapes.push(Shape {
            x: -beyond..w + beyond,
            y: -beyond..h + beyond,
            stored,
            border: layers.get(i).map_or(Border::Zero, |l| l.border),
        });
        if let Some(layer) = layers.get(i) {
            (w, h) = (w * layer.shuffle as isize, h * layer.shuffle as isize);
            beyond -= if valid { layer.pad() as isize } else { 0 };
        }
    }
    shapes
}

/// Rows in memory: a ring of some, or all of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    data: *mut f32,
    pitch: usize,
    slots: isize,
    /// Columns from and to which there is memory.
    first: isize,
    end: isize,
    stored: usize,
}

// SAFETY: tasks write disjoint columns and rows of whole frames, and read only
// what an earlier segment wrote.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    /// Where a pixel lies; its column may be outside, to be moved back in.
    fn at(&self, y: isize, x: isize) -> *mut f32 {
        let row = y.rem_euclid(self.slots) as usize * self.pitch;
        let column = (x - self.first) * self.stored as isize;
        self.data.wrapping_add(row).wrapping_offset(column)
    }
}

/// What a thread works in.
#[derive(Debug)]
pub(super) struct Memory {
    floats: Vec<f32>,
    rows: Vec<Rows>,
    /// The next group of rows of each layer.
    next: Vec<isize>,
    next_window: isize,
}

impl Memory {
    pub(super) fn new(floats: usize) -> Self {
        Self {
            floats: vec![0.0; floats],
            rows: Vec::new(),
            next: Vec::new(),
            next_window: isize::MIN,
        }
    }

    pub(super) fn floats(&self) -> usize {
        self.floats.len()
    }
}

/// The next multiple of a vector's size.
fn align(start: *mut f32) -> *mut f32 {
    let bytes = GROUP * size_of::<f32>();
    start.wrapping_add(start.align_offset(bytes).min(GROUP))
}

/// Of one boundary in one region: what is made, and where it is kept.
#[derive(Debug, Clone)]
struct Span {
    /// Columns that are made.
    x: Range<isize>,
    /// Rows that are wanted.
    y: Range<isize>,
    /// Columns of the layer's tiles before any shuffling, whole tiles.
    tiles: Range<isize>,
    /// Its first group of rows.
    start: isize,
    /// Columns in memory.
    memory: Range<isize>,
    slots: isize,
    /// Where its ring lies in the thread's memory.
    at: usize,
}

/// A part of a segment's result and what it takes to make it.
#[derive(Debug)]
pub(super) struct Region {
    layers: Range<usize>,
    last: bool,
    spans: Vec<Span>,
    /// Offsets in the thread's memory.
    points: usize,
    products: usize,
    windows: usize,
    phases: usize,
    lines: usize,
    result: usize,
    nearest: usize,
    pub(super) floats: usize,
    /// Floats of the longest row.
    pub(super) longest: usize,
    /// Where the rows of the input beside the region are kept, and that
    /// boundary's shape, if the result is written over the input.
    beside: Option<(usize, Shape)>,
}

/// The memory of the rows beside all regions.
#[derive(Clone, Copy)]
pub(super) struct Beside(pub(super) *mut f32);

// SAFETY: written before the tasks of a segment run, and only read by them.
unsafe impl Send for Beside {}
// SAFETY: as above.
unsafe impl Sync for Beside {}

/// Tiles that go through a layer together: their points fit the cache, and
/// are what the products take at once.
fn block(layer: &Layer) -> usize {
    match (&layer.method, layer.inputs, layer.outputs) {
        (Method::Windows, 1, _) => NARROW,
        (_, _, GROUP) => 2 * BLOCK,
        _ => BLOCK,
    }
}

/// Tiles of luma that fit the first-level cache, one group of channels at a time.
const NARROW: usize = 8;

/// The most rows that a group of tiles makes, shuffled.
const MOST: usize = 4 * 6;

fn down(value: isize, step: usize) -> isize {
    value.div_euclid(step as isize) * step as isize
}

fn up(value: isize, step: usize) -> isize {
    -down(-value, step)
}

/// Rows that a ring holds between two layers: made `made` at a time, read
/// `step` at a time with `pad` on both sides.
fn ring_rows(made: usize, step: usize, pad: usize) -> isize {
    let (pad, period) = (pad as isize, (made * step) as isize);
    let groups = (0..period).step_by(step);
    let rows = groups.map(|g| up(g + step as isize + pad, made) - (g - pad));
    rows.max().unwrap_or(0)
}

/// Floats that all rings of a segment hold for one column of its result.
pub(super) fn ring_floats(packed: &PackedChain, layers: &Range<usize>) -> usize {
    let chain = &packed.layers[layers.clone()];
    let factor: usize = chain.iter().map(|layer| layer.shuffle).product();
    let pairs = chain.windows(2);
    let floats = pairs.map(|pair| {
        let made = pair[0].step() * pair[0].shuffle;
        let rows = ring_rows(made, pair[1].step(), pair[1].pad());
        rows as usize * pair[0].stored()
    });
    // Before the last shuffle there are fewer columns; this counts too many.
    floats.sum::<usize>() / if factor > 1 { 2 } else { 1 }
}

/// Hands out parts of a thread's memory.
struct Allocator(usize);

impl Allocator {
    fn take(&mut self, floats: usize) -> usize {
        let at = self.0;
        self.0 += floats.next_multiple_of(GROUP);
        at
    }
}

impl Region {
    /// The region of `area` (columns, rows) of the result of `layers`.
    pub(super) fn new(
        packed: &PackedChain,
        shapes: &[Shape],
        layers: &Range<usize>,
        area: (Range<usize>, Range<usize>),
    ) -> Self {
        let all = &packed.layers;
        let count = layers.len();
        let last = layers.end == all.len();
        let signed = |range: &Range<usize>| range.start as isize..range.end as isize;
        let (mut x, mut y) = (signed(&area.0), signed(&area.1));
        let mut memory = x.clone();
        let mut slots = 0;
        let mut spans = Vec::new();
        for boundary in (0..=count).rev() {
            if boundary == 0 {
                spans.push(Span {
                    tiles: x.clone(),
                    start: y.start,
                    x,
                    y,
                    memory,
                    slots,
                    at: 0,
                });
                break;
            }
            let layer = &all[layers.start + boundary - 1];
            let (step, pad) = (layer.step(), layer.pad() as isize);
            let shuffle = layer.shuffle as isize;
            // Whole squares of the shuffle.
            let x_made = down(x.start, layer.shuffle)..up(x.end, layer.shuffle);
            let tiles = down(x_made.start / shuffle, step)..up(x_made.end / shuffle, step);
            let start = down(y.start.div_euclid(shuffle), step);
            let rows_end = up(up(y.end, layer.shuffle) / shuffle, step);
            let own_step = step as isize * shuffle;
            let held = memory.start.min(x_made.start)..memory.end.max(x_made.end);
            spans.push(Span {
                x: x_made,
                y: y.clone(),
                tiles: tiles.clone(),
                start,
                memory: held,
                slots: slots.max(own_step),
                at: 0,
            });
            let before = &shapes[layers.start + boundary - 1];
            memory = tiles.start - pad..tiles.end + pad;
            let clip = |range: Range<isize>, within: &Range<isize>| {
                range.start.max(within.start)..range.end.min(within.end)
            };
            x = clip(memory.clone(), &before.x);
            y = clip(start - pad..rows_end + pad, &before.y);
            let made = match boundary {
                1 => 1,
                _ => {
                    let maker = &all[layers.start + boundary - 2];
                    maker.step() * maker.shuffle
                }
            };
            slots = ring_rows(made, step, layer.pad());
        }
        spans.reverse();
        if layers.start == 0 && packed.adds_input() {
            // The input waits until its row of the result is there.
            let waits = all.iter().map(|layer| 2 * (layer.step() + layer.pad()));
            spans[0].slots += waits.sum::<usize>() as isize;
        }
        let mut allocator = Allocator(0);
        let whole_input = layers.start > 0;
        let (mut widest, mut points, mut products) = (0, 0, 0);
        let (mut windows, mut phases, mut lines) = (0, 0, 0);
        for (i, span) in spans.iter_mut().enumerate() {
            let stored = shapes[layers.start + i].stored;
            let columns = (span.memory.end - span.memory.start) as usize;
            // A row of whole vectors, and one to read beyond it.
            let row = (columns * stored).next_multiple_of(GROUP) + GROUP;
            widest = widest.max(row);
            let kept = (i > 0 || !whole_input) && (i < count || last);
            if kept {
                span.at = allocator.take(span.slots as usize * row);
            }
            if i == 0 {
                continue;
            }
            let layer = &all[layers.start + i - 1];
            let tiles = (span.tiles.end - span.tiles.start) as usize / layer.step();
            match layer.method {
                Method::Winograd(variant) => {
                    let n = variant.points();
                    points = points.max(block(layer) * (n * n * layer.inputs + SPREAD));
                    products = products.max(n * n * (block(layer) * layer.outputs + SPREAD));
                }
                Method::Windows => {
                    let n = Variant::F6x3.points();
                    products = products.max(match layer.inputs {
                        1 => block(layer) * Nines::ROOM,
                        _ => n * n * (block(layer) * layer.outputs + SPREAD),
                    });
                    windows = WINDOW_ROWS as usize * n * n * window_pitch(tiles, layer.inputs);
                    phases = 2 * 3 * n * window_pitch(tiles, layer.inputs);
                }
                Method::Columns(variant) => {
                    let (kernels, len) = (layer.kernels(variant), layer.kernel * layer.inputs);
                    points = points.max(Columns::points(variant, kernels, len, layer.inputs));
                    products = products.max(Columns::products(variant, layer.outputs));
                    lines = variant.outputs() * layer.outputs;
                }
                Method::Dots => lines = layer.outputs,
                Method::Direct => {}
            }
        }
        let width = (area.0.end - area.0.start).next_multiple_of(GROUP);
        Self {
            layers: layers.clone(),
            last,
            points: allocator.take(points),
            products: allocator.take(products),
            windows: allocator.take(windows),
            phases: allocator.take(phases),
            nearest: allocator.take(width + GROUP),
            lines: allocator.take(widest.max(lines * width)),
            result: allocator.take(width * packed.shuffle),
            spans,
            // The memory is used from its first aligned place on.
            floats: allocator.0 + GROUP,
            longest: widest,
            beside: None,
        }
    }

    /// Lets the region read the rows of its input above and below it from
    /// memory of their own, from `at` on: other regions write over them.
    /// Returns the floats that this takes.
    pub(super) fn keep_beside(&mut self, shape: &Shape, at: usize) -> usize {
        self.beside = Some((at, shape.clone()));
        self.rows_beside().count() * shape.pitch() + GROUP
    }

    /// The rows of the input that lie above and below the region.
    fn rows_beside(&self) -> impl Iterator<Item = isize> {
        let input = self.spans.first().map_or(0..0, |span| span.y.clone());
        let own = self.own_rows();
        input.filter(move |y| !own.contains(y))
    }

    /// The rows of the result.
    fn own_rows(&self) -> Range<isize> {
        self.spans.last().map_or(0..0, |span| span.y.clone())
    }

    /// The rows beside the region, one after the other.
    fn beside(&self, memory: Beside) -> Option<Rows> {
        self.beside.as_ref().map(|(at, shape)| Rows {
            slots: self.rows_beside().count() as isize,
            ..shape.frame(memory.0.wrapping_add(*at))
        })
    }

    /// Copies the rows beside the region, if it reads them from there.
    pub(super) fn save_beside(&self, frames: &[Option<Rows>], memory: Beside) {
        let frame = frames[self.layers.start];
        let (Some(to), Some(from)) = (self.beside(memory), frame) else {
            return;
        };
        let pitch = from.pitch;
        for (slot, y) in self.rows_beside().enumerate() {
            let (from, to) = (from.at(y, from.first), to.at(slot as isize, to.first));
            // SAFETY: both rows have that many floats, and nothing runs yet
            // that writes to the frame.
            unsafe { std::ptr::copy_nonoverlapping(from, to, pitch) }
        }
    }
}

/// The most rows that a group of rows reaches: three kernels of F(6x6, 3x3),
/// one below the other.
const MAX_ROWS: usize = 2 * 3 + 8;

/// Floats of a row of windows: two for a tile, one more, and those that the
/// last one reaches. An odd number of groups, so that the points of a window
/// lie in different sets of the cache.
fn window_pitch(tiles: usize, planes: usize) -> usize {
    let groups = ((2 * tiles + 4) * planes).div_ceil(GROUP) + 1;
    (groups | 1) * GROUP
}

/// A region's run.
pub(super) struct Task<'a> {
    pub(super) packed: &'a PackedChain,
    pub(super) loops: &'static Loops,
    pub(super) shapes: &'a [Shape],
    pub(super) frames: &'a [Option<Rows>],
    pub(super) beside: Beside,
    /// A row of zeros, as long as the longest.
    pub(super) zeros: &'a [f32],
    pub(super) region: &'a Region,
    pub(super) source: &'a dyn Source,
    pub(super) sink: &'a dyn Sink,
}

impl Task<'_> {
    /// Makes the region's rows, from its first to its last.
    pub(super) fn run(&self, memory: &mut Memory) {
        let start = align(memory.floats.as_mut_ptr());
        let Region { layers, spans, .. } = self.region;
        memory.rows.clear();
        memory.next.clear();
        memory.next_window = isize::MIN;
        for (i, span) in spans.iter().enumerate() {
            let boundary = layers.start + i;
            memory.rows.push(match self.frames[boundary] {
                Some(frame) => frame,
                None => {
                    let stored = self.shapes[boundary].stored;
                    let columns = (span.memory.end - span.memory.start) as usize;
                    Rows {
                        data: start.wrapping_add(span.at),
                        pitch: (columns * stored).next_multiple_of(GROUP) + GROUP,
                        slots: span.slots,
                        first: span.memory.start,
                        end: span.memory.end,
                        stored,
                    }
                }
            });
            memory.next.push(span.start);
        }
        let mut state = State {
            task: self,
            start,
            rows: &memory.rows,
            beside: self.region.beside(self.beside),
            next: &mut memory.next,
            next_window: &mut memory.next_window,
        };
        let end = spans.last().map_or(0, |span| span.y.end);
        state.make(layers.len(), end);
    }
}

/// Where a task stands.
struct State<'a> {
    task: &'a Task<'a>,
    start: *mut f32,
    rows: &'a [Rows],
    /// The rows of the input above and below the region, where they are kept apart.
    beside: Option<Rows>,
    next: &'a mut [isize],
    next_window: &'a mut isize,
}

impl<'a> State<'a> {
    fn span(&self, boundary: usize) -> &'a Span {
        &self.task.region.spans[boundary]
    }

    fn shape(&self, boundary: usize) -> &'a Shape {
        &self.task.shapes[self.task.region.layers.start + boundary]
    }

    fn layer(&self, boundary: usize) -> &'a Layer {
        &self.task.packed.layers[self.task.region.layers.start + boundary - 1]
    }

    /// Makes the rows of a boundary up to `until`, group by group.
    fn make(&mut self, boundary: usize, until: isize) {
        if boundary == 0 {
            self.read(until);
            return;
        }
        let layer = self.layer(boundary);
        let (step, pad) = (layer.step() as isize, layer.pad() as isize);
        let shuffle = layer.shuffle as isize;
        while self.next[boundary] * shuffle < until {
            let group = self.next[boundary];
            let needed = (group + step + pad).min(self.shape(boundary - 1).y.end);
            self.make(boundary - 1, needed);
            match self.layer(boundary).method {
                Method::Winograd(variant) => self.winograd(boundary, variant, group),
                Method::Windows => self.windows(boundary, group),
                Method::Direct => self.direct(boundary, group),
                Method::Dots => self.dots(boundary, group),
                Method::Columns(variant) => self.columns(boundary, variant, group),
            }
            for row in group * shuffle..(group + step) * shuffle {
                self.fill_sides(boundary, row);
            }
            if self.task.region.last && boundary == self.task.region.layers.len() {
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
        let planes = self.task.packed.planes;
        let (shape, span) = (self.shape(0), self.span(0));
        let lines = self.start.wrapping_add(self.task.region.lines);
        let beyond = -shape.x.start;
        let inner = |range: &Range<isize>, end: isize| {
            range.start.clamp(0, end - 1)..range.end.clamp(1, end)
        };
        let (width, height) = (shape.x.end - beyond, shape.y.end - beyond);
        let known = inner(&span.x, width);
        let columns = (known.end - known.start) as usize;
        while self.next[0] < until {
            let row = self.next[0];
            let y = row.clamp(0, height - 1) as usize;
            let out = self.rows[0].at(row, known.start);
            let x = known.start as usize..known.end as usize;
            for (plane, &(scale, offset)) in self.task.packed.input.iter().enumerate() {
                // SAFETY: a line has room for a row of the region, and the row
                // itself has all columns of the span; neither is used elsewhere.
                unsafe {
                    if planes == 1 {
                        let row = std::slice::from_raw_parts_mut(out, columns);
                        self.task.source.row(plane, y, x.clone(), row);
                        row.iter_mut()
                            .for_each(|value| *value = *value * scale + offset);
                    } else {
                        let line = std::slice::from_raw_parts_mut(lines, columns);
                        self.task.source.row(plane, y, x.clone(), line);
                        for (i, &value) in line.iter().enumerate() {
                            *out.add(i * planes + plane) = value * scale + offset;
                        }
                    }
                }
            }
            // Beyond the frame, but inside what a valid network computes.
            self.repeat(0, row, span.x.start..known.start, known.start);
            self.repeat(0, row, known.end..span.x.end, known.end - 1);
            self.fill_sides(0, row);
            self.next[0] += 1;
        }
    }

    /// Copies the pixel at `from` to some columns of a row.
    fn repeat(&self, boundary: usize, row: isize, columns: Range<isize>, from: isize) {
        let rows = &self.rows[boundary];
        for column in columns {
            // SAFETY: both columns are in the row's memory.
            unsafe {
                let (from, to) = (rows.at(row, from), rows.at(row, column));
                std::ptr::copy_nonoverlapping(from, to, rows.stored);
            }
        }
    }

    /// Writes what lies beyond the sides of a row, where the region reaches them.
    fn fill_sides(&self, boundary: usize, row: isize) {
        let (shape, span, rows) = (
            self.shape(boundary),
            self.span(boundary),
            &self.rows[boundary],
        );
        if !self.wanted(boundary, row) {
            return;
        }
        let left = rows.first..shape.x.start.min(span.x.start);
        let right = shape.x.end.max(span.x.end)..rows.end;
        for (columns, at_side, edge) in [
            (left, span.x.start <= shape.x.start, shape.x.start),
            (right, span.x.end >= shape.x.end, shape.x.end - 1),
        ] {
            if !at_side || columns.is_empty() {
                continue;
            }
            if shape.border == Border::Replicate {
                self.repeat(boundary, row, columns, edge);
                continue;
            }
            let count = (columns.end - columns.start) as usize * rows.stored;
            // SAFETY: the columns are in the row's memory.
            unsafe { rows.at(row, columns.start).write_bytes(0, count) }
        }
    }

    /// Whether a row is made: it lies in the frame and, where others make the
    /// rest of it, in the region.
    fn wanted(&self, boundary: usize, row: isize) -> bool {
        let whole_frame = boundary == self.task.region.layers.len();
        match whole_frame {
            true => self.span(boundary).y.contains(&row),
            false => self.shape(boundary).y.contains(&row),
        }
    }

    /// Where the inputs of a layer lie: the rows of its window at `row`, from
    /// a column on.
    fn inputs(&self, boundary: usize, row: isize, column: isize, count: usize) -> Inputs {
        let (shape, rows) = (self.shape(boundary - 1), &self.rows[boundary - 1]);
        let mut inputs = [std::ptr::null(); MAX_ROWS];
        let beside = self.beside.filter(|_| boundary == 1);
        let own = self.task.region.own_rows();
        let input = self.span(0).y.start;
        let at = |y: isize| match &beside {
            Some(rows) if y < own.start => rows.at(y - input, column),
            Some(rows) if y >= own.end => rows.at(y - input - (own.end - own.start), column),
            _ => rows.at(y, column),
        };
        for (i, input) in inputs[..count].iter_mut().enumerate() {
            let y = row + i as isize;
            *input = match shape.border {
                _ if shape.y.contains(&y) => at(y).cast_const(),
                Border::Replicate => at(y.clamp(shape.y.start, shape.y.end - 1)).cast_const(),
                _ => self.task.zeros.as_ptr(),
            };
        }
        inputs
    }

    /// What is done to a layer's channels from one on.
    fn finish(layer: &Layer, channel: usize) -> Finish {
        let from = |values: &Vec<f32>| values[channel..].as_ptr();
        Finish {
            bias: from(&layer.bias),
            slope: layer.slope.as_ref().map_or(std::ptr::null(), from),
        }
    }

    /// A row of tiles, block by block.
    fn winograd(&self, boundary: usize, variant: Variant, group: isize) {
        let layer = self.layer(boundary);
        let (n, pad) = (variant.points(), layer.pad() as isize);
        let points = self.start.wrapping_add(self.task.region.points);
        let products = self.start.wrapping_add(self.task.region.products);
        let tile_pitch = n * n * layer.inputs + SPREAD;
        let pitch = block(layer) * layer.outputs + SPREAD;
        self.blocks(boundary, |first, tiles| {
            let inputs = self.inputs(boundary, group - pad, first - pad, n);
            // SAFETY: the region's memory was laid out for these sizes, and
            // the rows reach a kernel beyond the tiles on both sides.
            unsafe {
                (self.task.loops.to_points)(&ToPoints {
                    variant,
                    tables: &layer.tables,
                    rows: &inputs[..n],
                    channels: layer.inputs,
                    tiles,
                    out: points,
                    out_tile: tile_pitch,
                });
                (self.task.loops.matmul)(&Matmul {
                    runs: &[points.cast_const()],
                    len: layer.inputs,
                    step: tile_pitch,
                    weights: layer.weights.as_ptr(),
                    channels: layer.outputs,
                    pixels: tiles,
                    out: products,
                    out_step: layer.outputs,
                    finish: None,
                    skip: std::ptr::null(),
                    repeat: Repeat {
                        count: n * n,
                        input: layer.inputs,
                        weights: layer.inputs * layer.outputs,
                        out: pitch,
                    },
                });
            }
            self.interpolate(boundary, variant, group, first, tiles);
        });
    }

    /// Calls `f` with the first column and the number of the tiles of each block.
    fn blocks(&self, boundary: usize, f: impl Fn(isize, usize)) {
        let layer = self.layer(boundary);
        let m = layer.step();
        let columns = self.span(boundary).tiles.clone();
        let tiles = (columns.end - columns.start) as usize / m;
        let blocks = tiles.div_ceil(block(layer));
        for block in 0..blocks {
            let (first, end) = (block * tiles / blocks, (block + 1) * tiles / blocks);
            f(columns.start + (first * m) as isize, end - first);
        }
    }

    /// Where the rows that a group of tiles makes lie, from the first tile on;
    /// null where they are not wanted.
    fn targets(&self, boundary: usize, group: isize, first: isize) -> [*mut f32; MOST] {
        let (layer, rows) = (self.layer(boundary), &self.rows[boundary]);
        let shuffle = layer.shuffle as isize;
        let mut targets = [std::ptr::null_mut(); MOST];
        for (i, target) in targets[..layer.step() * layer.shuffle]
            .iter_mut()
            .enumerate()
        {
            let row = group * shuffle + i as isize;
            if self.wanted(boundary, row) {
                *target = rows.at(row, first * shuffle);
            }
        }
        targets
    }

    /// The columns that are wanted of a block of tiles, from its first on.
    fn columns_of(&self, boundary: usize, first: isize, tiles: usize) -> Range<usize> {
        let (layer, x) = (self.layer(boundary), &self.span(boundary).x);
        let relative = |column: isize| {
            let column = column / layer.shuffle as isize - first;
            column.clamp(0, (tiles * layer.step()) as isize) as usize
        };
        relative(x.start)..relative(x.end)
    }

    /// From the products of a block of tiles to rows of the boundary.
    fn interpolate(
        &self,
        boundary: usize,
        variant: Variant,
        group: isize,
        first: isize,
        tiles: usize,
    ) {
        let layer = self.layer(boundary);
        let (m, shuffle) = (variant.outputs(), layer.shuffle);
        let targets = self.targets(boundary, group, first);
        let mut skips = [std::ptr::null(); 6];
        let skip = layer.skip.and_then(|skip| self.task.frames[skip]);
        if let Some(frame) = &skip {
            for (i, skip) in skips[..m].iter_mut().enumerate() {
                *skip = frame.at(group + i as isize, first).cast_const();
            }
        }
        // SAFETY: the wanted columns of the wanted rows are in memory, in the
        // frame that is added too.
        unsafe {
            (self.task.loops.from_points)(&FromPoints {
                variant,
                tables: &layer.tables,
                products: self.start.wrapping_add(self.task.region.products),
                pitch: block(layer) * layer.outputs + SPREAD,
                channels: layer.outputs,
                tiles,
                finish: Self::finish(layer, 0),
                skip: &skips[..if skip.is_some() { m } else { 0 }],
                shuffle,
                rows: &targets[..m * shuffle],
                columns: self.columns_of(boundary, first, tiles),
            });
        }
    }

    /// Distance of the points of the windows of a row of tiles.
    fn window_pitch(&self, boundary: usize) -> usize {
        let (layer, columns) = (self.layer(boundary), &self.span(boundary).tiles);
        let tiles = (columns.end - columns.start) as usize / layer.step();
        window_pitch(tiles, layer.inputs)
    }

    /// A row of tiles of a 9 x 9 kernel on planes.
    fn windows(&mut self, boundary: usize, group: isize) {
        let variant = Variant::F6x3;
        let layer = self.layer(boundary);
        let (n, planes, pad) = (variant.points(), layer.inputs, layer.pad() as isize);
        let columns = self.span(boundary).tiles.clone();
        let tiles = (columns.end - columns.start) as usize / variant.outputs();
        let pitch = self.window_pitch(boundary);
        let all = self.start.wrapping_add(self.task.region.windows);
        let slot =
            |row: isize| all.wrapping_add(row.rem_euclid(WINDOW_ROWS) as usize * n * n * pitch);
        // Windows are three rows apart; a row of tiles takes three of them.
        let first = group / 3;
        let known = *self.next_window;
        for row in first.max(known)..first + 3 {
            let inputs = self.inputs(boundary, 3 * row - pad, columns.start - pad, n);
            // SAFETY: the rows reach from the first to the last window.
            unsafe {
                (self.task.loops.windows)(&Windows {
                    tables: &layer.tables,
                    rows: &inputs[..n],
                    planes,
                    windows: 2 * tiles + 1,
                    phases: self.start.wrapping_add(self.task.region.phases),
                    phase_pitch: pitch,
                    slot: (3 * row).rem_euclid(n as isize) as usize,
                    fresh: if row > first.max(known) || row == known {
                        3
                    } else {
                        n
                    },
                    out: slot(row),
                    pitch,
                });
            }
        }
        *self.next_window = first + 3;
        let products = self.start.wrapping_add(self.task.region.products);
        self.blocks(boundary, |at, tiles| {
            let skip = (at - columns.start) as usize / 3 * planes;
            let runs = [0, 1, 2].map(|i| slot(first + i).wrapping_add(skip).cast_const());
            if planes == 1 {
                return self.nines(boundary, group, (at, tiles), runs);
            }
            // SAFETY: as above, and the products have room for a block.
            unsafe {
                (self.task.loops.matmul)(&Matmul {
                    runs: &runs,
                    len: 3 * planes,
                    step: 2 * planes,
                    weights: layer.weights.as_ptr(),
                    channels: layer.outputs,
                    pixels: tiles,
                    out: products,
                    out_step: layer.outputs,
                    finish: None,
                    skip: std::ptr::null(),
                    repeat: Repeat {
                        count: n * n,
                        input: pitch,
                        weights: 9 * planes * layer.outputs,
                        out: block(layer) * layer.outputs + SPREAD,
                    },
                });
            }
            self.interpolate(boundary, variant, group, at, tiles);
        });
    }

    /// A block of tiles of luma, one group of channels after the other.
    fn nines(
        &self,
        boundary: usize,
        group: isize,
        (first, tiles): (isize, usize),
        runs: [*const f32; 3],
    ) {
        let layer = self.layer(boundary);
        let targets = self.targets(boundary, group, first);
        for (channel, weights) in (0..layer.outputs).step_by(GROUP).zip(layer.groups()) {
            let mut rows = targets;
            for row in rows.iter_mut().filter(|row| !row.is_null()) {
                *row = row.wrapping_add(channel);
            }
            // SAFETY: the products have room for a block, and the wanted
            // columns of the wanted rows are in memory.
            unsafe {
                (self.task.loops.nines)(&Nines {
                    tables: &layer.tables,
                    runs,
                    pitch: self.window_pitch(boundary),
                    weights: weights.as_ptr(),
                    tiles,
                    room: self.start.wrapping_add(self.task.region.products),
                    finish: Self::finish(layer, channel),
                    rows: &rows[..layer.step()],
                    pixel: layer.stored(),
                    columns: self.columns_of(boundary, first, tiles),
                });
            }
        }
    }

    /// A row, every result one sum.
    fn direct(&self, boundary: usize, row: isize) {
        if !self.wanted(boundary, row) {
            return;
        }
        let (layer, span) = (self.layer(boundary), self.span(boundary));
        let pad = layer.pad() as isize;
        let inputs = self.inputs(boundary, row - pad, span.x.start - pad, layer.kernel);
        let skip = layer.skip.and_then(|skip| self.task.frames[skip]);
        // SAFETY: the rows have all columns of the span and a kernel beyond.
        unsafe {
            (self.task.loops.matmul)(&Matmul {
                runs: &inputs[..layer.kernel],
                len: layer.kernel * layer.inputs,
                step: layer.inputs,
                weights: layer.weights.as_ptr(),
                channels: layer.outputs,
                pixels: (span.x.end - span.x.start) as usize,
                out: self.rows[boundary].at(row, span.x.start),
                out_step: layer.outputs,
                finish: Some(Self::finish(layer, 0)),
                skip: skip.map_or(std::ptr::null(), |frame| {
                    frame.at(row, span.x.start).cast_const()
                }),
                repeat: Repeat::ONCE,
            });
        }
    }

    /// A row of the result, summed along the vectors into dense lines.
    fn dots(&self, boundary: usize, row: isize) {
        if !self.wanted(boundary, row) {
            return;
        }
        let (layer, span) = (self.layer(boundary), self.span(boundary));
        let pad = layer.pad() as isize;
        let inputs = self.inputs(boundary, row - pad, span.x.start - pad, layer.kernel);
        let pixels = (span.x.end - span.x.start) as usize;
        let lines = self.start.wrapping_add(self.task.region.lines);
        let mut out = [std::ptr::null_mut(); FEW];
        for (i, out) in out.iter_mut().enumerate() {
            *out = lines.wrapping_add(i * pixels.next_multiple_of(GROUP));
        }
        // SAFETY: as in `direct`; the lines are as wide as the widest row.
        unsafe {
            (self.task.loops.dots)(&Dots {
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
    fn columns(&self, boundary: usize, variant: Variant, group: isize) {
        let (layer, span) = (self.layer(boundary), self.span(boundary));
        let (pad, kernels) = (layer.pad() as isize, layer.kernels(variant));
        let count = (kernels - 1) * variant.kernel() + variant.points();
        let inputs = self.inputs(boundary, group - pad, span.x.start - pad, count);
        let pixels = (span.x.end - span.x.start) as usize;
        // SAFETY: the rows have all columns of the span and a kernel beyond,
        // and the region's memory was laid out for these sizes.
        unsafe {
            (self.task.loops.columns)(&Columns {
                variant,
                tables: &layer.tables,
                rows: &inputs[..count],
                kernels,
                len: layer.kernel * layer.inputs,
                step: layer.inputs,
                weights: layer.weights.as_ptr(),
                bias: &layer.bias,
                pixels,
                points: self.start.wrapping_add(self.task.region.points),
                products: self.start.wrapping_add(self.task.region.products),
                out: self.start.wrapping_add(self.task.region.lines),
                pitch: pixels.next_multiple_of(GROUP),
            });
        }
    }

    /// Adds the input, every sample repeated to a square, to a row of the result.
    fn add_nearest(&self, plane: usize, y: usize, x: usize, line: &mut [f32]) {
        let factor = self.task.packed.factor();
        let columns = x / factor..(x + line.len()).div_ceil(factor);
        let room = self.start.wrapping_add(self.task.region.nearest);
        // SAFETY: there is room for a row of the input as wide as the region.
        let input = unsafe { std::slice::from_raw_parts_mut(room, columns.len()) };
        self.task
            .source
            .row(plane, y / factor, columns.clone(), input);
        for (i, value) in line.iter_mut().enumerate() {
            *value += input[(x + i) / factor - columns.start];
        }
    }

    /// Hands a row of the result to the sink.
    fn emit(&self, boundary: usize, row: isize) {
        if !self.wanted(boundary, row) {
            return;
        }
        let (layer, span, packed) = (self.layer(boundary), self.span(boundary), self.task.packed);
        let pixels = (span.x.end - span.x.start) as usize;
        let lines = self.start.wrapping_add(self.task.region.lines);
        let pitch = pixels.next_multiple_of(GROUP);
        let dots = matches!(layer.method, Method::Dots | Method::Columns(_));
        // Rows that lie in the lines before this one.
        let before = row.rem_euclid(layer.step() as isize) as usize * layer.outputs;
        // Where the first pixel's first channel lies, the next pixel's, and its
        // next channel.
        let (first, pixel_step, channel_step) = match dots {
            true => (lines.wrapping_add(before * pitch), 1, pitch),
            false => (self.rows[boundary].at(row, span.x.start), layer.outputs, 1),
        };
        let r = packed.shuffle;
        for plane in 0..packed.outputs {
            for dy in 0..r {
                let ready = dots && r == 1;
                let line = match ready {
                    true => first.wrapping_add(plane * channel_step),
                    false => self.start.wrapping_add(self.task.region.result),
                };
                // SAFETY: there is room for the lines of all channels and one
                // of the result, and the channels are in memory.
                let line = unsafe { std::slice::from_raw_parts_mut(line, pixels * r) };
                if !ready {
                    for dx in 0..r {
                        let channel = (plane * r + dy) * r + dx;
                        let first = first.wrapping_add(channel * channel_step);
                        for (pixel, value) in line[dx..].iter_mut().step_by(r).enumerate() {
                            // SAFETY: as above.
                            *value = unsafe { *first.add(pixel * pixel_step) };
                        }
                    }
                }
                let (x, y) = (span.x.start as usize * r, row as usize * r + dy);
                if packed.adds_input() {
                    let (scale, offset) = packed.input[plane];
                    let pixel = self.rows[0].at(row, span.x.start).cast_const();
                    for (column, value) in line.iter_mut().enumerate() {
                        // SAFETY: the ring keeps the input's row until now.
                        let input = unsafe { *pixel.add(column * packed.planes + plane) };
                        *value += (input - offset) / scale;
                    }
                } else if packed.base {
                    self.task.source.add_base(plane, y, x..x + line.len(), line);
                }
                if packed.nearest {
                    self.add_nearest(plane, y, x, line);
                }
                if packed.tanh {
                    line.iter_mut()
                        .for_each(|value| *value = libm::tanhf(*value).mul_add(0.5, 0.5));
                }
                // SAFETY: regions are disjoint, and a task stores a row of its
                // region once: disjoint stores.
                unsafe { self.task.sink.store(plane, y, x, line) };
            }
        }
    }
}

/// The rows of a window.
type Inputs = [*const f32; MAX_ROWS];
