//! Samples in memory: the one place that knows how a value is stored.
//!
//! Values are in units of 8 bit, 0 to [`MAX_VALUE`](super::MAX_VALUE), whatever
//! the depth of the samples.

use super::Component;
#[cfg(target_arch = "x86_64")]
use crate::cpu_level::{Level, level};

impl Component {
    /// Reads as many samples of a row of the plane as `values` holds.
    pub(super) fn read_row(&self, row: &[u8], values: &mut [f32]) {
        let samples = &row[self.offset..];
        if self.step == 1 {
            let pairs = values.iter_mut().zip(samples);
            pairs.for_each(|(value, &sample)| *value = f32::from(sample));
        } else {
            let pairs = values.iter_mut().zip(samples.iter().step_by(self.step));
            pairs.for_each(|(value, &sample)| *value = f32::from(sample));
        }
    }

    /// Rounds values to the samples of a row of the plane.
    pub(crate) fn write_row(&self, values: &[f32], row: &mut [u8]) {
        let samples = &mut row[self.offset..];
        if self.step == 1 {
            return round(values, samples);
        }
        for (sample, &value) in samples.iter_mut().step_by(self.step).zip(values) {
            *sample = to_u8(value);
        }
    }

    /// Sets all samples of a row of the plane to the largest value.
    pub(crate) fn fill_row(&self, row: &mut [u8]) {
        let samples = row.iter_mut().skip(self.offset).step_by(self.step);
        samples.for_each(|sample| *sample = u8::MAX);
    }

    /// Rounds values to samples from one on, where other threads may write other
    /// components of the same rows.
    ///
    /// # Safety
    ///
    /// `first` is the sample's first byte, and all samples lie in memory that
    /// nobody else reads or writes.
    pub(crate) unsafe fn store(&self, first: *mut u8, values: impl Iterator<Item = f32>) {
        for (i, value) in values.enumerate() {
            // SAFETY: the caller's: the sample lies in memory.
            unsafe { *first.add(i * self.step) = to_u8(value) }
        }
    }

    /// Bytes from the first byte of a sample to the end of the last of `count`.
    pub(crate) fn span(&self, count: usize) -> usize {
        match count {
            0 => 0,
            _ => (count - 1) * self.step + 1,
        }
    }
}

/// Rounds to the nearest 8-bit sample value, 0 to 255.
#[inline]
pub fn to_u8(value: f32) -> u8 {
    // `as` saturates and maps NaN to 0; halves round up, as MATLAB rounds.
    (value + 0.5) as u8
}

/// [`to_u8`] of a row of values.
fn round(values: &[f32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if let Ok(Level::Avx2 | Level::Avx512) = level() {
        // SAFETY: a chosen level is one that this machine can run.
        return unsafe { round_avx2(values, out) };
    }
    round_generic(values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_avx2(values: &[f32], out: &mut [u8]) {
    round_generic(values, out);
}

#[inline(always)]
#[expect(clippy::manual_clamp, reason = "clamp would pass NaN through")]
fn round_generic(values: &[f32], out: &mut [u8]) {
    for (sample, &value) in out.iter_mut().zip(values) {
        // As `to_u8`, in a form that vectorises.
        let value = (value + 0.5).max(0.0).min(255.0);
        // SAFETY: the value is finite, from 0 to 255.
        *sample = unsafe { value.to_int_unchecked::<i32>() } as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    #[test]
    fn rounds_halves_up_and_saturates() {
        let values = [-3.0, 0.49, 0.5, 254.5, 300.0, f32::NAN];
        let rounded = values.map(to_u8);
        let mut row = [7; 6];
        round(&values, &mut row);
        assert_eq!(row, rounded);
        assert_eq!(rounded, [0, 0, 1, 255, 255, 0]);
    }

    #[test]
    fn a_span_ends_with_its_last_sample() {
        let blue = PixelFormat::Rgb.components()[2];
        assert_eq!([0, 1, 2].map(|count| blue.span(count)), [0, 1, 4]);
    }
}
