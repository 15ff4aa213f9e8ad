//! The learning rate of each step, and early stopping.

use crate::recipe::{Schedule, Train};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Fraction of the run that is done, 0 to 1.
    pub fraction: f64,
    /// Steps of the linear warm-up.
    pub warmup: u64,
    /// Drops of the schedule `plateau` ([`ValidationHistory::drops`]).
    pub drops: u64,
}

/// The learning rate of the next step.
pub fn rate(train: &Train, at: Progress) -> f64 {
    if at.step < at.warmup {
        return train.lr * (at.step + 1) as f64 / (at.warmup + 1) as f64;
    }
    let min_lr = train.schedule.min_lr();
    let gamma = train.schedule.gamma().unwrap_or(1.0);
    let dropped =
        |times: u64| (train.lr * libm::pow(gamma, times as f64)).max(min_lr.min(train.lr));
    match &train.schedule {
        Schedule::Constant { .. } => train.lr,
        Schedule::Cosine { .. } => {
            let share = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * at.fraction));
            min_lr + (train.lr - min_lr) * share
        }
        Schedule::Step { lr_drop_every, .. } => dropped(at.step / lr_drop_every),
        Schedule::Milestones { milestones, .. } => {
            let passed = milestones.iter().filter(|&&step| step <= at.step);
            dropped(passed.count() as u64)
        }
        Schedule::Plateau { .. } => dropped(at.drops),
    }
}

/// Results of the validations of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ValidationHistory {
    /// Best mean gain, in dB.
    pub best: Option<f64>,
    /// Validations since the best one.
    pub stale: u64,
    /// Validations without a new best since the last drop of the learning rate.
    pub waited: u64,
    /// Drops of the learning rate by the schedule `plateau`.
    pub drops: u64,
}

impl ValidationHistory {
    /// Records a validation's gain. Returns whether it is the best so far.
    pub fn note(&mut self, gain: f64, train: &Train) -> bool {
        if self.best.is_none_or(|best| gain > best) {
            self.best = Some(gain);
            (self.stale, self.waited) = (0, 0);
            return true;
        }
        self.stale += 1;
        self.waited += 1;
        let patience = train.schedule.patience();
        if patience.is_some_and(|patience| self.waited > patience) {
            self.drops += 1;
            self.waited = 0;
        }
        false
    }

    /// Whether to stop early, because validation no longer improves.
    pub fn is_over(&self, train: &Train) -> bool {
        train
            .early_stop_patience
            .is_some_and(|most| self.stale >= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Overrides, Recipe};

    fn train(change: impl Fn(&mut Train)) -> Train {
        let mut train = Recipe::resolve(None, &Overrides::default()).unwrap().train;
        train.lr = 1.0;
        change(&mut train);
        train
    }

    fn rates(train: &Train, steps: &[u64]) -> Vec<f64> {
        let at = |&step| Progress {
            step,
            fraction: step as f64 / 100.0,
            warmup: 4,
            drops: 0,
        };
        steps.iter().map(|step| rate(train, at(step))).collect()
    }

    #[test]
    fn courses_by_hand() {
        let (min_lr, lr_gamma) = (0.01, Some(0.5));
        let train = |schedule: Schedule| train(|t| t.schedule = schedule.clone());
        let constant = train(Schedule::Constant { min_lr });
        assert_eq!(rates(&constant, &[0, 3, 4, 99]), [0.2, 0.8, 1.0, 1.0]);
        let cosine = train(Schedule::Cosine { min_lr });
        for (got, by_hand) in rates(&cosine, &[50, 100]).iter().zip([0.505, 0.01]) {
            assert!((got - by_hand).abs() < 1e-12, "{got} {by_hand}");
        }
        let step = train(Schedule::Step {
            min_lr,
            lr_gamma,
            lr_drop_every: 10,
        });
        let by_hand = [1.0, 0.5, 0.5, 0.25, 0.01];
        assert_eq!(rates(&step, &[9, 10, 19, 20, 90]), by_hand);
        let milestones = train(Schedule::Milestones {
            min_lr,
            lr_gamma,
            milestones: vec![10, 12, 50],
        });
        let by_hand = [1.0, 0.5, 0.25, 0.125];
        assert_eq!(rates(&milestones, &[9, 11, 49, 50]), by_hand);
    }

    /// As PyTorch's `ReduceLROnPlateau` with `patience=1` and no threshold.
    #[test]
    fn a_plateau_drops_after_more_than_its_patience() {
        let plateau = train(|t| {
            t.schedule = Schedule::Plateau {
                min_lr: 0.01,
                lr_gamma: Some(0.5),
                lr_patience: Some(1),
            }
        });
        let mut history = ValidationHistory::default();
        let gains = [0.1, 0.1, 0.05, 0.05, 0.05, 0.2, 0.1, 0.3, 0.1, 0.1];
        let drops = gains.map(|gain| {
            history.note(gain, &plateau);
            history.drops
        });
        assert_eq!(drops, [0, 0, 1, 1, 2, 2, 2, 2, 2, 3]);
        assert_eq!((history.best, history.stale), (Some(0.3), 2));
        let at = Progress {
            step: 50,
            fraction: 0.5,
            warmup: 4,
            drops: 3,
        };
        assert_eq!(rate(&plateau, at), 0.125);
    }

    #[test]
    fn a_run_that_gets_nowhere_is_over() {
        let early = train(|t| t.early_stop_patience = Some(2));
        let mut history = ValidationHistory::default();
        let over = [0.1, 0.0, 0.2, 0.1, 0.2].map(|gain| {
            history.note(gain, &early);
            history.is_over(&early)
        });
        assert_eq!(over, [false, false, false, false, true]);
        assert!(!history.is_over(&train(|_| {})));
    }
}
