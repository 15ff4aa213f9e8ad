//! The functions that candle's CUDA backend can reach, each a jump through a
//! slot.

use std::ffi::c_int;
use std::sync::atomic::{AtomicPtr, Ordering};

/// `CUDA_ERROR_NO_DEVICE`; the other libraries' codes of the same value mean
/// errors, too.
const NO_DEVICE: c_int = 100;

/// What slots hold until the libraries are found.
extern "C" fn missing() -> c_int {
    NO_DEVICE
}

/// The library that a function is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Cuda,
    Cublas,
    CublasLt,
    Curand,
    Cudnn,
}

/// A function that stands in for one of a library.
pub(crate) struct Stub {
    pub(crate) origin: Origin,
    pub(crate) name: &'static str,
    slot: &'static AtomicPtr<()>,
}

impl Stub {
    /// Lets it jump to the function itself from now on.
    pub(crate) fn fill(&self, function: *mut std::ffi::c_void) {
        self.slot.store(function.cast(), Ordering::Relaxed);
    }
}

/// A jump to where a slot points, with every argument as it came.
#[cfg(target_arch = "x86_64")]
macro_rules! code {
    () => {
        "endbr64\njmp qword ptr [rip + {slot}]"
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! code {
    () => {
        // Where a call may land (bti c), then the jump.
        "hint #34\nadrp x16, {slot}\nldr x16, [x16, :lo12:{slot}]\nbr x16"
    };
}

/// Defines a hidden function that jumps through a slot.
macro_rules! jump {
    ($name:ident) => {
        std::arch::global_asm!(
            ".text",
            ".p2align 4",
            concat!(".hidden ", stringify!($name)),
            concat!(".globl ", stringify!($name)),
            concat!(".type ", stringify!($name), ", %function"),
            concat!(stringify!($name), ":"),
            code!(),
            slot = sym slots::$name,
        );
    };
}

macro_rules! stubs {
    ($($origin:ident: $($name:ident)*;)*) => {
        #[allow(non_upper_case_globals, non_snake_case)]
        mod slots {
            use super::*;

            $($(
                #[used]
                pub(super) static $name: AtomicPtr<()> =
                    AtomicPtr::new(missing as extern "C" fn() -> c_int as *mut ());
            )*)*
        }

        $($(jump!($name);)*)*

        pub(crate) static STUBS: &[Stub] = &[$($(
            Stub {
                origin: Origin::$origin,
                name: stringify!($name),
                slot: &slots::$name,
            },
        )*)*];
    };
}

// What the linker asks for; a function that is missing here is named by its error.
stubs! {
    Cuda:
        cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetCurrent cuCtxGetLimit
        cuCtxGetStreamPriorityRange cuCtxPopCurrent_v2 cuCtxPushCurrent_v2 cuCtxSetCacheConfig
        cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit cuCtxSynchronize cuDestroyExternalMemory cuDeviceGet cuDeviceGetAttribute
        cuDeviceGetCount cuDeviceGetDefaultMemPool cuDeviceGetMemPool cuDeviceGetName
        cuDeviceGetUuid_v2 cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain
        cuDeviceSetMemPool cuDeviceTotalMem_v2 cuEventCreate cuEventDestroy_v2
        cuEventElapsedTime_v2 cuEventQuery cuEventRecord cuEventSynchronize
        cuExternalMemoryGetMappedBuffer cuFuncGetAttribute cuFuncSetAttribute
        cuFuncSetCacheConfig cuGetErrorName cuGetErrorString cuGraphClone cuGraphDestroy
        cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch cuGraphUpload
        cuImportExternalMemory cuInit cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel
        cuMemAdvise_v2 cuMemAllocAsync cuMemAllocFromPoolAsync cuMemAllocManaged cuMemAlloc_v2
        cuMemFreeAsync cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc cuMemPoolCreate
        cuMemPoolDestroy cuMemPoolGetAttribute cuMemPoolSetAttribute cuMemPoolTrimTo
        cuMemPrefetchAsync_v2 cuMemcpy2DAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2
        cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemcpyPeerAsync cuMemsetD8Async
        cuMemsetD8_v2 cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleLoad cuModuleLoadData
        cuModuleUnload cuOccupancyAvailableDynamicSMemPerBlock
        cuOccupancyMaxActiveBlocksPerMultiprocessor
        cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters
        cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
        cuOccupancyMaxPotentialClusterSize cuProfilerStart cuProfilerStop cuStreamAttachMemAsync
        cuStreamBeginCapture_v2 cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2
        cuStreamEndCapture cuStreamIsCapturing cuStreamSynchronize cuStreamWaitEvent;
    Cublas:
        cublasCreate_v2 cublasDasum_v2 cublasDestroy_v2 cublasDgemmStridedBatched cublasDgemm_v2
        cublasDgemv_v2 cublasGemmEx cublasGemmGroupedBatchedEx cublasGemmStridedBatchedEx
        cublasGetPointerMode_v2 cublasSasum_v2 cublasSetPointerMode_v2 cublasSetStream_v2
        cublasSgemmStridedBatched cublasSgemm_v2 cublasSgemv_v2;
    CublasLt:
        cublasLtCreate cublasLtDestroy cublasLtMatmul cublasLtMatmulAlgoGetHeuristic
        cublasLtMatmulDescCreate cublasLtMatmulDescDestroy cublasLtMatmulDescSetAttribute
        cublasLtMatmulPreferenceCreate cublasLtMatmulPreferenceDestroy
        cublasLtMatmulPreferenceSetAttribute cublasLtMatrixLayoutCreate
        cublasLtMatrixLayoutDestroy cublasLtMatrixLayoutSetAttribute;
    Curand:
        curandCreateGenerator curandDestroyGenerator curandGenerate curandGenerateLogNormal
        curandGenerateLogNormalDouble curandGenerateLongLong curandGenerateNormal
        curandGenerateNormalDouble curandGeneratePoisson curandGenerateUniform
        curandGenerateUniformDouble curandSetGeneratorOffset curandSetPseudoRandomGeneratorSeed
        curandSetStream;
    Cudnn:
        cudnnActivationForward cudnnAdvInferVersionCheck cudnnAdvTrainVersionCheck
        cudnnAdvVersionCheck cudnnCnnInferVersionCheck cudnnCnnTrainVersionCheck
        cudnnCnnVersionCheck cudnnConvolutionBackwardData cudnnConvolutionBackwardFilter
        cudnnConvolutionBiasActivationForward cudnnConvolutionForward cudnnCreate
        cudnnCreateActivationDescriptor cudnnCreateConvolutionDescriptor
        cudnnCreateFilterDescriptor cudnnCreatePoolingDescriptor
        cudnnDestroyActivationDescriptor
        cudnnCreateReduceTensorDescriptor cudnnCreateTensorDescriptor cudnnDestroy
        cudnnDestroyConvolutionDescriptor cudnnDestroyFilterDescriptor
        cudnnDestroyReduceTensorDescriptor cudnnDestroyTensorDescriptor
        cudnnGetConvolutionBackwardDataAlgorithm_v7 cudnnGetConvolutionBackwardDataWorkspaceSize
        cudnnGetConvolutionBackwardFilterAlgorithm_v7
        cudnnGetConvolutionBackwardFilterWorkspaceSize cudnnGetConvolutionForwardAlgorithm_v7
        cudnnGetConvolutionForwardWorkspaceSize cudnnGetCudartVersion
        cudnnGetReductionIndicesSize cudnnGetReductionWorkspaceSize cudnnGetVersion
        cudnnOpsInferVersionCheck cudnnOpsTrainVersionCheck cudnnOpsVersionCheck
        cudnnPoolingForward cudnnReduceTensor cudnnSetActivationDescriptor
        cudnnSetConvolution2dDescriptor cudnnSetConvolutionGroupCount
        cudnnSetConvolutionMathType cudnnSetConvolutionNdDescriptor cudnnSetFilter4dDescriptor
        cudnnSetFilterNdDescriptor cudnnSetPoolingNdDescriptor cudnnSetReduceTensorDescriptor
        cudnnSetStream cudnnSetTensor4dDescriptor cudnnSetTensor4dDescriptorEx
        cudnnSetTensorNdDescriptor cudnnSoftmaxForward;
}
