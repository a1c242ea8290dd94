// level_moments.h - the sums over training pairs that a level is fitted to (private).
#pragma once
#include "array.h"
#include "context.h"
#include "level_fit.h"
#include "model.h"
#include <cstddef>

namespace dynkin {

/// E[phi_r(z) psi_alpha psi_beta] and E[phi_r(z) psi_alpha], as sums over the training and the held-out
/// pairs. Only the parities that do not vanish: alpha and beta of one parity for even r, of both for odd r.
struct LevelMoments {
    std::size_t conditions = 0;
    Array<double> triple; ///< (R + 1) x conditions^2
    Array<double> single; ///< (R + 1) x conditions
    double count = 0;
    void add(const LevelMoments& other) {
        for (std::size_t k = 0; k < triple.size(); ++k) triple[k] += other.triple[k];
        for (std::size_t k = 0; k < single.size(); ++k) single[k] += other.single[k];
        count += other.count;
    }
};

/// Over the pairs first .. last - 1, on the device of the context: float64, sums in an order that depends on
/// nothing but the number of pairs. Throws Error(io) when its memory does not hold 5 120 pairs, Interrupted.
LevelMoments level_moments_on_device(const Context& context, const Level& level, const LevelPairs& pairs,
                                     std::size_t first, std::size_t last);

} // namespace dynkin
