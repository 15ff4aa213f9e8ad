#!/usr/bin/env bash
# gstreamer-video (Rust bindings) 0.25.4: VideoFormatInfo::unpack wants planes of
# subsampled chroma as high as luma's.
#
# Guess: a frame of I420 with planes of exactly the sizes of its VideoInfo unpacks row by
# row, as in C, where row y reads row y / 2 of the chroma planes.
# Seen (GStreamer 1.22.0, 8x8 pixels): rows 0 to 3 unpack; from row 4 on, the check of the
# arguments counts y times the stride for every plane, and raises "Too small source plane
# size for plane 1". With planes of twice the length the same rows unpack, and right.
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
gst-video = { package = "gstreamer-video", version = "=0.25.4" }
TOML
cat > "$dir/src/main.rs" <<'RUST'
use gst_video::{VideoFormat, VideoFormatInfo, VideoInfo, VideoPackFlags};

const SIZE: usize = 8;

/// Rows that unpack from chroma planes of `rows` rows.
fn unpacked(rows: usize) -> Vec<bool> {
    let info = VideoInfo::builder(VideoFormat::I420, SIZE as u32, SIZE as u32).build().unwrap();
    let strides = [info.stride()[0], info.stride()[1], info.stride()[2]];
    let luma = vec![16_u8; strides[0] as usize * SIZE];
    let chroma: Vec<u8> = (0..rows * strides[1] as usize)
        .map(|i| 100 + (i / strides[1] as usize) as u8)
        .collect();
    let planes: [&[u8]; 3] = [&luma, &chroma, &chroma];
    let about = VideoFormatInfo::from_format(VideoFormat::I420);
    (0..SIZE)
        .map(|y| {
            let unpack = || {
                let mut line = vec![0_u8; 4 * SIZE];
                let flags = VideoPackFlags::empty();
                about.unpack(flags, &mut line, &planes, &strides, 0, y as i32, SIZE as i32);
                line[2]
            };
            match std::panic::catch_unwind(unpack) {
                Ok(u) => {
                    assert_eq!(u, 100 + (y / 2) as u8, "row {y} reads chroma row {}", y / 2);
                    true
                }
                Err(_) => false,
            }
        })
        .collect()
}

fn main() {
    gst::init().unwrap();
    println!("GStreamer {}", gst::version_string());
    std::panic::set_hook(Box::new(|_| {}));
    let (exact, twice) = (unpacked(SIZE / 2), unpacked(SIZE));
    println!("chroma planes of {} rows: {exact:?}", SIZE / 2);
    println!("chroma planes of {SIZE} rows: {twice:?}");
    assert!(twice.iter().all(|&row| row), "all rows unpack from higher planes");
    assert!(exact[..4].iter().all(|&row| row), "the upper half unpacks");
    assert!(!exact[4..].contains(&true), "rows of the lower half are no longer refused");
}
RUST
(cd "$dir" && cargo run --quiet --release)
