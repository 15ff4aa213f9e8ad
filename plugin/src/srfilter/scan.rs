//! Interlaced video, and progressive frames in streams whose caps are interlaced.
//!
//! Film in a video stream of another rate (soft telecine) is progressive, but its decoders
//! state `interleaved` or `mixed` caps, which may change with every frame. The frames are
//! upscaled whole, and the output is progressive.

use super::video;
use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoBufferFlags, VideoFrameRef, VideoInfo, VideoInterlaceMode};

/// The modes whose buffers hold whole frames.
const WHOLE_FRAMES: [VideoInterlaceMode; 3] = [
    VideoInterlaceMode::Progressive,
    VideoInterlaceMode::Interleaved,
    VideoInterlaceMode::Mixed,
];

/// Whether the fields of a frame are stored apart.
pub(super) fn has_separate_fields(info: &VideoInfo) -> bool {
    !WHOLE_FRAMES.contains(&info.interlace_mode())
}

/// Caps of the other pad: the output is progressive whatever the input's caps say.
pub(super) fn transform(direction: gst::PadDirection, caps: &gst::Caps) -> gst::Caps {
    let field = "interlace-mode";
    let progressive = VideoInterlaceMode::Progressive.to_str().to_owned();
    let mut result = gst::Caps::new_empty();
    for (s, features) in caps.iter_with_features() {
        let mut s = s.to_owned();
        let mode = s.value(field).ok();
        let may_be = mode.map(|mode| mode.intersect(&progressive.to_value()).is_some());
        match (direction, may_be) {
            (_, None) => {}
            (gst::PadDirection::Sink, _) => s.set(field, &progressive),
            (_, Some(true)) => {
                let modes = WHOLE_FRAMES.map(|mode| mode.to_str().to_owned());
                s.set(field, gst::List::new(modes));
            }
            (_, Some(false)) => continue,
        }
        s.remove_field("field-order");
        result.merge_structure_full(s, Some(features.to_owned()));
    }
    result
}

/// Marks an output buffer as progressive.
pub(super) fn unset_flags(buffer: &mut gst::BufferRef) {
    buffer.unset_video_flags(
        VideoBufferFlags::INTERLACED
            | VideoBufferFlags::TFF
            | VideoBufferFlags::RFF
            | VideoBufferFlags::ONEFIELD,
    );
}

/// Whether a frame is combed; one that cannot be read is.
pub(super) fn is_combed(buffer: &gst::BufferRef, info: &VideoInfo) -> bool {
    let Ok(frame) = VideoFrameRef::from_buffer_ref_readable(buffer, info) else {
        return true;
    };
    let spec = video::spec(info);
    spec.and_then(|spec| video::frame_ref(&frame, &spec).ok())
        .is_none_or(|frame| frame.is_combed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interlaced_output_is_not_offered() {
        gst::init().unwrap();
        let src = |modes: &[&str]| {
            let caps = gst::Caps::builder("video/x-raw");
            let caps = match modes {
                [mode] => caps.field("interlace-mode", *mode),
                modes => caps.field("interlace-mode", gst::List::new(modes.iter().copied())),
            };
            transform(gst::PadDirection::Src, &caps.build())
        };
        assert!(src(&["interleaved"]).is_empty());
        assert!(src(&["mixed", "fields"]).is_empty());
        for modes in [&["progressive"][..], &["mixed", "progressive"]] {
            let caps = src(modes);
            let s = caps.structure(0).unwrap();
            assert_eq!(s.get::<gst::List>("interlace-mode").unwrap().len(), 3);
        }
    }
}
