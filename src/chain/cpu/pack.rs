//! A chain with its weights in the order of the fused loops.

use super::kernels::{FEW, GROUP};
use crate::Result;
use crate::chain::segment::{self, LayerShape};
use crate::chain::winograd::{Tables, Variant};
use crate::chain::{Chain, ChainLayer};
use crate::ops::{Activation, Border};
use candle_core::{DType, Tensor};

/// Side of the large first kernels that are run as nine small ones.
const LARGE: usize = 9;

/// A network's layers, ready to run on frames of any size.
#[derive(Debug)]
pub struct PackedChain {
    pub(crate) layers: Vec<Layer>,
    /// Planes in.
    pub(crate) planes: usize,
    /// Planes out.
    pub(crate) outputs: usize,
    /// The last pixel shuffle, done as the rows leave.
    pub(crate) shuffle: usize,
    /// What every sample of each plane that comes in is multiplied by, and
    /// what is then added.
    pub(crate) input: Vec<(f32, f32)>,
    /// Whether the input, every sample repeated to a square, is added.
    pub(crate) nearest: bool,
    /// Whether the result `y` becomes `(tanh(y) + 1) / 2`.
    pub(crate) tanh: bool,
    /// Whether the input, enlarged, is added.
    pub(crate) base: bool,
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
        let (mut inputs, mut layers) = ((planes, planes), Vec::<Layer>::new());
        for (i, link) in chain.layers.iter().enumerate() {
            let is_last = i + 1 == chain.layers.len();
            let sizes_fit = link.skip.is_none_or(|skip| {
                let between = &layers[skip.min(i)..];
                skip > 0 && skip <= i && between.iter().all(|layer| layer.shuffle == 1)
            });
            let few = is_last && link.skip.is_some();
            let Some(layer) = Layer::new(link, inputs, i == 0, is_last)? else {
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
            input: match chain.input.as_slice() {
                [] => vec![(1.0, -chain.shift); planes],
                input => input
                    .iter()
                    .map(|&(scale, offset)| (scale, offset - scale * chain.shift))
                    .collect(),
            },
            nearest: chain.nearest,
            tanh: chain.tanh,
            base: chain.base,
        };
        let adds = packed.base || packed.nearest;
        let base_fits = !packed.base || packed.skips_fit_base();
        // Beyond a valid border there is nothing to enlarge.
        let nearest_fits = !packed.nearest || border != Border::Valid;
        let fits = packed.input.len() == planes && base_fits && nearest_fits;
        Ok((fits && (!adds || packed.outputs == planes)).then_some(packed))
    }

    fn skips_fit_base(&self) -> bool {
        self.factor() > 1 || self.adds_input()
    }

    /// Whether the input itself is added to the result, from the rows at hand:
    /// the whole chain is one segment then.
    pub(crate) fn adds_input(&self) -> bool {
        self.base && self.factor() == 1 && self.layers.iter().all(|l| l.skip.is_none())
    }

    /// Values that the whole frames between segments hold for each sample of a
    /// plane of the input.
    pub(crate) fn buffer_floats(&self) -> usize {
        let shape = |layer: &Layer| LayerShape {
            skip: layer.skip,
            shuffle: layer.shuffle,
            stored: layer.stored(),
        };
        segment::buffer_floats(&self.layers.iter().map(shape).collect::<Vec<_>>())
    }

    /// How much larger the result is than the input.
    pub(crate) fn factor(&self) -> usize {
        let inner: usize = self.layers.iter().map(|layer| layer.shuffle).product();
        inner * self.shuffle
    }
}

/// How a layer is computed.
#[derive(Debug)]
pub(crate) enum Method {
    /// A 9 x 9 kernel on planes: nine 3 x 3 kernels of F(6x6, 3x3).
    Windows,
    /// Tiles of Winograd's.
    Winograd(Variant),
    /// Every result one sum.
    Direct,
    /// Every result one sum along the vectors, to few channels.
    Dots,
    /// The same with Winograd's points down the columns, of several kernels
    /// one below the other.
    Columns(Variant),
}

impl Method {
    /// The method for a layer: a fixed rule of its shape.
    fn of(
        kernel: usize,
        (inputs, outputs): (usize, usize),
        (first, last): (bool, bool),
        shuffled: bool,
    ) -> Self {
        // What comes in and goes out lies in whole groups.
        let fewest = inputs.min(outputs.next_multiple_of(GROUP));
        let grouped = !first;
        let dots = last && grouped && outputs <= FEW && !shuffled;
        match kernel {
            3 | LARGE if dots => Self::Columns(Variant::F6x3),
            5 if dots => Self::Columns(Variant::F6x5),
            _ if dots => Self::Dots,
            LARGE if first && outputs >= 2 * GROUP => Self::Windows,
            3 if grouped && fewest > GROUP => Self::Winograd(Variant::F6x3),
            3 if grouped && fewest == GROUP => Self::Winograd(Variant::F4x3),
            5 if grouped && fewest > GROUP => Self::Winograd(Variant::F6x5),
            5 if grouped && fewest == GROUP => Self::Winograd(Variant::F4x5),
            _ => Self::Direct,
        }
    }
}

/// A layer that is ready to run.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) method: Method,
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
    /// What the negative values of each channel are multiplied by; none where
    /// they become 0.
    pub(crate) slope: Option<Vec<f32>>,
}

impl Layer {
    /// Rows and columns beyond a result that it depends on.
    pub(crate) fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Rows, and columns of a tile, that are computed together.
    pub(crate) fn step(&self) -> usize {
        match self.method {
            Method::Windows => Variant::F6x3.outputs(),
            Method::Winograd(variant) | Method::Columns(variant) => variant.outputs(),
            Method::Direct | Method::Dots => 1,
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
        let method = Method::of(height, (inputs.1, outputs), (first, last), shuffled);
        // The last layer's squares are laid out when its rows leave the plan.
        let shuffle = if last { 1 } else { link.shuffle };
        let exact = matches!(method, Method::Dots | Method::Columns(_));
        let order = Order::new(outputs, shuffle, exact);
        if shuffle > 1 && !matches!(method, Method::Winograd(_)) {
            return Ok(None);
        }
        let values = |tensor: &Tensor| {
            let tensor = tensor.to_dtype(DType::F32)?;
            tensor.flatten_all()?.to_vec1::<f32>()
        };
        let kernel = Kernel {
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
            tables: match method {
                Method::Windows => Variant::F6x3.tables(),
                Method::Winograd(variant) | Method::Columns(variant) => variant.tables(),
                Method::Direct | Method::Dots => Tables::default(),
            },
            weights: kernel.pack(&method, inputs.1),
            kernel: height,
            border: spec.border,
            inputs: inputs.1,
            outputs: order.stored,
            shuffle,
            skip: link.skip,
            bias: order.arrange(&bias, 0.0),
            slope: slope.map(|slope| order.arrange(&slope, 1.0)),
            method,
        }))
    }
}

/// Where each output channel is stored.
struct Order {
    channels: usize,
    stored: usize,
    shuffle: usize,
}

impl Order {
    fn new(channels: usize, shuffle: usize, exact: bool) -> Self {
        let area = shuffle * shuffle;
        let stored = match exact {
            true => channels,
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
    fn assign_buffers(&self, channel: usize) -> usize {
        let area = self.shuffle * self.shuffle;
        channel % area * (self.stored / area) + channel / area
    }

    fn arrange(&self, values: &[f32], rest: f32) -> Vec<f32> {
        let mut out = vec![rest; self.stored];
        for (channel, &value) in values.iter().enumerate() {
            out[self.assign_buffers(channel)] = value;
        }
        out
    }
}

/// The weights of a layer as the network holds them.
struct Kernel<'a> {
    weights: Vec<f32>,
    inputs: usize,
    side: usize,
    order: &'a Order,
}

impl Kernel<'_> {
    /// One weight for every output channel, where it is stored.
    fn tap(&self, input: usize, y: usize, x: usize, mut put: impl FnMut(usize, f32)) {
        let area = self.side * self.side;
        for channel in 0..self.order.channels {
            let at = (channel * self.inputs + input) * area + y * self.side + x;
            put(self.order.assign_buffers(channel), self.weights[at]);
        }
    }

    /// The weights as the method's loop takes them; `stored` values of a pixel
    /// come in.
    fn pack(&self, method: &Method, stored: usize) -> Vec<f32> {
        let (side, outputs) = (self.side, self.order.stored);
        let known = |input: usize| input < self.inputs;
        match method {
            Method::Winograd(variant) => {
                variant.transform_weights(stored, outputs, |input, y, x, values| {
                    if known(input) {
                        self.tap(input, y, x, |place, w| values[place] = f64::from(w));
                    }
                })
            }
            Method::Windows => {
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
            Method::Direct => {
                let mut out = vec![0.0; side * side * stored * outputs];
                let taps = out.chunks_exact_mut(outputs).enumerate();
                for (at, values) in taps {
                    let (tap, input) = (at / stored, at % stored);
                    if known(input) {
                        self.tap(input, tap / side, tap % side, |place, w| values[place] = w);
                    }
                }
                out
            }
            Method::Dots => {
                let row = side * side * stored;
                let mut out = vec![0.0; outputs * row];
                for at in 0..row {
                    let (tap, input) = (at / stored, at % stored);
                    if known(input) {
                        self.tap(input, tap / side, tap % side, |place, w| {
                            out[place * row + at] = w;
                        });
                    }
                }
                out
            }
            Method::Columns(variant) => self.columns(*variant, stored),
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
