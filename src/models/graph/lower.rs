//! Operations in the form that runs fastest.

use super::config::{Config, ConvSettings, Node, Op};
use candle_core::{Result, Tensor};
use std::collections::HashMap;

/// Largest stride of a transposed convolution that becomes a pixel shuffle: the largest
/// factor of a graph.
const MAX_STRIDE: usize = 16;

/// The graph with its transposed convolutions as convolutions and pixel shuffles, where
/// they enlarge by their stride.
pub(super) fn lowered(config: &Config, weights: &mut HashMap<String, Tensor>) -> Result<Config> {
    let mut nodes = Vec::with_capacity(config.nodes.len());
    for node in &config.nodes {
        match pair(node, weights)? {
            Some(pair) => nodes.extend(pair),
            None => nodes.push(node.clone()),
        }
    }
    Ok(Config {
        nodes,
        ..config.clone()
    })
}

/// The convolution and the pixel shuffle for a node; `None` if it is none of them.
fn pair(node: &Node, weights: &mut HashMap<String, Tensor>) -> Result<Option<[Node; 2]>> {
    let (Op::ConvTranspose(settings), [x, kernels, bias @ ..], [output]) =
        (&node.op, node.inputs.as_slice(), node.outputs.as_slice())
    else {
        return Ok(None);
    };
    let bias = bias.first().filter(|name| !name.is_empty());
    let constant = bias.map(|name| weights.get(name));
    let (Some(kernels), false) = (weights.get(kernels), matches!(constant, Some(None))) else {
        return Ok(None);
    };
    let Some(shuffled) = Shuffled::of(kernels, constant.flatten(), settings)? else {
        return Ok(None);
    };
    let half = shuffled.weights.dim(3)? / 2;
    // Names in files hold no zero bytes.
    let name = |what: &str| format!("{output}\0{what}");
    let conv = Node {
        name: node.name.clone(),
        op: Op::Conv(ConvSettings {
            strides: [1, 1],
            pads: [half; 4],
            output_padding: [0, 0],
            ..settings.clone()
        }),
        inputs: [x.clone(), name("weights")]
            .into_iter()
            .chain(bias.map(|_| name("bias")))
            .collect(),
        outputs: vec![name("channels")],
    };
    let shuffle = Node {
        name: node.name.clone(),
        op: Op::DepthToSpace {
            block: shuffled.stride,
            columns_first: true,
        },
        inputs: conv.outputs.clone(),
        outputs: node.outputs.clone(),
    };
    weights.insert(name("weights"), shuffled.weights);
    weights.extend(shuffled.bias.map(|bias| (name("bias"), bias)));
    Ok(Some([conv, shuffle]))
}

/// A transposed convolution that enlarges by its stride, as a convolution whose
/// channels a pixel shuffle by that stride moves into squares, with its bias.
struct Shuffled {
    weights: Tensor,
    bias: Option<Tensor>,
    stride: usize,
}

impl Shuffled {
    /// `None` if it is of another form.
    fn of(
        weights: &Tensor,
        bias: Option<&Tensor>,
        settings: &ConvSettings,
    ) -> Result<Option<Self>> {
        let (inputs, outputs, rows, columns) = weights.dims4()?;
        let ([stride, across], [pad, ..]) = (settings.strides, settings.pads);
        let [more, more_across] = settings.output_padding;
        let alike = rows == columns && stride == across && settings.pads == [pad; 4];
        let plain = settings.group == 1 && settings.dilations == [1, 1] && settings.same.is_none();
        let enlarges = more == more_across && rows + more == stride + 2 * pad && rows > 0;
        // The kernels are then as large as the weights, about.
        let small = stride <= MAX_STRIDE && more < stride;
        if !alike || !plain || !enlarges || !small {
            return Ok(None);
        }
        // Tap t of phase r of a square reads the sample (r + pad - t) / stride further.
        let taps = |phase: usize| {
            let taps = ((phase + pad) % stride..rows).step_by(stride);
            taps.map(move |tap| {
                let further = (phase + pad) as i64 - tap as i64;
                (tap, further / stride as i64)
            })
        };
        let half = (0..stride)
            .flat_map(taps)
            .map(|(_, d)| d.unsigned_abs() as usize)
            .max();
        let Some(half) = half else {
            return Ok(None);
        };
        let side = 2 * half + 1;
        let values = weights.flatten_all()?.to_vec1::<f32>()?;
        let mut kernels = vec![0f32; outputs * stride * stride * inputs * side * side];
        let phases = (0..stride * stride).map(|i| (i / stride, i % stride));
        for (phase, (down, across)) in phases.enumerate() {
            for ((y, dy), (x, dx)) in taps(down).flat_map(|y| taps(across).map(move |x| (y, x))) {
                let place = (half as i64 + dy) as usize * side + (half as i64 + dx) as usize;
                for output in 0..outputs {
                    for input in 0..inputs {
                        let channel = output * stride * stride + phase;
                        kernels[(channel * inputs + input) * side * side + place] =
                            values[((input * outputs + output) * rows + y) * columns + x];
                    }
                }
            }
        }
        let shape = (outputs * stride * stride, inputs, side, side);
        let repeated = |bias: &Tensor| {
            let bias = bias.reshape((outputs, 1))?;
            bias.broadcast_as((outputs, stride * stride))?.flatten_all()
        };
        Ok(Some(Self {
            weights: Tensor::from_vec(kernels, shape, weights.device())?,
            bias: bias.map(repeated).transpose()?,
            stride,
        }))
    }
}
