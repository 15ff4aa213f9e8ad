//! Constant integers of a graph: sizes, axes and the like.

use candle_core::{Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// Most values that a tensor may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(usize);

impl Limit {
    /// For a run on an input of so many values.
    pub(super) fn of_input(values: usize) -> Self {
        const FEWEST: usize = 1 << 24;
        const TIMES: usize = 1 << 12;
        Self(values.saturating_mul(TIMES).saturating_add(FEWEST))
    }

    /// Refuses a shape that is too large for any network.
    pub(super) fn check(self, shape: &[usize]) -> Result<()> {
        let count = shape
            .iter()
            .try_fold(1usize, |all, &side| all.checked_mul(side));
        match count.is_some_and(|count| count <= self.0) {
            true => Ok(()),
            false => bail!("a tensor of {shape:?} would be too large"),
        }
    }
}

/// A tensor of integers, written as `shape: values`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Integers {
    shape: Vec<usize>,
    values: Vec<i64>,
}

impl Integers {
    /// Values in rows; `None` if they do not fill the shape. Beyond 31 bits they are
    /// clamped: what large numbers stand for in graphs is the end of an axis.
    pub fn new(shape: Vec<usize>, mut values: Vec<i64>) -> Option<Self> {
        const MOST: i64 = i32::MAX as i64;
        let count = shape
            .iter()
            .try_fold(1usize, |all, &side| all.checked_mul(side));
        values
            .iter_mut()
            .for_each(|value| *value = (*value).clamp(-MOST, MOST));
        (count == Some(values.len())).then_some(Self { shape, values })
    }

    /// The first value.
    pub fn first(&self) -> Option<i64> {
        self.values.first().copied()
    }

    /// The lengths of its axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// In rows.
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// As a tensor on the CPU.
    pub(super) fn tensor(&self) -> Result<Tensor> {
        Tensor::from_slice(&self.values, self.shape.as_slice(), &Device::Cpu)
    }
}

impl From<Integers> for String {
    fn from(integers: Integers) -> Self {
        let words = |numbers: Vec<String>| numbers.join(" ");
        format!(
            "{}:{}",
            words(integers.shape.iter().map(usize::to_string).collect()),
            words(integers.values.iter().map(i64::to_string).collect())
        )
    }
}

impl TryFrom<String> for Integers {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let parse = || {
            let (shape, values) = text.split_once(':')?;
            let shape = shape.split_whitespace().map(|word| word.parse().ok());
            let values = values.split_whitespace().map(|word| word.parse().ok());
            Self::new(
                shape.collect::<Option<_>>()?,
                values.collect::<Option<_>>()?,
            )
        };
        parse().ok_or_else(|| format!("expected \"shape: values\", found \"{text}\""))
    }
}

/// The integers of a tensor.
pub(super) fn integers(tensor: &Tensor) -> Result<Vec<i64>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_writing() {
        for (shape, values) in [
            (vec![], vec![7]),
            (vec![2, 2], vec![1, -1, 0, i64::MAX]),
            (vec![0], vec![]),
        ] {
            let integers = Integers::new(shape, values).unwrap();
            let text = String::from(integers.clone());
            assert_eq!(Integers::try_from(text).unwrap(), integers);
        }
        for text in ["", "2:1", "1:x", "a:1"] {
            assert!(Integers::try_from(text.to_owned()).is_err());
        }
    }
}
