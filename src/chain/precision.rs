//! The numbers that networks compute with.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The numbers that a network's layers work on. The CPU computes in `f32` or 8-bit
/// integers: what is asked for in 16 bits or TF32 in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// On a GPU, `f16` for networks that are chains of convolutions, `tf32` for
    /// others. On the CPU, `int8` for weights files that state a loss of at most
    /// [`Precision::AUTO_LOSS`] for it, `f32` for others.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Single precision, but that cuDNN rounds the factors of products to 10
    /// bits: for networks that are no chains of convolutions, which compute so
    /// where 16 bits are asked for, too. Chains compute in `f32`.
    Tf32,
    /// Half precision: products of f16, sums of f32.
    F16,
    /// bfloat16: products of bf16, sums of f32.
    Bf16,
    /// 8-bit integers, for weights files that have them ([`quantized`](super::quantized)):
    /// the same bits on every machine. The first layer's input has 16 bits, and what
    /// the last one adds to the picture is f32.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::F32,
        Self::Tf32,
        Self::F16,
        Self::Bf16,
        Self::Int8,
    ];

    /// The largest loss of PSNR in dB, as stated by a weights file, with which the CPU
    /// computes in 8-bit integers by itself.
    pub const AUTO_LOSS: f64 = 0.06;
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = |precision: &Self| precision.to_string() == text;
        Self::ALL.into_iter().find(known).ok_or_else(|| {
            let problem =
                format!("there is no precision '{text}': use auto, f32, tf32, f16, bf16 or int8");
            Error::Setting(problem)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names() {
        for precision in Precision::ALL {
            assert_eq!(
                precision.to_string().parse::<Precision>().unwrap(),
                precision
            );
        }
        let error = "int4".parse::<Precision>().unwrap_err().to_string();
        assert!(
            error.contains("use auto, f32, tf32, f16, bf16 or int8"),
            "{error}"
        );
    }
}
