// prior_table.h - scores of rows that have a noise level each, from a table over levels of the polynomials of
// prior.h: cubic B-splines in log sigma, for host and device. The host loop: prior_table_simd.cpp; the
// device's: prior_table_cuda.cu. Error: docs/method.md, section 13.
#pragma once
#include "engine/context.h"
#include "portable.h"
#include <cmath>
#include <cstddef>

#if defined(__CUDA_ARCH__)
#define DYNKIN_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__) // the host's pass, which runs no kernel
#define DYNKIN_UNROLL
#else
#define DYNKIN_UNROLL _Pragma("GCC unroll 10")
#endif

namespace dynkin::kernels {

constexpr std::size_t kPriorBlock = 64; ///< columns of a block of a table

/// Of sigma score at alpha = 1: coefficient c_k of v^i of column j at
///   values[((j / 64 nodes + k) degree + i) 64 + j % 64].
/// middle, twice (2 scale): padded to blocks.
struct PriorTableView {
    int degree;
    std::size_t columns, nodes;
    const float *middle, *twice, *values;
};

/// a b + c: fused for numbers; of vectors, as their file is compiled.
DYNKIN_HD float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
template <class A, class V> DYNKIN_HD V multiply_add(A a, V b, V c) { return a * b + c; }

/// A row at sigma: the polynomial of a column is sum_k weight[k] c_(node + k).
struct alignas(16) PriorTableRow {
    std::size_t row = 0, node = 0; ///< row: below 2^32
    float weight[4] = {};          ///< over alpha sigma
    float alpha = 1, reach = 0;    ///< reach: 3 alpha sigma
    float inverse = 0, slope = 0;  ///< 1 / sigma, 1 / (alpha sigma)
};

/// Cubic B-splines at t in [0, 1] between the second and the third of four nodes.
DYNKIN_HD void spline_basis(double t, double (&weight)[4]) {
    const double u = 1 - t;
    weight[0] = u * u * u / 6, weight[3] = t * t * t / 6;
    weight[1] = (4 - 3 * t * t * (2 - t)) / 6, weight[2] = (4 - 3 * u * u * (2 - u)) / 6;
}

/// w, -1 .. 1 within the window of prior_curves().
template <class V> DYNKIN_HD V prior_window(const PriorTableRow& row, V x, V middle, V twice) {
    return (x - row.alpha * middle) / (row.alpha * twice + row.reach);
}

/// score[q] of rows of one node at v[q], whose coefficients c(i, k) are read once: four polynomials a row,
/// then their mean by the weights.
template <int Degree, int Rows, class V, class Coefficient> DYNKIN_HD void
tabulated_scores(const PriorTableRow* rows, const V (&v)[Rows], const Coefficient& c, V (&score)[Rows]) {
    V sum[Rows][4];
    DYNKIN_UNROLL
    for (int k = 0; k < 4; ++k) {
        const V last = c(Degree - 1, k);
        DYNKIN_UNROLL
        for (int q = 0; q < Rows; ++q) sum[q][k] = last;
    }
    DYNKIN_UNROLL
    for (int i = Degree - 2; i >= 0; --i) DYNKIN_UNROLL
    for (int k = 0; k < 4; ++k) {
        const V coefficient = c(i, k);
        DYNKIN_UNROLL
        for (int q = 0; q < Rows; ++q) sum[q][k] = multiply_add(sum[q][k], v[q], coefficient);
    }
    DYNKIN_UNROLL
    for (int q = 0; q < Rows; ++q) {
        score[q] = rows[q].weight[0] * sum[q][0];
        DYNKIN_UNROLL
        for (int k = 1; k < 4; ++k) score[q] = multiply_add(rows[q].weight[k], sum[q][k], score[q]);
    }
}

/// What the score falls by beyond the window, for each w - v: (2 r + 3) / (r^2 + 1) / (alpha sigma), r =
/// scale / sigma.
DYNKIN_HD float prior_tail(const PriorTableRow& row, float twice) {
    const float ratio = row.inverse * twice;
    return row.slope * (ratio + 3) / (0.25f * ratio * ratio + 1);
}

/// out[row, j] of `count` rows, ordered by node, for the blocks [first, last) of the table's columns. A row's
/// score does not depend on the rows beside it.
struct PriorTableKernels {
    void (*score)(const PriorTableView& table, std::size_t first, std::size_t last, const PriorTableRow* rows,
                  std::size_t count, const float* x, std::size_t x_stride, float* out,
                  std::size_t out_stride);
};
const PriorTableKernels& prior_table_kernels(Isa isa);

} // namespace dynkin::kernels
