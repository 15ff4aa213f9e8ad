//! Adversarial training: a discriminator learns to tell the generator's images
//! from real ones, and the generator learns to deceive it.
//!
//! Ian J. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014.

mod discriminator;
pub mod srgan;
pub mod unet;

pub use discriminator::Discriminator;

use crate::checkpoint::NetworkState;
use crate::optim::{Optimizer, Settings};
use crate::params::{ParamStore, Vars, tensors};
use crate::recipe::{DiscriminatorConfig, Recipe};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use srfilter::nn::BatchNorm;
use srfilter::ops::{backward, exp, log};
use std::collections::BTreeMap;

/// Builds (or, in training, creates) the discriminator of a recipe.
///
/// # Errors
///
/// A tensor that is missing or has another shape.
pub fn build(what: &DiscriminatorConfig, vb: &VarBuilder) -> Result<Box<dyn Discriminator>> {
    Ok(match what {
        DiscriminatorConfig::Srgan(config) => Box::new(srgan::Discriminator::new(vb, config)?),
        DiscriminatorConfig::Unet(config) => Box::new(unet::Discriminator::new(vb, config)?),
    })
}

/// Binary cross-entropy of logits against all real, or all fake; a scalar.
///
/// # Errors
///
/// A computation that fails.
pub fn cross_entropy(logits: &Tensor, real: bool) -> candle_core::Result<Tensor> {
    let wrong = if real { logits.neg()? } else { logits.clone() };
    // ln(1 + e^x) without an overflow.
    let rest = log(&(exp(&wrong.abs()?.neg()?)? + 1.0)?)?;
    (wrong.relu()? + rest)?.mean_all()
}

/// The discriminator in training, with its optimiser.
pub struct Adversary {
    discriminator: Box<dyn Discriminator>,
    vars: Vars,
    optimizer: Optimizer,
    weight: f64,
    /// The discriminator's learning rate over the generator's.
    lr_factor: f64,
}

impl Adversary {
    /// The adversary of a recipe, new or from a saved state; `None` without one.
    ///
    /// # Errors
    ///
    /// A saved state that does not fit.
    pub fn new(
        recipe: &Recipe,
        settings: Settings,
        saved: Option<(u64, NetworkState)>,
        device: &Device,
    ) -> Result<Option<Self>> {
        let Some(adversarial) = &recipe.adversarial else {
            return Ok(None);
        };
        let store = match &saved {
            Some((_, saved)) => {
                ParamStore::from_tensors("the saved discriminator", saved.parameters.clone())
            }
            None => ParamStore::random(recipe.train.seed),
        };
        let store = store.on(device);
        let discriminator = build(&adversarial.discriminator, &store.builder())?;
        let vars = store.vars()?;
        let mut learnt = vars.clone();
        learnt.retain(|name, _| !BatchNorm::is_statistic(name) && !unet::is_vector(name));
        let settings = Settings {
            whiten: None,
            ..settings
        };
        let mut optimizer = Optimizer::new(&learnt, settings, &BTreeMap::new())?;
        if let Some((step, saved)) = saved {
            let restored = optimizer.restore(step, saved.moments, saved.layers);
            restored.context("the saved discriminator does not fit")?;
        }
        Ok(Some(Self {
            discriminator,
            vars,
            optimizer,
            weight: adversarial.weight,
            lr_factor: adversarial.lr.map_or(1.0, |lr| lr / recipe.train.lr),
        }))
    }

    /// The weighted adversarial loss of the generator, a scalar. Its gradients
    /// with respect to the discriminator are not used.
    ///
    /// # Errors
    ///
    /// Images that do not fit.
    pub fn generator_loss(&self, fake: &Tensor) -> Result<Tensor> {
        let logits = self.discriminator.forward(fake)?;
        Ok((cross_entropy(&logits, true)? * self.weight)?)
    }

    /// The loss of the discriminator on real and fake images, which are detached
    /// from the generator; a scalar.
    ///
    /// # Errors
    ///
    /// Images that do not fit.
    pub fn discriminator_loss(&self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        let of_real = self.discriminator.forward(&real.detach())?;
        let of_fake = self.discriminator.forward(&fake.detach())?;
        Ok((cross_entropy(&of_real, true)? + cross_entropy(&of_fake, false)?)?)
    }

    /// Updates the discriminator. Returns its loss.
    ///
    /// # Errors
    ///
    /// A loss or a gradient that is not finite.
    pub fn step(&mut self, loss: &Tensor, lr: f64, clip: impl Fn(f64) -> f64) -> Result<f64> {
        let gradients = backward(loss)?;
        let norm = self.optimizer.gradient_norm(&gradients)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        ensure!(
            value.is_finite() && norm.is_finite(),
            "discriminator loss {value}, gradient norm {norm}: the training diverged; try a \
             lower adversarial.lr"
        );
        self.optimizer
            .step(&gradients, lr * self.lr_factor, clip(norm))?;
        Ok(value)
    }

    /// The state for a later [`Adversary::new`].
    ///
    /// # Errors
    ///
    /// A device that is gone.
    pub fn state(&self) -> Result<NetworkState> {
        Ok(NetworkState {
            layers: BTreeMap::new(),
            parameters: tensors(&self.vars).collect(),
            moments: self.optimizer.moments()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use std::f64::consts::LN_2;

    #[test]
    fn cross_entropy_by_hand() {
        let logits = Var::new(&[0f32, 2.0, -200.0], &Device::Cpu).unwrap();
        for (real, of_far) in [(true, 200.0), (false, 0.0)] {
            let loss = cross_entropy(&logits, real).unwrap();
            let sign = if real { 1f64 } else { -1.0 };
            // ln(1 + e^-x) for real, ln(1 + e^x) for fake.
            let by_hand = (LN_2 + libm::log1p(libm::exp(-2.0 * sign)) + of_far) / 3.0;
            let got = f64::from(loss.to_scalar::<f32>().unwrap());
            assert!((got - by_hand).abs() < 1e-5, "{got} {by_hand}");
            let gradient = loss.backward().unwrap();
            let gradient = gradient.get(&logits).unwrap().to_vec1::<f32>().unwrap();
            // Sigmoid less one for real, sigmoid for fake, over the count.
            let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
            for (got, x) in gradient.iter().zip([0.0, 2.0, -200.0]) {
                let by_hand = (sigmoid(x) - f64::from(u8::from(real))) / 3.0;
                assert!((f64::from(*got) - by_hand).abs() < 1e-6, "{got} {by_hand}");
            }
        }
    }
}
