//! JPEG data, decoded only if it is whole.

use super::metadata::Density;
use image::{DynamicImage, GrayImage, RgbImage};
use std::io::{Error, ErrorKind, Result};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// What stands in for the end mark: ones, which no Huffman code consists of, and
/// then the mark.
const TAIL: [u8; 34] = {
    let mut tail = [0; 34];
    let mut i = 0;
    while i < 32 {
        tail[i] = 0xFF;
        i += 2;
    }
    tail[32] = 0xFF;
    tail[33] = 0xD9;
    tail
};

/// Decodes a file whose data fill all rows, whether or not its end mark is there.
///
/// The decoder takes an end mark for zeros without end and fills rows that are
/// missing with grey. Ones before the mark are an error for it: a file that is
/// cut short runs into them, one that is whole does not.
///
/// # Errors
///
/// A file that is damaged or cut short.
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage> {
    let mut data = bytes[..end_of_data(bytes)].to_vec();
    data.extend_from_slice(&TAIL);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&data), options());
    decoder.decode_headers().map_err(Error::other)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let color = if grey {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    // Strict only from here on: headers in the wild are full of small errors.
    decoder.set_options(
        options()
            .jpeg_set_out_colorspace(color)
            .set_strict_mode(true),
    );
    let pixels = decoder.decode().map_err(|error| {
        let text = format!("the file is cut short or damaged ({error})");
        Error::new(ErrorKind::UnexpectedEof, text)
    })?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(Into::into)
    } else {
        RgbImage::from_raw(width, height, pixels).map(Into::into)
    };
    image.ok_or_else(|| Error::other("the decoder's rows do not fill the picture"))
}

fn options() -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
}

/// The density of a JFIF header, which is the first or follows other headers.
pub(super) fn density(bytes: &[u8]) -> Option<Density> {
    let mut rest = bytes.get(2..)?;
    loop {
        let [0xFF, mark, high, low, data @ ..] = rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match (mark, data) {
            (0xE0, [b'J', b'F', b'I', b'F', 0, _, _, unit, x1, x0, y1, y0, ..]) => {
                let (x, y) = ([*x1, *x0], [*y1, *y0]);
                let (x, y) = (u16::from_be_bytes(x), u16::from_be_bytes(y));
                return Density::from_jpeg(*unit, x, y);
            }
            (0xE0..=0xEF | 0xFE, _) => rest = data.get(length.checked_sub(2)?..)?,
            _ => return None,
        }
    }
}

/// Where the data of the picture end: at its end mark, not at that of a thumbnail
/// inside a header or of a picture behind it, or else at the file's end.
fn end_of_data(bytes: &[u8]) -> usize {
    const START: usize = 2;
    let mut at = START;
    while let Some(found) = bytes.get(at..).and_then(|rest| {
        let offset = rest.iter().position(|&byte| byte == 0xFF)?;
        Some(at + offset)
    }) {
        at = match bytes.get(found + 1) {
            None | Some(0xD9) => return found,
            // Data, and marks without a length.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => found + 2,
            Some(0xFF) => found + 1,
            Some(_) => {
                let length = bytes.get(found + 2..found + 4);
                let length = length.map_or(2, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                found + 2 + length.max(2)
            }
        };
    }
    bytes.len()
}
