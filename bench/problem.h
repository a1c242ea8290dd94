// problem.h - what the stages work on: numbers of the sizes asked for. Times do not depend on their values
// (private).
#pragma once
#include "bench.h"
#include "engine/gram.h"
#include "engine/model.h"

namespace dynkin::bench {

/// A chain with two-peaked marginals and nearest-neighbour correlation.
Array<double> chain_samples(std::size_t rows, std::size_t sites, std::uint64_t seed);

/// The basis of Options and what follows from it.
struct Problem {
    Reference reference;
    IndexSet basis;
    std::vector<ProductTables> tables;
    MomentPlan plan;
    ScoreSystem system;

    explicit Problem(const Options& options);
    Problem(const Problem&) = delete;
    Problem& operator=(const Problem&) = delete;
    std::size_t sites() const { return static_cast<std::size_t>(basis.sites); }
};

/// One block on that basis; its coefficients die out with their eigenvalues, as those of data do.
Model flow_model(const Problem& problem);

/// Every second column given its two neighbours: two descriptors, 25 conditions, symmetric.
Level conditional_level(const Options& options);

} // namespace dynkin::bench
