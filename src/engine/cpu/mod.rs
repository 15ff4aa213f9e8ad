//! Frames on the host. Networks run as fused chains on the CPU, or as candle's
//! tensors, also on a GPU.

mod mix;
mod program;
mod samples;
mod stage;
mod work;

pub(super) use mix::Mixer;

use super::ComputeDevice;
use super::backend::Backend;
use super::frame_plan::{FramePlan, NetworkSpec, Planes};
use super::options::UpscaleOptions;
use super::spec::UpscaleSpec;
use super::tiling::TilingOptions;
use crate::Error;
use crate::chain::{Interrupt, Precision};
use crate::frame::damage::Damage;
use crate::frame::{FrameMut, FrameRef, MAX_VALUE};
use crate::tensor_error::Result;
use crate::threads::pool;
use crate::weights::Model;
use program::Program;
use rayon::ThreadPool;
use stage::NetworkStage;
use std::sync::Arc;
use work::OutputSpec;

/// One upscale on the host.
pub(super) struct CpuBackend {
    model: Arc<Model>,
    spec: UpscaleSpec,
    options: UpscaleOptions,
    device: ComputeDevice,
    networks: Vec<NetworkSpec>,
    pool: Arc<ThreadPool>,
    stages: Vec<NetworkStage>,
    frames: Program,
    /// Whether `frames` holds the planes of the last frame.
    is_current: bool,
    /// The program for a number of planes, built on first use.
    planes: Option<(usize, PlaneProgram)>,
    interrupt: Interrupt,
}

/// A program for planes instead of frames.
struct PlaneProgram {
    program: Program,
    output: Planes,
}

impl CpuBackend {
    /// Prepares an upscale by networks on `device`.
    ///
    /// # Errors
    ///
    /// The device is out of memory, or threads cannot be started.
    pub(super) fn new(
        device: ComputeDevice,
        model: Arc<Model>,
        spec: UpscaleSpec,
        networks: Vec<NetworkSpec>,
        options: UpscaleOptions,
    ) -> Result<Self> {
        let stages = stages(&model, &spec, &options, &device, &networks)?;
        let plan = plan(&model, &spec, &networks, &stages);
        Ok(Self {
            pool: pool(options.threads)?,
            frames: Program::new(plan, spec.input.color, output(&spec), false),
            is_current: false,
            planes: None,
            interrupt: Interrupt::default(),
            stages,
            model,
            spec,
            options,
            device,
            networks,
        })
    }
}

/// The precision of fused chains, or of what candle computes on a GPU.
///
/// # Errors
///
/// 8-bit integers of a model without weights for them, or of what a GPU's kernels do
/// not cover.
fn cpu_precision(
    model: &Model,
    device: &ComputeDevice,
    options: &UpscaleOptions,
) -> crate::Result<Precision> {
    match (device.is_cpu(), options.precision) {
        (true, precision) => model.cpu_precision(precision),
        (false, Precision::Int8) => {
            model.cpu_precision(Precision::Int8)?;
            Err(Error::Setting(format!(
                "{} cannot run in 8-bit integers on {}",
                model.name(),
                device.name()
            )))
        }
        (false, _) => Ok(Precision::F32),
    }
}

/// The output frames of a program.
fn output(spec: &UpscaleSpec) -> OutputSpec {
    OutputSpec {
        format: spec.input.format,
        size: spec.output,
    }
}

/// The plan for frames.
fn plan(
    model: &Model,
    spec: &UpscaleSpec,
    networks: &[NetworkSpec],
    stages: &[NetworkStage],
) -> FramePlan {
    let mut plan = FramePlan::of_frames(spec, model.channels(), networks);
    let is_fused = stages.last().is_some_and(NetworkStage::is_fused);
    if is_fused && !spec.input.format.is_bit_packed() {
        plan.write_through(stages.len() - 1);
    }
    plan
}

/// The networks of the cascade, in order.
fn stages(
    model: &Arc<Model>,
    spec: &UpscaleSpec,
    options: &UpscaleOptions,
    device: &ComputeDevice,
    networks: &[NetworkSpec],
) -> Result<Vec<NetworkStage>> {
    let threads = pool(options.threads)?.current_num_threads();
    let tiling = TilingOptions::new(options, threads, device)?;
    let limit = spec.network_limit(model.channels());
    let on_device = model.to_device(device.candle_device())?;
    let precision = cpu_precision(model, device, options)?;
    let (mut stages, mut size) = (Vec::new(), spec.input.size);
    for (scale, network) in model.cascade(spec.scale).into_iter().zip(networks) {
        let to = network.output;
        let mut stage = NetworkStage::new(on_device.for_scale(scale)?, size, to, &tiling, limit);
        let packed = match precision {
            Precision::Int8 => on_device.quantized(scale)?,
            _ => on_device.packed(scale)?,
        };
        if let Some(packed) = packed {
            stage.fuse(packed, options)?;
        } else if precision == Precision::Int8 {
            let problem = format!("{} cannot run in 8-bit integers at x{scale}", model.name());
            return Err(Error::Setting(problem).into());
        }
        size = stage.size();
        stages.push(stage);
    }
    Ok(stages)
}

impl Backend for CpuBackend {
    fn run(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.is_current = false;
        let (frames, stages) = (&mut self.frames, &mut self.stages);
        self.pool
            .install(|| frames.run(stages, Some((input, output))))
    }

    fn update(
        &mut self,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
        changes: Option<&[Damage]>,
    ) -> Result<f64> {
        if !self.frames.retains() {
            let plan = plan(&self.model, &self.spec, &self.networks, &self.stages);
            let (color, output) = (self.spec.input.color, self::output(&self.spec));
            self.frames = Program::new(plan, color, output, true);
        }
        // A failure leaves the planes incomplete.
        let is_current = std::mem::take(&mut self.is_current);
        let changes = changes.filter(|_| is_current);
        let (frames, stages) = (&mut self.frames, &mut self.stages);
        let share = self.pool.install(|| {
            let run = Some((input, output));
            match changes {
                Some(changes) => frames.update(stages, run, changes),
                None => frames.run(stages, run).map(|()| 1.0),
            }
        })?;
        self.is_current = true;
        Ok(share)
    }

    fn updates_parts(&self) -> bool {
        true
    }

    fn run_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let count = planes.len();
        if self
            .planes
            .as_ref()
            .is_none_or(|&(known, _)| known != count)
        {
            let (plan, output) = FramePlan::of_planes(&self.spec, count, &self.networks);
            let color = self.spec.input.color;
            let program = Program::new(plan, color, self::output(&self.spec), false);
            self.planes = Some((count, PlaneProgram { program, output }));
        }
        let Some((_, PlaneProgram { program, output })) = &mut self.planes else {
            return Err(Error::Internal("there is no program for planes".to_owned()).into());
        };
        let input = Planes {
            set: 0,
            first: 0,
            count,
        };
        let samples = planes.iter().flatten();
        let targets = program.buffers.planes_mut(input).iter_mut();
        targets.zip(samples).for_each(|(to, &from)| *to = from);
        let stages = &mut self.stages;
        self.pool.install(|| program.run(stages, None))?;
        let samples = program.buffers.planes(*output);
        let planes = samples.chunks_exact(samples.len() / count);
        // Bicubic resampling overshoots.
        let clamped = |plane: &[f32]| plane.iter().map(|v| v.clamp(0.0, MAX_VALUE)).collect();
        Ok(planes.map(clamped).collect())
    }

    fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
        let stages = self.stages.iter_mut();
        stages.for_each(|stage| stage.set_interrupt(interrupt));
    }

    fn warm_up(&mut self) {
        self.frames.buffers.warm_up();
        self.stages.iter_mut().for_each(NetworkStage::warm_up);
    }

    fn shrink(&mut self) -> bool {
        let halved: Vec<bool> = (self.stages.iter_mut())
            .map(NetworkStage::halve_batch)
            .collect();
        if halved.contains(&true) {
            return true;
        }
        let sides = self.stages.iter().map(NetworkStage::tile_size);
        let Some(tile_size) = sides.max().flatten().map(|side| side / 2) else {
            return false;
        };
        let options = UpscaleOptions {
            tile_size,
            ..self.options
        };
        match stages(
            &self.model,
            &self.spec,
            &options,
            &self.device,
            &self.networks,
        ) {
            Ok(smaller) => self.stages = smaller,
            Err(_) => return false,
        }
        let interrupt = self.interrupt.clone();
        self.set_interrupt(&interrupt);
        true
    }

    fn precision(&self) -> Precision {
        if let Ok(Precision::Int8) = cpu_precision(&self.model, &self.device, &self.options) {
            return Precision::Int8;
        }
        let rounds = !self.device.is_cpu()
            && self.device.missing_cudnn().is_none()
            && self.options.precision != Precision::F32;
        match rounds {
            true => Precision::Tf32,
            false => Precision::F32,
        }
    }

    fn tiles(&self) -> usize {
        self.stages.iter().map(NetworkStage::tiles).sum()
    }
}
