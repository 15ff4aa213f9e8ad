// Layers in training, forwards and backwards, on dense f32 tensors
// (N, C, H, W), and the optimiser's step.

// What becomes of the samples of channels.
enum ChannelsKind {
    // Sums over a batch, of two numbers each: of a sample and of its square;
    MOMENTS = 0,
    // of the gradient and of it times the normalised sample;
    NORMALISE_SUMS = 1,
    // of the gradient times what is negative of the sample;
    PRELU_SUMS = 2,
    // of the sample.
    SUMS = 7,
    // Sample by sample: normalised, and the gradient of that,
    NORMALISE = 3,
    NORMALISE_BACK = 4,
    // what is negative multiplied, and the gradient of that.
    PRELU = 5,
    PRELU_BACK = 6,
    // the gradient where the sample, a ReLU's result, is not zero.
    RELU_BACK = 8,
};

struct Channels {
    const float* x;
    const float* grad;
    // (C), or one value for all channels where `slopes` is 1.
    const float* weight;
    const float* bias;
    // Means and variances, (2, C).
    const float* moments;
    // What the sums came to, (2, C).
    const float* sums;
    float* made;
    // (C, count, 2); nothing where `count` is 1.
    double* parts;
    int kind;
    int batch;
    int channels;
    int area;
    int count;
    int slopes;
    float eps;
};

const int SUM_THREADS = 512;

// What a channel's sums come to; of moments, mean and variance.
DEVICE void channel_made(const Channels& a, int channel, double first, double second) {
    if (a.kind == MOMENTS) {
        double samples = (double)a.batch * a.area;
        first /= samples;
        second = second / samples - first * first;
        second = second < 0 ? 0 : second;
    } else if (a.kind == NORMALISE_SUMS) {
        second /= sqrt((double)a.moments[a.channels + channel] + a.eps);
    }
    a.made[channel] = (float)first;
    a.made[a.channels + channel] = (float)second;
}

// The sums of one part of a channel's samples: block (part, channel).
KERNEL channel_parts(ARGUMENTS Channels a) {
    SHARED(memory);
    double* shared = reinterpret_cast<double*>(memory);
    int channel = blockIdx.y, thread = threadIdx.x;
    float mean = a.kind == NORMALISE_SUMS ? a.moments[channel] : 0;
    double first = 0, second = 0;
    int all = a.batch * a.area, step = gridDim.x * SUM_THREADS;
    for (int i = blockIdx.x * SUM_THREADS + thread; i < all; i += step) {
        size_t at = ((size_t)(i / a.area) * a.channels + channel) * a.area + i % a.area;
        float v = a.x[at];
        if (a.kind == MOMENTS) {
            first += v;
            second += (double)v * v;
        } else if (a.kind == NORMALISE_SUMS) {
            float g = a.grad[at];
            first += g;
            second += (double)g * (v - mean);
        } else if (a.kind == PRELU_SUMS) {
            first += (double)a.grad[at] * (v < 0 ? v : 0);
        } else {
            first += v;
        }
    }
    shared[2 * thread] = first;
    shared[2 * thread + 1] = second;
    for (int half = SUM_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) {
            shared[2 * thread] += shared[2 * (thread + half)];
            shared[2 * thread + 1] += shared[2 * (thread + half) + 1];
        }
    }
    if (thread > 0) return;
    if (a.count == 1) return channel_made(a, channel, shared[0], shared[1]);
    double* to = a.parts + 2 * ((size_t)channel * gridDim.x + blockIdx.x);
    to[0] = shared[0];
    to[1] = shared[1];
}

// Adds the parts of a channel, `count` of them, one thread a channel.
KERNEL channel_sums(ARGUMENTS Channels a) {
    int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= a.channels) return;
    double first = 0, second = 0;
    for (int i = 0; i < a.count; i++) {
        first += a.parts[2 * ((size_t)channel * a.count + i)];
        second += a.parts[2 * ((size_t)channel * a.count + i) + 1];
    }
    channel_made(a, channel, first, second);
}

// Makes samples of samples: block (piece of a plane, plane).
KERNEL channel_samples(ARGUMENTS Channels a) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.area) return;
    for (int plane = blockIdx.y; plane < a.batch * a.channels; plane += gridDim.y) {
        int channel = plane % a.channels;
        size_t at = (size_t)plane * a.area + i;
        float v = a.x[at];
        if (a.kind == RELU_BACK) {
            a.made[at] = v > 0 ? a.grad[at] : 0;
            continue;
        }
        float weight = a.weight[a.slopes == 1 ? 0 : channel];
        if (a.kind == PRELU) {
            a.made[at] = v > 0 ? v : weight * v;
        } else if (a.kind == PRELU_BACK) {
            a.made[at] = v > 0 ? a.grad[at] : weight * a.grad[at];
        } else {
            float mean = a.moments[channel];
            float inverse = 1 / sqrtf(a.moments[a.channels + channel] + a.eps);
            if (a.kind == NORMALISE) {
                a.made[at] = (v - mean) * (weight * inverse) + a.bias[channel];
            } else {
                float samples = (float)a.batch * a.area;
                float level = a.sums[channel] / samples;
                float slope = a.sums[a.channels + channel] * inverse / samples;
                a.made[at] = weight * inverse * (a.grad[at] - level - (v - mean) * slope);
            }
        }
    }
}

// Tensors that a call works on, as many as its arguments have room for: block
// (part, tensor), whose threads take the elements in turn.
struct Each {
    float* changed;
    const float* other;
    // (2, count), or (1, count), of the optimiser.
    float* moments;
    long long count;
    // The share of the other, of a blend.
    float taken;
};

struct Tensors {
    Each each[96];
};

// Calls `f` with each element that is the thread's.
template <typename F>
DEVICE void elements(const Each& each, F f) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < each.count; i += step) f(i);
}

// A step of Adam, or of gradient descent with momentum where `momentum` is
// not negative, against the gradients `other`. The fields are those of
// ops/descent.rs.
struct Descend {
    float gradient;
    float most;
    float decay;
    float kept;
    float momentum;
    float beta1;
    float one_less_beta1;
    float beta2;
    float one_less_beta2;
    float root_correction2;
    float eps;
    float step_size;
};

KERNEL descend(ARGUMENTS Tensors all, ARGUMENTS Descend a) {
    const Each& each = all.each[blockIdx.y];
    elements(each, [&](long long i) {
        float p = each.changed[i], first = each.moments[i];
        float g = times(each.other[i], a.gradient);
        g = g < -a.most ? -a.most : g > a.most ? a.most : g;
        g = plus(g, times(a.decay, p));
        if (a.momentum >= 0) {
            first = plus(times(a.momentum, first), g);
            each.moments[i] = first;
            each.changed[i] = plus(p, -times(a.step_size, first));
            return;
        }
        float second = each.moments[each.count + i];
        first = plus(times(a.beta1, first), times(a.one_less_beta1, g));
        second = plus(times(a.beta2, second), times(times(a.one_less_beta2, g), g));
        each.moments[i] = first;
        each.moments[each.count + i] = second;
        float spread = plus(over(root(second), a.root_correction2), a.eps);
        each.changed[i] = plus(times(a.kept, p), -times(a.step_size, over(first, spread)));
    });
}

// Moves tensors towards others; `kept` is the share of what is there.
KERNEL blend(ARGUMENTS Tensors all, float kept) {
    const Each& each = all.each[blockIdx.y];
    elements(each, [&](long long i) {
        each.changed[i] = plus(times(each.changed[i], kept), times(each.other[i], each.taken));
    });
}

// Sums of squares, of parts of each tensor: (tensors, parts).
KERNEL square_parts(ARGUMENTS Tensors all, double* parts) {
    SHARED(memory);
    double* shared = reinterpret_cast<double*>(memory);
    const Each& each = all.each[blockIdx.y];
    int thread = threadIdx.x;
    double sum = 0;
    elements(each, [&](long long i) { sum += (double)each.other[i] * each.other[i]; });
    shared[thread] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) shared[thread] += shared[thread + half];
    }
    if (thread == 0) parts[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = shared[0];
}
