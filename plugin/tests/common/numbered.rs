//! Frames that are told apart by their value.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

/// Width and height of a frame.
pub const SIZE: (u32, u32) = (40, 24);

/// Bytes of a frame at twice the size.
pub const BYTES: usize = 4 * 40 * 24;

/// An element with properties.
pub fn element(properties: &str) -> gst::Element {
    super::init();
    gst::parse::launch(&format!("srfilter {properties}")).unwrap()
}

/// A harness around [`element`] that takes frames of [`SIZE`].
pub fn harness(properties: &str) -> gst_check::Harness {
    let mut h = gst_check::Harness::with_element(&element(properties), Some("sink"), Some("src"));
    h.set_src_caps(caps(SIZE));
    h
}

pub fn caps((width, height): (u32, u32)) -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format(VideoFormat::Gray8)
        .width(width as i32)
        .height(height as i32)
        .framerate(gst::Fraction::new(25, 1))
        .build()
}

/// When a frame is due.
pub fn time(number: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(40 * number)
}

/// A frame of one value that identifies it.
pub fn frame((width, height): (u32, u32), number: u64) -> gst::Buffer {
    let info = VideoInfo::builder(VideoFormat::Gray8, width, height);
    let mut buffer = gst::Buffer::with_size(info.build().unwrap().size()).unwrap();
    let writable = buffer.make_mut();
    writable.map_writable().unwrap().fill(20 * number as u8);
    writable.set_pts(time(number));
    writable.set_duration(time(1));
    buffer
}

/// The numbers of the output frames, and their sizes in bytes.
pub fn out(h: &mut gst_check::Harness) -> Vec<(u64, usize)> {
    std::iter::from_fn(|| h.try_pull())
        .map(|buffer| {
            let number = buffer.pts().unwrap().mseconds() / 40;
            assert_eq!(buffer.pts(), Some(time(number)));
            assert_eq!(buffer.duration(), Some(time(1)));
            let middle = buffer.map_readable().unwrap()[buffer.size() / 2];
            let error = u64::from(middle).abs_diff(20 * number);
            assert!(error <= 2, "frame {number} holds {middle}");
            (number, buffer.size())
        })
        .collect()
}

pub fn stats(h: &gst_check::Harness) -> gst::Structure {
    h.element().unwrap().property("stats")
}
