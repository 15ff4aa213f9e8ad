//! What is fuzzed of the element. `plugin/tests/fuzz.rs` runs the same over the corpora.

pub(crate) mod caps;
pub(crate) mod properties;

use gst::glib;
use gst::prelude::*;
use gst_video::VideoInfo;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

/// Warnings and criticals of GLib, and panics, which the element turns into messages.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a target over an input; panics if GLib or a panic complained meanwhile, in
/// any thread.
pub(crate) fn run(target: fn(&[u8]), bytes: &[u8]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstsrfilter::plugin_register_static().expect("the plugin registers");
        glib::log_set_default_handler(|domain, level, text| {
            use glib::LogLevel::{Critical, Error, Warning};
            if matches!(level, Error | Critical | Warning) {
                let domain = domain.unwrap_or_default();
                lock(&COMPLAINTS).push(format!("{domain} {level:?}: {text}"));
            }
        });
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            lock(&COMPLAINTS).push(info.to_string());
            hook(info);
        }));
    });
    let _others_wait = lock(&ONE_AT_A_TIME);
    target(bytes);
    let complaints = std::mem::take(&mut *lock(&COMPLAINTS));
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// An element on the CPU, between a pad that frames are pushed to and one that
/// collects them.
struct Line {
    element: gst::Element,
    bus: gst::Bus,
    source: gst::Pad,
    sink: gst::Pad,
    frames: Arc<Mutex<Vec<gst::Buffer>>>,
    pushed: u64,
}

impl Line {
    /// A line that plays; `downstream` is what its end takes.
    fn start(element: &gst::Element, bus: &gst::Bus, downstream: &gst::Caps) -> Option<Self> {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&frames);
        let sink = gst::Pad::builder_from_template(&template(gst::PadDirection::Sink, downstream))
            .chain_function(move |_, _, buffer| {
                lock(&collected).push(buffer);
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        let line = Self {
            element: element.clone(),
            bus: bus.clone(),
            source: gst::Pad::new(gst::PadDirection::Src),
            sink,
            frames,
            pushed: 0,
        };
        link(&line.source, &pad(element, "sink"));
        link(&pad(element, "src"), &line.sink);
        for pad in [&line.sink, &line.source] {
            pad.set_active(true).expect("a pad starts");
        }
        element.set_state(gst::State::Playing).ok()?;
        line.source.push_event(gst::event::StreamStart::new("fuzz"));
        Some(line)
    }

    /// Announces the caps of the frames that follow; false if they are refused.
    fn negotiate(&self, caps: &gst::Caps) -> bool {
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let accepted = self.source.push_event(gst::event::Caps::new(caps));
        accepted && self.source.push_event(gst::event::Segment::new(&segment))
    }

    /// Pushes a black frame.
    fn push(&mut self, info: &VideoInfo) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut buffer = gst::Buffer::from_slice(vec![0; info.size()]);
        let writable = buffer.get_mut().expect("nobody else has the buffer");
        writable.set_pts(gst::ClockTime::from_mseconds(40 * self.pushed));
        writable.set_duration(gst::ClockTime::from_mseconds(40));
        self.pushed += 1;
        self.source.push(buffer)
    }

    /// The frames that have come out since the last call.
    fn take_frames(&self) -> Vec<gst::Buffer> {
        std::mem::take(&mut *lock(&self.frames))
    }

    /// The errors on the bus since the last call.
    fn take_errors(&self) -> Vec<String> {
        take_errors(&self.bus)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Fails only for an element that has failed before.
        let _ = self.element.set_state(gst::State::Null);
        for pad in [&self.source, &self.sink] {
            let _ = pad.set_active(false);
        }
        let _ = self.source.unlink(&pad(&self.element, "sink"));
        let _ = pad(&self.element, "src").unlink(&self.sink);
    }
}

/// Takes all messages; returns the errors, each of which must say something.
fn take_errors(bus: &gst::Bus) -> Vec<String> {
    let mut errors = Vec::new();
    while let Some(message) = bus.pop() {
        let text = match message.view() {
            gst::MessageView::Error(error) => {
                errors.push(error.error().to_string());
                error.error().to_string()
            }
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            _ => continue,
        };
        assert!(
            text.contains(' ') && !text.to_lowercase().contains("panic"),
            "{message:?}"
        );
    }
    errors
}

/// An element with a bus that nobody reads.
fn element() -> (gst::Element, gst::Bus) {
    let element = gst::ElementFactory::make("srfilter")
        .property("model", "bicubic")
        .property("device", "cpu")
        .property("threads", 1u32)
        .property("qos", false)
        .build()
        .expect("the element exists");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    (element, bus)
}

fn pad(element: &gst::Element, name: &str) -> gst::Pad {
    element.static_pad(name).expect("the element has the pad")
}

/// The template of a pad that takes or gives caps.
fn template(direction: gst::PadDirection, caps: &gst::Caps) -> gst::PadTemplate {
    gst::PadTemplate::new("peer", direction, gst::PadPresence::Always, caps)
        .expect("a template takes any caps")
}

/// Links two pads, whatever their caps.
fn link(source: &gst::Pad, sink: &gst::Pad) {
    source
        .link_full(sink, gst::PadLinkCheck::empty())
        .expect("unlinked pads can be linked");
}
