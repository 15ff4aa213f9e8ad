//! The networks and their registry.
//!
//! A network is one file in this folder, whose configuration implements
//! `ArchitectureConfig`, and its rows in `registry.rs`.
//!
//! Part of the [training interface](crate#training-interface).

mod coding_damage;
mod detect;
mod hypernetwork;
mod network;
mod quantized;
#[cfg(test)]
mod ramps;
mod registry;
mod shapes;

pub use coding_damage::{CodingDamage, CodingStatistics, DamageEstimator, DamageSource};
#[cfg(feature = "pytorch")]
pub(crate) use detect::NETWORK_KEYS;
pub(crate) use detect::under;
pub use hypernetwork::{HyperNetwork, Parameters};
pub use network::{
    BoxedScaleNetwork, Channels, Network, PartialOutput, ScaleNetwork, Scales, Shapes, Upsampling,
};
use network::{Pool, complete, mean_of, run_parts, single_scale, upsampling};
pub use quantized::{QuantizedNetwork, chain_of};
pub use registry::*;
pub use shapes::Cost;
pub(crate) use shapes::nearest;
