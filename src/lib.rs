//! Neural super-resolution of pictures and video frames, on [candle].
//!
//! An [`Upscaler`] takes frames ([`FrameRef`], or an [`Image`]) of the
//! [`FrameSpec`] that it was built for and writes larger ones, by a [`Model`]
//! with built-in weights or those of a file:
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
//! All that an application needs is at the root; besides, [`frame`] has colour
//! conversion and resampling, [`metrics`] PSNR and SSIM as the field defines
//! them, and `image_files` reads and writes image files, with their metadata.
//!
//! # Features
//!
//! On by default, each of its own:
//!
//! * `builtin-weights`: [`Model::builtin`] compiles in 10 MB of weights;
//! * `image`: `Image::open`, `Image::save` and the module `image_files`, with
//!   readers and writers of PNG, JPEG, BMP, WebP, TIFF and GIF;
//! * `pytorch`: [`Model::open`] reads checkpoints of PyTorch too.
//!
//! Off by default: `cuda` computes on NVIDIA's GPUs, `cudnn` also by cuDNN
//! where it is installed. A part that is left out answers with
//! [`Error::MissingFeature`].
//!
//! # Training interface
//!
//! `srfilter-train` and the commands also use the modules below, whose types are
//! candle's or change with it and with the networks. Nothing promises that they
//! stay as they are from one version to the next; the root is what is stable.
//!
//! * [`engine`]: (model, scale, device) to an [`Upscaler`];
//! * [`weights`]: safetensors with metadata, files of other projects, the
//!   built-in set;
//! * [`models`]: one file a network, and the table of their names and facts;
//! * [`chain`]: chains of convolutions, fused;
//! * [`nn`]: layers that more than one network uses;
//! * [`ops`]: operations that candle lacks or does slowly;
//! * [`cpu_level`]: the instruction set that the kernels run on;
//! * [`atomic_file`]: files that are replaced whole or not at all;
//! * [`folder_lock`]: folders that one run at a time may write to.
//!
//! [candle]: https://github.com/huggingface/candle

pub mod atomic_file;
mod background;
pub mod chain;
pub mod cpu_level;
pub mod engine;
mod error;
pub mod folder_lock;
pub mod frame;
#[cfg(feature = "image")]
pub mod image_files;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
mod pages;
mod scale;
mod tensor_error;
mod threads;
pub mod weights;

/// The README's program, compiled.
#[cfg(all(doctest, feature = "image"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The first program of docs/use/embed.md, compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/use/embed.md")]
struct Embed;

#[doc(inline)]
pub use chain::Precision;
#[cfg(feature = "cuda")]
#[doc(inline)]
pub use engine::PinnedBuffer;
#[doc(inline)]
pub use engine::{
    Compare, ComputeDevice, DeviceChoice, DevicePlane, FrameSpec, MAX_PIXELS, MAX_SIDE, Reuse,
    Reused, UpscaleOptions, UpscaleSpec, Upscaler, UpscalerBuilder, View,
};
pub use error::{ComputeError, Error, Result};
#[doc(inline)]
pub use frame::{Color, FrameMut, FrameRef, Image, Matrix, PixelFormat, Range, Siting};
#[doc(inline)]
pub use models::{Channels, MODELS, ModelInfo, Scales};
#[doc(inline)]
pub use ops::Border;
pub use scale::Scale;
#[doc(hidden)]
pub use tensor_error::TensorError;
#[doc(inline)]
pub use weights::{LoadOverrides, Model};
