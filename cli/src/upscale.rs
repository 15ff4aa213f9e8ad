//! `sr upscale`: images in, larger images out.

use crate::args::UpscaleArgs;
use crate::console::{Console, images};
use crate::damage::adapted;
use crate::images::not_read;
use crate::interrupt::write_file;
use crate::paths::{create_folder, file_name};
use crate::tasks::{Task, file_task, folder_tasks, refuse_existing};
use crate::upscale_image::{spec, upscale_animation, upscale_deep, upscale_image};
use anyhow::{Result, anyhow, bail};
use srfilter::Scale;
use srfilter::engine::{UpscaleOptions, Upscaler};
use srfilter::folder_lock::FolderLock;
use srfilter::frame::FrameRef;
use srfilter::image_files::{ImageFile, NotTaken, check_output, encode, encode_deep, holds_deep};
use srfilter::models::DamageSource;
use srfilter::weights::Model;
use std::sync::Arc;
use std::time::Instant;

/// Upscales the images of the command line.
pub(crate) fn run(args: &UpscaleArgs) -> Result<()> {
    let folder = args.input.is_dir();
    let (mut tasks, not_taken) = match folder {
        true => folder_tasks(&args.input, &args.output)?,
        false => (vec![file_task(&args.input, &args.output)?], Vec::new()),
    };
    let found = tasks.len();
    if args.skip_existing {
        tasks.retain(|task| !task.to.exists());
    } else if !args.force {
        refuse_existing(&tasks)?;
    }
    let options = args.compute.options();
    let device = options.device.resolve()?;
    let (name, file) = (args.model.as_deref(), args.weights.as_deref());
    let model = Model::load(name, file, &args.file.hints())?;
    args.damage.check(&model, args.scale)?;
    if args.scale == Scale::ONE && !model.restores() {
        bail!(
            "{} has no network for scale 1: the scale must be above 1",
            model.name()
        );
    }
    let console = Console::new(tasks.len());
    console.line(&plan(&model, args.scale, device.name()))?;
    let _lock = match folder {
        true => {
            create_folder(&args.output)?;
            Some(FolderLock::new(&args.output)?)
        }
        false => None,
    };
    if args.skip_existing && tasks.len() < found {
        let existing = found - tasks.len();
        console.line(&format!("{existing} of {found} results already exist"))?;
    }
    let mut batch = Batch {
        scale: args.scale,
        model,
        damage: args.damage.source(),
        options,
        console,
        skipped: 0,
    };
    batch.report(&not_taken);
    let start = Instant::now();
    for task in &tasks {
        batch.console.step(file_name(&task.from));
        match batch.upscale_file(task) {
            Ok(line) => batch.console.line(&line)?,
            Err(error) if folder => {
                batch.console.warn(&format!("skipped: {error}"));
                batch.skipped += 1;
            }
            Err(error) => return Err(error),
        }
    }
    let unread = not_taken.iter().filter(|file| file.is_image).count();
    let total = tasks.len() + unread;
    if folder {
        let (done, seconds) = (total - batch.skipped, start.elapsed().as_secs_f64());
        batch
            .console
            .line(&format!("{} in {seconds:.2} s", images(done)))?;
    }
    if batch.skipped > 0 {
        bail!("{} of {total} images were skipped", batch.skipped);
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

/// Images that are upscaled in the same way.
struct Batch {
    scale: Scale,
    model: Arc<Model>,
    damage: DamageSource,
    options: UpscaleOptions,
    console: Console,
    /// The number of images without a result.
    skipped: usize,
}

impl Batch {
    /// Names the files of a folder that are not read.
    fn report(&mut self, not_taken: &[NotTaken]) {
        for file in not_taken {
            self.console.warn(&not_read(file));
            self.skipped += usize::from(file.is_image);
        }
    }

    /// Reads, upscales and writes one image; returns the line to print.
    fn upscale_file(&self, task: &Task) -> Result<String> {
        let named = |e: anyhow::Error| anyhow!("{}: {e}", task.from.display());
        let file = ImageFile::open(&task.from)?;
        // The header decides, before any pixel is decoded.
        let (width, height) = self.check(task, &file)?;
        let start = Instant::now();
        let (scale, options) = (self.scale, &self.options);
        let model = |picture: &FrameRef<'_>| adapted(&self.model, self.damage, picture);
        let (to, metadata) = (task.to.as_path(), file.metadata());
        let frames = file.frame_count();
        let bytes = if frames > 1 {
            let first = || file.frames()?.1.next().transpose();
            let model = match self.damage {
                DamageSource::Auto => match first()? {
                    Some(frame) => model(&frame.image.frame()?)?,
                    None => Arc::clone(&self.model),
                },
                DamageSource::Fixed(damage) => self.model.for_damage(damage)?,
            };
            upscale_animation(&file, to, &model, scale, options).map_err(named)?
        } else if file.is_deep() && holds_deep(to) {
            let image = file.decode_deep()?;
            let result = upscale_deep(&image, &model(&image.frame()?)?, scale, options);
            encode_deep(to, &result.map_err(named)?, metadata)?
        } else {
            let image = file.decode()?;
            let result = upscale_image(&image, &model(&image.frame()?)?, scale, options);
            encode(to, &result.map_err(named)?, metadata)?
        };
        let seconds = start.elapsed().as_secs_f64();
        if let Some(folder) = task.to.parent() {
            create_folder(folder)?;
        }
        write_file(&task.to, &bytes)?;
        let (from, to) = (task.from.display(), task.to.display());
        let (old_width, old_height) = file.size();
        let frames = match frames {
            1 => String::new(),
            frames => format!(", {frames} frames"),
        };
        Ok(format!(
            "{from} {old_width}x{old_height} -> {to} {width}x{height}{frames}  {seconds:.2} s"
        ))
    }

    /// Checks by a file's header that its image can be upscaled and written, and
    /// says what will be lost; returns the result's size.
    fn check(&self, task: &Task, file: &ImageFile) -> Result<(usize, usize)> {
        let (channels, frames) = (file.channels(), file.frame_count());
        let deep = file.is_deep() && frames == 1;
        let kept = deep && holds_deep(&task.to);
        let job = spec(file.size(), (channels, kept), self.scale);
        let lost = check_output(&task.to, job.output, channels, frames, file.metadata())?;
        Upscaler::check(&self.model, &job, &self.options)
            .map_err(|e| anyhow!("{}: {e}", task.from.display()))?;
        let from = task.from.display();
        if file.has_further_pages() {
            let line = format!("{from}: only its first page is read");
            self.console.warn(&line);
        }
        if deep && !kept {
            let line = format!("{from}: rounded to 8 bit; .png and .tif keep 16");
            self.console.warn(&line);
        }
        if !lost.is_empty() {
            let (name, lost) = (task.to.display(), lost.join(", "));
            self.console
                .warn(&format!("{name}: this file cannot hold the input's {lost}"));
        }
        Ok(job.output)
    }
}
