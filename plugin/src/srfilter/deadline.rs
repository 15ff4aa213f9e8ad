//! No frame is computed in vain: one that would come too late for the sink is not begun.
//!
//! Sinks that play in real time drop late frames and tell upstream how late they were (QoS
//! events). From that, and from the time that the last frames took, follows how late the
//! next one would be.

use gst::ClockTime;
use std::collections::VecDeque;

/// Lateness that sinks tolerate: `max-lateness` of GStreamer's video sinks.
const TOLERANCE: i64 = 5_000_000;

/// Most latency that is added for slow models.
const MAX_LATENCY: ClockTime = ClockTime::from_seconds(1);

/// Longest part of the stream that is skipped at a time, as by sinks.
const MAX_SKIPPED: i64 = 1_000_000_000;

/// Shortest pause after a frame by which the element has waited for the next, if that is more
/// than a quarter of its duration.
pub(super) const MIN_PAUSE: i64 = 2_000_000;

/// Frames whose times are remembered.
const REMEMBERED: usize = 8;
/// Frames that sinks may still report on.
const REPORTED: usize = 64;

/// A frame on its way; in nanoseconds of running time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) timestamp: i64,
    pub(super) now: i64,
    /// How long it lasts; 0 if the rate varies.
    pub(super) duration: i64,
    /// Whether the element waited for it.
    pub(super) awaited: bool,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Compute,
    Skip,
    /// Compute, and ask for that much more latency, in nanoseconds.
    NeedsLatency(i64),
}

/// What is known about the time that frames take, and the time that they have.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Durations of the last frames, in nanoseconds.
    spent: VecDeque<i64>,
    /// Timestamps of the last frames, and when they were done.
    done: VecDeque<(i64, i64)>,
    /// Lateness at the sink less that at this element, by the last frames that were late.
    offsets: VecDeque<i64>,
    /// The pipeline's latency.
    latency: Option<ClockTime>,
    /// The latency that the element adds.
    added: ClockTime,
    /// Whether that includes a frame's duration, so that a frame may begin late.
    slack: bool,
    /// Whether the pipeline has not yet answered a request for more latency.
    requested: bool,
    /// Whether a frame was late since the stream began or continued elsewhere.
    late: bool,
    /// The timestamp of the last frame that came.
    last: Option<i64>,
    /// Whether the sources are live, as of the last latency query.
    live: bool,
}

impl Deadlines {
    /// The time that a frame takes: all but one of the last took less.
    fn expected(&self) -> Option<i64> {
        let mut spent: Vec<_> = self.spent.iter().copied().collect();
        spent.sort_unstable();
        spent.iter().rev().nth(1).copied()
    }

    pub(super) fn decide(&mut self, frame: Arrival) -> Decision {
        let offset = self.offsets.iter().min();
        let (Some(expected), Some(offset)) = (self.expected(), offset) else {
            return Decision::Compute;
        };
        let late = frame.now - frame.timestamp + expected + offset;
        let last = self.done.back().map_or(i64::MIN, |&(last, _)| last);
        if late <= TOLERANCE || frame.timestamp.saturating_sub(last) > MAX_SKIPPED {
            return Decision::Compute;
        }
        // The element adds the time that a frame takes to it, and one frame, at most.
        let most = (expected + frame.duration).min(nanoseconds(MAX_LATENCY));
        let room = match self.live && !self.requested {
            true => most - nanoseconds(self.added),
            false => 0,
        };
        if self.live && frame.awaited {
            // It came as early as it can.
            return match room > 0 {
                true => Decision::NeedsLatency(late.min(room)),
                false => Decision::Compute,
            };
        }
        // Without slack, a model that is a little too slow would have to leave out every
        // second or third frame, and wait for the next.
        if room > 0 && !self.slack && late <= frame.duration + TOLERANCE {
            self.slack = true;
            return Decision::NeedsLatency(frame.duration.min(room));
        }
        Decision::Skip
    }

    /// A frame was done at `now`, after `spent`.
    pub(super) fn record(&mut self, timestamp: i64, now: i64, spent: i64) {
        remember(&mut self.spent, spent, REMEMBERED);
        remember(&mut self.done, (timestamp, now), REPORTED);
    }

    /// The number of frames that upstream left out before this one, after the sink has said
    /// that frames are late; `duration` is that of a frame.
    pub(super) fn missing(&mut self, timestamp: i64, duration: i64) -> u64 {
        let last = self.last.replace(timestamp);
        let (true, Some(last)) = (self.late && duration > 0, last) else {
            return 0;
        };
        let steps = (timestamp - last + duration / 2) / duration;
        u64::try_from(steps - 1).unwrap_or(0)
    }

    /// The sink says that a frame was late.
    pub(super) fn report(&mut self, timestamp: i64, late: i64) {
        self.late |= late > 0;
        let done = self.done.iter().find(|(of, _)| *of == timestamp);
        if let (true, Some((_, now))) = (late > 0, done) {
            remember(&mut self.offsets, late - (now - timestamp), REMEMBERED / 2);
        }
    }

    /// The latency of the pipeline has changed.
    pub(super) fn set_latency(&mut self, latency: ClockTime) {
        let before = self.latency.replace(latency).unwrap_or(ClockTime::ZERO);
        let more = nanoseconds(latency) - nanoseconds(before);
        self.offsets.iter_mut().for_each(|offset| *offset -= more);
        self.requested = false;
    }

    /// The latency that the element adds; none if the sources are not live.
    pub(super) fn answer_latency(&mut self, live: bool) -> ClockTime {
        self.live = live;
        match live {
            true => self.added,
            false => ClockTime::ZERO,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn set_live(&mut self, live: bool) {
        self.live = live;
    }

    /// Nanoseconds until a frame that is about to begin is due; `None` if that is not known.
    pub(super) fn left(&self, timestamp: i64, now: i64) -> Option<i64> {
        let learnt = self.offsets.iter().max().map(|offset| -offset);
        let told = self.latency.filter(|_| self.live).map(nanoseconds);
        let after = learnt.into_iter().chain(told).min()?;
        Some(timestamp + after - now)
    }

    /// Has the element add at least a duration to the latency of live sources; returns
    /// whether that is more than before.
    pub(super) fn reserve(&mut self, duration: i64) -> bool {
        let duration = ClockTime::from_nseconds(duration.max(0).unsigned_abs()).min(MAX_LATENCY);
        let more = self.live && duration > self.added;
        if more {
            self.added = duration;
            self.requested = true;
        }
        more
    }

    /// Adds to the element's latency.
    pub(super) fn add_latency(&mut self, more: i64) {
        let more = ClockTime::from_nseconds(more.max(0).unsigned_abs());
        self.added = (self.added + more).min(MAX_LATENCY);
        self.requested = true;
    }

    /// Frames take another time from now on.
    pub(super) fn forget_times(&mut self) {
        self.spent.clear();
    }

    /// The stream goes on elsewhere.
    pub(super) fn forget_frames(&mut self) {
        self.done.clear();
        self.offsets.clear();
        (self.late, self.last) = (false, None);
    }
}

fn remember<T>(queue: &mut VecDeque<T>, value: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(value);
}

pub(super) fn nanoseconds(time: ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn at(timestamp: i64, now: i64, awaited: bool) -> Arrival {
        Arrival {
            timestamp: timestamp * MS,
            now: now * MS,
            duration: 40 * MS,
            awaited,
        }
    }

    /// Frames that take 64 ms; the sink has said that one was 24 ms late.
    fn slow(live: bool) -> Deadlines {
        let mut deadlines = Deadlines {
            live,
            ..Deadlines::default()
        };
        deadlines.set_latency(ClockTime::from_mseconds(40));
        for i in 0..3 {
            assert_eq!(deadlines.decide(at(40 * i, 900, false)), Decision::Compute);
            deadlines.record(40 * i * MS, (40 * i + 64) * MS, 64 * MS);
        }
        deadlines.report(80 * MS, 24 * MS);
        deadlines
    }

    #[test]
    fn frames_that_would_be_late_are_skipped() {
        let mut deadlines = slow(false);
        assert_eq!(deadlines.decide(at(120, 144, false)), Decision::Skip);
        // 36 ms after it was due to begin.
        assert_eq!(deadlines.decide(at(180, 144, false)), Decision::Compute);
        // A second without a picture is enough.
        assert_eq!(deadlines.decide(at(1200, 1400, false)), Decision::Compute);
    }

    #[test]
    fn live_frames_that_cannot_come_earlier_need_latency() {
        let mut deadlines = slow(true);
        let frame = at(120, 120, true);
        assert_eq!(deadlines.decide(frame), Decision::NeedsLatency(24 * MS));
        deadlines.add_latency(24 * MS);
        // Until the pipeline answers.
        assert_eq!(deadlines.decide(frame), Decision::Compute);
        deadlines.set_latency(ClockTime::from_mseconds(64));
        assert_eq!(deadlines.decide(frame), Decision::Compute);
        assert_eq!(deadlines.added, ClockTime::from_mseconds(24));
        // One that lay in a queue meanwhile.
        assert_eq!(deadlines.decide(at(120, 200, false)), Decision::Skip);
        // No more than the time of a frame and one frame's duration.
        let most = Decision::NeedsLatency((64 + 40 - 24) * MS);
        assert_eq!(deadlines.decide(at(120, 320, true)), most);
        deadlines.add_latency(5000 * MS);
        assert_eq!(deadlines.added, MAX_LATENCY);
    }

    #[test]
    fn live_frames_that_begin_late_need_slack_once() {
        let mut deadlines = slow(true);
        let frame = at(120, 130, false);
        assert_eq!(deadlines.decide(frame), Decision::NeedsLatency(40 * MS));
        deadlines.add_latency(40 * MS);
        deadlines.set_latency(ClockTime::from_mseconds(80));
        assert_eq!(deadlines.decide(frame), Decision::Compute);
        assert_eq!(deadlines.decide(at(120, 180, false)), Decision::Skip);
    }

    #[test]
    fn frames_that_upstream_drops_are_counted() {
        let mut deadlines = slow(false);
        let mut missing = |timestamp| deadlines.missing(timestamp * MS, 40 * MS);
        assert_eq!([120, 160, 201, 400, 439].map(&mut missing), [0, 0, 0, 4, 0]);
        // After a seek, and with a variable rate.
        deadlines.forget_frames();
        assert_eq!(deadlines.missing(0, 40 * MS), 0);
        assert_eq!(deadlines.missing(900 * MS, 40 * MS), 0);
        deadlines.report(0, 1);
        assert_eq!(deadlines.missing(1900 * MS, 0), 0);
    }

    #[test]
    fn one_slow_frame_and_early_ones_do_not_count() {
        let mut deadlines = slow(false);
        deadlines.forget_frames();
        deadlines.record(120 * MS, 600 * MS, 480 * MS);
        assert_eq!(deadlines.expected(), Some(64 * MS));
        // Early frames may have waited in a queue: they say nothing.
        deadlines.report(120 * MS, -5 * MS);
        assert_eq!(deadlines.decide(at(160, 600, false)), Decision::Compute);
        deadlines.forget_times();
        assert_eq!(deadlines.expected(), None);
    }
}
