//! Models that are too slow for the sink: which frames are computed, shown, counted.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::playing::{Played, alone, slow_model};
use std::path::Path;

/// Width and height of frames for which the model takes some 10 to 50 ms here, whatever the
/// instruction set, and that time in milliseconds.
fn fitting_size(weights: &Path) -> ((u32, u32), f64) {
    let mut size = (40, 22);
    loop {
        let alone = Played::of(&format!(
            "videotestsrc num-buffers=8 ! video/x-raw,format=GRAY8,width={},height={} \
             ! srfilter name=sr weights={} qos=false ! fakesink",
            size.0,
            size.1,
            weights.display()
        ));
        let needed: f64 = alone.element.get("average-ms").unwrap();
        if needed > 12.0 || size.0 == 320 {
            return (size, needed);
        }
        size = (size.0 * 2, size.1 * 2);
    }
}

const SINK: &str = "fakesink name=end sync=true qos=true max-lateness=5000000";

/// A camera, or a file, and a model that takes 1.6 and 4 times as long as a frame lasts.
#[test]
fn frames_are_not_computed_in_vain() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let weights = slow_model(dir.path());
    let ((width, height), needed) = fitting_size(&weights);
    let source = |frames: u64, live: bool, rate: u32| {
        format!(
            "videotestsrc is-live={live} num-buffers={frames} \
             ! video/x-raw,format=GRAY8,width={width},height={height},framerate={rate}/1000 \
             ! srfilter name=sr reuse=off on-overload=drop weights={}",
            weights.display()
        )
    };
    for (factor, live) in [(1.6, true), (4.0, true), (1.6, false), (4.0, false)] {
        // Some three seconds.
        let rate = (1e6 * factor / needed) as u32;
        let frames = u64::from(3 * rate / 1000);
        let played = Played::of(&format!("{} ! {SINK}", source(frames, live, rate)));
        let (computed, shown) = (played.count("processed"), played.shown());
        println!("{factor}x, live {live}: {frames} frames, {computed} computed, {shown} shown");
        assert_eq!(
            played.count("dropped") + computed,
            frames,
            "{}",
            played.element
        );
        assert_eq!(shown + played.sink.get::<u64>("dropped").unwrap(), computed);
        assert!(played.count("dropped") > 0, "{}", played.element);
        // The bench `live` holds the machine to more.
        assert!(2 * shown > computed, "{factor}: {shown} of {computed}");
    }
}

/// A file whose decoder leaves frames out when it is told that they are late.
#[test]
fn frames_that_the_decoder_drops_are_counted() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (clip, weights) = (dir.path().join("clip.webm"), slow_model(dir.path()));
    let ((width, height), _) = fitting_size(&weights);
    Played::of(&format!(
        "videotestsrc num-buffers=150 pattern=ball \
         ! video/x-raw,format=I420,width={width},height={height},framerate=60/1 \
         ! vp8enc deadline=1 keyframe-max-dist=10 ! webmmux ! filesink location={}",
        clip.display()
    ));
    let played = Played::of(&format!(
        "filesrc location={} ! matroskademux ! vp8dec ! srfilter name=sr reuse=off weights={} ! {SINK}",
        clip.display(),
        weights.display()
    ));
    let (computed, shown) = (played.count("processed"), played.shown());
    let (dropped, missing) = (played.count("dropped"), played.count("missing"));
    println!("{computed} computed, {shown} shown, {dropped} dropped, {missing} missing");
    // The decoder may also drop the last frames, which no other follows.
    let all = computed + dropped + missing;
    assert!(
        (130..=150).contains(&all) && missing > 0,
        "{all}, {missing}"
    );
    assert!(2 * shown > computed, "{shown} of {computed}");
    assert_eq!(played.told("elements before this one drop frames"), 1);
}
