//! The time that a frame takes, estimated from a part of it.

use super::options::UpscaleOptions;
use super::spec::{FrameSpec, UpscaleSpec};
use super::upscaler::Upscaler;
use crate::Result;
use crate::frame::{FrameMut, FrameRef};
use crate::weights::Model;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sides in pixels of the first part: a few tiles.
const FIRST: (usize, usize) = (96, 36);

/// The second part has the frame's width, and one of so many parts of its height, but not
/// fewer rows than the first.
const PARTS: usize = 6;

/// How often a part is upscaled, after a first time that fills the caches.
const RUNS: usize = 3;

/// Part of the duration of a live stream's frame that an upscaler may take: the rest is for
/// other elements, and for frames that take longer than most.
pub const LIVE_SHARE: f64 = 0.85;

/// Estimates how long `model` takes for a frame of `spec` on this machine, with nothing else
/// running: the shortest of a few runs on a part of the frame, times the ratio of their areas.
/// That a frame would take longer than `most` is found out from a few tiles; the estimate is
/// coarse then.
///
/// Compare [`Upscaler::process`], whose time it estimates, the first frame's preparation aside.
///
/// # Errors
///
/// As [`Upscaler::new`] and [`Upscaler::process`].
pub fn estimate_time(
    model: &Arc<Model>,
    spec: &UpscaleSpec,
    options: &UpscaleOptions,
    most: Duration,
) -> Result<Duration> {
    let (width, height) = spec.input.size;
    let first = (width.min(FIRST.0), height.min(FIRST.1));
    let second = (width, (height / PARTS).max(first.1));
    let estimate = time_part(model, spec, options, first)?;
    if estimate > most || first == second {
        return Ok(estimate);
    }
    time_part(model, spec, options, second)
}

/// The time of a frame by that of a part of it.
fn time_part(
    model: &Arc<Model>,
    spec: &UpscaleSpec,
    options: &UpscaleOptions,
    part: (usize, usize),
) -> Result<Duration> {
    let (size, output) = (spec.input.size, spec.output);
    let scaled = |part: usize, size: usize, output: usize| (part * output / size).max(1);
    let spec = UpscaleSpec {
        input: spec.input.with_size(part.0, part.1),
        output: (
            scaled(part.0, size.0, output.0),
            scaled(part.1, size.1, output.1),
        ),
        ..*spec
    };
    let mut upscaler = Upscaler::new(Arc::clone(model), spec, options)?;
    let (input, mut upscaled) = (Buffers::new(&spec.input), {
        Buffers::new(&spec.input.with_size(spec.output.0, spec.output.1))
    });
    let mut best = Duration::MAX;
    for run in 0..=RUNS {
        let start = Instant::now();
        upscaler.process(&input.frame()?, &mut upscaled.frame_mut()?)?;
        if run > 0 {
            best = best.min(start.elapsed());
        }
    }
    let areas = (size.0 * size.1) as f64 / (part.0 * part.1) as f64;
    Ok(best.mul_f64(areas))
}

/// The planes of a frame with some texture.
struct Buffers {
    spec: FrameSpec,
    /// Bytes and bytes of a row.
    planes: Vec<(Vec<u8>, usize)>,
}

impl Buffers {
    fn new(spec: &FrameSpec) -> Self {
        let (width, height) = spec.size;
        let planes = (0..spec.format.planes()).map(|plane| {
            let (row, rows) = spec.format.plane_size(plane, width, height);
            let bytes = (0..row * rows).map(|i| (i * 67 % 251) as u8);
            (bytes.collect(), row)
        });
        Self {
            spec: *spec,
            planes: planes.collect(),
        }
    }

    fn frame(&self) -> Result<FrameRef<'_>> {
        let planes: Vec<_> = (self.planes.iter())
            .map(|(bytes, stride)| (bytes.as_slice(), *stride))
            .collect();
        FrameRef::new(self.spec.format, self.spec.size, self.spec.color, &planes)
    }

    fn frame_mut(&mut self) -> Result<FrameMut<'_>> {
        let planes =
            (self.planes.iter_mut()).map(|(bytes, stride)| (bytes.as_mut_slice(), *stride));
        FrameMut::new(self.spec.format, self.spec.size, self.spec.color, planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;
    use crate::frame::PixelFormat;

    /// The estimated and the measured time of a frame: the shortest of a few of each, in
    /// turns, as the machine is busy with other things, too.
    fn times(name: &str, format: PixelFormat, size: (usize, usize)) -> (Duration, Duration) {
        let spec = UpscaleSpec::scaled(FrameSpec::new(format, size.0, size.1), Scale::whole(2));
        let (model, options) = (Model::builtin(name).unwrap(), UpscaleOptions::default());
        let mut upscaler = Upscaler::new(Arc::clone(&model), spec, &options).unwrap();
        let input = Buffers::new(&spec.input);
        let mut output = Buffers::new(&spec.input.with_size(spec.output.0, spec.output.1));
        let (mut estimate, mut measured) = (Duration::MAX, Duration::MAX);
        for _ in 0..6 {
            let most = Duration::from_secs(1);
            estimate = estimate.min(estimate_time(&model, &spec, &options, most).unwrap());
            let start = Instant::now();
            upscaler
                .process(&input.frame().unwrap(), &mut output.frame_mut().unwrap())
                .unwrap();
            measured = measured.min(start.elapsed());
        }
        (estimate, measured)
    }

    #[test]
    fn a_part_tells_the_time_of_a_frame() {
        for (name, format, size) in [
            ("espcn", PixelFormat::I420, (640, 360)),
            ("espcn-fast", PixelFormat::I420x10, (320, 180)),
            ("hypersrcnn", PixelFormat::I420, (200, 120)),
        ] {
            let (estimate, measured) = times(name, format, size);
            let ratio = estimate.as_secs_f64() / measured.as_secs_f64();
            println!("{name} {size:?}: {estimate:.1?} for {measured:.1?}, {ratio:.2}");
            assert!((0.3..3.0).contains(&ratio), "{name}: {ratio}");
        }
    }

    #[test]
    fn tiny_and_other_frames_have_a_time_too() {
        let spec = FrameSpec::new(PixelFormat::Rgb, 1, 3);
        for output in [(2, 6), (5, 4)] {
            let spec = UpscaleSpec::scaled(spec, Scale::whole(2)).with_output(output.0, output.1);
            let (model, options) = (Model::builtin("espcn").unwrap(), UpscaleOptions::default());
            let estimate = estimate_time(&model, &spec, &options, Duration::from_secs(1)).unwrap();
            assert!(estimate > Duration::ZERO);
        }
    }
}
