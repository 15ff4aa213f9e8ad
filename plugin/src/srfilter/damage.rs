//! How strongly the stream was encoded, estimated from its frames.

use super::damage_tracker::DamageTracker;
use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::settings::Settings;
use super::switching::{Infos, State};
use super::video;
use gst::subclass::prelude::*;
use gst_video::VideoFrameRef;
use srfilter::Error;
use srfilter::engine::Upscaler;
use srfilter::models::{CodingDamage, DamageEstimator, DamageSource};
use std::time::Instant;

impl SrFilter {
    /// Takes the weights for the damage that is set or, with `damage=auto`, estimated.
    pub(super) fn apply_damage(&self, inbuf: &gst::BufferRef) {
        let settings = lock(&self.settings).clone();
        if settings.damage != DamageSource::default() {
            self.warn_of_damage(&settings);
        }
        let damage = match settings.damage {
            DamageSource::Fixed(damage) => {
                self.forget_damage();
                Some(damage)
            }
            DamageSource::Auto => self.estimate_damage(inbuf),
        };
        let Some(damage) = damage else { return };
        let changes = (lock(&self.state).as_ref()).is_some_and(|state| state.damage() != damage);
        if !changes {
            return;
        }
        self.flush_in_flight();
        let result = (lock(&self.state).as_mut()).map(|state| {
            let fallback = |state: &State| {
                let running = state.running_upscaler().and_then(Upscaler::fallback_reason);
                running.map(str::to_owned)
            };
            let known = fallback(state).is_some();
            let result = state.set_damage(damage);
            (result, fallback(state).filter(|_| !known))
        });
        let Some((result, fallback)) = result else {
            return;
        };
        self.publish();
        if let Some(reason) = fallback {
            self.report_cpu_fallback(&reason);
        }
        if let Err(error) = result {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("The weights for damage {damage} cannot be taken: {error}")
            );
        }
    }

    /// The damage of the stream, after a look at a frame where one is due.
    fn estimate_damage(&self, inbuf: &gst::BufferRef) -> Option<CodingDamage> {
        let infos = lock(&self.shared).infos.clone()?;
        {
            let mut state = lock(&self.state);
            let state = state.as_mut()?;
            if !state.adapts_to_damage() || !state.tracker.is_due() {
                return None;
            }
        }
        let started = Instant::now();
        let estimate = match estimate(&infos, inbuf) {
            Ok(estimate) => estimate,
            Err(error) => {
                gst::warning!(CAT, imp = self, "the damage stays as it is: {error}");
                return None;
            }
        };
        lock(&self.shared).stats.spent += started.elapsed();
        gst::log!(CAT, imp = self, "damage of the frame: {estimate:.3}");
        Some(lock(&self.state).as_mut()?.tracker.add(estimate))
    }

    /// Warns of a value of the property that is none. The last one stays.
    pub(super) fn report_damage_error(&self) {
        let error = lock(&self.settings).damage_error.take();
        if let Some(error) = error {
            gst::element_imp_warning!(self, gst::ResourceError::Settings, ("{error}"));
        }
    }

    /// Forgets the damage so far: another stream follows.
    pub(super) fn forget_damage(&self) {
        if let Some(state) = lock(&self.state).as_mut() {
            state.tracker = DamageTracker::default();
        }
    }

    /// Warns, once for a model, that the damage that is set changes nothing.
    fn warn_of_damage(&self, settings: &Settings) {
        let mut state = lock(&self.state);
        let unadapted = (state.as_mut()).and_then(|state| state.unadapted_model(settings));
        drop(state);
        let Some(model) = unadapted else { return };
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("{model} has no weights for encoded video at this scale: damage changes nothing")
        );
    }
}

fn estimate(infos: &Infos, inbuf: &gst::BufferRef) -> srfilter::Result<f64> {
    let unreadable = |_| Error::Frame("a frame's memory cannot be read".to_owned());
    let unsupported = || Error::Frame("a frame's format is not supported".to_owned());
    let frame = VideoFrameRef::from_buffer_ref_readable(inbuf, &infos.input);
    let frame = frame.map_err(unreadable)?;
    let spec = video::spec(&infos.input).ok_or_else(unsupported)?;
    DamageEstimator::builtin()?.estimate(&video::frame_ref(&frame, &spec)?)
}
