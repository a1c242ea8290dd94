// reach.h - where the coordinates of a block can be (private).
#pragma once
#include "circle.h"
#include "model.h"
#include <cmath>
#include <cstddef>

namespace dynkin {

struct Reach {
    double lower, upper;
    bool holds(double z) const { return z >= lower && z <= upper; } ///< not for NaN
};

/// An angle may wind, but not as far as this.
constexpr double kWinding = 1e6;

/// Where a model can be trusted with coordinate j (time t_min): the box of a fitted reference; for OU, whose
/// polynomials extrapolate wildly, the range of the data and a margin of 15 % and 6 s, s^2 = 1 - exp(-2
/// t_min).
inline Reach trusted_reach(const Block& block, std::size_t j) {
    const Family& f = block.reference.of(static_cast<int>(j));
    if (is_circle(f)) return {-kWinding, kWinding};
    if (f.kind == ReferenceKind::fitted) return {f.lo, f.hi};
    const double margin =
        0.15 * (block.upper[j] - block.lower[j]) + 6 * std::sqrt(-std::expm1(-2 * block.t_min));
    return {block.lower[j] - margin, block.upper[j] + margin};
}

/// Where data at time t can be: the box, or for OU [e^-t lo - 5 s, e^-t hi + 5 s], s^2 = 1 - e^-2t (at 3 s
/// one particle in a hundred would be stopped at each step in four coordinates for no fault of its own).
inline Reach noised_reach(const Block& block, std::size_t j, double t) {
    const Family& f = block.reference.of(static_cast<int>(j));
    if (is_circle(f)) return {-kWinding, kWinding};
    if (f.kind == ReferenceKind::fitted) return {f.lo, f.hi};
    const double decay = std::exp(-t), reach = 5 * std::sqrt(-std::expm1(-2 * t));
    return {decay * block.lower[j] - reach, decay * block.upper[j] + reach};
}

} // namespace dynkin
