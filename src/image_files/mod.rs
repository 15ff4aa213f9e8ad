//! Image files: what their headers say, their pixels, their metadata; animations;
//! and those of a folder.
//!
//! [`ImageFile::open`] reads the header, by which a file can be refused before any
//! pixel is decoded; [`Image::open`](crate::Image::open) is the short way to the
//! pixels of a still.

mod animation;
mod deep;
mod find;
mod formats;
mod header;
mod jpeg;
mod metadata;
mod read;
mod write;

pub use animation::{Animation, AnimationFrame, Delay, encode_animation};
pub use deep::{DeepImage, encode_deep};
pub use find::{Found, NotTaken, find, find_all};
pub use formats::{EXTENSIONS, is_image};
pub use metadata::{Density, DensityUnit, Metadata};
pub use read::ImageFile;
pub use write::{check_output, encode, holds_deep, write};

#[cfg(test)]
mod tests;
