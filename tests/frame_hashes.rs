//! Hashes of upscaled frames: every model, pixel format and kind of scale, at
//! every CPU level. A change that keeps the output keeps
//! `tests/frame_hashes.txt`; one that changes it rewrites the file with
//! `SRFILTER_WRITE_HASHES=1 cargo test --release --workspace --test frame_hashes`.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use sha2::{Digest, Sha256};
use srfilter::Precision;
use srfilter::Scale;
use srfilter::cpu_level::{LEVEL_VARIABLE, Level, level as current_level};
use srfilter::engine::{DeviceChoice, FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::{Color, FrameMut, FrameRef, Matrix, PixelFormat, Range, Siting};
use srfilter::models::{self, Architecture, Scales, drct};
use srfilter::weights::{LoadOverrides, Model};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Set in the processes that compute at one level.
const CHILD: &str = "SRFILTER_HASHES_CHILD";

const SIZE: (usize, usize) = (18, 13);

/// Bytes of padding at the end of every row.
const PADDING: usize = 3;

/// Scale, and the output size if it is fixed.
const CASES: [(&str, Option<(usize, usize)>); 4] = [
    ("2", None),
    ("3", None),
    ("3/2", None),
    ("2", Some((41, 23))),
];

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frame_hashes.txt")
}

/// A model with its built-in weights, or with noise if it has none.
fn load(row: &models::ModelInfo, dir: &Path) -> Arc<Model> {
    let Some(architecture) = (row.architecture)().filter(|_| row.built_in.is_empty()) else {
        return Model::builtin(row.name).unwrap();
    };
    // A full DRCT takes seconds a frame; its depth changes no code path.
    let architecture = match architecture {
        Architecture::Drct(config) => Architecture::Drct(drct::Config {
            width: 12,
            groups: config.groups / 6,
            heads: 2,
            window: 4,
            growth: 4,
            ..config
        }),
        other => other,
    };
    let scales = match architecture.scales() {
        Some(scales) => scales,
        None => Scales::list([Scale::whole(2)]),
    };
    let path = dir.join(format!("{}.safetensors", row.name));
    common::save(&path, architecture, scales, 5);
    Model::open_with(&path, Some(row.name), &LoadOverrides::default()).unwrap()
}

/// The hash of the frame that a model computes.
fn hash(
    model: &Arc<Model>,
    format: PixelFormat,
    case: (&str, Option<(usize, usize)>),
    precision: Precision,
) -> String {
    let color = match case.1 {
        None => Color::new(
            Matrix::Bt601,
            Range::Limited,
            Siting {
                left: true,
                top: false,
            },
        ),
        Some(_) => Color::new(
            Matrix::Bt709,
            Range::Full,
            Siting {
                left: false,
                top: false,
            },
        ),
    };
    let frame_spec = FrameSpec::new(format, SIZE.0, SIZE.1).with_color(color);
    let mut spec = UpscaleSpec::scaled(frame_spec, case.0.parse().unwrap());
    spec.output = case.1.unwrap_or(spec.output);
    let planes = |size: (usize, usize)| -> Vec<(Vec<u8>, usize)> {
        let plane = |plane| {
            let (row, rows) = format.plane_size(plane, size.0, size.1);
            (vec![0; (row + PADDING) * rows], row + PADDING)
        };
        (0..format.planes()).map(plane).collect()
    };
    let mut input = planes(SIZE);
    let mut next = common::noise(3);
    for (data, stride) in &mut input {
        for (i, value) in data.iter_mut().enumerate() {
            let wave = (i % *stride * 5 + i / *stride * 9) % 200;
            *value = (wave as f64 + 55.0 * next()) as u8;
        }
    }
    let input: Vec<_> = input.iter().map(|(d, s)| (d.as_slice(), *s)).collect();
    let input = FrameRef::new(format, SIZE, color, &input).unwrap();
    let mut output = planes(spec.output);
    let target = output.iter_mut().map(|(d, s)| (d.as_mut_slice(), *s));
    let mut target = FrameMut::new(format, spec.output, color, target).unwrap();
    let options = UpscaleOptions::default()
        .with_device(DeviceChoice::Cpu)
        .with_precision(precision);
    let mut upscaler = Upscaler::new(Arc::clone(model), spec, &options).unwrap();
    upscaler.process(&input, &mut target).unwrap();
    let mut hash = Sha256::new();
    output.iter().for_each(|(data, _)| hash.update(data));
    let hash = hash.finalize();
    hash[..4].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Formats for which every case is computed.
const FORMATS: [PixelFormat; 18] = [
    PixelFormat::I420,
    PixelFormat::Yv12,
    PixelFormat::Nv12,
    PixelFormat::Nv21,
    PixelFormat::Y42b,
    PixelFormat::Y444,
    PixelFormat::Gray8,
    PixelFormat::Rgb,
    PixelFormat::Bgr,
    PixelFormat::Rgbx,
    PixelFormat::Bgrx,
    PixelFormat::Xrgb,
    PixelFormat::Xbgr,
    PixelFormat::Rgba,
    PixelFormat::Bgra,
    PixelFormat::Argb,
    PixelFormat::Abgr,
    PixelFormat::Rgbp,
];

/// Whether the level computes this case: everything for some formats, a few cases for
/// the others, and at [`Level::Plain`], where every multiplication is a function call.
fn is_covered(level: Level, row: &models::ModelInfo, format: PixelFormat, scale: &str) -> bool {
    let small = ["bicubic", "espcn-fast", "srcnn", "hypersrcnn", "srcnn-rgb"];
    let is_small = small.contains(&row.name) && scale == "2";
    match level {
        Level::Plain => is_small && [PixelFormat::Nv12, PixelFormat::Bgra].contains(&format),
        _ => is_small || FORMATS.contains(&format),
    }
}

/// Hashes by model, case and format.
fn hashes(level: Level) -> BTreeMap<(String, String), String> {
    let dir = tempfile::tempdir().unwrap();
    let mut hashes = BTreeMap::new();
    for row in models::MODELS {
        let model = load(row, dir.path());
        let integers = model.int8_loss().map(|_| (" int8", Precision::Int8));
        for (kind, precision) in [("", Precision::F32)].into_iter().chain(integers) {
            for case in CASES {
                let pinned = case.1.map(|(w, h)| format!(" to {w}x{h}"));
                let pinned = pinned.unwrap_or_default();
                let key = format!("{}{kind} x{}{pinned}", row.name, case.0);
                let covered = |format: &&PixelFormat| is_covered(level, row, **format, case.0);
                for &format in PixelFormat::ALL.iter().filter(covered) {
                    let key = (key.clone(), format.name().to_owned());
                    hashes.insert(key, hash(&model, format, case, precision));
                }
            }
        }
    }
    hashes
}

#[test]
fn frames_keep_their_bits_at_every_level() {
    let levels = match std::env::var_os(LEVEL_VARIABLE) {
        Some(_) => vec![current_level().unwrap()],
        None => Level::available().into_iter().rev().collect(),
    };
    for level in levels {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "frames_child", "--nocapture"])
            .env(CHILD, "1")
            .env(LEVEL_VARIABLE, level.name())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        let errors = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{level}: {text}{errors}");
    }
}

#[test]
fn frames_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let level = current_level().unwrap();
    let found = hashes(level);
    if std::env::var_os("SRFILTER_WRITE_HASHES").is_some() && level != Level::Plain {
        let mut lines = BTreeMap::<_, String>::new();
        for ((case, format), hash) in &found {
            write!(lines.entry(case).or_default(), " {format}={hash}").unwrap();
        }
        let text = lines.iter().map(|(case, line)| format!("{case}:{line}\n"));
        std::fs::write(table(), text.collect::<String>()).unwrap();
    }
    let text = std::fs::read_to_string(table()).unwrap();
    let mut expected = BTreeMap::new();
    for line in text.lines() {
        let (case, hashes) = line.split_once(": ").unwrap();
        for pair in hashes.split(' ') {
            let (format, hash) = pair.split_once('=').unwrap();
            expected.insert((case.to_owned(), format.to_owned()), hash.to_owned());
        }
    }
    for (key, hash) in &found {
        assert_eq!(
            expected.get(key),
            Some(hash),
            "{key:?}: the frame has changed"
        );
    }
    if level != Level::Plain {
        assert_eq!(found.len(), expected.len(), "frames that are not computed");
    }
}
