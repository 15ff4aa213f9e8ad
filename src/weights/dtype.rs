//! Value types of tensors in files.

use half::{bf16, f16};
use safetensors::Dtype;

/// The type of a tensor's values in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    F64,
    F32,
    F16,
    Bf16,
    /// 8-bit float of 5 exponent and 2 mantissa bits.
    F8E5M2,
    /// 8-bit float of 4 exponent and 3 mantissa bits, without infinity.
    F8E4M3,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl ValueType {
    /// The type of a tensor of a safetensors file; `None` for types that no
    /// network's weights have, such as complex numbers.
    pub(super) fn of_safetensors(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::F64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F8_E5M2 => Self::F8E5M2,
            Dtype::F8_E4M3 => Self::F8E4M3,
            Dtype::I64 => Self::I64,
            Dtype::I32 => Self::I32,
            Dtype::I16 => Self::I16,
            Dtype::I8 => Self::I8,
            Dtype::U64 => Self::U64,
            Dtype::U32 => Self::U32,
            Dtype::U16 => Self::U16,
            Dtype::U8 => Self::U8,
            Dtype::BOOL => Self::Bool,
            _ => return None,
        })
    }

    /// The type of a storage class of PyTorch.
    #[cfg(feature = "pytorch")]
    pub(super) fn of_class(class: &str) -> Option<Self> {
        let name = class.strip_prefix("torch.")?.strip_suffix("Storage")?;
        let name = name.strip_prefix("cuda.").unwrap_or(name);
        Some(match name.strip_prefix("storage.").unwrap_or(name) {
            "Double" => Self::F64,
            "Float" => Self::F32,
            "Half" => Self::F16,
            "BFloat16" => Self::Bf16,
            "Long" => Self::I64,
            "Int" => Self::I32,
            "Short" => Self::I16,
            "Char" => Self::I8,
            // Bytes, whose type the tensor states.
            "Byte" | "Untyped" => Self::U8,
            "Bool" => Self::Bool,
            _ => return None,
        })
    }

    /// The type of a `torch.dtype` that has no storage class.
    #[cfg(feature = "pytorch")]
    pub(super) fn of_dtype(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("torch.")? {
            "float8_e5m2" => Self::F8E5M2,
            "float8_e4m3fn" => Self::F8E4M3,
            "uint64" => Self::U64,
            "uint32" => Self::U32,
            "uint16" => Self::U16,
            _ => return None,
        })
    }

    /// The name of the type in safetensors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E5M2 => "F8_E5M2",
            Self::F8E4M3 => "F8_E4M3",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// Bytes of a value.
    #[cfg(any(feature = "onnx", feature = "pytorch"))]
    pub(super) const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F8E5M2 | Self::F8E4M3 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Decodes little-endian values, rounded to f32.
    pub(super) fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => map(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => map(bytes, f32::from_le_bytes),
            Self::F16 => map(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => map(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            // The upper half of an f16.
            Self::F8E5M2 => map(bytes, |[b]| f16::from_bits(u16::from(b) << 8).to_f32()),
            Self::F8E4M3 => map(bytes, |[b]| e4m3(b)),
            Self::I64 => map(bytes, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => map(bytes, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => map(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Self::I8 => map(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Self::U64 => map(bytes, |b| u64::from_le_bytes(b) as f32),
            Self::U32 => map(bytes, |b| u32::from_le_bytes(b) as f32),
            Self::U16 => map(bytes, |b| f32::from(u16::from_le_bytes(b))),
            Self::U8 | Self::Bool => map(bytes, |[b]| f32::from(b)),
        }
    }
}

fn map<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| value(chunk)).collect()
}

/// The value of an E4M3 float (Micikevicius et al. 2022, FP8 formats for deep
/// learning): exponent bias 7, no infinity.
fn e4m3(byte: u8) -> f32 {
    const BIAS: i32 = 7;
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(1 - BIAS),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - BIAS),
    };
    if byte & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
