//! `sr`: upscales images with srfilter's models, and evaluates the models.

mod args;
mod candidates;
mod compare;
mod console;
mod damage;
mod detail;
mod evaluate;
mod export;
mod html;
mod images;
mod import;
mod interrupt;
mod manual;
mod measure;
mod models;
mod paths;
mod protocol;
mod quality;
mod quantize;
mod report;
mod sheet;
mod show;
mod tasks;
mod text;
mod upscale;
mod upscale_image;
#[cfg(feature = "video")]
mod video;

use args::{Args, Command};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

/// Planes and tensors are allocated by the megabyte: mimalloc reuses their pages,
/// which the system's allocator returns to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = Args::parse().command;
    let result = interrupt::install().and_then(|()| match command {
        Command::Upscale(args) => upscale::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Models(args) => models::run(&args),
        #[cfg(feature = "video")]
        Command::Measure(args) => video::measure::run(&args),
        #[cfg(feature = "video")]
        Command::Video(args) => video::convert::run(&args),
        Command::Manual(args) => manual::run(&args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be reported if standard error is closed.
            let _ = writeln!(io::stderr(), "sr: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output, such as `head`, has closed it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
