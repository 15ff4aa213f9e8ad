// Kernels by name, for the emulated driver.
#pragma once

#include "emulator.hpp"

#include <map>
#include <string>
#include <tuple>

struct Kernel {
    // Whether its threads wait for each other.
    bool waits;
    // What one thread does, of arguments as cuLaunchKernel takes them.
    std::function<std::function<void()>(void**)> bind;
    // Bytes of shared memory that a block may ask for.
    size_t shared = 48 << 10;
};

typedef std::pair<const std::string, Kernel> Named;

inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

struct Registered {
    Registered(std::initializer_list<Named> some) { kernels().insert(some); }
};

template <typename... Arguments>
Named kernel(const char* name, bool waits, void (*function)(Arguments...)) {
    auto bind = [function](void** given) -> std::function<void()> {
        // In the braces' order.
        std::tuple<std::decay_t<Arguments>...> arguments{
            *static_cast<const std::decay_t<Arguments>*>(*given++)...};
        return [function, arguments] { std::apply(function, arguments); };
    };
    return {name, {waits, bind}};
}
