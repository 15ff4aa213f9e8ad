//! Loading models, and switching model and scale between two frames.

use super::ahead::FramesAhead;
use super::caps::TargetScale;
use super::damage_tracker::DamageTracker;
use super::ladder::Ladder;
use super::settings::{Settings, Source};
use super::{background, caps, ladder, shape, video};
use gst_video::VideoInfo;
use srfilter::engine::{
    ComputeDevice, FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler, in_background,
};
use srfilter::frame::Window;
use srfilter::models::{CodingDamage, DamageSource};
use srfilter::weights::Model;
use srfilter::{Error, Scale, models};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// The negotiated input and output formats.
#[derive(Debug, Clone)]
pub(super) struct Infos {
    pub(super) input: VideoInfo,
    pub(super) output: VideoInfo,
    /// The part of the output frame that the picture fills.
    pub(super) window: Window,
    add_borders: bool,
}

impl Infos {
    /// Formats between which the picture keeps its shape if borders may be added.
    pub(super) fn new(
        input: VideoInfo,
        output: VideoInfo,
        add_borders: bool,
    ) -> srfilter::Result<Self> {
        let window = shape::window(&input, &output, frame_spec(&input)?.format, add_borders);
        Ok(Self {
            input,
            output,
            window,
            add_borders,
        })
    }

    /// The same input with another output.
    fn with_output(self, output: VideoInfo) -> srfilter::Result<Self> {
        Self::new(self.input, output, self.add_borders)
    }

    fn input_size(&self) -> (usize, usize) {
        (self.input.width() as usize, self.input.height() as usize)
    }

    /// Whether the planes of an input and an output frame lie at the same places: of 4:2:0
    /// video, interlaced frames of some heights have more rows.
    fn have_same_layout(&self) -> bool {
        let (input, output) = (&self.input, &self.output);
        (input.size(), input.offset(), input.stride())
            == (output.size(), output.offset(), output.stride())
    }

    /// Whether the picture fills the whole output frame.
    pub(super) fn fills_output(&self) -> bool {
        let output = (self.output.width() as usize, self.output.height() as usize);
        self.window == Window::whole(output)
    }
}

/// Frames in flight on a GPU when the first one is pushed.
const PIPELINE_DEPTH: u32 = 2;

/// Input buffers of the frames in flight, oldest first.
pub(super) type InFlightFrames = VecDeque<gst::Buffer>;

/// The state of the streaming thread; locked while a frame is computed.
pub(super) struct State {
    source: Source,
    model: Arc<Model>,
    options: UpscaleOptions,
    target: TargetScale,
    infos: Option<Infos>,
    /// Whether frames pass through, as negotiated: of equal sizes, if the model
    /// had no network for them.
    passthrough: bool,
    /// `None` if nothing is negotiated, or frames pass through.
    pub(super) upscaler: Option<Upscaler>,
    /// Models that may replace it while it is too slow.
    pub(super) ladder: Ladder,
    /// Fits the scale that was set last, if another thread has prepared it.
    pub(super) prepared: Option<Box<Upscaler>>,
    /// Frames in flight on a GPU.
    pub(super) in_flight: InFlightFrames,
    /// Frames in flight on the CPU.
    pub(super) ahead: FramesAhead,
    load: Load,
    /// Models adopted while streaming.
    switches: u64,
    /// The damage that models with weights for encoded video are for.
    damage: CodingDamage,
    pub(super) tracker: DamageTracker,
    /// The last model without weights for encoded video.
    unadapted: Option<String>,
}

impl State {
    /// Loads the model; also returns the device that computes.
    pub(super) fn new(settings: &Settings) -> srfilter::Result<(Self, ComputeDevice)> {
        let options = settings.options()?;
        let device = options.device.resolve()?;
        let damage = match settings.damage {
            DamageSource::Fixed(damage) => damage,
            DamageSource::Auto => CodingDamage::CLEAN,
        };
        let state = Self {
            source: settings.source.clone(),
            model: settings.source.load()?.for_damage(damage)?,
            options,
            target: settings.target(),
            infos: None,
            passthrough: false,
            upscaler: None,
            ladder: Ladder::default(),
            prepared: None,
            in_flight: InFlightFrames::default(),
            ahead: FramesAhead::default(),
            load: Load::Idle,
            switches: 0,
            damage,
            tracker: DamageTracker::default(),
            unadapted: None,
        };
        Ok((state, device))
    }

    /// The chosen model.
    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The upscaler that runs: of the chosen model, or of one that replaces it.
    pub(super) fn running_upscaler(&self) -> Option<&Upscaler> {
        let replacement = self.ladder.replacement();
        replacement.or(self.upscaler.as_ref())
    }

    /// As [`State::running_upscaler`].
    pub(super) fn running_upscaler_mut(&mut self) -> Option<&mut Upscaler> {
        let replacement = self.ladder.replacement_mut();
        replacement.or(self.upscaler.as_mut())
    }

    /// Prepares the settings' fallback models, to replace the chosen one while it is too
    /// slow; returns all models with the estimated nanoseconds of a frame. `None` if that is
    /// done, for the upscaler that the state has.
    pub(super) fn build_ladder(
        &mut self,
        settings: &Settings,
        most: Duration,
    ) -> Option<Vec<(String, f64)>> {
        let chosen = self.upscaler.as_ref()?;
        if self.ladder.is_built() {
            return None;
        }
        // Their names were checked at the start.
        let names = settings.fallback_models(chosen.spec().scale);
        let names = names.unwrap_or_default();
        let ladder = &mut self.ladder;
        Some(ladder.build(chosen, &names, &self.options, most, self.damage))
    }

    /// The estimated nanoseconds of a frame by a model of the ladder.
    pub(super) fn estimate(&self, rung: usize, most: Duration) -> Option<f64> {
        let chosen = self.upscaler.as_ref()?;
        self.ladder.estimate(rung, chosen, &self.options, most)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn switches(&self) -> u64 {
        self.switches
    }

    pub(super) fn target(&self) -> TargetScale {
        self.target
    }

    /// The only place that replaces the upscaler: builds it for a model, a target
    /// scale and formats, or takes a prepared one that fits, and adopts all of
    /// them, or none on failure.
    fn switch(
        &mut self,
        loaded: Loaded,
        target: TargetScale,
        infos: Option<Infos>,
    ) -> srfilter::Result<()> {
        let Loaded {
            model,
            mut prepared,
        } = loaded;
        let model = model.for_damage(self.damage)?;
        let restores = model.restores() || !self.passthrough;
        let spec = (infos.as_ref()).map(|infos| upscale_spec(infos, target, restores));
        let spec = spec.transpose()?.flatten();
        let fits = |upscaler: &mut Box<Upscaler>| {
            Some(*upscaler.spec()) == spec && Arc::ptr_eq(upscaler.model(), &model)
        };
        let prepared = (prepared.take_if(fits)).or_else(|| self.prepared.take_if(fits));
        self.upscaler = match (spec, prepared) {
            (_, Some(upscaler)) => Some(*upscaler),
            (Some(spec), None) => Some(Upscaler::new(Arc::clone(&model), spec, &self.options)?),
            (None, None) => None,
        };
        self.ahead.forget_upscalers();
        (self.model, self.target, self.infos) = (model, target, infos);
        self.ladder.clear();
        Ok(())
    }

    /// The running model, to be switched to other formats; with `model=auto` the best one
    /// for the scale.
    fn running(&self, infos: Option<&Infos>, target: TargetScale) -> srfilter::Result<Arc<Model>> {
        if let (true, Some(infos)) = (self.source.is_auto(), infos) {
            let scale = upscale_spec(infos, target, true)?.map_or(Scale::ONE, |spec| spec.scale);
            let best = models::by_quality(scale)[0];
            if best != self.model.name() {
                return Model::builtin(best);
            }
        }
        Ok(Arc::clone(&self.model))
    }

    /// Adopts negotiated formats.
    pub(super) fn set_infos(&mut self, infos: Infos, target: TargetScale) -> srfilter::Result<()> {
        self.passthrough = passes_through(&infos, &self.model);
        let running = self.running(Some(&infos), target)?;
        let result = self.switch(Loaded::alone(&running), target, Some(infos.clone()));
        // One that did not fit takes memory.
        match (result, self.prepared.take()) {
            (Err(_), Some(_)) => self.switch(Loaded::alone(&running), target, Some(infos)),
            (result, _) => result,
        }
    }

    /// Adopts another target scale. If the output size depends on it,
    /// renegotiation follows; if downstream fixes the size, it does not.
    pub(super) fn set_target(&mut self, target: TargetScale) -> srfilter::Result<()> {
        match self.try_target(target) {
            // The prepared upscaler takes memory.
            Err(_) if self.prepared.take().is_some() => self.try_target(target),
            result => result,
        }
    }

    fn try_target(&mut self, target: TargetScale) -> srfilter::Result<()> {
        if let (TargetScale::Factor(scale), Some(infos)) = (target, &self.infos) {
            let size = (infos.input.width(), infos.input.height());
            if let Some((width, height)) = target.beyond_limit(size) {
                return Err(Error::Setting(format!(
                    "scale {scale} would lead to {width}x{height} pixels; a side has at most {}",
                    caps::MAX_SIDE
                )));
            }
            let spec = UpscaleSpec::scaled(frame_spec(&infos.input)?, scale);
            Upscaler::check(&self.model, &spec, &self.options)?;
        }
        let running = self.running(self.infos.as_ref(), target)?;
        self.switch(Loaded::alone(&running), target, self.infos.clone())
    }

    /// Frames that may be in flight while others come in.
    pub(super) fn most_in_flight(&self) -> u32 {
        match &self.upscaler {
            Some(upscaler) if upscaler.supports_pipelining() => PIPELINE_DEPTH - 1,
            Some(upscaler) if upscaler.device().is_cpu() => u32::MAX,
            _ => 0,
        }
    }

    pub(super) fn damage(&self) -> CodingDamage {
        self.damage
    }

    /// Whether a model that may run has weights for encoded video.
    pub(super) fn adapts_to_damage(&self) -> bool {
        self.upscaler.as_ref().is_some_and(ladder::adapts_to_damage)
            || self.ladder.adapts_to_damage()
    }

    /// The chosen model, if no model has weights for encoded video at the scale and this was
    /// not asked for before.
    pub(super) fn unadapted_model(&mut self, settings: &Settings) -> Option<String> {
        let is_loaded = settings.source == self.source && self.upscaler.is_some();
        let model = format!("{} ({})", self.model.name(), self.model.origin());
        if !is_loaded || self.adapts_to_damage() || self.unadapted.as_ref() == Some(&model) {
            return None;
        }
        self.unadapted = Some(model);
        self.unadapted.clone()
    }

    /// Takes the weights for a damage, of the chosen model and of those that may replace it;
    /// all else stays.
    ///
    /// # Errors
    ///
    /// An upscaler that cannot be built: the one before it stays.
    pub(super) fn set_damage(&mut self, damage: CodingDamage) -> srfilter::Result<()> {
        self.damage = damage;
        self.prepared = None;
        self.model = self.model.for_damage(damage)?;
        let chosen = match &mut self.upscaler {
            Some(upscaler) => ladder::set_damage(upscaler, damage, &self.options),
            None => Ok(()),
        };
        self.ahead.forget_upscalers();
        chosen.and(self.ladder.set_damage(damage, &self.options))
    }

    /// What the upscalers are built from; `None` if nothing is negotiated.
    pub(super) fn blueprint(&self) -> Option<Blueprint> {
        Some(Blueprint {
            model: Arc::clone(&self.model),
            options: self.options,
            infos: self.infos.clone()?,
        })
    }

    /// Whether frames pass through from now on, if that has changed with the
    /// model.
    pub(super) fn renew_passthrough(&mut self) -> Option<bool> {
        let passes = passes_through(self.infos.as_ref()?, &self.model);
        if passes == self.passthrough {
            return None;
        }
        self.passthrough = passes;
        if passes {
            self.upscaler = None;
            self.ladder.clear();
        }
        Some(passes)
    }

    /// Adopts a loaded model.
    pub(super) fn set_model(&mut self, source: Source, loaded: Loaded) -> srfilter::Result<()> {
        self.switch(loaded, self.target, self.infos.clone())?;
        self.source = source;
        if self.source.is_auto() {
            self.set_target(self.target)?;
        }
        self.switches += 1;
        Ok(())
    }

    /// Stores the failure to load or run a source for the next [`State::poll_load`].
    pub(super) fn postpone_failure(&mut self, source: Source, error: Error) {
        self.load = Load::Done(source, Err(error));
    }

    /// The requested model, once it is loaded; `None` before that, and if it
    /// already runs. At most one load runs at a time; an outdated one is
    /// discarded when it ends.
    pub(super) fn poll_load(&mut self, settings: &Settings) -> Option<srfilter::Result<Loaded>> {
        let source = &settings.source;
        if let Load::Running(loading, result) = &self.load {
            let loaded = match result.try_recv() {
                Ok(loaded) => loaded,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Err(Error::Setting(
                    "loading the model panicked; see the log".to_owned(),
                )),
            };
            self.load = Load::Done(loading.clone(), loaded);
        }
        match std::mem::take(&mut self.load) {
            _ if *source == self.source => None,
            // A failure counts when no other property follows.
            Load::Done(loaded, Err(error)) if loaded == *source && !settings.is_settled() => {
                self.load = Load::Done(loaded, Err(error));
                None
            }
            Load::Done(loaded, result) if loaded == *source => Some(result),
            _ if settings.changed_while_playing => {
                // Without an upscaler the pool of threads may not exist yet; it would get the
                // worker's priority.
                let infos = self.upscaler.as_ref().and(self.infos.as_ref());
                let spec = infos.and_then(|infos| upscale_spec(infos, self.target, false).ok()?);
                self.load = Load::start(source, spec, &self.options, self.damage);
                None
            }
            _ => Some(Loaded::new(source, None, &self.options, self.damage)),
        }
    }
}

/// What upscalers are built from, to build one on another thread.
#[derive(Clone)]
pub(super) struct Blueprint {
    model: Arc<Model>,
    options: UpscaleOptions,
    pub(super) infos: Infos,
}

impl Blueprint {
    /// The upscaler for another output format and scale; `None` if frames pass through, on
    /// a GPU, whose memory two upscalers may not fit, and if it cannot be built: that is
    /// reported when it is needed, if it still is.
    pub(super) fn build(self, output: VideoInfo, target: TargetScale) -> Option<Box<Upscaler>> {
        if !self.options.device.resolve().ok()?.is_cpu() {
            return None;
        }
        let infos = self.infos.with_output(output).ok()?;
        let spec = upscale_spec(&infos, target, self.model.restores()).ok()??;
        let mut upscaler = Upscaler::new(self.model, spec, &self.options).ok()?;
        upscaler.warm_up();
        Some(Box::new(upscaler))
    }
}

/// A loaded model.
pub(super) struct Loaded {
    model: Arc<Model>,
    /// Its upscaler for the formats and the scale of the stream when it was
    /// loaded: packing the weights of a large network takes longer than a frame
    /// may.
    prepared: Option<Box<Upscaler>>,
}

impl Loaded {
    /// A model without an upscaler.
    fn alone(model: &Arc<Model>) -> Self {
        Self {
            model: Arc::clone(model),
            prepared: None,
        }
    }

    fn new(
        source: &Source,
        spec: Option<UpscaleSpec>,
        options: &UpscaleOptions,
        damage: CodingDamage,
    ) -> srfilter::Result<Self> {
        let model = source.load()?.for_damage(damage)?;
        // A failure is reported when the upscaler is needed, if it still is.
        let upscaler = spec.and_then(|spec| Upscaler::new(Arc::clone(&model), spec, options).ok());
        let prepared = upscaler.map(|mut upscaler| {
            upscaler.warm_up();
            Box::new(upscaler)
        });
        Ok(Self { model, prepared })
    }
}

/// A load of a model in the background.
#[derive(Default)]
enum Load {
    #[default]
    Idle,
    Running(Source, Receiver<srfilter::Result<Loaded>>),
    Done(Source, srfilter::Result<Loaded>),
}

impl Load {
    /// Starts a worker. It is never joined: if the element stops first, the
    /// result is discarded, and stopping does not wait for the disk.
    fn start(
        source: &Source,
        spec: Option<UpscaleSpec>,
        options: &UpscaleOptions,
        damage: CodingDamage,
    ) -> Self {
        let (sender, receiver) = channel();
        let (loading, loading_options) = (source.clone(), *options);
        let worker = move || {
            let loaded = in_background(|| Loaded::new(&loading, spec, &loading_options, damage));
            // Fails if the element stopped in the meantime.
            let _ = sender.send(loaded);
        };
        match background::spawn("srfilter-load", worker) {
            Ok(()) => Self::Running(source.clone(), receiver),
            // No more threads: load here.
            Err(_) => Self::Done(source.clone(), Loaded::new(source, None, options, damage)),
        }
    }
}

/// Whether frames of these formats pass through untouched.
pub(super) fn passes_through(infos: &Infos, model: &Model) -> bool {
    infos.fills_output()
        && infos.input_size() == (infos.window.width, infos.window.height)
        && infos.have_same_layout()
        && !model.restores()
}

/// The upscaling between two formats; `None` if the sizes are equal and the model
/// does not restore frames at their size.
fn upscale_spec(
    infos: &Infos,
    target: TargetScale,
    restores: bool,
) -> srfilter::Result<Option<UpscaleSpec>> {
    let (from_size, to_size) = (
        infos.input_size(),
        (infos.window.width, infos.window.height),
    );
    if from_size == to_size && infos.fills_output() && !restores {
        return Ok(None);
    }
    let scale = match from_size == to_size {
        true => Scale::ONE,
        false => target.between(from_size, to_size),
    };
    let spec = UpscaleSpec::scaled(frame_spec(&infos.input)?, scale);
    Ok(Some(spec.with_output(to_size.0, to_size.1)))
}

fn frame_spec(info: &VideoInfo) -> srfilter::Result<FrameSpec> {
    let unknown = || Error::Frame(format!("format {} is not supported", info.format()));
    video::spec(info).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(model: &str) -> Settings {
        let mut settings = Settings::default();
        settings.source.model = Some(model.to_owned());
        settings.changed_while_playing = true;
        settings
    }

    /// The formats of a stream of 32x18 that is upscaled by `factor`.
    fn infos(factor: u32) -> Infos {
        gst::init().unwrap();
        let info = |factor: u32| {
            VideoInfo::builder(gst_video::VideoFormat::I420, 32 * factor, 18 * factor).build()
        };
        Infos::new(info(1).unwrap(), info(factor).unwrap(), true).unwrap()
    }

    /// A stream at scale 2 by bicubic, and espcn, loaded while it plays.
    fn loaded_while_playing() -> (State, Source, Loaded) {
        let mut state = State::new(&settings("bicubic")).unwrap().0;
        let target = settings("bicubic").target();
        state.set_infos(infos(2), target).unwrap();
        let requested = settings("espcn");
        loop {
            if let Some(loaded) = state.poll_load(&requested) {
                return (state, requested.source, loaded.unwrap());
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    #[test]
    fn frames_of_another_layout_do_not_pass_through() {
        gst::init().unwrap();
        let info = |mode: &str| {
            let caps = gst::Caps::builder("video/x-raw")
                .field("format", "I420")
                .field("width", 16)
                .field("height", 6)
                .field("interlace-mode", mode)
                .build();
            VideoInfo::from_caps(&caps).unwrap()
        };
        let model = Model::builtin("bicubic").unwrap();
        for (mode, passes) in [("progressive", true), ("interleaved", false)] {
            let infos = Infos::new(info(mode), info("progressive"), true).unwrap();
            assert_eq!(passes_through(&infos, &model), passes, "{mode}");
        }
    }

    #[test]
    fn a_model_loads_together_with_its_upscaler() {
        let (mut state, source, loaded) = loaded_while_playing();
        let spec = *loaded.prepared.as_ref().unwrap().spec();
        state.set_model(source, loaded).unwrap();
        assert_eq!(state.model().name(), "espcn");
        assert_eq!(*state.upscaler.as_ref().unwrap().spec(), spec);
    }

    #[test]
    fn models_that_take_over_take_the_damage() {
        let chosen = settings("hypersrcnn");
        let mut state = State::new(&chosen).unwrap().0;
        state.set_infos(infos(2), chosen.target()).unwrap();
        assert!(!state.adapts_to_damage());
        let rungs = state.build_ladder(&chosen, Duration::from_secs(1)).unwrap();
        let espcn = rungs.iter().position(|(name, _)| name == "espcn").unwrap();
        assert!(state.adapts_to_damage());
        let half = CodingDamage::new(0.5).unwrap();
        state.set_damage(half).unwrap();
        state.ladder.activate(espcn);
        assert_eq!(state.running_upscaler().unwrap().model().damage(), half);
        // Prepared anew, too.
        state.ladder.clear();
        state.build_ladder(&chosen, Duration::from_secs(1)).unwrap();
        state.ladder.activate(espcn);
        assert_eq!(state.running_upscaler().unwrap().model().damage(), half);
    }

    #[test]
    fn a_prepared_upscaler_is_taken_if_it_fits() {
        let mut state = State::new(&settings("espcn")).unwrap().0;
        state
            .set_infos(infos(2), settings("espcn").target())
            .unwrap();
        let [three, four] = [3, 4].map(|n| TargetScale::from_fraction(gst::Fraction::new(n, 1)));
        let blueprint = state.blueprint().unwrap();
        state.prepared = blueprint.clone().build(infos(2).output, three);
        let spec = *state.prepared.as_ref().unwrap().spec();
        // The size that downstream fixes, at another scale.
        state.set_target(four).unwrap();
        assert!(state.prepared.is_some());
        state.set_target(three).unwrap();
        assert!(state.prepared.is_none());
        assert_eq!(*state.upscaler.as_ref().unwrap().spec(), spec);
        // Nothing is left of one that does not fit.
        state.prepared = blueprint.build(infos(4).output, four);
        state.set_infos(infos(3), three).unwrap();
        assert!(state.prepared.is_none());
        assert_eq!(state.upscaler.as_ref().unwrap().spec().output, (96, 54));
    }

    #[test]
    fn an_upscaler_of_other_formats_is_not_taken() {
        let (mut state, source, loaded) = loaded_while_playing();
        let three = TargetScale::from_fraction(gst::Fraction::new(3, 1));
        state.set_infos(infos(3), three).unwrap();
        state.set_model(source, loaded).unwrap();
        assert_eq!(state.upscaler.as_ref().unwrap().spec().output, (96, 54));
    }
}
