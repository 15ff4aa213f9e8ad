//! Memory checks before an upscale is prepared.

use super::ComputeDevice;
use super::frame_plan::{FramePlan, NetworkSpec};
use super::options::UpscaleOptions;
use super::spec::{UpscaleSpec, check_size};
use super::tiling::{TilingOptions, smallest_pooled_tile};
use crate::models::Upsampling;
use crate::weights::Model;
use crate::{Error, Result, Scale};

/// Bytes for the tiles being computed, independent of the frame's size: two
/// hidden layers of 64 channels on 272 x 272 samples for each of a few threads.
const TILES: u64 = 256 << 20;

const MIB: u64 = 1 << 20;

/// Checks that `model` can run `spec` on a device. Returns the networks of its
/// cascade.
///
/// # Errors
///
/// As [`super::Upscaler::check`].
pub(super) fn check(
    device: &ComputeDevice,
    model: &Model,
    spec: &UpscaleSpec,
    options: &UpscaleOptions,
) -> Result<Vec<NetworkSpec>> {
    check_copy(device, model, spec, options, 1)
}

/// As [`check`], for the last of so many equal upscalers whose frames are computed at the
/// same time.
pub(super) fn check_copy(
    device: &ComputeDevice,
    model: &Model,
    spec: &UpscaleSpec,
    options: &UpscaleOptions,
    copies: usize,
) -> Result<Vec<NetworkSpec>> {
    let overlapped = TilingOptions::new(options, 1, device)?.overlapped_tile();
    check_size(spec.input.size)?;
    check_size(spec.output)?;
    let area = |(width, height): (usize, usize)| width as u64 * height as u64;
    let mut total_scale = Scale::ONE;
    let (mut networks, mut input) = (Vec::new(), spec.input.size);
    // Peak number of samples inside a network.
    let (mut inside, mut remedies) = (0, "");
    // On a GPU chains run in bands of as many rows as fit the memory.
    let mut only_chains = true;
    for scale in model.cascade(spec.scale) {
        total_scale = total_scale.checked_mul(scale).unwrap_or(total_scale);
        let (width, height) = spec.input.size;
        let reached = (total_scale.apply(width), total_scale.apply(height));
        let network = model.for_scale(scale)?;
        let upsampling = network.upsampling();
        let (network_input, output) = match upsampling {
            Upsampling::Pre => (reached, reached),
            Upsampling::Post(factor) => (input, (input.0 * factor, input.1 * factor)),
        };
        check_size(output)?;
        let packed = model.packed(scale)?;
        only_chains &= packed.is_some();
        let working_set = network.working_set() as u64;
        let held = match packed {
            Some(packed) => packed.buffer_floats(network_input.0 * network_input.1) as u64,
            None if network.whole_frame() => {
                if overlapped.is_none() {
                    remedies = ", or tiles that overlap";
                }
                let side = overlapped.unwrap_or(usize::MAX);
                working_set * area((network_input.0.min(side), network_input.1.min(side)))
            }
            None if network.global_pools() > 0 => {
                working_set
                    * area(smallest_pooled_tile(
                        network.as_ref().as_ref(),
                        network_input,
                    ))
            }
            None => 0,
        };
        inside = inside.max(held);
        networks.push(NetworkSpec { upsampling, output });
        input = output;
    }
    let plan = FramePlan::of_frames(spec, model.channels(), &networks);
    let outside: u64 = plan.assign_buffers().1.iter().map(|&n| n as u64).sum();
    let ((w, h), (ow, oh)) = (spec.input.size, spec.output);
    let what = format!("{w}x{h} to {ow}x{oh} by {}", model.name());
    if !device.is_cpu() {
        fits(outside, &ComputeDevice::cpu(None), &what, "")?;
    }
    if device.is_cpu() || !only_chains {
        fits(copies as u64 * inside + outside, device, &what, remedies)?;
    }
    Ok(networks)
}

/// Checks that f32 samples, and the tiles being computed, fit the memory of a
/// device. `remedies` names remedies besides a smaller scale or input.
fn fits(samples: u64, device: &ComputeDevice, what: &str, remedies: &str) -> Result<()> {
    match device.free_memory() {
        Some(free) => fits_within(samples, (free, device.name()), what, remedies),
        None => Ok(()),
    }
}

fn fits_within(samples: u64, (free, on): (u64, &str), what: &str, remedies: &str) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        let free = (512 * MIB, "cpu");
        assert!(fits_within(1 << 20, free, "a frame", "").is_ok());
        let error = fits_within(1 << 30, free, "3x2 to 6x4", ", or wait")
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
