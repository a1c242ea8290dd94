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

/// Which products of a row and a column a group has. Where columns are the rows, a pair is wanted once:
/// `lower` is n <= m; `cyclic` is each column with itself and the rows / 2 that follow it around the list (of
/// an even number of rows the last ones meet twice), side by side for all columns, so that a vector of
/// products serves all weights: for kMomentCyclicWeights of them or more.
enum class MomentPairs { all, lower, cyclic };
constexpr std::size_t kMomentCyclicWeights = 4;

/// result[(w * lines + m) * ld + n] += sum_s f[weights[w]](s) f[row](s) f[cols[n]](s), f the function table,
/// row = rows[m]; cyclic: rows[(n + m) % rows]. Function 0 is the constant 1 (0 on padding).
struct MomentGroup {
    std::vector<int> weights, rows, cols;
    MomentPairs pairs = MomentPairs::all;
    std::size_t offset = 0; ///< of the group in the result
    std::size_t ld = 0;     ///< columns padded to a multiple of 16

    bool cyclic() const { return pairs == MomentPairs::cyclic; }
    std::size_t lines() const { return cyclic() ? rows.size() / 2 + 1 : rows.size(); } ///< a weight
    std::size_t size() const { return weights.size() * lines() * ld; }
    /// Where the sum of rows[a] and rows[b] (cyclic), or of rows[a] and cols[b], stands behind a weight's
    /// start.
    std::size_t place(std::size_t a, std::size_t b) const {
        if (!cyclic()) return a * ld + b;
        const std::size_t n = rows.size(), after = (a + n - b) % n; // a comes so long after b
        return 2 * after <= n ? after * ld + b : (n - after) * ld + a;
    }
    /// f(row, column, place behind a weight's start) for each sum that the group has of a weight.
    template <class F> void each_pair(const F& f) const {
        for (std::size_t m = 0; m < lines(); ++m)
            for (std::size_t n = 0; n < (pairs == MomentPairs::lower ? m + 1 : cols.size()); ++n)
                f(rows[cyclic() ? (n + m) % rows.size() : m], cols[n], m * ld + n);
    }
    std::size_t pair_count() const {
        return pairs == MomentPairs::lower ? rows.size() * (rows.size() + 1) / 2 : lines() * cols.size();
    }
};

/// Columns are packed in panels of a vector's width, so many at a time: they stay in the second-level cache.
constexpr int kMomentPanels = 16;
/// Rows of a group are packed once for all of its weights, if they fill a register block; few rows are
/// multiplied with the weights first, so that blocks hold rows of several weights.
inline bool moment_rows_are_shared(const MomentGroup& group) { return group.rows.size() >= 16; }

/// Samples at a time of a cyclic group: the functions in use stay in the first-level cache.
constexpr int kMomentCyclicDepth = 128;
/// Numbers a sample: the functions, and again from the first on as far as a vector of the last column
/// reaches. An odd number of cache lines, so that samples do not meet in a cache.
template <class T> std::size_t moment_cyclic_stride(const MomentGroup& group) {
    const std::size_t line = 64 / sizeof(T);
    return (group.ld + group.lines() + 8 + line) / line / 2 * 2 * line + line;
}

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
    /// Adds one tile to rows [first, last) of the flattened (weight, row) range; cyclic: of the lines, for
    /// all weights. `functions` holds the tile's table, function f at f * kMomentTile. `scratch`:
    /// moment_scratch(group) numbers.
    void (*accumulate)(const MomentGroup& group, int first, int last, const T* functions, double* result,
                       T* scratch);
    int row_step; ///< rows a register block; ranges start at multiples of it (lower: of a weight's rows)
};
template <class T> const MomentKernels<T>& moment_kernels(Isa isa);
template <class T> std::size_t moment_scratch(const MomentGroup& group);

} // namespace dynkin::kernels
