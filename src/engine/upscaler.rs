//! Frames in, larger frames out.

#[cfg(feature = "cuda")]
use super::gpu::{self, GpuJob};
use super::memory;
use super::options::UpscaleOptions;
use super::resamplers::{chroma_resamplers, direct_resamplers};
use super::spec::{FrameSpec, UpscaleSpec, check_size};
use super::stage::{Stage, pooled_samples};
use super::tiling::TilingOptions;
use super::{ComputeDevice, DeviceChoice, Precision};
use crate::chain::cpu::{SamplesOut, Sink};
use crate::frame::resample::Resampler;
use crate::frame::{
    Component, Family, FrameMut, FrameRef, Image, Luma601, MAX_VALUE, YuvToRgb, round, to_u8,
};
use crate::models::{Channels, Upsampling};
#[cfg(feature = "cuda")]
use crate::ops::cuda::Gpu;
use crate::threads::pool;
use crate::weights::Model;
use crate::{Error, Result, Scale};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::sync::Arc;

/// Makes output frames from input frames of one shape.
pub struct Upscaler {
    model: Arc<Model>,
    job: UpscaleSpec,
    place: ComputeDevice,
    /// All of the job, where a GPU does it.
    #[cfg(feature = "cuda")]
    gpu: Option<GpuJob>,
    #[cfg(feature = "cuda")]
    options: UpscaleOptions,
    /// Why a GPU was given up while frames came.
    given_up: Option<String>,
    scales: Vec<Scale>,
    stages: Vec<Stage>,
    /// From the last stage's size to the output's, where they differ.
    finish: Option<Resampler>,
    /// Input to output for every component, for those that no network makes.
    direct: Vec<Resampler>,
    /// Chroma to the resolution of luma before an RGB network, and back after it.
    chroma: Option<Arc<[Resampler; 2]>>,
    pool: Arc<ThreadPool>,
    scratch: Scratch,
}

/// Planes kept from frame to frame.
#[derive(Default)]
struct Scratch {
    /// Components of the input frame.
    input: Vec<Vec<f32>>,
    /// What the stages take and make, in turn.
    planes: [Vec<Vec<f32>>; 2],
    /// Resampled components.
    direct: Vec<Vec<f32>>,
}

impl std::fmt::Debug for Upscaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upscaler")
            .field("model", &self.model)
            .field("job", &self.job)
            .field("scales", &self.scales)
            .finish_non_exhaustive()
    }
}

/// Upscalers move from thread to thread.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Upscaler>();
};

impl Upscaler {
    /// As [`Upscaler::process`] for whole images.
    ///
    /// # Errors
    ///
    /// Images of another size or format than the upscaler was built for.
    pub fn upscale(&mut self, input: &Image, output: &mut Image) -> Result<()> {
        self.process(&input.frame()?, &mut output.frame_mut()?)
    }

    /// Prepares `model` for `job`.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::check`], and a device that this build cannot use.
    pub fn new(model: Arc<Model>, job: UpscaleSpec, options: &UpscaleOptions) -> Result<Self> {
        let place = options.device.resolve()?;
        let sizes = match Self::check_on(&place, &model, &job, options) {
            Ok(sizes) => sizes,
            #[cfg(feature = "cuda")]
            Err(error)
                if options.device == DeviceChoice::Auto && !place.candle_device().is_cpu() =>
            {
                return Self::without_gpu(model, job, options, &error);
            }
            Err(error) => return Err(error),
        };
        #[cfg(feature = "cuda")]
        match gpu_job(&place, &model, &job, &sizes, options) {
            Ok(None) => {}
            Ok(Some(gpu)) => {
                let stages = (model.cascade(job.scale), Vec::new());
                return Ok(Self {
                    gpu: Some(gpu),
                    ..Self::with(model, job, options, place, stages, None)?
                });
            }
            Err(error) => return Self::without_gpu(model, job, options, &error),
        }
        let stages = match stages(&model, &job, options, &place, &sizes) {
            Ok(stages) => stages,
            // The weights do not fit its memory.
            #[cfg(feature = "cuda")]
            Err(error) if !place.candle_device().is_cpu() => {
                return Self::without_gpu(model, job, options, &error);
            }
            Err(error) => return Err(error),
        };
        let size = stages.last().map_or(job.input.size, Stage::size);
        let finish = (size != job.output).then(|| Resampler::resize(size, job.output));
        let scales = model.cascade(job.scale);
        Self::with(model, job, options, place, (scales, stages), finish)
    }

    /// The same on the CPU after a GPU failed, unless that GPU was insisted on.
    #[cfg(feature = "cuda")]
    fn without_gpu(
        model: Arc<Model>,
        job: UpscaleSpec,
        options: &UpscaleOptions,
        error: &Error,
    ) -> Result<Self> {
        let why = format!("the GPU failed: {}", gpu::words(error));
        if options.device != DeviceChoice::Auto {
            return Err(Error::Setting(format!(
                "{why}; or use device=auto or device=cpu"
            )));
        }
        let device = DeviceChoice::Cpu;
        let on_cpu = Self::new(model, job, &UpscaleOptions { device, ..*options })?;
        Ok(Self {
            place: ComputeDevice::cpu(Some(why.clone())),
            options: *options,
            given_up: Some(why),
            ..on_cpu
        })
    }

    fn with(
        model: Arc<Model>,
        job: UpscaleSpec,
        options: &UpscaleOptions,
        place: ComputeDevice,
        (scales, stages): (Vec<Scale>, Vec<Stage>),
        finish: Option<Resampler>,
    ) -> Result<Self> {
        let rgb_on_yuv = !stages.is_empty()
            && model.channels() == Channels::Rgb
            && job.input.format.family() == Family::Yuv;
        Ok(Self {
            place,
            #[cfg(feature = "cuda")]
            gpu: None,
            #[cfg(feature = "cuda")]
            options: *options,
            given_up: None,
            finish,
            direct: direct_resamplers(&job),
            chroma: rgb_on_yuv.then(|| Arc::new(chroma_resamplers(&job))),
            model,
            job,
            scales,
            stages,
            pool: pool(options.threads)?,
            scratch: Scratch::default(),
        })
    }

    /// Whether `model` can do `job` on this machine; the size after each of
    /// its networks.
    ///
    /// # Errors
    ///
    /// A size that is too large, for the engine or for the memory that is
    /// free (of the CPU's, where a GPU has not enough and need not be), tiles
    /// that overlap by more than their size, and a device that cannot be used.
    pub fn check(
        model: &Model,
        job: &UpscaleSpec,
        options: &UpscaleOptions,
    ) -> Result<Vec<(usize, usize)>> {
        let place = options.device.resolve()?;
        let sizes = Self::check_on(&place, model, job, options);
        let cpu = ComputeDevice::cpu(None);
        match options.device {
            DeviceChoice::Auto if !place.candle_device().is_cpu() && sizes.is_err() => {
                Self::check_on(&cpu, model, job, options)
            }
            _ => sizes,
        }
    }

    fn check_on(
        place: &ComputeDevice,
        model: &Model,
        job: &UpscaleSpec,
        options: &UpscaleOptions,
    ) -> Result<Vec<(usize, usize)>> {
        let on_gpu = !place.candle_device().is_cpu();
        let averaged = TilingOptions::new(options, 1, place)?.overlapped_tile();
        check_size(job.input.size)?;
        check_size(job.output)?;
        let area = |&(width, height): &(usize, usize)| (width * height) as u64;
        let mut reached = Scale::ONE;
        let (mut sizes, mut seen) = (Vec::new(), job.input.size);
        // Values inside the network that sees the most at once.
        let (mut inside, mut remedies) = (0, "");
        // A GPU runs chains in bands of as many rows as fit.
        let mut banded = true;
        for scale in model.cascade(job.scale) {
            reached = reached.checked_mul(scale).unwrap_or(reached);
            let (width, height) = job.input.size;
            let size = (reached.apply(width), reached.apply(height));
            check_size(size)?;
            let network = model.for_scale(scale)?;
            let sees = match network.upsampling() {
                Upsampling::Pre => size,
                Upsampling::Post(_) => seen,
            };
            let packed = model.packed(scale)?;
            banded &= packed.is_some();
            let at_once = match packed {
                Some(packed) => packed.buffer_floats() as u64 * area(&sees),
                None if network.whole_frame() => {
                    if averaged.is_none() {
                        remedies = ", or tiles that overlap";
                    }
                    let side = averaged.unwrap_or(usize::MAX);
                    let tile = (sees.0.min(side), sees.1.min(side));
                    network.working_set() as u64 * area(&tile)
                }
                None if network.global_pools() > 0 => {
                    (network.working_set() * pooled_samples(&network, sees)) as u64
                }
                None => 0,
            };
            inside = inside.max(at_once);
            sizes.push(size);
            seen = size;
        }
        let planes = model.channels().count() as u64;
        let components = job.input.format.components().len() as u64;
        // What a network takes and makes, and every component at the output's size.
        let widest = sizes.iter().map(area).max().unwrap_or(0);
        let outside = 2 * planes * widest + (components + 1) * area(&job.output);
        let ((w, h), (ow, oh)) = (job.input.size, job.output);
        let what = format!("{w}x{h} to {ow}x{oh} by {}", model.name());
        if on_gpu {
            memory::check(outside, &ComputeDevice::cpu(None), &what, "")?;
        }
        if !(on_gpu && banded) {
            memory::check(inside + outside, place, &what, remedies)?;
        }
        Ok(sizes)
    }

    /// The model that runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What is done to each frame.
    pub fn spec(&self) -> &UpscaleSpec {
        &self.job
    }

    /// The device that computes.
    pub fn device(&self) -> &ComputeDevice {
        &self.place
    }

    /// The numbers that the networks compute with: `f32` on the CPU, and on a
    /// GPU `f32` or `tf32` where a network is no chain of convolutions.
    pub fn precision(&self) -> Precision {
        #[cfg(feature = "cuda")]
        if self.gpu.is_some() {
            return match self.options.precision {
                Precision::Auto => Precision::F16,
                Precision::Tf32 => Precision::F32,
                asked => asked,
            };
        }
        #[cfg(feature = "cudnn")]
        if !self.place.candle_device().is_cpu()
            && self.place.missing_cudnn().is_none()
            && self.options.precision != Precision::F32
        {
            return Precision::Tf32;
        }
        Precision::F32
    }

    /// Why a GPU was given up for the CPU since this upscaler was asked for,
    /// in words.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.given_up.as_deref()
    }

    /// The native scales of the networks that run one after the other; empty
    /// where frames are only resampled.
    pub fn native_scales(&self) -> &[Scale] {
        &self.scales
    }

    /// Whether the networks' result is resampled to reach the output size.
    pub fn resamples(&self) -> bool {
        let reached = self
            .scales
            .iter()
            .try_fold(Scale::ONE, |all, &scale| all.checked_mul(scale));
        let (width, height) = self.job.input.size;
        reached.is_none_or(|all| (all.apply(width), all.apply(height)) != self.job.output)
    }

    /// The number of tiles that a frame is computed in.
    pub fn tiles(&self) -> usize {
        self.stages.iter().map(Stage::tiles).sum()
    }

    /// Makes `output` from `input`. Every sample of the output is written.
    ///
    /// # Errors
    ///
    /// Frames of another shape than the job's.
    pub fn process(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.expect_both(input, output)?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            match gpu.process(input, output) {
                Ok(()) => return Ok(()),
                Err(error @ Error::Frame(_)) => return Err(error),
                Err(error) => self.give_up_gpu(&error)?,
            }
        }
        self.steadily(|this| {
            let components = input.format().components();
            let planes = &mut this.scratch.input;
            planes.resize_with(components.len(), Vec::new);
            let pairs = planes.par_iter_mut().zip(components);
            pairs.for_each(|(plane, component)| input.read(component, plane));
            match (this.stages.is_empty(), this.model.channels()) {
                (true, _) => this.resample_all(output),
                (false, Channels::Luma) => this.by_luma(output),
                (false, Channels::Rgb) => this.by_rgb(output),
            }
        })
    }

    /// Computes on the pool's threads. Where a GPU fails at what candle does,
    /// once more: by smaller tiles if its memory was too small, else without it.
    fn steadily<T: Send>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T> + Send,
    ) -> Result<T> {
        let pool = Arc::clone(&self.pool);
        let result = pool.install(|| work(self));
        #[cfg(feature = "cuda")]
        if let Err(error @ Error::Compute(_)) = &result
            && !self.place.candle_device().is_cpu()
        {
            if !(gpu::is_out_of_memory(error) && self.make_tiles_smaller()) {
                self.give_up_gpu(error)?;
            }
            return self.steadily(work);
        }
        result
    }

    /// Halves the number of tiles that are seen at once, or their side; whether
    /// that was possible.
    #[cfg(feature = "cuda")]
    fn make_tiles_smaller(&mut self) -> bool {
        let halved: Vec<bool> = self.stages.iter_mut().map(Stage::halve).collect();
        if halved.contains(&true) {
            return true;
        }
        let sides = self.stages.iter().map(Stage::side);
        let Some(tile) = sides.max().flatten().map(|side| side / 2) else {
            return false;
        };
        let options = UpscaleOptions {
            tile_size: tile,
            ..self.options
        };
        // What they reach is the same.
        let sizes: Vec<_> = self.stages.iter().map(Stage::asked).collect();
        match stages(&self.model, &self.job, &options, &self.place, &sizes) {
            Ok(smaller) => self.stages = smaller,
            Err(_) => return false,
        }
        true
    }

    /// Whether frames can be begun before others are finished.
    pub fn supports_pipelining(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.gpu.is_some();
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Forgets the frames that were begun.
    pub fn cancel(&mut self) {
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            gpu.forget();
        }
    }

    /// Begins to make a frame of `input`, which [`Upscaler::receive`] is to have
    /// once more. Returns whether it was begun: only by a GPU that serves chains
    /// of convolutions, and has the memory, which is then at work while frames
    /// are taken to it and fetched. [`Upscaler::process`] does it otherwise, once
    /// those that were begun are finished.
    ///
    /// # Errors
    ///
    /// A frame of another shape than the job's, a third one; a GPU that fails
    /// and was insisted on.
    pub fn submit(&mut self, input: &FrameRef<'_>) -> Result<bool> {
        self.expect_input(input)?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            match gpu.begin(input) {
                Ok(begun) => return Ok(begun),
                Err(error @ Error::Frame(_)) => return Err(error),
                Err(error) => self.give_up_gpu(&error)?,
            }
        }
        Ok(false)
    }

    /// Makes `output` of the `input` that was begun first; without the GPU, if
    /// that failed meanwhile and may be given up.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::process`].
    pub fn receive(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.expect_both(input, output)?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = self.gpu.as_mut().filter(|gpu| gpu.begun() > 0) {
            match gpu.finish(output) {
                Ok(()) => return Ok(()),
                Err(error) => self.give_up_gpu(&error)?,
            }
        }
        self.process(input, output)
    }

    /// As [`Upscaler::process`] for frames that lie in the GPU's memory, plane by
    /// plane, without a copy to the host; all is done on return. Returns whether
    /// it was done: not where the CPU computes, or a network that is no chain of
    /// convolutions. [`Upscaler::process`] does it then.
    ///
    /// # Errors
    ///
    /// Another number of planes; a GPU that fails and was insisted on.
    ///
    /// # Safety
    ///
    /// The planes have the rows of the job's shapes, in memory of the primary
    /// context of this upscaler's GPU ([`ComputeDevice::context`]), and nothing else
    /// writes to them.
    #[cfg(feature = "cuda")]
    pub unsafe fn process_on_gpu(
        &mut self,
        input: &[super::GpuPlane],
        output: &[super::GpuPlane],
    ) -> Result<bool> {
        let Some(gpu) = &mut self.gpu else {
            return Ok(false);
        };
        // SAFETY: the caller's word.
        match unsafe { gpu.process_there(input, output) } {
            Ok(()) => Ok(true),
            Err(error @ Error::Frame(_)) => Err(error),
            Err(error) => {
                self.give_up_gpu(&error)?;
                Ok(false)
            }
        }
    }

    /// As [`Upscaler::process`] for the planes that the networks take, without
    /// a frame around them: luma, or R, G and B, dense rows of values 0 to 255
    /// that need not be whole numbers. The result is clamped to that range and
    /// not rounded. Where no network runs, any number of planes is resampled.
    ///
    /// # Errors
    ///
    /// Another number of planes, or planes of another size than the job's.
    pub fn process_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let (width, height) = self.job.input.size;
        let count = match self.scales.is_empty() {
            true => planes.len(),
            false => self.model.channels().count(),
        };
        if planes.len() != count || planes.iter().any(|p| p.len() != width * height) {
            let found: Vec<_> = planes.iter().map(Vec::len).collect();
            return Err(Error::Frame(format!(
                "expected {count} planes of {width}x{height} samples, found planes of {found:?}"
            )));
        }
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            match gpu.process_planes(planes) {
                Ok(made) => return Ok(made.into_iter().map(in_range).collect()),
                Err(error) => self.give_up_gpu(&error)?,
            }
        }
        self.steadily(|this| {
            this.run_stages(|_| planes.to_vec(), None)?;
            let mut made = std::mem::take(&mut this.scratch.planes[0]);
            let samples = made.par_iter_mut().flatten();
            // Resampling overshoots where it follows, or replaces, the networks.
            samples.for_each(|v| *v = v.clamp(0.0, MAX_VALUE));
            Ok(made)
        })
    }

    /// Goes on without the GPU, if it may.
    #[cfg(feature = "cuda")]
    fn give_up_gpu(&mut self, error: &Error) -> Result<()> {
        *self = Self::without_gpu(Arc::clone(&self.model), self.job, &self.options, error)?;
        Ok(())
    }

    fn expect_input(&self, input: &FrameRef<'_>) -> Result<()> {
        let given = FrameSpec {
            format: input.format(),
            size: input.size(),
            color: input.color(),
        };
        self.expect(given, self.job.input.size, "input")
    }

    fn expect_both(&self, input: &FrameRef<'_>, output: &FrameMut<'_>) -> Result<()> {
        self.expect_input(input)?;
        let given = FrameSpec {
            format: output.format(),
            size: output.size(),
            color: output.color(),
        };
        self.expect(given, self.job.output, "output")
    }

    fn expect(&self, given: FrameSpec, size: (usize, usize), what: &str) -> Result<()> {
        let expected = FrameSpec {
            size,
            ..self.job.input
        };
        if given == expected {
            return Ok(());
        }
        Err(Error::Frame(format!(
            "the {what} frame is {given}, expected {expected}"
        )))
    }

    /// Every component from its own plane, without a network.
    fn resample_all(&mut self, output: &mut FrameMut<'_>) -> Result<()> {
        let components = output.format().components();
        store(output, 0..components.len(), |i| self.straight(i));
        Ok(())
    }

    /// Luma by the network, the rest resampled.
    fn by_luma(&mut self, output: &mut FrameMut<'_>) -> Result<()> {
        let format = output.format();
        let components = format.components().len();
        if format.family() != Family::Rgb {
            let luma = &format.components()[0];
            let straight = self.finish.is_none() && self.stages.last().is_some_and(Stage::is_fused);
            if straight {
                let sink = SamplesOut::new(output, luma);
                self.run_stages(|input| vec![input[0].clone()], Some(&sink))?;
            } else {
                self.run_stages(|input| vec![input[0].clone()], None)?;
            }
            store(output, usize::from(straight)..components, |i| match i {
                0 => Plane::Ready(&self.scratch.planes[0][0]),
                _ => self.straight(i),
            });
            return Ok(());
        }
        // Resampling is linear: adding to each colour what the network changes
        // in luma is the same as going through Y'CbCr, without its rounding.
        self.run_stages(|input| vec![luma601(input)], None)?;
        self.resample(0..3);
        let scratch = &mut self.scratch;
        let (colors, _) = scratch.direct.split_at(3);
        let luma = &mut scratch.planes[0][0];
        luma.par_iter_mut().enumerate().for_each(|(i, luma)| {
            let before = luma_of([colors[0][i], colors[1][i], colors[2][i]]);
            *luma = (*luma - before) * Luma601::RGB_PER_LUMA;
        });
        let scratch = &self.scratch;
        store(output, 0..components, |i| match i {
            0..3 => Plane::Sum(&scratch.direct[i], &scratch.planes[0][0]),
            _ => self.straight(i),
        });
        Ok(())
    }

    /// Red, green and blue by the network; alpha is resampled.
    fn by_rgb(&mut self, output: &mut FrameMut<'_>) -> Result<()> {
        let format = output.format();
        let components = format.components().len();
        let conversion = YuvToRgb::new(self.job.input.color);
        let chroma = self.chroma.clone();
        match format.family() {
            Family::Rgb => self.run_stages(|input| input[..3].to_vec(), None)?,
            Family::Gray => self.run_stages(
                |input| {
                    let grey = |&y: &f32| conversion.rgb([y, 128.0, 128.0])[0];
                    let plane: Vec<f32> = input[0].iter().map(grey).collect();
                    vec![plane.clone(), plane.clone(), plane]
                },
                None,
            )?,
            Family::Yuv => self.run_stages(
                |input| {
                    let full = |plane: &Vec<f32>| match chroma.as_deref() {
                        Some([up, _]) => resampled(up, plane),
                        None => plane.clone(),
                    };
                    let mut planes = vec![input[0].clone(), full(&input[1]), full(&input[2])];
                    map_triples(&mut planes, |yuv| conversion.rgb(yuv));
                    planes
                },
                None,
            )?,
        }
        let scratch = &mut self.scratch;
        let planes = &mut scratch.planes[0];
        match format.family() {
            Family::Rgb => {}
            Family::Gray => map_triples(planes, |rgb| [conversion.luma(rgb); 3]),
            Family::Yuv => {
                map_triples(planes, |rgb| conversion.yuv(rgb));
                if let Some([_, down]) = self.chroma.as_deref() {
                    for plane in &mut planes[1..] {
                        *plane = resampled(down, plane);
                    }
                }
            }
        }
        store(output, 0..components, |i| match i {
            0..3 => Plane::Ready(&self.scratch.planes[0][i]),
            _ => self.straight(i),
        });
        Ok(())
    }

    /// Runs all stages on what `first` makes of the input's components; the
    /// result is in `scratch.planes[0]`.
    /// With a sink, it takes what the last stage makes instead.
    fn run_stages(
        &mut self,
        first: impl FnOnce(&[Vec<f32>]) -> Vec<Vec<f32>>,
        sink: Option<&dyn Sink>,
    ) -> Result<()> {
        let Scratch { input, planes, .. } = &mut self.scratch;
        let [current, next] = planes;
        *current = first(input);
        let last = self.stages.len().saturating_sub(1);
        for (i, stage) in self.stages.iter_mut().enumerate() {
            if let Some(sink) = sink.filter(|_| i == last) {
                stage.run_into(current, sink);
                return Ok(());
            }
            next.resize_with(current.len(), Vec::new);
            stage.run(current, next)?;
            std::mem::swap(current, next);
        }
        if let Some(finish) = &self.finish {
            for plane in current {
                *plane = resampled(finish, plane);
            }
        }
        Ok(())
    }

    /// A component of the input, resampled row by row as it is stored.
    fn straight(&self, component: usize) -> Plane<'_> {
        Plane::Resampled(&self.direct[component], &self.scratch.input[component])
    }

    /// Resamples some of the input's components into `scratch.direct`.
    fn resample(&mut self, components: std::ops::Range<usize>) {
        let Scratch { input, direct, .. } = &mut self.scratch;
        direct.resize_with(input.len(), Vec::new);
        for i in components {
            resample(&self.direct[i], &input[i], &mut direct[i]);
        }
    }
}

/// The networks of a job, each to one of the sizes.
fn stages(
    model: &Arc<Model>,
    job: &UpscaleSpec,
    options: &UpscaleOptions,
    place: &ComputeDevice,
    sizes: &[(usize, usize)],
) -> Result<Vec<Stage>> {
    let threads = pool(options.threads)?.current_num_threads();
    let division = TilingOptions::new(options, threads, place)?;
    let networks = model.to_device(place.candle_device())?;
    let (mut stages, mut size) = (Vec::new(), job.input.size);
    for (scale, &to) in model.cascade(job.scale).into_iter().zip(sizes) {
        let mut stage = Stage::new(networks.for_scale(scale)?, size, to, &division);
        if let Some(packed) = networks.packed(scale)? {
            stage.fuse(packed, options)?;
        }
        size = stage.size();
        stages.push(stage);
    }
    Ok(stages)
}

/// The job on a GPU, if the place is one and its kernels cover the networks.
#[cfg(feature = "cuda")]
fn gpu_job(
    place: &ComputeDevice,
    model: &Model,
    job: &UpscaleSpec,
    sizes: &[(usize, usize)],
    options: &UpscaleOptions,
) -> Result<Option<GpuJob>> {
    if place.candle_device().is_cpu() {
        return Ok(None);
    }
    let scales = model.cascade(job.scale);
    let gpu = Gpu::new(place.candle_device())?;
    GpuJob::new(
        gpu,
        model,
        (job, &scales, sizes),
        (gpu::half(options.precision), options.tile_size),
    )
}

/// Clamped to what a sample can be: resampling overshoots.
#[cfg(feature = "cuda")]
fn in_range(mut plane: Vec<f32>) -> Vec<f32> {
    plane.iter_mut().for_each(|v| *v = v.clamp(0.0, MAX_VALUE));
    plane
}

/// Resamples a plane on all threads of the pool.
fn resample(resampler: &Resampler, source: &[f32], out: &mut Vec<f32>) {
    let (width, height) = resampler.size();
    out.resize(width * height, 0.0);
    let rows = height.div_ceil(rayon::current_num_threads()).max(1);
    let bands = out.par_chunks_mut(rows * width).enumerate();
    bands.for_each(|(band, out)| {
        let mut line = Vec::new();
        for (i, out) in out.chunks_mut(width).enumerate() {
            resampler.row(source, band * rows + i, 0..width, &mut line, out);
        }
    });
}

/// The plane, resampled on all threads of the pool.
fn resampled(resampler: &Resampler, source: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    resample(resampler, source, &mut out);
    out
}

/// Where a component's samples come from.
enum Plane<'a> {
    Ready(&'a [f32]),
    Sum(&'a [f32], &'a [f32]),
    /// Made from a plane as its rows are stored.
    Resampled(&'a Resampler, &'a [f32]),
}

/// Room for a row that is not in a plane yet.
#[derive(Default)]
struct Room {
    line: Vec<f32>,
    row: Vec<f32>,
}

/// Rounds dense planes into the samples of some of a frame's components.
fn store<'a>(
    output: &mut FrameMut<'_>,
    components: std::ops::Range<usize>,
    source: impl Fn(usize) -> Plane<'a> + Sync,
) {
    let format = output.format();
    let (width, height) = output.size();
    for plane in 0..format.planes() {
        let (row_bytes, rows) = format.plane_size(plane, width, height);
        let (data, stride) = output.plane_mut(plane);
        data.par_chunks_mut(stride)
            .take(rows)
            .enumerate()
            .for_each_init(Room::default, |room, (y, row)| {
                let row = &mut row[..row_bytes];
                if let Some(padding) = format.padding() {
                    row.iter_mut()
                        .skip(padding.offset)
                        .step_by(padding.step)
                        .for_each(|b| *b = 255);
                }
                for (i, component) in format.components().iter().enumerate() {
                    if component.plane == plane && components.contains(&i) {
                        store_row(row, component, width, y, &source(i), room);
                    }
                }
            });
    }
}

fn store_row(
    row: &mut [u8],
    component: &Component,
    width: usize,
    y: usize,
    source: &Plane<'_>,
    room: &mut Room,
) {
    let samples = width.div_ceil(component.sub_x);
    let own = y * samples..(y + 1) * samples;
    let row = &mut row[component.offset..];
    let values = match source {
        Plane::Ready(plane) => &plane[own],
        Plane::Sum(a, b) => {
            let sums = a[own.clone()].iter().zip(&b[own]);
            room.row.clear();
            room.row.extend(sums.map(|(a, b)| a + b));
            &room.row
        }
        Plane::Resampled(resampler, plane) => {
            room.row.resize(samples, 0.0);
            resampler.row(plane, y, 0..samples, &mut room.line, &mut room.row);
            &room.row
        }
    };
    if component.step == 1 {
        return round(values, row);
    }
    for (target, &value) in row.iter_mut().step_by(component.step).zip(values) {
        *target = to_u8(value);
    }
}

/// BT.601 studio luma of R, G and B planes.
fn luma601(rgb: &[Vec<f32>]) -> Vec<f32> {
    let triples = rgb[0].par_iter().zip(&rgb[1]).zip(&rgb[2]);
    triples.map(|((&r, &g), &b)| luma_of([r, g, b])).collect()
}

#[inline]
fn luma_of(rgb: [f32; 3]) -> f32 {
    Luma601::of(rgb.map(f64::from)) as f32
}

fn map_triples(planes: &mut [Vec<f32>], f: impl Fn([f32; 3]) -> [f32; 3] + Sync) {
    let [a, b, c] = planes else { return };
    let triples = a.par_iter_mut().zip(b.par_iter_mut()).zip(c.par_iter_mut());
    triples.for_each(|((a, b), c)| [*a, *b, *c] = f([*a, *b, *c]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Color, PixelFormat};
    use crate::models::BICUBIC;

    #[test]
    fn planes_are_the_unrounded_frame() {
        let shape = FrameSpec {
            format: PixelFormat::Gray8,
            size: (7, 5),
            color: Color::default(),
        };
        let model = Model::builtin(BICUBIC).unwrap();
        let job = UpscaleSpec::scaled(shape, Scale::whole(2));
        let mut upscaler = Upscaler::new(model, job, &UpscaleOptions::default()).unwrap();
        let samples: Vec<u8> = (0..35).map(|i| if i % 3 == 0 { 255 } else { i }).collect();
        let frame = FrameRef::new(shape.format, (7, 5), shape.color, &[(&samples, 7)]).unwrap();
        let mut made = [0; 14 * 10];
        let planes = [(made.as_mut_slice(), 14)];
        let mut output = FrameMut::new(shape.format, (14, 10), shape.color, planes).unwrap();
        upscaler.process(&frame, &mut output).unwrap();
        let plane: Vec<f32> = samples.iter().map(|&v| f32::from(v)).collect();
        let planes = upscaler.process_planes(&[plane]).unwrap();
        let in_range = |v: &f32| (0.0..=MAX_VALUE).contains(v);
        assert!(planes[0].iter().all(in_range) && planes[0].iter().any(|v| v.fract() != 0.0));
        let rounded: Vec<u8> = planes[0].iter().map(|&v| to_u8(v)).collect();
        assert_eq!(rounded, made);
        assert!(upscaler.process_planes(&[vec![0.0; 34]]).is_err());
    }
}
