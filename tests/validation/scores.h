// scores.h - averages of Markov chains against exact ones, in standard errors that hold for any
// autocorrelation within a chain: row k * chains + c belongs to chain c and chains are independent, so the
// covariance of the errors is that of the chains' means over the number of chains.
#pragma once
#include "engine/array.h"
#include "engine/mcmc.h"
#include "record.h"
#include <cmath>
#include <filesystem>
#include <unistd.h>
#include <vector>

namespace dynkin::validation {

struct Scores {
    std::vector<double> value, error, z; ///< mean, mean - expected, that in standard errors
    Array<double> covariance;            ///< of the errors
};

/// expected.size() numbers a row from f(row index, out).
template <class F>
Scores scores(const Array<double>& x, std::size_t chains, const std::vector<double>& expected, const F& f) {
    const std::size_t rounds = x.rows() / chains, p = expected.size();
    const double n_chains = static_cast<double>(chains);
    Array<double> mean(chains, p);
    std::vector<double> one(p);
    Scores s{std::vector<double>(p), {}, {}, Array<double>(p, p)};
    for (std::size_t n = 0; n < rounds * chains; ++n) {
        f(n, one.data());
        for (std::size_t q = 0; q < p; ++q) mean(n % chains, q) += one[q] / static_cast<double>(rounds);
    }
    for (std::size_t c = 0; c < chains; ++c)
        for (std::size_t q = 0; q < p; ++q) s.value[q] += mean(c, q) / n_chains;
    for (std::size_t c = 0; c < chains; ++c)
        for (std::size_t q = 0; q < p; ++q)
            for (std::size_t r = 0; r < p; ++r)
                s.covariance(q, r) +=
                    (mean(c, q) - s.value[q]) * (mean(c, r) - s.value[r]) / (n_chains * (n_chains - 1));
    for (std::size_t q = 0; q < p; ++q) {
        s.error.push_back(s.value[q] - expected[q]);
        s.z.push_back(s.error[q] / std::sqrt(s.covariance(q, q)));
    }
    return s;
}

/// L^-1 error with L L' the covariance of the errors: the mean of the squares is Hotelling's T^2 / p. Needs
/// more chains than figures.
inline std::vector<double> decorrelated(const Scores& s) {
    const std::size_t p = s.error.size();
    const GaussianTarget factored = gaussian(std::vector<double>(p), s.covariance);
    std::vector<double> z;
    for (std::size_t q = 0; q < p; ++q) {
        double rest = s.error[q];
        for (std::size_t r = 0; r < q; ++r) rest -= factored.cholesky(q, r) * z[r];
        z.push_back(rest / factored.cholesky(q, q));
    }
    return z;
}

inline double mean_square(const std::vector<double>& z) {
    double sum = 0;
    for (const double v : z) sum += v * v;
    return sum / static_cast<double>(z.size());
}
inline double largest_size(const std::vector<double>& z) {
    double largest = 0;
    for (const double v : z) largest = std::max(largest, std::abs(v)); // NaN shows in the mean square
    return largest;
}

struct Drawn {
    Array<double> x;
    McmcReport report;
};

inline Drawn drawn(const Context& context, const Target& target, const McmcOptions& options) {
    const auto path =
        std::filesystem::temp_directory_path() / ("validate_draw_" + std::to_string(::getpid()) + ".npy");
    Drawn result;
    {
        NpyWriter output(path, {options.samples, target.dimension()}, 8);
        result.report = run_mcmc(context, target, options, output);
        output.commit();
    }
    result.x = read_npy(path);
    std::filesystem::remove(path);
    return result;
}

} // namespace dynkin::validation
