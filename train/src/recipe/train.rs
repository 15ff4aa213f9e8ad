//! The section `[train]`: the optimisation.

use super::losses::Loss;
use super::schedule::Schedule;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use srfilter::Scale;
use std::collections::BTreeMap;
use toml::Table;

/// Default momentum of `sgd`.
const SGD_MOMENTUM: f64 = 0.9;

/// Default momentum of `muon`.
const MUON_MOMENTUM: f64 = 0.95;

/// All keys of the section, as serde refuses no unknown keys in a struct with a
/// flattened field.
const KEYS: [&str; 35] = [
    "scales",
    "scale_weights",
    "scales_per_step",
    "steps",
    "epochs",
    "steps_per_epoch",
    "minutes",
    "batch_size",
    "optimizer",
    "momentum",
    "lr",
    "schedule",
    "min_lr",
    "lr_gamma",
    "lr_drop_every",
    "milestones",
    "lr_patience",
    "warmup",
    "betas",
    "eps",
    "weight_decay",
    "clip_norm",
    "clip_value",
    "whiten",
    "ema",
    "early_stop_patience",
    "loss",
    "loss_weight",
    "grid_weight",
    "shift",
    "seed",
    "validate_scales",
    "validate_every",
    "checkpoint_every",
    "lr_factors",
];

/// Refuses keys that the section does not have.
pub(super) fn check_keys(section: &Table) -> Result<(), toml::de::Error> {
    match section.keys().find(|key| !KEYS.contains(&key.as_str())) {
        Some(key) => Err(Error::unknown_field(key, &KEYS)),
        None => Ok(()),
    }
}

/// The optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// Scales that are trained.
    pub scales: Vec<Scale>,
    /// One weight per scale: its relative frequency or, with all scales in a step,
    /// the factor of its loss. Empty for 1 each.
    #[serde(default)]
    pub scale_weights: Vec<f64>,
    /// Number of scales per step.
    pub scales_per_step: PerStep,
    /// Length in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Length in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length of an epoch; the area of all images once if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<u64>,
    /// Length in minutes. The schedule then follows the clock, so that such runs
    /// are not repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Patches per step and scale.
    pub batch_size: usize,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Momentum of `sgd` or `muon`; 0.9 or 0.95 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Peak learning rate.
    pub lr: f64,
    /// The learning-rate schedule: `schedule` and its keys.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// Steps of the linear warm-up.
    pub warmup: u64,
    /// Decay rates of Adam's first and second moments.
    pub betas: [f64; 2],
    /// Adam's guard against division by zero.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Maximum norm of the gradient over all parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Maximum absolute value of every element of the gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Preconditions the optimiser (`adam`, `adamw`, `muon`) with the second moments of the
    /// convolutions' inputs, for much faster convergence: damping in units of the
    /// inputs' mean variance, about 0.1 ([`crate::optim::input_preconditioner`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whiten: Option<f64>,
    /// Decay of the moving average of the weights, which is then validated and
    /// written to the weights files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Validations without a new best after which the run stops early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop_patience: Option<u64>,
    /// The loss.
    pub loss: Loss,
    /// Factor of the loss, where others are added; 1 if absent, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weight: Option<f64>,
    /// Factor of a loss that keeps grids out ([`crate::loss::grid`]), which perceptual and
    /// adversarial losses lead to; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid_weight: Option<f64>,
    /// Perceptual and adversarial losses see images that are smaller by so many samples, at a place
    /// that differs from step to step; none if absent. Layers with a stride weigh some samples
    /// more than others; where those are always the same phases of a pixel shuffle, the
    /// network learns a grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<usize>,
    /// Random seed of initial weights, patches and synthetic images.
    pub seed: u32,
    /// Scales of the validation; empty for those that are trained.
    /// Post-upsampling networks also serve fractions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate_scales: Vec<Scale>,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Factors of the learning rate, by prefixes of parameter names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lr_factors: BTreeMap<String, f64>,
}

impl Train {
    /// Momentum of `sgd` or `muon`.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(match self.optimizer {
            OptimizerKind::Muon => MUON_MOMENTUM,
            OptimizerKind::Adam | OptimizerKind::AdamW | OptimizerKind::Sgd => SGD_MOMENTUM,
        })
    }
}

/// Number of scales per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerStep {
    /// A number, chosen at random without repetition.
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
pub enum OptimizerKind {
    /// Adam; weight decay adds to the gradient.
    Adam,
    /// AdamW, with decoupled weight decay.
    AdamW,
    /// Gradient descent with momentum; weight decay adds to the gradient.
    Sgd,
    /// Muon for kernels and matrices, AdamW for the rest ([`crate::optim::muon`]).
    Muon,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests::resolve;
    use crate::recipe::{Overrides, Schedule};

    /// A key that is missing from the list would be refused, and one that no
    /// field has would be ignored.
    #[test]
    fn the_list_of_keys_is_that_of_the_fields() {
        for key in KEYS {
            // No field is a date, so that every field refuses one.
            let error = resolve(
                &format!("[train]\n{key} = 2020-01-01"),
                &Overrides::default(),
            );
            let error = format!("{:#}", error.unwrap_err());
            assert!(!error.contains("unknown field"), "{key}: {error}");
        }
        let error = resolve("[train]\nlearning_rate = 1", &Overrides::default()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("unknown field `learning_rate`, expected one of `scales`"));
    }

    #[test]
    fn all_fields_are_listed() {
        let text = "[train]\nsteps = 1\nsteps_per_epoch = 1\noptimizer = 'sgd'\nmomentum = 0.5\n\
            schedule = 'plateau'\nlr_gamma = 0.5\nlr_patience = 2\nclip_norm = 1\n\
            clip_value = 1\nema = 0.9\nearly_stop_patience = 3\nvalidate_scales = [2]\n\
            lr_factors = { a = 0.5 }";
        let mut train = resolve(text, &Overrides::default()).unwrap().train;
        (train.epochs, train.minutes, train.whiten) = (Some(1), Some(1.0), Some(0.1));
        train.loss_weight = Some(0.5);
        (train.grid_weight, train.shift) = (Some(10.0), Some(8));
        let mut fields = Table::try_from(&train).unwrap();
        let (min_lr, lr_gamma) = (0.0, None);
        for schedule in [
            Schedule::Step {
                min_lr,
                lr_gamma,
                lr_drop_every: 9,
            },
            Schedule::Milestones {
                min_lr,
                lr_gamma,
                milestones: vec![4],
            },
        ] {
            fields.extend(Table::try_from(&schedule).unwrap());
        }
        let mut keys = KEYS;
        keys.sort_unstable();
        assert_eq!(fields.keys().collect::<Vec<_>>(), keys);
    }
}
