//! Caps negotiation: the sizes of one pad from those of the other.

use super::scan;
use gst::glib;
use gst::prelude::*;
use srfilter::Scale;

/// Largest width and height, in pixels. Both at once are what the engine takes
/// ([`MAX_PIXELS`](srfilter::engine::MAX_PIXELS)).
pub(super) const MAX_SIDE: i32 = 1 << 15;
const _: () = assert!((MAX_SIDE as usize).pow(2) <= srfilter::engine::MAX_PIXELS);

/// The factor for `scale=0/1` if downstream does not fix the size.
const DEFAULT_FACTOR: Scale = Scale::whole(2);

/// The value of the property `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetScale {
    /// Derived from the size that downstream requests.
    Downstream,
    /// A factor.
    Factor(Scale),
}

impl TargetScale {
    pub(super) fn from_fraction(value: gst::Fraction) -> Self {
        let side = |n: i32| u32::try_from(n).unwrap_or(0);
        match Scale::new(side(value.numer()), side(value.denom())) {
            Ok(scale) => Self::Factor(scale),
            Err(_) => Self::Downstream,
        }
    }

    /// The property's value.
    pub(super) fn to_fraction(self) -> gst::Fraction {
        let side = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        match self {
            Self::Downstream => gst::Fraction::new(0, 1),
            Self::Factor(scale) => gst::Fraction::new(side(scale.num()), side(scale.den())),
        }
    }

    /// The factor for sizes that are not fixed.
    fn factor_or_default(self) -> Scale {
        match self {
            Self::Downstream => DEFAULT_FACTOR,
            Self::Factor(scale) => scale,
        }
    }

    /// The output size that the factor leads to, if a side is longer than a frame's may
    /// be.
    pub(super) fn beyond_limit(self, (width, height): (u32, u32)) -> Option<(usize, usize)> {
        let Self::Factor(scale) = self else {
            return None;
        };
        let size = (scale.apply(width as usize), scale.apply(height as usize));
        (size.0.max(size.1) > MAX_SIDE as usize).then_some(size)
    }

    /// The network's factor between two sizes.
    pub(super) fn between(self, from: (usize, usize), to: (usize, usize)) -> Scale {
        match self {
            Self::Factor(scale) => scale,
            Self::Downstream => {
                let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let ratio = |to, from| Scale::new(side(to), side(from)).unwrap_or(Scale::ONE);
                ratio(to.0, from.0).max(ratio(to.1, from.1)).min(Scale::MAX)
            }
        }
    }
}

/// The value of the property `even-size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstSrFilterEvenSize")]
pub enum EvenSize {
    /// As the input: an even side of 4:2:0 video stays even.
    #[default]
    #[enum_value(name = "Even sides of 4:2:0 video stay even", nick = "auto")]
    Auto,
    /// Always even.
    #[enum_value(name = "All sides are even", nick = "on")]
    On,
    /// As the scale says.
    #[enum_value(name = "Sides may be odd", nick = "off")]
    Off,
}

/// The scaling of a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizing {
    scale: Scale,
    /// Off, or on for all lengths, or for even ones.
    even: EvenSize,
}

/// The formats of 4:2:0 video, whose sides many encoders want to be even.
fn is_420(format: &str) -> bool {
    let format = gst_video::VideoFormat::from_string(format);
    if format == gst_video::VideoFormat::Unknown {
        return false;
    }
    let info = gst_video::VideoFormatInfo::from_format(format);
    info.is_yuv() && info.n_components() > 2 && (info.w_sub()[1], info.h_sub()[1]) == (1, 1)
}

/// The caps feature of frames in a GPU's memory.
pub(super) const CUDA: &str = "memory:CUDAMemory";

impl Sizing {
    /// A length times the factor.
    fn forward(self, length: i32) -> i32 {
        match self.even {
            EvenSize::On => self.forward_even(length),
            EvenSize::Auto if length % 2 == 0 => self.forward_even(length),
            _ => self.forward_exact(length),
        }
    }

    fn forward_exact(self, length: i32) -> i32 {
        let scaled = self.scale.apply(usize::try_from(length).unwrap_or(0));
        i32::try_from(scaled).unwrap_or(i32::MAX)
    }

    /// The even length that is nearest to a length times the factor.
    fn forward_even(self, length: i32) -> i32 {
        let (num, den) = (i64::from(self.scale.num()), i64::from(self.scale.den()));
        let pairs = (i64::from(length.max(0)) * num + den) / (2 * den);
        i32::try_from(2 * pairs.max(1)).unwrap_or(i32::MAX)
    }

    /// The range of lengths that map into `low..=high`; with [`EvenSize::Auto`], also
    /// those in between that do not.
    fn backward(self, low: i32, high: i32) -> Option<(i32, i32)> {
        let exact = backward(low, high, |length| self.forward_exact(length));
        let even = backward(low, high, |length| self.forward_even(length));
        match (self.even, exact, even) {
            (EvenSize::Off, exact, _) => exact,
            (EvenSize::On, _, even) => even,
            (EvenSize::Auto, Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (EvenSize::Auto, a, b) => a.or(b),
        }
    }

    /// Maps bounds of one dimension to the other pad; `None` if no length fits.
    fn map_bounds(self, low: i32, high: i32, inverse: bool) -> Option<(i32, i32)> {
        if inverse {
            return self.backward(low, high);
        }
        let (low, high) = match low == high {
            true => (self.forward(low), self.forward(low)),
            false => {
                let both = |n| [self.forward(n), self.forward_exact(n)];
                let (low, high) = (both(low.max(1)), both(high));
                (low[0].min(low[1]), high[0].max(high[1]))
            }
        };
        (low <= MAX_SIDE).then_some((low, high.min(MAX_SIDE)))
    }
}

/// The range of lengths that a monotonic function maps into `low..=high`.
fn backward(low: i32, high: i32, forward: impl Fn(i32) -> i32) -> Option<(i32, i32)> {
    // Binary search for the first length that reaches a bound.
    let first_reaching = |bound: i32| {
        let (mut below, mut reached) = (0, MAX_SIDE + 1);
        while reached - below > 1 {
            let middle = below + (reached - below) / 2;
            if forward(middle) >= bound {
                reached = middle;
            } else {
                below = middle;
            }
        }
        reached
    };
    let first = first_reaching(low);
    let last = high
        .checked_add(1)
        .map_or(MAX_SIDE, |above| first_reaching(above) - 1);
    (first <= last && first <= MAX_SIDE).then_some((first, last.min(MAX_SIDE)))
}

/// The bounds of a caps dimension that is a number or a range.
fn bounds(value: &glib::SendValue) -> Option<(i32, i32)> {
    if let Ok(range) = value.get::<gst::IntRange<i32>>() {
        return Some((range.min(), range.max()));
    }
    value.get::<i32>().ok().map(|length| (length, length))
}

/// The caps dimension with these bounds.
fn dimension((low, high): (i32, i32)) -> glib::SendValue {
    if low == high {
        low.to_send_value()
    } else {
        gst::IntRange::new(low, high).to_send_value()
    }
}

/// Maps a caps dimension (a number, a range or a list) to the other pad.
fn map_dimension(
    value: &glib::SendValue,
    sizing: Sizing,
    inverse: bool,
) -> Option<glib::SendValue> {
    let map = |value| {
        let (low, high) = bounds(value)?;
        sizing.map_bounds(low, high, inverse)
    };
    let Ok(list) = value.get::<gst::List>() else {
        return map(value).map(dimension);
    };
    let mapped: Vec<_> = list.iter().filter_map(map).collect();
    let low = mapped.iter().map(|bounds| bounds.0).min()?;
    let high = mapped.iter().map(|bounds| bounds.1).max()?;
    if mapped.iter().all(|(low, high)| low == high) {
        let lengths = mapped.iter().map(|bounds| bounds.0);
        return Some(gst::List::new(lengths).to_send_value());
    }
    // GStreamer 1.22 takes ranges in lists for numbers when it compares them, with
    // critical messages: here, one range includes all.
    Some(dimension((low, high)))
}

/// Structures with their sizes mapped exactly; none if no size fits. Where formats
/// that scale differently are in one list, two.
fn exact(
    s: &gst::StructureRef,
    (scale, even): (Scale, EvenSize),
    inverse: bool,
) -> Vec<gst::Structure> {
    let names: Vec<String> = match (s.get::<&str>("format"), s.get::<gst::List>("format")) {
        (Ok(name), _) => vec![name.to_owned()],
        (_, Ok(list)) => list.iter().filter_map(|name| name.get().ok()).collect(),
        _ => Vec::new(),
    };
    if even != EvenSize::Auto || names.is_empty() {
        // Without a format, nothing is known about it.
        let even = if even == EvenSize::On {
            even
        } else {
            EvenSize::Off
        };
        return mapped(s.to_owned(), Sizing { scale, even }, inverse)
            .into_iter()
            .collect();
    }
    let (subsampled, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| is_420(name));
    [(subsampled, EvenSize::Auto), (others, EvenSize::Off)]
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .filter_map(|(names, even)| {
            let mut s = s.to_owned();
            match names.as_slice() {
                [name] => s.set("format", name.as_str()),
                names => s.set("format", gst::List::new(names.iter().map(|n| n.as_str()))),
            }
            mapped(s, Sizing { scale, even }, inverse)
        })
        .collect()
}

/// A structure with its sizes mapped; `None` if no size fits.
fn mapped(mut s: gst::Structure, sizing: Sizing, inverse: bool) -> Option<gst::Structure> {
    for field in ["width", "height"] {
        if let Ok(value) = s.value(field) {
            let mapped = map_dimension(value, sizing, inverse)?;
            s.set_value(field, mapped);
        }
    }
    Some(s)
}

/// A structure that admits any size and any pixel aspect ratio.
fn any_size(s: &gst::StructureRef) -> gst::Structure {
    let mut s = s.to_owned();
    for field in ["width", "height"] {
        s.set(field, gst::IntRange::new(1, MAX_SIDE));
    }
    if s.has_field("pixel-aspect-ratio") {
        let (low, high) = (
            gst::Fraction::new(1, i32::MAX),
            gst::Fraction::new(i32::MAX, 1),
        );
        s.set("pixel-aspect-ratio", gst::FractionRange::new(low, high));
    }
    s
}

/// The caps of the other pad: exactly scaled sizes first, then any size.
pub(super) fn transform(
    direction: gst::PadDirection,
    caps: &gst::Caps,
    target: TargetScale,
    even: EvenSize,
) -> gst::Caps {
    let inverse = direction == gst::PadDirection::Src;
    let mut result = gst::Caps::new_empty();
    let out = result.make_mut();
    if let TargetScale::Factor(scale) = target {
        for (s, features) in caps.iter_with_features() {
            for s in exact(s, (scale, even), inverse) {
                out.append_structure_full(s, Some(features.to_owned()));
            }
        }
    }
    for (s, features) in caps.iter_with_features() {
        result.merge_structure_full(any_size(s), Some(features.to_owned()));
    }
    // Equal sizes may pass through, interlaced or not.
    match target {
        TargetScale::Factor(scale) if scale != Scale::ONE => scan::transform(direction, &result),
        _ => result,
    }
}

/// Removes caps of frames in GPU memory.
pub(super) fn keep_on_host(caps: &mut gst::Caps) {
    let host = |features: &gst::CapsFeaturesRef| !features.contains(CUDA);
    *caps = caps
        .iter_with_features()
        .filter(|(_, features)| host(features))
        .map(|(s, features)| (s.to_owned(), features.to_owned()))
        .collect();
}

/// Fixates the size of the other pad: the exactly scaled one, or the nearest
/// allowed one that keeps the display aspect ratio.
pub(super) fn fixate(
    direction: gst::PadDirection,
    caps: &gst::Caps,
    mut others: gst::Caps,
    target: TargetScale,
    even: EvenSize,
) -> gst::Caps {
    let size = |s: &gst::StructureRef| {
        let side = |field| s.get::<i32>(field).ok().filter(|&v| v > 0);
        Some((side("width")?, side("height")?))
    };
    let Some((s, (width, height))) = caps.structure(0).and_then(|s| Some((s, size(s)?))) else {
        others.truncate();
        return others;
    };
    let target = target.factor_or_default();
    let inverse = direction == gst::PadDirection::Src;
    let factor = if inverse {
        1.0 / target.factor()
    } else {
        target.factor()
    };
    let exact = exact(s, (target, even), inverse).into_iter().next();
    keep_best(&mut others, exact);
    let Some(other) = others.make_mut().structure_mut(0) else {
        return others;
    };
    let par = PixelAspectRatio::of(s);
    // If the pixel aspect ratio is fixed, the size compensates for it.
    let pinned = other.get::<gst::Fraction>("pixel-aspect-ratio").is_ok();
    let stretch = match pinned {
        true => par.ratio() / PixelAspectRatio::of(other).ratio(),
        false => 1.0,
    };
    let (target_width, target_height) = fit(other, (width, height), factor, stretch);
    for (field, length) in [("width", target_width), ("height", target_height)] {
        if let Some(length) = nearest(other, field, length) {
            other.set(field, length);
        }
    }
    if let Some(fixated) = size(other) {
        par.fixate(other, (width, height), fixated);
    }
    others
}

/// Keeps only the first structure that admits the exact size, else the first one.
fn keep_best(others: &mut gst::Caps, exact: Option<gst::Structure>) {
    let best = exact.and_then(|exact| {
        let admits = |s: &gst::StructureRef| {
            ["width", "height"].into_iter().all(|field| {
                let (Ok(a), Ok(b)) = (s.value(field), exact.value(field)) else {
                    return true;
                };
                a.intersect(b).is_some()
            })
        };
        others.iter().position(admits)
    });
    for _ in 0..best.unwrap_or(0) {
        others.make_mut().remove_structure(0);
    }
    others.truncate();
}

/// The allowed size nearest to `size` times `factor`, with the width multiplied
/// by `stretch`. A limit of one dimension scales the other as well.
fn fit(s: &gst::StructureRef, size: (i32, i32), factor: f64, stretch: f64) -> (i32, i32) {
    let mut factor = factor;
    let size = (f64::from(size.0) * stretch, f64::from(size.1));
    let scaled = |length: f64, factor: f64| (length * factor).round().max(1.0) as i32;
    for (field, length) in [("width", size.0), ("height", size.1)] {
        let target = scaled(length, factor);
        if let Some(allowed) = nearest(s, field, target).filter(|&allowed| allowed != target) {
            factor = f64::from(allowed) / length;
        }
    }
    (scaled(size.0, factor), scaled(size.1, factor))
}

/// The allowed value of a dimension that is nearest to `target`. GStreamer's own
/// `fixate_field_nearest_int` knows neither ranges in lists nor steps
/// (findings/fixate-nearest-ranges.sh).
fn nearest(s: &gst::StructureRef, field: &str, target: i32) -> Option<i32> {
    fn of_value(value: &glib::Value, target: i32) -> Option<i32> {
        if let Ok(list) = value.get::<gst::List>() {
            let lengths = list.iter().filter_map(|value| of_value(value, target));
            return lengths.min_by_key(|length| length.abs_diff(target));
        }
        let Ok(range) = value.get::<gst::IntRange<i32>>() else {
            return value.get().ok();
        };
        let (low, high) = (range.min(), range.max());
        let target = target.clamp(low, high);
        let below = target - target % range.step();
        let allowed = [below, below.saturating_add(range.step())].into_iter();
        allowed
            .filter(|length| (low..=high).contains(length))
            .min_by_key(|length| length.abs_diff(target))
    }
    of_value(s.value(field).ok()?, target)
}

/// A pixel aspect ratio.
struct PixelAspectRatio(gst::Fraction);

impl PixelAspectRatio {
    fn of(s: &gst::StructureRef) -> Self {
        let ratio = s.get::<gst::Fraction>("pixel-aspect-ratio");
        Self(ratio.unwrap_or_else(|_| gst::Fraction::new(1, 1)))
    }

    fn ratio(&self) -> f64 {
        f64::from(self.0.numer()) / f64::from(self.0.denom())
    }

    /// Fixates the pixel aspect ratio that keeps the display aspect ratio at
    /// the new size.
    fn fixate(&self, s: &mut gst::StructureRef, from: (i32, i32), to: (i32, i32)) {
        let product = |a: i32, b: i32, c: i32| i128::from(a) * i128::from(b) * i128::from(c);
        let numer = product(self.0.numer(), from.0, to.1);
        let denom = product(self.0.denom(), from.1, to.0);
        let exact = fraction(numer, denom).unwrap_or(self.0);
        // Rounding the size by less than a pixel does not change the ratio.
        let drift = f64::from(exact.numer()) * f64::from(self.0.denom())
            / (f64::from(exact.denom()) * f64::from(self.0.numer()));
        let pixel = 1.0 / f64::from(to.0.min(to.1));
        let target = if (drift - 1.0).abs() <= pixel {
            self.0
        } else {
            exact
        };
        if s.has_field("pixel-aspect-ratio") {
            s.fixate_field_nearest_fraction("pixel-aspect-ratio", target);
        } else if target != gst::Fraction::new(1, 1) {
            s.set("pixel-aspect-ratio", target);
        }
    }
}

/// A fraction in lowest terms; `None` on overflow.
fn fraction(numer: i128, denom: i128) -> Option<gst::Fraction> {
    let (mut a, mut b) = (numer, denom);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let part = |n: i128| i32::try_from(n.checked_div(a)?).ok().filter(|&n| n > 0);
    Some(gst::Fraction::new(part(numer)?, part(denom)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(text: &str) -> Scale {
        text.parse().unwrap()
    }

    #[test]
    fn preimages_are_exactly_those_that_map_back() {
        for text in ["2", "3", "3/2", "5/2", "7/3", "16", "2/3"] {
            let sizing = Sizing {
                scale: scale(text),
                even: EvenSize::Off,
            };
            for (low, high) in [(1, 1), (641, 641), (642, 642), (100, 131), (7, MAX_SIDE)] {
                let inside: Vec<i32> = (1..=1000)
                    .filter(|&n| (low..=high).contains(&sizing.forward(n)))
                    .collect();
                let found: Vec<i32> = sizing
                    .backward(low, high)
                    .map(|(a, b)| (a..=b.min(1000)).collect())
                    .unwrap_or_default();
                assert_eq!(found, inside, "{text} {low}..={high}");
            }
        }
        let double = Sizing {
            scale: scale("2"),
            even: EvenSize::Off,
        };
        assert_eq!(double.backward(641, 641), None);
        assert_eq!(double.backward(1, i32::MAX), Some((1, MAX_SIDE)));
    }

    #[test]
    fn even_sides_stay_even() {
        let sizing = |text: &str, even| Sizing {
            scale: scale(text),
            even,
        };
        use EvenSize::{Auto, Off, On};
        for (text, even, length, expected) in [
            ("3/2", Auto, 50, 76),
            ("3/2", Auto, 51, 77),
            ("3/2", Off, 50, 75),
            ("3/2", On, 51, 76),
            ("4/3", Auto, 640, 854),
            ("2", Auto, 321, 642),
            ("1/3", On, 2, 2),
        ] {
            assert_eq!(
                sizing(text, even).forward(length),
                expected,
                "{text} {even:?}"
            );
        }
        for even in [Auto, On] {
            let sizing = sizing("3/2", even);
            for length in 1..300 {
                let out = sizing.forward(length);
                let (low, high) = sizing.backward(out, out).unwrap();
                assert!((low..=high).contains(&length), "{length} {even:?}");
            }
        }
    }

    #[test]
    fn only_420_is_even_by_itself() {
        gst::init().unwrap();
        let caps = |format: &str| {
            let caps = gst::Caps::builder("video/x-raw").field("format", format);
            caps.field("width", 50).field("height", 38).build()
        };
        let list = gst::List::new(["NV12", "RGB"]);
        let mut both = caps("I420");
        both.make_mut().set("format", list);
        let sizes = |caps: &gst::Caps| -> Vec<(i32, i32)> {
            let target = TargetScale::Factor(scale("3/2"));
            let out = transform(gst::PadDirection::Sink, caps, target, EvenSize::Auto);
            let size = |s: &gst::StructureRef| Some((s.get("width").ok()?, s.get("height").ok()?));
            out.iter().filter_map(size).collect()
        };
        assert_eq!(sizes(&caps("I420_10LE")), [(76, 58)]);
        assert_eq!(sizes(&caps("Y42B")), [(75, 57)]);
        assert_eq!(sizes(&both), [(76, 58), (75, 57)]);
    }

    #[test]
    fn transformed_caps_put_exact_sizes_first() {
        gst::init().unwrap();
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", 321)
            .field("height", gst::IntRange::new(100, 200))
            .field("pixel-aspect-ratio", gst::Fraction::new(4, 3))
            .build();
        let out = transform(
            gst::PadDirection::Sink,
            &caps,
            TargetScale::Factor(scale("3/2")),
            EvenSize::Auto,
        );
        assert_eq!(out.size(), 2);
        let first = out.structure(0).unwrap();
        assert_eq!(first.get::<i32>("width").unwrap(), 482);
        assert_eq!(
            first.get::<gst::IntRange<i32>>("height").unwrap(),
            gst::IntRange::new(150, 300)
        );
        assert_eq!(
            first.get::<gst::Fraction>("pixel-aspect-ratio").unwrap(),
            gst::Fraction::new(4, 3)
        );
        let odd = transform(
            gst::PadDirection::Src,
            &caps,
            TargetScale::Factor(scale("2")),
            EvenSize::Auto,
        );
        assert_eq!(
            odd.size(),
            1,
            "321 is no double: only the any-size structure"
        );
        let open = transform(
            gst::PadDirection::Sink,
            &caps,
            TargetScale::Downstream,
            EvenSize::Auto,
        );
        assert_eq!(open.size(), 1);
    }

    #[test]
    fn lists_of_sizes_hold_no_ranges() {
        gst::init().unwrap();
        let source = |text: &str, widths: [i32; 2]| {
            let caps = gst::Caps::builder("video/x-raw");
            let caps = caps.field("width", gst::List::new(widths)).build();
            let target = TargetScale::Factor(scale(text));
            let out = transform(gst::PadDirection::Src, &caps, target, EvenSize::Off);
            out.structure(0).unwrap().value("width").unwrap().clone()
        };
        let list = source("2", [32, 64]).get::<gst::List>().unwrap();
        assert_eq!(
            list.iter().map(|n| n.get()).collect::<Vec<_>>(),
            [Ok(16), Ok(32)]
        );
        // 1 and 2, or 3 and 4; 1, or 2 and 3.
        for (text, widths, expected) in [("1/2", [1, 2], (1, 4)), ("2/3", [1, 2], (1, 3))] {
            let range = source(text, widths).get::<gst::IntRange<i32>>().unwrap();
            assert_eq!((range.min(), range.max()), expected, "{text}");
        }
    }

    #[test]
    fn fixating_keeps_the_aspect_ratio() {
        gst::init().unwrap();
        let input = gst::Caps::builder("video/x-raw")
            .field("width", 640)
            .field("height", 480)
            .build();
        let fixate = |build: &dyn Fn(gst::caps::Builder<gst::caps::NoFeature>) -> gst::Caps| {
            let others = build(gst::Caps::builder("video/x-raw"));
            let target = TargetScale::Factor(scale("2"));
            let even = EvenSize::Auto;
            let fixed = fixate(gst::PadDirection::Sink, &input, others, target, even);
            let s = fixed.structure(0).unwrap().to_owned();
            let ratio = s.get::<gst::Fraction>("pixel-aspect-ratio").ok();
            (
                s.get::<i32>("width").unwrap(),
                s.get::<i32>("height").unwrap(),
                ratio.map(|r| (r.numer(), r.denom())),
            )
        };
        let range = |low, high| gst::IntRange::new(low, high);
        let size = fixate(&|c| {
            c.field("width", range(1, 4000))
                .field("height", range(1, 4000))
                .build()
        });
        assert_eq!(size, (1280, 960, None));
        let size = fixate(&|c| {
            c.field("width", 1920)
                .field("height", range(1, 4000))
                .build()
        });
        assert_eq!(size, (1920, 1440, None));
        let square = gst::Fraction::new(1, 1);
        let size = fixate(&|c| {
            c.field("width", range(1, 4000))
                .field("height", range(1, 4000))
                .field("pixel-aspect-ratio", square)
                .build()
        });
        assert_eq!(size, (1280, 960, Some((1, 1))));
        let size = fixate(&|c| {
            c.field("width", range(1, 1280))
                .field("height", range(1, 720))
                .build()
        });
        assert_eq!(size, (960, 720, None));
        let size = fixate(&|c| c.field("width", 1920).field("height", 1080).build());
        assert_eq!(size, (1920, 1080, Some((3, 4))));
    }

    /// The size that is chosen from `others` for an input at scale 2.
    fn fixated_at_2((width, height): (i32, i32), others: gst::Caps) -> (i32, i32) {
        let input = gst::Caps::builder("video/x-raw");
        let input = input.field("width", width).field("height", height).build();
        let (target, even) = (TargetScale::Factor(scale("2")), EvenSize::Auto);
        let fixed = fixate(gst::PadDirection::Sink, &input, others, target, even);
        let s = fixed.structure(0).unwrap();
        let side = |field| s.get::<i32>(field).unwrap();
        (side("width"), side("height"))
    }

    #[test]
    fn fixating_finds_the_nearest_size_in_lists_and_steps() {
        gst::init().unwrap();
        let size = |text: &str| fixated_at_2((320, 180), text.parse().unwrap());
        for (width, expected) in [
            ("{ 16, [ 32, 4096 ] }", (640, 360)),
            ("{ [ 32, 64 ], [ 100, 600 ] }", (600, 338)),
            ("{ [ 700, 900 ], [ 32, 64 ] }", (700, 394)),
            ("{ 16, 32 }", (32, 18)),
            ("{ 320, 1920, 640 }", (640, 360)),
            ("[ 8, 4000, 8 ]", (640, 360)),
            ("[ 48, 960, 48 ]", (624, 351)),
            ("[ 700, 7000, 700 ]", (700, 394)),
        ] {
            let text = format!("video/x-raw,width={width},height=[1,4000]");
            assert_eq!(size(&text), expected, "{width}");
        }
        let discrete = "video/x-raw,width={640,1280,1920},height={360,720,1080}";
        assert_eq!(size(discrete), (640, 360));
    }

    #[test]
    fn fixating_prefers_caps_that_admit_the_exact_size() {
        gst::init().unwrap();
        let caps = |width: &dyn Fn(&mut gst::StructureRef)| {
            let mut s = gst::Structure::new_empty("video/x-raw");
            width(&mut s);
            s.set("height", gst::IntRange::new(1, 4000));
            s
        };
        let others = gst::Caps::builder_full()
            .structure(caps(&|s| s.set("width", 100)))
            .structure(caps(&|s| s.set("width", gst::IntRange::new(1, 4000))))
            .build();
        assert_eq!(fixated_at_2((640, 480), others), (1280, 960));
    }

    #[test]
    fn wide_pixels_become_square_on_request() {
        gst::init().unwrap();
        let input = gst::Caps::builder("video/x-raw")
            .field("width", 720)
            .field("height", 576)
            .field("pixel-aspect-ratio", gst::Fraction::new(16, 15))
            .build();
        let others = gst::Caps::builder("video/x-raw")
            .field("width", gst::IntRange::new(1, MAX_SIDE))
            .field("height", gst::IntRange::new(1, MAX_SIDE))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let target = TargetScale::Factor(scale("2"));
        let even = EvenSize::Auto;
        let fixed = fixate(gst::PadDirection::Sink, &input, others, target, even);
        let s = fixed.structure(0).unwrap();
        let size = (s.get::<i32>("width"), s.get::<i32>("height"));
        assert_eq!(size, (Ok(1536), Ok(1152)));
    }

    #[test]
    fn downstream_decides_with_a_scale_of_zero() {
        let target = TargetScale::from_fraction(gst::Fraction::new(0, 1));
        assert_eq!(target, TargetScale::Downstream);
        assert_eq!(target.between((320, 240), (960, 480)), scale("3"));
        assert_eq!(target.between((10, 10), (1000, 1000)), Scale::MAX);
        let target = TargetScale::from_fraction(gst::Fraction::new(3, 2));
        assert_eq!(target.between((320, 240), (960, 480)), scale("3/2"));
    }
}
