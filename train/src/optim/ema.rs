//! Exponential moving average (EMA) of a network's weights, which often
//! performs better than the weights themselves.
//!
//! B. T. Polyak, A. B. Juditsky, "Acceleration of Stochastic Approximation by
//! Averaging", 1992; in the exponential form of Real-ESRGAN's training.

use crate::params::{ParamStore, Vars};
use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use srfilter::models::Network;
use srfilter::ops;
use std::collections::HashMap;

/// A second network whose weights follow those of the one in training:
/// `average = decay * average + (1 - decay) * weight` after every step.
pub struct Ema {
    decay: f64,
    vars: Vars,
    network: Box<dyn Network>,
}

impl std::fmt::Debug for Ema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Average")
            .field("decay", &self.decay)
            .finish_non_exhaustive()
    }
}

impl Ema {
    /// Starts from `tensors`, on a device, with the network that `build` makes of them.
    ///
    /// # Errors
    ///
    /// Tensors that do not fit the network.
    pub fn new(
        decay: f64,
        tensors: HashMap<String, Tensor>,
        device: &Device,
        build: impl FnOnce(&VarBuilder) -> Result<Box<dyn Network>>,
    ) -> Result<Self> {
        let store = ParamStore::from_tensors("the average of the weights", tensors).on(device);
        Ok(Self {
            decay,
            network: build(&store.builder())?,
            vars: store.vars()?,
        })
    }

    /// Updates the average with the weights of a step.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn update(&self, weights: &Vars) -> Result<()> {
        let moves = self.vars.iter().filter_map(|(name, ema)| {
            let weight = weights.get(name)?.as_tensor().clone();
            Some((ema.clone(), weight, 1.0 - self.decay))
        });
        Ok(ops::lerp_in_place(self.decay, &moves.collect::<Vec<_>>())?)
    }

    /// The network with the average as its weights.
    pub fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// The average by name.
    pub fn vars(&self) -> &Vars {
        &self.vars
    }
}
