// Convolutions of stride 1 with what follows them in a chain (src/chain).
//
// f32: planes, one multiplication and addition after the other.
// f16 and bf16: products on the tensor cores, sums in f32. Between layers a
// pixel's channels lie together (NHWC), in multiples of 16; the first layer
// reads planes, the last one writes planes.
// 8-bit integers: quantized.cu.

#include "epilogue.cuh"

// What lies around the image.
enum Border {
    ZEROS = 0,
    EDGE = 1,
};

// Of a layer in 8-bit integers (quantized.cu).
struct Integers {
    int32_t border;           // The word beyond the edges, where they are not repeated.
    int32_t zero;             // The sample of 0 in the result.
    int32_t skip_zero;        // The sample of 0 in what is added.
    int32_t skip_multiplier;  // The value of its step in steps of the result, times 2^11.
};
SAME_SIZE(Integers, 16);
SAME_OFFSET(Integers, border, 0);
SAME_OFFSET(Integers, zero, 4);
SAME_OFFSET(Integers, skip_zero, 8);
SAME_OFFSET(Integers, skip_multiplier, 12);

struct Convolve {
    uint64_t source;   // Rows source_row0.. of the picture that comes in.
    uint64_t dst;      // Rows dst_row0.. of the result.
    uint64_t weights;  // As the kernel takes them.
    uint64_t bias;     // f32 for each channel, as stored; of integers: quantized.cu.
    uint64_t slope;    // f32 for each channel, as stored; null: values stay.
    uint64_t skip;     // What is added: like `dst`, from row skip_row0 on; or null.
    Epilogue epilogue; // The last layer.
    int32_t inputs;    // Channels that come in, as stored.
    int32_t outputs;   // Channels of the convolution, as stored.
    int32_t kernel;    // Side.
    int32_t pad;       // What the picture that comes in begins before the result.
    int32_t border;    // One of Border.
    int32_t source_width, source_height;  // Of the whole picture.
    int32_t width, height;                // Of the whole result, before the shuffle.
    int32_t source_row0, source_rows;     // Rows that are there.
    int32_t dst_row0, skip_row0;         // In rows after the shuffle.
    int32_t row0, rows;                   // What to compute, before the shuffle.
    int32_t shuffle;   // Side of the squares that channels become.
    int32_t planes;    // The last layer: planes of the result, else 0.
    int32_t chunk;     // f32: input channels that shared memory holds at once.
    int32_t source_plane, dst_plane;     // Rows of a plane, where planes are apart.
    Integers integers; // 8-bit integers.
};
SAME_SIZE(Convolve, 176);
SAME_OFFSET(Convolve, source, 0);
SAME_OFFSET(Convolve, dst, 8);
SAME_OFFSET(Convolve, weights, 16);
SAME_OFFSET(Convolve, bias, 24);
SAME_OFFSET(Convolve, slope, 32);
SAME_OFFSET(Convolve, skip, 40);
SAME_OFFSET(Convolve, epilogue, 48);
SAME_OFFSET(Convolve, inputs, 80);
SAME_OFFSET(Convolve, outputs, 84);
SAME_OFFSET(Convolve, kernel, 88);
SAME_OFFSET(Convolve, pad, 92);
SAME_OFFSET(Convolve, border, 96);
SAME_OFFSET(Convolve, source_width, 100);
SAME_OFFSET(Convolve, source_height, 104);
SAME_OFFSET(Convolve, width, 108);
SAME_OFFSET(Convolve, height, 112);
SAME_OFFSET(Convolve, source_row0, 116);
SAME_OFFSET(Convolve, source_rows, 120);
SAME_OFFSET(Convolve, dst_row0, 124);
SAME_OFFSET(Convolve, skip_row0, 128);
SAME_OFFSET(Convolve, row0, 132);
SAME_OFFSET(Convolve, rows, 136);
SAME_OFFSET(Convolve, shuffle, 140);
SAME_OFFSET(Convolve, planes, 144);
SAME_OFFSET(Convolve, chunk, 148);
SAME_OFFSET(Convolve, source_plane, 152);
SAME_OFFSET(Convolve, dst_plane, 156);
SAME_OFFSET(Convolve, integers, 160);

// Position of a sample that may lie outside, or -1 for zero.
DEVICE int inside(int at, int length, int border) {
    if (at >= 0 && at < length) return at;
    if (border == ZEROS) return -1;
    return at < 0 ? 0 : length - 1;
}

// Stores a result of the last layer: values of 0 to 255, or to the limit of deeper samples.
CALLED void store_output(const Convolve& a, int channel, int y, int x, float value) {
    int area = a.shuffle * a.shuffle;
    int plane = channel / area;
    if (plane >= a.planes) return;
    int part = channel % area;
    int width = a.width * a.shuffle;
    size_t height = (size_t)a.height * a.shuffle;
    y = y * a.shuffle + part / a.shuffle;
    x = x * a.shuffle + part % a.shuffle;
    size_t at = ((size_t)plane * height + y) * width + x;
    value = apply_epilogue(a.epilogue, value, plane, y, x, width, height);
    reinterpret_cast<float*>(a.dst)[at] = fminf(fmaxf(value * 255.0f, 0.0f), a.epilogue.limit);
}

DEVICE float activated(const Convolve& a, int channel, float value) {
    value += reinterpret_cast<const float*>(a.bias)[channel];
    if (a.slope && value < 0.0f) value *= reinterpret_cast<const float*>(a.slope)[channel];
    return value;
}

// ---- f32 -------------------------------------------------------------------

// Columns, rows and channels of a block of 32 x 8 threads.
#define PLAIN_COLUMNS 32
#define PLAIN_ROWS 32
#define PLAIN_CHANNELS 16
#define PLAIN_EACH 4

// Stores a sum. Planes: the channels of a square are one after the other in
// the order of its pixels, as in the other types.
CALLED void store_plain(const Convolve& a, int channel, int y, int x, float sum) {
    if (channel >= a.outputs || y >= a.row0 + a.rows) return;
    float value = activated(a, channel, sum);
    if (a.planes) {
        store_output(a, channel, y, x, value);
        return;
    }
    int stored = a.outputs / (a.shuffle * a.shuffle);
    int part = channel / stored;
    int row = y * a.shuffle + part / a.shuffle;
    int column = x * a.shuffle + part % a.shuffle;
    size_t width = (size_t)a.width * a.shuffle;
    size_t plane = (size_t)(channel % stored) * a.dst_plane;
    if (a.skip) {
        size_t at = (plane + row - a.skip_row0) * width + column;
        value += reinterpret_cast<const float*>(a.skip)[at];
    }
    reinterpret_cast<float*>(a.dst)[(plane + row - a.dst_row0) * width + column] = value;
}

// Weights: by group of 16 channels out, channel in, tap, channel out.
KERNEL THREADS(256) convolve_f32(ARGUMENTS Convolve a) {
    SHARED(plain_shared);
    int taps = a.kernel * a.kernel;
    int wide = PLAIN_COLUMNS + a.kernel - 1;
    int tall = PLAIN_ROWS + a.kernel - 1;
    float* patch = reinterpret_cast<float*>(plain_shared);
    float* kernels = patch + ((a.chunk * wide * tall + 3) & ~3);
    const float* source = reinterpret_cast<const float*>(a.source);
    const float* weights = reinterpret_cast<const float*>(a.weights) +
                           (size_t)blockIdx.z * a.inputs * taps * PLAIN_CHANNELS;
    int left = blockIdx.x * PLAIN_COLUMNS;
    int top = a.row0 + blockIdx.y * PLAIN_ROWS;
    int thread = threadIdx.y * PLAIN_COLUMNS + threadIdx.x;
    float sums[PLAIN_EACH][PLAIN_CHANNELS] = {};
    for (int first = 0; first < a.inputs; first += a.chunk) {
        int count = min(a.chunk, a.inputs - first);
        __syncthreads();
        for (int i = thread; i < count * wide * tall; i += 256) {
            int channel = i / (wide * tall);
            int y = inside(top - a.pad + i / wide % tall, a.source_height, a.border);
            int x = inside(left - a.pad + i % wide, a.source_width, a.border);
            int row = y - a.source_row0;
            bool there = y >= 0 && x >= 0 && row >= 0 && row < a.source_rows;
            size_t at = ((size_t)(first + channel) * a.source_plane + row) * a.source_width + x;
            patch[i] = there ? source[at] : 0.0f;
        }
        for (int i = thread; i < count * taps * PLAIN_CHANNELS; i += 256) {
            kernels[i] = weights[(size_t)first * taps * PLAIN_CHANNELS + i];
        }
        __syncthreads();
        for (int channel = 0; channel < count; channel++) {
            const float* window = patch + channel * wide * tall + threadIdx.x;
            const float* weight = kernels + channel * taps * PLAIN_CHANNELS;
            for (int ky = 0; ky < a.kernel; ky++) {
                for (int kx = 0; kx < a.kernel; kx++) {
                    float w[PLAIN_CHANNELS];
#pragma unroll
                    for (int c = 0; c < PLAIN_CHANNELS; c++) w[c] = weight[c];
                    weight += PLAIN_CHANNELS;
#pragma unroll
                    for (int i = 0; i < PLAIN_EACH; i++) {
                        float v = window[(threadIdx.y + 8 * i + ky) * wide + kx];
#pragma unroll
                        for (int c = 0; c < PLAIN_CHANNELS; c++) sums[i][c] += v * w[c];
                    }
                }
            }
        }
    }
    int x = left + threadIdx.x;
    if (x >= a.width) return;
#pragma unroll
    for (int i = 0; i < PLAIN_EACH; i++) {
        int y = top + threadIdx.y + 8 * i;
#pragma unroll
        for (int c = 0; c < PLAIN_CHANNELS; c++) {
            store_plain(a, blockIdx.z * PLAIN_CHANNELS + c, y, x, sums[i][c]);
        }
    }
}

// ---- f16 and bf16 ----------------------------------------------------------

// Columns and rows of a block of 8 warps, two beside each other: 16 columns and
// WARP_ROWS rows each.
#define TILE_COLUMNS 32
#define TILE_ROWS 16
#define WARP_COLUMNS 16
#define WARP_ROWS 4

// Values of a pixel that shared memory holds at once, and how far apart pixels
// lie there: no two of the eight that are read at once meet in a bank.
#define CHUNK 16
#define PIXEL 24

DEVICE uint32_t two(const uint16_t* at) { return *reinterpret_cast<const uint32_t*>(at); }

// Eight values, whose address is a multiple of 16.
DEVICE void read8(const void* from, float (&to)[8]) {
    const float4* halves = reinterpret_cast<const float4*>(from);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float4 four = halves[i];
        to[4 * i] = four.x;
        to[4 * i + 1] = four.y;
        to[4 * i + 2] = four.z;
        to[4 * i + 3] = four.w;
    }
}

// Stores 16 pixels of row y from column x on, GROUPS * 8 channels of each from
// `channel0` on, which lie `apart` values apart in shared memory.
template <typename T, int GROUPS>
CALLED void store_row(const Convolve& a, const float* sums, int apart, int channel0, int y, int x) {
    if (y >= a.row0 + a.rows) return;
    int lane = threadIdx.x % 32;
    if (a.planes) {
        int count = min(GROUPS * 8, a.outputs - channel0);
        for (int i = lane; i < WARP_COLUMNS * count; i += 32) {
            int channel = channel0 + i / WARP_COLUMNS;
            int column = x + i % WARP_COLUMNS;
            float value = sums[i % WARP_COLUMNS * apart + i / WARP_COLUMNS];
            if (column < a.width) store_output(a, channel, y, column, activated(a, channel, value));
        }
        return;
    }
    int stored = a.outputs / (a.shuffle * a.shuffle);
    size_t width = (size_t)a.width * a.shuffle;
    for (int i = lane; i < WARP_COLUMNS * GROUPS; i += 32) {
        int group = i % GROUPS;
        int channel = channel0 + group * 8;
        int column = x + i / GROUPS;
        if (column >= a.width || channel >= a.outputs) continue;
        float values[8], bias[8], slope[8];
        read8(sums + i / GROUPS * apart + group * 8, values);
        read8(reinterpret_cast<const float*>(a.bias) + channel, bias);
        if (a.slope) read8(reinterpret_cast<const float*>(a.slope) + channel, slope);
        // All channels of a square's first pixel come first.
        int part = a.shuffle == 1 ? 0 : channel / stored;
        int row = y * a.shuffle + part / a.shuffle;
        column = column * a.shuffle + part % a.shuffle;
        channel -= part * stored;
        uint4 other = make_uint4(0, 0, 0, 0);
        if (a.skip) {
            size_t at = ((row - a.skip_row0) * width + column) * stored + channel;
            other = *reinterpret_cast<const uint4*>(reinterpret_cast<const uint16_t*>(a.skip) + at);
        }
        const uint32_t others[4] = {other.x, other.y, other.z, other.w};
        uint32_t pairs[4];
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            uint32_t bits[2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int at = 2 * pair + half;
                float value = values[at] + bias[at];
                if (a.slope && value < 0.0f) value *= slope[at];
                if (a.skip) value += T::value(half ? others[pair] >> 16 : others[pair] & 0xffff);
                bits[half] = T::bits(value);
            }
            pairs[pair] = bits[0] | bits[1] << 16;
        }
        size_t at = ((row - a.dst_row0) * width + column) * stored + channel;
        *reinterpret_cast<uint4*>(reinterpret_cast<uint16_t*>(a.dst) + at) =
            make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
}

// Where a warp's rows and columns begin in the block's.
DEVICE int warp_row() { return threadIdx.x / 64 * WARP_ROWS; }
DEVICE int warp_column() { return threadIdx.x / 32 % 2 * WARP_COLUMNS; }

// Stores the sums of the warps. Each lane holds two channels of two pixels of a
// row, which change hands in shared memory.
template <typename T, int GROUPS>
DEVICE void finish(const Convolve& a, unsigned char* shared, int top, int left, int group0,
                   float (&sums)[WARP_ROWS][GROUPS][4]) {
    const int apart = GROUPS * 8 + 4;
    int lane = threadIdx.x % 32;
    float* mine = reinterpret_cast<float*>(shared) + threadIdx.x / 32 * WARP_COLUMNS * apart;
    __syncthreads();
#pragma unroll
    for (int row = 0; row < WARP_ROWS; row++) {
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            float* at = mine + lane / 4 * apart + group * 8 + lane % 4 * 2;
            at[0] = sums[row][group][0];
            at[1] = sums[row][group][1];
            at[8 * apart] = sums[row][group][2];
            at[8 * apart + 1] = sums[row][group][3];
        }
        __syncwarp();
        store_row<T, GROUPS>(a, mine, apart, group0 * 8, top + warp_row() + row, left + warp_column());
        __syncwarp();
    }
}

// What a lane holds of the weights of one step: 16 products by 8 channels,
// GROUPS times.
template <int GROUPS>
DEVICE void read_weights(const Convolve& a, size_t step, int group0, uint32_t (&b)[GROUPS][2]) {
    int groups = (a.outputs + 7) / 8;
    const uint2* at = reinterpret_cast<const uint2*>(a.weights) + (step * groups + group0) * 32 +
                      threadIdx.x % 32;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        uint2 w = group0 + group < groups ? at[group * 32] : make_uint2(0, 0);
        b[group][0] = w.x;
        b[group][1] = w.y;
    }
}

// The first layer: planes of T in. A step of 16 products is a row of the
// kernel. Weights: by plane, row, group of 8 channels, lane: what the lane
// holds of them, 16 columns by 8 channels.
template <typename T, int GROUPS>
DEVICE void first_layer(const Convolve& a) {
    SHARED(rows_shared);
    // A row of the patch, twice: pairs of samples may begin at odd ones.
    const int wide = TILE_COLUMNS + CHUNK;
    int tall = TILE_ROWS + a.kernel - 1;
    uint16_t* even = reinterpret_cast<uint16_t*>(rows_shared);
    uint16_t* odd = even + a.inputs * tall * wide;
    const uint16_t* source = reinterpret_cast<const uint16_t*>(a.source);
    int left = blockIdx.x * TILE_COLUMNS;
    int top = a.row0 + blockIdx.y * TILE_ROWS;
    for (int i = threadIdx.x; i < a.inputs * tall * wide; i += 256) {
        int plane = i / (wide * tall);
        int column = i % wide;
        int y = inside(top - a.pad + i / wide % tall, a.source_height, a.border);
        int x = inside(left - a.pad + column, a.source_width, a.border);
        int row = y - a.source_row0;
        bool there = y >= 0 && x >= 0 && row >= 0 && row < a.source_rows;
        size_t at = ((size_t)plane * a.source_plane + row) * a.source_width + x;
        uint16_t value = there ? source[at] : (uint16_t)0;
        even[i] = value;
        if (column > 0) odd[i - 1] = value;
        if (column == wide - 1) odd[i] = 0;
    }
    __syncthreads();
    int lane = threadIdx.x % 32;
    int pixel = lane / 4;
    // Columns begin at the pixel: at an odd one, in the second copy.
    const uint16_t* patch = pixel % 2 ? odd + pixel - 1 : even + pixel;
    patch += warp_row() * wide + warp_column() + lane % 4 * 2;
    int group0 = blockIdx.z * GROUPS;
    float sums[WARP_ROWS][GROUPS][4] = {};
    for (int step = 0; step < a.inputs * a.kernel; step++) {
        uint32_t b[GROUPS][2];
        read_weights<GROUPS>(a, step, group0, b);
        const uint16_t* at = patch + (step / a.kernel * tall + step % a.kernel) * wide;
#pragma unroll
        for (int row = 0; row < WARP_ROWS; row++, at += wide) {
            uint32_t av[4] = {two(at), two(at + 8), two(at + 8), two(at + 16)};
#pragma unroll
            for (int group = 0; group < GROUPS; group++) T::mma(sums[row][group], av, b[group]);
        }
    }
    finish<T, GROUPS>(a, rows_shared, top, left, group0, sums);
}

// Any other layer: pixels of T in, 16 channels at a time, the next ones on
// their way meanwhile. A row of pixels is read once for each column of the
// kernel, and serves all rows of the warp's results. Weights: by 16 channels in, tap, group of 8 channels
// out, lane: what the lane holds of them.
template <typename T, int GROUPS>
DEVICE void conv_layer(const Convolve& a) {
    SHARED(patches_shared);
    int wide = TILE_COLUMNS + a.kernel - 1;
    int tall = TILE_ROWS + a.kernel - 1;
    uint16_t* patches = reinterpret_cast<uint16_t*>(patches_shared);
    int patch_size = wide * tall * PIXEL;
    const uint16_t* source = reinterpret_cast<const uint16_t*>(a.source);
    int left = blockIdx.x * TILE_COLUMNS;
    int top = a.row0 + blockIdx.y * TILE_ROWS;
    int chunks = a.inputs / CHUNK;
    int taps = a.kernel * a.kernel;
    auto fetch = [&](int chunk) {
        uint16_t* patch = patches + chunk % 2 * patch_size;
        // Two copies of 16 bytes a pixel.
        for (int i = threadIdx.x; i < wide * tall * 2; i += 256) {
            int pixel = i / 2;
            int y = inside(top - a.pad + pixel / wide, a.source_height, a.border);
            int x = inside(left - a.pad + pixel % wide, a.source_width, a.border);
            int row = y - a.source_row0;
            bool there = y >= 0 && x >= 0 && row >= 0 && row < a.source_rows;
            size_t at = ((size_t)row * a.source_width + x) * a.inputs + chunk * CHUNK + i % 2 * 8;
            copy16(patch + pixel * PIXEL + i % 2 * 8, there ? source + at : source, there);
        }
        copies_end();
    };
    int lane = threadIdx.x % 32;
    int group0 = blockIdx.z * GROUPS;
    int last = a.kernel + WARP_ROWS - 1;
    float sums[WARP_ROWS][GROUPS][4] = {};
    fetch(0);
    for (int chunk = 0; chunk < chunks; chunk++) {
        if (chunk + 1 < chunks) {
            fetch(chunk + 1);
            copies_wait<1>();
        } else {
            copies_wait<0>();
        }
        __syncthreads();
        const uint16_t* patch = patches + chunk % 2 * patch_size + lane / 16 * 8 +
                                (warp_row() * wide + warp_column() + lane % 16) * PIXEL;
        for (int kx = 0; kx < a.kernel; kx++, patch += PIXEL) {
            size_t step = (size_t)chunk * taps + kx;
            const uint16_t* at = patch;
            // The weights of the kernel's last rows.
            uint32_t b[WARP_ROWS][GROUPS][2];
            for (int first = 0; first < last; first += WARP_ROWS) {
#pragma unroll
                for (int i = 0; i < WARP_ROWS; i++) {
                    int row_in = first + i;
                    if (row_in >= last) break;
                    if (row_in < a.kernel) read_weights<GROUPS>(a, step + row_in * a.kernel, group0, b[i]);
                    uint32_t av[4];
                    load4(av, at);
                    at += wide * PIXEL;
#pragma unroll
                    for (int row = 0; row < WARP_ROWS; row++) {
                        int ky = row_in - row;
                        if (ky < 0 || ky >= a.kernel) continue;
#pragma unroll
                        for (int group = 0; group < GROUPS; group++) {
                            T::mma(sums[row][group], av, b[(i - row + WARP_ROWS) % WARP_ROWS][group]);
                        }
                    }
                }
            }
        }
        // The patch that was read is the next one to be written.
        __syncthreads();
    }
    finish<T, GROUPS>(a, patches_shared, top, left, group0, sums);
}

#define LAYERS(type, name, groups)                                                              \
    KERNEL THREADS(256) first_##name##_##groups(ARGUMENTS Convolve a) {                         \
        first_layer<type, groups>(a);                                                           \
    }                                                                                           \
    KERNEL THREADS(256) conv_##name##_##groups(ARGUMENTS Convolve a) {                         \
        conv_layer<type, groups>(a);                                                           \
    }

LAYERS(F16, f16, 1)
LAYERS(F16, f16, 2)
LAYERS(F16, f16, 4)
LAYERS(F16, f16, 8)
LAYERS(Bf16, bf16, 1)
LAYERS(Bf16, bf16, 2)
LAYERS(Bf16, bf16, 4)
LAYERS(Bf16, bf16, 8)

// The input of the first layer: planes of 0 to 255 to v / 255 * scale + offset,
// in the type of the layers; `edge` more on every side, where it is repeated.
struct Enter {
    uint64_t planes;  // f32.
    uint64_t dst; 
    int32_t width, height;
    int32_t count;
    int32_t edge;
    float scale[4];
    float offset[4];
};
SAME_SIZE(Enter, 64);
SAME_OFFSET(Enter, planes, 0);
SAME_OFFSET(Enter, dst, 8);
SAME_OFFSET(Enter, width, 16);
SAME_OFFSET(Enter, height, 20);
SAME_OFFSET(Enter, count, 24);
SAME_OFFSET(Enter, edge, 28);
SAME_OFFSET(Enter, scale, 32);
SAME_OFFSET(Enter, offset, 48);

template <typename Store>
DEVICE void enter(const Enter& a, Store store) {
    int wide = a.width + 2 * a.edge;
    int tall = a.height + 2 * a.edge;
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    int plane = blockIdx.z;
    if (x >= wide || y >= tall) return;
    int row = inside(y - a.edge, a.height, EDGE);
    int column = inside(x - a.edge, a.width, EDGE);
    const float* planes = reinterpret_cast<const float*>(a.planes);
    float value = planes[((size_t)plane * a.height + row) * a.width + column];
    value = plus(times(over(value, 255.0f), a.scale[plane]), a.offset[plane]);
    store(((size_t)plane * tall + y) * wide + x, value, (size_t)a.count * tall * wide);
}

KERNEL THREADS(256) enter_f32(ARGUMENTS Enter a) {
    float* dst = reinterpret_cast<float*>(a.dst);
    enter(a, [=](size_t at, float value, size_t) { dst[at] = value; });
}

KERNEL THREADS(256) enter_f16(ARGUMENTS Enter a) {
    uint16_t* dst = reinterpret_cast<uint16_t*>(a.dst);
    enter(a, [=](size_t at, float value, size_t) { dst[at] = F16::bits(value); });
}

// 8 bits of a sample are what bfloat16 holds: what it loses goes in as well, as
// planes after the others.
KERNEL THREADS(256) enter_bf16(ARGUMENTS Enter a) {
    uint16_t* dst = reinterpret_cast<uint16_t*>(a.dst);
    enter(a, [=](size_t at, float value, size_t planes) {
        uint16_t most = Bf16::bits(value);
        dst[at] = most;
        dst[planes + at] = Bf16::bits(plus(value, -Bf16::value(most)));
    });
}
