//! Where an executor's planes come from and go to.

use crate::frame::{Component, FrameMut, MAX_VALUE, to_u8};
use std::marker::PhantomData;
use std::ops::Range;

/// Where the planes of a plan come from. Samples are in the network's units:
/// 0 to 1.
pub(crate) trait Source: Sync {
    /// Samples of a row of an input plane.
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]);

    /// Adds the enlarged input to a row of a result's plane, for networks that
    /// enlarge.
    fn add_base(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]);
}

/// Where the planes of a plan go.
pub(crate) trait Sink: Sync {
    /// Takes a part of a row of a result's plane, from column `x` on. Every
    /// sample is handed over exactly once.
    fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]);
}

/// Planes as a source.
pub(super) struct Planes<'a> {
    pub(super) planes: &'a [&'a [f32]],
    pub(super) width: usize,
}

impl Planes<'_> {
    fn part(&self, plane: usize, y: usize, x: Range<usize>) -> &[f32] {
        &self.planes[plane][y * self.width..][x]
    }
}

impl Source for Planes<'_> {
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(self.part(plane, y, x));
    }

    fn add_base(&self, _: usize, _: usize, _: Range<usize>, _: &mut [f32]) {
        debug_assert!(false, "checked by `ChainExecutor::run`");
    }
}

/// Dense planes as a sink.
pub(crate) struct PlanesOut<'a> {
    planes: Vec<(*mut f32, usize)>,
    pub(super) width: usize,
    /// What values are multiplied by, and then clamped to from zero.
    peak: Option<f32>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a sample is stored once, by one thread, and the planes are borrowed
// for as long as the sink lives.
unsafe impl Sync for PlanesOut<'_> {}

impl<'a> PlanesOut<'a> {
    /// Takes values as they are. Planes of that width.
    pub(super) fn new(planes: &'a mut [&mut [f32]], width: usize) -> Self {
        let planes = planes.iter_mut();
        Self {
            planes: planes.map(|p| (p.as_mut_ptr(), p.len())).collect(),
            width,
            peak: None,
            borrowed: PhantomData,
        }
    }

    /// Takes values of 0 to 1 as 0 to 255, clamped.
    pub(crate) fn clamped(planes: &'a mut [&mut [f32]], width: usize) -> Self {
        Self {
            peak: Some(MAX_VALUE),
            ..Self::new(planes, width)
        }
    }
}

impl Sink for PlanesOut<'_> {
    fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]) {
        let (start, len) = self.planes[plane];
        let at = y * self.width + x;
        assert!(x + samples.len() <= self.width && at + samples.len() <= len);
        // SAFETY: the range was checked, and no other thread has this part.
        let target = unsafe { std::slice::from_raw_parts_mut(start.add(at), samples.len()) };
        let Some(peak) = self.peak else {
            return target.copy_from_slice(samples);
        };
        for (target, sample) in target.iter_mut().zip(samples) {
            *target = (sample * peak).clamp(0.0, peak);
        }
    }
}

/// A component of a frame as a sink: values of 0 to 1 are rounded to 0 to 255.
pub(crate) struct SamplesOut<'a> {
    data: *mut u8,
    len: usize,
    stride: usize,
    step: usize,
    borrowed: PhantomData<&'a mut [u8]>,
}

// SAFETY: as for `PlanesOut`.
unsafe impl Sync for SamplesOut<'_> {}

impl<'a> SamplesOut<'a> {
    /// The component of a frame, which is not subsampled.
    pub(crate) fn new(frame: &'a mut FrameMut<'_>, component: &Component) -> Self {
        let (data, stride) = frame.plane_mut(component.plane);
        let data = &mut data[component.offset..];
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            stride,
            step: component.step,
            borrowed: PhantomData,
        }
    }
}

impl Sink for SamplesOut<'_> {
    fn store(&self, _: usize, y: usize, x: usize, samples: &[f32]) {
        let first = y * self.stride + x * self.step;
        let count = samples.len().saturating_sub(1) * self.step + 1;
        assert!(x * self.step + count <= self.stride && first + count <= self.len);
        // SAFETY: the range was checked. Of the bytes in it no other thread has
        // those that are written below, and no byte is read.
        unsafe {
            let target = self.data.add(first);
            for (i, sample) in samples.iter().enumerate() {
                *target.add(i * self.step) = to_u8((sample * MAX_VALUE).clamp(0.0, MAX_VALUE));
            }
        }
    }
}
