//! Four channels, whose samples are a word.

use crate::chain::quantized::Requantize;

/// Channels of a word.
pub(crate) const QUAD: usize = 4;

/// [`Requantize`] of the four channels of a word, in the order of vectors.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct RequantizeQuad {
    /// Four times the multiplier of the first channel, then of the others.
    pub(crate) positive: [i16; 4 * QUAD],
    /// The same for negative values.
    pub(crate) negative: [i16; 4 * QUAD],
    pub(crate) bias: [i32; QUAD],
    pub(crate) shift: [i32; QUAD],
    /// Sums of the channels' weights.
    pub(crate) weight_sums: [i32; QUAD],
    /// Whether negative values become 0, and 0 is the sample 0.
    pub(crate) is_relu: bool,
}

impl RequantizeQuad {
    /// Four channels with the sums of their weights; `zero` is the sample of 0.
    pub(crate) fn new(channels: [(Requantize, i32); QUAD], zero: u8) -> Self {
        let spread = |of: fn(&Requantize) -> i16| std::array::from_fn(|i| of(&channels[i / 4].0));
        let negative = spread(|channel| channel.negative);
        Self {
            positive: spread(|channel| channel.positive),
            negative,
            bias: channels.map(|(channel, _)| channel.bias),
            shift: channels.map(|(channel, _)| channel.shift),
            weight_sums: channels.map(|(_, sum)| sum),
            is_relu: zero == 0 && negative.iter().all(|&factor| factor == 0),
        }
    }
}
