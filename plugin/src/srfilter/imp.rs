/**
 * SECTION:element-srfilter
 *
 * Enlarges video by a neural network. Luma networks work on the Y plane of
 * YUV and GRAY8 video in its own range while chroma is resampled; RGB
 * networks convert with the matrix and range of the caps.
 *
 * The element offers the size that `scale` leads to, and any other size as a
 * second choice: where downstream pins the size, the network runs at `scale`
 * and its result is resampled. Equal sizes pass through.
 *
 * `model`, `weights` and `scale` may change while PLAYING and take effect with
 * the next buffer. A GPU computes a frame while the next one is taken to it and
 * the one before is fetched, where `overlap` is set: each frame then goes out
 * when the next has come in. In PAUSED nothing is drawn anew until a buffer arrives.
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
use srfilter::engine::{
    ComputeDevice, DeviceChoice, FrameSpec, Precision, UpscaleOptions, UpscaleSpec, Upscaler,
};
use srfilter::models;
use srfilter::weights::{LoadOverrides, Model};
use srfilter::{Error, Scale};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::caps::{self, Wish};
use super::cuda::Session;
use super::{CAT, cuda, metas, video};
use overlap::Waiting;

mod overlap;

/// Which network is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Source {
    /// A name of the table; `None` while the property was never set.
    model: Option<String>,
    /// A weights file instead of built-in weights.
    weights: Option<String>,
}

impl Source {
    fn load(&self) -> srfilter::Result<Arc<Model>> {
        let weights = self.weights.as_deref().map(Path::new);
        Model::load(self.model.as_deref(), weights, &LoadOverrides::default())
    }
}

/// What the properties ask for.
#[derive(Debug, Clone)]
struct Settings {
    source: Source,
    scale: gst::Fraction,
    device: String,
    precision: String,
    threads: u32,
    overlap: bool,
    /// When `source` was last set.
    changed: Option<Instant>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Source::default(),
            scale: gst::Fraction::new(2, 1),
            device: DeviceChoice::default().to_string(),
            precision: Precision::default().to_string(),
            threads: 0,
            overlap: false,
            changed: None,
        }
    }
}

/// How long properties must have been left alone before a change of model that
/// failed is taken back: `model` and `weights` are set one after the other.
const SETTLED: Duration = Duration::from_millis(100);

/// What comes in and goes out.
type Infos = (VideoInfo, VideoInfo);

/// What runs. Locked for as long as a frame takes: the streaming thread's own.
struct State {
    source: Source,
    model: Arc<Model>,
    options: UpscaleOptions,
    wish: Wish,
    infos: Option<Infos>,
    upscaler: Option<Upscaler>,
}

/// What the property `stats` reports.
#[derive(Debug, Clone, Default)]
struct Stats {
    processed: u64,
    dropped: u64,
    total: Duration,
    last: Duration,
    /// Since the last frame was made.
    spent: Duration,
    negotiations: u64,
    tiles: u64,
    model: String,
    weights: String,
    native_scales: Vec<Scale>,
    resampled: bool,
    device: String,
    precision: Precision,
    /// Whether the last frame stayed in the GPU's memory.
    stayed: bool,
    /// Whether frames go out one later.
    overlap: bool,
}

#[derive(Default)]
pub struct SrFilter {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    /// As in `state`, for other threads.
    infos: Mutex<Option<Infos>>,
    stats: Mutex<Stats>,
    waiting: Mutex<Waiting>,
    /// The GPU's context, shared with the pipeline, where there is one. Nobody
    /// knows before READY.
    session: Mutex<Option<Option<Arc<Session>>>>,
    /// Of memory that the GPU copies from and to, where there is one.
    allocator: Mutex<Option<gst::Allocator>>,
}

#[glib::object_subclass]
impl ObjectSubclass for SrFilter {
    const NAME: &'static str = "GstSrFilter";
    type Type = super::SrFilter;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for SrFilter {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let model_blurb = format!("Network that enlarges: {}", models::names());
            vec![
                glib::ParamSpecString::builder("model")
                    .nick("Model")
                    .blurb(&model_blurb)
                    .default_value(models::DEFAULT)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("weights")
                    .nick("Weights")
                    .blurb("File with weights to use instead of the built-in ones; without a model set, the file decides which network runs")
                    .mutable_playing()
                    .build(),
                gst::ParamSpecFraction::builder("scale")
                    .nick("Scale")
                    .blurb("Factor of width and height, such as 2 or 3/2; 1/1 passes through, 0/1 takes the factor from the size that downstream asks for")
                    .minimum(gst::Fraction::new(0, 1))
                    .maximum(gst::Fraction::new(Scale::MAX.num() as i32, 1))
                    .default_value(Settings::default().scale)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("device")
                    .nick("Device")
                    .blurb("Where to compute: auto, cpu, cuda or cuda:N")
                    .default_value(Settings::default().device.as_str())
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("precision")
                    .nick("Precision")
                    .blurb("Numbers that a GPU computes networks with: auto (f16, or tf32 for networks that are no chains of convolutions), f32, tf32, f16 or bf16; the CPU computes f32")
                    .default_value(Settings::default().precision.as_str())
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("threads")
                    .nick("Threads")
                    .blurb("CPU threads to compute with (0: one for each core)")
                    .maximum(1024)
                    .default_value(Settings::default().threads)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("overlap")
                    .nick("Overlap")
                    .blurb("Let a GPU compute a frame while others are copied to and from it: faster, but each goes out only when the next has come in")
                    .default_value(Settings::default().overlap)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("Frames processed and dropped, milliseconds per frame (average-ms, last-ms), active model, native scale, device, precision, memory that frames lie in, whether they overlap")
                    .read_only()
                    .build(),
            ]
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let started = self.obj().current_state() > gst::State::Ready;
        if started && matches!(pspec.name(), "device" | "precision" | "threads" | "overlap") {
            gst::warning!(CAT, imp = self, "{} takes effect in READY", pspec.name());
        }
        let mut settings = lock(&self.settings);
        gst::info!(CAT, imp = self, "{} = {value:?}", pspec.name());
        match pspec.name() {
            "model" => {
                settings.source.model = text(value);
                settings.changed = Some(Instant::now());
            }
            "weights" => {
                settings.source.weights = text(value);
                settings.changed = Some(Instant::now());
            }
            "scale" => {
                let scale = value.get().expect("type checked upstream");
                if settings.scale != scale {
                    settings.scale = scale;
                    // Renegotiating takes locks that lead back here.
                    drop(settings);
                    self.obj().reconfigure_src();
                }
            }
            "device" => {
                settings.device = text(value).unwrap_or_else(|| Settings::default().device);
            }
            "precision" => {
                settings.precision = text(value).unwrap_or_else(|| Settings::default().precision);
            }
            "threads" => settings.threads = value.get().expect("type checked upstream"),
            "overlap" => settings.overlap = value.get().expect("type checked upstream"),
            name => gst::warning!(CAT, imp = self, "there is no property {name} to set"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings).clone();
        match pspec.name() {
            "model" => self.model_name(&settings.source).to_value(),
            "weights" => settings.source.weights.to_value(),
            "scale" => settings.scale.to_value(),
            "device" => settings.device.to_value(),
            "precision" => settings.precision.to_value(),
            "threads" => settings.threads.to_value(),
            "overlap" => settings.overlap.to_value(),
            _ => lock(&self.stats).structure().to_value(),
        }
    }
}

impl GstObjectImpl for SrFilter {}

impl ElementImpl for SrFilter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Neural super-resolution filter",
                "Filter/Converter/Effect/Video/Scaler",
                "Enlarges video by a neural network",
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
            let usual = gst_video::VideoCapsBuilder::new();
            let mut caps = sized(usual.format_list(video::formats())).build();
            let there = cuda::formats();
            if !there.is_empty() {
                let there = gst_video::VideoCapsBuilder::new().format_list(there);
                caps.merge(sized(there).features([caps::CUDA]).build());
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
        let result = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            *lock(&self.session) = None;
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
        let (state, place) = State::new(&settings).map_err(|e| error_message(&e))?;
        *lock(&self.stats) = Stats {
            model: state.model.name().to_owned(),
            weights: state.model.origin().to_owned(),
            device: place.name().to_owned(),
            ..Stats::default()
        };
        gst::info!(
            CAT,
            imp = self,
            "runs {:?} on {}",
            state.model,
            place.name()
        );
        if let Some(why) = place.fallback_reason() {
            gst::info!(CAT, imp = self, "no GPU: {why}");
        }
        // The device may have changed in READY.
        if self
            .session()
            .is_some_and(|session| !session.serves(&place))
        {
            *lock(&self.session) = Some(None);
        }
        *lock(&self.allocator) = cuda::allocator(&place);
        *lock(&self.state) = Some(state);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.waiting) = Waiting::default();
        *lock(&self.state) = None;
        *lock(&self.infos) = None;
        *lock(&self.allocator) = None;
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let wish = Wish::from_fraction(lock(&self.settings).scale);
        let mut others = caps::transform(direction, caps, wish);
        if matches!(*lock(&self.session), Some(None)) {
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
        let wish = Wish::from_fraction(lock(&self.settings).scale);
        let mut others = caps::fixate(direction, caps, others, wish);
        if direction == gst::PadDirection::Sink {
            video::prefer_color(caps, &mut others);
        }
        let mut others = self.parent_fixate_caps(direction, caps, others);
        if direction == gst::PadDirection::Sink {
            video::keep_color(caps, &mut others);
        }
        gst::debug!(CAT, imp = self, "{direction:?}: {caps} fixates {others}");
        others
    }

    fn before_transform(&self, _inbuf: &gst::BufferRef) {
        self.apply_settings();
    }

    fn submit_input_buffer(
        &self,
        is_discont: bool,
        inbuf: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        // The next buffer to go out is marked where frames are missing before
        // the one that comes in: those at work are not to be that one.
        let gap = inbuf.flags().contains(gst::BufferFlags::DISCONT);
        if gap || self.obj().src_pad().needs_reconfigure() {
            self.push_waiting()?;
        }
        let result = self.parent_submit_input_buffer(is_discont, inbuf)?;
        if result == gst_base::BASE_TRANSFORM_FLOW_DROPPED {
            self.push_waiting()?;
            self.count_drop();
        }
        Ok(result)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        self.next_output()
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.type_() {
            gst::EventType::FlushStop => self.drop_waiting(),
            _ if event.is_serialized() => self.flush_waiting(),
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if query.type_() == gst::QueryType::Context
            && let Some(session) = self.session()
            && session.answer(self.obj().upcast_ref(), query)
        {
            return true;
        }
        if direction == gst::PadDirection::Sink && query.is_serialized() {
            self.flush_waiting();
        }
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if let (gst::QueryViewMut::Latency(latency), Some(delay)) = (query.view_mut(), self.delay())
        {
            let (live, least, most) = latency.result();
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
        match (caps, self.session()) {
            (Some(caps), Some(session)) if cuda::is_cuda(&caps) && decide_query.is_some() => {
                let (pool, size) = session.pool(&caps, (0, 0))?;
                query.add_allocation_pool(Some(&pool), size, 0, 0);
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                Ok(())
            }
            _ => {
                self.parent_propose_allocation(decide_query, query)?;
                if decide_query.is_some() {
                    self.offer_allocator(query);
                }
                self.ask_for_more(query);
                Ok(())
            }
        }
    }

    fn decide_allocation(
        &self,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let (caps, _) = query.get_owned();
        if let (Some(caps), Some(session)) = (caps, self.session())
            && cuda::is_cuda(&caps)
        {
            // Of this context, whatever downstream has.
            let offered = query.allocation_pools().next();
            let (least, most) = offered.as_ref().map_or((0, 0), |offer| (offer.2, offer.3));
            let (pool, size) = session.pool(&caps, (least, most))?;
            match offered {
                None => query.add_allocation_pool(Some(&pool), size, least, most),
                Some(_) => query.set_nth_allocation_pool(0, Some(&pool), size, least, most),
            }
        } else {
            // Pools of a kind of their own allocate by themselves.
            let kind = gst_video::VideoBufferPool::static_type();
            let usual = |pool: gst::BufferPool| pool.type_() == kind;
            let mut pools = query.allocation_pools().filter_map(|(pool, ..)| pool);
            if pools.all(usual) {
                self.offer_allocator(query);
            }
        }
        self.parent_decide_allocation(query)
    }

    fn transform(
        &self,
        inbuf: &gst::Buffer,
        outbuf: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.transform_there(inbuf, outbuf)? {
            return Ok(gst::FlowSuccess::Ok);
        }
        self.parent_transform(inbuf, outbuf)
    }

    fn transform_meta<'a>(
        &self,
        outbuf: &mut gst::BufferRef,
        meta: gst::MetaRef<'a, gst::Meta>,
        inbuf: &'a gst::BufferRef,
    ) -> bool {
        if let Some((from, to)) = &*lock(&self.infos)
            && metas::transform(&meta, outbuf, from, to) == metas::Outcome::Done
        {
            return false;
        }
        self.parent_transform_meta(outbuf, meta, inbuf)
    }

    fn src_event(&self, mut event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Navigation
            && let Some((from, to)) = &*lock(&self.infos)
        {
            metas::navigation(&mut event, from, to);
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
        // Those that were begun for other caps, should there still be some.
        self.flush_waiting();
        let same = (in_info.width(), in_info.height()) == (out_info.width(), out_info.height());
        if in_info.is_interlaced() && !same {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("Interlaced video cannot be enlarged: put a deinterlace element before srfilter"),
                ["{incaps}"]
            );
            return Err(gst::loggable_error!(CAT, "Interlaced video"));
        }
        self.obj().set_passthrough(same);
        let infos = (in_info.clone(), out_info.clone());
        *lock(&self.infos) = Some(infos.clone());
        let wish = Wish::from_fraction(lock(&self.settings).scale);
        let prepared = match lock(&self.state).as_mut() {
            Some(state) => {
                state.infos = Some(infos);
                state.wish = wish;
                state.prepare()
            }
            None => return Err(gst::loggable_error!(CAT, "Not started")),
        };
        if let Err(error) = prepared {
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            return Err(gst::loggable_error!(CAT, "{error}"));
        }
        let overlaps = lock(&self.state)
            .as_ref()
            .and_then(|state| Some(state.upscaler.as_ref()?.supports_pipelining()));
        let on_host = ![incaps, outcaps]
            .into_iter()
            .any(|caps| cuda::is_cuda(caps));
        self.decide_overlap(on_host && overlaps == Some(true));
        self.publish(1);
        let given_up = lock(&self.state).as_ref().and_then(|state| {
            state
                .upscaler
                .as_ref()?
                .fallback_reason()
                .map(str::to_owned)
        });
        if let Some(fallback_reason) = given_up {
            self.warn_of_cpu(&fallback_reason);
        }
        self.parent_set_info(incaps, in_info, outcaps, out_info)
    }

    fn transform_frame(
        &self,
        inframe: &gst_video::VideoFrameRef<&gst::BufferRef>,
        outframe: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.enlarge(|upscaler| {
            let shape = upscaler.spec().input;
            let input = video::frame_ref(inframe, &shape)?;
            let mut output = video::frame_mut(outframe, &shape)?;
            upscaler.process(&input, &mut output)
        })?;
        self.count();
        Ok(gst::FlowSuccess::Ok)
    }
}

impl State {
    /// The state, and the device that computes.
    fn new(settings: &Settings) -> srfilter::Result<(Self, ComputeDevice)> {
        let options = UpscaleOptions {
            device: settings.device.parse()?,
            precision: settings.precision.parse()?,
            threads: settings.threads as usize,
            ..UpscaleOptions::default()
        };
        let place = options.device.resolve()?;
        let state = Self {
            source: settings.source.clone(),
            model: settings.source.load()?,
            options,
            wish: Wish::from_fraction(settings.scale),
            infos: None,
            upscaler: None,
        };
        Ok((state, place))
    }

    /// Makes the upscaler for the negotiated sizes.
    fn prepare(&mut self) -> srfilter::Result<()> {
        self.upscaler = self.upscaler(&self.model)?;
        Ok(())
    }

    /// The upscaler of a model; none where nothing is negotiated or sizes are equal.
    fn upscaler(&self, model: &Arc<Model>) -> srfilter::Result<Option<Upscaler>> {
        let Some((from, to)) = &self.infos else {
            return Ok(None);
        };
        let (from_size, to_size) = ((from.width(), from.height()), (to.width(), to.height()));
        if from_size == to_size {
            return Ok(None);
        }
        let job = UpscaleSpec {
            input: shape(from)?,
            output: (to.width() as usize, to.height() as usize),
            scale: self.wish.between(from_size, to_size),
        };
        Upscaler::new(Arc::clone(model), job, &self.options).map(Some)
    }

    /// Takes over another factor. Where sizes follow, negotiation comes next;
    /// with sizes that downstream pins, this is all that happens.
    fn set_wish(&mut self, wish: Wish) -> srfilter::Result<()> {
        if let (Wish::Factor(scale), Some((from, _))) = (wish, &self.infos) {
            let job = UpscaleSpec::scaled(shape(from)?, scale);
            Upscaler::check(&self.model, &job, &self.options)?;
        }
        self.wish = wish;
        self.prepare()
    }
}

fn shape(info: &VideoInfo) -> srfilter::Result<FrameSpec> {
    let unknown = || Error::Frame(format!("format {} is not served", info.format()));
    video::shape(info).ok_or_else(unknown)
}

impl SrFilter {
    fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone().flatten()
    }

    /// Offers the pipeline the context that a GPU computes in, before others
    /// make their own.
    fn share_context(&self) {
        // What is wrong with the device is told by `start`.
        let device = lock(&self.settings).device.parse::<DeviceChoice>();
        let place = device.and_then(DeviceChoice::resolve);
        let session = place.ok().and_then(|place| Session::open(&place));
        let context = session.as_ref().map(Session::to_context);
        *lock(&self.session) = Some(session.map(Arc::new));
        let Some(context) = context else { return };
        let element = self.obj();
        element.set_context(&context);
        let message = gst::message::HaveContext::builder(context).src(&*element);
        // Without a bus there is nobody to share with.
        let _ = element.post_message(message.build());
    }

    /// Names the allocator of memory that the GPU copies from and to, unless
    /// another one was named.
    fn offer_allocator(&self, query: &mut gst::query::Allocation) {
        let allocator = lock(&self.allocator).clone();
        let Some(allocator) = allocator else { return };
        match query.allocation_params().next() {
            None => query.add_allocation_param(Some(&allocator), gst::AllocationParams::default()),
            Some((None, params)) => query.set_nth_allocation_param(0, Some(&allocator), params),
            Some((Some(_), _)) => {}
        }
    }

    /// Enlarges a frame in the GPU's memory; whether that was possible.
    fn transform_there(
        &self,
        inbuf: &gst::BufferRef,
        outbuf: &mut gst::BufferRef,
    ) -> Result<bool, gst::FlowError> {
        let Some(session) = self.session() else {
            return Ok(false);
        };
        let Some((from, to)) = lock(&self.infos).clone() else {
            return Ok(false);
        };
        let stayed =
            self.enlarge(|upscaler| session.process(upscaler, (inbuf, &from), (outbuf, &to)))?;
        lock(&self.stats).stayed = stayed;
        if stayed {
            self.count();
        }
        Ok(stayed)
    }

    /// Lets something be done with the upscaler.
    fn enlarge<T>(
        &self,
        make: impl FnOnce(&mut Upscaler) -> srfilter::Result<T>,
    ) -> Result<T, gst::FlowError> {
        let started = Instant::now();
        let mut state = lock(&self.state);
        let upscaler = state.as_mut().and_then(|state| state.upscaler.as_mut());
        let Some(upscaler) = upscaler else {
            return Err(gst::FlowError::NotNegotiated);
        };
        let known = upscaler.fallback_reason().is_some();
        let result = make(upscaler);
        let given_up = upscaler
            .fallback_reason()
            .filter(|_| !known)
            .map(str::to_owned);
        drop(state);
        if let Some(fallback_reason) = given_up {
            self.warn_of_cpu(&fallback_reason);
        }
        let made = result.map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("Enlarging a frame failed: {error}")
            );
            gst::FlowError::Error
        })?;
        lock(&self.stats).spent += started.elapsed();
        Ok(made)
    }

    /// Counts a frame that was made.
    fn count(&self) {
        let mut stats = lock(&self.stats);
        stats.last = std::mem::take(&mut stats.spent);
        let last = stats.last;
        stats.total += last;
        stats.processed += 1;
    }

    /// Takes over what changed in the properties since the last buffer.
    fn apply_settings(&self) {
        let settings = lock(&self.settings).clone();
        let wish = Wish::from_fraction(settings.scale);
        let changes = (lock(&self.state).as_ref())
            .is_some_and(|state| state.source != settings.source || state.wish != wish);
        if changes {
            self.flush_waiting();
        }
        let source = self.apply_source(&settings);
        let scale = self.apply_scale(settings.scale);
        if source || scale {
            self.publish(0);
        }
    }

    /// Loads another model if one is asked for; whether another one runs now.
    fn apply_source(&self, settings: &Settings) -> bool {
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut().filter(|s| s.source != settings.source) else {
            return false;
        };
        let loaded = settings.source.load();
        match loaded.and_then(|model| Ok((state.upscaler(&model)?, model))) {
            Ok((upscaler, model)) => {
                (state.upscaler, state.model) = (upscaler, model);
                state.source = settings.source.clone();
                true
            }
            Err(error) => {
                let kept = state.source.clone();
                drop(guard);
                let settled = |at: Instant| at.elapsed() >= SETTLED;
                if settings.changed.is_none_or(settled) {
                    self.keep_source(&settings.source, kept, &error);
                }
                false
            }
        }
    }

    /// After a change of model that failed: says so, and sets the properties back.
    fn keep_source(&self, wanted: &Source, kept: Source, error: &Error) {
        {
            let mut settings = lock(&self.settings);
            if settings.source == *wanted {
                settings.source = kept;
            }
        }
        let running = lock(&self.stats).model.clone();
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("The change of model failed, {running} keeps running: {error}"),
            ["wanted {wanted:?}"]
        );
        self.obj().notify("model");
        self.obj().notify("weights");
    }

    /// Takes over another scale if one is asked for; whether it did.
    fn apply_scale(&self, wanted: gst::Fraction) -> bool {
        let wish = Wish::from_fraction(wanted);
        let mut guard = lock(&self.state);
        let Some(state) = guard.as_mut().filter(|s| s.wish != wish) else {
            return false;
        };
        let before = state.wish;
        let Err(error) = state.set_wish(wish) else {
            return true;
        };
        drop(guard);
        {
            let mut settings = lock(&self.settings);
            if settings.scale == wanted {
                settings.scale = before.to_fraction();
            }
        }
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("The scale stays {}: {error}", before.to_fraction()),
            ["wanted {wanted}"]
        );
        self.obj().notify("scale");
        false
    }

    /// Brings `stats` up to date, and tells the bus when another model runs.
    fn publish(&self, negotiations: u64) {
        let guard = lock(&self.state);
        let Some(state) = guard.as_ref() else { return };
        let mut stats = lock(&self.stats);
        let changed = (stats.model.as_str(), stats.weights.as_str())
            != (state.model.name(), state.model.origin());
        stats.model = state.model.name().to_owned();
        stats.weights = state.model.origin().to_owned();
        stats.negotiations += negotiations;
        let upscaler = state.upscaler.as_ref();
        stats.native_scales = upscaler.map_or(Vec::new(), |u| u.native_scales().to_vec());
        stats.resampled = upscaler.is_some_and(Upscaler::resamples);
        stats.tiles = upscaler.map_or(0, |u| u.tiles() as u64);
        if let Some(upscaler) = upscaler {
            upscaler.device().name().clone_into(&mut stats.device);
            stats.precision = upscaler.precision();
        }
        let structure = gst::Structure::builder("srfilter-model-changed")
            .field("model", &stats.model)
            .field("weights", &stats.weights)
            .build();
        drop(stats);
        drop(guard);
        if changed {
            let message = gst::message::Element::builder(structure).src(&*self.obj());
            // Without a bus there is nobody to tell.
            let _ = self.obj().post_message(message.build());
        }
    }

    /// Says that the CPU computes from now on.
    fn warn_of_cpu(&self, why: &str) {
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Failed,
            ("The CPU takes over: {why}"),
            ["device=cuda:N insists on a GPU, device=cpu does without"]
        );
        self.decide_overlap(false);
        self.publish(0);
    }

    fn count_drop(&self) {
        let first = {
            let mut stats = lock(&self.stats);
            stats.dropped += 1;
            stats.dropped == 1
        };
        if first {
            gst::element_imp_warning!(
                self,
                gst::CoreError::TooLazy,
                ("Frames come too late for the sink: late ones are dropped (see the property stats)"),
                ["use a smaller scale or input, a faster model, or qos=false to keep every frame"]
            );
        }
    }

    /// What the property `model` reads as.
    fn model_name(&self, source: &Source) -> String {
        match (&source.model, &source.weights) {
            (Some(name), _) => name.clone(),
            (None, None) => models::DEFAULT.to_owned(),
            // The file decides; until it was read, nothing is known.
            (None, Some(_)) => {
                let running = lock(&self.stats).model.clone();
                let known = !running.is_empty();
                if known {
                    running
                } else {
                    models::DEFAULT.to_owned()
                }
            }
        }
    }
}

impl Stats {
    fn structure(&self) -> gst::Structure {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let average = match self.processed {
            0 => 0.0,
            n => ms(self.total) / n as f64,
        };
        let native = self.native_scales.iter().map(Scale::to_string);
        gst::Structure::builder("srfilter-stats")
            .field("processed", self.processed)
            .field("dropped", self.dropped)
            .field("average-ms", average)
            .field("last-ms", ms(self.last))
            .field("active-model", &self.model)
            .field("weights", &self.weights)
            .field("native-scale", native.collect::<Vec<_>>().join(" x "))
            .field("resampled", self.resampled)
            .field("device", &self.device)
            .field("precision", self.precision.to_string())
            .field("memory", if self.stayed { "CUDAMemory" } else { "system" })
            .field("overlap", self.overlap)
            .field("tiles", self.tiles)
            .field("negotiations", self.negotiations)
            .build()
    }
}

/// The error that stops the element from starting, in GStreamer's terms.
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

/// A string property; empty is as good as unset.
fn text(value: &glib::Value) -> Option<String> {
    let text: Option<String> = value.get().expect("type checked upstream");
    text.filter(|text| !text.is_empty())
}

/// Data behind our locks stays valid if a thread dies: a panic becomes an
/// error message, not a second panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
