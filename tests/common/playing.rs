//! Pipelines played as applications do, with an element whose model may be too slow.

use gst::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The measurements take the whole machine: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    gst::init().unwrap();
    // Fails if it is registered.
    let _ = gstsrfilter::plugin_register_static();
    guard
}

/// A file with an untrained SRCNN, too slow for high rates and large frames.
pub fn slow_model(dir: &Path) -> PathBuf {
    let path = dir.join("slow.safetensors");
    let config = srfilter::models::srcnn::Config::default();
    let architecture = srfilter::models::Architecture::Srcnn(config);
    super::save(&path, architecture, srfilter::models::Scales::Any, 1);
    path
}

/// What a run has led to.
pub struct Played {
    warnings: Vec<String>,
    /// From, to and reason of each change because of overload.
    pub changes: Vec<(String, String, String)>,
    pub element: gst::Structure,
    pub sink: gst::Structure,
}

impl Played {
    /// A pipeline, played to its end, with an element `sr` and a sink `end`.
    pub fn of(description: &str) -> Self {
        let pipeline = gst::parse::launch(description).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let (mut warnings, mut changes) = (Vec::new(), Vec::new());
        loop {
            let patience = gst::ClockTime::from_seconds(120);
            let message = pipeline.bus().unwrap().timed_pop(patience);
            match message.expect("the pipeline hangs").view() {
                gst::MessageView::Eos(_) => break,
                gst::MessageView::Error(e) => panic!("{} {:?}", e.error(), e.debug()),
                gst::MessageView::Warning(w) => warnings.push(w.error().to_string()),
                gst::MessageView::Latency(_) => pipeline.recalculate_latency().unwrap(),
                gst::MessageView::Element(e) if e.has_name("srfilter-overload") => {
                    let structure = e.structure().unwrap();
                    println!("{structure}");
                    let field = |name| structure.get::<String>(name).unwrap();
                    assert!(structure.get::<f64>("needed-ms").unwrap() > 0.0);
                    assert!(structure.get::<f64>("available-ms").is_ok());
                    changes.push((field("from"), field("to"), field("reason")));
                }
                _ => {}
            }
        }
        let stats = |name| {
            let element = pipeline.by_name(name);
            element.map(|e| e.property("stats"))
        };
        let none = || gst::Structure::new_empty("none");
        let played = Self {
            warnings,
            changes,
            element: stats("sr").unwrap_or_else(none),
            sink: stats("end").unwrap_or_else(none),
        };
        pipeline.set_state(gst::State::Null).unwrap();
        println!("{}\n{}", played.element, played.sink);
        played
    }

    /// A field of the element's statistics.
    pub fn count(&self, field: &str) -> u64 {
        self.element.get(field).unwrap()
    }

    /// Frames that the sink showed.
    pub fn shown(&self) -> u64 {
        self.sink.get("rendered").unwrap()
    }

    /// Number of warnings with these words.
    pub fn told(&self, words: &str) -> usize {
        self.warnings.iter().filter(|w| w.contains(words)).count()
    }
}
