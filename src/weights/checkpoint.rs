//! Weights files.

use super::dtype::ValueType;
use super::graph_file::Contents;
use super::ncnn;
#[cfg(feature = "onnx")]
use super::onnx;
#[cfg(feature = "pytorch")]
use super::torch;
use crate::background::give_way;
use crate::chain::quantized::{Quantization, StoredTensor, is_quantized};
use crate::frame::Range;
use crate::models::{Architecture, Network, Scales, Shapes, nearest, under};
use crate::ops::Border;
use crate::{Error, Result, Scale};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Key and value that mark a native file.
const FORMAT: (&str, &str) = ("format", "srfilter");

/// Largest file in bytes; the largest known network has 110 MB.
const MAX_FILE: u64 = 2 << 30;

/// Largest width, depth and kernel size in metadata.
const MAX_SIZE: f64 = 4096.0;

/// Tensors or prefixes that an error lists.
const MAX_LISTED: usize = 6;

/// Characters of metadata that an error quotes.
const MAX_SHOWN: usize = 200;

/// The model card of a native weights file, in its safetensors metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Architecture and configuration.
    pub architecture: Architecture,
    /// The scales that the weights are for.
    pub scales: Scales,
    /// The training set.
    pub training_data: String,
    /// SHA-256 of the recipe that trained them, in hexadecimal.
    pub recipe_sha256: String,
    /// Measured quality, in words.
    pub quality: String,
    /// What PSNR loses in 8-bit integers, in dB on validation images, if the file has
    /// weights for it.
    pub int8_loss: Option<f64>,
}

/// Settings that a file without a card does not determine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOverrides {
    /// Border of the convolutions; by default [`Border::Zero`], or
    /// [`Border::Replicate`] if the file's metadata contains "replicate".
    pub border: Option<Border>,
    /// The scales that the weights are for; by default any.
    pub scales: Option<Vec<Scale>>,
    /// Of a file with several networks, the key of the one to load: of a
    /// dictionary in a PyTorch checkpoint, or the prefix of its tensors' names
    /// without the last dot. By default the averaged weights (EMA), if there are
    /// any, and the generator.
    pub key: Option<String>,
    /// The range of the luma that a graph (ONNX, ncnn) works on; by default what the file's
    /// metadata say under "range" (`full` or `limited`), else limited.
    pub range: Option<Range>,
}

impl LoadOverrides {
    /// These with [`LoadOverrides::border`].
    pub fn with_border(mut self, border: Border) -> Self {
        self.border = Some(border);
        self
    }

    /// These with [`LoadOverrides::scales`].
    pub fn with_scales(mut self, scales: impl IntoIterator<Item = Scale>) -> Self {
        self.scales = Some(scales.into_iter().collect());
        self
    }

    /// These with [`LoadOverrides::key`].
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// These with [`LoadOverrides::range`].
    pub fn with_range(mut self, range: Range) -> Self {
        self.range = Some(range);
        self
    }
}

/// Name, type and shape of a tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name.
    pub name: String,
    /// The type of its values in the file, such as F32.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Whether it is an array of floating-point numbers.
    fn may_be_weights(&self) -> bool {
        let is_float = self.dtype.starts_with('F') || self.dtype == "BF16";
        is_float && !self.shape.is_empty() && !self.shape.contains(&0)
    }
}

/// The contents of a weights file.
#[derive(Debug, Clone)]
pub struct ParsedCheckpoint {
    /// Architecture and configuration.
    pub architecture: Architecture,
    /// The scales that it is for.
    pub scales: Scales,
    /// The weights by their native names.
    pub tensors: HashMap<String, Tensor>,
    /// The layers in 8-bit integers; none: the network runs in floating point.
    pub quantization: Arc<Quantization>,
    /// [`Card::int8_loss`].
    pub int8_loss: Option<f64>,
    /// The file's names of the tensors that do not belong to the network,
    /// sorted.
    pub unused: Vec<String>,
}

impl ParsedCheckpoint {
    /// The network, with its weights on a device. `origin` names the file in
    /// errors.
    ///
    /// # Errors
    ///
    /// Tensors that are missing or have the wrong shape.
    pub(super) fn build(&self, origin: &str, device: &Device) -> Result<Box<dyn Network>> {
        let vb = VarBuilder::from_tensors(self.tensors.clone(), DType::F32, device);
        let network = self.architecture.build(&vb, self.scales.clone());
        network.map_err(|e| {
            let problem = format!(
                "does not hold the expected {}: {}",
                self.architecture.name(),
                first_line(&e.to_string())
            );
            Error::weights(origin, problem)
        })
    }
}

/// The tensors and the metadata of a file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    origin: String,
    format: String,
    /// The keys of the dictionaries that the tensors were in.
    path: Vec<String>,
    listing: Vec<TensorInfo>,
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
    /// The network, if the file describes it.
    graph: Option<Architecture>,
}

impl Checkpoint {
    /// Reads a safetensors file, an ncnn network (`.param` with the `.bin` of the same
    /// name), with the feature `pytorch` a PyTorch checkpoint (`.pth`, `.pt`, `.pkl`) and
    /// with `onnx` a graph (`.onnx`). Never runs code from the file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is of another format, truncated, or holds
    /// values that are not finite.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &LoadOverrides::default())
    }

    /// As [`Checkpoint::open`], with the network that [`LoadOverrides::key`]
    /// names.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`].
    pub fn open_with(path: impl AsRef<Path>, hints: &LoadOverrides) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes_with(&path.display().to_string(), &read_file(path)?, hints)
    }

    /// Reads a file from memory; `origin` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`].
    pub fn from_bytes(origin: &str, bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_with(origin, bytes, &LoadOverrides::default())
    }

    /// As [`Checkpoint::open_with`], from memory; `origin` names the file in errors.
    pub(super) fn from_bytes_with(
        origin: &str,
        bytes: &[u8],
        hints: &LoadOverrides,
    ) -> Result<Self> {
        let mut file = Self {
            origin: origin.to_owned(),
            format: "safetensors".to_owned(),
            path: Vec::new(),
            listing: Vec::new(),
            tensors: HashMap::new(),
            metadata: HashMap::new(),
            graph: None,
        };
        if looks_like_torch(bytes) {
            file.add_torch(bytes, hints.key.as_deref())?;
        } else if looks_like_onnx(bytes) {
            file.add_onnx(bytes)?;
        } else if bytes.starts_with(ncnn::MAGIC) {
            let contents = ncnn::read(bytes).map_err(|e| Error::weights(origin, e))?;
            file.add_graph(contents)?;
        } else {
            file.add_safetensors(bytes)?;
        }
        Ok(file)
    }

    #[cfg(feature = "pytorch")]
    fn add_torch(&mut self, bytes: &[u8], key: Option<&str>) -> Result<()> {
        let contents = torch::read(bytes, key).map_err(|e| Error::weights(&self.origin, e))?;
        (self.format, self.path) = (contents.format, contents.path);
        for (name, dtype, tensor) in contents.tensors {
            self.add(&name, dtype, tensor)?;
        }
        Ok(())
    }

    #[cfg(not(feature = "pytorch"))]
    fn add_torch(&mut self, _: &[u8], _: Option<&str>) -> Result<()> {
        Err(Error::MissingFeature {
            needed_for: format!("{}, a PyTorch checkpoint,", self.origin),
            feature: "pytorch",
        })
    }

    #[cfg(feature = "onnx")]
    fn add_onnx(&mut self, bytes: &[u8]) -> Result<()> {
        let contents = onnx::read(bytes).map_err(|e| Error::weights(&self.origin, e))?;
        self.add_graph(contents)
    }

    fn add_graph(&mut self, contents: Contents) -> Result<()> {
        self.format = contents.format;
        for (name, integers) in &contents.config.integers {
            self.list(name, "I64", integers.shape());
        }
        for (name, dtype, tensor) in contents.tensors {
            self.add(&name, dtype, tensor)?;
        }
        self.graph = Some(Architecture::Graph(contents.config));
        Ok(())
    }

    #[cfg(not(feature = "onnx"))]
    fn add_onnx(&mut self, _: &[u8]) -> Result<()> {
        Err(Error::MissingFeature {
            needed_for: format!("{}, a graph in ONNX,", self.origin),
            feature: "onnx",
        })
    }

    fn add_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let bad = |e: safetensors::SafeTensorError| {
            let problem = format!(
                "expected a safetensors file, a PyTorch checkpoint, a graph in ONNX or the .param of \
                 an ncnn network, found {}: {e}",
                describe(bytes)
            );
            Error::weights(&self.origin, problem)
        };
        let file = SafeTensors::deserialize(bytes).map_err(bad)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        for (name, view) in file.iter() {
            let Some(dtype) = ValueType::of_safetensors(view.dtype()) else {
                self.list(name, &view.dtype().to_string(), view.shape());
                continue;
            };
            let values = dtype.values(view.data());
            let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu);
            let tensor =
                tensor.map_err(|e| Error::weights(&self.origin, format!("{name}: {e}")))?;
            self.add(name, dtype.name(), tensor)?;
        }
        self.metadata = header.metadata().clone().unwrap_or_default();
        Ok(())
    }

    fn add(&mut self, name: &str, dtype: &str, tensor: Tensor) -> Result<()> {
        give_way();
        if !is_finite(&tensor)? {
            let problem = format!("tensor {name} holds values that are not finite (NaN or Inf)");
            return Err(Error::weights(&self.origin, problem));
        }
        self.list(name, dtype, tensor.dims());
        self.tensors.insert(name.to_owned(), tensor);
        Ok(())
    }

    fn list(&mut self, name: &str, dtype: &str, shape: &[usize]) {
        self.listing.push(TensorInfo {
            name: name.to_owned(),
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
        });
    }

    /// The file's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The file's format, and the path of the tensors in it.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// All tensors, in the file's order if it has one.
    pub fn listing(&self) -> &[TensorInfo] {
        &self.listing
    }

    /// The tensors by name, without those of types that weights do not have,
    /// such as complex numbers.
    pub fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }

    /// The tensors of a native file without those of layers in integers.
    pub fn floats(&self) -> HashMap<String, Tensor> {
        let tensors = self.tensors.iter().filter(|(name, _)| !is_quantized(name));
        tensors
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect()
    }

    /// The metadata of the safetensors header.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// The card of a native file; `None` for other files.
    ///
    /// # Errors
    ///
    /// A card with invalid contents.
    pub fn card(&self) -> Result<Option<Card>> {
        if self.metadata.get(FORMAT.0).map(String::as_str) != Some(FORMAT.1) {
            return Ok(None);
        }
        let text = |key: &str| self.metadata.get(key).map(String::as_str).unwrap_or("");
        let architecture = architecture(text("architecture")).map_err(|e| {
            let found: String = text("architecture").chars().take(MAX_SHOWN).collect();
            let problem = format!("unknown architecture in the metadata: {e}; found {found}");
            Error::weights(&self.origin, problem)
        })?;
        Ok(Some(Card {
            architecture,
            scales: self.parse_scales(text("scales"))?,
            training_data: text("training_data").to_owned(),
            recipe_sha256: text("recipe_sha256").to_owned(),
            quality: text("quality").to_owned(),
            int8_loss: text("int8_loss")
                .parse()
                .ok()
                .filter(|loss: &f64| loss.is_finite()),
        }))
    }

    fn parse_scales(&self, text: &str) -> Result<Scales> {
        if text == "any" {
            return Ok(Scales::Any);
        }
        let scales: Result<Vec<Scale>> = text.split(',').map(|s| s.trim().parse()).collect();
        scales.map(Scales::list).map_err(|e| {
            let problem = format!("invalid scales in the metadata: {e}");
            Error::weights(&self.origin, problem)
        })
    }

    /// Builds the file's network.
    ///
    /// # Errors
    ///
    /// Metadata that does not match the tensors, or an unknown architecture.
    pub fn network(&self, hints: &LoadOverrides) -> Result<(Architecture, Box<dyn Network>)> {
        let contents = self.contents(hints)?;
        let network = contents.build(&self.origin, &Device::Cpu)?;
        Ok((contents.architecture, network))
    }

    /// The file's contents, according to its card or detected from its tensors.
    ///
    /// # Errors
    ///
    /// Invalid metadata, or an unknown architecture.
    pub fn contents(&self, hints: &LoadOverrides) -> Result<ParsedCheckpoint> {
        let card = self.card()?;
        let empty = self.listing.iter().find(|t| t.shape.contains(&0));
        if let (Some(_), Some(empty)) = (&card, empty) {
            let problem = format!("tensor {} {:?} is empty", empty.name, empty.shape);
            return Err(Error::weights(&self.origin, problem));
        }
        if let Some(graph) = &self.graph {
            return Ok(self.of_graph(graph, hints));
        }
        match card {
            Some(card) => Ok(ParsedCheckpoint {
                architecture: card.architecture,
                scales: card.scales,
                tensors: self.floats(),
                quantization: Arc::new(Quantization::from_tensors(&self.origin, &self.tensors)?),
                int8_loss: card.int8_loss,
                unused: Vec::new(),
            }),
            None => self.detect(hints),
        }
    }

    /// The contents of a file that describes its network.
    fn of_graph(&self, graph: &Architecture, hints: &LoadOverrides) -> ParsedCheckpoint {
        let mut architecture = graph.clone();
        if let (Architecture::Graph(config), Some(range)) = (&mut architecture, hints.range) {
            config.full_range = range == Range::Full;
        }
        ParsedCheckpoint {
            scales: architecture.scales().unwrap_or(Scales::Any),
            architecture,
            tensors: self.tensors.clone(),
            quantization: Arc::default(),
            int8_loss: None,
            unused: Vec::new(),
        }
    }

    /// Detects the architecture from names and shapes.
    fn detect(&self, hints: &LoadOverrides) -> Result<ParsedCheckpoint> {
        let prefix = self.prefix(hints.key.as_deref())?;
        let selections = self.selections(&prefix);
        let detected = Architecture::detect(&selections).ok_or_else(|| {
            let shapes = &selections[0];
            let nearest = nearest(shapes).unwrap_or("none".to_owned());
            let problem = format!(
                "expected the tensors of a known architecture ({}), found {}. Nearest: {nearest}",
                Architecture::detected().join(", "),
                list(shapes)
            );
            Error::weights(&self.origin, problem)
        })?;
        let mut architecture = detected.config;
        if let Some(border) = architecture.border_mut() {
            *border = hints.border.unwrap_or_else(|| self.noted_border());
        }
        let hinted = hints.scales.iter().flatten();
        let hinted = hints
            .scales
            .is_some()
            .then(|| Scales::list(hinted.copied()));
        let scales = match (detected.scales, hinted) {
            (Some(detected), Some(hinted)) if detected != hinted => {
                let problem = format!("its tensors are for scale {detected}, not for {hinted}");
                return Err(Error::weights(&self.origin, problem));
            }
            (Some(scales), _) | (None, Some(scales)) => scales,
            (None, None) => Scales::Any,
        };
        let (mut tensors, mut used) = (HashMap::new(), HashSet::new());
        for (theirs, ours) in detected.renames {
            let theirs = prefix.clone() + &theirs;
            if let Some(tensor) = self.tensors.get(&theirs) {
                tensors.insert(ours, tensor.clone());
            }
            used.insert(theirs);
        }
        let others = self.listing.iter().map(|tensor| tensor.name.clone());
        let mut unused: Vec<_> = others.filter(|name| !used.contains(name)).collect();
        unused.sort();
        Ok(ParsedCheckpoint {
            architecture,
            scales,
            tensors,
            quantization: Arc::default(),
            int8_loss: None,
            unused,
        })
    }

    /// The prefix of the tensors under `key`: empty if they were under that key
    /// of a dictionary.
    fn prefix(&self, key: Option<&str>) -> Result<String> {
        let Some(key) = key.filter(|key| !self.path.iter().any(|name| name == key)) else {
            return Ok(String::new());
        };
        let prefix = format!("{key}.");
        let names = self.listing.iter().map(|tensor| tensor.name.as_str());
        if names.clone().any(|name| name.starts_with(&prefix)) {
            return Ok(prefix);
        }
        let parts: BTreeSet<&str> = names
            .filter_map(|name| Some(name.split_once('.')?.0))
            .collect();
        let parts: Vec<_> = parts.into_iter().take(MAX_LISTED).collect();
        let problem = format!(
            "it has no network under the key {key}; its tensors ({}) are under {}",
            self.format,
            parts.join(", ")
        );
        Err(Error::weights(&self.origin, problem))
    }

    /// The shapes of the tensors under a prefix: of all that are not empty, without
    /// counters (single values, integers, booleans), and without floats of 8 bits.
    fn selections(&self, prefix: &str) -> [Shapes; 3] {
        let of = |is_of_kind: fn(&TensorInfo) -> bool| {
            let known = self
                .listing
                .iter()
                .filter(|t| self.tensors.contains_key(&t.name));
            let all = known.filter(|tensor| is_of_kind(tensor));
            let shapes = all.map(|tensor| (tensor.name.clone(), tensor.shape.clone()));
            under(&shapes.collect(), prefix)
        };
        [
            of(|tensor| !tensor.shape.contains(&0)),
            of(TensorInfo::may_be_weights),
            of(|tensor| tensor.may_be_weights() && !tensor.dtype.starts_with("F8")),
        ]
    }

    fn noted_border(&self) -> Border {
        let replicate = |note: &String| note.to_lowercase().contains("replicate");
        if self.metadata.values().any(replicate) {
            Border::Replicate
        } else {
            Border::Zero
        }
    }

    /// Writes a native weights file, atomically.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn save(path: impl AsRef<Path>, tensors: &[(String, Tensor)], card: &Card) -> Result<()> {
        Self::save_with(path, tensors, &Quantization::default(), card)
    }

    /// Writes tensors alone, atomically, without a card: as other projects read them.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn save_plain(path: impl AsRef<Path>, tensors: &[(String, Tensor)]) -> Result<()> {
        write_safetensors(path.as_ref(), stored(tensors)?, HashMap::new())
    }

    /// As [`Checkpoint::save`], with layers in 8-bit integers.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::save`].
    pub fn save_with(
        path: impl AsRef<Path>,
        tensors: &[(String, Tensor)],
        quantization: &Quantization,
        card: &Card,
    ) -> Result<()> {
        let scales = match &card.scales {
            Scales::Any => "any".to_owned(),
            listed => listed.to_string(),
        };
        let architecture = serde_json::to_string(&card.architecture)
            .map_err(|e| Error::Setting(format!("cannot describe the architecture: {e}")))?;
        let metadata = [
            (FORMAT.0, FORMAT.1.to_owned()),
            ("architecture", architecture),
            ("channels", card.architecture.channels().to_string()),
            ("scales", scales),
            ("training_data", card.training_data.clone()),
            ("recipe_sha256", card.recipe_sha256.clone()),
            ("quality", card.quality.clone()),
        ];
        let loss = card
            .int8_loss
            .map(|loss| ("int8_loss", format!("{loss:.4}")));
        let metadata = metadata.into_iter().chain(loss);
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
        let mut tensors = stored(tensors)?;
        tensors.extend(quantization.to_tensors());
        write_safetensors(path.as_ref(), tensors, metadata.collect())
    }

    /// Writes a native file again, atomically, with its weights rounded to `f16`, which are half
    /// as large; those in 8-bit integers stay.
    ///
    /// # Errors
    ///
    /// A file without a card, weights beyond the range of `f16`, a file that cannot be written.
    pub fn save_in_f16(&self, path: impl AsRef<Path>) -> Result<()> {
        let Some(card) = self.card()? else {
            let problem = "has no card of srfilter: convert it with sr import first".to_owned();
            return Err(Error::weights(&self.origin, problem));
        };
        let contents = self.contents(&LoadOverrides::default())?;
        let mut tensors = Vec::with_capacity(contents.tensors.len());
        for (name, tensor) in contents.tensors {
            let rounded = tensor.to_dtype(DType::F16).map_err(Error::compute)?;
            if !is_finite(&rounded)? {
                let problem = format!("tensor {name} holds values beyond the range of f16");
                return Err(Error::weights(&self.origin, problem));
            }
            tensors.push((name, rounded));
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Self::save_with(path, &tensors, &contents.quantization, &card)
    }
}

fn stored(tensors: &[(String, Tensor)]) -> Result<Vec<(String, StoredTensor)>> {
    let tensors = tensors.iter().map(|(name, tensor)| {
        let tensor = StoredTensor::of(tensor).map_err(Error::compute)?;
        Ok((name.clone(), tensor))
    });
    tensors.collect()
}

/// Parses the architecture in metadata; refuses implausible sizes.
fn architecture(text: &str) -> serde_json::Result<Architecture> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    if let Some(large) = largest(&value).filter(|&number| number > MAX_SIZE) {
        return Err(serde::de::Error::custom(format!("{large} is too large")));
    }
    serde_json::from_value(value)
}

/// The largest number in some JSON.
fn largest(value: &serde_json::Value) -> Option<f64> {
    let numbers = match value {
        serde_json::Value::Number(number) => return number.as_f64(),
        serde_json::Value::Array(items) => items.iter().filter_map(largest).collect(),
        serde_json::Value::Object(items) => items.values().filter_map(largest).collect(),
        _ => Vec::new(),
    };
    numbers.into_iter().reduce(f64::max)
}

/// The bytes of a weights file, as far as they are needed to tell what it is.
///
/// # Errors
///
/// A file that cannot be read, or is too large.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file if it starts like a weights file, else only its first bytes: it
/// may be a video, or an endless device.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    const HEADER: u64 = 16;
    let mut file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    (&mut file).take(HEADER).read_to_end(&mut bytes)?;
    let header = bytes.first_chunk().map(|n| u64::from_le_bytes(*n));
    let is_ncnn = bytes.starts_with(ncnn::MAGIC);
    let known = looks_like_torch(&bytes) || looks_like_onnx(&bytes) || is_ncnn;
    let fits = known || header.is_some_and(|header| header < metadata.len());
    let network = path.with_extension("param");
    if !known && path.extension().is_some_and(|extension| extension == "bin") && network.is_file() {
        return read(&network);
    }
    if metadata.is_file() && fits {
        read_rest(&mut file, &mut bytes)?;
    }
    if metadata.is_file() && is_ncnn {
        let weights = path.with_extension("bin");
        let named = |e: std::io::Error| {
            std::io::Error::new(e.kind(), format!("its {}: {e}", weights.display()))
        };
        // A text has no zeros.
        bytes.push(0);
        let mut file = std::fs::File::open(&weights).map_err(named)?;
        read_rest(&mut file, &mut bytes).map_err(named)?;
    }
    Ok(bytes)
}

/// Reads what is left of a file, in the background.
fn read_rest(file: &mut std::fs::File, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    const SLICE: u64 = 1 << 20;
    if file.metadata()?.len() > MAX_FILE {
        let problem = format!("the limit for weights files is {} GiB", MAX_FILE >> 30);
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            problem,
        ));
    }
    while file.take(SLICE).read_to_end(bytes)? > 0 {
        give_way();
    }
    Ok(())
}

/// Whether the first bytes are those of a PyTorch checkpoint.
fn looks_like_torch(bytes: &[u8]) -> bool {
    // The length of a safetensors header, whose first bytes may look like a pickle.
    let header = matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..]);
    !header && matches!(bytes, [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..])
}

/// Whether the first bytes are those of a graph in ONNX: the version of the format, a
/// small number, and the tag of the next field.
fn looks_like_onnx(bytes: &[u8]) -> bool {
    let header = matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..]);
    let fields = [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72];
    !header && matches!(bytes, [0x08, 1..=0x1f, tag, ..] if fields.contains(tag))
}

/// Writes a safetensors file, atomically.
fn write_safetensors(
    path: &Path,
    tensors: Vec<(String, StoredTensor)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let file = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|e| Error::weights(&path.display().to_string(), e.to_string()))?;
    crate::atomic_file::write(path, &bytes).map_err(file)
}

fn is_finite(tensor: &Tensor) -> Result<bool> {
    let values = tensor
        .to_dtype(DType::F32)
        .and_then(|t| t.flatten_all()?.to_vec1::<f32>());
    let values = values.map_err(Error::compute)?;
    Ok(values.iter().all(|v| v.is_finite()))
}

/// Describes a file of another format, by its first bytes.
fn describe(bytes: &[u8]) -> String {
    let kind = match bytes {
        [] => return "an empty file".to_owned(),
        [0x89, b'P', b'N', b'G', ..] => "a PNG image",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        _ => "an unknown or truncated file",
    };
    format!("{kind}, {} bytes", bytes.len())
}

/// Lists the first tensors of a file with their shapes.
fn list(shapes: &Shapes) -> String {
    let shown: Vec<_> = shapes
        .iter()
        .take(MAX_LISTED)
        .map(|(name, shape)| format!("{name} {shape:?}"))
        .collect();
    let rest = shapes.len().saturating_sub(MAX_LISTED);
    match (shown.is_empty(), rest) {
        (true, _) => "no tensor".to_owned(),
        (_, 0) => shown.join(", "),
        _ => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// candle appends backtraces to its messages.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

impl Serialize for Scales {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::List(scales) => scales.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Scales {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Word(String),
            List(Vec<Scale>),
        }
        match Form::deserialize(deserializer)? {
            Form::List(scales) => Ok(Self::list(scales)),
            Form::Word(word) if word == "any" => Ok(Self::Any),
            Form::Word(word) => Err(serde::de::Error::custom(format!(
                "expected \"any\" or a list of scales, found \"{word}\""
            ))),
        }
    }
}
