//! The models that may replace the chosen one while it is too slow, ready to run.

use srfilter::engine::{DeviceChoice, UpscaleOptions, Upscaler, estimate_time};
use srfilter::models::CodingDamage;
use srfilter::weights::Model;
use std::sync::Arc;
use std::time::Duration;

/// A model is faster than another if it takes at most this part of its time.
const FASTER: f64 = 0.85;

/// Faster models than the chosen one, best first.
#[derive(Default)]
pub(super) struct Ladder {
    is_built: bool,
    upscalers: Vec<Upscaler>,
    /// 0: the chosen model; else the index in `upscalers`, from 1 on.
    active: usize,
}

impl Ladder {
    /// Makes a rung run: 0 is the chosen model.
    pub(super) fn activate(&mut self, rung: usize) {
        self.active = rung.min(self.upscalers.len());
    }

    /// The upscaler that runs instead of the chosen one.
    pub(super) fn replacement(&self) -> Option<&Upscaler> {
        self.upscalers.get(self.active.checked_sub(1)?)
    }

    /// As [`Ladder::replacement`].
    pub(super) fn replacement_mut(&mut self) -> Option<&mut Upscaler> {
        self.upscalers.get_mut(self.active.checked_sub(1)?)
    }

    /// Drops all models but the chosen one.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_built(&self) -> bool {
        self.is_built
    }

    /// Prepares the models of these names that are faster than the chosen one, in this order,
    /// and returns all models with the nanoseconds that a frame takes: estimated, and coarse
    /// beyond `most`. A model that cannot run here is left out.
    pub(super) fn build(
        &mut self,
        chosen: &Upscaler,
        names: &[String],
        options: &UpscaleOptions,
        most: Duration,
        damage: CodingDamage,
    ) -> Vec<(String, f64)> {
        let spec = chosen.spec();
        (self.is_built, self.active, self.upscalers) = (true, 0, Vec::new());
        let time =
            |model: &Arc<Model>| Some(nanoseconds(estimate_time(model, spec, options, most).ok()?));
        let Some(first) = time(chosen.model()) else {
            return Vec::new();
        };
        let mut rungs = vec![(chosen.model().name().to_owned(), first)];
        for name in names.iter().filter(|name| *name != chosen.model().name()) {
            let model = Model::builtin(name).and_then(|model| model.for_damage(damage));
            let Ok(model) = model else {
                continue;
            };
            let Some(needed) = time(&model) else { continue };
            let faster = rungs.last().is_some_and(|last| needed <= FASTER * last.1);
            if !faster {
                continue;
            }
            if let Ok(upscaler) = Upscaler::new(model, *spec, options) {
                self.upscalers.push(upscaler);
                rungs.push((name.clone(), needed));
            }
        }
        rungs
    }

    /// Whether a model that may replace the chosen one has weights for encoded video.
    pub(super) fn adapts_to_damage(&self) -> bool {
        self.upscalers.iter().any(adapts_to_damage)
    }

    /// Takes the weights for a damage, of all models that can.
    ///
    /// # Errors
    ///
    /// The first of the upscalers that cannot be built: it stays as it is.
    pub(super) fn set_damage(
        &mut self,
        damage: CodingDamage,
        options: &UpscaleOptions,
    ) -> srfilter::Result<()> {
        let results = self.upscalers.iter_mut();
        let results = results.map(|upscaler| set_damage(upscaler, damage, options));
        results.fold(Ok(()), Result::and)
    }

    /// The nanoseconds that a frame takes, estimated anew: 0 is the chosen model.
    pub(super) fn estimate(
        &self,
        rung: usize,
        chosen: &Upscaler,
        options: &UpscaleOptions,
        most: Duration,
    ) -> Option<f64> {
        let upscaler = match rung.checked_sub(1) {
            None => chosen,
            Some(index) => self.upscalers.get(index)?,
        };
        let estimate = estimate_time(upscaler.model(), upscaler.spec(), options, most);
        Some(nanoseconds(estimate.ok()?))
    }
}

/// Whether an upscaler has weights for encoded video at its scale.
pub(super) fn adapts_to_damage(upscaler: &Upscaler) -> bool {
    upscaler.model().adapts_to_damage(upscaler.spec().scale)
}

/// Replaces an upscaler by one with the weights for a damage, if it has such.
pub(super) fn set_damage(
    upscaler: &mut Upscaler,
    damage: CodingDamage,
    options: &UpscaleOptions,
) -> srfilter::Result<()> {
    if !adapts_to_damage(upscaler) {
        return Ok(());
    }
    // One that the CPU has taken over stays there.
    let options = match upscaler.device().is_cpu() {
        true => options.with_device(DeviceChoice::Cpu),
        false => *options,
    };
    let model = upscaler.model().for_damage(damage)?;
    *upscaler = Upscaler::new(model, *upscaler.spec(), &options)?;
    upscaler.warm_up();
    Ok(())
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}
