//! Refuses work that would not fit the machine's memory, or the GPU's, before
//! it begins.

use super::ComputeDevice;
use crate::{Error, Result};

/// Bytes that tiles in work take, whatever the frame's size: two hidden layers
/// of 64 channels on 272 x 272 samples for each of a few threads.
const TILES: u64 = 256 << 20;

const MIB: u64 = 1 << 20;

/// Whether planes of that many samples in f32, and what goes with them, fit
/// the memory of a device. `remedies` says what else helps than a smaller scale
/// or input.
pub(super) fn check(samples: u64, on: &ComputeDevice, what: &str, remedies: &str) -> Result<()> {
    match on.free_memory() {
        Some(free) => fits(samples, (free, on.name()), what, remedies),
        None => Ok(()),
    }
}

fn fits(samples: u64, (free, on): (u64, &str), what: &str, remedies: &str) -> Result<()> {
    let needed = samples * size_of::<f32>() as u64 + TILES;
    if needed <= free {
        return Ok(());
    }
    Err(Error::Setting(format!(
        "{what} needs about {} MiB of memory on {on}, {} MiB are free: use a smaller scale or \
         input{remedies}",
        needed / MIB,
        free / MIB
    )))
}

/// Half of the bytes that a device can still give; of 2 GiB where it does not
/// say.
pub(super) fn half(on: &ComputeDevice) -> u64 {
    on.free_memory().unwrap_or(2048 * MIB) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        let free = (512 * MIB, "cpu");
        assert!(fits(1 << 20, free, "a frame", "").is_ok());
        let error = fits(1 << 30, free, "3x2 to 6x4", ", or wait")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("3x2 to 6x4 needs about 4352 MiB of memory on cpu"),
            "{error}"
        );
        assert!(error.contains("512 MiB"), "{error}");
        assert!(error.ends_with("input, or wait"), "{error}");
    }
}
