//! The registry of architectures and models. A network is registered only
//! here: one `mod`, one row of [`Architecture`] and one row of [`MODELS`] for
//! each model.

use super::detect::{self, Detected};
use super::network::{Channels, Network, Scales, Shapes, Upsampling};
use crate::ops::Border;
use crate::{Error, Result, Scale, TensorError};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

// Declared here and not in `mod.rs`, so that a network needs no other edit.
#[path = "artcnn.rs"]
pub mod artcnn;
#[path = "carn.rs"]
pub mod carn;
#[path = "compact.rs"]
pub mod compact;
#[path = "drct.rs"]
pub mod drct;
#[path = "edsr.rs"]
pub mod edsr;
#[path = "espcn.rs"]
pub mod espcn;
#[path = "fsrcnn.rs"]
pub mod fsrcnn;
#[path = "graph/mod.rs"]
pub mod graph;
#[path = "hdsrnet.rs"]
pub mod hdsrnet;
#[path = "hypersrcnn.rs"]
pub mod hypersrcnn;
#[path = "lapan.rs"]
pub mod lapan;
#[path = "lapsrn.rs"]
pub mod lapsrn;
#[path = "plksr.rs"]
pub mod plksr;
#[path = "rrdbnet.rs"]
pub mod rrdbnet;
#[path = "span.rs"]
pub mod span;
#[path = "srcnn.rs"]
pub mod srcnn;
#[path = "srresnet.rs"]
pub mod srresnet;

/// The configuration of a network, from which it is built.
pub(crate) trait ArchitectureConfig: Clone {
    /// The planes in and out.
    fn channels(&self) -> Channels;

    /// The resolution that the network for a scale works at.
    fn upsampling(&self, scale: Scale) -> Upsampling {
        Upsampling::Post(scale.factor().ceil() as usize)
    }

    /// The scales, if the configuration determines them; `None` if they depend
    /// on the weights.
    fn scales(&self) -> Option<Scales> {
        None
    }

    /// The border of all convolutions, if it can be chosen.
    fn border_mut(&mut self) -> Option<&mut Border> {
        None
    }

    /// Reads the weights from `vb` (or creates them, in training).
    fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>, TensorError>;

    /// Changes a parameter's initial values so that training starts from the
    /// identity. Returns whether it changed them.
    fn identity_init(&self, _name: &str, _values: &mut [f32]) -> bool {
        false
    }

    /// The configuration of the network in a weights file, without
    /// training-only layers.
    fn reparameterized(&self) -> Self {
        self.clone()
    }

    /// The architecture whose weights it generates, if it is a hypernetwork.
    fn generated_architecture(&self) -> Option<Architecture> {
        None
    }

    /// Infers the configuration from tensor names and shapes.
    fn detect(shapes: &Shapes) -> Option<Detected<Self>>;
}

macro_rules! architectures {
    ($($variant:ident => $module:ident),+ $(,)?) => {
        /// A network's architecture and configuration: all but its weights.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name", content = "config", rename_all = "lowercase")]
        pub enum Architecture {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $variant($module::Config),
            )+
        }

        /// Evaluates an expression with an architecture's configuration.
        macro_rules! with_config {
            ($architecture:expr, $config:ident => $value:expr) => {
                match $architecture {
                    $(Architecture::$variant($config) => $value,)+
                }
            };
        }

        impl Architecture {
            /// The names of the architectures.
            const NAMES: &[&str] = &[$(stringify!($module)),+];

            /// The architecture's name.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($module),)+
                }
            }

            /// The architecture in a weights file, without training-only layers.
            pub fn reparameterized(&self) -> Self {
                match self {
                    $(Self::$variant(config) => Self::$variant(config.reparameterized()),)+
                }
            }

            /// The first architecture, in the order of the rows, with these
            /// tensors.
            fn detect_bare(shapes: &Shapes) -> Option<Detected<Self>> {
                let detectors = [
                    $(|shapes: &Shapes| -> Option<Detected<Self>> {
                        let found = <$module::Config as ArchitectureConfig>::detect(shapes)?;
                        Some(found.map(Self::$variant))
                    },)+
                ];
                detectors.into_iter().find_map(|detect| detect(shapes))
            }
        }
    };
}

// Detection tries them in this order. The name of a module is the name in
// weights files.
architectures! {
    Srcnn => srcnn,
    HyperSrcnn => hypersrcnn,
    Espcn => espcn,
    SrResNet => srresnet,
    Compact => compact,
    HdsrNet => hdsrnet,
    Lapan => lapan,
    Drct => drct,
    Fsrcnn => fsrcnn,
    RrdbNet => rrdbnet,
    Span => span,
    Plksr => plksr,
    Edsr => edsr,
    Carn => carn,
    LapSrn => lapsrn,
    ArtCnn => artcnn,
    Graph => graph,
}

impl Architecture {
    /// The names of the architectures that can be detected: graphs describe themselves.
    pub(crate) fn detected() -> Vec<&'static str> {
        let names = Self::NAMES.iter().copied();
        names.filter(|&name| name != "graph").collect()
    }

    /// Finds the architecture from names and shapes of tensors: all of a file's
    /// first, then selections of them.
    pub(crate) fn detect(selections: &[Shapes]) -> Option<Detected<Self>> {
        detect::search(selections, Self::detect_bare)
    }

    /// The architecture whose weights a hypernetwork generates; `None` for all others.
    pub fn generated_architecture(&self) -> Option<Self> {
        with_config!(self, config => config.generated_architecture())
    }

    /// The planes in and out.
    pub fn channels(&self) -> Channels {
        with_config!(self, config => config.channels())
    }

    /// The resolution that the network for a scale works at.
    pub fn upsampling(&self, scale: Scale) -> Upsampling {
        with_config!(self, config => config.upsampling(scale))
    }

    /// The scales, if the architecture determines them; `None` if they depend
    /// on the weights.
    pub fn scales(&self) -> Option<Scales> {
        with_config!(self, config => config.scales())
    }

    /// The border of all convolutions, if it can be chosen.
    pub fn border_mut(&mut self) -> Option<&mut Border> {
        with_config!(self, config => config.border_mut())
    }

    /// Reads the weights from `vb` (or creates them, in training). `scales`
    /// are those of the file, for networks whose weights do not determine them.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has the wrong shape.
    pub fn build(&self, vb: &VarBuilder, scales: Scales) -> Result<Box<dyn Network>> {
        Ok(with_config!(self, config => config.build(vb, scales))?)
    }

    /// Changes the random initial values of a parameter so that training starts
    /// from the identity, in networks without a global residual. Returns
    /// whether it changed them.
    pub fn identity_init(&self, name: &str, values: &mut [f32]) -> bool {
        with_config!(self, config => config.identity_init(name, values))
    }
}

/// A model of the registry.
#[derive(Debug)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The name.
    pub name: &'static str,
    /// One line for lists.
    pub summary: &'static str,
    /// The architecture; `None` for a model without a network.
    pub architecture: fn() -> Option<Architecture>,
    /// The built-in weights; the first file that holds a scale counts.
    pub built_in: &'static [BuiltInFile],
}

/// A safetensors file of the folder `models/`.
#[derive(Debug)]
#[non_exhaustive]
pub struct BuiltInFile {
    /// Its path in that folder.
    pub path: &'static str,
    /// Its bytes; `None` in a build without the feature `builtin-weights`.
    pub bytes: Option<&'static [u8]>,
}

#[cfg(feature = "builtin-weights")]
macro_rules! bytes {
    ($path:literal) => {
        Some(include_bytes!(concat!("../../models/", $path)).as_slice())
    };
}

#[cfg(not(feature = "builtin-weights"))]
macro_rules! bytes {
    ($path:literal) => {
        None
    };
}

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(BuiltInFile { path: $path, bytes: bytes!($path) }),+]
    };
}

/// Every model.
pub static MODELS: &[ModelInfo] = &[
    ModelInfo {
        name: "hypersrcnn",
        summary: "HyperSRCNN on luma: one file that generates SRCNN weights for any scale",
        architecture: || Some(Architecture::HyperSrcnn(hypersrcnn::Config::default())),
        built_in: files!("hypersrcnn/weights.safetensors"),
    },
    ModelInfo {
        name: "hypersrcnn-rgb",
        summary: "HyperSRCNN on RGB: x2, x4, x8 and x16 in one file",
        architecture: || Some(Architecture::HyperSrcnn(hypersrcnn::Config::seed())),
        built_in: files!("hypersrcnn-rgb/weights.safetensors"),
    },
    ModelInfo {
        name: "srcnn",
        summary: "SRCNN 9-5-5 on luma, one set of weights a scale",
        architecture: || {
            Some(Architecture::Srcnn(srcnn::Config {
                border: Border::Replicate,
                ..srcnn::Config::default()
            }))
        },
        built_in: files!(
            "srcnn/x2.safetensors",
            "srcnn/x3.safetensors",
            "srcnn/x4.safetensors",
        ),
    },
    ModelInfo {
        name: "srcnn-rgb",
        summary: "SRCNN 9-5-5 on RGB, one set of weights a scale",
        architecture: || Some(Architecture::Srcnn(srcnn::Config::rgb())),
        built_in: files!(
            "srcnn-rgb/x2.safetensors",
            "srcnn-rgb/x4.safetensors",
            "srcnn-rgb/x8.safetensors",
            "srcnn-rgb/x16.safetensors"
        ),
    },
    ModelInfo {
        name: "espcn",
        summary: "ESPCN on luma, at the input's resolution: x2 to x8",
        architecture: || Some(Architecture::Espcn(espcn::Config::default())),
        built_in: files!("espcn/x2.safetensors", "espcn/weights.safetensors"),
    },
    ModelInfo {
        name: "espcn-fast",
        summary: "ESPCN on luma with 5 instead of 8 layers: half the work",
        architecture: || Some(Architecture::Espcn(espcn::Config::fast())),
        built_in: files!("espcn-fast/weights.safetensors"),
    },
    ModelInfo {
        name: "espcn-hq",
        summary: "ESPCN on luma with 32 channels: better, for three times the work: x2 to x4",
        architecture: || Some(Architecture::Espcn(espcn::Config::hq())),
        built_in: files!(
            "espcn-hq/x2.safetensors",
            "espcn-hq/x3.safetensors",
            "espcn-hq/x4.safetensors"
        ),
    },
    ModelInfo {
        name: "espcn-video",
        summary: "ESPCN on luma for real streams: trained on compressed video",
        architecture: || Some(Architecture::Espcn(espcn::Config::default())),
        built_in: files!(
            "espcn-video/x2.safetensors",
            "espcn-video/weights.safetensors"
        ),
    },
    ModelInfo {
        name: "espcn-video-hq",
        summary: "ESPCN on luma with 32 channels, trained on compressed video: x2",
        architecture: || Some(Architecture::Espcn(espcn::Config::hq())),
        built_in: files!("espcn-video-hq/x2.safetensors"),
    },
    ModelInfo {
        name: "fsrcnn",
        summary: "FSRCNN(56, 12, 4) on luma, at the input's resolution: x2, x3 or x4",
        architecture: || Some(Architecture::Fsrcnn(fsrcnn::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "srresnet",
        summary: "SRResNet on RGB, 16 residual blocks: x2, x4 or x8",
        architecture: || Some(Architecture::SrResNet(srresnet::Config::default())),
        built_in: files!("srresnet/x4.safetensors"),
    },
    ModelInfo {
        name: "srgan",
        summary: "SRGAN on RGB: the network of srresnet, for GAN-trained weights",
        architecture: || Some(Architecture::SrResNet(srresnet::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "compact",
        summary: "SRVGGNetCompact on RGB, the form of realesr-animevideov3: one scale of x2 to x8",
        architecture: || Some(Architecture::Compact(compact::Config::default())),
        built_in: files!("compact/x2.safetensors"),
    },
    ModelInfo {
        name: "hdsrnet",
        summary: "HDSRNet on RGB: x2, x3 or x4",
        architecture: || Some(Architecture::HdsrNet(hdsrnet::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "lapan",
        summary: "The 12-block network on RGB: x2",
        architecture: || Some(Architecture::Lapan(lapan::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "drct",
        summary: "DRCT on RGB, on whole frames: x2, x3 or x4",
        architecture: || Some(Architecture::Drct(drct::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "drct-l",
        summary: "DRCT-L on RGB, on whole frames: 12 instead of 6 groups",
        architecture: || Some(Architecture::Drct(drct::Config::large())),
        built_in: &[],
    },
    ModelInfo {
        name: "realdrct-mse",
        summary: "Real-DRCT on RGB: the network of drct, for real-world degradations",
        architecture: || Some(Architecture::Drct(drct::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: "realdrct-gan",
        summary: "Real-DRCT on RGB: the same, for GAN-trained weights",
        architecture: || Some(Architecture::Drct(drct::Config::default())),
        built_in: &[],
    },
    ModelInfo {
        name: BICUBIC,
        summary: "No network: bicubic interpolation, for comparison",
        architecture: || None,
        built_in: &[],
    },
];

/// The model without a network.
pub const BICUBIC: &str = "bicubic";

/// The default model.
pub const DEFAULT: &str = "hypersrcnn";

/// The models with built-in weights for clean video at any scale that are the best for their
/// cost, the best one first.
pub const FOR_ANY_SCALE: &[&str] = &["espcn", "espcn-fast", BICUBIC];

/// The models with built-in weights for clean video at a scale that are the best for their
/// cost, the best one first: by PSNR on Set5, Set14 and B100, see `docs/models.md`.
pub fn by_quality(scale: Scale) -> &'static [&'static str] {
    match (scale.num(), scale.den()) {
        (4, 1) => &["srresnet", "espcn-hq", "espcn", "espcn-fast", BICUBIC],
        _ if scale.factor() <= 4.0 => &["espcn-hq", "espcn", "espcn-fast", BICUBIC],
        _ => FOR_ANY_SCALE,
    }
}

/// The network that estimates how strongly a stream was encoded.
pub(super) static DAMAGE_ESTIMATOR: BuiltInFile = BuiltInFile {
    path: "coding-damage/weights.safetensors",
    bytes: bytes!("coding-damage/weights.safetensors"),
};

/// The model of the same network as another one that is trained on encoded video; between
/// the weights of the two lie those of
/// [`Model::for_damage`](crate::weights::Model::for_damage).
pub fn for_encoded_video(name: &str) -> Option<&'static str> {
    match name {
        "espcn" => Some("espcn-video"),
        "espcn-hq" => Some("espcn-video-hq"),
        _ => None,
    }
}

/// The names of all models, separated by commas.
pub fn names() -> String {
    let names: Vec<_> = MODELS.iter().map(|model| model.name).collect();
    names.join(", ")
}

/// The model by its name.
///
/// # Errors
///
/// An unknown name.
pub fn find(name: &str) -> Result<&'static ModelInfo> {
    MODELS
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            known: names(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_default_exists() {
        let mut names = std::collections::HashSet::new();
        assert!(MODELS.iter().all(|model| names.insert(model.name)));
        assert!(find(DEFAULT).is_ok() && find(BICUBIC).is_ok());
        let error = find("srgna").unwrap_err().to_string();
        assert!(
            error.contains("srgna") && error.contains("hypersrcnn"),
            "{error}"
        );
    }

    #[test]
    fn files_name_an_architecture_as_its_name_does() {
        for architecture in MODELS.iter().filter_map(|model| (model.architecture)()) {
            let json = serde_json::to_value(&architecture).unwrap();
            assert_eq!(json["name"], architecture.name());
            let again: Architecture = serde_json::from_value(json).unwrap();
            assert_eq!(again, architecture);
        }
    }
}
