//! A graph, operation by operation.

use super::arrange::{self, axes_of, axis_of, length_of};
use super::config::{Config, Coordinates, Node, Op, ResizeSettings};
use super::convolve;
use super::packed::PackedConvs;
use super::resize::{self, Lengths};
use super::value::{Limit, integers};
use crate::ops::{self, Pairwise};
use candle_core::{D, DType, Device, Result, Shape, Tensor, bail};
use std::collections::HashMap;

/// The result for one input, and the most values that were held at a time.
pub(super) fn run(
    config: &Config,
    (weights, packed): (&HashMap<String, Tensor>, &PackedConvs),
    x: &Tensor,
) -> Result<(Tensor, usize)> {
    let joined = joined(config);
    let mut uses: HashMap<&str, usize> = HashMap::from([(config.output.as_str(), 1)]);
    for node in config.nodes.iter().filter(|node| !is_joined(node, &joined)) {
        for name in node.inputs.iter().flat_map(|name| parts_of(name, &joined)) {
            *uses.entry(name).or_default() += 1;
        }
    }
    let mut values = Values {
        config,
        weights,
        packed,
        joined: &joined,
        computed: HashMap::from([(config.input.as_str(), x.contiguous()?)]),
        device: x.device(),
        limit: Limit::of_input(x.elem_count()),
    };
    let (mut held, mut most) = (x.elem_count(), x.elem_count());
    for node in config.nodes.iter().filter(|node| !is_joined(node, &joined)) {
        let results = values.results(node).map_err(|e| named(node, &e))?;
        if results.len() < node.outputs.len() {
            let missing = &node.outputs[results.len()];
            return Err(named(
                node,
                &candle_core::Error::Msg(format!("no result {missing}")),
            ));
        }
        for (name, result) in node.outputs.iter().zip(results) {
            if uses.contains_key(name.as_str()) {
                held += result.elem_count();
                values.computed.insert(name, result);
            }
        }
        most = most.max(held);
        for name in node.inputs.iter().flat_map(|name| parts_of(name, &joined)) {
            let Some(left) = uses.get_mut(name) else {
                continue;
            };
            *left -= 1;
            if *left == 0
                && let Some(tensor) = values.computed.remove(name)
            {
                held -= tensor.elem_count();
            }
        }
    }
    Ok((values.of(&config.output)?.contiguous()?, most))
}

/// The parts of what is concatenated for convolutions alone, which take it in parts.
fn joined(config: &Config) -> HashMap<&str, Vec<&str>> {
    let mut readers: HashMap<&str, Vec<(usize, &Op)>> = HashMap::new();
    for node in &config.nodes {
        for (place, name) in node.inputs.iter().enumerate() {
            readers.entry(name).or_default().push((place, &node.op));
        }
    }
    let takes_parts = |(place, op): &(usize, &Op)| *place == 0 && matches!(op, Op::Conv(_));
    let concatenated = config.nodes.iter().filter_map(|node| {
        let (Op::Concat { axis: 1 }, [output]) = (&node.op, node.outputs.as_slice()) else {
            return None;
        };
        let readers = readers.get(output.as_str())?;
        let only_convs = *output != config.output && readers.iter().all(takes_parts);
        let parts = || node.inputs.iter().map(String::as_str).collect();
        only_convs.then(|| (output.as_str(), parts()))
    });
    concatenated.collect()
}

/// Whether a node's result is taken in parts.
fn is_joined(node: &Node, joined: &HashMap<&str, Vec<&str>>) -> bool {
    let output = node.outputs.first();
    output.is_some_and(|output| joined.contains_key(output.as_str()))
}

/// The parts of a value.
fn parts_of<'a>(name: &'a str, joined: &HashMap<&'a str, Vec<&'a str>>) -> Vec<&'a str> {
    joined.get(name).cloned().unwrap_or_else(|| vec![name])
}

/// An error of a node.
fn named(node: &Node, error: &candle_core::Error) -> candle_core::Error {
    let text = error.to_string();
    // candle appends backtraces.
    let problem = text.lines().next().unwrap_or_default();
    let op = format!("{:?}", node.op);
    let op = op.split([' ', '(', '{']).next().unwrap_or_default();
    candle_core::Error::Msg(format!("node {} ({op}): {problem}", node.name))
}

struct Values<'a> {
    config: &'a Config,
    weights: &'a HashMap<String, Tensor>,
    packed: &'a PackedConvs,
    joined: &'a HashMap<&'a str, Vec<&'a str>>,
    computed: HashMap<&'a str, Tensor>,
    device: &'a Device,
    limit: Limit,
}

impl<'a> Values<'a> {
    fn of(&self, name: &str) -> Result<Tensor> {
        if let Some(tensor) = self.computed.get(name).or_else(|| self.weights.get(name)) {
            return Ok(tensor.clone());
        }
        match self.config.integers.get(name) {
            Some(integers) => integers.tensor(),
            None => bail!("there is no {name}"),
        }
    }

    /// The first operand, in parts.
    fn parts(&self, node: &Node) -> Result<Vec<Tensor>> {
        let Some(name) = node.inputs.first() else {
            bail!("its operand 0 is missing")
        };
        match self.joined.get(name.as_str()) {
            Some(parts) => parts.iter().map(|name| self.of(name)).collect(),
            None => Ok(vec![self.of(name)?]),
        }
    }

    /// An operand of a node; `None` if it is left out.
    fn optional(&self, node: &Node, i: usize) -> Result<Option<Tensor>> {
        match node.inputs.get(i).filter(|name| !name.is_empty()) {
            Some(name) => self.of(name).map(Some),
            None => Ok(None),
        }
    }

    fn operand(&self, node: &Node, i: usize) -> Result<Tensor> {
        match self.optional(node, i)? {
            Some(tensor) => Ok(tensor),
            None => bail!("its operand {i} is missing"),
        }
    }

    /// An operation of tensors of unlike shapes.
    fn broadcast(
        &self,
        a: &Tensor,
        b: &Tensor,
        of: fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let shape = a
            .shape()
            .broadcast_shape_binary_op(b.shape(), "broadcast")?;
        self.limit.check(shape.dims())?;
        of(a, b)
    }

    /// A product of matrices, or of batches of them.
    fn product(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let ([batch_a @ .., m, k], [batch_b @ .., _, n]) = (a.dims(), b.dims()) else {
            bail!("a product of {:?} and {:?}", a.dims(), b.dims())
        };
        let batch = Shape::from(batch_a);
        let batch = batch.broadcast_shape_binary_op(&Shape::from(batch_b), "matmul")?;
        for (rows, columns) in [(m, k), (k, n), (m, n)] {
            self.limit
                .check(&[batch.dims(), &[*rows, *columns]].concat())?;
        }
        a.broadcast_matmul(b)
    }

    /// (N, C, ...) less its means, over its deviations, over groups of channels; then
    /// times `scale` plus `offset`, of each channel.
    fn normalized(
        &self,
        x: &Tensor,
        groups: usize,
        epsilon: f32,
        scale: &Tensor,
        offset: &Tensor,
    ) -> Result<Tensor> {
        let [batch, channels, ..] = x.dims() else {
            bail!("a norm of {:?}", x.dims())
        };
        if groups == 0 || channels % groups != 0 {
            bail!("{channels} channels in {groups} groups")
        }
        let rows = x.contiguous()?.reshape((batch * groups, ()))?;
        let centered = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
        let variance = centered.sqr()?.mean_keepdim(1)?;
        let y = centered.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?;
        let y = y.reshape((*batch, *channels, ()))?;
        let along = |tensor: &Tensor| tensor.reshape((1, (), 1));
        let y = self.broadcast(&y, &along(scale)?, Tensor::broadcast_mul)?;
        let y = self.broadcast(&y, &along(offset)?, Tensor::broadcast_add)?;
        y.reshape(x.shape())
    }

    fn results(&self, node: &'a Node) -> Result<Vec<Tensor>> {
        let operand = |i: usize| self.operand(node, i);
        let optional = |i: usize| self.optional(node, i);
        let list = |i: usize| optional(i)?.map(|tensor| integers(&tensor)).transpose();
        let lengths = |i: usize| -> Result<Vec<usize>> {
            let lengths = list(i)?.unwrap_or_default().into_iter();
            lengths.map(length_of).collect()
        };
        let number = |i: usize| match optional(i)? {
            Some(tensor) => first(&tensor).map(Some),
            None => Ok(None),
        };
        let all = || -> Result<Vec<Tensor>> { (0..node.inputs.len()).map(operand).collect() };
        let x = || operand(0);
        let binary = |of: fn(&Tensor, &Tensor) -> Result<Tensor>| -> Result<Tensor> {
            let mut operands = all()?.into_iter();
            let Some(first) = operands.next() else {
                bail!("it has no operand")
            };
            operands.try_fold(first, |result, operand| {
                self.broadcast(&result, &operand, of)
            })
        };
        let result = match &node.op {
            Op::Abs => x()?.abs()?,
            Op::Add => binary(|a, b| ops::pairwise(a, b, Pairwise::Add))?,
            Op::BatchNormalization { epsilon } => {
                let [scale, offset, mean, variance] = [1, 2, 3, 4].map(operand);
                let scale = (scale? / (variance? + f64::from(*epsilon))?.sqrt()?)?;
                let offset = (offset? - (&scale * mean?)?)?;
                let along = |tensor: Tensor| tensor.reshape(((), 1, 1));
                let y = self.broadcast(&x()?, &along(scale)?, Tensor::broadcast_mul)?;
                self.broadcast(&y, &along(offset)?, Tensor::broadcast_add)?
            }
            Op::Cast { integers: true } => {
                let x = x()?;
                x.to_dtype(DType::I64)?.to_device(&Device::Cpu)?
            }
            Op::Cast { integers: false } => x()?.to_dtype(DType::F32)?.to_device(self.device)?,
            Op::Clip => {
                let mut y = x()?;
                if let Some(min) = number(1)? {
                    y = y.maximum(min)?;
                }
                match number(2)? {
                    Some(max) => y.minimum(max)?,
                    None => y,
                }
            }
            Op::Concat { axis } => arrange::concat(&all()?, *axis, self.limit)?,
            Op::ConstantOfShape { value, integers } => {
                let lengths = lengths(0)?;
                self.limit.check(&lengths)?;
                match integers {
                    true => Tensor::full(*value as i64, lengths, &Device::Cpu)?,
                    false => Tensor::full(*value, lengths, self.device)?,
                }
            }
            Op::Conv(settings) => {
                let (parts, weights, bias) = (self.parts(node)?, operand(1)?, optional(2)?);
                let result = node.outputs.first().map_or("", String::as_str);
                let operands = (&weights, bias.as_ref());
                match self.packed.conv(result, &parts, operands, self.limit)? {
                    Some(result) => result,
                    None => convolve::conv(&parts, &weights, bias.as_ref(), settings, self.limit)?,
                }
            }
            Op::ConvTranspose(settings) => convolve::transposed(
                &x()?,
                &operand(1)?,
                optional(2)?.as_ref(),
                settings,
                self.limit,
            )?,
            Op::DepthToSpace {
                block,
                columns_first,
            } => arrange::depth_to_space(&x()?, *block, *columns_first)?,
            Op::Div => binary(divided)?,
            Op::Elu { alpha } => {
                let x = x()?;
                let below = (ops::exp(&x.minimum(0f32)?)? - 1.0)?;
                (x.relu()? + (below * f64::from(*alpha))?)?
            }
            Op::Erf => x()?.erf()?,
            Op::Exp => ops::exp(&x()?)?,
            Op::Expand => {
                let x = x()?;
                let shape = lengths(1)?.into();
                let shape = x.shape().broadcast_shape_binary_op(&shape, "expand")?;
                self.limit.check(shape.dims())?;
                x.broadcast_as(shape)?.contiguous()?
            }
            Op::Flatten { axis } => {
                let x = x()?;
                let axis = match *axis as usize == x.rank() {
                    true => x.rank(),
                    false => axis_of(*axis, x.rank())?,
                };
                let rows: usize = x.dims()[..axis].iter().product();
                let count = x.elem_count() / rows.max(1);
                x.contiguous()?.reshape((rows, count))?
            }
            Op::Gather { axis } => arrange::gather(&x()?, &operand(1)?, *axis, self.limit)?,
            Op::Gelu { tanh: false } => ops::gelu(&x()?)?,
            Op::Gelu { tanh: true } => {
                let x = x()?;
                let inner = ((x.sqr()?.mul(&x)? * 0.044_715)? + &x)?;
                let root = (2.0 / std::f64::consts::PI).sqrt();
                ((ops::tanh(&(inner * root)?)? + 1.0)? * 0.5)?.mul(&x)?
            }
            Op::GlobalAveragePool => {
                let x = x()?;
                let spatial: Vec<usize> = (2..x.rank()).collect();
                x.mean_keepdim(spatial)?
            }
            Op::GroupNormalization { groups, epsilon } => {
                self.normalized(&x()?, *groups, *epsilon, &operand(1)?, &operand(2)?)?
            }
            Op::HardSigmoid { alpha, beta } => (x()? * f64::from(*alpha))?
                .affine(1.0, f64::from(*beta))?
                .clamp(0f32, 1f32)?,
            Op::HardSwish => {
                let x = x()?;
                (x.affine(1.0 / 6.0, 0.5)?.clamp(0f32, 1f32)? * &x)?
            }
            Op::Identity => x()?,
            Op::InstanceNormalization { epsilon } => {
                let x = x()?;
                let channels = x.dims().get(1).copied().unwrap_or(0);
                self.normalized(&x, channels, *epsilon, &operand(1)?, &operand(2)?)?
            }
            Op::LayerNormalization { axis, epsilon } => {
                let x = x()?;
                let axes: Vec<usize> = (axis_of(*axis, x.rank())?..x.rank()).collect();
                let centered = x.broadcast_sub(&x.mean_keepdim(axes.clone())?)?;
                let variance = centered.sqr()?.mean_keepdim(axes)?;
                let spread = (variance + f64::from(*epsilon))?.sqrt()?;
                let y = centered.broadcast_div(&spread)?;
                let y = self.broadcast(&y, &operand(1)?, Tensor::broadcast_mul)?;
                match optional(2)? {
                    Some(offset) => self.broadcast(&y, &offset, Tensor::broadcast_add)?,
                    None => y,
                }
            }
            Op::LeakyRelu { alpha } => {
                let x = x()?;
                self.broadcast(&x, &Tensor::new(*alpha, x.device())?, leaky)?
            }
            Op::MatMul => {
                let (a, b) = (x()?.contiguous()?, operand(1)?.contiguous()?);
                match (a.rank(), b.rank()) {
                    (1, _) => self.product(&a.unsqueeze(0)?, &b)?.squeeze(D::Minus2)?,
                    (_, 1) => self.product(&a, &b.unsqueeze(1)?)?.squeeze(D::Minus1)?,
                    _ => self.product(&a, &b)?,
                }
            }
            Op::Max => binary(Tensor::broadcast_maximum)?,
            Op::Min => binary(Tensor::broadcast_minimum)?,
            Op::Mish => {
                // x tanh(log(1 + e^x)), beyond 20 x itself.
                let x = x()?;
                let e = ops::exp(&x.minimum(20f32)?)?;
                let n = (&e * (&e + 2.0)?)?;
                ((&n / (&n + 2.0)?)? * x)?
            }
            Op::Mul => binary(|a, b| ops::pairwise(a, b, Pairwise::Mul))?,
            Op::Neg => x()?.neg()?,
            Op::PRelu => self.broadcast(&x()?, &operand(1)?, leaky)?,
            Op::Pad { mode } => {
                let x = x()?;
                let axes = match list(3)? {
                    Some(axes) => axes_of(&axes, x.rank())?,
                    None => (0..x.rank()).collect(),
                };
                let (pads, value) = (list(1)?.unwrap_or_default(), number(2)?.unwrap_or(0.0));
                arrange::pad(&x, &pads, &axes, *mode, value, self.limit)?
            }
            Op::Pow => self.broadcast(&x()?, &operand(1)?, power)?,
            Op::ReduceMean {
                axes,
                keep,
                all_if_empty,
            } => {
                let x = x()?;
                let axes = match axes {
                    Some(axes) => axes.clone(),
                    None => list(1)?.unwrap_or_default(),
                };
                let axes = match (axes.is_empty(), all_if_empty) {
                    (true, true) => (0..x.rank()).collect(),
                    (true, false) => return Ok(vec![x]),
                    _ => axes_of(&axes, x.rank())?,
                };
                match keep {
                    true => x.mean_keepdim(axes)?,
                    false => x.mean(axes)?,
                }
            }
            Op::Relu => x()?.relu()?,
            Op::Reshape { allow_zero } => {
                arrange::reshape(&x()?, &list(1)?.unwrap_or_default(), *allow_zero)?
            }
            Op::Resize(settings) => self.resized(node, &x()?, settings)?,
            Op::Shape { start, end } => arrange::shape(&x()?, *start, *end)?,
            Op::Sigmoid => ops::sigmoid(&x()?)?,
            Op::Slice => arrange::slice(
                &x()?,
                &list(1)?.unwrap_or_default(),
                &list(2)?.unwrap_or_default(),
                list(3)?.as_deref(),
                list(4)?.as_deref(),
            )?,
            Op::Softmax {
                axis,
                flatten: true,
            } => {
                let x = x()?.contiguous()?;
                let rows: usize = x.dims()[..axis_of(*axis, x.rank())?].iter().product();
                let count = x.elem_count() / rows.max(1);
                ops::softmax(&x.reshape((rows, count))?)?.reshape(x.shape())?
            }
            Op::Softmax { axis, .. } => {
                let x = x()?;
                let (axis, last) = (axis_of(*axis, x.rank())?, x.rank() - 1);
                ops::softmax(&x.transpose(axis, last)?.contiguous()?)?.transpose(axis, last)?
            }
            Op::Softplus => {
                let x = x()?;
                let rest = ops::log(&(ops::exp(&x.abs()?.neg()?)? + 1.0)?)?;
                (x.relu()? + rest)?
            }
            Op::SpaceToDepth { block } => arrange::space_to_depth(&x()?, *block)?,
            Op::Split { axis, sizes } => {
                let sizes = match sizes {
                    Some(sizes) => Some(sizes.clone()),
                    None => list(1)?,
                };
                return arrange::split(&x()?, *axis, sizes.as_deref(), node.outputs.len());
            }
            Op::Sqrt => x()?.sqrt()?,
            Op::Squeeze { axes } => {
                let listed = list(1)?;
                arrange::squeeze(&x()?, axes.as_deref().or(listed.as_deref()))?
            }
            Op::Sub => binary(|a, b| ops::pairwise(a, b, Pairwise::Sub))?,
            Op::Tanh => ops::tanh(&x()?)?,
            Op::Transpose { order } => {
                let x = x()?;
                let order = match order {
                    Some(order) => order.clone(),
                    None => (0..x.rank()).rev().collect(),
                };
                x.permute(order)?.contiguous()?
            }
            Op::Unsqueeze { axes } => {
                let listed = list(1)?.unwrap_or_default();
                arrange::unsqueeze(&x()?, axes.as_deref().unwrap_or(&listed))?
            }
        };
        Ok(vec![result])
    }

    fn resized(&self, node: &Node, x: &Tensor, settings: &ResizeSettings) -> Result<Tensor> {
        let optional = |i: usize| -> Result<Option<Tensor>> {
            Ok(self
                .optional(node, i)?
                .filter(|tensor| tensor.elem_count() > 0))
        };
        let axes = match &settings.axes {
            Some(axes) => axes_of(axes, x.rank())?,
            None => (0..x.rank()).collect(),
        };
        let floats = |tensor: Tensor| tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>();
        let part = match settings.coordinates {
            Coordinates::TfCropAndResize => optional(1)?.map(floats).transpose()?,
            _ => None,
        };
        let scales = optional(2)?.map(floats).transpose()?;
        let sizes = optional(3)?.map(|tensor| integers(&tensor)).transpose()?;
        let mut y = x.contiguous()?;
        for (i, &axis) in axes.iter().enumerate() {
            let from = x.dim(axis)?;
            let (to, scale) = match (&sizes, &scales) {
                (Some(sizes), _) if sizes.len() == axes.len() => {
                    let to = length_of(sizes[i])?;
                    (to, to as f32 / from as f32)
                }
                (None, Some(scales)) if scales.len() == axes.len() => {
                    ((from as f32 * scales[i]) as usize, scales[i])
                }
                _ => bail!("it needs as many scales or sizes as axes"),
            };
            let part = match &part {
                Some(part) if part.len() == 2 * axes.len() => [part[i], part[i + axes.len()]],
                _ => [0.0, 1.0],
            };
            if to == from && scale == 1.0 && part == [0.0, 1.0] {
                continue;
            }
            let mut shape = y.dims().to_vec();
            shape[axis] = to;
            self.limit.check(&shape)?;
            let lengths = Lengths {
                from,
                to,
                scale,
                part,
            };
            y = resize::along(&y, axis, lengths, settings)?;
        }
        Ok(y)
    }
}

/// The first value of a tensor.
fn first(tensor: &Tensor) -> Result<f32> {
    let values = tensor
        .flatten_all()?
        .to_dtype(DType::F32)?
        .to_vec1::<f32>()?;
    match values.first() {
        Some(&value) => Ok(value),
        None => bail!("an operand is empty"),
    }
}

/// A quotient; of integers, rounded towards zero.
fn divided(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if b.dtype() == DType::I64 && integers(b)?.contains(&0) {
        bail!("a division by zero")
    }
    a.broadcast_div(b)
}

/// A power: by multiplication for small whole ones, else of positive values.
fn power(x: &Tensor, exponent: &Tensor) -> Result<Tensor> {
    if exponent.elem_count() == 1 {
        match first(exponent)? {
            0.5 => return x.sqrt(),
            1.0 => return Ok(x.clone()),
            2.0 => return x.sqr(),
            3.0 => return x.sqr()?.mul(x),
            4.0 => return x.sqr()?.sqr(),
            _ => {}
        }
    }
    ops::exp(&ops::log(x)?.broadcast_mul(&exponent.to_dtype(x.dtype())?)?)
}

/// Negative values times `slope`.
fn leaky(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let channels = if x.rank() == 4 { x.dim(1)? } else { 0 };
    let count = slope.elem_count();
    let of_channels = count == channels && slope.dims().iter().rev().nth(2) == Some(&channels);
    if x.rank() == 4 && (count == 1 || of_channels) {
        return ops::prelu(&x.contiguous()?, &slope.flatten_all()?);
    }
    let negative = (x.relu()? - x)?;
    x.relu()?.broadcast_sub(&negative.broadcast_mul(slope)?)
}
