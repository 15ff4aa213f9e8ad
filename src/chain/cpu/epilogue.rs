//! The [`Epilogue`] of a chain on the CPU, on rows of its result.
//!
//! [`Epilogue`]: crate::chain::Epilogue

use super::io::Source;
use super::pack::PackedChain;
use crate::ops::Border;

/// A row of a plane of the result, from a column on.
pub(super) struct OutputRow {
    pub(super) plane: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

impl PackedChain {
    /// Whether the epilogue can run on a chain of that border.
    pub(super) fn epilogue_fits(&self, border: Border) -> bool {
        let residual = self.epilogue.residual_bicubic || self.epilogue.residual_nearest;
        let bicubic = self.factor() > 1 || self.residual_at_hand() || self.quantized;
        // Without padding there is nothing to enlarge.
        let nearest = border != Border::Valid;
        (!residual || self.outputs == self.planes)
            && (!self.epilogue.residual_bicubic || bicubic)
            && (!self.epilogue.residual_nearest || nearest)
    }

    /// Whether the input itself is added to the result, from the rows at hand:
    /// the whole chain is one segment then.
    pub(super) fn residual_at_hand(&self) -> bool {
        self.epilogue.residual_bicubic
            && !self.quantized
            && self.factor() == 1
            && self.layers.iter().all(|layer| layer.skip.is_none())
    }

    /// Applies the epilogue to a row. `input` are the pixels of the input, with
    /// their affine transform applied, if [`PackedChain::residual_at_hand`];
    /// `scratch` holds a row of the input.
    pub(super) fn apply_epilogue(
        &self,
        out: &OutputRow,
        line: &mut [f32],
        (source, input): (&dyn Source, Option<&[f32]>),
        scratch: &mut [f32],
    ) {
        let &OutputRow { plane, y, x } = out;
        if let Some(input) = input {
            let (scale, offset) = self.input_affine[plane];
            for (column, value) in line.iter_mut().enumerate() {
                *value += (input[column * self.planes + plane] - offset) / scale;
            }
        } else if self.epilogue.residual_bicubic && self.factor() > 1 {
            source.add_bicubic(plane, y, x..x + line.len(), line);
        } else if self.epilogue.residual_bicubic {
            let row = &mut scratch[..line.len()];
            source.row(plane, y, x..x + line.len(), row);
            line.iter_mut()
                .zip(row)
                .for_each(|(value, added)| *value += *added);
        }
        if self.epilogue.residual_nearest {
            let factor = self.factor();
            let columns = x / factor..(x + line.len()).div_ceil(factor);
            let row = &mut scratch[..columns.len()];
            source.row(plane, y / factor, columns.clone(), row);
            for (i, value) in line.iter_mut().enumerate() {
                *value += row[(x + i) / factor - columns.start];
            }
        }
        if self.epilogue.tanh {
            line.iter_mut()
                .for_each(|value| *value = libm::tanhf(*value).mul_add(0.5, 0.5));
        }
    }
}
