//! What happens while the chosen model is too slow for the stream.

use super::deadline::nanoseconds;
use super::governor::{Budget, Change, Governor};
use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::settings::OnOverload;
use gst::ClockTime;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use std::time::Duration;

impl SrFilter {
    /// What happens on overload now.
    pub(super) fn on_overload(&self) -> OnOverload {
        match lock(&self.settings).on_overload {
            OnOverload::Auto if lock(&self.shared).deadlines.is_live() => OnOverload::Fallback,
            OnOverload::Auto => OnOverload::Drop,
            other => other,
        }
    }

    /// Asks upstream whether the sources are live.
    pub(super) fn ask_for_liveness(&self) {
        let mut query = gst::query::Latency::new();
        if self.obj().sink_pad().peer_query(&mut query) {
            lock(&self.shared).deadlines.set_live(query.result().0);
        }
    }

    /// Whether a faster model can take over, so that no frame needs to be left out.
    pub(super) fn can_fall_back(&self) -> bool {
        let governor = &lock(&self.shared).governor;
        governor.is_active() && !governor.is_at_the_end()
    }

    /// Chooses the model for the frame of this running time and duration.
    pub(super) fn govern(&self, timestamp: Option<ClockTime>, duration: Option<ClockTime>) {
        let possible = {
            let shared = lock(&self.shared);
            !self.obj().is_passthrough() && shared.stats.async_depth == 0
        };
        if !possible || self.on_overload() != OnOverload::Fallback {
            self.dismiss_governor();
            return;
        }
        let duration = match lock(&self.shared).frame_duration() {
            0 => duration.map_or(0, nanoseconds),
            known => known,
        };
        if duration == 0 {
            return;
        }
        if let Some(rungs) = self.build_ladder(duration) {
            let (change, governs) = {
                let governor = &mut lock(&self.shared).governor;
                (governor.start(rungs, duration), governor.is_active())
            };
            if governs {
                self.reserve_latency(duration);
            }
            self.adopt_rung(change);
            return;
        }
        let Some((timestamp, now)) = timestamp.zip(self.obj().current_running_time()) else {
            return;
        };
        let (change, doubtful) = {
            let shared = &mut *lock(&self.shared);
            let (timestamp, now) = (nanoseconds(timestamp), nanoseconds(now));
            let budget = Budget {
                now,
                duration,
                left: shared.deadlines.left(timestamp, now),
            };
            let on_cpu = shared.stats.device == "cpu";
            let free = shared.processors.free();
            let governor = &mut shared.governor;
            governor.set_free(free.filter(|_| on_cpu));
            match governor.choose(budget) {
                None => (None, governor.doubtful(budget)),
                change => (change, None),
            }
        };
        if let Some(rung) = doubtful {
            // A few tiles: little of the time that the running model leaves.
            let state = lock(&self.state);
            let estimate = (state.as_ref()).and_then(|s| s.estimate(rung, Duration::ZERO));
            drop(state);
            if let Some(estimate) = estimate {
                lock(&self.shared).governor.correct(rung, estimate);
            }
        }
        self.adopt_rung(change);
    }

    /// Prepares the models that may take over, if that is not done.
    fn build_ladder(&self, duration: i64) -> Option<Vec<(String, f64)>> {
        let most = Duration::from_nanos(2 * duration.unsigned_abs());
        let settings = lock(&self.settings).clone();
        let rungs = (lock(&self.state).as_mut())?.build_ladder(&settings, most)?;
        gst::info!(CAT, imp = self, "models and nanoseconds a frame: {rungs:?}");
        Some(rungs)
    }

    /// Adds a frame's duration to the latency of a live pipeline: the time that a model may take.
    fn reserve_latency(&self, duration: i64) {
        if lock(&self.shared).deadlines.reserve(duration) {
            self.announce_latency();
        }
    }

    pub(super) fn announce_latency(&self) {
        let message = gst::message::Latency::builder().src(&*self.obj());
        // Fails only without a bus.
        let _ = self.obj().post_message(message.build());
    }

    /// Runs the model that the governor has chosen.
    fn adopt_rung(&self, change: Option<Change>) {
        let Some(change) = change else { return };
        {
            let mut state = lock(&self.state);
            let Some(state) = state.as_mut() else { return };
            let shared = &mut *lock(&self.shared);
            state.ladder.activate(shared.governor.active());
            shared.deadlines.forget_times();
            shared.stats.count_overload_change();
            shared.stats.update(state);
        }
        gst::info!(CAT, imp = self, "{change:?}");
        let ms = |nanoseconds: f64| nanoseconds / 1e6;
        let structure = gst::Structure::builder("srfilter-overload")
            .field("from", &change.from)
            .field("to", &change.to)
            .field("reason", change.reason.name())
            .field("needed-ms", ms(change.needed))
            .field("available-ms", ms(change.available))
            .build();
        let message = gst::message::Element::builder(structure).src(&*self.obj());
        // Fails only without a bus.
        let _ = self.obj().post_message(message.build());
    }

    /// Goes back to the chosen model; the others are prepared anew if they are needed.
    pub(super) fn dismiss_governor(&self) {
        if !lock(&self.shared).governor.is_active() {
            return;
        }
        let mut state = lock(&self.state);
        let Some(state) = state.as_mut() else { return };
        state.ladder.clear();
        let shared = &mut *lock(&self.shared);
        shared.governor = Governor::default();
        shared.deadlines.forget_times();
        shared.stats.update(state);
    }
}
