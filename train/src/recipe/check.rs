//! Checks of a recipe.

use super::Recipe;
use super::data::Degradation;
use super::schedule::Schedule;
use super::train::{OptimizerKind, PerStep};
use anyhow::{Result, bail, ensure};
use srfilter::Scale;
use srfilter::models::{Channels, Scales, Upsampling};

/// Maximum pixels of all patches of a step. The activations of an SRCNN (97
/// channels of f32) and their gradients then need 12 GiB.
const MAX_SAMPLES: usize = 1 << 24;

/// The largest numerator of a scale: images are cropped to multiples of it.
const MAX_NUMERATOR: u32 = 64;

/// The smallest patch: the receptive field of a small convolution.
const MIN_PATCH: usize = 8;

/// Maximum frames of a clip.
const MAX_FRAMES: usize = 100;

impl Recipe {
    /// Ensures that the settings are valid, each by itself and together.
    pub(super) fn check(&self) -> Result<()> {
        let (data, train) = (&self.data, &self.train);
        let positive = [
            ("batch_size", train.batch_size as f64),
            ("lr", train.lr),
            ("eps", train.eps),
            ("validate_every", train.validate_every as f64),
            ("checkpoint_every", train.checkpoint_every as f64),
            ("steps", train.steps.map_or(1.0, |n| n as f64)),
            ("epochs", train.epochs.map_or(1.0, |n| n as f64)),
            (
                "steps_per_epoch",
                train.steps_per_epoch.map_or(1.0, |n| n as f64),
            ),
            (
                "batches",
                self.quantize.as_ref().map_or(1.0, |q| q.batches as f64),
            ),
            ("minutes", train.minutes.unwrap_or(1.0)),
            ("clip_norm", train.clip_norm.unwrap_or(1.0)),
            ("whiten", train.whiten.unwrap_or(1.0)),
            ("clip_value", train.clip_value.unwrap_or(1.0)),
            (
                "lr_drop_every",
                match train.schedule {
                    Schedule::Step { lr_drop_every, .. } => lr_drop_every as f64,
                    _ => 1.0,
                },
            ),
            (
                "early_stop_patience",
                train.early_stop_patience.unwrap_or(1) as f64,
            ),
        ];
        let factors = train.lr_factors.values().map(|&f| ("lr_factors", f));
        let repeats = data.dirs.iter().map(|dir| ("repeat", dir.repeat));
        let weights = train.scale_weights.iter().map(|&w| ("scale_weights", w));
        let all = positive
            .into_iter()
            .chain(factors)
            .chain(repeats)
            .chain(weights);
        for (name, value) in all {
            ensure!(
                value > 0.0 && value.is_finite(),
                "{name} must be above 0, not {value}"
            );
        }
        let not_negative = [
            ("validation", data.validation),
            ("weight_decay", train.weight_decay),
            ("min_lr", train.schedule.min_lr()),
            ("loss_weight", train.loss_weight.unwrap_or(1.0)),
            ("grid_weight", train.grid_weight.unwrap_or(1.0)),
        ];
        for (name, value) in not_negative {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "{name} must be 0 or more, not {value}"
            );
        }
        let samples = [train.batch_size, data.patch, data.patch, train.scales.len()];
        let samples = samples.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        ensure!(
            samples.is_some_and(|samples| samples <= MAX_SAMPLES),
            "batch_size {} with {2}x{2} patches is too large: a step may have at most {1} pixels",
            train.batch_size,
            MAX_SAMPLES,
            data.patch
        );
        let [beta1, beta2] = train.betas;
        let below_one = [
            ("betas", beta1),
            ("betas", beta2),
            ("momentum", train.momentum()),
            ("lr_gamma", train.schedule.gamma().unwrap_or(0.0)),
            ("ema", train.ema.unwrap_or(0.0)),
        ];
        for (name, value) in below_one {
            ensure!(
                (0.0..1.0).contains(&value),
                "{name} must be from 0 to below 1, not {value}"
            );
        }
        ensure!(
            data.patch >= MIN_PATCH,
            "patch must be at least {MIN_PATCH} pixels, not {}",
            data.patch
        );
        self.check_length()?;
        self.check_optimizer()?;
        self.check_schedule()?;
        self.check_added_losses()?;
        self.check_distillation()?;
        self.check_degradation()?;
        self.check_colors()?;
        self.check_scales()
    }

    fn check_optimizer(&self) -> Result<()> {
        let train = &self.train;
        ensure!(
            train.momentum.is_none()
                || matches!(train.optimizer, OptimizerKind::Sgd | OptimizerKind::Muon),
            "momentum belongs to the optimizers sgd and muon; adam and adamw have betas"
        );
        ensure!(
            train.clip_value.is_none() || train.optimizer != OptimizerKind::Muon,
            "clip_value does not go with muon, whose steps do not depend on the size of gradients"
        );
        let shrinks_gradients = train.optimizer == OptimizerKind::Adam && train.weight_decay > 0.0;
        ensure!(
            train.whiten.is_none()
                || train.optimizer != OptimizerKind::Sgd
                    && train.clip_value.is_none()
                    && !shrinks_gradients,
            "whiten needs the optimizer adam, adamw or muon, no clip_value, and no weight_decay \
             with adam"
        );
        Ok(())
    }

    fn check_schedule(&self) -> Result<()> {
        let train = &self.train;
        if let Schedule::Milestones { milestones, .. } = &train.schedule {
            ensure!(
                milestones.is_sorted_by(|a, b| a < b) && !milestones.is_empty(),
                "the schedule milestones needs the key milestones, an ascending list of steps"
            );
        }
        let plateau = matches!(train.schedule, Schedule::Plateau { .. });
        ensure!(
            !plateau && train.early_stop_patience.is_none() || self.data.validation > 0.0,
            "the schedule plateau and early_stop_patience need validation images: set \
             data.validation above 0"
        );
        Ok(())
    }

    fn check_length(&self) -> Result<()> {
        let train = &self.train;
        ensure!(
            train.steps.is_none() || train.epochs.is_none(),
            "both steps and epochs state the length: leave one out"
        );
        Ok(())
    }

    /// Ensures that keys of a degradation come with it.
    fn check_degradation(&self) -> Result<()> {
        let data = &self.data;
        ensure!(
            !data.sharpen || data.degradation == Degradation::RealEsrgan,
            "sharpen belongs to the degradation realesrgan"
        );
        ensure!(
            data.video.is_none() || data.degradation == Degradation::Video,
            "data.video belongs to the degradation video"
        );
        let video = data.video.clone().unwrap_or_default();
        let [least, most] = video.strength;
        ensure!(
            (0.0..=1.0).contains(&least) && (least..=1.0).contains(&most),
            "video.strength must be two ascending numbers from 0 to 1, not {least} and {most}"
        );
        ensure!(
            (1..=MAX_FRAMES).contains(&video.frames),
            "video.frames must be 1 to {MAX_FRAMES}, not {}",
            video.frames
        );
        ensure!(
            (0.0..=16.0).contains(&video.motion),
            "video.motion must be 0 to 16 low-resolution pixels per frame, not {}",
            video.motion
        );
        ensure!(
            (0.0..=1.0).contains(&video.lookahead),
            "video.lookahead must be a share from 0 to 1, not {}",
            video.lookahead
        );
        Ok(())
    }

    fn check_colors(&self) -> Result<()> {
        let Some(colors) = self.data.colors else {
            return Ok(());
        };
        ensure!(
            self.architecture()?.channels() == Channels::Rgb,
            "data.colors needs an RGB network, and {} is a luma network",
            self.model.name
        );
        for (name, share) in [
            ("permute", colors.permute),
            ("saturate", colors.saturate),
            ("flat", colors.flat),
        ] {
            ensure!(
                (0.0..=1.0).contains(&share),
                "colors.{name} must be from 0 to 1, not {share}"
            );
        }
        Ok(())
    }

    /// Checks the perceptual and adversarial losses.
    fn check_added_losses(&self) -> Result<()> {
        let (perceptual, adversarial) = (self.perceptual.as_ref(), self.adversarial.as_ref());
        let layers = perceptual.iter().flat_map(|p| p.layers.values());
        let positive = layers
            .map(|&factor| ("perceptual.layers", factor))
            .chain(perceptual.map(|p| ("perceptual.weight", p.weight)))
            .chain(adversarial.map(|a| ("adversarial.weight", a.weight)))
            .chain(adversarial.and_then(|a| Some(("adversarial.lr", a.lr?))));
        for (name, value) in positive {
            ensure!(
                value > 0.0 && value.is_finite(),
                "{name} must be above 0, not {value}"
            );
        }
        ensure!(
            perceptual.is_none_or(|p| !p.layers.is_empty()),
            "perceptual.layers is empty: name one, such as relu5_4 = 1.0"
        );
        let added = perceptual.is_some() || adversarial.is_some();
        ensure!(
            !added || self.architecture()?.channels() == Channels::Rgb,
            "perceptual and adversarial losses need an RGB network, and {} is a luma network",
            self.model.name
        );
        ensure!(
            self.train.loss_weight != Some(0.0) || perceptual.is_some(),
            "loss_weight 0 leaves no loss: add [perceptual], or raise it"
        );
        Ok(())
    }

    fn check_distillation(&self) -> Result<()> {
        let Some(distillation) = &self.distillation else {
            return Ok(());
        };
        let share = distillation.share;
        ensure!(
            share > 0.0 && share <= 1.0,
            "distillation.share must be above 0 and at most 1, not {share}"
        );
        ensure!(
            !distillation.weights.is_empty(),
            "distillation.weights is empty: name a file, such as 2 = \"x2.safetensors\""
        );
        for scale in distillation.weights.keys() {
            ensure!(
                self.train.scales.contains(scale),
                "distillation.weights: this run does not train scale {scale}"
            );
        }
        Ok(())
    }

    fn check_scales(&self) -> Result<()> {
        let train = &self.train;
        let name = &self.model.name;
        ensure!(
            !train.scales.is_empty(),
            "scales is empty: state at least one, such as 2"
        );
        check_list(&train.scales)?;
        check_list(&train.validate_scales)?;
        if let PerStep::Number(n) = train.scales_per_step {
            let known = train.scales.len();
            ensure!(
                (1..=known).contains(&n),
                "scales_per_step must be \"all\" or 1 to {known}, not {n}"
            );
        }
        ensure!(
            train.scale_weights.is_empty() || train.scale_weights.len() == train.scales.len(),
            "{} scale_weights for {} scales: state one per scale",
            train.scale_weights.len(),
            train.scales.len()
        );
        let architecture = self.architecture()?;
        let known = match architecture.scales() {
            None if train.scales.len() > 1 => bail!(
                "{name} trains one scale per run, not {}: --each-scale trains one after the other",
                train.scales.len()
            ),
            None => Scales::list(train.scales.iter().copied()),
            Some(scales) => scales,
        };
        let Scales::List(list) = &known else {
            return Ok(());
        };
        if let Some(scale) = train.scales.iter().find(|scale| !list.contains(scale)) {
            bail!("{name} has no weights for scale {scale}, only for {known}");
        }
        let served = |scale: &Scale| match architecture.upsampling(*scale) {
            Upsampling::Pre => list.contains(scale),
            Upsampling::Post(_) => list.last().is_some_and(|last| scale <= last),
        };
        if let Some(scale) = train.validate_scales.iter().find(|&scale| !served(scale)) {
            bail!("{name} cannot be validated at scale {scale}, only at {known}");
        }
        Ok(())
    }
}

/// Checks each scale by itself.
fn check_list(scales: &[Scale]) -> Result<()> {
    for (i, scale) in scales.iter().enumerate() {
        ensure!(*scale > Scale::ONE, "scale {scale} must be above 1");
        ensure!(
            scale.num() <= MAX_NUMERATOR,
            "scale {scale} is too fine: images are cropped to multiples of its numerator, \
             which may be at most {MAX_NUMERATOR} (write 4/3, not 1.333)"
        );
        ensure!(
            !scales[..i].contains(scale),
            "scale {scale} is listed twice"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::recipe::Overrides;
    use crate::recipe::tests::resolve;

    fn problem(text: &str) -> String {
        format!("{:#}", resolve(text, &Overrides::default()).unwrap_err())
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, expected) in [
            ("[train]\nlr = 'high'", "train.lr"),
            ("[train]\nmin_lr = 'high'", "high"),
            (
                "[train]\nschedule = 'step'\nlr_drop_every = 0",
                "lr_drop_every must be",
            ),
            ("[train]\nschedule = 'cosines'", "cosines"),
            ("[train]\nlearning_rate = 1", "learning_rate"),
            ("[nodel]\n", "nodel"),
            ("[model]\nname = 'srgna'", "srgna"),
            ("[model]\nname = 'bicubic'", "no weights to train"),
            ("[model]\nname = 'srcnn'\nconfig = { width = 3 }", "width"),
            (
                "[model]\nname = 'srcnn'\n[train]\nscales = [2, 3]",
                "one scale per run",
            ),
            (
                "[model]\nname = 'hypersrcnn-rgb'\n[train]\nscales = [3]",
                "scale 3",
            ),
            ("[train]\nscales = [17]", "17"),
            ("[train]\nscales = [2, 2]", "twice"),
            ("[train]\nlr = 0", "lr must be above 0"),
            ("[train]\nsteps = 1\nepochs = 1", "leave one out"),
            ("[data]\npatch = 2", "patch must be"),
            ("[train]\nema = 1", "ema must be"),
            (
                "[train]\nmomentum = 0.9",
                "belongs to the optimizers sgd and muon",
            ),
            (
                "[train]\noptimizer = 'muon'\nclip_value = 1",
                "does not go with muon",
            ),
            ("[train]\nwhiten = 0", "whiten must be"),
            (
                "[train]\nwhiten = 0.1\noptimizer = 'sgd'",
                "whiten needs the optimizer adam, adamw or muon",
            ),
            (
                "[train]\nwhiten = 0.1\nweight_decay = 0.1",
                "whiten needs the optimizer adam, adamw or muon",
            ),
            ("[train]\nschedule = 'step'", "needs lr_drop_every"),
            (
                "[train]\nschedule = 'milestones'\nlr_drop_at = [5, 5]",
                "ascending",
            ),
            ("[train]\nlr_patience = 3", "lr_patience has no meaning"),
            ("[train]\nloss_weight = 0", "leaves no loss"),
            ("[data]\nsharpen = true", "sharpen belongs to"),
            ("[data]\nvideo = {}", "data.video belongs to"),
            (
                "[data]\ncolors = { flat = 0.1 }",
                "data.colors needs an RGB",
            ),
            (
                "[model]\nname = 'srresnet'\n[data]\ncolors = { flat = 2 }",
                "colors.flat must be from 0 to 1",
            ),
            (
                "[model]\nname = 'srresnet'\n[data]\ncolors = { hue = 1 }",
                "hue",
            ),
            (
                "[data]\ndegradation = 'video'\nvideo = { codecs = ['h261'] }",
                "h261",
            ),
            (
                "[data]\ndegradation = 'video'\nvideo = { strength = [0.5, 0.2] }",
                "two ascending numbers",
            ),
            (
                "[data]\ndegradation = 'video'\nvideo = { lookahead = 50 }",
                "a share from 0 to 1",
            ),
            (
                "[adversarial]\nweight = 1\ndiscriminator = { name = 'unet' }",
                "is a luma network",
            ),
            (
                "[adversarial]\nweight = 1\ndiscriminator = { name = 'unet', depth = 3 }",
                "depth",
            ),
            (
                "[perceptual]\nweights = 'f'\nlayers = {}",
                "perceptual.layers is empty",
            ),
            (
                "[distillation]\nweights = { 2 = 'f' }\nshare = 2",
                "distillation.share must be",
            ),
            (
                "[distillation]\nweights = {}",
                "distillation.weights is empty",
            ),
            (
                "[distillation]\nweights = { 5 = 'f' }",
                "does not train scale 5",
            ),
            (
                "[data]\nvalidation = 0\n[train]\nstop_after = 3",
                "need validation images",
            ),
            ("[train]\nscale_weights = [1]", "scale_weights"),
            ("[train]\nvalidate_scales = ['1.333']", "4/3"),
            (
                "[model]\nname = 'espcn'\n[train]\nscales = ['5/2']",
                "no weights for scale 5/2",
            ),
            (
                "[model]\nname = 'espcn'\n[train]\nvalidate_scales = ['17/2']",
                "cannot be validated at scale 17/2",
            ),
            (
                "[model]\nname = 'srcnn'\n[train]\nvalidate_scales = [3]",
                "cannot be validated at scale 3, only at 2",
            ),
            ("[train", "r.toml"),
            ("train = 3", "r.toml"),
        ] {
            let error = problem(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
