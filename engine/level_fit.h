// level_fit.h - one level of a multilevel model from training pairs (private).
#pragma once
#include "context.h"
#include "fit.h"
#include "level_plan.h"
#include "model.h"
#include <functional>
#include <string>
#include <vector>

namespace dynkin {

/// Training pairs: column 0 is x, the others its slots. The first `train` pairs are fitted, the rest held
/// out.
struct LevelPairs {
    Array<float> values; ///< (1 + slots) x pairs
    std::size_t train = 0;
    std::size_t size() const { return values.cols(); }
};

struct LevelOptions {
    bool even = false;
    double ridge = -1; ///< < 0: by held-out likelihood
    int degree = 0;    ///< 0: chosen
    double reference_scale = 0.7;
    double t_end = -1;
};

/// Throws Error(input) for pairs that do not vary, Error(numerical) for systems without a solution.
Level fit_level(const Context& context, const LevelPlan& plan, const LevelPairs& pairs,
                const LevelOptions& options, LevelReport& report);

} // namespace dynkin
