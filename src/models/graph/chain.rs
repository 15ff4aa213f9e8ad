//! Graphs that are chains of convolutions.

use super::config::{Config, ConvSettings, Coordinates, Node, Op, PadMode, ResizeMode, Rounding};
use crate::chain::{Chain, ChainLayer};
use crate::nn::Conv;
use crate::ops::{Activation, Border, ConvSpec};
use candle_core::{Result, Tensor};
use std::collections::HashMap;

/// The graph as a chain; `None` if it is none, or one that [`Chain`] does not cover.
pub(super) fn of(config: &Config, weights: &HashMap<String, Tensor>) -> Result<Option<Chain>> {
    let mut walk = Walk {
        config,
        weights,
        chain: Chain::default(),
        current: &config.input,
        after: After::Layer,
        boundaries: HashMap::from([(config.input.as_str(), 0)]),
        padded: None,
        repeated: None,
        ends: false,
    };
    for node in &config.nodes {
        if walk.step(node)?.is_none() {
            return Ok(None);
        }
    }
    let complete = walk.current == config.output && walk.padded.is_none();
    let chain = walk.chain;
    let fits = complete && !chain.layers.is_empty() && chain.factor() == config.factor;
    Ok(fits.then_some(chain))
}

/// What has been added to the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum After {
    Convolution,
    Activation,
    Skip,
    /// It is complete.
    Layer,
}

/// A walk along the nodes.
struct Walk<'a> {
    config: &'a Config,
    weights: &'a HashMap<String, Tensor>,
    chain: Chain,
    /// The value that the chain has reached.
    current: &'a str,
    after: After,
    /// The boundaries of the chain by the names of their values.
    boundaries: HashMap<&'a str, usize>,
    /// The border that was added to the value.
    padded: Option<(PadMode, Vec<i64>)>,
    /// The input, each sample repeated.
    repeated: Option<(&'a str, usize)>,
    /// Whether nothing may follow.
    ends: bool,
}

impl<'a> Walk<'a> {
    /// Follows a node; `None` if it is no part of a chain.
    fn step(&mut self, node: &'a Node) -> Result<Option<()>> {
        let [output] = node.outputs.as_slice() else {
            return Ok(None);
        };
        let reads = node.inputs.iter().any(|name| name == self.current);
        if let Op::Resize(_) = &node.op {
            return Ok(self.repeats(node, output));
        }
        if !reads || self.ends {
            return Ok(None);
        }
        let is_first = node.inputs[0] == self.current;
        let done = match &node.op {
            Op::Identity => Some(()),
            Op::Conv(settings) if is_first => self.convolve(node, settings)?,
            Op::Pad { mode } if is_first => self.pad(node, *mode),
            _ if self.padded.is_some() => None,
            Op::Add | Op::Sub | Op::Mul | Op::Div => match self.constant(node)? {
                Some(values) => self.compute(&node.op, is_first, &values)?,
                None if node.op == Op::Add => self.add(node),
                None => None,
            },
            Op::Relu => self.activate(Some(Activation::Relu), None),
            Op::Clip if is_first => self.clip(node)?,
            Op::LeakyRelu { alpha } => {
                let slope = Tensor::from_slice(&[*alpha], 1, &candle_core::Device::Cpu)?;
                self.activate(None, Some(slope))
            }
            Op::PRelu if is_first => {
                match node.inputs.get(1).and_then(|name| self.weights.get(name)) {
                    Some(slope) => self.activate(None, Some(slope.flatten_all()?)),
                    None => None,
                }
            }
            Op::DepthToSpace {
                block,
                columns_first,
            } => self.shuffle(*block, *columns_first)?,
            _ => None,
        };
        if done.is_none() {
            return Ok(None);
        }
        self.current = output;
        if self.padded.is_none() {
            self.boundaries.insert(output, self.chain.layers.len());
        }
        Ok(Some(()))
    }

    /// Constant weights and bias.
    fn kernels(&self, node: &Node) -> Option<(&'a Tensor, Option<&'a Tensor>)> {
        let operand = |i: usize| node.inputs.get(i).filter(|name| !name.is_empty());
        let weight = self.weights.get(operand(1)?)?;
        match operand(2) {
            Some(name) => Some((weight, Some(self.weights.get(name)?))),
            None => Some((weight, None)),
        }
    }

    /// The constant operand of a node with two: one value, or one for each channel.
    fn constant(&self, node: &Node) -> Result<Option<Vec<f32>>> {
        let operands = node.inputs.iter();
        let Some(constant) = operands.filter_map(|name| self.weights.get(name)).next() else {
            return Ok(None);
        };
        let (count, rank) = (constant.elem_count(), constant.rank());
        let of_channels = rank >= 3 && constant.dims()[rank - 3] == count;
        match (node.inputs.len(), count > 0 && (count == 1 || of_channels)) {
            (2, true) => constant.flatten_all()?.to_vec1().map(Some),
            _ => Ok(None),
        }
    }

    /// What is computed with constants: before the first convolution, or of the result
    /// of one.
    fn compute(&mut self, op: &Op, is_first: bool, values: &[f32]) -> Result<Option<()>> {
        let value = |channel: usize| values[channel.min(values.len() - 1)];
        // y = scale * x + offset
        let affine = |channel: usize| match (op, is_first) {
            (Op::Add, _) => (1.0, value(channel)),
            (Op::Sub, true) => (1.0, -value(channel)),
            (Op::Sub, false) => (-1.0, value(channel)),
            (Op::Mul, _) => (value(channel), 0.0),
            _ => (1.0 / value(channel), 0.0),
        };
        if matches!(op, Op::Div) && !is_first {
            return Ok(None);
        }
        let planes = self.config.channels.count();
        let Some(layer) = self.chain.layers.last_mut() else {
            let known = &mut self.chain.input_affine;
            if values.len() != 1 && values.len() != planes {
                return Ok(None);
            }
            known.resize(planes, (1.0, 0.0));
            for (channel, (scale, offset)) in known.iter_mut().enumerate() {
                let (times, plus) = affine(channel);
                (*scale, *offset) = (times * *scale, times * *offset + plus);
            }
            return Ok(Some(()));
        };
        let outputs = layer.conv.weight.dim(0)?;
        if self.after != After::Convolution || values.len() != 1 && values.len() != outputs {
            return Ok(None);
        }
        let device = layer.conv.weight.device();
        let scales = Tensor::from_iter((0..outputs).map(|i| affine(i).0), device)?;
        let offsets = Tensor::from_iter((0..outputs).map(|i| affine(i).1), device)?;
        layer.conv.weight = layer
            .conv
            .weight
            .broadcast_mul(&scales.reshape((outputs, 1, 1, 1))?)?;
        layer.conv.bias = Some(match &layer.conv.bias {
            Some(bias) => ((bias * scales)? + offsets)?,
            None => offsets,
        });
        Ok(Some(()))
    }

    fn convolve(&mut self, node: &Node, settings: &ConvSettings) -> Result<Option<()>> {
        let Some((weight, bias)) = self.kernels(node) else {
            return Ok(None);
        };
        let (_, _, rows, columns) = weight.dims4()?;
        let plain = settings.group == 1
            && settings.strides == [1, 1]
            && settings.dilations == [1, 1]
            && rows == columns
            && rows % 2 == 1;
        let own = settings.border([rows, columns]);
        let half = (rows / 2) as i64;
        let border = match (self.padded.take(), own) {
            (None, own) => own,
            (Some((mode, pads)), Some(Border::Valid)) if pads == [half; 4] => match mode {
                PadMode::Constant => Some(Border::Zero),
                PadMode::Edge => Some(Border::Replicate),
                _ => None,
            },
            _ => None,
        };
        // Kernels of one sample have no border.
        let known = self
            .chain
            .layers
            .first()
            .map(|layer| layer.conv.spec.border);
        let border = match (border, known) {
            (Some(Border::Valid), Some(known)) if rows == 1 => Some(known),
            (border, _) => border,
        };
        let Some(border) = border.filter(|_| plain) else {
            return Ok(None);
        };
        self.chain.layers.push(ChainLayer::from(Conv {
            weight: weight.clone(),
            bias: bias.cloned(),
            spec: ConvSpec {
                border,
                ..ConvSpec::default()
            },
        }));
        self.after = After::Convolution;
        Ok(Some(()))
    }

    /// An edge of zeros or of repeated samples, alike on all sides.
    fn pad(&mut self, node: &Node, mode: PadMode) -> Option<()> {
        let listed = || {
            let integers = self.config.integers.get(node.inputs.get(1)?)?;
            super::value::integers(&integers.tensor().ok()?).ok()
        };
        let value = node.inputs.get(2).filter(|name| !name.is_empty());
        let value = value.map(|name| self.weights.get(name));
        let is_zero = match value {
            None => true,
            Some(Some(value)) => value.flatten_all().ok()?.to_vec1::<f32>().ok()? == [0.0],
            Some(None) => false,
        };
        let has_axes = node.inputs.get(3).is_some_and(|name| !name.is_empty());
        let pads = listed()?;
        let &[0, 0, top, left, 0, 0, bottom, right] = pads.as_slice() else {
            return None;
        };
        let fits = self.padded.is_none() && !has_axes && (is_zero || mode == PadMode::Edge);
        self.padded = Some((mode, vec![top, left, bottom, right]));
        fits.then_some(())
    }

    fn activate(&mut self, activation: Option<Activation>, slope: Option<Tensor>) -> Option<()> {
        let layer = self.chain.layers.last_mut()?;
        if self.after > After::Convolution {
            return None;
        }
        if let Some(activation) = activation {
            layer.conv.spec.activation = activation;
        }
        layer.slope = slope;
        self.after = After::Activation;
        Some(())
    }

    /// A ReLU, or the range of samples at the end, to which the result is clamped
    /// anyway.
    fn clip(&mut self, node: &Node) -> Result<Option<()>> {
        // `None`: not constant.
        let bound = |i: usize| -> Result<Option<Option<f32>>> {
            match node.inputs.get(i).filter(|name| !name.is_empty()) {
                None => Ok(Some(None)),
                Some(name) => match self.weights.get(name) {
                    Some(value) => Ok(value.flatten_all()?.to_vec1()?.first().copied().map(Some)),
                    None => Ok(None),
                },
            }
        };
        let (Some(min), Some(max)) = (bound(1)?, bound(2)?) else {
            return Ok(None);
        };
        match (min, max) {
            (Some(0.0), None) => Ok(self.activate(Some(Activation::Relu), None)),
            (Some(0.0), Some(1.0)) if node.outputs[0] == self.config.output => {
                self.ends = true;
                Ok(Some(()))
            }
            _ => Ok(None),
        }
    }

    /// Adds an earlier value of the chain, or the repeated input at the end.
    fn add(&mut self, node: &Node) -> Option<()> {
        let [a, b] = node.inputs.as_slice() else {
            return None;
        };
        let other = if a == self.current { b } else { a };
        let factor = self.chain.factor();
        if let Some((repeated, times)) = self.repeated
            && repeated == other
        {
            self.chain.epilogue.residual_nearest = true;
            self.ends = true;
            return (times == factor).then_some(());
        }
        let &boundary = self.boundaries.get(other.as_str())?;
        if other == self.config.input.as_str() && factor == 1 {
            self.chain.epilogue.residual_nearest = true;
            self.ends = true;
            return Some(());
        }
        let layers = self.chain.layers.len();
        let layer = self.chain.layers.last_mut()?;
        let fits = self.after <= After::Activation && boundary > 0 && boundary < layers;
        layer.skip = Some(boundary);
        self.after = After::Skip;
        fits.then_some(())
    }

    fn shuffle(&mut self, block: usize, columns_first: bool) -> Result<Option<()>> {
        let after = self.after;
        let Some(layer) = self.chain.layers.last_mut() else {
            return Ok(None);
        };
        let has_skip = layer.skip.is_some();
        if after == After::Layer || block < 2 || has_skip && !columns_first {
            return Ok(None);
        }
        if !columns_first {
            // Blocks before channels: the channels are computed in another order.
            let outputs = layer.conv.weight.dim(0)?;
            let rest = outputs / (block * block);
            let order = (0..outputs as u32).map(|i| {
                let (channel, place) = (i / (block * block) as u32, i % (block * block) as u32);
                place * rest as u32 + channel
            });
            let order = Tensor::from_iter(order, layer.conv.weight.device())?;
            layer.conv.weight = layer.conv.weight.index_select(&order, 0)?;
            if let Some(bias) = &layer.conv.bias {
                layer.conv.bias = Some(bias.index_select(&order, 0)?);
            }
            if let Some(slope) = layer.slope.as_ref().filter(|slope| slope.elem_count() > 1) {
                layer.slope = Some(slope.index_select(&order, 0)?);
            }
        }
        layer.shuffle = block;
        self.after = After::Layer;
        Ok(Some(()))
    }

    /// The input with repeated samples.
    fn repeats(&mut self, node: &'a Node, output: &'a str) -> Option<()> {
        let Op::Resize(settings) = &node.op else {
            return None;
        };
        let repeats = matches!(settings.mode, ResizeMode::Nearest(rounding) if matches!(
            (settings.coordinates, rounding),
            (Coordinates::Asymmetric, Rounding::Floor)
                | (Coordinates::HalfPixel, Rounding::PreferFloor | Rounding::PreferCeil)
        ));
        let scales = self
            .weights
            .get(node.inputs.get(2)?)?
            .to_vec1::<f32>()
            .ok()?;
        let factor = match scales.as_slice() {
            [1.0, 1.0, rows, columns] if rows == columns => *rows,
            _ => return None,
        };
        let whole = factor == libm::floorf(factor) && settings.axes.is_none();
        let of_input = node.inputs.first() == Some(&self.config.input) && self.repeated.is_none();
        self.repeated = Some((output, factor as usize));
        (repeats && whole && of_input).then_some(())
    }
}
