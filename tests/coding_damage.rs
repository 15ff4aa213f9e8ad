//! The damage by encoding: what the estimator says of pictures, and what models do with it.
#![allow(clippy::unwrap_used, missing_docs)]

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use srfilter::frame::resample::Resampler;
use srfilter::frame::to_u8;
use srfilter::models::{CodingDamage, DamageEstimator};
use srfilter::{
    Color, FrameMut, FrameRef, FrameSpec, Image, Model, PixelFormat, Precision, Scale,
    UpscaleOptions, UpscaleSpec, Upscaler,
};
use std::sync::Arc;

const SIZE: (usize, usize) = (320, 192);

/// A picture with edges, shades and texture down to the finest: discs of all sizes before each
/// other, each with a grating of its own.
fn picture() -> Vec<u8> {
    let mut noise = testing::noise(5);
    let mut picture = vec![120.0; SIZE.0 * SIZE.1];
    for i in 0..220 {
        let radius = 90.0 / (1.0 + f64::from(i) * 0.12);
        let mut uniform = |low: f64, high: f64| low + (high - low) * (noise() + 1.0) / 2.0;
        let (x, y) = (uniform(0.0, 320.0), uniform(0.0, 192.0));
        let (level, depth) = (uniform(30.0, 225.0), uniform(0.0, 24.0));
        let wave = [uniform(-1.6, 1.6), uniform(-1.6, 1.6)];
        for (place, sample) in picture.iter_mut().enumerate() {
            let right = (place % SIZE.0) as f64 - x;
            let below = (place / SIZE.0) as f64 - y;
            // One sample from inside to outside.
            let inside = (radius - libm::hypot(right, below)).clamp(0.0, 1.0);
            let own = level + depth * libm::sin(wave[0] * right + wave[1] * below);
            *sample += inside * (own - *sample);
        }
    }
    let grain = picture.iter().map(|v| v + 1.5 * noise());
    grain.map(|v| v.round().clamp(16.0, 235.0) as u8).collect()
}

fn jpeg(picture: &[u8], size: (usize, usize), quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(picture, size.0 as u32, size.1 as u32, ExtendedColorType::L8)
        .unwrap();
    image::load_from_memory(&bytes)
        .unwrap()
        .to_luma8()
        .into_raw()
}

fn frame<'a>(planes: &[(&'a [u8], usize)], format: PixelFormat) -> FrameRef<'a> {
    FrameRef::new(format, SIZE, Color::default(), planes).unwrap()
}

fn estimate(picture: &[u8]) -> f64 {
    let frame = frame(&[(picture, SIZE.0)], PixelFormat::Gray8);
    DamageEstimator::builtin()
        .unwrap()
        .estimate(&frame)
        .unwrap()
}

#[test]
fn encoded_pictures_are_told_from_clean_ones() {
    let picture = picture();
    let (clean, encoded) = (estimate(&picture), estimate(&jpeg(&picture, SIZE, 60)));
    println!("clean {clean:.3}, as JPEG {encoded:.3}");
    assert!(clean < 0.2 && encoded > 0.8);
}

/// The same picture in 10 bit.
#[test]
fn the_estimate_is_the_same_for_any_depth() {
    let picture = jpeg(&picture(), SIZE, 60);
    let deep: Vec<u8> = (picture.iter())
        .flat_map(|&v| (u16::from(v) << 2).to_le_bytes())
        .collect();
    let chroma = vec![0; SIZE.0 * SIZE.1 / 2];
    let planes = [
        (deep.as_slice(), 2 * SIZE.0),
        (&chroma, SIZE.0),
        (&chroma, SIZE.0),
    ];
    let frame = frame(&planes, PixelFormat::I420x10);
    let of_deep = DamageEstimator::builtin()
        .unwrap()
        .estimate(&frame)
        .unwrap();
    assert!((of_deep - estimate(&picture)).abs() < 1e-4);
}

fn upscaled(model: &Arc<Model>, picture: &[u8], precision: Precision) -> Vec<u8> {
    let spec = FrameSpec::new(PixelFormat::Gray8, SIZE.0, SIZE.1).with_color(Color::default());
    let options = UpscaleOptions::default().with_precision(precision);
    let upscale = UpscaleSpec::scaled(spec, Scale::whole(2));
    let mut upscaler = Upscaler::new(Arc::clone(model), upscale, &options).unwrap();
    let mut output = vec![0; 4 * SIZE.0 * SIZE.1];
    let planes = [(output.as_mut_slice(), 2 * SIZE.0)];
    let size = (2 * SIZE.0, 2 * SIZE.1);
    let mut large = FrameMut::new(PixelFormat::Gray8, size, Color::default(), planes).unwrap();
    let small = frame(&[(picture, SIZE.0)], PixelFormat::Gray8);
    upscaler.process(&small, &mut large).unwrap();
    output
}

fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

/// From one network to the other, step by step, in f32 and in integers.
#[test]
fn models_pass_from_clean_to_encoded() {
    let picture = picture();
    for (name, encoded) in [("espcn", "espcn-video"), ("espcn-hq", "espcn-video-hq")] {
        let clean = Model::builtin(name).unwrap();
        for precision in [Precision::F32, Precision::Int8] {
            let at = |damage: f64| {
                let damage = CodingDamage::new(damage).unwrap();
                let model = clean.for_damage(damage).unwrap();
                assert_eq!((model.name(), model.damage()), (name, damage));
                upscaled(&model, &picture, precision)
            };
            let ends = [name, encoded].map(|name| Model::builtin(name).unwrap());
            let ends = ends.map(|model| upscaled(&model, &picture, precision));
            assert_eq!([at(0.0), at(1.0)], ends);
            let far = mean_difference(&ends[0], &ends[1]);
            let from = [0.25, 0.5, 0.75].map(|damage| mean_difference(&at(damage), &ends[0]));
            let to = [0.25, 0.5, 0.75].map(|damage| mean_difference(&at(damage), &ends[1]));
            println!("{name} {precision}: {far:.3}, {from:.3?}, {to:.3?}");
            assert!(far > 0.5);
            assert!(from.is_sorted() && from[0] > 0.05 * far && from[2] < far);
            assert!(to.is_sorted_by(|a, b| a > b) && to[2] > 0.05 * far && to[0] < far);
        }
    }
}

#[test]
fn other_models_stay_as_they_are() {
    let half = CodingDamage::new(0.5).unwrap();
    for name in ["espcn-video", "espcn-fast", "hypersrcnn", "bicubic"] {
        let model = Model::builtin(name).unwrap();
        assert!(!model.adapts_to_damage(Scale::whole(2)));
        assert!(
            Arc::ptr_eq(&model.for_damage(half).unwrap(), &model),
            "{name}"
        );
    }
    // A file, though of the same network.
    let file = Model::open("models/espcn/x2.safetensors").unwrap();
    assert_eq!(file.name(), "espcn");
    assert!(!file.adapts_to_damage(Scale::whole(2)));
    assert!(Arc::ptr_eq(&file.for_damage(half).unwrap(), &file));
    // And back again.
    let espcn = Model::builtin("espcn").unwrap();
    let adapted = espcn.for_damage(half).unwrap();
    assert!(adapted.adapts_to_damage(Scale::whole(3)));
    let hq = Model::builtin("espcn-hq").unwrap();
    let scales = ["2", "3/2", "3", "4"].map(|scale| hq.adapts_to_damage(scale.parse().unwrap()));
    assert_eq!(scales, [true, true, false, false]);
    assert!(Arc::ptr_eq(&adapted, &espcn.for_damage(half).unwrap()));
    assert!(Arc::ptr_eq(
        &adapted.for_damage(CodingDamage::CLEAN).unwrap(),
        &espcn
    ));
}

/// All steps, at all scales: sums of the kernels in 8-bit integers have room.
#[test]
fn all_steps_run_in_integers() {
    for name in ["espcn", "espcn-hq"] {
        let clean = Model::builtin(name).unwrap();
        for step in 0..=CodingDamage::STEPS {
            let damage = f64::from(step) / f64::from(CodingDamage::STEPS);
            let model = clean
                .for_damage(CodingDamage::new(damage).unwrap())
                .unwrap();
            assert!(
                model
                    .int8_loss()
                    .is_some_and(|loss| loss < Precision::AUTO_LOSS)
            );
            for scale in [2, 3, 4] {
                assert!(model.quantized(Scale::whole(scale)).unwrap().is_some());
            }
        }
    }
}

/// Test images at half their size, which is clean, and as JPEG and back (skipped without the data).
#[test]
fn photographs_are_told_too() {
    let Some(folder) = testing::shared("test/Set14") else {
        return;
    };
    for name in ["lenna", "zebra", "comic", "flowers", "barbara"] {
        let image = Image::open(folder.join(name).with_extension("png")).unwrap();
        let size = (image.width, image.height);
        let small = (size.0 / 2, size.1 / 2);
        let luma: Vec<f32> = image.luma().iter().map(|&v| v as f32).collect();
        let luma = Resampler::resize(size, small).apply(&luma);
        let luma: Vec<u8> = luma.into_iter().map(to_u8).collect();
        let [clean, encoded] = [luma.clone(), jpeg(&luma, small, 40)].map(|luma| {
            let planes = [(luma.as_slice(), small.0)];
            let frame = FrameRef::new(PixelFormat::Gray8, small, Color::default(), &planes);
            let estimator = DamageEstimator::builtin().unwrap();
            estimator.estimate(&frame.unwrap()).unwrap()
        });
        println!("{name}: {clean:.3}, as JPEG {encoded:.3}");
        assert!(clean < 0.2 && encoded > 0.8, "{name}: {clean} {encoded}");
    }
}
