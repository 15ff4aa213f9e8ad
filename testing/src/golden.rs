//! Golden vectors: outputs of public reference implementations to reproduce.
//! `tests/golden/README.md` describes the files; `SRFILTER_GOLDEN` selects
//! another set.

use crate::{GOLDEN_RATIO, SplitMix64, workspace};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// The environment variable with the folder of another set of vectors; relative
/// paths are relative to the workspace.
const FOLDER_VARIABLE: &str = "SRFILTER_GOLDEN";

/// The folder of the vectors.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os(FOLDER_VARIABLE).unwrap_or_else(|| "tests/golden".into());
    let folder = workspace().join(folder);
    assert!(
        folder.is_dir(),
        "{} does not exist: {FOLDER_VARIABLE} names the folder of the golden vectors",
        folder.display()
    );
    folder
}

/// The names of all files with vectors, without extension.
pub fn files() -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(".safetensors")?.to_owned()))
        .collect()
}

/// The vectors of one file.
pub struct Golden {
    name: String,
    seed: u64,
    /// Shape and values, converted from the file's type.
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
    /// Allowed absolute difference by tensor.
    tolerances: HashMap<String, f64>,
    /// The tensors that were read or compared.
    used: RefCell<BTreeSet<String>>,
    /// Factor of the tolerances.
    pub slack: f64,
}

impl Golden {
    /// Reads `NAME.safetensors` and its lines of `tolerances.txt`.
    ///
    /// # Errors
    ///
    /// A file that does not exist or is invalid.
    pub fn open(name: &str) -> Result<Self> {
        let path = folder().join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().as_ref();
        let seed = metadata.and_then(|metadata| metadata.get("seed"));
        let seed = seed.context("the metadata have no seed")?.parse()?;
        let file = safetensors::SafeTensors::deserialize(&bytes)?;
        let tensors = file.iter().map(|(tensor, view)| {
            let values = values(&view).with_context(|| tensor.to_owned())?;
            Ok((tensor.to_owned(), (view.shape().to_vec(), values)))
        });
        Ok(Self {
            name: name.to_owned(),
            seed,
            tensors: tensors.collect::<Result<_>>()?,
            tolerances: tolerances(name)?,
            used: RefCell::default(),
            slack: 1.0,
        })
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> BTreeSet<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    /// Whether the file has this tensor.
    pub fn contains(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    /// Shape and values of a tensor.
    ///
    /// # Errors
    ///
    /// There is no such tensor.
    pub fn get(&self, tensor: &str) -> Result<&(Vec<usize>, Vec<f64>)> {
        let found = self.tensors.get(tensor);
        self.used.borrow_mut().insert(tensor.to_owned());
        found.with_context(|| format!("there is no tensor {tensor}"))
    }

    /// A tensor in f32, on the CPU.
    ///
    /// # Errors
    ///
    /// There is no such tensor.
    pub fn tensor(&self, tensor: &str) -> Result<Tensor> {
        let (shape, values) = self.get(tensor)?;
        let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        Ok(Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)
    }

    /// Compares every element, within the tensor's tolerance.
    ///
    /// # Errors
    ///
    /// The first element that differs by more; a different number of elements;
    /// no such tensor.
    pub fn check(&self, tensor: &str, got: &[f64]) -> Result<()> {
        let (shape, expected) = self.get(tensor)?;
        let tolerance = self.tolerances.get(tensor);
        let tolerance = *tolerance.with_context(|| format!("no tolerance for {tensor}"))?;
        let tolerance = self.slack * tolerance;
        ensure!(
            got.len() == expected.len(),
            "{tensor} {shape:?}: {} values instead of {}",
            got.len(),
            expected.len()
        );
        if std::env::var_os("SRFILTER_GOLDEN_ERRORS").is_some() {
            let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
            let off = off.fold(0.0, f64::max);
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

    /// [`Golden::check`] for f32.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check_f32(&self, tensor: &str, got: &[f32]) -> Result<()> {
        let got: Vec<f64> = got.iter().copied().map(f64::from).collect();
        self.check(tensor, &got)
    }

    /// [`Golden::check`] for a tensor, which must have the same shape.
    ///
    /// # Errors
    ///
    /// As there; another shape.
    pub fn check_tensor(&self, tensor: &str, got: &Tensor) -> Result<()> {
        let (shape, _) = self.get(tensor)?;
        ensure!(got.dims() == shape, "{tensor} {shape:?}: {:?}", got.dims());
        self.check_f32(tensor, &got.flatten_all()?.to_vec1::<f32>()?)
    }

    /// The number of used tensors.
    ///
    /// # Errors
    ///
    /// A tensor that was not used.
    pub fn finish(&self) -> Result<usize> {
        let used = self.used.borrow();
        for tensor in self.names() {
            ensure!(used.contains(tensor), "{tensor} is not checked");
        }
        Ok(used.len())
    }

    /// The parameters in `MODEL.params.txt`, generated with this file's seed,
    /// without those fixed by the architecture (`coded`).
    ///
    /// # Errors
    ///
    /// A file that does not exist; values whose sum differs from the file's.
    pub fn parameters(&self, model: &str) -> Result<HashMap<String, Tensor>> {
        let entries = entries(model)?.into_iter().filter(|entry| !entry.coded);
        entries.map(|entry| entry.generate(self.seed)).collect()
    }

    /// The complete state dict of this file's model: its parameters, and zeros
    /// for those fixed by the architecture.
    ///
    /// # Errors
    ///
    /// As [`Golden::parameters`].
    pub fn state_dict(&self) -> Result<HashMap<String, Tensor>> {
        let entries = entries(&self.name)?.into_iter();
        entries.map(|entry| entry.generate(self.seed)).collect()
    }

    /// Generated data: values from `offset - amplitude` to `offset + amplitude`.
    ///
    /// # Errors
    ///
    /// Those of candle.
    pub fn generate(
        &self,
        name: &str,
        shape: &[usize],
        offset: f64,
        amplitude: f64,
    ) -> Result<Tensor> {
        generate(name, shape, offset, amplitude, self.seed)
    }

    /// A generated input, values in [0, 1).
    ///
    /// # Errors
    ///
    /// Those of candle.
    pub fn input(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.generate(name, shape, 0.5, 0.5)
    }
}

fn values(view: &safetensors::tensor::TensorView) -> Result<Vec<f64>> {
    let float = |word: &[u8; 4]| f64::from(f32::from_le_bytes(*word));
    match view.dtype() {
        safetensors::Dtype::U8 => Ok(view.data().iter().map(|&v| f64::from(v)).collect()),
        safetensors::Dtype::F32 => Ok(view.data().as_chunks().0.iter().map(float).collect()),
        other => bail!("values of type {other:?}"),
    }
}

fn tolerances(name: &str) -> Result<HashMap<String, f64>> {
    let text = std::fs::read_to_string(folder().join("tolerances.txt"))?;
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
struct Entry {
    name: String,
    shape: Vec<usize>,
    /// Whether the architecture fixes the values, which are zero here.
    coded: bool,
    offset: f64,
    amplitude: f64,
    sum: f64,
}

impl Entry {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[name, shape, kind, offset, amplitude, sum] = fields.as_slice() else {
            bail!("expected name, shape, kind, offset, amplitude and sum, found: {line}");
        };
        let sizes = shape.split('x').filter(|&size| size != "scalar");
        let coded = kind == "coded";
        let number = |text: &str| if coded { Ok(0.0) } else { text.parse() };
        Ok(Self {
            name: name.to_owned(),
            shape: sizes.map(str::parse).collect::<Result<_, _>>()?,
            coded,
            offset: number(offset)?,
            amplitude: number(amplitude)?,
            sum: number(sum)?,
        })
    }

    /// Name and values; checks their sum.
    fn generate(self, seed: u64) -> Result<(String, Tensor)> {
        let tensor = generate(&self.name, &self.shape, self.offset, self.amplitude, seed)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let sum: f64 = values.iter().copied().map(f64::from).sum();
        ensure!(
            (sum - self.sum).abs() <= 1e-9 * (1.0 + values.len() as f64 * self.amplitude),
            "{}: the sum is {sum} instead of {}",
            self.name,
            self.sum
        );
        Ok((self.name, tensor))
    }
}

fn entries(model: &str) -> Result<Vec<Entry>> {
    let path = folder().join(format!("{model}.params.txt"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(Entry::parse).collect()
}

fn generate(name: &str, shape: &[usize], offset: f64, amplitude: f64, seed: u64) -> Result<Tensor> {
    let value = |integer| {
        let u = f64::from(integer) / f64::from(1u32 << 24);
        (offset + amplitude * (2.0 * u - 1.0)) as f32
    };
    let values = stream(name, seed).map(value);
    let values: Vec<f32> = values.take(shape.iter().product()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// The generator of data: integers below 2^24.
fn stream(name: &str, seed: u64) -> impl Iterator<Item = u32> {
    let state = fnv(name) ^ seed.wrapping_mul(GOLDEN_RATIO);
    SplitMix64(state).map(|x| (x >> 40) as u32)
}

/// FNV-1a.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of the generator.
    #[test]
    fn golden_formula() {
        assert_eq!(fnv("input"), 0x1ebb_ae8f_5810_b65b);
        let first = |name| -> Vec<u32> { stream(name, 1).take(4).collect() };
        assert_eq!(first("input"), [8708054, 14366586, 8688622, 3482263]);
        assert_eq!(first("conv1.weight"), [100035, 12445152, 11858133, 9334849]);
    }

    /// A tensor that differs slightly, or is not compared, is an error.
    #[test]
    fn golden_checks_can_fail() {
        let sample = Golden {
            name: "sample".to_owned(),
            seed: 1,
            tensors: HashMap::from([("t".to_owned(), (vec![2], vec![1.0, 2.0]))]),
            tolerances: HashMap::from([("t".to_owned(), 0.01)]),
            used: RefCell::default(),
            slack: 1.0,
        };
        assert!(sample.finish().is_err());
        assert!(sample.check("t", &[1.0, 2.02]).is_err());
        assert!(sample.check("t", &[1.0]).is_err());
        assert!(sample.check("t", &[1.0, f64::NAN]).is_err());
        assert!(sample.check("t", &[1.0, 2.005]).is_ok());
        assert_eq!(sample.finish().unwrap(), 1);
    }
}
