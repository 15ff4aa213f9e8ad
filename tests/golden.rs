//! Golden vectors: outputs of public reference implementations to reproduce
//! (`tests/golden/README.md`). Every file must be checked, here or in
//! [`TRAIN_TESTS`].

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::chain::{Chain, Epilogue};
use srfilter::frame::resample::{Resampler, pillow};
use srfilter::frame::{Image, Ycbcr256, to_u8};
use srfilter::metrics;
use srfilter::models::{
    Architecture, Network, ScaleNetwork, Scales, drct, hdsrnet, hypersrcnn, lapan,
};
use srfilter::ops::Border;
use srfilter::weights::{Checkpoint, LoadOverrides};
use std::path::Path;
use testing::golden::{self, Golden};

/// Uses and compares all tensors of a file.
type Check = fn(&Golden) -> Result<()>;

/// The files that are checked here.
const CHECKS: &[(&str, Check)] = &[
    ("srcnn_rgb", |g| network(g, Border::Zero)),
    ("srcnn_y", |g| network(g, Border::Zero)),
    ("srcnn_y_ling_padded", |g| network(g, Border::Zero)),
    ("srcnn_y_ling_valid", |g| network(g, Border::Valid)),
    ("hypersrcnn", hypernetwork),
    ("srresnet_x2", srresnet),
    ("srresnet_x4", srresnet),
    ("srresnet_9x9_x4", srresnet),
    ("srgan_generator_x4", srresnet),
    ("srgan_generator_9x9_x4", srresnet),
    ("hdsrnet_x2", hdsr),
    ("hdsrnet_x3", hdsr),
    ("hdsrnet_x4", hdsr),
    ("lapan12_x2", lapan12),
    ("drct_small_x2", dense_transformer),
    ("drct_small_x3", dense_transformer),
    ("drct_small_x4", dense_transformer),
    ("drct_x4", dense_transformer),
    ("rrdbnet_old_x4", named),
    ("rrdbnet_plus_x2", named),
    ("rrdbnet_luma_x8", named),
    ("rrdbnet_x4", named),
    ("rrdbnet_bsrgan_x4", named),
    ("rrdbnet_x2", named),
    ("rrdbnet_x1", named),
    ("span_x4", named),
    ("span_no_norm_x2", named),
    ("spanplus_x3", named),
    ("realplksr_x4", named),
    ("realplksr_layer_x2", named),
    ("realplksr_x1", named),
    ("plksr_x2", named),
    ("plksr_dccm_x3", named),
    ("edsr_x4", named),
    ("edsr_x3", named),
    ("edsr_large_x2", named),
    ("edsr_basicsr_x2", named),
    ("carn_x3", named),
    ("carn_x4", named),
    ("artcnn_x2", named),
    ("artcnn_x4", named),
    ("image_pillow_bicubic", pillow_bicubic),
    ("image_matlab_bicubic", matlab_bicubic),
    ("image_metrics", image_metrics),
];

/// The test that checks training steps, and the files that it checks.
const TRAIN_TESTS: &str = "train/tests/golden.rs";
const CHECKED_BY_TRAIN_TESTS: [&str; 13] = [
    "train_srcnn_y",
    "train_hypersrcnn",
    "train_srresnet_x4",
    "train_hdsrnet_x2",
    "train_drct_small_x2",
    "train_lapan12",
    "lapan12_dssim",
    "srgan_discriminator",
    "srgan_discriminator_9x9",
    "srgan_losses",
    "real_drct_losses",
    "vgg19_54",
    "unet_discriminator_sn",
];

#[test]
fn golden_files_agree() {
    let present = golden::files();
    let (mut files, mut tensors, mut problems) = (0, 0, Vec::new());
    for (name, check) in CHECKS {
        if !present.contains(*name) {
            continue;
        }
        let result = Golden::open(name).and_then(|golden| {
            check(&golden)?;
            golden.finish()
        });
        match result {
            Ok(checked) => {
                println!("{name}: {checked} tensors agree");
                files += 1;
                tensors += checked;
            }
            Err(problem) => problems.push(format!("{name}: {problem:#}")),
        }
    }
    println!(
        "{files} golden files with {tensors} tensors checked in {}",
        golden::folder().display()
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(
        files > 0,
        "no golden file was checked in {}",
        golden::folder().display()
    );
}

/// The same with chains of convolutions also on a GPU.
#[cfg(feature = "cuda")]
#[test]
fn golden_files_agree_on_a_gpu() {
    testing::emulated::run("golden_files_agree", &[]);
}

#[test]
fn golden_files_are_all_checked() {
    let checked = |name: &str| {
        CHECKED_BY_TRAIN_TESTS.contains(&name) || CHECKS.iter().any(|(here, _)| *here == name)
    };
    let forgotten: Vec<String> = (golden::files().into_iter())
        .filter(|name| !checked(name))
        .collect();
    assert!(forgotten.is_empty(), "nothing checks {forgotten:?}");
}

#[test]
fn golden_training_is_checked_elsewhere() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAIN_TESTS);
    assert!(path.is_file(), "{TRAIN_TESTS} is missing");
}

/// An 8-bit image, (height, width, channels).
fn image(golden: &Golden, tensor: &str) -> Result<Image> {
    let (shape, values) = golden.get(tensor)?;
    let &[height, width, channels] = shape.as_slice() else {
        bail!("{tensor} is no image: {shape:?}");
    };
    Ok(Image {
        width,
        height,
        channels,
        data: values.iter().map(|&v| v as u8).collect(),
    })
}

fn check_image(golden: &Golden, tensor: &str, got: &Image) -> Result<()> {
    let values: Vec<f64> = got.data.iter().map(|&v| f64::from(v)).collect();
    golden.check(tensor, &values)
}

/// The network of a file's parameters, loaded like any published file.
fn published(golden: &Golden, hints: &LoadOverrides) -> Result<(Architecture, Box<dyn Network>)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("published.safetensors");
    candle_core::safetensors::save(&golden.state_dict()?, &path)?;
    Ok(Checkpoint::open(&path)?.network(hints)?)
}

/// A published network with one output per scale, `output_xS`, or one, `output`; chains
/// also on a GPU.
fn network(golden: &Golden, border: Border) -> Result<()> {
    let hints = LoadOverrides::default().with_border(border);
    let (_, network) = published(golden, &hints)?;
    outputs(golden, network.as_ref(), gpu::check)
}

/// Compares the outputs; `check` gets the network for each scale, its input and output.
fn outputs(
    golden: &Golden,
    network: &dyn Network,
    check: impl Fn(&str, &dyn ScaleNetwork, &Tensor, &Tensor) -> Result<()>,
) -> Result<()> {
    let input = golden.tensor("input")?;
    for name in golden.names() {
        let scale = match name.split_once("_x") {
            Some(("output", scale)) => scale.parse()?,
            _ if name == "output" => Scale::whole(2),
            _ => continue,
        };
        let network = network.for_scale(scale)?;
        let output = network.forward(&input)?;
        ensure!(output.dims() == golden.get(name)?.0, "{name}: {output:?}");
        golden.check(name, &values(&output)?)?;
        check(name, network.as_ref(), &input, &output)?;
    }
    Ok(())
}

/// A published network that is recognised by its file alone, with its name.
fn named(golden: &Golden) -> Result<()> {
    let (architecture, file) = published(golden, &LoadOverrides::default())?;
    let name = architecture.name();
    ensure!(golden.name().contains(name), "it is taken for {name}");
    let Scales::List(scales) = file.scales() else {
        bail!("its scales are not known");
    };
    let is_chain = file.for_scale(scales[0])?.chain()?.is_some();
    ensure!(
        is_chain == matches!(name, "edsr" | "artcnn"),
        "a chain: {is_chain}"
    );
    outputs(golden, file.as_ref(), |_, _, _, _| Ok(()))
}

/// The same on a GPU, in every precision, if this process uses one.
#[cfg(feature = "cuda")]
mod gpu {
    use super::*;
    use srfilter::engine::{CudaChainExecutor, DeviceChoice, Precision};

    /// Allowed difference from the CPU: one 8-bit step in f16 and tf32, four in
    /// bf16, whose 8 bits of precision the large hidden values of these networks
    /// use up.
    fn tolerance(precision: Precision) -> f32 {
        match precision {
            Precision::F32 => 1e-4,
            Precision::Bf16 => 4.0 / 255.0,
            _ => 1.0 / 255.0,
        }
    }

    pub(super) fn check(
        name: &str,
        network: &dyn ScaleNetwork,
        x: &Tensor,
        expected: &Tensor,
    ) -> Result<()> {
        if std::env::var_os(testing::emulated::CHILD).is_none() {
            return Ok(());
        }
        let (batch, _, height, width) = x.dims4()?;
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let device = DeviceChoice::Cuda(0).resolve()?;
            let device = device.candle_device();
            let chain = network.chain()?.context("no chain")?;
            let plan = CudaChainExecutor::new(&chain, (width, height), device, precision, 0)?;
            let mut plan = plan.context("no chain that the GPU covers")?;
            let mut error = 0f32;
            for image in 0..batch {
                let planes = x.get(image)?.flatten_from(1)?.to_vec2::<f32>()?;
                let planes: Vec<_> = planes.iter().map(Vec::as_slice).collect();
                let expected = expected.get(image)?;
                let (_, tall, wide) = expected.dims3()?;
                let expected = expected.flatten_all()?.to_vec1::<f32>()?;
                // The output of a network without padding is the centre of the
                // GPU's output, which has replicated borders.
                let factor = network.upsampling().factor();
                let size = (width * factor, height * factor);
                let (left, top) = ((size.0 - wide) / 2, (size.1 - tall) / 2);
                let output = plan.run(&planes)?;
                let rows = output
                    .iter()
                    .flat_map(|plane| plane.chunks_exact(size.0).skip(top).take(tall));
                let output: Vec<f32> = rows
                    .flat_map(|row| &row[left..left + wide])
                    .copied()
                    .collect();
                ensure!(
                    output.len() == expected.len(),
                    "{name}: {} samples",
                    output.len()
                );
                for (value, expected) in output.iter().zip(&expected) {
                    error = error.max((value - expected.clamp(0.0, 1.0)).abs());
                }
            }
            println!("{name} on the GPU, {precision}: error at most {error:.2e}");
            ensure!(
                error <= tolerance(precision),
                "{name} {precision}: error {error}"
            );
        }
        Ok(())
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use super::*;

    pub(super) fn check(_: &str, _: &dyn ScaleNetwork, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }
}

fn hypernetwork(golden: &Golden) -> Result<()> {
    network(golden, Border::Zero)?;
    let vb = candle_nn::VarBuilder::from_tensors(
        golden.state_dict()?,
        candle_core::DType::F32,
        &Device::Cpu,
    );
    let hypernetwork = hypersrcnn::HyperSrcnn::new(&vb, &hypersrcnn::Config::seed())?;
    for name in golden.names() {
        let Some(rest) = name.strip_prefix("generated_x") else {
            continue;
        };
        let (scale, rest) = rest.split_once('.').context("no scale")?;
        let (tensor, what) = rest.rsplit_once('.').context("no statistic")?;
        let tensors = hypernetwork.generate(scale.parse()?)?.tensors();
        let found = tensors.iter().find(|(name, _)| name == tensor);
        let found = values(&found.with_context(|| format!("no {tensor}"))?.1)?;
        match what {
            "stats" => golden.check(name, &statistics(&found))?,
            _ => golden.check(name, &found[..found.len().min(8)])?,
        }
    }
    Ok(())
}

/// Mean and standard deviation of R, G and B by which SRResNets normalise.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// The image that a normalised tensor is of.
fn denormalised(x: &Tensor) -> Result<Tensor> {
    let [mean, spread] = IMAGENET;
    let plane = |values: [f32; 3]| Tensor::new(&values, &Device::Cpu)?.reshape((1, 3, 1, 1));
    Ok(x.broadcast_mul(&plane(spread)?)?
        .broadcast_add(&plane(mean)?)?)
}

/// The only scale of a network.
fn scale_of(network: &dyn Network) -> Result<Scale> {
    match network.scales() {
        Scales::List(list) if list.len() == 1 => Ok(list[0]),
        scales => bail!("expected one scale, found {scales}"),
    }
}

/// SRResNet or the generator of SRGAN. The vectors are outputs, from -1 to 1, for
/// normalised images.
fn srresnet(golden: &Golden) -> Result<()> {
    let (architecture, network) = published(golden, &LoadOverrides::default())?;
    let scale = scale_of(network.as_ref())?;
    let centered = |y: Tensor| -> Result<Tensor> { Ok(((y * 2.0)? - 1.0)?) };
    let x = denormalised(&golden.tensor("input")?)?;
    let network = network.for_scale(scale)?;
    let chain = network.chain()?.context("no chain")?;
    let output = chain.forward(&x)?;
    gpu::check("output", network.as_ref(), &x, &output)?;
    golden.check_tensor("output", &centered(output)?)?;
    let begin = |links: usize| Chain {
        layers: chain.layers[..links].to_vec(),
        epilogue: Epilogue::default(),
        ..chain.clone()
    };
    let third = 1 + chain
        .layers
        .iter()
        .rposition(|link| link.skip.is_some())
        .context("no skip")?;
    for (name, links) in [
        ("mid.first_block", 1),
        ("mid.residual_blocks", third - 1),
        ("mid.third_block", third),
    ] {
        if golden.contains(name) {
            let mut begin = begin(links);
            if let Some(last) = begin.layers.last_mut().filter(|_| links == third) {
                last.skip = None;
            }
            golden.check_tensor(name, &begin.forward(&x)?.narrow(1, 0, 4)?)?;
        }
    }
    if !golden.contains("train_output") {
        return Ok(());
    }
    let vars = candle_nn::VarMap::new();
    for (name, tensor) in golden.state_dict()? {
        let var = candle_core::Var::from_tensor(&tensor)?;
        vars.data().lock().unwrap().insert(name, var);
    }
    let vb = candle_nn::VarBuilder::from_varmap(&vars, candle_core::DType::F32, &Device::Cpu);
    let network = architecture.build(&vb, Scales::list([scale]))?;
    let x = denormalised(&golden.input("input", &[2, 3, 6, 7])?)?;
    let y = network.training_network(scale)?.forward(&x)?;
    golden.check_tensor("train_output", &centered(y)?)?;
    for name in golden.names() {
        if let Some(parameter) = name.strip_prefix("train.") {
            let vars = vars.data().lock().unwrap();
            golden.check_tensor(name, vars[parameter].as_tensor())?;
        }
    }
    Ok(())
}

/// The weights of a file, for a network of a specific type.
fn weights(golden: &Golden) -> Result<candle_nn::VarBuilder<'static>> {
    let (tensors, f32) = (golden.state_dict()?, candle_core::DType::F32);
    Ok(candle_nn::VarBuilder::from_tensors(
        tensors,
        f32,
        &Device::Cpu,
    ))
}

/// Converts the error of a comparison to candle's.
fn shown(result: Result<()>) -> candle_core::Result<()> {
    result.map_err(|e| candle_core::Error::Msg(format!("{e:#}")))
}

/// HDSRNet, whose vectors range from 0 to 255.
fn hdsr(golden: &Golden) -> Result<()> {
    let (architecture, network) = published(golden, &LoadOverrides::default())?;
    let Architecture::HdsrNet(config) = architecture else {
        bail!("found {architecture:?}");
    };
    let scale = scale_of(network.as_ref())?;
    let x = (golden.tensor("input")? / 255.0)?;
    let output = (network.for_scale(scale)?.forward(&x)? * 255.0)?;
    golden.check_tensor("output", &output)?;
    if golden.contains("output_batch") {
        let x = golden.input("input", &[2, 3, 10, 9])?;
        let output = (network.for_scale(scale)?.forward(&x)? * 255.0)?;
        golden.check_tensor("output_batch", &output)?;
    }
    let network = hdsrnet::HdsrNet::new(&weights(golden)?, &config, network.scales())?;
    network.trace(&x, |name, tensor| {
        let name = format!("mid.{name}");
        if !golden.contains(&name) {
            return Ok(());
        }
        let part = if tensor.rank() == 4 {
            &tensor.narrow(1, 0, 4)?
        } else {
            tensor
        };
        shown(golden.check_tensor(&name, part))
    })?;
    Ok(())
}

/// Every `step`-th slice of a dimension.
fn every(tensor: &Tensor, dim: usize, step: usize) -> candle_core::Result<Tensor> {
    let indices = (0..tensor.dim(dim)? as u32).step_by(step);
    let indices = Tensor::from_iter(indices, &Device::Cpu)?;
    tensor.contiguous()?.index_select(&indices, dim)
}

fn lapan12(golden: &Golden) -> Result<()> {
    let (architecture, network) = published(golden, &LoadOverrides::default())?;
    let Architecture::Lapan(config) = architecture else {
        bail!("found {architecture:?}");
    };
    let ready = network.for_scale(scale_of(network.as_ref())?)?;
    let x = golden.tensor("input")?;
    golden.check_tensor("output", &ready.forward(&x)?)?;
    let odd = golden.input("input", &[1, 3, 13, 10])?;
    golden.check_tensor("output_odd", &ready.forward(&odd)?)?;
    lapan::Lapan::new(&weights(golden)?, &config)?.trace(&x, |name, tensor| {
        let step = match name {
            "compressed_2x" => 1,
            "compressed_4x" => 2,
            _ => 4,
        };
        let part = every(&every(&tensor.narrow(1, 0, 2)?, 2, step)?, 3, step)?;
        shown(golden.check_tensor(&format!("mid.{name}"), &part))
    })?;
    Ok(())
}

/// DRCT, small or not.
fn dense_transformer(golden: &Golden) -> Result<()> {
    let (architecture, network) = published(golden, &LoadOverrides::default())?;
    let Architecture::Drct(config) = architecture else {
        bail!("found {architecture:?}");
    };
    let ready = network.for_scale(scale_of(network.as_ref())?)?;
    let factor = ready.upsampling().factor();
    let x = golden.tensor("input")?;
    golden.check_tensor("output", &ready.forward(&x)?)?;
    for (name, size) in [
        ("output_padded", (17, 19)),
        ("output_16x16", (16, 16)),
        ("output_64_slice", (64, 64)),
        ("output_tiled", (24, 32)),
    ] {
        if !golden.contains(name) {
            continue;
        }
        let x = golden.input("input", &[1, 3, size.0, size.1])?;
        let y = match name {
            "output_tiled" => averaged_tiles(&x, (16, 8), factor, |x| ready.forward(x))?,
            "output_64_slice" => every(&every(&ready.forward(&x)?, 2, 3)?, 3, 3)?,
            _ => ready.forward(&x)?,
        };
        golden.check_tensor(name, &y)?;
    }
    // The stored tokens (every `step`-th one) and their number of channels.
    let (step, channels) = if golden.name() == "drct_x4" {
        (16, 16)
    } else {
        (7, 8)
    };
    let network = drct::Drct::new(&weights(golden)?, &config, network.scales())?;
    network.trace(&x, |name, tensor| {
        let name = format!("mid.{name}");
        if !golden.contains(&name) {
            return Ok(());
        }
        let part = match name.as_str() {
            "mid.body" => tensor.narrow(1, 0, 4)?,
            _ => every(&tensor.flatten(1, 2)?.narrow(2, 0, channels)?, 1, step)?,
        };
        shown(golden.check_tensor(&name, &part))
    })?;
    Ok(())
}

/// A network's output for overlapping tiles, averaged where they overlap.
fn averaged_tiles(
    x: &Tensor,
    (tile, overlap): (usize, usize),
    factor: usize,
    network: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    let (_, planes, height, width) = x.dims4()?;
    let starts = |len: usize| {
        let mut starts: Vec<usize> = (0..len - tile).step_by(tile - overlap).collect();
        starts.push(len - tile);
        starts
    };
    let shape = (1, planes, height * factor, width * factor);
    let mut sums = [
        Tensor::zeros(shape, x.dtype(), x.device())?,
        Tensor::zeros(shape, x.dtype(), x.device())?,
    ];
    for top in starts(height) {
        for left in starts(width) {
            let output = network(&x.narrow(2, top, tile)?.narrow(3, left, tile)?)?;
            let place = |tensor: &Tensor| {
                let after = |start: usize, len: usize| (len - start - tile) * factor;
                tensor
                    .pad_with_zeros(2, top * factor, after(top, height))?
                    .pad_with_zeros(3, left * factor, after(left, width))
            };
            sums[0] = (&sums[0] + place(&output)?)?;
            sums[1] = (&sums[1] + place(&output.ones_like()?)?)?;
        }
    }
    let [sum, count] = sums;
    Ok((sum / count)?)
}

/// Sum, sum of absolute values, sum of squares.
fn statistics(values: &[f64]) -> [f64; 3] {
    let sum = |f: fn(f64) -> f64| values.iter().map(|&v| f(v)).sum();
    [sum(|v| v), sum(f64::abs), sum(|v| v * v)]
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// The operation of a name such as `odd_down_up3`.
struct Step {
    source: &'static str,
    operation: String,
    scale: usize,
}

impl Step {
    /// `None` for sources.
    fn parse(name: &str) -> Option<Self> {
        let name = name.strip_suffix("_u8").unwrap_or(name);
        let (odd, rest) = match name.strip_prefix("odd_") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let operation = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        let source = match (odd, operation) {
            (true, _) => "rgb8_odd",
            (false, "up") => "rgb8_small",
            (false, "down" | "down_up") => "rgb8",
            _ => return None,
        };
        Some(Self {
            source,
            operation: operation.to_owned(),
            scale: rest[operation.len()..].parse().ok()?,
        })
    }
}

fn pillow_bicubic(golden: &Golden) -> Result<()> {
    for name in golden.names() {
        let Some(step) = Step::parse(name) else {
            continue;
        };
        let source = image(golden, step.source)?;
        let (width, height, scale) = (source.width, source.height, step.scale);
        let down = |source: &Image| pillow(source, width / scale, height / scale);
        let result = match step.operation.as_str() {
            "down" => down(&source),
            "up" => pillow(&source, width * scale, height * scale),
            _ => pillow(&down(&source), width, height),
        };
        check_image(golden, name, &result)?;
    }
    Ok(())
}

fn matlab_bicubic(golden: &Golden) -> Result<()> {
    for name in golden.names() {
        let Some(step) = Step::parse(name) else {
            continue;
        };
        let source = image(golden, step.source)?;
        let (size, scale) = ((source.width, source.height), step.scale);
        let small = (size.0.div_ceil(scale), size.1.div_ceil(scale));
        let resize = |samples: &[f64], from, to| channelwise(samples, source.channels, from, to);
        let samples: Vec<f64> = source.data.iter().map(|&v| f64::from(v)).collect();
        let result = match step.operation.as_str() {
            "down" => resize(&samples, size, small),
            "up" => resize(&samples, size, (size.0 * scale, size.1 * scale)),
            _ => rounded(&resize(
                &rounded(&resize(&samples, size, small)),
                small,
                size,
            )),
        };
        golden.check(name, &result)?;
    }
    Ok(())
}

/// Resamples every channel of packed samples.
fn channelwise(
    samples: &[f64],
    channels: usize,
    from: (usize, usize),
    to: (usize, usize),
) -> Vec<f64> {
    let resampler = Resampler::resize(from, to);
    let mut out = vec![0.0; to.0 * to.1 * channels];
    for channel in 0..channels {
        let plane: Vec<f64> = samples
            .iter()
            .skip(channel)
            .step_by(channels)
            .copied()
            .collect();
        let targets = out.iter_mut().skip(channel).step_by(channels);
        targets
            .zip(resampler.apply(&plane))
            .for_each(|(t, v)| *t = v);
    }
    out
}

fn rounded(samples: &[f64]) -> Vec<f64> {
    samples
        .iter()
        .map(|&v| f64::from(to_u8(v as f32)))
        .collect()
}

fn image_metrics(golden: &Golden) -> Result<()> {
    let (a, b) = (image(golden, "a")?, image(golden, "b")?);
    golden.check("y_float_a", &a.luma())?;
    golden.check("y_u8_a", &rounded(&a.luma()))?;
    let pixels = a.data.as_chunks::<3>().0.iter();
    let ycbcr: Vec<[f64; 3]> = pixels.map(|rgb| Ycbcr256::of(rgb.map(f64::from))).collect();
    golden.check("ycbcr_yjn_a", ycbcr.as_flattened())?;
    let back: Vec<[f64; 3]> = ycbcr.iter().map(|&ycc| Ycbcr256::rgb(ycc)).collect();
    golden.check("rgb_from_ycbcr_yjn_a", back.as_flattened())?;
    for name in golden.names() {
        let (measure, border) = match name.split_once("_shave") {
            Some((measure, border)) => (measure, border.parse()?),
            None => (name, 0),
        };
        let (left, width) = metrics::shave(&a.luma(), a.width, border);
        let (right, _) = metrics::shave(&b.luma(), b.width, border);
        let value = match measure {
            "psnr_y" => Some(metrics::psnr(&left, &right)),
            "ssim_y" => metrics::ssim(&left, &right, width),
            "psnr_rgb" => Some(metrics::psnr(
                &channels(&a).concat(),
                &channels(&b).concat(),
            )),
            "ssim_rgb_skimage" => mean_ssim(&a, &b, metrics::ssim_uniform),
            "ssim_rgb_gaussian_reflect" => mean_ssim(&a, &b, metrics::ssim_reflect),
            "ssim_rgb_gaussian_valid" => mean_ssim(&a, &b, metrics::ssim),
            _ => continue,
        };
        golden.check(name, &[value.context("too small")?])?;
    }
    Ok(())
}

/// SSIM as the mean of the channels'.
fn mean_ssim(a: &Image, b: &Image, ssim: fn(&[f64], &[f64], usize) -> Option<f64>) -> Option<f64> {
    let pairs = channels(a).into_iter().zip(channels(b));
    let values: Option<Vec<f64>> = pairs.map(|(l, r)| ssim(&l, &r, a.width)).collect();
    Some(values?.iter().sum::<f64>() / a.channels as f64)
}

fn channels(image: &Image) -> Vec<Vec<f64>> {
    let channel = |i| image.data.iter().skip(i).step_by(image.channels);
    (0..image.channels)
        .map(|i| channel(i).map(|&v| f64::from(v)).collect())
        .collect()
}
