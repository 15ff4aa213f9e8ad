//! Recipes: all that decides what a training run does, in one TOML file.
//!
//! A recipe states what differs from the model's defaults; flags of the
//! command differ from the recipe; what results is written beside the weights.

use crate::gan::{srgan, unet};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use srfilter::Scale;
use srfilter::models::{self, Architecture, Channels, Scales, Upsampling};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Steps of a run on given pictures whose length nobody states.
const DEFAULT_STEPS: u64 = 20_000;

/// Minutes of a run on drawn pictures whose length nobody states.
const DRAWN_MINUTES: f64 = 1.0;

/// Batch and patch of a run on drawn pictures: many small steps, so that a
/// minute shows something.
const DRAWN_BATCH: (usize, usize) = (4, 32);

/// Pictures that are drawn where no folder is given.
const DRAWN_PICTURES: usize = 40;

/// Pixels that the patches of one step may have together. What an SRCNN makes
/// of them (97 channels of f32) and its gradients then take 12 GiB.
const MAX_SAMPLES: usize = 1 << 24;

/// The largest numerator of a scale: pictures are cut to multiples of it.
const MAX_NUMERATOR: u32 = 64;

/// The smallest patch that makes sense: the reach of one small convolution.
const MIN_PATCH: usize = 8;

/// Momentum where none is given.
const MOMENTUM: f64 = 0.9;

/// Factor of the learning rate at a drop where none is given.
const LR_DROP: f64 = 0.1;

/// Patience of the schedule `plateau` where none is given.
const LR_PATIENCE: u64 = 5;

/// A training recipe with every setting resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is trained.
    pub model: Model,
    /// On what.
    pub data: Data,
    /// How.
    pub train: Train,
    /// What a network that names things sees, as a part of the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<Perceptual>,
    /// What another network that learns to judge says, as a part of the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<Adversarial>,
}

/// A perceptual loss, added to the loss: the distance of features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perceptual {
    /// Weights of a VGG (torchvision's names) or a SqueezeNet 1.0.
    pub weights: PathBuf,
    /// Layers and the factors of their distances: `conv5_4` before, `relu5_4`
    /// after the ReLU; SqueezeNet's are `conv1`, `fire2` to `fire9`.
    pub layers: BTreeMap<String, f64>,
    /// How features are compared.
    #[serde(default)]
    pub distance: Distance,
    /// Factor of the whole.
    #[serde(default = "once")]
    pub weight: f64,
}

/// How features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Mean absolute difference.
    L1,
    /// Mean squared difference.
    #[default]
    Mse,
}

/// An adversarial loss, added to the loss. Every step of the network is
/// followed by one of the discriminator, on the same pictures; the best
/// weights are then the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {
    /// The network that judges.
    pub discriminator: Discriminating,
    /// Factor of the loss.
    pub weight: f64,
    /// The discriminator's highest learning rate, on the network's schedule;
    /// `train.lr` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
}

/// A discriminator: its name and what differs from the published one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Discriminating {
    /// SRGAN's: a logit a picture.
    Srgan(srgan::Config),
    /// Real-ESRGAN's, a U-Net with spectral normalisation: a logit a pixel.
    Unet(unet::Config),
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A name of the library's table.
    pub name: String,
    /// Weights to start from: a weights file, or the state of another run
    /// (`checkpoint/state.safetensors`); drawn at random if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Whether only those of its tensors are taken that fit by name and shape,
    /// and the others drawn: for x4 from x2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init_partly: bool,
    /// Weights files of networks that a hypernetwork begins by making, one for
    /// each scale.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub makes: BTreeMap<Scale, PathBuf>,
    /// Settings of the architecture that differ from the table's.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub config: Table,
}

/// The pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Side of the training patches in samples that the network takes: pixels
    /// of the enlarged picture, or of the small one for networks that work at
    /// the input's resolution.
    pub patch: usize,
    /// How small pictures are made of large ones.
    pub degradation: Degradation,
    /// Whether the pictures to be made are sharpened, as Real-ESRGAN's are
    /// (degradation `realesrgan`). A discriminator sees them as they were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sharpen: bool,
    /// What the degradation `video` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Pictures held back for validation: a fraction if below 1, else a number.
    pub validation: f64,
    /// Pictures to draw where `dirs` is empty.
    pub drawn: usize,
    /// Folders, searched with all their subfolders.
    pub dirs: Vec<Dir>,
}

/// A folder of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dir {
    /// The folder, relative to the current one.
    pub path: PathBuf,
    /// How many times its pictures count.
    #[serde(default = "once")]
    pub repeat: f64,
}

fn once() -> f64 {
    1.0
}

/// What codecs do to patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Video {
    /// Codecs, one drawn for each batch; empty for all that are there.
    pub codecs: Vec<Codec>,
    /// Least and most of what they take away, drawn evenly: 0 is hardly seen,
    /// at 1 there are blocks.
    pub strength: [f64; 2],
    /// Frames of a clip, of which the last is taken.
    pub frames: usize,
    /// How far pictures move from frame to frame at most, in small samples.
    pub motion: f64,
}

impl Default for Video {
    fn default() -> Self {
        Self {
            codecs: Vec::new(),
            strength: [0.1, 0.7],
            frames: 5,
            motion: 2.0,
        }
    }
}

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// By x264.
    H264,
    /// By libvpx.
    Vp8,
    /// By libvpx.
    Vp9,
    /// MPEG-4 part 2, by libavcodec.
    Mpeg4,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::H264, Self::Vp8, Self::Vp9, Self::Mpeg4];
}

/// The most frames that a clip has.
const MAX_FRAMES: usize = 100;

/// What makes the small picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Degradation {
    /// MATLAB's bicubic `imresize`; the small picture is rounded to 8 bit.
    Matlab,
    /// Pillow's `BICUBIC`, 8 bit throughout.
    Pillow,
    /// A faint blur and OpenCV's bicubic, as SRCNN's seed has it, 8 bit.
    Opencv,
    /// Real-ESRGAN's second-order chain: blur, resizing, noise and JPEG, twice.
    RealEsrgan,
    /// Bicubic as MATLAB's, then a real video encoder and decoder.
    Video,
}

/// The optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Scales that are trained.
    pub scales: Vec<Scale>,
    /// One number a scale: how often it is drawn or, with all scales a step,
    /// the factor of its loss. Empty for 1 each.
    #[serde(default)]
    pub scale_weights: Vec<f64>,
    /// How many of the scales share a step.
    pub scales_per_step: PerStep,
    /// Length in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Length in epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length of an epoch; once over the area of all pictures if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<u64>,
    /// Length in minutes. The schedule then follows the clock, so that such
    /// runs cannot be repeated exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Patches a scale and step.
    pub batch_size: usize,
    /// Adam, AdamW with decoupled weight decay, or descent with momentum.
    pub optimizer: Optimizer,
    /// Momentum of `sgd`; 0.9 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Highest learning rate.
    pub lr: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Lowest learning rate of a schedule that falls.
    pub min_lr: f64,
    /// What the learning rate is multiplied by when it drops (schedules
    /// `step`, `milestones`, `plateau`); a tenth if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_drop: Option<f64>,
    /// Steps between drops of the schedule `step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_drop_every: Option<u64>,
    /// Steps at which the schedule `milestones` drops, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lr_drop_at: Vec<u64>,
    /// Validations without headway that the schedule `plateau` lets pass
    /// before it drops; 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_patience: Option<u64>,
    /// Steps over which the learning rate first rises.
    pub warmup: u64,
    /// Decay rates of Adam's first and second moments.
    pub betas: [f64; 2],
    /// Adam's guard against division by zero.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Upper bound of the gradient's norm over all parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Bound of every element of the gradient, either side of zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Whitens the inputs of every convolution for the optimiser (`adam`,
    /// `adamw`), which then takes far fewer steps: damping in units of the
    /// inputs' mean variance, 0.1 or so ([`crate::whiten`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whiten: Option<f64>,
    /// Decay of a moving average of the weights, which is then what is
    /// validated and written as the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Validations without a new best after which the run ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<u64>,
    /// The loss.
    pub loss: Loss,
    /// Factor of the loss, where others are added; 1 if absent, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_weight: Option<f64>,
    /// Seed of first weights, patches and drawn pictures.
    pub seed: u32,
    /// Scales that validation measures; empty for those that are trained.
    /// Networks at the input's resolution serve fractions too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate_scales: Vec<Scale>,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Factors of the learning rate of parameters whose names begin so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lr_factors: BTreeMap<String, f64>,
}

/// How many scales share a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerStep {
    /// That many, drawn without repetition.
    Number(usize),
    /// Every scale.
    Word(All),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// `all`
    All,
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Weight decay adds to the gradient.
    Adam,
    /// Weight decay shrinks the parameters.
    AdamW,
    /// Gradient descent with momentum; weight decay adds to the gradient.
    Sgd,
}

/// The course of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays at `lr`.
    Constant,
    /// Half a cosine from `lr` to `min_lr`.
    Cosine,
    /// Drops every `lr_drop_every` steps.
    Step,
    /// Drops at each step of `lr_drop_at`.
    Milestones,
    /// Drops when more than `lr_patience` validations made no headway.
    Plateau,
}

/// What is minimised, a mean over all samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Squared error.
    Mse,
    /// Absolute error.
    L1,
    /// Smoothed absolute error.
    Charbonnier,
    /// Half of what structural similarity lacks to 1.
    Dssim,
    /// PSNR of the batch, negated: the logarithm of the squared error, with
    /// which scales that are harder than others do not outweigh them.
    Psnr,
}

/// Keys that state the run's length; a later source replaces all of them.
const LENGTHS: [&str; 3] = ["steps", "epochs", "minutes"];

/// What flags of the command change in a recipe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(Table);

impl Overrides {
    /// Sets `key` of the section `[section]`, if there is a value.
    pub fn set(&mut self, section: &str, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            let entry = self.0.entry(section).or_insert_with(|| Table::new().into());
            if let Value::Table(table) = entry {
                table.insert(key.to_owned(), value.into());
            }
        }
        self
    }
}

impl Train {
    /// Momentum of `sgd`.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(MOMENTUM)
    }

    /// What the learning rate is multiplied by when it drops.
    pub fn lr_drop(&self) -> f64 {
        self.lr_drop.unwrap_or(LR_DROP)
    }

    /// Validations without headway before the schedule `plateau` drops.
    pub fn lr_patience(&self) -> u64 {
        self.lr_patience.unwrap_or(LR_PATIENCE)
    }
}

impl Recipe {
    /// The recipe of a file (or of nothing) with flags on top.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a key that does not exist, a value that makes no sense.
    pub fn resolve(file: Option<&Path>, overrides: &Overrides) -> Result<Self> {
        let mut given = match file {
            Some(path) => read_table(path)?,
            None => Table::new(),
        };
        merge(&mut given, &overrides.0);
        let resolve = || -> Result<Self> {
            let recipe: Self = with_defaults(&given)?.try_into().map_err(one_line)?;
            recipe.check()?;
            Ok(recipe)
        };
        resolve().with_context(|| match file {
            Some(path) => format!("{}", path.display()),
            None => "settings".to_owned(),
        })
    }

    /// The architecture: the table's, with the recipe's changes.
    ///
    /// # Errors
    ///
    /// An unknown model, or a change that does not fit it.
    pub fn architecture(&self) -> Result<Architecture> {
        architecture(&self.model.name, &self.model.config)
    }

    /// The scales that validation measures.
    pub fn validation_scales(&self) -> &[Scale] {
        match self.train.validate_scales.as_slice() {
            [] => &self.train.scales,
            scales => scales,
        }
    }

    /// As TOML text.
    ///
    /// # Errors
    ///
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("cannot write the recipe as TOML")
    }

    /// SHA-256 of [`Recipe::to_toml`], in hexadecimal.
    ///
    /// # Errors
    ///
    /// As [`Recipe::to_toml`].
    pub fn sha256(&self) -> Result<String> {
        let digest = Sha256::digest(self.to_toml()?.as_bytes());
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The first setting, other than the run's length, in which two recipes differ.
    ///
    /// # Errors
    ///
    /// As [`Recipe::to_toml`].
    pub fn difference(&self, other: &Self) -> Result<Option<String>> {
        let table = |recipe: &Self| -> Result<Table> {
            let mut recipe = recipe.clone();
            let train = &mut recipe.train;
            (train.steps, train.epochs, train.minutes) = (None, None, None);
            Ok(Table::try_from(&recipe)?)
        };
        let (ours, theirs) = (table(self)?, table(other)?);
        Ok(first_difference(
            "",
            &Value::Table(ours),
            &Value::Table(theirs),
        ))
    }

    fn check(&self) -> Result<()> {
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
            ("minutes", train.minutes.unwrap_or(1.0)),
            ("clip_norm", train.clip_norm.unwrap_or(1.0)),
            ("whiten", train.whiten.unwrap_or(1.0)),
            ("clip_value", train.clip_value.unwrap_or(1.0)),
            ("lr_drop_every", train.lr_drop_every.unwrap_or(1) as f64),
            ("stop_after", train.stop_after.unwrap_or(1) as f64),
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
            ("min_lr", train.min_lr),
            ("loss_weight", train.loss_weight.unwrap_or(1.0)),
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
            "batch_size {} of {2}x{2} patches is too large: a step may have {1} pixels at most",
            train.batch_size,
            MAX_SAMPLES,
            data.patch
        );
        let [beta1, beta2] = train.betas;
        let below_one = [
            ("betas", beta1),
            ("betas", beta2),
            ("momentum", train.momentum()),
            ("lr_drop", train.lr_drop()),
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
        self.check_schedule()?;
        self.check_added_losses()?;
        self.check_degradation()?;
        self.check_scales()
    }

    /// Sees to it that what belongs to a schedule or an optimiser comes with it.
    fn check_schedule(&self) -> Result<()> {
        let train = &self.train;
        let (step, milestones, plateau) = (Schedule::Step, Schedule::Milestones, Schedule::Plateau);
        let falls = [step, milestones, plateau];
        let is = |schedule: Schedule| train.schedule == schedule;
        let belongs = [
            (
                "lr_drop",
                train.lr_drop.is_some(),
                falls.contains(&train.schedule),
            ),
            ("lr_drop_every", train.lr_drop_every.is_some(), is(step)),
            ("lr_drop_at", !train.lr_drop_at.is_empty(), is(milestones)),
            ("lr_patience", train.lr_patience.is_some(), is(plateau)),
        ];
        for (name, given, used) in belongs {
            ensure!(
                !given || used,
                "{name} has no meaning with schedule {:?}: leave it out, or take another schedule",
                train.schedule
            );
        }
        ensure!(
            train.momentum.is_none() || train.optimizer == Optimizer::Sgd,
            "momentum belongs to the optimizer sgd; Adam has betas"
        );
        let shrinks_gradients = train.optimizer == Optimizer::Adam && train.weight_decay > 0.0;
        ensure!(
            train.whiten.is_none()
                || train.optimizer != Optimizer::Sgd
                    && train.clip_value.is_none()
                    && !shrinks_gradients,
            "whiten goes with the optimizers adam and adamw, without clip_value, and with \
             weight_decay only in adamw"
        );
        ensure!(
            !is(step) || train.lr_drop_every.is_some(),
            "the schedule step needs lr_drop_every, the steps between drops"
        );
        ensure!(
            !is(milestones)
                || train.lr_drop_at.is_sorted_by(|a, b| a < b) && !train.lr_drop_at.is_empty(),
            "the schedule milestones needs lr_drop_at, an ascending list of steps"
        );
        let judges = is(plateau) || train.stop_after.is_some();
        ensure!(
            !judges || self.data.validation > 0.0,
            "the schedule plateau and stop_after go by validation: hold pictures back \
             (validation above 0)"
        );
        Ok(())
    }

    fn check_length(&self) -> Result<()> {
        let train = &self.train;
        ensure!(
            train.steps.is_none() || train.epochs.is_none(),
            "the length is given twice: steps and epochs; give one of them"
        );
        Ok(())
    }

    /// Sees to it that what belongs to a degradation comes with it.
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
            "video.strength must be two numbers from 0 to 1, the smaller first, not {least} and {most}"
        );
        ensure!(
            (1..=MAX_FRAMES).contains(&video.frames),
            "video.frames must be 1 to {MAX_FRAMES}, not {}",
            video.frames
        );
        ensure!(
            (0.0..=16.0).contains(&video.motion),
            "video.motion must be 0 to 16 small samples a frame, not {}",
            video.motion
        );
        Ok(())
    }

    /// Sees to it that perceptual and adversarial losses make sense.
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
            "perceptual and adversarial losses see RGB, and {} makes luma",
            self.model.name
        );
        ensure!(
            self.train.loss_weight != Some(0.0) || perceptual.is_some(),
            "loss_weight 0 leaves nothing to learn from: add [perceptual], or raise it"
        );
        Ok(())
    }

    fn check_scales(&self) -> Result<()> {
        let train = &self.train;
        let name = &self.model.name;
        ensure!(
            !train.scales.is_empty(),
            "scales is empty: give at least one, such as 2"
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
            "{} scale_weights for {} scales: give one each",
            train.scale_weights.len(),
            train.scales.len()
        );
        let architecture = self.architecture()?;
        let known = match architecture.scales() {
            None if train.scales.len() > 1 => bail!(
                "{name} trains one scale a run, {} were given: --each-scale trains one after the other",
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

/// Sees to it that scales make sense by themselves.
fn check_list(scales: &[Scale]) -> Result<()> {
    for (i, scale) in scales.iter().enumerate() {
        ensure!(
            *scale > Scale::ONE,
            "scale {scale} does not enlarge: it must be above 1"
        );
        ensure!(
            scale.num() <= MAX_NUMERATOR,
            "scale {scale} is too fine: pictures are cut to multiples of its numerator, \
             which may be {MAX_NUMERATOR} at most (write 4/3, not 1.333)"
        );
        ensure!(
            !scales[..i].contains(scale),
            "scale {scale} is listed twice"
        );
    }
    Ok(())
}

fn read_table(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the recipe {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Lays `over` over `base`, table by table. Settings that belong together go
/// together: the ways to state the length, and what is stated of each scale.
fn merge(base: &mut Table, over: &Table) {
    if LENGTHS.iter().any(|key| over.contains_key(*key)) {
        LENGTHS.iter().for_each(|key| drop(base.remove(*key)));
    }
    if over.contains_key("scales") {
        base.remove("scale_weights");
        base.remove("validate_scales");
    }
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `given` laid over the defaults for its model and data.
fn with_defaults(given: &Table) -> Result<Table> {
    let model = given.get("model");
    let name = model.and_then(|model| model.get("name"));
    let name = name.and_then(Value::as_str).unwrap_or(models::DEFAULT);
    let config = model.and_then(|model| model.get("config"));
    let config = config
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    let dirs = given.get("data").and_then(|data| data.get("dirs"));
    let drawn = dirs.and_then(Value::as_array).is_none_or(Vec::is_empty);
    let mut recipe = Table::try_from(default_recipe(name, &config, drawn)?)?;
    merge(&mut recipe, given);
    Ok(recipe)
}

/// What `train --model NAME` does without a recipe.
fn default_recipe(name: &str, config: &Table, drawn: bool) -> Result<Recipe> {
    let architecture = architecture(name, config)?;
    let luma = architecture.channels() == Channels::Luma;
    let (scales, scales_per_step) = match architecture.scales() {
        None => (vec![Scale::whole(2)], PerStep::Number(1)),
        Some(Scales::List(list)) if luma => (list, PerStep::Number(1)),
        Some(Scales::List(list)) => (list, PerStep::Word(All::All)),
        Some(Scales::Any) => (continuous_scales()?, PerStep::Number(1)),
    };
    let scale_weights = match scales_per_step {
        PerStep::Number(_) if scales.len() > 1 => scales.iter().map(|&s| common(s)).collect(),
        _ => Vec::new(),
    };
    let small = matches!(architecture.upsampling(scales[0]), Upsampling::Post(_));
    let (patch, degradation, lr, schedule) = match (luma, small) {
        (true, false) => (48, Degradation::Matlab, 3e-4, Schedule::Cosine),
        (true, true) => (32, Degradation::Matlab, 1e-3, Schedule::Cosine),
        // As the published SRResNet was trained at x4.
        (false, true) => (24, Degradation::Pillow, 1e-4, Schedule::Constant),
        // As the published HyperSRCNN was trained.
        (false, false) => (96, Degradation::Pillow, 1e-4, Schedule::Constant),
    };
    let (batch_size, patch) = if drawn { DRAWN_BATCH } else { (16, patch) };
    Ok(Recipe {
        model: Model {
            name: name.to_owned(),
            init: None,
            init_partly: false,
            makes: BTreeMap::new(),
            config: Table::new(),
        },
        data: Data {
            patch,
            degradation,
            sharpen: false,
            video: None,
            validation: if drawn { 4.0 } else { 10.0 },
            drawn: DRAWN_PICTURES,
            dirs: Vec::new(),
        },
        train: Train {
            scales,
            scale_weights,
            scales_per_step,
            steps: (!drawn).then_some(DEFAULT_STEPS),
            epochs: None,
            steps_per_epoch: None,
            minutes: drawn.then_some(DRAWN_MINUTES),
            batch_size,
            optimizer: Optimizer::Adam,
            momentum: None,
            lr,
            schedule,
            min_lr: lr / 100.0,
            lr_drop: None,
            lr_drop_every: None,
            lr_drop_at: Vec::new(),
            lr_patience: None,
            // A hypernetwork moves all of a layer's weights together: without
            // a slow start its ReLUs die, and what is left is bicubic.
            warmup: if drawn { 50 } else { 500 },
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            clip_norm: None,
            clip_value: None,
            whiten: None,
            ema: None,
            stop_after: None,
            loss: Loss::Mse,
            loss_weight: None,
            seed: 1,
            validate_scales: Vec::new(),
            validate_every: if drawn { 200 } else { 1000 },
            checkpoint_every: if drawn { 200 } else { 500 },
            lr_factors: BTreeMap::new(),
        },
        perceptual: None,
        adversarial: None,
    })
}

/// Training scales of a network that serves any.
fn continuous_scales() -> Result<Vec<Scale>> {
    let texts = ["3/2", "2", "5/2", "3", "4", "6", "8", "16"];
    Ok(texts
        .map(str::parse)
        .into_iter()
        .collect::<Result<_, _>>()?)
}

/// How often a training scale is drawn: x2, x3 and x4 are what most people use.
fn common(scale: Scale) -> f64 {
    match (scale.num(), scale.den()) {
        (2..=4, 1) => 4.0,
        (8.., 1) => 1.0,
        _ => 2.0,
    }
}

/// The table's architecture of that name, with `config` laid over its settings.
fn architecture(name: &str, config: &Table) -> Result<Architecture> {
    let architecture = (models::find(name)?.architecture)();
    let Some(architecture) = architecture else {
        bail!("{name} has no weights: there is nothing to train");
    };
    let mut table = Table::try_from(&architecture)?;
    let changes = [("config".to_owned(), Value::Table(config.clone()))];
    merge(&mut table, &changes.into_iter().collect());
    table.try_into().map_err(one_line).context("model.config")
}

/// The path of the first key in which two values differ.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    let (Value::Table(a), Value::Table(b)) = (a, b) else {
        return (a != b).then(|| path.to_owned());
    };
    a.keys().chain(b.keys()).find_map(|key| {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => first_difference(&path, a, b),
            _ => Some(path),
        }
    })
}

/// TOML errors end with a line break.
fn one_line(error: toml::de::Error) -> anyhow::Error {
    anyhow::anyhow!("{}", error.to_string().trim().replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str, overrides: &Overrides) -> Result<Recipe> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("r.toml");
        std::fs::write(&path, text)?;
        Recipe::resolve(Some(&path), overrides)
    }

    fn problem(text: &str) -> String {
        format!("{:#}", resolve(text, &Overrides::default()).unwrap_err())
    }

    #[test]
    fn flags_override_the_recipe_and_the_recipe_the_defaults() {
        let text = "[model]\nname = 'srcnn'\n[data]\ndirs = [{ path = 'a', repeat = 2 }]\n\
                    [train]\nepochs = 3\nlr = 0.5\nscales = [3]";
        let mut flags = Overrides::default();
        flags
            .set("train", "steps", Some(7))
            .set("train", "seed", Some(9));
        let recipe = resolve(text, &flags).unwrap();
        assert_eq!((recipe.train.steps, recipe.train.epochs), (Some(7), None));
        assert_eq!((recipe.train.lr, recipe.train.seed), (0.5, 9));
        assert_eq!(recipe.train.scales, [Scale::whole(3)]);
        assert_eq!((recipe.data.patch, recipe.data.dirs[0].repeat), (48, 2.0));
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, expected) in [
            ("[train]\nlearning_rate = 1", "learning_rate"),
            ("[nodel]\n", "nodel"),
            ("[model]\nname = 'srgna'", "srgna"),
            ("[model]\nname = 'bicubic'", "nothing to train"),
            ("[model]\nname = 'srcnn'\nconfig = { width = 3 }", "width"),
            (
                "[model]\nname = 'srcnn'\n[train]\nscales = [2, 3]",
                "one scale a run",
            ),
            (
                "[model]\nname = 'hypersrcnn-rgb'\n[train]\nscales = [3]",
                "scale 3",
            ),
            ("[train]\nscales = [17]", "17"),
            ("[train]\nscales = [2, 2]", "twice"),
            ("[train]\nlr = 0", "lr must be above 0"),
            ("[train]\nsteps = 1\nepochs = 1", "given twice"),
            ("[data]\npatch = 2", "patch must be"),
            ("[train]\nema = 1", "ema must be"),
            ("[train]\nmomentum = 0.9", "belongs to the optimizer sgd"),
            ("[train]\nwhiten = 0", "whiten must be"),
            (
                "[train]\nwhiten = 0.1\noptimizer = 'sgd'",
                "whiten goes with the optimizers adam and adamw",
            ),
            (
                "[train]\nwhiten = 0.1\nweight_decay = 0.1",
                "whiten goes with the optimizers adam and adamw",
            ),
            ("[train]\nschedule = 'step'", "needs lr_drop_every"),
            (
                "[train]\nschedule = 'milestones'\nlr_drop_at = [5, 5]",
                "ascending",
            ),
            ("[train]\nlr_patience = 3", "lr_patience has no meaning"),
            ("[train]\nloss_weight = 0", "nothing to learn from"),
            ("[data]\nsharpen = true", "sharpen belongs to"),
            ("[data]\nvideo = {}", "data.video belongs to"),
            (
                "[data]\ndegradation = 'video'\nvideo = { codecs = ['h261'] }",
                "h261",
            ),
            (
                "[data]\ndegradation = 'video'\nvideo = { strength = [0.5, 0.2] }",
                "the smaller first",
            ),
            (
                "[adversarial]\nweight = 1\ndiscriminator = { name = 'unet' }",
                "makes luma",
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
                "[data]\nvalidation = 0\n[train]\nstop_after = 3",
                "hold pictures back",
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

    #[test]
    fn every_model_has_defaults_that_survive_writing() {
        for model in models::MODELS
            .iter()
            .filter(|m| (m.architecture)().is_some())
        {
            let mut flags = Overrides::default();
            flags.set("model", "name", Some(model.name));
            let recipe = Recipe::resolve(None, &flags).unwrap();
            let again = resolve(&recipe.to_toml().unwrap(), &Overrides::default()).unwrap();
            assert_eq!(again, recipe);
            assert_eq!(again.sha256().unwrap(), recipe.sha256().unwrap());
        }
    }

    #[test]
    fn differences_leave_out_the_length() {
        let recipe = |text| resolve(text, &Overrides::default()).unwrap();
        let a = recipe("[train]\nsteps = 5");
        assert_eq!(a.difference(&recipe("[train]\nepochs = 9")).unwrap(), None);
        let lr = recipe("[train]\nsteps = 5\nlr = 0.25");
        assert_eq!(a.difference(&lr).unwrap().as_deref(), Some("train.lr"));
    }

    #[test]
    fn the_committed_recipes_are_valid() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let mut count = 0;
        for folder in std::fs::read_dir(models).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|e| e == "toml") {
                    Recipe::resolve(Some(&path), &Overrides::default()).unwrap();
                    count += 1;
                }
            }
        }
        assert!(count >= 5, "{count}");
    }
}
