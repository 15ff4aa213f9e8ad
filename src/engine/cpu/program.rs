//! A frame plan, executed step by step on the host.

use super::samples::{self, Plane};
use super::stage::NetworkStage;
use super::work::{OutputSpec, Work};
use crate::Error;
use crate::chain::cpu::{Areas, SamplesOut};
use crate::engine::frame_plan::{self, Conversion, FramePlan, NetworkOutput, PlaneSet, Planes};
use crate::frame::damage::Damage;
use crate::frame::resample::Resampler;
use crate::frame::{Color, FrameMut, FrameRef, YuvToRgb};
use crate::pages::{touch, zeroed};
use crate::tensor_error::Result;

/// A plan with its buffers and resampling weights.
pub(super) struct Program {
    pub(super) buffers: Buffers,
    steps: Vec<Step>,
    conversion: YuvToRgb,
    output: OutputSpec,
    /// Whether all planes are those of the last run: each has a buffer of its own.
    retains: bool,
}

/// A step and its resamplers: one for a `Resample`, one per component for a
/// `Write`.
struct Step {
    step: frame_plan::Step,
    resamplers: Vec<Option<Resampler>>,
}

/// The frames of a run; `None` for planes.
pub(super) type Frames<'a, 'b, 'c> = Option<(&'a FrameRef<'b>, &'a mut FrameMut<'c>)>;

impl Program {
    /// A program in as little memory as possible, or one that `retains` its planes,
    /// for [`Program::update`].
    pub(super) fn new(plan: FramePlan, color: Color, output: OutputSpec, retains: bool) -> Self {
        let (buffer_of, sizes) = match retains {
            true => plan.own_buffers(),
            false => plan.assign_buffers(),
        };
        let steps = plan.steps.into_iter().map(|step| {
            let resamplers = match &step {
                frame_plan::Step::Resample { resampling, .. } => {
                    vec![Some(resampling.resampler())]
                }
                frame_plan::Step::Write { sources } => (sources.iter())
                    .map(|source| Some(source.as_ref()?.resampling?.resampler()))
                    .collect(),
                _ => Vec::new(),
            };
            Step { step, resamplers }
        });
        Self {
            steps: steps.collect(),
            buffers: Buffers {
                sets: plan.sets,
                buffer_of,
                buffers: sizes.into_iter().map(zeroed).collect(),
            },
            conversion: YuvToRgb::new(color),
            output,
            retains,
        }
    }

    /// Whether [`Program::update`] is possible after a run.
    pub(super) fn retains(&self) -> bool {
        self.retains
    }

    /// Executes all steps.
    ///
    /// # Errors
    ///
    /// A network that fails.
    pub(super) fn run(
        &mut self,
        networks: &mut [NetworkStage],
        frames: Frames<'_, '_, '_>,
    ) -> Result<()> {
        let work = Work::all(&self.buffers.sets, networks.len(), &self.output);
        self.execute(networks, frames, &work)
    }

    /// Executes all steps on what depends on the damage of the input frame's planes
    /// since the last run, whose output frame this is. Returns the share of the
    /// networks' work that this took.
    ///
    /// # Errors
    ///
    /// As [`Program::run`].
    pub(super) fn update(
        &mut self,
        networks: &mut [NetworkStage],
        frames: Frames<'_, '_, '_>,
        changes: &[Damage],
    ) -> Result<f64> {
        let steps = self.steps.iter();
        let steps = steps.map(|step| (&step.step, step.resamplers.as_slice()));
        let plan = (self.buffers.sets.as_slice(), &*networks);
        let work = Work::after(changes, steps, plan, &self.output);
        self.execute(networks, frames, &work)?;
        Ok(work.share(networks))
    }

    fn execute(
        &mut self,
        networks: &mut [NetworkStage],
        mut frames: Frames<'_, '_, '_>,
        work: &Work,
    ) -> Result<()> {
        let (buffers, conversion) = (&mut self.buffers, &self.conversion);
        (self.steps.iter())
            .try_for_each(|step| step.run(buffers, (conversion, work), networks, &mut frames))
    }

    /// Executes all steps but the `Write`, and returns its planes. For plans without
    /// networks.
    ///
    /// # Errors
    ///
    /// A plan that does not end with a `Write`.
    pub(super) fn sources<'a>(
        &'a mut self,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
    ) -> Result<Vec<Option<Plane<'a>>>> {
        let work = Work::all(&self.buffers.sets, 0, &self.output);
        let (buffers, conversion) = (&mut self.buffers, &self.conversion);
        let Some((write, steps)) = self.steps.split_last() else {
            return Err(Error::Internal("a plan has no steps".to_owned()).into());
        };
        let mut frames = Some((input, output));
        (steps.iter())
            .try_for_each(|step| step.run(buffers, (conversion, &work), &mut [], &mut frames))?;
        match &write.step {
            frame_plan::Step::Write { sources } => Ok(write.planes(sources, buffers)),
            step => Err(Error::Internal(format!("a plan ends with {step:?}")).into()),
        }
    }
}

impl Step {
    fn run(
        &self,
        buffers: &mut Buffers,
        (conversion, work): (&YuvToRgb, &Work),
        networks: &mut [NetworkStage],
        frames: &mut Frames<'_, '_, '_>,
    ) -> Result<()> {
        use frame_plan::Step as S;
        match &self.step {
            S::Read { component, to } => {
                let (input, _) = expect(frames)?;
                let component = &input.format().components()[*component];
                samples::read(
                    input,
                    component,
                    buffers.planes_mut(*to),
                    &work.sets[to.set],
                );
            }
            S::Resample { from, to, .. } => {
                let Some(resampler) = self.resamplers.first().and_then(Option::as_ref) else {
                    return Ok(());
                };
                let (length_in, length_out) = (buffers.samples(*from), buffers.samples(*to));
                let (source, target) = buffers.pair(*from, *to)?;
                let (planes, damage) = (source.chunks_exact(length_in), &work.sets[to.set]);
                for (source, target) in planes.zip(target.chunks_exact_mut(length_out)) {
                    samples::resample(resampler, source, target, damage);
                }
            }
            S::Convert {
                conversion: to,
                planes,
            } => {
                let damage = &work.sets[planes.set];
                let planes = buffers.planes_mut(*planes);
                match to {
                    Conversion::YuvToRgb => {
                        samples::map_triples(planes, damage, |yuv| conversion.rgb(yuv));
                    }
                    Conversion::RgbToYuv => {
                        samples::map_triples(planes, damage, |rgb| conversion.yuv(rgb));
                    }
                    Conversion::GrayToRgb => samples::map_triples(planes, damage, |[y, ..]| {
                        [conversion.rgb([y, 128.0, 128.0])[0]; 3]
                    }),
                    Conversion::RgbToGray => {
                        samples::map_triples(planes, damage, |rgb| [conversion.luma(rgb); 3]);
                    }
                }
            }
            S::LumaOfRgb { rgb, luma } => {
                let damage = &work.sets[luma.set];
                let (rgb, luma) = buffers.pair(*rgb, *luma)?;
                samples::luma_of_rgb(rgb, luma, damage);
            }
            S::Premultiply {
                planes,
                alpha,
                zero,
            } => {
                let damage = &work.sets[planes.set];
                let (alpha, planes) = buffers.pair(*alpha, *planes)?;
                samples::premultiply(planes, alpha, *zero, damage);
            }
            S::Unpremultiply {
                planes,
                alpha,
                zero,
            } => {
                let damage = &work.sets[planes.set];
                let (alpha, planes) = buffers.pair(*alpha, *planes)?;
                samples::unpremultiply(planes, alpha, *zero, damage);
            }
            S::MergeLuma { rgb, luma } => {
                let damage = &work.sets[rgb.set];
                let (luma, rgb) = buffers.pair(*luma, *rgb)?;
                samples::merge_luma(rgb, luma, damage);
            }
            S::Network { index, from, to } => {
                let Some(network) = networks.get_mut(*index) else {
                    return Err(Error::Internal(format!("there is no network {index}")).into());
                };
                let areas = &work.networks[*index];
                run_network((network, areas), buffers, (*from, to), frames)?;
            }
            S::Write { sources } => {
                let planes = self.planes(sources, buffers);
                samples::write(expect(frames)?.1, &planes, &work.frame);
            }
        }
        Ok(())
    }

    /// The planes of a `Write`.
    fn planes<'a>(
        &'a self,
        sources: &[Option<frame_plan::Source>],
        buffers: &'a Buffers,
    ) -> Vec<Option<Plane<'a>>> {
        let planes = sources.iter().zip(&self.resamplers);
        let plane = |(source, resampler): (&Option<frame_plan::Source>, &'a Option<Resampler>)| {
            let plane = source.as_ref()?.plane;
            Some(Plane {
                samples: buffers.planes(plane),
                width: buffers.sets[plane.set].size.0,
                resampler: resampler.as_ref(),
            })
        };
        planes.map(plane).collect()
    }
}

fn run_network(
    (network, areas): (&mut NetworkStage, &Areas),
    buffers: &mut Buffers,
    (from, to): (Planes, &NetworkOutput),
    frames: &mut Frames<'_, '_, '_>,
) -> Result<()> {
    let length_in = buffers.samples(from);
    match to {
        NetworkOutput::Planes(to) => {
            let length_out = buffers.samples(*to);
            let (source, target) = buffers.pair(from, *to)?;
            let source: Vec<_> = source.chunks_exact(length_in).collect();
            let mut target: Vec<_> = target.chunks_exact_mut(length_out).collect();
            network.run(&source, &mut target, areas)
        }
        NetworkOutput::Components(components) => {
            let source: Vec<_> = buffers.planes(from).chunks_exact(length_in).collect();
            let sink = SamplesOut::new(expect(frames)?.1, components);
            network.run_into(&source, &sink, areas)
        }
    }
}

fn expect<'a, 'b, 'c, 'd>(
    frames: &'d mut Frames<'a, 'b, 'c>,
) -> Result<(&'a FrameRef<'b>, &'d mut FrameMut<'c>)> {
    match frames {
        Some((input, output)) => Ok((*input, &mut **output)),
        None => Err(Error::Internal("a step needs a frame".to_owned()).into()),
    }
}

/// The planes of a plan.
pub(super) struct Buffers {
    sets: Vec<PlaneSet>,
    /// The buffer of each set.
    buffer_of: Vec<usize>,
    buffers: Vec<Vec<f32>>,
}

impl Buffers {
    pub(super) fn warm_up(&mut self) {
        self.buffers.iter_mut().for_each(|buffer| touch(buffer));
    }

    /// Samples of one of the planes.
    fn samples(&self, planes: Planes) -> usize {
        self.sets[planes.set].samples()
    }

    fn range(&self, planes: Planes) -> std::ops::Range<usize> {
        let samples = self.samples(planes);
        planes.first * samples..(planes.first + planes.count) * samples
    }

    /// The samples of consecutive planes.
    pub(super) fn planes(&self, planes: Planes) -> &[f32] {
        &self.buffers[self.buffer_of[planes.set]][self.range(planes)]
    }

    pub(super) fn planes_mut(&mut self, planes: Planes) -> &mut [f32] {
        let range = self.range(planes);
        &mut self.buffers[self.buffer_of[planes.set]][range]
    }

    /// The samples of planes of two sets, for reading and for writing.
    fn pair(&mut self, from: Planes, to: Planes) -> Result<(&[f32], &mut [f32])> {
        let ranges = [from, to].map(|planes| self.range(planes));
        let buffers = [from, to].map(|planes| self.buffer_of[planes.set]);
        let [source, target] = self
            .buffers
            .get_disjoint_mut(buffers)
            .map_err(|_| Error::Internal("planes of one step share a buffer".to_owned()))?;
        let [from, to] = ranges;
        Ok((&source[from], &mut target[to]))
    }
}
