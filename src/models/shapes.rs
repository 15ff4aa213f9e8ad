//! Names and shapes of the tensors of each architecture, without weights.

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

/// Scales of single-scale files.
const SCALES: [u32; 4] = [2, 3, 4, 8];

/// Tensors of each kind that a description lists.
const MAX_LISTED: usize = 4;

/// Records the requested shapes and returns zeros that take no memory.
#[derive(Clone, Default)]
struct ShapeRecorder(Arc<Mutex<Shapes>>);

impl SimpleBackend for ShapeRecorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(name.to_owned(), shape.dims().to_vec());
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
    /// Names and shapes of the tensors of a network for `scales`.
    ///
    /// # Errors
    ///
    /// As [`Architecture::build`].
    pub fn shapes(&self, scales: Scales) -> Result<Shapes> {
        let recorder = ShapeRecorder::default();
        let vb = VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
        self.build(&vb, scales)?;
        let mut shapes = recorder.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut shapes))
    }
}

/// Size and computational cost of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Number of weights, without running statistics.
    pub weights: usize,
    /// Multiply-accumulate operations (MACs) for each output pixel.
    pub macs: f64,
}

impl Architecture {
    /// The cost of the network for a scale.
    ///
    /// # Errors
    ///
    /// A scale that the network does not support.
    pub fn cost(&self, scale: Scale) -> Result<Cost> {
        let recorder = ShapeRecorder::default();
        let vb = VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
        let network = self.build(&vb, Scales::list([scale]))?.for_scale(scale)?;
        let shapes = recorder.0.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Label and tensor shapes of every model at every scale, without duplicates.
static KNOWN: LazyLock<Vec<(String, Shapes)>> = LazyLock::new(|| {
    let mut known: Vec<(String, Shapes)> = Vec::new();
    let mut visited = Vec::new();
    for model in MODELS {
        let architecture = (model.architecture)();
        let Some(architecture) = architecture.filter(|a| !visited.contains(a)) else {
            continue;
        };
        for scale in SCALES.map(Scale::whole) {
            let shapes = architecture.shapes(Scales::list([scale]));
            let new = shapes
                .ok()
                .filter(|new| known.iter().all(|(_, old)| old != new));
            known.extend(new.map(|shapes| (format!("{} x{scale}", model.name), shapes)));
        }
        visited.push(architecture);
    }
    known
});

/// The model that shares the most tensor names with a file, and a description
/// of the differences; `None` if no model shares any.
pub(crate) fn nearest(file: &Shapes) -> Option<String> {
    let file = without_prefix(file);
    let alike = |shapes: &Shapes| {
        let names = shapes.keys().filter(|&name| file.contains_key(name));
        let same = shapes
            .iter()
            .filter(|&(name, shape)| file.get(name) == Some(shape));
        (names.count(), same.count(), Reverse(shapes.len()))
    };
    // Ties go to the first.
    let best = KNOWN
        .iter()
        .rev()
        .map(|(name, shapes)| (alike(shapes), name, shapes));
    let ((names, ..), name, shapes) = best.max_by_key(|&(alike, ..)| alike)?;
    (names > 0).then(|| format!("{name}: {}", differences(shapes, &file)))
}

/// Describes how a file's tensors differ from the expected ones.
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
        list("lacks", missing.collect()),
        list("has other shapes of", changed.collect()),
        list("also has", others.collect()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join("; ")
}

/// Lists the first names and the number of the others.
fn list(what: &str, names: Vec<String>) -> Option<String> {
    let rest = names.len().saturating_sub(MAX_LISTED);
    let mut text = format!("it {what} {}", names[..names.len() - rest].join(", "));
    if rest > 0 {
        // Writing to a string does not fail.
        let _ = write!(text, " and {rest} more");
    }
    (!names.is_empty()).then_some(text)
}
