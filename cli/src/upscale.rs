//! `sr upscale`: images in, larger images out.

use crate::args::UpscaleArgs;
use crate::console::Console;
use crate::paths::{create_folder, file_name};
use crate::tasks::{Task, file_task, folder_tasks, refuse_existing};
use crate::upscale_image::upscale_image;
use anyhow::{Result, anyhow, bail};
use srfilter::Scale;
use srfilter::engine::UpscaleOptions;
use srfilter::frame::Image;
use srfilter::weights::Model;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Upscales the images of the command line.
pub(crate) fn run(args: &UpscaleArgs) -> Result<()> {
    let folder = args.input.is_dir();
    let tasks = if folder {
        folder_tasks(&args.input, &args.output)?
    } else {
        vec![file_task(&args.input, &args.output)?]
    };
    if !args.force {
        refuse_existing(&tasks)?;
    }
    let options = args.compute.options();
    let device = options.device.resolve()?;
    let (name, file) = (args.model.as_deref(), args.weights.as_deref());
    let model = Model::load(name, file, &args.file.hints())?;
    let console = Console::new(tasks.len());
    console.line(&plan(&model, args.scale, device.name()))?;
    let start = Instant::now();
    let mut failed = 0;
    for task in &tasks {
        console.step(file_name(&task.from));
        match upscale_file(task, &model, args.scale, &options) {
            Ok(line) => console.line(&line)?,
            Err(error) if folder => {
                console.warn(&format!("skipped: {error}"));
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if folder {
        let (done, seconds) = (tasks.len() - failed, start.elapsed().as_secs_f64());
        console.line(&format!("{done} images in {seconds:.2} s"))?;
    }
    if failed > 0 {
        bail!("{failed} of {} images were skipped", tasks.len());
    }
    Ok(())
}

/// A line that says what will run.
fn plan(model: &Model, scale: Scale, device: &str) -> String {
    let stages = model.cascade(scale);
    let reached = stages
        .iter()
        .try_fold(Scale::ONE, |reached, &stage| reached.checked_mul(stage));
    let networks: Vec<_> = stages.iter().map(|stage| format!("x{stage}")).collect();
    let how = match (networks.is_empty(), reached == Some(scale)) {
        (true, _) => "bicubic interpolation, no network".to_owned(),
        (false, true) => format!("network {}", networks.join(", then ")),
        (false, false) => format!(
            "network {}, resampled to x{scale}",
            networks.join(", then ")
        ),
    };
    format!(
        "{} x{scale} on {device}: {how}; weights: {}",
        model.name(),
        model.origin()
    )
}

/// Reads, upscales and writes one image; returns the line to print.
fn upscale_file(
    task: &Task,
    model: &Arc<Model>,
    scale: Scale,
    options: &UpscaleOptions,
) -> Result<String> {
    let image = Image::open(&task.from)?;
    if image.channels == 4 && is_jpeg(&task.to) {
        let name = task.to.display();
        bail!("{name}: JPEG has no transparency, which this image needs; write to .png or .webp");
    }
    let start = Instant::now();
    let result = upscale_image(&image, model, scale, options)
        .map_err(|e| anyhow!("{}: {e}", task.from.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(folder) = task.to.parent() {
        create_folder(folder)?;
    }
    result.save(&task.to)?;
    Ok(format!(
        "{} {}x{} -> {} {}x{}  {seconds:.2} s",
        task.from.display(),
        image.width,
        image.height,
        task.to.display(),
        result.width,
        result.height
    ))
}

fn is_jpeg(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"))
}
