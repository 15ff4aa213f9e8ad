//! Inner loops of fused chains in 8-bit integers; those in `f32` are
//! [`pixels`](crate::ops::cpu::pixels).

pub(crate) mod quantized;
