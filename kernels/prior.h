// prior.h - scores of noisy data one coordinate at a time: systems of K equations for many coordinates at
// once, and the polynomials that they give, for host and device. The host loops: prior_simd.cpp (once per
// SIMD level); the device's: prior_cuda.cu. Formulas: docs/method.md, section 13.
#pragma once
#include "engine/context.h"
#include "portable.h"
#include <cmath>
#include <cstddef>

#ifdef __CUDACC__
#define DYNKIN_LANES
#else
#define DYNKIN_LANES _Pragma("omp simd")
#endif

namespace dynkin::kernels {

constexpr int kMaxPriorDegree = 10;

/// call.template operator()<K>() with K = degree, 2 to kMaxPriorDegree: loops that know their length.
template <int K = 2, class Call>
inline __attribute__((always_inline)) void with_prior_degree(int degree, const Call& call) {
    if (degree == K) return call.template operator()<K>();
    if constexpr (K < kMaxPriorDegree) with_prior_degree<K + 1>(degree, call);
}
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

/// W systems: rows k >= l of A at [k (k + 1) / 2 + l], zero-based, and the right side.
template <int W> struct PriorSystems {
    static constexpr int kSystem = kMaxPriorDegree * (kMaxPriorDegree + 1) / 2;
    static constexpr std::size_t kAligned = W * sizeof(double) < 64 ? W * sizeof(double) : 64;
    alignas(kAligned) double spread[W], decay[W]; ///< 1 / sqrt(scale^2 + sigma^2), scale times that: e^-t
    alignas(kAligned) double moment[2 * kMaxPriorDegree + 1][W];
    alignas(kAligned) double a[kSystem][W], c[kMaxPriorDegree][W];
};

/// E_pt[phi_r] = e^(-r t) E_p0[phi_r]; A_kl = sum_r <phi_k' phi_l' phi_r> E_pt[phi_r]; b_k = k E_pt[phi_k].
template <int W> DYNKIN_HD void assemble_prior(const HermiteTables& t, const MarginalView& m,
                                               std::size_t first, double sigma, PriorSystems<W>& s) {
    const int K = t.degree;
    alignas(PriorSystems<W>::kAligned) double power[W];
    DYNKIN_LANES
    for (int j = 0; j < W; ++j) {
        const double scale = m.scale[first + static_cast<std::size_t>(j)];
        s.spread[j] = 1 / std::sqrt(scale * scale + sigma * sigma);
        s.decay[j] = scale * s.spread[j];
        power[j] = 1;
    }
    for (int r = 0; r <= 2 * K; ++r) {
        const double* const moment = m.moments + static_cast<std::size_t>(r) * m.padded + first;
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) {
            s.moment[r][j] = power[j] * moment[j];
            power[j] *= s.decay[j];
        }
    }
    for (int q = 0; q < K * (K + 1) / 2; ++q) {
        alignas(PriorSystems<W>::kAligned) double sum[W] = {};
        for (int e = t.first[q]; e < t.first[q + 1]; ++e) DYNKIN_LANES
        for (int j = 0; j < W; ++j) sum[j] += t.gradient[e] * s.moment[t.r[e]][j];
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) s.a[q][j] = sum[j];
    }
    for (int k = 0; k < K; ++k) DYNKIN_LANES
    for (int j = 0; j < W; ++j) s.c[k][j] = (k + 1) * s.moment[k + 1][j];
}

DYNKIN_HD int prior_place(int k, int l) { return k * (k + 1) / 2 + l; }

/// c = (A + ridge diag A)^-1 b by L D L'. A pivot that rounding has taken below 1e-14 of the diagonal is put
/// there.
template <int W> DYNKIN_HD void solve_prior(int K, double ridge, PriorSystems<W>& s) {
    alignas(PriorSystems<W>::kAligned) double inverse[kMaxPriorDegree][W], pivot[W];
    for (int k = 0; k < K; ++k) {
        for (int l = 0; l < k; ++l)
            for (int i = 0; i < l; ++i) DYNKIN_LANES
        for (int j = 0; j < W; ++j)
            s.a[prior_place(k, l)][j] -= s.a[prior_place(k, i)][j] * s.a[prior_place(l, i)][j];
        const double(&diagonal)[W] = s.a[prior_place(k, k)];
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) pivot[j] = diagonal[j] * (1 + ridge);
        for (int l = 0; l < k; ++l) DYNKIN_LANES
        for (int j = 0; j < W; ++j) {
            const double scaled = s.a[prior_place(k, l)][j], factor = scaled * inverse[l][j];
            s.a[prior_place(k, l)][j] = factor;
            pivot[j] -= scaled * factor;
            s.c[k][j] -= factor * s.c[l][j];
        }
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) {
            const double least = 1e-14 * diagonal[j];
            inverse[k][j] = 1 / (pivot[j] > least ? pivot[j] : least);
        }
    }
    for (int k = K - 1; k >= 0; --k) {
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) s.c[k][j] *= inverse[k][j];
        for (int l = k + 1; l < K; ++l) DYNKIN_LANES
        for (int j = 0; j < W; ++j) s.c[k][j] -= s.a[prior_place(l, k)][j] * s.c[l][j];
    }
}

/// The curves of W coordinates from `first` on, whose entries stand `stride` apart from `out` on.
template <int W, class T> DYNKIN_HD void prior_curves(const HermiteTables& t, const MarginalView& m,
                                                      std::size_t first, double ridge, double sigma,
                                                      double alpha, T* out, std::size_t stride) {
    const int K = t.degree;
    PriorSystems<W> s;
    assemble_prior(t, m, first, sigma, s);
    solve_prior(K, ridge, s);
    alignas(PriorSystems<W>::kAligned) double half[W], power[W];
    DYNKIN_LANES
    for (int j = 0; j < W; ++j) {
        const double reach = 2 * m.scale[first + static_cast<std::size_t>(j)] + 3 * sigma;
        half[j] = reach * s.spread[j]; // in units of the reference
        power[j] = s.spread[j] / alpha;
        out[j] = static_cast<T>(alpha * m.middle[first + static_cast<std::size_t>(j)]);
        out[stride + static_cast<std::size_t>(j)] = static_cast<T>(1 / (alpha * reach));
        out[2 * stride + static_cast<std::size_t>(j)] = static_cast<T>(power[j] * half[j]);
    }
    for (int i = 0; i < K; ++i) {
        T* const p = out + static_cast<std::size_t>(3 + i) * stride;
        alignas(PriorSystems<W>::kAligned) double value[W];
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) value[j] = i == 1 ? -1 : 0;
        for (int n = i; n < K; n += 2) DYNKIN_LANES
        for (int j = 0; j < W; ++j) value[j] += t.slope[n][i] * s.c[n][j];
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) {
            p[j] = static_cast<T>(value[j] * power[j]);
            power[j] *= half[j];
        }
    }
}

/// The score of one number from its coordinate's curve, whose entries stand `padded` apart.
template <class T> DYNKIN_HD T prior_score(int degree, const T* curve, std::size_t padded, T x) {
    const T w = (x - curve[0]) * curve[padded];
    const T v = w < T(-1) ? T(-1) : (w > T(1) ? T(1) : w);
    const T* const p = curve + 3 * padded;
    T sum = p[static_cast<std::size_t>(degree - 1) * padded];
#ifndef __CUDACC__
#pragma GCC unroll 10
#endif
    for (int i = degree - 2; i >= 0; --i) sum = sum * v + p[static_cast<std::size_t>(i) * padded];
    return sum - curve[2 * padded] * (w - v);
}

/// A flat prior: mean and range of each coordinate, whether it varies (1 or 0), and rows of coefficients of
/// phi_1 .. phi_K at single[(row K + k) padded + j].
struct FlatView {
    std::size_t columns, padded;
    const double *mean, *lower, *upper, *varies, *single;
};
/// Coefficients at a noise level: sum_q weight[q] of row first + q.
struct FlatPlace {
    std::size_t first = 0;
    double weight[4] = {};
};

/// The same of a flat prior: sum_k c_k phi_k'(y) - y, y = spread (x / alpha - mean), as polynomials on
/// [lower - 3 sigma, upper + 3 sigma].
template <int W, class T> DYNKIN_HD void flat_curves(const HermiteTables& t, const FlatView& law,
                                                     std::size_t first, const FlatPlace& place, double spread,
                                                     double sigma, double alpha, T* out, std::size_t stride) {
    const int K = t.degree;
    constexpr std::size_t aligned = PriorSystems<W>::kAligned;
    alignas(aligned) double center[W], half[W], power[W], c[W], p[kMaxPriorDegree][W];
    DYNKIN_LANES
    for (int j = 0; j < W; ++j) {
        const std::size_t at = first + static_cast<std::size_t>(j);
        const double lower = 0.5 * law.lower[at], upper = 0.5 * law.upper[at], middle = lower + upper,
                     reach = upper - lower + 3 * sigma, scale = law.varies[at] != 0 ? spread : 1 / sigma;
        center[j] = scale * (middle - law.mean[at]), half[j] = scale * reach, power[j] = scale / alpha;
        out[j] = static_cast<T>(alpha * middle);
        out[stride + static_cast<std::size_t>(j)] = static_cast<T>(1 / (alpha * reach));
        out[2 * stride + static_cast<std::size_t>(j)] = static_cast<T>(power[j] * half[j]);
    }
    for (int i = 0; i < K; ++i) DYNKIN_LANES
    for (int j = 0; j < W; ++j) p[i][j] = i == 1 ? -1 : 0;
    for (int n = 0; n < K; ++n) {
        const double* const single =
            law.single +
            (place.first * static_cast<std::size_t>(K) + static_cast<std::size_t>(n)) * law.padded + first;
        const std::size_t row = static_cast<std::size_t>(K) * law.padded;
        DYNKIN_LANES
        for (int j = 0; j < W; ++j)
            c[j] =
                (place.weight[0] * single[j] + place.weight[1] * single[row + static_cast<std::size_t>(j)]) +
                (place.weight[2] * single[2 * row + static_cast<std::size_t>(j)] +
                 place.weight[3] * single[3 * row + static_cast<std::size_t>(j)]);
        for (int i = n % 2; i <= n; i += 2) DYNKIN_LANES
        for (int j = 0; j < W; ++j) p[i][j] += c[j] * t.slope[n][i];
    }
    for (int low = 0; low + 1 < K; ++low) // p(center + half v)
        for (int i = K - 1; i-- > low;) DYNKIN_LANES
    for (int j = 0; j < W; ++j) p[i][j] += center[j] * p[i + 1][j];
    for (int i = 0; i < K; ++i) {
        T* const to = out + static_cast<std::size_t>(3 + i) * stride;
        DYNKIN_LANES
        for (int j = 0; j < W; ++j) {
            to[j] = static_cast<T>(p[i][j] * power[j]);
            power[j] *= half[j];
        }
    }
}

/// Scores of all coordinates at one noise level, (K + 3) x padded: middle, inverse, rate, p_0 .. p_{K-1}.
///   w = (x - middle) inverse, v = w cut to [-1, 1], score = sum_i p_i v^i - rate (w - v)
template <class T> struct PriorKernels {
    /// The curves of alpha x_0 + alpha sigma eps (alpha = 1: x_0 + sigma eps), from K equations a coordinate.
    void (*solve)(const HermiteTables& tables, const MarginalView& marginals, double ridge, double sigma,
                  double alpha, T* curves);
    void (*flat)(const HermiteTables& tables, const FlatView& law, const FlatPlace& place, double spread,
                 double sigma, double alpha, T* curves);
    /// out[n, j] for j < columns. `degree`: 2 .. kMaxPriorDegree.
    void (*evaluate)(int degree, std::size_t columns, std::size_t padded, const T* curves, std::size_t rows,
                     const T* x, std::size_t x_stride, T* out, std::size_t out_stride);
    /// sums[k * 64 + j] += sum_n z^k, k = 0 .. top, z = (x[n, j] - middle[j]) inverse[j], j < columns <= 64.
    void (*power_sums)(int top, std::size_t columns, const double* middle, const double* inverse,
                       std::size_t rows, const double* x, std::size_t stride, double* sums);
};
template <class T> const PriorKernels<T>& prior_kernels(Isa isa);

} // namespace dynkin::kernels
