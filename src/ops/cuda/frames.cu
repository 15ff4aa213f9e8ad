// Frames: samples to planes of f32, resampling, colour, and back. Every sum is
// the CPU's (src/frame), in its order and rounded one by one: the same bits.

struct Samples {
    uint64_t bytes;  // The first sample's word.
    uint64_t plane;  // f32, dense rows.
    int32_t stride;  // Bytes from row to row.
    int32_t step;    // Bytes from word to word.
    int32_t width;
    int32_t height;
    int32_t word;    // Bytes of a word: 1, 2 or 4.
    int32_t shift;   // Bits of a word below the sample.
    int32_t joins;   // Whether the word has samples of other components already.
    float max;       // The largest sample.
    float gain;      // value = sample * gain + offset
    float offset;
    float inverse;   // 1 / gain
};
SAME_SIZE(Samples, 64);
SAME_OFFSET(Samples, bytes, 0);
SAME_OFFSET(Samples, plane, 8);
SAME_OFFSET(Samples, stride, 16);
SAME_OFFSET(Samples, step, 20);
SAME_OFFSET(Samples, width, 24);
SAME_OFFSET(Samples, height, 28);
SAME_OFFSET(Samples, word, 32);
SAME_OFFSET(Samples, shift, 36);
SAME_OFFSET(Samples, joins, 40);
SAME_OFFSET(Samples, max, 44);
SAME_OFFSET(Samples, gain, 48);
SAME_OFFSET(Samples, offset, 52);
SAME_OFFSET(Samples, inverse, 56);

KERNEL THREADS(256) read_samples(ARGUMENTS Samples a) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    uint64_t at = a.bytes + (size_t)y * a.stride + (size_t)x * a.step;
    uint32_t word;
    switch (a.word) {
        case 1: word = *reinterpret_cast<const uint8_t*>(at); break;
        case 2: word = *reinterpret_cast<const uint16_t*>(at); break;
        default: word = *reinterpret_cast<const uint32_t*>(at); break;
    }
    uint32_t sample = (word >> a.shift) & (uint32_t)a.max;
    float* plane = reinterpret_cast<float*>(a.plane);
    plane[(size_t)y * a.width + x] = plus(times((float)sample, a.gain), a.offset);
}

// Rounds to nearest, halves up, and clamps. NaN becomes 0. A null plane
// stands for the largest sample.
KERNEL THREADS(256) store_samples(ARGUMENTS Samples a) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const float* plane = reinterpret_cast<const float*>(a.plane);
    float sample = a.max;
    if (plane) {
        float value = plus(plane[(size_t)y * a.width + x], -a.offset);
        sample = fminf(fmaxf(plus(times(value, a.inverse), 0.5f), 0.0f), a.max);
    }
    uint32_t word = (uint32_t)(int)sample << a.shift;
    uint64_t at = a.bytes + (size_t)y * a.stride + (size_t)x * a.step;
    switch (a.word) {
        case 1: *reinterpret_cast<uint8_t*>(at) = (uint8_t)word; break;
        case 2: *reinterpret_cast<uint16_t*>(at) = (uint16_t)word; break;
        default: {
            uint32_t* all = reinterpret_cast<uint32_t*>(at);
            *all = a.joins ? *all | word : word;
        }
    }
}

struct Resample {
    uint64_t source;   // f32, dense rows of source_width.
    uint64_t dst;      // f32, dense rows of width.
    uint64_t starts;   // u32, one for each sample of the axis.
    uint64_t weights;  // f32, `taps` for each sample of the axis.
    int32_t taps;
    int32_t source_width;
    int32_t width;
    int32_t height;
};
SAME_SIZE(Resample, 48);
SAME_OFFSET(Resample, source, 0);
SAME_OFFSET(Resample, dst, 8);
SAME_OFFSET(Resample, starts, 16);
SAME_OFFSET(Resample, weights, 24);
SAME_OFFSET(Resample, taps, 32);
SAME_OFFSET(Resample, source_width, 36);
SAME_OFFSET(Resample, width, 40);
SAME_OFFSET(Resample, height, 44);

KERNEL THREADS(256) resample_rows(ARGUMENTS Resample a) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const float* source = reinterpret_cast<const float*>(a.source);
    const float* weights = reinterpret_cast<const float*>(a.weights) + (size_t)y * a.taps;
    size_t start = reinterpret_cast<const uint32_t*>(a.starts)[y];
    float sum = 0.0f;
    for (int tap = 0; tap < a.taps; tap++) {
        sum = plus(sum, times(weights[tap], source[(start + tap) * a.source_width + x]));
    }
    reinterpret_cast<float*>(a.dst)[(size_t)y * a.width + x] = sum;
}

KERNEL THREADS(256) resample_columns(ARGUMENTS Resample a) {
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= a.width || y >= a.height) return;
    const float* weights = reinterpret_cast<const float*>(a.weights) + (size_t)x * a.taps;
    size_t start = reinterpret_cast<const uint32_t*>(a.starts)[x];
    const float* source =
        reinterpret_cast<const float*>(a.source) + (size_t)y * a.source_width + start;
    float sum = 0.0f;
    for (int tap = 0; tap < a.taps; tap++) sum = plus(sum, times(weights[tap], source[tap]));
    reinterpret_cast<float*>(a.dst)[(size_t)y * a.width + x] = sum;
}

// Conversions of the planes of an image.
enum ColorChange {
    YUV_TO_RGB = 0,
    RGB_TO_YUV = 1,
    GRAY_TO_RGB = 2,   // The first plane to all three.
    RGB_TO_GRAY = 3,   // All three to the first.
    LUMA_OF_RGB = 4,   // BT.601 studio luma of the planes into `other`.
    ADD_LUMA = 5,      // What `other` has more of luma than the planes, added to them.
    // Of one plane, by the alpha `other`, about the value `luma_base`.
    PREMULTIPLY = 6,
    UNPREMULTIPLY = 7,
};

struct Colors {
    uint64_t planes;  // f32: three planes, one after the other.
    uint64_t other;   // f32: one plane.
    uint64_t samples; // Of one plane.
    int32_t change;
    float kr, kg, kb;
    float luma_base, luma_gain, chroma_gain;
    float rgb_per_luma;
};
SAME_SIZE(Colors, 56);
SAME_OFFSET(Colors, planes, 0);
SAME_OFFSET(Colors, other, 8);
SAME_OFFSET(Colors, samples, 16);
SAME_OFFSET(Colors, change, 24);
SAME_OFFSET(Colors, kr, 28);
SAME_OFFSET(Colors, luma_base, 40);
SAME_OFFSET(Colors, luma_gain, 44);
SAME_OFFSET(Colors, chroma_gain, 48);
SAME_OFFSET(Colors, rgb_per_luma, 52);

DEVICE void to_rgb(const Colors& a, float y, float u, float v, float& r, float& g, float& b) {
    y = times(plus(y, -a.luma_base), a.luma_gain);
    float red = times(times(2.0f, plus(1.0f, -a.kr)), a.chroma_gain);
    float blue = times(times(2.0f, plus(1.0f, -a.kb)), a.chroma_gain);
    r = plus(y, times(red, plus(v, -128.0f)));
    b = plus(y, times(blue, plus(u, -128.0f)));
    g = over(plus(plus(y, -times(a.kr, r)), -times(a.kb, b)), a.kg);
}

DEVICE float weighted(const Colors& a, float r, float g, float b) {
    return plus(plus(times(a.kr, r), times(a.kg, g)), times(a.kb, b));
}

DEVICE float luma_601(float r, float g, float b) {
    return (float)(16.0 + (65.481 * (double)r + 128.553 * (double)g + 24.966 * (double)b) / 255.0);
}

KERNEL THREADS(256) change_colors(ARGUMENTS Colors a) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.samples) return;
    float* p = reinterpret_cast<float*>(a.planes) + i;
    float* q = p + a.samples;
    float* s = q + a.samples;
    float* other = reinterpret_cast<float*>(a.other) + i;
    switch (a.change) {
        case YUV_TO_RGB:
        case GRAY_TO_RGB: {
            bool gray = a.change == GRAY_TO_RGB;
            float r, g, b;
            to_rgb(a, *p, gray ? 128.0f : *q, gray ? 128.0f : *s, r, g, b);
            *p = r;
            *q = gray ? r : g;
            *s = gray ? r : b;
            break;
        }
        case RGB_TO_YUV: {
            float y = weighted(a, *p, *q, *s);
            float blue = times(times(2.0f, plus(1.0f, -a.kb)), a.chroma_gain);
            float red = times(times(2.0f, plus(1.0f, -a.kr)), a.chroma_gain);
            float u = plus(over(plus(*s, -y), blue), 128.0f);
            float v = plus(over(plus(*p, -y), red), 128.0f);
            *p = plus(over(y, a.luma_gain), a.luma_base);
            *q = u;
            *s = v;
            break;
        }
        case RGB_TO_GRAY:
            *p = plus(over(weighted(a, *p, *q, *s), a.luma_gain), a.luma_base);
            break;
        case LUMA_OF_RGB:
            *other = luma_601(*p, *q, *s);
            break;
        case PREMULTIPLY:
            *p = plus(times(plus(*p, -a.luma_base), over(*other, 255.0f)), a.luma_base);
            break;
        case UNPREMULTIPLY: {
            float alpha = over(fminf(*other, 255.0f), 255.0f);
            float value = plus(over(plus(*p, -a.luma_base), alpha), a.luma_base);
            *p = *other >= 0.5f ? value : a.luma_base;
            break;
        }
        case ADD_LUMA: {
            float more = times(plus(*other, -luma_601(*p, *q, *s)), a.rgb_per_luma);
            *p = plus(*p, more);
            *q = plus(*q, more);
            *s = plus(*s, more);
            break;
        }
    }
}

struct Replace {
    uint64_t from;
    uint64_t to;
    uint64_t length;   // Bytes.
    uint64_t differs;  // u32: 1 if a byte differed, else untouched.
};
SAME_SIZE(Replace, 32);
SAME_OFFSET(Replace, from, 0);
SAME_OFFSET(Replace, to, 8);
SAME_OFFSET(Replace, length, 16);
SAME_OFFSET(Replace, differs, 24);

// Copies bytes, four by each thread, and notes whether any differed. Both
// places are aligned to words.
KERNEL THREADS(256) replace_bytes(ARGUMENTS Replace a) {
    uint64_t at = ((uint64_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (at >= a.length) return;
    bool differs = false;
    if (at + 4 <= a.length) {
        uint32_t word = *reinterpret_cast<const uint32_t*>(a.from + at);
        uint32_t* to = reinterpret_cast<uint32_t*>(a.to + at);
        differs = *to != word;
        if (differs) *to = word;
    } else {
        for (; at < a.length; at++) {
            uint8_t byte = *reinterpret_cast<const uint8_t*>(a.from + at);
            uint8_t* to = reinterpret_cast<uint8_t*>(a.to + at);
            differs |= *to != byte;
            *to = byte;
        }
    }
    if (differs) *reinterpret_cast<uint32_t*>(a.differs) = 1;
}
