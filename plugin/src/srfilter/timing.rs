//! When frames come, when they are done, and when they are due.

use super::deadline::{Arrival, Decision, MIN_PAUSE, nanoseconds};
use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::settings::OnOverload;
use gst::ClockTime;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

impl SrFilter {
    /// The running time of a buffer and of the clock.
    pub(super) fn times(&self, buffer: &gst::BufferRef) -> Option<(ClockTime, ClockTime)> {
        let segment = self.obj().segment().downcast::<ClockTime>().ok()?;
        let timestamp = segment.to_running_time(buffer.pts()?)?;
        Some((timestamp, self.obj().current_running_time()?))
    }

    /// Has the base class drop a frame that would be late; it tells the bus and marks the gap.
    pub(super) fn skip_if_late(&self, buffer: &gst::BufferRef) {
        let element = self.obj();
        let Some((timestamp, now)) = self.times(buffer) else {
            return;
        };
        let qos: bool = element.property("qos");
        let drops = match self.on_overload() {
            OnOverload::Block => false,
            OnOverload::Fallback => !self.can_fall_back(),
            _ => true,
        };
        if !drops {
            // The base class drops no frame either: a time of no frame, as NONE is.
            element.update_qos(1.0, -1, ClockTime::ZERO);
            return;
        }
        let decision = {
            let shared = &mut *lock(&self.shared);
            if !qos || element.is_passthrough() || shared.stats.async_depth > 0 {
                return;
            }
            // A source that has fallen behind sends its frames at once.
            let duration = shared.frame_duration();
            let pause = shared.returned.map_or(i64::MAX, |at| {
                i64::try_from(at.elapsed().as_nanos()).unwrap_or(i64::MAX)
            });
            let awaited = pause > MIN_PAUSE.max(duration / 4);
            shared.deadlines.decide(Arrival {
                duration,
                timestamp: nanoseconds(timestamp),
                now: nanoseconds(now),
                awaited,
            })
        };
        match decision {
            Decision::Compute => {}
            Decision::Skip => element.update_qos(1.0, 0, timestamp),
            Decision::NeedsLatency(more) => {
                lock(&self.shared).deadlines.add_latency(more);
                gst::info!(CAT, imp = self, "needs {more} ns more latency");
                self.announce_latency();
            }
        }
    }

    /// Counts the frames that upstream dropped because the sink said that they were late.
    pub(super) fn count_missing(&self, buffer: &gst::BufferRef) {
        let first = {
            let Some((timestamp, _)) = self.times(buffer) else {
                return;
            };
            let shared = &mut *lock(&self.shared);
            let duration = shared.frame_duration();
            let missing = shared.deadlines.missing(nanoseconds(timestamp), duration);
            shared.stats.count_missing(missing)
        };
        if first {
            gst::element_imp_warning!(
                self,
                gst::CoreError::TooLazy,
                ("Frames come too late for the sink: elements before this one drop frames (see the property stats)"),
                [
                    "use a smaller scale or input, a faster model, or a sink with sync=false or qos=false"
                ]
            );
        }
    }

    /// Notes when a frame was done.
    pub(super) fn record_times(&self, output: &gst::BufferRef) {
        let Some((timestamp, now)) = self.times(output) else {
            return;
        };
        let mut shared = lock(&self.shared);
        let spent = i64::try_from(shared.stats.last_duration().as_nanos()).unwrap_or(i64::MAX);
        (shared.deadlines).record(nanoseconds(timestamp), nanoseconds(now), spent);
        let reused = shared.stats.reused_share();
        shared.governor.record(spent, reused);
    }

    /// Notes what downstream's events say about time.
    pub(super) fn note_timing(&self, event: &gst::Event) {
        let deadlines = &mut lock(&self.shared).deadlines;
        match event.view() {
            gst::EventView::Qos(qos) => {
                if let (_, _, late, Some(timestamp)) = qos.get() {
                    deadlines.report(nanoseconds(timestamp), late);
                }
            }
            gst::EventView::Latency(latency) => deadlines.set_latency(latency.latency()),
            _ => {}
        }
    }
}
