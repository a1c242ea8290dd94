// conditional_cuda.h - the conditional laws of conditional.h on the device: one law for many particles and
// many targets at once. The kernels: conditional_cuda.cu.
#pragma once
#include "conditional.h"
#include "device.h"
#include "stationary.h"
#include <cstddef>
#include <cstdint>

namespace dynkin::cuda {

using kernels::Conditions;
using kernels::kScoreTile;

/// Conditions computed together by a thread: the rows of the transform are padded to a multiple of it.
constexpr int kConditionBlock = 8;

/// kernels::Conditions in device memory.
struct ConditionsView {
    const Conditions::Entry *entries, *predictor;
    const Conditions::Group* groups;
    const Conditions::Feature* features;
    const int* exponents;                ///< [monomial][feature]
    const double* transform;             ///< [monomial][condition, padded]
    const Conditions::Condition* ranges; ///< of the monomials, per block of conditions
    int feature_count, predictor_count, monomials, conditions, powers;
    double intercept;
    DYNKIN_HD int padded() const {
        return (conditions + kConditionBlock - 1) / kConditionBlock * kConditionBlock;
    }
};

/// The law of the reference: log p(z) = -sum_k potential[k] z^k - log_normaliser on [lo, hi], and draws from
/// it.
struct ReferenceView {
    double potential[kernels::kPotentialTerms + 1];
    double log_normaliser, lo, hi;
    bool hermite;              ///< draws are normals, else from `law`, kept inside [lo, hi]
    StationaryTable law;       ///< in device memory
    double inner_lo, inner_hi; ///< the box in the state's precision, one ulp inside
};

/// Functions phi_a are held in pairs, odd and even a: so many pairs are compiled.
constexpr int kFlowPairs[] = {3, 4, 6, 8, 12};
/// The smallest of these that holds `degree` functions.
constexpr int flow_pairs(int degree) {
    for (int pairs : kFlowPairs)
        if (2 * pairs >= degree) return pairs;
    return 0;
}
/// Coefficients of a half in one row: to 16 bytes.
template <class T> constexpr int flow_row(int pairs) {
    constexpr int chunk = 16 / static_cast<int>(sizeof(T));
    return (pairs + chunk - 1) / chunk * chunk;
}
/// Particles a lane: two float particles share each load of a coefficient.
template <class T> constexpr int kLaneParticles = sizeof(T) == 4 ? 2 : 1;

/// The flow of kernels::ConditionalPlan in device memory.
template <class T> struct FlowView {
    /// phi_a on pieces, [a - 1][power][piece], zero functions for a > degree (null: Hermite).
    const T* table;
    /// [time][odd a: first_odd <= alpha < last_odd | even a: ...][pair, padded]: phi_(2 pair + 1), phi_(2
    /// pair + 2).
    const T* coefficients;
    const T* dt; ///< [step]
    int steps, degree, pairs, pieces, powers;
    int first_odd, last_odd, first_even, last_even, conditions;
    bool hermite;
    T lo, hi;                                    ///< box of the functions
    T lambda[kernels::kMaxDegree];               ///< lambda_1 .., 0 beyond the degree
    T root[kernels::kMaxDegree + 2];             ///< sqrt(n) (Hermite)
    T potential_slope[kernels::kPotentialTerms]; ///< v'
    double scale;                                ///< x = mean + scale z
    DYNKIN_HD int coefficients_a_time() const {
        return (last_odd - first_odd + last_even - first_even) * flow_row<T>(pairs);
    }
};

/// Warps a block such that the functions (float32 only), two times' coefficients and the conditions of its
/// particles fit into so much shared memory; 0: not even one.
template <class T> int flow_warps(const FlowView<T>& flow, std::size_t shared_memory);
template <class T> std::size_t flow_shared_memory(const FlowView<T>& flow, int warps);

/// Bytes a block that describe_conditions() needs at least.
constexpr std::size_t describe_shared_memory(int powers) {
    return 32 * static_cast<std::size_t>(powers) * sizeof(double);
}

/// Some targets of one level, for all particles of a batch. Particles come in tiles of kScoreTile.
template <class T> struct ConditionalWork {
    std::size_t tiles;
    int columns, targets, slots;
    const int* target;     ///< columns
    const int* neighbours; ///< [target][slot]
    T* x;                  ///< [tile][column][particle]
    T *mean, *z;           ///< [target][tile][particle]
    T* psi;                ///< [target][tile][condition][particle]
    double* part;          ///< [target][tile][particle]: what each target adds to log q; null: not wanted
    DYNKIN_HD std::size_t particles() const { return tiles * kScoreTile; }
};

// All enqueue on the stream and throw Error(io) when a launch fails. T: float or double.

/// mean and psi from x, as ConditionalKernels::describe().
template <class T> void describe_conditions(DeviceStream stream, const ConditionsView& conditions,
                                            const ConditionalWork<T>& work);
/// z from the reference's law (Stream::sampler_start, slot = target / 4), part = its log density. Particle p
/// of the first tile is sample first + p.
template <class T> void start_flow(DeviceStream stream, const ReferenceView& reference, std::uint64_t seed,
                                   std::uint64_t first, const ConditionalWork<T>& work);
/// x of the targets from z; part -= log |dx/dz|, NaN where the discrete map has no inverse.
template <class T>
void generate_flow(DeviceStream stream, const FlowView<T>& flow, int warps, const ConditionalWork<T>& work);
/// part = log q of x.
template <class T> void invert_flow(DeviceStream stream, const FlowView<T>& flow, int warps,
                                    const ReferenceView& reference, const ConditionalWork<T>& work);
/// log_q[particle] += part[target][particle], targets in order.
void add_parts(DeviceStream stream, int targets, std::size_t particles, const double* part, double* log_q);

} // namespace dynkin::cuda
