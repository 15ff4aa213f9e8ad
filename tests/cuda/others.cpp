// What candle asks of cuBLAS and cuRAND, and srfilter of cuDNN, for tests, on
// the emulator's memory, and a decoder that decodes nothing, without which GStreamer's plugin for
// NVIDIA's GPUs has no elements at all.

#include "half.hpp"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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

// cuDNN.

namespace {

enum { OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
// cudnnDataType_t.
enum { FLOAT = 0, HALF = 2, BFLOAT16 = 9 };

// A tensor or a filter, (N, C, H, W), however it lies.
struct Tensor {
    int type = -1;
    bool channels_last = false;
    int size[4] = {};

    size_t at(int n, int c, int y, int x) const {
        return channels_last ? (((size_t)n * size[2] + y) * size[3] + x) * size[1] + c
                             : (((size_t)n * size[1] + c) * size[2] + y) * size[3] + x;
    }
    int data() const { return type == HALF ? R_16F : type == BFLOAT16 ? R_16BF : R_32F; }
    size_t count() const { return (size_t)size[0] * size[1] * size[2] * size[3]; }
};

struct Convolution {
    int pad[2], stride[2], dilation[2];
    int groups = 1, math = 0;
};

int set(Tensor* tensor, int type, int format, int n, int c, int h, int w) {
    if ((type != FLOAT && type != HALF && type != BFLOAT16) || n * c * h * w <= 0) return BAD_PARAM;
    *tensor = {type, format == 1, {n, c, h, w}};
    return OK;
}

bool fits(const Tensor* x, const Tensor* w, const Convolution* conv, const Tensor* y) {
    bool right = x->type == w->type && x->type == y->type && x->size[0] == y->size[0] &&
                 x->size[1] == w->size[1] * conv->groups && y->size[1] == w->size[0] &&
                 w->size[0] % conv->groups == 0;
    for (int i = 0; i < 2; i++) {
        int reach = (w->size[i + 2] - 1) * conv->dilation[i];
        int made = (x->size[i + 2] + 2 * conv->pad[i] - reach - 1) / conv->stride[i] + 1;
        right = right && y->size[i + 2] == made;
    }
    return right;
}

// Calls `product` with the places, in images, weights and result, of all
// numbers that belong together.
template <typename F>
void convolve(const Tensor* x, const Tensor* w, const Convolution* conv, const Tensor* y, F product) {
    int each = w->size[0] / conv->groups;
    for (int n = 0; n < y->size[0]; n++)
        for (int to = 0; to < y->size[1]; to++)
            for (int top = 0; top < y->size[2]; top++)
                for (int left = 0; left < y->size[3]; left++)
                    for (int from = 0; from < w->size[1]; from++)
                        for (int ky = 0; ky < w->size[2]; ky++)
                            for (int kx = 0; kx < w->size[3]; kx++) {
                                int iy = top * conv->stride[0] + ky * conv->dilation[0] - conv->pad[0];
                                int ix = left * conv->stride[1] + kx * conv->dilation[1] - conv->pad[1];
                                if (iy < 0 || ix < 0 || iy >= x->size[2] || ix >= x->size[3]) continue;
                                int channel = to / each * w->size[1] + from;
                                product(x->at(n, channel, iy, ix), w->at(to, from, ky, kx),
                                        y->at(n, to, top, left));
                            }
}

struct Choice {
    int algorithm, status;
    float seconds;
    size_t memory;
    int deterministic, math, reserved[3];
};

// Lets the tests see that it was asked.
void note(const char* what) {
    const char* path = getenv("SRFILTER_EMULATED_CUDNN_LOG");
    FILE* file = path ? fopen(path, "a") : nullptr;
    if (!file) return;
    fprintf(file, "%s\n", what);
    fclose(file);
}

// The second is good: the first gives other bits each time.
int choose(int wanted, int* count, Choice* choices) {
    if (wanted < 2) return BAD_PARAM;
    choices[0] = {0, OK, 0.1f, 0, 0, 0, {}};
    // Less memory than it takes, as for other units of the GPU.
    choices[1] = {1, OK, 0.2f, 8, 1, 0, {}};
    return *count = 2, OK;
}

}  // namespace

extern "C" {
size_t cudnnGetCudartVersion() { return 13000; }
int cudnnCreate(void** made) { return *made = (void*)1, OK; }
int cudnnDestroy(void*) { return OK; }
int cudnnSetStream(void*, void*) { return OK; }
int cudnnCreateTensorDescriptor(Tensor** made) { return *made = new Tensor, OK; }
int cudnnDestroyTensorDescriptor(Tensor* tensor) { return delete tensor, OK; }
int cudnnSetTensor4dDescriptor(Tensor* tensor, int format, int type, int n, int c, int h, int w) {
    return set(tensor, type, format, n, c, h, w);
}
int cudnnCreateFilterDescriptor(Tensor** made) { return *made = new Tensor, OK; }
int cudnnDestroyFilterDescriptor(Tensor* tensor) { return delete tensor, OK; }
int cudnnSetFilter4dDescriptor(Tensor* filter, int type, int format, int n, int c, int h, int w) {
    return set(filter, type, format, n, c, h, w);
}
int cudnnCreateConvolutionDescriptor(Convolution** made) { return *made = new Convolution, OK; }
int cudnnDestroyConvolutionDescriptor(Convolution* conv) { return delete conv, OK; }
int cudnnSetConvolution2dDescriptor(Convolution* conv, int pad_y, int pad_x, int stride_y, int stride_x,
                                    int dilation_y, int dilation_x, int mode, int type) {
    // Without turning the kernel around, sums in f32.
    if (mode != 1 || type != FLOAT) return BAD_PARAM;
    *conv = {{pad_y, pad_x}, {stride_y, stride_x}, {dilation_y, dilation_x}};
    return OK;
}
int cudnnSetConvolutionGroupCount(Convolution* conv, int groups) { return conv->groups = groups, OK; }
int cudnnSetConvolutionMathType(Convolution* conv, int math) { return conv->math = math, OK; }
int cudnnCreateActivationDescriptor(int** made) { return *made = new int(-1), OK; }
int cudnnDestroyActivationDescriptor(int* activation) { return delete activation, OK; }
int cudnnSetActivationDescriptor(int* activation, int mode, int, double) {
    // ReLU or nothing.
    return *activation = mode, mode == 1 || mode == 5 ? OK : BAD_PARAM;
}
int cudnnGetConvolutionForwardWorkspaceSize(void*, Tensor* x, Tensor* w, Convolution* conv, Tensor* y,
                                            int, size_t* bytes) {
    return *bytes = 128, fits(x, w, conv, y) ? OK : BAD_PARAM;
}
int cudnnConvolutionBiasActivationForward(void*, const float* alpha, Tensor* of_x, const void* x,
                                          Tensor* of_w, const void* w, Convolution* conv, int algorithm,
                                          void* room, size_t bytes, const float* beta, Tensor*,
                                          const void*, Tensor* of_b, const void* b, int* activation,
                                          Tensor* of_y, void* y) {
    if (!fits(of_x, of_w, conv, of_y) || of_b->count() != (size_t)of_y->size[1]) return BAD_PARAM;
    // As if it could not do these.
    if (conv->groups == 4) return NOT_SUPPORTED;
    // IMPLICIT_PRECOMP_GEMM; nothing is added.
    if (algorithm != 1 || *alpha != 1 || *beta != 0) return NOT_SUPPORTED;
    memset(room, 0xff, bytes);
    note(of_x->type == FLOAT ? conv->math == 3 ? "f32" : "tf32" : of_x->channels_last ? "16" : "?");
    std::vector<float> sums(of_y->count());
    convolve(of_x, of_w, conv, of_y, [&](size_t from, size_t by, size_t to) {
        sums[to] += value(x, of_x->data(), from) * value(w, of_w->data(), by);
    });
    for (int n = 0; n < of_y->size[0]; n++)
        for (int c = 0; c < of_y->size[1]; c++)
            for (int i = 0; i < of_y->size[2]; i++)
                for (int j = 0; j < of_y->size[3]; j++) {
                    size_t at = of_y->at(n, c, i, j);
                    float made = sums[at] + value(b, of_b->data(), c);
                    store(y, of_y->data(), at, *activation == 1 && made < 0 ? 0 : made);
                }
    return OK;
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, Tensor* w, Tensor* dy, Convolution* conv,
                                                Tensor* dx, int wanted, int* count, Choice* choices) {
    return fits(dx, w, conv, dy) ? choose(wanted, count, choices) : BAD_PARAM;
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, Tensor* x, Tensor* dy, Convolution* conv,
                                                  Tensor* dw, int wanted, int* count, Choice* choices) {
    return fits(x, dw, conv, dy) ? choose(wanted, count, choices) : BAD_PARAM;
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, Tensor*, Tensor*, Convolution*, Tensor*, int,
                                                 size_t* bytes) {
    return *bytes = 64, OK;
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, Tensor*, Tensor*, Convolution*, Tensor*, int,
                                                   size_t* bytes) {
    return *bytes = 64, OK;
}
int cudnnConvolutionBackwardData(void*, const float* alpha, Tensor* of_w, const float* w, Tensor* of_dy,
                                 const float* dy, Convolution* conv, int algorithm, void* room,
                                 size_t bytes, const float* beta, Tensor* of_dx, float* dx) {
    if (!fits(of_dx, of_w, conv, of_dy) || of_w->type != FLOAT) return BAD_PARAM;
    if (algorithm != 1 || bytes < 64 || *alpha != 1 || *beta != 0) return NOT_SUPPORTED;
    memset(room, 0xff, bytes);
    note("images");
    memset(dx, 0, of_dx->count() * sizeof *dx);
    convolve(of_dx, of_w, conv, of_dy,
             [&](size_t from, size_t by, size_t to) { dx[from] += dy[to] * w[by]; });
    return OK;
}
int cudnnConvolutionBackwardFilter(void*, const float* alpha, Tensor* of_x, const float* x,
                                   Tensor* of_dy, const float* dy, Convolution* conv, int algorithm,
                                   void* room, size_t bytes, const float* beta, Tensor* of_dw, float* dw) {
    if (!fits(of_x, of_dw, conv, of_dy) || of_x->type != FLOAT) return BAD_PARAM;
    if (algorithm != 1 || bytes < 64 || *alpha != 1 || *beta != 0) return NOT_SUPPORTED;
    memset(room, 0xff, bytes);
    note("weights");
    memset(dw, 0, of_dw->count() * sizeof *dw);
    convolve(of_x, of_dw, conv, of_dy,
             [&](size_t from, size_t by, size_t to) { dw[by] += x[from] * dy[to]; });
    return OK;
}
}
