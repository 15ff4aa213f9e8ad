//! `sr evaluate`: how near models come to pictures that were shrunk.

use crate::args::{Args, EvaluateArgs, Protocol};
use crate::pictures;
use crate::report::{Console, ImageQuality, Quality, Report, Table, file_name};
use crate::upscale::{enlarge, make_folder};
use anyhow::{Result, anyhow, bail};
use clap::CommandFactory;
use clap::error::ErrorKind;
use srfilter::Scale;
use srfilter::engine::{Job, Options, Shape, Upscaler};
use srfilter::frame::resample::{Resampler, pillow};
use srfilter::frame::{Color, Picture, PixelFormat};
use srfilter::metrics;
use srfilter::models::Channels;
use srfilter::weights::Loaded;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The smallest side that SSIM is defined for, in pixels.
const SSIM_SIDE: usize = 11;

/// The folder of a data set and its pictures.
struct DataSet {
    folder: PathBuf,
    name: String,
    pictures: Vec<PathBuf>,
}

/// How to measure.
struct Method {
    protocol: Protocol,
    /// Whether shrunk pictures are rounded to 8 bits.
    round: bool,
    options: Options,
}

/// What a protocol compared: 8-bit pictures.
struct Compared {
    quality: Quality,
    low: Picture,
    bicubic: Picture,
    result: Picture,
}

/// Measures what the command line names.
pub(crate) fn run(args: &EvaluateArgs) -> Result<()> {
    refuse_conflicts(args);
    let method = Method {
        protocol: args.protocol,
        round: !args.no_round,
        options: args.network.options(),
    };
    method.options.device.resolve()?;
    let sets = data_sets(args)?;
    let models: Vec<Arc<Loaded>> = match args.model.as_slice() {
        [] => vec![args.network.open(None)?],
        names => names
            .iter()
            .map(|name| args.network.open(Some(name)))
            .collect::<Result<_>>()?,
    };
    let json = args.json.as_deref();
    if let Some(folder) = json.and_then(Path::parent) {
        make_folder(folder)?;
    }
    let to_stdout = json == Some(Path::new("-"));
    let session = Session::new(args, method, &models, &sets, !to_stdout);
    let mut reports = Vec::new();
    session.begin(&models)?;
    for model in &models {
        for &scale in &args.scale {
            for set in &sets {
                reports.push(session.measure(model, scale, set)?);
            }
        }
    }
    drop(session);
    let Some(path) = json else { return Ok(()) };
    let text = serde_json::to_string_pretty(&reports)? + "\n";
    if to_stdout {
        io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(());
    }
    std::fs::write(path, text).map_err(|e| anyhow!("cannot write {}: {e}", path.display()))
}

/// Ends the program where flags that are right by themselves do not go together.
fn refuse_conflicts(args: &EvaluateArgs) {
    let refuse = |message: &str| {
        let mut command = Args::command();
        command.build();
        let usage = command.find_subcommand_mut("evaluate");
        match usage {
            Some(evaluate) => evaluate.error(ErrorKind::ArgumentConflict, message).exit(),
            None => command.error(ErrorKind::ArgumentConflict, message).exit(),
        }
    };
    if args.network.weights.is_some() && args.model.len() > 1 {
        refuse("--weights holds one model, but --model names several; measure them one by one");
    }
    if args.no_round && args.protocol == Protocol::Rgb {
        refuse("--no-round is for protocol y; Pillow's bicubic of protocol rgb always rounds");
    }
}

/// Finds the pictures of all folders, and sees to it that all can be measured
/// before the first is.
fn data_sets(args: &EvaluateArgs) -> Result<Vec<DataSet>> {
    let mut sets: Vec<DataSet> = Vec::new();
    for folder in &args.data {
        if !folder.is_dir() {
            let problem = match folder.exists() {
                true => "is not a folder",
                false => "does not exist",
            };
            bail!("--data {} {problem}", folder.display());
        }
        let name = folder.canonicalize().map(|path| file_name(&path));
        let name = name.unwrap_or_else(|_| file_name(folder));
        if args.save.is_some() && sets.iter().any(|set| set.name == name) {
            bail!("two data folders are named {name}, and --save would mix their pictures");
        }
        let pictures = pictures::find(folder)?;
        for picture in &pictures {
            check_picture(&folder.join(picture), &args.scale, args.protocol)?;
        }
        let folder = folder.clone();
        sets.push(DataSet {
            folder,
            name,
            pictures,
        });
    }
    Ok(sets)
}

/// Decodes a picture whole: one that is broken must not end an evaluation
/// after hours.
fn check_picture(path: &Path, scales: &[Scale], protocol: Protocol) -> Result<()> {
    let Picture { width, height, .. } = Picture::open(path)?;
    for &scale in scales {
        let whole = scale.num() as usize;
        let least = (SSIM_SIDE + 2 * shaved(scale, protocol)).next_multiple_of(whole);
        if width < least || height < least {
            bail!(
                "{}: {width}x{height} pixels are too few to measure scale {scale}: \
                 each side needs {least}",
                path.display()
            );
        }
    }
    Ok(())
}

/// Pixels that are left out on each side: results near the edge depend on
/// what a method takes to lie beyond it.
fn shaved(scale: Scale, protocol: Protocol) -> usize {
    match protocol {
        Protocol::Y => scale.factor().ceil() as usize,
        Protocol::Rgb => 0,
    }
}

/// A run over all models, scales and data sets.
struct Session<'a> {
    method: Method,
    save: Option<&'a Path>,
    verbose: bool,
    /// Whether to print the table.
    print: bool,
    table: Table,
    console: Console,
}

impl<'a> Session<'a> {
    fn new(
        args: &'a EvaluateArgs,
        method: Method,
        models: &[Arc<Loaded>],
        sets: &[DataSet],
        print: bool,
    ) -> Self {
        let pictures = || sets.iter().flat_map(|set| &set.pictures);
        let shown = if args.verbose { usize::MAX } else { 0 };
        let names: Vec<String> = pictures()
            .take(shown)
            .map(|p| p.display().to_string())
            .collect();
        let steps = pictures().count() * models.len() * args.scale.len();
        Self {
            method,
            save: args.save.as_deref(),
            verbose: args.verbose,
            print,
            table: Table::new(
                models.iter().map(|model| model.name()),
                sets.iter().map(|set| set.name.as_str()),
                names.iter().map(String::as_str),
            ),
            console: Console::new(steps),
        }
    }

    /// Prints what is measured, and the table's head.
    fn begin(&self, models: &[Arc<Loaded>]) -> Result<()> {
        if !self.print {
            return Ok(());
        }
        for model in models {
            let (name, origin) = (model.name(), model.origin());
            self.console.line(&format!("{name}: {origin}"))?;
        }
        let protocol = match (self.method.protocol, self.method.round) {
            (Protocol::Y, true) => "protocol y: luma, low resolution rounded to 8 bits",
            (Protocol::Y, false) => "protocol y: luma, low resolution not rounded",
            (Protocol::Rgb, _) => "protocol rgb: 8-bit RGB, Pillow's bicubic",
        };
        self.console
            .line(&format!("{protocol}\n\n{}", self.table.head()))?;
        Ok(())
    }

    /// Measures one model at one scale on one data set.
    fn measure(&self, model: &Arc<Loaded>, scale: Scale, set: &DataSet) -> Result<Report> {
        let mut report = Report {
            model: model.name().to_owned(),
            weights: model.origin().to_owned(),
            scale,
            data: set.folder.display().to_string(),
            protocol: self.method.protocol,
            rounded: self.method.round,
            mean: Quality::default(),
            images: Vec::new(),
        };
        for name in &set.pictures {
            let shown = name.display().to_string();
            self.console
                .step(format!("{} x{scale} {shown}", model.name()));
            let original = Picture::open(set.folder.join(name))?;
            let compared = self
                .method
                .compare(&crop(&original, scale), model, scale)
                .map_err(|e| anyhow!("{shown}: {e}"))?;
            if let Some(folder) = self.save {
                let scale = scale.to_string().replace('/', "-");
                let place = folder.join(model.name()).join(format!("x{scale}"));
                save(&place.join(&set.name).join(name), &compared)?;
            }
            let quality = compared.quality;
            report.add(ImageQuality {
                name: shown,
                quality,
            });
            if let (true, true, Some(image)) = (self.print, self.verbose, report.images.last()) {
                self.console.line(&self.table.image(&report, image))?;
            }
        }
        if self.print {
            self.console.line(&self.table.mean(&report))?;
        }
        Ok(report)
    }
}

/// The upper left part whose sides, divided by the scale, are whole numbers.
fn crop(picture: &Picture, scale: Scale) -> Picture {
    let whole = scale.num() as usize;
    let side = |length: usize| length - length % whole;
    picture.crop(0, 0, side(picture.width), side(picture.height))
}

/// Width and height of the shrunk picture.
fn shrunk(picture: &Picture, scale: Scale) -> (usize, usize) {
    let side = |length: usize| length / scale.num() as usize * scale.den() as usize;
    (side(picture.width), side(picture.height))
}

/// Writes the pictures beside each other, under names made from `name`.
fn save(name: &Path, compared: &Compared) -> Result<()> {
    if let Some(folder) = name.parent() {
        make_folder(folder)?;
    }
    compared.low.save(name.with_extension("lr.png"))?;
    compared.bicubic.save(name.with_extension("bicubic.png"))?;
    compared.result.save(name.with_extension("sr.png"))?;
    Ok(())
}

impl Method {
    /// Shrinks a picture, enlarges it again and compares.
    fn compare(&self, original: &Picture, model: &Arc<Loaded>, scale: Scale) -> Result<Compared> {
        match self.protocol {
            Protocol::Y => self.compare_luma(original, model, scale),
            Protocol::Rgb => self.compare_rgb(&original.to_rgb(), model, scale),
        }
    }

    /// Protocol y. A luma network gets shrunk luma, and luma is 8-bit as
    /// SRCNN's authors have it; an RGB network gets shrunk RGB, and luma of the
    /// results is not rounded, as is usual for such networks. Bicubic
    /// interpolation goes the same way, so that the two can be compared.
    fn compare_luma(
        &self,
        original: &Picture,
        model: &Arc<Loaded>,
        scale: Scale,
    ) -> Result<Compared> {
        let (size, low_size) = ((original.width, original.height), shrunk(original, scale));
        let (shrink, grow) = (
            Resampler::resize(size, low_size),
            Resampler::resize(low_size, size),
        );
        let original = match model.channels() {
            Channels::Luma => eight_bit_luma(original),
            Channels::Rgb => original.to_rgb(),
        };
        let shrunk = planes(&original)
            .into_iter()
            .map(|plane| self.rounded(shrink.apply(&plane)));
        let low: Vec<Vec<f64>> = shrunk.collect();
        let bicubic: Vec<Vec<f64>> = low.iter().map(|plane| grow.apply(plane)).collect();
        let made = self.run_planes(&low, low_size, size, model, scale)?;
        let (bicubic, result) = (picture(&bicubic, size), picture(&made, size));
        let border = shaved(scale, self.protocol);
        let quality = |result| luma_quality(&original, result, border);
        Ok(Compared {
            quality: Quality::new(quality(&result)?, quality(&bicubic)?),
            low: picture(&low, low_size),
            bicubic,
            result,
        })
    }

    /// What the model makes of planes of one size at another.
    fn run_planes(
        &self,
        low: &[Vec<f64>],
        from: (usize, usize),
        to: (usize, usize),
        model: &Arc<Loaded>,
        scale: Scale,
    ) -> Result<Vec<Vec<f64>>> {
        let job = Job {
            input: Shape {
                format: match model.channels() {
                    Channels::Luma => PixelFormat::Gray8,
                    Channels::Rgb => PixelFormat::Rgb,
                },
                size: from,
                color: Color::default(),
            },
            output: to,
            scale,
        };
        let mut upscaler = Upscaler::new(Arc::clone(model), job, &self.options)?;
        let narrow = |plane: &Vec<f64>| plane.iter().map(|&v| v as f32).collect();
        let made = upscaler.process_planes(&low.iter().map(narrow).collect::<Vec<_>>())?;
        let wide = |plane: Vec<f32>| plane.into_iter().map(f64::from).collect();
        Ok(made.into_iter().map(wide).collect())
    }

    /// Protocol rgb, as HyperSRCNN's authors measure.
    fn compare_rgb(
        &self,
        original: &Picture,
        model: &Arc<Loaded>,
        scale: Scale,
    ) -> Result<Compared> {
        let (width, height) = shrunk(original, scale);
        let low = pillow(original, width, height);
        let bicubic = pillow(&low, original.width, original.height);
        let result = match model.stages(scale).is_empty() {
            true => bicubic.clone(),
            false => enlarge(&low, model, scale, &self.options)?,
        };
        Ok(Compared {
            quality: Quality::new(
                rgb_quality(original, &result)?,
                rgb_quality(original, &bicubic)?,
            ),
            low,
            bicubic,
            result,
        })
    }

    fn rounded(&self, mut plane: Vec<f64>) -> Vec<f64> {
        if self.round {
            plane.iter_mut().for_each(|v| *v = f64::from(to_u8(*v)));
        }
        plane
    }
}

/// PSNR and SSIM of luma without `border` samples on each side.
fn luma_quality(a: &Picture, b: &Picture, border: usize) -> Result<(f64, f64)> {
    let (a, width) = metrics::shave(&luma(a), a.width, border);
    let (b, _) = metrics::shave(&luma(b), b.width, border);
    let ssim = metrics::ssim(&a, &b, width).ok_or_else(too_small)?;
    Ok((metrics::psnr(&a, &b), ssim))
}

/// PSNR over all samples and scikit-image's SSIM, the channels' mean.
fn rgb_quality(a: &Picture, b: &Picture) -> Result<(f64, f64)> {
    let (a, b, width) = (planes(a), planes(b), a.width);
    let mut ssim = 0.0;
    for (a, b) in a.iter().zip(&b) {
        ssim += metrics::ssim_uniform(a, b, width).ok_or_else(too_small)?;
    }
    Ok((
        metrics::psnr(&a.concat(), &b.concat()),
        ssim / a.len() as f64,
    ))
}

fn too_small() -> anyhow::Error {
    anyhow!("too small for SSIM, which needs {SSIM_SIDE}x{SSIM_SIDE} pixels")
}

/// The channels of a picture.
fn planes(picture: &Picture) -> Vec<Vec<f64>> {
    let channel = |i: usize| {
        let samples = picture.data.iter().skip(i).step_by(picture.channels);
        samples.map(|&v| f64::from(v)).collect()
    };
    (0..picture.channels).map(channel).collect()
}

/// A picture of rounded planes.
fn picture(planes: &[Vec<f64>], (width, height): (usize, usize)) -> Picture {
    let mut out = Picture::new(width, height, planes.len());
    for (i, plane) in planes.iter().enumerate() {
        let targets = out.data.iter_mut().skip(i).step_by(planes.len());
        targets.zip(plane).for_each(|(t, &v)| *t = to_u8(v));
    }
    out
}

/// A picture's luma, rounded. A grey picture is its own luma: what the test
/// sets hold of those was never in studio range.
fn eight_bit_luma(original: &Picture) -> Picture {
    match original.channels {
        1 => original.clone(),
        _ => picture(&[original.luma()], (original.width, original.height)),
    }
}

/// Luma of what was compared, which is luma already where it has one channel.
fn luma(picture: &Picture) -> Vec<f64> {
    match picture.channels {
        1 => picture.data.iter().map(|&v| f64::from(v)).collect(),
        _ => picture.luma(),
    }
}

/// Rounds to nearest, halves up, and clamps to what 8 bits hold.
fn to_u8(value: f64) -> u8 {
    // `as` saturates.
    (value + 0.5) as u8
}
