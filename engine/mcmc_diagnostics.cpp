// mcmc_diagnostics.cpp - split R-hat and effective sample size (Vehtari, Gelman, Simpson, Carpenter, Buerkner
// 2021).
#include "autocovariance.h"
#include "error.h"
#include "mcmc.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace dynkin {
namespace {

/// Quantile of the standard normal law, relative error 1e-9 (Acklam's rational approximation), for 0 < p < 1.
double normal_quantile(double p) {
    constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                            1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
    constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                            6.680131188771972e+01, -1.328068155288572e+01};
    constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                            -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
    constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                            3.754408661907416e+00};
    if (p > 0.5) return -normal_quantile(1 - p);
    if (p < 0.02425) {
        const double q = std::sqrt(-2 * std::log(p));
        return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
               ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
    }
    const double q = p - 0.5, r = q * q;
    return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
           (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

/// Halves of every chain, as chains of length n = length / 2 (the middle value of an odd length is dropped).
struct Split {
    std::vector<double> values;
    std::size_t chains, length;
};

Split split(std::span<const double> values, std::size_t chains, std::size_t length) {
    require(length >= 4 && chains >= 1 && values.size() == chains * length, ErrorKind::usage,
            "mcmc diagnostics: expected chains * length values and a length of at least 4");
    const std::size_t half = length / 2;
    Split result{std::vector<double>(2 * chains * half), 2 * chains, half};
    for (std::size_t c = 0; c < chains; ++c) {
        const double* chain = values.data() + c * length;
        std::copy_n(chain, half, result.values.data() + 2 * c * half);
        std::copy_n(chain + length - half, half, result.values.data() + (2 * c + 1) * half);
    }
    return result;
}

/// Each value becomes the normal quantile of (rank - 3/8) / (S + 1/4); ties share their mean rank.
void rank_normalise(std::vector<double>& values) {
    std::vector<std::pair<double, std::size_t>> sorted(values.size());
    for (std::size_t n = 0; n < values.size(); ++n) sorted[n] = {values[n], n};
    std::sort(sorted.begin(), sorted.end());
    const double total = static_cast<double>(values.size());
    for (std::size_t first = 0, last = 0; first < sorted.size(); first = last) {
        while (last < sorted.size() && sorted[last].first == sorted[first].first) ++last;
        const double rank = 0.5 * static_cast<double>(first + last + 1); // ranks first + 1 .. last
        const double score = normal_quantile((rank - 0.375) / (total + 0.25));
        for (std::size_t n = first; n < last; ++n) values[sorted[n].second] = score;
    }
}

struct Variances {
    double within, between_means; ///< mean of the chains' variances; variance of the chains' means
};

Variances variances(const Split& s) {
    std::vector<double> means(s.chains);
    double within = 0;
    for (std::size_t c = 0; c < s.chains; ++c) {
        const double* chain = s.values.data() + c * s.length;
        means[c] = std::accumulate(chain, chain + s.length, 0.0) / static_cast<double>(s.length);
        double sum = 0;
        for (std::size_t n = 0; n < s.length; ++n) sum += (chain[n] - means[c]) * (chain[n] - means[c]);
        within += sum / static_cast<double>(s.length - 1);
    }
    const double count = static_cast<double>(s.chains);
    const double grand = std::accumulate(means.begin(), means.end(), 0.0) / count;
    double between = 0;
    for (const double m : means) between += (m - grand) * (m - grand);
    return {within / count, between / (count - 1)};
}

double r_hat(const Split& s) {
    const Variances v = variances(s); // of scores of order 1: less than this is rounding
    if (!(v.within > 1e-20)) return std::numeric_limits<double>::infinity();
    const double n = static_cast<double>(s.length);
    return std::sqrt((n - 1) / n + v.between_means / v.within);
}

/// Each chain less its own mean.
Autocovariance autocovariance(Split s) {
    for (std::size_t c = 0; c < s.chains; ++c) {
        double* chain = s.values.data() + c * s.length;
        const double mean = std::accumulate(chain, chain + s.length, 0.0) / static_cast<double>(s.length);
        for (std::size_t n = 0; n < s.length; ++n) chain[n] -= mean;
    }
    return {std::move(s.values), s.chains, s.length};
}

} // namespace

double split_r_hat(std::span<const double> values, std::size_t chains, std::size_t length) {
    Split bulk = split(values, chains, length);
    if (!std::all_of(bulk.values.begin(), bulk.values.end(), [](double v) { return std::isfinite(v); }))
        return std::numeric_limits<double>::infinity();
    std::vector<double> sorted = bulk.values;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2),
                     sorted.end());
    const double median = sorted[sorted.size() / 2];
    Split folded = bulk;
    for (double& v : folded.values) v = std::abs(v - median);
    rank_normalise(bulk.values);
    rank_normalise(folded.values);
    return std::max(r_hat(bulk), r_hat(folded));
}

double effective_sample_size(std::span<const double> values, std::size_t chains, std::size_t length) {
    const Split s = split(values, chains, length);
    const Variances v = variances(s);
    const double n = static_cast<double>(s.length), total = static_cast<double>(s.values.size());
    const double pooled = v.within * (n - 1) / n + v.between_means;
    if (!(pooled > 0) || !std::isfinite(pooled)) return 0;
    Autocovariance covariance = autocovariance(s);
    const auto correlation = [&](std::size_t lag) { return 1 - (v.within - covariance(lag)) / pooled; };
    double tau = -1, smallest = std::numeric_limits<double>::infinity();
    for (std::size_t lag = 0; lag + 1 < s.length; lag += 2) {
        const double even = lag == 0 ? 1 : correlation(lag);
        const double pair = even + correlation(lag + 1);
        if (!(pair > 0)) {
            tau += std::max(even, 0.0); // the improved end for antithetic chains, ibid. appendix
            break;
        }
        smallest = std::min(smallest, pair);
        tau += 2 * smallest;
    }
    return total / std::max(tau, 1 / std::log10(total));
}

} // namespace dynkin
