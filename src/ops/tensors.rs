//! What training does with many tensors at once, and its gradients.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, Var};
use std::cell::RefCell;
use std::collections::HashMap;

/// Variables and their gradients.
type Collected = HashMap<TensorId, (Tensor, Tensor)>;

thread_local! {
    /// The gradients of variables, where somebody collects them.
    static COLLECTED: RefCell<Option<Collected>> = const { RefCell::new(None) };
}

/// The gradients of a loss, as [`Tensor::backward`] has them. Those that the
/// operations here have for variables are taken as they are, where candle would
/// add them to zeros first: on a GPU two calls and two allocations each.
///
/// # Errors
///
/// A computation that fails.
pub fn gradients(loss: &Tensor) -> Result<GradStore> {
    /// Those that were collected outside, also where the work panics.
    struct Outer(Option<Collected>);
    impl Drop for Outer {
        fn drop(&mut self) {
            COLLECTED.set(self.0.take());
        }
    }
    let outer = Outer(COLLECTED.replace(Some(HashMap::new())));
    let mut gradients = loss.backward()?;
    let collected = COLLECTED.take().unwrap_or_default();
    drop(outer);
    for (variable, gradient) in collected.into_values() {
        let sum = match gradients.get(&variable) {
            Some(other) => other.add(&gradient)?,
            None => gradient,
        };
        gradients.insert(&variable, sum);
    }
    Ok(gradients)
}

/// What an operation's `bwd` is to return as the gradient of `of`: nothing,
/// where [`gradients`] has taken it already.
pub(super) fn given(of: &Tensor, gradient: Option<Tensor>) -> Result<Option<Tensor>> {
    COLLECTED.with_borrow_mut(|collected| match (collected, gradient) {
        (Some(collected), Some(gradient)) if of.is_variable() => {
            let sum = match collected.remove(&of.id()) {
                Some((_, other)) => other.add(&gradient)?,
                None => gradient,
            };
            collected.insert(of.id(), (of.clone(), sum));
            Ok(None)
        }
        (_, gradient) => Ok(gradient),
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{ConvSpec, conv2d, prelu};
    use candle_core::Device;

    /// Of weights that several operations see, some of them candle's.
    #[test]
    fn gradients_are_candles() {
        let values = |count: usize| (0..count).map(|i| (i * 37 % 11) as f32 / 11.0 - 0.4);
        let tensor = |shape: (usize, usize, usize, usize)| {
            let (n, c, h, w) = shape;
            Tensor::from_iter(values(n * c * h * w), &Device::Cpu)
                .unwrap()
                .reshape(shape)
                .unwrap()
        };
        let weights = Var::from_tensor(&tensor((2, 2, 3, 3))).unwrap();
        let slope = Var::new(&[0.3f32], &Device::Cpu).unwrap();
        let loss = || {
            let mut y = tensor((1, 2, 6, 7));
            for _ in 0..2 {
                let made = conv2d(&y, &weights, None, ConvSpec::default()).unwrap();
                y = prelu(&made, &slope).unwrap();
            }
            let own = weights.sqr().unwrap().sum_all().unwrap();
            (y.sqr().unwrap().sum_all().unwrap() + own).unwrap()
        };
        let (ours, candles) = (gradients(&loss()).unwrap(), loss().backward().unwrap());
        for var in [&weights, &slope] {
            let of = |gradients: &GradStore| -> Vec<f32> {
                let gradient = gradients.get(var).unwrap();
                gradient.flatten_all().unwrap().to_vec1().unwrap()
            };
            for (ours, candles) in of(&ours).into_iter().zip(of(&candles)) {
                assert!((ours - candles).abs() <= 1e-5 * candles.abs().max(1.0));
            }
        }
    }
}
