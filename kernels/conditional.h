// conditional.h - the diffusion of one scalar z given conditions psi: z follows dz = g dt, g(z, t) = sum_a
// e_a(t) phi_a'(z), e_a = sum_alpha c_{a,alpha}(t) psi_alpha, by Heun steps whose exact derivative is carried
// along. The host loops: conditional_simd.cpp (once per SIMD level). Formulas: docs/method.md, section 10.
#pragma once
#include "portable.h"
#include "score.h"
#include <cstddef>
#include <vector>

namespace dynkin::kernels {

constexpr int kMaxFeatures = 64;

/// z(t - dt) from z(t): one Heun step with the slopes g at both ends (the second at z + dt first).
template <class V> DYNKIN_HD V heun_value(V z, V dt, V first, V second) {
    return z + V{0.5} * dt * (first + second);
}
/// d z(t - dt) / d z(t) of the same step, from the derivatives of g at both ends.
template <class V> DYNKIN_HD V heun_slope(V dt, V first, V second) {
    return V{1} + V{0.5} * dt * (first + second * (V{1} + dt * first));
}

/// How the conditions psi of one law follow from what has been drawn.
struct Conditions {
    struct Entry {
        int slot;
        double weight;
    };
    struct Group {
        double coefficient;
        int first, last; ///< entries
    };
    struct Feature {
        int power, first, last; ///< groups
        double center, inverse_spread, lower, upper;
        int top; ///< largest exponent in the monomials
    };
    std::vector<Entry> entries;
    std::vector<Group> groups;
    std::vector<Feature> features;
    std::vector<Entry> predictor;
    double intercept = 0;
    std::vector<int> exponents; ///< [monomial][feature]
    int monomials = 0;
    int powers = 0; ///< of all features together, from exponent 0 to top
    /// psi_alpha = sum over monomials of transform[alpha * monomials + m], nonzero for first <= m < last.
    struct Condition {
        int first, last;
    };
    std::vector<Condition> conditions;
    std::vector<double> transform;
};

/// One conditional law: its conditions, and the coefficients of every step.
template <class T> struct ConditionalPlan : Conditions {
    SiteFunctions<T> functions;
    int degree = 0;
    std::vector<Condition> used; ///< per a: the conditions whose coefficients are not zero by symmetry
    std::vector<double> dt;      ///< dt[k] = t[k + 1] - t[k]
    std::vector<T> coefficients; ///< [time][a][condition]

    /// Bytes of working space a thread, for all kernels below.
    std::size_t scratch() const {
        const std::size_t flow = 4 * static_cast<std::size_t>(degree) * sizeof(T),
                          description = static_cast<std::size_t>(powers + monomials) * sizeof(double);
        return kScoreTile * (flow > description ? flow : description);
    }
    const T* at(std::size_t time) const {
        return coefficients.data() + time * static_cast<std::size_t>(degree) * conditions.size();
    }
};

/// For a tile of kScoreTile particles; x[coordinate][particle].
template <class T> struct ConditionalKernels {
    /// mean[particle] = intercept + predictor, psi[alpha][particle]. neighbours[slot]: a coordinate, or -1
    /// for a zero.
    void (*describe)(const ConditionalPlan<T>& plan, const T* x, const int* neighbours, T* mean, T* psi,
                     void* scratch);
    /// From the largest time to the smallest, in place; stretch = dz_out / dz_in.
    void (*generate)(const ConditionalPlan<T>& plan, const T* psi, T* z, double* stretch, void* scratch);
    /// The inverse of generate(): Newton's method per step; stretch is still that of generate(), NaN where
    /// there is no inverse.
    void (*invert)(const ConditionalPlan<T>& plan, const T* psi, T* z, double* stretch, void* scratch);
};
template <class T> const ConditionalKernels<T>& conditional_kernels(Isa isa);

} // namespace dynkin::kernels
