//! The parameters of a network in training, by name, initialised from a seed.
//!
//! candle's random numbers cannot be seeded on the CPU, so that runs with its own
//! `VarMap` would not be repeatable.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder, init::NormalOrUniform};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Parameters by name.
pub type Vars = BTreeMap<String, Var>;

/// The values of parameters, by name. They share the parameters' storage.
pub fn tensors(vars: &Vars) -> impl Iterator<Item = (String, Tensor)> {
    vars.iter()
        .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
}

/// Creates parameters as a network requests them: copies of tensors, or random
/// values that depend on the seed and the parameter's name alone.
#[derive(Clone, Debug)]
pub struct ParamStore {
    inner: Arc<Inner>,
    device: Device,
}

#[derive(Debug)]
struct Inner {
    seed: u32,
    initial: Option<InitialTensors>,
    vars: Mutex<Vars>,
}

/// Tensors to start from.
#[derive(Debug)]
struct InitialTensors {
    origin: String,
    tensors: HashMap<String, Tensor>,
    /// Whether parameters without a matching tensor are random.
    partial: bool,
}

impl InitialTensors {
    fn fits(&self, name: &str, shape: &Shape) -> bool {
        self.tensors.get(name).is_some_and(|t| t.shape() == shape)
    }
}

impl ParamStore {
    /// Initialises every parameter at random.
    pub fn random(seed: u32) -> Self {
        Self::new(seed, None)
    }

    /// Copies every parameter from `tensors`, which `origin` names in errors.
    pub fn from_tensors(origin: &str, tensors: HashMap<String, Tensor>) -> Self {
        Self::new(
            0,
            Some(InitialTensors {
                origin: origin.to_owned(),
                tensors,
                partial: false,
            }),
        )
    }

    /// Copies the parameters that match by name and shape, and initialises the
    /// others at random.
    pub fn partly_from_tensors(origin: &str, tensors: HashMap<String, Tensor>, seed: u32) -> Self {
        Self::new(
            seed,
            Some(InitialTensors {
                origin: origin.to_owned(),
                tensors,
                partial: true,
            }),
        )
    }

    fn new(seed: u32, initial: Option<InitialTensors>) -> Self {
        let inner = Inner {
            seed,
            initial,
            vars: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            device: Device::Cpu,
        }
    }

    /// Puts the parameters on a device instead of the CPU.
    pub fn on(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// The builder for a network.
    pub fn builder(&self) -> VarBuilder<'static> {
        let device = self.device.clone();
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device)
    }

    /// The parameters created so far.
    ///
    /// # Errors
    ///
    /// A tensor that the network does not have; no tensor at all that matches.
    pub fn vars(&self) -> Result<Vars> {
        let vars = self
            .inner
            .vars
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(
            initial @ InitialTensors {
                origin,
                partial: true,
                ..
            },
        ) = &self.inner.initial
        {
            let fit = vars
                .iter()
                .filter(|(name, var)| initial.fits(name, var.shape()));
            ensure!(
                fit.count() > 0,
                "{origin}: none of its tensors matches this network by name and shape"
            );
        } else if let Some(InitialTensors {
            origin, tensors, ..
        }) = &self.inner.initial
        {
            let unused = tensors.keys().find(|name| !vars.contains_key(*name));
            ensure!(
                unused.is_none(),
                "{origin}: tensor {} does not belong to this network; `strict_init = false` in [model] \
                 of a recipe takes those that do",
                unused.map_or("", String::as_str)
            );
        }
        Ok(vars.clone())
    }

    fn make(&self, name: &str, shape: Shape, init: Init) -> candle_core::Result<Var> {
        let initial = self.inner.initial.as_ref();
        let initial = initial.filter(|initial| !initial.partial || initial.fits(name, &shape));
        let Some(InitialTensors {
            origin, tensors, ..
        }) = initial
        else {
            let values = draw(&shape, init, self.inner.seed, name);
            return Var::from_vec(values, shape, &self.device);
        };
        let problem = |text: String| candle_core::Error::Msg(format!("{origin}: {text}"));
        let tensor = tensors
            .get(name)
            .ok_or_else(|| problem(format!("missing tensor {name}")))?;
        if tensor.shape() != &shape {
            let found = tensor.shape();
            return Err(problem(format!(
                "tensor {name} has shape {found:?}, expected {shape:?}"
            )));
        }
        Var::from_vec(tensor.flatten_all()?.to_vec1::<f32>()?, shape, &self.device)
    }
}

impl SimpleBackend for ParamStore {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        _: DType,
        _: &Device,
    ) -> candle_core::Result<Tensor> {
        let known = |vars: &Vars| vars.get(name).map(|var| var.as_tensor().clone());
        let mut vars = self
            .inner
            .vars
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = known(&vars) {
            return Ok(tensor);
        }
        let var = self.make(name, shape, init)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        let problem = format!("parameter {name} was requested without a shape");
        Err(candle_core::Error::Msg(problem))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        match &self.inner.initial {
            Some(initial) => initial.partial || initial.tensors.contains_key(name),
            None => true,
        }
    }
}

fn draw(shape: &Shape, init: Init, seed: u32, name: &str) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(seed) ^ crate::fnv(name));
    let mut sample: Box<dyn FnMut() -> f64> = match init {
        Init::Const(value) => Box::new(move || value),
        Init::Randn { mean, stdev } => Box::new(move || mean + stdev * normal(&mut rng)),
        Init::Uniform { lo, up } => Box::new(move || lo + (up - lo) * rng.random::<f64>()),
        Init::Kaiming {
            dist,
            fan,
            non_linearity,
        } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let bound = 3f64.sqrt() * stdev;
            match dist {
                NormalOrUniform::Normal => Box::new(move || stdev * normal(&mut rng)),
                NormalOrUniform::Uniform => {
                    Box::new(move || bound * (2.0 * rng.random::<f64>() - 1.0))
                }
            }
        }
    };
    (0..shape.elem_count()).map(|_| sample() as f32).collect()
}

/// A standard normal number, by Box and Muller.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // 1 - [0, 1) is never 0, whose logarithm is infinite.
    let radius = (-2.0 * libm::log(1.0 - rng.random::<f64>())).sqrt();
    radius * libm::cos(std::f64::consts::TAU * rng.random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u32, name: &str, init: Init) -> Vec<f32> {
        let builder = ParamStore::random(seed).builder();
        let tensor = builder.get_with_hints((40, 50), name, init).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn seed_and_name_decide() {
        let init = Init::Randn {
            mean: 1.0,
            stdev: 2.0,
        };
        assert_eq!(values(3, "a", init), values(3, "a", init));
        assert_ne!(values(3, "a", init), values(4, "a", init));
        assert_ne!(values(3, "a", init), values(3, "b", init));
        let random = values(3, "a", init);
        let mean = random.iter().sum::<f32>() / random.len() as f32;
        let variance = random.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / random.len() as f32;
        assert!(
            (mean - 1.0).abs() < 0.2 && (variance - 4.0).abs() < 0.5,
            "{mean} {variance}"
        );
    }

    #[test]
    fn tensors_must_match() {
        let tensor = Tensor::ones((2, 2), DType::F32, &Device::Cpu).unwrap();
        let initial =
            || ParamStore::from_tensors("f.safetensors", [("a".into(), tensor.clone())].into());
        let store = initial();
        store.builder().get((2, 2), "a").unwrap();
        assert_eq!(store.vars().unwrap().len(), 1);
        let error = initial()
            .builder()
            .get((4, 1), "a")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("f.safetensors") && error.contains("tensor a"),
            "{error}"
        );
        let error = initial()
            .builder()
            .get((2, 2), "b")
            .unwrap_err()
            .to_string();
        assert!(error.contains('b'), "{error}");
        assert!(
            initial()
                .vars()
                .unwrap_err()
                .to_string()
                .contains("tensor a")
        );
    }

    #[test]
    fn matching_tensors_are_copied_and_the_rest_is_random() {
        let tensor = Tensor::full(7f32, (2, 2), &Device::Cpu).unwrap();
        let initial: HashMap<_, _> = ["a", "b", "c"]
            .map(|n| (n.to_owned(), tensor.clone()))
            .into();
        let store = ParamStore::partly_from_tensors("f", initial.clone(), 3);
        let values = |name: &str, rows: usize| {
            let init = Init::Const(1.0);
            let tensor = store
                .builder()
                .get_with_hints((rows, 2), name, init)
                .unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values("a", 2), [7.0; 4]);
        assert_eq!(values("b", 3), [1.0; 6]);
        assert_eq!(values("d", 2), [1.0; 4]);
        assert_eq!(store.vars().unwrap().len(), 3);
        let store = ParamStore::partly_from_tensors("f", initial, 3);
        store.builder().get((3, 2), "a").unwrap();
        let error = store.vars().unwrap_err().to_string();
        assert!(error.contains("none of its tensors"), "{error}");
    }
}
