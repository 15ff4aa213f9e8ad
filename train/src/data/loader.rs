//! Loads batches ahead of the training.

use super::dataset::Dataset;
use super::patch::{BatchSampler, ScaleBatch};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Batches that are prepared ahead of the training.
const AHEAD: usize = 4;

/// Prepares batches in a thread of its own, a few steps ahead.
#[derive(Debug)]
pub struct BatchLoader(Receiver<Result<Vec<ScaleBatch>>>);

impl BatchLoader {
    /// Starts with the batch of `step`.
    pub fn start(sampler: BatchSampler, dataset: Arc<Dataset>, step: u64) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            let batches = (step..).map(|step| sampler.batch(&dataset.train, step));
            // Ends when the training does, which drops the receiver.
            let mut sent = batches.map(|batch| sender.send(batch));
            let _ = sent.find(Result::is_err);
        });
        Self(receiver)
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// A degradation that fails.
    pub fn next(&self) -> Result<Vec<ScaleBatch>> {
        self.0
            .recv()
            .context("the thread that prepares batches has stopped")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::recipe;
    use srfilter::models::Channels;

    #[test]
    fn batches_depend_on_seed_and_step_only() {
        let recipe = recipe();
        let dataset = Arc::new(Dataset::load(&recipe, Channels::Luma).unwrap());
        let sampler = BatchSampler::new(&recipe).unwrap();
        let loader = BatchLoader::start(sampler.clone(), Arc::clone(&dataset), 5);
        let loaded = [loader.next().unwrap(), loader.next().unwrap()];
        assert_eq!(
            loaded,
            [5, 6].map(|step| sampler.batch(&dataset.train, step).unwrap())
        );
        assert_ne!(loaded[0], loaded[1]);
        let mut other = recipe.clone();
        other.train.seed += 1;
        let other = BatchSampler::new(&other).unwrap();
        assert_ne!(other.batch(&dataset.train, 5).unwrap(), loaded[0]);
    }
}
