// validate_local_metropolis.cpp - chains of tiles and of single sites, from over-dispersed states: rings
// against exact answers (transfer matrix, tests/data/gl1d_*.json; the scores of validate_draw.cpp), and phi^4
// at two correlation lengths on the lattice of the tile's training data and on one of four times the volume,
// against Hamiltonian Monte Carlo.
#include "engine/local_metropolis.h"
#include "engine/tile_fit.h"
#include "models.h"
#include "scores.h"
#include <cstdio>
#include <fstream>

namespace dynkin {
namespace {

using namespace validation;

Tile trained(const Context& context, const Target& target, std::size_t rows, std::uint64_t seed) {
    const Folder folder;
    draw_file(context, target, rows, seed, folder / "train.npy");
    return fit_tile(context, SampleFile(folder / "train.npy"), target, {});
}

Drawn local(const Context& context, const Target& target, const Tile* tile, std::size_t samples,
            std::uint64_t seed) {
    const Folder folder;
    LocalOptions options;
    options.samples = samples, options.seed = seed;
    Drawn result;
    {
        NpyWriter output(folder / "x.npy", {samples, target.dimension()}, 4);
        result.report = run_local_metropolis(context, target, tile, options, output);
        output.commit();
    }
    result.x = read_npy(folder / "x.npy");
    return result;
}

class Rings : public ::testing::TestWithParam<const char*> {};

TEST_P(Rings, AgreeWithTheTransferMatrix) {
    std::ifstream file(std::string(DYNKIN_SOURCE_DIR) + "/tests/data/" + GetParam() + ".json");
    const auto exact = nlohmann::json::parse(file);
    const std::size_t d = exact["d"];
    Target target;
    target.kind = "ginzburg_landau";
    target.law = ginzburg_landau({{d}, Boundary::periodic}, exact["lam"], exact["beta"], exact["h"]);
    const Context context;
    const Tile tile = trained(context, target, 20000, 9);
    std::vector<double> expected;
    for (std::size_t r = 0; r <= d / 2; ++r) expected.push_back(exact["second_moments"][0][r]);
    for (const Tile* with : {&tile, static_cast<const Tile*>(nullptr)}) {
        double together = 0;
        const std::string name = std::string(with ? "tiles " : "heat bath ") + GetParam();
        for (const std::uint64_t seed : {1, 2, 3}) {
            const auto [x, report] =
                local(context, target, with, static_cast<std::size_t>(1e5 * scale()), seed);
            const Scores pairs = scores(x, report.chains, expected, [&](std::size_t n, double* out) {
                const double* row = x.row(n);
                for (std::size_t r = 0; r <= d / 2; ++r) {
                    out[r] = 0;
                    for (std::size_t i = 0; i < d; ++i)
                        out[r] += row[i] * row[(i + r) % d] / static_cast<double>(d);
                }
            });
            together += mean_square(decorrelated(pairs)) / 3;
            const Ledger ledger{name, seed};
            ledger.at_most("second moments, max |z|", largest_size(pairs.z), 4.5);
            ledger.at_most(
                "energy mean, |z|",
                std::abs(report.energy_mean - exact["energy_mean"].get<double>()) / report.energy_error, 4.5);
            ledger.at_most("r_hat_max", report.r_hat_max, 1.05);
            ledger.reported("acceptance", report.acceptance);
            ledger.reported("autocorrelation time, iterations", report.autocorrelation_time);
        }
        const Ledger all{name, 0};
        all.at_least("second moments, decorrelated mean z^2 of seeds 1 to 3", together, 0.5);
        all.at_most("second moments, decorrelated mean z^2 of seeds 1 to 3", together, 2);
    }
}

INSTANTIATE_TEST_SUITE_P(LocalMetropolis, Rings, ::testing::Values("gl1d_16_periodic", "gl1d_64_moderate"));

class Squares : public ::testing::TestWithParam<double> {};

TEST_P(Squares, AcceptAsOftenOnFourTimesTheVolume) {
    const Context context;
    const auto phi4 = [&](std::size_t side) {
        Target target;
        target.kind = "lattice";
        target.law = LatticeTarget{{{side, side}, Boundary::periodic}, 2, {0, -4, 0, GetParam()}, 0};
        return target;
    };
    const Tile tile = trained(context, phi4(16), 40000, 1);
    double acceptance[2];
    for (const std::size_t side : {16, 32}) {
        const Target target = phi4(side);
        const std::string name = "tiles phi4 " + std::to_string(side) + "x" + std::to_string(side) + " " +
                                 (GetParam() > 6 ? "6.008" : "5.113");
        const auto samples = static_cast<std::size_t>(40000 * scale());
        const McmcReport report = local(context, target, &tile, samples, 3).report;
        const Folder folder;
        const McmcReport other = draw_file(context, target, samples, 4, folder / "hmc.npy");
        const Ledger ledger{name, 3};
        ledger.at_least("acceptance", acceptance[side == 32] = report.acceptance, 0.87);
        ledger.at_most("r_hat_max", report.r_hat_max, 1.05);
        ledger.at_most("energy mean, |z|",
                       std::abs(report.energy_mean - other.energy_mean) /
                           std::hypot(report.energy_error, other.energy_error),
                       4.5);
        ledger.at_most("edge energy, |z|",
                       std::abs(report.edge_energy - other.edge_energy) /
                           std::hypot(report.edge_energy_error, other.edge_energy_error),
                       4.5);
        ledger.reported("autocorrelation time, iterations", report.autocorrelation_time);
    }
    Ledger{"tiles phi4 " + std::string(GetParam() > 6 ? "6.008" : "5.113"), 3}.at_most(
        "acceptance, difference of 16x16 and 32x32", std::abs(acceptance[0] - acceptance[1]), 0.03);
}

INSTANTIATE_TEST_SUITE_P(LocalMetropolis, Squares, ::testing::Values(6.008, 5.113));

} // namespace
} // namespace dynkin
