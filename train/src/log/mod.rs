//! The log of a run: one JSON object a line.

pub mod plot;
pub mod tensorboard;

use crate::run::validation::Quality;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use srfilter::atomic_file;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The run starts or resumes.
    Start {
        /// Steps done before.
        step: u64,
        /// The model.
        model: String,
        /// SHA-256 of the recipe.
        recipe_sha256: String,
        /// The images.
        data: String,
    },
    /// Some steps of training.
    Train {
        /// Steps done.
        step: u64,
        /// Mean loss since the previous line.
        loss: f64,
        /// The discriminator's last loss, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        discriminator_loss: Option<f64>,
        /// Learning rate.
        lr: f64,
        /// Norm of the last gradient.
        gradient_norm: f64,
        /// Speed since the previous line.
        steps_per_second: f64,
    },
    /// A validation.
    Validation {
        /// Steps done.
        step: u64,
        /// PSNR scale by scale.
        quality: Vec<Quality>,
        /// Mean gain over bicubic, in dB.
        gain: f64,
    },
    /// The run ends or is interrupted.
    End {
        /// Steps done.
        step: u64,
        /// Why.
        reason: String,
        /// Seconds of training, all sessions together.
        seconds: f64,
    },
}

impl Event {
    /// Steps done.
    pub fn step(&self) -> u64 {
        match self {
            Self::Start { step, .. }
            | Self::Train { step, .. }
            | Self::Validation { step, .. }
            | Self::End { step, .. } => *step,
        }
    }
}

/// The log file and its events.
#[derive(Debug)]
pub struct Log {
    file: File,
    events: Vec<Event>,
}

impl Log {
    /// Opens the log of a run at `step`. Later lines, which a killed run left
    /// behind, are dropped, as are damaged lines.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let events: Vec<Event> = events.filter(|e: &Event| e.step() <= step).collect();
        let mut lines = String::new();
        for event in &events {
            lines += &serde_json::to_string(event)?;
            lines.push('\n');
        }
        atomic_file::write(path, lines.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let file = File::options().append(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file, events })
    }

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn push(&mut self, event: Event) -> Result<()> {
        let mut line = serde_json::to_string(&event)?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .context("cannot write the log")?;
        self.events.push(event);
        Ok(())
    }

    /// All lines.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(step: u64) -> Event {
        Event::Train {
            step,
            loss: 0.5,
            discriminator_loss: Some(1.25),
            lr: 1e-3,
            gradient_norm: 1.0,
            steps_per_second: 2.0,
        }
    }

    #[test]
    fn goes_on_where_the_state_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = Log::open(&path, 0).unwrap();
        (1..=4).for_each(|i| log.push(train(10 * i)).unwrap());
        // A line that was cut short.
        std::fs::File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"ev")
            .unwrap();
        let mut log = Log::open(&path, 20).unwrap();
        assert_eq!(log.events(), [train(10), train(20)]);
        log.push(train(30)).unwrap();
        assert_eq!(Log::open(&path, 99).unwrap().events().len(), 3);
    }
}
