//! `sr upscale`: pictures in, larger pictures out.

use crate::args::UpscaleArgs;
use crate::pictures;
use crate::report::{Console, file_name};
use anyhow::{Result, anyhow, bail};
use srfilter::Scale;
use srfilter::engine::{Job, Options, Shape, Upscaler};
use srfilter::frame::{Color, Picture};
use srfilter::weights::Loaded;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A picture to read and the file to write.
struct Task {
    from: PathBuf,
    to: PathBuf,
}

/// Enlarges what the command line names.
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
    let options = args.network.options();
    let device = options.device.resolve()?;
    let model = args.network.open(args.model.as_deref())?;
    let console = Console::new(tasks.len());
    console.line(&plan(&model, args.scale, device))?;
    let start = Instant::now();
    let mut failed = 0;
    for task in &tasks {
        console.step(file_name(&task.from));
        match enlarge_file(task, &model, args.scale, &options) {
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
        console.line(&format!("{done} pictures in {seconds:.2} s"))?;
    }
    if failed > 0 {
        bail!("{failed} of {} pictures were skipped", tasks.len());
    }
    Ok(())
}

/// What will run, in a line.
fn plan(model: &Loaded, scale: Scale, device: &str) -> String {
    let stages = model.stages(scale);
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

/// Reads, enlarges and writes one picture; returns the line to print.
fn enlarge_file(
    task: &Task,
    model: &Arc<Loaded>,
    scale: Scale,
    options: &Options,
) -> Result<String> {
    let picture = Picture::open(&task.from)?;
    if picture.channels == 4 && is_jpeg(&task.to) {
        let name = task.to.display();
        bail!("{name}: JPEG cannot keep this picture's transparency; write to .png or .webp");
    }
    let start = Instant::now();
    let result = enlarge(&picture, model, scale, options)
        .map_err(|e| anyhow!("{}: {e}", task.from.display()))?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(folder) = task.to.parent() {
        make_folder(folder)?;
    }
    result.save(&task.to)?;
    Ok(format!(
        "{} {}x{} -> {} {}x{}  {seconds:.2} s",
        task.from.display(),
        picture.width,
        picture.height,
        task.to.display(),
        result.width,
        result.height
    ))
}

/// The picture, `scale` times as wide and high.
pub(crate) fn enlarge(
    picture: &Picture,
    model: &Arc<Loaded>,
    scale: Scale,
    options: &Options,
) -> Result<Picture> {
    let shape = Shape {
        format: picture.format(),
        size: (picture.width, picture.height),
        color: Color::default(),
    };
    let job = Job::exact(shape, scale);
    let (width, height) = job.output;
    let mut upscaler = Upscaler::new(Arc::clone(model), job, options)?;
    let mut result = Picture::new(width, height, picture.channels);
    upscaler.process(&picture.frame()?, &mut result.frame_mut()?)?;
    Ok(result)
}

fn file_task(input: &Path, output: &Path) -> Result<Task> {
    if !input.exists() {
        bail!("cannot find {}: no such file or folder", input.display());
    }
    let into_folder = output.is_dir() || output.as_os_str().to_string_lossy().ends_with('/');
    let to = if into_folder {
        output.join(Path::new(&file_name(input)).with_extension("png"))
    } else if output.extension().is_none() {
        output.with_extension("png")
    } else {
        output.to_owned()
    };
    if !pictures::is_picture(&to) {
        let known = pictures::extensions();
        bail!(
            "cannot tell a picture format from the name {}: end it with one of {known}",
            to.display()
        );
    }
    if resolve(&to)? == resolve(input)? {
        bail!(
            "{} is both IN and OUT; choose another name to write to",
            input.display()
        );
    }
    let from = input.to_owned();
    Ok(Task { from, to })
}

fn folder_tasks(input: &Path, output: &Path) -> Result<Vec<Task>> {
    if output.is_file() {
        let (input, output) = (input.display(), output.display());
        bail!("{output} is a file, but {input} is a folder; name a folder to write to");
    }
    if resolve(output)?.starts_with(resolve(input)?) {
        let (input, output) = (input.display(), output.display());
        bail!(
            "{output} is, or lies in, the folder {input} that is read; \
             choose a folder elsewhere to write to"
        );
    }
    let mut tasks: Vec<Task> = Vec::new();
    let mut taken = HashMap::new();
    for name in pictures::find(input)? {
        let from = input.join(&name);
        let to = output.join(name.with_extension("png"));
        if let Some(other) = taken.insert(to.clone(), from.clone()) {
            let (other, from, to) = (other.display(), from.display(), to.display());
            bail!("{other} and {from} would both be written to {to}; rename one of them");
        }
        tasks.push(Task { from, to });
    }
    Ok(tasks)
}

fn refuse_existing(tasks: &[Task]) -> Result<()> {
    let existing: Vec<_> = tasks.iter().filter(|task| task.to.exists()).collect();
    let Some(first) = existing.first() else {
        return Ok(());
    };
    let others = match existing.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let name = first.to.display();
    bail!("{name}{others} exists already; --force replaces it");
}

/// The true path of a file that need not exist yet, so that two names of one
/// file are known to be the same.
fn resolve(path: &Path) -> Result<PathBuf> {
    let bad = |e| anyhow!("cannot make sense of the path {}: {e}", path.display());
    let absolute = std::path::absolute(path).map_err(bad)?;
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            // Joining an empty rest would add a slash.
            let whole = rest.as_os_str().is_empty();
            return Ok(if whole { real } else { real.join(rest) });
        }
    }
    Ok(absolute)
}

fn is_jpeg(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|e| anyhow!("cannot make the folder {}: {e}", folder.display()))
}
