//! The properties that blend the upscaled picture with a bicubic one, and compare them.

use gst::glib;
use gst::prelude::*;
use srfilter::engine::{Compare, View};

/// The value of the property `compare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstSrFilterCompare")]
pub enum CompareMode {
    /// The upscaled picture alone.
    #[default]
    #[enum_value(name = "The upscaled picture alone", nick = "none")]
    None,
    /// Bicubic left of `split-position`.
    #[enum_value(
        name = "Bicubic left of split-position, upscaled right of it",
        nick = "split"
    )]
    Split,
    /// The middle of the picture, twice.
    #[enum_value(
        name = "The middle of the picture twice, bicubic on the left, upscaled on the right",
        nick = "side-by-side"
    )]
    SideBySide,
    /// Four times the difference, around mid-grey.
    #[enum_value(
        name = "Four times the difference of the upscaled and the bicubic picture, around mid-grey",
        nick = "difference"
    )]
    Difference,
}

/// The values of the properties.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewSettings {
    compare: CompareMode,
    split_position: f64,
    strength: f64,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            compare: CompareMode::default(),
            split_position: 0.5,
            strength: 1.0,
        }
    }
}

impl ViewSettings {
    /// The view of the next frame.
    pub(super) fn view(&self) -> View {
        let compare = match self.compare {
            CompareMode::None => Compare::None,
            CompareMode::Split => Compare::Split(self.split_position as f32),
            CompareMode::SideBySide => Compare::SideBySide,
            CompareMode::Difference => Compare::Difference,
        };
        let view = View::default().with_strength(self.strength as f32);
        view.with_compare(compare)
    }

    /// Sets a property, if it is one of these.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        let checked = "GObject checks the type of a property";
        match name {
            "compare" => self.compare = value.get().expect(checked),
            "split-position" => self.split_position = value.get().expect(checked),
            "strength" => self.strength = value.get().expect(checked),
            _ => {}
        }
    }

    /// The value of a property, if it is one of these.
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "compare" => self.compare.to_value(),
            "split-position" => self.split_position.to_value(),
            "strength" => self.strength.to_value(),
            _ => return None,
        })
    }
}

/// The properties of the view.
pub(super) fn properties() -> [glib::ParamSpec; 3] {
    let defaults = ViewSettings::default();
    [
        glib::ParamSpecEnum::builder_with_default("compare", defaults.compare)
            .nick("Compare")
            .blurb("Comparison of the upscaled picture with a bicubic one; the size of the output stays. From the next frame on")
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("split-position")
            .nick("Split position")
            .blurb("Share of the width that compare=split shows bicubic: 0 is the upscaled picture alone, 1 the bicubic one, without a line. From the next frame on")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.split_position)
            .mutable_playing()
            .controllable()
            .build(),
        glib::ParamSpecDouble::builder("strength")
            .nick("Strength")
            .blurb("Share of the network's picture in the output, the rest is bicubic: 1 is the network's output, 0 that of model=bicubic, without running the network. From the next frame on")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(defaults.strength)
            .mutable_playing()
            .controllable()
            .build(),
    ]
}
