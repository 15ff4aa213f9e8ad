//! Blending the network's picture with a bicubic one, and comparing the two.

use super::spec::UpscaleSpec;

/// Width of the line between two pictures, in pixels.
const LINE: usize = 2;

/// What an [`Upscaler`](super::Upscaler) writes to the output frame.
///
/// ```
/// use srfilter::{Compare, View};
///
/// let view = View::default().with_strength(0.5).with_compare(Compare::Split(0.25));
/// assert_eq!(view.strength, 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct View {
    /// The share of the network's picture in the output, 0 to 1; the rest is the
    /// bicubic picture. Other values count as the nearest of these. At 1 the output is
    /// the network's, at 0 that of the model `bicubic`, both bit for bit; at 0 the
    /// network does not run.
    ///
    /// In between, a sample is `bicubic + strength * (network - bicubic)`, rounded to the
    /// nearest, of the network's rounded sample and the bicubic value before it is
    /// rounded: the error is at most half a step.
    pub strength: f32,
    /// The comparison of that picture with the bicubic one.
    pub compare: Compare,
}

/// A comparison of the upscaled picture with a bicubic one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Compare {
    /// The upscaled picture alone.
    #[default]
    None,
    /// The bicubic picture left of a position, from 0 (nowhere) to 1 (everywhere), the
    /// upscaled one right of it, with a line of two pixels between them (four where four
    /// pixels share a chroma sample). The position is rounded to whole chroma samples.
    Split(f32),
    /// The middle of the picture twice: bicubic in the left half, upscaled in the right
    /// one, with a line as of [`Compare::Split`].
    SideBySide,
    /// Mid-grey plus [`Compare::GAIN`] times the difference of the upscaled and the bicubic
    /// picture, of rounded samples: luma without colour for YUV, each of R, G and B for
    /// RGB. Alpha stays.
    Difference,
}

impl Compare {
    /// The factor of the differences of [`Compare::Difference`].
    pub const GAIN: f32 = 4.0;
}

impl Default for View {
    /// The upscaled picture alone.
    fn default() -> Self {
        Self {
            strength: 1.0,
            compare: Compare::None,
        }
    }
}

impl View {
    /// This with [`View::strength`].
    pub fn with_strength(self, strength: f32) -> Self {
        Self { strength, ..self }
    }

    /// This with [`View::compare`].
    pub fn with_compare(self, compare: Compare) -> Self {
        Self { compare, ..self }
    }

    /// The view of the output frames of an upscale, with or without networks.
    pub(super) fn layout(&self, spec: &UpscaleSpec, has_networks: bool) -> ViewLayout {
        let components = spec.input.format.components();
        let shared = components.iter().map(|component| component.sub_x).max();
        let (unit, width) = (shared.unwrap_or(1), spec.output.0);
        let nearest = |position: f32| (position * width as f32 / unit as f32).round() as usize;
        // NaN counts as 0.
        let strength = match self.strength > 0.0 {
            true => self.strength.min(1.0),
            false => 0.0,
        };
        let layout = ViewLayout {
            // Without networks the picture is bicubic.
            strength: if has_networks { strength } else { 1.0 },
            has_networks,
            columns: Columns::Whole,
        };
        let line_at = |column: usize| column..(column + LINE.max(unit)).min(width);
        match self.compare {
            Compare::None => layout,
            Compare::Split(position) => match nearest(position.clamp(0.0, 1.0)) * unit {
                0 => layout,
                column if column >= width => ViewLayout {
                    strength: if has_networks { 0.0 } else { 1.0 },
                    ..layout
                },
                column => ViewLayout {
                    columns: Columns::Split {
                        line: line_at(column),
                    },
                    ..layout
                },
            },
            Compare::SideBySide => {
                let left = width / 2 / unit * unit;
                let first = (width - left) / 2 / unit * unit;
                ViewLayout {
                    columns: Columns::SideBySide {
                        line: line_at(left),
                        first,
                    },
                    ..layout
                }
            }
            Compare::Difference => ViewLayout {
                columns: Columns::Difference,
                ..layout
            },
        }
    }
}

/// A view of frames of one format and size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ViewLayout {
    /// 0 to 1.
    pub(super) strength: f32,
    has_networks: bool,
    pub(super) columns: Columns,
}

impl ViewLayout {
    /// Whether the output is the network's.
    pub(super) fn is_plain(&self) -> bool {
        self.strength == 1.0 && self.columns == Columns::Whole
    }

    /// Whether the network's picture has a share in the output.
    pub(super) fn uses_network(&self) -> bool {
        self.strength > 0.0
    }

    /// Whether the picture before the view differs from the bicubic one.
    pub(super) fn differs(&self) -> bool {
        self.has_networks && self.uses_network()
    }
}

/// The source of each column; in pixels, or in samples of a component.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Columns {
    /// The upscaled picture.
    Whole,
    /// The bicubic picture, the line, the upscaled picture.
    Split { line: std::ops::Range<usize> },
    /// Both pictures from their column `first` on: bicubic up to the line, upscaled
    /// from where it begins.
    SideBySide {
        line: std::ops::Range<usize>,
        first: usize,
    },
    /// The difference of the pictures.
    Difference,
}

impl Columns {
    /// The columns of a component of which `sub` pixels share a sample.
    pub(super) fn of_component(&self, sub: usize) -> Self {
        let scale = |line: &std::ops::Range<usize>| line.start / sub..line.end.div_ceil(sub);
        match self {
            Self::Split { line } => Self::Split { line: scale(line) },
            Self::SideBySide { line, first } => Self::SideBySide {
                line: scale(line),
                first: first / sub,
            },
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::FrameSpec;
    use crate::frame::PixelFormat;
    use crate::{Result, Scale};

    fn layout(view: View, format: PixelFormat, width: usize) -> ViewLayout {
        let spec = UpscaleSpec::scaled(FrameSpec::new(format, width / 2, 8), Scale::whole(2));
        view.layout(&spec, true)
    }

    #[test]
    fn the_ends_are_whole_pictures() {
        let split = |position| {
            let view = View::default().with_compare(Compare::Split(position));
            layout(view, PixelFormat::I420, 100)
        };
        for position in [-1.0, 0.0, 0.009, f32::NAN] {
            assert!(split(position).is_plain(), "{position}");
        }
        for position in [0.991, 1.0, 7.0] {
            let layout = split(position);
            assert!(!layout.uses_network() && layout.columns == Columns::Whole);
        }
        for strength in [1.0, 1.5] {
            let view = View::default().with_strength(strength);
            assert!(layout(view, PixelFormat::Rgb, 100).is_plain());
        }
        for strength in [0.0, -0.5, f32::NAN] {
            let view = View::default().with_strength(strength);
            assert!(!layout(view, PixelFormat::Rgb, 100).uses_network());
        }
    }

    #[test]
    fn edges_are_at_whole_chroma_samples() -> Result<()> {
        for (format, unit, line) in [
            (PixelFormat::Rgb, 1, 2),
            (PixelFormat::I420, 2, 2),
            (PixelFormat::Y41b, 4, 4),
        ] {
            for width in [18, 38, 100, 640] {
                for compare in [Compare::Split(0.37), Compare::SideBySide] {
                    let view = View::default().with_compare(compare);
                    let (found, first) = match layout(view, format, width).columns {
                        Columns::Split { line } => (line, 0),
                        Columns::SideBySide { line, first } => (line, first),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(found.start % unit + first % unit, 0);
                    assert_eq!(found.len(), line.min(width - found.start));
                    assert!(first + (width - found.start).max(found.start) <= width);
                }
            }
        }
        Ok(())
    }
}
