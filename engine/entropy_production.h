// entropy_production.h - probability current and entropy production rate of a process from its score.
#pragma once
#include "local_dsm.h"

namespace dynkin {

/// nu = f - g^2/2 score at row-major x (count, dimension): the current divided by the density, J = p nu, in
/// all coordinates (f itself where there is no noise).
void current_velocity(const DriftProcess& process, const ScoreBasis& basis, const ScoreReference& reference,
                      const std::vector<double>& coefficients, std::size_t count, const double* x,
                      double* velocity);

/// sigma = E[sum_i nu_i^2 / (g_i^2/2)] in units of k per unit of time, total, for variables that are even
/// under time reversal.
struct EntropyProduction {
    double rate = 0;  ///< jackknife over groups of paths, so that the square of the score's error drops out
    double error = 0; ///< its standard error: score and average both vary between the groups
    double plain = 0; ///< the average with the score as it is
};

/// Averages over paths at time t; `sums` are those the score was solved from, with groups of the same paths.
/// Throws Error(usage) when a coordinate has no noise: the rate is not defined by the density then.
EntropyProduction entropy_production(const Context& context, const DriftProcess& process,
                                     const ScoreBasis& basis, const ScoreReference& reference,
                                     const ScoreSums& sums, double ridge, const Array<double>& states);

} // namespace dynkin
