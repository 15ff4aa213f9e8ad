//! Writing of image files.

use super::formats;
use super::metadata::Metadata;
use crate::{Error, Image, Result, atomic_file};
use image::codecs::{bmp::BmpEncoder, gif::GifEncoder, jpeg::JpegEncoder};
use image::codecs::{tiff::TiffEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageFormat, ImageResult};
use std::io::{self, Cursor};
use std::path::Path;

/// Quality of JPEG files, 1 to 100: the encoder's default of 75 shows block artefacts.
const JPEG_QUALITY: u8 = 95;

/// Checks that a file can hold an image of that size, channels and number of
/// frames, and returns the names of the metadata that it cannot hold.
///
/// # Errors
///
/// A name without a known extension; a format that is too small, has no
/// transparency or no frames.
pub fn check_output(
    path: &Path,
    (width, height): (usize, usize),
    channels: usize,
    frames: u32,
    metadata: &Metadata,
) -> Result<Vec<&'static str>> {
    let format = format_of(path)?;
    let (shown, name, most) = (
        path.display(),
        formats::name(format),
        formats::max_side(format),
    );
    let refused = |why: String| Err(Error::Setting(format!("{shown}: {why}")));
    if width.max(height) > most {
        return refused(format!(
            "{name} holds at most {most} pixels a side, not {width}x{height}: write to .png, or \
             use a smaller scale"
        ));
    }
    if frames > 1 && !formats::animates(format) {
        return refused(format!(
            "animations are written as PNG (APNG) or GIF, not as {name}: write to .png or .gif"
        ));
    }
    if channels == 4 && format == ImageFormat::Jpeg {
        return refused(
            "JPEG has no transparency, which this image needs: write to .png or .webp".to_owned(),
        );
    }
    Ok(metadata.fitted(format, channels).1)
}

/// Writes an image and what of its metadata the format holds; the file's extension
/// says in which format. The file is replaced whole or not at all
/// ([`atomic_file::write`]).
///
/// # Errors
///
/// As [`check_output`], or a file that cannot be written.
pub fn write(path: &Path, image: &Image, metadata: &Metadata) -> Result<()> {
    let bytes = encode(path, image, metadata)?;
    atomic_file::write(path, &bytes).map_err(|e| unwritable(path, &e))
}

/// The bytes of the file that [`write()`] writes.
///
/// # Errors
///
/// As [`check_output`].
pub fn encode(path: &Path, image: &Image, metadata: &Metadata) -> Result<Vec<u8>> {
    let size = (image.width, image.height);
    check_output(path, size, image.channels, 1, metadata)?;
    encode_as(format_of(path)?, image, metadata).map_err(|e| unwritable(path, &e))
}

pub(super) fn unwritable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Frame(format!("cannot write {}: {error}", path.display()))
}

/// Whether a file of that name can hold 16-bit samples.
pub fn holds_deep(path: &Path) -> bool {
    let format = formats::of_extension(path);
    matches!(format, Some(ImageFormat::Png | ImageFormat::Tiff))
}

pub(super) fn format_of(path: &Path) -> Result<ImageFormat> {
    formats::of_extension(path).ok_or_else(|| {
        Error::Setting(format!(
            "cannot derive an image format from the name {}: use one of the extensions {}",
            path.display(),
            formats::EXTENSIONS.join(", ")
        ))
    })
}

fn encode_as(format: ImageFormat, image: &Image, metadata: &Metadata) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let metadata = metadata.fitted(format, image.channels).0;
    let color = match image.channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    };
    let pixels = (image.data.as_slice(), (image.width, image.height), color);
    match format {
        ImageFormat::Png => encode_png(&mut bytes, image, &metadata).map_err(png_failed)?,
        ImageFormat::Jpeg => {
            let mut encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
            if let Some(density) = metadata.density.and_then(|d| d.to_jpeg()) {
                encoder.set_pixel_density(density);
            }
            encode_by(encoder, pixels, metadata)?;
        }
        ImageFormat::WebP => encode_by(WebPEncoder::new_lossless(&mut bytes), pixels, metadata)?,
        ImageFormat::Tiff => {
            encode_by(TiffEncoder::new(Cursor::new(&mut bytes)), pixels, metadata)?;
        }
        ImageFormat::Gif => {
            let rgba = rgba(image);
            let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let (width, height) = (side(image.width), side(image.height));
            GifEncoder::new(&mut bytes).encode(&rgba, width, height, ExtendedColorType::Rgba8)?;
        }
        _ => encode_by(BmpEncoder::new(&mut bytes), pixels, metadata)?,
    }
    Ok(bytes)
}

/// Samples with alpha, which is all that the GIF encoder takes.
fn rgba(image: &Image) -> Vec<u8> {
    let opaque = |p: &[u8]| [p[0], p[1], p[2], u8::MAX];
    match image.channels {
        4 => image.data.clone(),
        _ => image
            .to_rgb()
            .data
            .chunks_exact(3)
            .flat_map(opaque)
            .collect(),
    }
}

/// Samples, width and height, and what they are.
pub(super) type Pixels<'a> = (&'a [u8], (usize, usize), ExtendedColorType);

/// Encodes with what of the metadata all of `image`'s encoders take.
pub(super) fn encode_by(
    mut encoder: impl ImageEncoder,
    (data, (width, height), color): Pixels<'_>,
    metadata: Metadata,
) -> ImageResult<()> {
    if let Some(profile) = metadata.icc_profile {
        encoder
            .set_icc_profile(profile)
            .map_err(ImageError::Unsupported)?;
    }
    if let Some(exif) = metadata.exif {
        encoder
            .set_exif_metadata(exif)
            .map_err(ImageError::Unsupported)?;
    }
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    encoder.write_image(data, side(width), side(height), color)
}

fn encode_png(
    bytes: &mut Vec<u8>,
    image: &Image,
    metadata: &Metadata,
) -> Result<(), png::EncodingError> {
    let size = (image.width, image.height);
    let samples = (image.channels, png::BitDepth::Eight);
    let mut writer = png_writer(bytes, size, samples, metadata, None)?;
    writer.write_image_data(&image.data)?;
    writer.finish()
}

/// A PNG file with its metadata, and the frames and plays of an animation, up to
/// its pixels.
pub(super) fn png_writer<'a>(
    bytes: &'a mut Vec<u8>,
    (width, height): (usize, usize),
    (channels, depth): (usize, png::BitDepth),
    metadata: &Metadata,
    animated: Option<(u32, u32)>,
) -> Result<png::Writer<&'a mut Vec<u8>>, png::EncodingError> {
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut info = png::Info::with_size(side(width), side(height));
    info.pixel_dims = metadata.density.map(|density| density.to_png());
    info.icc_profile = metadata.icc_profile.clone().map(Into::into);
    info.exif_metadata = metadata.exif.clone().map(Into::into);
    let color = &metadata.png_color;
    info.source_gamma = color.gamma;
    info.source_chromaticities = color.chromaticities;
    info.srgb = color.srgb;
    info.bit_depth = depth;
    info.color_type = match channels {
        1 => png::ColorType::Grayscale,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    };
    let mut encoder = png::Encoder::with_info(bytes, info)?;
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Adaptive);
    if let Some((frames, plays)) = animated {
        encoder.set_animated(frames, plays)?;
    }
    let mut writer = encoder.write_header()?;
    if let Some(points) = color.code_points {
        // The encoder has no setting for it.
        let chunk = [
            points.color_primaries,
            points.transfer_function,
            points.matrix_coefficients,
            points.is_video_full_range_image.into(),
        ];
        writer.write_chunk(png::chunk::cICP, &chunk)?;
    }
    Ok(writer)
}

pub(super) fn png_failed(error: png::EncodingError) -> ImageError {
    ImageError::IoError(io::Error::other(error))
}

impl Image {
    /// Writes the picture; the file's extension says in which format. The file is
    /// replaced whole or not at all. Feature `image`.
    ///
    /// # Errors
    ///
    /// As [`write()`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write(path.as_ref(), self, &Metadata::default())
    }
}
