//! Networks of chroma, such as ArtCNN's: <https://github.com/Artoriuz/ArtCNN>.
//!
//! They take Y'CbCr of full range without subsampling, chroma around one half, and return
//! Cb and Cr of the same size. Between two matrices they are networks of RGB.

use crate::frame::Matrix;
use crate::models::graph::{Config, ConvSettings, Node, Op};
use candle_core::{Device, Result, Tensor};

/// Weights: name, type in the file, values.
type Tensors = Vec<(String, &'static str, Tensor)>;

/// The value of grey in Cb and Cr.
const GREY: f64 = 0.5;

/// Makes the graph, from Y, Cb and Cr to Cb and Cr, one from RGB to RGB. The matrix is
/// that of BT.709.
pub(super) fn on_rgb(config: &mut Config, tensors: &mut Tensors) -> Result<()> {
    let (kr, kb) = Matrix::Bt709.weights();
    let kg = 1.0 - kr - kb;
    let [red, blue] = [kr, kb].map(|weight| 2.0 * (1.0 - weight));
    let from_rgb = [
        [kr, kg, kb],
        [-kr / blue, -kg / blue, 0.5],
        [0.5, -kg / red, -kb / red],
    ];
    // Of Y, Cb and Cr as they were, and Cb and Cr of the network.
    let to_rgb = [
        [1.0, 0.0, 0.0, 0.0, red],
        [1.0, 0.0, 0.0, -blue * kb / kg, -red * kr / kg],
        [1.0, 0.0, 0.0, blue, 0.0],
    ];
    let [input, output] = [&config.input, &config.output].map(String::clone);
    let [rgb, planes, result] = ["rgb", "planes", "result"].map(|name| unused(config, name));
    let first = Planes {
        name: "ycbcr_of_rgb",
        weights: from_rgb.as_flattened(),
        bias: [0.0, GREY, GREY],
    };
    let first = first.node(config, tensors, [&rgb, &input])?;
    let concat = Node {
        name: "planes".to_owned(),
        op: Op::Concat { axis: 1 },
        inputs: vec![input, output],
        outputs: vec![planes.clone()],
    };
    let last = Planes {
        name: "rgb_of_ycbcr",
        weights: to_rgb.as_flattened(),
        bias: to_rgb.map(|[.., cb, cr]| -GREY * (cb + cr)),
    };
    let last = last.node(config, tensors, [&planes, &result])?;
    config.nodes.insert(0, first);
    config.nodes.extend([concat, last]);
    (config.input, config.output) = (rgb, result);
    Ok(())
}

/// Three planes from others: a matrix, and what is added.
struct Planes<'a> {
    name: &'a str,
    weights: &'a [f64],
    bias: [f64; 3],
}

impl Planes<'_> {
    /// As a convolution from `x` to `y`.
    fn node(&self, config: &mut Config, tensors: &mut Tensors, [x, y]: [&str; 2]) -> Result<Node> {
        let mut inputs = vec![x.to_owned()];
        let planes = self.weights.len() / 3;
        for (part, values, shape) in [
            ("weight", self.weights, vec![3, planes, 1, 1]),
            ("bias", &self.bias, vec![3]),
        ] {
            let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
            let name = unused(config, &format!("{}.{part}", self.name));
            let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?;
            config.weights.insert(name.clone(), shape);
            tensors.push((name.clone(), "F32", tensor));
            inputs.push(name);
        }
        Ok(Node {
            name: self.name.to_owned(),
            op: Op::Conv(ConvSettings::plain()),
            inputs,
            outputs: vec![y.to_owned()],
        })
    }
}

/// A name like this one that nothing of the graph has.
fn unused(config: &Config, name: &str) -> String {
    let is_used = |name: &str| {
        let values = |node: &Node| {
            let mut values = node.inputs.iter().chain(&node.outputs);
            values.any(|value| value == name)
        };
        config.weights.contains_key(name)
            || config.integers.contains_key(name)
            || config.nodes.iter().any(values)
    };
    let mut name = name.to_owned();
    while is_used(&name) {
        name.push('_');
    }
    name
}
