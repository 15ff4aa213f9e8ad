//! Picture files (feature `image`).

use super::Image;
use crate::{Error, Result};
use image::ImageDecoder;
use std::io::Write;
use std::path::Path;

/// Of JPEG files, 1 to 100: the encoder's own 75 shows blocks that no network made.
const JPEG_QUALITY: u8 = 95;

impl Image {
    /// Reads a PNG, JPEG, BMP or WebP file; 16-bit samples become 8-bit ones.
    /// Feature `image`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no picture.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::read(path).map_err(file)?;
        let decoded = decode(&bytes)
            .map_err(|e| Error::Frame(format!("{}: not a usable picture: {e}", path.display())))?;
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        let color = decoded.color();
        let (channels, data) = match (color.has_color(), color.has_alpha()) {
            (false, false) => (1, decoded.into_luma8().into_raw()),
            (true, false) => (3, decoded.into_rgb8().into_raw()),
            (_, true) => (4, decoded.into_rgba8().into_raw()),
        };
        Ok(Self {
            width,
            height,
            channels,
            data,
        })
    }

    /// Writes the picture; the file's extension says in which format. Feature
    /// `image`.
    ///
    /// # Errors
    ///
    /// An unknown extension, or a file that cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let color = match self.channels {
            1 => image::ExtendedColorType::L8,
            3 => image::ExtendedColorType::Rgb8,
            _ => image::ExtendedColorType::Rgba8,
        };
        let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (width, height) = (side(self.width), side(self.height));
        let written = match image::ImageFormat::from_path(path) {
            Ok(image::ImageFormat::Jpeg) => std::fs::File::create(path)
                .map_err(image::ImageError::IoError)
                .and_then(|file| {
                    let mut file = std::io::BufWriter::new(file);
                    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY)
                        .encode(&self.data, width, height, color)?;
                    file.flush().map_err(image::ImageError::IoError)
                }),
            _ => image::save_buffer(path, &self.data, width, height, color),
        };
        written.map_err(|e| Error::Frame(format!("cannot write {}: {e}", path.display())))
    }
}

/// Decodes a file, turned upright as its camera noted.
fn decode(bytes: &[u8]) -> image::ImageResult<image::DynamicImage> {
    let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format()?;
    // The decoder fills the missing part of a cut JPEG with grey and says nothing.
    const END_OF_JPEG: &[u8] = &[0xFF, 0xD9];
    let jpeg = reader.format() == Some(image::ImageFormat::Jpeg);
    if jpeg && !bytes.windows(END_OF_JPEG.len()).any(|w| w == END_OF_JPEG) {
        let cut = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file is cut short");
        return Err(cut.into());
    }
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut decoded = image::DynamicImage::from_decoder(decoder)?;
    decoded.apply_orientation(orientation);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saves_and_opens() {
        let dir = tempfile::tempdir().unwrap();
        for channels in [1, 3, 4] {
            let mut picture = Image::new(5, 3, channels);
            for (i, v) in picture.data.iter_mut().enumerate() {
                *v = (i * 7) as u8;
            }
            let path = dir.path().join(format!("{channels}.png"));
            picture.save(&path).unwrap();
            assert_eq!(Image::open(&path).unwrap(), picture);
        }
    }

    #[test]
    fn names_the_file_it_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.png");
        let error = Image::open(&missing).unwrap_err().to_string();
        assert!(error.contains("missing.png"), "{error}");
        let broken = dir.path().join("broken.png");
        std::fs::write(&broken, b"\x89PNG\r\n\x1a\nxx").unwrap();
        let error = Image::open(&broken).unwrap_err().to_string();
        assert!(error.contains("broken.png"), "{error}");
    }

    #[test]
    fn a_jpeg_that_is_cut_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.jpg");
        let mut picture = Image::new(64, 64, 3);
        picture
            .data
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = (i % 251) as u8);
        picture.save(&path).unwrap();
        assert!(Image::open(&path).is_ok());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = Image::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("cut.jpg") && error.contains("cut short"),
            "{error}"
        );
    }

    /// Orientation 6 of EXIF: the camera was held upright, turn right to view.
    #[test]
    fn pictures_are_turned_as_their_camera_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upright.jpg");
        Image::new(16, 8, 3).save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let exif: &[u8] = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\
            \x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        bytes.splice(2..2, exif.iter().copied());
        std::fs::write(&path, &bytes).unwrap();
        let picture = Image::open(&path).unwrap();
        assert_eq!((picture.width, picture.height), (8, 16));
    }
}
