//! The weights of a `.bin`.

use crate::weights::dtype::ValueType;
use candle_core::{Device, Tensor};

/// Before weights in f16.
const F16: u32 = 0x0130_6B47;

/// Before weights in 8-bit integers.
const INT8: u32 = 0x000D_4B38;

/// Before weights in f32.
const F32: u32 = 0x0002_C056;

/// Weights that are read one after the other.
pub(super) struct Bin<'a> {
    rest: &'a [u8],
    last: ValueType,
    has_half: bool,
}

impl<'a> Bin<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            last: ValueType::F32,
            has_half: false,
        }
    }

    /// The bytes that are left.
    pub(super) fn rest(&self) -> usize {
        self.rest.len()
    }

    /// The type of the weights that were read.
    pub(super) fn kind(&self) -> &'static str {
        if self.has_half { "f16" } else { "f32" }
    }

    /// The type of what was read last.
    pub(super) fn last_kind(&self) -> &'static str {
        self.last.name()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(format!(
                "its .bin ends early: {count} bytes are needed, {} are left",
                self.rest.len()
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Weights after a word that tells their type.
    pub(super) fn weights(&mut self, shape: &[usize]) -> Result<Tensor, String> {
        let word = self.take(4)?.first_chunk().copied().unwrap_or_default();
        match u32::from_le_bytes(word) {
            0 | F32 => self.floats(shape),
            F16 => {
                self.has_half = true;
                self.values(shape, ValueType::F16, 2)
            }
            INT8 => Err("weights in 8-bit integers; served are f32 and f16".to_owned()),
            _ => Err("quantised weights; served are f32 and f16".to_owned()),
        }
    }

    /// Values in f32.
    pub(super) fn floats(&mut self, shape: &[usize]) -> Result<Tensor, String> {
        self.values(shape, ValueType::F32, 4)
    }

    fn values(&mut self, shape: &[usize], kind: ValueType, size: usize) -> Result<Tensor, String> {
        let bytes = shape
            .iter()
            .try_fold(size, |all, &side| all.checked_mul(side))
            .ok_or_else(|| format!("weights {shape:?}"))?;
        // Each starts at a multiple of four.
        let padded = bytes.next_multiple_of(4);
        let taken = self.take(padded)?;
        self.last = kind;
        Tensor::from_vec(kind.values(&taken[..bytes]), shape, &Device::Cpu)
            .map_err(|e| e.to_string())
    }
}
