// validate_strong.cpp - training data of two strongly coupled chains, whose two phases plain Hamiltonian
// Monte Carlo rarely crosses: R-hat tells when it has not, and parallel tempering agrees with the transfer
// matrix (tests/data).
//
// Method as in validate_draw.cpp: errors from the means of independent chains (scores.h). All second moments,
// pooled by symmetry (translation and reflection of the ring, reflection of the open chain), are judged by
// the largest |z|. They share their slow modes, so that the mean of their z^2 is nearly the square of a
// single normal number: it is reported. Judged is that of the decorrelated z of C(r), the mean of x_i x_{i+r}
// over i, at eleven distances and of three seeds together (Hotelling's T^2 / p, expectation (c - 1) / (c - p
// - 2) = 1.10 for c = 128 chains; outside [0.5, 2] with probability 0.01). Over 24 further seeds of the open
// chain it was 1.05 +- 0.09.
//
// Plain chains of chosen settings measure their autocorrelation time, 1500 iterations for the open chain, and
// thin by up to 1000: there that is enough. Short ones, 10 iterations between rows, are not, and on the ring
// nothing is.
#include "levels.h"
#include "scores.h"
#include <fstream>

namespace dynkin::validation {
namespace {

using Pair = std::pair<std::size_t, std::size_t>;
using Pool = std::vector<Pair>; ///< pairs of sites whose second moments are equal, or averaged

struct Strong {
    nlohmann::json exact;
    Target target;
    std::size_t d;
    bool ring;

    explicit Strong(const std::string& name) {
        std::ifstream file(std::string(DYNKIN_SOURCE_DIR "/tests/data/") + name + ".json");
        exact = nlohmann::json::parse(file);
        d = exact["d"], ring = exact["boundary"] == "periodic";
        target.kind = "ginzburg_landau";
        target.law = ginzburg_landau({{d}, ring ? Boundary::periodic : Boundary::zero}, exact["lam"],
                                     exact["beta"], exact["h"]);
    }
    /// C(r): all pairs r apart.
    Pool distance(std::size_t r) const {
        Pool pool;
        for (std::size_t i = 0; i < (ring ? d : d - r); ++i) pool.emplace_back(i, (i + r) % d);
        return pool;
    }
    std::vector<Pool> some_distances() const {
        std::vector<Pool> pools;
        for (const std::size_t r : {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32}) pools.push_back(distance(r));
        return pools;
    }
    /// Every second moment once.
    std::vector<Pool> all() const {
        std::vector<Pool> pools;
        for (std::size_t r = 0; ring && r <= d / 2; ++r) pools.push_back(distance(r));
        for (std::size_t i = 0; !ring && i < d; ++i)
            for (std::size_t j = i; i + j < d; ++j) pools.push_back({{i, j}, {d - 1 - i, d - 1 - j}});
        return pools;
    }
};

/// Means over the pairs of each pool.
Scores second_moments(const Strong& strong, const std::vector<Pool>& pools, const Drawn& run) {
    const auto averages = [&](const auto& product, double* out) {
        for (const Pool& pool : pools) {
            double sum = 0;
            for (const auto& [i, j] : pool) sum += product(i, j);
            *out++ = sum / static_cast<double>(pool.size());
        }
    };
    std::vector<double> expected(pools.size());
    averages([&](std::size_t i, std::size_t j) { return strong.exact["second_moments"][i][j].get<double>(); },
             expected.data());
    return scores(run.x, run.report.chains, expected, [&](std::size_t n, double* out) {
        const double* row = run.x.row(n);
        averages([&](std::size_t i, std::size_t j) { return row[i] * row[j]; }, out);
    });
}

/// Judges one run of tempering; returns the decorrelated mean square.
double expect_agreement(const Context& context, const Strong& strong, const Ledger& ledger) {
    McmcOptions options;
    options.method = McmcMethod::tempering, options.chains = 128, options.warmup = 2400;
    options.samples = static_cast<std::size_t>(12'800 * scale()), options.seed = ledger.seed;
    const Drawn run = drawn(context, strong.target, options);
    const Scores all = second_moments(strong, strong.all(), run);
    const double together = mean_square(decorrelated(second_moments(strong, strong.some_distances(), run)));
    const double energy_z =
        (run.report.energy_mean - strong.exact["energy_mean"].get<double>()) / run.report.energy_error;
    ledger.at_most("tempering, r_hat_max", run.report.r_hat_max, 1.05);
    ledger.at_most("tempering, second moments, max |z|", largest_size(all.z), 4.5);
    ledger.at_most("tempering, energy mean, |z|", std::abs(energy_z), 4.5);
    ledger.reported("tempering, second moments, mean z^2", mean_square(all.z));
    ledger.reported("tempering, C(r), decorrelated mean z^2", together);
    ledger.reported("tempering, ess_min of 12800", run.report.ess_min);
    return together;
}

/// R-hat of a few plain chains.
double plain_r_hat(const Context& context, const Strong& strong, int warmup, int thinning) {
    McmcOptions options;
    options.samples = 3000, options.seed = 1, options.warmup = warmup, options.thinning = thinning;
    return drawn(context, strong.target, options).report.r_hat_max;
}

class ValidateStrong : public ::testing::TestWithParam<const char*> {};

TEST_P(ValidateStrong, TemperingAgreesWithTheTransferMatrix) {
    const Strong strong(GetParam());
    const Context context;
    const std::string name = std::string("strong coupling, ") + GetParam();
    double together = 0;
    for (const std::uint64_t seed : {1, 2, 3})
        together += expect_agreement(context, strong, {name, seed}) / 3;
    const Ledger ledger{name, 0};
    ledger.at_least("tempering, C(r), decorrelated mean z^2 of seeds 1 to 3", together, 0.5);
    ledger.at_most("tempering, C(r), decorrelated mean z^2 of seeds 1 to 3", together, 2);
}

TEST_P(ValidateStrong, RHatTellsWhenPlainChainsHaveNotMixed) {
    const Strong strong(GetParam());
    const Context context;
    const Ledger ledger{std::string("strong coupling, ") + GetParam(), 1};
    ledger.at_least("plain, 10 iterations a row, r_hat_max", plain_r_hat(context, strong, 1000, 10), 1.05);
    const double chosen = plain_r_hat(context, strong, 0, 0);
    if (strong.ring)
        ledger.at_least("plain, chosen settings, r_hat_max", chosen, 1.05);
    else
        ledger.reported("plain, chosen settings, r_hat_max", chosen);
}

/// The whole path without exact training data: tempering, fit, sample, weigh.
TEST_P(ValidateStrong, LevelsOfTemperedDataHaveTheExactMoments) {
    const Strong strong(GetParam());
    const Context context;
    const Folder folder;
    const Ledger ledger{std::string("levels of tempered data, ") + GetParam(), 1};
    Array<double> exact(strong.d, strong.d);
    for (std::size_t i = 0; i < strong.d; ++i)
        for (std::size_t j = 0; j < strong.d; ++j) exact(i, j) = strong.exact["second_moments"][i][j];
    McmcOptions options;
    options.method = McmcMethod::tempering, options.samples = 30'000, options.seed = ledger.seed;
    NpyWriter output(folder / "train.npy", {options.samples, strong.d}, 8);
    ledger.at_most("training rows, R-hat", run_mcmc(context, strong.target, options, output).r_hat_max, 1.05);
    output.commit();
    const auto [w, moment_error] =
        level_estimates(context, strong.target, folder / "train.npy", 60'000, ledger.seed, 0, &exact);
    ledger.at_least("ESS", w[0].ess_fraction, 0.5);
    ledger.at_most("log Z, |error|",
                   std::abs(w[0].log_partition - strong.exact["log_partition"].get<double>()), 0.05);
    ledger.reported("log Z standard error", w[0].log_partition_error);
    ledger.at_most("weighted second moments, largest |error|", moment_error, 0.03);
}

INSTANTIATE_TEST_SUITE_P(Chains, ValidateStrong, ::testing::Values("gl1d_50_zero", "gl1d_64_strong"));

} // namespace
} // namespace dynkin::validation
