//! What a failure of the GPU means.

use candle_core::Error;
use candle_core::cuda_backend::CudaError;
#[cfg(feature = "cudnn")]
use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, sys::cudnnStatus_t as Cudnn};
use candle_core::cuda_backend::cudarc::{
    cublas::sys::cublasStatus_t, curand::sys::curandStatus, driver::sys::CUresult,
};
use std::error::Error as StdError;

/// Whether an error says that the GPU has too little memory.
pub(crate) fn is_out_of_memory(error: &Error) -> bool {
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => {
            is_out_of_memory(inner)
        }
        Error::Cuda(error) => out_of_memory(&**error),
        _ => false,
    }
}

/// An error of cuDNN with its status.
#[cfg(feature = "cudnn")]
pub(super) fn cudnn_error(error: CudnnError) -> Error {
    Error::Cuda(Box::new(error))
}

/// Whether cuDNN says that it does not do what was asked for: statuses 3000 to
/// 3999 (cuDNN 9, `cudnnStatus_t`).
#[cfg(feature = "cudnn")]
pub(super) fn is_unsupported(error: &Error) -> bool {
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => is_unsupported(inner),
        Error::Cuda(error) => (error.downcast_ref::<CudnnError>())
            .is_some_and(|&CudnnError(status)| (3000..4000).contains(&(status as u32))),
        _ => false,
    }
}

fn out_of_memory(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    #[cfg(feature = "cudnn")]
    if let Some(CudnnError(status)) = error.downcast_ref::<CudnnError>() {
        return matches!(
            *status,
            Cudnn::CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED
                | Cudnn::CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
        );
    }
    match error.downcast_ref::<CudaError>() {
        Some(CudaError::Cuda(error) | CudaError::Load { cuda: error, .. }) => {
            error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
        }
        Some(CudaError::Cublas(error)) => error.0 == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED,
        Some(CudaError::Curand(error)) => error.0 == curandStatus::CURAND_STATUS_ALLOCATION_FAILED,
        _ => false,
    }
}
