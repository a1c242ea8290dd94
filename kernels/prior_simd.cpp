// prior_simd.cpp - the host loops of prior.h for one SIMD level.
#include "prior.h"
#include "simd.h"

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

using std::size_t;
constexpr int W = static_cast<int>(kPriorLanes);
constexpr int kSystem = kMaxPriorDegree * (kMaxPriorDegree + 1) / 2;

/// W systems: rows k >= l of A at [k (k + 1) / 2 + l], zero-based, and the right side.
struct Systems {
    alignas(64) double spread[W], decay[W]; ///< 1 / sqrt(scale^2 + sigma^2), scale times that: e^-t
    alignas(64) double moment[2 * kMaxPriorDegree + 1][W];
    alignas(64) double a[kSystem][W], c[kMaxPriorDegree][W];
};

/// E_pt[phi_r] = e^(-r t) E_p0[phi_r]; A_kl = sum_r <phi_k' phi_l' phi_r> E_pt[phi_r]; b_k = k E_pt[phi_k].
void assemble(const HermiteTables& t, const MarginalView& m, size_t first, double sigma, Systems& s) {
    const int K = t.degree;
    alignas(64) double power[W];
#pragma omp simd
    for (int j = 0; j < W; ++j) {
        const double scale = m.scale[first + static_cast<size_t>(j)];
        s.spread[j] = 1 / std::sqrt(scale * scale + sigma * sigma);
        s.decay[j] = scale * s.spread[j];
        power[j] = 1;
    }
    for (int r = 0; r <= 2 * K; ++r) {
        const double* const moment = m.moments + static_cast<size_t>(r) * m.padded + first;
#pragma omp simd
        for (int j = 0; j < W; ++j) {
            s.moment[r][j] = power[j] * moment[j];
            power[j] *= s.decay[j];
        }
    }
    for (int q = 0; q < K * (K + 1) / 2; ++q) {
        alignas(64) double sum[W] = {};
        for (int e = t.first[q]; e < t.first[q + 1]; ++e)
#pragma omp simd
            for (int j = 0; j < W; ++j) sum[j] += t.gradient[e] * s.moment[t.r[e]][j];
#pragma omp simd
        for (int j = 0; j < W; ++j) s.a[q][j] = sum[j];
    }
    for (int k = 0; k < K; ++k)
#pragma omp simd
        for (int j = 0; j < W; ++j) s.c[k][j] = (k + 1) * s.moment[k + 1][j];
}

int place(int k, int l) { return k * (k + 1) / 2 + l; }

/// c = (A + ridge diag A)^-1 b by L D L'. A pivot that rounding has taken below 1e-14 of the diagonal is put
/// there.
void solve_systems(int K, double ridge, Systems& s) {
    alignas(64) double inverse[kMaxPriorDegree][W], pivot[W];
    for (int k = 0; k < K; ++k) {
        for (int l = 0; l < k; ++l)
            for (int i = 0; i < l; ++i)
#pragma omp simd
                for (int j = 0; j < W; ++j) s.a[place(k, l)][j] -= s.a[place(k, i)][j] * s.a[place(l, i)][j];
        const double(&diagonal)[W] = s.a[place(k, k)];
#pragma omp simd
        for (int j = 0; j < W; ++j) pivot[j] = diagonal[j] * (1 + ridge);
        for (int l = 0; l < k; ++l)
#pragma omp simd
            for (int j = 0; j < W; ++j) {
                const double scaled = s.a[place(k, l)][j], factor = scaled * inverse[l][j];
                s.a[place(k, l)][j] = factor;
                pivot[j] -= scaled * factor;
                s.c[k][j] -= factor * s.c[l][j];
            }
#pragma omp simd
        for (int j = 0; j < W; ++j) {
            const double least = 1e-14 * diagonal[j];
            inverse[k][j] = 1 / (pivot[j] > least ? pivot[j] : least);
        }
    }
    for (int k = K - 1; k >= 0; --k) {
#pragma omp simd
        for (int j = 0; j < W; ++j) s.c[k][j] *= inverse[k][j];
        for (int l = k + 1; l < K; ++l)
#pragma omp simd
            for (int j = 0; j < W; ++j) s.c[k][j] -= s.a[place(l, k)][j] * s.c[l][j];
    }
}

template <class T> void solve(const HermiteTables& t, const MarginalView& m, double ridge, double sigma,
                              double alpha, T* curves) {
    const int K = t.degree;
    Systems s;
    for (size_t first = 0; first < m.padded; first += kPriorLanes) {
        assemble(t, m, first, sigma, s);
        solve_systems(K, ridge, s);
        T* const out = curves + first;
        alignas(64) double half[W], power[W];
#pragma omp simd
        for (int j = 0; j < W; ++j) {
            const double reach = 2 * m.scale[first + static_cast<size_t>(j)] + 3 * sigma;
            half[j] = reach * s.spread[j]; // in units of the reference
            power[j] = s.spread[j] / alpha;
            out[j] = static_cast<T>(alpha * m.middle[first + static_cast<size_t>(j)]);
            out[m.padded + static_cast<size_t>(j)] = static_cast<T>(1 / (alpha * reach));
            out[2 * m.padded + static_cast<size_t>(j)] = static_cast<T>(power[j] * half[j]);
        }
        for (int i = 0; i < K; ++i) {
            T* const p = out + static_cast<size_t>(3 + i) * m.padded;
            alignas(64) double value[W];
#pragma omp simd
            for (int j = 0; j < W; ++j) value[j] = i == 1 ? -1 : 0;
            for (int n = i; n < K; n += 2)
#pragma omp simd
                for (int j = 0; j < W; ++j) value[j] += t.slope[n][i] * s.c[n][j];
#pragma omp simd
            for (int j = 0; j < W; ++j) {
                p[j] = static_cast<T>(value[j] * power[j]);
                power[j] *= half[j];
            }
        }
    }
}

template <class T, int N> void evaluate_degree(size_t columns, size_t padded, const T* curves, size_t rows,
                                               const T* x, size_t x_stride, T* out, size_t out_stride) {
    constexpr size_t block = 256; // whose curves stay in the first-level cache
    const T* const middle = curves;
    const T* const inverse = curves + padded;
    const T* const rate = curves + 2 * padded;
    const T* const p = curves + 3 * padded;
    for (size_t first = 0; first < columns; first += block) {
        const size_t last = first + block < columns ? first + block : columns;
        for (size_t n = 0; n < rows; ++n) {
            const T* const from = x + n * x_stride;
            T* const to = out + n * out_stride;
#pragma omp simd
            for (size_t j = first; j < last; ++j) {
                const T w = (from[j] - middle[j]) * inverse[j];
                const T v = w < T(-1) ? T(-1) : (w > T(1) ? T(1) : w);
                T sum = p[(N - 1) * padded + j];
#pragma GCC unroll 10
                for (int i = N - 2; i >= 0; --i) sum = sum * v + p[static_cast<size_t>(i) * padded + j];
                to[j] = sum - rate[j] * (w - v);
            }
        }
    }
}

template <class T> void evaluate(int degree, size_t columns, size_t padded, const T* curves, size_t rows,
                                 const T* x, size_t x_stride, T* out, size_t out_stride) {
    switch (degree) {
#define DYNKIN_DEGREE(N)                                                                                     \
    case N:                                                                                                  \
        return evaluate_degree<T, N>(columns, padded, curves, rows, x, x_stride, out, out_stride)
        DYNKIN_DEGREE(2);
        DYNKIN_DEGREE(3);
        DYNKIN_DEGREE(4);
        DYNKIN_DEGREE(5);
        DYNKIN_DEGREE(6);
        DYNKIN_DEGREE(7);
        DYNKIN_DEGREE(8);
        DYNKIN_DEGREE(9);
        DYNKIN_DEGREE(10);
#undef DYNKIN_DEGREE
    }
}

void power_sums(int top, size_t columns, const double* middle, const double* inverse, size_t rows,
                const double* x, size_t stride, double* sums) {
    constexpr size_t block = 64;
    alignas(64) double z[block], power[block];
    for (size_t n = 0; n < rows; ++n, x += stride) {
#pragma omp simd
        for (size_t j = 0; j < columns; ++j) {
            z[j] = (x[j] - middle[j]) * inverse[j];
            power[j] = 1;
            sums[j] += 1;
        }
        for (int k = 1; k <= top; ++k) {
            double* const sum = sums + static_cast<size_t>(k) * block;
#pragma omp simd
            for (size_t j = 0; j < columns; ++j) {
                power[j] *= z[j];
                sum[j] += power[j];
            }
        }
    }
}

} // namespace
} // namespace DYNKIN_ISA

template <class T> const PriorKernels<T>& DYNKIN_ISA_NAME(prior_kernels)() {
    static const PriorKernels<T> kernels{DYNKIN_ISA::solve<T>, DYNKIN_ISA::evaluate<T>,
                                         DYNKIN_ISA::power_sums};
    return kernels;
}
template const PriorKernels<float>& DYNKIN_ISA_NAME(prior_kernels)<float>();
template const PriorKernels<double>& DYNKIN_ISA_NAME(prior_kernels)<double>();

} // namespace dynkin::kernels
