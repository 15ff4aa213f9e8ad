//! Value types of storages.

use half::{bf16, f16};

/// The value type of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorageDtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl StorageDtype {
    /// The type of a storage class of PyTorch.
    pub(super) fn of_class(class: &str) -> Option<Self> {
        let name = class.strip_prefix("torch.")?.strip_suffix("Storage")?;
        Some(match name.strip_prefix("cuda.").unwrap_or(name) {
            "Double" => Self::F64,
            "Float" => Self::F32,
            "Half" => Self::F16,
            "BFloat16" => Self::Bf16,
            "Long" => Self::I64,
            "Int" => Self::I32,
            "Short" => Self::I16,
            "Char" => Self::I8,
            "Byte" => Self::U8,
            "Bool" => Self::Bool,
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
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// Bytes of a value.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Decodes little-endian values, rounded to f32.
    pub(super) fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => map(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => map(bytes, f32::from_le_bytes),
            Self::F16 => map(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => map(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::I64 => map(bytes, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => map(bytes, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => map(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Self::I8 => map(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Self::U8 | Self::Bool => map(bytes, |[b]| f32::from(b)),
        }
    }
}

fn map<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| value(chunk)).collect()
}
