//! PyTorch checkpoints, as `torch.save` writes them: the zip format, and the
//! legacy format, a sequence of pickles.
//!
//! A pickle is a program. [`pickle`] interprets it without calling any function
//! it names; stated sizes are checked against the file's.

mod legacy;
mod pickle;
mod state;
mod storage;
mod zip;

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use storage::{Result, Storage, Storages, View};

/// Limit for the number of values in tensors relative to their storages, which
/// tensors may share.
const SHARING: usize = 2;

/// The format of archives that hold code and a module's tensors.
const SCRIPT: &str = "TorchScript archive";

/// The tensors of a file.
pub(super) struct Contents {
    /// The file's format, and the path of the tensors in it.
    pub(super) format: String,
    /// The keys of the dictionaries on that path.
    pub(super) path: Vec<String>,
    /// Name, type in the file, and values.
    pub(super) tensors: Vec<(String, &'static str, Tensor)>,
}

/// Reads a checkpoint. Of several networks, `key` names the preferred one.
pub(super) fn read(bytes: &[u8], key: Option<&str>) -> Result<Contents> {
    let mut zipped;
    let mut legacy;
    let (format, object, storages): (_, _, &mut dyn Storages) = match bytes {
        [b'P', b'K', ..] => {
            zipped = zip::Archive::open(bytes)?;
            let format = match zipped.is_script() {
                true => SCRIPT,
                false => "torch zip archive",
            };
            (format, zipped.object()?, &mut zipped)
        }
        _ => {
            let (object, storages) = legacy::open(bytes)?;
            legacy = storages;
            ("legacy torch pickle", object, &mut legacy)
        }
    };
    let found = match format {
        SCRIPT => state::of_script(&object)?,
        _ => state::find(&object, key)?,
    };
    let mut format = format.to_owned();
    if !found.path.is_empty() {
        format += &format!(", '{}'", found.path.join("."));
    }
    if !found.others.is_empty() {
        format += &format!(" rather than '{}'", found.others.join("', '"));
    }
    let mut budget = Budget::new(&found.views);
    let mut tensors = Vec::new();
    for (name, view) in found.views {
        let tensor = budget
            .take(&view)
            .and_then(|()| view.tensor(storages))
            .map_err(|e| format!("{name}: {e}"))?;
        tensors.push((name, view.storage.dtype.name(), tensor));
    }
    Ok(Contents {
        format,
        path: found.path,
        tensors,
    })
}

/// Number of values that may still be read: overlapping tensors could otherwise
/// expand a small file without limit.
struct Budget(usize);

impl Budget {
    fn new(views: &[(String, View)]) -> Self {
        let storages: HashMap<&str, usize> = views
            .iter()
            .map(|(_, view)| (view.storage.key.as_str(), view.storage.len))
            .collect();
        let total = storages.values().fold(0usize, |a, &b| a.saturating_add(b));
        Self(total.saturating_mul(SHARING))
    }

    fn take(&mut self, view: &View) -> Result<()> {
        let count = view.count()?;
        self.0 = self
            .0
            .checked_sub(count)
            .ok_or("it and the tensors before it have far more values than the file stores")?;
        Ok(())
    }
}

impl View {
    /// The number of values.
    fn count(&self) -> Result<usize> {
        // An empty dimension must not hide an overflow of the others.
        let mut dims = self.shape.iter().map(|&dim| dim.max(1));
        let product = dims.try_fold(1usize, usize::checked_mul);
        let product = product.ok_or_else(|| format!("its shape {:?} is too large", self.shape))?;
        Ok(if self.shape.contains(&0) { 0 } else { product })
    }

    /// Index after the last value.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let dims = self.shape.iter().zip(&self.strides);
        let last = dims
            .into_iter()
            .try_fold(self.offset, |last, (dim, stride)| {
                last.checked_add(stride.checked_mul(dim - 1)?)
            });
        last?.checked_add(1)
    }

    /// Whether the values are contiguous in the storage.
    fn is_dense(&self) -> bool {
        let mut step = 1;
        let mut dims = self.shape.iter().zip(&self.strides).rev();
        dims.all(|(&dim, &stride)| {
            let dense = dim == 1 || stride == step;
            step *= dim;
            dense
        })
    }

    /// Index in the storage of value `i` of the tensor.
    fn index(&self, mut i: usize) -> usize {
        let dims = self.shape.iter().zip(&self.strides).rev();
        dims.fold(self.offset, |at, (&dim, &stride)| {
            let along = i % dim;
            i /= dim;
            at + along * stride
        })
    }

    fn tensor(&self, storages: &mut dyn Storages) -> Result<Tensor> {
        let count = self.count()?;
        let Storage { dtype, len, .. } = self.storage;
        let end = self.end().filter(|&end| end <= len);
        let end = end.ok_or_else(|| {
            format!(
                "its shape {:?} exceeds its storage of {len} values",
                self.shape,
            )
        })?;
        let bytes = storages.bytes(&self.storage)?;
        let size = dtype.size();
        let values = if count == 0 || self.is_dense() {
            dtype.values(&bytes[self.offset * size..end * size])
        } else {
            let mut gathered = Vec::with_capacity(count * size);
            for i in 0..count {
                let at = self.index(i);
                gathered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
            }
            dtype.values(&gathered)
        };
        Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu).map_err(|e| e.to_string())
    }
}
