//! One network of a cascade, applied to planes: fused, or tile by tile.

mod overlapped;
mod pooled;
mod tile_size;
mod tiled;
mod view;

use crate::Error;
use crate::chain::cpu::{Areas, CellGrid, PlanesOut, Sink};
use crate::chain::{ChainExecutor, ChainOptions, Interrupt, PackedChain};
use crate::engine::options::UpscaleOptions;
use crate::engine::tiling::{SMALLEST, TILE, TilingOptions};
use crate::frame::damage::Damage;
use crate::frame::resample::Resampler;
use crate::models::{BoxedScaleNetwork, Upsampling};
use crate::tensor_error::Result;
use candle_core::{Device, Tensor};
use std::sync::Arc;
use tile_size::{batch, pooled_tile, starts};
use view::{View, ViewRows};

/// Smallest number of rows of a tile, in halos: thinner tiles would compute
/// more halo than image.
const MIN_HALOS: usize = 8;

/// A network for planes of one size, with the upscaling of its input.
pub(super) struct NetworkStage {
    network: Arc<BoxedScaleNetwork>,
    /// The device of the network's weights.
    device: Device,
    view: View,
    /// Factor from the size of the view to that of the output.
    factor: usize,
    /// Largest width and height of a tile, in samples of the view.
    tile: (usize, usize),
    /// Overlap of averaged tiles in samples; 0: tiles are exact.
    overlap: usize,
    /// Overlapping tiles in one batch.
    batch: usize,
    /// Whether a GPU may compute in TF32.
    allow_tf32: bool,
    /// The largest value of the output.
    limit: f32,
    fused: Option<Fused>,
    /// Checked before each tile.
    interrupt: Interrupt,
}

/// A network as one fused chain.
struct Fused {
    executor: ChainExecutor,
    /// Upscales the view, to be added to the output.
    residual: Option<Resampler>,
    /// The cells of the output, if they can be computed one by one.
    cells: Option<CellGrid>,
}

impl NetworkStage {
    /// A stage for planes of the size `from`. A pre-upsampling network runs at
    /// the size `to`; the output size of a post-upsampling one is
    /// [`NetworkStage::size`]. Values go from 0 to `limit`.
    pub(super) fn new(
        network: Arc<BoxedScaleNetwork>,
        from: (usize, usize),
        to: (usize, usize),
        tiling: &TilingOptions,
        limit: f32,
    ) -> Self {
        let upsampling = network.upsampling();
        let view = match upsampling {
            Upsampling::Pre => View::Upscaled(Box::new(Resampler::resize(from, to))),
            Upsampling::Post(_) => View::Input(from),
        };
        let (width, height) = view.size();
        let on_gpu = !tiling.device.is_cpu();
        let side = match tiling.tile_size {
            // As large as possible: it shrinks when the GPU is out of memory.
            0 if on_gpu => width.max(height),
            0 => TILE,
            side => side,
        };
        let overlapped = tiling
            .overlapped_tile()
            .filter(|_| network.whole_frame())
            .map(|side| (side.min(width), side.min(height)));
        let tile = match (network.whole_frame(), network.global_pools()) {
            (true, _) => overlapped.unwrap_or((width, height)),
            (_, 0) => {
                let threads = match on_gpu || network.rounds_by_tile() {
                    true => 1,
                    false => tiling.threads,
                };
                let bands = height.div_ceil(side).next_multiple_of(threads);
                let thinnest = (MIN_HALOS * network.halo()).min(side).max(1);
                (side, height.div_ceil(bands).max(thinnest))
            }
            _ => pooled_tile(&network, view.size(), tiling),
        };
        let batch = match on_gpu {
            true => batch(&network, tile, tiling.memory),
            false => 1,
        };
        Self {
            tile,
            overlap: overlapped.map_or(0, |_| tiling.tile_overlap),
            batch,
            allow_tf32: tiling.allow_tf32,
            factor: upsampling.factor(),
            device: tiling.device.clone(),
            network,
            view,
            limit,
            fused: None,
            interrupt: Interrupt::default(),
        }
    }

    /// Makes runs end with an error at this request.
    pub(super) fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
        if let Some(fused) = &mut self.fused {
            fused.executor.set_interrupt(interrupt.clone());
        }
    }

    /// Touches the memory of later runs.
    pub(super) fn warm_up(&mut self) {
        if let Some(fused) = &mut self.fused {
            fused.executor.warm_up();
        }
    }

    /// Makes the network run as a fused chain.
    ///
    /// # Errors
    ///
    /// As [`ChainExecutor::of`].
    pub(super) fn fuse(
        &mut self,
        packed: Arc<PackedChain>,
        options: &UpscaleOptions,
    ) -> Result<()> {
        let upscales = packed.epilogue.residual_bicubic && packed.factor() > 1;
        let residual = upscales.then(|| Resampler::resize(self.view.size(), self.size()));
        let options = ChainOptions {
            tile_size: options.tile_size,
            threads: options.threads,
        };
        let executor = ChainExecutor::of(packed, self.view.size(), &options)?;
        self.fused = Some(Fused {
            cells: executor.cells(),
            executor,
            residual,
        });
        Ok(())
    }

    /// Width and height of the output.
    pub(super) fn size(&self) -> (usize, usize) {
        let (width, height) = self.view.size();
        (width * self.factor, height * self.factor)
    }

    /// Size of the tiles in samples of the view; `None` if they cannot be
    /// smaller.
    pub(super) fn tile_size(&self) -> Option<usize> {
        let side = self.tile.0.max(self.tile.1);
        let untiled = self.network.whole_frame() && self.overlap == 0;
        (!untiled && side > SMALLEST).then_some(side)
    }

    /// Halves the batch of overlapping tiles. Returns whether that was possible.
    pub(super) fn halve_batch(&mut self) -> bool {
        let batch = self.batch.min(self.tiles());
        self.batch = batch.div_ceil(2);
        self.overlap > 0 && batch > 1
    }

    /// The number of tiles of a run.
    pub(super) fn tiles(&self) -> usize {
        if let Some(fused) = &self.fused {
            return fused.executor.regions();
        }
        let (width, height) = self.view.size();
        if self.overlap > 0 {
            let count = |len, tile| starts(len, tile, self.overlap).len();
            return count(width, self.tile.0) * count(height, self.tile.1);
        }
        width.div_ceil(self.tile.0) * height.div_ceil(self.tile.1)
    }

    /// Whether [`NetworkStage::run_into`] is possible.
    pub(super) fn is_fused(&self) -> bool {
        self.fused.is_some()
    }

    fn cells(&self) -> Option<&CellGrid> {
        self.fused.as_ref()?.cells.as_ref()
    }

    /// Adds to `areas` what depends on the damage of the input planes: everything,
    /// if the network does not run on parts of a frame.
    pub(super) fn extend(&self, areas: &mut Areas, input: &Damage) {
        let Some(Fused {
            residual,
            cells: Some(cells),
            ..
        }) = &self.fused
        else {
            if !input.is_none() {
                *areas = Areas::Whole;
            }
            return;
        };
        let upscaled = match &self.view {
            View::Input(_) => None,
            View::Upscaled(resampler) => Some(input.resampled(resampler)),
        };
        // The residual reads the planes, which are the view where there is one.
        let added = match residual {
            Some(residual) => input.resampled(residual),
            None => Damage::none(self.size()),
        };
        cells.extend(areas, upscaled.as_ref().unwrap_or(input), &added);
    }

    /// Adds damage of the output to `areas`.
    pub(super) fn extend_output(&self, areas: &mut Areas, output: &Damage) {
        match self.cells() {
            Some(cells) => cells.extend(areas, &Damage::none(self.view.size()), output),
            None if output.is_none() => {}
            None => *areas = Areas::Whole,
        }
    }

    /// The samples of the output in `areas`.
    pub(super) fn damage(&self, areas: &Areas) -> Damage {
        match self.cells() {
            Some(cells) => cells.damage(areas),
            None if areas.is_none() => Damage::none(self.size()),
            None => Damage::all(self.size()),
        }
    }

    /// The share of the output in `areas`, 0 to 1.
    pub(super) fn share(&self, areas: &Areas) -> f64 {
        match self.cells() {
            Some(cells) => cells.share(areas),
            None if areas.is_none() => 0.0,
            None => 1.0,
        }
    }

    /// Computes areas of one plane per input plane and hands their samples to
    /// `sink`, rows in any order: values 0 to 1, not clamped.
    ///
    /// # Errors
    ///
    /// A stage that is not fused, an interruption.
    pub(super) fn run_into(
        &mut self,
        input: &[&[f32]],
        sink: &dyn Sink,
        areas: &Areas,
    ) -> Result<()> {
        let Some(Fused {
            executor, residual, ..
        }) = &mut self.fused
        else {
            let problem = "only a fused chain writes row by row";
            return Err(Error::Internal(problem.to_owned()).into());
        };
        let source = ViewRows {
            view: &self.view,
            residual: residual.as_ref(),
            planes: input,
        };
        executor.process(&source, sink, areas);
        Ok(self.interrupt.check()?)
    }

    /// Computes areas of one plane per input plane: values 0 to 255, clamped to the
    /// limit.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub(super) fn run(
        &mut self,
        input: &[&[f32]],
        output: &mut [&mut [f32]],
        areas: &Areas,
    ) -> Result<()> {
        if areas.is_none() {
            return Ok(());
        }
        if self.is_fused() {
            let width = self.size().0;
            let sink = PlanesOut::clamped(output, width, self.limit);
            return self.run_into(input, &sink, areas);
        }
        match self.overlap {
            0 => self.run_tiled(input, output),
            _ => self.run_overlapped(input, output),
        }
    }

    /// The samples of a network's output; checks its shape, for `batch` tiles of
    /// `tile` samples of the view and `planes` planes.
    fn samples(
        &self,
        result: &Tensor,
        (batch, planes): (usize, usize),
        tile: (usize, usize),
    ) -> Result<Vec<f32>> {
        let expected = (batch, planes, tile.1 * self.factor, tile.0 * self.factor);
        if result.dims4()? != expected {
            let problem = format!(
                "a network's output has the shape {:?}, expected {expected:?}",
                result.dims()
            );
            return Err(Error::Internal(problem).into());
        }
        Ok(result.flatten_all()?.to_vec1::<f32>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MAX_VALUE;
    use crate::models::ScaleNetwork;
    use crate::ops::{Border, ConvSpec, conv2d};
    use rayon::ThreadPoolBuilder;

    /// A convolution whose output values are blocks of `factor` x `factor` samples.
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
        let tiling = TilingOptions {
            device: Device::Cpu,
            tile_size: tile,
            threads,
            memory: 0,
            tile_overlap: 0,
            allow_tf32: false,
        };
        let mut stage = NetworkStage::new(Arc::new(network), FROM, (0, 0), &tiling, MAX_VALUE);
        assert_eq!(stage.size(), (factor * FROM.0, factor * FROM.1));
        let mut output = vec![0.0; stage.size().0 * stage.size().1];
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let run = || stage.run(&[&plane()], &mut [&mut output], &Areas::Whole);
        pool.unwrap().install(run).unwrap();
        (output, stage.tiles())
    }

    #[test]
    fn post_upsampling_networks_run_in_any_tiles() {
        for border in [Border::Zero, Border::Replicate, Border::Valid] {
            for factor in [1, 2, 3] {
                let (untiled, count) = run(factor, border, 1000, 1);
                assert_eq!(count, 1);
                for (tile, threads) in [(1, 1), (4, 2), (5, 3), (16, 1), (22, 2)] {
                    let (tiled, count) = run(factor, border, tile, threads);
                    assert!(count > 1);
                    assert!(tiled == untiled, "{border:?} x{factor}, tile {tile}");
                }
            }
        }
    }

    #[test]
    fn post_upsampling_networks_read_the_input() {
        let samples = plane().iter().map(|v| v / MAX_VALUE).collect::<Vec<_>>();
        let x = Tensor::from_vec(samples, (1, 1, FROM.1, FROM.0), &Device::Cpu).unwrap();
        let output = Blocks::new(2, Border::Replicate).forward(&x).unwrap();
        let output = output.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = output.iter().map(|v| (v * MAX_VALUE).clamp(0.0, MAX_VALUE));
        let expected: Vec<f32> = expected.collect();
        assert_eq!(run(2, Border::Replicate, 7, 2).0, expected);
        // A network without padding gets a replicated border.
        assert_eq!(run(2, Border::Valid, 7, 2).0, expected);
    }
}
