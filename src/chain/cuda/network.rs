//! A chain of convolutions as launches of the GPU's kernels.
//!
//! The chain is divided into the segments of the CPU's executor: whole frames
//! lie between them. A segment runs in bands of rows, high enough to keep the
//! whole GPU busy; the result does not depend on the bands.

use super::builder::{Builder, Planes};
use super::epilogue::epilogue_args;
use super::pack::{Layer, copies, pack_layer};
use super::pack_quantized::pack_quantized;
use crate::chain::segment::{assign_buffers, split_segments};
use crate::chain::{Chain, Epilogue, PackedChain};
use crate::ops::Border;
use crate::ops::cuda::{
    Convolve, DeviceBuffer, Enter, Gpu, HALF_TILE, Half, MOST_PLANES, Numbers, Program,
    WIDEST_FIRST,
};
use crate::tensor_error::Result;
use std::ops::Range;

/// Tiles of a band for each of the GPU's multiprocessors, which work on one or
/// two of them at a time: that few are idle while the last ones are done.
const TILES_EACH: usize = 32;

/// A network whose weights are on a GPU.
pub(crate) struct Network {
    numbers: Numbers,
    layers: Vec<Layer>,
    /// Planes in and out.
    planes: (usize, usize),
    factor: usize,
    border: Border,
    input_affine: Vec<(f32, f32)>,
    epilogue: Epilogue,
}

/// The frame between two layers, or some of its rows.
#[derive(Debug, Clone, Copy)]
struct LayerFrame {
    address: u64,
    size: (usize, usize),
    row0: usize,
    rows: usize,
}

/// Rows that each layer of a segment computes for one band, before the shuffle.
type Band = Vec<Range<usize>>;

impl Network {
    /// The chain on a GPU, in f32 or, with `half`, a 16-bit type; `None` if the
    /// kernels do not cover it. The CPU's plan must.
    ///
    /// # Errors
    ///
    /// Weights that cannot be read, no memory left.
    pub(crate) fn new(gpu: &Gpu, chain: &Chain, half: Option<Half>) -> Result<Option<Self>> {
        let (Some(first), Some(last)) = (chain.layers.first(), chain.layers.last()) else {
            return Ok(None);
        };
        let border = first.conv.spec.border;
        let planes = first.conv.weight.dim(1)?;
        let inner = chain.layers.iter().rev().skip(1);
        let grows_inside = inner.into_iter().any(|link| link.shuffle > 1);
        let wide = half.is_some() && first.conv.weight.dim(3)? > WIDEST_FIRST;
        if planes > MOST_PLANES || wide || (border == Border::Valid && grows_inside) {
            return Ok(None);
        }
        let mut layers = Vec::<Layer>::new();
        for (i, link) in chain.layers.iter().enumerate() {
            let inputs = (layers.last()).map_or(planes * copies(half), |layer| layer.stored);
            let is_last = i + 1 == chain.layers.len();
            layers.push(pack_layer(gpu, link, inputs, (i == 0, is_last), half)?);
        }
        let outputs = last.conv.weight.dim(0)? / (last.shuffle * last.shuffle);
        Ok(Some(Self {
            numbers: half.map_or(Numbers::F32, Numbers::Half),
            layers,
            planes: (planes, outputs),
            factor: chain.factor(),
            border,
            input_affine: chain.combined_affine(planes),
            epilogue: chain.epilogue,
        }))
    }

    /// A chain in 8-bit integers on a GPU; `None` if the kernels do not cover it.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn quantized(gpu: &Gpu, packed: &PackedChain) -> Result<Option<Self>> {
        let Some(first) = packed
            .layers
            .first()
            .filter(|_| packed.planes <= MOST_PLANES)
        else {
            return Ok(None);
        };
        let last = packed.layers.len() - 1;
        let mut layers = Vec::new();
        for (i, layer) in packed.layers.iter().enumerate() {
            let shuffle = if i == last {
                packed.shuffle
            } else {
                layer.shuffle
            };
            let Some(layer) = pack_quantized(gpu, layer, shuffle)? else {
                return Ok(None);
            };
            layers.push(layer);
        }
        Ok(Some(Self {
            numbers: Numbers::Int8,
            layers,
            planes: (packed.planes, packed.outputs),
            factor: packed.factor(),
            border: first.border,
            input_affine: packed.input_affine.clone(),
            epilogue: packed.epilogue,
        }))
    }

    /// Planes of its input.
    pub(crate) fn inputs(&self) -> usize {
        self.planes.0
    }

    /// Planes of its result.
    pub(crate) fn outputs(&self) -> usize {
        self.planes.1
    }

    /// Width of the result in widths of the input.
    pub(crate) fn factor(&self) -> usize {
        self.factor
    }

    /// Moves the weights into a program, which holds them as long as it lives.
    pub(crate) fn give_weights_to(self, program: &mut Program) {
        for layer in self.layers {
            let all = [Some(layer.weights), Some(layer.bias), layer.slope];
            all.into_iter().flatten().for_each(|memory| {
                program.keep(memory);
            });
        }
    }

    /// Adds the launches that compute the planes `dst` from the planes `input`: values
    /// from 0 to `limit`.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn add(
        &self,
        builder: &mut Builder,
        (input, dst): (Planes, Planes),
        limit: f32,
    ) -> Result<()> {
        let end = Convolve {
            epilogue: epilogue_args(self.epilogue, builder, (input, dst), self.factor, limit)?,
            planes: self.planes.1 as i32,
            ..Convolve::default()
        };
        let first = self.preprocess(builder, input)?;
        let sizes = self.sizes(first.size);
        let skips: Vec<_> = self.layers.iter().map(|layer| layer.skip).collect();
        let segments = split_segments(&skips);
        let frames = assign_buffers(&skips, &segments, |_| false);
        let buffers = self.buffers(builder, &frames, &sizes)?;
        let mut whole: Vec<Option<LayerFrame>> = (frames.iter().zip(&sizes))
            .map(|(frame, &size)| {
                frame.map(|frame| LayerFrame {
                    address: buffers[frame],
                    size,
                    row0: 0,
                    rows: size.1,
                })
            })
            .collect();
        whole[0] = Some(first);
        // The last layer writes planes: where, the kernel takes from their size.
        whole[self.layers.len()] = Some(LayerFrame {
            address: dst.address,
            size: dst.size,
            row0: 0,
            rows: dst.size.1,
        });
        for segment in &segments {
            self.segment(builder, segment, &sizes, &whole, &end)?;
        }
        Ok(())
    }

    /// The input of the first layer, with the edge repeated where the network
    /// has no padding.
    fn preprocess(&self, builder: &mut Builder, input: Planes) -> Result<LayerFrame> {
        let edge = match self.border {
            Border::Valid => self.layers.iter().map(Layer::pad).sum(),
            _ => 0,
        };
        let (width, height) = input.size;
        let size = (width + 2 * edge, height + 2 * edge);
        let copies = match self.numbers {
            Numbers::Half(half) => copies(Some(half)),
            _ => 1,
        };
        let planes = copies * self.planes.0;
        let mut enter = Enter {
            planes: input.address,
            dst: self.alloc(builder, planes * size.0 * size.1)?,
            width: width as i32,
            height: height as i32,
            count: self.planes.0 as i32,
            edge: edge as i32,
            ..Enter::default()
        };
        for (plane, &(scale, offset)) in self.input_affine.iter().enumerate() {
            (enter.scale[plane], enter.offset[plane]) = (scale, offset);
        }
        builder.program.enter(self.numbers, enter)?;
        Ok(LayerFrame {
            address: enter.dst,
            size,
            row0: 0,
            rows: size.1,
        })
    }

    /// Width and height of every boundary between layers.
    fn sizes(&self, input: (usize, usize)) -> Vec<(usize, usize)> {
        let mut sizes = vec![input];
        let mut size = input;
        for layer in &self.layers {
            let lost = match self.border {
                Border::Valid => layer.kernel - 1,
                _ => 0,
            };
            size = (
                (size.0 - lost) * layer.shuffle,
                (size.1 - lost) * layer.shuffle,
            );
            sizes.push(size);
        }
        sizes
    }

    /// Memory for the frames between segments.
    fn buffers(
        &self,
        builder: &mut Builder,
        frames: &[Option<usize>],
        sizes: &[(usize, usize)],
    ) -> Result<Vec<u64>> {
        let mut most: Vec<usize> = Vec::new();
        for ((layer, frame), size) in self.layers.iter().zip(&frames[1..]).zip(&sizes[1..]) {
            if let &Some(frame) = frame {
                most.resize(most.len().max(frame + 1), 0);
                most[frame] = most[frame].max(layer.stored * size.0 * size.1);
            }
        }
        let buffers = most.into_iter().map(|values| self.alloc(builder, values));
        buffers.collect()
    }

    fn value_size(&self) -> usize {
        match self.numbers {
            Numbers::Half(_) => size_of::<u16>(),
            Numbers::F32 | Numbers::Int8 => size_of::<u32>(),
        }
    }

    /// Memory for values between layers.
    fn alloc(&self, builder: &mut Builder, values: usize) -> Result<u64> {
        Ok(builder.program.alloc::<u8>(values * self.value_size())?)
    }

    /// The rows that the layers of a segment compute for some rows of its result,
    /// before their shuffles.
    fn band(&self, segment: &Range<usize>, sizes: &[(usize, usize)], rows: Range<usize>) -> Band {
        let mut band = vec![rows];
        for l in (segment.start + 1..segment.end).rev() {
            let (layer, before) = (&self.layers[l], &self.layers[l - 1]);
            let output = band.last().cloned().unwrap_or_default();
            let pad = match self.border {
                Border::Valid => 0,
                _ => layer.pad(),
            };
            let first = output.start.saturating_sub(pad);
            let end = (output.end + layer.kernel - 1 - pad).min(sizes[l].1);
            band.push(first / before.shuffle..end.div_ceil(before.shuffle));
        }
        band.reverse();
        band
    }

    /// The bands of a segment that are `rows` rows of its result each.
    fn bands(&self, segment: &Range<usize>, sizes: &[(usize, usize)], rows: usize) -> Vec<Band> {
        let shuffle = self.layers[segment.end - 1].shuffle;
        let height = sizes[segment.end].1 / shuffle;
        (0..height)
            .step_by(rows)
            .map(|row| self.band(segment, sizes, row..(row + rows).min(height)))
            .collect()
    }

    /// Values of the two frames that the hidden layers of a segment alternate
    /// between, for the largest band.
    fn hidden(
        &self,
        segment: &Range<usize>,
        sizes: &[(usize, usize)],
        bands: &[Band],
    ) -> [usize; 2] {
        let mut most = [0; 2];
        for (i, l) in (segment.start..segment.end - 1).enumerate() {
            let layer = &self.layers[l];
            let rows = bands.iter().map(|band| band[i].len()).max().unwrap_or(0);
            let values = rows * layer.shuffle * sizes[l + 1].0 * layer.stored;
            most[i % 2] = most[i % 2].max(values);
        }
        most
    }

    fn segment(
        &self,
        builder: &mut Builder,
        segment: &Range<usize>,
        sizes: &[(usize, usize)],
        whole: &[Option<LayerFrame>],
        end: &Convolve,
    ) -> Result<()> {
        let height = (sizes[segment.end].1 / self.layers[segment.end - 1].shuffle).max(1);
        let width = sizes[segment.end].0 / self.layers[segment.end - 1].shuffle;
        let mut rows = match builder.band_rows {
            0 => {
                let tiles = (TILES_EACH * builder.gpu.units).div_ceil(width.div_ceil(HALF_TILE.0));
                // None of them much lower than the others.
                let bands = (height / (tiles * HALF_TILE.1)).max(1);
                height
                    .div_ceil(bands)
                    .next_multiple_of(HALF_TILE.1)
                    .min(height)
            }
            rows => rows.min(height),
        };
        let smaller = |rows: usize| (rows / 2).next_multiple_of(HALF_TILE.1);
        let (bands, hidden) = loop {
            let bands = self.bands(segment, sizes, rows);
            let values = self.hidden(segment, sizes, &bands);
            let sizes = values.map(|count| count * self.value_size());
            let buffers = sizes
                .iter()
                .map(|&bytes| builder.gpu.alloc_uninit::<u8>(bytes));
            match buffers.collect::<candle_core::Result<Vec<_>>>() {
                Ok(buffers) => {
                    let keep = |memory| builder.program.keep(memory);
                    break (bands, buffers.into_iter().map(keep).collect::<Vec<_>>());
                }
                // Less memory than that takes.
                Err(_) if smaller(rows) < rows => rows = smaller(rows),
                Err(error) => return Err(error.into()),
            }
        };
        for band in &bands {
            let mut source = frame_at(whole, segment.start)?;
            for (l, rows) in segment.clone().zip(band) {
                let layer = &self.layers[l];
                let output = match l + 1 < segment.end {
                    true => LayerFrame {
                        address: hidden[(l - segment.start) % 2],
                        size: sizes[l + 1],
                        row0: rows.start * layer.shuffle,
                        rows: rows.len() * layer.shuffle,
                    },
                    false => frame_at(whole, l + 1)?,
                };
                let skip = layer.skip.map(|skip| frame_at(whole, skip)).transpose()?;
                let rest = match l + 1 == self.layers.len() {
                    true => *end,
                    false => Convolve::default(),
                };
                let call = self.call(l, rows, (source, output, skip), rest);
                builder.program.convolve(self.numbers, l == 0, call)?;
                source = output;
            }
        }
        Ok(())
    }

    fn call(
        &self,
        l: usize,
        rows: &Range<usize>,
        (source, output, skip): (LayerFrame, LayerFrame, Option<LayerFrame>),
        rest: Convolve,
    ) -> Convolve {
        let layer = &self.layers[l];
        let pad = match self.border {
            Border::Valid => 0,
            _ => layer.pad(),
        };
        let address = |memory: &DeviceBuffer| memory.address();
        Convolve {
            source: source.address,
            dst: output.address,
            weights: layer.weights.address(),
            bias: layer.bias.address(),
            slope: layer.slope.as_ref().map_or(0, address),
            skip: skip.map_or(0, |skip| skip.address),
            inputs: layer.inputs as i32,
            outputs: layer.outputs as i32,
            kernel: layer.kernel as i32,
            pad: pad as i32,
            border: (self.border == Border::Replicate).into(),
            source_width: source.size.0 as i32,
            source_height: source.size.1 as i32,
            width: (output.size.0 / layer.shuffle) as i32,
            height: (output.size.1 / layer.shuffle) as i32,
            source_row0: source.row0 as i32,
            source_rows: source.rows as i32,
            dst_row0: output.row0 as i32,
            skip_row0: 0,
            row0: rows.start as i32,
            rows: rows.len() as i32,
            shuffle: layer.shuffle as i32,
            source_plane: source.rows as i32,
            dst_plane: output.rows as i32,
            integers: layer.integers,
            ..rest
        }
    }
}

fn frame_at(whole: &[Option<LayerFrame>], boundary: usize) -> Result<LayerFrame> {
    whole[boundary].ok_or_else(|| {
        crate::Error::Internal(format!("boundary {boundary} of a chain has no buffer")).into()
    })
}
