// prior.h - scores of noisy data one coordinate at a time: systems of K equations for many coordinates at
// once, and the polynomials that they give. The host loops: prior_simd.cpp (once per SIMD level). Formulas:
// docs/method.md, section 13.
#pragma once
#include "engine/context.h"
#include <cstddef>

namespace dynkin::kernels {

constexpr int kMaxPriorDegree = 10;
constexpr std::size_t kPriorLanes =
    16; ///< coordinates a system block; arrays over coordinates are padded to it

/// Hermite functions phi_n = He_n / sqrt(n!) up to the degree K.
struct HermiteTables {
    int degree = 0;
    /// <phi_k' phi_l' phi_r> for 1 <= l <= k <= K: entries first[q] .. first[q + 1] of q = k (k - 1) / 2 + l
    /// - 1.
    int first[kMaxPriorDegree * (kMaxPriorDegree + 1) / 2 + 1] = {};
    int r[kMaxPriorDegree * (kMaxPriorDegree + 1) * (kMaxPriorDegree + 2) / 6] = {};
    double gradient[kMaxPriorDegree * (kMaxPriorDegree + 1) * (kMaxPriorDegree + 2) / 6] = {};
    double slope[kMaxPriorDegree][kMaxPriorDegree] = {}; ///< phi_{n+1}' = sum_i slope[n][i] y^i
};

/// Location, scale (0: constant) and E[phi_r(z)], r = 0 .. 2K, of each coordinate, z = (x - middle) / scale
/// in
/// [-2, 2]. moments[r * padded + j].
struct MarginalView {
    std::size_t padded;
    const double *middle, *scale, *moments;
};

/// Scores of all coordinates at one noise level, (K + 3) x padded: middle, inverse, rate, p_0 .. p_{K-1}.
///   w = (x - middle) inverse, v = w cut to [-1, 1], score = sum_i p_i v^i - rate (w - v)
template <class T> struct PriorKernels {
    /// The curves of alpha x_0 + alpha sigma eps (alpha = 1: x_0 + sigma eps), from K equations a coordinate.
    void (*solve)(const HermiteTables& tables, const MarginalView& marginals, double ridge, double sigma,
                  double alpha, T* curves);
    /// out[n, j] for j < columns. `degree`: 2 .. kMaxPriorDegree.
    void (*evaluate)(int degree, std::size_t columns, std::size_t padded, const T* curves, std::size_t rows,
                     const T* x, std::size_t x_stride, T* out, std::size_t out_stride);
    /// sums[k * 64 + j] += sum_n z^k, k = 0 .. top, z = (x[n, j] - middle[j]) inverse[j], j < columns <= 64.
    void (*power_sums)(int top, std::size_t columns, const double* middle, const double* inverse,
                       std::size_t rows, const double* x, std::size_t stride, double* sums);
};
template <class T> const PriorKernels<T>& prior_kernels(Isa isa);

} // namespace dynkin::kernels
