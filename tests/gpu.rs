//! The engine on a GPU, against the CPU. Where there is no GPU its kernels run
//! on the CPU: `tests/cuda` makes a libcuda of them. Each test runs in a
//! process of its own, since the libraries are looked for once.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "cuda")]

use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::chain::quantized::{Calibration, Quantization};
use srfilter::chain::{Chain, ChainExecutor, ChainLayer, ChainOptions, Epilogue, PackedChain};
use srfilter::engine::{
    CudaChainExecutor, DeviceChoice, FrameSpec, Precision, UpscaleOptions, UpscaleSpec, Upscaler,
};
use srfilter::frame::{FrameMut, FrameRef, PixelFormat};
use srfilter::models::{Architecture, Scales, Upsampling, drct, hdsrnet, srcnn};
use srfilter::nn::Conv;
use srfilter::ops::{Border, ConvSpec};
use srfilter::weights::{LoadOverrides, Model};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

mod common;

use testing::emulated;
use testing::emulated::CHILD;

testing::emulated! {
    every_model_in_every_precision [] => models_child;
    integers [] => integers_child;
    what_is_no_chain [] => others_child;
    what_is_no_chain_without_cudnn [emulated::NO_CUDNN] => others_child;
    convolutions_of_tensors_without_cudnn [emulated::NO_CUDNN] => convolutions_child;
    every_kind_of_format [] => formats_child;
    frames_overlap [emulated::LAZY] => overlap_child;
    frames_overlap_as_far_as_the_memory_goes
        [("SRFILTER_EMULATED_MEMORY", "1200000")] => overlap_child;
    frames_that_overlapped_outlive_the_gpu
        [emulated::LAZY, ("SRFILTER_EMULATED_LOST", "60")] => overlap_child;
    any_size_scale_and_border [] => sizes_child;
    kernels_of_several_sizes [] => sizes_of_kernels_child;
    several_streams_of_video_on_any_thread [emulated::LAZY] => threads_child;
    planes_without_a_frame [emulated::LAZY] => planes_child;
    what_measures_runs [("SRFILTER_SPEED_SMALL", "1")] => speed_child;
    bands_of_any_height [] => bands_child;
    /// Less memory than one band of all rows takes.
    little_memory [("SRFILTER_EMULATED_MEMORY", "1500000")] => memory_child;
    a_gpu_without_memory_is_given_up [("SRFILTER_EMULATED_MEMORY", "100000")] => lost_child;
    what_is_not_a_chain_must_fit [("SRFILTER_EMULATED_MEMORY", "300000000")] => whole_child;
    /// Less than the whole picture takes at once, and less than anything does.
    tiles_become_smaller_where_memory_ends [("SRFILTER_TEST_LEFT", "2000000")] => smaller_child;
    what_is_no_chain_is_given_up_too [("SRFILTER_TEST_LEFT", "300000")] => smaller_child;
    what_is_no_chain_outlives_the_gpu [("SRFILTER_EMULATED_LOST", "20")] => smaller_child;
    a_gpu_that_is_lost_is_given_up [("SRFILTER_EMULATED_LOST", "30")] => lost_child;
}

/// What cuDNN was asked for tells that it was used.
#[test]
fn convolutions_of_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let setting = ("SRFILTER_EMULATED_CUDNN_LOG", log.to_str().unwrap());
    emulated::run("convolutions_child", &[setting]);
    let asked = std::fs::read_to_string(log).unwrap_or_default();
    let asked: std::collections::BTreeSet<_> = asked.lines().collect();
    let expected: &[&str] = match cfg!(feature = "cudnn") {
        true => &["16", "f32", "images", "tf32", "weights"],
        false => &[],
    };
    assert!(asked.iter().eq(expected), "{asked:?}");
}

/// Tiles that overlap go to the GPU at once, as many as its memory takes: each
/// batch of them comes back by one copy.
#[test]
fn overlapping_tiles_are_seen_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let copies = |left: &str| -> u32 {
        let path = dir.path().join("calls");
        let settings = [
            ("SRFILTER_EMULATED_CALLS", path.to_str().unwrap()),
            ("SRFILTER_TEST_LEFT", left),
        ];
        emulated::run("averaged_child", &settings);
        let calls = std::fs::read_to_string(&path).unwrap();
        let copies = calls
            .lines()
            .find_map(|l| l.strip_prefix("cuMemcpyDtoHAsync_v2 "));
        copies.unwrap().parse().unwrap()
    };
    assert_eq!(copies(""), 1);
    let fewer = copies("1600000");
    println!("{fewer} batches");
    assert!((2..15).contains(&fewer));
}

/// Bytes of a frame without padding.
struct Frame {
    shape: FrameSpec,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Frame {
    fn new(shape: FrameSpec) -> Self {
        let (width, height) = shape.size;
        let planes = (0..shape.format.planes()).map(|plane| {
            let (row, rows) = shape.format.plane_size(plane, width, height);
            // Rows that are longer than what they carry.
            (vec![7; (row + 5) * rows], row + 5)
        });
        Self {
            planes: planes.collect(),
            shape,
        }
    }

    /// Soft shapes with edges and noise.
    fn drawn(shape: FrameSpec) -> Self {
        let mut frame = Self::new(shape);
        for (p, (bytes, stride)) in frame.planes.iter_mut().enumerate() {
            for (i, byte) in bytes.iter_mut().enumerate() {
                let (x, y) = ((i % *stride) as f32, (i / *stride) as f32);
                let wave = libm::sinf(x * 0.31 + p as f32) * 50.0 + libm::cosf(y * 0.23) * 40.0;
                let edge = if x + 1.3 * y > 40.0 { 50.0 } else { 0.0 };
                let noise = ((i * 7919 + p) % 23) as f32;
                *byte = (90.0 + wave + edge + noise).clamp(0.0, 255.0) as u8;
            }
        }
        frame
    }

    fn views(&self) -> Vec<(&[u8], usize)> {
        let planes = self.planes.iter();
        planes.map(|(b, s)| (b.as_slice(), *s)).collect()
    }

    fn input<'a>(&self, planes: &'a [(&'a [u8], usize)]) -> FrameRef<'a> {
        let FrameSpec {
            format,
            size,
            color,
            ..
        } = self.shape;
        FrameRef::new(format, size, color, planes).unwrap()
    }

    /// What is made of it.
    fn made(
        &self,
        upscaler: &mut Upscaler,
        make: fn(&mut Upscaler, &FrameRef<'_>, &mut FrameMut<'_>) -> srfilter::Result<()>,
    ) -> Self {
        let (width, height) = upscaler.spec().output;
        let mut made = Self::new(self.shape.with_size(width, height));
        let planes = self.views();
        let input = self.input(&planes);
        let FrameSpec { format, color, .. } = self.shape;
        let planes = made.planes.iter_mut().map(|(b, s)| (b.as_mut_slice(), *s));
        let mut output = FrameMut::new(format, made.shape.size, color, planes).unwrap();
        make(upscaler, &input, &mut output).unwrap();
        made
    }

    fn upscaled(&self, upscaler: &mut Upscaler) -> Self {
        self.made(upscaler, Upscaler::process)
    }

    fn finished(&self, upscaler: &mut Upscaler) -> Self {
        self.made(upscaler, Upscaler::receive)
    }

    fn apart(&self, other: &Self) -> Apart {
        let (mut count, mut apart) = (0.0, Apart::default());
        for ((a, _), (b, _)) in self.planes.iter().zip(&other.planes) {
            for (a, b) in a.iter().zip(b) {
                let steps = a.abs_diff(*b);
                count += 1.0;
                apart.differ += f64::from(u8::from(steps > 0));
                apart.beyond += f64::from(u8::from(steps > 1));
                apart.most = apart.most.max(steps);
            }
        }
        apart.differ /= count;
        apart.beyond /= count;
        let planes = [self.views(), other.views()];
        let frames = [self.input(&planes[0]), other.input(&planes[1])];
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for component in self.shape.format.components() {
            frames[0].read(component, &mut a);
            frames[1].read(component, &mut b);
            let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
            apart.value = differences.fold(apart.value, f32::max);
        }
        apart
    }
}

/// How far frames are apart.
#[derive(Debug, Clone, Copy, Default)]
struct Apart {
    /// The share of bytes that differ at all.
    differ: f64,
    /// The share that differ by more than one step.
    beyond: f64,
    /// Steps at most.
    most: u8,
    /// The largest difference in units of 8 bit.
    value: f32,
}

impl Apart {
    /// Whether the numbers of a precision may do this: f32 rounds sums that
    /// fall between two steps differently, f16 stays within one step on 99.9 %
    /// of the samples. bf16 has but 8 bits for what passes the hidden layers
    /// of networks that add nothing to the picture: 99.8 %.
    fn is_close(&self, precision: Precision) -> bool {
        match precision {
            Precision::F32 => self.differ <= 0.005 && self.most <= 1,
            Precision::Bf16 => self.beyond <= 0.002,
            _ => self.beyond <= 0.001,
        }
    }
}

fn shape(format: PixelFormat, size: (usize, usize)) -> FrameSpec {
    FrameSpec::new(format, size.0, size.1)
}

fn on_gpu(precision: Precision) -> UpscaleOptions {
    in_precision(DeviceChoice::Cuda(0), precision)
}

fn on_cpu() -> UpscaleOptions {
    in_precision(DeviceChoice::Cpu, Precision::F32)
}

fn in_precision(device: DeviceChoice, precision: Precision) -> UpscaleOptions {
    UpscaleOptions::default()
        .with_device(device)
        .with_precision(precision)
}

/// Runs a job on the GPU three times, launched and as a graph, and on the CPU: there in
/// integers, too, where the GPU does, else in f32.
fn both(model: &Arc<Model>, job: UpscaleSpec, options: &UpscaleOptions) -> Apart {
    let frame = Frame::drawn(job.input);
    let precision = match options.precision {
        Precision::Int8 => Precision::Int8,
        _ => Precision::F32,
    };
    let on_cpu = in_precision(DeviceChoice::Cpu, precision);
    let cpu = frame.upscaled(&mut Upscaler::new(Arc::clone(model), job, &on_cpu).unwrap());
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options).unwrap();
    assert!(upscaler.device().name().starts_with("cuda:0"));
    assert_eq!(upscaler.precision(), options.precision);
    let [gpu, again, graph] = [0; 3].map(|_| frame.upscaled(&mut upscaler));
    assert_eq!((gpu.apart(&again).most, gpu.apart(&graph).most), (0, 0));
    gpu.apart(&cpu)
}

/// Built-in weights, or drawn ones.
fn model(name: &str, scale: u32) -> Arc<Model> {
    Model::builtin(name)
        .unwrap_or_else(|_| Model::with_random_weights(name, Scale::whole(scale)).unwrap())
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn models_child() {
    assert!(std::env::var_os(CHILD).is_some());
    for (name, scale, size) in [
        ("bicubic", 2, (41, 29)),
        ("srcnn", 2, (41, 29)),
        ("hypersrcnn", 2, (41, 29)),
        ("espcn", 3, (41, 29)),
        ("espcn-fast", 2, (41, 29)),
        ("srcnn-rgb", 2, (21, 15)),
        ("compact", 2, (23, 17)),
        ("srresnet", 4, (18, 14)),
    ] {
        let job = UpscaleSpec::scaled(shape(PixelFormat::I420, size), Scale::whole(scale));
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let apart = both(&model(name, scale), job, &on_gpu(precision));
            println!("{name} {precision}: {apart:?}");
            // 37 layers make the whole picture of 8 bits each.
            let coarse = (name, precision) == ("srresnet", Precision::Bf16) && apart.beyond < 0.02;
            assert!(apart.is_close(precision) || coarse, "{name} {precision}");
        }
    }
}

/// 8-bit integers: the bits are the CPU's.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn integers_child() {
    let options = on_gpu(Precision::Int8);
    for (name, scale, format, size) in [
        ("espcn", 3, PixelFormat::I420, (41, 29)),
        ("espcn-fast", 2, PixelFormat::I420x10, (33, 70)),
        ("espcn-video", 2, PixelFormat::Rgb, (9, 5)),
        ("compact", 2, PixelFormat::I420, (23, 17)),
        ("srresnet", 4, PixelFormat::Rgb, (18, 14)),
    ] {
        let job = UpscaleSpec::scaled(shape(format, size), Scale::whole(scale));
        for rows in [0, 7] {
            let apart = both(&model(name, scale), job, &options.with_tile_size(rows));
            println!("{name} {rows}: {apart:?}");
            // Of tanh, which ends SRResNet, a GPU has its own.
            let most = u8::from(name == "srresnet");
            assert!(apart.most <= most && apart.differ < 0.001, "{name}");
        }
    }
    let job = UpscaleSpec::scaled(shape(PixelFormat::Gray8, (8, 8)), Scale::whole(2));
    let error = Upscaler::new(model("srcnn", 2), job, &options);
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("has no weights in 8-bit integers"),
        "{error}"
    );
    let auto = in_precision(DeviceChoice::Auto, Precision::Int8);
    let upscaler = Upscaler::new(model("espcn", 2), job, &auto).unwrap();
    assert!(upscaler.device().name().starts_with("cuda:0"));
    assert_eq!(upscaler.precision(), Precision::Int8);
    for border in [Border::Zero, Border::Replicate] {
        planes_in_integers(border);
    }
}

/// A chain of all that there is in integers: wide and narrow kernels, one slope and
/// several, linear layers, a shuffle inside, what is added, channels that fill no word.
fn planes_in_integers(border: Border) {
    let mut seed = 1u32;
    let mut random = move |shape: &[usize], size: f32| {
        let values = (0..shape.iter().product()).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / (1u32 << 24) as f32 - 0.5) * size
        });
        Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    };
    let mut layer = |outputs: usize, inputs: usize, kernel: usize, slopes: usize| {
        let size = 2.0 / (inputs as f32).sqrt() / kernel as f32;
        let conv = Conv {
            weight: random(&[outputs, inputs, kernel, kernel], size),
            bias: Some(random(&[outputs], 0.2)),
            spec: ConvSpec {
                border,
                ..ConvSpec::default()
            },
        };
        ChainLayer {
            slope: (slopes > 0).then(|| random(&[slopes], 0.8)),
            ..ChainLayer::from(conv)
        }
    };
    let mut layers = vec![
        layer(18, 3, 9, 18),
        layer(18, 18, 3, 1),
        layer(18, 18, 3, 0),
        layer(24, 18, 1, 0),
        layer(22, 6, 5, 22),
        layer(12, 22, 3, 0),
    ];
    layers[2].skip = Some(1);
    layers[3].shuffle = 2;
    layers[5].shuffle = 2;
    let chain = Chain {
        layers,
        input_mean: 0.4,
        epilogue: Epilogue {
            residual_nearest: true,
            ..Epilogue::default()
        },
        ..Chain::default()
    };
    let (width, height) = (37, 41);
    let x = random(&[1, 3, height, width], 1.0)
        .affine(1.0, 0.5)
        .unwrap();
    let mut calibration = Calibration::default();
    calibration.observe(&chain, &x).unwrap();
    let ranges = calibration.ranges();
    let quantization = Quantization::of_chains([&chain], &ranges).unwrap();
    let packed = PackedChain::quantized(&chain, &quantization).unwrap();
    let packed = Arc::new(packed.unwrap());
    let samples = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    // Steps of 8 bits: a GPU's samples are 0 to 255.
    let samples: Vec<_> = samples
        .iter()
        .map(|v| (v * 255.0).round() / 255.0)
        .collect();
    let input: Vec<&[f32]> = samples.chunks_exact(width * height).collect();
    let options = ChainOptions::default();
    let mut cpu = ChainExecutor::of(Arc::clone(&packed), (width, height), &options).unwrap();
    let mut expected = vec![vec![0f32; 16 * width * height]; 3];
    let mut planes: Vec<_> = expected.iter_mut().map(Vec::as_mut_slice).collect();
    cpu.run(&input, &mut planes).unwrap();
    let device = DeviceChoice::Cuda(0).resolve().unwrap();
    for rows in [0, 5, 16] {
        let device = device.candle_device();
        let gpu = CudaChainExecutor::quantized(&packed, (width, height), device, rows);
        let found = gpu.unwrap().unwrap().run(&input).unwrap();
        let pairs = expected.iter().flatten().zip(found.iter().flatten());
        // Values of 0 to 255 become those of 0 to 1.
        let most = pairs
            .map(|(a, b)| (a.clamp(0.0, 1.0) - b).abs())
            .fold(0.0, f32::max);
        println!("{border:?}, {rows} rows: {most}");
        assert!(most < 1e-6, "{border:?}: {most}");
    }
}

/// Networks that are no chains, by candle's kernels.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn others_child() {
    for (name, scale, size) in [
        ("hdsrnet", 2, (16, 12)),
        ("lapan", 2, (16, 12)),
        ("drct", 2, (16, 16)),
    ] {
        let job = UpscaleSpec::scaled(shape(PixelFormat::Rgb, size), Scale::whole(scale));
        let apart = both(&model(name, scale), job, &on_gpu(Precision::F32));
        println!("{name}: {apart:?}");
        assert!(apart.is_close(Precision::F32), "{name}");
    }
    // Where 16 bits may be, cuDNN may round: it is told so.
    let place = DeviceChoice::Cuda(0).resolve().unwrap();
    let cudnn = place.missing_cudnn().is_none();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    // SAFETY: nothing else of this process asks for its environment now.
    unsafe { std::env::set_var("SRFILTER_EMULATED_CUDNN_LOG", &log) };
    let job = UpscaleSpec::scaled(shape(PixelFormat::Rgb, (16, 12)), Scale::whole(2));
    let frame = Frame::drawn(job.input);
    for (asked, expected, told) in [
        (Precision::F32, Precision::F32, "f32"),
        (Precision::Auto, Precision::Tf32, "tf32"),
        (Precision::F16, Precision::Tf32, "tf32"),
    ] {
        let mut upscaler = Upscaler::new(model("hdsrnet", 2), job, &on_gpu(asked)).unwrap();
        frame.upscaled(&mut upscaler);
        let expected = if cudnn { expected } else { Precision::F32 };
        assert_eq!(upscaler.precision(), expected);
        if std::env::var_os(emulated::EMULATED).is_none() {
            continue;
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(said.lines().all(|line| line == told) && said.is_empty() != cudnn);
        let _ = std::fs::remove_file(&log);
    }
}

/// [`conv2d`] and its gradients on the GPU are those on the CPU.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn convolutions_child() {
    use candle_core::{DType, Var};
    use srfilter::ops::{Activation, conv2d};
    let place = DeviceChoice::Cuda(0).resolve().unwrap();
    let noise = |shape: &[usize], seed: usize| {
        let values = (0..shape.iter().product()).map(|i| ((i * 7919 + 31 * seed) % 1009) as f32);
        let values = values.map(|v| v / 1009.0 - 0.4).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let values = |t: &Tensor| -> Vec<f32> {
        let t = t.to_dtype(DType::F32).unwrap();
        t.flatten_all().unwrap().to_vec1().unwrap()
    };
    let apart = |a: &Tensor, b: &Tensor| {
        assert_eq!(a.dims(), b.dims());
        let pairs = values(a).into_iter().zip(values(b));
        let most = values(a).iter().fold(0f32, |most, v| most.max(v.abs()));
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / most
    };
    for (border, activation, stride, dilation, groups) in [
        (Border::Zero, Activation::None, 1, 1, 1),
        (Border::Zero, Activation::Relu, 2, 1, 1),
        (Border::Replicate, Activation::Relu, 1, 2, 1),
        (Border::Valid, Activation::Relu, 1, 1, 2),
        (Border::Zero, Activation::None, 1, 1, 4),
    ] {
        let spec = ConvSpec {
            border,
            stride,
            dilation,
            groups,
            activation,
        };
        let given = [
            noise(&[2, 4, 9, 11], 1),
            noise(&[8, 4 / groups, 3, 3], 2),
            noise(&[8], 3),
        ];
        let learnt = |device: &Device| {
            let vars = given.clone().map(|tensor| {
                let there = tensor.to_device(device).unwrap();
                Var::from_tensor(&there).unwrap()
            });
            let made = conv2d(&vars[0], &vars[1], Some(&vars[2]), spec).unwrap();
            let weights = noise(made.dims(), 4).to_device(device).unwrap();
            let loss = (&made * weights).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let gradients = vars
                .each_ref()
                .map(|var| gradients.get(var).unwrap().clone());
            let all = gradients.into_iter().chain([made]);
            let all = all.map(|tensor| tensor.to_device(&Device::Cpu).unwrap());
            all.collect::<Vec<_>>()
        };
        let (cpu, gpu) = (learnt(&Device::Cpu), learnt(place.candle_device()));
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            assert!(apart(cpu, gpu) < 1e-5, "{spec:?}: {}", apart(cpu, gpu));
        }
        for (kind, most) in [(DType::F32, 1e-5), (DType::F16, 2e-3), (DType::BF16, 2e-2)] {
            let [images, weights, bias] = given.clone().map(|tensor| {
                let tensor = tensor.to_device(place.candle_device()).unwrap();
                tensor.to_dtype(kind).unwrap()
            });
            let made = conv2d(&images, &weights, Some(&bias), spec).unwrap();
            let apart = apart(&cpu[3], &made);
            assert!(apart < most, "{spec:?} in {kind:?}: {apart}");
            // Once more, and without a bias.
            let again = conv2d(&images, &weights, None, spec).unwrap();
            assert_eq!(again.dims(), made.dims());
        }
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn formats_child() {
    for &format in PixelFormat::ALL {
        for name in ["srcnn", "srcnn-rgb", "bicubic"] {
            let job = UpscaleSpec::scaled(shape(format, (19, 13)), Scale::whole(2));
            let apart = both(&model(name, 2), job, &on_gpu(Precision::F32));
            println!("{} {name}: {apart:?}", format.name());
            let is_close = match format.depth() {
                8 => apart.is_close(Precision::F32),
                // A step, and the error of f32.
                depth => apart.value <= 256.0 / (1 << depth) as f32 + 0.01,
            };
            assert!(is_close, "{} {name}", format.name());
        }
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn sizes_child() {
    let scale = |text: &str| text.parse::<Scale>().unwrap();
    for (name, wanted, size, output) in [
        ("hypersrcnn", "3/2", (33, 17), None),
        ("espcn", "5/2", (30, 20), None),
        ("espcn", "8", (9, 5), None),
        ("srcnn", "4", (7, 3), None),
        ("srcnn", "2", (1, 1), None),
        // Sizes that downstream pins, and two networks one after the other.
        ("srcnn", "2", (20, 16), Some((50, 30))),
        ("espcn-fast", "2", (20, 16), Some((31, 30))),
        ("espcn-fast", "12", (6, 5), None),
    ] {
        let mut job = UpscaleSpec::scaled(shape(PixelFormat::Nv12, size), scale(wanted));
        job.output = output.unwrap_or(job.output);
        for precision in [Precision::F32, Precision::F16] {
            let apart = both(&model(name, 2), job, &on_gpu(precision));
            println!("{name} x{wanted} of {size:?}, {precision}: {apart:?}");
            assert!(apart.is_close(precision), "{name} x{wanted}");
        }
    }
    // A network that eats its border.
    let published = "../shared/data/weights/SRCNN/chxy95_SRCNN_x3_915.pkl";
    if !Path::new(published).exists() {
        eprintln!("skipped a part: no {published}");
        return;
    }
    let hints = LoadOverrides::default()
        .with_border(Border::Valid)
        .with_scales([Scale::whole(3)]);
    let model = Model::open_with(published, None, &hints).unwrap();
    let job = UpscaleSpec::scaled(shape(PixelFormat::Gray8, (22, 15)), Scale::whole(3));
    for precision in [Precision::F32, Precision::F16] {
        let apart = both(&model, job, &on_gpu(precision));
        println!("border valid, {precision}: {apart:?}");
        assert!(apart.is_close(precision));
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn planes_child() {
    let job = UpscaleSpec::scaled(shape(PixelFormat::Gray8, (25, 14)), Scale::whole(2));
    let plane: Vec<f32> = (0..25 * 14).map(|i| (i * 67 % 256) as f32 + 0.25).collect();
    for name in ["espcn", "srcnn", "bicubic"] {
        let made = [on_cpu(), on_gpu(Precision::F32)].map(|options| {
            let mut upscaler = Upscaler::new(model(name, 2), job, &options).unwrap();
            let mut run = || {
                upscaler
                    .process_planes(std::slice::from_ref(&plane))
                    .unwrap()
            };
            // Launched, made a graph, and as that graph.
            let [_, _, made] = [run(), run(), run()];
            made
        });
        let apart = made[0][0].iter().zip(&made[1][0]);
        let most = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: {most} of 255 at most");
        // 1e-4 of the range.
        assert!(most < 0.0255 && made[1][0].len() == 50 * 28);
    }
}

/// Upscalers work side by side, each on threads that never saw the GPU.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn threads_child() {
    let job = UpscaleSpec::scaled(shape(PixelFormat::I420, (20, 12)), Scale::whole(2));
    let frame = Frame::drawn(job.input);
    let names = ["srcnn", "espcn", "hypersrcnn"];
    let made = names.map(|name| {
        let mut upscaler = Upscaler::new(model(name, 2), job, &on_gpu(Precision::F16)).unwrap();
        let expected = frame.upscaled(&mut upscaler);
        (upscaler, expected)
    });
    std::thread::scope(|scope| {
        for (mut upscaler, expected) in made {
            let frame = &frame;
            scope.spawn(move || {
                for _ in 0..4 {
                    assert_eq!(frame.upscaled(&mut upscaler).apart(&expected).most, 0);
                }
            });
        }
    });
}

/// Frames that are begun before others are finished: the same bits, in their
/// order. What a GPU that is lost had begun is made by the CPU.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn overlap_child() {
    let little = std::env::var_os("SRFILTER_EMULATED_MEMORY").is_some();
    let lost = std::env::var_os("SRFILTER_EMULATED_LOST").is_some();
    let job = UpscaleSpec::scaled(shape(PixelFormat::I420, (40, 24)), Scale::whole(2));
    let model = model("srcnn", 2);
    let frames: Vec<_> = (0..7u8)
        .map(|n| {
            let mut frame = Frame::drawn(job.input);
            let bytes = frame.planes.iter_mut().flat_map(|(bytes, _)| bytes);
            bytes.for_each(|byte| *byte = byte.wrapping_add(31 * n));
            frame
        })
        .collect();
    let mut cpu = Upscaler::new(Arc::clone(&model), job, &on_cpu()).unwrap();
    let mut upscaler = Upscaler::new(model, job, &UpscaleOptions::default()).unwrap();
    let (mut waiting, mut made, mut most) = (std::collections::VecDeque::new(), Vec::new(), 0);
    for frame in &frames {
        let planes = frame.views();
        let input = frame.input(&planes);
        if upscaler.submit(&input).unwrap() {
            waiting.push_back(frame);
            most = most.max(waiting.len());
        } else {
            made.extend(waiting.drain(..).map(|frame| frame.finished(&mut upscaler)));
            made.push(frame.upscaled(&mut upscaler));
        }
        if waiting.len() == 2 {
            let third = upscaler.submit(&input).unwrap_err().to_string();
            assert!(third.contains("receive one first"), "{third}");
            let first = waiting.pop_front().unwrap();
            made.push(first.finished(&mut upscaler));
        }
    }
    made.extend(waiting.drain(..).map(|frame| frame.finished(&mut upscaler)));
    assert_eq!(made.len(), frames.len());
    for (frame, made) in frames.iter().zip(&made) {
        assert!(
            made.apart(&frame.upscaled(&mut cpu))
                .is_close(Precision::F16)
        );
    }
    assert_eq!(most, if little { 1 } else { 2 });
    assert_eq!(upscaler.device().name() == "cpu", lost);
}

/// The same bits, however the picture is divided.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn bands_child() {
    for (name, scale, size) in [
        ("srcnn", 2, (20, 37)),
        ("espcn", 3, (20, 37)),
        ("srresnet", 4, (9, 21)),
    ] {
        let job = UpscaleSpec::scaled(shape(PixelFormat::Rgb, size), Scale::whole(scale));
        let (model, frame) = (model(name, scale), Frame::drawn(job.input));
        for precision in [Precision::F32, Precision::F16] {
            let made = [0, 16, 7].map(|tile| {
                let options = on_gpu(precision).with_tile_size(tile);
                frame.upscaled(&mut Upscaler::new(Arc::clone(&model), job, &options).unwrap())
            });
            let apart = [&made[1], &made[2]].map(|bands| made[0].apart(bands).most);
            assert_eq!(apart, [0, 0], "{name} {precision}");
        }
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn memory_child() {
    let job = UpscaleSpec::scaled(shape(PixelFormat::Gray8, (30, 90)), Scale::whole(2));
    let apart = both(&model("srcnn", 2), job, &on_gpu(Precision::F16));
    println!("{apart:?}");
    assert!(apart.is_close(Precision::F16));
}

/// A network that sees whole frames is refused by the GPU's memory, not by the host's.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn whole_child() {
    let model = model("drct", 2);
    let job = |side| UpscaleSpec::scaled(shape(PixelFormat::Rgb, (side, side)), Scale::whole(2));
    let error = Upscaler::check(&model, &job(300), &on_gpu(Precision::Auto));
    let error = error.unwrap_err().to_string();
    println!("error: {error}");
    assert!(
        error.contains("on cuda:0") && error.contains("286 MiB are free"),
        "{error}"
    );
    // With `auto` the CPU does it.
    for options in [on_cpu(), UpscaleOptions::default()] {
        Upscaler::check(&model, &job(300), &options).unwrap();
    }
    let upscaler = Upscaler::new(Arc::clone(&model), job(300), &UpscaleOptions::default()).unwrap();
    let why = upscaler.fallback_reason().unwrap();
    assert!(why.contains("286 MiB are free"), "{why}");
    assert_eq!(upscaler.device().name(), "cpu");
    Upscaler::check(&model, &job(16), &UpscaleOptions::default()).unwrap();
}

/// Networks that share a kernel of the GPU, and take unlike amounts of its
/// shared memory.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn sizes_of_kernels_child() {
    let job = UpscaleSpec::scaled(shape(PixelFormat::Gray8, (20, 9)), Scale::whole(2));
    let frame = Frame::drawn(job.input);
    let dir = tempfile::tempdir().unwrap();
    let mut upscalers = [9, 3].map(|kernel| {
        let file = dir.path().join(format!("{kernel}.safetensors"));
        let config = srcnn::Config {
            kernels: [3, kernel, 3],
            widths: [64, 64],
            ..srcnn::Config::default()
        };
        let architecture = Architecture::Srcnn(config);
        common::save(&file, architecture, Scales::list([Scale::whole(2)]), 6);
        let model = Model::open_with(&file, None, &LoadOverrides::default()).unwrap();
        let cpu = Upscaler::new(Arc::clone(&model), job, &on_cpu());
        let gpu = Upscaler::new(model, job, &on_gpu(Precision::F16));
        (frame.upscaled(&mut cpu.unwrap()), gpu.unwrap())
    });
    for _ in 0..3 {
        for (cpu, upscaler) in &mut upscalers {
            let made = frame.upscaled(upscaler);
            assert!(made.apart(cpu).is_close(Precision::F16));
        }
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn averaged_child() {
    let job = UpscaleSpec::scaled(shape(PixelFormat::Rgb, (37, 21)), Scale::whole(2));
    let frame = Frame::drawn(job.input);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drct.safetensors");
    let small = drct::Config {
        width: 12,
        groups: 1,
        heads: 2,
        window: 4,
        growth: 4,
        mlp_ratio: 2,
    };
    let two = Scale::whole(2);
    common::save(&file, Architecture::Drct(small), Scales::list([two]), 6);
    let model = Model::open_with(&file, None, &LoadOverrides::default()).unwrap();
    let on = |device| {
        UpscaleOptions::default()
            .with_device(device)
            .with_precision(Precision::F32)
            .with_tile_size(12)
            .with_tile_overlap(5)
            .with_memory_limit(1 << 30)
    };
    let cpu = Upscaler::new(Arc::clone(&model), job, &on(DeviceChoice::Cpu));
    let cpu = frame.upscaled(&mut cpu.unwrap());
    let mut upscaler = Upscaler::new(model, job, &on(DeviceChoice::Auto)).unwrap();
    let left = std::env::var("SRFILTER_TEST_LEFT").unwrap_or_default();
    if !left.is_empty() {
        // Somebody else takes the rest.
        // SAFETY: nothing else of this process asks for its environment now.
        unsafe { std::env::set_var("SRFILTER_EMULATED_MEMORY", &left) };
    }
    let made = frame.upscaled(&mut upscaler);
    assert!(made.apart(&cpu).is_close(Precision::F32));
    assert_eq!(upscaler.tiles(), 15);
    assert!(upscaler.device().name().starts_with("cuda:0"));
}

/// A network that candle runs, when the GPU's memory ends or the GPU is lost:
/// smaller tiles, or the CPU.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn smaller_child() {
    let left = std::env::var("SRFILTER_TEST_LEFT").unwrap_or_default();
    let job = UpscaleSpec::scaled(shape(PixelFormat::Rgb, (160, 96)), Scale::whole(2));
    let frame = Frame::drawn(job.input);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hdsrnet.safetensors");
    let narrow = Architecture::HdsrNet(hdsrnet::Config { width: 4 });
    common::save(&file, narrow, Scales::list([Scale::whole(2)]), 6);
    let model = Model::open_with(&file, None, &LoadOverrides::default()).unwrap();
    // As if all of it were free.
    let options = UpscaleOptions::default().with_memory_limit(1 << 30);
    let cpu = frame.upscaled(&mut Upscaler::new(Arc::clone(&model), job, &on_cpu()).unwrap());
    let mut upscaler = Upscaler::new(Arc::clone(&model), job, &options).unwrap();
    assert!(upscaler.device().name().starts_with("cuda:0"));
    assert_eq!(upscaler.tiles(), 1);
    if !left.is_empty() {
        // Somebody else takes the rest.
        // SAFETY: nothing else of this process asks for its environment now.
        unsafe { std::env::set_var("SRFILTER_EMULATED_MEMORY", &left) };
    }
    let made = frame.upscaled(&mut upscaler);
    assert!(made.apart(&cpu).is_close(Precision::F32));
    println!("{} tiles on {}", upscaler.tiles(), upscaler.device().name());
    if left == "2000000" {
        assert!(upscaler.tiles() > 1 && upscaler.fallback_reason().is_none());
        return;
    }
    let why = upscaler.fallback_reason().unwrap();
    assert!(why.starts_with("the GPU failed: "), "{why}");
    // Who insists gets an error, each time.
    let insists = options.with_device(DeviceChoice::Cuda(0));
    let planes = vec![vec![0f32; 160 * 96]; 3];
    if let Ok(mut upscaler) = Upscaler::new(model, job, &insists) {
        for _ in 0..2 {
            let error = upscaler.process_planes(&planes).unwrap_err().to_string();
            assert!(error.contains("or use device=auto"), "{error}");
        }
    }
}

/// With `auto` the CPU takes over, with the reason; who insists gets it as an
/// error.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn lost_child() {
    let job = UpscaleSpec::scaled(shape(PixelFormat::I420, (64, 48)), Scale::whole(2));
    let frame = Frame::drawn(job.input);
    let model = model("srcnn", 2);
    let cpu = frame.upscaled(&mut Upscaler::new(Arc::clone(&model), job, &on_cpu()).unwrap());
    let auto = UpscaleOptions::default();
    let mut upscaler = Upscaler::new(Arc::clone(&model), job, &auto).unwrap();
    for _ in 0..6 {
        let made = frame.upscaled(&mut upscaler);
        assert!(made.apart(&cpu).is_close(Precision::F16));
    }
    assert_eq!(upscaler.device().name(), "cpu");
    let why = upscaler.fallback_reason().unwrap();
    println!("given up: {why}");
    assert!(why.starts_with("the GPU failed: "), "{why}");
    assert_eq!(frame.upscaled(&mut upscaler).apart(&cpu).most, 0);

    let insists = Upscaler::new(model, job, &on_gpu(Precision::Auto));
    let planes: Vec<_> = frame
        .planes
        .iter()
        .map(|(b, s)| (b.as_slice(), *s))
        .collect();
    let input = FrameRef::new(job.input.format, job.input.size, job.input.color, &planes).unwrap();
    let mut made = Frame::new(job.input.with_size(job.output.0, job.output.1));
    let planes = made.planes.iter_mut().map(|(b, s)| (b.as_mut_slice(), *s));
    let mut output = FrameMut::new(job.input.format, job.output, job.input.color, planes).unwrap();
    let error = match insists {
        Ok(mut upscaler) => upscaler.process(&input, &mut output).unwrap_err(),
        Err(error) => error,
    };
    println!("error: {error}");
    assert!(error.to_string().contains("or use device=auto"), "{error}");
}

/// Prints how long frames take, for `scripts/gpu-check`: a line of JSON each.
#[test]
#[ignore = "measures: run by scripts/gpu-check on a GPU, by another test on one frame"]
fn speed_child() {
    let small = std::env::var_os("SRFILTER_SPEED_SMALL").is_some();
    for (name, scale, size) in [
        ("srcnn", 2, (1920, 1080)),
        ("hypersrcnn", 2, (1920, 1080)),
        ("espcn", 2, (1920, 1080)),
        ("compact", 2, (1920, 1080)),
        ("srresnet", 4, (960, 540)),
        ("hdsrnet", 2, (1920, 1080)),
    ] {
        let size = if small { (24, 10) } else { size };
        let precisions = [
            Precision::F16,
            Precision::Bf16,
            Precision::F32,
            Precision::Int8,
        ];
        for precision in precisions {
            let is_whole = precision == Precision::Int8;
            if is_whole && model(name, scale).int8_loss().is_none() {
                continue;
            }
            if small && name == "srresnet" && precision != Precision::F32 {
                // A minute in the emulator, and the same calls as compact's.
                continue;
            }
            let job = UpscaleSpec::scaled(shape(PixelFormat::Nv12, size), Scale::whole(scale));
            let options = on_gpu(precision);
            let mut upscaler = Upscaler::new(model(name, scale), job, &options).unwrap();
            let frame = Frame::drawn(job.input);
            let runs = if small { 1 } else { 50 };
            let network = model(name, scale).for_scale(Scale::whole(scale)).unwrap();
            let seen = match network.upsampling() {
                Upsampling::Pre => job.output,
                Upsampling::Post(_) => job.input.size,
            };
            let device = options.device.resolve().unwrap();
            let device = device.candle_device();
            let quantized = model(name, scale).quantized(Scale::whole(scale)).unwrap();
            let plan = match (network.chain().unwrap(), quantized.filter(|_| is_whole)) {
                (None, _) => None,
                (_, Some(packed)) => {
                    CudaChainExecutor::quantized(&packed, seen, device, 0).unwrap()
                }
                (Some(chain), None) => {
                    CudaChainExecutor::new(&chain, seen, device, precision, 0).unwrap()
                }
            };
            if plan.is_none() && precision == Precision::Bf16 {
                // The same as for f16.
                continue;
            }
            let precision = upscaler.precision();
            let gpu = plan.map(|mut plan| plan.time(runs).unwrap());
            frame.upscaled(&mut upscaler);
            let start = Instant::now();
            for _ in 0..runs {
                frame.upscaled(&mut upscaler);
            }
            let all = start.elapsed().as_secs_f64() / f64::from(runs as u32);
            println!(
                "{{\"model\": \"{name}\", \"scale\": {scale}, \"width\": {}, \"height\": {}, \
                 \"precision\": \"{precision}\", \"network_ms\": {}, \"frame_ms\": {:.3}}}",
                size.0,
                size.1,
                gpu.map_or("null".to_owned(), |gpu| format!("{:.3}", gpu * 1e3)),
                all * 1e3
            );
        }
    }
}
