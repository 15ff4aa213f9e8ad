//! Changes `scale` and `model` of a running pipeline.
//!
//! The plugin is linked into the program: nothing needs to be installed.
//!
//! ```sh
//! cargo run --release --example live_scale [-- VIDEO]
//! ```

use anyhow::{Context, Result, bail};
use gst::prelude::*;

/// Model and scale to set, one after the other.
const CHANGES: [(&str, (i32, i32)); 5] = [
    ("hypersrcnn", (3, 2)),
    ("hypersrcnn", (3, 1)),
    ("srcnn", (2, 1)),
    ("bicubic", (4, 1)),
    ("hypersrcnn", (1, 1)),
];

fn main() -> Result<()> {
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    let source = match std::env::args().nth(1) {
        Some(file) => format!("filesrc location=\"{file}\" ! decodebin ! videoconvert"),
        None => "videotestsrc is-live=true num-buffers=250 ! video/x-raw,width=160,height=120"
            .to_owned(),
    };
    // qos=false: no frame is dropped, however long it takes.
    let pipeline = gst::parse::launch(&format!(
        "{source} ! srfilter name=sr qos=false ! fakesink name=sink sync=false"
    ))?;
    let pipeline = pipeline
        .downcast::<gst::Pipeline>()
        .ok()
        .context("not a pipeline")?;
    let sr = pipeline.by_name("sr").context("no element srfilter")?;
    pipeline.set_state(gst::State::Playing)?;

    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let mut changes = CHANGES.into_iter();
    loop {
        // Wait for a message, and change something when a second has passed without one.
        let Some(message) = bus.timed_pop(gst::ClockTime::SECOND) else {
            if let Some((model, (numer, denom))) = changes.next() {
                sr.set_property("model", model);
                sr.set_property("scale", gst::Fraction::new(numer, denom));
                println!("set model={model} scale={numer}/{denom}");
            }
            println!("    {}", sr.property::<gst::Structure>("stats"));
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(e) => bail!("{} ({:?})", e.error(), e.debug()),
            gst::MessageView::Warning(w) => println!("warning: {}", w.error()),
            _ => {}
        }
    }
    println!("end: {}", sr.property::<gst::Structure>("stats"));
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
