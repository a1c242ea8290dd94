// gram.h - what one pair of terms that meet at a site adds to the Gram matrix: sums over the degrees r (and
// s) at which moments are known. The loop over entries of the host is in engine/gram.cpp, the device's in
// gram_cuda.cu.
#pragma once
#include "portable.h"
#include <cstddef>

namespace dynkin::kernels {

constexpr double negligible_product = 1e-13; ///< smaller coefficients are rounding errors of quadrature

/// Moments at base + slot[r] * stride; slot[r] < 0: 0.
struct TripleMoments {
    const double* base;
    std::size_t stride;
    const int* slot;
};

/// sum_r g[r] exp(-lambda_r t) E[phi_r ..]; decay[r] = exp(-lambda_r t).
DYNKIN_HD double triple_sum(const double* g, const double* decay, int degrees, const TripleMoments& moments) {
    double sum = 0;
    for (int r = 0; r < degrees; ++r) {
        const double moment = moments.slot[r] < 0
                                  ? 0
                                  : moments.base[static_cast<std::size_t>(moments.slot[r]) * moments.stride];
        sum += g[r] * decay[r] * moment;
    }
    return sum;
}

/// E[phi_r(x_i) phi_s(x_j)] at base + position[r] * stride_r + position[s] * stride_s; position null, or
/// negative: 0.
struct PairMoments {
    const double* base;
    std::size_t stride_r, stride_s;
    const int* position;
};
DYNKIN_HD double pair_moment(const PairMoments& at, int r, int s) {
    if (at.position[r] < 0 || at.position[s] < 0) return 0;
    return at.base[static_cast<std::size_t>(at.position[r]) * at.stride_r +
                   static_cast<std::size_t>(at.position[s]) * at.stride_s];
}

/// sum_s a[s] exp(-mu_s t) sum_r g[r] exp(-lambda_r t) E[phi_r phi_s], for terms that share both sites: a of
/// the products at the neighbour, whose eigenvalues are mu. `odd_even`: moments of odd s and r stand in
/// `odd`, of even ones in `all`, and the others are 0.
DYNKIN_HD double pair_sum(const double* g, const double* decay, const double* a,
                          const double* neighbour_decay, int degrees, bool odd_even, const PairMoments& all,
                          const PairMoments& odd) {
    double sum = 0;
    for (int s = 0; s < degrees; ++s) {
        const PairMoments at = odd_even && s % 2 ? odd : all;
        if (!at.position || (a[s] < negligible_product && a[s] > -negligible_product)) continue;
        double inner = 0;
        for (int r = odd_even ? s % 2 : 0; r < degrees; r += odd_even ? 2 : 1)
            if (g[r] > negligible_product || g[r] < -negligible_product)
                inner += g[r] * decay[r] * pair_moment(at, r, s);
        sum += a[s] * neighbour_decay[s] * inner;
    }
    return sum;
}

} // namespace dynkin::kernels
