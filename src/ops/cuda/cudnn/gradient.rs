//! Gradients of a convolution by cuDNN.

use super::handle::{Handle, ONE, Plan, ZERO, pointer};
use super::report::{AlgorithmCode, AlgorithmReport, DATA_ALGORITHMS, FILTER_ALGORITHMS};
use crate::ops::cuda::errors::cudnn_error;
use crate::ops::cuda::layers::{self, DeviceSlice};
use crate::ops::spec::ConvGeometry;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{CudaStorage, DType, Error, Result, Shape, Tensor};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::from_ref;

/// The largest workspace of an algorithm, in bytes.
const MAX_WORKSPACE: usize = 1 << 30;

/// Reports that cuDNN returns for a direction, at most: some algorithms have
/// several, for different units of the GPU.
const MAX_REPORTS: usize = 16;

type CudnnResult<T> = std::result::Result<T, result::CudnnError>;

/// The operands of a gradient in device memory.
pub(super) struct Operands {
    /// The other factor: weights for the gradient of images, and images for
    /// that of weights.
    factor: *const c_void,
    grad: *const c_void,
    output: *mut c_void,
}

/// A gradient that cuDNN computes.
///
/// # Safety
///
/// *Described tensors*, for all functions: the plan's descriptors are alive,
/// memory is as large as they say, and lives until the stream has reached the
/// call.
pub(super) trait Gradient {
    type Algorithm: Copy + AlgorithmCode + 'static;

    /// Of what, for errors.
    const OF: &str;
    const KNOWN: &[Self::Algorithm];
    /// Deterministic, and works for all convolutions.
    const FALLBACK: Self::Algorithm;

    /// The cached algorithm and bytes of its workspace.
    fn chosen(plan: &Plan) -> &Cell<Option<(Self::Algorithm, usize)>>;

    /// Writes up to [`MAX_REPORTS`] reports, the fastest first, and their count.
    unsafe fn find(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        count: &mut c_int,
        reports: &mut [AlgorithmReport; MAX_REPORTS],
    ) -> CudnnResult<()>;

    unsafe fn workspace_size(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        algorithm: Self::Algorithm,
    ) -> CudnnResult<usize>;

    unsafe fn run(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        algorithm: Self::Algorithm,
        operands: &Operands,
        workspace: (*mut c_void, usize),
    ) -> CudnnResult<()>;
}

/// A gradient of that shape; `factor` as in [`Operands`], `grad` that of the
/// output.
pub(super) fn gradient<G: Gradient>(
    (geometry, exact): (&ConvGeometry, bool),
    factor: &Tensor,
    grad: &Tensor,
    shape: Shape,
) -> Result<Tensor> {
    let device = grad.device().as_cuda_device()?;
    // SAFETY: cuDNN writes all of it.
    let output = unsafe { device.alloc::<f32>(shape.elem_count())? };
    let (factor, grad) = (
        DeviceSlice::of_tensor(factor)?,
        DeviceSlice::of_tensor(grad)?,
    );
    let operands = Operands {
        factor: factor.pointer(),
        grad: grad.pointer(),
        output: pointer(&output),
    };
    Handle::with(
        device,
        (geometry, DType::F32, exact),
        |handle, plan, workspace| {
            let (algorithm, bytes) = match G::chosen(plan).get() {
                Some(chosen) => chosen,
                None => {
                    let chosen = choose::<G>(handle, plan)?.ok_or_else(|| {
                        let of = G::OF;
                        Error::Msg(format!(
                            "cuDNN has no algorithm for the gradient of the {of} of {geometry:?}"
                        ))
                    })?;
                    G::chosen(plan).set(Some(chosen));
                    chosen
                }
            };
            let memory = workspace.reserve(device, bytes)?;
            // SAFETY: described tensors.
            unsafe { G::run(handle, plan, algorithm, &operands, (memory, bytes)) }
                .map_err(cudnn_error)
        },
    )?;
    Ok(layers::tensor(
        CudaStorage::wrap_cuda_slice(output, device.clone()),
        shape,
    ))
}

/// The fastest usable algorithm of a workspace that is not too large, and the
/// bytes of it: those for this geometry, because reports may be on others.
fn choose<G: Gradient>(
    handle: sys::cudnnHandle_t,
    plan: &Plan,
) -> Result<Option<(G::Algorithm, usize)>> {
    let (mut count, mut reports) = (0, [AlgorithmReport::default(); MAX_REPORTS]);
    // SAFETY: described tensors.
    unsafe { G::find(handle, plan, &mut count, &mut reports) }.map_err(cudnn_error)?;
    let reports = reports.iter().take(count.max(0) as usize);
    let usable = reports.filter_map(|report| report.usable(G::KNOWN));
    let mut sized = usable.chain([G::FALLBACK]).filter_map(|algorithm| {
        // SAFETY: described tensors.
        let bytes = unsafe { G::workspace_size(handle, plan, algorithm) };
        Some((algorithm, bytes.ok()?))
    });
    Ok(sized.find(|&(_, bytes)| bytes <= MAX_WORKSPACE))
}

/// The gradient of the images, (N, Ci, H, W).
pub(super) struct ImageGradient;

impl Gradient for ImageGradient {
    type Algorithm = sys::cudnnConvolutionBwdDataAlgo_t;

    const OF: &str = "images";
    const KNOWN: &[Self::Algorithm] = &DATA_ALGORITHMS;
    const FALLBACK: Self::Algorithm = Self::Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;

    fn chosen(plan: &Plan) -> &Cell<Option<(Self::Algorithm, usize)>> {
        &plan.of_images
    }

    unsafe fn find(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        count: &mut c_int,
        reports: &mut [AlgorithmReport; MAX_REPORTS],
    ) -> CudnnResult<()> {
        let (limit, reports) = (MAX_REPORTS as c_int, reports.as_mut_ptr().cast());
        // SAFETY: described tensors; reports have the layout of cuDNN's.
        unsafe {
            result::get_convolution_backward_data_algorithm(
                handle, plan.w, plan.y, plan.conv, plan.x, limit, count, reports,
            )
        }
    }

    unsafe fn workspace_size(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        algorithm: Self::Algorithm,
    ) -> CudnnResult<usize> {
        // SAFETY: described tensors.
        unsafe {
            result::get_convolution_backward_data_workspace_size(
                handle, plan.w, plan.y, plan.conv, plan.x, algorithm,
            )
        }
    }

    unsafe fn run(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        algorithm: Self::Algorithm,
        operands: &Operands,
        (memory, bytes): (*mut c_void, usize),
    ) -> CudnnResult<()> {
        // SAFETY: described tensors.
        unsafe {
            result::convolution_backward_data(
                handle,
                from_ref(&ONE).cast(),
                plan.w,
                operands.factor,
                plan.y,
                operands.grad,
                plan.conv,
                algorithm,
                memory,
                bytes,
                from_ref(&ZERO).cast(),
                plan.x,
                operands.output,
            )
        }
    }
}

/// The gradient of the weights, (Co, Ci / groups, Kh, Kw).
pub(super) struct WeightGradient;

impl Gradient for WeightGradient {
    type Algorithm = sys::cudnnConvolutionBwdFilterAlgo_t;

    const OF: &str = "weights";
    const KNOWN: &[Self::Algorithm] = &FILTER_ALGORITHMS;
    const FALLBACK: Self::Algorithm = Self::Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;

    fn chosen(plan: &Plan) -> &Cell<Option<(Self::Algorithm, usize)>> {
        &plan.of_weights
    }

    unsafe fn find(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        count: &mut c_int,
        reports: &mut [AlgorithmReport; MAX_REPORTS],
    ) -> CudnnResult<()> {
        let (limit, reports) = (MAX_REPORTS as c_int, reports.as_mut_ptr().cast());
        // SAFETY: described tensors; reports have the layout of cuDNN's.
        unsafe {
            result::get_convolution_backward_filter_algorithm(
                handle, plan.x, plan.y, plan.conv, plan.w, limit, count, reports,
            )
        }
    }

    unsafe fn workspace_size(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        algorithm: Self::Algorithm,
    ) -> CudnnResult<usize> {
        // SAFETY: described tensors.
        unsafe {
            result::get_convolution_backward_filter_workspace_size(
                handle, plan.x, plan.y, plan.conv, plan.w, algorithm,
            )
        }
    }

    unsafe fn run(
        handle: sys::cudnnHandle_t,
        plan: &Plan,
        algorithm: Self::Algorithm,
        operands: &Operands,
        (memory, bytes): (*mut c_void, usize),
    ) -> CudnnResult<()> {
        // SAFETY: described tensors.
        unsafe {
            result::convolution_backward_filter(
                handle,
                from_ref(&ONE).cast(),
                plan.x,
                operands.factor,
                plan.y,
                operands.grad,
                plan.conv,
                algorithm,
                memory,
                bytes,
                from_ref(&ZERO).cast(),
                plan.w,
                operands.output,
            )
        }
    }
}
