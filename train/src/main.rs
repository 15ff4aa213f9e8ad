//! The command `train`.

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
use srfilter::engine::DeviceChoice;
use srfilter_train::recipe::{Degradation, Loss, Overrides, ScheduleKind};
use srfilter_train::run::{self, Options, Outcome};
use std::ffi::{c_int, c_long};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's option `mi_option_purge_delay`, the milliseconds after which memory that is not in
/// use goes back to the system, and its value for never.
const PURGE_DELAY: c_int = 15;
const NEVER: c_long = -1;

// Of mimalloc, which is linked as the allocator.
unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// Exit code of an interrupted run, as shells expect it.
const INTERRUPTED: u8 = 130;

/// Train a super-resolution network.
///
/// Without --data and without data folders in the recipe, trains for one minute
/// on synthetic images. Settings come from the model's defaults, the recipe and
/// the flags, each overriding the one before. The run's folder receives the
/// weights (best.safetensors, last.safetensors), curves.png, log.jsonl,
/// recipe.toml and checkpoint/, the state to resume from.
#[derive(Parser)]
#[command(name = "train", version)]
struct Args {
    /// Model to train [default: the recipe's, else hypersrcnn]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Folders of training images (png, jpg, jpeg, jfif, bmp, webp, tif, tiff, gif),
    /// including subfolders
    #[arg(long, value_name = "DIR", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Recipe file; flags override it
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Folder of the run [default: runs/MODEL]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume the run in the folder; relative paths count from where it began
    #[arg(long)]
    resume: bool,
    /// Replace the run in the folder
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Weights file to start from
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Length in steps
    #[arg(long, conflicts_with_all = ["epochs", "minutes"])]
    steps: Option<u32>,
    /// Length in epochs; an epoch covers the area of all images once
    #[arg(long, conflicts_with = "minutes")]
    epochs: Option<u32>,
    /// Length in minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Patches per step and scale
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Peak learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Learning-rate schedule
    #[arg(long, value_enum)]
    schedule: Option<ScheduleKind>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Maximum norm of the gradient
    #[arg(long)]
    clip_norm: Option<f64>,
    /// Loss function
    #[arg(long, value_enum)]
    loss: Option<Loss>,
    /// Side of a patch in pixels of the network's input: of the upscaled image for
    /// pre-upsampling networks (srcnn), else of the low-resolution one (espcn)
    #[arg(long, value_name = "PIXELS")]
    patch: Option<u32>,
    /// Scales to train, such as 2,3/2,2.5
    #[arg(long, value_delimiter = ',')]
    scales: Option<Vec<String>>,
    /// Train one network per scale of --scales, one after the other, in OUT/x2
    /// and so on
    #[arg(long, requires = "scales")]
    each_scale: bool,
    /// Run a few steps, and report the number of steps, the time and the memory that
    /// the run needs
    #[arg(long)]
    dry_run: bool,
    /// Degradation, which makes the low-resolution images
    #[arg(long, value_enum)]
    degradation: Option<Degradation>,
    /// Images for validation: a fraction below 1, or a number
    #[arg(long, value_name = "N")]
    validation: Option<f64>,
    /// Steps between validations
    #[arg(long, value_name = "STEPS")]
    validate_every: Option<u32>,
    /// Steps between checkpoints
    #[arg(long, value_name = "STEPS")]
    checkpoint_every: Option<u32>,
    /// Random seed of initial weights and patches
    #[arg(long)]
    seed: Option<u32>,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Device: auto, cpu, cuda or cuda:N (cuda needs a build with the feature `cuda`)
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Write the man page, and the completions of shells, to a folder
    #[arg(long, value_name = "DIR", hide = true, exclusive = true)]
    manual: Option<PathBuf>,
}

/// Writes the man page, and the completions of all shells.
fn write_manual(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Args::command(), folder)?;
    for &shell in Shell::value_variants() {
        clap_complete::generate_to(shell, &mut Args::command(), "train", folder)?;
    }
    Ok(())
}

/// The name of a choice in recipes.
fn word(choice: Option<impl ValueEnum>) -> Option<String> {
    let value = choice?.to_possible_value()?;
    Some(value.get_name().to_owned())
}

impl Args {
    fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let dir = |dir: &PathBuf| toml::Table::from_iter([("path".to_owned(), path(dir).into())]);
        let dirs: Vec<_> = self.data.iter().map(dir).collect();
        overrides
            .set("model", "name", self.model.clone())
            .set("model", "init", self.init.as_ref().map(path))
            .set("data", "dirs", (!dirs.is_empty()).then_some(dirs))
            .set("data", "patch", self.patch)
            .set("data", "degradation", word(self.degradation))
            .set("data", "validation", self.validation)
            .set("train", "scales", self.scales.clone())
            .set("train", "steps", self.steps)
            .set("train", "epochs", self.epochs)
            .set("train", "minutes", self.minutes)
            .set("train", "batch_size", self.batch_size)
            .set("train", "lr", self.lr)
            .set("train", "schedule", word(self.schedule))
            .set("train", "weight_decay", self.weight_decay)
            .set("train", "clip_norm", self.clip_norm)
            .set("train", "loss", word(self.loss))
            .set("train", "validate_every", self.validate_every)
            .set("train", "checkpoint_every", self.checkpoint_every)
            .set("train", "seed", self.seed);
        overrides
    }
}

fn train(args: Args) -> Result<Outcome> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().context("cannot start the threads")?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let signal = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if signal.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping after this step; press Ctrl-C again to stop at once");
    })
    .context("cannot handle Ctrl-C")?;
    let options = Options {
        overrides: args.overrides(),
        recipe: args.recipe,
        out: args.out,
        resume: args.resume,
        force: args.force,
        dry_run: args.dry_run,
        device: args.device,
    };
    match args.scales.filter(|_| args.each_scale) {
        Some(scales) => run::run_each(&options, &scales, &stop),
        None => run::run(&options, &stop),
    }
}

/// An error and its causes in one line. Some errors state their cause themselves.
fn message(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
        text
    })
}

fn main() -> ExitCode {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // candle's own threads spin while they wait: with one of them a step
        // needs less than half of the processor time, and is no slower.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // A step needs as much memory as the one before. Without this, mimalloc returns it during
        // long steps, and the system has to clear its pages again.
        // SAFETY: the option is an integer, and no other thread runs yet.
        unsafe { mi_option_set(PURGE_DELAY, NEVER) };
    }
    let args = Args::parse();
    if let Some(folder) = &args.manual {
        return match write_manual(folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("train: cannot write to {}: {error}", folder.display());
                ExitCode::FAILURE
            }
        };
    }
    match train(args) {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped) => INTERRUPTED.into(),
        Err(error) => {
            eprintln!("train: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_a_page_and_completions() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("manual");
        write_manual(&folder).unwrap();
        let page = std::fs::read_to_string(folder.join("train.1")).unwrap();
        assert!(
            page.contains("\\-\\-each\\-scale") && !page.contains("\\-\\-manual"),
            "{page}"
        );
        assert!(folder.join("train.bash").exists() && folder.join("_train").exists());
    }

    /// The options of mimalloc are numbered: this one has a default that no other has.
    #[test]
    fn the_purge_delay_is_that_of_mimalloc() {
        unsafe extern "C" {
            fn mi_option_get(option: c_int) -> c_long;
        }
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            // SAFETY: it reads an integer.
            assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, 1000);
        }
    }

    #[test]
    fn a_cause_is_stated_once() {
        let error = srfilter::weights::Checkpoint::open("/no/such/file").unwrap_err();
        let error = anyhow::Error::new(error).context("cannot start");
        let text = message(&error);
        assert!(
            text.starts_with("cannot start: cannot read /no/such/file: "),
            "{text}"
        );
        assert_eq!(text.matches("os error").count(), 1, "{text}");
    }
}
