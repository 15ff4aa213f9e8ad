//! The damage of a stream, from estimates of single frames.

use srfilter::models::CodingDamage;

/// Frames from one estimate to the next.
const PERIOD: u64 = 8;

/// What a new estimate counts in the mean.
const SHARE: f64 = 0.25;

/// Steps between the mean and the damage in use from which that changes.
const HYSTERESIS: f64 = 0.75;

/// The damage of a stream so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DamageTracker {
    frames: u64,
    mean: Option<f64>,
    damage: CodingDamage,
}

impl DamageTracker {
    /// Counts a frame; whether it is to be looked at.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.frames.is_multiple_of(PERIOD);
        self.frames += 1;
        due
    }

    /// The damage after another estimate.
    pub(super) fn add(&mut self, estimate: f64) -> CodingDamage {
        let mean = match self.mean {
            None => estimate,
            Some(mean) => mean + SHARE * (estimate - mean),
        };
        let steps = (mean - self.damage.value()).abs() * f64::from(CodingDamage::STEPS);
        if self.mean.is_none() || steps > HYSTERESIS {
            self.damage = CodingDamage::nearest(mean);
        }
        self.mean = Some(mean);
        self.damage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_damage_follows_the_estimates_without_jitter() {
        let mut tracker = DamageTracker::default();
        assert_eq!(tracker.add(0.5).value(), 0.5);
        for i in 0..40 {
            let jitter = if i % 2 == 0 { 0.06 } else { -0.06 };
            assert_eq!(tracker.add(0.5 + jitter).value(), 0.5);
        }
        let steps: Vec<f64> = (0..24).map(|_| tracker.add(0.0).value()).collect();
        assert!(steps.is_sorted_by(|a, b| a >= b), "{steps:?}");
        assert_eq!(steps[23], 0.0);
        assert!(steps[3] > 0.0);
    }

    #[test]
    fn every_eighth_frame_is_looked_at() {
        let mut tracker = DamageTracker::default();
        let due: Vec<usize> = (0..20).filter(|_| tracker.is_due()).collect();
        assert_eq!(due, [0, 8, 16]);
    }
}
