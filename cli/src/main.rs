//! `sr`: enlarges pictures with srfilter's models and measures how well.

mod args;
mod candidates;
mod compare;
mod console;
mod detail;
mod enlarge;
mod evaluate;
mod html;
mod import;
mod measure;
mod models;
mod paths;
mod pictures;
mod protocol;
mod quality;
mod report;
mod sheet;
mod show;
mod tasks;
mod text;
mod upscale;

use args::{Args, Command};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

/// Planes and tensors come and go by the megabyte: mimalloc hands their pages
/// on where the system's allocator returns them to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Upscale(args) => upscale::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Models(args) => models::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where standard error is closed too.
            let _ = writeln!(io::stderr(), "sr: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output, such as `head`, has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
