//! Models that are too slow for a live stream: faster ones take over, and no frame is late.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::playing::{Played, alone, slow_model};
use gst::prelude::*;

fn live(properties: &str, frames: u32, live: bool) -> String {
    format!(
        "videotestsrc is-live={live} num-buffers={frames} pattern=ball \
         ! video/x-raw,format=I420,width=640,height=360,framerate=25/1 \
         ! srfilter name=sr scale=2 reuse=off {properties} \
         ! fakesink name=end sync=true qos=true max-lateness=5000000"
    )
}

#[test]
fn a_faster_model_takes_over_on_live_sources() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let slow = format!("weights={}", slow_model(dir.path()).display());
    let played = Played::of(&live(&slow, 100, true));
    let (processed, shown) = (played.count("processed"), played.shown());
    assert_eq!(processed + played.count("dropped"), 100);
    // The bench `live` holds the machine to more.
    assert!(shown >= 85, "{shown}");
    let (from, to, reason) = &played.changes[0];
    assert_eq!((from.as_str(), reason.as_str()), ("srcnn", "too-slow"));
    assert!(["espcn", "espcn-fast", "bicubic"].contains(&to.as_str()));
    assert_eq!(
        played.count("overload-changes"),
        played.changes.len() as u64
    );
    let active: String = played.element.get("active-model").unwrap();
    assert_eq!(active, played.changes.last().unwrap().1);
}

#[test]
fn nothing_changes_unless_it_is_asked_for() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let slow = format!("weights={}", slow_model(dir.path()).display());
    // A file, and a camera without models to fall back to: frames are dropped.
    let runs = [
        live(&slow, 25, false),
        live(&format!("{slow} fallback-models=\"\""), 25, true),
        live(&format!("{slow} on-overload=drop"), 25, true),
    ];
    for run in runs {
        let played = Played::of(&run);
        assert!(played.changes.is_empty(), "{run}");
        assert_eq!(played.count("processed") + played.count("dropped"), 25);
        assert!(played.count("dropped") > 0, "{run}");
    }
    let played = Played::of(&live(&format!("{slow} on-overload=block"), 12, true));
    assert_eq!(
        (played.count("processed"), played.count("dropped")),
        (12, 0)
    );
    let sink = &played.sink;
    assert_eq!(played.shown() + sink.get::<u64>("dropped").unwrap(), 12);
}

#[test]
fn files_fall_back_if_that_is_asked_for() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let slow = format!(
        "on-overload=fallback fallback-models=bicubic weights={}",
        slow_model(dir.path()).display()
    );
    let played = Played::of(&live(&slow, 75, false));
    assert_eq!(played.changes[0].1, "bicubic");
    assert!(played.shown() >= 70, "{}", played.shown());
}

#[test]
fn auto_takes_the_best_model_that_holds_the_rate() {
    let _alone = alone();
    let played = Played::of(&live("model=auto", 50, true));
    let active: String = played.element.get("active-model").unwrap();
    assert!(["espcn-hq", "espcn", "espcn-fast", "bicubic"].contains(&active.as_str()));
    assert!(played.shown() >= 42, "{}", played.shown());
    // Small frames, two a second: the best one there is.
    let small = live("model=auto", 3, true).replace("25/1", "2/1");
    let small = small.replace("640", "64").replace("360,", "36,");
    let played = Played::of(&small);
    assert_eq!(
        played.element.get::<String>("active-model").unwrap(),
        "espcn-hq"
    );
}

#[test]
fn unknown_fallback_models_are_refused() {
    let _alone = alone();
    let run = live("fallback-models=espcn,nonsense", 5, true);
    let pipeline = gst::parse::launch(&run).unwrap();
    assert!(pipeline.set_state(gst::State::Paused).is_err());
    let bus = pipeline.bus().unwrap();
    let types = [gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(5), &types);
    let text = match message.unwrap().view() {
        gst::MessageView::Error(e) => e.error().to_string(),
        _ => String::new(),
    };
    assert!(text.contains("nonsense"), "{text}");
    pipeline.set_state(gst::State::Null).unwrap();
}
