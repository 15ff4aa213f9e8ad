//! The learning-rate schedule: keys of `[train]` that belong together.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Factor of a drop whose `lr_gamma` is absent.
const LR_GAMMA: f64 = 0.1;

/// Patience of `plateau` whose `lr_patience` is absent.
const LR_PATIENCE: u64 = 5;

/// The learning rate after the warm-up, with the keys that each schedule has.
///
/// Keys of other schedules are errors. `min_lr` is the lowest learning rate.
/// Optional keys stay `None` where they are absent, so that a recipe is
/// written as it was read and its hash stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schedule", rename_all = "lowercase", try_from = "Keys")]
pub enum Schedule {
    /// Stays at `lr`.
    Constant {
        /// Unused; every recipe states it.
        min_lr: f64,
    },
    /// Half a cosine from `lr` to `min_lr`.
    Cosine {
        /// Learning rate at the end.
        min_lr: f64,
    },
    /// Drops at regular intervals.
    Step {
        /// Lowest learning rate.
        min_lr: f64,
        /// Factor of a drop; 0.1 if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        lr_gamma: Option<f64>,
        /// Steps between drops.
        lr_drop_every: u64,
    },
    /// Drops at listed steps.
    Milestones {
        /// Lowest learning rate.
        min_lr: f64,
        /// Factor of a drop; 0.1 if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        lr_gamma: Option<f64>,
        /// The steps, ascending.
        milestones: Vec<u64>,
    },
    /// Drops when validation has not improved for more than `lr_patience`
    /// validations.
    Plateau {
        /// Lowest learning rate.
        min_lr: f64,
        /// Factor of a drop; 0.1 if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        lr_gamma: Option<f64>,
        /// Validations without improvement before a drop; 5 if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        lr_patience: Option<u64>,
    },
}

impl Schedule {
    /// The lowest learning rate.
    pub fn min_lr(&self) -> f64 {
        match *self {
            Self::Constant { min_lr }
            | Self::Cosine { min_lr }
            | Self::Step { min_lr, .. }
            | Self::Milestones { min_lr, .. }
            | Self::Plateau { min_lr, .. } => min_lr,
        }
    }

    /// Factor of the learning rate at a drop, for schedules that have drops.
    pub fn gamma(&self) -> Option<f64> {
        match *self {
            Self::Constant { .. } | Self::Cosine { .. } => None,
            Self::Step { lr_gamma, .. }
            | Self::Milestones { lr_gamma, .. }
            | Self::Plateau { lr_gamma, .. } => Some(lr_gamma.unwrap_or(LR_GAMMA)),
        }
    }

    /// Validations without improvement before `plateau` drops.
    pub fn patience(&self) -> Option<u64> {
        match *self {
            Self::Plateau { lr_patience, .. } => Some(lr_patience.unwrap_or(LR_PATIENCE)),
            _ => None,
        }
    }
}

/// The name of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum ScheduleKind {
    /// Stays at the highest learning rate.
    Constant,
    /// Half a cosine down to min_lr.
    Cosine,
    /// Drops every lr_drop_every steps.
    // The flags cannot state its keys.
    #[value(skip)]
    Step,
    /// Drops at the steps of the key milestones.
    #[value(skip)]
    Milestones,
    /// Drops when validation stops improving.
    Plateau,
}

impl ScheduleKind {
    /// The name in recipes.
    fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::Step => "step",
            Self::Milestones => "milestones",
            Self::Plateau => "plateau",
        }
    }
}

/// The keys as recipes hold them: side by side with the others of `[train]`.
#[derive(Deserialize)]
struct Keys {
    schedule: ScheduleKind,
    min_lr: f64,
    lr_gamma: Option<f64>,
    lr_drop_every: Option<u64>,
    #[serde(default)]
    milestones: Vec<u64>,
    lr_patience: Option<u64>,
}

impl TryFrom<Keys> for Schedule {
    type Error = String;

    fn try_from(mut keys: Keys) -> Result<Self, String> {
        let (kind, min_lr) = (keys.schedule, keys.min_lr);
        let schedule = match kind {
            ScheduleKind::Constant => Self::Constant { min_lr },
            ScheduleKind::Cosine => Self::Cosine { min_lr },
            ScheduleKind::Step => Self::Step {
                min_lr,
                lr_gamma: keys.lr_gamma.take(),
                lr_drop_every: keys
                    .lr_drop_every
                    .take()
                    .ok_or("the schedule step needs lr_drop_every, the steps between drops")?,
            },
            ScheduleKind::Milestones => Self::Milestones {
                min_lr,
                lr_gamma: keys.lr_gamma.take(),
                milestones: std::mem::take(&mut keys.milestones),
            },
            ScheduleKind::Plateau => Self::Plateau {
                min_lr,
                lr_gamma: keys.lr_gamma.take(),
                lr_patience: keys.lr_patience.take(),
            },
        };
        let unused = [
            ("lr_gamma", keys.lr_gamma.is_some()),
            ("lr_drop_every", keys.lr_drop_every.is_some()),
            ("milestones", !keys.milestones.is_empty()),
            ("lr_patience", keys.lr_patience.is_some()),
        ];
        match unused.into_iter().find(|(_, present)| *present) {
            Some((name, _)) => Err(format!(
                "{name} has no meaning with the schedule {}: leave it out, or choose another \
                 schedule",
                kind.name()
            )),
            None => Ok(schedule),
        }
    }
}
