//! Networks that compute with the rounding of their chains to 8 bits.

use super::network::{BoxedScaleNetwork, Channels, Network, ScaleNetwork, Scales, Upsampling};
use crate::chain::Chain;
use crate::chain::quantized::{Quantization, Ranges};
use crate::ops::Border;
use crate::tensor_error::Result;
use crate::{Error, Scale};
use candle_core::Tensor;
use std::sync::Arc;

/// A network with the rounding of its chains to 8 bits, in f32: for training, and
/// for measuring what a training has reached.
pub struct QuantizedNetwork {
    network: Box<dyn Network>,
    ranges: Arc<Ranges>,
}

impl std::fmt::Debug for QuantizedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedNetwork")
            .field("ranges", &self.ranges)
            .finish_non_exhaustive()
    }
}

impl QuantizedNetwork {
    /// A network whose samples have these ranges.
    pub fn new(network: Box<dyn Network>, ranges: Arc<Ranges>) -> Self {
        Self { network, ranges }
    }

    fn chain(&self, scale: Scale) -> Result<Chain> {
        chain_of(self.network.as_ref(), scale)
    }
}

impl Network for QuantizedNetwork {
    fn channels(&self) -> Channels {
        self.network.channels()
    }

    fn scales(&self) -> &Scales {
        self.network.scales()
    }

    fn for_scale(&self, scale: Scale) -> Result<BoxedScaleNetwork> {
        Ok(Box::new(RoundedChain {
            chain: self.chain(scale)?,
            ranges: Arc::clone(&self.ranges),
        }))
    }

    fn reparameterized(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        self.network.reparameterized()
    }

    fn quantization(&self) -> Result<Option<Quantization>> {
        let Scales::List(scales) = self.scales() else {
            return Ok(None);
        };
        let chains = scales.iter().map(|&scale| self.chain(scale));
        let chains = chains.collect::<Result<Vec<_>>>()?;
        Quantization::of_chains(&chains, &self.ranges).map(Some)
    }
}

/// The chain of a network for one of its scales.
///
/// # Errors
///
/// A network that is no chain of convolutions.
pub fn chain_of(network: &dyn Network, scale: Scale) -> Result<Chain> {
    let chain = network.for_scale(scale)?.chain()?;
    let problem = "only networks that are chains of convolutions run in 8-bit integers";
    Ok(chain.ok_or_else(|| Error::Setting(problem.to_owned()))?)
}

/// A chain that runs by [`Chain::forward_rounded`].
struct RoundedChain {
    chain: Chain,
    ranges: Arc<Ranges>,
}

impl ScaleNetwork for RoundedChain {
    fn upsampling(&self) -> Upsampling {
        self.chain.upsampling()
    }

    fn halo(&self) -> usize {
        self.chain.halo()
    }

    fn border(&self) -> Border {
        self.chain.border()
    }

    fn macs(&self) -> u64 {
        self.chain.macs()
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.chain.forward_rounded(x, &self.ranges)
    }
}
