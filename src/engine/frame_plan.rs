//! The steps that upscale a frame, as data.
//!
//! A [`FramePlan`] depends only on the frames, the networks' sizes and the
//! colour format. It lists the intermediate planes and the steps from the
//! input's samples to the output's; a backend
//! ([`super::backend::Backend`]) executes them. Planes are dense rows of f32,
//! values 0 to 255.

use super::spec::UpscaleSpec;
use crate::frame::resample::{ResampleAxis, Resampler, SampleGrid};
use crate::frame::{Component, Family, Siting};
use crate::models::{Channels, Upsampling};

/// Width and height.
type Size = (usize, usize);

/// Planes of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaneSet {
    pub(super) count: usize,
    /// Width and height in samples.
    pub(super) size: Size,
}

impl PlaneSet {
    /// Samples of one plane.
    pub(super) fn samples(&self) -> usize {
        self.size.0 * self.size.1
    }
}

/// Consecutive planes of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planes {
    /// Index into [`FramePlan::sets`].
    pub(super) set: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Planes {
    /// A single plane.
    fn plane(self, index: usize) -> Self {
        Self {
            first: self.first + index,
            count: 1,
            ..self
        }
    }
}

/// Sample positions before and after resampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Resampling {
    columns: [SampleGrid; 2],
    rows: [SampleGrid; 2],
}

impl Resampling {
    /// From one size to another over the same image.
    fn resize(from: Size, to: Size) -> Self {
        Self {
            columns: [from.0, to.0].map(SampleGrid::unit),
            rows: [from.1, to.1].map(SampleGrid::unit),
        }
    }

    /// From a component of a frame of one size to another component of a frame
    /// of another size.
    fn between(from: (&Component, Size), to: (&Component, Size), siting: Siting) -> Self {
        let columns = |(component, size): (&Component, Size)| {
            SampleGrid::subsampled(size.0, component.sub_x, siting.left)
        };
        let rows = |(component, size): (&Component, Size)| {
            SampleGrid::subsampled(size.1, component.sub_y, siting.top)
        };
        Self {
            columns: [columns(from), columns(to)],
            rows: [rows(from), rows(to)],
        }
    }

    /// The weights.
    pub(super) fn resampler(&self) -> Resampler {
        let axis = |[from, to]: [SampleGrid; 2]| ResampleAxis::new(from, to);
        Resampler::new(axis(self.columns), axis(self.rows))
    }

    /// `None` if it is the identity.
    fn unless_identity(self) -> Option<Self> {
        let same = |[from, to]: [SampleGrid; 2]| from == to;
        (!(same(self.columns) && same(self.rows))).then_some(self)
    }
}

/// A colour conversion of three planes in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    /// Y'CbCr to R'G'B'.
    YuvToRgb,
    /// R'G'B' to Y'CbCr.
    RgbToYuv,
    /// The first plane's luma to R'G'B'.
    GrayToRgb,
    /// R'G'B' to luma in the first plane; the others are unspecified.
    RgbToGray,
}

/// Destination of a network's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NetworkOutput {
    Planes(Planes),
    /// The output frame's samples, rounded: the component of each plane.
    Components(Vec<usize>),
}

/// Source of an output component.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    /// One plane.
    pub(super) plane: Planes,
    pub(super) resampling: Option<Resampling>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Reads a component of the input frame into a plane.
    Read { component: usize, to: Planes },
    /// Resamples plane by plane.
    Resample {
        resampling: Resampling,
        from: Planes,
        to: Planes,
    },
    Convert {
        conversion: Conversion,
        planes: Planes,
    },
    /// BT.601 studio luma ([`crate::frame::Luma601`]) of R, G and B.
    LumaOfRgb { rgb: Planes, luma: Planes },
    /// Runs a network of the cascade, including the upscaling of the input of a
    /// pre-upsampling network. The output is clamped to 0 to 255.
    Network {
        index: usize,
        from: Planes,
        to: NetworkOutput,
    },
    /// Premultiplies planes by alpha: `zero + (value - zero) * alpha / 255`.
    Premultiply {
        planes: Planes,
        alpha: Planes,
        zero: f32,
    },
    /// The inverse of `Premultiply`. Where alpha rounds to 0, the value is `zero`.
    Unpremultiply {
        planes: Planes,
        alpha: Planes,
        zero: f32,
    },
    /// Adds to R, G and B the difference of `luma` and their luma. Resampling is
    /// linear, so this equals a conversion through Y'CbCr without its rounding.
    MergeLuma { rgb: Planes, luma: Planes },
    /// Rounds planes to the output frame's samples: the source of each
    /// component; `None` if a network has written it.
    Write { sources: Vec<Option<Source>> },
}

/// A network of a cascade for one input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NetworkSpec {
    pub(super) upsampling: Upsampling,
    /// Width and height of its output.
    pub(super) output: Size,
}

/// The planes and steps from the input frame to the output frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FramePlan {
    pub(super) sets: Vec<PlaneSet>,
    pub(super) steps: Vec<Step>,
}

impl FramePlan {
    /// The plan for frames: the networks upscale their components, all others
    /// are resampled. With alpha, all of them are premultiplied in between, so that
    /// the colour of transparent pixels does not reach their neighbours.
    pub(super) fn of_frames(
        spec: &UpscaleSpec,
        channels: Channels,
        networks: &[NetworkSpec],
    ) -> Self {
        let mut builder = PlanBuilder::new(spec, networks);
        let components = spec.input.format.components();
        if spec.input.format.has_alpha() {
            builder.alpha = Some(builder.read(components.len() - 1, 1));
        }
        let family = spec.input.format.family();
        let mut sources = match (networks.is_empty(), channels, family) {
            (true, ..) => Vec::new(),
            (_, Channels::Luma, Family::Gray | Family::Yuv) => builder.luma_of_yuv(),
            (_, Channels::Luma, Family::Rgb) => builder.luma_of_rgb(),
            (_, Channels::Rgb, Family::Rgb) => builder.rgb(),
            (_, Channels::Rgb, Family::Gray) => builder.rgb_of_gray(),
            (_, Channels::Rgb, Family::Yuv) => builder.rgb_of_yuv(),
        };
        let alpha = usize::from(builder.alpha.is_some());
        for component in sources.len()..components.len() - alpha {
            let source = builder.resampled(component);
            sources.push(Some(source));
        }
        builder.unpremultiply(&mut sources);
        builder.steps.push(Step::Write { sources });
        builder.finish()
    }

    /// The plan that resamples the components that networks would compute, to be
    /// compared with their output: those that it resamples anyway, and alpha, have no
    /// source.
    pub(super) fn of_compared(spec: &UpscaleSpec, channels: Channels) -> Self {
        let mut builder = PlanBuilder::new(spec, &[]);
        let (format, all) = (spec.input.format, builder.components().len());
        if format.has_alpha() {
            builder.alpha = Some(builder.read(all - 1, 1));
        }
        let colors = all - usize::from(format.has_alpha());
        let compared = match (channels, format.family()) {
            (Channels::Luma, Family::Yuv) => 1,
            _ => colors,
        };
        let mut sources: Vec<_> = (0..colors)
            .map(|component| (component < compared).then(|| builder.resampled(component)))
            .collect();
        builder.unpremultiply(&mut sources);
        sources.truncate(colors);
        builder.steps.push(Step::Write { sources });
        builder.finish()
    }

    /// The plan for `count` planes instead of a frame: the first set is the
    /// input; returns the planes of the output.
    pub(super) fn of_planes(
        spec: &UpscaleSpec,
        count: usize,
        networks: &[NetworkSpec],
    ) -> (Self, Planes) {
        let mut builder = PlanBuilder::new(spec, networks);
        let input = builder.set(count, spec.input.size);
        let mut output = builder.networks(input);
        if output == input {
            let to = builder.set(count, spec.output);
            builder.resample(Resampling::resize(spec.input.size, spec.output), input, to);
            output = to;
        }
        (builder.finish(), output)
    }

    /// Makes the last network write directly to the output frame's samples, if
    /// no step changes its output. For backends that support it.
    pub(super) fn write_through(&mut self, network: usize) {
        let is_network =
            |step: &Step| matches!(step, Step::Network { index, .. } if *index == network);
        let run = self.steps.iter().position(is_network);
        let is_write = |step: &Step| matches!(step, Step::Write { .. });
        let write = self.steps.iter().position(is_write);
        let (Some(run), Some(write)) = (run, write) else {
            return;
        };
        let (
            Step::Network {
                to: NetworkOutput::Planes(planes),
                ..
            },
            Step::Write { sources },
        ) = (&self.steps[run], &self.steps[write])
        else {
            return;
        };
        let users = self.steps.iter().filter(|s| s.sets().contains(&planes.set));
        let component = |plane: usize| {
            let unchanged = Source {
                plane: planes.plane(plane),
                resampling: None,
            };
            sources.iter().position(|s| s.as_ref() == Some(&unchanged))
        };
        let components: Option<Vec<_>> = (0..planes.count).map(component).collect();
        let Some(components) = components.filter(|_| users.count() == 2) else {
            return;
        };
        if let Step::Write { sources } = &mut self.steps[write] {
            components.iter().for_each(|&c| sources[c] = None);
        }
        if let Step::Network { to, .. } = &mut self.steps[run] {
            *to = NetworkOutput::Components(components);
        }
    }

    /// As [`FramePlan::assign_buffers`], with a buffer for each set.
    pub(super) fn own_buffers(&self) -> (Vec<usize>, Vec<usize>) {
        let samples = |set: &PlaneSet| set.count * set.samples();
        let sizes = self.sets.iter().map(samples).collect();
        ((0..self.sets.len()).collect(), sizes)
    }

    /// Assigns a buffer to each set, and returns the number of samples of each
    /// buffer. Sets whose lifetimes do not overlap share a buffer.
    pub(super) fn assign_buffers(&self) -> (Vec<usize>, Vec<usize>) {
        let uses: Vec<Vec<usize>> = self.steps.iter().map(Step::sets).collect();
        let last = |set| uses.iter().rposition(|sets| sets.contains(&set));
        let samples = |set: usize| self.sets[set].count * self.sets[set].samples();
        let mut buffer_of = vec![None; self.sets.len()];
        let (mut sizes, mut free): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for (step, sets) in uses.iter().enumerate() {
            for &set in sets {
                if buffer_of[set].is_some() {
                    continue;
                }
                // The closest fit.
                let growth = |&&buffer: &&usize| samples(set).abs_diff(sizes[buffer]);
                let buffer = free.iter().min_by_key(growth).copied();
                let buffer = buffer.unwrap_or_else(|| {
                    sizes.push(0);
                    sizes.len() - 1
                });
                free.retain(|&other| other != buffer);
                sizes[buffer] = sizes[buffer].max(samples(set));
                buffer_of[set] = Some(buffer);
            }
            let mut ended: Vec<_> = (sets.iter().filter(|&&set| last(set) == Some(step)))
                .filter_map(|&set| buffer_of[set])
                .collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended);
        }
        // Unused sets need no buffer: any index will do.
        let buffer_of = buffer_of.into_iter().map(Option::unwrap_or_default);
        (buffer_of.collect(), sizes)
    }
}

impl Step {
    /// The sets that the step reads or writes.
    fn sets(&self) -> Vec<usize> {
        match self {
            Self::Read { to, .. } => vec![to.set],
            Self::Resample { from, to, .. } => vec![from.set, to.set],
            Self::Convert { planes, .. } => vec![planes.set],
            Self::LumaOfRgb { rgb, luma } | Self::MergeLuma { rgb, luma } => {
                vec![rgb.set, luma.set]
            }
            Self::Premultiply { planes, alpha, .. } | Self::Unpremultiply { planes, alpha, .. } => {
                vec![planes.set, alpha.set]
            }
            Self::Network { from, to, .. } => match to {
                NetworkOutput::Planes(to) => vec![from.set, to.set],
                NetworkOutput::Components(_) => vec![from.set],
            },
            Self::Write { sources } => sources.iter().flatten().map(|s| s.plane.set).collect(),
        }
    }
}

/// Builds a plan.
struct PlanBuilder<'a> {
    spec: &'a UpscaleSpec,
    networks: &'a [NetworkSpec],
    /// The input's alpha.
    alpha: Option<Planes>,
    sets: Vec<PlaneSet>,
    steps: Vec<Step>,
}

impl<'a> PlanBuilder<'a> {
    fn new(spec: &'a UpscaleSpec, networks: &'a [NetworkSpec]) -> Self {
        Self {
            spec,
            networks,
            alpha: None,
            sets: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn finish(self) -> FramePlan {
        FramePlan {
            sets: self.sets,
            steps: self.steps,
        }
    }

    fn components(&self) -> &'static [Component] {
        self.spec.input.format.components()
    }

    fn set(&mut self, count: usize, size: Size) -> Planes {
        self.sets.push(PlaneSet { count, size });
        Planes {
            set: self.sets.len() - 1,
            first: 0,
            count,
        }
    }

    /// Reads `count` components of the input of equal size, from `first` on.
    fn read(&mut self, first: usize, count: usize) -> Planes {
        let (width, height) = self.spec.input.size;
        let to = self.set(count, self.components()[first].size(width, height));
        for plane in 0..count {
            self.steps.push(Step::Read {
                component: first + plane,
                to: to.plane(plane),
            });
            self.premultiply(first + plane, to.plane(plane));
        }
        to
    }

    /// Premultiplies the plane of an input component, if there is alpha.
    fn premultiply(&mut self, component: usize, planes: Planes) {
        let size = self.spec.input.size;
        if let Some(alpha) = self.alpha_on_grid_of(component, size) {
            let zero = self.components()[component].zero(self.spec.input.color.range);
            self.steps.push(Step::Premultiply {
                planes,
                alpha,
                zero,
            });
        }
    }

    /// Alpha on the grid of a component of a frame of a size.
    fn alpha_on_grid_of(&mut self, component: usize, size: Size) -> Option<Planes> {
        let (alpha, input) = (self.alpha?, self.spec.input);
        let from = self.components().last()?;
        let to = &self.components()[component];
        let resampling = Resampling::between((from, input.size), (to, size), input.color.siting);
        Some(match resampling.unless_identity() {
            None => alpha,
            Some(resampling) => {
                let resampled = self.set(1, to.size(size.0, size.1));
                self.resample(resampling, alpha, resampled);
                resampled
            }
        })
    }

    /// Divides the colours by the output's alpha, if there is alpha, and appends it.
    fn unpremultiply(&mut self, sources: &mut Vec<Option<Source>>) {
        let size = self.spec.output;
        // The grids that alpha is on already: the first one is its own.
        let mut grids: Vec<((usize, usize), Planes)> = Vec::new();
        for (index, component) in self.components().iter().enumerate().rev() {
            let grid = (component.sub_x, component.sub_y);
            let known = grids.iter().find(|(known, _)| *known == grid);
            let known = known.map(|&(_, alpha)| alpha);
            let Some(alpha) = known.or_else(|| self.alpha_on_grid_of(index, size)) else {
                return;
            };
            grids.push((grid, alpha));
            let Some(Some(source)) = sources.get_mut(index) else {
                continue;
            };
            let mut planes = source.plane;
            if let Some(resampling) = source.resampling.take() {
                planes = self.set(1, component.size(size.0, size.1));
                self.resample(resampling, source.plane, planes);
                source.plane = planes;
            }
            let zero = component.zero(self.spec.input.color.range);
            self.steps.push(Step::Unpremultiply {
                planes,
                alpha,
                zero,
            });
        }
        sources.extend(grids.first().map(|&(_, plane)| {
            Some(Source {
                plane,
                resampling: None,
            })
        }));
    }

    fn resample(&mut self, resampling: Resampling, from: Planes, to: Planes) {
        self.steps.push(Step::Resample {
            resampling,
            from,
            to,
        });
    }

    fn convert(&mut self, conversion: Conversion, planes: Planes) {
        self.steps.push(Step::Convert { conversion, planes });
    }

    /// Runs all networks in sequence, then resamples to the output's size.
    fn networks(&mut self, mut planes: Planes) -> Planes {
        for (index, network) in self.networks.iter().enumerate() {
            let to = self.set(planes.count, network.output);
            self.steps.push(Step::Network {
                index,
                from: planes,
                to: NetworkOutput::Planes(to),
            });
            planes = to;
        }
        let (from, to) = (self.sets[planes.set].size, self.spec.output);
        if from != to && !self.networks.is_empty() {
            let resized = self.set(planes.count, to);
            self.resample(Resampling::resize(from, to), planes, resized);
            planes = resized;
        }
        planes
    }

    /// Resampling from a component of the input to that of the output.
    fn direct(&self, component: usize) -> Resampling {
        let component = &self.components()[component];
        let (from, to) = (self.spec.input.size, self.spec.output);
        let siting = self.spec.input.color.siting;
        Resampling::between((component, from), (component, to), siting)
    }

    /// The source of an output component resampled from the input.
    fn resampled(&mut self, component: usize) -> Source {
        Source {
            plane: self.read(component, 1),
            resampling: self.direct(component).unless_identity(),
        }
    }

    fn luma_of_yuv(&mut self) -> Vec<Option<Source>> {
        let luma = self.read(0, 1);
        sources(self.networks(luma))
    }

    fn luma_of_rgb(&mut self) -> Vec<Option<Source>> {
        let rgb = self.read(0, 3);
        let luma = self.set(1, self.spec.input.size);
        self.steps.push(Step::LumaOfRgb { rgb, luma });
        let luma = self.networks(luma);
        let upscaled = self.set(3, self.spec.output);
        self.resample(self.direct(0), rgb, upscaled);
        self.steps.push(Step::MergeLuma {
            rgb: upscaled,
            luma,
        });
        sources(upscaled)
    }

    fn rgb(&mut self) -> Vec<Option<Source>> {
        let rgb = self.read(0, 3);
        sources(self.networks(rgb))
    }

    fn rgb_of_gray(&mut self) -> Vec<Option<Source>> {
        let planes = self.set(3, self.spec.input.size);
        self.steps.push(Step::Read {
            component: 0,
            to: planes.plane(0),
        });
        self.convert(Conversion::GrayToRgb, planes);
        let planes = self.networks(planes);
        self.convert(Conversion::RgbToGray, planes);
        sources(planes.plane(0))
    }

    fn rgb_of_yuv(&mut self) -> Vec<Option<Source>> {
        let [luma, chroma, ..] = self.components() else {
            return Vec::new();
        };
        let UpscaleSpec { input, output, .. } = *self.spec;
        let siting = input.color.siting;
        let planes = self.set(3, input.size);
        self.steps.push(Step::Read {
            component: 0,
            to: planes.plane(0),
        });
        self.premultiply(0, planes.plane(0));
        let up = Resampling::between((chroma, input.size), (luma, input.size), siting);
        for component in 1..3 {
            let to = planes.plane(component);
            match up.unless_identity() {
                None => {
                    self.steps.push(Step::Read { component, to });
                    self.premultiply(component, to);
                }
                Some(up) => {
                    let from = self.read(component, 1);
                    self.resample(up, from, to);
                }
            }
        }
        self.convert(Conversion::YuvToRgb, planes);
        let planes = self.networks(planes);
        self.convert(Conversion::RgbToYuv, planes);
        let down = Resampling::between((luma, output), (chroma, output), siting);
        let mut sources = sources(planes);
        for source in sources[1..].iter_mut().flatten() {
            source.resampling = down.unless_identity();
        }
        sources
    }
}

/// The sources of planes that need no resampling.
fn sources(planes: Planes) -> Vec<Option<Source>> {
    let source = |index| Source {
        plane: planes.plane(index),
        resampling: None,
    };
    (0..planes.count).map(|index| Some(source(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::FrameSpec;
    use crate::frame::PixelFormat;
    use crate::{Result, Scale};

    const SIZE: Size = (6, 4);

    fn plan(format: PixelFormat, channels: Channels, networks: &[(usize, Size)]) -> FramePlan {
        let spec = UpscaleSpec::scaled(FrameSpec::new(format, SIZE.0, SIZE.1), Scale::whole(4));
        let network = |&(factor, output): &(usize, Size)| NetworkSpec {
            upsampling: Upsampling::Post(factor),
            output,
        };
        let networks: Vec<_> = networks.iter().map(network).collect();
        FramePlan::of_frames(&spec, channels, &networks)
    }

    /// Checks that every set is written before it is read, and not overwritten
    /// by another set of its buffer before its last read.
    fn check_buffers(plan: &FramePlan) -> Result<(), String> {
        let (buffer_of, sizes) = plan.assign_buffers();
        let mut owner = vec![None; sizes.len()];
        for step in &plan.steps {
            let (read, written) = match step {
                Step::Read { to, .. } => (vec![], vec![to.set]),
                Step::Resample { from, to, .. } => (vec![from.set], vec![to.set]),
                Step::LumaOfRgb { rgb, luma } => (vec![rgb.set], vec![luma.set]),
                Step::Network { from, to, .. } => match to {
                    NetworkOutput::Planes(to) => (vec![from.set], vec![to.set]),
                    NetworkOutput::Components(_) => (vec![from.set], vec![]),
                },
                Step::Convert { .. }
                | Step::MergeLuma { .. }
                | Step::Premultiply { .. }
                | Step::Unpremultiply { .. }
                | Step::Write { .. } => (step.sets(), vec![]),
            };
            for set in read {
                if owner[buffer_of[set]] != Some(set) {
                    return Err(format!("{step:?} reads set {set}: {buffer_of:?}"));
                }
            }
            for set in written {
                let planes = plan.sets[set];
                assert!(sizes[buffer_of[set]] >= planes.count * planes.samples());
                owner[buffer_of[set]] = Some(set);
            }
        }
        Ok(())
    }

    #[test]
    fn buffers_are_shared_and_never_overwritten_before_their_last_use() {
        let cascade = [(2, (12, 8)), (2, (24, 16))];
        for &format in PixelFormat::ALL {
            for channels in [Channels::Luma, Channels::Rgb] {
                for networks in [&cascade[..0], &cascade[1..], &cascade[..1], &cascade] {
                    let mut plan = plan(format, channels, networks);
                    check_buffers(&plan).unwrap();
                    plan.write_through(networks.len().saturating_sub(1));
                    check_buffers(&plan).unwrap();
                }
            }
        }
        let plan = plan(PixelFormat::Rgb, Channels::Rgb, &[(2, (12, 8)); 3]);
        assert!(plan.assign_buffers().1.len() < plan.sets.len());
    }

    /// What a plane holds when a step reads it, it holds to the end: parts of it can be
    /// computed again later ([`crate::engine::cpu`]'s `Work`).
    #[test]
    fn planes_do_not_change_after_they_are_read() {
        let cascade = [(2, (12, 8)), (2, (24, 16))];
        let each = |planes: &Planes| {
            let set = planes.set;
            (planes.first..planes.first + planes.count).map(move |plane| (set, plane))
        };
        for &format in PixelFormat::ALL {
            for channels in [Channels::Luma, Channels::Rgb] {
                for networks in [&cascade[..0], &cascade[1..], &cascade[..1], &cascade] {
                    let plan = plan(format, channels, networks);
                    let mut read = std::collections::HashSet::new();
                    for step in &plan.steps {
                        let (from, to) = match step {
                            Step::Read { to, .. } => (None, Some(to)),
                            Step::Resample { from, to, .. } => (Some(from), Some(to)),
                            Step::LumaOfRgb { rgb, luma } => (Some(rgb), Some(luma)),
                            Step::MergeLuma { rgb, luma } => (Some(luma), Some(rgb)),
                            Step::Convert { planes, .. } => (None, Some(planes)),
                            Step::Premultiply { planes, alpha, .. }
                            | Step::Unpremultiply { planes, alpha, .. } => {
                                (Some(alpha), Some(planes))
                            }
                            Step::Network { from, to, .. } => match to {
                                NetworkOutput::Planes(to) => (Some(from), Some(to)),
                                NetworkOutput::Components(_) => (Some(from), None),
                            },
                            Step::Write { .. } => (None, None),
                        };
                        for plane in to.into_iter().flat_map(each) {
                            assert!(!read.contains(&plane), "{format:?}: {step:?}");
                        }
                        read.extend(from.into_iter().flat_map(each));
                    }
                }
            }
        }
    }

    #[test]
    fn only_an_unchanged_output_is_written_through() {
        for (format, channels, output, components) in [
            (PixelFormat::I420, Channels::Luma, (24, 16), Some(vec![0])),
            (
                PixelFormat::Bgrx,
                Channels::Rgb,
                (24, 16),
                Some(vec![0, 1, 2]),
            ),
            // Resampled, converted, merged or divided by alpha.
            (PixelFormat::Bgra, Channels::Rgb, (24, 16), None),
            (PixelFormat::I420, Channels::Luma, (12, 8), None),
            (PixelFormat::Y444, Channels::Rgb, (24, 16), None),
            (PixelFormat::Gray8, Channels::Rgb, (24, 16), None),
            (PixelFormat::Rgb, Channels::Luma, (24, 16), None),
        ] {
            let mut plan = plan(format, channels, &[(4, output)]);
            plan.write_through(0);
            let found = plan.steps.iter().find_map(|step| match step {
                Step::Network { to, .. } => Some(to.clone()),
                _ => None,
            });
            let found = match found {
                Some(NetworkOutput::Components(components)) => Some(components),
                _ => None,
            };
            assert_eq!(found, components, "{format:?} {channels:?} {output:?}");
        }
    }
}
