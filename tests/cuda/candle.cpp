// One module of candle's kernels (MODULE, of candle-kernels' sources), compiled
// for the emulator. NAMES lists the functions that the module has.

#include "kernel.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

// Blocks run one after the other.
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

using std::isinf;
using std::isnan;
using std::max;
using std::min;
using std::signbit;

// Threads, too, but where they wait.
template <typename T, typename V>
T exchange(T* at, V made) {
    T was = *at;
    *at = (T)made;
    return was;
}
template <typename T, typename V>
T atomicAdd(T* at, V v) { return exchange(at, *at + (T)v); }
template <typename T, typename V>
T atomicMax(T* at, V v) { return exchange(at, *at > (T)v ? *at : (T)v); }
template <typename T, typename V>
T atomicMin(T* at, V v) { return exchange(at, *at < (T)v ? *at : (T)v); }
template <typename T>
T atomicCAS(T* at, T expected, T v) { return exchange(at, *at == expected ? v : *at); }
template <typename T>
T __shfl_xor_sync(unsigned, T v, int by, int = 32) { return emulator::passed(v, by); }

template <typename To, typename From>
To as(From v) {
    static_assert(sizeof(To) == sizeof(From));
    To made;
    memcpy(&made, &v, sizeof v);
    return made;
}
inline int __float_as_int(float v) { return as<int>(v); }
inline unsigned __float_as_uint(float v) { return as<unsigned>(v); }
inline float __int_as_float(int v) { return as<float>(v); }
inline float __uint_as_float(unsigned v) { return as<float>(v); }
inline long long __double_as_longlong(double v) { return as<long long>(v); }
inline double __longlong_as_double(long long v) { return as<double>(v); }

inline double normcdf(double v) { return std::erfc(-v / std::sqrt(2.0)) / 2; }
inline float normcdff(float v) { return (float)normcdf(v); }
inline float rsqrtf(float v) { return 1 / std::sqrt(v); }
inline double rsqrt(double v) { return 1 / std::sqrt(v); }

#define HALVES(name, function) \
    inline __half name(__half v) { return __float2half(function(__half2float(v))); } \
    inline __nv_bfloat16 name(__nv_bfloat16 v) { return __float2bfloat16(function(__bfloat162float(v))); }
HALVES(hsqrt, sqrtf)
HALVES(hcos, cosf)
HALVES(hsin, sinf)
HALVES(hlog, logf)
HALVES(hexp, expf)

// With all that such GPUs have.
#define __CUDA_ARCH__ 800
#include MODULE

#ifdef NAMES
#define NAMED(function) kernel(#function, WAITS, function),
static const Registered OF_MODULE({
#include NAMES
});
#endif
