// weigh.cpp - importance weights, log Z by the mean weight, Pareto tail index, weighted means, resampling.
#include "weigh.h"
#include "../kernels/device.h"
#include "../kernels/philox.h"
#include "error.h"
#include "solve.h"
#include "summation.h"
#include "weight_sums.h"
#include "weights_device.h"
#include <algorithm>
#include <cblas.h>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>

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

double tail_index_by(const WeightSums& sums, std::span<const double> log_weight, std::size_t finite) {
    if (finite < 25) return not_a_number;
    const auto count = static_cast<double>(finite);
    const auto tail = static_cast<std::size_t>(std::ceil(std::min(0.2 * count, 3 * std::sqrt(count))));
    const std::vector<double> found = sums.largest(log_weight, tail + 1); // the first: the cutoff
    const double cutoff = found.front(), largest = found.back();
    if (largest == cutoff) return 0;
    std::vector<double> excess; // over the cutoff, in units of the largest weight
    for (const double l : std::span(found).subspan(1)) {
        const double above = std::exp(l - largest) * -std::expm1(cutoff - l);
        if (above > 1e-280) excess.push_back(above); // its reciprocal is finite
    }
    if (excess.size() < 5) return infinity;
    return generalised_pareto_shape(excess);
}

Weights weights_by(const WeightSums& sums, std::span<const double> log_weight) {
    const std::size_t count = log_weight.size();
    require(count > 0, ErrorKind::usage, "importance_weights: no samples");
    const FiniteNumbers finite = sums.finite(log_weight);
    Weights result;
    result.flagged = count - finite.count;
    if (finite.count == 0)
        throw Error(ErrorKind::numerical, "importance_weights: all " + std::to_string(count) +
                                              " samples are flagged (log q or the energy is not finite)");
    result.weight.resize(count);
    std::vector<double>& w = result.weight;
    const auto total = static_cast<double>(count);
    const double sum = sums.exponentials(log_weight, finite.largest, 1, w);
    const double squares = sums.squares(w, sum);
    result.ess_fraction = std::min(1 / (squares * total), 1.0);
    result.log_partition = finite.largest + std::log(sum / total);
    result.log_partition_error =
        count > 1 ? std::sqrt(std::max(total * squares - 1, 0.0) / (total - 1)) : not_a_number;
    result.largest_share = 1 / sum; // exp(0) over the sum
    result.tail_index = tail_index_by(sums, log_weight, finite.count);
    return result;
}

} // namespace

double pareto_tail_index(std::span<const double> log_weight) {
    return tail_index_by({}, log_weight, WeightSums().finite(log_weight).count);
}
double pareto_tail_index(const Context& context, std::span<const double> log_weight) {
    const WeightSums sums(context);
    return tail_index_by(sums, log_weight, sums.finite(log_weight).count);
}

Weights importance_weights(std::span<const double> log_weight) { return weights_by({}, log_weight); }
Weights importance_weights(const Context& context, std::span<const double> log_weight) {
    return weights_by(WeightSums(context), log_weight);
}

namespace {

/// The weights' sum and the number of positive ones. Throws unless they are weights.
std::pair<double, std::size_t> check_weights(const char* function, const WeightSums& sums,
                                             std::span<const double> weight) {
    std::size_t used = 0;
    for (const double w : weight) {
        require(std::isfinite(w) && w >= 0, ErrorKind::usage,
                std::string(function) + ": a weight is negative or not finite");
        used += w > 0;
    }
    const double sum = used > 0 ? sums.sum(weight) : 0;
    require(sum > 0 && std::isfinite(sum), ErrorKind::usage,
            std::string(function) +
                (used ? ": the sum of the weights is not finite" : ": the weights are all 0"));
    return {sum, used};
}

/// Partial sums that do not fall and lose no small weights (Neumaier).
class RunningSum {
  public:
    double add(double value) {
        const double next = sum_ + value;
        lost_ += std::abs(sum_) >= std::abs(value) ? (sum_ - next) + value : (value - next) + sum_;
        sum_ = next;
        return value_ = std::max(value_, sum_ + lost_);
    }

  private:
    double sum_ = 0, lost_ = 0, value_ = 0;
};

WeightedMean mean_by(const WeightSums& sums, std::span<const double> weight, std::span<const double> values) {
    if (weight.size() != values.size())
        throw Error(ErrorKind::usage, "weighted_mean: " + std::to_string(weight.size()) + " weights for " +
                                          std::to_string(values.size()) + " values");
    const auto [sum, used] = check_weights("weighted_mean", sums, weight);
    WeightedMean result;
    result.mean = sums.weighted(weight, values) / sum;
    const double variance = sums.weighted_squares(weight, values, sum, result.mean);
    const auto n = static_cast<double>(used);
    result.standard_error = used > 1 ? std::sqrt(variance * n / (n - 1)) : not_a_number;
    return result;
}

} // namespace

WeightedMean weighted_mean(std::span<const double> weight, std::span<const double> values) {
    return mean_by({}, weight, values);
}
WeightedMean weighted_mean(const Context& context, std::span<const double> weight,
                           std::span<const double> values) {
    return mean_by(WeightSums(context), weight, values);
}

std::vector<std::uint64_t> resample(std::span<const double> weight, std::uint64_t count, std::uint64_t seed) {
    require(count >= 1 && count <= std::uint64_t{1} << 53, ErrorKind::usage,
            "resample: expected 1 to 2^53 rows, got " + std::to_string(count));
    check_weights("resample", {}, weight);
    const RandomWords words = philox(seed, Stream::resample, 0, 0, 0);
    const std::uint64_t bits = std::uint64_t{words.v[0]} << 20 | words.v[1] >> 12;
    const double u = (static_cast<double>(bits) + 0.5) * 0x1p-52; // 53 bits, never 0 or 1
    RunningSum whole, part;
    double total = 0;
    for (const double w : weight) total = whole.add(w);
    const auto rows = static_cast<double>(count);
    std::vector<std::uint64_t> copies(weight.size());
    std::uint64_t taken = 0;
    for (std::size_t n = 0; n < weight.size() && taken < count; ++n) {
        if (weight[n] == 0) continue;
        const double cumulated = part.add(weight[n]) / total;
        const std::uint64_t reached = // points k + u below count * cumulated
            cumulated >= 1 ? count
                           : static_cast<std::uint64_t>(std::max(std::ceil(rows * cumulated - u), 0.0));
        copies[n] = std::min(reached, count) - taken;
        taken += copies[n];
    }
    return copies;
}

SecondMoments::SecondMoments(std::size_t dimension, bool with_errors)
    : dimension_(dimension), with_errors_(with_errors) {
    require(dimension >= 1 && dimension <= 1u << 14, ErrorKind::usage,
            "SecondMoments: expected 1 to 16384 columns, got " + std::to_string(dimension));
    first_ = Array<double>(dimension, dimension);
    if (with_errors) squares_ = fourth_ = first_;
}

SecondMoments::SecondMoments(const Context& context, std::size_t dimension, bool with_errors)
    : SecondMoments(dimension, with_errors) {
    if constexpr (built_with_cuda)
        if (context.device() == Device::cuda)
            device_ = std::make_shared<DeviceSecondMoments>(context, dimension, with_errors);
}

void SecondMoments::add(std::size_t count, const double* weight, const double* x) {
    if constexpr (built_with_cuda)
        if (device_) {
            for (std::size_t n = 0; n < count; ++n)
                if (weight[n] > 0) ++used_, weight_ += weight[n], square_weight_ += weight[n] * weight[n];
            return device_->add(count, weight, x);
        }
    use_sequential_blas();
    const std::size_t tile = 256;
    if (rows_.rows() != tile) rows_ = Array<double>(tile, dimension_);
    std::vector<std::size_t> taken;
    const auto accumulate = [&](Array<double>& sum, const auto& value) {
        for (std::size_t k = 0; k < taken.size(); ++k)
            for (std::size_t i = 0; i < dimension_; ++i)
                rows_(k, i) = value(weight[taken[k]], x[taken[k] * dimension_ + i]);
        const auto d = static_cast<blasint>(dimension_), rows = static_cast<blasint>(taken.size());
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, d, rows, 1, rows_.data(), d, 1, sum.data(), d);
    };
    for (std::size_t n = 0; n < count;) {
        for (taken.clear(); n < count && taken.size() < tile; ++n)
            if (weight[n] > 0)
                taken.push_back(n), weight_ += weight[n], square_weight_ += weight[n] * weight[n];
        if (taken.empty()) continue;
        used_ += taken.size();
        accumulate(first_, [](double w, double v) { return std::sqrt(w) * v; });
        if (!with_errors_) continue;
        accumulate(squares_, [](double w, double v) { return w * v; });
        accumulate(fourth_, [](double w, double v) { return w * v * v; });
    }
}

Array<double> SecondMoments::mean() const {
    require(weight_ > 0, ErrorKind::usage, "SecondMoments: no row of positive weight");
    Array<double> first = first_, squares = squares_, fourth = fourth_, result(dimension_, dimension_);
    if constexpr (built_with_cuda)
        if (device_) device_->read(first, squares, fourth);
    for (std::size_t i = 0; i < dimension_; ++i)
        for (std::size_t j = 0; j <= i; ++j) result(i, j) = result(j, i) = first(i, j) / weight_;
    return result;
}

Array<double> SecondMoments::standard_error() const {
    require(with_errors_, ErrorKind::usage, "SecondMoments: made without errors");
    const Array<double> m = mean();
    Array<double> first = first_, squares = squares_, fourth = fourth_, result(dimension_, dimension_);
    if constexpr (built_with_cuda)
        if (device_) device_->read(first, squares, fourth);
    const auto n = static_cast<double>(used_);
    for (std::size_t i = 0; i < dimension_; ++i)
        for (std::size_t j = 0; j <= i; ++j) {
            // sum w^2 (x_i x_j - m)^2, and sum w^2 is the piece that needs no product
            const double variance =
                fourth(i, j) - 2 * m(i, j) * squares(i, j) + m(i, j) * m(i, j) * square_weight_;
            result(i, j) = result(j, i) =
                used_ > 1 ? std::sqrt(std::max(variance, 0.0) * n / (n - 1)) / weight_ : not_a_number;
        }
    return result;
}

namespace {

Weights weigh_by(const WeightSums& sums, const Samples& samples, const Energy& energy) {
    require(samples.log_density.size() == samples.rows.rows() && samples.rows.rows() > 0, ErrorKind::usage,
            "weigh: the samples have no log density, expected samples of Method::ode");
    std::vector<double> log_weight(samples.rows.rows());
    energy(log_weight.size(), samples.rows.data(), log_weight.data());
    for (std::size_t n = 0; n < log_weight.size(); ++n) {
        const double log_q = samples.log_density[n];
        log_weight[n] =
            std::isfinite(log_q) ? -log_weight[n] - log_q : -std::numeric_limits<double>::infinity();
    }
    return weights_by(sums, log_weight);
}

} // namespace

Weights weigh(const Samples& samples, const Energy& energy) { return weigh_by({}, samples, energy); }

Weights weigh(const Context& context, const Samples& samples, const Target& target) {
    require(samples.rows.cols() == target.dimension(), ErrorKind::usage,
            "weigh: the samples have another dimension than the target");
    return weigh_by(WeightSums(context), samples, [&](std::size_t count, const float* x, double* energies) {
        const std::vector<double> rows(x, x + count * target.dimension());
        energy(context, target, count, rows.data(), energies);
    });
}

} // namespace dynkin
