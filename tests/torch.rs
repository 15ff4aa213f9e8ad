//! PyTorch checkpoints: valid and malicious ones.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
#[path = "common/torch.rs"]
mod writer;

use srfilter::models::{Architecture, Scales, compact};
use srfilter::ops::Border;
use srfilter::weights::{Checkpoint, LoadOverrides, Model};
use srfilter::{Scale, models};
use std::time::{Duration, Instant};
use writer::{Form, Part, Pickle, Stored, file, legacy, zipped};
use zip::CompressionMethod;

const FORMS: [Form; 2] = [Form::Zip, Form::Legacy];

fn read(bytes: &[u8]) -> Checkpoint {
    Checkpoint::from_bytes("test.pth", bytes).unwrap()
}

/// The error for a file; must come quickly.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    let start = Instant::now();
    let error = Checkpoint::from_bytes("test.pth", bytes).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "took too long");
    let text = error.to_string();
    assert!(text.starts_with("test.pth: "), "{text}");
    assert!(text.len() < 2000, "a message of {} bytes", text.len());
    text
}

fn values(file: &Checkpoint, name: &str) -> Vec<f32> {
    file.tensors()[name]
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn part<'a>(name: &'a str, shape: &'a [usize], strides: &'a [usize]) -> Part<'a> {
    Part {
        name,
        storage: 0,
        offset: 0,
        shape,
        strides,
    }
}

/// A file with a single tensor.
fn single(form: Form, stored: Stored, part: &Part<'_>) -> Vec<u8> {
    let stored = [stored];
    let pickle = Pickle::new().state(form, &stored, std::slice::from_ref(part));
    file(form, &pickle.done(), &stored)
}

#[test]
fn tensors_may_share_skip_and_turn_what_is_stored() {
    let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
    for form in FORMS {
        let stored = [Stored::floats("17", &numbers)];
        let parts = [
            part("rows", &[3, 4], &[4, 1]),
            part("turned", &[2, 3], &[1, 4]),
            Part {
                offset: 5,
                ..part("one", &[], &[])
            },
            part("none", &[0, 3], &[3, 1]),
        ];
        let pickle = Pickle::new().state(form, &stored, &parts).done();
        let file = read(&file(form, &pickle, &stored));
        assert_eq!(file.tensors()["rows"].dims(), [3, 4]);
        assert_eq!(values(&file, "rows"), numbers);
        assert_eq!(values(&file, "turned"), [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert_eq!(values(&file, "one"), [5.0]);
        assert_eq!(file.tensors()["none"].dims(), [0, 3]);
        let listed: Vec<_> = file.listing().iter().map(|l| l.name.as_str()).collect();
        assert_eq!(listed, ["rows", "turned", "one", "none"]);
    }
}

#[test]
fn every_type_of_values_is_read() {
    let halves = [half::f16::from_f32(1.5), half::f16::from_f32(-2.0)];
    let brains = [half::bf16::from_f32(1.5), half::bf16::from_f32(-2.0)];
    let cases: [(&str, &str, Vec<u8>, [f32; 2]); 10] = [
        (
            "DoubleStorage",
            "F64",
            bytes([1.5f64, -2.0].map(f64::to_le_bytes)),
            [1.5, -2.0],
        ),
        (
            "FloatStorage",
            "F32",
            bytes([1.5f32, -2.0].map(f32::to_le_bytes)),
            [1.5, -2.0],
        ),
        (
            "HalfStorage",
            "F16",
            bytes(halves.map(half::f16::to_le_bytes)),
            [1.5, -2.0],
        ),
        (
            "BFloat16Storage",
            "BF16",
            bytes(brains.map(half::bf16::to_le_bytes)),
            [1.5, -2.0],
        ),
        (
            "LongStorage",
            "I64",
            bytes([3i64, -2].map(i64::to_le_bytes)),
            [3.0, -2.0],
        ),
        (
            "IntStorage",
            "I32",
            bytes([3i32, -2].map(i32::to_le_bytes)),
            [3.0, -2.0],
        ),
        (
            "ShortStorage",
            "I16",
            bytes([3i16, -2].map(i16::to_le_bytes)),
            [3.0, -2.0],
        ),
        ("CharStorage", "I8", vec![3, 0xfe], [3.0, -2.0]),
        ("ByteStorage", "U8", vec![3, 254], [3.0, 254.0]),
        ("BoolStorage", "BOOL", vec![1, 0], [1.0, 0.0]),
    ];
    for form in FORMS {
        for (class, dtype, bytes, expected) in &cases {
            let stored = Stored {
                class,
                key: "0".to_owned(),
                bytes: bytes.clone(),
                len: 2,
            };
            let file = read(&single(form, stored, &part("x", &[2], &[1])));
            assert_eq!(values(&file, "x"), expected, "{class}");
            assert_eq!(file.listing()[0].dtype, *dtype);
        }
        let stored = Stored {
            class: "ComplexFloatStorage",
            ..Stored::floats("0", &[1.0, 2.0])
        };
        let text = refusal(&single(form, stored, &part("x", &[1], &[1])));
        assert!(text.contains("torch.ComplexFloatStorage"), "{text}");
    }
}

fn bytes<const N: usize>(values: [[u8; N]; 2]) -> Vec<u8> {
    values.concat()
}

/// Stored entries, as PyTorch writes them, and DEFLATED ones.
#[test]
fn archives_may_be_compressed() {
    let stored = [Stored::floats("0", &[0.25; 300])];
    let parts = [part("x", &[300], &[1])];
    let pickle = Pickle::new().state(Form::Zip, &stored, &parts).done();
    let [plain, packed] = [CompressionMethod::Stored, CompressionMethod::Deflated]
        .map(|method| zipped(&pickle, &stored, method));
    assert!(packed.len() < plain.len());
    for bytes in [plain, packed] {
        assert_eq!(values(&read(&bytes), "x"), [0.25; 300]);
    }
}

/// The network is found in nested dictionaries, and its path is reported.
#[test]
fn networks_are_found_in_their_wrappers() {
    let stored = [
        Stored::floats("0", &[1.0, 2.0]),
        Stored::floats("1", &[3.0]),
    ];
    let [best, other] =
        [("x", 0, 2), ("y", 1, 1)].map(|(name, storage, len)| (name, storage, [len]));
    let state = |pickle: Pickle, form, (name, storage, shape): (&str, usize, [usize; 1])| {
        let part = Part {
            storage,
            ..part(name, &shape, &[1])
        };
        pickle.state(form, &stored, &[part])
    };
    for form in FORMS {
        for (wrapper, sibling) in [
            ("params_ema", "params"),
            ("params-ema", "params"),
            ("model_ema", "model"),
            ("ema_model", "model"),
            ("state_dict_ema", "state_dict"),
            ("ema", "model"),
            ("ema", "net_g"),
            ("params", "discriminator"),
            ("model_state_dict", "optimizer_state_dict"),
            ("hnet_state_dict", "loss"),
            ("state_dict", "best"),
            ("generator", "discriminator"),
        ] {
            // The order in the file does not matter.
            let pickle = Pickle::new().op(b"}(").text("epoch").int(7).text(sibling);
            let pickle = state(pickle, form, other).text(wrapper);
            let pickle = state(pickle, form, best).op(b"u").done();
            let found = read(&file(form, &pickle, &stored));
            assert_eq!(values(&found, "x"), [1.0, 2.0], "{wrapper}");
            assert_eq!(found.tensors().len(), 1);
            let format = found.format();
            assert!(format.contains(&format!("'{wrapper}'")), "{format}");
            if wrapper.contains("ema") {
                let passed_over = format!("rather than '{sibling}'");
                assert!(format.contains(&passed_over), "{format}");
            }
        }
        // An unknown key, but the only network.
        let pickle = Pickle::new()
            .op(b"}(")
            .text("step")
            .int(1)
            .text("weights_of_mine");
        let pickle = state(pickle, form, best).op(b"u").done();
        let found = read(&file(form, &pickle, &stored[..1]));
        assert!(found.format().contains("weights_of_mine"));
        // No tensor at all.
        let pickle = Pickle::new().op(b"}(").text("epoch").int(1).op(b"u").done();
        let text = refusal(&file(form, &pickle, &[]));
        assert!(
            text.contains("params_ema") && text.contains("epoch"),
            "{text}"
        );
    }
}

/// A pickled module of an unknown class.
#[test]
fn modules_are_read_as_their_state() {
    let stored = [Stored::floats("0", &[1.0, 2.0])];
    let module = |inner: Pickle, parameters: &str, form| {
        let part = part(parameters, &[2], &[1]);
        let pickle = inner
            .op(b"(")
            .text("storage_is_elsewhere")
            .int(1)
            .text("_parameters");
        pickle.state(form, &stored, &[part])
    };
    for form in FORMS {
        let pickle = Pickle::new().op(b"}(").text("model");
        // The class as a persistent id, with its source, as in old files.
        let pickle = pickle.op(b"(").text("module").global("models", "SRResNet");
        let pickle = pickle.text("models.py").text("import os").op(b"tQ)\x81}");
        let pickle = module(pickle, "outer", form).text("_modules").op(b"}(");
        let pickle = pickle
            .text("conv")
            .global("torch.nn", "Conv2d")
            .op(b")\x81}");
        let pickle = module(pickle, "weight", form).op(b"ubuubu").done();
        let found = read(&file(form, &pickle, &stored));
        let mut names: Vec<_> = found.tensors().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["conv.weight", "outer"]);
        assert!(found.format().contains("'model'"), "{}", found.format());
    }
}

/// A checkpoint of a compact network, its tensors' names changed by `rename`;
/// the tensors of `others` are added, `f32` each.
fn compact_state(
    form: Form,
    rename: impl Fn(&str) -> String,
    others: &[(&str, &[usize])],
    wrap: impl Fn(Pickle) -> Pickle,
) -> (Vec<u8>, Vec<(String, Vec<f32>)>) {
    let architecture = Architecture::Compact(compact::Config {
        width: 5,
        depth: 2,
        ..compact::Config::default()
    });
    let scales = Scales::list([Scale::whole(2)]);
    let tensors = common::noise_weights_for(&architecture, scales, 8);
    let mut stored = Vec::new();
    let mut parts: Vec<(String, Vec<usize>)> = Vec::new();
    let mut expected = Vec::new();
    for (name, tensor) in tensors {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        parts.push((rename(&name), tensor.dims().to_vec()));
        stored.push(Stored::floats(&stored.len().to_string(), &values));
        expected.push((name, values));
    }
    for (name, shape) in others {
        let count = shape.iter().product();
        parts.push(((*name).to_owned(), shape.to_vec()));
        stored.push(Stored::floats(&stored.len().to_string(), &vec![0.5; count]));
    }
    let strides: Vec<Vec<usize>> = parts.iter().map(|(_, shape)| strides(shape)).collect();
    let parts: Vec<Part<'_>> = (parts.iter().zip(&strides).enumerate())
        .map(|(i, ((name, shape), strides))| Part {
            storage: i,
            ..part(name, shape, strides)
        })
        .collect();
    let state = wrap(Pickle::new()).state(form, &stored, &parts);
    // Closes the dictionary that `wrap` opened, if any.
    let close: &[u8] = if wrap(Pickle::new()).0.len() > 2 {
        b"s"
    } else {
        b""
    };
    (file(form, &state.op(close).done(), &stored), expected)
}

/// The strides of a dense tensor.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|i| shape[i + 1..].iter().product())
        .collect()
}

/// Checks that a file holds a network with these weights; returns the names of
/// the other tensors.
#[track_caller]
fn expect_network(
    bytes: &[u8],
    hints: &LoadOverrides,
    expected: &[(String, Vec<f32>)],
) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.pth");
    std::fs::write(&path, bytes).unwrap();
    let found = Checkpoint::open_with(&path, hints).unwrap();
    let contents = found.contents(hints).unwrap();
    assert_eq!(contents.architecture.name(), "compact");
    assert_eq!(contents.tensors.len(), expected.len());
    for (name, values) in expected {
        let tensor = contents.tensors[name].flatten_all().unwrap();
        assert_eq!(&tensor.to_vec1::<f32>().unwrap(), values, "{name}");
    }
    contents.unused
}

/// The state of torch.optim.swa_utils.AveragedModel, alone and under a key.
#[test]
fn averaged_models_are_read() {
    let wrap: fn(Pickle) -> Pickle = |pickle| pickle.op(b"}").text("ema");
    for form in FORMS {
        for wrap in [|pickle| pickle, wrap] {
            let module = |name: &str| format!("module.{name}");
            let (bytes, expected) = compact_state(form, module, &[("n_averaged", &[])], wrap);
            let unused = expect_network(&bytes, &LoadOverrides::default(), &expected);
            assert_eq!(unused, ["n_averaged"]);
        }
    }
}

/// A file of Lightning: networks and losses in one state, under its own keys.
#[test]
fn the_generator_is_read_from_a_file_of_lightning() {
    let others: [(&str, &[usize]); 2] = [("discriminator.0.weight", &[4, 3, 3, 3]), ("steps", &[])];
    for form in FORMS {
        for prefix in ["generator", "net_g", "netG", "model.generator"] {
            let rename = |name: &str| format!("{prefix}.{name}");
            let wrap = |pickle: Pickle| pickle.op(b"}").text("state_dict");
            let (bytes, expected) = compact_state(form, rename, &others, wrap);
            for hints in [
                LoadOverrides::default(),
                LoadOverrides::default().with_key(prefix),
            ] {
                let unused = expect_network(&bytes, &hints, &expected);
                assert_eq!(unused, ["discriminator.0.weight", "steps"]);
            }
            let hints = LoadOverrides::default().with_key("discriminator");
            let found = read(&bytes).contents(&hints).unwrap_err().to_string();
            assert!(found.contains("0.weight [4, 3, 3, 3]"), "{found}");
            let hints = LoadOverrides::default().with_key("elsewhere");
            let found = read(&bytes).contents(&hints).unwrap_err().to_string();
            assert!(found.contains("under discriminator, "), "{found}");
        }
    }
}

/// `--key` names a dictionary that is not preferred.
#[test]
fn a_key_chooses_among_dictionaries() {
    let stored = [
        Stored::floats("0", &[1.0, 2.0]),
        Stored::floats("1", &[3.0]),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.pth");
    for form in FORMS {
        let mut pickle = Pickle::new().op(b"}(");
        for (key, storage, len) in [("params_ema", 0, [2]), ("params", 1, [1])] {
            let part = Part {
                storage,
                ..part("x", &len, &[1])
            };
            pickle = pickle.text(key).state(form, &stored, &[part]);
        }
        std::fs::write(&path, file(form, &pickle.op(b"u").done(), &stored)).unwrap();
        for (hints, expected) in [
            (LoadOverrides::default(), vec![1.0, 2.0]),
            (LoadOverrides::default().with_key("params"), vec![3.0]),
        ] {
            let found = Checkpoint::open_with(&path, &hints).unwrap();
            assert_eq!(values(&found, "x"), expected);
        }
    }
}

/// An instance of a class with attributes, as TorchScript pickles modules.
fn script_module(pickle: Pickle, class: &str) -> Pickle {
    pickle
        .global("__torch__", class)
        .op(b")\x81}(")
        .text("training")
        .op(b"\x88")
}

/// A TorchScript archive: its modules are read as a state, its code is not.
#[test]
fn torchscript_is_read_as_its_state() {
    let stored = [Stored::floats("0", &[1.0, 2.0])];
    let archive = |pickle: Pickle| {
        let more: [(&str, &[u8]); 2] = [
            ("constants.pkl", b"\x80\x02)."),
            ("code/__torch__.py", b"class Net(Module):"),
        ];
        writer::zipped_with(&pickle.done(), &stored, &more, CompressionMethod::Stored)
    };
    let conv = script_module(Pickle::new(), "Net").text("body");
    let conv = script_module(conv, "ModuleList").text("0");
    let conv = script_module(conv, "Conv2d").text("weight");
    let conv = conv.tensor(Form::Zip, &stored[0], &part("", &[2], &[1]));
    let conv = conv.text("_reversed_padding_repeated_twice");
    let conv = conv.global("torch.jit._pickle", "build_intlist");
    let conv = conv.op(b"(](").int(1).int(1).op(b"etR");
    let found = read(&archive(conv.op(b"ububub")));
    assert_eq!(values(&found, "body.0.weight"), [1.0, 2.0]);
    assert_eq!(found.format(), "TorchScript archive");
    // Frozen: the weights are constants.
    let frozen = script_module(Pickle::new(), "Net").op(b"ub");
    let text = refusal(&archive(frozen));
    assert!(text.contains("state_dict()"), "{text}");
}

/// Types without a storage class, as torch 2.15 writes them.
#[test]
fn tensors_of_untyped_storages_are_read() {
    let cases: [(&str, &str, &[u8], &[f32]); 5] = [
        ("float8_e5m2", "F8_E5M2", &[0x3c, 0xc1], &[1.0, -2.5]),
        (
            "float8_e4m3fn",
            "F8_E4M3",
            &[0x38, 0xc1, 0x01],
            &[1.0, -2.25, 1.0 / 512.0],
        ),
        ("uint16", "U16", &[1, 0, 0xff, 0xff], &[1.0, 65535.0]),
        ("uint32", "U32", &[1, 0, 0, 0x80], &[2147483649.0]),
        ("uint64", "U64", &[3, 0, 0, 0, 0, 0, 0, 0], &[3.0]),
    ];
    for (dtype, name, bytes, expected) in cases {
        let stored = [Stored {
            class: "UntypedStorage",
            key: "0".to_owned(),
            bytes: bytes.to_vec(),
            len: bytes.len(),
        }];
        let pickle = Pickle::new().op(b"}").text("x");
        let pickle = pickle
            .untyped(&stored[0], &[expected.len()], dtype)
            .op(b"s");
        let found = read(&zipped(&pickle.done(), &stored, CompressionMethod::Stored));
        assert_eq!(values(&found, "x"), expected, "{dtype}");
        assert_eq!(found.listing()[0].dtype, name);
    }
}

/// A network saved as by PyTorch loads from its path.
#[test]
fn a_checkpoint_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let architecture = Architecture::Compact(compact::Config {
        width: 5,
        depth: 2,
        ..compact::Config::default()
    });
    let ours = dir.path().join("ours.safetensors");
    let scales = Scales::list([Scale::whole(2)]);
    common::save(&ours, architecture.clone(), scales, 8);
    let tensors = Checkpoint::open(&ours).unwrap();
    let tensors: Vec<_> = tensors.tensors().iter().collect();
    let stored: Vec<Stored> = (tensors.iter().enumerate())
        .map(|(i, (_, t))| {
            Stored::floats(&i.to_string(), &t.flatten_all().unwrap().to_vec1().unwrap())
        })
        .collect();
    for form in FORMS {
        let names: Vec<String> = tensors.iter().map(|(n, _)| format!("module.{n}")).collect();
        let strides: Vec<&[usize]> = tensors.iter().map(|(_, t)| t.stride()).collect();
        let parts: Vec<Part<'_>> = (0..tensors.len())
            .map(|i| Part {
                storage: i,
                ..part(&names[i], tensors[i].1.dims(), strides[i])
            })
            .collect();
        let pickle = Pickle::new().op(b"}").text("params");
        let pickle = pickle.state(form, &stored, &parts).op(b"s").done();
        let path = dir.path().join("theirs.pth");
        std::fs::write(&path, file(form, &pickle, &stored)).unwrap();
        let loaded = Model::open_with(&path, None, &LoadOverrides::default()).unwrap();
        assert_eq!(
            (loaded.name(), loaded.scales().to_string()),
            ("compact", "2".to_owned())
        );
        let contents = Checkpoint::open(&path)
            .unwrap()
            .contents(&LoadOverrides::default());
        assert_eq!(contents.unwrap().architecture, architecture);
    }
}

#[test]
fn no_function_is_called() {
    for form in FORMS {
        for (module, name) in [("os", "system"), ("builtins", "eval"), ("posix", "system")] {
            let pickle = Pickle::new()
                .global(module, name)
                .op(b"(")
                .text("touch /tmp/owned");
            let text = refusal(&file(form, &pickle.op(b"tR").done(), &[]));
            assert!(text.contains(&format!("{module}.{name}")), "{text}");
        }
    }
}

/// Pickles that are not checkpoints.
#[test]
fn other_pickles_are_refused() {
    let text = refusal(&Pickle::new().op(b"}").done());
    assert!(text.contains("torch.save"), "{text}");
    for opcode in 0..=255u8 {
        // Each opcode with an empty stack.
        let _ = Checkpoint::from_bytes("any", &legacy(&[0x80, 2, opcode], &[]));
        let _ = Checkpoint::from_bytes("any", &legacy(&[0x80, 2, b'(', opcode, b'.'], &[]));
    }
}

#[test]
fn every_truncation_is_refused() {
    for form in FORMS {
        let complete = single(
            form,
            Stored::floats("0", &[1.0, 2.0]),
            &part("x", &[2], &[1]),
        );
        assert_eq!(values(&read(&complete), "x"), [1.0, 2.0]);
        for len in 0..complete.len() {
            refusal(&complete[..len]);
        }
    }
}

/// Stated sizes that exceed the file.
#[test]
fn excessive_sizes_are_refused() {
    const HUGE: usize = 1 << 40;
    for form in FORMS {
        let two = || Stored::floats("0", &[1.0, 2.0]);
        for part in [
            part("x", &[HUGE], &[1]),
            part("x", &[HUGE, HUGE], &[1, 1]),
            part("x", &[0, HUGE, HUGE], &[1, 1, 1]),
            // Many values from a few, with stride 0.
            part("x", &[HUGE], &[0]),
            part("x", &[5], &[0]),
            part("x", &[2], &[2]),
            part("x", &[2], &[usize::MAX / 2]),
            Part {
                offset: 1,
                ..part("x", &[2], &[1])
            },
            Part {
                offset: HUGE,
                ..part("x", &[1], &[1])
            },
            part("x", &[2, 1], &[1]),
            part("x", &[1; 9], &[1; 9]),
        ] {
            refusal(&single(form, two(), &part));
        }
        for len in [3, HUGE, usize::MAX / 2] {
            let lying = Stored { len, ..two() };
            refusal(&single(form, lying, &part("x", &[len], &[1])));
        }
    }
    // Strings and bytes that would exhaust the memory.
    for huge in [
        &b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"[..],
        b"X\xff\xff\xff\xff",
        b"B\0\0\0\xf0",
    ] {
        refusal(&legacy(&Pickle::new().op(huge).done(), &[]));
    }
}

/// A thousand tensors share one storage.
#[test]
fn shared_storages_have_a_limit() {
    for form in FORMS {
        let stored = [Stored::floats("0", &[0.5; 1000])];
        let names: Vec<String> = (0..1000).map(|i| format!("x{i}")).collect();
        let parts = names.iter().map(|name| part(name, &[1000], &[1]));
        let parts: Vec<_> = parts.collect();
        let pickle = Pickle::new().state(form, &stored, &parts).done();
        let text = refusal(&file(form, &pickle, &stored));
        assert!(text.contains("more values than the file stores"), "{text}");
    }
}

#[test]
fn zip_bombs_are_refused() {
    // 256 MiB of zeros in a file of 260 kB.
    let len = 1 << 26;
    let bomb = Stored {
        class: "FloatStorage",
        key: "0".to_owned(),
        bytes: vec![0; 4 * len],
        len,
    };
    let text = refusal(&single(Form::Zip, bomb, &part("x", &[len], &[1])));
    assert!(text.contains("zip bomb"), "{text}");
}

/// Depth, width and cycles that would keep a naive reader busy.
#[test]
fn nesting_is_limited() {
    let deep = |open: &[u8], close: &[u8]| {
        let mut pickle = Pickle::new();
        for _ in 0..200_000 {
            pickle = pickle.op(open);
        }
        for _ in 0..200_000 {
            pickle = pickle.op(close);
        }
        pickle.done()
    };
    refusal(&legacy(&deep(b"(", b"t"), &[]));
    refusal(&legacy(&deep(b"]", b"a"), &[]));
    // Nested dictionaries under a known key.
    let mut pickle = Pickle::new().op(b"}");
    for _ in 0..1000 {
        pickle = pickle.text("model").op(b"}");
    }
    refusal(&legacy(&pickle.op(&[b's'; 1000]).done(), &[]));
    // A dictionary in itself.
    let pickle = Pickle::new().op(b"}q\x00").text("model").op(b"h\x00s");
    refusal(&legacy(&pickle.done(), &[]));
    // Modules that each contain the next one twice.
    let mut pickle = Pickle::new();
    for i in 0..64u8 {
        pickle = pickle
            .global("a", "B")
            .op(b")\x81}(")
            .text("_parameters")
            .op(b"}");
        pickle = pickle.text("_modules").op(b"}");
        if i > 0 {
            pickle = pickle.op(b"(");
            for name in ["l", "r"] {
                pickle = pickle.text(name).op(&[b'h', i - 1]);
            }
            pickle = pickle.op(b"u");
        }
        pickle = pickle.op(&[b'u', b'b', b'q', i]);
    }
    let text = refusal(&legacy(&pickle.done(), &[]));
    assert!(text.contains("too deeply"), "{text}");
    // Endless opcodes and marks.
    refusal(&legacy(
        &Pickle::new().op(&vec![b'N'; 5_000_000]).done(),
        &[],
    ));
    refusal(&legacy(
        &Pickle::new().op(&vec![b'('; 5_000_000]).done(),
        &[],
    ));
}

/// Archives with a wrong directory.
#[test]
fn broken_archives_are_refused() {
    let complete = single(
        Form::Zip,
        Stored::floats("0", &[1.0, 2.0]),
        &part("x", &[2], &[1]),
    );
    // With any wrong byte, reading ends.
    for at in 0..complete.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = complete.clone();
            bytes[at] ^= change;
            let _ = Checkpoint::from_bytes("changed", &bytes);
        }
    }
    // A directory of a billion entries.
    let mut bytes = b"PK\x03\x04 and nothing else".to_vec();
    let at = bytes.len() as u64;
    let number = |value: u64| value.to_le_bytes();
    bytes.extend(
        b"PK\x06\x06"
            .iter()
            .chain(&number(44))
            .chain(&[45, 0, 45, 0]),
    );
    bytes.extend([0; 8]);
    for value in [1 << 30, 1 << 30, 46 << 30, 1 << 40] {
        bytes.extend(number(value));
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0".iter().chain(&number(at)));
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    refusal(&bytes);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("notes.txt", options).unwrap();
    let text = refusal(&zip.finish().unwrap().into_inner());
    assert!(text.contains("data.pkl"), "{text}");
}

/// Published files equal their safetensors twins, tensor by tensor.
#[test]
fn published_files_equal_their_twins() {
    for (theirs, twin) in [
        ("FSRCNN/fsrcnn_x2.pth", "FSRCNN/fsrcnn_x2.safetensors"),
        ("FSRCNN/fsrcnn_x3.pth", "FSRCNN/fsrcnn_x3.safetensors"),
        ("FSRCNN/fsrcnn_x4.pth", "FSRCNN/fsrcnn_x4.safetensors"),
        ("CARN-M/carn_m.pth", "CARN-M/carn_m.safetensors"),
    ] {
        let paths = [theirs, twin].map(|name| common::shared(&format!("weights/{name}")));
        let [Some(theirs), Some(twin)] = paths else {
            return;
        };
        let [theirs, twin] = [theirs, twin].map(|path| Checkpoint::open(path).unwrap());
        assert_eq!(theirs.format(), "legacy torch pickle");
        assert_eq!(theirs.tensors().len(), twin.tensors().len());
        for (name, expected) in twin.tensors() {
            assert_eq!(theirs.tensors()[name].dims(), expected.dims());
            assert_eq!(values(&theirs, name), values(&twin, name), "{name}");
        }
    }
}

/// The architectures of other published files.
#[test]
fn published_files_are_detected() {
    let open = |name: &str| {
        let path = common::shared(&format!("weights/{name}"))?;
        Some(Checkpoint::open(path).unwrap())
    };
    let Some(file) = open("SRCNN/seed_SRCNN_model_x2_955.pth") else {
        return;
    };
    let expected = Architecture::Srcnn(models::srcnn::Config::default());
    let found = file.contents(&LoadOverrides::default()).unwrap();
    assert_eq!(found.architecture, expected);
    assert_eq!(found.tensors["conv2.weight"].dims(), [32, 64, 5, 5]);
    let file = open("SRCNN/chxy95_SRCNN_x3_915.pkl").unwrap();
    let hints = LoadOverrides::default().with_border(Border::Replicate);
    let expected = Architecture::Srcnn(models::srcnn::Config {
        kernels: [9, 1, 5],
        border: Border::Replicate,
        ..models::srcnn::Config::default()
    });
    assert_eq!(file.contents(&hints).unwrap().architecture, expected);
    assert_eq!(file.format(), "legacy torch pickle");
    let file = open("RealESRGAN-animevideov3/realesr-animevideov3.pth").unwrap();
    assert_eq!(file.format(), "torch zip archive, 'params'");
    let found = file.contents(&LoadOverrides::default()).unwrap();
    assert_eq!(
        found.architecture,
        Architecture::Compact(compact::Config::default())
    );
    assert_eq!(found.scales.to_string(), "4");
    let weights: usize = found.tensors.values().map(|t| t.elem_count()).sum();
    assert_eq!(weights, 621_424);
}
