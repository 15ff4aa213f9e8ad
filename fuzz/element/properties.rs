//! Properties, set from text before and while frames are pushed.
//!
//! An input is lines of `name=value`, as for `gst-launch-1.0`; `push` pushes a frame,
//! `format=I420` changes the format of those that follow, `wait` lets loads end.

use super::{Line, element, take_errors};
use gst::glib;
use gst::glib::translate::{ToGlibPtr, ToGlibPtrMut, from_glib};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// Steps of an input.
const STEPS: usize = 32;

/// Where all weights are looked for: a network, and a file that holds none.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let espcn = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/espcn/weights.safetensors");
    let copied = std::fs::copy(espcn, folder.path().join("espcn.safetensors"));
    copied.expect("the weights are copied");
    let broken = std::fs::write(folder.path().join("broken.safetensors"), [7; 64]);
    broken.expect("a file is written");
    folder
});

/// The path in [`FOLDER`] that stands for a path.
fn mapped(path: &str) -> PathBuf {
    let name = |c: &char| c.is_ascii_alphanumeric() || ".-_".contains(*c);
    let name: String = path.chars().filter(name).take(40).collect();
    FOLDER.path().join(if name == ".." { "." } else { &name })
}

/// A value for a property, within its limits; `None` if the text is none.
fn parsed(spec: &glib::ParamSpec, text: &str) -> Option<glib::Value> {
    if spec.name() == "weights" && !text.is_empty() {
        return Some(mapped(text).to_str()?.to_value());
    }
    let mut value = glib::Value::deserialize_with_pspec(text, spec).ok()?;
    if spec.name() == "threads" {
        // Each number of threads has a pool of its own.
        value = (value.get::<u32>().ok()? % 4).to_value();
    }
    let mut clamps = || -> bool {
        // SAFETY: the value has the type of the property.
        unsafe {
            let value = value.to_glib_none_mut().0;
            let spec: *mut glib::gobject_ffi::GParamSpec = spec.to_glib_none().0;
            from_glib(glib::gobject_ffi::g_param_value_validate(spec, value))
        }
    };
    // Not a number stays what it is.
    (!clamps() || !clamps()).then_some(value)
}

/// A stream of frames of 16x12 pixels.
struct Stream {
    element: gst::Element,
    bus: gst::Bus,
    line: Option<Line>,
    info: VideoInfo,
    announced: Option<VideoFormat>,
    /// Frames that were taken.
    taken: usize,
    /// Whether each of them has to come out.
    lossless: bool,
}

impl Stream {
    /// Sets a property, if there is one of that name, and reads it.
    fn set(&mut self, name: &str, text: &str) {
        let Some(spec) = self.element.find_property(name) else {
            return;
        };
        let is_own = spec.owner_type() == self.element.type_() || name == "qos";
        if !is_own || !spec.flags().contains(glib::ParamFlags::WRITABLE) {
            return;
        }
        let Some(value) = parsed(&spec, text) else {
            return;
        };
        self.element.set_property_from_value(name, &value);
        let read = self.element.property_value(name);
        // What is empty stands for the default.
        let unset = value.get::<Option<&str>>();
        if !unset.is_ok_and(|text| text.is_none_or(str::is_empty)) {
            let same = value.compare(&read) == Some(std::cmp::Ordering::Equal);
            assert!(same, "{name} is set to {value:?} and reads {read:?}");
        }
        self.lossless &= name != "qos";
    }

    /// Pushes a frame; starts the element before the first one.
    fn push(&mut self) {
        // Networks take seconds for more.
        if self.element.property::<gst::Fraction>("scale") > gst::Fraction::new(4, 1) {
            self.set("scale", "4/1");
        }
        if self.line.is_none() {
            self.line = Line::start(&self.element, &self.bus, &gst::Caps::new_any());
            if self.line.is_none() {
                let errors = take_errors(&self.bus);
                assert!(
                    !errors.is_empty(),
                    "the element does not start, without a word"
                );
                self.reset();
                self.line = Line::start(&self.element, &self.bus, &gst::Caps::new_any());
            }
            self.announced = None;
        }
        let line = self.line.as_mut().expect("good values start");
        let mut result = Ok(gst::FlowSuccess::Ok);
        if self.announced != Some(self.info.format()) {
            let caps = self.info.to_caps().expect("the format has caps");
            if line.negotiate(&caps) {
                self.announced = Some(self.info.format());
            } else {
                result = Err(gst::FlowError::NotNegotiated);
            }
        }
        match result.and_then(|_| line.push(&self.info)) {
            Ok(_) => self.taken += 1,
            Err(error) => {
                self.lossless = false;
                let errors = line.take_errors();
                assert!(
                    !errors.is_empty(),
                    "a frame is refused, without a word: {error}"
                );
            }
        }
    }

    /// Ends the stream; returns the number of frames that came out.
    fn stop(&mut self) -> usize {
        let Some(line) = self.line.take() else {
            return 0;
        };
        line.source.push_event(gst::event::Eos::new());
        let frames = line.take_frames().len();
        let taken = std::mem::take(&mut self.taken);
        assert!(frames <= taken, "{frames} of {taken} frames");
        assert!(
            frames == taken || !self.lossless,
            "{frames} of {taken} frames"
        );
        self.lossless = true;
        frames
    }

    /// Sets values with which every frame comes out.
    fn reset(&mut self) {
        for (name, value) in [
            ("model", "bicubic"),
            ("weights", ""),
            ("device", "cpu"),
            ("precision", "auto"),
            ("fallback-models", ""),
            ("scale", "2/1"),
            ("max-pixels", "0"),
            ("qos", "false"),
        ] {
            self.set(name, value);
        }
    }
}

/// Sets properties and pushes frames, as the lines say.
pub(crate) fn target(bytes: &[u8]) {
    let info = |format| {
        let info = VideoInfo::builder(format, 16, 12).fps((25, 1));
        info.build().expect("the format has frames of this size")
    };
    let (element, bus) = element();
    let mut stream = Stream {
        element,
        bus,
        line: None,
        info: info(VideoFormat::Gray8),
        announced: None,
        taken: 0,
        lossless: true,
    };
    let text = String::from_utf8_lossy(bytes);
    let mut waits = 1;
    for line in text.lines().take(STEPS) {
        match line.split_once('=') {
            Some(("format", format)) => {
                stream.info = info(match format {
                    "I420" => VideoFormat::I420,
                    _ => VideoFormat::Gray8,
                });
            }
            Some((name, value)) => stream.set(name, value),
            None if line == "push" => stream.push(),
            None if line == "wait" && waits > 0 => {
                waits -= 1;
                // Failures are reported after 0.1 s without a change.
                std::thread::sleep(Duration::from_millis(120));
            }
            None => {}
        }
    }
    stream.stop();
    stream.reset();
    stream.lossless = true;
    stream.push();
    assert_eq!(stream.stop(), 1, "a frame with good values");
    let stats: gst::Structure = stream.element.property("stats");
    assert!(stats.n_fields() > 0);
}
