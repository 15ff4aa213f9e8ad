// A libcuda for tests: one "GPU", whose kernels are those of src/ops/cuda run
// on the CPU by the emulator. Everything happens at once, in the order of the
// calls; a stream in capture keeps its calls for the graph instead. Threads
// without a context are refused, as a driver refuses them.
//
// SRFILTER_EMULATED_MEMORY: bytes that the GPU has (default 1 GiB).
// SRFILTER_EMULATED_LOST: launches after which the GPU is lost.

#include "kernels.cu"

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
};

struct Kernel {
    const char* name;
    std::function<void(const void*)> run;
    size_t arguments;
};

template <typename Arguments>
Kernel kernel(const char* name, void (*function)(const Arguments)) {
    auto run = [function](const void* arguments) {
        function(*static_cast<const Arguments*>(arguments));
    };
    return {name, run, sizeof(Arguments)};
}

#define NAMED(function) kernel(#function, function)
std::vector<Kernel>& kernels() {
    static std::vector<Kernel> all = {
        NAMED(read_bytes),   NAMED(store_bytes),  NAMED(resample_rows), NAMED(resample_columns),
        NAMED(change_colors), NAMED(convolve_f32), NAMED(enter_f32),     NAMED(enter_f16),
        NAMED(enter_bf16),   NAMED(first_f16_1),  NAMED(first_f16_2),   NAMED(first_f16_4),
        NAMED(first_f16_8),  NAMED(later_f16_1),  NAMED(later_f16_2),   NAMED(later_f16_4),
        NAMED(later_f16_8),  NAMED(first_bf16_1), NAMED(first_bf16_2),  NAMED(first_bf16_4),
        NAMED(first_bf16_8), NAMED(later_bf16_1), NAMED(later_bf16_2),  NAMED(later_bf16_4),
        NAMED(later_bf16_8),
    };
    return all;
}

typedef std::vector<std::function<int()>> Calls;

struct Stream {
    bool capturing = false;
    Calls captured;
};

// The emulator runs one kernel at a time.
std::recursive_mutex one;
thread_local bool has_context = false;

std::map<uintptr_t, size_t> blocks;
size_t used = 0;
long launches = 0;

size_t setting(const char* name, size_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

size_t capacity() { return setting("SRFILTER_EMULATED_MEMORY", (size_t)1 << 30); }

// Whether memory of the GPU has all those bytes.
bool is_there(uintptr_t at, size_t bytes) {
    std::lock_guard lock(one);
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return false;
    --next;
    return at + bytes <= next->first + next->second;
}

int allocate(uintptr_t* made, size_t bytes) {
    std::lock_guard lock(one);
    if (!has_context) return INVALID_CONTEXT;
    if (bytes == 0) return INVALID_VALUE;
    if (used + bytes > capacity()) return OUT_OF_MEMORY;
    auto at = (uintptr_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    // Nobody may count on what is in it.
    memset((void*)at, 0xff, bytes);
    blocks[at] = bytes;
    used += bytes;
    *made = at;
    return SUCCESS;
}

int release(uintptr_t at) {
    std::lock_guard lock(one);
    auto block = blocks.find(at);
    if (block == blocks.end()) return INVALID_VALUE;
    used -= block->second;
    free((void*)at);
    blocks.erase(block);
    return SUCCESS;
}

// Does something now, or later as part of a graph.
int call(void* on, std::function<int()> call) {
    std::lock_guard lock(one);
    if (!has_context) return INVALID_CONTEXT;
    auto stream = static_cast<Stream*>(on);
    if (!stream) return INVALID_VALUE;
    if (!stream->capturing) return call();
    stream->captured.push_back(call);
    return SUCCESS;
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
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = (void*)1, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void* context) { return has_context = context != nullptr, SUCCESS; }
int cuCtxGetCurrent(void** context) {
    return *context = has_context ? (void*)1 : nullptr, SUCCESS;
}
int cuCtxSynchronize() { return SUCCESS; }
int cuStreamCreate(void** stream, unsigned) { return *stream = new Stream, SUCCESS; }
int cuStreamDestroy_v2(void* stream) { return delete static_cast<Stream*>(stream), SUCCESS; }
int cuStreamSynchronize(void* stream) {
    return static_cast<Stream*>(stream)->capturing ? 900 : SUCCESS;
}
int cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = (void*)3, SUCCESS; }
int cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
int cuMemGetInfo_v2(size_t* left, size_t* all) {
    return *all = capacity(), *left = *all - used, SUCCESS;
}
int cuMemAllocAsync(uintptr_t* made, size_t bytes, void*) { return allocate(made, bytes); }
int cuMemAlloc_v2(uintptr_t* made, size_t bytes) { return allocate(made, bytes); }
int cuMemFreeAsync(uintptr_t at, void*) { return release(at); }
int cuMemFree_v2(uintptr_t at) { return release(at); }
int cuMemHostAlloc(void** made, size_t bytes, unsigned) {
    return *made = malloc(bytes ? bytes : 1), SUCCESS;
}
int cuMemFreeHost(void* at) { return free(at), SUCCESS; }

int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* on) {
    if (!is_there(to, bytes)) return INVALID_VALUE;
    return call(on, [=] { return memcpy((void*)to, from, bytes), SUCCESS; });
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* on) {
    if (!is_there(from, bytes)) return INVALID_VALUE;
    return call(on, [=] { return memcpy(to, (void*)from, bytes), SUCCESS; });
}
int cuMemsetD8Async(uintptr_t at, unsigned char value, size_t bytes, void* on) {
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
    for (Kernel& kernel : kernels())
        if (!strcmp(kernel.name, name)) return *function = &kernel, SUCCESS;
    return NOT_FOUND;
}
int cuFuncSetAttribute(void*, int, int) { return SUCCESS; }

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* on, void** parameters, void**) {
    auto kernel = static_cast<Kernel*>(function);
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || bx * by * bz > 1024)
        return INVALID_VALUE;
    if (shared > 160 << 10) return INVALID_VALUE;
    auto from = static_cast<const char*>(parameters[0]);
    std::vector<char> arguments(from, from + kernel->arguments);
    return call(on, [=] {
        if (++launches > (long)setting("SRFILTER_EMULATED_LOST", 1l << 40)) return (int)LAUNCH_FAILED;
        emulator::launch({gx, gy, gz}, {bx, by, bz}, shared, [&] { kernel->run(arguments.data()); });
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
int cuGraphLaunch(void* graph, void*) {
    std::lock_guard lock(one);
    if (!has_context) return INVALID_CONTEXT;
    for (auto& call : *static_cast<Calls*>(graph))
        if (int error = call()) return error;
    return SUCCESS;
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
