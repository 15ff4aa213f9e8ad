//! `sr manual`: man pages and completions, for packages.

use crate::args::{Args, ManualArgs};
use anyhow::{Context, Result};
use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

/// Writes the man pages of all commands and the completions of all shells.
pub(crate) fn run(args: &ManualArgs) -> Result<()> {
    let folder = &args.folder;
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Args::command(), folder)?;
        for &shell in Shell::value_variants() {
            clap_complete::generate_to(shell, &mut Args::command(), "sr", folder)?;
        }
        Ok(())
    };
    written().with_context(|| format!("cannot write to {}", folder.display()))
}
