//! Where the pixels between layers lie: boundaries of whole frames, and the
//! part of each that one region computes.

use super::kernels::quantized::{InputRow, QUAD};
use super::pack::{ConvAlgorithm, PackedChain, PackedLayer};
use crate::chain::segment::{LayerShape, buffer_floats, split_segments};
use crate::ops::Border;
use crate::ops::cpu::pixels::{Conv9x9, GROUP, NARROW, WinogradColumns};
use crate::ops::winograd::Variant;
use std::ops::Range;

/// Tiles that the products of Winograd's domain take at once, for more than one
/// group of channels: their transformed values fit the cache.
const TILES: usize = 12;

/// The same for one group.
const TILES_OF_GROUP: usize = 16;

/// The same for half a group.
const NARROW_TILES: usize = 24;

/// The same for 9 x 9 kernels on luma, which run one group of channels at a
/// time out of the first-level cache.
const TILES_9X9: usize = 8;

/// Columns that rows of whole frames have beyond both sides: what a kernel
/// and the last tile reach.
const MARGIN: isize = 16;

/// The same for planes of words, of which whole vectors are read.
const PLANAR_MARGIN: isize = 32;

/// Rows of windows in the ring: a row of tiles takes three.
pub(super) const WINDOW_ROWS: usize = 4;

/// Floats between transformed tiles, against conflicts in the cache.
pub(super) const SPREAD: usize = GROUP;

/// A boundary between layers in whole frames: its samples, columns and rows,
/// and what lies beyond them.
#[derive(Debug, Clone)]
pub(super) struct BoundaryLayout {
    /// Columns, then rows, that the network computes. They begin before 0
    /// where its border is valid.
    pub(super) x: Range<isize>,
    pub(super) y: Range<isize>,
    /// Values of a pixel.
    pub(super) stored: usize,
    /// What the next layer reads beyond.
    pub(super) border: Border,
    /// Whether the values of a pixel lie in planes, row by row, not together.
    pub(super) planar: bool,
}

impl BoundaryLayout {
    /// The boundaries of a chain for an input of that size (width, height).
    pub(super) fn of_chain(layers: &[PackedLayer], (width, height): (usize, usize)) -> Vec<Self> {
        let valid = layers.first().is_some_and(|l| l.border == Border::Valid);
        let mut beyond = match valid {
            true => layers.iter().map(|l| l.pad() as isize).sum(),
            false => 0,
        };
        let (mut w, mut h) = (width as isize, height as isize);
        let mut layouts = Vec::new();
        for i in 0..=layers.len() {
            let stored = match i.checked_sub(1) {
                Some(before) => layers[before].stored(),
                None => layers[0].inputs,
            };
            layouts.push(Self {
                x: -beyond..w + beyond,
                y: -beyond..h + beyond,
                stored,
                border: layers.get(i).map_or(Border::Zero, |l| l.border),
                planar: layers[0].quantized().is_some(),
            });
            if let Some(layer) = layers.get(i) {
                (w, h) = (w * layer.shuffle as isize, h * layer.shuffle as isize);
                beyond -= if valid { layer.pad() as isize } else { 0 };
            }
        }
        layouts
    }

    /// Width and height without what lies before 0.
    pub(super) fn size(&self) -> (usize, usize) {
        let inner = |range: &Range<isize>| (range.end + range.start).max(0) as usize;
        (inner(&self.x), inner(&self.y))
    }

    /// Values that lie together, and how many such parts a row has.
    fn parts(&self) -> (usize, usize) {
        match self.planar {
            true => (1, self.stored),
            false => (self.stored, 1),
        }
    }

    /// Columns beyond both sides of whole frames.
    fn margin(&self) -> isize {
        match self.planar {
            true => PLANAR_MARGIN,
            false => MARGIN,
        }
    }

    /// Floats of a row of the whole frame, or of one of its planes.
    pub(super) fn pitch(&self) -> usize {
        (self.x.end - self.x.start + 2 * self.margin()) as usize * self.parts().0
    }

    /// Floats of the whole frame, with enough to align it.
    pub(super) fn frame_len(&self) -> usize {
        let rows = (self.y.end - self.y.start) as usize * self.parts().1;
        self.pitch() * rows + GROUP
    }

    /// The rows of the whole frame in `memory`, which has
    /// [`BoundaryLayout::frame_len`] floats or more.
    pub(super) fn frame(&self, memory: &mut [f32]) -> RowBuffer {
        self.rows_of_frames(memory, (self.y.end - self.y.start) as usize)
    }

    /// Some rows of whole frames.
    pub(super) fn rows_of_frames(&self, memory: &mut [f32], slots: usize) -> RowBuffer {
        let columns = self.x.start - self.margin()..self.x.end + self.margin();
        let (together, parts) = self.parts();
        let slots = slots * parts;
        RowBuffer::new(aligned(memory), self.pitch(), slots, columns, together)
    }
}

/// The part of `memory` from its first aligned float on.
pub(super) fn aligned(memory: &mut [f32]) -> &mut [f32] {
    let bytes = GROUP * size_of::<f32>();
    let start = memory.as_ptr().align_offset(bytes);
    memory.get_mut(start..).unwrap_or_default()
}

/// Rows of pixels in memory: a ring of some rows, or all rows of a frame.
///
/// Tasks of a segment write *disjoint regions* of it, and read only what an
/// earlier segment or they themselves wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBuffer {
    data: *mut f32,
    /// Floats from row to row.
    pitch: usize,
    slots: usize,
    /// Columns in memory.
    first: isize,
    end: isize,
    /// Values of a pixel.
    stored: usize,
}

// SAFETY: disjoint regions.
unsafe impl Send for RowBuffer {}
// SAFETY: disjoint regions.
unsafe impl Sync for RowBuffer {}

impl RowBuffer {
    /// `slots` rows of `pitch` floats in `memory`.
    pub(super) fn new(
        memory: &mut [f32],
        pitch: usize,
        slots: usize,
        columns: Range<isize>,
        stored: usize,
    ) -> Self {
        let width = usize::try_from(columns.end - columns.start).unwrap_or(0);
        assert!(slots * pitch <= memory.len() && width * stored <= pitch);
        Self {
            data: memory.as_mut_ptr(),
            pitch,
            slots,
            first: columns.start,
            end: columns.end,
            stored,
        }
    }

    /// All columns of a row.
    pub(super) fn columns(&self) -> Range<isize> {
        self.first..self.end
    }

    /// Values of a pixel.
    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    /// Floats from row to row.
    pub(super) fn pitch(&self) -> usize {
        self.pitch
    }

    /// The pixels of row `y` of all `planes` planes of words, *pixels in memory*.
    pub(super) fn input_row(&self, y: isize, planes: usize, columns: Range<isize>) -> InputRow {
        assert!(self.slots.is_multiple_of(planes));
        InputRow {
            first: self.pixels(y * planes as isize, columns).cast(),
            plane: self.pitch,
        }
    }

    /// The first of the pixels in `columns` of row `y`; row `y + slots` lies at
    /// the same place.
    ///
    /// *Pixels in memory*: the pointer is good for all pixels of `columns`.
    pub(super) fn pixels(&self, y: isize, columns: Range<isize>) -> *mut f32 {
        assert!(self.first <= columns.start && columns.end <= self.end && self.slots > 0);
        let row = y.rem_euclid(self.slots as isize) as usize * self.pitch;
        let column = (columns.start - self.first) as usize * self.stored;
        self.data.wrapping_add(row + column)
    }
}

/// One boundary in one region: what is computed, and where it is stored.
#[derive(Debug, Clone)]
pub(super) struct BoundaryExtent {
    /// Columns to compute.
    pub(super) x: Range<isize>,
    /// Rows to compute.
    pub(super) y: Range<isize>,
    /// Columns of the layer's tiles before any shuffling, whole tiles.
    pub(super) tiles: Range<isize>,
    /// Its first group of rows.
    pub(super) start: isize,
    /// Columns in memory.
    memory: Range<isize>,
    /// Rows in memory.
    slots: isize,
    /// Whether it lies in a ring of the thread's workspace, and not in a whole
    /// frame.
    ring: bool,
}

impl BoundaryExtent {
    /// Floats of a row of a ring, or of one of its planes: whole vectors, and as many
    /// as are read beyond it.
    fn pitch(&self, layout: &BoundaryLayout) -> usize {
        let columns = (self.memory.end - self.memory.start) as usize;
        let beyond = if layout.planar { 2 * GROUP } else { GROUP };
        (columns * layout.parts().0).next_multiple_of(GROUP) + beyond
    }

    /// Floats of the ring, if there is one.
    fn ring_floats(&self, layout: &BoundaryLayout) -> usize {
        match self.ring {
            true => self.slots as usize * layout.parts().1 * self.pitch(layout),
            false => 0,
        }
    }

    /// The ring in `memory`.
    fn ring(&self, memory: &mut [f32], layout: &BoundaryLayout) -> RowBuffer {
        let (together, parts) = layout.parts();
        let slots = self.slots as usize * parts;
        RowBuffer::new(
            memory,
            self.pitch(layout),
            slots,
            self.memory.clone(),
            together,
        )
    }
}

/// Floats that the layers of a region work in.
#[derive(Debug, Clone, Copy, Default)]
struct ScratchSizes {
    transformed: usize,
    products: usize,
    windows: usize,
    phases: usize,
    nearest: usize,
    lines: usize,
    output: usize,
}

impl ScratchSizes {
    /// What a layer takes for a row of `tiles` tiles, in a region of `width`
    /// columns.
    fn of_layer(layer: &PackedLayer, tiles: usize, width: usize) -> Self {
        let mut sizes = Self::default();
        match layer.algorithm {
            ConvAlgorithm::Winograd(variant) => {
                let n = variant.points();
                sizes.transformed = tiles_at_once(layer) * transformed_tile(layer, variant);
                sizes.products = n * n * product_pitch(layer);
            }
            ConvAlgorithm::Split9x9 => {
                let n = Variant::F6x3.points();
                let pitch = window_pitch(tiles, layer.inputs);
                sizes.products = match layer.inputs {
                    1 => tiles_at_once(layer) * Conv9x9::SCRATCH,
                    _ => n * n * product_pitch(layer),
                };
                sizes.windows = WINDOW_ROWS * n * n * pitch;
                sizes.phases = 2 * 3 * n * pitch;
            }
            ConvAlgorithm::WinogradColumns(variant) => {
                let (kernels, len) = (layer.kernels(variant), layer.kernel * layer.inputs);
                sizes.transformed =
                    WinogradColumns::transformed_floats(variant, kernels, len, layer.inputs);
                sizes.products = WinogradColumns::product_floats(variant, layer.outputs);
                sizes.lines = variant.outputs() * layer.outputs * width;
            }
            ConvAlgorithm::DotProduct => sizes.lines = layer.outputs * width,
            ConvAlgorithm::Quantized(_) if layer.algorithm.writes_lines() => {
                sizes.lines = layer.outputs.next_multiple_of(QUAD) * width;
            }
            ConvAlgorithm::Direct | ConvAlgorithm::Quantized(_) => {}
        }
        sizes
    }

    fn max(self, other: Self) -> Self {
        Self {
            transformed: self.transformed.max(other.transformed),
            products: self.products.max(other.products),
            windows: self.windows.max(other.windows),
            phases: self.phases.max(other.phases),
            nearest: self.nearest.max(other.nearest),
            lines: self.lines.max(other.lines),
            output: self.output.max(other.output),
        }
    }

    /// Floats of all of it, each from an aligned place on.
    fn total(&self) -> usize {
        let parts = [
            self.transformed,
            self.products,
            self.windows,
            self.phases,
            self.nearest,
            self.lines,
            self.output,
        ];
        parts
            .map(|floats| floats.next_multiple_of(GROUP))
            .iter()
            .sum()
    }
}

/// Parts of a thread's workspace that the layers of a region share.
#[derive(Debug)]
pub(super) struct Scratch<'a> {
    /// Transformed tiles.
    pub(super) transformed: &'a mut [f32],
    /// Their products with the weights.
    pub(super) products: &'a mut [f32],
    /// The ring of transformed windows of a 9 x 9 kernel.
    pub(super) windows: &'a mut [f32],
    /// Its samples by phase.
    pub(super) phases: &'a mut [f32],
    /// A row of the input, to be repeated.
    pub(super) nearest: &'a mut [f32],
    /// A row of the input's planes, or dense rows of the result by channel.
    pub(super) lines: &'a mut [f32],
    /// A row of a plane of the result.
    pub(super) output: &'a mut [f32],
}

/// Divides memory into parts that begin at aligned places.
struct Carver<'a>(&'a mut [f32]);

impl<'a> Carver<'a> {
    fn take(&mut self, floats: usize) -> &'a mut [f32] {
        let memory = std::mem::take(&mut self.0);
        let (part, rest) = memory.split_at_mut(floats.next_multiple_of(GROUP));
        self.0 = rest;
        part
    }
}

/// A part of a segment's result, and what it takes to compute it.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) layers: Range<usize>,
    /// Whether the segment is the chain's last.
    pub(super) last: bool,
    pub(super) extents: Vec<BoundaryExtent>,
    scratch: ScratchSizes,
    /// Floats of the workspace that it takes.
    pub(super) workspace: usize,
    /// Floats of the longest row.
    pub(super) longest: usize,
    /// Where the halo rows of the input are copied to, and that boundary's
    /// layout, if the result overwrites the input.
    halo: Option<(Range<usize>, BoundaryLayout)>,
}

impl Region {
    /// The region of `area` (columns, rows) of the result of `layers`.
    pub(super) fn new(
        packed: &PackedChain,
        layouts: &[BoundaryLayout],
        layers: &Range<usize>,
        area: (Range<usize>, Range<usize>),
    ) -> Self {
        let last = layers.end == packed.layers.len();
        let width = (area.0.end - area.0.start).next_multiple_of(GROUP);
        let extents = Self::extents(packed, layouts, layers, area);
        let mut scratch = ScratchSizes {
            nearest: width + GROUP,
            output: width * packed.shuffle,
            ..ScratchSizes::default()
        };
        let (mut longest, mut rings) = (0, 0);
        for (i, extent) in extents.iter().enumerate() {
            let layout = &layouts[layers.start + i];
            longest = longest.max(extent.pitch(layout));
            rings += extent.ring_floats(layout).next_multiple_of(GROUP);
            if i > 0 {
                let layer = &packed.layers[layers.start + i - 1];
                let tiles = (extent.tiles.end - extent.tiles.start) as usize / layer.step();
                scratch = scratch.max(ScratchSizes::of_layer(layer, tiles, width));
            }
        }
        scratch.lines = scratch.lines.max(longest);
        Self {
            layers: layers.clone(),
            last,
            extents,
            // It is used from its first aligned place on.
            workspace: rings + scratch.total() + GROUP,
            scratch,
            longest,
            halo: None,
        }
    }

    /// The extents of the boundaries, from the last to the first: each follows
    /// from what the next one reads.
    fn extents(
        packed: &PackedChain,
        layouts: &[BoundaryLayout],
        layers: &Range<usize>,
        area: (Range<usize>, Range<usize>),
    ) -> Vec<BoundaryExtent> {
        let (all, count) = (&packed.layers, layers.len());
        let last = layers.end == all.len();
        let signed = |range: &Range<usize>| range.start as isize..range.end as isize;
        let (mut x, mut y) = (signed(&area.0), signed(&area.1));
        let mut memory = x.clone();
        let mut slots = 0;
        let mut extents = Vec::new();
        for boundary in (1..=count).rev() {
            let layer = &all[layers.start + boundary - 1];
            let (step, pad) = (layer.step(), layer.pad() as isize);
            let shuffle = layer.shuffle as isize;
            // Whole squares of the shuffle.
            let squares = down(x.start, layer.shuffle)..up(x.end, layer.shuffle);
            let tiles = down(squares.start / shuffle, step)..up(squares.end / shuffle, step);
            let start = down(y.start.div_euclid(shuffle), step);
            let rows_end = up(up(y.end, layer.shuffle) / shuffle, step);
            extents.push(BoundaryExtent {
                memory: memory.start.min(squares.start)..memory.end.max(squares.end),
                x: squares,
                y: y.clone(),
                tiles: tiles.clone(),
                start,
                slots: slots.max(step as isize * shuffle),
                ring: boundary < count || last,
            });
            let before = &layouts[layers.start + boundary - 1];
            memory = tiles.start - pad..tiles.end + pad;
            let clip = |range: Range<isize>, within: &Range<isize>| {
                range.start.max(within.start)..range.end.min(within.end)
            };
            x = clip(memory.clone(), &before.x);
            y = clip(start - pad..rows_end + pad, &before.y);
            let written = match boundary {
                1 => 1,
                _ => {
                    let before = &all[layers.start + boundary - 2];
                    before.step() * before.shuffle
                }
            };
            slots = ring_rows(written, step, layer.pad());
        }
        if layers.start == 0 && packed.residual_at_hand() {
            // The input waits until its row of the result is computed.
            let waits = all.iter().map(|layer| 2 * (layer.step() + layer.pad()));
            slots += waits.sum::<usize>() as isize;
        }
        extents.push(BoundaryExtent {
            tiles: x.clone(),
            start: y.start,
            x,
            y,
            memory,
            slots,
            ring: layers.start == 0,
        });
        extents.reverse();
        extents
    }

    /// Divides a workspace of [`Region::workspace`] floats or more: the rows of
    /// each boundary, those of `frames` where they lie in whole frames, and the
    /// scratch of the layers.
    pub(super) fn carve<'a>(
        &self,
        workspace: &'a mut [f32],
        layouts: &[BoundaryLayout],
        frames: &[Option<RowBuffer>],
    ) -> (Vec<RowBuffer>, Scratch<'a>) {
        let mut carver = Carver(aligned(workspace));
        let rows = self.extents.iter().enumerate().map(|(i, extent)| {
            let boundary = self.layers.start + i;
            let layout = &layouts[boundary];
            let ring = carver.take(extent.ring_floats(layout));
            frames[boundary].unwrap_or_else(|| extent.ring(ring, layout))
        });
        let rows = rows.collect();
        let sizes = &self.scratch;
        let scratch = Scratch {
            transformed: carver.take(sizes.transformed),
            products: carver.take(sizes.products),
            windows: carver.take(sizes.windows),
            phases: carver.take(sizes.phases),
            nearest: carver.take(sizes.nearest),
            lines: carver.take(sizes.lines),
            output: carver.take(sizes.output),
        };
        (rows, scratch)
    }

    /// Lets the region read its halo rows, above and below it, from a copy at
    /// `start` of the memory for halos: other regions overwrite the rows.
    /// Returns the floats that this takes.
    pub(super) fn copy_halo(&mut self, layout: &BoundaryLayout, start: usize) -> usize {
        let floats = self.halo_row_numbers().count() * layout.pitch() + GROUP;
        self.halo = Some((start..start + floats, layout.clone()));
        floats
    }

    /// The rows of the input that lie above and below the region.
    fn halo_row_numbers(&self) -> impl Iterator<Item = isize> + use<> {
        let input = self.extents.first().map_or(0..0, |extent| extent.y.clone());
        let own = self.own_rows();
        input.filter(move |y| !own.contains(y))
    }

    /// Columns and rows of the chain's input that the region depends on, if its
    /// segment begins there: all that it reads, even with a weight of zero.
    /// `size` is that of the input.
    pub(super) fn input(&self, (width, height): (usize, usize)) -> (Range<usize>, Range<usize>) {
        // What lies beyond the edge repeats it.
        let clamped = |range: &Range<isize>, end: usize| {
            let end = end as isize;
            let range = range.start.clamp(0, end - 1)..range.end.clamp(1, end);
            range.start as usize..range.end as usize
        };
        (self.extents.first()).map_or((0..width, 0..height), |extent| {
            (clamped(&extent.x, width), clamped(&extent.y, height))
        })
    }

    /// The rows of the result.
    pub(super) fn own_rows(&self) -> Range<isize> {
        self.extents.last().map_or(0..0, |extent| extent.y.clone())
    }

    /// Copies the halo rows from the `frame` that other regions overwrite, one
    /// after the other, if the region reads them from a copy.
    pub(super) fn save_halo_rows(
        &self,
        frames: &[Option<RowBuffer>],
        memory: &mut [f32],
    ) -> Option<RowBuffer> {
        let (part, layout) = self.halo.as_ref()?;
        let frame = frames[self.layers.start]?;
        let slots = self.halo_row_numbers().count();
        let halo = layout.rows_of_frames(&mut memory[part.clone()], slots);
        let floats = (frame.end - frame.first) as usize * frame.stored;
        for (slot, y) in self.halo_row_numbers().enumerate() {
            let from = frame.pixels(y, frame.columns());
            let to = halo.pixels(slot as isize, frame.columns());
            // SAFETY: pixels in memory, and nothing runs yet that writes to the
            // frame.
            unsafe { std::ptr::copy_nonoverlapping(from, to, floats) }
        }
        Some(halo)
    }
}

/// Tiles that go through a layer together: their transformed values fit the
/// cache, and are what the products take at once.
pub(super) fn tiles_at_once(layer: &PackedLayer) -> usize {
    match (&layer.algorithm, layer.inputs, layer.outputs) {
        (ConvAlgorithm::Split9x9, 1, _) => TILES_9X9,
        (_, _, NARROW) => NARROW_TILES,
        (_, _, GROUP) => TILES_OF_GROUP,
        _ => TILES,
    }
}

/// Floats from one transformed tile to the next.
pub(super) fn transformed_tile(layer: &PackedLayer, variant: Variant) -> usize {
    variant.points() * variant.points() * layer.inputs + SPREAD
}

/// Floats from the products of a point to those of the next.
pub(super) fn product_pitch(layer: &PackedLayer) -> usize {
    tiles_at_once(layer) * layer.outputs + SPREAD
}

/// Floats of a row of windows: two for a tile, one more, and those that the
/// last one reaches. An odd number of groups, so that the points of a window
/// lie in different sets of the cache.
pub(super) fn window_pitch(tiles: usize, planes: usize) -> usize {
    let groups = ((2 * tiles + 4) * planes).div_ceil(GROUP) + 1;
    (groups | 1) * GROUP
}

fn down(value: isize, step: usize) -> isize {
    value.div_euclid(step as isize) * step as isize
}

fn up(value: isize, step: usize) -> isize {
    -down(-value, step)
}

/// Rows that a ring holds between two layers: written `written` at a time, read
/// `step` at a time with `pad` on both sides.
fn ring_rows(written: usize, step: usize, pad: usize) -> isize {
    let (pad, period) = (pad as isize, (written * step) as isize);
    let groups = (0..period).step_by(step);
    let rows = groups.map(|g| up(g + step as isize + pad, written) - (g - pad));
    rows.max().unwrap_or(0)
}

/// Bytes of rings that a task may have: what the second-level cache holds
/// next to weights and transformed tiles.
pub(super) const RING_BYTES: usize = 3 << 19;

/// Columns that a strip has at least; narrower ones mostly compute halos.
pub(super) const MIN_STRIP: usize = 64;

/// Columns whose rings fit the cache in a segment of many layers.
const STRIP: usize = 128;

/// Bytes of whole frames between segments for which many layers are divided.
const FRAME_BYTES: usize = 2 << 30;

impl PackedChain {
    /// The segments for an input of so many pixels: those of what is added later, and
    /// many layers of many channels in several, as their rings would leave the cache and
    /// their strips compute halos.
    pub(crate) fn segments(&self, pixels: usize) -> Vec<Range<usize>> {
        let skips: Vec<_> = self.layers.iter().map(|layer| layer.skip).collect();
        let segments = split_segments(&skips);
        let divided: Vec<_> = (segments.iter())
            .flat_map(|segment| self.divided(segment))
            .collect();
        let bytes = self.floats_between(&divided) * pixels * size_of::<f32>();
        match bytes <= FRAME_BYTES {
            true => divided,
            false => segments,
        }
    }

    fn divided(&self, segment: &Range<usize>) -> Vec<Range<usize>> {
        let column = ring_floats(self, segment) * size_of::<f32>();
        let shrinks = |layer: &PackedLayer| layer.border == Border::Valid;
        // Frames after a shuffle are large.
        let small = self.layers.iter().take_while(|layer| layer.shuffle == 1);
        let layers = small.count().min(segment.end).saturating_sub(segment.start);
        if column * MIN_STRIP <= RING_BYTES || self.layers.iter().any(shrinks) {
            return vec![segment.clone()];
        }
        let parts = (column * STRIP).div_ceil(RING_BYTES).min(layers / 2).max(1);
        let cut = |part: usize| segment.start + layers * part / parts;
        let ends = (1..parts).map(cut).chain([segment.end]);
        let starts = (0..parts).map(cut);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Values that the whole frames between the segments hold for an input of so many
    /// pixels.
    pub(crate) fn buffer_floats(&self, pixels: usize) -> usize {
        self.floats_between(&self.segments(pixels)) * pixels
    }

    /// The same for each pixel of the input.
    fn floats_between(&self, segments: &[Range<usize>]) -> usize {
        let shape = |layer: &PackedLayer| LayerShape {
            skip: layer.skip,
            shuffle: layer.shuffle,
            stored: layer.stored(),
        };
        let layers: Vec<_> = self.layers.iter().map(shape).collect();
        buffer_floats(&layers, segments)
    }
}

/// Floats that all rings of a segment hold for one column of its result.
pub(super) fn ring_floats(packed: &PackedChain, layers: &Range<usize>) -> usize {
    let chain = &packed.layers[layers.clone()];
    let factor: usize = chain.iter().map(|layer| layer.shuffle).product();
    let pairs = chain.windows(2);
    let floats = pairs.map(|pair| {
        let written = pair[0].step() * pair[0].shuffle;
        let rows = ring_rows(written, pair[1].step(), pair[1].pad());
        rows as usize * pair[0].stored()
    });
    // Before the last shuffle there are fewer columns; this counts too many.
    let between = floats.sum::<usize>() / if factor > 1 { 2 } else { 1 };
    // Few planes of an input take little.
    let input = match chain.first() {
        Some(layer) if layers.start == 0 && layer.inputs >= GROUP => {
            ring_rows(1, layer.step(), layer.pad()) as usize * layer.inputs
        }
        _ => 0,
    };
    between + input
}
