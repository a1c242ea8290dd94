// validate_levels.cpp - multilevel models of strongly coupled lattices: effective sample size and log Z
// against exact values (chains, by transfer matrix) and against one another (square lattices: all sites, even
// sites, 3/8 of them).
#include "engine/transfer_matrix.h"
#include "models.h"

namespace dynkin::validation {
namespace {

Target lattice_target(LatticeTarget law) {
    Target target;
    target.law = std::move(law), target.kind = "lattice", target.source = "validation";
    return target;
}
Target chain(std::size_t sites, double spacing, double lambda = 0.03, double beta = 0.125,
             Boundary boundary = Boundary::zero) {
    return lattice_target(ginzburg_landau({{sites}, boundary}, lambda, beta, spacing));
}
Target phi4(std::vector<std::size_t> shape, double quartic, Boundary boundary = Boundary::periodic) {
    LatticeTarget law;
    law.lattice = {std::move(shape), boundary}, law.coupling = 2, law.site = {0, -4, 0, quartic};
    return lattice_target(law);
}

/// Fits levels to the file and weighs samples; `stages` last ones are drawn from the target's conditionals.
std::vector<Weights> estimates(const Context& context, const Target& target, const Folder& folder,
                               std::size_t count, std::uint64_t seed, int stages,
                               double* moment_error = nullptr, const Array<double>* exact = nullptr) {
    FitOptions options = options_for(target);
    options.structure = Structure::levels, options.seed = seed;
    const Model model = fit(context, SampleFile(folder / "train.npy"), options);
    std::vector<Weights> out;
    for (int exact_stages = 0; exact_stages <= stages; ++exact_stages) {
        SampleOptions sampling;
        sampling.method = Method::ode, sampling.seed = seed;
        sampling.target = &target, sampling.exact_stages = exact_stages;
        const Generated samples = generate(context, model, count, sampling);
        out.push_back(weigh(context, target, samples));
        if (exact_stages > 0 || !exact) continue;
        *moment_error = 0;
        const std::size_t d = target.dimension();
        for (std::size_t i = 0; i < d; ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                double sum = 0;
                for (std::size_t n = 0; n < count; ++n)
                    if (out[0].weight[n] > 0) sum += out[0].weight[n] * samples.x(n, i) * samples.x(n, j);
                *moment_error = std::max(*moment_error, std::abs(sum - (*exact)(i, j)));
            }
    }
    return out;
}

struct ChainCase {
    const char* name;
    std::size_t sites;
    double spacing, lambda, beta;
    Boundary boundary;
    std::size_t rows;
    double ess, log_z;
};
void PrintTo(const ChainCase& c, std::ostream* out) { *out << c.name; }

class ValidateChains : public ::testing::TestWithParam<ChainCase> {};

TEST_P(ValidateChains, EffectiveSamplesAndLogZ) {
    const ChainCase& c = GetParam();
    const Context context;
    const Folder folder;
    const Target target = chain(c.sites, c.spacing, c.lambda, c.beta, c.boundary);
    const TransferMatrix exact(std::get<LatticeTarget>(target.law));
    const Array<double> moments = exact.second_moments();
    for (std::uint64_t seed : {1, 2}) {
        const Ledger ledger{c.name, seed};
        Array<double> x(c.rows, c.sites);
        exact.draw(context, seed, 0, c.rows, x.data());
        write_npy(folder / "train.npy", x);
        double moment_error = 0;
        const auto w = estimates(context, target, folder, 20'000, seed, 2, &moment_error, &moments);
        ledger.at_least("ESS", w[0].ess_fraction, c.ess);
        ledger.at_most("log Z, |error|", std::abs(w[0].log_partition - exact.log_partition()), c.log_z);
        ledger.reported("log Z standard error", w[0].log_partition_error);
        ledger.reported("weighted second moments, largest |error|", moment_error);
        ledger.reported("ESS, exact last levels", w[2].ess_fraction);
        ledger.reported("log Z error, exact last levels", w[2].log_partition - exact.log_partition());
        ledger.reported("flagged", static_cast<double>(w[0].flagged));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Bars, ValidateChains,
    ::testing::Values(
        ChainCase{"row 8, GL(16) levels", 16, 1.0 / 17, 0.03, 0.125, Boundary::zero, 30'000, 0.88, 0.02},
        ChainCase{"row 9, GL(32) levels", 32, 1.0 / 33, 0.03, 0.125, Boundary::zero, 30'000, 0.80, 0.03},
        ChainCase{"row 10, GL(64) levels", 64, 1.0 / 65, 0.03, 0.125, Boundary::zero, 30'000, 0.45, 0.06},
        ChainCase{"chain of 128, spacing 1/33", 128, 1.0 / 33, 0.03, 0.125, Boundary::zero, 30'000, 0.72,
                  0.03},
        ChainCase{"chain of 256, spacing 1/33", 256, 1.0 / 33, 0.03, 0.125, Boundary::zero, 30'000, 0.60,
                  0.05},
        ChainCase{"ring of 50, lambda 0.05, beta 0.2, spacing 0.1", 50, 0.1, 0.05, 0.2, Boundary::periodic,
                  30'000, 0.5, 0.05},
        ChainCase{"free chain of 100, lambda 0.02, beta 0.1, spacing 0.05", 100, 0.05, 0.02, 0.1,
                  Boundary::free, 30'000, 0.5, 0.05}));

struct SquareCase {
    const char* name;
    Target target;
    std::size_t rows;
    double ess, ess_exact;
};
void PrintTo(const SquareCase& c, std::ostream* out) { *out << c.name; }

class ValidateSquares : public ::testing::TestWithParam<SquareCase> {};

TEST_P(ValidateSquares, ThreeEstimatesAgree) {
    const SquareCase& c = GetParam();
    const Context context;
    const Folder folder;
    const Ledger ledger{c.name, 1};
    const McmcReport drawn = draw_file(context, c.target, c.rows, ledger.seed, folder / "train.npy");
    ledger.reported("training rows, R-hat", drawn.r_hat_max);
    const auto w = estimates(context, c.target, folder, 10'000, ledger.seed, c.ess_exact > 0 ? 2 : 0);
    ledger.at_least("ESS, all levels", w[0].ess_fraction, c.ess);
    ledger.reported("log Z, all levels", w[0].log_partition);
    ledger.reported("log Z standard error", w[0].log_partition_error);
    ledger.reported("var(log w) per site, from the ESS",
                    -std::log(w[0].ess_fraction) / static_cast<double>(c.target.dimension()));
    if (w.size() == 1) return;
    ledger.reported("ESS, even sites", w[1].ess_fraction);
    ledger.at_least("ESS, exact last levels", w[2].ess_fraction, c.ess_exact);
    ledger.reported("log Z, even sites", w[1].log_partition);
    ledger.reported("log Z, exact last levels", w[2].log_partition);
    double low = w[0].log_partition, high = low;
    for (const Weights& one : w)
        low = std::min(low, one.log_partition), high = std::max(high, one.log_partition);
    ledger.at_most("spread of the three log Z", high - low, 0.04);
}

INSTANTIATE_TEST_SUITE_P(
    Bars, ValidateSquares,
    ::testing::Values(SquareCase{"row 11, phi^4 8x8", phi4({8, 8}, 6.008), 30'000, 0.90, 0.92},
                      SquareCase{
                          "row 12, GL 8x8 zero",
                          lattice_target(ginzburg_landau({{8, 8}, Boundary::zero}, 0.03, 0.125, 1.0 / 9)),
                          30'000, 0.75, 0.75},
                      SquareCase{"phi^4 16x16, quartic 6.008", phi4({16, 16}, 6.008), 30'000, 0.85, 0.91},
                      SquareCase{"phi^4 16x16, quartic 5.113", phi4({16, 16}, 5.113), 30'000, 0.75, 0.80},
                      SquareCase{"phi^4 32x32, quartic 6.008", phi4({32, 32}, 6.008), 30'000, 0.65, 0.78},
                      SquareCase{"phi^4 32x32, quartic 5.113", phi4({32, 32}, 5.113), 30'000, 0.48, 0.64},
                      SquareCase{"phi^4 6x10 free", phi4({6, 10}, 6.008, Boundary::free), 20'000, 0.75, 0.75},
                      SquareCase{"phi^4 7x9 periodic, odd", phi4({7, 9}, 6.008), 20'000, 0.75, 0},
                      SquareCase{"phi^4 12x20 zero", phi4({12, 20}, 6.008, Boundary::zero), 20'000, 0.6, 0.6},
                      SquareCase{"phi^4 8x8x8 periodic", phi4({8, 8, 8}, 8.5), 20'000, 0.3, 0}));

} // namespace
} // namespace dynkin::validation
