//! Post-upsampling networks in the engine.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::resample::Resampler;
use srfilter::frame::{Image, PixelFormat};
use srfilter::models::{
    Architecture, Channels, Scales, compact, drct, espcn, hdsrnet, lapan, srresnet,
};
use srfilter::weights::{LoadOverrides, Model};
use std::sync::Arc;

const SIZE: (usize, usize) = (37, 29);

fn spec(format: PixelFormat, scale: &str) -> UpscaleSpec {
    let frame_spec = FrameSpec::new(format, SIZE.0, SIZE.1);
    UpscaleSpec::scaled(frame_spec, scale.parse().unwrap())
}

/// The network's output for a plane, clamped, without the engine.
fn network_output(model: &Model, plane: &[f32], factor: u32) -> Vec<f32> {
    let samples: Vec<f32> = plane.iter().map(|v| v / 255.0).collect();
    let x = Tensor::from_vec(samples, (1, 1, SIZE.1, SIZE.0), &Device::Cpu).unwrap();
    let network = model.for_scale(Scale::whole(factor)).unwrap();
    let y = network.forward(&x).unwrap().flatten_all().unwrap();
    let y = y.to_vec1::<f32>().unwrap();
    y.iter().map(|v| (v * 255.0).clamp(0.0, 255.0)).collect()
}

#[test]
fn fractional_scales_run_at_the_next_integer_scale() {
    let dir = tempfile::tempdir().unwrap();
    let narrow = common::espcn_file(dir.path());
    let full = dir.path().join("full.safetensors");
    let architecture = Architecture::Espcn(espcn::Config::default());
    let scales = architecture.scales().unwrap();
    common::save(&full, architecture, scales, 5);
    for file in [narrow, full] {
        let model = Model::open_with(file, None, &LoadOverrides::default()).unwrap();
        check_fractions(&model);
        let Scales::List(native) = model.scales() else {
            panic!("{:?}", model.scales());
        };
        for &scale in native {
            assert!(
                model.packed(scale).unwrap().is_some(),
                "x{scale} is not fused"
            );
        }
    }
}

fn check_fractions(model: &Arc<Model>) {
    let mut next = common::noise(9);
    let plane: Vec<f32> = (0..SIZE.0 * SIZE.1)
        .map(|_| (next() * 256.0).floor() as f32)
        .collect();
    for (scale, factor) in [("2", 2), ("3", 3), ("5/2", 3), ("3/2", 2), ("7/3", 3)] {
        let spec = spec(PixelFormat::Gray8, scale);
        let mut upscaler =
            Upscaler::new(Arc::clone(model), spec, &UpscaleOptions::default()).unwrap();
        assert_eq!(upscaler.native_scales(), [Scale::whole(factor)]);
        let size = (SIZE.0 * factor as usize, SIZE.1 * factor as usize);
        assert_eq!(upscaler.resamples(), size != spec.output);
        let expected_plane = network_output(model, &plane, factor);
        let inside = expected_plane
            .iter()
            .filter(|&&v| v > 0.0 && v < 255.0)
            .count();
        assert!(
            3 * inside > expected_plane.len(),
            "{inside} of {}",
            expected_plane.len()
        );
        let expected = match upscaler.resamples() {
            true => Resampler::resize(size, spec.output).apply(&expected_plane),
            false => expected_plane,
        };
        let got = upscaler
            .process_planes(std::slice::from_ref(&plane))
            .unwrap();
        let expected: Vec<f32> = expected.iter().map(|v| v.clamp(0.0, 255.0)).collect();
        // The engine's order of summation differs from the layers'.
        let off = got[0].iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f32::max);
        assert!(off < 0.01, "x{scale}: off by {off}");
    }
}

/// Beyond the largest scale, a cascade of networks.
#[test]
fn larger_scales_are_reached_by_a_cascade() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::open_with(
        common::espcn_file(dir.path()),
        None,
        &LoadOverrides::default(),
    )
    .unwrap();
    for (scale, native) in [("6", [3, 2]), ("9", [3, 3]), ("7/2", [2, 2])] {
        let spec = spec(PixelFormat::Rgb, scale);
        let mut upscaler = Upscaler::new(model.clone(), spec, &UpscaleOptions::default()).unwrap();
        assert_eq!(upscaler.native_scales(), native.map(Scale::whole));
        let mut next = common::noise(2);
        let mut input = Image::new(SIZE.0, SIZE.1, 3);
        input
            .data
            .iter_mut()
            .for_each(|v| *v = (next() * 256.0) as u8);
        let mut output = Image::new(spec.output.0, spec.output.1, 3);
        upscaler
            .process(&input.frame().unwrap(), &mut output.frame_mut().unwrap())
            .unwrap();
        assert!(output.data.iter().any(|&v| v != output.data[0]));
    }
}

/// A small network of every RGB architecture, its scale, and whether it needs whole frames.
fn rgb_networks() -> Vec<(Architecture, u32, bool)> {
    let srresnet = srresnet::Config {
        width: 6,
        blocks: 2,
        norm: false,
        ..srresnet::Config::default()
    };
    let compact = compact::Config {
        width: 6,
        depth: 3,
        ..compact::Config::default()
    };
    let lapan = |chained| lapan::Config { width: 16, chained };
    let drct = drct::Config {
        width: 12,
        groups: 2,
        heads: 4,
        window: 8,
        growth: 4,
        mlp_ratio: 2,
    };
    vec![
        (Architecture::SrResNet(srresnet), 4, false),
        (Architecture::Compact(compact.clone()), 1, false),
        (Architecture::Compact(compact), 3, false),
        (
            Architecture::HdsrNet(hdsrnet::Config { width: 8 }),
            3,
            false,
        ),
        (Architecture::Lapan(lapan(false)), 2, false),
        (Architecture::Lapan(lapan(true)), 2, false),
        (Architecture::Drct(drct), 2, true),
    ]
}

fn rgb_model(dir: &std::path::Path, architecture: &Architecture, factor: u32) -> Arc<Model> {
    let file = dir.join("rgb.safetensors");
    let scales = Scales::list([Scale::whole(factor)]);
    common::save(&file, architecture.clone(), scales, 11);
    let model = Model::open_with(file, None, &LoadOverrides::default()).unwrap();
    assert_eq!(model.channels(), Channels::Rgb);
    model
}

#[test]
fn rgb_networks_in_tiles_equal_the_network_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (architecture, factor, whole_frame) in rgb_networks() {
        let name = architecture.name();
        let model = rgb_model(dir.path(), &architecture, factor);
        let mut next = common::noise(4);
        let mut plane = || -> Vec<f32> {
            let sample = |_| (next() * 256.0).floor() as f32;
            (0..SIZE.0 * SIZE.1).map(sample).collect()
        };
        let planes = [plane(), plane(), plane()];
        let samples: Vec<f32> = planes.iter().flatten().map(|v| v / 255.0).collect();
        let x = Tensor::from_vec(samples, (1, 3, SIZE.1, SIZE.0), &Device::Cpu).unwrap();
        let network = model.for_scale(Scale::whole(factor)).unwrap();
        assert_eq!(network.whole_frame(), whole_frame, "{name}");
        let expected = network.forward(&x).unwrap().flatten_all().unwrap();
        let expected = expected.to_vec1::<f32>().unwrap();
        let least = expected.iter().copied().fold(f32::MAX, f32::min);
        assert!(
            expected.iter().any(|v| v - least > 0.02),
            "{name} has a flat output"
        );
        let spec = spec(PixelFormat::Rgb, &factor.to_string());
        for tile in [0, 16] {
            let options = UpscaleOptions::default()
                .with_tile_size(tile)
                .with_threads(2);
            let mut upscaler = Upscaler::new(Arc::clone(&model), spec, &options).unwrap();
            // Fused networks are tiled for the threads, too.
            let divided = upscaler.tiles() > 1;
            assert!(
                if whole_frame {
                    !divided
                } else {
                    divided || tile == 0
                },
                "{name}"
            );
            let got = upscaler.process_planes(&planes).unwrap().concat();
            assert_eq!(got.len(), expected.len(), "{name}");
            let pairs = got.iter().zip(&expected);
            let off = pairs.map(|(got, v)| (got - (v * 255.0).clamp(0.0, 255.0)).abs());
            let off = off.fold(0.0, f32::max);
            assert!(off < 0.01, "{name}: off by {off}");
        }
    }
}

/// Images smaller than a window or a kernel.
#[test]
fn rgb_networks_accept_the_smallest_images() {
    let dir = tempfile::tempdir().unwrap();
    for (architecture, factor, _) in rgb_networks() {
        let model = rgb_model(dir.path(), &architecture, factor);
        let network = model.for_scale(Scale::whole(factor)).unwrap();
        for (width, height) in [(1, 1), (2, 9), (11, 1)] {
            let x = Tensor::full(0.5f32, (1, 3, height, width), &Device::Cpu).unwrap();
            let y = network.forward(&x).unwrap();
            let factor = factor as usize;
            let name = architecture.name();
            assert_eq!(y.dims(), [1, 3, height * factor, width * factor], "{name}");
        }
    }
}

/// The hidden layers of a whole-frame network count.
#[cfg(target_os = "linux")]
#[test]
fn frames_too_large_for_a_whole_frame_network_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    // If tiles would fit, the error says so, and they do.
    let input = FrameSpec::rgb8(3840, 2160);
    let spec = UpscaleSpec::scaled(input, Scale::whole(2));
    let model = rgb_model(dir.path(), &Architecture::Drct(drct::Config::default()), 2);
    let check = |options: &UpscaleOptions| Upscaler::check(&model, &spec, options);
    let error = check(&UpscaleOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("MiB") && error.ends_with("or tiles that overlap"),
        "{error}"
    );
    let tiles = |tile, overlap| {
        UpscaleOptions::default()
            .with_tile_size(tile)
            .with_tile_overlap(overlap)
    };
    assert_eq!(check(&tiles(64, 8)).unwrap(), [(7680, 4320)]);
    let error = check(&tiles(8, 8)).unwrap_err().to_string();
    assert!(error.contains("cannot overlap by 8"), "{error}");
}
