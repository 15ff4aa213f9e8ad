//! 8-bit integers on the CPU: when they are taken, and what comes out.
#![allow(clippy::unwrap_used, missing_docs)]

use srfilter::{
    DeviceChoice, FrameSpec, Image, Model, Precision, Scale, UpscaleOptions, UpscaleSpec, Upscaler,
};

fn picture() -> Image {
    let mut picture = Image::new(61, 47, 3);
    for (i, value) in picture.data.iter_mut().enumerate() {
        let (x, y) = (i / 3 % 61, i / 3 / 61);
        *value = ((x / 8 + y / 8) % 2 * 60 + x + y + i % 3 * 20) as u8;
    }
    picture
}

fn options(precision: Precision) -> UpscaleOptions {
    let options = UpscaleOptions::default().with_device(DeviceChoice::Cpu);
    options.with_precision(precision)
}

fn upscaler(model: &str, options: &UpscaleOptions) -> srfilter::Result<Upscaler> {
    let scale = if model == "srresnet" { 4 } else { 2 };
    let spec = UpscaleSpec::scaled(FrameSpec::rgb8(61, 47), Scale::whole(scale));
    Upscaler::new(Model::builtin(model)?, spec, options)
}

fn upscaled(model: &str, options: &UpscaleOptions) -> (Precision, Image) {
    let mut upscaler = upscaler(model, options).unwrap();
    let (width, height) = upscaler.spec().output;
    let mut output = Image::new(width, height, 3);
    upscaler.upscale(&picture(), &mut output).unwrap();
    (upscaler.precision(), output)
}

#[test]
fn integers_are_taken_where_the_weights_state_a_small_loss() {
    for (model, expected) in [
        ("espcn", Precision::Int8),
        ("espcn-fast", Precision::Int8),
        ("espcn-video", Precision::Int8),
        ("compact", Precision::Int8),
        ("srresnet", Precision::Int8),
        ("srcnn", Precision::F32),
        ("hypersrcnn", Precision::F32),
        ("bicubic", Precision::F32),
    ] {
        let loss = Model::builtin(model).unwrap().int8_loss();
        assert_eq!(
            loss.is_some(),
            expected == Precision::Int8,
            "{model}: {loss:?}"
        );
        assert!(loss.is_none_or(|loss| loss <= Precision::AUTO_LOSS));
        let found = |precision| upscaler(model, &options(precision)).unwrap().precision();
        assert_eq!(found(Precision::Auto), expected, "{model}");
        for precision in [Precision::F32, Precision::F16, Precision::Tf32] {
            assert_eq!(found(precision), Precision::F32, "{model}");
        }
    }
}

#[test]
fn models_without_integers_say_so() {
    let error = upscaler("srcnn", &options(Precision::Int8)).err().unwrap();
    let error = error.to_string();
    assert!(
        error.contains("srcnn (built-in) has no weights in 8-bit integers"),
        "{error}"
    );
    assert!(error.contains("sr quantize"), "{error}");
}

/// Integers are close to f32, and the same for any division of the work.
#[test]
fn integers_are_close_to_f32_and_the_same_in_any_tiles() {
    for model in ["espcn", "espcn-fast", "espcn-video", "compact", "srresnet"] {
        let (_, float) = upscaled(model, &options(Precision::F32));
        let (precision, whole) = upscaled(model, &options(Precision::Int8));
        assert_eq!(precision, Precision::Int8);
        let squares = float.data.iter().zip(&whole.data);
        let squares = squares.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
        let rms = (squares.sum::<f64>() / float.data.len() as f64).sqrt();
        assert!(rms > 0.0 && rms < 2.0, "{model}: {rms}");
        for (tile_size, threads) in [(24, 1), (24, 3), (0, 2)] {
            let options = options(Precision::Int8)
                .with_tile_size(tile_size)
                .with_threads(threads);
            assert!(
                upscaled(model, &options).1 == whole,
                "{model}, {tile_size} {threads}"
            );
        }
    }
}
