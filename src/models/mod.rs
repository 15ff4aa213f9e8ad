//! The networks, and the table of their names and facts.
//!
//! A network is one file in this folder, with a configuration that implements
//! `ArchitectureConfig`, and its rows in `registry.rs`.

mod detect;
mod hypernetwork;
mod network;
mod registry;
mod shapes;

pub use hypernetwork::{HyperNetwork, Parameters};
pub use network::{
    BoxedScaleNetwork, Channels, Network, PartialOutput, ScaleNetwork, Scales, Shapes, Upsampling,
};
use network::{Pool, mean_of, run_parts, single_scale, upsampling, whole};
pub use registry::*;
pub use shapes::Cost;
pub(crate) use shapes::nearest;
