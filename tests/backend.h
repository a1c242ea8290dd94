// backend.h - where the contexts of the tests are, so that one source tests both backends: on the CPU, and in
// the program test_on_device, which sets `backend` before its tests run, on the device.
#pragma once
#include "engine/context.h"
#include <cstddef>
#include <utility>

namespace dynkin::cases {

struct Backend {
    Device device = Device::cpu;
    bool emulated = false;
};
inline Backend backend;

inline bool on_device() { return backend.device == Device::cuda; }

/// A context on the backend, the other options as given.
inline Context context(ContextOptions options) {
    options.device = backend.device;
    return Context(std::move(options));
}
inline Context context(int threads = 1, Isa isa = Isa::automatic) {
    ContextOptions options;
    options.threads = threads, options.isa = isa;
    return context(std::move(options));
}

/// How many samples, rows or pairs: the emulator takes some microseconds for what a thread does in
/// nanoseconds.
template <class T> T sized(T whole, T emulated) { return backend.emulated ? emulated : whole; }

} // namespace dynkin::cases
