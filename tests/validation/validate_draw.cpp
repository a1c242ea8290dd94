// validate_draw.cpp - draws of two Ginzburg-Landau rings against exact answers (transfer matrix,
// tests/data/gl1d_*.json): energy mean and variance, and the two-point function.
//
// Method: C(r) = mean over i of x_i x_{i+r} (translation and reflection pool all equivalent pairs) has one
// value a sample. Row k * chains + c belongs to chain c and chains are independent, so the covariance of the
// errors is that of the chains' means over the number of chains: right for any autocorrelation within a
// chain.
//
// The z of neighbouring distances have correlations of 0.8 to 0.97 (they share the same slow modes), so the
// mean of z^2 over distances is a wide figure even for a perfect sampler: over 160 seeds of the small ring
// its mean is 1.06 +- 0.07, its standard deviation 0.9, and it lies outside [0.5, 2] in 36 % of them. It is
// printed, not judged. Judged is the mean of the squares of the decorrelated z, L^-1 (C - exact) with L L'
// the covariance of the errors (Hotelling's T^2 / p; 0.974
// +- 0.040 over 120 seeds), over the three seeds together: 27 and 99 degrees of freedom, outside [0.5, 2]
// with probability about 0.02 and 1e-5. It weighs every combination of distances, so it sees more than the
// plain mean.
#include "scores.h"
#include <cstdio>
#include <fstream>

namespace dynkin {
namespace {

using namespace validation;

/// One seed: judged by each z and by the energy; returns the decorrelated mean square.
double expect_agreement(const std::string& name, const nlohmann::json& exact, std::uint64_t seed) {
    const std::size_t d = exact["d"];
    Target target;
    target.kind = "ginzburg_landau";
    target.law = ginzburg_landau({{d}, Boundary::periodic}, exact["lam"], exact["beta"], exact["h"]);
    const Context context;
    McmcOptions options;
    options.samples = static_cast<std::size_t>(1e5 * scale()), options.seed = seed;
    const auto [x, report] = drawn(context, target, options);

    std::vector<double> expected;
    for (std::size_t r = 0; r <= d / 2; ++r) expected.push_back(exact["second_moments"][0][r]);
    const Scores pairs = scores(x, report.chains, expected, [&](std::size_t n, double* out) {
        const double* row = x.row(n);
        for (std::size_t r = 0; r <= d / 2; ++r) {
            out[r] = 0;
            for (std::size_t i = 0; i < d; ++i) out[r] += row[i] * row[(i + r) % d] / static_cast<double>(d);
        }
    });
    const double largest = largest_size(pairs.z), together = mean_square(decorrelated(pairs));

    std::vector<double> u(x.rows());
    energy(context, target, x.rows(), x.data(), u.data());
    const double mean = exact["energy_mean"], variance = exact["energy_variance"];
    const Scores energies = scores(x, report.chains, {mean, variance}, [&](std::size_t n, double* out) {
        out[0] = u[n], out[1] = (u[n] - mean) * (u[n] - mean);
    });
    std::printf("%s seed %u: mean z^2 %.3f (decorrelated %.3f), max |z| %.2f, energy %.4f (z %.2f), variance "
                "%.4f (z %.2f), "
                "R-hat %.4f, ESS %.0f, acceptance %.3f, thinning %d\n",
                name.c_str(), static_cast<unsigned>(seed), mean_square(pairs.z), together, largest,
                energies.value[0], energies.z[0], energies.value[1], energies.z[1], report.r_hat_max,
                report.ess_min, report.acceptance, report.thinning);
    record(name, seed, "second moments, max |z|", largest, "<=", 4.5);
    record(name, seed, "energy mean, |z|", std::abs(energies.z[0]), "<=", 4.5);
    record(name, seed, "energy variance, |z|", std::abs(energies.z[1]), "<=", 4.5);
    record(name, seed, "r_hat_max", report.r_hat_max, "<=", 1.05);
    return together;
}

class ValidateDraw : public ::testing::TestWithParam<const char*> {};

TEST_P(ValidateDraw, AgreesWithTheTransferMatrix) {
    std::ifstream file(std::string(DYNKIN_SOURCE_DIR) + "/tests/data/" + GetParam() + ".json");
    const auto exact = nlohmann::json::parse(file);
    const std::string name = std::string("draw ") + GetParam();
    double together = 0;
    for (const std::uint64_t seed : {1, 2, 3}) together += expect_agreement(name, exact, seed) / 3;
    record(name, 0, "second moments, decorrelated mean z^2 of seeds 1 to 3", together, ">=", 0.5);
    record(name, 0, "second moments, decorrelated mean z^2 of seeds 1 to 3", together, "<=", 2);
}

INSTANTIATE_TEST_SUITE_P(Rings, ValidateDraw, ::testing::Values("gl1d_16_periodic", "gl1d_64_moderate"));

} // namespace
} // namespace dynkin
