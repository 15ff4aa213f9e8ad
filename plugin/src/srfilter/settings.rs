//! The properties and their values.

use super::caps::{EvenSize, TargetScale};
use super::reuse::ReuseMode;
use super::view::{self, ViewSettings};
use gst::glib;
use gst::prelude::*;
use srfilter::engine::{DeviceChoice, Precision, UpscaleOptions};
use srfilter::models::DamageSource;
use srfilter::weights::{LoadOverrides, Model};
use srfilter::{Scale, models};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time without changes of `model` and `weights` after which a failed load is
/// reported and reverted: applications set them one after the other.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Largest `async-depth`: each frame in flight has its own memory.
const MAX_ASYNC_DEPTH: u32 = 16;

/// The network and its weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// The name of a network; `None` if the property is not set.
    pub(super) model: Option<String>,
    /// A weights file that replaces the built-in weights.
    pub(super) weights: Option<String>,
    /// How often `weights` was set to a file: the same path again asks for the
    /// file as it is then.
    requests: u64,
}

/// The value of `model` that takes the best model for the scale and the frame rate.
const AUTO: &str = "auto";

/// The value of the property `on-overload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstSrFilterOnOverload")]
pub enum OnOverload {
    /// `Fallback` if the sources are live, else `Drop`.
    #[default]
    #[enum_value(name = "fallback for live sources, else drop", nick = "auto")]
    Auto,
    /// A faster model takes over.
    #[enum_value(
        name = "A faster model takes over while frames would be late",
        nick = "fallback"
    )]
    Fallback,
    /// Frames are left out.
    #[enum_value(name = "Frames that would be late are left out", nick = "drop")]
    Drop,
    /// Frames come late.
    #[enum_value(name = "Every frame is upscaled, however late it is", nick = "block")]
    Block,
}

impl Source {
    /// The chosen model; with `auto`, which depends on the frames, the default one.
    pub(super) fn load(&self) -> srfilter::Result<Arc<Model>> {
        let weights = self.weights.as_deref().map(Path::new);
        let name = self.model.as_deref().filter(|_| !self.is_auto());
        Model::load(name, weights, &LoadOverrides::default())
    }

    /// Whether `model` is `auto`, which a weights file overrides.
    pub(super) fn is_auto(&self) -> bool {
        self.model.as_deref() == Some(AUTO) && self.weights.is_none()
    }

    /// The value of the property `model`; `active` is the running model.
    fn model_name(&self, active: &str) -> String {
        match (&self.model, &self.weights) {
            (Some(name), _) => name.clone(),
            // The file determines the network: unknown until it is loaded.
            (None, Some(_)) if !active.is_empty() => active.to_owned(),
            (None, _) => models::DEFAULT.to_owned(),
        }
    }
}

/// The values of the properties.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) source: Source,
    pub(super) scale: gst::Fraction,
    pub(super) add_borders: bool,
    even_size: EvenSize,
    pub(super) device: String,
    precision: String,
    threads: u32,
    pub(super) on_overload: OnOverload,
    /// Names of models, separated by commas.
    fallback_models: String,
    pub(super) view: ViewSettings,
    /// Frames in flight between input and output.
    pub(super) async_depth: u32,
    pub(super) measure: bool,
    /// Most pixels of an output frame; 0: no limit.
    pub(super) max_pixels: u64,
    pub(super) reuse: ReuseMode,
    /// Where the damage by encoding is taken from.
    pub(super) damage: DamageSource,
    /// Why the value of the property that was set last is none.
    pub(super) damage_error: Option<String>,
    /// When `source` was last set.
    changed: Option<Instant>,
    /// Whether `source` was last set while PLAYING: only then are weights
    /// loaded in the background.
    pub(super) changed_while_playing: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: Source::default(),
            scale: gst::Fraction::new(2, 1),
            add_borders: true,
            even_size: EvenSize::default(),
            device: DeviceChoice::default().to_string(),
            precision: Precision::default().to_string(),
            threads: 0,
            on_overload: OnOverload::default(),
            fallback_models: models::FOR_ANY_SCALE.join(","),
            view: ViewSettings::default(),
            async_depth: 0,
            measure: false,
            max_pixels: 0,
            reuse: ReuseMode::default(),
            damage: DamageSource::default(),
            damage_error: None,
            changed: None,
            changed_while_playing: false,
        }
    }
}

impl Settings {
    pub(super) fn target(&self) -> TargetScale {
        TargetScale::from_fraction(self.scale)
    }

    /// What decides on the output size.
    pub(super) fn sizing(&self) -> (TargetScale, EvenSize) {
        (self.target(), self.even_size)
    }

    pub(super) fn options(&self) -> srfilter::Result<UpscaleOptions> {
        Ok(UpscaleOptions::default()
            .with_device(self.device.parse()?)
            .with_precision(self.precision.parse()?)
            .with_threads(self.threads as usize))
    }

    /// Checks the value of `damage` that was set last.
    ///
    /// # Errors
    ///
    /// One that is none.
    pub(super) fn check_damage(&self) -> srfilter::Result<()> {
        match &self.damage_error {
            Some(error) => Err(srfilter::Error::Setting(error.clone())),
            None => Ok(()),
        }
    }

    /// The models that may replace the chosen one at a scale, the best one first.
    ///
    /// # Errors
    ///
    /// An unknown name.
    pub(super) fn fallback_models(&self, scale: Scale) -> srfilter::Result<Vec<String>> {
        let listed: Vec<_> = match self.source.is_auto() {
            true => models::by_quality(scale).to_vec(),
            false => self.fallback_models.split(',').map(str::trim).collect(),
        };
        let listed = listed.into_iter().filter(|name| !name.is_empty());
        listed
            .map(|name| Ok(models::find(name)?.name.to_owned()))
            .collect()
    }

    /// Whether `model` and `weights` have been unchanged for [`SETTLE_TIME`].
    pub(super) fn is_settled(&self) -> bool {
        self.changed.is_none_or(|at| at.elapsed() >= SETTLE_TIME)
    }

    /// Sets a property; returns whether the output size may change.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value, playing: bool) -> bool {
        let checked = "GObject checks the type of a property";
        match name {
            "model" | "weights" => {
                match name {
                    "model" => self.source.model = text(value),
                    _ => {
                        self.source.weights = text(value);
                        self.source.requests += u64::from(self.source.weights.is_some());
                    }
                }
                self.changed = Some(Instant::now());
                self.changed_while_playing = playing;
            }
            "scale" => {
                let scale = value.get().expect(checked);
                return std::mem::replace(&mut self.scale, scale) != scale;
            }
            "add-borders" => {
                self.add_borders = value.get().expect(checked);
            }
            "even-size" => {
                let even_size = value.get().expect(checked);
                return std::mem::replace(&mut self.even_size, even_size) != even_size;
            }
            "device" => self.device = text(value).unwrap_or_else(|| Self::default().device),
            "precision" => {
                self.precision = text(value).unwrap_or_else(|| Self::default().precision);
            }
            "on-overload" => self.on_overload = value.get().expect(checked),
            "fallback-models" => self.fallback_models = text(value).unwrap_or_default(),
            "threads" => self.threads = value.get().expect(checked),
            "async-depth" => self.async_depth = value.get().expect(checked),
            "pipelined" | "overlap" => {
                self.async_depth = value.get::<bool>().expect(checked).into();
            }
            "measure" => self.measure = value.get().expect(checked),
            "max-pixels" => self.max_pixels = value.get().expect(checked),
            "reuse" => self.reuse = value.get().expect(checked),
            "damage" => match damage(value) {
                Ok(damage) => (self.damage, self.damage_error) = (damage, None),
                Err(error) => self.damage_error = Some(error.to_string()),
            },
            _ => self.view.set(name, value),
        }
        false
    }

    /// The value of a property other than `stats`; `active` is the running model.
    pub(super) fn get(&self, name: &str, active: &str) -> Option<glib::Value> {
        Some(match name {
            "model" => self.source.model_name(active).to_value(),
            "weights" => self.source.weights.to_value(),
            "scale" => self.scale.to_value(),
            "add-borders" => self.add_borders.to_value(),
            "even-size" => self.even_size.to_value(),
            "device" => self.device.to_value(),
            "precision" => self.precision.to_value(),
            "on-overload" => self.on_overload.to_value(),
            "fallback-models" => self.fallback_models.to_value(),
            "threads" => self.threads.to_value(),
            "async-depth" => self.async_depth.to_value(),
            "pipelined" | "overlap" => (self.async_depth > 0).to_value(),
            "measure" => self.measure.to_value(),
            "max-pixels" => self.max_pixels.to_value(),
            "reuse" => self.reuse.to_value(),
            "damage" => self.damage.to_string().to_value(),
            _ => return self.view.get(name),
        })
    }
}

/// A string property; an empty string counts as unset.
fn text(value: &glib::Value) -> Option<String> {
    let text: Option<String> = value.get().expect("GObject checks the type of a property");
    text.filter(|text| !text.is_empty())
}

/// The value of the property `damage`.
fn damage(value: &glib::Value) -> srfilter::Result<DamageSource> {
    text(value).map_or(Ok(DamageSource::default()), |text| text.parse())
}

/// Whether a property takes effect only in NULL and READY.
pub(super) fn is_fixed_after_ready(name: &str) -> bool {
    matches!(
        name,
        "add-borders"
            | "device"
            | "fallback-models"
            | "precision"
            | "threads"
            | "async-depth"
            | "pipelined"
            | "overlap"
    )
}

/// The properties of the element.
pub(super) fn properties() -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    let model_blurb = format!(
        "Network that upscales; while PLAYING, it is loaded in the background and the switch happens with the next buffer after that. auto: the best one for the scale, and for a live stream the best one that is fast enough. Others: {}",
        models::names()
    );
    let mut properties = vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb(&model_blurb)
            .default_value(models::DEFAULT)
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("weights")
            .nick("Weights")
            .blurb("Weights file that replaces the built-in weights; without a model set, the file determines the network. While PLAYING, it is loaded in the background and the switch happens with the next buffer after that")
            .mutable_playing()
            .build(),
        gst::ParamSpecFraction::builder("scale")
            .nick("Scale")
            .blurb("Scale factor of width and height, such as 2 or 3/2; 1/1 passes frames through, 0/1 derives the factor from the size that downstream requests")
            .minimum(gst::Fraction::new(0, 1))
            .maximum(gst::Fraction::new(Scale::MAX.num() as i32, 1))
            .default_value(defaults.scale)
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("add-borders")
            .nick("Add borders")
            .blurb("Keep the shape of the picture by black borders where downstream fixes a size of another display aspect ratio; otherwise the picture is stretched")
            .default_value(defaults.add_borders)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("even-size", defaults.even_size)
            .nick("Even size")
            .blurb("Whether sizes that a fractional scale leads to are rounded to even numbers: many encoders take no others")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("on-overload", defaults.on_overload)
            .nick("On overload")
            .blurb("What happens while the model is too slow for the stream")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("fallback-models")
            .nick("Fallback models")
            .blurb("Models that may take over while the chosen one is too slow, separated by commas, the best one first; those that are not faster here are left out")
            .default_value(defaults.fallback_models.as_str())
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb("Device that computes: auto, cpu, cuda or cuda:N")
            .default_value(defaults.device.as_str())
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("precision")
            .nick("Precision")
            .blurb("Number format: auto, f32, tf32, f16, bf16 or int8. On a GPU, auto is f16, or tf32 for networks that are not chains of convolutions. On the CPU, auto is int8 for weights that state a loss of at most 0.06 dB for it, else f32")
            .default_value(defaults.precision.as_str())
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("threads")
            .nick("Threads")
            .blurb("Number of CPU threads (0: one per core)")
            .maximum(1024)
            .default_value(defaults.threads)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("async-depth")
            .nick("Asynchronous depth")
            .blurb("Frames that are computed while the next ones come in, where cores are idle; adds as many frames of latency. On a GPU, upload, compute and download of two frames overlap with any depth but 0")
            .maximum(MAX_ASYNC_DEPTH)
            .default_value(defaults.async_depth)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("pipelined")
            .nick("Pipelined")
            .blurb("Deprecated: async-depth=1")
            .default_value(false)
            .mutable_ready()
            .deprecated()
            .build(),
        glib::ParamSpecBoolean::builder("overlap")
            .nick("Overlap")
            .blurb("Deprecated: async-depth=1")
            .default_value(false)
            .mutable_ready()
            .deprecated()
            .build(),
        glib::ParamSpecBoolean::builder("measure")
            .nick("Measure")
            .blurb("Measure each frame without an original: consistency with the input, flicker, motion, unchanged tiles; posted as messages srfilter-measure, and in stats")
            .default_value(defaults.measure)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("max-pixels")
            .nick("Maximum pixels")
            .blurb("Most pixels of an output frame: sizes beyond it are refused when caps are negotiated (0: no limit)")
            .default_value(defaults.max_pixels)
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("reuse", defaults.reuse)
            .nick("Reuse")
            .blurb("Whether tiles and frames whose input equals the last frame's are copied from the last output, which is the same bit for bit; on a GPU whole frames; without async-depth")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("damage")
            .nick("Damage")
            .blurb("How strongly the stream was encoded, for models with weights for encoded video (espcn, espcn-hq at scale 2): from 0 (clean) to 1, or auto, estimated from the frames")
            .default_value(defaults.damage.to_string().as_str())
            .mutable_playing()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Frames processed and dropped, milliseconds per frame (average-ms, last-ms), active model, native scale, device, precision, memory type, frames in flight (async-depth), what is reused of the last frame")
            .read_only()
            .build(),
    ];
    properties.extend(view::properties());
    properties
}
