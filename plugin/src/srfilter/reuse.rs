//! The value of the property `reuse`.

use gst::glib;
use srfilter::engine::Reuse;

/// Whether equal input is upscaled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstSrFilterReuse")]
pub enum ReuseMode {
    /// As the video says.
    #[default]
    #[enum_value(name = "While enough of the picture stays the same", nick = "auto")]
    Auto,
    /// Never.
    #[enum_value(name = "Compute every frame", nick = "off")]
    Off,
    /// Always.
    #[enum_value(name = "Compare every frame with the last one", nick = "on")]
    On,
}

impl From<ReuseMode> for Reuse {
    fn from(mode: ReuseMode) -> Self {
        match mode {
            ReuseMode::Auto => Self::Auto,
            ReuseMode::Off => Self::Off,
            ReuseMode::On => Self::On,
        }
    }
}
