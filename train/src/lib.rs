//! Training of srfilter's networks: images, degradations, optimiser, loop,
//! log, curves and checkpoints. The binary `train` is a thin shell around
//! [`run::run`].

pub mod checkpoint;
pub mod data;
pub mod degrade;
pub mod gan;
mod initial;
pub mod log;
pub mod loss;
pub mod optim;
pub mod params;
#[cfg(feature = "video")]
mod playing;
mod quantize;
pub mod recipe;
pub mod run;
mod teacher;
pub mod trainer;

/// FNV-1a, 64 bit: a hash that stays the same on every machine and in every
/// version, so that seeds and the validation split do too.
pub fn fnv(bytes: impl AsRef<[u8]>) -> u64 {
    let bytes = bytes.as_ref().iter();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
