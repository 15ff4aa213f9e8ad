//! What follows the sum of a convolution, in registers.

use crate::ops::cpu::simd::Vector;

/// The bias and the (P)ReLU of a layer: `y = sum + bias`, then `y` where it is
/// positive and `slope * y` elsewhere. The pointers are to the first of the
/// channels at hand.
#[derive(Clone, Copy)]
pub(crate) struct BiasActivation {
    pub(crate) bias: *const f32,
    /// Null where all slopes are 0.
    pub(crate) slope: *const f32,
}

/// Bias and (P)ReLU of a vector of channels.
///
/// # Safety
///
/// Operands in memory: a vector of biases and slopes from `channel` on.
#[inline(always)]
pub(super) unsafe fn bias_activation<V: Vector>(
    sum: V,
    activation: &BiasActivation,
    channel: usize,
) -> V {
    // SAFETY: operands in memory.
    unsafe {
        let sum = sum.add(V::load(activation.bias.add(channel)));
        if activation.slope.is_null() {
            return sum.relu();
        }
        let (positive, negative) = sum.split_sign();
        positive.mul_add(V::load(activation.slope.add(channel)), negative)
    }
}
