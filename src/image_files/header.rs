//! What the header of a file says.

use super::jpeg;
use super::metadata::{Density, Metadata, PngColor};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult};
use std::io::Cursor;
use std::num::NonZeroU32;

/// What the header of a file says.
#[derive(Debug)]
pub(super) struct Header {
    /// Width and height as the file holds them.
    pub(super) size: (u32, u32),
    /// The samples that the decoder gives.
    pub(super) color: ColorType,
    /// How the image is turned for display.
    pub(super) orientation: Orientation,
    /// Frames of an animation; 1 for a still.
    pub(super) frames: u32,
    /// How often an animation plays; `None` for ever.
    pub(super) plays: Option<NonZeroU32>,
    /// Further pages, which are not read.
    pub(super) further_pages: bool,
    pub(super) metadata: Metadata,
}

/// A decoder that has read the header, without limits: the caller judges the size.
pub(super) fn decoder(bytes: &[u8], format: ImageFormat) -> ImageResult<impl ImageDecoder + '_> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    reader.into_decoder()
}

pub(super) fn read(bytes: &[u8], format: ImageFormat) -> ImageResult<Header> {
    let mut decoder = decoder(bytes, format)?;
    let mut metadata = Metadata {
        icc_profile: decoder.icc_profile()?,
        exif: decoder.exif_metadata()?,
        ..Metadata::default()
    };
    let mut header = Header {
        size: decoder.dimensions(),
        color: decoder.color_type(),
        orientation: decoder.orientation()?,
        frames: 1,
        plays: None,
        further_pages: false,
        metadata: Metadata::default(),
    };
    match format {
        ImageFormat::Png => (header.frames, header.plays) = png_chunks(bytes, &mut metadata)?,
        ImageFormat::Jpeg => metadata.density = jpeg::density(bytes),
        ImageFormat::WebP => (header.frames, header.plays) = webp_frames(bytes)?,
        ImageFormat::Gif => {
            let opaque;
            ((header.frames, header.plays), opaque) = gif_frames(bytes)?;
            if opaque {
                // The decoder gives alpha to every GIF.
                header.color = ColorType::Rgb8;
            }
        }
        ImageFormat::Tiff => header.further_pages = tiff_pages(bytes)?,
        _ => {}
    }
    if header.frames > 1 {
        // Viewers do not turn animations.
        header.orientation = Orientation::NoTransforms;
    } else if let Some(exif) = &mut metadata.exif {
        // The image will be turned: `None` means that nothing says so.
        let _ = Orientation::remove_from_exif_chunk(exif);
    }
    if header.quarter_turn() {
        metadata.density = metadata.density.map(Density::turned);
    }
    header.metadata = metadata;
    Ok(header)
}

impl Header {
    /// Whether display swaps width and height.
    fn quarter_turn(&self) -> bool {
        matches!(
            self.orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    }

    /// Width and height for display.
    pub(super) fn upright_size(&self) -> (usize, usize) {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        if self.quarter_turn() {
            (height, width)
        } else {
            (width, height)
        }
    }
}

/// The number of frames, and how often they play.
type Course = (u32, Option<NonZeroU32>);

/// Takes density and colour space.
fn png_chunks(bytes: &[u8], metadata: &mut Metadata) -> ImageResult<Course> {
    let reader = png::Decoder::new(Cursor::new(bytes)).read_info();
    let reader = reader.map_err(|e| ImageError::IoError(std::io::Error::other(e)))?;
    let info = reader.info();
    metadata.density = info.pixel_dims.map(Density::from_png);
    metadata.png_color = PngColor {
        gamma: info.gama_chunk,
        chromaticities: info.chrm_chunk,
        srgb: info.srgb,
        code_points: info.coding_independent_code_points,
    };
    let control = info.animation_control;
    Ok(control.map_or((1, None), |control| {
        (control.num_frames, NonZeroU32::new(control.num_plays))
    }))
}

fn webp_frames(bytes: &[u8]) -> ImageResult<Course> {
    let decoder = image_webp::WebPDecoder::new(Cursor::new(bytes));
    let decoder = decoder.map_err(|e| ImageError::IoError(std::io::Error::other(e)))?;
    let plays = match decoder.loop_count() {
        image_webp::LoopCount::Forever => None,
        image_webp::LoopCount::Times(times) => NonZeroU32::new(times.get().into()),
    };
    Ok((decoder.num_frames().max(1), plays))
}

/// Passes over the frames without decoding them; also whether all are opaque.
fn gif_frames(bytes: &[u8]) -> ImageResult<(Course, bool)> {
    let failed = |e| ImageError::IoError(std::io::Error::other(e));
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(failed)?;
    let size = (decoder.width(), decoder.height());
    let (mut frames, mut opaque) = (0, true);
    while let Some(frame) = decoder.next_frame_info().map_err(failed)? {
        frames += 1;
        opaque &= frame.transparent.is_none() && (frame.width, frame.height) == size;
    }
    let plays = match decoder.repeat() {
        gif::Repeat::Infinite => None,
        // How often it plays again.
        gif::Repeat::Finite(times) => NonZeroU32::new(u32::from(times) + 1),
    };
    Ok(((frames, plays), opaque))
}

fn tiff_pages(bytes: &[u8]) -> ImageResult<bool> {
    let decoder = tiff::decoder::Decoder::new(Cursor::new(bytes));
    let decoder = decoder.map_err(|e| ImageError::IoError(std::io::Error::other(e)))?;
    Ok(decoder.more_images())
}
