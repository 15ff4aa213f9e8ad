//! A clip, decoded and played through elements as fast as they are.

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The package that has most decoders.
const DECODERS: &str = "gstreamer1.0-libav on Debian and Ubuntu";

/// A pipeline that stops when it is dropped.
pub(super) struct Pipeline(pub(super) gst::Pipeline);

impl Pipeline {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self::from(gst::Pipeline::new())
    }
}

impl From<gst::Pipeline> for Pipeline {
    fn from(pipeline: gst::Pipeline) -> Self {
        pipeline.connect_deep_element_added(|_, _, element| without_direct_rendering(element));
        for element in pipeline.iterate_recurse().into_iter().flatten() {
            without_direct_rendering(&element);
        }
        Self(pipeline)
    }
}

/// Has a decoder of gst-libav copy its frames. With libavcodec 7.1 it takes their memory on
/// several threads, of which one may change the pool that another one uses: rarely, a decoder
/// fails ("Unable to allocate memory") or ends the process ("video meta uses ... instead of").
fn without_direct_rendering(element: &gst::Element) {
    const PROPERTY: &str = "direct-rendering";
    if element.has_property_with_type(PROPERTY, bool::static_type()) {
        element.set_property(PROPERTY, false);
    }
}

/// The longest wait for the elements of a pipeline to be ready.
const READY: Duration = Duration::from_secs(30);

/// Starts a pipeline. What is wrong comes as a message on the bus.
///
/// A bin starts elements that are linked from the end to the beginning, but one that is linked
/// only when its pads appear may stream before those after it take data. That data is lost, and
/// with it the end: under load pipelines waited for ever. New pads wait here until all are started.
pub(super) fn start(pipeline: &gst::Pipeline) {
    let started = Arc::new((Mutex::new(false), Condvar::new()));
    let starter = thread::current().id();
    for element in pipeline.iterate_elements().into_iter().flatten() {
        let started = Arc::clone(&started);
        element.connect_pad_added(move |_, _| {
            if thread::current().id() == starter {
                return;
            }
            let (flag, change) = &*started;
            let flag = flag.lock().unwrap_or_else(PoisonError::into_inner);
            // After that time it goes on as it is.
            drop(change.wait_timeout_while(flag, READY, |started| !*started));
        });
    }
    let _ = pipeline.set_state(gst::State::Playing);
    let (flag, change) = &*started;
    *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
    change.notify_all();
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Nothing depends on how it stops.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A clip that is played.
pub(crate) struct Player(Pipeline);

/// The element of a name.
///
/// # Errors
///
/// A plugin that is not installed.
pub(super) fn make(name: &str) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(name).build();
    element.map_err(|_| {
        anyhow!(
            "GStreamer has no element {name}: install its plugins \
             (gstreamer1.0-plugins-base on Debian and Ubuntu)"
        )
    })
}

impl Player {
    /// The video of a file through `filter`; the first `frames` frames, if that is a
    /// number.
    ///
    /// # Errors
    ///
    /// A plugin that is not installed.
    pub(crate) fn new(file: &Path, filter: &gst::Element, frames: Option<u64>) -> Result<Self> {
        let player = Self(Pipeline::new());
        let pipeline = &player.0.0;
        let source = make("filesrc")?;
        source.set_property("location", file);
        let (decoder, converter) = (make("decodebin")?, make("videoconvert")?);
        let sink = make("fakesink")?;
        sink.set_property("sync", false);
        let chain = [&converter, filter, &sink];
        pipeline.add_many([&source, &decoder])?;
        pipeline.add_many(chain)?;
        gst::Element::link_many([&source, &decoder])?;
        gst::Element::link_many(chain)?;
        let input = converter.static_pad("sink").context("no pad")?;
        connect(&decoder, &input);
        if let Some(frames) = frames {
            stop_after(pipeline, filter, frames)?;
        }
        Ok(player)
    }

    /// Plays to the end.
    ///
    /// # Errors
    ///
    /// A file without video or that cannot be decoded, with what GStreamer lacks; an
    /// error of an element.
    pub(crate) fn play(&self) -> Result<()> {
        let bus = self.0.0.bus().context("the pipeline has no bus")?;
        let mut missing = Vec::new();
        start(&self.0.0);
        for message in bus.iter_timed(gst::ClockTime::NONE) {
            match message.view() {
                gst::MessageView::Eos(_) | gst::MessageView::Application(_) => return Ok(()),
                gst::MessageView::Element(element) => {
                    missing.extend(element.structure().and_then(missing_plugin));
                }
                gst::MessageView::Error(error) if missing.is_empty() => bail!("{}", error.error()),
                gst::MessageView::Error(_) => bail!(
                    "GStreamer has no {}: install the plugin (most are in {DECODERS})",
                    missing.join(", no ")
                ),
                _ => {}
            }
        }
        bail!("the pipeline ended without a message")
    }

    /// Width and height of the frames on a pad of an element, once they are negotiated.
    pub(crate) fn size(element: &gst::Element, pad: &str) -> Option<(i32, i32)> {
        let caps = element.static_pad(pad)?.current_caps()?;
        let caps = caps.structure(0)?;
        Some((caps.get("width").ok()?, caps.get("height").ok()?))
    }
}

/// What a message says that GStreamer lacks, such as "H.264 decoder".
pub(super) fn missing_plugin(message: &gst::StructureRef) -> Option<String> {
    let of_type = (message.name() == "missing-plugin").then_some(message)?;
    of_type.get("name").ok()
}

/// Lets no more than `frames` frames through a filter, and tells the bus after them.
fn stop_after(pipeline: &gst::Pipeline, filter: &gst::Element, frames: u64) -> Result<()> {
    let pad = filter.static_pad("sink").context("no pad")?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let count = AtomicU64::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        // The one after the last: the filter is done with that.
        let passed = count.fetch_add(1, Ordering::Relaxed);
        if passed == frames {
            let message = gst::Structure::new_empty("frames-played");
            // Fails only while the pipeline stops.
            let _ = bus.post(gst::message::Application::new(message));
        }
        match passed < frames {
            true => gst::PadProbeReturn::Ok,
            // With GStreamer 1.22, `Drop` of the bindings logs a critical warning for each
            // frame (findings/rust-probe-drop.sh).
            false => gst::PadProbeReturn::Handled,
        }
    });
    Ok(())
}

/// Links the first video stream of a decoder.
pub(super) fn connect(decoder: &gst::Element, input: &gst::Pad) {
    let weak = input.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let is_video = (caps.structure(0)).is_some_and(|s| s.name().starts_with("video/"));
        if let (true, Some(input)) = (is_video, weak.upgrade())
            && !input.is_linked()
        {
            // An error of the stream follows.
            let _ = pad.link(&input);
        }
    });
    let weak = input.downgrade();
    decoder.connect_no_more_pads(move |decoder| {
        if weak.upgrade().is_some_and(|input| !input.is_linked()) {
            gst::element_error!(decoder, gst::StreamError::WrongType, ("it has no video"));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that are there and those that come later, in bins, too.
    #[test]
    fn decoders_copy_their_frames() {
        gst::init().unwrap();
        let decoder = || gst::ElementFactory::make("avdec_mpeg4").build();
        let (Ok(first), Ok(second)) = (decoder(), decoder()) else {
            println!("skipped: there is no avdec_mpeg4");
            return;
        };
        let pipeline = gst::Pipeline::new();
        pipeline.add(&first).unwrap();
        let pipeline = Pipeline::from(pipeline);
        let bin = gst::Bin::new();
        pipeline.0.add(&bin).unwrap();
        bin.add(&second).unwrap();
        for decoder in [first, second] {
            assert!(!decoder.property::<bool>("direct-rendering"));
        }
    }

    /// Plays a clip through a decoder that is linked once the parser has pads, while the thread
    /// that starts the pipeline stops for a moment after it has started the parser.
    fn plays(folder: &Path) -> bool {
        let clip = folder.join("clip.mkv");
        let writer = format!(
            "videotestsrc num-buffers=5 ! jpegenc ! matroskamux ! filesink location={}",
            clip.display()
        );
        let writer = gst::parse::launch(&writer).unwrap();
        writer.set_state(gst::State::Playing).unwrap();
        let ended = [gst::MessageType::Eos, gst::MessageType::Error];
        let written = writer.bus().unwrap();
        written.timed_pop_filtered(gst::ClockTime::from_seconds(20), &ended);
        writer.set_state(gst::State::Null).unwrap();

        let pipeline = Pipeline::new();
        let names = ["filesrc", "parsebin", "decodebin", "fakesink"];
        let [source, parser, decoder, sink] = names.map(|name| make(name).unwrap());
        source.set_property("location", &clip);
        // Of those that are not linked, a bin starts the last one first.
        let elements = [&decoder, &sink, &source, &parser];
        pipeline.0.add_many(elements).unwrap();
        source.link(&parser).unwrap();
        let target = decoder.static_pad("sink").unwrap();
        parser.connect_pad_added(move |_, pad| {
            pad.link(&target).unwrap();
        });
        connect(&decoder, &sink.static_pad("sink").unwrap());
        let bus = pipeline.0.bus().unwrap();
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::StateChanged(change) = message.view()
                && change.src() == Some(parser.upcast_ref())
                && change.current() == gst::State::Paused
            {
                thread::sleep(Duration::from_millis(500));
            }
            gst::BusSyncReply::Pass
        });
        start(&pipeline.0);
        let wait = gst::ClockTime::from_seconds(5);
        let end = bus.timed_pop_filtered(wait, &ended);
        end.is_some_and(|end| end.type_() == gst::MessageType::Eos)
    }

    #[test]
    fn nothing_streams_before_all_is_started() {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        // With `set_state` alone the clip is lost (GStreamer 1.22).
        assert!(plays(folder.path()));
    }
}
