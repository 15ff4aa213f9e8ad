//! The input and the destination of an executor's planes.

use crate::frame::{Component, FrameMut, MAX_VALUE, Quantization};
use std::marker::PhantomData;
use std::ops::Range;

/// The input planes of an executor, samples of 0 to 1.
pub(crate) trait Source: Sync {
    /// Samples of a row of an input plane.
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]);

    /// Adds the bicubically enlarged input to a row of a plane of the result, for
    /// networks that enlarge.
    fn add_bicubic(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]);
}

/// The destination of the planes of a result, from many threads at a time.
pub(crate) trait Sink: Sync {
    /// Stores a part of a row of a plane, from column `x` on.
    ///
    /// # Safety
    ///
    /// *Disjoint stores*: no other call stores the same sample of the same
    /// plane at the same time.
    unsafe fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]);
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

    fn add_bicubic(&self, _: usize, _: usize, _: Range<usize>, _: &mut [f32]) {
        debug_assert!(false, "checked by `ChainExecutor::run`");
    }
}

/// Dense planes as a sink.
pub(crate) struct PlanesOut<'a> {
    planes: Vec<(*mut f32, usize)>,
    pub(super) width: usize,
    /// The largest value of scaled samples; none: stored as they are.
    limit: Option<f32>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: the planes are borrowed for as long as the sink lives, and threads
// write to them by `Sink::store` only: disjoint stores.
unsafe impl Sync for PlanesOut<'_> {}

impl<'a> PlanesOut<'a> {
    /// Stores values as they are. Planes of that width.
    pub(super) fn new(planes: &'a mut [&mut [f32]], width: usize) -> Self {
        let planes = planes.iter_mut();
        Self {
            planes: planes.map(|p| (p.as_mut_ptr(), p.len())).collect(),
            width,
            limit: None,
            borrowed: PhantomData,
        }
    }

    /// Stores values of 0 to 1 as 0 to 255, clamped to `limit`.
    pub(crate) fn clamped(planes: &'a mut [&mut [f32]], width: usize, limit: f32) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(planes, width)
        }
    }
}

impl Sink for PlanesOut<'_> {
    unsafe fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]) {
        let (start, len) = self.planes[plane];
        let at = y * self.width + x;
        assert!(x + samples.len() <= self.width && at + samples.len() <= len);
        // SAFETY: the range lies in the plane; disjoint stores.
        let target = unsafe { std::slice::from_raw_parts_mut(start.add(at), samples.len()) };
        let Some(limit) = self.limit else {
            return target.copy_from_slice(samples);
        };
        for (target, sample) in target.iter_mut().zip(samples) {
            *target = (sample * MAX_VALUE).clamp(0.0, limit);
        }
    }
}

/// Components of a frame as a sink: values of 0 to 1 are rounded to samples.
pub(crate) struct SamplesOut<'a> {
    /// One for each plane of the result.
    components: Vec<ComponentOut>,
    borrowed: PhantomData<&'a mut [u8]>,
}

/// The samples of one component.
struct ComponentOut {
    component: &'static Component,
    quantization: Quantization,
    /// The largest value.
    limit: f32,
    /// The first one, and the bytes from it to the end of its plane.
    data: *mut u8,
    len: usize,
    stride: usize,
}

// SAFETY: the frame is borrowed for as long as the sink lives, and threads
// write to it by `Sink::store` only: disjoint stores. Components are distinct
// bytes.
unsafe impl Sync for SamplesOut<'_> {}

impl<'a> SamplesOut<'a> {
    /// Components of a frame, none of them subsampled and none that share words with
    /// others: one for each plane of the result.
    pub(crate) fn new(frame: &'a mut FrameMut<'_>, components: &[usize]) -> Self {
        let format = frame.format();
        let range = frame.color().range;
        // One pointer a plane, that components of one plane share.
        let mut planes = Vec::new();
        for plane in 0..format.planes() {
            let (data, stride) = frame.plane_mut(plane);
            planes.push((data.as_mut_ptr(), data.len(), stride));
        }
        let components = components.iter().map(|&index| {
            let component = &format.components()[index];
            let (data, len, stride) = planes[component.plane];
            let quantization = component.quantization(range);
            ComponentOut {
                component,
                limit: quantization.limit(),
                quantization,
                data: data.wrapping_add(component.offset),
                len: len.saturating_sub(component.offset),
                stride,
            }
        });
        Self {
            components: components.collect(),
            borrowed: PhantomData,
        }
    }
}

impl Sink for SamplesOut<'_> {
    unsafe fn store(&self, plane: usize, y: usize, x: usize, samples: &[f32]) {
        let out = &self.components[plane];
        let before = x * out.component.step;
        let first = y * out.stride + before;
        let bytes = out.component.span(samples.len());
        assert!(before + bytes <= out.stride && first + bytes <= out.len);
        let limit = out.limit;
        let clamped = move |sample: f32| (sample * MAX_VALUE).clamp(0.0, limit);
        // SAFETY: the range lies in the plane. Of its bytes only this
        // component's are written, and none is read; disjoint stores.
        unsafe {
            let first = out.data.add(first);
            out.component
                .store(&out.quantization, first, samples, clamped);
        }
    }
}
