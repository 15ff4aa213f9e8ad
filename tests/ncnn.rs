//! Networks of ncnn, compared with ncnn (tests/reference/ncnn_graphs.py).

#![allow(clippy::unwrap_used)] // Tests may fail.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use srfilter::Scale;
use srfilter::models::Architecture;
use srfilter::models::graph::{Config, Graph};
use srfilter::weights::{Checkpoint, LoadOverrides, Model};
use std::path::{Path, PathBuf};

/// The networks, and whether they are chains.
const NETWORKS: [(&str, bool); 8] = [
    ("compact-luma-x4", true),
    ("compact-shrunk-x2", false),
    ("compact-x4", true),
    ("cunet", false),
    ("cunet-relative", false),
    ("esrgan-x2", false),
    ("layers-x4", false),
    ("upconv-x2", false),
];

fn path(name: &str) -> PathBuf {
    Path::new("tests/ncnn").join(format!("{name}.param"))
}

fn graph(path: &Path) -> (Config, Graph) {
    let file = Checkpoint::open(path).unwrap();
    let contents = file.contents(&LoadOverrides::default()).unwrap();
    let Architecture::Graph(config) = contents.architecture else {
        panic!("{} is no graph", path.display());
    };
    let vb = VarBuilder::from_tensors(contents.tensors, DType::F32, &Device::Cpu);
    let graph = Graph::new(&vb, &config).unwrap();
    (config, graph)
}

#[test]
fn networks_compute_what_ncnn_does() {
    for (name, fused) in NETWORKS {
        let path = path(name);
        let vectors = Checkpoint::open(path.with_extension("safetensors")).unwrap();
        let (input, expected) = (&vectors.tensors()["input"], &vectors.tensors()["output"]);
        let (config, graph) = graph(&path);
        let output = graph.run(input).unwrap().0;
        assert_eq!(output.dims(), expected.dims(), "{name}");
        let off = (output - expected).unwrap().abs().unwrap();
        let off = off.flatten_all().unwrap().max(0).unwrap();
        let off = off.to_scalar::<f32>().unwrap();
        println!(
            "{name}: x{} {}, off by {off:.1e}, multiples of {}, crop {}",
            config.factor, config.channels, config.multiple, config.crop
        );
        assert!(off < 1e-5, "{name}: off by {off}");
        assert_eq!(config.fused, fused, "{name}");
        // Through the weights instead, and of another size.
        let model = Model::open(path.with_extension("bin")).unwrap();
        let network = model.for_scale(Scale::whole(config.factor as u32)).unwrap();
        let image = Tensor::full(0.5f32, (1, config.channels.count(), 37, 41), &Device::Cpu);
        let output = network.forward(&image.unwrap()).unwrap();
        let factor = config.factor;
        assert_eq!(output.dims()[2..], [37 * factor, 41 * factor], "{name}");
    }
}

#[test]
fn a_network_that_is_shrunk_is_named() {
    let file = Checkpoint::open(path("compact-shrunk-x2")).unwrap();
    let format = file.format();
    assert!(
        format.contains("a network for x4 whose result is resampled to x2"),
        "{format}"
    );
}

/// The text and the weights of a network.
fn parts(name: &str) -> (String, Vec<u8>) {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (text, std::fs::read(path.with_extension("bin")).unwrap())
}

fn problem(text: &str, weights: &[u8]) -> String {
    let bytes = [text.as_bytes(), &[0], weights].concat();
    Checkpoint::from_bytes("net.param", &bytes)
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_not_served_is_named_with_its_layer() {
    let (text, weights) = parts("layers-x4");
    let longer = [weights.as_slice(), &[0; 8]].concat();
    for (from, to, weights, words) in [
        ("Mish ", "Mash ", &weights, "(Mash): a layer that is not"),
        ("0=2 1=2.0", "0=7 1=2.0", &weights, "resize_type 7"),
        (
            "-23300=3,4,4,-233",
            "-23300=2,4",
            &weights,
            "setting 0 is 2,4",
        ),
        ("v1 v2", "v1 v1", &weights, "there is no v2"),
        ("", "", &longer, "8 bytes more"),
    ] {
        let problem = problem(&text.replacen(from, to, 1), weights);
        println!("{problem}");
        assert!(problem.contains(words), "{problem}");
    }
    let short = problem(&text, &weights[..weights.len() - 4]);
    assert!(short.contains("its .bin ends early"), "{short}");
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone.param");
    std::fs::write(&alone, &text).unwrap();
    let missing = Checkpoint::open(&alone).unwrap_err().to_string();
    assert!(missing.contains("alone.bin"), "{missing}");
}

/// Damaged files are refused, or hold another network; nothing panics. For
/// `SRFILTER_FUZZ_SECONDS`, if set.
#[test]
fn damaged_files_are_refused() {
    let seconds = std::env::var("SRFILTER_FUZZ_SECONDS").map_or(0, |text| text.parse().unwrap());
    let start = std::time::Instant::now();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed().as_secs() < seconds {
        rounds += 1;
        damage(rounds);
    }
}

fn damage(seed: u64) {
    let mut random = {
        let mut state = seed;
        move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        }
    };
    let (mut refused, mut opened) = (0, 0);
    for (name, _) in NETWORKS {
        let (text, weights) = parts(name);
        for _ in 0..40 {
            let mut damaged = text.clone().into_bytes();
            for _ in 0..1 + random(3) {
                let place = 8 + random(damaged.len() - 8);
                // Numbers and names most of all.
                damaged[place] = b"0123456789-=,. v_\n\0\xff"[random(19)];
            }
            let bytes = [damaged.as_slice(), &[0], weights.as_slice()].concat();
            match Checkpoint::from_bytes("damaged", &bytes) {
                Ok(file) => {
                    opened += 1;
                    let _ = file.network(&LoadOverrides::default());
                }
                Err(_) => refused += 1,
            }
        }
        let cut = random(weights.len());
        problem(&text, &weights[..cut]);
    }
    println!("{refused} refused, {opened} opened");
    assert!(refused > 100 && opened > 10);
}
