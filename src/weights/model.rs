//! Models with weights: one or more networks of one family.

use super::checkpoint::read_file;
use super::weak_cache::WeakCache;
use super::{Checkpoint, LoadOverrides, ParsedCheckpoint};
use crate::background::give_way;
use crate::chain::{PackedChain, Precision};
use crate::models::graph::Graph;
use crate::models::hypersrcnn::Embedding;
use crate::models::{
    self, Architecture, BoxedScaleNetwork, BuiltInFile, Channels, CodingDamage, Network, Scales,
    Upsampling,
};
use crate::{Error, Result, Scale};
use candle_core::{DType, Device, DeviceLocation};
use candle_nn::{VarBuilder, VarMap};
use once_cell::sync::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Number of scales whose generated weights are cached.
const CACHED_SCALES: usize = 16;

/// A model with its weights. Cheap to share; networks are cached by scale.
pub struct Model {
    name: String,
    origin: String,
    damage: CodingDamage,
    /// The files' contents, to build the networks on other devices.
    contents: Vec<ParsedCheckpoint>,
    device: Device,
    networks: Vec<Box<dyn Network>>,
    channels: Channels,
    scales: Scales,
    ready: Mutex<HashMap<Scale, Ready>>,
    /// The model on devices other than the CPU.
    copies: Mutex<HashMap<DeviceLocation, Arc<Model>>>,
}

/// A network for one scale, and its weights packed for the fused chain.
#[derive(Clone)]
struct Ready {
    network: Arc<BoxedScaleNetwork>,
    packed: Option<Arc<PackedChain>>,
    /// The same in 8-bit integers, once it was asked for.
    quantized: Arc<OnceCell<Option<Arc<PackedChain>>>>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("scales", &self.scales)
            .finish_non_exhaustive()
    }
}

/// Built-in models in the order of the registry, parsed once per process.
static LOADED: [OnceCell<Arc<Model>>; models::MODELS.len()] =
    [const { OnceCell::new() }; models::MODELS.len()];

/// Models of weights files that are in use.
static FILES: WeakCache<FileKey, Model> = WeakCache::new();

/// What determines the model in a weights file.
#[derive(Debug, PartialEq)]
struct FileKey {
    origin: String,
    model: Option<String>,
    hints: LoadOverrides,
    /// Length and hash of the contents: the file may change on disk.
    contents: (usize, u64),
}

impl FileKey {
    fn new(origin: &str, bytes: &[u8], model: Option<&str>, hints: &LoadOverrides) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        const SLICE: usize = 1 << 20;
        let mut hasher = HASHER.build_hasher();
        for slice in bytes.chunks(SLICE) {
            give_way();
            hasher.write(slice);
        }
        Self {
            origin: origin.to_owned(),
            model: model.map(str::to_owned),
            hints: hints.clone(),
            contents: (bytes.len(), hasher.finish()),
        }
    }
}

impl Model {
    /// A model with its built-in weights.
    ///
    /// # Errors
    ///
    /// An unknown name, a model without built-in weights, or a build without the
    /// feature `builtin-weights`.
    pub fn builtin(name: &str) -> Result<Arc<Self>> {
        let model = models::find(name)?;
        let place = models::MODELS.iter().position(|m| m.name == name);
        let cell = place.and_then(|place| LOADED.get(place));
        let load = || {
            if model.built_in.is_empty() && (model.architecture)().is_some() {
                return Err(Error::NoWeights {
                    model: name.to_owned(),
                });
            }
            let contents = model.built_in.iter().map(built_in_contents);
            let contents = contents.collect::<Result<_>>()?;
            Self::new(name, "built-in", contents, &Device::Cpu).map(Arc::new)
        };
        match cell {
            Some(cell) => cell.get_or_try_init(load).cloned(),
            None => load(),
        }
    }

    /// The model in a weights file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or holds no known network.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>> {
        Self::open_with(path, None, &LoadOverrides::default())
    }

    /// The model in a weights file. With `model`, the file must hold that
    /// model's architecture. Models of equal files at the same path are one, for as
    /// long as one of them is in use: their weights are in memory once.
    ///
    /// # Errors
    ///
    /// A file that holds no known network, or another one than `model`.
    pub fn open_with(
        path: impl AsRef<Path>,
        model: Option<&str>,
        hints: &LoadOverrides,
    ) -> Result<Arc<Self>> {
        let path = path.as_ref();
        let (origin, bytes) = (path.display().to_string(), read_file(path)?);
        FILES.get_or_load(FileKey::new(&origin, &bytes, model, hints), || {
            let checkpoint = Checkpoint::from_bytes_with(&origin, &bytes, hints)?;
            let contents = checkpoint.contents(hints)?;
            let name = match model {
                Some(name) => {
                    expect(&checkpoint, &contents.architecture, name)?;
                    name.to_owned()
                }
                None => name_of(&contents.architecture),
            };
            Self::new(&name, checkpoint.origin(), vec![contents], &Device::Cpu)
        })
    }

    /// A model for one scale with random weights, to measure its speed.
    ///
    /// # Errors
    ///
    /// An unknown name, a model without weights, an unsupported scale.
    pub fn with_random_weights(name: &str, scale: Scale) -> Result<Arc<Self>> {
        let architecture = (models::find(name)?.architecture)()
            .ok_or_else(|| Error::Setting(format!("model {name} has no weights")))?;
        let drawn = VarMap::new();
        let vb = VarBuilder::from_varmap(&drawn, DType::F32, &Device::Cpu);
        let scales = Scales::list([scale]);
        architecture.build(&vb, scales.clone())?;
        let drawn = drawn.data().lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = drawn
            .iter()
            .map(|(name, var)| (name.clone(), var.as_detached_tensor()));
        let contents = ParsedCheckpoint {
            tensors: tensors.collect(),
            architecture,
            scales,
            quantization: Arc::default(),
            int8_loss: None,
            unused: Vec::new(),
        };
        Self::new(name, "untrained", vec![contents], &Device::Cpu).map(Arc::new)
    }

    /// The model selected by the properties or flags `model` and `weights`: the
    /// weights file if set, else the built-in weights of `model`, by default
    /// [`models::DEFAULT`].
    ///
    /// # Errors
    ///
    /// As [`Model::builtin`] and [`Model::open_with`].
    pub fn load(
        model: Option<&str>,
        weights: Option<&Path>,
        hints: &LoadOverrides,
    ) -> Result<Arc<Self>> {
        match weights {
            Some(path) => Self::open_with(path, model, hints),
            None => Self::builtin(model.unwrap_or(models::DEFAULT)),
        }
    }

    /// The model for streams that encoding has damaged: with weights between its own and those
    /// of the model of the same network that is trained on encoded video
    /// ([`models::for_encoded_video`]), at the scales that both have. Models without one, and
    /// weights files, stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Model::builtin`].
    pub fn for_damage(self: &Arc<Self>, damage: CodingDamage) -> Result<Arc<Self>> {
        static BLENDS: WeakCache<(String, CodingDamage), Model> = WeakCache::new();
        let Some(encoded) = self.encoded().filter(|_| damage != self.damage) else {
            return Ok(Arc::clone(self));
        };
        let clean = Self::builtin(&self.name)?;
        if damage == CodingDamage::CLEAN {
            return Ok(clean);
        }
        BLENDS.get_or_load((self.name.clone(), damage), || {
            let blended = clean.contents.iter().map(|own| {
                let other = (encoded.contents.iter()).find(|other| {
                    (&other.architecture, &other.scales) == (&own.architecture, &own.scales)
                });
                match other {
                    Some(other) if damage == CodingDamage::MOST => Ok(other.clone()),
                    Some(other) => own.blended(other, damage.value() as f32),
                    None => Ok(own.clone()),
                }
            });
            let contents = blended.collect::<Result<_>>()?;
            Ok(Self {
                damage,
                ..Self::new(&self.name, "built-in", contents, &Device::Cpu)?
            })
        })
    }

    /// The same model with its weights on a device.
    ///
    /// # Errors
    ///
    /// The device is out of memory.
    pub(crate) fn to_device(self: &Arc<Self>, device: &Device) -> Result<Arc<Self>> {
        if device.is_cpu() {
            return Ok(Arc::clone(self));
        }
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = copies.get(&device.location()) {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(Self {
            damage: self.damage,
            ..Self::new(&self.name, &self.origin, self.contents.clone(), device)?
        });
        copies.insert(device.location(), Arc::clone(&model));
        Ok(model)
    }

    fn new(
        name: &str,
        origin: &str,
        contents: Vec<ParsedCheckpoint>,
        device: &Device,
    ) -> Result<Self> {
        let networks = contents.iter().map(|c| c.build(origin, device));
        let networks = networks.collect::<Result<Vec<_>>>()?;
        let channels = networks.first().map_or(Channels::Luma, |n| n.channels());
        if networks.iter().any(|n| n.channels() != channels) {
            return Err(Error::weights(
                origin,
                "its files mix luma and RGB networks",
            ));
        }
        let scales = if networks.iter().any(|n| *n.scales() == Scales::Any) {
            Scales::Any
        } else {
            Scales::list(networks.iter().flat_map(|n| match n.scales() {
                Scales::List(scales) => scales.clone(),
                Scales::Any => Vec::new(),
            }))
        };
        if let Scales::List(list) = &scales
            && list.iter().any(|&scale| scale < Scale::ONE)
        {
            let problem = format!("expected weights for scales of at least 1, found {scales}");
            return Err(Error::weights(origin, problem));
        }
        Ok(Self {
            name: name.to_owned(),
            origin: origin.to_owned(),
            damage: CodingDamage::CLEAN,
            contents,
            device: device.clone(),
            networks,
            channels,
            scales,
            ready: Mutex::default(),
            copies: Mutex::default(),
        })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weights file, or `built-in`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The damage that its weights are for ([`Model::for_damage`]).
    pub fn damage(&self) -> CodingDamage {
        self.damage
    }

    /// Whether [`Model::for_damage`] has other weights for encoded video at a scale.
    pub fn adapts_to_damage(self: &Arc<Self>, scale: Scale) -> bool {
        self.encoded().is_some_and(|encoded| {
            let both = |native: &Scale| encoded.scales.nearest(*native) == Some(*native);
            self.cascade(scale).iter().any(both)
        })
    }

    /// The model for encoded video of a built-in one.
    fn encoded(self: &Arc<Self>) -> Option<Arc<Self>> {
        let encoded = models::for_encoded_video(&self.name)?;
        let own = || Self::builtin(&self.name).is_ok_and(|own| Arc::ptr_eq(&own, self));
        let is_built_in = self.damage != CodingDamage::CLEAN || own();
        Self::builtin(encoded).ok().filter(|_| is_built_in)
    }

    /// The planes of its networks' input and output.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// The scales that it has weights for; empty for `bicubic`.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// The scales of the networks to run in sequence for `target`: one if a
    /// native scale reaches it, else the two with the smallest sufficient
    /// product, else the largest first. If their product exceeds `target`, the
    /// output is to be downscaled. If none of them enlarges, the network for
    /// scale 1, if there is one.
    pub fn cascade(&self, target: Scale) -> Vec<Scale> {
        let mut stages = Vec::new();
        let mut reached = Scale::ONE;
        while reached < target {
            // The remaining factor, or the largest one on overflow.
            let left = Scale::new(target.num(), target.den())
                .ok()
                .and_then(|t| t.checked_mul(Scale::new(reached.den(), reached.num()).ok()?))
                .unwrap_or(Scale::MAX);
            let pair = self.pair(left);
            let Some(native) = pair.or_else(|| self.scales.nearest(left)) else {
                break;
            };
            let Some(product) = reached.checked_mul(native) else {
                break;
            };
            if product <= reached {
                break;
            }
            stages.push(native);
            reached = product;
        }
        if stages.is_empty() && self.restores() {
            stages.push(Scale::ONE);
        }
        stages
    }

    /// Whether it has a network for scale 1, which frames that keep their size
    /// go through.
    pub fn restores(&self) -> bool {
        matches!(&self.scales, Scales::List(list) if list.contains(&Scale::ONE))
    }

    /// The first of the two native scales with the smallest product of at least
    /// `left`; `None` if one alone reaches it.
    fn pair(&self, left: Scale) -> Option<Scale> {
        let Scales::List(list) = &self.scales else {
            return None;
        };
        if list.iter().any(|&scale| scale >= left) {
            return None;
        }
        let pairs = list.iter().enumerate().flat_map(|(i, &first)| {
            let product = move |&second: &Scale| Some((first.checked_mul(second)?, first));
            list[..=i].iter().filter_map(product)
        });
        let enough = pairs.filter(|&(product, _)| product >= left);
        let best = enough.min_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        best.map(|(_, first)| first)
    }

    /// The network for one native scale.
    ///
    /// # Errors
    ///
    /// A scale without weights.
    #[doc(hidden)]
    pub fn for_scale(&self, scale: Scale) -> Result<Arc<BoxedScaleNetwork>> {
        Ok(self.ready(scale)?.network)
    }

    /// The network for one native scale as a graph in ONNX, on images (N, C, H, W) of any
    /// size of values 0 to 1, in f32; bicubic enlargement is part of it. Its metadata name
    /// model, scale and planes, and the range of luma.
    ///
    /// # Errors
    ///
    /// A scale without weights or that is not whole, a network that is neither a chain of
    /// convolutions nor a graph, a build without the feature `onnx`.
    pub fn to_onnx(&self, scale: Scale) -> Result<Vec<u8>> {
        let network = self.for_scale(scale)?;
        let chain = network.chain().map_err(Error::compute)?;
        let built = match (&chain, scale.den()) {
            (Some(chain), 1) => {
                let enlarged = match network.upsampling() {
                    Upsampling::Pre => scale.num() as usize,
                    Upsampling::Post(_) => 1,
                };
                Some(Graph::of_chain(chain, self.channels, enlarged)?)
            }
            _ => None,
        };
        let Some(graph) = built.as_ref().or_else(|| network.as_any()?.downcast_ref()) else {
            return Err(Error::Setting(format!(
                "{} x{scale} cannot be exported to ONNX: only chains of convolutions and graphs \
                 are, at whole scales",
                self.name
            )));
        };
        let mut metadata = vec![
            ("model", self.name.clone()),
            ("scale", scale.to_string()),
            ("channels", self.channels.to_string()),
        ];
        if self.channels == Channels::Luma {
            let full = graph.description().0.full_range;
            metadata.push(("range", if full { "full" } else { "limited" }.to_owned()));
        }
        encode(graph, &metadata)
    }

    /// The weights for one native scale: those of the file that holds it or, of a
    /// hypernetwork, those that it generates.
    ///
    /// # Errors
    ///
    /// A scale without weights.
    pub fn weights_for(&self, scale: Scale) -> Result<ParsedCheckpoint> {
        let (network, contents) = self.holding(scale)?;
        let generated = contents.architecture.generated_architecture();
        let (Some(hyper), Some(architecture)) = (network.as_hypernetwork(), generated) else {
            return Ok(contents.clone());
        };
        Ok(ParsedCheckpoint {
            architecture,
            scales: Scales::list([scale]),
            tensors: hyper.generate_weights(scale)?.into_iter().collect(),
            quantization: Arc::default(),
            int8_loss: None,
            unused: Vec::new(),
        })
    }

    /// The network packed for the fused chain, if it can run there.
    ///
    /// # Errors
    ///
    /// As [`Model::for_scale`].
    #[doc(hidden)]
    pub fn packed(&self, scale: Scale) -> Result<Option<Arc<PackedChain>>> {
        Ok(self.ready(scale)?.packed)
    }

    /// The network in 8-bit integers, packed for the fused chain; `None` if the weights
    /// file has no such weights for the scale.
    ///
    /// # Errors
    ///
    /// As [`Model::for_scale`], weights that do not fit the network.
    #[doc(hidden)]
    pub fn quantized(&self, scale: Scale) -> Result<Option<Arc<PackedChain>>> {
        let quantization = &self.holding(scale)?.1.quantization;
        if quantization.is_empty() || !self.device.is_cpu() {
            return Ok(None);
        }
        let ready = self.ready(scale)?;
        let packed = ready.quantized.get_or_try_init(|| {
            let chain = ready.network.chain().map_err(Error::compute)?;
            let packed = match chain {
                Some(chain) => PackedChain::quantized(&chain, quantization)?,
                None => None,
            };
            Ok::<_, Error>(packed.map(Arc::new))
        })?;
        Ok(packed.clone())
    }

    /// The largest loss of PSNR in dB that the files state for 8-bit integers; `None` if
    /// one of them has no such weights, or states none.
    pub fn int8_loss(&self) -> Option<f64> {
        let losses = self.contents.iter().map(|contents| {
            let is_quantized = !contents.quantization.is_empty();
            contents.int8_loss.filter(|_| is_quantized)
        });
        losses
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .reduce(f64::max)
    }

    /// The precision of the CPU for a requested one.
    ///
    /// # Errors
    ///
    /// 8-bit integers of a model without weights for them.
    pub(crate) fn cpu_precision(&self, requested: Precision) -> Result<Precision> {
        let has_all = !self.contents.is_empty()
            && (self.contents.iter()).all(|contents| !contents.quantization.is_empty());
        match requested {
            Precision::Int8 if has_all => Ok(Precision::Int8),
            Precision::Int8 => Err(Error::Setting(format!(
                "{} ({}) has no weights in 8-bit integers: use precision=f32, or add them by \
                 sr quantize",
                self.name, self.origin
            ))),
            Precision::Auto => Ok(match self.int8_loss() {
                Some(loss) if loss <= Precision::AUTO_LOSS => Precision::Int8,
                _ => Precision::F32,
            }),
            _ => Ok(Precision::F32),
        }
    }

    /// The first file that holds a scale, and its network.
    fn holding(&self, scale: Scale) -> Result<(&dyn Network, &ParsedCheckpoint)> {
        let mut files = self.networks.iter().zip(&self.contents);
        let file = files.find(|(network, _)| network.scales().nearest(scale) == Some(scale));
        let (network, contents) = file.ok_or_else(|| {
            let (name, scales) = (&self.name, &self.scales);
            Error::Setting(format!("{name} has weights for {scales}, not for {scale}"))
        })?;
        Ok((network.as_ref(), contents))
    }

    fn ready(&self, scale: Scale) -> Result<Ready> {
        let lock = || self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = lock().get(&scale) {
            return Ok(ready.clone());
        }
        // Unlocked: another thread may need another scale meanwhile.
        let network = self.holding(scale)?.0.for_scale(scale)?;
        // The packed chain is only for the CPU.
        let chain = match self.device.is_cpu() {
            true => network.chain().map_err(Error::compute)?,
            false => None,
        };
        let packed = match chain {
            Some(chain) => PackedChain::of_chain(&chain)?,
            None => None,
        };
        let entry = Ready {
            packed: packed.map(Arc::new),
            quantized: Arc::default(),
            network: Arc::new(network),
        };
        let mut ready = lock();
        if ready.len() >= CACHED_SCALES {
            ready.clear();
        }
        // The first one, if two threads have built it.
        Ok(ready.entry(scale).or_insert(entry).clone())
    }
}

/// Parses a built-in weights file.
fn built_in_contents(file: &BuiltInFile) -> Result<ParsedCheckpoint> {
    let bytes = file.bytes.ok_or_else(|| Error::MissingFeature {
        needed_for: format!("built-in {}", file.path),
        feature: "builtin-weights",
    })?;
    let checkpoint = Checkpoint::from_bytes(&format!("built-in {}", file.path), bytes)?;
    checkpoint.contents(&LoadOverrides::default())
}

/// Checks that a file's architecture is the one of the named model.
fn expect(checkpoint: &Checkpoint, found: &Architecture, name: &str) -> Result<()> {
    let model = models::find(name)?;
    let Some(expected) = (model.architecture)() else {
        let problem = format!("model {name} has no network to load weights into");
        return Err(Error::weights(checkpoint.origin(), problem));
    };
    // The published hypernetwork is built in as its generated SRCNNs.
    let family = |a: &Architecture| (a.name(), a.channels());
    let generated = matches!(&expected, Architecture::HyperSrcnn(config)
        if matches!(config.embedding, Embedding::Table(_))
            && family(found) == ("srcnn", config.target.channels));
    if family(found) == family(&expected) || generated {
        return Ok(());
    }
    let problem = format!(
        "expected weights of {name} ({} {}), found {} {}",
        expected.channels(),
        expected.name(),
        found.channels(),
        found.name()
    );
    Err(Error::weights(checkpoint.origin(), problem))
}

/// The name of the model with an equal architecture, else of the first model
/// with the same kind of network.
#[cfg(feature = "onnx")]
fn encode(graph: &Graph, metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let (config, weights) = graph.description();
    super::onnx::write(config, weights, metadata)
        .map_err(|e| Error::Setting(format!("cannot be exported to ONNX: {e}")))
}

#[cfg(not(feature = "onnx"))]
fn encode(_: &Graph, _: &[(&str, String)]) -> Result<Vec<u8>> {
    Err(Error::MissingFeature {
        needed_for: "a graph in ONNX".to_owned(),
        feature: "onnx",
    })
}

fn name_of(architecture: &Architecture) -> String {
    let find = |same: fn(&Architecture, &Architecture) -> bool| {
        let is_it = |row: &&models::ModelInfo| {
            (row.architecture)().is_some_and(|known| same(&known, architecture))
        };
        models::MODELS.iter().find(is_it)
    };
    let row = find(|a, b| a == b)
        .or_else(|| find(|a, b| (a.name(), a.channels()) == (b.name(), b.channels())));
    row.map_or(architecture.name(), |model| model.name)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cascades_have_the_smallest_sufficient_product() {
        let stages = |native: &[u32], target: &str| -> Vec<String> {
            let loaded = Model {
                scales: Scales::list(native.iter().copied().map(Scale::whole)),
                ..Model::new("none", "test", Vec::new(), &Device::Cpu).unwrap()
            };
            let stages = loaded.cascade(target.parse().unwrap());
            stages.iter().map(Scale::to_string).collect()
        };
        assert_eq!(stages(&[2, 3, 4, 8], "9"), ["3", "3"]);
        assert_eq!(stages(&[2, 3, 4, 5, 6, 7, 8], "9"), ["3", "3"]);
        assert_eq!(stages(&[2, 4, 8], "16"), ["8", "2"]);
        assert_eq!(stages(&[2, 4, 8], "9"), ["8", "2"]);
        assert_eq!(stages(&[2, 3], "5"), ["3", "2"]);
        assert_eq!(stages(&[2, 3], "16"), ["3", "3", "2"]);
        assert_eq!(stages(&[2, 3], "5/2"), ["3"]);
        assert_eq!(stages(&[2], "16"), ["2", "2", "2", "2"]);
        assert_eq!(stages(&[], "2"), [""; 0]);
        assert_eq!(stages(&[2], "1"), [""; 0]);
        for target in ["1", "2", "3/2"] {
            assert_eq!(stages(&[1], target), ["1"]);
        }
        assert_eq!(stages(&[1, 2], "1"), ["1"]);
        assert_eq!(stages(&[1, 2], "3"), ["2", "2"]);
    }

    #[test]
    fn the_first_file_that_holds_a_scale_counts() {
        let drawn = |scale: u32| {
            let model = Model::with_random_weights("espcn-fast", Scale::whole(scale)).unwrap();
            model.contents[0].clone()
        };
        let [first, second, other] = [2, 2, 3].map(drawn);
        let first_layer = |contents: &ParsedCheckpoint| -> Vec<f32> {
            let weights = &contents.tensors["first.weight"];
            weights.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_ne!(first_layer(&first), first_layer(&second));
        let files = vec![first.clone(), second, other.clone()];
        let model = Model::new("espcn-fast", "test", files, &Device::Cpu).unwrap();
        assert_eq!(model.scales().to_string(), "2, 3");
        for (scale, expected) in [(2, &first), (3, &other)] {
            let held = model.weights_for(Scale::whole(scale)).unwrap();
            assert_eq!(first_layer(&held), first_layer(expected));
        }
        assert!(model.weights_for(Scale::whole(4)).is_err());
    }
}
