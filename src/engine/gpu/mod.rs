//! Whole frames on a GPU: bytes go up, are taken apart, run through the
//! networks, are put together, and come back, without the CPU in between.
//!
//! What is not a network is computed as on the CPU, bit for bit
//! (`src/ops/cuda/frames.cu`).

mod builder;
mod network;

use super::Precision;
use super::options::UpscaleOptions;
use super::resamplers::{chroma_resamplers, direct_resamplers};
use super::spec::UpscaleSpec;
use crate::chain::PackedChain;
use crate::frame::resample::Resampler;
use crate::frame::{
    Component, Family, FrameMut, FrameRef, Luma601, MAX_VALUE, PixelFormat, YuvToRgb,
};
use crate::models::{Channels, ScaleNetwork, Upsampling};
use crate::ops::cuda::{
    Bytes, ColorChange, Colors, DeviceBuffer, Gpu, Half, PinnedBuffer, PinnedStaging, Program, Rows,
};
use crate::weights::Model;
use crate::{Error, Result, Scale};
use builder::{Builder, Planes};
use network::Network;
use std::collections::VecDeque;
use std::time::Instant;

/// Frames that may be begun before the first of them is finished.
const AT_ONCE: usize = 2;

/// A plane of a frame in a GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuPlane {
    /// Where its first row begins.
    pub address: u64,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A network and where it works.
struct Stage {
    network: Network,
    /// The size that its input is enlarged to first.
    enlarged: Option<(usize, usize)>,
}

/// A job on a GPU.
pub(super) struct GpuJob {
    gpu: Gpu,
    job: UpscaleSpec,
    /// Rows of a band; 0: chosen here.
    tile: usize,
    channels: Channels,
    /// One, or two where frames are begun before those before them are finished.
    /// Dropped, and waited for, before what they work with.
    frames: Vec<Frames>,
    stages: Vec<Stage>,
    /// Which of those are at work, the oldest first.
    begun: VecDeque<usize>,
    /// Whether there is no memory for two.
    alone: bool,
    /// Whether what is begun is fetched, too.
    fetches: bool,
    planes: Option<Bare>,
}

/// The program for frames of bytes, and what goes in and comes out, in the
/// order of a stream of its own: while one frame is computed, the next one is
/// taken up and the one before comes down.
struct Frames {
    gpu: Gpu,
    program: Program,
    input: (PinnedStaging, DeviceBuffer),
    output: (PinnedStaging, DeviceBuffer),
    /// Whether what was begun is fetched, too.
    fetches: bool,
}

impl Frames {
    /// Begins to make a frame of `input`, until [`Gpu::synchronize`]; fetches it where
    /// it is wanted in memory that the GPU cannot copy to.
    fn begin(&mut self, job: &UpscaleSpec, input: &FrameRef<'_>, fetches: bool) -> Result<()> {
        if !self.send_there(job, input)? {
            let format = job.input.format;
            let mut bytes = self.input.0.bytes()?;
            for plane in 0..format.planes() {
                let (row, rows) = plane_size(format, plane, job.input.size);
                let (taken, rest) = bytes.split_at_mut(row * rows);
                let (data, stride) = input.plane(plane);
                for (to, from) in taken.chunks_exact_mut(row).zip(data.chunks(stride)) {
                    to.copy_from_slice(&from[..row]);
                }
                bytes = rest;
            }
            self.input.0.send(&self.input.1)?;
        }
        self.program.run()?;
        if fetches {
            self.output.0.fetch(&self.output.1)?;
        }
        self.fetches = fetches;
        Ok(())
    }

    /// Takes the input from where it is, if the GPU can.
    fn send_there(&mut self, job: &UpscaleSpec, input: &FrameRef<'_>) -> Result<bool> {
        let format = job.input.format;
        let planes = || (0..format.planes()).map(|plane| input.plane(plane));
        if !planes().all(|(data, _)| PinnedBuffer::contains(data)) {
            return Ok(false);
        }
        let mut taken = self.input.1.address();
        let mut copied = Ok(());
        for (plane, (data, stride)) in planes().enumerate() {
            let size @ (row, rows) = plane_size(format, plane, job.input.size);
            let from = Rows::on_host(data.as_ptr(), stride);
            let to = Rows::on_gpu(taken, row);
            // SAFETY: a frame's planes have their rows, there is room for all of
            // them here, and the copy is waited for below.
            copied = copied.and_then(|()| unsafe { self.gpu.copy_rows(from, to, size) });
            taken += (row * rows) as u64;
        }
        // The frame may change from now on.
        self.gpu.synchronize()?;
        Ok(copied.map(|()| true)?)
    }

    /// What became of it.
    fn finish(&mut self, job: &UpscaleSpec, output: &mut FrameMut<'_>) -> Result<()> {
        let format = job.input.format;
        if !self.fetches {
            if holds(output) {
                return self.fetch_there(job, output);
            }
            self.output.0.fetch(&self.output.1)?;
        }
        self.gpu.synchronize()?;
        let mut bytes = &*self.output.0.bytes()?;
        for plane in 0..format.planes() {
            let (row, rows) = plane_size(format, plane, job.output);
            let (made, rest) = bytes.split_at(row * rows);
            let (data, stride) = output.plane_mut(plane);
            for (from, to) in made.chunks_exact(row).zip(data.chunks_mut(stride)) {
                to[..row].copy_from_slice(from);
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Copies what was made to where it is wanted.
    fn fetch_there(&mut self, job: &UpscaleSpec, output: &mut FrameMut<'_>) -> Result<()> {
        let format = job.input.format;
        let mut made = self.output.1.address();
        let mut copied = Ok(());
        for plane in 0..format.planes() {
            let size @ (row, rows) = plane_size(format, plane, job.output);
            let (data, stride) = output.plane_mut(plane);
            let from = Rows::on_gpu(made, row);
            let to = Rows::on_host(data.as_mut_ptr(), stride);
            // SAFETY: as in `send_there`; the frame is lent for writing.
            copied = copied.and_then(|()| unsafe { self.gpu.copy_rows(from, to, size) });
            made += (row * rows) as u64;
        }
        self.gpu.synchronize()?;
        Ok(copied?)
    }
}

/// Whether a GPU can copy to all planes of a frame by itself.
fn holds(output: &mut FrameMut<'_>) -> bool {
    let planes = output.format().planes();
    (0..planes).all(|plane| PinnedBuffer::contains(output.plane_mut(plane).0))
}

impl Drop for Frames {
    fn drop(&mut self) {
        // The networks' weights, which it may be at work with, are another
        // stream's. Nothing is to be done if the GPU is gone.
        let _ = self.gpu.synchronize();
    }
}

/// The program for planes of f32.
struct Bare {
    program: Program,
    input: (PinnedStaging, DeviceBuffer),
    output: (PinnedStaging, DeviceBuffer),
    made: Planes,
}

impl Bare {
    /// A program that makes planes of planes, so many and of that size.
    fn new(
        gpu: &Gpu,
        tile: usize,
        (count, size): (usize, (usize, usize)),
        make: impl FnOnce(&mut Builder, Planes) -> Result<Planes>,
    ) -> Result<Self> {
        let mut builder = Builder::new(gpu, tile);
        let input = gpu.alloc_uninit::<f32>(count * size.0 * size.1)?;
        let seen = Planes {
            address: input.address(),
            count,
            size,
        };
        let made = make(&mut builder, seen)?;
        let output = gpu.alloc_uninit::<f32>(made.count * made.samples())?;
        builder.copy(made, output.address())?;
        let pinned =
            |planes: Planes| gpu.pinned(planes.count * planes.samples() * size_of::<f32>());
        Ok(Self {
            input: (pinned(seen)?, input),
            output: (pinned(made)?, output),
            program: builder.program,
            made,
        })
    }

    /// What becomes of the samples of all planes.
    fn run(&mut self, gpu: &Gpu, samples: impl Iterator<Item = f32>) -> Result<Vec<Vec<f32>>> {
        let words = self.input.0.bytes()?.chunks_exact_mut(size_of::<f32>());
        for (word, sample) in words.zip(samples) {
            word.copy_from_slice(&sample.to_ne_bytes());
        }
        self.input.0.send(&self.input.1)?;
        self.program.run()?;
        self.output.0.fetch(&self.output.1)?;
        gpu.synchronize()?;
        let words = self.output.0.bytes()?.chunks_exact(size_of::<f32>());
        let made: Vec<f32> = words
            .map(|word| f32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let planes = made.chunks_exact(self.made.samples());
        Ok(planes.map(<[f32]>::to_vec).collect())
    }
}

/// A network on a GPU for inputs of one size, without frames around it: the
/// GPU's counterpart of [`super::ChainExecutor`].
pub struct CudaChainExecutor {
    gpu: Gpu,
    bare: Bare,
}

impl std::fmt::Debug for CudaChainExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuPlan")
            .field("made", &self.bare.made)
            .finish_non_exhaustive()
    }
}

impl CudaChainExecutor {
    /// A plan for inputs of `size` (width, height); `None` if the network is
    /// no chain of convolutions that the kernels cover.
    ///
    /// # Errors
    ///
    /// A device that is no GPU or cannot be used, no memory left.
    pub fn new(
        network: &dyn ScaleNetwork,
        size: (usize, usize),
        options: &UpscaleOptions,
    ) -> Result<Option<Self>> {
        let Some(chain) = network.chain()? else {
            return Ok(None);
        };
        if PackedChain::of_chain(&chain)?.is_none() {
            return Ok(None);
        }
        let gpu = Gpu::new(options.device.resolve()?.candle_device())?;
        let Some(network) = Network::new(&gpu, &chain, half(options.precision))? else {
            return Ok(None);
        };
        let planes = (network.planes(), size);
        let bare = Bare::new(&gpu, options.tile_size, planes, |builder, seen| {
            network.add(builder, seen)
        })?;
        // The weights are the program's from now on.
        let mut plan = Self { gpu, bare };
        network.leave_to(&mut plan.bare.program);
        Ok(Some(plan))
    }

    /// Computes the planes of a result from those of an input, dense rows of
    /// values 0 to 1. The result is clamped to that range.
    ///
    /// # Errors
    ///
    /// A GPU that fails.
    pub fn run(&mut self, input: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        let samples = input
            .iter()
            .copied()
            .flatten()
            .map(|value| value * MAX_VALUE);
        let mut made = self.bare.run(&self.gpu, samples)?;
        made.iter_mut()
            .flatten()
            .for_each(|value| *value /= MAX_VALUE);
        Ok(made)
    }

    /// Seconds that the network takes, the mean of some runs, without copies
    /// from and to the host.
    ///
    /// # Errors
    ///
    /// A GPU that fails.
    pub fn time(&mut self, runs: usize) -> Result<f64> {
        time(&self.gpu, &mut self.bare.program, runs)
    }
}

/// Seconds that a program takes.
fn time(gpu: &Gpu, program: &mut Program, runs: usize) -> Result<f64> {
    // Once to load the kernels, once to make the graph.
    program.run()?;
    program.run()?;
    gpu.synchronize()?;
    let start = Instant::now();
    for _ in 0..runs {
        program.run()?;
    }
    gpu.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / runs.max(1) as f64)
}

/// The 16-bit type of a precision, if it is one.
pub(super) fn half(precision: Precision) -> Option<Half> {
    match precision {
        Precision::F32 | Precision::Tf32 => None,
        Precision::Auto | Precision::F16 => Some(Half::F16),
        Precision::Bf16 => Some(Half::Bf16),
    }
}

impl GpuJob {
    /// Prepares a job; `None` where a network is no chain of convolutions that
    /// the kernels cover.
    ///
    /// # Errors
    ///
    /// No memory left, a GPU that is gone.
    pub(super) fn new(
        gpu: Gpu,
        model: &Model,
        (job, scales, sizes): (&UpscaleSpec, &[Scale], &[(usize, usize)]),
        (half, tile): (Option<Half>, usize),
    ) -> Result<Option<Self>> {
        let mut stages = Vec::new();
        for (&scale, &to) in scales.iter().zip(sizes) {
            let network = model.for_scale(scale)?;
            let chain = match model.packed(scale)? {
                Some(_) => network.chain()?,
                None => None,
            };
            let Some(chain) = chain else { return Ok(None) };
            let Some(on_gpu) = Network::new(&gpu, &chain, half)? else {
                return Ok(None);
            };
            stages.push(Stage {
                network: on_gpu,
                enlarged: match network.upsampling() {
                    Upsampling::Pre => Some(to),
                    Upsampling::Post(_) => None,
                },
            });
        }
        Ok(Some(Self {
            gpu,
            job: *job,
            tile,
            channels: model.channels(),
            stages,
            frames: Vec::new(),
            begun: VecDeque::new(),
            alone: false,
            fetches: true,
            planes: None,
        }))
    }

    /// Frames that were begun and not finished.
    pub(super) fn begun(&self) -> usize {
        self.begun.len()
    }

    /// Forgets them.
    pub(super) fn forget(&mut self) {
        for index in self.begun.drain(..) {
            // A GPU that is gone will say so when it is used again.
            let _ = self.frames[index].gpu.synchronize();
        }
    }

    /// The first of those that are there for frames, made if there is none.
    fn frames(&mut self) -> Result<&mut Frames> {
        if !self.begun.is_empty() {
            let problem = "frames that were begun are finished first";
            return Err(Error::Frame(problem.to_owned()));
        }
        if self.frames.is_empty() {
            self.frames.push(self.frames_program(&self.gpu)?);
        }
        Ok(&mut self.frames[0])
    }

    /// Makes `output` from `input`, of the job's shapes.
    ///
    /// # Errors
    ///
    /// No memory left, a GPU that is gone, frames that were begun.
    pub(super) fn process(
        &mut self,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
    ) -> Result<()> {
        let job = self.job;
        let frames = self.frames()?;
        frames.begin(&job, input, !holds(output))?;
        frames.finish(&job, output)
    }

    /// Begins to make a frame of `input`, of the job's shape. At most
    /// [`AT_ONCE`] may be begun. Returns whether there was the memory for one
    /// more at a time.
    ///
    /// # Errors
    ///
    /// As [`GpuJob::process`].
    pub(super) fn begin(&mut self, input: &FrameRef<'_>) -> Result<bool> {
        if self.alone && !self.begun.is_empty() {
            return Ok(false);
        }
        let free = (0..AT_ONCE).find(|index| !self.begun.contains(index));
        let Some(index) = free else {
            let problem = format!("{AT_ONCE} frames are begun, finish one first");
            return Err(Error::Frame(problem));
        };
        if self.frames.len() <= index {
            let gpu = match index {
                0 => Ok(self.gpu.clone()),
                _ => self.gpu.with_new_stream().map_err(Error::from),
            };
            match gpu.and_then(|gpu| self.frames_program(&gpu)) {
                Ok(frames) => self.frames.push(frames),
                Err(_) if index > 0 => {
                    self.alone = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.frames[index].begin(&self.job, input, self.fetches)?;
        self.begun.push_back(index);
        Ok(true)
    }

    /// Makes `output` of what was begun first.
    ///
    /// # Errors
    ///
    /// As [`GpuJob::process`], and nothing that was begun.
    pub(super) fn finish(&mut self, output: &mut FrameMut<'_>) -> Result<()> {
        let Some(index) = self.begun.pop_front() else {
            return Err(Error::Frame("no frame was begun".to_owned()));
        };
        // The next one goes where this one goes.
        self.fetches = !holds(output);
        self.frames[index].finish(&self.job, output)
    }

    /// As [`GpuJob::process`] for frames that lie in the GPU's memory already,
    /// plane by plane.
    ///
    /// # Errors
    ///
    /// As there, and another number of planes.
    ///
    /// # Safety
    ///
    /// The planes have the rows of the job's shapes, in memory of the GPU's
    /// primary context, and nothing else writes to them.
    pub(super) unsafe fn process_there(
        &mut self,
        input: &[GpuPlane],
        output: &[GpuPlane],
    ) -> Result<()> {
        let job = self.job;
        let format = job.input.format;
        if [input, output].map(<[_]>::len) != [format.planes(); 2] {
            let problem = format!(
                "frames of {} have {} planes",
                format.name(),
                format.planes()
            );
            return Err(Error::Frame(problem));
        }
        let frames = self.frames()?;
        let gpu = frames.gpu.clone();
        let on_gpu = |plane: &GpuPlane| Rows::on_gpu(plane.address, plane.stride);
        let [mut taken, mut made] = [&frames.input.1, &frames.output.1].map(DeviceBuffer::address);
        for (plane, from) in input.iter().enumerate() {
            let (row, rows) = plane_size(format, plane, job.input.size);
            // SAFETY: the caller's word, and room for all planes here.
            unsafe { gpu.copy_rows(on_gpu(from), Rows::on_gpu(taken, row), (row, rows)) }?;
            taken += (row * rows) as u64;
        }
        frames.program.run()?;
        for (plane, to) in output.iter().enumerate() {
            let (row, rows) = plane_size(format, plane, job.output);
            // SAFETY: as above.
            unsafe { gpu.copy_rows(Rows::on_gpu(made, row), on_gpu(to), (row, rows)) }?;
            made += (row * rows) as u64;
        }
        Ok(gpu.synchronize()?)
    }

    /// Makes the planes of a result from those that the networks take.
    ///
    /// # Errors
    ///
    /// As [`GpuJob::process`].
    pub(super) fn process_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let known = self
            .planes
            .as_ref()
            .is_some_and(|bare| bare.made.count == planes.len());
        if !known {
            self.planes = Some(self.planes_program(planes.len())?);
        }
        match &mut self.planes {
            Some(bare) => bare.run(&self.gpu, planes.iter().flatten().copied()),
            None => Ok(Vec::new()),
        }
    }

    fn planes_program(&self, count: usize) -> Result<Bare> {
        let size = self.job.input.size;
        Bare::new(&self.gpu, self.tile, (count, size), |builder, seen| {
            self.add_stages(builder, seen)
        })
    }

    fn frames_program(&self, gpu: &Gpu) -> Result<Frames> {
        let UpscaleSpec { input, output, .. } = self.job;
        let format = input.format;
        let length = |size| {
            (0..format.planes())
                .map(|p| plane_length(format, p, size))
                .sum()
        };
        let (taken, made): (usize, usize) = (length(input.size), length(output));
        let bytes_in = gpu.alloc_uninit::<u8>(taken)?;
        let bytes_out = gpu.alloc_uninit::<u8>(made)?;
        let mut layout = Layout {
            builder: Builder::new(gpu, self.tile),
            job: &self.job,
            direct: direct_resamplers(&self.job),
            input: bytes_in.address(),
            output: bytes_out.address(),
        };
        match (self.stages.is_empty(), self.channels) {
            (true, _) => layout.straight(0)?,
            (false, Channels::Luma) => self.by_luma(&mut layout)?,
            (false, Channels::Rgb) => self.by_rgb(&mut layout)?,
        }
        if let Some(padding) = format.padding() {
            layout.store_at(&padding, 0)?;
        }
        Ok(Frames {
            gpu: gpu.clone(),
            program: layout.builder.program,
            input: (gpu.pinned(taken)?, bytes_in),
            output: (gpu.pinned(made)?, bytes_out),
            fetches: false,
        })
    }

    /// As the CPU's: luma by the networks, the rest resampled.
    fn by_luma(&self, layout: &mut Layout<'_>) -> Result<()> {
        if self.job.input.format.family() != Family::Rgb {
            let luma = layout.read(0)?;
            let made = self.add_stages(&mut layout.builder, luma)?;
            layout.store(0, made)?;
            return layout.straight(1);
        }
        let colors = layout.read_three()?;
        let luma = layout.builder.planes(1, colors.size)?;
        layout.change(ColorChange::LumaOfRgb, colors, luma.address)?;
        let made = self.add_stages(&mut layout.builder, luma)?;
        let enlarged = layout.builder.planes(3, self.job.output)?;
        for i in 0..3 {
            let direct = layout.direct[i].clone();
            layout
                .builder
                .resample_into(&direct, colors.plane(i), enlarged.plane(i))?;
        }
        layout.change(ColorChange::AddLuma, enlarged, made.address)?;
        layout.store_three(enlarged)?;
        layout.straight(3)
    }

    /// As the CPU's: red, green and blue by the networks, alpha resampled.
    fn by_rgb(&self, layout: &mut Layout<'_>) -> Result<()> {
        match self.job.input.format.family() {
            Family::Rgb => {
                let colors = layout.read_three()?;
                let made = self.add_stages(&mut layout.builder, colors)?;
                layout.store_three(made)?;
                layout.straight(3)
            }
            Family::Gray => {
                let colors = layout.builder.planes(3, self.job.input.size)?;
                layout.read_into(0, colors)?;
                layout.change(ColorChange::GrayToRgb, colors, 0)?;
                let made = self.add_stages(&mut layout.builder, colors)?;
                layout.change(ColorChange::RgbToGray, made, 0)?;
                layout.store(0, made)?;
                layout.straight(1)
            }
            Family::Yuv => {
                let [up, down] = chroma_resamplers(&self.job);
                let colors = layout.builder.planes(3, self.job.input.size)?;
                layout.read_into(0, colors)?;
                for i in 1..3 {
                    let chroma = layout.read(i)?;
                    layout.builder.resample_into(&up, chroma, colors.plane(i))?;
                }
                layout.change(ColorChange::YuvToRgb, colors, 0)?;
                let made = self.add_stages(&mut layout.builder, colors)?;
                layout.change(ColorChange::RgbToYuv, made, 0)?;
                layout.store(0, made)?;
                for i in 1..3 {
                    let chroma = layout.builder.resample(&down, made.plane(i))?;
                    layout.store(i, chroma)?;
                }
                layout.straight(3)
            }
        }
    }

    /// The networks one after the other, then what is left to the output's size.
    fn add_stages(&self, builder: &mut Builder, mut planes: Planes) -> Result<Planes> {
        for stage in &self.stages {
            if let Some(size) = stage.enlarged {
                planes = builder.resample(&Resampler::resize(planes.size, size), planes)?;
            }
            planes = stage.network.add(builder, planes)?;
        }
        if planes.size != self.job.output {
            let finish = Resampler::resize(planes.size, self.job.output);
            planes = builder.resample(&finish, planes)?;
        }
        Ok(planes)
    }
}

fn plane_size(
    format: PixelFormat,
    plane: usize,
    (width, height): (usize, usize),
) -> (usize, usize) {
    format.plane_size(plane, width, height)
}

fn plane_length(format: PixelFormat, plane: usize, size: (usize, usize)) -> usize {
    let (row, rows) = plane_size(format, plane, size);
    row * rows
}

/// Where the samples of a job's frames lie.
struct Layout<'a> {
    builder: Builder,
    job: &'a UpscaleSpec,
    direct: Vec<Resampler>,
    input: u64,
    output: u64,
}

impl Layout<'_> {
    fn components(&self) -> &'static [Component] {
        self.job.input.format.components()
    }

    /// A component's samples in a frame that begins at `start`.
    fn bytes(&self, component: &Component, start: u64, size: (usize, usize), plane: u64) -> Bytes {
        let format = self.job.input.format;
        let before: usize = (0..component.plane)
            .map(|p| plane_length(format, p, size))
            .sum();
        let (stride, _) = plane_size(format, component.plane, size);
        let (width, height) = component.size(size.0, size.1);
        Bytes {
            bytes: start + (before + component.offset) as u64,
            plane,
            stride: stride as i32,
            step: component.step as i32,
            width: width as i32,
            height: height as i32,
        }
    }

    fn read(&mut self, component: usize) -> Result<Planes> {
        let (width, height) = self.job.input.size;
        let size = self.components()[component].size(width, height);
        let planes = self.builder.planes(1, size)?;
        self.read_into(component, planes)?;
        Ok(planes)
    }

    fn read_into(&mut self, component: usize, planes: Planes) -> Result<()> {
        let component = &self.components()[component];
        let bytes = self.bytes(component, self.input, self.job.input.size, planes.address);
        Ok(self.builder.program.read(bytes)?)
    }

    /// The first three components, which have the frame's size.
    fn read_three(&mut self) -> Result<Planes> {
        let planes = self.builder.planes(3, self.job.input.size)?;
        (0..3).try_for_each(|i| self.read_into(i, planes.plane(i)))?;
        Ok(planes)
    }

    fn store(&mut self, component: usize, planes: Planes) -> Result<()> {
        self.store_at(&self.components()[component], planes.address)
    }

    fn store_three(&mut self, planes: Planes) -> Result<()> {
        (0..3).try_for_each(|i| self.store(i, planes.plane(i)))
    }

    fn store_at(&mut self, component: &Component, plane: u64) -> Result<()> {
        let bytes = self.bytes(component, self.output, self.job.output, plane);
        Ok(self.builder.program.store(bytes)?)
    }

    /// Resamples the components from one on.
    fn straight(&mut self, from: usize) -> Result<()> {
        for i in from..self.components().len() {
            let read = self.read(i)?;
            let direct = self.direct[i].clone();
            let made = self.builder.resample(&direct, read)?;
            self.store(i, made)?;
        }
        Ok(())
    }

    fn change(&mut self, change: ColorChange, planes: Planes, other: u64) -> Result<()> {
        let (weights, [luma_base, luma_gain, chroma_gain]) =
            YuvToRgb::new(self.job.input.color).constants();
        Ok(self.builder.program.colors(Colors {
            planes: planes.address,
            other,
            samples: planes.samples() as u64,
            change: change as i32,
            weights,
            luma_base,
            luma_gain,
            chroma_gain,
            rgb_per_luma: Luma601::RGB_PER_LUMA,
        })?)
    }
}

/// Whether a GPU failed for want of memory.
pub(super) fn is_out_of_memory(error: &Error) -> bool {
    let text = error.to_string().to_lowercase();
    let names = [
        "out_of_memory",
        "out of memory",
        "alloc_failed",
        "allocation_failed",
    ];
    names.iter().any(|name| text.contains(name))
}

/// What a GPU that failed says, in one line.
pub(super) fn words(error: &Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
