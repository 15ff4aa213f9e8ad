//! Training pictures, and the batches of patches cut from them.

use crate::degrade::raster::{Raster, reflected};
use crate::degrade::{Bicubic, Method, Plane, Windowed, cropped};
use crate::recipe::{Dir, PerStep, Recipe};
use crate::{drawn, fnv};
use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use srfilter::Scale;
use srfilter::frame::Image;
use srfilter::frame::resample::Region;
use srfilter::models::{Channels, Upsampling};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// File names that end so are taken for pictures.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// Batches that are prepared ahead of the training.
const AHEAD: usize = 4;

/// What of a picture surrounds a patch that is degraded by windows, in small
/// samples.
const MARGIN: usize = 8;

/// Largest sample value.
const PEAK: f32 = 255.0;

/// One picture in memory, as the network's planes.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingImage {
    /// File name without folders.
    pub name: String,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// One plane of luma, or red, green and blue.
    pub planes: Vec<Vec<u8>>,
    /// How many times it counts.
    pub repeat: f64,
}

impl TrainingImage {
    /// Takes the planes that a network wants from a picture.
    pub fn new(name: &str, picture: &Image, channels: Channels, repeat: f64) -> Self {
        let planes = match channels {
            // Luma is 16 to 235: adding a half rounds it.
            Channels::Luma => vec![picture.luma().iter().map(|y| (y + 0.5) as u8).collect()],
            Channels::Rgb => {
                let rgb = picture.to_rgb();
                let plane = |i: usize| rgb.data.iter().skip(i).step_by(3).copied().collect();
                (0..3).map(plane).collect()
            }
        };
        Self {
            name: name.to_owned(),
            size: (picture.width, picture.height),
            planes,
            repeat,
        }
    }

    /// A plane, cut to what the scale divides evenly.
    pub fn plane(&self, index: usize, scale: Scale) -> Plane<'_> {
        Plane {
            data: &self.planes[index],
            stride: self.size.0,
            size: cropped(self.size, scale),
        }
    }

    /// A part of the picture that may reach beyond it, where it is mirrored.
    pub fn window(&self, left: isize, top: isize, size: (usize, usize)) -> Raster {
        let (width, height) = self.size;
        let columns: Vec<usize> = (0..size.0 as isize)
            .map(|x| reflected(left + x, width))
            .collect();
        let rows = || (0..size.1 as isize).map(|y| reflected(top + y, height) * width);
        let cut = |plane: &Vec<u8>| {
            let row = |row: usize| {
                columns
                    .iter()
                    .map(move |x| f32::from(plane[row + x]) / PEAK)
            };
            rows().flat_map(row).collect()
        };
        Raster {
            size,
            planes: self.planes.iter().map(cut).collect(),
        }
    }

    /// The middle of the picture, at most `side` pixels wide and high.
    pub fn center(&self, side: usize) -> Self {
        let start = |length: usize| length.saturating_sub(side) / 2;
        let (x, y) = (start(self.size.0), start(self.size.1));
        let size = (self.size.0.min(side), self.size.1.min(side));
        let cut = |plane: &Vec<u8>| {
            let rows = plane.chunks_exact(self.size.0).skip(y).take(size.1);
            rows.flat_map(|row| row[x..x + size.0].iter().copied())
                .collect()
        };
        Self {
            name: self.name.clone(),
            size,
            planes: self.planes.iter().map(cut).collect(),
            repeat: self.repeat,
        }
    }
}

/// All pictures of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Pictures to train on.
    pub train: Vec<TrainingImage>,
    /// Pictures to validate on, never trained on.
    pub held_back: Vec<TrainingImage>,
    /// Files that were left out, each with the reason.
    pub skipped: Vec<String>,
    /// The sources in words.
    pub description: String,
    /// SHA-256 of all samples, of their split and of what degrades them, in
    /// hexadecimal.
    pub fingerprint: String,
}

impl Dataset {
    /// Reads (or draws) the pictures of a recipe.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read or holds no picture, or no usable picture at all.
    pub fn load(recipe: &Recipe, channels: Channels) -> Result<Self> {
        let (mut images, mut skipped, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        if recipe.data.dirs.is_empty() {
            images = draw(recipe, channels);
            sources.push(format!("{} pictures drawn by train itself", images.len()));
        }
        for dir in &recipe.data.dirs {
            let before = images.len();
            for result in read_dir(dir, channels)? {
                match result {
                    Ok(image) => images.push(image),
                    Err(error) => skipped.push(format!("{error:#}")),
                }
            }
            let name = dir.path.file_name().unwrap_or(dir.path.as_os_str());
            let count = images.len() - before;
            sources.push(format!(
                "{} ({count} pictures x {})",
                name.display(),
                dir.repeat
            ));
        }
        let cuts = cuts(recipe)?;
        images.retain(|image| {
            let (width, height) = image.size;
            let fits = cuts.iter().any(|cut| cut.fits(image));
            if !fits {
                let (name, patch) = (&image.name, cuts.iter().map(Cut::side).min());
                let patch = patch.unwrap_or_default();
                skipped.push(format!(
                    "{name}: {width}x{height} is smaller than a {patch}x{patch} patch"
                ));
            }
            fits
        });
        if images.is_empty() {
            bail!("no usable picture was found{}", listed(&skipped));
        }
        let (train, held_back) = split(images, recipe.data.validation);
        for cut in &cuts {
            ensure!(
                train.iter().any(|image| cut.fits(image)),
                "scale {} needs pictures of at least {1}x{1} pixels to cut patches from,                  and there is none: leave the scale out, or use a smaller --patch",
                cut.scale,
                cut.side()
            );
        }
        Ok(Self {
            fingerprint: fingerprint(&[&train, &held_back], &Method::new(&recipe.data)?),
            train,
            held_back,
            skipped,
            description: sources.join(", "),
        })
    }
}

fn fingerprint(parts: &[&[TrainingImage]], method: &Method) -> String {
    let mut hash = Sha256::new();
    for images in parts {
        hash.update(images.len().to_le_bytes());
        for image in *images {
            hash.update(image.size.0.to_le_bytes());
            hash.update(image.repeat.to_le_bytes());
            image.planes.iter().for_each(|plane| hash.update(plane));
        }
    }
    hash.update(method.description());
    format!("{:x}", hash.finalize())
}

/// The first of the skipped files, for an error.
fn listed(skipped: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = skipped
        .iter()
        .take(SHOWN)
        .map(|s| format!("\n  {s}"))
        .collect();
    match skipped.len() {
        0 => String::new(),
        n => format!("; {n} skipped:{}", shown.concat()),
    }
}

fn draw(recipe: &Recipe, channels: Channels) -> Vec<TrainingImage> {
    let image = |index: usize| {
        let picture = drawn::picture(recipe.train.seed, index);
        TrainingImage::new(&format!("drawn {index}"), &picture, channels, 1.0)
    };
    (0..recipe.data.drawn).into_par_iter().map(image).collect()
}

/// How the patches of one scale are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    scale: Scale,
    /// How often the scale is drawn or, with all scales a step, the factor of its loss.
    weight: f64,
    /// What a network of this scale takes.
    works_at: Upsampling,
    /// Side of a patch in samples that the network takes.
    patch: usize,
}

impl Cut {
    /// Side of a patch in pixels of the picture.
    fn side(&self) -> usize {
        self.patch * self.works_at.factor()
    }

    /// Whether a patch fits into what the scale leaves of the picture.
    fn fits(&self, image: &TrainingImage) -> bool {
        let (width, height) = cropped(image.size, self.scale);
        width.min(height) >= self.side()
    }

    /// Running sums of area times repetition: pictures are drawn in
    /// proportion, and those that are too small never.
    fn cumulative(&self, images: &[TrainingImage]) -> Vec<f64> {
        let weight = |image: &TrainingImage| match self.fits(image) {
            true => (image.size.0 * image.size.1) as f64 * image.repeat,
            false => 0.0,
        };
        let sums = images.iter().scan(0.0, |sum, image| {
            *sum += weight(image);
            Some(*sum)
        });
        sums.collect()
    }
}

/// The patches that a recipe asks for, scale by scale.
fn cuts(recipe: &Recipe) -> Result<Vec<Cut>> {
    let (train, architecture) = (&recipe.train, recipe.architecture()?);
    let weights = train.scale_weights.iter().copied();
    let weights = weights.chain(std::iter::repeat(1.0));
    let cut = |(&scale, weight)| Cut {
        scale,
        weight,
        works_at: architecture.upsampling(scale),
        patch: recipe.data.patch,
    };
    Ok(train.scales.iter().zip(weights).map(cut).collect())
}

fn read_dir(dir: &Dir, channels: Channels) -> Result<Vec<Result<TrainingImage>>> {
    let mut files = Vec::new();
    walk(&dir.path, &mut files, &mut HashSet::new())?;
    files.sort();
    ensure!(
        !files.is_empty(),
        "{} holds no picture ({})",
        dir.path.display(),
        EXTENSIONS.join(", ")
    );
    let read = |path: &PathBuf| {
        let picture = Image::open(path)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(TrainingImage::new(
            &name.to_string_lossy(),
            &picture,
            channels,
            dir.repeat,
        ))
    };
    Ok(files.par_iter().map(read).collect())
}

/// Collects the picture files below `dir`. `seen` holds the folders visited,
/// because links can lead in circles.
fn walk(dir: &Path, files: &mut Vec<PathBuf>, seen: &mut HashSet<PathBuf>) -> Result<()> {
    let context = || format!("cannot read the folder {}", dir.display());
    if !seen.insert(dir.canonicalize().with_context(context)?) {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            walk(&path, files, seen)?;
        } else if is_picture(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// Holds pictures back by a hash of their names: the choice depends neither
/// on their order nor, with a fraction, on the other pictures.
fn split(images: Vec<TrainingImage>, validation: f64) -> (Vec<TrainingImage>, Vec<TrainingImage>) {
    let mut ranked: Vec<(u64, usize)> = images
        .iter()
        .map(|i| spread(fnv(&i.name)))
        .zip(0..)
        .collect();
    ranked.sort_by(|a, b| (a.0, &images[a.1].name).cmp(&(b.0, &images[b.1].name)));
    let below = |fraction: f64| {
        let limit = (fraction * u64::MAX as f64) as u64;
        ranked
            .iter()
            .take_while(|(hash, _)| *hash < limit)
            .count()
            .max(1)
    };
    let wanted = match validation {
        v if v <= 0.0 => 0,
        v if v < 1.0 => below(v),
        v => v as usize,
    };
    let count = wanted.min(images.len() / 2);
    let chosen: HashSet<usize> = ranked[..count].iter().map(|r| r.1).collect();
    let (mut train, mut held_back) = (Vec::new(), Vec::new());
    for (index, image) in images.into_iter().enumerate() {
        let part = if chosen.contains(&index) {
            &mut held_back
        } else {
            &mut train
        };
        part.push(image);
    }
    (train, held_back)
}

/// Spreads a hash evenly: FNV leaves the upper bits of short names alike.
/// (Finaliser of Stafford's "Mix13", as in SplitMix64.)
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Patches of one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The scale.
    pub scale: Scale,
    /// Factor of the loss.
    pub weight: f64,
    /// (batch, channels, patch, patch): what the network takes, 0 to 1.
    pub input: Vec<f32>,
    /// What it should make of that: for networks at the input's resolution as
    /// many times as wide and as high as they enlarge.
    pub target: Vec<f32>,
    /// The same of the picture as it was, where the target is sharpened.
    pub real: Vec<f32>,
}

/// What is cut from a picture, and how it is turned.
#[derive(Debug, Clone, Copy)]
struct Pick {
    /// Number of the picture.
    image: usize,
    /// Where the patch begins, in samples that the network takes.
    x: usize,
    y: usize,
    turn: Turn,
}

/// How batches are cut.
#[derive(Debug, Clone)]
pub struct Plan {
    cuts: Vec<Cut>,
    per_step: PerStep,
    batch: usize,
    seed: u32,
    method: Method,
}

impl Plan {
    /// The batches that a recipe asks for.
    ///
    /// # Errors
    ///
    /// A recipe of an unknown model, a degradation that cannot be had.
    pub fn new(recipe: &Recipe) -> Result<Self> {
        Ok(Self {
            cuts: cuts(recipe)?,
            per_step: recipe.train.scales_per_step,
            batch: recipe.train.batch_size,
            seed: recipe.train.seed,
            method: Method::new(&recipe.data)?,
        })
    }

    /// The batch of one step: the same whenever it is asked for.
    ///
    /// # Errors
    ///
    /// A degradation that fails.
    pub fn batch(&self, images: &[TrainingImage], step: u64) -> Result<Vec<Part>> {
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(self.seed));
        // Every step has a stream of random numbers to itself.
        rng.set_stream(step + 1);
        let cuts = self.draw_scales(&mut rng);
        let part = |cut| self.part(images, &cut, &mut rng);
        cuts.into_iter().map(part).collect()
    }

    fn draw_scales(&self, rng: &mut ChaCha8Rng) -> Vec<Cut> {
        let PerStep::Number(count) = self.per_step else {
            return self.cuts.clone();
        };
        let mut left = self.cuts.clone();
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count && !left.is_empty() {
            let total: f64 = left.iter().map(|cut| cut.weight).sum();
            let mut ball = rng.random::<f64>() * total;
            let hit = left.iter().position(|cut| {
                ball -= cut.weight;
                ball < 0.0
            });
            let cut = left.swap_remove(hit.unwrap_or(left.len() - 1));
            drawn.push(Cut { weight: 1.0, ..cut });
        }
        drawn
    }

    fn part(&self, images: &[TrainingImage], cut: &Cut, rng: &mut ChaCha8Rng) -> Result<Part> {
        let cumulative = cut.cumulative(images);
        let total = cumulative.last().copied().unwrap_or(0.0);
        let mut part = Part {
            scale: cut.scale,
            weight: cut.weight,
            input: Vec::new(),
            target: Vec::new(),
            real: Vec::new(),
        };
        let picks: Vec<Pick> = (0..self.batch)
            .map(|_| {
                let ball = rng.random::<f64>() * total;
                let index = cumulative.partition_point(|&c| c <= ball);
                cut.pick(index.min(images.len() - 1), images, rng)
            })
            .collect();
        match &self.method {
            Method::Bicubic(kind) => {
                for pick in picks {
                    cut.append(&images[pick.image], pick, *kind, &mut part);
                }
            }
            Method::Windowed(how) => cut.append_windowed(images, &picks, how, rng, &mut part)?,
        }
        Ok(part)
    }
}

impl Cut {
    /// A patch somewhere in a picture.
    fn pick(&self, image: usize, images: &[TrainingImage], rng: &mut ChaCha8Rng) -> Pick {
        let (width, height) = cropped(images[image].size, self.scale);
        let factor = self.works_at.factor();
        Pick {
            image,
            x: rng.random_range(0..=width / factor - self.patch),
            y: rng.random_range(0..=height / factor - self.patch),
            turn: Turn(rng.random_range(0..8)),
        }
    }

    /// Appends a patch that is degraded sample by sample.
    fn append(&self, image: &TrainingImage, pick: Pick, kind: Bicubic, part: &mut Part) {
        let Pick { x, y, turn, .. } = pick;
        let (scale, patch, factor) = (self.scale, self.patch, self.works_at.factor());
        let region = |factor: usize| Region {
            x: factor * x..factor * (x + patch),
            y: factor * y..factor * (y + patch),
        };
        let (seen, made) = (region(1), region(factor));
        for index in 0..image.planes.len() {
            let plane = image.plane(index, scale);
            let input: Vec<f32> = match self.works_at {
                Upsampling::Pre => plane.degraded(scale, kind, &seen),
                Upsampling::Post(_) => {
                    let small = plane.shrunk(scale, kind, &seen);
                    small.into_iter().map(f32::from).collect()
                }
            };
            let original = plane.part(&made.x, &made.y).map(f32::from);
            let scaled = |samples: Vec<f32>| samples.into_iter().map(|v| v / PEAK).collect();
            let (input, original): (Vec<f32>, Vec<f32>) =
                (scaled(input), scaled(original.collect()));
            turn.append(&input, patch, &mut part.input);
            turn.append(&original, patch * factor, &mut part.target);
        }
    }

    /// Appends patches whose surroundings are degraded with them.
    fn append_windowed(
        &self,
        images: &[TrainingImage],
        picks: &[Pick],
        how: &Windowed,
        rng: &mut ChaCha8Rng,
        part: &mut Part,
    ) -> Result<()> {
        let windows: Vec<Window> = picks.iter().map(|pick| Window::of(self, pick)).collect();
        let cut = |(pick, window): (&Pick, &Window)| {
            let (left, top) = window.corner;
            images[pick.image].window(left, top, window.size)
        };
        let real: Vec<Raster> = picks.iter().zip(&windows).map(cut).collect();
        let targets: Vec<Option<Raster>> = real.par_iter().map(|large| how.target(large)).collect();
        let large: Vec<Raster> = real
            .iter()
            .zip(&targets)
            .map(|(real, target)| target.as_ref().unwrap_or(real).clone())
            .collect();
        let sizes: Vec<_> = windows.iter().map(|window| window.small).collect();
        let small = how.shrunk(&large, &sizes, rng)?;
        let (patch, side) = (self.patch, self.side());
        for (i, (window, pick)) in windows.iter().zip(picks).enumerate() {
            let ((left, top), (x, y)) = (window.offset, window.small_offset);
            let input = match self.works_at {
                Upsampling::Pre => how
                    .enlarged(&small[i], window.size)
                    .crop(left, top, patch, patch),
                Upsampling::Post(_) => small[i].crop(x, y, patch, patch),
            };
            let turn = |raster: &Raster, side: usize, out: &mut Vec<f32>| {
                raster
                    .planes
                    .iter()
                    .for_each(|plane| pick.turn.append(plane, side, out));
            };
            turn(&input, patch, &mut part.input);
            turn(
                &large[i].crop(left, top, side, side),
                side,
                &mut part.target,
            );
            if targets[i].is_some() {
                turn(&real[i].crop(left, top, side, side), side, &mut part.real);
            }
        }
        Ok(())
    }
}

/// A patch and its surroundings, in large samples and in small ones.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Where it begins, perhaps before the picture does.
    corner: (isize, isize),
    /// Its width and height, which the scale divides evenly.
    size: (usize, usize),
    /// Width and height when made small.
    small: (usize, usize),
    /// Where the patch begins in it.
    offset: (usize, usize),
    /// The same in small samples, for networks at the input's resolution.
    small_offset: (usize, usize),
}

impl Window {
    fn of(cut: &Cut, pick: &Pick) -> Self {
        let (num, den) = (cut.scale.num() as usize, cut.scale.den() as usize);
        let factor = cut.works_at.factor();
        // What lies around the patch begins and ends evenly.
        let axis = |start: usize| {
            let (start, end) = (factor * start, factor * (start + cut.patch));
            let before = start % num + MARGIN * num;
            let after = end.next_multiple_of(num) - end + MARGIN * num;
            let length = before + (end - start) + after;
            (start as isize - before as isize, length, before)
        };
        let (x, y) = (axis(pick.x), axis(pick.y));
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

/// Steps that see about as many pixels as all pictures have.
///
/// # Errors
///
/// A recipe of an unknown model.
pub fn steps_per_epoch(images: &[TrainingImage], recipe: &Recipe) -> Result<u64> {
    let cuts = cuts(recipe)?;
    let weights: f64 = cuts.iter().map(|cut| cut.weight).sum();
    // Mean over the scales as they are drawn.
    let mean = |of: &dyn Fn(&Cut) -> f64| -> f64 {
        cuts.iter().map(|cut| cut.weight * of(cut)).sum::<f64>() / weights
    };
    let total = mean(&|cut| cut.cumulative(images).last().copied().unwrap_or(0.0));
    let area = mean(&|cut| (cut.side() * cut.side()) as f64);
    let pixels = recipe.train.batch_size as f64 * area;
    Ok(((total / pixels).ceil() as u64).max(1))
}

/// One of the eight ways to turn and mirror a square.
#[derive(Debug, Clone, Copy)]
struct Turn(u8);

impl Turn {
    /// Appends a square of `side` samples, turned.
    fn append(self, square: &[f32], side: usize, out: &mut Vec<f32>) {
        let flip = |mirrored: bool, i: usize| if mirrored { side - 1 - i } else { i };
        let [transposed, mirror_x, mirror_y] = [0, 1, 2].map(|bit| self.0 >> bit & 1 == 1);
        for y in 0..side {
            for x in 0..side {
                let (x, y) = (flip(mirror_x, x), flip(mirror_y, y));
                let index = if transposed {
                    x * side + y
                } else {
                    y * side + x
                };
                out.push(square[index]);
            }
        }
    }
}

/// Prepares batches in a thread of its own, a few ahead of the training.
#[derive(Debug)]
pub struct Feeder(Receiver<Result<Vec<Part>>>);

impl Feeder {
    /// Starts with the batch of `step`.
    pub fn start(plan: Plan, dataset: Arc<Dataset>, step: u64) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            let batches = (step..).map(|step| plan.batch(&dataset.train, step));
            // Ends when the training does, which drops the receiver.
            let mut sent = batches.map(|batch| sender.send(batch));
            let _ = sent.find(Result::is_err);
        });
        Self(receiver)
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// A degradation that fails.
    pub fn next(&self) -> Result<Vec<Part>> {
        self.0
            .recv()
            .context("the thread that prepares batches ended")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Overrides;
    use srfilter::frame::resample::Resampler;

    fn recipe(dir: Option<&Path>) -> Recipe {
        let mut flags = Overrides::default();
        flags
            .set("data", "drawn", Some(12))
            .set("data", "patch", Some(32));
        flags.set("train", "scales", Some(vec!["2", "3/2"]));
        let mut recipe = Recipe::resolve(None, &flags).unwrap();
        recipe.data.dirs = dir.into_iter().map(folder).collect();
        recipe
    }

    fn folder(path: &Path) -> Dir {
        Dir {
            path: path.to_owned(),
            repeat: 1.0,
        }
    }

    fn save(path: &Path, width: usize, height: usize) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut picture = Image::new(width, height, 3);
        picture
            .data
            .iter_mut()
            .enumerate()
            .for_each(|(i, v)| *v = (i * 31 % 251) as u8);
        picture.save(path).unwrap();
    }

    fn names(images: &[TrainingImage]) -> Vec<&str> {
        images.iter().map(|i| i.name.as_str()).collect()
    }

    #[test]
    fn reads_a_tree_and_names_what_it_skips() {
        let dir = tempfile::tempdir().unwrap();
        save(&dir.path().join("a/one.png"), 40, 50);
        save(&dir.path().join("a/b/two.JPG"), 64, 64);
        save(&dir.path().join("tiny.bmp"), 31, 64);
        std::fs::write(dir.path().join("broken.webp"), b"RIFFxxxx").unwrap();
        std::fs::write(dir.path().join("notes.txt"), b"no picture").unwrap();
        let dataset = Dataset::load(&recipe(Some(dir.path())), Channels::Rgb).unwrap();
        assert_eq!(dataset.train.len() + dataset.held_back.len(), 2);
        assert_eq!(dataset.skipped.len(), 2);
        assert!(
            dataset.skipped.iter().any(|s| s.contains("broken.webp")),
            "{:?}",
            dataset.skipped
        );
        assert!(
            dataset
                .skipped
                .iter()
                .any(|s| s.contains("tiny.bmp: 31x64"))
        );
    }

    #[test]
    fn refuses_folders_without_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let problem = |path: &Path| {
            let error = Dataset::load(&recipe(Some(path)), Channels::Luma).unwrap_err();
            format!("{error:#}")
        };
        let error = problem(dir.path());
        assert!(
            error.contains("holds no picture") && error.contains("png"),
            "{error}"
        );
        let error = problem(&dir.path().join("missing"));
        assert!(error.contains("missing"), "{error}");
        save(&dir.path().join("tiny.png"), 9, 9);
        let error = problem(dir.path());
        assert!(
            error.contains("no usable picture") && error.contains("tiny.png"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_in_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        save(&dir.path().join("one.png"), 40, 50);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        let dataset = Dataset::load(&recipe(Some(dir.path())), Channels::Luma).unwrap();
        assert_eq!(names(&dataset.train), ["one.png"]);
    }

    #[test]
    fn the_split_depends_on_names_only() {
        let picture = Image::new(8, 8, 1);
        let image =
            |i: usize| TrainingImage::new(&format!("{i}.png"), &picture, Channels::Luma, 1.0);
        for validation in [0.2, 5.0] {
            let forward = split((0..50).map(image).collect(), validation).1;
            let mut backward = split((0..50).rev().map(image).collect(), validation).1;
            backward.reverse();
            assert_eq!(forward, backward);
            assert!((3..20).contains(&forward.len()), "{}", forward.len());
        }
        // With a fraction, further pictures change nothing for the others.
        let few: HashSet<String> = split((0..50).map(image).collect(), 0.2)
            .1
            .into_iter()
            .map(|i| i.name)
            .collect();
        let many = split((0..90).map(image).collect(), 0.2).1;
        let early: HashSet<String> = many
            .into_iter()
            .map(|i| i.name)
            .filter(|n| n.len() < 7 && n[..n.len() - 4].parse::<usize>().unwrap() < 50)
            .collect();
        assert_eq!(few, early);
        assert_eq!(split((0..3).map(image).collect(), 0.0).1.len(), 0);
        assert_eq!(split(vec![image(0)], 10.0).1.len(), 0);
    }

    #[test]
    fn batches_depend_on_seed_and_step_only() {
        let recipe = recipe(None);
        let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
        let plan = Plan::new(&recipe).unwrap();
        let feeder = Feeder::start(plan.clone(), Arc::clone(&dataset), 5);
        let fed = [feeder.next().unwrap(), feeder.next().unwrap()];
        assert_eq!(
            fed,
            [5, 6].map(|step| plan.batch(&dataset.train, step).unwrap())
        );
        assert_ne!(fed[0], fed[1]);
        let mut other = recipe.clone();
        other.train.seed += 1;
        let other = Plan::new(&other).unwrap();
        assert_ne!(other.batch(&dataset.train, 5).unwrap(), fed[0]);
    }

    #[test]
    fn scales_are_drawn_by_weight() {
        let mut recipe = recipe(None);
        recipe.train.scale_weights = vec![3.0, 1.0];
        let plan = Plan::new(&recipe).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let hits = (0..1000).filter(|_| plan.draw_scales(&mut rng)[0].scale == Scale::whole(2));
        assert!((700..800).contains(&hits.count()));
        recipe.train.scales_per_step = PerStep::Number(2);
        let plan = Plan::new(&recipe).unwrap();
        assert_eq!(plan.draw_scales(&mut rng).len(), 2);
    }

    /// Small patches and what they were made of lie on each other, at the
    /// border too, and pictures that are too small for a scale serve others.
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
        for part in Plan::new(&recipe).unwrap().batch(&images, 3).unwrap() {
            let factor = part.scale.num() as usize;
            assert_eq!(part.input.len(), 20 * 8 * 8);
            let side = 8 * factor;
            assert_eq!(part.target.len(), 20 * side * side);
            let patches = part.input.chunks(8 * 8);
            for (small, large) in patches.zip(part.target.chunks(side * side)) {
                let small_mean = small.iter().sum::<f32>() / 64.0;
                let large_mean = large.iter().sum::<f32>() / (side * side) as f32;
                assert!((small_mean - large_mean).abs() < 0.06, "x{}", part.scale);
                // The whole patch made small again differs at its border only.
                let large: Vec<f64> = large.iter().map(|&v| f64::from(v)).collect();
                let again = Resampler::resize((side, side), (8, 8)).apply(&large);
                for i in (16..48).filter(|i| (2..6).contains(&(i % 8))) {
                    let difference = (again[i] - f64::from(small[i])).abs();
                    assert!(difference < 0.51 / 255.0, "x{} {i}", part.scale);
                }
            }
        }
        let cut = cuts(&recipe).unwrap()[2];
        assert_eq!(cut.cumulative(&images), [0.0, 256.0 * 256.0]);
    }

    fn root_mean_square(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
        (sum / a.len() as f32).sqrt()
    }

    /// The same patches by windows and sample by sample: what is to be made is
    /// the same, and what the network sees lies at the same place.
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
                let plan = Plan::new(&recipe).unwrap();
                let parts = plan.batch(&dataset.train, 7).unwrap();
                assert_eq!(parts, plan.batch(&dataset.train, 7).unwrap());
                parts.into_iter().next().unwrap()
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
        let part = |flags: &Overrides| {
            let recipe = Recipe::resolve(None, flags).unwrap();
            let dataset = Dataset::load(&recipe, Channels::Rgb).unwrap();
            let parts = Plan::new(&recipe).unwrap().batch(&dataset.train, 1);
            parts.unwrap().remove(0)
        };
        let plain = part(&flags);
        let sharp = part(flags.set("data", "sharpen", Some(true)));
        assert_eq!(sharp.real, plain.target);
        let off = root_mean_square(&sharp.target, &plain.target);
        assert!(off > 1e-3 && off < 0.2, "{off}");
    }

    #[test]
    fn a_scale_without_pictures_is_named() {
        let mut flags = Overrides::default();
        flags
            .set("model", "name", Some("espcn"))
            .set("data", "drawn", Some(4))
            .set("data", "patch", Some(40));
        let recipe = Recipe::resolve(None, &flags).unwrap();
        let error = Dataset::load(&recipe, Channels::Luma).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("scale 7 needs") && error.contains("280x280"),
            "{error}"
        );
    }

    #[test]
    fn turns_are_the_eight_of_the_square() {
        let square = [0.0, 1.0, 2.0, 3.0];
        let turned: HashSet<Vec<u32>> = (0..8)
            .map(|i| {
                let mut out = Vec::new();
                Turn(i).append(&square, 2, &mut out);
                out.iter().map(|&v| v as u32).collect()
            })
            .collect();
        assert_eq!(turned.len(), 8);
        assert!(turned.contains(&vec![0, 1, 2, 3]) && turned.contains(&vec![2, 0, 3, 1]));
    }

    #[test]
    fn grey_files_fill_three_planes() {
        let mut picture = Image::new(2, 1, 1);
        picture.data = vec![0, 255];
        let rgb = TrainingImage::new("g", &picture, Channels::Rgb, 1.0);
        assert_eq!(rgb.planes, vec![vec![0, 255]; 3]);
        let luma = TrainingImage::new("g", &picture, Channels::Luma, 1.0);
        assert_eq!(luma.planes, vec![vec![16, 235]]);
    }
}
