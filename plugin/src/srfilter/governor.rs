//! Which model of a ladder upscales the next frame: the best one whose frames come in time.
//!
//! The rungs are the chosen model and faster ones. Each has a time per frame: estimated at
//! the start from a part of a frame, then learnt. The governor steps down before a frame would
//! be late, and up again when a better model has fitted for a while: with the time that it
//! takes on an idle machine, and with as much of the machine as other programs leave.

use srfilter::engine::LIVE_SHARE;
use std::collections::VecDeque;

/// Part of a frame's duration that a model may take to be stepped up to.
const UP: f64 = 0.75;
/// The same for stepping down, and at the start.
const DOWN: f64 = LIVE_SHARE;
/// Part of a frame's duration from which a model falls behind sooner or later.
const FULL: f64 = 0.95;
/// Part of the time until a frame is due that a model may take to be stepped down to: the
/// load that causes the step may still grow.
const RESERVE: f64 = 0.7;
/// Part of the idle processor time that a better model may need.
const IDLE: f64 = 0.85;

/// Frames whose times are remembered.
const REMEMBERED: usize = 8;
/// Frames that tell a model's time.
const LEARNT: usize = 5;

/// Frames that take fewer nanoseconds say little of the load.
const SHORT: f64 = 5_000_000.0;
/// Largest factor between the time of a frame and that on an idle machine.
const MOST_SLOWDOWN: f64 = 8.0;

/// Time in nanoseconds before a step up; doubled each time that a step up was wrong.
const PATIENCE: i64 = 1_500_000_000;
const MOST_PATIENCE: i64 = 60_000_000_000;
/// Time in nanoseconds for which a model that is better than the running one, but not as good
/// as before the overload, is passed over: the load may be about to end.
const HESITATION: i64 = 2_500_000_000;
/// A step down within so many nanoseconds after a step up says that that was wrong.
const WRONG: i64 = 4_000_000_000;
/// After so many nanoseconds without a change the patience is the least again.
const SETTLED: i64 = 30_000_000_000;

/// One model.
#[derive(Debug, Clone)]
pub(super) struct Rung {
    pub(super) name: String,
    /// Nanoseconds that a frame takes if nothing else runs.
    idle: f64,
}

/// The time that there is for a frame, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// The clock.
    pub(super) now: i64,
    /// A frame's duration.
    pub(super) duration: i64,
    /// Until the frame is due at the sink; `None` if that is not known.
    pub(super) left: Option<i64>,
}

/// Why the model changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The model takes longer than frames last.
    TooSlow,
    /// The next frame would be late.
    Late,
    /// A better model is fast enough again.
    Recovered,
}

impl Reason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TooSlow => "too-slow",
            Self::Late => "late",
            Self::Recovered => "recovered",
        }
    }
}

/// A change of the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) reason: Reason,
    /// Nanoseconds that the former model needs for the next frame, or the better one when
    /// it has recovered.
    pub(super) needed: f64,
    /// Nanoseconds that there are for it.
    pub(super) available: f64,
}

/// The choice of a rung for each frame.
#[derive(Debug, Default)]
pub(super) struct Governor {
    rungs: Vec<Rung>,
    /// Index of the running model.
    active: usize,
    /// The last times of the running model, in nanoseconds.
    spent: VecDeque<f64>,
    /// How many times longer frames take than on an idle machine.
    slowdown: f64,
    /// When the model last changed, up or down.
    changed: Option<i64>,
    stepped_up: Option<i64>,
    patience: i64,
    /// The rung before the overload.
    home: usize,
    /// Since when a better model has fitted.
    fitting: Option<i64>,
    /// Part of the processor time that this process may have: idle, or its own.
    free: Option<f64>,
}

impl Governor {
    /// Starts with the best of the models that hold the rate: their names and the estimated
    /// nanoseconds of a frame, best first. `duration` is a frame's; 0 if it is not known.
    pub(super) fn start(&mut self, rungs: Vec<(String, f64)>, duration: i64) -> Option<Change> {
        *self = Self {
            rungs: (rungs.into_iter())
                .map(|(name, idle)| Rung { name, idle })
                .collect(),
            slowdown: 1.0,
            patience: PATIENCE,
            ..Self::default()
        };
        let most = match duration {
            0 => f64::INFINITY,
            duration => duration as f64 * DOWN,
        };
        let needed = self.rungs.first()?.idle;
        if needed <= most {
            return None;
        }
        let to = self.best_within(0, most);
        self.home = to;
        self.step(to, Reason::TooSlow, (needed, most))
    }

    /// Whether there are models to choose from.
    pub(super) fn is_active(&self) -> bool {
        self.rungs.len() > 1
    }

    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Whether the fastest model runs.
    pub(super) fn is_at_the_end(&self) -> bool {
        self.active + 1 >= self.rungs.len()
    }

    /// The part of the processor time that this process may have.
    pub(super) fn set_free(&mut self, free: Option<f64>) {
        self.free = free;
    }

    /// The best rung from `from` on whose frames take `most` nanoseconds now; else the last.
    fn best_within(&self, from: usize, most: f64) -> usize {
        let fits = |rung: &Rung| rung.idle * self.slowdown <= most;
        let found = (self.rungs[from..].iter()).position(fits);
        found.map_or(self.rungs.len() - 1, |index| from + index)
    }

    /// The time of the next frame by the running model: all but one of the last took less.
    fn expected(&self) -> f64 {
        let mut spent: Vec<_> = self.spent.iter().copied().collect();
        spent.sort_by(f64::total_cmp);
        let known = spent.iter().rev().nth(1).copied();
        known.unwrap_or(self.rungs[self.active].idle * self.slowdown)
    }

    fn median(&self) -> Option<f64> {
        let mut last: Vec<_> = (self.spent.iter().rev().take(LEARNT)).copied().collect();
        last.sort_by(f64::total_cmp);
        (last.len() == LEARNT).then(|| last[LEARNT / 2])
    }

    /// Chooses the model for the next frame.
    pub(super) fn choose(&mut self, budget: Budget) -> Option<Change> {
        if !self.is_active() {
            return None;
        }
        self.step_down(budget).or_else(|| self.step_up(budget))
    }

    fn step_down(&mut self, budget: Budget) -> Option<Change> {
        if self.is_at_the_end() {
            return None;
        }
        let duration = budget.duration as f64;
        let (expected, left) = (self.expected(), budget.left.map(|left| left as f64));
        let late = left.is_some_and(|left| expected > left);
        let slow = self.median().is_some_and(|median| median > FULL * duration);
        if !late && !slow {
            return None;
        }
        let most = left.map_or(f64::INFINITY, |left| RESERVE * left);
        let most = most.min(DOWN * duration);
        let slowdown = expected / self.rungs[self.active].idle.max(1.0);
        self.slowdown = self.slowdown.max(slowdown.min(MOST_SLOWDOWN));
        let to = self.best_within(self.active + 1, most);
        let wrong = |since: i64| budget.now - since < WRONG;
        if self.stepped_up.is_some_and(wrong) {
            self.patience = (2 * self.patience).min(MOST_PATIENCE);
        }
        let (reason, available) = match late {
            true => (Reason::Late, left.unwrap_or(duration)),
            false => (Reason::TooSlow, duration),
        };
        self.changed = Some(budget.now);
        self.stepped_up = None;
        self.step(to, reason, (expected, available))
    }

    fn step_up(&mut self, budget: Budget) -> Option<Change> {
        let changed = *self.changed.get_or_insert(budget.now);
        let quiet = budget.now - changed;
        if quiet >= SETTLED.max(2 * self.patience) {
            self.patience = PATIENCE;
        }
        if self.active == 0 || quiet < self.patience {
            return None;
        }
        let duration = budget.duration as f64;
        let left = (budget.left.map_or(duration, |left| left as f64)).min(duration);
        let most = UP * left;
        let fits = |rung: &Rung| {
            let others = (self.free).is_none_or(|free| rung.idle <= IDLE * free * duration);
            rung.idle * self.slowdown <= most && others
        };
        let to = self.rungs[..self.active].iter().position(fits);
        let Some(to) = to else {
            self.fitting = None;
            return None;
        };
        let since = *self.fitting.get_or_insert(budget.now);
        if to > self.home && budget.now - since < HESITATION {
            return None;
        }
        self.home = self.home.min(to);
        let needed = self.rungs[to].idle * self.slowdown;
        self.changed = Some(budget.now);
        self.stepped_up = self.changed;
        self.step(to, Reason::Recovered, (needed, left))
    }

    fn step(&mut self, to: usize, reason: Reason, times: (f64, f64)) -> Option<Change> {
        let change = Change {
            from: self.rungs[self.active].name.clone(),
            to: self.rungs[to].name.clone(),
            reason,
            needed: times.0,
            available: times.1,
        };
        let changed = to != self.active;
        self.active = to;
        self.fitting = None;
        self.spent.clear();
        changed.then_some(change)
    }

    /// Learns from the time of a frame, in nanoseconds, and the share of its work, 0 to 1,
    /// that was reused from the frame before it.
    pub(super) fn record(&mut self, spent: i64, reused: f64) {
        let Some(rung) = self.rungs.get(self.active) else {
            return;
        };
        let spent = spent as f64;
        if self.spent.len() == REMEMBERED {
            self.spent.pop_front();
        }
        self.spent.push_back(spent);
        // A still picture says nothing of the next one.
        if reused > 0.1 {
            return;
        }
        // The time of short frames is mostly that of waking threads; there, what is known of
        // other programs counts.
        let slowdown = match self.free.is_some() && rung.idle < SHORT {
            true => 1.0,
            false => (spent / rung.idle.max(1.0)).clamp(1.0, MOST_SLOWDOWN),
        };
        self.slowdown += (slowdown - self.slowdown) * 0.25;
        // That the machine was idle is known only if it was measured.
        let alone = self.free.is_some_and(|free| free > 0.9);
        let median = self.median();
        let rung = &mut self.rungs[self.active];
        if let Some(median) = median.filter(|&median| median < rung.idle || alone) {
            rung.idle = median;
        }
    }

    /// A rung whose estimate may be too high, as other programs may have run at the time: to
    /// be estimated anew.
    pub(super) fn doubtful(&mut self, budget: Budget) -> Option<usize> {
        let quiet = budget.now - self.changed?;
        let idle = self.free.is_none_or(|free| free > 0.8);
        if self.active == 0 || quiet < self.patience || !idle {
            return None;
        }
        let most = 2.0 * UP * budget.duration as f64;
        let fits = |rung: &Rung| rung.idle <= most;
        let doubtful = self.rungs[..self.active].iter().position(fits)?;
        self.patience = (2 * self.patience).min(MOST_PATIENCE);
        Some(doubtful)
    }

    /// Adopts a new estimate, if it is shorter.
    pub(super) fn correct(&mut self, rung: usize, estimate: f64) {
        let rung = &mut self.rungs[rung];
        rung.idle = rung.idle.min(estimate);
    }

    /// The stream goes on elsewhere, or with other frames.
    pub(super) fn forget_frames(&mut self) {
        self.spent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;
    const DURATION: i64 = 40_000_000;

    /// A camera of 25 frames a second before a governor, and a machine.
    struct Stream {
        governor: Governor,
        frame: i64,
        /// When the last frame was done, in nanoseconds.
        done: i64,
        late: usize,
        changes: Vec<Change>,
    }

    impl Stream {
        fn new(times: &[f64]) -> Self {
            let mut governor = Governor::default();
            let rungs = times.iter().enumerate();
            let rungs = rungs.map(|(i, ms)| (format!("m{i}"), ms * MS)).collect();
            let first = governor.start(rungs, DURATION);
            Self {
                governor,
                frame: 0,
                done: 0,
                late: 0,
                changes: first.into_iter().collect(),
            }
        }

        /// Plays for some seconds while frames take `slowdown` times as long; one frame's
        /// duration is the latency.
        fn play(&mut self, seconds: i64, slowdown: f64, free: Option<f64>) {
            let idle: Vec<f64> = self.governor.rungs.iter().map(|r| r.idle).collect();
            for _ in 0..seconds * 25 {
                self.frame += 1;
                let due = (self.frame + 1) * DURATION;
                let now = self.done.max(self.frame * DURATION);
                self.governor.set_free(free);
                let left = Some(due - now);
                self.changes.extend(self.governor.choose(Budget {
                    now,
                    duration: DURATION,
                    left,
                }));
                let spent = (idle[self.governor.active()] * slowdown) as i64;
                self.done = now + spent;
                self.late += usize::from(self.done > due);
                self.governor.record(spent, 0.0);
            }
        }

        fn active(&self) -> usize {
            self.governor.active()
        }
    }

    #[test]
    fn it_starts_with_the_best_model_that_holds_the_rate() {
        let mut stream = Stream::new(&[400.0, 60.0, 20.0, 2.0]);
        assert_eq!(stream.active(), 2);
        assert_eq!(stream.changes[0].reason, Reason::TooSlow);
        stream.play(60, 1.0, Some(0.95));
        assert_eq!((stream.late, stream.active()), (0, 2));
        assert_eq!(stream.changes.len(), 1);
        // One that holds it stays, and so does the last one in any case.
        assert_eq!(Stream::new(&[30.0, 2.0]).active(), 0);
        assert_eq!(Stream::new(&[400.0, 200.0]).active(), 1);
    }

    #[test]
    fn a_load_leads_to_two_changes() {
        for free in [Some(0.06), None] {
            let mut stream = Stream::new(&[24.0, 12.0, 2.0]);
            stream.play(5, 1.0, Some(0.9));
            assert_eq!((stream.active(), stream.changes.len()), (0, 0));
            stream.play(10, 2.6, free);
            assert!(stream.active() > 0);
            stream.play(5, 1.0, free.map(|_| 0.9));
            let changes: Vec<_> = stream.changes.iter().map(|c| c.reason).collect();
            assert_eq!(stream.active(), 0, "{changes:?}");
            assert_eq!(changes[changes.len() - 1], Reason::Recovered);
            assert_eq!(changes.len(), 2, "{changes:?}");
            assert!(stream.late <= 3, "{}", stream.late);
        }
    }

    #[test]
    fn wrong_steps_up_are_made_less_and_less_often() {
        // The estimate is too low, and nothing says that the machine is not idle.
        let mut stream = Stream::new(&[24.0, 2.0]);
        for _ in 0..120 {
            let heavy = stream.active() == 0;
            stream.play(1, if heavy { 2.0 } else { 1.0 }, None);
            stream.governor.rungs[0].idle = 24.0 * MS;
        }
        // Two a disturbance: waits of 1.5, 3, 6, 12, 24, 48 seconds.
        assert!(stream.changes.len() <= 14, "{}", stream.changes.len());
    }

    #[test]
    fn a_single_slow_frame_costs_no_late_one() {
        let mut stream = Stream::new(&[24.0, 2.0]);
        stream.play(2, 1.0, Some(0.9));
        stream.done += 60_000_000;
        stream.play(4, 1.0, Some(0.9));
        assert!(stream.late <= 1, "{}", stream.late);
        assert_eq!(stream.active(), 0);
        assert_eq!(stream.changes.len(), 2);
    }

    #[test]
    fn estimates_made_under_load_are_corrected() {
        let mut stream = Stream::new(&[50.0, 2.0]);
        stream.play(3, 1.0, Some(0.9));
        assert_eq!(stream.active(), 1);
        let budget = Budget {
            now: stream.done,
            duration: DURATION,
            left: None,
        };
        assert_eq!(stream.governor.doubtful(budget), Some(0));
        // Not again at once.
        assert_eq!(stream.governor.doubtful(budget), None);
        stream.governor.correct(0, 20.0 * MS);
        stream.play(4, 1.0, Some(0.9));
        assert_eq!(stream.active(), 0);
    }
}
