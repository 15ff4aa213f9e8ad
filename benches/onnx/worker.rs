//! The Rust side of `run.sh`: runs graphs in ONNX by srfilter.
//!
//! `worker` reads commands from standard input, one a line, and answers each with one line.
//!
//! | command | answer |
//! |---|---|
//! | `load NAME FILE WIDTH HEIGHT` | how it runs |
//! | `run NAME` | milliseconds of one frame |
//! | `save NAME FILE` | writes the last output, raw little-endian `f32` |

use anyhow::{Context, Result, bail};
use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::PixelFormat;
use srfilter::models::Scales;
use srfilter::weights::Model;
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

/// As in `sr`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A graph that is loaded.
struct Job {
    upscaler: Upscaler,
    input: Vec<Vec<f32>>,
    output: Vec<Vec<f32>>,
}

impl Job {
    fn load(file: &str, width: usize, height: usize) -> Result<(Self, String)> {
        let model = Model::open(file)?;
        let Scales::List(scales) = model.scales() else {
            bail!("any scale");
        };
        let scale: Scale = *scales.first().context("no scale")?;
        let network = model.for_scale(scale)?;
        let how = match (model.packed(scale)?.is_some(), network.whole_frame()) {
            (true, _) => "fused",
            (false, false) => "tiles",
            (false, true) => "whole",
        };
        let input = FrameSpec::new(PixelFormat::Gray8, width, height);
        let spec = UpscaleSpec::scaled(input, scale);
        let planes = model.channels().count();
        // As the Python side draws it.
        let value = |i: usize| ((i * 7919 + 31) % 1009) as f32 / 1009.0 * 255.0;
        let values: Vec<f32> = (0..planes * width * height).map(value).collect();
        let job = Self {
            upscaler: Upscaler::new(model, spec, &UpscaleOptions::default())?,
            input: values.chunks(width * height).map(<[f32]>::to_vec).collect(),
            output: Vec::new(),
        };
        Ok((job, how.to_owned()))
    }
}

fn answer(jobs: &mut HashMap<String, Job>, line: &str) -> Result<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let job = |jobs: &mut HashMap<String, Job>, name: &str| -> Result<Job> {
        jobs.remove(name)
            .with_context(|| format!("{name} is not loaded"))
    };
    match words.as_slice() {
        ["load", name, file, width, height] => {
            let (job, how) = Job::load(file, width.parse()?, height.parse()?)?;
            jobs.insert((*name).to_owned(), job);
            Ok(how)
        }
        ["run", name] => {
            let mut job = job(jobs, name)?;
            let start = Instant::now();
            job.output = job.upscaler.process_planes(&job.input)?;
            let took = start.elapsed().as_secs_f64() * 1e3;
            jobs.insert((*name).to_owned(), job);
            Ok(took.to_string())
        }
        ["save", name, file] => {
            let job = job(jobs, name)?;
            let bytes = job.output.iter().flatten().flat_map(|v| v.to_le_bytes());
            std::fs::write(file, bytes.collect::<Vec<_>>())?;
            jobs.insert((*name).to_owned(), job);
            Ok(String::new())
        }
        _ => bail!("there is no command `{line}`"),
    }
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() != Some("serve") {
        // Started by `cargo bench`.
        println!("benches/onnx/run.sh runs this.");
        return Ok(());
    }
    let mut jobs = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        match answer(&mut jobs, &line?) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("error {}", format!("{error:#}").replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
