//! Operations of training on many tensors at once.

use candle_core::{Result, Tensor, Var};

/// Moves each variable towards a tensor of its shape, to `keep` times the
/// variable and a weight times the tensor, `f32`, all on one device.
///
/// # Errors
///
/// Shapes that differ, tensors that are not contiguous.
pub fn lerp_in_place(keep: f64, moves: &[(Var, Tensor, f64)]) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Some((first, ..)) = moves.first()
        && let Ok(device) = first.device().as_cuda_device()
    {
        use super::cuda::layers::{TensorArgs, lerp_in_place};
        let all = moves
            .iter()
            .map(|(var, target, weight)| TensorArgs::lerp(var.as_tensor(), target, *weight as f32));
        let all = all.collect::<Result<Vec<_>>>()?;
        return lerp_in_place(device, keep as f32, &all);
    }
    for (var, target, weight) in moves {
        let kept = (var.as_detached_tensor() * keep)?;
        var.set(&(kept + (target.detach() * *weight)?)?)?;
    }
    Ok(())
}

/// The sum of the squares of all elements of some tensors, `f32`, all on one
/// device, which is waited for once.
///
/// # Errors
///
/// A computation that fails.
pub fn squared_norm(tensors: &[&Tensor]) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if let Some(first) = tensors.first()
        && let Ok(device) = first.device().as_cuda_device()
    {
        use super::cuda::layers::{TensorArgs, squared_norm};
        let tensors = tensors.iter().map(|tensor| tensor.contiguous());
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let all = tensors
            .iter()
            .map(TensorArgs::read)
            .collect::<Result<Vec<_>>>()?;
        return squared_norm(device, &all);
    }
    let square = |tensor: &&Tensor| Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?));
    tensors.iter().map(square).sum()
}
