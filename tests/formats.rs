//! Every pixel format, with padded strides and odd sizes, against an
//! independent reference in f64, which shares no code with the library's
//! `frame`: layouts, cubic interpolation and colour are implemented here.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

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

/// One component: plane, offset, step, horizontal and vertical subsampling.
type Place = (usize, usize, usize, usize, usize);

/// Name, components in the order Y U V or R G B (then alpha).
fn layouts() -> Vec<(&'static str, Vec<Place>)> {
    let packed = |order: [usize; 3], step| order.map(|o| (0, o, step, 1, 1)).to_vec();
    let with_alpha = |order: [usize; 4]| order.map(|o| (0, o, 4, 1, 1)).to_vec();
    vec![
        (
            "I420",
            vec![(0, 0, 1, 1, 1), (1, 0, 1, 2, 2), (2, 0, 1, 2, 2)],
        ),
        (
            "YV12",
            vec![(0, 0, 1, 1, 1), (2, 0, 1, 2, 2), (1, 0, 1, 2, 2)],
        ),
        (
            "NV12",
            vec![(0, 0, 1, 1, 1), (1, 0, 2, 2, 2), (1, 1, 2, 2, 2)],
        ),
        (
            "NV21",
            vec![(0, 0, 1, 1, 1), (1, 1, 2, 2, 2), (1, 0, 2, 2, 2)],
        ),
        (
            "Y42B",
            vec![(0, 0, 1, 1, 1), (1, 0, 1, 2, 1), (2, 0, 1, 2, 1)],
        ),
        (
            "Y444",
            vec![(0, 0, 1, 1, 1), (1, 0, 1, 1, 1), (2, 0, 1, 1, 1)],
        ),
        ("GRAY8", vec![(0, 0, 1, 1, 1)]),
        ("RGB", packed([0, 1, 2], 3)),
        ("BGR", packed([2, 1, 0], 3)),
        ("RGBx", packed([0, 1, 2], 4)),
        ("BGRx", packed([2, 1, 0], 4)),
        ("xRGB", packed([1, 2, 3], 4)),
        ("xBGR", packed([3, 2, 1], 4)),
        ("RGBA", with_alpha([0, 1, 2, 3])),
        ("BGRA", with_alpha([2, 1, 0, 3])),
        ("ARGB", with_alpha([1, 2, 3, 0])),
        ("ABGR", with_alpha([3, 2, 1, 0])),
        (
            "RGBP",
            vec![(0, 0, 1, 1, 1), (1, 0, 1, 1, 1), (2, 0, 1, 1, 1)],
        ),
    ]
}

/// Planes of bytes with their strides.
#[derive(Clone)]
struct Bytes(Vec<(Vec<u8>, usize)>);

fn half(n: usize, sub: usize) -> usize {
    n.div_ceil(sub)
}

impl Bytes {
    fn new(places: &[Place], (w, h): (usize, usize)) -> Self {
        let count = places.iter().map(|p| p.0).max().unwrap() + 1;
        let planes = (0..count).map(|plane| {
            let p = places.iter().find(|p| p.0 == plane).unwrap();
            let stride = half(w, p.3) * p.2 + PAD;
            (vec![UNTOUCHED; stride * half(h, p.4)], stride)
        });
        Self(planes.collect())
    }

    fn get(&self, p: &Place, (w, h): (usize, usize)) -> Grid {
        let (cw, ch) = (half(w, p.3), half(h, p.4));
        let (data, stride) = &self.0[p.0];
        let at = |x: usize, y: usize| f64::from(data[y * stride + p.1 + x * p.2]);
        let values = (0..ch).flat_map(|y| (0..cw).map(move |x| (x, y)));
        Grid {
            w: cw,
            h: ch,
            v: values.map(|(x, y)| at(x, y)).collect(),
        }
    }
}

/// Samples in f64.
#[derive(Clone)]
struct Grid {
    w: usize,
    h: usize,
    v: Vec<f64>,
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
fn resample(
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

    fn run(&self, input: &[Grid]) -> Vec<Grid> {
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
                    .map(|(y, r)| ((y + r) * 255.0).clamp(0.0, 255.0))
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
    places: &'a [Place],
    rgb: bool,
    from: (usize, usize),
    to: (usize, usize),
    color: Color,
}

impl Reference<'_> {
    fn direct(&self, components: &[Grid], i: usize) -> Grid {
        let sub = (self.places[i].3, self.places[i].4);
        let siting = self.color.siting;
        resample(&components[i], self.from, self.to, [sub, sub], siting)
    }

    fn upscale(&self, grid: &Grid) -> Grid {
        let one = [(1, 1); 2];
        resample(grid, self.from, self.to, one, self.color.siting)
    }

    fn run(&self, net: Option<(&Net, Channels)>, input: &[Grid]) -> Vec<Grid> {
        let mut out: Vec<Grid> = (0..input.len()).map(|i| self.direct(input, i)).collect();
        match net {
            None => {}
            Some((net, Channels::Luma)) if !self.rgb => {
                out[0] = net.run(&[out[0].clone()]).remove(0);
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
                let better = net.run(&[self.upscale(&luma(input))]).remove(0);
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
        let planes = match (self.rgb, input.len()) {
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
                let sub = (self.places[1].3, self.places[1].4);
                let full =
                    |g: &Grid| resample(g, self.from, self.from, [sub, (1, 1)], color.siting);
                let planes = [input[0].clone(), full(&input[1]), full(&input[2])];
                zip3(&planes, |yuv| to_rgb(color, yuv))
            }
        };
        let upscaled: Vec<Grid> = planes.iter().map(|p| self.upscale(p)).collect();
        let rgb = net.run(&upscaled);
        if self.rgb {
            out[..3].clone_from_slice(&rgb);
            return;
        }
        let yuv = zip3(&rgb, |rgb| to_yuv(color, rgb));
        out[0] = yuv[0].clone();
        for i in 1..out.len() {
            let sub = (self.places[i].3, self.places[i].4);
            out[i] = resample(&yuv[i], self.to, self.to, [(1, 1), sub], color.siting);
        }
    }
}

/// Fills the input's samples with a smooth pattern and some noise.
fn fill(bytes: &mut Bytes, places: &[Place], size: (usize, usize)) {
    let mut next = common::noise(11);
    for (c, p) in places.iter().enumerate() {
        let (w, h) = (half(size.0, p.3), half(size.1, p.4));
        let (data, stride) = &mut bytes.0[p.0];
        for y in 0..h {
            for x in 0..w {
                let wave =
                    (libm::sin(x as f64 * 0.7 + c as f64) + libm::cos(y as f64 * 0.4)) * 50.0;
                let value = 128.0 + wave + (next() - 0.5) * 60.0;
                data[y * *stride + p.1 + x * p.2] = value.clamp(0.0, 255.0) as u8;
            }
        }
    }
}

fn check(
    name: &str,
    places: &[Place],
    model: &Arc<Model>,
    net: Option<(&Net, Channels)>,
    case: &Case,
) {
    let format = PixelFormat::from_name(name).unwrap();
    let mut input = Bytes::new(places, case.size);
    fill(&mut input, places, case.size);
    let frame_spec = FrameSpec::new(format, case.size.0, case.size.1).with_color(case.color);
    let mut spec = UpscaleSpec::scaled(frame_spec, case.scale.parse().unwrap());
    if let Some(pinned) = case.pinned {
        spec.output = pinned;
    }
    let planes: Vec<_> = input.0.iter().map(|(d, s)| (d.as_slice(), *s)).collect();
    let frame = FrameRef::new(format, case.size, case.color, &planes).unwrap();
    let mut output = Bytes::new(places, spec.output);
    let planes = output.0.iter_mut().map(|(d, s)| (d.as_mut_slice(), *s));
    let mut target = FrameMut::new(format, spec.output, case.color, planes).unwrap();
    let mut upscaler = Upscaler::new(Arc::clone(model), spec, &UpscaleOptions::default()).unwrap();
    upscaler.process(&frame, &mut target).unwrap();

    let reference = Reference {
        places,
        rgb: name.contains('R') && name.contains('B') && name != "GRAY8",
        from: case.size,
        to: spec.output,
        color: case.color,
    };
    let components: Vec<Grid> = places.iter().map(|p| input.get(p, case.size)).collect();
    let expected = reference.run(net, &components);
    for (c, (place, expected)) in places.iter().zip(&expected).enumerate() {
        let found = output.get(place, spec.output);
        let worst = found
            .v
            .iter()
            .zip(&expected.v)
            .map(|(f, e)| (f - e.clamp(0.0, 255.0)).abs())
            .fold(0.0, f64::max);
        // Half a step of rounding, and the error of f32.
        assert!(
            worst < 0.502,
            "{name} component {c}, {case:?}: off by {worst}"
        );
    }
    check_padding(name, places, &output, spec.output);
}

/// Row padding is not written; the unused byte of RGBx and similar formats is 255.
fn check_padding(name: &str, places: &[Place], output: &Bytes, size: (usize, usize)) {
    for (plane, (data, stride)) in output.0.iter().enumerate() {
        let p = places.iter().find(|p| p.0 == plane).unwrap();
        let used = half(size.0, p.3) * p.2;
        for row in data.chunks(*stride) {
            assert!(
                row[used..].iter().all(|&b| b == UNTOUCHED),
                "{name}: padding written"
            );
            if name.contains('x') {
                let free = 6 - places.iter().map(|p| p.1).sum::<usize>();
                assert!(
                    row[free..used].iter().step_by(4).all(|&b| b == 255),
                    "{name}: x byte"
                );
            }
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
    for (name, places) in layouts() {
        cases
            .iter()
            .for_each(|case| check(name, &places, &model, None, case));
    }
}

fn cases_first() -> Case {
    cases().swap_remove(0)
}

#[test]
fn every_format_is_covered() {
    let names: Vec<_> = layouts().iter().map(|(name, _)| *name).collect();
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
    for (name, places) in layouts() {
        for case in cases().iter().filter(|case| case.scale != "3/2") {
            check(name, &places, &model, Some((&net, channels)), case);
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
