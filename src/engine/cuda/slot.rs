//! A frame in flight on a GPU.

use super::compile::{Compiler, Stage, frame_length, plane_size};
use crate::chain::cuda::Builder;
use crate::engine::backend::DevicePlane;
use crate::engine::frame_plan::FramePlan;
use crate::engine::spec::UpscaleSpec;
use crate::frame::{FrameMut, FrameRef};
use crate::ops::cuda::{
    DeviceBuffer, Gpu, PinnedBuffer, PinnedStaging, Program, Replace, Rows, is_out_of_memory,
};
use crate::tensor_error::Result;

/// The program for a frame, its input and output buffers, and a separate
/// stream: while one slot computes, another uploads or downloads.
pub(super) struct FrameSlot {
    gpu: Gpu,
    program: Program,
    input: (PinnedStaging, DeviceBuffer),
    output: (PinnedStaging, DeviceBuffer),
    comparison: Option<Comparison>,
    /// Whether `output` is the upscaled `input`, of a frame in GPU memory.
    is_current: bool,
    /// Whether the download is enqueued together with the frame.
    downloads: bool,
}

impl FrameSlot {
    /// Compiles the plan of `spec`.
    ///
    /// # Errors
    ///
    /// The GPU is out of memory or fails.
    pub(super) fn new(
        gpu: &Gpu,
        band_rows: usize,
        spec: &UpscaleSpec,
        stages: &[Stage],
        plan: &FramePlan,
    ) -> Result<Self> {
        let format = spec.input.format;
        let lengths = [spec.input.size, spec.output].map(|size| frame_length(format, size));
        let [input, output] = lengths;
        let input = (gpu.pinned(input)?, gpu.alloc_uninit::<u8>(input)?);
        // No kernel writes bytes that no sample is in.
        let output = (gpu.pinned(output)?, gpu.upload(&vec![0_u8; output])?);
        let mut builder = Builder::new(gpu, band_rows);
        let frames = Some((input.1.address(), output.1.address()));
        let mut compiler = Compiler::new(&mut builder, (spec, stages), plan, &[], frames)?;
        plan.steps.iter().try_for_each(|step| compiler.add(step))?;
        Ok(Self {
            gpu: gpu.clone(),
            program: builder.program,
            input,
            output,
            comparison: None,
            is_current: false,
            downloads: false,
        })
    }

    /// Enqueues a frame, with `download` also its download to staging memory.
    pub(super) fn submit(
        &mut self,
        spec: &UpscaleSpec,
        input: &FrameRef<'_>,
        download: bool,
    ) -> Result<()> {
        self.is_current = false;
        if !self.upload_pinned(spec, input)? {
            let format = spec.input.format;
            let mut bytes = self.input.0.bytes()?;
            for plane in 0..format.planes() {
                let (row, rows) = plane_size(format, plane, spec.input.size);
                let (target, rest) = bytes.split_at_mut(row * rows);
                let (data, stride) = input.plane(plane);
                for (to, from) in target.chunks_exact_mut(row).zip(data.chunks(stride)) {
                    to.copy_from_slice(&from[..row]);
                }
                bytes = rest;
            }
            self.input.0.send(&self.input.1)?;
        }
        self.program.run()?;
        if download {
            self.output.0.fetch(&self.output.1)?;
        }
        self.downloads = download;
        Ok(())
    }

    /// Uploads a frame directly if it is in pinned memory. Returns whether it is.
    fn upload_pinned(&mut self, spec: &UpscaleSpec, input: &FrameRef<'_>) -> Result<bool> {
        let format = spec.input.format;
        let planes = || (0..format.planes()).map(|plane| input.plane(plane));
        if !planes().all(|(data, _)| PinnedBuffer::contains(data)) {
            return Ok(false);
        }
        let rows = planes().map(|(data, stride)| Rows::on_host(data.as_ptr(), stride));
        let sizes = (0..format.planes()).map(|plane| plane_size(format, plane, spec.input.size));
        let to = self.input.1.address();
        // SAFETY: `FrameRef` guarantees the planes' rows, the buffer holds all
        // of them, and the copies complete before the borrow of the frame ends.
        unsafe { copy_planes(&self.gpu, rows, sizes, to, Direction::ToBuffer) }?;
        Ok(true)
    }

    /// Waits for the frame and copies it to `output`.
    pub(super) fn receive(&mut self, spec: &UpscaleSpec, output: &mut FrameMut<'_>) -> Result<()> {
        let format = spec.input.format;
        if !self.downloads {
            if is_pinned(output) {
                return self.download_pinned(spec, output);
            }
            self.output.0.fetch(&self.output.1)?;
        }
        self.gpu.synchronize()?;
        let mut bytes = &*self.output.0.bytes()?;
        for plane in 0..format.planes() {
            let (row, rows) = plane_size(format, plane, spec.output);
            let (source, rest) = bytes.split_at(row * rows);
            let (data, stride) = output.plane_mut(plane);
            for (from, to) in source.chunks_exact(row).zip(data.chunks_mut(stride)) {
                to[..row].copy_from_slice(from);
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Downloads the output directly to a frame in pinned memory.
    fn download_pinned(&mut self, spec: &UpscaleSpec, output: &mut FrameMut<'_>) -> Result<()> {
        let format = spec.input.format;
        let mut rows = Vec::new();
        for plane in 0..format.planes() {
            let (data, stride) = output.plane_mut(plane);
            rows.push(Rows::on_host(data.as_mut_ptr(), stride));
        }
        let sizes = (0..format.planes()).map(|plane| plane_size(format, plane, spec.output));
        let from = self.output.1.address();
        // SAFETY: as in `upload_pinned`; the frame is borrowed for writing.
        unsafe {
            copy_planes(
                &self.gpu,
                rows.into_iter(),
                sizes,
                from,
                Direction::FromBuffer,
            )
        }
    }

    /// Computes a frame in GPU memory. If it is to be compared with the last one,
    /// returns whether it is the same, and was not computed again.
    ///
    /// # Safety
    ///
    /// As [`crate::Upscaler::process_device_frame`]; as many planes as the format.
    pub(super) unsafe fn run_device_frame(
        &mut self,
        spec: &UpscaleSpec,
        (input, output): (&[DevicePlane], &[DevicePlane]),
        compares: bool,
    ) -> Result<bool> {
        let format = spec.input.format;
        let rows = |plane: &DevicePlane| Rows::on_gpu(plane.address, plane.stride);
        let sizes = |size| (0..format.planes()).map(move |plane| plane_size(format, plane, size));
        let was_current = std::mem::take(&mut self.is_current);
        if compares && self.comparison.is_none() {
            let length = frame_length(format, spec.input.size);
            self.comparison = match Comparison::new(&self.gpu, length, &self.input.1) {
                // Every frame counts as another one.
                Err(error) if is_out_of_memory(&error) => None,
                comparison => Some(comparison?),
            };
        }
        let mut comparison = self.comparison.as_mut().filter(|_| compares && was_current);
        let first = match &comparison {
            Some(comparison) => comparison.next.address(),
            None => self.input.1.address(),
        };
        // SAFETY: the caller's contract; each call waits for its copies.
        unsafe {
            let planes = input.iter().map(rows);
            let sizes = sizes(spec.input.size);
            copy_planes(&self.gpu, planes, sizes, first, Direction::ToBuffer)?;
        }
        let is_same = match &mut comparison {
            Some(comparison) => comparison.run()?,
            None => false,
        };
        if !is_same {
            // The copies wait for the program, too.
            self.program.run()?;
        }
        let from = self.output.1.address();
        // SAFETY: as above.
        unsafe {
            let planes = output.iter().map(rows);
            let sizes = sizes(spec.output);
            copy_planes(&self.gpu, planes, sizes, from, Direction::FromBuffer)?;
        }
        self.is_current = true;
        Ok(is_same)
    }

    /// Waits for all enqueued work.
    pub(super) fn synchronize(&self) -> Result<()> {
        Ok(self.gpu.synchronize()?)
    }
}

/// Compares frames in GPU memory.
struct Comparison {
    /// The next input, which replaces the last one.
    next: DeviceBuffer,
    replace: Program,
    /// A word: whether they differ.
    differs: (PinnedStaging, DeviceBuffer),
}

impl Comparison {
    fn new(gpu: &Gpu, length: usize, input: &DeviceBuffer) -> candle_core::Result<Self> {
        const WORD: usize = size_of::<u32>();
        let next = gpu.alloc_uninit::<u8>(length)?;
        let differs = (gpu.pinned(WORD)?, gpu.alloc_uninit::<u8>(WORD)?);
        let mut replace = Program::new(gpu);
        replace.replace(Replace {
            from: next.address(),
            to: input.address(),
            length: length as u64,
            differs: differs.1.address(),
        })?;
        Ok(Self {
            next,
            replace,
            differs,
        })
    }

    /// Replaces the last input by the next one; returns whether they are the same.
    fn run(&mut self) -> Result<bool> {
        let (word, on_gpu) = &mut self.differs;
        word.bytes()?.fill(0);
        word.send(on_gpu)?;
        self.replace.run()?;
        word.fetch(on_gpu)?;
        Ok(word.bytes()?.iter().all(|&byte| byte == 0))
    }
}

/// Copies planes to or from dense planes at `buffer`, and waits even if a
/// copy fails: no copy is pending on return.
///
/// # Safety
///
/// `planes` and the buffer have `sizes` (bytes of a row, rows).
unsafe fn copy_planes(
    gpu: &Gpu,
    planes: impl Iterator<Item = Rows>,
    sizes: impl Iterator<Item = (usize, usize)>,
    mut buffer: u64,
    direction: Direction,
) -> Result<()> {
    let mut copied = Ok(());
    for (plane, size @ (row, rows)) in planes.zip(sizes) {
        let dense = Rows::on_gpu(buffer, row);
        let (from, to) = match direction {
            Direction::ToBuffer => (plane, dense),
            Direction::FromBuffer => (dense, plane),
        };
        // SAFETY: the caller's contract; synchronised below.
        copied = copied.and_then(|()| unsafe { gpu.copy_rows(from, to, size) });
        buffer += (row * rows) as u64;
    }
    gpu.synchronize()?;
    Ok(copied?)
}

#[derive(Clone, Copy)]
enum Direction {
    ToBuffer,
    FromBuffer,
}

/// Whether all planes of a frame are in pinned memory.
pub(super) fn is_pinned(output: &mut FrameMut<'_>) -> bool {
    let planes = output.format().planes();
    (0..planes).all(|plane| PinnedBuffer::contains(output.plane_mut(plane).0))
}

impl Drop for FrameSlot {
    fn drop(&mut self) {
        // A kernel may still read the networks' weights, which another stream
        // owns. A failure of the GPU cannot be handled here.
        let _ = self.gpu.synchronize();
    }
}
