//! Peak f32 multiply-add throughput of the cores.

use anyhow::{Context, Result};
use srfilter::cpu_level::Level;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Repetitions of the inner loop in a measurement: about a millisecond, so that
/// some are undisturbed even on a busy machine.
const STEPS: usize = 1 << 18;

/// Duration of the measurement.
const PATIENCE: Duration = Duration::from_millis(200);

/// The peak of `threads` threads together, in GMAC/s.
pub(crate) fn peak(threads: usize) -> Result<f64> {
    let kernels = Level::available().into_iter().filter_map(kernel);
    let peaks = kernels.map(|kernel| measure(kernel, threads));
    peaks.reduce(f64::max).context("no kernel for this machine")
}

/// Runs `STEPS` steps and returns the number of multiplications.
type Kernel = fn() -> usize;

fn measure(kernel: Kernel, threads: usize) -> f64 {
    let start = Instant::now();
    let mut best = 0.0f64;
    while start.elapsed() < PATIENCE {
        best = best.max(round(kernel, threads));
    }
    best
}

/// GMAC/s of one call in every thread, from the first one's start to the last
/// one's end.
fn round(kernel: Kernel, threads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        barrier.wait();
        let start = Instant::now();
        let count = kernel();
        (start, Instant::now(), count)
    };
    let (start, end, count) = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mut all = one();
        for (start, end, count) in others.into_iter().filter_map(|t| t.join().ok()) {
            all = (all.0.min(start), all.1.max(end), all.2 + count);
        }
        all
    });
    count as f64 / (end - start).as_nanos() as f64
}

/// Independent chains of multiply-adds: more than latency times units of any
/// known core, fewer than its registers.
macro_rules! chains {
    ($name:ident, $feature:literal, $count:literal, $lanes:literal, $splat:path, $fma:expr) => {
        #[target_feature(enable = $feature)]
        fn $name() -> usize {
            // Converges to 1, far from the slow denormal values.
            let (factor, term) = ($splat(black_box(0.5)), $splat(black_box(0.5)));
            let mut sums = [$splat(black_box(2.0)); $count];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = $fma(*sum, factor, term);
                }
            }
            black_box(sums);
            STEPS * $count * $lanes
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod kernels {
    use super::{STEPS, black_box};
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    chains!(avx2, "avx2,fma", 12, 8, _mm256_set1_ps, _mm256_fmadd_ps);
    chains!(avx512, "avx512f", 24, 16, _mm512_set1_ps, _mm512_fmadd_ps);

    pub(super) fn kernel(level: super::Level) -> Option<super::Kernel> {
        match level {
            // SAFETY: `Level::available` says that the machine has the instructions.
            super::Level::Avx2 => Some(|| unsafe { avx2() }),
            // SAFETY: as above.
            super::Level::Avx512 => Some(|| unsafe { avx512() }),
            _ => None,
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod kernels {
    use super::{STEPS, black_box};
    use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32};

    #[target_feature(enable = "neon")]
    fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }

    chains!(neon, "neon", 24, 4, vdupq_n_f32, fma);

    pub(super) fn kernel(level: super::Level) -> Option<super::Kernel> {
        match level {
            // SAFETY: `Level::available` says that the machine has the instructions.
            super::Level::Neon => Some(|| unsafe { neon() }),
            _ => None,
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod kernels {
    pub(super) fn kernel(_: super::Level) -> Option<super::Kernel> {
        None
    }
}

use kernels::kernel;
