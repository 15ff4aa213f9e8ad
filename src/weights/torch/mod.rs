//! Checkpoints of PyTorch: what `torch.save` writes, in its zip form and in
//! the older one of pickles after each other.
//!
//! A pickle is a program. [`pickle`] follows it without running anything it
//! names; sizes that a file states are held against what it really has.

mod kind;
mod legacy;
mod pickle;
mod state;
mod storage;
mod zip;

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use storage::{Result, Storage, Storages, View};

/// How many times more values the tensors may have than the storages behind
/// them: some share one.
const SHARING: usize = 2;

/// The tensors of a file.
pub(super) struct Contents {
    /// Its form, and where in it the tensors were.
    pub(super) form: String,
    /// Name, type in the file, and values.
    pub(super) tensors: Vec<(String, &'static str, Tensor)>,
}

/// Whether bytes begin as the files that [`read`] reads.
pub(super) fn begins(bytes: &[u8]) -> bool {
    // The length of a safetensors header, which may begin like a pickle.
    let header = matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..]);
    !header && matches!(bytes, [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..])
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Result<Contents> {
    let mut zipped;
    let mut plain;
    let (form, object, storages): (_, _, &mut dyn Storages) = match bytes {
        [b'P', b'K', ..] => {
            zipped = zip::Archive::open(bytes)?;
            ("torch zip archive", zipped.object()?, &mut zipped)
        }
        _ => {
            let (object, storages) = legacy::open(bytes)?;
            plain = storages;
            ("legacy torch pickle", object, &mut plain)
        }
    };
    let found = state::find(&object)?;
    let form = match found.path.is_empty() {
        true => form.to_owned(),
        false => format!("{form}, '{}'", found.path.join(".")),
    };
    let mut budget = Budget::new(&found.views);
    let mut tensors = Vec::new();
    for (name, view) in found.views {
        let tensor = budget
            .take(&view)
            .and_then(|()| view.tensor(storages))
            .map_err(|e| format!("{name}: {e}"))?;
        tensors.push((name, view.storage.kind.name(), tensor));
    }
    Ok(Contents { form, tensors })
}

/// How many values there may still be: tensors that overlap would otherwise
/// make much of little.
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
        // Empty sides do not make the others right.
        let mut sides = self.shape.iter().map(|&side| side.max(1));
        let product = sides.try_fold(1usize, usize::checked_mul);
        let product = product.ok_or_else(|| format!("its shape {:?} is absurd", self.shape))?;
        Ok(if self.shape.contains(&0) { 0 } else { product })
    }

    /// One beyond the last value.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let sides = self.shape.iter().zip(&self.strides);
        let last = sides
            .into_iter()
            .try_fold(self.offset, |last, (side, stride)| {
                last.checked_add(stride.checked_mul(side - 1)?)
            });
        last?.checked_add(1)
    }

    /// Whether the values follow each other in the storage.
    fn is_dense(&self) -> bool {
        let mut step = 1;
        let mut sides = self.shape.iter().zip(&self.strides).rev();
        sides.all(|(&side, &stride)| {
            let fits = side == 1 || stride == step;
            step *= side;
            fits
        })
    }

    /// Where in the storage value `i` of the tensor is.
    fn place(&self, mut i: usize) -> usize {
        let sides = self.shape.iter().zip(&self.strides).rev();
        sides.fold(self.offset, |at, (&side, &stride)| {
            let along = i % side;
            i /= side;
            at + along * stride
        })
    }

    fn tensor(&self, storages: &mut dyn Storages) -> Result<Tensor> {
        let count = self.count()?;
        let Storage { kind, len, .. } = self.storage;
        let end = self.end().filter(|&end| end <= len);
        let end = end.ok_or_else(|| {
            format!(
                "its values lie beyond the {len} that are stored ({:?})",
                self.shape
            )
        })?;
        let bytes = storages.bytes(&self.storage)?;
        let size = kind.size();
        let values = if count == 0 || self.is_dense() {
            kind.values(&bytes[self.offset * size..end * size])
        } else {
            let mut gathered = Vec::with_capacity(count * size);
            for i in 0..count {
                let at = self.place(i);
                gathered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
            }
            kind.values(&gathered)
        };
        Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu).map_err(|e| e.to_string())
    }
}
