//! A rehearsal: a few steps, to say what a run will take.

use crate::optim::input_preconditioner::OBSERVE_EVERY;
use crate::recipe::Recipe;
use crate::run::validation::Validator;
use crate::trainer::Trainer;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Steps before the clock starts: buffers are made, and batches lie ready.
const FIRST: u64 = 2;

/// Steps that are timed at least, and how long at least.
const STEPS: u32 = 3;
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// Takes some steps and a validation, and says on the error output how many
/// steps, how much memory and how much time the run will take.
///
/// # Errors
///
/// A step that fails.
pub fn report(recipe: &Recipe, trainer: &mut Trainer, validator: &Validator) -> Result<()> {
    let begun = trainer.steps();
    let mut step = timed(trainer)?;
    if recipe.train.whiten.is_some() {
        // The first steps look at the layers' inputs; few of the others do.
        trainer.stop_observing();
        step = usual(step, timed(trainer)?);
    }
    let start = Instant::now();
    validator.measure(trainer.network(), trainer.device())?;
    let validation = start.elapsed();
    let weights: usize = trainer.tensors().iter().map(|(_, t)| t.elem_count()).sum();
    let train = &recipe.train;
    eprintln!("model: {} ({weights} weights)", recipe.model.name);
    eprintln!(
        "step: {:.1} ms for {} patches a scale; validation: {:.1} s every {} steps",
        1000.0 * step.as_secs_f64(),
        train.batch_size,
        validation.as_secs_f64(),
        train.validate_every
    );
    let per_step = step.as_secs_f64() + validation.as_secs_f64() / train.validate_every as f64;
    match (trainer.length(), train.minutes) {
        (Some(length), minutes) => {
            let left = length.saturating_sub(begun);
            eprintln!(
                "steps: {left} of {length}, {:.2} epochs",
                length as f64 / trainer.steps_per_epoch() as f64
            );
            let most = minutes.map_or(f64::INFINITY, |m| 60.0 * m);
            eprintln!("time: {}", spelled((left as f64 * per_step).min(most)));
        }
        (None, minutes) => {
            let seconds = 60.0 * minutes.unwrap_or_default();
            eprintln!("steps: about {:.0}", seconds / per_step);
            eprintln!("time: {}", spelled(seconds));
        }
    }
    if let Some(peak) = peak_memory() {
        eprintln!("memory: {:.0} MiB at most so far", peak / 1024.0);
    }
    Ok(())
}

/// The time that a step takes, of some steps.
fn timed(trainer: &mut Trainer) -> Result<Duration> {
    for _ in 0..FIRST {
        trainer.step()?;
    }
    let (start, mut taken) = (Instant::now(), 0);
    while taken < STEPS || start.elapsed() < LONG_ENOUGH {
        trainer.step()?;
        taken += 1;
    }
    Ok(start.elapsed() / taken)
}

/// What a step takes on average, if some look at the layers' inputs.
fn usual(observing: Duration, plain: Duration) -> Duration {
    plain + observing.saturating_sub(plain) / OBSERVE_EVERY as u32
}

/// A time in words.
fn spelled(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// The most memory that the process had so far in KiB, where Linux says so.
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
        let spelt = [4.4, 61.0, 3599.0, 9000.0].map(spelled);
        assert_eq!(spelt, ["4 s", "1 min", "1 h 00 min", "2 h 30 min"]);
    }

    #[test]
    fn one_step_in_fifty_looks() {
        let [observing, plain] = [1050, 50].map(Duration::from_millis);
        assert_eq!(usual(observing, plain), Duration::from_millis(70));
        assert_eq!(usual(plain, observing), observing);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory() {
        assert!(peak_memory().unwrap() > 1000.0);
    }
}
