// validate_levels.cpp - multilevel models of strongly coupled lattices: effective sample size and log Z
// against exact values (chains, by transfer matrix) and against one another (square lattices: all sites, even
// sites, 3/8 of them).
#include "engine/transfer_matrix.h"
#include "levels.h"
#include <cstdlib>
#include <fstream>

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
        const auto [w, moment_error] =
            level_estimates(context, target, folder / "train.npy", 20'000, seed, 2, &moments);
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
    std::size_t integration_rows = 0; ///< of each node of a thermodynamic integration; 0: none
};
void PrintTo(const SquareCase& c, std::ostream* out) { *out << c.name; }

struct LogZ {
    double value, error;
};
/// By scripts/thermodynamic_integration, with `rows` samples of Hamiltonian Monte Carlo at each node.
LogZ integrate(const LatticeTarget& law, std::size_t rows, const Folder& folder) {
    const std::string shape =
        std::to_string(law.lattice.shape[0]) + ", " + std::to_string(law.lattice.shape[1]);
    std::ofstream(folder / "target.toml")
        << "[target]\nkind = \"lattice\"\nshape = [" << shape
        << "]\nboundary = \"periodic\"\ncoupling = " << law.coupling << "\nsite = [" << law.site[0] << ", "
        << law.site[1] << ", " << law.site[2] << ", " << law.site[3] << "]\n";
    const std::string out = (folder / "integral.json").string(),
                      command = DYNKIN_SOURCE_DIR "/scripts/thermodynamic_integration " +
                                (folder / "target.toml").string() + " -n " + std::to_string(rows) +
                                " --seed 7 --json >" + out;
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    std::ifstream file(out);
    const auto result = nlohmann::json::parse(file);
    return {result["log_partition"], result["log_partition_error"]};
}

class ValidateSquares : public ::testing::TestWithParam<SquareCase> {};

TEST_P(ValidateSquares, ThreeEstimatesAgree) {
    const SquareCase& c = GetParam();
    const Context context;
    const Folder folder;
    const Ledger ledger{c.name, 1};
    const McmcReport drawn = draw_file(context, c.target, c.rows, ledger.seed, folder / "train.npy");
    ledger.reported("training rows, R-hat", drawn.r_hat_max);
    const auto w =
        level_estimates(context, c.target, folder / "train.npy", 10'000, ledger.seed, c.ess_exact > 0 ? 2 : 0)
            .weights;
    ledger.at_least("ESS, all levels", w[0].ess_fraction, c.ess);
    ledger.reported("log Z, all levels", w[0].log_partition);
    ledger.reported("log Z standard error", w[0].log_partition_error);
    const auto sites = static_cast<double>(c.target.dimension());
    ledger.reported("var(log w) per site", log_weight_variance(w[0]) / sites);
    if (w.size() == 1) return;
    ledger.reported("ESS, even sites", w[1].ess_fraction);
    ledger.at_least("ESS, exact last levels", w[2].ess_fraction, c.ess_exact);
    ledger.reported("var(log w) per site, exact last levels", log_weight_variance(w[2]) / sites);
    ledger.reported("log Z, even sites", w[1].log_partition);
    ledger.reported("log Z, exact last levels", w[2].log_partition);
    double low = w[0].log_partition, high = low;
    for (const Weights& one : w)
        low = std::min(low, one.log_partition), high = std::max(high, one.log_partition);
    ledger.at_most("spread of the three log Z", high - low, 0.04);
    if (c.integration_rows == 0) return;
    const LogZ other = integrate(std::get<LatticeTarget>(c.target.law), c.integration_rows, folder);
    ledger.reported("log Z, thermodynamic integration", other.value);
    ledger.at_most("its standard error", other.error, 0.02);
    for (const Weights& one : w)
        ledger.at_most(
            "log Z against thermodynamic integration, joint errors",
            std::abs(one.log_partition - other.value) / std::hypot(one.log_partition_error, other.error), 3);
}

INSTANTIATE_TEST_SUITE_P(
    Bars, ValidateSquares,
    ::testing::Values(
        SquareCase{"row 11, phi^4 8x8", phi4({8, 8}, 6.008), 30'000, 0.90, 0.92, 40'000},
        SquareCase{"row 12, GL 8x8 zero",
                   lattice_target(ginzburg_landau({{8, 8}, Boundary::zero}, 0.03, 0.125, 1.0 / 9)), 30'000,
                   0.75, 0.75},
        SquareCase{"phi^4 16x16, quartic 6.008", phi4({16, 16}, 6.008), 30'000, 0.85, 0.91, 80'000},
        SquareCase{"phi^4 16x16, quartic 5.113", phi4({16, 16}, 5.113), 30'000, 0.75, 0.80, 80'000},
        SquareCase{"phi^4 32x32, quartic 6.008", phi4({32, 32}, 6.008), 30'000, 0.65, 0.78, 240'000},
        SquareCase{"phi^4 32x32, quartic 5.113", phi4({32, 32}, 5.113), 30'000, 0.48, 0.64, 240'000},
        SquareCase{"phi^4 64x64, quartic 6.008", phi4({64, 64}, 6.008), 8'000, 0.2, 0.4},
        SquareCase{"phi^4 6x10 free", phi4({6, 10}, 6.008, Boundary::free), 20'000, 0.75, 0.75},
        SquareCase{"phi^4 7x9 periodic, odd", phi4({7, 9}, 6.008), 20'000, 0.75, 0},
        SquareCase{"phi^4 12x20 zero", phi4({12, 20}, 6.008, Boundary::zero), 20'000, 0.6, 0.6},
        SquareCase{"phi^4 8x8x8 periodic", phi4({8, 8, 8}, 8.5), 20'000, 0.3, 0}));

} // namespace
} // namespace dynkin::validation
