//! Networks that generate the weights of other networks.

use crate::{Result, Scale};
use candle_core::Tensor;
use std::collections::HashMap;

/// Parameters by name.
pub type Parameters = Vec<(String, Tensor)>;

/// A network that generates the weights of another one for a scale.
pub trait HyperNetwork {
    /// The generated network's weights for one of its scales.
    ///
    /// # Errors
    ///
    /// A scale that it has no weights for.
    fn generate_weights(&self, scale: Scale) -> Result<Parameters>;

    /// The hypernetwork's own parameters with which it generates the `targets`,
    /// weights of the generated network for some scales: from scratch, or
    /// changed from what they are as little as that takes.
    ///
    /// # Errors
    ///
    /// Weights that do not fit, a scale that is not the network's.
    fn fit_generator(
        &self,
        targets: &[(Scale, &HashMap<String, Tensor>)],
        from_scratch: bool,
    ) -> Result<Parameters>;
}
