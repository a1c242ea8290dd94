// random.h - random numbers of many samples on the device; the formulas are those of philox.h and
// elementary.h, the host's loops stand in step_simd.cpp.
#pragma once
#include "../engine/random.h"
#include "device.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

/// One Philox call for each of the samples first, first + 1, ...
struct RandomCounters {
    std::uint64_t seed;
    Stream purpose;
    std::uint64_t first; ///< first + count <= 2^48
    std::uint32_t step, slot;
};

/// out[k * count + n], k = 0 .. 3, n < count: the words of sample first + n; uniforms (0, 1) with 23 bits;
/// standard normals by Box-Muller in float64, rounded. Enqueued on the stream; `out` is device memory of 4
/// count numbers. Throw Error(io) when the launch fails.
void random_words(DeviceStream stream, const RandomCounters& at, std::size_t count, std::uint32_t* out);
void random_uniforms(DeviceStream stream, const RandomCounters& at, std::size_t count, float* out);
void random_normals(DeviceStream stream, const RandomCounters& at, std::size_t count, float* out);

} // namespace dynkin::cuda
