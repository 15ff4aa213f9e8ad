//! The worker's engines: srfilter's, candle's, and the element.

use crate::workloads::{
    CANDLE, ELEMENT, ELEMENT_INT8, Kind, Layer, SCALE, SRFILTER, SRFILTER_INT8, Weights, Work,
};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::PReLU;
use gst::prelude::*;
use srfilter::Scale;
use srfilter::chain::quantized::{Calibration, Quantization};
use srfilter::chain::{Chain, ChainExecutor, ChainLayer, ChainOptions, Epilogue, PackedChain};
use srfilter::engine::{FrameSpec, Precision, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::{Color, FrameMut, FrameRef, PixelFormat};
use srfilter::nn::Conv;
use srfilter::ops::{
    Activation, ChainedConv, ConvSpec, ParameterUpdate, UpdateRule, apply_updates, backward,
    conv2d_chain, prelu,
};
use srfilter::weights::Model;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames of one call.
const FRAMES: usize = 4;

/// Of the optimiser.
const LEARNING_RATE: f64 = 1e-6;

/// Longest wait for a frame.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(120);

/// Runs a workload once: stores the output, and returns the duration.
pub(crate) type Job = Box<dyn FnMut(&mut Vec<f32>) -> Result<Duration>>;

/// Runs a network on an image: dense planes in, dense planes out.
type Run = Box<dyn FnMut(&[f32], &mut [f32]) -> Result<()>>;

/// The implementation of convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Convolution {
    Ours,
    Candle,
}

impl Convolution {
    fn of(engine: &str) -> Result<Self> {
        match engine {
            SRFILTER => Ok(Self::Ours),
            CANDLE => Ok(Self::Candle),
            _ => bail!("there is no engine {engine}"),
        }
    }
}

/// Prepares an engine for a workload.
pub(crate) fn job(work: &Work, engine: &str, weights: &Weights) -> Result<Job> {
    if !work.engines.contains(&engine) {
        bail!("{engine} does not do {}", work.name);
    }
    match (work.kind, engine) {
        (Kind::Network, SRFILTER) => {
            let packed = PackedChain::of_chain(&chain(&work.layers, weights)?)?;
            Ok(timed(work, prepare(work, packed)?))
        }
        (Kind::Network, SRFILTER_INT8) => {
            let packed = quantized(work, &chain(&work.layers, weights)?)?;
            Ok(timed(work, prepare(work, packed)?))
        }
        (Kind::Network, _) => {
            let run = layerwise(work, weights, Convolution::of(engine)?);
            Ok(timed(work, run))
        }
        (Kind::Training, _) => training(work, weights, Convolution::of(engine)?),
        (Kind::Frames(model), ELEMENT) => by_element(work, model, Precision::F32),
        (Kind::Frames(model), ELEMENT_INT8) => by_element(work, model, Precision::Int8),
        (Kind::Frames(model), SRFILTER_INT8) => by_upscaler(work, model, Precision::Int8),
        (Kind::Frames(model), _) => by_upscaler(work, model, Precision::F32),
    }
}

fn timed(work: &Work, mut run: Run) -> Job {
    let input = work.image();
    let count = work.output.iter().product();
    Box::new(move |output| {
        output.resize(count, 0.0);
        let start = Instant::now();
        run(&input, output)?;
        Ok(start.elapsed())
    })
}

/// The chain in 8-bit integers, with the ranges of the image.
fn quantized(work: &Work, chain: &Chain) -> Result<Option<PackedChain>> {
    let x = Tensor::from_vec(work.image(), &work.input, &Device::Cpu)?;
    let mut calibration = Calibration::default();
    calibration.observe(chain, &x)?;
    let quantization = Quantization::of_chains([chain], &calibration.ranges())?;
    Ok(PackedChain::quantized(chain, &quantization)?)
}

/// srfilter's fused chain, which the element runs too.
fn prepare(work: &Work, packed: Option<PackedChain>) -> Result<Run> {
    let packed = packed.context("the plan does not cover this network")?;
    let tanh = work.layers.last() == Some(&Layer::Tanh);
    let [_, _, height, width] = work.input;
    let mut plan = ChainExecutor::of(Arc::new(packed), (width, height), &ChainOptions::default())?;
    Ok(Box::new(move |input, output| {
        let input: Vec<_> = input.chunks_exact(width * height).collect();
        let (width, height) = plan.output_size();
        let mut output: Vec<_> = output.chunks_exact_mut(width * height).collect();
        plan.run(&input, &mut output)?;
        if tanh {
            // The chain maps the output from -1..1 to 0..1, these networks do not.
            let samples = output.iter_mut().flat_map(|plane| plane.iter_mut());
            samples.for_each(|value| *value = 2.0 * *value - 1.0);
        }
        Ok(())
    }))
}

/// The workload's layers as a chain.
fn chain(layers: &[Layer], weights: &Weights) -> Result<Chain> {
    let (mut links, mut stack) = (Vec::<ChainLayer>::new(), Vec::new());
    for (i, &layer) in layers.iter().enumerate() {
        let part = |name| part(weights, i, name).cloned();
        if let Layer::Conv { .. } = layer {
            links.push(ChainLayer::from(Conv {
                weight: part("weight")?,
                bias: Some(part("bias")?),
                spec: ConvSpec::default(),
            }));
            continue;
        }
        if layer == Layer::Push {
            stack.push(links.len());
            continue;
        }
        let link = links.last_mut().context("no convolution before")?;
        match layer {
            Layer::Relu => link.conv.spec.activation = Activation::Relu,
            // With a single slope it commutes with a pixel shuffle.
            Layer::Prelu { slopes } if slopes == 1 || link.shuffle == 1 => {
                link.slope = Some(part("slope")?);
            }
            Layer::Shuffle { factor } => link.shuffle = factor,
            Layer::Add => link.skip = Some(stack.pop().context("nothing to add")?),
            Layer::Tanh if i + 1 == layers.len() => {}
            _ => bail!("the plan has no {layer:?}"),
        }
    }
    Ok(Chain {
        epilogue: Epilogue {
            tanh: layers.last() == Some(&Layer::Tanh),
            ..Epilogue::default()
        },
        layers: links,
        ..Chain::default()
    })
}

/// The network layer by layer.
fn layerwise(work: &Work, weights: &Weights, convolution: Convolution) -> Run {
    let (layers, weights, shape) = (work.layers.clone(), weights.clone(), work.input);
    Box::new(move |input, output| {
        let x = Tensor::from_slice(input, &shape, &Device::Cpu)?;
        store(&forward(&layers, &weights, convolution, x)?, output)
    })
}

fn store(tensor: &Tensor, output: &mut [f32]) -> Result<()> {
    output.copy_from_slice(&tensor.flatten_all()?.to_vec1()?);
    Ok(())
}

fn part<'a>(weights: &'a Weights, layer: usize, part: &str) -> Result<&'a Tensor> {
    let name = format!("{layer}.{part}");
    weights
        .get(&name)
        .with_context(|| format!("no weights {name}"))
}

fn forward(
    layers: &[Layer],
    weights: &Weights,
    convolution: Convolution,
    mut x: Tensor,
) -> Result<Tensor> {
    let mut stack = Vec::new();
    // Consecutive convolutions with equal numbers of channels are one call, as in the models.
    let mut chain: Vec<ChainedConv<'_>> = Vec::new();
    for (i, &layer) in layers.iter().enumerate() {
        let part = |name| part(weights, i, name);
        x = match (layer, convolution) {
            (
                Layer::Conv {
                    inputs, outputs, ..
                },
                Convolution::Ours,
            ) => {
                let activation = match layers.get(i + 1) {
                    Some(Layer::Relu) => Activation::Relu,
                    _ => Activation::None,
                };
                chain.push(ChainedConv {
                    weights: part("weight")?,
                    bias: Some(part("bias")?),
                    spec: ConvSpec {
                        activation,
                        ..ConvSpec::default()
                    },
                });
                let mut next = layers[i + 1..]
                    .iter()
                    .filter(|&&layer| layer != Layer::Relu);
                let goes_on = matches!(
                    next.next(),
                    Some(&Layer::Conv { outputs: next, .. }) if next == outputs
                );
                if inputs == outputs && goes_on {
                    continue;
                }
                conv2d_chain(&x, &std::mem::take(&mut chain))?
            }
            (Layer::Conv { kernel, .. }, Convolution::Candle) => {
                let y = x.conv2d(part("weight")?, kernel / 2, 1, 1, 1)?;
                y.broadcast_add(&part("bias")?.reshape((1, (), 1, 1))?)?
            }
            (Layer::Deconv { kernel, stride, .. }, _) => {
                let weight = part("weight")?;
                let y = x.conv_transpose2d(weight, kernel / 2, stride - 1, stride, 1)?;
                y.broadcast_add(&part("bias")?.reshape((1, (), 1, 1))?)?
            }
            // Fused into srfilter's convolution.
            (Layer::Relu, Convolution::Ours) => x,
            (Layer::Relu, Convolution::Candle) => x.relu()?,
            (Layer::Tanh, _) => srfilter::ops::tanh(&x)?,
            (Layer::Prelu { .. }, Convolution::Ours) => prelu(&x, part("slope")?)?,
            (Layer::Prelu { slopes }, Convolution::Candle) => {
                PReLU::new(part("slope")?.clone(), slopes == 1).forward(&x)?
            }
            (Layer::Shuffle { factor }, _) => candle_nn::ops::pixel_shuffle(&x, factor)?,
            (Layer::Push, _) => {
                stack.push(x.clone());
                x
            }
            (Layer::Add, _) => (x + stack.pop().context("nothing to add")?)?,
        };
    }
    Ok(x)
}

/// The workload's weights, with the last layer scaled so that its values before
/// the activation are 0 to 1.
pub(crate) fn weights(work: &Work) -> Result<Weights> {
    let mut weights = work.random_weights()?;
    let last = work.last().context("a network without weights")?;
    let x = Tensor::from_vec(work.image(), &work.input, &Device::Cpu)?;
    let y = forward(&work.layers[..=last], &weights, Convolution::Ours, x)?.flatten_all()?;
    let (low, high) = (y.min(0)?.to_scalar::<f32>()?, y.max(0)?.to_scalar::<f32>()?);
    let gain = 1.0 / f64::from(high - low);
    let scaled = |name: &str, shift: f32| -> Result<Tensor> {
        Ok(part(&weights, last, name)?.affine(gain, -f64::from(shift) * gain)?)
    };
    let (weight, bias) = (scaled("weight", 0.0)?, scaled("bias", low)?);
    weights.insert(format!("{last}.weight"), weight);
    weights.insert(format!("{last}.bias"), bias);
    Ok(weights)
}

/// A step of training, as `train` takes it: mean squared error, gradients, Adam; outputs
/// the gradients.
fn training(work: &Work, weights: &Weights, convolution: Convolution) -> Result<Job> {
    let mut names: Vec<_> = weights.keys().collect();
    names.sort();
    let vars: Vec<_> = names
        .iter()
        .map(|&name| Ok((name.clone(), Var::from_tensor(&weights[name])?)))
        .collect::<Result<_>>()?;
    let tracked = vars
        .iter()
        .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
    let tracked: Weights = tracked.collect();
    let moments = vars
        .iter()
        .map(|(_, var)| Tensor::zeros((2, var.elem_count()), DType::F32, &Device::Cpu));
    let moments = moments.collect::<candle_core::Result<Vec<_>>>()?;
    let x = Tensor::from_vec(work.image(), &work.input, &Device::Cpu)?;
    let target = Tensor::from_vec(work.target(), &work.output, &Device::Cpu)?;
    let layers = work.layers.clone();
    let mut step = 0;
    let mut train = move || {
        step += 1;
        let y = forward(&layers, &tracked, convolution, x.clone())?;
        let loss = (y - &target)?.sqr()?.mean_all()?;
        let found = match convolution {
            Convolution::Ours => backward(&loss)?,
            Convolution::Candle => loss.backward()?,
        };
        let gradients = vars.iter().map(|(name, var)| {
            let gradient = found.get(var).cloned();
            gradient.with_context(|| format!("no gradient of {name}"))
        });
        let gradients = gradients.collect::<Result<Vec<_>>>()?;
        let rule = adam(step);
        let updates: Vec<_> = (vars.iter().zip(&gradients).zip(&moments))
            .map(|(((_, var), gradient), moments)| ParameterUpdate {
                rule,
                parameter: var.as_tensor().clone(),
                gradient: gradient.clone(),
                moments: moments.clone(),
            })
            .collect();
        apply_updates(&updates)?;
        Ok(gradients)
    };
    Ok(Box::new(move |output| {
        let start = Instant::now();
        // On a thread of the pool, as `train`.
        let gradients: Result<Vec<Tensor>> = rayon::scope(|_| train());
        let took = start.elapsed();
        output.clear();
        for gradient in gradients? {
            output.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(took)
    }))
}

/// Adam's step with PyTorch's settings, at a learning rate that hardly moves the weights.
fn adam(step: i32) -> UpdateRule {
    let (beta1, beta2) = (0.9f64, 0.999f64);
    UpdateRule {
        grad_scale: 1.0,
        clip_value: f32::INFINITY,
        weight_decay: 0.0,
        decoupled_decay: 1.0,
        momentum: None,
        beta1: beta1 as f32,
        one_less_beta1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        one_less_beta2: (1.0 - beta2) as f32,
        root_correction2: (1.0 - beta2.powi(step)).sqrt() as f32,
        eps: 1e-8,
        step_size: (LEARNING_RATE / (1.0 - beta1.powi(step))) as f32,
    }
}

/// An I420 frame.
struct Frame {
    size: (usize, usize),
    bytes: Vec<u8>,
}

impl Frame {
    /// A black frame of even size.
    fn new(size: (usize, usize)) -> Self {
        Self {
            size,
            bytes: vec![0; size.0 * size.1 * 3 / 2],
        }
    }

    /// The workload's image as luma, its negative as chroma.
    fn of(work: &Work) -> Self {
        let [_, _, height, width] = work.input;
        let luma = work.image();
        let byte = |value: f32| (value * 255.0).round() as u8;
        let rows = luma.chunks(width).step_by(2);
        let halved = rows.flat_map(|row| row.iter().step_by(2));
        let chroma: Vec<_> = halved.map(|&value| byte(1.0 - value)).collect();
        let bytes = luma.iter().map(|&value| byte(value));
        let bytes = bytes
            .chain(chroma.iter().copied())
            .chain(chroma.iter().copied());
        Self {
            size: (width, height),
            bytes: bytes.collect(),
        }
    }

    /// Offsets of U and V.
    fn chroma_offsets(&self) -> (usize, usize) {
        let area = self.size.0 * self.size.1;
        (area, area / 4)
    }

    fn view(&self) -> srfilter::Result<FrameRef<'_>> {
        let (width, (area, quarter)) = (self.size.0, self.chroma_offsets());
        let (y, chroma) = self.bytes.split_at(area);
        let (u, v) = chroma.split_at(quarter);
        let planes = [(y, width), (u, width / 2), (v, width / 2)];
        FrameRef::new(PixelFormat::I420, self.size, Color::default(), &planes)
    }

    fn view_mut(&mut self) -> srfilter::Result<FrameMut<'_>> {
        let (width, (area, quarter)) = (self.size.0, self.chroma_offsets());
        let (y, chroma) = self.bytes.split_at_mut(area);
        let (u, v) = chroma.split_at_mut(quarter);
        let planes = [(y, width), (u, width / 2), (v, width / 2)];
        FrameMut::new(PixelFormat::I420, self.size, Color::default(), planes)
    }
}

/// Bytes as values 0 to 1.
fn values(bytes: &[u8], output: &mut Vec<f32>) {
    output.clear();
    output.extend(bytes.iter().map(|&byte| f32::from(byte) / 255.0));
}

/// Frames through `Upscaler::process`, without GStreamer.
fn by_upscaler(work: &Work, model: &str, precision: Precision) -> Result<Job> {
    let input = Frame::of(work);
    let frame_spec = FrameSpec::new(PixelFormat::I420, input.size.0, input.size.1);
    let spec = UpscaleSpec::scaled(frame_spec, Scale::whole(SCALE));
    let options = UpscaleOptions::default().with_precision(precision);
    let mut upscaler = Upscaler::new(Model::builtin(model)?, spec, &options)?;
    let mut upscaled = Frame::new(spec.output);
    Ok(Box::new(move |output| {
        let start = Instant::now();
        for _ in 0..FRAMES {
            upscaler.process(&input.view()?, &mut upscaled.view_mut()?)?;
        }
        let took = start.elapsed() / FRAMES as u32;
        values(&upscaled.bytes, output);
        Ok(took)
    }))
}

/// A pipeline that stops when it is dropped.
struct Playing(gst::Pipeline);

impl Drop for Playing {
    fn drop(&mut self) {
        // Nothing can be done about a failure here.
        let _ = self.0.set_state(gst::State::Null);
    }
}

impl Playing {
    fn element<T: IsA<gst::Element>>(&self, name: &str) -> Result<T> {
        let element = self.0.by_name(name);
        let element = element.and_then(|element| element.downcast().ok());
        element.with_context(|| format!("the pipeline has no {name}"))
    }
}

/// Frames through the element, at full speed.
fn by_element(work: &Work, model: &str, precision: Precision) -> Result<Job> {
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    let frame = Frame::of(work);
    let (width, height) = frame.size;
    // `Color::default()` in caps.
    let caps = format!(
        "video/x-raw,format=I420,width={width},height={height},framerate=25/1,\
         colorimetry=bt601,chroma-site=mpeg2"
    );
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=source format=time caps={caps} \
         ! srfilter model={model} scale={SCALE} precision={precision} reuse=off qos=false ! appsink name=sink sync=false"
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>();
    let playing = Playing(pipeline.ok().context("this is no pipeline")?);
    let source: gst_app::AppSrc = playing.element("source")?;
    let sink: gst_app::AppSink = playing.element("sink")?;
    playing.0.set_state(gst::State::Playing)?;
    let mut count = 0;
    Ok(Box::new(move |output| {
        let start = Instant::now();
        for _ in 0..FRAMES {
            let mut buffer = gst::Buffer::from_slice(frame.bytes.clone());
            let pts = gst::ClockTime::from_mseconds(40 * count);
            buffer.get_mut().context("a shared buffer")?.set_pts(pts);
            source.push_buffer(buffer)?;
            count += 1;
        }
        let mut last = None;
        for _ in 0..FRAMES {
            last = sink.try_pull_sample(PATIENCE);
            if last.is_none() {
                let error = playing.0.bus().and_then(|bus| bus.pop());
                bail!("no frame came out of the pipeline: {error:?}");
            }
        }
        let took = start.elapsed() / FRAMES as u32;
        let buffer = last
            .and_then(|sample| sample.buffer_owned())
            .context("an empty sample")?;
        // Rows of these sizes have no padding.
        values(&buffer.map_readable()?, output);
        Ok(took)
    }))
}
