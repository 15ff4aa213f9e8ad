//! 9 x 9 convolutions of planes, as window_products 3 x 3 kernels that share their
//! transformed windows.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

use super::epilogue::{BiasActivation, bias_activation};
use super::group::GROUP;
use super::winograd::{evaluate, interpolate};
use crate::ops::cpu::simd::Vector;
use crate::ops::winograd::{MAX_POINTS, Tables, Variant};
use std::ops::Range;

/// The input transform of F(6x6, 3x3) over windows of eight rows, three pixels
/// apart, of pixels of a few planes.
pub(crate) struct WindowTransform<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) rows: &'a [*const f32],
    /// Samples of a pixel.
    pub(crate) planes: usize,
    /// Number of windows.
    pub(crate) windows: usize,
    /// By phase (pixel modulo three), a ring of eight rows of samples each;
    /// then scratch of the same size: `2 * 3 * 8` rows.
    pub(crate) phases: *mut f32,
    /// Distance of the rows of a phase.
    pub(crate) phase_pitch: usize,
    /// Where the first row lies in the rings.
    pub(crate) slot: usize,
    /// How many of the last rows are not in the rings yet.
    pub(crate) new_rows: usize,
    /// By point (row, column), window, sample.
    pub(crate) out: *mut f32,
    /// Distance of neighbouring points.
    pub(crate) pitch: usize,
}

/// WindowTransform of luma to a group of channels of a 9 x 9 convolution, window_products
/// kernels of F(6x6, 3x3).
pub(crate) struct Conv9x9<'a> {
    pub(crate) tables: &'a Tables,
    /// The points of three rows of windows, from the first tile's first.
    pub(crate) runs: [*const f32; 3],
    /// Distance of neighbouring points.
    pub(crate) pitch: usize,
    /// By point (column, row), kernel, channel of the group.
    pub(crate) weights: *const f32,
    pub(crate) tiles: usize,
    /// [`Conv9x9::SCRATCH`] floats for each tile.
    pub(crate) scratch: *mut f32,
    pub(crate) activation: BiasActivation,
    /// Rows of the group from the first tile's first column; null where a row
    /// is not computed.
    pub(crate) rows: &'a [*mut f32],
    /// Distance of neighbouring pixels of these rows.
    pub(crate) pixel: usize,
    /// Columns to write, counted from the first tile's first.
    pub(crate) columns: Range<usize>,
}

impl Conv9x9<'_> {
    const M: usize = Variant::F6x3.outputs();
    const N: usize = Variant::F6x3.points();

    /// Floats of scratch for a tile: the products of one column of points, and
    /// the half-transformed results of all columns.
    pub(crate) const SCRATCH: usize = (Self::N + Self::M * Self::N) * GROUP;
}

/// [`WindowTransform`] at a level.
#[inline(always)]
pub(super) unsafe fn transform_windows<V: Vector>(a: &WindowTransform<'_>) {
    const PAIRS: usize = 3;
    const N: usize = 2 * PAIRS + 2;
    let stride = 3 * a.planes;
    // Pixels of a phase: one for each window, and those that the last reaches.
    let pixels = a.windows + (N - 1) / 3;
    // SAFETY: rows reach to the last sample of the last window, and phases and
    // `out` hold whole vectors after it.
    unsafe {
        let rows: &[*const f32] = &a.rows[..N];
        let transformed = a.phases.add(3 * N * a.phase_pitch);
        let ring = |phase: usize, y: usize| {
            let row = phase * N + (a.slot + y) % N;
            a.phases.add(row * a.phase_pitch)
        };
        for phase in 0..3 {
            // The last window does not reach the last pixel of every phase.
            let known = (3 * (a.windows - 1) + N - phase).div_ceil(3);
            for y in N - a.new_rows..N {
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
                let out = transformed.add(phase * N * a.phase_pitch + at);
                evaluate::<V, PAIRS>(a.tables, &x, |y, value| {
                    value.store(out.add(y * a.phase_pitch));
                });
            }
        }
        for y in 0..N {
            for at in (0..a.windows * a.planes).step_by(V::LANES) {
                let mut x = [V::splat(0.0); MAX_POINTS];
                for column in 0..N {
                    let phase = transformed.add((column % 3 * N + y) * a.phase_pitch);
                    x[column] = V::load(phase.add(column / 3 * a.planes + at));
                }
                let out = a.out.add(y * N * a.pitch + at);
                evaluate::<V, PAIRS>(a.tables, &x, |x, value| value.store(out.add(x * a.pitch)));
            }
        }
    }
}

/// Tiles that [`conv9x9`] takes at a time.
const TILES_AT_ONCE: usize = 4;

/// [`Conv9x9`] at a level. The weights of a point stay in registers for all
/// tiles, and a column of points becomes rows of results before the next one
/// is computed, so that all of it stays in the first-level cache.
#[inline(always)]
pub(super) unsafe fn conv9x9<V: Vector, const W: usize>(a: &Conv9x9<'_>) {
    const PAIRS: usize = 3;
    const M: usize = Conv9x9::M;
    const N: usize = Conv9x9::N;
    // SAFETY: the scratch holds all tiles, and rows that are not null have all
    // columns to write.
    unsafe {
        let halves = a.scratch.add(a.tiles * N * V::LANES);
        for lane in (0..W).map(|w| w * V::LANES) {
            for column in 0..N {
                for row in 0..N {
                    let point = a.weights.add((column * N + row) * 9 * GROUP + lane);
                    let mut weights = [V::splat(0.0); 9];
                    for k in 0..9 {
                        weights[k] = V::load(point.add(k * GROUP));
                    }
                    let runs = a.runs.map(|run| run.add((row * N + column) * a.pitch));
                    let out = a.scratch.add(row * a.tiles * V::LANES);
                    let mut tile = 0;
                    while tile < a.tiles {
                        let left = a.tiles - tile;
                        tile += match left >= TILES_AT_ONCE {
                            true => window_products::<V, TILES_AT_ONCE>(&runs, &weights, tile, out),
                            false => window_products::<V, 1>(&runs, &weights, tile, out),
                        };
                    }
                }
                for tile in 0..a.tiles {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for row in 0..N {
                        x[row] = V::load(a.scratch.add((row * a.tiles + tile) * V::LANES));
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
                            let value = bias_activation::<V>(value, &a.activation, lane);
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
unsafe fn window_products<V: Vector, const P: usize>(
    runs: &[*const f32; 3],
    weights: &[V; 9],
    tile: usize,
    out: *mut f32,
) -> usize {
    // SAFETY: operands in memory; a tile's windows are two from the next tile's.
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
