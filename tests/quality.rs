//! Quality of the built-in weights on images.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use candle_core::{Device, Tensor};
use srfilter::Precision;
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::resample::Resampler;
use srfilter::frame::{Image, PixelFormat};
use srfilter::metrics;
use srfilter::models::{self, Channels, Scales, Upsampling};
use srfilter::weights::{Checkpoint, Model};
use std::path::Path;

/// Test images: a synthetic one, and one of Set5 if available.
fn images() -> Vec<Image> {
    let real = common::shared("test/Set5/butterfly.png");
    let real = real.map(|path| Image::open(path).unwrap().crop(0, 0, 240, 240));
    [Some(drawn()), real].into_iter().flatten().collect()
}

/// Leaves of one colour with sharp edges.
fn drawn() -> Image {
    let mut image = Image::new(240, 240, 3);
    for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        let (mut value, n) = (0.0, 3);
        for sub in 0..n * n {
            let x = (i % 240) as f64 + (sub % n) as f64 / n as f64;
            let y = (i / 240) as f64 + (sub / n) as f64 / n as f64;
            let (u, v) = (x * 0.8 + y * 0.6, y * 0.8 - x * 0.6);
            let leaf = libm::sin(u / 9.0) + libm::sin(v / 13.0) > 0.4;
            value += if leaf { 200.0 } else { 60.0 } / (n * n) as f64;
        }
        pixel.fill(value as u8);
    }
    image
}

/// PSNR at `scale` with the weights for the scale `weights_for`.
fn psnr(model: &Model, image: &Image, scale: u32, weights_for: u32) -> f64 {
    let (luma, width, height) = (image.luma(), image.width, image.height);
    let scale = scale as usize;
    let small = (width / scale, height / scale);
    let low: Vec<f64> = Resampler::resize((width, height), small)
        .apply(&luma)
        .into_iter()
        .map(|v| v.round())
        .collect();
    let upscaled = Resampler::resize(small, (width, height)).apply(&low);
    let samples: Vec<f32> = upscaled.iter().map(|v| (v / 255.0) as f32).collect();
    let x = Tensor::from_vec(samples, (1, 1, height, width), &Device::Cpu).unwrap();
    let network = model.for_scale(Scale::whole(weights_for)).unwrap();
    let y = network.forward(&x).unwrap().flatten_all().unwrap();
    let output: Vec<f64> = y
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect();
    let output: Vec<f64> = output
        .iter()
        .map(|v| (v * 255.0).round().clamp(0.0, 255.0))
        .collect();
    let (expected, _) = metrics::shave(&luma, width, scale);
    let (output, _) = metrics::shave(&output, width, scale);
    metrics::psnr(&expected, &output)
}

#[test]
fn the_hypernetwork_conditions_on_the_scale() {
    let model = Model::builtin("hypersrcnn").unwrap();
    for image in images() {
        let psnr = |scale, weights_for| psnr(&model, &image, scale, weights_for);
        let (matching, other) = (psnr(2, 2), psnr(2, 4));
        println!("x2 with weights for x2: {matching:.2} dB, for x4: {other:.2} dB");
        assert!(
            matching - other >= 1.0,
            "{matching:.2} dB and {other:.2} dB"
        );
        let (matching, other) = (psnr(4, 4), psnr(4, 2));
        println!("x4 with weights for x4: {matching:.2} dB, for x2: {other:.2} dB");
        assert!(matching > other, "{matching:.2} dB and {other:.2} dB");
    }
}

/// An image's luma downscaled by `scale` and rounded, with its size.
fn shrunk(luma: &[f64], size: (usize, usize), scale: Scale) -> (Vec<f32>, (usize, usize)) {
    let small = (
        (size.0 as f64 / scale.factor()) as usize,
        (size.1 as f64 / scale.factor()) as usize,
    );
    let low = Resampler::resize(size, small).apply(luma);
    let round = |v: &f64| v.round().clamp(0.0, 255.0) as f32;
    (low.iter().map(round).collect(), small)
}

/// The output of the network layer by layer, values 0 to 255.
fn by_layers(model: &Model, scale: Scale, low: &[f32], small: (usize, usize)) -> Vec<f32> {
    let network = model.for_scale(scale).unwrap();
    let (input, size) = match network.upsampling() {
        Upsampling::Post(_) => (low.to_vec(), small),
        Upsampling::Pre => {
            let size = (scale.apply(small.0), scale.apply(small.1));
            (Resampler::resize(small, size).apply(low), size)
        }
    };
    let samples: Vec<f32> = input.iter().map(|v| v / 255.0).collect();
    let x = Tensor::from_vec(samples, (1, 1, size.1, size.0), &Device::Cpu).unwrap();
    let y = network.forward(&x).unwrap().flatten_all().unwrap();
    let y = y.to_vec1::<f32>().unwrap();
    y.iter().map(|v| (v * 255.0).clamp(0.0, 255.0)).collect()
}

/// Winograd convolution rounds differently from direct convolution: by less than
/// a tenth of an 8-bit step, for all built-in weights.
#[test]
fn the_fused_engine_is_as_accurate_as_the_layers() {
    for row in models::MODELS {
        let ships = !row.built_in.is_empty();
        let architecture = (row.architecture)();
        if !ships || architecture.is_none_or(|a| a.channels() != Channels::Luma) {
            continue;
        }
        let model = Model::builtin(row.name).unwrap();
        let scales: Vec<Scale> = match model.scales() {
            Scales::Any => ["3/2", "2", "5/2", "3", "4", "8"]
                .map(|s| s.parse().unwrap())
                .into(),
            Scales::List(scales) => scales.clone(),
        };
        for scale in scales {
            assert!(
                model.packed(scale).unwrap().is_some(),
                "{} runs fused",
                row.name
            );
            for image in images() {
                let size = (image.width, image.height);
                let luma = image.luma();
                let (low, small) = shrunk(&luma, size, scale);
                let frame_spec = FrameSpec::new(PixelFormat::Gray8, small.0, small.1);
                let spec = UpscaleSpec::scaled(frame_spec, scale);
                let options = UpscaleOptions::default().with_precision(Precision::F32);
                let mut upscaler = Upscaler::new(model.clone(), spec, &options).unwrap();
                let fused = upscaler
                    .process_planes(std::slice::from_ref(&low))
                    .unwrap()
                    .remove(0);
                let direct = by_layers(&model, scale, &low, small);
                assert_eq!(fused.len(), direct.len());
                let off = fused.iter().zip(&direct).map(|(a, b)| (a - b).abs());
                let off = off.fold(0.0, f32::max);
                // Against the image at this size.
                let expected = Resampler::resize(size, spec.output).apply(&luma);
                let quality = |output: &[f32]| {
                    let output: Vec<f64> = output.iter().map(|&v| f64::from(v).round()).collect();
                    metrics::psnr(&expected, &output)
                };
                let change = (quality(&fused) - quality(&direct)).abs();
                println!(
                    "{} x{scale}: off by {off:.5} of a step, {change:.6} dB",
                    row.name
                );
                assert!(off < 0.1, "{} x{scale}: off by {off} of a step", row.name);
                assert!(change < 0.001, "{} x{scale}: {change} dB", row.name);
            }
        }
    }
}

/// Colours whose red, green and blue are each one of six values.
fn colors() -> impl Iterator<Item = [u8; 3]> {
    (0..216).map(|i| [i / 36, i / 6 % 6, i % 6].map(|step| 51 * step as u8))
}

/// RGB networks see few saturated colours in photographs: flat frames stay what they
/// are. Replicated borders keep them to the edges, but for networks with pixel shuffles
/// inside, whose samples differ by their place in a square.
#[test]
fn flat_colors_stay() {
    for row in models::MODELS {
        let architecture = (row.architecture)();
        if row.built_in.is_empty() || architecture.is_none_or(|a| a.channels() != Channels::Rgb) {
            continue;
        }
        let model = Model::builtin(row.name).unwrap();
        let Scales::List(scales) = model.scales().clone() else {
            panic!("{}: any scale", row.name);
        };
        for (scale, precision) in scales
            .into_iter()
            .flat_map(|scale| [Precision::F32, Precision::Auto].map(|p| (scale, p)))
        {
            let edges = model.for_scale(scale).unwrap().upsampling() == Upsampling::Pre;
            let side = if edges { 24 } else { 48 };
            let frame = FrameSpec::new(PixelFormat::Rgb, side, side);
            let options = UpscaleOptions::default().with_precision(precision);
            let spec = UpscaleSpec::scaled(frame, scale);
            let mut upscaler = Upscaler::new(model.clone(), spec, &options).unwrap();
            let (mut input, (width, height)) = (Image::new(side, side, 3), spec.output);
            let mut output = Image::new(width, height, 3);
            let mut worst = (0, [0; 3]);
            for color in colors() {
                let pixels = input.data.chunks_exact_mut(3);
                pixels.for_each(|pixel| pixel.copy_from_slice(&color));
                upscaler.upscale(&input, &mut output).unwrap();
                let part = match edges {
                    true => output.clone(),
                    false => output.crop(width * 3 / 8, height * 3 / 8, width / 4, height / 4),
                };
                for pixel in part.data.chunks_exact(3) {
                    let off = pixel.iter().zip(color).map(|(a, b)| a.abs_diff(b)).max();
                    worst = worst.max((off.unwrap(), color));
                }
            }
            println!("{} x{scale}, {precision}: {worst:?}", row.name);
            // The ranges of 8-bit layers are those of photographs and some colour charts.
            let is_int8 = precision == Precision::Auto && model.int8_loss().is_some();
            let most = if is_int8 { 6 } else { 3 };
            assert!(
                worst.0 <= most,
                "{} x{scale}, {precision}: {worst:?}",
                row.name
            );
        }
    }
}

/// All files of `models/`, also those that are not built in: each opens, has a card, and upscales an image to something
/// close to bicubic interpolation.
#[test]
fn every_weights_file_upscales() {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).unwrap();
    let mut count = 0;
    for folder in folders {
        let folder = folder.unwrap().path();
        if folder.ends_with("coding-damage") {
            // It enlarges nothing.
            assert!(folder.join("CARD.md").exists());
            continue;
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            if file
                .extension()
                .is_none_or(|extension| extension != "safetensors")
            {
                continue;
            }
            let (model, name) = (Model::open(&file).unwrap(), file.display());
            let card = Checkpoint::open(&file).unwrap().card().unwrap();
            assert!(card.is_some() && folder.join("CARD.md").exists(), "{name}");
            let scale = model.scales().nearest(Scale::whole(2)).unwrap();
            let input = drawn().crop(0, 0, 64, 64);
            let [ours, bicubic] = [model, Model::builtin("bicubic").unwrap()].map(|model| {
                let frame = FrameSpec::new(PixelFormat::Rgb, input.width, input.height);
                let spec = UpscaleSpec::scaled(frame, scale);
                let mut upscaler = Upscaler::new(model, spec, &UpscaleOptions::default()).unwrap();
                let mut output = Image::new(spec.output.0, spec.output.1, 3);
                upscaler.upscale(&input, &mut output).unwrap();
                output
            });
            let off = ours
                .data
                .iter()
                .zip(&bicubic.data)
                .map(|(a, b)| f64::from(a.abs_diff(*b)));
            let off = off.sum::<f64>() / ours.data.len() as f64;
            println!("{name} x{scale}: {off:.2}");
            assert!(off > 0.1 && off < 8.0, "{name} x{scale}: {off} of 255");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
