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

/// All figures are 0 for equal laws up to sampling noise, except energy_std_ratio (1). NaN: not measured (no target).
struct Figures {
    double second_moment_error = std::numeric_limits<double>::quiet_NaN(); ///< |S - S_ref|_F / |S_ref|_F, S = E[x x'] uncentred
    double marginal_tv = std::numeric_limits<double>::quiet_NaN();  ///< mean over sites of the total variation, 60 bins over the reference's range
    double marginal_w1 = std::numeric_limits<double>::quiet_NaN();  ///< mean over sites of the 1-Wasserstein distance, in reference standard deviations
    double sliced_w = std::numeric_limits<double>::quiet_NaN();     ///< sliced 2-Wasserstein, 100 directions, over sqrt(tr S_ref / d)
    double energy_mean_error = std::numeric_limits<double>::quiet_NaN(); ///< (mean U - mean U_ref) / sd U_ref
    double energy_std_ratio = std::numeric_limits<double>::quiet_NaN();
};

struct FiguresWithFloor {
    Figures figures, floor; ///< floor: the same between two random halves of the reference
};

/// samples (n, d), optionally weighted (weights sum to 1), against reference (m, d). Throws Error(usage) on a dimension
/// mismatch or fewer than 20 rows. Deterministic for any thread count.
FiguresWithFloor compare(const Context& context, const Array<double>& samples, std::span<const double> weights,
                         const Array<double>& reference, const Target* target, std::uint64_t seed);

/// One direction only, without the floor.
Figures figures(const Context& context, const Array<double>& samples, std::span<const double> weights,
                const Array<double>& reference, const Target* target, std::uint64_t seed);

} // namespace dynkin
