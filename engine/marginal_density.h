// marginal_density.h - a smooth density of one column by maximum likelihood, and how far its moments can be
// trusted instead of the data's (private).
#pragma once
#include "eigenbasis.h"
#include <optional>
#include <vector>

namespace dynkin {

/// p(z) ~ exp(-sum_k potential[k] z^k) on [-reach, reach].
struct MarginalDensity {
    std::vector<double> potential;
    double reach = 0, log_normaliser = 0;
    int degree = 0;
    /// Of the data's moments towards this density's: b/T, at most 1, with T the chi-squared statistic of the
    /// k moments up to z^14 that the likelihood leaves free and b its 99.9 % quantile where the density
    /// holds. 1 where the data do not speak against the density, falling as 1/N where they do.
    double shrinkage = 0;
};

/// Among polynomials of degree 2, 4, 6, 8 (even powers alone for an even law) with a positive highest
/// coefficient that of largest likelihood after Schwarz' penalty. None where no maximum is found. Derived in
/// docs/method.md, section 4.4.
std::optional<MarginalDensity> marginal_density(const MarginalSums& sums, bool even);

/// E phi_r of a family's functions, r = 0 .. top_degree.
std::vector<double> density_means(const MarginalDensity& density, const Family& family, int top_degree);

} // namespace dynkin
