//! Frames on a GPU: upload, colour conversion, networks, conversion back and
//! download, without the CPU in between.

mod compile;
mod slot;

use super::ComputeDevice;
use super::backend::{Backend, DevicePlane};
use super::frame_plan::{FramePlan, NetworkSpec};
use super::options::UpscaleOptions;
use super::spec::UpscaleSpec;
use crate::chain::Precision;
use crate::chain::cuda::{Network, PlaneProgram, half};
use crate::frame::{Component, FrameMut, FrameRef, MAX_VALUE};
use crate::models::Upsampling;
use crate::ops::cuda::Gpu;
use crate::tensor_error::{Result, TensorError};
use crate::weights::Model;
use crate::{Error, Scale};
use compile::{Compiler, Stage};
use slot::{FrameSlot, is_pinned};
use std::collections::VecDeque;

/// Largest number of frames in flight.
const MAX_IN_FLIGHT: usize = 2;

/// An upscale on a GPU.
pub(super) struct CudaBackend {
    gpu: Gpu,
    spec: UpscaleSpec,
    precision: Precision,
    /// Rows of a band; 0: automatic.
    band_rows: usize,
    networks: Vec<NetworkSpec>,
    plan: FramePlan,
    /// One, or two with frames in flight. Dropped, which waits for the GPU,
    /// before the weights that they read.
    slots: Vec<FrameSlot>,
    stages: Vec<Stage>,
    /// Slots with a frame in flight, the oldest first.
    in_flight: VecDeque<usize>,
    /// Whether there is not enough memory for a second slot.
    single_slot: bool,
    /// Whether downloads go through staging memory and are enqueued together
    /// with the frame.
    downloads: bool,
    planes: Option<(usize, PlaneProgram)>,
}

impl CudaBackend {
    /// Prepares an upscale; `None` if the device is not a GPU, the samples of a row
    /// are not equally spaced, or a network is not a chain of convolutions that the
    /// kernels support.
    ///
    /// # Errors
    ///
    /// The GPU is out of memory or fails.
    pub(super) fn new(
        device: &ComputeDevice,
        model: &Model,
        spec: &UpscaleSpec,
        networks: &[NetworkSpec],
        options: &UpscaleOptions,
    ) -> Result<Option<Self>> {
        let is_equally_spaced = |c: &Component| c.pattern.is_empty();
        let components = spec.input.format.components();
        if device.is_cpu() || !components.iter().all(is_equally_spaced) {
            return Ok(None);
        }
        let gpu = Gpu::new(device.candle_device())?;
        let mut stages = Vec::new();
        for (scale, network) in model.cascade(spec.scale).into_iter().zip(networks) {
            let Some(on_gpu) = network_of(&gpu, model, scale, options.precision)? else {
                return Ok(None);
            };
            stages.push(Stage {
                network: on_gpu,
                upscaled: match network.upsampling {
                    Upsampling::Pre => Some(network.output),
                    Upsampling::Post(_) => None,
                },
                limit: spec.network_limit(model.channels()),
            });
        }
        Ok(Some(Self {
            gpu,
            spec: *spec,
            precision: match options.precision {
                Precision::Auto => Precision::F16,
                Precision::Tf32 => Precision::F32,
                precision => precision,
            },
            band_rows: options.tile_size,
            networks: networks.to_vec(),
            plan: FramePlan::of_frames(spec, model.channels(), networks),
            stages,
            slots: Vec::new(),
            in_flight: VecDeque::new(),
            single_slot: false,
            downloads: true,
            planes: None,
        }))
    }

    fn new_slot(&self, gpu: &Gpu) -> Result<FrameSlot> {
        FrameSlot::new(gpu, self.band_rows, &self.spec, &self.stages, &self.plan)
    }

    /// The slot for synchronous frames.
    fn first_slot(&mut self) -> Result<&mut FrameSlot> {
        if !self.in_flight.is_empty() {
            let problem = "receive the submitted frames first";
            return Err(Error::Frame(problem.to_owned()).into());
        }
        if self.slots.is_empty() {
            self.slots.push(self.new_slot(&self.gpu)?);
        }
        Ok(&mut self.slots[0])
    }

    fn plane_program(&self, count: usize) -> Result<PlaneProgram> {
        let (plan, output) = FramePlan::of_planes(&self.spec, count, &self.networks);
        let sizes = (
            (count, self.spec.input.size),
            (output.count, self.spec.output),
        );
        PlaneProgram::new(&self.gpu, self.band_rows, sizes, |builder, from, to| {
            let fixed = [(0, from.address), (output.set, to.address)];
            let upscale = (&self.spec, self.stages.as_slice());
            let mut compiler = Compiler::new(builder, upscale, &plan, &fixed, None)?;
            plan.steps.iter().try_for_each(|step| compiler.add(step))
        })
    }
}

/// A network of a model on a GPU; `None` if the kernels do not cover it.
fn network_of(
    gpu: &Gpu,
    model: &Model,
    scale: Scale,
    precision: Precision,
) -> Result<Option<Network>> {
    if precision == Precision::Int8 {
        return match model.quantized(scale)? {
            Some(packed) => Network::quantized(gpu, &packed),
            None => Ok(None),
        };
    }
    let chain = match model.packed(scale)? {
        Some(_) => model.for_scale(scale)?.chain()?,
        None => None,
    };
    match chain {
        Some(chain) => Network::new(gpu, &chain, half(precision)),
        None => Ok(None),
    }
}

impl Backend for CudaBackend {
    fn run(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        let spec = self.spec;
        let slot = self.first_slot()?;
        slot.submit(&spec, input, !is_pinned(output))?;
        slot.receive(&spec, output)
    }

    fn run_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let count = planes.len();
        if self
            .planes
            .as_ref()
            .is_none_or(|&(known, _)| known != count)
        {
            self.planes = Some((count, self.plane_program(count)?));
        }
        let Some((_, program)) = &mut self.planes else {
            return Err(Error::Internal("there is no program for planes".to_owned()).into());
        };
        let mut result = program.run(planes.iter().flatten().copied())?;
        // Bicubic resampling overshoots.
        for value in result.iter_mut().flatten() {
            *value = value.clamp(0.0, MAX_VALUE);
        }
        Ok(result)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn supports_pipelining(&self) -> bool {
        true
    }

    fn submit(&mut self, input: &FrameRef<'_>) -> Result<bool> {
        if self.single_slot && !self.in_flight.is_empty() {
            return Ok(false);
        }
        let free = (0..MAX_IN_FLIGHT).find(|index| !self.in_flight.contains(index));
        let Some(index) = free else {
            let problem = format!("{MAX_IN_FLIGHT} frames are in flight, receive one first");
            return Err(Error::Frame(problem).into());
        };
        if self.slots.len() <= index {
            let gpu = match index {
                0 => Ok(self.gpu.clone()),
                _ => self.gpu.with_new_stream().map_err(TensorError::from),
            };
            match gpu.and_then(|gpu| self.new_slot(&gpu)) {
                Ok(slot) => self.slots.push(slot),
                Err(_) if index > 0 => {
                    self.single_slot = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.slots[index].submit(&self.spec, input, self.downloads)?;
        self.in_flight.push_back(index);
        Ok(true)
    }

    fn receive(&mut self, output: &mut FrameMut<'_>) -> Result<()> {
        let Some(index) = self.in_flight.pop_front() else {
            return Err(Error::Frame("no frame was submitted".to_owned()).into());
        };
        // The next frame is probably in the same kind of memory.
        self.downloads = !is_pinned(output);
        self.slots[index].receive(&self.spec, output)
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn cancel(&mut self) {
        for index in self.in_flight.drain(..) {
            // A failure of the GPU is reported at its next use.
            let _ = self.slots[index].synchronize();
        }
    }

    unsafe fn run_device_frame(
        &mut self,
        input: &[DevicePlane],
        output: &[DevicePlane],
        compares: bool,
    ) -> Result<Option<bool>> {
        let (spec, format) = (self.spec, self.spec.input.format);
        if [input, output].map(<[_]>::len) != [format.planes(); 2] {
            let problem = format!(
                "frames of {} have {} planes",
                format.name(),
                format.planes()
            );
            return Err(Error::Frame(problem).into());
        }
        // SAFETY: the caller's contract; the number of planes is checked above.
        unsafe {
            let slot = self.first_slot()?;
            slot.run_device_frame(&spec, (input, output), compares)
        }
        .map(Some)
    }
}
