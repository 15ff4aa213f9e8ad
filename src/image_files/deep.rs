//! Pictures of 16-bit samples.

use super::read::ImageFile;
use super::write::{
    check_output, encode_by, format_of, holds_deep, png_failed, png_writer, unwritable,
};
use super::{Metadata, formats};
use crate::frame::{Color, FrameMut, FrameRef, PixelFormat};
use crate::{Error, Result};
use image::codecs::tiff::TiffEncoder;
use image::{ExtendedColorType, ImageFormat, ImageResult};
use std::io::Cursor;
use std::path::Path;

/// A picture of 16-bit samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeepImage {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Samples a pixel that a file has: 1, 3 or 4.
    pub channels: usize,
    /// Rows of little-endian samples without padding: grey, or RGBA with an alpha that
    /// counts only if there are 4 channels.
    pub data: Vec<u8>,
}

impl DeepImage {
    /// A black picture.
    pub fn new(width: usize, height: usize, channels: usize) -> Self {
        let mut image = Self {
            width,
            height,
            channels,
            data: Vec::new(),
        };
        image.data = vec![0; image.stride() * height];
        image
    }

    /// The frame format of the samples of a picture of so many channels.
    pub fn format(channels: usize) -> PixelFormat {
        match channels {
            1 => PixelFormat::Gray16,
            _ => PixelFormat::Rgba64,
        }
    }

    /// Bytes of a row.
    fn stride(&self) -> usize {
        self.width * if self.channels == 1 { 2 } else { 8 }
    }

    /// The picture as a frame to read.
    ///
    /// # Errors
    ///
    /// An empty picture, or `data` too short for the size.
    pub fn frame(&self) -> Result<FrameRef<'_>> {
        let (format, size) = (Self::format(self.channels), (self.width, self.height));
        let planes = [(self.data.as_slice(), self.stride())];
        FrameRef::new(format, size, Color::of_format(format), &planes)
    }

    /// The picture as a frame to write.
    ///
    /// # Errors
    ///
    /// As [`DeepImage::frame`].
    pub fn frame_mut(&mut self) -> Result<FrameMut<'_>> {
        let (format, size) = (Self::format(self.channels), (self.width, self.height));
        let stride = self.stride();
        let planes = [(self.data.as_mut_slice(), stride)];
        FrameMut::new(format, size, Color::of_format(format), planes)
    }

    /// The samples of the file's channels.
    fn samples(&self) -> impl Iterator<Item = [u8; 2]> + '_ {
        let held = if self.channels == 1 { 1 } else { 4 };
        let pixels = self.data.chunks_exact(2 * held);
        pixels.flat_map(|pixel| {
            let samples = pixel.chunks_exact(2).take(self.channels);
            samples.map(|sample| [sample[0], sample[1]])
        })
    }
}

impl ImageFile {
    /// Decodes a still of more than 8 bits, turned upright.
    ///
    /// # Errors
    ///
    /// As [`ImageFile::decode`].
    pub fn decode_deep(&self) -> Result<DeepImage> {
        let decoded = self.decode_still()?;
        let channels = self.channels();
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        let samples = match channels {
            1 => decoded.into_luma16().into_raw(),
            _ => decoded.into_rgba16().into_raw(),
        };
        Ok(DeepImage {
            width,
            height,
            channels,
            data: samples.into_iter().flat_map(u16::to_le_bytes).collect(),
        })
    }
}

/// The bytes of a PNG or TIFF file of 16 bits, as the extension of `path` says.
///
/// # Errors
///
/// As [`check_output`], and another format.
pub fn encode_deep(path: &Path, image: &DeepImage, metadata: &Metadata) -> Result<Vec<u8>> {
    let size = (image.width, image.height);
    check_output(path, size, image.channels, 1, metadata)?;
    let format = format_of(path)?;
    if !holds_deep(path) {
        let (path, name) = (path.display(), formats::name(format));
        return Err(Error::Setting(format!(
            "{path}: {name} is not written with 16 bits: write to .png or .tif"
        )));
    }
    encode_as(format, image, metadata).map_err(|e| unwritable(path, &e))
}

fn encode_as(format: ImageFormat, image: &DeepImage, metadata: &Metadata) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let metadata = metadata.fitted(format, image.channels).0;
    let size = (image.width, image.height);
    if format == ImageFormat::Tiff {
        let color = match image.channels {
            1 => ExtendedColorType::L16,
            3 => ExtendedColorType::Rgb16,
            _ => ExtendedColorType::Rgba16,
        };
        let native = |sample| u16::from_le_bytes(sample).to_ne_bytes();
        let data: Vec<u8> = image.samples().flat_map(native).collect();
        let encoder = TiffEncoder::new(Cursor::new(&mut bytes));
        encode_by(encoder, (&data, size, color), metadata)?;
        return Ok(bytes);
    }
    let deep = png::BitDepth::Sixteen;
    let big_endian = |sample| u16::from_le_bytes(sample).to_be_bytes();
    let data: Vec<u8> = image.samples().flat_map(big_endian).collect();
    let write = |bytes| {
        let mut writer = png_writer(bytes, size, (image.channels, deep), &metadata, None)?;
        writer.write_image_data(&data)?;
        writer.finish()
    };
    write(&mut bytes).map_err(png_failed)?;
    Ok(bytes)
}
