//! A dry run: a few steps, to estimate the time and memory of a run.

use crate::optim::input_preconditioner::OBSERVE_EVERY;
use crate::recipe::Recipe;
use crate::run::validation::Validator;
use crate::trainer::Trainer;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Steps before timing, which allocate buffers and fill the batch queue.
const FIRST: u64 = 2;

/// Minimum number of timed steps, and minimum time.
const STEPS: u32 = 3;
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// Runs some steps and a validation, and reports on standard error how many
/// steps, how much time and how much memory the run needs.
///
/// # Errors
///
/// A step that fails.
pub fn report(recipe: &Recipe, trainer: &mut Trainer, validator: &Validator) -> Result<()> {
    let start_step = trainer.steps();
    let mut step = timed(trainer)?;
    if recipe.train.whiten.is_some() {
        // The first steps update the preconditioner; few of the others do.
        trainer.stop_observing();
        step = mean_step(step, timed(trainer)?);
    }
    let start = Instant::now();
    validator.measure(trainer.network(), trainer.device())?;
    let validation = start.elapsed();
    let weights: usize = trainer.tensors().iter().map(|(_, t)| t.elem_count()).sum();
    let train = &recipe.train;
    eprintln!("model: {} ({weights} weights)", recipe.model.name);
    eprintln!(
        "step: {:.1} ms for {} patches per scale; validation: {:.1} s every {} steps",
        1000.0 * step.as_secs_f64(),
        train.batch_size,
        validation.as_secs_f64(),
        train.validate_every
    );
    let per_step = step.as_secs_f64() + validation.as_secs_f64() / train.validate_every as f64;
    match (trainer.length(), train.minutes) {
        (Some(length), minutes) => {
            let left = length.saturating_sub(start_step);
            eprintln!(
                "steps: {left} of {length}, {:.2} epochs",
                length as f64 / trainer.steps_per_epoch() as f64
            );
            let most = minutes.map_or(f64::INFINITY, |m| 60.0 * m);
            eprintln!(
                "time: {}",
                format_duration((left as f64 * per_step).min(most))
            );
        }
        (None, minutes) => {
            let seconds = 60.0 * minutes.unwrap_or_default();
            eprintln!("steps: about {:.0}", seconds / per_step);
            eprintln!("time: {}", format_duration(seconds));
        }
    }
    if let Some(peak) = peak_memory() {
        eprintln!("memory: {:.0} MiB peak so far", peak / 1024.0);
    }
    Ok(())
}

/// Mean time of a step.
fn timed(trainer: &mut Trainer) -> Result<Duration> {
    for _ in 0..FIRST {
        trainer.step()?;
    }
    let (start, mut count) = (Instant::now(), 0);
    while count < STEPS || start.elapsed() < LONG_ENOUGH {
        trainer.step()?;
        count += 1;
    }
    Ok(start.elapsed() / count)
}

/// Mean time of a step over a run, of which one in [`OBSERVE_EVERY`] updates the
/// preconditioner.
fn mean_step(observing: Duration, plain: Duration) -> Duration {
    plain + observing.saturating_sub(plain) / OBSERVE_EVERY as u32
}

/// A duration for people.
fn format_duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// Peak memory of the process so far in KiB; Linux only.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled() {
        let spelt = [4.4, 61.0, 3599.0, 9000.0].map(format_duration);
        assert_eq!(spelt, ["4 s", "1 min", "1 h 00 min", "2 h 30 min"]);
    }

    #[test]
    fn one_step_in_fifty_looks() {
        let [observing, plain] = [1050, 50].map(Duration::from_millis);
        assert_eq!(mean_step(observing, plain), Duration::from_millis(70));
        assert_eq!(mean_step(plain, observing), observing);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        assert!(peak_memory().unwrap() > 1000.0);
    }
}
