//! What convolutions were given, for those who want to look on.

use super::ConvSpec;
use candle_core::Tensor;
use std::cell::RefCell;

/// A convolution that ran.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// (N, Ci, H, W).
    pub images: Tensor,
    /// (Co, Ci / groups, Kh, Kw): the tensor itself, so that its
    /// [`id`](Tensor::id) tells which parameter it is.
    pub weights: Tensor,
    /// Its settings.
    pub spec: ConvSpec,
}

thread_local! {
    static RECORDS: RefCell<Option<Vec<Recorded>>> = const { RefCell::new(None) };
}

/// Runs `work` and lists the [`conv2d`](super::conv2d)s that ran on this
/// thread meanwhile, in their order. Inside another recording, the outer one
/// does not see them.
pub fn recording<R>(work: impl FnOnce() -> R) -> (R, Vec<Recorded>) {
    let outer = RECORDS.replace(Some(Vec::new()));
    let result = work();
    let records = RECORDS.replace(outer).unwrap_or_default();
    (result, records)
}

/// Takes note of a convolution where somebody looks on.
pub(super) fn note(images: &Tensor, weights: &Tensor, spec: ConvSpec) {
    RECORDS.with_borrow_mut(|records| {
        if let Some(records) = records {
            records.push(Recorded {
                images: images.clone(),
                weights: weights.clone(),
                spec,
            });
        }
    });
}
