//! Do the frames before it help to enlarge a frame of video, at the cost of `espcn-video`?
//!
//! Trains `espcn-video` at x2 on sequences twice, from the built-in weights, on the same data in the
//! same order: as it is, and with a memory: its first layer also gets how the frame before differs,
//! and half of the last layer's features of the frame before, times a gate for each block of 8x8
//! that learns from how much the block changed. There is no motion search. Then measures both on
//! clips, the second one also with its memory emptied before each frame. From the repository root,
//! with the number of steps and a folder for the weights (those that it holds are not trained again):
//!
//! ```text
//! cargo run --release -p srfilter-train --example several_frames -- 20000 runs/several-frames
//! ```

use anyhow::{Context, Result, ensure};
use candle_core::{D, Device, Tensor, Var};
use candle_nn::ops::pixel_shuffle;
use gst::prelude::*;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use srfilter::frame::resample::Resampler;
use srfilter::frame::to_u8;
use srfilter::metrics::{psnr, shave};
use srfilter::models::Channels;
use srfilter::nn::Conv;
use srfilter::ops::{Activation, ConvSpec, lerp_in_place, sigmoid};
use srfilter::weights::Checkpoint;
use srfilter_train::data::{Dataset, TrainingImage};
use srfilter_train::optim::{Optimizer, Settings};
use srfilter_train::params::Vars;
use srfilter_train::recipe::{Loss, Overrides, Recipe};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "models/espcn-video/x2.safetensors";
const SCALE: usize = 2;
/// Channels between the layers, 3x3 layers between the first and the last, features that are kept.
const WIDTH: usize = 16;
const DEPTH: usize = 6;
const KEPT: usize = 8;
/// Side of the gate's blocks.
const BLOCK: usize = 8;
/// Frames of a training sequence, and of those synthesised from a picture.
const FRAMES: usize = 8;
const DRAWN: usize = 14;
/// Side of a low-resolution patch, sequences of a step.
const PATCH: usize = 48;
const BATCH: usize = 4;
/// Share of sequences that are real.
const REAL: f64 = 0.55;
/// Frames of a test clip.
const MEASURED: usize = 60;
/// x264's rate factors; nothing for a clean clip.
const INPUTS: [Option<u32>; 4] = [None, Some(20), Some(26), Some(32)];

/// Frames of luma.
#[derive(Clone)]
struct Clip {
    size: (usize, usize),
    frames: Vec<Vec<u8>>,
}

impl Clip {
    fn of(image: &TrainingImage) -> Self {
        Self {
            size: image.size,
            frames: image.planes.clone(),
        }
    }

    fn cropped(&self, size: (usize, usize)) -> Self {
        let crop = |frame: &Vec<u8>| {
            let rows = frame.chunks_exact(self.size.0).take(size.1);
            rows.flat_map(|row| &row[..size.0]).copied().collect()
        };
        Self {
            size,
            frames: self.frames.iter().map(crop).collect(),
        }
    }

    /// Bicubic, antialiased, in 8 bits.
    fn small(&self) -> Self {
        let size = (self.size.0 / SCALE, self.size.1 / SCALE);
        let resampler = Resampler::resize(self.size, size);
        let shrink = |frame: &Vec<u8>| {
            let samples: Vec<f32> = frame.iter().map(|&v| f32::from(v)).collect();
            resampler.apply(&samples).into_iter().map(to_u8).collect()
        };
        Self {
            size,
            frames: self.frames.par_iter().map(shrink).collect(),
        }
    }

    /// Encoded by x264 and decoded, with neutral chroma.
    fn encoded(&self, crf: u32) -> Result<Self> {
        let (width, height) = self.size;
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=source format=time caps=video/x-raw,format=I420,width={width},\
             height={height},framerate=25/1 ! x264enc threads=1 pass=qual quantizer={crf} ! \
             avdec_h264 ! video/x-raw,format=I420 ! appsink name=sink sync=false"
        ))?
        .downcast::<gst::Pipeline>()
        .ok()
        .context("no pipeline")?;
        let source = pipeline.by_name("source").context("no source")?;
        let source = source
            .downcast::<gst_app::AppSrc>()
            .ok()
            .context("no source")?;
        let sink = pipeline.by_name("sink").context("no sink")?;
        let sink = sink
            .downcast::<gst_app::AppSink>()
            .ok()
            .context("no sink")?;
        pipeline.set_state(gst::State::Playing)?;
        for (i, frame) in (0..).zip(&self.frames) {
            let mut bytes = frame.clone();
            bytes.resize(width * height * 3 / 2, 128);
            let mut buffer = gst::Buffer::from_slice(bytes);
            let about = buffer.get_mut().context("a shared buffer")?;
            about.set_pts(gst::ClockTime::from_mseconds(40 * i));
            about.set_duration(gst::ClockTime::from_mseconds(40));
            source.push_buffer(buffer)?;
        }
        source.end_of_stream()?;
        let mut frames = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            let info = gst_video::VideoInfo::from_caps(sample.caps().context("no caps")?)?;
            let buffer = sample.buffer().context("no buffer")?;
            let map = buffer.map_readable()?;
            let rows = map.chunks(info.stride()[0] as usize).take(height);
            frames.push(rows.flat_map(|row| &row[..width]).copied().collect());
        }
        pipeline.set_state(gst::State::Null)?;
        ensure!(frames.len() == self.frames.len(), "frames were lost");
        Ok(Self {
            size: self.size,
            frames,
        })
    }

    fn tensor(&self, frame: usize) -> Result<Tensor> {
        let samples = self.frames[frame].iter().map(|&v| f32::from(v) / 255.0);
        let tensor = Tensor::from_iter(samples, &Device::Cpu)?;
        Ok(tensor.reshape((1, 1, self.size.1, self.size.0))?)
    }
}

/// A clip, and its low-resolution inputs in the order of [`INPUTS`].
struct Case {
    name: String,
    high: Clip,
    low: Vec<Clip>,
}

impl Case {
    fn new(name: &str, clip: &Clip) -> Result<Self> {
        let whole = SCALE * BLOCK;
        let high = clip.cropped((clip.size.0 / whole * whole, clip.size.1 / whole * whole));
        let small = high.small();
        let low = INPUTS.iter().map(|crf| match crf {
            Some(crf) => small.encoded(*crf),
            None => Ok(small.clone()),
        });
        Ok(Self {
            name: name.to_owned(),
            low: low.collect::<Result<_>>()?,
            high,
        })
    }
}

/// A picture in motion: standing still, panned, or held in a hand, to a fraction of a pixel.
fn in_motion(picture: &TrainingImage, rng: &mut ChaCha8Rng) -> Clip {
    const MARGIN: f64 = 32.0;
    let velocity = match rng.random::<f64>() < 0.3 {
        true => [0.0; 2],
        false => [0; 2].map(|_| rng.random_range(-2.0..2.0)),
    };
    let shake = match rng.random::<f64>() < 0.4 {
        true => rng.random_range(0.2..1.0),
        false => 0.0,
    };
    let size = picture.size;
    let inner = (size.0 - 2 * MARGIN as usize, size.1 - 2 * MARGIN as usize);
    let frame = |i: usize, rng: &mut ChaCha8Rng| {
        let time = i as f64 - DRAWN as f64 / 2.0;
        let place = velocity.map(|v| {
            let hand = shake * (rng.random::<f64>() + rng.random::<f64>() - 1.0) * 2.0;
            (MARGIN + v * time + hand).clamp(2.0, 2.0 * MARGIN - 3.0)
        });
        shifted(&picture.planes[0], size, place, inner)
    };
    Clip {
        size: inner,
        frames: (0..DRAWN).map(|i| frame(i, rng)).collect(),
    }
}

/// The part of a plane at a place between the samples, by Keys's cubic.
fn shifted(
    plane: &[u8],
    (stride, _): (usize, usize),
    place: [f64; 2],
    (width, height): (usize, usize),
) -> Vec<u8> {
    let taps = |place: f64| {
        let t = place.fract() as f32;
        let near = |t: f32| (1.5 * t - 2.5) * t * t + 1.0;
        let far = |t: f32| ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0;
        [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)]
    };
    let (across, down) = (taps(place[0]), taps(place[1]));
    let (left, top) = (place[0] as usize - 1, place[1] as usize - 1);
    let row = |y: usize| -> Vec<f32> {
        let row = &plane[(top + y) * stride + left..][..width + 3];
        let sum = |w: &[u8]| across.iter().zip(w).map(|(t, &v)| t * f32::from(v)).sum();
        row.windows(4).map(sum).collect()
    };
    let rows: Vec<Vec<f32>> = (0..height + 3).map(row).collect();
    let sum = |y: usize, x: usize| (0..4).map(|i| down[i] * rows[y + i][x]).sum::<f32>();
    (0..height)
        .flat_map(|y| (0..width).map(move |x| (y, x)))
        .map(|(y, x)| to_u8(sum(y, x)))
        .collect()
}

/// Low-resolution frames (batch, 1, height, width), from 0 to 1, and the same of the originals.
struct Batch {
    low: Vec<Tensor>,
    high: Vec<Tensor>,
}

fn batch(real: &[Case], drawn: &[Case], rng: &mut ChaCha8Rng) -> Result<Batch> {
    let (mut low, mut high) = (vec![Vec::new(); FRAMES], vec![Vec::new(); FRAMES]);
    for _ in 0..BATCH {
        let all = if rng.random::<f64>() < REAL {
            real
        } else {
            drawn
        };
        let case = all.choose(rng).context("no sequence")?;
        let input = &case.low[rng.random_range(0..INPUTS.len())];
        let first = rng.random_range(0..=input.frames.len() - FRAMES);
        let [x, y] = [input.size.0, input.size.1].map(|side| rng.random_range(0..=side - PATCH));
        let turns: [bool; 3] = rng.random();
        for i in 0..FRAMES {
            low[i].extend(patch(
                &input.frames[first + i],
                input.size,
                (x, y),
                PATCH,
                turns,
            ));
            let place = (SCALE * x, SCALE * y);
            let frame = &case.high.frames[first + i];
            high[i].extend(patch(frame, case.high.size, place, SCALE * PATCH, turns));
        }
    }
    let tensors = |frames: Vec<Vec<f32>>, side: usize| -> Result<Vec<Tensor>> {
        let tensor = |v| Ok(Tensor::from_vec(v, (BATCH, 1, side, side), &Device::Cpu)?);
        frames.into_iter().map(tensor).collect()
    };
    Ok(Batch {
        low: tensors(low, PATCH)?,
        high: tensors(high, SCALE * PATCH)?,
    })
}

/// A square of a frame, mirrored and transposed.
fn patch(
    frame: &[u8],
    (stride, _): (usize, usize),
    (left, top): (usize, usize),
    side: usize,
    [across, down, transposed]: [bool; 3],
) -> Vec<f32> {
    let turned = |i: usize, mirrored: bool| if mirrored { side - 1 - i } else { i };
    let sample = |y: usize, x: usize| {
        let (y, x) = if transposed { (x, y) } else { (y, x) };
        let at = (top + turned(y, down)) * stride + left + turned(x, across);
        f32::from(frame[at]) / 255.0
    };
    (0..side)
        .flat_map(|y| (0..side).map(move |x| (y, x)))
        .map(|(y, x)| sample(y, x))
        .collect()
}

/// The network: luma in, what is to be added to the bicubically upscaled input out.
struct Net {
    vars: Vars,
    remembers: bool,
}

/// The frame before, and the features that are kept of it.
type Memory = (Tensor, Tensor);

impl Net {
    fn new(remembers: bool) -> Result<Self> {
        let file = Checkpoint::open(Path::new(WEIGHTS))?;
        let floats = file.floats().into_iter();
        let own = floats.filter(|(name, _)| !name.starts_with("int8."));
        let mut vars = own
            .map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)))
            .collect::<Result<Vars>>()?;
        if remembers {
            let zeros =
                |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
            for (name, shape) in [
                ("history", vec![WIDTH, 1 + KEPT, 3, 3]),
                ("gate.slope", vec![1, WIDTH, 1, 1]),
                ("gate.offset", vec![1, WIDTH, 1, 1]),
            ] {
                vars.insert(name.to_owned(), Var::from_tensor(&zeros(&shape)?)?);
            }
        }
        Ok(Self { vars, remembers })
    }

    fn var(&self, name: &str) -> Result<Tensor> {
        let var = self.vars.get(name).with_context(|| format!("no {name}"))?;
        Ok(var.as_tensor().clone())
    }

    fn conv(&self, name: &str, activation: Activation) -> Result<Conv> {
        Ok(Conv {
            weight: self.var(&format!("{name}.weight"))?,
            bias: Some(self.var(&format!("{name}.bias"))?),
            spec: ConvSpec {
                activation,
                ..ConvSpec::default()
            },
        })
    }

    /// What is added to a frame, and the features behind it.
    fn forward(&self, low: &Tensor, memory: Option<&Memory>) -> Result<(Tensor, Tensor)> {
        let first = self
            .conv("first", Activation::None)?
            .forward(&(low - 0.5)?)?;
        let first = match memory {
            Some(memory) if self.remembers => (first + self.recalled(low, memory)?)?,
            _ => first,
        };
        let body = (0..DEPTH).map(|i| self.conv(&format!("body.{i}"), Activation::Relu));
        let body = body.collect::<Result<Vec<_>>>()?;
        let features = Conv::forward_all(&body, &first.relu()?)?;
        let head = self.conv(&format!("heads.{SCALE}"), Activation::None)?;
        Ok((pixel_shuffle(&head.forward(&features)?, SCALE)?, features))
    }

    /// What the memory adds to the first layer.
    fn recalled(&self, low: &Tensor, (before, kept): &Memory) -> Result<Tensor> {
        let change = (before - low)?;
        let history = Conv {
            weight: self.var("history")?,
            bias: None,
            spec: ConvSpec::default(),
        };
        let recalled = history.forward(&Tensor::cat(&[&change, kept], 1)?)?;
        let (_, _, height, width) = low.dims4()?;
        let moved = change.abs()?.avg_pool2d(BLOCK)?;
        let moved = moved.upsample_nearest2d(height, width)?;
        // In levels of 8 bits.
        let gate = (moved * 255.0)?.broadcast_mul(&self.var("gate.slope")?)?;
        let gate = sigmoid(&gate.broadcast_add(&self.var("gate.offset")?)?)?;
        Ok((recalled * gate)?)
    }

    fn memory(low: &Tensor, features: &Tensor) -> Result<Memory> {
        Ok((low.clone(), features.narrow(1, 0, KEPT)?.contiguous()?))
    }

    /// The loss of a batch of sequences.
    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let output = if self.remembers {
            let (mut outputs, mut memory) = (Vec::new(), None);
            for low in &batch.low {
                let (output, features) = self.forward(low, memory.as_ref())?;
                memory = Some(Self::memory(low, &features)?);
                outputs.push(output);
            }
            Tensor::cat(&outputs, 0)?
        } else {
            self.forward(&Tensor::cat(&batch.low, 0)?, None)?.0
        };
        let base = upscaled(&Tensor::cat(&batch.low, 0)?)?;
        Ok(Loss::Charbonnier.of(&(output + base)?, &Tensor::cat(&batch.high, 0)?)?)
    }
}

/// By bicubic interpolation.
fn upscaled(low: &Tensor) -> Result<Tensor> {
    let (batch, _, height, width) = low.dims4()?;
    let grow = Resampler::resize((width, height), (SCALE * width, SCALE * height));
    let planes = low.reshape((batch, height * width))?.to_vec2::<f32>()?;
    let planes: Vec<f32> = planes.iter().flat_map(|plane| grow.apply(plane)).collect();
    Ok(Tensor::from_vec(
        planes,
        (batch, 1, SCALE * height, SCALE * width),
        &Device::Cpu,
    )?)
}

fn train(real: &[Case], drawn: &[Case], remembers: bool, steps: u64) -> Result<Net> {
    let mut net = Net::new(remembers)?;
    let average: Vars = net
        .vars
        .iter()
        .map(|(name, var)| Ok((name.clone(), Var::from_tensor(&var.as_tensor().copy()?)?)))
        .collect::<Result<_>>()?;
    let settings = Settings {
        betas: [0.9, 0.99],
        ..Settings::default()
    };
    let mut optimizer = Optimizer::new(&net.vars, settings, &BTreeMap::new())?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut sum = 0.0;
    for step in 0..steps {
        let batch = batch(real, drawn, &mut rng)?;
        let loss = net.loss(&batch)?;
        sum += loss.to_scalar::<f32>()?;
        let progress = step as f64 / steps as f64;
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress));
        let lr = 5e-4 * (0.01 + 0.99 * cosine) * ((step + 1) as f64 / 200.0).min(1.0);
        let gradients = loss.backward()?;
        let norm = optimizer.gradient_norm(&gradients)?;
        optimizer.step(&gradients, lr, (0.1 / norm).min(1.0))?;
        let moves = average.iter().map(|(name, var)| {
            let weight = net.vars[name].as_tensor().clone();
            (var.clone(), weight, 1e-3)
        });
        lerp_in_place(0.999, &moves.collect::<Vec<_>>())?;
        if (step + 1) % 1000 == 0 {
            println!(
                "memory {remembers}: step {}: loss {:.5}",
                step + 1,
                sum / 1000.0
            );
            sum = 0.0;
        }
    }
    net.vars = average;
    Ok(net)
}

/// Gain over bicubic interpolation, mean over the frames, in dB; with `forgets` without a memory.
fn gain(net: &Net, case: &Case, input: usize, forgets: bool) -> Result<f64> {
    let low = &case.low[input];
    let (mut sum, mut memory) = (0.0, None);
    for (i, original) in case.high.frames.iter().enumerate() {
        let frame = low.tensor(i)?;
        if forgets && net.remembers {
            // As in the first frame of a stream.
            memory = None;
        }
        let (added, features) = net.forward(&frame, memory.as_ref())?;
        memory = Some(Net::memory(&frame, &features.detach())?);
        let base = upscaled(&frame)?;
        let quality = |image: &Tensor| -> Result<f64> {
            let rounded = (image * 255.0)?.clamp(0.0, 255.0)?.round()?;
            let wide: Vec<f64> = rounded
                .flatten_all()?
                .to_dtype(candle_core::DType::F64)?
                .to_vec1()?;
            let expected: Vec<f64> = original.iter().map(|&v| f64::from(v)).collect();
            let width = image.dim(D::Minus1)?;
            let (a, b) = (
                shave(&wide, width, SCALE).0,
                shave(&expected, width, SCALE).0,
            );
            Ok(psnr(&a, &b).min(100.0))
        };
        sum += quality(&(&base + added)?)? - quality(&base)?;
    }
    Ok(sum / case.high.frames.len() as f64)
}

/// The images and clips of a folder.
fn folder(path: &str) -> Result<Vec<TrainingImage>> {
    let table: toml::Table = [("path".to_owned(), path.into())].into_iter().collect();
    let mut settings = Overrides::default();
    settings
        .set("model", "name", Some("espcn"))
        .set("data", "dirs", Some(vec![table]))
        .set("data", "validation", Some(0))
        .set("train", "scales", Some(vec![2]))
        .set("train", "steps", Some(1));
    let recipe = Recipe::resolve(None, &settings)?;
    Ok(Dataset::load(&recipe, Channels::Luma)?.train)
}

fn main() -> Result<()> {
    gst::init()?;
    let mut args = std::env::args().skip(1);
    let steps = args
        .next()
        .context("usage: several_frames STEPS FOLDER")?
        .parse()?;
    let folder_of_runs = PathBuf::from(args.next().context("usage: several_frames STEPS FOLDER")?);
    std::fs::create_dir_all(&folder_of_runs)?;
    let data = Path::new("../shared/data");
    let at = |name: &str| data.join(name).display().to_string();
    let cases = |images: Vec<(String, Clip)>| -> Result<Vec<Case>> {
        images
            .par_iter()
            .map(|(name, clip)| Case::new(name, clip))
            .collect()
    };
    let clips = folder(&at("train/video"))?;
    let clips = clips.iter().filter(|clip| clip.frames >= FRAMES);
    let real = cases(
        clips
            .map(|clip| (clip.name.clone(), Clip::of(clip)))
            .collect(),
    )?;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let pictures = folder(&at("train/free"))?;
    let moving = pictures.iter().take(240);
    let moving = moving.map(|picture| (picture.name.clone(), in_motion(picture, &mut rng)));
    let drawn = cases(moving.collect())?;
    println!(
        "{} sequences of clips, {} of pictures",
        real.len(),
        drawn.len()
    );
    let tested = folder(&at("video"))?.into_iter().map(|clip| {
        let frames = clip.planes.iter().take(MEASURED).cloned().collect();
        let size = clip.size;
        (clip.name, Clip { size, frames })
    });
    let tested = cases(tested.collect())?;
    let trained = |remembers: bool| -> Result<Net> {
        let file = folder_of_runs.join(format!("memory-{remembers}.safetensors"));
        if file.exists() {
            let tensors = candle_core::safetensors::load(&file, &Device::Cpu)?.into_iter();
            let vars = tensors.map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)));
            let vars = vars.collect::<Result<_>>()?;
            return Ok(Net { vars, remembers });
        }
        let net = train(&real, &drawn, remembers, steps)?;
        let tensors = net
            .vars
            .iter()
            .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        candle_core::safetensors::save(&tensors.collect::<HashMap<_, _>>(), &file)?;
        Ok(net)
    };
    let (single, several) = (trained(false)?, trained(true)?);
    println!(
        "{:32} {:6} {:>8} {:>8} {:>8}",
        "gain over bicubic, dB", "input", "one", "several", "emptied"
    );
    let mut means = [[0.0; 3]; 2];
    for case in &tested {
        for (input, crf) in INPUTS.iter().enumerate() {
            let gains = [
                gain(&single, case, input, false)?,
                gain(&several, case, input, false)?,
                gain(&several, case, input, true)?,
            ];
            let input = crf.map_or("clean".to_owned(), |crf| format!("crf {crf}"));
            let [one, more, emptied] = gains;
            println!(
                "{:32} {input:6} {one:8.3} {more:8.3} {emptied:8.3}",
                case.name
            );
            let (mean, share) = match crf {
                Some(_) => (&mut means[1], 1.0 / (3 * tested.len()) as f64),
                None => (&mut means[0], 1.0 / tested.len() as f64),
            };
            mean.iter_mut()
                .zip(gains)
                .for_each(|(mean, gain)| *mean += share * gain);
        }
    }
    for (name, [one, more, emptied]) in ["clean", "encoded"].iter().zip(means) {
        println!("{:32} {name:6} {one:8.3} {more:8.3} {emptied:8.3}", "mean");
    }
    Ok(())
}
