//! What applications and their authors expect of an element: presets, a limit of the
//! output size, a description, no leaks, a known latency.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{PATIENCE, init};
use gst::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a test of this program in a process of its own; returns its output.
fn child(name: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let text = text.concat();
    assert!(output.status.success(), "{text}");
    text
}

/// Plays a pipeline to its end, or to its error.
fn play(description: &str) -> Result<(), String> {
    init();
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    // Fails with a message.
    let _ = pipeline.set_state(gst::State::Playing);
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(PATIENCE, &ends);
    let message = message.expect("the pipeline hangs");
    pipeline.set_state(gst::State::Null).unwrap();
    match message.view() {
        gst::MessageView::Error(error) => Err(error.error().to_string()),
        _ => Ok(()),
    }
}

#[test]
fn presets_need_no_file() {
    init();
    let element = gst::ElementFactory::make("srfilter").build().unwrap();
    let preset = element.dynamic_cast_ref::<gst::Preset>().unwrap();
    let names = preset.preset_names();
    for (name, model) in [
        ("realtime", "espcn-fast"),
        ("balanced", "espcn"),
        ("quality", "compact"),
    ] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
        let comment = preset.meta(name, "comment").unwrap();
        assert!(comment.contains(model), "{comment}");
        assert_eq!(preset.meta(name, "author"), None);
        element.set_property("weights", "mine.safetensors");
        preset.load_preset(name).unwrap();
        assert_eq!(element.property::<String>("model"), model);
        assert_eq!(element.property::<Option<String>>("weights"), None);
        assert_eq!(
            element.property::<gst::Fraction>("scale"),
            gst::Fraction::new(2, 1)
        );
    }
    assert!(preset.load_preset("nonesuch").is_err());
    assert_eq!(preset.meta("nonesuch", "comment"), None);
}

#[test]
fn saved_presets_replace_built_in_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    child("presets_child", &[("XDG_DATA_HOME", path)]);
}

#[test]
#[ignore = "run by saved_presets_replace_built_in_ones, in a process of its own"]
fn presets_child() {
    init();
    let make = || gst::ElementFactory::make("srfilter").build().unwrap();
    let element = make();
    let preset = element.dynamic_cast_ref::<gst::Preset>().unwrap();
    element.set_property("model", "bicubic");
    for name in ["mine", "realtime"] {
        preset.save_preset(name).unwrap();
    }
    let other = make();
    let preset = other.dynamic_cast_ref::<gst::Preset>().unwrap();
    let mut names = preset.preset_names();
    names.sort();
    assert_eq!(names, ["balanced", "mine", "quality", "realtime"]);
    for (name, model) in [
        ("mine", "bicubic"),
        ("balanced", "espcn"),
        ("realtime", "bicubic"),
    ] {
        preset.load_preset(name).unwrap();
        assert_eq!(other.property::<String>("model"), model, "{name}");
    }
}

#[test]
fn gst_launch_takes_presets() {
    let source = "videotestsrc num-buffers=2 ! video/x-raw,width=64,height=48";
    for name in ["realtime", "balanced", "quality"] {
        play(&format!("{source} ! srfilter @preset={name} ! fakesink")).unwrap();
    }
}

#[test]
fn outputs_beyond_the_limit_are_refused() {
    let run = |limit: u64, scale: &str| {
        play(&format!(
            "videotestsrc num-buffers=2 ! video/x-raw,format=GRAY8,width=64,height=48 ! \
             srfilter model=bicubic scale={scale} max-pixels={limit} ! fakesink"
        ))
    };
    run(0, "2/1").unwrap();
    run(128 * 96, "2/1").unwrap();
    let error = run(128 * 96 - 1, "2/1").unwrap_err();
    for word in ["128x96", "12288", "max-pixels=12287", "smaller scale"] {
        assert!(error.contains(word), "{error}");
    }
    assert!(run(128 * 96, "3/1").is_err());
}

/// The plugin that cargo built with this test, alone in a folder.
fn plugin_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let built = exe.with_file_name("libgstsrfilter.so");
    std::os::unix::fs::symlink(built, folder.path().join("libgstsrfilter.so")).unwrap();
    folder
}

/// What gst-inspect-1.0 prints, without what depends on versions, paths and the
/// features of the build: the plugin's details, the caps, the base classes' properties,
/// and spaces.
fn description(text: &str) -> String {
    let (mut lines, mut keep, mut inherited) = (Vec::new(), false, false);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if indent == 0 && !line.is_empty() {
            keep = [
                "Factory Details",
                "Element Properties",
                "Presets",
                "Implemented Interfaces",
            ]
            .iter()
            .any(|title| line.starts_with(title));
        }
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let property = (indent == 2).then(|| line.split_once(" : ")).flatten();
        if let Some((name, _)) = property {
            inherited = ["name", "parent", "qos"].contains(&name);
        }
        if indent == 0 {
            inherited = false;
        }
        // Some versions print the comments of presets.
        // From 1.26 on the types of a structure's fields.
        let line = match line.rsplit_once(" (g") {
            Some((field, _)) if line.ends_with(')') => field.to_owned(),
            _ => match line.strip_suffix(" (string)") {
                Some(field) => field.to_owned(),
                None => line,
            },
        };
        let line = match line.split_once("\": ") {
            Some((name, _)) if indent == 2 => format!("{name}\""),
            _ => line,
        };
        if keep && !inherited && !line.is_empty() {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// `UPDATE=1 cargo test --release --workspace --test manners` writes the file anew.
#[test]
fn gst_inspect_prints_what_is_written_down() {
    let folder = plugin_folder();
    let output = Command::new("gst-inspect-1.0")
        .args(["--no-colors", "srfilter"])
        .env("GST_PLUGIN_PATH", folder.path())
        .env("GST_PLUGIN_SYSTEM_PATH", "")
        .env("GST_REGISTRY", folder.path().join("registry"))
        .env("XDG_DATA_HOME", folder.path())
        .env("LC_ALL", "C")
        .output();
    let Ok(output) = output else {
        println!("skipped: gst-inspect-1.0 is not installed (gstreamer1.0-tools)");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found = description(&String::from_utf8(output.stdout).unwrap());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(
        found == expected,
        "gst-inspect-1.0 says otherwise; if that is meant, run this test with UPDATE=1:\n{found}"
    );
    assert!(
        found.contains("max-pixels") && found.contains("realtime"),
        "{found}"
    );
}

/// Objects that the tracer found alive.
fn leaks(output: &str) -> Vec<&str> {
    let leaked = |line: &&str| line.contains(":: object-alive,");
    output.lines().filter(leaked).collect()
}

const LEAKS: [(&str, &str); 2] = [("GST_TRACERS", "leaks"), ("GST_DEBUG", "GST_TRACER:7")];

#[test]
fn nothing_leaks() {
    let output = child("leaks_child", &LEAKS);
    assert!(output.contains("played all"), "{output}");
    assert!(leaks(&output).is_empty(), "{:#?}", leaks(&output));
    // The tracer finds what does leak.
    let output = child("leaks_child", &[LEAKS[0], LEAKS[1], ("LEAK", "1")]);
    assert_eq!(leaks(&output).len(), 1, "{output}");
}

#[test]
#[ignore = "run by nothing_leaks, in a process of its own"]
fn leaks_child() {
    {
        let source = "videotestsrc num-buffers=4 ! video/x-raw,format=I420,width=64,height=48";
        play(&format!("{source} ! srfilter measure=true ! fakesink")).unwrap();
        play(&format!(
            "{source} ! srfilter @preset=realtime scale=3/2 ! queue ! fakesink"
        ))
        .unwrap();
        play(&format!(
            "{source} ! srfilter ! video/x-raw,width=300,height=100 ! fakesink"
        ))
        .unwrap();
        // Errors: before the first frame, and when caps are negotiated.
        play(&format!("{source} ! srfilter weights=nonesuch ! fakesink")).unwrap_err();
        play(&format!("{source} ! srfilter max-pixels=9 ! fakesink")).unwrap_err();
        let element = gst::ElementFactory::make("srfilter").build().unwrap();
        let preset = element.dynamic_cast_ref::<gst::Preset>().unwrap();
        assert!(preset.preset_names().len() >= 3);
        preset.meta("quality", "comment").unwrap();
        element.property::<gst::Structure>("stats");
        if std::env::var_os("LEAK").is_some() {
            std::mem::forget(gst::Caps::new_empty_simple("video/x-leaked"));
        }
    }
    println!("played all");
    // SAFETY: nothing of GStreamer is used any more.
    unsafe { gst::deinit() };
}

#[test]
fn the_latency_tracer_knows_the_element() {
    if matches!(gst::version(), (1, 26, ..)) {
        eprintln!("skipped: this tracer of 1.26.2 stops every pipeline, with any element");
        return;
    }
    let tracers = [
        ("GST_TRACERS", "latency(flags=element)"),
        ("GST_DEBUG", "GST_TRACER:7"),
    ];
    let output = child("latency_child", &tracers);
    let times: Vec<u64> = (output.lines())
        .filter(|line| {
            line.contains("element-latency,") && line.contains("element=(string)measured")
        })
        .map(|line| {
            let (_, time) = line.split_once("time=(guint64)").unwrap();
            time.split([',', ';'])
                .next()
                .unwrap()
                .trim()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(times.len() >= 7, "{output}");
    // 64x48 by espcn takes less than a second and more than nothing.
    assert!(
        times
            .iter()
            .all(|time| (1_000..1_000_000_000).contains(time)),
        "{times:?}"
    );
}

#[test]
#[ignore = "run by the_latency_tracer_knows_the_element, in a process of its own"]
fn latency_child() {
    play(
        "videotestsrc num-buffers=8 ! video/x-raw,format=I420,width=64,height=48 ! \
         srfilter name=measured model=espcn ! fakesink",
    )
    .unwrap();
}

/// Two streams with their own models in one process.
#[test]
fn two_streams_run_in_one_process() {
    play(
        "videotestsrc num-buffers=8 ! video/x-raw,width=96,height=64 ! \
         srfilter model=espcn scale=2 ! fakesink \
         videotestsrc num-buffers=8 ! video/x-raw,width=64,height=48 ! \
         srfilter model=espcn-fast scale=3/2 ! fakesink",
    )
    .unwrap();
}

/// The buffers of the audio stream of a file, by their hashes.
fn audio(file: &Path) -> Vec<Vec<u8>> {
    init();
    let description = "filesrc name=file ! matroskademux name=d d.audio_0 ! queue ! \
                       appsink name=end sync=false d.video_0 ! queue ! fakesink sync=false";
    let pipeline = gst::parse::launch(description).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    pipeline
        .by_name("file")
        .unwrap()
        .set_property("location", file);
    let sink = pipeline.by_name("end").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut packets = Vec::new();
    while let Some(sample) = sink.emit_by_name::<Option<gst::Sample>>("pull-sample", &[]) {
        packets.push(sample.buffer().unwrap().map_readable().unwrap().to_vec());
    }
    pipeline.set_state(gst::State::Null).unwrap();
    packets
}

/// The recipe "file to file, with the sound untouched" of docs/recipes.md.
#[test]
fn sound_passes_from_file_to_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let (from, to) = (path("in.webm"), path("out.mkv"));
    play(&format!(
        "webmmux name=mux ! filesink location={} \
         videotestsrc num-buffers=25 ! video/x-raw,width=96,height=64,framerate=25/1 ! \
         vp8enc deadline=1 ! queue ! mux. \
         audiotestsrc num-buffers=43 ! audioconvert ! vorbisenc ! queue ! mux.",
        from.display()
    ))
    .unwrap();
    play(&format!(
        "filesrc location={} ! matroskademux name=d matroskamux name=mux ! filesink location={} \
         d.video_0 ! queue ! decodebin ! videoconvert ! srfilter scale=2 qos=false ! \
         video/x-raw,width=192,height=128 ! vp8enc deadline=1 ! queue ! mux. \
         d.audio_0 ! queue ! vorbisparse ! mux.",
        from.display(),
        to.display()
    ))
    .unwrap();
    let (before, after) = (audio(&from), audio(&to));
    assert!(before.len() > 20, "{}", before.len());
    assert!(
        before == after,
        "{} and {} packets",
        before.len(),
        after.len()
    );
}
