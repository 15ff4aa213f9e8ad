//! File formats of images: names, extensions, limits.

use image::ImageFormat;
use std::ffi::OsStr;
use std::path::Path;

/// Extensions of the files that are read and written, in lower case.
pub const EXTENSIONS: [&str; 9] = [
    "png", "jpg", "jpeg", "jfif", "bmp", "webp", "tif", "tiff", "gif",
];

/// Extensions of images in formats that are not read, and the formats' names.
const UNREADABLE: [(&str, &str); 12] = [
    ("avif", "AVIF"),
    ("cr2", "camera raw"),
    ("dng", "camera raw"),
    ("exr", "OpenEXR"),
    ("heic", "HEIC"),
    ("heif", "HEIF"),
    ("jp2", "JPEG 2000"),
    ("jxl", "JPEG XL"),
    ("nef", "camera raw"),
    ("psd", "Photoshop"),
    ("svg", "SVG"),
    ("tga", "TGA"),
];

/// Whether the extension is that of an image that is read, in upper or lower case.
pub fn is_image(path: &Path) -> bool {
    of_extension(path).is_some()
}

/// The format that a file's extension states.
pub(super) fn of_extension(path: &Path) -> Option<ImageFormat> {
    Some(match extension(path)?.as_str() {
        "png" => ImageFormat::Png,
        "jpg" | "jpeg" | "jfif" => ImageFormat::Jpeg,
        "bmp" => ImageFormat::Bmp,
        "webp" => ImageFormat::WebP,
        "tif" | "tiff" => ImageFormat::Tiff,
        "gif" => ImageFormat::Gif,
        _ => return None,
    })
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension().and_then(OsStr::to_str)?.to_lowercase())
}

/// The format that the first bytes of a file state.
///
/// # Errors
///
/// Why the file is not read, and the remedy.
pub(super) fn of_content(bytes: &[u8]) -> Result<ImageFormat, String> {
    let unreadable = match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => Some("AVIF"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("HEIC or a video"),
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => Some("JPEG XL"),
        _ => None,
    };
    if let Some(name) = unreadable {
        return Err(not_read(name));
    }
    match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() => Ok(format),
        _ => Err(format!(
            "not an image: its content is none of {}",
            EXTENSIONS.join(", ")
        )),
    }
}

/// Why a file in a folder is not read, by its name, and whether it is an image.
pub(super) fn why_not_taken(path: &Path) -> (String, bool) {
    let extension = extension(path).unwrap_or_default();
    match UNREADABLE.iter().find(|(known, _)| *known == extension) {
        Some((_, name)) => (not_read(name), true),
        None => {
            let known = EXTENSIONS.join(", ");
            (
                format!("not an image: its extension is none of {known}"),
                false,
            )
        }
    }
}

fn not_read(name: &str) -> String {
    format!("{name} is not read: convert the file to PNG first")
}

/// A format's name, for messages.
pub(super) fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Bmp => "BMP",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Gif => "GIF",
        _ => "this format",
    }
}

/// The largest width and height that a format can state.
pub(super) fn max_side(format: ImageFormat) -> usize {
    match format {
        ImageFormat::WebP => (1 << 14) - 1,
        ImageFormat::Jpeg | ImageFormat::Gif => (1 << 16) - 1,
        _ => (1 << 31) - 1,
    }
}

/// Whether a format can be written with several frames.
pub(super) fn animates(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Png | ImageFormat::Gif)
}
