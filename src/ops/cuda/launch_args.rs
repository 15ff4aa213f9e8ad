//! What the kernels of frames.cu, convolve.cu and quantized.cu take.
//!
//! Safety: each structure is *mirrored*: `repr(C)`, with the fields of the one
//! of the same name there at the same offsets, without pointers to the host.
//! Both sides assert the same offsets and sizes when they are compiled.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;

/// Asserts that a structure is *mirrored*, and lets it be passed to kernels.
macro_rules! mirrored {
    ($name:ty, $size:literal, $($field:tt: $offset:literal),+) => {
        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(std::mem::offset_of!($name, $field) == $offset);)+
        };
        // SAFETY: *mirrored*, as just asserted.
        unsafe impl DeviceRepr for $name {}
    };
}
pub(super) use mirrored;

/// Samples of one component: words of a frame here, dense f32 rows there;
/// `frames.cu` says what the fields are.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Samples {
    pub(crate) bytes: u64,
    pub(crate) plane: u64,
    pub(crate) stride: i32,
    pub(crate) step: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) word: i32,
    pub(crate) shift: i32,
    pub(crate) joins: i32,
    pub(crate) max: f32,
    pub(crate) gain: f32,
    pub(crate) offset: f32,
    pub(crate) inverse: f32,
}

/// One axis of a resampling.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resample {
    pub(crate) source: u64,
    pub(crate) dst: u64,
    pub(crate) starts: u64,
    pub(crate) weights: u64,
    pub(crate) taps: i32,
    pub(crate) source_width: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
}

/// A conversion of the planes of an image.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColorChange {
    YuvToRgb = 0,
    RgbToYuv = 1,
    GrayToRgb = 2,
    RgbToGray = 3,
    LumaOfRgb = 4,
    AddLuma = 5,
    Premultiply = 6,
    Unpremultiply = 7,
}

/// Three planes, one after the other, and another one.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Colors {
    pub(crate) planes: u64,
    pub(crate) other: u64,
    pub(crate) samples: u64,
    pub(crate) change: i32,
    pub(crate) weights: [f32; 3],
    pub(crate) luma_base: f32,
    pub(crate) luma_gain: f32,
    pub(crate) chroma_gain: f32,
    pub(crate) rgb_per_luma: f32,
}

/// A copy that notes whether any byte differed; `frames.cu` says what the fields are.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replace {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) length: u64,
    pub(crate) differs: u64,
}

/// What the first layer sees.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Enter {
    pub(crate) planes: u64,
    pub(crate) dst: u64,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) count: i32,
    pub(crate) edge: i32,
    pub(crate) scale: [f32; MOST_PLANES],
    pub(crate) offset: [f32; MOST_PLANES],
}

/// The most planes that a network takes.
pub(crate) const MOST_PLANES: usize = 4;

/// The epilogue of a chain; `epilogue.cuh` says what the fields are.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EpilogueArgs {
    pub(crate) residual: u64,
    pub(crate) nearest: u64,
    pub(crate) nearest_factor: i32,
    pub(crate) tanh: i32,
    pub(crate) limit: f32,
}

/// Of a layer in 8-bit integers; `convolve.cu` says what the fields are.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Integers {
    pub(crate) border: i32,
    pub(crate) zero: i32,
    pub(crate) skip_zero: i32,
    pub(crate) skip_multiplier: i32,
}

/// A convolution and what follows it; `convolve.cu` says what the fields are.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Convolve {
    pub(crate) source: u64,
    pub(crate) dst: u64,
    pub(crate) weights: u64,
    pub(crate) bias: u64,
    pub(crate) slope: u64,
    pub(crate) skip: u64,
    pub(crate) epilogue: EpilogueArgs,
    pub(crate) inputs: i32,
    pub(crate) outputs: i32,
    pub(crate) kernel: i32,
    pub(crate) pad: i32,
    pub(crate) border: i32,
    pub(crate) source_width: i32,
    pub(crate) source_height: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) source_row0: i32,
    pub(crate) source_rows: i32,
    pub(crate) dst_row0: i32,
    pub(crate) skip_row0: i32,
    pub(crate) row0: i32,
    pub(crate) rows: i32,
    pub(crate) shuffle: i32,
    pub(crate) planes: i32,
    pub(crate) chunk: i32,
    pub(crate) source_plane: i32,
    pub(crate) dst_plane: i32,
    pub(crate) integers: Integers,
}

/// The numbers that layers work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    F32,
    Half(Half),
    Int8,
}

/// Of a convolution that runs on the tensor cores: 16-bit types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The bits of a value.
    pub(crate) fn bits(self, value: f32) -> u16 {
        match self {
            Self::F16 => half::f16::from_f32(value).to_bits(),
            Self::Bf16 => half::bf16::from_f32(value).to_bits(),
        }
    }
}

mirrored!(Samples, 64, bytes: 0, plane: 8, stride: 16, step: 20, width: 24, height: 28, word: 32, shift: 36, joins: 40, max: 44, gain: 48, offset: 52, inverse: 56);
mirrored!(Resample, 48, source: 0, dst: 8, starts: 16, weights: 24, taps: 32, source_width: 36, width: 40, height: 44);
mirrored!(Colors, 56, planes: 0, other: 8, samples: 16, change: 24, weights: 28, luma_base: 40, luma_gain: 44, chroma_gain: 48, rgb_per_luma: 52);
mirrored!(Replace, 32, from: 0, to: 8, length: 16, differs: 24);
mirrored!(Enter, 64, planes: 0, dst: 8, width: 16, height: 20, count: 24, edge: 28, scale: 32, offset: 48);
mirrored!(Integers, 16, border: 0, zero: 4, skip_zero: 8, skip_multiplier: 12);
mirrored!(Convolve, 176, source: 0, dst: 8, weights: 16, bias: 24, slope: 32, skip: 40, epilogue: 48, inputs: 80, outputs: 84, kernel: 88, pad: 92, border: 96, source_width: 100, source_height: 104, width: 108, height: 112, source_row0: 116, source_rows: 120, dst_row0: 124, skip_row0: 128, row0: 132, rows: 136, shuffle: 140, planes: 144, chunk: 148, source_plane: 152, dst_plane: 156, integers: 160);
mirrored!(EpilogueArgs, 32, residual: 0, nearest: 8, nearest_factor: 16, tanh: 20, limit: 24);
