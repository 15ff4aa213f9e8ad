//! Reuse of what does not change from one frame to the next.

use crate::Result;
use crate::frame::damage::Damage;
use crate::frame::retained::RetainedFrame;
use crate::frame::{FrameMut, FrameRef};
use crate::threads::pool;

/// Whether an upscaler takes from the last output what depends on equal input
/// alone. The output is the same, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reuse {
    /// Every frame is computed.
    #[default]
    Off,
    /// While it pays: frames that change as a whole, such as noise, turn it off,
    /// and similar ones turn it on again.
    Auto,
    /// Always: every frame is compared with the last one.
    On,
}

/// What was reused for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Reused {
    /// Whether frames are compared: always or never, or as [`Reuse::Auto`] decides.
    pub active: bool,
    /// The share of the networks' work that was not computed again, 0 to 1; without
    /// networks, of the resampling.
    pub share: f64,
    /// Whether the whole frame is the last one again.
    pub whole_frame: bool,
}

/// Frames from one look at the similarity of two frames to the next: a prime
/// number, which repeated frames (of slow animation, of film in fast video) have no
/// common rhythm with.
const PROBE_PERIOD: u32 = 17;

/// Frames in a row that save too little before reuse pauses.
const PATIENCE: u32 = 3;

/// A share of work that pays for comparing and copying frames of the fastest models.
const PAYS: f64 = 0.25;

/// The share of equal samples in two frames that ends a pause.
const SIMILAR: f64 = 0.5;

/// What to do with a frame's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Ignore,
    /// Store it for the next comparison.
    Store,
    /// Compare it with the last one, and store it.
    Compare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Frames before this one saved too little: how many.
    Active { poor: u32 },
    /// Frames until the next comparison.
    Paused { rest: u32 },
}

/// Decides when frames are compared.
#[derive(Debug)]
struct ReusePolicy {
    mode: Reuse,
    phase: Phase,
}

impl Default for ReusePolicy {
    fn default() -> Self {
        Self::new(Reuse::Off)
    }
}

impl ReusePolicy {
    fn new(mode: Reuse) -> Self {
        let phase = match mode {
            Reuse::On => Phase::Active { poor: 0 },
            _ => Phase::Paused { rest: 1 },
        };
        Self { mode, phase }
    }

    /// Whether outputs are retained.
    fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    /// What to do with the next frame.
    fn look(&mut self) -> Look {
        match &mut self.phase {
            _ if self.mode == Reuse::Off => Look::Ignore,
            Phase::Active { .. } | Phase::Paused { rest: 0 } => Look::Compare,
            Phase::Paused { rest } => {
                *rest -= 1;
                if *rest == 0 {
                    Look::Store
                } else {
                    Look::Ignore
                }
            }
        }
    }

    /// The share of samples that are equal in two frames.
    fn observe_similarity(&mut self, share: f64) {
        if let Phase::Paused { rest } = &mut self.phase {
            match share >= SIMILAR {
                true => self.phase = Phase::Active { poor: 0 },
                false => *rest = PROBE_PERIOD,
            }
        }
    }

    /// The share of work that a frame did not take.
    fn observe_saving(&mut self, share: f64) {
        let Phase::Active { poor } = &mut self.phase else {
            return;
        };
        *poor = if share < PAYS { *poor + 1 } else { 0 };
        if *poor >= PATIENCE && self.mode == Reuse::Auto {
            self.phase = Phase::Paused { rest: PROBE_PERIOD };
        }
    }
}

/// What [`FrameReuse::process`] wants computed.
pub(super) enum Request<'a> {
    /// A frame.
    Plain,
    /// A frame of which the next one may reuse parts: what depends on this damage,
    /// or everything.
    Retained(Option<&'a [Damage]>),
}

/// The last frame of an upscaler, and the decision whether to use it.
#[derive(Default)]
pub(super) struct FrameReuse {
    policy: ReusePolicy,
    input: Option<RetainedFrame>,
    output: Option<RetainedFrame>,
    /// Whether `input` is the last frame's.
    has_input: bool,
    /// Whether `output` is the complete output of `input`.
    has_output: bool,
    /// Whether the last frame was in GPU memory.
    was_on_device: bool,
    last: Reused,
}

impl FrameReuse {
    pub(super) fn set_mode(&mut self, mode: Reuse) {
        if mode != self.policy.mode {
            *self = Self {
                policy: ReusePolicy::new(mode),
                ..Self::default()
            };
        }
    }

    /// What was reused for the last frame.
    pub(super) fn last(&self) -> Reused {
        self.last
    }

    /// Drops the last frame.
    pub(super) fn forget(&mut self) {
        (self.has_input, self.has_output) = (false, false);
        self.was_on_device = false;
    }

    /// Upscales a frame in GPU memory by `compute`, which compares it with the last one
    /// if that is asked of it, and returns whether it is the same; `None` if this is not
    /// supported. Returns whether it is.
    ///
    /// # Errors
    ///
    /// Those of `compute`.
    pub(super) fn process_on_device(
        &mut self,
        compute: impl FnOnce(bool) -> Result<Option<bool>>,
    ) -> Result<bool> {
        self.last = Reused::default();
        let (look, had_frame) = (self.policy.look(), self.was_on_device);
        self.forget();
        let compares = look == Look::Compare && had_frame;
        let Some(is_same) = compute(compares)? else {
            return Ok(false);
        };
        self.was_on_device = look != Look::Ignore;
        if compares {
            let share = f64::from(u8::from(is_same));
            self.policy.observe_similarity(share);
            self.policy.observe_saving(share);
            (self.last.share, self.last.whole_frame) = (share, is_same);
        }
        self.last.active = self.policy.is_active();
        Ok(true)
    }

    /// Upscales a frame: by `compute`, which returns the share of work that it took,
    /// as far as necessary; it `updates_parts` or only whole frames.
    ///
    /// # Errors
    ///
    /// Those of `compute`.
    pub(super) fn process(
        &mut self,
        (threads, updates_parts): (usize, bool),
        (input, output): (&FrameRef<'_>, &mut FrameMut<'_>),
        mut compute: impl FnMut(&mut FrameMut<'_>, Request<'_>) -> Result<f64>,
    ) -> Result<()> {
        self.last = Reused::default();
        self.was_on_device = false;
        let look = self.policy.look();
        let changes = match look {
            Look::Ignore => {
                self.forget();
                None
            }
            _ => pool(threads)?.install(|| self.compare(input, look, updates_parts)),
        };
        self.last.active = self.policy.is_active();
        if !self.policy.is_active() {
            self.has_output = false;
            return compute(output, Request::Plain).map(drop);
        }
        self.update(threads, output, changes, compute)
    }

    /// Stores the input; returns its damage if it was compared.
    fn compare(
        &mut self,
        input: &FrameRef<'_>,
        look: Look,
        updates_parts: bool,
    ) -> Option<Vec<Damage>> {
        let new = || RetainedFrame::new(input.format(), input.size(), input.color());
        let retained = self.input.get_or_insert_with(new);
        if !std::mem::replace(&mut self.has_input, true) || look == Look::Store {
            retained.store(input);
            self.has_output = false;
            return None;
        }
        let changes = retained.replace(input);
        let area: usize = changes.iter().map(Damage::area).sum();
        let damaged = changes.iter().map(|d| d.share() * d.area() as f64);
        let similarity = 1.0 - damaged.sum::<f64>() / area.max(1) as f64;
        let reusable = match updates_parts || similarity == 1.0 {
            true => similarity,
            false => 0.0,
        };
        self.policy.observe_similarity(reusable);
        Some(changes)
    }

    /// Brings the retained output up to date, and copies it.
    fn update(
        &mut self,
        threads: usize,
        output: &mut FrameMut<'_>,
        changes: Option<Vec<Damage>>,
        mut compute: impl FnMut(&mut FrameMut<'_>, Request<'_>) -> Result<f64>,
    ) -> Result<()> {
        let new = || RetainedFrame::new(output.format(), output.size(), output.color());
        let retained = self.output.get_or_insert_with(new);
        // A failure leaves the output incomplete.
        let had_output = std::mem::take(&mut self.has_output);
        let changes = changes.filter(|_| had_output);
        let is_same = |changes: &Vec<Damage>| changes.iter().all(Damage::is_none);
        if changes.as_ref().is_some_and(is_same) {
            self.last.share = 1.0;
            self.last.whole_frame = true;
        } else {
            let request = Request::Retained(changes.as_deref());
            let took = compute(&mut retained.frame_mut()?, request)?;
            self.last.share = 1.0 - took;
        }
        self.has_output = true;
        if had_output {
            self.policy.observe_saving(self.last.share);
        }
        pool(threads)?.install(|| retained.copy_to(output));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames in which a policy looks at frames of which `similarity` is the same.
    fn looks(policy: &mut ReusePolicy, similarity: f64, frames: usize) -> Vec<Look> {
        let frame = |_| {
            let (look, active) = (policy.look(), policy.is_active());
            if look == Look::Compare {
                policy.observe_similarity(similarity);
            }
            if active {
                policy.observe_saving(similarity);
            }
            look
        };
        (0..frames).map(frame).collect()
    }

    #[test]
    fn noise_is_compared_once_in_a_period() {
        let mut policy = ReusePolicy::new(Reuse::Auto);
        let looks = looks(&mut policy, 0.0, 1000);
        assert_eq!(looks[..2], [Look::Store, Look::Compare]);
        let count = |look| looks.iter().filter(|&&l| l == look).count();
        let periods = 1000 / (PROBE_PERIOD as usize + 1);
        assert!(count(Look::Compare) <= periods + 1);
        assert!(count(Look::Compare) >= periods);
        assert!(!policy.is_active());
    }

    #[test]
    fn noise_pauses_and_stillness_resumes() {
        let mut policy = ReusePolicy::new(Reuse::Auto);
        looks(&mut policy, 1.0, 2);
        assert!(policy.is_active());
        // A cut, or two, does not pause it.
        looks(&mut policy, 0.0, PATIENCE as usize - 1);
        looks(&mut policy, 0.9, 1);
        looks(&mut policy, 0.0, PATIENCE as usize - 1);
        assert!(policy.is_active());
        looks(&mut policy, 0.0, 1);
        assert!(!policy.is_active());
        looks(&mut policy, 0.9, PROBE_PERIOD as usize + 1);
        assert!(policy.is_active());
        assert!(
            looks(&mut policy, 0.9, 100)
                .iter()
                .all(|&l| l == Look::Compare)
        );
    }

    /// Frames that are shown `times` times each, in any phase.
    #[test]
    fn repeated_frames_are_found() {
        for times in [2, 3, 4, 5] {
            let mut policy = ReusePolicy::new(Reuse::Auto);
            // The first one is compared too.
            looks(&mut policy, 0.0, 2);
            let found = (0..200).find(|&frame| {
                let new = frame % times == 0;
                looks(&mut policy, if new { 0.0 } else { 1.0 }, 1);
                policy.is_active()
            });
            assert!(found.is_some(), "{times}");
        }
    }

    #[test]
    fn on_never_pauses_and_off_never_looks() {
        let mut on = ReusePolicy::new(Reuse::On);
        assert!(looks(&mut on, 0.0, 100).iter().all(|&l| l == Look::Compare));
        let mut off = ReusePolicy::new(Reuse::Off);
        assert!(looks(&mut off, 1.0, 100).iter().all(|&l| l == Look::Ignore));
    }
}
