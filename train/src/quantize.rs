//! Training for 8-bit integers.

use crate::data::{BatchSampler, Dataset};
use crate::initial::initial_weights;
use crate::params::tensors;
use crate::recipe::Recipe;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use srfilter::chain::quantized::{Calibration, Ranges};
use srfilter::models::{Architecture, Network, QuantizedNetwork, Scales, chain_of};
use srfilter::weights::{Card, Checkpoint};
use std::sync::Arc;

/// What a training for 8-bit integers starts from, and is measured against.
pub(crate) struct Quantizer {
    ranges: Arc<Ranges>,
    /// The initial network, in f32.
    network: Box<dyn Network>,
    tensors: Vec<(String, Tensor)>,
    card: Option<Card>,
}

impl Quantizer {
    /// Calibrates the ranges of the initial network's samples on the first batches of
    /// a run.
    ///
    /// # Errors
    ///
    /// A recipe without initial weights, a network that is no chain of convolutions or
    /// has layers for training alone.
    pub(crate) fn new(
        recipe: &Recipe,
        batches: usize,
        architecture: &Architecture,
        dataset: &Dataset,
    ) -> Result<Self> {
        let path = recipe.model.init.as_deref();
        let path = path.context("[quantize] needs the weights to start from: set init")?;
        ensure!(
            architecture.reparameterized() == *architecture,
            "[quantize] trains the layers that the weights file has: set reparam = false"
        );
        let (store, origin) = initial_weights(path, recipe, architecture)?;
        let scales = Scales::list(recipe.train.scales.iter().copied());
        let network = architecture
            .build(&store.builder(), scales)
            .with_context(|| format!("cannot start from {origin} as {}", architecture.name()))?;
        let (sampler, mut calibration) = (BatchSampler::new(recipe)?, Calibration::default());
        let (patch, size) = (recipe.data.patch, recipe.train.batch_size);
        let shape = (size, network.channels().count(), patch, patch);
        for step in 0..batches as u64 {
            for batch in sampler.batch(&dataset.train, step)? {
                let chain = chain_of(network.as_ref(), batch.scale)?;
                let input = Tensor::from_slice(&batch.input, shape, &Device::Cpu)?;
                calibration.observe(&chain, &input)?;
            }
        }
        Ok(Self {
            ranges: Arc::new(calibration.ranges()),
            tensors: tensors(&store.vars()?).collect(),
            card: Checkpoint::open(path)?.card()?,
            network,
        })
    }

    /// A network with the rounding of its layers.
    pub(crate) fn quantized(&self, network: Box<dyn Network>) -> Box<dyn Network> {
        Box::new(QuantizedNetwork::new(network, Arc::clone(&self.ranges)))
    }

    /// The initial network, in f32 on the CPU.
    pub(crate) fn initial_network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    /// The card of its weights file, if that is a native one.
    pub(crate) fn initial_card(&self) -> Option<&Card> {
        self.card.as_ref()
    }

    /// Its weights by name.
    pub(crate) fn initial_tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }
}
