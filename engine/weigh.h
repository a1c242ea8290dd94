// weigh.h - importance weights w ~ exp(-U(x)) / q(x): unbiased expectations, log Z, effective sample size.
#pragma once
#include "array.h"
#include "context.h"
#include <span>
#include <vector>

namespace dynkin {

struct Weights {
    std::vector<double> weight;      ///< self-normalised, sums to 1; 0 for flagged samples
    std::size_t flagged = 0;         ///< log q not finite (outside the box, runaway) or U not finite
    double ess_fraction = 0;         ///< (sum w)^2 / sum w^2 / N, flagged samples counted in N
    double log_partition = 0;        ///< log Z = log mean_n exp(-U(x_n)) / q(x_n)
    double log_partition_error = 0;  ///< standard error by the delta method
    double largest_share = 0;        ///< largest weight
    double tail_index = 0;           ///< Pareto k of the upper tail (PSIS, Zhang and Stephens 2009 fit); NaN for fewer than 25 draws
};

/// log_weight[n] = -U(x_n) - log q(x_n) in kT; -inf, NaN flag a sample. Throws Error(numerical) when all are flagged,
/// Error(usage) when empty.
Weights importance_weights(std::span<const double> log_weight);

struct WeightedMean {
    double mean = 0, standard_error = 0; ///< ratio estimator, error by linearisation
};
WeightedMean weighted_mean(std::span<const double> weight, std::span<const double> values);

} // namespace dynkin
