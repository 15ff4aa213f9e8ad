// What the kernels take of the machine: a GPU, or, where SRFILTER_EMULATED is
// defined, the emulator of the tests (tests/cuda/emulator.hpp), which runs the
// same code on the CPU.
#pragma once

#include <stddef.h>
#include <stdint.h>

// The layout of what kernels take, which the Rust code asserts as well.
#define SAME_SIZE(type, size) static_assert(sizeof(type) == size, #type)
#define SAME_OFFSET(type, field, at) static_assert(offsetof(type, field) == at, #type "::" #field)

#ifdef SRFILTER_EMULATED
#include "emulator.hpp"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define CALLED static __device__ __noinline__
#define SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define ARGUMENTS const __grid_constant__
#define THREADS(most) __launch_bounds__(most)

// Sums and products that are rounded one by one, as the CPU's are.
DEVICE float times(float a, float b) { return __fmul_rn(a, b); }
DEVICE float plus(float a, float b) { return __fadd_rn(a, b); }
DEVICE float over(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float root(float a) { return __fsqrt_rn(a); }

// The sum and the products of four unsigned and four signed bytes.
DEVICE int dot4(uint32_t samples, int weights, int sum) {
    asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(samples), "r"(weights));
    return sum;
}

// Copies 16 bytes from the GPU's memory to shared memory, or makes them zero,
// while the thread goes on.
DEVICE void copy16(void* shared, const void* global, bool there) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes));
}

// Ends a group of copies.
DEVICE void copies_end() { asm volatile("cp.async.commit_group;\n" ::); }

// Waits until all groups but the last `left` are there.
template <int left>
DEVICE void copies_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(left));
}

// Four 8x8 matrices of 16-bit values from shared memory: lane i names row i % 8
// of matrix i / 8, whose address is a multiple of 16.
DEVICE void load4(uint32_t (&d)[4], const void* row) {
    unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(from));
}

// Half precision.
struct F16 {
    typedef uint16_t Bits;
    DEVICE static Bits bits(float v) { return __half_as_ushort(__float2half_rn(v)); }
    DEVICE static float value(Bits b) { return __half2float(__ushort_as_half(b)); }
    // D += A B of a warp: 16x16 by 16x8.
    DEVICE static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
            "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
};

// bfloat16.
struct Bf16 {
    typedef uint16_t Bits;
    DEVICE static Bits bits(float v) { return __bfloat16_as_ushort(__float2bfloat16_rn(v)); }
    DEVICE static float value(Bits b) { return __bfloat162float(__ushort_as_bfloat16(b)); }
    DEVICE static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
            "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
};
#endif
