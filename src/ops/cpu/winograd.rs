//! Convolution of planes by Winograd's minimal filtering, for training: the result, the
//! gradient of the images and that of the weights.
//!
//! The gradient of the weights of F(m x m, r x r) is the transpose of the same
//! algorithm: gradients of tiles of the result are evaluated as polynomials of m
//! coefficients, multiplied by the evaluated tiles of the images, summed over all tiles,
//! and taken back to r x r weights by the transpose of the kernel's transform.
//!
//! Tiles lie on a grid from the first pixel of an image on. What a thread computes
//! together does not enter the bits of a result.

use super::correlate::Sink;
use super::pixels::{
    BatchStrides, BiasActivation, GROUP, GradientTransform, InputTransform, Kernels, Matmul,
    OuterProducts, OutputTransform,
};
use super::scratch::Scratch;
use super::simd::{SQUARE, transposed};
use super::threads::run_tasks;
use crate::ops::spec::{Border, ConvGeometry};
use crate::ops::winograd::{MAX_OUTPUTS, MAX_POINTS, Tables, Variant};
use std::ops::Range;

/// Tiles of a row that are computed together.
const TILES: usize = 24;

/// Values of a band of an image, at most: half of a cache of 1 MiB.
const BAND: usize = 128 << 10;

/// Values of transformed tiles that the gradient of the weights is summed up from at a
/// time, about.
const CHUNK: usize = 2 << 20;

/// Keeps matrices of as many values as a power of two from sharing sets of the cache.
const SPREAD: usize = 16;

/// The algorithm for a convolution, if it takes fewer products and all channels come in
/// groups.
pub(in crate::ops) fn variant_for(geometry: &ConvGeometry) -> Option<Variant> {
    let plain = geometry.stride == 1 && geometry.dilation == 1 && geometry.groups == 1;
    let grouped = [geometry.inputs, geometry.outputs].map(|count| count.is_multiple_of(GROUP));
    match geometry.kernel {
        (3, 3) if plain && grouped == [true; 2] => Some(Variant::F4x3),
        (5, 5) if plain && grouped == [true; 2] => Some(Variant::F4x5),
        _ => None,
    }
}

/// Transformed kernels: by point (row, column), input channel, output channel. In single
/// precision, since each step of training transforms them anew.
struct Filter {
    variant: Variant,
    inputs: usize,
    outputs: usize,
    values: Vec<f32>,
}

impl Filter {
    /// Of weights (Co, Ci, r, r).
    fn forward(variant: Variant, geometry: &ConvGeometry, weights: &[f32]) -> Self {
        let (inputs, taps) = (geometry.inputs, variant.kernel().pow(2));
        let tap = |input: usize, tap: usize, output: usize| {
            weights[(output * inputs + input) * taps + tap]
        };
        Self::of(variant, inputs, geometry.outputs, tap)
    }

    /// That takes gradients of the result back to the images.
    fn backward(variant: Variant, geometry: &ConvGeometry, weights: &[f32]) -> Self {
        let (inputs, taps) = (geometry.inputs, variant.kernel().pow(2));
        let tap = |input: usize, tap: usize, output: usize| {
            weights[(input * inputs + output) * taps + taps - 1 - tap]
        };
        Self::of(variant, geometry.outputs, inputs, tap)
    }

    /// `tap(input, tap, output)` is a weight.
    fn of(
        variant: Variant,
        inputs: usize,
        outputs: usize,
        tap: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let (n, r) = (variant.points(), variant.kernel());
        let matrix = kernel_matrix(variant);
        let count = n * n * inputs * outputs;
        let mut values = Vec::with_capacity(count);
        let sink = Sink::new(&mut values.spare_capacity_mut()[..count]);
        run_tasks(inputs, count * r, |input| {
            let mut taps = Scratch::take(r * outputs);
            let mut rows = Scratch::take(n * r * outputs);
            rows.fill(0.0);
            for x in 0..r {
                for (y, taps) in taps.chunks_exact_mut(outputs).enumerate() {
                    for (output, value) in taps.iter_mut().enumerate() {
                        *value = tap(input, y * r + x, output);
                    }
                }
                for (point, factors) in matrix.iter().enumerate() {
                    let sums = &mut rows[(point * r + x) * outputs..][..outputs];
                    add_scaled(sums, factors, taps.chunks_exact(outputs));
                }
            }
            let mut point = Scratch::take(outputs);
            for (y, row) in rows.chunks_exact(r * outputs).enumerate() {
                for (x, factors) in matrix.iter().enumerate() {
                    point.fill(0.0);
                    add_scaled(&mut point, factors, row.chunks_exact(outputs));
                    let at = ((y * n + x) * inputs + input) * outputs;
                    // SAFETY: *disjoint*: each task has an input channel of its own.
                    unsafe { sink.put(at, &point, 1) }
                }
            }
        });
        // SAFETY: the tasks cover all points of all input channels.
        unsafe { values.set_len(count) };
        Self {
            variant,
            inputs,
            outputs,
            values,
        }
    }
}

/// [`Variant::kernel_matrix`] in single precision.
fn kernel_matrix(variant: Variant) -> Vec<Vec<f32>> {
    let rows = variant.kernel_matrix().into_iter();
    rows.map(|row| row.into_iter().map(|value| value as f32).collect())
        .collect()
}

/// Adds lines times their factors.
fn add_scaled<'a>(sums: &mut [f32], factors: &[f32], lines: impl Iterator<Item = &'a [f32]>) {
    for (line, &factor) in lines.zip(factors).filter(|(_, factor)| **factor != 0.0) {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum += factor * value;
        }
    }
}

/// The algorithm and the kernels that a convolution with gradients runs by.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Filtering {
    pub(in crate::ops) kernels: &'static Kernels,
    pub(in crate::ops) variant: Variant,
}

/// The operands of the gradients, dense.
pub(in crate::ops) struct Operands<'a> {
    pub(in crate::ops) images: &'a [f32],
    pub(in crate::ops) weights: &'a [f32],
    pub(in crate::ops) result: &'a [f32],
    /// That of the result.
    pub(in crate::ops) grad: &'a [f32],
}

/// The gradients of images, weights and bias, or which of them are required.
pub(in crate::ops) struct Gradients<T> {
    pub(in crate::ops) images: T,
    pub(in crate::ops) weights: T,
    pub(in crate::ops) bias: T,
}

impl Filtering {
    /// The convolution of dense images.
    pub(in crate::ops) fn forward(
        &self,
        geometry: &ConvGeometry,
        images: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let filter = Filter::forward(self.variant, geometry, weights);
        let convolution = Convolution::new(self, filter, geometry.grid(), bias, geometry.relu);
        let images = Images::of_images(geometry, images);
        let bands = Bands::new(
            self.variant,
            geometry.grid(),
            geometry.batch,
            geometry.inputs,
        );
        let count = geometry.batch * convolution.values();
        let mut out = Vec::with_capacity(count);
        let sink = Sink::new(&mut out.spare_capacity_mut()[..count]);
        run_tasks(
            geometry.batch * bands.count(),
            count * geometry.inputs,
            |task| {
                let (image, band) = bands.task(task);
                let pixels = images.gather(image, bands.rows_read(&band), bands.columns_read());
                // SAFETY: *disjoint*: no two tasks have the same image and band.
                unsafe { convolution.run(&sink, image, band, &pixels) }
            },
        );
        // SAFETY: the bands cover all rows of all images.
        unsafe { out.set_len(count) };
        out
    }

    /// The required gradients.
    ///
    /// A first pass gathers each band of the images once, computes the gradient of the
    /// images, sums it up for the bias, and evaluates its tiles; a second one sums up the
    /// products of each point over the tiles.
    pub(in crate::ops) fn gradients(
        &self,
        geometry: &ConvGeometry,
        operands: &Operands<'_>,
        required: &Gradients<bool>,
    ) -> Gradients<Option<Vec<f32>>> {
        let variant = self.variant;
        let (inputs, outputs, batch) = (geometry.inputs, geometry.outputs, geometry.batch);
        let (n, m) = (variant.points(), variant.outputs());
        let images = Images::of_images(geometry, operands.images);
        let grad = Images::of_gradient(geometry, operands);
        let back = required.images.then(|| {
            let filter = Filter::backward(variant, geometry, operands.weights);
            Convolution::new(self, filter, geometry.grad_grid(), None, false)
        });
        let count = back.as_ref().map_or(0, |back| batch * back.values());
        let mut of_images = Vec::with_capacity(count);
        let sink = Sink::new(&mut of_images.spare_capacity_mut()[..count]);

        let bands = Bands::new(variant, geometry.grad_grid(), batch, inputs + outputs);
        // Tiles of the result itself.
        let (rows, columns) = (tiles(geometry.grid().0, m), tiles(geometry.grid().1, m));
        let in_image = rows * columns;
        let at_once = CHUNK / (n * n * in_image * (inputs + outputs));
        let at_once = at_once.clamp(1, batch);
        let mut of_weights = required
            .weights
            .then(|| PointSums::new(self, geometry, at_once * in_image));
        let mut of_rows = vec![0.0; batch * rows * outputs];
        let to_rows = Shared(of_rows.as_mut_ptr());
        for first in (0..batch).step_by(at_once) {
            let chunk = at_once.min(batch - first);
            let evaluation = of_weights.as_mut().map(PointSums::evaluation);
            let amount = 4 * chunk * n * n * in_image * (inputs + outputs);
            run_tasks(chunk * bands.count(), amount, |task| {
                let (image, band) = bands.task(task);
                let (across, (top, left)) = (bands.columns_read(), grad.pad);
                let pixels = grad.gather(first + image, bands.rows_read(&band), across);
                let gradient =
                    |i| rows_from(&pixels, across * outputs, top + i * m, left * outputs);
                let own = band.start..band.end.min(rows).max(band.start);
                if required.bias {
                    for (i, row) in own.clone().enumerate() {
                        let at = ((first + image) * rows + row) * outputs;
                        // SAFETY: *disjoint*: the sums of a row of tiles, which no other
                        // task writes.
                        let sums =
                            unsafe { std::slice::from_raw_parts_mut(to_rows.at(at), outputs) };
                        let lines = pixels.chunks_exact(across * outputs).skip(top + i * m);
                        for line in lines.take(m) {
                            add_pixels(sums, &line[left * outputs..][..columns * m * outputs]);
                        }
                    }
                }
                if let Some(evaluation) = evaluation.filter(|_| !own.is_empty()) {
                    let (start, across) = (own.start * m, (columns - 1) * m + n);
                    let pixels = images.gather(first + image, start..(own.end - 1) * m + n, across);
                    for (i, row) in own.enumerate() {
                        let image_rows = rows_from(&pixels, across * inputs, i * m, 0);
                        let tile = image * in_image + row * columns;
                        // SAFETY: operands in memory: rows of the pixels as far as the
                        // last tile reads. *Disjoint*: no other task has the row.
                        unsafe { evaluation.put(tile, columns, &image_rows, &gradient(i)) }
                    }
                }
                if let Some(back) = &back {
                    // SAFETY: *disjoint*: no two tasks have the same image and band.
                    unsafe { back.run(&sink, first + image, band, &pixels) }
                }
            });
            if let Some(of_weights) = &mut of_weights {
                of_weights.add(chunk * in_image, first > 0);
            }
        }
        // SAFETY: the bands cover all rows of all images, if the gradient is required.
        unsafe { of_images.set_len(count) };
        let total = |output: usize| {
            let rows = of_rows.chunks_exact(outputs);
            rows.map(|row| f64::from(row[output])).sum::<f64>() as f32
        };
        let images = required.images.then_some(of_images);
        Gradients {
            images: images.map(|padded| super::without_border(geometry, padded)),
            weights: of_weights.map(|sums| sums.weights()),
            bias: required.bias.then(|| (0..outputs).map(total).collect()),
        }
    }
}

/// Evaluated tiles of images and of gradients, and the sums of their products.
struct PointSums {
    kernels: &'static Kernels,
    variant: Variant,
    tables: Tables,
    inputs: usize,
    outputs: usize,
    /// Distance of neighbouring points of each.
    pitch: [usize; 2],
    /// By point, tile, channel.
    images: Scratch,
    gradients: Scratch,
    /// By point, input channel, output channel.
    sums: Scratch,
}

/// Where tiles are evaluated to, each by one thread.
#[derive(Clone, Copy)]
struct Evaluation<'a> {
    of: &'a PointSums,
    images: Shared,
    gradients: Shared,
}

impl PointSums {
    /// For so many tiles at a time.
    fn new(filtering: &Filtering, geometry: &ConvGeometry, tiles: usize) -> Self {
        let Filtering { kernels, variant } = *filtering;
        let (inputs, outputs) = (geometry.inputs, geometry.outputs);
        let points = variant.points().pow(2);
        let pitch = [inputs, outputs].map(|channels| tiles * channels + SPREAD);
        Self {
            kernels,
            variant,
            tables: variant.tables(),
            inputs,
            outputs,
            pitch,
            images: Scratch::take(points * pitch[0]),
            gradients: Scratch::take(points * pitch[1]),
            sums: Scratch::take(points * inputs * outputs),
        }
    }

    fn evaluation(&mut self) -> Evaluation<'_> {
        let [images, gradients] = [&mut self.images, &mut self.gradients];
        let (images, gradients) = (Shared(images.as_mut_ptr()), Shared(gradients.as_mut_ptr()));
        Evaluation {
            of: self,
            images,
            gradients,
        }
    }

    /// Sums up the products of the first tiles, or adds them.
    fn add(&mut self, count: usize, add: bool) {
        let (points, size) = (self.variant.points().pow(2), self.inputs * self.outputs);
        let sums = Shared(self.sums.as_mut_ptr());
        run_tasks(points, points * count * size, |point| {
            // SAFETY: operands in memory: the tiles of a point, and its sums, which no
            // other task writes.
            unsafe {
                (self.kernels.outer_products)(&OuterProducts {
                    inputs: self.images[point * self.pitch[0]..].as_ptr(),
                    input_channels: self.inputs,
                    gradients: self.gradients[point * self.pitch[1]..].as_ptr(),
                    gradient_channels: self.outputs,
                    count,
                    sums: sums.at(point * size),
                    add,
                });
            }
        });
    }

    /// The gradient of the weights (Co, Ci, r, r).
    fn weights(&self) -> Vec<f32> {
        taps_of(self.variant, self.inputs, self.outputs, &self.sums)
    }
}

impl Evaluation<'_> {
    /// Evaluates a row of tiles from the rows of both.
    ///
    /// # Safety
    ///
    /// Operands in memory: rows as far as the last tile reads. *Disjoint* (see
    /// [`Sink`]): nobody else writes the same tiles.
    unsafe fn put(
        &self,
        tile: usize,
        tiles: usize,
        images: &[*const f32; MAX_POINTS],
        gradients: &[*const f32; MAX_POINTS],
    ) {
        let PointSums {
            kernels,
            variant,
            ref tables,
            inputs,
            outputs,
            pitch,
            ..
        } = *self.of;
        // SAFETY: as the caller promises, and the buffers have all points of the tiles.
        unsafe {
            (kernels.for_channels(GROUP).input_transform)(&InputTransform {
                variant,
                tables,
                rows: &images[..variant.points()],
                channels: inputs,
                tiles,
                out: self.images.at(tile * inputs),
                out_tile: inputs,
                out_point: pitch[0],
            });
            (kernels.gradient_transform)(&GradientTransform {
                variant,
                tables,
                rows: &gradients[..variant.outputs()],
                channels: outputs,
                tiles,
                out: self.gradients.at(tile * outputs),
                out_tile: outputs,
                out_point: pitch[1],
            });
        }
    }
}

/// Adds the channels of pixels to sums of each.
fn add_pixels(sums: &mut [f32], pixels: &[f32]) {
    for pixel in pixels.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
}

/// A convolution of pixels by transformed kernels.
struct Convolution {
    kernels: &'static Kernels,
    filter: Filter,
    tables: Tables,
    /// Size of the result.
    grid: (usize, usize),
    bias: Vec<f32>,
    /// Of negative results; `None`: zero.
    slope: Option<Vec<f32>>,
}

impl Convolution {
    fn new(
        filtering: &Filtering,
        filter: Filter,
        grid: (usize, usize),
        bias: Option<&[f32]>,
        relu: bool,
    ) -> Self {
        let outputs = filter.outputs;
        Self {
            kernels: filtering.kernels,
            filter,
            tables: filtering.variant.tables(),
            grid,
            bias: bias.map_or_else(|| vec![0.0; outputs], <[f32]>::to_vec),
            slope: (!relu).then(|| vec![1.0; outputs]),
        }
    }

    /// Values of the result of an image.
    fn values(&self) -> usize {
        self.filter.outputs * self.grid.0 * self.grid.1
    }

    /// Computes rows of tiles of an image from its pixels, which begin at the band.
    ///
    /// # Safety
    ///
    /// *Disjoint* (see [`Sink`]): nobody else writes the same band of the same image.
    unsafe fn run(&self, sink: &Sink<'_>, image: usize, band: Range<usize>, pixels: &[f32]) {
        let Filter {
            variant,
            inputs,
            outputs,
            ref values,
        } = self.filter;
        let (height, width) = self.grid;
        let (m, n) = (variant.outputs(), variant.points());
        let columns = tiles(width, m);
        let tile = n * n * inputs + SPREAD;
        let pitch = TILES * outputs + SPREAD;
        let mut transformed = Scratch::take(TILES * tile);
        let mut products = Scratch::take(n * n * pitch);
        let area = width * (height.min(band.end * m) - band.start * m);
        let mut results = Scratch::take(area * outputs);
        let activation = BiasActivation {
            bias: self.bias.as_ptr(),
            slope: self
                .slope
                .as_ref()
                .map_or(std::ptr::null(), |slope| slope.as_ptr()),
        };
        let kernels = self.kernels.for_channels(GROUP);
        for (i, row) in band.clone().enumerate() {
            let written = m.min(height - row * m);
            for block in (0..columns).step_by(TILES) {
                let tiles = TILES.min(columns - block);
                let line = (columns * m + n - m) * inputs;
                let input = rows_from(pixels, line, i * m, block * m * inputs);
                let mut targets = [std::ptr::null_mut(); MAX_OUTPUTS];
                let rows = results.chunks_exact_mut(width * outputs).skip(i * m);
                for (target, row) in targets.iter_mut().zip(rows).take(written) {
                    *target = row[block * m * outputs..].as_mut_ptr();
                }
                // SAFETY: operands in memory: rows of the pixels as far as the last tile
                // reads, buffers for as many tiles and points, rows of the result from
                // the block's first column to its end.
                unsafe {
                    (kernels.input_transform)(&InputTransform {
                        variant,
                        tables: &self.tables,
                        rows: &input[..n],
                        channels: inputs,
                        tiles,
                        out: transformed.as_mut_ptr(),
                        out_tile: tile,
                        out_point: inputs,
                    });
                    (kernels.matmul)(&Matmul {
                        runs: &[transformed.as_ptr()],
                        len: inputs,
                        step: tile,
                        weights: values.as_ptr(),
                        channels: outputs,
                        pixels: tiles,
                        out: products.as_mut_ptr(),
                        out_step: outputs,
                        activation: None,
                        skip: std::ptr::null(),
                        batch: BatchStrides {
                            count: n * n,
                            input: inputs,
                            weights: inputs * outputs,
                            out: pitch,
                        },
                    });
                    (kernels.output_transform)(&OutputTransform {
                        variant,
                        tables: &self.tables,
                        products: products.as_ptr(),
                        pitch,
                        channels: outputs,
                        tiles,
                        activation,
                        skip: &[],
                        shuffle: 1,
                        rows: &targets[..m],
                        columns: 0..(tiles * m).min(width - block * m),
                    });
                }
            }
        }
        let pitch = area + SPREAD;
        let mut lines = Scratch::take(GROUP * pitch);
        for first in (0..outputs).step_by(GROUP) {
            divide(&results[first..], outputs, &mut lines, pitch);
            for (i, line) in lines.chunks_exact(pitch).enumerate() {
                let plane = image * outputs + first + i;
                let at = (plane * height + band.start * m) * width;
                // SAFETY: *disjoint*: the caller's promise.
                unsafe { sink.put(at, &line[..area], 1) }
            }
        }
    }
}

/// From sums by point, input, output channel back to weights (Co, Ci, r, r).
fn taps_of(variant: Variant, inputs: usize, outputs: usize, sums: &[f32]) -> Vec<f32> {
    let (n, r) = (variant.points(), variant.kernel());
    let matrix = kernel_matrix(variant);
    let column = |tap: usize| matrix.iter().map(|row| row[tap]).collect::<Vec<_>>();
    let transposed: Vec<_> = (0..r).map(column).collect();
    let count = outputs * inputs * r * r;
    let mut weights = Vec::with_capacity(count);
    let sink = Sink::new(&mut weights.spare_capacity_mut()[..count]);
    run_tasks(inputs, n * n * inputs * outputs * r, |input| {
        let mut rows = Scratch::take(r * n * outputs);
        let mut taps = Scratch::take(r * r * outputs);
        rows.fill(0.0);
        taps.fill(0.0);
        let point =
            |y: usize, x: usize| &sums[((y * n + x) * inputs + input) * outputs..][..outputs];
        for (y, row) in rows.chunks_exact_mut(n * outputs).enumerate() {
            for (x, sums) in row.chunks_exact_mut(outputs).enumerate() {
                add_scaled(sums, &transposed[y], (0..n).map(|y| point(y, x)));
            }
            for (x, factors) in transposed.iter().enumerate() {
                let taps = &mut taps[(y * r + x) * outputs..][..outputs];
                add_scaled(taps, factors, row.chunks_exact(outputs));
            }
        }
        let mut kernel = Scratch::take(r * r);
        for output in 0..outputs {
            for (tap, value) in kernel.iter_mut().enumerate() {
                *value = taps[tap * outputs + output];
            }
            // SAFETY: *disjoint*: each task has an input channel of its own.
            unsafe { sink.put((output * inputs + input) * r * r, &kernel, 1) }
        }
    });
    // SAFETY: the tasks cover all weights.
    unsafe { weights.set_len(count) };
    weights
}

/// Tiles that cover a length.
fn tiles(length: usize, outputs: usize) -> usize {
    length.div_ceil(outputs)
}

/// Rows of tiles of images, several at a time.
struct Bands {
    variant: Variant,
    /// Tiles one below the other.
    rows: usize,
    /// Tiles side by side.
    columns: usize,
    /// Rows of a band.
    band: usize,
}

impl Bands {
    /// Of images of so many channels. Bands are so low that there are enough for all
    /// threads, and that one fits into the cache.
    fn new(
        variant: Variant,
        (height, width): (usize, usize),
        batch: usize,
        channels: usize,
    ) -> Self {
        let m = variant.outputs();
        let (rows, columns) = (tiles(height, m), tiles(width, m));
        let for_all = (rows * batch).div_ceil(4 * rayon::current_num_threads());
        let in_cache = BAND / (columns * m * m * channels);
        Self {
            variant,
            rows,
            columns,
            band: for_all.min(in_cache).clamp(1, rows),
        }
    }

    /// Bands of an image.
    fn count(&self) -> usize {
        self.rows.div_ceil(self.band)
    }

    /// The image and the band of a task.
    fn task(&self, task: usize) -> (usize, Range<usize>) {
        let start = task % self.count() * self.band;
        (task / self.count(), start..self.rows.min(start + self.band))
    }

    /// Rows of pixels that a band reads.
    fn rows_read(&self, band: &Range<usize>) -> Range<usize> {
        let m = self.variant.outputs();
        band.start * m..(band.end - 1) * m + self.variant.points()
    }

    /// Columns of pixels that tiles read.
    fn columns_read(&self) -> usize {
        let m = self.variant.outputs();
        (self.columns - 1) * m + self.variant.points()
    }
}

/// The address of a buffer that several threads fill, each its own part.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: an address; what is done with it is up to those who do.
unsafe impl Send for Shared {}

// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// Rows of pixels from one of them on, each from an offset on; null beyond the last.
fn rows_from(pixels: &[f32], row: usize, first: usize, offset: usize) -> [*const f32; MAX_POINTS] {
    let mut rows = pixels.chunks_exact(row).skip(first);
    std::array::from_fn(|_| {
        rows.next()
            .map_or(std::ptr::null(), |row| row[offset..].as_ptr())
    })
}

/// Images that a convolution reads: dense planes with a border.
struct Images<'a> {
    planes: &'a [f32],
    /// Where these are not above zero, so are the planes.
    mask: Option<&'a [f32]>,
    channels: usize,
    size: (usize, usize),
    /// Height of the border at the top, width of it on the left.
    pad: (usize, usize),
    /// Whether the border repeats the edge; else it is zero.
    replicate: bool,
}

impl<'a> Images<'a> {
    /// The images of a convolution.
    fn of_images(geometry: &ConvGeometry, planes: &'a [f32]) -> Self {
        Self {
            planes,
            mask: None,
            channels: geometry.inputs,
            size: geometry.image,
            pad: geometry.pad(),
            replicate: geometry.border == Border::Replicate,
        }
    }

    /// The gradient of the result, with as many zeros around it as take it back to the
    /// size of [`ConvGeometry::grad_grid`].
    fn of_gradient(geometry: &ConvGeometry, operands: &Operands<'a>) -> Self {
        Self {
            planes: operands.grad,
            mask: geometry.relu.then_some(operands.result),
            channels: geometry.outputs,
            size: geometry.size(),
            pad: geometry.grad_pad(),
            replicate: false,
        }
    }

    /// Gathers the channels of an image: by row, column, channel. Rows and columns
    ///  count from the start of the border; beyond the image it goes on.
    fn gather(&self, image: usize, rows: Range<usize>, columns: usize) -> Scratch {
        let Self {
            channels,
            size: (height, width),
            pad: (top, left),
            ..
        } = *self;
        let mut pixels = Scratch::take(rows.len() * columns * channels);
        if rows.is_empty() {
            return pixels;
        }
        let line = columns * channels;
        let area = height * width;
        let planes = image * channels * area;
        let count = width.min(columns - left);
        // The rows of the image among them, and what a row outside repeats.
        let clamped = |y: usize| y.saturating_sub(top).min(height - 1);
        let inside = clamped(rows.start)..clamped(rows.end - 1) + 1;
        let pitch = inside.len() * width + SPREAD;
        // One plane after the other, as they lie in memory.
        let mut lines = Scratch::take(GROUP * pitch);
        for group in (0..channels).step_by(GROUP) {
            for (i, line) in lines.chunks_exact_mut(pitch).enumerate() {
                let at = planes + (group + i) * area + inside.start * width;
                let values = &self.planes[at..][..inside.len() * width];
                match self.mask {
                    Some(mask) => {
                        for ((to, &value), &mask) in line.iter_mut().zip(values).zip(&mask[at..]) {
                            *to = if mask > 0.0 { value } else { 0.0 };
                        }
                    }
                    None => line[..values.len()].copy_from_slice(values),
                }
            }
            for (y, row) in rows.clone().zip(pixels.chunks_exact_mut(line)) {
                let y = (clamped(y) - inside.start) * width;
                let lines = std::array::from_fn(|i| &lines[i * pitch + y..][..count]);
                gather_lines(lines, &mut row[left * channels + group..], channels);
            }
        }
        for (y, row) in rows.zip(pixels.chunks_exact_mut(line)) {
            if !(top..top + height).contains(&y) && !self.replicate {
                row.fill(0.0);
                continue;
            }
            let (before, row) = row.split_at_mut(left * channels);
            let (row, after) = row.split_at_mut(count * channels);
            for (beyond, edge) in [(before, 0), (after, count - 1)] {
                if !self.replicate {
                    beyond.fill(0.0);
                    continue;
                }
                for pixel in beyond.chunks_exact_mut(channels) {
                    pixel.copy_from_slice(&row[edge * channels..][..channels]);
                }
            }
        }
        pixels
    }
}

/// Lines as the first group of channels of pixels.
fn gather_lines(lines: [&[f32]; GROUP], pixels: &mut [f32], channels: usize) {
    let count = lines[0].len();
    let squares = lines.map(|line| line.as_chunks::<SQUARE>().0);
    for at in 0..count / SQUARE {
        let pixels = &mut pixels[at * SQUARE * channels..][..(SQUARE - 1) * channels + GROUP];
        for group in 0..GROUP / SQUARE {
            let square = transposed(std::array::from_fn(|i| squares[group * SQUARE + i][at]));
            for (i, values) in square.iter().enumerate() {
                pixels[i * channels + group * SQUARE..][..SQUARE].copy_from_slice(values);
            }
        }
    }
    for x in count / SQUARE * SQUARE..count {
        for (i, value) in pixels[x * channels..][..GROUP].iter_mut().enumerate() {
            *value = lines[i][x];
        }
    }
}

/// The first group of channels of pixels, as lines that far apart.
fn divide(pixels: &[f32], channels: usize, lines: &mut [f32], pitch: usize) {
    let count = pixels.len().div_ceil(channels);
    for at in (0..count / SQUARE * SQUARE).step_by(SQUARE) {
        let pixels = &pixels[at * channels..][..(SQUARE - 1) * channels + GROUP];
        for group in (0..GROUP).step_by(SQUARE) {
            let pixel = |i: usize| {
                let values = pixels[i * channels + group..].first_chunk::<SQUARE>();
                values.copied().unwrap_or_default()
            };
            let square = transposed(std::array::from_fn(pixel));
            for (i, values) in square.iter().enumerate() {
                lines[(group + i) * pitch + at..][..SQUARE].copy_from_slice(values);
            }
        }
    }
    for x in count / SQUARE * SQUARE..count {
        for (i, &value) in pixels[x * channels..][..GROUP].iter().enumerate() {
            lines[i * pitch + x] = value;
        }
    }
}
