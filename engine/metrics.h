// metrics.h - how close generated samples are to a reference, each figure next to its floor.
#pragma once
#include "array.h"
#include "context.h"
#include "target.h"
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace dynkin {

/// All figures are 0 for equal laws up to sampling noise, except energy_std_ratio (1). NaN: not measured (no
/// target, or one without energy). Means, moments, histograms and quantiles of the samples are weighted;
/// every Wasserstein distance is exact for the two empirical laws (integrals over their step functions).
struct Figures {
    double second_moment_error =
        std::numeric_limits<double>::quiet_NaN(); ///< |S - S_ref|_F / |S_ref|_F, S = E[x x'] uncentred
    /// Mean over sites of the total variation sum |p - p_ref| / 2 in 60 bins over the reference's range;
    /// samples outside count in the end bins. A site at which the reference is constant: the fraction of
    /// samples elsewhere.
    double marginal_tv = std::numeric_limits<double>::quiet_NaN();
    /// Mean over sites of the 1-Wasserstein distance, in reference standard deviations. A site at which the
    /// reference is constant counts 0 when the samples are that constant too, and makes the figure +inf
    /// otherwise.
    double marginal_w1 = std::numeric_limits<double>::quiet_NaN();
    /// Sliced 2-Wasserstein: root of the mean of W2^2 over 100 random directions, over sqrt(tr S_ref / d).
    double sliced_w = std::numeric_limits<double>::quiet_NaN();
    double energy_mean_error = std::numeric_limits<double>::quiet_NaN(); ///< (mean U - mean U_ref) / sd U_ref
    double energy_std_ratio = std::numeric_limits<double>::quiet_NaN();  ///< sd U / sd U_ref
};

/// floor: the same between two random halves of the reference, the first against the second: what independent
/// samples of the law itself reach at half the size of the reference. Sampling noise falls with the root of
/// the size, so figures of larger sets can lie below the floor.
struct FiguresWithFloor {
    Figures figures, floor;
};

/// samples (n, d), optionally weighted (one weight a sample, not negative, any positive sum; empty: equal),
/// against reference (m, d). Throws Error(usage) on a dimension mismatch, fewer than 20 rows, or wrong
/// weights; Error(input) on a number that is not finite. Deterministic for any thread count; O((n + m) (d^2 +
/// (d + 100) log n)), and memory for a few columns a thread besides the arrays.
FiguresWithFloor compare(const Context& context, const Array<double>& samples,
                         std::span<const double> weights, const Array<double>& reference,
                         const Target* target, std::uint64_t seed);

/// One direction only, without the floor.
Figures figures(const Context& context, const Array<double>& samples, std::span<const double> weights,
                const Array<double>& reference, const Target* target, std::uint64_t seed);

} // namespace dynkin
