//! Helpers for the tests of all crates: data files, noise, golden vectors and
//! the emulated GPU.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

pub mod emulated;
pub mod golden;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("a member is in a workspace")
}

/// A file or folder of images, clips and published weights; `None`, with a
/// message, if it does not exist. They are in `SRFILTER_DATA`, by default
/// `../shared/data`; relative paths are relative to the workspace.
pub fn shared(path: &str) -> Option<PathBuf> {
    let data = std::env::var_os("SRFILTER_DATA").unwrap_or_else(|| "../shared/data".into());
    let path = workspace().join(data).join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} does not exist", path.display());
    None
}

/// SplitMix64: reproducible pseudo-random integers.
pub(crate) struct SplitMix64(pub(crate) u64);

/// The increment of [`SplitMix64`]: 2^64 divided by the golden ratio.
pub(crate) const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

impl Iterator for SplitMix64 {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(GOLDEN_RATIO);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some(z ^ (z >> 31))
    }
}

/// Reproducible pseudo-random numbers in [0, 1).
pub fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut stream = SplitMix64(seed.wrapping_mul(GOLDEN_RATIO) ^ 0x5DEE_CE66D);
    move || (stream.next().unwrap_or_default() >> 11) as f64 / (1u64 << 53) as f64
}
