//! The stream's data for other threads: statistics, negotiated formats and
//! shared contexts.

use super::allocation::SharedContext;
use super::deadline::Deadlines;
use super::governor::Governor;
use super::processor_load::ProcessorLoad;
use super::switching::{Blueprint, Infos, State};
use srfilter::Scale;
use srfilter::engine::{Precision, Reused, Upscaler};
use srfilter::metrics::video::Measure;
use std::time::{Duration, Instant};

/// Data shared by the streaming thread and others; locked briefly.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) stats: Stats,
    /// A copy of [`State::infos`].
    pub(super) infos: Option<Infos>,
    /// A copy of what the state's upscalers are built from.
    pub(super) blueprint: Option<Blueprint>,
    /// An upscaler for the scale that was set last.
    pub(super) prepared: Option<Box<Upscaler>>,
    /// Whether a frame of the stream was progressive.
    pub(super) progressive: bool,
    pub(super) deadlines: Deadlines,
    pub(super) governor: Governor,
    pub(super) processors: ProcessorLoad,
    /// When the element was last done with a frame, its way downstream included.
    pub(super) returned: Option<Instant>,
    pub(super) cuda: SharedContext,
    /// Allocates pinned host memory; `None` on the CPU.
    pub(super) allocator: Option<gst::Allocator>,
}

impl Shared {
    /// The duration of a frame in nanoseconds; 0 if the rate varies, or is unknown.
    pub(super) fn frame_duration(&self) -> i64 {
        let rate = self.infos.as_ref().map(|infos| infos.input.fps());
        rate.filter(|rate| rate.numer() > 0).map_or(0, |rate| {
            i64::from(rate.denom()) * 1_000_000_000 / i64::from(rate.numer())
        })
    }
}

/// The values of the property `stats`.
#[derive(Debug, Clone, Default)]
pub(super) struct Stats {
    processed: u64,
    dropped: u64,
    missing: u64,
    total: Duration,
    last: Duration,
    /// Time spent since the last frame was completed.
    pub(super) spent: Duration,
    negotiations: u64,
    tiles: u64,
    /// The chosen model.
    pub(super) model: String,
    /// The one that replaces it while it is too slow.
    replacement: Option<String>,
    /// Changes of the model because it was too slow, or no longer.
    overload_changes: u64,
    pub(super) weights: String,
    switches: u64,
    native_scales: Vec<Scale>,
    resampled: bool,
    pub(super) device: String,
    precision: Precision,
    /// The damage that the running model's weights are for.
    damage: f64,
    /// Whether the last frame stayed in GPU memory.
    pub(super) zero_copy: bool,
    /// Frames in flight between input and output.
    pub(super) async_depth: u32,
    /// The sum over the frames that were measured.
    measured: Option<Measure>,
    /// What the last frame took from the one before it.
    reused: Reused,
    /// Frames that were the last one again.
    reused_frames: u64,
}

impl Stats {
    pub(super) fn count_frame(&mut self) {
        self.last = std::mem::take(&mut self.spent);
        self.total += self.last;
        self.processed += 1;
    }

    /// Notes what a frame took from the one before it.
    /// The share of its work, 0 to 1, that the last frame took from the one before it.
    pub(super) fn reused_share(&self) -> f64 {
        self.reused.share
    }

    pub(super) fn note_reuse(&mut self, reused: Reused) {
        self.reused = reused;
        self.reused_frames += u64::from(reused.whole_frame);
    }

    /// The time that the last frame took.
    pub(super) fn last_duration(&self) -> Duration {
        self.last
    }

    /// Adds what was measured of a frame.
    pub(super) fn add_measure(&mut self, measure: Measure) {
        *self.measured.get_or_insert_default() += measure;
    }

    /// Returns whether this is the first frame dropped.
    pub(super) fn count_drop(&mut self) -> bool {
        self.dropped += 1;
        self.dropped == 1
    }

    /// Counts frames that upstream dropped; returns whether they are the first ones.
    pub(super) fn count_missing(&mut self, frames: u64) -> bool {
        self.missing += frames;
        frames > 0 && self.missing == frames
    }

    /// Counts a change of the model because of overload.
    pub(super) fn count_overload_change(&mut self) {
        self.overload_changes += 1;
    }

    pub(super) fn count_negotiation(&mut self) {
        self.negotiations += 1;
    }

    /// Copies the state; returns whether the model changed, or was loaded again.
    pub(super) fn update(&mut self, state: &State) -> bool {
        let (model, weights) = (state.model().name(), state.model().origin());
        let named = (self.model.as_str(), self.weights.as_str()) == (model, weights);
        let changed = !named || self.switches != state.switches();
        self.switches = state.switches();
        model.clone_into(&mut self.model);
        weights.clone_into(&mut self.weights);
        let upscaler = state.running_upscaler();
        let replacement = state.ladder.replacement();
        self.replacement = replacement.map(|replacement| replacement.model().name().to_owned());
        self.native_scales = upscaler.map_or(Vec::new(), |u| u.native_scales().to_vec());
        self.resampled = upscaler.is_some_and(Upscaler::resamples);
        self.tiles = upscaler.map_or(0, |u| u.tiles() as u64);
        if let Some(upscaler) = upscaler {
            upscaler.device().name().clone_into(&mut self.device);
            self.precision = upscaler.precision();
            let (model, scale) = (upscaler.model(), upscaler.spec().scale);
            let adapted = model.adapts_to_damage(scale);
            self.damage = if adapted { model.damage().value() } else { 0.0 };
        }
        changed
    }

    pub(super) fn structure(&self) -> gst::Structure {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let average = match self.processed {
            0 => 0.0,
            n => ms(self.total) / n as f64,
        };
        let measured = self.measured.as_ref();
        let measured = measured.map(|measure| of_measure("measure", measure));
        let native = self.native_scales.iter().map(Scale::to_string);
        let memory = match self.zero_copy {
            true => "CUDAMemory",
            false => "system",
        };
        gst::Structure::builder("srfilter-stats")
            .field("processed", self.processed)
            .field("dropped", self.dropped)
            .field("missing", self.missing)
            .field("average-ms", average)
            .field("last-ms", ms(self.last))
            .field(
                "active-model",
                self.replacement.as_ref().unwrap_or(&self.model),
            )
            .field("overload-changes", self.overload_changes)
            .field("weights", &self.weights)
            .field("native-scale", native.collect::<Vec<_>>().join(" x "))
            .field("resampled", self.resampled)
            .field("device", &self.device)
            .field("precision", self.precision.to_string())
            .field("damage", self.damage)
            .field("memory", memory)
            .field("async-depth", self.async_depth)
            // The old names.
            .field("pipelined", self.async_depth > 0)
            .field("overlap", self.async_depth > 0)
            .field("reuse", self.reused.active)
            .field("reused", self.reused.share)
            .field("reused-frames", self.reused_frames)
            .field("tiles", self.tiles)
            .field("negotiations", self.negotiations)
            .field_if_some("measure", measured)
            .build()
    }
}

/// A measure as a structure; what there is not yet is left out.
pub(super) fn of_measure(name: &str, measure: &Measure) -> gst::Structure {
    gst::Structure::builder(name)
        .field("consistency-db", measure.consistency())
        .field_if_some("still", measure.still_share())
        .field_if_some("flicker", measure.flicker())
        .field_if_some("input-flicker", measure.input_flicker())
        .field_if_some("motion-ratio", measure.motion_ratio())
        .field_if_some("unchanged-tiles", measure.unchanged_tiles())
        .build()
}
