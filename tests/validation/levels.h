// levels.h - levels fitted to a file of samples, and what the weights of their own samples say.
#pragma once
#include "models.h"

namespace dynkin::validation {

struct LevelEstimates {
    std::vector<Weights> weights; ///< by how many last stages were drawn from the target's own conditionals
    double moment_error = 0;      ///< largest |error| of the weighted second moments, no stage drawn exactly
};

/// Fits levels to the file and weighs `count` samples of them for the target, once for each number of exact
/// last stages up to `stages`.
inline LevelEstimates level_estimates(const Context& context, const Target& target,
                                      const std::filesystem::path& train, std::size_t count,
                                      std::uint64_t seed, int stages, const Array<double>* exact = nullptr) {
    FitOptions options = options_for(target);
    options.structure = Structure::levels, options.seed = seed;
    const Model model = fit(context, SampleFile(train), options);
    LevelEstimates out;
    for (int exact_stages = 0; exact_stages <= stages; ++exact_stages) {
        SampleOptions sampling;
        sampling.method = Method::ode, sampling.seed = seed;
        sampling.target = &target, sampling.exact_stages = exact_stages;
        const Generated samples = generate(context, model, count, sampling);
        const Weights& w = out.weights.emplace_back(weigh(context, target, samples));
        if (exact_stages > 0 || !exact) continue;
        for (std::size_t i = 0; i < target.dimension(); ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                double sum = 0;
                for (std::size_t n = 0; n < count; ++n)
                    if (w.weight[n] > 0) sum += w.weight[n] * samples.x(n, i) * samples.x(n, j);
                out.moment_error = std::max(out.moment_error, std::abs(sum - (*exact)(i, j)));
            }
    }
    return out;
}

/// Variance of log w over the samples that are not flagged.
inline double log_weight_variance(const Weights& w) {
    double count = 0, sum = 0, square = 0;
    for (double weight : w.weight)
        if (weight > 0) {
            const double l = std::log(weight);
            count += 1, sum += l, square += l * l;
        }
    return square / count - sum * sum / (count * count);
}

} // namespace dynkin::validation
