//! Tensors of an ONNX file.

use super::proto::TensorData;
use crate::models::graph::Integers;
use crate::weights::dtype::ValueType;
use candle_core::{Device, Tensor};

/// The value of a tensor: weights, or sizes and the like.
pub(super) enum Constant {
    Floats(&'static str, Tensor),
    Integers(Integers),
}

/// The type of a number of ONNX; `None` for texts and for those that no network has.
pub(super) fn value_type(number: i32) -> Option<ValueType> {
    Some(match number {
        1 => ValueType::F32,
        2 => ValueType::U8,
        3 => ValueType::I8,
        4 => ValueType::U16,
        5 => ValueType::I16,
        6 => ValueType::I32,
        7 => ValueType::I64,
        9 => ValueType::Bool,
        10 => ValueType::F16,
        11 => ValueType::F64,
        12 => ValueType::U32,
        13 => ValueType::U64,
        16 => ValueType::Bf16,
        _ => return None,
    })
}

/// Whether values of a type are integers.
pub(super) fn is_integer(kind: ValueType) -> bool {
    use ValueType::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(kind, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | Bool)
}

/// The value of a tensor, or what is wrong with it.
pub(super) fn constant(data: &TensorData) -> Result<Constant, String> {
    if data.location != 0 {
        return Err("its values are in another file; store them in the model".to_owned());
    }
    let kind = value_type(data.dtype).ok_or_else(|| format!("values of type {}", data.dtype))?;
    let dims = data.dims.iter().map(|&dim| usize::try_from(dim).ok());
    let shape: Vec<usize> = dims
        .collect::<Option<_>>()
        .ok_or_else(|| format!("the shape {:?}", data.dims))?;
    let count = shape
        .iter()
        .try_fold(1usize, |all, &side| all.checked_mul(side))
        .ok_or_else(|| format!("the shape {shape:?}"))?;
    let found = |values: usize| format!("{values} values for the shape {shape:?}");
    if is_integer(kind) {
        let values = integers(data, kind)?;
        let values_found = values.len();
        return Integers::new(shape.clone(), values)
            .map(Constant::Integers)
            .ok_or_else(|| found(values_found));
    }
    let values = floats(data, kind)?;
    if values.len() != count {
        return Err(found(values.len()));
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err("values that are not finite (NaN or Inf)".to_owned());
    }
    Tensor::from_vec(values, shape, &Device::Cpu)
        .map(|tensor| Constant::Floats(kind.name(), tensor))
        .map_err(|e| e.to_string())
}

fn floats(data: &TensorData, kind: ValueType) -> Result<Vec<f32>, String> {
    if let Some(raw) = &data.raw {
        return Ok(kind.values(whole(raw, kind)?));
    }
    Ok(match kind {
        ValueType::F64 => data.doubles.iter().map(|&value| value as f32).collect(),
        // The bits of 16-bit floats, an integer each.
        ValueType::F16 | ValueType::Bf16 => {
            let bits = data
                .ints
                .iter()
                .flat_map(|&bits| (bits as u16).to_le_bytes());
            kind.values(&bits.collect::<Vec<u8>>())
        }
        _ => data.floats.clone(),
    })
}

fn integers(data: &TensorData, kind: ValueType) -> Result<Vec<i64>, String> {
    let Some(raw) = &data.raw else {
        return Ok(match data.longs.is_empty() {
            true => data.ints.iter().map(|&value| i64::from(value)).collect(),
            false => data.longs.clone(),
        });
    };
    let size = kind.size();
    let signed = matches!(
        kind,
        ValueType::I8 | ValueType::I16 | ValueType::I32 | ValueType::I64
    );
    let value = |bytes: &[u8]| {
        let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..size].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    };
    Ok(whole(raw, kind)?.chunks_exact(size).map(value).collect())
}

/// Bytes of whole values.
fn whole(raw: &[u8], kind: ValueType) -> Result<&[u8], String> {
    match raw.len().is_multiple_of(kind.size()) {
        true => Ok(raw),
        false => Err(format!("{} bytes of {}", raw.len(), kind.name())),
    }
}
