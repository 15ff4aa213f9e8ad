//! `sr video`: what it keeps of a file, and how it goes on after a kill.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "video")]

use gst::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// Packets of a file by media type and stream: when they are shown, and a hash of their bytes.
type Packets = BTreeMap<String, Vec<(Option<u64>, u64)>>;

fn sr() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr"));
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    sr().args(args).output().unwrap()
}

fn runs(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    // Seeks lead where they should.
    assert!(!error.contains("from the beginning"), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn error(args: &[&str]) -> String {
    let output = run(args);
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn play(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    for message in bus.iter_timed(gst::ClockTime::from_seconds(60)) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Plays a launch line to its end.
fn launch(line: &str) {
    gst::init().unwrap();
    play(&gst::parse::launch(line).unwrap().downcast().unwrap());
}

/// A clip with a variable rate, pictures that are shown out of order, two tracks of sound
/// and subtitles, and pixels that are not square; `seed` changes the picture.
fn clip(file: &Path, seconds: u32, seed: u32) {
    gst::init().unwrap();
    let (frames, sound) = (25 * seconds, 50 * seconds);
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc pattern=ball num-buffers={frames} background-color={} ! video/x-raw,\
         format=I420,width=96,height=64,framerate=25/1,pixel-aspect-ratio=4/3 ! identity name=gate \
         ! x264enc bframes=2 b-adapt=false key-int-max=24 ! video/x-h264,profile=high \
         ! h264parse ! matroskamux name=mux ! filesink location={} \
         audiotestsrc num-buffers={sound} samplesperbuffer=960 ! audio/x-raw,rate=48000 \
         ! opusenc ! mux. \
         audiotestsrc freq=900 num-buffers={sound} samplesperbuffer=960 ! audio/x-raw,rate=48000 \
         ! flacenc ! mux. \
         appsrc name=text format=time ! text/x-raw,format=utf8 ! mux.subtitle_%u",
        0xff00_0000 + seed,
        text(file)
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let mut count = 0;
    let gate = Mutex::new(move || {
        count += 1;
        count % 7 != 3
    });
    let pad = pipeline.by_name("gate").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        match (gate.lock().unwrap())() {
            true => gst::PadProbeReturn::Ok,
            false => gst::PadProbeReturn::Handled,
        }
    });
    let source = pipeline.by_name("text").unwrap();
    let source = source.downcast::<gst_app::AppSrc>().unwrap();
    for (start, line) in [(400, "Hello <i>there</i> & you"), (1500, "Zwei")] {
        let mut buffer = gst::Buffer::from_slice(line.as_bytes());
        let filled = buffer.get_mut().unwrap();
        filled.set_pts(gst::ClockTime::from_mseconds(start));
        filled.set_duration(gst::ClockTime::from_mseconds(300));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    play(&pipeline);
}

/// The packets of a file, and the caps of its streams.
fn packets(file: &Path) -> (Packets, Vec<gst::Caps>) {
    gst::init().unwrap();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("filesrc");
    let source = source.property("location", file).build().unwrap();
    let parser = gst::ElementFactory::make("parsebin").build().unwrap();
    pipeline.add_many([&source, &parser]).unwrap();
    source.link(&parser).unwrap();
    let found = Arc::new(Mutex::new((Packets::new(), Vec::new())));
    let (noted, weak) = (Arc::clone(&found), pipeline.downgrade());
    parser.connect_pad_added(move |_, pad| {
        let pipeline = weak.upgrade().unwrap();
        let sink = gst::ElementFactory::make("fakesink");
        let sink = sink
            .property("async", false)
            .property("sync", false)
            .build();
        let sink = sink.unwrap();
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let noted = Arc::clone(&noted);
        let first = Mutex::new(true);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            // From 1.24 on some pads appear before their caps.
            let caps = pad.current_caps().unwrap();
            let name = caps.structure(0).unwrap().name().to_string();
            let buffer = info.buffer().unwrap();
            let mut hasher = DefaultHasher::new();
            buffer.map_readable().unwrap().hash(&mut hasher);
            let packet = (buffer.pts().map(gst::ClockTime::nseconds), hasher.finish());
            let mut noted = noted.lock().unwrap();
            if std::mem::take(&mut *first.lock().unwrap()) {
                noted.1.push(caps);
            }
            noted.0.entry(name).or_default().push(packet);
            gst::PadProbeReturn::Ok
        });
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    });
    play(&pipeline);
    std::mem::take(&mut *found.lock().unwrap())
}

/// Checks that two files hold the same packets.
fn assert_same(a: &Path, b: &Path) {
    let ((a, _), (b, _)) = (packets(a), packets(b));
    assert!(a.keys().eq(b.keys()), "{:?} {:?}", a.keys(), b.keys());
    for (kind, a) in &a {
        let differ = a.iter().zip(&b[kind]).find(|(a, b)| a != b);
        assert!(
            differ.is_none() && a.len() == b[kind].len(),
            "{kind}: {differ:?}"
        );
    }
}

fn times(packets: &Packets) -> Vec<u64> {
    let mut times: Vec<_> = packets["video/x-h264"]
        .iter()
        .map(|p| p.0.unwrap())
        .collect();
    times.sort_unstable();
    times
}

/// The lines of JSON of a kind.
fn events(out: &str, event: &str) -> Vec<serde_json::Value> {
    let lines = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

fn hashes(out: &str) -> Vec<String> {
    let mut segments = events(out, "segment");
    segments.sort_by_key(|line| line["index"].as_u64());
    let hashes = segments
        .iter()
        .map(|line| line["frames_hash"].as_str().unwrap().to_owned());
    hashes.collect()
}

#[test]
fn times_sound_and_subtitles_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.mkv"), dir.path().join("out.mkv"));
    clip(&input, 4, 1);
    let args = [
        "video",
        text(&input),
        text(&output),
        "--model",
        "espcn-fast",
        "--seconds",
        "1",
        "--json",
    ];
    let out = runs(&args);
    let done = &events(&out, "done")[0];
    let ((before, _), (after, caps)) = (packets(&input), packets(&output));
    assert_eq!(before.len(), 4);
    assert_eq!(times(&before), times(&after));
    assert!(times(&before).len() < 100 && done["frames"] == times(&before).len());
    for kind in before.keys().filter(|kind| *kind != "video/x-h264") {
        assert_eq!(before[kind], after[kind], "{kind}");
    }
    let video = caps.iter().map(|caps| caps.structure(0).unwrap());
    let video = video
        .into_iter()
        .find(|s| s.name() == "video/x-h264")
        .unwrap();
    let size = (
        video.get::<i32>("width").unwrap(),
        video.get::<i32>("height").unwrap(),
    );
    let ratio = video.get::<gst::Fraction>("pixel-aspect-ratio").unwrap();
    assert_eq!((size, ratio), ((192, 128), gst::Fraction::new(4, 3)));
    assert!(events(&out, "segment").len() >= 3);
    // Nothing is left.
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 2);
    let error = error(&args);
    assert!(
        error.contains("exists; overwrite it with --force"),
        "{error}"
    );
}

/// 10 bits, pixels of 64:45 and groups of pictures that need the next keyframe, divided or not.
#[test]
fn depth_pixels_and_open_groups_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.mkv");
    launch(&format!(
        "videotestsrc pattern=ball num-buffers=100 ! video/x-raw,format=I420_10LE,width=90,\
         height=64,framerate=25/1,pixel-aspect-ratio=64/45,colorimetry=bt709 \
         ! x264enc bframes=3 b-adapt=false key-int-max=20 option-string=open-gop=1:scenecut=0 \
         ! video/x-h264,profile=high-10 ! h264parse ! matroskamux ! filesink location={}",
        text(&input)
    ));
    let (parts, whole) = (dir.path().join("parts.mkv"), dir.path().join("whole.mkv"));
    let mut counts = Vec::new();
    for (output, seconds) in [(&parts, "1"), (&whole, "100")] {
        let settings = ["--model", "espcn-fast", "--seconds", seconds, "--json"];
        let out = runs(&[&["video", text(&input), text(output)], settings.as_slice()].concat());
        counts.push(events(&out, "segment").len());
    }
    assert!(counts[0] >= 3 && counts[1] == 1, "{counts:?}");
    let before = times(&packets(&input).0);
    assert_eq!(before.len(), 100);
    for output in [&parts, &whole] {
        let (after, caps) = packets(output);
        assert_eq!(times(&after), before);
        let video = caps[0].structure(0).unwrap();
        assert_eq!(video.get::<u32>("bit-depth-luma").unwrap(), 10);
        let ratio = video.get::<gst::Fraction>("pixel-aspect-ratio").unwrap();
        assert_eq!(ratio, gst::Fraction::new(64, 45));
        assert_eq!(video.get::<String>("colorimetry").unwrap(), "bt709");
    }
    // Lossless, the frames can be compared.
    let frames = |seconds: &str| -> Vec<u8> {
        let (output, raw) = (dir.path().join("lossless.mkv"), dir.path().join("raw"));
        let settings = ["--encoder", "ffv1", "--model", "espcn-fast", "--force"];
        let args = ["video", text(&input), text(&output), "--seconds", seconds];
        runs(&[args.as_slice(), settings.as_slice()].concat());
        launch(&format!(
            "filesrc location={} ! decodebin ! filesink location={}",
            text(&output),
            text(&raw)
        ));
        std::fs::read(&raw).unwrap()
    };
    let divided = frames("1");
    assert!(divided.len() > 100 * 180 * 128 && divided == frames("100"));
}

/// Mastering display and light level are those of the input, whatever holds them.
#[test]
fn hdr_metadata_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.mkv");
    launch(&format!(
        "videotestsrc num-buffers=5 ! video/x-raw,format=I420_10LE,width=96,height=64,\
         framerate=25/1 ! capssetter replace=false caps=\"video/x-raw,colorimetry=bt2100-pq,\
         mastering-display-info=(string)34000:16000:13250:34500:7500:3000:15635:16450:50000000:250,\
         content-light-level=(string)1000:400\" ! avenc_ffv1 ! matroskamux ! filesink location={}",
        text(&input)
    ));
    let metadata = |file: &Path| {
        let (_, caps) = packets(file);
        ["mastering-display-info", "content-light-level"].map(|field| {
            let video = caps[0].structure(0).unwrap();
            video.get::<String>(field).unwrap()
        })
    };
    let before = metadata(&input);
    assert!(before[0].starts_with("34000:16000:"), "{before:?}");
    let convert = |name: &str, more: &[&str]| {
        let output = dir.path().join(name);
        let args = [
            "video",
            text(&input),
            text(&output),
            "--model",
            "espcn-fast",
        ];
        (run(&[args.as_slice(), more].concat()), output)
    };
    for name in ["out.mkv", "out.mp4", "out.mov"] {
        let (done, output) = convert(name, &[]);
        assert!(done.status.success(), "{name}: {done:?}");
        assert_eq!(metadata(&output), before, "{name}");
    }
    let prores = ["--encoder", "prores"];
    let (refused, _) = convert("prores.mov", &prores);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("cannot hold the HDR metadata of prores video: use mkv, or --drop"),
        "{error}"
    );
    let (dropped, _) = convert("prores.mov", &[&prores, ["--drop"].as_slice()].concat());
    assert!(dropped.status.success(), "{dropped:?}");
}

/// Titles of any letters go over as they are.
#[test]
fn titles_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.mkv"), dir.path().join("out.mkv"));
    gst::init().unwrap();
    let title = "K\u{e4}se \"and\" more";
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=25 ! video/x-raw,format=I420,width=96,height=64,framerate=25/1 \
         ! x264enc ! h264parse ! matroskamux name=mux ! filesink location={}",
        text(&input)
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let muxer = pipeline.by_name("mux").unwrap();
    let setter = muxer.dynamic_cast_ref::<gst::TagSetter>().unwrap();
    setter.add_tag::<gst::tags::Title>(&title, gst::TagMergeMode::Replace);
    play(&pipeline);
    // `matroskamux` (1.22) writes it in quotes.
    let written = title.to_value().serialize().unwrap();
    let mut bytes = std::fs::read(&input).unwrap();
    let place = bytes
        .windows(written.len())
        .position(|w| w == written.as_bytes());
    if let Some(place) = place {
        let mut plain = title.as_bytes().to_vec();
        plain.resize(written.len(), 0);
        bytes[place..place + written.len()].copy_from_slice(&plain);
        std::fs::write(&input, &bytes).unwrap();
    }
    runs(&[
        "video",
        text(&input),
        text(&output),
        "--model",
        "espcn-fast",
    ]);
    let bytes = std::fs::read(&output).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has(title) && !has(&written));
}

/// A part of a file begins at 0, and its sound with it.
#[test]
fn a_part_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.mkv"), dir.path().join("out.mkv"));
    clip(&input, 4, 2);
    let part = ["--start", "1.2", "--end", "3"];
    let args = [
        ["video", text(&input), text(&output), "--model"],
        ["espcn-fast", "--seconds", "1", "--json"],
    ];
    runs(&[args.concat(), part.to_vec()].concat());
    let ((before, _), (after, _)) = (packets(&input), packets(&output));
    let second = 1_000_000_000;
    let (start, end) = (12 * second / 10, 3 * second);
    let expected: Vec<u64> = (times(&before).into_iter())
        .filter(|time| (start..end).contains(time))
        .map(|time| time - start)
        .collect();
    assert_eq!(times(&after), expected);
    let sound = |packets: &Packets| -> Vec<_> { packets["audio/x-opus"].clone() };
    let expected: Vec<_> = (sound(&before).into_iter())
        .filter(|(time, _)| (start..end).contains(&time.unwrap()))
        .map(|(time, hash)| (time.map(|time| time - start), hash))
        .collect();
    assert_eq!(sound(&after), expected);
    assert_eq!(after["text/x-raw"].len(), 1);
}

/// Killed at any moment and run again: the bytes of an unbroken run, and at most one segment
/// is computed twice.
#[test]
fn killed_runs_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.mkv");
    clip(&input, 6, 3);
    let command = |output: &Path| -> Vec<String> {
        let args = [
            "video",
            text(&input),
            text(output),
            "--model",
            "srcnn",
            "--seconds",
            "1",
        ];
        args.iter()
            .chain(&["--threads", "1", "--json"])
            .map(ToString::to_string)
            .collect()
    };
    let whole = dir.path().join("whole.mkv");
    let start = std::time::Instant::now();
    let expected = sr().args(command(&whole)).output().unwrap();
    let duration = start.elapsed();
    let expected = hashes(&String::from_utf8(expected.stdout).unwrap());
    assert!(expected.len() >= 5);
    let mut random = 7u64;
    for round in 0..10 {
        let output = dir.path().join(format!("{round}.mkv"));
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let share = (random >> 40) as f64 / (1u64 << 24) as f64;
        let mut child = sr()
            .args(command(&output))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64(share));
        child.kill().unwrap();
        child.wait().unwrap();
        let parts = PathBuf::from(format!("{}.parts", text(&output)));
        let files = std::fs::read_dir(&parts).into_iter().flatten().flatten();
        let finished = files.filter(|file| file.file_name().to_string_lossy().ends_with(".json"));
        let finished = finished.count();
        // It was done, but for the removal of its parts.
        let was_done = output.exists();
        if was_done {
            std::fs::remove_file(&output).unwrap();
        }
        let args = command(&output);
        let out = runs(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let kept = events(&out, "segment")
            .iter()
            .filter(|line| line["kept"] == true)
            .count();
        assert!(
            kept == finished || was_done,
            "round {round}: {kept} {finished}"
        );
        assert_eq!(hashes(&out), expected, "round {round}");
        assert_same(&output, &whole);
        assert!(!parts.exists());
    }
}

/// Segments that are computed one by one, in any order and with any threads, join to the
/// same file; what does not belong is found out.
#[test]
fn segments_are_computed_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (input, whole) = (dir.path().join("in.mkv"), dir.path().join("whole.mkv"));
    clip(&input, 4, 4);
    // What is estimated depends on the segment alone.
    let settings = ["--damage", "auto", "--seconds", "1"];
    let expected = hashes(&runs(
        &[
            &["video", text(&input), text(&whole), "--json"],
            settings.as_slice(),
        ]
        .concat(),
    ));
    let plan = dir.path().join("plan.json");
    let printed = runs(&[&["video", "plan", text(&input)], settings.as_slice()].concat());
    let planned: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let (model, damage) = (
        &planned["settings"]["model"],
        &planned["settings"]["damage"],
    );
    assert_eq!((model, damage), (&json!("espcn"), &json!("auto")));
    std::fs::write(&plan, printed).unwrap();
    let parts = dir.path().join("parts");
    let segment = |index: usize, more: &[&str]| -> Vec<String> {
        let index = index.to_string();
        let args = [
            "video",
            "segment",
            text(&plan),
            &index,
            "--out",
            text(&parts),
        ];
        args.iter().chain(more).map(ToString::to_string).collect()
    };
    let compute = |index: usize, more: &[&str]| {
        let args = segment(index, more);
        runs(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut found = String::new();
    for index in (0..expected.len()).rev() {
        // From its part of the file, without the file.
        let packets = dir.path().join(format!("{index}.gdp"));
        let more = if index % 2 == 0 {
            ["--threads", "1"]
        } else {
            let cut = ["video", "cut", text(&plan), &index.to_string(), "--out"];
            runs(&[cut.as_slice(), &[text(&packets)]].concat());
            std::fs::rename(&input, dir.path().join("away.mkv")).unwrap();
            ["--packets", text(&packets)]
        };
        found += &compute(index, &more);
        if index % 2 == 1 {
            std::fs::rename(dir.path().join("away.mkv"), &input).unwrap();
        }
    }
    assert_eq!(hashes(&found), expected);
    let finished = runs(&["video", "check", text(&plan), text(&parts)]);
    assert_eq!(hashes(&finished), expected);
    let joined = dir.path().join("joined.mkv");
    let join = ["video", "join", text(&plan), text(&parts), text(&joined)];
    runs(&join);
    assert_same(&joined, &whole);
    assert!(
        std::fs::read(&joined).unwrap() == std::fs::read(&whole).unwrap(),
        "the same bytes"
    );
    assert!(compute(0, &[]).contains("\"kept\":true"));

    // A segment that is damaged is computed again.
    let file = parts.join("segment-00001.packets");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let problem = error(&[join.as_slice(), &["--force"]].concat());
    assert!(problem.contains("segment 1 is missing in"), "{problem}");
    let finished = hashes(&runs(&["video", "check", text(&plan), text(&parts)]));
    assert_eq!(
        finished,
        [&expected[..1], &expected[2..]].concat(),
        "segment 1 is damaged"
    );
    assert!(compute(1, &[]).contains("\"kept\":false"));
    runs(&[join.as_slice(), &["--force"]].concat());

    // Another input of the same name.
    clip(&input, 4, 0xff_00ff);
    std::fs::remove_file(parts.join("segment-00000.json")).unwrap();
    let args = segment(0, &[]);
    let problem = error(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(problem.contains("is not the file of the plan"), "{problem}");
    let problem = error(&["video", "segment", text(&plan), "77", "--out", text(&parts)]);
    assert!(problem.contains("there is no segment 77"), "{problem}");
}

/// A full disk is an error, and the work goes on from there when there is room.
#[cfg(unix)]
#[test]
fn full_disks_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.mkv"), dir.path().join("out.mkv"));
    clip(&input, 4, 9);
    let settings = ["--model", "espcn-fast", "--seconds", "1", "--json"];
    let args = [&["video", text(&input), text(&output)], settings.as_slice()].concat();
    // Files of 16 KiB at most, as if the disk were full.
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_sr")]);
    let failed = limited.args(&args).output().unwrap();
    let problem = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && !output.exists());
    assert!(problem.contains("cannot write"), "{problem}");
    let whole = dir.path().join("whole.mkv");
    let fresh = [&["video", text(&input), text(&whole)], settings.as_slice()].concat();
    assert_eq!(hashes(&runs(&args)), hashes(&runs(&fresh)));
    assert_same(&output, &whole);
}

/// Segments of another file of that name are not taken.
#[test]
fn replaced_inputs_are_computed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.mkv"), dir.path().join("out.mkv"));
    let plan = dir.path().join("plan.json");
    let settings = ["--model", "espcn-fast", "--seconds", "1"];
    clip(&input, 3, 10);
    let printed = runs(&[&["video", "plan", text(&input)], settings.as_slice()].concat());
    std::fs::write(&plan, printed).unwrap();
    let parts = dir.path().join("out.mkv.parts");
    for index in ["0", "1"] {
        let segment = [
            "video",
            "segment",
            text(&plan),
            index,
            "--out",
            text(&parts),
        ];
        runs(&segment);
    }
    clip(&input, 3, 0xff_ff00);
    let run = ["video", text(&input), text(&output), "--json"];
    let out = runs(&[run.as_slice(), settings.as_slice()].concat());
    assert!(!out.contains("\"kept\":true"), "{out}");
    std::fs::remove_file(&output).unwrap();
    let again = runs(&[run.as_slice(), settings.as_slice()].concat());
    assert_eq!(hashes(&out), hashes(&again));
}

/// GNU parallel computes the segments, two at a time.
#[test]
fn parallel_computes_segments() {
    let known = Command::new("parallel").arg("--version").output();
    if known.is_err() {
        eprintln!("skipped: no GNU parallel");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (input, whole) = (dir.path().join("in.mkv"), dir.path().join("whole.mkv"));
    clip(&input, 4, 8);
    let settings = ["--model", "espcn-fast", "--seconds", "1"];
    let out = runs(
        &[
            &["video", text(&input), text(&whole), "--json"],
            settings.as_slice(),
        ]
        .concat(),
    );
    let plan = dir.path().join("plan.json");
    let printed = runs(&[&["video", "plan", text(&input)], settings.as_slice()].concat());
    std::fs::write(&plan, printed).unwrap();
    let (parts, joined) = (dir.path().join("parts"), dir.path().join("joined.mkv"));
    let found = Command::new("parallel")
        .args([
            "-j",
            "2",
            env!("CARGO_BIN_EXE_sr"),
            "video",
            "segment",
            text(&plan),
            "{}",
        ])
        .args(["--out", text(&parts), "--threads", "1", ":::"])
        .args((0..hashes(&out).len()).map(|index| index.to_string()))
        .output()
        .unwrap();
    assert!(found.status.success(), "{found:?}");
    assert_eq!(
        hashes(&String::from_utf8(found.stdout).unwrap()),
        hashes(&out)
    );
    runs(&["video", "join", text(&plan), text(&parts), text(&joined)]);
    assert_same(&joined, &whole);
}

/// Other files in the folder of the segments stay, and two runs do not write to it at once.
#[test]
fn other_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.mkv"), dir.path().join("out.mkv"));
    clip(&input, 2, 6);
    let parts = dir.path().join("out.mkv.parts");
    std::fs::create_dir(&parts).unwrap();
    std::fs::write(parts.join("mine.txt"), "precious").unwrap();
    let args = [
        "video",
        text(&input),
        text(&output),
        "--model",
        "espcn-fast",
    ];
    let held = std::fs::File::open(&parts).unwrap();
    held.lock().unwrap();
    let problem = error(&args);
    assert!(problem.contains("another run is writing to"), "{problem}");
    drop(held);
    runs(&args);
    let names: Vec<_> = std::fs::read_dir(&parts)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert_eq!(names, ["mine.txt"]);
}

/// Plans and manifests that lie are refused, and an input that ends early ends the work.
#[test]
fn wrong_plans_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (input, plan) = (dir.path().join("in.mkv"), dir.path().join("plan.json"));
    clip(&input, 3, 7);
    let printed = runs(&[
        "video",
        "plan",
        text(&input),
        "--model",
        "espcn-fast",
        "--seconds",
        "1",
    ]);
    std::fs::write(&plan, &printed).unwrap();
    let parts = dir.path().join("parts");
    let (folder, joined) = (text(&parts), dir.path().join("out.mkv"));
    let count = serde_json::from_str::<serde_json::Value>(&printed).unwrap()["segments"]
        .as_array()
        .unwrap()
        .len();
    assert!(count >= 2);
    for index in 0..count {
        runs(&[
            "video",
            "segment",
            text(&plan),
            &index.to_string(),
            "--out",
            folder,
        ]);
    }
    let join = ["video", "join", text(&plan), folder, text(&joined)];
    let manifest = parts.join("segment-00000.json");
    let good = std::fs::read_to_string(&manifest).unwrap();
    let mut bad = serde_json::from_str::<serde_json::Value>(&good).unwrap();
    for bytes in [1u64 << 62, 10_000_000, 0] {
        bad["packets"][0]["bytes"] = bytes.into();
        std::fs::write(&manifest, bad.to_string()).unwrap();
        let problem = error(&join);
        assert!(problem.contains("segment 0 is missing in"), "{problem}");
    }
    std::fs::write(&manifest, &good).unwrap();
    runs(&join);

    // The file ends before its first picture.
    let bytes = std::fs::read(&input).unwrap();
    let cut = dir.path().join("cut.mkv");
    std::fs::write(&cut, &bytes[..bytes.len().min(1500)]).unwrap();
    let out = dir.path().join("other");
    let args = [
        "video",
        "segment",
        text(&plan),
        "1",
        "--out",
        text(&out),
        "--input",
        text(&cut),
    ];
    error(&args);

    let mut bad = serde_json::from_str::<serde_json::Value>(&printed).unwrap();
    bad["segments"] = serde_json::json!([]);
    std::fs::write(&plan, bad.to_string()).unwrap();
    let problem = error(&["video", "segment", text(&plan), "0", "--out", folder]);
    assert!(problem.contains("has no segments"), "{problem}");
    std::fs::write(&plan, "{}").unwrap();
    let problem = error(&["video", "segment", text(&plan), "0", "--out", folder]);
    assert!(
        problem.contains("is no plan of 'sr video plan'"),
        "{problem}"
    );
}

/// Bad input is named.
#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (input, sound, empty) = (path("in.mkv"), path("sound.mkv"), path("empty.mkv"));
    clip(&input, 2, 5);
    let tone = gst::parse::launch(&format!(
        "audiotestsrc num-buffers=20 ! flacenc ! matroskamux ! filesink location={}",
        text(&sound)
    ));
    play(&tone.unwrap().downcast::<gst::Pipeline>().unwrap());
    std::fs::write(&empty, "").unwrap();
    for (from, to, more, expected) in [
        ("in.mkv", "out.avi", &[][..], "the extension is none of mkv"),
        ("in.mkv", "in.mkv", &[], "is the input"),
        ("none.mkv", "out.mkv", &[], "no such file"),
        ("sound.mkv", "out.mkv", &[], "no video"),
        ("empty.mkv", "out.mkv", &[], "cannot read"),
        ("in.mkv", "out.webm", &[], "hold no x264 video"),
        (
            "in.mkv",
            "out.mp4",
            &["--encoder", "ffv1"],
            "hold no ffv1 video",
        ),
        (
            "in.mkv",
            "out.mkv",
            &["--encoder", "ffv1", "--quality", "3"],
            "no quality to set",
        ),
        (
            "in.mkv",
            "out.mkv",
            &["--start", "5", "--end", "4"],
            "--end must be after --start",
        ),
        ("in.mkv", "out.mkv", &["--start", "50"], "no video there"),
    ] {
        let (from, to) = (path(from), path(to));
        let args = [&["video", text(&from), text(&to)], more].concat();
        let problem = error(&args);
        assert!(problem.contains(expected), "{problem}");
    }
    // The end is missing.
    let bytes = std::fs::read(&input).unwrap();
    let cut = path("cut.mkv");
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let output = path("cut-2x.mkv");
    let result = sr()
        .args(["video", text(&cut), text(&output)])
        .output()
        .unwrap();
    assert!(result.status.success() == output.exists());
}
