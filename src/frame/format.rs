//! Pixel formats: the sample layouts of a frame.

/// The value of white in full range, and the largest one of 8-bit samples: values
/// of samples of any depth are in units of 8 bit.
pub const MAX_VALUE: f32 = 255.0;

/// The colour model of a format's components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// One component: luma.
    Gray,
    /// Luma, blue difference, red difference.
    Yuv,
    /// Red, green, blue.
    Rgb,
}

/// What a component measures, which decides on the values of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Luma,
    Chroma,
    /// Red, green or blue.
    Primary,
    Alpha,
}

/// Layout of the samples of one component.
///
/// A sample is `depth` bits of a little-endian word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Component {
    /// Index of its plane.
    pub plane: usize,
    /// Byte offset of the first sample's word in a row.
    pub offset: usize,
    /// Bytes from one sample's word to the next; of formats with a `pattern`,
    /// from one repetition to the next.
    pub step: usize,
    /// Luma columns that share one sample: 1, 2 or 4.
    pub sub_x: usize,
    /// Luma rows that share one sample: 1 or 2.
    pub sub_y: usize,
    /// Bits of a sample.
    pub depth: u32,
    /// Bytes of a word: 1, 2 or 4.
    pub word: usize,
    /// Bits of the word below the sample.
    pub shift: u32,
    /// Byte offset of the word, and shift, of each sample of a repetition, where
    /// the samples are not equally spaced; otherwise empty.
    pub pattern: &'static [(usize, u32)],
    pub(super) quantity: Quantity,
}

impl Component {
    /// Width and height in samples for a frame of `width` x `height` pixels.
    pub const fn size(&self, width: usize, height: usize) -> (usize, usize) {
        (width.div_ceil(self.sub_x), height.div_ceil(self.sub_y))
    }

    /// Byte offset of a sample's word in a row, and the sample's shift.
    #[inline]
    pub(super) fn place(&self, sample: usize) -> (usize, u32) {
        match self.pattern {
            [] => (self.offset + sample * self.step, self.shift),
            pattern => {
                let (offset, shift) = pattern[sample % pattern.len()];
                (sample / pattern.len() * self.step + offset, shift)
            }
        }
    }

    /// Bytes from the start of a row to the end of the last of `count` samples.
    pub(super) fn row_bytes(&self, count: usize) -> usize {
        match count.checked_sub(1) {
            Some(last) => self.place(last).0 + self.word,
            None => 0,
        }
    }

    /// Samples in the high bits of their words.
    const fn high(self) -> Self {
        Self {
            shift: 8 * self.word as u32 - self.depth,
            ..self
        }
    }

    /// Samples of `depth` bits from bit `shift` on of 32-bit words.
    const fn bits(self, shift: u32, depth: u32) -> Self {
        Self {
            word: 4,
            shift,
            depth,
            ..self
        }
    }

    /// Samples at the places of a pattern.
    const fn repeat(self, word: usize, pattern: &'static [(usize, u32)]) -> Self {
        Self {
            word,
            pattern,
            ..self
        }
    }
}

/// A component of full size.
const fn at(plane: usize, offset: usize, step: usize) -> Component {
    sub(plane, offset, step, 1, 1)
}

/// A subsampled component. `components_of` adds depth and quantity.
const fn sub(plane: usize, offset: usize, step: usize, sub_x: usize, sub_y: usize) -> Component {
    Component {
        plane,
        offset,
        step,
        sub_x,
        sub_y,
        depth: 0,
        word: 0,
        shift: 0,
        pattern: &[],
        quantity: Quantity::Luma,
    }
}

/// Components with the depth of their format, in words of 8 or 16 bits, unless
/// they have their own.
const fn components_of<const N: usize>(
    mut components: [Component; N],
    (family, depth, alpha, high): (Family, u32, bool, bool),
) -> [Component; N] {
    let mut i = 0;
    while i < N {
        let component = &mut components[i];
        if component.depth == 0 {
            component.depth = depth;
        }
        if component.word == 0 {
            component.word = if depth > 8 { 2 } else { 1 };
        }
        if high {
            *component = component.high();
        }
        let component = &mut components[i];
        component.quantity = match (family, i) {
            _ if alpha && i + 1 == N => Quantity::Alpha,
            (Family::Rgb, _) => Quantity::Primary,
            (_, 0) => Quantity::Luma,
            _ => Quantity::Chroma,
        };
        i += 1;
    }
    components
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident $text:literal $family:ident $depth:literal $alpha:ident
       $high:ident [$($component:expr),+] $padding:expr;)+) => {
        /// A sample layout, named as GStreamer names it.
        #[non_exhaustive]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum PixelFormat {
            $($(#[$doc])* $name,)+
        }

        impl PixelFormat {
            /// Every format, in order of preference in caps.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name in GStreamer's caps.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The colour model.
            pub const fn family(self) -> Family {
                match self { $(Self::$name => Family::$family,)+ }
            }

            /// Bits of a sample, of alpha aside.
            pub const fn depth(self) -> u32 {
                match self { $(Self::$name => $depth,)+ }
            }

            /// Whether the last component is alpha.
            pub const fn has_alpha(self) -> bool {
                match self { $(Self::$name => flag!($alpha),)+ }
            }

            /// The components: Y U V, R G B or Y, then alpha.
            pub const fn components(self) -> &'static [Component] {
                match self { $(Self::$name => const {
                    &components_of(
                        [$($component),+],
                        (Family::$family, $depth, flag!($alpha), flag!($high)),
                    )
                },)+ }
            }

            /// The padding byte of formats that have one.
            pub const fn padding(self) -> Option<Component> {
                match self { $(Self::$name => const {
                    match $padding {
                        Some(padding) => Some(components_of(
                            [padding], (Family::$family, $depth, true, false)
                        )[0]),
                        None => None,
                    }
                },)+ }
            }
        }
    };
}

macro_rules! flag {
    (alpha) => {
        true
    };
    (opaque) => {
        false
    };
    (high) => {
        true
    };
    (low) => {
        false
    };
}

// Name, name in GStreamer, colour model, depth, alpha or opaque, whether samples
// are in the high or low bits of their words, components, padding.
formats! {
    /// Planar Y, U, V, chroma halved both ways.
    I420 "I420" Yuv 8 opaque low [at(0, 0, 1), sub(1, 0, 1, 2, 2), sub(2, 0, 1, 2, 2)] None;
    /// As I420 with V before U.
    Yv12 "YV12" Yuv 8 opaque low [at(0, 0, 1), sub(2, 0, 1, 2, 2), sub(1, 0, 1, 2, 2)] None;
    /// Planar Y, then interleaved U and V, chroma halved both ways.
    Nv12 "NV12" Yuv 8 opaque low [at(0, 0, 1), sub(1, 0, 2, 2, 2), sub(1, 1, 2, 2, 2)] None;
    /// As NV12 with V before U.
    Nv21 "NV21" Yuv 8 opaque low [at(0, 0, 1), sub(1, 1, 2, 2, 2), sub(1, 0, 2, 2, 2)] None;
    /// Planar Y, U, V, chroma halved horizontally.
    Y42b "Y42B" Yuv 8 opaque low [at(0, 0, 1), sub(1, 0, 1, 2, 1), sub(2, 0, 1, 2, 1)] None;
    /// Planar Y, U, V of one size.
    Y444 "Y444" Yuv 8 opaque low [at(0, 0, 1), at(1, 0, 1), at(2, 0, 1)] None;
    /// Luma alone.
    Gray8 "GRAY8" Gray 8 opaque low [at(0, 0, 1)] None;
    /// Packed R, G, B.
    Rgb "RGB" Rgb 8 opaque low [at(0, 0, 3), at(0, 1, 3), at(0, 2, 3)] None;
    /// Packed B, G, R.
    Bgr "BGR" Rgb 8 opaque low [at(0, 2, 3), at(0, 1, 3), at(0, 0, 3)] None;
    /// Packed R, G, B and an unused byte.
    Rgbx "RGBx" Rgb 8 opaque low [at(0, 0, 4), at(0, 1, 4), at(0, 2, 4)] Some(at(0, 3, 4));
    /// Packed B, G, R and an unused byte.
    Bgrx "BGRx" Rgb 8 opaque low [at(0, 2, 4), at(0, 1, 4), at(0, 0, 4)] Some(at(0, 3, 4));
    /// An unused byte, then packed R, G, B.
    Xrgb "xRGB" Rgb 8 opaque low [at(0, 1, 4), at(0, 2, 4), at(0, 3, 4)] Some(at(0, 0, 4));
    /// An unused byte, then packed B, G, R.
    Xbgr "xBGR" Rgb 8 opaque low [at(0, 3, 4), at(0, 2, 4), at(0, 1, 4)] Some(at(0, 0, 4));
    /// Packed R, G, B, alpha.
    Rgba "RGBA" Rgb 8 alpha low [at(0, 0, 4), at(0, 1, 4), at(0, 2, 4), at(0, 3, 4)] None;
    /// Packed B, G, R, alpha.
    Bgra "BGRA" Rgb 8 alpha low [at(0, 2, 4), at(0, 1, 4), at(0, 0, 4), at(0, 3, 4)] None;
    /// Packed alpha, R, G, B.
    Argb "ARGB" Rgb 8 alpha low [at(0, 1, 4), at(0, 2, 4), at(0, 3, 4), at(0, 0, 4)] None;
    /// Packed alpha, B, G, R.
    Abgr "ABGR" Rgb 8 alpha low [at(0, 3, 4), at(0, 2, 4), at(0, 1, 4), at(0, 0, 4)] None;
    /// Planar R, G, B.
    Rgbp "RGBP" Rgb 8 opaque low [at(0, 0, 1), at(1, 0, 1), at(2, 0, 1)] None;
    /// Planar B, G, R.
    Bgrp "BGRP" Rgb 8 opaque low [at(2, 0, 1), at(1, 0, 1), at(0, 0, 1)] None;
    /// Planar G, B, R.
    Gbr "GBR" Rgb 8 opaque low [at(2, 0, 1), at(0, 0, 1), at(1, 0, 1)] None;
    /// Planar G, B, R, alpha.
    Gbra "GBRA" Rgb 8 alpha low [at(2, 0, 1), at(0, 0, 1), at(1, 0, 1), at(3, 0, 1)] None;
    /// Planar Y, then interleaved U and V, chroma halved horizontally.
    Nv16 "NV16" Yuv 8 opaque low [at(0, 0, 1), sub(1, 0, 2, 2, 1), sub(1, 1, 2, 2, 1)] None;
    /// As NV16 with V before U.
    Nv61 "NV61" Yuv 8 opaque low [at(0, 0, 1), sub(1, 1, 2, 2, 1), sub(1, 0, 2, 2, 1)] None;
    /// Planar Y, then interleaved U and V of full size.
    Nv24 "NV24" Yuv 8 opaque low [at(0, 0, 1), at(1, 0, 2), at(1, 1, 2)] None;
    /// Planar Y, U, V, chroma a quarter as wide.
    Y41b "Y41B" Yuv 8 opaque low [at(0, 0, 1), sub(1, 0, 1, 4, 1), sub(2, 0, 1, 4, 1)] None;
    /// Packed Y, U, Y, V, chroma halved horizontally.
    Yuy2 "YUY2" Yuv 8 opaque low [at(0, 0, 2), sub(0, 1, 4, 2, 1), sub(0, 3, 4, 2, 1)] None;
    /// As YUY2 with V before U.
    Yvyu "YVYU" Yuv 8 opaque low [at(0, 0, 2), sub(0, 3, 4, 2, 1), sub(0, 1, 4, 2, 1)] None;
    /// Packed U, Y, V, Y, chroma halved horizontally.
    Uyvy "UYVY" Yuv 8 opaque low [at(0, 1, 2), sub(0, 0, 4, 2, 1), sub(0, 2, 4, 2, 1)] None;
    /// As UYVY with V before U.
    Vyuy "VYUY" Yuv 8 opaque low [at(0, 1, 2), sub(0, 2, 4, 2, 1), sub(0, 0, 4, 2, 1)] None;
    /// Packed alpha, Y, U, V.
    Ayuv "AYUV" Yuv 8 alpha low [at(0, 1, 4), at(0, 2, 4), at(0, 3, 4), at(0, 0, 4)] None;
    /// Packed V, U, Y, alpha.
    Vuya "VUYA" Yuv 8 alpha low [at(0, 2, 4), at(0, 1, 4), at(0, 0, 4), at(0, 3, 4)] None;
    /// I420 and a plane of alpha.
    A420 "A420" Yuv 8 alpha low [at(0, 0, 1), sub(1, 0, 1, 2, 2), sub(2, 0, 1, 2, 2), at(3, 0, 1)] None;
    /// Y42B and a plane of alpha.
    A422 "A422" Yuv 8 alpha low [at(0, 0, 1), sub(1, 0, 1, 2, 1), sub(2, 0, 1, 2, 1), at(3, 0, 1)] None;
    /// Y444 and a plane of alpha.
    A444 "A444" Yuv 8 alpha low [at(0, 0, 1), at(1, 0, 1), at(2, 0, 1), at(3, 0, 1)] None;
    /// NV12 and a plane of alpha.
    Av12 "AV12" Yuv 8 alpha low [at(0, 0, 1), sub(1, 0, 2, 2, 2), sub(1, 1, 2, 2, 2), at(2, 0, 1)] None;
    /// I420 at 10 bits in words of 16.
    I420x10 "I420_10LE" Yuv 10 opaque low [at(0, 0, 2), sub(1, 0, 2, 2, 2), sub(2, 0, 2, 2, 2)] None;
    /// Y42B at 10 bits in words of 16.
    I422x10 "I422_10LE" Yuv 10 opaque low [at(0, 0, 2), sub(1, 0, 2, 2, 1), sub(2, 0, 2, 2, 1)] None;
    /// Y444 at 10 bits in words of 16.
    Y444x10 "Y444_10LE" Yuv 10 opaque low [at(0, 0, 2), at(1, 0, 2), at(2, 0, 2)] None;
    /// I420 at 12 bits in words of 16.
    I420x12 "I420_12LE" Yuv 12 opaque low [at(0, 0, 2), sub(1, 0, 2, 2, 2), sub(2, 0, 2, 2, 2)] None;
    /// Y42B at 12 bits in words of 16.
    I422x12 "I422_12LE" Yuv 12 opaque low [at(0, 0, 2), sub(1, 0, 2, 2, 1), sub(2, 0, 2, 2, 1)] None;
    /// Y444 at 12 bits in words of 16.
    Y444x12 "Y444_12LE" Yuv 12 opaque low [at(0, 0, 2), at(1, 0, 2), at(2, 0, 2)] None;
    /// Y444 at 16 bits.
    Y444x16 "Y444_16LE" Yuv 16 opaque low [at(0, 0, 2), at(1, 0, 2), at(2, 0, 2)] None;
    /// NV12 at 10 bits in the high bits of words of 16.
    P010 "P010_10LE" Yuv 10 opaque high [at(0, 0, 2), sub(1, 0, 4, 2, 2), sub(1, 2, 4, 2, 2)] None;
    /// NV12 at 12 bits in the high bits of words of 16.
    P012 "P012_LE" Yuv 12 opaque high [at(0, 0, 2), sub(1, 0, 4, 2, 2), sub(1, 2, 4, 2, 2)] None;
    /// NV12 at 16 bits.
    P016 "P016_LE" Yuv 16 opaque high [at(0, 0, 2), sub(1, 0, 4, 2, 2), sub(1, 2, 4, 2, 2)] None;
    /// A420 at 10 bits in words of 16.
    A420x10 "A420_10LE" Yuv 10 alpha low [at(0, 0, 2), sub(1, 0, 2, 2, 2), sub(2, 0, 2, 2, 2), at(3, 0, 2)] None;
    /// A422 at 10 bits in words of 16.
    A422x10 "A422_10LE" Yuv 10 alpha low [at(0, 0, 2), sub(1, 0, 2, 2, 1), sub(2, 0, 2, 2, 1), at(3, 0, 2)] None;
    /// A444 at 10 bits in words of 16.
    A444x10 "A444_10LE" Yuv 10 alpha low [at(0, 0, 2), at(1, 0, 2), at(2, 0, 2), at(3, 0, 2)] None;
    /// A420 at 12 bits in words of 16.
    A420x12 "A420_12LE" Yuv 12 alpha low [at(0, 0, 2), sub(1, 0, 2, 2, 2), sub(2, 0, 2, 2, 2), at(3, 0, 2)] None;
    /// A422 at 12 bits in words of 16.
    A422x12 "A422_12LE" Yuv 12 alpha low [at(0, 0, 2), sub(1, 0, 2, 2, 1), sub(2, 0, 2, 2, 1), at(3, 0, 2)] None;
    /// A444 at 12 bits in words of 16.
    A444x12 "A444_12LE" Yuv 12 alpha low [at(0, 0, 2), at(1, 0, 2), at(2, 0, 2), at(3, 0, 2)] None;
    /// A420 at 16 bits.
    A420x16 "A420_16LE" Yuv 16 alpha low [at(0, 0, 2), sub(1, 0, 2, 2, 2), sub(2, 0, 2, 2, 2), at(3, 0, 2)] None;
    /// A422 at 16 bits.
    A422x16 "A422_16LE" Yuv 16 alpha low [at(0, 0, 2), sub(1, 0, 2, 2, 1), sub(2, 0, 2, 2, 1), at(3, 0, 2)] None;
    /// A444 at 16 bits.
    A444x16 "A444_16LE" Yuv 16 alpha low [at(0, 0, 2), at(1, 0, 2), at(2, 0, 2), at(3, 0, 2)] None;
    /// Luma alone at 10 bits in words of 16.
    Gray10 "GRAY10_LE16" Gray 10 opaque low [at(0, 0, 2)] None;
    /// Luma alone at 16 bits.
    Gray16 "GRAY16_LE" Gray 16 opaque low [at(0, 0, 2)] None;
    /// GBR at 10 bits in words of 16.
    Gbrx10 "GBR_10LE" Rgb 10 opaque low [at(2, 0, 2), at(0, 0, 2), at(1, 0, 2)] None;
    /// GBR at 12 bits in words of 16.
    Gbrx12 "GBR_12LE" Rgb 12 opaque low [at(2, 0, 2), at(0, 0, 2), at(1, 0, 2)] None;
    /// GBR at 16 bits.
    Gbrx16 "GBR_16LE" Rgb 16 opaque low [at(2, 0, 2), at(0, 0, 2), at(1, 0, 2)] None;
    /// GBRA at 10 bits in words of 16.
    Gbrax10 "GBRA_10LE" Rgb 10 alpha low [at(2, 0, 2), at(0, 0, 2), at(1, 0, 2), at(3, 0, 2)] None;
    /// GBRA at 12 bits in words of 16.
    Gbrax12 "GBRA_12LE" Rgb 12 alpha low [at(2, 0, 2), at(0, 0, 2), at(1, 0, 2), at(3, 0, 2)] None;
    /// RGBA at 16 bits.
    Rgba64 "RGBA64_LE" Rgb 16 alpha low [at(0, 0, 8), at(0, 2, 8), at(0, 4, 8), at(0, 6, 8)] None;
    /// BGRA at 16 bits.
    Bgra64 "BGRA64_LE" Rgb 16 alpha low [at(0, 4, 8), at(0, 2, 8), at(0, 0, 8), at(0, 6, 8)] None;
    /// ARGB at 16 bits.
    Argb64 "ARGB64_LE" Rgb 16 alpha low [at(0, 2, 8), at(0, 4, 8), at(0, 6, 8), at(0, 0, 8)] None;
    /// ABGR at 16 bits.
    Abgr64 "ABGR64_LE" Rgb 16 alpha low [at(0, 6, 8), at(0, 4, 8), at(0, 2, 8), at(0, 0, 8)] None;
    /// R, G, B of 10 bits and alpha of 2 in a word of 32, from the lowest bit.
    Rgb10a2 "RGB10A2_LE" Rgb 10 alpha low [at(0, 0, 4).bits(0, 10), at(0, 0, 4).bits(10, 10), at(0, 0, 4).bits(20, 10), at(0, 0, 4).bits(30, 2)] None;
    /// B, G, R of 10 bits and alpha of 2 in a word of 32, from the lowest bit.
    Bgr10a2 "BGR10A2_LE" Rgb 10 alpha low [at(0, 0, 4).bits(20, 10), at(0, 0, 4).bits(10, 10), at(0, 0, 4).bits(0, 10), at(0, 0, 4).bits(30, 2)] None;
    /// U, Y, V of 10 bits and alpha of 2 in a word of 32, from the lowest bit.
    Y410 "Y410" Yuv 10 alpha low [at(0, 0, 4).bits(10, 10), at(0, 0, 4).bits(0, 10), at(0, 0, 4).bits(20, 10), at(0, 0, 4).bits(30, 2)] None;
    /// YUY2 at 10 bits in the high bits of words of 16.
    Y210 "Y210" Yuv 10 opaque high [at(0, 0, 4), sub(0, 2, 8, 2, 1), sub(0, 6, 8, 2, 1)] None;
    /// YUY2 at 12 bits in the high bits of words of 16.
    Y212 "Y212_LE" Yuv 12 opaque high [at(0, 0, 4), sub(0, 2, 8, 2, 1), sub(0, 6, 8, 2, 1)] None;
    /// Packed U, Y, V, alpha at 12 bits in the high bits of words of 16.
    Y412 "Y412_LE" Yuv 12 alpha high [at(0, 2, 8), at(0, 0, 8), at(0, 4, 8), at(0, 6, 8)] None;
    /// U, Y, V, Y at 10 bits, three samples to a word of 32, chroma halved horizontally.
    V210 "v210" Yuv 10 opaque low [at(0, 0, 16).repeat(4, &[(0, 10), (4, 0), (4, 20), (8, 10), (12, 0), (12, 20)]), sub(0, 0, 16, 2, 1).repeat(4, &[(0, 0), (4, 10), (8, 20)]), sub(0, 0, 16, 2, 1).repeat(4, &[(0, 20), (8, 0), (12, 10)])] None;
    /// Luma alone at 10 bits, three samples to a word of 32.
    Gray10x3 "GRAY10_LE32" Gray 10 opaque low [at(0, 0, 4).repeat(4, &[(0, 0), (0, 10), (0, 20)])] None;
    /// NV12 at 10 bits, three samples to a word of 32.
    Nv12x10x3 "NV12_10LE32" Yuv 10 opaque low [at(0, 0, 4).repeat(4, &[(0, 0), (0, 10), (0, 20)]), sub(1, 0, 8, 2, 2).repeat(4, &[(0, 0), (0, 20), (4, 10)]), sub(1, 0, 8, 2, 2).repeat(4, &[(0, 10), (4, 0), (4, 20)])] None;
    /// NV12 at 10 bits without gaps: four samples to five bytes.
    Nv12x10x4 "NV12_10LE40" Yuv 10 opaque low [at(0, 0, 5).repeat(2, &[(0, 0), (1, 2), (2, 4), (3, 6)]), sub(1, 0, 10, 2, 2).repeat(2, &[(0, 0), (2, 4), (5, 0), (7, 4)]), sub(1, 0, 10, 2, 2).repeat(2, &[(1, 2), (3, 6), (6, 2), (8, 6)])] None;
    /// NV16 at 10 bits, three samples to a word of 32.
    Nv16x10x3 "NV16_10LE32" Yuv 10 opaque low [at(0, 0, 4).repeat(4, &[(0, 0), (0, 10), (0, 20)]), sub(1, 0, 8, 2, 1).repeat(4, &[(0, 0), (0, 20), (4, 10)]), sub(1, 0, 8, 2, 1).repeat(4, &[(0, 10), (4, 0), (4, 20)])] None;
    /// NV16 at 10 bits without gaps: four samples to five bytes.
    Nv16x10x4 "NV16_10LE40" Yuv 10 opaque low [at(0, 0, 5).repeat(2, &[(0, 0), (1, 2), (2, 4), (3, 6)]), sub(1, 0, 10, 2, 1).repeat(2, &[(0, 0), (2, 4), (5, 0), (7, 4)]), sub(1, 0, 10, 2, 1).repeat(2, &[(1, 2), (3, 6), (6, 2), (8, 6)])] None;
    /// YUY2 at 16 bits.
    Y216 "Y216_LE" Yuv 16 opaque low [at(0, 0, 4), sub(0, 2, 8, 2, 1), sub(0, 6, 8, 2, 1)] None;
    /// Packed U, Y, V, alpha at 16 bits.
    Y416 "Y416_LE" Yuv 16 alpha low [at(0, 2, 8), at(0, 0, 8), at(0, 4, 8), at(0, 6, 8)] None;
    /// Packed R, B, G, alpha.
    Rbga "RBGA" Rgb 8 alpha low [at(0, 0, 4), at(0, 2, 4), at(0, 1, 4), at(0, 3, 4)] None;
    /// R, G, B of 10 bits in a word of 32, from the lowest bit, and two unused bits.
    Rgb10x2 "RGB10x2_LE" Rgb 10 opaque low [at(0, 0, 4).bits(0, 10), at(0, 0, 4).bits(10, 10), at(0, 0, 4).bits(20, 10)] None;
    /// B, G, R of 10 bits in a word of 32, from the lowest bit, and two unused bits.
    Bgr10x2 "BGR10x2_LE" Rgb 10 opaque low [at(0, 0, 4).bits(20, 10), at(0, 0, 4).bits(10, 10), at(0, 0, 4).bits(0, 10)] None;
}

impl PixelFormat {
    /// The format by its name in GStreamer's caps.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// Number of planes.
    pub fn planes(self) -> usize {
        self.components()
            .iter()
            .map(|c| c.plane + 1)
            .max()
            .unwrap_or(0)
    }

    /// Bytes a row of `plane`, without padding, and its number of rows.
    pub fn plane_size(self, plane: usize, width: usize, height: usize) -> (usize, usize) {
        let all = self.components().iter().copied().chain(self.padding());
        let sizes = all.filter(|c| c.plane == plane).map(|c| {
            let (w, h) = c.size(width, height);
            (c.row_bytes(w), h)
        });
        sizes.max().unwrap_or((0, 0))
    }

    /// Columns and rows that parts of a frame begin at multiples of, so that no sample
    /// and no word belongs to two parts.
    pub fn alignment(self) -> (usize, usize) {
        let multiple = |a: usize, b: usize| (a..=a * b).step_by(a).find(|n| n % b == 0);
        let columns = |c: &Component| c.sub_x * c.pattern.len().max(1);
        let all = self.components().iter();
        all.fold((1, 1), |(x, y), c| {
            (multiple(x, columns(c)).unwrap_or(x), y.max(c.sub_y))
        })
    }

    /// Whether several samples share a word, so that writing one of them reads
    /// and writes the others, and rows have unused bits.
    pub fn is_bit_packed(self) -> bool {
        let packed = |c: &Component| c.word == 4 || !c.pattern.is_empty();
        self.components().iter().any(packed)
    }
}
