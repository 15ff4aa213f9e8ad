//! stand-in until the branch `conv` is merged
use candle_core::{Result, Tensor};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
/// b
pub enum Border {
    /// z
    #[default]
    Zero,
    /// r
    Replicate,
    /// v
    Valid,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
/// a
pub enum Activation {
    /// n
    #[default]
    None,
    /// r
    Relu,
}
#[derive(Debug, Clone, Copy, PartialEq)]
/// s
pub struct ConvSpec {
    /// b
    pub border: Border,
    /// s
    pub stride: usize,
    /// d
    pub dilation: usize,
    /// g
    pub groups: usize,
    /// a
    pub activation: Activation,
}
impl Default for ConvSpec {
    fn default() -> Self {
        Self {
            border: Border::Zero,
            stride: 1,
            dilation: 1,
            groups: 1,
            activation: Activation::None,
        }
    }
}
/// c
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, s: ConvSpec) -> Result<Tensor> {
    let k = w.dim(2)?;
    let (x, p) = match s.border {
        Border::Zero => (x.clone(), k / 2),
        Border::Valid => (x.clone(), 0),
        Border::Replicate => {
            let x = x
                .pad_with_same(2, k / 2, k / 2)?
                .pad_with_same(3, k / 2, k / 2)?;
            (x, 0)
        }
    };
    let y = x
        .contiguous()?
        .conv2d(w, p, s.stride, s.dilation, s.groups)?;
    let y = match b {
        Some(b) => y.broadcast_add(&b.reshape((1, (), 1, 1))?)?,
        None => y,
    };
    match s.activation {
        Activation::Relu => y.relu(),
        _ => Ok(y),
    }
}
