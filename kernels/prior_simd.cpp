// prior_simd.cpp - the host loops of prior.h for one SIMD level.
#include "prior.h"
#include "simd.h"

namespace dynkin::kernels {
namespace DYNKIN_ISA {
namespace {

using std::size_t;
constexpr int W = static_cast<int>(kPriorLanes);

template <class T> void solve(const HermiteTables& t, const MarginalView& m, double ridge, double sigma,
                              double alpha, T* curves) {
    for (size_t first = 0; first < m.padded; first += kPriorLanes)
        prior_curves<W>(t, m, first, ridge, sigma, alpha, curves + first, m.padded);
}

template <class T> void flat(const HermiteTables& t, const FlatView& law, const FlatPlace& place,
                             double spread, double sigma, double alpha, T* curves) {
    for (size_t first = 0; first < law.padded; first += kPriorLanes)
        flat_curves<W>(t, law, first, place, spread, sigma, alpha, curves + first, law.padded);
}

template <class T, int N> void evaluate_degree(size_t columns, size_t padded, const T* curves, size_t rows,
                                               const T* x, size_t x_stride, T* out, size_t out_stride) {
    constexpr size_t block = 256; // whose curves stay in the first-level cache
    for (size_t first = 0; first < columns; first += block) {
        const size_t last = first + block < columns ? first + block : columns;
        for (size_t n = 0; n < rows; ++n) {
            const T* const from = x + n * x_stride;
            T* const to = out + n * out_stride;
#pragma omp simd
            for (size_t j = first; j < last; ++j) to[j] = prior_score(N, curves + j, padded, from[j]);
        }
    }
}

template <class T> void evaluate(int degree, size_t columns, size_t padded, const T* curves, size_t rows,
                                 const T* x, size_t x_stride, T* out, size_t out_stride) {
    with_prior_degree(degree, [&]<int K> {
        evaluate_degree<T, K>(columns, padded, curves, rows, x, x_stride, out, out_stride);
    });
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
    static const PriorKernels<T> kernels{DYNKIN_ISA::solve<T>, DYNKIN_ISA::flat<T>, DYNKIN_ISA::evaluate<T>,
                                         DYNKIN_ISA::power_sums};
    return kernels;
}
template const PriorKernels<float>& DYNKIN_ISA_NAME(prior_kernels)<float>();
template const PriorKernels<double>& DYNKIN_ISA_NAME(prior_kernels)<double>();

} // namespace dynkin::kernels
