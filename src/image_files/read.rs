//! Reading of image files.

use super::formats;
use super::header::{self, Header};
use super::jpeg;
use super::metadata::Metadata;
use crate::engine::available_memory;
use crate::{Error, Image, Result};
use image::{DynamicImage, ImageFormat};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// An image file whose header has been read.
#[derive(Debug)]
pub struct ImageFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) format: ImageFormat,
    pub(super) header: Header,
}

impl ImageFile {
    /// Reads a file and its header; decodes no pixel.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Err(Error::File { path, source }),
        };
        let format = formats::of_content(&bytes)
            .map_err(|why| Error::Frame(format!("{}: {why}", path.display())))?;
        let header = header::read(&bytes, format).map_err(|e| unusable(&path, &e))?;
        Ok(Self {
            path,
            bytes,
            format,
            header,
        })
    }

    /// Width and height in pixels of the upright image.
    pub fn size(&self) -> (usize, usize) {
        self.header.upright_size()
    }

    /// Samples a pixel: 1, 3 or 4.
    pub fn channels(&self) -> usize {
        let color = self.header.color;
        match (color.has_color(), color.has_alpha()) {
            (false, false) => 1,
            (true, false) => 3,
            (_, true) => 4,
        }
    }

    /// Frames of an animation; 1 for a still.
    pub fn frame_count(&self) -> u32 {
        self.header.frames
    }

    /// What the file says besides its pixels.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// Whether samples have more than 8 bits: [`ImageFile::decode_deep`] keeps 16.
    pub fn is_deep(&self) -> bool {
        let color = self.header.color;
        color.bytes_per_pixel() > color.channel_count()
    }

    /// Whether the file has further pages, which are not read.
    pub fn has_further_pages(&self) -> bool {
        self.header.further_pages
    }

    /// Decodes a still, turned upright; 16-bit samples become 8-bit ones.
    ///
    /// # Errors
    ///
    /// An animation, a file that is damaged or cut short, an image that does not fit
    /// the free memory.
    pub fn decode(&self) -> Result<Image> {
        let image = into_image(self.decode_still()?);
        Ok(match self.channels() {
            // Of a format whose decoder adds alpha.
            3 if image.channels == 4 => image.to_rgb(),
            _ => image,
        })
    }

    pub(super) fn decode_still(&self) -> Result<DynamicImage> {
        if self.frame_count() > 1 {
            let (path, frames) = (self.path.display(), self.frame_count());
            return Err(Error::Frame(format!(
                "{path}: an animation of {frames} frames is no still image: save the frame that \
                 is meant as PNG (sr upscale takes animations whole)"
            )));
        }
        self.check_memory()?;
        let decoded = match self.format {
            ImageFormat::Jpeg => jpeg::decode(&self.bytes).map_err(image::ImageError::IoError),
            format => header::decoder(&self.bytes, format).and_then(DynamicImage::from_decoder),
        };
        let mut decoded = decoded.map_err(|e| unusable(&self.path, &e))?;
        decoded.apply_orientation(self.header.orientation);
        Ok(decoded)
    }

    /// Checks that the pixels fit the free memory.
    pub(super) fn check_memory(&self) -> Result<()> {
        let (width, height) = self.size();
        let pixels = width as u64 * height as u64;
        // The decoder's samples, and a copy that is turned or converted.
        let needed = pixels * 2 * u64::from(self.header.color.bytes_per_pixel());
        match available_memory() {
            Some(free) if needed > free => Err(Error::Frame(format!(
                "{}: {width}x{height} pixels need {} MiB to read, {} MiB are free: use a smaller \
                 image, or free memory",
                self.path.display(),
                needed / MIB,
                free / MIB
            ))),
            _ => Ok(()),
        }
    }
}

impl Image {
    /// Reads a still from a PNG, JPEG, BMP, WebP, TIFF or GIF file; 16-bit samples
    /// become 8-bit ones. Feature `image`.
    ///
    /// # Errors
    ///
    /// As [`ImageFile::open`] and [`ImageFile::decode`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        ImageFile::open(path)?.decode()
    }
}

pub(super) fn unusable(path: &Path, error: &image::ImageError) -> Error {
    Error::Frame(format!("{}: not a usable picture: {error}", path.display()))
}

fn into_image(decoded: DynamicImage) -> Image {
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let color = decoded.color();
    let (channels, data) = match (color.has_color(), color.has_alpha()) {
        (false, false) => (1, decoded.into_luma8().into_raw()),
        (true, false) => (3, decoded.into_rgb8().into_raw()),
        (_, true) => (4, decoded.into_rgba8().into_raw()),
    };
    Image {
        width,
        height,
        channels,
        data,
    }
}
