//! What the operations consult besides their arguments.
//!
//! A network calls the convolution through candle's `Module::forward`, and
//! candle calls `CustomOp::bwd` itself: neither passes on an argument of
//! ours. What such a call has to know therefore lies in the one [`OpContext`]
//! of its thread. Nothing sets it for good: [`with_tf32`], [`record_convs`] and
//! [`backward`] change it for the work that they run, and put it back also
//! where that panics. Scopes nest, and work on other threads is in none.
//!
//! A thread of a pool that waits inside a scope may meanwhile be given unrelated
//! work. [`with_default_context`] keeps that out of the scope.

use super::ConvSpec;
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;

/// A convolution that ran.
#[derive(Debug, Clone)]
pub struct RecordedConv {
    /// (N, Ci, H, W).
    pub images: Tensor,
    /// (Co, Ci / groups, Kh, Kw): the tensor itself, so that its
    /// [`id`](Tensor::id) tells which parameter it is.
    pub weights: Tensor,
    /// Its settings.
    pub spec: ConvSpec,
}

/// Variables and their gradients.
type VariableGrads = HashMap<TensorId, (Tensor, Tensor)>;

/// The context of a thread, outside all scopes the default.
#[derive(Default)]
struct OpContext {
    /// Whether products of `f32` may round their factors to TF32 where no
    /// gradients are needed.
    allow_tf32: bool,
    /// The convolutions so far, where they are recorded.
    recorder: Option<Vec<RecordedConv>>,
    /// The gradients of variables so far, where they are collected.
    grads: Option<VariableGrads>,
}

thread_local! {
    static CONTEXT: RefCell<OpContext> = RefCell::default();
}

/// Selects a field of the context.
type Field<T> = fn(&mut OpContext) -> &mut T;

/// A field of this thread's context with another value; dropping it restores
/// the outer one.
struct Scope<T> {
    field: Field<T>,
    outer: Option<T>,
}

impl<T> Scope<T> {
    fn enter(field: Field<T>, value: T) -> Self {
        let outer = Some(replace(field, value));
        Self { field, outer }
    }

    /// Ends the scope: what its value has become.
    fn leave(mut self) -> Option<T> {
        self.outer.take().map(|outer| replace(self.field, outer))
    }
}

impl<T> Drop for Scope<T> {
    fn drop(&mut self) {
        if let Some(outer) = self.outer.take() {
            replace(self.field, outer);
        }
    }
}

fn replace<T>(field: Field<T>, value: T) -> T {
    CONTEXT.with_borrow_mut(|context| std::mem::replace(field(context), value))
}

/// Runs `work`, whose convolutions of `f32` by cuDNN may, or must not, round
/// their factors to TF32 where no gradients are needed.
pub(crate) fn with_tf32<R>(allow: bool, work: impl FnOnce() -> R) -> R {
    let _scope = Scope::enter(|context| &mut context.allow_tf32, allow);
    work()
}

/// Whether [`with_tf32`] allows it here.
#[cfg(any(test, feature = "cudnn"))]
pub(super) fn allow_tf32() -> bool {
    CONTEXT.with_borrow(|context| context.allow_tf32)
}

/// Runs `work` outside all scopes that the thread is in: for jobs of a thread pool,
/// which a thread may start while it waits in the middle of another job.
pub fn with_default_context<R>(work: impl FnOnce() -> R) -> R {
    let _scope = Scope::enter(|context| context, OpContext::default());
    work()
}

/// Runs `work` and lists the [`conv2d`](super::conv2d)s that it ran on this
/// thread, in their order. They do not count for an outer recording. Nor do those of
/// other jobs of its thread pool, provided that they run in [`with_default_context`].
pub fn record_convs<R>(work: impl FnOnce() -> R) -> (R, Vec<RecordedConv>) {
    let scope = Scope::enter(|context| &mut context.recorder, Some(Vec::new()));
    let result = work();
    (result, scope.leave().flatten().unwrap_or_default())
}

/// Whether convolutions are recorded here.
pub(super) fn is_recording() -> bool {
    CONTEXT.with_borrow(|context| context.recorder.is_some())
}

/// Records a convolution inside [`record_convs`].
pub(super) fn record_conv(images: &Tensor, weights: &Tensor, spec: ConvSpec) {
    CONTEXT.with_borrow_mut(|context| {
        if let Some(convs) = &mut context.recorder {
            convs.push(RecordedConv {
                images: images.clone(),
                weights: weights.clone(),
                spec,
            });
        }
    });
}

/// The gradients of a loss, as [`Tensor::backward`] computes them. Those that
/// the operations here have for variables are stashed, where candle would add
/// them to zeros first: on a GPU two calls and two allocations each.
///
/// # Errors
///
/// A computation that fails.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let scope = Scope::enter(|context| &mut context.grads, Some(HashMap::new()));
    let mut gradients = loss.backward()?;
    let stashed = scope.leave().flatten().unwrap_or_default();
    for (variable, gradient) in stashed.into_values() {
        let sum = match gradients.get(&variable) {
            Some(other) => other.add(&gradient)?,
            None => gradient,
        };
        gradients.insert(&variable, sum);
    }
    Ok(gradients)
}

/// What an operation's `bwd` is to return as the gradient of a tensor: inside
/// [`backward`] that of a variable is stashed instead, and this is `None`.
pub(super) fn stash_variable_grad(
    tensor: &Tensor,
    gradient: Option<Tensor>,
) -> Result<Option<Tensor>> {
    CONTEXT.with_borrow_mut(|context| match (&mut context.grads, gradient) {
        (Some(grads), Some(gradient)) if tensor.is_variable() => {
            let sum = match grads.remove(&tensor.id()) {
                Some((_, other)) => other.add(&gradient)?,
                None => gradient,
            };
            grads.insert(tensor.id(), (tensor.clone(), sum));
            Ok(None)
        }
        (_, gradient) => Ok(gradient),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{conv2d, prelu};
    use candle_core::{Device, Var};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn tensor(shape: (usize, usize, usize, usize)) -> Tensor {
        let (n, c, h, w) = shape;
        let values = (0..n * c * h * w).map(|i| (i * 37 % 11) as f32 / 11.0 - 0.4);
        let tensor = Tensor::from_iter(values, &Device::Cpu).unwrap();
        tensor.reshape(shape).unwrap()
    }

    /// Of weights that several operations use, some of them candle's.
    #[test]
    fn gradients_are_candles() {
        let weights = Var::from_tensor(&tensor((2, 2, 3, 3))).unwrap();
        let slope = Var::new(&[0.3f32], &Device::Cpu).unwrap();
        let loss = || {
            let mut y = tensor((1, 2, 6, 7));
            for _ in 0..2 {
                let convolved = conv2d(&y, &weights, None, ConvSpec::default()).unwrap();
                y = prelu(&convolved, &slope).unwrap();
            }
            let own = weights.sqr().unwrap().sum_all().unwrap();
            (y.sqr().unwrap().sum_all().unwrap() + own).unwrap()
        };
        let (ours, candles) = (backward(&loss()).unwrap(), loss().backward().unwrap());
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

    #[test]
    fn tf32_scopes_nest_and_end_on_return_and_panic() {
        assert!(!allow_tf32());
        with_tf32(true, || {
            with_tf32(false, || assert!(!allow_tf32()));
            assert!(allow_tf32());
            let panics = || with_tf32(false, || panic!("inside the scope"));
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            assert!(allow_tf32());
            // What another thread does is in no scope of this one.
            std::thread::scope(|s| assert!(!s.spawn(allow_tf32).join().unwrap()));
        });
        assert!(!allow_tf32());
    }

    #[test]
    fn recordings_nest_and_end_on_return_and_panic() {
        let weights = tensor((2, 2, 3, 3));
        let conv = |height: usize| {
            conv2d(
                &tensor((1, 2, height, 6)),
                &weights,
                None,
                ConvSpec::default(),
            )
            .unwrap();
        };
        let heights = |convs: Vec<RecordedConv>| -> Vec<usize> {
            let height = |conv: &RecordedConv| conv.images.dims()[2];
            convs.iter().map(height).collect()
        };
        let (inner, outer) = record_convs(|| {
            conv(4);
            let ((), inner) = record_convs(|| conv(5));
            let panics = || record_convs(|| panic!("inside the scope"));
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            conv(6);
            inner
        });
        conv(7);
        assert_eq!((heights(inner), heights(outer)), (vec![5], vec![4, 6]));
        assert!(replace(|context| &mut context.recorder, None).is_none());
    }

    #[test]
    fn the_default_context_is_outside_all_scopes() {
        let weights = tensor((2, 2, 3, 3));
        let conv = || {
            conv2d(&tensor((1, 2, 6, 6)), &weights, None, ConvSpec::default()).unwrap();
        };
        let ((), recorded) = record_convs(|| {
            conv();
            with_tf32(true, || {
                with_default_context(|| {
                    assert!(!allow_tf32() && !is_recording());
                    conv();
                });
                assert!(allow_tf32() && is_recording());
            });
        });
        assert_eq!(recorded.len(), 1);
    }

    #[test]
    fn stashes_only_variables_and_only_inside_backward() {
        let (var, plain) = (
            Var::from_tensor(&tensor((1, 1, 1, 2))).unwrap(),
            tensor((1, 1, 1, 2)),
        );
        let stash = |of: &Tensor| stash_variable_grad(of, Some(plain.clone())).unwrap();
        assert!(stash(&var).is_some());
        let scope = Scope::enter(|context| &mut context.grads, Some(HashMap::new()));
        assert!(stash(&var).is_none() && stash(&plain).is_some());
        assert_eq!(scope.leave().flatten().unwrap().len(), 1);
        assert!(stash(&var).is_some());
    }
}
