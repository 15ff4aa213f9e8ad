//! Graphs in ONNX against the results of ONNX Runtime (tests/reference), and files that are
//! none.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "onnx")]

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::PixelFormat;
use srfilter::models::Architecture;
use srfilter::models::graph::{Config, Graph};
use srfilter::weights::{Checkpoint, LoadOverrides, Model};
use std::path::PathBuf;

/// The graphs, by name.
fn graphs() -> Vec<PathBuf> {
    let folder = std::fs::read_dir("tests/onnx").unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let mut graphs: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    graphs.sort();
    graphs
}

fn name(path: &std::path::Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn graph(path: &PathBuf) -> (Config, Graph) {
    let contents = Checkpoint::open(path).unwrap();
    let contents = contents.contents(&LoadOverrides::default()).unwrap();
    let Architecture::Graph(config) = contents.architecture else {
        panic!("{}: not a graph", path.display());
    };
    let vb = VarBuilder::from_tensors(contents.tensors, DType::F32, &Device::Cpu);
    let graph = Graph::new(&vb, &config).unwrap();
    (config, graph)
}

/// The largest difference of two tensors, in units of full scale or, where results are
/// larger, of the largest.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let largest = |x: Tensor| {
        let x = x.abs().unwrap().flatten_all().unwrap();
        f64::from(x.max(0).unwrap().to_scalar::<f32>().unwrap())
    };
    largest((a - b).unwrap()) / largest(b.clone()).max(1.0)
}

/// Chains run in the fused plan.
const FUSED: [&str; 16] = [
    "acnet-full",
    "acnet",
    "artcnn",
    "compact-x2-f16",
    "compact-x2",
    "compact-x4-fixed",
    "edsr-x4-fixed-f16",
    "edsr-x4",
    "espcn-rgb-blocks",
    "espcn-x2-blocks",
    "espcn-x2",
    "fsrcnn-opset11",
    "full-range-affine",
    "full-range-relu",
    "srcnn-915-edge",
    "srcnn-955",
];

#[test]
fn graphs_compute_what_onnx_runtime_does() {
    let (mut fused, mut wrong) = (Vec::new(), Vec::new());
    let mut worst: f64 = 0.0;
    for path in graphs() {
        let name = name(&path);
        let vectors = Checkpoint::open(path.with_extension("safetensors")).unwrap();
        let (input, expected) = (&vectors.tensors()["input"], &vectors.tensors()["output"]);
        let (config, graph) = graph(&path);
        let off = difference(&graph.run(input).unwrap().0, expected);
        println!(
            "{name}: x{} {}, off by {off:.1e}, fused {}, sizes {:?} * {}, crop {}",
            config.factor, config.channels, config.fused, config.size, config.multiple, config.crop
        );
        worst = worst.max(off);
        if off >= 1e-4 {
            wrong.push(name.clone());
        }
        if config.fused {
            fused.push(name.clone());
        }
        // As the engine runs it.
        let model = Model::open(&path).unwrap();
        let network = model.for_scale(Scale::whole(config.factor as u32)).unwrap();
        let scale = Scale::whole(config.factor as u32);
        let packed = model.packed(scale).unwrap().is_some();
        // In another range a ReLU at the end is none.
        let runs_fused = config.fused && name != "full-range-relu";
        assert_eq!(packed, runs_fused, "{name}");
        let output = network.forward(input).unwrap();
        let (.., height, width) = input.dims4().unwrap();
        assert_eq!(
            output.dims()[2..],
            [height * config.factor, width * config.factor]
        );
        if config.crop == 0 && config.multiple == 1 && !config.full_range && config.size.is_none() {
            let clamped = |x: &Tensor| x.clamp(0f32, 1f32).unwrap();
            let off = difference(&clamped(&output), &clamped(expected));
            assert!(off < 1e-4, "{name}: off by {off}");
        }
    }
    println!("the worst is off by {worst:.1e}; fused: {fused:?}");
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(fused, FUSED);
}

/// Planes of noise, 0 to 255.
fn planes(count: usize, (width, height): (usize, usize)) -> Vec<Vec<f32>> {
    let value =
        |plane: usize| move |i: usize| ((i * 7919 + plane * 31) % 1009) as f32 / 1009.0 * 255.0;
    (0..count)
        .map(|plane| (0..width * height).map(value(plane)).collect())
        .collect()
}

/// In tiles, in bands, in parts or as a chain, a frame is the one that the graph computes
/// at once.
#[test]
fn tiles_are_those_of_the_whole_frame() {
    let (width, height) = (301, 274);
    for name in [
        "acnet-full",
        "artcnn",
        "chroma",
        "edsr-x4",
        "fsrcnn-opset11",
        "imdn-x2",
        "lapsrn-x2",
        "rrdb-x2",
        "rrdb-x4",
        "span-x3",
        "norms",
        "resize-cubic-exclude-outside",
        "without-padding",
        "strided",
        "full-range-affine",
        "full-range-relu",
    ] {
        let path = PathBuf::from(format!("tests/onnx/{name}.onnx"));
        let (config, graph) = graph(&path);
        let model = Model::open(&path).unwrap();
        let count = config.channels.count();
        let factor = config.factor;
        let input = planes(count, (width, height));
        let frame = FrameSpec::new(PixelFormat::Gray8, width, height);
        let spec = UpscaleSpec::scaled(frame, Scale::whole(factor as u32));
        let run = |tile: usize| {
            let options = UpscaleOptions::default().with_tile_size(tile);
            let mut upscaler = Upscaler::new(model.clone(), spec, &options).unwrap();
            upscaler.process_planes(&input).unwrap().concat()
        };
        // The graph itself, at a size that it takes.
        let (scale, offset) = match config.full_range {
            true => (255.0 / 219.0, -16.0 / 219.0),
            false => (1.0, 0.0),
        };
        let samples: Vec<f32> = input.concat().iter().map(|v| v / 255.0).collect();
        let x = Tensor::from_vec(samples, (1, count, height, width), &Device::Cpu).unwrap();
        let x = x.affine(scale, offset).unwrap();
        let padded = |x: &Tensor, axis: usize| {
            let length = x.dim(axis).unwrap();
            let more = (length + 2 * config.crop).next_multiple_of(config.multiple) - length;
            x.pad_with_same(axis, config.crop, more - config.crop)
                .unwrap()
        };
        let y = graph.run(&padded(&padded(&x, 2), 3)).unwrap().0;
        let y = y.narrow(2, 0, factor * height).unwrap();
        let y = y.narrow(3, 0, factor * width).unwrap();
        let y = y.affine(1.0 / scale, -offset / scale).unwrap();
        let expected = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for tile in [0, 64] {
            let output = run(tile);
            let off = output.iter().zip(&expected);
            let off = off.map(|(a, b)| (a / 255.0 - b.clamp(0.0, 1.0)).abs());
            let largest = expected.iter().fold(1.0, |most: f32, v| most.max(v.abs()));
            let off = off.fold(0.0, f32::max) / largest;
            println!("{name}, tiles of {tile}: off by {off:.1e}");
            assert!(off < 2e-5, "{name}, tiles of {tile}: off by {off}");
        }
    }
}

/// Bytes of a graph in which a text is replaced by one as long.
fn edited(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(format!("tests/onnx/{name}.onnx")).unwrap();
    let place = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let place = place.unwrap();
    bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn problem(bytes: &[u8]) -> String {
    Checkpoint::from_bytes("file.onnx", bytes)
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_not_served_is_named_with_its_node() {
    for (bytes, words) in [
        (
            edited("acnet", "\"\u{4}Relu", "\"\u{4}Rela"),
            vec!["file.onnx", "node /Relu_1 (Rela)", "not served"],
        ),
        (
            edited("compact-x2", "nearest", "nearer!"),
            vec!["(Resize)", "mode nearer!"],
        ),
        (
            edited("edsr-x4", "CRD", "CDR"),
            vec!["(DepthToSpace)", "mode CDR"],
        ),
        (
            edited("artcnn", "c2", "cx"),
            vec!["node /Conv_1 (Conv)", "there is no cx"],
        ),
        (
            std::fs::read("tests/onnx/chroma-x2.refused").unwrap(),
            vec![
                "2 planes of ",
                " come out of 3 of ",
                "chroma that do not resize",
            ],
        ),
    ] {
        let problem = problem(&bytes);
        println!("{problem}");
        for word in words {
            assert!(problem.contains(word), "{problem}");
        }
    }
    // The version of the operators is the last field.
    let mut bytes = std::fs::read("tests/onnx/acnet.onnx").unwrap();
    let version = bytes.len() - 1;
    for opset in [9, 24] {
        bytes[version] = opset;
        let problem = problem(&bytes);
        assert!(problem.contains(&format!("opset {opset}")), "{problem}");
    }
}

/// Files that are cut short or damaged are refused, or hold another network; nothing
/// panics. For `SRFILTER_FUZZ_SECONDS`, if set.
#[test]
fn damaged_files_are_refused() {
    let seconds = std::env::var("SRFILTER_FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    let start = std::time::Instant::now();
    let mut seed = 1;
    loop {
        damage(seed);
        seed += 1;
        if start.elapsed().as_secs() >= seconds {
            break;
        }
    }
}

fn damage(seed: u64) {
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut opened) = (0, 0);
    for path in graphs() {
        let bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 20_000 {
            continue;
        }
        for _ in 0..8 {
            // Metadata come last, and a file without them is whole.
            let cut = random(bytes.len() - 16);
            assert!(Checkpoint::from_bytes("cut", &bytes[..cut]).is_err());
        }
        for _ in 0..24 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random(3) {
                let place = random(damaged.len());
                damaged[place] = random(256) as u8;
            }
            match Checkpoint::from_bytes("damaged", &damaged) {
                Ok(file) => {
                    opened += 1;
                    let _ = file.network(&LoadOverrides::default());
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} refused, {opened} opened");
    assert!(refused > 100 && opened > 50);
}
