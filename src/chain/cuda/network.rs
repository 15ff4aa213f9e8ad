//! A chain of convolutions as calls of the GPU's kernels.
//!
//! The chain is cut where the plan of the CPU is: whole pictures lie between
//! segments. Inside a segment the picture runs in bands of rows, which keep the
//! whole GPU busy and take no more memory than that; a result depends on no
//! band.

use super::builder::{Builder, Planes};
use crate::Result;
use crate::chain::segment::{assign_buffers, split_segments};
use crate::chain::{Chain, ChainLayer};
use crate::frame::resample::Resampler;
use crate::ops::cuda::{
    CHUNK, Convolve, DeviceBuffer, Enter, Gpu, HALF_TILE, Half, MOST_PLANES, PLAIN_CHANNELS,
    Program, WIDEST_FIRST,
};
use crate::ops::{Activation, Border};
use candle_core::{DType, Tensor};
use std::ops::Range;

/// Channels that the tensor cores make at once.
const GROUP: usize = 8;

/// Tiles of a band for each of the GPU's multiprocessors, which work on one or
/// two of them at a time: that few are idle while the last ones are done.
const TILES_EACH: usize = 32;

/// A network whose weights are on a GPU.
pub(crate) struct Network {
    half: Option<Half>,
    layers: Vec<Layer>,
    /// Planes in and out.
    planes: (usize, usize),
    factor: usize,
    border: Border,
    input: Vec<(f32, f32)>,
    base: bool,
    nearest: bool,
    tanh: bool,
}

struct Layer {
    weights: DeviceBuffer,
    bias: DeviceBuffer,
    /// None where values stay as they are.
    slope: Option<DeviceBuffer>,
    kernel: usize,
    /// Channels as stored.
    inputs: usize,
    outputs: usize,
    shuffle: usize,
    skip: Option<usize>,
}

impl Layer {
    fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Channels of a pixel that goes out, as stored.
    fn stored(&self) -> usize {
        self.outputs / (self.shuffle * self.shuffle)
    }
}

/// A picture between layers, or some of its rows.
#[derive(Debug, Clone, Copy)]
struct Picture {
    address: u64,
    size: (usize, usize),
    row0: usize,
    rows: usize,
}

/// Rows that each layer of a segment makes for one band, before the shuffle.
type Band = Vec<Range<usize>>;

impl Network {
    /// The chain on a GPU, in f32 or a 16-bit type; `None` if the kernels do
    /// not cover it. The CPU's plan must.
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
            let inputs = layers.last().map_or(planes * copies(half), Layer::stored);
            let is_last = i + 1 == chain.layers.len();
            layers.push(layer(gpu, link, inputs, (i == 0, is_last), half)?);
        }
        let outputs = last.conv.weight.dim(0)? / (last.shuffle * last.shuffle);
        Ok(Some(Self {
            half,
            layers,
            planes: (planes, outputs),
            factor: chain.factor(),
            border,
            input: match chain.input.as_slice() {
                [] => vec![(1.0, -chain.shift); planes],
                input => {
                    let shifted =
                        |&(scale, offset): &(f32, f32)| (scale, offset - scale * chain.shift);
                    input.iter().map(shifted).collect()
                }
            },
            base: chain.base,
            nearest: chain.nearest,
            tanh: chain.tanh,
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

    /// How many times as wide and as high as its input the result is.
    pub(crate) fn factor(&self) -> usize {
        self.factor
    }

    /// Lets a program keep the weights for as long as it lives.
    pub(crate) fn give_weights_to(self, program: &mut Program) {
        for layer in self.layers {
            let all = [Some(layer.weights), Some(layer.bias), layer.slope];
            all.into_iter().flatten().for_each(|memory| {
                program.keep(memory);
            });
        }
    }

    /// Adds the calls that compute the planes `dst` from the planes `seen`.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn add(&self, builder: &mut Builder, seen: Planes, dst: Planes) -> Result<()> {
        let base = match (self.base, self.factor) {
            (false, _) => 0,
            (true, 1) => seen.address,
            (true, _) => {
                let enlarges = Resampler::resize(seen.size, dst.size);
                builder.resample(&enlarges, seen)?.address
            }
        };
        let end = Convolve {
            base,
            nearest: if self.nearest { seen.address } else { 0 },
            nearest_factor: self.factor as i32,
            tanh: self.tanh.into(),
            planes: self.planes.1 as i32,
            ..Convolve::default()
        };
        let entered = self.enter(builder, seen)?;
        let sizes = self.sizes(entered.size);
        let skips: Vec<_> = self.layers.iter().map(|layer| layer.skip).collect();
        let segments = split_segments(&skips);
        let frames = assign_buffers(&skips, &segments, |_| false);
        let buffers = self.buffers(builder, &frames, &sizes)?;
        let mut whole: Vec<Option<Picture>> = (frames.iter().zip(&sizes))
            .map(|(frame, &size)| {
                frame.map(|frame| Picture {
                    address: buffers[frame],
                    size,
                    row0: 0,
                    rows: size.1,
                })
            })
            .collect();
        whole[0] = Some(entered);
        // The last layer writes planes: where, the kernel takes from their size.
        whole[self.layers.len()] = Some(Picture {
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

    /// What the first layer sees, with the edge repeated where the network
    /// eats its border.
    fn enter(&self, builder: &mut Builder, seen: Planes) -> Result<Picture> {
        let edge = match self.border {
            Border::Valid => self.layers.iter().map(Layer::pad).sum(),
            _ => 0,
        };
        let (width, height) = seen.size;
        let size = (width + 2 * edge, height + 2 * edge);
        let planes = copies(self.half) * self.planes.0;
        let mut enter = Enter {
            planes: seen.address,
            dst: self.room(builder, planes * size.0 * size.1)?,
            width: width as i32,
            height: height as i32,
            count: self.planes.0 as i32,
            edge: edge as i32,
            ..Enter::default()
        };
        for (plane, &(scale, offset)) in self.input.iter().enumerate() {
            (enter.scale[plane], enter.offset[plane]) = (scale, offset);
        }
        builder.program.enter(self.half, enter)?;
        Ok(Picture {
            address: enter.dst,
            size,
            row0: 0,
            rows: size.1,
        })
    }

    /// Width and height of every boundary between layers.
    fn sizes(&self, entered: (usize, usize)) -> Vec<(usize, usize)> {
        let mut sizes = vec![entered];
        let mut size = entered;
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

    /// Memory for the pictures between segments.
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
                most[frame] = most[frame].max(layer.stored() * size.0 * size.1);
            }
        }
        let rooms = most.into_iter().map(|values| self.room(builder, values));
        rooms.collect()
    }

    fn value_size(&self) -> usize {
        self.half.map_or(size_of::<f32>(), |_| size_of::<u16>())
    }

    /// Room for values between layers.
    fn room(&self, builder: &mut Builder, values: usize) -> Result<u64> {
        Ok(builder.program.room::<u8>(values * self.value_size())?)
    }

    /// The rows that the layers of a segment make for some rows of its result,
    /// before their shuffles.
    fn band(&self, segment: &Range<usize>, sizes: &[(usize, usize)], rows: Range<usize>) -> Band {
        let mut band = vec![rows];
        for l in (segment.start + 1..segment.end).rev() {
            let (layer, before) = (&self.layers[l], &self.layers[l - 1]);
            let made = band.last().cloned().unwrap_or_default();
            let pad = match self.border {
                Border::Valid => 0,
                _ => layer.pad(),
            };
            let first = made.start.saturating_sub(pad);
            let end = (made.end + layer.kernel - 1 - pad).min(sizes[l].1);
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

    /// Values of the two pictures that the hidden layers of a segment make by
    /// turns, each of the one before, for the band that takes most.
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
            let values = rows * layer.shuffle * sizes[l + 1].0 * layer.stored();
            most[i % 2] = most[i % 2].max(values);
        }
        most
    }

    fn segment(
        &self,
        builder: &mut Builder,
        segment: &Range<usize>,
        sizes: &[(usize, usize)],
        whole: &[Option<Picture>],
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
            asked => asked.min(height),
        };
        let smaller = |rows: usize| (rows / 2).next_multiple_of(HALF_TILE.1);
        let (bands, hidden) = loop {
            let bands = self.bands(segment, sizes, rows);
            let values = self.hidden(segment, sizes, &bands);
            let sizes = values.map(|count| count * self.value_size());
            let rooms = sizes
                .iter()
                .map(|&bytes| builder.gpu.alloc_uninit::<u8>(bytes));
            match rooms.collect::<candle_core::Result<Vec<_>>>() {
                Ok(rooms) => {
                    let keep = |memory| builder.program.keep(memory);
                    break (bands, rooms.into_iter().map(keep).collect::<Vec<_>>());
                }
                // Less memory than that takes.
                Err(_) if smaller(rows) < rows => rows = smaller(rows),
                Err(error) => return Err(error.into()),
            }
        };
        for band in &bands {
            let mut source = picture(whole, segment.start)?;
            for (l, rows) in segment.clone().zip(band) {
                let layer = &self.layers[l];
                let made = match l + 1 < segment.end {
                    true => Picture {
                        address: hidden[(l - segment.start) % 2],
                        size: sizes[l + 1],
                        row0: rows.start * layer.shuffle,
                        rows: rows.len() * layer.shuffle,
                    },
                    false => picture(whole, l + 1)?,
                };
                let skip = layer.skip.map(|skip| picture(whole, skip)).transpose()?;
                let rest = match l + 1 == self.layers.len() {
                    true => *end,
                    false => Convolve::default(),
                };
                let call = self.call(l, rows, (source, made, skip), rest);
                match self.half {
                    Some(half) => builder.program.convolve_half(half, l == 0, call)?,
                    None => builder.program.convolve_plain(call)?,
                }
                source = made;
            }
        }
        Ok(())
    }

    fn call(
        &self,
        l: usize,
        rows: &Range<usize>,
        (source, made, skip): (Picture, Picture, Option<Picture>),
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
            dst: made.address,
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
            width: (made.size.0 / layer.shuffle) as i32,
            height: (made.size.1 / layer.shuffle) as i32,
            source_row0: source.row0 as i32,
            source_rows: source.rows as i32,
            dst_row0: made.row0 as i32,
            skip_row0: 0,
            row0: rows.start as i32,
            rows: rows.len() as i32,
            shuffle: layer.shuffle as i32,
            source_plane: source.rows as i32,
            dst_plane: made.rows as i32,
            ..rest
        }
    }
}

/// How many planes each plane that comes in becomes: of bfloat16 what it holds
/// and what it loses.
fn copies(half: Option<Half>) -> usize {
    match half {
        Some(Half::Bf16) => 2,
        _ => 1,
    }
}

fn picture(whole: &[Option<Picture>], boundary: usize) -> Result<Picture> {
    whole[boundary].ok_or_else(|| {
        crate::Error::Internal(format!("boundary {boundary} of a chain has no buffer"))
    })
}

/// A link's weights, as the kernels take them, on the GPU.
fn layer(
    gpu: &Gpu,
    link: &ChainLayer,
    inputs: usize,
    (first, last): (bool, bool),
    half: Option<Half>,
) -> Result<Layer> {
    let values = |tensor: &Tensor| -> Result<Vec<f32>> {
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    };
    let (channels, depth, kernel, _) = link.conv.weight.dims4()?;
    let area = link.shuffle * link.shuffle;
    // Channels lie in multiples of what the next layer takes at once, all of a
    // square's first pixel first; the last layer's stay as they are.
    let each = match (last, half) {
        (false, Some(_)) => (channels / area).next_multiple_of(CHUNK),
        _ => channels / area,
    };
    let outputs = if last { channels } else { each * area };
    let place = |channel: usize| match last {
        true => channel,
        false => channel % area * each + channel / area,
    };
    let weights = values(&link.conv.weight)?;
    let taps = kernel * kernel;
    let groups = outputs.div_ceil(GROUP);
    let steps = match first {
        true => inputs * kernel,
        false => inputs.div_ceil(CHUNK) * taps,
    };
    let count = match half {
        Some(_) => steps * groups * GROUP * CHUNK,
        None => outputs.next_multiple_of(PLAIN_CHANNELS) * inputs * taps,
    };
    let mut packed = vec![0f32; count];
    let copies = if first { copies(half) } else { 1 };
    let all = (0..copies).flat_map(|copy| weights.iter().enumerate().map(move |w| (copy, w)));
    for (copy, (at, &weight)) in all {
        let (channel, tap) = (place(at / taps / depth), at % taps);
        let input = copy * depth + at / taps % depth;
        let position = match half {
            None => {
                let group = channel / PLAIN_CHANNELS * inputs + input;
                (group * taps + tap) * PLAIN_CHANNELS + channel % PLAIN_CHANNELS
            }
            Some(_) => {
                let (step, product) = match first {
                    true => (input * kernel + tap / kernel, tap % kernel),
                    false => (input / CHUNK * taps + tap, input % CHUNK),
                };
                // Where the tensor cores take them: the lane of the channel
                // and of two products, its first or second pair.
                let lane = channel % GROUP * 4 + product % 8 / 2;
                let within = product / 8 * 2 + product % 2;
                ((step * groups + channel / GROUP) * 32 + lane) * 4 + within
            }
        };
        packed[position] = weight;
    }
    let arranged = |values: &[f32], rest: f32| {
        let mut out = vec![rest; outputs.next_multiple_of(PLAIN_CHANNELS)];
        for (channel, &value) in values.iter().enumerate() {
            out[place(channel)] = value;
        }
        out
    };
    let bias = match &link.conv.bias {
        Some(bias) => values(bias)?,
        None => vec![0.0; channels],
    };
    let relu = link.conv.spec.activation == Activation::Relu;
    let slope = match (&link.slope, relu) {
        (Some(slope), _) => Some(values(slope)?),
        (None, true) => Some(vec![0.0]),
        (None, false) => None,
    };
    let slope = slope.map(|slope| match slope.as_slice() {
        &[one] => arranged(&vec![one; channels], 1.0),
        each => arranged(each, 1.0),
    });
    let slope = slope.map(|slope| gpu.upload(&slope)).transpose()?;
    let weights = match half {
        None => gpu.upload(&packed)?,
        Some(half) => {
            let bits: Vec<u16> = packed.iter().map(|&value| half.bits(value)).collect();
            gpu.upload(&bits)?
        }
    };
    Ok(Layer {
        weights,
        bias: gpu.upload(&arranged(&bias, 0.0))?,
        slope,
        kernel,
        inputs,
        outputs,
        shuffle: link.shuffle,
        skip: link.skip,
    })
}
