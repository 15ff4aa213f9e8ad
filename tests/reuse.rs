//! Reused output equals computed output, bit for bit.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use proptest::prelude::*;
use srfilter::engine::{FrameSpec, Reuse, Reused, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::{FrameMut, FrameRef, PixelFormat};
use srfilter::models::{self, Channels};
use srfilter::ops::Border;
use srfilter::weights::{LoadOverrides, Model};
use srfilter::{DeviceChoice, Error};
use std::sync::Arc;

/// Bytes behind every row.
const PADDING: usize = 5;

/// Planes with their strides.
struct Planes(Vec<(Vec<u8>, usize)>);

impl Planes {
    /// Planes of a frame, filled by `next`.
    fn new(
        format: PixelFormat,
        (width, height): (usize, usize),
        mut next: impl FnMut() -> u8,
    ) -> Self {
        let plane = |plane| {
            let (row, rows) = format.plane_size(plane, width, height);
            let stride = row + PADDING;
            ((0..stride * rows).map(|_| next()).collect(), stride)
        };
        Self((0..format.planes()).map(plane).collect())
    }

    fn frame(&self, spec: &FrameSpec) -> FrameRef<'_> {
        let planes: Vec<_> = self.0.iter().map(|(p, s)| (p.as_slice(), *s)).collect();
        FrameRef::new(spec.format, spec.size, spec.color, &planes).unwrap()
    }

    fn frame_mut(&mut self, spec: &FrameSpec, size: (usize, usize)) -> FrameMut<'_> {
        let planes = self.0.iter_mut().map(|(p, s)| (p.as_mut_slice(), *s));
        FrameMut::new(spec.format, size, spec.color, planes).unwrap()
    }

    /// Changes a rectangle: its place and size in thousandths of the frame.
    fn change(&mut self, format: PixelFormat, size: (usize, usize), part: [usize; 4], by: u8) {
        for (plane, (data, stride)) in self.0.iter_mut().enumerate() {
            let (row, rows) = format.plane_size(plane, size.0, size.1);
            let [x, y, width, height] = part;
            let (x, y) = (x * row / 1000, y * rows / 1000);
            let end = (x + 1 + width * row / 1000).min(row);
            for y in y..(y + 1 + height * rows / 1000).min(rows) {
                let bytes = &mut data[y * *stride + x..y * *stride + end];
                bytes
                    .iter_mut()
                    .for_each(|byte| *byte = byte.wrapping_add(by));
            }
        }
    }

    /// Changes what lies behind the rows.
    fn change_padding(&mut self, format: PixelFormat, size: (usize, usize)) {
        for (plane, (data, stride)) in self.0.iter_mut().enumerate() {
            let row = format.plane_size(plane, size.0, size.1).0;
            let rows = data.chunks_mut(*stride);
            rows.for_each(|line| line[row..].iter_mut().for_each(|b| *b = b.wrapping_add(1)));
        }
    }
}

/// Two upscalers of equal frames: one that reuses, and one that does not.
struct Pair {
    spec: UpscaleSpec,
    plain: Upscaler,
    reusing: Upscaler,
}

impl Pair {
    fn new(model: &Arc<Model>, spec: UpscaleSpec, options: UpscaleOptions, reuse: Reuse) -> Self {
        let options = options.with_device(DeviceChoice::Cpu);
        let open = || Upscaler::new(Arc::clone(model), spec, &options).unwrap();
        let mut reusing = open();
        reusing.set_reuse(reuse);
        Self {
            spec,
            plain: open(),
            reusing,
        }
    }

    /// Upscales a frame by both; what was reused. The output is equal to the bit,
    /// and nothing is written behind rows.
    fn step(&mut self, planes: &Planes, what: &str) -> Reused {
        let UpscaleSpec { input, output, .. } = self.spec;
        let run = |upscaler: &mut Upscaler| {
            let mut upscaled = Planes::new(input.format, output, || 0xA5);
            let mut frame = upscaled.frame_mut(&input, output);
            upscaler.process(&planes.frame(&input), &mut frame).unwrap();
            upscaled
        };
        let (plain, reusing) = (run(&mut self.plain), run(&mut self.reusing));
        let format = input.format.name();
        for (plane, (a, b)) in plain.0.iter().zip(&reusing.0).enumerate() {
            let differs = a.0.iter().zip(&b.0).position(|(a, b)| a != b);
            if let Some(at) = differs {
                let (x, y) = (at % a.1, at / a.1);
                panic!("{what}, {format}: byte {x} of row {y} of plane {plane} differs");
            }
        }
        assert_eq!(self.plain.reused(), Reused::default());
        self.reusing.reused()
    }
}

fn spec(format: PixelFormat, size: (usize, usize), scale: &str) -> UpscaleSpec {
    let input = FrameSpec::new(format, size.0, size.1);
    UpscaleSpec::scaled(input, scale.parse().unwrap())
}

fn bytes(seed: u64) -> impl FnMut() -> u8 {
    let mut next = common::noise(seed);
    move || (next() * 256.0) as u8
}

/// Sequences of a moving rectangle, still frames, small changes and a cut.
fn sequence(model: &Arc<Model>, spec: UpscaleSpec, options: UpscaleOptions) -> Vec<Reused> {
    let FrameSpec { format, size, .. } = spec.input;
    let what = format!("{} x{} {options:?}", model.name(), spec.scale);
    let mut pair = Pair::new(model, spec, options, Reuse::On);
    let mut planes = Planes::new(format, size, bytes(1));
    let mut reused = vec![pair.step(&planes, &what)];
    let parts = [
        [0, 0, 0, 0],
        [999, 999, 0, 0],
        [0, 999, 0, 0],
        [480, 500, 40, 30],
        [500, 500, 40, 30],
        [520, 510, 40, 30],
        [90, 700, 0, 0],
        [150, 120, 3, 200],
    ];
    for part in parts {
        planes.change(format, size, part, 97);
        reused.push(pair.step(&planes, &what));
        planes.change_padding(format, size);
        let still = pair.step(&planes, &what);
        assert!(still.whole_frame && still.share == 1.0, "{what}: {still:?}");
    }
    let cut = Planes::new(format, size, bytes(2));
    assert_eq!(pair.step(&cut, &what).share, 0.0);
    assert!(pair.step(&cut, &what).whole_frame);
    pair.reusing.forget();
    assert_eq!(pair.step(&cut, &what).share, 0.0);
    reused
}

const SIZE: (usize, usize) = (150, 86);

#[test]
fn every_model_gives_the_same_bytes() {
    for (name, scale, is_tiled) in [
        ("espcn", "2", true),
        ("espcn", "3", true),
        ("espcn", "5/2", true),
        ("espcn-fast", "2", true),
        ("hypersrcnn", "2", true),
        ("hypersrcnn", "3/2", true),
        ("srcnn", "2", true),
        ("srcnn", "4", true),
        ("srcnn-rgb", "2", true),
        ("bicubic", "2", true),
        ("bicubic", "7/3", true),
    ] {
        let model = Model::builtin(name).unwrap();
        for format in [PixelFormat::I420, PixelFormat::Bgra] {
            let reused = sequence(&model, spec(format, SIZE, scale), UpscaleOptions::default());
            let parts = reused.iter().filter(|r| r.share > 0.3 && r.share < 1.0);
            assert_eq!(parts.count() > 4, is_tiled, "{name} x{scale}: {reused:?}");
        }
    }
}

/// Networks that are several segments, and of other projects' kinds, with noise for
/// weights.
#[test]
fn whole_frame_networks_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let size = (40, 28);
    for name in ["fsrcnn", "compact", "srresnet"] {
        let row = models::MODELS.iter().find(|row| row.name == name).unwrap();
        let architecture = (row.architecture)().unwrap();
        let two = models::Scales::list([srfilter::Scale::whole(2)]);
        let scales = architecture.scales().unwrap_or(two);
        let path = dir.path().join(format!("{name}.safetensors"));
        common::save(&path, architecture, scales, 5);
        let model = Model::open_with(&path, Some(name), &LoadOverrides::default()).unwrap();
        for format in [PixelFormat::Nv12, PixelFormat::Rgb] {
            sequence(&model, spec(format, size, "2"), UpscaleOptions::default());
        }
    }
}

#[test]
fn every_format_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let files = [Channels::Luma, Channels::Rgb].map(|channels| {
        let dir = dir.path().join(channels.to_string());
        std::fs::create_dir(&dir).unwrap();
        common::small_file(&dir, channels, Border::Replicate)
    });
    let open = |file| Model::open_with(file, None, &LoadOverrides::default()).unwrap();
    let [luma, rgb] = files.each_ref().map(open);
    let bicubic = Model::builtin("bicubic").unwrap();
    for &format in PixelFormat::ALL {
        for (model, scale) in [(&luma, "2"), (&rgb, "3/2"), (&bicubic, "2")] {
            // An odd size, and another one than the scale leads to.
            let mut spec = spec(format, (61, 39), scale);
            sequence(model, spec, UpscaleOptions::default());
            spec.output = (101, 75);
            sequence(model, spec, UpscaleOptions::default());
        }
    }
}

#[test]
fn any_tiles_and_threads_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut models = vec![Model::builtin("espcn").unwrap()];
    for border in [Border::Zero, Border::Replicate, Border::Valid] {
        let file = common::small_file(dir.path(), Channels::Luma, border);
        models.push(Model::open_with(&file, None, &LoadOverrides::default()).unwrap());
    }
    for model in &models {
        for (tile, threads) in [(5, 1), (13, 2), (27, 3), (64, 2), (1000, 1), (0, 4)] {
            let options = UpscaleOptions::default()
                .with_tile_size(tile)
                .with_threads(threads);
            for format in [PixelFormat::Nv12, PixelFormat::Rgb] {
                sequence(model, spec(format, SIZE, "2"), options);
            }
        }
    }
}

/// Samples next to each other, over more than one cell.
#[test]
fn single_samples_give_the_same_bytes() {
    for name in ["espcn", "hypersrcnn"] {
        let model = Model::builtin(name).unwrap();
        let spec = spec(PixelFormat::Gray16, (64, 50), "2");
        let mut pair = Pair::new(&model, spec, UpscaleOptions::default(), Reuse::On);
        let mut planes = Planes::new(PixelFormat::Gray16, (64, 50), bytes(1));
        pair.step(&planes, name);
        for (x, y) in (0..64).map(|x| (x, 23)).chain((0..50).map(|y| (31, y))) {
            let (data, stride) = &mut planes.0[0];
            data[y * *stride + 2 * x + 1] ^= 0x80;
            pair.step(&planes, name);
        }
    }
}

/// As [`Reuse::Auto`] decides, the bytes are the same, and stillness pays.
#[test]
fn auto_gives_the_same_bytes() {
    let model = Model::builtin("espcn").unwrap();
    let spec = spec(PixelFormat::I420, (64, 48), "2");
    let mut pair = Pair::new(&model, spec, UpscaleOptions::default(), Reuse::Auto);
    let mut next = bytes(3);
    let mut noise = || Planes::new(PixelFormat::I420, (64, 48), &mut next);
    for _ in 0..40 {
        assert_eq!(pair.step(&noise(), "noise"), Reused::default());
    }
    let still = noise();
    let reused: Vec<_> = (0..40).map(|_| pair.step(&still, "still")).collect();
    assert!(reused[39].active && reused[39].whole_frame);
    let first = reused.iter().position(|reused| reused.whole_frame).unwrap();
    assert!(first < 20 && reused[first..].iter().all(|r| r.whole_frame));
    let reused: Vec<_> = (0..9).map(|_| pair.step(&noise(), "noise")).collect();
    assert!(!reused[8].active, "{reused:?}");
    pair.reusing.set_reuse(Reuse::Off);
    assert_eq!(pair.step(&still, "off"), Reused::default());
}

/// A frame that was not completed is no frame to take from.
#[test]
fn an_interrupted_frame_is_not_reused() {
    let model = Model::builtin("espcn").unwrap();
    let spec = spec(PixelFormat::I420, (64, 48), "2");
    let mut pair = Pair::new(&model, spec, UpscaleOptions::default(), Reuse::On);
    let interrupt = srfilter::engine::Interrupt::default();
    pair.reusing.set_interrupt(&interrupt);
    let mut planes = Planes::new(PixelFormat::I420, (64, 48), bytes(1));
    for _ in 0..3 {
        pair.step(&planes, "before");
        planes.change(PixelFormat::I420, (64, 48), [300, 300, 200, 200], 97);
        interrupt.request();
        let mut output = Planes::new(PixelFormat::I420, spec.output, || 0);
        let mut frame = output.frame_mut(&spec.input, spec.output);
        let result = pair.reusing.process(&planes.frame(&spec.input), &mut frame);
        assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
        interrupt.withdraw();
        // The same frame again, now complete.
        assert_eq!(pair.step(&planes, "after").share, 0.0);
        assert!(pair.step(&planes, "again").whole_frame);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any changes of any frames.
    #[test]
    fn any_changes_give_the_same_bytes(
        format in prop::sample::select(PixelFormat::ALL),
        (name, scale) in prop::sample::select(vec![
            ("espcn", "2"), ("espcn", "3"), ("srcnn", "2"), ("hypersrcnn", "3/2"),
            ("srcnn-rgb", "2"), ("bicubic", "2"), ("bicubic", "7/3"), ("espcn", "4"),
        ]),
        size in (1..120usize, 1..80usize),
        tile in prop::sample::select(vec![0usize, 0, 7, 24, 40]),
        threads in 1..4usize,
        frames in prop::collection::vec(
            prop::collection::vec((prop::array::uniform4(0..1000usize), any::<bool>()), 0..4), 1..6),
    ) {
        let options = UpscaleOptions::default().with_tile_size(tile).with_threads(threads);
        let spec = spec(format, size, scale);
        let mut pair = Pair::new(&Model::builtin(name).unwrap(), spec, options, Reuse::On);
        let mut planes = Planes::new(format, size, bytes(size.0 as u64));
        pair.step(&planes, name);
        for parts in frames {
            for ([x, y, width, height], small) in parts {
                let shrink = if small { 20 } else { 3 };
                planes.change(format, size, [x, y, width / shrink, height / shrink], 61);
            }
            pair.step(&planes, name);
        }
    }
}
