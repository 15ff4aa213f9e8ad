//! The [`Epilogue`] of a chain on a GPU, which `epilogue.cuh` computes.

use super::builder::{Builder, Planes};
use crate::chain::Epilogue;
use crate::frame::resample::Resampler;
use crate::ops::cuda::EpilogueArgs;
use crate::tensor_error::Result;

/// What the last layer's launch takes to compute the planes `output`, values up to
/// `limit`, from the planes `input`, `factor` times as wide.
///
/// # Errors
///
/// No memory left.
pub(super) fn epilogue_args(
    epilogue: Epilogue,
    builder: &mut Builder,
    (input, output): (Planes, Planes),
    factor: usize,
    limit: f32,
) -> Result<EpilogueArgs> {
    let residual = match (epilogue.residual_bicubic, factor) {
        (false, _) => 0,
        (true, 1) => input.address,
        (true, _) => {
            let resize = Resampler::resize(input.size, output.size);
            builder.resample(&resize, input)?.address
        }
    };
    Ok(EpilogueArgs {
        residual,
        nearest: if epilogue.residual_nearest {
            input.address
        } else {
            0
        },
        nearest_factor: factor as i32,
        tanh: epilogue.tanh.into(),
        limit,
    })
}
