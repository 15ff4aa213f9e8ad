//! How strongly the encoding of a stream has damaged its frames, and a network that
//! estimates it from a frame.
//!
//! Between the weights of a network for clean video and those of the same network trained
//! on for encoded video lie weights for streams that are encoded well: deep network
//! interpolation (Xintao Wang et al., CVPR 2019, <https://arxiv.org/abs/1811.10515>).
//! [`Model::for_damage`](crate::weights::Model::for_damage) takes those.

use crate::frame::{Component, Family, FrameRef};
use crate::nn::pytorch_uniform;
use crate::ops::sigmoid;
use crate::{Error, Result, TensorError};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use once_cell::sync::OnceCell;
use std::str::FromStr;
use std::sync::LazyLock;

/// Side of a patch that is looked at, in samples.
const PATCH: usize = 64;

/// Patches of a frame at most.
const PATCHES: usize = 32;

/// Patches lie at multiples of it, as the blocks of codecs do.
const GRID: usize = 16;

/// Side of a block, and of half a block.
const BLOCK: usize = 8;
const HALF: usize = BLOCK / 2;

/// Pairs of frequencies, without the mean.
const PAIRS: usize = BLOCK * (BLOCK + 1) / 2 - 1;

/// Coefficients below these are small, in units of 8 bit.
const SMALL: [f32; 3] = [0.5, 1.5, 4.0];

/// Keeps the logarithm of a mean of zero finite.
const LEAST: f64 = 0.02;

/// Width of the hidden layer.
const HIDDEN: usize = 64;

/// How strongly the encoding of a stream has damaged its frames: from 0, clean, to 1, in
/// steps of 1/16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CodingDamage(u8);

impl CodingDamage {
    /// None.
    pub const CLEAN: Self = Self(0);

    /// The most.
    pub const MOST: Self = Self(Self::STEPS);

    /// Steps from 0 to 1.
    pub const STEPS: u8 = 16;

    /// The nearest step to a value from 0 to 1.
    ///
    /// # Errors
    ///
    /// Another value.
    pub fn new(value: f64) -> Result<Self> {
        match (0.0..=1.0).contains(&value) {
            true => Ok(Self::nearest(value)),
            false => Err(Error::Setting(format!(
                "damage {value} is not from 0 (clean) to 1"
            ))),
        }
    }

    /// The nearest step.
    pub fn nearest(value: f64) -> Self {
        Self((value.clamp(0.0, 1.0) * f64::from(Self::STEPS)).round() as u8)
    }

    /// The value, 0 to 1.
    pub fn value(self) -> f64 {
        f64::from(self.0) / f64::from(Self::STEPS)
    }
}

impl std::fmt::Display for CodingDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value().fmt(f)
    }
}

/// Where the damage of a stream is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageSource {
    /// Its frames, by [`DamageEstimator`].
    Auto,
    /// A setting.
    Fixed(CodingDamage),
}

impl Default for DamageSource {
    fn default() -> Self {
        Self::Fixed(CodingDamage::CLEAN)
    }
}

impl FromStr for DamageSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let value = text.parse().map_err(|_| {
            Error::Setting(format!(
                "damage {text:?} is neither auto nor a number from 0 (clean) to 1"
            ))
        })?;
        CodingDamage::new(value).map(Self::Fixed)
    }
}

impl std::fmt::Display for DamageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(damage) => damage.fmt(f),
        }
    }
}

/// What tells how strongly a picture was encoded: of the DCT of its blocks of 8x8, how large
/// the coefficients of each frequency are, and how often they are nearly zero, as encoders
/// leave them; and how samples differ across the edges of blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct CodingStatistics {
    /// Blocks.
    count: f64,
    /// By pair of frequencies, the higher one first: the sum of the magnitudes, and how many
    /// are below each of [`SMALL`].
    frequencies: Vec<[f64; 1 + SMALL.len()]>,
    /// The sums of the differences of neighbours, across and down: at the edges of blocks,
    /// in their middles, and elsewhere.
    steps: [[f64; 3]; 2],
}

impl Default for CodingStatistics {
    fn default() -> Self {
        Self {
            count: 0.0,
            frequencies: vec![Default::default(); BLOCK * BLOCK],
            steps: Default::default(),
        }
    }
}

impl CodingStatistics {
    /// Side of a patch, in samples.
    pub const PATCH: usize = PATCH;

    /// The number of [`CodingStatistics::features`].
    pub const FEATURES: usize = PAIRS * (1 + SMALL.len()) + 4;

    /// Adds a patch of luma in units of 8 bit, dense rows, whose corner is one of a block.
    pub fn add_patch(&mut self, luma: &[f32]) {
        let basis = basis();
        for y in (0..PATCH).step_by(BLOCK) {
            for x in (0..PATCH).step_by(BLOCK) {
                self.add_block(basis, &luma[y * PATCH + x..]);
            }
        }
        for (i, &sample) in luma.iter().enumerate() {
            let places = [(i % PATCH, 1), (i / PATCH, PATCH)];
            for (steps, (place, next)) in self.steps.iter_mut().zip(places) {
                if place + 1 < PATCH {
                    let kind = match place % BLOCK + 1 {
                        BLOCK => 0,
                        HALF => 1,
                        _ => 2,
                    };
                    steps[kind] += f64::from((luma[i + next] - sample).abs());
                }
            }
        }
    }

    fn add_block(&mut self, basis: &[[f32; BLOCK]; BLOCK], luma: &[f32]) {
        let mut rows = [[0.0_f32; BLOCK]; BLOCK];
        for (row, samples) in rows.iter_mut().zip(luma.chunks(PATCH)) {
            for (value, wave) in row.iter_mut().zip(basis) {
                *value = wave.iter().zip(samples).map(|(a, b)| a * b).sum();
            }
        }
        self.count += 1.0;
        for (u, wave) in basis.iter().enumerate() {
            let mut sums = [0.0_f32; BLOCK];
            for (weight, row) in wave.iter().zip(&rows) {
                (sums.iter_mut().zip(row)).for_each(|(sum, v)| *sum += weight * v);
            }
            for (v, value) in sums.into_iter().enumerate() {
                let found = &mut self.frequencies[u.max(v) * BLOCK + u.min(v)];
                found[0] += f64::from(value.abs());
                for (below, limit) in found[1..].iter_mut().zip(SMALL) {
                    *below += f64::from(u8::from(value.abs() < limit));
                }
            }
        }
    }

    /// Adds those of other patches.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        let own = self.frequencies.iter_mut().flatten();
        let own = own.chain(self.steps.iter_mut().flatten());
        let others = other.frequencies.iter().flatten();
        let other = others.chain(other.steps.iter().flatten());
        own.zip(other).for_each(|(own, other)| *own += other);
    }

    /// The estimator's input.
    pub fn features(&self) -> Vec<f32> {
        let blocks = self.count.max(1.0);
        let mut features = Vec::with_capacity(Self::FEATURES);
        for u in 1..BLOCK {
            for v in 0..=u {
                // Two frequencies, but on the diagonal.
                let count = blocks * if u == v { 1.0 } else { 2.0 };
                let [sum, below @ ..] = self.frequencies[u * BLOCK + v];
                features.push(libm::log(sum / count + LEAST) as f32);
                features.extend(below.map(|below| (below / count) as f32));
            }
        }
        for steps in self.steps {
            // Of each line of a patch, there is one edge less than blocks.
            let mean = |kind: usize, count: usize| {
                let lines = blocks * (BLOCK * BLOCK) as f64 / PATCH as f64;
                libm::log(steps[kind] / (lines * count as f64) + LEAST)
            };
            let other = mean(2, (BLOCK - 2) * PATCH / BLOCK);
            let edge = mean(0, PATCH / BLOCK - 1) - other;
            let middle = mean(1, PATCH / BLOCK) - other;
            features.extend([edge as f32, middle as f32]);
        }
        features
    }
}

/// The waves of the DCT.
fn basis() -> &'static [[f32; BLOCK]; BLOCK] {
    static BASIS: LazyLock<[[f32; BLOCK]; BLOCK]> = LazyLock::new(|| {
        std::array::from_fn(|u| {
            let scale = if u == 0 { 1.0 } else { 2.0 };
            std::array::from_fn(|x| {
                let angle = std::f64::consts::PI / BLOCK as f64 * (x as f64 + 0.5) * u as f64;
                (libm::sqrt(scale / BLOCK as f64) * libm::cos(angle)) as f32
            })
        })
    });
    &BASIS
}

/// A small network that estimates [`CodingDamage`] from the [`CodingStatistics`] of a picture: the
/// share of the weights for encoded video that restores it best. Trained by
/// `train/examples/coding_damage.rs`.
#[derive(Debug, Clone)]
pub struct DamageEstimator {
    /// Subtracted from the features, (features).
    mean: Tensor,
    hidden: Dense,
    head: Dense,
}

/// A fully connected layer.
#[derive(Debug, Clone)]
struct Dense {
    /// (1, out, in).
    weight: Tensor,
    /// (out).
    bias: Tensor,
}

impl Dense {
    fn new(vb: &VarBuilder, inputs: usize, outputs: usize) -> candle_core::Result<Self> {
        let weight = vb.get_with_hints((outputs, inputs), "weight", pytorch_uniform(inputs))?;
        Ok(Self {
            weight: weight.unsqueeze(0)?,
            bias: vb.get_with_hints(outputs, "bias", Init::Const(0.0))?,
        })
    }

    /// The result for one row, summed in order.
    fn row(&self, x: &[f64]) -> candle_core::Result<Vec<f64>> {
        let weights = self.weight.flatten_all()?.to_vec1::<f32>()?;
        let biases = self.bias.to_vec1::<f32>()?;
        let rows = weights.chunks_exact(x.len().max(1)).zip(biases);
        let sum = |(weights, bias): (&[f32], f32)| {
            let products = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
            f64::from(bias) + products.sum::<f64>()
        };
        Ok(rows.map(sum).collect())
    }

    /// (rows, in) to (rows, out).
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let products = x.unsqueeze(1)?.broadcast_mul(&self.weight)?;
        products.sum(2)?.broadcast_add(&self.bias)
    }
}

impl DamageEstimator {
    /// Reads (or, in training, creates) the weights.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape.
    pub fn new(vb: &VarBuilder) -> candle_core::Result<Self> {
        let features = CodingStatistics::FEATURES;
        Ok(Self {
            mean: vb.get_with_hints(features, "mean", Init::Const(0.0))?,
            hidden: Dense::new(&vb.pp("hidden"), features, HIDDEN)?,
            head: Dense::new(&vb.pp("head"), HIDDEN, 1)?,
        })
    }

    /// The built-in one.
    ///
    /// # Errors
    ///
    /// A build without the feature `builtin-weights`.
    pub fn builtin() -> Result<&'static Self> {
        static BUILT_IN: OnceCell<DamageEstimator> = OnceCell::new();
        BUILT_IN.get_or_try_init(|| {
            let file = &super::DAMAGE_ESTIMATOR;
            let bytes = file.bytes.ok_or_else(|| Error::MissingFeature {
                needed_for: format!("built-in {}", file.path),
                feature: "builtin-weights",
            })?;
            let vb = VarBuilder::from_slice_safetensors(bytes, DType::F32, &Device::Cpu);
            vb.and_then(|vb| Self::new(&vb)).map_err(Error::compute)
        })
    }

    /// The damage, 0 to 1, of pictures by their features, (pictures, features).
    ///
    /// # Errors
    ///
    /// Shapes that do not match.
    pub fn forward(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        let x = features.broadcast_sub(&self.mean)?;
        let x = self.hidden.forward(&x)?.relu()?;
        sigmoid(&self.head.forward(&x)?.squeeze(1)?)
    }

    /// As [`DamageEstimator::forward`], of one picture, with the same bits on every processor.
    fn of_features(&self, features: &[f32]) -> Result<f64, TensorError> {
        let mean = self.mean.to_vec1::<f32>()?;
        let x = features.iter().zip(&mean);
        let x: Vec<f64> = x.map(|(v, mean)| f64::from(v - mean)).collect();
        let hidden: Vec<f64> = self.hidden.row(&x)?.iter().map(|v| v.max(0.0)).collect();
        let logit: f64 = self.head.row(&hidden)?.iter().sum();
        Ok(1.0 / (1.0 + libm::exp(-logit)))
    }

    /// The damage of a frame, 0 to 1.
    ///
    /// # Errors
    ///
    /// No memory.
    pub fn estimate(&self, frame: &FrameRef<'_>) -> Result<f64> {
        let mut statistics = CodingStatistics::default();
        let mut patch = Vec::new();
        for (x, y) in places(frame.size()) {
            read_patch(frame, x, y, &mut patch);
            statistics.add_patch(&patch);
        }
        Ok(self.of_features(&statistics.features())?)
    }
}

/// The corners of the patches of a frame: as many across and down as its shape asks for,
/// evenly spread.
fn places((width, height): (usize, usize)) -> Vec<(usize, usize)> {
    let fit = |side: usize| (side / PATCH).max(1);
    let (mut across, mut down) = (fit(width), fit(height));
    while across * down > PATCHES {
        // The denser direction has fewer of them.
        match width * down < height * across {
            true if across > 1 => across -= 1,
            _ if down > 1 => down -= 1,
            _ => across -= 1,
        }
    }
    let spread = |side: usize, count: usize| {
        let room = side.saturating_sub(PATCH);
        (0..count).map(move |i| (2 * i + 1) * room / (2 * count) / GRID * GRID)
    };
    let rows = spread(height, down);
    rows.flat_map(|y| spread(width, across).map(move |x| (x, y)))
        .collect()
}

/// Reads the luma of a patch in units of 8 bit; its edges fill what lies outside of the frame.
fn read_patch(frame: &FrameRef<'_>, x: usize, y: usize, out: &mut Vec<f32>) {
    out.clear();
    let (width, height) = frame.size();
    let components = frame.format().components();
    let (red, blue) = frame.color().matrix.weights();
    let weights = match (frame.format().family(), components) {
        (Family::Rgb, [_, _, _, ..]) => vec![red, 1.0 - red - blue, blue],
        _ => vec![1.0],
    };
    let seen = PATCH.min(width - x);
    let mut row = vec![0.0; seen];
    for line in y..y + PATCH {
        let line = line.min(height - 1);
        let start = out.len();
        out.resize(start + PATCH, 0.0);
        let luma = &mut out[start..];
        for (component, weight) in components.iter().zip(&weights) {
            let component: &Component = component;
            frame.read_samples(component, line, x, &mut row);
            let scale = *weight as f32;
            (luma.iter_mut().zip(&row)).for_each(|(luma, v)| *luma += scale * v);
        }
        let edge = luma[seen - 1];
        luma[seen..].fill(edge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Color, PixelFormat};

    #[test]
    fn damage_has_steps() {
        let parsed = |text: &str| text.parse::<DamageSource>();
        assert_eq!(parsed("auto").unwrap(), DamageSource::Auto);
        assert_eq!(parsed("0").unwrap(), DamageSource::default());
        let third = CodingDamage::new(1.0 / 3.0).unwrap();
        assert_eq!(third.value(), 5.0 / 16.0);
        assert_eq!(parsed("0.3125").unwrap(), DamageSource::Fixed(third));
        for text in ["", "much", "-0.1", "1.01", "nan", "inf"] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains("damage"), "{error}");
        }
        for source in [DamageSource::Auto, DamageSource::Fixed(third)] {
            assert_eq!(parsed(&source.to_string()).unwrap(), source);
        }
    }

    #[test]
    fn patches_lie_on_the_grid_within_the_frame() {
        for size in [
            (1, 1),
            (63, 200),
            (64, 64),
            (176, 144),
            (640, 272),
            (3840, 2160),
            (16, 8000),
        ] {
            let places = places(size);
            assert!(
                (1..=PATCHES).contains(&places.len()),
                "{size:?}: {places:?}"
            );
            for &(x, y) in &places {
                assert_eq!((x % GRID, y % GRID), (0, 0));
                assert!(x + PATCH <= size.0.max(PATCH) && y + PATCH <= size.1.max(PATCH));
            }
        }
        assert!(places((1920, 1080)).len() > 24);
        assert!(places((640, 272)).len() > 24);
    }

    /// The luma of the patches of a frame of any format and size.
    #[test]
    fn patches_are_luma_whatever_the_format() {
        let gray: Vec<u8> = (0..40 * 50).map(|i| (i * 7 % 220 + 16) as u8).collect();
        let rgb: Vec<u8> = gray.iter().flat_map(|&v| [v; 3]).collect();
        let read = |format, data: &[u8], stride| {
            let color = Color::of_format(format);
            let frame = FrameRef::new(format, (40, 50), color, &[(data, stride)]).unwrap();
            let mut samples = Vec::new();
            read_patch(&frame, 0, 0, &mut samples);
            samples
        };
        let luma = read(PixelFormat::Gray8, &gray, 40);
        let of_rgb = read(PixelFormat::Rgb, &rgb, 120);
        assert_eq!(luma.len(), PATCH * PATCH);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3;
        assert!(luma.iter().zip(&of_rgb).all(near));
        assert_eq!(luma[PATCH + 39], luma[PATCH + 63]);
        assert_eq!(luma[49 * PATCH + 5], luma[63 * PATCH + 5]);
        assert_eq!(luma[3 * PATCH + 2], f32::from(gray[3 * 40 + 2]));
    }
}
