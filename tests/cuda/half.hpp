// 16-bit floating point, by its bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulator {

inline float f16_value(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    int exponent = bits >> 10 & 31;
    uint32_t fraction = bits & 0x3ff;
    if (exponent == 0) {
        float value = std::ldexp((float)fraction, -24);
        return sign ? -value : value;
    }
    uint32_t all = exponent == 31 ? sign | 0x7f800000 | fraction << 13
                                  : sign | (uint32_t)(exponent + 112) << 23 | fraction << 13;
    float value;
    memcpy(&value, &all, 4);
    return value;
}

// Rounds to nearest, halves to even.
inline uint16_t f16_bits(float value) {
    uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 0x1p-14f) return sign | (uint16_t)std::nearbyint(std::ldexp(size, 24));
    int exponent;
    float fraction = std::frexp(size, &exponent);  // 0.5 to 1
    auto mantissa = (uint32_t)std::nearbyint(std::ldexp(fraction, 11));  // 1024 to 2048
    return sign | (uint16_t)(((exponent + 13) << 10) + mantissa);
}

inline float bf16_value(uint16_t bits) {
    uint32_t all = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &all, 4);
    return value;
}

inline uint16_t bf16_bits(float value) {
    uint32_t all;
    memcpy(&all, &value, 4);
    if (std::isnan(value)) return 0x7fff;
    return (uint16_t)((all + 0x7fff + (all >> 16 & 1)) >> 16);
}

}  // namespace emulator
