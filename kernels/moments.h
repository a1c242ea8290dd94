// moments.h - sums over samples of products of two or three eigenfunctions, as matrix products over tiles of
// samples. The two loops: moments_simd.cpp (host, once per SIMD level) and moments_cuda.cu (device).
#pragma once
#include "engine/context.h"
#include "portable.h"
#include <algorithm>
#include <cstddef>
#include <vector>

namespace dynkin::kernels {

constexpr int kMomentTile =
    256; ///< samples a tile; the last is padded with zeros, so batches do not change results

/// result[(w * rows + m) * ld + n] += sum_s f[weights[w]](s) f[rows[m]](s) f[cols[n]](s), f the function
/// table. Function 0 is the constant 1 (0 on padding). `triangular`: rows == cols, only n <= m is defined.
struct MomentGroup {
    std::vector<int> weights, rows, cols;
    bool triangular = false;
    std::size_t offset = 0; ///< of the group in the result
    std::size_t ld = 0;     ///< columns padded to a multiple of 16
    std::size_t size() const { return weights.size() * rows.size() * ld; }
};

/// Columns are packed in panels of a vector's width, so many at a time: they stay in the second-level cache.
constexpr int kMomentPanels = 16;
/// Rows of a group are packed once for all of its weights, if they fill a register block; few rows are
/// multiplied with the weights first, so that blocks hold rows of several weights.
inline bool moment_rows_are_shared(const MomentGroup& group) { return group.rows.size() >= 16; }

/// One family's functions as piecewise polynomials, or Hermite: coefficients[(piece * (degree + 1) + power) *
/// stride + n], in the local variable in [-1, 1].
template <class T> struct FunctionTable {
    bool hermite = false;
    int functions = 0; ///< R + 1, constant included
    int pieces = 0, degree = 0, stride = 0;
    double lo = 0, hi = 0;
    std::vector<T> coefficients;
};

/// phi_{n+1} of Hermite from the two before it: down = sqrt(n), norm = 1 / sqrt(n + 1).
template <class T> DYNKIN_HD T hermite_next(T z, T now, T before, T down, T norm) {
    return (z * now - down * before) * norm;
}

/// Where z, clipped to the box, stands in a table: its piece, and the local variable there.
template <class T> struct TablePlace {
    int piece;
    T t;
};
/// scale = pieces / (hi - lo).
template <class T> DYNKIN_HD TablePlace<T> table_place(T z, T lo, T scale, int pieces) {
    const T u = std::clamp((z - lo) * scale, T{0}, static_cast<T>(pieces));
    const int piece = std::min(static_cast<int>(u), pieces - 1);
    return {piece, 2 * (u - static_cast<T>(piece)) - 1};
}

/// The kernels of one SIMD level.
template <class T> struct MomentKernels {
    /// values[n * kMomentTile + s] for n = 1 .. functions-1 at z[s], s < count; zeros for s >= count.
    void (*evaluate)(const FunctionTable<T>& table, const T* z, int count, T* values);
    /// Adds one tile to rows [first, last) of the flattened (weight, row) range. `functions` holds the tile's
    /// table, function f at f * kMomentTile. `scratch`: moment_scratch(group) numbers.
    void (*accumulate)(const MomentGroup& group, int first, int last, const T* functions, double* result,
                       T* scratch);
    int row_step; ///< rows a register block; ranges start at multiples of it (per weight if triangular)
};
template <class T> const MomentKernels<T>& moment_kernels(Isa isa);
template <class T> std::size_t moment_scratch(const MomentGroup& group);

} // namespace dynkin::kernels
