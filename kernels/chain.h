// chain.h - exact draws of a chain or ring, site after site, from tabulated messages
// (engine/transfer_matrix.h).
#pragma once
#include "engine/context.h"
#include <cstddef>
#include <cstdint>

namespace dynkin {

/// Points origin + p step, p < points; every table of points has `stride` entries, a multiple of 8, zero from
/// `points` on. Site i is `gap` edges from the end: d - 1 - i on an open chain, d - i on a ring, back at x_0.
/// The density of x_i given x_{i-1} is exp(-(J/2)(x - x_{i-1})^2) m(x), with m up to a factor
///   open:             message row `gap`
///   ring, gap >= 2:   sum over r < rank[gap] of power(gap, r) psi_r(x_0) psi_r(x), psi = message rows
///   ring, gap = 1:    weight(x) exp(-(J/2)(x - x_0)^2)
/// and that of x_0 is `first`.
struct ChainView {
    std::size_t sites, points, stride;
    bool ring;
    double coupling, origin, step;
    std::size_t reach;   ///< points on either side of x_{i-1} that are looked at first
    double slack;        ///< most that a density exceeds its linear interpolant by, as a factor
    const double* gauss; ///< exp(-(J/2)(m step)^2), m = -stride .. stride, pointer at m = 0
    const double *first, *weight, *message, *power;
    const std::uint32_t* rank; ///< by gap; the last of them, rank[sites], is the row length of power
};

namespace cpu {

/// Rows [first, first + count) of the sequence of this seed (Stream::exact_draw: row, site, attempt). False
/// when a site was refused 1000 times in succession, which tables of finite numbers cannot do. Some 3 flops a
/// point of the window and site, on a ring 2 rank[gap] more.
bool draw_chains(Isa isa, int threads, const ChainView& view, std::uint64_t seed, std::size_t first,
                 std::size_t count, double* x);

} // namespace cpu
} // namespace dynkin
