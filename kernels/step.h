// step.h - one step of the reference diffusion for a tile of particles at one site: formulas once, host loops
// in step_simd.cpp.
#pragma once
#include "../engine/context.h"
#include "portable.h"
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace dynkin::kernels {

/// Position of probability u among the columns of an inverse-CDF table with u_k = 2 (k/n)^2 for k/n <= 1/2,
/// mirrored above.
DYNKIN_HD float quantile_position(float u, float n) {
    const float s = std::sqrt(0.5f * (u < 0.5f ? u : 1.0f - u));
    return n * (u < 0.5f ? s : 1.0f - s);
}

/// Inverse-CDF table of one transition: table[row * columns + column], starts lo + row / inverse_h.
struct TransitionView {
    const float* table;
    int rows, columns;
    float lo, inverse_h;
};

/// Where z and u fall in the table: the corner's index and the two fractions.
struct TransitionCell {
    int at;
    float column_fraction, row_fraction;
};
DYNKIN_HD TransitionCell transition_cell(int rows, int columns, float lo, float inverse_h, float z, float u) {
    const float a = quantile_position(u, static_cast<float>(columns - 1));
    const float last_row = static_cast<float>(rows - 1), last_column = static_cast<float>(columns) - 1.5f;
    float p = (z - lo) * inverse_h; // comparisons, not fmin and fmax: loops over them vectorise
    p = p > 0.0f ? p : 0.0f;
    p = p < last_row ? p : last_row;
    const int column = static_cast<int>(a < last_column ? a : last_column);
    const int row = static_cast<int>(p < last_row - 0.5f ? p : last_row - 0.5f);
    return {row * columns + column, a - static_cast<float>(column), p - static_cast<float>(row)};
}

/// z(dt) from the four corners of its cell, bilinear; V: a number, or a vector of them.
template <class V> DYNKIN_HD V transition_value(V a0, V a1, V b0, V b1, V column_fraction, V row_fraction) {
    const V low = a0 + column_fraction * (a1 - a0), high = b0 + column_fraction * (b1 - b0);
    return low + row_fraction * (high - low);
}

/// z(dt) from z(0) = z and a uniform u.
DYNKIN_HD float transition(const TransitionView& t, float z, float u) {
    const TransitionCell cell = transition_cell(t.rows, t.columns, t.lo, t.inverse_h, z, u);
    const float* c = t.table + cell.at;
    return transition_value(c[0], c[1], c[t.columns], c[t.columns + 1], cell.column_fraction,
                            cell.row_fraction);
}

/// z, or the nearer end of [lo, hi]; the middle for NaN.
template <class T> DYNKIN_HD T kept_within(T z, T lo, T hi) {
    return z < hi ? (z > lo ? z : lo) : (z >= hi ? hi : static_cast<T>(0.5) * (lo + hi));
}
/// Whether a particle that had to be moved counts as one that ran away: at the end of a reflecting box only
/// if it was not finite.
template <class T> DYNKIN_HD bool ran_away(T z, T inside, bool box) {
    const bool finite = z - z == T{0};
    return inside != z && (!box || !finite);
}

struct StepKernels {
    /// u[k][particle], k = 0 .. 3: the uniforms of one Philox call for each of kScoreTile particles from
    /// `first`.
    void (*uniforms)(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
                     std::uint32_t slot, float* u);
    /// n[k][particle]: standard normals by Box-Muller from the same words.
    void (*normals)(std::uint64_t seed, std::uint32_t stream, std::uint64_t first, std::uint32_t step,
                    std::uint32_t slot, float* n);
    /// z(dt) from z(0) = z[particle] and the uniforms u[particle], in place, for a tile.
    void (*transition)(const TransitionView& table, const float* u, float* z);
};
const StepKernels& step_kernels(Isa isa);

} // namespace dynkin::kernels
