//! The element alone: negotiation, metadata, timestamps, errors.
#![allow(clippy::unwrap_used, missing_docs)]

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoColorRange, VideoColorimetry, VideoFormat, VideoInfo};
use std::sync::Once;

fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstsrfilter::plugin_register_static().expect("plugin registers");
    });
}

/// A bicubic element with a scale.
fn element(scale: (i32, i32)) -> gst::Element {
    init();
    gst::ElementFactory::make("srfilter")
        .property("model", "bicubic")
        .property("scale", gst::Fraction::new(scale.0, scale.1))
        .build()
        .unwrap()
}

fn harness(scale: (i32, i32)) -> gst_check::Harness {
    gst_check::Harness::with_element(&element(scale), Some("sink"), Some("src"))
}

fn caps(format: VideoFormat, width: u32, height: u32) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(format)
        .width(width as i32)
        .height(height as i32)
        .framerate(gst::Fraction::new(25, 1))
        .build()
}

fn buffer(format: VideoFormat, width: u32, height: u32, value: u8) -> gst::Buffer {
    let info = VideoInfo::builder(format, width, height).build().unwrap();
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    buffer.make_mut().map_writable().unwrap().fill(value);
    buffer
}

fn out_caps(h: &gst_check::Harness) -> VideoInfo {
    let pad = h.element().unwrap().static_pad("src").unwrap();
    VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap()
}

#[test]
fn odd_sizes_double_exactly() {
    let mut h = harness((2, 1));
    h.set_src_caps(caps(VideoFormat::I420, 321, 241));
    let out = h
        .push_and_pull(buffer(VideoFormat::I420, 321, 241, 80))
        .unwrap();
    let info = out_caps(&h);
    assert_eq!((info.width(), info.height()), (642, 482));
    assert_eq!(out.size(), info.size());
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&out, &info).unwrap();
    for plane in 0..3 {
        let width = frame.comp_width(plane) as usize;
        let stride = frame.plane_stride()[plane as usize] as usize;
        for row in frame.plane_data(plane).unwrap().chunks(stride) {
            assert!(row[..width].iter().all(|&v| v == 80));
        }
    }
}

/// A safetensors file of a compact network on luma for scale 1 that adds a fifth
/// of the range.
fn brightener() -> tempfile::TempPath {
    let tensors: [(&str, &str, &[f32]); 5] = [
        ("body.0.weight", "1,1,3,3", &[0.0; 9]),
        ("body.0.bias", "1", &[0.0]),
        ("body.1.weight", "1", &[0.25]),
        ("body.2.weight", "1,1,3,3", &[0.0; 9]),
        ("body.2.bias", "1", &[0.2]),
    ];
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let end = data.len();
        let entry = format!(
            r#""{name}":{{"dtype":"F32","shape":[{shape}],"data_offsets":[{start},{end}]}}"#
        );
        entries.push(entry);
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(data);
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, file).unwrap();
    path
}

/// Frames of equal sizes pass through only while the model has no network for
/// them.
#[test]
fn a_network_for_scale_1_runs_at_equal_sizes() {
    let path = brightener();
    let mut h = harness((1, 1));
    h.set_src_caps(caps(VideoFormat::Gray8, 16, 16));
    let mut value = || {
        let out = h.push_and_pull(buffer(VideoFormat::Gray8, 16, 16, 80));
        let value = out.unwrap().map_readable().unwrap()[7];
        (value, h.element().unwrap())
    };
    let (passed, element) = value();
    assert_eq!(passed, 80);
    for (model, weights, expected) in [
        (None, path.to_str(), 80 + 51),
        (Some("bicubic"), None, 80),
        (None, path.to_str(), 80 + 51),
    ] {
        element.set_property("weights", weights);
        element.set_property("model", model);
        let start = std::time::Instant::now();
        while value().0 != expected {
            assert!(start.elapsed().as_secs() < 60, "never {expected}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn timestamps_and_flags_are_kept() {
    let mut h = harness((3, 2));
    h.set_src_caps(caps(VideoFormat::Gray8, 16, 16));
    let mut input = buffer(VideoFormat::Gray8, 16, 16, 9);
    {
        let input = input.make_mut();
        input.set_pts(gst::ClockTime::from_mseconds(120));
        input.set_dts(gst::ClockTime::from_mseconds(100));
        input.set_duration(gst::ClockTime::from_mseconds(40));
        input.set_offset(3);
        input.set_offset_end(4);
        input.set_flags(gst::BufferFlags::MARKER | gst::BufferFlags::DISCONT);
    }
    let out = h.push_and_pull(input).unwrap();
    assert_eq!(out.pts(), Some(gst::ClockTime::from_mseconds(120)));
    assert_eq!(out.dts(), Some(gst::ClockTime::from_mseconds(100)));
    assert_eq!(out.duration(), Some(gst::ClockTime::from_mseconds(40)));
    assert_eq!((out.offset(), out.offset_end()), (3, 4));
    assert!(
        out.flags()
            .contains(gst::BufferFlags::MARKER | gst::BufferFlags::DISCONT)
    );
}

#[test]
fn padded_strides_are_read_by_their_meta() {
    let mut h = harness((2, 1));
    h.set_src_caps(caps(VideoFormat::Gray8, 6, 4));
    let (stride, rows) = (32, 4);
    let mut input = gst::Buffer::with_size(stride * rows).unwrap();
    {
        let input = input.make_mut();
        let mut map = input.map_writable().unwrap();
        map.fill(255);
        map.chunks_mut(stride).for_each(|row| row[..6].fill(40));
        drop(map);
        gst_video::VideoMeta::add_full(
            input,
            gst_video::VideoFrameFlags::empty(),
            VideoFormat::Gray8,
            6,
            4,
            &[0],
            &[stride as i32],
        )
        .unwrap();
    }
    let out = h.push_and_pull(input).unwrap();
    let info = out_caps(&h);
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&out, &info).unwrap();
    let stride = frame.plane_stride()[0] as usize;
    for row in frame.plane_data(0).unwrap().chunks(stride).take(8) {
        assert_eq!(row[..12], [40; 12]);
    }
}

#[test]
fn equal_sizes_pass_through_untouched() {
    let mut h = harness((1, 1));
    h.set_src_caps(caps(VideoFormat::Rgb, 8, 8));
    let input = buffer(VideoFormat::Rgb, 8, 8, 1);
    let pointer = input.as_ptr();
    let out = h.push_and_pull(input).unwrap();
    assert_eq!(out.as_ptr(), pointer);
    let element = h
        .element()
        .unwrap()
        .downcast::<gst_base::BaseTransform>()
        .unwrap();
    assert!(element.is_passthrough());
    element.set_property("scale", gst::Fraction::new(2, 1));
    let out = h.push_and_pull(buffer(VideoFormat::Rgb, 8, 8, 1)).unwrap();
    assert!(!element.is_passthrough());
    assert_eq!(out_caps(&h).width(), 16);
    assert!(out.size() >= 16 * 16 * 3);
}

#[test]
fn regions_crops_and_overlays_move_with_the_image() {
    let mut h = harness((2, 1));
    h.set_src_caps(caps(VideoFormat::Gray8, 20, 10));
    let mut input = buffer(VideoFormat::Gray8, 20, 10, 9);
    {
        let input = input.make_mut();
        gst_video::VideoRegionOfInterestMeta::add(input, "face", (1, 2, 3, 4));
        gst_video::VideoCropMeta::add(input, (2, 2, 8, 6));
        let mut pixels = gst::Buffer::with_size(4 * 3 * 2).unwrap();
        gst_video::VideoMeta::add(
            pixels.make_mut(),
            gst_video::VideoFrameFlags::empty(),
            VideoFormat::Bgra,
            3,
            2,
        )
        .unwrap();
        let rectangle = gst_video::VideoOverlayRectangle::new_raw(
            &pixels,
            5,
            1,
            3,
            2,
            gst_video::VideoOverlayFormatFlags::empty(),
        );
        let overlay = gst_video::VideoOverlayComposition::new([&rectangle]).unwrap();
        gst_video::VideoOverlayCompositionMeta::add(input, &overlay);
    }
    let out = h.push_and_pull(input).unwrap();
    let region = out.meta::<gst_video::VideoRegionOfInterestMeta>().unwrap();
    assert_eq!(region.rect(), (2, 4, 6, 8));
    let crop = out.meta::<gst_video::VideoCropMeta>().unwrap();
    assert_eq!(crop.rect(), (4, 4, 16, 12));
    let overlays: Vec<_> = out
        .iter_meta::<gst_video::VideoOverlayCompositionMeta>()
        .collect();
    assert_eq!(overlays.len(), 1);
    let rectangle = overlays[0].overlay().rectangle(0).unwrap();
    assert_eq!(rectangle.render_rectangle(), (10, 2, 6, 4));
}

#[test]
fn pointers_are_translated_to_the_input() {
    let mut h = harness((2, 1));
    h.set_src_caps(caps(VideoFormat::Gray8, 20, 10));
    h.push_and_pull(buffer(VideoFormat::Gray8, 20, 10, 9))
        .unwrap();
    let structure = gst::Structure::builder("application/x-gst-navigation")
        .field("event", "mouse-move")
        .field("pointer_x", 10.0f64)
        .field("pointer_y", 6.0f64)
        .build();
    h.push_upstream_event(gst::event::Navigation::new(structure));
    let event = std::iter::from_fn(|| h.try_pull_upstream_event())
        .find(|event| event.type_() == gst::EventType::Navigation)
        .unwrap();
    let structure = event.structure().unwrap();
    assert_eq!(structure.get::<f64>("pointer_x").unwrap(), 5.0);
    assert_eq!(structure.get::<f64>("pointer_y").unwrap(), 3.0);
}

#[test]
fn colour_is_stated_if_downstream_would_infer_another() {
    let mut h = harness((2, 1));
    // 360 lines mean BT.601 to GStreamer, 720 lines BT.709.
    h.set_src_caps(caps(VideoFormat::I420, 640, 360));
    h.push_and_pull(buffer(VideoFormat::I420, 640, 360, 100))
        .unwrap();
    let info = out_caps(&h);
    let input = VideoInfo::from_caps(&caps(VideoFormat::I420, 640, 360)).unwrap();
    assert_eq!((info.width(), info.height()), (1280, 720));
    assert_eq!(info.colorimetry(), input.colorimetry());
    assert_eq!(info.chroma_site(), input.chroma_site());
}

/// Decoders state `1:0:0:0` for files in which only the range is set. GStreamer
/// reads that as nothing stated: limited range.
#[test]
fn a_range_without_a_matrix_holds() {
    let with = |size: (u32, u32), color: &str| {
        let mut caps = caps(VideoFormat::I420, size.0, size.1);
        if !color.is_empty() {
            caps.make_mut().set("colorimetry", color);
        }
        caps
    };
    for size in [(64, 36), (1280, 720)] {
        for (stated, range) in [
            ("1:0:0:0", VideoColorRange::Range0_255),
            ("2:0:0:0", VideoColorRange::Range16_235),
        ] {
            let mut h = harness((2, 1));
            h.set_src_caps(with(size, stated));
            h.push_and_pull(buffer(VideoFormat::I420, size.0, size.1, 100))
                .unwrap();
            // The rest is what GStreamer infers from the input's size.
            let inferred = VideoInfo::from_caps(&with(size, "")).unwrap().colorimetry();
            let expected = VideoColorimetry::new(
                range,
                inferred.matrix(),
                inferred.transfer(),
                inferred.primaries(),
            );
            assert_eq!(out_caps(&h).colorimetry(), expected, "{stated} {size:?}");
        }
    }
    // A network on RGB converts by the range.
    let upscaled = |color: &str| {
        init();
        let sr = gst::ElementFactory::make("srfilter")
            .property("model", "compact")
            .build()
            .unwrap();
        let mut h = gst_check::Harness::with_element(&sr, Some("sink"), Some("src"));
        h.set_src_caps(with((64, 36), color));
        let mut ramp = buffer(VideoFormat::I420, 64, 36, 128);
        let mut map = ramp.make_mut().map_writable().unwrap();
        let luma = map[..64 * 36].iter_mut().enumerate();
        luma.for_each(|(i, sample)| *sample = (i % 64 * 255 / 63) as u8);
        drop(map);
        let out = h.push_and_pull(ramp).unwrap();
        out.map_readable().unwrap().to_vec()
    };
    let full = upscaled("1:0:0:0");
    assert_eq!(full, upscaled("1:4:16:4"));
    assert_ne!(full, upscaled("2:0:0:0"));
    let luma = &full[..128 * 72];
    assert!(luma.iter().min() < Some(&8) && luma.iter().max() > Some(&247));
}

#[test]
fn pinned_sizes_are_met() {
    for (scale, pinned) in [((2, 1), (50, 30)), ((0, 1), (60, 45)), ((3, 1), (7, 200))] {
        let mut h = harness(scale);
        h.set_sink_caps(
            caps(VideoFormat::I420, pinned.0, pinned.1).copy_without("pixel-aspect-ratio"),
        );
        h.set_src_caps(caps(VideoFormat::I420, 20, 15));
        h.push_and_pull(buffer(VideoFormat::I420, 20, 15, 9))
            .unwrap();
        let info = out_caps(&h);
        assert_eq!((info.width(), info.height()), pinned);
        let stats: gst::Structure = h.element().unwrap().property("stats");
        assert_eq!(stats.get::<u64>("processed").unwrap(), 1);
    }
}

trait Without {
    fn copy_without(&self, field: &str) -> gst::Caps;
}

impl Without for gst::Caps {
    fn copy_without(&self, field: &str) -> gst::Caps {
        let mut caps = self.copy();
        caps.make_mut()
            .structure_mut(0)
            .unwrap()
            .remove_field(field);
        caps
    }
}

#[test]
fn interlaced_video_is_refused_with_the_remedy() {
    let mut h = harness((2, 1));
    let bus = gst::Bus::new();
    h.element().unwrap().set_bus(Some(&bus));
    let mut caps = caps(VideoFormat::I420, 32, 32);
    caps.make_mut().set("interlace-mode", "interleaved");
    h.set_src_caps(caps);
    assert!(h.push(buffer(VideoFormat::I420, 32, 32, 1)).is_err());
    let texts: Vec<String> = bus
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Error(e) => Some(e.error().to_string()),
            _ => None,
        })
        .collect();
    assert!(texts.iter().any(|t| t.contains("deinterlace")), "{texts:?}");
}

/// A grey frame with a bright disc whose two fields are `shift` pixels apart.
fn disc(shift: usize) -> gst::Buffer {
    let mut buffer = buffer(VideoFormat::Gray8, 64, 64, 40);
    for (i, sample) in buffer
        .make_mut()
        .map_writable()
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        let (x, y) = ((i % 64 + i / 64 % 2 * shift) as f64, (i / 64) as f64);
        if (x - 32.0).powi(2) + (y - 32.0).powi(2) < 400.0 {
            *sample = 200;
        }
    }
    buffer
}

/// Caps of such a frame with an interlace mode.
fn scanned(mode: &str) -> gst::Caps {
    let mut caps = caps(VideoFormat::Gray8, 64, 64);
    let s = caps.make_mut().structure_mut(0).unwrap();
    s.set("interlace-mode", mode);
    if mode == "interleaved" {
        s.set("field-order", "top-field-first");
    }
    caps
}

#[test]
fn film_in_interlaced_caps_is_upscaled_frame_by_frame() {
    use gst_video::VideoBufferFlags as Flags;
    let mut h = harness((2, 1));
    let field = Flags::INTERLACED | Flags::TFF;
    // As avdec_h264 states film with 2:3 pulldown, and as others do.
    let stream = [
        ("progressive", Flags::empty(), 50),
        ("interleaved", Flags::INTERLACED, 33),
        ("progressive", Flags::empty(), 50),
        ("interleaved", field, 33),
        ("mixed", Flags::RFF, 50),
        ("mixed", Flags::empty(), 33),
        ("mixed", field, 33),
        ("progressive", Flags::empty(), 33),
    ];
    let mut time = gst::ClockTime::ZERO;
    for (i, (mode, flags, ms)) in stream.into_iter().enumerate() {
        h.set_src_caps(scanned(mode));
        let mut buffer = disc(0);
        let b = buffer.make_mut();
        b.set_video_flags(flags);
        b.set_pts(time);
        b.set_duration(gst::ClockTime::from_mseconds(ms));
        let out = h.push_and_pull(buffer).unwrap();
        assert_eq!(out.pts(), Some(time), "{i}");
        assert_eq!(out.duration(), Some(gst::ClockTime::from_mseconds(ms)));
        assert!(!out.video_flags().intersects(field | Flags::RFF), "{i}");
        let info = out_caps(&h);
        assert_eq!((info.width(), info.is_interlaced()), (128, false), "{i}");
        time += gst::ClockTime::from_mseconds(ms);
    }
    // Two moments in one frame.
    h.set_src_caps(scanned("mixed"));
    let mut combed = disc(6);
    combed.make_mut().set_video_flags(Flags::INTERLACED);
    assert_eq!(h.push(combed), Err(gst::FlowError::Error));
}

#[test]
fn film_may_begin_with_mixed_caps() {
    let mut h = harness((2, 1));
    h.set_src_caps(scanned("mixed"));
    h.push_and_pull(disc(6)).unwrap();
    let mut flagged = disc(6);
    (flagged.make_mut()).set_video_flags(gst_video::VideoBufferFlags::INTERLACED);
    assert_eq!(h.push(flagged), Err(gst::FlowError::Error));
}

#[test]
fn interlaced_video_passes_through_untouched() {
    let mut h = harness((1, 1));
    h.set_src_caps(scanned("interleaved"));
    let mut input = disc(6);
    let flags = gst_video::VideoBufferFlags::INTERLACED | gst_video::VideoBufferFlags::TFF;
    input.make_mut().set_video_flags(flags);
    let out = h.push_and_pull(input).unwrap();
    assert_eq!(out.video_flags(), flags);
    assert!(out_caps(&h).is_interlaced());
}

#[test]
fn bars_are_scaled() {
    use gst_video::video_meta::VideoBarMeta;
    let mut h = harness((3, 1));
    h.set_src_caps(caps(VideoFormat::Gray8, 64, 48));
    let mut input = buffer(VideoFormat::Gray8, 64, 48, 9);
    // Lines 0 to 5 and 42 to 47, columns 0 to 7 and 60 to 63.
    VideoBarMeta::add(input.make_mut(), 0, true, 5, 42);
    VideoBarMeta::add(input.make_mut(), 1, false, 7, 60);
    let out = h.push_and_pull(input).unwrap();
    let bars: Vec<_> = out
        .iter_meta::<VideoBarMeta>()
        .map(|b| (b.field(), b.is_letterbox(), b.bar_data1(), b.bar_data2()))
        .collect();
    assert_eq!(bars, [(0, true, 17, 126), (1, false, 23, 180)]);
}

/// The error message of a change to PAUSED.
fn start_error(set: impl Fn(&gst::Element)) -> String {
    init();
    let element = gst::ElementFactory::make("srfilter").build().unwrap();
    set(&element);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Paused).is_err());
    element.set_state(gst::State::Null).unwrap();
    let error = bus.iter().find_map(|message| match message.view() {
        gst::MessageView::Error(e) => Some(e.error().to_string()),
        _ => None,
    });
    error.expect("an error message")
}

#[test]
fn start_errors_say_why() {
    let error = start_error(|e| e.set_property("model", "srgna"));
    assert!(
        error.contains("srgna") && error.contains("hypersrcnn"),
        "{error}"
    );
    let error = start_error(|e| e.set_property("weights", "/nowhere/x.safetensors"));
    assert!(error.contains("/nowhere/x.safetensors"), "{error}");
    let error = start_error(|e| e.set_property("device", "cuda"));
    assert!(error.contains("device=auto"), "{error}");
    let error = start_error(|e| e.set_property("device", "gpu"));
    assert!(error.contains("cuda:N"), "{error}");
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), b"PK\x03\x04 not safetensors").unwrap();
    let path = broken.path().to_str().unwrap().to_owned();
    let error = start_error(|e| e.set_property("weights", &path));
    assert!(error.contains(&path) && error.contains("zip"), "{error}");
}

#[test]
fn states_cycle() {
    let element = element((2, 1));
    for _ in 0..5 {
        element.set_state(gst::State::Paused).unwrap();
        element.set_state(gst::State::Null).unwrap();
    }
}

/// The plugin file is found, loaded and listed.
#[test]
fn gst_inspect_lists_the_plugin_file() {
    let deps = std::env::current_exe().unwrap();
    let file = deps.parent().unwrap().join("libgstsrfilter.so");
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(&file, dir.path().join("libgstsrfilter.so")).unwrap();
    let output = std::process::Command::new("gst-inspect-1.0")
        .arg("srfilter")
        .env("GST_PLUGIN_PATH", dir.path())
        .env("GST_REGISTRY", dir.path().join("registry.bin"))
        .output()
        .expect("gst-inspect-1.0 is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for word in [
        "GstSrFilter",
        "weights",
        "Range: 0/1 - 16/1 Default: 2/1",
        "RGBP",
    ] {
        assert!(text.contains(word), "no {word} in {text}");
    }
}

/// Frames pass with any colorimetry in the caps, known to GStreamer or not.
#[test]
fn any_colorimetry_and_chroma_site_goes_through() {
    let sites = [
        "",
        "none",
        "mpeg2",
        "jpeg",
        "dv",
        "cosited",
        "v-cosited",
        "alternate",
        "odd",
    ];
    let colors = [
        "",
        "bt601",
        "bt709",
        "bt2020",
        "sRGB",
        "1:4:0:1",
        "0:0:0:0",
        "1:0:0:0",
        "2:0:99:99",
        "odd",
    ];
    for format in [VideoFormat::I420, VideoFormat::Gray8, VideoFormat::Rgbx] {
        for (site, color) in sites.iter().flat_map(|s| colors.map(|c| (s, c))) {
            let mut h = harness((2, 1));
            let mut caps = caps(format, 640, 360);
            for (field, value) in [("chroma-site", *site), ("colorimetry", color)] {
                if !value.is_empty() {
                    caps.make_mut().set(field, value);
                }
            }
            h.set_src_caps(caps.clone());
            let out = h.push_and_pull(buffer(format, 640, 360, 100));
            assert!(out.is_ok(), "{caps}");
            assert_eq!(out_caps(&h).width(), 1280);
        }
    }
}

/// Equal frames are copied from the last one; not across a gap, and not with
/// `reuse=off`.
#[test]
fn equal_frames_are_reused() {
    let element = element((2, 1));
    let mut h = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    h.set_src_caps(caps(VideoFormat::Gray8, 40, 24));
    let mut time = gst::ClockTime::ZERO;
    let mut push = |flags| {
        let mut buffer = gst::Buffer::from_mut_slice(vec![77_u8; 40 * 24]);
        let writable = buffer.make_mut();
        writable.set_pts(time);
        writable.set_flags(flags);
        time += gst::ClockTime::from_mseconds(40);
        h.push(buffer).unwrap();
        h.pull().unwrap();
        let stats: gst::Structure = element.property("stats");
        (
            stats.get::<f64>("reused").unwrap(),
            stats.get::<u64>("reused-frames").unwrap(),
        )
    };
    let none = gst::BufferFlags::empty();
    // The first is stored, the second compared, and its output stored.
    assert_eq!(
        [push(none), push(none), push(none)],
        [(0.0, 0), (0.0, 0), (1.0, 1)]
    );
    assert_eq!(push(gst::BufferFlags::DISCONT), (0.0, 1));
    assert_eq!(push(none), (1.0, 2));
    element.set_property_from_str("reuse", "off");
    assert_eq!(push(none), (0.0, 2));
    element.set_property_from_str("reuse", "on");
    assert_eq!([push(none), push(none)], [(0.0, 2), (1.0, 3)]);
}
