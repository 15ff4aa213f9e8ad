//! Changes of properties and device while streaming, and their messages to the
//! application.

use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::settings::{Settings, Source};
use super::switching::Loaded;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::{BaseTransformExt, BaseTransformExtManual};
use srfilter::Error;

impl SrFilter {
    /// Sets the properties with a controller to their values at a buffer's time.
    pub(super) fn sync_controlled(&self, buffer: &gst::BufferRef) {
        let segment = self.obj().segment();
        let time = segment.downcast_ref::<gst::ClockTime>();
        let time = time.and_then(|segment| segment.to_stream_time(buffer.pts()?));
        if let Some(time) = time
            && let Err(error) = self.obj().sync_values(time)
        {
            gst::debug!(CAT, imp = self, "controlled properties: {error}");
        }
    }

    /// Applies the changes of properties since the last buffer.
    pub(super) fn apply_settings(&self) {
        let settings = lock(&self.settings).clone();
        let loaded = {
            let mut state = lock(&self.state);
            let state = state.as_mut();
            state.and_then(|state| state.poll_load(&settings))
        };
        let switched = loaded.is_some_and(|loaded| self.apply_model(&settings, loaded));
        let rescaled = self.apply_scale(&settings);
        if switched || rescaled {
            self.publish();
        }
    }

    /// Switches to a loaded model; returns whether it runs now.
    fn apply_model(&self, settings: &Settings, loaded: srfilter::Result<Loaded>) -> bool {
        if loaded.is_ok() {
            self.flush_in_flight();
        }
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut() else {
            return false;
        };
        let source = settings.source.clone();
        let switched = loaded.and_then(|loaded| state.set_model(source, loaded));
        let Err(error) = switched else { return true };
        if !settings.is_settled() {
            state.postpone_failure(settings.source.clone(), error);
            return false;
        }
        let running = state.source().clone();
        drop(guard);
        self.revert_source(&settings.source, running, &error);
        false
    }

    /// Lets frames pass through, or no longer, after a change of model. The caps
    /// stay the same, so that the base class would not negotiate them again.
    pub(super) fn renew_passthrough(&self) {
        if self.obj().is_passthrough() {
            // The base class does not prepare a transform then.
            self.apply_settings();
        }
        let passes = (lock(&self.state).as_mut()).and_then(|state| state.renew_passthrough());
        if let Some(passes) = passes {
            self.obj().set_passthrough(passes);
        }
    }

    /// Reverts the properties to the running source, with a warning.
    fn revert_source(&self, requested: &Source, running: Source, error: &Error) {
        {
            let mut settings = lock(&self.settings);
            if settings.source == *requested {
                settings.source = running;
            }
        }
        let model = lock(&self.shared).stats.model.clone();
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("The change of model failed, {model} keeps running: {error}"),
            ["requested: {requested:?}"]
        );
        self.obj().notify("model");
        self.obj().notify("weights");
    }

    /// Applies the target scale; returns whether it changed.
    fn apply_scale(&self, settings: &Settings) -> bool {
        let target = settings.target();
        let running = (lock(&self.state).as_ref()).map(|state| state.target());
        let Some(running) = running.filter(|&running| running != target) else {
            // That of a scale that was set and reset.
            let outdated = lock(&self.shared).prepared.take();
            drop(outdated);
            return false;
        };
        self.flush_in_flight();
        let prepared = lock(&self.shared).prepared.take();
        let result = (lock(&self.state).as_mut()).map(|state| {
            state.prepared = prepared;
            state.set_target(target)
        });
        let Some(Err(error)) = result else {
            return result.is_some();
        };
        {
            let mut settings_now = lock(&self.settings);
            if settings_now.scale == settings.scale {
                settings_now.scale = running.to_fraction();
            }
        }
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("The scale stays {}: {error}", running.to_fraction()),
            ["requested: {}", settings.scale]
        );
        self.obj().notify("scale");
        false
    }

    /// Updates `stats`, and posts a message if the model changed.
    pub(super) fn publish(&self) {
        let structure = {
            let state = lock(&self.state);
            let Some(state) = state.as_ref() else { return };
            let shared = &mut *lock(&self.shared);
            let stats = &mut shared.stats;
            // The model or the sizes have changed.
            shared.deadlines.forget_times();
            shared.blueprint = state.blueprint();
            stats.update(state).then(|| {
                gst::Structure::builder("srfilter-model-changed")
                    .field("model", &stats.model)
                    .field("weights", &stats.weights)
                    .build()
            })
        };
        if let Some(structure) = structure {
            let message = gst::message::Element::builder(structure).src(&*self.obj());
            // Fails only without a bus.
            let _ = self.obj().post_message(message.build());
        }
    }

    /// Posts a warning about the fallback to the CPU.
    pub(super) fn report_cpu_fallback(&self, reason: &str) {
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Failed,
            ("The CPU takes over: {reason}"),
            ["device=cuda:N fails instead, device=cpu avoids the attempt"]
        );
        self.set_async_depth(0);
        // The CPU takes other times.
        self.dismiss_governor();
        self.publish();
    }

    /// Counts a frame dropped by QoS; warns about the first one.
    pub(super) fn report_drop(&self) {
        if lock(&self.shared).stats.count_drop() {
            gst::debug!(CAT, imp = self, "first frame dropped");
            gst::element_imp_warning!(
                self,
                gst::CoreError::TooLazy,
                ("Frames come too late for the sink: late ones are dropped (see the property stats)"),
                ["use a smaller scale or input, a faster model, or qos=false to keep every frame"]
            );
        }
    }
}
