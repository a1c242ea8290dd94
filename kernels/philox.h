// philox.h - counter-based random numbers (Salmon et al. 2011, Random123), the same on host and device.
#pragma once
#include "../engine/random.h"
#include "portable.h"
#include <Random123/philox.h>
#include <cmath>
#include <cstdint>

namespace dynkin {

struct RandomWords {
    std::uint32_t v[4];
};

/// Philox4x32-10, key = seed, counter = (sample mod 2^32, stream << 16 | sample / 2^32, step, slot); sample <
/// 2^48.
DYNKIN_HD RandomWords philox(std::uint64_t seed, Stream stream, std::uint64_t sample, std::uint32_t step,
                             std::uint32_t slot) {
    r123::Philox4x32::ctr_type counter = {
        {static_cast<std::uint32_t>(sample),
         static_cast<std::uint32_t>(stream) << 16 | static_cast<std::uint32_t>(sample >> 32), step, slot}};
    r123::Philox4x32::key_type key = {
        {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}};
    const auto words = r123::Philox4x32{}(counter, key);
    return {{words[0], words[1], words[2], words[3]}};
}

/// Uniform on (0, 1), never 0 or 1: (w + 1/2) 2^-32.
DYNKIN_HD double uniform(std::uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

/// Uniform on (0, 1) with 23 bits, exact in float32: (floor(w / 2^9) + 1/2) 2^-23.
DYNKIN_HD float uniform_float(std::uint32_t word) {
    return (static_cast<float>(word >> 9) + 0.5f) * 0x1p-23f;
}

/// Box-Muller: two words give two independent standard normals (|z| < 6.8).
DYNKIN_HD void normal_pair(std::uint32_t a, std::uint32_t b, double& first, double& second) {
    const double radius = std::sqrt(-2.0 * std::log(uniform(a)));
    const double angle = 6.283185307179586476925 * uniform(b);
    first = radius * std::cos(angle);
    second = radius * std::sin(angle);
}

} // namespace dynkin
