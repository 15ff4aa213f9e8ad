//! The tensors that networks ask for, by names and shapes alone.

use super::detect::without_prefix;
use super::network::{Scales, Shapes};
use super::registry::{Architecture, MODELS};
use crate::{Result, Scale};
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use std::cmp::Reverse;
use std::fmt::Write;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Scales that a file of one scale may be for.
const SCALES: [u32; 4] = [2, 3, 4, 8];

/// Tensors of each sort that a description names.
const SHOWN: usize = 4;

/// Gives zeros without memory behind them, and writes down what was asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Shapes>>);

impl SimpleBackend for Asked {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name} has no known shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

impl Architecture {
    /// Names and shapes of the tensors that a network for `scales` has.
    ///
    /// # Errors
    ///
    /// As [`Architecture::build`].
    pub fn shapes(&self, scales: Scales) -> Result<Shapes> {
        let asked = Asked::default();
        let vb = VarBuilder::from_backend(Box::new(asked.clone()), DType::F32, Device::Cpu);
        self.build(&vb, scales)?;
        let mut shapes = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut shapes))
    }
}

/// What a network takes, whatever its weights are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Number of weights, without what only normalises.
    pub weights: usize,
    /// Multiplications, each with an addition, for each pixel of the result.
    pub macs: f64,
}

impl Architecture {
    /// What the network for a scale takes.
    ///
    /// # Errors
    ///
    /// A scale that there is no such network for.
    pub fn cost(&self, scale: Scale) -> Result<Cost> {
        let asked = Asked::default();
        let vb = VarBuilder::from_backend(Box::new(asked.clone()), DType::F32, Device::Cpu);
        let network = self.build(&vb, Scales::list([scale]))?.for_scale(scale)?;
        let shapes = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
        let learnt = shapes
            .iter()
            .filter(|(name, _)| !name.contains(".running_"));
        let area = network.upsampling().factor().pow(2);
        Ok(Cost {
            weights: learnt
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum(),
            macs: network.macs() as f64 / area as f64,
        })
    }
}

/// Every model at every scale that it can be built for, once for each set of
/// shapes: what it is called, and they.
static KNOWN: LazyLock<Vec<(String, Shapes)>> = LazyLock::new(|| {
    let mut known: Vec<(String, Shapes)> = Vec::new();
    let mut seen = Vec::new();
    for model in MODELS {
        let architecture = (model.architecture)();
        let Some(architecture) = architecture.filter(|a| !seen.contains(a)) else {
            continue;
        };
        for scale in SCALES.map(Scale::whole) {
            let shapes = architecture.shapes(Scales::list([scale]));
            let new = shapes
                .ok()
                .filter(|new| known.iter().all(|(_, old)| old != new));
            known.extend(new.map(|shapes| (format!("{} x{scale}", model.name), shapes)));
        }
        seen.push(architecture);
    }
    known
});

/// The model whose tensors have the most names in common with a file's, and
/// how they differ, in words; `None` where none has any.
pub(crate) fn nearest(file: &Shapes) -> Option<String> {
    let (file, _) = without_prefix(file);
    let alike = |shapes: &Shapes| {
        let names = shapes.keys().filter(|&name| file.contains_key(name));
        let same = shapes
            .iter()
            .filter(|&(name, shape)| file.get(name) == Some(shape));
        (names.count(), same.count(), Reverse(shapes.len()))
    };
    // Of equals the first.
    let best = KNOWN
        .iter()
        .rev()
        .map(|(name, shapes)| (alike(shapes), name, shapes));
    let ((names, ..), name, shapes) = best.max_by_key(|&(alike, ..)| alike)?;
    (names > 0).then(|| format!("{name}: {}", differences(shapes, &file)))
}

/// How a file's tensors differ from those that were expected.
fn differences(expected: &Shapes, file: &Shapes) -> String {
    let missing = expected
        .iter()
        .filter(|(name, _)| !file.contains_key(*name));
    let missing = missing.map(|(name, shape)| format!("{name} {shape:?}"));
    let others = file
        .iter()
        .filter(|(name, _)| !expected.contains_key(*name));
    let others = others.map(|(name, shape)| format!("{name} {shape:?}"));
    let changed = expected.iter().filter_map(|(name, shape)| {
        let found = file.get(name).filter(|&found| found != shape)?;
        Some(format!("{name} {found:?} for {shape:?}"))
    });
    let parts = [
        some("lacks", missing.collect()),
        some("has other shapes of", changed.collect()),
        some("has besides", others.collect()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

/// The first of some names.
fn some(what: &str, names: Vec<String>) -> Option<String> {
    let rest = names.len().saturating_sub(SHOWN);
    let mut text = format!("it {what} {}", names[..names.len() - rest].join(", "));
    if rest > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, " and {rest} more");
    }
    (!names.is_empty()).then_some(text)
}
