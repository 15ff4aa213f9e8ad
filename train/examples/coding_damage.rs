//! Trains the network that estimates how strongly a stream was encoded
//! (`srfilter::models::DamageEstimator`), for the highest PSNR rather than for a quantiser.
//!
//! Pictures and clips are downscaled by 2, and encoded and decoded by any codec at any strength,
//! or not at all, some of them blurred or noisy before. `espcn` restores them with the weights for
//! damage 0, 1/2 and 1; a parabola through the three errors is the error at any damage, and its
//! logarithm at the estimated damage is the loss. Then measures, on pictures and clips that took no
//! part, what the estimate loses against the best damage for each, and what fixed ones do. From
//! the repository root, with the number of steps and a folder for the weights (the data that it
//! holds are not degraded again):
//!
//! ```text
//! cargo run --release -p srfilter-train --example coding_damage -- 20000 runs/coding-damage
//! ```

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use rand::seq::{IndexedRandom, index};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use srfilter::frame::to_u8;
use srfilter::models::{Channels, CodingDamage, CodingStatistics, DamageEstimator};
use srfilter::ops::{lerp_in_place, log};
use srfilter::{
    Color, FrameSpec, Model, PixelFormat, Precision, Scale, UpscaleOptions, UpscaleSpec, Upscaler,
};
use srfilter_train::data::{Dataset, TrainingImage, synthetic};
use srfilter_train::degrade::Shot;
use srfilter_train::degrade::bicubically;
use srfilter_train::degrade::raster::{Raster, gaussian};
use srfilter_train::degrade::video::Codecs;
use srfilter_train::optim::{Optimizer, Settings};
use srfilter_train::params::{ParamStore, tensors};
use srfilter_train::recipe::{Codec, Overrides, Recipe, Video};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const SCALE: usize = 2;
/// Side of a patch of the statistics.
const PATCH: usize = CodingStatistics::PATCH;
/// Side of a low-resolution crop: four patches.
const CROP: usize = 2 * PATCH;
/// Pictures of a sheet, which are encoded alike, and crops of each.
const PICTURES: usize = 4;
const CROPS: usize = 4;
/// Sheets to train on and to measure on.
const SHEETS: [usize; 2] = [2000, 200];
/// Drawn pictures among the others.
const DRAWN: [usize; 2] = [150, 10];
/// Groups of crops of a step.
const BATCH: usize = 64;
/// Samples at the edges of a crop that do not count.
const EDGE: usize = 8;
/// The damage of the networks whose errors are known.
const KNOWN: [f64; 3] = [0.0, 0.5, 1.0];

/// How the crops of a sheet were degraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Clean,
    Jpeg,
    /// Well encoded H.264.
    Fine,
    Encoded,
}

/// Crops that were degraded alike: the patches of each, and its squared errors in the order of
/// [`KNOWN`].
struct Sheet {
    kind: Kind,
    patches: Vec<Vec<f32>>,
    errors: Vec<[f64; 3]>,
}

/// The squared error at any damage: a parabola through those of [`KNOWN`].
fn parabola([none, half, whole]: [f64; 3]) -> [f64; 3] {
    [
        none,
        4.0 * half - 3.0 * none - whole,
        2.0 * (none + whole) - 4.0 * half,
    ]
}

fn error_at([a, b, c]: [f64; 3], damage: f64) -> f64 {
    (a + damage * (b + damage * c)).max(1e-9)
}

/// The damage of the lowest error, and that error.
fn best(parabola: [f64; 3]) -> (f64, f64) {
    let steps = (0..=CodingDamage::STEPS).map(|i| f64::from(i) / f64::from(CodingDamage::STEPS));
    let errors = steps.map(|damage| (damage, error_at(parabola, damage)));
    errors
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0.0, 1.0))
}

/// What degrades sheets.
struct Degradations {
    fine: Codecs,
    encoded: Codecs,
}

impl Degradations {
    fn new() -> Result<Self> {
        let settings = |codecs: &[Codec], strength| Video {
            codecs: codecs.to_vec(),
            strength,
            frames: 5,
            motion: 2.0,
            lookahead: 0.6,
        };
        Ok(Self {
            // Rate factors from 8 on.
            fine: Codecs::new(&settings(&[Codec::H264], [-0.45, 0.2]))?,
            encoded: Codecs::new(&settings(&[], [0.0, 0.9]))?,
        })
    }

    fn sheet(&self, images: &[TrainingImage], rng: &mut ChaCha8Rng) -> Result<Sheet> {
        let large = (SCALE * CROP, SCALE * CROP);
        let small = (CROP, CROP);
        let fitting: Vec<_> = (images.iter())
            .filter(|image| image.size.0.min(image.size.1) >= 160)
            .collect();
        let blur = (rng.random::<f64>() < 0.25).then(|| rng.random_range(0.5..2.0));
        let noise = (rng.random::<f64>() < 0.2).then(|| rng.random_range(1.0_f32..8.0) / 255.0);
        let mut shots = Vec::new();
        let mut image = fitting.choose(rng).context("no images")?;
        let contrast = rng.random_range(0.4..1.6_f32).min(1.0);
        for i in 0..PICTURES * CROPS {
            if i % CROPS == 0 {
                image = fitting.choose(rng).context("no images")?;
            }
            let [left, top] = [image.size.0, image.size.1].map(|side| {
                let room = side.saturating_sub(SCALE * CROP);
                rng.random_range(0..=room) as isize
            });
            let frame = rng.random_range(0..image.frames);
            let mut shot = image.shot(frame, (left, top), large, 4);
            let frames = (shot.before.iter_mut())
                .chain([&mut shot.image])
                .chain(&mut shot.after);
            for frame in frames {
                frame.map(|v| 0.5 + contrast * (v - 0.5));
                if let Some(sigma) = blur {
                    *frame = frame.blurred(&gaussian(13, sigma));
                }
                if let Some(noise) = noise {
                    for v in frame.planes.iter_mut().flatten() {
                        let sum: f32 = (0..6).map(|_| rng.random::<f32>() - 0.5).sum();
                        *v = (*v + noise * sum * std::f32::consts::SQRT_2).clamp(0.0, 1.0);
                    }
                }
            }
            shots.push(shot);
        }
        let kind = match rng.random::<f64>() {
            v if v < 0.35 => Kind::Clean,
            v if v < 0.42 => Kind::Jpeg,
            v if v < 0.65 => Kind::Fine,
            _ => Kind::Encoded,
        };
        let pairs: Vec<(&Shot, &(usize, usize))> =
            shots.iter().map(|shot| (shot, &small)).collect();
        let quality = rng.random_range(30..96);
        let low = match kind {
            Kind::Fine => self.fine.downscaled(&pairs, rng)?,
            Kind::Encoded => self.encoded.downscaled(&pairs, rng)?,
            Kind::Clean | Kind::Jpeg => {
                let shrink = |shot: &Shot| {
                    let mut low = bicubically(&shot.image, small);
                    low.round();
                    match kind {
                        Kind::Jpeg => jpeg(&low, quality),
                        _ => Ok(low),
                    }
                };
                shots.iter().map(shrink).collect::<Result<_>>()?
            }
        };
        let mut errors = vec![[0.0; 3]; PICTURES * CROPS];
        for (i, damage) in KNOWN.into_iter().enumerate() {
            let mut upscaler = upscaler(damage)?;
            for ((low, shot), errors) in low.iter().zip(&shots).zip(&mut errors) {
                let plane = low.planes[0].iter().map(|v| v * 255.0).collect();
                let restored = upscaler.process_planes(&[plane])?;
                errors[i] = squared_error(&restored[0], &shot.image.planes[0]);
            }
        }
        Ok(Sheet {
            kind,
            patches: low.iter().map(patches).collect(),
            errors,
        })
    }
}

fn upscaler(damage: f64) -> Result<Upscaler> {
    let model = Model::builtin("espcn")?.for_damage(CodingDamage::new(damage)?)?;
    let spec = FrameSpec::new(PixelFormat::Gray8, CROP, CROP).with_color(Color::default());
    let options = UpscaleOptions::default()
        .with_precision(Precision::F32)
        .with_threads(1);
    let spec = UpscaleSpec::scaled(spec, Scale::whole(SCALE as u32));
    Ok(Upscaler::new(model, spec, &options)?)
}

/// The sum of squared errors inside a crop, of luma from 0 to 1.
fn squared_error(restored: &[f32], original: &[f32]) -> f64 {
    let side = SCALE * CROP;
    let inside = EDGE * SCALE..side - EDGE * SCALE;
    let rows = inside.clone().map(|y| y * side);
    let samples = rows.flat_map(|row| inside.clone().map(move |x| row + x));
    samples
        .map(|i| f64::from(restored[i].round() / 255.0 - original[i]).powi(2))
        .sum()
}

/// The four patches of a crop, one after the other.
fn patches(crop: &Raster) -> Vec<f32> {
    let corners = [(0, 0), (PATCH, 0), (0, PATCH), (PATCH, PATCH)];
    let cut = |(x, y)| crop.crop(x, y, PATCH, PATCH).planes.remove(0);
    corners.into_iter().flat_map(cut).collect()
}

fn jpeg(image: &Raster, quality: u8) -> Result<Raster> {
    let samples: Vec<u8> = image.planes[0].iter().map(|&v| to_u8(v * 255.0)).collect();
    let mut bytes = Vec::new();
    let (width, height) = (image.size.0 as u32, image.size.1 as u32);
    JpegEncoder::new_with_quality(&mut bytes, quality).encode(
        &samples,
        width,
        height,
        ExtendedColorType::L8,
    )?;
    let decoded = image::load_from_memory(&bytes)?.to_luma8().into_raw();
    Ok(Raster {
        size: image.size,
        planes: vec![decoded.into_iter().map(|v| f32::from(v) / 255.0).collect()],
    })
}

/// Crops of a sheet together: the features of their patches, and the parabola of their errors.
struct Group {
    kind: Kind,
    features: Vec<f32>,
    parabola: [f64; 3],
}

/// Sheets, and the statistics of each crop.
struct Seen<'a> {
    sheets: &'a [Sheet],
    statistics: Vec<Vec<CodingStatistics>>,
}

impl<'a> Seen<'a> {
    fn new(sheets: &'a [Sheet]) -> Self {
        let crop = |samples: &Vec<f32>| {
            let mut statistics = CodingStatistics::default();
            for patch in samples.chunks(PATCH * PATCH) {
                let luma: Vec<f32> = patch.iter().map(|v| v * 255.0).collect();
                statistics.add_patch(&luma);
            }
            statistics
        };
        let statistics = sheets.par_iter();
        let statistics = statistics.map(|sheet| sheet.patches.iter().map(crop).collect());
        Self {
            sheets,
            statistics: statistics.collect(),
        }
    }

    /// The pictures: their sheets and crops.
    fn pictures(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let sheets = 0..self.sheets.len();
        let crops = |i: usize| i * CROPS..(i + 1) * CROPS;
        sheets.flat_map(move |sheet| (0..PICTURES).map(move |i| (sheet, crops(i))))
    }

    fn group(&self, sheet: usize, crops: impl IntoIterator<Item = usize>) -> Group {
        let (mut statistics, mut errors) = (CodingStatistics::default(), [0.0; 3]);
        for crop in crops {
            statistics.add(&self.statistics[sheet][crop]);
            let own = self.sheets[sheet].errors[crop];
            (errors.iter_mut().zip(own)).for_each(|(sum, error)| *sum += error);
        }
        Group {
            kind: self.sheets[sheet].kind,
            features: statistics.features(),
            parabola: parabola(errors),
        }
    }
}

fn train(seen: &Seen<'_>, steps: u64) -> Result<ParamStore> {
    let all: Vec<Group> = seen
        .pictures()
        .map(|(i, crops)| seen.group(i, crops))
        .collect();
    let mean = |i: usize| all.iter().map(|g| g.features[i]).sum::<f32>() / all.len() as f32;
    let mean: Vec<f32> = (0..CodingStatistics::FEATURES).map(mean).collect();
    let store = ParamStore::random(1);
    let network = DamageEstimator::new(&store.builder())?;
    let mut vars = store.vars()?;
    vars["mean"].set(&Tensor::new(mean, &Device::Cpu)?)?;
    let average = ParamStore::from_tensors("weights", tensors(&vars).collect());
    DamageEstimator::new(&average.builder())?;
    let averaged = average.vars()?;
    vars.remove("mean");
    let mut optimizer = Optimizer::new(&vars, Settings::default(), &BTreeMap::new())?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut sum = 0.0;
    for step in 0..steps {
        let (mut features, mut parabolas, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let sheet = rng.random_range(0..seen.sheets.len());
            let first = rng.random_range(0..PICTURES) * CROPS;
            let count = rng.random_range(1..=CROPS);
            let crops = index::sample(&mut rng, CROPS, count).into_iter();
            let group = seen.group(sheet, crops.map(|crop| first + crop));
            let (label, lowest) = best(group.parabola);
            features.extend(group.features);
            parabolas.extend(group.parabola.map(|v| (v / lowest) as f32));
            labels.push(label as f32);
        }
        let tensor = |v: Vec<f32>, n: usize| Tensor::from_vec(v, (BATCH, n), &Device::Cpu);
        let estimate = network.forward(&tensor(features, CodingStatistics::FEATURES)?)?;
        let parabolas = tensor(parabolas, 3)?;
        let part = |i| parabolas.narrow(1, i, 1)?.squeeze(1);
        let slope = (part(1)? + (part(2)? * &estimate)?)?;
        let error = (part(0)? + (slope * &estimate)?)?;
        let error = log(&error.maximum(1e-3)?)?;
        // Large losses count more.
        let large = error.sqr()?.mean_all()?;
        let error = error.mean_all()?;
        // Which way to go also where the error hardly depends on it.
        let wrong = (&estimate - tensor(labels, 1)?.squeeze(1)?)?;
        let loss = ((&error + large)? + (wrong.sqr()?.mean_all()? * 0.02)?)?;
        sum += error.to_scalar::<f32>()?;
        let progress = step as f64 / steps as f64;
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress));
        let lr = 4e-3 * (0.01 + 0.99 * cosine) * ((step + 1) as f64 / 100.0).min(1.0);
        let gradients = loss.backward()?;
        let norm = optimizer.gradient_norm(&gradients)?;
        optimizer.step(&gradients, lr, (0.5 / norm).min(1.0))?;
        let moves = (vars.iter())
            .map(|(name, var)| (averaged[name].clone(), var.as_tensor().clone(), 5e-3));
        lerp_in_place(0.995, &moves.collect::<Vec<_>>())?;
        if (step + 1) % 1000 == 0 {
            let decibels = sum / 1000.0 * 10.0 / std::f32::consts::LN_10;
            println!("step {}: {decibels:.3} dB from the best damage", step + 1);
            sum = 0.0;
        }
    }
    Ok(average)
}

/// What is lost against the best damage of each picture, in dB: by the estimate, at fixed
/// damages, and by the better of the networks for 0 and 1.
fn measure(network: &DamageEstimator, seen: &Seen<'_>) -> Result<()> {
    let mut losses: BTreeMap<Kind, Vec<[f64; 7]>> = BTreeMap::new();
    for (sheet, crops) in seen.pictures() {
        let group = seen.group(sheet, crops);
        let features = Tensor::new(vec![group.features], &Device::Cpu)?;
        let estimate = network.forward(&features)?.squeeze(0)?;
        let estimate = f64::from(estimate.to_scalar::<f32>()?);
        let (damage, lowest) = best(group.parabola);
        let loss = |damage| 10.0 * libm::log10(error_at(group.parabola, damage) / lowest);
        let fixed = KNOWN.map(loss);
        let row = [
            estimate,
            (estimate - damage).abs(),
            loss(estimate),
            fixed[0],
            fixed[1],
            fixed[2],
            fixed[0].min(fixed[2]),
        ];
        losses.entry(group.kind).or_default().push(row);
    }
    println!(
        "{:8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "pictures", "estimate", "off by", "loss/dB", "at 0", "at 1/2", "at 1", "0 or 1"
    );
    for (kind, rows) in &losses {
        let mean = |i: usize| rows.iter().map(|row| row[i]).sum::<f64>() / rows.len() as f64;
        let means = (0..7).map(|i| format!(" {:8.3}", mean(i)));
        let kind = format!("{kind:?}");
        println!("{kind:8} {:8}{}", rows.len(), means.collect::<String>());
    }
    Ok(())
}

/// The images and clips of folders.
fn images(folders: &[&str]) -> Result<Vec<TrainingImage>> {
    let table = |folder: &&str| -> toml::Table {
        let path = format!("../shared/data/train/{folder}");
        [("path".to_owned(), path.into())].into_iter().collect()
    };
    let mut settings = Overrides::default();
    settings
        .set("model", "name", Some("espcn"))
        .set(
            "data",
            "dirs",
            Some(folders.iter().map(table).collect::<Vec<_>>()),
        )
        .set("data", "validation", Some(0))
        .set("train", "scales", Some(vec![2]))
        .set("train", "steps", Some(1));
    let recipe = Recipe::resolve(None, &settings)?;
    Ok(Dataset::load(&recipe, Channels::Luma)?.train)
}

const KINDS: [Kind; 4] = [Kind::Clean, Kind::Jpeg, Kind::Fine, Kind::Encoded];

fn write(sheets: &[Sheet], file: &Path) -> Result<()> {
    let (kinds, patches, errors): (Vec<u8>, Vec<u8>, Vec<f64>) = (
        sheets.iter().map(|sheet| sheet.kind as u8).collect(),
        (sheets
            .iter()
            .flat_map(|sheet| sheet.patches.iter().flatten()))
        .map(|v| to_u8(v * 255.0))
        .collect(),
        (sheets
            .iter()
            .flat_map(|sheet| sheet.errors.iter().flatten()))
        .copied()
        .collect(),
    );
    let tensors = HashMap::from([
        ("kinds", Tensor::new(kinds, &Device::Cpu)?),
        ("patches", Tensor::new(patches, &Device::Cpu)?),
        ("errors", Tensor::new(errors, &Device::Cpu)?),
    ]);
    Ok(candle_core::safetensors::save(&tensors, file)?)
}

fn read(file: &Path) -> Result<Vec<Sheet>> {
    let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
    let get = |name| tensors.get(name).context("no such data");
    let patches = get("patches")?.to_vec1::<u8>()?;
    let errors = get("errors")?.to_vec1::<f64>()?;
    let crops = patches
        .chunks(CROP * CROP)
        .map(|crop| crop.iter().map(|&v| f32::from(v) / 255.0));
    let crops: Vec<Vec<f32>> = crops.map(Iterator::collect).collect();
    let errors: Vec<[f64; 3]> = errors.chunks(3).map(|e| [e[0], e[1], e[2]]).collect();
    let kinds = get("kinds")?.to_vec1::<u8>()?.into_iter();
    let count = PICTURES * CROPS;
    let sheets = kinds.zip(crops.chunks(count)).zip(errors.chunks(count));
    let sheets = sheets.map(|((kind, patches), errors)| Sheet {
        kind: KINDS[usize::from(kind)],
        patches: patches.to_vec(),
        errors: errors.to_vec(),
    });
    Ok(sheets.collect())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: coding_damage STEPS FOLDER";
    let steps = args.next().context(usage)?.parse()?;
    let folder = PathBuf::from(args.next().context(usage)?);
    std::fs::create_dir_all(&folder)?;
    let degradations = Degradations::new()?;
    let sets: [&[&str]; 2] = [
        &["free", "video", "DIV2K-gray181", "T91", "BSD400"],
        &["free-val", "video-val"],
    ];
    let mut sheets = Vec::new();
    for (set, folders) in sets.into_iter().enumerate() {
        let (seed, count) = (set as u64 + 2, SHEETS[set]);
        let file = folder.join(format!("sheets-{seed}.safetensors"));
        if file.exists() {
            sheets.push(read(&file)?);
            continue;
        }
        let mut images = images(folders)?;
        images.extend((0..DRAWN[set]).map(|i| {
            let image = synthetic::image(seed as u32, i);
            TrainingImage::new("drawn", &image, Channels::Luma, 1.0)
        }));
        let sheet = |i: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            degradations.sheet(&images, &mut rng)
        };
        // Few at a time: a thread that waits for one begins another.
        let numbers: Vec<usize> = (0..count).collect();
        let mut drawn = Vec::new();
        for numbers in numbers.chunks(16) {
            let some = numbers.par_iter().map(|&i| sheet(i));
            drawn.extend(some.collect::<Result<Vec<_>>>()?);
        }
        write(&drawn, &file)?;
        sheets.push(drawn);
        println!("{} images and clips, {count} sheets", images.len());
    }
    let average = train(&Seen::new(&sheets[0]), steps)?;
    let network = DamageEstimator::new(&average.builder())?;
    for sheets in &sheets {
        measure(&network, &Seen::new(sheets))?;
    }
    let halves = tensors(&average.vars()?)
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F16)?)))
        .collect::<Result<HashMap<_, _>>>()?;
    candle_core::safetensors::save(&halves, folder.join("weights.safetensors"))?;
    Ok(())
}
