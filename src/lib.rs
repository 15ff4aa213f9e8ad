//! Neural super-resolution of pictures and video frames, on [candle].
//!
//! Pixels come in, pixels go out; everything else hangs off that line:
//!
//! ```text
//! FrameRef -> engine::Upscaler -> network -> ops -> FrameMut
//!                                    ^
//!                      weights: built in, or a file
//! ```
//!
//! * [`frame`]: planes, formats, colour and resampling, on plain slices;
//! * [`cpu_level`]: the instruction set that the kernels run on;
//! * [`ops`]: operations that candle lacks or does slowly;
//! * [`nn`]: layers that more than one network uses;
//! * [`chain`]: chains of convolutions, fused;
//! * [`models`]: one file a network, and the table of their names and facts;
//! * [`weights`]: safetensors with metadata, files of other projects, the
//!   built-in set;
//! * [`engine`]: (model, scale, device) to an [`engine::Upscaler`];
//! * [`metrics`]: PSNR and SSIM as the field defines them;
//! * [`image_files`], [`atomic_file`]: files of the commands.
//!
//! ```
//! use srfilter::{FrameSpec, Image, Model, Scale, Upscaler};
//!
//! # fn main() -> srfilter::Result<()> {
//! let input = Image::new(64, 48, 3);
//! let model = Model::builtin("espcn")?;
//! let spec = FrameSpec::rgb8(input.width, input.height);
//! let mut upscaler = Upscaler::builder(model).scale(Scale::new(3, 2)?).build(spec)?;
//! let mut output = Image::new(96, 72, 3);
//! upscaler.upscale(&input, &mut output)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! On by default, each of its own:
//!
//! * `builtin-weights`: [`Model::builtin`] compiles in 15 MB of weights;
//! * `image`: `Image::open`, `Image::save` and the module `image_files`, with
//!   readers and writers of PNG, JPEG, BMP and WebP;
//! * `pytorch`: [`Model::open`] reads checkpoints of PyTorch too.
//!
//! Off by default: `cuda` computes on NVIDIA's GPUs, `cudnn` also by cuDNN
//! where it is installed. A part that is left out answers with
//! [`Error::MissingFeature`].
//!
//! [candle]: https://github.com/huggingface/candle

pub mod atomic_file;
pub mod chain;
pub mod cpu_level;
pub mod engine;
mod error;
pub mod frame;
#[cfg(feature = "image")]
pub mod image_files;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
mod scale;
mod threads;
pub mod weights;

/// The README's program, compiled.
#[cfg(all(doctest, feature = "image"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub use engine::{DeviceChoice, FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler, UpscalerBuilder};
pub use error::{Error, Result};
pub use frame::Image;
pub use scale::Scale;
pub use weights::Model;
