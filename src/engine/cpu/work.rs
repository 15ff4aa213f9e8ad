//! What the damage of an input frame makes it necessary to compute.

use super::stage::NetworkStage;
use crate::chain::cpu::Areas;
use crate::engine::frame_plan::{NetworkOutput, PlaneSet, Source, Step};
use crate::frame::PixelFormat;
use crate::frame::damage::Damage;
use crate::frame::resample::Resampler;

/// What a run computes.
///
/// Outside of it all planes hold what they held after the last run. Steps that
/// change planes in place begin with what other steps have written to them: what
/// is computed of a set is the same for all steps that write to it.
pub(super) struct Work {
    /// The samples of each set.
    pub(super) sets: Vec<Damage>,
    /// The parts of each network's output.
    pub(super) networks: Vec<Areas>,
    /// Of each plane of the output frame that is not a network's: its rows, and
    /// columns in pixels of the frame, at multiples of [`PixelFormat::alignment`].
    pub(super) frame: Vec<Damage>,
}

/// The format and the output size of frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputSpec {
    pub(super) format: PixelFormat,
    pub(super) size: (usize, usize),
}

impl OutputSpec {
    /// Width in pixels of the frame, and rows, of a plane.
    fn plane(&self, plane: usize) -> (usize, usize) {
        let (width, height) = self.size;
        (width, self.format.plane_size(plane, width, height).1)
    }
}

impl Work {
    /// Everything.
    pub(super) fn all(sets: &[PlaneSet], networks: usize, output: &OutputSpec) -> Self {
        let planes = 0..output.format.planes();
        Self {
            sets: sets.iter().map(|set| Damage::all(set.size)).collect(),
            networks: vec![Areas::Whole; networks],
            frame: planes.map(|i| Damage::all(output.plane(i))).collect(),
        }
    }

    /// What depends on the damage of each plane of the input frame: its rows, and
    /// columns in pixels of the frame. `steps` come with their resamplers.
    pub(super) fn after<'a>(
        changes: &[Damage],
        steps: impl Iterator<Item = (&'a Step, &'a [Option<Resampler>])>,
        (sets, stages): (&[PlaneSet], &[NetworkStage]),
        output: &OutputSpec,
    ) -> Self {
        let planes = 0..output.format.planes();
        let mut spread = Spread {
            work: Self {
                sets: sets.iter().map(|set| Damage::none(set.size)).collect(),
                networks: vec![Areas::none(); stages.len()],
                frame: planes.map(|i| Damage::none(output.plane(i))).collect(),
            },
            network_of: vec![None; sets.len()],
            stages,
        };
        for (step, resamplers) in steps {
            spread.step(step, resamplers, changes, output);
        }
        spread.work
    }

    /// The share of the networks' output, 0 to 1, that is computed; without
    /// networks, of the frame.
    pub(super) fn share(&self, stages: &[NetworkStage]) -> f64 {
        let mean = |shares: &mut dyn Iterator<Item = (f64, f64)>| {
            let (sum, all) = shares.fold((0.0, 0.0), |(sum, all), (share, weight)| {
                (sum + share * weight, all + weight)
            });
            sum / f64::max(all, 1.0)
        };
        if stages.is_empty() {
            let frame = self.frame.iter();
            return mean(&mut frame.map(|damage| (damage.share(), damage.area() as f64)));
        }
        let networks = stages.iter().zip(&self.networks);
        mean(&mut networks.map(|(stage, areas)| {
            let (width, height) = stage.size();
            (stage.share(areas), (width * height) as f64)
        }))
    }
}

/// Damage on its way through the steps of a plan.
struct Spread<'a> {
    work: Work,
    /// The network that a set is the output of.
    network_of: Vec<Option<usize>>,
    stages: &'a [NetworkStage],
}

impl Spread<'_> {
    fn step(
        &mut self,
        step: &Step,
        resamplers: &[Option<Resampler>],
        changes: &[Damage],
        output: &OutputSpec,
    ) {
        match step {
            Step::Read { component, to } => {
                let component = &output.format.components()[*component];
                let (width, sub) = (self.work.sets[to.set].width(), component.sub_x);
                let read = changes[component.plane]
                    .map_columns(width, |x| x.start / sub..x.end.div_ceil(sub));
                self.add(to.set, &read);
            }
            Step::Resample { from, to, .. } => {
                if let Some(Some(resampler)) = resamplers.first() {
                    let resampled = self.work.sets[from.set].resampled(resampler);
                    self.add(to.set, &resampled);
                }
            }
            Step::Convert { .. } => {}
            Step::LumaOfRgb { rgb, luma } => self.follow(luma.set, rgb.set),
            Step::MergeLuma { rgb, luma } => self.follow(rgb.set, luma.set),
            Step::Premultiply { planes, alpha, .. } | Step::Unpremultiply { planes, alpha, .. } => {
                self.follow(planes.set, alpha.set)
            }
            Step::Network { index, from, to } => {
                let (stage, areas) = (&self.stages[*index], &mut self.work.networks[*index]);
                stage.extend(areas, &self.work.sets[from.set]);
                if let NetworkOutput::Planes(to) = to {
                    self.work.sets[to.set] = stage.damage(areas);
                    self.network_of[to.set] = Some(*index);
                }
            }
            Step::Write { sources } => {
                for (index, source) in sources.iter().enumerate() {
                    if let Some(source) = source {
                        let resampler = resamplers.get(index).and_then(Option::as_ref);
                        self.write(index, source, resampler, output);
                    }
                }
            }
        }
    }

    /// Damages a set. A network computes whole cells of its output.
    fn add(&mut self, set: usize, damage: &Damage) {
        let sets = &mut self.work.sets;
        sets[set].unite(damage);
        if let Some(index) = self.network_of[set] {
            let (stage, areas) = (&self.stages[index], &mut self.work.networks[index]);
            stage.extend_output(areas, &sets[set]);
            sets[set] = stage.damage(areas);
        }
    }

    /// Damages a set where another one of the same size is damaged.
    fn follow(&mut self, set: usize, other: usize) {
        let damage = self.work.sets[other].clone();
        self.add(set, &damage);
    }

    /// Damages a component of the output frame.
    fn write(
        &mut self,
        index: usize,
        source: &Source,
        resampler: Option<&Resampler>,
        output: &OutputSpec,
    ) {
        let component = &output.format.components()[index];
        let (width, columns) = (output.size.0, output.format.alignment().0);
        let plane = &self.work.sets[source.plane.set];
        let resampled = resampler.map(|resampler| plane.resampled(resampler));
        let pixels = resampled.as_ref().unwrap_or(plane).map_columns(width, |x| {
            let start = (x.start * component.sub_x) / columns * columns;
            let end = (x.end * component.sub_x).next_multiple_of(columns);
            start.min(width)..end.min(width)
        });
        self.work.frame[component.plane].unite(&pixels);
    }
}
