//! Samples in memory: the one place that knows how a value is stored.
//!
//! Values are in units of 8 bit: 255 is white in full range whatever the depth, and
//! 16 to 235 is luma in limited range. [`Quantization`] converts between them and
//! samples.

use super::format::Quantity;
use super::{Component, MAX_VALUE, Range};
#[cfg(target_arch = "x86_64")]
use crate::cpu_level::{Level, level};

/// The values of a component's samples: `value = sample * gain + offset`.
///
/// In limited range a step of `depth` bits is `2^(8 - depth)`, as in ITU-R BT.2100;
/// in full range, and for R, G, B and alpha, the largest sample is 255, and
/// the middle one of chroma is 128.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) gain: f32,
    pub(crate) offset: f32,
    /// Samples for a value of 1.
    pub(crate) inverse: f32,
    /// The largest sample.
    pub(crate) max: f32,
}

impl Quantization {
    fn new(depth: u32, quantity: Quantity, range: Range) -> Self {
        let max = (1_u32 << depth) - 1;
        let step = 2.0_f64.powi(8 - depth as i32);
        let limited = range == Range::Limited;
        let (gain, offset) = match quantity {
            Quantity::Luma | Quantity::Chroma if limited => (step, 0.0),
            Quantity::Chroma => {
                let gain = f64::from(MAX_VALUE) / f64::from(max);
                (gain, 128.0 - 128.0 / step * gain)
            }
            _ => (f64::from(MAX_VALUE) / f64::from(max), 0.0),
        };
        Self {
            gain: gain as f32,
            offset: offset as f32,
            inverse: (1.0 / gain) as f32,
            max: max as f32,
        }
    }

    /// The largest value that a sample can have.
    pub(crate) fn limit(&self) -> f32 {
        self.max * self.gain + self.offset
    }

    #[inline(always)]
    fn value(&self, sample: u32) -> f32 {
        sample as f32 * self.gain + self.offset
    }

    /// The value of the nearest sample.
    #[inline(always)]
    pub(crate) fn rounded(&self, value: f32) -> f32 {
        self.value(self.sample(value))
    }

    /// Rounds to the nearest sample; halves up, NaN to 0.
    #[inline(always)]
    fn sample(&self, value: f32) -> u32 {
        let sample = (value - self.offset) * self.inverse + 0.5;
        let sample = sample.max(0.0).min(self.max);
        // SAFETY: the value is finite, from 0 to the largest sample.
        unsafe { sample.to_int_unchecked::<i32>() as u32 }
    }
}

impl Component {
    /// The values of the samples of frames of a range.
    pub(crate) fn quantization(&self, range: Range) -> Quantization {
        Quantization::new(self.depth, self.quantity, range)
    }

    /// The value of black, or of no colour.
    pub(crate) fn zero(&self, range: Range) -> f32 {
        match (self.quantity, range) {
            (Quantity::Luma, Range::Limited) => 16.0,
            (Quantity::Chroma, _) => 128.0,
            _ => 0.0,
        }
    }

    /// The value of black, opaque.
    pub(crate) fn black(&self, range: Range) -> f32 {
        match self.quantity {
            Quantity::Alpha => MAX_VALUE,
            _ => self.zero(range),
        }
    }

    /// The value of white, or of no colour, opaque.
    pub(crate) fn white(&self, range: Range) -> f32 {
        match (self.quantity, range) {
            (Quantity::Luma, Range::Limited) => 235.0,
            (Quantity::Chroma, _) => 128.0,
            _ => MAX_VALUE,
        }
    }

    /// The bits of a sample in the low end of a word.
    pub(crate) fn mask(&self) -> u32 {
        u32::MAX >> (32 - self.depth)
    }

    /// Reads as many samples of a row of the plane as `values` holds, from sample
    /// `first` on.
    pub(crate) fn read_row(&self, of: &Quantization, row: &[u8], first: usize, values: &mut [f32]) {
        let start = match self.pattern {
            [] => self.offset + first * self.step,
            _ => 0,
        };
        let (words, mask) = (&row[start..], self.mask());
        match (self.word, self.pattern, self.step) {
            (1, [], 1) => {
                let pairs = values.iter_mut().zip(words);
                pairs.for_each(|(value, &sample)| *value = f32::from(sample));
            }
            (1, [], step) => {
                let pairs = values.iter_mut().zip(words.iter().step_by(step));
                pairs.for_each(|(value, &sample)| *value = f32::from(sample));
            }
            (2, [], 2) => {
                let (words, _) = words.as_chunks();
                for (value, &word) in values.iter_mut().zip(words) {
                    *value = of.value(u32::from(u16::from_le_bytes(word)) >> self.shift & mask);
                }
            }
            (2, [], step) => {
                for (value, word) in values.iter_mut().zip(words.chunks(step)) {
                    let word = u16::from_le_bytes([word[0], word[1]]);
                    *value = of.value(u32::from(word) >> self.shift & mask);
                }
            }
            _ => {
                for (i, value) in values.iter_mut().enumerate() {
                    let (at, shift) = self.place(first + i);
                    let word = read_word(&row[at..][..self.word]);
                    *value = of.value(word >> shift & mask);
                }
            }
        }
    }

    /// Rounds values to the samples of a row of the plane. Where samples share words
    /// ([`PixelFormat::is_bit_packed`](super::PixelFormat::is_bit_packed)), these
    /// have to be zero before the first of them is written.
    pub(crate) fn write_row(&self, of: &Quantization, values: &[f32], row: &mut [u8]) {
        let words = &mut row[self.offset..];
        match (self.word, self.pattern, self.step) {
            (1, [], 1) => round(values, words),
            (1, [], step) => {
                for (sample, &value) in words.iter_mut().step_by(step).zip(values) {
                    *sample = to_u8(value);
                }
            }
            (2, [], 2) => {
                let (words, _) = words.as_chunks_mut();
                round_words(of, self.shift, values, words);
            }
            (2, [], step) => {
                for (word, &value) in words.chunks_mut(step).zip(values) {
                    let sample = (of.sample(value) << self.shift) as u16;
                    word[..2].copy_from_slice(&sample.to_le_bytes());
                }
            }
            _ => {
                for (i, &value) in values.iter().enumerate() {
                    let (at, shift) = self.place(i);
                    let word = &mut row[at..][..self.word];
                    let all = read_word(word) | of.sample(value) << shift;
                    word.copy_from_slice(&all.to_le_bytes()[..self.word]);
                }
            }
        }
    }

    /// Sets the words of a row that lie behind its `count` samples to zero: those of the
    /// odd column in formats whose chroma samples have two columns of luma between
    /// them.
    pub(crate) fn clear_unused(&self, count: usize, row: &mut [u8]) {
        let unused = self.offset + count * self.step..;
        for word in row
            .get_mut(unused)
            .unwrap_or_default()
            .chunks_mut(self.step)
        {
            if let Some(word) = word.get_mut(..self.word) {
                word.fill(0);
            }
        }
    }

    /// Sets all samples of a row of the plane to the largest value.
    pub(crate) fn fill_row(&self, row: &mut [u8]) {
        let samples = row.iter_mut().skip(self.offset).step_by(self.step);
        samples.for_each(|sample| *sample = u8::MAX);
    }

    /// Rounds values, mapped by `clamped`, to samples from one on, where other threads may write other
    /// components of the same rows. Not for formats whose samples share words.
    ///
    /// # Safety
    ///
    /// `first` is the first byte of the sample's word, and all samples lie in memory
    /// that nobody else reads or writes.
    pub(crate) unsafe fn store(
        &self,
        of: &Quantization,
        first: *mut u8,
        values: &[f32],
        clamped: impl Fn(f32) -> f32 + Copy,
    ) {
        if self.step == 1 && self.word == 1 {
            // SAFETY: the caller's: the samples lie in memory, one behind the other.
            let out = unsafe { std::slice::from_raw_parts_mut(first, values.len()) };
            return round_mapped(values, out, clamped);
        }
        for (i, &value) in values.iter().enumerate() {
            let value = clamped(value);
            // SAFETY: the caller's: the sample lies in memory.
            unsafe {
                let word = first.add(i * self.step);
                match self.word {
                    1 => *word = to_u8(value),
                    _ => {
                        let sample = (of.sample(value) << self.shift) as u16;
                        word.cast::<[u8; 2]>().write_unaligned(sample.to_le_bytes());
                    }
                }
            }
        }
    }

    /// Bytes from the first byte of a sample's word to the end of the last of `count`.
    pub(crate) fn span(&self, count: usize) -> usize {
        match count {
            0 => 0,
            _ => (count - 1) * self.step + self.word,
        }
    }
}

/// A little-endian word of up to four bytes.
#[inline(always)]
fn read_word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Rounds to the nearest 8-bit sample value, 0 to 255.
#[inline]
pub fn to_u8(value: f32) -> u8 {
    // `as` saturates and maps NaN to 0; halves round up, as MATLAB rounds.
    (value + 0.5) as u8
}

/// [`to_u8`] of a row of values.
fn round(values: &[f32], out: &mut [u8]) {
    round_mapped(values, out, |value| value);
}

/// [`to_u8`] of what becomes of a row of values by `map`.
fn round_mapped(values: &[f32], out: &mut [u8], map: impl Fn(f32) -> f32 + Copy) {
    #[cfg(target_arch = "x86_64")]
    if let Ok(Level::Avx2 | Level::Avx512) = level() {
        // SAFETY: a chosen level is one that this machine can run.
        return unsafe { round_avx2(values, out, map) };
    }
    round_generic(values, out, map);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_avx2(values: &[f32], out: &mut [u8], map: impl Fn(f32) -> f32) {
    round_generic(values, out, map);
}

#[inline(always)]
#[expect(clippy::manual_clamp, reason = "clamp would pass NaN through")]
fn round_generic(values: &[f32], out: &mut [u8], map: impl Fn(f32) -> f32) {
    for (sample, &value) in out.iter_mut().zip(values) {
        // As `to_u8`, in a form that vectorises.
        let value = (map(value) + 0.5).max(0.0).min(255.0);
        // SAFETY: the value is finite, from 0 to 255.
        *sample = unsafe { value.to_int_unchecked::<i32>() } as u8;
    }
}

/// Samples of words of 16 bits.
fn round_words(of: &Quantization, shift: u32, values: &[f32], out: &mut [[u8; 2]]) {
    #[cfg(target_arch = "x86_64")]
    if let Ok(Level::Avx2 | Level::Avx512) = level() {
        // SAFETY: a chosen level is one that this machine can run.
        return unsafe { round_words_avx2(of, shift, values, out) };
    }
    round_words_generic(of, shift, values, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn round_words_avx2(of: &Quantization, shift: u32, values: &[f32], out: &mut [[u8; 2]]) {
    round_words_generic(of, shift, values, out);
}

#[inline(always)]
fn round_words_generic(of: &Quantization, shift: u32, values: &[f32], out: &mut [[u8; 2]]) {
    for (word, &value) in out.iter_mut().zip(values) {
        *word = ((of.sample(value) << shift) as u16).to_le_bytes();
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
    fn every_sample_of_every_depth_survives() {
        for (depth, quantity) in [8, 10, 12, 16].into_iter().flat_map(|depth| {
            [Quantity::Luma, Quantity::Chroma, Quantity::Primary].map(|quantity| (depth, quantity))
        }) {
            for range in [Range::Limited, Range::Full] {
                let of = Quantization::new(depth, quantity, range);
                for sample in 0..1_u32 << depth {
                    assert_eq!(
                        of.sample(of.value(sample)),
                        sample,
                        "{depth} {quantity:?} {range:?}"
                    );
                }
                assert_eq!(of.sample(f32::NAN), 0);
                assert_eq!(of.sample(-9.0), 0);
                assert_eq!(of.sample(300.0), (1 << depth) - 1);
            }
        }
    }

    #[test]
    fn values_are_in_units_of_8_bit() {
        let value = |depth, quantity, range, sample| {
            Quantization::new(depth, quantity, range).value(sample)
        };
        let (limited, full) = (Range::Limited, Range::Full);
        for (depth, black, white, middle, max) in [
            (8, 16, 235, 128, 255),
            (10, 64, 940, 512, 1023),
            (12, 256, 3760, 2048, 4095),
        ] {
            assert_eq!(value(depth, Quantity::Luma, limited, black), 16.0);
            assert_eq!(value(depth, Quantity::Luma, limited, white), 235.0);
            assert_eq!(value(depth, Quantity::Luma, full, max), 255.0);
            for range in [limited, full] {
                assert_eq!(value(depth, Quantity::Chroma, range, middle), 128.0);
                assert_eq!(value(depth, Quantity::Alpha, range, max), 255.0);
                assert_eq!(value(depth, Quantity::Primary, range, max), 255.0);
            }
        }
    }

    #[test]
    fn a_span_ends_with_its_last_sample() {
        let blue = PixelFormat::Rgb.components()[2];
        assert_eq!([0, 1, 2].map(|count| blue.span(count)), [0, 1, 4]);
    }
}
