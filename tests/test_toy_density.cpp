// test_toy_density.cpp - log densities of the toys: mass, means of functions against the draws, values by
// hand.
#include "cases.h"
#include "engine/target.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

Target toy(const std::string& kind) {
    return parse_target("[target]\nkind = \"" + kind + "\"\n", "toy.toml");
}

double log_density_at(const Target& target, double x, double y) {
    const double at[2] = {x, y};
    double out;
    exact_log_density(cases::context(), target, 1, at, &out);
    return out;
}

class Toys : public ::testing::TestWithParam<const char*> {};

const auto functions = [](const double* x) {
    return std::array<double, 6>{
        x[0], x[1], x[0] * x[1], x[0] * x[0], std::cos(3 * x[0] + x[1]), std::sin(2 * x[0] - 4 * x[1])};
};

/// A sum over a grid of spacing h: laws as narrow as sd 0.1 are exact to rounding at h = 0.0625; the
/// pinwheel's folds and the checkerboard's walls are not.
TEST_P(Toys, DensityIsThatOfTheDraws) {
    const Target target = toy(GetParam());
    const double reach = 5.5, h = 0.0625; // walls between the points
    const auto side = static_cast<size_t>(2 * reach / h);
    Array<double> grid(side * side, 2);
    for (size_t n = 0; n < grid.rows(); ++n) {
        grid(n, 0) = -reach + h * (static_cast<double>(n / side) + 0.5);
        grid(n, 1) = -reach + h * (static_cast<double>(n % side) + 0.5);
    }
    std::vector<double> log_p(grid.rows());
    exact_log_density(cases::context(2), target, grid.rows(), grid.data(), log_p.data());
    double mass = 0;
    std::array<double, 6> expected{};
    for (size_t n = 0; n < grid.rows(); ++n) {
        const double p = std::exp(log_p[n]) * h * h;
        const auto f = functions(grid.row(n));
        mass += p;
        for (size_t k = 0; k < 6; ++k) expected[k] += p * f[k];
    }
    EXPECT_NEAR(mass, 1, 1e-3);
    const size_t rows = 100'000;
    Array<double> x(rows, 2);
    draw_direct(cases::context(2), target, 3, 0, rows, x.data());
    std::array<double, 6> sum{}, square{};
    for (size_t n = 0; n < rows; ++n) {
        const auto f = functions(x.row(n));
        for (size_t k = 0; k < 6; ++k) sum[k] += f[k], square[k] += f[k] * f[k];
    }
    for (size_t k = 0; k < 6; ++k) {
        const double mean = sum[k] / rows, error = std::sqrt((square[k] / rows - mean * mean) / rows);
        EXPECT_NEAR(mean, expected[k], tolerance::z_bound * error + 2e-3) << GetParam() << ' ' << k;
    }
}

INSTANTIATE_TEST_SUITE_P(Each, Toys,
                         ::testing::Values("moons", "two_spirals", "pinwheel", "eight_gaussians",
                                           "checkerboard"));

TEST(ToyDensity, ValuesByHand) {
    // At one of eight centres, the others 3 / 0.35 standard deviations away.
    const double pi = 3.14159265358979323846, sd = 0.5 / 1.414;
    const double own = 1 / (8 * 2 * pi * sd * sd);
    const double near = 2 * std::exp(-0.5 * std::pow(2 * 4 * std::sin(pi / 8) / 0.5, 2));
    EXPECT_NEAR(log_density_at(toy("eight_gaussians"), 4 / 1.414, 0), std::log(own * (1 + near)), 1e-9);
    EXPECT_EQ(log_density_at(toy("checkerboard"), 0.5, 0.5), -std::log(32.0));
    EXPECT_EQ(log_density_at(toy("checkerboard"), 0.5, 2.5), -INFINITY);
    EXPECT_EQ(log_density_at(toy("checkerboard"), 4.5, 0.5), -INFINITY);
    EXPECT_EQ(log_density_at(toy("moons"), 1e6, 0), -INFINITY);
}

TEST(ToyDensity, GaussiansAndMixturesAreNormalised) {
    const Target one = parse_target("[target]\nkind = \"gaussian\"\nmean = [1.0, 2.0]\n"
                                    "covariance = [[2.0, 0.5], [0.5, 1.0]]\n",
                                    "g.toml");
    // At the mean: -log(2 pi) - log(det)/2.
    EXPECT_NEAR(log_density_at(one, 1, 2), -1.8378770664093453 - 0.5 * std::log(1.75), 1e-14);
    const Target two = parse_target("[target]\nkind = \"gaussian_mixture\"\nweights = [1.0, 3.0]\n"
                                    "means = [[0.0, 0.0], [0.0, 0.0]]\n"
                                    "covariances = [[[1.0, 0.0], [0.0, 1.0]], [[4.0, 0.0], [0.0, 4.0]]]\n",
                                    "m.toml");
    EXPECT_NEAR(log_density_at(two, 0, 0), -1.8378770664093453 + std::log(0.25 + 0.75 / 4), 1e-14);
    const Target well = parse_target("[target]\nkind = \"double_well\"\n", "w.toml");
    cases::expect_error(
        ErrorKind::usage, [&] { log_density_at(well, 0, 0); }, "up to a factor");
    const Target quiet = parse_target("[target]\nkind = \"moons\"\nnoise = 0.001\n", "q.toml");
    cases::expect_error(
        ErrorKind::usage, [&] { log_density_at(quiet, 0, 0); }, "noise of at least 0.01");
}

} // namespace
} // namespace dynkin
