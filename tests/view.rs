//! Views of upscaled frames: exact at the ends, rounded once in between.
#![allow(clippy::unwrap_used, missing_docs)]

use srfilter::frame::{Component, Family};
use srfilter::{
    Compare, DeviceChoice, FrameMut, FrameRef, FrameSpec, Model, PixelFormat, UpscaleSpec,
    Upscaler, View,
};

/// Of the output; odd, so that chroma samples are shared by less than their pixels.
const SIZE: (usize, usize) = (74, 46);

/// Bytes of padding at the end of every row, and their value.
const PADDING: usize = 3;
const UNTOUCHED: u8 = 0xA5;

/// A luma network and one on RGB.
const NETWORKS: [&str; 2] = ["espcn", "srcnn-rgb"];

type Planes = Vec<(Vec<u8>, usize)>;

/// Planes of bytes from a function.
fn planes(format: PixelFormat, size: (usize, usize), mut byte: impl FnMut() -> u8) -> Planes {
    let plane = |plane| {
        let (row, rows) = format.plane_size(plane, size.0, size.1);
        let stride = row + PADDING;
        let data = (0..stride * rows).map(|i| match i % stride < row {
            true => byte(),
            false => UNTOUCHED,
        });
        (data.collect(), stride)
    };
    (0..format.planes()).map(plane).collect()
}

/// An upscaler of one format with an input.
struct Frames {
    input: Planes,
    spec: FrameSpec,
    upscaler: Upscaler,
}

impl Frames {
    fn new(model: &str, format: PixelFormat) -> Self {
        let mut noise = testing::noise(7);
        let spec = FrameSpec::new(format, SIZE.0 / 2, SIZE.1 / 2);
        let builder = Upscaler::builder(Model::builtin(model).unwrap());
        Self {
            input: planes(format, spec.size, || (noise() * 256.0) as u8),
            upscaler: builder.device(DeviceChoice::Cpu).build(spec).unwrap(),
            spec,
        }
    }

    fn run(&mut self, view: View) -> Planes {
        let mut output = planes(self.spec.format, SIZE, || 0x5A);
        let (format, color) = (self.spec.format, self.spec.color);
        let views: Vec<_> = self.input.iter().map(|(d, s)| (&d[..], *s)).collect();
        let input = FrameRef::new(format, self.spec.size, color, &views).unwrap();
        let views = output.iter_mut().map(|(d, s)| (&mut d[..], *s));
        let mut frame = FrameMut::new(format, SIZE, color, views).unwrap();
        self.upscaler.set_view(view);
        self.upscaler.process(&input, &mut frame).unwrap();
        for (plane, (data, stride)) in output.iter().enumerate() {
            let (row, _) = format.plane_size(plane, SIZE.0, SIZE.1);
            assert!(
                data.chunks(*stride)
                    .all(|r| r[row..] == [UNTOUCHED; PADDING])
            );
        }
        output
    }

    /// The rows of a component.
    fn rows(&self, planes: &Planes, component: &Component) -> Vec<Vec<f32>> {
        let views: Vec<_> = planes.iter().map(|(d, s)| (&d[..], *s)).collect();
        let frame = FrameRef::new(self.spec.format, SIZE, self.spec.color, &views).unwrap();
        let mut values = Vec::new();
        frame.read(component, &mut values);
        let (width, _) = component.size(SIZE.0, SIZE.1);
        values.chunks(width).map(<[f32]>::to_vec).collect()
    }

    /// A step of a component's samples.
    fn step(&self, component: &Component) -> f32 {
        let full = 255.0 / ((1_u32 << component.depth) - 1) as f32;
        full.max(256.0 / (1_u32 << component.depth) as f32)
    }

    fn is_chroma(&self, index: usize) -> bool {
        self.spec.format.family() == Family::Yuv && (1..3).contains(&index)
    }
}

fn view(strength: f32, compare: Compare) -> View {
    View::default()
        .with_strength(strength)
        .with_compare(compare)
}

/// Calls `check` with each format and network, the network's frame, and the bicubic one.
fn of_all(mut check: impl FnMut(&mut Frames, &Planes, &Planes)) {
    for &format in PixelFormat::ALL {
        let bicubic = Frames::new("bicubic", format).run(View::default());
        for model in NETWORKS {
            let mut frames = Frames::new(model, format);
            let network = frames.run(View::default());
            assert_ne!(network, bicubic, "{format:?} {model}");
            check(&mut frames, &network, &bicubic);
        }
    }
}

/// Columns of luma that share a sample.
fn unit(format: PixelFormat) -> usize {
    let shared = format.components().iter().map(|c| c.sub_x);
    shared.max().unwrap()
}

#[test]
fn the_ends_are_exact() {
    of_all(|frames, network, bicubic| {
        for (strength, compare, expected) in [
            (1.0, Compare::Split(0.0), network),
            (1.0, Compare::Split(1.0), bicubic),
            (0.5, Compare::Split(1.0), bicubic),
            (0.0, Compare::None, bicubic),
            (0.0, Compare::Split(0.0), bicubic),
            (1.0, Compare::None, network),
        ] {
            let output = frames.run(view(strength, compare));
            let format = frames.spec.format;
            assert!(output == *expected, "{format:?} {strength} {compare:?}");
        }
    });
}

#[test]
fn a_blend_is_rounded_once_and_without_bias() {
    let (mut sum, mut samples) = (0.0, 0);
    of_all(|frames, network, bicubic| {
        for strength in [0.25, 0.5, 0.8] {
            let output = frames.run(view(strength, Compare::None));
            for component in frames.spec.format.components() {
                let step = frames.step(component);
                let [n, b, o] = [network, bicubic, &output].map(|f| frames.rows(f, component));
                for ((&n, &b), &o) in n
                    .iter()
                    .flatten()
                    .zip(b.iter().flatten())
                    .zip(o.iter().flatten())
                {
                    let error = (o - (b + strength * (n - b))) / step;
                    // Half a step, and as much for the share of the rounded bicubic sample.
                    let most = 1.01 - 0.5 * strength;
                    let format = frames.spec.format;
                    assert!(error.abs() <= most, "{format:?} {strength}: {n} {b} {o}");
                    sum += f64::from(error);
                    samples += 1;
                }
            }
        }
    });
    let bias = sum / f64::from(samples);
    assert!(bias.abs() < 0.01, "{bias} of {samples} samples");
}

#[test]
fn a_split_has_bicubic_left_and_the_network_right() {
    of_all(|frames, network, bicubic| {
        for (position, strength) in [(0.5, 1.0), (0.2, 1.0), (0.9, 0.5)] {
            let right = frames.run(view(strength, Compare::None));
            assert_eq!(right == *network, strength == 1.0);
            let output = frames.run(view(strength, Compare::Split(position)));
            let format = frames.spec.format;
            let unit = unit(format);
            let column = (position * SIZE.0 as f32 / unit as f32).round() as usize * unit;
            for component in format.components() {
                let [r, b, o] = [&right, bicubic, &output].map(|f| frames.rows(f, component));
                let first = column / component.sub_x;
                let end = (column + unit.max(2)).div_ceil(component.sub_x);
                for ((r, b), o) in r.iter().zip(&b).zip(&o) {
                    assert_eq!(o[..first], b[..first], "{format:?} {position}");
                    assert_eq!(o[end..], r[end..], "{format:?} {position}");
                    assert!(o[first] <= o[end - 1], "{format:?}: dark, then bright");
                }
            }
        }
    });
}

#[test]
fn halves_show_the_same_part() {
    of_all(|frames, network, bicubic| {
        let output = frames.run(view(1.0, Compare::SideBySide));
        let format = frames.spec.format;
        let unit = unit(format);
        let left = SIZE.0 / 2 / unit * unit;
        let first = (SIZE.0 - left) / 2 / unit * unit;
        for component in format.components() {
            let [n, b, o] = [network, bicubic, &output].map(|f| frames.rows(f, component));
            let [left, first] = [left, first].map(|column| column / component.sub_x);
            let line = unit.max(2).div_ceil(component.sub_x);
            for ((n, b), o) in n.iter().zip(&b).zip(&o) {
                assert_eq!(o[..left], b[first..][..left], "{format:?}");
                let shown = &o[left + line..];
                assert_eq!(*shown, n[first + line..][..shown.len()], "{format:?}");
            }
        }
    });
}

#[test]
fn differences_are_amplified_around_grey() {
    of_all(|frames, network, bicubic| {
        let format = frames.spec.format;
        for strength in [1.0, 0.5, 0.0] {
            let output = frames.run(view(strength, Compare::Difference));
            for (index, component) in format.components().iter().enumerate() {
                let [n, b, o] = [network, bicubic, &output].map(|f| frames.rows(f, component));
                let step = frames.step(component);
                // White, or the largest sample of luma in limited range.
                let most = match format.family() {
                    Family::Yuv => ((1_u32 << component.depth) - 1) as f32 * step,
                    _ => 255.0,
                };
                for ((&n, &b), &o) in n
                    .iter()
                    .flatten()
                    .zip(b.iter().flatten())
                    .zip(o.iter().flatten())
                {
                    let expected = match index {
                        3 => b,
                        _ if frames.is_chroma(index) => 128.0,
                        _ => (128.0 + Compare::GAIN * strength * (n - b)).clamp(0.0, most),
                    };
                    assert!(
                        (o - expected).abs() <= 0.51 * step,
                        "{format:?} {index}: {n} {b} {o}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_view_of_bicubic_differs_nowhere() {
    for &format in PixelFormat::ALL {
        let mut frames = Frames::new("bicubic", format);
        let plain = frames.run(View::default());
        for (strength, compare) in [(0.5, Compare::None), (0.0, Compare::Split(1.0))] {
            assert!(frames.run(view(strength, compare)) == plain, "{format:?}");
        }
        let output = frames.run(view(1.0, Compare::Difference));
        for component in format.components().iter().take(3) {
            let rows = frames.rows(&output, component);
            assert!(
                rows.iter().flatten().all(|v| *v == rows[0][0]),
                "{format:?}"
            );
        }
    }
}

#[test]
fn a_fixed_size_and_a_fractional_scale_are_compared_with_their_bicubic_pictures() {
    let spec = FrameSpec::new(PixelFormat::I420, 32, 18);
    for output in [(48, 27), (75, 41), (32, 18)] {
        let run = |model: &str, strength| {
            let scale = srfilter::Scale::new(3, 2).unwrap();
            let upscale = UpscaleSpec::scaled(spec, scale).with_output(output.0, output.1);
            let model = Model::builtin(model).unwrap();
            let mut upscaler = Upscaler::new(model, upscale, &Default::default()).unwrap();
            upscaler.set_view(view(strength, Compare::None));
            let mut noise = testing::noise(3);
            let from = planes(spec.format, spec.size, || (noise() * 256.0) as u8);
            let mut to = planes(spec.format, output, || 0);
            let views: Vec<_> = from.iter().map(|(d, s)| (&d[..], *s)).collect();
            let input = FrameRef::new(spec.format, spec.size, spec.color, &views).unwrap();
            let views = to.iter_mut().map(|(d, s)| (&mut d[..], *s));
            let mut frame = FrameMut::new(spec.format, output, spec.color, views).unwrap();
            upscaler.process(&input, &mut frame).unwrap();
            to
        };
        assert_eq!(run("hypersrcnn", 0.0), run("bicubic", 1.0), "{output:?}");
        assert_ne!(run("hypersrcnn", 0.5), run("bicubic", 1.0), "{output:?}");
    }
}
