//! `sr evaluate`: PSNR and SSIM of models on downscaled images.

use crate::args::{EvaluateArgs, refuse};
use crate::candidates::{self, Candidate};
use crate::console::{Console, warn};
use crate::html;
use crate::html::gallery::{Gallery, GalleryKey};
use crate::images;
use crate::interrupt::write_file;
use crate::measure::{Compared, crop};
use crate::paths::{create_folder, file_name};
use crate::protocol::Method;
use crate::quality::Quality;
use crate::report::{self, ImageQuality, Report, Table};
use anyhow::{Result, anyhow, bail};
use srfilter::Scale;
use srfilter::image_files::{Metadata, encode};
use srfilter::weights::Model;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of a data set and its images.
struct DataSet {
    folder: PathBuf,
    name: String,
    images: Vec<PathBuf>,
}

/// Measures the models of the command line.
pub(crate) fn run(args: &EvaluateArgs) -> Result<()> {
    let mut method = args.method.method("evaluate", &args.compute)?;
    method.damage = args.damage.source();
    method.options.device.resolve()?;
    let outputs = Outputs::new(args)?;
    #[cfg(feature = "video")]
    if !args.video.is_empty() {
        let candidates = open(args)?;
        outputs.prepare()?;
        let mut gallery = args.html.is_some().then(Gallery::default);
        let print = !outputs.to_stdout();
        let reports = crate::video::evaluate::run(args, &candidates, gallery.as_mut(), print)?;
        return outputs.write(&reports, gallery.as_ref());
    }
    let sets = data_sets(args, &method)?;
    let candidates = open(args)?;
    outputs.prepare()?;
    let session = Session::new(args, method, &candidates, &sets, !outputs.to_stdout());
    let mut gallery = args.html.is_some().then(Gallery::default);
    let mut reports = Vec::new();
    session.print_head(&candidates)?;
    for candidate in &candidates {
        for &scale in &args.scale {
            for set in &sets {
                reports.push(session.measure(candidate, scale, set, gallery.as_mut())?);
            }
        }
    }
    drop(session);
    outputs.write(&reports, gallery.as_ref())
}

/// The models of the command line.
fn open(args: &EvaluateArgs) -> Result<Vec<Candidate>> {
    let hints = args.file.hints();
    let models: Vec<Arc<Model>> = match (args.model.as_slice(), args.weights.as_slice()) {
        ([], []) => vec![Model::load(None, None, &hints)?],
        ([], files) => candidates::open_files(files, &hints)?,
        ([name], [file]) => vec![Model::open_with(file, Some(name), &hints)?],
        (names, []) => names
            .iter()
            .map(|name| Ok(Model::builtin(name)?))
            .collect::<Result<_>>()?,
        _ => refuse(
            "evaluate",
            "--model goes with a single --weights file; for several files, leave --model out",
        ),
    };
    for model in &models {
        (args.scale.iter()).try_for_each(|&scale| args.damage.check(model, scale))?;
    }
    Ok(candidates::named(models))
}

/// The files that results go to.
struct Outputs<'a> {
    json: Option<&'a Path>,
    csv: Option<&'a Path>,
    html: Option<&'a Path>,
}

impl<'a> Outputs<'a> {
    /// The output files of the command line.
    fn new(args: &'a EvaluateArgs) -> Result<Self> {
        let outputs = Self {
            json: args.json.as_deref(),
            csv: args.csv.as_deref(),
            html: args.html.as_deref(),
        };
        let paths: Vec<&Path> = outputs.paths().collect();
        for (i, path) in paths.iter().enumerate() {
            if paths[..i].contains(path) {
                refuse(
                    "evaluate",
                    "two of --json, --csv and --html name the same FILE",
                );
            }
            if path.is_dir() {
                bail!(
                    "cannot write {}: it is a folder; name a file",
                    path.display()
                );
            }
        }
        Ok(outputs)
    }

    fn paths(&self) -> impl Iterator<Item = &'a Path> + use<'a> {
        [self.json, self.csv, self.html].into_iter().flatten()
    }

    /// Whether one of them is standard output.
    fn to_stdout(&self) -> bool {
        self.paths().any(is_stdout)
    }

    /// Creates the folders.
    fn prepare(&self) -> Result<()> {
        self.paths()
            .filter_map(Path::parent)
            .try_for_each(create_folder)
    }

    /// Writes the results.
    fn write(&self, reports: &[Report], gallery: Option<&Gallery>) -> Result<()> {
        if let Some(path) = self.json {
            write(path, serde_json::to_string_pretty(reports)? + "\n")?;
        }
        if let Some(path) = self.csv {
            write(path, report::csv(reports)?)?;
        }
        if let (Some(path), Some(gallery)) = (self.html, gallery) {
            write(path, html::page(reports, gallery)?)?;
        }
        Ok(())
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn write(path: &Path, text: String) -> Result<()> {
    if is_stdout(path) {
        return Ok(io::stdout().lock().write_all(text.as_bytes())?);
    }
    write_file(path, text.as_bytes())
}

/// Finds the images of all folders, and checks that all can be measured before
/// the first one is.
fn data_sets(args: &EvaluateArgs, method: &Method) -> Result<Vec<DataSet>> {
    let mut sets: Vec<DataSet> = Vec::new();
    for folder in &args.data {
        if !folder.is_dir() {
            let problem = match folder.exists() {
                true => "is not a folder: name a folder of images",
                false => "does not exist",
            };
            bail!("--data {} {problem}", folder.display());
        }
        let name = folder.canonicalize().map(|path| file_name(&path));
        let name = name.unwrap_or_else(|_| file_name(folder));
        if args.save.is_some() && sets.iter().any(|set| set.name == name) {
            bail!(
                "two data folders are named {name}, and --save would mix their images: rename one"
            );
        }
        let (images, not_taken) = images::find(folder)?;
        for file in &not_taken {
            warn(&images::not_read(file));
        }
        for image in &images {
            check_image(&folder.join(image), &args.scale, method)?;
        }
        let folder = folder.clone();
        sets.push(DataSet {
            folder,
            name,
            images,
        });
    }
    Ok(sets)
}

/// Decodes an image completely, so that a broken one does not end an evaluation
/// after hours.
fn check_image(path: &Path, scales: &[Scale], method: &Method) -> Result<()> {
    let image = images::open_opaque(path)?;
    for &scale in scales {
        let checked = method.check_size(&image, scale);
        checked.map_err(|e| anyhow!("{}: {e}", path.display()))?;
    }
    Ok(())
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
        candidates: &[Candidate],
        sets: &[DataSet],
        print: bool,
    ) -> Self {
        let images = || sets.iter().flat_map(|set| &set.images);
        let shown = if args.verbose { usize::MAX } else { 0 };
        let names: Vec<String> = images()
            .take(shown)
            .map(|p| p.display().to_string())
            .collect();
        let measures_distance = method.features.is_some();
        let steps = images().count() * candidates.len() * args.scale.len();
        Self {
            method,
            save: args.save.as_deref(),
            verbose: args.verbose,
            print,
            table: Table::new(
                candidates.iter().map(|candidate| candidate.label.as_str()),
                sets.iter().map(|set| set.name.as_str()),
                names.iter().map(String::as_str),
            )
            .with_distance(measures_distance),
            console: Console::new(steps),
        }
    }

    /// Prints the models, the protocol and the table's head.
    fn print_head(&self, candidates: &[Candidate]) -> Result<()> {
        if !self.print {
            return Ok(());
        }
        for Candidate { model, .. } in candidates {
            let (name, origin) = (model.name(), model.origin());
            self.console.line(&format!("{name}: {origin}"))?;
        }
        let protocol = self.method.describe();
        self.console
            .line(&format!("{protocol}\n\n{}", self.table.head()))?;
        Ok(())
    }

    /// Measures one model at one scale on one data set.
    fn measure(
        &self,
        candidate: &Candidate,
        scale: Scale,
        set: &DataSet,
        mut gallery: Option<&mut Gallery>,
    ) -> Result<Report> {
        let model = &candidate.model;
        let mut report = Report {
            label: candidate.label.clone(),
            set: set.name.clone(),
            method: self.method.describe(),
            model: model.name().to_owned(),
            weights: model.origin().to_owned(),
            scale,
            data: set.folder.display().to_string(),
            protocol: self.method.protocol,
            rounded: self.method.round,
            degradation: self.method.degradation,
            mean: Quality::default(),
            images: Vec::new(),
        };
        for name in &set.images {
            let shown = name.display().to_string();
            self.console
                .step(format!("{} x{scale} {shown}", candidate.label));
            let original = crop(&images::open_opaque(&set.folder.join(name))?, scale);
            let compared = self
                .method
                .compare(&original, model, scale)
                .map_err(|e| anyhow!("{shown}: {e}"))?;
            if let Some(folder) = self.save {
                let scale = scale.to_string().replace('/', "-");
                let target = folder
                    .join(candidate.file_label())
                    .join(format!("x{scale}"));
                save(&target.join(&set.name).join(name), &compared)?;
            }
            report.add(ImageQuality {
                name: shown.clone(),
                quality: compared.quality,
            });
            if let (true, true, Some(image)) = (self.print, self.verbose, report.images.last()) {
                self.console.line(&self.table.image(&report, image))?;
            }
            // Without a network the result is the bicubic image, which is shown anyway.
            if let (Some(gallery), false) = (gallery.as_mut(), model.cascade(scale).is_empty()) {
                let key = GalleryKey {
                    data: report.data.clone(),
                    scale,
                    image: shown,
                };
                let images = self.method.show(&original, compared);
                gallery.add(key, &candidate.label, &images);
            }
        }
        if self.print {
            self.console.line(&self.table.mean(&report))?;
        }
        Ok(report)
    }
}

/// Writes the images to one folder, under names derived from `name`.
fn save(name: &Path, compared: &Compared) -> Result<()> {
    if let Some(folder) = name.parent() {
        create_folder(folder)?;
    }
    let images = [
        (&compared.low, "lr.png"),
        (&compared.bicubic, "bicubic.png"),
        (&compared.result, "sr.png"),
    ];
    for (image, extension) in images {
        let path = name.with_extension(extension);
        write_file(&path, &encode(&path, image, &Metadata::default())?)?;
    }
    Ok(())
}
