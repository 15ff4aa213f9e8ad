//! Conversion of GStreamer's video types to the library's.

use gst_video::prelude::*;
use gst_video::{
    VideoChromaSite, VideoColorMatrix, VideoColorPrimaries, VideoColorRange, VideoColorimetry,
    VideoFormat, VideoInfo, VideoTransferFunction,
};
use srfilter::engine::FrameSpec;
use srfilter::frame::{Color, FrameMut, FrameRef, Matrix, PixelFormat, Range, Siting};

/// The formats of the pad templates, in order of preference: all that this version of
/// GStreamer has.
pub(super) fn formats() -> impl Iterator<Item = VideoFormat> {
    PixelFormat::ALL
        .iter()
        .map(|format| VideoFormat::from_string(format.name()))
        .filter(|&format| format != VideoFormat::Unknown)
}

fn color(info: &VideoInfo) -> Color {
    let colorimetry = info.colorimetry();
    let site = info.chroma_site();
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt709 => Matrix::Bt709,
        VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        VideoColorMatrix::Smpte240m => Matrix::Smpte240m,
        VideoColorMatrix::Fcc => Matrix::Fcc,
        _ => Matrix::Bt601,
    };
    let range = match colorimetry.range() {
        VideoColorRange::Range0_255 => Range::Full,
        _ => Range::Limited,
    };
    let siting = if site.is_empty() {
        Siting::default()
    } else {
        Siting {
            left: site.contains(VideoChromaSite::H_COSITED),
            top: site.contains(VideoChromaSite::V_COSITED),
        }
    };
    Color::new(matrix, range, siting)
}

/// The frame spec of these caps; `None` for an unsupported format.
pub(super) fn spec(info: &VideoInfo) -> Option<FrameSpec> {
    let format = PixelFormat::from_name(info.format().to_str())?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    Some(FrameSpec::new(format, width, height).with_color(color(info)))
}

/// A mapped frame to read.
pub(super) fn frame_ref<'a>(
    frame: &'a gst_video::VideoFrameRef<&gst::BufferRef>,
    shape: &FrameSpec,
) -> srfilter::Result<FrameRef<'a>> {
    let planes: Vec<(&[u8], usize)> = (0..frame.n_planes())
        .filter_map(|plane| {
            let data = frame.plane_data(plane).ok()?;
            Some((data, stride(frame.plane_stride(), plane)))
        })
        .collect();
    FrameRef::new(shape.format, size(frame), shape.color, &planes)
}

/// A mapped frame to write.
pub(super) fn frame_mut<'a>(
    frame: &'a mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    shape: &FrameSpec,
) -> srfilter::Result<FrameMut<'a>> {
    let (size, count) = (size(frame), frame.n_planes() as usize);
    let strides: Vec<usize> = (0..frame.n_planes())
        .map(|plane| stride(frame.plane_stride(), plane))
        .collect();
    let planes = frame.planes_data_mut().into_iter().take(count).zip(strides);
    FrameMut::new(shape.format, size, shape.color, planes)
}

fn size<T: VideoFrameExt>(frame: &T) -> (usize, usize) {
    (frame.width() as usize, frame.height() as usize)
}

/// A negative stride (bottom-up frames) becomes 0, which the library refuses.
fn stride(strides: &[i32], plane: u32) -> usize {
    let stride = strides.get(plane as usize).copied().unwrap_or(0);
    usize::try_from(stride).unwrap_or(0)
}

/// The format of caps; `None` where they leave something open: GStreamer answers that
/// with a critical message.
pub(super) fn info(caps: &gst::Caps) -> Option<VideoInfo> {
    let fixed = caps.is_fixed().then_some(caps)?;
    VideoInfo::from_caps(fixed).ok()
}

/// Input caps with the rest of a colorimetry of which only the range is known,
/// such as `1:0:0:0`: decoders state that for files in which nothing else is
/// set. GStreamer drops such a field, and the range with it; here the rest is
/// what GStreamer infers from the size.
pub(super) fn complete_color(caps: &gst::Caps) -> gst::Caps {
    let mut caps = caps.clone();
    if let Some(color) = completed(&caps)
        && let Some(s) = caps.make_mut().structure_mut(0)
    {
        s.set("colorimetry", color.to_string());
    }
    caps
}

/// The colorimetry of caps that state its range and no matrix.
fn completed(caps: &gst::Caps) -> Option<VideoColorimetry> {
    let text = caps.structure(0)?.get::<&str>("colorimetry").ok()?;
    let numbers: Vec<u32> = text.split(':').filter_map(|n| n.parse().ok()).collect();
    let &[range, 0, transfer, primaries] = numbers.as_slice() else {
        return None;
    };
    let range = match range {
        1 => VideoColorRange::Range0_255,
        2 => VideoColorRange::Range16_235,
        _ => return None,
    };
    // Of the caps without the field: in its place stands what is inferred.
    let info = info(caps).filter(VideoInfo::is_yuv)?;
    let inferred = info.colorimetry();
    Some(VideoColorimetry::new(
        range,
        inferred.matrix(),
        match transfer {
            0 => inferred.transfer(),
            iso => VideoTransferFunction::from_iso(iso),
        },
        match primaries {
            0 => inferred.primaries(),
            iso => VideoColorPrimaries::from_iso(iso),
        },
    ))
}

/// What downstream's caps say otherwise than the input's about the same colours; `None`
/// if they agree. The element does not convert.
pub(super) fn color_conflict(input: &gst::Caps, output: &gst::Caps) -> Option<String> {
    let text = |caps: &gst::Caps, field| caps.structure(0)?.get::<String>(field).ok();
    let stated = |field| {
        let stated = text(output, field);
        stated.is_some() && stated != text(input, field)
    };
    let (from, to) = (&info(input)?, &info(output)?);
    if !from.is_yuv() {
        return None;
    }
    let (a, b) = (from.colorimetry(), to.colorimetry());
    // These functions have the same curve.
    let curve = |transfer: VideoTransferFunction| match transfer {
        VideoTransferFunction::Bt601
        | VideoTransferFunction::Bt202010
        | VideoTransferFunction::Bt202012 => VideoTransferFunction::Bt709,
        other => other,
    };
    let (range, matrix) = (VideoColorRange::Unknown, VideoColorMatrix::Unknown);
    let (transfer, primaries) = (VideoTransferFunction::Unknown, VideoColorPrimaries::Unknown);
    let subsampled = from.format_info().w_sub().iter().any(|&sub| sub > 0);
    let conflict = stated("colorimetry")
        && (differ(a.range(), b.range(), range)
            || differ(a.matrix(), b.matrix(), matrix)
            || differ(curve(a.transfer()), curve(b.transfer()), transfer)
            || differ(a.primaries(), b.primaries(), primaries));
    let described = |info: &VideoInfo| {
        let fields = color_fields(info).map(|(field, value)| Some(format!("{field}={}", value?)));
        fields.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    // As text: GStreamer drops the site if the colorimetry is invalid.
    let [_, (site, of_video)] = color_fields(from);
    let moved = stated(site)
        && subsampled
        && of_video.is_some_and(|of_video| text(output, site) != Some(of_video));
    (conflict || moved).then(|| {
        format!(
            "downstream requires {}, the video has {}: put videoconvert after srfilter",
            described(to),
            described(from)
        )
    })
}

fn differ<T: PartialEq + Copy>(a: T, b: T, unknown: T) -> bool {
    a != b && a != unknown && b != unknown
}

/// Fixates the input's colorimetry and chroma site if downstream lists several.
pub(super) fn prefer_color(input: &gst::Caps, output: &mut gst::Caps) {
    let Some(from) = info(input) else {
        return;
    };
    if let Some(s) = output.make_mut().structure_mut(0) {
        for (field, value) in color_fields(&from) {
            if let (true, Some(value)) = (s.has_field(field), value) {
                s.fixate_field_str(field, &value);
            }
        }
    }
}

/// Sets the input's colorimetry and chroma site in the output caps if downstream
/// would otherwise infer others from the new size.
pub(super) fn keep_color(input: &gst::Caps, output: &mut gst::Caps) {
    let (Some(from), Some(to)) = (info(input), info(output)) else {
        return;
    };
    let Some(s) = output.make_mut().structure_mut(0) else {
        return;
    };
    for ((field, value), (_, inferred)) in color_fields(&from).into_iter().zip(color_fields(&to)) {
        if let (false, Some(value)) = (s.has_field(field) || value == inferred, value) {
            s.set(field, value);
        }
    }
}

/// Colorimetry and chroma site as strings for caps, if known.
fn color_fields(info: &VideoInfo) -> [(&'static str, Option<String>); 2] {
    // The bindings panic on values that GStreamer has no text for.
    let color = info.colorimetry();
    let known = info.is_yuv()
        && color.matrix() != VideoColorMatrix::Unknown
        && color.range() != VideoColorRange::Unknown
        && color.transfer() != VideoTransferFunction::Unknown
        && color.primaries() != VideoColorPrimaries::Unknown;
    let site = info.chroma_site();
    let named = [
        VideoChromaSite::NONE,
        VideoChromaSite::H_COSITED,
        VideoChromaSite::V_COSITED,
        VideoChromaSite::COSITED,
        VideoChromaSite::DV,
    ];
    [
        ("colorimetry", known.then(|| color.to_string())),
        (
            "chroma-site",
            named.contains(&site).then(|| site.to_str().to_string()),
        ),
    ]
}
