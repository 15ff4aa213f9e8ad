//! Inner loops over pixels that keep their channels together (NHWC), for the
//! inference plan: channels come in groups of [`GROUP`], so that vectors of
//! any width run over channels and every transform is lane by lane.
//!
//! A result's bits depend on the inputs of its own tile and on nothing else:
//! sums run in a fixed order, and lanes are added up by the same tree at
//! every level.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

mod dispatch;

use crate::chain::winograd::{MAX_OUTPUTS, MAX_POINTS, Tables, Variant};
use crate::cpu_level::Level;
use crate::ops::cpu::simd::{HORIZONTAL_SUMS, Vector};
use std::hint::black_box;
use std::mem::MaybeUninit;

/// Channels that are stored together.
pub(crate) const GROUP: usize = 16;

/// Slots of the ring of columns that neighbouring tiles share.
const COLUMNS: usize = 16;

/// The most channels that are summed along the vectors.
pub(crate) const FEW: usize = 4;

/// The most kernels that a large one is cut into from top to bottom.
pub(crate) const MAX_KERNELS: usize = 3;

/// Products of pixels and a matrix: a convolution whose every result is one
/// sum, or one point of Winograd's.
pub(crate) struct Matmul<'a> {
    /// Where the inputs of the first pixel lie, in runs.
    pub(crate) runs: &'a [*const f32],
    /// Length of a run.
    pub(crate) len: usize,
    /// Distance of the inputs of neighbouring pixels.
    pub(crate) step: usize,
    /// By run, input, then channel.
    pub(crate) weights: *const f32,
    /// Channels out, whole groups.
    pub(crate) channels: usize,
    /// Number of pixels.
    pub(crate) pixels: usize,
    /// Results of the first pixel.
    pub(crate) out: *mut f32,
    /// Distance of the results of neighbouring pixels.
    pub(crate) out_step: usize,
    /// What is done to each sum; nothing for Winograd's points.
    pub(crate) finish: Option<Finish>,
    /// Added to the results of the first pixel and on, if not null.
    pub(crate) skip: *const f32,
    /// How often, and what to advance by each time.
    pub(crate) repeat: Repeat,
}

/// The points of a tile, one product after the other.
#[derive(Clone, Copy)]
pub(crate) struct Repeat {
    pub(crate) count: usize,
    pub(crate) input: usize,
    pub(crate) weights: usize,
    pub(crate) out: usize,
}

impl Repeat {
    pub(crate) const ONCE: Self = Self {
        count: 1,
        input: 0,
        weights: 0,
        out: 0,
    };
}

/// What is done to the sum of each channel: `y = sum + bias`, then `y` where
/// it is positive and `slope * y` elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub(crate) bias: *const f32,
    /// Null where all slopes are 0.
    pub(crate) slope: *const f32,
}

/// Tiles of one row to their points.
pub(crate) struct ToPoints<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// The rows of a tile, from its first column.
    pub(crate) rows: &'a [*const f32],
    /// Channels in, whole groups; also the distance of neighbouring pixels.
    pub(crate) channels: usize,
    pub(crate) tiles: usize,
    /// By tile, point (row, column), channel.
    pub(crate) out: *mut f32,
    /// Distance of neighbouring tiles.
    pub(crate) out_tile: usize,
}

/// Points of the tiles of one row to their results.
pub(crate) struct FromPoints<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// By point (row, column), tile, channel.
    pub(crate) products: *const f32,
    /// Distance of neighbouring points.
    pub(crate) pitch: usize,
    /// Channels out, whole groups.
    pub(crate) channels: usize,
    pub(crate) tiles: usize,
    pub(crate) finish: Finish,
    /// Added to the result: rows from the first tile's first column, or none.
    pub(crate) skip: &'a [*const f32],
    /// Each pixel's channels become a square of that side.
    pub(crate) shuffle: usize,
    /// Rows of the result from the first tile's first column, `shuffle` for
    /// each; null where a row is not wanted.
    pub(crate) rows: &'a [*mut f32],
    /// Columns that are wanted, from the first tile's first.
    pub(crate) columns: std::ops::Range<usize>,
}

/// Windows of eight rows of flat samples, three pixels apart, to the points
/// of F(6x6, 3x3).
pub(crate) struct Windows<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) rows: &'a [*const f32],
    /// Samples of a pixel.
    pub(crate) planes: usize,
    /// Number of windows.
    pub(crate) windows: usize,
    /// By phase (pixel modulo three), a ring of eight rows of samples each,
    /// and room for as many.
    pub(crate) phases: *mut f32,
    /// Distance of the rows of a phase.
    pub(crate) phase_pitch: usize,
    /// Where the first row lies in the rings.
    pub(crate) slot: usize,
    /// How many of the last rows are not in the rings yet.
    pub(crate) fresh: usize,
    /// By point (row, column), window, sample.
    pub(crate) out: *mut f32,
    /// Distance of neighbouring points.
    pub(crate) pitch: usize,
}

/// Windows of luma to a group of channels of a 9 x 9 convolution, nine
/// kernels of F(6x6, 3x3).
pub(crate) struct Nines<'a> {
    pub(crate) tables: &'a Tables,
    /// The points of three rows of windows, from the first tile's first.
    pub(crate) runs: [*const f32; 3],
    /// Distance of neighbouring points.
    pub(crate) pitch: usize,
    /// By point (column, row), kernel, channel of the group.
    pub(crate) weights: *const f32,
    pub(crate) tiles: usize,
    /// [`Nines::ROOM`] floats for each tile.
    pub(crate) room: *mut f32,
    pub(crate) finish: Finish,
    /// Rows of the group from the first tile's first column; null where a row
    /// is not wanted.
    pub(crate) rows: &'a [*mut f32],
    /// Distance of neighbouring pixels of these rows.
    pub(crate) pixel: usize,
    /// Columns that are wanted, from the first tile's first.
    pub(crate) columns: std::ops::Range<usize>,
}

impl Nines<'_> {
    const M: usize = Variant::F6x3.outputs();
    const N: usize = Variant::F6x3.points();

    /// Floats for a tile: a column of points, and what all columns make.
    pub(crate) const ROOM: usize = (Self::N + Self::M * Self::N) * GROUP;
}

/// A convolution to a few channels, summed along the vectors.
pub(crate) struct Dots<'a> {
    /// The rows of the kernel's window of the first pixel.
    pub(crate) rows: &'a [*const f32],
    /// Samples of a row of the window: whole groups.
    pub(crate) len: usize,
    /// Distance of neighbouring pixels: whole groups.
    pub(crate) step: usize,
    /// By channel, row, sample.
    pub(crate) weights: *const f32,
    /// One for each channel.
    pub(crate) bias: &'a [f32],
    pub(crate) pixels: usize,
    /// One dense row for each channel.
    pub(crate) out: &'a [*mut f32],
}

/// Rows of a convolution to a few channels: Winograd's points down the
/// columns, summed along the vectors.
pub(crate) struct Columns<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// The rows of the kernels' windows of the first pixel: those of the first
    /// kernel, and as many more for each further one as a kernel is high.
    pub(crate) rows: &'a [*const f32],
    /// Kernels, one below the other.
    pub(crate) kernels: usize,
    /// Samples of a row of the window: whole groups.
    pub(crate) len: usize,
    /// Distance of neighbouring pixels: whole groups.
    pub(crate) step: usize,
    /// By point, channel, kernel, sample.
    pub(crate) weights: *const f32,
    /// One for each channel.
    pub(crate) bias: &'a [f32],
    pub(crate) pixels: usize,
    /// Room for [`Columns::points`] floats.
    pub(crate) points: *mut f32,
    /// Room for [`Columns::products`] floats.
    pub(crate) products: *mut f32,
    /// By row, channel: one dense row, whole groups.
    pub(crate) out: *mut f32,
    /// Distance of these rows: whole groups.
    pub(crate) pitch: usize,
}

impl Columns<'_> {
    /// Pixels that are summed together: their points stay in the cache.
    const BLOCK: usize = 3 * GROUP;

    /// Floats of the points of a block of pixels, each of `step` samples.
    pub(crate) fn points(variant: Variant, kernels: usize, len: usize, step: usize) -> usize {
        kernels * variant.points() * Self::row(len, step)
    }

    /// Floats of the sums of a block.
    pub(crate) fn products(variant: Variant, channels: usize) -> usize {
        channels * variant.points() * Self::BLOCK
    }

    /// Floats of a row of a block's points.
    fn row(len: usize, step: usize) -> usize {
        (Self::BLOCK - 1) * step + len
    }
}

/// The loops at one level. The callers vouch that all pointers are good for
/// what the fields describe, vectors of [`GROUP`] at the end of rows included.
pub(crate) struct Loops {
    pub(crate) level: Level,
    pub(crate) matmul: unsafe fn(&Matmul<'_>),
    pub(crate) to_points: unsafe fn(&ToPoints<'_>),
    pub(crate) from_points: unsafe fn(&FromPoints<'_>),
    pub(crate) windows: unsafe fn(&Windows<'_>),
    pub(crate) nines: unsafe fn(&Nines<'_>),
    pub(crate) dots: unsafe fn(&Dots<'_>),
    pub(crate) columns: unsafe fn(&Columns<'_>),
}

impl std::fmt::Debug for Loops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Loops").field(&self.level).finish()
    }
}

/// `G` groups of channels of `P` pixels at a time; a group is `W` vectors.
///
/// # Safety
///
/// As for [`Loops`], with the instructions of `V` enabled; so for all below.
#[inline(always)]
pub(super) unsafe fn matmul<V: Vector, const W: usize, const P: usize, const G: usize>(
    a: &Matmul<'_>,
) {
    let square = a.len == GROUP && a.channels == GROUP && a.runs.len() == 1;
    if W == 1 && square && a.pixels >= SQUARE && a.finish.is_none() {
        // SAFETY: there are as many inputs as channels, and enough pixels.
        return unsafe { squares::<V>(a) };
    }
    // SAFETY: pixels, channels and repeats stay below their numbers.
    unsafe {
        for i in 0..a.repeat.count {
            let mut channel = 0;
            while channel < a.channels {
                let wide = G == 2 && channel + 2 * GROUP <= a.channels;
                let mut pixel = 0;
                while pixel < a.pixels {
                    let at = (i, channel, pixel);
                    let left = a.pixels - pixel;
                    pixel += match wide {
                        true if left >= P => pixels::<V, W, P, G>(a, at),
                        true => rest::<V, W, G>(a, at, left),
                        false if left >= P => pixels::<V, W, P, 1>(a, at),
                        false => rest::<V, W, 1>(a, at, left),
                    };
                }
                channel += if wide { 2 * GROUP } else { GROUP };
            }
        }
    }
}

/// Pixels that [`squares`] takes at a time.
const SQUARE: usize = 8;

/// One group of channels to one, where a vector holds a group: all weights
/// stay in registers. The last pixels are computed twice rather than fewer at
/// a time.
#[inline(always)]
unsafe fn squares<V: Vector>(a: &Matmul<'_>) {
    // SAFETY: as for `matmul`.
    unsafe {
        for i in 0..a.repeat.count {
            let mut weights = [V::splat(0.0); GROUP];
            for k in 0..GROUP {
                weights[k] = V::load(a.weights.add(i * a.repeat.weights + k * GROUP));
            }
            let mut pixel = 0;
            while pixel < a.pixels {
                pixel = pixel.min(a.pixels - SQUARE);
                let input = a.runs[0].add(i * a.repeat.input + pixel * a.step);
                let mut rows = [input; SQUARE];
                for p in 0..SQUARE {
                    rows[p] = black_box(input.add(p * a.step));
                }
                let mut sums = [V::splat(0.0); SQUARE];
                // Too long for the compiler to unroll by itself.
                macro_rules! products {
                    ($($k:literal)+) => {$(
                        for p in 0..SQUARE {
                            let value = V::splat(*rows[p].add($k));
                            sums[p] = sums[p].mul_add(value, weights[$k]);
                        }
                    )+};
                }
                products!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
                let out = a.out.add(i * a.repeat.out + pixel * a.out_step);
                for p in 0..SQUARE {
                    sums[p].store(out.add(p * a.out_step));
                }
                pixel += SQUARE;
            }
        }
    }
}

/// What is left of a row of pixels after the last block.
#[inline(always)]
unsafe fn rest<V: Vector, const W: usize, const G: usize>(
    a: &Matmul<'_>,
    at: (usize, usize, usize),
    left: usize,
) -> usize {
    // SAFETY: as for `matmul`.
    unsafe {
        match left {
            1 => pixels::<V, W, 1, G>(a, at),
            2 => pixels::<V, W, 2, G>(a, at),
            3 => pixels::<V, W, 3, G>(a, at),
            4 => pixels::<V, W, 4, G>(a, at),
            5 => pixels::<V, W, 5, G>(a, at),
            6 => pixels::<V, W, 6, G>(a, at),
            7 => pixels::<V, W, 7, G>(a, at),
            8 => pixels::<V, W, 8, G>(a, at),
            9 => pixels::<V, W, 9, G>(a, at),
            10 => pixels::<V, W, 10, G>(a, at),
            _ => pixels::<V, W, 11, G>(a, at),
        }
    }
}

/// Where every third of `P` pixels lies, so that an address is a pointer and
/// once or twice the distance. Without the black box the compiler adds them up
/// one after the other.
#[inline(always)]
unsafe fn in_threes<const P: usize>(first: *const f32, step: usize) -> [*const f32; 4] {
    const { assert!(P <= 12) };
    let mut threes = [first; 4];
    for (i, three) in threes.iter_mut().enumerate().take(P.div_ceil(3)) {
        // SAFETY: the caller has that many pixels.
        *three = black_box(unsafe { first.add(i * 3 * step) });
    }
    threes
}

/// The products of a block of pixels and channels, at (repeat, channel,
/// pixel); returns `P`.
#[inline(always)]
unsafe fn pixels<V: Vector, const W: usize, const P: usize, const G: usize>(
    a: &Matmul<'_>,
    (i, channel, pixel): (usize, usize, usize),
) -> usize {
    // SAFETY: as for `matmul`.
    unsafe {
        let mut sums = [[[V::splat(0.0); W]; G]; P];
        let mut weights = a.weights.add(i * a.repeat.weights + channel);
        for &run in a.runs {
            let input = run.add(i * a.repeat.input + pixel * a.step);
            let mut threes = in_threes::<P>(input, a.step);
            for _ in 0..a.len {
                let mut row = [[V::splat(0.0); W]; G];
                for g in 0..G {
                    for w in 0..W {
                        row[g][w] = V::load(weights.add(g * GROUP + w * V::LANES));
                    }
                }
                weights = weights.add(a.channels);
                for p in 0..P {
                    let value = V::splat(*threes[p / 3].add(p % 3 * a.step));
                    for g in 0..G {
                        for w in 0..W {
                            sums[p][g][w] = sums[p][g][w].mul_add(value, row[g][w]);
                        }
                    }
                }
                for three in &mut threes {
                    *three = three.add(1);
                }
            }
        }
        let out = a.out.add(i * a.repeat.out + pixel * a.out_step + channel);
        for p in 0..P {
            for g in 0..G {
                for w in 0..W {
                    let at = g * GROUP + w * V::LANES;
                    sums[p][g][w].store(out.add(p * a.out_step + at));
                }
            }
        }
        if let Some(finish) = &a.finish {
            for p in 0..P {
                for g in 0..G {
                    for w in 0..W {
                        let at = g * GROUP + w * V::LANES;
                        let out = out.add(p * a.out_step + at);
                        let mut sum = finished::<V>(V::load(out), finish, channel + at);
                        if !a.skip.is_null() {
                            let pixel = (pixel + p) * a.out_step;
                            sum = sum.add(V::load(a.skip.add(pixel + channel + at)));
                        }
                        sum.store(out);
                    }
                }
            }
        }
        P
    }
}

/// Adds the bias and bends what is negative.
#[inline(always)]
unsafe fn finished<V: Vector>(sum: V, finish: &Finish, channel: usize) -> V {
    // SAFETY: the caller's `channel` has a vector of biases and slopes.
    unsafe {
        let sum = sum.add(V::load(finish.bias.add(channel)));
        if finish.slope.is_null() {
            return sum.relu();
        }
        let (positive, negative) = sum.split_sign();
        positive.mul_add(V::load(finish.slope.add(channel)), negative)
    }
}

/// Evaluates `2 * PAIRS + 2` inputs at the points.
#[inline(always)]
unsafe fn evaluate<V: Vector, const PAIRS: usize>(
    tables: &Tables,
    x: &[V; MAX_POINTS],
    mut put: impl FnMut(usize, V),
) {
    // SAFETY: the instructions are enabled.
    unsafe {
        let (mut zero, mut infinity) = (x[2 * PAIRS], x[2 * PAIRS + 1]);
        for j in (0..PAIRS).rev() {
            let factor = V::splat(tables.whole[j]);
            zero = zero.mul_add(factor, x[2 * j]);
            infinity = infinity.mul_add(factor, x[2 * j + 1]);
        }
        put(0, zero);
        put(2 * PAIRS + 1, infinity);
        for i in 0..PAIRS {
            let (mut even, mut odd) = (x[2 * PAIRS], x[2 * PAIRS - 1]);
            for j in (0..PAIRS - 1).rev() {
                let factor = V::splat(tables.pair[i][j]);
                even = even.mul_add(factor, x[2 * j + 2]);
                odd = odd.mul_add(factor, x[2 * j + 1]);
            }
            let odd = odd.mul(V::splat(tables.point[i]));
            put(2 * i + 1, even.add(odd));
            put(2 * i + 2, even.sub(odd));
        }
    }
}

/// Interpolates `M` results from the values at the points.
#[inline(always)]
unsafe fn interpolate<V: Vector, const PAIRS: usize, const M: usize>(
    tables: &Tables,
    x: &[V; MAX_POINTS],
    mut put: impl FnMut(usize, V),
) {
    // SAFETY: the instructions are enabled.
    unsafe {
        let mut sums = [V::splat(0.0); PAIRS];
        let mut differences = sums;
        for j in 0..PAIRS {
            sums[j] = x[2 * j + 1].add(x[2 * j + 2]);
            differences[j] = x[2 * j + 1].sub(x[2 * j + 2]);
        }
        for i in 0..M {
            let terms = if i % 2 == 0 { &sums } else { &differences };
            let mut y = if i == 0 { x[0] } else { V::splat(0.0) };
            if i == M - 1 {
                y = x[2 * PAIRS + 1];
            }
            for j in 0..PAIRS {
                y = if i == 0 {
                    y.add(terms[j])
                } else {
                    y.mul_add(V::splat(tables.power[i][j]), terms[j])
                };
            }
            put(i, y);
        }
    }
}

/// [`ToPoints`] at a level.
#[inline(always)]
pub(super) unsafe fn to_points<V: Vector>(a: &ToPoints<'_>) {
    // SAFETY: as the caller promises.
    unsafe {
        match a.variant {
            Variant::F4x3 => tiles_to_points::<V, 2, 4>(a),
            Variant::F6x3 => tiles_to_points::<V, 3, 6>(a),
            Variant::F4x5 => tiles_to_points::<V, 3, 4>(a),
            Variant::F6x5 => tiles_to_points::<V, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn tiles_to_points<V: Vector, const PAIRS: usize, const M: usize>(a: &ToPoints<'_>) {
    let n = 2 * PAIRS + 2;
    // SAFETY: rows reach to the last column of the last tile, `out` has all
    // points of all tiles.
    unsafe {
        let rows: &[*const f32] = &a.rows[..n];
        let mut ring = [[V::splat(0.0); MAX_POINTS]; COLUMNS];
        for channel in (0..a.channels).step_by(V::LANES) {
            for tile in 0..a.tiles {
                let known = if tile == 0 { 0 } else { n - M };
                for column in tile * M + known..tile * M + n {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for y in 0..n {
                        x[y] = V::load(rows.get_unchecked(y).add(column * a.channels + channel));
                    }
                    let slot = ring.get_unchecked_mut(column % COLUMNS);
                    evaluate::<V, PAIRS>(a.tables, &x, |y, value| slot[y] = value);
                }
                let out = a.out.add(tile * a.out_tile + channel);
                for y in 0..n {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for column in 0..n {
                        let slot = (tile * M + column) % COLUMNS;
                        x[column] = ring.get_unchecked(slot)[y];
                    }
                    let out = out.add(y * n * a.channels);
                    evaluate::<V, PAIRS>(a.tables, &x, |x, value| {
                        value.store(out.add(x * a.channels));
                    });
                }
            }
        }
    }
}

/// [`FromPoints`] at a level.
#[inline(always)]
pub(super) unsafe fn from_points<V: Vector>(a: &FromPoints<'_>) {
    // SAFETY: as the caller promises.
    unsafe {
        match a.variant {
            Variant::F4x3 => tiles_from_points::<V, 2, 4>(a),
            Variant::F6x3 => tiles_from_points::<V, 3, 6>(a),
            Variant::F4x5 => tiles_from_points::<V, 3, 4>(a),
            Variant::F6x5 => tiles_from_points::<V, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn tiles_from_points<V: Vector, const PAIRS: usize, const M: usize>(a: &FromPoints<'_>) {
    let n = 2 * PAIRS + 2;
    let r = a.shuffle;
    // Channels of a pixel of the result.
    let channels = a.channels / (r * r);
    // SAFETY: rows that are not null have all wanted columns.
    unsafe {
        for channel in (0..a.channels).step_by(V::LANES) {
            let (square, lane) = (channel / channels, channel % channels);
            let (dy, dx) = (square / r, square % r);
            for tile in 0..a.tiles {
                let products = a.products.add(tile * a.channels + channel);
                // Every place that is read below is written first.
                let mut half = [[MaybeUninit::<V>::uninit(); MAX_POINTS]; MAX_OUTPUTS];
                for column in 0..n {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for y in 0..n {
                        x[y] = V::load(products.add((y * n + column) * a.pitch));
                    }
                    interpolate::<V, PAIRS, M>(a.tables, &x, |y, value| {
                        half[y][column] = MaybeUninit::new(value);
                    });
                }
                for y in 0..M {
                    let row = *a.rows.get_unchecked(y * r + dy);
                    if row.is_null() {
                        continue;
                    }
                    let row = row.add(lane);
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for column in 0..n {
                        x[column] = half[y][column].assume_init();
                    }
                    interpolate::<V, PAIRS, M>(a.tables, &x, |x, value| {
                        let column = tile * M + x;
                        if a.columns.contains(&column) {
                            let mut value = finished::<V>(value, &a.finish, channel);
                            if let Some(skip) = a.skip.get(y) {
                                value = value.add(V::load(skip.add(column * channels + lane)));
                            }
                            value.store(row.add((column * r + dx) * channels));
                        }
                    });
                }
            }
        }
    }
}

/// [`Windows`] at a level.
#[inline(always)]
pub(super) unsafe fn windows<V: Vector>(a: &Windows<'_>) {
    const PAIRS: usize = 3;
    const N: usize = 2 * PAIRS + 2;
    let stride = 3 * a.planes;
    // Pixels of a phase: one for each window, and those that the last reaches.
    let pixels = a.windows + (N - 1) / 3;
    // SAFETY: rows reach to the last sample of the last window, and phases and
    // `out` have room for whole vectors after it.
    unsafe {
        let rows: &[*const f32] = &a.rows[..N];
        let points = a.phases.add(3 * N * a.phase_pitch);
        let ring = |phase: usize, y: usize| {
            let row = phase * N + (a.slot + y) % N;
            a.phases.add(row * a.phase_pitch)
        };
        for phase in 0..3 {
            // The last window does not reach the last pixel of every phase.
            let known = (3 * (a.windows - 1) + N - phase).div_ceil(3);
            for y in N - a.fresh..N {
                let row = rows.get_unchecked(y).add(phase * a.planes);
                let out = ring(phase, y);
                for pixel in 0..known {
                    for plane in 0..a.planes {
                        *out.add(pixel * a.planes + plane) = *row.add(pixel * stride + plane);
                    }
                }
            }
            let mut rows = [std::ptr::null(); N];
            for (y, row) in rows.iter_mut().enumerate() {
                *row = ring(phase, y).cast_const();
            }
            for at in (0..pixels * a.planes).step_by(V::LANES) {
                let mut x = [V::splat(0.0); MAX_POINTS];
                for y in 0..N {
                    x[y] = V::load(rows[y].add(at));
                }
                let out = points.add(phase * N * a.phase_pitch + at);
                evaluate::<V, PAIRS>(a.tables, &x, |y, value| {
                    value.store(out.add(y * a.phase_pitch));
                });
            }
        }
        for y in 0..N {
            for at in (0..a.windows * a.planes).step_by(V::LANES) {
                let mut x = [V::splat(0.0); MAX_POINTS];
                for column in 0..N {
                    let phase = points.add((column % 3 * N + y) * a.phase_pitch);
                    x[column] = V::load(phase.add(column / 3 * a.planes + at));
                }
                let out = a.out.add(y * N * a.pitch + at);
                evaluate::<V, PAIRS>(a.tables, &x, |x, value| value.store(out.add(x * a.pitch)));
            }
        }
    }
}

/// Tiles that [`nines`] takes at a time.
const FOUR: usize = 4;

/// [`Nines`] at a level. The weights of a point stay in registers for all
/// tiles, and a column of points becomes rows of results before the next one
/// is made, so that all of it stays in the first-level cache.
#[inline(always)]
pub(super) unsafe fn nines<V: Vector, const W: usize>(a: &Nines<'_>) {
    const PAIRS: usize = 3;
    const M: usize = Nines::M;
    const N: usize = Nines::N;
    // SAFETY: the room holds all tiles, and rows that are not null have all
    // wanted columns.
    unsafe {
        let halves = a.room.add(a.tiles * N * V::LANES);
        for lane in (0..W).map(|w| w * V::LANES) {
            for column in 0..N {
                for row in 0..N {
                    let point = a.weights.add((column * N + row) * 9 * GROUP + lane);
                    let mut weights = [V::splat(0.0); 9];
                    for k in 0..9 {
                        weights[k] = V::load(point.add(k * GROUP));
                    }
                    let runs = a.runs.map(|run| run.add((row * N + column) * a.pitch));
                    let out = a.room.add(row * a.tiles * V::LANES);
                    let mut tile = 0;
                    while tile < a.tiles {
                        let left = a.tiles - tile;
                        tile += match left >= FOUR {
                            true => nine::<V, FOUR>(&runs, &weights, tile, out),
                            false => nine::<V, 1>(&runs, &weights, tile, out),
                        };
                    }
                }
                for tile in 0..a.tiles {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for row in 0..N {
                        x[row] = V::load(a.room.add((row * a.tiles + tile) * V::LANES));
                    }
                    interpolate::<V, PAIRS, M>(a.tables, &x, |y, value| {
                        let at = (tile * M + y) * N + column;
                        value.store(halves.add(at * V::LANES));
                    });
                }
            }
            for tile in 0..a.tiles {
                for (y, &row) in a.rows.iter().enumerate() {
                    if row.is_null() {
                        continue;
                    }
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for column in 0..N {
                        let at = (tile * M + y) * N + column;
                        x[column] = V::load(halves.add(at * V::LANES));
                    }
                    interpolate::<V, PAIRS, M>(a.tables, &x, |x, value| {
                        let column = tile * M + x;
                        if a.columns.contains(&column) {
                            let value = finished::<V>(value, &a.finish, lane);
                            value.store(row.add(column * a.pixel + lane));
                        }
                    });
                }
            }
        }
    }
}

/// The products of a point of `P` tiles; returns `P`.
#[inline(always)]
unsafe fn nine<V: Vector, const P: usize>(
    runs: &[*const f32; 3],
    weights: &[V; 9],
    tile: usize,
    out: *mut f32,
) -> usize {
    // SAFETY: as for `nines`; a tile's windows are two from the next tile's.
    unsafe {
        let mut sums = [V::splat(0.0); P];
        for run in 0..3 {
            let input = runs[run].add(2 * tile);
            for k in 0..3 {
                for p in 0..P {
                    let value = V::splat(*input.add(2 * p + k));
                    sums[p] = sums[p].mul_add(value, weights[3 * run + k]);
                }
            }
        }
        for p in 0..P {
            sums[p].store(out.add((tile + p) * V::LANES));
        }
        P
    }
}

/// [`Dots`] at a level: `ONE` pixels at a time for one channel, or `THREE` for
/// three.
#[inline(always)]
pub(super) unsafe fn dots<V: Vector, const W: usize, const ONE: usize, const THREE: usize>(
    a: &Dots<'_>,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut channel = 0;
        while channel < a.bias.len() {
            let three = a.bias.len() - channel >= 3;
            let mut pixel = 0;
            while pixel < a.pixels {
                let left = a.pixels - pixel;
                pixel += match three {
                    true if left >= THREE => dot::<V, W, THREE, 3>(a, channel, pixel),
                    true => dot::<V, W, 1, 3>(a, channel, pixel),
                    false if left >= ONE => dot::<V, W, ONE, 1>(a, channel, pixel),
                    false => dot::<V, W, 1, 1>(a, channel, pixel),
                };
            }
            channel += if three { 3 } else { 1 };
        }
    }
}

/// `P` pixels of `C` channels; returns `P`.
#[inline(always)]
unsafe fn dot<V: Vector, const W: usize, const P: usize, const C: usize>(
    a: &Dots<'_>,
    channel: usize,
    pixel: usize,
) -> usize {
    // SAFETY: as for `dots`.
    unsafe {
        let mut sums = [[[V::splat(0.0); W]; C]; P];
        let window = a.rows.len() * a.len;
        let mut weights = a.weights.add(channel * window);
        for &row in a.rows {
            let threes = in_threes::<P>(row.add(pixel * a.step), a.step);
            for at in (0..a.len).step_by(GROUP) {
                for w in 0..W {
                    let at = at + w * V::LANES;
                    let mut factors = [V::splat(0.0); C];
                    for c in 0..C {
                        factors[c] = V::load(weights.add(c * window + at));
                    }
                    for p in 0..P {
                        let value = V::load(threes[p / 3].add(p % 3 * a.step + at));
                        for c in 0..C {
                            sums[p][c][w] = sums[p][c][w].mul_add(factors[c], value);
                        }
                    }
                }
            }
            weights = weights.add(a.len);
        }
        for c in 0..C {
            let bias = *a.bias.get_unchecked(channel + c);
            let out = (*a.out.get_unchecked(channel + c)).add(pixel);
            for p in (0..P).step_by(HORIZONTAL_SUMS) {
                let mut vectors = [V::splat(0.0); HORIZONTAL_SUMS];
                for i in 0..HORIZONTAL_SUMS.min(P - p) {
                    let mut parts = sums[p + i][c];
                    let mut count = W;
                    while count > 1 {
                        count /= 2;
                        for w in 0..count {
                            parts[w] = parts[w].add(parts[w + count]);
                        }
                    }
                    vectors[i] = parts[0];
                }
                if P - p >= HORIZONTAL_SUMS {
                    let totals = V::horizontal_sums(vectors);
                    for i in 0..HORIZONTAL_SUMS {
                        *out.add(p + i) = totals[i] + bias;
                    }
                } else {
                    for i in 0..P - p {
                        *out.add(p + i) = vectors[i].horizontal_sum() + bias;
                    }
                }
            }
        }
        P
    }
}

/// [`Columns`] at a level, as [`dots`].
#[inline(always)]
pub(super) unsafe fn columns<V: Vector, const W: usize, const ONE: usize, const THREE: usize>(
    a: &Columns<'_>,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match a.variant {
            Variant::F4x3 => blocks_of_columns::<V, W, ONE, THREE, 2, 4>(a),
            Variant::F6x3 => blocks_of_columns::<V, W, ONE, THREE, 3, 6>(a),
            Variant::F4x5 => blocks_of_columns::<V, W, ONE, THREE, 3, 4>(a),
            Variant::F6x5 => blocks_of_columns::<V, W, ONE, THREE, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn blocks_of_columns<
    V: Vector,
    const W: usize,
    const ONE: usize,
    const THREE: usize,
    const PAIRS: usize,
    const M: usize,
>(
    a: &Columns<'_>,
) {
    let n = 2 * PAIRS + 2;
    let channels = a.bias.len();
    let row = Columns::row(a.len, a.step);
    let no_bias = [0.0; FEW];
    // SAFETY: rows reach to the last sample of the last pixel's window, and
    // the rooms hold a block.
    unsafe {
        for first in (0..a.pixels).step_by(Columns::BLOCK) {
            let pixels = (a.pixels - first).min(Columns::BLOCK);
            for kernel in 0..a.kernels {
                let rows: &[*const f32] = &a.rows[kernel * a.variant.kernel()..][..n];
                let points = a.points.add(kernel * n * row);
                for at in (0..(pixels - 1) * a.step + a.len).step_by(V::LANES) {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for y in 0..n {
                        x[y] = V::load(rows.get_unchecked(y).add(first * a.step + at));
                    }
                    evaluate::<V, PAIRS>(a.tables, &x, |y, value| {
                        value.store(points.add(y * row + at));
                    });
                }
            }
            for point in 0..n {
                let mut rows = [std::ptr::null(); MAX_KERNELS];
                for kernel in 0..a.kernels {
                    rows[kernel] = a.points.add((kernel * n + point) * row).cast_const();
                }
                let mut out = [std::ptr::null_mut(); FEW];
                for channel in 0..channels {
                    let line = channel * n + point;
                    out[channel] = a.products.add(line * Columns::BLOCK);
                }
                dots::<V, W, ONE, THREE>(&Dots {
                    rows: &rows[..a.kernels],
                    len: a.len,
                    step: a.step,
                    weights: a.weights.add(point * channels * a.kernels * a.len),
                    bias: &no_bias[..channels],
                    pixels,
                    out: &out[..channels],
                });
            }
            for channel in 0..channels {
                let bias = V::splat(a.bias[channel]);
                let products = a.products.add(channel * n * Columns::BLOCK);
                for at in (0..pixels).step_by(V::LANES) {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for point in 0..n {
                        x[point] = V::load(products.add(point * Columns::BLOCK + at));
                    }
                    let out = a.out.add(channel * a.pitch + first + at);
                    interpolate::<V, PAIRS, M>(a.tables, &x, |y, value| {
                        value.add(bias).store(out.add(y * channels * a.pitch));
                    });
                }
            }
        }
    }
}
