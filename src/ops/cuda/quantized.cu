// Convolutions in 8-bit integers (src/chain/quantized). Sums are exact, and what
// follows them is the CPU's: the same bits.
//
// The first layer reads planes of 16-bit values, each in a word of its own. Between
// layers lie planes of words, the samples of four channels in each. A word of
// weights is of one value, or of the four of a word of samples.

// Results of a block of 32 x 8 threads: columns, rows, channels.
#define INTEGER_COLUMNS 32
#define INTEGER_ROWS 32
#define INTEGER_CHANNELS 16
#define INTEGER_EACH 4

// Samples of a word.
#define QUAD 4

// Bits of the multipliers' fraction, and what a skip is shifted by before.
#define FRACTION 15
#define SKIP_SHIFT 4

// From the sums of a channel to its samples.
struct Requantize {
    int32_t bias, shift, positive, negative;
};

// From the sums of a channel of the last layer to its values.
struct Scale {
    float step, bias;
};

DEVICE int scaled(int value, int multiplier) {
    return (value * multiplier + (1 << (FRACTION - 1))) >> FRACTION;
}

// The sample for a sum; `offset` are the sample of 0 and what is added, in steps.
DEVICE uint32_t requantized(const Requantize& r, int sum, int offset) {
    int t = (int)((uint32_t)sum + (uint32_t)r.bias) >> r.shift;
    t = min(max(t, -32768), 32767);
    int q = scaled(max(t, 0), r.positive) + scaled(min(t, 0), r.negative) + offset;
    return (uint32_t)min(max(q, 0), 255);
}

// Stores four channels of a pixel from `channel` on.
CALLED void store_quad(const Convolve& a, int channel, int y, int x, const int (&sums)[QUAD]) {
    if (channel >= a.outputs || y >= a.row0 + a.rows) return;
    if (a.planes) {
        const Scale* scales = reinterpret_cast<const Scale*>(a.bias) + channel;
        for (int i = 0; i < QUAD && channel + i < a.outputs; i++) {
            float value = plus(times((float)sums[i], scales[i].step), scales[i].bias);
            store_output(a, channel + i, y, x, value);
        }
        return;
    }
    // The channels of a square's first pixel come first.
    int stored = a.outputs / QUAD / (a.shuffle * a.shuffle);
    int part = channel / QUAD / stored;
    int row = y * a.shuffle + part / a.shuffle;
    int column = x * a.shuffle + part % a.shuffle;
    size_t width = (size_t)a.width * a.shuffle;
    size_t plane = (size_t)(channel / QUAD % stored) * a.dst_plane;
    uint32_t added = 0;
    if (a.skip) {
        size_t at = (plane + row - a.skip_row0) * width + column;
        added = reinterpret_cast<const uint32_t*>(a.skip)[at];
    }
    const Requantize* requantize = reinterpret_cast<const Requantize*>(a.bias) + channel;
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < QUAD; i++) {
        int offset = a.integers.zero;
        if (a.skip) {
            int sample = (int)(added >> (8 * i) & 0xff) - a.integers.skip_zero;
            offset += scaled(sample * (1 << SKIP_SHIFT), a.integers.skip_multiplier);
        }
        word |= requantized(requantize[i], sums[i], offset) << (8 * i);
    }
    reinterpret_cast<uint32_t*>(a.dst)[(plane + row - a.dst_row0) * width + column] = word;
}

// Weights: by group of 16 channels out, plane of words in, tap, channel out.
// SAMPLES: words are four samples each, else one value.
template <bool SAMPLES>
DEVICE void convolve_words(const Convolve& a) {
    SHARED(words_shared);
    int taps = a.kernel * a.kernel;
    int wide = INTEGER_COLUMNS + a.kernel - 1;
    int tall = INTEGER_ROWS + a.kernel - 1;
    uint32_t* patch = reinterpret_cast<uint32_t*>(words_shared);
    int* kernels = reinterpret_cast<int*>(patch + ((a.chunk * wide * tall + 3) & ~3));
    const uint32_t* source = reinterpret_cast<const uint32_t*>(a.source);
    const int* weights = reinterpret_cast<const int*>(a.weights) +
                         (size_t)blockIdx.z * a.inputs * taps * INTEGER_CHANNELS;
    int left = blockIdx.x * INTEGER_COLUMNS;
    int top = a.row0 + blockIdx.y * INTEGER_ROWS;
    int thread = threadIdx.y * INTEGER_COLUMNS + threadIdx.x;
    int sums[INTEGER_EACH][INTEGER_CHANNELS] = {};
    for (int first = 0; first < a.inputs; first += a.chunk) {
        int count = min(a.chunk, a.inputs - first);
        __syncthreads();
        for (int i = thread; i < count * wide * tall; i += 256) {
            int plane = i / (wide * tall);
            int y = inside(top - a.pad + i / wide % tall, a.source_height, a.border);
            int x = inside(left - a.pad + i % wide, a.source_width, a.border);
            int row = y - a.source_row0;
            bool there = y >= 0 && x >= 0 && row >= 0 && row < a.source_rows;
            size_t at = ((size_t)(first + plane) * a.source_plane + row) * a.source_width + x;
            patch[i] = there ? source[at] : (uint32_t)a.integers.border;
        }
        for (int i = thread; i < count * taps * INTEGER_CHANNELS; i += 256) {
            kernels[i] = weights[(size_t)first * taps * INTEGER_CHANNELS + i];
        }
        __syncthreads();
        for (int plane = 0; plane < count; plane++) {
            const uint32_t* window = patch + plane * wide * tall + threadIdx.x;
            const int* weight = kernels + plane * taps * INTEGER_CHANNELS;
            for (int ky = 0; ky < a.kernel; ky++) {
                for (int kx = 0; kx < a.kernel; kx++) {
                    int w[INTEGER_CHANNELS];
#pragma unroll
                    for (int c = 0; c < INTEGER_CHANNELS; c++) w[c] = weight[c];
                    weight += INTEGER_CHANNELS;
#pragma unroll
                    for (int i = 0; i < INTEGER_EACH; i++) {
                        uint32_t v = window[(threadIdx.y + 8 * i + ky) * wide + kx];
#pragma unroll
                        for (int c = 0; c < INTEGER_CHANNELS; c++) {
                            sums[i][c] = SAMPLES ? dot4(v, w[c], sums[i][c])
                                                 : sums[i][c] + (int)v * w[c];
                        }
                    }
                }
            }
        }
    }
    int x = left + threadIdx.x;
    if (x >= a.width) return;
#pragma unroll
    for (int i = 0; i < INTEGER_EACH; i++) {
        int y = top + threadIdx.y + 8 * i;
#pragma unroll
        for (int c = 0; c < INTEGER_CHANNELS; c += QUAD) {
            const int four[QUAD] = {sums[i][c], sums[i][c + 1], sums[i][c + 2], sums[i][c + 3]};
            store_quad(a, blockIdx.z * INTEGER_CHANNELS + c, y, x, four);
        }
    }
}

KERNEL THREADS(256) first_int8(ARGUMENTS Convolve a) { convolve_words<false>(a); }

KERNEL THREADS(256) conv_int8(ARGUMENTS Convolve a) { convolve_words<true>(a); }

// The steps of a value, rounded, halves up: positive numbers are rounded by truncation.
KERNEL THREADS(256) enter_int8(ARGUMENTS Enter a) {
    int* dst = reinterpret_cast<int*>(a.dst);
    enter(a, [=](size_t at, float steps, size_t) {
        steps = plus(fminf(fmaxf(steps, -32767.0f), 32767.0f), 32768.5f);
        dst[at] = (int)steps - 32768;
    });
}
