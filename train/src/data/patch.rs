//! Batches of patches cropped from images.

use super::augment::{Dihedral, Recolor};
use super::image::{PEAK, TrainingImage};
use crate::degrade::raster::Raster;
use crate::degrade::{Bicubic, Method, Shot, Windowed, cropped};
use crate::recipe::{Colors, PerStep, Recipe};
use anyhow::Result;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use srfilter::Scale;
use srfilter::frame::resample::Region;
use srfilter::models::Upsampling;
use std::borrow::Cow;

/// Context around a patch that is degraded in a window, in low-resolution
/// samples.
const MARGIN: usize = 8;

/// How the patches of one scale are cropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PatchSpec {
    pub(super) scale: Scale,
    /// Relative frequency of the scale or, with all scales in a step, the factor of its loss.
    weight: f64,
    /// Whether a network of this scale takes upscaled or low-resolution input.
    upsampling: Upsampling,
    /// Side of a patch in samples of the network's input.
    patch: usize,
}

impl PatchSpec {
    /// Side of a patch in pixels of the original.
    pub(super) fn side(&self) -> usize {
        self.patch * self.upsampling.factor()
    }

    /// Whether a patch fits into the image once it is cropped for the scale.
    pub(super) fn fits(&self, image: &TrainingImage) -> bool {
        let (width, height) = cropped(image.size, self.scale);
        width.min(height) >= self.side()
    }

    /// Cumulative sums of area times repetition, by which images and frames are sampled;
    /// images that are too small have no share.
    fn cumulative(&self, images: &[TrainingImage]) -> Vec<f64> {
        let weight = |image: &TrainingImage| match self.fits(image) {
            true => (image.size.0 * image.size.1 * image.frames) as f64 * image.repeat,
            false => 0.0,
        };
        let sums = images.iter().scan(0.0, |sum, image| {
            *sum += weight(image);
            Some(*sum)
        });
        sums.collect()
    }
}

/// The patches of a recipe, one entry per scale.
pub(super) fn patch_specs(recipe: &Recipe) -> Result<Vec<PatchSpec>> {
    let (train, architecture) = (&recipe.train, recipe.architecture()?);
    let weights = train.scale_weights.iter().copied();
    let weights = weights.chain(std::iter::repeat(1.0));
    let spec = |(&scale, weight)| PatchSpec {
        scale,
        weight,
        upsampling: architecture.upsampling(scale),
        patch: recipe.data.patch,
    };
    Ok(train.scales.iter().zip(weights).map(spec).collect())
}

/// Patches of one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleBatch {
    /// The scale.
    pub scale: Scale,
    /// Factor of the loss.
    pub weight: f64,
    /// (batch, channels, patch, patch): the network's input, 0 to 1.
    pub input: Vec<f32>,
    /// The target, 0 to 1; for post-upsampling networks larger by their factor.
    pub target: Vec<f32>,
    /// The unsharpened original, where the target is sharpened; else empty.
    pub real: Vec<f32>,
}

/// A patch of an image, and its augmentation.
#[derive(Debug, Clone)]
struct PatchChoice<'a> {
    image: Cow<'a, TrainingImage>,
    frame: usize,
    /// Top left corner, in samples of the network's input.
    x: usize,
    y: usize,
    transform: Dihedral,
}

impl PatchChoice<'_> {
    /// The patch and its context in other colours; of a clip, the frame alone.
    fn recolored(self, spec: &PatchSpec, colors: Recolor) -> Self {
        let window = Window::of(spec, &self);
        let (left, top) = window.corner;
        let mut raster = self.image.window(self.frame, left, top, window.size);
        colors.apply(&mut raster);
        let (x, y) = window.offset;
        let factor = spec.upsampling.factor();
        Self {
            image: Cow::Owned(TrainingImage::of_raster(&raster)),
            frame: 0,
            x: x / factor,
            y: y / factor,
            ..self
        }
    }
}

/// Samples the batches of a run.
#[derive(Debug, Clone)]
pub struct BatchSampler {
    specs: Vec<PatchSpec>,
    per_step: PerStep,
    batch_size: usize,
    seed: u32,
    method: Method,
    colors: Option<Colors>,
}

impl BatchSampler {
    /// The sampler of a recipe.
    ///
    /// # Errors
    ///
    /// A recipe of an unknown model, a degradation that is not available.
    pub fn new(recipe: &Recipe) -> Result<Self> {
        Ok(Self {
            specs: patch_specs(recipe)?,
            per_step: recipe.train.scales_per_step,
            batch_size: recipe.train.batch_size,
            seed: recipe.train.seed,
            method: Method::new(&recipe.data)?,
            colors: recipe.data.colors,
        })
    }

    /// The batch of one step; a function of the seed and the step alone.
    ///
    /// # Errors
    ///
    /// A degradation that fails.
    pub fn batch(&self, images: &[TrainingImage], step: u64) -> Result<Vec<ScaleBatch>> {
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(self.seed));
        // Every step has a stream of random numbers to itself.
        rng.set_stream(step + 1);
        let specs = self.draw_scales(&mut rng);
        let batch = |spec| self.scale_batch(images, &spec, &mut rng);
        specs.into_iter().map(batch).collect()
    }

    fn draw_scales(&self, rng: &mut ChaCha8Rng) -> Vec<PatchSpec> {
        let PerStep::Number(count) = self.per_step else {
            return self.specs.clone();
        };
        let mut left = self.specs.clone();
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count && !left.is_empty() {
            let total: f64 = left.iter().map(|spec| spec.weight).sum();
            let mut sample = rng.random::<f64>() * total;
            let hit = left.iter().position(|spec| {
                sample -= spec.weight;
                sample < 0.0
            });
            let spec = left.swap_remove(hit.unwrap_or(left.len() - 1));
            drawn.push(PatchSpec {
                weight: 1.0,
                ..spec
            });
        }
        drawn
    }

    fn scale_batch(
        &self,
        images: &[TrainingImage],
        spec: &PatchSpec,
        rng: &mut ChaCha8Rng,
    ) -> Result<ScaleBatch> {
        let cumulative = spec.cumulative(images);
        let total = cumulative.last().copied().unwrap_or(0.0);
        let mut batch = ScaleBatch {
            scale: spec.scale,
            weight: spec.weight,
            input: Vec::new(),
            target: Vec::new(),
            real: Vec::new(),
        };
        let choices: Vec<PatchChoice> = (0..self.batch_size)
            .map(|_| {
                let sample = rng.random::<f64>() * total;
                let index = cumulative.partition_point(|&c| c <= sample);
                let choice = spec.choose(&images[index.min(images.len() - 1)], rng);
                let colors = self.colors.as_ref();
                match colors.and_then(|colors| Recolor::draw(colors, spec.side(), rng)) {
                    Some(colors) => choice.recolored(spec, colors),
                    None => choice,
                }
            })
            .collect();
        match &self.method {
            Method::Bicubic(kind) => {
                for choice in &choices {
                    spec.append(choice, *kind, &mut batch);
                }
            }
            Method::Windowed(how) => spec.append_windowed(&choices, how, rng, &mut batch)?,
        }
        Ok(batch)
    }
}

impl PatchSpec {
    /// A random patch of an image.
    fn choose<'a>(&self, image: &'a TrainingImage, rng: &mut ChaCha8Rng) -> PatchChoice<'a> {
        let (width, height) = cropped(image.size, self.scale);
        let factor = self.upsampling.factor();
        PatchChoice {
            image: Cow::Borrowed(image),
            // Images draw nothing, so that their runs stay as they were.
            frame: match image.frames {
                1 => 0,
                frames => rng.random_range(0..frames),
            },
            x: rng.random_range(0..=width / factor - self.patch),
            y: rng.random_range(0..=height / factor - self.patch),
            transform: Dihedral(rng.random_range(0..8)),
        }
    }

    /// Appends a patch with a bicubic degradation.
    fn append(&self, choice: &PatchChoice<'_>, kind: Bicubic, batch: &mut ScaleBatch) {
        let PatchChoice {
            ref image,
            frame,
            x,
            y,
            transform,
        } = *choice;
        let (scale, patch, factor) = (self.scale, self.patch, self.upsampling.factor());
        let region = |factor: usize| Region {
            x: factor * x..factor * (x + patch),
            y: factor * y..factor * (y + patch),
        };
        let (input_region, target_region) = (region(1), region(factor));
        for plane in image.cropped_planes(frame, scale) {
            let input: Vec<f32> = match self.upsampling {
                Upsampling::Pre => plane.degraded(scale, kind, &input_region),
                Upsampling::Post(_) => {
                    let small = plane.downscaled(scale, kind, &input_region);
                    small.into_iter().map(f32::from).collect()
                }
            };
            let original = plane
                .part(&target_region.x, &target_region.y)
                .map(f32::from);
            let scaled = |samples: Vec<f32>| samples.into_iter().map(|v| v / PEAK).collect();
            let (input, original): (Vec<f32>, Vec<f32>) =
                (scaled(input), scaled(original.collect()));
            transform.append(&input, patch, &mut batch.input);
            transform.append(&original, patch * factor, &mut batch.target);
        }
    }

    /// Appends patches that are degraded in windows with their context.
    fn append_windowed(
        &self,
        choices: &[PatchChoice<'_>],
        how: &Windowed,
        rng: &mut ChaCha8Rng,
        batch: &mut ScaleBatch,
    ) -> Result<()> {
        let windows: Vec<Window> = choices
            .iter()
            .map(|choice| Window::of(self, choice))
            .collect();
        let crop = |(choice, window): (&PatchChoice<'_>, &Window)| {
            let PatchChoice { image, frame, .. } = choice;
            image.shot(*frame, window.corner, window.size, how.reach())
        };
        let mut shots: Vec<Shot> = choices.iter().zip(&windows).map(crop).collect();
        // The original, where the target is not.
        let real: Vec<Option<Raster>> = shots
            .par_iter_mut()
            .map(|shot| {
                let target = how.target(&shot.image)?;
                Some(std::mem::replace(&mut shot.image, target))
            })
            .collect();
        let sizes: Vec<_> = windows.iter().map(|window| window.small).collect();
        let small = how.downscaled(&shots, &sizes, rng)?;
        let (patch, side) = (self.patch, self.side());
        for (i, (window, choice)) in windows.iter().zip(choices).enumerate() {
            let ((left, top), (x, y)) = (window.offset, window.small_offset);
            let input = match self.upsampling {
                Upsampling::Pre => how
                    .upscaled(&small[i], window.size)
                    .crop(left, top, patch, patch),
                Upsampling::Post(_) => small[i].crop(x, y, patch, patch),
            };
            let transform = |raster: &Raster, side: usize, out: &mut Vec<f32>| {
                raster
                    .planes
                    .iter()
                    .for_each(|plane| choice.transform.append(plane, side, out));
            };
            transform(&input, patch, &mut batch.input);
            transform(
                &shots[i].image.crop(left, top, side, side),
                side,
                &mut batch.target,
            );
            if let Some(real) = &real[i] {
                transform(&real.crop(left, top, side, side), side, &mut batch.real);
            }
        }
        Ok(())
    }
}

/// A patch with its context, in high- and low-resolution samples.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Top left corner; may lie outside the image.
    corner: (isize, isize),
    /// Width and height, multiples of the scale's numerator.
    size: (usize, usize),
    /// Width and height after downscaling.
    small: (usize, usize),
    /// Offset of the patch in the window.
    offset: (usize, usize),
    /// The same in low-resolution samples, for post-upsampling networks.
    small_offset: (usize, usize),
}

impl Window {
    fn of(spec: &PatchSpec, choice: &PatchChoice<'_>) -> Self {
        let (num, den) = (spec.scale.num() as usize, spec.scale.den() as usize);
        let factor = spec.upsampling.factor();
        // The window starts and ends at multiples of the numerator.
        let axis = |start: usize| {
            let (start, end) = (factor * start, factor * (start + spec.patch));
            let before = start % num + MARGIN * num;
            let after = end.next_multiple_of(num) - end + MARGIN * num;
            let length = before + (end - start) + after;
            (start as isize - before as isize, length, before)
        };
        let (x, y) = (axis(choice.x), axis(choice.y));
        let small = |length: usize| length / num * den;
        Self {
            corner: (x.0, y.0),
            size: (x.1, y.1),
            small: (small(x.1), small(y.1)),
            offset: (x.2, y.2),
            small_offset: (small(x.2), small(y.2)),
        }
    }
}

/// Steps of an epoch: their patches have about as many pixels as all images.
///
/// # Errors
///
/// A recipe of an unknown model.
pub fn steps_per_epoch(images: &[TrainingImage], recipe: &Recipe) -> Result<u64> {
    let specs = patch_specs(recipe)?;
    let weights: f64 = specs.iter().map(|spec| spec.weight).sum();
    // Mean over the scales, by their frequency.
    let mean = |of: &dyn Fn(&PatchSpec) -> f64| -> f64 {
        specs.iter().map(|spec| spec.weight * of(spec)).sum::<f64>() / weights
    };
    let total = mean(&|spec| spec.cumulative(images).last().copied().unwrap_or(0.0));
    let area = mean(&|spec| (spec.side() * spec.side()) as f64);
    let pixels = recipe.train.batch_size as f64 * area;
    Ok(((total / pixels).ceil() as u64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::data::tests::recipe;
    use crate::recipe::Overrides;
    use srfilter::frame::resample::Resampler;
    use srfilter::models::Channels;
    use toml::Table;

    fn root_mean_square(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        (sum / a.len() as f32).sqrt()
    }

    #[test]
    fn scales_are_drawn_by_weight() {
        let mut recipe = recipe();
        recipe.train.scale_weights = vec![3.0, 1.0];
        let sampler = BatchSampler::new(&recipe).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let hits = (0..1000).filter(|_| sampler.draw_scales(&mut rng)[0].scale == Scale::whole(2));
        assert!((700..800).contains(&hits.count()));
        recipe.train.scales_per_step = PerStep::Number(2);
        let sampler = BatchSampler::new(&recipe).unwrap();
        assert_eq!(sampler.draw_scales(&mut rng).len(), 2);
    }

    /// Low-resolution patches and their targets are aligned, at the
    /// border too, and images that are too small for a scale serve others.
    #[test]
    fn patches_at_the_inputs_resolution_are_small() {
        let mut flags = Overrides::default();
        flags
            .set("model", "name", Some("espcn"))
            .set("data", "drawn", Some(4))
            .set("data", "patch", Some(8))
            .set("train", "scales", Some(vec!["2", "3", "8"]))
            .set("train", "scales_per_step", Some(3))
            .set("train", "batch_size", Some(20));
        let recipe = Recipe::resolve(None, &flags).unwrap();
        let mut images = Dataset::load(&recipe, Channels::Luma).unwrap().train;
        images[0] = images[0].center(60);
        assert!(images[0].size == (60, 60) && images.len() == 2);
        for batch in BatchSampler::new(&recipe)
            .unwrap()
            .batch(&images, 3)
            .unwrap()
        {
            let factor = batch.scale.num() as usize;
            assert_eq!(batch.input.len(), 20 * 8 * 8);
            let side = 8 * factor;
            assert_eq!(batch.target.len(), 20 * side * side);
            let patches = batch.input.chunks(8 * 8);
            for (small, large) in patches.zip(batch.target.chunks(side * side)) {
                let small_mean = small.iter().sum::<f32>() / 64.0;
                let large_mean = large.iter().sum::<f32>() / (side * side) as f32;
                assert!((small_mean - large_mean).abs() < 0.06, "x{}", batch.scale);
                // Downscaling the target gives the input again, but for its border.
                let large: Vec<f64> = large.iter().map(|&v| f64::from(v)).collect();
                let again = Resampler::resize((side, side), (8, 8)).apply(&large);
                for i in (16..48).filter(|i| (2..6).contains(&(i % 8))) {
                    let difference = (again[i] - f64::from(small[i])).abs();
                    assert!(difference < 0.51 / 255.0, "x{} {i}", batch.scale);
                }
            }
        }
        let spec = patch_specs(&recipe).unwrap()[2];
        assert_eq!(spec.cumulative(&images), [0.0, 256.0 * 256.0]);
    }

    /// Windowed and bicubic sampling give the same targets, and inputs at the
    /// same position.
    #[test]
    fn windows_lie_where_their_patches_do() {
        for (model, scale, patch) in [
            ("srcnn", "3/2", 19),
            ("srcnn", "3", 24),
            ("srresnet", "2", 12),
        ] {
            let batch = |degradation: &str| {
                let mut flags = Overrides::default();
                flags
                    .set("model", "name", Some(model))
                    .set("data", "drawn", Some(3))
                    .set("data", "patch", Some(patch))
                    .set("data", "degradation", Some(degradation))
                    .set("train", "scales", Some(vec![scale]))
                    .set("train", "batch_size", Some(12));
                let recipe = Recipe::resolve(None, &flags).unwrap();
                let channels = recipe.architecture().unwrap().channels();
                let dataset = Dataset::load(&recipe, channels).unwrap();
                let sampler = BatchSampler::new(&recipe).unwrap();
                let batches = sampler.batch(&dataset.train, 7).unwrap();
                assert_eq!(batches, sampler.batch(&dataset.train, 7).unwrap());
                batches.into_iter().next().unwrap()
            };
            let plain = batch("matlab");
            for (degradation, near) in [("opencv", 0.06), ("realesrgan", 0.25)] {
                let ours = batch(degradation);
                assert!(root_mean_square(&ours.target, &plain.target) < 1e-6);
                let off = root_mean_square(&ours.input, &plain.input);
                assert!(off > 1e-3 && off < near, "{model} {degradation}: {off}");
                // One sample further it fits less.
                let moved =
                    root_mean_square(&ours.input[2..], &plain.input[..plain.input.len() - 2]);
                assert!(off < moved, "{model} {degradation}: {off} {moved}");
                assert!(ours.real.is_empty());
            }
        }
    }

    #[test]
    fn sharpened_targets_come_with_what_they_were() {
        let mut flags = Overrides::default();
        flags
            .set("model", "name", Some("srresnet"))
            .set("data", "drawn", Some(3))
            .set("data", "patch", Some(16))
            .set("data", "degradation", Some("realesrgan"));
        let batch = |flags: &Overrides| {
            let recipe = Recipe::resolve(None, flags).unwrap();
            let dataset = Dataset::load(&recipe, Channels::Rgb).unwrap();
            let batches = BatchSampler::new(&recipe).unwrap().batch(&dataset.train, 1);
            batches.unwrap().remove(0)
        };
        let plain = batch(&flags);
        let sharp = batch(flags.set("data", "sharpen", Some(true)));
        assert_eq!(sharp.real, plain.target);
        let off = root_mean_square(&sharp.target, &plain.target);
        assert!(off > 1e-3 && off < 0.2, "{off}");
    }
    /// Patches with permuted planes are those without, input and target alike.
    #[test]
    fn recolored_patches_lie_where_they_did() {
        for (model, scale) in [("srcnn-rgb", "3/2"), ("srcnn-rgb", "3"), ("srresnet", "2")] {
            for degradation in ["matlab", "pillow", "opencv"] {
                let batch = |step: u64, colors: Option<Colors>| {
                    let mut flags = Overrides::default();
                    flags
                        .set("model", "name", Some(model))
                        .set("data", "drawn", Some(3))
                        .set("data", "patch", Some(24))
                        .set("data", "degradation", Some(degradation))
                        .set(
                            "data",
                            "colors",
                            colors.map(|c| Table::try_from(c).unwrap()),
                        )
                        .set("train", "scales", Some(vec![scale]))
                        .set("train", "batch_size", Some(1));
                    let recipe = Recipe::resolve(None, &flags).unwrap();
                    let images = Dataset::load(&recipe, Channels::Rgb).unwrap().train;
                    let sampler = BatchSampler::new(&recipe).unwrap();
                    sampler.batch(&images, step).unwrap().remove(0)
                };
                let permuted = Colors {
                    permute: 1.0,
                    ..Colors::default()
                };
                let mut changed = 0;
                for step in 0..8 {
                    let (ours, plain) = (batch(step, Some(permuted)), batch(step, None));
                    let plane = plain.target.len() / 3;
                    // Where each plane came from, by the targets.
                    for (i, target) in ours.target.chunks(plane).enumerate() {
                        let from = plain.target.chunks(plane);
                        let from = from.enumerate().find(|(_, plane)| *plane == target);
                        let (from, _) = from.expect("a plane of the image");
                        changed += usize::from(from != i);
                        let plane = plain.input.len() / 3;
                        let input = |batch: &ScaleBatch, i: usize| -> Vec<f32> {
                            batch.input[i * plane..][..plane].to_vec()
                        };
                        // Beyond the image the window is mirrored in another way.
                        let off = root_mean_square(&input(&ours, i), &input(&plain, from));
                        assert!(off < 3e-3, "{model} x{scale} {degradation} {step}: {off}");
                    }
                }
                assert!(changed > 8, "{changed}");
            }
        }
    }

    /// Patches of clips come from all frames, input and target from the same one.
    #[test]
    fn patches_of_clips_lie_in_one_frame() {
        for degradation in ["matlab", "opencv"] {
            let mut flags = Overrides::default();
            flags
                .set("model", "name", Some("espcn"))
                .set("data", "patch", Some(8))
                .set("data", "degradation", Some(degradation))
                .set("train", "scales", Some(vec!["2"]))
                .set("train", "batch_size", Some(40));
            let recipe = Recipe::resolve(None, &flags).unwrap();
            // Frame n is flat at 50 n.
            let clip = TrainingImage {
                name: "clip".to_owned(),
                size: (40, 32),
                planes: (1..5).map(|n| vec![50 * n; 40 * 32]).collect(),
                frames: 4,
                repeat: 1.0,
            };
            let sampler = BatchSampler::new(&recipe).unwrap();
            let batch = sampler.batch(&[clip], 1).unwrap().remove(0);
            let mut seen = [0; 4];
            for (input, target) in batch.input.chunks(64).zip(batch.target.chunks(256)) {
                let frame = (target[0] * PEAK / 50.0).round() as usize;
                seen[frame - 1] += 1;
                assert!(target.iter().all(|v| *v == target[0]));
                assert!(input.iter().all(|v| (v - target[0]).abs() < 1e-6));
            }
            assert!(seen.iter().all(|&count| count > 3), "{seen:?}");
        }
    }
}
