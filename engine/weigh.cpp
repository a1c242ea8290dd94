// weigh.cpp - importance weights, log Z by the mean weight, Pareto tail index, weighted means.
#include "weigh.h"
#include "error.h"
#include "summation.h"
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

namespace dynkin {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Shape k of the generalised Pareto law of ascending positive x (Zhang and Stephens 2009: the posterior mean
/// of theta = k/sigma over a grid, sign as in that paper, then k by the profile likelihood), shrunk towards
/// 1/2.
double generalised_pareto_shape(const std::vector<double>& x) {
    const auto n = static_cast<double>(x.size());
    const double quartile = x[static_cast<std::size_t>(n / 4 + 0.5) - 1];
    const auto grid = static_cast<std::size_t>(30 + std::floor(std::sqrt(n)));
    const auto shape = [&](double theta) {
        return pairwise_sum(0, x.size(), [&](std::size_t i) { return std::log1p(-theta * x[i]); }) / n;
    };
    std::vector<double> theta(grid), profile(grid);
    for (std::size_t j = 0; j < grid; ++j) {
        const double ratio = static_cast<double>(grid) / (static_cast<double>(j) + 0.5);
        theta[j] = 1 / x.back() + (1 - std::sqrt(ratio)) / (3 * quartile);
        const double k = shape(theta[j]);
        profile[j] = n * (std::log(-theta[j] / k) - k - 1);
        if (!std::isfinite(profile[j]))
            profile[j] = -infinity; // theta = 0 exactly: a single point of the grid
    }
    const double best = *std::max_element(profile.begin(), profile.end());
    double sum = 0, mean = 0;
    for (std::size_t j = 0; j < grid; ++j) {
        const double weight = std::exp(profile[j] - best);
        sum += weight, mean += weight * theta[j];
    }
    const double k = shape(mean / sum);
    return (k * n + 10 * 0.5) / (n + 10);
}

} // namespace

double pareto_tail_index(std::span<const double> log_weight) {
    std::vector<double> finite;
    finite.reserve(log_weight.size());
    std::copy_if(log_weight.begin(), log_weight.end(), std::back_inserter(finite),
                 [](double l) { return std::isfinite(l); });
    if (finite.size() < 25) return not_a_number;
    const auto count = static_cast<double>(finite.size());
    const auto tail = static_cast<std::size_t>(std::ceil(std::min(0.2 * count, 3 * std::sqrt(count))));
    const auto next = finite.begin() + static_cast<std::ptrdiff_t>(tail);
    std::nth_element(finite.begin(), next, finite.end(), std::greater<>{});
    const double cutoff = *next;
    finite.resize(tail);
    std::sort(finite.begin(), finite.end());
    const double largest = finite.back();
    if (largest == cutoff) return 0;
    std::vector<double> excess; // over the cutoff, in units of the largest weight
    for (const double l : finite) {
        const double above = std::exp(l - largest) * -std::expm1(cutoff - l);
        if (above > 1e-280) excess.push_back(above); // its reciprocal is finite
    }
    if (excess.size() < 5) return infinity;
    return generalised_pareto_shape(excess);
}

Weights importance_weights(std::span<const double> log_weight) {
    const std::size_t count = log_weight.size();
    require(count > 0, ErrorKind::usage, "importance_weights: no samples");
    Weights result;
    double largest = -infinity;
    for (const double l : log_weight) {
        if (std::isfinite(l))
            largest = std::max(largest, l);
        else
            ++result.flagged;
    }
    if (result.flagged == count)
        throw Error(ErrorKind::numerical, "importance_weights: all " + std::to_string(count) +
                                              " samples are flagged (log q or the energy is not finite)");
    result.weight.resize(count);
    std::vector<double>& w = result.weight;
    for (std::size_t n = 0; n < count; ++n)
        w[n] = std::isfinite(log_weight[n]) ? std::exp(log_weight[n] - largest) : 0.0;
    const auto total = static_cast<double>(count);
    const double sum = pairwise_sum(0, count, [&](std::size_t n) { return w[n]; });
    for (double& value : w) value /= sum;
    const double squares = pairwise_sum(0, count, [&](std::size_t n) { return w[n] * w[n]; });
    result.ess_fraction = std::min(1 / (squares * total), 1.0);
    result.log_partition = largest + std::log(sum / total);
    result.log_partition_error =
        count > 1 ? std::sqrt(std::max(total * squares - 1, 0.0) / (total - 1)) : not_a_number;
    result.largest_share = *std::max_element(w.begin(), w.end());
    result.tail_index = pareto_tail_index(log_weight);
    return result;
}

WeightedMean weighted_mean(std::span<const double> weight, std::span<const double> values) {
    if (weight.size() != values.size())
        throw Error(ErrorKind::usage, "weighted_mean: " + std::to_string(weight.size()) + " weights for " +
                                          std::to_string(values.size()) + " values");
    std::size_t used = 0;
    for (const double w : weight) {
        require(std::isfinite(w) && w >= 0, ErrorKind::usage,
                "weighted_mean: a weight is negative or not finite");
        used += w > 0;
    }
    const std::size_t count = weight.size();
    const double sum = pairwise_sum(0, count, [&](std::size_t n) { return weight[n]; });
    require(sum > 0, ErrorKind::usage, "weighted_mean: the weights are all 0");
    WeightedMean result;
    result.mean =
        pairwise_sum(0, count, [&](std::size_t n) { return weight[n] > 0 ? weight[n] * values[n] : 0.0; }) /
        sum;
    const double variance = pairwise_sum(0, count, [&](std::size_t n) {
        const double term = weight[n] > 0 ? weight[n] / sum * (values[n] - result.mean) : 0.0;
        return term * term;
    });
    const auto n = static_cast<double>(used);
    result.standard_error = used > 1 ? std::sqrt(variance * n / (n - 1)) : not_a_number;
    return result;
}

Weights weigh(const Samples& samples, const Energy& energy) {
    require(samples.log_density.size() == samples.rows.rows() && samples.rows.rows() > 0, ErrorKind::usage,
            "weigh: the samples have no log density, expected samples of Method::ode");
    std::vector<double> log_weight(samples.rows.rows());
    energy(log_weight.size(), samples.rows.data(), log_weight.data());
    for (std::size_t n = 0; n < log_weight.size(); ++n) {
        const double log_q = samples.log_density[n];
        log_weight[n] =
            std::isfinite(log_q) ? -log_weight[n] - log_q : -std::numeric_limits<double>::infinity();
    }
    return importance_weights(log_weight);
}

Weights weigh(const Context& context, const Samples& samples, const Target& target) {
    require(samples.rows.cols() == target.dimension(), ErrorKind::usage,
            "weigh: the samples have another dimension than the target");
    return weigh(samples, [&](std::size_t count, const float* x, double* energies) {
        const std::vector<double> rows(x, x + count * target.dimension());
        energy(context, target, count, rows.data(), energies);
    });
}

} // namespace dynkin
