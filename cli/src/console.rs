//! The output of the commands while they run.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};
use std::time::Duration;

/// Prints a line to standard error.
pub(crate) fn warn(text: &str) {
    // A warning that cannot be printed is no error.
    let _ = writeln!(io::stderr().lock(), "sr: {text}");
}

/// A number of images, in words.
pub(crate) fn images(count: usize) -> String {
    format!("{count} image{}", if count == 1 { "" } else { "s" })
}

/// Prints rows in columns.
pub(crate) fn columns(rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Lines on standard output and, on a terminal, a progress bar below them on
/// standard error.
pub(crate) struct Console {
    bar: ProgressBar,
}

impl Console {
    /// A console for `steps` steps; a single step has no bar.
    pub(crate) fn new(steps: usize) -> Self {
        if steps < 2 {
            let bar = ProgressBar::hidden();
            return Self { bar };
        }
        let bar = ProgressBar::new(steps as u64);
        // The template is constant; the default style would serve as well.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        self.bar.suspend(|| writeln!(io::stdout().lock(), "{text}"))
    }

    /// Prints a line to standard error.
    pub(crate) fn warn(&self, text: &str) {
        self.bar.suspend(|| warn(text));
    }

    /// Starts the next step.
    pub(crate) fn step(&self, what: String) {
        if !self.bar.message().is_empty() {
            self.bar.inc(1);
        }
        self.bar.set_message(what);
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
