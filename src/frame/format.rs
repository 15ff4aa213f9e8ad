//! Pixel formats: the sample layouts of a frame.

/// The largest value of a sample of any depth once it is read: values are in
/// units of 8 bit.
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

/// Layout of the samples of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Component {
    /// Index of its plane.
    pub plane: usize,
    /// Byte offset of the first sample in a row.
    pub offset: usize,
    /// Bytes from one sample to the next.
    pub step: usize,
    /// Luma columns that share one sample: 1 or 2.
    pub sub_x: usize,
    /// Luma rows that share one sample: 1 or 2.
    pub sub_y: usize,
    /// Bits of a sample.
    pub depth: u32,
}

impl Component {
    /// Width and height in samples for a frame of `width` x `height` pixels.
    pub const fn size(&self, width: usize, height: usize) -> (usize, usize) {
        (width.div_ceil(self.sub_x), height.div_ceil(self.sub_y))
    }

    const fn with_depth(self, depth: u32) -> Self {
        Self { depth, ..self }
    }
}

/// A component of full size; `formats!` adds the depth.
const fn at(plane: usize, offset: usize, step: usize) -> Component {
    sub(plane, offset, step, 1, 1)
}

/// A subsampled component.
const fn sub(plane: usize, offset: usize, step: usize, sub_x: usize, sub_y: usize) -> Component {
    Component {
        plane,
        offset,
        step,
        sub_x,
        sub_y,
        depth: 0,
    }
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident $text:literal $family:ident $depth:literal $alpha:literal
       [$($component:expr),+] $padding:expr;)+) => {
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

            /// Bits of a sample.
            pub const fn depth(self) -> u32 {
                match self { $(Self::$name => $depth,)+ }
            }

            /// Whether the last component is alpha.
            pub const fn has_alpha(self) -> bool {
                match self { $(Self::$name => $alpha,)+ }
            }

            /// The components: Y U V, R G B or Y, then alpha.
            pub const fn components(self) -> &'static [Component] {
                match self { $(Self::$name => const { &[$($component.with_depth($depth)),+] },)+ }
            }

            /// The padding byte of formats that have one.
            pub const fn padding(self) -> Option<Component> {
                match self { $(Self::$name => $padding,)+ }
            }
        }
    };
}

formats! {
    /// Planar Y, U, V, chroma halved both ways.
    I420 "I420" Yuv 8 false [at(0, 0, 1), sub(1, 0, 1, 2, 2), sub(2, 0, 1, 2, 2)] None;
    /// As I420 with V before U.
    Yv12 "YV12" Yuv 8 false [at(0, 0, 1), sub(2, 0, 1, 2, 2), sub(1, 0, 1, 2, 2)] None;
    /// Planar Y, then interleaved U and V, chroma halved both ways.
    Nv12 "NV12" Yuv 8 false [at(0, 0, 1), sub(1, 0, 2, 2, 2), sub(1, 1, 2, 2, 2)] None;
    /// As NV12 with V before U.
    Nv21 "NV21" Yuv 8 false [at(0, 0, 1), sub(1, 1, 2, 2, 2), sub(1, 0, 2, 2, 2)] None;
    /// Planar Y, U, V, chroma halved horizontally.
    Y42b "Y42B" Yuv 8 false [at(0, 0, 1), sub(1, 0, 1, 2, 1), sub(2, 0, 1, 2, 1)] None;
    /// Planar Y, U, V of one size.
    Y444 "Y444" Yuv 8 false [at(0, 0, 1), at(1, 0, 1), at(2, 0, 1)] None;
    /// Luma alone.
    Gray8 "GRAY8" Gray 8 false [at(0, 0, 1)] None;
    /// Packed R, G, B.
    Rgb "RGB" Rgb 8 false [at(0, 0, 3), at(0, 1, 3), at(0, 2, 3)] None;
    /// Packed B, G, R.
    Bgr "BGR" Rgb 8 false [at(0, 2, 3), at(0, 1, 3), at(0, 0, 3)] None;
    /// Packed R, G, B and an unused byte.
    Rgbx "RGBx" Rgb 8 false [at(0, 0, 4), at(0, 1, 4), at(0, 2, 4)] Some(at(0, 3, 4));
    /// Packed B, G, R and an unused byte.
    Bgrx "BGRx" Rgb 8 false [at(0, 2, 4), at(0, 1, 4), at(0, 0, 4)] Some(at(0, 3, 4));
    /// An unused byte, then packed R, G, B.
    Xrgb "xRGB" Rgb 8 false [at(0, 1, 4), at(0, 2, 4), at(0, 3, 4)] Some(at(0, 0, 4));
    /// An unused byte, then packed B, G, R.
    Xbgr "xBGR" Rgb 8 false [at(0, 3, 4), at(0, 2, 4), at(0, 1, 4)] Some(at(0, 0, 4));
    /// Packed R, G, B, alpha.
    Rgba "RGBA" Rgb 8 true [at(0, 0, 4), at(0, 1, 4), at(0, 2, 4), at(0, 3, 4)] None;
    /// Packed B, G, R, alpha.
    Bgra "BGRA" Rgb 8 true [at(0, 2, 4), at(0, 1, 4), at(0, 0, 4), at(0, 3, 4)] None;
    /// Packed alpha, R, G, B.
    Argb "ARGB" Rgb 8 true [at(0, 1, 4), at(0, 2, 4), at(0, 3, 4), at(0, 0, 4)] None;
    /// Packed alpha, B, G, R.
    Abgr "ABGR" Rgb 8 true [at(0, 3, 4), at(0, 2, 4), at(0, 1, 4), at(0, 0, 4)] None;
    /// Planar R, G, B.
    Rgbp "RGBP" Rgb 8 false [at(0, 0, 1), at(1, 0, 1), at(2, 0, 1)] None;
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
        self.components()
            .iter()
            .find(|c| c.plane == plane)
            .map_or((0, 0), |c| {
                let (w, h) = c.size(width, height);
                (w * c.step, h)
            })
    }
}
