/**
 * SECTION:element-srfilter
 *
 * Upscales video with a neural network. Luma networks work on the Y plane of
 * YUV and GRAY8 video in its own range while chroma is resampled; RGB
 * networks convert with the matrix and range of the caps.
 *
 * The element offers the size that results from `scale` and, as a second choice,
 * any other size: if downstream fixes the size, the network runs at `scale` and
 * its output is resampled. Frames of equal sizes pass through, unless the model has
 * a network for scale 1.
 *
 * `scale` may change while PLAYING and takes effect with the next buffer. `model`
 * and `weights` may change, too: they are loaded in the background, frames go on
 * with the old model, and the switch happens with the next buffer after the load.
 * In PAUSED nothing is drawn anew until a buffer arrives.
 *
 * `strength` blends the network's picture with a bicubic one, and `compare` shows the
 * two side by side; both, and `split-position`, take effect with the next frame.
 *
 * With `async-depth=n`, a frame goes out when the n-th after it has come in: the
 * work on neighbouring frames overlaps where cores, or parts of a GPU, are idle.
 *
 * ## Example pipeline
 * |[
 * gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert ! srfilter model=hypersrcnn scale=2 ! videoconvert ! autovideosink
 * ]| Plays a file at twice its size.
 */
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use gst_video::VideoInfo;
use gst_video::subclass::prelude::*;
use srfilter::engine::{Interrupt, Upscaler};
use srfilter::metrics::video::Meter;
use srfilter::{Error, Scale};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use super::allocation::{self, SharedContext};
use super::caps::{EvenSize, TargetScale};
use super::cuda::{self, CudaContext};
use super::deadline::Deadlines;
use super::governor::Governor;
use super::log::{CAT, lock};
use super::processor_load::ProcessorLoad;
use super::settings::{self, OnOverload, Settings};
use super::stats::{Shared, Stats};
use super::switching::{self, Infos, State};
use super::{caps, limits, metas, scan, shape, video};

glib::wrapper! {
    /// The element `srfilter`; see `gst-inspect-1.0 srfilter`.
    pub struct Element(ObjectSubclass<SrFilter>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object,
        @implements gst::Preset;
}

/// The implementation of the element.
///
/// Lock order: `settings`, then `state`, then `shared`; locks may be skipped but
/// not acquired out of order. No lock is held while calling into GStreamer in a
/// way that may call back (pushing, posting, notifying, renegotiating).
#[derive(Default)]
pub struct SrFilter {
    /// The values of the properties; locked briefly, by any thread.
    pub(super) settings: Mutex<Settings>,
    /// Locked by the streaming thread while a frame is computed: other threads
    /// read `shared` instead. `None` if the element is not started.
    pub(super) state: Mutex<Option<State>>,
    /// The stream's data for other threads; locked briefly.
    pub(super) shared: Mutex<Shared>,
    /// Locked by the streaming thread, with no other lock.
    pub(super) meter: Mutex<Meter>,
    /// Requested while the element stops or flushes: cancels the frame.
    interrupt: Interrupt,
}

#[glib::object_subclass]
impl ObjectSubclass for SrFilter {
    const NAME: &'static str = "GstSrFilter";
    type Type = Element;
    type ParentType = gst_video::VideoFilter;
    type Interfaces = (gst::Preset,);
}

impl ObjectImpl for SrFilter {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(settings::properties);
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let (name, state) = (pspec.name(), self.obj().current_state());
        gst::info!(CAT, imp = self, "{name} = {value:?}");
        if state > gst::State::Ready && settings::is_fixed_after_ready(name) {
            gst::warning!(CAT, imp = self, "{name} takes effect in READY");
        }
        if name == "scale" && state > gst::State::Ready {
            self.prepare_scale(value.get().expect("GObject checks the type of a property"));
        }
        let playing = state == gst::State::Playing;
        let resizes = lock(&self.settings).set(name, value, playing);
        if name == "damage" && state > gst::State::Ready {
            self.report_damage_error();
        }
        if resizes {
            // Renegotiation reads the settings, which must be unlocked here.
            self.obj().reconfigure_src();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings).clone();
        let stats = lock(&self.shared).stats.clone();
        let value = settings.get(pspec.name(), &stats.model);
        value.unwrap_or_else(|| stats.structure().to_value())
    }
}

impl GstObjectImpl for SrFilter {}

impl ElementImpl for SrFilter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Neural super-resolution filter",
                "Filter/Converter/Effect/Video/Scaler",
                "Upscales video with a neural network",
                "The srfilter developers",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let sized = |caps: gst_video::VideoCapsBuilder<gst::caps::NoFeature>| {
                caps.width_range(1..=caps::MAX_SIDE)
                    .height_range(1..=caps::MAX_SIDE)
            };
            let system = gst_video::VideoCapsBuilder::new();
            let mut caps = sized(system.format_list(video::formats())).build();
            let formats = cuda::formats();
            if !formats.is_empty() {
                let cuda = gst_video::VideoCapsBuilder::new().format_list(formats);
                caps.merge(sized(cuda).features([caps::CUDA]).build());
            }
            [
                ("sink", gst::PadDirection::Sink),
                ("src", gst::PadDirection::Src),
            ]
            .into_iter()
            .filter_map(|(name, direction)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
            })
            .collect()
        });
        TEMPLATES.as_ref()
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::NullToReady {
            self.share_context();
        }
        // Deactivating the pads waits for the frame that is being computed.
        match transition {
            gst::StateChange::PausedToReady => self.interrupt.request(),
            gst::StateChange::ReadyToPaused => self.interrupt.withdraw(),
            _ => {}
        }
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            lock(&self.shared).cuda = SharedContext::Unknown;
        }
        Ok(result)
    }
}

impl BaseTransformImpl for SrFilter {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        // An unknown name is reported now rather than when it is needed.
        (settings.fallback_models(Scale::ONE)).map_err(|e| error_message(&e))?;
        settings.check_damage().map_err(|e| error_message(&e))?;
        let (state, device) = State::new(&settings).map_err(|e| error_message(&e))?;
        let name = device.name();
        gst::info!(CAT, imp = self, "runs {:?} on {name}", state.model());
        if let Some(reason) = device.fallback_reason() {
            gst::info!(CAT, imp = self, "no GPU: {reason}");
        }
        let mut current = lock(&self.state);
        let mut shared = lock(&self.shared);
        shared.stats = Stats::default();
        shared.progressive = false;
        shared.deadlines = Deadlines::default();
        shared.governor = Governor::default();
        shared.processors = ProcessorLoad::default();
        shared.returned = None;
        shared.stats.update(&state);
        name.clone_into(&mut shared.stats.device);
        // The device may have changed in READY.
        if (shared.cuda.get()).is_some_and(|context| !context.serves(&device)) {
            shared.cuda = SharedContext::Unavailable;
        }
        shared.allocator = cuda::allocator(&device);
        *current = Some(state);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        // Their buffers return to the pools.
        self.drop_in_flight();
        *lock(&self.state) = None;
        lock(&self.meter).reset();
        let mut shared = lock(&self.shared);
        shared.infos = None;
        (shared.blueprint, shared.prepared) = (None, None);
        shared.allocator = None;
        shared.stats.async_depth = 0;
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let (target, even) = lock(&self.settings).sizing();
        let mut others = match direction {
            gst::PadDirection::Sink => {
                caps::transform(direction, &video::complete_color(caps), target, even)
            }
            _ => caps::transform(direction, caps, target, even),
        };
        if matches!(lock(&self.shared).cuda, SharedContext::Unavailable) {
            caps::keep_on_host(&mut others);
        }
        gst::debug!(CAT, imp = self, "{direction:?}: {caps} -> {others}");
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&others, gst::CapsIntersectMode::First),
            None => others,
        })
    }

    fn fixate_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        others: gst::Caps,
    ) -> gst::Caps {
        let sizing = lock(&self.settings).sizing();
        let others = self.fixate(direction, caps, others, sizing);
        gst::debug!(CAT, imp = self, "{direction:?}: {caps} fixates {others}");
        others
    }

    fn before_transform(&self, inbuf: &gst::BufferRef) {
        self.sync_controlled(inbuf);
        self.apply_settings();
        self.apply_damage(inbuf);
    }

    fn submit_input_buffer(
        &self,
        is_discont: bool,
        inbuf: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.renew_passthrough();
        // The base class marks the next output buffer as a discontinuity: frames
        // in flight precede it, so they go out first.
        let gap = inbuf.flags().contains(gst::BufferFlags::DISCONT);
        if gap || self.obj().src_pad().needs_reconfigure() {
            self.push_in_flight()?;
        }
        if gap {
            self.forget_last_frame();
        }
        self.check_scan(&inbuf)?;
        self.count_missing(&inbuf);
        self.skip_if_late(&inbuf);
        let timestamp = self.times(&inbuf).map(|(timestamp, _)| timestamp);
        let duration = inbuf.duration();
        let result = self.parent_submit_input_buffer(is_discont, inbuf)?;
        if result == gst_base::BASE_TRANSFORM_FLOW_DROPPED {
            self.push_in_flight()?;
            self.report_drop();
            lock(&self.shared).returned = Some(Instant::now());
        } else {
            self.govern(timestamp, duration);
        }
        Ok(result)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let output = self.next_output()?;
        match &output {
            GenerateOutputSuccess::Buffer(buffer) => self.record_times(buffer),
            // The base class has pushed the last one.
            _ => lock(&self.shared).returned = Some(Instant::now()),
        }
        Ok(output)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStart => self.interrupt.request(),
            gst::EventType::FlushStop => {
                // They end at once while the interrupt is requested.
                self.drop_in_flight();
                self.interrupt.withdraw();
            }
            _ if event.is_serialized() => self.flush_in_flight(),
            _ => {}
        }
        match event.type_() {
            gst::EventType::StreamStart => {
                lock(&self.shared).progressive = false;
                self.forget_damage();
            }
            gst::EventType::FlushStop | gst::EventType::Segment => {
                {
                    let shared = &mut *lock(&self.shared);
                    shared.deadlines.forget_frames();
                    shared.governor.forget_frames();
                }
                self.forget_last_frame();
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if query.type_() == gst::QueryType::Context
            && let Some(context) = self.cuda_context()
            && context.answer(self.obj().upcast_ref(), query)
        {
            return true;
        }
        if direction == gst::PadDirection::Sink && query.is_serialized() {
            self.flush_in_flight();
        }
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
            let (live, least, most) = latency.result();
            let delay = self.delay().unwrap_or_default()
                + lock(&self.shared).deadlines.answer_latency(live);
            latency.set(live, least + delay, most.map(|most| most + delay));
        }
        true
    }

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let (caps, _) = query.get_owned();
        if let (Some(caps), Some(context)) = (caps, self.cuda_context())
            && cuda::is_cuda(&caps)
            && decide_query.is_some()
        {
            return allocation::propose_cuda_pool(query, &caps, &context);
        }
        self.parent_propose_allocation(decide_query, query)?;
        let allocator = lock(&self.shared).allocator.clone();
        if let (Some(_), Some(allocator)) = (decide_query, allocator) {
            allocation::offer_allocator(query, &allocator);
        }
        self.require_in_flight_buffers(query);
        Ok(())
    }

    fn decide_allocation(
        &self,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let (caps, _) = query.get_owned();
        let allocator = lock(&self.shared).allocator.clone();
        if allocator.is_none() {
            self.require_output_buffers(query);
        }
        if let (Some(caps), Some(context)) = (caps, self.cuda_context())
            && cuda::is_cuda(&caps)
        {
            allocation::decide_cuda_pool(query, &caps, &context)?;
        } else if let Some(allocator) = allocator
            && allocation::pools_are_plain(query)
        {
            allocation::offer_allocator(query, &allocator);
        }
        self.parent_decide_allocation(query)
    }

    fn transform(
        &self,
        inbuf: &gst::Buffer,
        outbuf: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        if !self.transform_cuda(inbuf, outbuf)? {
            self.parent_transform(inbuf, outbuf)?;
        }
        self.measure(inbuf, outbuf);
        Ok(gst::FlowSuccess::Ok)
    }

    fn copy_metadata(
        &self,
        inbuf: &gst::BufferRef,
        outbuf: &mut gst::BufferRef,
    ) -> Result<(), gst::LoggableError> {
        self.parent_copy_metadata(inbuf, outbuf)?;
        let infos = lock(&self.shared).infos.clone();
        if infos.is_some_and(|infos| !infos.output.is_interlaced()) {
            scan::unset_flags(outbuf);
        }
        Ok(())
    }

    fn transform_meta<'a>(
        &self,
        outbuf: &mut gst::BufferRef,
        meta: gst::MetaRef<'a, gst::Meta>,
        inbuf: &'a gst::BufferRef,
    ) -> bool {
        let infos = lock(&self.shared).infos.clone();
        if let Some(infos) = infos
            && metas::transform(&meta, outbuf, &infos) == metas::Outcome::Done
        {
            return false;
        }
        self.parent_transform_meta(outbuf, meta, inbuf)
    }

    fn src_event(&self, mut event: gst::Event) -> bool {
        self.note_timing(&event);
        // Upstream is not to drop frames either.
        let blocks = lock(&self.settings).on_overload == OnOverload::Block;
        if blocks && event.type_() == gst::EventType::Qos {
            return true;
        }
        let infos = lock(&self.shared).infos.clone();
        if event.type_() == gst::EventType::Navigation
            && let Some(infos) = infos
        {
            metas::navigation(&mut event, &infos);
        }
        self.parent_src_event(event)
    }
}

impl VideoFilterImpl for SrFilter {
    fn set_info(
        &self,
        incaps: &gst::Caps,
        in_info: &VideoInfo,
        outcaps: &gst::Caps,
        out_info: &VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        gst::info!(CAT, imp = self, "{incaps} -> {outcaps}");
        // Frames in flight have the old caps.
        self.flush_in_flight();
        let completed = video::complete_color(incaps);
        let input = VideoInfo::from_caps(&completed)?;
        if let Some(conflict) = video::color_conflict(&completed, outcaps) {
            gst::element_imp_error!(
                self,
                gst::CoreError::Negotiation,
                ("{conflict}"),
                ["{outcaps}"]
            );
            return Err(gst::loggable_error!(CAT, "{conflict}"));
        }
        let add_borders = lock(&self.settings).add_borders;
        let infos = Infos::new(input, out_info.clone(), add_borders)
            .map_err(|error| gst::loggable_error!(CAT, "{error}"))?;
        if let Some(refusal) = limits::refusal(&infos, lock(&self.settings).max_pixels) {
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("{refusal}"));
            return Err(gst::loggable_error!(CAT, "{refusal}"));
        }
        self.warn_of_limit(&infos);
        let same = (lock(&self.state).as_ref())
            .is_some_and(|state| switching::passes_through(&infos, state.model()));
        // Whole frames may be progressive in spite of their caps: each buffer tells.
        if !same && scan::has_separate_fields(in_info) {
            self.refuse_interlaced();
            return Err(gst::loggable_error!(CAT, "Interlaced video"));
        }
        self.obj().set_passthrough(same);
        lock(&self.shared).infos = Some(infos.clone());
        self.ask_for_liveness();
        let target = lock(&self.settings).target();
        let result = (lock(&self.state).as_mut()).map(|state| {
            state.set_infos(infos, target)?;
            let reason = (state.upscaler.as_ref()).and_then(Upscaler::fallback_reason);
            Ok((state.most_in_flight(), reason.map(str::to_owned)))
        });
        let (most_in_flight, fallback) = match result {
            Some(Ok(result)) => result,
            Some(Err(error)) => {
                let error: Error = error;
                gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
                return Err(gst::loggable_error!(CAT, "{error}"));
            }
            None => return Err(gst::loggable_error!(CAT, "Not started")),
        };
        let on_gpu = [incaps, outcaps].into_iter().any(|c| cuda::is_cuda(c));
        self.set_async_depth(if on_gpu { 0 } else { most_in_flight });
        lock(&self.shared).stats.count_negotiation();
        self.publish();
        if let Some(reason) = fallback {
            self.report_cpu_fallback(&reason);
        }
        self.parent_set_info(incaps, in_info, outcaps, out_info)
    }

    fn transform_frame(
        &self,
        inframe: &gst_video::VideoFrameRef<&gst::BufferRef>,
        outframe: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let window = lock(&self.shared).infos.as_ref().map(|infos| infos.window);
        let reuse = lock(&self.settings).reuse.into();
        let reused = self.with_upscaler(|upscaler| {
            let shape = upscaler.spec().input;
            let input = video::frame_ref(inframe, &shape)?;
            let mut output = video::frame_mut(outframe, &shape)?;
            upscaler.set_reuse(reuse);
            upscaler.process(&input, &mut shape::with_borders(&mut output, window)?)?;
            Ok(upscaler.reused())
        })?;
        let stats = &mut lock(&self.shared).stats;
        stats.count_frame();
        stats.note_reuse(reused);
        Ok(gst::FlowSuccess::Ok)
    }
}

impl SrFilter {
    /// Warns if the output would have the requested scale, but for the largest side of
    /// a frame.
    fn warn_of_limit(&self, infos: &Infos) {
        let target = lock(&self.settings).target();
        let (width, height) = (infos.input.width(), infos.input.height());
        if let Some((wide, high)) = target.beyond_limit((width, height)) {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                (
                    "{width}x{height} would have {wide}x{high} pixels at the scale that is set; \
                     a side has at most {}: the output has {}x{}",
                    caps::MAX_SIDE,
                    infos.output.width(),
                    infos.output.height()
                )
            );
        }
    }

    fn cuda_context(&self) -> Option<Arc<CudaContext>> {
        lock(&self.shared).cuda.get()
    }

    /// Shares the library's CUDA context with the pipeline, before other
    /// elements create theirs.
    fn share_context(&self) {
        let settings = lock(&self.settings).clone();
        let shared = SharedContext::open(&settings);
        let context = shared.get().map(|context| context.to_context());
        lock(&self.shared).cuda = shared;
        let Some(context) = context else { return };
        let element = self.obj();
        element.set_context(&context);
        let message = gst::message::HaveContext::builder(context).src(&*element);
        // Fails only without a bus.
        let _ = element.post_message(message.build());
    }

    /// Upscales a frame in GPU memory; returns whether that was possible.
    fn transform_cuda(
        &self,
        inbuf: &gst::BufferRef,
        outbuf: &mut gst::BufferRef,
    ) -> Result<bool, gst::FlowError> {
        let (context, infos) = {
            let shared = lock(&self.shared);
            (shared.cuda.get(), shared.infos.clone())
        };
        // Borders are filled on the host.
        let infos = infos.filter(Infos::fills_output);
        let (Some(context), Some(Infos { input, output, .. })) = (context, infos) else {
            return Ok(false);
        };
        let reuse = lock(&self.settings).reuse.into();
        let (zero_copy, reused) = self.with_upscaler(|upscaler| {
            upscaler.set_reuse(reuse);
            let zero_copy = context.process(upscaler, (inbuf, &input), (outbuf, &output))?;
            Ok((zero_copy, upscaler.reused()))
        })?;
        let stats = &mut lock(&self.shared).stats;
        stats.zero_copy = zero_copy;
        if zero_copy {
            stats.count_frame();
            stats.note_reuse(reused);
        }
        Ok(zero_copy)
    }

    /// Takes nothing from the last frame for the next one.
    fn forget_last_frame(&self) {
        let mut state = lock(&self.state);
        let upscaler = state.as_mut().and_then(State::running_upscaler_mut);
        upscaler.into_iter().for_each(Upscaler::forget);
    }

    /// Calls a function with the upscaler, and measures its duration.
    pub(super) fn with_upscaler<T>(
        &self,
        run: impl FnOnce(&mut Upscaler) -> srfilter::Result<T>,
    ) -> Result<T, gst::FlowError> {
        let started = Instant::now();
        let view = lock(&self.settings).view.view();
        let mut state = lock(&self.state);
        let upscaler = state.as_mut().and_then(State::running_upscaler_mut);
        let Some(upscaler) = upscaler else {
            return Err(gst::FlowError::NotNegotiated);
        };
        self.set_interrupt(upscaler);
        upscaler.set_view(view);
        let known = upscaler.fallback_reason().is_some();
        let result = run(upscaler);
        let fallback = upscaler.fallback_reason().filter(|_| !known);
        let fallback = fallback.map(str::to_owned);
        drop(state);
        if let Some(reason) = fallback {
            self.report_cpu_fallback(&reason);
        }
        let value = result.map_err(|error| self.report_failure(&error))?;
        lock(&self.shared).stats.spent += started.elapsed();
        Ok(value)
    }

    /// Makes a frame end when the element stops or flushes.
    pub(super) fn set_interrupt(&self, upscaler: &mut Upscaler) {
        upscaler.set_interrupt(&self.interrupt);
    }

    /// Reports that a frame failed, unless the element stops or flushes.
    pub(super) fn report_failure(&self, error: &Error) -> gst::FlowError {
        if matches!(error, Error::Interrupted) {
            return gst::FlowError::Flushing;
        }
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("Upscaling a frame failed: {error}")
        );
        gst::FlowError::Error
    }

    /// The size, shape and colour of the other pad.
    pub(super) fn fixate(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        others: gst::Caps,
        (target, even): (TargetScale, EvenSize),
    ) -> gst::Caps {
        let mut others = caps::fixate(direction, caps, others, target, even);
        let input = (direction == gst::PadDirection::Sink).then(|| video::complete_color(caps));
        if let Some(input) = &input {
            video::prefer_color(input, &mut others);
        }
        let mut others = self.parent_fixate_caps(direction, caps, others);
        if let Some(input) = &input {
            video::keep_color(input, &mut others);
        }
        others
    }
}

/// A start error as a GStreamer message.
fn error_message(error: &Error) -> gst::ErrorMessage {
    let text = error.to_string();
    match error {
        Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{text}"))
        }
        Error::File { .. } => gst::error_msg!(gst::ResourceError::OpenRead, ("{text}")),
        Error::Weights { .. } => gst::error_msg!(gst::ResourceError::Read, ("{text}")),
        Error::NoWeights { .. } | Error::UnknownModel { .. } | Error::Setting(_) => {
            gst::error_msg!(gst::ResourceError::Settings, ("{text}"))
        }
        _ => gst::error_msg!(gst::ResourceError::Failed, ("{text}")),
    }
}
