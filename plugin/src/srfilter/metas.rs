//! Metadata with positions in the frame.

use gst_video::VideoInfo;
use gst_video::video_meta::{VideoMetaTransformScale, VideoOverlayCompositionMeta, tags};
use gst_video::{VideoOverlayComposition, VideoOverlayRectangle};

/// The result for a metadata item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Added to the output buffer, or dropped because it cannot be scaled.
    Done,
    /// Independent of sizes: the base class decides.
    Inherited,
}

/// Copies metadata to the output buffer with positions scaled to its size.
pub(super) fn transform(
    meta: &gst::MetaRef<'_, gst::Meta>,
    out: &mut gst::BufferRef,
    from: &VideoInfo,
    to: &VideoInfo,
) -> Outcome {
    if let Some(overlay) = meta.downcast_ref::<VideoOverlayCompositionMeta>() {
        if let Some(scaled) = scale_overlay(overlay.overlay(), from, to) {
            VideoOverlayCompositionMeta::add(out, &scaled);
        }
        return Outcome::Done;
    }
    let about_size = meta.has_tag::<tags::Size>();
    if about_size && meta.tags_contain_only(&["video", "size", "orientation"]) {
        // Metadata that cannot be scaled is dropped: its positions would be
        // wrong.
        let _ = meta.transform(out, &VideoMetaTransformScale::new(from, to));
        return Outcome::Done;
    }
    if meta.has_tag::<tags::Orientation>() && meta.tags_contain_only(&["video", "orientation"]) {
        // Relative positions, valid at any size.
        let _ = meta.transform(out, &gst::meta::MetaTransformCopy::new(..));
        return Outcome::Done;
    }
    Outcome::Inherited
}

/// The overlay with its rectangles scaled to the new size.
fn scale_overlay(
    overlay: &gst_video::VideoOverlayCompositionRef,
    from: &VideoInfo,
    to: &VideoInfo,
) -> Option<VideoOverlayComposition> {
    let scale = |value: i64, from: u32, to: u32| {
        let (from, to) = (i64::from(from.max(1)), i64::from(to));
        (value * to + from / 2).div_euclid(from)
    };
    let rectangles: Vec<VideoOverlayRectangle> = overlay
        .iter()
        .map(|rectangle| {
            let (x, y, width, height) = rectangle.render_rectangle();
            let across = |v| scale(v, from.width(), to.width());
            let down = |v| scale(v, from.height(), to.height());
            let mut rectangle = rectangle.copy();
            rectangle.make_mut().set_render_rectangle(
                across(i64::from(x)) as i32,
                down(i64::from(y)) as i32,
                across(i64::from(width)).max(1) as u32,
                down(i64::from(height)).max(1) as u32,
            );
            rectangle
        })
        .collect();
    VideoOverlayComposition::new(&rectangles).ok()
}

/// Translates a pointer position from output to input pixels.
pub(super) fn navigation(event: &mut gst::Event, from: &VideoInfo, to: &VideoInfo) {
    let structure = event.make_mut().structure_mut();
    for (field, from, to) in [
        ("pointer_x", from.width(), to.width()),
        ("pointer_y", from.height(), to.height()),
    ] {
        if let Ok(position) = structure.get::<f64>(field) {
            structure.set(field, position * f64::from(from) / f64::from(to.max(1)));
        }
    }
}
