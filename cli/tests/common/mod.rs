//! Runs `sr`, draws images, writes weights files.

#![allow(dead_code)] // Each test program uses a part of this.

use candle_core::{DType, Device, Tensor};
use srfilter::Scale;
use srfilter::frame::Image;
use srfilter::models::{Architecture, Channels, Scales, espcn, srcnn};
use srfilter::weights::{Card, Checkpoint};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// The results of a run of `sr`.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Asserts that the run succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that the run failed with this status and a message that contains
    /// these words.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no '{word}' in: {}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

/// Runs `sr` with these arguments.
pub(crate) fn sr<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_sr"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A temporary folder with files for a test.
pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The path of a file, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a smooth image of that size, with folders as needed.
    pub(crate) fn draw(
        &self,
        name: &str,
        (width, height): (usize, usize),
        channels: usize,
    ) -> String {
        let mut picture = Image::new(width, height, channels);
        for (i, value) in picture.data.iter_mut().enumerate() {
            let (pixel, channel) = (i / channels, i % channels);
            let (x, y) = ((pixel % width) as f64, (pixel / width) as f64);
            let phase = x / 5.0 + y / 7.0 + channel as f64;
            *value = (128.0 + 90.0 * libm::sin(phase)) as u8;
        }
        let path = PathBuf::from(self.path(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(&path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes a small SRCNN for x2 that is close to the identity.
    /// A feature network: a VGG of 16 layers, two channels each, and its path.
    pub(crate) fn vgg(&self, name: &str) -> String {
        let mut tensors = HashMap::new();
        for (i, number) in [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
            .into_iter()
            .enumerate()
        {
            let shape = [2, if i == 0 { 3 } else { 2 }, 3, 3];
            let weight = Tensor::from_vec(noise(shape.iter().product()), &shape, &Device::Cpu);
            let bias = Tensor::from_vec(noise(2), 2, &Device::Cpu);
            tensors.insert(format!("features.{number}.weight"), weight.unwrap());
            tensors.insert(format!("features.{number}.bias"), bias.unwrap());
        }
        let path = self.path(&format!("{name}.safetensors"));
        candle_core::safetensors::save(&tensors, &path).unwrap();
        path
    }

    pub(crate) fn weights(&self, name: &str, channels: Channels) -> String {
        let config = srcnn::Config {
            channels,
            kernels: [3, 1, 3],
            widths: [4, 4],
            residual: true,
            ..srcnn::Config::default()
        };
        let mut tensors = Vec::new();
        for (layer, shape) in config.weight_shapes().into_iter().enumerate() {
            let weight = Tensor::from_vec(noise(shape.iter().product()), &shape, &Device::Cpu);
            let bias = Tensor::from_vec(noise(shape[0]), shape[0], &Device::Cpu);
            tensors.push((format!("conv{}.weight", layer + 1), weight.unwrap()));
            tensors.push((format!("conv{}.bias", layer + 1), bias.unwrap()));
        }
        let card = Card {
            architecture: Architecture::Srcnn(config),
            scales: Scales::list([Scale::whole(2)]),
            training_data: "none".to_owned(),
            recipe_sha256: String::new(),
            quality: "random".to_owned(),
            int8_loss: None,
        };
        let path = self.path(name);
        Checkpoint::save(&path, &tensors, &card).unwrap();
        path
    }

    /// Writes an ESPCN for x2 and x3 whose residual is zero.
    pub(crate) fn empty_espcn(&self, name: &str) -> String {
        let config = espcn::Config {
            width: 2,
            ..espcn::Config::fast()
        };
        let mut layers = vec![("first".to_owned(), [2, 1, 5, 5])];
        layers.extend((0..config.depth).map(|i| (format!("body.{i}"), [2, 2, 3, 3])));
        layers.extend([2, 3].map(|r| (format!("heads.{r}"), [r * r, 2, 3, 3])));
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let tensors: Vec<_> = layers
            .iter()
            .flat_map(|(name, shape)| {
                [
                    (format!("{name}.weight"), zeros(shape)),
                    (format!("{name}.bias"), zeros(&shape[..1])),
                ]
            })
            .collect();
        let card = Card {
            architecture: Architecture::Espcn(config),
            scales: Scales::list([2, 3].map(Scale::whole)),
            training_data: "none".to_owned(),
            recipe_sha256: String::new(),
            quality: "bicubic".to_owned(),
            int8_loss: None,
        };
        let path = self.path(name);
        Checkpoint::save(&path, &tensors, &card).unwrap();
        path
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    pub(crate) fn open(&self, name: &str) -> Image {
        Image::open(self.path(name)).unwrap()
    }
}

/// Small numbers, the same each time.
fn noise(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 37 + 11) % 101) as f32 / 1010.0 - 0.05)
        .collect()
}
