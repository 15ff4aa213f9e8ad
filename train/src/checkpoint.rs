//! The state of a run (parameters, moments and counters), from which it resumes
//! as if it had never stopped.

use crate::optim::Moments;
use crate::optim::input_preconditioner::LayerStatistics;
use crate::optim::schedule::ValidationHistory;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use srfilter::atomic_file;
use srfilter::weights::Checkpoint;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Prefixes of the tensors' names. Those of the moments say Adam because
/// states of older versions do.
const PARAMETER: &str = "parameter.";
const AVERAGE: &str = "average.";
const DISCRIMINATOR: &str = "discriminator.";
const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";

/// Prefix of the second moments of a layer's inputs and their inverse root (2, n, n).
const LAYER: &str = "whiten.";

/// Prefix of the metadata that counts a parameter's steps.
const STEPS: &str = "adam.steps.";

/// All that a run needs to resume.
#[derive(Debug, Clone)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Results of the validations so far.
    pub history: ValidationHistory,
    /// The images of the run ([`Dataset::fingerprint`]).
    ///
    /// [`Dataset::fingerprint`]: crate::data::Dataset::fingerprint
    pub data: String,
    /// What the weights have been trained on, for model cards; empty in states of older
    /// versions.
    pub training_data: String,
    /// The part of it that was before this run.
    pub initial_data: String,
    /// The network.
    pub generator: NetworkState,
    /// The discriminator; without parameters where there is none.
    pub discriminator: NetworkState,
    /// The moving average of the parameters, by name; empty where there is none.
    pub ema: HashMap<String, Tensor>,
}

/// A network in training.
#[derive(Debug, Clone, Default)]
pub struct NetworkState {
    /// Parameters by name.
    pub parameters: HashMap<String, Tensor>,
    /// The optimiser's moments by parameter.
    pub moments: BTreeMap<String, Moments>,
    /// Second moments of the layers' inputs, with `whiten`.
    pub layers: BTreeMap<String, LayerStatistics>,
}

impl NetworkState {
    /// Adds everything to a file's tensors and metadata, under a prefix.
    fn write(
        &self,
        prefix: &str,
        tensors: &mut BTreeMap<String, Tensor>,
        metadata: &mut HashMap<String, String>,
    ) -> Result<()> {
        for (name, tensor) in &self.parameters {
            tensors.insert(format!("{prefix}{PARAMETER}{name}"), tensor.clone());
        }
        for (name, moments) in &self.moments {
            let steps = moments.steps.to_string();
            metadata.insert(format!("{prefix}{STEPS}{name}"), steps);
            let rows = 0..moments.values.dim(0)?;
            for (row, part) in rows.zip([FIRST, SECOND]) {
                tensors.insert(format!("{prefix}{part}{name}"), moments.values.get(row)?);
            }
        }
        for (name, layer) in &self.layers {
            let root = layer.root.to_device(&Device::Cpu)?;
            let both = Tensor::stack(&[&layer.moment, &root], 0)?;
            tensors.insert(format!("{prefix}{LAYER}{name}"), both);
        }
        Ok(())
    }

    /// Reads what [`NetworkState::write`] wrote, after `step` steps of the run.
    fn read(prefix: &str, file: &Checkpoint, step: u64) -> Result<Self> {
        let mut network = Self::default();
        let own = |name: &str| file.tensors().get(&format!("{prefix}{name}"));
        let names = file.tensors().keys();
        for name in names.filter_map(|name| name.strip_prefix(prefix)) {
            let Some(tensor) = own(name) else { continue };
            if let Some(name) = name.strip_prefix(PARAMETER) {
                network.parameters.insert(name.to_owned(), tensor.clone());
            } else if let Some(name) = name.strip_prefix(FIRST) {
                let rows = [Some(tensor), own(&format!("{SECOND}{name}"))];
                let rows: Vec<_> = rows.into_iter().flatten().collect();
                // States of older versions: every parameter took part in every step.
                let steps = file.metadata().get(&format!("{prefix}{STEPS}{name}"));
                let moments = Moments {
                    steps: steps.map_or(Ok(step), |steps| steps.parse())?,
                    values: Tensor::stack(&rows, 0)?,
                };
                network.moments.insert(name.to_owned(), moments);
            } else if let Some(name) = name.strip_prefix(LAYER) {
                let [moment, root] = [tensor.get(0)?, tensor.get(1)?];
                network
                    .layers
                    .insert(name.to_owned(), LayerStatistics { moment, root });
            }
        }
        Ok(network)
    }
}

impl State {
    /// Writes the state atomically.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (mut tensors, mut metadata) = (BTreeMap::new(), HashMap::new());
        self.generator.write("", &mut tensors, &mut metadata)?;
        self.discriminator
            .write(DISCRIMINATOR, &mut tensors, &mut metadata)?;
        for (name, tensor) in &self.ema {
            tensors.insert(format!("{AVERAGE}{name}"), tensor.clone());
        }
        metadata.insert("step".to_owned(), self.step.to_string());
        metadata.insert("seconds".to_owned(), self.seconds.to_string());
        for (key, text) in [
            ("data", &self.data),
            ("training_data", &self.training_data),
            ("initial_data", &self.initial_data),
        ] {
            metadata.insert(key.to_owned(), text.clone());
        }
        let ValidationHistory {
            best,
            stale,
            waited,
            drops,
        } = self.history;
        if let Some(best) = best {
            metadata.insert("best".to_owned(), best.to_string());
        }
        for (key, count) in [("stale", stale), ("waited", waited), ("drops", drops)] {
            metadata.insert(key.to_owned(), count.to_string());
        }
        let bytes = safetensors::serialize(tensors.iter(), Some(metadata))?;
        atomic_file::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a state.
    ///
    /// # Errors
    ///
    /// A file that is missing, damaged or something else.
    pub fn load(path: &Path) -> Result<Self> {
        let load = || -> Result<Self> {
            let file = Checkpoint::open(path)?;
            let text = |key: &str| file.metadata().get(key);
            let number =
                |key: &str| text(key).with_context(|| format!("it does not state its {key}"));
            // States of older versions do not have them.
            let count = |key: &str| text(key).map_or(Ok(0), |count| count.parse::<u64>());
            let step = number("step")?.parse().context("its step is no number")?;
            let ema_tensors = file.tensors().iter();
            let ema = ema_tensors.filter_map(|(name, tensor)| {
                Some((name.strip_prefix(AVERAGE)?.to_owned(), tensor.clone()))
            });
            Ok(Self {
                step,
                seconds: number("seconds")?
                    .parse()
                    .context("its seconds are no number")?,
                history: ValidationHistory {
                    best: text("best").and_then(|best| best.parse().ok()),
                    stale: count("stale")?,
                    waited: count("waited")?,
                    drops: count("drops")?,
                },
                data: text("data").cloned().unwrap_or_default(),
                training_data: text("training_data").cloned().unwrap_or_default(),
                initial_data: text("initial_data").cloned().unwrap_or_default(),
                generator: NetworkState::read("", &file, step)?,
                discriminator: NetworkState::read(DISCRIMINATOR, &file, step)?,
                ema: ema.collect(),
            })
        };
        load().with_context(|| format!("cannot continue from {}", path.display()))
    }

    /// Whether a file is a state, rather than weights.
    pub fn is_state(file: &Checkpoint) -> bool {
        file.tensors()
            .keys()
            .any(|name| name.starts_with(PARAMETER))
    }

    /// The weights to start another run from: the moving average where there is one.
    pub fn weights(self) -> HashMap<String, Tensor> {
        match self.ema.is_empty() {
            true => self.generator.parameters,
            false => self.ema,
        }
    }

    /// Ensures that the run continues on the same images.
    ///
    /// # Errors
    ///
    /// The images are others, or are split or degraded in another way.
    pub fn check_data(&self, fingerprint: &str) -> Result<()> {
        ensure!(
            self.data == fingerprint,
            "the training images have changed since this run started: restore them, or start \
             another run from its weights (--init)"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: f32) -> NetworkState {
        let tensor = Tensor::new(&[[number, -2.0], [3.0, 4.5]], &Device::Cpu).unwrap();
        let moments = |rows: usize| Moments {
            steps: number as u64,
            values: Tensor::arange(number, number + 4.0 * rows as f32, &Device::Cpu)
                .and_then(|values| values.reshape((rows, 4)))
                .unwrap(),
        };
        let layer = LayerStatistics {
            moment: tensor.clone(),
            root: (&tensor * 2.0).unwrap(),
        };
        NetworkState {
            parameters: ["v", "w"].map(|n| (n.to_owned(), tensor.clone())).into(),
            layers: [("w".to_owned(), layer)].into(),
            moments: [("v".to_owned(), moments(2)), ("w".to_owned(), moments(1))].into(),
        }
    }

    fn state() -> State {
        State {
            step: 12,
            seconds: 3.5,
            history: ValidationHistory {
                best: Some(-0.25),
                stale: 3,
                waited: 1,
                drops: 2,
            },
            data: "fingerprint".to_owned(),
            training_data: "A, 12 steps; initial weights: B".to_owned(),
            initial_data: "initial weights: B".to_owned(),
            generator: network(7.0),
            discriminator: network(9.0),
            ema: network(8.0).parameters,
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let saved = state();
        saved.save(&path).unwrap();
        let loaded = State::load(&path).unwrap();
        assert_eq!((loaded.step, loaded.seconds), (12, 3.5));
        let texts = |state: &State| {
            let State {
                data,
                training_data,
                initial_data,
                ..
            } = state.clone();
            [data, training_data, initial_data]
        };
        assert_eq!(texts(&loaded), texts(&saved));
        assert_eq!(loaded.history, saved.history);
        let moments = |state: &State| {
            let State {
                generator,
                discriminator,
                ..
            } = state.clone();
            [generator, discriminator].map(|network| {
                let moments = network.moments.into_iter();
                let values = |m: &Moments| m.values.to_vec2::<f32>().unwrap();
                let moments = moments.map(|(name, m)| (name, m.steps, values(&m)));
                moments.collect::<Vec<_>>()
            })
        };
        assert_eq!(moments(&loaded), moments(&saved));
        let layer = |state: &State| {
            let LayerStatistics { moment, root } = &state.generator.layers["w"];
            [moment, root].map(|t| t.to_vec2::<f32>().unwrap())
        };
        assert_eq!(layer(&loaded), layer(&saved));
        let values = |state: &State| {
            let players = [&state.generator.parameters, &state.discriminator.parameters];
            let all = [players[0], players[1], &state.ema];
            all.map(|t| (t.len(), t["w"].to_vec2::<f32>().unwrap()))
        };
        assert_eq!(values(&loaded), values(&saved));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        state().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 4, 20, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = format!("{:#}", State::load(&path).unwrap_err());
            assert!(error.contains("state.safetensors"), "{error}");
        }
        let error = format!("{:#}", State::load(&dir.path().join("none")).unwrap_err());
        assert!(error.contains("none"), "{error}");
    }
}
