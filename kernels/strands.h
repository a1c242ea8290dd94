// strands.h - the order of sums over coordinates, chosen so that the threads of a device can share one: loops
// of the CPU and teams of threads (team.h) add the same numbers in the same order and have the same bits.
#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>

namespace dynkin {

/// Coordinate i belongs to strand i mod S. Each strand adds its terms to 0 in the order of i; then the upper
/// half of the strands is added to the lower half until one is left. S is a power of two: d rounded up, at
/// most this (strands without terms would change nothing).
inline constexpr std::size_t most_strands = 128;
inline std::size_t strands_of(std::size_t dimension) {
    return std::min(std::bit_ceil(dimension), most_strands);
}

} // namespace dynkin
