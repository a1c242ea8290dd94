// validate_energy_fit.cpp - models from the energy alone against exact log Z: Ginzburg-Landau chains (zero
// boundary; transfer matrix) and separable wells (quadrature).
//
// log Z is the judge of the shares of phases and kinks: a set that misses a phase of weight p has log Z off
// by log(1 - p), and its own error does not know of it.
#include "engine/energy_fit.h"
#include "models.h"

namespace dynkin::validation {
namespace {

void log_figures(const Ledger& ledger, const EnergyFitReport& report, double exact) {
    ledger.at_most("log Z error, standard errors",
                   std::abs(report.log_partition - exact) / report.log_partition_error, 3);
    ledger.reported("log Z error", std::abs(report.log_partition - exact));
    ledger.reported("iterations", static_cast<double>(report.iterations.size()));
    ledger.reported("raises of beta", static_cast<double>(report.annealing.size()));
    ledger.reported("ESS of the first model", report.iterations.front().ess_out);
}

struct Chain {
    std::size_t sites;
    double log_z;
    double ess, iterations; ///< bars
};

class ValidateEnergyFit : public ::testing::TestWithParam<std::tuple<Chain, std::uint64_t>> {};

TEST_P(ValidateEnergyFit, Chain) {
    const auto& [chain, seed] = GetParam();
    Target target;
    target.kind = "ginzburg_landau";
    target.law = ginzburg_landau({{chain.sites}, Boundary::zero}, 0.03, 0.125,
                                 1 / static_cast<double>(chain.sites + 1));
    EnergyFitOptions options;
    options.seed = seed;
    EnergyFitReport report;
    fit_from_energy(Context(), target, options, &report);
    const Ledger ledger{"from the energy, GL chain of " + std::to_string(chain.sites), seed};
    ledger.at_least("ESS", report.ess_fraction, chain.ess);
    ledger.at_most("iterations", static_cast<double>(report.iterations.size()), chain.iterations);
    log_figures(ledger, report, chain.log_z);
}

INSTANTIATE_TEST_SUITE_P(Chains, ValidateEnergyFit,
                         ::testing::Combine(::testing::Values(Chain{16, 1.84218, 0.65, 8},
                                                              Chain{32, -11.95399, 0.5, 20},
                                                              Chain{64, -55.84047, 0.5, 20}),
                                            ::testing::Values(1, 2, 3)));

TEST(ValidateEnergyFitWells, SixTiltedWells) {
    double sum = 0;
    for (int k = 0; k <= 8000; ++k) {
        const double x = -4 + 8.0 * k / 8000, w = x * x - 1;
        sum += 8.0 / 8000 * std::exp(-3 * w * w - 0.5 * x);
    }
    for (const std::uint64_t seed : {1, 2, 3}) {
        Target target;
        target.kind = "double_well";
        target.law = DoubleWellTarget{6, 3, 0.5};
        EnergyFitOptions options;
        options.seed = seed;
        EnergyFitReport report;
        fit_from_energy(Context(), target, options, &report);
        const Ledger ledger{"from the energy, six tilted wells", seed};
        ledger.at_least("ESS", report.ess_fraction, 0.8);
        log_figures(ledger, report, 6 * std::log(sum));
    }
}

} // namespace
} // namespace dynkin::validation
