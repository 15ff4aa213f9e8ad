//! What a stream takes of memory beyond its frames, in a process of its own.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(target_os = "linux")]

use srfilter::frame::{FrameMut, FrameRef};
use srfilter::{
    DeviceChoice, FrameSpec, Model, PixelFormat, Precision, Scale, UpscaleOptions, UpscaleSpec,
    Upscaler,
};

/// Bytes that may be taken beyond the frames.
const MOST: u64 = 12 << 20;

/// A number of bytes of this process.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes.unwrap().parse::<u64>().unwrap() << 10
}

/// 640x360 to 1280x720, with the model's weights, in integers.
#[test]
fn a_stream_in_integers_takes_little_memory() {
    let (input, scale) = (FrameSpec::new(PixelFormat::I420, 640, 360), Scale::whole(2));
    let spec = UpscaleSpec::scaled(input, scale);
    let planes = |spec: &FrameSpec| -> Vec<(Vec<u8>, usize)> {
        let (width, height) = spec.size;
        let planes = (0..spec.format.planes()).map(|plane| {
            let (row, rows) = spec.format.plane_size(plane, width, height);
            ((0..row * rows).map(|i| (i * 7 % 251) as u8).collect(), row)
        });
        planes.collect()
    };
    let from = planes(&input);
    let output = input.with_size(spec.output.0, spec.output.1);
    let mut to = planes(&output);
    let before = status("VmRSS");
    let options = UpscaleOptions::default()
        .with_device(DeviceChoice::Cpu)
        .with_threads(2)
        .with_precision(Precision::Int8);
    let model = Model::builtin("espcn").unwrap();
    let mut upscaler = Upscaler::new(model, spec, &options).unwrap();
    for _ in 0..3 {
        let from: Vec<_> = (from.iter())
            .map(|(bytes, stride)| (bytes.as_slice(), *stride))
            .collect();
        let from = FrameRef::new(input.format, input.size, input.color, &from).unwrap();
        let to = to
            .iter_mut()
            .map(|(bytes, stride)| (bytes.as_mut_slice(), *stride));
        let mut to = FrameMut::new(output.format, output.size, output.color, to).unwrap();
        upscaler.process(&from, &mut to).unwrap();
    }
    let taken = status("VmHWM").saturating_sub(before);
    println!("{:.1} MiB", taken as f64 / f64::from(1 << 20));
    assert!(taken > 0 && taken <= MOST, "{taken} bytes");
}
