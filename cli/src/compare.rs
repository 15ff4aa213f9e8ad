//! `sr compare`: what models make of a shrunk picture, side by side.

use crate::args::CompareArgs;
use crate::candidates::{self, Candidate};
use crate::console::Console;
use crate::detail::{Area, busiest};
use crate::measure::{check_size, crop};
use crate::paths::{file_name, make_folder};
use crate::protocol::Method;
use crate::sheet::{Panel, Sheet, zoomed_part};
use crate::show::{Shown, nearest};
use crate::tasks::{Task, file_task, folder_tasks, refuse_existing};
use anyhow::{Result, anyhow, bail};
use srfilter::Scale;
use srfilter::frame::Image;
use srfilter::models::{BICUBIC, Scales};
use srfilter::weights::Model;
use std::path::{Path, PathBuf};

/// The models that are on every sheet whose scale they have weights for.
const USUAL: [&str; 2] = ["srcnn", "hypersrcnn"];

/// Makes the sheets that the command line asks for.
pub(crate) fn run(args: &CompareArgs) -> Result<()> {
    let method = args.method.method("compare", &args.compute);
    method.options.device.resolve()?;
    let folder = args.input.is_dir();
    let tasks = tasks(args)?;
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
    let mut failed = 0;
    for task in &tasks {
        let made = comparison
            .write(task)
            .map_err(|e| anyhow!("{}: {e}", task.from.display()));
        match made {
            Ok(line) => comparison.console.line(&line)?,
            Err(error) if folder => {
                comparison.console.warn(&format!("skipped: {error}"));
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if failed > 0 {
        bail!("{failed} of {} pictures were skipped", tasks.len());
    }
    Ok(())
}

/// The pictures to read and the sheets to write.
fn tasks(args: &CompareArgs) -> Result<Vec<Task>> {
    let (input, given) = (&args.input, args.output.as_deref());
    if input.is_dir() {
        let output = given.map_or_else(|| default_name(input, args.scale), Path::to_owned);
        return folder_tasks(input, &output);
    }
    let task = match given {
        Some(output) => file_task(input, output)?,
        None => {
            let name = default_name(&input.with_extension(""), args.scale);
            // The name may hold a dot, which begins no extension.
            file_task(input, Path::new(&format!("{}.png", name.display())))?
        }
    };
    if task
        .to
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case("png"))
    {
        let name = task.to.display();
        bail!("a sheet is a PNG file, but {name} does not end with .png");
    }
    Ok(vec![task])
}

/// The name of the sheets of a file or folder, in the current folder.
fn default_name(input: &Path, scale: Scale) -> PathBuf {
    let whole = input.canonicalize();
    let name = file_name(whole.as_deref().unwrap_or(input));
    let scale = scale.to_string().replace('/', "-");
    PathBuf::from(format!("{name}-compare-x{scale}"))
}

/// Bicubic interpolation, the usual models, and those that were named.
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

/// A run over all pictures.
struct Comparison<'a> {
    args: &'a CompareArgs,
    method: Method,
    candidates: Vec<Candidate>,
    console: Console,
}

impl Comparison<'_> {
    /// Makes one sheet; returns the line to print.
    fn write(&self, task: &Task) -> Result<String> {
        let name = file_name(&task.from);
        let (sheet, numbers) = self.sheet(&name, &Image::open(&task.from)?)?;
        if let Some(folder) = task.to.parent() {
            make_folder(folder)?;
        }
        sheet.draw()?.save(&task.to)?;
        let (from, to) = (task.from.display(), task.to.display());
        Ok(format!("{from} -> {to}  {}", numbers.join(", ")))
    }

    /// The sheet of a picture, and the PSNR of each model in words.
    fn sheet(&self, name: &str, picture: &Image) -> Result<(Sheet, Vec<String>)> {
        let (scale, method) = (self.args.scale, &self.method);
        check_size(picture, scale, method.protocol)?;
        let original = crop(picture, scale);
        let size = (original.width, original.height);
        let mut area = self.args.crop;
        check_area(area, size)?;
        let (mut panels, mut numbers) = (Vec::new(), Vec::new());
        for Candidate { label, model } in &self.candidates {
            self.console.step(format!("{label} x{scale} {name}"));
            let compared = method.compare(&original, model, scale)?;
            let (psnr, ssim) = (compared.quality.psnr, compared.quality.ssim);
            numbers.push(format!("{label} {psnr:.2} dB"));
            // Part and whole as they were compared, before they get colour.
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
                picture: shown.result,
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

    /// The panels that no model made.
    fn references(&self, shown: &Shown, area: Area) -> [Panel; 2] {
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
                picture: shown.original.clone(),
                captions: [pixels(size), part],
            },
            Panel {
                name: "low resolution".to_owned(),
                picture: nearest(&shown.low, size),
                captions: [pixels(low), "pixels repeated".to_owned()],
            },
        ]
    }
}

/// Sees to it that the part to zoom lies in the picture.
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
            "--crop {x},{y},{w},{h} reaches beyond the {width}x{height} pixels that are compared"
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

/// What stands under a panel.
fn caption(psnr: f64, ssim: Option<f64>) -> String {
    let psnr = match psnr.is_finite() {
        true => format!("PSNR {psnr:.2} dB"),
        false => "no difference".to_owned(),
    };
    match ssim {
        Some(ssim) => format!("{psnr}, SSIM {ssim:.4}"),
        None => psnr,
    }
}
