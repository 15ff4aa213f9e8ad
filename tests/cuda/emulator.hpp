// Runs kernels on the CPU, for tests: what src/ops/cuda/device.cuh takes of a
// GPU. The threads of a block are fibres of one thread of the CPU, which
// change at barriers and at what a warp does together; blocks come one after
// the other. Slow, and strict: addresses are real ones, so that a sanitizer
// sees every access.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

#include "half.hpp"
// Of the toolkit, without its compiler.
#include <vector_types.h>
#include <vector_functions.h>

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

struct Barrier {
    unsigned size = 0, arrived = 0, generation = 0;
};

struct Warp {
    Barrier barrier;
    uint32_t a[32][4], b[32][2];
    uint64_t passed[32];
};

struct Fiber {
    ucontext_t start;
    jmp_buf place;
    dim3 index;
    unsigned number = 0;
    bool begun = false, done = false;
    std::unique_ptr<char[]> stack;
};

inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Barrier block;
inline unsigned current = 0;
inline ucontext_t outside;
inline const std::function<void()>* body = nullptr;
inline unsigned char* shared_memory = nullptr;
// Whether threads may wait for each other.
inline bool together = false;

const size_t STACK = 64 << 10;

inline void run_current();

// Goes on with the next fibre that is not done.
inline void change() {
    Fiber& from = fibers[current];
    if (!from.done && _setjmp(from.place)) return;
    for (unsigned i = 1; i <= fibers.size(); i++) {
        unsigned next = (current + i) % fibers.size();
        if (!fibers[next].done) {
            current = next;
            run_current();
        }
    }
    setcontext(&outside);
}

inline void leave(Barrier& barrier) {
    barrier.size--;
    if (barrier.size > 0 && barrier.arrived == barrier.size) {
        barrier.arrived = 0;
        barrier.generation++;
    }
}

inline void enter_fiber() {
    (*body)();
    fibers[current].done = true;
    // Nobody waits for a thread that is done.
    leave(block);
    leave(warps[fibers[current].number / 32].barrier);
    change();
}

inline void run_current() {
    Fiber& fiber = fibers[current];
    threadIdx = fiber.index;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.start);
}

inline void wait(Barrier& barrier) {
    if (!together) {
        fprintf(stderr, "a kernel that was said to be of lone threads waits\n");
        abort();
    }
    unsigned generation = barrier.generation;
    if (++barrier.arrived == barrier.size) {
        barrier.arrived = 0;
        barrier.generation++;
        return;
    }
    while (barrier.generation == generation) change();
}

inline Warp& warp() { return warps[fibers[current].number / 32]; }
inline unsigned lane() { return fibers[current].number % 32; }

// Runs a kernel whose threads never wait for each other.
inline void launch_alone(dim3 grid, dim3 threads, const std::function<void()>& kernel) {
    gridDim = grid;
    blockDim = threads;
    together = false;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
                for (threadIdx.z = 0; threadIdx.z < threads.z; threadIdx.z++)
                    for (threadIdx.y = 0; threadIdx.y < threads.y; threadIdx.y++)
                        for (threadIdx.x = 0; threadIdx.x < threads.x; threadIdx.x++) kernel();
}

// Runs a kernel.
inline void launch(dim3 grid, dim3 threads, size_t shared, const std::function<void()>& kernel) {
    together = true;
    unsigned count = threads.x * threads.y * threads.z;
    std::vector<unsigned char> memory(shared + 16);
    void* aligned = memory.data();
    size_t space = memory.size();
    shared_memory = static_cast<unsigned char*>(std::align(16, shared, aligned, space));
    gridDim = grid;
    blockDim = threads;
    body = &kernel;
    fibers.resize(count);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                // What a kernel reads of shared memory it must have written.
                memset(shared_memory, 0xff, shared);
                block = {count, 0, 0};
                warps.assign((count + 31) / 32, Warp{});
                for (unsigned i = 0; i < warps.size(); i++)
                    warps[i].barrier.size = count - 32 * i < 32 ? count - 32 * i : 32;
                for (unsigned i = 0; i < count; i++) {
                    Fiber& fiber = fibers[i];
                    fiber.number = i;
                    fiber.index = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
                    fiber.begun = fiber.done = false;
                    if (!fiber.stack) fiber.stack.reset(new char[STACK]);
                    getcontext(&fiber.start);
                    fiber.start.uc_stack.ss_sp = fiber.stack.get();
                    fiber.start.uc_stack.ss_size = STACK;
                    fiber.start.uc_link = nullptr;
                    makecontext(&fiber.start, enter_fiber, 0);
                }
                current = 0;
                volatile bool started = false;
                getcontext(&outside);
                if (!started) {
                    started = true;
                    run_current();
                }
            }
}

// The value that the lane of that number XOR `by` passes.
template <typename T>
T passed(T value, int by) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    Warp& mine = warp();
    unsigned lane = emulator::lane();
    memcpy(&mine.passed[lane], &value, sizeof value);
    wait(mine.barrier);
    memcpy(&value, &mine.passed[lane ^ by], sizeof value);
    wait(mine.barrier);
    return value;
}

// Four 8x8 matrices, whose rows the lanes name, as PTX hands them out (ldmatrix).
inline void load4(uint32_t (&d)[4], const void* row) {
    Warp& mine = warp();
    unsigned lane = emulator::lane();
    if ((uintptr_t)row % 16) {
        fprintf(stderr, "ldmatrix of a row at %p\n", row);
        abort();
    }
    memcpy(&mine.passed[lane], &row, sizeof row);
    wait(mine.barrier);
    for (unsigned i = 0; i < 4; i++)
        memcpy(&d[i], (const char*)mine.passed[8 * i + lane / 4] + lane % 4 * 4, 4);
    wait(mine.barrier);
}

// D += A B, each lane holding what PTX says that it holds (m16n8k16).
template <typename T>
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    Warp& mine = warp();
    unsigned lane = emulator::lane();
    memcpy(mine.a[lane], a, sizeof a);
    memcpy(mine.b[lane], b, sizeof b);
    wait(mine.barrier);
    auto half = [](uint32_t both, int which) {
        return T::value((uint16_t)(which ? both >> 16 : both & 0xffff));
    };
    for (int i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8;
        unsigned column = lane % 4 * 2 + i % 2;
        float sum = d[i];
        for (unsigned k = 0; k < 16; k++) {
            float left = half(mine.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2);
            float right = half(mine.b[column * 4 + k % 8 / 2][k / 8], k % 2);
            sum += left * right;
        }
        d[i] = sum;
    }
    wait(mine.barrier);
}

}  // namespace emulator

#define KERNEL extern "C" void
#define DEVICE inline
#define CALLED static
#define SHARED(name) unsigned char* name = emulator::shared_memory
#define ARGUMENTS const
#define THREADS(most)

using std::max;
using std::min;

inline float times(float a, float b) {
    volatile float product = a * b;
    return product;
}
inline float plus(float a, float b) { return a + b; }
inline float over(float a, float b) { return a / b; }
inline float root(float a) { return std::sqrt(a); }

inline int dot4(uint32_t samples, int weights, int sum) {
    for (int i = 0; i < 32; i += 8) sum += (int)(samples >> i & 0xff) * (int8_t)(weights >> i);
    return sum;
}

inline void __syncthreads() { emulator::wait(emulator::block); }
inline void __syncwarp() { emulator::wait(emulator::warp().barrier); }

inline void copy16(void* shared, const void* global, bool there) {
    if (there)
        memcpy(shared, global, 16);
    else
        memset(shared, 0, 16);
}
inline void copies_end() {}
using emulator::load4;
template <int left>
void copies_wait() {}

struct F16 {
    typedef uint16_t Bits;
    static Bits bits(float v) { return emulator::f16_bits(v); }
    static float value(Bits b) { return emulator::f16_value(b); }
    static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        emulator::mma<F16>(d, a, b);
    }
};

struct Bf16 {
    typedef uint16_t Bits;
    static Bits bits(float v) { return emulator::bf16_bits(v); }
    static float value(Bits b) { return emulator::bf16_value(b); }
    static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        emulator::mma<Bf16>(d, a, b);
    }
};
