//! What training does with many tensors at once.

use candle_core::{Result, Tensor, Var};

/// Moves each variable towards a tensor of its shape: `kept` times what it is
/// and `taken` times the tensor, `f32`, all on one device.
///
/// # Errors
///
/// Shapes that differ, tensors that are not contiguous.
pub fn blend(kept: f64, moves: &[(Var, Tensor, f64)]) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Some((first, ..)) = moves.first()
        && let Ok(device) = first.device().as_cuda_device()
    {
        use super::cuda::layers::{Each, blend};
        let each = |(var, towards, taken): &(Var, Tensor, f64)| {
            Each::blended(var.as_tensor(), towards, *taken as f32)
        };
        let all = moves.iter().map(each).collect::<Result<Vec<_>>>()?;
        return blend(device, kept as f32, &all);
    }
    for (var, towards, taken) in moves {
        let kept = (var.as_detached_tensor() * kept)?;
        var.set(&(kept + (towards.detach() * *taken)?)?)?;
    }
    Ok(())
}

/// The sum of the squares of all elements of some tensors, `f32`, all on one
/// device, which is waited for once.
///
/// # Errors
///
/// A computation that fails.
pub fn square_sum(tensors: &[&Tensor]) -> Result<f64> {
    #[cfg(feature = "cuda")]
    if let Some(first) = tensors.first()
        && let Ok(device) = first.device().as_cuda_device()
    {
        use super::cuda::layers::{Each, square_sum};
        let tensors = tensors.iter().map(|tensor| tensor.contiguous());
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let all = tensors.iter().map(Each::read).collect::<Result<Vec<_>>>()?;
        return square_sum(device, &all);
    }
    let square = |tensor: &&Tensor| Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?));
    tensors.iter().map(square).sum()
}
