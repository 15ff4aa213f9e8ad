//! Convolutions of a graph by Winograd's minimal filtering, each as a chain of one layer.

use super::config::{Config, Op};
use super::value::Limit;
use crate::chain::{Chain, ChainExecutor, ChainLayer, ChainOptions, PackedChain};
use crate::nn::Conv;
use crate::ops::cpu::pixels::GROUP;
use crate::ops::{self, Border, ConvSpec};
use candle_core::{DType, Device, Result, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Side of the kernels.
const KERNEL: usize = 3;

/// Channels in and out from which on it is worth to bring them together.
const FEWEST: (usize, usize) = (32, 3);

/// Samples of a plane from which on packing the weights is worth it: not for the trial of a
/// file that is opened.
const SMALLEST: usize = 1 << 11;

/// The convolutions of a graph that run this way, by the names of their results. Their weights
/// take seven times their memory, from the first image on.
#[derive(Debug, Default)]
pub(super) struct PackedConvs {
    convs: HashMap<String, OnceLock<Option<Arc<PackedChain>>>>,
    /// Memory of the last ones' threads, for each image at a time.
    spare: Mutex<Vec<Vec<Vec<f32>>>>,
}

impl PackedConvs {
    /// Those of a graph on the CPU.
    pub(super) fn of(config: &Config, weights: &HashMap<String, Tensor>) -> Self {
        let is_large = |name: &String| {
            let weights = weights.get(name).filter(|weights| is_plain(weights));
            weights
                .and_then(|weights| weights.dims4().ok())
                .is_some_and(|(outputs, inputs, rows, columns)| {
                    let many = inputs.is_multiple_of(GROUP) && inputs >= FEWEST.0;
                    many && outputs >= FEWEST.1 && (rows, columns) == (KERNEL, KERNEL)
                })
        };
        let results = config.nodes.iter().filter_map(|node| {
            let Op::Conv(settings) = &node.op else {
                return None;
            };
            let fits = settings.strides == [1, 1]
                && settings.dilations == [1, 1]
                && settings.group == 1
                && settings.border([KERNEL, KERNEL]) == Some(Border::Zero)
                && node.inputs.get(1).is_some_and(is_large);
            node.outputs.first().filter(|_| fits).cloned()
        });
        Self {
            convs: results.map(|name| (name, OnceLock::new())).collect(),
            spare: Mutex::default(),
        }
    }

    /// Whether none runs this way.
    pub(super) fn is_empty(&self) -> bool {
        self.convs.is_empty()
    }

    /// The result of that name: the convolution of one image, whose channels may lie in several
    /// tensors; `None` if it does not run this way.
    ///
    /// # Errors
    ///
    /// A result beyond the limit, an instruction set that this machine lacks, tensors that
    /// cannot be read.
    pub(super) fn conv(
        &self,
        result: &str,
        parts: &[Tensor],
        (weights, bias): (&Tensor, Option<&Tensor>),
        limit: Limit,
    ) -> Result<Option<Tensor>> {
        let (Some(packed), Some(first)) = (self.convs.get(result), parts.first()) else {
            return Ok(None);
        };
        let (batch, _, height, width) = first.dims4()?;
        let alike = |part: &Tensor| match part.dims() {
            &[1, _, rows, columns] => (rows, columns) == (height, width) && is_plain(part),
            _ => false,
        };
        let (outputs, inputs, ..) = weights.dims4()?;
        let channels: usize = parts.iter().filter_map(|part| part.dim(1).ok()).sum();
        let is_image = batch == 1 && height * width >= SMALLEST && channels == inputs;
        if !is_image || !parts.iter().all(alike) {
            return Ok(None);
        }
        limit.check(&[1, outputs, height, width])?;
        let packed = match packed.get() {
            Some(packed) => packed,
            None => {
                let chain = pack(weights, bias)?;
                packed.get_or_init(|| chain)
            }
        };
        let Some(packed) = packed else {
            return Ok(None);
        };
        let run = |values: &[&[f32]]| -> crate::Result<Vec<f32>> {
            // Those of the pool that this runs in.
            let options = ChainOptions {
                threads: rayon::current_num_threads(),
                ..ChainOptions::default()
            };
            let spare = self.spare().pop().unwrap_or_default();
            let size = (width, height);
            let packed = Arc::clone(packed);
            let mut executor = ChainExecutor::with_workspaces(packed, size, &options, spare)?;
            let area = height * width;
            let planes: Vec<_> = values.iter().flat_map(|v| v.chunks_exact(area)).collect();
            let mut result = vec![0.0; outputs * area];
            let mut rows: Vec<_> = result.chunks_exact_mut(area).collect();
            executor.run(&planes, &mut rows)?;
            self.spare().push(executor.into_workspaces());
            Ok(result)
        };
        let parts: Vec<_> = parts.iter().collect();
        let result = ops::with_all(&parts, run)?.map_err(candle_core::Error::wrap)?;
        Tensor::from_vec(result, (1, outputs, height, width), &Device::Cpu).map(Some)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<Vec<f32>>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a tensor lies on the CPU in `f32`, and nothing is learnt.
fn is_plain(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !tensor.track_op()
}

/// A convolution as a chain; `None` if the plan does not cover it.
fn pack(weights: &Tensor, bias: Option<&Tensor>) -> Result<Option<Arc<PackedChain>>> {
    let layer = ChainLayer::from(Conv {
        weight: weights.clone(),
        bias: bias.cloned(),
        spec: ConvSpec {
            border: Border::Zero,
            ..ConvSpec::default()
        },
    });
    let chain = Chain {
        layers: vec![layer],
        ..Chain::default()
    };
    let packed = PackedChain::of_chain(&chain).map_err(candle_core::Error::wrap)?;
    Ok(packed.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use crate::models::Channels;
    use crate::models::graph::{Builder, Graph};
    use crate::ops::{ConvSpec, conv2d};
    use candle_core::{DType, Device, Tensor};
    use candle_nn::VarBuilder;
    use std::collections::HashMap;

    /// Names, channels in and out; the first one has too few for the plan.
    const CONVS: [(&str, usize, usize); 4] =
        [("a", 3, 32), ("b", 32, 48), ("c", 80, 32), ("d", 32, 3)];

    fn noise(shape: &[usize], seed: usize, scale: f32) -> Tensor {
        let value = |i: usize| ((i * 7919 + seed * 31) % 1009) as f32 / 1009.0 - 0.5;
        let values = (0..shape.iter().product()).map(|i| scale * value(i));
        Tensor::from_iter(values, &Device::Cpu)
            .unwrap()
            .reshape(shape)
            .unwrap()
    }

    fn tensors() -> HashMap<String, Tensor> {
        let tensors = CONVS
            .iter()
            .enumerate()
            .flat_map(|(i, &(name, inputs, outputs))| {
                let scale = (12.0 / (9 * inputs) as f32).sqrt();
                [
                    (
                        format!("{name}.weight"),
                        noise(&[outputs, inputs, 3, 3], i, scale),
                    ),
                    (format!("{name}.bias"), noise(&[outputs], i + 9, 0.1)),
                ]
            });
        tensors.collect()
    }

    /// The third convolution takes the results of the first two.
    fn graph() -> Graph {
        let vb = VarBuilder::from_tensors(tensors(), DType::F32, &Device::Cpu);
        let mut b = Builder::new(&vb, Channels::Rgb);
        let x = b.input();
        let first = b.conv(&x, "a", 32).unwrap();
        let second = b.conv(&first, "b", 48).unwrap();
        let both = b.concat(&[&first, &second]);
        let third = b.conv(&both, "c", 32).unwrap();
        let y = b.conv(&third, "d", 3).unwrap();
        b.finish(&y).unwrap()
    }

    #[test]
    fn convolutions_are_those_of_the_operations() {
        let (graph, tensors) = (graph(), tensors());
        assert_eq!(graph.packed.convs.len(), 3);
        let conv = |x: &Tensor, name: &str| {
            let [weights, bias] =
                ["weight", "bias"].map(|part| &tensors[&format!("{name}.{part}")]);
            conv2d(x, weights, Some(bias), ConvSpec::default()).unwrap()
        };
        for (height, width) in [(41, 50), (130, 29), (1, 2100), (13, 29)] {
            let x = noise(&[1, 3, height, width], 5, 1.0);
            let first = conv(&x, "a");
            let both = Tensor::cat(&[&first, &conv(&first, "b")], 1).unwrap();
            let expected = conv(&conv(&both, "c"), "d");
            let (result, _) = graph.run(&x).unwrap();
            assert_eq!(result.dims(), expected.dims());
            let off = (result - &expected).unwrap().abs().unwrap();
            let [off, largest] = [off, expected.abs().unwrap()]
                .map(|x| x.max_all().unwrap().to_scalar::<f32>().unwrap());
            assert!(off < 3e-5 * largest, "{height}x{width}: {off} of {largest}");
        }
        let packed = graph.packed.convs.values();
        assert!(
            packed
                .into_iter()
                .all(|packed| matches!(packed.get(), Some(Some(_))))
        );
    }

    #[test]
    fn results_do_not_depend_on_the_threads() {
        let x = noise(&[1, 3, 70, 90], 5, 1.0);
        let bits = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let (result, _) = pool.unwrap().install(|| graph().run(&x).unwrap());
            let values = result.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert!([2, 3].iter().all(|&threads| bits(threads) == one));
    }
}
