//! Compiles a frame plan to kernel launches. Steps other than networks have the
//! same results as on the CPU, bit for bit (`src/ops/cuda/frames.cu`).

use crate::Error;
use crate::chain::cuda::{Builder, Network, Planes};
use crate::engine::frame_plan::{self, Conversion, FramePlan, NetworkOutput, Step};
use crate::engine::spec::UpscaleSpec;
use crate::frame::resample::Resampler;
use crate::frame::{Component, Luma601, PixelFormat, YuvToRgb};
use crate::ops::cuda::{ColorChange, Colors, Samples};
use crate::tensor_error::Result;

/// A network, and the size that its input is upscaled to if it is a
/// pre-upsampling one.
pub(super) struct Stage {
    pub(super) network: Network,
    pub(super) upscaled: Option<(usize, usize)>,
    /// The largest value of its output.
    pub(super) limit: f32,
}

/// Bytes a row of a plane, without padding, and its number of rows.
pub(super) fn plane_size(
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

/// Bytes of a frame without padding between rows.
pub(super) fn frame_length(format: PixelFormat, size: (usize, usize)) -> usize {
    (0..format.planes())
        .map(|plane| plane_length(format, plane, size))
        .sum()
}

/// Builds the program of a plan; allocates its planes.
pub(super) struct Compiler<'a> {
    builder: &'a mut Builder,
    spec: &'a UpscaleSpec,
    stages: &'a [Stage],
    sets: Vec<Planes>,
    /// Addresses of the input and the output frame, if there are frames.
    frames: Option<(u64, u64)>,
}

impl<'a> Compiler<'a> {
    /// Allocates the plan's planes, except for sets in the caller's memory
    /// (`fixed`: set, address).
    ///
    /// # Errors
    ///
    /// The GPU is out of memory.
    pub(super) fn new(
        builder: &'a mut Builder,
        (spec, stages): (&'a UpscaleSpec, &'a [Stage]),
        plan: &FramePlan,
        fixed: &[(usize, u64)],
        frames: Option<(u64, u64)>,
    ) -> Result<Self> {
        let (buffer_of, sizes) = plan.assign_buffers();
        let mut buffers = vec![None; sizes.len()];
        let mut sets = Vec::new();
        for (set, planes) in plan.sets.iter().enumerate() {
            let fixed = fixed.iter().find(|(fixed, _)| *fixed == set);
            let buffer = buffer_of[set];
            let address = match (fixed, buffers.get(buffer).copied().flatten()) {
                (Some(&(_, address)), _) | (None, Some(address)) => address,
                (None, None) => {
                    let samples = sizes.get(buffer).copied().unwrap_or(0);
                    let address = builder.program.alloc::<f32>(samples)?;
                    if let Some(slot) = buffers.get_mut(buffer) {
                        *slot = Some(address);
                    }
                    address
                }
            };
            sets.push(Planes {
                address,
                count: planes.count,
                size: planes.size,
            });
        }
        Ok(Self {
            builder,
            spec,
            stages,
            sets,
            frames,
        })
    }

    fn planes(&self, planes: frame_plan::Planes) -> Planes {
        Planes {
            count: planes.count,
            ..self.sets[planes.set].plane(planes.first)
        }
    }

    /// Adds the kernel launches of a step.
    ///
    /// # Errors
    ///
    /// The GPU is out of memory.
    pub(super) fn add(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Read { component, to } => {
                let to = self.planes(*to);
                let (input, _) = self.frames()?;
                let component = &self.components()[*component];
                let samples = self.samples(component, input, self.spec.input.size, to.address);
                Ok(self.builder.program.read(samples)?)
            }
            Step::Resample {
                resampling,
                from,
                to,
            } => {
                let (from, to) = (self.planes(*from), self.planes(*to));
                self.builder
                    .resample_into(&resampling.resampler(), from, to)
            }
            Step::Convert { conversion, planes } => {
                let change = match conversion {
                    Conversion::YuvToRgb => ColorChange::YuvToRgb,
                    Conversion::RgbToYuv => ColorChange::RgbToYuv,
                    Conversion::GrayToRgb => ColorChange::GrayToRgb,
                    Conversion::RgbToGray => ColorChange::RgbToGray,
                };
                let planes = self.planes(*planes);
                self.change(change, planes, 0)
            }
            Step::LumaOfRgb { rgb, luma } => {
                let (rgb, luma) = (self.planes(*rgb), self.planes(*luma));
                self.change(ColorChange::LumaOfRgb, rgb, luma.address)
            }
            Step::Premultiply {
                planes,
                alpha,
                zero,
            } => self.apply_alpha(ColorChange::Premultiply, (*planes, *alpha), *zero),
            Step::Unpremultiply {
                planes,
                alpha,
                zero,
            } => self.apply_alpha(ColorChange::Unpremultiply, (*planes, *alpha), *zero),
            Step::MergeLuma { rgb, luma } => {
                let (rgb, luma) = (self.planes(*rgb), self.planes(*luma));
                self.change(ColorChange::AddLuma, rgb, luma.address)
            }
            Step::Network { index, from, to } => {
                let NetworkOutput::Planes(to) = to else {
                    let problem = "a GPU's network writes to planes only";
                    return Err(Error::Internal(problem.to_owned()).into());
                };
                let (from, to) = (self.planes(*from), self.planes(*to));
                self.network(*index, from, to)
            }
            Step::Write { sources } => self.write(sources),
        }
    }

    fn network(&mut self, index: usize, from: Planes, to: Planes) -> Result<()> {
        let Some(stage) = self.stages.get(index) else {
            return Err(Error::Internal(format!("there is no network {index}")).into());
        };
        let input = match stage.upscaled {
            Some(size) => self
                .builder
                .resample(&Resampler::resize(from.size, size), from)?,
            None => from,
        };
        stage.network.add(self.builder, (input, to), stage.limit)
    }

    fn write(&mut self, sources: &[Option<frame_plan::Source>]) -> Result<()> {
        let (_, output) = self.frames()?;
        for (index, (component, source)) in self.components().iter().zip(sources).enumerate() {
            let Some(source) = source else { continue };
            let mut planes = self.planes(source.plane);
            if let Some(resampling) = source.resampling {
                planes = self.builder.resample(&resampling.resampler(), planes)?;
            }
            let mut samples = self.samples(component, output, self.spec.output, planes.address);
            samples.joins = i32::from(index > 0);
            self.builder.program.store(samples)?;
        }
        if let Some(padding) = self.spec.input.format.padding() {
            let samples = self.samples(&padding, output, self.spec.output, 0);
            self.builder.program.store(samples)?;
        }
        Ok(())
    }

    fn frames(&self) -> Result<(u64, u64)> {
        self.frames
            .ok_or_else(|| Error::Internal("a step needs a frame".to_owned()).into())
    }

    fn components(&self) -> &'static [Component] {
        self.spec.input.format.components()
    }

    /// A component's samples in the frame at address `start`.
    fn samples(
        &self,
        component: &Component,
        start: u64,
        size: (usize, usize),
        plane: u64,
    ) -> Samples {
        let quantization = component.quantization(self.spec.input.color.range);
        let format = self.spec.input.format;
        let before: usize = (0..component.plane)
            .map(|p| plane_length(format, p, size))
            .sum();
        let (stride, _) = plane_size(format, component.plane, size);
        let (width, height) = component.size(size.0, size.1);
        Samples {
            bytes: start + (before + component.offset) as u64,
            plane,
            stride: stride as i32,
            step: component.step as i32,
            width: width as i32,
            height: height as i32,
            word: component.word as i32,
            shift: component.shift as i32,
            joins: 0,
            max: quantization.max,
            gain: quantization.gain,
            offset: quantization.offset,
            inverse: quantization.inverse,
        }
    }

    /// Changes one plane by alpha.
    fn apply_alpha(
        &mut self,
        change: ColorChange,
        (planes, alpha): (frame_plan::Planes, frame_plan::Planes),
        zero: f32,
    ) -> Result<()> {
        let (planes, alpha) = (self.planes(planes), self.planes(alpha));
        Ok(self.builder.program.colors(Colors {
            planes: planes.address,
            other: alpha.address,
            samples: planes.samples() as u64,
            change: change as i32,
            luma_base: zero,
            weights: [0.0; 3],
            luma_gain: 0.0,
            chroma_gain: 0.0,
            rgb_per_luma: 0.0,
        })?)
    }

    fn change(&mut self, change: ColorChange, planes: Planes, other: u64) -> Result<()> {
        let (weights, [luma_base, luma_gain, chroma_gain]) =
            YuvToRgb::new(self.spec.input.color).constants();
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
