//! What a file says besides its pixels.

use image::ImageFormat;
use image::codecs::jpeg::{PixelDensity, PixelDensityUnit};
use png::{CodingIndependentCodePoints, PixelDimensions, ScaledFloat, SourceChromaticities, Unit};

/// Metres of an inch.
const INCH: f64 = 0.0254;

/// EXIF that fits one segment of a JPEG, in bytes.
const MAX_JPEG_EXIF: usize = 65_527;

/// What a file says besides its pixels, written again with the larger image.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Metadata {
    /// The ICC colour profile.
    pub icc_profile: Option<Vec<u8>>,
    /// EXIF, from its TIFF header on. Its orientation is the upright one.
    pub exif: Option<Vec<u8>>,
    /// Pixels per length.
    pub density: Option<Density>,
    /// The colour space of a PNG file without a profile.
    pub(super) png_color: PngColor,
}

/// The colour space of a PNG file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct PngColor {
    pub(super) gamma: Option<ScaledFloat>,
    pub(super) chromaticities: Option<SourceChromaticities>,
    pub(super) srgb: Option<png::SrgbRenderingIntent>,
    pub(super) code_points: Option<CodingIndependentCodePoints>,
}

/// Pixels per length, horizontally and vertically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Density {
    /// Pixels per unit, horizontally.
    pub x: u32,
    /// Pixels per unit, vertically.
    pub y: u32,
    /// The unit.
    pub unit: DensityUnit,
}

/// A unit of [`Density`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DensityUnit {
    /// Per metre, as PNG.
    Meter,
    /// Per centimetre, as JPEG.
    Centimeter,
    /// Per inch, as JPEG.
    Inch,
    /// None: only the shape of a pixel is known.
    None,
}

impl Density {
    pub(super) fn from_png(density: PixelDimensions) -> Self {
        Self {
            x: density.xppu,
            y: density.yppu,
            unit: match density.unit {
                Unit::Meter => DensityUnit::Meter,
                Unit::Unspecified => DensityUnit::None,
            },
        }
    }

    /// `None` for square pixels of unknown size, which is what JPEG files state
    /// that state nothing.
    pub(super) fn from_jpeg(unit: u8, x: u16, y: u16) -> Option<Self> {
        let unit = match unit {
            1 => DensityUnit::Inch,
            2 => DensityUnit::Centimeter,
            _ if x == y => return None,
            _ => DensityUnit::None,
        };
        (x > 0 && y > 0).then_some(Self {
            x: x.into(),
            y: y.into(),
            unit,
        })
    }

    /// Of the image turned by a quarter.
    pub(super) fn turned(self) -> Self {
        Self {
            x: self.y,
            y: self.x,
            ..self
        }
    }

    pub(super) fn to_png(self) -> PixelDimensions {
        let per_meter = |n: u32| match self.unit {
            DensityUnit::Centimeter => n.saturating_mul(100),
            DensityUnit::Inch => (f64::from(n) / INCH).round() as u32,
            DensityUnit::Meter | DensityUnit::None => n,
        };
        PixelDimensions {
            xppu: per_meter(self.x),
            yppu: per_meter(self.y),
            unit: match self.unit {
                DensityUnit::None => Unit::Unspecified,
                _ => Unit::Meter,
            },
        }
    }

    /// `None` if the numbers are too large for JPEG.
    pub(super) fn to_jpeg(self) -> Option<PixelDensity> {
        let convert = |n: u32| match self.unit {
            DensityUnit::Meter => (f64::from(n) * INCH).round() as u32,
            _ => n,
        };
        let density = (
            u16::try_from(convert(self.x)).ok()?,
            u16::try_from(convert(self.y)).ok()?,
        );
        let unit = match self.unit {
            DensityUnit::Meter | DensityUnit::Inch => PixelDensityUnit::Inches,
            DensityUnit::Centimeter => PixelDensityUnit::Centimeters,
            DensityUnit::None => PixelDensityUnit::PixelAspectRatio,
        };
        Some(PixelDensity { density, unit })
    }
}

impl Metadata {
    /// What of this a file of a format with so many channels can hold, and the
    /// names of what it cannot.
    pub(super) fn fitted(&self, format: ImageFormat, channels: usize) -> (Self, Vec<&'static str>) {
        let mut fitted = self.clone();
        let mut lost = Vec::new();
        let (icc, exif, density) = match format {
            ImageFormat::Png | ImageFormat::Jpeg => (true, true, true),
            ImageFormat::WebP => (true, true, false),
            _ => (false, false, false),
        };
        let suits = |profile: &Vec<u8>| icc && profile_suits(profile, channels);
        if fitted.icc_profile.take_if(|p| !suits(p)).is_some() {
            lost.push("colour profile");
        }
        let long = |bytes: &Vec<u8>| format == ImageFormat::Jpeg && bytes.len() > MAX_JPEG_EXIF;
        if fitted.exif.take_if(|e| !exif || long(e)).is_some() {
            lost.push("EXIF");
        }
        let large = |d: &Density| format == ImageFormat::Jpeg && d.to_jpeg().is_none();
        if fitted.density.take_if(|d| !density || large(d)).is_some() {
            lost.push("density");
        }
        if fitted.icc_profile.is_some() {
            // Of a PNG file with both, the profile counts.
            fitted.png_color = PngColor::default();
        }
        (fitted, lost)
    }
}

/// Whether a profile describes samples of so many channels: a CMYK file's does not
/// describe the RGB that it was decoded to.
fn profile_suits(profile: &[u8], channels: usize) -> bool {
    match profile.get(16..20) {
        Some(b"RGB ") => channels >= 3,
        Some(b"GRAY") => channels == 1,
        _ => false,
    }
}
