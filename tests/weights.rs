//! Weights files: native ones, those of other projects, and invalid ones.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use srfilter::models::{Architecture, Channels, Scales, compact, espcn, hypersrcnn, srcnn};
use srfilter::ops::Border;
use srfilter::weights::{Checkpoint, LoadOverrides, Model};
use srfilter::{Error, Scale};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn write(path: &Path, tensors: Vec<(String, Tensor)>) {
    let map: HashMap<String, Tensor> = tensors.into_iter().collect();
    candle_core::safetensors::save(&map, path).unwrap();
}

/// A file of another project, without metadata.
fn foreign(dir: &Path, config: &srcnn::Config) -> PathBuf {
    let path = dir.join("foreign.safetensors");
    let architecture = Architecture::Srcnn(config.clone());
    write(&path, common::noise_weights(&architecture, 5));
    path
}

fn refusal(path: &Path) -> String {
    let error = Model::open_with(path, None, &LoadOverrides::default()).unwrap_err();
    let text = error.to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(name), "does not name the file: {text}");
    text
}

#[test]
fn equal_files_are_one_model_until_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let open = |model| Model::open_with(&path, model, &LoadOverrides::default()).unwrap();
    let first = open(None);
    assert!(std::sync::Arc::ptr_eq(&first, &open(None)));
    assert!(std::sync::Arc::ptr_eq(
        &open(Some("srcnn")),
        &open(Some("srcnn"))
    ));
    let replicate = LoadOverrides::default().with_border(Border::Replicate);
    let other = Model::open_with(&path, None, &replicate).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &other));
    // As long, written again.
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    std::fs::write(&path, bytes).unwrap();
    let changed = open(None);
    assert!(!std::sync::Arc::ptr_eq(&first, &changed));
    assert!(std::sync::Arc::ptr_eq(&changed, &open(None)));
}

#[test]
fn native_files_have_a_card() {
    let dir = tempfile::tempdir().unwrap();
    let path = common::small_file(dir.path(), Channels::Rgb, Border::Valid);
    let card = Checkpoint::open(&path).unwrap().card().unwrap().unwrap();
    let config = common::small_srcnn(Channels::Rgb, Border::Valid);
    assert_eq!(card.architecture, Architecture::Srcnn(config));
    assert_eq!(card.scales, Scales::list([2, 3].map(Scale::whole)));
    let loaded = Model::open_with(&path, None, &LoadOverrides::default()).unwrap();
    assert_eq!(loaded.name(), "srcnn-rgb");
    assert_eq!(loaded.channels(), Channels::Rgb);
    assert_eq!(loaded.origin(), path.to_str().unwrap());
}

/// The length of a header may look like the first bytes of a pickle.
#[test]
fn a_header_may_start_like_a_pickle() {
    let dir = tempfile::tempdir().unwrap();
    let path = common::espcn_file(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let longer = (length..).find(|l| l & 0xff == 0x80 && (2..=5).contains(&(l >> 8 & 0xff)));
    let longer = longer.unwrap();
    let mut padded = (longer as u64).to_le_bytes().to_vec();
    padded.extend_from_slice(&bytes[8..8 + length]);
    padded.resize(8 + longer, b' ');
    padded.extend_from_slice(&bytes[8 + length..]);
    std::fs::write(&path, padded).unwrap();
    Model::open_with(&path, None, &LoadOverrides::default()).unwrap();
}

#[test]
fn other_files_are_detected_by_names_and_shapes() {
    let dir = tempfile::tempdir().unwrap();
    for (channels, kernels) in [(Channels::Luma, [9, 1, 5]), (Channels::Rgb, [9, 5, 5])] {
        let config = srcnn::Config {
            channels,
            kernels,
            ..srcnn::Config::default()
        };
        let path = foreign(dir.path(), &config);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let (found, network) = checkpoint.network(&LoadOverrides::default()).unwrap();
        assert_eq!(found, Architecture::Srcnn(config.clone()));
        assert_eq!(network.scales(), &Scales::Any);
        let hints = LoadOverrides::default()
            .with_border(Border::Replicate)
            .with_scales([Scale::whole(3)]);
        let (found, network) = checkpoint.network(&hints).unwrap();
        let expected = srcnn::Config {
            border: Border::Replicate,
            ..config
        };
        assert_eq!(found, Architecture::Srcnn(expected));
        assert_eq!(network.scales(), &Scales::list([Scale::whole(3)]));
    }
}

/// A scale determined by the shapes cannot be overridden; prefixes of training
/// scripts are ignored.
#[test]
fn shapes_determine_the_scale() {
    let dir = tempfile::tempdir().unwrap();
    let compact = Architecture::Compact(compact::Config {
        width: 5,
        depth: 2,
        ..compact::Config::default()
    });
    let espcn = espcn::Config {
        width: 5,
        depth: 2,
        reparam: false,
    };
    for architecture in [compact, Architecture::Espcn(espcn)] {
        tells_its_scale(dir.path(), &architecture);
    }
}

fn tells_its_scale(dir: &Path, architecture: &Architecture) {
    let ours = dir.join("ours.safetensors");
    let scales = Scales::list([Scale::whole(3)]);
    common::save(&ours, architecture.clone(), scales.clone(), 8);
    let tensors = Checkpoint::open(&ours).unwrap().tensors().clone();
    for prefix in ["", "module.", "module.net."] {
        let path = dir.join("theirs.safetensors");
        let named = tensors
            .iter()
            .map(|(name, t)| (format!("{prefix}{name}"), t.clone()));
        write(&path, named.collect());
        let (found, network) = Checkpoint::open(&path)
            .unwrap()
            .network(&LoadOverrides::default())
            .unwrap();
        assert_eq!((&found, network.scales()), (architecture, &scales));
        let hints = LoadOverrides::default().with_scales([Scale::whole(2)]);
        let error = Model::open_with(&path, None, &hints)
            .unwrap_err()
            .to_string();
        assert!(error.contains("for scale 3, not for 2"), "{error}");
    }
}

/// Keys of training scripts before the names of tensors; averaged weights (EMA)
/// are preferred.
#[test]
fn one_of_several_networks_is_read_from_a_flat_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.safetensors");
    let architecture = Architecture::Compact(compact::Config {
        width: 5,
        depth: 2,
        ..compact::Config::default()
    });
    let scales = Scales::list([Scale::whole(2)]);
    let [ours, others] =
        [8, 9].map(|seed| common::noise_weights_for(&architecture, scales.clone(), seed));
    for (selected, other) in [
        ("net_g", "net_d"),
        ("netG", "netD"),
        ("generator", "discriminator"),
        ("params_ema", "params"),
        ("ema.module", "model"),
        ("model_ema", "model"),
        ("state_dict.ema_model", "state_dict.model"),
    ] {
        let named = |prefix: &str, tensors: &[(String, Tensor)]| -> Vec<_> {
            let named = tensors.iter();
            named
                .map(|(name, t)| (format!("{prefix}.{name}"), t.clone()))
                .collect()
        };
        let mut tensors = named(selected, &ours);
        tensors.extend(named(other, &others));
        write(&path, tensors);
        let file = Checkpoint::open(&path).unwrap();
        let found = file.contents(&LoadOverrides::default()).unwrap();
        assert_eq!(found.architecture, architecture, "{selected}");
        for (name, tensor) in &ours {
            let [found, expected] =
                [&found.tensors[name], tensor].map(|t| t.flatten_all().unwrap());
            let values = |t: Tensor| t.to_vec1::<f32>().unwrap();
            assert_eq!(values(found), values(expected), "{selected} {name}");
        }
        assert_eq!(found.unused.len(), others.len());
        assert!(found.unused.iter().all(|name| name.starts_with(other)));
        // Another one by its name.
        let hints = LoadOverrides::default().with_key(other);
        let found = file.contents(&hints).unwrap();
        assert!(found.unused.iter().all(|name| name.starts_with(selected)));
    }
}

/// Counters, flags and other values next to the weights, of any type.
#[test]
fn tensors_that_do_not_belong_are_named() {
    use safetensors::{Dtype, tensor::TensorView};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.safetensors");
    let architecture = Architecture::Compact(compact::Config {
        width: 5,
        depth: 2,
        ..compact::Config::default()
    });
    let scales = Scales::list([Scale::whole(2)]);
    let weights = common::noise_weights_for(&architecture, scales, 8);
    let weights: Vec<_> = weights
        .iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.as_str(), tensor.dims().to_vec(), bytes)
        })
        .collect();
    for (dtype, shape, bytes) in [
        (Dtype::BOOL, vec![2], vec![1, 0]),
        (Dtype::I8, vec![2], vec![1, 0xff]),
        (Dtype::U16, vec![], vec![1, 0]),
        (Dtype::I64, vec![1], vec![0; 8]),
        (Dtype::F8_E5M2, vec![3], vec![0x3c; 3]),
        (Dtype::F8_E4M3, vec![3], vec![0x38; 3]),
        (Dtype::C64, vec![1], vec![0; 8]),
        (Dtype::F32, vec![], vec![0; 4]),
        (Dtype::F32, vec![0], vec![]),
    ] {
        for name in ["counter", "body.counter"] {
            let mut tensors: Vec<_> = (weights.iter())
                .map(|(name, shape, bytes)| {
                    (
                        *name,
                        TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
                    )
                })
                .collect();
            tensors.push((name, TensorView::new(dtype, shape.clone(), &bytes).unwrap()));
            std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
            let file = Checkpoint::open(&path).unwrap();
            let found = file.contents(&LoadOverrides::default()).unwrap();
            assert_eq!(found.architecture, architecture, "{dtype:?}");
            assert_eq!(found.unused, [name]);
            assert!(file.listing().iter().any(|t| t.name == name));
            Model::open(&path).unwrap();
        }
    }
}

/// A compact network on one plane, and networks for scale 1.
#[test]
fn compact_networks_have_one_plane_or_three_and_any_factor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.safetensors");
    for channels in [Channels::Luma, Channels::Rgb] {
        for factor in [1, 2] {
            let architecture = Architecture::Compact(compact::Config {
                width: 5,
                depth: 2,
                channels,
            });
            let scales = Scales::list([Scale::whole(factor)]);
            let tensors = common::noise_weights_for(&architecture, scales.clone(), 8);
            write(&path, tensors.clone());
            let model = Model::open(&path).unwrap();
            assert_eq!((model.channels(), model.scales()), (channels, &scales));
            assert_eq!(model.restores(), factor == 1);
            assert_eq!(model.cascade(Scale::ONE).len(), usize::from(factor == 1));
            // Its own files keep the planes.
            common::save(&path, architecture.clone(), scales, 8);
            let card = Checkpoint::open(&path).unwrap().card().unwrap().unwrap();
            assert_eq!(card.architecture, architecture);
        }
    }
}

#[test]
fn the_published_hypernetwork_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hnet.safetensors");
    let config = hypersrcnn::Config {
        embedding: hypersrcnn::Embedding::Table(4),
        hidden: [6, 5],
        target: srcnn::Config::rgb(),
    };
    write(
        &path,
        common::noise_weights(&Architecture::HyperSrcnn(config), 2),
    );
    let loaded = Model::open_with(&path, None, &LoadOverrides::default()).unwrap();
    assert_eq!(loaded.name(), "hypersrcnn-rgb");
    assert_eq!(loaded.scales().to_string(), "2, 4, 8, 16");
    assert!(loaded.for_scale(Scale::whole(4)).is_ok());
    assert!(loaded.for_scale(Scale::whole(3)).is_err());
    assert_eq!(loaded.cascade(Scale::whole(3)), [Scale::whole(4)]);
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/nowhere/weights.safetensors");
    let error = Model::open_with(path, None, &LoadOverrides::default()).unwrap_err();
    assert!(matches!(error, Error::File { .. }));
    refusal(path);
}

#[test]
fn files_of_other_formats_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other");
    for (bytes, words) in [
        (&b"PK\x03\x04rest"[..], "zip"),
        (b"\x80\x02}q\x00.", "pickle"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = refusal(&path);
        assert!(text.contains(words), "{text}");
    }
    for (bytes, words) in [
        (&b""[..], "empty"),
        (&b"\x89PNG\r\n\x1a\n"[..], "PNG"),
        (&b"just some words in a file"[..], "unknown"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = refusal(&path);
        assert!(
            text.contains("safetensors") && text.contains(words),
            "{text}"
        );
    }
}

#[test]
fn every_truncation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    let bytes = std::fs::read(file).unwrap();
    let path = dir.path().join("cut");
    for len in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..len]).unwrap();
        refusal(&path);
    }
}

#[test]
fn not_a_number_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for value in [f32::NAN, f32::INFINITY] {
        let config = srcnn::Config::default();
        let mut tensors = common::noise_weights(&Architecture::Srcnn(config), 1);
        let bias = tensors.iter_mut().find(|t| t.0 == "conv2.bias").unwrap();
        let mut values = bias.1.to_vec1::<f32>().unwrap();
        values[3] = value;
        bias.1 = Tensor::new(values, &Device::Cpu).unwrap();
        let path = dir.path().join("nan");
        write(&path, tensors);
        let text = refusal(&path);
        assert!(
            text.contains("conv2.bias") && text.contains("NaN"),
            "{text}"
        );
    }
}

#[test]
fn wrong_shapes_and_unknown_architectures_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd");
    let ones = |shape: &[usize]| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu);
    write(
        &path,
        vec![("body.0.weight".into(), ones(&[64, 3, 3, 3]).unwrap())],
    );
    let text = refusal(&path);
    assert!(text.contains("body.0.weight [64, 3, 3, 3]"), "{text}");
    let mut tensors = common::noise_weights(&Architecture::Srcnn(srcnn::Config::default()), 1);
    tensors.retain(|(name, _)| name != "conv2.bias");
    tensors.push(("conv2.bias".into(), ones(&[31]).unwrap()));
    write(&path, tensors);
    let text = refusal(&path);
    assert!(text.contains("32") && text.contains("31"), "{text}");
    // A card whose network differs from the file's tensors.
    let config = common::small_srcnn(Channels::Luma, Border::Zero);
    let tensors = common::noise_weights(&Architecture::Srcnn(config), 1);
    let card = srfilter::weights::Card {
        architecture: Architecture::Srcnn(srcnn::Config::default()),
        scales: Scales::Any,
        training_data: String::new(),
        recipe_sha256: String::new(),
        quality: String::new(),
        int8_loss: None,
    };
    Checkpoint::save(&path, &tensors, &card).unwrap();
    let text = refusal(&path);
    assert!(text.contains("conv1.weight"), "{text}");
}

#[test]
fn a_file_of_another_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    assert!(Model::open_with(&path, Some("srcnn"), &LoadOverrides::default()).is_ok());
    for model in ["hypersrcnn", "srcnn-rgb", "bicubic", "no-such"] {
        let error = Model::open_with(&path, Some(model), &LoadOverrides::default()).unwrap_err();
        assert!(error.to_string().contains(model), "{error}");
    }
}

#[test]
fn a_model_without_weights_says_how_to_get_some() {
    let without = srfilter::models::MODELS
        .iter()
        .filter(|m| m.built_in.is_empty() && (m.architecture)().is_some());
    for model in without {
        let text = Model::builtin(model.name).unwrap_err().to_string();
        assert!(text.contains(&format!("--model {}", model.name)), "{text}");
        assert!(text.contains("weights="), "{text}");
    }
}

#[test]
fn built_in_weights_load_and_serve_their_scales() {
    for model in srfilter::models::MODELS {
        if model.built_in.is_empty() {
            continue;
        }
        let loaded = Model::builtin(model.name).unwrap();
        assert_eq!(
            loaded.channels(),
            (model.architecture)().unwrap().channels()
        );
        for scale in ["2", "3", "4", "8", "3/2"] {
            let stages = loaded.cascade(scale.parse().unwrap());
            assert!(!stages.is_empty(), "{} has no way to x{scale}", model.name);
            assert!(stages.iter().all(|&stage| loaded.for_scale(stage).is_ok()));
        }
    }
}

/// Weights are generated for every scale, once, and cached.
#[test]
fn a_hypernetwork_generates_weights_for_every_scale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hyper.safetensors");
    let architecture = Architecture::HyperSrcnn(hypersrcnn::Config::default());
    common::save(&path, architecture, Scales::Any, 4);
    let loaded = Model::open_with(&path, None, &LoadOverrides::default()).unwrap();
    let output = |scale: &str| {
        let network = loaded.for_scale(scale.parse().unwrap()).unwrap();
        let x = Tensor::ones((1, 1, 12, 12), candle_core::DType::F32, &Device::Cpu).unwrap();
        let y = network.forward(&(x * 0.5).unwrap()).unwrap();
        y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let outputs: Vec<_> = ["3/2", "2", "17/8", "16"].map(output).into();
    for (i, a) in outputs.iter().enumerate() {
        assert!(outputs[i + 1..].iter().all(|b| a != b));
    }
    let (a, b) = (
        loaded.for_scale(Scale::whole(5)).unwrap(),
        loaded.for_scale(Scale::whole(5)).unwrap(),
    );
    assert!(std::sync::Arc::ptr_eq(&a, &b));
    assert_eq!(
        loaded.cascade("7/3".parse().unwrap()),
        ["7/3".parse().unwrap()]
    );
}

proptest! {
    /// Reading arbitrary bytes ends with a value or an error.
    #[test]
    fn broken_files_never_panic(at in 0usize..4000, byte: u8, cut in 0usize..4000) {
        let dir = tempfile::tempdir().unwrap();
        let path = common::small_file(dir.path(), Channels::Luma, Border::Zero);
        let mut bytes = std::fs::read(path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        let cut = bytes.len() - cut % bytes.len();
        if let Ok(checkpoint) = Checkpoint::from_bytes("mutated", &bytes[..cut]) {
            let _ = checkpoint.network(&LoadOverrides::default());
        }
    }
}
