//! Cubic interpolation in f64, which shares no code with the library's `frame`.

use srfilter::frame::Siting;

/// Samples of a length that is subsampled.
pub fn half(n: usize, sub: usize) -> usize {
    n.div_ceil(sub)
}

/// Samples in f64.
#[derive(Clone)]
pub struct Grid {
    pub w: usize,
    pub h: usize,
    pub v: Vec<f64>,
}

impl Grid {
    fn mirrored(&self, x: i64, y: i64) -> f64 {
        let fold = |i: i64, n: usize| {
            let n = n as i64;
            let mut i = i;
            while i < 0 || i >= n {
                i = if i < 0 { -1 - i } else { 2 * n - 1 - i };
            }
            i as usize
        };
        self.v[fold(y, self.h) * self.w + fold(x, self.w)]
    }

    /// Cubic interpolation at the positions of all output samples.
    fn sample(&self, xs: &[f64], ys: &[f64], stretch: (f64, f64)) -> Self {
        let mut v = Vec::new();
        for &y in ys {
            for &x in xs {
                v.push(self.at(x, y, stretch));
            }
        }
        Self {
            w: xs.len(),
            h: ys.len(),
            v,
        }
    }

    fn at(&self, x: f64, y: f64, (sx, sy): (f64, f64)) -> f64 {
        let reach =
            |c: f64, s: f64| ((c - 2.0 * s - 1.0) as i64 - 1)..=((c + 2.0 * s + 1.0) as i64 + 1);
        let (mut sum, mut weights) = (0.0, 0.0);
        for j in reach(y, sy) {
            let wy = cubic((j as f64 - y) / sy);
            for i in reach(x, sx) {
                let w = wy * cubic((i as f64 - x) / sx);
                sum += w * self.mirrored(i, j);
                weights += w;
            }
        }
        sum / weights
    }
}

/// Keys, a = -1/2, in the textbook's form.
fn cubic(t: f64) -> f64 {
    let (a, t) = (-0.5, t.abs());
    if t <= 1.0 {
        (a + 2.0) * t.powi(3) - (a + 3.0) * t.powi(2) + 1.0
    } else if t < 2.0 {
        a * t.powi(3) - 5.0 * a * t.powi(2) + 8.0 * a * t - 4.0 * a
    } else {
        0.0
    }
}

/// Positions of output samples in source samples. Sample i of a grid subsampled
/// by `sub` covers pixels sub i to sub i + sub - 1 and lies on the first of them
/// (`cosited`) or in their middle.
fn positions(
    (from, from_sub, from_cosited): (usize, usize, bool),
    (to, to_sub, to_cosited): (usize, usize, bool),
) -> Vec<f64> {
    let center = |i: f64, sub: usize, cosited: bool| {
        let sub = sub as f64;
        sub * i + if cosited { 0.5 } else { sub / 2.0 }
    };
    (0..half(to, to_sub))
        .map(|j| {
            let pixel = center(j as f64, to_sub, to_cosited) * from as f64 / to as f64;
            let first = center(0.0, from_sub, from_cosited);
            (pixel - first) / from_sub as f64
        })
        .collect()
}

/// One component resampled from one image size to another.
pub fn resample(
    grid: &Grid,
    from: (usize, usize),
    to: (usize, usize),
    subs: [(usize, usize); 2],
    siting: Siting,
) -> Grid {
    let [(fx, fy), (tx, ty)] = subs;
    let xs = positions((from.0, fx, siting.left), (to.0, tx, siting.left));
    let ys = positions((from.1, fy, siting.top), (to.1, ty, siting.top));
    let stretch = |from: usize, to: usize, fs: usize, ts: usize| {
        (from as f64 / to as f64 * ts as f64 / fs as f64).max(1.0)
    };
    grid.sample(
        &xs,
        &ys,
        (stretch(from.0, to.0, fx, tx), stretch(from.1, to.1, fy, ty)),
    )
}
