//! Larger networks whose outputs are part of the target.

use crate::params::ParamStore;
use crate::recipe::Distillation;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use srfilter::Scale;
use srfilter::models::{BoxedScaleNetwork, Network, Scales};
use srfilter::ops::Border;
use srfilter::weights::{Checkpoint, LoadOverrides};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The larger networks of a run, by scale.
pub(crate) struct Teacher {
    networks: BTreeMap<Scale, BoxedScaleNetwork>,
    share: f64,
}

impl Teacher {
    /// Opens the networks.
    ///
    /// # Errors
    ///
    /// A file that holds no network for its scale, or one that has other channels than
    /// `student`, enlarges its input by another factor, or crops its borders.
    pub(crate) fn new(
        settings: &Distillation,
        student: &dyn Network,
        device: &Device,
    ) -> Result<Self> {
        let open = |(&scale, path): (&Scale, &PathBuf)| {
            let network = open(path, scale, student, device)
                .with_context(|| format!("distillation.weights: {}", path.display()))?;
            Ok((scale, network))
        };
        Ok(Self {
            networks: settings.weights.iter().map(open).collect::<Result<_>>()?,
            share: settings.share,
        })
    }

    /// The larger network's output (N, C, H, W) for an input (N, C, h, w), and its share in
    /// the target; `None` at scales without one.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub(crate) fn output(&self, scale: Scale, input: &Tensor) -> Result<Option<(Tensor, f64)>> {
        let Some(network) = self.networks.get(&scale) else {
            return Ok(None);
        };
        // Detached: no gradient reaches the larger network.
        Ok(Some((network.forward(input)?.detach(), self.share)))
    }
}

fn open(
    path: &Path,
    scale: Scale,
    student: &dyn Network,
    device: &Device,
) -> Result<BoxedScaleNetwork> {
    let file = Checkpoint::open(path)?;
    let (architecture, _) = file.network(&LoadOverrides::default())?;
    let store = ParamStore::from_tensors(file.origin(), file.floats()).on(device);
    let network = architecture.build(&store.builder(), Scales::list([scale]))?;
    ensure!(
        network.channels() == student.channels(),
        "{:?}, but this run trains {:?}",
        network.channels(),
        student.channels()
    );
    let (network, student) = (network.for_scale(scale)?, student.for_scale(scale)?);
    ensure!(
        network.upsampling().factor() == student.upsampling().factor(),
        "it enlarges its input {} times, and the network in training {} times",
        network.upsampling().factor(),
        student.upsampling().factor()
    );
    ensure!(
        network.border() != Border::Valid,
        "its convolutions crop the borders"
    );
    Ok(network)
}
