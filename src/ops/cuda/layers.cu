// Layers in training, forwards and backwards, on dense f32 tensors
// (N, C, H, W), and the optimiser's updates.

// What the kernels of channels compute.
enum ChannelOp {
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
    // The sums of the forward or backward pass, (2, C).
    const float* sums;
    float* dst;
    // (C, count, 2); nothing where `count` is 1.
    double* parts;
    int op;
    int batch;
    int channels;
    int area;
    int count;
    int slopes;
    float eps;
};
SAME_SIZE(Channels, 96);
SAME_OFFSET(Channels, x, 0);
SAME_OFFSET(Channels, grad, 8);
SAME_OFFSET(Channels, weight, 16);
SAME_OFFSET(Channels, bias, 24);
SAME_OFFSET(Channels, moments, 32);
SAME_OFFSET(Channels, sums, 40);
SAME_OFFSET(Channels, dst, 48);
SAME_OFFSET(Channels, parts, 56);
SAME_OFFSET(Channels, op, 64);
SAME_OFFSET(Channels, batch, 68);
SAME_OFFSET(Channels, channels, 72);
SAME_OFFSET(Channels, area, 76);
SAME_OFFSET(Channels, count, 80);
SAME_OFFSET(Channels, slopes, 84);
SAME_OFFSET(Channels, eps, 88);

const int SUM_THREADS = 512;

// Stores a channel's sums; of moments, mean and variance.
DEVICE void store_channel_sums(const Channels& a, int channel, double first, double second) {
    if (a.op == MOMENTS) {
        double samples = (double)a.batch * a.area;
        first /= samples;
        second = second / samples - first * first;
        second = second < 0 ? 0 : second;
    } else if (a.op == NORMALISE_SUMS) {
        second /= sqrt((double)a.moments[a.channels + channel] + a.eps);
    }
    a.dst[channel] = (float)first;
    a.dst[a.channels + channel] = (float)second;
}

// The sums of one part of a channel's samples: block (part, channel).
KERNEL channel_parts(ARGUMENTS Channels a) {
    SHARED(memory);
    double* shared = reinterpret_cast<double*>(memory);
    int channel = blockIdx.y, thread = threadIdx.x;
    float mean = a.op == NORMALISE_SUMS ? a.moments[channel] : 0;
    double first = 0, second = 0;
    int all = a.batch * a.area, step = gridDim.x * SUM_THREADS;
    for (int i = blockIdx.x * SUM_THREADS + thread; i < all; i += step) {
        size_t at = ((size_t)(i / a.area) * a.channels + channel) * a.area + i % a.area;
        float v = a.x[at];
        if (a.op == MOMENTS) {
            first += v;
            second += (double)v * v;
        } else if (a.op == NORMALISE_SUMS) {
            float g = a.grad[at];
            first += g;
            second += (double)g * (v - mean);
        } else if (a.op == PRELU_SUMS) {
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
    if (a.count == 1) return store_channel_sums(a, channel, shared[0], shared[1]);
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
    store_channel_sums(a, channel, first, second);
}

// Computes samples from samples: block (piece of a plane, plane).
KERNEL channel_samples(ARGUMENTS Channels a) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.area) return;
    for (int plane = blockIdx.y; plane < a.batch * a.channels; plane += gridDim.y) {
        int channel = plane % a.channels;
        size_t at = (size_t)plane * a.area + i;
        float v = a.x[at];
        if (a.op == RELU_BACK) {
            a.dst[at] = v > 0 ? a.grad[at] : 0;
            continue;
        }
        float weight = a.weight[a.slopes == 1 ? 0 : channel];
        if (a.op == PRELU) {
            a.dst[at] = v > 0 ? v : weight * v;
        } else if (a.op == PRELU_BACK) {
            a.dst[at] = v > 0 ? a.grad[at] : weight * a.grad[at];
        } else {
            float mean = a.moments[channel];
            float inverse = 1 / sqrtf(a.moments[a.channels + channel] + a.eps);
            if (a.op == NORMALISE) {
                a.dst[at] = (v - mean) * (weight * inverse) + a.bias[channel];
            } else {
                float samples = (float)a.batch * a.area;
                float level = a.sums[channel] / samples;
                float slope = a.sums[a.channels + channel] * inverse / samples;
                a.dst[at] = weight * inverse * (a.grad[at] - level - (v - mean) * slope);
            }
        }
    }
}

// Tensors that a call works on, as many as its arguments have room for: block
// (part, tensor), whose threads take the elements in turn.
struct TensorArgs {
    float* dst;
    const float* src;
    // (2, count), or (1, count), of the optimiser.
    float* moments;
    long long count;
    // The weight of `src` in a linear interpolation.
    float weight;
};
SAME_SIZE(TensorArgs, 40);
SAME_OFFSET(TensorArgs, dst, 0);
SAME_OFFSET(TensorArgs, src, 8);
SAME_OFFSET(TensorArgs, moments, 16);
SAME_OFFSET(TensorArgs, count, 24);
SAME_OFFSET(TensorArgs, weight, 32);

struct Tensors {
    TensorArgs each[96];
};
SAME_SIZE(Tensors, 3840);

// Calls `f` with each element that is the thread's.
template <typename F>
DEVICE void elements(const TensorArgs& each, F f) {
    long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < each.count; i += step) f(i);
}

// An update by Adam, or of gradient descent with momentum where `momentum` is
// not negative, against the gradients `src`. The fields are those of
// ops/spec.rs.
struct UpdateArgs {
    float grad_scale;
    float clip_value;
    float weight_decay;
    float decoupled_decay;
    float momentum;
    float beta1;
    float one_less_beta1;
    float beta2;
    float one_less_beta2;
    float root_correction2;
    float eps;
    float step_size;
};
SAME_SIZE(UpdateArgs, 48);
SAME_OFFSET(UpdateArgs, grad_scale, 0);
SAME_OFFSET(UpdateArgs, clip_value, 4);
SAME_OFFSET(UpdateArgs, weight_decay, 8);
SAME_OFFSET(UpdateArgs, decoupled_decay, 12);
SAME_OFFSET(UpdateArgs, momentum, 16);
SAME_OFFSET(UpdateArgs, beta1, 20);
SAME_OFFSET(UpdateArgs, one_less_beta1, 24);
SAME_OFFSET(UpdateArgs, beta2, 28);
SAME_OFFSET(UpdateArgs, one_less_beta2, 32);
SAME_OFFSET(UpdateArgs, root_correction2, 36);
SAME_OFFSET(UpdateArgs, eps, 40);
SAME_OFFSET(UpdateArgs, step_size, 44);

KERNEL apply_updates(ARGUMENTS Tensors all, ARGUMENTS UpdateArgs a) {
    const TensorArgs& each = all.each[blockIdx.y];
    elements(each, [&](long long i) {
        float p = each.dst[i], first = each.moments[i];
        float g = times(each.src[i], a.grad_scale);
        g = g < -a.clip_value ? -a.clip_value : g > a.clip_value ? a.clip_value : g;
        g = plus(g, times(a.weight_decay, p));
        if (a.momentum >= 0) {
            first = plus(times(a.momentum, first), g);
            each.moments[i] = first;
            each.dst[i] = plus(p, -times(a.step_size, first));
            return;
        }
        float second = each.moments[each.count + i];
        first = plus(times(a.beta1, first), times(a.one_less_beta1, g));
        second = plus(times(a.beta2, second), times(times(a.one_less_beta2, g), g));
        each.moments[i] = first;
        each.moments[each.count + i] = second;
        float denominator = plus(over(root(second), a.root_correction2), a.eps);
        each.dst[i] = plus(times(a.decoupled_decay, p), -times(a.step_size, over(first, denominator)));
    });
}

// Moves tensors towards others, keeping a share of what they are.
KERNEL lerp_in_place(ARGUMENTS Tensors all, float keep) {
    const TensorArgs& each = all.each[blockIdx.y];
    elements(each, [&](long long i) {
        each.dst[i] = plus(times(each.dst[i], keep), times(each.src[i], each.weight));
    });
}

// Sums of squares, of parts of each tensor: (tensors, parts).
KERNEL squared_norm_parts(ARGUMENTS Tensors all, double* parts) {
    SHARED(memory);
    double* shared = reinterpret_cast<double*>(memory);
    const TensorArgs& each = all.each[blockIdx.y];
    int thread = threadIdx.x;
    double sum = 0;
    elements(each, [&](long long i) { sum += (double)each.src[i] * each.src[i]; });
    shared[thread] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) shared[thread] += shared[thread + half];
    }
    if (thread == 0) parts[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = shared[0];
}
