//! The clip of `make demo`: renders it, and measures the output of a gst-launch
//! pipeline.
//!
//! ```text
//! demo draw DIR      writes DIR/high.i420 and DIR/low.i420
//! demo measure DIR   compares DIR/out.i420 with DIR/high.i420, writes DIR/before_after.png
//! ```

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::resample::Resampler;
use srfilter::frame::{Color, FrameMut, FrameRef, Image, PixelFormat, YuvToRgb};
use srfilter::weights::Model;
use srfilter::{Scale, metrics};
use std::path::Path;

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FRAMES: usize = 48;
const SCALE: Scale = Scale::whole(2);

/// Samples per pixel and axis, for antialiased edges.
const OVERSAMPLING: usize = 3;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "draw", dir] => draw(Path::new(dir)),
        [_, "measure", dir] => measure(Path::new(dir)),
        _ => bail!("usage: demo draw|measure DIR"),
    }
}

fn draw(dir: &Path) -> Result<()> {
    let frames: Vec<(Vec<u8>, Vec<u8>)> = (0..FRAMES)
        .into_par_iter()
        .map(|n| {
            let high = render(n as f64 / FRAMES as f64);
            let low = [
                shrink(&high[..WIDTH * HEIGHT], WIDTH, HEIGHT),
                shrink(chroma(&high, 0), WIDTH / 2, HEIGHT / 2),
                shrink(chroma(&high, 1), WIDTH / 2, HEIGHT / 2),
            ];
            (high, low.concat())
        })
        .collect();
    let (high, low): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
    std::fs::write(dir.join("high.i420"), high.concat())?;
    std::fs::write(dir.join("low.i420"), low.concat())?;
    Ok(())
}

/// One of the two chroma planes of an I420 frame.
fn chroma(frame: &[u8], which: usize) -> &[u8] {
    let (luma, plane) = (WIDTH * HEIGHT, WIDTH * HEIGHT / 4);
    &frame[luma + which * plane..][..plane]
}

/// Antialiased bicubic to half the size.
fn shrink(plane: &[u8], width: usize, height: usize) -> Vec<u8> {
    let samples: Vec<f32> = plane.iter().map(|&v| f32::from(v)).collect();
    let small = Resampler::resize((width, height), (width / 2, height / 2)).apply(&samples);
    small.into_iter().map(srfilter::frame::to_u8).collect()
}

/// One frame as I420, limited range; `time` runs from 0 to 1.
fn render(time: f64) -> Vec<u8> {
    let convert = YuvToRgb::new(Color::default());
    let mut luma = vec![0; WIDTH * HEIGHT];
    let mut chroma = [
        vec![0f32; WIDTH * HEIGHT / 4],
        vec![0f32; WIDTH * HEIGHT / 4],
    ];
    let step = 1.0 / OVERSAMPLING as f64;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let mut rgb = [0.0f64; 3];
            for (j, i) in (0..OVERSAMPLING).flat_map(|j| (0..OVERSAMPLING).map(move |i| (j, i))) {
                let at = |pixel: usize, sub: usize| pixel as f64 + (sub as f64 + 0.5) * step;
                let color = shade(at(x, i), at(y, j), time);
                (0..3).for_each(|c| rgb[c] += color[c] * step * step);
            }
            let [l, u, v] = convert.yuv(rgb.map(|c| (c * 255.0) as f32));
            luma[y * WIDTH + x] = srfilter::frame::to_u8(l);
            let place = y / 2 * (WIDTH / 2) + x / 2;
            chroma[0][place] += u / 4.0;
            chroma[1][place] += v / 4.0;
        }
    }
    for plane in chroma {
        luma.extend(plane.into_iter().map(srfilter::frame::to_u8));
    }
    luma
}

/// The image's colour at a point: red, green, blue, 0 to 1.
fn shade(x: f64, y: f64, time: f64) -> [f64; 3] {
    let turn = time * std::f64::consts::TAU;
    let mut color = [0.16 + 0.1 * y / 360.0, 0.2 + 0.2 * x / 640.0, 0.38];
    // A rotating fan of rays.
    let (dx, dy) = (x - 120.0, y - 130.0);
    let (radius, angle) = (libm::hypot(dx, dy), libm::atan2(dy, dx));
    if radius < 95.0 {
        let ray = libm::sin(18.0 * (angle + turn / 9.0)) > 0.0;
        color = if ray {
            [0.95, 0.93, 0.85]
        } else {
            [0.1, 0.1, 0.14]
        };
    }
    // Growing rings.
    let radius = libm::hypot(x - 520.0, y - 130.0);
    if radius < 95.0 {
        let ring = 0.5 + 0.5 * libm::sin(radius * 0.55 - turn * 2.0);
        color = [0.2 + 0.7 * ring, 0.75 - 0.5 * ring, 0.3];
    }
    // Tilted tiles.
    let (sin, cos) = libm::sincos(0.35 + 0.15 * libm::sin(turn));
    let (u, v) = (
        (x - 320.0) * cos + (y - 125.0) * sin,
        (y - 125.0) * cos - (x - 320.0) * sin,
    );
    if u.abs() < 70.0 && v.abs() < 70.0 {
        let tile = ((u / 14.0).floor() + (v / 9.0).floor()).rem_euclid(2.0) > 0.5;
        color = if tile {
            [0.9, 0.55, 0.2]
        } else {
            [0.25, 0.12, 0.1]
        };
    }
    if writing(x - 46.0 - 12.0 * libm::sin(turn), y - 262.0) {
        color = [0.97, 0.97, 0.9];
    }
    color
}

/// The letters of "srfilter" as strokes on a grid of 2 x 4, x to the right, y down.
const LETTERS: [&[[f64; 4]]; 8] = [
    &[
        [2., 0., 0., 0.],
        [0., 0., 0., 2.],
        [0., 2., 2., 2.],
        [2., 2., 2., 4.],
        [2., 4., 0., 4.],
    ],
    &[
        [0., 0., 0., 4.],
        [0., 0., 2., 0.],
        [2., 0., 2., 2.],
        [2., 2., 0., 2.],
        [0., 2., 2., 4.],
    ],
    &[[0., 0., 0., 4.], [0., 0., 2., 0.], [0., 2., 1.5, 2.]],
    &[[1., 0., 1., 4.]],
    &[[0., 0., 0., 4.], [0., 4., 2., 4.]],
    &[[0., 0., 2., 0.], [1., 0., 1., 4.]],
    &[
        [0., 0., 0., 4.],
        [0., 0., 2., 0.],
        [0., 2., 1.5, 2.],
        [0., 4., 2., 4.],
    ],
    &[
        [0., 0., 0., 4.],
        [0., 0., 2., 0.],
        [2., 0., 2., 2.],
        [2., 2., 0., 2.],
        [0., 2., 2., 4.],
    ],
];

fn writing(x: f64, y: f64) -> bool {
    const UNIT: f64 = 15.0;
    const ADVANCE: f64 = 70.0;
    const PEN: f64 = 2.2;
    let (letter, x) = ((x / ADVANCE).floor(), x.rem_euclid(ADVANCE));
    if !(0.0..LETTERS.len() as f64).contains(&letter) {
        return false;
    }
    let strokes = LETTERS[letter as usize].iter();
    strokes
        .map(|s| s.map(|v| v * UNIT))
        .any(|[ax, ay, bx, by]| {
            let (lx, ly) = (bx - ax, by - ay);
            let along = ((x - ax) * lx + (y - ay) * ly) / (lx * lx + ly * ly);
            let along = along.clamp(0.0, 1.0);
            libm::hypot(x - ax - along * lx, y - ay - along * ly) < PEN
        })
}

/// The planes of an I420 frame with their strides.
fn planes(frame: &[u8], width: usize, height: usize) -> [(&[u8], usize); 3] {
    let (luma, rest) = frame.split_at(width * height);
    let (u, v) = rest.split_at(rest.len() / 2);
    [(luma, width), (u, width / 2), (v, width / 2)]
}

fn bicubic(low: &[u8]) -> Result<Vec<u8>> {
    let size = (WIDTH / 2, HEIGHT / 2);
    let frame_spec = FrameSpec::new(PixelFormat::I420, size.0, size.1);
    let spec = UpscaleSpec::scaled(frame_spec, SCALE);
    let mut upscaler = Upscaler::new(Model::builtin("bicubic")?, spec, &UpscaleOptions::default())?;
    let input = FrameRef::new(
        frame_spec.format,
        size,
        frame_spec.color,
        &planes(low, size.0, size.1),
    )?;
    let mut out = vec![0; low.len() * 4];
    let (luma, rest) = out.split_at_mut(WIDTH * HEIGHT);
    let (u, v) = rest.split_at_mut(WIDTH * HEIGHT / 4);
    let target = [(luma, WIDTH), (u, WIDTH / 2), (v, WIDTH / 2)];
    let mut output = FrameMut::new(frame_spec.format, spec.output, frame_spec.color, target)?;
    upscaler.process(&input, &mut output)?;
    Ok(out)
}

fn measure(dir: &Path) -> Result<()> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let (high, low, out) = (read("high.i420")?, read("low.i420")?, read("out.i420")?);
    let frame = WIDTH * HEIGHT * 3 / 2;
    ensure!(
        out.len() == FRAMES * frame,
        "expected {FRAMES} frames of {WIDTH}x{HEIGHT} in out.i420, found {} bytes",
        out.len()
    );
    let (mut ours, mut plain) = (0.0, 0.0);
    let mut middle = None;
    for n in 0..FRAMES {
        let upscaled = bicubic(&low[n * frame / 4..][..frame / 4])?;
        let luma = |bytes: &[u8]| -> Vec<f64> {
            bytes[..WIDTH * HEIGHT]
                .iter()
                .map(|&v| f64::from(v))
                .collect()
        };
        let (expected, output) = (&high[n * frame..][..frame], &out[n * frame..][..frame]);
        ours += metrics::psnr(&luma(expected), &luma(output)) / FRAMES as f64;
        plain += metrics::psnr(&luma(expected), &luma(&upscaled)) / FRAMES as f64;
        if n == FRAMES / 3 {
            middle = Some(before_after(&upscaled, output)?);
        }
    }
    if let Some(image) = middle {
        image.save(dir.join("before_after.png"))?;
    }
    println!(
        "bicubic {plain:.2} dB, srfilter {ours:.2} dB: {:+.2} dB (PSNR of luma)",
        ours - plain
    );
    Ok(())
}

/// Two parts of a frame, magnified: bicubic on the left, ours on the right.
fn before_after(before: &[u8], after: &[u8]) -> Result<Image> {
    const ZOOM: usize = 3;
    const PART: (usize, usize) = (150, 100);
    const GAP: usize = 6;
    let corners = [(45, 60), (60, 250)];
    let mut out = Image::new(
        2 * PART.0 * ZOOM + GAP,
        corners.len() * (PART.1 * ZOOM + GAP) - GAP,
        3,
    );
    out.data.fill(255);
    for (column, frame) in [before, after].into_iter().enumerate() {
        let image = to_rgb(frame);
        for (row, (x, y)) in corners.into_iter().enumerate() {
            let part = image.crop(x, y, PART.0, PART.1);
            let left = column * (PART.0 * ZOOM + GAP);
            let top = row * (PART.1 * ZOOM + GAP);
            for (py, px) in (0..PART.1 * ZOOM).flat_map(|y| (0..PART.0 * ZOOM).map(move |x| (y, x)))
            {
                let from = (py / ZOOM * PART.0 + px / ZOOM) * 3;
                let to = ((top + py) * out.width + left + px) * 3;
                out.data[to..to + 3].copy_from_slice(&part.data[from..from + 3]);
            }
        }
    }
    Ok(out)
}

fn to_rgb(frame: &[u8]) -> Image {
    let convert = YuvToRgb::new(Color::default());
    let mut image = Image::new(WIDTH, HEIGHT, 3);
    let [(luma, _), (u, _), (v, _)] = planes(frame, WIDTH, HEIGHT);
    for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        let place = i / WIDTH / 2 * (WIDTH / 2) + i % WIDTH / 2;
        let yuv = [luma[i], u[place], v[place]].map(f32::from);
        for (out, value) in pixel.iter_mut().zip(convert.rgb(yuv)) {
            *out = srfilter::frame::to_u8(value);
        }
    }
    image
}
