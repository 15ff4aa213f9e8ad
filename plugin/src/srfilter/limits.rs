//! The limit that the property `max-pixels` sets.

use super::switching::Infos;

/// Why frames of these formats are refused, if they are.
pub(super) fn refusal(infos: &Infos, max_pixels: u64) -> Option<String> {
    let (width, height) = (infos.output.width(), infos.output.height());
    let pixels = u64::from(width) * u64::from(height);
    (max_pixels > 0 && pixels > max_pixels).then(|| {
        format!(
            "the output would have {width}x{height} = {pixels} pixels, and max-pixels={max_pixels}: \
             use a smaller scale or input, fix a smaller size downstream, or raise max-pixels"
        )
    })
}
