//! One network applied to planes, tile by tile.

use super::UpscaleOptions;
use super::tiling::{TILE, TilingOptions};
use crate::chain::cpu::{PlanesOut, Sink, Source};
use crate::chain::{ChainExecutor, ChainOptions, PackedChain};
use crate::frame::MAX_VALUE;
use crate::frame::resample::{Region, Resampler};
use crate::models::{BoxedScaleNetwork, PartialOutput, Upsampling};
use crate::ops::{self, Border};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a tile at least, in halos.
const MIN_HALOS: usize = 8;

/// Side of the smallest tile of a network that takes means over the picture.
const SMALLEST: usize = 16;

/// A network with the resampling around it, for planes of one size.
pub(super) struct Stage {
    network: Arc<BoxedScaleNetwork>,
    /// Where the network's weights are.
    device: Device,
    /// The size that was asked for.
    #[cfg(feature = "cuda")]
    to: (usize, usize),
    /// What the network sees of the input.
    view: View,
    /// How many times as wide and as high as that its result is.
    factor: usize,
    /// Columns and rows of a tile at most, in samples that the network sees.
    tile: (usize, usize),
    /// Samples that tiles overlap by, to be averaged there; 0: they do not.
    overlap: usize,
    /// Those tiles that the network sees at once.
    at_once: usize,
    /// Whether a GPU may round the factors of products to TF32.
    rounds: bool,
    /// The network as one fused plan, where there is one.
    fused: Option<Fused>,
}

/// A network that runs fused.
struct Fused {
    plan: ChainExecutor,
    /// Enlarges what the network sees, to be added to its result.
    base: Option<Resampler>,
}

/// The planes that a network sees.
enum View {
    /// The input's own: width and height.
    Input((usize, usize)),
    /// The input's, enlarged to the size of the result.
    Enlarged(Box<Resampler>),
}

impl View {
    /// Width and height.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Input(size) => *size,
            Self::Enlarged(resampler) => resampler.size(),
        }
    }

    /// A part of what becomes of the input `plane`, as dense rows.
    fn part(&self, plane: &[f32], x: &Range<usize>, y: &Range<usize>) -> Vec<f32> {
        match self {
            Self::Input((width, _)) => {
                let rows = y.clone().map(|row| &plane[row * width..][x.clone()]);
                rows.flatten().copied().collect()
            }
            Self::Enlarged(resampler) => {
                let mut part = vec![0.0; x.len() * y.len()];
                let region = Region {
                    x: x.clone(),
                    y: y.clone(),
                };
                resampler.region(plane, &region, &mut part, x.len());
                part
            }
        }
    }
}

impl Stage {
    /// A stage from one size to another, with as many rows of tiles as keep
    /// all threads busy. Networks that enlarge by themselves decide the size
    /// that is made: [`Stage::size`].
    pub(super) fn new(
        network: Arc<BoxedScaleNetwork>,
        from: (usize, usize),
        to: (usize, usize),
        division: &TilingOptions,
    ) -> Self {
        let works_at = network.upsampling();
        let view = match works_at {
            Upsampling::Pre => View::Enlarged(Box::new(Resampler::resize(from, to))),
            Upsampling::Post(_) => View::Input(from),
        };
        let (width, height) = view.size();
        let on_gpu = !division.device.is_cpu();
        let tile = match division.tile {
            // As large as the memory lets it be: it becomes smaller where that ends.
            0 if on_gpu => width.max(height),
            0 => TILE,
            tile => tile,
        };
        let threads = if on_gpu { 1 } else { division.threads };
        let bands = height.div_ceil(tile).next_multiple_of(threads);
        // Thinner bands would compute more halo than picture.
        let thinnest = (MIN_HALOS * network.halo()).min(tile).max(1);
        let averaged = division.overlapped_tile().filter(|_| network.whole_frame());
        let tile = match (network.whole_frame(), network.global_pools()) {
            (true, _) => {
                averaged.map_or((width, height), |side| (side.min(width), side.min(height)))
            }
            (_, 0) => (tile, height.div_ceil(bands).max(thinnest)),
            // Every mean takes a pass: as few tiles as the memory lets be.
            _ => pooled_tile(&network, view.size(), division),
        };
        let at_once = match on_gpu {
            true => at_once(&network, tile, division.memory),
            false => 1,
        };
        Self {
            tile,
            overlap: averaged.map_or(0, |_| division.overlap),
            at_once,
            rounds: division.allow_tf32,
            factor: works_at.factor(),
            device: division.device.clone(),
            network,
            #[cfg(feature = "cuda")]
            to,
            view,
            fused: None,
        }
    }

    /// What [`Stage::new`] was told to reach.
    #[cfg(feature = "cuda")]
    pub(super) fn asked(&self) -> (usize, usize) {
        self.to
    }

    /// Runs the network by a plan from now on.
    ///
    /// # Errors
    ///
    /// As [`ChainExecutor::of`].
    pub(super) fn fuse(
        &mut self,
        packed: Arc<PackedChain>,
        options: &UpscaleOptions,
    ) -> Result<()> {
        let enlarges = packed.base && packed.factor() > 1;
        let base = enlarges.then(|| Resampler::resize(self.view.size(), self.size()));
        let options = ChainOptions {
            tile_size: options.tile_size,
            threads: options.threads,
        };
        let plan = ChainExecutor::of(packed, self.view.size(), &options)?;
        self.fused = Some(Fused { plan, base });
        Ok(())
    }

    /// Width and height of the result.
    pub(super) fn size(&self) -> (usize, usize) {
        let (width, height) = self.view.size();
        (width * self.factor, height * self.factor)
    }

    /// Side of the tiles in samples that the network sees; `None` where they can
    /// be no smaller.
    #[cfg(feature = "cuda")]
    pub(super) fn side(&self) -> Option<usize> {
        let side = self.tile.0.max(self.tile.1);
        let whole = self.network.whole_frame() && self.overlap == 0;
        (!whole && side > SMALLEST).then_some(side)
    }

    /// Lets half as many overlapping tiles be seen at once; whether that was
    /// possible.
    #[cfg(feature = "cuda")]
    pub(super) fn halve(&mut self) -> bool {
        let seen = self.at_once.min(self.tiles());
        self.at_once = seen.div_ceil(2);
        self.overlap > 0 && seen > 1
    }

    /// The number of tiles that one run makes.
    pub(super) fn tiles(&self) -> usize {
        if let Some(fused) = &self.fused {
            return fused.plan.regions();
        }
        let (width, height) = self.view.size();
        if self.overlap > 0 {
            let count = |len, tile| starts(len, tile, self.overlap).len();
            return count(width, self.tile.0) * count(height, self.tile.1);
        }
        width.div_ceil(self.tile.0) * height.div_ceil(self.tile.1)
    }

    /// Whether [`Stage::run_into`] can be had.
    pub(super) fn is_fused(&self) -> bool {
        self.fused.is_some()
    }

    /// Makes one plane from each input plane and hands its samples over, rows
    /// in any order: values 0 to 1, not clamped. Only where the stage is fused.
    pub(super) fn run_into(&mut self, input: &[Vec<f32>], sink: &dyn Sink) {
        if let Some(Fused { plan, base }) = &mut self.fused {
            let source = Rows {
                view: &self.view,
                base: base.as_ref(),
                planes: input,
            };
            plan.process(&source, sink);
        }
    }

    /// Makes one plane from each input plane: values 0 to 255, clamped.
    pub(super) fn run(&mut self, input: &[Vec<f32>], output: &mut [Vec<f32>]) -> Result<()> {
        let (seen_width, seen_height) = self.view.size();
        let (width, height) = self.size();
        let rows = self.tile.1;
        for plane in output.iter_mut() {
            plane.resize(width * height, 0.0);
        }
        if self.is_fused() {
            let mut planes: Vec<&mut [f32]> = output.iter_mut().map(Vec::as_mut_slice).collect();
            self.run_into(input, &PlanesOut::clamped(&mut planes, width));
            return Ok(());
        }
        if self.overlap > 0 {
            return self.run_averaged(input, output);
        }
        let this = &*self;
        let means = this.means(input)?;
        // A band is a row of tiles: the same rows of every plane.
        let mut bands: Vec<Vec<&mut [f32]>> = Vec::new();
        bands.resize_with(seen_height.div_ceil(rows), Vec::new);
        for plane in output.iter_mut() {
            let parts = plane.chunks_mut(rows * self.factor * width);
            for (band, part) in bands.iter_mut().zip(parts) {
                band.push(part);
            }
        }
        let run = |(i, mut band): (usize, Vec<&mut [f32]>)| {
            let first = i * rows;
            let rows = first..(first + rows).min(seen_height);
            for column in (0..seen_width).step_by(this.tile.0) {
                let columns = column..(column + this.tile.0).min(seen_width);
                this.tile(input, &means, columns, rows.clone(), &mut band)?;
            }
            Ok(())
        };
        // A network that takes means has tiles as large as the memory lets one be.
        match means.is_empty() && self.device.is_cpu() {
            true => bands.into_par_iter().enumerate().try_for_each(run),
            false => bands.into_iter().enumerate().try_for_each(run),
        }
    }

    /// Computes overlapping tiles, each as if it were the whole picture, and
    /// takes the mean where they overlap, as the published test code of DRCT
    /// does.
    fn run_averaged(&self, input: &[Vec<f32>], output: &mut [Vec<f32>]) -> Result<()> {
        let ((seen_width, seen_height), (width, _)) = (self.view.size(), self.size());
        let columns = starts(seen_width, self.tile.0, self.overlap);
        let rows = starts(seen_height, self.tile.1, self.overlap);
        output.iter_mut().flatten().for_each(|sum| *sum = 0.0);
        let across = |&top: &usize| columns.iter().map(move |&left| (left, top));
        let corners: Vec<_> = rows.iter().flat_map(across).collect();
        let (tile_width, tile_height) = self.tile;
        for corners in corners.chunks(self.at_once) {
            let seen = corners.iter().flat_map(|&(left, top)| {
                let (x, y) = (left..left + tile_width, top..top + tile_height);
                let parts = input.iter().map(move |p| self.view.part(p, &x, &y));
                parts.flatten().map(|v| v / MAX_VALUE)
            });
            let shape = (corners.len(), input.len(), tile_height, tile_width);
            let tensor = Tensor::from_vec(seen.collect::<Vec<_>>(), shape, &self.device)?;
            let made = ops::with_tf32(self.rounds, || self.network.forward(&tensor))?;
            let made = self.samples(&made, (corners.len(), output.len()), self.tile)?;
            let tiles = made.chunks_exact(made.len() / corners.len());
            for (&(left, top), made) in corners.iter().zip(tiles) {
                let (made_width, start) = (tile_width * self.factor, left * self.factor);
                let made_planes = made.chunks_exact(made.len() / output.len().max(1));
                for (plane, made) in output.iter_mut().zip(made_planes) {
                    let lines = plane.chunks_exact_mut(width).skip(top * self.factor);
                    for (line, made) in lines.zip(made.chunks_exact(made_width)) {
                        let sums = line[start..].iter_mut().zip(made);
                        sums.for_each(|(sum, value)| *sum += value * MAX_VALUE);
                    }
                }
            }
        }
        // How many tiles a column, or row, lies in.
        let counts = |starts: &[usize], tile: usize, len: usize| -> Vec<f32> {
            let mut counts = vec![0.0; len];
            for &start in starts {
                counts[start..start + tile]
                    .iter_mut()
                    .for_each(|n| *n += 1.0);
            }
            counts
        };
        let across = counts(&columns, self.tile.0, seen_width);
        let down = counts(&rows, self.tile.1, seen_height);
        for plane in output {
            for (y, line) in plane.chunks_exact_mut(width).enumerate() {
                for (x, value) in line.iter_mut().enumerate() {
                    let tiles = across[x / self.factor] * down[y / self.factor];
                    *value = (*value / tiles).clamp(0.0, MAX_VALUE);
                }
            }
        }
        Ok(())
    }

    /// The samples of some tiles' result, if it is as large as it should be.
    fn samples(
        &self,
        result: &Tensor,
        (tiles, planes): (usize, usize),
        kept: (usize, usize),
    ) -> Result<Vec<f32>> {
        let expected = (tiles, planes, kept.1 * self.factor, kept.0 * self.factor);
        if result.dims4()? != expected {
            return Err(Error::Frame(format!(
                "the network made {:?} samples of a tile, expected {expected:?}",
                result.dims()
            )));
        }
        Ok(result.flatten_all()?.to_vec1::<f32>()?)
    }

    /// The means over the picture that the network takes, a pass over all
    /// tiles each; none where it sees the picture at once.
    fn means(&self, input: &[Vec<f32>]) -> Result<Vec<Tensor>> {
        let mut means = Vec::new();
        if self.tiles() == 1 {
            return Ok(means);
        }
        let (width, height) = self.view.size();
        for _ in 0..self.network.global_pools() {
            let mut sums: Vec<f64> = Vec::new();
            for row in (0..height).step_by(self.tile.1) {
                let rows = row..(row + self.tile.1).min(height);
                for column in (0..width).step_by(self.tile.0) {
                    let columns = column..(column + self.tile.0).min(width);
                    let seen = self.seen(input, &columns, &rows)?;
                    let PartialOutput::NeedsMean(made) = ops::with_tf32(self.rounds, || {
                        self.network.forward_part(&seen.tensor, &means)
                    })?
                    else {
                        let problem = "a network takes fewer means than it says";
                        return Err(Error::Frame(problem.to_owned()));
                    };
                    let own = made.narrow(3, seen.skip.0, columns.len())?;
                    add_sums(&mut sums, &own.narrow(2, seen.skip.1, rows.len())?)?;
                }
            }
            let area = (width * height) as f64;
            let mean: Vec<f32> = sums.iter().map(|sum| (sum / area) as f32).collect();
            means.push(Tensor::from_vec(mean, (1, sums.len()), &self.device)?);
        }
        Ok(means)
    }

    /// What the network sees of the tile of some columns and rows, with its halo.
    fn seen(
        &self,
        input: &[Vec<f32>],
        columns: &Range<usize>,
        rows: &Range<usize>,
    ) -> Result<Seen> {
        let (width, height) = self.view.size();
        let halo = self.network.halo();
        let valid = self.network.border() == Border::Valid;
        let (x, y) = (grow(columns, halo, width), grow(rows, halo, height));
        let mut samples = Vec::new();
        for plane in input {
            let mut part = self.view.part(plane, &x, &y);
            if valid {
                // The network eats the halo: past the picture's edge, repeat it.
                part = extend(&part, (&x, &y), (columns, rows), halo);
            }
            samples.extend(part.iter().map(|v| v / MAX_VALUE));
        }
        // What goes in, what of it has a result, and what of that is not the tile's.
        let (taken, kept, skip) = if valid {
            let kept = (columns.len(), rows.len());
            ((kept.0 + 2 * halo, kept.1 + 2 * halo), kept, (0, 0))
        } else {
            let taken = (x.len(), y.len());
            let skip = (columns.start - x.start, rows.start - y.start);
            (taken, taken, skip)
        };
        let shape = (1, input.len(), taken.1, taken.0);
        Ok(Seen {
            tensor: Tensor::from_vec(samples, shape, &self.device)?,
            kept,
            skip,
        })
    }

    /// Computes the tile of some columns and rows that the network sees, and
    /// stores it into the planes of its band.
    fn tile(
        &self,
        input: &[Vec<f32>],
        means: &[Tensor],
        columns: Range<usize>,
        rows: Range<usize>,
        band: &mut [&mut [f32]],
    ) -> Result<()> {
        let (width, _) = self.size();
        let Seen { tensor, kept, skip } = self.seen(input, &columns, &rows)?;
        let result = match means {
            [] => ops::with_tf32(self.rounds, || self.network.forward(&tensor))?,
            _ => match ops::with_tf32(self.rounds, || self.network.forward_part(&tensor, means))? {
                PartialOutput::Complete(result) => result,
                PartialOutput::NeedsMean(_) => {
                    let problem = "a network takes more means than it says";
                    return Err(Error::Frame(problem.to_owned()));
                }
            },
        };
        let made = (kept.0 * self.factor, kept.1 * self.factor);
        let result = self.samples(&result, (1, band.len()), kept)?;
        let columns = columns.start * self.factor..columns.end * self.factor;
        for (part, result) in band.iter_mut().zip(result.chunks_exact(made.0 * made.1)) {
            let made_rows = result.chunks_exact(made.0).skip(skip.1 * self.factor);
            let targets = part.chunks_exact_mut(width);
            for (target, made) in targets.zip(made_rows) {
                let made = &made[skip.0 * self.factor..];
                for (target, value) in target[columns.clone()].iter_mut().zip(made) {
                    *target = (value * MAX_VALUE).clamp(0.0, MAX_VALUE);
                }
            }
        }
        Ok(())
    }
}

/// What the network sees of a tile.
struct Seen {
    /// (1, C, H, W).
    tensor: Tensor,
    /// Columns and rows of it that have a result.
    kept: (usize, usize),
    /// How many of those come before the tile's own.
    skip: (usize, usize),
}

/// The sums of the channels of (1, C, H, W), added to those of other tiles.
fn add_sums(sums: &mut Vec<f64>, part: &Tensor) -> Result<()> {
    let (_, channels, height, width) = part.dims4()?;
    sums.resize(channels, 0.0);
    let values = part.flatten_all()?.to_vec1::<f32>()?;
    for (sum, values) in sums.iter_mut().zip(values.chunks_exact(height * width)) {
        *sum += values.iter().copied().map(f64::from).sum::<f64>();
    }
    Ok(())
}

/// Where tiles begin that overlap by at least `overlap`: the last one ends
/// with the picture.
fn starts(len: usize, tile: usize, overlap: usize) -> Vec<usize> {
    let step = tile.saturating_sub(overlap).max(1);
    let last = len.saturating_sub(tile);
    (0..last).step_by(step).chain([last]).collect()
}

/// Tiles that a network can see at once within so many bytes. candle's kernels
/// count elements in 32 bits.
fn at_once(network: &BoxedScaleNetwork, (width, height): (usize, usize), memory: u64) -> usize {
    let values = (network.working_set().max(1) * width * height) as u64;
    let most = (memory / size_of::<f32>() as u64).min(u32::MAX.into());
    usize::try_from(most / values).unwrap_or(usize::MAX).max(1)
}

/// Columns and rows of a tile of a network that takes means over the picture:
/// all of it, where that fits the memory.
fn pooled_tile(
    network: &BoxedScaleNetwork,
    size: (usize, usize),
    division: &TilingOptions,
) -> (usize, usize) {
    let (halo, asked) = (2 * network.halo(), division.tile);
    let sample = network.working_set().max(1) * size_of::<f32>();
    let fits = usize::try_from(division.memory).unwrap_or(usize::MAX) / sample;
    if asked == 0 && size.0 * size.1 <= fits {
        return size;
    }
    let asked = if asked == 0 { usize::MAX } else { asked };
    let within =
        |side: usize, len: usize| side.saturating_sub(halo).max(SMALLEST).min(asked).min(len);
    let columns = within(fits.isqrt(), size.0);
    (columns, within(fits / (columns + halo), size.1))
}

/// Samples that a network that takes means over the picture holds at once, at
/// least.
pub(super) fn pooled_samples(
    network: &BoxedScaleNetwork,
    (width, height): (usize, usize),
) -> usize {
    let side = SMALLEST + 2 * network.halo();
    width.min(side) * height.min(side)
}

/// What a fused network takes of the input, row by row: values 0 to 1.
struct Rows<'a> {
    view: &'a View,
    base: Option<&'a Resampler>,
    planes: &'a [Vec<f32>],
}

thread_local! {
    /// Rows between the two passes of resampling, and what is to be added.
    static LINES: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl Source for Rows<'_> {
    fn row(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]) {
        let plane = &self.planes[plane];
        match self.view {
            View::Input((width, _)) => out.copy_from_slice(&plane[y * width..][x]),
            View::Enlarged(resampler) => LINES.with_borrow_mut(|(line, _)| {
                resampler.row(plane, y, x, line, out);
            }),
        }
        out.iter_mut().for_each(|value| *value /= MAX_VALUE);
    }

    fn add_base(&self, plane: usize, y: usize, x: Range<usize>, out: &mut [f32]) {
        let Some(resampler) = self.base else { return };
        LINES.with_borrow_mut(|(line, base)| {
            base.resize(out.len(), 0.0);
            resampler.row(&self.planes[plane], y, x, line, base);
            for (sum, base) in out.iter_mut().zip(base) {
                *sum += *base / MAX_VALUE;
            }
        });
    }
}

/// A range with `halo` more on both sides, as far as `0..len` goes.
fn grow(range: &Range<usize>, halo: usize, len: usize) -> Range<usize> {
    range.start.saturating_sub(halo)..(range.end + halo).min(len)
}

/// Repeats the edge samples of a part (`have`) until it reaches `halo` beyond `want`.
fn extend(
    part: &[f32],
    have: (&Range<usize>, &Range<usize>),
    want: (&Range<usize>, &Range<usize>),
    halo: usize,
) -> Vec<f32> {
    let source = |position: usize, have: &Range<usize>| {
        // `position` counts from `halo` before 0.
        position
            .saturating_sub(halo)
            .clamp(have.start, have.end - 1)
            - have.start
    };
    let columns = want.0.start..want.0.end + 2 * halo;
    let rows = want.1.start..want.1.end + 2 * halo;
    let mut out = Vec::with_capacity(columns.len() * rows.len());
    for y in rows {
        let row = &part[source(y, have.1) * have.0.len()..][..have.0.len()];
        out.extend(columns.clone().map(|x| row[source(x, have.0)]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ScaleNetwork;
    use crate::ops::{ConvSpec, conv2d};
    use rayon::ThreadPoolBuilder;

    /// A convolution whose results are each `factor` x `factor` samples.
    struct Blocks {
        factor: usize,
        border: Border,
        kernel: Tensor,
    }

    impl Blocks {
        fn new(factor: usize, border: Border) -> Self {
            let taps: Vec<f32> = (0..25).map(|i| 0.005 * i as f32 - 0.02).collect();
            Self {
                factor,
                border,
                kernel: Tensor::from_vec(taps, (1, 1, 5, 5), &Device::Cpu).unwrap(),
            }
        }
    }

    impl ScaleNetwork for Blocks {
        fn upsampling(&self) -> Upsampling {
            Upsampling::Post(self.factor)
        }

        fn halo(&self) -> usize {
            2
        }

        fn border(&self) -> Border {
            self.border
        }

        fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
            let spec = ConvSpec {
                border: self.border,
                ..ConvSpec::default()
            };
            let y = conv2d(x, &self.kernel, None, spec)?;
            let (height, width) = (y.dim(2)? * self.factor, y.dim(3)? * self.factor);
            y.upsample_nearest2d(height, width)
        }
    }

    const FROM: (usize, usize) = (23, 17);

    fn plane() -> Vec<f32> {
        (0..FROM.0 * FROM.1)
            .map(|i| (i * 67 % 256) as f32)
            .collect()
    }

    fn run(factor: usize, border: Border, tile: usize, threads: usize) -> (Vec<f32>, usize) {
        let network: BoxedScaleNetwork = Box::new(Blocks::new(factor, border));
        let division = TilingOptions {
            device: Device::Cpu,
            tile,
            threads,
            memory: 0,
            overlap: 0,
            allow_tf32: false,
        };
        let mut stage = Stage::new(Arc::new(network), FROM, (0, 0), &division);
        assert_eq!(stage.size(), (factor * FROM.0, factor * FROM.1));
        let mut output = vec![Vec::new()];
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let made = pool.unwrap().install(|| stage.run(&[plane()], &mut output));
        made.unwrap();
        (output.remove(0), stage.tiles())
    }

    #[test]
    fn networks_at_the_inputs_resolution_run_in_any_tiles() {
        for border in [Border::Zero, Border::Replicate, Border::Valid] {
            for factor in [1, 2, 3] {
                let (whole, count) = run(factor, border, 1000, 1);
                assert_eq!(count, 1);
                for (tile, threads) in [(1, 1), (4, 2), (5, 3), (16, 1), (22, 2)] {
                    let (tiled, count) = run(factor, border, tile, threads);
                    assert!(count > 1);
                    assert!(tiled == whole, "{border:?} x{factor}, tile {tile}");
                }
            }
        }
    }

    #[test]
    fn they_see_the_input_itself() {
        let samples = plane().iter().map(|v| v / MAX_VALUE).collect::<Vec<_>>();
        let x = Tensor::from_vec(samples, (1, 1, FROM.1, FROM.0), &Device::Cpu).unwrap();
        let made = Blocks::new(2, Border::Replicate).forward(&x).unwrap();
        let made = made.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = made.iter().map(|v| (v * MAX_VALUE).clamp(0.0, MAX_VALUE));
        let expected: Vec<f32> = expected.collect();
        assert_eq!(run(2, Border::Replicate, 7, 2).0, expected);
        // With the border repeated, a network that eats it makes the same.
        assert_eq!(run(2, Border::Valid, 7, 2).0, expected);
    }
}
