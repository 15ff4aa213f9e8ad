//! Winograd's transforms of tiles, from and to rows of pixels.

#![expect(
    clippy::needless_range_loop,
    reason = "plain counters over registers unroll and read alike"
)]

use super::epilogue::{BiasActivation, bias_activation};
use crate::ops::cpu::simd::Vector;
use crate::ops::winograd::{MAX_OUTPUTS, MAX_POINTS, Tables, Variant};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Slots of the ring of columns that neighbouring tiles share.
const RING: usize = 16;

/// The input transform of one row of tiles.
pub(crate) struct InputTransform<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// The rows of a tile, from its first column.
    pub(crate) rows: &'a [*const f32],
    /// Channels in, whole groups or half a one; also the distance of neighbouring pixels.
    pub(crate) channels: usize,
    pub(crate) tiles: usize,
    /// By tile, point (row, column), channel.
    pub(crate) out: *mut f32,
    /// Distance of neighbouring tiles.
    pub(crate) out_tile: usize,
    /// Distance of neighbouring points.
    pub(crate) out_point: usize,
}

/// The transform of the gradient of one row of tiles of a result: the transpose of the
/// output transform.
pub(crate) struct GradientTransform<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// The rows of a tile of the result, from its first column.
    pub(crate) rows: &'a [*const f32],
    /// Channels, whole groups or half a one; also the distance of neighbouring pixels.
    pub(crate) channels: usize,
    pub(crate) tiles: usize,
    /// By tile, point (row, column), channel.
    pub(crate) out: *mut f32,
    /// Distance of neighbouring tiles.
    pub(crate) out_tile: usize,
    /// Distance of neighbouring points.
    pub(crate) out_point: usize,
}

/// The output transform of one row of tiles.
pub(crate) struct OutputTransform<'a> {
    pub(crate) variant: Variant,
    pub(crate) tables: &'a Tables,
    /// By point (row, column), tile, channel.
    pub(crate) products: *const f32,
    /// Distance of neighbouring points.
    pub(crate) pitch: usize,
    /// Channels out, whole groups or half a one.
    pub(crate) channels: usize,
    pub(crate) tiles: usize,
    pub(crate) activation: BiasActivation,
    /// Added to the result: rows from the first tile's first column, or none.
    pub(crate) skip: &'a [*const f32],
    /// Each pixel's channels become a square of that side.
    pub(crate) shuffle: usize,
    /// Rows of the result from the first tile's first column, `shuffle` for
    /// each; null where a row is not computed.
    pub(crate) rows: &'a [*mut f32],
    /// Columns to write, counted from the first tile's first.
    pub(crate) columns: Range<usize>,
}

/// Evaluates `2 * PAIRS + 2` inputs at the points.
#[inline(always)]
pub(super) unsafe fn evaluate<V: Vector, const PAIRS: usize>(
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
pub(super) unsafe fn interpolate<V: Vector, const PAIRS: usize, const M: usize>(
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

/// [`InputTransform`] at a level.
#[inline(always)]
pub(super) unsafe fn input_transform<V: Vector>(a: &InputTransform<'_>) {
    // SAFETY: operands in memory.
    unsafe {
        match a.variant {
            Variant::F4x3 => transform_input_tiles::<V, 2, 4>(a),
            Variant::F6x3 => transform_input_tiles::<V, 3, 6>(a),
            Variant::F4x5 => transform_input_tiles::<V, 3, 4>(a),
            Variant::F6x5 => transform_input_tiles::<V, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn transform_input_tiles<V: Vector, const PAIRS: usize, const M: usize>(
    a: &InputTransform<'_>,
) {
    let n = 2 * PAIRS + 2;
    // SAFETY: rows reach to the last column of the last tile, `out` has all
    // points of all tiles.
    unsafe {
        let rows: &[*const f32] = &a.rows[..n];
        let mut ring = [[V::splat(0.0); MAX_POINTS]; RING];
        for channel in (0..a.channels).step_by(V::LANES) {
            for tile in 0..a.tiles {
                let known = if tile == 0 { 0 } else { n - M };
                for column in tile * M + known..tile * M + n {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for y in 0..n {
                        x[y] = V::load(rows.get_unchecked(y).add(column * a.channels + channel));
                    }
                    let slot = ring.get_unchecked_mut(column % RING);
                    evaluate::<V, PAIRS>(a.tables, &x, |y, value| slot[y] = value);
                }
                let out = a.out.add(tile * a.out_tile + channel);
                for y in 0..n {
                    let mut x = [V::splat(0.0); MAX_POINTS];
                    for column in 0..n {
                        let slot = (tile * M + column) % RING;
                        x[column] = ring.get_unchecked(slot)[y];
                    }
                    let out = out.add(y * n * a.out_point);
                    evaluate::<V, PAIRS>(a.tables, &x, |x, value| {
                        value.store(out.add(x * a.out_point));
                    });
                }
            }
        }
    }
}

/// Evaluates polynomials of `M` coefficients, the lowest first, at the points: the
/// transpose of [`interpolate`].
#[inline(always)]
unsafe fn evaluate_coefficients<V: Vector, const PAIRS: usize, const M: usize>(
    tables: &Tables,
    x: &[V; MAX_OUTPUTS],
    mut put: impl FnMut(usize, V),
) {
    // SAFETY: the instructions are enabled.
    unsafe {
        put(0, x[0]);
        put(2 * PAIRS + 1, x[M - 1]);
        for i in 0..PAIRS {
            let power = |j: usize| V::splat(tables.power[j][i]);
            let (mut even, mut odd) = (x[0], x[1].mul(power(1)));
            for j in 2..M {
                if j % 2 == 0 {
                    even = even.mul_add(power(j), x[j]);
                } else {
                    odd = odd.mul_add(power(j), x[j]);
                }
            }
            put(2 * i + 1, even.add(odd));
            put(2 * i + 2, even.sub(odd));
        }
    }
}

/// [`GradientTransform`] at a level.
#[inline(always)]
pub(super) unsafe fn gradient_transform<V: Vector>(a: &GradientTransform<'_>) {
    // SAFETY: operands in memory.
    unsafe {
        match a.variant {
            Variant::F4x3 => transform_gradient_tiles::<V, 2, 4>(a),
            Variant::F6x3 => transform_gradient_tiles::<V, 3, 6>(a),
            Variant::F4x5 => transform_gradient_tiles::<V, 3, 4>(a),
            Variant::F6x5 => transform_gradient_tiles::<V, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn transform_gradient_tiles<V: Vector, const PAIRS: usize, const M: usize>(
    a: &GradientTransform<'_>,
) {
    let n = 2 * PAIRS + 2;
    // SAFETY: rows reach to the last column of the last tile, `out` has all points of
    // all tiles.
    unsafe {
        let rows: &[*const f32] = &a.rows[..M];
        for channel in (0..a.channels).step_by(V::LANES) {
            for tile in 0..a.tiles {
                let mut half = [[V::splat(0.0); MAX_OUTPUTS]; MAX_POINTS];
                for column in 0..M {
                    let mut x = [V::splat(0.0); MAX_OUTPUTS];
                    for y in 0..M {
                        let column = (tile * M + column) * a.channels;
                        x[y] = V::load(rows.get_unchecked(y).add(column + channel));
                    }
                    evaluate_coefficients::<V, PAIRS, M>(a.tables, &x, |y, value| {
                        half[y][column] = value;
                    });
                }
                let out = a.out.add(tile * a.out_tile + channel);
                for y in 0..n {
                    let out = out.add(y * n * a.out_point);
                    evaluate_coefficients::<V, PAIRS, M>(a.tables, &half[y], |x, value| {
                        value.store(out.add(x * a.out_point));
                    });
                }
            }
        }
    }
}

/// [`OutputTransform`] at a level.
#[inline(always)]
pub(super) unsafe fn output_transform<V: Vector>(a: &OutputTransform<'_>) {
    // SAFETY: operands in memory.
    unsafe {
        match a.variant {
            Variant::F4x3 => transform_output_tiles::<V, 2, 4>(a),
            Variant::F6x3 => transform_output_tiles::<V, 3, 6>(a),
            Variant::F4x5 => transform_output_tiles::<V, 3, 4>(a),
            Variant::F6x5 => transform_output_tiles::<V, 4, 6>(a),
        }
    }
}

#[inline(always)]
unsafe fn transform_output_tiles<V: Vector, const PAIRS: usize, const M: usize>(
    a: &OutputTransform<'_>,
) {
    let n = 2 * PAIRS + 2;
    let r = a.shuffle;
    // Channels of a pixel of the result.
    let channels = a.channels / (r * r);
    // SAFETY: rows that are not null have all columns to write.
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
                            let mut value = bias_activation::<V>(value, &a.activation, channel);
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
