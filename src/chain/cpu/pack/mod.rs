//! A chain with its weights in the order of the fused loops.

mod quantized;
mod quantized_weights;

pub(crate) use quantized_weights::{MAX_KERNEL, MAX_SHUFFLE, QuantizedWeights};

use crate::background::give_way;
use crate::chain::{Chain, ChainLayer, Epilogue};
use crate::ops::cpu::pixels::{GROUP, MAX_DOT_CHANNELS, NARROW};
use crate::ops::winograd::{Tables, Variant};
use crate::ops::{Activation, Border};
use crate::tensor_error::Result;
use candle_core::{DType, Tensor};

/// Side of the large first kernels that are run as nine small ones.
const LARGE: usize = 9;

/// A network's layers, ready to run on frames of any size.
#[derive(Debug)]
pub struct PackedChain {
    pub(crate) layers: Vec<PackedLayer>,
    /// Planes in.
    pub(crate) planes: usize,
    /// Planes out.
    pub(crate) outputs: usize,
    /// The last pixel shuffle, done as rows are emitted.
    pub(crate) shuffle: usize,
    /// Scale and offset of each plane of the input.
    pub(crate) input_affine: Vec<(f32, f32)>,
    pub(crate) epilogue: Epilogue,
    /// Whether it computes in integers, over planes of words.
    pub(crate) quantized: bool,
}

impl PackedChain {
    /// Packs a chain; `None` if the plan does not cover it.
    ///
    /// # Errors
    ///
    /// Tensors that cannot be read.
    pub fn of_chain(chain: &Chain) -> Result<Option<Self>> {
        let (Some(first), Some(last)) = (chain.layers.first(), chain.layers.last()) else {
            return Ok(None);
        };
        let planes = first.conv.weight.dim(1)?;
        let border = first.conv.spec.border;
        let (mut inputs, mut layers) = ((planes, planes), Vec::<PackedLayer>::new());
        for (i, link) in chain.layers.iter().enumerate() {
            give_way();
            let is_last = i + 1 == chain.layers.len();
            let sizes_fit = link.skip.is_none_or(|skip| {
                let between = &layers[skip.min(i)..];
                skip > 0 && skip <= i && between.iter().all(|layer| layer.shuffle == 1)
            });
            let few = is_last && link.skip.is_some();
            let Some(layer) = PackedLayer::new(link, inputs, i == 0, is_last)? else {
                return Ok(None);
            };
            let same = layer.border == border;
            let skips_ok = sizes_fit && !few && (link.skip.is_none() || border != Border::Valid);
            if !same || !skips_ok || (link.skip.is_some() && link.shuffle > 1) {
                return Ok(None);
            }
            let channels = link.conv.weight.dim(0)?;
            inputs = (channels / (link.shuffle * link.shuffle), layer.stored());
            layers.push(layer);
        }
        let packed = Self {
            layers,
            planes,
            outputs: inputs.0,
            shuffle: last.shuffle,
            input_affine: chain.combined_affine(planes),
            epilogue: chain.epilogue,
            quantized: false,
        };
        let fits = packed.input_affine.len() == planes && packed.epilogue_fits(border);
        Ok(fits.then_some(packed))
    }

    /// How much larger the result is than the input.
    pub(crate) fn factor(&self) -> usize {
        let inner: usize = self.layers.iter().map(|layer| layer.shuffle).product();
        inner * self.shuffle
    }
}

/// How a layer is computed.
#[derive(Debug)]
pub(crate) enum ConvAlgorithm {
    /// A 9 x 9 kernel on planes: nine 3 x 3 kernels of F(6x6, 3x3).
    Split9x9,
    /// Winograd's minimal filtering, in tiles.
    Winograd(Variant),
    /// Every result one sum.
    Direct,
    /// Every result one sum along the vectors, to few channels.
    DotProduct,
    /// The same in Winograd's domain down the columns, for large kernels as
    /// several ones, one below the other.
    WinogradColumns(Variant),
    /// Every result one sum, in integers.
    Quantized(Box<QuantizedWeights>),
}

impl ConvAlgorithm {
    /// The algorithm for a layer: a fixed rule of its shape.
    fn of(
        kernel: usize,
        (inputs, outputs): (usize, usize),
        (first, last): (bool, bool),
        shuffled: bool,
    ) -> Self {
        // What comes in and goes out is stored in whole groups, or in half a one.
        let fewest = inputs.min(outputs.next_multiple_of(GROUP));
        let grouped = !first || inputs.is_multiple_of(GROUP);
        let is_dot = last && grouped && outputs <= MAX_DOT_CHANNELS && !shuffled;
        match kernel {
            3 | LARGE if is_dot => Self::WinogradColumns(Variant::F6x3),
            5 if is_dot => Self::WinogradColumns(Variant::F6x5),
            _ if is_dot => Self::DotProduct,
            LARGE if first && outputs >= 2 * GROUP => Self::Split9x9,
            3 if grouped => Self::Winograd(Variant::F6x3),
            5 if grouped && fewest > GROUP => Self::Winograd(Variant::F6x5),
            5 if grouped => Self::Winograd(Variant::F4x5),
            _ => Self::Direct,
        }
    }
}

/// A layer with its weights in the order of its algorithm.
#[derive(Debug)]
pub(crate) struct PackedLayer {
    pub(crate) algorithm: ConvAlgorithm,
    pub(crate) tables: Tables,
    pub(crate) kernel: usize,
    pub(crate) border: Border,
    /// Values of a pixel that comes in, as stored.
    pub(crate) inputs: usize,
    /// Channels out of the convolution, as stored.
    pub(crate) outputs: usize,
    pub(crate) shuffle: usize,
    pub(crate) skip: Option<usize>,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// PReLU's slope of each channel; none for ReLU.
    pub(crate) slope: Option<Vec<f32>>,
}

impl ConvAlgorithm {
    /// Whether results are dense lines by channel, not pixels of all channels.
    pub(crate) fn writes_lines(&self) -> bool {
        match self {
            Self::DotProduct | Self::WinogradColumns(_) => true,
            Self::Quantized(weights) => !weights.scales.is_empty(),
            _ => false,
        }
    }
}

impl PackedLayer {
    /// Rows and columns beyond a result that it depends on.
    pub(crate) fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Rows, and columns of a tile, that are computed together.
    pub(crate) fn step(&self) -> usize {
        match self.algorithm {
            ConvAlgorithm::Split9x9 => Variant::F6x3.outputs(),
            ConvAlgorithm::Winograd(variant) | ConvAlgorithm::WinogradColumns(variant) => {
                variant.outputs()
            }
            ConvAlgorithm::Direct | ConvAlgorithm::DotProduct | ConvAlgorithm::Quantized(_) => 1,
        }
    }

    /// Its weights in integers.
    pub(crate) fn quantized(&self) -> Option<&QuantizedWeights> {
        match &self.algorithm {
            ConvAlgorithm::Quantized(weights) => Some(weights),
            _ => None,
        }
    }

    /// The weights of a 9 x 9 kernel on luma by group of output channels, each
    /// by point (column, row), small kernel, channel.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[f32]> {
        let groups = self.outputs / GROUP;
        self.weights
            .chunks_exact(self.weights.len() / groups.max(1))
    }

    /// The kernels that a large one is cut into from top to bottom, of that
    /// variant's height.
    pub(crate) fn kernels(&self, variant: Variant) -> usize {
        self.kernel.div_ceil(variant.kernel())
    }

    /// Values of a pixel that goes out, as stored.
    pub(crate) fn stored(&self) -> usize {
        self.outputs / (self.shuffle * self.shuffle)
    }

    /// A link of a chain, `first` or `last` in it; `None` if it needs what the
    /// loops do not have. `inputs` are the channels in and how they are stored.
    pub(crate) fn new(
        link: &ChainLayer,
        inputs: (usize, usize),
        first: bool,
        last: bool,
    ) -> candle_core::Result<Option<Self>> {
        let spec = link.conv.spec;
        let (outputs, depth, height, width) = link.conv.weight.dims4()?;
        let plain = spec.stride == 1 && spec.dilation == 1 && spec.groups == 1;
        if !plain || height != width || height % 2 == 0 || depth != inputs.0 {
            return Ok(None);
        }
        let shuffled = link.shuffle > 1;
        let algorithm = ConvAlgorithm::of(height, (inputs.1, outputs), (first, last), shuffled);
        // The last layer's squares are laid out when its rows leave the plan.
        let shuffle = if last { 1 } else { link.shuffle };
        let order = ChannelOrder::new(outputs, shuffle, algorithm.writes_lines());
        if shuffle > 1 && !matches!(algorithm, ConvAlgorithm::Winograd(_)) {
            return Ok(None);
        }
        let values = |tensor: &Tensor| {
            let tensor = tensor.to_dtype(DType::F32)?;
            tensor.flatten_all()?.to_vec1::<f32>()
        };
        let packed = LayerWeights {
            weights: values(&link.conv.weight)?,
            inputs: depth,
            side: height,
            order: &order,
        };
        let relu = matches!(spec.activation, Activation::Relu);
        let slope = match (&link.slope, relu) {
            (Some(slope), _) => Some(values(slope)?),
            (None, true) => None,
            (None, false) => Some(vec![1.0]),
        };
        let slope = slope.map(|slope| match slope.as_slice() {
            [one] => vec![*one; outputs],
            _ => slope,
        });
        let bias = match &link.conv.bias {
            Some(bias) => values(bias)?,
            None => vec![0.0; outputs],
        };
        if slope.as_ref().is_some_and(|slope| slope.len() != outputs) || bias.len() != outputs {
            return Ok(None);
        }
        Ok(Some(Self {
            tables: match algorithm {
                ConvAlgorithm::Split9x9 => Variant::F6x3.tables(),
                ConvAlgorithm::Winograd(variant) | ConvAlgorithm::WinogradColumns(variant) => {
                    variant.tables()
                }
                _ => Tables::default(),
            },
            weights: packed.pack(&algorithm, inputs.1),
            kernel: height,
            border: spec.border,
            inputs: inputs.1,
            outputs: order.stored,
            shuffle,
            skip: link.skip,
            bias: order.arrange(&bias, 0.0),
            slope: slope.map(|slope| order.arrange(&slope, 1.0)),
            algorithm,
        }))
    }
}

/// Where each output channel is stored in a pixel.
struct ChannelOrder {
    channels: usize,
    stored: usize,
    shuffle: usize,
}

impl ChannelOrder {
    fn new(channels: usize, shuffle: usize, exact: bool) -> Self {
        let area = shuffle * shuffle;
        let stored = match exact {
            true => channels,
            false if channels / area <= NARROW => NARROW * area,
            false => (channels / area).next_multiple_of(GROUP) * area,
        };
        Self {
            channels,
            stored,
            shuffle,
        }
    }

    /// The place of a channel: all channels of a square's first pixel, then of
    /// its second, and so on.
    fn position(&self, channel: usize) -> usize {
        let area = self.shuffle * self.shuffle;
        channel % area * (self.stored / area) + channel / area
    }

    fn arrange(&self, values: &[f32], rest: f32) -> Vec<f32> {
        let mut out = vec![rest; self.stored];
        for (channel, &value) in values.iter().enumerate() {
            out[self.position(channel)] = value;
        }
        out
    }
}

/// The weights of a layer in the network's order.
struct LayerWeights<'a> {
    weights: Vec<f32>,
    inputs: usize,
    side: usize,
    order: &'a ChannelOrder,
}

impl LayerWeights<'_> {
    /// One weight for every output channel, where it is stored.
    fn tap(&self, input: usize, y: usize, x: usize, mut put: impl FnMut(usize, f32)) {
        let area = self.side * self.side;
        for channel in 0..self.order.channels {
            let at = (channel * self.inputs + input) * area + y * self.side + x;
            put(self.order.position(channel), self.weights[at]);
        }
    }

    /// The weights as the method's loop takes them; `stored` values of a pixel
    /// come in.
    fn pack(&self, algorithm: &ConvAlgorithm, stored: usize) -> Vec<f32> {
        let (side, outputs) = (self.side, self.order.stored);
        let known = |input: usize| input < self.inputs;
        match algorithm {
            ConvAlgorithm::Winograd(variant) => {
                variant.transform_weights(stored, outputs, |input, y, x, values| {
                    if known(input) {
                        self.tap(input, y, x, |place, w| values[place] = f64::from(w));
                    }
                })
            }
            ConvAlgorithm::Split9x9 => {
                // The small kernel (row, column) of each plane is an input channel.
                let side = LARGE / 3;
                let inputs = side * side * stored;
                let weights = |input: usize, y: usize, x: usize, values: &mut [f64]| {
                    let (part, plane) = (input / stored, input % stored);
                    let (y, x) = (part / side * 3 + y, part % side * 3 + x);
                    self.tap(plane, y, x, |place, w| values[place] = f64::from(w));
                };
                let points = Variant::F6x3.transform_weights(inputs, outputs, weights);
                if stored > 1 {
                    return points;
                }
                // By group of output channels, then column, then row of the points.
                let n = Variant::F6x3.points();
                let mut out = Vec::with_capacity(points.len());
                for group in (0..outputs).step_by(GROUP) {
                    for point in (0..n * n).map(|i| i % n * n + i / n) {
                        for kernel in 0..inputs {
                            let at = (point * inputs + kernel) * outputs + group;
                            out.extend_from_slice(&points[at..][..GROUP]);
                        }
                    }
                }
                out
            }
            ConvAlgorithm::Direct => {
                let mut out = vec![0.0; side * side * stored * outputs];
                let taps = out.chunks_exact_mut(outputs).enumerate();
                for (at, values) in taps {
                    give_way();
                    let (tap, input) = (at / stored, at % stored);
                    if known(input) {
                        self.tap(input, tap / side, tap % side, |place, w| values[place] = w);
                    }
                }
                out
            }
            ConvAlgorithm::DotProduct => {
                let row = side * side * stored;
                let mut out = vec![0.0; outputs * row];
                for at in 0..row {
                    give_way();
                    let (tap, input) = (at / stored, at % stored);
                    if known(input) {
                        self.tap(input, tap / side, tap % side, |place, w| {
                            out[place * row + at] = w;
                        });
                    }
                }
                out
            }
            ConvAlgorithm::WinogradColumns(variant) => self.columns(*variant, stored),
            ConvAlgorithm::Quantized(_) => Vec::new(),
        }
    }

    /// By point, output channel, small kernel, column, input channel.
    fn columns(&self, variant: Variant, stored: usize) -> Vec<f32> {
        let (outputs, height) = (self.order.stored, variant.kernel());
        let kernels = self.side.div_ceil(height);
        let row = self.side * stored;
        let mut out = vec![0.0; variant.points() * outputs * kernels * row];
        let mut taps = vec![vec![0.0; outputs]; height];
        for at in 0..kernels * row {
            give_way();
            let (kernel, x, input) = (at / row, at % row / stored, at % stored);
            for (y, values) in taps.iter_mut().enumerate() {
                values.fill(0.0);
                let y = kernel * height + y;
                if input < self.inputs && y < self.side {
                    self.tap(input, y, x, |place, w| values[place] = f64::from(w));
                }
            }
            for channel in 0..outputs {
                let points = variant.transform_column(|y| taps[y][channel]);
                for (point, &value) in points.iter().enumerate() {
                    out[(point * outputs + channel) * kernels * row + at] = value;
                }
            }
        }
        out
    }
}
