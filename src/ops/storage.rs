//! The values of contiguous `f32` tensors on the CPU.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The values of a storage.
pub(super) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the operation takes contiguous tensors, not {layout:?}"),
    }
}

/// The values of a storage that changes in place.
pub(super) fn values_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("the operation takes f32")
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut values[start..end]),
        None => bail!("the operation takes contiguous tensors, not {layout:?}"),
    }
}

/// Calls a function with the values of a tensor.
pub(super) fn with_values<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(f(values(storage, layout)?)),
        _ => bail!("the operation takes its gradients on the CPU"),
    }
}

/// Calls a function with the values of tensors on the CPU in `f32`, dense.
///
/// # Errors
///
/// Other tensors.
pub(crate) fn with_all<T>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> T) -> Result<T> {
    let dense = tensors.iter().map(|tensor| tensor.contiguous());
    let dense = dense.collect::<Result<Vec<_>>>()?;
    let held: Vec<_> = dense.iter().map(Tensor::storage_and_layout).collect();
    let slices = held.iter().map(|(storage, layout)| match &**storage {
        Storage::Cpu(storage) => values(storage, layout),
        _ => bail!("the operation takes tensors on the CPU"),
    });
    Ok(f(&slices.collect::<Result<Vec<_>>>()?))
}
