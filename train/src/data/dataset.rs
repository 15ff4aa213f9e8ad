//! All images of a run, read or synthetic, and their split.

use super::clip;
use super::image::TrainingImage;
use super::patch::{PatchSpec, patch_specs};
use super::synthetic;
use crate::degrade::Method;
use crate::fnv;
use crate::recipe::{Dir, Recipe};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use srfilter::frame::Image;
use srfilter::image_files::{self, NotTaken};
use srfilter::models::Channels;
use std::collections::HashSet;
use std::path::PathBuf;

/// All images of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Images and clips to train on.
    pub train: Vec<TrainingImage>,
    /// Images to validate on, never trained on.
    pub validation: Vec<TrainingImage>,
    /// Skipped files, each with the reason.
    pub skipped: Vec<String>,
    /// The sources, for messages and model cards.
    pub description: String,
    /// SHA-256 of all samples, their split and the degradation, in hexadecimal.
    pub fingerprint: String,
}

impl Dataset {
    /// Reads the images of a recipe, or draws synthetic ones.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read or has no image, or no usable image at all.
    pub fn load(recipe: &Recipe, channels: Channels) -> Result<Self> {
        let (mut images, mut skipped, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        if recipe.data.dirs.is_empty() {
            images = draw(recipe, channels);
            sources.push(format!("{} synthetic images", images.len()));
        }
        for dir in &recipe.data.dirs {
            let before = images.len();
            let (results, not_taken) = read_dir(dir, channels)?;
            for result in results {
                match result {
                    Ok(image) => images.push(image),
                    Err(error) => skipped.push(format!("{error:#}")),
                }
            }
            let line = |file: &NotTaken| format!("{}: {}", file.path.display(), file.reason);
            skipped.extend(not_taken.iter().map(line));
            let name = dir.path.file_name().unwrap_or(dir.path.as_os_str());
            let count = images.len() - before;
            let clips = images[before..].iter().filter(|i| i.frames > 1).count();
            let images = match clips {
                0 => format!("{count} images"),
                _ if clips == count => format!("{clips} clips"),
                _ => format!("{} images and {clips} clips", count - clips),
            };
            sources.push(format!("{} ({images} x {})", name.display(), dir.repeat));
        }
        let specs = patch_specs(recipe)?;
        images.retain(|image| {
            let (width, height) = image.size;
            let fits = specs.iter().any(|spec| spec.fits(image));
            if !fits {
                let (name, patch) = (&image.name, specs.iter().map(PatchSpec::side).min());
                let patch = patch.unwrap_or_default();
                skipped.push(format!(
                    "{name}: {width}x{height} is smaller than a {patch}x{patch} patch"
                ));
            }
            fits
        });
        if images.is_empty() {
            bail!("found no usable image{}", listed(&skipped));
        }
        let (train, validation) = split(images, recipe.data.validation);
        for spec in &specs {
            ensure!(
                train.iter().any(|image| spec.fits(image)),
                "scale {} needs images of at least {1}x{1} pixels, and there is none: leave the \
                 scale out, or use a smaller --patch",
                spec.scale,
                spec.side()
            );
        }
        Ok(Self {
            fingerprint: fingerprint(&[&train, &validation], &Method::new(&recipe.data)?),
            train,
            validation,
            skipped,
            description: sources.join(", "),
        })
    }
}

fn fingerprint(batches: &[&[TrainingImage]], method: &Method) -> String {
    let mut hash = Sha256::new();
    for images in batches {
        hash.update(images.len().to_le_bytes());
        for image in *images {
            if image.frames > 1 {
                hash.update(image.frames.to_le_bytes());
            }
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
        let picture = synthetic::image(recipe.train.seed, index);
        TrainingImage::new(&format!("drawn {index}"), &picture, channels, 1.0)
    };
    (0..recipe.data.drawn).into_par_iter().map(image).collect()
}

/// The images and clips of a folder, or why they cannot be used, and its other files.
type FolderImages = (Vec<Result<TrainingImage>>, Vec<NotTaken>);

fn read_dir(dir: &Dir, channels: Channels) -> Result<FolderImages> {
    let found = image_files::find_all(&dir.path)?;
    let files = found.images;
    let others = found.not_taken.into_iter();
    let (clips, not_taken): (Vec<_>, Vec<_>) = others.partition(|file| clip::is_clip(&file.path));
    ensure!(
        !files.is_empty() || !clips.is_empty(),
        "found no image ({}) and no clip ({}) in {}",
        image_files::EXTENSIONS.join(", "),
        clip::EXTENSIONS.join(", "),
        dir.path.display()
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
    let read_clip = |file: &NotTaken| {
        let clip = clip::read(&file.path, channels, dir.repeat);
        clip.with_context(|| file.path.display().to_string())
    };
    let images = files.par_iter().map(read);
    let images = images.chain(clips.par_iter().map(read_clip));
    Ok((images.collect(), not_taken))
}

/// Splits off the validation images by a hash of their names: the choice
/// depends neither on their order nor, with a fraction, on the other images.
fn split(images: Vec<TrainingImage>, amount: f64) -> (Vec<TrainingImage>, Vec<TrainingImage>) {
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
    let expected = match amount {
        v if v <= 0.0 => 0,
        v if v < 1.0 => below(v),
        v => v as usize,
    };
    let count = expected.min(images.len() / 2);
    let chosen: HashSet<usize> = ranked[..count].iter().map(|r| r.1).collect();
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (index, image) in images.into_iter().enumerate() {
        let batch = if chosen.contains(&index) {
            &mut validation
        } else {
            &mut train
        };
        batch.push(image);
    }
    (train, validation)
}

/// Spreads a hash evenly: FNV leaves the upper bits of short names alike.
/// (Finaliser of Stafford's "Mix13", as in SplitMix64.)
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Overrides;
    use std::path::Path;

    fn folder(path: &Path) -> Dir {
        Dir {
            path: path.to_owned(),
            repeat: 1.0,
        }
    }

    fn recipe(dir: &Path) -> Recipe {
        let mut recipe = crate::data::tests::recipe();
        recipe.data.dirs = vec![folder(dir)];
        recipe
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

    #[test]
    fn reads_a_tree_and_names_what_it_skips() {
        let dir = tempfile::tempdir().unwrap();
        save(&dir.path().join("a/one.png"), 40, 50);
        save(&dir.path().join("a/b/two.JPG"), 64, 64);
        save(&dir.path().join("tiny.bmp"), 31, 64);
        std::fs::write(dir.path().join("broken.webp"), b"RIFFxxxx").unwrap();
        std::fs::write(dir.path().join("notes.txt"), b"no image").unwrap();
        let dataset = Dataset::load(&recipe(dir.path()), Channels::Rgb).unwrap();
        assert_eq!(dataset.train.len() + dataset.validation.len(), 2);
        assert_eq!(dataset.skipped.len(), 3);
        let named = |words: [&str; 2]| {
            let has = |line: &String| words.iter().all(|word| line.contains(word));
            dataset.skipped.iter().any(has)
        };
        assert!(
            named(["notes.txt", "not an image"]),
            "{:?}",
            dataset.skipped
        );
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

    /// A clip counts as its frames, and is split as a whole.
    #[cfg(feature = "video")]
    #[test]
    fn clips_are_read_with_images() {
        if gst::init().is_err() || gst::ElementFactory::find("y4mdec").is_none() {
            println!("skipped: there is no y4mdec");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        save(&dir.path().join("one.png"), 64, 64);
        let mut clip = b"YUV4MPEG2 W64 H64 F25:1 Ip A1:1 C420jpeg\n".to_vec();
        for value in [40, 90, 140] {
            clip.extend(b"FRAME\n");
            clip.extend([value; 64 * 64 * 3 / 2]);
        }
        std::fs::write(dir.path().join("clip.y4m"), &clip).unwrap();
        std::fs::write(dir.path().join("broken.mp4"), b"no clip").unwrap();
        let mut recipe = recipe(dir.path());
        recipe.data.validation = 0.0;
        let dataset = Dataset::load(&recipe, Channels::Luma).unwrap();
        let frames: Vec<_> = dataset.train.iter().map(|image| image.frames).collect();
        assert_eq!(frames, [1, 3]);
        assert!(dataset.description.contains("1 images and 1 clips x 1"));
        assert!(
            dataset.skipped[0].contains("broken.mp4: "),
            "{:?}",
            dataset.skipped
        );
        assert_eq!(
            crate::data::steps_per_epoch(&dataset.train, &recipe).unwrap(),
            4
        );
    }

    #[test]
    fn refuses_folders_without_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let problem = |path: &Path| {
            let error = Dataset::load(&recipe(path), Channels::Luma).unwrap_err();
            format!("{error:#}")
        };
        let error = problem(dir.path());
        assert!(
            error.contains("found no image") && error.contains("png"),
            "{error}"
        );
        let error = problem(&dir.path().join("missing"));
        assert!(error.contains("missing"), "{error}");
        save(&dir.path().join("tiny.png"), 9, 9);
        let error = problem(dir.path());
        assert!(
            error.contains("found no usable image") && error.contains("tiny.png"),
            "{error}"
        );
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
        // With a fraction, further images change nothing for the others.
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
}
