// What candle asks of cuBLAS and cuRAND, for tests, on the emulator's memory,
// and a decoder that decodes nothing, without which GStreamer's plugin for
// NVIDIA's GPUs has no elements at all.

#include "half.hpp"

#include <cstddef>
#include <vector>

namespace {

// cudaDataType.
enum { R_32F = 0, R_16F = 2, R_16BF = 14 };

float value(const void* from, int type, size_t at) {
    auto halves = static_cast<const uint16_t*>(from);
    switch (type) {
        case R_16F: return emulator::f16_value(halves[at]);
        case R_16BF: return emulator::bf16_value(halves[at]);
        default: return static_cast<const float*>(from)[at];
    }
}

void store(void* to, int type, size_t at, float value) {
    auto halves = static_cast<uint16_t*>(to);
    switch (type) {
        case R_16F: halves[at] = emulator::f16_bits(value); break;
        case R_16BF: halves[at] = emulator::bf16_bits(value); break;
        default: static_cast<float*>(to)[at] = value;
    }
}

// A matrix of cuBLAS: column by column, or row by row.
struct Matrix {
    const void* values;
    int type;
    size_t stride, start;
    bool rows;

    float at(size_t row, size_t column) const {
        return value(values, type, start + (rows ? row * stride + column : column * stride + row));
    }
};

}  // namespace

extern "C" {
// C = alpha A B + beta C, of as many matrices as `count`; sums in f32.
int cublasGemmStridedBatchedEx(void*, int turn_a, int turn_b, int m, int n, int k, const float* alpha,
                               const void* a, int type_a, int stride_a, long long next_a,
                               const void* b, int type_b, int stride_b, long long next_b,
                               const float* beta, void* c, int type_c, int stride_c,
                               long long next_c, int count, int compute, int) {
    for (int type : {type_a, type_b, type_c})
        if (type != R_32F && type != R_16F && type != R_16BF) return 15;
    // CUBLAS_COMPUTE_32F and its faster, less exact ones.
    if (compute < 68 || compute > 77) return 15;
    std::vector<float> left((size_t)m * k), sums(m);
    for (int i = 0; i < count; i++) {
        Matrix of_a{a, type_a, (size_t)stride_a, (size_t)(i * next_a), turn_a != 0};
        Matrix of_b{b, type_b, (size_t)stride_b, (size_t)(i * next_b), turn_b != 0};
        for (int p = 0; p < k; p++)
            for (int row = 0; row < m; row++) left[(size_t)p * m + row] = of_a.at(row, p);
        for (int column = 0; column < n; column++) {
            std::fill(sums.begin(), sums.end(), 0.0f);
            for (int p = 0; p < k; p++) {
                float factor = of_b.at(p, column);
                for (int row = 0; row < m; row++) sums[row] += left[(size_t)p * m + row] * factor;
            }
            for (int row = 0; row < m; row++) {
                size_t at = i * next_c + (size_t)column * stride_c + row;
                float before = *beta == 0 ? 0 : *beta * value(c, type_c, at);
                store(c, type_c, at, *alpha * sums[row] + before);
            }
        }
    }
    return 0;
}
int cublasCreate_v2(void** handle) { return *handle = (void*)1, 0; }
int cublasDestroy_v2(void*) { return 0; }
int cublasSetStream_v2(void*, void*) { return 0; }
int curandCreateGenerator(void** made, int) { return *made = (void*)1, 0; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
int curandSetStream(void*, void*) { return 0; }
int curandDestroyGenerator(void*) { return 0; }

#define NOTHING(name) int name() { return 801; }
NOTHING(cuvidCreateDecoder)
NOTHING(cuvidCreateVideoParser)
NOTHING(cuvidCtxLock)
NOTHING(cuvidCtxLockCreate)
NOTHING(cuvidCtxLockDestroy)
NOTHING(cuvidCtxUnlock)
NOTHING(cuvidDecodePicture)
NOTHING(cuvidDestroyDecoder)
NOTHING(cuvidDestroyVideoParser)
NOTHING(cuvidGetDecoderCaps)
NOTHING(cuvidMapVideoFrame64)
NOTHING(cuvidParseVideoData)
NOTHING(cuvidUnmapVideoFrame64)
}
