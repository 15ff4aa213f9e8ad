//! Networks that generate the weights of other networks.

use crate::Scale;
use crate::tensor_error::Result;
use candle_core::Tensor;
use std::collections::HashMap;

/// Parameters by name.
pub type Parameters = Vec<(String, Tensor)>;

/// A network that generates the weights of another network for a scale.
pub trait HyperNetwork {
    /// The generated network's weights for one of its scales.
    ///
    /// # Errors
    ///
    /// A scale that it has no weights for.
    fn generate_weights(&self, scale: Scale) -> Result<Parameters>;

    /// Parameters with which the hypernetwork generates `targets`, the weights
    /// of the generated network for some scales: from scratch, or by the
    /// smallest change of its present parameters.
    ///
    /// # Errors
    ///
    /// Weights of the wrong shape, a scale that the network does not support.
    fn fit_generator(
        &self,
        targets: &[(Scale, &HashMap<String, Tensor>)],
        from_scratch: bool,
    ) -> Result<Parameters>;
}
