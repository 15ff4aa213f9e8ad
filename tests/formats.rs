//! Every pixel format, with padded strides and odd sizes, against an
//! independent reference in f64, which shares no code with the library's
//! `frame`: layouts and colour are implemented here, cubic interpolation in
//! `common::reference`.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::reference::{Grid, half, resample};
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::{Color, FrameMut, FrameRef, Image, Matrix, PixelFormat, Range, Siting};
use srfilter::models::{Architecture, Channels};
use srfilter::ops::Border;
use srfilter::weights::{LoadOverrides, Model};
use std::sync::Arc;

/// Bytes of padding at the end of every row.
const PAD: usize = 5;

/// Fill value of the padding, to check that it is not written.
const UNTOUCHED: u8 = 0xA5;

/// A component: where its samples are, in bits from the lowest bit of the first byte of
/// a row on, as samples lie in little-endian words.
#[derive(Clone)]
struct Place {
    plane: usize,
    /// The first bits of the samples of a repetition.
    first: Vec<usize>,
    /// Bits from one repetition to the next.
    period: usize,
    depth: usize,
    /// Horizontal and vertical subsampling.
    sub: (usize, usize),
    /// Largest error in samples: half a step of rounding, and the error of f32.
    tolerance: f64,
}

impl Place {
    fn new(
        plane: usize,
        first: &[usize],
        period: usize,
        depth: usize,
        sub: (usize, usize),
    ) -> Self {
        Self {
            plane,
            first: first.to_vec(),
            period,
            depth,
            sub,
            tolerance: if depth > 12 { 0.7 } else { 0.51 },
        }
    }

    fn bit(&self, x: usize) -> usize {
        x / self.first.len() * self.period + self.first[x % self.first.len()]
    }

    fn size(&self, (w, h): (usize, usize)) -> (usize, usize) {
        (half(w, self.sub.0), half(h, self.sub.1))
    }

    fn max(&self) -> f64 {
        libm::exp2(self.depth as f64) - 1.0
    }
}

/// A format: components in the order Y U V or R G B (then alpha).
struct Layout {
    name: &'static str,
    rgb: bool,
    alpha: bool,
    places: Vec<Place>,
    /// Rows are a multiple of these bytes.
    unit: usize,
}

impl Layout {
    /// Samples, gain and offset of values in units of 8 bit, by ITU-R BT.2100 tables 9
    /// (narrow and full range) scaled to 255.
    fn value(&self, component: usize, range: Range) -> (f64, f64) {
        let depth = self.places[component].depth as f64;
        let full = 255.0 / (libm::exp2(depth) - 1.0);
        let is_alpha = self.alpha && component + 1 == self.places.len();
        if self.rgb || is_alpha {
            return (full, 0.0);
        }
        match (range, component) {
            (Range::Limited, _) => (libm::exp2(8.0 - depth), 0.0),
            (Range::Full, 0) => (full, 0.0),
            (Range::Full, _) => (full, 128.0 - libm::exp2(depth - 1.0) * full),
        }
    }
}

/// Every format, in GStreamer's names.
fn layouts() -> Vec<Layout> {
    const Y: usize = 0;
    let mut all = Vec::new();
    let mut add = |name: &'static str, alpha: bool, unit: usize, places: Vec<Place>| {
        let rgb = name.contains('R') && name.contains('B') || name.contains("RGB");
        all.push(Layout {
            name,
            rgb,
            alpha,
            places,
            unit,
        });
    };
    // Planes of words of 8 or 16 bits; alpha has the size of luma.
    let planar = |depth: usize, planes: [usize; 3], sub, alpha: bool| -> Vec<Place> {
        let bits = if depth > 8 { 16 } else { 8 };
        let plane = |plane, sub| Place::new(plane, &[0], bits, depth, sub);
        let mut all = vec![
            plane(planes[0], (1, 1)),
            plane(planes[1], sub),
            plane(planes[2], sub),
        ];
        all.extend(alpha.then(|| plane(3, (1, 1))));
        all
    };
    let (yuv, yvu, gbr) = ([Y, 1, 2], [Y, 2, 1], [2, 0, 1]);
    add("I420", false, 1, planar(8, yuv, (2, 2), false));
    add("YV12", false, 1, planar(8, yvu, (2, 2), false));
    add("Y42B", false, 1, planar(8, yuv, (2, 1), false));
    add("Y444", false, 1, planar(8, yuv, (1, 1), false));
    add("Y41B", false, 1, planar(8, yuv, (4, 1), false));
    add("RGBP", false, 1, planar(8, yuv, (1, 1), false));
    add("BGRP", false, 1, planar(8, [2, 1, 0], (1, 1), false));
    add("GBR", false, 1, planar(8, gbr, (1, 1), false));
    add("GBRA", true, 1, planar(8, gbr, (1, 1), true));
    add("A420", true, 1, planar(8, yuv, (2, 2), true));
    add("A422", true, 1, planar(8, yuv, (2, 1), true));
    add("A444", true, 1, planar(8, yuv, (1, 1), true));
    for (name, depth, sub) in [
        ("I420_10LE", 10, (2, 2)),
        ("I422_10LE", 10, (2, 1)),
        ("Y444_10LE", 10, (1, 1)),
        ("I420_12LE", 12, (2, 2)),
        ("I422_12LE", 12, (2, 1)),
        ("Y444_12LE", 12, (1, 1)),
        ("Y444_16LE", 16, (1, 1)),
    ] {
        add(name, false, 1, planar(depth, yuv, sub, false));
    }
    for (name, depth, sub) in [
        ("A420_10LE", 10, (2, 2)),
        ("A422_10LE", 10, (2, 1)),
        ("A444_10LE", 10, (1, 1)),
        ("A420_12LE", 12, (2, 2)),
        ("A422_12LE", 12, (2, 1)),
        ("A444_12LE", 12, (1, 1)),
        ("A420_16LE", 16, (2, 2)),
        ("A422_16LE", 16, (2, 1)),
        ("A444_16LE", 16, (1, 1)),
    ] {
        add(name, true, 1, planar(depth, yuv, sub, true));
    }
    for (name, depth) in [("GBR_10LE", 10), ("GBR_12LE", 12), ("GBR_16LE", 16)] {
        add(name, false, 1, planar(depth, gbr, (1, 1), false));
    }
    for (name, depth) in [("GBRA_10LE", 10), ("GBRA_12LE", 12)] {
        add(name, true, 1, planar(depth, gbr, (1, 1), true));
    }
    // A plane of luma, a plane of both chromas, U at `u` and V at `v`.
    let semi = |bits: usize, depth: usize, (u, v): (usize, usize), sub| {
        let high = bits - depth;
        vec![
            Place::new(0, &[high], bits, depth, (1, 1)),
            Place::new(1, &[u * bits + high], 2 * bits, depth, sub),
            Place::new(1, &[v * bits + high], 2 * bits, depth, sub),
        ]
    };
    add("NV12", false, 1, semi(8, 8, (0, 1), (2, 2)));
    add("NV21", false, 1, semi(8, 8, (1, 0), (2, 2)));
    add("NV16", false, 1, semi(8, 8, (0, 1), (2, 1)));
    add("NV61", false, 1, semi(8, 8, (1, 0), (2, 1)));
    add("NV24", false, 1, semi(8, 8, (0, 1), (1, 1)));
    let mut av12 = semi(8, 8, (0, 1), (2, 2));
    av12.push(Place::new(2, &[0], 8, 8, (1, 1)));
    add("AV12", true, 1, av12);
    add("P010_10LE", false, 1, semi(16, 10, (0, 1), (2, 2)));
    add("P012_LE", false, 1, semi(16, 12, (0, 1), (2, 2)));
    add("P016_LE", false, 1, semi(16, 16, (0, 1), (2, 2)));
    // Grey.
    add("GRAY8", false, 1, vec![Place::new(0, &[0], 8, 8, (1, 1))]);
    add(
        "GRAY10_LE16",
        false,
        1,
        vec![Place::new(0, &[0], 16, 10, (1, 1))],
    );
    add(
        "GRAY16_LE",
        false,
        1,
        vec![Place::new(0, &[0], 16, 16, (1, 1))],
    );
    add(
        "GRAY10_LE32",
        false,
        4,
        vec![Place::new(0, &[0, 10, 20], 32, 10, (1, 1))],
    );
    // Pixels of words: where the components are.
    let packed = |bits: usize, depth: usize, step: usize, order: &[usize]| -> Vec<Place> {
        let place =
            |&o: &usize| Place::new(0, &[o * bits + bits - depth], step * bits, depth, (1, 1));
        order.iter().map(place).collect()
    };
    for (name, step, order) in [
        ("RGB", 3, [0, 1, 2]),
        ("BGR", 3, [2, 1, 0]),
        ("RGBx", 4, [0, 1, 2]),
        ("BGRx", 4, [2, 1, 0]),
        ("xRGB", 4, [1, 2, 3]),
        ("xBGR", 4, [3, 2, 1]),
    ] {
        add(name, false, step, packed(8, 8, step, &order));
    }
    for (name, bits, depth, order) in [
        ("RGBA", 8, 8, [0, 1, 2, 3]),
        ("BGRA", 8, 8, [2, 1, 0, 3]),
        ("ARGB", 8, 8, [1, 2, 3, 0]),
        ("ABGR", 8, 8, [3, 2, 1, 0]),
        ("AYUV", 8, 8, [1, 2, 3, 0]),
        ("VUYA", 8, 8, [2, 1, 0, 3]),
        ("RGBA64_LE", 16, 16, [0, 1, 2, 3]),
        ("BGRA64_LE", 16, 16, [2, 1, 0, 3]),
        ("ARGB64_LE", 16, 16, [1, 2, 3, 0]),
        ("ABGR64_LE", 16, 16, [3, 2, 1, 0]),
        ("RBGA", 8, 8, [0, 2, 1, 3]),
        ("Y412_LE", 16, 12, [1, 0, 2, 3]),
        ("Y416_LE", 16, 16, [1, 0, 2, 3]),
    ] {
        add(name, true, 1, packed(bits, depth, 4, &order));
    }
    // 10, 10, 10 and 2 bits.
    for (name, order) in [
        ("RGB10A2_LE", [0, 10, 20]),
        ("BGR10A2_LE", [20, 10, 0]),
        ("Y410", [10, 0, 20]),
    ] {
        let mut places = order
            .map(|bit| Place::new(0, &[bit], 32, 10, (1, 1)))
            .to_vec();
        places.push(Place::new(0, &[30], 32, 2, (1, 1)));
        add(name, true, 1, places);
    }
    for (name, order) in [("RGB10x2_LE", [0, 10, 20]), ("BGR10x2_LE", [20, 10, 0])] {
        let places = order.map(|bit| Place::new(0, &[bit], 32, 10, (1, 1)));
        add(name, false, 4, places.to_vec());
    }
    // Two luma samples to one of each chroma, in words of `bits`.
    let halved = |bits: usize, depth: usize, [y, u, v]: [usize; 3]| {
        let high = bits - depth;
        vec![
            Place::new(0, &[y * bits + high], 2 * bits, depth, (1, 1)),
            Place::new(0, &[u * bits + high], 4 * bits, depth, (2, 1)),
            Place::new(0, &[v * bits + high], 4 * bits, depth, (2, 1)),
        ]
    };
    add("YUY2", false, 1, halved(8, 8, [0, 1, 3]));
    add("YVYU", false, 1, halved(8, 8, [0, 3, 1]));
    add("UYVY", false, 1, halved(8, 8, [1, 0, 2]));
    add("VYUY", false, 1, halved(8, 8, [1, 2, 0]));
    add("Y210", false, 1, halved(16, 10, [0, 1, 3]));
    add("Y212_LE", false, 1, halved(16, 12, [0, 1, 3]));
    add("Y216_LE", false, 1, halved(16, 16, [0, 1, 3]));
    // The order of samples is U Y V Y, three to a word of 32 bits.
    let third = |n: usize| n / 3 * 32 + n % 3 * 10;
    let every = |first: usize, step: usize, count: usize| -> Vec<usize> {
        (0..count).map(|i| third(first + i * step)).collect()
    };
    add(
        "v210",
        false,
        4,
        vec![
            Place::new(0, &every(1, 2, 6), 128, 10, (1, 1)),
            Place::new(0, &every(0, 4, 3), 128, 10, (2, 1)),
            Place::new(0, &every(2, 4, 3), 128, 10, (2, 1)),
        ],
    );
    for (three, four, sub) in [
        ("NV12_10LE32", "NV12_10LE40", (2, 2)),
        ("NV16_10LE32", "NV16_10LE40", (2, 1)),
    ] {
        let places = vec![
            Place::new(0, &every(0, 1, 3), 32, 10, (1, 1)),
            Place::new(1, &every(0, 2, 3), 64, 10, sub),
            Place::new(1, &every(1, 2, 3), 64, 10, sub),
        ];
        add(three, false, 4, places);
        let places = vec![
            Place::new(0, &[0], 10, 10, (1, 1)),
            Place::new(1, &[0], 20, 10, sub),
            Place::new(1, &[10], 20, 10, sub),
        ];
        add(four, false, 1, places);
    }
    all
}

/// Planes of bytes with their strides.
#[derive(Clone)]
struct Bytes(Vec<(Vec<u8>, usize)>);

impl Bytes {
    fn new(layout: &Layout, size: (usize, usize)) -> Self {
        let places = &layout.places;
        let count = places.iter().map(|p| p.plane).max().unwrap() + 1;
        let planes = (0..count).map(|plane| {
            let p = places.iter().find(|p| p.plane == plane).unwrap();
            let stride = row_bytes(layout, plane, size.0) + PAD;
            (vec![UNTOUCHED; stride * p.size(size).1], stride)
        });
        Self(planes.collect())
    }

    /// The samples of a component.
    fn get(&self, p: &Place, size: (usize, usize)) -> Grid {
        let (w, h) = p.size(size);
        let (data, stride) = &self.0[p.plane];
        let at = |x: usize, y: usize| {
            let bit = |i: usize| {
                let at = p.bit(x) + i;
                f64::from(data[y * stride + at / 8] >> (at % 8) & 1) * libm::exp2(i as f64)
            };
            (0..p.depth).map(bit).sum()
        };
        let values = (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        Grid {
            w,
            h,
            v: values.map(|(x, y)| at(x, y)).collect(),
        }
    }

    fn set(&mut self, p: &Place, (x, y): (usize, usize), sample: usize) {
        let (data, stride) = &mut self.0[p.plane];
        for i in 0..p.depth {
            let at = p.bit(x) + i;
            let byte = &mut data[y * *stride + at / 8];
            *byte = *byte & !(1 << (at % 8)) | ((sample >> i & 1) as u8) << (at % 8);
        }
    }
}

/// Bytes of a row of a plane.
fn row_bytes(layout: &Layout, plane: usize, width: usize) -> usize {
    let of_plane = layout.places.iter().filter(|p| p.plane == plane);
    let last = of_plane
        .map(|p| p.bit(p.size((width, 1)).0 - 1) + p.depth)
        .max()
        .unwrap();
    let pixel = if layout.unit == 1 { 1 } else { layout.unit };
    let bytes = last.div_ceil(8);
    // The padding byte of RGBx is a part of the last pixel.
    bytes.next_multiple_of(pixel)
}

/// The small SRCNN of `common`, computed naively in f64 with replicated borders.
struct Net {
    layers: Vec<(Vec<f64>, Vec<f64>, [usize; 4])>,
}

impl Net {
    fn of(channels: Channels) -> Self {
        let config = common::small_srcnn(channels, Border::Replicate);
        let shapes = config.weight_shapes();
        let tensors = common::noise_weights(&Architecture::Srcnn(config), 7);
        let values = |i: usize| -> Vec<f64> {
            let flat = tensors[i].1.flatten_all().unwrap();
            let flat = flat.to_vec1::<f32>().unwrap();
            flat.into_iter().map(f64::from).collect()
        };
        Self {
            layers: (0..3)
                .map(|i| (values(2 * i), values(2 * i + 1), shapes[i]))
                .collect(),
        }
    }

    /// Clamped to 0 to `limit`.
    fn run(&self, input: &[Grid], limit: f64) -> Vec<Grid> {
        let (w, h) = (input[0].w, input[0].h);
        let scaled = |f: f64| {
            input
                .iter()
                .map(|g| g.v.iter().map(|v| v * f).collect::<Vec<f64>>())
                .collect::<Vec<_>>()
        };
        let mut x = scaled(1.0 / 255.0);
        for (i, (weights, bias, [outs, ins, k, _])) in self.layers.iter().enumerate() {
            let clamp = |p: usize, d: usize, n: usize| (p + d).saturating_sub(k / 2).min(n - 1);
            x = (0..*outs)
                .map(|o| {
                    let mut plane = Vec::with_capacity(w * h);
                    for (py, px) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                        let mut sum = bias[o];
                        for c in 0..*ins {
                            for dy in 0..*k {
                                let row = clamp(py, dy, h) * w;
                                for dx in 0..*k {
                                    let weight = weights[((o * ins + c) * k + dy) * k + dx];
                                    sum += weight * x[c][row + clamp(px, dx, w)];
                                }
                            }
                        }
                        plane.push(if i < 2 { sum.max(0.0) } else { sum });
                    }
                    plane
                })
                .collect();
        }
        let residual = scaled(1.0 / 255.0);
        x.into_iter()
            .zip(residual)
            .map(|(y, r)| Grid {
                w,
                h,
                v: y.iter()
                    .zip(r)
                    .map(|(y, r)| ((y + r) * 255.0).clamp(0.0, limit))
                    .collect(),
            })
            .collect()
    }
}

/// Luma weights of the matrices under test.
fn luma_weights(color: Color) -> (f64, f64, f64) {
    match color.matrix {
        Matrix::Bt709 => (0.2126, 0.7152, 0.0722),
        _ => (0.299, 0.587, 0.114),
    }
}

fn spans(color: Color) -> (f64, f64, f64) {
    match color.range {
        Range::Full => (0.0, 255.0, 255.0),
        Range::Limited => (16.0, 219.0, 224.0),
    }
}

fn to_rgb(color: Color, [y, u, v]: [f64; 3]) -> [f64; 3] {
    let (kr, kg, kb) = luma_weights(color);
    let (base, ys, cs) = spans(color);
    let (y, cb, cr) = ((y - base) / ys, (u - 128.0) / cs, (v - 128.0) / cs);
    let r = y + cr * 2.0 * (1.0 - kr);
    let b = y + cb * 2.0 * (1.0 - kb);
    let g = (y - kr * r - kb * b) / kg;
    [r * 255.0, g * 255.0, b * 255.0]
}

fn to_yuv(color: Color, rgb: [f64; 3]) -> [f64; 3] {
    let (kr, kg, kb) = luma_weights(color);
    let (base, ys, cs) = spans(color);
    let [r, g, b] = rgb.map(|v| v / 255.0);
    let y = kr * r + kg * g + kb * b;
    [
        y * ys + base,
        (b - y) / (2.0 * (1.0 - kb)) * cs + 128.0,
        (r - y) / (2.0 * (1.0 - kr)) * cs + 128.0,
    ]
}

fn zip3(planes: &[Grid], f: impl Fn([f64; 3]) -> [f64; 3]) -> Vec<Grid> {
    let mut out = planes[..3].to_vec();
    for i in 0..planes[0].v.len() {
        let converted = f([planes[0].v[i], planes[1].v[i], planes[2].v[i]]);
        (0..3).for_each(|c| out[c].v[i] = converted[c]);
    }
    out
}

fn studio_luma(rgb: [f64; 3]) -> f64 {
    16.0 + 65.481 / 255.0 * rgb[0] + 128.553 / 255.0 * rgb[1] + 24.966 / 255.0 * rgb[2]
}

/// The expected output frame.
struct Reference<'a> {
    layout: &'a Layout,
    range: Range,
    from: (usize, usize),
    to: (usize, usize),
    color: Color,
}

impl Reference<'_> {
    fn direct(&self, components: &[Grid], i: usize) -> Grid {
        let sub = self.layout.places[i].sub;
        let siting = self.color.siting;
        resample(&components[i], self.from, self.to, [sub, sub], siting)
    }

    fn upscale(&self, grid: &Grid) -> Grid {
        let one = [(1, 1); 2];
        resample(grid, self.from, self.to, one, self.color.siting)
    }

    /// The values of the output's components.
    fn run(&self, net: Option<(&Net, Channels)>, input: &[Grid]) -> Vec<Grid> {
        if !self.layout.alpha {
            return self.opaque(net, input);
        }
        // Colours weighted by alpha are interpolated, and divided by the result's alpha.
        let mut weighted = input.to_vec();
        for (i, grid) in weighted.iter_mut().enumerate().take(input.len() - 1) {
            let alpha = self.alpha(input, i, self.from);
            let zero = self.zero(i);
            for (v, a) in grid.v.iter_mut().zip(alpha.v) {
                *v = zero + (*v - zero) * a / 255.0;
            }
        }
        let mut out = self.opaque(net, &weighted);
        for (i, grid) in out.iter_mut().enumerate().take(input.len() - 1) {
            let alpha = self.alpha(input, i, self.to);
            let zero = self.zero(i);
            for (v, a) in grid.v.iter_mut().zip(alpha.v) {
                *v = match a {
                    a if a < 0.5 => zero,
                    a => zero + (*v - zero) * 255.0 / a.min(255.0),
                };
            }
        }
        out
    }

    /// Alpha on the grid of a component.
    fn alpha(&self, input: &[Grid], component: usize, size: (usize, usize)) -> Grid {
        let subs = [(1, 1), self.layout.places[component].sub];
        let alpha = input.last().unwrap();
        resample(alpha, self.from, size, subs, self.color.siting)
    }

    /// The value of black.
    fn zero(&self, component: usize) -> f64 {
        match (self.layout.rgb, component, self.range) {
            (true, ..) | (_, 0, Range::Full) => 0.0,
            (_, 0, Range::Limited) => 16.0,
            _ => 128.0,
        }
    }

    fn opaque(&self, net: Option<(&Net, Channels)>, input: &[Grid]) -> Vec<Grid> {
        let mut out: Vec<Grid> = (0..input.len()).map(|i| self.direct(input, i)).collect();
        match net {
            None => {}
            Some((net, Channels::Luma)) if !self.layout.rgb => {
                let (gain, offset) = self.layout.value(0, self.range);
                let limit = self.layout.places[0].max() * gain + offset;
                out[0] = net.run(&[out[0].clone()], limit).remove(0);
            }
            Some((net, Channels::Luma)) => {
                // Through Y'CbCr: the network upscales studio luma, the colour
                // differences are resampled.
                let luma = |planes: &[Grid]| Grid {
                    v: (0..planes[0].v.len())
                        .map(|i| studio_luma([planes[0].v[i], planes[1].v[i], planes[2].v[i]]))
                        .collect(),
                    ..planes[0].clone()
                };
                let better = net.run(&[self.upscale(&luma(input))], 255.0).remove(0);
                let before = luma(&out);
                for plane in &mut out[..3] {
                    for i in 0..plane.v.len() {
                        plane.v[i] += (better.v[i] - before.v[i]) * 255.0 / 219.0;
                    }
                }
            }
            Some((net, Channels::Rgb)) => self.by_rgb(net, input, &mut out),
        }
        out
    }

    fn by_rgb(&self, net: &Net, input: &[Grid], out: &mut [Grid]) {
        let color = self.color;
        let planes = match (self.layout.rgb, input.len()) {
            (true, _) => input[..3].to_vec(),
            (false, 1) => {
                let grey = |y| to_rgb(color, [y, 128.0, 128.0])[0];
                let v = input[0].v.iter().map(|&y| grey(y)).collect();
                vec![
                    Grid {
                        v,
                        ..input[0].clone()
                    };
                    3
                ]
            }
            (false, _) => {
                let sub = self.layout.places[1].sub;
                let full =
                    |g: &Grid| resample(g, self.from, self.from, [sub, (1, 1)], color.siting);
                let planes = [input[0].clone(), full(&input[1]), full(&input[2])];
                zip3(&planes, |yuv| to_rgb(color, yuv))
            }
        };
        let upscaled: Vec<Grid> = planes.iter().map(|p| self.upscale(p)).collect();
        let rgb = net.run(&upscaled, 255.0);
        if self.layout.rgb {
            out[..3].clone_from_slice(&rgb);
            return;
        }
        let yuv = zip3(&rgb, |rgb| to_yuv(color, rgb));
        out[0] = yuv[0].clone();
        for i in 1..out.len().min(3) {
            let sub = self.layout.places[i].sub;
            out[i] = resample(&yuv[i], self.to, self.to, [(1, 1), sub], color.siting);
        }
    }
}

/// Fills the input's samples with a smooth pattern and some noise.
fn fill(bytes: &mut Bytes, places: &[Place], size: (usize, usize)) {
    let mut next = common::noise(11);
    for (c, p) in places.iter().enumerate() {
        let (w, h) = p.size(size);
        for y in 0..h {
            for x in 0..w {
                let wave =
                    (libm::sin(x as f64 * 0.7 + c as f64) + libm::cos(y as f64 * 0.4)) * 50.0;
                let value = (128.0 + wave + (next() - 0.5) * 60.0) / 255.0 * p.max();
                bytes.set(p, (x, y), value.clamp(0.0, p.max()) as usize);
            }
        }
    }
}

fn check(layout: &Layout, model: &Arc<Model>, net: Option<(&Net, Channels)>, case: &Case) {
    let (name, places) = (layout.name, &layout.places);
    let format = PixelFormat::from_name(name).unwrap();
    let mut input = Bytes::new(layout, case.size);
    fill(&mut input, places, case.size);
    let frame_spec = FrameSpec::new(format, case.size.0, case.size.1).with_color(case.color);
    let mut spec = UpscaleSpec::scaled(frame_spec, case.scale.parse().unwrap());
    if let Some(pinned) = case.pinned {
        spec.output = pinned;
    }
    let planes: Vec<_> = input.0.iter().map(|(d, s)| (d.as_slice(), *s)).collect();
    let frame = FrameRef::new(format, case.size, case.color, &planes).unwrap();
    let mut output = Bytes::new(layout, spec.output);
    let planes = output.0.iter_mut().map(|(d, s)| (d.as_mut_slice(), *s));
    let mut target = FrameMut::new(format, spec.output, case.color, planes).unwrap();
    let mut upscaler = Upscaler::new(Arc::clone(model), spec, &UpscaleOptions::default()).unwrap();
    upscaler.process(&frame, &mut target).unwrap();

    let reference = Reference {
        layout,
        range: case.color.range,
        from: case.size,
        to: spec.output,
        color: case.color,
    };
    let components = places.iter().enumerate().map(|(c, p)| {
        let (gain, offset) = layout.value(c, case.color.range);
        let mut grid = input.get(p, case.size);
        grid.v.iter_mut().for_each(|v| *v = *v * gain + offset);
        grid
    });
    let expected = reference.run(net, &components.collect::<Vec<_>>());
    for (c, (place, expected)) in places.iter().zip(&expected).enumerate() {
        let (gain, offset) = layout.value(c, case.color.range);
        let found = output.get(place, spec.output);
        let worst = (found.v.iter().zip(&expected.v))
            .map(|(f, e)| (f - ((e - offset) / gain).clamp(0.0, place.max())).abs())
            .fold(0.0, f64::max);
        assert!(
            worst < place.tolerance,
            "{name} component {c}, {case:?}: off by {worst}"
        );
    }
    check_padding(layout, &output, spec.output);
}

/// Row padding is not written, unused bits are 0; an unused byte, of RGBx and similar
/// formats, is 255.
fn check_padding(layout: &Layout, output: &Bytes, size: (usize, usize)) {
    let name = layout.name;
    for (plane, (data, stride)) in output.0.iter().enumerate() {
        let places: Vec<_> = layout.places.iter().filter(|p| p.plane == plane).collect();
        let used = row_bytes(layout, plane, size.0);
        let mut unused = vec![0xFF_u8; used];
        for p in &places {
            for bit in (0..p.size((size.0, 1)).0).flat_map(|x| p.bit(x)..p.bit(x) + p.depth) {
                unused[bit / 8] &= !(1 << (bit % 8));
            }
        }
        let has_byte = name.contains('x') && !name.contains("x2");
        let fill = if has_byte { 0xFF } else { 0 };
        for row in data.chunks(*stride) {
            assert!(
                row[used..].iter().all(|&b| b == UNTOUCHED),
                "{name}: padding written"
            );
            assert!(
                row.iter()
                    .zip(&unused)
                    .all(|(byte, unused)| byte & unused == fill & unused),
                "{name}: unused bits"
            );
        }
    }
}

#[derive(Debug)]
struct Case {
    size: (usize, usize),
    scale: &'static str,
    color: Color,
    /// An output size other than the input's times the scale (bicubic only).
    pinned: Option<(usize, usize)>,
}

fn cases() -> Vec<Case> {
    let color = |matrix, range, left, top| Color::new(matrix, range, Siting { left, top });
    let case = |size, scale, color| Case {
        size,
        scale,
        color,
        pinned: None,
    };
    vec![
        case(
            (16, 12),
            "2",
            color(Matrix::Bt601, Range::Limited, true, false),
        ),
        case(
            (17, 11),
            "3",
            color(Matrix::Bt709, Range::Limited, false, false),
        ),
        case(
            (9, 13),
            "3/2",
            color(Matrix::Bt709, Range::Full, true, true),
        ),
        case(
            (1, 1),
            "2",
            color(Matrix::Bt601, Range::Limited, true, false),
        ),
        case((2, 5), "2", color(Matrix::Bt601, Range::Full, true, false)),
    ]
}

#[test]
fn every_format_without_a_network() {
    let model = Model::builtin("bicubic").unwrap();
    let mut cases = cases();
    // Sizes fixed by downstream, including smaller ones.
    for pinned in [(40, 31), (11, 7), (16, 5)] {
        cases.push(Case {
            pinned: Some(pinned),
            ..cases_first()
        });
    }
    for layout in layouts() {
        cases
            .iter()
            .for_each(|case| check(&layout, &model, None, case));
    }
}

fn cases_first() -> Case {
    cases().swap_remove(0)
}

#[test]
fn every_format_is_covered() {
    let names: Vec<_> = layouts().iter().map(|layout| layout.name).collect();
    for format in PixelFormat::ALL {
        assert!(
            names.contains(&format.name()),
            "{} is not tested",
            format.name()
        );
    }
}

#[test]
fn every_format_by_a_luma_network() {
    every_format_by(Channels::Luma);
}

#[test]
fn every_format_by_an_rgb_network() {
    every_format_by(Channels::Rgb);
}

fn every_format_by(channels: Channels) {
    let dir = tempfile::tempdir().unwrap();
    let file = common::small_file(dir.path(), channels, Border::Replicate);
    // For any scale, so that 3/2 needs no resampling afterwards.
    let hints = LoadOverrides::default();
    let model = Model::open_with(&file, None, &hints).unwrap();
    let net = Net::of(channels);
    for layout in layouts() {
        for case in cases().iter().filter(|case| case.scale != "3/2") {
            check(&layout, &model, Some((&net, channels)), case);
        }
    }
}

/// Sprites that differ only where they are transparent look alike over any background.
#[test]
fn colours_under_transparent_pixels_do_not_show() {
    const SIZE: (usize, usize) = (24, 20);
    let dir = tempfile::tempdir().unwrap();
    let open = |channels| {
        let file = common::small_file(dir.path(), channels, Border::Replicate);
        Model::open_with(&file, None, &LoadOverrides::default()).unwrap()
    };
    let models = [
        Model::builtin("bicubic").unwrap(),
        open(Channels::Luma),
        open(Channels::Rgb),
        Model::builtin("espcn").unwrap(),
        Model::builtin("srcnn-rgb").unwrap(),
    ];
    for layout in layouts().iter().filter(|layout| layout.alpha) {
        let format = PixelFormat::from_name(layout.name).unwrap();
        let color = Color::default();
        let spec = FrameSpec::new(format, SIZE.0, SIZE.1).with_color(color);
        for model in &models {
            // A disc on nothing of a colour.
            let upscaled = |hidden: f64| -> Vec<Grid> {
                let mut input = Bytes::new(layout, SIZE);
                let alpha = layout.places.len() - 1;
                for (c, place) in layout.places.iter().enumerate() {
                    let (w, h) = place.size(SIZE);
                    for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))) {
                        let (column, row) = (x * place.sub.0, y * place.sub.1);
                        let (dx, dy) = (column as f64 - 11.5, row as f64 - 9.5);
                        let inside = dx * dx + dy * dy < 49.0;
                        // A chroma sample counts as visible if any of its pixels is.
                        let near = dx * dx + dy * dy < 110.0;
                        let share = match (c == alpha, inside) {
                            (true, inside) => f64::from(u8::from(inside)),
                            (false, _) if near => 0.3 + 0.2 * c as f64,
                            (false, _) => hidden,
                        };
                        let share = if c != alpha && place.sub == (1, 1) && !inside {
                            hidden
                        } else {
                            share
                        };
                        input.set(place, (x, y), (share * place.max()).round() as usize);
                    }
                }
                let planes: Vec<_> = input.0.iter().map(|(d, s)| (d.as_slice(), *s)).collect();
                let frame = FrameRef::new(format, SIZE, color, &planes).unwrap();
                let to = (2 * SIZE.0, 2 * SIZE.1);
                let mut output = Bytes::new(layout, to);
                let planes = output.0.iter_mut().map(|(d, s)| (d.as_mut_slice(), *s));
                let mut target = FrameMut::new(format, to, color, planes).unwrap();
                let upscaler = Upscaler::builder(Arc::clone(model)).scale(2).build(spec);
                upscaler.unwrap().process(&frame, &mut target).unwrap();
                layout
                    .places
                    .iter()
                    .map(|place| output.get(place, to))
                    .collect()
            };
            let [black, white] = [0.0, 1.0].map(upscaled);
            let alpha = layout.places.len() - 1;
            for (c, place) in layout.places.iter().enumerate() {
                for (i, (a, b)) in black[c].v.iter().zip(&white[c].v).enumerate() {
                    // What shows over a background, in steps of 8 bit.
                    let (x, y) = (i % black[c].w * place.sub.0, i / black[c].w * place.sub.1);
                    let opacity =
                        black[alpha].v[y * black[alpha].w + x] / layout.places[alpha].max();
                    let shows = (a - b).abs() / place.max() * 255.0 * opacity;
                    assert!(
                        shows <= 3.0,
                        "{} {model:?} component {c} at {x}, {y}: {shows}",
                        layout.name
                    );
                }
            }
        }
    }
}

/// A grey still is full range, also for a network on RGB.
#[test]
fn grey_images_keep_black_and_white() {
    let mut input = Image::new(64, 24, 1);
    for (i, sample) in input.data.iter_mut().enumerate() {
        *sample = (i % 64 * 255 / 63) as u8;
    }
    let spec = FrameSpec::new(input.format(), 64, 24);
    let upscaled = |model: &str| {
        let model = Model::builtin(model).unwrap();
        let mut upscaler = Upscaler::builder(model).scale(2).build(spec).unwrap();
        let mut output = Image::new(128, 48, 1);
        upscaler.upscale(&input, &mut output).unwrap();
        output.data
    };
    let bicubic = upscaled("bicubic");
    for model in ["compact", "srcnn-rgb", "hypersrcnn-rgb", "espcn"] {
        let output = upscaled(model);
        let difference = |(a, b): (&u8, &u8)| u32::from(a.abs_diff(*b));
        let sum: u32 = output.iter().zip(&bicubic).map(difference).sum();
        let mean = f64::from(sum) / output.len() as f64;
        assert!(mean < 2.0, "{model}: {mean}");
        let (min, max) = (output.iter().min().unwrap(), output.iter().max().unwrap());
        assert!(*min <= 3 && *max >= 252, "{model}: {min} to {max}");
    }
}
