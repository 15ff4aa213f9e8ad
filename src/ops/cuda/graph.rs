//! Calls of kernels in order, and the graphs that they become.

use super::device::Gpu;
use super::launch_args::{Colors, Convolve, Enter, Half, Numbers, Replace, Resample, Samples};
use super::memory::DeviceBuffer;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaGraph, CudaStream, LaunchConfig, PushKernelArg, sys,
};
use candle_core::{Result, bail};
use std::sync::Arc;

/// Threads of a block of the kernels that take samples one by one.
const BLOCK: (u32, u32) = (32, 8);

/// The kernels' tiles (`convolve.cu`): columns, rows.
pub(crate) const HALF_TILE: (usize, usize) = (32, 16);
const PLAIN_TILE: (usize, usize) = (32, 32);

/// Channels that the plain kernel makes at once.
pub(crate) const PLAIN_CHANNELS: usize = 16;

/// The tiles of the kernels in integers (`quantized.cu`), and the channels of a block.
const INTEGER_TILE: (usize, usize) = (32, 32);
pub(crate) const INTEGER_CHANNELS: usize = 16;

/// Values of a pixel in shared memory, and how far apart pixels are there.
pub(crate) const CHUNK: usize = 16;
const PIXEL: usize = 24;

/// Warps of a block, and pixels of a row that a warp stores at once.
const WARPS: usize = 8;
const WARP_COLUMNS: usize = 16;

/// The widest kernel that the first layer may have, in 16-bit types.
pub(crate) const WIDEST_FIRST: usize = CHUNK;

#[derive(Clone, Copy)]
enum Arguments {
    Samples(Samples),
    Resample(Resample),
    Colors(Colors),
    Replace(Replace),
    Enter(Enter),
    Convolve(Convolve),
}

/// A kernel and all that it takes.
struct Call {
    kernel: CudaFunction,
    config: LaunchConfig,
    arguments: Arguments,
}

/// Calls in order, and the memory that they work on.
pub(crate) struct Program {
    gpu: Gpu,
    calls: Vec<Call>,
    memory: Vec<DeviceBuffer>,
    /// Whether all kernels ran once: what loads them must not be in a graph.
    warm: bool,
    graph: Option<Graph>,
}

/// The calls as a graph.
struct Graph(CudaGraph);

// SAFETY: the driver lets any thread use a graph, one at a time: the program
// that owns it launches it by an exclusive reference.
unsafe impl Send for Graph {}
// SAFETY: a shared reference does nothing: the field is private, and only
// `Program::run`, which takes `&mut self`, launches it.
unsafe impl Sync for Graph {}

impl Program {
    /// Without any calls yet.
    pub(crate) fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            calls: Vec::new(),
            memory: Vec::new(),
            warm: false,
            graph: None,
        }
    }

    /// Keeps memory for as long as the program lives; where it begins.
    pub(crate) fn keep(&mut self, memory: DeviceBuffer) -> u64 {
        let address = memory.address();
        self.memory.push(memory);
        address
    }

    /// Uninitialised device memory for `count` values, held by the program.
    ///
    /// # Errors
    ///
    /// As [`Gpu::alloc_uninit`].
    pub(crate) fn alloc<T>(&mut self, count: usize) -> Result<u64> {
        let memory = self.gpu.alloc_uninit::<T>(count)?;
        Ok(self.keep(memory))
    }

    /// Samples of a frame to planes.
    pub(crate) fn read(&mut self, samples: Samples) -> Result<()> {
        self.samples(
            "read_samples",
            samples.width,
            samples.height,
            Arguments::Samples(samples),
        )
    }

    /// Planes to samples of a frame.
    pub(crate) fn store(&mut self, samples: Samples) -> Result<()> {
        self.samples(
            "store_samples",
            samples.width,
            samples.height,
            Arguments::Samples(samples),
        )
    }

    /// Resamples down the columns: rows from rows.
    pub(crate) fn resample_rows(&mut self, axis: Resample) -> Result<()> {
        self.samples(
            "resample_rows",
            axis.width,
            axis.height,
            Arguments::Resample(axis),
        )
    }

    /// Resamples along the rows: columns from columns.
    pub(crate) fn resample_columns(&mut self, axis: Resample) -> Result<()> {
        self.samples(
            "resample_columns",
            axis.width,
            axis.height,
            Arguments::Resample(axis),
        )
    }

    /// Changes colours.
    pub(crate) fn colors(&mut self, colors: Colors) -> Result<()> {
        let config = in_a_row(colors.samples);
        self.call("change_colors", config, Arguments::Colors(colors))
    }

    /// Copies bytes, and notes whether any differed.
    pub(crate) fn replace(&mut self, replace: Replace) -> Result<()> {
        let config = in_a_row(replace.length.div_ceil(size_of::<u32>() as u64));
        self.call("replace_bytes", config, Arguments::Replace(replace))
    }

    /// Planes of 0 to 255 to what the first layer sees.
    pub(crate) fn enter(&mut self, numbers: Numbers, enter: Enter) -> Result<()> {
        let name = match numbers {
            Numbers::F32 => "enter_f32",
            Numbers::Half(Half::F16) => "enter_f16",
            Numbers::Half(Half::Bf16) => "enter_bf16",
            Numbers::Int8 => "enter_int8",
        };
        let (width, height) = (enter.width + 2 * enter.edge, enter.height + 2 * enter.edge);
        let mut config = per_sample(width, height);
        config.grid_dim.2 = enter.count as u32;
        self.call(name, config, Arguments::Enter(enter))
    }

    /// A convolution, the `first` one of a network or a later one.
    ///
    /// # Errors
    ///
    /// A kernel that is too large for the GPU.
    pub(crate) fn convolve(
        &mut self,
        numbers: Numbers,
        first: bool,
        layer: Convolve,
    ) -> Result<()> {
        let (plain, integers) = (
            (PLAIN_TILE, PLAIN_CHANNELS),
            (INTEGER_TILE, INTEGER_CHANNELS),
        );
        match (numbers, first) {
            (Numbers::F32, _) => self.convolve_planes("convolve_f32", plain, layer),
            (Numbers::Half(half), _) => self.convolve_half(half, first, layer),
            (Numbers::Int8, true) => self.convolve_planes("first_int8", integers, layer),
            (Numbers::Int8, false) => self.convolve_planes("conv_int8", integers, layer),
        }
    }

    /// A convolution of planes of 32-bit words: `channels` of a tile in each block.
    fn convolve_planes(
        &mut self,
        name: &str,
        (tile, channels): ((usize, usize), usize),
        mut layer: Convolve,
    ) -> Result<()> {
        let kernel = layer.kernel as usize;
        let area = (tile.0 + kernel - 1) * (tile.1 + kernel - 1);
        let each = area + kernel * kernel * channels;
        let shared = |chunk: usize| (chunk * each + 4) * size_of::<u32>();
        // Two blocks side by side, if there is room for them.
        let room = (self.gpu.shared / 2).max(shared(1));
        let fits = (1..=layer.inputs as usize).rev();
        let chunk = fits
            .into_iter()
            .find(|&chunk| chunk <= 8 && shared(chunk) <= room);
        let chunk = chunk.unwrap_or(1);
        if shared(chunk) > self.gpu.shared {
            bail!("a kernel of side {kernel} is too large for this GPU")
        }
        layer.chunk = chunk as i32;
        let config = LaunchConfig {
            grid_dim: tiles(&layer, tile, (layer.outputs as usize).div_ceil(channels)),
            block_dim: (BLOCK.0, BLOCK.1, 1),
            shared_mem_bytes: shared(chunk) as u32,
        };
        self.call(name, config, Arguments::Convolve(layer))
    }

    /// A convolution on the tensor cores.
    fn convolve_half(&mut self, half: Half, first: bool, layer: Convolve) -> Result<()> {
        let (kernel, inputs) = (layer.kernel as usize, layer.inputs as usize);
        let all = (layer.outputs as usize).div_ceil(8);
        let groups = [1, 2, 4]
            .into_iter()
            .find(|&groups| groups >= all)
            .unwrap_or(8);
        let rows = HALF_TILE.1 + kernel - 1;
        let patch = match first {
            true => 2 * inputs * rows * (HALF_TILE.0 + CHUNK) * size_of::<u16>(),
            false => {
                let patches = inputs.div_ceil(CHUNK).min(2);
                patches * rows * (HALF_TILE.0 + kernel - 1) * PIXEL * size_of::<u16>()
            }
        };
        let staging = WARPS * WARP_COLUMNS * (groups * 8 + 4) * size_of::<f32>();
        let shared = patch.max(staging);
        if shared > self.gpu.shared {
            bail!("a kernel of side {kernel} is too large for this GPU")
        }
        let which = if first { "first" } else { "conv" };
        let name = format!("{which}_{}_{groups}", half.name());
        let config = LaunchConfig {
            grid_dim: tiles(&layer, HALF_TILE, all.div_ceil(groups)),
            block_dim: ((WARPS * 32) as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        self.call(&name, config, Arguments::Convolve(layer))
    }

    fn samples(&mut self, name: &str, width: i32, height: i32, arguments: Arguments) -> Result<()> {
        self.call(name, per_sample(width, height), arguments)
    }

    fn call(&mut self, name: &str, config: LaunchConfig, arguments: Arguments) -> Result<()> {
        let kernel = self.gpu.kernel(name, config.shared_mem_bytes as usize)?;
        self.calls.push(Call {
            kernel,
            config,
            arguments,
        });
        Ok(())
    }

    /// Begins all calls, in the stream's order: from the second time on as one
    /// graph.
    ///
    /// # Errors
    ///
    /// A GPU that is gone.
    pub(crate) fn run(&mut self) -> Result<()> {
        if let Some(Graph(graph)) = &self.graph {
            return graph.launch().w();
        }
        let stream = &self.gpu.stream;
        if !self.warm {
            self.calls.iter().try_for_each(|call| call.launch(stream))?;
            self.warm = true;
            return Ok(());
        }
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).w()?;
        let launched = self.calls.iter().try_for_each(|call| call.launch(stream));
        // Ends the capture also where a launch failed.
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).w();
        launched?;
        let Some(graph) = graph? else {
            bail!("the GPU's driver made no graph of the kernels")
        };
        graph.launch().w()?;
        self.graph = Some(Graph(graph));
        Ok(())
    }
}

impl Call {
    fn launch(&self, stream: &Arc<CudaStream>) -> Result<()> {
        let mut launch = stream.launch_builder(&self.kernel);
        match &self.arguments {
            Arguments::Samples(arguments) => launch.arg(arguments),
            Arguments::Resample(arguments) => launch.arg(arguments),
            Arguments::Colors(arguments) => launch.arg(arguments),
            Arguments::Replace(arguments) => launch.arg(arguments),
            Arguments::Enter(arguments) => launch.arg(arguments),
            Arguments::Convolve(arguments) => launch.arg(arguments),
        };
        // SAFETY: the kernel takes this structure, whose addresses are of
        // memory that the program, or what made it, keeps.
        unsafe { launch.launch(self.config) }.w()?;
        Ok(())
    }
}

fn per_sample(width: i32, height: i32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (
            (width as u32).div_ceil(BLOCK.0),
            (height as u32).div_ceil(BLOCK.1),
            1,
        ),
        block_dim: (BLOCK.0, BLOCK.1, 1),
        shared_mem_bytes: 0,
    }
}

/// `count` threads, or a few more.
fn in_a_row(count: u64) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (count.div_ceil(256) as u32, 1, 1),
        block_dim: (256, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Blocks for the tiles of a layer's rows.
fn tiles(layer: &Convolve, tile: (usize, usize), deep: usize) -> (u32, u32, u32) {
    let count = |length: i32, tile: usize| (length as usize).div_ceil(tile) as u32;
    (
        count(layer.width, tile.0),
        count(layer.rows, tile.1),
        deep as u32,
    )
}
