//! Colour: matrices, ranges, chroma positions.

use super::format::{Family, PixelFormat};

/// Matrix coefficients: the weights of red, green and blue in luma.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matrix {
    /// ITU-R BT.601, standard definition.
    #[default]
    Bt601,
    /// ITU-R BT.709, high definition.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020,
    /// SMPTE 240M.
    Smpte240m,
    /// FCC 1953.
    Fcc,
}

impl Matrix {
    /// The weights of red and blue in luma.
    pub const fn weights(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Smpte240m => (0.212, 0.087),
            Self::Fcc => (0.30, 0.11),
        }
    }
}

/// Quantisation range: the 8-bit values of black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// Luma 16 to 235, chroma 16 to 240 (studio range).
    #[default]
    Limited,
    /// 0 to 255.
    Full,
}

/// Position of subsampled chroma relative to luma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Siting {
    /// On the left luma column, else between two columns.
    pub left: bool,
    /// On the upper luma row, else between two rows.
    pub top: bool,
}

impl Default for Siting {
    /// MPEG-2, H.264 and later: on the left column, between two rows.
    fn default() -> Self {
        Self {
            left: true,
            top: false,
        }
    }
}

/// Colorimetry of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Color {
    /// Weights of red and blue in luma.
    pub matrix: Matrix,
    /// Values of black and white.
    pub range: Range,
    /// Position of subsampled chroma.
    pub siting: Siting,
}

impl Color {
    /// A colour; what else may be told of one has its default.
    pub const fn new(matrix: Matrix, range: Range, siting: Siting) -> Self {
        Self {
            matrix,
            range,
            siting,
        }
    }

    /// The colour of frames that state none: full range for grey, as in image
    /// files and in GStreamer's caps, else the default.
    pub fn of_format(format: PixelFormat) -> Self {
        match format.family() {
            Family::Gray => Self {
                range: Range::Full,
                ..Self::default()
            },
            Family::Yuv | Family::Rgb => Self::default(),
        }
    }
}

/// Conversion between 8-bit Y'CbCr values and R'G'B' of 0 to 255, unrounded.
#[derive(Debug, Clone, Copy)]
pub struct YuvToRgb {
    kr: f32,
    kg: f32,
    kb: f32,
    luma_base: f32,
    luma_gain: f32,
    chroma_gain: f32,
}

impl YuvToRgb {
    /// The conversion for a frame's matrix and range.
    pub fn new(color: Color) -> Self {
        let (kr, kb) = color.matrix.weights();
        let (base, luma, chroma) = match color.range {
            Range::Limited => (16.0, 219.0, 224.0),
            Range::Full => (0.0, 255.0, 255.0),
        };
        Self {
            kr: kr as f32,
            kg: (1.0 - kr - kb) as f32,
            kb: kb as f32,
            luma_base: base,
            luma_gain: 255.0 / luma,
            chroma_gain: 255.0 / chroma,
        }
    }

    /// Weights of red, green and blue in luma; base and gain of luma; gain of
    /// chroma.
    #[cfg(feature = "cuda")]
    pub(crate) fn constants(&self) -> ([f32; 3], [f32; 3]) {
        (
            [self.kr, self.kg, self.kb],
            [self.luma_base, self.luma_gain, self.chroma_gain],
        )
    }

    /// Red, green and blue of one sample.
    #[inline]
    pub fn rgb(&self, [y, u, v]: [f32; 3]) -> [f32; 3] {
        let y = (y - self.luma_base) * self.luma_gain;
        let r = y + 2.0 * (1.0 - self.kr) * self.chroma_gain * (v - 128.0);
        let b = y + 2.0 * (1.0 - self.kb) * self.chroma_gain * (u - 128.0);
        let g = (y - self.kr * r - self.kb * b) / self.kg;
        [r, g, b]
    }

    /// Luma of one R'G'B' sample.
    #[inline]
    pub fn luma(&self, [r, g, b]: [f32; 3]) -> f32 {
        (self.kr * r + self.kg * g + self.kb * b) / self.luma_gain + self.luma_base
    }

    /// Luma and both colour differences of one R'G'B' sample.
    #[inline]
    pub fn yuv(&self, rgb: [f32; 3]) -> [f32; 3] {
        let [r, g, b] = rgb;
        let y = self.kr * r + self.kg * g + self.kb * b;
        let u = (b - y) / (2.0 * (1.0 - self.kb) * self.chroma_gain) + 128.0;
        let v = (r - y) / (2.0 * (1.0 - self.kr) * self.chroma_gain) + 128.0;
        [y / self.luma_gain + self.luma_base, u, v]
    }
}

/// The luma that the super-resolution literature trains and measures on:
/// BT.601 studio range of 8-bit RGB, as MATLAB's `rgb2ycbcr` computes it.
#[derive(Debug, Clone, Copy)]
pub struct Luma601;

impl Luma601 {
    /// Change of R, G and B for a change of luma by 1.
    pub const RGB_PER_LUMA: f32 = 255.0 / 219.0;

    /// Luma, 16 to 235, of red, green and blue, 0 to 255.
    #[inline]
    pub fn of([r, g, b]: [f64; 3]) -> f64 {
        16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0
    }
}

/// Y'CbCr of published luma models (yjn870/SRCNN-pytorch and others): BT.601
/// studio range with coefficients rounded to 1/256, which differs from
/// [`Luma601`] in the third decimal. Values are not rounded.
#[derive(Debug, Clone, Copy)]
pub struct Ycbcr256;

impl Ycbcr256 {
    /// Luma and both colour differences of red, green and blue, 0 to 255.
    #[inline]
    pub fn of([r, g, b]: [f64; 3]) -> [f64; 3] {
        [
            16.0 + (64.738 * r + 129.057 * g + 25.064 * b) / 256.0,
            128.0 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256.0,
            128.0 + (112.439 * r - 94.154 * g - 18.285 * b) / 256.0,
        ]
    }

    /// Red, green and blue, not clamped, of luma and both colour differences.
    #[inline]
    pub fn rgb([y, cb, cr]: [f64; 3]) -> [f64; 3] {
        let y = 298.082 * y / 256.0;
        [
            y + 408.583 * cr / 256.0 - 222.921,
            y - 100.291 * cb / 256.0 - 208.120 * cr / 256.0 + 135.576,
            y + 516.412 * cb / 256.0 - 276.836,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        // ITU-R BT.601 and BT.709, 75 % bars and primaries, limited range.
        let bt601 = YuvToRgb::new(Color::default());
        let bt709 = YuvToRgb::new(Color {
            matrix: Matrix::Bt709,
            ..Color::default()
        });
        for (conversion, rgb, yuv) in [
            (bt601, [255.0, 0.0, 0.0], [81.0, 90.0, 240.0]),
            (bt601, [0.0, 255.0, 0.0], [145.0, 54.0, 34.0]),
            (bt709, [255.0, 0.0, 0.0], [63.0, 102.0, 240.0]),
            (bt709, [0.0, 0.0, 255.0], [32.0, 240.0, 118.0]),
            (bt709, [255.0, 255.0, 255.0], [235.0, 128.0, 128.0]),
        ] {
            let found = conversion.yuv(rgb);
            for (found, expected) in found.iter().zip(yuv) {
                assert!(
                    (found - expected).abs() < 0.5,
                    "{rgb:?}: {found} {expected}"
                );
            }
            for (back, expected) in conversion.rgb(found).iter().zip(rgb) {
                assert!((back - expected).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn full_range_grey_is_itself() {
        let full = YuvToRgb::new(Color {
            range: Range::Full,
            ..Color::default()
        });
        let [r, g, b] = full.rgb([77.0, 128.0, 128.0]);
        assert!((r - 77.0).abs() < 1e-4 && (g - 77.0).abs() < 1e-4 && (b - 77.0).abs() < 1e-4);
    }
}
