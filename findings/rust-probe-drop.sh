#!/usr/bin/env bash
# gstreamer (Rust bindings) 0.25.4: a pad probe that drops buffers logs a GStreamer-CRITICAL
# for each of them on GStreamer 1.22.
#
# Guess: a probe that returns PadProbeReturn::Drop drops the buffer silently, on every version
# of GStreamer that the crate supports.
# Seen: with GStreamer 1.22.0, three dropped buffers give three times
# "gst_mini_object_unref: assertion 'mini_object != NULL' failed": the binding has taken the
# buffer out of the probe's info, and that version of the C code releases it all the same. The
# buffers are dropped and the pipeline ends well, but not with G_DEBUG=fatal-criticals. The same
# program is silent with GStreamer 1.28.8.
#
# Needs cargo and GStreamer's development files (1.22 or later); outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat > "$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.1.0"
edition = "2024"
rust-version = "1.92"

[dependencies]
gst = { package = "gstreamer", version = "=0.25.4" }
TOML
cat > "$dir/src/main.rs" <<'RUST'
use gst::prelude::*;

fn main() {
    gst::init().unwrap();
    println!("{}", gst::version_string());
    let text = "fakesrc num-buffers=3 ! fakesink name=sink";
    let pipeline = gst::parse::launch(text).unwrap().downcast::<gst::Pipeline>().unwrap();
    let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Drop);
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &ends);
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
}
RUST
(cd "$dir" && cargo build --quiet && target/debug/finding) > "$dir/out" 2> "$dir/err"
cat "$dir/out"
seen=$(grep -c "gst_mini_object_unref: assertion 'mini_object != NULL' failed" "$dir/err" || true)
echo "three buffers dropped, $seen criticals"
case $(cat "$dir/out") in
    "GStreamer 1.22."*) [ "$seen" = 3 ] ;;
    "GStreamer 1.28."*) [ "$seen" = 0 ] ;;
    *) echo "not tried with this version" >&2; exit 1 ;;
esac
