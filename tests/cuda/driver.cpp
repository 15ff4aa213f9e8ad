// A libcuda for tests: one "GPU", whose kernels are those of src/ops/cuda and
// candle's (candle.cpp), run on the CPU by the emulator. Everything happens at once, in the order of the
// calls; a stream in capture keeps its calls for the graph instead. Threads
// without a context are refused, as a driver refuses them.
//
// SRFILTER_EMULATED_LAZY: what is begun in a stream happens only when somebody
// waits for the stream, so that who does not wait sees nothing of it.
// SRFILTER_EMULATED_CALLS: a file that gets what was called how often.
// SRFILTER_EMULATED_MEMORY: bytes that the GPU has (default 1 GiB).
// SRFILTER_EMULATED_LOST: launches after which the GPU is lost.

#include "kernels.cu"
#include "kernel.hpp"

#include <map>
#include <mutex>
#include <string>

namespace {

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
    NO_FUNCTION = 98,
    NOT_SUPPORTED = 801,
};

#define NAMED(function) kernel(#function, true, function)
const Registered OURS({
    NAMED(read_samples), NAMED(store_samples), NAMED(resample_rows), NAMED(resample_columns),
    NAMED(change_colors), NAMED(replace_bytes), NAMED(convolve_f32), NAMED(first_int8),
    NAMED(conv_int8), NAMED(enter_int8), NAMED(enter_f32), NAMED(enter_f16),
    NAMED(enter_bf16), NAMED(first_f16_1), NAMED(first_f16_2), NAMED(first_f16_4),
    NAMED(first_f16_8), NAMED(conv_f16_1), NAMED(conv_f16_2), NAMED(conv_f16_4),
    NAMED(conv_f16_8), NAMED(first_bf16_1), NAMED(first_bf16_2), NAMED(first_bf16_4),
    NAMED(first_bf16_8), NAMED(conv_bf16_1), NAMED(conv_bf16_2), NAMED(conv_bf16_4),
    NAMED(conv_bf16_8), NAMED(channel_parts), NAMED(channel_sums), NAMED(channel_samples),
    NAMED(apply_updates), NAMED(lerp_in_place), NAMED(squared_norm_parts),
});

typedef std::vector<std::function<int()>> Calls;

struct Stream {
    bool capturing = false;
    Calls captured;
    // Begun and not yet done.
    Calls waiting;
};

// The emulator runs one kernel at a time.
std::recursive_mutex one;
// Contexts of the thread, the current one last.
thread_local std::vector<void*> contexts;
void* const PRIMARY = (void*)1;

void* current() { return contexts.empty() ? nullptr : contexts.back(); }

struct Block {
    size_t bytes;
    void* context;
};
std::map<uintptr_t, Block> blocks;
size_t used = 0;
long launches = 0;

// How often what was called: the CPU's part of the work.
struct Count {
    std::map<std::string, long> calls;

    ~Count() {
        const char* path = getenv("SRFILTER_EMULATED_CALLS");
        FILE* file = path ? fopen(path, "w") : nullptr;
        if (!file) return;
        for (auto& [name, count] : calls) fprintf(file, "%s %ld\n", name.c_str(), count);
        fclose(file);
    }
} counted;

void count(const std::string& name) {
    std::lock_guard lock(one);
    counted.calls[name]++;
}

size_t setting(const char* name, size_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

size_t capacity() { return setting("SRFILTER_EMULATED_MEMORY", (size_t)1 << 30); }

// Whether memory of the GPU, in the thread's context, has all those bytes.
bool is_there(uintptr_t at, size_t bytes) {
    std::lock_guard lock(one);
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return false;
    --next;
    return next->second.context == current() && at + bytes <= next->first + next->second.bytes;
}

int allocate(uintptr_t* made, size_t bytes) {
    std::lock_guard lock(one);
    if (!current()) return INVALID_CONTEXT;
    if (bytes == 0) return INVALID_VALUE;
    if (used + bytes > capacity()) return OUT_OF_MEMORY;
    auto at = (uintptr_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    // Nobody may count on what is in it.
    memset((void*)at, 0xff, bytes);
    blocks[at] = {bytes, current()};
    used += bytes;
    *made = at;
    return SUCCESS;
}

int release(uintptr_t at) {
    std::lock_guard lock(one);
    auto block = blocks.find(at);
    if (block == blocks.end()) return INVALID_VALUE;
    used -= block->second.bytes;
    free((void*)at);
    blocks.erase(block);
    return SUCCESS;
}

bool is_lazy() { return getenv("SRFILTER_EMULATED_LAZY") != nullptr; }

// Does what waits in a stream.
int finish(Stream* stream) {
    std::lock_guard lock(one);
    Calls calls = std::move(stream->waiting);
    stream->waiting.clear();
    for (auto& call : calls)
        if (int error = call()) return error;
    return SUCCESS;
}

// Does something now, or later: when the stream is waited for, or as part of a
// graph.
int call(void* on, std::function<int()> call) {
    std::lock_guard lock(one);
    if (!current()) return INVALID_CONTEXT;
    auto stream = static_cast<Stream*>(on);
    if (stream && stream->capturing) return stream->captured.push_back(call), SUCCESS;
    if (stream && is_lazy()) return stream->waiting.push_back(call), SUCCESS;
    // Without a stream it is the context's own.
    return call();
}

// Memory of the host that the GPU copies from and to by itself.
std::map<uintptr_t, size_t> pinned;

bool is_pinned(const void* at) {
    std::lock_guard lock(one);
    auto next = pinned.upper_bound((uintptr_t)at);
    return next != pinned.begin() && (--next, (uintptr_t)at < next->first + next->second);
}

int pin(void** made, size_t bytes) {
    std::lock_guard lock(one);
    *made = malloc(bytes ? bytes : 1);
    return pinned[(uintptr_t)*made] = bytes, SUCCESS;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int* device, int index) { return *device = index, index == 0 ? SUCCESS : 101; }
int cuDeviceGetName(char* name, int length, int) {
    return snprintf(name, length, "emulated GPU"), SUCCESS;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 75: *value = 8; break;                  // Compute capability, major
        case 76: *value = 0; break;                  // and minor.
        case 97: *value = 160 << 10; break;          // Shared memory a block may ask for.
        default: *value = 1;
    }
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = PRIMARY, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void* context) {
    if (!contexts.empty()) contexts.pop_back();
    if (context) contexts.push_back(context);
    return SUCCESS;
}
int cuCtxGetCurrent(void** context) { return *context = current(), SUCCESS; }
int cuCtxCreate_v2(void** context, unsigned, int) {
    return contexts.push_back(*context = malloc(1)), SUCCESS;
}
int cuCtxDestroy_v2(void* context) { return free(context), SUCCESS; }
int cuCtxPushCurrent_v2(void* context) { return contexts.push_back(context), SUCCESS; }
int cuCtxPopCurrent_v2(void** context) {
    if (!current()) return INVALID_CONTEXT;
    if (context) *context = current();
    return contexts.pop_back(), SUCCESS;
}
int cuCtxEnablePeerAccess(void*, unsigned) { return NOT_SUPPORTED; }
int cuCtxDisablePeerAccess(void*) { return NOT_SUPPORTED; }
int cuDeviceCanAccessPeer(int* can, int, int) { return *can = 0, SUCCESS; }
int cuCtxSynchronize() { return SUCCESS; }
int cuStreamCreate(void** stream, unsigned) { return *stream = new Stream, SUCCESS; }
int cuStreamDestroy_v2(void* on) {
    auto stream = static_cast<Stream*>(on);
    int error = finish(stream);
    return delete stream, error;
}
int cuStreamDestroy(void* stream) { return cuStreamDestroy_v2(stream); }
int cuStreamSynchronize(void* on) { count("cuStreamSynchronize");
    auto stream = static_cast<Stream*>(on);
    if (!stream) return SUCCESS;
    return stream->capturing ? 900 : finish(stream);
}
int cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = (void*)3, SUCCESS; }
int cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
// It keeps nothing.
int cuMemPoolGetAttribute(void*, int, void* value) {
    return *static_cast<uint64_t*>(value) = 0, SUCCESS;
}
int cuMemGetInfo_v2(size_t* left, size_t* all) {
    return *all = capacity(), *left = *all - used, SUCCESS;
}
int cuMemAllocAsync(uintptr_t* made, size_t bytes, void*) { count("cuMemAllocAsync"); return allocate(made, bytes); }
int cuMemAlloc_v2(uintptr_t* made, size_t bytes) { count("cuMemAlloc_v2"); return allocate(made, bytes); }
int cuMemFreeAsync(uintptr_t at, void* on) { count("cuMemFreeAsync");
    return call(on, [=] { return release(at); });
}
int cuMemFree_v2(uintptr_t at) { count("cuMemFree_v2"); return release(at); }
int cuMemAllocPitch_v2(uintptr_t* made, size_t* pitch, size_t length, size_t rows, unsigned) {
    *pitch = (length + 511) / 512 * 512;
    return allocate(made, *pitch * rows);
}
int cuMemAllocHost_v2(void** made, size_t bytes) { return pin(made, bytes); }
int cuMemHostAlloc(void** made, size_t bytes, unsigned) { return pin(made, bytes); }
int cuMemFreeHost(void* at) {
    std::lock_guard lock(one);
    pinned.erase((uintptr_t)at);
    return free(at), SUCCESS;
}

int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* on) { count("cuMemcpyHtoDAsync_v2");
    if (!is_there(to, bytes)) return INVALID_VALUE;
    if (is_pinned(from)) return call(on, [=] { return memcpy((void*)to, from, bytes), SUCCESS; });
    // A driver keeps a copy of other memory.
    auto bytes_of = static_cast<const char*>(from);
    auto kept = std::make_shared<std::vector<char>>(bytes_of, bytes_of + bytes);
    return call(on, [=] { return memcpy((void*)to, kept->data(), bytes), SUCCESS; });
}
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void* on) { count("cuMemcpyDtoDAsync_v2");
    if (!is_there(to, bytes) || !is_there(from, bytes)) return INVALID_VALUE;
    return call(on, [=] { return memmove((void*)to, (void*)from, bytes), SUCCESS; });
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* on) { count("cuMemcpyDtoHAsync_v2");
    if (!is_there(from, bytes)) return INVALID_VALUE;
    int error = call(on, [=] { return memcpy(to, (void*)from, bytes), SUCCESS; });
    // To other memory it waits.
    return error || is_pinned(to) || !on ? error : finish(static_cast<Stream*>(on));
}
// Rows from one place to another, each of the host (1) or of the GPU (2).
struct Place {
    size_t left, top;
    int kind;
    void* host;
    uintptr_t device;
    void* array;
    size_t pitch;

    char* row(size_t y) const {
        auto start = kind == 1 ? static_cast<char*>(host) : (char*)device;
        return start + (top + y) * pitch + left;
    }
    bool is_right(size_t length, size_t rows) const {
        if (rows == 0 || length > pitch) return false;
        return kind == 1 || (kind == 2 && is_there((uintptr_t)row(0), (rows - 1) * pitch + length));
    }
};
struct Copy2D {
    Place from, to;
    size_t length, rows;
};
int cuMemcpy2DAsync_v2(const Copy2D* given, void* on) { count("cuMemcpy2DAsync_v2");
    Copy2D copy = *given;
    bool right = copy.from.is_right(copy.length, copy.rows) && copy.to.is_right(copy.length, copy.rows);
    if (!right) return INVALID_VALUE;
    return call(on, [=] {
        for (size_t y = 0; y < copy.rows; ++y) memcpy(copy.to.row(y), copy.from.row(y), copy.length);
        return SUCCESS;
    });
}
int cuMemcpy2D_v2(const Copy2D* copy) { return cuMemcpy2DAsync_v2(copy, nullptr); }

// What GStreamer looks for and no test uses.
#define UNUSED(name) int name() { return NOT_SUPPORTED; }
UNUSED(cuGLGetDevices_v2)
UNUSED(cuGraphicsGLRegisterBuffer)
UNUSED(cuGraphicsGLRegisterImage)
UNUSED(cuGraphicsMapResources)
UNUSED(cuGraphicsResourceGetMappedPointer_v2)
UNUSED(cuGraphicsResourceSetMapFlags_v2)
UNUSED(cuGraphicsSubResourceGetMappedArray)
UNUSED(cuGraphicsUnmapResources)
UNUSED(cuGraphicsUnregisterResource)
UNUSED(cuTexObjectCreate)
UNUSED(cuTexObjectDestroy)

int cuMemsetD8Async(uintptr_t at, unsigned char value, size_t bytes, void* on) { count("cuMemsetD8Async");
    if (!is_there(at, bytes)) return INVALID_VALUE;
    return call(on, [=] { return memset((void*)at, value, bytes), SUCCESS; });
}

int cuModuleLoadData(void** module, const void* image) {
    // PTX that is no PTX would not load either.
    if (!strstr(static_cast<const char*>(image), ".target sm_80")) return INVALID_VALUE;
    return *module = (void*)4, SUCCESS;
}
int cuModuleUnload(void*) { return SUCCESS; }
int cuModuleGetFunction(void** function, void*, const char* name) {
    auto kernel = kernels().find(name);
    if (kernel == kernels().end()) return NOT_FOUND;
    return *function = &kernel->second, SUCCESS;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    // The one that is used; the last call counts, also where it asks for less.
    if (attribute != 8 || value < 0 || value > 160 << 10) return INVALID_VALUE;
    return static_cast<Kernel*>(function)->shared = value, SUCCESS;
}

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* on, void** parameters, void**) {
    auto kernel = static_cast<Kernel*>(function);
    for (auto& [name, one] : kernels())
        if (&one == kernel) count("kernel " + name);
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if (bx * by * bz == 0 || bx * by * bz > 1024 || shared > kernel->shared) return INVALID_VALUE;
    std::function<void()> run = kernel->bind(parameters);
    return call(on, [=] {
        if (++launches > (long)setting("SRFILTER_EMULATED_LOST", 1l << 40)) return (int)LAUNCH_FAILED;
        if (kernel->waits)
            emulator::launch({gx, gy, gz}, {bx, by, bz}, shared, run);
        else
            emulator::launch_alone({gx, gy, gz}, {bx, by, bz}, run);
        return (int)SUCCESS;
    });
}

int cuStreamBeginCapture_v2(void* on, int) {
    return static_cast<Stream*>(on)->capturing = true, SUCCESS;
}
int cuStreamEndCapture(void* on, void** graph) {
    auto stream = static_cast<Stream*>(on);
    stream->capturing = false;
    *graph = new Calls(std::move(stream->captured));
    return stream->captured.clear(), SUCCESS;
}
int cuGraphInstantiateWithFlags(void** made, void* graph, unsigned long long) {
    return *made = new Calls(*static_cast<Calls*>(graph)), SUCCESS;
}
int cuGraphLaunch(void* graph, void* on) { count("cuGraphLaunch");
    return call(on, [graph] {
        for (auto& call : *static_cast<Calls*>(graph))
            if (int error = call()) return error;
        return (int)SUCCESS;
    });
}
int cuGraphExecDestroy(void* graph) { return delete static_cast<Calls*>(graph), SUCCESS; }
int cuGraphDestroy(void* graph) { return delete static_cast<Calls*>(graph), SUCCESS; }

int cuGetErrorName(int error, const char** text) { return *text = "ERROR", (void)error, SUCCESS; }
int cuGetErrorString(int error, const char** text) {
    switch (error) {
        case OUT_OF_MEMORY: *text = "out of memory"; break;
        case LAUNCH_FAILED: *text = "unspecified launch failure"; break;
        default: *text = "emulated error";
    }
    return SUCCESS;
}
}
