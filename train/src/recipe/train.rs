//! The section `[train]`: the optimisation.

use super::losses::Loss;
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use std::collections::BTreeMap;

/// Momentum where none is given.
const MOMENTUM: f64 = 0.9;

/// Factor of the learning rate at a drop where none is given.
const LR_GAMMA: f64 = 0.1;

/// Patience of the schedule `plateau` where none is given.
const LR_PATIENCE: u64 = 5;

/// The optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Scales that are trained.
    pub scales: Vec<Scale>,
    /// One number a scale: how often it is drawn or, with all scales a step,
    /// the factor of its loss. Empty for 1 each.
    #[serde(default)]
    pub scale_weights: Vec<f64>,
    /// How many of the scales share a step.
    pub scales_per_step: PerStep,
    /// Length in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Length in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length of an epoch; once over the area of all pictures if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<u64>,
    /// Length in minutes. The schedule then follows the clock, so that such
    /// runs cannot be repeated exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Patches a scale and step.
    pub batch_size: usize,
    /// Adam, AdamW with decoupled weight decay, or descent with momentum.
    pub optimizer: Optimizer,
    /// Momentum of `sgd`; 0.9 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Highest learning rate.
    pub lr: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Lowest learning rate of a schedule that falls.
    pub min_lr: f64,
    /// What the learning rate is multiplied by when it drops (schedules
    /// `step`, `milestones`, `plateau`); a tenth if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_gamma: Option<f64>,
    /// Steps between drops of the schedule `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_drop_every: Option<u64>,
    /// Steps at which the schedule `milestones` drops, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<u64>,
    /// Validations without headway that the schedule `plateau` lets pass
    /// before it drops; 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_patience: Option<u64>,
    /// Steps over which the learning rate first rises.
    pub warmup: u64,
    /// Decay rates of Adam's first and second moments.
    pub betas: [f64; 2],
    /// Adam's guard against division by zero.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Upper bound of the gradient's norm over all parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Bound of every element of the gradient, either side of zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Whitens the inputs of every convolution for the optimiser (`adam`,
    /// `adamw`), which then takes far fewer steps: damping in units of the
    /// inputs' mean variance, 0.1 or so ([`crate::whiten`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whiten: Option<f64>,
    /// Decay of a moving average of the weights, which is then what is
    /// validated and written as the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Validations without a new best after which the run ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop_patience: Option<u64>,
    /// The loss.
    pub loss: Loss,
    /// Factor of the loss, where others are added; 1 if absent, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weight: Option<f64>,
    /// Seed of first weights, patches and drawn pictures.
    pub seed: u32,
    /// Scales that validation measures; empty for those that are trained.
    /// Networks at the input's resolution serve fractions too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate_scales: Vec<Scale>,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Factors of the learning rate of parameters whose names begin so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lr_factors: BTreeMap<String, f64>,
}

impl Train {
    /// Momentum of `sgd`.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(MOMENTUM)
    }

    /// What the learning rate is multiplied by when it drops.
    pub fn lr_gamma(&self) -> f64 {
        self.lr_gamma.unwrap_or(LR_GAMMA)
    }

    /// Validations without headway before the schedule `plateau` drops.
    pub fn lr_patience(&self) -> u64 {
        self.lr_patience.unwrap_or(LR_PATIENCE)
    }
}

/// How many scales share a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerStep {
    /// That many, drawn without repetition.
    Number(usize),
    /// Every scale.
    Word(All),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// `all`
    All,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Weight decay adds to the gradient.
    Adam,
    /// Weight decay shrinks the parameters.
    AdamW,
    /// Gradient descent with momentum; weight decay adds to the gradient.
    Sgd,
}

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays at `lr`.
    Constant,
    /// Half a cosine from `lr` to `min_lr`.
    Cosine,
    /// Drops every `lr_drop_every` steps.
    Step,
    /// Drops at each step of `milestones`.
    Milestones,
    /// Drops when more than `lr_patience` validations brought no improvement.
    Plateau,
}
