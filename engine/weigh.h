// weigh.h - importance weights w ~ exp(-U(x)) / q(x): unbiased expectations, log Z, effective sample size;
// resampling.
#pragma once
#include "array.h"
#include "context.h"
#include "sampler.h"
#include "target.h"
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dynkin {

class DeviceSecondMoments; // private to the library
class SampleFile;          // npy.h

struct Weights {
    std::vector<double> weight; ///< self-normalised, sums to 1; 0 for flagged samples
    std::size_t flagged = 0;    ///< log q not finite (outside the box, runaway) or U not finite
    double ess_fraction = 0;    ///< (sum w)^2 / sum w^2 / N, flagged samples counted in N
    double log_partition = 0;   ///< log Z = log mean_n exp(-U(x_n)) / q(x_n), flagged samples counted as 0
    double log_partition_error =
        0;                    ///< standard error sd(w) / (mean(w) sqrt(N)) by the delta method; NaN for N = 1
    double largest_share = 0; ///< largest weight
    double tail_index = 0;    ///< Pareto k of the upper tail, see pareto_tail_index()
};

/// log_weight[n] = -U(x_n) - log q(x_n) in kT; anything not finite flags a sample (so give -inf or NaN where
/// log q is -inf, never the +inf of the formula). The sums run in a fixed order. Throws Error(numerical) when
/// all are flagged, Error(usage) when empty.
Weights importance_weights(std::span<const double> log_weight);
/// The same on the device of the context, with the same bits; likewise below.
Weights importance_weights(const Context& context, std::span<const double> log_weight);

/// Shape k of the generalised Pareto law of the M = ceil(min(N/5, 3 sqrt N)) largest weights above the next
/// largest, N = number of finite log weights (Vehtari et al., Pareto smoothed importance sampling, with the
/// fit of Zhang and Stephens 2009 and the prior of ten observations at 1/2). Below 0.5 the weights have a
/// finite variance; above 0.7 means and log Z are not to be trusted. NaN for fewer than 25 finite draws; 0
/// when the largest weights are all equal (no tail); +inf when fewer than five of them stand out at all (a
/// few draws carry everything).
double pareto_tail_index(std::span<const double> log_weight);
double pareto_tail_index(const Context& context, std::span<const double> log_weight);

struct WeightedMean {
    double mean = 0, standard_error = 0;
};
/// mu = sum w v / sum w, standard error sqrt(n/(n-1) sum w^2 (v - mu)^2) / sum w over the n samples of weight
/// > 0: the ratio estimator's error by linearisation, and sd/sqrt(n) when all weights are equal. Values of
/// weight 0 are not looked at (they may be NaN). Throws Error(usage) when the sizes differ, a weight is
/// negative or not finite, or all are 0. The standard error is NaN for n = 1.
WeightedMean weighted_mean(std::span<const double> weight, std::span<const double> values);
WeightedMean weighted_mean(const Context& context, std::span<const double> weight,
                           std::span<const double> values);

/// Systematic resampling: how often each row stands in a set of `count` rows of equal weight. With one
/// uniform number u of the seed, copies[n] is the number of k for which (k + u) / count falls into row n's
/// interval of the cumulated weights: the floor or the ceiling of count w_n / sum w, whose average over seeds
/// is count w_n / sum w itself; rows of weight 0 are never taken. A mean over the set is therefore unbiased
/// for the weighted mean. Throws Error(usage) for a count of 0 or above 2^53, and for weights that
/// weighted_mean() refuses.
std::vector<std::uint64_t> resample(std::span<const double> weight, std::uint64_t count, std::uint64_t seed);

/// Weighted second moments S_ij = sum w x_i x_j / sum w with their standard errors, from blocks of rows.
/// Memory: d^2 numbers (3 d^2 with errors). Cost: d^2 (3 d^2) multiply-adds a row of positive weight, on one
/// thread.
class SecondMoments {
  public:
    /// Throws Error(usage) for 0 columns or more than 16384.
    explicit SecondMoments(std::size_t dimension, bool with_errors = false);
    /// The sums on the device of the context, in another order. Throws Error(io) when its memory does not
    /// hold them.
    SecondMoments(const Context& context, std::size_t dimension, bool with_errors = false);
    /// `count` rows of x (count, d) and their weights, not negative. Rows of weight 0 are not looked at.
    void add(std::size_t count, const double* weight, const double* x);
    /// S (d x d). Throws Error(usage) when no weight was positive.
    Array<double> mean() const;
    /// Standard errors (d x d) as those of weighted_mean(), NaN for one row. Errors below 1e-8 of the root
    /// mean square of x_i x_j are rounding.
    Array<double> standard_error() const;

  private:
    std::size_t dimension_, used_ = 0;
    bool with_errors_;
    double weight_ = 0, square_weight_ = 0;  ///< sum w, sum w^2
    Array<double> first_, squares_, fourth_; ///< lower triangles of sum w x x', w^2 x x', w^2 (x^2)(x^2)'
    Array<double> rows_;                     ///< working space
    std::shared_ptr<DeviceSecondMoments> device_; ///< null: the sums are here
};

/// What one pass over samples leaves in memory: three numbers a sample.
struct WeighedRows {
    std::vector<double> log_weight;        ///< -U - log q, -inf where either is not finite
    std::vector<double> energy, site_mean; ///< mean over coordinates
};
/// One pass over a file of samples and one of their log densities, on the device of the context, with the
/// same bits on every device. Throws Error(usage) for another dimension or number of rows, Interrupted.
WeighedRows weigh_rows(const Context& context, const Target& target, const SampleFile& samples,
                       const SampleFile& log_density);

/// A user's energy: energies[n] = U(x_n) in kT for `count` rows of x, in the columns of the data file.
using Energy = std::function<void(std::size_t count, const float* x, double* energies)>;

/// Weights of samples drawn with Method::ode for a target given by its energy. Throws Error(usage) when the
/// samples have no log density.
Weights weigh(const Samples& samples, const Energy& energy);
/// For a target with an energy. Throws Error(usage) for another dimension.
Weights weigh(const Context& context, const Samples& samples, const Target& target);

/// What one stage of a multilevel model adds to the variance of log w.
struct StageVariance {
    std::string name;
    std::size_t targets = 0;
    double from_here = 0; ///< E[Var(log w | what was drawn before the stage)]
    double own = 0;       ///< its part: from_here less that of the next stage
};

/// By nested draws: 1024 groups of four samples that share everything before the stage. Throws Error(usage)
/// for a model with a block or dropped columns, or a target without energy or of another dimension.
std::vector<StageVariance> stage_variances(const Context& context, const Model& model, const Target& target,
                                           std::uint64_t seed);

} // namespace dynkin
