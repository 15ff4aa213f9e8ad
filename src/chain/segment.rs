//! Division of a chain into segments, and the buffers between them.

use std::ops::Range;

/// What segments and buffers depend on of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerShape {
    /// The boundary that it adds.
    pub(crate) skip: Option<usize>,
    /// Side of its pixel shuffle.
    pub(crate) shuffle: usize,
    /// Values stored for each pixel of its result.
    pub(crate) stored: usize,
}

/// Divides a chain into segments: at the ends of what is added later, and not
/// at all where nothing is. `skips` are the boundaries that the layers add.
pub(crate) fn split_segments(skips: &[Option<usize>]) -> Vec<Range<usize>> {
    let mut cuts = vec![0, skips.len()];
    for (i, skip) in skips.iter().enumerate() {
        if let &Some(skip) = skip {
            cuts.extend([skip, i + 1]);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Assigns frames to the boundaries between segments; a frame is free again
/// after the last segment that reads it. What is added at the end of a segment
/// may be written over: read for the last time, sample by sample, or being the
/// input of a segment that `writes_over` its own.
pub(crate) fn assign_buffers(
    skips: &[Option<usize>],
    segments: &[Range<usize>],
    writes_over: impl Fn(usize) -> bool,
) -> Vec<Option<usize>> {
    let mut frames: Vec<Option<usize>> = vec![None; skips.len() + 1];
    let last_use = |boundary: usize| {
        let reads = |segment: &Range<usize>| {
            let mut skips = skips[segment.clone()].iter().flatten();
            segment.start == boundary || skips.any(|&skip| skip == boundary)
        };
        segments.iter().rposition(reads)
    };
    let inner = segments.len().saturating_sub(1);
    for (i, segment) in segments[..inner].iter().enumerate() {
        let over = skips[segment.end - 1]
            .filter(|&skip| last_use(skip) == Some(i) && (skip != segment.start || writes_over(i)));
        let taken: Vec<usize> = (0..=skips.len())
            .filter(|&boundary| last_use(boundary).is_some_and(|last| last >= i))
            .filter_map(|boundary| frames[boundary])
            .collect();
        let free = (0..).find(|frame| !taken.contains(frame));
        frames[segment.end] = over.and_then(|over| frames[over]).or(free);
    }
    frames
}

/// Values that the whole frames between segments hold for each sample of a
/// plane of the input.
pub(crate) fn buffer_floats(layers: &[LayerShape], segments: &[Range<usize>]) -> usize {
    let skips: Vec<_> = layers.iter().map(|layer| layer.skip).collect();
    let frames = assign_buffers(&skips, segments, |_| false);
    let (mut factor, mut largest) = (1, Vec::new());
    for (layer, frame) in layers.iter().zip(&frames[1..]) {
        factor *= layer.shuffle;
        if let &Some(frame) = frame {
            largest.resize(largest.len().max(frame + 1), 0);
            largest[frame] = largest[frame].max(layer.stored * factor * factor);
        }
    }
    largest.iter().sum()
}
