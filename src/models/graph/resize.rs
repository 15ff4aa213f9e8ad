//! Resampling, as ONNX Runtime computes it.

use super::config::{Coordinates, ResizeMode, ResizeSettings, Rounding};
use crate::ops::select;
use candle_core::{Result, Tensor, bail};

/// The length of an axis before and after, and samples of the result for one of the
/// source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) scale: f32,
    /// Start and end of the part that is resampled, as shares of the axis.
    pub(super) part: [f32; 2],
}

/// The sources of each sample of the result, tap by tap, with their weights.
struct Taps {
    indices: Vec<Vec<u32>>,
    weights: Vec<Vec<f32>>,
    /// What is added.
    constant: Option<Vec<f32>>,
}

/// Resamples one axis.
pub(super) fn along(
    x: &Tensor,
    axis: usize,
    lengths: Lengths,
    settings: &ResizeSettings,
) -> Result<Tensor> {
    if lengths.from == 0 || lengths.to == 0 || lengths.scale.is_nan() || lengths.scale <= 0.0 {
        bail!(
            "an axis of {} samples resized to {}",
            lengths.from,
            lengths.to
        )
    }
    let taps = taps(lengths, settings);
    let mut shape = vec![1; x.rank()];
    shape[axis] = lengths.to;
    let tensor = |values: &Vec<f32>| Tensor::from_slice(values, shape.as_slice(), x.device());
    let mut sum: Option<Tensor> = None;
    for (indices, weights) in taps.indices.iter().zip(&taps.weights) {
        let samples = select(x, axis, indices)?;
        let samples = match weights.iter().all(|&weight| weight == 1.0) {
            true => samples,
            false => samples.broadcast_mul(&tensor(weights)?)?,
        };
        sum = Some(match sum {
            Some(sum) => (sum + samples)?,
            None => samples,
        });
    }
    match (sum, taps.constant) {
        (Some(sum), Some(constant)) => sum.broadcast_add(&tensor(&constant)?),
        (Some(sum), None) => Ok(sum),
        (None, _) => bail!("a resampling without samples"),
    }
}

/// The position in the source of sample `i` of the result.
fn position(i: usize, lengths: Lengths, coordinates: Coordinates) -> f32 {
    let (from, to) = (lengths.from as f32, lengths.to as f32);
    let (i, scale, [start, end]) = (i as f32, lengths.scale, lengths.part);
    match coordinates {
        Coordinates::HalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = to / (scale * from);
            let offset = from / 2.0 * (1.0 - adjustment);
            offset + (i + 0.5) / scale - 0.5
        }
        Coordinates::PytorchHalfPixel if lengths.to == 1 => 0.0,
        Coordinates::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if lengths.to == 1 => 0.0,
        Coordinates::AlignCorners => i * (from - 1.0) / (to - 1.0),
        Coordinates::Asymmetric => i / scale,
        Coordinates::TfCropAndResize if lengths.to == 1 => 0.5 * (start + end) * (from - 1.0),
        Coordinates::TfCropAndResize => {
            start * (from - 1.0) + i * (end - start) * (from - 1.0) / (to - 1.0)
        }
    }
}

fn taps(lengths: Lengths, settings: &ResizeSettings) -> Taps {
    let last = lengths.from as i64 - 1;
    let cubic = |x: f32| keys(x, settings.cubic);
    let triangle = |x: f32| (1.0 - x.abs()).max(0.0);
    let shrink = match settings.antialias && lengths.scale < 1.0 {
        true => 1.0 / lengths.scale,
        false => 1.0,
    };
    // The taps of each sample: an index, not clamped, and its weight.
    let window = |position: f32| -> Vec<(i64, f32)> {
        let (kernel, support): (&dyn Fn(f32) -> f32, f32) = match settings.mode {
            ResizeMode::Nearest(rounding) => {
                let down = libm::floorf(position);
                let nearest = match rounding {
                    Rounding::PreferFloor if position == down + 0.5 => down,
                    Rounding::PreferFloor | Rounding::PreferCeil => libm::floorf(position + 0.5),
                    Rounding::Floor => down,
                    Rounding::Ceil => libm::ceilf(position),
                };
                return vec![(nearest as i64, 1.0)];
            }
            ResizeMode::Linear => (&triangle, 1.0),
            ResizeMode::Cubic => (&cubic, 2.0),
        };
        if settings.antialias {
            let (center, support) = (position + 0.5, support * shrink);
            let first = libm::floorf(center - support + 0.5) as i64;
            let end = libm::floorf(center + support + 0.5) as i64;
            let weight = |i: i64| kernel((i as f32 - center + 0.5) / shrink);
            return (first..end).map(|i| (i, weight(i))).collect();
        }
        let position = match settings.mode {
            ResizeMode::Linear => position.clamp(0.0, last as f32),
            _ => position,
        };
        let down = libm::floorf(position) as i64;
        let reach = support as i64;
        let weight = |i: i64| kernel(position - i as f32);
        ((down - reach + 1)..=(down + reach))
            .map(|i| (i, weight(i)))
            .collect()
    };
    let crops = settings.coordinates == Coordinates::TfCropAndResize;
    let mut constant = crops.then(Vec::new);
    let mut rows: Vec<Vec<(u32, f32)>> = Vec::with_capacity(lengths.to);
    for i in 0..lengths.to {
        let position = position(i, lengths, settings.coordinates);
        let outside = crops && !(0.0..=last as f32).contains(&position);
        if let Some(constant) = &mut constant {
            constant.push(if outside { settings.extrapolation } else { 0.0 });
        }
        let mut row = window(position);
        let inside = |&(i, _): &(i64, f32)| (0..=last).contains(&i);
        if settings.exclude_outside && !matches!(settings.mode, ResizeMode::Nearest(_)) {
            row.retain(inside);
        }
        let sum: f32 = row.iter().map(|(_, weight)| weight).sum();
        if settings.exclude_outside || settings.antialias {
            row.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        if outside {
            row.iter_mut().for_each(|(_, weight)| *weight = 0.0);
        }
        let clamped = row
            .into_iter()
            .map(|(i, weight)| (i.clamp(0, last) as u32, weight));
        rows.push(clamped.collect());
    }
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let column = |tap: usize| {
        rows.iter()
            .map(move |row| row.get(tap).copied().unwrap_or((0, 0.0)))
    };
    Taps {
        indices: (0..count)
            .map(|tap| column(tap).map(|t| t.0).collect())
            .collect(),
        weights: (0..count)
            .map(|tap| column(tap).map(|t| t.1).collect())
            .collect(),
        constant,
    }
}

/// The cubic convolution kernel.
///
/// Robert Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981.
fn keys(x: f32, a: f32) -> f32 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}
