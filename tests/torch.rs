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
            assert!(found.format().contains(wrapper), "{}", found.format());
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

/// A network saved as by PyTorch loads from its path.
#[test]
fn a_checkpoint_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let architecture = Architecture::Compact(compact::Config { width: 5, depth: 2 });
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
