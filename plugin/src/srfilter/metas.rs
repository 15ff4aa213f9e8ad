//! Metadata with positions in the frame.

use super::log::CAT;
use super::switching::Infos;
use gst_video::video_meta::{
    VideoBarMeta, VideoMetaTransformScale, VideoOverlayCompositionMeta, VideoRegionOfInterestMeta,
    tags,
};
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
    infos: &Infos,
) -> Outcome {
    if let Some(overlay) = meta.downcast_ref::<VideoOverlayCompositionMeta>() {
        if let Some(scaled) = scale_overlay(overlay.overlay(), infos) {
            VideoOverlayCompositionMeta::add(out, &scaled);
        }
        return Outcome::Done;
    }
    if let Some(bars) = meta.downcast_ref::<VideoBarMeta>() {
        scale_bars(bars, out, infos);
        return Outcome::Done;
    }
    let about_size = meta.has_tag::<tags::Size>();
    if about_size && meta.tags_contain_only(&["video", "size", "orientation"]) {
        // Metadata that cannot be scaled is dropped: its positions would be
        // wrong.
        scale_meta(meta, out, infos);
        return Outcome::Done;
    }
    if meta.has_tag::<tags::Orientation>() && meta.tags_contain_only(&["video", "orientation"]) {
        // Relative positions, valid at any size.
        let _ = meta.transform(out, &gst::meta::MetaTransformCopy::new(..));
        return Outcome::Done;
    }
    Outcome::Inherited
}

/// Scales metadata to the part of the output that the picture fills.
fn scale_meta(meta: &gst::MetaRef<'_, gst::Meta>, out: &mut gst::BufferRef, infos: &Infos) {
    let window = infos.window;
    let size = (window.width as u32, window.height as u32);
    let builder = gst_video::VideoInfo::builder(infos.output.format(), size.0, size.1);
    let Ok(picture) = builder.build() else { return };
    // GStreamer scales, and knows nothing of borders: only what can be moved is kept there.
    if !infos.fills_output() && meta.downcast_ref::<VideoRegionOfInterestMeta>().is_none() {
        gst::warning!(
            CAT,
            "{} is lost: it cannot be moved with the picture between borders",
            meta.api().name()
        );
        return;
    }
    let before = out.iter_meta::<VideoRegionOfInterestMeta>().count();
    let scale = VideoMetaTransformScale::new(&infos.input, &picture);
    if meta.transform(out, &scale).is_err() || infos.fills_output() {
        return;
    }
    for mut region in out
        .iter_meta_mut::<VideoRegionOfInterestMeta>()
        .skip(before)
    {
        let (x, y, width, height) = region.rect();
        region.set_rect((x + window.x as u32, y + window.y as u32, width, height));
    }
}

/// Scales the edges of bars: the last line or column of the first bar, and the first one
/// of the second bar.
fn scale_bars(bars: &VideoBarMeta, out: &mut gst::BufferRef, infos: &Infos) {
    let (window, input) = (infos.window, &infos.input);
    let (first, to, from) = match bars.is_letterbox() {
        true => (window.y, window.height, input.height()),
        false => (window.x, window.width, input.width()),
    };
    let edge = |edge: u64| {
        let from = u64::from(from.max(1));
        let scaled = first as u64 + (edge * to as u64 + from / 2) / from;
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    let last = edge(u64::from(bars.bar_data1()) + 1).saturating_sub(1);
    let next = edge(u64::from(bars.bar_data2()));
    VideoBarMeta::add(out, bars.field(), bars.is_letterbox(), last, next);
}

/// The overlay with its rectangles scaled to the new size.
fn scale_overlay(
    overlay: &gst_video::VideoOverlayCompositionRef,
    Infos { input, window, .. }: &Infos,
) -> Option<VideoOverlayComposition> {
    let (to_width, to_height) = (window.width as u32, window.height as u32);
    let scale = |value: i64, from: u32, to: u32| {
        let (from, to) = (i64::from(from.max(1)), i64::from(to));
        (value * to + from / 2).div_euclid(from)
    };
    let rectangles: Vec<VideoOverlayRectangle> = overlay
        .iter()
        .map(|rectangle| {
            let (x, y, width, height) = rectangle.render_rectangle();
            let across = |v| scale(v, input.width(), to_width);
            let down = |v| scale(v, input.height(), to_height);
            let mut rectangle = rectangle.copy();
            rectangle.make_mut().set_render_rectangle(
                across(i64::from(x)) as i32 + window.x as i32,
                down(i64::from(y)) as i32 + window.y as i32,
                across(i64::from(width)).max(1) as u32,
                down(i64::from(height)).max(1) as u32,
            );
            rectangle
        })
        .collect();
    VideoOverlayComposition::new(&rectangles).ok()
}

/// Translates a pointer position from output to input pixels.
pub(super) fn navigation(event: &mut gst::Event, Infos { input, window, .. }: &Infos) {
    let structure = event.make_mut().structure_mut();
    for (field, from, first, to) in [
        ("pointer_x", input.width(), window.x, window.width),
        ("pointer_y", input.height(), window.y, window.height),
    ] {
        if let Ok(position) = structure.get::<f64>(field) {
            let position = (position - first as f64) * f64::from(from) / to.max(1) as f64;
            structure.set(field, position.clamp(0.0, f64::from(from)));
        }
    }
}
