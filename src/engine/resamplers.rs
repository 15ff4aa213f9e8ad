//! The resamplers of an upscale.

use super::spec::UpscaleSpec;
use crate::frame::Siting;
use crate::frame::resample::{ResampleAxis, Resampler, SampleGrid};

/// The resamplers from input to output, one per component.
pub(super) fn direct_resamplers(job: &UpscaleSpec) -> Vec<Resampler> {
    let components = job.input.format.components().iter();
    let siting = job.input.color.siting;
    components
        .map(|c| {
            let axis = |from, to, sub, cosited| {
                let grid = |full| SampleGrid::subsampled(full, sub, cosited);
                ResampleAxis::new(grid(from), grid(to))
            };
            let (from, to) = (job.input.size, job.output);
            Resampler::new(
                axis(from.0, to.0, c.sub_x, siting.left),
                axis(from.1, to.1, c.sub_y, siting.top),
            )
        })
        .collect()
}

/// Chroma of the input to the input's luma samples, and chroma at the
/// output's luma samples to the output's chroma samples.
pub(super) fn chroma_resamplers(job: &UpscaleSpec) -> [Resampler; 2] {
    let (sub_x, sub_y) = job
        .input
        .format
        .components()
        .get(1)
        .map_or((1, 1), |c| (c.sub_x, c.sub_y));
    let Siting { left, top } = job.input.color.siting;
    let halved = |size: (usize, usize)| {
        [
            SampleGrid::subsampled(size.0, sub_x, left),
            SampleGrid::subsampled(size.1, sub_y, top),
        ]
    };
    let full = |size: (usize, usize)| [SampleGrid::unit(size.0), SampleGrid::unit(size.1)];
    let between = |[fx, fy]: [SampleGrid; 2], [tx, ty]: [SampleGrid; 2]| {
        Resampler::new(ResampleAxis::new(fx, tx), ResampleAxis::new(fy, ty))
    };
    [
        between(halved(job.input.size), full(job.input.size)),
        between(full(job.output), halved(job.output)),
    ]
}
