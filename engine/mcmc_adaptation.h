// mcmc_adaptation.h - what the warm-up learns: step size, mass, number of leapfrog steps, temperature ladder.
// Plain values, updated in a fixed order on one thread; transfer() names every field for checkpoints. Private
// to mcmc.cpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace dynkin {

/// Dual averaging of the log step size towards a mean acceptance (Hoffman and Gelman 2014, section 3.2.1, its
/// constants).
struct DualAveraging {
    double centre = 0, log_step = 0, log_mean = 0, error = 0, count = 0;

    void restart(double step) {
        centre = std::log(10 * step);
        log_step = log_mean = std::log(step);
        error = count = 0;
    }
    void update(double acceptance, double wanted) {
        constexpr double gamma = 0.05, t0 = 10, kappa = 0.75;
        count += 1;
        error += (wanted - acceptance - error) / (count + t0);
        log_step = centre - std::sqrt(count) / gamma * error;
        log_mean += std::pow(count, -kappa) * (log_step - log_mean);
    }
    double step() const { return std::exp(log_step); }
    double mean_step() const { return std::exp(log_mean); }
    template <class Archive> void transfer(Archive& archive, const std::string& name) {
        archive(name + ".dual", centre, log_step, log_mean, error, count);
    }
};

/// Mean and sum of squared deviations of each coordinate, merged batch by batch (Chan et al. 1983).
struct CoordinateVariance {
    double count = 0;
    std::vector<double> mean, deviations;

    void restart(std::size_t d) {
        count = 0;
        mean.assign(d, 0.0);
        deviations.assign(d, 0.0);
    }
    /// Merges `batch` values of coordinate i with mean m and sum of squared deviations s; then `count +=
    /// batch` once.
    void merge(std::size_t i, double batch, double m, double s) {
        const double delta = m - mean[i], total = count + batch;
        mean[i] += delta * batch / total;
        deviations[i] += s + delta * delta * count * batch / total;
    }
    template <class Archive> void transfer(Archive& archive, const std::string& name) {
        archive(name + ".count", count);
        archive(name + ".mean", mean);
        archive(name + ".deviations", deviations);
    }
};

/// Lag-1 autocorrelation of several quantities, over all chains about their common mean.
struct Lag1 {
    double pairs = 0;
    std::vector<double> previous; ///< (quantity, chain); empty before the first state
    std::vector<double> sums;     ///< per quantity: a, b, aa, bb, ab of successive values a, b

    void restart() {
        pairs = 0;
        previous.clear();
        sums.clear();
    }
    void update(const std::vector<double>& now, std::size_t quantities) {
        const std::size_t chains = now.size() / quantities;
        sums.resize(5 * quantities, 0.0);
        if (!previous.empty()) {
            pairs += static_cast<double>(chains);
            for (std::size_t n = 0; n < now.size(); ++n) {
                double* s = sums.data() + n / chains * 5;
                const double a = previous[n], b = now[n];
                s[0] += a, s[1] += b, s[2] += a * a, s[3] += b * b, s[4] += a * b;
            }
        }
        previous = now;
    }
    /// Largest (1 + rho) / (1 - rho), the autocorrelation time of an AR(1) process; at least 1, at most 1999.
    double longest_time() const {
        double longest = 1;
        for (std::size_t q = 0; q < sums.size() / 5; ++q) {
            const double* s = sums.data() + 5 * q;
            const double a = s[0] / pairs, b = s[1] / pairs;
            const double spread = std::sqrt((s[2] / pairs - a * a) * (s[3] / pairs - b * b));
            const double rho = spread > 0 ? std::clamp((s[4] / pairs - a * b) / spread, 0.0, 0.999) : 0.999;
            longest = std::max(longest, (1 + rho) / (1 - rho));
        }
        return longest;
    }
    template <class Archive> void transfer(Archive& archive, const std::string& name) {
        archive(name + ".pairs", pairs);
        archive(name + ".previous", previous);
        archive(name + ".sums", sums);
    }
};

/// Everything that is adapted at one temperature.
struct LevelState {
    double beta = 1, leapfrog = 5;
    std::vector<double> scale;
    DualAveraging step;
    CoordinateVariance variance;
    Lag1 lag1;
    double best_cost = std::numeric_limits<double>::infinity(), best_leapfrog = 5;

    /// New scales: standard deviations; the step size shrinks as they grow. Keeps what has no finite positive
    /// variance.
    void adopt_variances() {
        double before = 0, after = 0;
        for (std::size_t i = 0; i < scale.size(); ++i) {
            const double variance_i = variance.deviations[i] / (variance.count - 1);
            before += scale[i];
            if (std::isfinite(variance_i) && variance_i > 0) scale[i] = std::sqrt(variance_i);
            after += scale[i];
        }
        step.restart(step.mean_step() * before / after);
    }
    template <class Archive> void transfer(Archive& archive, const std::string& name) {
        archive(name + ".level", beta, leapfrog, best_cost, best_leapfrog);
        archive(name + ".scale", scale);
        step.transfer(archive, name);
        variance.transfer(archive, name + ".variance");
        lag1.transfer(archive, name + ".lag1");
    }
};

/// Inverse temperatures at which neighbouring levels reject equally often: equal parts of the cumulative
/// rejection, interpolated in log beta (Syed et al. 2022, section 5.1). rejection[k] belongs to beta[k],
/// beta[k + 1]; ends stay.
inline std::vector<double> equal_rejection_ladder(const std::vector<double>& beta,
                                                  const std::vector<double>& rejection) {
    std::vector<double> sum(beta.size(), 0.0), ladder = beta;
    for (std::size_t k = 1; k < beta.size(); ++k) sum[k] = sum[k - 1] + std::max(rejection[k - 1], 0.01);
    for (std::size_t k = 1, j = 1; k + 1 < beta.size(); ++k) {
        const double wanted = sum.back() * static_cast<double>(k) / static_cast<double>(beta.size() - 1);
        while (sum[j] < wanted) ++j;
        const double part = (wanted - sum[j - 1]) / (sum[j] - sum[j - 1]);
        ladder[k] = std::exp(std::log(beta[j - 1]) + part * (std::log(beta[j]) - std::log(beta[j - 1])));
    }
    return ladder;
}

} // namespace dynkin
