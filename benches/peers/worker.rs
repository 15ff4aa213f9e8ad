//! The Rust side of `run.sh`: generates weights and images, and runs srfilter's
//! engine and candle's on them.
//!
//! `worker FOLDER` reads commands from standard input, one a line, and answers
//! each with one line: `ok` and the answer, or `error` and the reason.
//!
//! | command | answer |
//! |---|---|
//! | `works` | the table of workloads, in JSON |
//! | `make WORK` | writes `WORK.safetensors`, `WORK.input` and `WORK.target` to the folder |
//! | `load WORK ENGINE` | prepares it, runs it once, writes `WORK.ENGINE` |
//! | `run WORK ENGINE` | milliseconds of one call |
//! | `drop` | unloads everything |
//! | `peak THREADS` | the peak GMAC/s of that number of threads |
//!
//! Images are files of raw little-endian `f32`.

mod engines;
mod peak;
mod workloads;

use anyhow::{Context, Result, bail};
use engines::Job;
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use workloads::{Kind, Weights, Work};

/// That of `train`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The loaded workloads.
struct Worker {
    folder: PathBuf,
    jobs: HashMap<(String, String), Job>,
    output: Vec<f32>,
}

impl Worker {
    fn answer(&mut self, line: &str) -> Result<String> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["works"] => return Ok(serde_json::to_string(&Work::all())?),
            ["make", work] => self.make(&Work::find(work)?)?,
            ["load", work, engine] => self.load(work, engine)?,
            ["run", work, engine] => {
                let job = self
                    .jobs
                    .get_mut(&((*work).to_owned(), (*engine).to_owned()));
                let job = job.with_context(|| format!("{work} {engine} is not loaded"))?;
                let took = job(&mut self.output)?;
                return Ok((took.as_secs_f64() * 1e3).to_string());
            }
            ["drop"] => self.jobs.clear(),
            ["peak", threads] => return Ok(peak::peak(threads.parse()?)?.to_string()),
            _ => bail!("there is no command `{line}`"),
        }
        Ok(String::new())
    }

    fn make(&self, work: &Work) -> Result<()> {
        write(&self.file(work.name, "input"), &work.image())?;
        if work.kind == Kind::Training {
            write(&self.file(work.name, "target"), &work.target())?;
        }
        let weights = match work.kind {
            Kind::Frames(_) => Weights::new(),
            Kind::Network | Kind::Training => engines::weights(work)?,
        };
        candle_core::safetensors::save(&weights, self.file(work.name, "safetensors"))?;
        Ok(())
    }

    fn load(&mut self, name: &str, engine: &str) -> Result<()> {
        let file = self.file(name, "safetensors");
        let weights = candle_core::safetensors::load(file, &candle_core::Device::Cpu)?;
        let mut job = engines::job(&Work::find(name)?, engine, &weights)?;
        job(&mut self.output)?;
        write(&self.file(name, engine), &self.output)?;
        self.jobs.insert((name.to_owned(), engine.to_owned()), job);
        Ok(())
    }

    fn file(&self, work: &str, what: &str) -> PathBuf {
        self.folder.join(format!("{work}.{what}"))
    }
}

fn write(path: &Path, values: &[f32]) -> Result<()> {
    let bytes: Vec<_> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn main() -> Result<()> {
    let folder = std::env::args()
        .nth(1)
        .filter(|word| !word.starts_with('-'));
    let Some(folder) = folder else {
        // Started by `cargo bench`.
        println!("benches/peers/run.sh runs this.");
        return Ok(());
    };
    let mut worker = Worker {
        folder: folder.into(),
        jobs: HashMap::new(),
        output: Vec::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match worker.answer(&line) {
            Ok(answer) => println!("ok {answer}"),
            // In one line.
            Err(error) => println!("error {}", format!("{error:#}").replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
