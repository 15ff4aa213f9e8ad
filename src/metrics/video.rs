//! Measures of upscaled video that need no ground truth: what can be said of a stream
//! from the frames that go in and those that come out.
//!
//! All are on luma, in units of 8 bit (0 to 255) whatever the depth; of R'G'B' it is
//! the sum weighted by the frame's matrix.
//!
//! * **Consistency**: the output reduced again to the input's size (bicubic,
//!   antialiased) against the input, PSNR in dB. Also known as LR-PSNR (Lugmayr et
//!   al., "NTIRE 2021 Learning the Super-Resolution Space Challenge", CVPRW 2021). A
//!   network that invents or shifts things loses it; sharpening costs a little.
//! * **Flicker**: the mean absolute change of the output from frame to frame in places
//!   where the input is still, next to that of the input enlarged by bicubic
//!   interpolation in the same places.
//! * **Motion ratio**: the change of the output in all other places, divided by that of
//!   the enlarged input. Sharper pictures change more (above 1); far above it, details
//!   come and go.
//! * **Unchanged tiles**: the share of tiles of the input all of whose samples, of all
//!   components, equal the last frame's.

use super::psnr_of_error;
use crate::frame::resample::Resampler;
use crate::frame::{Color, Family, FrameRef, MAX_VALUE, PixelFormat};
use std::ops::AddAssign;

/// Side of a tile of the input, in pixels.
pub const TILE: usize = 64;

/// Side of a cell of the input, in pixels: a cell is still if it and its eight
/// neighbours are, so that what moves is out of the reach of most networks.
const CELL: usize = 8;

/// Largest change of luma, of 255, of a place that is still.
const STILL: f32 = 2.0;

/// What was measured, of one frame or of several.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measure {
    /// The squared error of the output reduced again.
    error: Sum,
    still: Change,
    moving: Change,
    tiles: u64,
    unchanged: u64,
}

/// A sum over samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sum {
    total: f64,
    samples: usize,
}

/// Absolute changes of luma from one frame to the next.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Change {
    output: f64,
    /// Of the enlarged input.
    input: f64,
    /// Samples of the output.
    samples: u64,
}

impl Measure {
    /// PSNR in dB of the output, reduced again to the input's size, against the input;
    /// infinite if they are equal. Of several frames, that of their mean squared error.
    pub fn consistency(&self) -> f64 {
        psnr_of_error(self.error.total, self.error.samples)
    }

    /// Mean absolute change of the output from frame to frame, in units of 8 bit, in
    /// places where the input is still; `None` if there are none.
    pub fn flicker(&self) -> Option<f64> {
        self.still.mean(self.still.output)
    }

    /// As [`Measure::flicker`], of the input enlarged by bicubic interpolation.
    pub fn input_flicker(&self) -> Option<f64> {
        self.still.mean(self.still.input)
    }

    /// Change of the output from frame to frame, divided by that of the input enlarged
    /// by bicubic interpolation, in places where the input is not still; `None` if
    /// there are none.
    pub fn motion_ratio(&self) -> Option<f64> {
        let moving = &self.moving;
        (moving.input > 0.0).then(|| moving.output / moving.input)
    }

    /// The share of the picture that is still, 0 to 1; `None` of a first frame.
    pub fn still_share(&self) -> Option<f64> {
        let all = self.still.samples + self.moving.samples;
        (all > 0).then(|| self.still.samples as f64 / all as f64)
    }

    /// The share of the tiles of [`TILE`] x [`TILE`] pixels of the input whose samples
    /// equal the last frame's, 0 to 1; `None` of a first frame.
    pub fn unchanged_tiles(&self) -> Option<f64> {
        (self.tiles > 0).then(|| self.unchanged as f64 / self.tiles as f64)
    }
}

impl AddAssign for Measure {
    fn add_assign(&mut self, other: Self) {
        self.error += other.error;
        self.still += other.still;
        self.moving += other.moving;
        self.tiles += other.tiles;
        self.unchanged += other.unchanged;
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.samples += other.samples;
    }
}

impl AddAssign for Change {
    fn add_assign(&mut self, other: Self) {
        self.output += other.output;
        self.input += other.input;
        self.samples += other.samples;
    }
}

impl Change {
    fn mean(&self, total: f64) -> Option<f64> {
        (self.samples > 0).then(|| total / self.samples as f64)
    }
}

/// Measures the frames of a stream, one after the other.
#[derive(Debug, Default)]
pub struct Meter {
    layout: Option<Layout>,
    last: Option<Planes>,
}

/// Formats, sizes and colours of input and output, and what follows from them.
#[derive(Debug)]
struct Layout {
    input: Spec,
    output: Spec,
    enlarge: Resampler,
    reduce: Resampler,
}

type Spec = (PixelFormat, (usize, usize), Color);

/// The samples of a frame; dense rows in units of 8 bit.
#[derive(Debug)]
struct Planes {
    /// All components of the input.
    components: Vec<Vec<f32>>,
    input: Vec<f32>,
    /// The input's luma, enlarged.
    enlarged: Vec<f32>,
    output: Vec<f32>,
}

impl Meter {
    /// Measures the next frame of the stream and what became of it. Sizes and formats
    /// are any; a frame of others than the last one's counts as a first one.
    pub fn measure(&mut self, input: &FrameRef<'_>, output: &FrameRef<'_>) -> Measure {
        let layout = match self.layout.take() {
            Some(layout) if layout.fits(input, output) => layout,
            _ => {
                self.last = None;
                Layout::new(input, output)
            }
        };
        let planes = layout.read(input, output);
        let reduced = resample(&layout.reduce, &planes.output);
        let mut measure = Measure {
            error: squared_error(&reduced, &planes.input),
            ..Measure::default()
        };
        if let Some(last) = &self.last {
            layout.compare(last, &planes, &mut measure);
        }
        self.layout = Some(layout);
        self.last = Some(planes);
        measure
    }

    /// Forgets the last frame: the next one does not follow it.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Layout {
    fn new(input: &FrameRef<'_>, output: &FrameRef<'_>) -> Self {
        Self {
            input: spec(input),
            output: spec(output),
            enlarge: Resampler::resize(input.size(), output.size()),
            reduce: Resampler::resize(output.size(), input.size()),
        }
    }

    fn fits(&self, input: &FrameRef<'_>, output: &FrameRef<'_>) -> bool {
        (self.input, self.output) == (spec(input), spec(output))
    }

    fn read(&self, input: &FrameRef<'_>, output: &FrameRef<'_>) -> Planes {
        let components = read(input, input.format().components().len());
        let luma_of_input = luma(input, &components);
        let mut enlarged = resample(&self.enlarge, &luma_of_input);
        (enlarged.iter_mut()).for_each(|value| *value = value.clamp(0.0, MAX_VALUE));
        let count = match output.format().family() {
            Family::Rgb => 3,
            _ => 1,
        };
        Planes {
            enlarged,
            output: luma(output, &read(output, count)),
            input: luma_of_input,
            components,
        }
    }

    /// Measures what has changed since the last frame.
    fn compare(&self, last: &Planes, planes: &Planes, measure: &mut Measure) {
        let ((width, height), (wide, high)) = (self.input.1, self.output.1);
        let cells = StillCells::new(&last.input, &planes.input, width);
        let columns: Vec<usize> = (0..wide).map(|x| x * width / wide / CELL).collect();
        for y in 0..high {
            let row = y * wide..(y + 1) * wide;
            let output = changes(&last.output[row.clone()], &planes.output[row.clone()]);
            let input = changes(&last.enlarged[row.clone()], &planes.enlarged[row]);
            let still = cells.row(y * height / high / CELL);
            for ((output, input), &column) in output.zip(input).zip(&columns) {
                let change = match still[column] {
                    true => &mut measure.still,
                    false => &mut measure.moving,
                };
                change.output += f64::from(output);
                change.input += f64::from(input);
                change.samples += 1;
            }
        }
        self.count_tiles(last, planes, measure);
    }

    fn count_tiles(&self, last: &Planes, planes: &Planes, measure: &mut Measure) {
        let (format, (width, height), _) = self.input;
        for (x, y) in tiles(width, height) {
            let pairs = last.components.iter().zip(&planes.components);
            let unchanged = format.components().iter().zip(pairs).all(|(c, (a, b))| {
                let (stride, _) = c.size(width, height);
                let (right, below) = ((x + TILE).min(width), (y + TILE).min(height));
                let columns = x / c.sub_x..right.div_ceil(c.sub_x);
                let mut rows = y / c.sub_y..below.div_ceil(c.sub_y);
                rows.all(|row| {
                    let range = row * stride + columns.start..row * stride + columns.end;
                    a[range.clone()] == b[range]
                })
            });
            measure.tiles += 1;
            measure.unchanged += u64::from(unchanged);
        }
    }
}

/// Which cells of the input are still.
struct StillCells {
    across: usize,
    still: Vec<bool>,
}

impl StillCells {
    fn new(last: &[f32], luma: &[f32], width: usize) -> Self {
        let (across, down) = (
            width.div_ceil(CELL),
            (luma.len() / width.max(1)).div_ceil(CELL),
        );
        let mut largest = vec![0.0_f32; across * down];
        let rows = last.chunks_exact(width).zip(luma.chunks_exact(width));
        for (y, (last, row)) in rows.enumerate() {
            let cells = &mut largest[y / CELL * across..][..across];
            for (x, change) in changes(last, row).enumerate() {
                cells[x / CELL] = cells[x / CELL].max(change);
            }
        }
        let still = |i: usize| {
            let (x, y) = (i % across, i / across);
            let mut rows = y.saturating_sub(1)..(y + 2).min(down);
            rows.all(|y| {
                let mut columns = x.saturating_sub(1)..(x + 2).min(across);
                columns.all(|x| largest[y * across + x] <= STILL)
            })
        };
        Self {
            still: (0..across * down).map(still).collect(),
            across,
        }
    }

    /// A row of cells.
    fn row(&self, y: usize) -> &[bool] {
        &self.still[y * self.across..][..self.across]
    }
}

fn spec(frame: &FrameRef<'_>) -> Spec {
    (frame.format(), frame.size(), frame.color())
}

/// The first `count` components.
fn read(frame: &FrameRef<'_>, count: usize) -> Vec<Vec<f32>> {
    let components = &frame.format().components()[..count];
    let read = |component| {
        let mut values = Vec::new();
        frame.read(component, &mut values);
        values
    };
    components.iter().map(read).collect()
}

/// The luma of a frame with these components.
fn luma(frame: &FrameRef<'_>, components: &[Vec<f32>]) -> Vec<f32> {
    match (frame.format().family(), components) {
        (Family::Rgb, [r, g, b, ..]) => {
            let (red, blue) = frame.color().matrix.weights();
            let weights = [red, 1.0 - red - blue, blue].map(|weight| weight as f32);
            let pixels = r.iter().zip(g).zip(b);
            pixels
                .map(|((r, g), b)| weights[0] * r + weights[1] * g + weights[2] * b)
                .collect()
        }
        (_, [luma, ..]) => luma.clone(),
        (_, []) => Vec::new(),
    }
}

/// The corners of all tiles.
fn tiles(width: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = (0..height).step_by(TILE);
    rows.flat_map(move |y| (0..width).step_by(TILE).map(move |x| (x, y)))
}

fn resample(resampler: &Resampler, plane: &[f32]) -> Vec<f32> {
    let (width, height) = resampler.size();
    let (mut out, mut line) = (vec![0.0; width * height], Vec::new());
    for (y, row) in out.chunks_exact_mut(width).enumerate() {
        resampler.row(plane, y, 0..width, &mut line, row);
    }
    out
}

fn changes(a: &[f32], b: &[f32]) -> impl Iterator<Item = f32> {
    a.iter().zip(b).map(|(a, b)| (a - b).abs())
}

fn squared_error(a: &[f32], b: &[f32]) -> Sum {
    let errors = changes(a, b).map(f64::from);
    Sum {
        total: errors.map(|error| error * error).sum(),
        samples: a.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with one plane.
    fn frame(format: PixelFormat, data: &[u8], size: (usize, usize)) -> FrameRef<'_> {
        let stride = data.len() / size.1;
        FrameRef::new(format, size, Color::of_format(format), &[(data, stride)]).unwrap()
    }

    fn gray(data: &[u8], width: usize) -> FrameRef<'_> {
        let size = (width, data.len() / width);
        frame(PixelFormat::Gray8, data, size)
    }

    /// 128x96 samples of a texture that lies `shift` pixels to the left.
    fn texture(shift: usize) -> Vec<u8> {
        let sample = |i: usize| {
            let (x, y) = (i % 128 + shift, i / 128);
            (100 + x * 7 % 50 + y * 11 % 40) as u8
        };
        (0..128 * 96).map(sample).collect()
    }

    /// Twice the size, by repetition.
    fn nearest(data: &[u8], width: usize) -> Vec<u8> {
        let rows = data.chunks(width).flat_map(|row| [row, row]);
        rows.flat_map(|row| row.iter().flat_map(|&v| [v, v]))
            .collect()
    }

    fn near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }

    #[test]
    fn equal_frames_are_consistent_and_still() {
        let (data, mut meter) = (texture(0), Meter::default());
        let first = meter.measure(&gray(&data, 128), &gray(&data, 128));
        assert_eq!(first.consistency(), f64::INFINITY);
        assert_eq!((first.flicker(), first.motion_ratio()), (None, None));
        assert_eq!((first.still_share(), first.unchanged_tiles()), (None, None));
        let second = meter.measure(&gray(&data, 128), &gray(&data, 128));
        assert_eq!(second.flicker(), Some(0.0));
        assert_eq!(second.input_flicker(), Some(0.0));
        assert_eq!(second.motion_ratio(), None);
        assert_eq!(second.still_share(), Some(1.0));
        assert_eq!(second.unchanged_tiles(), Some(1.0));
    }

    #[test]
    fn consistency_is_that_of_a_known_error() {
        let (input, mut meter) = (vec![100; 64 * 64], Meter::default());
        let brighter = vec![101; 128 * 128];
        let measure = meter.measure(&gray(&input, 64), &gray(&brighter, 128));
        near(Some(measure.consistency()), 48.1308);
        // Enlarged by repetition, and reduced again, a texture is a little softer.
        let data = texture(0);
        let large = nearest(&data, 128);
        let measure = Meter::default().measure(&gray(&data, 128), &gray(&large, 256));
        let reduced = Resampler::resize((256, 192), (128, 96));
        let large: Vec<f64> = large.iter().map(|&v| f64::from(v)).collect();
        let small: Vec<f64> = data.iter().map(|&v| f64::from(v)).collect();
        let expected = crate::metrics::psnr(&reduced.apply(&large), &small);
        near(Some(measure.consistency()), expected);
        assert!((25.0..60.0).contains(&expected), "{expected}");
    }

    #[test]
    fn flicker_is_that_of_the_output_over_a_still_input() {
        let (input, mut meter) = (vec![100; 64 * 64], Meter::default());
        let mut all = Measure::default();
        for frame in 0..5 {
            let output = vec![100 + 3 * (frame % 2); 128 * 128];
            all += meter.measure(&gray(&input, 64), &gray(&output, 128));
        }
        near(all.flicker(), 3.0);
        near(all.input_flicker(), 0.0);
        assert_eq!(all.motion_ratio(), None);
        // Noise of one step is still, and is the input's own.
        let mut meter = Meter::default();
        let mut all = Measure::default();
        for frame in 0..2 {
            let input = vec![100 + frame; 64 * 64];
            let output = vec![100 + 2 * frame; 128 * 128];
            all += meter.measure(&gray(&input, 64), &gray(&output, 128));
        }
        near(all.flicker(), 2.0);
        near(all.input_flicker(), 1.0);
    }

    #[test]
    fn motion_is_compared_with_that_of_bicubic() {
        // The right half moves.
        let still = texture(0);
        let moved: Vec<u8> = (still.iter().zip(texture(3)).enumerate())
            .map(|(i, (&a, b))| if i % 128 < 64 { a } else { b })
            .collect();
        let enlarge = Resampler::resize((128, 96), (256, 192));
        let output = |data: &[u8], gain: f32| -> Vec<u8> {
            let samples: Vec<f32> = data.iter().map(|&v| f32::from(v)).collect();
            let enlarged = enlarge.apply(&samples).into_iter();
            enlarged
                .map(|v| crate::frame::to_u8(128.0 + (v - 128.0) * gain))
                .collect()
        };
        for gain in [1.0, 1.5] {
            let mut meter = Meter::default();
            meter.measure(&gray(&still, 128), &gray(&output(&still, gain), 256));
            let measure = meter.measure(&gray(&moved, 128), &gray(&output(&moved, gain), 256));
            let ratio = measure.motion_ratio().unwrap();
            assert!((ratio / f64::from(gain) - 1.0).abs() < 0.01, "{ratio}");
            // The cells of 56 columns: the next one is a neighbour of what moves.
            near(measure.still_share(), 56.0 / 128.0);
            near(measure.flicker(), 0.0);
            assert_eq!(measure.unchanged_tiles(), Some(0.5));
        }
    }

    #[test]
    fn every_format_measures_the_same_picture() {
        // 10 bit, and colours whose luma is that of the grey picture.
        let data = texture(0);
        let words: Vec<u8> = (data.iter())
            .flat_map(|&v| (u16::from(v) << 2).to_le_bytes())
            .collect();
        let rgb: Vec<u8> = data.iter().flat_map(|&v| [v; 3]).collect();
        let expected = {
            let large = nearest(&data, 128);
            Meter::default().measure(&gray(&data, 128), &gray(&large, 256))
        };
        let mut meter = Meter::default();
        let large: Vec<u8> = nearest(&data, 128).iter().flat_map(|&v| [v; 3]).collect();
        let measure = meter.measure(
            &frame(PixelFormat::Rgb, &rgb, (128, 96)),
            &frame(PixelFormat::Rgb, &large, (256, 192)),
        );
        near(Some(measure.consistency()), expected.consistency());
        // Limited range, so that 10 bit are four times 8 bit.
        let deep = |data: &[u8], size: (usize, usize)| -> Vec<u8> {
            let chroma = [0, 2].repeat(size.0 * size.1 / 2);
            [data, chroma.as_slice()].concat()
        };
        let large: Vec<u8> = nearest(&data, 128)
            .iter()
            .flat_map(|&v| (u16::from(v) << 2).to_le_bytes())
            .collect();
        let (small, large) = (deep(&words, (128, 96)), deep(&large, (256, 192)));
        let planes = |data: &'static [u8], (width, height): (usize, usize)| {
            let (luma, chroma) = data.split_at(2 * width * height);
            let (u, v) = chroma.split_at(chroma.len() / 2);
            let planes = [(luma, 2 * width), (u, width), (v, width)];
            let (format, color) = (PixelFormat::I420x10, Color::default());
            FrameRef::new(format, (width, height), color, &planes).unwrap()
        };
        let (small, large): (&'static [u8], &'static [u8]) = (small.leak(), large.leak());
        let mut meter = Meter::default();
        let (input, output) = (planes(small, (128, 96)), planes(large, (256, 192)));
        let measure = meter.measure(&input, &output);
        near(Some(measure.consistency()), expected.consistency());
        // Chroma counts for tiles: one sample of it changes.
        let mut other = small.to_vec();
        *other.last_mut().unwrap() += 1;
        let measure = meter.measure(&planes(other.leak(), (128, 96)), &output);
        assert_eq!(measure.unchanged_tiles(), Some(0.75));
        assert_eq!(measure.still_share(), Some(1.0));
    }

    #[test]
    fn a_frame_of_another_size_is_a_first_one() {
        let (small, large) = (vec![9; 64 * 64], vec![9; 128 * 128]);
        let mut meter = Meter::default();
        meter.measure(&gray(&small, 64), &gray(&large, 128));
        let scaled = meter.measure(&gray(&small, 64), &gray(&small, 64));
        assert_eq!(scaled.flicker(), None);
        meter.reset();
        let again = meter.measure(&gray(&small, 64), &gray(&small, 64));
        assert_eq!(again.flicker(), None);
        // Frames of a single pixel, too.
        let single = meter.measure(&gray(&[7], 1), &gray(&[7; 4], 2));
        assert_eq!(single.consistency(), f64::INFINITY);
    }
}
