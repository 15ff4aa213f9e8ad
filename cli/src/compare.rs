//! `sr compare`: the results of models, side by side.

use crate::args::CompareArgs;
use crate::candidates::{self, Candidate};
use crate::console::Console;
use crate::detail::{Area, busiest};
use crate::images::{not_read, open_opaque};
use crate::interrupt::write_file;
use crate::measure::crop;
use crate::paths::{create_folder, file_name};
use crate::protocol::Method;
use crate::sheet::{Panel, Sheet, zoomed_part};
use crate::show::{DisplayImages, nearest};
use crate::tasks::{Task, file_task, folder_tasks, refuse_existing};
use anyhow::{Result, anyhow, bail};
use srfilter::Scale;
use srfilter::frame::Image;
use srfilter::image_files::{Metadata, NotTaken, encode};
use srfilter::models::{BICUBIC, Scales};
use srfilter::weights::Model;
use std::path::{Path, PathBuf};

/// The models on every sheet, if they have weights for its scale.
const USUAL: [&str; 2] = ["srcnn", "hypersrcnn"];

/// Writes the sheets of the command line.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let method = args.method.method("compare", &args.compute)?;
    method.options.device.resolve()?;
    let folder = args.input.is_dir();
    let (tasks, not_taken) = tasks(args)?;
    if !args.force {
        refuse_existing(&tasks)?;
    }
    let candidates = open(args)?;
    let comparison = Comparison {
        args,
        method,
        console: Console::new(tasks.len() * candidates.len()),
        candidates,
    };
    for file in &not_taken {
        comparison.console.warn(&not_read(file));
    }
    let mut failed = 0;
    for task in &tasks {
        let result = comparison
            .write(task)
            .map_err(|e| anyhow!("{}: {e}", task.from.display()));
        match result {
            Ok(line) => comparison.console.line(&line)?,
            Err(error) if folder => {
                comparison.console.warn(&format!("skipped: {error}"));
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if failed > 0 {
        bail!("{failed} of {} images were skipped", tasks.len());
    }
    Ok(())
}

/// The images to read and the sheets to write.
fn tasks(args: &CompareArgs) -> Result<(Vec<Task>, Vec<NotTaken>)> {
    let (input, output) = (&args.input, args.output.as_deref());
    if input.is_dir() {
        let output = output.map_or_else(|| default_name(input, args.scale), Path::to_owned);
        return folder_tasks(input, &output);
    }
    let task = match output {
        Some(output) => file_task(input, output)?,
        None => {
            let name = default_name(&input.with_extension(""), args.scale);
            // A dot in the name is not the start of an extension.
            file_task(input, Path::new(&format!("{}.png", name.display())))?
        }
    };
    if task
        .to
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case("png"))
    {
        let name = task.to.display();
        bail!("{name} does not end with .png: sheets are PNG files");
    }
    Ok((vec![task], Vec::new()))
}

/// The name of the sheets of a file or folder, in the current folder.
fn default_name(input: &Path, scale: Scale) -> PathBuf {
    let whole = input.canonicalize();
    let name = file_name(whole.as_deref().unwrap_or(input));
    let scale = scale.to_string().replace('/', "-");
    PathBuf::from(format!("{name}-compare-x{scale}"))
}

/// Bicubic interpolation, the usual models and those of the command line.
fn open(args: &CompareArgs) -> Result<Vec<Candidate>> {
    let mut models = vec![Model::builtin(BICUBIC)?];
    for name in USUAL {
        let model = Model::builtin(name)?;
        let fits = match model.scales() {
            Scales::Any => true,
            Scales::List(scales) => scales.contains(&args.scale),
        };
        if fits {
            models.push(model);
        }
    }
    for name in &args.model {
        models.push(Model::builtin(name)?);
    }
    models.extend(candidates::open_files(&args.weights, &args.file.hints())?);
    Ok(candidates::named(models))
}

/// A run over all images.
struct Comparison<'a> {
    args: &'a CompareArgs,
    method: Method,
    candidates: Vec<Candidate>,
    console: Console,
}

impl Comparison<'_> {
    /// Writes one sheet; returns the line to print.
    fn write(&self, task: &Task) -> Result<String> {
        let name = file_name(&task.from);
        let (sheet, numbers) = self.sheet(&name, &open_opaque(&task.from)?)?;
        if let Some(folder) = task.to.parent() {
            create_folder(folder)?;
        }
        let sheet = sheet.draw()?;
        write_file(&task.to, &encode(&task.to, &sheet, &Metadata::default())?)?;
        let (from, to) = (task.from.display(), task.to.display());
        Ok(format!("{from} -> {to}  {}", numbers.join(", ")))
    }

    /// The sheet of an image, and the PSNR of each model for printing.
    fn sheet(&self, name: &str, image: &Image) -> Result<(Sheet, Vec<String>)> {
        let (scale, method) = (self.args.scale, &self.method);
        method.check_size(image, scale)?;
        let original = crop(image, scale);
        let size = (original.width, original.height);
        let mut area = self.args.crop;
        check_area(area, size)?;
        let (mut panels, mut numbers) = (Vec::new(), Vec::new());
        for Candidate { label, model } in &self.candidates {
            self.console.step(format!("{label} x{scale} {name}"));
            let compared = method.compare(&original, model, scale)?;
            let (psnr, ssim) = (compared.quality.psnr, compared.quality.ssim);
            numbers.push(format!("{label} {psnr:.2} dB"));
            // As they were compared, before colour is added.
            let pair = (compared.reference.clone(), compared.result.clone());
            let shown = method.show(&original, compared);
            let area = *area.get_or_insert_with(|| {
                busiest(&shown.original, &shown.bicubic, zoomed_part(size.0))
            });
            if panels.is_empty() {
                panels.extend(self.references(&shown, area));
            }
            let (part_psnr, part_ssim) = method.part(&area.of(&pair.0), &area.of(&pair.1));
            panels.push(Panel {
                name: label.clone(),
                image: shown.result,
                captions: [caption(psnr, Some(ssim)), caption(part_psnr, part_ssim)],
            });
        }
        let sheet = Sheet {
            title: format!("{name}  x{scale}  {}", method.describe()),
            panels,
            area: area.unwrap_or_else(|| whole(size)),
        };
        Ok((sheet, numbers))
    }

    /// The panels of the original and the low-resolution image.
    fn references(&self, shown: &DisplayImages, area: Area) -> [Panel; 2] {
        let size = (shown.original.width, shown.original.height);
        let pixels = |(width, height): (usize, usize)| format!("{width}x{height} pixels");
        let part = format!(
            "{} at {},{}",
            pixels((area.width, area.height)),
            area.x,
            area.y
        );
        let low = (shown.low.width, shown.low.height);
        [
            Panel {
                name: "original".to_owned(),
                image: shown.original.clone(),
                captions: [pixels(size), part],
            },
            Panel {
                name: "low resolution".to_owned(),
                image: nearest(&shown.low, size),
                captions: [pixels(low), "nearest neighbour".to_owned()],
            },
        ]
    }
}

/// Ensures that the area to zoom is inside the image.
fn check_area(area: Option<Area>, (width, height): (usize, usize)) -> Result<()> {
    let Some(Area {
        x,
        y,
        width: w,
        height: h,
    }) = area
    else {
        return Ok(());
    };
    let inside = |start: usize, length: usize, all: usize| {
        start.checked_add(length).is_some_and(|end| end <= all)
    };
    if !inside(x, w, width) || !inside(y, h, height) {
        bail!(
            "--crop {x},{y},{w},{h} exceeds the image, which is compared at {width}x{height} pixels"
        );
    }
    Ok(())
}

fn whole((width, height): (usize, usize)) -> Area {
    Area {
        x: 0,
        y: 0,
        width,
        height,
    }
}

/// The caption of a panel.
fn caption(psnr: f64, ssim: Option<f64>) -> String {
    let psnr = match psnr.is_finite() {
        true => format!("PSNR {psnr:.2} dB"),
        false => "identical".to_owned(),
    };
    match ssim {
        Some(ssim) => format!("{psnr}, SSIM {ssim:.4}"),
        None => psnr,
    }
}
