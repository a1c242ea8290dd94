// validate_draw.cpp - draws of two Ginzburg-Landau rings against exact answers (transfer matrix, tests/data/gl1d_*.json):
// energy mean and variance, and the two-point function.
//
// Method: C(r) = mean over i of x_i x_{i+r} (translation and reflection pool all equivalent pairs) has one value a sample. Row
// k * chains + c belongs to chain c and chains are independent, so the standard error is the standard deviation of the chains'
// means over sqrt(chains): right for any autocorrelation within a chain. The z of different r are correlated (neighbouring
// distances share sites), so the mean of z^2 over r has a wider law than chi-squared: hence its bar of [0.5, 2].
#include "engine/mcmc.h"
#include "record.h"
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <unistd.h>

namespace dynkin {
namespace {

struct Score {
    double value, z;
};

/// `figures` numbers a row from f(row, out); their means over all rows and z against `expected`.
template <class F>
std::vector<Score> scores(const Array<double>& x, std::size_t chains, std::size_t figures, const F& f, const std::vector<double>& expected) {
    const std::size_t rounds = x.rows() / chains;
    Array<double> mean(chains, figures);
    std::vector<double> one(figures);
    for (std::size_t n = 0; n < rounds * chains; ++n) {
        f(n, one.data());
        for (std::size_t q = 0; q < figures; ++q) mean(n % chains, q) += one[q] / static_cast<double>(rounds);
    }
    std::vector<Score> result;
    for (std::size_t q = 0; q < figures; ++q) {
        double grand = 0, square = 0;
        for (std::size_t c = 0; c < chains; ++c) grand += mean(c, q) / static_cast<double>(chains);
        for (std::size_t c = 0; c < chains; ++c) square += std::pow(mean(c, q) - grand, 2);
        result.push_back({grand, (grand - expected[q]) / std::sqrt(square / static_cast<double>(chains * (chains - 1)))});
    }
    return result;
}

class ValidateDraw : public ::testing::TestWithParam<std::tuple<const char*, unsigned>> {};

TEST_P(ValidateDraw, AgreesWithTheTransferMatrix) {
    const auto& [name, seed] = GetParam();
    std::ifstream file(std::string(DYNKIN_SOURCE_DIR) + "/tests/data/" + name + ".json");
    const auto exact = nlohmann::json::parse(file);
    const std::size_t d = exact["d"];
    Target target;
    target.kind = "ginzburg_landau";
    target.law = ginzburg_landau({{d}, Boundary::periodic}, exact["lam"], exact["beta"], exact["h"]);
    McmcOptions options;
    options.samples = static_cast<std::size_t>(1e5 * validation::scale()), options.seed = seed;
    const auto path = std::filesystem::temp_directory_path() / ("validate_draw_" + std::to_string(::getpid()) + ".npy");
    const Context context;
    McmcReport report;
    {
        NpyWriter output(path, {options.samples, d}, 8);
        report = run_mcmc(context, target, options, output);
        output.commit();
    }
    const Array<double> x = read_npy(path);
    std::filesystem::remove(path);

    std::vector<double> expected;
    for (std::size_t r = 0; r <= d / 2; ++r) expected.push_back(exact["second_moments"][0][r]);
    const auto pairs = scores(x, report.chains, expected.size(), [&](std::size_t n, double* out) {
        const double* row = x.row(n);
        for (std::size_t r = 0; r <= d / 2; ++r) {
            out[r] = 0;
            for (std::size_t i = 0; i < d; ++i) out[r] += row[i] * row[(i + r) % d] / static_cast<double>(d);
        }
    }, expected);
    double mean_square = 0, largest = 0;
    for (const Score& s : pairs) {
        mean_square += s.z * s.z / static_cast<double>(pairs.size());
        largest = std::max(largest, std::abs(s.z));
    }
    std::vector<double> u(x.rows());
    energy(context, target, x.rows(), x.data(), u.data());
    const double mean = exact["energy_mean"], variance = exact["energy_variance"];
    const auto energies = scores(x, report.chains, 2, [&](std::size_t n, double* out) {
        out[0] = u[n], out[1] = (u[n] - mean) * (u[n] - mean);
    }, {mean, variance});
    std::printf("%s seed %u: mean z^2 %.3f, max |z| %.2f, energy %.4f (z %.2f), variance %.4f (z %.2f), R-hat %.4f, ESS %.0f, "
                "acceptance %.3f, thinning %d\n", name, seed, mean_square, largest, energies[0].value, energies[0].z,
                energies[1].value, energies[1].z, report.r_hat_max, report.ess_min, report.acceptance, report.thinning);
    const std::string label = "draw " + std::string(name);
    validation::record(label, seed, "second moments, mean z^2", mean_square, ">=", 0.5);
    validation::record(label, seed, "second moments, mean z^2", mean_square, "<=", 2);
    validation::record(label, seed, "second moments, max |z|", largest, "<=", 4.5);
    validation::record(label, seed, "energy mean, |z|", std::abs(energies[0].z), "<=", 4.5);
    validation::record(label, seed, "energy variance, |z|", std::abs(energies[1].z), "<=", 4.5);
    validation::record(label, seed, "r_hat_max", report.r_hat_max, "<=", 1.05);
}

INSTANTIATE_TEST_SUITE_P(Rings, ValidateDraw,
                         ::testing::Combine(::testing::Values("gl1d_16_periodic", "gl1d_64_moderate"), ::testing::Values(1u, 2u, 3u)));

} // namespace
} // namespace dynkin
