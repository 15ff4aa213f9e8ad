//! Reports of cuDNN on its algorithms.

use candle_core::cuda_backend::cudarc::cudnn::sys;
use std::ffi::c_int;

/// The algorithms that these bindings know.
pub(super) const DATA_ALGORITHMS: [sys::cudnnConvolutionBwdDataAlgo_t; 6] = {
    use sys::cudnnConvolutionBwdDataAlgo_t::*;
    [
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
    ]
};
pub(super) const FILTER_ALGORITHMS: [sys::cudnnConvolutionBwdFilterAlgo_t; 7] = {
    use sys::cudnnConvolutionBwdFilterAlgo_t::*;
    [
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING,
    ]
};

/// cuDNN's report on an algorithm of either direction, with integers for its
/// enumerations: a later version may have values that Rust's enums lack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AlgorithmReport {
    algorithm: u32,
    status: u32,
    time: f32,
    memory: usize,
    determinism: u32,
    math: u32,
    reserved: [c_int; 3],
}

/// Asserts that a structure of cuDNN's has the layout of [`AlgorithmReport`].
macro_rules! same_layout {
    ($theirs:ty) => {
        const _: () = {
            use std::mem::{align_of, offset_of};
            type Ours = AlgorithmReport;
            assert!(size_of::<Ours>() == size_of::<$theirs>());
            assert!(align_of::<Ours>() == align_of::<$theirs>());
            assert!(offset_of!(Ours, algorithm) == offset_of!($theirs, algo));
            assert!(offset_of!(Ours, status) == offset_of!($theirs, status));
            assert!(offset_of!(Ours, determinism) == offset_of!($theirs, determinism));
        };
    };
}

same_layout!(sys::cudnnConvolutionBwdDataAlgoPerf_t);
same_layout!(sys::cudnnConvolutionBwdFilterAlgoPerf_t);

impl AlgorithmReport {
    /// The algorithm, if it is known, works, and is deterministic.
    pub(super) fn usable<A: Copy + AlgorithmCode>(&self, known: &[A]) -> Option<A> {
        let works = self.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS as u32;
        let repeats = self.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC as u32;
        let mut known = known.iter().copied();
        known.find(|algorithm| works && repeats && algorithm.code() == self.algorithm)
    }
}

/// An algorithm's number in cuDNN.
pub(super) trait AlgorithmCode {
    fn code(self) -> u32;
}

impl AlgorithmCode for sys::cudnnConvolutionBwdDataAlgo_t {
    fn code(self) -> u32 {
        self as u32
    }
}

impl AlgorithmCode for sys::cudnnConvolutionBwdFilterAlgo_t {
    fn code(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_algorithms_are_passed_over() {
        let report = |algorithm: u32, status: u32| AlgorithmReport {
            algorithm,
            status,
            determinism: sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC as u32,
            ..AlgorithmReport::default()
        };
        assert_eq!(
            report(4, 0).usable(&DATA_ALGORITHMS),
            Some(DATA_ALGORITHMS[4])
        );
        assert_eq!(
            report(6, 0).usable(&FILTER_ALGORITHMS),
            Some(FILTER_ALGORITHMS[6])
        );
        assert_eq!(report(6, 0).usable(&DATA_ALGORITHMS), None);
        assert_eq!(report(1, u32::MAX).usable(&DATA_ALGORITHMS), None);
        assert_eq!(
            AlgorithmReport {
                determinism: 77,
                ..report(1, 0)
            }
            .usable(&DATA_ALGORITHMS),
            None
        );
    }
}
