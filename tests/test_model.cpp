// test_model.cpp - the time grid and the spline through the coefficients.
#include "cases.h"
#include "engine/model.h"
#include "tolerance.h"

namespace dynkin {
namespace {

using std::size_t;

/// A block of one term whose coefficient at the nodes is f(tau).
template <class F> Block block_of(int intervals, const F& f) {
    Block block =
        cases::empty_model(cases::hermite_reference(1, 2), make_index_set(1, 1, {}, 0, false), intervals)
            .blocks[0];
    for (size_t n = 0; n < block.node_time.size(); ++n)
        block.coefficients(n, 0) = f(block.tau(block.node_time[n]));
    return block;
}

/// Times between the nodes, ends included.
std::vector<double> times(const Block& block) {
    std::vector<double> t;
    for (int k = 0; k <= 100; ++k)
        t.push_back(std::clamp(block.time(block.tau(block.t_end) * k / 100), block.t_min, block.t_end));
    return t;
}

TEST(TimeGrid, TauAndTimeAreInverse) {
    Block block;
    for (double t : {1e-3, 2e-3, 0.5, 5.0})
        EXPECT_NEAR(block.time(block.tau(t)), t, tolerance::few_operations(t));
    EXPECT_EQ(block.tau(block.t_min), 0);
}

TEST(TimeGrid, StepsAreUniformInTauAndEndExactly) {
    Block block;
    for (int steps : {1, 7, 32}) {
        const auto t = block.step_times(steps);
        ASSERT_EQ(t.size(), static_cast<size_t>(steps + 1));
        EXPECT_EQ(t.front(), block.t_min);
        EXPECT_EQ(t.back(), block.t_end);
        for (size_t k = 1; k < t.size(); ++k) {
            EXPECT_LT(t[k - 1], t[k]);
            EXPECT_NEAR(block.tau(t[k]), block.tau(block.t_end) * static_cast<double>(k) / steps, 1e-12);
        }
    }
    cases::expect_error(
        ErrorKind::usage, [&] { block.step_times(0); }, "steps");
    cases::expect_error(
        ErrorKind::usage, [&] { block.step_times(-3); }, "steps");
}

TEST(Spline, GivesTheCoefficientsOfTheNodesAtTheNodes) {
    for (int intervals : {1, 2, 3, 8, 32}) {
        const Block block = block_of(intervals, [](double tau) { return std::sin(3 * tau); });
        for (size_t n = 0; n < block.node_time.size(); ++n) {
            EXPECT_EQ(coefficients_at(block, block.node_time[n])[0], block.coefficients(n, 0));
            const auto w = spline_weights(block, block.node_time[n]);
            for (size_t k = 0; k < w.size(); ++k) EXPECT_EQ(w[k], k == n ? 1 : 0);
        }
    }
}

TEST(Spline,
     ReproducesCubicsInTau) { // not-a-knot ends: one cubic through four nodes, and any cubic through more
    const auto cubic = [](double tau) { return 2 - tau + 0.5 * tau * tau - 0.1 * tau * tau * tau; };
    for (int intervals : {3, 4, 32}) {
        const Block block = block_of(intervals, cubic);
        for (double t : times(block))
            EXPECT_NEAR(coefficients_at(block, t)[0], cubic(block.tau(t)), 1e-12) << t;
    }
}

TEST(Spline, FewerThanFourNodesAreJoinedByLines) {
    const auto line = [](double tau) { return 1 - 2 * tau; };
    for (int intervals : {1, 2}) {
        const Block block = block_of(intervals, line);
        for (double t : times(block))
            EXPECT_NEAR(coefficients_at(block, t)[0], line(block.tau(t)), 1e-12) << t;
    }
}

TEST(Spline, WeightsSumToOne) {
    const Block block = block_of(9, [](double) { return 0.0; });
    for (double t : times(block)) {
        const auto w = spline_weights(block, t);
        EXPECT_NEAR(std::accumulate(w.begin(), w.end(), 0.0), 1, 1e-13);
    }
}

TEST(Spline, ErrorFallsWithTheFourthPowerOfTheSpacing) {
    const auto f = [](double tau) { return std::cos(2 * tau); };
    double error[2] = {0, 0};
    for (int k = 0; k < 2; ++k) {
        const Block block = block_of(k ? 64 : 32, f);
        for (double t : times(block))
            error[k] = std::max(error[k], std::abs(coefficients_at(block, t)[0] - f(block.tau(t))));
    }
    EXPECT_LT(error[0], 16 * std::pow(5.53 / 32, 4) /
                            24); // |f''''| = 16; local cubics: s (1-s) (2-s) (3-s) / 24 <= 1/24
    EXPECT_NEAR(error[0] / error[1], 16, 6);
}

TEST(Spline, TimesOutsideTheNodesAreErrors) {
    const Block block = block_of(8, [](double) { return 1.0; });
    for (double t : {0.0, 0.9e-3, 5.1, -1.0, static_cast<double>(NAN), static_cast<double>(INFINITY)})
        cases::expect_error(
            ErrorKind::usage, [&] { coefficients_at(block, t); }, "outside");
}

} // namespace
} // namespace dynkin
