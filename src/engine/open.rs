//! The backend for a device.

use super::ComputeDevice;
use super::backend::Backend;
use super::budget;
use super::cpu::CpuBackend;
#[cfg(feature = "cuda")]
use super::cuda::CudaBackend;
use super::options::UpscaleOptions;
use super::spec::UpscaleSpec;
use crate::tensor_error::Result;
use crate::weights::Model;
use std::sync::Arc;

/// Opens the backend for a device: everything runs on a GPU if its kernels
/// support the networks, else frames on the host and networks on the device.
///
/// # Errors
///
/// Work that does not fit the memory, a device that fails.
pub(super) fn open(
    device: &ComputeDevice,
    model: &Arc<Model>,
    spec: &UpscaleSpec,
    options: &UpscaleOptions,
) -> Result<Box<dyn Backend>> {
    let networks = budget::check(device, model, spec, options)?;
    #[cfg(feature = "cuda")]
    if let Some(backend) = CudaBackend::new(device, model, spec, &networks, options)? {
        return Ok(Box::new(backend));
    }
    let (device, model) = (device.clone(), Arc::clone(model));
    let backend = CpuBackend::new(device, model, *spec, networks, *options)?;
    Ok(Box::new(backend))
}
