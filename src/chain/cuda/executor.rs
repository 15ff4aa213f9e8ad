//! Programs for planes, without frames around them.

use super::builder::{Builder, Planes};
use super::network::Network;
use crate::chain::{Chain, PackedChain, Precision};
use crate::frame::MAX_VALUE;
use crate::ops::cuda::{DeviceBuffer, Gpu, Half, PinnedStaging, Program};
use crate::tensor_error::Result;
use candle_core::Device;
use std::time::Instant;

/// Planes of one size: how many, width and height.
type PlaneSize = (usize, (usize, usize));

/// A program from planes to planes, with their copies.
pub(crate) struct PlaneProgram {
    gpu: Gpu,
    program: Program,
    input: (PinnedStaging, DeviceBuffer),
    output: (PinnedStaging, DeviceBuffer),
    /// Samples of a plane of the result.
    samples: usize,
}

impl PlaneProgram {
    /// The program that `build` adds the calls of, from its input to its output.
    ///
    /// # Errors
    ///
    /// No memory left, a GPU that is gone.
    pub(crate) fn new(
        gpu: &Gpu,
        band_rows: usize,
        (input, output): (PlaneSize, PlaneSize),
        build: impl FnOnce(&mut Builder, Planes, Planes) -> Result<()>,
    ) -> Result<Self> {
        let mut builder = Builder::new(gpu, band_rows);
        let buffer = |(count, size): PlaneSize| gpu.alloc_uninit::<f32>(count * size.0 * size.1);
        let (memory_in, memory_out) = (buffer(input)?, buffer(output)?);
        let planes = |memory: &DeviceBuffer, (count, size): PlaneSize| Planes {
            address: memory.address(),
            count,
            size,
        };
        let (from, to) = (planes(&memory_in, input), planes(&memory_out, output));
        build(&mut builder, from, to)?;
        let pinned =
            |planes: Planes| gpu.pinned(planes.count * planes.samples() * size_of::<f32>());
        Ok(Self {
            gpu: gpu.clone(),
            input: (pinned(from)?, memory_in),
            output: (pinned(to)?, memory_out),
            program: builder.program,
            samples: to.samples(),
        })
    }

    /// The planes of the result for the samples of all input planes.
    ///
    /// # Errors
    ///
    /// A GPU that fails.
    pub(crate) fn run(&mut self, samples: impl Iterator<Item = f32>) -> Result<Vec<Vec<f32>>> {
        let words = self.input.0.bytes()?.chunks_exact_mut(size_of::<f32>());
        for (word, sample) in words.zip(samples) {
            word.copy_from_slice(&sample.to_ne_bytes());
        }
        self.input.0.send(&self.input.1)?;
        self.program.run()?;
        self.output.0.fetch(&self.output.1)?;
        let words = self.output.0.bytes()?.chunks_exact(size_of::<f32>());
        let result: Vec<f32> = words
            .map(|word| f32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let planes = result.chunks_exact(self.samples);
        Ok(planes.map(<[f32]>::to_vec).collect())
    }
}

/// A network on a GPU for inputs of one size: the GPU's counterpart of
/// [`crate::chain::ChainExecutor`].
pub struct CudaChainExecutor {
    planes: PlaneProgram,
}

impl std::fmt::Debug for CudaChainExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaChainExecutor")
            .field("samples", &self.planes.samples)
            .finish_non_exhaustive()
    }
}

impl CudaChainExecutor {
    /// An executor for inputs of `size` (width, height), in bands of
    /// `band_rows` rows (0: chosen by the executor); `None` if the kernels do
    /// not cover the chain. [`Precision::Int8`] is [`CudaChainExecutor::quantized`].
    ///
    /// # Errors
    ///
    /// A device that is no GPU or cannot be used, no memory left.
    pub fn new(
        chain: &Chain,
        size: (usize, usize),
        device: &Device,
        precision: Precision,
        band_rows: usize,
    ) -> Result<Option<Self>> {
        if PackedChain::of_chain(chain)?.is_none() || precision == Precision::Int8 {
            return Ok(None);
        }
        let gpu = Gpu::new(device)?;
        match Network::new(&gpu, chain, half(precision))? {
            Some(network) => Self::of_network(&gpu, network, size, band_rows).map(Some),
            None => Ok(None),
        }
    }

    /// An executor for a chain in 8-bit integers ([`PackedChain::quantized`]); the
    /// rest as for [`CudaChainExecutor::new`].
    ///
    /// # Errors
    ///
    /// As [`CudaChainExecutor::new`].
    pub fn quantized(
        chain: &PackedChain,
        size: (usize, usize),
        device: &Device,
        band_rows: usize,
    ) -> Result<Option<Self>> {
        let gpu = Gpu::new(device)?;
        match Network::quantized(&gpu, chain)? {
            Some(network) => Self::of_network(&gpu, network, size, band_rows).map(Some),
            None => Ok(None),
        }
    }

    fn of_network(
        gpu: &Gpu,
        network: Network,
        size: (usize, usize),
        band_rows: usize,
    ) -> Result<Self> {
        let factor = network.factor();
        let input = (network.inputs(), size);
        let output = (network.outputs(), (size.0 * factor, size.1 * factor));
        let mut planes =
            PlaneProgram::new(gpu, band_rows, (input, output), |builder, from, to| {
                network.add(builder, (from, to), MAX_VALUE)
            })?;
        network.give_weights_to(&mut planes.program);
        Ok(Self { planes })
    }

    /// Computes the planes of a result from those of an input, dense rows of
    /// values 0 to 1. The result is clamped to that range.
    ///
    /// # Errors
    ///
    /// A GPU that fails.
    pub fn run(&mut self, input: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        let samples = input.iter().copied().flatten();
        let mut result = self.planes.run(samples.map(|value| value * MAX_VALUE))?;
        for value in result.iter_mut().flatten() {
            *value /= MAX_VALUE;
        }
        Ok(result)
    }

    /// Seconds that the network takes, the mean of some runs, without copies
    /// from and to the host.
    ///
    /// # Errors
    ///
    /// A GPU that fails.
    pub fn time(&mut self, runs: usize) -> Result<f64> {
        let PlaneProgram { gpu, program, .. } = &mut self.planes;
        // Once to load the kernels, once to build the graph.
        program.run()?;
        program.run()?;
        gpu.synchronize()?;
        let start = Instant::now();
        for _ in 0..runs {
            program.run()?;
        }
        gpu.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / runs.max(1) as f64)
    }
}

/// The 16-bit type of a precision, if it is one.
pub(crate) fn half(precision: Precision) -> Option<Half> {
    match precision {
        Precision::F32 | Precision::Tf32 | Precision::Int8 => None,
        Precision::Auto | Precision::F16 => Some(Half::F16),
        Precision::Bf16 => Some(Half::Bf16),
    }
}
