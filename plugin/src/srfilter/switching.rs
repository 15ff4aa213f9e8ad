//! Loading models, and switching model and scale between two frames.

use super::caps::TargetScale;
use super::settings::{Settings, Source};
use super::video;
use gst_video::VideoInfo;
use srfilter::engine::{ComputeDevice, FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::weights::Model;
use srfilter::{Error, Scale};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// The negotiated input and output formats.
pub(super) type Infos = (VideoInfo, VideoInfo);

/// Input buffers of the frames in flight, oldest first.
pub(super) type InFlightFrames = VecDeque<gst::Buffer>;

/// The state of the streaming thread; locked while a frame is computed.
pub(super) struct State {
    source: Source,
    model: Arc<Model>,
    options: UpscaleOptions,
    target: TargetScale,
    infos: Option<Infos>,
    /// `None` if nothing is negotiated, or frames pass through.
    pub(super) upscaler: Option<Upscaler>,
    pub(super) in_flight: InFlightFrames,
    load: Load,
}

impl State {
    /// Loads the model; also returns the device that computes.
    pub(super) fn new(settings: &Settings) -> srfilter::Result<(Self, ComputeDevice)> {
        let options = settings.options()?;
        let device = options.device.resolve()?;
        let state = Self {
            source: settings.source.clone(),
            model: settings.source.load()?,
            options,
            target: settings.target(),
            infos: None,
            upscaler: None,
            in_flight: InFlightFrames::default(),
            load: Load::Idle,
        };
        Ok((state, device))
    }

    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn target(&self) -> TargetScale {
        self.target
    }

    /// The only place that replaces the upscaler: builds it for a model, a target
    /// scale and formats, and adopts all of them, or none on failure.
    fn switch(
        &mut self,
        model: Arc<Model>,
        target: TargetScale,
        infos: Option<Infos>,
    ) -> srfilter::Result<()> {
        let spec = infos.as_ref().map(|infos| upscale_spec(infos, target));
        self.upscaler = match spec.transpose()?.flatten() {
            Some(spec) => Some(Upscaler::new(Arc::clone(&model), spec, &self.options)?),
            None => None,
        };
        (self.model, self.target, self.infos) = (model, target, infos);
        Ok(())
    }

    /// Adopts negotiated formats.
    pub(super) fn set_infos(&mut self, infos: Infos, target: TargetScale) -> srfilter::Result<()> {
        self.switch(Arc::clone(&self.model), target, Some(infos))
    }

    /// Adopts another target scale. If the output size depends on it,
    /// renegotiation follows; if downstream fixes the size, it does not.
    pub(super) fn set_target(&mut self, target: TargetScale) -> srfilter::Result<()> {
        if let (TargetScale::Factor(scale), Some((from, _))) = (target, &self.infos) {
            let spec = UpscaleSpec::scaled(frame_spec(from)?, scale);
            Upscaler::check(&self.model, &spec, &self.options)?;
        }
        self.switch(Arc::clone(&self.model), target, self.infos.clone())
    }

    /// Adopts a loaded model.
    pub(super) fn set_model(&mut self, source: Source, model: Arc<Model>) -> srfilter::Result<()> {
        self.switch(model, self.target, self.infos.clone())?;
        self.source = source;
        Ok(())
    }

    /// Stores the failure to load or run a source for the next [`State::poll_load`].
    pub(super) fn postpone_failure(&mut self, source: Source, error: Error) {
        self.load = Load::Done(source, Err(error));
    }

    /// The requested model, once it is loaded; `None` before that, and if it
    /// already runs. At most one load runs at a time; an outdated one is
    /// discarded when it ends.
    pub(super) fn poll_load(
        &mut self,
        settings: &Settings,
    ) -> Option<srfilter::Result<Arc<Model>>> {
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
                self.load = Load::start(source);
                None
            }
            _ => Some(source.load()),
        }
    }
}

/// A load of a model in the background.
#[derive(Default)]
enum Load {
    #[default]
    Idle,
    Running(Source, Receiver<srfilter::Result<Arc<Model>>>),
    Done(Source, srfilter::Result<Arc<Model>>),
}

impl Load {
    /// Starts a worker. It is never joined: if the element stops first, the
    /// result is discarded, and stopping does not wait for the disk.
    fn start(source: &Source) -> Self {
        let (sender, receiver) = channel();
        let loading = source.clone();
        let worker = move || {
            // Fails if the element stopped in the meantime.
            let _ = sender.send(loading.load());
        };
        let thread = std::thread::Builder::new().name("srfilter-load".to_owned());
        match thread.spawn(worker) {
            Ok(_) => Self::Running(source.clone(), receiver),
            // No more threads: load here.
            Err(_) => Self::Done(source.clone(), source.load()),
        }
    }
}

/// The upscaling between two formats; `None` if the sizes are equal.
fn upscale_spec((from, to): &Infos, target: TargetScale) -> srfilter::Result<Option<UpscaleSpec>> {
    let (from_size, to_size) = ((from.width(), from.height()), (to.width(), to.height()));
    if from_size == to_size {
        return Ok(None);
    }
    let scale: Scale = target.between(from_size, to_size);
    let spec = UpscaleSpec::scaled(frame_spec(from)?, scale);
    Ok(Some(
        spec.with_output(to.width() as usize, to.height() as usize),
    ))
}

fn frame_spec(info: &VideoInfo) -> srfilter::Result<FrameSpec> {
    let unknown = || Error::Frame(format!("format {} is not supported", info.format()));
    video::spec(info).ok_or_else(unknown)
}
