// prior.h - `dynkin fit --prior` and `dynkin score` of a prior.
#pragma once
#include "command.h"
#include "engine/prior.h"
#include <string>

namespace dynkin::app {

struct PriorFit {
    std::string samples, output, kind;
    int degree = 0;    ///< 0: 6
    std::string ridge; ///< auto: 1e-3
};
int run_prior_fit(const Common& common, const PriorFit& options);

struct PriorScoring {
    std::string prior, points, output, sigma, convention, precision;
};
int run_prior_score(const Common& common, const PriorScoring& options);

/// True when the file names the format of priors; throws Error(io) when it cannot be read.
bool is_prior_file(const std::string& path);

/// What `info` shows of one: figures, not tensors.
void put_prior(Result& result, const std::string& path);

} // namespace dynkin::app
