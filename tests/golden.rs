//! Golden vectors: numbers of the public reference implementations that ours
//! must reproduce. They lie in the folder `$SRFILTER_GOLDEN`, by default
//! `../shared/golden` beside this workspace; its README.md says how they were
//! made. A file there must be checked, here or in [`TRAIN_TESTS`], or be on
//! the list of what is not built yet, `tests/golden_pending.txt`.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

#[cfg(feature = "cuda")]
mod emulated;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::chain::Chain;
use srfilter::frame::resample::{Resampler, pillow};
use srfilter::frame::{Image, Ycbcr256, to_u8};
use srfilter::metrics;
use srfilter::models::{Architecture, Network, Scales, drct, hdsrnet, hypersrcnn, lapan};
use srfilter::ops::Border;
use srfilter::weights::{Checkpoint, LoadOverrides};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

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

/// The files, and `file:tensor`s, that wait for an issue, which stands after the name.
const PENDING: &str = include_str!("golden_pending.txt");

fn pending() -> BTreeMap<&'static str, &'static str> {
    let lines = PENDING.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| line.split_once(char::is_whitespace).unwrap_or((line, "")))
        .map(|(name, issue)| (name, issue.trim()))
        .collect()
}

/// The folder, or `None` where it is nowhere and nobody asked for it.
fn folder() -> Option<PathBuf> {
    if let Some(asked) = std::env::var_os("SRFILTER_GOLDEN") {
        let asked = Path::new(env!("CARGO_MANIFEST_DIR")).join(asked);
        assert!(
            asked.is_dir(),
            "SRFILTER_GOLDEN={}: no such folder",
            asked.display()
        );
        return Some(asked);
    }
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden");
    if default.is_dir() {
        return Some(default);
    }
    println!("skipped: there is no {}", default.display());
    None
}

/// The names of the safetensors files in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(".safetensors")?.to_owned()))
        .collect()
}

#[test]
fn golden_files_agree() {
    let Some(folder) = folder() else { return };
    let present = names(&folder);
    let (mut files, mut tensors, mut problems) = (0, 0, Vec::new());
    for (name, check) in CHECKS {
        if !present.contains(*name) {
            continue;
        }
        let result = Golden::open(&folder, name).and_then(|golden| {
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
        folder.display()
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(
        files > 0,
        "no golden file was checked in {}",
        folder.display()
    );
}

/// Once more with the networks that are chains on a GPU as well.
#[cfg(feature = "cuda")]
#[test]
fn golden_files_agree_on_a_gpu() {
    if folder().is_some() {
        emulated::run("golden_files_agree", &[]);
    }
}

#[test]
fn golden_files_are_all_checked_or_pending() {
    let Some(folder) = folder() else { return };
    let pending = pending();
    let here: BTreeSet<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    let forgotten: Vec<String> = names(&folder)
        .into_iter()
        .filter(|name| {
            let name = name.as_str();
            !here.contains(name)
                && !CHECKED_BY_TRAIN_TESTS.contains(&name)
                && !pending.contains_key(name)
        })
        .collect();
    assert!(
        forgotten.is_empty(),
        "neither checked nor pending: {forgotten:?}"
    );
}

#[test]
fn golden_pending_list_is_current() {
    let checked = CHECKS.iter().map(|(name, _)| *name);
    let pending = pending();
    for name in checked.chain(CHECKED_BY_TRAIN_TESTS) {
        assert!(
            !pending.contains_key(name),
            "{name} is checked, not pending"
        );
    }
    for (name, issue) in pending {
        assert!(!issue.is_empty(), "{name}: which issue builds it?");
    }
}

#[test]
fn golden_training_is_checked_elsewhere() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TRAIN_TESTS);
    assert!(path.is_file(), "{TRAIN_TESTS} is missing");
}

/// The check values of the README's formula.
#[test]
fn golden_formula() {
    assert_eq!(fnv("input"), 0x1ebb_ae8f_5810_b65b);
    let first = |name| -> Vec<u64> { Stream::new(name, 1).take(4).collect() };
    assert_eq!(first("input"), [8708054, 14366586, 8688622, 3482263]);
    assert_eq!(first("conv1.weight"), [100035, 12445152, 11858133, 9334849]);
}

/// A tensor that is a little off, or not compared at all, is noticed.
#[test]
fn golden_checks_can_fail() {
    let golden = |values: Vec<f64>| Golden {
        name: "sample".to_owned(),
        folder: PathBuf::new(),
        tensors: HashMap::from([("t".to_owned(), (vec![values.len()], values))]),
        tolerances: HashMap::from([("t".to_owned(), 0.01)]),
        seen: RefCell::default(),
        seed: Cell::default(),
    };
    let sample = golden(vec![1.0, 2.0]);
    assert!(sample.finish().is_err());
    assert!(sample.check("t", &[1.0, 2.02]).is_err());
    assert!(sample.check("t", &[1.0]).is_err());
    assert!(sample.check("t", &[1.0, f64::NAN]).is_err());
    assert!(sample.check("t", &[1.0, 2.005]).is_ok());
    assert_eq!(sample.finish().unwrap(), 1);
}

/// The vectors of one file.
struct Golden {
    name: String,
    folder: PathBuf,
    /// Shape and values, whatever the type in the file.
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
    /// Absolute difference that is allowed, by tensor.
    tolerances: HashMap<String, f64>,
    /// The tensors that were read or compared.
    seen: RefCell<BTreeSet<String>>,
    /// The seed, once parameters have told it.
    seed: Cell<Option<u64>>,
}

impl Golden {
    fn open(folder: &Path, name: &str) -> Result<Self> {
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors")))?;
        let file = safetensors::SafeTensors::deserialize(&bytes)?;
        let mut tensors = HashMap::new();
        for (tensor, view) in file.iter() {
            let values = match view.dtype() {
                safetensors::Dtype::U8 => view.data().iter().map(|&v| f64::from(v)).collect(),
                safetensors::Dtype::F32 => {
                    let (words, _) = view.data().as_chunks();
                    words
                        .iter()
                        .map(|&w| f64::from(f32::from_le_bytes(w)))
                        .collect()
                }
                other => bail!("{tensor} is of type {other:?}"),
            };
            tensors.insert(tensor.to_owned(), (view.shape().to_vec(), values));
        }
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            tensors,
            tolerances: tolerances(folder, name)?,
            seen: RefCell::default(),
            seed: Cell::default(),
        })
    }

    /// The tensors' names, sorted.
    fn names(&self) -> BTreeSet<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn get(&self, tensor: &str) -> Result<&(Vec<usize>, Vec<f64>)> {
        let found = self.tensors.get(tensor);
        self.seen.borrow_mut().insert(tensor.to_owned());
        found.with_context(|| format!("there is no tensor {tensor}"))
    }

    fn tensor(&self, tensor: &str) -> Result<Tensor> {
        let (shape, values) = self.get(tensor)?;
        let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        Ok(Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)
    }

    /// An 8-bit image, (height, width, channels).
    fn picture(&self, tensor: &str) -> Result<Image> {
        let (shape, values) = self.get(tensor)?;
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

    /// Compares every element, within the tensor's tolerance.
    fn check(&self, tensor: &str, got: &[f64]) -> Result<()> {
        let (shape, expected) = self.get(tensor)?;
        let tolerance = *self
            .tolerances
            .get(tensor)
            .with_context(|| format!("no tolerance for {tensor}"))?;
        ensure!(
            got.len() == expected.len(),
            "{tensor} {shape:?}: {} values instead of {}",
            got.len(),
            expected.len()
        );
        let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f64::max);
        if std::env::var_os("SRFILTER_GOLDEN_ERRORS").is_some() {
            println!(
                "{}:{tensor}: off by {off:.1e} of {tolerance:.0e}",
                self.name
            );
        }
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let difference = (got - expected).abs();
            ensure!(
                difference <= tolerance,
                "{tensor}[{i}] is {got} instead of {expected}: off by {difference:e}, \
                 allowed {tolerance:e}"
            );
        }
        Ok(())
    }

    fn check_picture(&self, tensor: &str, got: &Image) -> Result<()> {
        let values: Vec<f64> = got.data.iter().map(|&v| f64::from(v)).collect();
        self.check(tensor, &values)
    }

    /// The number of tensors that were used.
    ///
    /// # Errors
    ///
    /// A tensor that was not, and is not pending either.
    fn finish(&self) -> Result<usize> {
        let pending = pending();
        let seen = self.seen.borrow();
        for tensor in self.names() {
            let name = format!("{}:{tensor}", self.name);
            let waits = pending.contains_key(name.as_str());
            ensure!(
                seen.contains(tensor) != waits,
                "{tensor} is {}",
                if waits {
                    "pending, but checked"
                } else {
                    "not checked"
                }
            );
        }
        Ok(seen.len())
    }

    /// The parameters of `NAME.params.txt`, made by the formula.
    fn parameters(&self) -> Result<HashMap<String, Tensor>> {
        let text = std::fs::read_to_string(self.folder.join(format!("{}.params.txt", self.name)))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries: Vec<Parameter> = lines.map(Parameter::parse).collect::<Result<_>>()?;
        let seed = seed(&entries)?;
        self.seed.set(Some(seed));
        entries
            .iter()
            .map(|entry| Ok((entry.name.clone(), entry.make(seed)?)))
            .collect()
    }

    /// The network of these parameters, which take the way of any file that
    /// somebody else wrote.
    fn published(&self, hints: &LoadOverrides) -> Result<(Architecture, Box<dyn Network>)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("published.safetensors");
        candle_core::safetensors::save(&self.parameters()?, &path)?;
        Ok(Checkpoint::open(&path)?.network(hints)?)
    }

    /// Data that is not stored but made by the formula, values 0 to 1. Only
    /// after [`Golden::parameters`], which tell the seed.
    fn made(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let seed = self.seed.get().context("no parameters yet")?;
        let count = shape.iter().product();
        let values = Stream::new(name, seed).take(count);
        let values: Vec<f32> = values.map(|x| x as f32 / (1u32 << 24) as f32).collect();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// Compares a tensor with the one of that name, of the same shape.
    fn check_tensor(&self, name: &str, got: &Tensor) -> Result<()> {
        let (shape, _) = self.get(name)?;
        ensure!(got.dims() == shape, "{name} {shape:?}: {:?}", got.dims());
        self.check(name, &values(got)?)
    }
}

fn tolerances(folder: &Path, name: &str) -> Result<HashMap<String, f64>> {
    let text = std::fs::read_to_string(folder.join("tolerances.txt"))?;
    let mut tolerances = HashMap::new();
    for line in text.lines() {
        if let [file, tensor, _, _, atol, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
            && file == name
        {
            tolerances.insert(tensor.to_owned(), atol.parse()?);
        }
    }
    Ok(tolerances)
}

/// A line of a `params.txt`.
struct Parameter {
    name: String,
    shape: Vec<usize>,
    offset: f64,
    amplitude: f64,
    sum: f64,
}

impl Parameter {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[name, shape, kind, offset, amplitude, sum] = fields.as_slice() else {
            bail!("expected name, shape, kind, offset, amplitude and sum, found: {line}");
        };
        let sizes = shape.split('x').filter(|&size| size != "scalar");
        // Coded values are no weights: the networks know them, or need none.
        let number = |text: &str| match kind {
            "coded" => Ok(0.0),
            _ => text.parse(),
        };
        Ok(Self {
            name: name.to_owned(),
            shape: sizes.map(str::parse).collect::<Result<_, _>>()?,
            offset: number(offset)?,
            amplitude: number(amplitude)?,
            sum: number(sum)?,
        })
    }

    fn values(&self, seed: u64) -> Vec<f32> {
        let count = self.shape.iter().product();
        Stream::new(&self.name, seed)
            .take(count)
            .map(|x| {
                let u = x as f64 / f64::from(1u32 << 24);
                (self.offset + self.amplitude * (2.0 * u - 1.0)) as f32
            })
            .collect()
    }

    /// Whether these values have the sum that the file gives.
    fn matches(&self, values: &[f32]) -> bool {
        let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
        (sum - self.sum).abs() <= 1e-9 * (1.0 + values.len() as f64 * self.amplitude)
    }

    fn make(&self, seed: u64) -> Result<Tensor> {
        let values = self.values(seed);
        ensure!(
            self.matches(&values),
            "{}: the sum is not {}",
            self.name,
            self.sum
        );
        Ok(Tensor::from_vec(
            values,
            self.shape.as_slice(),
            &Device::Cpu,
        )?)
    }
}

/// The seed of a set of vectors, told by the sum of its shortest parameter.
fn seed(entries: &[Parameter]) -> Result<u64> {
    let short = entries.iter().filter(|e| e.amplitude > 0.0);
    let short = short.min_by_key(|e| e.shape.iter().product::<usize>());
    let short = short.context("there are no parameters")?;
    (0..1 << 16)
        .find(|&seed| short.matches(&short.values(seed)))
        .with_context(|| format!("no seed gives {} the sum {}", short.name, short.sum))
}

/// The README's generator: integers below 2^24.
struct Stream(u64);

impl Stream {
    fn new(name: &str, seed: u64) -> Self {
        Self(fnv(name) ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

impl Iterator for Stream {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some((z ^ (z >> 31)) >> 40)
    }
}

fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A published network with one output per scale, `output_xS`, or one, `output`;
/// its weights take the way of any file that somebody else wrote.
fn network(golden: &Golden, border: Border) -> Result<()> {
    let hints = LoadOverrides {
        border: Some(border),
        scales: None,
    };
    let (_, network) = golden.published(&hints)?;
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
        gpu::check(name, network.as_ref(), &input, &output)?;
    }
    Ok(())
}

/// The same on a GPU, in every precision, where this process is to use one.
#[cfg(feature = "cuda")]
mod gpu {
    use super::*;
    use srfilter::engine::{CudaChainExecutor, DeviceChoice, Precision, UpscaleOptions};
    use srfilter::models::ScaleNetwork;

    /// How far a result may be from the CPU's: of the range in f32, of a step
    /// of 8 bits in f16, of four in bf16, whose 8 bits these networks, with
    /// their large values between layers, use up.
    fn most(precision: Precision) -> f32 {
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
        if std::env::var_os(super::emulated::INSIDE).is_none() {
            return Ok(());
        }
        let (batch, _, height, width) = x.dims4()?;
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let options = UpscaleOptions {
                device: DeviceChoice::Cuda(0),
                precision,
                ..UpscaleOptions::default()
            };
            let plan = CudaChainExecutor::new(network, (width, height), &options)?;
            let mut plan = plan.context("no chain that the GPU covers")?;
            let mut apart = 0f32;
            for image in 0..batch {
                let planes = x.get(image)?.flatten_from(1)?.to_vec2::<f32>()?;
                let planes: Vec<_> = planes.iter().map(Vec::as_slice).collect();
                let expected = expected.get(image)?;
                let (_, tall, wide) = expected.dims3()?;
                let expected = expected.flatten_all()?.to_vec1::<f32>()?;
                // A network that eats its border makes the middle of what the
                // GPU makes, where the picture's edge goes on.
                let factor = network.upsampling().factor();
                let whole = (width * factor, height * factor);
                let (left, top) = ((whole.0 - wide) / 2, (whole.1 - tall) / 2);
                let made = plan.run(&planes)?;
                let rows = made
                    .iter()
                    .flat_map(|plane| plane.chunks_exact(whole.0).skip(top).take(tall));
                let made: Vec<f32> = rows
                    .flat_map(|row| &row[left..left + wide])
                    .copied()
                    .collect();
                ensure!(
                    made.len() == expected.len(),
                    "{name}: {} samples",
                    made.len()
                );
                for (made, expected) in made.iter().zip(&expected) {
                    apart = apart.max((made - expected.clamp(0.0, 1.0)).abs());
                }
            }
            println!("{name} on the GPU, {precision}: {apart:.2e} apart at most");
            ensure!(
                apart <= most(precision),
                "{name} {precision}: {apart} apart"
            );
        }
        Ok(())
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use super::*;

    pub(super) fn check(
        _: &str,
        _: &dyn srfilter::models::ScaleNetwork,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<()> {
        Ok(())
    }
}

fn hypernetwork(golden: &Golden) -> Result<()> {
    network(golden, Border::Zero)?;
    let vb = candle_nn::VarBuilder::from_tensors(
        golden.parameters()?,
        candle_core::DType::F32,
        &Device::Cpu,
    );
    let made = hypersrcnn::HyperSrcnn::new(&vb, &hypersrcnn::Config::seed())?;
    for name in golden.names() {
        let Some(rest) = name.strip_prefix("generated_x") else {
            continue;
        };
        let (scale, rest) = rest.split_once('.').context("no scale")?;
        let (tensor, what) = rest.rsplit_once('.').context("no statistic")?;
        let tensors = made.generate(scale.parse()?)?.tensors();
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

/// The picture that a normalised tensor is of.
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

/// SRResNet or the generator of SRGAN. The vectors are of what it makes of
/// normalised pictures, and go from -1 to 1.
fn srresnet(golden: &Golden) -> Result<()> {
    let (architecture, network) = golden.published(&LoadOverrides::default())?;
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
        tanh: false,
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
        if golden.tensors.contains_key(name) {
            let mut begin = begin(links);
            if let Some(last) = begin.layers.last_mut().filter(|_| links == third) {
                last.skip = None;
            }
            golden.check_tensor(name, &begin.forward(&x)?.narrow(1, 0, 4)?)?;
        }
    }
    if !golden.tensors.contains_key("train_output") {
        return Ok(());
    }
    let vars = candle_nn::VarMap::new();
    for (name, tensor) in golden.parameters()? {
        let var = candle_core::Var::from_tensor(&tensor)?;
        vars.data().lock().unwrap().insert(name, var);
    }
    let vb = candle_nn::VarBuilder::from_varmap(&vars, candle_core::DType::F32, &Device::Cpu);
    let network = architecture.build(&vb, Scales::list([scale]))?;
    let x = denormalised(&golden.made("input", &[2, 3, 6, 7])?)?;
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

/// The configuration and the weights of a file, as a network of its own type
/// is built from them.
fn weights(golden: &Golden) -> Result<candle_nn::VarBuilder<'static>> {
    let (tensors, f32) = (golden.parameters()?, candle_core::DType::F32);
    Ok(candle_nn::VarBuilder::from_tensors(
        tensors,
        f32,
        &Device::Cpu,
    ))
}

/// Shows a tensor to a comparison; [`srfilter`] knows only candle's errors.
fn shown(result: Result<()>) -> candle_core::Result<()> {
    result.map_err(|e| candle_core::Error::Msg(format!("{e:#}")))
}

/// HDSRNet, whose vectors go from 0 to 255.
fn hdsr(golden: &Golden) -> Result<()> {
    let (architecture, network) = golden.published(&LoadOverrides::default())?;
    let Architecture::HdsrNet(config) = architecture else {
        bail!("found {architecture:?}");
    };
    let scale = scale_of(network.as_ref())?;
    let x = (golden.tensor("input")? / 255.0)?;
    let output = (network.for_scale(scale)?.forward(&x)? * 255.0)?;
    golden.check_tensor("output", &output)?;
    if golden.tensors.contains_key("output_batch") {
        let x = golden.made("input", &[2, 3, 10, 9])?;
        let output = (network.for_scale(scale)?.forward(&x)? * 255.0)?;
        golden.check_tensor("output_batch", &output)?;
    }
    let network = hdsrnet::HdsrNet::new(&weights(golden)?, &config, network.scales())?;
    network.trace(&x, |name, tensor| {
        let name = format!("mid.{name}");
        if !golden.tensors.contains_key(&name) {
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

/// Every `step`-th of a dimension.
fn every(tensor: &Tensor, dim: usize, step: usize) -> candle_core::Result<Tensor> {
    let indices = (0..tensor.dim(dim)? as u32).step_by(step);
    let indices = Tensor::from_iter(indices, &Device::Cpu)?;
    tensor.contiguous()?.index_select(&indices, dim)
}

fn lapan12(golden: &Golden) -> Result<()> {
    let (architecture, network) = golden.published(&LoadOverrides::default())?;
    let Architecture::Lapan(config) = architecture else {
        bail!("found {architecture:?}");
    };
    let ready = network.for_scale(scale_of(network.as_ref())?)?;
    let x = golden.tensor("input")?;
    golden.check_tensor("output", &ready.forward(&x)?)?;
    let odd = golden.made("input", &[1, 3, 13, 10])?;
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
    let (architecture, network) = golden.published(&LoadOverrides::default())?;
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
        if !golden.tensors.contains_key(name) {
            continue;
        }
        let x = golden.made("input", &[1, 3, size.0, size.1])?;
        let y = match name {
            "output_tiled" => averaged_tiles(&x, (16, 8), factor, |x| ready.forward(x))?,
            "output_64_slice" => every(&every(&ready.forward(&x)?, 2, 3)?, 3, 3)?,
            _ => ready.forward(&x)?,
        };
        golden.check_tensor(name, &y)?;
    }
    // Every how many tokens, and how many channels of them, are stored.
    let (step, channels) = if golden.name == "drct_x4" {
        (16, 16)
    } else {
        (7, 8)
    };
    let network = drct::Drct::new(&weights(golden)?, &config, network.scales())?;
    network.trace(&x, |name, tensor| {
        let name = format!("mid.{name}");
        if !golden.tensors.contains_key(&name) {
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

/// What a network makes of overlapping tiles, averaged where they overlap.
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
            let made = network(&x.narrow(2, top, tile)?.narrow(3, left, tile)?)?;
            let place = |tensor: &Tensor| {
                let after = |start: usize, len: usize| (len - start - tile) * factor;
                tensor
                    .pad_with_zeros(2, top * factor, after(top, height))?
                    .pad_with_zeros(3, left * factor, after(left, width))
            };
            sums[0] = (&sums[0] + place(&made)?)?;
            sums[1] = (&sums[1] + place(&made.ones_like()?)?)?;
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

/// What a name such as `odd_down_up3` asks for.
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
        let source = golden.picture(step.source)?;
        let (width, height, scale) = (source.width, source.height, step.scale);
        let down = |source: &Image| pillow(source, width / scale, height / scale);
        let result = match step.operation.as_str() {
            "down" => down(&source),
            "up" => pillow(&source, width * scale, height * scale),
            _ => pillow(&down(&source), width, height),
        };
        golden.check_picture(name, &result)?;
    }
    Ok(())
}

fn matlab_bicubic(golden: &Golden) -> Result<()> {
    for name in golden.names() {
        let Some(step) = Step::parse(name) else {
            continue;
        };
        let source = golden.picture(step.source)?;
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
    let (a, b) = (golden.picture("a")?, golden.picture("b")?);
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

fn channels(picture: &Image) -> Vec<Vec<f64>> {
    let channel = |i| picture.data.iter().skip(i).step_by(picture.channels);
    (0..picture.channels)
        .map(|i| channel(i).map(|&v| f64::from(v)).collect())
        .collect()
}
