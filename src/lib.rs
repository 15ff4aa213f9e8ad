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
//! * [`ops`]: operations that candle lacks or does slowly;
//! * [`nn`]: layers that more than one network uses;
//! * [`models`]: one file a network, and the table of their names and facts;
//! * [`weights`]: safetensors with metadata, files of other projects, the
//!   built-in set;
//! * [`engine`]: (model, scale, device) to an [`engine::Upscaler`];
//! * [`metrics`]: PSNR and SSIM as the field defines them.
//!
//! ```
//! use srfilter::engine::{Job, Options, Shape, Upscaler};
//! use srfilter::frame::{Color, Picture};
//! use srfilter::weights::Model;
//!
//! # fn main() -> srfilter::Result<()> {
//! let input = Picture::new(64, 48, 3);
//! let shape = Shape {
//!     format: input.format(),
//!     size: (input.width, input.height),
//!     color: Color::default(),
//! };
//! let job = Job::exact(shape, "3/2".parse()?);
//! let mut upscaler = Upscaler::new(Loaded::built_in("bicubic")?, job, &Options::default())?;
//! let mut output = Picture::new(job.output.0, job.output.1, 3);
//! upscaler.process(&input.frame()?, &mut output.frame_mut()?)?;
//! assert_eq!((output.width, output.height), (96, 72));
//! # Ok(())
//! # }
//! ```
//!
//! [candle]: https://github.com/huggingface/candle

pub mod chain;
pub mod cpu_level;
pub mod engine;
mod error;
pub mod frame;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod ops;
mod scale;
mod threads;
pub mod weights;

pub use error::{Error, Result};
pub use scale::Scale;
