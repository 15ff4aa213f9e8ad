//! Networks as graphs in ONNX, read again: they compute the same.

#![allow(clippy::unwrap_used)] // Tests may fail.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use srfilter::Scale;
use srfilter::models::graph::Graph;
use srfilter::models::{Architecture, MODELS, ScaleNetwork, Scales, Upsampling};
use srfilter::nn::Bicubic;
use srfilter::weights::{Checkpoint, LoadOverrides, Model};

fn noise(planes: usize, (height, width): (usize, usize)) -> Tensor {
    let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 1009.0;
    let values: Vec<f32> = (0..planes * height * width).map(value).collect();
    Tensor::from_vec(values, (1, planes, height, width), &Device::Cpu).unwrap()
}

/// The graph in the bytes of a file.
fn read(bytes: &[u8]) -> Graph {
    let file = Checkpoint::from_bytes("exported.onnx", bytes).unwrap();
    let contents = file.contents(&LoadOverrides::default()).unwrap();
    let Architecture::Graph(config) = contents.architecture else {
        panic!("no graph");
    };
    let vb = VarBuilder::from_tensors(contents.tensors, DType::F32, &Device::Cpu);
    Graph::new(&vb, &config).unwrap()
}

fn largest(a: &Tensor, b: &Tensor) -> f32 {
    let off = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    off.max(0).unwrap().to_scalar().unwrap()
}

/// A network on an image, enlarged first if it wants that.
fn expected(network: &dyn ScaleNetwork, x: &Tensor, scale: Scale) -> Tensor {
    if network.upsampling() != Upsampling::Pre {
        return network.forward(x).unwrap();
    }
    let (_, planes, height, width) = x.dims4().unwrap();
    let factor = scale.num() as usize;
    let enlarged = (0..planes).map(|plane| {
        let plane = x.narrow(1, plane, 1).unwrap();
        let y = Bicubic::new(factor, &Device::Cpu).unwrap();
        let y = y.forward(&plane).unwrap();
        let y = candle_nn::ops::pixel_shuffle(&y, factor).unwrap();
        y.reshape((1, 1, factor * height, factor * width)).unwrap()
    });
    let x = Tensor::cat(&enlarged.collect::<Vec<_>>(), 1).unwrap();
    network.forward(&x).unwrap()
}

#[test]
fn built_in_models_compute_the_same_as_graphs() {
    let mut count = 0;
    for info in MODELS.iter().filter(|info| !info.built_in.is_empty()) {
        let model = Model::builtin(info.name).unwrap();
        let scales = match model.scales() {
            Scales::List(scales) => scales.clone(),
            Scales::Any => [2, 3, 4].map(Scale::whole).to_vec(),
        };
        for scale in scales.into_iter().filter(|scale| scale.num() <= 8) {
            let network = model.for_scale(scale).unwrap();
            if network.chain().unwrap().is_none() {
                let problem = model.to_onnx(scale).unwrap_err().to_string();
                assert!(problem.contains("cannot be exported"), "{problem}");
                continue;
            }
            let x = noise(model.channels().count(), (13, 17));
            let graph = read(&model.to_onnx(scale).unwrap());
            let off = largest(
                &graph.run(&x).unwrap().0,
                &expected(network.as_ref().as_ref(), &x, scale),
            );
            println!("{} x{scale}: off by {off:.1e}", info.name);
            assert!(off < 1e-5, "{} x{scale}: off by {off}", info.name);
            count += 1;
        }
    }
    assert!(count > 20, "{count} networks");
}

#[test]
fn graphs_survive_being_written() {
    let mut count = 0;
    for entry in std::fs::read_dir("tests/onnx").unwrap() {
        let path = entry.unwrap().path();
        let is_graph = path
            .extension()
            .is_some_and(|extension| extension == "onnx");
        // These are chains on luma in limited range then.
        let others = ["acnet-full.onnx", "full-range-affine.onnx"];
        if !is_graph || others.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let model = Model::open(&path).unwrap();
        let Scales::List(scales) = model.scales() else {
            panic!("{}", path.display());
        };
        let vectors = Checkpoint::open(path.with_extension("safetensors")).unwrap();
        let (input, output) = (&vectors.tensors()["input"], &vectors.tensors()["output"]);
        let bytes = match model.to_onnx(scales[0]) {
            Ok(bytes) => bytes,
            Err(e) => {
                let problem = e.to_string();
                println!("{}: {problem}", path.display());
                assert!(
                    problem.contains("opset 13") || problem.contains("padding"),
                    "{problem}"
                );
                continue;
            }
        };
        // Chains leave the last clamping to the frame.
        let clamped = |x: &Tensor| x.clamp(0f32, 1f32).unwrap();
        let written = read(&bytes).run(input).unwrap().0;
        let off = largest(&clamped(&written), &clamped(output));
        assert!(off < 1e-5, "{}: off by {off}", path.display());
        count += 1;
    }
    assert!(count > 50, "{count} graphs");
}
