//! Preconditions the optimiser with the second moments of layer inputs.
//!
//! Neighbouring pixels are correlated, so that a few directions in the space of
//! kernels dominate the gradient by orders of magnitude, and fine detail is
//! learnt last. The optimiser therefore works on kernels as they would be if
//! their input windows were uncorrelated: with `C` the second moment of
//! a layer's windows and `P = (C + damping)^(-1/2)`, the gradient `G` of the
//! kernels `W` becomes `G P`, and the update `D` computed from it becomes `D P`. This
//! is the input half of K-FAC; what the network computes stays as it is.
//!
//! James Martens, Roger Grosse, "Optimizing Neural Networks with
//! Kronecker-factored Approximate Curvature", ICML 2015; Frederik Benzing,
//! "Gradient Descent on Neurons and its Link to Approximate Second-Order
//! Optimization", ICML 2022 (why the input half is the one that counts). The
//! root comes from the Newton-Schulz iteration: Nicholas J. Higham,
//! "Functions of Matrices", SIAM 2008, section 6.3.

use crate::params::Vars;
use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use srfilter::ops::RecordedConv;
use std::collections::BTreeMap;

/// Layers with larger windows are not preconditioned: the root would be too
/// expensive.
const MAX_WINDOW_ELEMENTS: usize = 2048;

/// Windows sampled from each layer per observation.
const SAMPLED_WINDOWS: usize = 3000;

/// Every step up to this one is observed, then one in [`OBSERVE_EVERY`].
const INITIAL_OBSERVATIONS: u64 = 30;
pub(crate) const OBSERVE_EVERY: u64 = 50;

/// Steps whose observation updates the roots; later, one in [`RENEW_EVERY`].
const FIRST_RENEWALS: [u64; 5] = [0, 30, 100, 300, 1000];
const RENEW_EVERY: u64 = 3000;

/// Decay of the running mean per observation.
const MOMENT_DECAY: f64 = 0.9;

/// The root is good once the iteration changes it by less, relatively.
const TOLERANCE: f64 = 1e-6;

/// Ends an iteration that does not converge.
const ITERATIONS: usize = 60;

/// Second moments of one layer's input windows of `n` elements.
#[derive(Debug, Clone)]
pub struct LayerStatistics {
    /// Running mean of the windows' outer products (n, n), on the CPU.
    pub moment: Tensor,
    /// Its inverse square root (n, n) at the last renewal, on the parameter's device.
    pub root: Tensor,
}

/// The preconditioner of a network.
#[derive(Debug)]
pub struct InputPreconditioner {
    damping: f64,
    /// By the name of the parameter that holds, or generates, the kernels.
    layers: BTreeMap<String, LayerStatistics>,
}

impl InputPreconditioner {
    /// `damping` is in units of the mean variance of a window's elements.
    pub fn new(damping: f64) -> Self {
        Self {
            damping,
            layers: BTreeMap::new(),
        }
    }

    /// The state for [`InputPreconditioner::restore`].
    pub fn layers(&self) -> &BTreeMap<String, LayerStatistics> {
        &self.layers
    }

    /// Continues from saved layers; `device` is that of a parameter.
    ///
    /// # Errors
    ///
    /// A device that is gone.
    pub fn restore<'a>(
        &mut self,
        layers: BTreeMap<String, LayerStatistics>,
        device: impl Fn(&str) -> Option<&'a Device>,
    ) -> Result<()> {
        self.layers = layers;
        for (name, layer) in &mut self.layers {
            layer.root = layer.root.to_device(device(name).unwrap_or(&Device::Cpu))?;
        }
        Ok(())
    }

    /// Whether the step's convolutions are to be recorded.
    pub fn observes(step: u64) -> bool {
        step < INITIAL_OBSERVATIONS || step.is_multiple_of(OBSERVE_EVERY)
    }

    /// Updates the moments from the convolutions of a step.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn observe(&mut self, step: u64, vars: &Vars, records: &[RecordedConv]) -> Result<()> {
        let renew = FIRST_RENEWALS.contains(&step) || step.is_multiple_of(RENEW_EVERY);
        let mut moments: BTreeMap<&str, Vec<Tensor>> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let names = names(vars, record);
            if names.is_empty() || !is_supported(record) {
                continue;
            }
            let mut rng = ChaCha8Rng::seed_from_u64(step);
            rng.set_stream(index as u64);
            let moment = moment(record, &mut rng)?;
            for name in names {
                moments.entry(name).or_default().push(moment.clone());
            }
        }
        for (name, moments) in moments {
            let moment = (Tensor::stack(&moments, 0)?.mean(0))?;
            let known = self.layers.remove(name);
            let moment = match &known {
                Some(known) => {
                    ((&known.moment * MOMENT_DECAY)? + (moment * (1.0 - MOMENT_DECAY))?)?
                }
                None => moment,
            };
            let root = match known {
                Some(known) if !renew => known.root,
                _ => {
                    let device = vars.get(name).map_or(&Device::Cpu, |var| var.device());
                    inverse_root(&moment, self.damping)?.to_device(device)?
                }
            };
            self.layers
                .insert(name.to_owned(), LayerStatistics { moment, root });
        }
        Ok(())
    }

    /// Applies `P` to the gradient of a parameter, or to an update. `None` for
    /// parameters that are not preconditioned.
    ///
    /// # Errors
    ///
    /// A computation that fails.
    pub fn apply(&self, name: &str, kernels: &Tensor) -> Result<Option<Tensor>> {
        let Some(LayerStatistics { root, .. }) = self.layers.get(name) else {
            return Ok(None);
        };
        let shape = kernels.shape();
        let elements = root.dim(0)?;
        // In a hypernetwork's matrix the elements of a kernel are the rows.
        let per_element = match shape.rank() {
            2 => shape.dims()[1],
            _ => 1,
        };
        let kernels = kernels.reshape(((), elements, per_element))?;
        let rows = kernels.transpose(1, 2)?.reshape(((), elements))?;
        let white = rows.matmul(root)?;
        let white = white.reshape(((), per_element, elements))?;
        Ok(Some(white.transpose(1, 2)?.reshape(shape)?))
    }
}

/// Parameters that are a convolution's kernels, or that have a row for each
/// of their elements, as the heads of a hypernetwork do.
fn names<'a>(vars: &'a Vars, record: &RecordedConv) -> Vec<&'a str> {
    let own = vars
        .iter()
        .find(|(_, var)| var.as_tensor().id() == record.weights.id());
    if let Some((name, _)) = own {
        return vec![name];
    }
    let elements = record.weights.elem_count();
    let makes = vars
        .iter()
        .filter(|(_, var)| var.rank() <= 2 && var.dims().first() == Some(&elements));
    makes.map(|(name, _)| name.as_str()).collect()
}

fn is_supported(record: &RecordedConv) -> bool {
    let elements = record.weights.elem_count() / record.weights.dims()[0];
    record.spec.groups == 1 && (2..=MAX_WINDOW_ELEMENTS).contains(&elements)
}

/// The mean outer product of some of a layer's windows.
fn moment(record: &RecordedConv, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let (count, channels, height, width) = record.images.dims4()?;
    let (_, _, tall, wide) = record.weights.dims4()?;
    let dilation = record.spec.dilation;
    let (reach_y, reach_x) = (dilation * (tall - 1), dilation * (wide - 1));
    ensure!(
        height > reach_y && width > reach_x,
        "the patches are smaller than the windows of a layer: whiten needs a larger patch"
    );
    let images = record.images.detach().contiguous()?;
    let images = images.flatten_all()?.to_vec1::<f32>()?;
    let elements = channels * tall * wide;
    let mut windows = Vec::with_capacity(SAMPLED_WINDOWS * elements);
    for _ in 0..SAMPLED_WINDOWS {
        let image = rng.random_range(0..count);
        let top = rng.random_range(0..height - reach_y);
        let left = rng.random_range(0..width - reach_x);
        for channel in 0..channels {
            for y in 0..tall {
                let row = (image * channels + channel) * height + top + dilation * y;
                let start = row * width + left;
                windows.extend((0..wide).map(|x| images[start + dilation * x]));
            }
        }
    }
    let windows = Tensor::from_vec(windows, (SAMPLED_WINDOWS, elements), &Device::Cpu)?;
    Ok((windows.t()?.matmul(&windows)? / SAMPLED_WINDOWS as f64)?)
}

/// `(C + damping * mean(diagonal))^(-1/2)`, scaled so that the root mean square
/// of its singular values is 1.
fn inverse_root(moment: &Tensor, damping: f64) -> Result<Tensor> {
    let n = moment.dim(0)?;
    let eye = Tensor::eye(n, DType::F64, moment.device())?;
    let norm = |x: &Tensor| -> Result<f64> { Ok(x.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?) };
    let moment = moment.to_dtype(DType::F64)?;
    let trace = (&moment * &eye)?.sum_all()?.to_scalar::<f64>()?;
    if trace <= 0.0 {
        return Ok(eye.to_dtype(DType::F32)?);
    }
    let damped = (moment + (&eye * (damping * trace / n as f64))?)?;
    let (mut root, mut inverse) = ((&damped / norm(&damped)?)?, eye.clone());
    for _ in 0..ITERATIONS {
        let step = ((&eye * 1.5)? - (inverse.matmul(&root)? * 0.5)?)?;
        root = root.matmul(&step)?;
        inverse = step.matmul(&inverse)?;
        if norm(&(step - &eye)?)? < TOLERANCE * (n as f64).sqrt() {
            break;
        }
    }
    let size = norm(&inverse)? / (n as f64).sqrt();
    ensure!(
        size.is_finite(),
        "a layer's inputs are too large or too far apart to be whitened: try a larger whiten"
    );
    Ok((inverse / size)?.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Optimizer, Settings};
    use candle_core::Var;
    use srfilter::ops::{Border, ConvSpec, conv2d, record_convs};

    /// Smooth images: every sample is most of its neighbours above and left.
    fn smooth(channels: usize) -> Tensor {
        const SIDE: usize = 24;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut samples = vec![0f32; 2 * channels * SIDE * SIDE];
        for image in samples.chunks_exact_mut(SIDE * SIDE) {
            for i in 0..image.len() {
                let left = if i % SIDE > 0 { image[i - 1] } else { 0.0 };
                let above = if i >= SIDE { image[i - SIDE] } else { 0.0 };
                let both = left.midpoint(above);
                image[i] = 0.98 * both + rng.random_range(-1.0..1.0);
            }
            for i in (0..image.len() - SIDE - 1).rev() {
                let around = image[i + 1].midpoint(image[i + SIDE]);
                image[i] = 0.9 * around + 0.1 * image[i];
            }
        }
        Tensor::from_vec(samples, (2, channels, SIDE, SIDE), &Device::Cpu).unwrap()
    }

    fn close(a: &Tensor, b: &Tensor, most: f32) {
        let apart = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        let apart = apart.to_scalar::<f32>().unwrap();
        assert!(apart < most, "{apart}");
    }

    #[test]
    fn the_root_undoes_the_moment() {
        let x = smooth(1).reshape((144, 8)).unwrap();
        let moment = x.t().unwrap().matmul(&x).unwrap();
        let root = inverse_root(&moment, 1e-3).unwrap();
        let trace = (0..8).map(|i| moment.to_vec2::<f32>().unwrap()[i][i]);
        let damping = f64::from(trace.sum::<f32>()) * 1e-3 / 8.0;
        let eye = Tensor::eye(8, DType::F32, &Device::Cpu).unwrap();
        let damped = (moment + (&eye * damping).unwrap()).unwrap();
        let unit = root.matmul(&damped).unwrap().matmul(&root).unwrap();
        let size = unit.to_vec2::<f32>().unwrap()[0][0];
        close(&(unit / f64::from(size)).unwrap(), &eye, 1e-4);
        let still = inverse_root(
            &Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap(),
            0.1,
        );
        assert_eq!(still.unwrap().to_vec2::<f32>().unwrap()[1], [0.0, 1.0, 0.0]);
    }

    /// Dilated layers and the heads of a hypernetwork are preconditioned;
    /// grouped layers and biases are not.
    #[test]
    fn layers_are_found() {
        let var = |shape: &[usize]| Var::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let vars: Vars = [
            ("a", var(&[4, 2, 3, 3])),
            ("b", var(&[4, 1, 3, 3])),
            ("head.bias", var(&[6 * 4 * 2 * 2])),
            ("head.weight", var(&[6 * 4 * 2 * 2, 5])),
            ("bias", var(&[4])),
        ]
        .map(|(name, var)| (name.to_owned(), var))
        .into();
        let spec = |dilation, groups| ConvSpec {
            border: Border::Valid,
            dilation,
            groups,
            ..ConvSpec::default()
        };
        let features = Tensor::ones((5, 1), DType::F32, &Device::Cpu).unwrap();
        let result = vars["head.weight"].matmul(&features).unwrap();
        let result = result.reshape((6, 4, 2, 2)).unwrap();
        let (done, records) = record_convs(|| {
            let x = conv2d(&smooth(2), &vars["a"], Some(&vars["bias"]), spec(2, 1))?;
            let x = conv2d(&x, &vars["b"], None, spec(1, 4))?;
            conv2d(&x, &result, None, spec(1, 1))
        });
        done.unwrap();
        assert_eq!(records.len(), 3);
        let mut preconditioner = InputPreconditioner::new(0.1);
        preconditioner.observe(0, &vars, &records).unwrap();
        let found: Vec<_> = preconditioner.layers().keys().map(String::as_str).collect();
        assert_eq!(found, ["a", "head.bias", "head.weight"]);
        assert_eq!(
            preconditioner.apply("b", &vars["b"]).unwrap().map(|_| ()),
            None
        );

        // P commutes with the linear head that generates the kernels.
        let root = &preconditioner.layers()["head.weight"].root;
        let expected = result.reshape((6, 16)).unwrap().matmul(root).unwrap();
        let parts = preconditioner.apply("head.weight", &vars["head.weight"]);
        let got = parts.unwrap().unwrap().matmul(&features).unwrap();
        close(&got.reshape((6, 16)).unwrap(), &expected, 1e-4);
    }

    /// A kernel that sharpens is found where plain Adam only finds the mean.
    #[test]
    fn fine_structure_is_learnt_sooner() {
        let images = smooth(1);
        let spec = ConvSpec {
            border: Border::Valid,
            ..ConvSpec::default()
        };
        let mut sharpens = vec![0f32; 81];
        sharpens[40] = 5.0;
        for i in [31, 39, 41, 49] {
            sharpens[i] = -1.0;
        }
        let sharpens = Tensor::from_vec(sharpens, (1, 1, 9, 9), &Device::Cpu).unwrap();
        let target = conv2d(&images, &sharpens, None, spec).unwrap();
        let loss = |whiten| {
            let var = Var::zeros((1, 1, 9, 9), DType::F32, &Device::Cpu).unwrap();
            let vars: Vars = [("w".to_owned(), var.clone())].into();
            let settings = Settings {
                whiten,
                ..Settings::default()
            };
            let mut optimizer = Optimizer::new(&vars, settings, &BTreeMap::new()).unwrap();
            let loss = || {
                let got = conv2d(&images, &var, None, spec)?;
                candle_nn::loss::mse(&got, &target)
            };
            for _ in 0..300 {
                let (result, records) = record_convs(loss);
                if optimizer.observes_next_step() {
                    optimizer.observe(&vars, &records).unwrap();
                }
                let gradients = result.unwrap().backward().unwrap();
                optimizer.step(&gradients, 0.05, 1.0).unwrap();
            }
            loss().unwrap().to_scalar::<f32>().unwrap()
        };
        let (plain, white) = (loss(None), loss(Some(1e-3)));
        assert!(white < 0.2 * plain, "{white} {plain}");
    }
}
